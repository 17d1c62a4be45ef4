"""The monitor of a fit: its epochs, its time, and whether it should go on."""

import math
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_current: ContextVar["Monitor | None"] = ContextVar("monitor", default=None)


class Monitor:
    """Follows a fit that trains in epochs, and tells it when to stop.

    Parameters
    ----------
    seconds : float, default=inf
        The time that the fit may take.

    should_stop : callable, default=None
        Called as `should_stop(epoch, score)` after each epoch that has a score, counted
        from 1.

    Attributes
    ----------
    history : list of dict
        What the fit told of each epoch.

    stopped : bool
        Whether the pruner told the fit to stop.

    late : bool
        Whether the fit was still going on when its time was up.

    error : OSError or None
        The error by which the storage failed, which is none of the candidate's.
    """

    def __init__(
        self,
        seconds: float = math.inf,
        should_stop: Callable[[int, float], bool] | None = None,
    ):
        self.should_stop = should_stop
        self.history: list[dict[str, Any]] = []
        self.stopped = False
        self.late = False
        self.error: OSError | None = None
        self.limit(seconds)

    def limit(self, seconds: float) -> None:
        """Set the time that the fit may take from now on.

        Parameters
        ----------
        seconds : float
            The time.
        """
        self._end = time.monotonic() + seconds

    @contextmanager
    def not_pruning(self) -> Iterator[None]:
        """Follow fits whose epochs are not to be compared with those of others."""
        should_stop, self.should_stop = self.should_stop, None
        try:
            yield
        finally:
            self.should_stop = should_stop

    def check_time(self) -> None:
        """Raise an error if the time is up; to be called between two batches.

        Raises
        ------
        TimeoutError
            If the fit should have ended. It must leave `fit`.
        """
        if time.monotonic() > self._end:
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
            Whether `fit` should end, and keep what it has learned.

        Warns
        -----
        UserWarning
            If there is a pruner, but the first epoch has no score.
        """
        self.history = history
        if score is None and self.should_stop is not None and len(history) == 1:
            warnings.warn(
                "the pruner has nothing to go by: the fit tells no validation score. A "
                "CNNClassifier tells one with early_stopping=True",
                UserWarning,
                stacklevel=2,
            )
        if score is not None and self.should_stop is not None and not self.stopped:
            try:
                self.stopped = self.should_stop(len(history), score)
            except OSError as error:
                self.error = error
        return self.stopped or self.error is not None


@contextmanager
def monitored(monitor: Monitor) -> Iterator[None]:
    """Have a monitor follow the fits that the context runs."""
    token = _current.set(monitor)
    try:
        yield
    finally:
        _current.reset(token)


def current_monitor() -> Monitor | None:
    """Return the monitor of the evaluation that runs in this thread, if there is one.

    An estimator that trains in epochs calls it in its `fit`: `check_time()` between two
    batches, and `end_epoch(history, score)` after each epoch, so that a search can stop
    it by `timeout`, `trial_timeout` and `pruner`.

    Returns
    -------
    monitor : Monitor or None
        None outside a search.

    Examples
    --------
    >>> from sklearn_iis import current_monitor
    >>> def train(n_epochs):
    ...     history = []
    ...     for epoch in range(n_epochs):
    ...         score = 1 - 0.5**epoch  # of an epoch's training
    ...         history.append({"valid_acc": score})
    ...         monitor = current_monitor()
    ...         if monitor is not None and monitor.end_epoch(history, score):
    ...             break
    ...     return history
    >>> len(train(3))
    3
    """
    return _current.get()
