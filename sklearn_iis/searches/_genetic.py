"""Genetic search: sklearn-genetic-opt's GASearchCV."""

import math
import random
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.dummy import DummyClassifier
from sklearn_genetic import GASearchCV
from sklearn_genetic.space.base import BaseDimension
from sklearn_genetic.utils.tools import novelty_scorer

from sklearn_iis._sklearn_compat import Interval, StrOptions
from sklearn_iis.searches._base import Evaluator, Search
from sklearn_iis.space import Candidate, as_key

# Returns the score of each candidate: NaN if it failed, None if it is not known yet.
EvaluateCandidates = Callable[[list[Candidate]], Sequence[float | None]]

# The fitness of failed candidates before anything has a score. It must be finite.
NO_SCORE = -1e100

# The share of the genes that a mutation changes, one at least. With one only, as
# GASearchCV does, most children are of no use where most genes do not matter.
MUTATED = 0.5

# How many of the numbers among these are moved, the others being drawn anew, and by how
# much: the standard deviation as a fraction of the range.
MOVED = 0.8
STEP = 0.2

# After so many populations without a new candidate the rest is left to chance.
PATIENCE = 100


@dataclass(eq=False, repr=False, kw_only=True)
class StageGASearchCV(Search):
    """Genetic search by sklearn-genetic-opt's `GASearchCV`.

    `GASearchCV` only evolves the candidates. Individuals that stand for a candidate
    evaluated before get its score and cost nothing. A mutation changes half of the
    hyperparameters: four of five numbers among them move by a fifth of their range or
    so, and all else is drawn anew. `GASearchCV` draws a single one anew.

    Do not use it where few of many hyperparameters matter: it is hardly more reliable
    than random search there. Nor where you can afford TPE, which ended lower on all
    formulas that the searches are compared by.

    With several workers a generation of "eaMuPlusLambda" does not wait for its slowest
    individuals: once a worker is free and all of them are under way, the next
    generation begins. Individuals without a score count as the median of those that
    have one, until they get theirs.

    Parameters
    ----------
    estimator, space, n_iter, initial_candidates, scoring, n_jobs, refit, cv, verbose, \
    pre_dispatch, random_state, error_score, return_train_score
        See :class:`Search`.

    population_size : int, default=None
        Individuals that survive a generation. None means half the square root of
        `n_iter`, at least 4, and as many as there are workers, but at most half of
        `n_iter`, unless `synchronous`; without `n_iter`, as many as there are workers,
        at least 10. If there are more initial candidates, the best of them survive.

    crossover_probability, mutation_probability : float, default=0.2 and 0.8
        How often an individual comes from two others, or is mutated. Their sum must
        not exceed 1.

    tournament_size : int, default=None
        How many individuals compete for each place in the next generation. None means
        that the best ones survive, each once, with "eaMuPlusLambda", and 3 with the
        other algorithms. Tournaments leave a few individuals with many copies.

    elitism : bool, default=True
        Select the best ones, or by tournaments; otherwise by a roulette wheel, which
        needs scores >= 0.

    algorithm : {"eaMuPlusLambda", "eaMuCommaLambda", "eaSimple"}, \
            default="eaMuPlusLambda"
        How generations follow each other.

    synchronous : bool, default=False
        Have each generation wait for all of its individuals, so that the candidates are
        the same for any `n_jobs`, and workers are idle meanwhile. The other algorithms
        always do.
    """

    population_size: int | None = None
    crossover_probability: float = 0.2
    mutation_probability: float = 0.8
    tournament_size: int | None = None
    elitism: bool = True
    algorithm: str = "eaMuPlusLambda"
    synchronous: bool = False

    _parameter_constraints: ClassVar[dict] = {
        **Search._parameter_constraints,
        "population_size": [Interval(Integral, 2, None, closed="left"), None],
        "crossover_probability": [Interval(Real, 0, 1, closed="both")],
        "mutation_probability": [Interval(Real, 0, 1, closed="both")],
        "tournament_size": [Interval(Integral, 1, None, closed="left"), None],
        "elitism": ["boolean"],
        "algorithm": [StrOptions({"eaMuPlusLambda", "eaMuCommaLambda", "eaSimple"})],
        "synchronous": ["boolean"],
    }

    @property
    def is_asynchronous(self) -> bool:
        """Whether generations do not wait for their slowest individuals."""
        # A late individual could not get its place back in the other algorithms.
        return not self.synchronous and self.algorithm == "eaMuPlusLambda"

    def run(self, evaluate: Evaluator, random_state: np.random.RandomState) -> None:
        """Evaluate one generation after the other."""
        generator = _GlobalRandom(random_state.randint(2**31))
        search = self._make_search(evaluate.n_workers, random_state)
        search.keeps_best = self._keeps_best()
        seen: set[tuple] = set()
        n_idle = 0

        def evaluate_generation(candidates):
            nonlocal n_idle
            active = filter(self.space.allows, map(self.space.active, candidates))
            keys = set(map(as_key, active))
            n_idle = n_idle + 1 if keys <= seen else 0
            seen.update(keys)
            if n_idle > PATIENCE:
                raise _SearchEnds
            # The global generator is the estimator's while it is fitted.
            with generator.swapped():
                if self.is_asynchronous:
                    scores = evaluate.partial(candidates)
                else:
                    scores = evaluate(candidates)
            if evaluate.remaining <= 0:
                raise _SearchEnds
            return scores

        with generator.swapped():
            search.run(evaluate_generation)

    def _find_population_size(self, n_workers: int) -> int:
        """Return how many individuals survive a generation."""
        if self.population_size is not None:
            return self.population_size
        if not self.is_asynchronous:
            n_workers = 1
        if self.n_iter is None:
            return max(10, n_workers)
        return max(4, math.isqrt(self.n_iter) // 2, min(n_workers, self.n_iter // 2))

    def _make_search(self, n_workers, random_state):
        n_survivors = self._find_population_size(n_workers)
        first = [*(self.initial_candidates or [])]
        if self.space.constraint is not None:
            # Genes by themselves know nothing of it.
            first += self.space.sample(
                max(n_survivors - len(first), 0),
                random_state=random_state,
                exclude=map(self.space.active, first),
            )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*only one parameter", UserWarning)
            return _PopulationGASearchCV(
                # It evaluates nothing itself.
                DummyClassifier(),
                param_grid={
                    name: _Gene(dimension, random_state)
                    for name, dimension in self.space.dimensions.items()
                },
                population_size=n_survivors,
                generations=sys.maxsize,
                crossover_probability=self.crossover_probability,
                mutation_probability=self.mutation_probability,
                tournament_size=self.tournament_size or 3,
                elitism=self.elitism,
                algorithm=self.algorithm,
                refit=False,
                verbose=False,
                warm_start_configs=[self.space.complete(codes) for codes in first],
            )

    def _keeps_best(self) -> bool:
        """Return whether the best individuals survive, rather than who wins."""
        return (
            self.tournament_size is None
            and self.elitism
            and self.algorithm == "eaMuPlusLambda"
        )


class _PopulationGASearchCV(GASearchCV):
    """A GASearchCV that has a whole population evaluated at once.

    If there are more initial candidates than individuals that survive a generation, all
    of them are evaluated, and the best ones survive.
    """

    # Whether the best individuals survive, each once, instead of tournaments.
    keeps_best = False

    def run(self, evaluate: EvaluateCandidates) -> None:
        """Evolve candidates until `evaluate` raises an error.

        It returns if this is :class:`_SearchEnds`.
        """
        self._evaluate_candidates = evaluate
        # Individuals that are still being evaluated, and their candidates.
        self._late: list[tuple[Any, Candidate]] = []
        self._scores: list[float] = []
        self._is_first_generation = True
        try:
            self.fit(None)
        except _SearchEnds as end:
            if end.__cause__ is not None:
                raise end.__cause__ from None
        finally:
            _remove_deap_classes()

    def _register(self):
        n_survivors = self.population_size
        # GASearchCV would drop the initial candidates that do not fit.
        self.population_size = max(n_survivors, len(self.warm_start_configs))
        super()._register()
        self.population_size = n_survivors
        self.toolbox.register("map", self._evaluate_generation)
        if self.keeps_best:
            self.toolbox.register("select", select_best)
        if len(self.space) == 1:
            # Two individuals of one gene each have nothing to exchange.
            self.toolbox.register("mate", lambda *individuals: individuals)

    def mutate(self, individual):
        """Change half of the genes, and return the individual in a list."""
        genes = [self.space[name] for name in self.space.parameters]
        chosen = [i for i in range(len(genes)) if random.random() < MUTATED]
        for i in chosen or [random.randrange(len(genes))]:
            individual[i] = genes[i].mutate(individual[i])
        return [individual]

    def _select_algorithm(self, pop, stats, hof):
        super()._select_algorithm(pop, stats, hof)
        # It goes on for ever, unless it has caught an interrupt between evaluations.
        raise KeyboardInterrupt

    def _evaluate_generation(self, _, individuals):
        """Return the fitness of individuals; correct that of late ones."""
        names = self.space.parameters
        candidates = [dict(zip(names, genes, strict=True)) for genes in individuals]
        n_late = len(self._late)
        pairs = [*self._late, *zip(individuals, candidates, strict=True)]
        try:
            scores = self._evaluate_candidates([candidate for _, candidate in pairs])
        except (KeyboardInterrupt, SystemExit, StopIteration) as error:
            # The loop that called would keep these and go on.
            raise _SearchEnds from error
        self._late = [p for p, s in zip(pairs, scores, strict=True) if s is None]
        fitness = self._rate(scores, [individual for individual, _ in pairs])
        for i in range(n_late):
            if scores[i] is not None:
                self._correct(pairs[i][0], fitness[i])
        if self._is_first_generation:
            self._is_first_generation = False
            self._keep_survivors(fitness)
        return fitness[n_late:]

    def _keep_survivors(self, fitness):
        """Cut the first generation to the population size, if it is larger."""
        if len(self._pop) > self.population_size:
            order = sorted(range(len(fitness)), key=lambda i: fitness[i], reverse=True)
            self._pop[:] = [self._pop[i] for i in order[: self.population_size]]

    def _correct(self, individual, fitness):
        """Give an individual its true fitness, and perhaps its place back."""
        individual.fitness.values = fitness
        if not any(individual is other for other in self._pop):
            self._pop.append(individual)

    def _rate(self, scores, individuals):
        """Return the fitness of individuals, some of which have no score yet."""
        self._scores += [s for s in scores if s is not None and not np.isnan(s)]
        median = np.median(self._scores) if self._scores else NO_SCORE
        worst = min(self._scores, default=NO_SCORE)
        scores = [
            median if score is None else worst if np.isnan(score) else score
            for score in scores
        ]
        return [
            (score, novelty_scorer(genes, self._pop))
            for score, genes in zip(scores, individuals, strict=True)
        ]


class _Gene(BaseDimension):
    """A dimension of a SearchSpace as sklearn-genetic-opt wants it."""

    def __init__(self, dimension, random_state):
        self.dimension = dimension
        self.random_state = random_state
        self.lower, self.upper = dimension.low, dimension.high

    def sample(self):
        return self.dimension.rvs(self.random_state)

    def mutate(self, code):
        """Return another code: of a number near this one, more often than not."""
        if self.dimension.ordered and random.random() < MOVED:
            moved = self.dimension.unit(code) + random.gauss(0, STEP)
            moved = self.dimension.from_unit(min(max(moved, 0), 1))
            if moved != code:
                return moved
        return self.sample()


def select_best(individuals: Sequence[Any], k: int) -> list[Any]:
    """Return the best individuals, each once, unless there are fewer different ones."""
    ranked = sorted(individuals, key=lambda one: one.fitness, reverse=True)
    different = list({tuple(one): one for one in reversed(ranked)}.values())[::-1]
    return [different[i % len(different)] for i in range(k)]


class _SearchEnds(Exception):
    """The search ends; by its cause, if it has one."""


class _GlobalRandom:
    """A state of Python's global generator, which DEAP draws from."""

    def __init__(self, seed):
        self._state = random.Random(seed).getstate()

    @contextmanager
    def swapped(self):
        """Exchange the state kept here and that of the global generator for a while."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self):
        state = random.getstate()
        random.setstate(self._state)
        self._state = state


def _remove_deap_classes():
    """Remove what a GASearchCV leaves in a global module unless its fit ends well."""
    from deap import creator

    for name in ("FitnessMax", "Individual"):
        if hasattr(creator, name):
            delattr(creator, name)
