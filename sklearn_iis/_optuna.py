"""Optuna as a library: quiet, and with distributions for our dimensions."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from sklearn_iis.space import Continuous, Discrete, is_log

# Beyond, Optuna rounds integers, as it keeps parameters as floats.
MAX_EXACT = 2**53
MAX_FLOAT = sys.float_info.max

Distribution = CategoricalDistribution | FloatDistribution | IntDistribution


@contextmanager
def optuna_errors_only() -> Iterator[None]:
    """Have Optuna log nothing but errors for a while."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)


def value_distribution(
    dimension: Continuous | Discrete, describe: Callable[[Any], str]
) -> Distribution:
    """Return the distribution of a dimension's values, as studies show it."""
    if isinstance(dimension, Continuous):
        low, high = (min(max(v, -MAX_FLOAT), MAX_FLOAT) for v in dimension.range)
        # A range that begins at 0 has no logarithm there.
        return FloatDistribution(low, high, log=low > 0 and is_log(dimension))
    levels = dimension.levels
    if isinstance(levels, range):
        return _integers(levels[0], levels[-1], log=is_log(dimension))
    values = list(levels)
    first = values[0]
    if (
        all(type(value) is int for value in values)
        and values == list(range(first, first + len(values)))
        and max(-first, values[-1]) <= MAX_EXACT
    ):
        return IntDistribution(first, values[-1], log=is_log(dimension))
    shown = [
        value
        if value is None or isinstance(value, bool | int | float | str)
        else describe(value)
        for value in values
    ]
    if len({(type(value), value) for value in shown}) < len(shown):
        shown = [f"{i}: {describe(value)}" for i, value in enumerate(values)]
    return CategoricalDistribution(shown)


def show_code(
    code: float, dimension: Continuous | Discrete, distribution: Distribution
) -> Any:
    """Return the value of a code, as it is a parameter of a trial."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[int(code)]
    value = dimension.decode(code)
    return min(max(value, distribution.low), distribution.high)


def _integers(low: int, high: int, *, log: bool) -> IntDistribution:
    """Return a distribution of integers that are compared as floats."""
    return IntDistribution(int(float(low)), int(float(high)), log=log)
