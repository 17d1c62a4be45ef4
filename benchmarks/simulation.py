"""A search with a thousand workers, simulated: what it takes itself, where it stops.

python -m benchmarks.simulation --search random --workers 1000 --candidates 100000

The workers have a simulated clock: an evaluation lasts as long as the hyperparameter
`duration` says, though it takes no time; its task is pickled when it is sent to a
worker, and its record unpickled when it would be done. All else is real: the search,
its proposals, its scheduler. For what these take of real time the process of the search
is busy on the simulated clock too, so that records have to wait for it.
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
from concurrent.futures import Future
from itertools import count
from unittest.mock import patch

import cloudpickle
import numpy as np
from scipy.stats import loguniform, randint, uniform
from sklearn.base import BaseEstimator

from benchmarks.workers import measure_busy
from sklearn_iis import IISSearchCV, PerLayer, _plan
from sklearn_iis.execution import _executors
from sklearn_iis.execution._scheduler import Scheduler

SPREAD = 10

SPACE = {
    "duration": loguniform(1, SPREAD),
    "learning_rate": loguniform(1e-4, 1),
    "dropout": uniform(),
    "n_layers": randint(1, 6),
    "n_filters": PerLayer(randint(8, 129), depth="n_layers"),
}


class Simulated(BaseEstimator):
    """It learns nothing, and scores by a formula."""

    def __init__(
        self,
        duration=1.0,
        learning_rate=0.1,
        dropout=0.0,
        n_layers=1,
        n_filters=(8,),
    ):
        self.duration = duration
        self.learning_rate = learning_rate
        self.dropout = dropout
        self.n_layers = n_layers
        self.n_filters = n_filters

    def fit(self, X, y=None):
        return self

    def score(self, X, y=None):
        rate = (np.log10(self.learning_rate) + 1.5) ** 2
        return -rate - abs(self.n_layers - 3) - (self.dropout - 0.3) ** 2


class SimulatedPool:
    """Workers of a simulated clock, which is that of the process of the search, too.

    Parameters
    ----------
    n_workers : int
        How many.

    unit : float
        Seconds of an evaluation whose `duration` is 1.
    """

    def __init__(self, n_workers, unit):
        self.n_workers = n_workers
        self.unit = unit
        self.now = 0.0  # the clock, in seconds
        self.times = []  # when each evaluation began and ended
        self.worker_seconds = 0.0  # of a processor, for the evaluations
        self._order = count()
        self._waiting = deque()
        self._running = []
        self._real = time.perf_counter()

    def submit(self, function, *arguments):
        """Send a task to a worker that is free, or have it wait for one."""
        future = Future()
        call = cloudpickle.dumps((function, arguments))
        self.spend()
        if len(self._running) < self.n_workers:
            self._begin(call, future)
        else:
            self._waiting.append((call, future))
        return future

    def end_next(self):
        """End the evaluation that is the first to be done."""
        self.spend()
        end, _, future, record = heapq.heappop(self._running)
        # It has been there for a while if the process of the search was busy.
        self.now = max(self.now, end)
        if self._waiting:
            self._begin(*self._waiting.popleft())
        future.set_result(pickle.loads(record))

    def spend(self):
        """Let what the search has taken since pass on the simulated clock."""
        real = time.perf_counter()
        self.now += real - self._real
        self._real = real

    def _begin(self, call, future):
        start = time.process_time()
        function, (deadline, load, task, *further) = pickle.loads(call)
        end = self.now + self.unit * load().decode(task)["duration"]
        record = pickle.dumps(function(deadline, load, task, *further))
        self.worker_seconds += time.process_time() - start
        self.times.append((self.now, end))
        heapq.heappush(self._running, (end, next(self._order), future, record))
        # What the worker takes is no time of the process of the search.
        self._real = time.perf_counter()


class SimulatedExecutor(_executors.ProcessExecutor):
    """Runs evaluations in a simulated pool."""

    def __init__(self, pool):
        self.pool = pool
        super().__init__(pool.n_workers, None)

    def _start(self):
        return self.pool

    def close(self, *, kill=False):
        """Do nothing."""


class SimulatedScheduler(Scheduler):
    """Lets the simulated clock go on whenever there is nothing to do but wait."""

    def _collect(self):
        self.executor.pool.end_next()
        super()._collect()


def run(search, n_workers, n_iter, unit, search_params=None):
    """Measure a search of one stage; return a dict of numbers."""
    return simulate(search, SimulatedPool(n_workers, unit), n_iter, search_params)


def simulate(search, pool, n_iter, search_params=None):
    """Measure a search on a simulated pool; return a dict of numbers."""
    staged = IISSearchCV(
        Simulated(),
        SPACE,
        search=search,
        search_params=search_params,
        n_iter=n_iter,
        cv=[(np.arange(5), np.arange(5, 10))],
        n_jobs=pool.n_workers,
        refit=False,
        random_state=0,
    )
    start = time.process_time()
    with (
        patch.object(_executors, "make_executor", lambda _: SimulatedExecutor(pool)),
        patch.object(_plan, "Scheduler", SimulatedScheduler),
    ):
        staged.fit(np.zeros((10, 1)))
    seconds = time.process_time() - start - pool.worker_seconds
    return {
        "ms_a_candidate": 1000 * seconds / n_iter,
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "busy": measure_busy(np.array(pool.times), pool.n_workers),
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
