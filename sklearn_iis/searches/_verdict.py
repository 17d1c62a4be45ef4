"""Verdicts on sizes: what a ladder does if those of two stages do not agree."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from sklearn_iis._results import compare_rows, predict_gain
from sklearn_iis.execution._record import Row

# Candidates evaluated in two stages before anything is said of these.
MIN_CANDIDATES = 10

# Standard deviations that ranks have to contradict each other by, and scores to fall:
# one-sided tests at .05.
N_DEVIATIONS = 1.64

# An evaluation that begins in the next stage has to cost so many times as much.
MIN_COST_RATIO = 1.25


class Verdict(NamedTuple):
    """A decision on a stage, and its reason.

    Parameters
    ----------
    factor : float
        One of so many candidates is promoted.

    is_left_out : bool
        Whether new candidates begin in the next stage.

    text : str
        What was found, and done.
    """

    factor: float
    is_left_out: bool = False
    text: str = "used"


def judge(
    pairs: Sequence[tuple[Row, Row]],
    scores: Sequence[float],
    factor: int,
    *,
    compares_cost: bool,
) -> Verdict:
    """Return what is done about a stage.

    Parameters
    ----------
    pairs : sequence of tuple of Row
        The candidates that were evaluated in this stage and in the next.

    scores : sequence of float
        Those of all candidates of this stage.

    factor : int
        One of so many is promoted if there is nothing to be said.

    compares_cost : bool
        Whether evaluations that begin in the next stage do without this one, and time
        matters.
    """
    n_pairs = len(pairs)
    if n_pairs < MIN_CANDIDATES:
        return Verdict(factor)
    before, after = zip(*pairs, strict=True)
    agreement = compare_rows(before, after)
    tau = agreement.kendall_tau
    # Of ranks that have nothing in common (Kendall 1938).
    error = math.sqrt(2 * (2 * n_pairs + 5) / (9 * n_pairs * (n_pairs - 1)))
    if tau < -N_DEVIATIONS * error:
        text = "left out: its ranks contradict those at the next size"
        return Verdict(1, is_left_out=True, text=text)
    gain, error = predict_gain(before, after, scores)
    if gain < -N_DEVIATIONS * error:
        # A few more, so that the verdict may turn out to be wrong.
        text = "fewer were promoted: the scores at the next size are lower"
        return Verdict(factor**2, text=text)
    if compares_cost and agreement.cost_ratio < MIN_COST_RATIO:
        text = "left out: the next size costs hardly more"
        return Verdict(factor, is_left_out=True, text=text)
    if tau <= 0:
        text = "more were promoted: its ranks do not agree with those at the next size"
        return Verdict((factor + 1) / 2, text=text)
    return Verdict(factor)
