"""What a fit that is under way tells the trial it belongs to, and hears from it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_current: ContextVar["Monitor | None"] = ContextVar("monitor", default=None)


class Monitor:
    """Follows a fit: its history, its time, and whether it should go on.

    Parameters
    ----------
    end : float, default=inf
        When the fit has to end, in seconds since the epoch.

    should_stop : callable, default=None
        Called as `should_stop(epoch, score)` after each epoch that has a score.

    Attributes
    ----------
    history : list of dict
        What was told of each epoch.

    stopped : bool
        Whether the fit was told to stop.

    late : bool
        Whether it was still going on when it had to end.
    """

    def __init__(
        self,
        end: float = float("inf"),
        should_stop: Callable[[int, float], bool] | None = None,
    ):
        self.end = end
        self.should_stop = should_stop
        self.history: list[dict[str, Any]] = []
        self.stopped = False
        self.late = False

    def check_time(self) -> None:
        """Raise a TimeoutError if the fit should have ended."""
        if time.time() > self.end:
            self.late = True
            raise TimeoutError("the time for this fit is up")

    def end_epoch(self, history: list[dict[str, Any]], score: float | None) -> bool:
        """Tell how an epoch went.

        Parameters
        ----------
        history : list of dict
            All epochs so far.

        score : float or None
            The validation score of the last one; None without validation.

        Returns
        -------
        stop : bool
            Whether the fit should stop, and keep what was learned.
        """
        self.history = history
        if score is not None and self.should_stop is not None:
            self.stopped = self.stopped or self.should_stop(len(history), score)
        return self.stopped


@contextmanager
def monitored(monitor: Monitor) -> Iterator[None]:
    """Have a monitor follow the fits that the context runs."""
    token = _current.set(monitor)
    try:
        yield
    finally:
        _current.reset(token)


def current_monitor() -> Monitor | None:
    """Return the monitor of the trial that is running here, if there is one."""
    return _current.get()
