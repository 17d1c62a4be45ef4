"""Bayesian search: scikit-optimize's BayesSearchCV."""

import warnings
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from joblib import parallel_config
from scipy.optimize import OptimizeResult
from sklearn.base import clone
from skopt import BayesSearchCV, Optimizer
from skopt.learning import GaussianProcessRegressor
from skopt.learning.gaussian_process.kernels import WhiteKernel
from skopt.space import Categorical, Integer, Real
from skopt.utils import point_asdict, point_aslist
from threadpoolctl import threadpool_limits

from sklearn_iis._sklearn_compat import Interval
from sklearn_iis.searches._base import Evaluator, Sampler, Search
from sklearn_iis.space import Candidate, Continuous, as_key

# A step of the Gaussian process takes time in the cube of the number of candidates.
MAX_GAUSSIAN_PROCESS = 150

# Warnings of scikit-optimize that a user can do nothing about.
SURROGATE_WARNINGS = (
    "The objective has been evaluated",
    "The optimal value found for dimension",
    "Predicted variances smaller than 0",
)

GAUSSIAN_PROCESS = {"base_estimator": "GP", "acq_func": "EI"}
EXTRA_TREES = {
    "base_estimator": "ET",
    "acq_func": "EI",
    "acq_optimizer_kwargs": {"n_points": 2000},
}


@dataclass(eq=False, repr=False, kw_only=True)
class StageBayesSearchCV(Search, BayesSearchCV):
    """Bayesian search by scikit-optimize's `BayesSearchCV`.

    Parameters
    ----------
    estimator, space, n_iter, initial_candidates, scoring, n_jobs, refit, cv, verbose, \
    pre_dispatch, random_state, error_score, return_train_score
        See :class:`Search`.

    n_points : int, default=None
        Candidates proposed at once, and evaluated in parallel. None means one by one,
        each when a worker is free for it, so that proposals depend on which candidates
        are done by then: set it for candidates that are the same for any `n_jobs`. To
        keep workers busy, `n_points` times the number of splits should be `n_jobs` at
        least.

    optimizer_kwargs : dict, default=None
        Parameters of :class:`skopt.Optimizer`. By default the expected improvement is
        maximised, `base_estimator` is a Gaussian process as long as there are no more
        than 150 candidates and extra trees beyond, and `n_initial_points`, which are
        drawn at random, are a third of `n_iter`, at most 10. Initial candidates count
        among them.

    Attributes
    ----------
    optimizer_results_ : list of scipy.optimize.OptimizeResult
        The result of the last surrogate; empty if none was needed.
    """

    n_points: int | None = None
    optimizer_kwargs: dict[str, Any] | None = None

    _parameter_constraints: ClassVar[dict] = {
        **Search._parameter_constraints,
        "n_points": [Interval(Integral, 1, None, closed="left"), None],
        "optimizer_kwargs": [dict, None],
    }

    # One more than there are workers, as proposing takes a while.
    default_pre_dispatch: ClassVar[str] = "n_jobs+1"

    @property
    def is_asynchronous(self) -> bool:
        """Whether it proposes a candidate whenever a worker is free."""
        return self.n_points is None

    @property
    def search_spaces(self) -> dict[str, Real | Integer | Categorical]:
        """The dimensions, as scikit-optimize wants them."""
        return {
            name: _make_dimension(name, dimension)
            for name, dimension in self.space.dimensions.items()
        }

    def run(self, evaluate: Evaluator, random_state: np.random.RandomState) -> None:
        """Evaluate what scikit-optimize proposes."""
        seed = random_state.randint(2**31)
        sampler = _OptimizerSampler(self, np.random.RandomState(seed))
        with warnings.catch_warnings():
            # Here, and not for each proposal, as other threads may be evaluating.
            for message in SURROGATE_WARNINGS:
                warnings.filterwarnings("ignore", message)
            try:
                evaluate.stream(sampler, random_state, n_points=self.n_points)
            finally:
                self._optim_results = sampler.results

    def _make_optimizer(self, settings, random_state):
        self.optimizer_kwargs_ = {
            "n_initial_points": 1,
            "model_queue_size": 1,
            "random_state": random_state,
            **settings,
        }
        optimizer = super()._make_optimizer(self.search_spaces)
        surrogate = optimizer.base_estimator_
        if self.space.conditions and type(surrogate) is GaussianProcessRegressor:
            optimizer.base_estimator_ = _ConditionalGaussianProcess.from_surrogate(
                surrogate, self.space, optimizer.space
            )
        return optimizer


class _OptimizerSampler(Sampler):
    """An optimizer of scikit-optimize that is told anew of all candidates each time."""

    def __init__(self, search: StageBayesSearchCV, random_state: np.random.RandomState):
        self.search = search
        self.space = search.space
        self.random_state = random_state
        self.settings = dict(search.optimizer_kwargs or {})
        self.n_initial = self.settings.pop("n_initial_points", search.n_startup)
        self.optimizer: Optimizer | None = None
        self._surrogate: dict | None = None
        # The last Gaussian process with a kernel of its own, and its number of scores.
        self._fitted: tuple[int, GaussianProcessRegressor] | None = None
        self._scores: dict[tuple, float] = {}
        # The candidates that are under way.
        self._pending: dict[tuple, None] = {}

    @property
    def results(self) -> list[OptimizeResult]:
        """The result of the last surrogate; empty if none was needed."""
        if self.optimizer is None or not self.optimizer.yi:
            return []
        return [self.optimizer.get_result()]

    def ask(self) -> Candidate | None:
        n_candidates = len(self._scores) + len(self._pending)
        has_score = np.isfinite([*self._scores.values()]).any()
        if n_candidates < self.n_initial or not has_score:
            return None
        codes = self._propose()
        self.expect(self.space.active(codes))
        return codes

    def expect(self, candidate: Candidate) -> None:
        self._pending[as_key(candidate)] = None

    def tell(self, candidate: Candidate, score: float) -> None:
        self._pending.pop(as_key(candidate), None)
        self._scores[as_key(candidate)] = score

    def _propose(self):
        """Return a proposal, by the constant liar strategy (Ginsbourger et al. 2010).

        Candidates under way are taken to be as good as the best so far.
        """
        candidates = [dict(key) for key in (*self._scores, *self._pending)]
        surrogate = _surrogate(len(candidates))
        if self._surrogate is not surrogate:
            self._surrogate, self._fitted = surrogate, None
            self.optimizer = self.search._make_optimizer(
                surrogate | self.settings, self.random_state
            )
        optimizer, spaces = self.optimizer, self.search.search_spaces
        points = [point_aslist(spaces, self.space.complete(c)) for c in candidates]
        # Failed candidates follow the worst score, so all are told anew.
        scores = np.array([*self._scores.values()])
        losses = list(-np.where(np.isnan(scores), np.nanmin(scores), scores))
        losses += [min(losses)] * len(self._pending)
        optimizer.Xi.clear()
        optimizer.yi.clear()
        # The matrices are so small that several threads take longer.
        # scikit-optimize calls joblib, whose workers are busy.
        with threadpool_limits(1, "blas"), parallel_config("sequential"):
            with self._kernel_kept():
                optimizer.tell(points, losses)
            point = optimizer.ask()
        return {
            name: self.space.dimensions[name].clip(code)
            for name, code in point_asdict(spaces, point).items()
        }

    @contextmanager
    def _kernel_kept(self):
        """Fit the parameters of the kernel anew only if it is worth the time.

        That is if no worker waits for the next proposal, or if a tenth more scores are
        there than at the last time. It takes most of the time of a proposal.
        """
        optimizer, n_scores = self.optimizer, len(self._scores)
        surrogate = optimizer.base_estimator_
        if self._fitted is not None and self._pending:
            n_before, fitted = self._fitted
            if n_scores < 1.1 * n_before:
                optimizer.base_estimator_ = _keep_kernel(surrogate, fitted)
        try:
            yield
        finally:
            is_new = optimizer.base_estimator_ is surrogate
            optimizer.base_estimator_ = surrogate
        if is_new and isinstance(surrogate, GaussianProcessRegressor):
            self._fitted = n_scores, optimizer.models[-1]


class _ConditionalGaussianProcess(GaussianProcessRegressor):
    """A Gaussian process that knows which hyperparameters exist for a candidate.

    It is fitted to candidates that are filled up with a fixed code for each that does
    not exist. If a prediction depended on what is proposed for such a one, a candidate
    that is far from all others in nothing else would seem to be unknown.
    """

    @classmethod
    def from_surrogate(cls, surrogate, space, transformed):
        """Return it with the parameters of a Gaussian process over a skopt space."""
        process = cls(**surrogate.get_params(deep=False))
        ends = np.cumsum([d.transformed_size for d in transformed.dimensions])
        columns = {
            dimension.name: slice(end - dimension.transformed_size, end)
            for dimension, end in zip(transformed.dimensions, ends, strict=True)
        }
        filling = space.complete({})
        (process.filling,) = transformed.transform(
            [[filling[dimension.name] for dimension in transformed.dimensions]]
        )
        # Parents that are no dimensions any more have a single value left.
        process.columns = columns
        process.conditions = space.conditions
        process.parents = {
            c.parent: space.dimensions[c.parent]
            for conditions in space.conditions.values()
            for c in conditions
            if c.parent in columns
        }
        return process

    def __sklearn_clone__(self):
        return copy(self)  # of what is never fitted itself

    def predict(self, X, **kwargs):
        missing = np.zeros(np.shape(X), dtype=bool)
        codes = {
            name: _to_codes(dimension, X[:, self.columns[name]])
            for name, dimension in self.parents.items()
        }
        for name, conditions in self.conditions.items():
            for condition in conditions:
                excluded = not condition.codes or ~np.isin(
                    codes[condition.parent], condition.codes
                )
                missing[:, self.columns[name]] |= np.reshape(excluded, (-1, 1))
        predictions = super().predict(np.where(missing, self.filling, X), **kwargs)
        if not kwargs.get("return_mean_grad"):
            return predictions
        mean, deviation, *gradients = predictions
        return mean, deviation, *(np.where(missing[0], 0, g) for g in gradients)


def _keep_kernel(surrogate, fitted):
    """Return a surrogate that takes over the kernel of a fitted one, if it can."""
    kernel = clone(fitted.kernel_)
    if fitted.noise_ is not None:
        if not isinstance(getattr(kernel, "k2", None), WhiteKernel):
            return surrogate
        # scikit-optimize takes the noise out for predictions.
        kernel = kernel.k1 + WhiteKernel(fitted.noise_)
    return copy(surrogate).set_params(kernel=kernel, optimizer=None)


def _to_codes(dimension, columns):
    """Return the codes of a discrete dimension, out of its transformed columns."""
    low, high = dimension.low, dimension.high
    if dimension.ordered:
        return np.round(low + columns[:, 0] * (high - low))
    if columns.shape[1] == 1:  # of two choices
        return low + (columns[:, 0] > 0.5)
    return low + columns.argmax(axis=1)


def _surrogate(n_candidates):
    if n_candidates > MAX_GAUSSIAN_PROCESS:
        return EXTRA_TREES
    return GAUSSIAN_PROCESS


def _make_dimension(name, dimension):
    low, high = dimension.low, dimension.high
    if isinstance(dimension, Continuous):
        return Real(low, high, name=name)
    if dimension.ordered:
        return Integer(low, high, name=name)
    return Categorical(list(range(low, high + 1)), name=name)
