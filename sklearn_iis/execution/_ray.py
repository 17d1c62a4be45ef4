"""Ray's executor: an actor per worker, large arrays in Ray's object store."""

from functools import lru_cache, partial
from operator import itemgetter
from typing import Any

import cloudpickle
import numpy as np
import ray
from ray import exceptions

from sklearn_iis.execution._arrays import pack, unpack
from sklearn_iis.execution._evaluate import Job
from sklearn_iis.execution._worker import run_in_worker


class RayExecutor:
    """Runs evaluations in actors of Ray, one per worker.

    A task that asks for a GPU would start a process of its own each time.

    Parameters
    ----------
    backend : ray.util.joblib.ray_backend.RayBackend
        The user's.

    n_jobs : int
        As joblib takes it.
    """

    crash_errors: tuple[type[BaseException], ...] = (
        exceptions.RayActorError,
        exceptions.OutOfMemoryError,
        exceptions.NodeDiedError,
        exceptions.ObjectLostError,
    )
    crash_ends_all = False

    def __init__(self, backend: Any, n_jobs: int):
        if not ray.is_initialized():
            ray.init()
        self.n_workers = backend.effective_n_jobs(n_jobs)
        self._n_jobs = n_jobs
        self._settings = dict(backend.ray_remote_args or {})
        # The scheduler of the stage retries, as it counts the crashes.
        once = {"max_restarts": 0, "max_task_retries": 0}
        self._make_worker = ray.remote(**self._settings | once)(Worker).remote
        # Each actor, and how many evaluations it has.
        self._workers: dict[Any, int] = {}

    def share(self, job, directory):
        """Put a job into the object store, from which each process loads it once.

        Raises
        ------
        ValueError
            If there are more workers than GPUs for them.
        """
        # Without what was computed before, which may have been all that takes a GPU.
        estimator = job.fidelities[job.last_stage].make(job.estimator, {})
        self._check_gpus(estimator, job.trials_per_gpu)
        self.restart()
        arrays = []

        def place(array):
            arrays.append(np.asarray(array))
            return len(arrays) - 1

        return ray.put((pack(job, place), arrays))

    def submit(self, handle, task, seconds_left, callback_ctx):
        """Have the worker with the fewest evaluations evaluate."""
        context = callback_ctx and cloudpickle.dumps(callback_ctx)
        self.restart()
        # A copy, as a thread of Ray's tells of actors that are gone.
        worker, _ = min(self._workers.copy().items(), key=itemgetter(1))
        self._workers[worker] += 1
        # Within a list, the reference itself gets to the worker.
        result = worker.evaluate.remote([handle], task, seconds_left, context)
        future = result.future()
        future.add_done_callback(partial(self._release, worker))
        return future

    def restart(self):
        """Start workers in place of those that are gone."""
        while len(self._workers) < self.n_workers:
            self._workers[self._make_worker()] = 0

    def close(self, *, kill=False):
        """Let go of the workers; with `kill`, end their processes."""
        if kill and ray.is_initialized():
            for worker in [*self._workers]:
                ray.kill(worker)
        self._workers.clear()

    def _release(self, worker, future):
        if isinstance(future.exception(), exceptions.RayActorError):
            self._workers.pop(worker, None)
        elif worker in self._workers:
            self._workers[worker] -= 1

    def _check_gpus(self, estimator, trials_per_gpu):
        """Raise an error if more workers need a GPU than Ray has, which waits then."""
        share = self._settings.get("num_gpus") or 0
        gpus = [
            node["Resources"].get("GPU", 0) for node in ray.nodes() if node.get("Alive")
        ]
        n_gpus = int(sum(gpus))
        if share:
            # A worker has whole GPUs, or a part of one.
            n_slots = sum(
                int(n / share) if share >= 1 else int(n) * int(1 / share) for n in gpus
            )
        elif n_gpus and _uses_gpu(estimator):
            n_slots = n_gpus * trials_per_gpu
            share = 1 if trials_per_gpu == 1 else 1 / trials_per_gpu
        else:
            return
        if self.n_workers > n_slots:
            settings = {**self._settings, "num_gpus": share}
            remedy = (
                f"use parallel_config('ray', n_jobs={n_slots}, "
                f"ray_remote_args={settings})"
                if n_slots
                else "start Ray with GPUs, or ask for none"
            )
            raise ValueError(
                f"n_jobs={self._n_jobs} means {self.n_workers} workers, as many as Ray "
                f"is to start, but its {n_gpus} GPUs are enough for {n_slots}: {remedy}"
            )


class Worker:
    """Evaluates in a process of Ray; its name is what Ray's dashboard shows."""

    def evaluate(self, handle, *args):
        """Evaluate a task of the job that a handle stands for."""
        return run_in_worker(partial(_load_job, *handle), *args)


# No more than one, as what is loaded stays in the object store.
@lru_cache(maxsize=1)
def _load_job(reference) -> Job:
    data, arrays = ray.get(reference)
    return unpack(data, arrays.__getitem__)


def _uses_gpu(estimator):
    return any(
        name.rpartition("__")[2] == "device" and str(value).startswith(("auto", "cuda"))
        for name, value in estimator.get_params().items()
    )
