"""Words and numbers of a report on how the scores of two stages compare."""

import math
from itertools import pairwise
from typing import Any

import numpy as np

from sklearn_iis._results import Agreement, compare_scores
from sklearn_iis.inspection._fitted import Stage
from sklearn_iis.inspection.report._source import Source
from sklearn_iis.inspection.report._text import (
    NOTHING,
    as_sentence,
    format_ratio,
    make_score_format,
)
from sklearn_iis.space import as_key

# What the ladder says of a stage that it had no reason to change anything about.
USED = "used"


def describe_agreement(source: Source) -> dict[str, Any]:
    """Return how the candidates that two successive stages share were scored."""
    pairs = [
        (*pair, compare_candidates(*pair, source.metric))
        for pair in pairwise(source.stages)
    ]
    verdicts = [_get_verdict(source, stage) for stage, _, _ in pairs]
    format_gain = make_score_format(source.all_scores())
    rows = [
        {
            "stages": f"{stage.label} \N{RIGHTWARDS ARROW} {after.label}",
            "count": agreement.n_candidates,
            "tau": _format(agreement.kendall_tau, lambda tau: f"{tau:.2f}"),
            "gain": _format(agreement.gain, format_gain),
            "error": _format(agreement.gain_error, format_gain),
            "cost": _format(agreement.cost_ratio, format_ratio),
            "verdict": verdict,
        }
        for (stage, after, agreement), verdict in zip(pairs, verdicts, strict=True)
    ]
    found = any(agreement.n_candidates > 1 for _, _, agreement in pairs)
    return {
        "what": "sizes" if source.sized else "stages",
        "rows": rows if found else [],
        "has_verdicts": any(verdicts),
    }


def compare_candidates(stage: Stage, after: Stage, metric: str) -> Agreement:
    """Compare the candidates that were evaluated in both stages, with a score each."""
    before, later = _find_scored(stage, metric), _find_scored(after, metric)
    common = [key for key in before if key in later]
    rows = [before[key] for key in common], [later[key] for key in common]
    return compare_scores(
        stage.scores(metric)[rows[0]].tolist(),
        after.scores(metric)[rows[1]].tolist(),
        stage.seconds[rows[0]].tolist(),
        after.seconds[rows[1]].tolist(),
    )


def _find_scored(stage: Stage, metric: str) -> dict[Any, int]:
    """Return the rows that neither failed nor were pruned, by their candidates."""
    n_rows = len(stage.candidates)
    pruned = np.asarray(stage.results.get("pruned", np.zeros(n_rows)), dtype=bool)
    usable = ~np.isnan(stage.scores(metric)) & ~pruned
    # Hyperband evaluates a candidate with several resources.
    resources = stage.results.get("n_resources", [None] * n_rows)
    return {
        (as_key(stage.candidates[i]), resources[i]): int(i)
        for i in np.flatnonzero(usable)
    }


def _get_verdict(source: Source, stage: Stage) -> str:
    """Return what the search did about a stage, if it says so."""
    verdict = getattr(source.search.stages_[stage.index], "verdict_", None)
    if verdict is None:
        return ""
    if verdict == USED:
        return "Went on as planned."
    return as_sentence(str(verdict))


def _format(value, write):
    return NOTHING if math.isnan(value) else write(value).replace("-", "\N{MINUS SIGN}")
