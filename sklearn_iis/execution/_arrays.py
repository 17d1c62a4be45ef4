"""Large arrays, and the files that they may be a map of."""

import os
import platform
from dataclasses import dataclass
from mmap import mmap
from typing import Any

import numpy as np

# Smaller arrays are sent with each task; for local processes joblib does the same.
MIN_BYTES = 2**20


def is_large(X: Any) -> bool:
    """Return whether X is an array that is not to be sent with each task."""
    # Other classes of arrays are more than their memory.
    return (
        type(X) in (np.ndarray, np.memmap)
        and not X.dtype.hasobject
        and X.nbytes > MIN_BYTES
    )


def is_map(array: Any) -> bool:
    """Return whether an array is in a file, or is a part of one that is."""
    while isinstance(array, np.ndarray):
        if _is_changed_in_memory(array):
            return False
        array = array.base
    return isinstance(array, mmap)


class FileNotSeenError(OSError):
    """The file of an array is not seen by a process that needs it."""


@dataclass(frozen=True)
class ArrayFile:
    """Where an array is kept in a file, for processes that see the same file.

    Parameters
    ----------
    path : str
        The file.

    state : tuple of int
        What tells that file from others of this name, on other machines perhaps.

    offset : int
        Where in the file the array begins, in bytes.

    dtype : dtype
        Of the array.

    shape : tuple of int
        Of the array, whose last axis varies fastest.
    """

    path: str
    state: tuple[int, ...]
    offset: int
    dtype: np.dtype
    shape: tuple[int, ...]

    @classmethod
    def find(cls, array: Any) -> "ArrayFile | None":
        """Return the file of which an array is a map; None if it is not."""
        # A part of a map does not know where in the file it is.
        if (
            not isinstance(array, np.memmap)
            or not isinstance(array.base, mmap)
            or not isinstance(array.filename, str | os.PathLike)
            or not array.flags.c_contiguous
            or _is_changed_in_memory(array)
        ):
            return None
        path = os.path.abspath(array.filename)
        state = _state(path)
        if state is None:
            return None
        return cls(path, state, array.offset, array.dtype, array.shape)

    def is_here(self) -> bool:
        """Return whether this process sees the file."""
        return _state(self.path) == self.state

    def open(self) -> np.memmap:
        """Return the array, which must not be written to.

        Raises
        ------
        FileNotSeenError
            If this process does not see the file.
        """
        if not self.is_here():
            raise FileNotSeenError(
                f"the images of a stage, {self.path!r}, are not seen on "
                f"{platform.node()!r}: have TMPDIR name a folder there that all "
                "workers share, or that none does"
            )
        return np.memmap(
            self.path, self.dtype, mode="r", offset=self.offset, shape=self.shape
        )


def _is_changed_in_memory(array):
    """Return whether what is written to a map does not get to its file."""
    return isinstance(array, np.memmap) and array.mode == "c"


def _state(path):
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
