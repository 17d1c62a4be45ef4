"""The reference implementation, by its package, and how far ours is from it."""

import logging
import sys

import numpy as np
import pytest

from sklearn_iis.inspection import functional_anova
from sklearn_iis.inspection.anova._fanova import fanova


def linear(rng):
    codes = rng.uniform(size=(500, 3))
    return codes, codes @ [4, 2, 1]


def product(rng):
    codes = rng.uniform(size=(600, 2))
    return codes, codes[:, 0] * codes[:, 1]


def maximum(rng):
    codes = rng.uniform(size=(500, 2))
    return codes, codes.max(axis=1)


def exponential(rng):
    codes = rng.uniform(size=(300, 1))
    return codes, np.exp(2 * codes[:, 0])


def step(rng):
    codes = rng.uniform(size=(200, 6))
    return codes, np.where(codes[:, 1] > 0.7, 1.0, 0.2 * (codes[:, 4] > 0.3))


@pytest.mark.parametrize("data", [linear, product, maximum, exponential, step])
def test_agreement(data):
    pytest.importorskip("fanova", reason="needs the extra fanova")
    codes, scores = data(np.random.RandomState(0))
    reference = fanova(codes, scores, max_order=2, n_estimators=16, random_state=0)
    ours = functional_anova(codes, scores, random_state=0)
    assert reference.subsets == ours.subsets
    assert reference.importances.shape == (len(ours.subsets), 16)
    np.testing.assert_allclose(
        ours.importances_mean, reference.importances_mean, atol=0.03
    )
    assert ours.total_variance == pytest.approx(reference.total_variance, rel=0.15)
    np.testing.assert_allclose(
        reference.importances.mean(axis=1), reference.importances_mean
    )


def exclusive_or(codes):
    return 1.0 * ((codes[:, 0] > 0.5) ^ (codes[:, 1] > 0.5)) + codes[:, 2]


def peak(codes):
    """One good region, as learning rates have."""
    return np.exp(-((codes[:, 0] - 0.6) ** 2) / 0.05) + 0.3 * codes[:, 1]


@pytest.mark.parametrize(
    ("function", "n_columns", "main"),
    [
        # Variances of the terms: 1/4 of the exclusive or, 5/64 of 4 levels.
        (exclusive_or, 4, np.array([0, 0, 5, 0]) / 21),
        (peak, 2, None),
    ],
)
def test_where_they_differ_ours_is_nearer_to_the_truth(function, n_columns, main):
    """Its trees step at random between two levels, and follow every score."""
    pytest.importorskip("fanova", reason="needs the extra fanova")
    codes = (np.random.RandomState(0).randint(4, size=(300, n_columns)) + 0.5) / 4
    if main is None:
        codes = np.random.RandomState(0).uniform(size=(300, n_columns))
        grid = (np.arange(1000) + 0.5) / 1000
        middle = np.full(1000, 0.5)
        main = [
            function(np.stack(columns, axis=1)).var()
            for columns in ((grid, middle), (middle, grid))
        ]
        main = np.array(main) / sum(main)
    arguments = {"max_order": 1, "random_state": 0}
    reference = fanova(codes, function(codes), n_estimators=16, **arguments)
    ours = functional_anova(codes, function(codes), **arguments)
    error, reference_error = (
        np.abs(result.importances_mean - main).max() for result in (ours, reference)
    )
    assert error < 0.03
    assert reference_error > error


def test_package_and_numpy_are_shielded_from_each_other(capfd):
    pytest.importorskip("fanova", reason="needs the extra fanova")
    handlers, level = logging.root.handlers[:], logging.root.level
    codes = np.random.RandomState(0).uniform(size=(30, 12))
    codes[::3, 1] = np.nan
    arguments = {"max_order": 1, "n_estimators": 3, "random_state": 0}
    result = fanova(codes, codes[:, 10], **arguments)
    # The tenth column comes after the second one.
    assert result.importances_mean.argmax() == 10
    assert not hasattr(np, "float")
    assert logging.root.handlers == handlers
    assert logging.root.level == level
    assert capfd.readouterr() == ("", "")
    again = fanova(codes, codes[:, 10], **arguments)
    np.testing.assert_array_equal(again.importances, result.importances)
    assert not fanova(codes, np.ones(30), **arguments).importances.any()
    (share,) = fanova(codes[:, [10]], codes[:, 10], **arguments).importances_mean
    assert share == pytest.approx(1)


def test_package_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "fanova.fanova", None)
    codes = np.random.RandomState(0).uniform(size=(30, 2))
    with pytest.raises(ImportError, match="needs the extra `fanova`"):
        fanova(codes, codes[:, 0], max_order=1, n_estimators=3, random_state=0)


def test_package_was_built_with_another_swig(monkeypatch):
    pytest.importorskip("fanova", reason="needs the extra fanova")
    from fanova.fanova import fANOVA

    def fail(self, dims):
        raise AttributeError("'SwigPyObject' object has no attribute 'mean'")

    monkeypatch.setattr(fANOVA, "quantify_importance", fail)
    codes = np.random.RandomState(0).uniform(size=(30, 2))
    with pytest.raises(ImportError, match=r"another SWIG than 4\.0.*swig==4\.0\.2"):
        fanova(codes, codes[:, 0], max_order=1, n_estimators=3, random_state=0)
