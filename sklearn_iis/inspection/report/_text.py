"""Numbers, values and sentences as a report writes them."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from sklearn_iis.execution._text import printable, shorten
from sklearn_iis.space import Continuous, Discrete

# Characters of a value or a heading, and of a text that is quoted; the rest is cut.
MAX_LENGTH = 300
MAX_QUOTE = 10_000

# In the place of a value that is missing.
NOTHING = "\N{EM DASH}"


def make_score_format(scores: np.ndarray) -> Callable[[float], str]:
    """Return a function that writes scores with equal decimals, about four digits."""
    scores = scores[~np.isnan(scores)]
    largest = float(np.abs(scores).max()) if len(scores) else 0.0
    exponent = math.floor(math.log10(largest)) if largest > 0 else 0
    # A score of 1 is as exact as one of 0.9.
    decimals = max(3 - exponent, 0) if exponent < 0 else max(4 - exponent, 0)
    spec = f".{decimals}f" if -4 < exponent < 7 else ".3e"
    return lambda score: f"{score:{spec}}".replace("-", "\N{MINUS SIGN}")


def format_seconds(seconds: float) -> str:
    return f"{seconds:.3f}" if seconds < 1 else f"{seconds:.1f}"


def format_ratio(ratio: float) -> str:
    return f"{ratio:.1f}" if ratio < 100 else f"{ratio:.0f}"


def format_duration(seconds: float) -> str:
    if seconds < 0.01:
        return "less than 0.01 s"
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, seconds = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {seconds} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def format_value(value: Any) -> str:
    """Return a value as Python writes it, but floats with few digits."""
    value = builtin(value)
    if type(value) is float:
        return f"{value:.4g}"
    if type(value) is tuple:
        comma = "," if len(value) == 1 else ""
        return f"({', '.join(map(format_value, value))}{comma})"
    return shorten(printable(value, repr), MAX_LENGTH)


def format_literal(params: dict[str, Any]) -> str:
    """Return hyperparameters as a dict in Python, with all digits."""
    values = {name: printable(builtin(value), repr) for name, value in params.items()}
    lines = (f"{name!r}: {shorten(text, MAX_QUOTE)}" for name, text in values.items())
    return "{" + ",\n ".join(lines) + "}"


def format_range(dimension: Continuous | Discrete | None) -> str:
    """Return the ends of a range, or its values if they are few or have no order."""
    if dimension is None:
        return NOTHING
    few = isinstance(dimension, Discrete) and dimension.n_levels <= 6
    if few and dimension.ordered:
        codes = range(int(dimension.low), int(dimension.high) + 1)
        return _join(dimension.decode(code) for code in codes)
    if not dimension.ordered:
        return _join(dimension.range)
    low, high = dimension.range
    dash = "\N{NO-BREAK SPACE}\N{EN DASH}\N{NO-BREAK SPACE}"
    return f"{format_value(low)}{dash}{format_value(high)}"


def _join(values: Iterable[Any]) -> str:
    return shorten(", ".join(map(format_value, values)), MAX_QUOTE)


def builtin(value: Any) -> Any:
    """Return a numpy scalar, also in a tuple, as an object of Python."""
    if type(value) is tuple:
        return tuple(map(builtin, value))
    return value.item() if isinstance(value, np.generic) else value


def count(n: int, noun: str, nouns: str = "") -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {nouns or noun + 's'}"


def as_sentence(text: str) -> str:
    text = text.strip() or "no reason was given"
    return text[0].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
