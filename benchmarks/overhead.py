"""Time what a search adds to the evaluations: with an estimator that does nothing.

python benchmarks/overhead.py --candidates 1000 --searches random genetic
python benchmarks/overhead.py --candidates 750 --searches bayes

What a storage adds to random search, of one split: a search without, and one with each
storage, take turns, and the difference of each turn counts. Evaluations that take no
time write as often as can be, and have to wait for each other. A storage is "sqlite" or
"journal", a file in a temporary folder, or the url of a database, which is added to:

python benchmarks/overhead.py --storage sqlite journal --candidates 300 --n-jobs 1 2

What it takes to read all of a finished search instead of evaluating it again, in worker
processes that are started for it:

python benchmarks/overhead.py --storage sqlite journal --replay 1500 --n-jobs 1 2
"""

import argparse
import datetime
import math
import os
import platform
import time
import uuid
from pathlib import Path
from tempfile import TemporaryDirectory

import loky
import numpy as np
from scipy.stats import loguniform, randint
from sklearn.base import BaseEstimator

from sklearn_iis import IISSearchCV, PerLayer

SPACE = {
    "learning_rate": loguniform(1e-4, 1),
    "batch_size": [16, 32, 64, 128],
    "n_layers": randint(1, 6),
    "n_filters": PerLayer(randint(8, 129), depth="n_layers"),
    "l1": loguniform(1e-7, 1e-2),
    "l2": loguniform(1e-7, 1e-2),
}


class Idle(BaseEstimator):
    """It learns nothing, and scores by a formula."""

    def __init__(
        self, learning_rate=0.1, batch_size=16, n_layers=1, n_filters=(8,), l1=0, l2=0
    ):
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.n_layers = n_layers
        self.n_filters = n_filters
        self.l1 = l1
        self.l2 = l2

    def fit(self, X, y=None):
        return self

    def score(self, X, y=None):
        return -((math.log10(self.learning_rate) + 1.5) ** 2) - abs(self.n_layers - 3)


def time_search(n_candidates, search="random", **settings):
    """Seconds that a search takes."""
    search = IISSearchCV(
        Idle(),
        SPACE,
        search=search,
        n_iter=n_candidates,
        cv=[(np.arange(5), np.arange(5, 10))],
        refit=False,
        random_state=0,
        **settings,
    )
    start = time.perf_counter()
    search.fit(np.zeros((10, 1)))
    return time.perf_counter() - start


def locate(storage, folder):
    """The settings for a new study in a storage."""
    name = uuid.uuid4().hex
    if storage == "sqlite":
        storage = f"sqlite:///{Path(folder, name)}.db"
    elif storage == "journal":
        storage = str(Path(folder, f"{name}.journal"))
    return {"storage": storage, "study_name": name}


def time_storages(storages, n_candidates, n_jobs, n_repeats):
    """Milliseconds a candidate: without a storage, and what each adds, by turn."""
    each = {storage: [] for storage in (None, *storages)}
    with TemporaryDirectory() as folder:
        for repeat in range(n_repeats + 1):
            for storage, times in each.items():
                where = {} if storage is None else locate(storage, folder)
                seconds = time_search(n_candidates, n_jobs=n_jobs, **where)
                if repeat > 0:  # the first one starts workers, and imports
                    times.append(1000 * seconds / n_candidates)
    return {
        storage: np.array(times) - (0 if storage is None else each[None])
        for storage, times in each.items()
    }


def time_replay(storage, n_candidates, n_jobs):
    """Seconds of a search and of the same again, of which everything is known."""
    with TemporaryDirectory() as folder:
        where = locate(storage, folder)
        first = time_search(n_candidates, n_jobs=max(n_jobs, 2), **where)
        loky.get_reusable_executor().shutdown(wait=True)
        return first, time_search(n_candidates, n_jobs=n_jobs, **where)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--candidates", type=int, default=1000)
    parser.add_argument("--searches", nargs="+", default=["random", "genetic"])
    parser.add_argument("--n-jobs", nargs="+", type=int, default=[1])
    parser.add_argument("--storage", nargs="+", default=[])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--replay", type=int, metavar="CANDIDATES")
    args = parser.parse_args()
    print(
        f"{datetime.date.today()}, {platform.machine()}, {os.cpu_count()} cores, "
        f"load average {os.getloadavg()[0]:.1f}, one split"
    )
    for n_jobs in args.n_jobs:
        if args.replay is not None:
            n = args.replay
            for storage in args.storage:
                first, again = time_replay(storage, n, n_jobs)
                name = storage.partition(":")[0]
                print(
                    f"n_jobs={n_jobs} {name:>8} {n} candidates: {again:.1f} s again, "
                    f"{first:.1f} s at first",
                    flush=True,
                )
        elif args.storage:
            n = args.candidates
            added = time_storages(args.storage, n, n_jobs, args.repeats)
            for storage, times in added.items():
                name = "without" if storage is None else storage.partition(":")[0]
                print(
                    f"n_jobs={n_jobs} {name:>8} {np.median(times):8.1f} ms a candidate "
                    f"({times.min():.1f} to {times.max():.1f} in {len(times)} turns)",
                    flush=True,
                )
        else:
            for name in args.searches:
                seconds = time_search(args.candidates, name, n_jobs=n_jobs)
                each = 1000 * seconds / args.candidates
                print(
                    f"n_jobs={n_jobs} {name:>8} {seconds:8.1f} s {each:8.1f} ms a "
                    "candidate",
                    flush=True,
                )


if __name__ == "__main__":
    main()
