import numpy as np
import pytest
from deap import creator

from sklearn_iis import SearchSpace
from sklearn_iis.searches import StageGASearchCV
from sklearn_iis.searches._base import Evaluation
from sklearn_iis.searches._genetic import _Generations, _GlobalRandom
from sklearn_iis.testing import SPACE, X, y
from tests.searches.test_base import make_search


class Batches:
    """Stands for scikit-learn's `evaluate_candidates`, and counts."""

    def __init__(self, action=lambda n: None):
        self.sizes = []
        self.scores = []
        self.action = action

    def __call__(self, candidates, more_results, callback_ctx):
        self.action(len(self.sizes))
        self.sizes.append(len(candidates))
        self.scores += [-abs(codes["rate"] - 0.5) for codes in candidates]
        return {"mean_test_score": np.array(self.scores)}


def evaluate_with(batches, **settings):
    search = make_search("genetic", **settings)
    search.n_splits_ = 1
    evaluate = Evaluation(search, batches, callback_ctx=None)
    search._search(evaluate, np.random.RandomState(0))
    return evaluate


def test_it_is_no_search_of_its_own():
    assert isinstance(make_search("genetic"), StageGASearchCV)


def test_whole_populations_are_measured_at_once():
    batches = Batches()
    evaluate_with(batches, n_iter=50, population_size=10)
    # 10 parents, 20 children of which some are alike, and what is left of the budget.
    assert batches.sizes[0] == 10
    assert 10 <= batches.sizes[1] <= 20
    assert sum(batches.sizes) == 50


def test_default_population_grows_with_the_budget():
    for n_iter, size in ((10, 4), (100, 10), (750, 27)):
        batches = Batches()
        evaluate_with(batches, n_iter=n_iter)
        assert batches.sizes[0] == size


def test_the_population_improves():
    evaluate = evaluate_with(Batches(), n_iter=200, population_size=10)
    assert np.mean(evaluate.scores[-20:]) > np.mean(evaluate.scores[:10]) + 0.1


@pytest.mark.parametrize("algorithm", ["eaSimple", "eaMuCommaLambda"])
def test_other_algorithms(algorithm):
    search = make_search("genetic", algorithm=algorithm, n_iter=40).fit(X, y)
    assert len(search.cv_results_["params"]) == 40


def test_ctrl_c_ends_the_search_at_once():
    def press(n_batches):
        if n_batches == 2:
            raise KeyboardInterrupt

    batches = Batches(press)
    with pytest.raises(KeyboardInterrupt):
        evaluate_with(batches, n_iter=100)
    assert len(batches.sizes) == 2


def test_nothing_is_left_in_deaps_global_module():
    make_search("genetic").fit(X, y)
    assert not hasattr(creator, "Individual")
    assert not hasattr(creator, "FitnessMax")


def test_a_population_smaller_than_the_seeds_loses_none():
    space = SearchSpace(SPACE)
    seeds = space.sample(5, random_state=3)
    search = make_search("genetic", seeds=seeds, population_size=2).fit(X, y)
    assert search.cv_results_["params"][:5] == seeds
    assert len(search.cv_results_["params"]) == 20


class ShortSearch:
    """Two individuals, of which nobody waits for the scores."""

    def run(self, measure):
        for x in range(2):
            measure([{"x": x}])


@pytest.mark.timeout(60)
def test_who_asks_after_the_last_generation_does_not_wait():
    space = SearchSpace({"x": list(range(9))})
    with _Generations(ShortSearch(), space, _GlobalRandom(0)) as generations:
        asked = [generations.ask() for _ in range(5)]
    assert [codes and codes["x"] for codes in asked] == [0, 1, None, None, None]
