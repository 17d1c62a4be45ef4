"""Rounds: who goes on, and for how long, where several searches share the time."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

# The part of the time in which searches compete; the winner has the rest to itself.
COMPETING = 1 / 3


class Contestant(Protocol):
    """A search under way, which may be paused."""

    @property
    def seconds(self) -> float:
        """How long it has run."""

    @property
    def score(self) -> float:
        """Its best score so far; -inf as long as there is none."""

    def go_on(self, seconds: float) -> None:
        """Run until so many seconds were used in all, or its end."""


@dataclass
class Rounds:
    """Successive halving of searches: the better half goes on to the next round.

    In each round, every search that is still in it has its share of the time of the
    round. Of k searches, the better half, rounded up, goes on, until one is left. That
    one goes on to its end, then the others, the best of them first, while there is
    time. (Jamieson and Talwalkar 2016, :arxiv:`1502.07943`, algorithm "successive
    halving", with searches as arms.)

    Parameters
    ----------
    shares : dict of str to float
        What the time of a round is divided by, by the names of the searches.

    seconds : float
        The time of all of them.
    """

    shares: Mapping[str, float]
    seconds: float

    def run(
        self,
        contestants: Mapping[str, Contestant],
        on_round: Callable[[list[str]], None] = lambda names: None,
    ) -> None:
        """Have searches compete.

        Parameters
        ----------
        contestants : dict of str to Contestant
            The searches, by the names that shares have.

        on_round : callable, default=None
            Called after each round with the names of those that go on, the best first.
        """
        names = list(contestants)
        n_rounds = math.ceil(math.log2(len(names))) if len(names) > 1 else 0
        for _ in range(n_rounds):
            total = sum(self.shares[name] for name in names)
            for name in names:
                share = self.shares[name] / total * self.seconds * COMPETING / n_rounds
                contestant = contestants[name]
                contestant.go_on(contestant.seconds + share)
            names = self._rank(names, contestants)[: math.ceil(len(names) / 2)]
            on_round(names)
        others = self._rank(contestants.keys() - set(names), contestants)
        for name in [*names, *others]:
            contestants[name].go_on(math.inf)

    def _rank(self, names, contestants):
        """Return names, the best search first; of equals, the first one."""
        order = [name for name in contestants if name in names]
        return sorted(order, key=lambda name: -contestants[name].score)
