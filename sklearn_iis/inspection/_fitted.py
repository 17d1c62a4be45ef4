"""What there is to inspect of a fitted search: its stages, each with its space."""

import difflib
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sklearn_iis._results import metric_names
from sklearn_iis.inspection.anova._functional_anova import MIN_SAMPLES
from sklearn_iis.space import Candidate, Continuous, Discrete, SearchSpace


class NothingToShowError(ValueError):
    """The search is fitted, but has too few candidates for what is asked."""


@dataclass(frozen=True)
class Stage:
    """The candidates of a stage, or of a search that has no stages.

    Parameters
    ----------
    index : int
        Which stage it is, from 0.

    size : object
        The size of its images; None if there are no sizes.

    label : str
        What the stage is called in tables and pictures: its size, if it has one of its
        own.

    space : SearchSpace
        What was searched.

    candidates : list of dict
        The candidates, in codes.

    results : dict of str to ndarray
        The columns of `cv_results_`, of this stage only.
    """

    index: int
    size: Any
    label: str
    space: SearchSpace
    candidates: list[Candidate]
    results: dict[str, Any]

    @property
    def failed(self) -> np.ndarray:
        """Which candidates failed, as a mask: they have an error, or no score."""
        scores = [
            self.results[f"mean_test_{metric}"] for metric in metric_names(self.results)
        ]
        failed = ~np.isfinite(np.array(scores, dtype=float)).any(axis=0)
        error = self.results.get("error")
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
    stage : int or "all"
        Which stage they are of.

    size : object
        The size of its images; None if there are no sizes, or several.

    label : str
        What the stage is called.

    dimensions : dict of str to dimension
        The columns.

    codes : ndarray of shape (n_candidates, n_dimensions)
        Points of the unit cube; NaN for layers that a candidate does not have.

    scores : ndarray of shape (n_candidates,)
        Mean test scores of candidates that did not fail.
    """

    stage: int | str
    size: Any
    label: str
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
                _label(search.sizes_, index),
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
    return [Stage(0, None, "stage 0", space, candidates, _select_rows(results, rows))]


def _label(sizes, index):
    size = sizes[index]
    if size is None:
        return f"stage {index}"
    return f"{size}" if sizes.count(size) == 1 else f"{size} (stage {index})"


def choose_metric(search: Any, metric: str | None) -> str:
    """Return the metric to look at: by default the one that guided the search."""
    metrics = metric_names(search.cv_results_)
    if metric is None:
        refit = getattr(search, "refit", None)
        return refit if isinstance(refit, str) and refit in metrics else metrics[0]
    if metric not in metrics:
        raise ValueError(f"metric={metric!r} was not measured, only {metrics} were")
    return metric


def observe_stages(
    stages: Sequence[Stage], stage: int | str | None, metric: str
) -> list[Observations]:
    """Return the observations of each stage, or of one, or of all together.

    Parameters
    ----------
    stages : list of Stage
        All stages of a search.

    stage : int, "all" or None
        Which one; None means each, but for those that have too few candidates, of which
        there is a warning.

    metric : str
        Which scores.

    Returns
    -------
    observations : list of Observations
        At least one.

    Raises
    ------
    ValueError
        If the stage does not exist.

    NothingToShowError
        If there are too few candidates.
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
    """Return the candidates of one stage, or of several, as points and scores.

    What else they differ in are further columns, `size` and `n_resources`: the size of
    the images, and how many resources they were measured with.

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

    Raises
    ------
    NothingToShowError
        If no hyperparameter has more than one value.
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


def get_trial(search: Any) -> Any:
    """Return what decodes the candidates of a stage of ours; None of other searches."""
    trial = getattr(search, "estimator", None)
    is_trial = isinstance(getattr(trial, "space", None), SearchSpace)
    return trial if is_trial and hasattr(trial, "decode") else None


def _get_candidates(search):
    results = search.cv_results_
    trial = get_trial(search)
    if trial is not None:
        space = trial.space
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
