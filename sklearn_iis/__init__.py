"""Hyperparameter search over increasing image sizes, as scikit-learn searches."""

from sklearn_iis._resize import ImageResizer
from sklearn_iis._search import IISSearchCV
from sklearn_iis.choice import ChoiceSearchCV
from sklearn_iis.execution._monitor import current_monitor
from sklearn_iis.space import (
    OnlyIf,
    PerLayer,
    Rounded,
    SearchSpace,
    best_candidates,
    default_space,
)
from sklearn_iis.subset import SubsetEstimator

__version__ = "0.1.0"

__all__ = [
    "CNNClassifier",
    "ChoiceSearchCV",
    "IISSearchCV",
    "ImageResizer",
    "OnlyIf",
    "PerLayer",
    "Rounded",
    "SearchSpace",
    "SubsetEstimator",
    "best_candidates",
    "current_monitor",
    "default_space",
]


def __getattr__(name):
    # torch and skorch take as long to import as all the rest.
    if name == "CNNClassifier":
        from sklearn_iis.cnn import CNNClassifier

        return CNNClassifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
