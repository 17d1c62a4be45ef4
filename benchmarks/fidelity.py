"""Compare searches on formulas with sizes that cost less and mislead: regret by cost.

    python -m benchmarks.fidelity run results.csv --seeds 5
    python -m benchmarks.fidelity tables results.csv

Nothing is trained. A formula has a size, 16, 32 or 64; at 64 it is that of
`benchmarks/searches.py`, and an evaluation costs 1; at a smaller one it is biased, and
costs as many times less as it has fewer pixels. The regret is how far the best of the
candidates that were evaluated at 64 is from the optimum; whoever stays at small sizes
has none. "bayes" and "random" evaluate at 64 only, "fabolas" and "ladder" at all sizes,
for the same cost in all. The search's own time is no part of the cost.

"run" appends what it finds to the file, run by run, and skips what is there. "tables"
prints what is there in Markdown.
"""

import argparse
import csv
import datetime
import math
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import uniform

from benchmarks.searches import Branin, Hartmann6
from sklearn_iis import IISSearchCV
from sklearn_iis.searches import get_search

SIZES = (16, 32, 64)
COSTS = {size: (size / SIZES[-1]) ** 2 for size in SIZES}
CHECKPOINTS = (0.25, 0.5, 0.75, 1.0)

COLUMNS = (
    *("formula", "search", "seed", "date", "seconds"),
    *("n_evaluations", "costs", "regrets"),
)


@dataclass(eq=False)
class SizedBranin(Branin):
    """BoTorch's AugmentedBranin: the size bends the valley."""

    size: int = 64

    budget = 24

    def loss(self):
        rest = 1 - self.size / SIZES[-1]
        bend = self.y - (5.1 / (4 * math.pi**2) - 0.1 * rest) * self.x**2
        bend += 5 / math.pi * self.x - 6
        return bend**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(self.x) + 10


@dataclass(eq=False)
class SizedHartmann6(Hartmann6):
    """BoTorch's AugmentedHartmann: the size changes how deep a minimum is."""

    size: int = 64

    budget = 32

    def loss(self):
        heights = self.heights - [0.1 * (1 - self.size / SIZES[-1]), 0, 0, 0]
        x = np.array([getattr(self, name) for name in self.space])
        exponents = (self.widths * (x - self.centres) ** 2).sum(axis=1)
        return float(-heights @ np.exp(-exponents))


@dataclass(eq=False)
class MovedHartmann6(Hartmann6):
    """All minima move with the size, and small sizes score lower."""

    size: int = 64

    budget = 32

    def loss(self):
        rest = 1 - self.size / SIZES[-1]
        x = np.array([getattr(self, name) for name in self.space])
        exponents = (self.widths * (x - self.centres - 0.08 * rest) ** 2).sum(axis=1)
        return float(-self.heights @ np.exp(-exponents)) + 0.5 * rest


@dataclass(eq=False)
class UnrelatedBranin(SizedBranin):
    """Small sizes say nothing: there the valley is somewhere else."""

    space = {"x": uniform(-5, 15), "y": uniform(0, 15)}

    def loss(self):
        if self.size == SIZES[-1]:
            return super().loss()
        mirrored = SizedBranin(x=5 - self.x, y=15 - self.y)
        return mirrored.loss()


FORMULAS = {
    "Branin": SizedBranin,
    "Hartmann 6": SizedHartmann6,
    "moved Hartmann 6": MovedHartmann6,
    "unrelated Branin": UnrelatedBranin,
}

# Whether they evaluate at all sizes, and their settings.
SEARCHES = {
    "fabolas": (True, {}),
    "bayes": (False, {}),
    "ladder": (True, {"factor": 4}),
    "random": (False, {}),
}


def run(formula_name, search_name, seed):
    """Return a row of the results."""
    formula = FORMULAS[formula_name]
    crosses, params = SEARCHES[search_name]
    get_search(search_name)  # imports are not counted
    sizes, n_iter = SIZES[-1:], formula.budget
    if crosses:
        # A third of the cost for each size.
        sizes, third = SIZES, formula.budget // 3
        n_iter = (third * 16, third * 4, formula.budget - 2 * third)
    search = IISSearchCV(
        formula(),
        formula.space,
        sizes=sizes,
        size_param="size",
        search=search_name,
        search_params=params,
        n_iter=n_iter,
        cv=[(np.arange(5), np.arange(5, 10))],
        refit=False,
        random_state=seed,
    )
    start = time.perf_counter()
    with warnings.catch_warnings(action="ignore"):
        search.fit(np.zeros((10, 1)))
    seconds = time.perf_counter() - start
    costs, regrets = measure(search, formula)
    return {
        "formula": formula_name,
        "search": search_name,
        "seed": seed,
        "date": datetime.date.today(),
        "seconds": f"{seconds:.4g}",
        "n_evaluations": " ".join(str(len(s.candidates_)) for s in search.stages_),
        "costs": " ".join(f"{cost:.6g}" for cost in costs),
        "regrets": " ".join(f"{regret:.6g}" for regret in regrets),
    }


def measure(search, formula):
    """Return the costs so far, and the regrets, after each improvement at full size."""
    rows = search.cv_results_["params"]
    if hasattr(search.stages_[0], "order_"):
        order = np.concatenate([stage.order_ for stage in search.stages_])
        rows = [rows[i] for i in np.argsort(order)]
    spent, best = 0.0, math.inf
    costs, regrets = [], []
    for params in rows:
        spent += COSTS[params["size"]]
        if params["size"] == SIZES[-1]:
            regret = formula(**params).regret()
            if regret < best:
                best = regret
                costs.append(spent)
                regrets.append(regret)
    return costs, regrets


def read(path):
    """Return the rows of the results by formula, search and seed."""
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        return {
            (row["formula"], row["search"], int(row["seed"])): row
            for row in csv.DictReader(file)
        }


def run_all(args):
    """Run what has no row yet, seed by seed, and append one for each at once."""
    known = read(args.results)
    for seed in range(args.seeds):
        for formula in args.formulas:
            for search in args.searches:
                if (formula, search, seed) in known:
                    continue
                row = run(formula, search, seed)
                is_new = not args.results.exists()
                with args.results.open("a", newline="") as file:
                    writer = csv.DictWriter(file, COLUMNS)
                    if is_new:
                        writer.writeheader()
                    writer.writerow(row)
                print(formula, search, seed, row["n_evaluations"], row["seconds"])


def find_regret(row, cost):
    """Return the regret once so much is spent; infinite before anything is known."""
    costs, regrets = list_steps(row)
    return min(
        (r for c, r in zip(costs, regrets, strict=True) if c <= cost), default=math.inf
    )


def find_cost(row, regret):
    """Return what was spent until a regret was reached; infinite if it never was."""
    costs, regrets = list_steps(row)
    return next(
        (c for c, r in zip(costs, regrets, strict=True) if r <= regret), math.inf
    )


def list_steps(row):
    return ([float(v) for v in row[name].split()] for name in ("costs", "regrets"))


def print_tables(rows):
    for formula in FORMULAS:
        costs = [FORMULAS[formula].budget * part for part in CHECKPOINTS]
        columns = " | ".join(f"after {cost:g}" for cost in costs)
        print(f"\n### {formula}: regret by cost, median (quartiles)\n")
        print(f"| search | seeds | {columns} | cost to bayes's regret | evaluations |")
        print("|---" * (len(costs) + 4) + "|")
        for search in SEARCHES:
            own = {s: rows[f, n, s] for f, n, s in rows if (f, n) == (formula, search)}
            if own:
                regrets = " | ".join(format_regrets(own, cost) for cost in costs)
                ratio = format_ratio(rows, formula, own)
                counts = format_counts(own)
                print(f"| {search} | {len(own)} | {regrets} | {ratio} | {counts} |")


def format_regrets(own, cost):
    regrets = [find_regret(row, cost) for row in own.values()]
    low, median, high = np.percentile(regrets, [25, 50, 75], method="nearest")
    return f"{median:.2g} ({low:.2g} to {high:.2g})"


def format_counts(own):
    counts = [[*map(int, row["n_evaluations"].split())] for row in own.values()]
    return " + ".join(f"{n:.0f}" for n in np.median(counts, axis=0))


def format_ratio(rows, formula, own):
    """Return the median cost until a seed has the regret that bayes ends with.

    As a fraction of that at which bayes has it on the same seed.
    """
    ratios = []
    for seed, row in own.items():
        if (reference := rows.get((formula, "bayes", seed))) is not None:
            target = find_regret(reference, math.inf)
            ratios.append(find_cost(row, target) / find_cost(reference, target))
    n_reached = np.isfinite(ratios).sum()
    median = np.median(ratios)
    told = f"{median:.2f}" if np.isfinite(median) else "never"
    return f"{told} (reached in {n_reached} of {len(ratios)})"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["run", "tables"])
    parser.add_argument("results", type=Path, help="a file of comma-separated values")
    parser.add_argument("--searches", nargs="+", choices=SEARCHES, default=[*SEARCHES])
    parser.add_argument("--formulas", nargs="+", choices=FORMULAS, default=[*FORMULAS])
    parser.add_argument("--seeds", type=int, default=20, help="how many")
    args = parser.parse_args()
    if args.command == "run":
        run_all(args)
    else:
        print_tables(read(args.results))


if __name__ == "__main__":
    main()
