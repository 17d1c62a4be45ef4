"""Hyperband: many candidates with few resources, the best of them with more."""

import math
import warnings
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, islice
from numbers import Integral, Real
from typing import Any, ClassVar, NamedTuple

import numpy as np

from sklearn_iis._sklearn_compat import Interval
from sklearn_iis.searches._base import ROUNDING, Evaluator, Search
from sklearn_iis.space import Candidate, distinct

# The resource that is found by itself: the epochs of CNNClassifier.
RESOURCE = "max_epochs"


class Rung(NamedTuple):
    """A step of a bracket: the number of candidates, and their resources."""

    n_candidates: int
    n_resources: float


@dataclass(eq=False, repr=False, kw_only=True)
class StageHyperbandSearchCV(Search):
    """Random search that gives most resources to the best candidates: Hyperband.

    A bracket of successive halving evaluates many candidates with few resources, the
    best `1 / factor` of them with `factor` times as many, and so on until
    `max_resources`. Hyperband [1]_ runs several brackets, the first of which starts
    with the most candidates and the fewest resources, while the last one is random
    search. The brackets share the budget equally.

    A candidate that failed is not promoted. A promoted one goes on with its training,
    if this is known to give what training from the start gives: epochs of
    `CNNClassifier`, unless its schedule ends with them, `n_estimators` of
    scikit-learn's ensembles with `warm_start`, and any parameter that an estimator with
    `warm_start` lists in an attribute `warm_start_parameters`. Otherwise it is fitted
    again; so are ensembles that stop early, score out of bag, balance classes or have a
    `RandomState`.

    Parameters
    ----------
    estimator, space, n_iter, initial_candidates, scoring, n_jobs, refit, cv, verbose, \
    pre_dispatch, random_state, error_score, return_train_score
        See :class:`Search`. But `n_iter`, which must not be None, is the budget in
        evaluations with `max_resources`: one with fewer costs as much less, and one
        that goes on is counted as if it did not. Initial candidates come first in the
        first bracket. A candidate has a row in `cv_results_` for each amount of
        resources that it was evaluated with, and that is one of its parameters.

    resource : str, default=None
        A numeric parameter of the estimator, such as the `fraction` of a
        :class:`~sklearn_iis.SubsetEstimator`. None means the one called `max_epochs`,
        in any step of a pipeline.

    max_resources : int or float, default=None
        The most resources that a candidate gets; whole numbers if this is one. None
        means what the estimator has.

    min_resources : int or float, default=None
        The least resources. The first bracket starts with `max_resources` divided by a
        power of `factor`, with no less than this. None means 1; there is no default if
        `max_resources` is not a whole number.

    factor : int, default=3
        By which the resources grow, and the number of candidates shrinks; at least 2.

    n_brackets : int, default=None
        The most brackets; 1 is successive halving. None means one for each number of
        promotions from 0 to the most that `min_resources` and the budget allow: `k`
        brackets need an `n_iter` of `k ** 2`, and there are never more.

    Attributes
    ----------
    cv_results_ : dict of str to ndarray or list
        With these columns besides: `n_resources`, and `bracket`, which is the number of
        promotions that the bracket has.

    References
    ----------
    .. [1] L. Li, K. Jamieson, G. DeSalvo, A. Rostamizadeh, A. Talwalkar, "Hyperband: A
       Novel Bandit-Based Approach to Hyperparameter Optimization", Journal of Machine
       Learning Research 18(185), 2018, algorithm 1.
    """

    resource: str | None = None
    max_resources: float | None = None
    min_resources: float | None = None
    factor: int = 3
    n_brackets: int | None = None

    is_unlimited: ClassVar[bool] = False
    replans_on_budget_change: ClassVar[bool] = True
    can_inherit: ClassVar[bool] = False
    can_end_early: ClassVar[bool] = False

    _parameter_constraints: ClassVar[dict] = {
        **Search._parameter_constraints,
        "resource": [str, None],
        "max_resources": [Interval(Real, 0, None, closed="neither"), None],
        "min_resources": [Interval(Real, 0, None, closed="neither"), None],
        "factor": [Interval(Integral, 2, None, closed="left")],
        "n_brackets": [Interval(Integral, 1, None, closed="left"), None],
    }

    @property
    def n_evaluations(self) -> int:
        """The number of rows that are planned."""
        return sum(
            rung.n_candidates for rungs in self._make_brackets() for rung in rungs
        )

    def check_budget(self) -> None:
        """Raise an error if the settings are wrong, or there is no such resource."""
        super().check_budget()
        self._make_brackets()

    def run(self, evaluate: Evaluator, random_state: np.random.RandomState) -> None:
        """Evaluate one bracket after the other."""
        waiting = distinct(map(self.space.active, self.initial_candidates or []))
        for rungs in self._make_brackets():
            n_candidates = rungs[0].n_candidates
            first, waiting = waiting[:n_candidates], waiting[n_candidates:]
            drawn = self.space.draw(
                random_state=random_state,
                exclude=[*map(self.space.active, evaluate.candidates), *first],
            )
            promoted: Iterable[Candidate] = chain(first, drawn)
            sizes = [*(rung.n_candidates for rung in rungs[1:]), 0]
            for rung, n_promoted in zip(rungs, sizes, strict=True):
                candidates, scores = self._evaluate_rung(
                    evaluate,
                    islice(promoted, rung.n_candidates),
                    rung.n_resources,
                    bracket=len(rungs) - 1,
                )
                ranked = np.argsort(-scores, kind="stable")
                kept = [i for i in ranked if np.isfinite(scores[i])][:n_promoted]
                promoted = [candidates[i] for i in kept]
                dropped = set(range(len(candidates))).difference(kept)
                evaluate.forget(candidates[i] for i in dropped)

    def _spend_rest(
        self, evaluate: Evaluator, random_state: np.random.RandomState
    ) -> None:
        """Spend what is left: on candidates at random, with all resources."""
        resource, _, most = self._find_resources()
        n_candidates = int(evaluate.remaining + ROUNDING)
        drawn = self.space.draw(
            random_state=random_state,
            exclude=[
                self.space.active(candidate)
                for candidate in evaluate.candidates
                if candidate[resource] == most
            ],
        )
        candidates, _ = self._evaluate_rung(
            evaluate, islice(drawn, n_candidates), most, bracket=0
        )
        if len(candidates) < n_candidates:
            n_distinct = len(distinct(map(self.space.active, evaluate.candidates)))
            warnings.warn(
                f"n_iter={self.n_iter} evaluations with {resource}={most} are asked "
                f"for, but no more than {n_distinct} different candidates were found "
                "in the space",
                stacklevel=3,
            )

    def _evaluate_rung(
        self,
        evaluate: Evaluator,
        candidates: Iterable[Candidate],
        n_resources: float,
        *,
        bracket: int,
    ) -> tuple[list[Candidate], np.ndarray]:
        """Evaluate candidates, each drawn when it is needed; return them and scores."""
        resource, _, most = self._find_resources()
        evaluated: list[Candidate] = []

        def draw():
            for codes in candidates:
                evaluated.append(codes)
                yield codes

        scores = evaluate(
            draw(),
            params={resource: n_resources},
            cost=n_resources / most,
            n_resources=n_resources,
            bracket=bracket,
        )
        return evaluated, scores

    def _find_resources(self) -> tuple[str, Any, Any]:
        """Return the parameter that is the resource, its least and largest value."""
        resource = self._find_resource()
        own = self.estimator.get_params()[resource]
        most: Any = self.max_resources or own
        if isinstance(most, bool) or not isinstance(most, Real) or float(most) <= 0:
            raise ValueError(
                f"max_resources must be a number > 0, and {resource} is {most!r}"
            )
        whole = isinstance(own if isinstance(own, Real) else most, Integral)
        least: Any = self.min_resources or (1 if whole else None)
        if least is None:
            raise ValueError(
                f"min_resources must be given, as {resource}={most!r} is not a whole "
                "number: the least value that is worth a try"
            )
        if whole:
            if float(least) % 1 or float(most) % 1:
                raise ValueError(
                    f"min_resources={least} and max_resources={most} must be whole "
                    f"numbers, as {resource} is one"
                )
            least, most = int(float(least)), int(float(most))
        if least > most:
            raise ValueError(
                f"min_resources={least} must not be more than max_resources={most}"
            )
        return resource, least, most

    def _find_resource(self):
        name, params = type(self.estimator).__name__, self.estimator.get_params()
        resource = self.resource
        if resource is None:
            found = [param for param in params if param.rpartition("__")[2] == RESOURCE]
            if len(found) != 1:
                raise ValueError(
                    f"{name} has {len(found)} parameters called "
                    f"{RESOURCE!r}: name the parameter that is the resource, such as "
                    'the number of trees, by search_params={"resource": ...}'
                )
            resource = found[0]
        if resource not in params:
            raise ValueError(
                f"resource={resource!r} is no parameter of {name}; "
                f"it has {sorted(params)}"
            )
        if resource in self.space.names or resource in self.fixed_params:
            raise ValueError(
                f"{resource!r} cannot be the resource, as it is searched itself, or "
                "the parameter that the sizes are values of"
            )
        return resource

    def _make_brackets(self) -> list[list[Rung]]:
        """Plan the brackets, the one with the most rungs first."""
        _, least, most = self._find_resources()
        n_iter = self.n_iter or 0  # which is refused
        n_promotions = math.floor(math.log(most / least, self.factor) + ROUNDING)
        # A bracket of k rungs costs k evaluations with all resources, or more.
        n_brackets = min(n_promotions + 1, math.isqrt(n_iter))
        if self.n_brackets is None:
            n_promotions = n_brackets - 1
        else:
            n_brackets = min(self.n_brackets, n_brackets)
            n_promotions = min(n_promotions, n_iter // n_brackets - 1)
        brackets = []
        budget = float(n_iter)
        for i in range(n_brackets):
            bracket = _Bracket(n_promotions - i, most, self.factor)
            n_candidates = bracket.most_candidates(budget / (n_brackets - i))
            budget -= bracket.cost(n_candidates)
            brackets.append(bracket.rungs(n_candidates))
        if n_left := int(budget + ROUNDING):
            brackets.append([Rung(n_left, most)])
        return brackets


class _Bracket(NamedTuple):
    """Successive halving, whatever the number of candidates is."""

    n_promotions: int
    max_resources: float
    factor: int

    def rungs(self, n_candidates: int) -> list[Rung]:
        return [
            Rung(
                n_candidates // self.factor**i,
                self._resources(self.n_promotions - i),
            )
            for i in range(self.n_promotions + 1)
        ]

    def cost(self, n_candidates: int) -> float:
        """Return what it takes, in evaluations with all resources."""
        return sum(n * r / self.max_resources for n, r in self.rungs(n_candidates))

    def most_candidates(self, budget: float) -> int:
        """Return the largest number of candidates that a budget allows."""
        most = math.ceil(
            budget * self.max_resources / self._resources(self.n_promotions)
        )
        return bisect_right(range(most + 1), budget + ROUNDING, key=self.cost) - 1

    def _resources(self, n_promotions_left):
        # With no more than the exact fraction, `factor ** k` candidates cost `k + 1`.
        resources = self.max_resources / self.factor**n_promotions_left
        return int(resources) if isinstance(self.max_resources, Integral) else resources
