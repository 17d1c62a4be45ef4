"""Measure what a search delivers, against what it promised.

Each run is a random search of four candidates on one split, 70 % to train and 30 % to
validate, by one of the recipes below. What may be delivered is compared on the test
images, which no part of the search has seen:

- "own": the network that the winning evaluation has trained, whose validation error is
  what the search promised;
- "last fit": the winner's hyperparameters, fitted on all images (the default);
- "average of 2" and "average of 4": the probabilities of the networks of the best
  candidates, averaged.

The recipes tell where the spread of the last fit comes from: early stopping on a tenth
of the images, and the rest of the training. A seed gives the split, the candidates, and
the weights; of "shapes", also the images. Each run is appended to the file as it ends,
and what is there is not run again.

    python -m benchmarks.last_fit --jobs 2
    python -m benchmarks.last_fit --table
"""

import argparse
import csv
import datetime
import multiprocessing
import pathlib
import time
from concurrent.futures import ProcessPoolExecutor, as_completed

import numpy as np
import pandas as pd
from scipy.stats import loguniform, randint
from sklearn.base import clone
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.pipeline import Pipeline

from benchmarks.recipes import RECIPES, ROOT, load, take, warm_up
from sklearn_iis import CNNClassifier, IISSearchCV, ImageResizer

DATA = ("flowers12", "shapes")
SIZE = 32
N_ITER = 4
ARMS = {
    "before": RECIPES["before"],
    "default, stopped early": {"early_stopping": True},
    "default": {},
}
SPACE = {
    "cnn__learning_rate": loguniform(3e-3, 0.3),
    "cnn__n_filters": randint(16, 49),
    "cnn__l2": loguniform(1e-6, 1e-2),
}
DELIVERED = ("own", "last_fit", "average_of_2", "average_of_4")
JOB = ("data", "arm", "seed")
COLUMNS = (*JOB, "promised", *DELIVERED, "last_fit_seconds", "cpu_seconds", "date")


def run(data, arm, seed, folder, n_images=None, max_epochs=None):
    """Return the errors of all that may be delivered by a search."""
    parts = load(data, folder, seed if data == "shapes" else None)
    (X, y), (X_test, y_test) = (take(images, n_images, seed) for images in parts)
    settings = ARMS[arm] | ({} if max_epochs is None else {"max_epochs": max_epochs})
    network = CNNClassifier(device="cpu", random_state=seed, **settings)
    search = IISSearchCV(
        Pipeline([("resize", ImageResizer()), ("cnn", network)]),
        SPACE,
        sizes=(SIZE,),
        n_iter=N_ITER,
        cv=StratifiedShuffleSplit(1, test_size=0.3, random_state=seed),
        n_averaged=N_ITER,
        random_state=seed,
    )
    start = time.process_time()
    search.fit(X, y)
    middle = time.process_time()
    last_fit = clone(search.estimator).set_params(**search.best_params_).fit(X, y)
    end = time.process_time()
    members = [
        pipe.predict_proba(X_test) for pipe in search.best_estimator_.estimators_
    ]

    def error(probabilities):
        predicted = search.classes_[probabilities.argmax(axis=1)]
        return round(float(np.mean(predicted != y_test)), 5)

    errors = [
        error(members[0]),
        error(last_fit.predict_proba(X_test)),
        error(np.mean(members[:2], axis=0)),
        error(np.mean(members, axis=0)),
    ]
    return {
        **dict(zip(JOB, (data, arm, seed), strict=True)),
        "promised": round(1 - search.best_score_, 5),
        **dict(zip(DELIVERED, errors, strict=True)),
        "last_fit_seconds": round(end - middle, 2),
        "cpu_seconds": round(middle - start, 2),
        "date": datetime.date.today(),
    }


def run_all(args):
    """Run what has no row yet, and append one for each at once."""
    done = set()
    if args.out.exists() and args.out.stat().st_size:
        rows = pd.read_csv(args.out)
        done = set(zip(rows["data"], rows["arm"], rows["seed"], strict=True))
    tasks = [
        (data, arm, seed)
        for seed in range(args.seeds)
        for data in args.datasets
        for arm in args.arms
        if (data, arm, seed) not in done
    ]
    print(f"{len(tasks)} runs to do\n", flush=True)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    pool = ProcessPoolExecutor(
        args.jobs,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=warm_up,
    )
    settings = (args.data, args.images, args.max_epochs)
    try:
        with args.out.open("a", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            if file.tell() == 0:
                writer.writeheader()
                file.flush()
            for future in as_completed(
                [pool.submit(run, *task, *settings) for task in tasks]
            ):
                row = future.result()
                writer.writerow(row)
                file.flush()
                print(*row.values(), flush=True)
    finally:
        pool.shutdown(cancel_futures=True)


def print_table(rows):
    """Print means and standard deviations over the seeds."""
    columns = ["promised", *DELIVERED]
    print(f"| data | arm | seeds | {' | '.join(columns)} | last fit - own |")
    print("|---" * (len(columns) + 4) + "|")
    for (data, arm), group in rows.groupby(["data", "arm"], sort=False):
        cells = [f"{group[c].mean():.3f} ± {group[c].std():.3f}" for c in columns]
        difference = (group["last_fit"] - group["own"]).mean()
        cells = [data, arm, f"{len(group)}", *cells, f"{difference:+.3f}"]
        print(f"| {' | '.join(cells)} |")


def parse_arguments(argv):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--datasets", nargs="+", choices=DATA, default=list(DATA))
    add("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    add("--seeds", type=int, default=10, help="how many")
    add("--jobs", type=int, default=2, help="processes")
    add("--out", type=pathlib.Path, default=ROOT / "benchmarks/results/last_fit.csv")
    add("--table", action="store_true", help="print the table only")
    add("--data", type=pathlib.Path, default=ROOT.parent / "shared" / "data")
    add("--images", type=int, help="at most, for a trial")
    add("--max-epochs", type=int, help="of all arms, for a trial")
    return parser.parse_args(argv)


def main(argv=None):
    args = parse_arguments(argv)
    if not args.table:
        run_all(args)
    print(f"{datetime.date.today()}, means and standard deviations\n")
    print_table(pd.read_csv(args.out))


if __name__ == "__main__":
    main()
