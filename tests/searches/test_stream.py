import time
from collections import Counter
from typing import ClassVar

import numpy as np
import pytest
from joblib import parallel_config
from scipy import stats

from sklearn_iis import IISSearchCV, SearchSpace
from sklearn_iis.execution._tickets import Delivery
from sklearn_iis.searches import BaseStageSearchCV
from sklearn_iis.searches._stream import Stream
from sklearn_iis.testing import SPACE, FormulaClassifier, X, y
from tests.searches.test_base import make_search

LINE = SearchSpace({"x": list(range(5))})


class Listed:
    """Proposes what it was given, and notes what it is told."""

    def __init__(self, candidates):
        self.candidates = iter(candidates)
        self.told = []
        self.expected = []

    def ask(self):
        return next(self.candidates, None)

    def expect(self, candidate):
        self.expected.append(candidate["x"])

    def tell(self, candidate, score):
        self.told.append((candidate["x"], score))


def make_stream(proposals, *, known=(), spare=(0, 1, 2, 3, 4), n_splits=1):
    proposer = Listed({"x": x} for x in proposals)
    stream = Stream(
        proposer,
        active=LINE.active,
        known={(("x", x),): score for x, score in dict(known).items()},
        spare=[{"x": x} for x in spare],
        n_splits=n_splits,
    )
    return stream, proposer


def test_no_candidate_is_measured_twice():
    stream, proposer = make_stream([3, 3, 0, 3, 3, 3, 1], known={0: 0.5})
    assert stream.propose() == {"x": 3}
    # A proposal that is known is told; one that is under way will be.
    assert stream.propose() == {"x": 1}
    assert proposer.told == [(0, 0.5)]
    stream.learn([{"x": 3}], [0.75])
    assert proposer.told[1:] == [(3, 0.75)]
    # No more proposals: what is spare, but not what was measured.
    assert [stream.propose()["x"] for _ in range(2)] == [2, 4]
    assert proposer.expected == [1, 2, 4]


def test_a_score_is_the_mean_over_all_splits():
    stream, proposer = make_stream([2, 1], n_splits=2)
    with stream.listening("here"):
        candidate = stream.decide()
        first = Delivery("here", candidate)
        # What is unpickled twice arrives twice.
        first.arrive(0.25, False)
        first.arrive(0.25, False)
        stream.learn()
        assert proposer.told == []
        Delivery("here", candidate).arrive(0.75, False)
        assert stream.decide() == {"x": 1}
        assert proposer.told == [(2, 0.5)]
        for score in (0.25, np.nan):
            Delivery("here", {"x": 1}).arrive(score, False)
        stream.learn()
    assert repr(proposer.told[1]) == "(1, nan)"


def test_nothing_is_proposed_any_more_once_the_time_is_up():
    stream, _ = make_stream([4, 3])
    assert stream.decide() == {"x": 4}
    stream._on_score(Delivery("here", {"x": 4}), np.nan, True)
    assert stream.decide() == {"x": 0}


def test_an_error_of_the_proposer_is_kept_for_the_search():
    stream, proposer = make_stream([])

    def fail():
        raise ZeroDivisionError("out of luck")

    proposer.ask = fail
    assert list(stream.decide()) == list(stream.decide()) == ["out of luck"]
    assert isinstance(stream.error, ZeroDivisionError)
    with pytest.raises(ZeroDivisionError, match="out of luck"):
        stream.propose()


class FailingSearchCV(BaseStageSearchCV):
    """A search whose third proposal fails."""

    def _search(self, evaluate, random_state):
        evaluate.follow(self, random_state)

    def ask(self):
        vars(self)["n_asked"] = vars(self).get("n_asked", 0) + 1
        if self.n_asked == 3:
            raise ZeroDivisionError("out of luck")

    def expect(self, candidate):
        pass

    def tell(self, candidate, score):
        pass


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_an_error_of_the_proposer_ends_the_search(n_jobs):
    search = IISSearchCV(
        FormulaClassifier(), SPACE, n_iter=8, search=FailingSearchCV, n_jobs=n_jobs
    )
    with pytest.raises(ZeroDivisionError, match="out of luck"):
        search.fit(X, y)


@pytest.mark.parametrize("name", ["tpe", "bayes", "genetic"])
@pytest.mark.parametrize("n_jobs", [1, 3])
def test_a_small_space_is_measured_as_a_whole(name, n_jobs):
    search = IISSearchCV(
        FormulaClassifier(),
        {"degree": [1, 2, 3], "kind": ["a", "b"]},
        n_iter=20,
        search=name,
        n_jobs=n_jobs,
        cv=2,
        random_state=0,
    )
    with pytest.warns(UserWarning, match="no more than 6 different"):
        search.fit(X, y)
    measured = {tuple(p.values()) for p in search.cv_results_["params"]}
    assert len(measured) == len(search.cv_results_["params"]) == 6


@pytest.mark.parametrize("name", ["tpe", "bayes", "genetic"])
def test_one_worker_gives_the_same_candidates_each_time(name):
    first, again = (
        IISSearchCV(
            FormulaClassifier(),
            {"rate": stats.loguniform(1e-4, 1), "degree": [1, 2, 3]},
            n_iter=16,
            search=name,
            random_state=3,
        ).fit(X, y)
        for _ in range(2)
    )
    assert first.cv_results_["params"] == again.cv_results_["params"]


def test_one_worker_waits_for_each_generation_anyway():
    first, synchronous = (
        IISSearchCV(
            FormulaClassifier(),
            SPACE,
            n_iter=24,
            search="genetic",
            search_params=search_params,
            random_state=0,
        ).fit(X, y)
        for search_params in (None, {"synchronous": True})
    )
    assert first.cv_results_["params"] == synchronous.cv_results_["params"]


class Noted(FormulaClassifier):
    """Notes what is fitted, in threads of this process."""

    fits: ClassVar[list] = []

    def fit(self, X, y):
        self.fits.append((self.rate, self.degree))
        time.sleep(0.001)
        return super().fit(X, y)


@pytest.mark.parametrize("name", ["tpe", "bayes", "genetic"])
def test_threads_measure_the_splits_of_a_candidate_on_the_same_one(name):
    Noted.fits.clear()
    search = IISSearchCV(
        Noted(),
        {"rate": stats.loguniform(1e-4, 1), "degree": [1, 2, 3]},
        n_iter=12,
        search=name,
        n_jobs=4,
        cv=4,
        refit=False,
    )
    with parallel_config("threading"):
        results = search.fit(X, y).cv_results_
    counts = Counter(Noted.fits)
    assert set(counts.values()) == {4}
    assert set(counts) == {(p["rate"], p["degree"]) for p in results["params"]}


def test_more_seeds_than_survive_are_measured_and_the_best_survive():
    space = SearchSpace(SPACE)
    seeds = space.sample(20, random_state=1)
    search = make_search(
        "genetic", space, seeds=seeds, n_iter=60, population_size=4, random_state=0
    ).fit(X, y)
    measured = search.cv_results_["params"]
    assert measured[:20] == seeds
    assert len(measured) == 60
    # Four survive and have eight children, so that there are several generations.
    best = sorted(search.cv_results_["mean_test_score"][:20])[-4]
    assert search.cv_results_["mean_test_score"][20:].max() > best
