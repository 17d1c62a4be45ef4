"""Records of the evaluations of a stage, in whatever process they ran."""

import os
import pickle
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sklearn_iis._files import replace_file
from sklearn_iis._monitor import Monitor
from sklearn_iis._space import Candidate

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

# How often an evaluation may be begun without coming to an end.
MAX_DEATHS = 2


class SearchAborted(BaseException):
    """Carries an error home from a worker that must end the search.

    It is no Exception, as scikit-learn takes those for a candidate that fails.
    """


@dataclass
class Record:
    """What came out of an evaluation: of a candidate on one split.

    Parameters
    ----------
    scores : float, or dict of str to float
        On the test data; the guiding one first.

    train_scores : float, or dict of str to float, default=None
        On the training data, if they were asked for.

    started : float
        When it began, in seconds since the epoch.

    fit_time, score_time : float
        Seconds; scoring is that of the test data.

    error : str, default=None
        What went wrong.

    pruned : bool, default=False
        Whether the fit was stopped as it was hopeless.

    history : list of dict
        What the estimator told of each epoch.

    time_limit : float, default=None
        The seconds that it was allowed, and took longer.

    skipped : bool, default=False
        Whether there was no time left for it. Such a record is not kept.
    """

    scores: Any = float("nan")
    train_scores: Any = None
    started: float = 0.0
    fit_time: float = 0.0
    score_time: float = 0.0
    error: str | None = None
    pruned: bool = False
    history: list[dict[str, Any]] = field(default_factory=list)
    time_limit: float | None = None
    skipped: bool = False


@dataclass(frozen=True)
class Evaluation:
    """A candidate on a split.

    Parameters
    ----------
    key : str
        Tells it from all others of the stage; the name of a file.

    codes : dict of str to float or int
        The candidate.

    further : dict of str to object
        The values of further parameters that it is measured with.

    split : int or None
        The index of the split; None for one that the search has made itself.
    """

    key: str
    codes: Candidate
    further: dict[str, Any]
    split: int | None


class Records(Protocol):
    """Where the records of a stage are kept, in reach of all workers."""

    def find(self, key: str) -> Record | None:
        """Return what an evaluation came to, or None if that is not known."""

    def reload(self) -> None:
        """Forget what this process remembers: others may have added to it."""

    def begin(self, evaluation: Evaluation, end: float) -> Monitor:
        """Return what follows the fit of an evaluation that has to end in time."""

    def add(self, evaluation: Evaluation, record: Record) -> None:
        """Keep the record of an evaluation that has come to its end."""

    def drop(self, evaluation: Evaluation) -> None:
        """Note that an evaluation has not come to its end."""


class TemporaryRecords:
    """Records that last as long as a stage: files in a directory.

    They serve what happens within a fit: a worker that is killed, an interrupt.

    Parameters
    ----------
    directory : str
        Where they are kept. Workers on other machines may not have it; then nothing is
        kept of what they do.
    """

    def __init__(self, directory: str):
        self.directory = directory

    def find(self, key: str) -> Record | None:
        """Return what an evaluation came to, or None if that is not known."""
        with suppress(OSError):
            return pickle.loads(self._path(key).read_bytes())
        return None

    def reload(self) -> None:
        """Do nothing: what others have added is found."""

    def begin(self, evaluation: Evaluation, end: float) -> Monitor:
        """Return what follows the fit of an evaluation that has to end in time."""
        return Monitor(end)

    def add(self, evaluation: Evaluation, record: Record) -> None:
        """Keep the record of an evaluation that has come to its end."""
        with suppress(OSError):
            replace_file(self._path(evaluation.key), pickle.dumps(record))

    def drop(self, evaluation: Evaluation) -> None:
        """Do nothing: there is no record of it."""

    def _path(self, key):
        return Path(self.directory, f"{key}.record")


class InFlight:
    """Marks of the evaluations that are under way; they outlive a worker.

    A worker that is killed takes its pool and all that runs there with it. What was
    under way is tried once more, but alone: with a lock that all evaluations share and
    that it has for itself, which vanishes with its process. So whatever dies twice is
    itself to blame, and what only needs the memory of its neighbours gets it.

    Parameters
    ----------
    directory : str
        Where the marks are. Workers on other machines may not have it, and leave none.
    """

    def __init__(self, directory: str):
        self.directory = directory

    def enter(self, key: str) -> int | None:
        """Mark an evaluation as under way, once it may start.

        Parameters
        ----------
        key : str
            Of the evaluation.

        Returns
        -------
        lock : int or None
            For :meth:`leave`. None if it has died too often to be tried again.
        """
        try:
            lock = os.open(Path(self.directory, "lock"), os.O_CREAT | os.O_RDWR)
        except OSError:
            return -1
        n_deaths = self._count_deaths(key)
        if n_deaths >= MAX_DEATHS:
            os.close(lock)
            return None
        if fcntl is not None:
            fcntl.flock(lock, fcntl.LOCK_EX if n_deaths else fcntl.LOCK_SH)
        with open(self._path(key), "ab") as mark:
            mark.write(b"+")
        return lock

    def leave(self, key: str, lock: int) -> None:
        """Remove the mark of an evaluation that has come to its end."""
        if lock != -1:
            self._path(key).unlink(missing_ok=True)
            os.close(lock)

    def count_begins(self) -> dict[str, int]:
        """Return how often evaluations were begun that did not come to an end."""
        marks = Path(self.directory).glob("*.mark")
        return {mark.stem: mark.stat().st_size for mark in marks}

    def _count_deaths(self, key):
        path = self._path(key)
        return path.stat().st_size if path.exists() else 0

    def _path(self, key):
        return Path(self.directory, f"{key}.mark")
