"""Search by a policy that is trained by REINFORCE."""

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import ClassVar

import numpy as np

from sklearn_iis._sklearn_compat import Interval
from sklearn_iis.searches._base import Sampler, StreamedSearch
from sklearn_iis.space import Candidate, Continuous, Discrete, SearchSpace

LEARNING_RATE = 0.3
N_CELLS = 5

# How much of the baseline is kept with each score.
DECAY = 0.9


@dataclass(eq=False, repr=False, kw_only=True)
class StageReinforceSearchCV(StreamedSearch):
    """Search by a policy that learns from its candidates' scores: REINFORCE.

    The policy draws a candidate choice by choice, each from probabilities of its own, a
    softmax of logits. Of the scores it learns which choices to make more often [1]_:
    with each score, all logits of the candidate's choices change by ::

        learning_rate * (score - baseline) / distance * (chosen - probability)

    where `chosen` is 1 for what was chosen and 0 for the rest, the baseline is a moving
    average of the scores, and the distance one of theirs from it, so that the same
    learning rate suits any metric; this is the gradient of the candidate's logarithmic
    probability, times the advantage.
    [2]_ chooses architectures so, by a recurrent network in place of independent
    probabilities, which a few hundred candidates could not train.

    It suits architectures: numbers of layers, and choices per layer. A choice that does
    not exist for a candidate is neither made nor learned from. Do not use it

    - for numbers that have to be precise, such as learning rates: a number is a choice
      among `n_cells` equal parts of its range, in quantiles, and anywhere in it;
    - where hyperparameters matter together only: it learns of each by itself;
    - where few of many hyperparameters matter;
    - for fewer than about 50 candidates, which teach it next to nothing;
    - where a good first impression misleads: it settles on what was good at first, and
      seldom tries the rest.

    On the formulas that the searches are compared by, TPE is as good at choices, and
    better at numbers.

    Parameters
    ----------
    estimator, space, scoring, n_jobs, refit, cv, verbose, pre_dispatch, random_state
        See :class:`Search`.

    n_iter, initial_candidates, error_score, return_train_score
        See :class:`Search`. The policy learns from initial candidates as if it had
        drawn them. A failed candidate counts as the worst one so far.

    n_points : int, default=None
        Candidates proposed at once, and evaluated in parallel. None means one by one,
        each when a worker is free for it, so that proposals depend on which candidates
        are done by then: set it for candidates that are the same for any `n_jobs`.

    learning_rate : float, default=0.3
        How far a score moves the logits. The larger, the sooner it settles, also on
        what was good by chance.

    n_cells : int, default=5
        The most parts of the range of a number.

    References
    ----------
    .. [1] R. J. Williams. "Simple statistical gradient-following algorithms for
       connectionist reinforcement learning". Machine Learning 8, 1992, equation 4.
    .. [2] B. Zoph, Q. V. Le. "Neural architecture search with reinforcement learning".
       International Conference on Learning Representations, 2017.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from sklearn_iis import IISSearchCV
    >>> search = IISSearchCV(
    ...     DecisionTreeClassifier(random_state=0),
    ...     {
    ...         "criterion": ["gini", "entropy", "log_loss"],
    ...         "splitter": ["best", "random"],
    ...         "max_depth": [1, 2, 3, 4, 5],
    ...     },
    ...     search="reinforce",
    ...     n_iter=12,
    ...     random_state=0,
    ... )
    >>> bool(search.fit(*load_iris(return_X_y=True)).best_score_ > 0.9)
    True
    """

    learning_rate: float = LEARNING_RATE
    n_cells: int = N_CELLS

    _parameter_constraints: ClassVar[dict] = {
        **StreamedSearch._parameter_constraints,
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "n_cells": [Interval(Integral, 2, None, closed="left")],
    }

    def make_sampler(self, evaluate, random_state):
        """Return a policy that has learned nothing yet."""
        return PolicySampler(
            self.space,
            random_state=random_state,
            learning_rate=self.learning_rate,
            n_cells=self.n_cells,
        )


class PolicySampler(Sampler):
    """A policy: logits for each choice.

    Parameters
    ----------
    space : SearchSpace
        The hyperparameters.

    random_state : RandomState instance
        Determines the choices.

    learning_rate : float, default=0.3
        See :class:`StageReinforceSearchCV`.

    n_cells : int, default=5
        The most parts of the range of a number.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        random_state: np.random.RandomState,
        learning_rate: float = LEARNING_RATE,
        n_cells: int = N_CELLS,
    ):
        self.space = space
        self.rng = random_state
        self.learning_rate = learning_rate
        # At first all cells are equally likely.
        self.logits = {
            name: np.zeros(_count_cells(dimension, n_cells))
            for name, dimension in space.dimensions.items()
        }
        self.baseline = Baseline()

    def ask(self) -> Candidate:
        dimensions, conditions = self.space.dimensions, self.space.conditions
        codes: Candidate = {}
        # What depends on another one has a condition more, so it comes later.
        for name in sorted(dimensions, key=lambda name: len(conditions.get(name, ()))):
            if all(condition.holds(codes) for condition in conditions.get(name, ())):
                probabilities = softmax(self.logits[name])
                cell = self.rng.choice(len(probabilities), p=probabilities)
                unit = (cell + self.rng.uniform()) / len(probabilities)
                codes[name] = dimensions[name].from_unit(unit)
        return codes

    def tell(self, candidate: Candidate, score: float) -> None:
        step = self.learning_rate * self.baseline.compare(score)
        for name, code in candidate.items():
            logits = self.logits[name]
            cell = int(self.space.dimensions[name].unit(code) * len(logits))
            # The gradient of the logarithm of the chosen cell's probability.
            gradient = -softmax(logits)
            gradient[min(cell, len(logits) - 1)] += 1
            logits += step * gradient


class Baseline:
    """Moving averages of scores, and of their distances from it."""

    def __init__(self):
        self.mean = math.nan
        self.distance = 0.0
        self.worst = math.nan
        self._n_scores = 0

    def compare(self, score: float) -> float:
        """Return how far a score is above the mean, in units of the usual distance.

        The mean is that of the scores before; this one is among them afterwards.

        Parameters
        ----------
        score : float
            A score; NaN for one that is as bad as the worst so far.
        """
        if math.isnan(score):
            score = self.worst
        if math.isnan(score):
            return 0.0
        self.worst = min(self.worst, score)
        self._n_scores += 1
        if self._n_scores == 1:
            self.mean = self.worst = score
            return 0.0
        difference = score - self.mean
        # The first averages are plain means.
        weight = max(1 / self._n_scores, 1 - DECAY)
        self.mean += weight * difference
        weight = max(1 / (self._n_scores - 1), 1 - DECAY)
        self.distance += weight * (abs(difference) - self.distance)
        return difference / self.distance if self.distance > 0 else 0.0


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the probabilities of logits."""
    exponentials = np.exp(logits - logits.max())
    return exponentials / exponentials.sum()


def _count_cells(dimension: Continuous | Discrete, n_cells: int) -> int:
    """Return how many cells a range is divided into."""
    if dimension.ordered:
        return int(min(dimension.n_levels, n_cells))
    return int(dimension.n_levels)
