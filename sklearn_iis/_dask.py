"""joblib's backend for Dask, such that a search outlives workers, but no error."""

import pickle
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from types import SimpleNamespace
from typing import Any
from uuid import uuid4
from warnings import catch_warnings, filterwarnings

import cloudpickle
import distributed
from joblib._dask import DaskDistributedBackend

from sklearn_iis._arrays import ArrayFile, is_large


class DurableBackend(DaskDistributedBackend):
    """What joblib's backend for Dask does, without what a long search would suffer by.

    - joblib waits for ever for a task that cannot be pickled, or unpickled, or that
      Dask has given up since it killed one worker after another. Here it is an error.
    - What joblib has scattered is lost with the workers that have it, and with it all
      that needs it. Here large arrays come from a task, which Dask repeats, or from a
      file that all workers see; all else travels with each task.
    - With a single thread in the cluster, joblib would run everything in the process of
      the client. Here it never does: what is run may kill its process.

    The scheduler need not be able to import what tasks are made of.

    Parameters
    ----------
    backend : DaskDistributedBackend
        The user's.
    """

    def __init__(self, backend: DaskDistributedBackend):
        super().__init__(
            client=backend.client,
            wait_for_workers_timeout=backend.wait_for_workers_timeout,
            **backend.submit_kwargs,
        )
        self.nesting_level = backend.nesting_level
        # An array is known by its address, so that it has to live.
        self._arrays = list(backend._scatter)
        self._places: dict[int, Any] = dict(backend.data_futures)

    def effective_n_jobs(self, n_jobs):
        """Return the number of threads of the cluster, but at least 2."""
        return max(2, super().effective_n_jobs(n_jobs))

    def hand_out(self, array: Any) -> None:
        """Have all workers get a large array, and wait until they have it."""
        if not is_large(array) or id(array) in self._places:
            return
        file = ArrayFile.find(array)
        if file is not None and is_true_everywhere(self.client, file.is_here):
            self._arrays.append(array)
            self._places[id(array)] = file
            return
        future = self._find_place(array)
        # A search within a task of Dask must not keep the array's task from running.
        with self.retrieval_context():
            error = future.exception()
        if error is not None:
            raise error
        self.client.replicate([future])

    def submit(self, func, callback=None):
        """Run a batch of joblib's tasks on a worker."""
        try:
            items = [self._pack(item) for item in func.items]
        except Exception as error:
            job: Future = Future()
            job.set_exception(error)
        else:
            job = super().submit(SimpleNamespace(items=items), callback)
        job.add_done_callback(partial(_tell_error, callback))
        return job

    def _pack(self, item):
        """Return a task of joblib's with its large arrays apart."""
        data = BytesIO()
        pickler = _Pickler(data, self._find_place)
        pickler.dump(item)
        return evaluate, (data.getvalue(), *pickler.futures), {}

    def _find_place(self, array):
        """Return where a worker gets a large array from."""
        place = self._places.get(id(array))
        if place is None:
            with _large_graphs():
                place = self.client.submit(
                    _return, array, key=f"array-{uuid4().hex}", pure=False
                )
            self._arrays.append(array)
            self._places[id(array)] = place
        return place


def evaluate(data: bytes, *arrays: Any) -> Any:
    """Run, in a worker, a task that a :class:`DurableBackend` has packed.

    Its name is what Dask's dashboard shows.
    """
    function, args, kwargs = _Unpickler(BytesIO(data), arrays).load()
    return function(*args, **kwargs)


def is_true_everywhere(client: distributed.Client, function: Any, *args: Any) -> bool:
    """Return whether all workers of Dask return True."""
    answers = client.run(function, *args, on_error="ignore").values()
    return bool(answers) and all(answers)


class _Pickler(cloudpickle.Pickler):
    """Pickles large arrays by where they are to be found."""

    def __init__(self, file, find_place):
        super().__init__(file)
        self.find_place = find_place
        self.futures = []

    def persistent_id(self, value):
        if not is_large(value):
            return None
        place = self.find_place(value)
        if isinstance(place, ArrayFile):
            return place
        if place not in self.futures:
            self.futures.append(place)
        return self.futures.index(place)


class _Unpickler(pickle.Unpickler):
    def __init__(self, file, arrays):
        super().__init__(file)
        self.arrays = arrays

    def persistent_load(self, place):
        return place.open() if isinstance(place, ArrayFile) else self.arrays[place]


def _return(array):
    return array


def _tell_error(callback, job):
    if callback is not None and (error := job.exception()) is not None:
        callback(error)


@contextmanager
def _large_graphs():
    """Dask warns of tasks that it is given much with, as it keeps that."""
    with catch_warnings():
        filterwarnings("ignore", "Sending large graph", UserWarning)
        yield
