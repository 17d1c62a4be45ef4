"""Candidates one by one: each is proposed when a worker is free for it."""

import math
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from statistics import fmean
from threading import Lock
from typing import Protocol

from sklearn_iis.execution._tickets import listening
from sklearn_iis.space import Candidate, as_key

# How many proposals in a row may have been made before.
PATIENCE = 3


class Proposer(Protocol):
    """Decides on candidates by the scores of others."""

    def ask(self) -> Candidate | None:
        """Return the next candidate, in codes; None to have one drawn at random.

        It may have codes of layers beyond its depths, and may have been measured.
        """

    def expect(self, candidate: Candidate) -> None:
        """Learn that a candidate is measured that was not asked for."""

    def tell(self, candidate: Candidate, score: float) -> None:
        """Learn the score of a candidate, NaN if it failed.

        Parameters
        ----------
        candidate : dict of str to float or int
            The active codes only. It may be one that was not asked for.

        score : float
            The mean of the scores on all splits.
        """


class Stream:
    """What stands between a proposer and the workers.

    Parameters
    ----------
    proposer : Proposer
        Decides on candidates.

    active : callable
        Drops the codes that a candidate does not use.

    known : mapping of tuple to float
        The scores of what was measured before, by the items of the candidate.

    spare : list of dict
        As many further candidates as are to be measured, none of them measured before:
        what is measured in place of a proposal that is none.

    n_splits : int
        How many evaluations make up a score.
    """

    def __init__(
        self,
        proposer: Proposer,
        *,
        active: Callable[[Candidate], Candidate],
        known: Mapping[tuple, float],
        spare: Iterable[Candidate],
        n_splits: int,
    ):
        self.proposer = proposer
        self.active = active
        self.known = known
        self.spare = iter(spare)
        self.n_splits = n_splits
        self.error: Exception | None = None
        # NaN for what failed, None for what is not measured yet.
        self._proposed: dict[tuple, float | None] = {}
        # The scores of the splits of each candidate, by delivery.
        self._parts: dict[tuple, dict[str, float]] = defaultdict(dict)
        self._arrived: deque[tuple[tuple, float]] = deque()
        self._is_over = False
        self._asking, self._listening = Lock(), Lock()

    def listening(self, address: str) -> AbstractContextManager[None]:
        """Listen to the scores at an address for a while."""
        return listening(address, self._on_score)

    def propose(self) -> Candidate:
        """Return the next candidate: one that was not measured before."""
        with self._asking:
            self._tell()
            candidate = None if self._is_over else self._ask()
            if candidate is None:
                candidate = next(c for c in self.spare if self._is_new(as_key(c)))
                self.proposer.expect(candidate)
            self._proposed[as_key(candidate)] = None
            return candidate

    def decide(self) -> Candidate:
        """Return the next candidate, or what is none: it never raises an error.

        Then there is an `error`, and whoever is given what is returned raises another.
        """
        try:
            if self.error is None:
                return self.propose()
        except Exception as error:
            self.error = error
        return {str(self.error): math.nan}

    def learn(
        self, candidates: Iterable[Candidate] = (), scores: Iterable[float] = ()
    ) -> None:
        """Tell the proposer the scores of candidates, and what has arrived besides."""
        with self._asking:
            self._arrived += zip(map(as_key, candidates), scores, strict=True)
            self._tell()

    def _tell(self):
        while self._arrived:
            key, score = self._arrived.popleft()
            self._proposed[key] = score
            self.proposer.tell(dict(key), score)

    def _ask(self):
        for _ in range(PATIENCE):
            proposal = self.proposer.ask()
            if proposal is None:
                return None
            candidate = self.active(proposal)
            key = as_key(candidate)
            if self._is_new(key):
                return candidate
            score = self.known.get(key, self._proposed.get(key))
            if score is not None:
                self.proposer.tell(candidate, score)
        return None

    def _is_new(self, key):
        return key not in self.known and key not in self._proposed

    def _on_score(self, delivery, score, skipped):
        if skipped:
            # There is no time left, so that proposals are of no use.
            self._is_over = True
            return
        key = as_key(delivery.candidate)
        with self._listening:
            parts = self._parts[key]
            if delivery.number in parts:
                return
            parts[delivery.number] = score
            if len(parts) == self.n_splits:
                self._arrived.append((key, fmean(parts.values())))
