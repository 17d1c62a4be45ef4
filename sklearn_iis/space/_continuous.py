"""A continuous hyperparameter: a window of quantiles."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

from sklearn.utils import check_random_state

# No range of quantiles gets narrower.
MIN_WIDTH = 1e-3

# A value may leave its range by so much of a quantile, which is rounding.
ROUNDING = 1e-9


class ValuedCode(float):
    """A code that keeps the value that it stands for, such as one written by a user.

    A quantile is not enough: that of 0.1 may stand for 0.10000000000000006, beyond a
    constraint that allows 0.1. To searches it is a float.
    """

    value: float

    def __new__(cls, code: float, value: float) -> "ValuedCode":
        valued = super().__new__(cls, code)
        valued.value = value
        return valued

    def __getnewargs__(self) -> tuple:  # for copies and pickles
        return float(self), self.value


@dataclass(frozen=True)
class Continuous:
    """A window of the quantiles of a continuous distribution.

    A code is the value's quantile, a float of the unit interval, so that codes are
    uniform where the values follow the distribution.
    """

    distribution: Any
    low: float
    high: float

    ordered = True

    @property
    def n_levels(self) -> float:
        return math.inf

    @property
    def middle(self) -> float:
        return (self.low + self.high) / 2

    @property
    def range(self) -> tuple:
        return self.decode(self.low), self.decode(self.high)

    def decode(self, code: float) -> float:
        if isinstance(code, ValuedCode):
            return code.value
        return float(self.distribution.ppf(code))

    def encode(self, value: Any) -> float:
        if not isinstance(value, Real):
            raise ValueError(f"{value!r} is no number")
        first, last = self.distribution.support()
        if not first <= value <= last:
            raise ValueError(f"{value!r} lies outside [{first}, {last}]")
        code = float(self.distribution.cdf(value))
        nearest = self.clip(code)
        # The ends of the range are its values, too.
        is_near = abs(nearest - code) <= ROUNDING
        return ValuedCode(nearest if is_near else code, float(value))

    def keep(self, code: float) -> float:
        """Return a code that need not be decoded again."""
        return ValuedCode(code, self.decode(code))

    def snap(self, code: float) -> float:
        """Return the code that stands for the same value, of several that do."""
        return code

    def rvs(self, random_state: Any = None) -> float:
        return check_random_state(random_state).uniform(self.low, self.high)

    def clip(self, code: float) -> float:
        if isinstance(code, ValuedCode) and self.low <= code <= self.high:
            return code
        return min(max(float(code), self.low), self.high)

    def unit(self, code: float) -> float:
        """Return where a code lies in the window, as a fraction of its width."""
        # Clipped, as rounding must not leave the window.
        return (self.clip(code) - self.low) / (self.high - self.low)

    def from_unit(self, fraction: float) -> float:
        """Return the code at a fraction of the window's width."""
        return self.clip(self.low + fraction * (self.high - self.low))

    def narrow(
        self, codes: Sequence[float], margin: float, floor: float
    ) -> "Continuous":
        low, high = narrow_interval(
            (min(codes), max(codes)),
            (self.low, self.high),
            margin,
            max(floor, MIN_WIDTH),
        )
        return replace(self, low=low, high=high)


def narrow_interval(
    interval: tuple[float, float],
    window: tuple[float, float],
    margin: float,
    floor: float,
) -> tuple[float, float]:
    """Give `interval` a margin and at least the width `floor`, inside `window`."""
    first, last = window
    low, high = max(interval[0] - margin, first), min(interval[1] + margin, last)
    if high - low >= floor:
        return low, high
    if last - first <= floor:
        return first, last
    start = min(max((low + high - floor) / 2, first), last - floor)
    # Rounding must not lose what was in the interval, nor leave the window.
    return min(start, low), min(max(start + floor, high), last)
