"""The stages of a search, as inspection sees them."""

import numpy as np
import pytest
from scipy.stats import loguniform
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV

from sklearn_iis import IISSearchCV, SearchSpace
from sklearn_iis.inspection._fitted import Stage, get_stages, observe, order_rows
from sklearn_iis.testing import SPACE, FormulaClassifier, X, y


@pytest.fixture(scope="module")
def search():
    return IISSearchCV(
        FormulaClassifier(),
        SPACE,
        sizes=(1, 2),
        size_param="size",
        n_iter=(12, 6),
        cv=2,
        random_state=0,
    ).fit(X, y)


def test_stages(search):
    stages = get_stages(search)
    assert [stage.size for stage in stages] == [1, 2]
    assert [stage.label for stage in stages] == ["1", "2"]
    for i, stage in enumerate(stages):
        rows = np.flatnonzero(search.cv_results_["stage"] == i)
        decoded = [stage.space.decode(codes) for codes in stage.candidates]
        for row, params in zip(rows, decoded, strict=True):
            expected = search.cv_results_["params"][row]
            assert params | {"size": stage.size} == expected
        np.testing.assert_array_equal(
            stage.results["mean_test_score"],
            search.cv_results_["mean_test_score"][rows],
        )
        assert not stage.failed.any()


def test_a_search_without_stages_is_one():
    search = RandomizedSearchCV(
        LogisticRegression(),
        {"C": loguniform(1e-2, 1), "solver": ["lbfgs", "newton-cg"]},
        n_iter=5,
        cv=2,
        random_state=0,
    ).fit(X, y)
    (stage,) = get_stages(search)
    assert (stage.index, stage.size, stage.label) == (0, None, "stage 0")
    for codes, params in zip(
        stage.candidates, search.cv_results_["params"], strict=True
    ):
        decoded = stage.space.decode(codes)
        assert decoded["C"] == pytest.approx(params["C"])
        assert decoded["solver"] == params["solver"]


def test_observations(search):
    """Points of the first stage's cube; the size is one more column, in order."""
    stages = get_stages(search)
    observations = observe(stages, "score")
    assert list(observations.dimensions) == [*stages[0].space.dimensions, "size"]
    assert observations.codes.shape == (18, 8)
    assert observations.codes[:, -1].tolist() == [0.25] * 12 + [0.75] * 6
    np.testing.assert_array_equal(
        observations.scores, search.cv_results_["mean_test_score"]
    )
    missing = np.isnan(observations.codes[:, observations.find("widths[2]")])
    layers = np.array([p["n_layers"] for p in search.cv_results_["params"]])
    np.testing.assert_array_equal(missing, layers < 3)
    assert list(observe(stages[1:], "score").dimensions) == list(
        stages[1].space.dimensions
    )


def test_sizes_may_be_pairs():
    search = IISSearchCV(
        FormulaClassifier(),
        {"rate": loguniform(1e-4, 1)},
        sizes=((1, 1), (1, 2)),
        size_param="kind",
        n_iter=(3, 3),
        cv=2,
        error_score=0.0,
        scoring=lambda estimator, X, y: estimator.rate,
        random_state=0,
    ).fit(X, y)
    observations = observe(get_stages(search), "score")
    assert observations.dimensions["size"].levels == ((1, 1), (1, 2))


@pytest.mark.parametrize(("sizes", "name"), [((1, 2), "size"), ((2, 2), "stage")])
def test_stages_of_the_same_size_that_differ_are_told_apart(sizes, name):
    """Otherwise what they gain would be credited to the ranges of later stages."""
    search = IISSearchCV(
        FormulaClassifier(),
        {"rate": loguniform(1e-4, 1)},
        sizes=sizes,
        size_param="size",
        stage_params={"max_epochs": (1, 9)},
        n_iter=(6, 3),
        cv=2,
        random_state=0,
    ).fit(X, y)
    observations = observe(get_stages(search), "score")
    assert list(observations.dimensions) == ["rate", name]
    assert observations.codes[:, 1].tolist() == [0.25] * 6 + [0.75] * 3


def test_stages_of_the_same_size_and_training_are_not_told_apart():
    search = IISSearchCV(
        FormulaClassifier(),
        {"rate": loguniform(1e-4, 1)},
        sizes=(1, 1),
        size_param="size",
        n_iter=(6, 3),
        cv=2,
        random_state=0,
    ).fit(X, y)
    assert list(observe(get_stages(search), "score").dimensions) == ["rate"]


def test_rows_are_in_the_order_in_which_they_were_begun(search):
    """Stage after stage, or as a search that crosses the stages tells."""
    np.testing.assert_array_equal(order_rows(get_stages(search)), np.arange(18))
    space, codes = SearchSpace({"rate": loguniform(1e-4, 1)}), {"rate": 0.5}
    crossed = [
        Stage(i, i, True, space, [codes] * len(order), {}, np.array(order))
        for i, order in enumerate(([0, 1, 3], [2, 5]))
    ]
    assert order_rows(crossed).tolist() == [0, 1, 3, 2, 4]


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (np.int64(8), "8"),
        ((8, 16), "(8, 16)"),
        (np.inf, "inf"),
        ("caf\udce9\x07", r"caf\udce9\x07"),
        (10**400, "1" + "0" * 20 + "..."),
    ],
)
def test_any_size_has_a_short_label(size, text):
    space = SearchSpace({"rate": loguniform(1e-4, 1)})
    assert Stage(0, size, True, space, [], {}).label == text
    assert Stage(1, size, False, space, [], {}).label == f"{text} (stage 1)"
    assert Stage(2, None, True, space, [], {}).label == "stage 2"


def test_failed_candidates_are_left_out_whatever_their_score():
    search = IISSearchCV(
        FormulaClassifier(fails_below=1e-2),
        {"rate": loguniform(1e-4, 1)},
        n_iter=8,
        cv=2,
        error_score=0.0,
        random_state=0,
    )
    with pytest.warns(RuntimeWarning, match="candidates failed"):
        search.fit(X, y)
    (stage,) = get_stages(search)
    rates = np.array([p["rate"] for p in search.cv_results_["params"]])
    np.testing.assert_array_equal(stage.failed, rates < 1e-2)
    assert len(observe([stage], "score").scores) == (rates >= 1e-2).sum()


def test_a_list_of_spaces_of_another_search():
    """Each candidate is of the first alternative that it can be of."""
    grid = [
        {"C": [0.1, 1.0], "solver": ["lbfgs"]},
        {"class_weight": [{0: 1.0, 1: 2.0}, None], "C": [2.0, 3.0]},
    ]
    search = GridSearchCV(LogisticRegression(), grid, cv=2).fit(X, y)
    (stage,) = get_stages(search)
    params = search.cv_results_["params"]
    assert [codes["(alternative)"] for codes in stage.candidates] == [0] * 2 + [1] * 4
    assert [stage.space.decode(codes) for codes in stage.candidates] == params
    observations = observe([stage], "score")
    missing = np.isnan(observations.codes)
    alternative = observations.find("(alternative)")
    assert not missing[:, alternative].any()
    weights = missing[:, observations.find("class_weight")]
    np.testing.assert_array_equal(weights, ["class_weight" not in p for p in params])
