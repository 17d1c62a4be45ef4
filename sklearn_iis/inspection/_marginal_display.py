"""The mean score over one hyperparameter, or over a pair, at each size."""

import numpy as np

from sklearn_iis.inspection._importance import hyperparameter_marginal
from sklearn_iis.inspection._plotting import as_error as to_error
from sklearn_iis.inspection._plotting import (
    check_axes,
    is_log,
    is_numeric,
    new_axes,
    positions,
    score_label,
    set_scale,
    short_name,
    stage_styles,
)
from sklearn_iis.inspection._stages import (
    choose_metric,
    get_stages,
    observe,
    select_stages,
)


class MarginalDisplay:
    """The mean score over one hyperparameter, a curve and a band for each size.

    All other hyperparameters are averaged over the space; the band is one standard
    deviation over the trees. It is figure 3 of [1]_. Use :meth:`from_search` to make
    one.

    Parameters
    ----------
    marginal : :class:`~sklearn.utils.Bunch`
        What :func:`~sklearn_iis.inspection.hyperparameter_marginal` returns for one
        name.

    dimension : dimension
        The hyperparameter in the space, as in `SearchSpace.dimensions`.

    metric : str, default="score"
        What the scores are.

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

    def __init__(self, *, marginal, dimension, metric="score", as_error=False):
        self.marginal = marginal
        self.dimension = dimension
        self.metric = metric
        self.as_error = as_error

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

        stage : int, default=None
            Only this stage; None means each.

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
        marginal = hyperparameter_marginal(
            search,
            name,
            stage=stage,
            n_points=n_points,
            n_estimators=n_estimators,
            metric=metric,
            random_state=random_state,
        )
        metric, (dimension,) = _find_dimensions(search, marginal.names, stage, metric)
        display = cls(
            marginal=marginal, dimension=dimension, metric=metric, as_error=as_error
        )
        return display.plot(ax=ax)

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
        stages = self.marginal.stages
        self.lines_, self.bands_ = [], []
        numeric = is_numeric(self.dimension)
        means = _means(self.marginal, self.as_error)
        styles = stage_styles(len(stages))
        for i, (stage, mean, style) in enumerate(
            zip(stages, means, styles, strict=True)
        ):
            x = positions(self.dimension, stage.grid_values[0])
            few = len(x) <= 12
            line_style = {
                "color": style["color"],
                "label": f"{stage.stage if stage.size is None else stage.size}",
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
        values = dict.fromkeys(v for s in stages for v in s.grid_values[0])
        set_scale(ax.xaxis, self.dimension, sorted(values) if numeric else list(values))
        (name,) = self.marginal.names
        ax.set(xlabel=short_name(name), ylabel=score_label(self.metric, self.as_error))
        if len(stages) > 1:
            sized = any(stage.size is not None for stage in stages)
            ax.legend(title="size" if sized else "stage")
        self.ax_, self.figure_ = ax, ax.figure
        return self


class PairMarginalDisplay:
    """The mean score over two hyperparameters, a heat map for each size.

    All other hyperparameters are averaged over the space. The maps share their colours.
    It is figure 4 of [1]_. Use :meth:`from_search` to make one.

    Parameters
    ----------
    marginal : :class:`~sklearn.utils.Bunch`
        What :func:`~sklearn_iis.inspection.hyperparameter_marginal` returns for two
        names.

    dimensions : list of dimension
        Both hyperparameters in the space, as in `SearchSpace.dimensions`.

    metric : str, default="score"
        What the scores are.

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

    def __init__(self, *, marginal, dimensions, metric="score", as_error=False):
        self.marginal = marginal
        self.dimensions = dimensions
        self.metric = metric
        self.as_error = as_error

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

        stage : int, default=None
            Only this stage; None means each.

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
        metric, dimensions = _find_dimensions(search, marginal.names, stage, metric)
        display = cls(
            marginal=marginal, dimensions=dimensions, metric=metric, as_error=as_error
        )
        return display.plot(axes=axes)

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
        stages = self.marginal.stages
        if axes is None:
            axes = new_axes(
                width=1.2 + 3 * len(stages), height=3.4, n_columns=len(stages)
            )
        self.axes_ = check_axes(axes, [f"stage {stage.stage}" for stage in stages])
        means = _means(self.marginal, self.as_error)
        lowest, highest = min(m.min() for m in means), max(m.max() for m in means)
        self.maps_ = []
        for ax, stage, mean in zip(self.axes_, stages, means, strict=True):
            edges = [
                _cell_edges(dimension, values)
                for dimension, values in zip(
                    self.dimensions, stage.grid_values, strict=True
                )
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
                (ax.xaxis, ax.yaxis), self.dimensions, stage.grid_values, strict=True
            ):
                set_scale(axis, dimension, values)
            ax.set(xlim=edges[0][[0, -1]], ylim=edges[1][[0, -1]])
            ax.set_xlabel(short_name(self.marginal.names[0]))
            if stage.size is not None:
                ax.set_title(f"size {stage.size}")
        self.axes_[0].set_ylabel(short_name(self.marginal.names[1]))
        self.figure_ = self.axes_[0].figure
        self.figure_.colorbar(
            self.maps_[-1],
            ax=list(self.axes_),
            label=score_label(self.metric, self.as_error),
        )
        return self


def _find_dimensions(search, names, stage, metric):
    """Return the name of the metric, and the dimensions of the hyperparameters."""
    stages = get_stages(search)
    metric = choose_metric(search, metric)
    observations = observe(select_stages(stages, stage)[:1], metric)
    return metric, [observations.dimensions[name] for name in names]


def _means(marginal, as_error):
    """Return the mean of each stage, by one rule for all if they are errors."""
    means = [stage.mean for stage in marginal.stages]
    if not as_error:
        return means
    ends = np.cumsum([mean.size for mean in means])[:-1]
    errors = to_error(np.concatenate([mean.ravel() for mean in means]))
    parts = zip(np.split(errors, ends), means, strict=True)
    return [part.reshape(mean.shape) for part, mean in parts]


def _cell_edges(dimension, values):
    """Return the edges of cells around values, halfway between them on their axis."""
    centers = positions(dimension, values)
    log = is_log(dimension)
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
