"""joblib's backend for Dask, such that a search outlives workers, but no error."""

import pickle
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from io import BytesIO
from traceback import format_exc
from types import SimpleNamespace
from typing import Any
from uuid import uuid4
from warnings import catch_warnings, filterwarnings

import cloudpickle
import distributed
import numpy as np
from dask.sizeof import sizeof
from joblib import parallel_config
from joblib._dask import DaskDistributedBackend

from sklearn_iis.execution._arrays import MIN_BYTES, ArrayFile, is_large


class DurableBackend(DaskDistributedBackend):
    """What joblib's backend for Dask does, without what a long search would suffer by.

    - joblib waits for ever for a task or a result that cannot be pickled, or unpickled,
      and for what Dask has given up since it killed one worker after another. Here it
      is an error. After an error, joblib leaves tasks and data where they are.
    - What joblib has scattered is lost with the workers that have it, and with it all
      that needs it. Here large arrays come from a task, which Dask repeats, or from a
      file that all workers see; all else travels with each task.
    - With a single thread in the cluster, joblib would run everything in the process of
      the client. Here it never does: what is run may kill its process.
    - A task that uses joblib itself would wait for all workers, which then begin other
      tasks; if these wait for what the first one holds, a GPU say, all do so for ever.
      Here it stays in its process.

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
        # Data are known by their addresses, so that they have to live.
        self._handed_out: list[Any] = []
        self._places: dict[int, Any] = dict(backend.data_futures)

    def effective_n_jobs(self, n_jobs):
        """Return the number of threads of the cluster, but at least 2 if it has any."""
        n_threads = super().effective_n_jobs(n_jobs)
        return n_threads and max(2, n_threads)

    def hand_out(self, X: Any) -> None:
        """Have all workers get what is large, and wait until they have it."""
        if id(X) in self._places or sizeof(X) <= MIN_BYTES:
            return
        file = ArrayFile.find(X)
        if file is not None and is_true_everywhere(self.client, file.is_here):
            self._keep(X, file)
            return
        with catch_warnings():
            # Dask keeps what a task is given.
            filterwarnings("ignore", "Sending large graph", UserWarning)
            future = self._send(X)
        # A search within a task of Dask must not keep this one from running.
        with self.retrieval_context():
            error = future.exception()
        if error is not None:
            raise error
        # The first tasks would otherwise wait for the worker that has it.
        workers = self.submit_kwargs.get("workers")
        self.client.replicate(
            [future], workers=[workers] if isinstance(workers, str) else workers
        )

    def let_go(self) -> None:
        """Have Dask forget what was handed out."""
        self._handed_out.clear()
        self._places.clear()

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

    def retrieve_result_callback(self, out):
        """Return the results of a batch, or raise the error of one of its tasks."""
        return [_unpack(*each) for each in super().retrieve_result_callback(out)]

    def abort_everything(self, ensure_ready=True):
        """Cancel what is under way."""

        async def cancel():
            # In the loop of the client, behind what was submitted just before.
            await self.client.cancel(list(self._results), asynchronous=True)

        # The client may be closed by now.
        with suppress(Exception):
            self.client.sync(cancel)

    def _pack(self, item):
        """Return a task of joblib's, apart from what is handed out."""
        data = BytesIO()
        pickler = _Pickler(data, self._find_place)
        pickler.dump(item)
        return evaluate, (data.getvalue(), *pickler.futures), {}

    def _find_place(self, value):
        """Return where a worker gets a value from; None if it travels with the task."""
        place = self._places.get(id(value))
        return self._send(value) if place is None and is_large(value) else place

    def _send(self, value):
        where = {
            name: setting
            for name, setting in self.submit_kwargs.items()
            if name in ("workers", "allow_other_workers")
        }
        key = f"{type(value).__name__}-{uuid4().hex}"
        future = self.client.submit(_return, value, key=key, pure=False, **where)
        self._keep(value, future)
        return future

    def _keep(self, value, place):
        self._handed_out.append(value)
        self._places[id(value)] = place


def evaluate(data: bytes, *handed_out: Any) -> tuple[bytes, str | None]:
    """Run, in a worker, a task that a :class:`DurableBackend` has packed.

    Its name is what Dask's dashboard shows.

    Parameters
    ----------
    data : bytes
        The task.

    *handed_out : object
        What it lacks.

    Returns
    -------
    result : bytes
        The result, or the error.

    traceback : str or None
        Where the error came from; None if there is none.
    """
    try:
        function, args, kwargs = _Unpickler(BytesIO(data), handed_out).load()
        # What joblib's own processes have for what they run by joblib.
        with parallel_config("threading", n_jobs=1, nesting_level=1):
            result = function(*args, **kwargs)
        return cloudpickle.dumps(result), None
    except BaseException as error:
        traceback = format_exc()
        try:
            return cloudpickle.dumps(error), traceback
        except Exception:
            return b"", traceback


def is_true_everywhere(client: distributed.Client, function: Any, *args: Any) -> bool:
    """Return whether all workers of Dask return True."""
    answers = client.run(function, *args, on_error="return").values()
    return bool(answers) and all(answer is True for answer in answers)


class _Pickler(cloudpickle.Pickler):
    """Pickles what is handed out by where it is to be found."""

    def __init__(self, file, find_place):
        super().__init__(file)
        self.find_place = find_place
        self.futures = []

    def persistent_id(self, value):
        place = self.find_place(value)
        if place is None or isinstance(place, ArrayFile):
            return place
        if place not in self.futures:
            self.futures.append(place)
        return self.futures.index(place)


class _Unpickler(pickle.Unpickler):
    def __init__(self, file, handed_out):
        super().__init__(file)
        self.handed_out = handed_out

    def persistent_load(self, place):
        if isinstance(place, ArrayFile):
            return place.open()
        value = self.handed_out[place]
        if type(value) is np.ndarray:
            # All tasks of this process have the same one.
            value = value.view()
            value.flags.writeable = False
        return value


def _return(value):
    return value


def _unpack(result, traceback):
    """Return what a task has returned, or raise its error."""
    if traceback is None:
        return pickle.loads(result)
    try:
        error = pickle.loads(result)
        error.add_note(f"In a worker of Dask:\n{traceback}")
    except BaseException:
        raise RuntimeError(
            f"a task ended with an error that cannot be pickled:\n{traceback}"
        ) from None
    raise error


def _tell_error(callback, job):
    if callback is not None and (error := job.exception()) is not None:
        callback(error)
