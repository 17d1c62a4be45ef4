"""Importance of the hyperparameters of a search, and their marginals."""

from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils import Bunch

from sklearn_iis._sklearn_compat import Interval, StrOptions, validate_params
from sklearn_iis.inspection._fitted import (
    Observations,
    choose_metric,
    get_stages,
    observe,
    observe_stages,
)
from sklearn_iis.inspection.anova._fanova import fanova
from sklearn_iis.inspection.anova._functional_anova import (
    MarginalForest,
    functional_anova,
)
from sklearn_iis.space import Continuous

ENGINES: dict[str, Callable] = {"forest": functional_anova, "fanova": fanova}


class ImportanceResult(Bunch):
    """Importance of hyperparameters, of each stage and of all.

    See :func:`hyperparameter_importance`.
    """

    def rank(self) -> list[tuple[str, ...]]:
        """Return the subsets, by their mean importance over the stages.

        Returns
        -------
        subsets : list of tuple of str
            The most important one first; a stage that lacks one counts as 0.
        """
        totals: dict[tuple[str, ...], float] = {}
        for stage in self.stages:
            shares = zip(stage.subsets, stage.importances_mean, strict=True)
            for subset, share in shares:
                totals[subset] = totals.get(subset, 0.0) + share
        return sorted(totals, key=lambda subset: -totals[subset])

    def to_frame(self) -> pd.DataFrame:
        """Return the importances as a table.

        Returns
        -------
        frame : pandas.DataFrame
            A row for each stage and each subset of hyperparameters, and if there are
            several stages, for all of them, where `stage` is "all". The columns are
            `stage`, `size`, `subset` (the names joined by " x "), `order` (how many
            there are), `importance` and `std`.
        """
        results = self.stages if len(self.stages) == 1 else [*self.stages, self.overall]
        rows = [
            (r.stage, r.size, " x ".join(subset), len(subset), mean, std)
            for r in results
            for subset, mean, std in zip(
                r.subsets, r.importances_mean, r.importances_std, strict=True
            )
        ]
        columns = ["stage", "size", "subset", "order", "importance", "std"]
        frame = pd.DataFrame(rows, columns=columns)
        # Otherwise None would make numbers of sizes floats.
        sizes = pd.Series([row[1] for row in rows], dtype=object)
        return frame.assign(size=sizes)


@validate_params(
    {
        "search": "no_validation",
        "stage": [Integral, StrOptions({"all"}), None],
        "max_order": [Interval(Integral, 1, None, closed="left")],
        "n_estimators": [Interval(Integral, 1, None, closed="left")],
        "metric": [str, None],
        "random_state": ["random_state"],
        "engine": [StrOptions(set(ENGINES))],
    },
    prefer_skip_nested_validation=True,
)
def hyperparameter_importance(
    search,
    *,
    stage=None,
    max_order=2,
    n_estimators=64,
    metric=None,
    random_state=None,
    engine="forest",
) -> ImportanceResult:
    """Return how much of the predicted score's variance each hyperparameter explains.

    A forest is fitted to the scores of all candidates that did not fail, and its
    prediction decomposed by functional ANOVA [1]_ over the space, in codes: a
    continuous hyperparameter counts by its quantiles, so that one on a log scale counts
    by its logarithm; of a discrete one each value counts the same. Importances of a
    stage are those within the ranges that were left to it.

    Parameters
    ----------
    search : estimator object
        A fitted :class:`~sklearn_iis.IISSearchCV`, or another search of scikit-learn's
        kind with `param_distributions` or `param_grid` as a dict of frozen
        scipy.stats distributions and lists, or a list of such dicts.

    stage : int or "all", default=None
        Only this stage, counted from 0, or all together, over the space of the first
        one and with the size as one more hyperparameter, or the stage where several
        have the same size and differ otherwise. None means each stage, and all
        together; stages with fewer than 10 candidates that did not fail are left out,
        with a warning.

    max_order : int, default=2
        The most hyperparameters of a subset.

    n_estimators : int, default=64
        Number of trees.

    metric : str, default=None
        Which scores, if there are several metrics; None means those that guided the
        search.

    random_state : int, RandomState instance or None, default=None
        Determines the forests. With an int, each stage's are the same alone as among
        others.

    engine : {"forest", "fanova"}, default="forest"
        :func:`functional_anova`, or the `fanova` package of the method's authors, which
        needs the extra `fanova` and takes hundreds of times as long or more; its
        licence is for non-commercial use.

    Returns
    -------
    result : ImportanceResult
        Dictionary-like object, with the following attributes, and with a method
        `to_frame` that returns all of it as a :class:`pandas.DataFrame`.

        stages : list of :class:`~sklearn.utils.Bunch`
            One for each stage, with

            - `stage` (int, or "all"), `size` and `label`;
            - `subsets`, a list of tuples of names. Of a `PerLayer` hyperparameter each
              layer is one of its own, `name[layer]`, and the choice among alternatives
              is one more, `(alternative)`. If candidates were evaluated with
              different resources, as by Hyperband, these are one more, `n_resources`;
            - `importances`, an ndarray of shape (n_subsets, n_estimators), the share
              of the prediction's variance that each subset explains beyond its own
              subsets, by tree, whose parts may be negative;
            - `importances_mean` and `importances_std`, over the trees;
            - `total_explained`, the sum of `importances_mean`: the rest is due to
              subsets of more hyperparameters;
            - `total_variance`, of the prediction over the space;
            - `oob_score`, the share of the variance of the scores that is predicted out
              of bag (R²). Near 0 or below, importances are those of noise;
            - `n_candidates`, those that did not fail.
        overall : :class:`~sklearn.utils.Bunch`
            The same for all stages together; if there is only one stage, or one was
            asked for, that one.

    Raises
    ------
    ValueError
        If the stage or metric does not exist, or there are too few candidates.

    ImportError
        If `engine="fanova"` is not installed.

    See Also
    --------
    functional_anova : The decomposition, of any points and scores.
    hyperparameter_marginal : The mean score over a hyperparameter.
    ImportanceDisplay : A picture of it.

    Notes
    -----
    What does not exist for a candidate, such as a layer beyond its depth, has no
    influence on its score. It gets a code at random, so that a hyperparameter is
    credited with its effect where it exists, averaged over the whole space: little, if
    few candidates have it.

    In a space that was narrowed around the good candidates, scores vary less, and
    importance is that in their neighbourhood. Searches that are guided by scores do
    not cover the space evenly; where they have been rarely, the forest knows little.
    That is so of all stages together, whatever the search: the larger sizes were
    evaluated in the narrowed ranges only, or with the best candidates only ("ladder"),
    so that some of the effect of the hyperparameters is credited to the size.

    Whether a candidate failed is known by its `error` in `cv_results_`, or by a score
    of NaN: where another search of scikit-learn has a number as `error_score`, that
    counts as a score.

    References
    ----------
    .. [1] F. Hutter, H. Hoos, K. Leyton-Brown, "An Efficient Approach for Assessing
       Hyperparameter Importance", International Conference on Machine Learning, 2014.

    Examples
    --------
    >>> from scipy.stats import loguniform, uniform
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import SGDClassifier
    >>> from sklearn_iis import IISSearchCV
    >>> from sklearn_iis.inspection import hyperparameter_importance
    >>> space = {"alpha": loguniform(1e-5, 10), "l1_ratio": uniform(0, 1)}
    >>> search = IISSearchCV(
    ...     SGDClassifier(penalty="elasticnet", random_state=0),
    ...     space,
    ...     n_iter=40,
    ...     random_state=0,
    ... )
    >>> search = search.fit(*load_iris(return_X_y=True))
    >>> result = hyperparameter_importance(search, random_state=0)
    >>> frame = result.to_frame()
    >>> frame.loc[frame["importance"].idxmax(), "subset"]
    'alpha'
    """
    stages = get_stages(search)
    metric = choose_metric(search, metric)

    def analyse(observations: Observations) -> Bunch:
        result = ENGINES[engine](
            observations.codes,
            observations.scores,
            max_order=max_order,
            n_estimators=n_estimators,
            random_state=random_state,
        )
        return describe_importance(observations, result)

    results = [analyse(one) for one in observe_stages(stages, stage, metric)]
    if stage is None and len(stages) > 1:
        return ImportanceResult(
            stages=results, overall=analyse(observe(stages, metric))
        )
    return ImportanceResult(stages=results, overall=results[0])


def describe_importance(observations: Observations, result: Bunch) -> Bunch:
    """Return the importances of a stage by name, of the result for its columns."""
    names = list(observations.dimensions)
    subsets = [tuple(names[i] for i in subset) for subset in result.subsets]
    return Bunch(
        stage=observations.stage,
        size=observations.size,
        label=observations.label,
        n_candidates=len(observations.scores),
        total_explained=float(result.importances_mean.sum()),
        **result | {"subsets": subsets},
    )


@validate_params(
    {
        "search": "no_validation",
        "names": [str, tuple, list],
        "stage": [Integral, StrOptions({"all"}), None],
        "n_points": [Interval(Integral, 2, None, closed="left")],
        "n_estimators": [Interval(Integral, 1, None, closed="left")],
        "metric": [str, None],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def hyperparameter_marginal(
    search,
    names,
    *,
    stage=None,
    n_points=50,
    n_estimators=64,
    metric=None,
    random_state=None,
) -> Bunch:
    """Return the mean score over one hyperparameter, or over several.

    All others are averaged over the space of the stage. It is this mean
    whose variance :func:`hyperparameter_importance` decomposes.

    As ranges are narrowed around good candidates, later stages have higher means for
    that alone: the shapes of their marginals can be compared, the levels cannot.

    Parameters
    ----------
    search : estimator object
        A fitted search, as for :func:`hyperparameter_importance`.

    names : str, or tuple or list of str
        The hyperparameter or hyperparameters; `name[layer]` of a `PerLayer`.

    stage : int or "all", default=None
        Only this stage, counted from 0, or all together. None means each stage; those
        with fewer than 10 candidates that did not fail are left out, with a warning.

    n_points : int, default=50
        The most values of each hyperparameter, evenly spaced in codes; a discrete one
        may have fewer.

    n_estimators : int, default=64
        Number of trees.

    metric : str, default=None
        Which scores; None means those that guided the search.

    random_state : int, RandomState instance or None, default=None
        Determines the forests.

    Returns
    -------
    result : :class:`~sklearn.utils.Bunch`
        Dictionary-like object, with the following attributes.

        names : tuple of str
            The hyperparameters.
        dimensions : list of dimension
            The same as in `SearchSpace.dimensions`, in the first stage.
        metric : str
            Which scores.
        stages : list of :class:`~sklearn.utils.Bunch`
            One for each stage, with `stage`, `size`, `label`, `grid_values` (for each
            hyperparameter a list of its values, in its own units), `mean` and `std`
            (ndarrays of shape (n_values of the first hyperparameter, ...), the mean
            score at these values and its standard deviation over the trees), and
            `best_score`, the best one of the stage.

    Raises
    ------
    ValueError
        If a name, the stage or the metric does not exist, or there are too few
        candidates.

    Examples
    --------
    >>> from scipy.stats import loguniform
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.model_selection import RandomizedSearchCV
    >>> from sklearn_iis.inspection import hyperparameter_marginal
    >>> search = RandomizedSearchCV(
    ...     LogisticRegression(), {"C": loguniform(1e-4, 1)}, n_iter=20, random_state=0
    ... )
    >>> search = search.fit(*load_iris(return_X_y=True))
    >>> result = hyperparameter_marginal(search, "C", n_points=3, random_state=0)
    >>> [f"{C:.2g}" for C in result.stages[0].grid_values[0]]
    ['0.0001', '0.01', '1']
    >>> bool(result.stages[0].mean[2] > result.stages[0].mean[0])
    True
    """
    names = (names,) if isinstance(names, str) else tuple(names)
    if not names or len(set(names)) < len(names):
        raise ValueError(f"names must be different hyperparameters, got {names}")
    metric = choose_metric(search, metric)
    observed = observe_stages(get_stages(search), stage, metric)
    for observations in observed:
        for name in names:
            observations.find(name)
    forests = [fit_forest(one, n_estimators, random_state) for one in observed]
    return describe_marginal(names, metric, observed, forests, n_points)


def fit_forest(
    observations: Observations, n_estimators: int, random_state: Any
) -> MarginalForest:
    """Return the forest of a stage."""
    return MarginalForest(
        observations.codes,
        observations.scores,
        n_estimators=n_estimators,
        random_state=random_state,
    )


def describe_marginal(
    names: tuple[str, ...],
    metric: str,
    observed: Sequence[Observations],
    forests: Sequence[MarginalForest],
    n_points: int,
) -> Bunch:
    """Return the result of :func:`hyperparameter_marginal`, of the stages' forests."""
    stages = []
    for observations, forest in zip(observed, forests, strict=True):
        dimensions = [observations.dimensions[name] for name in names]
        codes = [_spread_codes(dimension, n_points) for dimension in dimensions]
        pairs = list(zip(dimensions, codes, strict=True))
        mean, std = forest.marginal(
            tuple(observations.find(name) for name in names),
            [np.array([d.unit(code) for code in d_codes]) for d, d_codes in pairs],
        )
        stages.append(
            Bunch(
                stage=observations.stage,
                size=observations.size,
                label=observations.label,
                grid_values=[[d.decode(c) for c in d_codes] for d, d_codes in pairs],
                mean=mean,
                std=std,
                best_score=float(observations.scores.max()),
            )
        )
    return Bunch(
        names=names,
        dimensions=[observed[0].dimensions[name] for name in names],
        metric=metric,
        stages=stages,
    )


def _spread_codes(dimension, n_points):
    if isinstance(dimension, Continuous):
        return np.linspace(dimension.low, dimension.high, n_points).tolist()
    n_points = min(n_points, int(dimension.n_levels))
    codes = np.linspace(dimension.low, dimension.high, n_points)
    # Clipped, as floats of this size may not be exact.
    return sorted({dimension.clip(code) for code in codes.round()})
