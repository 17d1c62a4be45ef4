"""Hyperparameters that are rounded: integers on a log scale, floats in steps."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

from sklearn_iis.space._continuous import Continuous


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
        return self._find_multiple(self.high) - self._find_multiple(self.low) + 1

    def decode(self, code: float) -> float:
        return self._multiply(self._find_multiple(code))

    def encode(self, value: Any) -> float:
        if not isinstance(value, Real):
            raise ValueError(f"{value!r} is no number")
        first, last = self.multiples
        multiple = float(value) / self.step
        if not math.isfinite(multiple) or abs(multiple - round(multiple)) > 1e-6:
            raise ValueError(f"{value!r} is no multiple of {self.step!r}")
        code = self._find_code(round(multiple))
        if not first <= round(multiple) <= last or (
            self._find_multiple(code) != round(multiple)
        ):
            low, high = self._multiply(first), self._multiply(last)
            raise ValueError(f"{value!r} is none of the values in [{low}, {high}]")
        return code

    def snap(self, code: float) -> float:
        return self._find_code(self._find_multiple(code))

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

    def _find_multiple(self, code: float) -> int:
        first, last = self.multiples
        value = float(self.distribution.ppf(min(max(code, self.ends[0]), self.ends[1])))
        return min(max(round(value / self.step), first), last)

    def _find_code(self, multiple: int) -> float:
        first, last = self.multiples
        low, high = self.ends
        if multiple > first:
            low = float(self.distribution.cdf((multiple - 0.5) * self.step))
        if multiple < last:
            high = float(self.distribution.cdf((multiple + 0.5) * self.step))
        return (low + high) / 2

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
