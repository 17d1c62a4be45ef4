"""Values as a report writes them."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from sklearn_iis.space import Continuous, Discrete

# Beyond that, a value or an error in a heading is cut.
MAX_LENGTH = 300

# What it says where there is nothing to say.
NOTHING = "\N{EM DASH}"


def make_score_format(scores: np.ndarray) -> Callable[[float], str]:
    """Return what writes scores with the same decimals, about four digits in all."""
    scores = scores[~np.isnan(scores)]
    largest = float(np.abs(scores).max()) if len(scores) else 0.0
    exponent = math.floor(math.log10(largest)) if largest > 0 else 0
    # A score of 1 is as exact as one of 0.9.
    decimals = max(3 - exponent, 0) if exponent < 0 else max(4 - exponent, 0)
    spec = f".{decimals}f" if -4 < exponent < 7 else ".3e"
    return lambda score: f"{score:{spec}}".replace("-", "\N{MINUS SIGN}")


def format_seconds(seconds: float) -> str:
    return f"{seconds:.3f}" if seconds < 1 else f"{seconds:.1f}"


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
    if isinstance(value, float):
        return f"{value:.4g}"
    if type(value) is tuple:
        comma = "," if len(value) == 1 else ""
        return f"({', '.join(map(format_value, value))}{comma})"
    return shorten(repr(value))


def shorten(text: str) -> str:
    return text if len(text) <= MAX_LENGTH else f"{text[:MAX_LENGTH]} ..."


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
    return ", ".join(map(format_value, values))


def builtin(value: Any) -> Any:
    """Return a numpy scalar, also in a tuple, as what Python writes it as."""
    if type(value) is tuple:
        return tuple(map(builtin, value))
    return value.item() if isinstance(value, np.generic) else value


def count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def as_sentence(text: str) -> str:
    text = text.strip() or "no reason was given"
    return text[0].upper() + text[1:] + ("" if text.endswith(".") else ".")
