"""Hyperparameter searches over a search space, each a scikit-learn search."""

from dataclasses import fields
from functools import partial
from importlib import import_module
from typing import Any, Protocol

from sklearn_iis._sklearn_compat import BaseSearchCV
from sklearn_iis.searches._base import Evaluator, Sampler, SamplerSearchCV, Search
from sklearn_iis.space import Candidate, SearchSpace

# The name that IISSearchCV knows a search by, its class, and the module of that. The
# modules are imported where they are used: each needs a library of its own.
SEARCHES = {
    "random": ("StageRandomizedSearchCV", "sklearn_iis.searches._random"),
    "grid": ("StageGridSearchCV", "sklearn_iis.searches._grid"),
    "bayes": ("StageBayesSearchCV", "sklearn_iis.searches._bayes"),
    "tpe": ("StageTPESearchCV", "sklearn_iis.searches._tpe"),
    "cmaes": ("StageCMAESSearchCV", "sklearn_iis.searches._cmaes"),
    "smac": ("StageSMACSearchCV", "sklearn_iis.searches._smac"),
    "genetic": ("StageGASearchCV", "sklearn_iis.searches._genetic"),
    "swarm": ("StageSwarmSearchCV", "sklearn_iis.searches._swarm"),
    "reinforce": ("StageReinforceSearchCV", "sklearn_iis.searches._reinforce"),
    "hyperband": ("StageHyperbandSearchCV", "sklearn_iis.searches._hyperband"),
    "ladder": ("StageLadderSearchCV", "sklearn_iis.searches._ladder"),
    "fabolas": ("StageFabolasSearchCV", "sklearn_iis.searches._fabolas"),
}

# The libraries that are only installed with an extra; it is called like the search.
EXTRAS = {
    "tpe": "Optuna",
    "cmaes": "Optuna and cmaes",
    "smac": "SMAC3",
    "fabolas": "BoTorch",
}

__all__ = [
    "Evaluator",
    "Sampler",
    "SamplerSearchCV",
    "Search",
    "SearchFactory",
    "get_search",
    *(SEARCHES[name][0] for name in SEARCHES if name not in EXTRAS),
]


class SearchFactory(Protocol):
    """Makes a search: the class of one, or any function like it."""

    def __call__(  # noqa: D102
        self,
        estimator: Any,
        space: SearchSpace,
        *,
        n_iter: int | None,
        initial_candidates: list[Candidate],
        **settings: Any,
    ) -> BaseSearchCV: ...


def get_search(search: str | type[Sampler] | SearchFactory) -> SearchFactory:
    """Return what makes a search.

    Parameters
    ----------
    search : {"random", "grid", "bayes", "tpe", "cmaes", "smac", "genetic", "swarm", \
            "reinforce", "hyperband", "ladder", "fabolas"}, subclass of Sampler, or \
            callable
        The name of a search, a class of samplers, or what is returned as it is.

    Returns
    -------
    make_search : callable
        Called as `make_search(estimator, space, n_iter=..., initial_candidates=...,
        **settings)`.

    Raises
    ------
    ImportError
        If the library of the search is not installed; it names the extra that does so.
    """
    if isinstance(search, type) and issubclass(search, Sampler):
        return partial(_make_sampler_search, search)
    if not isinstance(search, str):
        return search
    class_name, module = SEARCHES[search]
    try:
        return getattr(import_module(module), class_name)
    except ImportError as error:
        if search not in EXTRAS:
            raise
        raise ImportError(
            f"search={search!r} needs {EXTRAS[search]}, which cannot be imported "
            f"({error}); to install it: pip install 'sklearn-iis[{search}]'"
        ) from error


def _make_sampler_search(sampler, estimator, space, **settings):
    """Return the search of a sampler; settings that it lacks are the sampler's."""
    names = {field.name for field in fields(SamplerSearchCV)}
    own = {name: value for name, value in settings.items() if name in names}
    params = {name: value for name, value in settings.items() if name not in names}
    return SamplerSearchCV(
        estimator, space, sampler=sampler, sampler_params=params, **own
    )


def __getattr__(name):
    for search, (class_name, _) in SEARCHES.items():
        if name == class_name:
            return get_search(search)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
