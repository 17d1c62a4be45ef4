"""The best candidates of an earlier search, for another one to begin with."""

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np

from sklearn_iis.space._partial import fill_params, is_possible
from sklearn_iis.space._space import SearchSpace


def best_candidates(
    search: Any,
    n_candidates: int = 5,
    *,
    space: Any = None,
    metric: str | None = None,
) -> list[dict[str, Any]]:
    """Return the best candidates of an earlier search, for another to begin with.

    They are what that one takes as `initial_candidates`; its space, algorithm, sizes
    and budget may be others. Candidates that failed or were pruned are left out, and
    each is there once, whatever sizes it was evaluated at, ranked by its best score.

    Parameters
    ----------
    search : fitted search, or dict of str to array-like
        An :class:`~sklearn_iis.IISSearchCV`, any other search of scikit-learn's kind,
        or its `cv_results_`.

    n_candidates : int, default=5
        How many are returned; fewer if there are no more.

    space : dict, list of dict or SearchSpace, default=None
        The space of the other search. Hyperparameters that it does not have, and values
        that they cannot have in it, are left out, and the search then draws others. A
        candidate of which nothing is left, or that the constraint of a `SearchSpace`
        rules out, is left out. None means that nothing but the size, and what else
        stages have set, is left out.

    metric : str, default=None
        The metric that they are ranked by. None means the one named by `refit` of the
        search, or the first one.

    Returns
    -------
    candidates : list of dict of str to object
        The hyperparameters of each, the best one first.

    Raises
    ------
    ValueError
        If the search is not fitted, `n_candidates` is less than 1, or there is no such
        metric.

    Examples
    --------
    >>> from scipy.stats import loguniform
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn_iis import IISSearchCV, best_candidates
    >>> X, y = load_iris(return_X_y=True)
    >>> space = {"C": loguniform(1e-3, 10)}
    >>> model = LogisticRegression(max_iter=1000)
    >>> first = IISSearchCV(model, space, n_iter=6, random_state=0).fit(X, y)
    >>> wider = {"C": loguniform(1e-3, 1e3), "fit_intercept": [True, False]}
    >>> found = best_candidates(first, 2, space=wider)
    >>> second = IISSearchCV(
    ...     model, wider, initial_candidates=found, n_iter=6, random_state=0
    ... ).fit(X, y)
    >>> [sorted(params) for params in found]
    [['C'], ['C']]
    >>> [sorted(params) for params in second.cv_results_["params"][:2]]
    [['C', 'fit_intercept'], ['C', 'fit_intercept']]
    """
    if not isinstance(n_candidates, Integral) or n_candidates < 1:
        raise ValueError(f"n_candidates must be a whole number > 0, got {n_candidates}")
    results = search if isinstance(search, Mapping) else _get_results(search)
    if space is not None and not isinstance(space, SearchSpace):
        space = SearchSpace(space)
    names = None
    if spaces := getattr(search, "spaces_", None):
        names = spaces[0].names
    found: list[dict[str, Any]] = []
    for row in _rank(results, _choose_metric(search, results, metric)):
        params = results["params"][row]
        if names is not None:
            params = {name: params[name] for name in names if name in params}
        if space is not None:
            params = _fit_into(space, params)
        if params and not any(_is_same(params, other) for other in found):
            found.append(params)
        if len(found) == n_candidates:
            break
    return found


def _get_results(search):
    if not hasattr(search, "cv_results_"):
        raise ValueError(
            f"the search must be fitted, or a dict such as its cv_results_, got "
            f"{type(search).__name__}"
        )
    return search.cv_results_


def _choose_metric(search: Any, results: Mapping[str, Any], metric: str | None) -> str:
    prefix = "mean_test_"
    metrics = [key.removeprefix(prefix) for key in results if key.startswith(prefix)]
    if metric is None:
        refit = getattr(search, "refit", None)
        metric = refit if isinstance(refit, str) else next(iter(metrics), "score")
        # Of a single metric, whose name scikit-learn does not use.
        metric = "score" if metric not in metrics else metric
    if metric not in metrics:
        raise ValueError(f"there is no metric {metric!r}, the metrics are {metrics}")
    return metric


def _rank(results: Mapping[str, Any], metric: str) -> Sequence[int]:
    """Return the rows that neither failed nor were pruned, the best one first."""
    scores = np.asarray(results[f"mean_test_{metric}"], dtype=float)
    errors = np.asarray(results.get("error", [None] * len(scores)), dtype=object)
    pruned = np.asarray(results.get("pruned", np.zeros(len(scores))), dtype=bool)
    is_usable = np.isfinite(scores) & (errors == None) & ~pruned  # noqa: E711
    rows = np.flatnonzero(is_usable)
    return [int(row) for row in rows[np.argsort(-scores[rows], kind="stable")]]


def _fit_into(space: SearchSpace, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of hyperparameters that a candidate of the space can have."""
    kept: dict[str, Any] = {}
    for name, value in params.items():
        if name in space.names and is_possible(space, {**kept, name: value}):
            kept[name] = value
    try:
        fill_params(space, kept, np.random.RandomState(0))
    except ValueError:  # the constraint rules it out
        return {}
    return kept


def _is_same(params, other):
    # Values may be arrays, and estimators of two clones.
    return repr(params) == repr(other)
