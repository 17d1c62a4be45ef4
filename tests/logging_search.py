"""Searches whose fits are logged, and that fail in many ways; disks that are full."""

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest
from sklearn.model_selection._search import BaseSearchCV

from sklearn_iis import IISSearchCV
from sklearn_iis.testing import SPACE, FormulaClassifier

# Of two hyperparameters, as small budgets allow no grid over more.
PLAIN = {"rate": SPACE["rate"], "degree": SPACE["degree"]}

CODES = {
    "rate": 0.5,
    "degree": 2,
    "kind": 1,
    "n_layers": 1,
    "widths[0]": 3,
    "widths[1]": 3,
}


class FixedSearch(BaseSearchCV):
    """A search of scikit-learn's kind, whose candidates are given; a list is a batch.

    `evaluations` are what it was told, batch by batch.
    """

    def __init__(
        self,
        estimator,
        candidates,
        *,
        scoring=None,
        cv=2,
        refit=False,
        n_jobs=None,
        error_score=float("nan"),
        return_train_score=False,
    ):
        super().__init__(
            estimator,
            scoring=scoring,
            cv=cv,
            refit=refit,
            n_jobs=n_jobs,
            error_score=error_score,
            return_train_score=return_train_score,
        )
        self.candidates = candidates

    def _run_search(self, evaluate_candidates):
        self.evaluations_ = []
        for candidate in self.candidates:
            batch = candidate if isinstance(candidate, list) else [candidate]
            self.evaluations_.append(evaluate_candidates(batch))


def make_fixed(estimator, space, *, n_iter, random_state, cv, scoring, **settings):
    """Draw the candidates beforehand, and evaluate one after the other."""
    candidates = space.sample(n_iter, random_state=random_state)
    return FixedSearch(estimator, candidates, scoring=scoring, cv=cv)


class Logging(FormulaClassifier):
    """Takes a while, and writes a line for each fit that has begun.

    `deadly` rates kill the process that fits them, unless it is that of the test;
    with a file `killed`, only the first time.
    """

    def __init__(
        self,
        rate=0.01,
        degree=3,
        kind="b",
        n_layers=2,
        widths=(5, 5),
        size=1,
        max_epochs=27,
        fails_below=0.0,
        log=None,
        seconds=0.0,
        seconds_per_size=0.0,
        deadly=0.0,
        killed=None,
        interrupt_at=None,
    ):
        super().__init__(
            rate, degree, kind, n_layers, widths, size, max_epochs, fails_below
        )
        self.log = log
        self.seconds = seconds
        self.seconds_per_size = seconds_per_size
        self.deadly = deadly
        self.killed = killed
        self.interrupt_at = interrupt_at

    def fit(self, X, y):
        with open(self.log, "a") as log:
            log.write(f"{self.rate} {X[0, 0]} {time.monotonic()}\n")
        is_first = self.killed is not None and not Path(self.killed).exists()
        if self.rate < self.deadly and (self.killed is None or is_first):
            if is_first:
                Path(self.killed).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if len(read_log(self.log)) == self.interrupt_at:
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(self.seconds + self.seconds_per_size * self.size)
        return super().fit(X, y)


def read_log(path):
    """Return the rate and the first sample of each fit, in their order."""
    lines = Path(path).read_text().splitlines()
    return [line.rpartition(" ")[0] for line in lines]


def read_times(path):
    """Return when each fit has begun, by the monotonic clock."""
    lines = Path(path).read_text().splitlines()
    return [float(line.rpartition(" ")[2]) for line in lines]


def make_search(tmp_path, space=PLAIN, **params):
    names = Logging().get_params().keys() & params.keys()
    settings = {name: params.pop(name) for name in names}
    return IISSearchCV(
        Logging(log=str(tmp_path / "log"), **settings),
        space,
        **{"cv": 2, "random_state": 0, "n_iter": 8, "refit": False} | params,
    )


def scores(results):
    """Candidates and their scores on each split, for comparison."""
    return [
        (params, *row)
        for params, *row in zip(
            results["params"],
            results["split0_test_score"],
            results["split1_test_score"],
            strict=True,
        )
    ]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root can mount a file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(path):
    """Write to a file as much as there is room for."""
    with open(path, "wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(2**10))
