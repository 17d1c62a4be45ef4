"""Bars of the most important hyperparameters, grouped by size."""

from dataclasses import dataclass

import numpy as np

from sklearn_iis.inspection._importance import (
    ImportanceResult,
    hyperparameter_importance,
)
from sklearn_iis.inspection.displays._plotting import (
    check_axes,
    legend_title,
    new_axes,
    plain,
    short_names,
    stage_styles,
)


@dataclass(kw_only=True, eq=False, repr=False)
class ImportanceDisplay:
    """Bars of the importance of hyperparameters and their pairs, one colour per size.

    It is figure 2 of [1]_. Use :meth:`from_search` to make one.

    Parameters
    ----------
    result : ImportanceResult
        The result of :func:`~sklearn_iis.inspection.hyperparameter_importance`.

    Attributes
    ----------
    figure_ : matplotlib Figure
        The figure with the bars.

    ax_ : matplotlib Axes
        The axes with the bars.

    bars_ : list of matplotlib BarContainer
        The bars of each stage, from the most important subset on.

    subsets_ : list of tuple of str
        The subsets that are drawn, the most important one first.

    See Also
    --------
    hyperparameter_importance : The numbers.

    References
    ----------
    .. [1] T. Hinz, N. Navarro-Guerrero, S. Magg, S. Wermter, "Speeding up the
       Hyperparameter Optimization of Deep Convolutional Neural Networks", International
       Journal of Computational Intelligence and Applications 17(2), 2018.
       :arxiv:`1807.07362`

    Examples
    --------
    >>> from scipy.stats import loguniform, uniform
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import SGDClassifier
    >>> from sklearn.model_selection import RandomizedSearchCV
    >>> from sklearn_iis.inspection import ImportanceDisplay
    >>> search = RandomizedSearchCV(
    ...     SGDClassifier(penalty="elasticnet", random_state=0),
    ...     {"alpha": loguniform(1e-5, 10), "l1_ratio": uniform(0, 1)},
    ...     n_iter=20,
    ...     random_state=0,
    ... )
    >>> search = search.fit(*load_iris(return_X_y=True))
    >>> display = ImportanceDisplay.from_search(search, random_state=0)
    >>> len(display.subsets_)
    3
    """

    result: ImportanceResult

    @classmethod
    def from_search(
        cls,
        search,
        *,
        stage=None,
        max_order=2,
        n_estimators=64,
        metric=None,
        random_state=None,
        engine="forest",
        n_subsets=18,
        ax=None,
    ):
        """Compute the importances of a fitted search, and draw them.

        Parameters
        ----------
        search : estimator object
            A fitted :class:`~sklearn_iis.IISSearchCV`, or another search, as for
            :func:`~sklearn_iis.inspection.hyperparameter_importance`.

        stage : int or "all", default=None
            Only this stage, or all together; None means each.

        max_order : int, default=2
            The most hyperparameters of a subset.

        n_estimators : int, default=64
            Number of trees.

        metric : str, default=None
            Which scores; None means those that guided the search.

        random_state : int, RandomState instance or None, default=None
            Determines the forests.

        engine : {"forest", "fanova"}, default="forest"
            The way to compute them.

        n_subsets : int, default=18
            The most subsets to draw.

        ax : matplotlib Axes, default=None
            Where to draw; None means a new figure.

        Returns
        -------
        display : ImportanceDisplay
            The display, drawn.
        """
        result = hyperparameter_importance(
            search,
            stage=stage,
            max_order=max_order,
            n_estimators=n_estimators,
            metric=metric,
            random_state=random_state,
            engine=engine,
        )
        return cls(result=result).plot(ax=ax, n_subsets=n_subsets)

    def plot(self, ax=None, *, n_subsets=18):
        """Draw the bars.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None means a new figure.

        n_subsets : int, default=18
            The most subsets to draw: those with the largest importance, on average over
            the stages.

        Returns
        -------
        display : ImportanceDisplay
            This object.

        Raises
        ------
        ValueError
            If `n_subsets` is less than 1, or there are several axes.
        """
        if n_subsets < 1:
            raise ValueError(f"n_subsets must be at least 1, got {n_subsets}")
        stages = self.result.stages
        self.subsets_ = self.result.rank()[:n_subsets]
        n_rows, n_stages = len(self.subsets_), len(stages)
        if ax is None:
            ax = new_axes(height=1.2 + 0.16 * n_rows * (0.8 + 0.6 * n_stages), width=7)
        (ax,) = check_axes(ax, ["importance"])
        height = 0.8 / n_stages
        self.bars_ = []
        styles = stage_styles(n_stages)
        for i, (stage, style) in enumerate(zip(stages, styles, strict=True)):
            shares = dict(zip(stage.subsets, stage.importances_mean, strict=True))
            bars = ax.barh(
                np.arange(n_rows) + (i - (n_stages - 1) / 2) * height,
                [100 * shares.get(subset, 0) for subset in self.subsets_],
                height,
                color=style["color"],
                hatch=style["hatch"],
                edgecolor="white",
                linewidth=0,
                label=plain(stage.label),
            )
            self.bars_.append(bars)
        short = short_names({name for subset in self.subsets_ for name in subset})
        labels = [" × ".join(short[n] for n in subset) for subset in self.subsets_]  # noqa: RUF001
        ax.set_yticks(range(n_rows), labels)
        ax.set_ylim(n_rows - 0.5, -0.5)
        ax.set_xlim(left=0)
        ax.set_xlabel("importance [% of the variance of the predicted score]")
        if n_stages > 1:
            ax.legend(title=legend_title(stages), loc="lower right")
        self.ax_, self.figure_ = ax, ax.figure
        return self
