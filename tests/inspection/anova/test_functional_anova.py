"""Functional ANOVA, compared with closed forms and with its own definition."""

from itertools import combinations

import numpy as np
import pytest
from sklearn.tree import DecisionTreeRegressor
from sklearn.utils import check_random_state

from sklearn_iis.inspection import functional_anova
from sklearn_iis.inspection.anova._functional_anova import (
    MarginalForest,
    _Boxes,
    _fit_corrected_forest,
)

SOBOL_A = np.array([0, 1, 4.5, 9, 99, 99])


def ishigami(codes):
    z = np.pi * (2 * codes - 1)
    return (
        np.sin(z[:, 0])
        + 7 * np.sin(z[:, 1]) ** 2
        + 0.1 * z[:, 2] ** 4 * np.sin(z[:, 0])
    )


def ishigami_variances():
    first = 0.5 * (1 + 0.1 * np.pi**4 / 5) ** 2
    return {(0,): first, (1,): 49 / 8, (0, 2): 8 * 0.01 * np.pi**8 / 225}


def sobol_g(codes):
    return np.prod((np.abs(4 * codes - 2) + SOBOL_A) / (1 + SOBOL_A), axis=1)


def sobol_g_variances():
    main = 1 / 3 / (1 + SOBOL_A) ** 2
    # All orders, as they add up to the total.
    return {
        subset: np.prod(main[list(subset)])
        for order in range(1, 7)
        for subset in combinations(range(6), order)
    }


def additive(codes):
    return codes @ [4, 3, 2, 1, 0, 0]


def additive_variances():
    return {(i,): weight**2 / 12 for i, weight in enumerate([4, 3, 2, 1, 0, 0])}


@pytest.mark.parametrize(
    ("function", "variances", "n_columns"),
    [
        (ishigami, ishigami_variances(), 3),
        (sobol_g, sobol_g_variances(), 6),
        (additive, additive_variances(), 6),
    ],
)
def test_closed_forms(function, variances, n_columns):
    codes = np.random.RandomState(0).uniform(size=(2000, n_columns))
    result = functional_anova(codes, function(codes), random_state=0)
    total = sum(variances.values())
    expected = [variances.get(subset, 0) / total for subset in result.subsets]
    np.testing.assert_allclose(result.importances_mean, expected, atol=0.03)
    assert result.total_variance == pytest.approx(total, rel=0.1)


def test_noise_is_not_taken_for_interactions():
    """The shares of a linear function, whose scores have half its spread of noise."""
    rng = np.random.RandomState(0)
    codes = rng.uniform(size=(500, 4))
    scores = codes @ [3, 2, 1, 0]
    scores += 0.5 * scores.std() * rng.normal(size=len(scores))
    result = functional_anova(codes, scores, random_state=0)
    main, pairs = result.importances_mean[:4], result.importances_mean[4:]
    np.testing.assert_allclose(main, np.array([9, 4, 1, 0]) / 14, atol=0.07)
    assert pairs.max() < 0.03


def corners(*levels, repeats=20):
    """Every combination of the levels of each column, many times."""
    grid = np.stack([m.ravel() for m in np.meshgrid(*levels, indexing="ij")], axis=1)
    return np.repeat(grid, repeats, axis=0)


def test_two_leaves_by_hand():
    """One step at 0.3, and a column that is constant: 0 below and 1 above it."""
    codes = corners([0.1, 0.5], [0.5])
    result = functional_anova(codes, codes[:, 0] > 0.3, random_state=0)
    assert result.subsets == [(0,), (1,), (0, 1)]
    np.testing.assert_allclose(result.importances_mean, [1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(result.importances_std, 0, atol=1e-12)
    assert result.total_variance == pytest.approx(0.3 * 0.7, rel=1e-7)


def test_three_leaves_by_hand():
    """0 in the first leaf, 1 and 3 in two leaves beyond a step at 0.5.

    The mean is 1; the first column is 0 and 2 on average, so -1 and 1 beyond the mean;
    the second one 0.5 and 1.5, so -0.5 and 0.5; squares of the values are 2.5 on
    average, which leaves 2.5 - 1 - 1 - 0.25 for the interaction.
    """
    codes = corners([0.25, 0.75], [0.25, 0.75])
    scores = np.where(codes[:, 0] < 0.5, 0, np.where(codes[:, 1] < 0.5, 1, 3))
    result = functional_anova(codes, scores, random_state=0)
    expected = np.array([1, 0.25, 0.25]) / 1.5
    np.testing.assert_allclose(result.importances_mean, expected, rtol=1e-12)
    assert result.total_variance == pytest.approx(1.5)

    forest = MarginalForest(codes, scores, n_estimators=4, random_state=0)
    mean, std = forest.marginal((0,), [np.array([0, 0.5, 0.51, 1])])
    np.testing.assert_allclose(mean, [0, 0, 2, 2], atol=1e-12)
    np.testing.assert_allclose(std, 0, atol=1e-12)
    mean, _ = forest.marginal((1, 0), [np.array([0.1, 0.9]), np.array([0.2, 0.7])])
    np.testing.assert_allclose(mean, [[0, 1], [0, 3]], atol=1e-12)


def test_leaves_of_a_tree():
    codes = np.array([[0.2, 0.2], [0.6, 0.2], [0.6, 0.8]])
    tree = DecisionTreeRegressor(random_state=0).fit(codes, [0, 1, 3])
    boxes = _Boxes(tree.tree_)
    assert len(boxes.values) == 3
    assert np.prod(boxes.widths, axis=1).sum() == pytest.approx(1)
    for point in np.random.RandomState(0).uniform(size=(50, 2)):
        inside = ((boxes.low < point) & (point <= boxes.high)).all(axis=1)
        assert boxes.values[inside].tolist() == tree.predict([point]).tolist()


def test_equals_the_definition_by_brute_force():
    """Means over the full factorial of cells, up to the interaction of three."""
    rng = np.random.RandomState(0)
    levels = [[0.1, 0.3, 0.9], [0.25, 0.75], [0.2, 0.4, 0.6, 0.7]]
    codes = corners(*levels, repeats=3)
    scores = rng.normal(size=24)[np.repeat(np.arange(24), 3)]
    scores = scores + 0.3 * rng.normal(size=len(scores))
    result = functional_anova(
        codes, scores, max_order=3, n_estimators=5, random_state=1
    )
    forests = _fit_corrected_forest(codes, scores, 5, check_random_state(1))

    # Steps are halfway between any two levels.
    edges = [
        np.unique([0, 1] + [(a + b) / 2 for a, b in combinations(column, 2)])
        for column in levels
    ]
    middles = np.meshgrid(*[(e[1:] + e[:-1]) / 2 for e in edges], indexing="ij")
    widths = [np.diff(e) for e in edges]
    points = np.stack([m.ravel() for m in middles], axis=1)
    values = sum(forest.predict(points) for forest in forests)
    values = values.reshape(middles[0].shape)
    weights = np.einsum("i,j,k->ijk", *widths)
    total = (
        np.average(values**2, weights=weights)
        - np.average(values, weights=weights) ** 2
    )

    variances = {}
    for subset in result.subsets:
        others = tuple(i for i in range(3) if i not in subset)
        marginal = (values * weights).sum(axis=others) / weights.sum(axis=others)
        measure = weights.sum(axis=others)
        closed = (
            np.average(marginal**2, weights=measure)
            - np.average(values, weights=weights) ** 2
        )
        variances[subset] = closed - sum(
            variances[part]
            for order in range(1, len(subset))
            for part in combinations(subset, order)
        )
    expected = [variances[subset] / total for subset in result.subsets]
    np.testing.assert_allclose(result.importances_mean, expected, atol=1e-6)
    assert result.importances_mean.sum() == pytest.approx(1)
    assert result.total_variance == pytest.approx(total, rel=1e-6)


def test_marginals_are_means_of_the_prediction():
    rng = np.random.RandomState(0)
    codes = rng.uniform(size=(300, 3))
    scores = 10 + codes @ [3, 2, 1] + 4 * codes[:, 0] * codes[:, 1]
    forest = MarginalForest(codes, scores, n_estimators=16, random_state=0)
    forests = _fit_corrected_forest(
        codes, scores - scores.mean(), 16, check_random_state(0)
    )
    x, y = np.array([0.2, 0.8]), np.array([0.1, 0.5, 0.9])
    mean, std = forest.marginal((2, 0), [x, y])
    assert mean.shape == std.shape == (2, 3)
    points = rng.uniform(size=(4000, 3))
    for i, j in np.ndindex(2, 3):
        points[:, 2], points[:, 0] = x[i], y[j]
        prediction = scores.mean() + sum(f.predict(points) for f in forests)
        assert mean[i, j] == pytest.approx(prediction.mean(), abs=0.05)
    slope = (mean[:, 2] - mean[:, 0]) / 0.8
    np.testing.assert_allclose(slope, 3 + 4 * 0.5, atol=0.5)


def test_missing_values_are_neither_an_error_nor_credited():
    """A layer matters where it exists: y = layer if depth > 0.5, and 0 otherwise.

    Over the cube, layer * [depth > 0.5] has a mean of 1/4; the layer alone explains the
    variance of layer / 2, which is 1/48, and as much together with the depth.
    """
    rng = np.random.RandomState(0)
    codes = rng.uniform(size=(2000, 3))
    exists = codes[:, 0] > 0.5
    scores = np.where(exists, codes[:, 1], 0)
    codes[~exists, 1:] = np.nan  # the last column never matters
    result = functional_anova(codes, scores, random_state=0)
    shares = dict(zip(result.subsets, result.importances_mean, strict=True))
    total = 1 / 6 - 1 / 16
    assert shares[0,] == pytest.approx((1 / 16) / total, abs=0.03)
    assert shares[1,] == pytest.approx((1 / 48) / total, abs=0.03)
    assert shares[0, 1] == pytest.approx((1 / 48) / total, abs=0.03)
    assert shares[2,] < 0.005
    assert shares[0, 2] < 0.005


def test_whether_a_value_exists_is_not_credited_to_it():
    """The depth explains all, though the missing values of a layer tell it as well."""
    rng = np.random.RandomState(0)
    codes = rng.uniform(size=(200, 2))
    scores = (codes[:, 0] > 0.5).astype(float)
    codes[codes[:, 0] < 0.5, 1] = np.nan
    result = functional_anova(codes, scores, random_state=0)
    np.testing.assert_allclose(result.importances_mean, [1, 0, 0], atol=0.03)


def test_nothing_varies():
    codes = np.random.RandomState(0).uniform(size=(20, 2))
    codes[:, 1] = 0.3
    constant = functional_anova(codes, np.ones(20), n_estimators=4, random_state=0)
    assert constant.total_variance == 0
    assert not constant.importances.any()
    result = functional_anova(codes, codes[:, 0], n_estimators=4, random_state=0)
    assert not result.importances[1:].any()
    assert result.importances_mean[0] == pytest.approx(1, abs=0.05)


def test_result():
    codes = np.random.RandomState(0).uniform(size=(50, 3))
    scores = codes.sum(axis=1)
    before = codes.copy(), scores.copy(), np.random.get_state()[1].tolist()  # noqa: NPY002
    results = [
        functional_anova(codes, scores, max_order=9, n_estimators=7, random_state=seed)
        for seed in (0, np.random.RandomState(0), 1)
    ]
    result = results[0]
    assert result.subsets[-1] == (0, 1, 2)
    assert result.importances.shape == (7, 7)
    np.testing.assert_array_equal(
        result.importances.mean(axis=1), result.importances_mean
    )
    np.testing.assert_array_equal(
        result.importances.std(axis=1), result.importances_std
    )
    np.testing.assert_array_equal(result.importances, results[1].importances)
    assert not np.array_equal(result.importances, results[2].importances)
    np.testing.assert_array_equal(codes, before[0])
    np.testing.assert_array_equal(scores, before[1])
    assert np.random.get_state()[1].tolist() == before[2]  # noqa: NPY002


def test_few_trees_are_enough_to_run():
    """Most observations have no tree that was not fitted to them."""
    codes = np.random.RandomState(0).uniform(size=(30, 2))
    result = functional_anova(codes, codes[:, 0], n_estimators=1, random_state=0)
    assert result.importances_mean.argmax() == 0
    assert result.importances_mean.sum() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codes": np.full((20, 2), 1.5)}, "from 0 to 1, got 1.5"),
        ({"codes": np.full((20, 2), -0.1)}, "from 0 to 1, got -0.1"),
        ({"codes": np.full((20, 2), np.inf)}, "infinity"),
        ({"codes": np.full(20, 0.5)}, "Expected 2D array"),
        ({"scores": np.full(20, np.nan)}, "scores contains NaN"),
        ({"scores": np.ones((20, 2))}, r"one dimension, got shape \(20, 2\)"),
        ({"scores": np.ones(19)}, "inconsistent numbers of samples"),
        (
            {"codes": np.full((9, 2), 0.5), "scores": np.ones(9)},
            "9 observations are too few for functional ANOVA, at least 10",
        ),
        ({"max_order": 0}, "max_order"),
        ({"n_estimators": 0}, "n_estimators"),
    ],
)
def test_bad_input(change, message):
    arguments = {"codes": np.full((20, 2), 0.5), "scores": np.ones(20)} | change
    with pytest.raises(ValueError, match=message):
        functional_anova(**arguments)


def test_a_column_that_no_point_has_explains_nothing():
    rng = np.random.RandomState(0)
    codes = np.c_[rng.uniform(size=(15, 1)), np.full((15, 2), np.nan)]
    scores = codes[:, 0] + 0.3 * rng.normal(size=15)
    result = functional_anova(codes, scores, random_state=0)
    of_the_others = [i for i, subset in enumerate(result.subsets) if subset != (0,)]
    assert not result.importances[of_the_others].any()
    assert result.importances_mean[0] == pytest.approx(1, abs=0.1)


def test_interaction_of_three():
    """A product of three signs, which none of fewer columns explains."""
    codes = corners(*[[0.25, 0.75]] * 3)
    scores = np.prod(np.sign(codes - 0.5), axis=1)
    result = functional_anova(codes, scores, max_order=3, random_state=0)
    np.testing.assert_allclose(result.importances_mean, [0] * 6 + [1], atol=1e-9)
    # On continuous columns, a coarser grid: what remains of 1 is lost in its cells.
    codes = np.random.RandomState(0).uniform(size=(2000, 3))
    smooth = np.prod(codes - 0.5, axis=1)
    result = functional_anova(codes, smooth, max_order=3, random_state=0)
    assert result.importances_mean[-1] > 0.75
    assert result.importances_mean[:-1].max() < 0.05


def test_blocks_of_subsets(monkeypatch):
    codes = np.random.RandomState(0).uniform(size=(40, 4))
    scores = codes @ [1, 2, 3, 4]
    arguments = {"n_estimators": 4, "random_state": 0}
    whole = functional_anova(codes, scores, **arguments)
    monkeypatch.setattr("sklearn_iis.inspection.anova._functional_anova.MAX_SUBSETS", 4)
    blocks = functional_anova(codes, scores, **arguments)
    np.testing.assert_array_equal(blocks.importances, whole.importances)


def test_score_out_of_bag():
    rng = np.random.RandomState(0)
    codes = rng.uniform(size=(200, 3))
    signal, noise = codes @ [3, 2, 1], rng.normal(size=200)
    assert functional_anova(codes, signal, random_state=0).oob_score > 0.9
    assert functional_anova(codes, noise, random_state=0).oob_score < 0.1
    mixed = signal + signal.std() * noise
    assert 0.1 < functional_anova(codes, mixed, random_state=0).oob_score < 0.5
