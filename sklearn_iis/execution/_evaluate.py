"""An evaluation: fit a candidate on a split and score it, in whatever process."""

import math
import numbers
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from traceback import format_exc
from typing import Any

import numpy as np
from sklearn import config_context, get_config
from sklearn.base import clone

from sklearn_iis._sklearn_compat import (
    hand_on_callbacks,
    list_scorers,
    select_params,
    split_safely,
    without_callbacks,
)
from sklearn_iis.execution._checkpoints import Checkpoints
from sklearn_iis.execution._estimator_files import EstimatorFiles
from sklearn_iis.execution._gpus import (
    AUTO,
    Gpus,
    GpuSlot,
    find_auto_devices,
    free_memory,
    is_out_of_gpu_memory,
    loading_on,
)
from sklearn_iis.execution._inheritance import (
    Inheritance,
    check_heirs,
    end_inheriting,
    inherit,
)
from sklearn_iis.execution._monitor import Monitor, monitored
from sklearn_iis.execution._prepared import PASSTHROUGH
from sklearn_iis.execution._record import Record, Row, Scores, Task
from sklearn_iis.execution._text import shorten_error
from sklearn_iis.space import SearchSpace


@dataclass
class Scoring:
    """How evaluations are scored, as scikit-learn's searches have it."""

    scorer: Any
    # The metric that guides the search; None for the first one.
    guide: str | None = None
    error_score: Any = np.nan
    return_train_score: bool = False

    @property
    def raises(self) -> bool:
        """Whether an error ends the search."""
        return isinstance(self.error_score, str)

    @property
    def failed(self) -> float:
        """The score of a metric that failed."""
        return math.nan if self.raises else float(self.error_score)

    @property
    def all_failed(self) -> Scores:
        """The scores of an evaluation that failed."""
        # The metrics of a callable are not known: a number stands for all of them.
        names = sorted(list_scorers(self.scorer), key=lambda name: name != self.guide)
        return dict.fromkeys(names, self.failed) if names else self.failed


@dataclass
class Fidelity:
    """Parameters that grow from stage to stage, such as the size, and the images."""

    X: Any
    # Parameters of the estimator that all candidates of the stage share.
    fixed: dict[str, Any] = field(default_factory=dict)
    # The leading steps of the pipeline that X has been through already.
    skipped: tuple[str, ...] = ()

    def make(self, estimator: Any, params: dict[str, Any]) -> Any:
        """Return a candidate, not fitted, without the steps that are skipped."""
        # Some parameters may be estimators themselves.
        params = self._skip | clone(self._select(params), safe=False)
        made = clone(estimator)
        return made.set_params(**params) if params else made

    def inherit(self, learned: Any, below: "Fidelity", estimator: Any) -> Any:
        """Return a candidate that was fitted below, for a fit that starts from it.

        Parameters
        ----------
        learned : estimator object
            It is changed.

        below : Fidelity
            That of the stage that it was fitted in.

        estimator : estimator object
            That of the user.
        """
        missing = set(below.skipped) - set(self.skipped)
        steps = {name: estimator.get_params()[name] for name in missing}
        return inherit(learned, steps | self._skip | self._select(self.fixed))

    @property
    def _skip(self):
        return dict.fromkeys(self.skipped, PASSTHROUGH)

    def _select(self, params):
        """Return the parameters of the steps that are not skipped."""
        return {
            name: value
            for name, value in params.items()
            if name.partition("__")[0] not in self.skipped
        }


@dataclass
class Job:
    """All that evaluations share; each worker gets it once."""

    # The user's, which is cloned before it is changed.
    estimator: Any
    space: SearchSpace
    # By the indices of stages: of the one that is run, of those before it if weights
    # are inherited, and of all if a search crosses them.
    fidelities: dict[int, Fidelity]
    y: Any
    # The training and the test samples of each split.
    splits: list[tuple[Any, Any]]
    scoring: Scoring
    # Further arguments of `fit` and of the scorer, split along with X.
    fit_params: dict[str, Any] = field(default_factory=dict)
    score_params: dict[str, Any] = field(default_factory=dict)
    # The seconds that a fit may take.
    trial_timeout: float | None = None
    trials_per_gpu: int = 1
    checkpoints: Checkpoints | None = None
    # How a candidate starts from what it learned in the stage before, if it does.
    inheritance: Inheritance | None = None
    # Where fitted estimators are kept, if some are averaged at last.
    kept: EstimatorFiles | None = None
    # Writes records that last, if there is a storage.
    recorder: Any = None
    # The search, if it has callbacks.
    caller: Any = None
    # What workers would otherwise not know of the process of the search.
    config: dict[str, Any] = field(default_factory=get_config)
    warning_filters: list[Any] = field(default_factory=lambda: [*warnings.filters])

    @property
    def last_stage(self) -> int:
        """The index of the stage that is run, or of the last that is crossed."""
        return max(self.fidelities)

    def decode(self, task: Task | Row) -> dict[str, Any]:
        """Return the parameters of the estimator that a candidate stands for."""
        fixed = self.fidelities[task.stage].fixed
        return self.space.decode(task.codes) | fixed | task.params


def evaluate(
    job: Job, task: Task, seconds_left: float = math.inf, callback_ctx: Any = None
) -> Record:
    """Fit a candidate on a split, score it, and write its record to the storage.

    Raises
    ------
    Exception
        What failed, if errors end the search; otherwise only what the candidate is not
        to blame for: a storage that cannot be written, or locks that cannot be made.
    """
    evaluation = _Evaluation(job, task, time.monotonic() + seconds_left, callback_ctx)
    try:
        with config_context(**job.config):
            record = evaluation.attempt()
            if record is None:
                # By now, nothing refers to what the first attempt left on the GPU.
                record = evaluation.attempt_alone()
        if job.recorder is not None and not record.unfinished:
            job.recorder.add(task, record)
        record.history = []  # nobody else asks for it
        return record
    finally:
        evaluation.close()


class _Evaluation:
    """An evaluation under way: one attempt, or a second one alone on the GPU."""

    def __init__(self, job: Job, task: Task, end: float, callback_ctx: Any):
        self.job = job
        self.task = task
        self.end = end
        self.callback_ctx = callback_ctx
        self.slot: GpuSlot | None = None

    def time_left(self) -> float:
        return self.end - time.monotonic()

    def attempt(self) -> Record | None:
        """Fit and score; return None if the GPU was too full."""
        record = Record(started=time.time())
        if self.time_left() <= 0:
            record.unfinished = True
            return record
        with self._failures(record):
            estimator = self._make_estimator(self.task.stage)
            if self.job.inheritance is not None:
                check_heirs(estimator)
        if record.error is None:
            devices = find_auto_devices(estimator)
            record.unfinished = bool(devices) and not self._take_slot()
            if not record.unfinished:
                estimator = self._fit(estimator, devices, record)
        if record.error is None and not record.unfinished:
            self._score(estimator, record)
            if self.job.kept is not None and record.error is None and not record.pruned:
                self.job.kept.save(self.task, estimator)
        if record.error is not None:
            record.scores = self.job.scoring.all_failed
            if self.job.scoring.return_train_score:
                record.train_scores = record.scores
            if self._is_gpu_too_full(record.error):
                return None
            if "memory" in record.error.rstrip().rpartition("\n")[2].lower():
                free_memory()  # to look for garbage takes longer than many fits
        return record

    def attempt_alone(self) -> Record:
        """Fit and score once no other evaluation is on the GPU, if there is time."""
        try:
            self.slot.become_alone(self.time_left)  # type: ignore[union-attr]
        except TimeoutError:
            return Record(unfinished=True)
        record = self.attempt()
        assert record is not None, "alone, a GPU is not too full for the candidate only"
        return record

    def close(self) -> None:
        """Give the slot back; tell the storage if there is no outcome."""
        if self.slot is not None:
            self.slot.give_back()
        if self.job.recorder is not None:
            self.job.recorder.drop(self.task)

    def _take_slot(self) -> bool:
        """Take a slot on a GPU, if there is any; return whether one came in time."""
        if self.slot is None:
            try:
                self.slot = Gpus(self.job.trials_per_gpu).take(self.time_left)
            except TimeoutError:
                return False
        return True

    def _make_estimator(self, stage):
        """Return the candidate in a stage, not fitted."""
        fidelity = self.job.fidelities[stage]
        for name in self.task.params:
            if (step := name.partition("__")[0]) in fidelity.skipped:
                raise ValueError(
                    f"{name!r} cannot vary from candidate to candidate, as the step "
                    f"{step!r} was computed once for all: name it in the space"
                )
        params = self.job.decode(self.task.at(stage))
        return fidelity.make(self.job.estimator, params)

    def _select_training(self, estimator, stage):
        """Return the training samples of the split, and the parameters of `fit`."""
        job = self.job
        all_X, train = job.fidelities[stage].X, job.splits[self.task.split][0]
        X, y = split_safely(estimator, all_X, job.y, train)
        params = select_params(all_X, params=job.fit_params, indices=train)
        return X, y, params

    def _fit(self, estimator, devices, record):
        """Fit an estimator; return what is fitted, and tell the record how it went."""
        job = self.job
        data = self._select_training(estimator, self.task.stage)
        monitor = Monitor()
        if job.recorder is not None:
            job.recorder.drop(self.task)  # what a first attempt has begun
            monitor = job.recorder.begin(self.task)
        limit = math.inf if job.trial_timeout is None else job.trial_timeout
        start = time.perf_counter()
        time_left = self.time_left()

        def begin_stage():
            nonlocal time_left
            time_left = self.time_left()
            if job.inheritance is not None:
                record.climb_time = time.perf_counter() - start
            monitor.limit(min(limit, time_left))

        def is_excused():
            return monitor.late or monitor.error or record.own_fit_time > limit

        with self._failures(record, is_excused):
            try:
                with monitored(monitor):
                    with monitor.not_pruning():
                        learned = self._fit_below(devices, begin_stage)
                    begin_stage()
                    estimator = self._fit_last(estimator, learned, devices, data)
            finally:
                record.fit_time = time.perf_counter() - start
                record.history = monitor.history
                record.pruned = monitor.stopped
        if monitor.error is not None:
            raise monitor.error
        if record.own_fit_time > limit or (monitor.late and limit <= time_left):
            self._exceed(record, limit)
        elif monitor.late:
            record.error, record.unfinished = None, True
        return estimator

    def _exceed(self, record, limit):
        """Have the record tell that the fit took too long."""
        # Where in the training it happened is of no interest.
        message = (
            f"the fit took {record.own_fit_time:.3g} seconds, more than "
            f"trial_timeout={limit}"
        )
        record.time_limit, record.error = limit, f"TimeoutError: {message}"
        if self.job.scoring.raises:
            raise TimeoutError(message)

    @property
    def _device(self):
        return None if self.slot is None else self.slot.device

    def _fit_below(self, devices, begin_stage):
        """Return what the candidate has learned in the stages before, if it inherits.

        Training that is not in a file any more is done again.
        """
        inheritance, last = self.job.inheritance, self.task.stage
        if inheritance is None:
            return None
        with loading_on(self._device):
            first, learned = inheritance.find(self.task)
        for stage in range(first, last):
            if learned is None:
                learned = self._make_estimator(stage)
            else:
                learned = self._inherit(learned, stage)
            data = self._select_training(learned, stage)
            begin_stage()
            with without_callbacks(learned):
                self._fit_once(learned, devices, *data)
        return learned

    def _inherit(self, learned, stage):
        below, fidelity = (self.job.fidelities[i] for i in (stage - 1, stage))
        return fidelity.inherit(learned, below, self.job.estimator)

    def _fit_last(self, estimator, learned, devices, data):
        """Fit in the stage of the task, from what there is; return what is fitted."""
        job, begun, checkpoint = self.job, estimator, None
        if learned is not None:
            begun = self._inherit(learned, self.task.stage)
        elif job.checkpoints is not None:
            checkpoint = job.checkpoints.find(estimator, self.task)
        if checkpoint is not None:
            with loading_on(self._device):
                begun = checkpoint.resume(estimator)
        hand_on_callbacks(estimator, begun)
        with self._callbacks(begun, *data):
            self._fit_once(begun, devices, *data)
        if job.inheritance is not None:
            end_inheriting(begun, estimator)
            job.inheritance.save(self.task, begun)
        if checkpoint is not None:
            checkpoint.save(begun)
        return begun

    def _fit_once(self, estimator, devices, X, y, params):
        if devices:
            # What was loaded may have been elsewhere.
            estimator.set_params(**dict.fromkeys(devices, self._device or AUTO))
        estimator.fit(*((X,) if y is None else (X, y)), **params)

    @contextmanager
    def _callbacks(self, estimator, X, y, params) -> Iterator[None]:
        """Tell scikit-learn's callbacks of the fit."""
        if self.callback_ctx is None:
            yield
            return
        weights = params.get("sample_weight")
        told = {
            "estimator": self.job.caller,
            "X": X,
            "y": y,
            "metadata": None if weights is None else {"sample_weight": weights},
        }
        try:
            with self.callback_ctx.propagate_callback_context(estimator):
                self.callback_ctx.call_on_fit_task_begin(**told)
                yield
        finally:
            self.callback_ctx.call_on_fit_task_end(**told)

    def _score(self, estimator, record):
        """Score the test data, then perhaps the training data."""
        job, (train, test) = self.job, self.job.splits[self.task.split]
        all_X = job.fidelities[self.task.stage].X
        start = time.perf_counter()
        X, y = split_safely(estimator, all_X, job.y, test, train)
        params = select_params(all_X, params=job.score_params, indices=test)
        with self._failures(record):
            record.scores = self._call_scorer(estimator, X, y, params)
            if not math.isfinite(record.guide):
                raise ValueError(f"the score is {record.guide}")
        record.score_time = time.perf_counter() - start
        if job.scoring.return_train_score and record.error is None:
            X, y = split_safely(estimator, all_X, job.y, train)
            params = select_params(all_X, params=job.score_params, indices=train)
            with self._failures(record):
                record.train_scores = self._call_scorer(estimator, X, y, params)

    def _call_scorer(self, estimator, X, y, params) -> Scores:
        """Return the scores, the guiding one first."""
        scoring = self.job.scoring
        scores = scoring.scorer(estimator, *((X,) if y is None else (X, y)), **params)
        if not isinstance(scores, dict):
            return _as_float(scores)
        for error in scores.values():
            # scikit-learn's multimetric scorer gives the traceback of a metric.
            if isinstance(error, str) and self._is_gpu_too_full(error):
                raise RuntimeError(error)
        guide = scoring.guide if scoring.guide in scores else next(iter(scores))
        further = {
            name: _check_further(name, score, scoring.failed)
            for name, score in scores.items()
            if name != guide
        }
        return {guide: _as_float(scores[guide]), **further}

    @contextmanager
    def _failures(self, record, is_excused=lambda: False) -> Iterator[None]:
        """Have the record keep an error, unless errors end the search."""
        try:
            yield
        except Exception:
            record.error = shorten_error(format_exc())
            is_excused = is_excused() or self._is_gpu_too_full(record.error)
            if self.job.scoring.raises and not is_excused:
                raise

    def _is_gpu_too_full(self, error):
        """Return whether what failed may succeed alone on the GPU."""
        return (
            self.slot is not None
            and not self.slot.is_alone
            and is_out_of_gpu_memory(error)
        )


def _check_further(name, score, failed):
    """Return the score of a metric that does not guide: it fails by itself."""
    if isinstance(score, str):
        warnings.warn(
            f"The metric {name!r} failed and is set to {failed}. Details:\n{score}",
            UserWarning,
            stacklevel=2,
        )
        return failed
    return _as_float(score)


def _as_float(score):
    """Return a score as a float; raise an error if it is no number."""
    if isinstance(score, str):  # the traceback of a metric
        raise RuntimeError(score)
    if hasattr(score, "item"):
        score = score.item()
    if not isinstance(score, numbers.Real | np.floating):
        raise TypeError(f"the score must be a number, got {score!r}")
    return float(score)
