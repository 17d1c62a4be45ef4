"""A fitted search with all that the parts of its report need."""

from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from sklearn_iis.inspection._fitted import Stage, choose_metric, get_stages


@dataclass(frozen=True)
class Source:
    """A search with all that the parts of its report need."""

    search: Any
    stages: list[Stage]
    metric: str
    random_state: int
    # Of each row of `cv_results_` the stage with the index therein, and the params.
    rows: list[tuple[Stage, int]]
    params: list[dict[str, Any]]
    # Of a search that competes with others: its name, and where its rows begin in the
    # `cv_results_` of all.
    name: str = ""
    first_row: int = 0

    @classmethod
    def from_search(cls, search, metric, random_state):
        stages = get_stages(search)
        metric = choose_metric(search, metric)
        if not isinstance(random_state, Integral):
            # The same forests in all parts of the page.
            random_state = check_random_state(random_state).randint(2**31 - 1)
        return cls(
            search=search,
            stages=stages,
            metric=metric,
            random_state=random_state,
            rows=[(s, i) for s in stages for i in range(len(s.candidates))],
            params=[p for stage in stages for p in stage.results["params"]],
        )

    @property
    def sized(self) -> bool:
        """Whether the stages have sizes."""
        return any(stage.size is not None for stage in self.stages)

    @property
    def interleaved(self) -> bool:
        """Whether one search crosses the stages, which then overlap in time."""
        return len(self.stages) > 1 and self.stages[0].order is not None

    @property
    def ended_early(self) -> bool:
        """Whether the search ended with an error, as all of a stage failed."""
        return bool(self.stages[-1].failed.all())

    @property
    def seconds(self) -> float:
        """Duration of all evaluations."""
        return sum(float(stage.seconds.sum()) for stage in self.stages)

    @property
    def n_failed(self) -> int:
        """Number of candidates that failed."""
        return sum(int(stage.failed.sum()) for stage in self.stages)

    def all_scores(self) -> np.ndarray:
        """Return the mean scores of all stages."""
        return np.concatenate([stage.scores(self.metric) for stage in self.stages])

    def locate(self, stage: Stage) -> str:
        """Return the name of a stage in a sentence; empty if there is but one."""
        size = "" if stage.size is None else f"size {stage.size_text}"
        index = f"stage {stage.index}"
        if len(self.stages) == 1 and not self.ended_early:
            index = ""
        search = f"search {self.name}" if self.name else ""
        return ", ".join(filter(None, (search, index, size)))


def list_sources(
    search: Any, metric: str | None, random_state: Any
) -> dict[str, Source]:
    """Return the searches that there are results of by name, the best one first.

    A `ChoiceSearchCV` has several; another search is the only one, and has no name.
    """
    if not is_choice(search):
        return {"": Source.from_search(search, metric, random_state)}
    check_is_fitted(search, "cv_results_")
    names = np.asarray(search.cv_results_["search"])
    best = getattr(search, "best_search_", None)
    if best is None:
        scores = search.cv_results_[f"mean_test_{choose_metric(search, metric)}"]
        best = names[np.argmax(np.nan_to_num(scores, nan=-np.inf))]
    found = [best, *(name for name in dict.fromkeys(names) if name != best)]
    return {
        name: replace(
            Source.from_search(search.searches_[name], metric, random_state),
            name=name,
            first_row=int(np.flatnonzero(names == name)[0]),
        )
        for name in found
    }


def is_choice(search: Any) -> bool:
    """Return whether a search is one among several, a `ChoiceSearchCV`."""
    # Not by its class: its room is above this one.
    return hasattr(search, "searches")
