"""A fitted search, as all parts of its report need it."""

from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from sklearn_iis.inspection._fitted import (
    Stage,
    choose_metric,
    get_stages,
    get_trial,
)


@dataclass(frozen=True)
class Source:
    """A search, and what all parts of the page need of it.

    `rows` has for each row of `cv_results_` its stage and its index therein, and
    `params` its hyperparameters.
    """

    search: Any
    stages: list[Stage]
    metric: str
    random_state: int
    rows: list[tuple[Stage, int]]
    params: list[dict[str, Any]]

    @classmethod
    def from_search(cls, search, metric, random_state):
        stages = get_stages(search)
        metric = choose_metric(search, metric)
        if not isinstance(random_state, Integral):
            # The same forests in all parts of the page.
            random_state = check_random_state(random_state).randint(2**31 - 1)
        params = [p for stage in stages for p in stage.results["params"]]
        trial = get_trial(search)
        if trial is not None:
            params = [trial.decode(codes) for codes in params]
        return cls(
            search=search,
            stages=stages,
            metric=metric,
            random_state=random_state,
            rows=[(s, i) for s in stages for i in range(len(s.candidates))],
            params=params,
        )

    @property
    def sized(self) -> bool:
        """Whether the stages have sizes."""
        return any(stage.size is not None for stage in self.stages)

    @property
    def ended_early(self) -> bool:
        """Whether the search ended with an error, as all of a stage failed."""
        return bool(self.stages[-1].failed.all())

    @property
    def seconds(self) -> float:
        """How long all evaluations took."""
        return sum(float(stage.seconds.sum()) for stage in self.stages)

    def all_scores(self) -> np.ndarray:
        """Return the mean scores of all stages."""
        return np.concatenate([stage.scores(self.metric) for stage in self.stages])

    def locate(self, stage: Stage) -> str:
        """Return how a stage is called in a sentence; empty if there is but one."""
        size = "" if stage.size is None else f"size {stage.size}"
        if len(self.stages) == 1 and not self.ended_early:
            return size
        return ", ".join(filter(None, (f"stage {stage.index}", size)))
