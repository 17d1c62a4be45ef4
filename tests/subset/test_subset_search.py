"""Searches over the fraction of the training samples: stages, Hyperband, weights."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import loguniform
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import load_iris
from sklearn.model_selection import StratifiedKFold
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import Pipeline

from sklearn_iis import CNNClassifier, IISSearchCV, ImageResizer, SubsetEstimator
from sklearn_iis.datasets import make_shapes

IRIS = load_iris(return_X_y=True)
CV = StratifiedKFold(3, shuffle=True, random_state=0)
SPACE = {"estimator__var_smoothing": loguniform(1e-12, 1e-1)}


class Counting(ClassifierMixin, BaseEstimator):
    """Its scores are the numbers of samples that it was fitted to, and is asked for."""

    def __init__(self, a=0, max_epochs=1):
        self.a = a
        self.max_epochs = max_epochs

    def fit(self, X, y):
        self.classes_, self.counts_ = np.unique(y, return_counts=True)
        return self


def count(estimator, X, y):
    """Scores that tell what was fitted, and on how much it is scored."""
    inner = estimator.estimator_
    return {"fit": inner.counts_.sum(), "least": inner.counts_.min(), "test": len(X)}


def make_counting_search(**settings):
    return IISSearchCV(
        SubsetEstimator(Counting()),
        {"estimator__a": [1, 2, 3, 4, 5, 6, 7, 8, 9]},
        cv=CV,
        scoring=count,
        refit="fit",
        random_state=0,
        **settings,
    )


@pytest.mark.parametrize("how", ["sizes", "stage_params"])
def test_stages_train_on_fractions_and_validate_on_all(how):
    """100 of 150 samples train, in 3 classes: 33 or 34 of each."""
    fractions = [0.1, 0.5, 1.0]
    stages = {
        "sizes": {"size_param": "fraction", "sizes": fractions},
        "stage_params": {"stage_params": {"fraction": fractions}},
    }[how]
    search = make_counting_search(n_iter=(4, 2, 1), **stages).fit(*IRIS)
    results = search.cv_results_
    assert_array_equal(results["param_fraction"], [0.1] * 4 + [0.5] * 2 + [1.0])
    assert_allclose(results["mean_test_fit"], [12] * 4 + [51] * 2 + [100])
    assert_array_equal(results["mean_test_test"], [50] * 7)
    assert search.best_params_["fraction"] == 1.0
    assert search.best_estimator_.estimator_.counts_.tolist() == [50, 50, 50]


def test_the_last_fit_is_on_the_fraction_of_the_best_row():
    search = IISSearchCV(
        SubsetEstimator(GaussianNB()),
        SPACE,
        size_param="fraction",
        sizes=(0.1, 0.5),
        n_iter=(3, 2),
        cv=CV,
        random_state=0,
    ).fit(*IRIS)
    best = search.best_params_
    assert search.best_estimator_.estimator_.class_count_.tolist() == (
        [np.ceil(50 * best["fraction"])] * 3
    )
    whole = clone(search.best_estimator_).set_params(fraction=1.0).fit(*IRIS)
    assert whole.estimator_.class_count_.tolist() == [50.0] * 3


def test_fraction_is_a_resource_of_hyperband():
    search = make_counting_search(
        n_iter=9,
        search="hyperband",
        search_params={"resource": "fraction", "min_resources": 0.1},
    ).fit(*IRIS)
    results = search.cv_results_
    assert_allclose(np.unique(results["n_resources"]), [1 / 9, 1 / 3, 1])
    # Of 33, 33 and 34 samples of a class, in whatever order the splits have them.
    expected = {1 / 9: 12, 1 / 3: 34, 1: 100}
    for fraction, n_samples in zip(
        results["n_resources"], results["mean_test_fit"], strict=True
    ):
        assert n_samples == pytest.approx(
            expected[min(expected, key=lambda f: abs(f - fraction))]
        )
    assert set(results["mean_test_test"]) == {50}
    assert search.best_params_["fraction"] == 1.0


def test_hyperband_wants_a_least_fraction():
    search = make_counting_search(
        n_iter=9, search="hyperband", search_params={"resource": "fraction"}
    )
    with pytest.raises(ValueError, match="min_resources must be given, as fraction"):
        search.fit(*IRIS)


# Images: what is computed once per stage, and weights that are inherited

IMAGES = make_shapes(48, size=16, n_classes=2, random_state=0)
SPLITS = StratifiedKFold(2)


class NotedResizer(ImageResizer):
    """Counts the images that it resizes."""

    n_images = 0

    def transform(self, X):
        NotedResizer.n_images += len(X) * (X.shape[1] != self.size)
        return super().transform(X)


def make_image_search(kind=CNNClassifier, cnn=None, **settings):
    params = {"pooling": "average", "n_filters": 2, "n_units": 4, "n_conv_layers": 2}
    params |= {"batch_size": 16, "random_state": 0, "precision": "float32"}
    pipe = Pipeline(
        [
            ("resize", NotedResizer(size=8)),
            ("cnn", SubsetEstimator(kind(max_epochs=1, **params | (cnn or {})))),
        ]
    )
    settings = {
        "size_param": "cnn__fraction",
        "sizes": (0.25, 1.0),
        "n_iter": (3, 2),
        "cv": SPLITS,
        "random_state": 0,
    } | settings
    return IISSearchCV(
        pipe, {"cnn__estimator__learning_rate": loguniform(1e-3, 1e-1)}, **settings
    )


def test_images_are_resized_once_for_all_candidates(monkeypatch):
    """With another number of candidates, as many images are resized."""
    seen = []
    for n_iter in ((3, 2), (5, 4)):
        monkeypatch.setattr(NotedResizer, "n_images", 0)
        search = make_image_search(n_iter=n_iter, refit=False).fit(*IMAGES)
        assert len(search.cv_results_["params"]) == sum(n_iter)
        seen.append(NotedResizer.n_images)
    assert seen[0] == seen[1] > 0


def test_weights_are_inherited_from_a_smaller_subset():
    """The same as fits by hand, in which a network goes on with all samples."""
    search = make_image_search(inherit_weights=True, select="last").fit(*IMAGES)
    row = np.flatnonzero(search.cv_results_["promoted"])[0]
    params = search.cv_results_["params"][row]
    X, y = NotedResizer(size=8).fit_transform(IMAGES[0]), IMAGES[1]
    scores = []
    for train, test in SPLITS.split(X, y):
        model = clone(search.estimator).set_params(**params)["cnn"]
        model.set_params(fraction=0.25).fit(X[train], y[train])
        model.set_params(fraction=1.0, estimator__warm_start="weights")
        scores.append(model.fit(X[train], y[train]).score(X[test], y[test]))
    found = [search.cv_results_[f"split{i}_test_score"][row] for i in range(2)]
    assert found == scores
    assert search.best_estimator_["cnn"].estimator.warm_start is False


def test_weights_that_cannot_be_inherited_are_an_error():
    with pytest.raises(ValueError, match="inherit_weights=True needs"):
        make_image_search(cnn={"pooling": "flatten"}, inherit_weights=True).fit(*IMAGES)


class NotedCNN(CNNClassifier):
    """Notes how many epochs it has been trained for when a fit begins."""

    begun = []

    def fit(self, X, y):
        NotedCNN.begun.append((getattr(self, "n_iter_", 0), self.max_epochs, len(X)))
        return super().fit(X, y)


def test_hyperband_goes_on_with_epochs_in_a_subset(monkeypatch):
    """Scores are those of training straight through."""
    monkeypatch.setattr(NotedCNN, "begun", [])
    search = make_image_search(
        kind=NotedCNN,
        cnn={"schedule": "constant"},
        size_param=None,
        sizes=None,
        stage_params={"cnn__fraction": [0.5], "resize__size": [8]},
        search="hyperband",
        search_params={"max_resources": 3},
        n_iter=4,
        refit=False,
    ).fit(*IMAGES)
    assert sorted(set(NotedCNN.begun)) == [(0, 1, 12), (0, 3, 12), (1, 3, 12)]
    results = search.cv_results_
    X, y = NotedResizer(size=8).fit_transform(IMAGES[0]), IMAGES[1]
    train, test = next(iter(SPLITS.split(X, y)))
    row = np.flatnonzero((results["n_resources"] == 3) & (results["bracket"] == 1))[0]
    model = clone(search.estimator).set_params(**results["params"][row])["cnn"]
    expected = model.fit(X[train], y[train]).score(X[test], y[test])
    assert results["split0_test_score"][row] == expected
