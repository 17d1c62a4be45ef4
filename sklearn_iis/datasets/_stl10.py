"""STL-10: small photographs of animals and vehicles, with few labels."""

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import get_data_home
from sklearn.utils import Bunch

from sklearn_iis._resize import ImageResizer
from sklearn_iis._sklearn_compat import validate_params
from sklearn_iis.datasets._download import (
    FETCHER_CONSTRAINTS,
    RemoteFile,
    check_size,
    fetch_archive,
)

ARCHIVE = RemoteFile(
    "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
    "91f7769df0f17e558f3565bffb0c7dfb",
)
FILES = (
    *("train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin"),
    *("class_names.txt", "fold_indices.txt"),
)

# The binary files hold channels, columns and rows, in this order.
IMAGE_SHAPE = (3, 96, 96)

DESCR = """\
STL-10
======

Colour photographs of 96 x 96 pixels in 10 classes: airplane, bird, car, cat, deer, dog,
horse, monkey, ship and truck. Of each class, 500 are for training and 800 for testing.
They were taken from ImageNet. 100,000 further images without labels are not loaded.

The published protocol is to train ten models, each on one of ten predefined folds of
1000 training images, which overlap, and to report their mean accuracy on all 8000 test
images.

Published at https://cs.stanford.edu/~acoates/stl10/

A. Coates, H. Lee, A. Y. Ng, "An Analysis of Single-Layer Networks in Unsupervised
Feature Learning", International Conference on Artificial Intelligence and Statistics,
2011.
"""


@validate_params(FETCHER_CONSTRAINTS, prefer_skip_nested_validation=True)
def fetch_stl10(
    *,
    subset="train",
    data_home=None,
    size=None,
    mode="RGB",
    download_if_missing=True,
    return_X_y=False,
    n_retries=3,
    delay=1.0,
):
    """Load the labelled images of STL-10, small photographs in 10 classes.

    Download them if necessary: 2.6 GB, most of which are images without labels. The
    others are unpacked, 0.4 GB, and the archive is deleted. Downloading needs the extra
    `datasets`.

    ================   ============
    Classes                      10
    Images, "train"            5000
    Images, "test"             8000
    ================   ============

    Parameters
    ----------
    subset : {"train", "test"}, default="train"
        Which images to load: those to search and train on, or those to test on.

    data_home : str or path-like, default=None
        The folder that data sets are kept in, which has a folder `stl10`. By default
        that of scikit-learn, see :func:`sklearn.datasets.get_data_home`.

    size : int, tuple of (int, int) or None, default=None
        Height and width to resize the images to, in pixels; an int stands for both. If
        None, they keep their 96 x 96 pixels.

    mode : {"RGB", "L"}, default="RGB"
        Whether to load the images in colour or grey. Hinz et al. (2018) searched on
        grey ones.

    download_if_missing : bool, default=True
        Whether to download what is not there. If False, an error is raised.

    return_X_y : bool, default=False
        Whether to return `data` and `target` alone.

    n_retries : int, default=3
        Number of further attempts if a download fails.

    delay : float, default=1.0
        Number of seconds between attempts.

    Returns
    -------
    images : :class:`~sklearn.utils.Bunch`
        Dictionary-like object, with the attributes

        data : ndarray of shape (n_images, height, width[, 3])
            The images as uint8.
        target : ndarray of shape (n_images,) of int
            The class of each image, an index into `target_names`.
        target_names : ndarray of shape (10,) of str
            The names of the classes.
        folds : list of 10 ndarrays of shape (1000,) of int
            With `subset="train"` only: the indices of the images in each predefined
            fold. Folds overlap.
        cv : list of one tuple (train, test)
            With `subset="train"` only: the indices of the first fold, and of the 4000
            other images, to be passed as `cv` to a search. This is how Hinz et al.
            (2018) searched.
        DESCR : str
            What the images are, and where they come from.

    (data, target) : tuple if `return_X_y` is True

    Raises
    ------
    OSError
        If files are missing and `download_if_missing` is False, if they cannot be
        downloaded, or if what is downloaded or kept is not what was published.

    ImportError
        If files have to be downloaded, and pooch or tqdm is not installed.

    Notes
    -----
    An archive that was put into the folder `stl10` by other means is used if it is the
    published one. To fetch everything anew, delete this folder. A process
    that was killed may have left a temporary file or folder there, whose name begins
    with `tmp` or a dot: delete it while no other process downloads.

    References
    ----------
    T. Hinz, N. Navarro-Guerrero, S. Magg, S. Wermter, "Speeding up the Hyperparameter
    Optimization of Deep Convolutional Neural Networks", 2018, arXiv:1807.07362.

    Examples
    --------
    >>> from sklearn_iis.datasets import fetch_stl10
    >>> images = fetch_stl10(mode="L")  # doctest: +SKIP
    >>> images.data.shape, len(images.folds)  # doctest: +SKIP
    ((5000, 96, 96), 10)
    >>> fold, others = images.cv[0]  # doctest: +SKIP
    >>> len(fold), len(others)  # doctest: +SKIP
    (1000, 4000)
    """
    check_size(size)
    folder = fetch_archive(
        ARCHIVE,
        Path(get_data_home(data_home), "stl10"),
        [f"stl10_binary/{name}" for name in FILES],
        download_if_missing=download_if_missing,
        n_retries=n_retries,
        delay=delay,
    )
    images, target = _read(folder, subset)
    if mode == "L":
        images = _to_grey(images)
    # Those in colour are read batch by batch, and only their small versions are kept.
    data = np.ascontiguousarray(ImageResizer(size).transform(images))
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        target_names=np.array((folder / "class_names.txt").read_text().split()),
        **(_read_folds(folder, len(target)) if subset == "train" else {}),
        DESCR=DESCR,
    )


def _read(folder, subset):
    """The images, left on disk, of shape (n_images, 96, 96, 3), and their classes."""
    target = np.fromfile(folder / f"{subset}_y.bin", np.uint8).astype(int) - 1
    path = folder / f"{subset}_X.bin"
    n_bytes = len(target) * np.prod(IMAGE_SHAPE)
    if path.stat().st_size != n_bytes:
        raise OSError(
            f"'{path}' is damaged: {n_bytes} bytes are expected for {len(target)}"
            f" labels, it has {path.stat().st_size}. To fetch it anew, delete"
            f" '{folder}'."
        )
    images = np.memmap(path, np.uint8, mode="r", shape=(len(target), *IMAGE_SHAPE))
    return images.transpose(0, 3, 2, 1), target


def _to_grey(images):
    """Return colour images in grey, as Pillow does when it reads them from files."""
    grey = [np.asarray(Image.fromarray(image).convert("L")) for image in images]
    return np.stack(grey)


def _read_folds(folder, n_images):
    """The predefined folds, and the split into the first one and all other images."""
    lines = (folder / "fold_indices.txt").read_text().splitlines()
    folds = [np.array(line.split(), dtype=int) for line in lines]
    others = np.setdiff1d(np.arange(n_images), folds[0])
    return {"folds": folds, "cv": [(folds[0], others)]}
