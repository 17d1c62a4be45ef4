"""Progress bars of a search whose evaluations may run in other processes."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from functools import partial
from statistics import fmean
from threading import Lock
from typing import Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

# What scikit-learn's own callbacks send their messages by.
from sklearn.callback._transport import close_listener, open_listener, send

from sklearn_iis.space import Candidate


class StageProgress(AbstractContextManager):
    """A bar a stage: candidates done of all, best score so far, time left.

    Parameters
    ----------
    n_splits : int
        Evaluations that make up a candidate.
    """

    def __init__(self, n_splits: int):
        self.n_splits = n_splits
        # The scores of candidates of which some splits are missing, for each bar.
        self._pending: dict[TaskID, dict[tuple, list[float]]] = {}
        self._best: dict[TaskID, float] = {}
        self._lock = Lock()
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("best {task.fields[best]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
        )

    def __enter__(self):
        self._listener = open_listener(self._on_score)
        self._bars.start()
        return self

    def __exit__(self, *exc_info):
        close_listener(self._listener)
        self._bars.stop()

    def add_stage(
        self, description: str, n_candidates: int
    ) -> Callable[[Candidate, float], None]:
        """Add the bar of a stage.

        Parameters
        ----------
        description : str
            What stands before the bar.

        n_candidates : int
            How many candidates the stage has.

        Returns
        -------
        report : callable
            To be called, in any process on this machine, with the codes and the score
            of each evaluation.
        """
        bar = self._bars.add_task(description, total=n_candidates, best="-")
        self._pending[bar] = {}
        self._best[bar] = -math.inf
        return partial(_report, self._listener, bar)

    def restart_stage(self) -> None:
        """Set the bar of the stage that was added last back to its begin."""
        with self._lock:
            bar = next(reversed(self._pending))
            self._pending[bar].clear()
            self._bars.reset(bar)

    def _on_score(self, message):
        bar, candidate, score = message
        with self._lock:  # each worker has a thread of its own here
            scores = self._pending[bar].setdefault(candidate, [])
            scores.append(score)
            if len(scores) < self.n_splits:
                return
            mean = fmean(self._pending[bar].pop(candidate))
            if mean > self._best[bar]:  # NaN is not
                self._best[bar] = mean
                self._bars.update(bar, best=f"{mean:.4g}")
            self._bars.advance(bar)


def _report(listener: Any, bar: TaskID, codes: Candidate, score: float) -> None:
    # A worker on another machine has nobody to talk to; no score is lost for a bar.
    with suppress(Exception):
        send(listener, (bar, tuple(codes.items()), float(score)))
