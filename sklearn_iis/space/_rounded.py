"""Hyperparameters that are rounded: integers on a log scale, floats in steps."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property
from numbers import Integral, Real
from typing import Any

import numpy as np

from sklearn_iis.space._continuous import Continuous, ValuedCode
from sklearn_iis.space._distribution import Drawn

# Of more multiples it is not looked up which of them have a probability.
MAX_LOOKED_UP = 10_000


@dataclass(frozen=True)
class Rounded:
    """A hyperparameter with the multiples of a step as values.

    Its values are drawn from a continuous distribution and rounded to the nearest
    multiple in its support. To searches it is as continuous as the distribution: an
    integer on a log scale is searched on a log scale, and so narrowed.

    Parameters
    ----------
    distribution : frozen scipy.stats distribution
        A continuous one.

    step : int or float, default=1
        Above 0. Values are of its type.

    See Also
    --------
    SearchSpace : What takes it, as other kinds of hyperparameters.

    Examples
    --------
    >>> from scipy.stats import loguniform, uniform
    >>> from sklearn_iis import Rounded, SearchSpace
    >>> space = SearchSpace(
    ...     {
    ...         "n_estimators": Rounded(loguniform(10, 1000)),
    ...         "subsample": Rounded(uniform(0.5, 0.5), step=0.05),
    ...     }
    ... )
    >>> space.decode({"n_estimators": 0.5, "subsample": 0.11})
    {'n_estimators': 100, 'subsample': 0.55}
    """

    distribution: Any
    step: float = 1


@dataclass(frozen=True)
class Stepped(Continuous):
    """A window of the quantiles of a distribution whose values are rounded.

    Each value has one code, the middle of the quantiles that are rounded to it.
    """

    # Values are of its type.
    step: float
    # The least and the largest multiple, and the quantiles where they begin and end.
    multiples: tuple[int, int]
    ends: tuple[float, float]

    @property
    def n_levels(self) -> float:
        return len(self._values)

    @property
    def middle(self) -> float:
        return self.snap(super().middle)

    def decode(self, code: float) -> float:
        if isinstance(code, ValuedCode):
            return code.value
        return self._multiply(self.find_multiple(code))

    def encode(self, value: Any) -> float:
        if not isinstance(value, Real):
            raise ValueError(f"{value!r} is no number")
        first, last = self.multiples
        multiple = float(value) / self.step
        if not math.isfinite(multiple) or abs(multiple - round(multiple)) > 1e-6:
            raise ValueError(f"{value!r} is no multiple of {self.step!r}")
        low, high = self._multiply(first), self._multiply(last)
        if not first <= round(multiple) <= last:
            raise ValueError(f"{value!r} is none of the values in [{low}, {high}]")
        code = self.find_code(round(multiple))
        if self.find_multiple(code) != round(multiple):
            raise ValueError(
                f"{value!r} is none of the values: it lies in [{low}, {high}], but its "
                "probability is 0, or too small to be told from 0"
            )
        return code

    def snap(self, code: float) -> float:
        if isinstance(code, ValuedCode):
            return code
        return self.find_code(self.find_multiple(code))

    def rvs(self, random_state: Any = None) -> float:
        return self.snap(super().rvs(random_state))

    def clip(self, code: float) -> float:
        return self.snap(super().clip(code))

    def narrow(self, codes: Sequence[float], margin: float, floor: float) -> "Stepped":
        narrowed: Any = super().narrow(codes, margin, floor)
        # The codes of its first and last value are inside.
        low = min(narrowed.low, self.snap(narrowed.low))
        high = max(narrowed.high, self.snap(narrowed.high))
        return replace(narrowed, low=low, high=high)

    def spread(self, n: int) -> np.ndarray:
        """Return the multiples of `n` different values, or of all if there are fewer.

        They are those in the middles of equal cells of the window, in codes. Where
        several cells have the same, it is moved to the next ones.
        """
        values = self._values
        n = min(n, len(values))
        cells = np.arange(n)
        codes = self.low + (cells + 0.5) * ((self.high - self.low) / n)
        multiples = np.rint(self.distribution.ppf(codes) / self.step)
        if isinstance(values, range):
            places = (np.clip(multiples, values[0], values[-1]) - values[0]).astype(int)
        else:
            places = np.searchsorted(values, np.clip(multiples, values[0], values[-1]))
        places = np.maximum.accumulate(places - cells) + cells
        places = np.minimum(places, len(values) - n + cells)
        return places + values[0] if isinstance(values, range) else values[places]

    def find_multiple(self, code: float) -> int:
        """Return the multiple of the step that a code stands for."""
        first, last = self.multiples
        value = float(self.distribution.ppf(min(max(code, self.ends[0]), self.ends[1])))
        return min(max(round(value / self.step), first), last)

    def find_code(self, multiple: int) -> float:
        """Return the code of a multiple of the step."""
        first, last = self.multiples
        low, high = self.ends
        if multiple > first:
            low = float(self.distribution.cdf((multiple - 0.5) * self.step))
        if multiple < last:
            high = float(self.distribution.cdf((multiple + 0.5) * self.step))
        return (low + high) / 2

    @cached_property
    def _values(self) -> range | np.ndarray:
        """The multiples in the window that have a probability, in order."""
        first, last = self.find_multiple(self.low), self.find_multiple(self.high)
        if isinstance(self.distribution, Drawn) and self.distribution.is_whole:
            drawn = np.unique(self.distribution.values)
            return drawn[(drawn >= first) & (drawn <= last)]
        if last - first >= MAX_LOOKED_UP:
            return range(first, last + 1)
        multiples = np.arange(first, last + 1)
        borders = (np.arange(first, last + 2) - 0.5) * float(self.step)
        ends = np.array(self.distribution.cdf(borders))
        if first == self.multiples[0]:
            ends[0] = self.ends[0]
        if last == self.multiples[1]:
            ends[-1] = self.ends[1]
        values = self.distribution.ppf((ends[:-1] + ends[1:]) / 2)
        found = np.clip(np.rint(values / self.step), *self.multiples)
        return multiples[found == multiples]

    def _multiply(self, multiple: int) -> float:
        if isinstance(self.step, int):
            return multiple * self.step
        # Such as 0.3 rather than 0.30000000000000004.
        return float(multiple * Decimal(repr(self.step)))


def make_stepped(name: str, dimension: Any, step: Any) -> Stepped:
    """Return a continuous dimension with multiples of a step as values.

    Raises
    ------
    ValueError
        If the dimension is not continuous, the step is no number above 0, or no
        multiple of it lies in the range.
    """
    if not isinstance(dimension, Continuous) or isinstance(dimension, Stepped):
        raise ValueError(
            f"{name}: what is rounded must be a continuous distribution; this one has "
            f"the values {dimension.range}"
        )
    is_number = isinstance(step, Real) and not isinstance(step, bool)
    if not is_number or not 0 < float(step) < math.inf:
        raise ValueError(f"{name}: step must be a number above 0, got {step!r}")
    step = int(step) if isinstance(step, Integral) else float(step)
    low, high = dimension.range
    multiples = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    if multiples[0] > multiples[1]:
        raise ValueError(f"{name}: no multiple of {step} lies in [{low}, {high}]")
    ends = dimension.low, dimension.high
    return Stepped(dimension.distribution, *ends, step, multiples, ends)
