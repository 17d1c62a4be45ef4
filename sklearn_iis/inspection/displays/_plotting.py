"""What the pictures share: colours, scales of axes, and names."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from sklearn_iis.space import Continuous, Discrete, is_log, is_numeric

# Of Okabe and Ito, darkest first: told apart by the colour-blind, and in grey by the
# dashes and markers that go with them.
SERIES_COLORS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 3)))
MARKERS = ("o", "s", "^", "D", "v", "P")
HATCHES = ("", "///", "...", "xx", "\\\\\\", "oo")

# The most values of a discrete hyperparameter that are all written on its axis.
MAX_TICKS = 8

# The most letters of the name of a choice.
MAX_LABEL = 18


def stage_styles(n_stages: int) -> list[dict[str, Any]]:
    """Return for each stage a colour, dashes, a marker and a hatch.

    Colours get lighter from stage to stage, so that their order shows in grey too.
    """
    import matplotlib as mpl

    cividis = mpl.colormaps["cividis"]
    return [
        {
            "color": cividis(position),
            "linestyle": DASHES[i % len(DASHES)],
            "marker": MARKERS[i % len(MARKERS)],
            "hatch": HATCHES[i % len(HATCHES)],
        }
        for i, position in enumerate(np.linspace(0.0, 0.7, max(n_stages, 2)))
    ][:n_stages]


def series_styles(n_series: int) -> list[dict[str, Any]]:
    """Return for each search a colour, dashes and a marker."""
    return [
        {
            "color": SERIES_COLORS[i % len(SERIES_COLORS)],
            "linestyle": DASHES[i % len(DASHES)],
            "marker": MARKERS[i % len(MARKERS)],
        }
        for i in range(n_series)
    ]


def set_scale(axis: Any, dimension: Continuous | Discrete, values: list) -> None:
    """Give an axis the scale of a hyperparameter and ticks where it has few values.

    Parameters
    ----------
    axis : matplotlib Axis
        `ax.xaxis` or `ax.yaxis`, on which values are drawn at :func:`positions`.

    dimension : Continuous or Discrete
        The hyperparameter.

    values : list
        The values that are drawn, at least the lowest and the highest.
    """
    from matplotlib import ticker

    if not is_numeric(dimension):
        _set_choices(axis, [str(value) for value in values])
        return
    log = is_log(dimension)
    if log:
        axis._set_axes_scale("log")
    if isinstance(dimension, Discrete) and dimension.n_levels <= MAX_TICKS:
        axis.set_ticks(values, [f"{value:g}" for value in values])
        axis.set_minor_locator(ticker.NullLocator())
    elif log:
        _set_log_ticks(axis, min(values), max(values))
    elif isinstance(dimension.decode(dimension.low), int):
        steps = [1, 2, 5, 10]
        axis.set_major_locator(ticker.MaxNLocator("auto", steps=steps, integer=True))


def positions(dimension: Continuous | Discrete, values: list) -> np.ndarray:
    """Return where values are drawn: numbers at themselves, choices one after another.

    Parameters
    ----------
    dimension : Continuous or Discrete
        The hyperparameter.

    values : list
        Its values, all that are drawn.

    Returns
    -------
    positions : ndarray of shape (n_values,)
        Numbers.
    """
    if is_numeric(dimension):
        return np.array(values, dtype=float)
    return np.arange(len(values), dtype=float)


def short_name(name: str) -> str:
    """Return a hyperparameter's name without the steps of the pipeline before it."""
    return _plain(name.rpartition("__")[2])


def short_names(names: Iterable[str]) -> dict[str, str]:
    """Return the short names, but the long ones of those that would be the same."""
    names = list(names)
    short = [short_name(name) for name in names]
    return {
        name: _plain(name) if short.count(brief) > 1 else brief
        for name, brief in zip(names, short, strict=True)
    }


def as_error(values: np.ndarray, best_score: float) -> np.ndarray:
    """Return 1 - value, or -value if no score is above 0, as those of an error are.

    Parameters
    ----------
    values : ndarray
        Scores, or means of scores.

    best_score : float
        The best score of the search.
    """
    return -values if best_score <= 0 else 1 - values


def score_label(metric: str, error: bool = False) -> str:
    """Return what an axis of scores is called."""
    kind = "error" if error else "score"
    return (
        f"validation {kind}" if metric == "score" else f"validation {kind} ({metric})"
    )


def new_axes(*, width: float, height: float, n_columns: int = 1) -> Any:
    """Return the axes of a new figure, which pyplot shows; an array if many."""
    import matplotlib.pyplot as plt

    _, axes = plt.subplots(
        ncols=n_columns, figsize=(width, height), layout="constrained"
    )
    return axes


def legend_title(stages: Sequence[Any]) -> str:
    """Return what the labels of stages are; nothing if they tell themselves."""
    return "size" if any(stage.size is not None for stage in stages) else ""


def check_axes(axes: Any, names: Sequence[str]) -> np.ndarray:
    """Return a user's axes as an array, or raise an error if there are not enough.

    Parameters
    ----------
    axes : matplotlib Axes or array-like of such
        Where to draw.

    names : list of str
        What is drawn in each.

    Returns
    -------
    axes : ndarray of shape (n_names,) of matplotlib Axes
        The axes.
    """
    axes = np.asarray(axes, dtype=object).ravel()
    if len(axes) != len(names):
        raise ValueError(
            f"axes must be {len(names)}, one for each of {list(names)}, got {len(axes)}"
        )
    return axes


def _set_log_ticks(axis, low, high):
    """Write few numbers on a log scale, also where it is shorter than a decade."""
    from matplotlib import ticker

    axis.set_minor_formatter(ticker.NullFormatter())
    if high >= 100 * low:
        return
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 5), range(1, 10)):
        ticks = [d * 10.0**e for e in exponents for d in digits]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) >= 2:
            ticks = ticks[:: math.ceil(len(ticks) / 4)]
            break
    axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])


def _set_choices(axis, labels):
    """Write the names of choices so that they do not touch each other."""
    labels = [" ".join(label.split()) for label in labels]  # of estimators have lines
    labels = [
        label if len(label) <= MAX_LABEL else f"{label[: MAX_LABEL - 3]}..."
        for label in labels
    ]
    axis.set_ticks(range(len(labels)), [_plain(label) for label in labels])
    if axis.axis_name == "x" and sum(len(label) for label in labels) > 24:
        for text in axis.get_ticklabels():
            text.set(fontsize="small", rotation=25, ha="right", rotation_mode="anchor")


def _plain(text):
    """Return a text that matplotlib does not read as a formula."""
    return text.replace("$", r"\$")
