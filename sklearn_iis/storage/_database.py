"""Databases of Optuna: opened with care, SQLite, PostgreSQL and MySQL alike."""

import os
import time
from pathlib import Path
from typing import Any

import sqlalchemy
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, RDBStorage, get_storage
from optuna.storages._rdb.models import BaseModel
from sqlalchemy.exc import NoSuchModuleError, OperationalError
from sqlalchemy.exc import SQLAlchemyError as DatabaseError

from sklearn_iis.execution._text import printable
from sklearn_iis.storage._errors import INSTEAD, StorageError, check_file
from sklearn_iis.storage._passwords import HIDDEN, hide_password

# How long, in seconds, writers of a SQLite database wait for each other.
SQLITE_TIMEOUT = 60
# Waits between the attempts to create tables that others may be creating as well.
CREATION_WAITS = (0.2, 0.5, 1.0, None)
# The packages of modules that SQLAlchemy could not import.
DRIVERS = {
    "MySQLdb": "mysqlclient (or PyMySQL, with a url that begins with mysql+pymysql://)",
    "psycopg": "'psycopg[binary]'",
    "psycopg2": "psycopg2-binary (or 'psycopg[binary]', with a url that begins with "
    "postgresql+psycopg://)",
    "pymysql": "PyMySQL",
}


def parse_url(text: str) -> sqlalchemy.URL:
    """Return the url of a database, that of a file with its whole path.

    Raises
    ------
    ValueError
        If it is no url, or one of a database in memory.
    """
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
    if HIDDEN in (url.password, *url.query.values()):
        raise ValueError(
            f"the url {name_url(url)!r} lacks its password, as in a search that was "
            "pickled after it was fitted: give the whole url, "
            "search.set_params(storage=...)"
        )
    if url.get_backend_name() != "sqlite":
        return url
    path = url.database or ":memory:"
    if path == ":memory:":
        refuse_memory(f"the database {name_url(url)!r}")
    if path.startswith("file:"):
        raise ValueError(
            f"the database {name_url(url)!r} must be named by its path: sqlite:///path"
        )
    return url.set(database=os.path.abspath(path))


def name_url(url: sqlalchemy.URL) -> str:
    """Return a url as messages show it: without password."""
    return hide_password(url.render_as_string(hide_password=True))


def refuse_memory(name: str) -> None:
    """Raise the error for a storage that is kept in memory only."""
    raise ValueError(
        f"{name} is not shared with worker processes, and lost in a crash: {INSTEAD}"
    )


def open_database(source: str, create: bool = False) -> BaseStorage:
    """Return the storage of a database, with the tables of Optuna.

    Raises
    ------
    StorageError
        If the database cannot be used.

    SQLAlchemyError, optuna.exceptions.StorageInternalError
        If it cannot be read or written.
    """
    url = sqlalchemy.make_url(source)
    name = name_url(url)
    # Servers drop connections that were idle during a long evaluation.
    options: dict[str, Any] = {"pool_pre_ping": True}
    if url.get_backend_name() == "sqlite":
        check_file(name, Path(str(url.database)), create)
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
        text = printable(str(error.orig).strip())
        raise StorageError(
            f"storage {name!r}: {text}: see that the server runs, "
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
    """Return whether all tables are there; raise an error if they are of others.

    The tables may be those of another version of Optuna. If some are missing, their
    creation was interrupted, or is under way.
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
