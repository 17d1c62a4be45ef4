"""The model of all sizes: what it predicts, what an evaluation gains, what it costs."""

import warnings

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from sklearn_iis import OnlyIf, SearchSpace
from sklearn_iis.searches._fidelity import (
    CostModel,
    FidelityModel,
    expect_gains,
    to_columns,
)

rng = np.random.RandomState(0)
POINTS = rng.uniform(size=(24, 2))
STAGES = np.arange(24) % 3


def score(points, stages):
    """Lower, and tilted, at smaller sizes."""
    rest = 2 - stages
    return 5 - (points[:, 0] - 0.3) ** 2 - 0.2 * rest + 0.1 * rest * points[:, 1]


@pytest.fixture(scope="module")
def model():
    model = FidelityModel(3)
    model.fit(POINTS, STAGES, score(POINTS, STAGES))
    return model


# The model


@pytest.mark.parametrize(
    ("n_stages", "fidelities"), [(1, [1]), (4, [0.25, 0.5, 0.75, 1])]
)
def test_the_fidelity_of_a_stage_is_its_place(n_stages, fidelities):
    np.testing.assert_allclose(FidelityModel(n_stages).fidelities, fidelities)


def test_scores_of_other_stages_tell_of_the_last(model):
    """A candidate of small sizes only is known at the last, in its units."""
    new = np.random.RandomState(1).uniform(size=(50, 2))
    mean, covariance = model.predict(new)
    for stage in range(3):
        expected = score(new, np.full(50, stage))
        np.testing.assert_allclose(mean[:, stage], expected, atol=0.05)
    assert (np.linalg.eigvalsh(covariance) > -1e-6).all()
    assert np.sqrt(covariance[:, 2, 2]).max() < np.std(score(POINTS, STAGES))


def test_a_single_stage_is_a_gaussian_process_of_the_candidates():
    model = FidelityModel(1)
    scores = np.sin(4 * POINTS[:, 0])
    model.fit(POINTS, np.zeros(24, dtype=int), scores)
    mean, covariance = model.predict(POINTS)
    assert covariance.shape == (24, 1, 1)
    np.testing.assert_allclose(mean[:, 0], scores, atol=0.05)


def test_what_is_under_way_comes_out_as_predicted():
    """So the mean stays, and there is less to learn there."""
    model = FidelityModel(3)
    few = slice(0, 9)
    model.fit(POINTS[few], STAGES[few], score(POINTS[few], STAGES[few]))
    new = np.array([[0.9, 0.1]])
    mean, covariance = model.predict(new)
    model.expect(new, np.array([0]))
    mean_after, covariance_after = model.predict(new)
    np.testing.assert_allclose(mean_after, mean, atol=1e-4)
    assert covariance_after[0, 0, 0] < covariance[0, 0, 0]
    assert covariance_after[0, 2, 2] < covariance[0, 2, 2]


def test_equal_scores_are_no_error():
    model = FidelityModel(2)
    model.fit(POINTS[:3], np.array([0, 1, 0]), np.ones(3))
    np.testing.assert_allclose(model.predict(POINTS)[0], 1, rtol=1e-4)


@pytest.mark.parametrize("unit", [1e-30, 1e30])
def test_units_do_not_matter(unit):
    """Predictions, noise and gains are in those of the scores."""

    def rate(unit):
        model = FidelityModel(3)
        model.fit(POINTS, STAGES, unit * score(POINTS, STAGES))
        mean, covariance = model.predict(POINTS)
        return expect_gains(mean, covariance, model.noise, 5 * unit) / unit

    np.testing.assert_allclose(rate(unit), rate(1.0), rtol=1e-3, atol=1e-9)


def test_equal_scores_that_are_rounded_are_equal():
    model = FidelityModel(1)
    model.fit(POINTS, np.zeros(24, dtype=int), np.full(24, 0.1))
    mean, _ = model.predict(POINTS)
    np.testing.assert_allclose(mean, 0.1, rtol=1e-6)
    assert model.noise > 1e-9


def test_the_noise_is_that_of_the_scores():
    """Scores without noise are not taken to have some, and the other way round."""
    rng = np.random.RandomState(3)
    points = rng.uniform(size=(60, 2))
    stages = np.arange(60) % 3
    exact = score(points, stages)
    deviations = []
    for noise in (0.0, 0.05):
        model = FidelityModel(3)
        model.fit(points, stages, exact + noise * rng.standard_normal(60))
        deviations.append(np.sqrt(model.noise))
    assert deviations[0] < 1e-3
    assert 0.03 < deviations[1] < 0.07


def test_torch_is_left_as_it_was():
    torch.manual_seed(3)
    before = torch.get_rng_state(), torch.get_default_dtype(), torch.get_num_threads()
    with warnings.catch_warnings(action="error"):
        model = FidelityModel(2)
        model.fit(POINTS[:6], STAGES[:6] % 2, score(POINTS[:6], STAGES[:6]))
        mean, _ = model.predict(POINTS)
    assert mean.dtype == np.float64
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (torch.get_default_dtype(), torch.get_num_threads()) == before[1:]


# What an evaluation gains


def improve(mean, deviation, best):
    """The expected improvement of a normal distribution, by its integral."""
    density = stats.norm(mean, deviation).pdf
    top = mean + 10 * deviation
    return integrate.quad(lambda v: (v - best) * density(v), best, max(best, top))[0]


@pytest.mark.parametrize("best", [-0.5, 0.2, 1.0])
def test_gains(best):
    """Of the last stage the expected improvement; of others what they tell of it."""
    mean = np.array([[-0.3, 0.1]])
    covariance = np.array([[[0.5, 0.3], [0.3, 0.4]]])
    gains = expect_gains(mean, covariance, 0.01, best)
    last = improve(0.1, 0.4 / np.sqrt(0.41), best)
    first = improve(0.1, 0.3 / np.sqrt(0.51), best) - max(0.1 - best, 0)
    np.testing.assert_allclose(gains, [[first, last]], atol=1e-7)


def test_a_size_that_says_nothing_gains_nothing():
    covariance = np.array([[[0.5, 0.0], [0.0, 0.4]]])
    (gains,) = expect_gains(np.array([[3.0, 1.0]]), covariance, 0.01, 0.5)
    assert gains[0] == pytest.approx(0, abs=1e-5)
    assert gains[1] > 0.5


# What it costs


def test_costs_are_in_proportion_to_the_work_at_first():
    np.testing.assert_allclose(
        CostModel([1, 4, 16]).predict(POINTS[:2]), [[1, 4, 16]] * 2
    )


def test_costs_follow_a_power_of_the_work_and_the_hyperparameters():
    work = np.array([1.0, 4.0, 16.0])
    points = np.random.RandomState(2).uniform(size=(300, 2))
    stages = np.arange(300) % 3

    def measure(points, stages):
        return 0.5 * work[stages] ** 0.7 * np.exp(2 * points[:, 0])

    model = CostModel(work)
    model.fit(points, stages, measure(points, stages))
    expected = np.stack([measure(POINTS, np.full(24, s)) for s in range(3)], axis=1)
    np.testing.assert_allclose(model.predict(POINTS), expected, rtol=0.1)


def test_a_stage_that_was_not_measured_costs_as_much_more_as_it_has_work():
    model = CostModel([1, 4])
    model.fit(POINTS, np.zeros(24, dtype=int), np.full(24, 0.3))
    np.testing.assert_allclose(model.predict(POINTS), [[0.3, 1.2]] * 24)


# Columns


def test_columns():
    space = SearchSpace(
        {
            "x": stats.uniform(0, 10),
            "n": [1, 2, 3, 4],
            "kind": ["a", "b", "c"],
            "only": OnlyIf(stats.uniform(0, 1), "kind", ["b"]),
        }
    )
    candidates = [
        space.encode({"x": 2.5, "n": 1, "kind": "b", "only": 0.2}),
        space.encode({"x": 10.0, "n": 4, "kind": "c"}),
    ]
    expected = [[0.25, 0.125, 0, 1, 0, 0.2], [1.0, 0.875, 0, 0, 1, 0.5]]
    np.testing.assert_allclose(to_columns(space, candidates), expected)
