"""Progress: the best so far and the time left, and a bar per stage."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial

from rich.console import RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from sklearn_iis.execution._record import Row


class StageProgress(AbstractContextManager):
    """A line on the whole, and a bar per stage: candidates done, best score, time left.

    What is prepared before it has another one.

    Parameters
    ----------
    end : float, default=inf
        When all has to be done, by the monotonic clock.
    """

    def __init__(self, end: float = math.inf) -> None:
        self.end = end
        # The best score of each bar, and of all of them the one that has the best.
        self._best: dict[TaskID, float] = {}
        self._leader: Task | None = None
        self._bars = _Bars(self.summarize)

    def __enter__(self):
        self._bars.start()
        return self

    def __exit__(self, *exc_info):
        self._bars.stop()

    def summarize(self) -> str:
        """Return the best score so far with its stage, and the time that is left."""
        text = "no result yet"
        if self._leader is not None:
            text = f"{self._leader.fields['best']} ({self._leader.description})"
        if self.end < math.inf:
            left = math.ceil(max(self.end - time.monotonic(), 0))
            text += f", {left // 60}:{left % 60:02} left"
        return text

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
        is_best = row.score > max(self._best.values())  # NaN is not
        if row.score > self._best[bar]:
            self._best[bar] = row.score
            self._bars.update(bar, best=f"best {row.score:.4g}")
        if is_best:
            (self._leader,) = (task for task in self._bars.tasks if task.id == bar)
        self._bars.advance(bar)


class _Bars(Progress):
    """Bars below a line of text."""

    def __init__(self, summarize: Callable[[], str]):
        self.summarize = summarize
        super().__init__(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[best]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
        )

    def get_renderables(self) -> Iterator[RenderableType]:
        yield Text(self.summarize())
        yield from super().get_renderables()
