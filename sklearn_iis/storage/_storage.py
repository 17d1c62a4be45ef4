"""Where the evaluations of a search are kept: storages of Optuna, opened with care."""

import json
import os
import pickle
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle
import sqlalchemy
from optuna.exceptions import StorageInternalError
from optuna.storages import (
    BaseStorage,
    InMemoryStorage,
    JournalStorage,
    RDBStorage,
    get_storage,
)
from optuna.storages._rdb.models import BaseModel
from optuna.storages.journal import (
    JournalFileBackend,
    JournalFileOpenLock,
    JournalFileSymlinkLock,
)
from sqlalchemy.exc import InterfaceError, NoSuchModuleError, OperationalError
from sqlalchemy.exc import SQLAlchemyError as DatabaseError

from sklearn_iis._files import check_writable

# How long, in seconds, writers of a SQLite database wait for each other.
SQLITE_TIMEOUT = 60
# How long the last line of a journal may be incomplete: another process may be writing.
JOURNAL_PATIENCE = 1.0
# Waits between the attempts to create tables that others may be creating as well.
CREATION_WAITS = (0.2, 0.5, 1.0, None)
# How many storages a process keeps open.
N_OPENED = 8

GO_ON = "call again with the same storage: it goes on where it stopped"
INSTEAD = (
    "give the path of a journal, such as 'search.journal', or the url of a database, "
    "such as 'sqlite:///search.db'"
)
# What the messages of databases and systems say, in lower case, and what to do then.
REMEDIES = [
    (("is full", "no space left", "quota"), f"free some space there, then {GO_ON}"),
    (
        ("locked", "busy"),
        f"another process did not release it in time. Once it has, {GO_ON}. For many "
        "workers, or a folder shared by machines, a journal or the url of a database "
        "server serves better than SQLite",
    ),
    (
        ("readonly", "read-only", "permission denied", "not permitted"),
        f"make it writable, then {GO_ON}",
    ),
    (
        ("not a database", "malformed"),
        "it is damaged, or no database: restore it from a backup, or name a new file",
    ),
    (
        ("no such table", "no such file", "unable to open database file"),
        "it was removed or replaced meanwhile, or its folder is not shared with this "
        f"machine. Once it is there again, {GO_ON}",
    ),
]
# What to install for a module that SQLAlchemy could not import.
DRIVERS = {
    "MySQLdb": "mysqlclient (or PyMySQL, with a url that begins with mysql+pymysql://)",
    "psycopg": "'psycopg[binary]'",
    "psycopg2": "psycopg2-binary (or 'psycopg[binary]', with a url that begins with "
    "postgresql+psycopg://)",
    "pymysql": "PyMySQL",
}


class StorageError(OSError):
    """A storage cannot be opened, read or written; the message says what to do."""


@dataclass(frozen=True)
class SharedStorage:
    """A storage of Optuna that can be sent to workers; each process opens it once.

    Parameters
    ----------
    name : str
        What error messages call it: the path, or the url without its password.

    opener : callable
        Opens the source.

    source : str or bytes
        What is opened: the path, the url, or a pickled storage.

    key : str
        By which a process remembers what it opened. It differs with each call of
        :func:`open_storage`: a file may have been deleted and begun anew between two,
        of which a worker that both use must not notice nothing.
    """

    name: str
    opener: Callable[[Any], BaseStorage]
    source: str | bytes
    key: str

    def __repr__(self) -> str:
        # The source may hold a password.
        return f"SharedStorage({self.name!r})"

    def open(self) -> BaseStorage:
        """Return the storage, opened if this process has not done so before.

        Returns
        -------
        storage : optuna.storages.BaseStorage
            Threads may share it.

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
    """What this process has opened."""

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
    """Forget what the process that forked this one has opened.

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

    Parameters
    ----------
    storage : str, path-like or optuna.storages.BaseStorage
        The url of a database (SQLite, PostgreSQL, MySQL), with "://" in it; the path of
        a journal; or a storage of Optuna, which is used as it is. A relative path is
        one in the present working directory, whichever that of the workers is.

    Returns
    -------
    shared : SharedStorage
        What is sent to workers.

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
        url = _parse(storage)
        source = url.render_as_string(hide_password=False)
        shared = SharedStorage(_name(url), _open_database, source, key)
        with shared.errors():
            opened = _open_database(source, create=True)
    elif isinstance(storage, str | os.PathLike):
        # Not resolved, so that messages and locks name what the user did.
        path = os.path.abspath(os.fsdecode(storage) or os.curdir)
        shared = SharedStorage(path, _open_journal, path, key)
        with shared.errors():
            opened = _open_journal(path, create=True)
    else:
        raise TypeError(
            f"storage must be a path, the url of a database or a storage of Optuna, "
            f"got {storage!r}"
        )
    with _opened.lock:
        _opened.keep(key, opened)
    return shared


def translate(error: Exception, name: str) -> StorageError:
    """Return what says which storage failed, and what to do.

    Parameters
    ----------
    error : Exception
        Of SQLAlchemy, Optuna or the system.

    name : str
        What the storage is called.

    Returns
    -------
    translated : StorageError
        The error to raise.
    """
    cause: Any = error
    if isinstance(error, StorageInternalError) and error.__cause__ is not None:
        cause = error.__cause__
    # Without the statement and its values, which SQLAlchemy adds.
    text = str(
        getattr(cause, "orig", None) or getattr(cause, "strerror", None) or cause
    )
    if isinstance(cause, OSError | OperationalError | InterfaceError):
        remedy = f"once it can be reached again, {GO_ON}"
    else:
        remedy = "what was to be read or written does not fit to it"
    for words, known in REMEDIES:
        if any(word in text.lower() for word in words):
            remedy = known
            break
    return StorageError(f"storage {name!r}: {text.strip()}: {remedy}")


def _share_object(storage: BaseStorage, key: str) -> SharedStorage:
    if isinstance(storage, InMemoryStorage):
        _refuse_memory("an InMemoryStorage")
    name = type(storage).__name__
    if isinstance(storage, RDBStorage):
        name = _name(_parse(storage.url))
    try:
        # Once: it is sent with every task. Classes of a script or a notebook by value.
        source = cloudpickle.dumps(storage)
    except Exception as error:  # whatever pickling it may raise
        raise TypeError(
            f"the storage {storage!r} cannot be sent to workers: {error}"
        ) from error
    return SharedStorage(name, pickle.loads, source, key)


def _refuse_memory(what: str) -> None:
    raise ValueError(
        f"{what} is not shared with worker processes, and lost in a crash: {INSTEAD}"
    )


def _parse(text: str) -> sqlalchemy.URL:
    """Return the url of a database, that of a file with its whole path."""
    try:
        url = sqlalchemy.make_url(text)
    except (DatabaseError, ValueError):
        # Perhaps with a password, which is not shown.
        scheme = text.partition("://")[0]
        raise ValueError(
            f"the url {scheme + '://...'!r} of a database cannot be read: it must look "
            "like dialect://user:password@host:port/database, special characters in "
            "the password being percent-encoded"
        ) from None
    if url.get_backend_name() != "sqlite":
        return url
    path = url.database or ":memory:"
    if path == ":memory:":
        _refuse_memory(f"the database {_name(url)!r}")
    if path.startswith("file:"):
        raise ValueError(
            f"the database {_name(url)!r} must be named by its path: sqlite:///path"
        )
    return url.set(database=os.path.abspath(path))


def _name(url: sqlalchemy.URL) -> str:
    hidden = {key: "***" for key in ("password", "passwd") if key in url.query}
    return url.update_query_dict(hidden).render_as_string(hide_password=True)


def _check_file(name: str, path: Path, create: bool) -> None:
    """Raise an error if a file cannot be used, before anything is written."""
    try:
        check_writable(path)
        if path.exists():
            if not path.is_file():
                raise OSError("it is no regular file")
            if not os.access(path, os.R_OK | os.W_OK):
                raise PermissionError("it cannot be both read and written")
        elif not create:
            raise FileNotFoundError(
                "it is not there. It was removed meanwhile, or its folder is not "
                "shared with this machine"
            )
    except OSError as error:
        raise StorageError(f"storage {name!r} cannot be used: {error}") from error


def _open_database(source: str, create: bool = False) -> BaseStorage:
    url = sqlalchemy.make_url(source)
    name = _name(url)
    # Servers drop connections that were idle during a long evaluation.
    options: dict[str, Any] = {"pool_pre_ping": True}
    if url.get_backend_name() == "sqlite":
        _check_file(name, Path(str(url.database)), create)
        # A connection that is kept would go on with a file that was deleted.
        options = {"poolclass": sqlalchemy.NullPool}
        if "timeout" not in url.query:
            options["connect_args"] = {"timeout": SQLITE_TIMEOUT}
    try:
        engine = sqlalchemy.create_engine(url, **options)
    except NoSuchModuleError as error:
        raise StorageError(
            f"storage {name!r}: SQLAlchemy knows no database {url.drivername!r}. "
            f"Install what adds it, or {INSTEAD}. Other storages of Optuna, such as "
            "those of Redis, are given as objects"
        ) from error
    except ImportError as error:
        module = (error.name or "").partition(".")[0]
        raise StorageError(
            f"storage {name!r} needs a driver ({error}): "
            f"pip install {DRIVERS.get(module, module)}"
        ) from error
    try:
        return _open_tables(source, name, engine, options)
    finally:
        engine.dispose()


def _open_tables(
    source: str, name: str, engine: sqlalchemy.Engine, options: dict[str, Any]
) -> BaseStorage:
    try:
        engine.connect().close()
    except OperationalError as error:
        if engine.dialect.name == "sqlite":
            raise
        raise StorageError(
            f"storage {name!r}: {str(error.orig).strip()}: see that the server runs, "
            "that the database exists, and that host, port, user and password are right"
        ) from error
    for wait in CREATION_WAITS:
        complete = _check_tables(name, engine)
        try:
            storage = RDBStorage(source, options, skip_table_creation=complete)
            # As Optuna would do for each study: what was read is remembered.
            return get_storage(storage)
        except RuntimeError as error:
            # Optuna says how the tables are upgraded, or Optuna itself.
            text = str(error).replace("$STORAGE_URL", repr(name))
            raise StorageError(f"storage {name!r}: {text}") from error
        except (DatabaseError, StorageInternalError):
            # Perhaps since another process has created the same table meanwhile.
            if wait is None:
                raise
            time.sleep(wait)
    raise AssertionError("the last attempt returns or raises")


def _check_tables(name: str, engine: sqlalchemy.Engine) -> bool:
    """Raise an error if a database is of something else.

    Parameters
    ----------
    name : str
        What the database is called.

    engine : sqlalchemy.Engine
        The database, which is only read.

    Returns
    -------
    complete : bool
        Whether it has all tables of Optuna, perhaps of another version. Otherwise it
        has none, or some, as a creation leaves that was interrupted or is under way.
    """
    inspector = sqlalchemy.inspect(engine)
    found = set(inspector.get_table_names())
    # Optuna creates `alembic_version` last; others that have it know no trials.
    if {"alembic_version", "version_info", "studies", "trials"} <= found:
        return True
    known = BaseModel.metadata.tables
    for table in found - {"alembic_version"}:
        columns = {column["name"] for column in inspector.get_columns(table)}
        if table not in known or columns != set(known[table].columns.keys()):
            raise StorageError(
                f"storage {name!r} is a database of something else, with a table "
                f"{table!r}, and was left as it was: name another database. If it is "
                "to hold the tables of Optuna as well, let `optuna create-study "
                "--storage URL` create them"
            )
    return False


def _open_journal(source: str, create: bool = False) -> JournalStorage:
    path = Path(source)
    _check_file(source, path, create)
    if path.exists():
        _check_journal(path)
    try:
        return JournalStorage(_Journal(source))
    except OSError:
        raise
    except Exception as error:  # whatever entries may raise that are not as expected
        raise StorageError(
            f"storage {source!r} has entries that Optuna does not understand "
            f"({type(error).__name__}: {error}): it is damaged, or of a newer version. "
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
    """Return the error of a journal with a damaged line.

    Parameters
    ----------
    path : pathlib.Path
        The journal.

    number : int
        The line, counted from 1.

    line : bytes, default=b""
        Its content, if it is the last.

    Returns
    -------
    error : StorageError
        What to raise.
    """
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
