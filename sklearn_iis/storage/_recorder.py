"""Records of a stage in its study: written by workers, read by the main process."""

import datetime
import math
import numbers
import os
import platform
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.pruners import BasePruner, MedianPruner
from optuna.samplers import RandomSampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from sklearn_iis._optuna import MAX_FLOAT, Distribution, show_code, value_distribution
from sklearn_iis.execution._monitor import Monitor
from sklearn_iis.execution._record import Record, Task
from sklearn_iis.execution._text import printable, shorten_error
from sklearn_iis.space import Candidate, Continuous, Discrete
from sklearn_iis.storage._errors import StorageError
from sklearn_iis.storage._fingerprint import describe, digest
from sklearn_iis.storage._open import SharedStorage

# The user attribute of a trial by which it is found again, and that of a study by which
# it is known to be still the same: databases give the id of a deleted study to another.
EVALUATION = "sklearn_iis evaluation"
OWNER = "sklearn_iis owner"

# The digits of what is told of an epoch: MySQL has room for about 1000 epochs.
HISTORY_DIGITS = 6

NOT_FINITE = ("nan", "inf", "-inf")


@dataclass(eq=False)
class StudyRecorder:
    """Keeps the records of a stage in a study; can be sent to workers.

    Threads may share it. Before each write it looks whether the study is still there.

    Parameters
    ----------
    storage : SharedStorage
        The place of the study.

    study_id : int
        Its number.

    study_name : str
        Its name.

    call : str
        A digest of all that scores depend on besides the candidate and the split;
        records of another call are left alone.

    dimensions : dict of str to dimension
        The hyperparameters, with their whole ranges.

    pruner : optuna.pruners.BasePruner, default=None
        Stops hopeless evaluations.
    """

    storage: SharedStorage
    study_id: int
    study_name: str
    call: str
    dimensions: dict[str, Continuous | Discrete]
    pruner: BasePruner | None = None
    owner: str = field(init=False)
    distributions: dict[str, Distribution] = field(init=False)
    _running: dict[str, int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.owner = make_owner(self.study_name, self.call)
        self.distributions = {
            name: value_distribution(dimension, describe)
            for name, dimension in self.dimensions.items()
        }

    def __getstate__(self) -> dict[str, Any]:
        # Trials that are running are known to the process that began them.
        return vars(self) | {"_running": {}}

    def begin(self, task: Task) -> Monitor:
        """Return the monitor of an evaluation; with a pruner, begin its trial.

        Raises
        ------
        StorageError
            If the storage cannot be written, or the study was deleted.
        """
        if self.pruner is None:
            return Monitor()
        self.drop(task)
        trial = self._make_trial(task, TrialState.RUNNING)
        with self._writing() as storage:
            trial_id = storage.create_new_trial(self.study_id, trial)
        self._running[task.key] = trial_id
        return Monitor(should_stop=partial(self._should_stop, trial_id))

    def add(self, task: Task, record: Record) -> None:
        """Write the record of an evaluation that is finished.

        Raises
        ------
        StorageError
            If the storage cannot be written, or the study was deleted.
        """
        score: float | None = float(record.guide)
        state = TrialState.PRUNED if record.pruned else TrialState.COMPLETE
        if record.error is not None:
            state, score = TrialState.FAIL, None
        trial_id = self._running.pop(task.key, None)
        if trial_id is None or not self._finish(trial_id, state, score, record):
            trial = self._make_trial(task, state, score, record)
            with self._writing() as storage:
                storage.create_new_trial(self.study_id, trial)

    def drop(self, task: Task) -> None:
        """End the trial of an evaluation that has no outcome, if it was begun."""
        trial_id = self._running.pop(task.key, None)
        if trial_id is None:
            return
        # The user is to be told of the error that ended the evaluation.
        with (
            suppress(StorageError, UpdateFinishedTrialError),
            self._writing() as storage,
        ):
            storage.set_trial_state_values(trial_id, TrialState.FAIL)

    def read(self) -> dict[str, Record]:
        """Return the records of this call, by the keys of their tasks.

        Trials that cannot be read are left out, with a warning.

        Raises
        ------
        StorageError
            If the storage cannot be read, or the study was deleted.
        """
        trials = read_trials(self.storage, self.study_id, self.study_name)
        selected, refused = select_records(trials, self.call)
        if refused:
            warnings.warn(
                f"storage {self.storage.name!r}: {len(refused)} trials of the study "
                f"{self.study_name!r} cannot be read and are ignored: {refused[0]}",
                UserWarning,
                stacklevel=2,
            )
        return {t.user_attrs[EVALUATION]["key"]: record for t, record in selected}

    def end_dead_trials(self) -> None:
        """Mark the trials that workers of this machine left running when they died.

        Raises
        ------
        StorageError
            If the storage cannot be read or written, or the study was deleted.
        """
        trials = read_trials(self.storage, self.study_id, self.study_name)
        for trial in trials:
            if trial.state == TrialState.RUNNING and _is_dead(trial):
                with suppress(UpdateFinishedTrialError), self._writing() as storage:
                    storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)

    def _finish(self, trial_id, state, score, record):
        """Finish a trial that was begun; return False if somebody else has done so."""
        try:
            with self._writing() as storage:
                for name, value in to_attributes(record).items():
                    storage.set_trial_user_attr(trial_id, name, value)
                values = None if score is None else [score]
                storage.set_trial_state_values(trial_id, state, values)
        except UpdateFinishedTrialError:  # by hand, as in optuna-dashboard
            return False
        return True

    def _should_stop(self, trial_id: int, epoch: int, score: float) -> bool:
        """Return whether the pruner stops a trial after an epoch."""
        assert self.pruner is not None
        try:
            with self._writing() as storage:
                storage.set_trial_intermediate_value(trial_id, epoch, score)
                trial = storage.get_trial(trial_id)
                study = optuna.load_study(
                    study_name=self.study_name, storage=storage, sampler=RandomSampler()
                )
        except UpdateFinishedTrialError:
            raise RuntimeError(
                "the trial was ended by hand, as by a button of optuna-dashboard"
            ) from None
        with self.storage.errors():  # it reads the other trials
            return self.pruner.prune(study, trial)

    @contextmanager
    def _writing(self) -> Iterator[BaseStorage]:
        """Provide the storage, if the study is still there."""
        with no_key_errors(self.storage, self.study_name), self.storage.errors():
            storage = self.storage.open()
            attributes = storage.get_study_user_attrs(self.study_id)
            if attributes.get(OWNER) != self.owner:
                raise KeyError(self.study_id)
            yield storage

    def _make_trial(self, task, state, score=None, record=None):
        """Return the trial of an evaluation, with its record if there is one."""
        # Few attributes, as databases take a while for each.
        attributes = {
            "split": task.split,
            **{name: describe(value) for name, value in task.params.items()},
            EVALUATION: {
                "key": task.key,
                "call": self.call,
                "codes": {name: to_json(code) for name, code in task.codes.items()},
                "worker": _this_worker(),
            },
        }
        params = {
            name: show_code(code, self.dimensions[name], self.distributions[name])
            for name, code in task.codes.items()
        }
        trial = create_trial(
            state=state,
            value=score,
            params=params,
            distributions={name: self.distributions[name] for name in params},
            user_attrs=attributes | ({} if record is None else to_attributes(record)),
            intermediate_values={} if record is None else _to_steps(record.history),
        )
        started = time.time() if record is None else record.started
        trial.datetime_start = datetime.datetime.fromtimestamp(started)
        return trial


@dataclass(eq=False)
class StageRecorders:
    """The recorders of stages that one search crosses, a study for each.

    Parameters
    ----------
    recorders : dict of int to StudyRecorder
        By the indices of the stages.
    """

    recorders: dict[int, StudyRecorder]

    def begin(self, task: Task) -> Monitor:
        """Return the monitor of an evaluation."""
        return self.recorders[task.stage].begin(task)

    def add(self, task: Task, record: Record) -> None:
        """Write the record of an evaluation that is finished."""
        self.recorders[task.stage].add(task, record)

    def drop(self, task: Task) -> None:
        """End the trial of an evaluation that has no outcome, if it was begun."""
        self.recorders[task.stage].drop(task)

    def read(self) -> dict[str, Record]:
        """Return the records of this call, by the keys of their tasks."""
        read = [recorder.read() for recorder in self.recorders.values()]
        return {key: record for records in read for key, record in records.items()}

    def end_dead_trials(self) -> None:
        """Mark the trials that workers of this machine left running."""
        for recorder in self.recorders.values():
            recorder.end_dead_trials()


def make_pruner(pruner: str | BasePruner | None) -> BasePruner | None:
    """Return a pruner by its name, or a copy of a given one."""
    # Some remember what they have seen.
    return MedianPruner() if isinstance(pruner, str) else deepcopy(pruner)


def make_owner(study_name: str, call: str) -> str:
    """Return the attribute by which a study is known to belong to a call.

    It is the same in all processes of the call, so that any of them may write it.
    """
    return digest([study_name, call])


@contextmanager
def no_key_errors(storage: SharedStorage, study_name: str) -> Iterator[None]:
    """Turn Optuna's error for a study that is not there into one of the storage."""
    try:
        yield
    except KeyError as error:
        raise StorageError(
            f"storage {storage.name!r}: the study {study_name!r} was deleted meanwhile"
        ) from error


def read_trials(
    storage: SharedStorage, study_id: int, study_name: str
) -> list[FrozenTrial]:
    """Return all trials of a study.

    Raises
    ------
    StorageError
        If they cannot be read, or the study was deleted.
    """
    try:
        with no_key_errors(storage, study_name), storage.errors():
            return storage.open().get_all_trials(study_id, deepcopy=False)
    except (AttributeError, TypeError, ValueError) as error:
        raise StorageError(
            f"storage {storage.name!r}: Optuna cannot read the study {study_name!r} "
            f"({printable(repr(error))}): it is damaged, or of a newer version"
        ) from error


def select_records(
    trials: Sequence[FrozenTrial], call: str
) -> tuple[list[tuple[FrozenTrial, Record]], list[str]]:
    """Return the trials that are evaluations of a call, with their records."""
    selected, refused = [], []
    for trial in trials:
        try:
            if _is_record(trial, call):
                selected.append((trial, to_record(trial)))
        except (ValueError, ArithmeticError, OSError) as error:
            refused.append(f"trial {trial.number}: {printable(str(error))}")
    return selected, refused


def _is_record(trial: FrozenTrial, call: str) -> bool:
    evaluation = trial.user_attrs.get(EVALUATION, {})
    _check(isinstance(evaluation, dict), EVALUATION, evaluation)
    # An interrupted one has no scores.
    return evaluation.get("call") == call and "scores" in trial.user_attrs


def _is_dead(trial: FrozenTrial) -> bool:
    """Return whether the worker of a trial is known not to be running any more."""
    evaluation = trial.user_attrs.get(EVALUATION)
    worker = evaluation.get("worker") if isinstance(evaluation, dict) else None
    host, _, process = str(worker).rpartition(":")
    # On Windows the signal 0 is not harmless.
    if host != platform.node() or os.name == "nt" or not process.isdecimal():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        pass
    return False


def _check_attributes(attributes: dict[str, Any]) -> None:
    """Raise an error if one is not as it was written: anybody may have changed it."""
    evaluation = attributes[EVALUATION]
    key, codes = evaluation.get("key"), evaluation.get("codes")
    _check(isinstance(key, str), "key", key)
    is_candidate = isinstance(codes, dict) and all(map(_is_number, codes.values()))
    _check(is_candidate, "codes", codes)
    for name in ("scores", "train_scores"):
        scores = attributes.get(name, 0.0)
        values = [*scores.values()] if isinstance(scores, dict) else [scores]
        _check(bool(values) and all(map(_is_score, values)), name, scores)
    seconds = attributes.get("seconds")
    is_times = isinstance(seconds, dict) and all(
        _is_number(seconds.get(name, default))
        for name, default in (("fit", None), ("score", None), ("climb", 0.0))
    )
    _check(is_times, "seconds", seconds)
    error = attributes.get("error", "")
    _check(isinstance(error, str), "error", error)
    pruned = attributes.get("pruned", False)
    _check(isinstance(pruned, bool), "pruned", pruned)
    time_limit = attributes.get("time_limit", 0.0)
    _check(_is_number(time_limit), "time_limit", time_limit)


def read_codes(trial: FrozenTrial) -> Candidate:
    """Return the candidate of a trial that is a record."""
    return dict(trial.user_attrs[EVALUATION]["codes"])


def to_attributes(record: Record) -> dict[str, Any]:
    """Return a record as user attributes of a trial, but for its state."""
    attributes: dict[str, Any] = {
        "seconds": {
            "fit": record.fit_time,
            "score": record.score_time,
            **({"climb": record.climb_time} if record.climb_time else {}),
        },
    }
    if record.train_scores is not None:
        attributes["train_scores"] = to_json(record.train_scores)
    if record.error is not None:
        attributes["error"] = shorten_error(record.error)
    if record.pruned:
        attributes["pruned"] = True
    if record.time_limit is not None:
        attributes["time_limit"] = float(record.time_limit)
    if record.history:
        names = dict.fromkeys(name for row in record.history for name in row)
        attributes["history"] = {
            name: [_shorten(row.get(name)) for row in record.history] for name in names
        }
    # Last, as a trial with scores is a record even if its worker is killed now.
    return attributes | {"scores": to_json(record.scores)}


def to_record(trial: FrozenTrial) -> Record:
    """Return the record of a trial; ValueError if its attributes are of other types."""
    attributes = trial.user_attrs
    _check_attributes(attributes)
    started = trial.datetime_start
    error = attributes.get("error")
    return Record(
        scores=_from_json(attributes["scores"]),
        train_scores=_from_json(attributes.get("train_scores")),
        started=0.0 if started is None else started.timestamp(),
        fit_time=attributes["seconds"]["fit"],
        score_time=attributes["seconds"]["score"],
        climb_time=attributes["seconds"].get("climb", 0.0),
        error=None if error is None else shorten_error(error),
        pruned=attributes.get("pruned", False),
        time_limit=attributes.get("time_limit"),
    )


def to_json(value: Any) -> Any:
    """Return a number, perhaps of numpy or not finite, as any database takes it."""
    if isinstance(value, dict):
        return {name: to_json(number) for name, number in value.items()}
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool | int | str):
        return value
    value = float(value)
    return value if math.isfinite(value) else str(value)


def _from_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _from_json(score) for name, score in value.items()}
    return float(value) if isinstance(value, str) else value


def _check(is_right: bool, name: str, value: Any) -> None:
    if not is_right:
        text = repr(value)
        text = text if len(text) <= 80 else f"{text[:80]}..."
        raise ValueError(f"its attribute {name!r} is {text}")


def _is_number(value: Any) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and abs(value) <= MAX_FLOAT
    )


def _is_score(value: Any) -> bool:
    return _is_number(value) or value in NOT_FINITE


def _this_worker():
    return f"{platform.node()}:{os.getpid()}"


def _to_steps(history):
    """Return the validation score of each epoch that has one."""
    scores = [row.get("valid_score", row.get("valid_acc")) for row in history]
    return {
        epoch: float(score)
        for epoch, score in enumerate(scores, start=1)
        if isinstance(score, numbers.Real)
    }


def _shorten(value):
    """Return a figure of an epoch with as many digits as anybody needs."""
    if isinstance(value, numbers.Real | np.generic):
        value = to_json(value)
    if isinstance(value, float):
        return to_json(float(f"{value:.{HISTORY_DIGITS}g}"))
    return value if value is None or isinstance(value, int | str) else describe(value)
