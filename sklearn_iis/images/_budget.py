"""A bound on the memory that threads use together."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition


class ByteBudget:
    """So many bytes for all threads together.

    Parameters
    ----------
    limit : int
        Bytes. Whoever needs more than that gets it once nobody else has any.
    """

    def __init__(self, limit: int):
        self.limit = limit
        self._spent = 0
        self._changed = Condition()

    @contextmanager
    def spend(self, n_bytes: int) -> Iterator[None]:
        """Wait until there are so many bytes, and hold them for a while."""
        with self._changed:
            self._changed.wait_for(
                lambda: not self._spent or self._spent + n_bytes <= self.limit
            )
            self._spent += n_bytes
        try:
            yield
        finally:
            with self._changed:
                self._spent -= n_bytes
                self._changed.notify_all()
