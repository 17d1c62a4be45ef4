"""Search by tree-structured Parzen estimators: Optuna's TPESampler."""

from contextlib import nullcontext
from numbers import Integral

import numpy as np
import optuna
from joblib import effective_n_jobs
from optuna import Study
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial
from sklearn.utils._param_validation import Interval

from sklearn_iis._dimension import Continuous
from sklearn_iis._quiet import optuna_errors_only
from sklearn_iis._space import Candidate
from sklearn_iis.searches._base import BaseStageSearchCV, Evaluation


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
        Candidates proposed at once, and measured in parallel. None means as many as
        there are workers. What is proposed depends on it: set it for candidates that
        are the same for any `n_jobs`.

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

    def _search(
        self, evaluate: Evaluation, random_state: np.random.RandomState
    ) -> None:
        study = self._make_study(random_state)
        for codes in self.seeds or []:
            study.enqueue_trial(codes)
        failed: list[FrozenTrial] = []
        while evaluate.remaining:
            n_before = int(evaluate.remaining)
            n_points = min(self.n_points or effective_n_jobs(self.n_jobs), n_before)
            trials = [study.ask() for _ in range(n_points)]
            scores = evaluate([self._suggest(trial) for trial in trials])
            failed += _tell(study, trials, scores)
            if evaluate.worst is not None:
                _rank_last(study, failed)
                failed = []
            if evaluate.remaining == n_before:
                # All were measured before.
                chance = self.space.sample(
                    n_points, random_state=random_state, exclude=evaluate.candidates
                )
                if not chance:
                    break
                for codes in chance:
                    study.enqueue_trial(codes)

    def _make_study(self, random_state):
        settings = {
            "n_startup_trials": min(10, -(-self.n_iter // 3)),
            "seed": random_state.randint(2**31),
        } | (self.sampler_kwargs or {})
        sampler = TPESampler(**settings)
        with nullcontext() if self.verbose else optuna_errors_only():
            return optuna.create_study(sampler=sampler, direction="maximize")

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


def _tell(study: Study, trials: list[Trial], scores: np.ndarray) -> list[FrozenTrial]:
    """Tell the scores of trials, and return those that failed."""
    told = [
        study.tell(trial, state=TrialState.FAIL)
        if np.isnan(score)
        else study.tell(trial, score)
        for trial, score in zip(trials, scores, strict=True)
    ]
    return [trial for trial in told if trial.state == TrialState.FAIL]


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
