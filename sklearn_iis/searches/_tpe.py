"""Search by tree-structured Parzen estimators: Optuna's TPESampler."""

from abc import abstractmethod
from collections import defaultdict
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import optuna
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from sklearn_iis._optuna import optuna_errors_only
from sklearn_iis.searches._base import Sampler, StreamedSearch
from sklearn_iis.space import Candidate, Continuous, Discrete, SearchSpace, as_key

# Of more integers TPE cannot tell a step from none; they are floats to it.
MAX_STEPS = 2**40


@dataclass(eq=False, repr=False, kw_only=True)
class OptunaSearch(StreamedSearch):
    """Base class of searches by one of Optuna's samplers.

    Parameters
    ----------
    estimator, space, n_iter, initial_candidates, scoring, n_jobs, refit, cv, verbose, \
    pre_dispatch, random_state, error_score, return_train_score, n_points
        See :class:`StreamedSearch`. Optuna logs nothing unless `verbose` > 0.

    sampler_kwargs : dict, default=None
        Parameters of Optuna's sampler.
    """

    sampler_kwargs: dict[str, Any] | None = None

    _parameter_constraints: ClassVar[dict] = {
        **StreamedSearch._parameter_constraints,
        "sampler_kwargs": [dict, None],
    }

    @property
    @abstractmethod
    def sampler_class(self) -> type[Sampler]:
        """The class of samplers, with Optuna's parameters besides."""

    def make_sampler(self, evaluate, random_state):
        """Return a sampler that begins with some candidates at random."""
        settings = {"n_startup_trials": self.n_startup} | (self.sampler_kwargs or {})
        with nullcontext() if self.verbose else optuna_errors_only():
            return self.sampler_class(self.space, random_state=random_state, **settings)


@dataclass(eq=False, repr=False, kw_only=True)
class StageTPESearchCV(OptunaSearch):
    """Search by tree-structured Parzen estimators: Optuna's `TPESampler`.

    It proposes what is likely among the good candidates and unlikely among the others
    [1]_. Hyperparameters that do not exist for a candidate, such as layers beyond its
    depth, are not suggested for it, and not modelled.
    Failed candidates rank behind all that have a score; Optuna alone would ignore them.

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
        Parameters of :class:`optuna.samplers.TPESampler`. By default those of Optuna,
        but `n_startup_trials`, which are drawn at random, are a third of `n_iter`, at
        most 10. Initial candidates count among them.

    References
    ----------
    .. [1] J. Bergstra, R. Bardenet, Y. Bengio, B. Kégl. "Algorithms for
       hyper-parameter optimization". Advances in Neural Information Processing Systems
       24, 2011.
    """

    @property
    def sampler_class(self) -> type[Sampler]:
        return StudySampler


class StudySampler(Sampler):
    """A study of Optuna over the codes of candidates.

    Parameters
    ----------
    space : SearchSpace
        The hyperparameters.

    random_state : RandomState instance
        Determines the candidates.

    **settings
        Parameters of :class:`optuna.samplers.TPESampler`.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        random_state: np.random.RandomState,
        **settings: Any,
    ):
        sampler = TPESampler(**{"seed": random_state.randint(2**31)} | settings)
        self.study = optuna.create_study(sampler=sampler, direction="maximize")
        self.space = space
        # The trials of each candidate that is under way.
        self._trials: dict[tuple, list[Trial]] = defaultdict(list)
        # Those that failed before any candidate had a score.
        self._failed: list[FrozenTrial] = []
        self._has_score = False

    def ask(self) -> Candidate:
        trial = self.study.ask()
        codes = self._suggest(trial)
        self._trials[as_key(self.space.active(codes))].append(trial)
        return codes

    def expect(self, candidate: Candidate) -> None:
        self.study.enqueue_trial(candidate)
        self.ask()

    def tell(self, candidate: Candidate, score: float) -> None:
        if as_key(candidate) not in self._trials:
            self.expect(candidate)
        for trial in self._trials.pop(as_key(candidate)):
            if np.isnan(score):
                self._failed.append(self.study.tell(trial, state=TrialState.FAIL))
            else:
                self.study.tell(trial, score)
        self._has_score = self._has_score or not np.isnan(score)
        if self._has_score:
            _rank_last(self.study, self._failed)
            self._failed = []

    def _suggest(self, trial: Trial) -> Candidate:
        """Return the candidate of a trial: a suggestion for each of its own codes."""
        dimensions, conditions = self.space.dimensions, self.space.conditions
        codes: Candidate = {}
        # What depends on another one has a condition more, so it comes later.
        for name in sorted(dimensions, key=lambda name: len(conditions.get(name, ()))):
            if all(condition.holds(codes) for condition in conditions.get(name, ())):
                codes[name] = suggest_code(trial, name, dimensions[name])
        return codes


def suggest_code(trial: Trial, name: str, dimension: Continuous | Discrete) -> float:
    """Return the code that a trial of Optuna has for a dimension."""
    if isinstance(dimension, Continuous):
        return dimension.clip(trial.suggest_float(name, dimension.low, dimension.high))
    low, high = dimension.low, dimension.high
    if not dimension.ordered:
        return trial.suggest_categorical(name, range(low, high + 1))
    if high - low > MAX_STEPS:
        return dimension.clip(trial.suggest_float(name, low, high))
    return trial.suggest_int(name, low, high)


def _rank_last(study: optuna.Study, failed: list[FrozenTrial]) -> None:
    """Have TPE avoid candidates like those that failed.

    It learns nothing from failed trials, and would propose their like again and again.
    A pruned trial without a value ranks behind all that have one.
    """
    for trial in failed:
        study.add_trial(
            create_trial(
                state=TrialState.PRUNED,
                params=trial.params,
                distributions=trial.distributions,
            )
        )
