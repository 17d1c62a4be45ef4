"""What holds for each search."""

import pickle
import random

import numpy as np
import pytest
from scipy import stats
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection._search import BaseSearchCV

from sklearn_iis import IISSearchCV, PerLayer, SearchSpace
from sklearn_iis._trial import Trial, TrialScorer
from sklearn_iis.searches import SEARCHES, BaseStageSearchCV, get_search
from tests.formula import SPACE, FormulaClassifier, X, y

ONE_SPLIT = [(np.arange(10), np.arange(10, 20))]


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


def test_every_search_is_one_of_scikit_learns_kind(name):
    search = make_search(name)
    assert isinstance(search, BaseStageSearchCV)
    assert isinstance(search, BaseSearchCV)


@pytest.mark.parametrize("n_iter", [1, 2, 7, 23])
def test_budget_is_exact_and_candidates_are_distinct(name, n_iter):
    search = make_search(name, n_iter=n_iter).fit(X, y)
    candidates = search.cv_results_["params"]
    assert len(candidates) == n_iter
    assert len({tuple(codes.items()) for codes in candidates}) == n_iter


@pytest.mark.parametrize("n_iter", [2, 3, 20])
def test_seeds_come_first_and_count(name, n_iter):
    seeds = SearchSpace(SPACE).sample(3, random_state=7)
    search = make_search(name, n_iter=n_iter, seeds=seeds).fit(X, y)
    assert search.cv_results_["params"][:3] == seeds[:n_iter]
    assert len(search.cv_results_["params"]) == n_iter


def test_seeds_that_are_the_same_are_measured_once(name):
    seeds = SearchSpace(SPACE).sample(1, random_state=7) * 3
    candidates = make_search(name, seeds=seeds).fit(X, y).cv_results_["params"]
    assert candidates.count(seeds[0]) == 1
    assert len(candidates) == 20


def test_candidates_stay_in_a_narrowed_space(name):
    whole = SearchSpace(SPACE)
    space = whole.narrow(whole.sample(2, random_state=1), margin=0, floor=0.1)
    search = make_search(name, space).fit(X, y)
    for codes in search.cv_results_["params"]:
        assert space.project(codes) == codes


def test_inactive_layers_have_no_codes(name):
    search = make_search(name).fit(X, y)
    for codes in search.cv_results_["params"]:
        layers = [n for n in codes if n.startswith("widths")]
        assert len(layers) == codes["n_layers"] + 1


def test_same_random_state_same_candidates_in_any_number_of_processes(name):
    first, again, parallel, other = (
        make_search(name, n_jobs=n_jobs, random_state=seed).fit(X, y)
        for n_jobs, seed in ((1, 0), (1, 0), (2, 0), (1, 1))
    )
    for search in (again, parallel):
        assert search.cv_results_["params"] == first.cv_results_["params"]
        np.testing.assert_array_equal(
            search.cv_results_["mean_test_score"], first.cv_results_["mean_test_score"]
        )
    assert other.cv_results_["params"] != first.cv_results_["params"]


def test_global_random_states_are_left_alone(name):
    class Gambler(FormulaClassifier):
        def fit(self, X, y):
            draws.append((random.random(), np.random.random()))  # noqa: NPY002
            return super().fit(X, y)

    expected = []
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    for _ in range(21):
        expected.append((random.random(), np.random.random()))  # noqa: NPY002

    draws = []
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    make_search(name, estimator=Gambler()).fit(X, y)
    # The estimator draws what it would without the search, and so does what follows.
    assert draws == expected[:20]
    assert (random.random(), np.random.random()) == expected[20]  # noqa: NPY002


@pytest.mark.parametrize(
    "fails",
    [
        pytest.param(lambda i: i == 0, id="the first"),
        pytest.param(lambda i: i < 9, id="the first batches"),
        pytest.param(lambda i: i % 2 == 1, id="every other one"),
        pytest.param(lambda i: i == 19, id="the last"),
        pytest.param(lambda i: i != 13, id="all but one"),
    ],
)
def test_failures_cost_themselves_only(name, fails):
    calls = iter(range(20))

    def failing_scorer(estimator, X, y):
        if fails(next(calls)):
            raise RuntimeError("out of luck")
        return estimator.score(X, y)

    with pytest.warns(UserWarning, match="non-finite"):
        search = make_search(name, scorer=failing_scorer).fit(X, y)
    scores = search.cv_results_["mean_test_score"]
    np.testing.assert_array_equal(np.isnan(scores), [fails(i) for i in range(20)])


def test_a_small_space_is_exhausted(name):
    space = {"degree": [1, 2, 3], "kind": ["a", "b"]}
    search = make_search(name, space, n_iter=10)
    with pytest.warns(UserWarning, match="no more than 6 different"):
        search.fit(X, y)
    assert len(search.cv_results_["params"]) == 6


@pytest.mark.parametrize(
    ("space", "n_candidates"),
    [
        ({"rate": stats.loguniform(1e-4, 1)}, 12),
        ({"rate": stats.norm(0.5, 0.01)}, 12),
        ({"degree": stats.randint(1, 30)}, 12),
        ({"degree": stats.binom(30, 0.5)}, 12),
        ({"degree": [1, 2]}, 2),
        ({"kind": ["a", "b", "c"]}, 3),
        ({"n_layers": [2], "widths": PerLayer(stats.randint(1, 9), "n_layers")}, 12),
        ({"rate": stats.loguniform(1e-4, 1), "degree": [3]}, 12),
    ],
)
@pytest.mark.filterwarnings("ignore:n_iter=12 candidates are asked for")
def test_spaces_of_one_dimension(name, space, n_candidates):
    search = make_search(name, space, n_iter=12).fit(X, y)
    assert len(search.cv_results_["params"]) == n_candidates


def test_nothing_to_choose(name):
    with pytest.warns(UserWarning, match="no more than 1 different"):
        search = make_search(name, {"degree": [3]}).fit(X, y)
    assert search.cv_results_["params"] == [{}]


@pytest.mark.parametrize("name", sorted(set(SEARCHES) - {"random"}))
def test_finds_better_candidates_than_chance(name):
    def best(name, seed):
        search = make_search(name, n_iter=40, random_state=seed).fit(X, y)
        return search.best_score_

    gains = [best(name, seed) - best("random", seed) for seed in range(3)]
    assert np.mean(gains) > 0


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


def test_clone_pickle_and_parameters(name):
    search = make_search(name, n_iter=5)
    assert search.get_params(deep=False)["n_iter"] == 5
    again = clone(search).fit(X, y)
    search.set_params(n_iter=5).fit(X, y)
    assert again.cv_results_["params"] == search.cv_results_["params"]
    restored = pickle.loads(pickle.dumps(search))
    assert restored.best_params_ == search.best_params_
    refitted = clone(restored).fit(X, y)
    assert refitted.cv_results_["params"] == search.cv_results_["params"]


def test_bad_parameters(name):
    for setting in ({"n_iter": 0}, {"seeds": "best"}, {"random_state": "lucky"}):
        with pytest.raises(ValueError, match=f"The '{next(iter(setting))}' parameter"):
            make_search(name, **setting).fit(X, y)


def test_unknown_settings_are_refused(name):
    with pytest.raises(TypeError, match="n_iters"):
        make_search(name, n_iters=3)
