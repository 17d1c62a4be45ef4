"""Errors and warnings of the command: one line each, and the exit codes."""

import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from sklearn_iis.execution._text import printable, shorten

OK = 0
FAILED = 1
USAGE = 2
SOME_LEFT_OUT = 3
INTERRUPTED = 130  # as shells have it: 128 and the number of the signal

EXIT_CODES = (
    "Exit codes: 0 done; 1 an error of the data or of the run; 2 wrong usage; 3 done, "
    "but files that cannot be read were left out (predict); 130 interrupted."
)

# The most characters of a message.
MAX_LENGTH = 1000


class CommandError(Exception):
    """An error with a message that says all."""


def say(text: str) -> None:
    """Write a line for the user, beside the output."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def as_line(message: object) -> str:
    """Return a message as one line: of a traceback, the first line and the last one."""
    lines = [line.strip() for line in printable(message).splitlines() if line.strip()]
    if any(line.startswith("Traceback") for line in lines):
        lines = [lines[0], lines[-1]]
    return shorten(" ".join(lines), MAX_LENGTH)


@contextmanager
def reporting_errors(*, shows_traceback: bool = False) -> Iterator[None]:
    """End the process with a line and an exit code for whatever goes wrong.

    Raises
    ------
    SystemExit
        In place of any error.
    """
    try:
        with short_warnings():
            yield
    except KeyboardInterrupt as interrupt:
        say(str(interrupt) or "interrupted")
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:  # who reads the output has enough, such as `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(FAILED) from None
    except Exception as error:
        if shows_traceback:
            traceback.print_exc()
        text = as_line(error)
        if not text or isinstance(error, KeyError | AttributeError | AssertionError):
            text = f"{type(error).__name__}: {text}"
        say(f"error: {text}")
        raise SystemExit(FAILED) from None


@contextmanager
def short_warnings() -> Iterator[None]:
    """Show each warning once, as a line without its source; none of workers."""
    shown = set()

    def show(message, category, filename, lineno, file=None, line=None):
        text = as_line(message)
        if text not in shown:
            shown.add(text)
            say(f"warning: {text}")

    before = os.environ.get("PYTHONWARNINGS")
    with warnings.catch_warnings():
        warnings.showwarning = show
        os.environ["PYTHONWARNINGS"] = "ignore"  # what workers are started with
        try:
            yield
        finally:
            os.environ.pop("PYTHONWARNINGS")
            if before is not None:
                os.environ["PYTHONWARNINGS"] = before
