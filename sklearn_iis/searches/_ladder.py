"""Ladder: asynchronous successive halving whose rungs are the stages of a search."""

import math
from bisect import insort
from collections import defaultdict
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from itertools import islice
from numbers import Integral
from typing import Any, ClassVar

import numpy as np

from sklearn_iis._sklearn_compat import Interval, StrOptions
from sklearn_iis.execution._averaging import is_usable
from sklearn_iis.execution._record import Row
from sklearn_iis.searches._base import Evaluator, Sampler
from sklearn_iis.searches._crossing import CrossingSearch
from sklearn_iis.searches._verdict import Verdict, judge
from sklearn_iis.space import SearchSpace, as_key

# Candidates next to be promoted, whose weights are kept.
N_NEXT = 8


class RandomSampler(Sampler):
    """Has all candidates drawn at random."""

    def __init__(self, space: SearchSpace, *, random_state: np.random.RandomState):
        pass

    def ask(self) -> None:
        """Leave it to the search."""

    def tell(self, candidate, score) -> None:
        """Learn nothing."""


@dataclass(eq=False, repr=False, kw_only=True)
class StageLadderSearchCV(CrossingSearch):
    """Successive halving over image sizes, without barriers: ASHA.

    Whenever a worker is free, the best candidate that is among the best `1 / factor` of
    its stage is promoted to the next one [1]_, from the last stage down; if there
    is none, a new candidate begins in the first stage. So larger sizes are reached
    early, and one round follows another as long as there is a budget.

    Sizes are watched while the search goes on, by the candidates that were evaluated at
    two of them, once there are 10. If their ranks contradict each other (Kendall's tau
    is below 0, one-sided p < .05), the smaller size is left out: candidates begin at
    the next one, and train at the smaller one only to inherit its weights. If the ranks
    do not agree (tau is not above 0), one of `(factor + 1) / 2` is promoted. If scores
    at the larger size are lower (p < .05, corrected for that the best are promoted),
    only one of `factor ** 2` is. Without inherited weights, and with time as the
    budget, the smaller size is left out as well if it is hardly cheaper. `verdict_`
    says so.

    Parameters
    ----------
    estimator, space, initial_candidates, scoring, n_jobs, refit, cv, verbose, \
    pre_dispatch, random_state, error_score, return_train_score
        See :class:`Search`.

    n_iter : int, or list of int or None, default=10
        Number of candidates, in all stages. None, for stages of a search with a
        `timeout`, means as many as there is time for. Once no new candidate may begin,
        the best are promoted until a stage has as many as it should.

    factor : int, default=3
        One of so many candidates is promoted; at least 2.

    n_brackets : int, default=1
        In how many stages candidates begin, as in Hyperband [2]_: 1 means all in the
        first; of 2, some begin at the second size, and so on. A bracket begins with as
        many candidates as costs it as much as the others if a stage costs `factor`
        times as much as the one before. Candidates compete with those of their bracket.

    sampler : {"random", "tpe"} or subclass of Sampler, default="random"
        Proposes new candidates, by the scores of the stage that they begin in. "tpe" is
        Optuna's `TPESampler` (needs the extra `tpe`).

    sampler_params : dict, default=None
        Further arguments of the sampler.

    Attributes
    ----------
    cv_results_ : dict of str to ndarray or list
        With the column `bracket` besides, if there are several: the stage that the
        candidate began in.

    order_ : ndarray of shape (n_rows,) of int
        Where each row stands in the order in which those of all stages were begun.

    verdict_ : str
        What was found of the stage: "used", or what was done about it.

    References
    ----------
    .. [1] L. Li, K. Jamieson, A. Rostamizadeh, E. Gonina, J. Ben-tzur, M. Hardt, B.
       Recht, A. Talwalkar, "A System for Massively Parallel Hyperparameter Tuning",
       MLSys 2020, algorithm 2. :arxiv:`1810.05934`
    .. [2] L. Li, K. Jamieson, G. DeSalvo, A. Rostamizadeh, A. Talwalkar, "Hyperband: A
       Novel Bandit-Based Approach to Hyperparameter Optimization", Journal of Machine
       Learning Research 18(185), 2018.
    """

    factor: int = 3
    n_brackets: int = 1
    sampler: Any = "random"
    sampler_params: dict[str, Any] | None = None

    _parameter_constraints: ClassVar[dict] = {
        **CrossingSearch._parameter_constraints,
        "factor": [Interval(Integral, 2, None, closed="left")],
        "n_brackets": [Interval(Integral, 1, None, closed="left")],
        "sampler": [StrOptions({"random", "tpe"}), type],
        "sampler_params": [dict, None],
    }

    @property
    def is_asynchronous(self) -> bool:
        """Whether it proposes a candidate whenever a worker is free."""
        return True

    @property
    def n_evaluations(self) -> int | None:
        """How many rows are planned; None if that is a matter of time."""
        counts = [n for n in self.budgets if n is not None]
        return sum(counts) if len(counts) == len(self.budgets) else None

    def check_budget(self) -> None:
        """Raise an error if a setting is wrong."""
        super().check_budget()
        if self.n_brackets > len(self.budgets):
            raise ValueError(
                f"n_brackets={self.n_brackets} must not be more than there are stages, "
                f"{len(self.budgets)}"
            )
        self.make_sampler(np.random.RandomState(0))

    def make_sampler(self, random_state: np.random.RandomState) -> Sampler:
        """Return what proposes the candidates that begin in a stage."""
        make: Any = self.sampler
        if make == "random":
            make = RandomSampler
        elif make == "tpe":
            make = _make_tpe
        params = self.sampler_params or {}
        return make(self.space, random_state=random_state, **params)

    def iterate(
        self, evaluate: Evaluator, random_state: np.random.RandomState
    ) -> Iterator[None]:
        """Promote candidates, or begin new ones, whenever a worker is free."""
        stages = self._list_stages(evaluate)
        ladder = _Ladder(self, evaluate, stages, random_state)
        try:
            yield from ladder.iterate()
        finally:
            self._verdicts = [ladder.judge(stage).text for stage in ladder.stages]
        if ladder.is_exhausted and None not in self.budgets:
            self._warn_of_exhaustion(evaluate)

    def list_stages(self) -> list["StageLadderSearchCV"]:
        """Return a search for each stage that has results, with the results of that."""
        stages = super().list_stages()
        for stage, verdict in zip(stages, getattr(self, "_verdicts", ()), strict=False):
            stage.verdict_ = verdict
        return stages


class _Ladder:
    """The candidates on all rungs, and who is next.

    A rung is a stage of a bracket; candidates compete with those on their rung.
    """

    def __init__(
        self,
        search: StageLadderSearchCV,
        evaluate: Evaluator,
        stages: list[int],
        random_state: np.random.RandomState,
    ):
        self.search = search
        self.evaluate = evaluate
        self.scheduler = evaluate.scheduler
        self.random_state = random_state
        self.stages = stages
        self.budgets = dict(zip(self.stages, search.budgets, strict=True))
        # The complete rows on each rung, the best ones first.
        self.ranked: dict[tuple[int, int], list[Row]] = defaultdict(list)
        # The complete rows of each stage, by their candidates.
        self.complete: dict[int, dict[Any, Row]] = {s: {} for s in self.stages}
        self.n_rows = dict.fromkeys(self.stages, 0)
        self.promoted: set[tuple[int, Any]] = set()
        # Those that are evaluated in the next stage right now.
        self.climbing: dict[int, dict[Any, Row]] = {s: {} for s in self.stages}
        # The usable rows of those that were evaluated in the next stage as well.
        self.pairs: dict[int, list[tuple[Row, Row]]] = {s: [] for s in self.stages}
        self.verdicts: dict[int, Verdict] = {}
        self.streams: dict[int, Any] = {}
        self.brackets: dict[Any, int] = {}
        # Whether the space holds no more candidates than were begun.
        self.is_exhausted = False

    def iterate(self) -> Iterator[None]:
        """Evaluate until there is neither a promotion nor a new candidate."""
        while True:
            self.scheduler.wait_for_room(self.tell)
            yield
            row = self.promote() or self.begin() or self.promote_rest()
            if row is not None:
                self.n_rows[row.stage] += 1
                self.scheduler.submit(row)
            elif any(not row.is_complete for row in self.scheduler.rows):
                self.scheduler.take(self.tell, block=True)
            else:
                return

    def tell(self, row: Row) -> None:
        """Learn the outcome of a row."""
        stage, key = row.stage, as_key(row.codes)
        insort(self.ranked[self.brackets[key], stage], row, key=_order)
        self.complete[stage][key] = row
        if stage in self.streams:
            self.streams[stage].tell(row)
        self._note_climb(row, key)
        if self.evaluate.heirs is not None:
            for other in self.stages[:-1]:
                if other in (stage, stage - 1):
                    new = row if other == stage else None
                    self.evaluate.heirs.keep(other, self._list_heirs(other), new)

    def _note_climb(self, row, key):
        """Learn from a candidate that has come from the stage before."""
        below = row.stage - 1
        if below not in self.climbing:
            return
        self.climbing[below].pop(key, None)
        before = self.complete[below].get(key)
        if before is not None and is_usable(before) and is_usable(row):
            self.pairs[below].append((before, row))
            self.verdicts.pop(below, None)

    def promote(self) -> Row | None:
        """Return the row of a candidate that is promoted; None if there is none."""
        for stage in reversed(self.stages[:-1]):
            # Of a stage that has an end, the best one has a place left.
            n_left = 0 if self.budgets[stage] is None else 1
            if not self._has_room(stage + 1, n_left):
                continue
            for ranked in self._list_rungs(stage):
                n_top = math.floor(len(ranked) / self.judge(stage).factor)
                row = next(self._list_next(ranked[:n_top]), None)
                if row is not None:
                    return self._climb(row)
        return None

    def promote_rest(self) -> Row | None:
        """Return the best candidate of a stage that gets no new ones any more."""
        for stage in self.stages[:-1]:
            under_way = any(
                not row.is_complete and row.stage <= stage
                for row in self.scheduler.rows
            )
            if under_way:
                return None
            pays = self.judge(stage).factor <= self.search.factor
            if pays and self._has_room(stage + 1):
                rest = (self._list_next(ranked) for ranked in self._list_rungs(stage))
                found = sorted((row for rows in rest for row in rows), key=_order)
                if found:
                    return self._climb(found[0])
        return None

    def begin(self) -> Row | None:
        """Return the row of a new candidate; None if there is none."""
        bracket = self._choose_bracket()
        if bracket is None:
            return None
        stage = self.stages[bracket]
        while stage < self.stages[-1] and self.judge(stage).is_left_out:
            stage += 1
        if not self._has_room(stage):
            return None
        codes = self._open_stream(stage).propose()
        if codes is None:
            self.is_exhausted = True
            return None
        self.brackets[as_key(codes)] = bracket
        row = self._make_row(codes, stage)
        self.evaluate.register(row)
        return row

    def judge(self, stage: int) -> Verdict:
        """Return what is done about a stage."""
        if stage not in self.verdicts:
            rows = self.complete[stage].values()
            # Who inherits weights trains at the smaller size as well.
            inherits = self.scheduler.job.inheritance is not None
            self.verdicts[stage] = judge(
                self.pairs[stage],
                [row.score for row in rows if is_usable(row)],
                self.search.factor,
                compares_cost=None in self.budgets.values() and not inherits,
            )
        return self.verdicts[stage]

    def _has_room(self, stage, n_left=0):
        budget = self.budgets[stage]
        return budget is None or self.n_rows[stage] + n_left < budget

    def _list_rungs(self, stage):
        return [rows for (_, s), rows in self.ranked.items() if s == stage]

    def _list_next(self, ranked):
        """Return those on a rung that can be promoted, the best one first."""
        return (
            row
            for row in ranked
            if is_usable(row) and (row.stage, as_key(row.codes)) not in self.promoted
        )

    def _list_heirs(self, stage):
        """Return the rows whose weights may be needed in the next stage."""
        heirs = []
        budget = self.budgets[stage + 1]
        room = 0 if budget is None else budget - self.n_rows[stage + 1]
        for ranked in self._list_rungs(stage):
            if budget is None:
                n_top = math.floor(len(ranked) / self.judge(stage).factor)
                heirs += self._list_next(ranked[: n_top + N_NEXT])
            else:
                heirs += islice(self._list_next(ranked), room)
        return [*heirs, *self.climbing[stage].values()]

    def _climb(self, row):
        """Return the row of a candidate in the next stage."""
        key = as_key(row.codes)
        self.promoted.add((row.stage, key))
        self.climbing[row.stage][key] = row
        return self._make_row(row.codes, row.stage + 1)

    def _make_row(self, codes, stage):
        columns = {}
        if self.search.n_brackets > 1:
            columns = {"bracket": self.brackets[as_key(codes)]}
        return Row(codes, self.scheduler.n_splits, {}, columns, stage)

    def _choose_bracket(self):
        """Return the bracket that a new candidate begins in."""
        n_brackets, factor = self.search.n_brackets, self.search.factor
        begun = np.bincount([*self.brackets.values()], minlength=n_brackets)
        # Hyperband's: as many as make the brackets cost the same.
        n_stages = len(self.stages)
        wanted = [
            factor ** (n_stages - 1 - b) * n_stages / (n_stages - b)
            for b in range(n_brackets)
        ]
        # So there is no stage without results below one that has some.
        open_ones = [
            b
            for b, stage in enumerate(self.stages[:n_brackets])
            if self._has_room(stage) and (not b or self.complete[stage - 1])
        ]
        return min(open_ones, key=lambda b: (begun[b] + 1) / wanted[b], default=None)

    def _open_stream(self, stage):
        """Return the new candidates of a stage, which learn from its scores only."""
        if stage not in self.streams:
            sampler = self.search.make_sampler(deepcopy(self.random_state))
            self.streams[stage] = self.evaluate.open_stream(sampler, self.random_state)
            for row in self.complete[stage].values():
                self.streams[stage].tell(row)
        return self.streams[stage]


def _make_tpe(space, **settings):
    # It tells how to install what it needs.
    from sklearn_iis.searches import get_search

    get_search("tpe")
    from sklearn_iis._optuna import optuna_errors_only
    from sklearn_iis.searches._tpe import StudySampler

    with optuna_errors_only():
        return StudySampler(space, **settings)


def _order(row):
    """Return what sorts rows, the best one first; what cannot be promoted is last."""
    return (-row.score if is_usable(row) else math.inf, row.number)
