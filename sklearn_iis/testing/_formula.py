"""A classifier whose score is a formula of its parameters."""

import math

import numpy as np
from scipy.stats import loguniform, randint
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from sklearn_iis.space import PerLayer

# Some data of two classes; they have no influence on the score.
X = np.arange(40.0).reshape(20, 2)
y = np.array([0, 1] * 10)

# Each kind of hyperparameter. The optimum is at rate=0.01, degree=3, kind="b",
# n_layers=2 and widths=(5, 5).
SPACE = {
    "rate": loguniform(1e-4, 1),
    "degree": randint(1, 8),
    "kind": ["a", "b", "c"],
    "n_layers": [1, 2, 3],
    "widths": PerLayer(randint(2, 12), depth="n_layers"),
}


class FormulaClassifier(ClassifierMixin, BaseEstimator):
    """A classifier whose score is a formula of its parameters, and of nothing else.

    Nothing is trained, so that a search over them takes no longer than the search
    itself. The default parameters are the best ones in `SPACE`.

    Parameters
    ----------
    rate : float, default=0.01
        Best at 0.01, on a log scale.

    degree : int, default=3
        Best at 3.

    kind : str, default="b"
        Best is "b".

    n_layers : int, default=2
        Best at 2.

    widths : tuple of int, default=(5, 5)
        Each is best at 5.

    size : int, default=1
        What `sizes` of :class:`~sklearn_iis.IISSearchCV` may be values of; the larger
        the better.

    max_epochs : int, default=27
        What may be the resource of Hyperband; the more the better. It changes all
        scores alike.

    fails_below : float, default=0.0
        With a rate below it `fit` raises a RuntimeError.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.

    Examples
    --------
    >>> from sklearn_iis.testing import FormulaClassifier, X, y
    >>> classifier = FormulaClassifier(rate=0.1).fit(X, y)
    >>> round(FormulaClassifier().score(X, y) - classifier.score(X, y), 6)
    1.0
    """

    def __init__(
        self,
        rate=0.01,
        degree=3,
        kind="b",
        n_layers=2,
        widths=(5, 5),
        size=1,
        max_epochs=27,
        fails_below=0.0,
    ):
        self.rate = rate
        self.degree = degree
        self.kind = kind
        self.n_layers = n_layers
        self.widths = widths
        self.size = size
        self.max_epochs = max_epochs
        self.fails_below = fails_below

    def fit(self, X, y):
        """Learn nothing but the classes."""
        if self.rate < self.fails_below:
            raise RuntimeError(f"no fit with the rate {self.rate}")
        X, y = validate_data(self, X, y)
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        """Return the first class for each sample."""
        check_is_fitted(self)
        return np.full(len(X), self.classes_[0])

    def score(self, X, y):
        """Return the value of the formula."""
        return (
            1
            - (math.log10(self.rate) + 2) ** 2
            - 0.1 * (self.degree - 3) ** 2
            - 0.5 * (self.kind != "b")
            - 0.3 * abs(self.n_layers - 2)
            - 0.02 * sum(abs(width - 5) for width in self.widths)
            - 1 / self.max_epochs
            + 0.001 * self.size
        )
