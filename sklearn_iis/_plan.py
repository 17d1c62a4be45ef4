"""The plan of a fit: what its stages share, their sizes, budgets and deadlines."""

import math
import sys
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise, product
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.model_selection import check_cv
from sklearn.utils import get_tags, indexable

from sklearn_iis._resize import ImageResizer
from sklearn_iis._sklearn_compat import (
    BaseSearchCV,
    count_samples,
    hand_on_callbacks,
    has_callbacks,
    list_scorers,
    select_params,
    split_safely,
    without_callbacks,
)
from sklearn_iis.execution._averaging import BestEstimators, average
from sklearn_iis.execution._deadline import Deadline
from sklearn_iis.execution._evaluate import Fidelity, Job, Scoring
from sklearn_iis.execution._executors import Executor
from sklearn_iis.execution._gpus import (
    AUTO,
    default_device,
    find_auto_devices,
    loading_on,
)
from sklearn_iis.execution._inheritance import Heirs, end_inheriting
from sklearn_iis.execution._patience import Patience
from sklearn_iis.execution._prepared import Prepared
from sklearn_iis.execution._readable import Readable, find_readable
from sklearn_iis.execution._record import Row
from sklearn_iis.execution._scheduler import Scheduler
from sklearn_iis.space import SearchSpace


class FitCall:
    """A call of `fit`: its data, parameters, scorers and splits.

    Parameters
    ----------
    search : BaseSearchCV
        What is fitted.

    X, y, params
        What `fit` was called with.

    on_error : {"raise", "skip", "list"} or None, default=None
        What becomes of files that cannot be read; None to leave them to the estimator.

    Raises
    ------
    ValueError
        If there is no y, and the estimator needs one.

    UnreadableImagesError
        If files cannot be read, and `on_error` says so.
    """

    def __init__(
        self,
        search: BaseSearchCV,
        X: Any,
        y: Any,
        params: dict[str, Any],
        on_error: str | None = None,
    ):
        self.search = search
        self.begin = time.monotonic()
        self.scorers, _ = search._get_scorers()
        if y is None and get_tags(search).target_tags.required:
            raise ValueError(
                f"{type(search.estimator).__name__} requires y to be passed, but the "
                "target y is None"
            )
        X, y = indexable(X, y)
        self.given = self.readable = Readable(X, y, params, None, {})
        if on_error is not None:
            self.readable = find_readable(search.estimator, X, y, params, on_error)
        self.X, self.y = self.readable.X, self.readable.y
        params = select_params(self.X, params=self.readable.params)
        weights = params.get("sample_weight")
        self.metadata = None if weights is None else {"sample_weight": weights}
        self.routed = search._get_routed_params_for_fit(params)
        self.n_samples = count_samples(self.X)
        self.callback_ctx: Any = None
        # Of the stages so far; a search that is none of stages has none.
        self.fidelities: dict[int, Fidelity] = {}
        # X of those stages for which it was computed once.
        self.prepared: dict[int, Prepared] = {}
        # Whether a candidate starts in a stage from the weights of the one before.
        self.climbs = False

    @cached_property
    def splits(self) -> list[tuple[Any, Any]]:
        """The training and test samples of each split, drawn once."""
        is_classification = is_classifier(self.search.estimator)
        cv = self.search.cv
        if cv is None or isinstance(cv, Integral) or self.readable.kept is None:
            cv = check_cv(cv, self.y, classifier=is_classification)
            return _list_splits(cv, self.X, self.y, self.routed.splitter.split)
        # Others may have numbers of samples, or a length: those of X as it was given.
        X, y = self.given.X, self.given.y
        params = select_params(X, params=self.given.params)
        params = self.search._get_routed_params_for_fit(params).splitter.split
        cv = check_cv(cv, y, classifier=is_classification)
        return self.readable.renumber(_list_splits(cv, X, y, params))

    @property
    def params(self) -> dict[str, Any]:
        """The parameters of `fit` and of the scorer, for the fingerprint."""
        scorer = {f"{k} of the scorer": v for k, v in self.routed.scorer.score.items()}
        return {**self.routed.estimator.fit, **scorer}

    @property
    def refits(self) -> bool:
        """Whether the best candidate is fitted on all data."""
        return bool(self.search.refit)

    @cached_property
    def refit_ratio(self) -> float:
        """How many times as long a fit on all data takes as one of an evaluation."""
        samples = np.arange(self.n_samples)
        return self.n_samples / min(len(samples[train]) for train, _ in self.splits)

    def begin_callbacks(self, n_searches: int) -> None:
        """Tell scikit-learn's callbacks that the search begins."""
        self.callback_ctx = self.search._init_callback_context(
            max_subtasks=n_searches + self.refits
        )
        self.callback_ctx.call_on_fit_task_begin(**self._told)

    def end_callbacks(self) -> None:
        """Tell scikit-learn's callbacks that the search ends."""
        self.callback_ctx.call_on_fit_task_end(**self._told)

    @contextmanager
    def task(self, name: str, **settings: Any):
        """Tell scikit-learn's callbacks of a task of the search; yield its context."""
        context = self.callback_ctx.subcontext(task_name=name, **settings)
        yield context.call_on_fit_task_begin(**self._told)
        context.call_on_fit_task_end(**self._told)

    def make_job(
        self,
        space: SearchSpace,
        fidelities: dict[int, Fidelity] | None = None,
        **settings: Any,
    ) -> Job:
        """Return what the evaluations of a stage share."""
        search = self.search
        guide = search.refit if isinstance(search.refit, str) else None
        return Job(
            search.estimator,
            space,
            {0: Fidelity(self.X)} if fidelities is None else fidelities,
            self.y,
            self.splits,
            Scoring(self.scorers, guide, search.error_score, search.return_train_score),
            fit_params=self.routed.estimator.fit,
            score_params=self.routed.scorer.score,
            caller=search if has_callbacks(search) else None,
            **settings,
        )

    def finish(
        self,
        select_best: Callable[[str], int] | None = None,
        kept: BestEstimators | None = None,
    ) -> None:
        """Choose the best candidate; fit it on all data, or average what was kept."""
        self.select_best(select_best)
        search = self.search
        if self.refits:
            start = time.perf_counter()
            best = self._refit() if kept is None else self._average(kept)
            search.refit_time_ = time.perf_counter() - start
            self._set_best_estimator(best)
        self.end_callbacks()

    def deliver_best(
        self, select_best: Callable[[str], int] | None, kept: BestEstimators
    ) -> None:
        """Choose the best candidate, and average what was kept of it: fit nothing."""
        self.select_best(select_best)
        best = self._average(kept, fits_missing=False)
        if best is not None:
            self._set_best_estimator(best)

    def _set_best_estimator(self, best):
        self.search.best_estimator_ = best
        if hasattr(best, "feature_names_in_"):
            self.search.feature_names_in_ = best.feature_names_in_

    def select_best(self, select_best: Callable[[str], int] | None = None) -> None:
        """Choose the best candidate."""
        search, results = self.search, self.search.cv_results_
        # As in scikit-learn, the only scorer is not a dict.
        search.scorer_ = list_scorers(self.scorers) or self.scorers
        if search.refit or not search.multimetric_:
            metric = search.refit if search.multimetric_ else "score"
            if select_best is None or callable(search.refit):
                index = search._select_best_index(search.refit, metric, results)
            else:
                index = select_best(metric)
            search.best_index_ = index
            if not callable(search.refit):
                search.best_score_ = results[f"mean_test_{metric}"][index]
            search.best_params_ = results["params"][index]

    def _refit(self):
        """Return the best candidate, fitted on all data."""
        name = "refit-with-best-params"
        return self._fit(self.search.best_index_, self.callback_ctx, name)

    def _average(self, kept, *, fits_missing=True):
        """Return the average of the best estimators; fit those that are missing."""
        devices = dict.fromkeys(find_auto_devices(self.search.estimator), AUTO)
        rows = kept.choose(self.search.best_index_)
        members = []
        with self.task("average-best-candidates", max_subtasks=None) as context:
            for row, split in product(rows, range(len(self.splits))):
                name = f"candidate{row}_split{split}"
                with loading_on(default_device() if devices else None):
                    estimator = kept.load(row, split)
                if estimator is None and not fits_missing:
                    continue
                if estimator is None:
                    estimator = self._fit(row, context, name, split)
                else:
                    self._put_back(estimator, self._stage(row))
                if devices:
                    # It may have been on a GPU of another process.
                    estimator.set_params(**devices)
                members.append((name, estimator))
            return average(members, self.y) if members else None

    def _fit(self, row, parent_ctx, name, split=None):
        """Return the candidate of a row, fitted on all data or on those of a split."""
        params, stage = self.search.cv_results_["params"][row], self._stage(row)
        fidelity = self.fidelities.get(stage, Fidelity(self.X))
        estimator = begun = fidelity.make(self.search.estimator, params)
        told, fit_params = self._told, self.routed.estimator.fit
        if split is not None:
            train = self.splits[split][0]
            X, y = split_safely(estimator, self.X, self.y, train)
            fit_params = select_params(self.X, params=fit_params, indices=train)
            weights = fit_params.get("sample_weight")
            metadata = None if weights is None else {"sample_weight": weights}
            told = told | {"X": X, "y": y, "metadata": metadata}
        if self.climbs and stage:
            learned = self._climb(params, stage, split, fit_params)
            below = self.fidelities[stage - 1]
            begun = fidelity.inherit(learned, below, self.search.estimator)
            hand_on_callbacks(estimator, begun)
        context = parent_ctx.subcontext(task_name=name)
        with context.propagate_callback_context(begun):
            context.call_on_fit_task_begin(**told)
            begun.fit(*self._select_data(begun, stage, split), **fit_params)
        context.call_on_fit_task_end(**told)
        if begun is not estimator:
            end_inheriting(begun, estimator)
        self._put_back(begun, stage)
        return begun

    def _climb(self, params, n_stages, split, fit_params):
        """Return what a candidate learns in the stages before its own."""
        learned, below = None, None
        for stage in range(n_stages):
            fidelity = self.fidelities[stage]
            if below is None:
                own = params | fidelity.fixed
                learned = fidelity.make(self.search.estimator, own)
            else:
                learned = fidelity.inherit(learned, below, self.search.estimator)
            below = fidelity
            with without_callbacks(learned):
                data = self._select_data(learned, stage, split)
                learned.fit(*data, **fit_params)
        return learned

    def _stage(self, row):
        """Return the index of the stage of a row of `cv_results_`."""
        return self.search.cv_results_["stage"][row] if self.fidelities else 0

    def _select_data(self, estimator, stage, split):
        """Return X and perhaps y for a fit, all samples or those of a split."""
        X, y = self.X, self.y
        if stage in self.prepared:
            # In memory for a fit on all of it, as estimators may write to it.
            prepared = self.prepared[stage]
            X = prepared.load() if split is None else prepared.open()
        if split is not None:
            X, y = split_safely(estimator, X, y, self.splits[split][0])
        return (X,) if y is None else (X, y)

    def _put_back(self, estimator, stage):
        """Have a fitted estimator take X as it was before it was prepared."""
        if stage in self.prepared:
            self.prepared[stage].put_back(estimator, self.X, self.y)

    @property
    def _told(self):
        return {
            "estimator": self.search,
            "X": self.X,
            "y": self.y,
            "metadata": self.metadata,
        }


@dataclass
class StagePlan:
    """The stages of a fit, before the first one is run."""

    # The parameter that the sizes are values of.
    size_param: Any
    # The size of each stage; None without sizes.
    sizes: list[Any]
    # The number of candidates of each; None for as many as there is time for.
    budgets: list[int | None]
    # Further parameters, with a value for each stage.
    params: dict[str, list[Any]] = field(default_factory=dict)
    # Whether one search crosses all stages.
    crosses: bool = False
    # How many candidates and seconds each stage goes on without an improvement.
    patience: list[tuple[int | None, float | None]] = field(default_factory=list)

    @property
    def n_stages(self) -> int:
        """The number of stages."""
        return len(self.sizes)

    @property
    def fixed(self) -> list[dict[str, Any]]:
        """The parameters that all candidates of a stage share, for each stage."""
        return [
            ({} if size is None else {self.size_param: size})
            | {name: values[stage] for name, values in self.params.items()}
            for stage, size in enumerate(self.sizes)
        ]

    @property
    def work(self) -> list[float]:
        """The cost of an evaluation in each stage, by pixels and epochs."""
        return [_estimate_work(fixed, self.size_param) for fixed in self.fixed]

    def shares(self, fit_times: dict[int, list[float]]) -> list[float]:
        """Return in what proportion the stages share the time.

        By what their candidates cost, of which there are as many as the budgets say, or
        3:2:1. The costs are in proportion to pixels, epochs and the fraction of the
        samples, or to a power of them that fits what was measured, once two stages
        were.
        """
        n_stages = self.n_stages
        counts = [n or n_stages - i for i, n in enumerate(self.budgets)]
        work = self.work
        power = 1.0
        measured = sorted(stage for stage, times in fit_times.items() if times)
        if len(measured) > 1:
            first, last = measured[0], measured[-1]
            if (grown := work[last] / work[first]) != 1:
                mean = {s: float(np.mean(fit_times[s])) for s in (first, last)}
                ratio = max(mean[last], 1e-9) / max(mean[first], 1e-9)
                power = float(np.clip(math.log(ratio) / math.log(grown), 0, 2))
        return [n * w**power for n, w in zip(counts, work, strict=True)]

    @property
    def steps(self) -> list[list[int]]:
        """The stages of each search: one, or all of them."""
        stages = range(self.n_stages)
        return [[*stages]] if self.crosses else [[stage] for stage in stages]

    @property
    def described_sizes(self) -> list[Any]:
        """The sizes, or all parameters of the stages: by these they are told apart."""
        return self.fixed if self.params else self.sizes

    def hand_on(self, stage: int, n_spent: int) -> None:
        """Give the next stage the candidates that one has not spent."""
        if stage + 1 == self.n_stages:
            return
        budget, following = self.budgets[stage : stage + 2]
        if budget is not None and following is not None:
            self.budgets[stage + 1] = following + budget - n_spent

    def name(self, *stages: int) -> str:
        """Return the name of a stage, or of several, for messages."""
        if len(stages) > 1:
            return f"stages {stages[0]} to {stages[-1]}"
        size = self.sizes[stages[0]]
        return f"stage {stages[0]}" + ("" if size is None else f", size {size}")

    def make_deadline(
        self,
        stage: int,
        end: float,
        *,
        refit_ratio: float,
        climbs: bool = False,
        fit_times: dict[int, list[float]] | None = None,
    ) -> Deadline:
        """Return the deadline of a stage that begins now.

        Each stage has its share of the time that is left when it begins, and goes on
        until it has a result. The last one also leaves time for the fit on all data, as
        long as the longest of the evaluations, in proportion to the number of samples.
        """
        fit_times = {} if fit_times is None else fit_times
        deadline = Deadline(end, None, refit_ratio, climbs, fit_times)
        if stage == self.n_stages - 1 or end == math.inf:
            return deadline
        shares = self.shares(fit_times)[stage:]
        share = deadline.seconds_left * shares[0] / sum(shares)
        limit = end - deadline.reserve
        return Deadline(time.monotonic() + share, limit, fit_times=fit_times)


@dataclass
class Stage:
    """A stage that is about to be run."""

    job: Job
    executor: Executor
    # For temporary files.
    directory: str
    callback_ctx: Any
    deadline: Deadline = field(default_factory=Deadline)
    # Evaluations in flight, if the user has set it.
    pre_dispatch: int | str | None = None
    # Whether there is a pruner.
    can_prune: bool = False
    # Called with each row that is complete.
    listeners: Sequence[Callable[[Row], None]] = ()
    # How long it goes on without an improvement.
    patience: Patience = field(default_factory=Patience)
    # Whose weights are kept, if a search that crosses stages decides on it.
    heirs: Heirs | None = None

    def make_scheduler(self, pre_dispatch: int | str) -> Scheduler:
        """Return what evaluates the rows of the stage."""
        return Scheduler(
            self.executor,
            self.job,
            self.directory,
            self.deadline,
            pre_dispatch=count_in_flight(pre_dispatch, self.executor.n_workers),
            callback_ctx=self.callback_ctx,
            listeners=self.listeners,
            patience=self.patience,
        )


def _estimate_work(fixed, size_param):
    """Return what a fit costs, in pixels times epochs times the part of the samples.

    It is 1 if nothing is known.
    """
    work = 1.0
    for name, value in fixed.items():
        is_size, parameter = name == size_param, name.rpartition("__")[2]
        if is_size and parameter == "size":
            work *= math.prod(value) if isinstance(value, tuple) else value**2
        elif is_size or parameter in ("max_epochs", "fraction"):
            work *= value if isinstance(value, Real) and value > 0 else 1
    return work


def _list_splits(cv, X, y, params):
    """Return the splits of a splitter, with an error if there is anything odd."""
    splits = list(cv.split(X, y, **params))
    if not splits:
        raise ValueError(
            "No fits were performed. Was the CV iterator empty? Were there no "
            "candidates?"
        )
    n_splits = cv.get_n_splits(X, y, **params)
    if len(splits) != n_splits:
        raise ValueError(
            "cv.split and cv.get_n_splits return inconsistent results. Expected "
            f"{n_splits} splits, got {len(splits)}"
        )
    return splits


def count_in_flight(pre_dispatch: int | str, n_workers: int) -> int:
    """Return the number of evaluations in flight.

    Raises
    ------
    ValueError
        If it is none of these, or less than 1.
    """
    if pre_dispatch == "all":
        return sys.maxsize
    text = str(pre_dispatch).replace(" ", "")
    terms = [term.split("*") for term in text.split("+")]
    try:
        count = sum(
            math.prod(n_workers if f == "n_jobs" else int(f) for f in factors)
            for factors in terms
        )
    except ValueError:
        count = 0
    if count < 1:
        raise ValueError(
            f"pre_dispatch={pre_dispatch!r} must be a number >= 1, 'all', or one such "
            "as '2*n_jobs' or 'n_jobs+1'"
        )
    return count


def split_budget(
    n_iter: int | Sequence[int | None] | None, n_stages: int, factor: int | None = None
) -> list[int | None]:
    """Return the number of candidates of each stage; None if time is the budget.

    They are like 3:2:1, or like 9:3:1 with a factor of 3, of which each is at least 1.
    """
    if n_iter is None:
        return [None] * n_stages
    if isinstance(n_iter, int | np.integer):
        # What is left over goes to the first stage.
        parts = list(range(n_stages, 0, -1))
        if factor is not None:
            parts = [factor**i for i in reversed(range(n_stages))]
        budgets: list[int | None] = []
        least = 0 if factor is None else 1
        counts = [max(int(n_iter) * part // sum(parts), least) for part in parts]
        counts[0] += int(n_iter) - sum(counts)
        budgets += counts
    else:
        budgets = list(n_iter)
    if len(budgets) != n_stages or not all(
        n is None or (isinstance(n, Integral) and n > 0) for n in budgets
    ):
        raise ValueError(
            f"n_iter={n_iter!r} must give each of {n_stages} stages a whole number > 0"
        )
    return [None if n is None else int(n) for n in budgets]


def plan_sizes(
    estimator: Any,
    searched: Collection[str],
    X: Any,
    *,
    sizes: Sequence[Any] | None,
    size_param: str | None,
    stage_params: dict[str, Any] | None,
) -> tuple[str | None, list[Any], dict[str, list[Any]]]:
    """Return what the stages differ by.

    Parameters
    ----------
    estimator : estimator object
        What is searched.

    searched : collection of str
        The names of its hyperparameters.

    X : array-like
        The images.

    sizes, size_param, stage_params
        As in :class:`~sklearn_iis.IISSearchCV`.

    Returns
    -------
    size_param : str or None
        The parameter that the sizes are values of; None without sizes.

    sizes : list
        The size of each stage; None without sizes.

    params : dict of str to list
        Further parameters, with a value for each stage.

    Raises
    ------
    ValueError
        If they do not fit each other, or the estimator.
    """
    stage_params = stage_params or {}
    _check_stage_params(estimator, searched, stage_params)
    size_param = _find_size_param(estimator, size_param)
    params = {n: list(v) for n, v in stage_params.items() if n != size_param}
    if size_param in stage_params:
        if sizes is not None:
            raise ValueError(f"stage_params has {size_param!r}, and so does sizes")
        sizes = stage_params[size_param]
    if size_param in searched:
        if sizes is not None:
            raise ValueError(
                f"{size_param!r} cannot be searched and given sizes at once"
            )
        size_param = None
    if sizes is not None:
        of_stages = _check_sizes(sizes, size_param, estimator)
    elif size_param is not None:
        of_stages = default_sizes(X)
    else:
        of_stages = [None] * max(map(len, params.values()), default=1)
    for name, values in params.items():
        if len(values) != len(of_stages):
            raise ValueError(
                f"stage_params[{name!r}]={values} must have a value for each of "
                f"{len(of_stages)} stages (sizes {of_stages})"
            )
    return size_param, of_stages, params


def _check_stage_params(estimator, searched, stage_params):
    """Raise an error if `stage_params` names what a stage cannot set."""
    valid = estimator.get_params(deep=True)
    for name, values in stage_params.items():
        if name not in valid:
            raise ValueError(
                f"stage_params names {name!r}, which is no parameter of "
                f"{type(estimator).__name__}; it has {sorted(valid)}"
            )
        if name in searched:
            raise ValueError(f"{name!r} cannot be searched and in stage_params")
        is_listed = hasattr(values, "__len__") and hasattr(values, "__getitem__")
        if isinstance(values, str | dict) or not is_listed or not len(values):
            raise ValueError(
                f"stage_params[{name!r}] must be a list of one value per stage, got "
                f"{values!r}"
            )


def _find_size_param(estimator, size_param):
    """Return the parameter that sizes are values of; None if there is none."""
    valid = estimator.get_params(deep=True)
    if size_param is not None:
        if size_param not in valid:
            raise ValueError(
                f"size_param={size_param!r} is no parameter of "
                f"{type(estimator).__name__}; it has {sorted(valid)}"
            )
        return size_param
    found = [f"{n}__size" for n, v in valid.items() if isinstance(v, ImageResizer)]
    if len(found) > 1:
        raise ValueError(f"there are several sizes, choose a size_param of {found}")
    return found[0] if found else None


def _check_sizes(given, size_param, estimator):
    """Return the sizes of the stages, none smaller than the one before it."""
    if size_param is None:
        raise ValueError(
            f"sizes={given!r} need a parameter to be values of, and "
            f"{type(estimator).__name__} has no ImageResizer: name it with size_param"
        )
    sizes = [tuple(s) if isinstance(s, list) else s for s in given]
    if not sizes:
        raise ValueError("sizes is empty: name one size a stage, or None")
    sides = [size if isinstance(size, tuple) else (size, size) for size in sizes]
    if not all(isinstance(side, Real) for size in sides for side in size):
        raise ValueError(
            f"sizes must be numbers, or pairs (height, width) of numbers, got {sizes}: "
            "instead of None name the size that the images have, or None for all sizes"
        )
    for before, after in pairwise(sides):
        if any(b > a for b, a in zip(before, after, strict=True)):
            raise ValueError(
                f"sizes must not decrease from stage to stage, got {sizes}"
            )
    return sizes


def default_sizes(X: Any) -> list[Any]:
    """Return a quarter, a half and all of the size of the images."""
    if not isinstance(X, np.ndarray) or X.ndim < 3:
        raise ValueError(
            "sizes=None needs images as one array of shape (n, height, width[, "
            "channels]) to know their size; otherwise name sizes, such as (32, 64, 128)"
        )
    height, width = X.shape[1:3]
    sizes = [(max(height // n, 1), max(width // n, 1)) for n in (4, 2, 1)]
    return [h if h == w else (h, w) for h, w in sizes]
