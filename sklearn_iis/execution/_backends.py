"""joblib's backends: how images reach their workers, and what cannot work with them."""

import os
import sys
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

import numpy as np
from joblib import parallel_config
from joblib.parallel import BACKENDS, get_active_backend

from sklearn_iis.execution._arrays import FileNotSeenError, is_large, is_map


def check_gpus(estimator: Any, n_jobs: int | None, trials_per_gpu: int = 1) -> None:
    """Raise an error if Ray has fewer GPUs than the workers need.

    Parameters
    ----------
    estimator : estimator object
        Whether it uses a GPU is told by its parameters called `device`.

    n_jobs : int or None
        As the search has it.

    trials_per_gpu : int, default=1
        As the search has it.

    Raises
    ------
    ValueError
        If more workers ask for a GPU than get one, which Ray waits for without end; or
        if no worker asks for one, and there are more workers than GPUs to be used.
    """
    backend, n_workers = _find_backend(n_jobs)
    if not _is_ray(backend) or n_workers == 1:
        return
    share = (backend.ray_remote_args or {}).get("num_gpus") or 0
    ray = sys.modules["ray"]
    gpus = [
        node["Resources"].get("GPU", 0) for node in ray.nodes() if node.get("Alive")
    ]
    n_gpus = int(sum(gpus))
    if share:
        # A worker has whole GPUs, or a part of one.
        n_places = sum(
            int(n / share) if share >= 1 else int(n) * int(1 / share) for n in gpus
        )
    elif n_gpus and _uses_gpu(estimator):
        n_places = n_gpus * trials_per_gpu
        share = 1 if trials_per_gpu == 1 else 1 / trials_per_gpu
    else:
        return
    if n_workers > n_places:
        args = {**(backend.ray_remote_args or {}), "num_gpus": share}
        remedy = (
            f"use parallel_config('ray', n_jobs={n_places}, ray_remote_args={args})"
            if n_places
            else "start Ray with GPUs, or ask for none"
        )
        raise ValueError(
            f"n_jobs={_asked(n_jobs)} means {n_workers} workers, as many as Ray is to "
            f"start, but its {n_gpus} GPUs are enough for {n_places}: {remedy}"
        )


def map_images(X: Any, n_jobs: int | None, directory: str) -> Any:
    """Return the images as a map of a file, for processes on this machine to share.

    joblib hands a map on by its name; of any other large array it keeps a copy in
    memory (in /dev/shm), besides the array itself, and Dask one in each process.

    Parameters
    ----------
    X : ndarray or other
        The images.

    n_jobs : int or None
        As the search has it.

    directory : str
        Where the file is written.

    Returns
    -------
    X : memmap or other
        X itself if it is small, no array, a map already, or if there are not several
        worker processes that see the directory: joblib's own, or Dask's.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    if not is_large(X) or is_map(X) or not _can_map(directory, n_jobs):
        return X
    path = os.path.join(directory, "images.npy")
    try:
        np.save(path, X)
    except OSError as error:
        raise OSError(
            f"the {X.nbytes / 2**20:.0f} MB of a stage's images cannot be written to "
            f"{directory!r} ({error}): free some space there, or name another folder "
            "by the environment variable TMPDIR"
        ) from error
    return np.load(path, mmap_mode="r")


@contextmanager
def handed_out(X: Any, n_jobs: int | None) -> Iterator[Any]:
    """Hand images out to the workers of Dask or Ray, once for all calls of joblib.

    Parameters
    ----------
    X : ndarray or other
        The images.

    n_jobs : int or None
        As the search has it.

    Yields
    ------
    X : ndarray or other
        What a search is to be fitted with, while the context lasts.
    """
    backend, n_workers = _find_backend(n_jobs)
    if _is_dask(backend):
        from sklearn_iis.execution._dask import DurableBackend

        durable = DurableBackend(backend)
        try:
            durable.hand_out(X)
            with parallel_config(durable):
                yield X
        finally:
            durable.let_go()
    elif _is_ray(backend) and n_workers > 1 and is_large(X):
        yield _put(X)
    else:
        yield X


def worker_errors() -> tuple[type[BaseException], ...]:
    """Return the errors that tell that a worker, or what it had, is gone.

    Also that a worker has come that does not see what the others do.
    """
    errors: list[type[BaseException]] = [BrokenProcessPool, FileNotSeenError]
    if "joblib._dask" in sys.modules and (dask := sys.modules.get("distributed")):
        # Cancelled is what lacks data that the user has scattered, if it is lost.
        errors += [dask.KilledWorker, dask.client.FutureCancelledError]
    if ray := sys.modules.get("ray"):
        errors += [ray.exceptions.RayActorError, ray.exceptions.ObjectLostError]
    return tuple(errors)


class _StoredArray(np.ndarray):
    """An array that is pickled as a reference to what Ray's object store has of it.

    Ray's backend would put it there itself, but not with the joblib of today: it looks
    for a class, `SafeFunction`, that joblib no longer has, and then sends the array
    with each task.
    """

    # Parts of the array have none.
    reference = None

    def __reduce_ex__(self, protocol):
        if self.reference is None:
            return np.asarray(self).__reduce_ex__(protocol)
        return _fetch, (self.reference,)


def _put(X):
    stored = np.asarray(X).view(_StoredArray)
    stored.reference = sys.modules["ray"].put(np.asarray(X))
    return stored


def _fetch(reference):
    import ray

    return ray.get(reference)


def _find_backend(n_jobs):
    """Return joblib's active backend, and how many workers it is to have."""
    backend, default = get_active_backend()
    return backend, backend.effective_n_jobs(default if n_jobs is None else n_jobs)


def _can_map(directory, n_jobs):
    """Return whether workers are processes that see a directory of this one."""
    backend, n_workers = _find_backend(n_jobs)
    if _is_dask(backend):
        from sklearn_iis.execution._dask import is_true_everywhere

        return is_true_everywhere(backend.client, os.path.isdir, directory)
    own = [BACKENDS.get("loky"), BACKENDS.get("multiprocessing")]
    return type(backend) in own and n_workers > 1


def _asked(n_jobs):
    return get_active_backend()[1] if n_jobs is None else n_jobs


def _is_dask(backend):
    module = sys.modules.get("joblib._dask")
    return module is not None and isinstance(backend, module.DaskDistributedBackend)


def _is_ray(backend):
    module = sys.modules.get("ray.util.joblib.ray_backend")
    return module is not None and isinstance(backend, module.RayBackend)


def _uses_gpu(estimator):
    return any(
        name.rpartition("__")[2] == "device" and str(value).startswith(("auto", "cuda"))
        for name, value in estimator.get_params().items()
    )
