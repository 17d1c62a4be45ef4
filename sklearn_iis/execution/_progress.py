"""Progress bars: one per stage."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from sklearn_iis.execution._record import Row


class StageProgress(AbstractContextManager):
    """A bar per stage: candidates done of all, best score so far, time left.

    What is prepared before it has another one.
    """

    def __init__(self) -> None:
        self._best: dict[TaskID, float] = {}
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[best]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
        )

    def __enter__(self):
        self._bars.start()
        return self

    def __exit__(self, *exc_info):
        self._bars.stop()

    def add_stage(self, description: str, n_rows: int | None) -> Callable[[Row], None]:
        """Add the bar of a stage."""
        bar = self._bars.add_task(description, total=n_rows, best="best -")
        self._best[bar] = -math.inf
        return partial(self._advance, bar)

    def add_preparation(
        self, description: str, n_samples: int
    ) -> Callable[[int], None]:
        """Add the bar of what is computed before a stage; return what moves it."""
        bar = self._bars.add_task(description, total=n_samples, best="")
        return lambda n_done: self._bars.update(bar, completed=n_done)

    def _advance(self, bar, row):
        if row.score > self._best[bar]:  # NaN is not
            self._best[bar] = row.score
            self._bars.update(bar, best=f"best {row.score:.4g}")
        self._bars.advance(bar)
