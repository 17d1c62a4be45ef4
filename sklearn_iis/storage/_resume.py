"""The studies of a search, one a stage, and how another call resumes it."""

import math
import os
import time
from collections.abc import Sequence
from typing import Any

from optuna.exceptions import DuplicatedStudyError
from optuna.pruners import BasePruner
from optuna.study import StudyDirection

from sklearn_iis._files import make_private_directory
from sklearn_iis._optuna import optuna_errors_only
from sklearn_iis.execution._record import Record
from sklearn_iis.execution._text import printable
from sklearn_iis.space import Candidate, SearchSpace, as_key, distinct
from sklearn_iis.storage._fingerprint import (
    Fingerprint,
    describe,
    digest,
    find_differences,
)
from sklearn_iis.storage._open import SharedStorage
from sklearn_iis.storage._recorder import (
    EVALUATION,
    OWNER,
    StageRecorders,
    StudyRecorder,
    make_owner,
    no_key_errors,
    read_codes,
    read_trials,
    select_records,
)

# User attributes of studies.
CALL = "sklearn_iis call"
RANDOM_STATE = "sklearn_iis random_state"
TIMED = "sklearn_iis depends on timing"

# How long, in seconds, to wait for what another search writes that has just begun.
PATIENCE = 10

# The longest text that is shown of what another call has written.
MAX_SHOWN = 1000


class SearchStudies:
    """The studies of a search, each of which goes on where it stopped.

    They are called "<name>: stage 0" and so on. If another call has these, which
    differs in X or y only, they get a suffix: "<name>: stage 0 #<digest of X and y>".

    Parameters
    ----------
    storage : SharedStorage
        The place of the studies.

    name : str
        The beginning of their names.

    data : Fingerprint
        X and y, by these names, and what else belongs to the samples, such as the
        splits.

    call : Fingerprint
        All else that scores depend on besides the candidate and the size.

    settings : Fingerprint
        All else that the search was called with, but for sizes and budgets.

    sizes : list
        The size of each stage.

    budgets : list of int or None
        The number of candidates of each stage.

    space : SearchSpace
        The whole space, of which stages may search a part.

    pruner : optuna.pruners.BasePruner, default=None
        Stops hopeless evaluations.
    """

    def __init__(
        self,
        storage: SharedStorage,
        name: str,
        *,
        data: Fingerprint,
        call: Fingerprint,
        settings: Fingerprint,
        sizes: Sequence,
        budgets: Sequence[int | None],
        space: SearchSpace,
        pruner: BasePruner | None = None,
    ):
        self.storage = storage
        self.name = name
        self.call = digest(data | call)
        self.fingerprint = _clean(data | call | settings)
        self.data = _clean(data)
        self.suffix = ""
        self.sizes = [describe(size) for size in sizes]
        self.budgets = list(budgets)
        self.space = space
        self.pruner = pruner
        # How many trials of each stage a larger budget goes on from.
        self.n_known = [0] * len(self.budgets)

    def check(self) -> None:
        """Compare this call with the one that began the studies, if there was one.

        Raises
        ------
        ValueError
            If they do not fit to each other, naming what differs.

        StorageError
            If the storage cannot be read or written.
        """
        own = {name: self.data.get(name) for name in ("X", "y")}
        self.suffix = f" #{digest(own)[:8]}"
        if self._find_study(0) is None:
            self.suffix, own_suffix = "", self.suffix
            before = self._read_call()
            if self._differs_in_data_only(before):
                self.suffix = own_suffix
                before = self._read_call()
        else:
            before = self._read_call()
        self._compare(before)
        for stage in range(len(self.budgets)):
            if (study_id := self._find_study(stage)) is not None:
                self._check_owner(stage, study_id)
        self.n_known[: len(before["n_known"])] = before["n_known"]
        if (before["sizes"], before["n_iter"]) != (self.sizes, self.budgets):
            self._count_known(before["n_iter"])
            self._write_call(self._open_study(0))

    def begin_stages(
        self, stages: Sequence[int], space: SearchSpace, **settings: Any
    ) -> tuple["StudyRecorder | StageRecorders", list[Candidate], int]:
        """Return the recorder of stages that one search crosses, and how it goes on.

        See :meth:`begin_stage`; new candidates are those of the first stage.
        """
        begun = [self.begin_stage(stage, space, **settings) for stage in stages]
        recorder, known, random_state = begun[0]
        if len(stages) == 1:
            return recorder, known, random_state
        recorders = [recorder for recorder, _, _ in begun]
        joined = StageRecorders(dict(zip(stages, recorders, strict=True)))
        return joined, known, random_state

    def make_directory(self, kind: str) -> str | None:
        """Make a directory of this call beside the file of the storage.

        Parameters
        ----------
        kind : str
            What is kept in it, which its name ends with.

        Returns
        -------
        path : str or None
            None if the storage is no file, or there can be none that others cannot
            write to.
        """
        if self.storage.file is None:
            return None
        # Not the sizes: another call may add some.
        name = digest([self.name, self.fingerprint])
        folder = f"{self.storage.file}.{kind}"
        path = os.path.join(folder, name)
        # Whoever can write to the folder can put another directory in its place.
        is_private = make_private_directory(folder) and make_private_directory(path)
        return path if is_private else None

    def begin_stage(
        self,
        stage: int,
        space: SearchSpace,
        *,
        promoted: list[Candidate],
        random_state: int,
        is_deterministic: bool = True,
    ) -> tuple[StudyRecorder, list[Candidate], int]:
        """Return the recorder of a stage, and how its search goes on."""
        study_id = self._open_study(stage)
        self._check_owner(stage, study_id)
        name = self._study_name(stage)
        recorder = StudyRecorder(
            self.storage,
            study_id,
            name,
            call=self.call,
            dimensions=self.space.dimensions,
            pruner=self.pruner,
        )
        recorder.end_dead_trials()
        random_state = self.keep_random_state(stage, random_state)
        trials = read_trials(self.storage, study_id, name)
        with no_key_errors(self.storage, name), self.storage.errors():
            storage = self.storage.open()
            attributes = storage.get_study_user_attrs(study_id)
            is_timed = attributes.get(TIMED) is True
            if not (is_deterministic or is_timed):
                storage.set_study_user_attr(study_id, TIMED, True)
        # Also if it was another call, with more workers, that proposed what is there.
        is_timed = is_timed or not is_deterministic
        n_known = math.inf if is_timed else self.n_known[stage]
        known = distinct(
            read_codes(trial)
            for trial, _ in select_records(trials, self.call)[0]
            if trial.number < n_known
        )
        first = {as_key(space.active(codes)) for codes in promoted}
        known = [
            codes
            for codes in known
            if space.project(codes) == codes and as_key(codes) not in first
        ]
        return recorder, known, random_state

    def keep_random_state(self, stage: int, random_state: int) -> int:
        """Return the random state that a stage began with; keep it if there is none."""
        study_id, name = self._open_study(stage), self._study_name(stage)
        with no_key_errors(self.storage, name), self.storage.errors():
            storage = self.storage.open()
            attributes = storage.get_study_user_attrs(study_id)
            if _is_random_state(attributes.get(RANDOM_STATE)):
                return attributes[RANDOM_STATE]
            storage.set_study_user_attr(study_id, RANDOM_STATE, random_state)
        return random_state

    def read_stage(self, stage: int) -> list[tuple[Candidate, str, Record]]:
        """Return what was evaluated in a stage: candidate, key of the task, record.

        Raises
        ------
        StorageError
            If the storage cannot be read.
        """
        study_id, name = self._find_study(stage), self._study_name(stage)
        if study_id is None:
            return []
        selected, _ = select_records(
            read_trials(self.storage, study_id, name), self.call
        )
        return [
            (read_codes(trial), trial.user_attrs[EVALUATION]["key"], record)
            for trial, record in selected
        ]

    def _study_name(self, stage: int) -> str:
        return f"{self.name}: stage {stage}{self.suffix}"

    def _find_study(self, stage: int) -> int | None:
        """Return the number of a stage's study, or None."""
        with self.storage.errors():
            storage = self.storage.open()
            try:
                return storage.get_study_id_from_name(self._study_name(stage))
            except KeyError:
                return None

    def _open_study(self, stage: int) -> int:
        """Return the number of a stage's study, a new one if there is none."""
        # A journal grows with every attempt to create it again.
        study_id = self._find_study(stage)
        if study_id is None:
            name = self._study_name(stage)
            with self.storage.errors():
                storage = self.storage.open()
                try:
                    with optuna_errors_only():
                        study_id = storage.create_new_study(
                            [StudyDirection.MAXIMIZE], name
                        )
                except DuplicatedStudyError:
                    return storage.get_study_id_from_name(name)
            self._set_attribute(study_id, "size", self.sizes[stage])
            self._set_attribute(study_id, OWNER, make_owner(name, self.call))
            if stage == 0:
                self._write_call(study_id)
        return study_id

    def _set_attribute(self, study_id: int, name: str, value: Any) -> None:
        with self.storage.errors():
            self.storage.open().set_study_user_attr(study_id, name, value)

    def _write_call(self, study_id: int) -> None:
        call = {
            "fingerprint": self.fingerprint,
            "sizes": self.sizes,
            "n_iter": self.budgets,
            "n_known": self.n_known,
        }
        self._set_attribute(study_id, CALL, call)

    def _count_known(self, budgets: list[int | None]) -> None:
        """Have the stages go on from what they have, from the first larger budget on.

        The spaces and random states of the stages after it may become others.
        """
        is_raised = False
        for stage, before in enumerate(budgets):
            is_raised = is_raised or _is_more(self.budgets[stage], before)
            study_id = self._find_study(stage)
            if is_raised and study_id is not None:
                trials = read_trials(self.storage, study_id, self._study_name(stage))
                self.n_known[stage] = len(trials)

    def _read_call(self) -> dict[str, Any]:
        """Return the call that began the studies, which may be this one."""
        study_id, name = self._open_study(0), self._study_name(0)
        until = time.monotonic() + PATIENCE
        while True:
            with no_key_errors(self.storage, name), self.storage.errors():
                storage = self.storage.open()
                attributes = storage.get_study_user_attrs(study_id)
                n_trials = storage.get_n_trials(study_id)
            if CALL in attributes:
                return _parse_call(attributes[CALL]) or self._refuse(name)
            if n_trials:
                self._refuse(name)
            if time.monotonic() > until:  # it was killed before it could write
                self._write_call(study_id)
                self._set_attribute(study_id, OWNER, make_owner(name, self.call))
            else:
                time.sleep(0.1)

    def _refuse(self, name: str) -> Any:
        """Raise the error for a study of somebody else."""
        raise ValueError(
            f"the study {name!r} in {self.storage.name!r} was not made by IISSearchCV, "
            f"or changed since: choose another study_name than {self.name!r}"
        )

    def _check_owner(self, stage: int, study_id: int) -> None:
        """Raise an error if a study belongs to another call; claim it if to none."""
        name = self._study_name(stage)
        owner = make_owner(name, self.call)
        with no_key_errors(self.storage, name), self.storage.errors():
            storage = self.storage.open()
            found = storage.get_study_user_attrs(study_id).get(OWNER)
            n_trials = storage.get_n_trials(study_id)
        if found is None and n_trials == 0:
            self._set_attribute(study_id, OWNER, owner)
        elif found is None:
            self._refuse(name)
        elif found != owner:
            raise ValueError(
                f"the study {name!r} in {self.storage.name!r} belongs to another call, "
                "whose first study was deleted: delete it as well, or choose another "
                "study_name"
            )

    def _has_other_data(self, before: Fingerprint) -> bool:
        return any(before.get(name) != self.data.get(name) for name in ("X", "y"))

    def _differs_in_data_only(self, before: dict[str, Any]) -> bool:
        """Return whether the studies belong to the same search of another X or y."""
        fingerprint = before["fingerprint"]
        if not self._has_other_data(fingerprint):
            return False
        others = {n: text for n, text in self.fingerprint.items() if n not in self.data}
        others_before = {n: t for n, t in fingerprint.items() if n not in self.data}
        return not find_differences(others_before, others)

    def _compare(self, before: dict[str, Any]) -> None:
        """Raise an error that names what differs from the call before."""
        differences = find_differences(before["fingerprint"], self.fingerprint)
        n_before = len(before["sizes"])
        if before["sizes"] != self.sizes[:n_before]:
            differences.append(
                f"sizes were {', '.join(before['sizes'])} and are "
                f"{', '.join(self.sizes)}; larger ones may be added"
            )
        elif any(
            _is_more(n, now)
            for n, now in zip(before["n_iter"], self.budgets, strict=False)
        ):
            differences.append(
                f"n_iter was {before['n_iter']} and is {self.budgets}, each number for "
                "a stage; none of them may be lowered"
            )
        if differences:
            is_other_data = self._has_other_data(before["fingerprint"])
            hint = " (Other X and y alone begin studies of their own.)"
            hint = hint if is_other_data else ""
            listed = "\n".join(f"- {difference}" for difference in differences)
            raise ValueError(
                f"the study {self.name!r} in {self.storage.name!r} was begun by "
                f"another call:\n{listed}\nTo go on with it, call with the same; to "
                f"begin anew, choose another study_name.{hint}"
            )


def _clean(fingerprint: Fingerprint) -> Fingerprint:
    """Return a fingerprint, perhaps of somebody else, as it can be shown."""
    return {_shorten(name): _shorten(text) for name, text in fingerprint.items()}


def _shorten(text: str) -> str:
    return printable(text[:MAX_SHOWN])


def _parse_call(call: Any) -> dict[str, Any] | None:
    """Return what a study tells of a call; None if it is not as it was written."""
    if not isinstance(call, dict):
        return None
    fingerprint, sizes = call.get("fingerprint"), call.get("sizes")
    n_iter, n_known = call.get("n_iter"), call.get("n_known")
    if not (
        isinstance(fingerprint, dict)
        and all(isinstance(text, str) for text in fingerprint.values())
        and isinstance(sizes, list)
        and all(isinstance(size, str) for size in sizes)
        and _is_counts(n_known, len(sizes))
        and isinstance(n_iter, list)
        and _is_counts([n or 0 for n in n_iter], len(sizes))
    ):
        return None
    return {
        "fingerprint": _clean(fingerprint),
        "sizes": [_shorten(size) for size in sizes],
        "n_iter": n_iter,
        "n_known": n_known,
    }


def _is_more(n_iter: int | None, other: int | None) -> bool:
    """Return whether a budget is larger; None is as many as there is time for."""
    return other is not None and (n_iter is None or n_iter > other)


def _is_counts(value: Any, length: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) == length
        and all(type(n) is int and n >= 0 for n in value)
    )


def _is_random_state(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**32
