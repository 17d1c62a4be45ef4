"""The extended Cohn-Kanade set (CK+): faces that show an emotion."""

import os
from numbers import Integral
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

from sklearn_iis._resize import ImageResizer
from sklearn_iis._sklearn_compat import Interval, StrOptions, validate_params

IMAGES = "cohn-kanade-images"
LABELS = "Emotion"
LABEL_SUFFIX = "_emotion.txt"

# In the order of the published numbers, 1 to 7. Neutral, 0, begins every sequence, and
# is the label of none.
EMOTIONS = ("anger", "contempt", "disgust", "fear", "happy", "sadness", "surprise")

DESCR = """\
The extended Cohn-Kanade set (CK+)
==================================

Sequences of photographs of faces, each from a neutral expression to the peak of another
one: 593 sequences of 123 persons. 327 of them are labelled with one of seven emotions;
loaded is the last image of each of these. They have 640 x 490 or 640 x 480 pixels, and
most are grey. There are no predefined parts for training and testing.

It is handed out by its authors on request.

P. Lucey, J. F. Cohn, T. Kanade, J. Saragih, Z. Ambadar, I. Matthews, "The Extended
Cohn-Kanade Dataset (CK+): A complete dataset for action unit and emotion-specified
expression", IEEE Conference on Computer Vision and Pattern Recognition Workshops, 2010.
"""


@validate_params(
    {
        "path": [str, os.PathLike],
        "size": [Interval(Integral, 1, None, closed="left"), tuple, None],
        "mode": [StrOptions({"RGB", "L"})],
        "return_X_y": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def load_ckplus(path, *, size=None, mode="L", return_X_y=False):
    """Load the labelled faces of the extended Cohn-Kanade set (CK+) from its folder.

    Of each sequence that is labelled with an emotion, the last image is loaded, which
    shows it most. The set cannot be downloaded: its authors hand it out on request.

    ================   ============
    Classes                       7
    Images                      327
    ================   ============

    Parameters
    ----------
    path : str or path-like
        The folder. It holds the folders `cohn-kanade-images`, with images such as
        `S005/001/S005_001_00000011.png`, and `Emotion`, with labels such as
        `S005/001/S005_001_00000011_emotion.txt`.

    size : int, tuple of (int, int) or None, default=None
        Height and width to resize the images to, in pixels; an int stands for both. If
        None, the files are not opened, and `data` holds their paths, to be read by an
        :class:`~sklearn_iis.ImageResizer`.

    mode : {"RGB", "L"}, default="L"
        Whether to read the images in colour or grey; unused if `size` is None.

    return_X_y : bool, default=False
        Whether to return `data` and `target` alone.

    Returns
    -------
    faces : :class:`~sklearn.utils.Bunch`
        Dictionary-like object, with the attributes

        data : ndarray of shape (n_images, height, width[, 3]) or (n_images,)
            The images as uint8, or the paths of their files as str if `size` is None.
        target : ndarray of shape (n_images,) of int
            The emotion of each image, an index into `target_names`.
        target_names : ndarray of shape (7,) of str
            The names of the emotions, all seven even if `path` holds fewer.
        groups : ndarray of shape (n_images,) of str
            The person that each image shows, such as "S005".
        filenames : ndarray of shape (n_images,) of str
            The path of each file.
        DESCR : str
            What the images are, and where they come from.

    (data, target) : tuple if `return_X_y` is True

    Raises
    ------
    NotADirectoryError
        If there is no such folder, or it lacks one of the two folders.

    FileNotFoundError
        If the image of a label is missing.

    ValueError
        If there are no labels, or one is not a number from 1 to 7.

    OSError
        If `size` is given and a file cannot be read as an image.

    Notes
    -----
    Hinz et al. (2018) split the images of each class at random, 70 % to train and 30 %
    to validate, as does
    :class:`StratifiedShuffleSplit(1, test_size=0.3) \
    <sklearn.model_selection.StratifiedShuffleSplit>`. Persons are then on both sides of
    the split; with `groups`, :class:`~sklearn.model_selection.StratifiedGroupKFold`
    keeps them apart.

    References
    ----------
    T. Hinz, N. Navarro-Guerrero, S. Magg, S. Wermter, "Speeding up the Hyperparameter
    Optimization of Deep Convolutional Neural Networks", 2018, arXiv:1807.07362.

    Examples
    --------
    A folder of the same layout, with one labelled sequence:

    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from sklearn_iis.datasets import load_ckplus
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     images = Path(folder, "cohn-kanade-images", "S005", "001")
    ...     labels = Path(folder, "Emotion", "S005", "001")
    ...     images.mkdir(parents=True)
    ...     labels.mkdir(parents=True)
    ...     Image.new("L", (64, 49)).save(images / "S005_001_00000011.png")
    ...     label = labels / "S005_001_00000011_emotion.txt"
    ...     _ = label.write_text("   3.0000000e+00")
    ...     faces = load_ckplus(folder, size=32)
    >>> faces.data.shape
    (1, 32, 32)
    >>> faces.target_names[faces.target].tolist(), faces.groups.tolist()
    (['disgust'], ['S005'])
    """
    path = Path(path)
    for folder in (path, path / IMAGES, path / LABELS):
        if not folder.is_dir():
            raise NotADirectoryError(
                f"There is no folder '{folder}'; the folder of CK+ is expected, which"
                f" holds '{IMAGES}' and '{LABELS}'."
            )
    labels = [
        label
        for label in sorted((path / LABELS).glob(f"*/*/*{LABEL_SUFFIX}"))
        if not label.name.startswith(".")
    ]
    if not labels:
        raise ValueError(
            f"'{path / LABELS}' holds no labels, such as"
            f" 'S005/001/S005_001_00000011{LABEL_SUFFIX}'."
        )

    target = np.array([_read_emotion(label) for label in labels])
    data = filenames = np.array([str(_find_image(path, label)) for label in labels])
    if size is not None:
        data = ImageResizer(size, mode=mode).transform(filenames)
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        target_names=np.array(EMOTIONS),
        groups=np.array([label.parts[-3] for label in labels]),
        filenames=filenames,
        DESCR=DESCR,
    )


def _read_emotion(label):
    """The class in the file of a label, which holds a number such as 3.0000000e+00."""
    text = label.read_text(errors="replace").strip()
    try:
        return range(1, len(EMOTIONS) + 1).index(float(text))
    except ValueError:
        raise ValueError(
            f"'{label}' must hold the number of an emotion, 1 to {len(EMOTIONS)};"
            f" got {text!r}."
        ) from None


def _find_image(path, label):
    """The image that a label is about."""
    name = label.name.removesuffix(LABEL_SUFFIX) + ".png"
    image = path / IMAGES / label.relative_to(path / LABELS).with_name(name)
    if not image.is_file():
        raise FileNotFoundError(f"'{image}' is missing, the image of '{label}'.")
    return image
