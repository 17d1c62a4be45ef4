"""ChoiceSearchCV: several searches share the time, and the best one wins."""

import math
import time
import warnings
from contextlib import ExitStack, suppress
from copy import deepcopy
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import clone
from sklearn.utils import check_random_state, get_tags

from sklearn_iis._files import workspace
from sklearn_iis._plan import FitCall
from sklearn_iis._results import join_results
from sklearn_iis._search import IISSearchCV, Run
from sklearn_iis._sklearn_compat import (
    BaseSearchCV,
    Interval,
    fit_context,
    has_callbacks,
)
from sklearn_iis.choice._rounds import Rounds
from sklearn_iis.execution._averaging import is_usable
from sklearn_iis.execution._deadline import NothingFinishedError
from sklearn_iis.execution._executors import running_executor
from sklearn_iis.execution._progress import StageProgress
from sklearn_iis.execution._record import Record, Row, measure_span
from sklearn_iis.storage import StorageParam

# Parameters of the searches that are set here, for all of them.
SHARED = (
    *("scoring", "n_jobs", "refit", "cv", "error_score", "return_train_score"),
    *("storage", "timeout", "verbose"),
)


@dataclass(eq=False, repr=False)
class ChoiceSearchCV(BaseSearchCV):
    """A choice among whole pipelines: searches that share the time, the best one wins.

    Each pipeline has an :class:`~sklearn_iis.IISSearchCV` of its own, with its space,
    its sizes and its way to search. They take turns: in rounds that take a third of the
    time together, each has its share of the round, and the better half goes on to the
    next one, as in successive halving [1]_. The last one has the other two thirds for
    itself. So what leads nowhere stops early, and the winner has most of the time: .83
    of it if there are two, .81 of three, .79 of four, if no candidate takes longer than
    a turn.

    Searches are compared by the score of their best candidate so far, all on the same
    splits. One that ends before its time is up leaves the time to the others.

    Parameters
    ----------
    searches : list of (str, IISSearchCV)
        The searches by their names. They can pause between candidates if they are of
        `search="ladder"`, and otherwise between stages: these need a number of
        candidates, `n_iter`. Their `scoring`, `n_jobs`,
        `refit`, `cv`, `error_score`, `return_train_score`, `storage`, `study_name`,
        `timeout`, `verbose` and `random_state` are set by those below.

    timeout : float
        Seconds for the whole of `fit`. The fit of the best candidate on all data is
        part of it.

    shares : dict of str to float, default=None
        What the time of a round is divided by, by the names of the searches; 1 for
        those that are not named. A search has at least the time that its first
        candidate takes; but if the steps of its pipeline that are computed once for all
        candidates take longer than its share of the `timeout`, before it has a score
        and while another one waits for its first turn, it is out, with a warning.

    scoring, n_jobs, refit, cv, verbose, error_score, return_train_score
        As in :class:`~sklearn_iis.IISSearchCV`. A callable `refit` is refused.

    random_state : int, RandomState instance or None, default=None
        Determines the candidates of each search. How many there are is a matter of
        time.

    storage : str, path-like or optuna.storages.BaseStorage, default=None
        Where evaluations are kept, see :class:`~sklearn_iis.IISSearchCV`. The same call
        then evaluates nothing again, and goes on while there is time.

    study_name : str, default="choice"
        What the names of the studies in the storage begin with.

    Attributes
    ----------
    cv_results_ : dict of str to ndarray or list
        The results of all searches in scikit-learn's format, with the column `search`,
        the name of the search, and those that `IISSearchCV` has. A parameter that an
        estimator does not have is masked. Ranks are those among all candidates.

    searches_ : dict of str to IISSearchCV
        The searches, with their results. The winner has a `best_estimator_`. One that
        evaluated no candidate has no results.

    best_search_ : str
        The name of the winner.

    seconds_ : dict of str to float
        How long the turns of each search were together. Of an earlier call, whose
        evaluations are in the storage, the seconds in which one was under way count.

    rounds_ : list of list of str
        The names of those that went on after each round, the best one first.

    best_estimator_, best_params_, best_score_, best_index_, scorer_, n_splits_, \
    refit_time_, multimetric_, classes_, n_features_in_, feature_names_in_
        As those of :class:`~sklearn_iis.IISSearchCV`, of the winner; `best_index_` is
        the row in `cv_results_`. With several metrics and ``refit=False`` there is no
        best candidate.

    Raises
    ------
    ValueError
        By `fit`: if a parameter is wrong, also one of a search; if callbacks of
        scikit-learn's are set, which would hear of parts of it only; or if all searches
        fail. One that fails while others go on, or has no result in time, is out, with
        a warning.

    TimeoutError
        By `fit`: if no candidate was evaluated before the `timeout`.

    KeyboardInterrupt
        By `fit`: if it was interrupted. `cv_results_`, `best_search_` and
        `best_params_` then tell of the candidates that were evaluated on all splits.

    References
    ----------
    .. [1] K. Jamieson, A. Talwalkar, "Non-stochastic Best Arm Identification and
       Hyperparameter Optimization", AISTATS 2016, figure 2. :arxiv:`1502.07943`

    Examples
    --------
    >>> from scipy.stats import loguniform, randint
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from sklearn_iis import ChoiceSearchCV, IISSearchCV
    >>> X, y = load_iris(return_X_y=True)
    >>> linear = IISSearchCV(
    ...     LogisticRegression(max_iter=1000), {"C": loguniform(1e-3, 10)}, n_iter=4
    ... )
    >>> tree = IISSearchCV(
    ...     DecisionTreeClassifier(), {"max_depth": randint(1, 4)}, n_iter=3
    ... )
    >>> search = ChoiceSearchCV(
    ...     [("linear", linear), ("tree", tree)], timeout=60, random_state=0
    ... ).fit(X, y)
    >>> search.cv_results_["search"].tolist()
    ['linear', 'linear', 'linear', 'linear', 'tree', 'tree', 'tree']
    """

    searches: Any
    timeout: Any
    _: KW_ONLY
    shares: dict[str, float] | None = None
    scoring: Any = None
    n_jobs: int | None = None
    refit: Any = True
    cv: Any = None
    verbose: int = 0
    random_state: Any = None
    error_score: Any = np.nan
    return_train_score: bool = False
    storage: Any = StorageParam()  # noqa: RUF009
    study_name: str = "choice"

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "searches": [list],
        "timeout": [Interval(Real, 0, None, closed="neither")],
        "shares": [dict, None],
        **{
            name: BaseSearchCV._parameter_constraints[name]
            for name in ("scoring", "n_jobs", "cv", "verbose", "error_score")
        },
        "refit": ["boolean", str],
        "random_state": ["random_state"],
        "return_train_score": ["boolean"],
        "storage": "no_validation",
        "study_name": [str],
    }

    @property
    def estimator(self):
        """The estimator of the first search, for what scikit-learn asks of it."""
        return self.searches[0][1].estimator

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags = deepcopy(get_tags(self.estimator).target_tags)
        return tags

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y=None, **params):
        """Have the searches compete, then fit the best candidate of all on all data.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...) or sequence of length n_samples
            What the estimators take.

        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Targets.

        **params : dict of str to object
            Parameters for each estimator's `fit`, the scorer and the splitter.

        Returns
        -------
        self : ChoiceSearchCV
            The fitted search.
        """
        shares = self._check_searches()
        own = FitCall(self, X, y, params)
        searches = self._make_searches(own.splits)
        plans = self._plan(searches, own, X, y, params)
        self._forget()
        self.searches_, self.n_splits_ = searches, len(own.splits)
        with workspace() as directory, ExitStack() as stack:
            with running_executor(self.n_jobs) as executor:
                turns, used = {}, 0.0
                bars = None
                if self.verbose:
                    bars = stack.enter_context(StageProgress(own.begin + self.timeout))
                for name, search in searches.items():
                    run = Run(*plans[name], executor, directory, stack)
                    run.label, run.bars = f"{name}: ", bars
                    run.least_reserve = partial(_find_reserve, turns)
                    used += shares[name]
                    end = own.begin + self.timeout * used / sum(shares.values())
                    run.prepares_until = partial(_find_preparing_end, turns, name, end)
                    search._begin(run)
                    turns[name] = Turns(name, search, run)
                self._compete(Rounds(shares, self.timeout), turns)
            self._finish(turns)
        return self

    def _plan(self, searches, own, X, y, params):
        """Return call, space and stages of each search; raise an error if it cannot."""
        routed = own.routed
        # The splits are drawn: nobody else knows of what only the splitter takes.
        used = {**routed.estimator.fit, **routed.scorer.score}
        params = {
            name: value
            for name, value in params.items()
            if name in used or name not in routed.splitter.split
        }
        plans = {}
        for name, search in searches.items():
            call = FitCall(search, X, y, params)
            space, plan = search._check_call(call)
            if None in plan.budgets and not plan.crosses:
                raise ValueError(
                    f"the search {name!r} cannot pause between candidates, and would "
                    'take all of the time: set its n_iter, or search="ladder"'
                )
            plans[name] = call, space, plan
        return plans

    def _check_searches(self):
        """Return the share of each search; raise an error if they are not searches."""
        searches = self.searches
        is_named = all(
            isinstance(pair, tuple)
            and len(pair) == 2
            and isinstance(pair[0], str)
            and isinstance(pair[1], IISSearchCV)
            for pair in searches
        )
        names = [pair[0] for pair in searches] if is_named else []
        if not names or len(set(names)) < len(names):
            raise ValueError(
                "searches must be a list of pairs (name, IISSearchCV), with different "
                f"names; got {searches!r}"
            )
        shares = dict.fromkeys(names, 1.0) | (self.shares or {})
        if unknown := shares.keys() - set(names):
            raise ValueError(
                f"shares names {sorted(unknown)}; the searches are {names}"
            )
        if any(map(has_callbacks, [self, *(search for _, search in searches)])):
            raise ValueError(
                "ChoiceSearchCV does not tell callbacks of its searches: take those "
                "that are set off it, its searches and their estimators"
            )
        skipping = [name for name, search in searches if search.on_error != "raise"]
        if skipping:
            raise ValueError(
                f"the searches {skipping} would leave files out by `on_error`, and all "
                "must have the same: leave them out of X before, as load_image_folder "
                'does with on_error="skip"'
            )
        for name, share in shares.items():
            if not (isinstance(share, Real) and 0 < share < math.inf):
                raise ValueError(
                    f"shares[{name!r}] must be a number above 0, got {share!r}"
                )
        return shares

    def _make_searches(self, splits):
        """Return copies of the searches with what they share."""
        # Without one, nor has the storage a random state to compare with.
        is_open = self.random_state is None
        rng = check_random_state(self.random_state)
        shared = {name: getattr(self, name) for name in SHARED}
        return {
            name: clone(search).set_params(
                **shared | {"cv": splits},
                study_name=f"{self.study_name}: {name}",
                random_state=None if is_open else rng.randint(2**31 - 1),
            )
            for name, search in self.searches
        }

    def _compete(self, rounds, turns):
        """Run the searches; set the results, also if they are interrupted."""
        self.rounds_ = []
        try:
            rounds.run(turns, self.rounds_.append)
        except KeyboardInterrupt:
            with suppress(Exception):  # the interrupt is to be told
                self._close(turns)
                self._take_best()
            raise
        self._close(turns)

    def _close(self, turns):
        """End all searches, and choose the best one."""
        for turn in turns.values():
            turn.close()
        self.seconds_ = {name: turn.all_seconds for name, turn in turns.items()}
        found = {n: turn for n, turn in turns.items() if turn.has_results}
        if not found:
            errors = [turn.error for turn in turns.values() if turn.error is not None]
            # What has failed tells more than what was late.
            raise min(errors, key=lambda error: isinstance(error, NothingFinishedError))
        self._join({name: turn.search for name, turn in found.items()})

    def _join(self, found):
        """Set the results of all searches that have some, and the best one."""
        results = [search.cv_results_ for search in found.values()]
        counts = [len(table["params"]) for table in results]
        names = np.repeat(np.array(list(found), dtype=object), counts)
        self.cv_results_ = join_results(results, {"search": names})
        self.multimetric_ = next(iter(found.values())).multimetric_
        if self.refit or not self.multimetric_:
            self.best_search_ = max(found, key=lambda name: found[name].best_score_)

    def _finish(self, turns):
        """Fit the best candidate of all, and set what is told of it."""
        try:
            for name, turn in turns.items():
                turn.finish(is_best=name == getattr(self, "best_search_", None))
        finally:
            self._take_best()

    def _take_best(self):
        """Set what is told of the best candidate, if there is one."""
        if not hasattr(self, "best_search_"):
            return
        search = self.searches_[self.best_search_]
        first = np.flatnonzero(self.cv_results_["search"] == self.best_search_)[0]
        self.best_index_ = first + search.best_index_
        names = ["best_estimator_", "best_params_", "best_score_", "scorer_"]
        names += ["refit_time_", "feature_names_in_"]
        for name in names:
            if hasattr(search, name):
                setattr(self, name, getattr(search, name))

    def _forget(self):
        """Drop what another fit has found: this one may end before it finds it."""
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)


@dataclass
class Turns:
    """A search that takes turns with others.

    Parameters
    ----------
    name : str
        What messages call it.

    search : IISSearchCV
        The search.

    run : Run
        Its fit, which has begun.
    """

    name: str
    search: IISSearchCV
    run: Run
    # Of its best candidate; -inf as long as there is none.
    score: float = field(init=False, default=-math.inf)
    # The length of all turns.
    seconds: float = field(init=False, default=0.0)
    # What has ended it.
    error: Exception | None = field(init=False, default=None)
    # What an earlier call has evaluated, before this time since the epoch.
    began: float = field(init=False, default_factory=time.time)
    known: list[Record] = field(init=False, default_factory=list)

    def __post_init__(self):
        self.run.listeners = [self._note]
        self._steps = self.search._run_stages(self.run)

    @property
    def all_seconds(self) -> float:
        """The length of all turns, and of the evaluations of earlier calls."""
        return self.seconds + measure_span(self.known)

    @property
    def has_results(self) -> bool:
        """Whether it has results, and has not failed."""
        return hasattr(self.search, "cv_results_") and self.error is None

    def go_on(self, seconds: float) -> None:
        """Run until so many seconds were used in all and there is a score, or its end.

        An error ends the search, unless errors are to be raised; so does the time, if
        it is up before there is a result.
        """
        before, start = self.seconds, time.monotonic()
        try:
            with self.search._delivering_best(self.run):
                while self.seconds < seconds or self.score == -math.inf:
                    next(self._steps)
                    self.seconds = before + time.monotonic() - start
        except StopIteration:
            pass
        except Exception as error:
            is_late = isinstance(error, NothingFinishedError)
            if self.search.error_score == "raise" and not is_late:
                raise
            self.error = error
            reason = "" if is_late else f", as it failed: {type(error).__name__}"
            warnings.warn(
                f"the search {self.name!r} is out{reason}: {error}",
                UserWarning,
                stacklevel=5,
            )
        finally:
            self.seconds = before + time.monotonic() - start

    def close(self) -> None:
        """End the search, and choose its best candidate, if there is one."""
        self._steps.close()
        if self.has_results:
            self.search._check_metrics()
            self.run.call.select_best(self.search._select_best)

    def finish(self, *, is_best: bool) -> None:
        """Fit its best candidate if that is the best of all; remove its files."""
        if is_best:
            with self.search._delivering_best(self.run):
                self.search._finish(self.run)
        else:
            self.run.call.end_callbacks()
            self.run.remove_files()

    def _note(self, row: Row) -> None:
        """Take note of a row that is complete."""
        if is_usable(row):
            self.score = max(self.score, row.score)
        self.known += [r for r in row.records.values() if r.started < self.began]


def _find_preparing_end(turns: dict[str, Turns], name: str, end: float) -> float:
    """Return `end`; none once it has a score, or each other search has had a turn."""
    others = (turn for other, turn in turns.items() if other != name)
    is_awaited = any(turn.seconds == 0 for turn in others)
    return end if is_awaited and turns[name].score == -math.inf else math.inf


def _find_reserve(turns: dict[str, Turns]) -> float:
    """Return the time of the last fit of the best search so far."""
    best = max(turns.values(), key=lambda turn: turn.score)
    return best.run.deadline.own_reserve
