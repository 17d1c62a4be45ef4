"""The results of all stages as one table in scikit-learn's format."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata
from sklearn.model_selection._search import (
    BaseSearchCV,
    _yield_masked_array_for_each_param,
)

from sklearn_iis.space import Candidate


def combine_results(
    stages: Sequence[BaseSearchCV], sizes: Sequence, seeds: Sequence[list[Candidate]]
) -> dict[str, Any]:
    """Join the results of the stages of a search.

    Parameters
    ----------
    stages : list of BaseSearchCV
        The fitted searches; their estimators decode the candidates.

    sizes : list
        The size of each stage, perhaps also of stages to come.

    seeds : list of list of dict
        The candidates that were handed over to each stage, in codes.

    Returns
    -------
    cv_results : dict of str to ndarray or list
        As `cv_results_` of a search of scikit-learn, with the columns `stage`, `size`
        and `seed` besides; ranks are those among all candidates.
    """
    results = [search.cv_results_ for search in stages]
    candidates = [
        (stage, codes)
        for stage, result in enumerate(results)
        for codes in result["params"]
    ]
    params = [stages[stage].estimator.decode(codes) for stage, codes in candidates]
    combined: dict[str, Any] = {
        "stage": np.array([stage for stage, _ in candidates]),
        "size": np.fromiter((sizes[stage] for stage, _ in candidates), dtype=object),
        "seed": np.array(
            [
                stages[stage].estimator.space.active(codes) in seeds[stage]
                for stage, codes in candidates
            ]
        ),
    }
    ranked: list[tuple[str, str]] = []
    combined |= dict(_yield_masked_array_for_each_param(params))
    combined["params"] = params
    for key in dict.fromkeys(key for result in results for key in result):
        if not key.startswith(("param", "rank_")):
            # A search may have columns of its own in some of the stages only.
            combined[key] = np.concatenate(
                [
                    result.get(key, np.full(len(result["params"]), np.nan))
                    for result in results
                ]
            )
        if key.startswith("mean_test_"):
            name = key.removeprefix("mean_")
            ranked.append((f"rank_{name}", key))
    pruned = combined.get("pruned")
    for name, key in ranked:
        combined[name] = rank(combined[key], pruned)
    return combined


def rank(scores: np.ndarray, pruned: np.ndarray | None = None) -> np.ndarray:
    """Return the ranks of scores, from 1; pruned ones, and then NaN, come last."""
    if np.isnan(scores).all():
        return np.ones(len(scores), dtype=np.int32)
    if pruned is not None:
        spread = np.nanmax(scores) - np.nanmin(scores)
        scores = np.where(pruned, scores - spread - 1, scores)
    scores = np.nan_to_num(scores, nan=np.nanmin(scores) - 1)
    return rankdata(-scores, method="min").astype(np.int32)


def metric_names(results: dict[str, Any]) -> list[str]:
    """Return the names of the metrics in a `cv_results_`, the guiding one first."""
    return [
        key.removeprefix("mean_test_")
        for key in results
        if key.startswith("mean_test_")
    ]
