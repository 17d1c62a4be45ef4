"""Checkpoints: fitted estimators kept for a stage, for later fits to go on from."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from sklearn_iis.execution._estimator_files import EstimatorFiles
from sklearn_iis.execution._record import Task
from sklearn_iis.space import Candidate


@dataclass(frozen=True)
class Checkpoints:
    """Fitted estimators in a directory of the stage, one per candidate and split.

    A fit starts from the beginning if its checkpoint is missing.

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
                files = EstimatorFiles(self.directory)
                task = _without_resources(task.codes, task.split)
                return Checkpoint(files, task, resource, warm_start)
        return None

    def discard(self, codes: Candidate) -> None:
        """Remove the checkpoints of a candidate on all splits."""
        EstimatorFiles(self.directory).discard(_without_resources(codes))


@dataclass(frozen=True)
class Checkpoint:
    """The place of the fitted estimator of a candidate on a split."""

    files: EstimatorFiles
    task: Task
    resource: str
    warm_start: str

    def resume(self, estimator: Any) -> Any:
        """Return the estimator to fit: one that goes on, if there is any."""
        amount = estimator.get_params()[self.resource]
        begun = self.files.load(self.task)
        with suppress(Exception):  # whatever was loaded, if anything
            if begun.get_params()[self.resource] < amount:
                return begun.set_params(**{self.resource: amount})
        return estimator.set_params(**{self.warm_start: True})

    def save(self, estimator: Any) -> None:
        """Save a fitted estimator in place of the one that was saved before."""
        self.files.save(self.task, estimator)


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


def _without_resources(codes: Candidate, split: int = 0) -> Task:
    """Return what the evaluations of a candidate with any resources share."""
    return Task(codes, {}, split)
