"""Tables of results in scikit-learn's format: of a stage, and of all stages."""

import math
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import kendalltau, rankdata
from sklearn.exceptions import FitFailedWarning

from sklearn_iis._sklearn_compat import BaseSearchCV, yield_masked_arrays
from sklearn_iis.execution._record import Row
from sklearn_iis.space import Candidate


def make_results(
    search: BaseSearchCV,
    rows: Sequence[Row],
    params: list[dict[str, Any]],
    *,
    can_prune: bool = False,
) -> dict[str, Any]:
    """Return the `cv_results_` of a stage."""
    names = dict.fromkeys(name for row in rows for name in row.columns)
    columns = {name: [row.columns.get(name, np.nan) for row in rows] for name in names}
    with warnings.catch_warnings():
        # They are told once the stage has ended.
        warnings.filterwarnings("ignore", "One or more of the", UserWarning)
        results = BaseSearchCV._format_results(
            search, params, rows[0].n_splits, _list_evaluations(rows), columns
        )
    results["error"] = np.array([row.error for row in rows], dtype=object)
    if can_prune:
        results["pruned"] = np.array([row.pruned for row in rows])
    _rank_all(results)
    return results


def combine_results(
    stages: Sequence[BaseSearchCV],
    sizes: Sequence[Any],
    promoted: Sequence[list[Candidate]],
) -> dict[str, Any]:
    """Join the results of the stages of a search."""
    results = [search.cv_results_ for search in stages]
    counts = [len(result["params"]) for result in results]
    stage = np.repeat(np.arange(len(stages)), counts)
    columns = {
        "stage": stage,
        "size": np.fromiter((sizes[i] for i in stage.tolist()), dtype=object),
        "promoted": np.array(
            [
                codes in candidates
                for search, candidates in zip(stages, promoted, strict=True)
                for codes in search.candidates_
            ]
        ),
    }
    return join_results(results, columns)


def join_results(
    results: Sequence[dict[str, Any]], columns: dict[str, Any]
) -> dict[str, Any]:
    """Return tables as one, after further columns, with the ranks among all rows."""
    counts = [len(result["params"]) for result in results]
    params = [row for result in results for row in result["params"]]
    combined = {**columns, **dict(yield_masked_arrays(params))}
    combined["params"] = params
    for key in dict.fromkeys(key for result in results for key in result):
        if key not in columns and key != "params" and not key.startswith("param_"):
            # A search may have columns of its own in some of the stages only.
            combined[key] = np.concatenate(
                [
                    result.get(key, np.full(n, np.nan))
                    for result, n in zip(results, counts, strict=True)
                ]
            )
    _rank_all(combined)
    return combined


class Agreement(NamedTuple):
    """How the scores of the same candidates compare in two stages."""

    n_candidates: int
    # Of their ranks; NaN if there are too few, or all scores are the same.
    kendall_tau: float
    # What they gain in the later stage, the mean and its standard error.
    gain: float
    gain_error: float
    # How many times as long an evaluation takes there.
    cost_ratio: float


def compare_rows(before: Sequence[Row], after: Sequence[Row]) -> Agreement:
    """Compare the rows of the same candidates in two stages."""
    return compare_scores(
        *([row.score for row in rows] for rows in (before, after)),
        *([_seconds(row) for row in rows] for rows in (before, after)),
    )


def compare_scores(
    scores: Sequence[float],
    later_scores: Sequence[float],
    seconds: Sequence[float],
    later_seconds: Sequence[float],
) -> Agreement:
    """Compare scores of the same candidates in two stages, and what they cost."""
    n_candidates = len(scores)
    if n_candidates < 2:
        return Agreement(n_candidates, math.nan, math.nan, math.nan, math.nan)
    gains = np.subtract(later_scores, scores)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of scores that are all the same
        tau = float(kendalltau(scores, later_scores).statistic)
    return Agreement(
        n_candidates,
        tau,
        float(gains.mean()),
        float(gains.std(ddof=1) / math.sqrt(n_candidates)),
        float(np.mean(later_seconds) / max(float(np.mean(seconds)), 1e-9)),
    )


def predict_gain(
    before: Sequence[Row], after: Sequence[Row], scores: Sequence[float]
) -> tuple[float, float]:
    """Return what an average candidate gains in a later stage, and its standard error.

    Those that were promoted are the best, also by chance, and would fall back at the
    same size. So the gain is that of a line fitted to their scores, at the mean of all.

    Parameters
    ----------
    before, after : sequence of Row
        Those that were evaluated in both stages.

    scores : sequence of float
        All of the earlier stage.
    """
    x, y = (np.array([row.score for row in rows]) for rows in (before, after))
    mean, spread = float(np.mean(scores)), float(((x - x.mean()) ** 2).sum())
    if len(x) < 3 or spread == 0:
        return math.nan, math.nan
    slope = float(((x - x.mean()) * y).sum()) / spread
    line = y.mean() + slope * (x - x.mean())
    variance = float(((y - line) ** 2).sum()) / (len(x) - 2)
    error = math.sqrt(variance * (1 / len(x) + (mean - x.mean()) ** 2 / spread))
    return float(y.mean() + slope * (mean - x.mean()) - mean), error


def _seconds(row):
    return sum(record.own_fit_time + record.score_time for record in row.in_order)


def rank(scores: np.ndarray, behind: np.ndarray | None = None) -> np.ndarray:
    """Return the ranks of scores, from 1."""
    is_missing = np.isnan(scores)
    behind = np.zeros(len(scores)) if behind is None else behind.astype(float)
    keys = np.where(is_missing, behind.max(initial=0) + 1, behind)
    # Pairs of numbers in the order of their ranks.
    pairs = np.array([keys, np.where(is_missing, 0, -scores)]).T
    _, order = np.unique(pairs, axis=0, return_inverse=True)
    return rankdata(order, method="min").astype(np.int32)


def metric_names(results: dict[str, Any]) -> list[str]:
    """Return the names of the metrics in a `cv_results_`, the guiding one first."""
    return [
        key.removeprefix("mean_test_")
        for key in results
        if key.startswith("mean_test_")
    ]


def report_stage(results: dict[str, Any], where: str, rows: Any = None) -> None:
    """Warn of what failed in a stage; raise an error if all candidates did.

    Parameters
    ----------
    results : dict of str to ndarray or list
        The `cv_results_`.

    where : str
        The name of the stage.

    rows : ndarray of bool, default=None
        The rows of the stage; None means all.
    """
    errors = results["error"] if rows is None else results["error"][rows]
    _report_failures(errors, where)
    is_fine = results["error"] == None  # noqa: E711
    if rows is not None:
        is_fine &= rows
    for name, scores in results.items():
        if name.startswith(("mean_test_", "mean_train_")):
            n_missing = np.count_nonzero(~np.isfinite(scores[is_fine]))
            if n_missing:
                kind, metric = name.removeprefix("mean_").split("_", 1)
                warnings.warn(
                    f"the {kind} score {metric!r} of {n_missing} of {is_fine.sum()} "
                    f"candidates is not finite ({where}), see {name!r} in cv_results_",
                    UserWarning,
                    stacklevel=3,
                )


def _report_failures(errors: Iterable[str | None], where: str) -> None:
    """Warn of the candidates that failed; raise an error if all did."""
    errors = list(errors)
    failed = [error for error in errors if error is not None]
    if not failed:
        return
    message = (
        f"{len(failed)} of {len(errors)} candidates failed ({where}). "
        f"The first error:\n{failed[0]}"
    )
    if len(failed) == len(errors):
        # A TypeError stays one, as scikit-learn's common tests want it.
        last_line = failed[0].rstrip().rpartition("\n")[2]
        error = TypeError if last_line.startswith("TypeError") else ValueError
        raise error(f"Every candidate failed: {message}")
    warnings.warn(message, FitFailedWarning, stacklevel=4)


def _rank_all(results):
    """Rank by each metric: first what was neither pruned nor failed, failed last."""
    failed = np.array([error is not None for error in results["error"]])
    pruned = results.get("pruned", np.zeros(len(failed), dtype=bool))
    behind = np.where(failed, 2, pruned.astype(int))
    for name in metric_names(results):
        results[f"rank_test_{name}"] = rank(results[f"mean_test_{name}"], behind)


def _list_evaluations(rows):
    """Return the records of rows as scikit-learn's searches have them."""
    records = [record for row in rows for record in row.in_order]
    names = next((r.scores for r in records if isinstance(r.scores, dict)), None)

    def by_name(scores):
        # A failed score may stand for several metrics.
        scores = math.nan if scores is None else scores
        if names is None or isinstance(scores, dict):
            return scores
        return dict.fromkeys(names, scores)

    return [
        {
            "fit_time": record.fit_time,
            "score_time": record.score_time,
            "test_scores": by_name(record.scores),
            "train_scores": by_name(record.train_scores),
        }
        for record in records
    ]
