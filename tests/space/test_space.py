import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sklearn_iis import PerLayer, SearchSpace
from sklearn_iis.space import Condition

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
    assert space.conditions["widths[0]"] == (Condition("depth", (1, 2, 3)),)
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
    assert space.conditions == {"w[2]": (Condition("d", (1,)),)}


def test_a_new_layer_of_a_projected_candidate_is_like_the_one_before():
    space = SearchSpace({"d": [1, 2, 3], "w": PerLayer(range(9), depth="d")})
    deep = space.narrow([{"d": 2, "w[0]": 4, "w[1]": 4, "w[2]": 4}], floor=0)
    assert deep.dimensions["d"].low == 1
    assert deep.project({"d": 0, "w[0]": 5}) == {"d": 1, "w[0]": 5, "w[1]": 5}


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
        ([], ValueError, "the space is empty"),
        ([{}, {}], ValueError, "the space is empty"),
        ([{"x": [1]}, ["y"]], TypeError, r"a list of such dicts, got list: \['y'\]"),
        ([{"x": [1]}, {1: [1]}], TypeError, "must be str, got 1"),
        ({1: [1]}, TypeError, "must be str, got 1"),
        ({"x": []}, ValueError, "x: the list of choices is empty"),
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
