"""One model of the scores at all sizes, and what an evaluation at one of them gains."""

import math
import warnings

import numpy as np
from scipy.stats import norm
from sklearn.linear_model import Ridge

from sklearn_iis.space import Candidate, SearchSpace

with warnings.catch_warnings():
    # linear_operator compiles a function in a way that torch gives up.
    warnings.simplefilter("ignore", DeprecationWarning)
    import botorch
    import torch
    from botorch.models import SingleTaskGP
    from botorch.models.kernels import LinearTruncatedFidelityKernel
    from botorch.models.utils.gpytorch_modules import (
        get_covar_module_with_dim_scaled_prior as make_kernel,
    )
    from botorch.optim.fit import fit_gpytorch_mll_scipy
    from botorch.utils.constraints import LogTransformedInterval
    from gpytorch.kernels import ScaleKernel
    from gpytorch.likelihoods import GaussianLikelihood
    from gpytorch.mlls import ExactMarginalLogLikelihood
    from gpytorch.priors import GammaPrior, LogNormalPrior

# The kernel is fitted anew with each score of the last stage, which is dear anyway, and
# when there are so many times as many scores.
GROWTH = 1.1

# Steps of that, from what it was before if there is something.
MAX_STEPS = 50

# The noise as a fraction of the variance of scores: what it is within, and the mode and
# the spread (in logarithms) of its prior. BoTorch's own, of at least 1e-4 and around
# 7e-3 by a spread of 1, hides how good candidates differ where bad ones are very bad.
NOISE_LIMITS = (1e-8, 10.0)
LIKELY_NOISE = 1e-3
NOISE_SPREAD = 3.0

# Scores that deviate by less than this part of them are the same.
SAME = 1e-12

# A standard deviation of less than this part of that of the noise is a rounding error.
ROUNDING = 1e-3


class FidelityModel:
    """A Gaussian process over candidates and stages.

    What a stage scores differently than the last one is a process of its own, which
    shrinks to nothing at the last stage: BoTorch's `LinearTruncatedFidelityKernel`,
    with a variance of that part that is fitted. The fidelity of a stage is its place
    among all, so that it does not matter what grows.

    Parameters
    ----------
    n_stages : int
        The number of stages.
    """

    def __init__(self, n_stages: int):
        self.n_stages = n_stages
        self.fidelities = (np.arange(n_stages) + 1) / n_stages
        self._kernel: dict[str, torch.Tensor] | None = None
        self._n_fitted = self._n_last = 0

    def fit(self, points: np.ndarray, stages: np.ndarray, scores: np.ndarray) -> None:
        """Learn scores.

        Parameters
        ----------
        points : ndarray of shape (n_scores, n_columns)
            The candidates.

        stages : ndarray of shape (n_scores,) of int
            Where each was evaluated, from 0.

        scores : ndarray of shape (n_scores,)
            The scores, all finite.
        """
        self._mean = scores.mean()
        deviation = scores.std()
        # Equal scores may differ from their mean by its rounding error.
        is_varied = deviation > SAME * np.abs(scores).max()
        self._scale = deviation if is_varied else 1.0
        targets = (scores - self._mean) / self._scale
        self._inputs = self._join(points, self.fidelities[stages])
        self._targets = torch.as_tensor(targets)
        with botorch.settings.validate_input_scaling(False):
            self.model = _make_model(self._inputs, self._targets, self.n_stages)
        if self._kernel is not None:
            self.model.load_state_dict(self._kernel)
        n_last = int(np.count_nonzero(stages == self.n_stages - 1))
        if n_last > self._n_last or len(scores) >= GROWTH * self._n_fitted:
            mll = ExactMarginalLogLikelihood(self.model.likelihood, self.model)
            with warnings.catch_warnings(action="ignore"):  # where it stops will do
                fit_gpytorch_mll_scipy(mll.train(), options={"maxiter": MAX_STEPS})
            self._kernel = self.model.state_dict()
            self._n_fitted, self._n_last = len(scores), n_last
        self.model.eval()

    def expect(self, points: np.ndarray, stages: np.ndarray) -> None:
        """Take what is under way to come out as predicted."""
        mean, _ = self.predict(points)
        targets = (mean[np.arange(len(points)), stages] - self._mean) / self._scale
        inputs = self._join(points, self.fidelities[stages])
        self._inputs = torch.cat([self._inputs, inputs])
        self._targets = torch.cat([self._targets, torch.as_tensor(targets)])
        self.model.set_train_data(self._inputs, self._targets, strict=False)

    def predict(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Predict the scores of candidates in all stages.

        Parameters
        ----------
        points : ndarray of shape (n_points, n_columns)
            The candidates.

        Returns
        -------
        mean : ndarray of shape (n_points, n_stages)
            The means, without noise.

        covariance : ndarray of shape (n_points, n_stages, n_stages)
            How the scores of each candidate in all stages vary together.
        """
        n_points, n_stages = len(points), self.n_stages
        pairs = self._join(
            np.repeat(points, n_stages, axis=0), np.tile(self.fidelities, n_points)
        )
        # It tells of what it adds to matrices that are hardly positive definite.
        with torch.no_grad(), warnings.catch_warnings(action="ignore"):
            found = self.model.posterior(pairs.reshape(n_points, n_stages, -1))
            mean = found.mean[..., 0].numpy()
            covariance = found.distribution.covariance_matrix.numpy()
        return self._mean + self._scale * mean, self._scale**2 * covariance

    @property
    def noise(self) -> float:
        """The variance of the noise of a score."""
        return self._scale**2 * self.model.likelihood.noise.item()

    def _join(self, points, fidelities):
        """Return inputs of the process, in which a single stage has no column."""
        if self.n_stages == 1:
            return torch.as_tensor(points)
        return torch.as_tensor(np.column_stack([points, fidelities]))


def expect_gains(
    mean: np.ndarray, covariance: np.ndarray, noise: float, best: float
) -> np.ndarray:
    """Return what an evaluation of each candidate in each stage is expected to gain.

    In the last stage that is the expected improvement of the best score so far. In
    another one it is how much more improvement is expected of the candidate's score in
    the last stage once that one is known, which moves the mean: the value of what is
    learned, as in the knowledge gradient, but of that candidate alone.

    Parameters
    ----------
    mean : ndarray of shape (n_points, n_stages)
        Predictions.

    covariance : ndarray of shape (n_points, n_stages, n_stages)
        Their covariances.

    noise : float
        The variance of the noise of a score.

    best : float
        The best score of the last stage so far.

    Returns
    -------
    gains : ndarray of shape (n_points, n_stages)
        In the units of scores.
    """
    variances = np.diagonal(covariance, axis1=1, axis2=2).clip(0)
    moves = np.abs(covariance[:, :, -1]) / np.sqrt(variances + noise)
    ahead = mean[:, -1:] - best
    spread = moves.clip(ROUNDING * math.sqrt(noise))
    ratio = ahead / spread
    gains = spread * (norm.pdf(ratio) + ratio * norm.cdf(ratio))
    gains[:, :-1] -= ahead.clip(0)
    return gains.clip(0)


class CostModel:
    """The cost of an evaluation: linear in the logarithms, by candidate and stage.

    Until it is fitted, and as far as measurements leave it open, costs are in
    proportion to the work of a stage.

    Parameters
    ----------
    work : sequence of float
        What an evaluation costs in each stage, as far as is known beforehand.
    """

    def __init__(self, work):
        self.log_work = np.log(np.asarray(work, dtype=float))
        self.model: Ridge | None = None

    def fit(self, points: np.ndarray, stages: np.ndarray, seconds: np.ndarray) -> None:
        """Learn the seconds that candidates have taken, each in a stage."""
        work = self.log_work[stages]
        rest = np.log(np.maximum(seconds, 1e-6)) - work
        self.model = Ridge().fit(self._join(points, work), rest)

    def predict(self, points: np.ndarray) -> np.ndarray:
        """Return the costs of candidates, of shape (n_points, n_stages)."""
        n_points, n_stages = len(points), len(self.log_work)
        work = np.tile(self.log_work, n_points)
        rest = np.zeros(n_points * n_stages)
        if self.model is not None:
            repeated = np.repeat(points, n_stages, axis=0)
            rest = self.model.predict(self._join(repeated, work))
        return np.exp(work + rest).reshape(n_points, n_stages)

    def _join(self, points, work):
        return np.column_stack([points, work - self.log_work[-1]])


def to_columns(space: SearchSpace, candidates: list[Candidate]) -> np.ndarray:
    """Return candidates as points of the unit cube.

    A hyperparameter with an order is a column, any other one a column for each choice.
    One that does not exist for a candidate is at the middle of its range.
    """
    complete = [space.complete(codes) for codes in candidates]
    columns = []
    for name, dimension in space.dimensions.items():
        codes = [codes[name] for codes in complete]
        if dimension.ordered:
            columns.append([[dimension.unit(code)] for code in codes])
        else:
            choices = np.arange(dimension.low, dimension.high + 1)
            columns.append(np.equal.outer(codes, choices).astype(float))
    return np.hstack(columns)


def _make_model(inputs, targets, n_stages):
    """Return the Gaussian process, with priors that suit any number of columns."""
    n_columns = inputs.shape[1]
    if n_stages == 1:
        kernel = make_kernel(n_columns, use_rbf_kernel=False)
        return _make_process(inputs, targets, kernel)
    kernel = LinearTruncatedFidelityKernel(
        fidelity_dims=[n_columns - 1],
        dimension=n_columns,
        covar_module_unbiased=make_kernel(n_columns - 1, use_rbf_kernel=False),
        # Without a scale it would vary as much as the scores themselves.
        covar_module_biased=ScaleKernel(
            make_kernel(n_columns - 1, use_rbf_kernel=False),
            outputscale_prior=GammaPrior(2.0, 2.0),
        ),
        power_prior=GammaPrior(3.0, 3.0),
    )
    return _make_process(inputs, targets, kernel)


def _make_process(inputs, targets, kernel):
    """Return a Gaussian process with noise of a wide prior.

    The noise is fitted in logarithms: in steps of its own size it would hardly fall.
    """
    prior = LogNormalPrior(math.log(LIKELY_NOISE) + NOISE_SPREAD**2, NOISE_SPREAD)
    constraint = LogTransformedInterval(*NOISE_LIMITS, initial_value=LIKELY_NOISE)
    return SingleTaskGP(
        inputs,
        targets[:, None],
        likelihood=GaussianLikelihood(prior, noise_constraint=constraint),
        covar_module=ScaleKernel(kernel),
        outcome_transform=None,
    )
