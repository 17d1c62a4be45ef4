"""Executors: where evaluations run, chosen by `joblib.parallel_config`."""

import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Future
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.pool import ThreadPool
from threading import Thread
from typing import Any, Protocol
from weakref import WeakSet

import cloudpickle
import joblib
import loky
from joblib.parallel import BACKENDS, get_active_backend

from sklearn_iis.execution._evaluate import Job, evaluate
from sklearn_iis.execution._record import Record, Task
from sklearn_iis.execution._worker import Failure, JobFile, run_in_worker

# The environment variables that set the number of threads of numpy, torch and others.
THREAD_VARIABLES = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
    *("BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "NUMBA_NUM_THREADS"),
    "NUMEXPR_NUM_THREADS",
)

# The seconds after which an idle process of loky ends; joblib has the same.
IDLE_SECONDS = 300

# How often a process looks whether its parent is still there.
WATCH_SECONDS = 2


class Executor(Protocol):
    """Runs evaluations; the scheduler knows no more of it than this."""

    n_workers: int
    """How many evaluations run at once."""

    crash_errors: tuple[type[BaseException], ...]
    """The errors of a future whose worker is gone."""

    crash_ends_all: bool
    """Whether the crash of one worker ends all evaluations under way."""

    def share(self, job: Job, directory: str) -> Any:
        """Hand a job out to the workers, once a stage; return its handle."""

    def submit(
        self, handle: Any, task: Task, seconds_left: float, callback_ctx: Any
    ) -> "Future[Record | Failure]":
        """Have an evaluation run as soon as a worker is free."""

    def restart(self) -> None:
        """Get ready to go on after a crash."""

    def close(self, *, kill: bool = False) -> None:
        """Let the workers go; with `kill`, also what is under way."""


def make_executor(n_jobs: int | None) -> Executor:
    """Return the executor that stands for joblib's active backend.

    Raises
    ------
    ValueError
        If there is none for this backend.
    """
    backend, default = get_active_backend()
    n_jobs = default if n_jobs is None else n_jobs
    kind = next((name for name, cls in BACKENDS.items() if type(backend) is cls), None)
    if kind == "dask":
        from sklearn_iis.execution._dask import DaskExecutor

        return DaskExecutor(backend, n_jobs)
    if kind == "ray":
        from sklearn_iis.execution._ray import RayExecutor

        return RayExecutor(backend, n_jobs)
    kinds: dict[str | None, Any] = {
        "threading": ThreadExecutor,
        "multiprocessing": MultiprocessingExecutor,
        "loky": LokyExecutor,
    }
    if kind != "sequential" and kind not in kinds:
        raise ValueError(
            f"joblib's backend {type(backend).__name__} cannot run a search: choose "
            f"one of {['sequential', *kinds, 'dask', 'ray']} by joblib.parallel_config"
        )
    n_workers = backend.effective_n_jobs(n_jobs)
    return SerialExecutor() if n_workers == 1 else kinds[kind](n_workers, backend)


@contextmanager
def running_executor(n_jobs: int | None) -> Iterator[Executor]:
    """Make an executor, and close it; after an error, kill what is under way."""
    executor = make_executor(n_jobs)
    try:
        yield executor
    except BaseException:
        executor.close(kill=True)
        raise
    executor.close()


class SerialExecutor:
    """Runs each evaluation in this thread, when it is submitted."""

    n_workers = 1
    crash_errors: tuple[type[BaseException], ...] = ()
    crash_ends_all = False

    def share(self, job, directory):
        """Return the job."""
        return job

    def submit(self, handle, task, seconds_left, callback_ctx):
        """Run an evaluation; an interrupt is raised at once."""
        future: Future[Record | Failure] = Future()
        try:
            future.set_result(evaluate(handle, task, seconds_left, callback_ctx))
        except Exception as error:
            future.set_exception(error)
        return future

    def restart(self):
        """Do nothing."""

    def close(self, *, kill=False):
        """Do nothing."""


class ThreadExecutor(SerialExecutor):
    """Runs evaluations in threads, among which torch's threads are divided."""

    def __init__(self, n_workers: int, backend: Any):
        self.n_workers = n_workers
        # Not of concurrent.futures, whose threads keep the interpreter from exiting.
        self._pool = ThreadPool(n_workers)
        self._n_threads = _divide_torch_threads(n_workers)

    def submit(self, handle, task, seconds_left, callback_ctx):
        """Have an evaluation run in a thread."""
        end = time.monotonic() + seconds_left
        future: Future[Record | Failure] = Future()
        self._pool.apply_async(
            _run_in_thread, (future, end, handle, task, callback_ctx)
        )
        return future

    def close(self, *, kill=False):
        """Wait for the threads; with `kill`, leave them to end by themselves."""
        self._pool.close()
        if not kill:
            self._pool.join()
        _set_torch_threads(self._n_threads)


class ProcessExecutor:
    """Runs evaluations in processes of this machine.

    Parameters
    ----------
    n_workers : int
        How many.

    backend : joblib.parallel.ParallelBackendBase
        Joblib's.
    """

    crash_errors: tuple[type[BaseException], ...] = (BrokenExecutor,)
    crash_ends_all = True

    def __init__(self, n_workers: int, backend: Any):
        self.n_workers = n_workers
        self.backend = backend
        self._futures: WeakSet[Future] = WeakSet()
        self._pool = self._start()

    def share(self, job, directory):
        """Write a job to a file, which each process reads once."""
        return JobFile.write(job, directory)

    def submit(self, handle, task, seconds_left, callback_ctx):
        """Have an evaluation run in a process."""
        context = callback_ctx and cloudpickle.dumps(callback_ctx)
        # All processes of a machine share this clock.
        end = time.monotonic() + seconds_left
        future = self._pool.submit(_run_until, end, handle.load, task, context)
        self._futures.add(future)
        return future

    def restart(self):
        """Start new processes."""
        self._pool = self._start()

    def _start(self):
        raise NotImplementedError


class LokyExecutor(ProcessExecutor):
    """Runs evaluations in the processes of loky, which the next search uses again."""

    def _start(self):
        n_threads = self.backend.inner_max_num_threads
        env = {
            name: str(n_threads or os.environ.get(name, self._share_of_threads))
            for name in THREAD_VARIABLES
        }
        return loky.get_reusable_executor(
            self.n_workers,
            timeout=IDLE_SECONDS,
            initializer=_end_with_parent,
            env=env,
            reuse="auto",
        )

    @property
    def _share_of_threads(self):
        return max(joblib.cpu_count() // self.n_workers, 1)

    def close(self, *, kill=False):
        """Kill what is under way if asked to; processes stay for the next search."""
        if kill and any(not future.done() for future in self._futures):
            self._pool.shutdown(wait=True, kill_workers=True)


class MultiprocessingExecutor(ProcessExecutor):
    """Runs evaluations in processes of Python's own `multiprocessing`."""

    def __init__(self, n_workers: int, backend: Any):
        # Forked processes inherit the number of threads.
        self._n_threads = _divide_torch_threads(n_workers)
        super().__init__(n_workers, backend)

    def _start(self):
        return loky.ProcessPoolExecutor(
            self.n_workers, context=get_context(), initializer=_end_with_parent
        )

    def close(self, *, kill=False):
        """Let the processes go."""
        self._pool.shutdown(wait=True, kill_workers=kill)
        _set_torch_threads(self._n_threads)


def _run_in_thread(future, end, job, task, callback_ctx):
    try:
        with joblib.parallel_config("threading", n_jobs=1, nesting_level=1):
            left = end - time.monotonic()
            future.set_result(evaluate(job, task, left, callback_ctx))
    except BaseException as error:
        future.set_exception(error)


def _end_with_parent():
    """Have a process end soon after the one that started it."""
    parent = os.getppid()

    def watch():
        while os.getppid() == parent:
            time.sleep(WATCH_SECONDS)
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def _run_until(end, load, task, callback_ctx):
    # What has waited for its process has less time left.
    return run_in_worker(load, task, end - time.monotonic(), callback_ctx)


def _divide_torch_threads(n_workers):
    """Divide torch's threads among workers; return how many there were."""
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    n_threads = torch.get_num_threads()
    torch.set_num_threads(min(n_threads, max(1, joblib.cpu_count() // n_workers)))
    return n_threads


def _set_torch_threads(n_threads):
    if n_threads is not None:
        sys.modules["torch"].set_num_threads(n_threads)
