"""How busy a search keeps its workers, with evaluations that sleep.

python benchmarks/workers.py --workers 2 8 64 --searches random tpe bayes genetic

The time of an evaluation is a hyperparameter, log-uniform from `--shortest` seconds to
ten times that. What counts is the time until the last evaluation begins: the part of
it, in percent, that the workers spend in evaluations. Worker processes are started
before.
With `--synchronous` the searches propose as many candidates at a time as there are
workers, and wait for all of them.
"""

import argparse
import datetime
import os
import platform
import time
import uuid
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from joblib import parallel_config
from scipy.stats import loguniform, uniform
from sklearn.base import BaseEstimator

from sklearn_iis import IISSearchCV

SPREAD = 10

SPACE = {
    "duration": loguniform(1, SPREAD),
    **{name: uniform() for name in ("a", "b", "c", "d")},
}


class Sleeper(BaseEstimator):
    """It sleeps, notes from when to when, and scores by a formula."""

    def __init__(self, duration=1.0, a=0.0, b=0.0, c=0.0, d=0.0, unit=1.0, log=None):
        self.duration = duration
        self.a = a
        self.b = b
        self.c = c
        self.d = d
        self.unit = unit
        self.log = log

    def fit(self, X, y=None):
        begin = time.time()
        time.sleep(self.duration * self.unit)
        with open(self.log, "a") as log:
            log.write(f"{begin} {time.time()}\n")
        return self

    def score(self, X, y=None):
        return -sum((x - 0.3) ** 2 for x in (self.a, self.b, self.c, self.d))


def measure_busy(times, n_workers):
    """The busy part of the time of all workers until the last evaluation begins.

    Parameters
    ----------
    times : ndarray of shape (n_evaluations, 2)
        When each began and ended, in seconds.

    n_workers : int
        How many workers there are.

    Returns
    -------
    busy : float
        From 0 to 1.
    """
    begin, end = times.T
    span = begin.max() - begin.min()
    return (np.minimum(end, begin.max()) - begin).sum() / (n_workers * span)


def choose_settings(search, n_workers, synchronous):
    """The `search_params` of a search."""
    if not synchronous or search == "random":
        return None
    if search == "genetic":
        return {"synchronous": True}
    return {"n_points": n_workers}


def run(search, n_workers, n_iter, unit, *, synchronous=False, backend="loky", seed=0):
    """The busy part of the workers' time, and how many seconds the search took."""
    with TemporaryDirectory() as folder, parallel_config(backend):
        start_workers(n_workers, folder)
        log = Path(folder, "log")
        staged = make_search(
            Sleeper(unit=unit, log=str(log)),
            n_workers,
            search=search,
            search_params=choose_settings(search, n_workers, synchronous),
            n_iter=n_iter,
            random_state=seed,
        )
        start = time.perf_counter()
        staged.fit(np.zeros((10, 1)))
        seconds = time.perf_counter() - start
        return measure_busy(np.loadtxt(log), n_workers), seconds


def make_search(estimator, n_workers, **settings):
    return IISSearchCV(
        estimator,
        SPACE,
        cv=[(np.arange(5), np.arange(5, 10))],
        n_jobs=n_workers,
        refit=False,
        **settings,
    )


def start_workers(n_workers, folder):
    """Wait until each worker has begun with a task, for which it imports all it needs.

    A worker that is first waits for the others, so that each gets one task.
    """
    waiter = Waiter(unit=0.0, log=os.devnull, folder=folder, n_workers=n_workers)
    make_search(waiter, n_workers, n_iter=n_workers).fit(np.zeros((10, 1)))


class Waiter(Sleeper):
    """It waits until as many fits have begun as there are workers."""

    def __init__(
        self,
        duration=1.0,
        a=0.0,
        b=0.0,
        c=0.0,
        d=0.0,
        unit=1.0,
        log=None,
        folder=None,
        n_workers=1,
    ):
        super().__init__(duration, a, b, c, d, unit, log)
        self.folder = folder
        self.n_workers = n_workers

    def fit(self, X, y=None):
        Path(self.folder, f"started-{uuid.uuid4().hex}").touch()
        while len(list(Path(self.folder).glob("started-*"))) < self.n_workers:
            time.sleep(0.1)
        return super().fit(X, y)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--searches", nargs="+", default=["random", "tpe", "bayes", "genetic"]
    )
    parser.add_argument("--workers", nargs="+", type=int, default=[2, 8, 64])
    parser.add_argument(
        "--rounds", type=int, default=6, help="candidates for each worker"
    )
    parser.add_argument("--shortest", type=float, default=2.0, help="seconds")
    parser.add_argument("--backend", default="loky")
    parser.add_argument("--synchronous", action="store_true")
    arguments = parser.parse_args()
    print(f"{datetime.date.today()}, {platform.machine()}, {os.cpu_count()} cores")
    print("| search | workers | candidates | busy [%] | seconds |")
    print("| --- | --- | --- | --- | --- |")
    for n_workers in arguments.workers:
        for search in arguments.searches:
            n_iter = arguments.rounds * n_workers
            busy, seconds = run(
                search,
                n_workers,
                n_iter,
                arguments.shortest,
                synchronous=arguments.synchronous,
                backend=arguments.backend,
            )
            print(
                f"| {search} | {n_workers} | {n_iter} | {100 * busy:.0f} "
                f"| {seconds:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
