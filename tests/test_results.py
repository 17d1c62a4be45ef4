import numpy as np
import pytest
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import RandomizedSearchCV

from sklearn_iis import IISSearchCV
from sklearn_iis._results import metric_names, rank
from sklearn_iis.testing import SPACE, FormulaClassifier, X, y


@pytest.fixture(scope="module")
def search():
    return IISSearchCV(
        FormulaClassifier(fails_below=1e-3),
        SPACE,
        sizes=(1, 2, 2),
        size_param="size",
        n_iter=(12, 6, 4),
        random_state=0,
        cv=2,
        return_train_score=True,
    )


@pytest.fixture(scope="module")
def results(search):
    with pytest.warns(FitFailedWarning, match="candidates failed"):
        return search.fit(X, y).cv_results_


def test_columns_are_those_of_scikit_learn_and_ours(results):
    reference = RandomizedSearchCV(
        FormulaClassifier(),
        {"rate": [0.1, 0.2], "size": [1, 2]},
        n_iter=2,
        cv=2,
        return_train_score=True,
    ).fit(X, y)
    ours = {"stage", "size", "seed", "error"}
    params = {f"param_{name}" for name in SPACE}
    assert set(results) == set(reference.cv_results_) | ours | params
    for key, column in reference.cv_results_.items():
        assert type(results[key]) is type(column), key
        if key not in ("params", "param_size", "param_rate"):
            assert results[key].dtype == column.dtype, key
    assert all(len(column) == 22 for column in results.values())


def test_stages_and_sizes(results):
    np.testing.assert_array_equal(results["stage"], [0] * 12 + [1] * 6 + [2] * 4)
    np.testing.assert_array_equal(results["size"], [1] * 12 + [2] * 10)
    np.testing.assert_array_equal(results["param_size"], results["size"])
    seed = [False] * 12 + [True] * 3 + [False] * 3 + [True] * 3 + [False]
    np.testing.assert_array_equal(results["seed"], seed)


def test_parameters_are_decoded(search, results):
    codes = [c for stage in search.stages_ for c in stage.cv_results_["params"]]
    for i, params in enumerate(results["params"]):
        space = search.spaces_[results["stage"][i]]
        assert params == space.decode(codes[i]) | {"size": results["size"][i]}
        for name, value in params.items():
            assert results[f"param_{name}"][i] == value
        assert isinstance(params["widths"], tuple)


def test_scores_are_those_of_the_candidates(results):
    for i, params in enumerate(results["params"]):
        if results["error"][i] is None:
            expected = FormulaClassifier(**params).score(X, y)
            assert results["mean_test_score"][i] == pytest.approx(expected)
        else:
            assert params["rate"] < 1e-3
            assert np.isnan(results["mean_test_score"][i])
            assert "no fit with the rate" in results["error"][i]


def test_ranks_are_among_all_candidates(results):
    scores = results["mean_test_score"]
    failed = np.isnan(scores)
    assert failed.any()
    for i, ranked in enumerate(results["rank_test_score"]):
        better = np.sum(scores > scores[i]) if not failed[i] else np.sum(~failed)
        assert ranked == 1 + better


def test_ranks_if_all_failed():
    np.testing.assert_array_equal(rank(np.array([np.nan, np.nan])), [1, 1])


def test_metric_names():
    results = {"mean_fit_time": 0, "mean_test_b": 0, "std_test_b": 0, "mean_test_a": 0}
    assert metric_names(results) == ["b", "a"]
