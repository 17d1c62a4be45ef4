import warnings

import numpy as np
import pytest
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import RandomizedSearchCV

from sklearn_iis import IISSearchCV, SearchSpace
from sklearn_iis._results import (
    compare_rows,
    compare_scores,
    make_results,
    metric_names,
    rank,
)
from sklearn_iis.execution._record import Record, Row
from sklearn_iis.searches import StageRandomizedSearchCV
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
    ours = {"stage", "size", "promoted", "error"}
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
    promoted = [False] * 12 + [True] * 3 + [False] * 3 + [True] * 3 + [False]
    np.testing.assert_array_equal(results["promoted"], promoted)


def test_parameters_are_decoded(search, results):
    codes = [c for stage in search.stages_ for c in stage.candidates_]
    params = [p for stage in search.stages_ for p in stage.cv_results_["params"]]
    assert results["params"] == params
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


def test_ranks_behind_others():
    """Whatever their scores are: first those of 0, then of 1, then of 2."""
    scores = np.array([0.5, 9.0, 0.75, np.nan, 1.0, 0.5])
    behind = np.array([0, 2, 0, 2, 1, 0])
    np.testing.assert_array_equal(rank(scores, behind), [2, 5, 1, 6, 4, 2])


def make_rows():
    """Of four candidates the second one failed, the third one was pruned."""
    rows = []
    for x, record in enumerate(
        [
            Record({"a": 1.0, "b": 2.0}),
            Record(100.0, error="why"),
            Record({"a": 9.0, "b": 9.0}, pruned=True),
            Record({"a": 2.0, "b": 1.0}),
        ]
    ):
        row = Row({"x": x}, 1, columns={"rung": x})
        row.records[0] = record
        rows.append(row)
    return rows


def test_the_table_of_a_stage():
    search = RandomizedSearchCV(FormulaClassifier(), {})
    params = [{"degree": x} for x in range(4)]
    results = make_results(search, make_rows(), params, can_prune=True)
    assert results["params"] == params
    assert results["rung"].tolist() == [0, 1, 2, 3]
    assert results["error"].tolist() == [None, "why", None, None]
    assert results["pruned"].tolist() == [False, False, True, False]
    assert results["mean_test_a"].tolist() == [1, 100, 9, 2]
    assert results["mean_test_b"].tolist() == [2, 100, 9, 1]
    # What failed and what was pruned is behind, however good it seems.
    assert results["rank_test_a"].tolist() == [2, 4, 3, 1]
    assert results["rank_test_b"].tolist() == [1, 4, 3, 2]
    assert "pruned" not in make_results(search, make_rows(), params)


def test_what_failed_is_not_the_best_with_any_score():
    search = IISSearchCV(
        FormulaClassifier(fails_below=1e-2),
        {"rate": [1e-3, 1e-1]},
        n_iter=2,
        cv=2,
        error_score=100,
        random_state=0,
    )
    with pytest.warns(FitFailedWarning):
        search.fit(X, y)
    assert search.best_params_ == {"rate": 1e-1}
    assert search.cv_results_["mean_test_score"].max() == 100


class Undefined(FormulaClassifier):
    """Has no score on more than ten samples, as on training data."""

    def score(self, X, y):
        return np.nan if len(X) > 10 and self.degree > 2 else super().score(X, y)


def test_scores_that_are_not_finite_are_told():
    """scikit-learn tells of them too; of what failed there is a warning already."""
    cv = [(np.arange(15), np.arange(15, 20))]
    search = IISSearchCV(
        Undefined(fails_below=1e-2),
        {"degree": [1, 2, 3], "rate": [1e-3, 1e-1]},
        n_iter=6,
        cv=cv,
        return_train_score=True,
        random_state=0,
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        search.fit(X, y)
    (message,) = (str(w.message) for w in caught if "not finite" in str(w.message))
    assert "the train score 'score' of 1 of 3 candidates is not finite" in message
    with pytest.warns(UserWarning, match="train score 'score' of 1 of 3"):
        StageRandomizedSearchCV(
            Undefined(),
            SearchSpace({"degree": [1, 2, 3]}),
            n_iter=3,
            cv=cv,
            return_train_score=True,
            random_state=0,
        ).fit(X, y)


def test_a_metric_that_guides_nothing_and_is_not_finite_is_told():
    search = IISSearchCV(
        FormulaClassifier(),
        {"degree": [1, 2, 3]},
        n_iter=3,
        cv=2,
        scoring=lambda estimator, X, y: {"a": 1.0, "b": np.log(estimator.degree - 4)},
        refit="a",
    )
    with (
        np.errstate(invalid="ignore"),
        pytest.warns(UserWarning, match="test score 'b' of 3 of 3 candidates is not"),
    ):
        search.fit(X, y)


def test_metric_names():
    results = {"mean_fit_time": 0, "mean_test_b": 0, "std_test_b": 0, "mean_test_a": 0}
    assert metric_names(results) == ["b", "a"]


# Stages


def test_two_stages_are_compared_in_closed_form():
    """Of 6 pairs of candidates 5 have the same order: tau is (5 - 1) / 6."""
    agreement = compare_scores(
        [0.1, 0.2, 0.3, 0.4], [0.3, 0.5, 0.4, 0.8], [1, 1, 2, 2], [3, 3, 3, 3]
    )
    assert agreement.n_candidates == 4
    assert agreement.kendall_tau == pytest.approx(4 / 6)
    # Gains of 0.2, 0.3, 0.1 and 0.4.
    assert agreement.gain == pytest.approx(0.25)
    assert agreement.gain_error == pytest.approx(np.sqrt(0.05 / 3 / 4))
    assert agreement.cost_ratio == pytest.approx(2)


@pytest.mark.parametrize("n_candidates", [0, 1])
def test_too_few_candidates_tell_nothing(n_candidates):
    values = [0.5] * n_candidates
    n, *rest = compare_scores(values, values, values, values)
    assert n == n_candidates
    assert np.isnan(rest).all()


@pytest.mark.parametrize("scores", [([1, 1, 1], [1, 2, 3]), ([1, 2, 3], [5, 5, 5])])
def test_equal_scores_have_no_ranks(scores):
    agreement = compare_scores(*scores, [1] * 3, [1] * 3)
    assert np.isnan(agreement.kendall_tau)
    assert agreement.gain == np.mean(scores[1]) - np.mean(scores[0])


def test_no_time_at_all_is_no_error():
    agreement = compare_scores([1, 2], [2, 1], [0, 0], [0, 0])
    assert agreement.kendall_tau == -1
    assert agreement.cost_ratio == 0


def test_rows_are_compared_by_their_means_and_sums():
    def make_row(scores, seconds):
        row = Row({}, len(scores))
        row.records = {
            i: Record(score, fit_time=seconds, score_time=1.0)
            for i, score in enumerate(scores)
        }
        return row

    before = [make_row([0.0, 0.2], 1.0), make_row([0.4, 0.6], 3.0)]
    after = [make_row([1.0, 1.2], 5.0), make_row([0.0, 0.2], 11.0)]
    expected = compare_scores([0.1, 0.5], [1.1, 0.1], [4.0, 8.0], [12.0, 24.0])
    assert compare_rows(before, after) == pytest.approx(expected)
    assert expected.cost_ratio == 3
