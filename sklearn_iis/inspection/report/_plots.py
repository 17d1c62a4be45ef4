"""The pictures of a report, and what is said of them."""

import warnings
from base64 import b64encode
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from sklearn.utils import Bunch

from sklearn_iis.inspection._fitted import (
    NothingToShowError,
    Observations,
    observe_stages,
)
from sklearn_iis.inspection.anova._functional_anova import (
    MIN_SAMPLES,
    MarginalForest,
    decompose,
)
from sklearn_iis.inspection.anova._importance import (
    ImportanceResult,
    describe_importance,
    describe_marginal,
    fit_forest,
)
from sklearn_iis.inspection.anova._ranges import RangesDisplay
from sklearn_iis.inspection.displays._convergence import ConvergenceDisplay
from sklearn_iis.inspection.displays._importance_display import ImportanceDisplay
from sklearn_iis.inspection.displays._marginal_display import (
    MarginalDisplay,
    PairMarginalDisplay,
)
from sklearn_iis.inspection.report._source import Source
from sklearn_iis.inspection.report._text import as_sentence

# Beyond that, a page is not read any more.
MAX_SUBSETS = 12
MAX_MARGINALS = 3

# As many as `hyperparameter_importance` has by default.
N_TREES = 64


@dataclass(frozen=True)
class _Image:
    """A plot as it is embedded."""

    uri: str
    alt: str
    width: int
    height: int


@dataclass(frozen=True)
class _Analysis:
    """The forests of the stages, fitted once for all pictures."""

    metric: str
    observed: list[Observations]
    forests: list[MarginalForest]
    result: ImportanceResult

    @classmethod
    def from_source(cls, source: Source):
        observed = observe_stages(source.stages, None, source.metric)
        forests = [fit_forest(one, N_TREES, source.random_state) for one in observed]
        importances = [
            describe_importance(one, decompose(forest, max_order=2))
            for one, forest in zip(observed, forests, strict=True)
        ]
        result = ImportanceResult(stages=importances)
        return cls(source.metric, observed, forests, result)

    def marginal(self, names: tuple[str, ...], n_points: int) -> Bunch:
        """Return the marginals of all stages."""
        return describe_marginal(
            names, self.metric, self.observed, self.forests, n_points
        )


def draw_sections(source: Source) -> list[dict[str, Any]]:
    """Return the sections with plots, each of which may have sections below it."""
    with _plain_style():
        return [
            _make_section(
                "Convergence",
                "The best score so far, over the number of candidates and over the "
                "time of fitting and scoring. Lines show where stages begin.",
                lambda: _draw_convergence(source),
                layout="halves",
            ),
            _make_section(
                "Ranges",
                "What each stage searched, the first one on top. Dots are candidates, "
                "the earliest on top; crosses failed; the star is the best one.",
                lambda: _draw_ranges(source),
                layout="thirds",
            ),
            _make_importance_section(source),
        ]


def _make_section(
    heading: str,
    text: str,
    draw: Callable[[], list[_Image]],
    layout: str = "whole",
) -> dict[str, Any]:
    """Return a section, which says why if it cannot be made.

    On a wide screen its images share the width in "halves" or "thirds". On a narrow one
    "whole" images scroll, as they would be too small to be read.
    """
    try:
        with warnings.catch_warnings():
            # The page says itself which stages are left out.
            warnings.filterwarnings("ignore", "Stages are left out")
            images, reason = draw(), None
    except NothingToShowError as error:
        images, reason = [], as_sentence(str(error))
    return {
        "heading": heading,
        "text": text,
        "images": images,
        "layout": layout,
        "reason": reason,
        "sections": [],
    }


def _make_importance_section(source: Source) -> dict[str, Any]:
    """Return the section of functional ANOVA, and those that depend on its outcome."""
    heading = "Importance of the hyperparameters"
    text = (
        "Which share of the variance of the predicted score each hyperparameter "
        "explains, and each pair beyond its members (functional ANOVA)."
    )
    analysis = None

    def draw():
        nonlocal analysis
        analysis = _Analysis.from_source(source)
        return _draw_importance(analysis.result)

    section = _make_section(heading, text, draw)
    if analysis is None:
        return section
    section["text"] = f"{text} {_describe_fit(source, analysis.result)}"
    ranked = analysis.result.rank()
    single = [subset for subset in ranked if len(subset) == 1][:MAX_MARGINALS]
    section["sections"] = [
        _make_section(
            "Single hyperparameters",
            "The mean score over the most important ones, averaged over all others in "
            "the stage's space; the band is the standard deviation over the trees.",
            lambda: [_draw_marginal(analysis, subset) for subset in single],
            layout="thirds",
        ),
        _make_section(
            "Pair of hyperparameters",
            "The mean score over the most important pair, averaged over all others.",
            lambda: _draw_pair(analysis, ranked),
        ),
    ]
    return section


def _describe_fit(source: Source, result: Any) -> str:
    """Return how far the forests are to be believed, and which stages have none."""
    scores = ", ".join(f"{100 * stage.oob_score:.0f} %" for stage in result.stages)
    fit = (
        f"Of the variance of the measured scores, forests predict {scores} for "
        "candidates that they were not fitted to; near 0 or below, all this is noise."
    )
    shown = {stage.stage for stage in result.stages}
    left_out = [source.locate(s) for s in source.stages if s.index not in shown]
    if not left_out:
        return fit
    return (
        f"{fit} Left out is {' and '.join(left_out)}, with fewer than {MIN_SAMPLES} "
        "candidates that did not fail."
    )


def _draw_convergence(source: Source) -> list[_Image]:
    # A figure a panel: on a phone one is below the other.
    figures = [_make_figure(4.8, 3.2) for _ in range(2)]
    ConvergenceDisplay.from_search(
        source.search,
        metric=source.metric,
        axes=[figure.subplots() for figure in figures],
    )
    return [
        _embed(figure, f"Curve of the best score so far over {what}.")
        for figure, what in zip(
            figures, ("the number of candidates", "time"), strict=True
        )
    ]


def _draw_ranges(source: Source) -> list[_Image]:
    names = list(source.stages[0].space.dimensions)
    height = 0.8 + 0.3 * max(len(source.stages), 2)
    figures = [_make_figure(3.3, height) for _ in names]
    RangesDisplay.from_search(
        source.search, names=names, axes=[figure.subplots() for figure in figures]
    )
    return [
        _embed(figure, f"Bars of the range of {name} in each stage, with candidates.")
        for figure, name in zip(figures, names, strict=True)
    ]


def _draw_importance(result: Any) -> list[_Image]:
    n_bars = min(MAX_SUBSETS, len(result.rank()))
    n_bars *= len(result.stages)
    figure = _make_figure(5.8, 1.0 + 0.14 * max(n_bars, 3))
    display = ImportanceDisplay(result=result)
    display.plot(ax=figure.subplots(), n_subsets=MAX_SUBSETS)
    names = ", ".join(" and ".join(subset) for subset in display.subsets_[:3])
    return [_embed(figure, f"Bars of importance, most important first: {names}, ...")]


def _draw_marginal(analysis: _Analysis, name: tuple[str, ...]) -> _Image:
    figure = _make_figure(3.3, 2.9)
    MarginalDisplay(marginal=analysis.marginal(name, 50)).plot(ax=figure.subplots())
    return _embed(figure, f"Curves of the mean score over {name[0]}.")


def _draw_pair(analysis: _Analysis, ranked: Sequence[tuple[str, ...]]) -> list[_Image]:
    pair = next((subset for subset in ranked if len(subset) == 2), None)
    if pair is None:
        raise NothingToShowError("there is only one hyperparameter")
    n_stages = len(analysis.forests)
    figure = _make_figure(1.2 + 2.8 * n_stages, 3.2)
    PairMarginalDisplay(marginal=analysis.marginal(pair, 30)).plot(
        axes=figure.subplots(ncols=n_stages, squeeze=False)[0]
    )
    return [
        _embed(figure, f"Heat maps of the mean score over {pair[0]} and {pair[1]}.")
    ]


@contextmanager
def _plain_style():
    """Draw on white, whatever style the caller has chosen, but in the caller's fonts.

    Names may be in a script that the default font lacks.
    """
    import matplotlib as mpl
    from matplotlib import style

    fonts = {
        f"font.{kind}": mpl.rcParams[f"font.{kind}"]
        for kind in ("family", "sans-serif", "serif", "monospace")
    }
    # The same page from the same search: identifiers are random otherwise.
    svg = {"svg.fonttype": "path", "svg.hashsalt": "sklearn_iis"}
    with style.context(["default", fonts | svg]):
        yield


def _make_figure(width: float, height: float) -> Any:
    """Return a figure that pyplot does not know, so that none is left open."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _embed(figure: Any, alt: str) -> _Image:
    """Return a figure as the source of an image."""
    file = BytesIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(file, format="svg", metadata=nothing)
    data = b64encode(file.getvalue()).decode("ascii")
    width, height = figure.get_size_inches() * 96  # CSS has 96 pixels an inch
    return _Image(f"data:image/svg+xml;base64,{data}", alt, round(width), round(height))
