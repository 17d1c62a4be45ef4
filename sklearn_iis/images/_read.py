"""Many images at once: read by threads, with all that cannot be read in one error."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import joblib
import numpy as np
from PIL.ImageFile import ImageFile

from sklearn_iis.images._budget import ByteBudget
from sklearn_iis.images._decode import Decoder
from sklearn_iis.images._items import PATH, is_encoded, take_image
from sklearn_iis.images._report import make_error

# The memory that images take while they are decoded and resized, in bytes; one that
# takes more is decoded alone.
BUDGET = 2**28

# So many images are handed to the threads at a time.
AT_ONCE = 256

# Images of so many bytes may wait to be resized, by one thread: for small ones several
# are in each other's way, as torch gives Python's lock back and forth.
SMALL = 2**18

# Threads that wait for a disk, besides one for each core.
WAITING = 4


def make_decoder(
    mode: str, background: tuple[int, int, int], size: tuple[int, int] | None
) -> Decoder:
    """Return a decoder with the memory for one call."""
    return Decoder(mode, background, size, ByteBudget(BUDGET))


def read_images(
    X: Sequence[Any],
    load: Callable[[int], np.ndarray],
    fit: Callable[[np.ndarray], np.ndarray],
    size: Any,
) -> np.ndarray:
    """Return images as one array.

    Parameters
    ----------
    X : sequence
        The images, as from :func:`find_items`.

    load : callable
        Returns one image by its index, at its size if it has more than `SMALL` bytes.
        It may be called in several threads.

    fit : callable
        Brings an image to its size, if it is not.

    size : object
        The size that is asked for, for messages.

    Raises
    ------
    UnreadableImagesError
        If images cannot be read. It names all of them.

    ValueError
        If the images differ in shape or dtype.
    """
    unreadable: dict[int, Exception] = {}
    indices = iter(range(len(X)))
    stacked = None
    for first in indices:
        try:
            image = fit(load(first))
        except OSError as error:
            unreadable[first] = error
            continue
        stacked = np.empty((len(X), *image.shape), image.dtype)
        stacked[first] = image
        break

    def store(index, image):
        image = fit(image)
        if (image.shape, image.dtype) != (stacked.shape[1:], stacked.dtype):
            raise ValueError(
                f"With size={size!r}, X[{first}] has shape {stacked.shape[1:]} and"
                f" dtype {stacked.dtype}, X[{index}] {image.shape} and"
                f" {image.dtype}: set `size` to bring images to one size, and do"
                " not mix grey and colour images, or dtypes."
            )
        stacked[index] = image

    def load_or_store(index):
        image = load(index)
        if image.nbytes <= SMALL:
            return image
        store(index, image)  # here, so that it does not wait for its place
        return None

    unreadable |= _collect(load_or_store, indices, X, store)
    if unreadable:
        raise make_error(unreadable)
    assert stacked is not None
    return stacked


def find_unreadable(
    X: Sequence[Any], decoder: Decoder, indices: Iterable[int] | None = None
) -> dict[int, Exception]:
    """Return the errors of images that are missing or cannot be read, by index.

    Pixels in memory, which are there, are not looked at.
    """

    def check(index):
        item = take_image(X[index], f"X[{index}]")
        # An image of Pillow's that is of a file may not be loaded yet.
        if is_encoded(item) or isinstance(item, ImageFile):
            decoder.decode(item, name_image(item, index), lambda pixels: None)

    indices = range(len(X)) if indices is None else indices
    return _collect(check, indices, X, lambda index, result: None)


def name_image(item: Any, index: int) -> str:
    """Return what messages call an image: its path, or its place."""
    return f"'{item}'" if isinstance(item, PATH) else f"X[{index}]"


def _collect(function, indices, X, take) -> dict[int, Exception]:
    """Call a function for all indices; return the errors of what cannot be read.

    Other results than None are handed to `take`, in this thread.
    """
    errors: dict[int, Exception] = {}

    def attempt(index):
        try:
            return index, function(index)
        except OSError as error:
            return index, error

    for index, result in _map(attempt, indices, X):
        if isinstance(result, OSError):
            errors[index] = result
        elif result is not None:
            take(index, result)
    return errors


def _map(function: Callable, indices: Iterable[int], X: Sequence[Any]) -> Iterator[Any]:
    """Call a function for all indices; in threads if images are to be decoded."""
    # A data set of others may not be made for several threads.
    if not (isinstance(X, list | tuple) and any(map(is_encoded, X))):
        yield from map(function, indices)
        return
    # Of the cores that this process may use, which a container or `taskset` bounds.
    pool = ThreadPoolExecutor(joblib.cpu_count() + WAITING)
    indices = list(indices)
    try:
        for start in range(0, len(indices), AT_ONCE):
            yield from pool.map(function, indices[start : start + AT_ONCE])
    finally:
        pool.shutdown(cancel_futures=True)
