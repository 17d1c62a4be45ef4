"""Images from a folder that holds a folder for each class."""

import os
from numbers import Integral
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

from sklearn_iis._resize import ImageResizer
from sklearn_iis._sklearn_compat import Interval, StrOptions, validate_params

IMAGE_EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


@validate_params(
    {
        "path": [str, os.PathLike],
        "size": [Interval(Integral, 1, None, closed="left"), tuple, None],
        "mode": [StrOptions({"RGB", "L"})],
        "extensions": [tuple, list],
        "return_X_y": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def load_image_folder(
    path, *, size=None, mode="RGB", extensions=IMAGE_EXTENSIONS, return_X_y=False
):
    """Load the images of a folder that holds one folder for each class.

    Classes and files are sorted by name. Hidden files and folders, and files with other
    extensions, are left out.

    Parameters
    ----------
    path : str or path-like
        The folder. Its folders are the classes, their files the images.

    size : int, tuple of (int, int) or None, default=None
        Height and width to resize the images to, in pixels; an int stands for both. If
        None, the files are not opened, and `data` holds their paths, to be read by an
        :class:`~sklearn_iis.ImageResizer`.

    mode : {"RGB", "L"}, default="RGB"
        Whether to read the images in colour or grey; unused if `size` is None.

    extensions : tuple or list of str, default=IMAGE_EXTENSIONS
        Extensions of the files that are images, in lower case; capitals match, too.
        By default .bmp, .gif, .jpeg, .jpg, .png, .tif, .tiff and .webp.

    return_X_y : bool, default=False
        Whether to return `data` and `target` alone.

    Returns
    -------
    images : :class:`~sklearn.utils.Bunch`
        Dictionary-like object, with the attributes

        data : ndarray of shape (n_images, height, width[, 3]) or (n_images,)
            The images as uint8, or the paths of their files as str if `size` is None.
        target : ndarray of shape (n_images,) of int
            The class of each image, an index into `target_names`.
        target_names : ndarray of shape (n_classes,) of str
            The names of the classes.
        filenames : ndarray of shape (n_images,) of str
            The path of each file.
        DESCR : str
            A line on what was loaded.

    (data, target) : tuple if `return_X_y` is True

    Raises
    ------
    NotADirectoryError
        If `path` is no folder.

    ValueError
        If it holds no folders, or one of them no images.

    OSError
        If `size` is given and a file cannot be read as an image.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from sklearn_iis.datasets import load_image_folder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for species in ("daisy", "tulip"):
    ...         Path(folder, species).mkdir()
    ...         Image.new("RGB", (40, 30)).save(Path(folder, species, "1.png"))
    ...     flowers = load_image_folder(folder, size=32)
    >>> flowers.data.shape
    (2, 32, 32, 3)
    >>> flowers.target
    array([0, 1])
    """
    path = Path(path)
    if not path.is_dir():
        raise NotADirectoryError(f"There is no folder '{path}'.")
    classes = [entry for entry in _visible(path) if entry.is_dir()]
    if not classes:
        raise ValueError(f"'{path}' holds no folders; one for each class is expected.")
    files = [_images(folder, extensions) for folder in classes]

    filenames = np.array([str(file) for images in files for file in images])
    target = np.repeat(np.arange(len(classes)), [len(images) for images in files])
    data = filenames
    if size is not None:
        data = ImageResizer(size, mode=mode).transform(filenames)
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        target_names=np.array([folder.name for folder in classes]),
        filenames=filenames,
        DESCR=f"{len(target)} images of {len(classes)} classes from '{path}'",
    )


def _visible(folder):
    """The files and folders in a folder that are not hidden, sorted by name."""
    entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    return sorted(entries, key=lambda entry: entry.name)


def _images(folder, extensions):
    """The image files of a class."""
    images = [
        entry
        for entry in _visible(folder)
        if entry.suffix.lower() in extensions and entry.is_file()
    ]
    if not images:
        raise ValueError(
            f"The class folder '{folder}' holds no images, which are files that end in"
            f" {', '.join(extensions)}."
        )
    return images
