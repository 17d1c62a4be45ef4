"""Tables and figures of an experiment, from its CSV alone."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from scipy import stats

from benchmarks.paper.analysis import Difference
from sklearn_iis.inspection import (
    ImportanceDisplay,
    MarginalDisplay,
    PairMarginalDisplay,
)

REFERENCE = "full size"
IIS = "IIS"
N_SUBSETS = 10
N_CUT = 3
N_RANKED = 18  # as many as in the paper
LOWEST_SHARE = 0.01  # percent; smaller ones are not drawn
PERCENT = "{:+.0f}"
DPI = 110
LINE_STYLES = [
    {"color": color, "linestyle": line}
    for color, line in (
        ("black", "-"),
        ("tab:blue", "-"),
        ("tab:orange", "--"),
        ("tab:green", "-."),
        ("tab:red", ":"),
    )
]
LEGEND = {"loc": "outside lower center", "ncols": 5, "fontsize": "small"}

# What each comparison of two arms tells.
QUESTIONS = {
    "cheap images: IIS, against the same narrowing at full size": (IIS, "narrowing"),
    "narrowing, at full size: against full size only": ("narrowing", REFERENCE),
    "seeds: IIS, against ranges only": (IIS, "ranges only"),
    "ranges: IIS, against seeds only": (IIS, "seeds only"),
    "all of it: IIS, against full size only": (IIS, REFERENCE),
}


def mean_std(values, form="{:.3f}"):
    """Return the mean and the standard deviation of some numbers, as text."""
    values = np.asarray(values, dtype=float)
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return "-"
    if len(values) == 1:
        return form.format(values[0])
    return f"{form.format(values.mean())} ± {form.format(values.std(ddof=1))}"


def p_text(p_value):
    return "< .001" if p_value < 0.001 else f"{p_value:.3f}".lstrip("0")


def with_sign(value, form="{:+.3f}"):
    """Return a number with its sign, which zero has not."""
    text = form.format(value)
    return text if float(text) else text.lstrip("+-")


def signed(difference, form="{:+.3f}", unit=""):
    """Return the mean, the standard deviation and the p-value of differences."""
    spread = form.replace("+", "").format(difference.std)
    mean = with_sign(difference.mean, form)
    return f"{mean} ± {spread}{unit} (p {p_text(difference.p_value)})"


def to_markdown(header, rows):
    """Return a table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def tabulate_errors(errors, results):
    """Return a row a search and a column an arm, and how IIS differs in pairs."""
    rows = []
    for search, chosen in choose_rows(results):
        table = errors.loc[chosen]
        difference = Difference.between(table[IIS], table[REFERENCE])
        means = (mean_std(table[arm]) for arm in results.arms)
        rows.append([search, *means, signed(difference)])
    return to_markdown(["search", *results.arms, f"{IIS} - {REFERENCE}"], rows)


def make_tables(results):
    """Return all tables of a comparison of arms, in Markdown, by their names."""
    tables = {
        "time": tabulate_time(results),
        "validation": tabulate_errors(results.final_errors(), results),
        "time_to_final": tabulate_times_to_final(results),
        "questions": tabulate_questions(results),
        "last_stage": tabulate_last_stage(results),
    }
    if len(results.models):
        tables["test"] = tabulate_errors(results.test_errors(), results)
        tables["selection"] = tabulate_selection(results)
    if "random" in results.searches:
        tables["importance"] = tabulate_importances(results)
        tables["ranks"] = tabulate_ranks(results)
        tables["best_values"] = tabulate_best_values(results)
    return tables


def tabulate_time(results):
    """Table 1 of the paper: minutes, and how much less IIS takes."""
    minutes = results.seconds() / 60
    saved = 100 * (1 - minutes[IIS] / minutes[REFERENCE])
    rows = [
        [
            search,
            *(mean_std(minutes.loc[chosen, arm], "{:.1f}") for arm in results.arms),
            signed(Difference.between(saved.loc[chosen], 0), "{:.0f}"),
        ]
        for search, chosen in choose_rows(results)
    ]
    header = [f"{arm} [min]" for arm in results.arms]
    return to_markdown(["search", *header, "IIS: less time [%]"], rows)


def choose_rows(results):
    """Return each search, and all of them, with the rows of tables that are theirs."""
    searches = [(search, [search]) for search in results.searches]
    return [*searches, ("all", slice(None))] if len(searches) > 1 else searches


def tabulate_times_to_final(results):
    """Whether each arm is as good sooner, at full size, as the full-size search."""
    rows = []
    for arm in results.arms[1:]:
        times = results.times_to_final(arm)
        for search, chosen in choose_rows(results):
            outcomes = times.loc[chosen, "outcome"].value_counts()
            rows.append(
                [
                    arm,
                    search,
                    *(outcomes.get(name, 0) for name in ("sooner", "later", "open")),
                ]
            )
    header = ["arm", "search", "sooner", "later or never", "ended before"]
    return to_markdown(header, rows)


def tabulate_selection(results):
    """The best candidate of all sizes, against that of the last one, on the test."""
    last, best = results.test_errors("last"), results.test_errors("best")
    rows = []
    for arm in results.arms:
        difference = Difference.between(best[arm], last[arm])
        rows.append([arm, mean_std(last[arm]), mean_std(best[arm]), signed(difference)])
    return to_markdown(["arm", "best of the last stage", "of all", "difference"], rows)


def tabulate_questions(results):
    """Split a gain into those of cheap images, narrowing and promotion."""
    tables = {"validation error": results.final_errors()}
    if len(results.models):
        tables["test error"] = results.test_errors()
    seconds = results.seconds()
    rows = []
    for question, (arm, reference) in QUESTIONS.items():
        errors = [
            signed(Difference.between(table[arm], table[reference]))
            for table in tables.values()
        ]
        ratios = 100 * seconds[arm] / seconds[reference]
        rows.append(
            [question, *errors, signed(Difference.between(ratios, 100), PERCENT)]
        )
    return to_markdown(["what it tells", *tables, "time [%]"], rows)


def tabulate_last_stage(results):
    """Compare the cost of an evaluation in the last stage with one at full size."""
    seconds = results.last_stage_seconds()
    epochs = results.last_stage_epochs()
    shares = 100 * results.last_stage_shares()
    rows = []
    for search, chosen in choose_rows(results):
        time, epoch, share = (t.loc[chosen] for t in (seconds, epochs, shares))
        rows.append(
            [
                search,
                mean_std(time[REFERENCE], "{:.1f}"),
                mean_std(time[IIS], "{:.1f}"),
                mean_std(time[IIS] / time[REFERENCE], "{:.2f}"),
                mean_std(epoch[REFERENCE], "{:.1f}"),
                mean_std(epoch[IIS], "{:.1f}"),
                mean_std(share[IIS], "{:.0f}"),
            ]
        )
    header = ["search", "full size [s]", "last stage of IIS [s]", "ratio"]
    header += ["epochs, full size", "epochs, last stage", "share of IIS's time [%]"]
    return to_markdown(header, rows)


def tabulate_importances(results):
    """Shares of the variance of the predicted validation error."""
    shares = 100 * results.importances
    rows = [
        [shorten(subset), *(f"{share:.1f}" for share in values)]
        for subset, values in zip(
            shares.index[:N_SUBSETS], shares.to_numpy(), strict=False
        )
    ]
    return to_markdown(["subset", *(f"{size} px" for size in shares.columns)], rows)


def tabulate_ranks(results):
    """How well smaller images foretell what happens at the largest size."""
    shares = results.importances[:N_RANKED]
    largest = results.sizes[-1]
    rows = []
    for size, correlations in results.rank_correlations().items():
        subsets = stats.spearmanr(shares[size], shares[largest], nan_policy="omit")
        rows.append(
            [f"{size} px", mean_std(correlations, "{:.2f}"), f"{subsets.statistic:.2f}"]
        )
    header = [f"rank correlation with {largest} px", "errors of the same candidates"]
    return to_markdown([*header, f"importances of {N_RANKED} subsets"], rows)


def tabulate_best_values(results):
    """Find the values with the lowest marginal error, and about as low."""
    values = results.best_values
    rows = []
    for name in values.index:
        plateau = results.plateau(name)
        cells = (
            f"{value:.3g} ({span_text(plateau[size])})"
            for size, value in values.loc[name].items()
        )
        rows.append([shorten(name), *cells])
    return to_markdown(["", *(f"{size} px" for size in values.columns)], rows)


def span_text(span, form="{:.3g}"):
    """Return the lowest and the highest value, once if they are the same."""
    low, high = (f"{float(form.format(value)):g}" for value in span)
    return low if low == high else f"{low} to {high}"


def shorten(name):
    return name.replace("cnn__", "").replace("_", " ")


def tabulate_rules(results):
    """Each way to hand over, against the first one."""
    default, *others = results.experiment.arms
    seconds = results.seconds()
    rows = []
    for arm in others:
        errors = [
            signed(Difference.between(table[arm], table[default]))
            for table in (results.final_errors(), results.test_errors())
        ]
        ratios = 100 * seconds[arm] / seconds[default]
        rows.append([arm, *errors, signed(Difference.between(ratios, 100), PERCENT)])
    header = ["hand-over", "validation error", "test error", "time [%]"]
    return to_markdown(header, rows)


def tabulate_outcomes(results):
    """Return errors and seconds of each arm, over searches and repeats."""
    tables = results.final_errors(), results.test_errors(), results.seconds()
    forms = "{:.3f}", "{:.3f}", "{:.0f}"
    rows = [
        [arm, *(mean_std(t[arm], f) for t, f in zip(tables, forms, strict=True))]
        for arm in results.experiment.arms
    ]
    header = ["arm", "validation error", "test error", "seconds"]
    return to_markdown(header, rows)


def write_report(results, folder):
    """Write tables, and of a comparison of arms figures 2 to 5, into a folder."""
    folder = Path(folder)
    if IIS not in results.experiment.arms:
        (folder / "tables.md").write_text(tabulate_rules(results) + "\n")
        return
    texts = (f"## {name}\n\n{text}\n" for name, text in make_tables(results).items())
    (folder / "tables.md").write_text("\n".join(texts))
    for name, draw in FIGURES.items():
        if draw is draw_convergence or "random" in results.searches:
            figure = draw(results)
            figure.savefig(folder / f"{name}.png", dpi=DPI)
            plt.close(figure)


def draw_importances(results):
    display = ImportanceDisplay.from_search(results.whole_space(), random_state=0)
    # One subset has nearly all, and would leave no room for the others.
    display.ax_.set_xscale("log")
    display.ax_.set_xlim(left=LOWEST_SHARE)
    name_pixels(display.ax_)
    return display.figure_


def name_pixels(ax):
    """Say in a legend what sizes are."""
    legend = ax.get_legend()
    legend.set_title("")
    for text in legend.get_texts():
        text.set_text(f"{text.get_text()} px")


def draw_learning_rate(results):
    display = MarginalDisplay.from_search(
        results.whole_space(), "cnn__learning_rate", as_error=True, random_state=0
    )
    name_pixels(display.ax_)
    return display.figure_


def draw_learning_rate_and_depth(results):
    layers = "cnn__n_hidden_layers"
    if layers not in results.experiment.space:
        layers = "cnn__n_conv_layers"
    names = ("cnn__learning_rate", layers)
    display = PairMarginalDisplay.from_search(
        results.whole_space(), names, as_error=True, random_state=0
    )
    for ax, size in zip(display.axes_, results.sizes, strict=True):
        ax.set_title(f"{size} px")
    return display.figure_


def draw_convergence(results):
    """The lowest error of each stage so far, over evaluations and over time.

    Lines are means over the repeats, of the errors and of the times; bands are what the
    repeats of two arms span.
    """
    searches = results.searches
    figure, axes = plt.subplots(
        len(searches),
        2,
        figsize=(9, 2.6 * len(searches)),
        squeeze=False,
        sharey=True,
        layout="constrained",
    )
    highest_error = 0
    for row, search in zip(axes, searches, strict=True):
        for arm, style in zip(results.arms, LINE_STYLES, strict=False):
            errors, seconds = results.best_so_far(search, arm)
            if not len(errors):
                continue
            error, minutes = errors.mean(axis=0), seconds.mean(axis=0) / 60
            highest_error = max(highest_error, error[N_CUT:].max())
            evaluations = np.arange(1, len(error) + 1)
            for ax, x in zip(row, (evaluations, minutes), strict=True):
                ax.plot(x, error, drawstyle="steps-post", label=arm, **style)
                if arm in (REFERENCE, IIS):
                    lowest, highest = errors.min(axis=0), errors.max(axis=0)
                    band = {"step": "post", "alpha": 0.15, "linewidth": 0}
                    ax.fill_between(x, lowest, highest, color=style["color"], **band)
        label = "lowest validation error\nof the stage, at its size"
        row[0].set_ylabel(f"{search}\n{label}")
        row[0].grid(alpha=0.3)
        row[1].grid(alpha=0.3)
    axes[-1, 0].set_xlabel("evaluations")
    axes[-1, 1].set_xlabel("minutes")
    # The first evaluations may be as bad as chance, and would take all the room.
    axes[0, 0].set_ylim(top=1.05 * highest_error)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), **LEGEND)
    return figure


FIGURES = {
    "figure2": draw_importances,
    "figure3": draw_learning_rate,
    "figure4": draw_learning_rate_and_depth,
    "figure5": draw_convergence,
}
