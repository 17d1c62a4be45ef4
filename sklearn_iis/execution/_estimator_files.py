"""Fitted estimators as files, which workers write and others read."""

import os
import pickle
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from tempfile import mkstemp
from typing import Any

import cloudpickle

from sklearn_iis._sklearn_compat import without_callbacks
from sklearn_iis.execution._record import Task


@dataclass(frozen=True)
class EstimatorFiles:
    """Fitted estimators in a directory, one per evaluation.

    They only save time: whoever misses one fits it again. One is missing if it cannot
    be pickled or loaded, or if its worker does not share the directory.

    Parameters
    ----------
    directory : str
        The directory. It is not made: on another machine nobody would remove it.
    """

    directory: str

    def save(self, task: Task, estimator: Any) -> None:
        """Save a fitted estimator in place of the one that was saved before."""
        path = self._path(task)
        with suppress(Exception):  # whatever pickling it may raise
            path.parent.mkdir(exist_ok=True)
            descriptor, unfinished = mkstemp(dir=path.parent)
            try:
                with open(descriptor, "wb") as file, without_callbacks(estimator):
                    # By value what a worker could not import: classes of a script.
                    cloudpickle.dump(estimator, file)
                # Under its name once it is complete, whenever the worker is killed.
                os.replace(unfinished, path)
            finally:
                Path(unfinished).unlink(missing_ok=True)

    def load(self, task: Task) -> Any:
        """Return the fitted estimator of an evaluation; None if it is missing."""
        # Whatever loading it may raise.
        with suppress(Exception), open(self._path(task), "rb") as file:
            return pickle.load(file)
        return None

    def discard(self, task: Task) -> None:
        """Remove what was saved of the candidate of an evaluation, on all splits."""
        rmtree(self._path(task).parent, ignore_errors=True)

    def _path(self, task: Task) -> Path:
        candidate, _, split = task.key.rpartition("-")
        return Path(self.directory, candidate, f"{split}.pickle")
