"""Hyperparameter search over increasing image sizes, as scikit-learn searches."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sklearn_iis._resize import ImageResizer
    from sklearn_iis._search import IISSearchCV
    from sklearn_iis.choice import ChoiceSearchCV
    from sklearn_iis.cnn import CNNClassifier
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

# Where each name is from. They are imported when they are asked for: the command has to
# be able to answer Ctrl-C, and torch takes as long to import as all the rest.
_MODULES = {
    "CNNClassifier": "cnn",
    "ChoiceSearchCV": "choice",
    "IISSearchCV": "_search",
    "ImageResizer": "_resize",
    "SubsetEstimator": "subset",
    "current_monitor": "execution._monitor",
    **dict.fromkeys(("OnlyIf", "PerLayer", "Rounded", "SearchSpace"), "space"),
    **dict.fromkeys(("best_candidates", "default_space"), "space"),
}


# The packages in it with names to import, which are attributes as well.
_PACKAGES = {
    *("choice", "cnn", "datasets", "deploy", "inspection", "searches", "space"),
    *("storage", "subset", "testing"),
}


if not TYPE_CHECKING:  # or type checkers would take a misspelt name for anything

    def __getattr__(name):
        if name in _PACKAGES:
            return import_module(f"{__name__}.{name}")
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
        globals()[name] = value
        return value


def __dir__():
    return sorted({*globals(), *__all__, *_PACKAGES})
