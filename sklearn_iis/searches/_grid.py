"""Grid search: GridSearchCV."""

import math
import warnings
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, islice
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from sklearn.model_selection import GridSearchCV, ParameterGrid

from sklearn_iis._sklearn_compat import Interval
from sklearn_iis.searches._base import Evaluator, Search
from sklearn_iis.space import Candidate, Continuous, Discrete, Stepped, distinct

# Of a larger grid is not counted how many candidates a constraint allows.
MAX_COUNTED = 10_000


@dataclass(eq=False, repr=False, kw_only=True)
class StageGridSearchCV(Search, GridSearchCV):
    """Grid search: regular levels of each hyperparameter, in all combinations.

    Unlike other searches it may leave a part of its budget, as a grid has the size that
    it has.

    The levels of an ordered hyperparameter are the middles of as many equal cells of
    its range, in codes, so that no value is further than half a cell from a level; of
    :class:`~sklearn_iis.Rounded`, where several have the same, the next values. All
    values of a list are levels. Candidates are not multiplied by the levels of
    hyperparameters that do not exist for them, such as layers beyond their depth.

    Parameters
    ----------
    estimator, space, n_iter, initial_candidates, scoring, n_jobs, refit, cv, verbose, \
    pre_dispatch, random_state, error_score, return_train_score
        See :class:`Search`; but `n_iter` is the largest number of candidates, and must
        not be None. Nothing is random.

    n_levels : int or dict of str to int, default=None
        The number of levels of all ordered hyperparameters, or of some by their names,
        also by that of a layer such as "n_filters[0]"; there are fewer levels if there
        are fewer values. Of the others, by default all of them, lists have all their
        values, and distributions as many levels as `n_iter` then allows, and numbers as
        equal as possible. Where it does not allow two levels of a hyperparameter, the
        first in the space come first; the others are held at their values in the first
        initial candidate, or else in the middle of their ranges, with a warning. If
        the values of lists do not fit the budget, they are thinned out likewise, with a
        warning; but in the first stage of an `IISSearchCV` it is an error.

    Raises
    ------
    ValueError
        By `fit`: if the grid that `n_levels` asks for does not fit the budget, or if
        `n_levels` names what is no ordered hyperparameter.
    """

    n_levels: int | dict[str, int] | None = None

    is_unlimited: ClassVar[bool] = False
    replans_on_budget_change: ClassVar[bool] = True

    _parameter_constraints: ClassVar[dict] = {
        **Search._parameter_constraints,
        "n_levels": [Interval(Integral, 1, None, closed="left"), dict, None],
    }

    @property
    def param_grid(self) -> list[dict[str, Sequence[float]]]:
        """The codes that :class:`~sklearn.model_selection.GridSearchCV` combines.

        A grid for each combination of what others depend on, such as a number of
        layers, with the hyperparameters that exist for it.
        """
        return self._make_grids(self._count_levels())

    @property
    def n_evaluations(self) -> int:
        """The number of candidates that are planned."""
        return min(self._budget, self._count_candidates(self._count_levels()))

    @property
    def _budget(self) -> int:
        """The largest number of candidates; None is refused."""
        return self.n_iter or 0

    @property
    def least_n_iter(self) -> int:
        """The number of candidates with all values of lists, and of what is asked for.

        Of any other hyperparameter there is one level.
        """
        return self._count_candidates(self._fix_levels(self._find_listed()))

    def check_budget(self) -> None:
        """Raise an error if the settings are wrong, or the grid exceeds `n_iter`."""
        super().check_budget()
        n_candidates = self._count(self.param_grid)
        if self.is_first_stage:
            n_candidates = max(n_candidates, self.least_n_iter)
        listed = [*self._find_listed()]
        if self.is_first_stage and listed and n_candidates > self._budget:
            raise ValueError(
                f"a grid with all values of {listed} has {n_candidates} candidates, "
                f"with the initial ones, and the budget is n_iter={self.n_iter}: set "
                f"n_iter={n_candidates} or more (of several stages, for the first one),"
                " or have n_levels in search_params say how many values to try"
            )
        if self.n_levels is not None and n_candidates > self._budget:
            raise ValueError(
                f"n_levels={self.n_levels!r} makes a grid of {n_candidates} candidates "
                f"and the budget is n_iter={self.n_iter}: raise it, lower n_levels, or "
                "leave n_levels out for the finest grid that fits"
            )

    def run(self, evaluate: Evaluator, random_state: np.random.RandomState) -> None:
        """Evaluate the initial candidates and the grid."""
        n_levels = self._count_levels()
        grids = self._make_grids(n_levels)
        if held := self._find_held(n_levels, grids):
            warnings.warn(
                f"n_iter={self.n_iter} allows no grid with two levels of {held}, which "
                "are not searched: raise it, or choose another search",
                stacklevel=3,
            )
        if thinned := self._find_thinned(n_levels):
            warnings.warn(
                f"n_iter={self.n_iter} leaves out some values of the lists {thinned}, "
                "which are not searched: raise it to try them all",
                stacklevel=3,
            )
        initial = distinct(map(self.space.active, self.initial_candidates or []))
        on_grid = self._find_on_grid(initial, n_levels)
        # Where the grid takes the budget, the last ones that are not on it go.
        n_others = self._budget - self._count(grids)
        others = [codes for codes in initial if codes not in on_grid][:n_others]
        first = [codes for codes in initial if codes in on_grid or codes in others]
        evaluate(chain(first, ParameterGrid(grids)))

    def _spend_rest(
        self, evaluate: Evaluator, random_state: np.random.RandomState
    ) -> None:
        """Spend nothing but what the grid takes."""
        if not self.space.dimensions:
            evaluate([{}])

    def _find_requested(self) -> dict[str, int]:
        """Return the numbers of levels that `n_levels` asks for, by dimension."""
        dimensions = self.space.dimensions
        if isinstance(self.n_levels, dict):
            self._check_n_levels()
            names = {n: p.name for p in self.space.parameters for n in p.dimensions}
            requested = {
                name: self.n_levels.get(name, self.n_levels.get(names.get(name, name)))
                for name in dimensions
            }
        else:
            requested = dict.fromkeys(dimensions, self.n_levels)
        return {
            name: _n_levels(dimensions[name], n)
            for name, n in requested.items()
            if n is not None
        }

    def _find_listed(self) -> dict[str, int]:
        """Return the numbers of values of lists that `n_levels` says nothing of."""
        requested = self._find_requested()
        return {
            name: int(dimension.n_levels)
            for name, dimension in self.space.dimensions.items()
            if dimension.distribution is None and name not in requested
        }

    def _fix_levels(self, listed: dict[str, int]) -> dict[str, int]:
        """Return the number of levels of each dimension, 1 for those that are open."""
        ones = dict.fromkeys(self.space.dimensions, 1)
        return ones | self._find_requested() | listed

    def _find_thinned(self, n_levels: dict[str, int]) -> list[str]:
        """Return the lists that some values are left out of, but not all but one."""
        listed = self._find_listed().items()
        return [name for name, n in listed if 1 < n_levels[name] < n]

    def _check_n_levels(self):
        dimensions = self.space.dimensions
        if unknown := set(self.n_levels) - {*self.space.names, *dimensions}:
            raise ValueError(
                f"n_levels names {sorted(unknown, key=str)}, but the hyperparameters "
                f"are {list(self.space.names)}"
            )
        for name, n in self.n_levels.items():
            if not isinstance(n, Integral) or n < 1:
                raise ValueError(f"n_levels[{name!r}] must be an int >= 1, got {n!r}")
            if name in dimensions and not dimensions[name].ordered:
                raise ValueError(
                    f"n_levels names {name!r}, which has no order: its levels are all "
                    "its values"
                )

    def _count_levels(self) -> dict[str, int]:
        """Return the number of levels of each dimension."""
        dimensions = self.space.dimensions
        listed = self._find_listed()
        # In the first stage this is an error.
        if not self.is_first_stage and self.least_n_iter > self._budget:
            listed = {}
        requested = self._find_requested() | listed
        n_levels = self._fix_levels(listed)
        growing = []

        def refine(names, n):
            return n_levels | {name: _n_levels(dimensions[name], n) for name in names}

        def fits(n_levels):
            n_candidates = self._count_candidates(n_levels, self._budget + 1)
            return n_candidates <= self._budget

        # A dimension without a second level is held; no other one stays behind.
        for name in dimensions:
            if name not in requested and fits(refine([name], 2)):
                n_levels = refine([name], 2)
                growing.append(name)
        n = bisect_right(
            range(self._budget + 1),
            False,
            lo=2,
            key=lambda n: not fits(refine(growing, n)),
        )
        n_levels = refine(growing, n - 1)
        for name in growing:
            if fits(refine([name], n)):
                n_levels = refine([name], n)
        return n_levels

    def _count_candidates(
        self, n_levels: dict[str, int], most: int | None = None
    ) -> int:
        """Return the size of a grid, with the initial candidates that are not on it.

        The grid itself is not counted any further than to `most`.
        """
        initial = distinct(map(self.space.active, self.initial_candidates or []))
        n_on_grid = len(self._find_on_grid(initial, n_levels))
        n_points = self._count(self._make_grids(n_levels), most)
        return n_points + len(initial) - n_on_grid

    def _count(
        self, grids: list[dict[str, Sequence[float]]], most: int | None = None
    ) -> int:
        """Return how many candidates of grids are allowed; if many, how many there are.

        Without a constraint they are not made for it.
        """
        n_points = sum(math.prod(map(len, grid.values())) for grid in grids)
        if self.space.constraint is None or n_points > MAX_COUNTED:
            return n_points
        points = ParameterGrid([self._decode_levels(grid) for grid in grids])
        allowed = filter(self.space.allows, map(self.space.active, points))
        return sum(1 for _ in islice(allowed, most))

    def _decode_levels(self, grid):
        """Return a grid whose codes keep their values, each decoded only once."""
        dimensions = self.space.dimensions
        return {
            name: [dimensions[name].keep(code) for code in codes]
            for name, codes in grid.items()
        }

    def _find_on_grid(
        self, candidates: list[Candidate], n_levels: dict[str, int]
    ) -> list[Candidate]:
        """Return those of the candidates that are on a grid."""
        levels = self._make_levels(n_levels)
        return [
            candidate
            for candidate in candidates
            if all(code in levels[name] for name, code in candidate.items())
        ]

    def _make_levels(self, n_levels: dict[str, int]) -> dict[str, Sequence[float]]:
        """Return the codes of the levels of each dimension."""
        best = self.initial_candidates[0] if self.initial_candidates else {}
        held = self.space.complete(best)
        return {
            name: [held[name]] if n == 1 else _Levels(self.space.dimensions[name], n)
            for name, n in n_levels.items()
        }

    def _make_grids(self, n_levels: dict[str, int]) -> list[dict[str, Sequence[float]]]:
        """Return a grid for each combination of the levels that others depend on."""
        levels = self._make_levels(n_levels)
        grids = []
        for point in self._combine_parents(levels):
            active = self.space.active(self.space.complete(point))
            grids.append({name: levels[name] for name in active})
            grids[-1] |= {parent: [code] for parent, code in point.items()}
        return grids

    def _combine_parents(self, levels: dict[str, Sequence[float]]) -> list[Candidate]:
        """Return the combinations of the levels that others depend on."""
        conditions = self.space.conditions
        parents = {c.parent for own in conditions.values() for c in own} & set(levels)

        def extend(point, parent):
            if all(condition.holds(point) for condition in conditions.get(parent, ())):
                return [{**point, parent: code} for code in levels[parent]]
            return [point]

        points: list[Candidate] = [{}]
        # What depends on another one has a condition more, so it comes later.
        for parent in sorted(parents, key=lambda p: (len(conditions.get(p, ())), p)):
            points = [longer for point in points for longer in extend(point, parent)]
        return points

    def _find_held(self, n_levels, grids) -> list[str]:
        """Return the dimensions that the budget does not allow two levels of."""
        requested = self._find_requested()
        used = {name for grid in grids for name in grid}
        return [
            name
            for name, n in n_levels.items()
            if n == 1 and name in used and name not in requested
        ]


class _Levels(Sequence):
    """The middles of `n` equal cells of a range, in codes.

    Levels from end to end would be worse. The ends are quantiles of 1e-6 where there
    are no bounds, mere margin in a narrowed space, and else the extremes; of two
    levels, which is what most budgets allow, both would be ends. The mean square of the
    distance from a value at random to the next level would be (n / (n - 1)) ** 2 times
    what it is.
    """

    def __init__(self, dimension: Continuous | Discrete, n: int):
        self.dimension = dimension
        self.n = n
        # Of what is rounded, as the middles of several cells may be the same.
        self._multiples: Any = (
            dimension.spread(n) if isinstance(dimension, Stepped) else None
        )

    def __len__(self):
        return self.n

    def __getitem__(self, index: Any) -> Any:
        i, low = range(self.n)[index], self.dimension.low
        if isinstance(self.dimension, Stepped):
            return self.dimension.find_code(int(self._multiples[i]))
        if isinstance(self.dimension, Continuous):
            width = self.dimension.high - low
            return low + (i + 0.5) * (width / self.n)
        # The value in the middle of a cell, or of two the lower.
        return low + ((2 * i + 1) * int(self.dimension.n_levels) - 1) // (2 * self.n)

    def __contains__(self, code: Any) -> bool:
        if isinstance(self.dimension, Stepped):
            multiple = self.dimension.find_multiple(code)
            is_level = multiple in self._multiples
            return is_level and self.dimension.find_code(multiple) == code
        i = int(self.dimension.unit(code) * self.n)
        return any(self[j] == code for j in range(max(i - 1, 0), min(i + 2, self.n)))


def _n_levels(dimension: Continuous | Discrete, n: int) -> int:
    """Return the number of levels of a dimension if there should be `n`."""
    if math.isinf(dimension.n_levels):
        return n
    n_values = int(dimension.n_levels)
    return min(n, n_values) if dimension.ordered else n_values
