import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC

from sklearn_iis import PerLayer, SearchSpace

CONTINUOUS = {
    "uniform": stats.uniform(-3, 5),
    "loguniform": stats.loguniform(1e-7, 1e-2),
    "normal": stats.norm(2, 3),
    "truncated normal": stats.truncnorm(-1, 2),
    "exponential": stats.expon(scale=2),
    "log-normal": stats.lognorm(0.7),
    "beta": stats.beta(0.5, 2),
    "triangular": stats.triang(0.3),
    "gamma": stats.gamma(3),
}
DISCRETE = {
    "randint": stats.randint(8, 129),
    "wide randint": stats.randint(0, 10**9),
    "binomial": stats.binom(12, 0.3),
    "boltzmann": stats.boltzmann(0.4, 9),
    "hypergeometric": stats.hypergeom(20, 7, 12),
    "with gaps": stats.rv_discrete(values=([1, 5, 9], [0.2, 0.5, 0.3])),
    "ordered list": [128, 16, 64, 32],
    "floats": [0.5, 0.25, 1.0],
    "array": np.logspace(-3, 0, 4),
    "range": range(3, 10),
    "strings": ["relu", "tanh", "gelu"],
    "mixed": [None, "balanced", 3],
    "booleans": [True, False],
    "tuples": [(1,), (1, 2)],
    "one value": [7],
}
LAYERS = {
    "depth": stats.randint(0, 4),
    "widths": PerLayer(stats.randint(8, 33), depth="depth"),
    "rates": PerLayer(stats.loguniform(1e-3, 1), depth="depth"),
}
EVERYTHING = CONTINUOUS | DISCRETE | LAYERS

seeds = st.integers(0, 2**32 - 1)


def is_close(value, expected):
    if isinstance(expected, tuple):
        return len(value) == len(expected) and all(map(is_close, value, expected))
    if isinstance(expected, float):
        return math.isclose(value, expected, rel_tol=1e-6)
    return value == expected and type(value) is type(expected)


@given(seed=seeds)
@settings(max_examples=30, deadline=None)
def test_round_trip(seed):
    space = SearchSpace(EVERYTHING)
    (codes,) = space.sample(1, random_state=seed)
    params = space.decode(codes)
    again = space.decode(space.encode(params))
    assert list(again) == list(EVERYTHING)
    for name in EVERYTHING:
        assert is_close(again[name], params[name]), name
    encoded = space.encode(params)
    assert encoded.keys() == codes.keys()
    assert all(math.isclose(encoded[n], codes[n], abs_tol=1e-6) for n in codes)


@given(seed=seeds, margin=st.floats(0, 0.5), floor=st.floats(0, 1))
@settings(max_examples=30, deadline=None)
def test_round_trip_after_narrowing(seed, margin, floor):
    whole = SearchSpace(EVERYTHING)
    space = whole.narrow(whole.sample(3, random_state=seed), margin=margin, floor=floor)
    for codes in space.sample(3, random_state=seed):
        params = space.decode(codes)
        again = space.decode(space.encode(params))
        assert all(is_close(again[name], params[name]) for name in EVERYTHING)
        # Codes mean the same in both spaces.
        assert whole.decode(codes) == params


@given(seed=seeds, margin=st.floats(0, 0.5), floor=st.floats(0, 1))
@settings(max_examples=50, deadline=None)
def test_narrowing_keeps_inside_never_collapses_and_contains(seed, margin, floor):
    whole = SearchSpace(EVERYTHING)
    space = whole.narrow(whole.sample(8, random_state=seed), floor=0.3)
    good = [space.project(codes) for codes in whole.sample(2, random_state=seed)]
    narrowed = space.narrow(good, margin=margin, floor=floor)
    for name, dimension in narrowed.dimensions.items():
        before = space.dimensions[name]
        assert before.low <= dimension.low < dimension.high <= before.high
        assert all(
            dimension.low <= codes[name] <= dimension.high
            for codes in good
            if name in codes
        )
    assert [narrowed.project(codes) for codes in good] == good


@pytest.mark.parametrize("name", CONTINUOUS)
def test_codes_are_quantiles(name):
    distribution = CONTINUOUS[name]
    space = SearchSpace({"x": distribution})
    for quantile in (0.05, 0.5, 0.9):
        value = space.decode({"x": quantile})["x"]
        assert value == distribution.ppf(quantile)
        assert type(value) is float


def test_samples_follow_the_prior():
    distribution = stats.binom(12, 0.3)
    space = SearchSpace({"x": distribution, "y": stats.uniform()})
    values = [space.decode(c)["x"] for c in space.sample(4000, random_state=0)]
    observed = np.bincount(values, minlength=13)
    expected = 4000 * distribution.pmf(np.arange(13))
    likely = expected > 5
    assert (
        stats.chisquare(
            np.append(observed[likely], observed[~likely].sum()),
            np.append(expected[likely], expected[~likely].sum()),
        ).pvalue
        > 0.01
    )


def test_narrowed_samples_follow_the_prior_within_the_window():
    distribution = stats.binom(12, 0.3)
    space = SearchSpace({"x": distribution, "y": stats.uniform()})
    narrowed = space.narrow([{"x": 3}, {"x": 5}], margin=0, floor=0)
    values = [narrowed.decode(c)["x"] for c in narrowed.sample(4000, random_state=0)]
    pmf = distribution.pmf([3, 4, 5])
    observed = [values.count(value) for value in (3, 4, 5)]
    assert sum(observed) == 4000
    assert stats.chisquare(observed, 4000 * pmf / pmf.sum()).pvalue > 0.01


def test_narrow_continuous_by_hand():
    space = SearchSpace({"x": stats.uniform(0, 10)})
    good = [{"x": 0.30}, {"x": 0.45}]
    assert space.narrow(good, margin=0.05, floor=0).ranges["x"] == pytest.approx(
        (2.5, 5)
    )
    # Widened around the middle to the floor, and moved back inside the window.
    assert space.narrow(good, margin=0.05, floor=0.5).ranges["x"] == pytest.approx(
        (1.25, 6.25)
    )
    assert space.narrow([{"x": 0.95}], margin=0, floor=0.4).ranges["x"] == (
        pytest.approx((6, 10))
    )


def test_narrow_ordered_by_hand():
    space = SearchSpace({"x": [16, 32, 64, 128], "y": ["a", "b", "c"]})
    good = [{"x": 2, "y": 0}]
    two = [{"x": 1, "y": 0}, {"x": 2, "y": 0}]
    assert space.narrow(two, margin=0, floor=0).ranges["x"] == (32, 64)
    # A part of a value's cell is enough to keep it.
    assert space.narrow(two, margin=0.1, floor=0).ranges["x"] == (16, 128)
    # One value alone would be no range.
    assert space.narrow(good, margin=0, floor=0).ranges["x"] == (32, 128)
    assert space.narrow(good).ranges["y"] == ("a", "b", "c")


def test_size_dependent_names_keep_their_range():
    space = SearchSpace(LAYERS)
    good = [{"depth": 1, "widths[0]": 2, "rates[0]": 0.5}]
    narrowed = space.narrow(good, size_dependent=["depth", "widths"])
    for name in ("depth", "widths"):
        assert narrowed.ranges[name] == space.ranges[name]
    assert narrowed.ranges["rates"][0] != space.ranges["rates"][0]
    # No good candidate has a second layer: nothing is known about it.
    assert narrowed.ranges["rates"][1] == space.ranges["rates"][1]
    with pytest.raises(ValueError, match="size_dependent names \\['dept'\\]"):
        space.narrow(good, size_dependent=["dept"])


def test_narrow_does_not_change_the_space():
    space = SearchSpace(EVERYTHING)
    before = repr(space)
    space.narrow(space.sample(2, random_state=0))
    assert repr(space) == before


def test_layers_are_conditional():
    space = SearchSpace(LAYERS)
    assert space.conditions["widths[0]"] == ("depth", 0)
    for codes in space.sample(20, random_state=0):
        depth = codes["depth"]
        assert {n for n in codes if n.startswith("widths")} == {
            f"widths[{layer}]" for layer in range(depth)
        }
        params = space.decode(codes)
        assert len(params["widths"]) == len(params["rates"]) == params["depth"]
        # The codes of layers that are not there make no difference.
        assert space.decode(space.complete(codes)) == params
        assert space.active(space.complete(codes)) == codes


def test_a_layer_that_all_candidates_have_is_no_condition():
    space = SearchSpace({"d": [2, 3], "w": PerLayer([1, 2], depth="d")})
    assert space.conditions == {"w[2]": ("d", 2)}


def test_a_new_layer_of_a_projected_candidate_is_like_the_one_before():
    space = SearchSpace({"d": [1, 2, 3], "w": PerLayer(range(9), depth="d")})
    deep = space.narrow([{"d": 2, "w[0]": 4, "w[1]": 4, "w[2]": 4}], floor=0)
    assert deep.dimensions["d"].low == 1
    assert deep.project({"d": 0, "w[0]": 5}) == {"d": 1, "w[0]": 5, "w[1]": 5}


def test_values_of_a_wide_range_are_found_without_counting():
    space = SearchSpace({"x": stats.randint(0, 10**9)})
    assert space.encode({"x": np.float64(123456789)}) == {"x": 123456789}
    with pytest.raises(ValueError, match=r"0\.5 is none of range"):
        space.encode({"x": 0.5})


def test_constants_are_decoded_but_not_searched():
    space = SearchSpace({"x": [3], "y": stats.uniform()})
    assert list(space.dimensions) == ["y"]
    assert space.decode({"y": 0.5}) == {"x": 3, "y": 0.5}
    assert space.encode({"x": 3, "y": 0.5}) == {"y": 0.5}


def test_unit_cube():
    space = SearchSpace({"x": stats.loguniform(1, 100)} | LAYERS)
    points = space.to_unit_cube(
        [space.encode({"x": 10.0, "depth": 1, "widths": (8,), "rates": (1.0,)})]
    )
    assert points.shape == (1, len(space.dimensions))
    by_name = dict(zip(space.dimensions, points[0], strict=True))
    assert by_name["x"] == pytest.approx(0.5)
    assert by_name["depth"] == 1.5 / 4
    assert by_name["widths[0]"] == 0.5 / 25
    assert by_name["rates[0]"] == pytest.approx(1)
    assert math.isnan(by_name["widths[1]"])


def test_samples_are_distinct_and_exhaust_the_space():
    space = SearchSpace({"x": [1, 2, 3], "y": ["a", "b"]})
    candidates = space.sample(10, random_state=0)
    assert len({tuple(c.items()) for c in candidates}) == len(candidates) == 6
    (last,) = space.sample(10, random_state=0, exclude=candidates[1:])
    assert last == candidates[0]


def test_pickle():
    space = SearchSpace(EVERYTHING)
    again = pickle.loads(pickle.dumps(space))
    assert again.sample(5, random_state=0) == space.sample(5, random_state=0)


@pytest.mark.parametrize(
    ("space", "error", "message"),
    [
        ({}, ValueError, "the space is empty"),
        ([{"x": [1]}, {"y": [2]}], TypeError, "must be one dict"),
        ({1: [1]}, TypeError, "must be str, got 1"),
        ({"x": []}, ValueError, "x: the list of choices is empty"),
        ({"x": [[1], [2]]}, ValueError, "x: choices must be hashable"),
        ({"x": [1, 2, 1]}, ValueError, "x: a choice stands twice"),
        ({"x": "relu"}, TypeError, "x: expected a frozen scipy.stats distribution"),
        ({"x": 3}, TypeError, "x: expected a frozen scipy.stats distribution"),
        ({"x": stats.beta}, TypeError, "x: expected a frozen"),
        ({"x": stats.poisson(3)}, ValueError, "x: a discrete .* poisson .*use randint"),
        ({"x": stats.uniform(0, -1)}, ValueError, "x: the distribution has no values"),
        ({"x": stats.randint(5, 5)}, ValueError, "x: the distribution has no values"),
        ({"w": PerLayer([1, 2], "d")}, ValueError, "w: its depth 'd' is not in"),
        ({"w": PerLayer([1, 2], "w")}, ValueError, "w: its depth 'w' is per layer"),
        (
            {"v": PerLayer([1, 2], "w"), "w": PerLayer([1, 2], "v")},
            ValueError,
            "v: its depth 'w' is per layer",
        ),
        (
            {"d": stats.uniform(), "w": PerLayer([1, 2], "d")},
            ValueError,
            "w: its depth 'd' must be a whole number",
        ),
        (
            {"d": [-1, 2], "w": PerLayer([1, 2], "d")},
            ValueError,
            "w: its depth 'd' must be a whole number",
        ),
        (
            {"d": [1], "w": PerLayer(stats.geom(0.5), "d")},
            ValueError,
            "w: a discrete distribution must have finitely many",
        ),
    ],
)
def test_bad_spaces(space, error, message):
    with pytest.raises(error, match=message):
        SearchSpace(space)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"x": 0.5}, "the hyperparameters are"),
        ({"x": 2.0, "d": 1, "w": (1,)}, "x: 2.0 lies outside"),
        ({"x": 0.5, "d": 3, "w": (1,)}, "d: 3 is none of"),
        ({"x": 0.5, "d": 2, "w": (1,)}, "w: d is 2, got"),
    ],
)
def test_bad_params(params, message):
    space = SearchSpace(
        {"x": stats.uniform(), "d": [1, 2], "w": PerLayer([1, 2], depth="d")}
    )
    with pytest.raises(ValueError, match=message):
        space.encode(params)


def test_check_names():
    pipe = Pipeline([("pca", PCA()), ("clf", LogisticRegression())])
    SearchSpace({"pca__n_components": [1, 2], "clf__C": [1.0]}).check_names(pipe)
    # The parameters of a searched step are those of whatever is chosen.
    SearchSpace({"clf": [SVC()], "clf__gamma": [1.0]}).check_names(pipe)
    with pytest.raises(ValueError, match=r"no parameter 'clf__c'; .* is 'clf__C'"):
        SearchSpace({"clf__c": [1.0, 2.0]}).check_names(pipe)
