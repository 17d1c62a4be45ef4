"""Measure what each part of the training recipe of CNNClassifier is worth.

Each arm is CNNClassifier with the parameters of a recipe: "before" trains as it did
until its defaults changed, "default" as it does now, and each of the others takes one
part away from the default or adds one. The data are

- "flowers12": photographs of a folder, at 64 pixels;
- "cifar-small": those of a file, at 32 pixels;
- "shapes": 800 images to train and 400 to test that are made for each seed, of 32
  pixels.

A seed gives the split and the weights. 70 % of the training images train, class by
class. The others validate: they choose the learning rate, and are never trained on. The
error on the test images is what arms are compared by. "default" and "before", also with
as many layers as the default has, run at each rate; the others at the default one, and
so does "default" if it is not among them. With --all-rates, all arms run at each rate.
Training that diverges counts as guessing the most common class.

Seconds are those of the processor for `fit`, on one thread. Each run is appended to the
file as it ends, and what is there is not run again: remove the rows of a recipe that
has changed.

    python benchmarks/recipes.py --jobs 2
    python benchmarks/recipes.py --table
    python benchmarks/recipes.py --datasets shapes --arms before default --out new.csv

The second one prints the tables only.
"""

import argparse
import csv
import datetime
import multiprocessing
import pathlib
import platform
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import train_test_split

from sklearn_iis.cnn import CNNClassifier
from sklearn_iis.cnn._fine_tuned import LEARNING_RATE
from sklearn_iis.datasets import load_image_folder, make_shapes

# Parameters of CNNClassifier. "before" has them all, so that no new default changes it.
RECIPES: dict[str, dict] = {
    "before": {
        "n_conv_layers": 3,
        "n_filters": 32,
        "filter_size": 3,
        "n_hidden_layers": 1,
        "n_units": 128,
        "batch_norm": "conv",
        "pooling": "flatten",
        "dropout": 0.0,
        "optimizer": "sgd",
        "nesterov": False,
        "momentum": 0.9,
        "schedule": "constant",
        "schedule_epochs": None,
        "batch_size": 64,
        "l1": 0.0,
        "l2": 0.0,
        "max_epochs": 100,
        "flip": False,
        "shift": 0.0,
        "crop": 0.0,
        "erase": 0.0,
        "mixup": 0.0,
        "augment": None,
        "label_smoothing": 0.0,
        "criterion": None,
        "class_weight": None,
        "early_stopping": True,
        "monitor": "accuracy",
        "patience": 5,
        "validation_fraction": 0.1,
        "callbacks": None,
        "freeze_epochs": 0,
        "backbone_rate": 1.0,
        "precision": "auto",
    },
    "default": {},
    # Parts taken away.
    "15 epochs": {"max_epochs": 15},
    "constant rate": {"schedule": "constant"},
    "no shifts": {"shift": 0.0},
    "no label smoothing": {"label_smoothing": 0.0},
    "three layers": {"n_conv_layers": 3},
    "hidden units not normalised": {"batch_norm": "conv"},
    "batches of 64": {"batch_size": 64},
    # Parts that are not in the default.
    "flips": {"flip": True},
    "erased squares": {"erase": 0.3},
    "mixup": {"mixup": 0.2},
    "average pooling": {"pooling": "average"},
}
RECIPES["before, four layers"] = RECIPES["before"] | {"n_conv_layers": 4}
COMPARED = ("before", "default")
SWEPT = (*COMPARED, "before, four layers")  # at each rate
RATES = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0]
TOLERANCE = 1.2  # a rate is good if its error is at most this many times the best
ROOT = pathlib.Path(__file__).parents[1]


class Task(NamedTuple):
    """A run; its fields are the first columns of the results."""

    data: str
    arm: str
    learning_rate: float
    seed: int


COLUMNS = (
    *Task._fields,
    *("validation_error", "test_error", "cpu_seconds", "epochs", "date", "failed"),
)


def load_flowers12(folder, seed, size=64):
    parts = (folder / "flowers12" / part for part in ("train", "test"))
    return [load_image_folder(part, size=size, return_X_y=True) for part in parts]


def load_cifar_small(folder, seed):
    with np.load(folder / "cifar-small" / "cifar-small.npz") as file:
        return [(file[f"X_{part}"], file[f"y_{part}"]) for part in ("train", "test")]


def load_shapes(folder, seed):
    X, y = make_shapes(1200, size=32, n_classes=4, random_state=seed, return_X_y=True)
    return [(X[:800], y[:800]), (X[800:], y[800:])]


LOADERS = {
    "flowers12": load_flowers12,
    "cifar-small": load_cifar_small,
    "shapes": load_shapes,
}


@cache
def load(data, folder, seed):
    """Return images and labels to train, and to test."""
    return LOADERS[data](folder, seed)


def take(images, n_images, seed):
    """Return at most as many images, of all classes."""
    X, y = images
    if n_images is None or n_images >= len(y):
        return images
    X, _, y, _ = train_test_split(
        X, y, train_size=n_images, stratify=y, random_state=seed
    )
    return X, y


def make_classifier(task, max_epochs=None):
    classifier = CNNClassifier(
        learning_rate=task.learning_rate,
        random_state=task.seed,
        device="cpu",
        **RECIPES[task.arm],
    )
    if max_epochs is not None:
        classifier.set_params(max_epochs=max_epochs)
    return classifier


def run(task, folder, n_images=None, max_epochs=None):
    """Return the row of a run."""
    parts = load(task.data, folder, task.seed if task.data == "shapes" else None)
    train, test = (take(images, n_images, task.seed) for images in parts)
    X, X_valid, y, y_valid = train_test_split(
        *train, train_size=0.7, stratify=train[1], random_state=task.seed
    )
    model = make_classifier(task, max_epochs)
    failed = ""
    start = time.process_time()
    try:
        model.fit(X, y)
    except FloatingPointError as error:
        failed = str(error)
    seconds = time.process_time() - start
    if failed:
        model = DummyClassifier(strategy="most_frequent").fit(X, y)
    return {
        **task._asdict(),
        "validation_error": round(1 - model.score(X_valid, y_valid), 5),
        "test_error": round(1 - model.score(*test), 5),
        "cpu_seconds": round(seconds, 3),
        "epochs": "" if failed else model.n_iter_,
        "date": datetime.date.today(),
        "failed": failed,
    }


def warm_up():
    """Train on one thread: the first fit of a process is slower, and not measured."""
    torch.set_num_threads(1)
    X, y = make_shapes(40, size=8, n_classes=2, random_state=0, return_X_y=True)
    CNNClassifier(max_epochs=1, device="cpu", random_state=0).fit(X, y)


def list_tasks(args):
    default_rate = LEARNING_RATE
    tasks = []
    for seed in range(args.seeds):
        for data in args.datasets:
            for arm in args.arms:
                rates = set(args.rates if args.all_rates or arm in SWEPT else ())
                rates |= set() if arm.startswith("before") else {default_rate}
                tasks += [Task(data, arm, rate, seed) for rate in sorted(rates)]
    return tasks


def read_tasks(path):
    """Return the runs that have a row."""
    if not path.exists():
        return set()
    with path.open(newline="") as file:
        return {
            Task(row["data"], row["arm"], float(row["learning_rate"]), int(row["seed"]))
            for row in csv.DictReader(file)
        }


def run_all(args):
    """Run what has no row yet, and append one for each at once."""
    done = read_tasks(args.out)
    tasks = [task for task in list_tasks(args) if task not in done]
    print(f"{len(tasks)} runs to do\n", flush=True)
    if not tasks:
        return
    args.out.parent.mkdir(parents=True, exist_ok=True)
    pool = ProcessPoolExecutor(
        min(args.jobs, len(tasks)),
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
            futures = [pool.submit(run, task, *settings) for task in tasks]
            for future in as_completed(futures):
                row = future.result()
                writer.writerow(row)
                file.flush()
                print(*(row[name] for name in COLUMNS), flush=True)
    finally:
        pool.shutdown(cancel_futures=True)


def print_row(*cells):
    print("|", " | ".join(map(str, cells)), "|")


def print_header(*names):
    print_row(*names)
    print("|---" * len(names) + "|")


def split_arms(rows):
    """Return the rows of each arm, in the order of the recipes."""
    arms = dict(list(rows.groupby("arm", sort=False)))
    order = [arm for arm in RECIPES if arm in arms]
    return {arm: arms[arm] for arm in dict.fromkeys([*order, *arms])}


def take_best(rows):
    """Return the rows of the rate that is best in validation, the lowest of equals."""
    errors = rows.groupby("learning_rate")["validation_error"].median()
    return rows[rows["learning_rate"] == errors.idxmin()]


def print_best(arms):
    """Print what each arm reaches at the rate that was best in validation."""
    print_header(
        *("arm", "best rate", "runs", "diverged", "validation error", "test error"),
        *("quartiles", "of before", "processor seconds", "epochs"),
    )
    best = {arm: take_best(rows) for arm, rows in arms.items()}
    before = best["before"]["test_error"].median() if "before" in best else 0
    for arm, rows in best.items():
        low, error, high = np.percentile(rows["test_error"], [25, 50, 75])
        epochs = rows["epochs"].dropna()
        print_row(
            *(arm, f"{rows['learning_rate'].iloc[0]:g}", len(rows)),
            rows["failed"].notna().sum(),
            f"{rows['validation_error'].median():.3f}",
            *(f"{error:.3f}", f"{low:.3f} to {high:.3f}"),
            f"{error / before:.2f}" if before > 0 else "",
            f"{rows['cpu_seconds'].median():.1f}",
            f"{epochs.median():g}" if len(epochs) else "",
        )


def median_errors(rows):
    """Return the median test error of each rate."""
    return rows.groupby("learning_rate")["test_error"].median()


def print_rates(arms):
    """Print the median test error of each arm at each rate."""
    medians = {arm: median_errors(rows) for arm, rows in arms.items()}
    rates = sorted({rate for errors in medians.values() for rate in errors.index})
    print_header("arm", *(f"{rate:g}" for rate in rates))
    for arm, errors in medians.items():
        cells = (f"{errors[rate]:.3f}" if rate in errors else "" for rate in rates)
        print_row(arm, *cells)


def find_range(errors):
    """Return the first and the last of the good rates around the best, by position."""
    good = (errors <= TOLERANCE * errors.min() + 1e-9).to_numpy()
    first = last = int(errors.to_numpy().argmin())
    while first > 0 and good[first - 1]:
        first -= 1
    while last < len(good) - 1 and good[last + 1]:
        last += 1
    return first, last


def print_ranges(arms):
    """Print how wide the range of good rates is, among the rates of both arms."""
    medians = {arm: median_errors(arms[arm]) for arm in COMPARED if arm in arms}
    widths, parts = [], []
    for arm, errors in medians.items():
        for others in medians.values():
            errors = errors[errors.index.isin(others.index)]
        if not len(errors):
            return
        first, last = find_range(errors)
        low, high = errors.index[first], errors.index[last]
        widths.append(high / low)
        more = " or more" if first == 0 or last == len(errors) - 1 else ""
        parts.append(f"{arm} {low:g} to {high:g} ({widths[-1]:.3g} times{more})")
    if len(widths) == len(COMPARED):
        parts.append(f"quotient {widths[1] / widths[0]:.3g}")
    if parts:
        print(f"\nRates whose test error is within {TOLERANCE} times the best:")
        print("; ".join(parts) + ".")


def print_tables(rows):
    """Print the tables of each data set."""
    print(f"Measured from {rows['date'].min()} to {rows['date'].max()}.")
    for data in [data for data in LOADERS if data in set(rows["data"])]:
        arms = split_arms(rows[rows["data"] == data])
        print(f"\n### {data}\n\nMedians at the rate that was best in validation:\n")
        print_best(arms)
        print("\nMedian test error at each rate:\n")
        print_rates(arms)
        print_ranges(arms)


def parse_arguments(argv):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    results = ROOT / "benchmarks" / "results" / "recipes.csv"
    add("--datasets", nargs="+", choices=LOADERS, default=list(LOADERS))
    add("--arms", nargs="+", choices=RECIPES, default=list(RECIPES))
    add("--rates", type=float, nargs="+", default=RATES)
    add("--all-rates", action="store_true", help="for all arms")
    add("--seeds", type=int, default=5, help="how many")
    add("--jobs", type=int, default=2, help="processes")
    add("--out", type=pathlib.Path, default=results, help="CSV file of the results")
    add("--table", action="store_true", help="print the tables only")
    add(
        "--data",
        type=pathlib.Path,
        default=ROOT.parent / "shared" / "data",
        help="folder of flowers12 and cifar-small, by default ../shared/data",
    )
    add("--images", type=int, help="at most, for a trial; needs --out")
    add("--max-epochs", type=int, help="of all arms, for a trial; needs --out")
    args = parser.parse_args(argv)
    if args.out == results and (args.images or args.max_epochs):
        parser.error("--images and --max-epochs need an --out of their own")
    if args.table and not args.out.exists():
        parser.error(f"there are no results in '{args.out}'")
    for data in args.datasets:
        if not (args.table or data == "shapes" or (args.data / data).is_dir()):
            parser.error(f"there is no folder '{args.data / data}': see --data")
    return args


def main(argv=None):
    args = parse_arguments(argv)
    if not args.table:
        run_all(args)
    machine = f"{platform.machine()}, torch {torch.__version__}, one thread"
    print(f"{datetime.date.today()}, {machine}\n")
    print_tables(pd.read_csv(args.out))


if __name__ == "__main__":
    main()
