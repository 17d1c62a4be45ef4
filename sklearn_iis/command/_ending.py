"""The end of the process if its user interrupts it, or reads its output no longer."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

# As shells have them: 128 and the number of the signal, SIGINT or SIGPIPE.
INTERRUPTED = 130
UNREAD = 141


class OutputClosedError(Exception):
    """Nobody reads the output any longer, such as `head` that has its lines."""


def say(text: str) -> None:
    """Write a line for the user, beside the output; if nobody reads it, it is lost."""
    if sys.stderr is not None:
        with suppress(OSError):
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()


@contextmanager
def writing_output() -> Iterator[TextIO]:
    """Have the standard output as long as the block lasts, and all of it written then.

    Raises
    ------
    OutputClosedError
        If nobody reads it.

    OSError
        If it cannot be written, or there is none.
    """
    if sys.stdout is None:
        raise OSError("there is no standard output to write to")
    try:
        yield sys.stdout
        sys.stdout.flush()
    except BrokenPipeError:
        raise OutputClosedError from None


def write_line(text: str) -> None:
    """Write a line of output."""
    with writing_output() as file:
        file.write(f"{text}\n")


@contextmanager
def ending_quietly() -> Iterator[None]:
    """End the process without a traceback if it is interrupted, or cannot write.

    Raises
    ------
    SystemExit
        In place of any such error.
    """
    try:
        try:
            yield
        except SystemExit as end:
            _write_rest(has_failed=bool(end.code))
            raise
    except KeyboardInterrupt:
        say("interrupted")
        raise SystemExit(INTERRUPTED) from None
    except (BrokenPipeError, OutputClosedError):
        _write_to_nowhere()
        raise SystemExit(UNREAD) from None
    except OSError as error:  # of the help, too
        _write_to_nowhere()
        say(f"error: {error}")
        raise SystemExit(1) from None


def _write_rest(*, has_failed: bool) -> None:
    """Write what is left of the output: Python itself shows a traceback if it cannot.

    Raises
    ------
    OSError
        If it cannot be written, unless an error is told by now.
    """
    try:
        # Not `sys.stdout`: typer replaces it by one that raises no error.
        if sys.__stdout__ is not None:
            sys.__stdout__.flush()
    except OSError as error:
        if isinstance(error, BrokenPipeError) or not has_failed:
            raise
        _write_to_nowhere()


def _write_to_nowhere() -> None:
    """Have what is still to be written to the output vanish.

    As https://docs.python.org/3/library/signal.html#note-on-sigpipe advises.
    """
    if sys.__stdout__ is not None:
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())
