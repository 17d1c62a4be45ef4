"""Distributions of Optuna for our dimensions."""

import pytest
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from scipy.stats import expon, lognorm, loguniform, randint, uniform
from sklearn.metrics import accuracy_score
from sklearn.tree import DecisionTreeClassifier

from sklearn_iis._optuna import value_distribution
from sklearn_iis.space import make_dimension
from sklearn_iis.storage import describe


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        (uniform(2, 3), FloatDistribution(2, 5)),
        (loguniform(0.5, 8), FloatDistribution(0.5, 8, log=True)),
        (randint(3, 9), IntDistribution(3, 8)),
        ([3, 4, 5], IntDistribution(3, 5)),
        ([16, 32, 64], CategoricalDistribution([16, 32, 64])),
        ([0.1, None], CategoricalDistribution([0.1, None])),
        ([True, False], CategoricalDistribution([True, False])),
        (["a", "b"], CategoricalDistribution(["a", "b"])),
        ([(8, 16), (16,)], CategoricalDistribution(["[8, 16]", "[16]"])),
        ([(8,), None], CategoricalDistribution(["[8]", None])),
        (
            [DecisionTreeClassifier(max_depth=1), DecisionTreeClassifier()],
            CategoricalDistribution(
                ["DecisionTreeClassifier(max_depth=1)", "DecisionTreeClassifier()"]
            ),
        ),
        (
            [(1, 2), "[1, 2]"],
            CategoricalDistribution(["0: [1, 2]", "1: '[1, 2]'"]),
        ),
        ([accuracy_score], None),
        ([1, [2, 3]], CategoricalDistribution([1, "[2, 3]"])),
    ],
    ids=[
        *("uniform", "log", "randint", "range", "ints", "none", "bools", "strings"),
        *("tuples", "tuple and none", "estimators", "repeated", "function"),
        "unhashable",
    ],
)
def test_choices_are_shown_so_that_they_can_be_read(values, shown):
    if shown is None:
        shown = CategoricalDistribution(
            ["sklearn.metrics._classification.accuracy_score"]
        )
    distribution = value_distribution(make_dimension("name", values), describe)
    assert type(distribution) is type(shown)
    if isinstance(shown, FloatDistribution):
        bounds = (distribution.low, distribution.high)
        assert bounds == pytest.approx((shown.low, shown.high), rel=1e-3)
        assert distribution.log == shown.log
    else:
        assert distribution == shown


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (expon(scale=0.01), FloatDistribution),
        (lognorm(s=2), FloatDistribution),
        (randint(0, 2**31 - 1), IntDistribution),
        ([False, True], CategoricalDistribution),
    ],
)
def test_any_hyperparameter_has_a_distribution(values, kind):
    """Also what begins at 0 on a log scale, or has too many values to be listed."""
    dimension = make_dimension("x", values)
    distribution = value_distribution(dimension, describe)
    assert type(distribution) is kind
    middle = dimension.decode(dimension.middle)
    assert distribution._contains(distribution.to_internal_repr(middle))
