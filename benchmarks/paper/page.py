"""The page on the paper's claims: a text whose numbers are computed from the CSV."""

from pathlib import Path

import numpy as np

from benchmarks.paper.analysis import CONFIDENCE, LEVEL, Difference
from benchmarks.paper.report import (
    IIS,
    PERCENT,
    REFERENCE,
    make_tables,
    mean_std,
    median_speedup,
    p_text,
    signed,
    tabulate_rules,
)

TEMPLATE = Path(__file__).with_name("page.md")
HOLDS, FAILS, OPEN = "**Holds here.**", "**Does not hold here.**", "**Cannot be said.**"


def judge(difference, claimed):
    """Return the verdict on the claim that differences have a sign."""
    return {claimed: HOLDS, -claimed: FAILS}.get(difference.sign, OPEN)


def interval(difference, form="{:+.3f}"):
    low, high = difference.interval
    return f"{form.format(low)} to {form.format(high)}"


def write_page(results, rules, page):
    """Write the page.

    Parameters
    ----------
    results : Results
        Of the comparison of arms.

    rules : dict of str to Results
        Of the comparisons of ways to hand over, by their data.

    page : path-like
        The file.
    """
    Path(page).write_text(TEMPLATE.read_text().format_map(make_fields(results, rules)))


def make_fields(results, rules):
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
        claim_selection,
    ):
        fields |= function(results)
    return fields | describe_rules(rules)


def describe(results):
    """Return what was run."""
    about, experiment = results.about, results.experiment
    iis = experiment.arms[IIS]
    evaluations = results.evaluations
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
    return {
        "error_verdict": judge(difference, -1),
        "error_difference": f"{difference.mean:+.3f}",
        "error_interval": interval(difference),
        "error_p": p_text(difference.p_value),
    }


def claim_sooner(results):
    times = results.times_to_final(IIS)
    outcomes = times["outcome"].value_counts()
    errors = results.errors_in_time(IIS)
    in_time = Difference.between(errors["arm"], errors["reference"])
    return {
        **{name: outcomes.get(name, 0) for name in ("sooner", "later", "open")},
        "speedup": median_speedup(times),
        "in_time_verdict": judge(in_time, -1),
        "in_time_error": signed(in_time),
    }


def claim_last_stage(results):
    seconds = results.last_stage_seconds()
    epochs = results.last_stage_epochs()
    more = Difference.between(100 * (seconds[IIS] / seconds[REFERENCE] - 1), 0)
    longer = Difference.between(100 * (epochs[IIS] / epochs[REFERENCE] - 1), 0)
    return {
        # That training is cut short can hide the effect, but not make it.
        "last_stage_verdict": HOLDS if more.sign > 0 else OPEN,
        "last_stage_time": signed(more, PERCENT),
        "last_stage_epochs": signed(longer, PERCENT),
        "last_stage_share": mean_std(100 * results.last_stage_shares()[IIS], "{:.0f}"),
    }


def claim_arms(results):
    final, seconds = results.final_errors(), results.seconds()
    narrowing = Difference.between(final["narrowing"], final[REFERENCE])
    cheap = Difference.between(final[IIS], final["narrowing"])
    seeds = Difference.between(final[IIS], final["ranges only"])
    ranges = Difference.between(final[IIS], final["seeds only"])
    time = Difference.between(100 * seconds["narrowing"] / seconds[REFERENCE], 100)
    return {
        "narrowing_verdict": judge(narrowing, -1),
        "narrowing_error": signed(narrowing),
        "narrowing_time": signed(time, PERCENT),
        "cheap_error": signed(cheap),
        "cheap_interval": interval(cheap),
        "seeds_verdict": judge(seeds, -1),
        "seeds_error": signed(seeds),
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
        "test_interval": interval(difference),
    }


def claim_importance(results):
    shares = 100 * results.importances
    best = results.best_values
    rates = best.loc["cnn__learning_rate"]
    return {
        "rate_importance": join_sizes(shares.loc["cnn__learning_rate"], "{:.0f} %"),
        "layers_importance": join_sizes(shares.loc["cnn__n_conv_layers"], "{:.0f} %"),
        "best_rates": join_sizes(rates, "{:.2g}"),
        "rate_factor": f"{rates.max() / rates.min():.1f}",
        "best_layers": join_sizes(best.loc["cnn__n_conv_layers"], "{}"),
        "best_l2": join_sizes(best.loc["cnn__l2"], "{:.1g}"),
    }


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


def describe_rules(rules):
    """Return how the ways to hand over compare, and whether one of them wins."""
    fields = {}
    for data, results in rules.items():
        fields[f"table_rules_{data}"] = tabulate_rules(results)
        fields[f"rules_{data}_repeats"] = results.n_repeats
        accuracies = 1 - results.final_errors().iloc[:, 0]
        fields[f"rules_{data}_accuracy"] = mean_std(accuracies, "{:.2f}")
    winners = find_winners(rules)
    n_tests = len(rules) * (len(next(iter(rules.values())).experiment.arms) - 1)
    return fields | {
        "n_rule_tests": n_tests,
        "rules_verdict": (
            f"better than the default: {', '.join(winners)}"
            if winners
            else "no setting is better than the defaults, which stay"
        ),
    }


def find_winners(rules):
    """Return the settings that beat the default on some data, and are not worse on any.

    As there are many, each has to do so at the level of a test divided by their number.
    """
    default, *others = next(iter(rules.values())).experiment.arms
    winners = []
    for arm in others:
        tables = [results.final_errors() for results in rules.values()]
        differences = [Difference.between(t[arm], t[default]) for t in tables]
        level = LEVEL / (len(rules) * len(others))
        if all(one.mean <= 0 for one in differences) and any(
            one.p_value < level for one in differences
        ):
            winners.append(arm)
    return winners
