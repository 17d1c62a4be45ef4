"""Fabolas: Bayesian search that chooses the size of an evaluation by gain per cost."""

import math
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from itertools import islice
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from threadpoolctl import threadpool_limits

from sklearn_iis._sklearn_compat import Interval
from sklearn_iis.execution._averaging import is_usable
from sklearn_iis.execution._record import Row
from sklearn_iis.searches._base import ROUNDING, Evaluator
from sklearn_iis.searches._crossing import CrossingSearch
from sklearn_iis.searches._fidelity import (
    CostModel,
    FidelityModel,
    expect_gains,
    to_columns,
)
from sklearn_iis.space import Candidate, as_key, distinct

# Candidates at random among which a proposal is sought, and what follows: so many
# around each of so many of the best, ever closer by a factor.
N_RANDOM = 300
N_AROUND = 16
N_BEST = 8
N_ROUNDS = 5
CLOSER = 0.4
WIDTH = 0.2

# How far a score may be below the median of the first ones, in distances of the best.
WORST = 5.0


@dataclass(eq=False, repr=False, kw_only=True)
class StageFabolasSearchCV(CrossingSearch):
    """Bayesian search over all image sizes at once, as Fabolas [1]_.

    One Gaussian process models the scores at all sizes. Each evaluation is that of the
    candidate and size which promise the most improvement at the last size per cost: of
    a smaller size, by how much its score would tell of the candidate's score at the
    last one (see Notes). So much is tried on small images, as far as these agree with
    large ones, and only what is promising is evaluated on large ones. Do not use it

    - where an evaluation takes less than a second: a proposal takes a few tenths, and
      more with hundreds of candidates;
    - in spaces of more than about 20 hyperparameters, or mostly of choices;
    - with weights that are inherited, of which it knows nothing (an error): "ladder"
      suits them.

    The first candidates are drawn at random, and evaluated at the first size: a third
    of the budget, at most 10. The best of them is evaluated at each other size.

    Parameters
    ----------
    estimator, space, initial_candidates, scoring, n_jobs, refit, cv, verbose, \
    pre_dispatch, random_state, error_score, return_train_score
        See :class:`Search`. Initial candidates are evaluated at the first size.

    n_iter : int, or list of int or None, default=10
        What is spent: as much as so many candidates of each stage cost by pixels and
        epochs. How many there are of each size is up to the search. None, for stages of
        a search with a `timeout`, means as many as there is time for; then costs are
        seconds as measured, otherwise they are in proportion to pixels and epochs, so
        that the same `random_state` gives the same candidates.

    n_points : int, default=None
        Candidates proposed at once, and evaluated in parallel. None means one by one,
        each when a worker is free for it, so that proposals depend on which candidates
        are done by then: set it for candidates that are the same for any `n_jobs`. What
        is under way is taken to come out as predicted.

    Attributes
    ----------
    order_ : ndarray of shape (n_rows,) of int
        Where each row stands in the order in which those of all stages were begun.

    Notes
    -----
    Klein et al. choose by the entropy of where the optimum is, by the size of the
    training set. Here the size is that of the images, or whatever else grows from stage
    to stage, and the choice is by improvement: the expected improvement at the last
    size; at a smaller one, how much an optimal decision on the same candidate would
    gain by its score, as in the knowledge gradient [2]_.

    References
    ----------
    .. [1] A. Klein, S. Falkner, S. Bartels, P. Hennig, F. Hutter, "Fast Bayesian
       Optimization of Machine Learning Hyperparameters on Large Datasets", AISTATS
       2017. :arxiv:`1605.07079`
    .. [2] J. Wu, S. Toscano-Palmerin, P. I. Frazier, A. G. Wilson, "Practical
       Multi-fidelity Bayesian Optimization for Hyperparameter Tuning", UAI 2019.
       :arxiv:`1903.04703`

    Examples
    --------
    >>> from scipy.stats import loguniform
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import SGDClassifier
    >>> from sklearn_iis import IISSearchCV
    >>> search = IISSearchCV(
    ...     SGDClassifier(tol=None, random_state=0),
    ...     {"alpha": loguniform(1e-6, 1)},
    ...     search="fabolas",
    ...     sizes=(2, 10),
    ...     size_param="max_iter",
    ...     n_iter=(6, 2),
    ...     cv=2,
    ...     random_state=0,
    ... )
    >>> bool(search.fit(*load_digits(return_X_y=True)).best_score_ > 0.85)
    True
    """

    n_points: int | None = None

    can_inherit: ClassVar[bool] = False

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **CrossingSearch._parameter_constraints,
        "n_points": [Interval(Integral, 1, None, closed="left"), None],
    }

    @property
    def is_asynchronous(self) -> bool:
        """Whether it proposes a candidate whenever a worker is free."""
        return self.n_points is None

    @property
    def is_timed(self) -> bool:
        """Whether time is the budget."""
        return None in self.budgets

    @property
    def n_evaluations(self) -> int | None:
        """How many rows are planned; None if it decides on that as it goes."""
        return self.budgets[0] if len(self.budgets) == 1 else None

    def check_budget(self) -> None:
        """Raise an error if a setting is wrong."""
        super().check_budget()
        if self.is_timed and any(n is not None for n in self.budgets):
            raise ValueError(
                f"n_iter={self.n_iter} of a search that decides on sizes itself must "
                "be a number for each stage, or None for all of them"
            )

    def iterate(
        self, evaluate: Evaluator, random_state: np.random.RandomState
    ) -> Iterator[None]:
        """Evaluate whatever promises most per cost, and yield between two of them."""
        stages = self._list_stages(evaluate)
        fabolas = _Fabolas(self, evaluate, stages, random_state)
        yield from fabolas.iterate()
        if fabolas.is_exhausted and not self.is_timed:
            self._warn_of_exhaustion(evaluate)


class _Fabolas:
    """The state of a search: evaluations at each size, and the choice of the next."""

    def __init__(
        self,
        search: StageFabolasSearchCV,
        evaluate: Evaluator,
        stages: list[int],
        random_state: np.random.RandomState,
    ):
        self.search = search
        self.space = search.space
        self.evaluate = evaluate
        self.scheduler = evaluate.scheduler
        self.random_state = random_state
        # Those that begin are the same however many there are.
        self.spare = self.space.draw(random_state=deepcopy(random_state))
        self.stages = stages
        self.work = np.array(search.stage_work) / search.stage_work[-1]
        self.budget = math.inf
        if not search.is_timed:
            self.budget = float(np.dot([n or 0 for n in search.budgets], self.work))
        self.n_first = self._count_first()
        self.initial = iter(map(self.space.active, search.initial_candidates or []))
        # The stages that each candidate was begun in, from 0.
        self.begun: dict[Any, set[int]] = {}
        self.complete: list[Row] = []
        self.model = FidelityModel(len(stages))
        self.costs = CostModel(self.work)
        self.is_exhausted = False

    def iterate(self) -> Iterator[None]:
        """Evaluate until the budget is spent, or there is nothing left to choose."""
        n_points = self.search.n_points
        n_proposed = 0
        while True:
            if n_points is None:
                self.scheduler.wait_for_room(self.complete.append)
            elif n_proposed == n_points:
                self.scheduler.finish(self.complete.append)
                n_proposed = 0
            yield
            self.is_exhausted = False
            proposal = self._propose()
            if proposal is not None:
                self._submit(*proposal)
                n_proposed += 1
            elif any(not row.is_complete for row in self.scheduler.rows):
                # What it knows then may change that.
                if n_points is None:
                    self.scheduler.take(self.complete.append, block=True)
                n_proposed = n_points or 0
            else:
                return

    def _count_first(self):
        """Return how many candidates begin at random: a third of the budget."""
        climb = self.work[1:].sum()
        n_affordable = (self.budget - climb) / self.work[0]
        return 10 if self.search.is_timed else min(10, math.ceil(n_affordable / 3))

    @property
    def _spent(self):
        return sum(
            self.work[stage] for stages in self.begun.values() for stage in stages
        )

    def _is_affordable(self, stage):
        """Return whether all other sizes can be reached, and the last one, after it."""
        last = len(self.work) - 1
        begun = set().union(*self.begun.values(), {stage})
        missing = set(range(last + 1)) - begun
        reserve = sum(self.work[s] for s in missing)
        if not missing and stage < last:
            reserve = self.work[-1]
        return self._spent + self.work[stage] + reserve <= self.budget + ROUNDING

    def _submit(self, codes, stage):
        """Have a candidate evaluated in a stage."""
        row = Row(codes, self.scheduler.n_splits, {}, {}, self.stages[stage])
        self.begun.setdefault(as_key(codes), set()).add(stage)
        self.evaluate.register(row)
        self.scheduler.submit(row)

    def _propose(self) -> tuple[Candidate, int] | None:
        """Return what is next: a candidate, and a stage, from 0; None for nothing."""
        usable = [row for row in self.complete if is_usable(row)]
        new = self._next_initial()
        if new is None and (len(self.begun) < self.n_first or not usable):
            new = next((c for c in self.spare if as_key(c) not in self.begun), None)
            self.is_exhausted = new is None
        if new is not None and self._is_affordable(0):
            return new, 0
        if not usable:
            return None
        last = len(self.stages) - 1
        reached = max(row.stage for row in self.complete) - self.stages[0]
        n_begun = max(stage for stages in self.begun.values() for stage in stages)
        if n_begun == reached < last and self._is_affordable(reached + 1):
            # The best one at the largest size so far is the first at the next.
            best = max(usable, key=lambda row: (row.stage, row.score, -row.number))
            return best.codes, reached + 1
        allowed = [s for s in range(reached + 1) if self._is_affordable(s)]
        if not allowed:
            return None
        if not self.space.dimensions:
            self.is_exhausted = True
            return None
        with threadpool_limits(1):  # the matrices are small
            return self._choose(allowed)

    def _next_initial(self):
        """Return the next of the initial candidates; None if there is none."""
        return next(
            (
                codes
                for codes in self.initial
                if self.space.allows(codes) and as_key(codes) not in self.begun
            ),
            None,
        )

    def _choose(self, allowed: list[int]) -> tuple[Candidate, int] | None:
        """Return the candidate and stage that promise the most gain per cost."""
        best = self._learn()
        pool, gains = self._draw(), np.empty((0, len(self.stages)))
        for n_round in range(N_ROUNDS + 1):
            new = pool[len(gains) :]
            if new:
                gains = np.vstack([gains, self._rate(new, allowed, best)])
            if n_round < N_ROUNDS:
                ranked = np.argsort(-gains.max(axis=1, initial=-1), kind="stable")
                top = [pool[i] for i in ranked[:N_BEST]]
                pool += self._vary(top, WIDTH * CLOSER**n_round)
        if gains.max(initial=-1) < 0:
            self.is_exhausted = True
            return None
        index, stage = divmod(int(gains.argmax()), len(self.stages))
        return pool[index], stage

    def _learn(self):
        """Fit the models to all scores; return the best score to be improved on."""
        rows = sorted(self.complete, key=lambda row: row.number)
        points = to_columns(self.space, [row.codes for row in rows])
        stages = np.array([row.stage for row in rows]) - self.stages[0]
        scores = np.array([row.score if is_usable(row) else np.nan for row in rows])
        self.model.fit(points, stages, _bound(scores, self.n_first))
        if self.search.is_timed:
            seconds = np.array([_measure(row) for row in rows])
            self.costs.fit(points, stages, seconds)
        mean, _ = self.model.predict(points)
        is_last = stages == len(self.stages) - 1
        best = mean[is_last if is_last.any() else slice(None), -1].max()
        pending = [row for row in self.scheduler.rows if not row.is_complete]
        if pending:
            self.model.expect(
                to_columns(self.space, [row.codes for row in pending]),
                np.array([row.stage for row in pending]) - self.stages[0],
            )
        return best

    def _rate(self, candidates, allowed, best):
        """Return the gains per cost of candidates; -1 for what is not to be chosen."""
        points = to_columns(self.space, candidates)
        gains = expect_gains(*self.model.predict(points), self.model.noise, best)
        rates = np.full(gains.shape, -1.0)
        rates[:, allowed] = (gains / self.costs.predict(points))[:, allowed]
        for i, codes in enumerate(candidates):
            rates[i, [*self.begun.get(as_key(codes), ())]] = -1
        return rates

    def _draw(self):
        """Return candidates to choose from: those so far, and others at random."""
        n_stages = len(self.stages)
        known = [
            dict(key) for key, stages in self.begun.items() if len(stages) < n_stages
        ]
        done = (
            dict(key) for key, stages in self.begun.items() if len(stages) == n_stages
        )
        new = self.space.draw(random_state=self.random_state, exclude=done)
        return distinct([*known, *islice(new, N_RANDOM)])

    def _vary(self, candidates, width):
        """Return candidates near others, in a part of their hyperparameters."""
        rng, space = self.random_state, self.space
        dimensions = space.dimensions
        n_new = len(candidates) * N_AROUND
        moves = width * rng.standard_normal((n_new, len(dimensions)))
        moves *= rng.uniform(size=moves.shape) < max(0.5, 1 / len(dimensions))
        varied = []
        for i, steps in enumerate(moves):
            codes = space.complete(candidates[i // N_AROUND])
            for (name, dimension), step in zip(dimensions.items(), steps, strict=True):
                if step and dimension.ordered:
                    unit = dimension.unit(codes[name]) + step
                    codes[name] = dimension.from_unit(min(max(unit, 0.0), 1.0))
                elif step and rng.uniform() < width:
                    codes[name] = dimension.rvs(rng)
            varied.append(space.active(codes))
        return [codes for codes in distinct(varied) if space.allows(codes)]


def _bound(scores, n_first):
    """Return scores without the very worst, which would hide all other differences.

    They are at most `WORST` times as far below the median of the first ones as the best
    is above it. Those that are missing are the worst.
    """
    known = scores[np.isfinite(scores)]
    first = scores[:n_first]
    first = first[np.isfinite(first)]
    median = np.median(first if len(first) else known)
    if known.max() > median:
        known = known.clip(median - WORST * (known.max() - median))
    lowest = known.min()
    return np.where(np.isfinite(scores), scores.clip(lowest), lowest)


def _measure(row):
    """Return the seconds that a row has taken."""
    return sum(record.fit_time + record.score_time for record in row.in_order)
