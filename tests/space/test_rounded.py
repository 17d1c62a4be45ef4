"""Hyperparameters that are rounded: their codes, and every search over them."""

import numpy as np
import pytest
from scipy import stats

from sklearn_iis import IISSearchCV, PerLayer, Rounded, SearchSpace
from sklearn_iis.searches import SEARCHES
from sklearn_iis.space import Stepped, is_log, make_dimension
from sklearn_iis.testing import FormulaClassifier, X, y
from tests.searches.test_base import ONE_SPLIT

KINDS = {
    "log integers": (Rounded(stats.loguniform(1, 1000)), list(range(1, 1001))),
    "steps of 8": (Rounded(stats.uniform(8, 120), step=8), list(range(8, 129, 8))),
    "tenths": (Rounded(stats.uniform(0, 1), step=0.1), [i / 10 for i in range(11)]),
    "inside": (Rounded(stats.loguniform(0.5, 10.5)), list(range(1, 11))),
    "unbounded": (Rounded(stats.norm(0, 1)), list(range(-4, 5))),
    "numpy's step": (Rounded(stats.uniform(0, 9), np.int64(3)), [0, 3, 6, 9]),
}


@pytest.fixture(params=KINDS)
def kind(request):
    values, expected = KINDS[request.param]
    return make_dimension("x", values), expected


def test_values_are_the_multiples_in_the_support(kind):
    dimension, expected = kind
    assert isinstance(dimension, Stepped)
    assert dimension.n_levels == len(expected)
    found = [dimension.decode(dimension.encode(value)) for value in expected]
    assert found == expected
    assert {type(value) for value in found} == {type(expected[0])}
    for value in (expected[0] - 1, expected[-1] + 1, 0.123, "x", np.nan):
        with pytest.raises(ValueError, match=f"{value}"):
            dimension.encode(value)


@pytest.mark.parametrize(
    ("values", "refused", "n_values"),
    [
        (Rounded(stats.beta(50, 50), step=0.01), [0.95, 0.99], 87),
        (Rounded(stats.beta(9, 1e5), step=0.01), [0.5, 0.99], 2),
    ],
)
def test_what_is_too_improbable_is_no_value(values, refused, n_values):
    dimension = make_dimension("x", values)
    assert dimension.n_levels == n_values
    for value in refused:
        with pytest.raises(ValueError, match=f"{value} .* too small to be told from 0"):
            dimension.encode(value)
    rng = np.random.RandomState(0)
    drawn = {dimension.decode(dimension.rvs(rng)) for _ in range(200)}
    for value in drawn:
        assert dimension.decode(dimension.encode(value)) == value


def test_values_follow_the_distribution():
    """Each value has the probability of what is rounded to it."""
    dimension = make_dimension("x", Rounded(stats.loguniform(0.5, 8.5)))
    rng = np.random.RandomState(0)
    drawn = [dimension.decode(dimension.rvs(rng)) for _ in range(4000)]
    edges = np.arange(0.5, 9)
    expected = np.diff(stats.loguniform(0.5, 8.5).cdf(edges))
    counts = np.bincount(drawn, minlength=9)[1:]
    assert stats.chisquare(counts, expected * 4000).pvalue > 1e-3


def test_each_value_has_one_code(kind):
    dimension, _ = kind
    codes = {dimension.rvs(np.random.RandomState(i)) for i in range(200)}
    codes |= {dimension.clip(code) for code in np.linspace(0, 1, 301)}
    assert len(codes) == len({dimension.decode(code) for code in codes})
    for code in codes:
        assert dimension.encode(dimension.decode(code)) == pytest.approx(code)
        assert dimension.snap(code) == pytest.approx(code)
        assert dimension.low <= code <= dimension.high


def test_a_narrowed_range_holds_the_codes_of_its_values(kind):
    dimension, _ = kind
    rng = np.random.RandomState(0)
    for _ in range(20):
        codes = [dimension.rvs(rng) for _ in range(2)]
        narrowed = dimension.narrow(codes, 0.03, 0.05)
        assert dimension.low <= narrowed.low < narrowed.high <= dimension.high
        for code in np.linspace(narrowed.low, narrowed.high, 50):
            assert narrowed.low <= narrowed.clip(code) <= narrowed.high
        again = narrowed.narrow(codes[:1], 0, 0)
        assert narrowed.low <= again.low < again.high <= narrowed.high


def test_integers_on_a_log_scale_are_narrowed_on_it():
    space = SearchSpace({"x": Rounded(stats.loguniform(1, 10_000))})
    assert is_log(space.dimensions["x"])
    narrowed = space.narrow([space.encode({"x": 100})], margin=0.25, floor=0)
    low, high = narrowed.ranges["x"]
    assert abs(low - 10) <= 1
    assert abs(high - 1000) <= 10


SPACE = {
    "max_epochs": Rounded(stats.loguniform(1, 100)),
    "rate": Rounded(stats.uniform(0.01, 0.09), step=0.01),
    "n_layers": [1, 2],
    "widths": PerLayer(Rounded(stats.uniform(2, 10)), depth="n_layers"),
}


@pytest.mark.filterwarnings("ignore:.*which are not searched:UserWarning")
@pytest.mark.parametrize("search", SEARCHES)
def test_every_search_evaluates_each_value_once(search):
    params = {"hyperband": {"resource": "degree", "max_resources": 9}}.get(search)
    fitted = IISSearchCV(
        FormulaClassifier(),
        SPACE,
        sizes=(1, 2),
        size_param="size",
        search=search,
        search_params=params,
        n_iter=(10, 8),
        cv=ONE_SPLIT,
        random_state=0,
    ).fit(X, y)
    space = SearchSpace(SPACE)
    seen = []
    for p, stage in zip(
        fitted.cv_results_["params"], fitted.cv_results_["stage"], strict=True
    ):
        assert isinstance(p["max_epochs"], int)
        assert round(p["rate"] * 100) / 100 == p["rate"]
        seen.append((stage, p.get("degree"), repr(p)))
        names = space.names
        space.encode({name: p[name] for name in names})
    assert len(set(seen)) == len(seen)


def test_a_small_space_is_searched_to_its_end():
    space = SearchSpace({"x": Rounded(stats.uniform(0, 3)), "z": ["a", "b"]})
    assert len(space.sample(100, random_state=0)) == 8
    one = SearchSpace({"x": Rounded(stats.uniform(0.5, 1)), "z": ["a", "b"]})
    assert list(one.dimensions) == ["z"]
    assert one.decode({"z": 0}) == {"x": 1, "z": "a"}


def test_another_step_is_another_search(tmp_path):
    def fit(step):
        space = {"rate": Rounded(stats.uniform(0.1, 0.8), step=step)}
        storage = str(tmp_path / "journal.log")
        settings = {"n_iter": 4, "cv": ONE_SPLIT, "random_state": 0}
        search = IISSearchCV(FormulaClassifier(), space, storage=storage, **settings)
        return search.fit(X, y).cv_results_

    first, again = fit(0.1), fit(0.1)
    assert again["params"] == first["params"]
    np.testing.assert_array_equal(again["mean_fit_time"], first["mean_fit_time"])
    with pytest.raises(ValueError, match=r"space's rate was .* steps of 0.1"):
        fit(0.2)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (Rounded([1, 2]), "x: what is rounded must be a continuous distribution"),
        (Rounded(stats.randint(1, 4)), "x: what is rounded must be"),
        (Rounded(Rounded(stats.uniform())), "x: what is rounded must be"),
        (Rounded(stats.uniform(), step=0), "x: step must be a number above 0, got 0"),
        (Rounded(stats.uniform(), step="a"), "step must be a number above 0, got 'a'"),
        (Rounded(stats.uniform(0.2, 0.3)), r"no multiple of 1 lies in \[0.2, 0.5\]"),
    ],
)
def test_what_is_wrong_is_told(values, message):
    with pytest.raises(ValueError, match=message):
        SearchSpace({"x": values})
