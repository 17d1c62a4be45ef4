"""A search with a thousand workers, simulated: what it takes itself, where it stops.

python -m benchmarks.simulation --search random --workers 1000 --candidates 100000

The workers are simulated with a virtual clock, behind joblib: an evaluation takes no
time but says how long it would take, its task is pickled when it is sent to a worker,
and its result unpickled when it would be done. All else is real: the search, its
proposals, scikit-learn and joblib. For what they take of real time the process of the
search is busy on the virtual clock too, so that results have to wait for it.
"""

import argparse
import datetime
import heapq
import os
import pickle
import platform
import resource
import time
from collections import deque
from itertools import count
from typing import ClassVar

import cloudpickle
import numpy as np
from joblib import parallel_config, register_parallel_backend
from joblib._parallel_backends import (
    FallbackToBackend,
    ParallelBackendBase,
    SequentialBackend,
)
from scipy.stats import loguniform, randint, uniform
from sklearn.base import BaseEstimator

from benchmarks.workers import measure_busy
from sklearn_iis import IISSearchCV, PerLayer
from sklearn_iis.execution import _tickets

SPREAD = 10

SPACE = {
    "duration": loguniform(1, SPREAD),
    "learning_rate": loguniform(1e-4, 1),
    "dropout": uniform(),
    "n_layers": randint(1, 6),
    "n_filters": PerLayer(randint(8, 129), depth="n_layers"),
}


class Simulated(BaseEstimator):
    """It learns nothing, says how long that takes, and scores by a formula."""

    def __init__(
        self,
        duration=1.0,
        learning_rate=0.1,
        dropout=0.0,
        n_layers=1,
        n_filters=(8,),
        size=1,
        unit=1.0,
    ):
        self.duration = duration
        self.learning_rate = learning_rate
        self.dropout = dropout
        self.n_layers = n_layers
        self.n_filters = n_filters
        self.size = size
        self.unit = unit

    def fit(self, X, y=None):
        SimulatedBackend.last_duration = self.unit * self.duration
        return self

    def score(self, X, y=None):
        rate = (np.log10(self.learning_rate) + 1.5) ** 2
        return -rate - abs(self.n_layers - 3) - (self.dropout - 0.3) ** 2


class SimulatedBackend(ParallelBackendBase):
    """Workers of a virtual clock, which is that of the process of the search, too."""

    # What the evaluation that ran last says of itself.
    last_duration = 0.0

    # Of the last call, in seconds: the clock, and when each evaluation began and ended.
    now = 0.0
    times: ClassVar[list] = []

    # What real workers would take of a processor for the evaluations, in seconds.
    worker_seconds = 0.0

    def effective_n_jobs(self, n_jobs):
        return n_jobs

    def configure(self, n_jobs=1, parallel=None, **kwargs):
        if n_jobs == 1:
            # A forest, for instance, that proposes candidates.
            raise FallbackToBackend(SequentialBackend(self.nesting_level))
        cls = type(self)
        cls.now, cls.times, cls.worker_seconds = 0.0, [], 0.0
        self.parallel = parallel
        self.n_jobs = n_jobs
        self._order = count()
        self._waiting = deque()
        self._running = []
        self._real = time.perf_counter()
        return n_jobs

    def submit(self, func, callback=None):
        job = {"is_done": False}
        task = cloudpickle.dumps(func), job, callback
        self._spend()
        if len(self._running) < self.n_jobs:
            self._begin(task)
        else:
            self._waiting.append(task)
        return job

    def retrieve_result(self, job, timeout=None):
        cls = type(self)
        while not job["is_done"]:
            (end, _), result, done, callback = heapq.heappop(self._running)
            self._spend()
            # It has been there for a while if the process of the search was busy.
            cls.now = max(cls.now, end)
            if self._waiting:
                self._begin(self._waiting.popleft())
            done.update(result=pickle.loads(result), is_done=True)
            callback(done)
        return job["result"]

    def _begin(self, task):
        """Have a worker begin with a task that was pickled."""
        cls = type(self)
        task, job, callback = task
        result = self._work(task)
        event = cls.now + cls.last_duration, next(self._order)
        cls.times.append((cls.now, event[0]))
        heapq.heappush(self._running, (event, result, job, callback))
        # What the worker takes is no time of the process of the search.
        self._real = time.perf_counter()

    def _spend(self):
        """Let what the search has taken since pass on the virtual clock."""
        real = time.perf_counter()
        type(self).now += real - self._real
        self._real = real

    def _work(self, task):
        """Run a task as if in another process, where no search listens to scores."""
        listeners = dict(_tickets._listeners)
        _tickets._listeners.clear()
        start = time.process_time()
        try:
            return pickle.dumps(pickle.loads(task)())
        finally:
            type(self).worker_seconds += time.process_time() - start
            _tickets._listeners.update(listeners)


register_parallel_backend("simulated", SimulatedBackend)


def run(search, n_workers, n_iter, unit, search_params=None):
    """What a search of one stage takes: a dict of numbers."""
    staged = IISSearchCV(
        Simulated(unit=unit),
        SPACE,
        search=search,
        search_params=search_params,
        n_iter=n_iter,
        cv=[(np.arange(5), np.arange(5, 10))],
        n_jobs=n_workers,
        refit=False,
        random_state=0,
    )
    start = time.process_time()
    with parallel_config("simulated"):
        staged.fit(np.zeros((10, 1)))
    seconds = time.process_time() - start - SimulatedBackend.worker_seconds
    return {
        "ms_a_candidate": 1000 * seconds / n_iter,
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "busy": measure_busy(np.array(SimulatedBackend.times), n_workers),
        "best": staged.cv_results_["mean_test_score"].max(),
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--search", default="random")
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--candidates", nargs="+", type=int, default=[3000, 10_000])
    parser.add_argument("--shortest", type=float, default=30.0, help="seconds")
    arguments = parser.parse_args()
    print(f"{datetime.date.today()}, {platform.machine()}, {os.cpu_count()} cores")
    print("| search | candidates | own time, ms each | memory [MB] | busy [%] |")
    print("| --- | --- | --- | --- | --- |")
    for n_iter in arguments.candidates:
        row = run(arguments.search, arguments.workers, n_iter, arguments.shortest)
        print(
            f"| {arguments.search} | {n_iter} | {row['ms_a_candidate']:.1f} "
            f"| {row['memory_mb']:.0f} | {100 * row['busy']:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    # Pickled by its name: what is pickled by value sets its class back each time.
    from benchmarks.simulation import main

    main()
