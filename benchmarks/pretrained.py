"""Compare pretrained features, fine-tuning, training from scratch, and their choice.

Each arm is a search as in :mod:`benchmarks.race`, with its clock, splits and files:
error over seconds of the processor, on one thread, test images scored for each model
that is better in validation than those before it. The arms are

- "features": frozen features of EfficientNet-Lite0 at full size, standardised, and 30
  candidates of a logistic regression;
- "fine-tuned": the same network, its head new, all of it trained; a ladder over sizes
  that begins at 32 px, with weights inherited;
- "from scratch": the ladder of the race;
- "choice": `ChoiceSearchCV` of these three, in 1.3 times the time.

The images of cifar-small, 32 px, are enlarged.

    python -m benchmarks.pretrained --jobs 2
    python -m benchmarks.pretrained --table
    python -m benchmarks.pretrained --features

The second one runs nothing. The third one searches nothing: it measures the features by
themselves, at each size and reading the files included, with a logistic regression of
``C=0.01``; and 30 candidates of a search against one extraction and 30 fits, which
should cost the same.
"""

import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import loguniform
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from benchmarks.race import (
    COLUMNS,
    COURSES,
    TRIAL,
    Course,
    error_at,
    make_ladder,
    make_parser,
    name_runs,
    parse_arguments,
    quartiles,
    read,
    run_all,
    run_search,
    score,
    split_runs,
    time_to_error,
)
from benchmarks.recipes import load_cifar_small, print_header, print_row, warm_up
from sklearn_iis import ChoiceSearchCV, IISSearchCV, ImageResizer, default_space
from sklearn_iis.cnn import CNNClassifier, ImageFeatures
from sklearn_iis.datasets import load_image_folder

PRETRAINED = {
    "flowers12 64 px": COURSES["flowers12 64 px"],
    "flowers12 128 px": COURSES["flowers12 128 px"],
    "cifar-small at 64 px": Course(load_cifar_small, (16, 32, 64), 200),
    "cifar-small at 128 px": Course(load_cifar_small, (16, 32, 64, 128), 200),
    TRIAL: COURSES[TRIAL],
}
N_CANDIDATES = 30
MORE_TIME = 1.3  # of the choice
TOLERANCE = 0.01  # by which the choice may end above the best arm
FEATURE_SIZES = (32, 64, 128, 224)
# Of fine-tuning, at each of its sizes; the first two tell more than (8, 6) on flowers12
# at 64 px, seed 10.
EPOCHS = (3, 8, 4)


@dataclass
class OnFeatures:
    """A classifier of features, as a classifier of images."""

    classifier: Any
    n_iter_: Any = ""  # no epochs

    def predict(self, X):
        return self.classifier.predict(ImageFeatures(device="cpu").transform(X))


def score_any(race, pipeline, X, y):
    """Return the validation accuracy of any of the pipelines, and write it down."""
    if "cnn" in pipeline.named_steps:
        return score(race, pipeline, X, y)
    # The search skips the steps before these: their output is X.
    error = float(np.mean(pipeline.predict(X) != y))
    race.note(OnFeatures(pipeline[-2:]), race.sizes[-1], error)
    return 1 - error


def make_features_pipeline(size=None):
    return Pipeline(
        [
            ("resize", ImageResizer() if size is None else ImageResizer(size)),
            ("features", ImageFeatures(device="cpu")),
            ("scale", StandardScaler()),
            ("classifier", LogisticRegression(max_iter=1000)),
        ]
    )


def make_features_search(race):
    pipeline = make_features_pipeline()
    return IISSearchCV(
        pipeline,
        default_space(pipeline),
        sizes=race.sizes[-1:],
        search="ladder",
        n_iter=N_CANDIDATES,
    )


def make_fine_tuning(race):
    network = CNNClassifier(
        module="efficientnet-lite0", flip=True, device="cpu", random_state=race.seed
    )
    pipeline = Pipeline([("resize", ImageResizer()), ("cnn", network)])
    space = default_space(pipeline)
    space.pop("cnn__flip")
    # Of smaller ones nothing is left: the network halves images five times.
    sizes = [size for size in race.sizes if size >= min(32, race.sizes[-1])]
    epochs = [min(n, race.max_epochs) for n in EPOCHS[: len(sizes)]]
    return IISSearchCV(
        pipeline,
        space,
        sizes=sizes,
        search="ladder",
        n_iter=None,
        inherit_weights=True,
        stage_params={"cnn__max_epochs": epochs},
    )


SEARCHES = {
    "features": make_features_search,
    "fine-tuned": make_fine_tuning,
    "from scratch": make_ladder,
}


def compete(race, name):
    """Run one of the searches by itself."""
    run_search(race, SEARCHES[name](race), score_any)


def choose(race):
    """Run the choice among all."""
    race.budget *= MORE_TIME
    searches = [(name, make(race)) for name, make in SEARCHES.items()]
    run_search(race, ChoiceSearchCV(searches, timeout=race.budget), score_any)


ARMS = {name: partial(compete, name=name) for name in SEARCHES} | {"choice": choose}


def print_tables(rows, runs):
    """Print the table of each data set."""
    print(f"Measured from {runs['date'].min()} to {runs['date'].max()}; {TOLERANCE:g}")
    print("is what the choice may end above the best arm. Medians and quartiles.")
    for data in [data for data in PRETRAINED if data in set(runs["data"])]:
        here = runs[runs["data"] == data]
        by_arm = split_runs(rows[rows["data"] == data], here, ARMS)
        print(f"\n### {data}, {here['budget'].min():g} s\n")
        print_table(by_arm, here)


def print_table(by_arm, runs):
    """Print a row an arm, and how the choice compares with the best of the others."""
    print_header(
        *("arm", "seeds", "candidates", "seconds", "first result"),
        *("error at 25%", "error at the end", "test error at the end"),
    )
    ends = {}
    for arm, by_seed in by_arm.items():
        each = list(by_seed.values())
        own = runs[runs["arm"] == arm]
        budget = own["budget"].max()
        tests = ends[arm] = [error_at(rows, budget, "test_error") for rows in each]
        print_row(
            *(arm, len(each), f"{np.median([len(rows) for rows in each]):g}"),
            f"{own['seconds'].median():.0f}",
            f"{np.median([rows['seconds'].min() for rows in each]):.1f}",
            quartiles([error_at(rows, runs["budget"].min() / 4) for rows in each]),
            quartiles([error_at(rows, budget) for rows in each]),
            quartiles(tests),
        )
    if "choice" in ends and len(ends) > 1:
        print(compare_choice(by_arm, runs, ends))


def compare_choice(by_arm, runs, ends):
    """Return a line on the choice and the arm that has the lowest validation error."""
    budget = runs["budget"].max()
    finals = {
        arm: np.median([error_at(rows, budget) for rows in by_arm[arm].values()])
        for arm in ends
        if arm != "choice"
    }
    best = min(finals, key=finals.get)
    times = [
        time_to_error(rows, error_at(other, budget) + TOLERANCE)
        for rows, other in zip(
            by_arm["choice"].values(), by_arm[best].values(), strict=False
        )
    ]
    difference = np.median(ends["choice"]) - np.median(ends[best])
    return (
        f"\nChoice minus {best}: {difference:+.3f} of test error; as low in validation "
        f"as that, within {TOLERANCE:g}, after {np.median(times):.0f} s."
    )


def measure_features(folder, data, size):
    """Return seconds and test error of features at a size, files included."""
    start = time.process_time()
    if data == "flowers12":
        parts = [
            load_image_folder(folder / data / part, return_X_y=True)
            for part in ("train", "test")
        ]
    else:
        parts = load_cifar_small(folder, None)
    (X, y), (X_test, y_test) = parts
    extract = make_pipeline(ImageResizer(size), ImageFeatures(device="cpu"))
    features = extract.fit_transform(X)
    features_test = extract.transform(X_test)
    middle = time.process_time()
    classify = make_pipeline(StandardScaler(), LogisticRegression(C=0.01))
    classify.fit(features, y)
    error = np.mean(classify.predict(features_test) != y_test)
    return middle - start, time.process_time() - middle, error


def measure_once(folder, size=64):
    """Return seconds of a search, and of one extraction with as many fits."""
    X, y = load_image_folder(folder / "flowers12" / "train", return_X_y=True)
    cv = [*StratifiedShuffleSplit(1, test_size=0.3, random_state=0).split(X, y)]
    grid = loguniform(1e-4, 10).rvs(N_CANDIDATES, random_state=0)
    start = time.process_time()
    IISSearchCV(
        make_features_pipeline(),
        {"classifier__C": grid.tolist()},
        sizes=(size,),
        search="grid",
        n_iter=N_CANDIDATES,
        cv=cv,
        refit=False,
    ).fit(X, y)
    middle = time.process_time()
    pipeline = make_features_pipeline(size)
    features = pipeline[:2].fit_transform(X)
    ((train, valid),) = cv
    for C in grid:
        candidate = pipeline[2:].set_params(classifier__C=C)
        candidate.fit(features[train], y[train]).score(features[valid], y[valid])
    return middle - start, time.process_time() - middle


def print_features(folder):
    """Measure and print what needs no search."""
    threadpool_limits(1)
    warm_up()
    ImageFeatures(device="cpu").transform(np.zeros((2, 64, 64, 3), dtype=np.uint8))
    print_header("data", "size", "seconds of features", "of the fit", "test error")
    for data in ("flowers12", "cifar-small"):
        for size in FEATURE_SIZES:
            seconds, fit_seconds, error = measure_features(folder, data, size)
            cells = (f"{seconds:.1f}", f"{fit_seconds:.2f}", f"{error:.3f}")
            print_row(data, size, *cells)
    searched, bare = measure_once(folder)
    print(
        f"\n{N_CANDIDATES} candidates in a search: {searched:.1f} s; one extraction "
        f"and {N_CANDIDATES} fits: {bare:.1f} s; quotient {searched / bare:.2f}."
    )


def main(argv=None):
    parser = make_parser(__doc__, "pretrained", PRETRAINED, ARMS, seeds=3)
    parser.add_argument(
        "--features", action="store_true", help="measure what needs no search"
    )
    args = parse_arguments(parser, argv)
    if args.features:
        print_features(args.data)
        return
    if not args.table:
        run_all(args, PRETRAINED, ARMS)
    print_tables(read(args.out, COLUMNS), pd.read_csv(name_runs(args.out)))


if __name__ == "__main__":
    main()
