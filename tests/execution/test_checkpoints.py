"""What is kept of fits, and which fits go on."""

import threading

import numpy as np
import pytest
from sklearn.ensemble import (
    BaggingClassifier,
    GradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.pipeline import Pipeline

from sklearn_iis import CNNClassifier
from sklearn_iis.execution._checkpoints import Checkpoints, find_warm_start

CODES = {"rate": 0.25, "degree": 3}


def grown(n_estimators, **params):
    """Return an estimator that is not fitted, but told apart by its parameters."""
    params = {"random_state": 0} | params
    return GradientBoostingClassifier(n_estimators=n_estimators, **params)


def find(directory, codes=CODES, data="data"):
    return Checkpoints(directory).find(grown(1), codes, "n_estimators", data)


def resumed(checkpoint, n_estimators):
    """Return how much the estimator to be fitted had when it was saved, if at all."""
    estimator = checkpoint.resume(grown(n_estimators))
    assert estimator.n_estimators == n_estimators
    assert estimator.warm_start
    return getattr(estimator, "saved_", None)


def save(checkpoint, n_estimators):
    estimator = grown(n_estimators, warm_start=True)
    estimator.saved_ = n_estimators
    checkpoint.save(estimator)


def test_what_was_saved_goes_on(tmp_path):
    checkpoint = find(tmp_path)
    assert resumed(checkpoint, 9) is None
    save(checkpoint, 1)
    save(checkpoint, 3)
    save(find(tmp_path, data="other"), 4)
    save(find(tmp_path, codes={"rate": 0.5}), 5)
    assert resumed(find(tmp_path), 9) == 3
    assert resumed(find(tmp_path, data="other"), 9) == 4
    assert len(list(tmp_path.iterdir())) == 3
    Checkpoints(tmp_path).discard(CODES)
    assert resumed(checkpoint, 9) is None
    assert resumed(find(tmp_path, codes={"rate": 0.5}), 9) == 5


@pytest.mark.parametrize("n_estimators", [2, 3])
def test_a_fit_does_not_go_back(tmp_path, n_estimators):
    save(find(tmp_path), 3)
    assert resumed(find(tmp_path), n_estimators) is None


class Stubborn:
    def __getstate__(self):
        raise RuntimeError("no")


@pytest.mark.parametrize("what", [threading.Lock(), Stubborn()], ids=["lock", "own"])
def test_what_cannot_be_saved_is_not(tmp_path, what):
    """Nothing is left half written; what was there before stays."""
    checkpoint = find(tmp_path)
    save(checkpoint, 3)
    estimator = grown(4)
    estimator.saved_ = what
    checkpoint.save(estimator)
    assert resumed(checkpoint, 9) == 3
    assert len(list(tmp_path.iterdir())) == 1


def test_what_cannot_be_loaded_is_fitted_from_the_start(tmp_path):
    checkpoint = find(tmp_path)
    checkpoint.path.write_bytes(b"half a")
    assert resumed(checkpoint, 9) is None


def test_data_that_cannot_be_told_apart_have_no_checkpoint(tmp_path):
    assert find(tmp_path, data=Stubborn()) is None


def test_a_directory_that_is_not_there_holds_nothing(tmp_path):
    checkpoint = find(tmp_path / "gone")
    save(checkpoint, 3)
    assert resumed(checkpoint, 9) is None
    Checkpoints(tmp_path / "gone").discard(CODES)


@pytest.mark.parametrize(
    ("estimator", "resource", "warm_start"),
    [
        (CNNClassifier(), "max_epochs", "warm_start"),
        (CNNClassifier(), "n_filters", None),
        (Pipeline([("cnn", CNNClassifier())]), "cnn__max_epochs", "cnn__warm_start"),
        (GradientBoostingClassifier(), "n_estimators", "warm_start"),
        (
            BaggingClassifier(GradientBoostingClassifier()),
            "estimator__n_estimators",
            "estimator__warm_start",
        ),
        # They stop by the last trees, start anew, refuse, or warn.
        (GradientBoostingClassifier(n_iter_no_change=2), "n_estimators", None),
        (
            RandomForestClassifier(random_state=np.random.RandomState(0)),
            "n_estimators",
            None,
        ),
        (BaggingClassifier(oob_score=True), "n_estimators", None),
        (RandomForestClassifier(class_weight="balanced"), "n_estimators", None),
        (RandomForestClassifier(class_weight={0: 2}), "n_estimators", "warm_start"),
        # These train `max_iter` more, or start from weights only.
        (SGDClassifier(), "max_iter", None),
        (LogisticRegression(), "max_iter", None),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "fit") else None,
)
def test_fits_go_on_where_this_is_training_straight_through(
    estimator, resource, warm_start
):
    assert find_warm_start(estimator, resource) == warm_start
