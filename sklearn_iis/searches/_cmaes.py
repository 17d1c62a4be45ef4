"""Search by covariance matrix adaptation: Optuna's CmaEsSampler."""

import warnings
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import cmaes  # noqa: F401  # that it is there is told before anything is evaluated
import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import CmaEsSampler, TPESampler
from optuna.trial import FrozenTrial, Trial, create_trial

from sklearn_iis.searches._base import Sampler
from sklearn_iis.searches._tpe import MAX_STEPS, OptunaSearch, suggest_code
from sklearn_iis.space import Candidate, Continuous, Discrete, SearchSpace, as_key

# The distribution begins around the best tenth of the trials that Optuna is given.
TOP = 10

# Settings that say where to begin, or that Optuna refuses beside trials to begin with.
BEGINNINGS = {"x0", "sigma0", "source_trials", "use_separable_cma"}


@dataclass(eq=False, repr=False, kw_only=True)
class StageCMAESSearchCV(OptunaSearch):
    """Search by covariance matrix adaptation, CMA-ES: Optuna's `CmaEsSampler`.

    The first candidates are drawn at random. Around the best of them begins a normal
    distribution over the codes [1]_, with a deviation of a tenth of each range,
    that follows the better half of each generation: `4 + 3 log(n_dimensions)`
    candidates, rounded down. It suits numbers whose effects depend on each other.
    Do not use it

    - where an evaluation takes minutes: Bayesian search needs fewer of them, and TPE
      does with six numbers;
    - with more workers than a generation has candidates: they are busy with what is
      sampled before anything is learned from their scores;
    - where most hyperparameters are choices without an order, or exist for some
      candidates only: TPE itself is better then.

    Only numbers are part of the distribution. Choices without an order, that among the
    dicts of a list of spaces included, are sampled one by one by TPE. A number that
    does not exist for a candidate, such as a layer beyond its depth, is sampled all the
    same, so that the distribution has the same dimensions for all of them. Failed
    candidates count as much as the worst one so far.

    Parameters
    ----------
    estimator, space, n_iter, initial_candidates, scoring, n_jobs, refit, cv, verbose, \
    pre_dispatch, random_state, error_score, return_train_score
        See :class:`Search`. Optuna logs nothing unless `verbose` > 0.

    n_points : int, default=None
        Candidates proposed at once, and evaluated in parallel. None means one by one,
        each when a worker is free for it, so that proposals depend on which candidates
        are done by then: set it for candidates that are the same for any `n_jobs`.

    sampler_kwargs : dict, default=None
        Parameters of :class:`optuna.samplers.CmaEsSampler`. By default those of Optuna,
        but for `n_startup_trials`, candidates that have to have a score before the
        distribution begins: a third of `n_iter`, at most 10, initial ones included.
        With `use_separable_cma` it begins at the middle of the ranges.

    References
    ----------
    .. [1] N. Hansen, A. Ostermeier. "Completely derandomized self-adaptation in
       evolution strategies". Evolutionary Computation 9(2), 2001.

    Examples
    --------
    >>> from scipy.stats import loguniform, uniform
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.svm import SVC
    >>> from sklearn_iis import IISSearchCV
    >>> search = IISSearchCV(
    ...     SVC(),
    ...     {"C": loguniform(1e-3, 1e3), "gamma": loguniform(1e-4, 10)},
    ...     search="cmaes",
    ...     n_iter=12,
    ...     random_state=0,
    ... )
    >>> bool(search.fit(*load_iris(return_X_y=True)).best_score_ > 0.9)
    True
    """

    @property
    def sampler_class(self) -> type[Sampler]:
        return CMASampler


class CMASampler(Sampler):
    """A study of Optuna that a CmaEsSampler samples, once enough scores are known.

    Parameters
    ----------
    space : SearchSpace
        The hyperparameters.

    random_state : RandomState instance
        Determines the candidates.

    n_startup_trials : int, default=10
        How many scores are enough.

    **settings
        Further parameters of :class:`optuna.samplers.CmaEsSampler`.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        random_state: np.random.RandomState,
        n_startup_trials: int = 10,
        **settings: Any,
    ):
        self.space = space
        self.settings = {"seed": random_state.randint(2**31)} | settings
        self.n_startup_trials = max(1, n_startup_trials)
        self.distributions = {
            name: _make_distribution(dimension)
            for name, dimension in space.dimensions.items()
        }
        # Made again once enough is known; here so that a wrong setting is an error.
        self.study = optuna.create_study(
            direction="maximize", sampler=self._make_sampler([])
        )
        self._has_begun = False
        # The trials of each candidate that is under way.
        self._trials: dict[tuple, list[Trial]] = defaultdict(list)

    def ask(self) -> Candidate | None:
        if not self._has_begun:
            finished = self.study.get_trials(deepcopy=False)
            if len(finished) < self.n_startup_trials:
                return None
            self.study.sampler = self._make_sampler([self._find_best()] * TOP)
            self._has_begun = True
        trial = self.study.ask()
        codes = self._suggest(trial)
        self._trials[as_key(self.space.active(codes))].append(trial)
        return codes

    def tell(self, candidate: Candidate, score: float) -> None:
        trials = self._trials.pop(as_key(candidate), [])
        if np.isnan(score):
            if not self._has_begun:
                return
            finished = self.study.get_trials(deepcopy=False)
            score = min(trial.value for trial in finished if trial.value is not None)
        for trial in trials:
            self.study.tell(trial, score)
        if not trials:
            self.study.add_trial(self._make_trial(candidate, score))

    def _make_sampler(self, source_trials: list[FrozenTrial]) -> CmaEsSampler:
        """Return the sampler of a study, which begins at trials if there are any."""
        settings: dict[str, Any] = {"warn_independent_sampling": False} | self.settings
        if source_trials and not BEGINNINGS & settings.keys():
            settings["source_trials"] = source_trials
        with _experiments_allowed():
            choices = TPESampler(seed=settings["seed"])
            return CmaEsSampler(**{"independent_sampler": choices} | settings)

    def _find_best(self) -> FrozenTrial:
        """Return the best trial, of which only the numbers are left."""
        best = self.study.best_trial
        names = [
            n for n, dimension in self.space.dimensions.items() if dimension.ordered
        ]
        return create_trial(
            params={name: best.params[name] for name in names},
            distributions={name: best.distributions[name] for name in names},
            value=best.value,
        )

    def _make_trial(self, candidate: Candidate, score: float) -> FrozenTrial:
        """Return the trial of a candidate that Optuna did not propose."""
        complete = self.space.complete(candidate)
        params = {
            name: complete[name]
            for name, dimension in self.space.dimensions.items()
            if dimension.ordered or name in candidate
        }
        distributions = {name: self.distributions[name] for name in params}
        return create_trial(params=params, distributions=distributions, value=score)

    def _suggest(self, trial: Trial) -> Candidate:
        """Return the candidate of a trial: all numbers, and the choices that it has."""
        dimensions, conditions = self.space.dimensions, self.space.conditions
        codes: Candidate = {}
        # What depends on another one has a condition more, so it comes later.
        for name in sorted(dimensions, key=lambda name: len(conditions.get(name, ()))):
            dimension = dimensions[name]
            if dimension.ordered or all(
                condition.holds(codes) for condition in conditions.get(name, ())
            ):
                codes[name] = suggest_code(trial, name, dimension)
        return codes


def _make_distribution(dimension: Continuous | Discrete) -> BaseDistribution:
    """Return the distribution of a dimension's codes."""
    low, high = dimension.low, dimension.high
    if not dimension.ordered:
        return CategoricalDistribution(range(int(low), int(high) + 1))
    if isinstance(dimension, Continuous) or high - low > MAX_STEPS:
        return FloatDistribution(low, high)
    return IntDistribution(int(low), int(high))


@contextmanager
def _experiments_allowed():
    """Have Optuna not warn of what it calls experimental; it is since version 2.6."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield
