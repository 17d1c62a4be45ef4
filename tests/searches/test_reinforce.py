import math

import numpy as np
import pytest
from scipy import stats

from sklearn_iis import PerLayer, SearchSpace
from sklearn_iis.searches._reinforce import DECAY, Baseline, PolicySampler, softmax
from sklearn_iis.testing import SPACE, X, y
from tests.searches.test_base import make_search

CHOICES = {"kind": ["a", "b", "c"], "n_layers": [1, 2, 3]}


def make_sampler(space=CHOICES, **settings):
    return PolicySampler(
        SearchSpace(space), random_state=np.random.RandomState(0), **settings
    )


def test_logits_move_along_the_gradient_of_the_log_probability():
    """Compared with finite differences."""
    sampler = make_sampler({"kind": ["a", "b", "c"]}, learning_rate=0.5)
    before = np.array([0.3, -0.2, 0.1])
    sampler.logits["kind"] = before.copy()
    sampler.tell({"kind": 0}, 1.0)
    np.testing.assert_array_equal(sampler.logits["kind"], before)  # the baseline
    sampler.tell({"kind": 2}, 3.0)
    eps = 1e-6
    gradient = [
        (math.log(softmax(before + step)[2]) - math.log(softmax(before - step)[2]))
        / (2 * eps)
        for step in eps * np.eye(3)
    ]
    # It is as far from the baseline as usual.
    np.testing.assert_allclose(
        sampler.logits["kind"], before + 0.5 * np.array(gradient), rtol=1e-6
    )


def test_candidates_are_drawn_with_the_probabilities_of_the_policy():
    sampler = make_sampler({"kind": ["a", "b", "c"]})
    sampler.logits["kind"] = np.log([0.7, 0.2, 0.1])
    kinds = [sampler.ask()["kind"] for _ in range(2000)]
    shares = np.bincount(kinds) / 2000
    np.testing.assert_allclose(shares, [0.7, 0.2, 0.1], atol=0.03)


def test_it_settles_on_the_better_choices():
    sampler = make_sampler()
    for _ in range(200):
        codes = sampler.ask()
        sampler.tell(codes, -abs(codes["kind"] - 1) - abs(codes["n_layers"] - 2))
    assert softmax(sampler.logits["kind"])[1] > 0.9
    assert softmax(sampler.logits["n_layers"])[2] > 0.9


def test_nothing_is_chosen_or_learned_that_does_not_exist():
    space = {"n_layers": [1, 2, 3], "widths": PerLayer(["s", "l"], depth="n_layers")}
    sampler = make_sampler(space)
    sampler.tell({"n_layers": 1, "widths[0]": 0, "widths[1]": 1}, 0.0)
    sampler.tell({"n_layers": 1, "widths[0]": 0, "widths[1]": 1}, 1.0)
    assert not sampler.logits["widths[2]"].any()
    assert sampler.logits["widths[1]"][1] > 0 > sampler.logits["widths[1]"][0]
    for _ in range(20):
        codes = sampler.ask()
        assert codes == sampler.space.active(codes)


def test_numbers_are_cells_of_quantiles():
    space = {"rate": stats.loguniform(1e-4, 1), "degree": stats.randint(0, 10)}
    sampler = make_sampler(space, n_cells=4)
    assert [len(logits) for logits in sampler.logits.values()] == [4, 4]
    sampler.logits = {name: np.array([0, 50.0, 0, 0]) for name in space}
    proposals = [sampler.ask() for _ in range(200)]
    rates = [codes["rate"] for codes in proposals]
    assert 0.25 <= min(rates) < 0.27
    assert 0.48 < max(rates) <= 0.5
    assert {codes["degree"] for codes in proposals} == {2, 3, 4}
    # Choices without an order are never put together.
    assert len(make_sampler({"kind": list("abcdef")}, n_cells=2).logits["kind"]) == 6


def test_scores_are_compared_with_a_moving_average():
    baseline = Baseline()
    assert baseline.compare(1.0) == 0
    assert baseline.compare(3.0) == 1  # the first distance is the usual one
    assert baseline.mean == 2
    assert baseline.compare(6.0) == pytest.approx(4 / 3)  # 2 and 4 are 3 on average
    assert baseline.mean == pytest.approx(10 / 3)
    for _ in range(50):
        baseline.compare(0.0)
    mean = baseline.mean
    baseline.compare(1.0)
    assert baseline.mean == pytest.approx(DECAY * mean + (1 - DECAY))


def test_failures_count_as_the_worst_so_far():
    baseline, other = Baseline(), Baseline()
    assert baseline.compare(math.nan) == 0
    for score in (2.0, 1.0, 4.0):
        assert baseline.compare(score) == other.compare(score)
    assert baseline.compare(math.nan) == other.compare(1.0)


def test_the_scale_of_scores_makes_no_difference():
    def run(transform):
        sampler = make_sampler()
        proposals = []
        for _ in range(40):
            proposals.append(sampler.ask())
            sampler.tell(proposals[-1], transform(proposals[-1]["kind"]))
        return proposals

    assert run(float) == run(lambda kind: 1024.0 * kind - 512)


def test_equal_scores_teach_nothing():
    sampler = make_sampler()
    for _ in range(5):
        sampler.tell(sampler.ask(), 0.5)
    assert not any(logits.any() for logits in sampler.logits.values())


def test_it_learns_from_initial_candidates():
    space = {"kind": ["a", "b", "c"], "rate": SPACE["rate"]}
    initial = SearchSpace(space).sample(20, random_state=1)
    settings = {"n_iter": 30, "initial_candidates": initial}
    search = make_search("reinforce", space, **settings).fit(X, y)
    assert search.candidates_[:20] == initial
    later = [codes["kind"] for codes in search.candidates_[20:]]
    assert later.count(1) > 10 / 3


@pytest.mark.parametrize("setting", [{"learning_rate": 0}, {"n_cells": 1}])
def test_bad_settings(setting):
    (name,) = setting
    with pytest.raises(ValueError, match=f"The '{name}' parameter"):
        make_search("reinforce", **setting).fit(X, y)
