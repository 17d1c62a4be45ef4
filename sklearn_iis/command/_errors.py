"""Errors and warnings of the command: one line each, and the exit codes."""

import os
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from sklearn_iis.command._ending import INTERRUPTED, OutputClosedError, say
from sklearn_iis.execution._text import printable, shorten

OK = 0
FAILED = 1
USAGE = 2
SOME_LEFT_OUT = 3

EXIT_CODES = (
    "Exit codes: 0 done; 1 an error of the data or of the run; 2 wrong usage; 3 done, "
    "but files that cannot be read were left out (predict); 130 interrupted; 141 the "
    "output is read no longer."
)

# The most characters of a message.
MAX_LENGTH = 1000


class CommandError(Exception):
    """An error with a message that says all."""


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

    OutputClosedError
        As it is.
    """
    try:
        with short_warnings():
            yield
    except KeyboardInterrupt as interrupt:
        say(str(interrupt) or "interrupted")
        raise SystemExit(INTERRUPTED) from None
    except OutputClosedError:
        raise  # for who ends the process
    except Exception as error:
        if shows_traceback:
            traceback.print_exc()
        if _is_interrupt(error):
            say("interrupted")
            raise SystemExit(INTERRUPTED) from None
        text = as_line(error)
        if not text or isinstance(error, KeyError | AttributeError | AssertionError):
            text = f"{type(error).__name__}: {text}"
        say(f"error: {text}")
        raise SystemExit(FAILED) from None


def _is_interrupt(error: BaseException | None) -> bool:
    """Return whether an interrupt is behind an error, as of modules in C."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__
    return error is not None


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
