"""Bayesian search: scikit-optimize's BayesSearchCV."""

import warnings
from copy import copy
from numbers import Integral

import numpy as np
from sklearn.utils._param_validation import Interval
from skopt import BayesSearchCV, Optimizer
from skopt.learning import GaussianProcessRegressor
from skopt.space import Categorical, Integer, Real
from skopt.utils import point_asdict, point_aslist
from threadpoolctl import threadpool_limits

from sklearn_iis._dimension import Continuous
from sklearn_iis._space import Candidate
from sklearn_iis.searches._base import BaseStageSearchCV, Evaluation

# A step of the Gaussian process takes time in the cube of the number of candidates.
MAX_GAUSSIAN_PROCESS = 150

GAUSSIAN_PROCESS = {"base_estimator": "GP", "acq_func": "EI"}
EXTRA_TREES = {
    "base_estimator": "ET",
    "acq_func": "EI",
    "acq_optimizer_kwargs": {"n_points": 2000},
}


class StageBayesSearchCV(BaseStageSearchCV, BayesSearchCV):
    """Bayesian search by scikit-optimize's `BayesSearchCV`.

    Parameters
    ----------
    estimator, space, n_iter, seeds, scoring, n_jobs, refit, cv, verbose, \
    pre_dispatch, random_state, error_score, return_train_score
        See :class:`BaseStageSearchCV`.

    n_points : int, default=2
        Candidates proposed at once, and measured in parallel. What is proposed depends
        on it, and not on `n_jobs`; to keep workers busy, `n_points` times the number of
        splits should be `n_jobs` at least.

    optimizer_kwargs : dict, default=None
        Parameters of :class:`skopt.Optimizer`. By default the expected improvement is
        maximised, `base_estimator` is a Gaussian process as long as there are no more
        than 150 candidates and extra trees beyond, and `n_initial_points`, which are
        drawn at random, are a third of `n_iter`, at most 10. Seeds count among them.

    Attributes
    ----------
    optimizer_results_ : list of scipy.optimize.OptimizeResult
        The result of the last surrogate; empty if none was needed.
    """

    _parameter_constraints: dict = {
        **BaseStageSearchCV._parameter_constraints,
        "n_points": [Interval(Integral, 1, None, closed="left")],
        "optimizer_kwargs": [dict, None],
    }

    def __init__(
        self,
        estimator,
        space,
        *,
        n_iter=10,
        seeds=None,
        n_points=2,
        optimizer_kwargs=None,
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
        self.optimizer_kwargs = optimizer_kwargs

    @property
    def search_spaces(self):
        """The dimensions, as scikit-optimize wants them."""
        return {
            name: _make_dimension(name, dimension)
            for name, dimension in self.space.dimensions.items()
        }

    def _search(
        self, evaluate: Evaluation, random_state: np.random.RandomState
    ) -> None:
        settings = dict(self.optimizer_kwargs or {})
        n_initial = settings.pop("n_initial_points", min(10, -(-self.n_iter // 3)))
        seeds = self.seeds or []
        evaluate(seeds + self._sample(n_initial - len(seeds), evaluate, random_state))
        optimizer = surrogate = None
        while evaluate.remaining:
            n_before = evaluate.remaining
            n_points = min(self.n_points, n_before)
            if evaluate.worst is not None:
                if surrogate is not (new := _surrogate(len(evaluate.candidates))):
                    surrogate = new
                    optimizer = self._make_optimizer(surrogate | settings, random_state)
                evaluate(self._propose(optimizer, n_points, evaluate))
            if evaluate.remaining == n_before:
                # There was nothing to learn from, or all were measured before.
                chance = self._sample(n_points, evaluate, random_state)
                if not chance:
                    break
                evaluate(chance)
        self._optim_results = [optimizer.get_result()] if optimizer else []

    def _sample(
        self,
        n_candidates: int,
        evaluate: Evaluation,
        random_state: np.random.RandomState,
    ) -> list[Candidate]:
        return self.space.sample(
            n_candidates, random_state=random_state, exclude=evaluate.candidates
        )

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
            optimizer.base_estimator_ = _LayeredGaussianProcess.from_surrogate(
                surrogate, self.space, optimizer.space
            )
        return optimizer

    def _propose(
        self, optimizer: Optimizer, n_points: int, evaluate: Evaluation
    ) -> list[Candidate]:
        """Propose candidates, by the constant liar strategy (Ginsbourger et al. 2010).

        `Optimizer.ask` does the same with two fits of the surrogate more.
        """
        spaces = self.search_spaces
        points = [
            point_aslist(spaces, self.space.complete(codes))
            for codes in evaluate.candidates
        ]
        # The scores of what failed follow the worst one, so all are told anew.
        scores = evaluate.scores
        losses = list(-np.where(np.isnan(scores), np.nanmin(scores), scores))
        optimizer.Xi.clear()
        optimizer.yi.clear()
        proposals = []
        # The matrices are so small that several threads take longer.
        with threadpool_limits(1, "blas"), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The objective has been evaluated")
            optimizer.tell(points, losses)
            while True:
                point = optimizer.ask()
                proposals.append(
                    {
                        name: self.space.dimensions[name].clip(code)
                        for name, code in point_asdict(spaces, point).items()
                    }
                )
                if len(proposals) == n_points:
                    return proposals
                optimizer.tell(point, min(losses))


class _LayeredGaussianProcess(GaussianProcessRegressor):
    """A Gaussian process that knows which layers a candidate has.

    It is fitted to candidates that are filled up with a fixed code for each layer that
    they lack. If a prediction depended on what is proposed for such a layer, a
    candidate that is far from all others in nothing else would seem to be unknown.
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
        process.layers = [
            (columns[name], columns.get(depth), _least(space, depth, layer))
            for name, (depth, layer) in space.conditions.items()
        ]
        return process

    def __sklearn_clone__(self):
        return copy(self)  # of what is never fitted itself

    def predict(self, X, **kwargs):
        missing = np.zeros(np.shape(X), dtype=bool)
        for layer, depth, least in self.layers:
            missing[:, layer] = True if depth is None else X[:, depth] < least
        predictions = super().predict(np.where(missing, self.filling, X), **kwargs)
        if not kwargs.get("return_mean_grad"):
            return predictions
        mean, deviation, *gradients = predictions
        return mean, deviation, *(np.where(missing[0], 0, g) for g in gradients)


def _least(space, depth, layer):
    """Return the least value, of those scaled from 0 to 1, of a depth with a layer."""
    dimension = space.dimensions.get(depth)
    if dimension is None:  # a depth with a single value, which the layer is beyond
        return None
    n_lower = sum(
        dimension.decode(code) <= layer
        for code in range(dimension.low, dimension.high + 1)
    )
    return (n_lower - 0.5) / (dimension.high - dimension.low)


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
