"""What holds for each search: the public checks, and what is our own affair."""

import numpy as np
import pytest
from scipy import stats
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection._search import BaseSearchCV

from sklearn_iis import IISSearchCV, PerLayer, SearchSpace
from sklearn_iis.execution._trial import Trial, TrialScorer
from sklearn_iis.searches import SEARCHES, BaseStageSearchCV, get_search
from sklearn_iis.testing import SPACE, FormulaClassifier, X, search_checks, y

ONE_SPLIT = [(np.arange(10), np.arange(10, 20))]

# Checks that do not apply.
SKIP = {
    "random": ["check_better_than_chance"],
    "grid": ["check_better_than_chance", "check_budget_is_exact"],
}

# By default TPE proposes as many candidates at once as there are workers.
ANY_N_JOBS = {
    "tpe": {"n_points": 2},
    "bayes": {"n_points": 2},
    "genetic": {"synchronous": True},
}

# A grid of few candidates holds most hyperparameters, and says so.
pytestmark = pytest.mark.filterwarnings("ignore:.*which are not searched:UserWarning")


def score(estimator, X, y):
    return estimator.score(X, y)


def make_search(name, space=SPACE, *, estimator=None, scorer=score, **settings):
    space = SearchSpace(space) if isinstance(space, dict) else space
    settings = {"n_iter": 20, "cv": ONE_SPLIT, "random_state": 0} | settings
    return get_search(name)(
        Trial(estimator or FormulaClassifier(), space),
        space,
        scoring=TrialScorer(scorer),
        **settings,
    )


@pytest.fixture(params=SEARCHES)
def name(request):
    return request.param


@pytest.mark.parametrize(
    "check",
    [
        pytest.param(check, id=f"{name}-{check.__name__}")
        for name in SEARCHES
        for check in search_checks(name, skip=SKIP.get(name, ()))
    ],
)
def test_public_checks(check):
    check()


def test_every_search_is_one_of_scikit_learns_kind(name):
    search = make_search(name)
    assert isinstance(search, BaseStageSearchCV)
    assert isinstance(search, BaseSearchCV)


def test_same_candidates_in_any_number_of_processes(name):
    settings = {"n_iter": 12, **ANY_N_JOBS.get(name, {})}
    first, parallel = (
        make_search(name, n_jobs=n_jobs, **settings).fit(X, y) for n_jobs in (1, 2)
    )
    assert parallel.cv_results_["params"] == first.cv_results_["params"]
    np.testing.assert_array_equal(
        parallel.cv_results_["mean_test_score"], first.cv_results_["mean_test_score"]
    )


@pytest.mark.parametrize("name", sorted(set(SEARCHES) - {"grid"}))
def test_another_random_state_gives_other_candidates(name):
    first, other = (
        make_search(name, n_iter=5, random_state=seed).fit(X, y) for seed in (0, 1)
    )
    assert other.cv_results_["params"] != first.cv_results_["params"]


@pytest.mark.parametrize("name", sorted(set(SEARCHES) - {"grid", "hyperband"}))
@pytest.mark.parametrize(
    "space",
    [
        {"rate": stats.norm(0.5, 0.01)},
        {"degree": stats.binom(30, 0.5)},
        {"n_layers": [2], "widths": PerLayer(stats.randint(1, 9), "n_layers")},
    ],
    ids=["continuous", "discrete", "layers"],
)
def test_the_budget_is_exact_in_spaces_of_one_dimension(name, space):
    search = make_search(name, space, n_iter=8).fit(X, y)
    assert len(search.cv_results_["params"]) == 8


@pytest.mark.parametrize("name", sorted(set(SEARCHES) - {"grid"}))
def test_a_budget_that_cannot_be_spent_is_told(name):
    search = make_search(name, {"degree": [1, 2, 3], "kind": ["a", "b"]}, n_iter=10)
    with pytest.warns(UserWarning, match="no more than 6 different"):
        search.fit(X, y)


def test_nothing_is_printed_at_any_level(name, capfd):
    """Nor by what is not Python."""
    make_search(name, n_iter=8).fit(X, y)
    assert capfd.readouterr() == ("", "")


def test_failures_do_not_guide_whatever_their_score_is(name):
    space = {"rate": stats.loguniform(1e-4, 1)}
    estimator = FormulaClassifier(fails_below=0.1)
    seen = []

    class Spy(get_search(name)):
        def _search(self, evaluate, random_state):
            try:
                super()._search(evaluate, random_state)
            finally:
                seen.append((evaluate.candidates, evaluate.scores))

    search = IISSearchCV(
        estimator,
        space,
        search=Spy,
        n_iter=20,
        cv=ONE_SPLIT,
        error_score=100,
        refit=False,
        random_state=0,
    )
    with pytest.warns(FitFailedWarning, match="candidates failed"):
        search.fit(X, y)
    ((candidates, scores),) = seen
    failed = np.array([codes["rate"] < 0.75 for codes in candidates])
    np.testing.assert_array_equal(np.isnan(scores), failed)
    assert failed.any()
    assert search.cv_results_["mean_test_score"].max() == 100


def test_bad_parameters(name):
    for setting in ({"n_iter": 0}, {"seeds": "best"}, {"random_state": "lucky"}):
        with pytest.raises(ValueError, match=f"The '{next(iter(setting))}' parameter"):
            make_search(name, **setting).fit(X, y)


def test_unknown_settings_are_refused(name):
    with pytest.raises(TypeError, match="n_iters"):
        make_search(name, n_iters=3)
