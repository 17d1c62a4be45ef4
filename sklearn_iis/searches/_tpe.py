"""Search by tree-structured Parzen estimators: Optuna's TPESampler."""

from collections import defaultdict
from contextlib import nullcontext
from numbers import Integral

import numpy as np
import optuna
from optuna import Study
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial
from sklearn.utils._param_validation import Interval

from sklearn_iis._optuna import optuna_errors_only
from sklearn_iis.searches._base import BaseStageSearchCV, Evaluation
from sklearn_iis.space import Candidate, Continuous, as_key


class StageTPESearchCV(BaseStageSearchCV):
    """Search by tree-structured Parzen estimators: Optuna's `TPESampler` [1]_.

    Layers beyond its depth are no part of a candidate, and are not modelled for it.
    What failed ranks behind all that has a score; Optuna alone would ignore it.

    Parameters
    ----------
    estimator, space, n_iter, seeds, scoring, n_jobs, refit, cv, verbose, \
    pre_dispatch, random_state, error_score, return_train_score
        See :class:`BaseStageSearchCV`. Optuna logs nothing unless `verbose` > 0.

    n_points : int, default=None
        Candidates proposed at once, and measured in parallel. None means one by one,
        each when a worker is free for it, so that what is proposed depends on which
        candidates are done by then: set it for candidates that are the same for any
        `n_jobs`.

    sampler_kwargs : dict, default=None
        Parameters of :class:`optuna.samplers.TPESampler`. By default those of Optuna,
        but `n_startup_trials`, which are drawn at random, are a third of `n_iter`, at
        most 10. Seeds count among them.

    References
    ----------
    .. [1] J. Bergstra, R. Bardenet, Y. Bengio, B. Kégl. "Algorithms for
       hyper-parameter optimization". Advances in Neural Information Processing Systems
       24, 2011.
    """

    _parameter_constraints: dict = {
        **BaseStageSearchCV._parameter_constraints,
        "n_points": [Interval(Integral, 1, None, closed="left"), None],
        "sampler_kwargs": [dict, None],
    }

    def __init__(
        self,
        estimator,
        space,
        *,
        n_iter=10,
        seeds=None,
        n_points=None,
        sampler_kwargs=None,
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
        self.n_points = n_points
        self.sampler_kwargs = sampler_kwargs

    tasks_ahead = "n_jobs"

    @property
    def _proposes_singly(self):
        return self.n_points is None

    def _search(
        self, evaluate: Evaluation, random_state: np.random.RandomState
    ) -> None:
        proposer = _TPEProposer(self._make_study(random_state), self.space)
        for codes in self.seeds or []:
            proposer.study.enqueue_trial(codes)
        evaluate.follow(proposer, random_state, n_points=self.n_points)

    def _make_study(self, random_state):
        settings = {
            "n_startup_trials": min(10, -(-self.n_iter // 3)),
            "seed": random_state.randint(2**31),
        } | (self.sampler_kwargs or {})
        sampler = TPESampler(**settings)
        with nullcontext() if self.verbose else optuna_errors_only():
            return optuna.create_study(sampler=sampler, direction="maximize")


class _TPEProposer:
    """A study of Optuna that is told of the codes of candidates."""

    def __init__(self, study, space):
        self.study = study
        self.space = space
        # The trials of each candidate that was proposed.
        self._trials: dict[tuple, list[Trial]] = defaultdict(list)
        # What failed before anything had a score.
        self._failed: list[FrozenTrial] = []
        self._has_score = False

    def ask(self) -> Candidate:
        trial = self.study.ask()
        codes = self._suggest(trial)
        self._trials[as_key(self.space.active(codes))].append(trial)
        return codes

    def expect(self, candidate: Candidate) -> None:
        """Do nothing: what is not asked for is added once it has a score."""

    def tell(self, candidate: Candidate, score: float) -> None:
        trials = self._trials.pop(as_key(candidate), [])
        if not trials:
            self._add(candidate, score)
        for trial in trials:
            if np.isnan(score):
                self._failed.append(self.study.tell(trial, state=TrialState.FAIL))
            else:
                self.study.tell(trial, score)
        self._has_score = self._has_score or not np.isnan(score)
        if self._has_score:
            _rank_last(self.study, self._failed)
            self._failed = []

    def _add(self, candidate, score):
        """Add what was drawn at random."""
        is_failed = np.isnan(score)
        dimensions = self.space.dimensions
        trial = create_trial(
            state=TrialState.FAIL if is_failed else TrialState.COMPLETE,
            value=None if is_failed else score,
            params=candidate,
            distributions={
                name: _make_distribution(dimensions[name]) for name in candidate
            },
        )
        self.study.add_trial(trial)
        if is_failed:
            self._failed.append(trial)

    def _suggest(self, trial: Trial) -> Candidate:
        """Return the candidate of a trial, with suggestions for what it has only."""
        dimensions, conditions = self.space.dimensions, self.space.conditions
        codes = {
            name: _suggest_code(trial, name, dimensions[name])
            for name in dimensions
            if name not in conditions
        }
        # Which layers there are does not depend on what they are filled in with.
        for name in self.space.active(self.space.complete(codes)):
            if name in conditions:
                codes[name] = _suggest_code(trial, name, dimensions[name])
        return codes


def _suggest_code(trial, name, dimension):
    low, high = dimension.low, dimension.high
    if isinstance(dimension, Continuous):
        return dimension.clip(trial.suggest_float(name, low, high))
    if dimension.ordered:
        return trial.suggest_int(name, low, high)
    return trial.suggest_categorical(name, range(low, high + 1))


def _make_distribution(dimension):
    """Return the distribution that a code is suggested from."""
    low, high = dimension.low, dimension.high
    if isinstance(dimension, Continuous):
        return FloatDistribution(low, high)
    if dimension.ordered:
        return IntDistribution(low, high)
    return CategoricalDistribution(range(low, high + 1))


def _rank_last(study: Study, failed: list[FrozenTrial]) -> None:
    """Have TPE avoid what is like the trials that failed.

    It learns nothing from them, and would propose their like again and again. A pruned
    trial without a value ranks behind all that have one.
    """
    for trial in failed:
        study.add_trial(
            create_trial(
                state=TrialState.PRUNED,
                params=trial.params,
                distributions=trial.distributions,
            )
        )
