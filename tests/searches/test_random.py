import numpy as np
from scipy import stats
from sklearn.model_selection import RandomizedSearchCV

from sklearn_iis.searches import StageRandomizedSearchCV
from sklearn_iis.testing import X, y
from tests.searches.test_base import make_search


def test_it_is_a_randomized_search():
    search = make_search("random").fit(X, y)
    assert isinstance(search, RandomizedSearchCV)
    assert isinstance(search, StageRandomizedSearchCV)


def test_candidates_follow_the_prior():
    space = {"rate": stats.loguniform(1e-4, 1), "degree": stats.binom(6, 0.5)}
    search = make_search("random", space, n_iter=2000).fit(X, y)
    codes = search.cv_results_["param_rate"].data.astype(float)
    assert stats.kstest(codes, "uniform").pvalue > 0.01
    observed = np.bincount(search.cv_results_["param_degree"].data.astype(int))
    expected = 2000 * stats.binom(6, 0.5).pmf(np.arange(7))
    assert stats.chisquare(observed, expected).pvalue > 0.01
