"""The images of an experiment, and its protocol: splits, models, test."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from sklearn.model_selection import StratifiedShuffleSplit

from sklearn_iis.datasets import (
    fetch_flowers102,
    fetch_stl10,
    load_ckplus,
    load_image_folder,
    make_shapes,
)

PARTS = ("train", "test")
# Few classes and many images, so that a network learns them in a minute.
N_SHAPE_CLASSES, N_SHAPES, N_TEST_SHAPES = 4, 1000, 2000


@dataclass(frozen=True)
class Data:
    """Images to search on, and images to test the models that were found.

    Parameters
    ----------
    X : ndarray of shape (n_images, height, width[, channels]) of uint8
        The images that candidates are trained and validated on.

    y : ndarray of shape (n_images,)
        Their classes.

    split : callable
        Returns the splits of a repeat, (training, validation) indices, for its seed.

    models : list of ndarray
        The images that each model is trained on, whose test scores are averaged; none
        if the protocol has no test.

    X_test, y_test : ndarray, default=None
        What they are tested on, if they are.

    score : callable, default=accuracy_score
        The test score, of `y_test` and predictions.
    """

    X: np.ndarray
    y: np.ndarray
    split: Callable
    models: list
    X_test: np.ndarray | None = None
    y_test: np.ndarray | None = None
    score: Callable = accuracy_score


@lru_cache(maxsize=1)
def load(name, path, size):
    """Load the data of an experiment, at its largest size.

    Parameters
    ----------
    name : str
        Which, of `LOADERS`.

    path : path-like or None
        Their folder; where they are downloaded to, if they are, which None leaves to
        scikit-learn.

    size : int
        Side of the images in pixels.
    """
    return LOADERS[name](path, size)


def describe(data):
    """Return how many images there are, and what tells their labels and split apart.

    The digest is of the labels and the splits of the first repeat, in the order of the
    images, not of their pixels.
    """
    digest = hashlib.sha256()
    y_test = [] if data.y_test is None else data.y_test
    for numbers in (data.y, y_test, *data.models, *sum(data.split(0), ())):
        digest.update(f"{len(numbers)} ".encode())
        digest.update(np.asarray(numbers, "<i8").tobytes())
    return {
        "search": len(data.y),
        "test": len(y_test),
        "classes": len(np.unique(data.y)),
        "labels and split": f"sha256:{digest.hexdigest()}",
    }


def load_flowers102(path, size):
    """Predefined images train and validate; the test error is averaged over classes."""
    images, test = (
        fetch_flowers102(subset=part, data_home=path, size=size) for part in PARTS
    )
    return Data(
        X=images.data,
        y=images.target,
        split=lambda seed: images.cv,
        models=[np.arange(len(images.target))],
        X_test=test.data,
        y_test=test.target,
        score=balanced_accuracy_score,
    )


def load_stl10(path, size):
    """Grey; the first fold trains, the others validate; the test has a model a fold."""
    images, test = (
        fetch_stl10(subset=part, data_home=path, size=size, mode="L") for part in PARTS
    )
    return Data(
        X=images.data,
        y=images.target,
        split=lambda seed: images.cv,
        models=images.folds,
        X_test=test.data,
        y_test=test.target,
    )


def load_ck(path, size):
    """70 % of the images of each emotion train, the others validate; no test."""
    images = load_ckplus(check_folder("ckplus", path), size=size)
    return Data(
        X=images.data, y=images.target, split=split_at_random(images.target), models=[]
    )


def load_flowers12(path, size):
    """70 % of the training images of each class train, the others validate."""
    folder = Path(check_folder("flowers12", path))
    images, test = (load_image_folder(folder / part, size=size) for part in PARTS)
    return Data(
        X=images.data,
        y=images.target,
        split=split_at_random(images.target),
        models=[np.arange(len(images.target))],
        X_test=test.data,
        y_test=test.target,
        score=balanced_accuracy_score,
    )


def check_folder(name, path):
    if path is None:
        raise ValueError(f"{name} needs the folder of its images: --data folder")
    return path


def load_shapes(path, size):
    """Made on the spot; the test images are many, as they cost no training."""
    X, y = make_shapes(
        N_SHAPES + N_TEST_SHAPES, size=size, n_classes=N_SHAPE_CLASSES, random_state=0
    )
    return Data(
        X=X[:N_SHAPES],
        y=y[:N_SHAPES],
        split=split_at_random(y[:N_SHAPES]),
        models=[np.arange(N_SHAPES)],
        X_test=X[N_SHAPES:],
        y_test=y[N_SHAPES:],
    )


def split_at_random(y):
    """Return a function that splits 70 to 30, class by class."""

    def split(seed):
        cv = StratifiedShuffleSplit(1, test_size=0.3, random_state=seed)
        return list(cv.split(np.zeros(len(y)), y))

    return split


LOADERS = {
    "flowers102": load_flowers102,
    "stl10": load_stl10,
    "ckplus": load_ck,
    "flowers12": load_flowers12,
    "shapes": load_shapes,
}
