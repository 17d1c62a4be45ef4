"""SubsetEstimator: stratified, nested subsets in `fit`, and nothing else changed."""

import math

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone
from sklearn.cluster import KMeans
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.svm import SVC, LinearSVC
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import check_is_fitted

from sklearn_iis import SubsetEstimator, default_space
from sklearn_iis.subset._subset_estimator import choose_subset

X, y = load_iris(return_X_y=True)
# Of the classes 0, 1 and 2.
UNEVEN = np.r_[:50, 50:70, 100:103]


class Noting(BaseEstimator):
    """Notes what it is fitted to."""

    def fit(self, X, y=None, **params):
        self.X_, self.y_, self.params_ = X, y, params
        return self


class NotingClassifier(ClassifierMixin, Noting):
    """The same as a classifier, whose subsets are stratified."""


class NotingRegressor(RegressorMixin, Noting):
    """The same as a regressor."""


def fit_to(fraction, X=X, y=y, kind=NotingClassifier, **settings):
    """Return what the inner estimator was fitted to."""
    return SubsetEstimator(kind(), fraction, **settings).fit(X, y).estimator_


def list_expected_failures(estimator):
    if isinstance(estimator.estimator, LinearRegression):
        reason = "the sample with the wrong value is not in the subset"
        return {"check_dtype_object": reason}
    return {}


# GaussianNB itself takes the logarithm of 0 if all samples of a class weigh nothing.
@pytest.mark.filterwarnings("ignore:divide by zero encountered in log:RuntimeWarning")
@parametrize_with_checks(
    [
        SubsetEstimator(LogisticRegression()),
        SubsetEstimator(LinearRegression(), fraction=0.9),
        SubsetEstimator(GaussianNB(), fraction=0.9),
    ],
    expected_failed_checks=list_expected_failures,
)
def test_checks_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.mark.parametrize("fraction", [0.001, 0.1, 1 / 3, 0.5, 0.99, 1.0])
def test_each_class_has_its_part_rounded_up(fraction):
    counts = np.bincount(fit_to(fraction, X[UNEVEN], y[UNEVEN]).y_)
    assert counts.tolist() == [math.ceil(round(fraction * n, 6)) for n in (50, 20, 3)]


def test_rounding_errors_add_no_sample():
    """A product such as 0.07 * 100 exceeds 7 by some 9e-16."""
    for n in range(1, 200):
        for k in (1, n // 2, n):
            if k:
                assert len(choose_subset(n, k / n, 0)) == k
    assert 0.07 * 100 > 7
    assert len(choose_subset(100, 0.07, 0)) == 7


@pytest.mark.parametrize("labels", [None, y[UNEVEN], y[UNEVEN].astype(str)])
def test_smaller_subsets_are_part_of_larger_ones_in_the_order_of_samples(labels):
    before = set()
    for fraction in np.linspace(0.02, 1, 40):
        chosen = choose_subset(len(UNEVEN), fraction, 3, labels=labels)
        assert (np.diff(chosen) > 0).all()
        assert before <= set(chosen)
        before = set(chosen)
    assert before == set(range(len(UNEVEN)))


def test_subsets_depend_on_the_seed_alone():
    def draw(random_state):
        return choose_subset(150, 0.1, random_state, labels=y).tolist()

    assert draw(0) == draw(0) != draw(1)
    assert draw(None) != draw(None)
    rng = np.random.RandomState(0)
    assert draw(rng) != draw(rng)


def test_all_samples_are_given_as_they_are():
    noted = fit_to(1.0)
    assert noted.X_ is X
    assert noted.y_ is y


@pytest.mark.parametrize(
    ("kind", "targets"),
    [
        (NotingRegressor, y / 7),
        (NotingClassifier, np.eye(3)[y]),
        (Noting, y),
        (Noting, None),
    ],
)
def test_what_has_no_classes_is_not_stratified(kind, targets):
    noted = fit_to(0.1, X, targets, kind)
    assert_array_equal(noted.X_, X[choose_subset(150, 0.1, 0)])
    if targets is not None:
        assert_array_equal(noted.y_, targets[choose_subset(150, 0.1, 0)])


def test_data_frames_lists_and_columns_keep_their_kind():
    frame = pd.DataFrame(X, columns=list("abcd"))
    series = pd.Series(y).map(dict(enumerate(["a", "b", "c"])))
    chosen = choose_subset(150, 0.1, 0, labels=y)
    noted = fit_to(0.1, frame, series)
    pd.testing.assert_frame_equal(noted.X_, frame.iloc[chosen])
    assert noted.y_.value_counts().to_dict() == {"a": 5, "b": 5, "c": 5}
    paths = [f"{i}.png" for i in range(150)]
    assert [paths[i] for i in chosen] == fit_to(0.1, paths).X_
    assert_array_equal(fit_to(0.1, X, y[:, np.newaxis]).y_, y[chosen][:, np.newaxis])


def test_parameters_of_fit_lose_the_same_samples():
    chosen = choose_subset(150, 0.1, 0, labels=y)
    model = SubsetEstimator(NotingClassifier(), 0.1)
    params = model.fit(X, y, sample_weight=np.arange(150), other=7).estimator_.params_
    assert_array_equal(params["sample_weight"], chosen)
    assert params["other"] == 7


def test_metadata_are_routed():
    """As requested by the estimator; what nobody requests is an error."""
    weights = np.linspace(0, 1, 150)
    chosen = choose_subset(150, 0.2, 0, labels=y)
    with config_context(enable_metadata_routing=True):
        inner = GaussianNB()
        inner.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        model = SubsetEstimator(inner, 0.2).fit(X, y, sample_weight=weights)
        expected = clone(inner).fit(X[chosen], y[chosen], weights[chosen])
        assert_array_equal(model.predict_proba(X), expected.predict_proba(X))
        assert model.score(X, y, sample_weight=weights) == expected.score(X, y, weights)
        inner.set_fit_request(sample_weight=False)
        with pytest.raises(TypeError, match="sample_weight"):
            SubsetEstimator(inner).fit(X, y, sample_weight=weights)


@pytest.mark.parametrize(
    "method", ["predict", "predict_proba", "predict_log_proba", "score"]
)
def test_methods_are_those_of_an_estimator_fitted_to_the_subset(method):
    chosen = choose_subset(150, 0.2, 0, labels=y)
    expected = GaussianNB().fit(X[chosen], y[chosen])
    model = SubsetEstimator(GaussianNB(), 0.2)
    args = (X, y) if method == "score" else (X,)
    with pytest.raises(NotFittedError):
        getattr(model, method)(*args)
    assert not hasattr(model, "classes_")
    model.fit(X, y)
    check_is_fitted(model)
    assert_array_equal(getattr(model, method)(*args), getattr(expected, method)(*args))
    assert_array_equal(model.classes_, [0, 1, 2])
    assert model.n_features_in_ == 4


def test_methods_that_the_estimator_lacks_are_not_there():
    svm = SubsetEstimator(LinearSVC())
    assert hasattr(svm, "decision_function")
    assert not hasattr(svm, "predict_proba")
    assert not hasattr(SubsetEstimator(KMeans()), "decision_function")
    assert svm.fit(X, y).decision_function(X).shape == (150, 3)


def test_tags_are_those_of_the_estimator():
    for estimator in (SVC(kernel="precomputed"), LinearRegression(), KMeans()):
        tags, expected = (
            e.__sklearn_tags__() for e in (SubsetEstimator(estimator), estimator)
        )
        assert tags.estimator_type == expected.estimator_type
        assert tags.input_tags == expected.input_tags


def test_warm_start_goes_on_with_what_was_fitted():
    """As the estimator by itself does: trees that are there stay."""
    forest = RandomForestClassifier(3, warm_start=True, random_state=0)
    model = SubsetEstimator(forest, 0.5).fit(X, y)
    trees = [*model.estimator_.estimators_]
    model.set_params(estimator__n_estimators=5).fit(X, y)
    assert len(model.estimator_.estimators_) == 5
    assert model.estimator_.estimators_[:3] == trees
    model.set_params(estimator__warm_start=False).fit(X, y)
    assert model.estimator_.estimators_[0] is not trees[0]
    assert not hasattr(forest, "estimators_")


def test_warm_start_of_another_estimator_begins_anew():
    model = SubsetEstimator(LogisticRegression(), 0.5).fit(X, y)
    model.set_params(estimator=RandomForestClassifier(2, warm_start=True)).fit(X, y)
    assert len(model.estimator_.estimators_) == 2


@pytest.mark.parametrize("fraction", [0, -0.1, 1.1, "half", None, np.nan])
def test_fractions_that_are_none_are_refused(fraction):
    with pytest.raises(ValueError, match="'fraction' parameter of SubsetEstimator"):
        SubsetEstimator(GaussianNB(), fraction).fit(X, y)


def test_lengths_that_differ_are_refused():
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        SubsetEstimator(GaussianNB(), 0.5).fit(X, y[:100])


def test_default_space_is_that_of_the_estimator():
    inner = default_space(LogisticRegression())
    found = default_space(SubsetEstimator(LogisticRegression()))
    assert [*found] == [f"estimator__{name}" for name in inner]
