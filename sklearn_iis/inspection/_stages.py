"""What there is to inspect of a fitted search: its stages, each with its space."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sklearn_iis._dimension import Continuous, Discrete
from sklearn_iis._results import metric_names
from sklearn_iis._space import Candidate, SearchSpace


@dataclass(frozen=True)
class Stage:
    """The candidates of a stage, or of a search that has no stages.

    Parameters
    ----------
    index : int
        Which stage it is, from 0.

    size : object
        The size of its images; None if there are no sizes.

    space : SearchSpace
        What was searched.

    candidates : list of dict
        The candidates, in codes.

    results : dict of str to ndarray
        The columns of `cv_results_`, of this stage only.
    """

    index: int
    size: Any
    space: SearchSpace
    candidates: list[Candidate]
    results: dict[str, Any]

    @property
    def label(self) -> str:
        """What the stage is called in tables and pictures."""
        return f"stage {self.index}" if self.size is None else f"{self.size}"

    @property
    def failed(self) -> np.ndarray:
        """Which candidates failed, as a mask: they have an error, or no score."""
        error = self.results.get("error")
        scores = self.results[f"mean_test_{metric_names(self.results)[0]}"]
        failed = ~np.isfinite(scores.astype(float))
        return failed if error is None else failed | (error != None)  # noqa: E711

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
        means = [self.results[f"mean_{what}_time"] for what in ("fit", "score")]
        # What failed early has no time of scoring.
        return self.n_splits * np.nan_to_num(np.array(means, dtype=float)).sum(axis=0)

    def scores(self, metric: str) -> np.ndarray:
        """Return the mean test scores; NaN for candidates that failed.

        Parameters
        ----------
        metric : str
            Which scores.
        """
        scores = self.results[f"mean_test_{metric}"].astype(float)
        return np.where(self.failed | ~np.isfinite(scores), np.nan, scores)


@dataclass(frozen=True)
class Observations:
    """What functional ANOVA is fitted to: points of the unit cube, and their scores.

    Parameters
    ----------
    dimensions : dict of str to dimension
        The columns.

    codes : ndarray of shape (n_candidates, n_dimensions)
        Points of the unit cube; NaN for layers that a candidate does not have.

    scores : ndarray of shape (n_candidates,)
        Mean test scores of candidates that did not fail.
    """

    dimensions: dict[str, Continuous | Discrete]
    codes: np.ndarray
    scores: np.ndarray

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
    """Return the stages of a fitted search.

    Parameters
    ----------
    search : estimator object
        A fitted `IISSearchCV`, one of its stages, or another search of scikit-learn's
        kind whose `param_distributions` or `param_grid` is one dict of frozen
        scipy.stats distributions and lists: it is one stage.

    Returns
    -------
    stages : list of Stage
        Those of which there are results.
    """
    check_is_fitted(search, "cv_results_")
    results = search.cv_results_
    if hasattr(search, "stages_"):
        return [
            Stage(
                index,
                search.sizes_[index],
                space,
                [space.active(codes) for codes in stage.cv_results_["params"]],
                _select_rows(results, results["stage"] == index),
            )
            for index, (stage, space) in enumerate(
                zip(search.stages_, search.spaces_, strict=True)
            )
        ]
    space, candidates = _get_candidates(search)
    rows = np.ones(len(candidates), dtype=bool)
    return [Stage(0, None, space, candidates, _select_rows(results, rows))]


def select_stages(stages: Sequence[Stage], stage: int | None) -> Sequence[Stage]:
    """Return one of the stages, or all of them."""
    if stage is None:
        return stages
    if not -len(stages) <= stage < len(stages):
        raise ValueError(
            f"stage={stage} does not exist: there are {len(stages)}, counted from 0"
        )
    return [stages[stage]]


def choose_metric(search: Any, metric: str | None) -> str:
    """Return the metric to look at: by default the one that guided the search."""
    metrics = metric_names(search.cv_results_)
    if metric is None:
        refit = getattr(search, "refit", None)
        return refit if isinstance(refit, str) and refit in metrics else metrics[0]
    if metric not in metrics:
        raise ValueError(f"metric={metric!r} was not measured, only {metrics} were")
    return metric


def observe(stages: Sequence[Stage], metric: str) -> Observations:
    """Return the candidates of one stage, or of several, as points and scores.

    What else they differ in are further columns: the size of the images, and how many
    resources they were measured with.

    Parameters
    ----------
    stages : list of Stage
        Successive stages. The first one's space is the unit cube.

    metric : str
        Which scores.

    Returns
    -------
    observations : Observations
        Without the candidates that failed.
    """
    space = stages[0].space
    candidates = [codes for stage in stages for codes in stage.candidates]
    columns = [space.to_unit_cube(candidates)]
    dimensions = dict(space.dimensions)
    conditions = {
        "size": [stage.size for stage in stages for _ in stage.candidates],
        "n_resources": [
            n
            for stage in stages
            for n in stage.results.get("n_resources", [None] * len(stage.candidates))
        ],
    }
    for name, values in conditions.items():
        # Sizes are in order already, from stage to stage; and may be pairs.
        levels = list(dict.fromkeys(values))
        if name != "size" and None not in levels:
            levels = sorted(levels)
        if len(levels) > 1:
            dimension = Discrete(tuple(levels), True, 0, len(levels) - 1)
            dimensions[name] = dimension
            columns.append(
                np.array([[dimension.unit(levels.index(v))] for v in values])
            )
    scores = np.concatenate([stage.scores(metric) for stage in stages])
    scored = ~np.isnan(scores)
    return Observations(dimensions, np.hstack(columns)[scored], scores[scored])


def _get_candidates(search):
    results = search.cv_results_
    space = getattr(getattr(search, "estimator", None), "space", None)
    if isinstance(space, SearchSpace):
        # A stage of ours: its candidates are in codes already.
        return space, [space.active(codes) for codes in results["params"]]
    for attribute in ("param_distributions", "param_grid"):
        values = getattr(search, attribute, None)
        if isinstance(values, Mapping):
            space = SearchSpace(values)
            return space, [space.encode(params) for params in results["params"]]
    raise TypeError(
        f"{type(search).__name__} does not tell its space as one dict of frozen "
        "scipy.stats distributions and lists, in param_distributions or param_grid; "
        "IISSearchCV does, with one stage for any estimator"
    )


def _select_rows(results, rows):
    return {
        name: np.asarray(values, dtype=object if name == "params" else None)[rows]
        for name, values in results.items()
        if not name.startswith("param_")
    }
