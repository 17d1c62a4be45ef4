"""Text that can be shown anywhere, whatever it was made of."""

import re
from collections.abc import Callable
from typing import Any

# The bytes of a traceback that are kept: MySQL has room for 64 kB, as JSON.
MAX_ERROR = 20_000

# Control characters but for line ends and tabs, those that change the direction of
# writing, surrogates and non-characters.
UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
    "\ud800-\udfff\ufffe\uffff]"
)


def printable(value: Any, write: Callable[[Any], str] = str) -> str:
    """Return a value as text, with unprintable characters as Python escapes them."""
    try:
        text = write(value)
    except Exception as error:
        kind = type(value).__name__
        text = f"<{kind} that cannot be written: {type(error).__name__}>"
    text = str.replace(text, "\r\n", "\n")  # a str, whatever kind of it `text` is
    return UNPRINTABLE.sub(
        lambda match: match[0].encode("unicode_escape").decode("ascii"), text
    )


def shorten(text: str, most: int) -> str:
    """Return a text of at most so many characters, and how many there were."""
    if len(text) <= most:
        return text
    return f"{text[:most]} ... ({len(text):,} characters)"


def shorten_middle(text: str, most: int) -> str:
    """Return the beginning and the end of a text, and how long it was."""
    if len(text) <= most:
        return text
    half = most // 2
    return (
        f"{text[:half]}\n... {half * 2:,} of {len(text):,} characters are shown ...\n"
        f"{text[-half:]}"
    )


def shorten_error(error: str) -> str:
    """Return the end of a traceback, as much of it as is kept."""
    end = printable(error[-MAX_ERROR:]).encode()[-MAX_ERROR:]
    return end.decode(errors="ignore")
