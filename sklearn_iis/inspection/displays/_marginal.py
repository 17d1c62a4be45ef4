"""The mean score over one hyperparameter, or over a pair, at each size."""

from dataclasses import dataclass

import numpy as np
from sklearn.utils import Bunch

from sklearn_iis.inspection._importance import hyperparameter_marginal
from sklearn_iis.inspection.displays._plotting import (
    check_axes,
    is_number,
    legend_title,
    new_axes,
    plain,
    positions,
    score_label,
    set_scale,
    short_name,
    stage_styles,
    to_error,
)
from sklearn_iis.space import is_log


@dataclass(kw_only=True, eq=False, repr=False)
class MarginalDisplay:
    """The mean score over one hyperparameter, one curve and band per size.

    All other hyperparameters are averaged over the space of the stage; the band is one
    standard deviation over the trees. Where ranges were narrowed, later stages lie
    higher for that alone. It is figure 3 of [1]_. Use :meth:`from_search` to make one.

    Parameters
    ----------
    marginal : :class:`~sklearn.utils.Bunch`
        The result of :func:`~sklearn_iis.inspection.hyperparameter_marginal` for one
        name.

    as_error : bool, default=False
        Whether errors are drawn: 1 - score, or -score if no score is above 0.

    Attributes
    ----------
    figure_ : matplotlib Figure
        The figure with the curves.

    ax_ : matplotlib Axes
        The axes with the curves.

    lines_ : list of matplotlib Line2D
        The curve of each stage.

    bands_ : list of matplotlib PolyCollection
        The band of each stage; none if the hyperparameter's values have no order.

    See Also
    --------
    PairMarginalDisplay : The same over two hyperparameters.

    References
    ----------
    .. [1] T. Hinz, N. Navarro-Guerrero, S. Magg, S. Wermter, "Speeding up the
       Hyperparameter Optimization of Deep Convolutional Neural Networks", International
       Journal of Computational Intelligence and Applications 17(2), 2018.
       :arxiv:`1807.07362`

    Examples
    --------
    >>> from scipy.stats import loguniform
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.model_selection import RandomizedSearchCV
    >>> from sklearn_iis.inspection import MarginalDisplay
    >>> search = RandomizedSearchCV(
    ...     LogisticRegression(), {"C": loguniform(1e-4, 1)}, n_iter=20, random_state=0
    ... )
    >>> search = search.fit(*load_iris(return_X_y=True))
    >>> display = MarginalDisplay.from_search(search, "C", random_state=0)
    >>> display.ax_.get_xscale()
    'log'
    """

    marginal: Bunch
    as_error: bool = False

    @classmethod
    def from_search(
        cls,
        search,
        name,
        *,
        stage=None,
        n_points=50,
        n_estimators=64,
        metric=None,
        as_error=False,
        random_state=None,
        ax=None,
    ):
        """Compute the marginals of a fitted search, and draw them.

        Parameters
        ----------
        search : estimator object
            A fitted :class:`~sklearn_iis.IISSearchCV`, or another search, as for
            :func:`~sklearn_iis.inspection.hyperparameter_marginal`.

        name : str
            The hyperparameter.

        stage : int or "all", default=None
            Only this stage, or all together; None means each.

        n_points : int, default=50
            The most values of the hyperparameter.

        n_estimators : int, default=64
            Number of trees.

        metric : str, default=None
            Which scores; None means those that guided the search.

        as_error : bool, default=False
            Whether errors are drawn: 1 - score, or -score if no score is above 0.

        random_state : int, RandomState instance or None, default=None
            Determines the forests.

        ax : matplotlib Axes, default=None
            Where to draw; None means a new figure.

        Returns
        -------
        display : MarginalDisplay
            The display, drawn.
        """
        if not isinstance(name, str):
            raise ValueError(f"name must be one hyperparameter, got {name!r}")
        marginal = hyperparameter_marginal(
            search,
            name,
            stage=stage,
            n_points=n_points,
            n_estimators=n_estimators,
            metric=metric,
            random_state=random_state,
        )
        return cls(marginal=marginal, as_error=as_error).plot(ax=ax)

    def plot(self, ax=None):
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None means a new figure.

        Returns
        -------
        display : MarginalDisplay
            This object.
        """
        if ax is None:
            ax = new_axes(width=6, height=4)
        (ax,) = check_axes(ax, self.marginal.names)
        stages = self.marginal.stages
        self.lines_, self.bands_ = [], []
        (dimension,) = self.marginal.dimensions
        numeric = is_number(dimension)
        means = _means(self.marginal, self.as_error)
        styles = stage_styles(len(stages))
        for i, (stage, mean, style) in enumerate(
            zip(stages, means, styles, strict=True)
        ):
            x = positions(dimension, stage.grid_values[0])
            few = len(x) <= 12
            line_style = {
                "color": style["color"],
                "label": plain(stage.label),
                "marker": style["marker"] if few else None,
            }
            if numeric:
                (line,) = ax.plot(x, mean, linestyle=style["linestyle"], **line_style)
                band = ax.fill_between(
                    x, mean - stage.std, mean + stage.std, alpha=0.2, linewidth=0
                )
                band.set_facecolor(style["color"])
                self.bands_.append(band)
            else:
                # Side by side, and not joined: there is nothing between choices.
                x = x + 0.12 * (i - (len(stages) - 1) / 2)
                line, *_ = ax.errorbar(
                    x, mean, stage.std, linestyle="", capsize=3, **line_style
                )
            self.lines_.append(line)
        values = [value for stage in stages for value in stage.grid_values[0]]
        # They may be unhashable.
        by_place = dict(zip(positions(dimension, values), values, strict=True))
        values = [by_place[place] for place in sorted(by_place)]
        set_scale(ax.xaxis, dimension, values)
        (name,) = self.marginal.names
        ax.set(
            xlabel=short_name(name),
            ylabel=plain(score_label(self.marginal.metric, self.as_error)),
        )
        if len(stages) > 1:
            ax.legend(title=legend_title(stages))
        self.ax_, self.figure_ = ax, ax.figure
        return self


@dataclass(kw_only=True, eq=False, repr=False)
class PairMarginalDisplay:
    """The mean score over two hyperparameters, one heat map per size.

    All other hyperparameters are averaged over the space of the stage. The maps share
    their colours; where ranges were narrowed, later stages are better for that alone.
    It is figure 4 of [1]_. Use :meth:`from_search` to make one.

    Parameters
    ----------
    marginal : :class:`~sklearn.utils.Bunch`
        The result of :func:`~sklearn_iis.inspection.hyperparameter_marginal` for two
        names.

    as_error : bool, default=False
        Whether errors are drawn: 1 - score, or -score if no score is above 0.

    Attributes
    ----------
    figure_ : matplotlib Figure
        The figure with the maps.

    axes_ : ndarray of matplotlib Axes
        The axes of each stage.

    maps_ : list of matplotlib QuadMesh
        The map of each stage.

    See Also
    --------
    MarginalDisplay : The same over one hyperparameter.

    References
    ----------
    .. [1] T. Hinz, N. Navarro-Guerrero, S. Magg, S. Wermter, "Speeding up the
       Hyperparameter Optimization of Deep Convolutional Neural Networks", International
       Journal of Computational Intelligence and Applications 17(2), 2018.
       :arxiv:`1807.07362`

    Examples
    --------
    >>> from scipy.stats import loguniform
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.model_selection import RandomizedSearchCV
    >>> from sklearn_iis.inspection import PairMarginalDisplay
    >>> search = RandomizedSearchCV(
    ...     LogisticRegression(),
    ...     {"C": loguniform(1e-4, 1), "fit_intercept": [True, False]},
    ...     n_iter=20,
    ...     random_state=0,
    ... )
    >>> search = search.fit(*load_iris(return_X_y=True))
    >>> display = PairMarginalDisplay.from_search(
    ...     search, ("C", "fit_intercept"), random_state=0
    ... )
    >>> len(display.maps_)
    1
    """

    marginal: Bunch
    as_error: bool = False

    @classmethod
    def from_search(
        cls,
        search,
        names,
        *,
        stage=None,
        n_points=30,
        n_estimators=64,
        metric=None,
        as_error=False,
        random_state=None,
        axes=None,
    ):
        """Compute the marginals of a fitted search, and draw them.

        Parameters
        ----------
        search : estimator object
            A fitted :class:`~sklearn_iis.IISSearchCV`, or another search, as for
            :func:`~sklearn_iis.inspection.hyperparameter_marginal`.

        names : tuple of str
            The two hyperparameters: that of the horizontal, that of the vertical axis.

        stage : int or "all", default=None
            Only this stage, or all together; None means each.

        n_points : int, default=30
            The most values of each hyperparameter.

        n_estimators : int, default=64
            Number of trees.

        metric : str, default=None
            Which scores; None means those that guided the search.

        as_error : bool, default=False
            Whether errors are drawn: 1 - score, or -score if no score is above 0.

        random_state : int, RandomState instance or None, default=None
            Determines the forests.

        axes : array-like of matplotlib Axes, default=None
            Where to draw, one for each stage; None means a new figure.

        Returns
        -------
        display : PairMarginalDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If there are not two names, or not as many axes as stages.
        """
        if isinstance(names, str) or len(names) != 2:
            raise ValueError(f"names must be two hyperparameters, got {names!r}")
        marginal = hyperparameter_marginal(
            search,
            names,
            stage=stage,
            n_points=n_points,
            n_estimators=n_estimators,
            metric=metric,
            random_state=random_state,
        )
        return cls(marginal=marginal, as_error=as_error).plot(axes=axes)

    def plot(self, axes=None):
        """Draw the maps.

        Parameters
        ----------
        axes : array-like of matplotlib Axes, default=None
            Where to draw, one for each stage; None means a new figure.

        Returns
        -------
        display : PairMarginalDisplay
            This object.
        """
        stages, dimensions = self.marginal.stages, self.marginal.dimensions
        if axes is None:
            n = len(stages)
            axes = new_axes(width=1.2 + 3 * n, height=3.4, n_axes=n, n_columns=n)
        self.axes_ = check_axes(axes, [f"stage {stage.stage}" for stage in stages])
        means = _means(self.marginal, self.as_error)
        lowest, highest = min(m.min() for m in means), max(m.max() for m in means)
        self.maps_ = []
        for ax, stage, mean in zip(self.axes_, stages, means, strict=True):
            edges = [
                _cell_edges(dimension, values)
                for dimension, values in zip(dimensions, stage.grid_values, strict=True)
            ]
            self.maps_.append(
                ax.pcolormesh(
                    *edges,
                    mean.T,
                    cmap="cividis",
                    vmin=lowest,
                    vmax=highest,
                    rasterized=True,
                )
            )
            for axis, dimension, values in zip(
                (ax.xaxis, ax.yaxis), dimensions, stage.grid_values, strict=True
            ):
                set_scale(axis, dimension, values)
            ax.set(xlim=edges[0][[0, -1]], ylim=edges[1][[0, -1]])
            ax.set_xlabel(short_name(self.marginal.names[0]))
            if len(stages) > 1:
                ax.set_title(plain(f"{legend_title(stages)} {stage.label}".strip()))
        self.axes_[0].set_ylabel(short_name(self.marginal.names[1]))
        self.figure_ = self.axes_[0].figure
        self.figure_.colorbar(
            self.maps_[-1],
            ax=list(self.axes_),
            label=plain(score_label(self.marginal.metric, self.as_error)),
        )
        return self


def _means(marginal, as_error):
    """Return the mean of each stage, by one rule for all if they are errors."""
    means = [stage.mean for stage in marginal.stages]
    if not as_error:
        return means
    best_score = max(stage.best_score for stage in marginal.stages)
    return [to_error(mean, best_score) for mean in means]


def _cell_edges(dimension, values):
    """Return the edges of cells around values, halfway between them on their axis."""
    centers = positions(dimension, values)
    log = is_number(dimension) and is_log(dimension)
    if log:
        centers = np.log(centers)
    if len(centers) == 1:
        middles = centers[:0]
        first, last = centers[0] - 0.5, centers[0] + 0.5
    else:
        middles = (centers[1:] + centers[:-1]) / 2
        first = centers[0] - (middles[0] - centers[0])
        last = centers[-1] + (centers[-1] - middles[-1])
    edges = np.concatenate([[first], middles, [last]])
    return np.exp(edges) if log else edges
