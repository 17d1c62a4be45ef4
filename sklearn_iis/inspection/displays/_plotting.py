"""Colours, scales of axes, and names that the pictures share."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from sklearn_iis.execution._text import printable
from sklearn_iis.inspection._fitted import NothingToShowError
from sklearn_iis.space import Continuous, Discrete, is_log, is_numeric

# Of Okabe and Ito, darkest first: told apart by the colour-blind, and in grey by the
# dashes and markers that go with them.
SERIES_COLORS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 3)))
MARKERS = ("o", "s", "^", "D", "v", "P")
HATCHES = ("", "///", "...", "xx", "\\\\\\", "oo")

# The most values of a discrete hyperparameter that are all written on its axis.
MAX_TICKS = 8

# The most choices that are all written on an axis; of more, so many or fewer are.
MAX_CHOICES = 60

# Axes of matplotlib overflow with larger numbers.
MAX_NUMBER = 1e200

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


def is_number(dimension: Continuous | Discrete) -> bool:
    """Return whether values are numbers on an axis, rather than names of choices."""
    if not is_numeric(dimension):
        return False
    with np.errstate(over="ignore"):
        low, high = dimension.range
    try:
        if max(abs(float(low)), abs(float(high))) <= MAX_NUMBER:
            return True
    except OverflowError:  # such as 10**400
        pass
    if isinstance(dimension, Continuous):
        raise NothingToShowError(f"a range from {low} to {high} cannot be drawn")
    return False


def positions(dimension: Continuous | Discrete, values: Sequence) -> np.ndarray:
    """Return where values are drawn: numbers at themselves, choices at their index."""
    if is_number(dimension):
        return np.array(values, dtype=float)
    # Values may be unhashable.
    return np.array([dimension.encode(value) for value in values], dtype=float)


def set_scale(axis: Any, dimension: Continuous | Discrete, values: Sequence) -> None:
    """Give an axis the scale of a hyperparameter, and ticks where it has few values.

    The values are at least the lowest and the highest of those that are drawn.
    """
    from matplotlib import ticker

    if not is_number(dimension):
        _set_choices(axis, positions(dimension, values), map(printable, values))
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


def plain(value: Any) -> str:
    """Return a text that matplotlib can write, and does not read as a formula."""
    return printable(value).replace("$", r"\$")


def short_name(name: str) -> str:
    """Return a hyperparameter's name without the steps of the pipeline before it."""
    return plain(name.rpartition("__")[2])


def short_names(names: Iterable[str]) -> dict[str, str]:
    """Return the short names, but the long ones of those that would be the same."""
    names = list(names)
    short = [short_name(name) for name in names]
    return {
        name: plain(name) if short.count(brief) > 1 else brief
        for name, brief in zip(names, short, strict=True)
    }


def to_error(values: np.ndarray, best_score: float) -> np.ndarray:
    """Return 1 - value, or -value if no score is above 0, as those of an error are."""
    return -values if best_score <= 0 else 1 - values


def score_label(metric: str, error: bool = False) -> str:
    """Return the label of an axis of scores."""
    kind = "validation error" if error else "validation score"
    return kind if metric == "score" else f"{kind} ({metric})"


def new_axes(
    *,
    width: float,
    height: float,
    n_axes: int = 1,
    n_columns: int = 1,
    sharey: bool = False,
) -> np.ndarray:
    """Return the axes of a new figure, which pyplot shows, row by row."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        math.ceil(n_axes / n_columns),
        n_columns,
        figsize=(width, height),
        layout="constrained",
        sharey=sharey,
        squeeze=False,
    )
    for spare in axes.ravel()[n_axes:]:
        figure.delaxes(spare)
    return axes.ravel()[:n_axes]


def legend_title(stages: Sequence[Any]) -> str:
    """Return the meaning of the labels of stages; empty if they tell themselves."""
    return "size" if any(stage.size is not None for stage in stages) else ""


def check_axes(axes: Any, names: Sequence[str]) -> np.ndarray:
    """Return a user's axes as an array, or raise an error if there are not enough."""
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


def _set_choices(axis, where, labels):
    """Write the names of choices so that they do not touch each other."""
    labels = [" ".join(label.split()) for label in labels]  # of estimators have lines
    labels = [
        label if len(label) <= MAX_LABEL else f"{label[: MAX_LABEL - 3]}..."
        for label in labels
    ]
    step = math.ceil(len(labels) / MAX_CHOICES)
    where, labels = where[::step], labels[::step]
    axis.set_ticks(where, [plain(label) for label in labels])
    if axis.axis_name == "x" and sum(len(label) for label in labels) > 24:
        for text in axis.get_ticklabels():
            text.set(fontsize="small", rotation=25, ha="right", rotation_mode="anchor")
