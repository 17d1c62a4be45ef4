"""Evaluation: how a fitted classifier does on test data."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import binomtest
from sklearn.base import BaseEstimator, ClassifierMixin, is_classifier
from sklearn.metrics import (
    confusion_matrix,
    get_scorer,
    precision_recall_fscore_support,
)
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted, column_or_1d

from sklearn_iis._sklearn_compat import count_samples


class ClassFigures(NamedTuple):
    """How a classifier does on one class; NaN where a figure would be 0 / 0."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int  # the samples of this class


@dataclass(frozen=True)
class ScoreOnly:
    """The score on test data of what is no classifier."""

    score: float
    n_samples: int


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How a fitted classifier does on test data.

    It is made by :func:`evaluate_model`.

    Parameters
    ----------
    X : sequence
        The samples, as they were given.

    y_true, y_pred : ndarray of shape (n_samples,) of int
        The true and the predicted classes, as indices into `classes`.

    probabilities : ndarray of shape (n_samples, n_classes) or None
        What `predict_proba` returned; None if the model has none.

    classes : ndarray of shape (n_classes,)
        The labels that the model was trained on.

    class_names : list of str
        What a reader calls the classes.

    score : float or None
        The score by the search's own scorer, unless that is the accuracy; None without
        one.

    Attributes
    ----------
    n_samples, n_correct : int
        The number of samples, and of those that were predicted right.

    accuracy : float
        The share of samples that were predicted right.

    interval : tuple of (float, float)
        The 95 % interval of the accuracy, by Wilson (1927): the accuracy on all samples
        of this kind lies in 19 of 20 such intervals.

    confusion : ndarray of shape (n_classes, n_classes) of int
        The number of samples of each true class, in rows, by their predicted class.

    per_class : list of ClassFigures
        The `name`, `precision`, `recall`, `f1` and `support` of each class; a figure is
        NaN if it would be 0 / 0.
    """

    X: Any = field(repr=False)
    y_true: np.ndarray = field(repr=False)
    y_pred: np.ndarray = field(repr=False)
    probabilities: np.ndarray | None = field(repr=False)
    classes: np.ndarray = field(repr=False)
    class_names: list[str]
    score: float | None = None

    @property
    def n_samples(self) -> int:
        """The number of samples."""
        return len(self.y_true)

    @property
    def n_correct(self) -> int:
        """The number of samples that were predicted right."""
        return int(np.count_nonzero(self.y_true == self.y_pred))

    @property
    def accuracy(self) -> float:
        """The share of samples that were predicted right."""
        return self.n_correct / self.n_samples

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the accuracy by Wilson."""
        test = binomtest(self.n_correct, self.n_samples)
        low, high = test.proportion_ci(0.95, method="wilson")
        return float(low), float(high)

    @cached_property
    def confusion(self) -> np.ndarray:
        """The number of samples by true class, in rows, and predicted class."""
        labels = np.arange(len(self.classes))
        return confusion_matrix(self.y_true, self.y_pred, labels=labels)

    @cached_property
    def per_class(self) -> list[ClassFigures]:
        """Precision, recall, F1 and number of samples of each class."""
        columns = precision_recall_fscore_support(
            self.y_true,
            self.y_pred,
            labels=np.arange(len(self.classes)),
            zero_division=np.nan,
        )
        rows = zip(self.class_names, *(c.tolist() for c in columns), strict=True)
        return [ClassFigures(*row) for row in rows]

    def find_worst(self, n: int = 12) -> np.ndarray:
        """Return the samples that the model is most wrong about.

        Parameters
        ----------
        n : int, default=12
            How many to return at most.

        Returns
        -------
        indices : ndarray of shape (n_found,) of int
            Samples that were predicted wrong, the highest probability of a wrong class
            first; without probabilities, in the order of the data.
        """
        wrong = np.flatnonzero(self.y_true != self.y_pred)
        if self.probabilities is not None:
            certainty = self.probabilities[wrong, self.y_pred[wrong]]
            wrong = wrong[np.argsort(-certainty, kind="stable")]
        return wrong[:n]


def evaluate_model(model, X_test, y_test, *, class_names=None) -> Evaluation:
    """Evaluate a fitted classifier on test data.

    Probabilities are of one call of `predict_proba`, and the prediction is the class
    with the largest one. A model without it is asked once to `predict`.

    Parameters
    ----------
    model : estimator object
        A fitted classifier, or a fitted search over one with a `best_estimator_`.

    X_test : sequence of length n_samples
        Samples that the model was neither trained nor chosen by.

    y_test : array-like of shape (n_samples,)
        Their labels.

    class_names : sequence of str, default=None
        A name for each class, in the order of `classes_` of the model; None means the
        labels themselves.

    Returns
    -------
    evaluation : Evaluation
        What came of it.

    Raises
    ------
    NotFittedError
        If the model is not fitted.

    TypeError
        If it is no classifier.

    ValueError
        If a search has no `best_estimator_`, if `X_test` and `y_test` have different
        lengths or none, if `y_test` has labels that the model does not know, or if
        there are not as many names as classes.

    See Also
    --------
    write_report : A page with what came of it.

    Notes
    -----
    With a scorer by its name, other than the accuracy, the search's score is computed
    from the same probabilities; any other scorer asks the model to predict once more.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn_iis.inspection import evaluate_model
    >>> X, y = load_iris(return_X_y=True)
    >>> model = LogisticRegression(max_iter=1000).fit(X[::2], y[::2])
    >>> evaluation = evaluate_model(model, X[1::2], y[1::2])
    >>> evaluation.n_correct, evaluation.n_samples
    (72, 75)
    >>> low, high = evaluation.interval
    >>> f"{low:.2f} to {high:.2f}"
    '0.89 to 0.99'
    """
    _check_model(model)
    if not is_classifier(model):
        raise TypeError(
            f"{type(model).__name__} is no classifier, and has neither an accuracy nor "
            "classes; its score(X_test, y_test) is what can be told of it"
        )
    classes = np.asarray(model.classes_)
    names = check_names(class_names, classes)
    y_true = find_indices(_check_y(X_test, y_test), classes)
    probabilities = None
    if hasattr(model, "predict_proba"):
        probabilities = np.asarray(model.predict_proba(X_test))
        y_pred = probabilities.argmax(axis=1)
    else:
        y_pred = find_indices(np.asarray(model.predict(X_test)), classes)
    return Evaluation(
        X=X_test,
        y_true=y_true,
        y_pred=y_pred,
        probabilities=probabilities,
        classes=classes,
        class_names=names,
        score=_score(model, X_test, y_test, classes, probabilities),
    )


def take_evaluation(
    search: Any,
    X_test: Any,
    y_test: Any,
    class_names: Sequence[str] | None,
    evaluation: Evaluation | None,
) -> Evaluation | ScoreOnly | None:
    """Return the evaluation that was given, or one on test data; None without either.

    Of what is no classifier, it is the score alone.
    """
    if (X_test is None) != (y_test is None):
        only = "X_test" if y_test is None else "y_test"
        raise ValueError(f"X_test and y_test belong together; got only {only}")
    if evaluation is not None and X_test is not None:
        raise ValueError(
            "give either X_test and y_test or an evaluation, which has test data "
            "already; got both"
        )
    if X_test is None:
        return evaluation
    if not is_classifier(search):
        _check_model(search)
        _check_y(X_test, y_test)
        return ScoreOnly(float(search.score(X_test, y_test)), count_samples(X_test))
    return evaluate_model(search, X_test, y_test, class_names=class_names)


def find_promise(search: Any) -> float | None:
    """Return the validation score of the best candidate; None if none was chosen."""
    score = getattr(search, "best_score_", None)
    return None if score is None or not np.isfinite(score) else float(score)


def _check_model(model: Any) -> None:
    """Raise an error if a model cannot predict."""
    if hasattr(model, "cv_results_") and not hasattr(model, "best_estimator_"):
        raise ValueError(
            f"this {type(model).__name__} has no best_estimator_, which is what is "
            "tested: fit it with refit=True, or to its end"
        )
    check_is_fitted(model)


def check_names(names: Sequence[str] | None, classes: np.ndarray) -> list[str]:
    """Return a name for each class."""
    if names is None:
        return [str(label) for label in classes.tolist()]
    names = [str(name) for name in names]
    if len(names) != len(classes):
        raise ValueError(
            f"class_names has {len(names)} names, but the model was trained on "
            f"{len(classes)} classes, {_list(classes.tolist())}: one for each is needed"
        )
    return names


def _check_y(X: Any, y: Any) -> np.ndarray:
    """Return labels as an array, one for each sample."""
    y = column_or_1d(y)
    if len(y) != count_samples(X) or not len(y):
        raise ValueError(
            f"X_test has {count_samples(X)} samples and y_test {len(y)} labels: one "
            "label for each of at least one sample is needed"
        )
    return y


def find_indices(
    labels: np.ndarray, classes: np.ndarray, name: str = "y_test"
) -> np.ndarray:
    """Return labels as indices into the classes."""
    indices = {label: i for i, label in enumerate(classes.tolist())}
    found = labels.tolist()
    if unknown := set(found) - indices.keys():
        raise ValueError(
            f"{name} has the labels {_list(sorted(unknown, key=str))}, which the model "
            f"was not trained on; it knows {_list(classes.tolist())}"
        )
    return np.array([indices[label] for label in found], dtype=int)


def _list(labels: Sequence[Any]) -> str:
    """Return labels as a text that is not too long."""
    shown = ", ".join(map(repr, labels[:10]))
    return f"[{shown}]" if len(labels) <= 10 else f"[{shown}, ...] ({len(labels)})"


def _score(
    search: Any,
    X: Any,
    y: Any,
    classes: np.ndarray,
    probabilities: np.ndarray | None,
) -> float | None:
    """Return the score by the search's scorer, unless there is none or it is accuracy.

    A scorer that has a name needs nothing but probabilities.
    """
    if not hasattr(search, "cv_results_") or promises_accuracy(search):
        return None
    scoring = _find_scoring(search)
    if isinstance(scoring, str) and probabilities is not None:
        return float(get_scorer(scoring)(_Answers(classes, probabilities), X, y))
    if search.multimetric_ and not isinstance(search.refit, str):
        return None  # none of the metrics was searched by
    return float(search.score(X, y))


def _find_scoring(search: Any) -> Any:
    """Return the scorer that guided a search as it was given to it."""
    scoring, refit = getattr(search, "scoring", None), search.refit
    if scoring is None or isinstance(scoring, str) or callable(scoring):
        return scoring
    if isinstance(scoring, dict):
        return scoring.get(refit)
    return refit


def name_scorer(search: Any) -> str:
    """Return the name of the scorer that guided a search; empty without one."""
    named = (_find_scoring(search), getattr(search, "refit", None))
    return next((name for name in named if isinstance(name, str)), "")


def promises_accuracy(search: Any) -> bool:
    """Return whether the scores of a search are accuracies."""
    scoring = _find_scoring(search)
    if scoring is not None:
        return scoring == "accuracy"
    # The `score` of scikit-learn's classifiers; others may have one of their own.
    estimator = getattr(search, "best_estimator_", search.estimator)
    while isinstance(estimator, Pipeline):
        estimator = estimator.steps[-1][1]
    return getattr(type(estimator), "score", None) is ClassifierMixin.score


class _Answers(ClassifierMixin, BaseEstimator):
    """A classifier that repeats probabilities, for scorers to ask."""

    def __init__(self, classes, probabilities):
        self.classes_ = classes
        self.probabilities = probabilities

    def predict_proba(self, X):
        return self.probabilities

    def predict(self, X):
        return self.classes_[self.probabilities.argmax(axis=1)]
