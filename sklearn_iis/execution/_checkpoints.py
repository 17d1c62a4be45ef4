"""Checkpoints: fitted estimators kept for a while, for later fits to go on from."""

import os
import pickle
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from tempfile import mkstemp
from typing import Any

import cloudpickle
import numpy as np

from sklearn_iis._sklearn_compat import without_callbacks
from sklearn_iis.execution._record import Task
from sklearn_iis.space import Candidate


@dataclass(frozen=True)
class Checkpoints:
    """Fitted estimators in a directory of the stage, one per candidate and split.

    They only save time: a fit starts from the beginning if its checkpoint cannot be
    saved or loaded, or if its worker does not share the directory.

    Parameters
    ----------
    directory : str
        The directory.
    """

    directory: str

    def find(self, estimator: Any, task: Task) -> "Checkpoint | None":
        """Return the checkpoint of an evaluation."""
        if len(task.params) != 1:
            return None
        (resource,) = task.params
        with suppress(Exception):  # estimators may raise anything
            warm_start = find_warm_start(estimator, resource)
            if warm_start is not None:
                path = self._folder(task.codes) / f"{task.split}.pickle"
                return Checkpoint(path, resource, warm_start)
        return None

    def discard(self, codes: Candidate) -> None:
        """Remove the checkpoints of a candidate on all splits."""
        rmtree(self._folder(codes), ignore_errors=True)

    def _folder(self, codes: Candidate) -> Path:
        """Return the folder of the checkpoints of a candidate."""
        return Path(self.directory, Task(codes, {}, 0).key.rpartition("-")[0])


@dataclass(frozen=True)
class Checkpoint:
    """The place of the fitted estimator of a candidate on a split."""

    path: Path
    resource: str
    warm_start: str

    def resume(self, estimator: Any) -> Any:
        """Return the estimator to fit: one that goes on, if there is any."""
        amount = estimator.get_params()[self.resource]
        with suppress(Exception):  # whatever loading it may raise
            with open(self.path, "rb") as file:
                begun = pickle.load(file)
            if begun.get_params()[self.resource] < amount:
                return begun.set_params(**{self.resource: amount})
        return estimator.set_params(**{self.warm_start: True})

    def save(self, estimator: Any) -> None:
        """Save a fitted estimator in place of the one that was saved before."""
        with suppress(Exception):  # whatever pickling it may raise
            self.path.parent.mkdir(exist_ok=True)
            descriptor, unfinished = mkstemp(dir=self.path.parent)
            try:
                with open(descriptor, "wb") as file, without_callbacks(estimator):
                    # By value what a worker could not import: classes of a script.
                    cloudpickle.dump(estimator, file)
                # Under its name once it is complete, whenever the worker is killed.
                os.replace(unfinished, self.path)
            finally:
                Path(unfinished).unlink(missing_ok=True)


def find_warm_start(estimator: Any, resource: str) -> str | None:
    """Return the parameter by which a fit goes on with that of a smaller resource."""
    owner, separator, name = resource.rpartition("__")
    step = estimator.get_params()[owner] if owner else estimator
    params = step.get_params(deep=False)
    known = name in getattr(step, "warm_start_parameters", ())
    if name == "n_estimators":
        # What ensembles refuse or warn of, or what starts anew with each call.
        known = not (
            params.get("oob_score")
            or isinstance(params.get("class_weight"), str)
            or params.get("n_iter_no_change") is not None
            or isinstance(params.get("random_state"), np.random.RandomState)
        )
    return f"{owner}{separator}warm_start" if known and "warm_start" in params else None
