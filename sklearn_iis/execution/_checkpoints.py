"""Fitted estimators kept for a while, for later fits to go on from."""

import os
import pickle
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import cloudpickle
import joblib
import numpy as np

from sklearn_iis.space import Candidate


class Checkpoints:
    """Fitted estimators in a directory, one for each candidate and its training data.

    They only save time. What cannot be kept, or is not found by a worker that does not
    share the directory, is fitted from the start.

    Parameters
    ----------
    directory : str
        Where they are kept.
    """

    def __init__(self, directory: str):
        self.directory = directory

    def find(
        self, estimator: Any, codes: Candidate, resource: str, data: Any
    ) -> "Checkpoint | None":
        """Return the checkpoint of a candidate on its training data.

        Parameters
        ----------
        estimator : estimator object
            What is to be fitted, with the parameters of the candidate.

        codes : dict of str to float or int
            The candidate.

        resource : str
            The parameter that grows from fit to fit.

        data : object
            All that the fit depends on besides.

        Returns
        -------
        checkpoint : Checkpoint or None
            None if fits cannot go on, or not all of `data` can be told apart.
        """
        warm_start = find_warm_start(estimator, resource)
        if warm_start is None:
            return None
        try:
            name = f"{joblib.hash(codes)}-{joblib.hash(data)}.pickle"
        except Exception:  # whatever pickling it may raise
            return None
        return Checkpoint(Path(self.directory, name), resource, warm_start)

    def discard(self, codes: Candidate) -> None:
        """Remove what was saved of a candidate."""
        for path in Path(self.directory).glob(f"{joblib.hash(codes)}-*"):
            path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Checkpoint:
    """Where the fitted estimator of a candidate on its training data is kept."""

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
        """Save a fitted estimator in place of what was saved before."""
        # By value what a worker could not import: classes of a script or a notebook.
        with suppress(Exception):  # whatever pickling it may raise
            with NamedTemporaryFile(dir=self.path.parent, delete=False) as file:
                try:
                    cloudpickle.dump(estimator, file)
                except BaseException:
                    os.unlink(file.name)
                    raise
            os.replace(file.name, self.path)


def find_warm_start(estimator: Any, resource: str) -> str | None:
    """Return the parameter by which a fit goes on with that of a smaller resource.

    Parameters
    ----------
    estimator : estimator object
        Perhaps a pipeline.

    resource : str
        The parameter that grows from fit to fit.

    Returns
    -------
    warm_start : str or None
        The name of the parameter `warm_start` of the step that the resource belongs to.
        None if there is none, or if going on is not known to give what fitting from
        the start gives. It is known of `n_estimators`, as scikit-learn's ensembles
        have it, and of what a step lists in its attribute `warm_start_parameters`.
    """
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
