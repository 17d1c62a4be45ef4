"""Storages of Optuna, opened once by each process."""

import json
import os
import pickle
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import cloudpickle
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage
from sqlalchemy.exc import SQLAlchemyError as DatabaseError

from sklearn_iis.storage._database import (
    name_url,
    open_database,
    parse_url,
    refuse_memory,
)
from sklearn_iis.storage._errors import StorageError, translate
from sklearn_iis.storage._journal import open_journal

__all__ = ["SharedStorage", "StorageError", "open_storage"]

# How many storages a process keeps open.
N_OPENED = 8


@dataclass(frozen=True)
class SharedStorage:
    """A storage of Optuna that can be sent to workers; each process opens it once.

    Parameters
    ----------
    name : str
        As messages call it: the path, or the url without its password.

    opener : callable
        Opens the source.

    source : str or bytes
        The path, the url, or a pickled storage.

    key : str
        A process remembers by it what it opened. It differs with each call of
        :func:`open_storage`: a file may have been deleted and begun anew between two,
        which a worker that both use must notice.
    """

    name: str
    opener: Callable[[Any], BaseStorage]
    source: str | bytes
    key: str

    def __repr__(self) -> str:
        # The source may hold a password.
        return f"SharedStorage({self.name!r})"

    @property
    def file(self) -> str | None:
        """The path of the file that it is; None if it is another kind of storage."""
        if self.opener is open_journal:
            return str(self.source)
        if self.opener is open_database:
            url = parse_url(str(self.source))
            return url.database if url.get_backend_name() == "sqlite" else None
        return None

    def open(self) -> BaseStorage:
        """Return the storage, opened if this process has not done so before.

        Raises
        ------
        StorageError
            If it cannot be opened.
        """
        with _opened.lock:
            storage = _opened.storages.get(self.key)
            if storage is None:
                with self.errors():
                    storage = self.opener(self.source)
                _opened.keep(self.key, storage)
            return storage

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn failures to read or write into errors that name the storage.

        Nothing but calls of the storage belongs into the block: every OSError in it is
        taken for one of the storage. Errors by which Optuna answers, such as KeyError
        for a study that is not there, are left as they are.

        Raises
        ------
        StorageError
            If the storage could not be read or written.
        """
        try:
            yield
        except StorageError:
            raise
        except (
            DatabaseError,
            StorageInternalError,
            OSError,
            json.JSONDecodeError,
        ) as error:
            raise translate(error, self.name) from error


class _Opened:
    """The storages that this process has opened."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.storages: dict[str, BaseStorage] = {}

    def keep(self, key: str, storage: BaseStorage) -> None:
        """Keep a storage, and forget the oldest of too many."""
        self.storages[key] = storage
        if len(self.storages) > N_OPENED:
            del self.storages[next(iter(self.storages))]


_opened = _Opened()
_of_parents: list[_Opened] = []


def _leave_to_parent() -> None:
    """Forget the storages of the process that forked this one.

    Connections cannot be used by both. They are not even closed here, since that could
    end the parent's session at the server.
    """
    global _opened
    _of_parents.append(_opened)
    _opened = _Opened()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)


def open_storage(storage: str | os.PathLike | BaseStorage) -> SharedStorage:
    """Open or create a storage.

    Raises
    ------
    StorageError
        If it cannot be used. What was there is left as it was.

    ValueError
        If it is kept in memory only, or is no url.

    TypeError
        If it is nothing of this kind, or a storage that cannot be pickled.
    """
    key = uuid.uuid4().hex
    if isinstance(storage, BaseStorage):
        shared = _share_object(storage, key)
        opened = storage
    elif isinstance(storage, str) and "://" in storage:
        url = parse_url(storage)
        source = url.render_as_string(hide_password=False)
        shared = SharedStorage(name_url(url), open_database, source, key)
        with shared.errors():
            opened = open_database(source, create=True)
    elif isinstance(storage, str | os.PathLike):
        # Not resolved, so that messages and locks name what the user did.
        path = os.path.abspath(os.fsdecode(storage) or os.curdir)
        shared = SharedStorage(path, open_journal, path, key)
        with shared.errors():
            opened = open_journal(path, create=True)
    else:
        raise TypeError(
            f"storage must be a path, the url of a database or a storage of Optuna, "
            f"got {storage!r}"
        )
    with _opened.lock:
        _opened.keep(key, opened)
    return shared


def _share_object(storage: BaseStorage, key: str) -> SharedStorage:
    if isinstance(storage, InMemoryStorage):
        refuse_memory("an InMemoryStorage")
    name = type(storage).__name__
    if isinstance(storage, RDBStorage):
        name = name_url(parse_url(storage.url))
    try:
        # Once: it is sent with every task. Classes of a script or a notebook by value.
        source = cloudpickle.dumps(storage)
    except Exception as error:  # whatever pickling it may raise
        raise TypeError(
            f"the storage {storage!r} cannot be sent to workers: {error}"
        ) from error
    return SharedStorage(name, pickle.loads, source, key)
