"""The code of a worker: it loads the job once, and packs errors for the way home."""

import os
import uuid
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from traceback import format_exc
from typing import NoReturn

import cloudpickle
import joblib

from sklearn_iis.execution._arrays import ArrayFile, pack, unpack
from sklearn_iis.execution._evaluate import Job, evaluate
from sklearn_iis.execution._record import Record, Task

# The jobs that a worker keeps loaded, as two searches may share it.
N_LOADED = 2


@dataclass(frozen=True)
class Failure:
    """An error on its way home from a worker.

    Parameters
    ----------
    error : bytes
        The pickled error; empty if it cannot be pickled.

    traceback : str
        Where it came from.
    """

    error: bytes
    traceback: str

    def reraise(self) -> NoReturn:
        """Raise the error, with a note of where it came from."""
        try:
            error = cloudpickle.loads(self.error)
            error.add_note(f"In a worker:\n{self.traceback}")
        except (Exception, SystemExit):  # whatever unpickling it may raise
            error = RuntimeError(
                f"a worker ended with an error that cannot be pickled:\n"
                f"{self.traceback}"
            )
        raise error


def run_in_worker(
    load: Callable[[], Job], task: Task, seconds_left: float, callback_ctx: bytes | None
) -> Record | Failure:
    """Evaluate a task in a worker."""
    try:
        context = callback_ctx and cloudpickle.loads(callback_ctx)
        job = load()
        # Joblib's own processes have the same for what they run by joblib.
        nested = joblib.parallel_config("threading", n_jobs=1, nesting_level=1)
        with nested, warnings.catch_warnings():
            warnings.filters = job.warning_filters
            return evaluate(job, task, seconds_left, context)
    except BaseException as error:
        traceback = format_exc()
        try:
            return Failure(cloudpickle.dumps(error), traceback)
        except Exception:  # whatever pickling it may raise
            return Failure(b"", traceback)


@dataclass(frozen=True)
class JobFile:
    """A job in a file, which each process loads once.

    Parameters
    ----------
    path : str
        The file; large arrays are in files of their own beside it.
    """

    path: str

    @classmethod
    def write(cls, job: Job, directory: str) -> "JobFile":
        """Write a job into a directory that all workers see."""
        name = uuid.uuid4().hex

        def share(array):
            path = os.path.join(directory, f"{name}-{uuid.uuid4().hex}.npy")
            return ArrayFile.store(array, path)

        path = Path(directory, f"{name}.job")
        path.write_bytes(pack(job, share))
        return cls(str(path))

    def load(self) -> Job:
        """Return the job, loaded if this process has not done so before."""
        return _load_job(self.path)


@lru_cache(maxsize=N_LOADED)
def _load_job(path):
    return unpack(Path(path).read_bytes(), ArrayFile.open)
