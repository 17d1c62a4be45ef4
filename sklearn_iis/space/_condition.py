"""Conditions under which a hyperparameter exists."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class OnlyIf:
    """A hyperparameter that exists only with certain values of another one.

    A candidate with another value there does not have it: it is neither drawn nor told
    to the estimator, and its column in `cv_results_` is masked.

    Parameters
    ----------
    values : distribution, list, Rounded, PerLayer or OnlyIf
        Where its value is drawn from. With an `OnlyIf` both conditions have to hold.

    name : str
        Name of the other hyperparameter, in the same dict: a list, or a discrete
        distribution. It may exist only under a condition itself; without it, this one
        does not exist either.

    is_in : list
        The values of the other hyperparameter with which this one exists.

    See Also
    --------
    SearchSpace : Also a list of alternatives, each with hyperparameters of its own.

    Examples
    --------
    >>> from scipy.stats import loguniform
    >>> from sklearn_iis import OnlyIf, SearchSpace
    >>> space = SearchSpace(
    ...     {
    ...         "kernel": ["linear", "rbf", "poly"],
    ...         "gamma": OnlyIf(loguniform(1e-3, 1), "kernel", ["rbf", "poly"]),
    ...         "degree": OnlyIf([2, 3], "kernel", ["poly"]),
    ...     }
    ... )
    >>> space.decode({"kernel": 0})
    {'kernel': 'linear'}
    >>> space.decode({"kernel": 2, "gamma": 1.0, "degree": 1})
    {'kernel': 'poly', 'gamma': 1.0, 'degree': 3}
    """

    values: Any
    name: str
    is_in: Iterable[Any]


@dataclass(frozen=True)
class Condition:
    """A condition under which a dimension exists: the code of another one.

    Parameters
    ----------
    parent : str
        The other dimension, which is discrete.

    codes : tuple of int
        The codes of it with which this one exists, in order. Without any, this one
        never exists.
    """

    parent: str
    codes: tuple[int, ...]

    def holds(self, codes: Mapping[str, float]) -> bool:
        """Return whether it holds for a candidate in codes.

        Parameters
        ----------
        codes : dict of str to float or int
            The candidate; without a code of the parent it does not hold.
        """
        return codes.get(self.parent) in self.codes


def join(conditions: Iterable[Condition]) -> tuple[Condition, ...]:
    """Return conditions that hold if all of the given ones do, one for each parent."""
    joined: dict[str, Condition] = {}
    for condition in conditions:
        before = joined.get(condition.parent, condition)
        codes = tuple(code for code in condition.codes if code in before.codes)
        joined[condition.parent] = Condition(condition.parent, codes)
    return tuple(joined.values())
