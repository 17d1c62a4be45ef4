"""The deadline of a stage, which leaves time for the last fit."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Deadline:
    """When a stage ends: nothing is handed out later, and networks stop training."""

    # By the monotonic clock.
    end: float = math.inf
    # The end as long as the stage has no result at all; None for the same.
    end_without_result: float | None = None
    # How many times as long as the longest fit of an evaluation the last fit takes, on
    # all data, for which time is left.
    refit_ratio: float = 0.0
    # Whether the last fit trains in each stage.
    climbs: bool = False
    # Seconds of the fits of each stage that did not fail.
    fit_times: dict[int, list[float]] = field(default_factory=dict)
    has_result: bool = False
    # Seconds to be left at least, where another search may have the last fit.
    least_reserve: Callable[[], float] | None = None

    def note(self, stage: int, fit_time: float) -> None:
        """Note the time of a fit that did not fail."""
        self.fit_times.setdefault(stage, []).append(fit_time)

    @property
    def own_reserve(self) -> float:
        """The seconds that the last fit of this search takes."""
        longest = [max(seconds) for seconds in self.fit_times.values()]
        return self.refit_ratio * (sum if self.climbs else max)([0.0, *longest])

    @property
    def reserve(self) -> float:
        """The seconds that are left for the last fit, of whichever search."""
        least = 0.0 if self.least_reserve is None else self.least_reserve()
        return max(self.own_reserve, least)

    @property
    def seconds_left(self) -> float:
        """The seconds that there still are for evaluations."""
        end = self.end
        if not self.has_result and self.end_without_result is not None:
            end = self.end_without_result
        return end - self.reserve - time.monotonic()

    @property
    def is_over(self) -> bool:
        """Whether there is no time left."""
        return self.seconds_left <= 0


class DeadlineReached(Exception):
    """Ends a search of any kind, from within one of its evaluations."""


class NothingFinishedError(TimeoutError):
    """The deadline was reached before any candidate was evaluated on all splits."""


class NothingPreparedError(NothingFinishedError):
    """It was reached before what is computed once for a stage was ready."""
