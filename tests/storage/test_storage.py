"""Storages: opened once by each process, and what is said if they cannot be used."""

import dataclasses
import json
import multiprocessing
import os
import pickle
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

import joblib
import optuna
import pytest
from optuna.storages import InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages._rdb.models import BaseModel
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import TrialState

from sklearn_iis.storage import _storage
from sklearn_iis.storage._storage import StorageError, open_storage

KINDS = ["database", "journal", "database object", "journal object"]
FILES = ["run.db", "run.journal"]
JOURNAL = (
    b'{"op_code":0,"worker_id":"w","study_name":"search","directions":[2]}\n'
    b'{"op_code":4,"worker_id":"w","study_id":0,"datetime_start":null}\n'
)


def locate(path):
    """Return what is given to name a file: a url for one that is called so."""
    return f"sqlite:///{path}" if path.suffix == ".db" else str(path)


def make(kind, folder):
    """Return what a user may give."""
    url, path = locate(folder / "run.db"), folder / "run.journal"
    return {
        "database": lambda: url,
        "journal": lambda: path,
        "database object": lambda: RDBStorage(url),
        "journal object": lambda: JournalStorage(JournalFileBackend(str(path))),
    }[kind]()


def begin(shared):
    """Create the study."""
    with shared.errors():
        shared.open().create_new_study([StudyDirection.MAXIMIZE], "search")


def write(shared, note=""):
    """Write an evaluation; return who has written it, by which object."""
    with shared.errors():
        storage = shared.open()
        study = storage.get_study_id_from_name("search")
        trial = storage.create_new_trial(study)
        storage.set_trial_user_attr(trial, "note", note)
        storage.set_trial_state_values(trial, TrialState.COMPLETE, [1.0])
    return os.getpid(), id(storage)


def count(storage):
    """Return how many evaluations are complete."""
    study = storage.get_study_id_from_name("search")
    trials = storage.get_all_trials(study)
    return sum(trial.state == TrialState.COMPLETE for trial in trials)


def open_by_optuna(path):
    """Open a file without us."""
    if path.suffix == ".db":
        return RDBStorage(locate(path))
    return JournalStorage(JournalFileBackend(str(path)))


def write_on(shared):
    for _ in range(20):
        write(shared, "x" * 1000)


def fail_to_write(shared):
    """Return the error, since joblib ends its workers if one is raised."""
    with pytest.MonkeyPatch.context() as patch:
        # Optuna tries five times to begin a trial, and waits at random in between.
        patch.setattr(random, "random", float)
        with pytest.raises(StorageError) as caught:
            write_on(shared)
    return caught.value


def write_elsewhere(shared):
    os.chdir("/")
    return write(shared)


def parallel(function, *tasks):
    return joblib.Parallel(n_jobs=2)(joblib.delayed(function)(*task) for task in tasks)


def fails(storage, *words):
    """Check that opening fails with these words; return the error."""
    with pytest.raises(StorageError) as caught:
        open_storage(storage)
    for word in words:
        assert word in str(caught.value)
    return caught.value


@pytest.mark.parametrize("kind", KINDS)
def test_workers_write_what_optuna_reads(kind, tmp_path):
    """Each process opens the storage once, and none of the evaluations is lost."""
    shared = open_storage(make(kind, tmp_path))
    begin(shared)
    writers = parallel(write, *[(shared,)] * 20)
    assert os.getpid() not in dict(writers)
    assert len(set(writers)) == len(dict(writers))
    write(shared)
    assert count(shared.open()) == 21
    (path,) = tmp_path.iterdir()
    assert count(open_by_optuna(path)) == 21


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_sent_with_each_task_is_small(kind, tmp_path):
    shared = open_storage(make(kind, tmp_path))
    begin(shared)
    for _ in range(5):
        write(shared, "x" * 1000)
    assert len(pickle.dumps(shared)) < 1000


@pytest.mark.parametrize("name", FILES)
def test_relative_paths_are_the_same_for_all(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shared = open_storage(locate(Path(name)))
    assert str(tmp_path / name) in shared.name
    begin(shared)
    parallel(write_elsewhere, (shared,), (shared,))
    assert count(shared.open()) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_threads_share_what_one_of_them_opened(kind, tmp_path):
    shared = open_storage(make(kind, tmp_path))
    begin(shared)
    # As if it came from another process.
    shared = dataclasses.replace(pickle.loads(pickle.dumps(shared)), key=str(tmp_path))
    with joblib.parallel_config("threading"):
        writers = joblib.Parallel(n_jobs=4)(
            joblib.delayed(write)(shared) for _ in range(12)
        )
    assert len(set(writers)) == 1
    assert count(shared.open()) == 12


def test_a_storage_object_is_used_itself(tmp_path):
    storage = make("journal object", tmp_path)
    assert open_storage(storage).open() is storage


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")
@pytest.mark.parametrize("kind", KINDS)
def test_a_forked_process_opens_its_own(kind, tmp_path):
    """Even if another thread was opening something at that moment."""
    shared = open_storage(make(kind, tmp_path))
    begin(shared)
    kept = shared.open()

    def run():
        assert shared.open() is not kept
        write(shared)

    with _storage._opened.lock:
        child = multiprocessing.get_context("fork").Process(target=run, daemon=True)
        child.start()
    child.join(30)
    assert child.exitcode == 0
    write(shared)
    assert count(kept) == 2


@pytest.mark.parametrize("name", FILES)
def test_workers_notice_that_a_file_was_begun_anew(name, tmp_path):
    path = tmp_path / name
    for _ in range(2):
        shared = open_storage(locate(path))
        begin(shared)
        parallel(write, *[(shared,)] * 6)
        assert count(open_by_optuna(path)) == 6
        path.unlink()


def test_not_every_storage_is_kept_open(tmp_path):
    first = open_storage(tmp_path / "first.journal")
    begin(first)
    for number in range(_storage.N_OPENED):
        open_storage(tmp_path / f"{number}.journal")
    assert len(_storage._opened.storages) == _storage.N_OPENED
    write(first)
    assert count(first.open()) == 1


def open_at(storage, when):
    time.sleep(max(0.0, when - time.time()))
    open_storage(storage)


@pytest.mark.parametrize("name", FILES)
def test_several_may_create_a_storage_at_once(name, tmp_path):
    for number in range(4):
        storage = locate(tmp_path / f"{number}-{name}")
        parallel(open_at, *[(storage, time.time() + 0.2)] * 2)
        begin(open_storage(storage))


def test_nothing_is_printed(tmp_path):
    script = "import sys; from sklearn_iis.storage._storage import open_storage; "
    script += "[open_storage(storage) for storage in sys.argv[1:]]"
    storages = [locate(tmp_path / name) for name in FILES]
    process = subprocess.run(
        [sys.executable, "-c", script, *storages, *storages],
        capture_output=True,
        text=True,
    )
    assert (process.stdout, process.stderr, process.returncode) == ("", "", 0)


@pytest.mark.parametrize(
    ("storage", "error", "message"),
    [
        (InMemoryStorage(), ValueError, "an InMemoryStorage is not shared"),
        ("sqlite://", ValueError, "not shared.*give the path of a journal"),
        ("sqlite:///:memory:", ValueError, "lost in a crash.*sqlite:///search.db"),
        ("sqlite:///file:run.db?uri=true", ValueError, "by its path: sqlite:///path"),
        ("postgresql://me:secret@host:port/runs", ValueError, "'postgresql://...'"),
        ("://", ValueError, "cannot be read"),
        (3, TypeError, "got 3"),
        (None, TypeError, "got None"),
        (b"run.journal", TypeError, "got b'run"),
    ],
    ids=lambda value: "" if isinstance(value, InMemoryStorage) else str(value),
)
def test_what_is_no_shared_storage_is_refused(storage, error, message, tmp_path):
    with pytest.raises(error, match=message) as caught:
        open_storage(storage)
    assert "secret" not in str(caught.value)


def test_databases_in_memory_are_refused_as_objects_too():
    with pytest.raises(ValueError, match="not shared"):
        open_storage(RDBStorage("sqlite://"))


class Unsendable(JournalStorage):
    def __getstate__(self):
        raise RuntimeError("no")


def test_what_cannot_be_sent_to_workers_is_refused(tmp_path):
    storage = Unsendable(JournalFileBackend(str(tmp_path / "run.journal")))
    with pytest.raises(TypeError, match=r"Unsendable.*cannot be sent to workers: no"):
        open_storage(storage)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("missing/{}", "missing' does not exist"),
        ("a_file/{}", "a_file' is no folder"),
        ("folder/{}", "is a folder: name a file in it"),
        ("pipe/{}", "no regular file"),
    ],
    ids=["missing", "file", "folder", "pipe"],
)
def test_paths_that_cannot_be_used(name, path, message, tmp_path):
    (tmp_path / "a_file").touch()
    (tmp_path / "folder" / name).mkdir(parents=True)
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / name)
    path = tmp_path / path.format(name)
    fails(locate(path), str(path), message)


@pytest.fixture
def mounted(tmp_path):
    """Mount a small file system in memory; skip the test where this is not possible."""
    folder = tmp_path / "mounted"
    folder.mkdir()

    def mount(*options):
        command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "none", folder]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("file systems cannot be mounted here")
        return folder

    yield mount
    if os.path.ismount(folder):
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("name", FILES)
def test_a_file_system_that_is_read_only(name, mounted):
    path = mounted("size=1m") / name
    begin(open_storage(locate(path)))
    mounted("remount", "ro")
    for file in (path, path.with_name(f"new-{name}")):
        fails(locate(file), str(file), "nothing can be written to the folder")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    ("of_folder", "of_file", "message"),
    [
        (0o555, 0o666, "nothing can be written to the folder"),
        (0o777, 0o444, "cannot be both read and written"),
        (0o777, 0o222, "cannot be both read and written"),
    ],
    ids=["folder", "file", "unreadable"],
)
def test_files_of_others(name, of_folder, of_file, message):
    """Root may read and write everything, and is another user here."""
    folder = Path(tempfile.mkdtemp())
    path = folder / name
    begin(open_storage(locate(path)))
    folder.chmod(of_folder)
    path.chmod(of_file)

    def run():
        if os.getuid() == 0:
            os.setuid(65534)
        fails(locate(path), str(path), message)

    child = multiprocessing.get_context("fork").Process(target=run, daemon=True)
    child.start()
    child.join(30)
    folder.chmod(0o777)
    shutil.rmtree(folder)
    assert child.exitcode == 0


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
        engine = _storage.sqlalchemy.create_engine(locate(path))
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


def test_passwords_are_not_shown():
    url = _storage._parse("postgresql://me:secret@host/runs?password=secret")
    shared = _storage.SharedStorage(_storage._name(url), print, str(url), "key")
    assert "secret" not in repr(shared)
    assert "me:***@host/runs" in shared.name


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"some text", "no journal of Optuna"),
        (b"some text\n", "no journal of Optuna"),
        (b"SQLite format 3\0...", "give it as 'sqlite:///"),
        (b'{"loss": 1}', "no journal of Optuna"),
        (b'{"loss": 1}\n', "no journal of Optuna"),
        (b'{"loss": 1}\n{"loss": 2}\n', "no journal of Optuna"),
        (b'{\n  "loss": 1\n}\n', "no journal of Optuna"),
        (JOURNAL[:30], "last line, 1, is incomplete"),
        (JOURNAL[:-1], "last line, 2, is incomplete"),
        (JOURNAL[:-9], "last line, 2, is incomplete"),
        (JOURNAL + b"\0\0\0", "line 3 is damaged"),
        (JOURNAL + b'{"op_co\n', "line 3 is damaged"),
        (JOURNAL + b"\n" + JOURNAL, "line 3 is damaged"),
        (JOURNAL + b"\xff\xfe\n" + JOURNAL, "line 3 is damaged"),
        (JOURNAL[:-9] + JOURNAL, "(`head -n 1`)"),
        (JOURNAL + b'{"op_code":99,"worker_id":"w"}\n', "Update Optuna"),
        (JOURNAL + b'{"op_code":4,"worker_id":"w"}\n', "does not understand (KeyError"),
    ],
    ids=lambda value: (
        None if isinstance(value, str) else re.sub(rb"\W+", b"-", value)[-20:]
    ),
)
def test_files_that_are_no_journals(content, message, tmp_path, monkeypatch):
    """They stay as they are, byte for byte."""
    monkeypatch.setattr(_storage, "JOURNAL_PATIENCE", 0.1)
    path = tmp_path / "run.journal"
    path.write_bytes(content)
    fails(path, str(path), message)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_the_remedy_for_an_incomplete_line(tmp_path):
    path = tmp_path / "run.journal"
    path.write_bytes(JOURNAL[:-9])
    (command,) = re.findall("`(.*)`", str(fails(path)))
    subprocess.run(command, shell=True, check=True)
    write(open_storage(path))
    assert count(open_by_optuna(path)) == 1


def test_a_line_that_is_being_written_is_waited_for(tmp_path):
    path = tmp_path / "run.journal"
    path.write_bytes(JOURNAL[:-9])

    def finish():
        time.sleep(_storage.JOURNAL_PATIENCE / 4)
        with open(path, "ab") as file:
            file.write(JOURNAL[-9:])

    writer = threading.Thread(target=finish)
    writer.start()
    assert len(open_storage(path).open().get_all_trials(0)) == 1
    writer.join()


def test_nothing_is_glued_to_an_incomplete_line(tmp_path):
    """As a machine leaves it that loses its power while others go on."""
    path = tmp_path / "run.journal"
    shared = open_storage(path)
    begin(shared)
    with open(path, "ab") as file:
        file.write(b'{"op_code":4,')
    before = path.read_bytes()
    with pytest.raises(StorageError, match="last line, 2, is incomplete"):
        write(shared)
    assert path.read_bytes() == before
    assert not os.path.lexists(f"{path}.lock")


def test_damage_that_is_met_later_is_reported(tmp_path):
    path = tmp_path / "run.journal"
    shared = open_storage(path)
    begin(shared)
    with open(path, "ab") as file:
        file.write(b"\0\n" + JOURNAL)
    with pytest.raises(StorageError, match="line 2 is damaged"), shared.errors():
        shared.open().get_all_studies()


def fill(path):
    """Write a file until nothing more can be written."""
    with suppress(OSError), open(path, "wb", 0) as file:
        while True:
            file.write(b"x" * 4096)


@pytest.mark.parametrize("name", FILES)
def test_a_full_disk(name, mounted):
    """What was written stays, and the search goes on once there is space."""
    path = mounted("size=512k") / name
    shared = open_storage(locate(path))
    begin(shared)
    write(shared)
    ballast = path.with_name("ballast")
    fill(ballast)
    for error in (fail_to_write(shared), *parallel(fail_to_write, (shared,))):
        assert str(path) in str(error)
        assert "free some space there" in str(error)
    n_kept = count(shared.open())
    assert n_kept >= 1
    if name == "run.journal":
        assert path.read_bytes().endswith(b"}\n")
    assert count(open_by_optuna(path)) == n_kept
    ballast.unlink()
    for again in (shared, open_storage(locate(path))):
        write(again, "x" * 1000)
        n_kept += 1
        assert count(open_by_optuna(path)) == n_kept


def begin_fully(storage):
    shared = open_storage(storage)
    with shared.errors():
        for number in range(99):
            shared.open().create_new_study(
                [StudyDirection.MAXIMIZE], "x" * 99 + f"{number}"
            )


@pytest.mark.parametrize("name", FILES)
def test_a_disk_that_is_full_from_the_start(name, mounted):
    """What could not be created does not stand in the way later."""
    path = mounted("size=64k") / name
    ballast = path.with_name("ballast")
    ballast.write_bytes(b"x" * 56 * 1024)
    with pytest.raises(StorageError, match="free some space there"):
        begin_fully(locate(path))
    ballast.unlink()
    mounted("remount", "size=1m")
    begin(open_storage(locate(path)))
    write(open_storage(locate(path)))
    assert count(open_by_optuna(path)) == 1


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


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_was_removed_is_not_begun_anew(name, tmp_path):
    """Neither by a worker that opens it, as on a machine without that folder."""
    path = tmp_path / name
    shared = open_storage(locate(path))
    begin(shared)
    path.unlink()
    (error,) = parallel(fail_to_write, (shared,))
    assert re.search("not there.*not shared with this machine", str(error))
    assert not path.exists()
    for function in (begin, write):
        with pytest.raises(StorageError, match="removed or replaced meanwhile"):
            function(shared)


@pytest.mark.parametrize("name", FILES)
def test_the_answers_of_optuna_are_no_failures(name, tmp_path):
    shared = open_storage(locate(tmp_path / name))
    with pytest.raises(KeyError), shared.errors():
        shared.open().get_study_id_from_name("search")
    begin(shared)
    with pytest.raises(optuna.exceptions.DuplicatedStudyError), shared.errors():
        begin(shared)


def test_damage_is_translated_for_storage_objects_too(tmp_path):
    path = tmp_path / "run.journal"
    shared = open_storage(JournalStorage(JournalFileBackend(str(path))))
    path.write_bytes(JOURNAL + b"{\n" + JOURNAL)
    with pytest.raises(StorageError, match="storage 'JournalStorage'"), shared.errors():
        shared.open().get_all_studies()


def test_errors_can_be_sent(tmp_path):
    error = fails(tmp_path / "missing" / "run.journal")
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, StorageError)
    assert str(again) == str(error)


def test_entries_are_those_of_optuna(tmp_path):
    """Byte for byte, but for who wrote them and when."""
    entries = []
    for shared in (
        open_storage(tmp_path / "ours.journal"),
        open_storage(JournalStorage(JournalFileBackend(str(tmp_path / "theirs")))),
    ):
        begin(shared)
        write(shared, "é")
    for name in ("ours.journal", "theirs"):
        lines = (tmp_path / name).read_text().splitlines()
        entries.append([json.loads(line) for line in lines])
        assert lines == [
            json.dumps(entry, separators=(",", ":")) for entry in entries[-1]
        ]
    for ours, theirs in zip(*entries, strict=True):
        assert list(ours) == list(theirs)
        assert ours["op_code"] == theirs["op_code"]
