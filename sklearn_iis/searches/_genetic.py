"""Genetic search: sklearn-genetic-opt's GASearchCV."""

import math
import random
import sys
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, contextmanager
from numbers import Integral, Real
from threading import Semaphore, Thread
from typing import Any

import numpy as np
from joblib import effective_n_jobs
from sklearn.dummy import DummyClassifier
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn_genetic import GASearchCV
from sklearn_genetic.space.base import BaseDimension
from sklearn_genetic.utils.tools import novelty_scorer

from sklearn_iis.searches._base import BaseStageSearchCV, Evaluation
from sklearn_iis.space import Candidate, SearchSpace, as_key

# Returns the score of each candidate: NaN for what failed, None if it is not known yet.
Measure = Callable[[list[Candidate]], Sequence[float | None]]

# The fitness of what failed before anything has a score. It must be finite.
NO_SCORE = -1e100

# After so many populations without a new candidate the rest is left to chance.
PATIENCE = 100


class StageGASearchCV(BaseStageSearchCV):
    """Genetic search by sklearn-genetic-opt's `GASearchCV`.

    `GASearchCV` evolves the candidates; they are measured by scikit-learn. Individuals
    that stand for a candidate measured before get its score and cost nothing.

    With several workers a generation of "eaMuPlusLambda" does not wait for its slowest
    individuals: once a worker is free and all of them are under way, the next
    generation begins. What has no score by then counts as the median of those that
    have, until it gets one.

    Parameters
    ----------
    estimator, space, n_iter, seeds, scoring, n_jobs, refit, cv, verbose, \
    pre_dispatch, random_state, error_score, return_train_score
        See :class:`BaseStageSearchCV`.

    population_size : int, default=None
        Individuals that survive a generation. None means the square root of `n_iter`,
        at least 4, and as many as there are workers, but at most half of `n_iter`,
        unless `synchronous`. If there are more seeds, the best of them survive.

    crossover_probability, mutation_probability : float, default=0.2 and 0.8
        How often an individual comes from two others, or has a hyperparameter drawn
        anew. Their sum must not exceed 1.

    tournament_size : int, default=3
        How many individuals compete for each place in the next generation.

    elitism : bool, default=True
        Select by tournaments; otherwise by a roulette wheel, which needs scores >= 0.

    algorithm : {"eaMuPlusLambda", "eaMuCommaLambda", "eaSimple"}, \
            default="eaMuPlusLambda"
        How generations follow each other.

    synchronous : bool, default=False
        Have each generation wait for all of its individuals, so that the candidates are
        the same for any `n_jobs`, and workers are idle meanwhile. The other algorithms
        always do.
    """

    _parameter_constraints: dict = {
        **BaseStageSearchCV._parameter_constraints,
        "population_size": [Interval(Integral, 2, None, closed="left"), None],
        "crossover_probability": [Interval(Real, 0, 1, closed="both")],
        "mutation_probability": [Interval(Real, 0, 1, closed="both")],
        "tournament_size": [Interval(Integral, 1, None, closed="left")],
        "elitism": ["boolean"],
        "algorithm": [StrOptions({"eaMuPlusLambda", "eaMuCommaLambda", "eaSimple"})],
        "synchronous": ["boolean"],
    }

    def __init__(
        self,
        estimator,
        space,
        *,
        n_iter=10,
        seeds=None,
        population_size=None,
        crossover_probability=0.2,
        mutation_probability=0.8,
        tournament_size=3,
        elitism=True,
        algorithm="eaMuPlusLambda",
        synchronous=False,
        scoring=None,
        n_jobs=None,
        refit=False,
        cv=None,
        verbose=0,
        pre_dispatch="2*n_jobs",
        random_state=None,
        error_score=np.nan,
        return_train_score=False,
    ):
        super().__init__(
            estimator,
            space,
            n_iter=n_iter,
            seeds=seeds,
            scoring=scoring,
            n_jobs=n_jobs,
            refit=refit,
            cv=cv,
            verbose=verbose,
            pre_dispatch=pre_dispatch,
            random_state=random_state,
            error_score=error_score,
            return_train_score=return_train_score,
        )
        self.population_size = population_size
        self.crossover_probability = crossover_probability
        self.mutation_probability = mutation_probability
        self.tournament_size = tournament_size
        self.elitism = elitism
        self.algorithm = algorithm
        self.synchronous = synchronous

    tasks_ahead = "n_jobs"

    @property
    def _proposes_singly(self):
        # What is late could not get its place back in the other algorithms.
        return not self.synchronous and self.algorithm == "eaMuPlusLambda"

    def _search(
        self, evaluate: Evaluation, random_state: np.random.RandomState
    ) -> None:
        generator = _GlobalRandom(random_state.randint(2**31))
        search = self._make_search(random_state)
        if self._proposes_singly and evaluate.can_stream:
            with _Generations(search, self.space, generator) as proposer:
                evaluate.follow(proposer, random_state)
            return

        def measure(candidates):
            n_before = evaluate.remaining
            # What the estimator does with the global generator is its own affair.
            with generator.swapped():
                scores = evaluate(candidates)
            if not evaluate.remaining:
                raise _SearchEnds
            patience.count(is_idle=evaluate.remaining == n_before)
            return scores

        patience = _Patience()
        with generator.swapped():
            search.run(measure)

    def _make_search(self, random_state):
        seeds = [self.space.complete(codes) for codes in self.seeds or []]
        n_workers = effective_n_jobs(self.n_jobs) if self._proposes_singly else 1
        population_size = self.population_size or max(
            4, math.isqrt(self.n_iter), min(n_workers, self.n_iter // 2)
        )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*only one parameter", UserWarning)
            return _PopulationGASearchCV(
                # It measures nothing itself.
                DummyClassifier(),
                param_grid={
                    name: _Gene(dimension, random_state)
                    for name, dimension in self.space.dimensions.items()
                },
                population_size=population_size,
                generations=sys.maxsize,
                crossover_probability=self.crossover_probability,
                mutation_probability=self.mutation_probability,
                tournament_size=self.tournament_size,
                elitism=self.elitism,
                algorithm=self.algorithm,
                refit=False,
                verbose=False,
                warm_start_configs=seeds,
            )


class _PopulationGASearchCV(GASearchCV):
    """A GASearchCV that has a whole population measured at once.

    If there are more seeds than individuals that survive a generation, all of them are
    measured, and the best ones survive.
    """

    def run(self, measure: Measure) -> None:
        """Evolve candidates until `measure` raises :class:`_SearchEnds`."""
        self._measure = measure
        # Individuals that are still being measured, and their candidates.
        self._late: list[tuple[Any, Candidate]] = []
        self._scores: list[float] = []
        try:
            self.fit(None)
        except _SearchEnds as end:
            if end.__cause__ is not None:
                raise end.__cause__ from None
        finally:
            _remove_deap_classes()

    def _register(self):
        n_survivors = self.population_size
        # GASearchCV would drop the seeds that do not fit.
        self.population_size = max(n_survivors, len(self.warm_start_configs))
        super()._register()
        self.population_size = n_survivors
        self.toolbox.register("map", self._evaluate_population)
        if len(self.space) == 1:
            # Two individuals of one gene each have nothing to exchange.
            self.toolbox.register("mate", lambda *individuals: individuals)

    def _evaluate_population(self, _, individuals):
        names = self.space.parameters
        candidates = [dict(zip(names, genes, strict=True)) for genes in individuals]
        n_late = len(self._late)
        pairs = [*self._late, *zip(individuals, candidates, strict=True)]
        try:
            scores = self._measure([candidate for _, candidate in pairs])
        except (KeyboardInterrupt, SystemExit, StopIteration) as error:
            # The loop that called would keep these and go on.
            raise _SearchEnds from error
        self._late = [p for p, s in zip(pairs, scores, strict=True) if s is None]
        fitness = self._rate(scores, [individual for individual, _ in pairs])
        for i in range(n_late):
            if scores[i] is not None:
                self._correct(pairs[i][0], fitness[i])
        if individuals and len(individuals) == len(self._pop) > self.population_size:
            # The first generation, with more seeds than survive.
            order = sorted(range(len(fitness)), key=lambda i: fitness[i], reverse=True)
            self._pop[:] = [individuals[i] for i in order[: self.population_size]]
        return fitness[n_late:]

    def _correct(self, individual, fitness):
        """Give an individual its true fitness, and perhaps its place back."""
        individual.fitness.values = fitness
        if not any(individual is other for other in self._pop):
            self._pop.append(individual)

    def _rate(self, scores, individuals):
        """Return the fitness of individuals, of which some are still being measured."""
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


class _Generations(AbstractContextManager):
    """Asks a genetic search for individuals one by one, as workers get free.

    The search runs in a thread of its own, but only while somebody waits for it.

    Parameters
    ----------
    search : _PopulationGASearchCV
        Evolves them.

    space : SearchSpace
        What is searched.

    generator : _GlobalRandom
        What the search draws from.
    """

    def __init__(
        self,
        search: _PopulationGASearchCV,
        space: SearchSpace,
        generator: "_GlobalRandom",
    ):
        self.search = search
        self.space = space
        self.generator = generator
        self._queue: deque[Candidate] = deque()
        # None for what is being measured.
        self._scores: dict[tuple, float | None] = {}
        self._patience = _Patience()
        self._error: BaseException | None = None
        self._is_closed = self._is_over = False
        self._go, self._back = Semaphore(0), Semaphore(0)
        self._thread = Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc_info):
        self._is_closed = True
        self._go.release()
        self._thread.join()

    def ask(self) -> Candidate | None:
        if not self._queue and not self._is_over:
            self._go.release()
            self._back.acquire()
        if self._error is not None:
            raise self._error
        return self._queue.popleft() if self._queue else None

    def expect(self, candidate: Candidate) -> None:
        self._scores[as_key(candidate)] = None

    def tell(self, candidate: Candidate, score: float) -> None:
        self._scores[as_key(candidate)] = score

    def _run(self):
        self._go.acquire()
        try:
            if not self._is_closed:
                with self.generator.swapped():
                    self.search.run(self._measure)
        except BaseException as error:
            self._error = error
        finally:
            self._is_over = True
            self._back.release()

    def _measure(self, candidates):
        keys = [as_key(self.space.active(codes)) for codes in candidates]
        new = [key for key in dict.fromkeys(keys) if key not in self._scores]
        self._scores |= dict.fromkeys(new)
        self._queue.extend(map(dict, new))
        self._patience.count(is_idle=not new)
        if new:
            with self.generator.swapped():
                self._back.release()
                self._go.acquire()
            if self._is_closed:
                raise _SearchEnds
        return [self._scores[key] for key in keys]


class _Patience:
    """Ends a search whose populations have had no new candidate for a long time."""

    def __init__(self):
        self._n_idle = 0

    def count(self, *, is_idle):
        self._n_idle = self._n_idle + 1 if is_idle else 0
        if self._n_idle > PATIENCE:
            raise _SearchEnds


class _Gene(BaseDimension):
    """A dimension of a SearchSpace as sklearn-genetic-opt wants it."""

    def __init__(self, dimension, random_state):
        self.dimension = dimension
        self.random_state = random_state
        self.lower, self.upper = dimension.low, dimension.high

    def sample(self):
        return self.dimension.rvs(self.random_state)


class _SearchEnds(Exception):
    """The budget is spent; or the cause, if there is one, ends the search."""


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
