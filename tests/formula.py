"""A classifier whose score is a formula of its parameters."""

import math

import numpy as np
from scipy.stats import loguniform, randint
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from sklearn_iis import PerLayer

X = np.arange(40.0).reshape(20, 2)
y = np.array([0, 1] * 10)

# The optimum is at rate=0.01, degree=3, kind="b", widths=(5, 5), its score is 1.
SPACE = {
    "rate": loguniform(1e-4, 1),
    "degree": randint(1, 8),
    "kind": ["a", "b", "c"],
    "n_layers": [1, 2, 3],
    "widths": PerLayer(randint(2, 12), depth="n_layers"),
}


class FormulaClassifier(ClassifierMixin, BaseEstimator):
    """Its score is a formula; with a rate below `fails_below` its fit fails."""

    def __init__(
        self,
        rate=0.01,
        degree=3,
        kind="b",
        n_layers=2,
        widths=(5, 5),
        size=1,
        fails_below=0.0,
    ):
        self.rate = rate
        self.degree = degree
        self.kind = kind
        self.n_layers = n_layers
        self.widths = widths
        self.size = size
        self.fails_below = fails_below

    def fit(self, X, y):
        if self.rate < self.fails_below:
            raise RuntimeError(f"no fit with the rate {self.rate}")
        X, y = validate_data(self, X, y)
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        check_is_fitted(self)
        return np.full(len(X), self.classes_[0])

    def score(self, X, y):
        return (
            1
            - (math.log10(self.rate) + 2) ** 2
            - 0.1 * (self.degree - 3) ** 2
            - 0.5 * (self.kind != "b")
            - 0.3 * abs(self.n_layers - 2)
            - 0.02 * sum(abs(width - 5) for width in self.widths)
            + 0.001 * self.size
        )
