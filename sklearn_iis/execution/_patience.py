"""Patience: when a stage ends as nothing improves."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any

from sklearn_iis.execution._averaging import is_usable
from sklearn_iis.execution._record import Row


@dataclass
class Patience:
    """How long a stage goes on without an improvement.

    Nothing is counted before there is a score. Candidates are counted in the order in
    which they were begun, whoever is finished first, so that the same candidates end a
    stage in the same place.

    Parameters
    ----------
    n_candidates : int, default=None
        So many in a row may be no better than the best one before them.

    seconds : float, default=None
        So long there may be no better one.
    """

    n_candidates: int | None = None
    seconds: float | None = None
    # Whether it ended the stage, which may as well have ended by itself before.
    has_ended: bool = field(init=False, default=False)
    # The number of the last row that counts, once candidates have used it up.
    last: int | None = field(init=False, default=None)
    # Complete rows, before which another one is not complete yet.
    _waiting: dict[int, Row] = field(init=False, default_factory=dict)
    _next: int = field(init=False, default=0)
    _noted: list[Row] = field(init=False, default_factory=list)
    _best: float = field(init=False, default=-math.inf)
    _n_worse: int = field(init=False, default=0)
    # The best of all rows, and when it was found.
    _best_of_all: float = field(init=False, default=-math.inf)
    _found: float = field(init=False, default=math.inf)

    @property
    def is_over(self) -> bool:
        """Whether the stage should end."""
        if self.last is not None:
            return True
        return self.seconds is not None and (
            time.monotonic() - self._found > self.seconds
        )

    def note(self, row: Row) -> None:
        """Take note of a row that is complete."""
        if is_usable(row) and row.score > self._best_of_all:
            self._best_of_all, self._found = row.score, time.monotonic()
        self._noted.append(row)
        self._waiting[row.number] = row
        while self._next in self._waiting:
            self._count(self._waiting.pop(self._next))
            self._next += 1

    def counts(self, row: Row) -> bool:
        """Return whether a row was begun before the patience was used up."""
        return self.last is None or row.number <= self.last

    def is_settled(self, row: Row) -> bool:
        """Return whether it is known for good if a row counts."""
        return self.n_candidates is None or row.number < self._next

    def list_left_out(self) -> list[Row]:
        """Return the rows that are complete and do not count."""
        return [row for row in self._noted if not self.counts(row)]

    def _count(self, row):
        if is_usable(row) and row.score > self._best:
            self._best, self._n_worse = row.score, 0
        elif self._best > -math.inf:
            self._n_worse += 1
        if self.last is None and self._n_worse == self.n_candidates:
            self.last = row.number


def check_patience(
    patience: Any, seconds: Any, n_stages: int
) -> list[tuple[int | None, float | None]]:
    """Return the candidates and seconds of each stage; None for no limit.

    Raises
    ------
    ValueError
        If they are no numbers above 0, or not one for each stage.
    """
    return list(
        zip(
            _repeat("patience", patience, n_stages, Integral),
            _repeat("patience_seconds", seconds, n_stages, Real),
            strict=True,
        )
    )


def _repeat(name, value, n_stages, kind):
    """Return a value for each stage."""
    values = [*value] if isinstance(value, Sequence) else [value] * n_stages
    if len(values) != n_stages or not all(
        n is None or (isinstance(n, kind) and n > 0) for n in values
    ):
        whole = "whole numbers" if kind is Integral else "numbers"
        raise ValueError(
            f"{name}={value!r} must be one number > 0, or a list of {n_stages} {whole} "
            "> 0, or None, for each stage"
        )
    return values
