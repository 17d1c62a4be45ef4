from itertools import islice

import numpy as np
import pytest
from scipy import stats
from sklearn.model_selection import RandomizedSearchCV

from sklearn_iis import SearchSpace
from sklearn_iis.searches import StageRandomizedSearchCV
from sklearn_iis.testing import SPACE, X, y
from tests.searches.test_base import make_search


def test_it_is_a_randomized_search():
    search = make_search("random").fit(X, y)
    assert isinstance(search, RandomizedSearchCV)
    assert isinstance(search, StageRandomizedSearchCV)


@pytest.mark.parametrize("n_iter", [10**12, None])
def test_candidates_are_drawn_as_they_are_needed(n_iter):
    batches = []

    def evaluate(candidates):
        batches.append(list(islice(candidates, 3)))

    initial = SearchSpace(SPACE).sample(1, random_state=7)
    search = make_search("random", n_iter=n_iter, initial_candidates=initial)
    search.run(evaluate, np.random.RandomState(0))
    assert batches == [initial + search.space.sample(2, random_state=0)]


def test_candidates_follow_the_prior():
    space = {"rate": stats.loguniform(1e-4, 1), "degree": stats.binom(6, 0.5)}
    search = make_search("random", space, n_iter=2000).fit(X, y)
    rates, degrees = (
        [codes[name] for codes in search.candidates_] for name in ("rate", "degree")
    )
    assert stats.kstest(rates, "uniform").pvalue > 0.01
    observed = np.bincount(degrees)
    expected = 2000 * stats.binom(6, 0.5).pmf(np.arange(7))
    assert stats.chisquare(observed, expected).pvalue > 0.01
