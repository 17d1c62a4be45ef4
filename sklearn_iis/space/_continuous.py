"""A continuous hyperparameter: a window of quantiles."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

from sklearn.utils import check_random_state

# No range of quantiles gets narrower.
MIN_WIDTH = 1e-3


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
        return float(self.distribution.ppf(code))

    def encode(self, value: Any) -> float:
        if not isinstance(value, Real):
            raise ValueError(f"{value!r} is no number")
        first, last = self.distribution.support()
        if not first <= value <= last:
            raise ValueError(f"{value!r} lies outside [{first}, {last}]")
        return float(self.distribution.cdf(value))

    def snap(self, code: float) -> float:
        """Return the code that stands for the same value, of several that do."""
        return code

    def rvs(self, random_state: Any = None) -> float:
        return check_random_state(random_state).uniform(self.low, self.high)

    def clip(self, code: float) -> float:
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
