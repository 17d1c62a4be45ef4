"""Compare the same number of candidates at full size only and over increasing sizes.

For each search algorithm, one search tries all its candidates at 128 px, the other one
half of them at 32, three tenths at 64 and the rest at 128 px. Everything else is the
same: images, splits, space, network, machine. The winner is refitted on all training
images and scored on the test images.

    python benchmarks/flowers12.py path/to/flowers12

The folder holds `train` and `test`, each with a folder of images a class.
"""

import argparse
import datetime
import os
import pathlib
import platform
import time
import warnings

import numpy as np
import torch
from scipy.stats import loguniform, randint
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.pipeline import Pipeline

from sklearn_iis import CNNClassifier, IISSearchCV, ImageResizer, PerLayer
from sklearn_iis.datasets import load_image_folder

FULL_SIZE = 128
SPACE = {
    "cnn__learning_rate": loguniform(1e-4, 1),
    "cnn__batch_size": [16, 32, 64, 128],
    "cnn__n_conv_layers": randint(1, 6),
    "cnn__n_filters": PerLayer(randint(8, 49), depth="cnn__n_conv_layers"),
    "cnn__filter_size": PerLayer([3, 5], depth="cnn__n_conv_layers"),
    "cnn__n_units": [32, 64, 128, 256],
    "cnn__l2": loguniform(1e-7, 1e-2),
}


def arms(n_candidates):
    """Return sizes and budgets of both arms."""
    n_small, n_middle = n_candidates // 2, n_candidates * 3 // 10
    budgets = (n_small, n_middle, n_candidates - n_small - n_middle)
    return {
        "full size": ((FULL_SIZE,), (n_candidates,)),
        "IIS": ((FULL_SIZE // 4, FULL_SIZE // 2, FULL_SIZE), budgets),
    }


def run(name, sizes, budgets, train, test, args):
    """Return the figures of one search."""
    pipe = Pipeline(
        [
            ("resize", ImageResizer()),
            ("cnn", CNNClassifier(max_epochs=args.max_epochs, random_state=args.seed)),
        ]
    )
    search = IISSearchCV(
        pipe,
        SPACE,
        sizes=sizes,
        n_iter=budgets,
        search=name,
        cv=StratifiedShuffleSplit(1, test_size=0.3, random_state=args.seed),
        n_jobs=args.n_jobs,
        refit=True,
        random_state=args.seed,
    )
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FitFailedWarning)
        search.fit(*train)
    seconds = time.perf_counter() - start - search.refit_time_
    results = search.cv_results_
    best_by_size = {
        size: np.nanmax(results["mean_test_score"][results["stage"] == stage])
        for stage, size in enumerate(sizes)
    }
    return {
        "seconds": seconds,
        "validation": search.best_score_,
        "size": search.best_params_["resize__size"],
        "test": search.score(*test),
        "best by size": ", ".join(f"{s} px {v:.3f}" for s, v in best_by_size.items()),
        "failed": sum(error is not None for error in results["error"]),
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--searches", nargs="+", default=["random", "bayes", "genetic"])
    parser.add_argument("--candidates", type=int, default=20)
    parser.add_argument("--max-epochs", type=int, default=30)
    parser.add_argument("--n-jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    train, test = (
        load_image_folder(args.folder / part, size=FULL_SIZE, return_X_y=True)
        for part in ("train", "test")
    )
    print(
        f"{datetime.date.today()}, {platform.machine()}, {os.cpu_count()} cores, "
        f"torch {torch.__version__}, {args.candidates} candidates, "
        f"at most {args.max_epochs} epochs, n_jobs={args.n_jobs}, seed {args.seed}\n"
    )
    print(
        "| search | sizes | seconds | validation accuracy | chosen size "
        "| test accuracy | best of each size | failed |"
    )
    print("|---" * 8 + "|")
    for name in args.searches:
        for arm, (sizes, budgets) in arms(args.candidates).items():
            row = run(name, sizes, budgets, train, test, args)
            print(
                f"| {name} | {arm} | {row['seconds']:.0f} | {row['validation']:.3f} "
                f"| {row['size']} | {row['test']:.3f} | {row['best by size']} "
                f"| {row['failed']} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
