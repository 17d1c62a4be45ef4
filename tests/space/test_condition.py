"""Conditions on other hyperparameters."""

import numpy as np
import pytest
from scipy import stats

from sklearn_iis import OnlyIf, PerLayer, SearchSpace
from sklearn_iis.space import Condition
from sklearn_iis.space._condition import join

KERNELS = {
    "gamma": OnlyIf(stats.loguniform(1e-3, 1), "kernel", ["rbf", "poly"]),
    "kernel": ["linear", "rbf", "poly"],
    "degree": OnlyIf(stats.randint(2, 6), "kernel", ["poly"]),
    "coef": OnlyIf([0.0, 1.0], "degree", range(3, 6)),
    "C": stats.loguniform(1e-3, 1e3),
}


def exists(name, params):
    """Whether a hyperparameter exists, as the definition of `KERNELS` says."""
    if name not in KERNELS or not isinstance(KERNELS[name], OnlyIf):
        return True
    parent = KERNELS[name].name
    return exists(parent, params) and params[parent] in KERNELS[name].is_in


def test_a_candidate_has_what_exists_for_it():
    space = SearchSpace(KERNELS)
    kinds = set()
    for codes in space.sample(200, random_state=0):
        params = space.decode(codes)
        expected = [name for name in KERNELS if exists(name, params)]
        assert list(params) == expected
        assert list(codes) == expected
        kinds.add(tuple(expected))
        # What does not exist makes no difference, whatever it is.
        assert space.active(space.complete(codes)) == codes
        assert space.decode(space.complete(codes)) == params
        assert space.encode(params) == pytest.approx(codes)
        assert space.project(codes) == codes
    assert len(kinds) == 4


def test_conditions_are_flat_and_those_of_the_parents_are_among_them():
    assert SearchSpace(KERNELS).conditions == {
        "gamma": (Condition("kernel", (1, 2)),),
        "degree": (Condition("kernel", (2,)),),
        "coef": (Condition("kernel", (2,)), Condition("degree", (1, 2, 3))),
    }


def test_points_lack_what_does_not_exist():
    space = SearchSpace(KERNELS)
    points = space.to_unit_cube([space.encode({"kernel": "linear", "C": 1.0})])
    missing = dict(zip(space.dimensions, np.isnan(points[0]), strict=True))
    assert [name for name in missing if missing[name]] == ["gamma", "degree", "coef"]


@pytest.mark.parametrize(
    ("space", "conditions"),
    [
        pytest.param(
            {"a": ["x"], "b": OnlyIf([1, 2], "a", ["x"])}, {}, id="a single value"
        ),
        pytest.param(
            {"a": [1, 2], "b": OnlyIf([1, 2], "a", [2, 1])}, {}, id="all values"
        ),
        pytest.param(
            {"a": [1, 2], "b": OnlyIf([3], "a", [2]), "c": OnlyIf([4, 5], "b", [3])},
            {"c": (Condition("a", (1,)),)},
            id="a parent with a single value, if it exists",
        ),
        pytest.param(
            {
                "a": [1, 2],
                "b": [1, 2, 3],
                "c": OnlyIf(OnlyIf([4, 5], "a", [2]), "b", [1, 3]),
            },
            {"c": (Condition("b", (0, 2)), Condition("a", (1,)))},
            id="both",
        ),
        pytest.param(
            {
                "k": ["x", "y"],
                "n": OnlyIf([1, 2], "k", ["y"]),
                "w": PerLayer([4, 5], depth="n"),
            },
            {
                "n": (Condition("k", (1,)),),
                "w[0]": (Condition("k", (1,)),),
                "w[1]": (Condition("k", (1,)), Condition("n", (1,))),
            },
            id="layers exist only with their depth",
        ),
        pytest.param(
            {"n": [0, 1, 2], "w": OnlyIf(PerLayer([4, 5], depth="n"), "n", [0, 1])},
            {"w[0]": (Condition("n", (1,)),)},
            id="a layer that never exists is none",
        ),
    ],
)
def test_what_is_left_of_conditions(space, conditions):
    space = SearchSpace(space)
    assert space.conditions == conditions
    for codes in space.sample(50, random_state=0):
        assert space.encode(space.decode(codes)) == codes


def test_layers_under_a_condition():
    space = SearchSpace(
        {"k": ["x", "y"], "n": [0, 2], "w": OnlyIf(PerLayer([4, 5], "n"), "k", ["y"])}
    )
    assert space.decode({"k": 0, "n": 1}) == {"k": "x", "n": 2}
    assert space.decode({"k": 1, "n": 0}) == {"k": "y", "n": 0, "w": ()}
    assert space.decode({"k": 1, "n": 1, "w[0]": 1, "w[1]": 0})["w"] == (5, 4)
    with pytest.raises(ValueError, match=r"w: n is 2, got \(5,\)"):
        space.encode({"k": "y", "n": 2, "w": (5,)})


def test_narrowing_is_by_the_candidates_that_have_it():
    space = SearchSpace(KERNELS)
    good = [
        {"gamma": 0.5, "kernel": 1, "C": 0.2},
        {"kernel": 0, "C": 0.3},
        {"gamma": 0.6, "kernel": 1, "C": 0.2},
    ]
    narrowed = space.narrow(good, margin=0.05)
    assert narrowed.ranges["kernel"] == ("linear", "rbf", "poly")
    assert narrowed.ranges["degree"] == (2, 5)
    gamma = narrowed.dimensions["gamma"]
    assert (gamma.low, gamma.high) == pytest.approx((0.45, 0.65))
    assert narrowed.conditions == space.conditions


def test_a_narrowed_space_still_knows_what_exists_outside():
    space = SearchSpace({"n": [1, 2, 3], "x": OnlyIf([4, 5], "n", [2, 3])})
    narrowed = space.narrow([{"n": 1, "x": 0}, {"n": 2, "x": 1}], margin=0, floor=0)
    assert narrowed.conditions == {}
    assert narrowed.encode({"n": 1}) == {"n": 0}
    assert list(narrowed.project({"n": 0})) == ["n", "x"]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            {"kernel": "linear", "C": 1.0, "gamma": 0.1},
            r"are \['C', 'kernel'\], got .*; with these values there is no \['gamma'\]",
        ),
        ({"kernel": "rbf", "C": 1.0}, r"are \['C', 'gamma', 'kernel'\], got"),
        ({"kernel": "sigmoid", "C": 1.0}, "kernel: 'sigmoid' is none of"),
        ({"kernel": "linear", "C": 1.0, "nu": 1}, r"got \['C', 'kernel', 'nu'\]$"),
    ],
)
def test_bad_params(params, message):
    with pytest.raises(ValueError, match=message):
        SearchSpace(KERNELS).encode(params)


@pytest.mark.parametrize(
    ("space", "error", "message"),
    [
        ({"b": OnlyIf([1, 2], "a", [1])}, ValueError, "b: it depends on 'a', which is"),
        (
            {"a": stats.uniform(), "b": OnlyIf([1], "a", [0.5])},
            ValueError,
            "b: it depends on 'a', which is continuous",
        ),
        (
            {"n": [1], "a": PerLayer([1], "n"), "b": OnlyIf([1], "a", [1])},
            ValueError,
            "b: it depends on 'a', which has one value a layer",
        ),
        (
            {"a": OnlyIf([1], "c", [1]), "c": OnlyIf([1], "a", [1])},
            ValueError,
            "conditions form a circle: a depends on c depends on a",
        ),
        ({"a": OnlyIf([1], "a", [1])}, ValueError, "a circle: a depends on a"),
        (
            {"a": [1, 2], "b": OnlyIf([1], "a", [3])},
            ValueError,
            "b: is_in must be a list of values of 'a': 3 is none of",
        ),
        (
            {"a": ["x"], "b": OnlyIf([1], "a", "x")},
            TypeError,
            "b: is_in must be a list",
        ),
        ({"a": [1], "b": OnlyIf([1], "a", 1)}, TypeError, "b: is_in must be a list"),
        ({"a": [1], "b": OnlyIf([1], "a", [])}, ValueError, "b: is_in must name a"),
        ({"a": [1], "b": OnlyIf(3, "a", [1])}, TypeError, "b: expected a frozen"),
        (
            {"a": [1, 2], "b": OnlyIf(OnlyIf([1], "a", [1]), "a", [2])},
            ValueError,
            "b: it never exists, as its conditions on a exclude each other",
        ),
    ],
)
def test_bad_conditions(space, error, message):
    with pytest.raises(error, match=message):
        SearchSpace(space)


def test_joined_conditions_hold_if_all_do():
    conditions = [
        Condition("a", (1, 2, 3)),
        Condition("b", (0,)),
        Condition("a", (0, 2)),
    ]
    joined = join(conditions)
    assert joined == (Condition("a", (2,)), Condition("b", (0,)))
    for a in range(4):
        for b in range(2):
            codes = {"a": a, "b": b}
            holds = all(condition.holds(codes) for condition in joined)
            assert holds == all(condition.holds(codes) for condition in conditions)
    assert not joined[0].holds({"b": 0})
