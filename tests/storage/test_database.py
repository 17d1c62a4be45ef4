"""Databases: those that cannot be used, and what is said then."""

import sqlite3
import sys
import threading
from contextlib import closing

import pytest
import sqlalchemy
from optuna.storages import RDBStorage
from optuna.storages._rdb.models import BaseModel

from sklearn_iis.storage import StorageError, _database, _open, open_storage
from tests.storage.storages import (
    JOURNAL,
    begin,
    count,
    fails,
    locate,
    open_by_optuna,
    write,
)


def test_databases_in_memory_are_refused_as_objects_too():
    with pytest.raises(ValueError, match="not shared"):
        open_storage(RDBStorage("sqlite://"))


def fill_of_something_else(path, statement="CREATE TABLE trials (patient TEXT)"):
    with closing(sqlite3.connect(path)) as database:
        database.execute(statement)
        database.commit()


def cut_half(path):
    begin(open_storage(locate(path)))
    path.write_bytes(path.read_bytes()[:5000])


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda path: path.write_text("no database " * 99), "no database"),
        (lambda path: path.write_bytes(JOURNAL * 9), "no database"),
        (cut_half, "damaged"),
        (fill_of_something_else, "a database of something else, with a table 'trials'"),
        (
            lambda path: fill_of_something_else(
                path, "CREATE TABLE alembic_version (x)"
            ),
            None,
        ),
    ],
    ids=["text", "journal", "cut off", "of something else", "of other migrations"],
)
def test_files_that_are_no_databases_of_optuna(prepare, message, tmp_path):
    """They stay as they are, byte for byte."""
    path = tmp_path / "run.db"
    prepare(path)
    if message is None:
        fill_of_something_else(path, "CREATE TABLE users (name TEXT)")
        message = "with a table 'users'"
    before = path.read_bytes()
    fails(locate(path), str(path), message)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("tables", [0, 1, 5])
def test_a_creation_that_was_interrupted_is_finished(tables, tmp_path):
    path = tmp_path / "run.db"
    path.touch()
    metadata = BaseModel.metadata
    with closing(sqlite3.connect(path)):
        engine = sqlalchemy.create_engine(locate(path))
        metadata.create_all(engine, tables=metadata.sorted_tables[:tables])
        engine.dispose()
    shared = open_storage(locate(path))
    begin(shared)
    write(shared)
    assert count(open_by_optuna(path)) == 1


@pytest.mark.parametrize(
    ("version", "remedy"),
    [
        ("v3.0.0.d", "optuna storage upgrade --storage 'sqlite:///"),
        ("v99.0.0", "pip install -U optuna"),
    ],
    ids=["older", "newer"],
)
def test_databases_of_other_versions(version, remedy, tmp_path):
    path = tmp_path / "run.db"
    open_storage(locate(path))
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE alembic_version SET version_num = ?", [version])
        # Tables that the other version does not have are not created.
        database.execute("DROP TABLE trial_heartbeats")
        database.commit()
    before = path.read_bytes()
    fails(locate(path), str(path), remedy)
    assert path.read_bytes() == before


def test_a_missing_driver_is_named(monkeypatch):
    for module in ("psycopg", "psycopg2", "pymysql"):
        monkeypatch.setitem(sys.modules, module, None)
    url = "postgresql+psycopg://me:secret@host/runs"
    error = fails(url, "me:***@host", "pip install 'psycopg[binary]'")
    assert "secret" not in str(error)
    fails("postgresql+psycopg2://host/runs", "pip install psycopg2-binary")
    fails("mysql+pymysql://host/runs", "pip install PyMySQL")
    fails("redis://host/runs", "no database 'redis'", "given as objects")


def test_a_server_that_cannot_be_reached():
    pytest.importorskip("psycopg")
    url = "postgresql+psycopg://me:secret@127.0.0.1:1/runs"
    error = fails(url, "me:***@127.0.0.1:1", "see that the server runs")
    assert "secret" not in str(error)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg2://me:secret@127.0.0.1:1/runs",
        "postgresql+psycopg2://me@127.0.0.1:1/runs?password=secret",
        "postgresql+psycopg2://me@127.0.0.1:1/runs?sslpassword=secret",
        "mysql+nodriver://me:secret@127.0.0.1:1/runs?ssl_token=secret",
        "nothing://me:secret@127.0.0.1:1/runs?x=secret&PWD=secret",
    ],
)
def test_passwords_are_not_shown(url):
    name = _database.name_url(_database.parse_url(url))
    shared = _open.SharedStorage(name, print, url, "key")
    assert "secret" not in repr(shared).replace("x=secret", "")
    assert "***" in name
    with pytest.raises(StorageError) as caught:
        open_storage(url)
    assert "secret" not in str(caught.value).replace("x=secret", "")
    assert name in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["mysql://me:***@host/runs", "mysql://me@host/runs?sslpassword=***"],
)
def test_urls_that_lack_their_password_are_refused(url):
    """As that of a search that was fitted and pickled."""
    with pytest.raises(ValueError, match=r"lacks its password.*set_params\(storage"):
        open_storage(url)


def test_a_database_that_stays_locked(tmp_path):
    path = tmp_path / "run.db"
    shared = open_storage(f"{locate(path)}?timeout=0.1")
    begin(shared)
    with closing(sqlite3.connect(path)) as database:
        database.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StorageError, match=r"database is locked.* did not release"):
            write(shared)
    write(shared)


def test_writers_wait_for_each_other(tmp_path):
    path = tmp_path / "run.db"
    shared = open_storage(locate(path))
    begin(shared)
    with closing(sqlite3.connect(path, check_same_thread=False)) as database:
        database.execute("BEGIN EXCLUSIVE")
        release = threading.Timer(0.5, database.rollback)
        release.start()
        write(shared)
        release.join()
