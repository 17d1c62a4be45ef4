"""How the process ends: interrupted, or with an output that is not read or written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sklearn_iis.command import _ending
from sklearn_iis.command._ending import (
    OutputClosedError,
    ending_quietly,
    say,
    write_line,
)
from sklearn_iis.command._errors import reporting_errors

ROOT = Path(__file__).parents[2]


def run_python(*arguments, **settings):
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        **settings,
    )


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("typer", ("fit", "images")),
        ("numpy", ("predict", "model", "images")),
        ("pandas", ("report", "model")),
        ("torch._C", ("export", "model", "--onnx", "file")),
        ("sklearn_iis.command._inspect", ("importance", "model")),
    ],
)
def test_an_interrupt_before_the_work(module, arguments):
    """A line, whatever was being imported."""
    done = run_python("-m", "tests.command.interrupted_child", module, *arguments)
    assert (done.stderr, done.returncode) == ("interrupted\n", 130)


@pytest.fixture
def closed():
    """The end of a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("predict", "OUT", "IMAGES"), 141),
        (("report", "OUT"), 141),
        (("--help",), 1),  # which is rich's
    ],
)
def test_an_output_that_is_not_read(arguments, code, run, shapes, closed):
    """It ends as if by SIGPIPE, in silence."""
    places = {"OUT": run, "IMAGES": shapes}
    arguments = [places.get(name, name) for name in arguments]
    done = run_python("-m", "sklearn_iis", *arguments, stdout=closed)
    assert (done.stderr, done.returncode) == ("", code)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a full device")
@pytest.mark.parametrize("command", ["--help", "predict"])
def test_an_output_that_cannot_be_written(command, run, shapes):
    arguments = [command] if command == "--help" else [command, run, shapes]
    with open("/dev/full", "w") as full:
        done = run_python("-m", "sklearn_iis", *arguments, stdout=full)
    assert done.returncode == 1
    assert done.stderr == "error: [Errno 28] No space left on device\n"


def test_no_output(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout", None)
    with pytest.raises(OSError, match="there is no standard output"):
        write_line("a")
    monkeypatch.setattr("sys.stderr", None)
    say("b")
    assert capsys.readouterr() == ("", "")


def test_messages_that_nobody_reads_are_lost(monkeypatch, closed):
    """The work goes on without them."""
    with open(os.dup(closed), "w") as file:
        monkeypatch.setattr("sys.stderr", file)
        say("a")
        monkeypatch.undo()
        with pytest.raises(BrokenPipeError):
            file.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())


def test_codes_are_kept(capsys):
    with pytest.raises(SystemExit) as raised, ending_quietly():
        raise SystemExit(3)
    assert raised.value.code == 3
    with pytest.raises(ValueError, match="a bug"), ending_quietly():
        raise ValueError("a bug")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (OutputClosedError(), 141, ""),
        (BrokenPipeError(32, "Broken pipe"), 1, "error: [Errno 32] Broken pipe\n"),
    ],
    ids=["output", "connection"],
)
def test_other_broken_pipes_are_errors(error, code, told, monkeypatch, capsys):
    """That of the output is told apart from those of a connection."""
    monkeypatch.setattr(_ending, "_write_to_nowhere", lambda: None)
    with pytest.raises(SystemExit) as raised, ending_quietly(), reporting_errors():
        raise error
    assert raised.value.code == code
    assert capsys.readouterr() == ("", told)
