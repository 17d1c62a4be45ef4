"""The figures of a test: closed forms, scikit-learn's metrics, and bad input."""

import math

import numpy as np
import pytest
from scipy.stats import loguniform, norm
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    log_loss,
    precision_score,
    recall_score,
)
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from sklearn_iis import IISSearchCV
from sklearn_iis.inspection import evaluate_model
from sklearn_iis.inspection._evaluation import ScoreOnly, take_evaluation
from sklearn_iis.testing import FormulaClassifier

X, y = load_iris(return_X_y=True)
NAMES = np.array(["setosa", "versicolor", "virginica"])
TRAIN, TEST = slice(None, None, 2), slice(1, None, 2)


class Answers(ClassifierMixin, BaseEstimator):
    """Gives the probabilities that X holds, and counts how often it is asked."""

    def __init__(self, classes=("a", "b", "c")):
        self.classes = classes

    def fit(self, X, y=None):
        self.classes_ = np.array(self.classes)
        self.n_calls_ = 0
        return self

    def predict_proba(self, X):
        self.n_calls_ += 1
        return np.asarray(X)

    def predict(self, X):
        raise AssertionError("predictions are those of the probabilities")


PROBABILITIES = np.array(
    [
        [0.8, 0.1, 0.1],
        [0.2, 0.7, 0.1],  # wrong
        [0.1, 0.6, 0.3],
        [0.0, 0.05, 0.95],  # wrong
        [0.3, 0.3, 0.4],
        [0.7, 0.2, 0.1],  # wrong
    ]
)
LABELS = ["a", "a", "b", "b", "c", "c"]


@pytest.fixture
def evaluation():
    return evaluate_model(Answers().fit(None), PROBABILITIES, LABELS)


def search(**params):
    return GridSearchCV(
        LogisticRegression(max_iter=2000), {"C": [0.1, 1]}, cv=2, **params
    ).fit(X[TRAIN], y[TRAIN])


def test_predictions_are_of_one_call():
    model = Answers().fit(None)
    evaluation = evaluate_model(model, PROBABILITIES, LABELS)
    assert model.n_calls_ == 1
    assert evaluation.probabilities is PROBABILITIES
    assert evaluation.y_pred.tolist() == [0, 1, 1, 2, 2, 0]
    assert evaluation.y_true.tolist() == [0, 0, 1, 1, 2, 2]


def test_the_most_certain_mistakes_come_first(evaluation):
    assert evaluation.find_worst().tolist() == [3, 1, 5]
    assert evaluation.find_worst(2).tolist() == [3, 1]


@pytest.mark.parametrize("n_correct", [0, 1, 6, 10])
def test_the_interval_is_that_of_wilson(n_correct):
    """The roots of (p - accuracy)^2 = z^2 p (1 - p) / n."""
    n = 10
    right = np.tile([0.9, 0.1], (n_correct, 1))
    wrong = np.tile([0.1, 0.9], (n - n_correct, 1))
    evaluation = evaluate_model(
        Answers(("a", "b")).fit(None), np.vstack([right, wrong]), ["a"] * n
    )
    z, p = norm.ppf(0.975), n_correct / n
    center = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    expected = pytest.approx([center - half, center + half], abs=1e-12)
    assert list(evaluation.interval) == expected
    assert evaluation.accuracy == p


def test_figures_are_those_of_scikit_learn():
    model = LogisticRegression(C=0.01).fit(X[TRAIN], NAMES[y[TRAIN]])
    evaluation = evaluate_model(model, X[TEST], NAMES[y[TEST]])
    predicted = model.predict(X[TEST])
    assert evaluation.accuracy == accuracy_score(NAMES[y[TEST]], predicted) < 1
    for name in ("precision", "recall", "f1"):
        metric = {"precision": precision_score, "recall": recall_score, "f1": f1_score}
        expected = metric[name](NAMES[y[TEST]], predicted, average=None)
        found = [getattr(one, name) for one in evaluation.per_class]
        np.testing.assert_allclose(found, expected)
    assert [one.support for one in evaluation.per_class] == [25, 25, 25]
    assert [one.name for one in evaluation.per_class] == NAMES.tolist()
    assert np.trace(evaluation.confusion) == evaluation.n_correct
    assert evaluation.confusion.sum(axis=1).tolist() == [25, 25, 25]


def test_figures_of_nothing_are_nan():
    """No sample of "c", and none that was taken for "b" or "c"."""
    probabilities = np.tile([0.8, 0.1, 0.1], (2, 1))
    evaluation = evaluate_model(Answers().fit(None), probabilities, ["a", "b"])
    a, b, c = evaluation.per_class
    assert (a.precision, a.recall) == (0.5, 1.0)
    assert math.isnan(b.precision)
    assert b.recall == 0
    assert math.isnan(c.recall)
    assert c.support == 0


def test_a_model_without_probabilities():
    model = LinearSVC(C=1e-3).fit(X[TRAIN], y[TRAIN])
    evaluation = evaluate_model(model, X[TEST], y[TEST])
    predicted = model.predict(X[TEST])
    assert evaluation.probabilities is None
    assert evaluation.y_pred.tolist() == predicted.tolist()
    wrong = np.flatnonzero(predicted != y[TEST])
    assert len(wrong) > 0
    assert evaluation.find_worst(4).tolist() == wrong[:4].tolist()


# The search's own score


@pytest.mark.parametrize("scoring", [None, "accuracy"])
def test_the_accuracy_is_no_further_score(scoring):
    assert evaluate_model(search(scoring=scoring), X[TEST], y[TEST]).score is None


@pytest.mark.parametrize(
    "params",
    [
        {"scoring": "neg_log_loss"},
        {"scoring": ["accuracy", "neg_log_loss"], "refit": "neg_log_loss"},
        {"scoring": {"loss": "neg_log_loss", "b": "accuracy"}, "refit": "loss"},
    ],
)
def test_a_scorer_by_name_asks_the_model_nothing(params, monkeypatch):
    fitted = search(**params)
    monkeypatch.setattr(fitted, "score", None)
    evaluation = evaluate_model(fitted, X[TEST], y[TEST])
    expected = -log_loss(y[TEST], fitted.predict_proba(X[TEST]))
    assert evaluation.score == pytest.approx(expected)


def test_a_scorer_of_ones_own_and_a_score_of_the_estimator():
    def score(estimator, X, y):
        return -float(len(y))

    assert evaluate_model(search(scoring=score), X[TEST], y[TEST]).score == -75
    formula = GridSearchCV(FormulaClassifier(), {"degree": [2, 3]}).fit(X, y)
    evaluation = evaluate_model(formula, X, y)
    assert evaluation.score == formula.best_estimator_.score(X, y)
    assert evaluation.accuracy == pytest.approx(1 / 3)


def test_the_accuracy_of_a_pipeline_is_known_as_such():
    fitted = GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression()),
        {"logisticregression__C": [1]},
    ).fit(X, y)
    assert evaluate_model(fitted, X, y).score is None


# Bad input


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"y_test": LABELS[:5]}, ValueError, "6 samples and y_test 5 labels"),
        ({"y_test": [*LABELS[:5], "d"]}, ValueError, r"\['d'\].*not trained on"),
        ({"y_test": np.eye(6)}, ValueError, "1d array"),
        ({"class_names": ["x", "y"]}, ValueError, "2 names, .* 3 classes"),
        ({"model": Answers()}, NotFittedError, "not fitted"),
        ({"model": LinearRegression().fit(X, y)}, TypeError, "no classifier"),
        ({"X_test": [], "y_test": []}, ValueError, "at least one sample"),
    ],
)
def test_bad_input_is_told(params, error, message):
    given = {"model": Answers().fit(None), "X_test": PROBABILITIES, "y_test": LABELS}
    with pytest.raises(error, match=message):
        evaluate_model(**given | params)


def test_a_search_that_fitted_no_model():
    with pytest.raises(ValueError, match="GridSearchCV has no best_estimator_"):
        evaluate_model(search(refit=False), X, y)


def test_either_test_data_or_an_evaluation(evaluation):
    fitted = search()
    assert take_evaluation(fitted, None, None, None, None) is None
    assert take_evaluation(fitted, None, None, None, evaluation) is evaluation
    with pytest.raises(ValueError, match="got only X_test"):
        take_evaluation(fitted, X, None, None, None)
    with pytest.raises(ValueError, match="got only y_test"):
        take_evaluation(fitted, None, y, None, None)
    with pytest.raises(ValueError, match="got both"):
        take_evaluation(fitted, X, y, None, evaluation)


def test_of_a_regressor_there_is_the_score():
    fitted = IISSearchCV(
        Ridge(), {"alpha": loguniform(1e-3, 1)}, n_iter=2, random_state=0
    ).fit(X, y)
    found = take_evaluation(fitted, X[TEST], y[TEST], None, None)
    assert found == ScoreOnly(fitted.score(X[TEST], y[TEST]), 75)
