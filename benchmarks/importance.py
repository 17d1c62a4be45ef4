"""Time functional ANOVA: ours, the `fanova` package, and Optuna's evaluator.

python benchmarks/importance.py
python benchmarks/importance.py --samples 500 --columns 40 --skip fanova optuna

The points are Friedman's first function with noise, of which five columns matter.

Ours, all subsets of one and two columns, is the median of several repeats; Optuna's,
which has the main effects only, is timed once. The package would take hours: a forest
of fewer trees is fitted, its main effects are computed, and one pair each of two
columns that matter, of one that does, and of none. What a pair costs depends on how
often it is split, and how close to the root. So the other pairs are extrapolated from
that of their kind, in proportion to the predictions that they need, and all of it in
proportion to the trees, which the package treats one by one.

The memory is what a process needs at most beyond what it had before, with ours.
"""

import argparse
import datetime
import math
import multiprocessing
import os
import platform
import re
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from itertools import combinations
from pathlib import Path

import numpy as np
from sklearn.datasets import make_friedman1

from sklearn_iis.inspection import functional_anova
from sklearn_iis.inspection.anova._fanova import _import_fanova, _make_cube

# Friedman's first function is of so many, which come first.
N_RELEVANT = 5

# Pairs by how many of their columns matter; of each kind, the one that is timed.
TIMED_PAIRS = {2: (0, 1), 1: (2, 7), 0: (5, 6)}


def make_observations(n_samples, n_columns=10):
    return make_friedman1(n_samples, n_features=n_columns, noise=1.0, random_state=0)


def count_subsets(n_columns):
    return n_columns + math.comb(n_columns, 2)


def time_ours(codes, scores, n_trees, seed):
    start = time.perf_counter()
    result = functional_anova(codes, scores, n_estimators=n_trees, random_state=seed)
    seconds = time.perf_counter() - start
    assert len(result.subsets) == count_subsets(codes.shape[1])
    return seconds


def time_optuna(codes, scores, n_trees, seed):
    """The study is made before; without log scales its codes are ours."""
    import optuna
    from optuna.distributions import FloatDistribution

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = {f"x{i}": FloatDistribution(0, 1) for i in range(codes.shape[1])}
    study = optuna.create_study()
    study.add_trials(
        [
            optuna.trial.create_trial(
                params=dict(zip(distributions, point, strict=True)),
                distributions=distributions,
                value=score,
            )
            for point, score in zip(codes.tolist(), scores, strict=True)
        ]
    )
    evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=n_trees, seed=seed)
    start = time.perf_counter()
    importances = evaluator.evaluate(study)
    seconds = time.perf_counter() - start
    assert len(importances) == codes.shape[1]
    return seconds


def time_fanova(codes, scores, n_trees):
    """Return the seconds of the fit, of the main effects, and of pairs by their kind.

    Those of the pairs are the seconds of the one that is timed, and of all of its kind,
    extrapolated.
    """
    n_columns = codes.shape[1]
    with warnings.catch_warnings():
        # The package calls what ConfigSpace has renamed.
        warnings.simplefilter("ignore", DeprecationWarning)
        module = _import_fanova()
        start = time.perf_counter()
        forest = module.fANOVA(
            codes,
            scores,
            config_space=_make_cube(n_columns),
            n_trees=n_trees,
            seed=1,
            max_features=7 * n_columns // 10,
        )
        fit = time.perf_counter() - start
        start = time.perf_counter()
        for column in range(n_columns):
            forest.quantify_importance((column,))
        mains = time.perf_counter() - start
        pairs = {}
        for kind, pair in TIMED_PAIRS.items():
            start = time.perf_counter()
            forest.quantify_importance(pair)
            seconds = time.perf_counter() - start
            n_all = sum(
                count_predictions(forest, other)
                for other in combinations(range(n_columns), 2)
                if sum(column < N_RELEVANT for column in other) == kind
            )
            pairs[kind] = seconds, seconds * n_all / count_predictions(forest, pair)
    return fit, mains, pairs


def count_predictions(forest, pair):
    """Return of how many cells the package predicts the mean, over all trees."""
    return sum(math.prod(len(cells[i]) for i in pair) for cells in forest.all_midpoints)


def measure_memory(codes, scores, n_trees):
    """Return MB; to be called in a new process, as a peak is of all its life."""
    # What is loaded when first used is not counted.
    functional_anova(codes[:20], scores[:20], n_estimators=2, random_state=0)
    before = read_memory("VmRSS")
    functional_anova(codes, scores, n_estimators=n_trees, random_state=0)
    return read_memory("VmHWM") - before


def read_memory(name):
    status = Path("/proc/self/status")
    if not status.exists():  # only Linux has it
        return math.nan
    return int(re.search(rf"{name}:\s+(\d+) kB", status.read_text())[1]) / 1024


def run_alone(function, *args):
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *args).result()


def run(samples, n_columns, n_trees, n_repeats, n_fanova_trees, skip=()):
    """Return what was measured, by the name of the row and the number of points.

    `n_repeats` are those of ours; the others take long enough to be timed once.
    """
    observations = {n: make_observations(n, n_columns) for n in samples}
    functions = {"ours": (time_ours, n_repeats), "optuna": (time_optuna, 1)}
    functions = {name: f for name, f in functions.items() if name not in skip}
    seconds = {(name, n): [] for name in functions for n in samples}
    # The first call imports and warms up.
    for function, _ in functions.values():
        function(*make_observations(20), 2, 0)
    for repeat in range(n_repeats):
        for n, (codes, scores) in observations.items():
            for name, (function, n_times) in functions.items():
                if repeat >= n_times:
                    continue
                taken = function(codes, scores, n_trees, repeat)
                seconds[name, n].append(taken)
                print(f"{name:>8}, n = {n}, repeat {repeat}: {taken:.2f} s", flush=True)
    rows = {key: float(np.median(taken)) for key, taken in seconds.items()}
    for n, (codes, scores) in observations.items():
        if "memory" not in skip:
            rows["memory", n] = run_alone(measure_memory, codes, scores, n_trees)
        if "fanova" not in skip:
            fit, mains, pairs = time_fanova(codes, scores, n_fanova_trees)
            timed = ", ".join(
                f"{TIMED_PAIRS[kind]} {one:.2f} s and all like it {every:.0f} s"
                for kind, (one, every) in pairs.items()
            )
            print(
                f"  fanova, n = {n}, {n_fanova_trees} trees: fit {fit:.2f} s, main "
                f"effects {mains:.2f} s, pairs {timed}",
                flush=True,
            )
            scale = n_trees / n_fanova_trees
            rows["fanova mains", n] = scale * (fit + mains)
            every = sum(every for _, every in pairs.values())
            rows["fanova", n] = scale * (fit + mains + every)
    return rows


def print_table(rows, samples, n_columns):
    n_subsets = count_subsets(n_columns)
    labels = {
        "ours": f"this package, {n_subsets} subsets, s",
        "fanova": f"fanova, {n_subsets} subsets, extrapolated, s",
        "fanova mains": f"fanova, {n_columns} main effects, s",
        "optuna": f"Optuna, {n_columns} main effects, s",
        "memory": "this package, peak memory, MB",
    }
    print("\n| | " + " | ".join(f"n = {n}" for n in samples) + " | growth |")
    print("|---" * (len(samples) + 2) + "|")
    for name, label in labels.items():
        if (name, samples[0]) in rows:
            values = [rows[name, n] for n in samples]
            cells = " | ".join(f"{value:.3g}" for value in values)
            print(f"| {label} | {cells} | {describe_growth(samples, values)} |")
    if {("ours", samples[0]), ("fanova", samples[0])} <= rows.keys():
        ratios = [rows["fanova", n] / rows["ours", n] for n in samples]
        cells = " | ".join(f"{ratio:.3g}" for ratio in ratios)
        print(f"| fanova / this package | {cells} | |")


def describe_growth(samples, values):
    """Return the exponent of growth from the least to the most points."""
    if len(samples) < 2:
        return ""
    exponent = math.log(values[-1] / values[0]) / math.log(samples[-1] / samples[0])
    return f"n^{exponent:.2f}"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", nargs="+", type=int, default=[500, 1000, 2000])
    parser.add_argument("--columns", type=int, default=10)
    parser.add_argument("--trees", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5, help="of ours")
    parser.add_argument(
        "--fanova-trees", type=int, default=4, help="timed, and scaled to --trees"
    )
    parser.add_argument(
        "--skip",
        nargs="+",
        choices=["ours", "fanova", "optuna", "memory"],
        default=[],
        help="what is not to be measured",
    )
    args = parser.parse_args()
    names = ["scikit-learn", *(n for n in ("fanova", "optuna") if n not in args.skip)]
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    print(
        f"{datetime.date.today()}, {platform.machine()}, {os.cpu_count()} cores, load "
        f"{load} before, {versions}, {args.trees} trees"
    )
    samples = sorted(args.samples)
    rows = run(
        samples, args.columns, args.trees, args.repeats, args.fanova_trees, args.skip
    )
    print_table(rows, samples, args.columns)


if __name__ == "__main__":
    main()
