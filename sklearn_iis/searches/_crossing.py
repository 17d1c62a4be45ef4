"""The base of searches that run all stages at once."""

import math
import warnings
from dataclasses import dataclass
from numbers import Integral
from typing import Any, ClassVar

import numpy as np

from sklearn_iis._sklearn_compat import Interval
from sklearn_iis.searches._base import Evaluator, Search, exhaust


@dataclass(eq=False, repr=False, kw_only=True)
class CrossingSearch(Search):
    """Base class of searches that run all stages at once.

    A subclass implements `iterate`, by rows that say which stage they are of.

    Parameters
    ----------
    estimator, space, initial_candidates, scoring, n_jobs, refit, cv, verbose, \
    pre_dispatch, random_state, error_score, return_train_score
        See :class:`Search`.

    n_iter : int, or list of int or None, default=10
        Number of candidates, in all stages. None, for stages of a search with a
        `timeout`, means as many as there is time for.
    """

    crosses_stages: ClassVar[bool] = True
    can_end_early: ClassVar[bool] = False

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **Search._parameter_constraints,
        "n_iter": [Interval(Integral, 1, None, closed="left"), list, None],
    }

    @property
    def budgets(self) -> list[int | None]:
        """The number of candidates of each stage."""
        return self.n_iter if isinstance(self.n_iter, list) else [self.n_iter]

    def run(self, evaluate: Evaluator, random_state: np.random.RandomState) -> None:
        """Do what :meth:`iterate` does, without a pause."""
        exhaust(self.iterate(evaluate, random_state))

    def _list_stages(self, evaluate: Evaluator) -> list[int]:
        """Return the indices of the stages; raise an error if the budget is not theirs.

        If weights are inherited, there are also the stages before.
        """
        scheduler, n_stages = evaluate.scheduler, len(self.budgets)
        stages = sorted(scheduler.job.fidelities)
        if n_stages > len(stages):
            raise ValueError(
                f"n_iter={self.n_iter} has a number for each of {n_stages} stages, and "
                f"there are {len(stages)}"
            )
        if None in self.budgets and scheduler.deadline.end == math.inf:
            raise ValueError("n_iter=None is for the stages of a search with a timeout")
        return stages[-n_stages:]

    def _warn_of_exhaustion(self, evaluate: Evaluator) -> None:
        """Tell that the space holds fewer candidates than the budget would allow."""
        warnings.warn(
            f"n_iter={self.n_iter} candidates are asked for, but no more than "
            f"{len(evaluate.candidates)} different ones were found in the space",
            stacklevel=5,
        )

    def _spend_rest(
        self, evaluate: Evaluator, random_state: np.random.RandomState
    ) -> None:
        """Climb with the only candidate if there is nothing to choose."""
        if not self.space.dimensions:
            self.run(evaluate, random_state)
