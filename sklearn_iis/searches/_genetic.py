"""Genetic search: sklearn-genetic-opt's GASearchCV, a population at a time."""

import math
import random
import sys
import warnings
from contextlib import contextmanager
from numbers import Integral, Real

import numpy as np
from sklearn.dummy import DummyClassifier
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn_genetic import GASearchCV
from sklearn_genetic.space.base import BaseDimension
from sklearn_genetic.utils.tools import novelty_scorer

from sklearn_iis.searches._base import BaseStageSearchCV, Evaluation

# The fitness of what failed before anything has a score. It must be finite.
NO_SCORE = -1e100

# After so many populations without a new candidate the rest is left to chance.
PATIENCE = 100


class StageGASearchCV(BaseStageSearchCV):
    """Genetic search by sklearn-genetic-opt's `GASearchCV`.

    `GASearchCV` evolves the candidates; they are measured by scikit-learn, a whole
    population at a time. Individuals that stand for a candidate measured before get its
    score and cost nothing.

    Parameters
    ----------
    estimator, space, n_iter, seeds, scoring, n_jobs, refit, cv, verbose, \
    pre_dispatch, random_state, error_score, return_train_score
        See :class:`BaseStageSearchCV`.

    population_size : int, default=None
        Individuals that survive a generation. None means the square root of `n_iter`,
        at least 4. There are never fewer than there are seeds.

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
    """

    _parameter_constraints: dict = {
        **BaseStageSearchCV._parameter_constraints,
        "population_size": [Interval(Integral, 2, None, closed="left"), None],
        "crossover_probability": [Interval(Real, 0, 1, closed="both")],
        "mutation_probability": [Interval(Real, 0, 1, closed="both")],
        "tournament_size": [Interval(Integral, 1, None, closed="left")],
        "elitism": ["boolean"],
        "algorithm": [StrOptions({"eaMuPlusLambda", "eaMuCommaLambda", "eaSimple"})],
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

    def _search(
        self, evaluate: Evaluation, random_state: np.random.RandomState
    ) -> None:
        seeds = [self.space.complete(codes) for codes in self.seeds or []]
        generator = _GlobalRandom(random_state.randint(2**31))

        def evaluate_outside(candidates):
            # What the estimator does with the global generator is its own affair.
            with generator.swapped():
                return evaluate(candidates)

        with generator.swapped(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*only one parameter", UserWarning)
            search = _PopulationGASearchCV(
                # It measures nothing itself.
                DummyClassifier(),
                param_grid={
                    name: _Gene(dimension, random_state)
                    for name, dimension in self.space.dimensions.items()
                },
                # GASearchCV would drop the seeds that do not fit.
                population_size=max(
                    self.population_size or max(4, math.isqrt(self.n_iter)), len(seeds)
                ),
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
            search.run(evaluate, evaluate_outside)


class _PopulationGASearchCV(GASearchCV):
    """A GASearchCV that has a whole population measured at once."""

    def run(self, evaluation, evaluate):
        self._evaluation = evaluation
        self._evaluate_candidates = evaluate
        self._n_idle = 0
        try:
            self.fit(None)
        except _SearchEnds as end:
            if end.__cause__ is not None:
                raise end.__cause__ from None
        finally:
            _remove_deap_classes()

    def _register(self):
        super()._register()
        self.toolbox.register("map", self._evaluate_population)
        if len(self.space) == 1:
            # Two individuals of one gene each have nothing to exchange.
            self.toolbox.register("mate", lambda *individuals: individuals)

    def _evaluate_population(self, _, individuals):
        names = self.space.parameters
        n_before = self._evaluation.remaining
        try:
            scores = self._evaluate_candidates(
                [dict(zip(names, genes, strict=True)) for genes in individuals]
            )
        except (KeyboardInterrupt, SystemExit, StopIteration) as error:
            # The loop that called would keep these and go on.
            raise _SearchEnds from error
        self._n_idle = 0 if self._evaluation.remaining < n_before else self._n_idle + 1
        if not self._evaluation.remaining or self._n_idle > PATIENCE:
            raise _SearchEnds
        worst = self._evaluation.worst
        scores = np.nan_to_num(scores, nan=NO_SCORE if worst is None else worst)
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
