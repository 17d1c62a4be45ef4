"""The estimators that the best candidates' fits have left, to be averaged at last."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.base import is_classifier, is_regressor
from sklearn.ensemble import VotingClassifier, VotingRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.utils.multiclass import check_classification_targets

from sklearn_iis.execution._estimator_files import EstimatorFiles
from sklearn_iis.execution._record import Row, Task


@dataclass
class BestEstimators:
    """The fitted estimators of the best candidates, on disk until the search ends.

    Workers save those of all evaluations; those of candidates that can no longer be
    chosen are removed as soon as that is known.

    Parameters
    ----------
    directory : str
        For their files. Workers may not share it; then all are missing.

    n_candidates : int
        How many candidates are chosen.

    last_only : bool, default=False
        Whether they are chosen of the last stage that has a result.

    keeps_all : bool, default=False
        Whether nothing is known of which is the first of them.
    """

    directory: str
    n_candidates: int
    last_only: bool = False
    keeps_all: bool = False
    # All rows that are complete.
    _rows: list[Row] = field(init=False, default_factory=list)
    # Those whose files there are, by what these are called.
    _kept: dict[str, Row] = field(init=False, default_factory=dict)

    @property
    def files(self) -> EstimatorFiles:
        """The files, for workers."""
        return EstimatorFiles(self.directory)

    def add(self, row: Row) -> None:
        """Take note of a row; remove the files that are of no use any more."""
        self._rows.append(row)
        kept = dict(self._kept)
        if is_usable(row):
            # A search of others may evaluate a candidate twice.
            kept.setdefault(_name(row), row)
        if not self.keeps_all and kept:
            first = min(kept, key=lambda name: self._order(kept[name]))
            ordered = sorted(kept, key=lambda name: self._order_of_others(kept[name]))
            kept = {name: kept[name] for name in {first, *ordered[: self.n_candidates]}}
        for other in [*self._kept.values(), row]:
            if _name(other) not in kept:
                self.files.discard(other.tasks[0])
        self._kept = kept

    def drop(self, rows: Sequence[Row]) -> None:
        """Forget rows that do not count, and remove what was kept of them."""
        self._rows = [row for row in self._rows if row not in rows]
        for row in rows:
            if self._kept.get(_name(row)) is row:
                del self._kept[_name(row)]
                self.files.discard(row.tasks[0])

    def choose(self, first: int) -> list[int]:
        """Return the rows of `cv_results_` that are averaged, the best one first.

        Parameters
        ----------
        first : int
            The row of the best candidate.

        Raises
        ------
        ValueError
            If that failed, or was pruned.
        """
        rows = self._in_order()
        if not is_usable(rows[first]):
            raise ValueError(
                f"the best candidate, in row {first} of cv_results_, failed or was "
                "pruned: there is nothing to be averaged"
            )
        stages = {rows[-1].stage} if self.last_only else {row.stage for row in rows}
        usable = [i for i, r in enumerate(rows) if r.stage in stages and is_usable(r)]
        most = max(_resources(rows[i]) for i in usable)
        chosen = {_candidate(rows[first]): first}
        for i in sorted(usable, key=lambda i: self._order(rows[i])):
            if _resources(rows[i]) == most and len(chosen) < self.n_candidates:
                chosen.setdefault(_candidate(rows[i]), i)
        return list(chosen.values())

    def load(self, index: int, split: int) -> Any:
        """Return the estimator of a row of `cv_results_`; None if it is missing."""
        return self.files.load(self._in_order()[index].tasks[split])

    def _in_order(self) -> list[Row]:
        """Return the rows as they are in `cv_results_`."""
        return sorted(self._rows, key=lambda row: (row.stage, row.number))

    def _order(self, row: Row) -> tuple:
        """Return what sorts rows, the best one first."""
        # As the mean in cv_results_ is computed, so that ties are the same.
        score = np.mean([record.guide for record in row.in_order])
        return (-row.stage if self.last_only else 0, -score, row.stage, row.number)

    def _order_of_others(self, row: Row) -> tuple:
        """Return what sorts those that are averaged besides the best one."""
        stage, *rest = self._order(row)
        return (stage, -_resources(row), *rest)


def check_averaging(estimator: Any, y: Any, splits: Sequence[tuple]) -> None:
    """Raise an error if fitted estimators cannot be averaged.

    Parameters
    ----------
    estimator : estimator object
        What is to be fitted.

    y : array-like
        Targets.

    splits : sequence of tuple
        The training and test samples of each split.

    Raises
    ------
    TypeError
        If it neither classifies nor regresses, or gives no probabilities.

    ValueError
        If there are several targets, the classes are numbers with fractions, or there
        is a split whose training samples lack a class.
    """
    name = type(estimator).__name__
    if not (is_classifier(estimator) or is_regressor(estimator)):
        raise TypeError(
            f"n_averaged averages predictions of classifiers or regressors, and {name} "
            "is neither"
        )
    if np.ndim(y) != 1:
        raise ValueError(
            f"n_averaged needs one target, y of shape (n_samples,), got {np.shape(y)}"
        )
    if not is_classifier(estimator):
        return
    if not hasattr(estimator, "predict_proba"):
        raise TypeError(
            f"n_averaged averages probabilities, and {name} has no predict_proba"
        )
    check_classification_targets(y)
    labels = np.asarray(y)
    classes = np.unique(labels)
    for split, (train, _) in enumerate(splits):
        if len(missing := np.setdiff1d(classes, labels[train])):
            raise ValueError(
                "n_averaged needs all classes among the training samples of each "
                f"split, and split {split} has none of {missing.tolist()}: use a cv "
                "that is stratified"
            )


def average(
    estimators: list[tuple[str, Any]], y: Any
) -> VotingClassifier | VotingRegressor:
    """Return the average of fitted estimators, each with its name.

    Raises
    ------
    ValueError
        If they are classifiers that do not agree on the classes, or some of them give
        no probabilities.
    """
    frozen = [(name, FrozenEstimator(estimator)) for name, estimator in estimators]
    # Not of a backend of joblib's: nothing is fitted.
    if not is_classifier(estimators[0][1]):
        return VotingRegressor(frozen, n_jobs=1).fit(None, y)
    voting = VotingClassifier(frozen, voting="soft", n_jobs=1).fit(None, y)
    for name, estimator in estimators:
        if not hasattr(estimator, "predict_proba"):
            raise ValueError(f"{name} cannot be averaged: it has no predict_proba")
        if not np.array_equal(estimator.classes_, voting.classes_):
            raise ValueError(
                f"{name} cannot be averaged: its classes are {estimator.classes_}, and "
                f"those of y {voting.classes_}"
            )
    return voting


def is_usable(row: Row) -> bool:
    """Return whether a candidate neither failed nor was pruned."""
    return row.error is None and not row.pruned


def _resources(row: Row) -> float:
    """Return how much a candidate was trained, in a search that varies this."""
    return row.columns.get("n_resources", 0)


def _name(row: Row) -> str:
    """Return what the files of a row are called."""
    return row.tasks[0].key


def _candidate(row: Row) -> str:
    """Return what tells candidates apart, whatever their resources are."""
    params = {} if "n_resources" in row.columns else row.params
    return Task(row.codes, params, 0, row.stage).key
