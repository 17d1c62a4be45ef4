"""Measure what an evaluation of the last stage costs, with weights that are inherited.

One network, which is not tuned, is trained in two ways:

- "inherited": at each size of the race from the weights of the size before, for the
  epochs of the race's ladder;
- "from scratch": at the last size only, for each of several numbers of epochs.

The question is how long training from scratch takes to the test error of the other one.
A seed gives the split and the weights; 70 % of the training images train, the others
validate. Seconds are those of the processor for `fit`, on one thread: at the last size,
and at all. Each run is appended to the file as it ends, and what is there is not run
again.

    python -m benchmarks.growing --jobs 2
    python -m benchmarks.growing --table
"""

import argparse
import csv
import datetime
import multiprocessing
import pathlib
import platform
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import NamedTuple

import pandas as pd
import torch
from sklearn.model_selection import train_test_split

from benchmarks.race import COURSES, RECIPE, list_epochs
from benchmarks.recipes import ROOT, print_header, print_row, take, warm_up
from sklearn_iis import CNNClassifier, ImageResizer

FROM_SCRATCH = (15, 30, 60, 90)
SAME = 0.005  # errors that differ by less are taken for the same


class Task(NamedTuple):
    """A run; its fields are the first columns of the results."""

    data: str
    arm: str
    epochs: int  # at the last size
    seed: int


COLUMNS = (
    *Task._fields,
    *("last_seconds", "all_seconds", "valid_error", "test_error", "date"),
)


def run(task, folder, n_images=None, max_epochs=None):
    """Return the row of a run."""
    course = COURSES[task.data]
    train, test = (
        take(images, n_images, task.seed) for images in course.load(folder, task.seed)
    )
    X, X_valid, y, y_valid = train_test_split(
        *train, train_size=0.7, stratify=train[1], random_state=task.seed
    )
    model = CNNClassifier(device="cpu", random_state=task.seed, **RECIPE)
    steps = [(course.sizes[-1], task.epochs)]
    if task.arm == "inherited":
        model.set_params(warm_start="weights")
        steps = list(zip(course.sizes, list_epochs(course.sizes), strict=True))
    seconds = []
    for size, epochs in steps:
        images = ImageResizer(size).fit_transform(X)
        start = time.process_time()
        model.set_params(max_epochs=min(epochs, max_epochs or epochs))
        model.fit(images, y)
        seconds.append(time.process_time() - start)
    resizer = ImageResizer(course.sizes[-1])
    errors = [
        1 - model.score(resizer.transform(images), labels)
        for images, labels in ((X_valid, y_valid), test)
    ]
    return {
        **task._asdict(),
        "last_seconds": round(seconds[-1], 3),
        "all_seconds": round(sum(seconds), 3),
        "valid_error": round(errors[0], 5),
        "test_error": round(errors[1], 5),
        "date": datetime.date.today(),
    }


def list_tasks(args):
    """Return all runs, those of a seed together."""
    tasks = []
    for data in args.datasets:
        own = list_epochs(COURSES[data].sizes)[-1]
        for seed in range(args.seeds):
            tasks.append(Task(data, "inherited", own, seed))
            tasks += [Task(data, "from scratch", n, seed) for n in args.epochs]
    return tasks


def run_all(args):
    """Run what has no row yet, and append one for each at once."""
    done = set()
    if args.out.exists():
        rows = pd.read_csv(args.out)[list(Task._fields)]
        done = set(rows.itertuples(index=False, name=None))
    tasks = [task for task in list_tasks(args) if task not in done]
    print(f"{len(tasks)} runs to do\n", flush=True)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    pool = ProcessPoolExecutor(
        args.jobs,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=warm_up,
    )
    settings = (args.data, args.images, args.max_epochs)
    try:
        futures = [pool.submit(run, task, *settings) for task in tasks]
        for future in as_completed(futures):
            row = future.result()
            with args.out.open("a", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
                if file.tell() == 0:
                    writer.writeheader()
                writer.writerow(row)
            print(*row.values(), flush=True)
    finally:
        pool.shutdown(cancel_futures=True)


def find_peer(rows):
    """Return the shortest training from scratch with the error of the inherited one.

    None if none comes to it. Errors and seconds are medians over the seeds.
    """
    medians = rows.groupby(["arm", "epochs"])[["last_seconds", "test_error"]].median()
    inherited = medians.loc["inherited"].iloc[0]
    scratch = medians.loc["from scratch"].sort_index()
    reached = scratch[scratch["test_error"] <= inherited["test_error"] + SAME]
    if not len(reached):
        return None
    peer = reached.iloc[0]
    return reached.index[0], inherited["last_seconds"] / peer["last_seconds"]


def print_table(rows):
    """Print a row for each arm: medians over the seeds, and the range of errors."""
    print_header(
        *("arm", "epochs at the last size", "seeds", "seconds at the last size"),
        *("in all", "validation error", "test error", "from", "to"),
    )
    for (arm, epochs), group in rows.groupby(["arm", "epochs"], sort=False):
        middle = group.median(numeric_only=True)
        print_row(
            *(arm, epochs, len(group), f"{middle['last_seconds']:.1f}"),
            *(f"{middle['all_seconds']:.1f}", f"{middle['valid_error']:.3f}"),
            *(f"{middle['test_error']:.3f}", f"{group['test_error'].min():.3f}"),
            f"{group['test_error'].max():.3f}",
        )
    if {"inherited", "from scratch"} <= set(rows["arm"]):
        peer = find_peer(rows)
        if peer is None:
            print("\nNo training from scratch comes to the error of the inherited one.")
        else:
            print(
                f"\nThe shortest training from scratch with its error, within {SAME}, "
                f"has {peer[0]} epochs: the inherited one takes {peer[1]:.2f} of its "
                "time at the last size."
            )


def parse_arguments(argv):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    results = ROOT / "benchmarks" / "results" / "growing.csv"
    add("--datasets", nargs="+", choices=COURSES, default=["flowers12 64 px"])
    add("--epochs", type=int, nargs="+", default=FROM_SCRATCH, help="from scratch")
    add("--seeds", type=int, default=3, help="how many")
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
    return args


def main(argv=None):
    args = parse_arguments(argv)
    if not args.table:
        run_all(args)
    rows = pd.read_csv(args.out)
    print(f"{platform.machine()}, torch {torch.__version__}, one thread; measured")
    print(f"from {rows['date'].min()} to {rows['date'].max()}. Medians.\n")
    for data, group in rows.groupby("data", sort=False):
        print(f"### {data}\n")
        print_table(group)


if __name__ == "__main__":
    main()
