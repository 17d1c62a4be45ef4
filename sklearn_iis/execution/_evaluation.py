"""An evaluation, from where it begins in a worker to the record of what came out."""

import hashlib
import json
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sklearn_iis.execution._gpus import Place, is_out_of_gpu_memory
from sklearn_iis.execution._monitor import Monitor, monitored
from sklearn_iis.execution._records import (
    Evaluation,
    InFlight,
    Mark,
    Record,
    Records,
    SearchAborted,
)
from sklearn_iis.execution._tickets import Delivery
from sklearn_iis.space import Candidate

# The parameter of `fit` by which a trial knows its split: the indices of all samples,
# of which scikit-learn hands it those of the training data.
SAMPLE_INDICES = "_sample_indices"

# The longest fit that this process has seen of a stage, by the directory of the stage.
_longest_fits: dict[str, float] = {}


@dataclass(frozen=True)
class Deadline:
    """When a stage has to end.

    Parameters
    ----------
    end : float, default=inf
        In seconds since the epoch, the fit of the best candidate on all data included.

    refit_ratio : float, default=0
        How much longer that fit takes than that of an evaluation.

    longest_fit : float, default=0
        Seconds of the longest fit that is known of former stages.
    """

    end: float = math.inf
    refit_ratio: float = 0.0
    longest_fit: float = 0.0

    def reserve(self, longest_fit: float = 0.0) -> float:
        """Return the seconds that are set aside for the last fit."""
        return self.refit_ratio * max(self.longest_fit, longest_fit)


@dataclass(frozen=True)
class EvaluationContext:
    """What an evaluation is told of the stage it belongs to.

    Parameters
    ----------
    records : Records
        Where what came out is kept.

    directory : str
        A directory of the stage, for marks that its workers leave for each other.

    train_digests : tuple of str
        What tells the training samples of each split, see :func:`digest_train_sets`.

    deadline : Deadline
        When evaluations are no longer begun, nor gone on with.

    trial_timeout : float, default=None
        The seconds that an evaluation may take.
    """

    records: Records
    directory: str
    train_digests: tuple[str, ...]
    deadline: Deadline = field(default_factory=Deadline)
    trial_timeout: float | None = None

    @cached_property
    def in_flight(self) -> InFlight:
        return InFlight(self.directory)

    def identify(
        self, codes: Candidate, further: dict[str, Any], train: np.ndarray | int
    ) -> Evaluation:
        """Return what tells an evaluation from all others of the stage.

        Parameters
        ----------
        codes : dict of str to float or int
            The active codes of the candidate.

        further : dict of str to object
            The values of further parameters.

        train : ndarray of int, or int
            The training samples, or the index of the split.
        """
        digest = (
            self.train_digests[train]
            if isinstance(train, int)
            else digest_indices(train)
        )
        known = digest in self.train_digests
        split = self.train_digests.index(digest) if known else None
        candidate = sorted((name, float(code)) for name, code in codes.items())
        key = _digest(json.dumps([candidate, sorted(further.items())], default=_plain))
        return Evaluation(f"{key}-{digest}", codes, further, split)

    def find(self, evaluation: Evaluation) -> Record | None:
        """Return the record of an evaluation that has come to its end before."""
        record = self.records.find(evaluation.key)
        if record is not None and record.time_limit is not None:
            allowed = math.inf if self.trial_timeout is None else self.trial_timeout
            if allowed > record.time_limit:
                return None
        return record

    def begin(self, evaluation: Evaluation) -> "Run":
        """Begin an evaluation, if there is anything to be done for it."""
        record = self.find(evaluation)
        if record is not None:
            self._note_time(record)
            return KnownRun(record)
        if is_deadly := self.in_flight.has_died_twice(evaluation.key):
            mark = None
        else:
            mark = self.in_flight.enter(evaluation.key)
        run = RecordedRun(context=self, evaluation=evaluation, mark=mark)
        if is_deadly:
            run.record.error = (
                "RuntimeError: the process of this evaluation was killed twice, the "
                "second time while it ran alone. It may need more memory than there is."
            )
        elif self.time_left() <= 0:
            run.record.skipped = True
        elif self._late_mark(evaluation).exists():
            run.record.time_limit = self.trial_timeout
            run.record.error = (
                "TimeoutError: the candidate is not measured on this split, as another "
                f"one took longer than trial_timeout={self.trial_timeout} seconds"
            )
        return run

    def time_left(self) -> float:
        """Return the seconds that there still are for evaluations."""
        reserve = self.deadline.reserve(_longest_fits.get(self.directory, 0.0))
        return self.deadline.end - reserve - time.time()

    def end(self, evaluation: Evaluation, record: Record) -> None:
        """Keep the record of an evaluation that has come to its end."""
        self._note_time(record)
        if record.time_limit is not None:
            with suppress(OSError):
                self._late_mark(evaluation).touch()
        self.records.add(evaluation, record)

    def forget(self) -> None:
        """Forget what this process remembers of the stage."""
        self.records.reload()
        _longest_fits.pop(self.directory, None)

    def _note_time(self, record):
        if record.error is None and self.deadline.refit_ratio > 0:
            longest = max(_longest_fits.get(self.directory, 0.0), record.fit_time)
            _longest_fits[self.directory] = longest

    def _late_mark(self, evaluation):
        return Path(self.directory, f"{evaluation.key.partition('-')[0]}.late")


@dataclass
class Run:
    """An evaluation that is under way.

    Parameters
    ----------
    record : Record
        What is known of it so far.

    place : Place, default=None
        Its place on a GPU.
    """

    record: Record = field(default_factory=lambda: Record(started=time.time()))
    place: Place | None = None

    # Whether the record is complete.
    is_known = False

    @property
    def is_to_fit(self) -> bool:
        """Whether there is an estimator to be fitted."""
        return self.record.error is None and not self.record.skipped

    def time_left(self) -> float:
        """Return the seconds that there still are for it."""
        return math.inf

    def may_try_alone(self, error: str) -> bool:
        """Return whether something that went wrong may go well alone on the GPU."""
        return (
            self.place is not None
            and not self.place.is_alone
            and self.is_to_fit
            and self.record.time_limit is None
            and is_out_of_gpu_memory(error)
        )

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Follow the fit that the context runs."""
        monitor = self._make_monitor()
        start = time.perf_counter()
        try:
            with monitored(monitor):
                yield
        finally:
            self.record.fit_time = time.perf_counter() - start
            self.record.history = monitor.history
            self.record.pruned = monitor.stopped
            self._judge_time(monitor)
        if self.record.time_limit is not None:
            raise TimeoutError(self._too_long())

    def fail(self, error: str) -> None:
        """Note what went wrong with the fit."""
        if self.record.skipped:
            return
        if self.record.time_limit is not None:
            # Where in the training it happened is of no interest.
            error = f"TimeoutError: {self._too_long()}"
        self.record.error = error

    def close(self, *, keep: bool = True) -> None:
        """Keep the record of the evaluation, unless told not to."""
        self.is_known = True
        if self.place is not None:
            self.place.give_back()

    def _make_monitor(self) -> Monitor:
        return Monitor()

    def _judge_time(self, monitor: Monitor) -> None:
        pass

    def _too_long(self):
        return (
            f"the fit took {self.record.fit_time:.3g} seconds, more than "
            f"trial_timeout={self.record.time_limit}"
        )


class KnownRun(Run):
    """An evaluation of which the record was found."""

    is_known = True

    @property
    def is_to_fit(self) -> bool:
        """Whether there is an estimator to be fitted."""
        return False


@dataclass
class RecordedRun(Run):
    """An evaluation that is under way, and known to others.

    Parameters
    ----------
    context : EvaluationContext
        Of its stage.

    evaluation : Evaluation
        Which one it is.

    mark : Mark or None
        Says that it is under way.
    """

    context: EvaluationContext = field(kw_only=True)
    evaluation: Evaluation = field(kw_only=True)
    mark: Mark | None = field(kw_only=True)

    def close(self, *, keep: bool = True) -> None:
        """Keep the record of the evaluation, unless told not to."""
        if self.is_known:
            return
        try:
            super().close(keep=keep)
            if keep and not self.record.skipped:
                self.context.end(self.evaluation, self.record)
            else:
                self.context.records.drop(self.evaluation)
        except Exception as error:
            # scikit-learn would take it for a candidate that fails.
            raise SearchAborted(error) from error
        finally:
            if self.mark is not None:
                self.mark.remove()

    def time_left(self) -> float:
        """Return the seconds that there still are for it."""
        return self.context.time_left()

    def _make_monitor(self):
        # What a first try has begun, if this is the second one.
        self.context.records.drop(self.evaluation)
        monitor = self.context.records.begin(self.evaluation)
        # After that, which may take a while.
        self._time_left = self.context.time_left()
        limit = self.context.trial_timeout
        seconds = self._time_left if limit is None else min(limit, self._time_left)
        monitor.end = time.time() + seconds
        return monitor

    def _judge_time(self, monitor):
        limit = self.context.trial_timeout
        if limit is not None and (
            self.record.fit_time > limit or (monitor.late and limit <= self._time_left)
        ):
            self.record.time_limit = limit
        elif monitor.late:
            self.record.skipped = True


class Score(float):
    """A score that carries the record of its evaluation.

    A search keeps of an evaluation nothing but its scores, so the record travels home
    from the worker in one of them, and tells of itself when it is there.
    """

    def __new__(cls, value, record, delivery=None):
        score = super().__new__(cls, value)
        score.record = record
        score.delivery = delivery
        if delivery is not None:
            failed = record.error is not None or record.skipped
            delivery.arrive(math.nan if failed else float(value), record.skipped)
        return score

    def __reduce__(self):
        return type(self), (float(self), self.record, self.delivery)


def carry(
    scores: float | dict[str, float], record: Record, delivery: Delivery | None = None
) -> Any:
    """Return scores of which the guiding one carries the record."""
    record = replace(record, history=[])  # which nobody at home asks for
    if not isinstance(scores, dict):
        return Score(scores, record, delivery)
    guide = next(iter(scores))
    return scores | {guide: Score(scores[guide], record, delivery)}


def guiding_score(scores: float | dict[str, float]) -> float:
    """Return the score that guides the search: the first one."""
    return next(iter(scores.values())) if isinstance(scores, dict) else scores


def digest_indices(indices: Any) -> str:
    """Return what tells the samples of a split from those of another one."""
    return _digest(np.ascontiguousarray(indices, dtype=np.int64).tobytes())


def digest_train_sets(splits: Sequence, n_samples: int) -> tuple[str, ...]:
    """Return the digest of the training samples of each split."""
    samples = np.arange(n_samples)
    return tuple(digest_indices(samples[train]) for train, _ in splits)


def _digest(data):
    data = data.encode() if isinstance(data, str) else data
    return hashlib.blake2b(data, digest_size=12).hexdigest()


def _plain(value):
    return value.item() if hasattr(value, "item") else repr(value)
