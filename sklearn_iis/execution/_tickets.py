"""Candidates that are decided on when a worker is free, scores that are told at once.

joblib is given all tasks of a call before the first one starts, and gives their results
back after the last one has ended. A search that learns from scores cannot know its
candidates then, so it hands in tickets. A ticket becomes a candidate when a worker is
about to begin with it, and each score is told to the search when it is back in its
process: both happen as joblib pickles what it sends and unpickles what it gets, so that
no other connection to the workers is needed, on whatever machine they are.
"""

import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from sklearn_iis.space import Candidate

# Called with a delivery, its score, and whether the measurement was skipped.
Listener = Callable[["Delivery", float, bool], None]

_listeners: dict[str, Listener] = {}

if hasattr(os, "register_at_fork"):
    # A worker that is forked is not where anybody listens.
    os.register_at_fork(after_in_child=_listeners.clear)


class Ticket(Mapping):
    """Stands for a candidate that is not decided on before it is looked into.

    Parameters
    ----------
    decide : callable
        Returns the candidate. It must not raise an error, as some of joblib's backends
        would wait for ever then.
    """

    def __init__(self, decide: Callable[[], Candidate]):
        self._decide = decide
        self.candidate: Candidate | None = None
        # Threads may begin with several splits of a candidate at once.
        self._lock = Lock()

    def _open(self):
        with self._lock:
            if self.candidate is None:
                self.candidate = self._decide()
            return self.candidate

    def __getitem__(self, name):
        return self._open()[name]

    def __iter__(self):
        return iter(self._open())

    def __len__(self):
        return len(self._open())

    def __reduce__(self):
        return dict, (dict(self._open()),)


def is_ticket(candidate: Mapping[str, Any]) -> bool:
    """Return whether a candidate is, or was, decided on late."""
    return isinstance(candidate, Ticket)


def is_undecided(candidate: Mapping[str, Any]) -> bool:
    """Return whether a candidate is a ticket that no worker has begun with."""
    return isinstance(candidate, Ticket) and candidate.candidate is None


@dataclass(frozen=True)
class Delivery:
    """A score on its way to the search that asked for it.

    Parameters
    ----------
    address : str
        That of the listener.

    candidate : dict of str to object
        What was measured.

    number : str
        Tells the delivery from others: what is unpickled twice arrives twice.
    """

    address: str
    candidate: Candidate
    number: str = field(default_factory=lambda: uuid.uuid4().hex)

    def arrive(self, score: float, skipped: bool) -> None:
        """Tell the listener, if it is in this process."""
        listener = _listeners.get(self.address)
        if listener is not None:
            listener(self, score, skipped)


@contextmanager
def listening(address: str, listener: Listener) -> Iterator[None]:
    """Have a listener told what arrives at an address, from any thread."""
    _listeners[address] = listener
    try:
        yield
    finally:
        del _listeners[address]
