"""The table of a report on several searches that share the time."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from sklearn_iis.inspection.displays._plotting import score_label
from sklearn_iis.inspection.report._content import name_algorithm, name_estimator
from sklearn_iis.inspection.report._source import Source
from sklearn_iis.inspection.report._text import (
    NOTHING,
    format_seconds,
    make_score_format,
)


def describe_searches(search: Any, sources: Mapping[str, Source]) -> dict[str, Any]:
    """Return the searches of a `ChoiceSearchCV`, what they found, and who was out."""
    best = next(iter(sources.values()))
    scores = np.concatenate([source.all_scores() for source in sources.values()])
    format_score = make_score_format(scores)
    rows = [
        {
            "name": name,
            "estimator": name_estimator(one),
            "algorithm": name_algorithm(one),
            "seconds": format_seconds(search.seconds_[name]),
            "outcome": _describe_outcome(search, name, best.name, name in sources),
            **_describe_results(sources.get(name), format_score),
        }
        for name, one in search.searches_.items()
    ]
    return {
        "rows": rows,
        "best": best.name,
        "score_name": score_label(best.metric),
        "sized": any(source.sized for source in sources.values()),
    }


def _describe_results(
    source: Source | None, format_score: Callable[[float], str]
) -> dict[str, Any]:
    """Return the cells of a search that need results."""
    if source is None:
        return dict.fromkeys(("candidates", "failed", "size", "best"), NOTHING)
    scores = source.all_scores()
    found = scores[~np.isnan(scores)]
    last = source.stages[-1]
    return {
        "candidates": len(scores),
        "failed": source.n_failed,
        "size": NOTHING if last.size is None else last.size_text,
        "best": format_score(found.max()) if len(found) else NOTHING,
    }


def _describe_outcome(search: Any, name: str, best: str, has_results: bool) -> str:
    """Return how far a search came."""
    if not hasattr(search, "rounds_"):  # as of one that was restored from a storage
        return "best" if name == best else NOTHING if has_results else "no results"
    n_rounds = len(search.rounds_)
    out = next((i for i, on in enumerate(search.rounds_, 1) if name not in on), None)
    when = f"out after round {out}" + (f" of {n_rounds}" if n_rounds > 1 else "")
    if name == best:
        return "best" if out is None else f"best; {when}, then in the time left"
    if not has_results:
        return f"no results; {when}" if out else "no results"
    return when if out else "went on to the end"
