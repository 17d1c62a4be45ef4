"""Words and tables of a report: the best, the stages, the ranges, the failures."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.pipeline import Pipeline

from sklearn_iis.execution._text import shorten, shorten_middle
from sklearn_iis.inspection._fitted import NothingToShowError, Stage, choose_metric
from sklearn_iis.inspection.displays._plotting import score_label
from sklearn_iis.inspection.report._source import Source, is_choice
from sklearn_iis.inspection.report._text import (
    MAX_LENGTH,
    MAX_QUOTE,
    NOTHING,
    count,
    format_duration,
    format_literal,
    format_range,
    format_seconds,
    format_value,
    make_score_format,
)
from sklearn_iis.space import distinct

# Beyond that, a page is not read any more.
MAX_KINDS_OF_FAILURE = 20
MAX_FAILED_CANDIDATES = 3


def name_search(search: Any) -> str:
    """Return a title for a page about a search."""
    if is_choice(search):
        return f"Choice among {count(len(search.searches_), 'search', 'searches')}"
    return f"Hyperparameter search of {name_estimator(search)}"


def name_estimator(search: Any) -> str:
    """Return the class that is searched, of a pipeline its last step."""
    estimator = getattr(search, "estimator", search)
    if isinstance(estimator, Pipeline):
        estimator = estimator.steps[-1][1]
    return type(estimator).__name__


def name_algorithm(search: Any) -> str:
    """Return the way in which a search proposes candidates; empty if it has but one."""
    algorithm = getattr(search, "search", "")
    if callable(algorithm):
        algorithm = getattr(algorithm, "__name__", type(algorithm).__name__)
    return algorithm


def summarize(search: Any, sources: Sequence[Source]) -> dict[str, Any]:
    """Return the parts of the line below the title."""
    # Not from our package by name: it is the one that imports us.
    import sklearn_iis

    source = sources[0]
    n_failed = sum(source.n_failed for source in sources)
    summary = [type(search).__name__]
    if is_choice(search):
        summary.append(count(len(search.searches_), "search", "searches"))
    elif algorithm := name_algorithm(search):
        summary.append(f"algorithm {algorithm}")
    if len(source.stages) > 1 and not is_choice(search):
        summary.append(f"{len(source.stages)} stages")
    summary += [
        count(sum(len(source.rows) for source in sources), "candidate"),
        f"{n_failed or 'none'} failed",
        f"{format_duration(sum(s.seconds for s in sources))} of fitting and scoring",
    ]
    if not source.ended_early and hasattr(search, "refit_time_"):
        summary.append(f"{format_duration(search.refit_time_)} for the refit")
    summary.append(f"sklearn_iis {sklearn_iis.__version__}")
    return {"parts": summary}


def describe_best(source: Source) -> dict[str, Any]:
    """Return the best candidate, and how it was chosen."""
    scores = source.all_scores()
    if np.isnan(scores).all():
        raise NothingToShowError("no candidate has a score: all failed")
    index, note = _choose_best(source, scores)
    stage, row = source.rows[index]
    format_score = make_score_format(scores)
    params = source.params[index]
    splits = [
        float(stage.results[f"split{i}_test_{source.metric}"][row])
        for i in range(stage.n_splits)
    ]
    return {
        "score": format_score(scores[index]),
        "score_name": score_label(source.metric),
        "where": source.locate(stage),
        "splits": _describe_splits(splits, format_score),
        "note": note,
        "params": [(name, format_value(value)) for name, value in params.items()],
        "literal": format_literal(params),
    }


def _choose_best(source: Source, scores: np.ndarray) -> tuple[int, str]:
    """Return the row of the best candidate, and a note on the choice."""
    highest = int(np.nanargmax(scores))
    last = source.stages[-1]
    if source.ended_early:
        return highest, (
            f"The search ended with an error, as every candidate of "
            f"{source.locate(last)} failed. This is the best of the others."
        )
    guide = choose_metric(source.search, None)
    if source.metric != guide:
        return highest, f"This is the highest {source.metric}; {guide} was searched by."
    index = getattr(source.search, "best_index_", None)
    if index is None or np.isnan(scores[index]):
        return highest, "The search itself chose none; this is the highest score."
    if scores[index] < scores[highest]:
        score = make_score_format(scores)(scores[highest])
        return int(index), (
            f"The search chose it by its own rule. The highest score is {score}, of "
            f"row {source.first_row + highest} of cv_results_."
        )
    return int(index), ""


def _describe_splits(splits: list[float], format_score: Callable) -> str:
    if len(splits) == 1:
        return "on one split"
    return (
        f"mean of {len(splits)} splits, standard deviation "
        f"{format_score(np.std(splits))}, from {format_score(min(splits))} to "
        f"{format_score(max(splits))}"
    )


def describe_stages(source: Source) -> dict[str, Any]:
    """Return the table of the stages."""
    format_score = make_score_format(source.all_scores())
    rows = []
    for stage in source.stages:
        scores = stage.scores(source.metric)
        found = scores[~np.isnan(scores)]
        cells = {
            "stage": stage.index,
            "size": stage.size_text,
            "candidates": len(scores),
            "failed": int(stage.failed.sum()),
            "pruned": int(np.sum(stage.results.get("pruned", 0))),
            "promoted": _count_promoted(stage),
            "best": format_score(found.max()) if len(found) else NOTHING,
            "median": format_score(np.median(found)) if len(found) else NOTHING,
            "seconds": format_seconds(stage.seconds.sum()),
        }
        rows.append(cells)
    return {
        "rows": rows,
        "score_name": score_label(source.metric),
        "sized": source.sized,
        "can_promote": "promoted" in source.stages[0].results,
        "can_prune": "pruned" in source.stages[0].results,
        # Hyperband evaluates a candidate again with more epochs.
        "repeated": any(
            len(distinct(stage.candidates)) < len(stage.candidates)
            for stage in source.stages
        ),
    }


def _count_promoted(stage: Stage) -> int:
    """Return how many candidates were handed over: each may have several rows."""
    rows = np.flatnonzero(stage.results.get("promoted", ()))
    return len(distinct(stage.candidates[i] for i in rows))


def describe_ranges(source: Source) -> dict[str, Any]:
    """Return the table of the ranges that each stage searched."""
    names = dict.fromkeys(n for s in source.stages for n in s.space.dimensions)
    return {
        "stages": [
            f"Size {stage.label}" if source.sized else f"Stage {stage.index}"
            for stage in source.stages
        ],
        "rows": [
            (
                name,
                [
                    format_range(stage.space.dimensions.get(name))
                    for stage in source.stages
                ],
            )
            for name in names
        ],
    }


class _Failure(NamedTuple):
    """A candidate that failed."""

    row: int  # in `cv_results_` of all searches
    place: str
    error: str | None
    params: dict[str, Any]


def describe_failures(sources: Sequence[Source]) -> dict[str, Any]:
    """Return the failures by the last line of the error, most frequent ones first."""
    kinds: dict[str, list[_Failure]] = {}
    for failure in _list_failures(sources):
        kinds.setdefault(_last_line(failure.error), []).append(failure)
    ranked = sorted(kinds.items(), key=lambda kind: -len(kind[1]))
    shown = [
        _describe_kind(message, failures)
        for message, failures in ranked[:MAX_KINDS_OF_FAILURE]
    ]
    hidden = ranked[MAX_KINDS_OF_FAILURE:]
    return {
        "kinds": shown,
        "n_hidden": len(hidden),
        "n_hidden_candidates": sum(len(failures) for _, failures in hidden),
    }


def _list_failures(sources: Sequence[Source]) -> Iterator[_Failure]:
    for source in sources:
        for index, (stage, row) in enumerate(source.rows):
            if stage.failed[row]:
                yield _Failure(
                    source.first_row + index,
                    source.locate(stage),
                    stage.errors[row],
                    source.params[index],
                )


def _describe_kind(message: str, failures: list[_Failure]) -> dict[str, Any]:
    """Return the candidates that failed with the same last line of the error."""
    examples = failures[:MAX_FAILED_CANDIDATES]
    names = list(dict.fromkeys(name for f in examples for name in f.params))
    error = failures[0].error
    places = Counter(failure.place for failure in failures)
    return {
        "message": shorten(message, MAX_LENGTH),
        "count": count(len(failures), "candidate"),
        # A single stage has no name.
        "places": [f"{n} in {place}" for place, n in places.items() if place],
        "traceback": shorten_middle(error, MAX_QUOTE) if error else "",
        "names": names,
        "examples": [
            (
                failure.row,
                [
                    format_value(failure.params[name])
                    if name in failure.params
                    else NOTHING
                    for name in names
                ],
            )
            for failure in examples
        ],
        "n_further": len(failures) - len(examples),
    }


def _last_line(error: str | None) -> str:
    if error is None:
        return "The score is not finite, and the search kept no error"
    return error.rstrip().rpartition("\n")[2].strip() or "An error without a message"
