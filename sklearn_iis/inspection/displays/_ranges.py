"""How the ranges of hyperparameters narrowed from stage to stage."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from sklearn_iis.inspection._fitted import (
    NothingToShowError,
    check_searched,
    get_stages,
)
from sklearn_iis.inspection.displays._plotting import (
    MAX_CHOICES,
    MAX_TICKS,
    check_axes,
    is_number,
    new_axes,
    plain,
    positions,
    set_scale,
    short_names,
    stage_styles,
)
from sklearn_iis.space import Continuous, Discrete

N_COLUMNS = 3

# Parts of a row: a bar, and on it the candidates.
BAR_HEIGHT = 0.66
DOTS_HEIGHT = 0.6

# The bar of a choice, where the distance between choices is 1.
CHOICE_WIDTH = 0.4

# In points. A bar's edge is as wide as a dot, so that dots at its ends lie on it.
DOT_SIZE = 3.0

# Of Okabe and Ito, as the colours of series; no stage has it.
BEST_COLOR = "#D55E00"


@dataclass(kw_only=True, eq=False, repr=False)
class RangesDisplay:
    """How the ranges of hyperparameters narrowed from stage to stage.

    There is one panel per hyperparameter, in its own units, on a log scale where its
    prior is, with one bar per stage, the first one on top: from the lowest to the
    highest value. On it are the candidates of that stage in the order in which they
    were evaluated, from top to bottom: dots, or crosses if they failed. The best
    candidate of all is a star, on the bar of its stage, and a line through all stages.
    Use :meth:`from_search` to make one.

    Hyperparameters without an order are not narrowed; they have one bar per choice, if
    there are not too many.

    Parameters
    ----------
    panels : list of :class:`~sklearn.utils.Bunch`
        One for each hyperparameter, with `name` (str), `dimension` (in the first
        stage), `ranges` (for each stage the lowest and the highest value, or all values
        if they have no order), `candidates` (for each stage a list of their
        values; None for candidates that do not have it), `exists` (for each stage a
        mask of those that have it, as None may be a value), `failed` (for each
        stage a mask of those that failed), and `best` (the stage and the value of the
        best candidate, or None).

    labels : list of str
        The names of the stages.

    label_name : str
        The meaning of the labels: "size", or "" if they tell themselves.

    Attributes
    ----------
    figure_ : matplotlib Figure
        The figure with the panels.

    axes_ : ndarray of shape (n_panels,) of matplotlib Axes
        The panels.

    bars_ : list of list of matplotlib BarContainer
        For each panel, the bar of each stage; one per choice if there is no order.

    dots_ : list of list of matplotlib Line2D
        For each panel, the candidates of each stage that did not fail.

    crosses_ : list of list of matplotlib Line2D
        For each panel, the candidates of each stage that failed.

    stars_ : list of matplotlib Line2D or None
        For each panel, the best candidate; None if it is not known, or does not have
        it.

    best_lines_ : list of matplotlib Line2D or None
        For each panel, the line at the value of the best candidate.

    legend_ : matplotlib Legend or None
        The meaning of the marks; None on axes of a user, where a panel's own `legend`
        makes one.

    See Also
    --------
    ConvergenceDisplay : The best score so far.

    Examples
    --------
    >>> from scipy.stats import loguniform
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from sklearn_iis import IISSearchCV
    >>> from sklearn_iis.inspection import RangesDisplay
    >>> search = IISSearchCV(
    ...     DecisionTreeClassifier(random_state=0),
    ...     {"ccp_alpha": loguniform(1e-4, 1), "criterion": ["gini", "entropy"]},
    ...     sizes=(1, 2, 4),
    ...     size_param="max_depth",
    ...     n_iter=18,
    ...     random_state=0,
    ... )
    >>> search = search.fit(*load_iris(return_X_y=True))
    >>> display = RangesDisplay.from_search(search)
    >>> [panel.name for panel in display.panels]
    ['ccp_alpha', 'criterion']
    >>> low, high = display.panels[0].ranges[-1]
    >>> 1e-4 <= low < search.best_params_["ccp_alpha"] < high <= 1
    True
    """

    panels: Sequence[Bunch]
    labels: Sequence[str]
    label_name: str

    @classmethod
    def from_search(cls, search, *, names=None, axes=None):
        """Collect the ranges and the candidates of a fitted search, and draw them.

        Parameters
        ----------
        search : estimator object
            A fitted :class:`~sklearn_iis.IISSearchCV`, or another search of
            scikit-learn's kind whose space is a dict of frozen scipy.stats
            distributions and lists, or a list of such dicts: it is one stage.

        names : str or sequence of str, default=None
            Which hyperparameters; `name[layer]` of a
            :class:`~sklearn_iis.PerLayer`. None means all that have several values.

        axes : matplotlib Axes or array-like of such, default=None
            Where to draw, one for each hyperparameter; None means a new figure, with
            three in a row.

        Returns
        -------
        display : RangesDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If a name was not searched or stands twice, if there is nothing to draw, or
            not one of the axes for each hyperparameter.

        NotFittedError
            If the search is not fitted.
        """
        stages = get_stages(search)
        names = _check_names(names, list(stages[0].space.dimensions))
        candidates = [(s.index, codes) for s in stages for codes in s.candidates]
        index = getattr(search, "best_index_", None)
        best = None if index is None else candidates[index]
        panels = [_collect(name, stages, best) for name in names]
        display = cls(
            panels=panels,
            labels=[stage.label for stage in stages],
            label_name="" if stages[0].size is None else "size",
        )
        return display.plot(axes)

    def plot(self, axes=None):
        """Draw the ranges.

        Parameters
        ----------
        axes : matplotlib Axes or array-like of such, default=None
            Where to draw, one for each hyperparameter; None means a new figure, with
            three in a row.

        Returns
        -------
        display : RangesDisplay
            This object.

        Raises
        ------
        ValueError
            If there is not one of the axes for each hyperparameter.
        """
        n_stages = len(self.labels)
        is_new = axes is None
        if is_new:
            self.axes_ = _make_grid(len(self.panels), n_stages)
        else:
            self.axes_ = check_axes(axes, [panel.name for panel in self.panels])
        self.figure_ = self.axes_[0].figure
        self.bars_, self.dots_, self.crosses_ = [], [], []
        self.stars_, self.best_lines_, self.legend_ = [], [], None
        titles = short_names(panel.name for panel in self.panels)
        for i, (panel, ax) in enumerate(zip(self.panels, self.axes_, strict=True)):
            title = titles[panel.name]
            ax.set_title(title, fontsize="medium" if len(title) < 28 else "small")
            if not is_new or i % N_COLUMNS == 0:
                ax.set_ylabel(self.label_name)
            _set_axes(ax, panel.dimension, self.labels)
            self.bars_.append(_draw_bars(ax, panel))
            dots, crosses = _draw_candidates(ax, panel)
            self.dots_.append(dots)
            self.crosses_.append(crosses)
            line, star = _draw_best(ax, panel)
            self.best_lines_.append(line)
            self.stars_.append(star)
        if is_new:
            self._draw_legend()
        return self

    def _draw_legend(self):
        """Explain the marks below the panels."""
        marks = {}
        for ax in self.axes_:
            handles, labels = ax.get_legend_handles_labels()
            marks |= dict(zip(labels, handles, strict=True))
        self.legend_ = self.figure_.legend(
            handles=list(marks.values()),
            labels=list(marks),
            ncols=len(marks),
            loc="outside lower center",
            frameon=False,
        )


def _check_names(names, searched):
    if not searched:
        raise NothingToShowError(
            "there is nothing to draw: no hyperparameter has more than one value"
        )
    if names is None:
        return searched
    names = [names] if isinstance(names, str) else list(names)
    if not names:
        raise ValueError(f"there is nothing to draw: names is empty, not of {searched}")
    if len(set(names)) < len(names):
        raise ValueError(f"names must be different hyperparameters, got {names}")
    for name in names:
        check_searched(name, searched)
    return names


def _collect(name, stages, best):
    """Return the panel of a hyperparameter, in its own units."""
    dimension = stages[0].space.dimensions[name]

    def decode(codes):
        return dimension.decode(codes[name]) if name in codes else None

    return Bunch(
        name=name,
        dimension=dimension,
        ranges=[stage.space.dimensions[name].range for stage in stages],
        candidates=[[decode(codes) for codes in stage.candidates] for stage in stages],
        exists=[
            np.array([name in codes for codes in stage.candidates], dtype=bool)
            for stage in stages
        ],
        failed=[stage.failed for stage in stages],
        best=None
        if best is None or name not in best[1]
        else (best[0], decode(best[1])),
    )


def _make_grid(n_panels, n_stages):
    n_columns = min(n_panels, N_COLUMNS)
    height = 0.75 + 0.3 * max(n_stages, 2)
    return new_axes(
        width=max(2.6 * n_columns, 4),
        height=height * math.ceil(n_panels / n_columns) + 0.4,
        n_axes=n_panels,
        n_columns=n_columns,
        sharey=True,
    )


def _set_axes(ax, dimension: Continuous | Discrete, labels) -> None:
    """Set scales, ticks and labels."""
    values: Sequence = dimension.range
    if isinstance(dimension, Discrete) and (
        dimension.n_levels <= MAX_TICKS or not is_number(dimension)
    ):
        values = dimension.levels
    set_scale(ax.xaxis, dimension, values)
    # Bars may not touch the frame, or their ends would not be seen.
    ax.use_sticky_edges = False
    ax.margins(x=0.06)
    ax.set_yticks(range(len(labels)), [plain(label) for label in labels])
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(len(labels) - 0.5, -0.5)


def _draw_bars(ax, panel) -> list[Any]:
    from matplotlib.colors import to_rgb

    bars = []
    styles = stage_styles(len(panel.ranges))
    for row, (values, style) in enumerate(zip(panel.ranges, styles, strict=True)):
        # Light, as there will be dots on it.
        color = tuple(0.5 + 0.5 * np.array(to_rgb(style["color"])))
        where = positions(panel.dimension, values)
        if panel.dimension.ordered or len(where) > MAX_CHOICES:
            lows, highs = where[:1], where[-1:]
        else:
            lows, highs = where - CHOICE_WIDTH / 2, where + CHOICE_WIDTH / 2
        bars.append(
            ax.barh(
                [row] * len(lows),
                highs - lows,
                BAR_HEIGHT,
                left=lows,
                color=color,
                edgecolor=color,
                linewidth=DOT_SIZE + 1,
                joinstyle="round",
                zorder=1,
            )
        )
    return bars


def _draw_candidates(ax, panel) -> tuple[list[Any], list[Any]]:
    """Draw the candidates of each stage: dots, and crosses where they failed."""
    dots: list[Any] = []
    crosses: list[Any] = []
    for row, (values, exists, failed) in enumerate(
        zip(panel.candidates, panel.exists, panel.failed, strict=True)
    ):
        for marks, mask, style in (
            (dots, exists & ~failed, {"marker": "o", "markeredgecolor": "none"}),
            (
                crosses,
                exists & failed,
                {"marker": "x", "markersize": 1.5 * DOT_SIZE},
            ),
        ):
            chosen = np.flatnonzero(mask)
            marks += ax.plot(
                positions(panel.dimension, [values[i] for i in chosen]),
                _spread(row, len(values))[chosen],
                **{"linestyle": "None", "color": "0.1", "markersize": DOT_SIZE} | style,
                zorder=2,
            )
    for marks, label in ((dots, "candidate"), (crosses, "failed")):
        # One of each is enough for a legend.
        for mark in [mark for mark in marks if len(mark.get_xdata())][:1]:
            mark.set_label(label)
    return dots, crosses


def _spread(row, n_candidates):
    """Return heights in a row, from top to bottom, so that equal values are seen."""
    if n_candidates == 1:
        return np.array([float(row)])
    return row + DOTS_HEIGHT * np.linspace(-0.5, 0.5, n_candidates)


def _draw_best(ax, panel):
    if panel.best is None:
        return None, None
    stage, value = panel.best
    where = positions(panel.dimension, [value])
    line = ax.axvline(where[0], color=BEST_COLOR, linewidth=1, zorder=1.5)
    (star,) = ax.plot(
        where,
        [stage],
        linestyle="None",
        marker="*",
        markersize=12,
        color=BEST_COLOR,
        markeredgecolor="white",
        label="best candidate",
        zorder=3,
    )
    return line, star
