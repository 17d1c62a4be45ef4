"""Dask's executor: evaluations outlive workers, and no error is waited for."""

import asyncio
import os
from concurrent.futures import CancelledError
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any
from uuid import uuid4
from warnings import catch_warnings, filterwarnings

import cloudpickle
import distributed
import numpy as np

from sklearn_iis.execution._arrays import ArrayFile, pack, unpack
from sklearn_iis.execution._evaluate import Job
from sklearn_iis.execution._record import Record
from sklearn_iis.execution._worker import Failure, run_in_worker

# The outcome of an evaluation on a worker that does not see the files of the job.
NOT_SEEN = "not seen"


class LostError(RuntimeError):
    """An evaluation is lost, along with its worker or the data it needs."""


class DaskExecutor:
    """Runs evaluations on the workers of Dask, never in the process of the client.

    Dask repeats by itself what a worker was lost with: the job, which is the result of
    a task, and evaluations, which are not to be repeated before it is their turn. An
    evaluation that has begun leaves a file in the directory of the stage as long as it
    lasts, by which a repetition is known.

    Parameters
    ----------
    backend : joblib.parallel.ParallelBackendBase
        joblib's backend for Dask, as the user has set it.

    n_jobs : int
        Has no effect: all threads of the cluster are kept busy.

    Raises
    ------
    RuntimeError
        If there are no workers, and the user waits for none.
    """

    crash_errors: tuple[type[BaseException], ...] = (
        LostError,
        distributed.KilledWorker,
    )
    crash_ends_all = False

    def __init__(self, backend: Any, n_jobs: int):
        self.client = backend.client
        self.n_workers = backend.effective_n_jobs(n_jobs)
        if not self.n_workers:
            raise RuntimeError("Dask has no active worker")
        self._settings = dict(backend.submit_kwargs)
        self._scattered = backend.data_futures
        self._running: set[distributed.Future] = set()
        # A search within a task of Dask must not keep a thread from running others.
        self._context = ExitStack()
        self._context.enter_context(backend.retrieval_context())

    def share(self, job, directory):
        """Hand a job out to all workers, and wait until they have it.

        Raises
        ------
        RuntimeError
            If workers cannot load it.
        """
        shared = _Shared(job, directory)
        self._hand_out(shared, None)
        return shared

    def submit(self, handle, task, seconds_left, callback_ctx):
        """Have a worker evaluate as soon as it is free."""
        if handle.future.status in ("cancelled", "error"):
            self._hand_out(handle, handle.future)
        context = callback_ctx and cloudpickle.dumps(callback_ctx)
        # The scheduler of Dask need not be able to import what is within.
        packed = cloudpickle.dumps((task, seconds_left, context))
        return asyncio.run_coroutine_threadsafe(
            self._follow(self._submit(handle, packed), handle, packed),
            self.client.loop.asyncio_loop,
        )

    def restart(self):
        """Do nothing: Dask starts another worker by itself."""

    def close(self, *, kill=False):
        """Let go of the evaluations; with `kill`, cancel those under way."""
        if kill:
            # The client may be closed by now.
            with suppress(Exception):
                self.client.cancel([*self._running])
        self._running.clear()
        self._context.close()

    def _submit(self, shared, packed):
        key = f"evaluate-{uuid4().hex}"
        future = self.client.submit(
            evaluate,
            shared.future,
            os.path.join(shared.directory, f"{key}.begun"),
            packed,
            **self._settings | {"key": key, "pure": False},
        )
        self._running.add(future)
        return future

    async def _follow(self, future, shared, packed) -> Record | Failure:
        """Wait for an evaluation, in the loop of the client."""
        while True:
            source = shared.future
            try:
                outcome = await future
            except (CancelledError, asyncio.CancelledError) as error:
                if self.client.status != "running":
                    raise RuntimeError(
                        "the search has lost its connection to Dask's scheduler"
                    ) from error
                # Its frames would keep the future, which keeps the error.
                raise LostError(str(error)) from error.with_traceback(None)
            finally:
                self._running.discard(future)
            if outcome is None:
                raise LostError("a worker has died during the evaluation")
            if outcome != NOT_SEEN:
                return outcome
            await asyncio.to_thread(self._hand_out, shared, source)
            future = self._submit(shared, packed)

    def _hand_out(self, shared, stale):
        """Have all workers get a job, unless it is no longer the one that is stale."""
        with shared.lock:
            if shared.future is not stale:
                return
            future = self._send(shared, {} if stale else self._scattered)
            if (error := future.exception()) is not None:
                raise RuntimeError(f"workers cannot load the job: {error}") from error
            # The first evaluations would otherwise wait for the worker that has it.
            workers = self._settings.get("workers")
            self.client.replicate(
                [future], workers=[workers] if isinstance(workers, str) else workers
            )
            shared.future = future

    def _send(self, shared, scattered):
        """Have a task return the job, with large arrays in files if all see them."""
        sees_directory = is_true_everywhere(
            self.client, os.path.isdir, shared.directory
        )
        arrays: list[Any] = []

        def place(array):
            file = ArrayFile.find(array)
            if file is None and sees_directory and id(array) not in scattered:
                path = os.path.join(shared.directory, f"{uuid4().hex}.npy")
                file = ArrayFile.store(array, path)
            if file is None or not is_true_everywhere(self.client, file.is_here):
                file = None
            arrays.append(file or scattered.get(id(array), np.asarray(array)))
            return len(arrays) - 1

        data = pack(shared.job, place)
        where = {
            name: setting
            for name, setting in self._settings.items()
            if name in ("workers", "allow_other_workers")
        }
        with catch_warnings():
            # Dask keeps what a task is given.
            filterwarnings("ignore", "Sending large graph", UserWarning)
            return self.client.submit(
                LoadedJob, data, *arrays, key=f"share-{uuid4().hex}", **where
            )


@dataclass
class _Shared:
    """A job, and the future of what workers have of it."""

    job: Job
    directory: str
    future: Any = None
    lock: Any = field(default_factory=Lock)


class LoadedJob:
    """A job on a worker of Dask, which all evaluations of the process share.

    Parameters
    ----------
    data : bytes
        The packed job.

    *arrays : ndarray or ArrayFile
        What it lacks.
    """

    def __init__(self, data: bytes, *arrays: Any):
        self.data = data
        self.arrays = arrays
        self._job: Job | None = None
        self._lock = Lock()

    def __reduce__(self):
        return LoadedJob, (self.data, *self.arrays)

    def __sizeof__(self):
        # By which Dask decides where to run what needs it.
        return len(self.data) + sum(
            array.nbytes for array in self.arrays if isinstance(array, np.ndarray)
        )

    @property
    def is_seen(self) -> bool:
        """Whether this process sees all files."""
        return self._job is not None or all(
            array.is_here() for array in self.arrays if isinstance(array, ArrayFile)
        )

    def load(self) -> Job:
        """Return the job, loaded if this process has not done so before."""
        with self._lock:
            if self._job is None:
                self._job = unpack(self.data, self._fetch)
            return self._job

    def _fetch(self, index):
        array = self.arrays[index]
        if isinstance(array, ArrayFile):
            return array.open()
        array = array.view()
        array.flags.writeable = False
        return array


def evaluate(
    job: LoadedJob, begun: str, packed: bytes
) -> Record | Failure | str | None:
    """Evaluate in a worker of Dask; its name is what Dask's dashboard shows."""
    try:
        os.close(os.open(begun, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return None
    except OSError:
        pass  # of a machine that does not see the directory
    try:
        if not job.is_seen:
            return NOT_SEEN
        return run_in_worker(job.load, *cloudpickle.loads(packed))
    finally:
        with suppress(OSError):
            Path(begun).unlink()


def is_true_everywhere(client: distributed.Client, function: Any, *args: Any) -> bool:
    """Return whether all workers of Dask return True."""
    answers = client.run(function, *args, on_error="return").values()
    return bool(answers) and all(answer is True for answer in answers)
