"""The base of all searches: initial candidates first, an exact budget, no repeats."""

import math
import numbers
import warnings
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy, deepcopy
from dataclasses import KW_ONLY, dataclass
from operator import attrgetter
from typing import Any, ClassVar

import numpy as np
from joblib import effective_n_jobs
from sklearn.utils import check_random_state

from sklearn_iis._files import workspace
from sklearn_iis._plan import FitCall, Stage
from sklearn_iis._results import make_results, metric_names, report_stage
from sklearn_iis._sklearn_compat import (
    BaseSearchCV,
    Interval,
    fit_context,
    score_best,
)
from sklearn_iis.execution._checkpoints import Checkpoints
from sklearn_iis.execution._deadline import DeadlineReached, NothingFinishedError
from sklearn_iis.execution._executors import running_executor
from sklearn_iis.execution._inheritance import Heirs
from sklearn_iis.execution._record import Row
from sklearn_iis.execution._scheduler import Scheduler
from sklearn_iis.space import Candidate, SearchSpace, as_key, distinct

# Floating-point tolerance of the budget.
ROUNDING = 1e-9

# How many proposals in a row may be repeats, or ruled out by a constraint, before a
# candidate is drawn at random.
PATIENCE = 3


class Sampler(ABC):
    """Proposes candidates one by one, by the scores of others.

    A class of samplers can be given to :class:`~sklearn_iis.IISSearchCV` as `search`:
    it is called as `sampler(space, random_state=..., **search_params)` once a stage.

    Examples
    --------
    A search around the best candidate so far:

    >>> from scipy.stats import uniform
    >>> from sklearn.linear_model import Ridge
    >>> from sklearn_iis import IISSearchCV
    >>> from sklearn_iis.searches import Sampler
    >>> class HillClimbing(Sampler):
    ...     def __init__(self, space, *, random_state, width=0.1):
    ...         self.space, self.rng, self.width = space, random_state, width
    ...         self.best, self.best_score = None, -float("inf")
    ...
    ...     def ask(self):
    ...         if self.best is None:
    ...             return None  # one at random
    ...         moved = {
    ...             c: v + self.rng.normal(0, self.width) for c, v in self.best.items()
    ...         }
    ...         return self.space.project(moved)
    ...
    ...     def tell(self, candidate, score):
    ...         if score > self.best_score:
    ...             self.best, self.best_score = candidate, score
    >>> X, y = [[0.0], [1.0], [2.0], [3.0]] * 5, [0.0, 1.0, 2.0, 3.0] * 5
    >>> search = IISSearchCV(
    ...     Ridge(),
    ...     {"alpha": uniform(0, 10)},
    ...     search=HillClimbing,
    ...     n_iter=9,
    ...     random_state=0,
    ... )
    >>> len(search.fit(X, y).cv_results_["params"])
    9
    """

    @abstractmethod
    def ask(self) -> Candidate | None:
        """Return the next candidate, in codes; None to have one drawn at random.

        It may have codes that do not exist for it, and may repeat another one.
        """

    @abstractmethod
    def tell(self, candidate: Candidate, score: float) -> None:
        """Learn the score of a candidate.

        Parameters
        ----------
        candidate : dict of str to float or int
            Its active codes. It may be one that was not asked for.

        score : float
            The mean of the scores on all splits; NaN if it failed, or if the constraint
            of the space does not allow it, so that it is not evaluated.
        """

    def expect(self, candidate: Candidate) -> None:  # noqa: B027
        """Learn that a candidate is being evaluated that was not asked for."""


@dataclass(eq=False, repr=False)
class Search(BaseSearchCV):
    """Base class of searches over a :class:`~sklearn_iis.SearchSpace`.

    A subclass implements :meth:`run`; it may inherit from another search besides. It is
    a search of scikit-learn's kind by itself, and a stage of
    :class:`~sklearn_iis.IISSearchCV`. It evaluates as many candidates as `n_iter` says,
    `initial_candidates` first, none twice.

    Parameters
    ----------
    estimator : estimator object
        Its parameters are searched.

    space : SearchSpace
        Where the candidates come from.

    n_iter : int, default=10
        Number of candidates, the initial ones included. None, for as many as there is
        time for, is for stages of a search with a `timeout` only.

    initial_candidates : list of dict, default=None
        Candidates, in codes, to be evaluated first.

    scoring, n_jobs, refit, cv, verbose, error_score, return_train_score
        As in :class:`~sklearn.model_selection.RandomizedSearchCV`. Of several metrics
        the one named by `refit` guides the search, or the first one.

    pre_dispatch : int or str, default=None
        Evaluations begun or queued, such as "2*n_jobs", before another candidate is
        proposed. None means as many as there are workers, or one more if that suits the
        search.

    random_state : int, RandomState instance or None, default=None
        Determines the candidates.

    Attributes
    ----------
    cv_results_ : dict of str to ndarray or list
        As in `RandomizedSearchCV`, with the column `error`: the traceback of what
        failed, or None.

    candidates_ : list of dict
        The candidates in the rows of `cv_results_`, in codes.
    """

    estimator: Any
    space: SearchSpace
    _: KW_ONLY
    n_iter: int | None = 10
    initial_candidates: list[Candidate] | None = None
    scoring: Any = None
    n_jobs: int | None = None
    refit: Any = True
    cv: Any = None
    verbose: int = 0
    pre_dispatch: int | str | None = None
    random_state: Any = None
    error_score: Any = np.nan
    return_train_score: bool = False

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseSearchCV._parameter_constraints,
        "space": [SearchSpace],
        "n_iter": [Interval(numbers.Integral, 1, None, closed="left"), None],
        "initial_candidates": [list, None],
        "pre_dispatch": [numbers.Integral, str, None],
        "random_state": ["random_state"],
    }

    # Evaluations in flight, unless `pre_dispatch` says so.
    default_pre_dispatch: ClassVar[str] = "n_jobs"

    # Whether a larger budget makes another plan from the start: then what was evaluated
    # before is of use only where it is part of the plan.
    replans_on_budget_change: ClassVar[bool] = False

    # Whether it can go on until the time is up, without a number of candidates.
    is_unlimited: ClassVar[bool] = True

    # Whether it runs all stages at once.
    crosses_stages: ClassVar[bool] = False

    # Whether its candidates can start from the weights of the stage before.
    can_inherit: ClassVar[bool] = True

    # Whether it makes sense to end it as nothing improves, after some candidates.
    can_end_early: ClassVar[bool] = True

    # Parameters that all candidates of a stage share, such as the size.
    fixed_params: ClassVar[dict[str, Any]] = {}

    # What an evaluation costs in each of its stages, by pixels and epochs.
    stage_work: ClassVar[Sequence[float]] = (1.0,)

    # Whether it is the first stage of several, or the only one, of a search in stages.
    is_first_stage: ClassVar[bool] = False

    @property
    def is_asynchronous(self) -> bool:
        """Whether it proposes a candidate whenever a worker is free."""
        return False

    @property
    def is_deterministic(self) -> bool:
        """Whether the same scores give the same candidates, whoever is first."""
        return not self.is_asynchronous or effective_n_jobs(self.n_jobs) == 1

    @property
    def n_startup(self) -> int:
        """How many candidates come before those that others' scores decide on."""
        return 10 if self.n_iter is None else min(10, -(-self.n_iter // 3))

    @property
    def n_evaluations(self) -> int | None:
        """How many rows are planned; None if that is a matter of time."""
        return self.n_iter

    def check_budget(self) -> None:
        """Raise an error if a setting is wrong, or `n_iter` does not suffice.

        Nothing is evaluated for it, so that a search in stages can tell at once.

        Raises
        ------
        ValueError
            If a setting, or the budget for this space, is not valid.
        """
        self._validate_params()
        if self.n_iter is None and not self.is_unlimited:
            raise ValueError(
                f"{type(self).__name__} needs a number of candidates, n_iter, as it "
                "plans them all before the first one is evaluated"
            )

    @abstractmethod
    def run(self, evaluate: "Evaluator", random_state: np.random.RandomState) -> None:
        """Propose candidates until there is no budget left.

        Parameters
        ----------
        evaluate : Evaluator
            Evaluates them. What is left of the budget when this method returns goes to
            candidates at random.

        random_state : RandomState instance
            Determines the candidates.
        """

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y=None, **params):
        """Search, then fit the best candidate on all data.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...) or sequence of length n_samples
            What the estimator takes.

        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Targets.

        **params : dict of str to object
            As in :class:`~sklearn.model_selection.RandomizedSearchCV`.

        Returns
        -------
        self : Search
            The fitted search.
        """
        self.check_budget()
        if self.n_iter is None:
            raise ValueError("n_iter=None is for the stages of a search with a timeout")
        call = FitCall(self, X, y, params)
        with workspace() as directory, running_executor(self.n_jobs) as executor:
            call.begin_callbacks(1)
            with call.task(
                "search", max_subtasks=None, sequential_subtasks=False
            ) as context:
                job = call.make_job(self.space, checkpoints=Checkpoints(directory))
                exhaust(self.run_stage(Stage(job, executor, directory, context)))
        report_stage(self.cv_results_, type(self).__name__)
        call.finish()
        return self

    def score(self, X, y=None, **params):
        """Return the score of the best candidate, by the metric that guides the search.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...) or sequence of length n_samples
            What the estimator takes.

        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Targets.

        **params : dict of str to object
            Parameters for the scorer.

        Returns
        -------
        score : float
            By the only metric. Of several, by the one that `refit` names; if that is a
            callable, by the first one.
        """
        return score_best(self, X, y, params)

    def iterate(
        self, evaluate: "Evaluator", random_state: np.random.RandomState
    ) -> Iterator[None]:
        """Do what :meth:`run` does, and yield where the search may be paused.

        By default that is nowhere.
        """
        self.run(evaluate, random_state)
        yield from ()

    def run_stage(self, stage: Stage) -> Iterator[None]:
        """Run the search as a stage, and set its results, whatever ends it.

        Parameters
        ----------
        stage : Stage
            What is evaluated, and where.

        Yields
        ------
        None
            Where the search may be paused. If it is closed there, it has the results
            of what was complete.

        Raises
        ------
        NothingFinishedError
            If the deadline came before any result.
        """
        scheduler = stage.make_scheduler(self.pre_dispatch or self.default_pre_dispatch)
        evaluate = Evaluator(self, scheduler, stage.heirs)
        rng = check_random_state(self.random_state)
        with setting_results(self, stage, scheduler):
            # With nothing to choose there is one candidate, and nothing to search.
            if self.space.dimensions:
                yield from self.iterate(evaluate, rng)
                scheduler.finish()
            self._spend_rest(evaluate, rng)

    def list_stages(self) -> list["Search"]:
        """Return a search for each stage that has results, with the results of that."""
        return getattr(self, "_of_stages", [])

    def _spend_rest(
        self, evaluate: "Evaluator", random_state: np.random.RandomState
    ) -> None:
        """Spend the budget that is left on candidates at random."""
        evaluate(
            self.space.draw(random_state=random_state, exclude=evaluate.candidates)
        )
        if self.n_iter is not None and evaluate.remaining:
            warnings.warn(
                f"n_iter={self.n_iter} candidates are asked for, but no more than "
                f"{len(evaluate.candidates)} different ones were found in the space",
                stacklevel=3,
            )


@dataclass(eq=False, repr=False, kw_only=True)
class StreamedSearch(Search):
    """Base class of searches whose candidates a :class:`Sampler` proposes.

    A subclass implements :meth:`make_sampler`.

    Parameters
    ----------
    estimator, space, n_iter, initial_candidates, scoring, n_jobs, refit, cv, verbose, \
    pre_dispatch, random_state, error_score, return_train_score
        See :class:`Search`.

    n_points : int, default=None
        Candidates proposed at once, and evaluated in parallel. None means one by one,
        each when a worker is free for it, so that proposals depend on which candidates
        are done by then: set it for candidates that are the same for any `n_jobs`.
    """

    n_points: int | None = None

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **Search._parameter_constraints,
        "n_points": [Interval(numbers.Integral, 1, None, closed="left"), None],
    }

    @property
    def is_asynchronous(self) -> bool:
        """Whether it proposes a candidate whenever a worker is free."""
        return self.n_points is None

    @abstractmethod
    def make_sampler(
        self, evaluate: "Evaluator", random_state: np.random.RandomState
    ) -> "Sampler":
        """Return the sampler of a run.

        Parameters
        ----------
        evaluate : Evaluator
            Will evaluate what it proposes.

        random_state : RandomState instance
            Determines the candidates.
        """

    def run(self, evaluate: "Evaluator", random_state: np.random.RandomState) -> None:
        """Spend the budget on what the sampler asks for."""
        sampler = self.make_sampler(evaluate, random_state)
        evaluate.stream(sampler, random_state, n_points=self.n_points)


@dataclass(eq=False, repr=False, kw_only=True)
class SamplerSearchCV(StreamedSearch):
    """A search whose candidates a :class:`Sampler` proposes.

    Parameters
    ----------
    estimator, space, n_iter, initial_candidates, scoring, n_jobs, refit, cv, verbose, \
    pre_dispatch, random_state, error_score, return_train_score
        See :class:`Search`.

    sampler : type
        The class of samplers, called as `sampler(space, random_state=...,
        **sampler_params)`.

    sampler_params : dict, default=None
        Further arguments.

    n_points : int, default=None
        Candidates proposed at once, and evaluated in parallel. None means one by one,
        each when a worker is free for it.
    """

    sampler: Any = None
    sampler_params: dict[str, Any] | None = None

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **StreamedSearch._parameter_constraints,
        "sampler": [callable],
        "sampler_params": [dict, None],
    }

    def make_sampler(self, evaluate, random_state):
        """Return a sampler of the class that was given."""
        return self.sampler(
            self.space, random_state=random_state, **(self.sampler_params or {})
        )


class Evaluator:
    """Evaluates candidates, each once, as long as there is a budget.

    Parameters
    ----------
    search : Search
        The search that it is for.

    scheduler : Scheduler
        Evaluates rows.

    heirs : Heirs, default=None
        The candidates whose weights are kept, if any are inherited.
    """

    def __init__(
        self, search: Search, scheduler: Scheduler, heirs: Heirs | None = None
    ):
        self.search = search
        self.scheduler = scheduler
        self.heirs = heirs
        self._rows: dict[tuple[tuple[str, Any], ...], Row] = {}
        self._spent: float = 0  # stays an int unless there are fractions

    @property
    def candidates(self) -> list[Candidate]:
        """The candidates so far, in their order: codes, and further parameters."""
        return [row.codes | row.params for row in self._rows.values()]

    @property
    def scores(self) -> np.ndarray:
        """Their guiding scores; NaN for what failed or is under way."""
        return np.array([_score(row) for row in self._rows.values()], dtype=float)

    @property
    def worst(self) -> float | None:
        """The worst of the scores, or None if there is none yet."""
        scores = self.scores
        return np.nanmin(scores) if np.isfinite(scores).any() else None

    @property
    def remaining(self) -> float:
        """The budget that is left: if each costs 1, the number of candidates."""
        return (
            math.inf if self.search.n_iter is None else self.search.n_iter - self._spent
        )

    @property
    def n_workers(self) -> int:
        """How many evaluations run at once."""
        return self.scheduler.executor.n_workers

    def __call__(
        self,
        candidates: Iterable[Candidate],
        *,
        params: dict[str, Any] | None = None,
        cost: float = 1,
        **columns: Any,
    ) -> np.ndarray:
        """Evaluate those of the candidates that are allowed, and new.

        Parameters
        ----------
        candidates : iterable of dict
            Candidates, in codes, perhaps with some that do not exist for them. If
            there are more than the remaining budget, the first ones are evaluated. An
            iterator is asked for each when a worker is free for it.

        params : dict of str to object, default=None
            Further parameters of the estimator, the same for all of them. The same
            candidate with another value is another one.

        cost : float, default=1
            What each of them costs of the budget.

        **columns : dict of str to object
            Values for further columns of `cv_results_`, the same for all of them. Each
            call has to give the same columns.

        Returns
        -------
        scores : ndarray of shape (n_candidates,)
            The scores; NaN for what failed, was beyond the budget, or is ruled out by
            the constraint of the space, which costs nothing.
        """
        keys = []
        for codes in candidates:
            codes = self.search.space.active(codes)
            keys.append(as_key(codes | (params or {})))
            if keys[-1] in self._rows or not self.search.space.allows(codes):
                self.scheduler.take()  # an iterator may repeat itself for ever
                continue
            if self.remaining + ROUNDING >= cost:
                self.scheduler.wait_for_room()
                self._submit(codes, params, cost, columns)
            if self.remaining + ROUNDING < cost and isinstance(candidates, Iterator):
                break  # it may be endless
        self.scheduler.finish()
        return np.array([_score(self._rows.get(key)) for key in keys])

    def stream(
        self,
        sampler: Sampler,
        random_state: np.random.RandomState,
        *,
        n_points: int | None = None,
    ) -> None:
        """Spend the budget on the initial candidates, and on what a sampler asks for.

        Parameters
        ----------
        sampler : Sampler
            Proposes candidates.

        random_state : RandomState instance
            Determines what is evaluated in place of a proposal that repeats another.

        n_points : int, default=None
            Candidates that are proposed at once, and evaluated before the next ones are
            proposed. None means one by one, each when a worker is free for it.
        """
        stream = self.open_stream(sampler, random_state)
        n_proposed = 0
        while self.remaining + ROUNDING >= 1:
            if n_points is None:
                self.scheduler.wait_for_room(stream.tell)
            elif n_proposed == n_points:
                # In their order, whichever worker was first.
                rows: list[Row] = []
                self.scheduler.finish(rows.append)
                for row in sorted(rows, key=attrgetter("number")):
                    stream.tell(row)
                n_proposed = 0
            codes = stream.propose()
            if codes is None:
                break
            self._submit(codes)
            n_proposed += 1
        self.scheduler.finish(stream.tell)

    def partial(self, candidates: Iterable[Candidate]) -> list[float | None]:
        """Evaluate candidates until all are under way, and a worker is free.

        Parameters
        ----------
        candidates : iterable of dict
            Candidates, in codes.

        Returns
        -------
        scores : list of float or None
            The scores that are known by then, NaN for what failed or is not allowed by
            the constraint of the space; None for what is under way, or beyond the
            budget.
        """
        keys = []
        excluded = set()
        for codes in candidates:
            codes = self.search.space.active(codes)
            keys.append(as_key(codes))
            if not self.search.space.allows(codes):
                excluded.add(keys[-1])
                continue
            if keys[-1] not in self._rows and self.remaining + ROUNDING >= 1:
                self.scheduler.wait_for_room()
                self._submit(codes)
        self.scheduler.wait_for_room()
        rows = {key: self._rows.get(key) for key in keys}
        scores = {
            key: row.score if row is not None and row.is_complete else None
            for key, row in rows.items()
        }
        scores |= dict.fromkeys(excluded, math.nan)
        return [scores[key] for key in keys]

    def forget(self, candidates: Iterable[Candidate]) -> None:
        """Drop the checkpoints of candidates."""
        checkpoints = self.scheduler.job.checkpoints
        if checkpoints is not None:
            for codes in candidates:
                checkpoints.discard(codes)

    def open_stream(
        self, sampler: Sampler, random_state: np.random.RandomState
    ) -> "Stream":
        """Return new candidates: the initial ones, then what a sampler asks for."""
        return Stream(self, sampler, random_state)

    def register(self, row: Row) -> None:
        """Take note of the row of a new candidate."""
        self._rows[as_key(row.codes | row.params)] = row

    def find(self, codes: Candidate) -> Row | None:
        """Return the row of a candidate, complete or not; None if it is new."""
        return self._rows.get(as_key(codes))

    def _submit(self, codes, params=None, cost=1, columns=None):
        params = params or {}
        job = self.scheduler.job
        row = Row(codes, len(job.splits), params, columns or {}, job.last_stage)
        self.register(row)
        self._spent += cost
        self.scheduler.submit(row)


class Stream:
    """New candidates: the initial ones, what a sampler asks for, or at random."""

    def __init__(self, evaluate, sampler, random_state):
        self.evaluate = evaluate
        self.sampler = sampler
        space = evaluate.search.space
        self.space = space
        initial = map(space.active, evaluate.search.initial_candidates or [])
        self.initial = deque(filter(space.allows, distinct(initial)))
        # Most of them are not needed, and must not change what is proposed.
        self.spare = space.draw(
            random_state=deepcopy(random_state), exclude=evaluate.candidates
        )

    def tell(self, row):
        """Tell the sampler a score."""
        self.sampler.tell(row.codes, row.score)

    def propose(self):
        """Return a new candidate; None if the space holds no more."""
        while self.initial:
            codes = self.initial.popleft()
            if self.evaluate.find(codes) is None:
                self.sampler.expect(codes)
                return codes
        for _ in range(PATIENCE):
            proposal = self.sampler.ask()
            if proposal is None:
                break
            codes = self.space.active(proposal)
            row = self.evaluate.find(codes)
            if row is None and self.space.allows(codes):
                return codes
            if row is None:
                self.sampler.tell(codes, math.nan)
            elif row.is_complete:
                self.tell(row)
        new = (codes for codes in self.spare if self.evaluate.find(codes) is None)
        codes = next(new, None)
        if codes is not None:
            self.sampler.expect(codes)
        return codes


@contextmanager
def setting_results(
    search: BaseSearchCV, stage: Stage, scheduler: Scheduler
) -> Iterator[None]:
    """Give a search its results, whatever ends the block; the deadline may.

    Parameters
    ----------
    search : BaseSearchCV
        The search of the stage.

    stage : Stage
        What is evaluated.

    scheduler : Scheduler
        What evaluates it.

    Raises
    ------
    NothingFinishedError
        If the deadline came before any result.

    ValueError
        If there is no result otherwise.
    """
    is_late = False
    try:
        yield
    except DeadlineReached:
        is_late = True
    finally:
        if rows := scheduler.complete_rows:
            set_results(search, stage, rows)
    if not rows and is_late:
        raise NothingFinishedError("the time was up before a candidate was evaluated")
    if not rows:
        hint = ""
        if isinstance(search, Search) and search.space.constraint is not None:
            hint = (
                ", as the constraint allows none that it proposes: let another search "
                "propose them, or set a larger n_iter"
            )
        raise ValueError(f"{type(search).__name__} evaluated no candidate{hint}")


def set_results(search: BaseSearchCV, stage: Stage, rows: Sequence[Row]) -> None:
    """Give a search the results of rows that are complete.

    One that crosses stages gets a copy of itself for each, with its results.
    """
    _set_results(search, stage, rows)
    if not getattr(search, "crosses_stages", False):
        return
    search._of_stages = []
    for index in sorted({row.stage for row in rows}):
        of_stage = copy(search)
        of_rows = [row for row in rows if row.stage == index]
        _set_results(of_stage, stage, of_rows)
        of_stage.order_ = np.array([row.number for row in of_rows])
        search._of_stages.append(of_stage)


def _set_results(search, stage, rows):
    job = stage.job
    search.n_splits_ = rows[0].n_splits
    search.candidates_ = [row.codes for row in rows]
    params = [job.decode(row) for row in rows]
    search.cv_results_ = make_results(search, rows, params, can_prune=stage.can_prune)
    # A callable that returns one number has no name for it.
    search.multimetric_ = isinstance(search.scoring, list | tuple | dict) or (
        metric_names(search.cv_results_) != ["score"]
    )


def exhaust(steps: Iterator[None]) -> None:
    """Run to its end what may be paused."""
    for _ in steps:
        pass


def _score(row):
    return row.score if row is not None and row.is_complete else math.nan
