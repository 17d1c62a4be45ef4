"""Compare ways of functional ANOVA on functions whose shares have a closed form.

    python benchmarks/importance_accuracy.py run results.csv --workers 2
    python benchmarks/importance_accuracy.py tables results.csv

Points are uniform in the unit cube; scores are a function of them, and noise. What is
compared with the truth, the shares of the variance of the function without noise, are
all main effects and pairs. The error of a run is the largest of these, absolute, and
the tables have its mean over the seeds. The functions, of columns that are uniform:

- Ishigami: sin x1 + 7 sin(x2)^2 + 0.1 x3^4 sin x1, x from -pi to pi;
- g-function: the product of (|4 x - 2| + a) / (1 + a), a = 0, 1, 4.5, 9, 99, 99;
- additive: 4 x1 + 3 x2 + 2 x3 + x4, of six columns;
- learning rate: sqrt(5) p + q, where p and q have a mean of 0 and a variance of 1; p is
  linear in (log10(lr) + 2)^2, lr from 1e-5 to 1 on a log scale, q is linear in the
  second of three columns. The shares are 5/6, 1/6 and 0.

The ways are

- single trees: the shares of each tree's variance, averaged over the trees (Hutter et
  al. 2014), of scikit-learn's forest;
- fanova: the package of the same authors, with fewer trees and seeds as it is slow;
- forest: the shares of the variance of the forest's mean, without correction and with
  one, two and three; what this package does is two;
- Optuna: its evaluator, which has main effects only, for the learning rate as a
  parameter on a log scale. Its error is that of the main effects.

The package and Optuna are left out for more than 1000 points, where they take minutes.

"run" appends what it finds to the file, run by run, and skips what is there. "tables"
prints what is there in Markdown.
"""

import argparse
import csv
import datetime
import importlib.util
import math
import multiprocessing
import os
import platform
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import combinations
from pathlib import Path
from unittest.mock import patch

import numpy as np
from sklearn.ensemble import RandomForestRegressor

from sklearn_iis.inspection import functional_anova
from sklearn_iis.inspection.anova import _functional_anova
from sklearn_iis.inspection.anova._fanova import fanova

N_TREES = 64
N_FANOVA_TREES = 16
NOISES = (0, 0.15, 0.5)

# Of numbers of points: how many seeds, and how many of them for the package.
SEEDS = {60: 10, 200: 5, 2000: 3}
FANOVA_SEEDS = {60: 5, 200: 3}

# They would take minutes a run for more than 1000 points.
SLOW = ("fanova", "Optuna")


@dataclass(frozen=True)
class Function:
    """A function of points of the unit cube, and what it varies by."""

    predict: Callable
    n_columns: int
    variances: dict
    total_variance: float

    @property
    def subsets(self):
        """Main effects and pairs."""
        columns = range(self.n_columns)
        return [s for order in (1, 2) for s in combinations(columns, order)]

    @property
    def shares(self):
        variances = [self.variances.get(subset, 0) for subset in self.subsets]
        return np.array(variances) / self.total_variance

    def observe(self, n_samples, noise, seed):
        """Return points and scores; noise is in standard deviations of the function."""
        rng = np.random.RandomState(seed)
        codes = rng.uniform(size=(n_samples, self.n_columns))
        scale = noise * math.sqrt(self.total_variance)
        return codes, self.predict(codes) + scale * rng.normal(size=n_samples)


def make_ishigami(a=7, b=0.1):
    def predict(codes):
        x1, x2, x3 = (2 * math.pi * codes - math.pi).T
        return np.sin(x1) + a * np.sin(x2) ** 2 + b * x3**4 * np.sin(x1)

    variances = {
        (0,): (1 + b * math.pi**4 / 5) ** 2 / 2,
        (1,): a**2 / 8,
        (0, 2): 8 * b**2 * math.pi**8 / 225,
    }
    return Function(predict, 3, variances, sum(variances.values()))


def make_g_function(a=(0, 1, 4.5, 9, 99, 99)):
    a = np.array(a)

    def predict(codes):
        return np.prod((np.abs(4 * codes - 2) + a) / (1 + a), axis=1)

    mains = 1 / (3 * (1 + a) ** 2)
    variances = {
        subset: float(np.prod(mains[list(subset)]))
        for order in (1, 2)
        for subset in combinations(range(len(a)), order)
    }
    return Function(predict, len(a), variances, float(np.prod(1 + mains) - 1))


def make_additive(coefficients=(4, 3, 2, 1, 0, 0)):
    coefficients = np.array(coefficients)
    mains = coefficients**2 / 12
    variances = {(i,): float(main) for i, main in enumerate(mains)}
    return Function(
        lambda codes: codes @ coefficients, len(mains), variances, float(mains.sum())
    )


def get_learning_rate(codes):
    return 10 ** (5 * codes - 5)


def make_learning_rate():
    def predict(codes):
        # Uniform from -3 to 2: the square has the mean 7/3 and the variance 50/9.
        decades = np.log10(get_learning_rate(codes[:, 0])) + 2
        p = (decades**2 - 7 / 3) / math.sqrt(50 / 9)
        q = math.sqrt(12) * (codes[:, 1] - 1 / 2)
        return math.sqrt(5) * p + q

    return Function(predict, 3, {(0,): 5, (1,): 1}, 6)


FUNCTIONS = {
    "Ishigami": make_ishigami(),
    "g-function": make_g_function(),
    "additive": make_additive(),
    "learning rate": make_learning_rate(),
}


def run_single_trees(function, codes, scores, seed):
    forest = RandomForestRegressor(N_TREES, max_features=0.7, random_state=seed)
    forest.fit(codes, scores)
    shares = [
        decompose_tree(estimator.tree_, function.subsets)
        for estimator in forest.estimators_
    ]
    return np.mean(shares, axis=0)


def decompose_tree(tree, subsets):
    """Return the shares of a tree's own variance; exact, as cells end where it splits.

    It is 0 everywhere if the tree has one leaf.
    """
    boxes = _functional_anova._Boxes(tree)
    edges = [
        np.concatenate([[0.0], np.unique(tree.threshold[tree.feature == i]), [1.0]])
        for i in range(tree.n_features)
    ]
    densities = boxes.cell_densities(edges)
    variances = []
    for subset in subsets:
        widths = [np.diff(edges[i]) for i in subset]
        component = boxes.marginal(subset, densities)
        component = _functional_anova._center(component, widths)
        for axis_widths in widths:
            component = np.moveaxis(component, 0, -1) * np.sqrt(axis_widths)
        variances.append((component**2).sum())
    volumes = boxes.widths.prod(axis=1)
    total = volumes @ (boxes.values - volumes @ boxes.values) ** 2
    return np.array(variances) / total if total else np.zeros(len(subsets))


def make_run_forest(n_corrections):
    def run_forest(function, codes, scores, seed):
        with patch.object(_functional_anova, "N_CORRECTIONS", n_corrections):
            result = functional_anova(
                codes, scores, n_estimators=N_TREES, random_state=seed
            )
        return result.importances_mean

    return run_forest


def run_fanova(function, codes, scores, seed):
    result = fanova(
        codes, scores, max_order=2, n_estimators=N_FANOVA_TREES, random_state=seed
    )
    return result.importances_mean


def run_optuna(function, codes, scores, seed):
    """It is told the learning rate in its own units, as it is in a study."""
    import optuna
    from optuna.distributions import FloatDistribution

    distributions = {
        f"x{i}": FloatDistribution(0, 1) for i in range(function.n_columns)
    }
    distributions["x0"] = FloatDistribution(1e-5, 1, log=True)
    values = np.column_stack([get_learning_rate(codes[:, 0]), codes[:, 1:]])
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study()
    study.add_trials(
        [
            optuna.trial.create_trial(
                params=dict(zip(distributions, point, strict=True)),
                distributions=distributions,
                value=score,
            )
            for point, score in zip(values.tolist(), scores, strict=True)
        ]
    )
    evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=N_TREES, seed=seed)
    importances = evaluator.evaluate(study)
    return np.array([importances[name] for name in distributions])


METHODS = {
    "single trees": run_single_trees,
    "fanova": run_fanova,
    "forest": make_run_forest(0),
    "forest, 1 correction": make_run_forest(1),
    "forest, 2 corrections": make_run_forest(2),
    "forest, 3 corrections": make_run_forest(3),
    "Optuna": run_optuna,
}
MODULES = {"fanova": "fanova", "Optuna": "optuna"}


def run(function_name, n_samples, noise, seed, method):
    """Return a row of the results."""
    function = FUNCTIONS[function_name]
    codes, scores = function.observe(n_samples, noise, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        start = time.perf_counter()
        shares = METHODS[method](function, codes, scores, seed)
        seconds = time.perf_counter() - start
    return {
        "function": function_name,
        "n_samples": n_samples,
        "noise": noise,
        "seed": seed,
        "method": method,
        "date": datetime.date.today(),
        "seconds": f"{seconds:.4g}",
        "shares": " ".join(f"{share:.6g}" for share in shares),
    }


COLUMNS = (
    *("function", "n_samples", "noise", "seed", "method"),
    *("date", "seconds", "shares"),
)


def make_tasks(args):
    """Return the arguments of all runs, such that each seed is done for all first."""
    return [
        (function, n_samples, noise, seed, method)
        for seed in range(args.seeds or max(SEEDS.values()))
        for n_samples in args.samples
        for function in args.functions
        for noise in NOISES
        for method in args.methods
        if seed < (args.seeds or SEEDS.get(n_samples, 5))
        and is_feasible(function, n_samples, seed, method)
    ]


def is_feasible(function, n_samples, seed, method):
    if method in SLOW and n_samples > 1000:
        return False
    if method == "Optuna":
        return function == "learning rate"
    return method != "fanova" or seed < FANOVA_SEEDS.get(n_samples, 1)


def read(path):
    """Return the rows of the results by the arguments of their runs."""
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        return {
            (
                row["function"],
                int(row["n_samples"]),
                float(row["noise"]),
                int(row["seed"]),
                row["method"],
            ): row
            for row in csv.DictReader(file)
        }


def run_all(tasks, path, n_workers):
    """Run what has no row yet, and append one for each at once."""
    done = read(path)
    missing = {m for m, module in MODULES.items() if not is_installed(module)}
    tasks = [task for task in tasks if task not in done and task[-1] not in missing]
    for method in sorted(missing):
        print(f"{method} is not installed")
    print(f"{len(tasks)} runs to do", flush=True)
    # Processes that are spawned read it before they import numpy.
    os.environ["OMP_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(n_workers, mp_context=context)
    try:
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            if not done:
                writer.writeheader()
            futures = [pool.submit(run, *task) for task in tasks]
            for future in as_completed(futures):
                row = future.result()
                print(*list(row.values())[:-1], flush=True)
                writer.writerow(row)
                file.flush()
    finally:
        pool.shutdown(cancel_futures=True)


def is_installed(module):
    return importlib.util.find_spec(module) is not None


def print_tables(rows):
    dates = sorted(row["date"] for row in rows.values())
    print(f"Measured from {dates[0]} to {dates[-1]}.")
    shares = defaultdict(dict)
    for (function, n_samples, noise, seed, method), row in rows.items():
        values = np.array(row["shares"].split(), dtype=float)
        shares[function, n_samples, noise, method][seed] = values
    for function in FUNCTIONS:
        title = f"{function}: mean of the largest error"
        print_table(title, function, shares, mean_error)
    title = "learning rate: mean share of the learning rate, 0.833 in truth"
    print_table(
        title, "learning rate", shares, lambda _, v: np.mean([s[0] for s in v.values()])
    )
    print_summary(shares)
    print_seconds(rows)


def mean_error(function, by_seed):
    truth = FUNCTIONS[function].shares
    errors = [np.abs(s - truth[: len(s)]).max() for s in by_seed.values()]
    return np.mean(errors)


def print_table(title, function, shares, statistic):
    sizes = sorted({n for name, n, *_ in shares if name == function})
    cells = [(n, noise) for n in sizes for noise in NOISES]
    print(f"\n### {title}, by n and noise\n")
    print("| | " + " | ".join(f"{n}, {noise:g}" for n, noise in cells) + " |")
    print("|---" * (len(cells) + 1) + "|")
    for method in METHODS:
        runs = [shares.get((function, n, noise, method)) for n, noise in cells]
        if any(runs):
            numbers = [f"{statistic(function, r):.3f}" if r else "" for r in runs]
            print(f"| {method} | " + " | ".join(numbers) + " |")
    counts = [
        "/".join(
            str(len(shares.get((function, n, noise, method), {})))
            for method in ("single trees", "fanova")
        )
        for n, noise in cells
    ]
    print("| *seeds, of fanova* | " + " | ".join(counts) + " |")


def print_summary(shares):
    print("\n### All functions: mean of the errors above, by n and noise\n")
    cells = [(n, noise) for n in sorted({n for _, n, *_ in shares}) for noise in NOISES]
    print("| | " + " | ".join(f"{n}, {noise:g}" for n, noise in cells) + " |")
    print("|---" * (len(cells) + 1) + "|")
    for method in METHODS:
        numbers = []
        for n, noise in cells:
            runs = {f: shares.get((f, n, noise, method)) for f in FUNCTIONS}
            errors = [mean_error(f, by_seed) for f, by_seed in runs.items() if by_seed]
            is_whole = len(errors) == len(FUNCTIONS)
            numbers.append(f"{np.mean(errors):.3f}" if is_whole else "")
        if any(numbers):
            print(f"| {method} | " + " | ".join(numbers) + " |")


def print_seconds(rows):
    print("\n### Seconds of a run, median over all functions\n")
    seconds = defaultdict(list)
    for (_, n_samples, _, _, method), row in rows.items():
        seconds[n_samples, method].append(float(row["seconds"]))
    sizes = sorted({n for n, _ in seconds})
    print("| | " + " | ".join(f"n = {n}" for n in sizes) + " |")
    print("|---" * (len(sizes) + 1) + "|")
    for method in METHODS:
        cells = [seconds.get((n, method)) for n in sizes]
        if any(cells):
            numbers = [f"{np.median(cell):.2g}" if cell else "" for cell in cells]
            print(f"| {method} | " + " | ".join(numbers) + " |")


def find_version(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["run", "tables"])
    parser.add_argument("results", type=Path, help="a file of comma-separated values")
    parser.add_argument(
        "--functions", nargs="+", choices=FUNCTIONS, default=list(FUNCTIONS)
    )
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--samples", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument(
        "--seeds", type=int, help="how many; the fewer the more samples unless given"
    )
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args()
    versions = ", ".join(
        f"{name} {find_version(name)}"
        for name in ("scikit-learn", "fanova", "pyrfr", "optuna")
    )
    print(
        f"{datetime.date.today()}, {platform.machine()}, {os.cpu_count()} cores, "
        f"{versions}; {N_TREES} trees, {N_FANOVA_TREES} of fanova\n"
    )
    if args.command == "tables":
        print_tables(read(args.results))
    else:
        run_all(make_tasks(args), args.results, args.workers)


if __name__ == "__main__":
    main()
