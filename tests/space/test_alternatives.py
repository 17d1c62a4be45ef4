"""Lists of spaces."""

import pickle
from collections import Counter

import numpy as np
import pytest
from scipy import stats
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC

from sklearn_iis import IISSearchCV, OnlyIf, PerLayer, SearchSpace

CLASSIFIERS = [
    {"clf": [LogisticRegression()], "clf__C": stats.loguniform(1e-3, 1e3)},
    {
        "clf": [SVC()],
        "clf__C": [1, 10, 100],
        "clf__kernel": ["linear", "rbf"],
        "clf__gamma": OnlyIf(stats.loguniform(1e-4, 1), "clf__kernel", ["rbf"]),
    },
    {},
]


def test_codes_are_told_apart_where_a_name_is_in_several_alternatives():
    space = SearchSpace(CLASSIFIERS)
    assert space.names == ("clf", "clf__C", "clf__kernel", "clf__gamma")
    assert list(space.dimensions) == [
        "(alternative)",
        "clf__C (space[0])",
        "clf__C (space[1])",
        "clf__kernel",
        "clf__gamma",
    ]
    layers = SearchSpace(
        [{"n": [1, 2], "w": PerLayer([3, 4], "n")}, {"n": [2], "w": PerLayer([5], "n")}]
    )
    assert "w[1] (space[0])" in layers.dimensions
    assert layers.decode({"(alternative)": 1}) == {"n": 2, "w": (5, 5)}


def test_a_candidate_has_the_hyperparameters_of_its_alternative():
    space = SearchSpace(CLASSIFIERS)
    for codes in space.sample(100, random_state=0):
        params = space.decode(codes)
        chosen = CLASSIFIERS[codes["(alternative)"]]
        expected = {*chosen} - ({"clf__gamma"} if "clf__gamma" not in codes else set())
        assert params.keys() == expected
        if "clf__gamma" in expected:
            assert params["clf__kernel"] == "rbf"
        again = space.encode(params)
        assert again == pytest.approx(codes)
        assert space.project(codes) == space.active(space.complete(codes)) == codes


def test_alternatives_are_drawn_uniformly():
    space = SearchSpace([{"x": stats.uniform()}, {"y": stats.randint(0, 10**6)}])
    counts = Counter(c["(alternative)"] for c in space.sample(1000, random_state=0))
    # Four standard deviations.
    assert abs(counts[0] - 500) < 4 * np.sqrt(250)


def test_all_alternatives_are_exhausted():
    space = SearchSpace([{"x": [1, 2]}, {"x": [2], "y": [3, 4]}, {}])
    params = [space.decode(codes) for codes in space.sample(99, random_state=0)]
    assert len(params) == 5
    for one in ({"x": 1}, {"x": 2}, {"x": 2, "y": 3}, {"x": 2, "y": 4}, {}):
        assert one in params


def test_a_list_of_one_dict_is_that_dict():
    space, alone = SearchSpace([{"x": [1, 2]}]), SearchSpace({"x": [1, 2]})
    assert space.dimensions == alone.dimensions
    assert space.sample(2, random_state=0) == alone.sample(2, random_state=0)


def test_each_alternative_is_narrowed_by_its_own_candidates():
    space = SearchSpace([{"x": stats.uniform()}, {"x": stats.uniform()}, {"z": [1, 2]}])
    good = [{"(alternative)": 1, "x (space[1])": code} for code in (0.4, 0.5)]
    narrowed = space.narrow(good, margin=0.1)
    assert narrowed.ranges["x (space[0])"] == (0, 1)
    assert narrowed.ranges["x (space[1])"] == pytest.approx((0.3, 0.6))
    assert narrowed.dimensions["(alternative)"].n_levels == 3
    kept = space.narrow(good, size_dependent=["x"])
    assert kept.ranges == space.ranges


def test_common_names():
    space = [
        {"a": [1, 2], "b": [1], "c": OnlyIf([1], "a", [1])},
        {"b": [2, 3], "c": [3], "a": [5]},
    ]
    assert SearchSpace(space).common_names == ("a", "b")
    assert SearchSpace([*space, {}]).common_names == ()
    assert SearchSpace(space[0]).common_names == ("a", "b")


def test_the_first_alternative_that_params_fit_is_theirs():
    space = SearchSpace([{"x": [1, 2]}, {"x": [2, 3], "y": [4]}, {"x": [2, 3]}])
    assert space.encode({"x": 2})["(alternative)"] == 0
    assert space.encode({"x": 3})["(alternative)"] == 2
    assert space.encode({"x": 3, "y": 4})["(alternative)"] == 1
    with pytest.raises(ValueError, match=r"no alternative: space\[0\]: .*; space\[1\]"):
        space.encode({"z": 1})


def test_pickle():
    space = SearchSpace(CLASSIFIERS)
    again = pickle.loads(pickle.dumps(space))
    assert again.sample(5, random_state=0) == space.sample(5, random_state=0)
    assert again.conditions == space.conditions


def test_check_names():
    pipe = Pipeline([("clf", LogisticRegression())])
    SearchSpace(CLASSIFIERS).check_names(pipe)
    with pytest.raises(ValueError, match="no parameter 'clf__gamma'"):
        # The step is swapped in the other alternative only.
        SearchSpace([{"clf": [SVC()]}, {"clf__gamma": [1.0]}]).check_names(pipe)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ([{"x": [1]}, {"b": OnlyIf([1], "x", [1])}], r"b: .* not in the space \['b'\]"),
        ([{"x": [1]}, {"(alternative)": [1]}], r"the same name '\(alternative\)'"),
        ({"n": [1], "w": PerLayer([1], "n"), "w[0]": [1, 2]}, r"same name 'w\[0\]'"),
    ],
)
def test_bad_alternatives(space, message):
    with pytest.raises(ValueError, match=message):
        SearchSpace(space)


def test_swapped_steps_are_no_instances_of_the_user():
    X, y = np.arange(40.0).reshape(20, 2), np.array([0, 1] * 10)
    pipe = Pipeline([("clf", LogisticRegression())])
    search = IISSearchCV(pipe, CLASSIFIERS, n_iter=8, cv=2, random_state=0).fit(X, y)
    results = search.cv_results_
    swapped = [space["clf"][0] for space in CLASSIFIERS[:2]]
    assert all(not hasattr(step, "classes_") for step in swapped)
    assert search.best_estimator_["clf"] not in [*swapped, pipe["clf"]]
    assert search.best_params_ == results["params"][search.best_index_]
    masks = {
        name: np.ma.getmaskarray(results[f"param_{name}"])
        for name in ("clf", "clf__C", "clf__kernel", "clf__gamma")
    }
    for row, params in enumerate(results["params"]):
        assert {name for name in masks if not masks[name][row]} == params.keys()
    # A clone has other instances of the steps, and goes the same way.
    again = clone(search).fit(X, y)
    np.testing.assert_array_equal(
        again.cv_results_["mean_test_score"], results["mean_test_score"]
    )
