"""Time what a search adds to the evaluations: with an estimator that does nothing.

python benchmarks/overhead.py --candidates 1000 --searches random genetic
python benchmarks/overhead.py --candidates 750 --searches bayes
"""

import argparse
import datetime
import math
import os
import platform
import time

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


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--candidates", type=int, default=1000)
    parser.add_argument("--searches", nargs="+", default=["random", "genetic"])
    parser.add_argument("--n-jobs", type=int, default=1)
    args = parser.parse_args()
    print(
        f"{datetime.date.today()}, {platform.machine()}, {os.cpu_count()} cores, "
        f"{args.candidates} candidates, one split, n_jobs={args.n_jobs}"
    )
    X = np.zeros((10, 1))
    for name in args.searches:
        search = IISSearchCV(
            Idle(),
            SPACE,
            search=name,
            n_iter=args.candidates,
            cv=[(np.arange(5), np.arange(5, 10))],
            n_jobs=args.n_jobs,
            refit=False,
            random_state=0,
        )
        start = time.perf_counter()
        search.fit(X)
        seconds = time.perf_counter() - start
        each = 1000 * seconds / args.candidates
        print(f"{name:>8} {seconds:8.1f} s {each:8.1f} ms a candidate", flush=True)


if __name__ == "__main__":
    main()
