"""Compare searches on formulas with a known optimum: nothing is trained.

    python benchmarks/searches.py regret results.csv --workers 2
    python benchmarks/searches.py overhead results.csv
    python benchmarks/searches.py tables results.csv

"regret" runs every search through IISSearchCV, in a single stage, on estimators whose
score is a formula, and the libraries below them directly on the same formulas. The
regret is how far the best candidate so far is from the optimum; by the formula, which
is what the score is at all epochs. Searches run once with 100 candidates, and the
regret after 20 and 50 is that of the first ones; but grid and Hyperband, which plan
ahead, run once for each number. "overhead" times searches, whose evaluations cost
nothing, by themselves; let nothing else run meanwhile.

Both append what they find to the file, run by run, and skip what is there, so that they
can be ended and called again. "tables" prints what is there in Markdown.

Hyperband counts evaluations at all epochs, and is told the loss of a learning curve:

    loss(epochs) = formula + scale (epochs^-rate - all_epochs^-rate)

where the scale is about the regret of a candidate at random, and the rate is between
0.5 and 1.5, a hash of the candidate: curves cross.
"""

import argparse
import csv
import datetime
import math
import multiprocessing
import os
import platform
import tempfile
import time
import warnings
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from zlib import crc32

import numpy as np
from scipy.stats import loguniform, randint, uniform
from sklearn.base import BaseEstimator

from sklearn_iis import IISSearchCV, PerLayer
from sklearn_iis.searches import SEARCHES, get_search

ALL_EPOCHS = 27
CHECKPOINTS = (20, 50, 100)
OVERHEAD_CANDIDATES = (50, 200, 750)

# These plan ahead: their first 20 of 100 candidates are not those of a budget of 20.
PLANNED = ("grid", "hyperband")


@dataclass(eq=False)
class Formula(BaseEstimator):
    """It learns nothing, and scores by a formula; subclasses have its arguments."""

    max_epochs: int = ALL_EPOCHS

    def fit(self, X, y=None):
        return self

    def score(self, X, y=None):
        params = repr([getattr(self, name) for name in self.space])
        rate = 0.5 + crc32(params.encode()) / 2**32
        rest = self.max_epochs**-rate - ALL_EPOCHS**-rate
        return -self.loss() - self.scale * rest

    def regret(self):
        return self.loss() - self.minimum


def branin(x, y):
    bend = y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6
    return bend**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10


@dataclass(eq=False)
class Branin(Formula):
    """Two dimensions, three optima."""

    x: float = 0.0
    y: float = 0.0

    space = {"x": uniform(-5, 15), "y": uniform(0, 15)}
    optimum = {"x": math.pi, "y": 2.275}
    minimum = 5 / (4 * math.pi)
    scale = 40

    def loss(self):
        return branin(self.x, self.y)


@dataclass(eq=False)
class BraninOf10(Formula):
    """Branin, and eight dimensions without influence."""

    x0: float = 0.0
    x1: float = 0.0
    x2: float = 0.0
    x3: float = 0.0
    x4: float = 0.0
    x5: float = 0.0
    x6: float = 0.0
    x7: float = 0.0
    x8: float = 0.0
    x9: float = 0.0

    space = {f"x{i}": uniform(0, 1) for i in range(10)}
    optimum = dict.fromkeys(space, 0.0) | {
        "x3": (Branin.optimum["x"] + 5) / 15,
        "x8": Branin.optimum["y"] / 15,
    }
    minimum = Branin.minimum
    scale = Branin.scale

    def loss(self):
        return branin(15 * self.x3 - 5, 15 * self.x8)


@dataclass(eq=False)
class Hartmann6(Formula):
    """Six dimensions, six local optima."""

    x0: float = 0.0
    x1: float = 0.0
    x2: float = 0.0
    x3: float = 0.0
    x4: float = 0.0
    x5: float = 0.0

    space = {f"x{i}": uniform(0, 1) for i in range(6)}
    optimum = {
        "x0": 0.20168951,
        "x1": 0.15001069,
        "x2": 0.47687398,
        "x3": 0.27533243,
        "x4": 0.31165162,
        "x5": 0.65730053,
    }
    minimum = -3.322368011415515
    scale = 3

    heights = np.array([1.0, 1.2, 3.0, 3.2])
    widths = np.array(
        [
            [10, 3, 17, 3.5, 1.7, 8],
            [0.05, 10, 17, 0.1, 8, 14],
            [3, 3.5, 1.7, 10, 17, 8],
            [17, 8, 0.05, 10, 0.1, 14],
        ]
    )
    centres = 1e-4 * np.array(
        [
            [1312, 1696, 5569, 124, 8283, 5886],
            [2329, 4135, 8307, 3736, 1004, 9991],
            [2348, 1451, 3522, 2883, 3047, 6650],
            [4047, 8828, 8732, 5743, 1091, 381],
        ]
    )

    def loss(self):
        x = np.array([getattr(self, name) for name in self.space])
        exponents = (self.widths * (x - self.centres) ** 2).sum(axis=1)
        return float(-self.heights @ np.exp(-exponents))


@dataclass(eq=False)
class Conditional(Formula):
    """Like a network's error: each optimizer has its learning rate, each layer a width.

    Three layers of the right widths are best; a wrong one may be worse than none.
    """

    learning_rate: float = 0.1
    optimizer: str = "sgd"
    n_layers: int = 1
    widths: tuple = (64,)

    space = {
        "learning_rate": loguniform(1e-4, 1),
        "optimizer": ["sgd", "momentum", "adam"],
        "n_layers": randint(1, 6),
        "widths": PerLayer(randint(8, 129), depth="n_layers"),
    }
    optimum = {
        "learning_rate": 0.01,
        "optimizer": "momentum",
        "n_layers": 3,
        "widths": (32, 64, 96),
    }
    minimum = 0.1
    scale = 2

    rates = {"sgd": 0.1, "momentum": 0.01, "adam": 0.001}
    handicaps = {"sgd": 0.2, "momentum": 0.0, "adam": 0.1}
    gains = (0.4, 0.3, 0.2, -0.1, -0.2)
    best_widths = (32, 64, 96, 64, 64)

    def loss(self):
        decades = math.log10(self.learning_rate / self.rates[self.optimizer])
        layers = zip(self.widths, self.best_widths, self.gains, strict=False)
        return (
            1.0
            + 0.2 * decades**2
            + self.handicaps[self.optimizer]
            + sum(((width - best) / 60) ** 2 - gain for width, best, gain in layers)
        )


@dataclass(eq=False)
class Choices(Formula):
    """Like a network's error by its architecture: choices without an order only.

    Each layer has a kind of block, three layers of the right kinds are best, and the
    activation that is best by itself is not beside the best normalisation.
    """

    n_layers: int = 1
    blocks: tuple = ("conv3",)
    activation: str = "relu"
    normalisation: str = "none"
    pooling: str = "max"

    space = {
        "n_layers": randint(1, 6),
        "blocks": PerLayer(
            ["conv3", "conv5", "separable", "bottleneck", "dilated", "pool"],
            depth="n_layers",
        ),
        "activation": ["relu", "elu", "selu", "gelu", "tanh"],
        "normalisation": ["none", "batch", "layer", "group"],
        "pooling": ["max", "mean", "strided"],
    }
    optimum = {
        "n_layers": 3,
        "blocks": ("conv5", "separable", "bottleneck"),
        "activation": "gelu",
        "normalisation": "batch",
        "pooling": "strided",
    }
    minimum = 0.1
    scale = 1

    gains = (0.4, 0.3, 0.2, -0.1, -0.2)
    best_blocks = ("conv5", "separable", "bottleneck", "conv3", "conv3")
    # By how far a kind of block is from the best one, in the order of the space.
    block_handicaps = (0.0, 0.1, 0.2, 0.15, 0.25, 0.4)
    activations = {"relu": 0.1, "elu": 0.15, "selu": 0.0, "gelu": 0.05, "tanh": 0.3}
    normalisations = {"none": 0.3, "batch": 0.0, "layer": 0.15, "group": 0.1}
    poolings = {"max": 0.1, "mean": 0.15, "strided": 0.0}

    def loss(self):
        kinds = self.space["blocks"].values
        distances = [
            abs(kinds.index(block) - kinds.index(best))
            for block, best in zip(self.blocks, self.best_blocks, strict=False)
        ]
        handicaps = sum(self.block_handicaps[distance] for distance in distances)
        clashes = self.activation == "selu" and self.normalisation != "none"
        loss = (
            0.95
            + handicaps
            - sum(self.gains[: len(self.blocks)])
            + self.activations[self.activation]
            + 0.2 * clashes
            + self.normalisations[self.normalisation]
            + self.poolings[self.pooling]
        )
        return round(loss, 10)  # what is equal is a tie


FORMULAS = {
    "Branin": Branin,
    "Hartmann 6": Hartmann6,
    "conditional": Conditional,
    "2 of 10": BraninOf10,
    "choices": Choices,
}


def run_search(name, formula, n_iter, seed):
    """Return the regrets of the best so far, the candidates and the seconds."""
    get_search(name)  # imports are not counted
    search = IISSearchCV(
        formula(),
        formula.space,
        search=name,
        n_iter=n_iter,
        cv=[(np.arange(5), np.arange(5, 10))],
        refit=False,
        random_state=seed,
    )
    start = time.perf_counter()
    search.fit(np.zeros((10, 1)))
    seconds = time.perf_counter() - start
    candidates = search.cv_results_["params"]
    if name in PLANNED:
        regrets = [regret(formula, search.best_params_)]
    else:
        regrets = [regret(formula, params) for params in candidates]
    return regrets, len(candidates), seconds


def regret(formula, params):
    return formula(**{name: params[name] for name in formula.space}).regret()


def run_optuna(formula, n_iter, seed):
    import optuna

    def objective(trial):
        point = {}
        for name, values, condition in flatten(formula.space):
            if condition is None or point[condition[0]] > condition[1]:
                point[name] = suggest(trial, name, values)
        return formula(**fold(point, formula.space)).loss()

    def suggest(trial, name, values):
        kind, *bounds = describe(values)
        if kind == "choice":
            return trial.suggest_categorical(name, *bounds)
        if kind == "randint":
            return trial.suggest_int(name, *bounds)
        return trial.suggest_float(name, *bounds, log=kind == "loguniform")

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # It is the default, but for the seed.
    sampler = optuna.samplers.TPESampler(seed=seed)
    study = optuna.create_study(sampler=sampler)
    study.optimize(objective, n_trials=n_iter)
    return [trial.value for trial in study.trials]


def run_smac(formula, n_iter, seed):
    from smac import HyperparameterOptimizationFacade, Scenario

    losses = []

    def objective(config, seed=0):
        losses.append(formula(**fold(dict(config), formula.space)).loss())
        return losses[-1]

    with tempfile.TemporaryDirectory() as folder:
        scenario = Scenario(
            make_configspace(formula.space, seed),
            n_trials=n_iter,
            deterministic=True,
            seed=seed,
            output_directory=Path(folder),
        )
        HyperparameterOptimizationFacade(
            scenario, objective, overwrite=True, logging_level=False
        ).optimize()
    return losses


def make_configspace(space, seed):
    from ConfigSpace import (
        Categorical,
        ConfigurationSpace,
        Float,
        GreaterThanCondition,
        Integer,
    )

    def make(name, values):
        kind, *bounds = describe(values)
        if kind == "choice":
            return Categorical(name, *bounds)
        if kind == "randint":
            return Integer(name, tuple(bounds))
        return Float(name, tuple(bounds), log=kind == "loguniform")

    configspace = ConfigurationSpace(seed=seed)
    for name, values, condition in flatten(space):
        configspace.add(make(name, values))
        if condition is not None:
            depth, layer = configspace[condition[0]], condition[1]
            if layer >= depth.lower:
                configspace.add(GreaterThanCondition(configspace[name], depth, layer))
    return configspace


def run_skopt(formula, n_iter, seed):
    """It knows no conditions: all layers are always there."""
    from skopt import gp_minimize
    from skopt.space import Categorical, Integer, Real

    def make(name, values):
        kind, *bounds = describe(values)
        if kind == "choice":
            return Categorical(*bounds, name=name)
        if kind == "randint":
            return Integer(*bounds, name=name)
        prior = "log-uniform" if kind == "loguniform" else "uniform"
        return Real(*bounds, prior=prior, name=name)

    dimensions = [make(name, values) for name, values, _ in flatten(formula.space)]

    def objective(values):
        point = {d.name: value for d, value in zip(dimensions, values, strict=True)}
        return formula(**fold(point, formula.space)).loss()

    return gp_minimize(
        objective, dimensions, n_calls=n_iter, random_state=seed
    ).func_vals


def describe(values):
    """Return the kind of a hyperparameter, and its bounds or its choices."""
    if isinstance(values, list):
        return "choice", values
    low, high = values.support()
    if values.dist.name == "randint":
        return "randint", int(low), int(high)
    return values.dist.name, float(low), float(high)


def flatten(space):
    """Yield hyperparameters, one a layer: name, values, depth and layer or None."""
    for name, values in space.items():
        if isinstance(values, PerLayer):
            for layer in range(int(space[values.depth].support()[1])):
                yield f"{name}_{layer}", values.values, (values.depth, layer)
        else:
            yield name, values, None


def fold(point, space):
    """Return what `flatten` gave names to as the parameters of a formula."""
    return {
        name: tuple(point[f"{name}_{layer}"] for layer in range(point[values.depth]))
        if isinstance(values, PerLayer)
        else point[name]
        for name, values in space.items()
    }


# What a search is built upon, used directly.
LIBRARIES = {
    "Optuna": ("tpe", run_optuna),
    "SMAC3": ("smac", run_smac),
    "scikit-optimize": ("bayes", run_skopt),
}


def run(part, formula_name, search, n_iter, seed):
    """Return a row of the results."""
    formula = FORMULAS[formula_name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if search in LIBRARIES:
            start = time.perf_counter()
            losses = LIBRARIES[search][1](formula, n_iter, seed)
            seconds = time.perf_counter() - start
            regrets = np.array(losses) - formula.minimum
            n_evaluations = len(regrets)
        else:
            regrets, n_evaluations, seconds = run_search(search, formula, n_iter, seed)
    best_so_far = np.minimum.accumulate(regrets)
    return {
        "part": part,
        "formula": formula_name,
        "search": search,
        "n_iter": n_iter,
        "seed": seed,
        "date": datetime.date.today(),
        "seconds": f"{seconds:.4g}",
        "n_evaluations": n_evaluations,
        "regrets": " ".join(f"{regret:.6g}" for regret in best_so_far),
    }


COLUMNS = (
    *("part", "formula", "search", "n_iter", "seed"),
    *("date", "seconds", "n_evaluations", "regrets"),
)


def make_tasks(args):
    """Return the arguments of all runs, such that each seed is done for all first."""
    if args.command == "overhead":
        return [
            ("overhead", "conditional", search, n_iter, 0)
            for n_iter in OVERHEAD_CANDIDATES
            for search in args.searches or SEARCHES
        ]
    return [
        ("regret", formula, search, n_iter, seed)
        for seed in range(args.seeds)
        for formula in args.formulas
        for search in args.searches or (*SEARCHES, *LIBRARIES)
        for n_iter in (CHECKPOINTS if search in PLANNED else CHECKPOINTS[-1:])
    ]


def read(path):
    """Return the rows of the results by the arguments of their runs."""
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        return {
            (
                row["part"],
                row["formula"],
                row["search"],
                int(row["n_iter"]),
                int(row["seed"]),
            ): row
            for row in csv.DictReader(file)
        }


def run_all(tasks, path, n_workers):
    """Run what has no row yet, and append one for each at once."""
    done = read(path)
    tasks = [task for task in tasks if task not in done]
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
            futures = {pool.submit(run, *task): task for task in tasks}
            for future in as_completed(futures):
                try:
                    row = future.result()
                # A library is missing, or a grid does not fit the budget.
                except (ImportError, ValueError) as error:
                    print(*futures[future], f"{type(error).__name__}: {error}")
                else:
                    print(*futures[future], f"{row['seconds']} s", flush=True)
                    writer.writerow(row)
                    file.flush()
    finally:
        pool.shutdown(cancel_futures=True)


def print_tables(rows):
    dates = sorted(row["date"] for row in rows.values())
    print(f"Measured from {dates[0]} to {dates[-1]}.")
    if regrets := collect_regrets(rows):
        for formula in FORMULAS:
            print_regrets(formula, regrets)
        print_libraries(regrets)
    if any(part == "overhead" for part, *_ in rows):
        print_overhead(rows)


def collect_regrets(rows):
    """Return regrets by formula, search and number of candidates, by seed."""
    regrets = defaultdict(dict)
    for (part, formula, search, n_iter, seed), row in rows.items():
        if part == "regret":
            best_so_far = [float(regret) for regret in row["regrets"].split()]
            for n in (n_iter,) if search in PLANNED else CHECKPOINTS:
                regrets[formula, search, n][seed] = best_so_far[:n][-1]
    return regrets


def print_regrets(formula, regrets):
    n_last = CHECKPOINTS[-1]
    print(f"\n### {formula}: regret, median (quartiles)\n")
    columns = " | ".join(f"after {n}" for n in CHECKPOINTS)
    print(f"| search | {columns} | seeds better than random, after {n_last} |")
    print("|---" * (len(CHECKPOINTS) + 2) + "|")
    for search in (*SEARCHES, *LIBRARIES):
        cells = [regrets.get((formula, search, n), {}) for n in CHECKPOINTS]
        if any(cells):
            random = regrets.get((formula, "random", n_last), {})
            better = "" if search == "random" else count_better(cells[-1], random)
            spreads = " | ".join(map(format_quartiles, cells))
            print(f"| {search} | {spreads} | {better} |")


def format_quartiles(by_seed):
    if not by_seed:
        return ""
    low, median, high = np.percentile(list(by_seed.values()), [25, 50, 75])
    return f"{median:.2g} ({low:.2g} to {high:.2g})"


def count_better(by_seed, others):
    """Count the seeds in which the regret is less; ties are none of them."""
    seeds = by_seed.keys() & others.keys()
    n_better = sum(by_seed[seed] < others[seed] for seed in seeds)
    return f"{n_better} of {len(seeds)}" if seeds else ""


def print_libraries(regrets):
    n_last = CHECKPOINTS[-1]
    print("\n### Behind the library used directly\n")
    print(
        "Our median regret less the library's, divided by the distance between the\n"
        "quartiles of the library's regrets, over the seeds that both have: what is\n"
        "below 1 is within the spread of the seeds, and below 0 ours is ahead.\n"
    )
    columns = " | ".join(f"after {n}" for n in CHECKPOINTS)
    print(
        f"| formula | search | library | {columns} "
        f"| seeds better than the library, after {n_last} |"
    )
    print("|---" * (len(CHECKPOINTS) + 4) + "|")
    for formula in FORMULAS:
        for library, (search, _) in LIBRARIES.items():
            ours, theirs = (
                [regrets.get((formula, name, n), {}) for n in CHECKPOINTS]
                for name in (search, library)
            )
            if all(ours) and all(theirs):
                behind = " | ".join(map(format_behind, ours, theirs))
                better = count_better(ours[-1], theirs[-1])
                print(f"| {formula} | {search} | {library} | {behind} | {better} |")


def format_behind(ours, theirs):
    seeds = ours.keys() & theirs.keys()
    low, median, high = np.percentile([theirs[seed] for seed in seeds], [25, 50, 75])
    if low == high:
        return ""
    return f"{(np.median([ours[seed] for seed in seeds]) - median) / (high - low):+.2f}"


def print_overhead(rows):
    print("\n### The search's own time, ms a candidate\n")
    print("| search | " + " | ".join(map(str, OVERHEAD_CANDIDATES)) + " |")
    print("|---" * (len(OVERHEAD_CANDIDATES) + 1) + "|")
    for search in (*SEARCHES, *LIBRARIES):
        keys = [("overhead", "conditional", search, n, 0) for n in OVERHEAD_CANDIDATES]
        if any(key in rows for key in keys):
            cells = " | ".join(format_overhead(rows.get(key)) for key in keys)
            print(f"| {search} | {cells} |")


def format_overhead(row):
    if row is None:
        return ""
    return f"{1000 * float(row['seconds']) / int(row['n_evaluations']):.1f}"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["regret", "overhead", "tables"])
    parser.add_argument("results", type=Path, help="a file of comma-separated values")
    names = (*SEARCHES, *LIBRARIES)
    parser.add_argument("--searches", nargs="+", choices=names, metavar="NAME")
    parser.add_argument(
        "--formulas", nargs="+", choices=FORMULAS, default=list(FORMULAS)
    )
    parser.add_argument("--seeds", type=int, default=20, help="how many")
    parser.add_argument("--workers", type=int, default=1, help='of "regret"')
    args = parser.parse_args()
    versions = ", ".join(
        f"{name} {version(name)}"
        for name in ("scikit-learn", "scikit-optimize", "optuna", "cmaes", "smac")
    )
    print(
        f"{datetime.date.today()}, {platform.machine()}, {os.cpu_count()} cores, "
        f"{versions}\n"
    )
    if args.command == "tables":
        print_tables(read(args.results))
    else:
        n_workers = 1 if args.command == "overhead" else args.workers
        run_all(make_tasks(args), args.results, n_workers)


if __name__ == "__main__":
    main()
