"""A fitted search as inspection sees it: its stages, each with its space."""

import difflib
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sklearn_iis._results import metric_names
from sklearn_iis.execution._text import printable
from sklearn_iis.inspection.anova._functional_anova import MIN_SAMPLES
from sklearn_iis.space import Candidate, Continuous, Discrete, SearchSpace

# Characters of a size in pictures and sentences; the rest is cut.
MAX_SIZE = 24


class NothingToShowError(ValueError):
    """The search is fitted, but has too few candidates, or values not to be drawn."""


@dataclass(frozen=True)
class Stage:
    """The candidates of a stage, or of a search that has no stages."""

    index: int
    size: Any  # None if there are no sizes
    is_unique: bool  # whether no other stage has that size
    space: SearchSpace
    candidates: list[Candidate]  # in codes
    results: dict[str, Any]  # the rows of `cv_results_` that are of this stage
    # Where each row stands among those of all stages, if one search crosses them.
    order: np.ndarray | None = None
    # Whether stages may differ by more than the size.
    differs: bool = False

    @property
    def size_text(self) -> str:
        """The size as it is written, not too long."""
        text = printable(self.size)
        return text if len(text) <= MAX_SIZE else f"{text[: MAX_SIZE - 3]}..."

    @property
    def label(self) -> str:
        """Name in tables and pictures: the size, if no other stage has it."""
        if self.size is None:
            return f"stage {self.index}"
        if self.is_unique:
            return self.size_text
        return f"{self.size_text} (stage {self.index})"

    @cached_property
    def failed(self) -> np.ndarray:
        """Mask of the candidates that failed: they have an error, or no score."""
        scores = [
            self.results[f"mean_test_{metric}"] for metric in metric_names(self.results)
        ]
        failed = ~np.isfinite(np.array(scores, dtype=float)).any(axis=0)
        return failed | [error is not None for error in self.errors]

    @cached_property
    def errors(self) -> list[str | None]:
        """Traceback of each candidate that failed, as far as the search keeps them."""
        errors = self.results.get("error", [None] * len(self.candidates))
        return [error if isinstance(error, str) else None for error in errors]

    @property
    def n_splits(self) -> int:
        """Number of splits that each candidate was scored on."""
        metric = re.escape(metric_names(self.results)[0])
        return sum(
            re.fullmatch(rf"split\d+_test_{metric}", column) is not None
            for column in self.results
        )

    @property
    def seconds(self) -> np.ndarray:
        """Time of fitting and scoring each candidate, summed over the splits."""
        means = [self.results[f"mean_{kind}_time"] for kind in ("fit", "score")]
        # Candidates that failed early have no time of scoring.
        return self.n_splits * np.nan_to_num(np.array(means, dtype=float)).sum(axis=0)

    def scores(self, metric: str) -> np.ndarray:
        """Return the mean test scores; NaN for candidates that failed."""
        scores = self.results[f"mean_test_{metric}"].astype(float)
        return np.where(self.failed | ~np.isfinite(scores), np.nan, scores)


@dataclass(frozen=True)
class Observations:
    """Points of the unit cube with their scores, for functional ANOVA."""

    stage: int | str  # or "all"
    size: Any  # None if there are no sizes, or several
    label: str
    dimensions: dict[str, Continuous | Discrete]  # the columns
    codes: np.ndarray  # (n_candidates, n_dimensions); NaN for what does not exist
    scores: np.ndarray  # (n_candidates,), of candidates that did not fail

    def find(self, name: str) -> int:
        """Return the column of a hyperparameter, or raise an error."""
        check_searched(name, list(self.dimensions))
        return list(self.dimensions).index(name)


def check_searched(name: str, names: Sequence[str]) -> None:
    """Raise an error if a hyperparameter is not among those that were searched."""
    if name not in names:
        nearest = difflib.get_close_matches(str(name), names, n=1, cutoff=0)
        raise ValueError(
            f"{name!r} was not searched; the nearest of {list(names)} is {nearest[0]!r}"
        )


def get_stages(search: Any) -> list[Stage]:
    """Return the stages of a fitted search of which there are results.

    That is an `IISSearchCV`, one of its stages, or another search of scikit-learn's
    kind that tells its space: it is one stage.
    """
    check_is_fitted(search, "cv_results_")
    results = search.cv_results_
    if not hasattr(search, "stages_"):
        space, candidates = _get_candidates(search)
        rows = np.ones(len(candidates), dtype=bool)
        results = _select_rows(results, rows)
        return [Stage(0, None, True, space, candidates, results)]
    return [
        Stage(
            index,
            search.sizes_[index],
            search.sizes_.count(search.sizes_[index]) == 1,
            space,
            [space.active(codes) for codes in stage.candidates_],
            _select_rows(results, results["stage"] == index),
            getattr(stage, "order_", None),
            bool(search.stage_params or search.inherit_weights),
        )
        for index, (stage, space) in enumerate(
            zip(search.stages_, search.spaces_, strict=True)
        )
    ]


def order_rows(stages: Sequence[Stage]) -> np.ndarray:
    """Return the rows of successive stages in the order in which they were begun."""
    if any(stage.order is None for stage in stages):
        return np.arange(sum(len(stage.candidates) for stage in stages))
    return np.argsort(np.concatenate([stage.order for stage in stages]), kind="stable")


def _get_candidates(search):
    """Return the space and the candidates, in codes, of a search without stages."""
    if hasattr(search, "candidates_") and hasattr(search, "space"):  # one of ours
        space = search.space
        if not isinstance(space, SearchSpace):
            space = SearchSpace(space)
        return space, [space.active(codes) for codes in search.candidates_]
    for attribute in ("param_distributions", "param_grid"):
        values = getattr(search, attribute, None)
        if isinstance(values, Mapping | list):
            space = SearchSpace(values)
            params = search.cv_results_["params"]
            return space, [space.encode(candidate) for candidate in params]
    raise TypeError(
        f"{type(search).__name__} does not tell its space as a dict of frozen "
        "scipy.stats distributions and lists, or a list of such dicts, in "
        "param_distributions or param_grid; "
        "IISSearchCV does, with one stage for any estimator"
    )


def _select_rows(results, rows):
    return {
        name: np.asarray(values, dtype=object if name == "params" else None)[rows]
        for name, values in results.items()
        if not name.startswith("param_")
    }


def choose_metric(search: Any, metric: str | None) -> str:
    """Return the metric to look at: by default the one that guided the search."""
    metrics = metric_names(search.cv_results_)
    if metric is None:
        refit = getattr(search, "refit", None)
        return refit if isinstance(refit, str) and refit in metrics else metrics[0]
    if metric not in metrics:
        raise ValueError(f"there are no scores of metric={metric!r}, only of {metrics}")
    return metric


def observe_stages(
    stages: Sequence[Stage], stage: int | str | None, metric: str
) -> list[Observations]:
    """Return the observations of one stage, of all together ("all"), or of each (None).

    Of each, those with too few candidates are left out, with a warning. Raises
    ValueError if the stage does not exist, NothingToShowError if none is left.
    """
    groups: list[Sequence[Stage]]
    if stage is None:
        groups = [[one] for one in stages]
    elif isinstance(stage, str):
        groups = [stages]
    elif -len(stages) <= stage < len(stages):
        groups = [[stages[stage]]]
    else:
        raise ValueError(
            f"stage={stage} does not exist: there are {len(stages)}, counted from 0"
        )
    observed = [observe(group, metric) for group in groups]
    enough = [one for one in observed if len(one.scores) >= MIN_SAMPLES]
    if len(enough) == len(observed):
        return enough
    message = (
        f"at least {MIN_SAMPLES} candidates without failure are needed in a stage, but "
        + ", ".join(
            f"{'' if one.size is None else 'size '}{one.label} has {len(one.scores)}"
            for one in observed
            if len(one.scores) < MIN_SAMPLES
        )
    )
    if not enough:
        raise NothingToShowError(f"{message}; stage='all' takes all stages together")
    warnings.warn(f"Stages are left out: {message}", UserWarning, stacklevel=4)
    return enough


def observe(stages: Sequence[Stage], metric: str) -> Observations:
    """Return the candidates of successive stages as points, and their scores.

    The space of the first stage is the unit cube. Further columns, `size` (or `stage`,
    where stages of the same size differ) and `n_resources`, are for other differences
    of the candidates. Raises
    NothingToShowError if no hyperparameter has more than one value.
    """
    space = stages[0].space
    candidates = [codes for stage in stages for codes in stage.candidates]
    columns = [space.to_unit_cube(candidates)]
    dimensions = dict(space.dimensions)
    for name, values in _get_conditions(stages).items():
        # Sizes are in order already, from stage to stage; and may be pairs.
        levels = list(dict.fromkeys(values))
        if name != "size" and None not in levels:
            levels = sorted(levels)
        if len(levels) > 1:
            dimension = Discrete(tuple(levels), True, 0, len(levels) - 1)
            if name in dimensions:  # a hyperparameter of the user
                name = f"{name} (of the stage)"
            dimensions[name] = dimension
            columns.append(
                np.array([[dimension.unit(levels.index(v))] for v in values])
            )
    if not dimensions:
        raise NothingToShowError(
            "there is nothing to analyse: no hyperparameter has more than one value"
        )
    scores = np.concatenate([stage.scores(metric) for stage in stages])
    scored = ~np.isnan(scores)
    first, one = stages[0], len(stages) == 1
    return Observations(
        stage=first.index if one else "all",
        size=first.size if one else None,
        label=first.label if one else "all",
        dimensions=dimensions,
        codes=np.hstack(columns)[scored],
        scores=scores[scored],
    )


def _get_conditions(stages):
    """Return the size and the resources that each candidate was evaluated with."""
    by_index = any(stage.differs and not stage.is_unique for stage in stages)
    return {
        "stage" if by_index else "size": [
            stage.index if by_index else stage.size
            for stage in stages
            for _ in stage.candidates
        ],
        "n_resources": [
            n
            for stage in stages
            for n in stage.results.get("n_resources", [None] * len(stage.candidates))
        ],
    }
