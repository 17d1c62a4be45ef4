"""Sharing data with workers: large arrays apart, in files where they can be mapped."""

import os
import pickle
import platform
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from mmap import mmap
from typing import Any, Literal

import cloudpickle
import numpy as np

# Smaller arrays stay in the pickle; joblib has the same bound.
MIN_BYTES = 2**20


def is_large(X: Any) -> bool:
    """Return whether X is an array that is not to be sent with each task."""
    # Other classes of arrays are more than their memory.
    return (
        type(X) in (np.ndarray, np.memmap)
        and not X.dtype.hasobject
        and X.nbytes > MIN_BYTES
    )


def pack(value: Any, share: Callable[[np.ndarray], Any]) -> bytes:
    """Pickle a value, but for its large arrays."""
    file = BytesIO()
    _Pickler(file, share).dump(value)
    return file.getvalue()


def unpack(data: bytes, fetch: Callable[[Any], np.ndarray]) -> Any:
    """Return what was packed."""
    return _Unpickler(BytesIO(data), fetch).load()


class _Pickler(cloudpickle.Pickler):
    def __init__(self, file, share):
        super().__init__(file)
        self.share = share
        # The arrays as well, as ids are taken again once they are gone.
        self.shared: dict[int, tuple[np.ndarray, Any]] = {}

    def persistent_id(self, value):
        if not is_large(value):
            return None
        if id(value) not in self.shared:
            self.shared[id(value)] = value, self.share(value)
        return self.shared[id(value)][1]


class _Unpickler(pickle.Unpickler):
    def __init__(self, file, fetch):
        super().__init__(file)
        self.fetch = fetch

    def persistent_load(self, token):
        return self.fetch(token)


class FileNotSeenError(OSError):
    """The file of an array is not seen by a process that needs it."""


@dataclass(frozen=True)
class ArrayFile:
    """The file of an array, for processes that see the same file.

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
        Of the array.

    order : {"C", "F"}, default="C"
        Whether its last or its first axis varies fastest.
    """

    path: str
    state: tuple[int, ...]
    offset: int
    dtype: np.dtype
    shape: tuple[int, ...]
    order: Literal["C", "F"] = "C"

    @classmethod
    def find(cls, array: Any) -> "ArrayFile | None":
        """Return the file that an array is in, or is a part of; None if it is not."""
        whole = array
        while isinstance(whole, np.ndarray) and not isinstance(whole.base, mmap):
            whole = whole.base
        if (
            not isinstance(whole, np.memmap)
            or not isinstance(whole.filename, str | os.PathLike)
            or not array.flags.forc
            # What is written to such a map does not get to its file.
            or whole.mode == "c"
        ):
            return None
        path = os.path.abspath(whole.filename)
        state = _state(path)
        if state is None:
            return None
        offset = whole.offset + array.ctypes.data - whole.ctypes.data
        order: Literal["C", "F"] = "C" if array.flags.c_contiguous else "F"
        return cls(path, state, offset, array.dtype, array.shape, order)

    @classmethod
    def store(cls, array: np.ndarray, path: str) -> "ArrayFile":
        """Return the file of an array, a new one if it is not a map.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        if (file := cls.find(array)) is not None:
            return file
        try:
            np.save(path, array)
        except OSError as error:
            raise OSError(
                f"the {array.nbytes / 2**20:.0f} MB of an array that workers share "
                f"cannot be written to {os.path.dirname(path)!r} ({error}): free some "
                "space there, or name another folder by the environment variable TMPDIR"
            ) from error
        file = cls.find(np.load(path, mmap_mode="r"))
        assert file is not None, "what was just written is a map"
        return file

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
                f"the file {self.path!r}, which workers share, is not seen on "
                f"{platform.node()!r}: have TMPDIR name a folder there that all "
                "workers share, or that none does"
            )
        return np.memmap(
            self.path, self.dtype, "r", self.offset, self.shape, self.order
        )


def _state(path):
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
