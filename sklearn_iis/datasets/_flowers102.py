"""The Oxford 102 Flowers: photographs of flowers of 102 species."""

from pathlib import Path

import numpy as np
from scipy.io import loadmat
from sklearn.datasets import get_data_home
from sklearn.utils import Bunch

from sklearn_iis._resize import ImageResizer
from sklearn_iis._sklearn_compat import validate_params
from sklearn_iis.datasets._download import (
    FETCHER_CONSTRAINTS,
    RemoteFile,
    check_size,
    fetch_archive,
    fetch_file,
)

URL = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102"
IMAGES = RemoteFile(f"{URL}/102flowers.tgz", "52808999861908f626f3c1f4e79d11fa")
LABELS = RemoteFile(f"{URL}/imagelabels.mat", "e0620be6f572b9609742df49c70aed4d")
PARTS = RemoteFile(f"{URL}/setid.mat", "a5357ecc9cb78c4bef273ce3793fc85c")

DESCR = f"""\
The Oxford 102 Flowers
======================

8189 colour photographs, of different sizes, of flowers of 102 species that are common
in the United Kingdom; each species has 40 to 258 of them. They are divided into three
parts: 1020 for training and 1020 for validation, 10 of each species, and 6149 for
testing, among which species are not equally frequent.

Published at {URL}/

M.-E. Nilsback, A. Zisserman, "Automated flower classification over a large number of
classes", Indian Conference on Computer Vision, Graphics and Image Processing, 2008.
"""


@validate_params(FETCHER_CONSTRAINTS, prefer_skip_nested_validation=True)
def fetch_flowers102(
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
    """Load the Oxford 102 Flowers, photographs of flowers of 102 species.

    Download them if necessary: 345 MB, which are unpacked, and the archive deleted.
    Downloading needs the extra `datasets`.

    ================   ============
    Classes                     102
    Images, "train"            2040
    Images, "test"             6149
    ================   ============

    Parameters
    ----------
    subset : {"train", "test"}, default="train"
        Which images to load: those to search and train on, which are the published
        parts for training and for validation one after the other, or those to test on.

    data_home : str or path-like, default=None
        The folder that data sets are kept in, which has a folder `flowers102`. By
        default that of scikit-learn, see :func:`sklearn.datasets.get_data_home`.

    size : int, tuple of (int, int) or None, default=None
        Height and width to resize the images to, in pixels; an int stands for both. If
        None, the files are not opened, and `data` holds their paths, to be read by an
        :class:`~sklearn_iis.ImageResizer`.

    mode : {"RGB", "L"}, default="RGB"
        Whether to read the images in colour or grey; unused if `size` is None.

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
    flowers : :class:`~sklearn.utils.Bunch`
        Dictionary-like object, with the attributes

        data : ndarray of shape (n_images, height, width[, 3]) or (n_images,)
            The images as uint8, or the paths of their files as str if `size` is None.
        target : ndarray of shape (n_images,) of int
            The class of each image, an index into `target_names`.
        target_names : ndarray of shape (102,) of str
            The published labels, "1" to "102"; the files hold no names.
        filenames : ndarray of shape (n_images,) of str
            The path of each file.
        cv : list of one tuple (train, test)
            With `subset="train"` only: the indices of the published parts for training
            and for validation, to be passed as `cv` to a search.
        DESCR : str
            What the images are, and where they come from.

    (data, target) : tuple if `return_X_y` is True

    Raises
    ------
    OSError
        If files are missing and `download_if_missing` is False, if they cannot be
        downloaded, or if what is downloaded is not what was published.

    ImportError
        If files have to be downloaded, and pooch or tqdm is not installed.

    Notes
    -----
    The published score on the test images is the accuracy averaged over the classes,
    which is :func:`~sklearn.metrics.balanced_accuracy_score`.

    An archive that was put into the folder `flowers102` by other means is used if it is
    the published one. To fetch everything anew, delete this folder. A process
    that was killed may have left a temporary file or folder there, whose name begins
    with `tmp` or a dot: delete it while no other process downloads.

    Examples
    --------
    >>> from sklearn_iis.datasets import fetch_flowers102
    >>> flowers = fetch_flowers102()  # doctest: +SKIP
    >>> flowers.data.shape, len(flowers.cv)  # doctest: +SKIP
    ((2040,), 1)
    >>> X_test, y_test = fetch_flowers102(
    ...     subset="test", size=64, return_X_y=True
    ... )  # doctest: +SKIP
    >>> X_test.shape  # doctest: +SKIP
    (6149, 64, 64, 3)
    """
    check_size(size)
    folder = Path(get_data_home(data_home), "flowers102")
    filenames, labels, parts = _fetch(
        folder,
        download_if_missing=download_if_missing,
        n_retries=n_retries,
        delay=delay,
    )
    if subset == "train":
        images = np.concatenate([parts["trnid"], parts["valid"]])
        rows = np.arange(len(images))
        n_train = len(parts["trnid"])
        split = {"cv": [(rows[:n_train], rows[n_train:])]}
    else:
        images = parts["tstid"]
        split = {}

    data = filenames = filenames[images]
    target = labels[images] - 1
    if size is not None:
        data = ImageResizer(size, mode=mode).transform(filenames)
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        target_names=np.arange(1, labels.max() + 1).astype(str),
        filenames=filenames,
        **split,
        DESCR=DESCR,
    )


def _fetch(folder, **options):
    """Paths and labels of all images, and the indices of those in each part."""
    # The labels tell which images there are. They come first, as they are small.
    labels = loadmat(fetch_file(LABELS, folder, **options))
    labels = labels["labels"].ravel().astype(int)
    parts = loadmat(fetch_file(PARTS, folder, **options))
    parts = {
        name: parts[name].ravel().astype(int) - 1
        for name in ("trnid", "valid", "tstid")
    }
    names = [f"jpg/image_{number:05d}.jpg" for number in range(1, len(labels) + 1)]
    fetch_archive(IMAGES, folder, names, **options)
    return np.array([str(folder / name) for name in names]), labels, parts
