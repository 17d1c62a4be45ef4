"""Distributions of other kinds: scipy's new ones, and objects with rvs."""

import numpy as np
import pytest
from scipy import stats

from sklearn_iis import IISSearchCV, Rounded, SearchSpace
from sklearn_iis.space import Continuous, Discrete, Stepped, make_dimension
from sklearn_iis.storage._fingerprint import describe_space
from sklearn_iis.testing import FormulaClassifier, X, y
from tests.searches.test_base import ONE_SPLIT

has_new = pytest.mark.skipif(
    not hasattr(stats, "make_distribution"), reason="scipy has none before 1.15"
)


class Drawable:
    """An object with rvs and nothing else."""

    def __init__(self, draw):
        self.draw = draw

    def rvs(self, random_state=None):
        return self.draw(random_state)


def make_new(name, **params):
    return stats.make_distribution(getattr(stats, name))(**params)


@has_new
def test_new_distributions_have_the_codes_of_the_older_ones():
    pairs = [
        (make_new("loguniform", a=1e-3, b=1.0), stats.loguniform(1e-3, 1)),
        (stats.Normal(mu=2.0, sigma=3.0), stats.norm(2, 3)),
        (make_new("randint", low=1, high=9), stats.randint(1, 9)),
        (stats.Uniform(a=1.0, b=3.0), stats.uniform(1, 2)),
    ]
    for new, old in pairs:
        found, expected = make_dimension("x", new), make_dimension("x", old)
        assert type(found) is type(expected)
        assert (found.low, found.high) == (expected.low, expected.high)
        for seed in range(20):
            code = expected.rvs(np.random.RandomState(seed))
            assert found.rvs(np.random.RandomState(seed)) == pytest.approx(code)
            value = expected.decode(code)
            assert found.decode(code) == pytest.approx(value)
            assert type(found.decode(code)) is type(value)
            assert found.encode(value) == pytest.approx(code, abs=1e-9)


@has_new
def test_what_scipy_makes_of_new_distributions():
    truncated = make_dimension("x", stats.truncate(stats.Normal(), 0.0, 2.0))
    assert truncated.range == pytest.approx((0, 2))
    assert make_dimension("x", stats.exp(stats.Uniform(a=-3.0, b=0.0))).decode(
        0.5
    ) == pytest.approx(np.exp(-1.5))
    binomial = make_dimension("x", stats.Binomial(n=4, p=0.5))
    assert isinstance(binomial, Discrete)
    assert binomial.levels == (0, 1, 2, 3, 4)
    rounded = Rounded(make_new("loguniform", a=1.0, b=100.0))
    assert isinstance(make_dimension("x", rounded), Stepped)


@has_new
def test_new_distributions_are_told_apart_by_a_storage():
    """Some of them cannot be pickled."""
    described = [
        describe_space(SearchSpace({"x": make_new("loguniform", a=a, b=1.0)}))
        for a in (1e-3, 1e-2, 1e-3)
    ]
    assert described[0] == described[2] != described[1]


@has_new
@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        (lambda: stats.Normal, TypeError, "x: .*Normal.* is a class"),
        (lambda: stats.Normal(mu=[0.0, 1.0]), ValueError, "several distributions"),
    ],
)
def test_what_is_wrong_with_a_new_distribution_is_told(values, error, message):
    with pytest.raises(error, match=message):
        make_dimension("x", values())


def test_floats_that_are_drawn():
    dimension = make_dimension("x", Drawable(lambda rng: rng.uniform(2, 6)))
    assert isinstance(dimension, Continuous)
    assert dimension.range == pytest.approx((2, 6), abs=0.02)
    assert dimension.decode(0.25) == pytest.approx(3, abs=0.2)
    for value in (2.5, 4.0, 5.9):
        assert dimension.decode(dimension.encode(value)) == pytest.approx(value)
    same = make_dimension("x", Drawable(lambda rng: rng.uniform(2, 6)))
    assert same.decode(0.3) == dimension.decode(0.3)


def test_whole_numbers_that_are_drawn_follow_their_frequency():
    weights = [0.5, 0.3, 0, 0.2]
    dimension = make_dimension("x", Drawable(lambda rng: rng.choice(4, p=weights)))
    rng = np.random.RandomState(1)
    drawn = [dimension.decode(dimension.rvs(rng)) for _ in range(2000)]
    assert {type(value) for value in drawn} == {int}
    np.testing.assert_allclose(np.bincount(drawn) / 2000, weights, atol=0.05)
    assert [dimension.decode(dimension.encode(v)) for v in (0, 1, 3)] == [0, 1, 3]
    with pytest.raises(ValueError, match="2 is none of the values"):
        dimension.encode(2)


def test_other_values_that_are_drawn_are_choices():
    dimension = make_dimension("x", Drawable(lambda rng: (rng.randint(3), "a")))
    assert isinstance(dimension, Discrete)
    assert set(dimension.levels) == {(0, "a"), (1, "a"), (2, "a")}
    assert not dimension.ordered
    constant = SearchSpace({"x": Drawable(lambda rng: 7)})
    assert constant.decode({}) == {"x": 7}


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        (Drawable(lambda rng: (rng.uniform(),)), TypeError, "more than 50 .*list them"),
        (Drawable(lambda rng: np.inf), ValueError, "not finite"),
        (Drawable, TypeError, "is a class: make an object"),
        (type("Odd", (), {"rvs": lambda self: 1})(), TypeError, "rvs.*random_state"),
    ],
)
def test_what_is_wrong_with_what_is_drawn_is_told(values, error, message):
    with pytest.raises(error, match=message):
        make_dimension("x", values)


@pytest.mark.filterwarnings("ignore:.*which are not searched:UserWarning")
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_they_are_searched(n_jobs):
    space = {
        "rate": Drawable(lambda rng: rng.uniform(0.01, 0.5)),
        "degree": Drawable(lambda rng: rng.randint(1, 8)),
    }
    if hasattr(stats, "make_distribution"):
        space["rate"] = make_new("loguniform", a=0.01, b=0.5)
    search = IISSearchCV(
        FormulaClassifier(),
        space,
        search="tpe",
        sizes=(1, 2),
        size_param="size",
        n_iter=(12, 6),
        cv=ONE_SPLIT,
        n_jobs=n_jobs,
        random_state=0,
    ).fit(X, y)
    assert 0.01 <= search.best_params_["rate"] <= 0.5
    assert len(search.cv_results_["params"]) == 18
