"""The images of X one by one, whatever they come in."""

import math
import os
from collections.abc import Mapping, Sequence, Sized
from typing import Any

import numpy as np
from PIL import Image

PATH = (str, os.PathLike)
ENCODED = (bytes, bytearray, memoryview)

# Names of the images in the rows of data sets.
IMAGE_KEYS = ("image", "img")


def find_items(X: Any) -> Sequence[Any] | None:
    """Return X as a sequence of images; None if it is an array, a table or no images.

    Raises
    ------
    ValueError
        If X is one image or path by itself, or holds images with their labels.
    """
    _refuse_single(X)
    X = _take_column(X)
    if not isinstance(X, list | tuple):
        if len(getattr(X, "shape", ())) == 1:
            _refuse_fixed_bytes(X)
            X = list(X)
        elif not _is_dataset(X):
            return None
    if not len(X):
        return None
    number = next((i for i in range(len(X)) if not is_missing(X[i])), 0)
    first = X[number]
    if _is_pair(first):
        raise ValueError(
            f"X[{number}] is a {type(first).__name__} of {len(first)}, as data sets of "
            "torch have them: pass [image for image, label in dataset] as X, and the "
            "labels as y"
        )
    if isinstance(first, Mapping):
        take_image(first, f"X[{number}]")
        return X
    return X if _is_image(first) else None


def is_encoded(item: Any) -> bool:
    """Return whether an image is to be decoded, from its file or from bytes."""
    if is_missing(item):
        return False
    return isinstance(take_image(item, "X"), PATH + ENCODED)


def is_missing(item: Any) -> bool:
    """Return whether None or NaN, also in a row of a data set, stands for an image."""
    if isinstance(item, Mapping):
        if _is_not_decoded(item):
            return item.get("bytes") is None and is_missing(item.get("path"))
        named = [key for key in IMAGE_KEYS if key in item]
        return bool(named) and is_missing(item[named[0]])
    return item is None or (isinstance(item, float) and math.isnan(item))


def take_image(item: Any, name: str) -> Any:
    """Return the image in a row of a data set; anything else as it is.

    Raises
    ------
    OSError
        If the image is missing.

    ValueError
        If no column, or several, may be the image.
    """
    if is_missing(item):
        raise OSError(f"{name} is {describe(item)}: the image is missing")
    if not isinstance(item, Mapping):
        return item
    if _is_not_decoded(item):
        data = item.get("bytes")
        return item["path"] if data is None else data
    named = [key for key in IMAGE_KEYS if key in item]
    found = named[:1] or [key for key, value in item.items() if _is_image(value)]
    if len(found) != 1:
        raise ValueError(
            f"{name} is a row with the columns {list(item)}; an image is expected in "
            f"one named {' or '.join(map(repr, IMAGE_KEYS))}"
        )
    return take_image(item[found[0]], name)


def to_array(item: Any) -> Any:
    """Return a tensor of torch as an array; anything else as it is."""
    if hasattr(item, "detach") and hasattr(item, "cpu"):
        return item.detach().cpu().numpy()
    return item


def describe(item: Any) -> str:
    """Return what an item is, in not too many words."""
    text = repr(item)
    return text if len(text) <= 100 else f"{text[:100]}... ({type(item).__name__})"


def _is_not_decoded(item):
    """Return whether a row is an image as data sets of Hugging Face store it."""
    return bool(item) and {"bytes", "path"} >= item.keys()


def _is_image(item):
    if isinstance(item, (*PATH, *ENCODED, Image.Image)):
        return True
    return not isinstance(item, Mapping) and np.ndim(item) in (2, 3)


def _refuse_single(X):
    if isinstance(X, (*PATH, *ENCODED, Image.Image)):
        raise ValueError(
            f"X must be a sequence of images or paths; got a single one, {describe(X)}."
        )


def _take_column(X):
    """Return the one column of a table, if it holds images or their paths."""
    shape = getattr(X, "shape", None)
    if isinstance(X, list | tuple):
        if X and all(isinstance(r, list | tuple) and len(r) == 1 for r in X):
            column = [row[0] for row in X]
            return column if _is_image_or_row(_find_first(column)) else X
        return X
    if shape is None or len(shape) != 2 or not shape[0] or not shape[1]:
        return X
    if hasattr(X, "columns"):
        columns = {name: X[name] for name in X.columns}
        firsts = {name: _find_first(column) for name, column in columns.items()}
    elif isinstance(X, np.ndarray) and X.dtype.kind in "OUST":
        _refuse_fixed_bytes(X)
        columns = {number: X[:, number] for number in range(X.shape[1])}
        firsts = {number: _find_first(column) for number, column in columns.items()}
    else:
        return X
    found = [name for name, item in firsts.items() if _is_image_or_row(item)]
    if not found:
        return X
    if len(columns) > 1:
        raise ValueError(
            f"X is a table with the columns {list(columns)}, and {found} may be the "
            "paths of files, or images: pass that column alone, such as "
            f"X[{found[0]!r}]"
        )
    return list(columns[found[0]])


def _find_first(column):
    """Return the first cell of a column that is not missing; None if all are."""
    return next((item for item in column if not is_missing(item)), None)


def _is_image_or_row(item):
    """Return whether a cell of a table is an image; numbers and the like are not."""
    if isinstance(item, Mapping):
        return not {*IMAGE_KEYS, "bytes"}.isdisjoint(item)
    return _is_image(item)


def _refuse_fixed_bytes(X):
    if getattr(getattr(X, "dtype", None), "kind", None) == "S":
        raise ValueError(
            f"X is an array of dtype {X.dtype}, which drops zeros at the end of bytes: "
            "give encoded images as a list or with dtype object, and paths as str"
        )


def _is_dataset(X):
    """Return whether X is a data set of torch's kind: items by number, and a length."""
    return (
        isinstance(X, Sized)
        and hasattr(X, "__getitem__")
        and not hasattr(X, "__array__")
        and not hasattr(X, "dtype")
        and not isinstance(X, Mapping | set)
        # A table or a sparse matrix is none; data sets of Hugging Face have columns.
        and (not hasattr(X, "shape") or hasattr(X, "features"))
    )


def _is_pair(item):
    """Return whether an item is an image with its label."""
    if not isinstance(item, list | tuple) or len(item) < 2:
        return False
    first, *others = item
    return _is_image(first) and not all(_is_image(other) for other in others)
