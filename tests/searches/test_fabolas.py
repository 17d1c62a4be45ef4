"""Fabolas: which sizes it chooses, its budget, resuming, and what it needs."""

import sys
import time

import numpy as np
import pytest
from joblib import parallel_config
from scipy import stats
from sklearn.exceptions import FitFailedWarning

from sklearn_iis import IISSearchCV, SearchSpace
from sklearn_iis.searches import get_search
from sklearn_iis.searches._fabolas import WORST, _bound
from sklearn_iis.space import as_key
from sklearn_iis.testing import FormulaClassifier, X, y
from tests.searches.test_base import ONE_SPLIT

NUMBERS = {"rate": stats.loguniform(1e-4, 1), "degree": stats.randint(1, 8)}
SIZES = (1, 2, 4)
WORK = {1: 1, 2: 4, 4: 16}


class Interrupted(FormulaClassifier):
    """The user interrupts the search after some fits."""

    n_fits = 0
    patience = 14

    def fit(self, X, y):
        Interrupted.n_fits += 1
        if Interrupted.n_fits > self.patience:
            raise KeyboardInterrupt
        return super().fit(X, y)


class Slow(FormulaClassifier):
    """A larger size takes longer."""

    def fit(self, X, y):
        time.sleep(0.002 * self.size**2)
        return super().fit(X, y)


def make_search(estimator=None, space=NUMBERS, **settings):
    settings = {
        "search": "fabolas",
        "sizes": SIZES,
        "size_param": "size",
        "n_iter": (16, 4, 2),
        "cv": ONE_SPLIT,
        "random_state": 0,
        "refit": False,
    } | settings
    return IISSearchCV(estimator or FormulaClassifier(), space, **settings)


def fit(*args, **settings):
    return make_search(*args, **settings).fit(X, y)


def count(search):
    return [len(stage.candidates_) for stage in search.stages_]


def list_sizes(search):
    """The size of each evaluation, in their order."""
    order = np.concatenate([stage.order_ for stage in search.stages_])
    return search.cv_results_["size"][np.argsort(order)].tolist()


@pytest.fixture(scope="module")
def found():
    return fit()


def test_it_spends_what_so_many_candidates_of_each_stage_cost(found):
    sizes = list_sizes(found)
    spent = sum(WORK[size] for size in sizes)
    # Nothing that an evaluation at full size would fit into is left.
    assert 64 - 16 < spent <= 64
    assert sizes[-1] == 4


def test_the_first_climb_and_then_sizes_are_chosen(found):
    """Ten at random, the best of which climbs."""
    sizes = list_sizes(found)
    assert sizes[:12] == [1] * 10 + [2, 4]
    first, second, third = (
        [as_key(codes) for codes in stage.candidates_] for stage in found.stages_
    )
    best = found.stages_[0].cv_results_["mean_test_score"][:10].argmax()
    assert second[0] == third[0] == first[best]
    assert len(set(sizes[12:])) > 1


def test_it_finds_the_optimum(found):
    """Of 44 random candidates at the last size hardly one is as good."""
    space = SearchSpace(NUMBERS)
    at_random = [
        FormulaClassifier(**space.decode(codes), size=4).score(X, y)
        for codes in space.sample(1000, random_state=0)
    ]
    last = found.stages_[-1].cv_results_["mean_test_score"].max()
    assert last > np.quantile(at_random, 0.97)
    assert found.best_score_ == found.cv_results_["mean_test_score"].max()


def test_nothing_is_evaluated_twice_at_a_size(found):
    for stage in found.stages_:
        keys = [as_key(codes) for codes in stage.candidates_]
        assert len(set(keys)) == len(keys)


def test_sizes_of_equal_cost_are_no_use():
    """Only those that have to be are evaluated before the last."""
    space = {"rate": NUMBERS["rate"]}
    search = fit(space=space, n_iter=(6, 6), size_param="max_epochs", sizes=(20, 20))
    assert count(search) == [4, 8]


def test_the_same_random_state_gives_the_same(found):
    again = fit()
    assert again.cv_results_["params"] == found.cv_results_["params"]
    assert list_sizes(again) == list_sizes(found)
    assert fit(random_state=1).cv_results_["params"] != found.cv_results_["params"]


def test_with_a_number_of_points_workers_change_nothing():
    settings = {"search_params": {"n_points": 3}, "n_iter": (8, 3, 1)}
    first = fit(**settings)
    with parallel_config("threading"):
        parallel = fit(n_jobs=3, **settings)
    assert parallel.cv_results_["params"] == first.cv_results_["params"]


def test_workers_are_given_different_candidates():
    with parallel_config("threading"):
        search = fit(Slow(), n_jobs=3)
    assert count(search)[-1] > 0
    for stage in search.stages_:
        assert len(set(map(as_key, stage.candidates_))) == len(stage.candidates_)


def test_initial_candidates_are_the_first():
    initial = [{"rate": 0.01, "degree": 3}, {"rate": 0.1, "degree": 2}]
    search = fit(initial_candidates=initial, n_iter=(4, 2, 1))
    first = search.stages_[0].cv_results_["params"][:2]
    assert [{k: params[k] for k in NUMBERS} for params in first] == [
        {"rate": pytest.approx(0.01), "degree": 3},
        {"rate": pytest.approx(0.1), "degree": 2},
    ]
    assert search.stages_[-1].candidates_[0] == search.stages_[0].candidates_[0]


def test_failures_are_the_worst_and_are_not_promoted():
    class Failing(FormulaClassifier):
        def fit(self, X, y):
            if 0.005 < self.rate < 0.02 and self.size == 1:
                raise RuntimeError("too good")
            return super().fit(X, y)

    with pytest.warns(FitFailedWarning, match="stages 0 to 2"):
        search = fit(Failing(), n_iter=(9, 3, 1))
    assert np.isfinite(search.best_score_)
    assert count(search)[-1] > 0


@pytest.mark.parametrize("worst", [-1e9, np.nan])
def test_the_very_worst_scores_are_bounded(worst):
    """By the best one and the median of the first; others stay as they are."""
    scores = np.array([0.2, 0.5, worst, 0.6, 0.9, 0.8])
    expected = [0.2, 0.5, 0.2, 0.6, 0.9, 0.8]
    if np.isfinite(worst):
        expected[2] = 0.35 - WORST * (0.9 - 0.35)  # of 0.2 and 0.5
    np.testing.assert_allclose(_bound(scores, 2), expected)


def test_if_the_median_is_the_best_nothing_is_bounded():
    np.testing.assert_array_equal(_bound(np.array([1.0, 1.0, -7.0]), 3), [1, 1, -7])


def test_a_single_candidate_climbs():
    with pytest.warns(UserWarning, match="no more than 1 different"):
        search = fit(space={"degree": [3]}, n_iter=(4, 2, 2))
    assert count(search) == [1, 1, 1]


def test_if_all_fail_the_error_is_the_usual_one():
    with pytest.raises(ValueError, match="Every candidate failed"):
        fit(FormulaClassifier(fails_below=10.0), n_iter=(3, 1, 1))


def test_a_space_that_is_exhausted_ends_with_a_warning():
    with pytest.warns(UserWarning, match="no more than 3 different"):
        search = fit(space={"kind": ["a", "b", "c"]}, n_iter=(9, 6, 6))
    assert count(search) == [3, 3, 3]


def test_time_as_the_budget():
    begin = time.monotonic()
    search = fit(Slow(), n_iter=None, timeout=3.0)
    assert time.monotonic() - begin < 60
    assert len(search.stages_) >= 1
    assert search.stages_[0].candidates_


@pytest.mark.parametrize(
    ("n_iter", "message"), [((None, 3, 3), "a number for each stage, or None for all")]
)
def test_wrong_budgets_are_told(n_iter, message):
    with pytest.raises(ValueError, match=message):
        fit(n_iter=n_iter, timeout=9.0)


def test_it_does_not_inherit_weights():
    from sklearn_iis import CNNClassifier

    search = make_search(
        CNNClassifier(pooling="average"),
        {"learning_rate": [0.1, 0.2]},
        sizes=(1, 2),
        size_param="max_epochs",
        n_iter=(2, 1),
        inherit_weights=True,
    )
    images = np.zeros((20, 8, 8, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match="do not go from one size to the next"):
        search.fit(images, y)


def test_an_interrupted_search_goes_on(tmp_path, found):
    """It ends as one that was not interrupted, and evaluates nothing twice."""
    storage = str(tmp_path / "search.journal")
    Interrupted.n_fits = 0
    with pytest.raises(KeyboardInterrupt):
        fit(Interrupted(), storage=storage)
    n_rows = len(found.cv_results_["params"])
    Interrupted.n_fits = 14 - n_rows
    resumed = fit(Interrupted(), storage=storage)
    assert Interrupted.n_fits == 0
    assert resumed.cv_results_["params"] == found.cv_results_["params"]
    np.testing.assert_array_equal(
        resumed.cv_results_["mean_test_score"], found.cv_results_["mean_test_score"]
    )


def test_the_extra_is_named_where_botorch_is_missing(monkeypatch):
    for module in ("_fabolas", "_fidelity"):
        monkeypatch.delitem(
            sys.modules, f"sklearn_iis.searches.{module}", raising=False
        )
    monkeypatch.setitem(sys.modules, "botorch", None)
    with pytest.raises(ImportError, match=r"BoTorch.*'sklearn-iis\[fabolas\]'"):
        get_search("fabolas")
