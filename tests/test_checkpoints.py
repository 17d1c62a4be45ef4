"""What is kept of fits, and which fits go on."""

import threading

import pytest
from sklearn.ensemble import BaggingClassifier, GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.pipeline import Pipeline

from sklearn_iis import CNNClassifier
from sklearn_iis._checkpoints import Checkpoints, find_warm_start

CODES = {"rate": 0.25, "degree": 3}


def test_what_was_saved_is_loaded(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.load(CODES, "data") is None
    checkpoints.save(CODES, "data", "first")
    checkpoints.save(CODES, "data", "second")
    checkpoints.save(CODES, "other", "third")
    checkpoints.save({"rate": 0.5}, "data", "fourth")
    assert checkpoints.load(CODES, "data") == "second"
    assert checkpoints.load(CODES, "other") == "third"
    assert len(list(tmp_path.iterdir())) == 3
    checkpoints.discard(CODES)
    assert checkpoints.load(CODES, "data") is None
    assert checkpoints.load({"rate": 0.5}, "data") == "fourth"


def test_what_cannot_be_saved_is_not(tmp_path):
    """Nothing is left half written; what was there before stays."""
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(CODES, "data", "first")
    checkpoints.save(CODES, "data", threading.Lock())
    checkpoints.save(CODES, "data", lambda: None)
    assert checkpoints.load(CODES, "data") == "first"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_directory_that_is_not_there_holds_nothing(tmp_path):
    checkpoints = Checkpoints(tmp_path / "gone")
    checkpoints.save(CODES, "data", "first")
    assert checkpoints.load(CODES, "data") is None
    checkpoints.discard(CODES)


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
