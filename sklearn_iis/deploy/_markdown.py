"""Markdown of a model card, in which any text may stand."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sklearn_iis.execution._text import printable, shorten

# Characters of a text; the rest is cut.
MAX_TEXT = 300

# What would be markup; an underscore is none within a word.
SPECIAL = re.compile(r"[\\`*\[\]<>|&~#]|(?<!\w)_|_(?!\w)")

# How a number begins, or what stands for one that is missing.
NUMBER = re.compile("[\N{MINUS SIGN}\N{EM DASH}0-9]")


def as_line(value: Any) -> str:
    """Return a value as a text on one line, not too long."""
    return shorten(" ".join(printable(value).split()), MAX_TEXT)


def as_text(value: Any) -> str:
    """Return a value as Markdown that shows it as it is."""
    return SPECIAL.sub(r"\\\g<0>", as_line(value))


def as_code(value: Any) -> str:
    """Return a value as code, also for the cell of a table."""
    text = as_line(value).replace("|", r"\|")
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{space}{text}{space}{fence}"


def make_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table whose cells are Markdown; numbers to the right."""
    rows = [list(row) for row in rows]
    # A column of numbers is known by its first cell; the first one is of names.
    right = [
        i > 0 and bool(rows) and NUMBER.match(rows[0][i]) is not None
        for i in range(len(heads))
    ]
    rule = ["---:" if numbers else "---" for numbers in right]
    return ["", *(f"| {' | '.join(row)} |" for row in [heads, rule, *rows]), ""]


def make_front_matter(values: Mapping[str, Any]) -> list[str]:
    """Return the lines of a YAML block, whose values are JSON, which is YAML, too."""
    lines = [f"{key}: {json.dumps(value)}" for key, value in values.items()]
    return ["---", *lines, "---", ""]
