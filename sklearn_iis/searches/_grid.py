"""Grid search: GridSearchCV."""

import math
import warnings
from numbers import Integral

import numpy as np
from sklearn.model_selection import GridSearchCV, ParameterGrid
from sklearn.utils._param_validation import Interval

from sklearn_iis.searches._base import BaseStageSearchCV, Evaluation
from sklearn_iis.space import Continuous, Discrete, distinct


class StageGridSearchCV(BaseStageSearchCV, GridSearchCV):
    """Grid search: regular levels of each hyperparameter, in all combinations.

    Unlike other searches it may leave a part of its budget, as a grid has the size that
    it has.

    The levels of an ordered hyperparameter are the middles of as many equal cells of
    its range, in codes, so that no value is further than half a cell from a level. To
    search certain values, give them as a list. Unordered hyperparameters have all their
    values as levels. Candidates with fewer layers are not multiplied by the levels of
    those that they lack.

    Parameters
    ----------
    estimator, space, n_iter, seeds, scoring, n_jobs, refit, cv, verbose, \
    pre_dispatch, random_state, error_score, return_train_score
        See :class:`BaseStageSearchCV`; but `n_iter` is the largest number of
        candidates. Nothing is random.

    n_levels : int or dict of str to int, default=None
        The number of levels of all ordered hyperparameters, or of some by their names,
        also by that of a layer such as "n_filters[0]"; there are fewer levels if there
        are fewer values. The others, by default all of them, have as many as `n_iter`
        allows, and numbers as equal as possible. Where it does not allow two levels of
        a hyperparameter, the first in the space come first; the others are held at
        their values in the first seed, or else in the middle of their ranges, with a
        warning.

    Raises
    ------
    ValueError
        By `fit`: if the grid that `n_levels` asks for does not fit the budget, or if
        `n_levels` names what is no ordered hyperparameter.
    """

    plans_ahead = True

    _parameter_constraints: dict = {
        **BaseStageSearchCV._parameter_constraints,
        "n_levels": [Interval(Integral, 1, None, closed="left"), dict, None],
    }

    def __init__(
        self,
        estimator,
        space,
        *,
        n_iter=10,
        seeds=None,
        n_levels=None,
        scoring=None,
        n_jobs=None,
        refit=False,
        cv=None,
        verbose=0,
        pre_dispatch="2*n_jobs",
        random_state=None,
        error_score=np.nan,
        return_train_score=False,
    ):
        super().__init__(
            estimator,
            space,
            n_iter=n_iter,
            seeds=seeds,
            scoring=scoring,
            n_jobs=n_jobs,
            refit=refit,
            cv=cv,
            verbose=verbose,
            pre_dispatch=pre_dispatch,
            random_state=random_state,
            error_score=error_score,
            return_train_score=return_train_score,
        )
        self.n_levels = n_levels

    @property
    def param_grid(self) -> list[dict[str, list[float]]]:
        """What :class:`~sklearn.model_selection.GridSearchCV` combines.

        A grid of codes for each number of layers, without those beyond it.
        """
        return self._make_grids(self._count_levels())

    @property
    def n_evaluations(self) -> int:
        """How many evaluations are planned, those of all splits counting as one."""
        return min(self.n_iter, self._count_candidates(self._count_levels()))

    def check_budget(self) -> None:
        """Raise an error if the settings are wrong, or the grid exceeds `n_iter`."""
        super().check_budget()
        n_candidates = _size(self._make_grids(self._count_levels()))
        if self.n_levels is not None and n_candidates > self.n_iter:
            raise ValueError(
                f"n_levels={self.n_levels!r} makes a grid of {n_candidates} candidates "
                f"and the budget is n_iter={self.n_iter}: raise it, lower n_levels, or "
                "leave n_levels out for the finest grid that fits"
            )

    def _search(
        self, evaluate: Evaluation, random_state: np.random.RandomState
    ) -> None:
        if held := self._find_held():
            warnings.warn(
                f"n_iter={self.n_iter} allows no grid with two levels of {held}, which "
                "are not searched: raise it, or choose another search",
                stacklevel=3,
            )
        grid = [self.space.active(codes) for codes in ParameterGrid(self.param_grid)]
        seeds = distinct(map(self.space.active, self.seeds or []))
        # Where the grid takes the budget, the last of the seeds that are not on it go.
        n_others = self.n_iter - len(grid)
        others = [codes for codes in seeds if codes not in grid][:n_others]
        evaluate([c for c in seeds if c in others or c in grid] + grid)

    def _spend_rest(
        self, evaluate: Evaluation, random_state: np.random.RandomState
    ) -> None:
        """Spend nothing but what the grid takes."""
        if not self.space.dimensions:
            evaluate([{}])

    def _find_requested(self) -> dict[str, int]:
        """Return the number of levels of each dimension that `n_levels` asks for."""
        dimensions = self.space.dimensions
        if isinstance(self.n_levels, dict):
            self._check_n_levels()
            requested = {
                name: self.n_levels.get(name, self.n_levels.get(_plain_name(name)))
                for name in dimensions
            }
        else:
            requested = dict.fromkeys(dimensions, self.n_levels)
        return {
            name: _n_levels(dimensions[name], n)
            for name, n in requested.items()
            if n is not None
        }

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
        requested = self._find_requested()
        n_levels = dict.fromkeys(dimensions, 1) | requested
        growing = [name for name in dimensions if name not in requested]
        for n in range(2, self.n_iter + 1):
            fitting = []
            for name in growing:
                finer = n_levels | {name: _n_levels(dimensions[name], n)}
                if self._count_candidates(finer) <= self.n_iter:
                    n_levels = finer
                    fitting.append(name)
            # What has no second level is held; otherwise none stays behind the others.
            if n > 2 and len(fitting) < len(growing):
                break
            growing = [
                name for name in fitting if n_levels[name] < dimensions[name].n_levels
            ]
        return n_levels

    def _count_candidates(self, n_levels: dict[str, int]) -> int:
        """Return how many candidates a grid has, with the seeds that are not on it."""
        levels = self._make_levels(n_levels)
        seeds = distinct(self.space.active(codes) for codes in self.seeds or [])
        on_grid = [
            all(code in levels[name] for name, code in codes.items()) for codes in seeds
        ]
        return _size(self._make_grids(n_levels)) + len(seeds) - sum(on_grid)

    def _make_levels(self, n_levels: dict[str, int]) -> dict[str, list[float]]:
        """Return the codes of the levels of each dimension."""
        held = self.space.complete(self.seeds[0] if self.seeds else {})
        return {
            name: [held[name]] if n == 1 else _levels(self.space.dimensions[name], n)
            for name, n in n_levels.items()
        }

    def _make_grids(self, n_levels: dict[str, int]) -> list[dict[str, list[float]]]:
        """Return a grid for each combination of the levels of all depths."""
        levels = self._make_levels(n_levels)
        depths = {depth for depth, _ in self.space.conditions.values()} & set(levels)
        grids = []
        for point in ParameterGrid({depth: levels[depth] for depth in depths}):
            active = self.space.active(self.space.complete(point))
            grids.append({name: levels[name] for name in active})
            grids[-1] |= {depth: [code] for depth, code in point.items()}
        return grids

    def _find_held(self) -> list[str]:
        """Return the dimensions that the budget does not allow two levels of."""
        requested = self._find_requested()
        used = {name for grid in self.param_grid for name in grid}
        return [
            name
            for name, n in self._count_levels().items()
            if n == 1 and name in used and name not in requested
        ]


def _plain_name(name):
    """Return the hyperparameter that a code belongs to."""
    return name.partition("[")[0]


def _n_levels(dimension: Continuous | Discrete, n: int) -> int:
    """Return the number of levels of a dimension if there should be `n`."""
    if isinstance(dimension, Continuous):
        return n
    n_values = int(dimension.n_levels)
    return min(n, n_values) if dimension.ordered else n_values


def _levels(dimension: Continuous | Discrete, n: int) -> list[float]:
    """Return the middles of `n` equal cells of a range, in codes.

    Levels from end to end would be worse. The ends are quantiles of 1e-6 where there
    are no bounds, mere margin in a narrowed space, and else the extremes; of two
    levels, which is what most budgets allow, both would be ends. The mean square of the
    distance from a value at random to the next level would be (n / (n - 1)) ** 2 times
    what it is.
    """
    if isinstance(dimension, Continuous):
        width = (dimension.high - dimension.low) / n
        return [dimension.low + (i + 0.5) * width for i in range(n)]
    # The value in the middle of a cell, or of two the lower.
    n_values = int(dimension.n_levels)
    return [dimension.low + ((2 * i + 1) * n_values - 1) // (2 * n) for i in range(n)]


def _size(grids: list[dict[str, list[float]]]) -> int:
    """Return the number of candidates; they are not made for it."""
    return sum(math.prod(map(len, grid.values())) for grid in grids)
