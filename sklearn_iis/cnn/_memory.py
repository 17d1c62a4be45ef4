"""Memory that training frees is kept for its next step."""

import ctypes
from contextlib import contextmanager

# Parameters of glibc's mallopt(3).
M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4

# What glibc starts with, and what its dynamic threshold grows up to.
DEFAULT_MMAP_MAX = 65_536
LARGEST_TRIM_THRESHOLD = 64 * 2**20


@contextmanager
def keep_freed_memory():
    """Have the C library keep what is freed until the context ends.

    By default glibc gives large blocks back to the system as soon as they are freed. A
    training step then asks for all of its activations anew, page by page, which takes
    as long as the arithmetic if the images are large. Other C libraries are left alone.
    """
    libc = _find_glibc()
    if libc is None:
        yield
        return
    libc.mallopt(M_MMAP_MAX, 0)
    libc.mallopt(M_TRIM_THRESHOLD, -1)
    try:
        yield
    finally:
        libc.mallopt(M_MMAP_MAX, DEFAULT_MMAP_MAX)
        libc.mallopt(M_TRIM_THRESHOLD, LARGEST_TRIM_THRESHOLD)
        libc.malloc_trim(0)


def _find_glibc():
    try:
        libc = ctypes.CDLL(None)
    except (OSError, TypeError):  # Windows
        return None
    return libc if hasattr(libc, "gnu_get_libc_version") else None
