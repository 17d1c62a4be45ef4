"""Verdicts of a ladder on sizes, by candidates that were evaluated at two."""

import numpy as np
import pytest
from scipy.stats import kendalltau, linregress

from sklearn_iis._results import predict_gain
from sklearn_iis.execution._record import Record, Row
from sklearn_iis.searches._verdict import MIN_CANDIDATES, judge


def make_rows(scores, seconds=1.0):
    rows = [Row({"x": i}, 1) for i in range(len(scores))]
    for row, score in zip(rows, scores, strict=True):
        row.records = {0: Record(float(score), fit_time=seconds)}
    return rows


def make_pairs(before, after, seconds=(1.0, 3.0)):
    rows = make_rows(before, seconds[0]), make_rows(after, seconds[1])
    return list(zip(*rows, strict=True))


def judge_scores(before, after, scores=None, *, seconds=(1.0, 3.0), cost=False):
    scores = before if scores is None else scores
    pairs = make_pairs(before, after, seconds)
    return judge(pairs, scores, 3, compares_cost=cost)


RISING = np.arange(10.0)


def test_sizes_that_agree_are_used():
    assert judge_scores(RISING, RISING + 1) == (3, False, "used")
    assert judge_scores(RISING, RISING) == (3, False, "used")


def test_nothing_is_said_of_few_candidates():
    few = RISING[: MIN_CANDIDATES - 1]
    assert judge_scores(few, -few, cost=True, seconds=(1, 1)) == (3, False, "used")


def test_a_size_whose_ranks_contradict_the_next_is_left_out():
    factor, is_left_out, text = judge_scores(RISING, -RISING)
    assert (factor, is_left_out) == (1, True)
    assert text == "left out: its ranks contradict those at the next size"


def test_more_are_promoted_from_a_size_whose_ranks_do_not_agree():
    """Tau is a little below 0, as it is by chance."""
    after = np.array([5, 6, 7, 8, 9, 0, 1, 2, 3, 4.0])
    assert -0.3 < kendalltau(RISING, after).statistic < 0
    factor, is_left_out, text = judge_scores(RISING, after)
    assert (factor, is_left_out) == (2, False)
    assert text == (
        "more were promoted: its ranks do not agree with those at the next size"
    )


def test_fewer_are_promoted_to_a_size_with_lower_scores():
    factor, is_left_out, text = judge_scores(RISING, RISING - 0.5)
    assert (factor, is_left_out) == (9, False)
    assert text == "fewer were promoted: the scores at the next size are lower"


def test_scores_that_are_all_the_same_say_nothing():
    assert judge_scores(np.ones(12), np.ones(12)) == (3, False, "used")


@pytest.mark.parametrize(
    ("cost", "ratio", "is_left_out"),
    [(True, 1.2, True), (True, 1.3, False), (False, 1.0, False)],
)
def test_a_size_that_is_hardly_cheaper_is_left_out(cost, ratio, is_left_out):
    """Those that were evaluated there are promoted as before."""
    verdict = judge_scores(RISING, RISING, cost=cost, seconds=(1.0, ratio))
    assert verdict[:2] == (3, is_left_out)


def test_the_gain_is_that_of_a_line_at_the_mean_of_all():
    rng = np.random.default_rng(0)
    before = rng.normal(1, 1, 12)
    after = 0.7 * before + rng.normal(0, 0.3, 12)
    scores = rng.normal(0, 1, 40)
    line = linregress(before, after)
    gain, error = predict_gain(make_rows(before), make_rows(after), scores)
    at_mean = line.intercept + line.slope * scores.mean()
    assert gain == pytest.approx(at_mean - scores.mean())
    # The textbook's standard error of the line at a point.
    residuals = after - line.intercept - line.slope * before
    variance = (residuals**2).sum() / 10
    spread = ((before - before.mean()) ** 2).sum()
    at = 1 / 12 + (scores.mean() - before.mean()) ** 2 / spread
    assert error == pytest.approx(np.sqrt(variance * at))


@pytest.mark.parametrize(("gain", "most", "least"), [(0.0, 0.1, 0.0), (-1.0, 1.0, 0.5)])
def test_the_best_by_chance_are_no_loss(gain, most, least):
    """Of 60 the best 20 are promoted, and fall back at the next size, being the best.

    With noise half as large as what candidates differ by, their mean falls by a third
    of a standard deviation though nothing is lost.
    """
    rng = np.random.default_rng(0)
    n_fewer, n_left_out, differences = 0, 0, []
    for _ in range(200):
        quality = rng.normal(size=60)
        scores = quality + rng.normal(0, 0.5, 60)
        best = np.argsort(-scores)[:20]
        later = quality[best] + gain + rng.normal(0, 0.5, 20)
        differences.append(np.mean(later - scores[best]))
        text = judge_scores(scores[best], later, scores).text
        n_fewer += text.startswith("fewer")
        n_left_out += text.startswith("left out")
    assert np.mean(differences) < gain - 0.15
    assert least <= n_fewer / 200 <= most
    assert n_left_out <= 4
