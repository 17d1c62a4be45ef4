"""The deadline of a stage, which leaves time for the last fit."""

import math
import time
from dataclasses import dataclass


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
    # Seconds of the longest fit so far.
    longest_fit: float = 0.0
    has_result: bool = False

    def note(self, fit_time: float) -> None:
        """Note the time of a fit that did not fail."""
        self.longest_fit = max(self.longest_fit, fit_time)

    @property
    def reserve(self) -> float:
        """The seconds that are left for the last fit."""
        return self.refit_ratio * self.longest_fit

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
