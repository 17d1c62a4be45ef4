"""The studies of Optuna that a search is kept in: one a stage."""

import datetime
import math
import os
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.exceptions import DuplicatedStudyError, UpdateFinishedTrialError
from optuna.pruners import BasePruner, MedianPruner
from optuna.samplers import RandomSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from sklearn_iis._optuna import optuna_errors_only
from sklearn_iis.execution._evaluation import guiding_score
from sklearn_iis.execution._monitor import Monitor
from sklearn_iis.execution._records import Evaluation, Record, SearchAborted
from sklearn_iis.space import (
    Candidate,
    Continuous,
    Discrete,
    SearchSpace,
    distinct,
    is_log,
)
from sklearn_iis.storage._fingerprint import (
    Fingerprint,
    describe,
    digest,
    find_differences,
)
from sklearn_iis.storage._storage import SharedStorage, StorageError

# User attributes of studies, and that of trials by which they are found again.
CALL = "sklearn_iis call"
RANDOM_STATE = "sklearn_iis random_state"
TIMED = "sklearn_iis depends on timing"
EVALUATION = "sklearn_iis evaluation"

# How long, in seconds, to wait for what another search writes that has just begun.
PATIENCE = 10

# The bytes of a traceback that are kept, and the digits of what is told of an epoch:
# MySQL has room for 64 kB, which is about 1000 epochs.
MAX_ERROR = 20_000
HISTORY_DIGITS = 6

# How many stages a process remembers, as several searches may run in it at once.
N_REMEMBERED = 8

# What each process has read of a stage: its records by key.
_read: dict[tuple[str, int], dict[str, Record]] = {}


class StudyRecords:
    """Records of a stage in a study of Optuna.

    Each process reads what there is once, and writes what it adds at once.

    Parameters
    ----------
    storage : SharedStorage
        Where the study is.

    study_id : int
        Which study it is.

    token : str
        What the records of one fit are remembered by.

    call : str
        A digest of all that scores depend on besides the candidate; records of another
        call are none of ours.

    dimensions : dict of str to dimension
        The hyperparameters, with their whole ranges.

    pruner : optuna.pruners.BasePruner, default=None
        What stops hopeless evaluations.
    """

    def __init__(
        self,
        storage: SharedStorage,
        study_id: int,
        *,
        token: str,
        call: str,
        dimensions: dict[str, Continuous | Discrete],
        pruner: BasePruner | None = None,
    ):
        self.storage = storage
        self.study_id = study_id
        self.token = token
        self.call = call
        self.distributions = {n: make_distribution(d) for n, d in dimensions.items()}
        self.dimensions = dimensions
        self.pruner = pruner
        self._running: dict[str, int] = {}

    def find(self, key: str) -> Record | None:
        """Return what an evaluation came to, or None if that is not known."""
        cache = (self.token, self.study_id)
        if cache not in _read:
            _read[cache] = self._read()
            if len(_read) > N_REMEMBERED:
                del _read[next(iter(_read))]
        return _read[cache].get(key)

    def reload(self) -> None:
        """Forget what this process remembers: others may have added to it."""
        _read.pop((self.token, self.study_id), None)

    def begin(self, evaluation: Evaluation) -> Monitor:
        """Return what follows the fit of an evaluation."""
        if self.pruner is None:
            return Monitor()
        trial = self._make_trial(evaluation, TrialState.RUNNING)
        with self._storing():
            trial_id = self.storage.open().create_new_trial(self.study_id, trial)
        self._running[evaluation.key] = trial_id
        return Monitor(should_stop=partial(self._should_stop, trial_id))

    def add(self, evaluation: Evaluation, record: Record) -> None:
        """Keep the record of an evaluation that has come to its end."""
        score: float | None = float(guiding_score(record.scores))
        state = TrialState.PRUNED if record.pruned else TrialState.COMPLETE
        if record.error is not None:
            state, score = TrialState.FAIL, None
        trial_id = self._running.pop(evaluation.key, None)
        with self._storing():
            storage = self.storage.open()
            if trial_id is not None:
                try:
                    for name, value in _to_attributes(record).items():
                        storage.set_trial_user_attr(trial_id, name, value)
                    values = None if score is None else [score]
                    storage.set_trial_state_values(trial_id, state, values)
                except UpdateFinishedTrialError:  # by hand, as in optuna-dashboard
                    trial_id = None
            if trial_id is None:
                trial = self._make_trial(evaluation, state, score, record)
                storage.create_new_trial(self.study_id, trial)
        if (self.token, self.study_id) in _read:
            record = replace(record, history=[])
            _read[self.token, self.study_id][evaluation.key] = record

    def drop(self, evaluation: Evaluation) -> None:
        """Note that an evaluation has not come to its end."""
        trial_id = self._running.pop(evaluation.key, None)
        # What ends it is what the user is to be told.
        with suppress(StorageError, UpdateFinishedTrialError, KeyError):
            if trial_id is not None:
                with self.storage.errors():
                    self.storage.open().set_trial_state_values(
                        trial_id, TrialState.FAIL
                    )

    def _read(self):
        with self._storing():
            trials = self.storage.open().get_all_trials(self.study_id, deepcopy=False)
        return {
            trial.user_attrs[EVALUATION]["key"]: _to_record(trial)
            for trial in trials
            if is_record(trial, self.call)
        }

    def _should_stop(self, trial_id, epoch, score):
        try:
            with self._storing():
                storage = self.storage.open()
                storage.set_trial_intermediate_value(trial_id, epoch, score)
                trial = storage.get_trial(trial_id)
                name = storage.get_study_name_from_id(self.study_id)
                study = optuna.load_study(
                    study_name=name, storage=storage, sampler=RandomSampler()
                )
        except UpdateFinishedTrialError:
            raise RuntimeError(
                "the trial was ended by hand, as by a button of optuna-dashboard"
            ) from None
        return self.pruner.prune(study, trial)

    @contextmanager
    def _storing(self) -> Iterator[None]:
        """Have a failure of the storage end the search, not the candidate."""
        try:
            with self.storage.errors():
                yield
        except StorageError as error:
            raise SearchAborted(error) from error
        except KeyError as error:
            message = f"storage {self.storage.name!r}: the study was deleted meanwhile"
            raise SearchAborted(StorageError(message)) from error

    def _make_trial(self, evaluation, state, score=None, record=None):
        # Few attributes, as databases take a while for each.
        attributes = {
            "split": evaluation.split,
            **{name: describe(value) for name, value in evaluation.further.items()},
            EVALUATION: {
                "key": evaluation.key,
                "call": self.call,
                "codes": evaluation.codes,
                "worker": _this_worker(),
            },
        }
        params = {
            name: self._decode(name, code) for name, code in evaluation.codes.items()
        }
        trial = create_trial(
            state=state,
            value=score,
            params=params,
            distributions={name: self.distributions[name] for name in params},
            user_attrs=attributes | ({} if record is None else _to_attributes(record)),
            intermediate_values={} if record is None else _to_steps(record.history),
        )
        started = time.time() if record is None else record.started
        trial.datetime_start = datetime.datetime.fromtimestamp(started)
        return trial

    def _decode(self, name, code):
        distribution = self.distributions[name]
        if isinstance(distribution, CategoricalDistribution):
            return distribution.choices[int(code)]
        value = self.dimensions[name].decode(code)
        return min(max(value, distribution.low), distribution.high)


def make_distribution(dimension: Continuous | Discrete) -> BaseDistribution:
    """Return a dimension as Optuna shows it: the values, not the codes.

    Parameters
    ----------
    dimension : Continuous or Discrete
        With its whole range.
    """
    if isinstance(dimension, Continuous):
        low, high = dimension.range
        # What begins at 0 has no logarithm there.
        return FloatDistribution(low, high, log=low > 0 and is_log(dimension))
    levels = dimension.levels
    if isinstance(levels, range):
        return IntDistribution(levels[0], levels[-1], log=is_log(dimension))
    values = [dimension.decode(code) for code in range(int(dimension.n_levels))]
    first = values[0]
    if type(first) is int and values == list(range(first, first + len(values))):
        return IntDistribution(first, values[-1], log=is_log(dimension))
    choices = [
        value if value is None or isinstance(value, bool | int | float | str) else None
        for value in values
    ]
    shown = [
        describe(value) if choice is None and value is not None else choice
        for choice, value in zip(choices, values, strict=True)
    ]
    if len({(type(value), value) for value in shown}) < len(shown):
        shown = [f"{i}: {describe(value)}" for i, value in enumerate(values)]
    return CategoricalDistribution(shown)


class SearchStudies:
    """The studies of a search, each of which goes on where it stopped.

    Parameters
    ----------
    storage : SharedStorage
        Where they are.

    name : str
        What their names begin with.

    call : Fingerprint
        What all scores depend on besides the candidate and the size.

    settings : Fingerprint
        What else the search was called with, but for sizes and budgets.

    sizes : list
        The size of each stage.

    budgets : list of int
        The number of candidates of each stage.
    """

    def __init__(
        self,
        storage: SharedStorage,
        name: str,
        *,
        call: Fingerprint,
        settings: Fingerprint,
        sizes: Sequence,
        budgets: Sequence[int],
    ):
        self.storage = storage
        self.name = name
        self.call = digest(call)
        self.fingerprint = call | settings
        self.sizes = [describe(size) for size in sizes]
        self.budgets = list(budgets)
        # How many trials of each stage a larger budget goes on from.
        self.n_known = [0] * len(self.budgets)

    def check(self) -> None:
        """Compare this call with the one that began the studies, if there was one.

        Raises
        ------
        ValueError
            If they do not fit to each other, naming what differs.
        """
        study = self._find_study()
        if study is None:
            self._open_study(0)
            # Another search may have been faster.
            study = self._find_study()
        before = self._wait_for_call(study)
        self._compare(before)
        self.n_known[: len(before["n_known"])] = before["n_known"]
        if (before["sizes"], before["n_iter"]) != (self.sizes, self.budgets):
            self._count_known(before["n_iter"])
            self._write_call(study._study_id)

    def begin_stage(
        self,
        stage: int,
        space: SearchSpace,
        *,
        seeds: list[Candidate],
        random_state: int,
        proposes_again: bool = True,
    ) -> tuple[int, list[Candidate], int]:
        """Return where the records of a stage are, and how its search goes on.

        Parameters
        ----------
        stage : int
            Which one.

        space : SearchSpace
            What it searches.

        seeds : list of dict
            What was handed over to it.

        random_state : int
            What determines its candidates if it is new.

        proposes_again : bool, default=True
            Whether the search proposes the same candidates with the same scores.

        Returns
        -------
        study_id : int
            Of its study.

        known : list of dict
            Candidates, in codes, that are to be measured after the seeds: if the budget
            is larger than that of an earlier call, also of a stage before, what was
            measured in that one. Otherwise the search proposes them itself, unless it
            would propose others.

        random_state : int
            What determines its candidates.
        """
        study_id = self._open_study(stage)
        self.end_dead_trials(stage)
        with self.storage.errors():
            storage = self.storage.open()
            trials = storage.get_all_trials(study_id, deepcopy=False)
            attributes = storage.get_study_user_attrs(study_id)
            if RANDOM_STATE not in attributes:
                storage.set_study_user_attr(study_id, RANDOM_STATE, random_state)
            if not proposes_again:
                storage.set_study_user_attr(study_id, TIMED, True)
        # Also if it was another call, with more workers, that proposed what is there.
        is_timed = attributes.get(TIMED, not proposes_again)
        n_known = math.inf if is_timed else self.n_known[stage]
        known = distinct(
            dict(trial.user_attrs[EVALUATION]["codes"])
            for trial in trials
            if trial.number < n_known and is_record(trial, self.call)
        )
        known = [codes for codes in known if space.project(codes) == codes]
        return study_id, known, attributes.get(RANDOM_STATE, random_state)

    def end_dead_trials(self, stage: int) -> None:
        """Mark what workers of this machine left running when they were killed.

        Parameters
        ----------
        stage : int
            In which one.
        """
        with self.storage.errors():
            storage = self.storage.open()
            study_id = storage.get_study_id_from_name(self._study_name(stage))
            for trial in storage.get_all_trials(
                study_id, deepcopy=False, states=(TrialState.RUNNING,)
            ):
                if _is_dead(trial.user_attrs.get(EVALUATION, {}).get("worker", "")):
                    storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)

    def _find_study(self):
        """Return the first study, or None."""
        with self.storage.errors():
            studies = self.storage.open().get_all_studies()
        name = self._study_name(0)
        return next((study for study in studies if study.study_name == name), None)

    def _study_name(self, stage):
        return f"{self.name}: stage {stage}"

    def _open_study(self, stage):
        """Return the study of a stage, a new one if there is none."""
        name = self._study_name(stage)
        with self.storage.errors():
            storage = self.storage.open()
            # A journal grows with every attempt to create it again.
            with suppress(KeyError):
                return storage.get_study_id_from_name(name)
            try:
                with optuna_errors_only():
                    study_id = storage.create_new_study([StudyDirection.MAXIMIZE], name)
            except DuplicatedStudyError:
                return storage.get_study_id_from_name(name)
            storage.set_study_user_attr(study_id, "size", self.sizes[stage])
        if stage == 0:
            self._write_call(study_id)
        return study_id

    def _write_call(self, study_id):
        call = {
            "fingerprint": self.fingerprint,
            "sizes": self.sizes,
            "n_iter": self.budgets,
            "n_known": self.n_known,
        }
        with self.storage.errors():
            self.storage.open().set_study_user_attr(study_id, CALL, call)

    def _count_known(self, budgets):
        """Have the stages go on from what they have, from the first larger budget on.

        The spaces and seeds of the stages after it may become others.
        """
        is_raised = False
        for stage, before in enumerate(budgets):
            is_raised = is_raised or self.budgets[stage] > before
            if is_raised:
                with self.storage.errors(), suppress(KeyError):
                    storage = self.storage.open()
                    study_id = storage.get_study_id_from_name(self._study_name(stage))
                    self.n_known[stage] = storage.get_n_trials(study_id)

    def _wait_for_call(self, study):
        """Return the call that began a study; write it if that was killed before."""
        until = time.monotonic() + PATIENCE
        while True:
            with self.storage.errors():
                storage = self.storage.open()
                call = storage.get_study_user_attrs(study._study_id).get(CALL)
                if call is not None:
                    return call
                n_trials = storage.get_n_trials(study._study_id)
            if n_trials:
                raise ValueError(
                    f"the study {study.study_name!r} in {self.storage.name!r} was not "
                    f"made by IISSearchCV: choose another study_name than {self.name!r}"
                )
            if time.monotonic() > until:
                self._write_call(study._study_id)
            else:
                time.sleep(0.1)

    def _compare(self, before):
        differences = find_differences(before["fingerprint"], self.fingerprint)
        n_before = len(before["sizes"])
        if before["sizes"] != self.sizes[:n_before]:
            differences.append(
                f"sizes were {', '.join(before['sizes'])} and are "
                f"{', '.join(self.sizes)}; larger ones may be added"
            )
        elif any(
            n > now for n, now in zip(before["n_iter"], self.budgets, strict=False)
        ):
            differences.append(
                f"n_iter was {before['n_iter']} and is {self.budgets}, each number for "
                "a stage; none of them may be lowered"
            )
        if differences:
            listed = "\n".join(f"- {difference}" for difference in differences)
            raise ValueError(
                f"the study {self.name!r} in {self.storage.name!r} was begun by "
                f"another call:\n{listed}\nTo go on with it, call with the same; to "
                "begin anew, as for each split of a cross-validation of searches, "
                "choose another study_name."
            )


def make_pruner(pruner: str | BasePruner | None) -> BasePruner | None:
    """Return a pruner by its name, or as it is."""
    # Some remember what they have seen.
    return MedianPruner() if isinstance(pruner, str) else deepcopy(pruner)


def is_record(trial: FrozenTrial, call: str) -> bool:
    """Return whether a trial is an evaluation of a call that came to its end."""
    evaluation = trial.user_attrs.get(EVALUATION, {})
    # What was interrupted has no scores.
    return evaluation.get("call") == call and "scores" in trial.user_attrs


def _is_dead(worker):
    """Return whether a worker is known not to be running any more."""
    host, _, process = worker.rpartition(":")
    # On Windows the signal 0 is not harmless.
    if host != platform.node() or os.name == "nt":
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False


def _this_worker():
    return f"{platform.node()}:{os.getpid()}"


def _to_attributes(record: Record) -> dict[str, Any]:
    """Return a record as user attributes of a trial, but for its state."""
    attributes: dict[str, Any] = {
        "seconds": {"fit": record.fit_time, "score": record.score_time},
    }
    if record.train_scores is not None:
        attributes["train_scores"] = _to_json(record.train_scores)
    if record.error is not None:
        error = record.error.encode()[-MAX_ERROR:]
        attributes["error"] = error.decode(errors="ignore")
    if record.pruned:
        attributes["pruned"] = True
    if record.time_limit is not None:
        attributes["time_limit"] = record.time_limit
    if record.history:
        names = dict.fromkeys(name for row in record.history for name in row)
        attributes["history"] = {
            name: [_shorten(row.get(name)) for row in record.history] for name in names
        }
    # Last, as a trial with scores is a record even if its worker is killed now.
    return attributes | {"scores": _to_json(record.scores)}


def _to_record(trial: FrozenTrial) -> Record:
    attributes = trial.user_attrs
    started = trial.datetime_start
    return Record(
        scores=_from_json(attributes["scores"]),
        train_scores=_from_json(attributes.get("train_scores")),
        started=0.0 if started is None else started.timestamp(),
        fit_time=attributes["seconds"]["fit"],
        score_time=attributes["seconds"]["score"],
        error=attributes.get("error"),
        pruned=attributes.get("pruned", False),
        time_limit=attributes.get("time_limit"),
    )


def _to_steps(history):
    return {
        epoch: row["valid_acc"]
        for epoch, row in enumerate(history, start=1)
        if "valid_acc" in row
    }


def _to_json(value: Any) -> Any:
    """Return scores, which may be NaN or infinite, as every database takes them."""
    if isinstance(value, dict):
        return {name: _to_json(score) for name, score in value.items()}
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    return value


def _from_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _from_json(score) for name, score in value.items()}
    return float(value) if isinstance(value, str) else value


def _shorten(value):
    """Return what is told of an epoch with as many digits as anybody needs."""
    if isinstance(value, float):
        return _to_json(float(f"{value:.{HISTORY_DIGITS}g}"))
    return value
