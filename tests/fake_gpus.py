"""GPUs that are made up, and a classifier that tells when it is on which of them.

Workers import this module along with the classifier; then torch counts as many GPUs as
the environment variable `FAKE_GPUS` says.
"""

import os
import signal
import time
from pathlib import Path

import torch

from sklearn_iis.execution import _gpus
from sklearn_iis.testing import FormulaClassifier

FAKE_GPUS = "FAKE_GPUS"

_count = torch.cuda.device_count
_read_identities = _gpus._read_identities


def count_fakes():
    return int(os.environ[FAKE_GPUS]) if FAKE_GPUS in os.environ else _count()


torch.cuda.device_count = count_fakes
_gpus._read_identities = lambda: [] if FAKE_GPUS in os.environ else _read_identities()


class OnGpu(FormulaClassifier):
    """Logs where it is, and fails as it is told.

    Parameters
    ----------
    log : str
        A line for each fit that has begun or ended: what, device, rate, number of
        torch's threads.

    n_at_once : int
        Fits last until so many have begun.

    full_below : float
        With a rate below it, the GPU is full `n_full` times, and as often as there are
        fits with None.

    deadly_once : str
        A file; the first fit to make it kills its process.
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
        device="auto",
        log=None,
        n_at_once=0,
        full_below=0.0,
        n_full=1,
        deadly_once=None,
    ):
        super().__init__(
            rate, degree, kind, n_layers, widths, size, max_epochs, fails_below
        )
        self.device = device
        self.log = log
        self.n_at_once = n_at_once
        self.full_below = full_below
        self.n_full = n_full
        self.deadly_once = deadly_once

    def fit(self, X, y):
        name = f"{self.rate}/{X[0, 0]}"
        self._log("begin", name)
        try:
            self._wait()
            self._die_once()
            n_begun = sum(row[0] == "begin" and row[2] == name for row in self._rows())
            is_full = self.n_full is None or n_begun <= self.n_full
            if self.rate < self.full_below and is_full:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")
            return super().fit(X, y)
        finally:
            self._log("end", name)

    def _log(self, what, name):
        with open(self.log, "a") as log:
            log.write(f"{what} {self.device} {name} {torch.get_num_threads()}\n")

    def _rows(self):
        return read_log(self.log)

    def _wait(self):
        end = time.monotonic() + 60
        while sum(row[0] == "begin" for row in self._rows()) < self.n_at_once:
            assert time.monotonic() < end
            time.sleep(0.01)

    def _die_once(self):
        if self.deadly_once is not None:
            try:
                Path(self.deadly_once).touch(exist_ok=False)
            except FileExistsError:
                return
            os.kill(os.getpid(), signal.SIGKILL)


def read_log(path):
    """Return what, device, fit and number of threads of each line."""
    return [line.split() for line in Path(path).read_text().splitlines()]


def most_at_once(rows):
    """Return the most fits that were under way at once, on each device."""
    now, most = {}, {}
    for what, device, *_ in rows:
        now[device] = now.get(device, 0) + (1 if what == "begin" else -1)
        most[device] = max(most.get(device, 0), now[device])
    return most
