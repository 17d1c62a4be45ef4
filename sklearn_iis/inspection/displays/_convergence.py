"""The best score so far, over the number of candidates and over time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from sklearn_iis.inspection._fitted import (
    NothingToShowError,
    choose_metric,
    get_stages,
    order_rows,
)
from sklearn_iis.inspection.displays._plotting import (
    check_axes,
    new_axes,
    plain,
    score_label,
    series_styles,
    to_error,
)

PANELS = ("number of candidates", "summed time of all evaluations")

# Units of time: their seconds, and up to how many of them an axis is in that unit.
TIME_UNITS = {"s": (1, 120), "min": (60, 120), "h": (3600, np.inf)}

# A single curve has no markers: lines show where its stages begin.
NO_MARKER = {"marker": "None"}


@dataclass(kw_only=True, eq=False, repr=False)
class ConvergenceDisplay:
    """The best score so far, over the number of candidates and over time.

    It is figure 5 of [1]_: one curve per search, in two panels. Use :meth:`from_search`
    to make one.

    Of a single search, a vertical line shows where each stage begins, with its size
    above. Of several, a marker on the curve does, and the legend has the sizes. A
    "ladder" goes on at smaller sizes after that.

    Parameters
    ----------
    curves : list of :class:`~sklearn.utils.Bunch`
        One for each search, with `name` (str or None), `best` (the best score, or the
        lowest error, when each candidate was finished; NaN as long as all have failed),
        `seconds` (how long all candidates so far took), both ndarrays of shape
        (n_candidates,), `starts` (how many candidates there are before the first one of
        each stage), and `labels` (the sizes of the stages; none if there are no sizes).

    score_name : str
        The meaning of `best`, for the label of the vertical axis.

    Attributes
    ----------
    figure_ : matplotlib Figure
        The figure with the panels.

    axes_ : ndarray of shape (2,) of matplotlib Axes
        The panels: over the number of candidates, and over time.

    lines_ : ndarray of shape (n_searches, 2) of matplotlib Line2D
        The curves, in either panel.

    stage_lines_ : list of matplotlib Line2D
        The vertical lines in the left panel and then those in the right one; none if
        there are several searches.

    stage_texts_ : list of matplotlib Annotation
        The sizes above the left panel and then those above the right one; none if
        there are several searches.

    legend_ : matplotlib Legend or None
        The names of the searches; None if there is but one.

    See Also
    --------
    RangesDisplay : How the ranges narrowed from stage to stage.

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
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from sklearn_iis import IISSearchCV
    >>> from sklearn_iis.inspection import ConvergenceDisplay
    >>> search = IISSearchCV(
    ...     DecisionTreeClassifier(random_state=0),
    ...     {"ccp_alpha": loguniform(1e-4, 1)},
    ...     sizes=(1, 2, 4),
    ...     size_param="max_depth",
    ...     n_iter=12,
    ...     random_state=0,
    ... )
    >>> search = search.fit(*load_iris(return_X_y=True))
    >>> display = ConvergenceDisplay.from_search(search)
    >>> display.curves[0].starts.tolist()
    [0, 6, 10]
    >>> bool(display.curves[0].best[-1] == search.best_score_)
    True
    """

    curves: Sequence[Bunch]
    score_name: str

    @classmethod
    def from_search(cls, searches, *, metric=None, as_error=False, axes=None):
        """Compute the best so far of fitted searches, and draw it.

        The best is the one of all stages so far, as all candidates are scored on the
        same splits. It starts anew with each stage of a search that chooses of the last
        stage only (`select="last"`). Candidates are in the order in which they were
        begun, which is not that of `cv_results_` with "ladder". Those that failed count
        and take time, but never are the best. Several evaluations of a candidate, as by
        Hyperband, count one by one.

        Time is that of fitting and scoring, summed over all candidates and splits. It
        is not the wall-clock time: several jobs need less, and the time to propose
        candidates is not included.

        Parameters
        ----------
        searches : estimator object, or dict of str to estimator object
            A fitted :class:`~sklearn_iis.IISSearchCV`, or another search of
            scikit-learn's kind whose space is a dict of frozen scipy.stats
            distributions and lists, or a list of such dicts; or several with their
            names.

        metric : str, default=None
            Which scores; None means those that guided each search.

        as_error : bool, default=False
            Draw the lowest 1 - score instead, or the lowest -score if no score of any
            search is above 0, as that of "neg_log_loss" never is.

        axes : array-like of shape (2,) of matplotlib Axes, default=None
            Where to draw; None means a new figure.

        Returns
        -------
        display : ConvergenceDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If `searches` is no search and no dict of them.

        ValueError
            If `searches` or one of them has nothing to draw, the metric does not exist,
            the searches were guided by different ones, or there are not two axes.

        NotFittedError
            If a search is not fitted.
        """
        named = _name_searches(searches)
        all_stages = [get_stages(search) for _, search in named]
        metrics = [choose_metric(search, metric) for _, search in named]
        score_name = _name_metric([search for _, search in named], metrics)
        all_scores = [
            _get_scores(stages, its_metric)
            for stages, its_metric in zip(all_stages, metrics, strict=True)
        ]
        if as_error:
            all_scores = _make_errors(all_scores)
        curves = [
            _make_curve(*one, as_error)
            for one in zip(named, all_stages, all_scores, strict=True)
        ]
        extreme = "lowest" if as_error else "best"
        label = f"{extreme} {score_label(score_name, as_error)} so far"
        return cls(curves=curves, score_name=label).plot(axes)

    def plot(self, axes=None):
        """Draw the curves.

        Parameters
        ----------
        axes : array-like of shape (2,) of matplotlib Axes, default=None
            Where to draw; None means a new figure.

        Returns
        -------
        display : ConvergenceDisplay
            This object.

        Raises
        ------
        ValueError
            If there are not two axes.
        """
        is_new = axes is None
        if is_new:
            axes = new_axes(width=7.5, height=3.2, n_axes=2, n_columns=2, sharey=True)
        self.axes_ = check_axes(axes, PANELS)
        self.figure_ = self.axes_[0].figure
        unit, seconds = _choose_unit(max(curve.seconds[-1] for curve in self.curves))
        self.lines_ = np.empty((len(self.curves), 2), dtype=object)
        self.stage_lines_, self.stage_texts_, self.legend_ = [], [], None
        styles = series_styles(len(self.curves))
        for i, (curve, style) in enumerate(zip(self.curves, styles, strict=True)):
            scales = (np.arange(len(curve.best)) + 1, curve.seconds / seconds)
            for j, (ax, x) in enumerate(zip(self.axes_, scales, strict=True)):
                self.lines_[i, j] = _draw_curve(
                    ax, x, curve, style if len(self.curves) > 1 else style | NO_MARKER
                )
        labels = (PANELS[0], f"{PANELS[1]} [{unit}]")
        for ax, label in zip(self.axes_, labels, strict=True):
            # The first marker may be at 0, and must not be cut off.
            ax.set_xlim(left=-0.02 * ax.get_xlim()[1] if len(self.curves) > 1 else 0)
            ax.set_xlabel(label)
        self.axes_[0].set_ylabel(plain(self.score_name))
        if not self.axes_[0].get_shared_y_axes().joined(*self.axes_):
            self.axes_[1].set_ylabel(plain(self.score_name))
        if len(self.curves) > 1:
            self.legend_ = self._draw_legend(is_new)
        else:
            self._mark_stages(self.curves[0])
        return self

    def _draw_legend(self, is_new):
        """Put the legend below the panels of our own figure, or into a user's panel."""
        title = "search"
        if any(curve.labels for curve in self.curves):
            title += " (sizes, each begins at a marker)"
        lines = list(self.lines_[:, 0])
        if not is_new:
            return self.axes_[0].legend(
                handles=lines,
                title=title,
                handlelength=3,
                fontsize="small",
                title_fontsize="small",
            )
        return self.figure_.legend(
            handles=lines,
            title=title,
            handlelength=3,
            ncols=min(len(lines), 3),
            loc="outside lower center",
        )

    def _mark_stages(self, curve):
        for ax, line in zip(self.axes_, self.lines_[0], strict=True):
            # A stage begins when the candidate before its first one is finished.
            x = np.concatenate([[0], line.get_xdata()])[curve.starts]
            self.stage_lines_ += [
                ax.axvline(start, color="0.6", linewidth=0.8, zorder=0)
                for start in x[1:]
            ]
            self.stage_texts_ += _write_sizes(ax, x, curve.labels)


def _name_searches(searches):
    if isinstance(searches, Mapping):
        if not searches:
            raise ValueError(
                "searches is an empty dict, name at least one fitted search in it"
            )
        return [(str(name), search) for name, search in searches.items()]
    if isinstance(searches, list | tuple):
        raise TypeError(
            "several searches need names: searches must be a fitted search or a dict "
            f"of names to them, got a {type(searches).__name__}"
        )
    return [(None, searches)]


def _name_metric(searches, metrics):
    """Return the name of the scores, or raise an error if they differ."""
    names = set()
    for search, metric in zip(searches, metrics, strict=True):
        scoring = getattr(search, "scoring", None)
        # A search with a single metric calls it "score", whatever it is.
        is_named = metric == "score" and isinstance(scoring, str)
        names.add(scoring if is_named else metric)
    if len(names - {"score"}) > 1:
        raise ValueError(
            f"the searches were guided by different metrics, {sorted(names)}: choose "
            "one that all of them have with metric=..."
        )
    return names.pop() if len(names) == 1 else "score"


def _get_scores(stages, metric):
    """Return the scores of all candidates, or raise an error if there are none."""
    scores = np.concatenate([stage.scores(metric) for stage in stages])
    if np.isnan(scores).all():
        raise NothingToShowError(
            f"there is nothing to draw: all {len(scores)} candidates failed"
        )
    return scores


def _make_errors(all_scores):
    """Turn the scores of all searches into errors alike, as they are compared."""
    best_score = max(np.nanmax(scores) for scores in all_scores)
    return [to_error(scores, best_score) for scores in all_scores]


def _make_curve(named, stages, values, as_error):
    """Return the best so far, when it was found, and where the stages begin."""
    name, search = named
    order = order_rows(stages)
    counts = [len(stage.candidates) for stage in stages]
    of_stage = np.repeat(np.arange(len(stages)), counts)[order]
    seconds = np.concatenate([stage.seconds for stage in stages])[order]
    sized = any(stage.size is not None for stage in stages)
    return Bunch(
        name=name,
        best=_find_best(values[order], of_stage, search, as_error),
        seconds=np.cumsum(seconds),
        starts=np.array([np.argmax(of_stage == i) for i in range(len(stages))]),
        labels=[stage.size_text for stage in stages] if sized else [],
    )


def _find_best(values, of_stage, search, as_error):
    """Return the best score so far, of the stages that the search chooses from."""
    best = np.fmin if as_error else np.fmax  # which skip NaN
    chooses_last = getattr(search, "select", None) == "last"
    # A callable takes precedence over `select`.
    anew = chooses_last and not callable(search.refit)
    if not anew:
        return best.accumulate(values)
    # What is chosen from is the last stage that has begun.
    last = np.maximum.accumulate(of_stage)
    values = np.where(of_stage == last, values, np.nan)
    parts = np.split(values, np.flatnonzero(np.diff(last)) + 1)
    return np.concatenate([best.accumulate(part) for part in parts])


def _choose_unit(longest: float) -> tuple[str, float]:
    """Return the unit of time in which it is not too large a number, in seconds."""
    return next(
        (unit, seconds)
        for unit, (seconds, most) in TIME_UNITS.items()
        if longest <= seconds * most
    )


def _draw_curve(ax, x, curve, style):
    first = np.flatnonzero(np.isfinite(curve.best))[0]
    label = curve.name
    if curve.labels and label is not None:
        label += f" ({' → '.join(curve.labels)})"
    if label is not None:
        label = plain(label)
    (line,) = ax.plot(
        x,
        curve.best,
        drawstyle="steps-post",
        # A stage begins when the candidate before its first one is finished.
        markevery=sorted({max(int(start) - 1, int(first)) for start in curve.starts}),
        markersize=6,
        linewidth=1.5,
        label=label,
        **style,
    )
    return line


def _write_sizes(ax, x, labels) -> list[Any]:
    """Write sizes above a panel, into a further row where they would overlap."""
    texts = []
    row_ends: list[float] = []
    for i, (start, label) in enumerate(zip(x, labels, strict=False)):
        text = ax.annotate(
            plain(f"size {label}" if i == 0 else label),
            (start, 1),
            xycoords=ax.get_xaxis_transform(),
            xytext=(1, 2),
            textcoords="offset points",
            fontsize="small",
            color="0.3",
        )
        extent = text.get_window_extent()
        row = next(
            (row for row, end in enumerate(row_ends) if end < extent.x0), len(row_ends)
        )
        row_ends[row : row + 1] = [extent.x1 + 0.5 * extent.height]
        text.set_position((1, 2 + row * 1.1 * text.get_fontsize()))
        texts.append(text)
    return texts
