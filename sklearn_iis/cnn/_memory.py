"""Memory that training frees is kept for its next step."""

import ctypes
from contextlib import contextmanager
from threading import Lock

# Parameters of glibc's mallopt(3).
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
M_MMAP_MAX = -4

# What glibc starts with, and what its thresholds grow up to as large blocks are freed.
DEFAULT_MMAP_MAX = 65_536
LARGEST_MMAP_THRESHOLD = 32 * 2**20
LARGEST_TRIM_THRESHOLD = 64 * 2**20

_n_contexts = 0
_lock = Lock()


@contextmanager
def keep_freed_memory():
    """Have the C library keep what is freed until the context ends.

    By default glibc gives large blocks back to the system as soon as they are freed. A
    training step then asks for all of its activations anew, page by page, which takes
    as long as the arithmetic if the images are large. Other C libraries are left alone.

    This holds for the whole process. What remains of it is that glibc's thresholds no
    longer grow by themselves: they are set to what they would have grown to.
    """
    global _n_contexts
    libc = _find_glibc()
    if libc is None:
        yield
        return
    with _lock:
        _n_contexts += 1
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)
    try:
        yield
    finally:
        with _lock:
            _n_contexts -= 1
            if _n_contexts == 0:
                libc.mallopt(M_MMAP_MAX, DEFAULT_MMAP_MAX)
                libc.mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
                libc.mallopt(M_TRIM_THRESHOLD, LARGEST_TRIM_THRESHOLD)
                libc.malloc_trim(0)


def _find_glibc():
    try:
        libc = ctypes.CDLL(None)
    except (OSError, TypeError):  # Windows
        return None
    return libc if hasattr(libc, "gnu_get_libc_version") else None
