"""Records of the evaluations of a stage, in whatever process they ran."""

import os
import pickle
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sklearn_iis._files import replace_file
from sklearn_iis.execution._monitor import Monitor
from sklearn_iis.space import Candidate

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

    def begin(self, evaluation: Evaluation) -> Monitor:
        """Return what follows the fit of an evaluation."""

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

    def begin(self, evaluation: Evaluation) -> Monitor:
        """Return what follows the fit of an evaluation."""
        return Monitor()

    def add(self, evaluation: Evaluation, record: Record) -> None:
        """Keep the record of an evaluation that has come to its end."""
        with suppress(OSError):
            replace_file(self._path(evaluation.key), pickle.dumps(record))

    def drop(self, evaluation: Evaluation) -> None:
        """Do nothing: there is no record of it."""

    def _path(self, key):
        return Path(self.directory, f"{key}.record")


class NoRecords(Records):
    """Nothing is kept, as evaluations cannot be told apart."""

    def find(self, key: str) -> Record | None:
        """Return None."""
        return None

    def reload(self) -> None:
        """Do nothing."""

    def begin(self, evaluation: Evaluation) -> Monitor:
        """Return what follows the fit of an evaluation."""
        return Monitor()

    def add(self, evaluation: Evaluation, record: Record) -> None:
        """Do nothing."""

    def drop(self, evaluation: Evaluation) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class Mark:
    """Says that an evaluation is under way, as long as the file is there.

    Parameters
    ----------
    path : pathlib.Path
        The file; it outlives its process.

    lock : int
        A file descriptor whose lock does not; all evaluations share it.

    own_lock : int
        That of the file itself, by which others know that its process lives.
    """

    path: Path
    lock: int
    own_lock: int

    def remove(self) -> None:
        """Remove the mark of an evaluation that has come to its end."""
        with suppress(OSError):
            self.path.unlink()
        for lock in (self.own_lock, self.lock):
            if fcntl is not None:
                # A process that was forked meanwhile would keep it.
                fcntl.flock(lock, fcntl.LOCK_UN)
            os.close(lock)


class InFlight:
    """Marks of the evaluations that are under way.

    A worker that is killed takes what runs there with it, and joblib's pool all else
    that is under way. What was under way is tried once more, but alone: with a lock
    that all evaluations share and that it has for itself, which vanishes with its
    process. So whatever dies twice is itself to blame, and what only needs the memory
    of its neighbours gets it.

    Parameters
    ----------
    directory : str
        Where the marks are. Workers on other machines may not have it, and leave none.
    """

    def __init__(self, directory: str):
        self.directory = directory

    def has_died_twice(self, key: str) -> bool:
        """Return whether an evaluation is not to be tried again."""
        self.bury_dead(key)  # an engine such as Dask gives it to another worker
        return self._count_deaths(key) >= MAX_DEATHS

    def enter(self, key: str) -> Mark | None:
        """Mark an evaluation as under way, once it may start.

        Parameters
        ----------
        key : str
            Of the evaluation.

        Returns
        -------
        mark : Mark or None
            None if it cannot be marked: without the directory, or a lock.
        """
        try:
            lock = os.open(Path(self.directory, "lock"), os.O_CREAT | os.O_RDWR)
        except OSError:
            return None
        try:
            if fcntl is not None:
                alone = self._count_deaths(key) > 0
                fcntl.flock(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
            path, own_lock = self._leave_mark(key)
        except OSError:
            os.close(lock)
            return None
        return Mark(path, lock, own_lock)

    def bury(self) -> int:
        """Note the deaths of all that was under way, when no worker is left.

        Returns
        -------
        n_deaths : int
            How many evaluations that were.
        """
        return sum(self._bury(mark) for mark in self._marks.glob("*.mark"))

    def bury_dead(self, key: str = "*") -> int:
        """Note the deaths of what was under way in processes that are gone.

        Parameters
        ----------
        key : str, default="*"
            Of one evaluation; of all by default.

        Returns
        -------
        n_deaths : int
            How many evaluations that were.
        """
        marks = self._marks.glob(f"{key}-*.mark")
        return sum(self._bury(mark) for mark in marks if _is_abandoned(mark))

    def _leave_mark(self, key):
        """Return the path of a new mark, and its lock."""
        self._marks.mkdir(exist_ok=True)
        path = self._marks / f"{key}-{uuid.uuid4().hex}.mark"
        unlocked = path.with_suffix(".new")
        own_lock = os.open(unlocked, os.O_CREAT | os.O_RDWR)
        try:
            if fcntl is not None:
                fcntl.flock(own_lock, fcntl.LOCK_EX)
            os.replace(unlocked, path)
        except OSError:
            os.close(own_lock)
            raise
        return path, own_lock

    def _bury(self, mark):
        """Note a death, unless another process has done so."""
        try:
            mark.unlink()
        except FileNotFoundError:
            return False
        key = mark.stem.rpartition("-")[0]
        with open(self._deaths(key), "ab") as deaths:
            deaths.write(b"+")
        return True

    def _count_deaths(self, key):
        try:
            return self._deaths(key).stat().st_size
        except OSError:
            return 0

    def _deaths(self, key):
        return Path(self.directory, f"{key}.deaths")

    @property
    def _marks(self):
        # Few files, whatever else there is, as each evaluation looks through them.
        return Path(self.directory, "marks")


def _is_abandoned(mark):
    """Return whether the process that has left a mark is gone."""
    if fcntl is None:
        return False
    try:
        lock = os.open(mark, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(lock)
    return True
