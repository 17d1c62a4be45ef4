"""Race the staged search against what users would take in its place.

Error over seconds of the processor, on one thread. All arms tune the same network by
the same recipe over the same space, and train and validate on the same split, 70 % to
30 %. A seed gives the split, the candidates and the weights. The arms are

- "fabolas": a model of all sizes chooses candidates and sizes, no weights inherited;
- "random": random search at full size;
- "tpe": Optuna's TPE at full size, with its median pruner;
- "tpe, size too": the same with the size as one more hyperparameter: so far the
  strongest peer;
- "halving": candidates at random at full size, by Optuna's successive halving;
- "few epochs": candidates at random at full size with a third of the epochs for two
  thirds of the time, then the best of them in order with all (arXiv 2404.04111);
- "stages": random search at one size after the other, no weights inherited;
- "ladder": candidates climb from size to size and take their weights along. They train
  10 epochs at the first size, 30 at the second and 10 at each further one, which was
  chosen by hand on flowers12 at 64 px, seeds 10 to 12.

Optuna's arms validate after each epoch, as pruners need it, and pay for it.

What an arm delivers at a time is the network with the lowest validation error so far;
it is not fitted again. What has not ended when the time is up does not count. Nor do
seconds in which test images are scored, which no arm sees: that is done for each
network that is better in validation than those before it.

A row of the results is an evaluation that ended: its seconds, size and epochs, and its
errors; the test error of those only that are better than all before. The epochs are
those at its size. A second file, "<name>_runs.csv", tells which runs are complete.
These are not run again; rows of others are removed.

    python -m benchmarks.race --jobs 2
    python -m benchmarks.race --table --plot race.png
    python -m benchmarks.race --datasets "shapes 32 px" --seconds 20 --out trial.csv

The second one runs nothing. The images of the third one are made on the spot.
"""

import argparse
import csv
import datetime
import math
import multiprocessing
import pathlib
import platform
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import optuna
import pandas as pd
import torch
from optuna.pruners import MedianPruner, SuccessiveHalvingPruner
from optuna.samplers import RandomSampler, TPESampler
from scipy.stats import loguniform, randint
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.pipeline import Pipeline
from skorch.callbacks import Callback
from threadpoolctl import threadpool_limits

from benchmarks.recipes import (
    ROOT,
    load_cifar_small,
    load_flowers12,
    load_shapes,
    print_header,
    print_row,
    take,
    warm_up,
)
from sklearn_iis import CNNClassifier, IISSearchCV, ImageResizer, SearchSpace
from sklearn_iis._optuna import optuna_errors_only
from sklearn_iis.inspection.displays._plotting import DASHES, SERIES_COLORS


class Course(NamedTuple):
    """A data set, the sizes it is searched at, and the seconds of each arm."""

    load: Callable
    sizes: tuple[int, ...]
    seconds: float


COURSES = {
    "flowers12 64 px": Course(load_flowers12, (16, 32, 64), 200),
    "flowers12 128 px": Course(
        partial(load_flowers12, size=128), (16, 32, 64, 128), 400
    ),
    "cifar-small 32 px": Course(load_cifar_small, (8, 16, 32), 100),
    "shapes 32 px": Course(load_shapes, (16, 24, 32), 60),
}
TRIAL = "shapes 32 px"  # run only if it is asked for

RECIPE = {"pooling": "average", "max_epochs": 30, "flip": True}

SPACE = {
    "learning_rate": loguniform(1e-3, 1),
    "n_conv_layers": [1, 2, 3, 4],
    "n_filters": randint(8, 49),
    "filter_size": [3, 5],
    "n_hidden_layers": [1, 2],
    "n_units": [32, 64, 128, 256],
    "l2": loguniform(1e-6, 1e-2),
    "batch_size": [16, 32, 64],
}


def suggest(trial):
    """Return a candidate of the same space, as Optuna proposes it."""
    return {
        "learning_rate": trial.suggest_float("learning_rate", 1e-3, 1, log=True),
        "n_conv_layers": trial.suggest_int("n_conv_layers", 1, 4),
        "n_filters": trial.suggest_int("n_filters", 8, 48),
        "filter_size": trial.suggest_int("filter_size", 3, 5, step=2),
        "n_hidden_layers": trial.suggest_int("n_hidden_layers", 1, 2),
        "n_units": 2 ** trial.suggest_int("log2_n_units", 5, 8),
        "l2": trial.suggest_float("l2", 1e-6, 1e-2, log=True),
        "batch_size": 2 ** trial.suggest_int("log2_batch_size", 4, 6),
    }


FULL, ALL = slice(-1, None), slice(None)  # sizes of a course
REFERENCE = "tpe, size too"
SHARES = (0.1, 0.25, 0.5, 1.0)  # of the time, at which the table tells errors
NOTHING = 1.0  # the error of an arm that has nothing to deliver yet


class Task(NamedTuple):
    """A run; its fields are the first columns of both files."""

    data: str
    arm: str
    seed: int


KEY = list(Task._fields)
COLUMNS = (*KEY, "seconds", "size", "epochs", "valid_error", "test_error")
RUN_COLUMNS = (*KEY, "budget", "seconds", "threads", "machine", "date")


class Clock:
    """Seconds of the processor that this process took, but for those left out."""

    def __init__(self):
        self.left_out = 0.0

    def __call__(self):
        return time.process_time() - self.left_out

    @contextmanager
    def stopped(self):
        start = time.process_time()
        try:
            yield
        finally:
            self.left_out += time.process_time() - start


CLOCK = Clock()


@dataclass
class Race:
    """Data, splits and clock that all arms share, and the rows of the one that runs."""

    X: np.ndarray
    y: np.ndarray  # from 0, as networks predict it
    train: np.ndarray  # indices of images
    valid: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray
    sizes: tuple[int, ...]
    budget: float
    seed: int
    max_epochs: int
    start: float = field(default_factory=CLOCK)
    rows: list[dict[str, Any]] = field(default_factory=list)
    resized: dict[int, np.ndarray] = field(default_factory=dict)

    @property
    def seconds(self):
        return CLOCK() - self.start

    @property
    def is_over(self):
        return self.seconds >= self.budget

    def make_network(self, **params):
        recipe = RECIPE | {"max_epochs": self.max_epochs} | params
        return CNNClassifier(device="cpu", random_state=self.seed, **recipe)

    def images(self, size):
        """Return all images at a size; they are resized once."""
        if size not in self.resized:
            self.resized[size] = ImageResizer(size).fit_transform(self.X)
        return self.resized[size]

    def validate(self, model, size):
        """Return the validation error of a classifier, or of its net."""
        predicted = model.predict(self.images(size)[self.valid])
        return float(np.mean(predicted != self.y[self.valid]))

    def note(self, network, size, error):
        """Write down an evaluation that has just ended, if it ended in time."""
        if self.is_over:
            return
        row = {"seconds": round(self.seconds, 3), "size": size}
        row |= {"epochs": network.n_iter_, "valid_error": round(error, 5)}
        row["test_error"] = ""
        if all(row["valid_error"] < other["valid_error"] for other in self.rows):
            with CLOCK.stopped():
                predicted = network.predict(ImageResizer(size).transform(self.X_test))
                row["test_error"] = round(float(np.mean(predicted != self.y_test)), 5)
        self.rows.append(row)


def score(race, pipeline, X, y):
    """Return the validation accuracy of a network, and write it down."""
    error = float(np.mean(pipeline.predict(X) != y))
    race.note(pipeline["cnn"], pipeline["resize"].size, error)
    return 1 - error


def make_search(race, sizes, **settings):
    """Return our own search; sizes are a slice of those of the course."""
    return IISSearchCV(
        Pipeline([("resize", ImageResizer()), ("cnn", race.make_network())]),
        {f"cnn__{name}": values for name, values in SPACE.items()},
        sizes=race.sizes[sizes],
        **{"n_iter": None} | settings,
    )


def run_search(race, search, score=score):
    """Run a search on the data, the split and the time of a race."""
    search.set_params(
        timeout=race.budget - race.seconds,
        cv=[(race.train, race.valid)],
        scoring=partial(score, race),
        refit=False,
        random_state=race.seed,
    )
    with suppress(TimeoutError):  # no candidate was evaluated in time
        search.fit(race.X, race.y)


def search(race, sizes, **settings):
    """Run our own search."""
    run_search(race, make_search(race, sizes, **settings))


def list_epochs(sizes):
    """Return how long the ladder trains at each size."""
    return [10, 30, *[10] * len(sizes)][: len(sizes)]


def make_ladder(race):
    """Return the ladder, with fewer epochs in a trial."""
    epochs = [min(n, race.max_epochs) for n in list_epochs(race.sizes)]
    stage_params = {"cnn__max_epochs": epochs}
    settings = {"inherit_weights": True, "stage_params": stage_params}
    return make_search(race, ALL, search="ladder", **settings)


def climb(race):
    run_search(race, make_ladder(race))


class EachEpoch(Callback):
    """Calls a function after each epoch. Callbacks are copied, functions are not."""

    def __init__(self, function):
        self.function = function

    def on_epoch_end(self, net, **kwargs):
        self.function(net)


def train(race, params, size, after_epoch):
    """Return a network that is trained at a size, without our search."""
    network = race.make_network(**params, callbacks=[EachEpoch(after_epoch)])
    return network.fit(race.images(size)[race.train], race.y[race.train])


def optimize(race, sizes, make_sampler, make_pruner):
    """Run Optuna as its users do: validate and report each epoch."""

    def stop_in_time(study, trial):
        if race.is_over:
            study.stop()

    with optuna_errors_only():
        study = optuna.create_study(
            sampler=make_sampler(seed=race.seed),
            pruner=make_pruner(race),
            direction="maximize",
        )
        objective = partial(run_trial, race, race.sizes[sizes])
        study.optimize(objective, callbacks=[stop_in_time])


def run_trial(race, sizes, trial):
    """Return the validation accuracy of a trial; what diverges has none."""
    params, size = suggest(trial), sizes[0]
    if len(sizes) > 1:
        size = trial.suggest_categorical("size", sizes)
    error = 1.0

    def after_epoch(net):
        nonlocal error
        error, epoch = race.validate(net, size), len(net.history)
        trial.report(1 - error, epoch)
        # At the last epoch there is nothing left to save.
        is_hopeless = epoch < race.max_epochs and trial.should_prune()
        if race.is_over or is_hopeless:
            raise optuna.TrialPruned

    try:
        network = train(race, params, size, after_epoch)
    except FloatingPointError:
        return 0.0  # the worst of all; Optuna would learn nothing from a failure
    race.note(network, size, error)
    return 1 - error


def make_median_pruner(race):
    return MedianPruner()


def make_halving_pruner(race):
    """Return one that thins out trials after 4 of 30 epochs, and after 12."""
    first = math.ceil(race.max_epochs / 9)
    return SuccessiveHalvingPruner(min_resource=first, reduction_factor=3)


class TimeUpError(Exception):
    """Ends training when there is no time left."""


def try_few_epochs(race):
    """Try many candidates with few epochs, then the best with all."""
    space, few = SearchSpace(SPACE), math.ceil(race.max_epochs / 3)
    tried = []
    with suppress(TimeUpError):
        for codes in space.draw(random_state=race.seed):
            params = space.decode(codes)
            tried.append((evaluate(race, params, few), params))
            if race.seconds >= race.budget * 2 / 3:
                break
        for _, params in sorted(tried, key=lambda pair: pair[0]):
            evaluate(race, params, race.max_epochs)


def evaluate(race, params, max_epochs):
    """Return the validation error of a candidate at full size."""
    size = race.sizes[-1]

    def after_epoch(net):
        if race.is_over:
            raise TimeUpError

    try:
        network = train(race, params | {"max_epochs": max_epochs}, size, after_epoch)
    except FloatingPointError:
        after_epoch(None)
        return 1.0
    error = race.validate(network, size)
    race.note(network, size, error)
    return error


ARMS = {
    "fabolas": partial(search, sizes=ALL, search="fabolas"),
    "random": partial(search, sizes=FULL),
    "tpe": partial(
        optimize, sizes=FULL, make_sampler=TPESampler, make_pruner=make_median_pruner
    ),
    "tpe, size too": partial(
        optimize, sizes=ALL, make_sampler=TPESampler, make_pruner=make_median_pruner
    ),
    "halving": partial(
        optimize,
        sizes=FULL,
        make_sampler=RandomSampler,
        make_pruner=make_halving_pruner,
    ),
    "few epochs": try_few_epochs,
    "stages": partial(search, sizes=ALL),
    "ladder": climb,
}
STYLES = {
    arm: {"color": color, "linestyle": DASHES[i % len(DASHES)]}
    for i, (arm, color) in enumerate(
        zip(reversed(ARMS), (*SERIES_COLORS, "#56B4E9", "#888888"), strict=True)
    )
}


def make_race(task, course, folder, n_images=None, max_epochs=None, seconds=None):
    """Return the race of a run; it begins."""
    parts = course.load(folder, task.seed)
    (X, y), (X_test, y_test) = (take(images, n_images, task.seed) for images in parts)
    classes, y = np.unique(y, return_inverse=True)
    splitter = StratifiedShuffleSplit(1, test_size=0.3, random_state=task.seed)
    return Race(
        X,
        y,
        *next(splitter.split(X, y)),
        X_test,
        np.searchsorted(classes, y_test),
        course.sizes,
        course.seconds if seconds is None else seconds,
        task.seed,
        RECIPE["max_epochs"] if max_epochs is None else max_epochs,
    )


def run(task, course, compete, *settings):
    """Return the rows of a run, and that of the run itself."""
    race = make_race(task, course, *settings)
    compete(race)
    about = task._asdict() | {
        "budget": race.budget,
        "seconds": round(race.seconds, 3),
        "threads": torch.get_num_threads(),
        "machine": f"{platform.machine()} torch {torch.__version__}",
        "date": datetime.date.today(),
    }
    return [task._asdict() | row for row in race.rows], about


def begin_worker():
    """Train and search once, on one thread; then have deadlines count our seconds.

    The package asks `time.monotonic`, through the module, when a search has to end.
    Seconds of the processor in its place make that independent of what else the machine
    does. What waits for others, as `threading` does, has imported the function before.
    """
    threadpool_limits(1)
    warm_up()
    for arm in ("random", "tpe"):
        run(Task(TRIAL, arm, 0), COURSES[TRIAL], ARMS[arm], None, 40, 1, 1)
    time.monotonic = time.perf_counter = CLOCK


def name_runs(path):
    """Return the path of the file that tells which runs are complete."""
    return path.with_name(f"{path.stem}_runs.csv")


def read(path, columns):
    """Return the rows of a file, none if there is no file."""
    return pd.read_csv(path) if path.exists() else pd.DataFrame(columns=columns)


def drop_incomplete(path):
    """Remove the rows of runs that were killed; return the complete runs."""
    runs = read(name_runs(path), RUN_COLUMNS)
    done = {Task(*key) for key in runs[KEY].itertuples(index=False)}
    rows = read(path, COLUMNS)
    complete = [Task(*key) in done for key in rows[KEY].itertuples(index=False)]
    if not all(complete):
        rows[complete].to_csv(path, index=False)
    return done


def append(path, columns, rows):
    """Append rows to a file, which has a header."""
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        if file.tell() == 0:
            writer.writeheader()
        writer.writerows(rows)


def run_all(args, courses, arms):
    """Run what is not complete; write the rows of a run when it ends."""
    args.out.parent.mkdir(parents=True, exist_ok=True)
    done = drop_incomplete(args.out)
    tasks = [
        task
        for seed in range(args.seeds)
        for data in args.datasets
        for arm in args.arms
        if (task := Task(data, arm, seed)) not in done
    ]
    print(f"{len(tasks)} runs to do\n", flush=True)
    pool = ProcessPoolExecutor(
        args.jobs,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=begin_worker,
    )
    settings = (args.data, args.images, args.max_epochs, args.seconds)
    try:
        futures = [
            pool.submit(run, task, courses[task.data], arms[task.arm], *settings)
            for task in tasks
        ]
        for future in as_completed(futures):
            rows, about = future.result()
            append(args.out, COLUMNS, rows)
            append(name_runs(args.out), RUN_COLUMNS, [about])
            print(*about.values(), len(rows), flush=True)
    finally:
        pool.shutdown(cancel_futures=True)


def find_best(rows):
    """Return the evaluations of a run that were better than all before them."""
    rows = rows.sort_values("seconds", kind="stable")
    before = rows["valid_error"].cummin().shift(fill_value=np.inf)
    return rows[rows["valid_error"] < before]


def error_at(rows, times, column="valid_error"):
    """Return the error of what a run delivers at some times."""
    best = find_best(rows)
    errors = np.array([NOTHING, *best[column]])
    return errors[np.searchsorted(best["seconds"], times, side="right")]


def time_to_error(rows, error):
    """Return when a run came to a validation error; inf if it never did."""
    return min(rows.loc[rows["valid_error"] <= error, "seconds"], default=np.inf)


def split_runs(rows, runs, arms):
    """Return the rows of each complete run, by arm and seed, also where it has none."""
    return {
        arm: {
            seed: rows[(rows["arm"] == arm) & (rows["seed"] == seed)]
            for seed in sorted(runs.loc[runs["arm"] == arm, "seed"])
        }
        for arm in arms
        if arm in set(runs["arm"])
    }


def compare_times(by_seed, reference):
    """Return for each seed two times to the error that the reference ended with.

    The first one is that of an arm, the second one that of the reference.
    """
    times = []
    for seed in by_seed.keys() & reference.keys():
        if len(rows := reference[seed]):
            error = rows["valid_error"].min()
            times.append([time_to_error(each, error) for each in (by_seed[seed], rows)])
    return np.array(times).reshape(-1, 2)


def quartiles(values):
    low, middle, high = np.percentile(values, [25, 50, 75])
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


def print_table(by_arm, budget):
    """Print a row an arm: medians, and quartiles, over the seeds."""
    print_header(
        *("arm", "seeds", "evaluations"),
        *(f"error at {share:.0%}" for share in SHARES),
        *("test error at the end", "time to its error", "of the budget", "reached"),
    )
    times = budget * np.array(SHARES)
    for arm, by_seed in by_arm.items():
        runs = list(by_seed.values())
        errors = np.array([error_at(rows, times) for rows in runs])
        tests = [error_at(rows, budget, "test_error") for rows in runs]
        cells = [""] * 3
        compared = compare_times(by_seed, by_arm.get(REFERENCE, {}))
        if len(compared):
            own, other = compared.T
            cells = [f"{np.median(own / other):.2f}", f"{np.median(own) / budget:.2f}"]
            cells.append(f"{np.isfinite(own).sum()} of {len(own)}")
        print_row(
            *(arm, len(runs), f"{np.median([len(rows) for rows in runs]):g}"),
            *map(quartiles, errors.T),
            *(quartiles(tests), *cells),
        )


def print_tables(rows, runs):
    """Print the table of each data set."""
    print(f"Measured from {runs['date'].min()} to {runs['date'].max()}.")
    print(f"Errors are medians and quartiles over seeds; {NOTHING:g} is nothing yet.")
    print(f'"Its error" is the validation error at which "{REFERENCE}" ended on the')
    print("same seed, the time to it a fraction of the time after which that had it.")
    for data, budget, by_arm in list_courses(rows, runs):
        print(f"\n### {data}, {budget:g} s\n")
        print_table(by_arm, budget)


def list_courses(rows, runs):
    """Return the name of each data set, its seconds, and the rows of its runs."""
    names = [data for data in COURSES if data in set(runs["data"])]
    return [
        (
            data,
            runs.loc[runs["data"] == data, "budget"].max(),
            split_runs(rows[rows["data"] == data], runs[runs["data"] == data], ARMS),
        )
        for data in names
    ]


def draw(rows, runs):
    """Draw a column a data set: what arms deliver, in validation and on the test."""
    import matplotlib.pyplot as plt

    courses = list_courses(rows, runs)
    figure, axes = plt.subplots(
        2,
        len(courses),
        figsize=(2 + 4 * len(courses), 6.5),
        layout="constrained",
        sharex="col",
        squeeze=False,
    )
    for column, (data, budget, by_arm) in zip(axes.T, courses, strict=True):
        for ax, name in zip(column, ("valid_error", "test_error"), strict=True):
            draw_curves(ax, by_arm, budget, name)
        column[0].set_title(data)
        column[1].set_xlabel("seconds of the processor")
    axes[0, 0].set_ylabel("lowest validation error so far")
    axes[1, 0].set_ylabel("test error of that network")
    handles = {line.get_label(): line for ax in axes[0] for line in ax.lines}
    order = [arm for arm in ARMS if arm in handles]
    figure.legend(
        [handles[arm] for arm in order],
        order,
        loc="outside lower center",
        ncols=4,
        handlelength=3,
    )
    return figure


def draw_curves(ax, by_arm, budget, column):
    """Draw the median of each arm over time, and its quartiles as a band."""
    from matplotlib import ticker

    for arm, by_seed in by_arm.items():
        ends = [seconds for rows in by_seed.values() for seconds in rows["seconds"]]
        times = np.unique([budget / 100, *ends, budget])
        errors = np.array([error_at(rows, times, column) for rows in by_seed.values()])
        low, middle, high = np.percentile(errors, [25, 50, 75], axis=0)
        style = STYLES[arm]
        ax.plot(times, middle, drawstyle="steps-post", label=arm, **style)
        band = {"step": "post", "alpha": 0.12, "linewidth": 0}
        ax.fill_between(times, low, high, color=style["color"], **band)
    ax.set(xscale="log", yscale="log")
    ax.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 6, 8)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(ticker.NullFormatter())
    ax.xaxis.set_major_formatter("{x:g}")
    ax.grid(alpha=0.3)


def make_parser(description, name, courses, arms, seeds=5):
    """Return the parser of a benchmark, whose results are in a file of its name."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    results = ROOT / "benchmarks" / "results" / f"{name}.csv"
    default = [data for data in courses if data != TRIAL]
    add("--datasets", nargs="+", choices=courses, default=default)
    add("--arms", nargs="+", choices=arms, default=list(arms))
    add("--seeds", type=int, default=seeds, help="how many")
    add("--jobs", type=int, default=2, help="processes")
    add("--out", type=pathlib.Path, default=results, help="CSV file of the results")
    add("--table", action="store_true", help="run nothing")
    add("--data", type=pathlib.Path, default=ROOT.parent / "shared" / "data")
    add("--images", type=int, help="at most, for a trial; needs --out")
    add("--max-epochs", type=int, help="of all arms, for a trial; needs --out")
    add("--seconds", type=float, help="of all arms, for a trial; needs --out")
    return parser


def parse_arguments(parser, argv):
    args = parser.parse_args(argv)
    if args.out == parser.get_default("out") and (
        args.images or args.max_epochs or args.seconds
    ):
        parser.error("--images, --max-epochs and --seconds need an --out of their own")
    if args.table and not name_runs(args.out).exists():
        parser.error(f"there are no results in '{name_runs(args.out)}'")
    return args


def main(argv=None):
    parser = make_parser(__doc__, "race", COURSES, ARMS)
    parser.add_argument("--plot", type=pathlib.Path, help="PNG file of the curves")
    args = parse_arguments(parser, argv)
    if not args.table:
        run_all(args, COURSES, ARMS)
    runs = pd.read_csv(name_runs(args.out))
    rows = read(args.out, COLUMNS)
    print_tables(rows, runs)
    if args.plot is not None:
        draw(rows, runs).savefig(args.plot, dpi=120)


if __name__ == "__main__":
    main()
