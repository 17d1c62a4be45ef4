"""Tasks, their records, and the rows of results that these make up."""

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import fmean
from typing import Any

import joblib
import numpy as np

from sklearn_iis.space import Candidate

Scores = float | dict[str, float]

# The score of a split beyond it counts as this much: searches square and add up scores.
LARGEST_SCORE = 1e100


@dataclass(frozen=True)
class Task:
    """An evaluation to be made: a candidate on a split."""

    codes: Candidate
    # Further parameters of the estimator, in its own units, such as Hyperband's epochs.
    params: dict[str, Any]
    # The index of the split.
    split: int
    # The index of the stage, which gives the size.
    stage: int = 0

    def at(self, stage: int) -> "Task":
        """Return the same candidate on the same split, in another stage."""
        return replace(self, stage=stage)

    @cached_property
    def key(self) -> str:
        """A digest that is the same in any process; the name of a file."""
        content = [self.codes, self.params, self.stage]
        text = json.dumps(content, sort_keys=True, default=_to_json)
        digest = hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
        return f"{digest}-{self.split}"


@dataclass
class Record:
    """The outcome of an evaluation."""

    # On the test data; the metric that guides the search comes first.
    scores: Scores = math.nan
    # On the training data, if they were asked for.
    train_scores: Scores | None = None
    # Seconds since the epoch, for display.
    started: float = 0.0
    # Seconds; scoring is that of the test data.
    fit_time: float = 0.0
    score_time: float = 0.0
    # Those of the fit that went into stages before, if weights are inherited.
    climb_time: float = 0.0
    # The traceback of what failed.
    error: str | None = None
    # Whether the pruner stopped the fit.
    pruned: bool = False
    # What the estimator told of each epoch.
    history: list[dict[str, Any]] = field(default_factory=list)
    # The `trial_timeout` that it exceeded.
    time_limit: float | None = None
    # Whether it was given up at the deadline; such a record is not kept.
    unfinished: bool = False

    @property
    def own_fit_time(self) -> float:
        """The seconds of the fit in the stage of the evaluation."""
        return self.fit_time - self.climb_time

    @property
    def guide(self) -> float:
        """The score that guides the search."""
        return (
            next(iter(self.scores.values()))
            if isinstance(self.scores, dict)
            else self.scores
        )


def measure_span(records: Iterable[Record]) -> float:
    """Return the seconds of the clock in which at least one record was under way."""
    spans = [(r.started, r.started + r.fit_time + r.score_time) for r in records]
    seconds, end = 0.0, -math.inf
    for begin, until in sorted(spans):
        seconds += max(0.0, until - max(begin, end))
        end = max(end, until)
    return seconds


@dataclass(eq=False)
class Row:
    """A row of `cv_results_`: a candidate, and its records on all splits."""

    codes: Candidate
    n_splits: int
    params: dict[str, Any] = field(default_factory=dict)
    # Values of further columns.
    columns: dict[str, Any] = field(default_factory=dict)
    # The index of its stage.
    stage: int = 0
    # Its place in the order of submission.
    number: int = 0
    records: dict[int, Record] = field(init=False, default_factory=dict)

    @property
    def tasks(self) -> list[Task]:
        """Its evaluations, one a split."""
        splits = range(self.n_splits)
        return [Task(self.codes, self.params, i, self.stage) for i in splits]

    @property
    def is_complete(self) -> bool:
        """Whether it has a record of each split."""
        return len(self.records) == self.n_splits

    @property
    def in_order(self) -> list[Record]:
        """The records, in the order of the splits."""
        return [self.records[i] for i in range(self.n_splits)]

    @property
    def error(self) -> str | None:
        """The error of the first split that failed; None if none did."""
        return next((r.error for r in self.in_order if r.error is not None), None)

    @property
    def pruned(self) -> bool:
        """Whether the pruner stopped it on any split."""
        return any(record.pruned for record in self.records.values())

    @property
    def score(self) -> float:
        """The mean of the guiding score, as searches see it; NaN if it failed."""
        if self.error is not None:
            return math.nan
        guides = (record.guide for record in self.records.values())
        return fmean(max(-LARGEST_SCORE, min(g, LARGEST_SCORE)) for g in guides)


def _to_json(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else joblib.hash(value)
