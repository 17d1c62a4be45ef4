"""Fitted estimators kept for a while, for later fits to go on from."""

import os
import pickle
from pathlib import Path
from typing import Any

import joblib

from sklearn_iis._space import Candidate


class Checkpoints:
    """Fitted estimators in a directory, one for each candidate and its training data.

    Parameters
    ----------
    directory : str
        Where they are kept. Workers that do not share it find nothing there, and fit
        from the start.
    """

    def __init__(self, directory: str):
        self.directory = directory

    def load(self, codes: Candidate, data: str) -> Any:
        """Return what was saved, or None.

        Parameters
        ----------
        codes : dict of str to float or int
            The candidate.

        data : str
            A hash of what it was fitted on.
        """
        try:
            return joblib.load(self._path(codes, data))
        except FileNotFoundError:
            return None

    def save(self, codes: Candidate, data: str, estimator: Any) -> None:
        """Save a fitted estimator in place of what was saved before.

        What cannot be pickled, or finds no room, is not saved.
        """
        path = self._path(codes, data)
        unfinished = path.with_suffix(f".{os.getpid()}")
        try:
            joblib.dump(estimator, unfinished)
            unfinished.replace(path)
        except (pickle.PicklingError, AttributeError, TypeError, OSError):
            unfinished.unlink(missing_ok=True)

    def discard(self, codes: Candidate) -> None:
        """Remove what was saved of a candidate."""
        for path in Path(self.directory).glob(f"{joblib.hash(codes)}-*"):
            path.unlink(missing_ok=True)

    def _path(self, codes, data):
        return Path(self.directory, f"{joblib.hash(codes)}-{data}.joblib")


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
    counts_all = name in ("n_estimators", *getattr(step, "warm_start_parameters", ()))
    if counts_all and "warm_start" in step.get_params(deep=False):
        return f"{owner}{separator}warm_start"
    return None
