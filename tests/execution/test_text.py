"""Text of any value: nothing raises, nothing is hidden, nothing is endless."""

import re

import pytest

from sklearn_iis.execution._text import (
    MAX_ERROR,
    printable,
    shorten,
    shorten_error,
    shorten_middle,
)


class Unwritable:
    def __repr__(self):
        raise RuntimeError("no \x07 text")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a\tb\nc\r\nd", "a\tb\nc\nd"),
        ("caf\udce9 \x00\x1b[31m\x7f\x9b", r"caf\udce9 \x00\x1b[31m\x7f\x9b"),
        ("over\rwritten\x08", r"over\rwritten\x08"),
        ("right \u202eto\u2069 left\u2028", r"right \u202eto\u2069 left\u2028"),
        ("\uffff", r"\uffff"),
        ("größer \N{NO-BREAK SPACE}文 \N{GRINNING FACE}",) * 2,
        pytest.param(10**5000, "<int that cannot be written: ValueError>", id="int"),
        (Unwritable(), "<Unwritable that cannot be written: RuntimeError>"),
        (None, "None"),
    ],
)
def test_printable(value, expected):
    assert printable(value) == expected


def test_as_python_writes_it():
    assert printable("a", repr) == "'a'"
    assert printable("\udce9", repr) == r"'\udce9'"


def test_long_texts_are_cut_and_say_how_long_they_were():
    text = "a" * 5000 + "b" * 5000
    assert shorten(text, 10_000) == shorten_middle(text, 10_000) == text
    assert shorten(text, 4) == "aaaa ... (10,000 characters)"
    assert shorten_middle(text, 4) == (
        "aa\n... 4 of 10,000 characters are shown ...\nbb"
    )


@pytest.mark.parametrize("char", ["x", "é", "\0", "\U0001f600", "\ud800", "\\"])
def test_the_end_of_an_error_is_kept(char):
    text = shorten_error(char * 20_000_000 + "\nValueError: no")
    assert text.endswith("\nValueError: no")
    assert len(text.encode()) <= MAX_ERROR
    assert re.search(r"[\x00-\x08\x0b-\x1f\ud800]", text) is None
    assert shorten_error(text) == text
