"""Patience: the end of a stage in which nothing improves."""

import time

import numpy as np
import pytest
from scipy import stats
from sklearn.model_selection import RandomizedSearchCV

from sklearn_iis import IISSearchCV
from sklearn_iis.execution._patience import Patience, check_patience
from sklearn_iis.execution._record import Record, Row
from sklearn_iis.searches import SEARCHES, StageGridSearchCV
from sklearn_iis.testing import SPACE, FormulaClassifier, X, y
from tests.searches.test_base import ONE_SPLIT

# Grids of small budgets tell of what they leave out.
pytestmark = pytest.mark.filterwarnings("ignore:.*which are not searched:UserWarning")

REFUSING = {"hyperband", "ladder", "fabolas"}


def make_row(number, score):
    row = Row({}, 1, number=number)
    row.records[0] = Record(score, error=None if np.isfinite(score) else "why")
    return row


def find_end(scores, n_candidates, order=None):
    """The number of the last row that counts; None if it goes on."""
    patience = Patience(n_candidates)
    for number in range(len(scores)) if order is None else order:
        patience.note(make_row(number, scores[number]))
    return patience.last


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([1, 0, 0, 0], 2),
        ([1, 2, 0, 3, 0], None),
        ([1, 2, 2, 2, 9], 3),
        # What fails is no improvement, and no score to be improved upon.
        ([np.nan, np.nan, np.nan, 1, np.nan, 0, 5], 5),
        ([np.nan] * 9, None),
    ],
)
def test_candidates_that_are_no_better_are_counted(scores, expected):
    assert find_end(scores, 2) == expected
    assert find_end(scores, None) is None


def test_the_order_in_which_they_are_finished_changes_nothing():
    rng = np.random.RandomState(0)
    for _ in range(50):
        scores = rng.randint(5, size=12).astype(float)
        orders = [rng.permutation(12) for _ in range(3)]
        ends = {find_end(scores, 4, order) for order in orders}
        assert ends == {find_end(scores, 4)}


class Probable(FormulaClassifier):
    """Has probabilities to be averaged."""

    def predict_proba(self, X):
        return np.full((len(X), 2), 0.5)


def make_search(**settings):
    settings = {
        "n_iter": (30, 5),
        "sizes": (1, 2),
        "size_param": "size",
        "cv": ONE_SPLIT,
        "random_state": 0,
    } | settings
    return IISSearchCV(Probable(), SPACE, **settings)


def find_expected_end(scores, patience):
    """The number of candidates up to the end, by definition."""
    for end in range(patience + 1, len(scores) + 1):
        if max(scores[end - patience : end]) <= max(scores[: end - patience]):
            return end
    return len(scores)


@pytest.mark.parametrize("search", sorted(set(SEARCHES) - REFUSING))
def test_a_stage_ends_and_what_is_left_goes_to_the_next_one(search):
    whole = make_search(search=search).fit(X, y).stages_[0]
    fitted = make_search(search=search, patience=(3, None)).fit(X, y)
    found = fitted.stages_[0].cv_results_
    scores = whole.cv_results_["mean_test_score"]
    end = find_expected_end(scores, 3)
    assert end < 30
    np.testing.assert_array_equal(found["mean_test_score"], scores[:end])
    n_next = len(fitted.stages_[1].cv_results_["params"])
    if search == "grid":
        assert n_next > 5
    else:
        assert n_next == 35 - end
    assert fitted.best_estimator_.get_params().items() >= fitted.best_params_.items()


def test_a_search_of_others():
    def search(estimator, space, *, initial_candidates, **settings):
        return RandomizedSearchCV(estimator, space.dimensions, **settings)

    fitted = make_search(search=search, patience=3, n_iter=(30, 30)).fit(X, y)
    scores = fitted.stages_[0].cv_results_["mean_test_score"]
    assert find_expected_end(scores, 3) == len(scores) < 30


@pytest.mark.parametrize("n_averaged", [None, 3])
def test_the_same_end_with_several_workers_and_when_resumed(tmp_path, n_averaged):
    settings = {"patience": 4, "n_averaged": n_averaged}
    expected = make_search(**settings).fit(X, y)
    stored = settings | {"storage": str(tmp_path / "journal.log"), "n_jobs": 2}
    for search in (make_search(**stored), make_search(**stored)):
        search.fit(X, y)
        results = search.cv_results_
        assert results["params"] == expected.cv_results_["params"]
        assert search.best_index_ == expected.best_index_
        if n_averaged is not None:
            names = search.best_estimator_.named_estimators_.keys()
            assert names == expected.best_estimator_.named_estimators_.keys()
    with pytest.raises(ValueError, match="patience was 4 and is 3"):
        make_search(**stored | {"patience": 3}).fit(X, y)


class Slow(FormulaClassifier):
    """Takes a while, and gets no better than the first one."""

    def fit(self, X, y):
        time.sleep(0.02)
        return super().fit(X, y)

    def score(self, X, y):
        return 0.5


def test_seconds_since_the_last_improvement():
    """The stage would take seconds, and ends long before; its time goes on."""
    space = {"rate": stats.loguniform(1e-4, 1)}
    search = IISSearchCV(
        Slow(), space, n_iter=1000, cv=ONE_SPLIT, random_state=0, patience_seconds=0.1
    ).fit(X, y)
    assert 1 <= len(search.cv_results_["params"]) < 1000


class Lingering(StageGridSearchCV):
    """Takes longer than its patience once all is evaluated."""

    def run(self, evaluate, random_state):
        super().run(evaluate, random_state)
        time.sleep(0.3)


def test_a_stage_that_ends_by_itself_hands_on_nothing():
    """A grid may leave a part of its budget, whatever time has gone by afterwards."""
    search = make_search(
        search=lambda *args, **settings: Lingering(*args, **settings),
        search_params={"n_levels": {"degree": 2, "rate": 1, "n_layers": 1}},
        patience_seconds=(0.2, None),
    )
    fitted = search.set_params(n_iter=(30, 6)).fit(X, y)
    counts = np.bincount(fitted.cv_results_["stage"])
    assert counts[0] < 30
    assert counts[1] <= 6


@pytest.mark.parametrize("search", sorted(REFUSING))
@pytest.mark.parametrize("name", ["patience", "patience_seconds"])
def test_searches_that_decide_by_themselves_refuse_it(search, name):
    with pytest.raises(ValueError, match=f"{name} does not go with Stage"):
        make_search(search=search, **{name: 3}).fit(X, y)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patience": (3,)}, r"patience=\(3,\) must be one number > 0, or a list of 2"),
        ({"patience": (3, 0)}, r"patience=\(3, 0\) must be"),
        ({"patience": [3, 2.5]}, "whole numbers"),
        ({"patience_seconds": [1, -1]}, r"patience_seconds=\[1, -1\] must be"),
    ],
)
def test_what_is_wrong_is_told_at_once(settings, message):
    search = make_search(**settings)
    with pytest.raises(ValueError, match=message):
        search.fit(X, y)
    assert not hasattr(search, "cv_results_")


def test_one_for_each_stage():
    assert check_patience(3, None, 2) == [(3, None), (3, None)]
    assert check_patience([3, None], 1.5, 2) == [(3, 1.5), (None, 1.5)]
