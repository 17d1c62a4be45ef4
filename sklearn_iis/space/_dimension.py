"""One hyperparameter of a search space, or one layer of one, and its codes."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Any

import joblib
import numpy as np
from scipy.stats._distn_infrastructure import rv_generic
from scipy.stats.distributions import rv_frozen
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state

from sklearn_iis.space._continuous import Continuous, narrow_interval
from sklearn_iis.space._distribution import Drawn, Infrastructure, draw_values
from sklearn_iis.space._rounded import Rounded, make_stepped

# What is cut off each tail of a distribution without bounds.
TAIL = 1e-6

# No more different values are drawn of what gives no numbers.
MAX_DRAWN_CHOICES = 50

# A discrete distribution with a wider support than this is taken to have no gaps.
MAX_ENUMERATED = 10_000

# The largest integer, and the widest range of integers, whose codes are exact.
MAX_INTEGER = 2**62


@dataclass(frozen=True)
class Discrete:
    """A window of the levels of a list or of a discrete distribution.

    A code is the level's index, an int. Without an order the window stays whole.
    """

    levels: Sequence
    ordered: bool
    low: int
    high: int
    distribution: Any = None

    @property
    def n_levels(self) -> float:
        return self.high - self.low + 1

    @property
    def middle(self) -> int:
        return (self.low + self.high) // 2

    @property
    def range(self) -> tuple:
        if self.ordered:
            return self.decode(self.low), self.decode(self.high)
        return tuple(self.levels)

    def decode(self, code: float) -> Any:
        return self.levels[int(code)]

    def encode(self, value: Any) -> int:
        value = _builtin(value)
        if isinstance(self.levels, range):
            if isinstance(value, float) and value.is_integer():
                value = int(value)
            # A range compares anything but an int with one value after the other.
            if isinstance(value, int) and value in self.levels:
                return self.levels.index(value)
            raise ValueError(f"{value!r} is none of {self.levels!r}")
        equal = [i for i, level in enumerate(self.levels) if _is_equal(level, value)]
        if not equal:
            raise ValueError(f"{value!r} is none of {self.levels!r}")
        same = (i for i in equal if _is_same(self.levels[i], value))
        return next(same, equal[0])

    def keep(self, code: float) -> float:
        return code

    def snap(self, code: float) -> float:
        return code

    def rvs(self, random_state: Any = None) -> int:
        rng = check_random_state(random_state)
        if self.distribution is None:
            return int(rng.randint(self.low, self.high + 1))
        first, last = self._quantiles
        quantile = rng.uniform(first, last)
        if self.distribution.dist.name == "randint":
            # The value of its ppf, which takes longer than all else of a draw.
            cell = (quantile - first) / (last - first) * self.n_levels
            return self.low + min(int(cell), self.high - self.low)
        lowest, highest = self.levels[self.low], self.levels[self.high]
        value = min(max(self.distribution.ppf(quantile), lowest), highest)
        return self.encode(value)

    @cached_property
    def _quantiles(self) -> tuple[float, float]:
        """The quantiles of the window, which take longer than a draw."""
        lowest, highest = self.levels[self.low], self.levels[self.high]
        first = self.distribution.cdf(lowest) - self.distribution.pmf(lowest)
        return first, self.distribution.cdf(highest)

    def clip(self, code: float) -> int:
        return min(max(int(code), self.low), self.high)

    def unit(self, code: float) -> float:
        """Return the middle of the code's cell, as a fraction of the window's width."""
        return (code - self.low + 0.5) / self.n_levels

    def from_unit(self, fraction: float) -> int:
        """Return the code whose cell is at a fraction of the window's width."""
        return self.clip(math.floor(self.low + fraction * self.n_levels))

    def narrow(self, codes: Sequence[float], margin: float, floor: float) -> "Discrete":
        if not self.ordered:
            return self
        n = len(self.levels)
        floor = max(floor, 2 / n)  # more than one level remains
        low, high = narrow_interval(
            (min(codes) / n, (max(codes) + 1) / n),
            (self.low / n, (self.high + 1) / n),
            margin,
            floor,
        )
        # A level belongs to the window if any part of its cell does.
        low, high = math.floor(low * n + 1e-9), math.ceil(high * n - 1e-9) - 1
        # Rounding must not lose what was in the interval, nor leave the window.
        low, high = int(min(low, *codes)), int(max(high, *codes))
        return replace(self, low=max(low, self.low), high=min(high, self.high))


def is_numeric(dimension: Continuous | Discrete) -> bool:
    """Return whether values are numbers in order, rather than names of choices."""
    return dimension.ordered and not isinstance(
        dimension.decode(dimension.low), tuple | str
    )


def is_log(dimension: Continuous | Discrete) -> bool:
    """Return whether values are more evenly spaced on a log scale than on a linear one.

    So it is for any prior that is uniform in the logarithm, and for lists such as 16,
    32, 64.
    """
    if not is_numeric(dimension):
        return False
    if isinstance(dimension, Continuous):
        # The ends of a distribution without bounds are far away.
        width = dimension.high - dimension.low
        codes = np.linspace(0.1, 0.9) * width + dimension.low
    else:
        n_codes = min(int(dimension.n_levels), 50)
        codes = np.linspace(dimension.low, dimension.high, n_codes).round()
    values = np.array(
        [dimension.decode(dimension.clip(code)) for code in codes], dtype=float
    )
    if values[0] <= 0 or len(values) < 3:
        return False
    return bool(_unevenness(np.log(values)) < _unevenness(values))


def make_dimension(name: str, values: Any) -> Continuous | Discrete:
    """Return the dimension of what a user wrote for a hyperparameter."""
    if isinstance(values, Rounded):
        rounded = make_dimension(name, values.distribution)
        return make_stepped(name, rounded, values.step)
    if isinstance(values, rv_generic) and values.numargs == 0:
        values = values()  # it has nothing to be frozen
    if isinstance(values, rv_frozen):
        if hasattr(values.dist, "pmf"):
            return _from_discrete(name, values)
        return _from_continuous(name, values)
    if hasattr(values, "icdf") and hasattr(values, "support"):
        return _from_infrastructure(name, values)
    if hasattr(values, "rvs") and not isinstance(values, rv_generic):
        return _from_drawn(name, draw_values(name, values))
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise TypeError(
            f"{name}: expected a frozen scipy.stats distribution, a list, a Rounded, a "
            f"PerLayer, an OnlyIf, or an object with rvs, got {values!r}"
        )
    return _from_choices(name, values)


def _from_infrastructure(name, values):
    if isinstance(values, type):
        raise TypeError(f"{name}: {values!r} is a class: call it with its parameters")
    distribution = Infrastructure(values)
    if np.ndim(distribution.ppf(0.5)):
        raise ValueError(f"{name}: {values!r} holds several distributions, not one")
    if distribution.is_discrete:
        return _from_discrete(name, distribution)
    return _from_continuous(name, distribution)


def _from_drawn(name, drawn):
    """Return the dimension of values that were drawn of something."""
    drawn = [_builtin(value) for value in drawn]
    kinds = set(map(type, drawn))
    if kinds <= {int, float}:
        values = np.sort(np.array(drawn))
        if not np.isfinite(values).all():
            raise ValueError(f"{name}: rvs gives values that are not finite")
        if values[0] == values[-1]:
            return _from_choices(name, [drawn[0]])
        dimension = Continuous(Drawn(values), 0.0, 1.0)
        return make_stepped(name, dimension, 1) if kinds == {int} else dimension
    choices: list[Any] = []
    for value in drawn:
        if not any(_is_same(value, choice) for choice in choices):
            choices.append(value)
        if len(choices) > MAX_DRAWN_CHOICES:
            raise TypeError(
                f"{name}: rvs gives more than {MAX_DRAWN_CHOICES} different values "
                f"that are no numbers, such as {value!r}: list them"
            )
    return _from_choices(name, choices)


def _from_continuous(name, distribution):
    bounds = distribution.ppf([0.0, 1.0])
    if np.isnan(bounds).any() or not bounds[0] < bounds[1]:
        raise _no_values(name, distribution)
    low = 0.0 if np.isfinite(bounds[0]) else TAIL
    high = 1.0 if np.isfinite(bounds[1]) else 1.0 - TAIL
    return Continuous(distribution, low, high)


def _from_discrete(name, distribution):
    try:
        first, last = distribution.support()
    except TypeError:  # integers beyond those of numpy
        raise _too_wide(name, *distribution.args, *distribution.kwds.values()) from None
    if np.isinf([first, last]).any():
        raise ValueError(
            f"{name}: a discrete distribution must have finitely many values, "
            f"{distribution.dist.name} has the support [{first}, {last}]; use randint"
        )
    if np.isnan([first, last]).any():
        raise _no_values(name, distribution)
    if max(-int(first), int(last), int(last) - int(first)) > MAX_INTEGER:
        raise _too_wide(name, int(first), int(last))
    # rv_discrete(values=...) has values of its own.
    levels = getattr(distribution.dist, "xk", range(int(first), int(last) + 1))
    if isinstance(levels, np.ndarray):
        shift = first - levels.min()
        levels = levels + (int(shift) if float(shift).is_integer() else shift)
    if len(levels) <= MAX_ENUMERATED:
        levels = tuple(_builtin(v) for v in levels if distribution.pmf(v) > 0)
    if len(levels) == 0:
        raise _no_values(name, distribution)
    return Discrete(levels, True, 0, len(levels) - 1, distribution)


def _too_wide(name, *bounds):
    return ValueError(
        f"{name}: the range {bounds} is too wide: the bounds of integers, and their "
        "distance, must be at most 2**62; use a distribution of floats, or a list"
    )


def _no_values(name, distribution):
    return ValueError(
        f"{name}: the distribution has no values, check its arguments "
        f"{distribution.args} {distribution.kwds}"
    )


def _from_choices(name, values):
    levels = [_builtin(value) for value in values]
    if not levels:
        raise ValueError(f"{name}: the list of choices is empty")
    if _has_repetition(levels):
        raise ValueError(f"{name}: a choice stands twice in {levels!r}")
    ordered = all(
        isinstance(v, int | float) and not isinstance(v, bool) and v == v  # no NaN
        for v in levels
    )
    return Discrete(
        tuple(sorted(levels) if ordered else levels), ordered, 0, len(levels) - 1
    )


def _has_repetition(levels):
    """Return whether two levels are the same; they may be unhashable."""
    try:
        # 1 and 1.0 are equal, but not the same to scikit-learn's estimators.
        return len({(type(level), level) for level in levels}) < len(levels)
    except TypeError:
        return any(_is_same(one, other) for one, other in combinations(levels, 2))


def _builtin(value):
    """Return a numpy scalar as the Python number or string that it holds."""
    return value.item() if isinstance(value, np.generic) else value


def _is_equal(value: Any, other: Any) -> bool:
    """Return whether two values are equal, or both NaN, whatever their types are.

    Arrays are equal if all of their values are, containers if all of their parts are,
    and estimators if all of their parameters are.
    """
    if value is other:
        return True
    if isinstance(value, BaseEstimator) and type(value) is type(other):
        return _is_equal(value.get_params(deep=False), other.get_params(deep=False))
    if isinstance(value, Mapping) and isinstance(other, Mapping):
        return value.keys() == other.keys() and all(
            _is_equal(value[key], other[key]) for key in value
        )
    if isinstance(value, list | tuple) and type(value) is type(other):
        return len(value) == len(other) and all(map(_is_equal, value, other))
    if isinstance(value, np.ndarray) or isinstance(other, np.ndarray):
        return (
            type(value) is type(other)
            and value.shape == other.shape
            and _is_equal(value.tolist(), other.tolist())
        )
    try:
        return bool(value == other or (value != value and other != other))
    except Exception:  # of tables, tensors and the like, which compare their parts
        return type(value) is type(other) and joblib.hash(value) == joblib.hash(other)


def _is_same(value, other):
    """Return whether values are equal, and of the same types in all of their parts."""
    if type(value) is not type(other) or not _is_equal(value, other):
        return False
    if isinstance(value, Mapping):
        return all(_is_same(value[key], other[key]) for key in value)
    if isinstance(value, list | tuple):
        return all(map(_is_same, value, other))
    return True


def _unevenness(values):
    """Return how far values are from evenly spaced, as a fraction of their range."""
    even = np.linspace(values[0], values[-1], len(values))
    return np.abs(values - even).max() / abs(values[-1] - values[0])
