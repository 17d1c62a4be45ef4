"""Distributions of other kinds, with the methods of scipy's frozen ones."""

from dataclasses import dataclass
from typing import Any

import numpy as np

# Values drawn of what cannot tell its quantiles.
N_DRAWN = 2000


@dataclass(frozen=True)
class Infrastructure:
    """One of scipy's new distributions, such as `scipy.stats.Normal(mu=1)`."""

    distribution: Any
    # What scipy's older distributions tell of themselves.
    args = ()

    @property
    def dist(self) -> "Infrastructure":
        return self

    @property
    def kwds(self) -> str:
        return repr(self)

    @property
    def name(self) -> str:
        return type(self.distribution).__name__

    @property
    def is_discrete(self) -> bool:
        # Their common base class is private, and the others have a `pmf`, too.
        bases = type(self.distribution).__mro__
        return any(base.__name__ == "DiscreteDistribution" for base in bases)

    def __repr__(self):
        return " ".join(repr(self.distribution).split())

    def support(self) -> Any:
        return self.distribution.support()

    def ppf(self, quantile: Any) -> Any:
        return self.distribution.icdf(quantile)

    def cdf(self, value: Any) -> Any:
        return self.distribution.cdf(value)

    def pmf(self, value: Any) -> Any:
        return self.distribution.pmf(value)


@dataclass(frozen=True, eq=False)
class Drawn:
    """The distribution of numbers that were drawn of something else.

    Parameters
    ----------
    values : ndarray of shape (n_values,)
        The numbers, in order. Of whole numbers only these are values; otherwise also
        what lies between them.
    """

    values: np.ndarray

    # Not cached: what describes a distribution looks at its attributes.
    @property
    def is_whole(self) -> bool:
        return self.values.dtype.kind == "i"

    def support(self) -> tuple:
        return self.values[0], self.values[-1]

    def ppf(self, quantile: Any) -> Any:
        n = len(self.values)
        if self.is_whole:
            last = np.ceil(np.multiply(quantile, n)) - 1
            return self.values[np.clip(last, 0, n - 1).astype(int)]
        return np.interp(quantile, np.linspace(0, 1, n), self.values)

    def cdf(self, value: Any) -> Any:
        n = len(self.values)
        if self.is_whole:
            return np.searchsorted(self.values, value, side="right") / n
        return np.interp(value, self.values, np.linspace(0, 1, n))


def draw_values(name: str, drawable: Any) -> list[Any]:
    """Return values drawn of an object with `rvs`, the same each time.

    Raises
    ------
    TypeError
        If its `rvs` takes no `random_state`, or it is a class.
    """
    if isinstance(drawable, type):
        raise TypeError(f"{name}: {drawable!r} is a class: make an object of it")
    rng = np.random.RandomState(0)
    try:
        return [drawable.rvs(random_state=rng) for _ in range(N_DRAWN)]
    except TypeError as error:
        raise TypeError(
            f"{name}: the values of {drawable!r} are drawn by rvs(random_state=...), "
            f"which fails: {error}"
        ) from error
