"""The page on the paper's claims: a text whose numbers are computed from the CSV."""

from pathlib import Path

import numpy as np

from benchmarks.paper.analysis import CONFIDENCE, LEVEL, PLATEAU, Difference
from benchmarks.paper.report import (
    IIS,
    N_RANKED,
    PERCENT,
    REFERENCE,
    make_tables,
    mean_std,
    p_text,
    signed,
    span_text,
    tabulate_outcomes,
    tabulate_rules,
    with_sign,
)
from benchmarks.paper.run import JOB

RATE, LAYERS, L2 = "cnn__learning_rate", "cnn__n_conv_layers", "cnn__l2"
NONE = "none"
NOISE = 1  # percent of the variance; the ranks of smaller shares mean nothing
TEMPLATE = Path(__file__).with_name("page.md")
HOLDS, FAILS, OPEN = "**Holds here.**", "**Does not hold here.**", "**Cannot be said.**"


def judge(difference, claimed):
    """Return the verdict on the claim that differences have a sign."""
    return {claimed: HOLDS, -claimed: FAILS}.get(difference.sign, OPEN)


def interval(difference, form="{:+.3f}"):
    return " to ".join(with_sign(bound, form) for bound in difference.interval)


def write_page(results, rules, growing, page):
    """Write the page.

    Parameters
    ----------
    results : Results
        Of the comparison of arms.

    rules : dict of str to Results
        Of the comparisons of ways to hand over, by their data.

    growing : Results
        Of the arms that tell what inherited weights are worth.

    page : path-like
        The file.
    """
    fields = make_fields(results, rules, growing)
    Path(page).write_text(TEMPLATE.read_text().format_map(fields))


def make_fields(results, rules, growing):
    """Return each number, verdict and table of the page, by its name."""
    fields = {f"table_{name}": text for name, text in make_tables(results).items()}
    for function in (
        describe,
        claim_time,
        claim_error,
        claim_sooner,
        claim_last_stage,
        claim_arms,
        claim_test,
        claim_importance,
        claim_best_values,
        claim_selection,
    ):
        fields |= function(results)
    return fields | describe_rules(rules) | claim_growing(growing)


def describe(results):
    """Return what was run."""
    about, experiment = results.about, results.experiment
    iis = experiment.arms[IIS]
    evaluations = results.evaluations
    handed_over = evaluations[evaluations["arm"] == IIS]
    last = handed_over["stage"] == handed_over["stage"].max()
    n_promoted = handed_over[last].groupby(JOB)["promoted"].sum()
    at_most = evaluations["epochs"] == experiment.network["max_epochs"]
    return {
        "date": about["date"],
        "machine": about["machine"],
        "versions": ", ".join(f"{k} {v}" for k, v in about["versions"].items()),
        "sizes": ", ".join(map(str, iis.sizes)),
        "full_size": experiment.full_size,
        "budgets": ", ".join(map(str, iis.n_iter)),
        "total": sum(iis.n_iter),
        "last_budget": iis.n_iter[-1],
        "last_promoted": n_promoted.median().astype(int),
        "n_repeats": results.n_repeats,
        "n_runs": len(results.runs()),
        "n_pairs": len(results.final_errors()),
        "n_evaluations": len(evaluations),
        "n_failed": evaluations["failed"].sum(),
        "n_random": len(results.at_random(experiment.full_size)),
        "hours": f"{results.cost(evaluations).sum() / 3600:.1f}",
        "max_epochs": experiment.network["max_epochs"],
        "at_most": f"{100 * at_most.mean():.0f}",
        "level": f"{LEVEL:.2f}".lstrip("0"),
        "confidence": f"{100 * CONFIDENCE:.0f}",
    }


def claim_time(results):
    seconds = results.seconds()
    saved = Difference.between(100 * (1 - seconds[IIS] / seconds[REFERENCE]), 0)
    iis = results.experiment.arms[IIS]
    pixels = np.dot(np.square(iis.sizes), iis.n_iter)
    share = pixels / (results.experiment.full_size**2 * sum(iis.n_iter))
    return {
        "time_verdict": judge(saved, 1),
        "time_saved": f"{saved.mean:.0f}",
        "time_interval": interval(saved, "{:.0f}"),
        "time_p": p_text(saved.p_value),
        "pixels_saved": f"{100 * (1 - share):.0f}",
    }


def claim_error(results):
    final = results.final_errors()
    difference = Difference.between(final[IIS], final[REFERENCE])
    runs = final[IIS] - final[REFERENCE]
    return {
        "error_verdict": judge(difference, -1),
        "error_difference": with_sign(difference.mean),
        "error_interval": interval(difference),
        "error_p": p_text(difference.p_value),
        "error_freedom": results.n_repeats - 1,
        "error_runs": f"{with_sign(runs.mean())} ± {runs.std():.3f}",
    }


def claim_sooner(results):
    times = results.times_to_final(IIS)
    outcomes = times["outcome"].value_counts()
    errors = results.errors_in_time(IIS)
    in_time = Difference.between(errors["arm"], errors["reference"])
    return {
        **{name: outcomes.get(name, 0) for name in ("sooner", "later", "open")},
        "in_time_verdict": judge(in_time, -1),
        "in_time_error": signed(in_time),
        "in_time_interval": interval(in_time),
    }


def claim_last_stage(results):
    seconds = results.last_stage_seconds()
    epochs = results.last_stage_epochs()
    more = Difference.between(100 * (seconds[IIS] / seconds[REFERENCE] - 1), 0)
    longer = Difference.between(100 * (epochs[IIS] / epochs[REFERENCE] - 1), 0)
    return {
        # That training is cut short can hide the effect, but not make it.
        "last_stage_verdict": HOLDS if more.sign > 0 else OPEN,
        "last_stage_time": signed(more, PERCENT, " %"),
        "last_stage_epochs": signed(longer, PERCENT, " %"),
        "last_stage_share": mean_std(100 * results.last_stage_shares()[IIS], "{:.0f}"),
    }


def claim_arms(results):
    final, seconds = results.final_errors(), results.seconds()
    narrowing = Difference.between(final["narrowing"], final[REFERENCE])
    cheap = Difference.between(final[IIS], final["narrowing"])
    promotion = Difference.between(final[IIS], final["ranges only"])
    ranges = Difference.between(final[IIS], final["seeds only"])
    time = Difference.between(100 * seconds["narrowing"] / seconds[REFERENCE], 100)
    return {
        "narrowing_verdict": judge(narrowing, -1),
        "narrowing_error": signed(narrowing),
        "narrowing_time": signed(time, PERCENT, " %"),
        "cheap_error": signed(cheap),
        "cheap_interval": interval(cheap),
        "promotion_verdict": judge(promotion, -1),
        "promotion_error": signed(promotion),
        "ranges_verdict": judge(ranges, -1),
        "ranges_error": signed(ranges),
    }


def claim_test(results):
    test = results.test_errors()
    accuracies = [
        f"{search} {mean_std(1 - test.loc[[search], REFERENCE])}"
        for search in results.searches
    ]
    by_search = test[REFERENCE].unstack("search")
    others = by_search.drop(columns="random").mean(axis=1)
    random = Difference.between(by_search["random"], others)
    difference = Difference.between(test[IIS], test[REFERENCE])
    return {
        "test_accuracies": ", ".join(accuracies),
        "random_verdict": judge(random, 1),
        "random_error": signed(random),
        "test_iis": signed(difference),
        "test_difference": with_sign(difference.mean),
        "test_p": p_text(difference.p_value),
        "test_interval": interval(difference),
    }


def claim_importance(results):
    """Return what matters at which size; tests are of a forest, or ranks, a repeat."""
    shares = 100 * results.importances
    by_repeat = 100 * results.shares_by_repeat(RATE)
    small, full = results.sizes[0], results.sizes[-1]
    grows = Difference.between(by_repeat[full], by_repeat[small])
    ranks = results.rank_correlations()
    sizes = list(ranks)
    better = Difference(ranks[sizes[-1]] - ranks[sizes[0]])
    return {
        "rate_importance": join_sizes(shares.loc[RATE], "{:.0f} %"),
        "layers_importance": join_sizes(shares.loc[LAYERS], "{:.1f} %"),
        "rate_grows_verdict": judge(grows, 1),
        "rate_grows": signed(grows, PERCENT, " points"),
        "smallest_size": small,
        "ranks_verdict": judge(better, 1),
        "ranks_better": signed(better, "{:+.2f}"),
        "ranks_sizes": f"{sizes[-1]} px than from {sizes[0]} px",
        "n_ranked": min(N_RANKED, len(shares)),
        "n_noise": (shares[full][:N_RANKED] < NOISE).sum(),
        "noise": NOISE,
    }


def claim_best_values(results):
    """Return where good values are; ranges that do not meet at all sizes refute it."""
    best = results.best_values
    rates = best.loc[RATE]
    plateau = results.plateau(RATE)
    l2 = results.plateau(L2)
    return {
        "best_rates": join_sizes(rates, "{:.2g}"),
        "rate_factor": f"{rates.max() / rates.min():.1f}",
        "rate_plateaus": join_spans(plateau),
        "rate_common": common_text(plateau),
        "rate_verdict": FAILS if common_text(plateau) == NONE else OPEN,
        "best_layers": join_sizes(best.loc[LAYERS], "{:g}"),
        "layers_plateaus": join_spans(results.plateau(LAYERS)),
        "layers_common": common_text(results.plateau(LAYERS)),
        "best_l2": join_sizes(best.loc[L2], "{:.1g}"),
        "l2_plateaus": join_spans(l2),
        "l2_common": common_text(l2),
        "plateau": PLATEAU,
    }


def common_text(spans):
    """Return the span that those of all sizes have in common."""
    lows, highs = zip(*spans.values(), strict=True)
    low, high = max(lows), min(highs)
    return span_text((low, high)) if low <= high else NONE


def join_spans(spans):
    return ", ".join(f"{span_text(span)} at {size} px" for size, span in spans.items())


def join_sizes(values, form):
    return ", ".join(f"{form.format(v)} at {size} px" for size, v in values.items())


def claim_selection(results):
    last, best = results.test_errors("last")[IIS], results.test_errors("best")[IIS]
    chosen = results.models.query("selection == 'best' and arm == @IIS and model == 0")
    smaller = chosen["size"] < results.experiment.full_size
    return {
        "selection_test": signed(Difference.between(best, last)),
        "selection_smaller": smaller.sum(),
    }


def claim_growing(results):
    """Return what inherited weights are worth, against stages and full size alone."""
    full_size, stages, inherited = results.experiment.arms
    epochs = results.experiment.arms[inherited].settings["stage_params"]
    final, test = results.final_errors(), results.test_errors()
    seconds = results.seconds()
    fields = {
        "growing_repeats": results.n_repeats,
        "growing_runs": len(results.runs()),
        "growing_searches": " and ".join(results.searches),
        "growing_date": results.about["date"],
        "growing_epochs": ", ".join(map(str, epochs["cnn__max_epochs"])),
        "growing_full_epochs": results.experiment.network["max_epochs"],
        "table_growing": tabulate_outcomes(results),
    }
    for key, other in (("full", full_size), ("stages", stages)):
        saved = Difference.between(100 * (1 - seconds[inherited] / seconds[other]), 0)
        lower = Difference.between(final[inherited], final[other])
        errors = results.errors_in_time(inherited, other)
        in_time = Difference.between(errors["arm"], errors["reference"])
        fields |= {
            f"growing_{key}_time_verdict": judge(saved, 1),
            f"growing_{key}_time": signed(saved, PERCENT, " %"),
            f"growing_{key}_error_verdict": judge(lower, -1),
            f"growing_{key}_error": signed(lower),
            f"growing_{key}_test": signed(
                Difference.between(test[inherited], test[other])
            ),
            f"growing_{key}_in_time_verdict": judge(in_time, -1),
            f"growing_{key}_in_time": signed(in_time),
        }
    return fields


def describe_rules(rules):
    """Return how the ways to hand over compare, and whether one of them wins."""
    fields = {}
    default, *others = next(iter(rules.values())).experiment.arms
    n_tests = len(rules) * len(others)
    for data, results in rules.items():
        fields[f"table_rules_{data}"] = tabulate_rules(results)
        fields[f"rules_{data}_repeats"] = results.n_repeats
        final = results.final_errors()
        fields[f"rules_{data}_error"] = mean_std(final[default], "{:.2f}")
        needed = needed_gains(results, LEVEL / n_tests)
        fields[f"rules_{data}_needed"] = span_text((min(needed), max(needed)), "{:.2g}")
    shapes = rules["shapes"]
    errors = shapes.final_errors()[default]
    beyond = needed_gains(shapes, LEVEL / n_tests) > errors.mean()
    fields["rules_shapes_beyond"] = f"{beyond.sum()} of the {len(others)}"
    fields["rules_shapes_errors"] = ", ".join(f"{error:.2f}" for error in errors)
    winners = find_winners(rules)
    return fields | {
        "n_rule_tests": n_tests,
        "rules_verdict": (
            f"better than the default: {', '.join(winners)}"
            if winners
            else "no setting is better than the defaults, which stay"
        ),
    }


def needed_gains(results, level):
    """Return how much each setting would have to gain, to pass with its spread."""
    default, *others = results.experiment.arms
    final = results.final_errors()
    return np.array(
        [
            Difference.between(final[arm], final[default]).detectable(level)
            for arm in others
        ]
    )


def find_winners(rules):
    """Return the settings that beat the default on some data, and are not worse on any.

    As there are many, each has to beat it at the level of a test divided by their
    number. To be worse, the level of a single test is enough.
    """
    default, *others = next(iter(rules.values())).experiment.arms
    winners = []
    for arm in others:
        tables = [results.final_errors() for results in rules.values()]
        differences = [Difference.between(t[arm], t[default]) for t in tables]
        level = LEVEL / (len(rules) * len(others))
        wins = any(one.mean < 0 and one.p_value < level for one in differences)
        if wins and not any(one.sign > 0 for one in differences):
            winners.append(arm)
    return winners
