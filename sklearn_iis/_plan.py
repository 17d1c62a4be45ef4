"""The plan of a fit: what its stages share, their sizes, budgets and deadlines."""

import math
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils.validation import _num_samples

from sklearn_iis.execution._evaluation import Deadline, digest_train_sets
from sklearn_iis.space import Candidate


@dataclass
class FitPlan:
    """What all stages of a fit share.

    Parameters
    ----------
    X, y, params
        What the estimator is fitted with.

    scorers, splits
        How it is scored.

    size_param, sizes, budgets, fixed
        The stages, see `_plan_stages`.

    directory : str
        For temporary files.

    end : float
        When the fit has to end, in seconds since the epoch.

    studies : SearchStudies, default=None
        Where the search is kept.

    seeds : list of list of dict
        What was handed over to each stage so far.

    token : str
        What the fit is told from others by.
    """

    X: Any
    y: Any
    params: dict[str, Any]
    scorers: Any
    splits: list
    size_param: str | None
    sizes: list
    budgets: list[int]
    fixed: list[dict[str, Any]]
    directory: str
    end: float
    studies: Any = None
    seeds: list[list[Candidate]] = field(default_factory=list)
    token: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def n_samples(self) -> int:
        return _num_samples(self.X)

    @cached_property
    def train_digests(self) -> tuple[str, ...]:
        return digest_train_sets(self.splits, self.n_samples)

    @property
    def can_tell_splits(self) -> bool:
        return len(set(self.train_digests)) == len(self.splits)

    @property
    def refit_ratio(self) -> float:
        """How many times as long a fit on all data takes."""
        samples = np.arange(self.n_samples)
        return self.n_samples / min(len(samples[train]) for train, _ in self.splits)

    def where(self, stage: int) -> str:
        """Return what a stage is called in messages."""
        size = self.sizes[stage]
        return f"stage {stage}" + ("" if size is None else f", size {size}")

    def make_deadline(self, stage: int, longest_fit: float, refit: bool) -> Deadline:
        """Return when a stage has to end that begins now.

        Each has an equal share of the time that is left when it begins. The last one
        also leaves time for the fit on all data, as long as the longest of those that
        were measured, in proportion to the number of samples.

        Parameters
        ----------
        stage : int
            Which one.

        longest_fit : float
            Seconds of the longest fit of the stages before it.

        refit : bool
            Whether there is a fit on all data.
        """
        if self.end == math.inf:
            return Deadline()
        deadline = Deadline(self.end, self.refit_ratio if refit else 0.0, longest_fit)
        n_left = len(self.sizes) - stage
        if n_left == 1:
            return deadline
        now = time.time()
        return Deadline(now + (self.end - deadline.reserve() - now) / n_left)


def split_budget(n_iter: int | Sequence[int], n_stages: int) -> list[int]:
    """Return the number of candidates of each stage."""
    if isinstance(n_iter, int | np.integer):
        # 3:2:1, and what is left over to the first stage.
        parts = range(n_stages, 0, -1)
        budgets = [int(n_iter) * part // sum(parts) for part in parts]
        budgets[0] += n_iter - sum(budgets)
    else:
        budgets = list(n_iter)
    if len(budgets) != n_stages or not all(
        isinstance(n, Integral) and n > 0 for n in budgets
    ):
        raise ValueError(
            f"n_iter={n_iter!r} must give each of {n_stages} stages a whole number > 0"
        )
    return [int(n) for n in budgets]


def default_sizes(X: Any) -> list[int | tuple[int, int]]:
    """Return a quarter, a half and all of the size of the images."""
    if not isinstance(X, np.ndarray) or X.ndim < 3:
        raise ValueError(
            "sizes=None needs images as one array of shape (n, height, width[, "
            "channels]) to know their size; otherwise name sizes, such as (32, 64, 128)"
        )
    height, width = X.shape[1:3]
    sizes = [(max(height // n, 1), max(width // n, 1)) for n in (4, 2, 1)]
    return [h if h == w else (h, w) for h, w in sizes]
