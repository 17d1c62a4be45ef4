"""A choice among whole pipelines, each with a search of its own."""

from sklearn_iis.choice._choice import ChoiceSearchCV

__all__ = ["ChoiceSearchCV"]
