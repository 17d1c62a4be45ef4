"""Pictures of a report, and the text beside them."""

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
from sklearn_iis.inspection._importance import (
    ImportanceResult,
    describe_importance,
    describe_marginal,
    fit_forest,
)
from sklearn_iis.inspection.anova._functional_anova import (
    MIN_SAMPLES,
    MarginalForest,
    decompose,
)
from sklearn_iis.inspection.displays._convergence import ConvergenceDisplay
from sklearn_iis.inspection.displays._importance import ImportanceDisplay
from sklearn_iis.inspection.displays._marginal import (
    MarginalDisplay,
    PairMarginalDisplay,
)
from sklearn_iis.inspection.displays._ranges import RangesDisplay
from sklearn_iis.inspection.report._section import make_section
from sklearn_iis.inspection.report._source import Source

# Beyond that, a page is not read any more.
MAX_SUBSETS = 12
MAX_MARGINALS = 3

IMPORTANCE_TEXT = (
    "The share of the variance of the predicted score that each hyperparameter "
    "explains, and each pair beyond its members (functional ANOVA)."
)

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
                "time of fitting and scoring. Lines show where stages begin"
                + ("; smaller ones go on after that." if source.interleaved else "."),
                _draw_convergence,
                source,
                layout="halves",
            ),
            _make_section(
                "Ranges",
                "The range of each stage, the first one on top. Dots are candidates, "
                "the earliest on top; crosses failed; the star is the best one.",
                _draw_ranges,
                source,
                layout="thirds",
            ),
            _make_section(
                "Importance of the hyperparameters",
                IMPORTANCE_TEXT,
                _draw_importance,
                source,
            ),
        ]


def _make_section(
    heading: str,
    text: str,
    draw: Callable[..., dict[str, Any]],
    *args: Any,
    layout: str = "whole",
) -> dict[str, Any]:
    """Return a section with the images that `draw` returns.

    On a wide screen they share the width in "halves" or "thirds". On a narrow one
    "whole" images scroll, as they would be too small to be read.
    """
    empty = {"heading": heading, "text": text, "images": [], "sections": []}
    return empty | {"layout": layout} | make_section(draw, *args)


def _describe_fit(source: Source, result: Any) -> str:
    """Return how well the forests predict, and which stages have none."""
    scores = ", ".join(f"{100 * stage.oob_score:.0f} %" for stage in result.stages)
    fit = (
        f"Of the variance of the scores, forests predict {scores} for "
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


def _draw_convergence(source: Source) -> dict[str, Any]:
    # One figure per panel: on a phone one is below the other.
    figures = [_make_figure(4.8, 3.2) for _ in range(2)]
    ConvergenceDisplay.from_search(
        source.search,
        metric=source.metric,
        axes=[figure.subplots() for figure in figures],
    )
    scales = ("the number of candidates", "time")
    images = [
        _embed(figure, f"Curve of the best score so far over {scale}.")
        for figure, scale in zip(figures, scales, strict=True)
    ]
    return {"images": images}


def _draw_ranges(source: Source) -> dict[str, Any]:
    names = list(source.stages[0].space.dimensions)
    height = 0.8 + 0.3 * max(len(source.stages), 2)
    figures = [_make_figure(3.3, height) for _ in names]
    RangesDisplay.from_search(
        source.search, names=names, axes=[figure.subplots() for figure in figures]
    )
    images = [
        _embed(figure, f"Bars of the range of {name} in each stage, with candidates.")
        for figure, name in zip(figures, names, strict=True)
    ]
    return {"images": images}


def _draw_importance(source: Source) -> dict[str, Any]:
    """Return the bars of importance, and the sections that depend on the outcome."""
    analysis = _Analysis.from_source(source)
    result, ranked = analysis.result, analysis.result.rank()
    n_bars = min(MAX_SUBSETS, len(ranked)) * len(result.stages)
    figure = _make_figure(5.8, 1.0 + 0.14 * max(n_bars, 3))
    display = ImportanceDisplay(result=result)
    display.plot(ax=figure.subplots(), n_subsets=MAX_SUBSETS)
    names = ", ".join(" and ".join(subset) for subset in display.subsets_[:3])
    alt = f"Bars of importance, most important first: {names}, ..."
    return {
        "text": f"{IMPORTANCE_TEXT} {_describe_fit(source, result)}",
        "images": [_embed(figure, alt)],
        "sections": [
            _make_section(
                "Single hyperparameters",
                "The mean score over the most important ones, averaged over all others "
                "in the stage's space; the band is the standard deviation over the "
                "trees.",
                _draw_marginals,
                analysis,
                [subset for subset in ranked if len(subset) == 1][:MAX_MARGINALS],
                layout="thirds",
            ),
            _make_section(
                "Pair of hyperparameters",
                "The mean score over the most important pair, averaged over all "
                "others.",
                _draw_pair,
                analysis,
                next((subset for subset in ranked if len(subset) == 2), None),
            ),
        ],
    }


def _draw_marginals(
    analysis: _Analysis, subsets: Sequence[tuple[str, ...]]
) -> dict[str, Any]:
    images = []
    for subset in subsets:
        figure = _make_figure(3.3, 2.9)
        marginal = analysis.marginal(subset, 50)
        MarginalDisplay(marginal=marginal).plot(ax=figure.subplots())
        images.append(_embed(figure, f"Curves of the mean score over {subset[0]}."))
    return {"images": images}


def _draw_pair(analysis: _Analysis, pair: tuple[str, ...] | None) -> dict[str, Any]:
    if pair is None:
        raise NothingToShowError("there is only one hyperparameter")
    n_stages = len(analysis.forests)
    figure = _make_figure(1.2 + 2.8 * n_stages, 3.2)
    PairMarginalDisplay(marginal=analysis.marginal(pair, 30)).plot(
        axes=figure.subplots(ncols=n_stages, squeeze=False)[0]
    )
    alt = f"Heat maps of the mean score over {pair[0]} and {pair[1]}."
    return {"images": [_embed(figure, alt)]}


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
