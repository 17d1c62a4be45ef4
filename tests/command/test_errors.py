"""Errors and warnings as single lines."""

import os
import warnings

import pytest

from sklearn_iis.command._errors import as_line, reporting_errors, short_warnings


@pytest.mark.parametrize(
    ("error", "line", "code"),
    [
        (ValueError("a\n  b"), "error: a b\n", 1),
        (KeyError("a"), "error: KeyError: 'a'\n", 1),
        (RuntimeError(), "error: RuntimeError: \n", 1),
        (KeyboardInterrupt(), "interrupted\n", 130),
        (KeyboardInterrupt("go on by x"), "go on by x\n", 130),
    ],
)
def test_errors(error, line, code, capsys):
    with pytest.raises(SystemExit) as raised, reporting_errors():
        raise error
    assert raised.value.code == code
    assert capsys.readouterr() == ("", line)


def test_a_traceback_is_for_who_asks(capsys):
    with pytest.raises(SystemExit), reporting_errors(shows_traceback=True):
        raise ValueError("a")
    text = capsys.readouterr().err
    assert text.startswith("Traceback")
    assert text.endswith("error: a\n")


def test_of_a_traceback_the_ends_are_told():
    text = "All failed:\nTraceback (most recent call last):\n  File x\nValueError: y"
    assert as_line(text) == "All failed: ValueError: y"
    assert as_line("x" * 2000).endswith("(2,000 characters)")


def test_warnings_are_shown_once_and_short(capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with short_warnings():
            for _ in range(2):
                warnings.warn("a\nb", UserWarning, stacklevel=1)
            assert os.environ["PYTHONWARNINGS"] == "ignore"
    assert capsys.readouterr().err == "warning: a b\n"
