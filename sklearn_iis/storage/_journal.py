"""Journals of Optuna: opened with care, and written by whole lines."""

import json
import os
import time
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import Any

from optuna.storages import JournalStorage
from optuna.storages.journal import (
    JournalFileBackend,
    JournalFileOpenLock,
    JournalFileSymlinkLock,
)

from sklearn_iis.execution._text import printable
from sklearn_iis.storage._errors import GO_ON, StorageError, check_file

# How long the last line of a journal may be incomplete: another process may be writing.
JOURNAL_PATIENCE = 1.0


def open_journal(source: str, create: bool = False) -> JournalStorage:
    """Return the storage of a journal.

    Raises
    ------
    StorageError
        If the file cannot be used, or is no journal.

    OSError
        If it cannot be read or written.
    """
    path = Path(source)
    check_file(source, path, create)
    if path.exists():
        _check_journal(path)
    try:
        return JournalStorage(_Journal(source))
    except OSError:
        raise
    except Exception as error:  # whatever entries may raise that are not as expected
        text = f"{type(error).__name__}: {printable(str(error))}"
        raise StorageError(
            f"storage {source!r} has entries that Optuna does not understand "
            f"({text}): it is damaged, or of a newer version. "
            "Update Optuna, restore it from a backup or name a new file"
        ) from error


def _check_journal(path: Path) -> None:
    """Raise an error if a file is no journal, or its last line is not complete.

    Of such a line Optuna says nothing, and would glue the next entry to it.
    """
    with open(path, "rb") as file:
        first = file.readline(1_000_000)
    if first.startswith(b"SQLite format 3"):
        raise StorageError(
            f"storage {str(path)!r} is a SQLite database: give it as 'sqlite:///{path}'"
        )
    if first and not (_is_entry(first) or _is_begun(first)):
        raise _damage(path, 1)
    deadline = time.monotonic() + JOURNAL_PATIENCE
    while True:
        number, line = 0, b""
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):  # noqa: B007
                pass
        if number == 0 or (line.endswith(b"\n") and _is_entry(line)):
            return
        if time.monotonic() > deadline:
            raise _damage(path, number, line)
        time.sleep(JOURNAL_PATIENCE / 10)


def _is_entry(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line)["op_code"], int)
    except (ValueError, TypeError, LookupError):
        return False


def _is_begun(line: bytes) -> bool:
    return line.startswith(b'{"op_code"') and not line.endswith(b"\n")


def _damage(path: Path, number: int, line: bytes = b"") -> StorageError:
    """Return the error of a journal whose line, counted from 1, is damaged."""
    name = f"storage {str(path)!r}"
    if _is_begun(line):
        return StorageError(
            f"{name}: its last line, {number}, is incomplete, as a full disk or a "
            "power failure leaves it. It was left as it is. Cut that line off "
            f"(`sed -i '$d' {str(path)!r}`) while nothing writes to it, then {GO_ON}"
        )
    if number == 1:
        return StorageError(
            f"{name} is no journal of Optuna, and was left as it was: name another file"
        )
    # Never that line alone: trials are numbered by the lines that begin them.
    return StorageError(
        f"{name}: line {number} is damaged. It was left as it is. Restore it from a "
        f"backup, name a new file, or keep what is before that line (`head -n "
        f"{number - 1}`)"
    )


class _Journal(JournalFileBackend):
    """A journal whose lines stay complete, and whose errors say what to do."""

    def __init__(self, path: str):
        self._path = path
        # Links need a privilege on Windows. Both locks are the same file.
        kind = JournalFileOpenLock if os.name == "nt" else JournalFileSymlinkLock
        self._own_lock = kind(path)
        super().__init__(path, self._own_lock)

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """Yield the entries from a number on, those that are complete."""
        number = log_number_from
        entries = super().read_logs(log_number_from)
        while True:
            number += 1
            try:
                entry = next(entries, None)
            except ValueError as error:
                raise _damage(Path(self._path), number) from error
            if entry is None:
                return
            if not (isinstance(entry, dict) and isinstance(entry.get("op_code"), int)):
                raise _damage(Path(self._path), number)
            yield entry

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append entries; none of them by half."""
        lines = [json.dumps(log, separators=(",", ":")) + "\n" for log in logs]
        self._own_lock.acquire()
        try:
            # A journal that was removed is not begun anew in the middle.
            with open(self._path, "ab+", buffering=0, opener=_open_existing) as file:
                self._append(file, "".join(lines).encode())
        finally:
            # Lost to a process that found it held for too long: what is written stays.
            with suppress(RuntimeError):
                self._own_lock.release()

    def _append(self, file: Any, data: bytes) -> None:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                _check_journal(Path(self._path))
        start = file.seek(0, os.SEEK_END)
        written = 0
        try:
            while written < len(data):
                written += file.write(data[written:])
            os.fsync(file.fileno())
        except OSError:
            # Off with what was written, unless others have gone on from there.
            with suppress(OSError):
                if os.fstat(file.fileno()).st_size == start + written:
                    file.truncate(start)
            raise


def _open_existing(path: str, flags: int) -> int:
    return os.open(path, flags & ~os.O_CREAT)
