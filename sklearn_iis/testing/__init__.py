"""Checks that any search of a stage should pass, without pytest."""

from sklearn_iis.testing._checks import check_search, search_checks
from sklearn_iis.testing._formula import SPACE, FormulaClassifier, X, y

__all__ = [
    "SPACE",
    "FormulaClassifier",
    "X",
    "check_search",
    "search_checks",
    "y",
]
