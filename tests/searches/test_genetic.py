import random
import time
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
from deap import creator
from joblib import parallel_config
from scipy import stats
from scipy.stats import uniform
from sklearn.base import BaseEstimator
from sklearn_genetic.space import Space

from sklearn_iis import IISSearchCV, SearchSpace
from sklearn_iis.searches import StageGASearchCV
from sklearn_iis.searches._base import DeadlineReached
from sklearn_iis.searches._genetic import _Gene, _PopulationGASearchCV, select_best
from sklearn_iis.space import as_key, make_dimension
from sklearn_iis.testing import SPACE, X, y
from tests.searches.test_base import make_search

PLAIN = {"rate": uniform(0, 1), "degree": list(range(1, 9))}


def score(codes):
    return -abs(codes["rate"] - 0.5)


class Evaluate:
    """Stands for the Evaluator, and knows what is asked of it.

    Each candidate has its score after as many generations as `delay` says.
    """

    def __init__(self, search, *, n_workers=1, delay=lambda: 0, action=lambda n: None):
        self.search = search
        self.n_workers = n_workers
        self.delay = delay
        self.action = action
        self.sizes = []
        self.scores = []
        self._due = {}

    @property
    def remaining(self):
        n_iter = self.search.n_iter
        return np.inf if n_iter is None else n_iter - len(self._due)

    def __call__(self, candidates):
        return np.array(self._evaluate(candidates), dtype=float)

    def partial(self, candidates):
        return self._evaluate(candidates)

    def _evaluate(self, candidates):
        now = len(self.sizes)
        self.action(now)
        n_before = len(self._due)
        for codes in map(self.search.space.active, candidates):
            if as_key(codes) not in self._due and self.remaining:
                self._due[as_key(codes)] = now + self.delay()
                self.scores.append(score(codes))
        self.sizes.append(len(self._due) - n_before)
        keys = [as_key(self.search.space.active(codes)) for codes in candidates]
        due = [self._due.get(key, np.inf) for key in keys]
        return [
            score(dict(key)) if then <= now else None
            for key, then in zip(keys, due, strict=True)
        ]


def run(*, n_workers=1, delay=lambda: 0, action=lambda n: None, **settings):
    search = make_search("genetic", **settings)
    evaluate = Evaluate(search, n_workers=n_workers, delay=delay, action=action)
    search.run(evaluate, np.random.RandomState(0))
    return evaluate


def test_it_is_no_search_of_its_own():
    assert isinstance(make_search("genetic"), StageGASearchCV)


def test_it_waits_for_no_individual_unless_told_to():
    assert make_search("genetic").is_asynchronous
    assert not make_search("genetic", synchronous=True).is_asynchronous
    assert not make_search("genetic", algorithm="eaSimple").is_asynchronous


@pytest.mark.parametrize("synchronous", [False, True])
def test_whole_populations_are_evaluated_at_once(synchronous):
    evaluate = run(n_iter=50, population_size=10, synchronous=synchronous)
    # 10 parents, 20 children of which some are alike, and what is left of the budget.
    assert evaluate.sizes[0] == 10
    assert 10 <= evaluate.sizes[1] <= 20
    assert sum(evaluate.sizes) == 50


@pytest.mark.parametrize(
    ("n_iter", "n_workers", "size"),
    [(10, 1, 4), (100, 1, 5), (750, 1, 13), (100, 20, 20), (100, 70, 50)],
)
def test_default_population_grows_with_the_budget(n_iter, n_workers, size):
    search = make_search("genetic", n_iter=n_iter)
    assert search._find_population_size(n_workers) == size
    search.set_params(synchronous=True)
    assert search._find_population_size(n_workers) == search._find_population_size(1)
    if n_iter < 750:
        assert run(n_iter=n_iter, n_workers=n_workers).sizes[0] == size


@pytest.mark.parametrize(("n_workers", "size"), [(1, 10), (24, 24)])
@pytest.mark.parametrize("synchronous", [False, True])
def test_without_a_budget_it_goes_on_until_the_deadline(n_workers, size, synchronous):
    def end(n_generations):
        if n_generations == 150:
            raise DeadlineReached

    search = make_search("genetic", PLAIN, n_iter=None, synchronous=synchronous)
    evaluate = Evaluate(search, n_workers=n_workers, action=end)
    with pytest.raises(DeadlineReached):
        search.run(evaluate, np.random.RandomState(0))
    assert evaluate.sizes[0] == (10 if synchronous else size)
    assert len(evaluate.sizes) == 150
    assert min(evaluate.sizes) > 0
    assert not hasattr(creator, "Individual")


@pytest.mark.parametrize("n_iter", [None, 100])
def test_what_holds_nothing_new_is_left_to_chance(n_iter):
    evaluate = run(space={"rate": [0, 1], "degree": [1, 2]}, n_iter=n_iter)
    assert sum(evaluate.sizes) == 4


@pytest.mark.parametrize("synchronous", [False, True])
def test_the_population_improves(synchronous):
    evaluate = run(n_iter=200, population_size=10, synchronous=synchronous)
    assert np.mean(evaluate.scores[-20:]) > np.mean(evaluate.scores[:10]) + 0.1


def test_it_improves_although_all_scores_are_late():
    evaluate = run(n_iter=200, population_size=10, n_workers=8, delay=lambda: 2)
    assert np.mean(evaluate.scores[-20:]) > np.mean(evaluate.scores[:10]) + 0.1


@pytest.mark.parametrize("algorithm", ["eaSimple", "eaMuCommaLambda"])
def test_other_algorithms(algorithm):
    search = make_search("genetic", algorithm=algorithm, n_iter=40).fit(X, y)
    assert len(search.candidates_) == 40


@pytest.mark.parametrize("synchronous", [False, True])
@pytest.mark.parametrize("error", [KeyboardInterrupt, DeadlineReached, StopIteration])
def test_whatever_ends_an_evaluation_ends_the_search_at_once(error, synchronous):
    def press(n_generations):
        if n_generations == 2:
            raise error

    search = make_search("genetic", n_iter=100, synchronous=synchronous)
    evaluate = Evaluate(search, action=press)
    with pytest.raises(error):
        search.run(evaluate, np.random.RandomState(0))
    assert len(evaluate.sizes) == 2


def test_ctrl_c_between_evaluations_ends_the_search(monkeypatch):
    """GASearchCV keeps it until the next generation is evaluated."""
    sample, n_calls = _Gene.sample, count()

    def press(gene):
        if next(n_calls) == 60:
            raise KeyboardInterrupt
        return sample(gene)

    monkeypatch.setattr(_Gene, "sample", press)
    with pytest.raises(KeyboardInterrupt):
        run(space=PLAIN, n_iter=1000, population_size=10)


def test_nothing_is_left_in_deaps_global_module():
    make_search("genetic").fit(X, y)
    assert not hasattr(creator, "Individual")
    assert not hasattr(creator, "FitnessMax")


@pytest.mark.parametrize("synchronous", [False, True])
def test_evaluations_have_the_global_generator_for_themselves(synchronous):
    states = []
    random.seed(7)
    before = random.getstate()
    run(
        n_iter=40,
        synchronous=synchronous,
        action=lambda n: states.append(random.getstate()),
    )
    assert len(states) > 2
    assert all(state == before for state in states)
    assert random.getstate() == before


@pytest.mark.parametrize("settings", [{}, {"n_jobs": 2}, {"synchronous": True}])
def test_a_population_smaller_than_the_initial_candidates_loses_none(settings):
    initial = SearchSpace(SPACE).sample(5, random_state=3)
    search = make_search(
        "genetic", initial_candidates=initial, population_size=2, **settings
    ).fit(X, y)
    assert search.candidates_[:5] == initial
    assert len(search.candidates_) == 20


@pytest.fixture
def generations(monkeypatch):
    """Returns the populations after each generation: those that it is bred from."""
    kept = []
    evaluate = _PopulationGASearchCV._evaluate_generation

    def keeping(self, function, individuals):
        before = list(self._pop)
        late = [individual for individual, _ in self._late]
        fitness = evaluate(self, function, individuals)
        kept.append((before, late, list(self._pop)))
        return fitness

    monkeypatch.setattr(_PopulationGASearchCV, "_evaluate_generation", keeping)
    return kept


def is_among(individual, others):
    return any(individual is other for other in others)


@pytest.mark.parametrize("algorithm", ["eaMuPlusLambda", "eaMuCommaLambda", "eaSimple"])
def test_the_best_initial_candidates_survive(generations, algorithm):
    initial = SearchSpace(PLAIN).sample(7, random_state=3)
    run(
        space=PLAIN,
        initial_candidates=initial,
        population_size=3,
        n_iter=60,
        algorithm=algorithm,
        synchronous=True,
    )
    best = sorted(initial, key=score)[::-1][:3]
    assert generations[0][2] == [list(codes.values()) for codes in best]
    for before, _, after in generations[1:]:
        assert before == after
        assert len(after) == 3


@pytest.mark.parametrize("population_size", [2, 3, 5])
@pytest.mark.parametrize("n_initial", [0, 1, 5, 12])
@pytest.mark.parametrize("seed", range(3))
def test_late_individuals_get_their_place_back(
    generations, population_size, n_initial, seed
):
    """And nothing else changes the population that children are bred from."""
    rng = np.random.RandomState(seed)
    initial = SearchSpace(PLAIN).sample(n_initial, random_state=seed)
    evaluate = run(
        space=PLAIN,
        initial_candidates=initial,
        population_size=population_size,
        n_iter=100,
        n_workers=4,
        delay=lambda: rng.choice([0, 0, 1, 5]),
    )
    assert sum(evaluate.sizes) == 100
    first, *later = generations
    assert len(first[2]) == population_size
    returned = 0
    for before, late, after in later:
        assert after[: len(before)] == before
        assert all(is_among(individual, late) for individual in after[len(before) :])
        returned += len(after) - len(before)
    assert returned > 0


def test_an_initial_candidate_that_is_late_and_best_survives(generations):
    """All others are known when the population is cut, and it counts as the median."""
    initial = [{"rate": rate, "degree": 0} for rate in (0.9, 0.5, 0.8, 0.7, 0.6)]
    delays = iter([0, 1, 0, 0, 0])
    run(
        space=PLAIN,
        initial_candidates=initial,
        population_size=2,
        n_iter=30,
        n_workers=2,
        delay=lambda: next(delays, 0),
    )
    assert generations[0][2] == [[0.6, 0], [0.7, 0]]
    assert generations[1][2][-1] == [0.5, 0]
    assert generations[1][2][-1].fitness.values[0] == 0


class Slow(BaseEstimator):
    """Some candidates take longer than others."""

    def __init__(self, a=0.5):
        self.a = a

    def fit(self, X, y=None):
        time.sleep(random.Random(self.a).choice([0, 0, 0.02]))
        return self

    def score(self, X, y=None):
        return self.a


@pytest.mark.parametrize("population_size", [2, 3])
@pytest.mark.parametrize("sizes", [None, (1, 2)], ids=["one stage", "two stages"])
def test_small_populations_on_several_workers(population_size, sizes):
    """Late individuals once made the population as long as the offspring."""
    search = IISSearchCV(
        Slow(),
        {"a": uniform(0, 1)},
        search="genetic",
        n_iter=60,
        cv=2,
        n_jobs=4,
        search_params={"population_size": population_size},
        refit=False,
        random_state=0,
    )
    if sizes is not None:
        search.set_params(estimator=Sized(), sizes=sizes, size_param="size")
    with parallel_config("threading"):
        search.fit([[0.0]] * 8)
    assert len(search.cv_results_["params"]) == 60


class Sized(Slow):
    def __init__(self, a=0.5, size=1):
        super().__init__(a)
        self.size = size


class Rated(list):
    """An individual with a fitness."""

    def __init__(self, genes, fitness):
        super().__init__(genes)
        self.fitness = fitness


def test_the_best_survive_each_once():
    """And again only if there are fewer different ones."""
    individuals = [Rated([g], f) for g, f in ((1, 5), (2, 9), (2, 9), (3, 7), (4, 1))]
    assert select_best(individuals, 3) == [[2], [3], [1]]
    assert select_best(individuals[:3], 3) == [[2], [1], [2]]


def test_mutations_change_half_of_the_genes_and_move_numbers_nearby():
    random.seed(0)
    rng = np.random.RandomState(0)
    dimensions = {
        "number": make_dimension("number", stats.uniform(0, 1)),
        "choice": make_dimension("choice", list("abcdefgh")),
    }
    genes = {name: _Gene(d, rng) for name, d in dimensions.items()}
    search = SimpleNamespace(space=Space(genes))
    changed = [_PopulationGASearchCV.mutate(search, [0.5, 3])[0] for _ in range(1000)]
    numbers = np.array([number for number, _ in changed])
    moved = numbers[numbers != 0.5]
    assert 0.4 < len(moved) / 1000 < 0.75
    # A fifth is anywhere, and the others at a deviation of .2.
    near = np.mean(np.abs(moved - 0.5) < 0.2)
    assert near == pytest.approx(0.8 * 0.683 + 0.2 * 0.4, abs=0.05)
    choices = [choice for _, choice in changed if choice != 3]
    assert set(choices) == {0, 1, 2, 4, 5, 6, 7}
    assert all(one != [0.5, 3] for one in changed if one[1] != 3)


def test_a_number_that_does_not_move_is_drawn_anew():
    gene = _Gene(make_dimension("n", [1, 2]), np.random.RandomState(0))
    assert {gene.mutate(0) for _ in range(50)} == {0, 1}
