"""Bayesian search by random forests: SMAC3."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import numpy as np
from ConfigSpace import (
    AndConjunction,
    CategoricalHyperparameter,
    Configuration,
    ConfigurationSpace,
    InCondition,
    UniformFloatHyperparameter,
    UniformIntegerHyperparameter,
)
from smac import HyperparameterOptimizationFacade as Facade
from smac import Scenario
from smac.main.exceptions import ConfigurationSpaceExhaustedException
from smac.model.random_forest.random_forest import RandomForest
from smac.runhistory import StatusType, TrialInfo, TrialValue

from sklearn_iis._sklearn_compat import Interval
from sklearn_iis.searches._base import PATIENCE, Evaluator, Search
from sklearn_iis.space import Candidate, Continuous, SearchSpace

# SMAC needs a number of trials; this one is never reached.
UNLIMITED = 10**9

# Leaves of a tree of SMAC's forest, which memory is set aside for.
MAX_LEAVES = 2**12


@dataclass(eq=False, repr=False, kw_only=True)
class StageSMACSearchCV(Search):
    """Bayesian search by SMAC3's facade for hyperparameter optimization.

    A random forest predicts the scores [1]_, and candidates of high expected
    improvement are evaluated. Layers beyond its depth are no part of a candidate,
    and of no influence.

    Parameters
    ----------
    estimator, space, n_iter, initial_candidates, scoring, n_jobs, refit, cv, verbose, \
    pre_dispatch, random_state, error_score, return_train_score
        See :class:`Search`. SMAC logs nothing unless `verbose` > 0.

    n_points : int, default=2
        Candidates proposed by the same forest, and evaluated in parallel. Proposals
        depend on it, and not on `n_jobs`; to keep workers busy, `n_points` times the
        number of splits should be `n_jobs` at least. SMAC's own default is 8.

    n_initial : int, default=None
        Candidates of the initial design: `initial_candidates`, and points of a Sobol
        sequence. None means a third of `n_iter`, at most 10.

    References
    ----------
    .. [1] M. Lindauer et al. "SMAC3: a versatile Bayesian optimization package for
       hyperparameter optimization". Journal of Machine Learning Research 23(54), 2022.
    """

    n_points: int = 2
    n_initial: int | None = None

    _parameter_constraints: ClassVar[dict] = {
        **Search._parameter_constraints,
        "n_points": [Interval(Integral, 1, None, closed="left")],
        "n_initial": [Interval(Integral, 1, None, closed="left"), None],
    }

    def run(self, evaluate: Evaluator, random_state: np.random.RandomState) -> None:
        """Evaluate SMAC's initial design, and then what its forest proposes."""
        config_space = make_config_space(self.space)
        # A configuration rounds its values; these candidates are evaluated as they are.
        exact = {
            _make_configuration(config_space, self.space.active(codes)): codes
            for codes in (self.initial_candidates or [])[: self.n_iter]
        }
        with _quiet(self.verbose):
            facade, n_points = self._make_facade(config_space, [*exact], random_state)
        trials: list[TrialInfo] = []
        untold: list[tuple[TrialInfo, float]] = []
        # Rounds in a row of which nothing was new and allowed.
        n_idle = 0
        while evaluate.remaining:
            n_points = int(min(n_points, evaluate.remaining))
            if untold or n_idle >= PATIENCE:
                # SMAC would draw at random, and find no end in a small space.
                drawn = {
                    _make_configuration(config_space, codes): codes
                    for codes in self.space.sample(
                        n_points, random_state=random_state, exclude=evaluate.candidates
                    )
                }
                exact |= drawn
                trials = [replace(trials[0], config=config) for config in drawn]
            else:
                with _quiet(self.verbose):
                    trials = _ask(facade, n_points)
            if not trials:
                break
            n_points = self.n_points
            n_before = len(evaluate.candidates)
            scores = evaluate(
                [exact.get(t.config) or self._to_codes(t.config) for t in trials]
            )
            n_idle = n_idle + 1 if len(evaluate.candidates) == n_before else 0
            untold += zip(trials, scores, strict=True)
            # Before any candidate has a score there is no cost for those that failed.
            if evaluate.worst is not None:
                with _quiet(self.verbose):
                    for trial, score in untold:
                        _tell(facade, trial, score, evaluate.worst)
                untold = []

    def _make_facade(
        self,
        config_space: ConfigurationSpace,
        initial: list[Configuration],
        random_state: np.random.RandomState,
    ) -> tuple[Facade, int]:
        """Return SMAC's facade, and how many configurations its initial design has."""
        n_trials = self.n_iter or UNLIMITED
        n_initial = self.n_initial or self.n_startup
        with TemporaryDirectory(ignore_cleanup_errors=True) as directory:
            scenario = Scenario(
                config_space,
                # Written to by the constructor of the facade, and not needed again.
                output_directory=Path(directory),
                deterministic=True,
                n_trials=n_trials,
                seed=random_state.randint(2**31),
            )
            # SMAC would evaluate its own points first.
            sobol = Facade.get_initial_design(
                scenario,
                n_configs=max(0, min(n_initial, n_trials) - len(initial)),
                max_ratio=1,
            )
            initial = initial + sobol.select_configurations()
            facade = Facade(
                scenario,
                model=_make_forest(scenario),
                acquisition_maximizer=_make_maximizer(scenario),
                initial_design=Facade.get_initial_design(
                    scenario, n_configs=0, additional_configs=initial
                ),
                config_selector=Facade.get_config_selector(
                    scenario, retrain_after=self.n_points
                ),
                logging_level=False,
                overwrite=True,
            )
        return facade, len(initial)

    def _to_codes(self, config: Configuration) -> Candidate:
        dimensions = self.space.dimensions
        return {name: dimensions[name].clip(code) for name, code in config.items()}


def make_config_space(space: SearchSpace) -> ConfigurationSpace:
    """Return a search space in codes as SMAC wants it.

    Parameters
    ----------
    space : SearchSpace
        What is searched.

    Returns
    -------
    config_space : ConfigurationSpace
        Its dimensions, but those that no candidate has, and the conditions that they
        are under.
    """
    config_space = ConfigurationSpace()
    conditions = space.conditions
    names = [
        name
        for name in space.dimensions
        if all(condition.codes for condition in conditions.get(name, ()))
    ]
    config_space.add(
        _make_hyperparameter(name, space.dimensions[name]) for name in names
    )
    for name in names:
        if name in conditions:
            config_space.add(_make_condition(config_space, name, conditions[name]))
    return config_space


def _make_condition(config_space, name, conditions):
    """Return the conditions of a dimension as one of ConfigSpace."""
    parts = [
        InCondition(config_space[name], config_space[c.parent], list(c.codes))
        for c in conditions
    ]
    return parts[0] if len(parts) == 1 else AndConjunction(*parts)


def _make_configuration(config_space, codes):
    """Return a candidate as SMAC wants it, which rounds the bounds of ranges too."""
    values = dict(codes)
    for name in codes:
        hyperparameter = config_space[name]
        if isinstance(hyperparameter, UniformFloatHyperparameter):
            low, high = hyperparameter.lower, hyperparameter.upper
            values[name] = min(max(codes[name], low), high)
    return Configuration(config_space, values)


def _make_hyperparameter(name, dimension):
    low, high = dimension.low, dimension.high
    if isinstance(dimension, Continuous):
        return UniformFloatHyperparameter(name, low, high)
    if dimension.ordered:
        return UniformIntegerHyperparameter(name, low, high)
    return CategoricalHyperparameter(name, range(low, high + 1))


def _make_forest(scenario):
    """Return the random forest of SMAC's facade, but faster.

    SMAC allows for a million leaves, and scikit-learn sets memory for them aside, which
    takes longer than all else; no tree has more than there are trials. Threads take
    longer than they save.
    """
    return RandomForest(
        scenario.configspace,
        log_y=True,
        ratio_features=1.0,
        min_samples_split=2,
        min_samples_leaf=1,
        max_leaf_nodes=min(max(2, scenario.n_trials), MAX_LEAVES),
        n_jobs=1,
        seed=scenario.seed,
    )


def _make_maximizer(scenario):
    """Return what maximises the expected improvement in SMAC's facade.

    SMAC takes the points to start from out of a set, so that what is found depends on
    the hashes of strings, which differ from process to process.
    """
    maximizer = Facade.get_acquisition_maximizer(scenario)
    local_search = maximizer._local_search
    find_points = local_search._get_init_points_from_previous_configs

    def find_sorted_points(*args, **kwargs):
        return sorted(find_points(*args, **kwargs), key=repr)

    local_search._get_init_points_from_previous_configs = find_sorted_points
    return maximizer


def _ask(facade: Facade, n_points: int) -> list[TrialInfo]:
    """Return the next trials; fewer if SMAC finds no more."""
    trials: list[TrialInfo] = []
    with suppress(StopIteration, ConfigurationSpaceExhaustedException):
        while len(trials) < n_points:
            trials.append(facade.ask())
    return trials


def _tell(facade: Facade, trial: TrialInfo, score: float, worst: float) -> None:
    if np.isnan(score):
        value = TrialValue(cost=-float(worst), status=StatusType.CRASHED)
    else:
        value = TrialValue(cost=-float(score))
    facade.tell(trial, value, save=False)


@contextmanager
def _quiet(verbose: int) -> Iterator[None]:
    """Have SMAC log nothing for a while, unless it should."""
    logger = logging.getLogger("smac")
    level = logger.level
    if not verbose:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            # It calls deprecated methods, and takes means of nothing for its log.
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", RuntimeWarning)
            yield
    finally:
        logger.setLevel(level)
