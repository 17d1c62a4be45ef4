"""Storages: opened once by each process, and errors that say what to do."""

import dataclasses
import multiprocessing
import os
import pickle
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import joblib
import optuna
import pytest
from optuna.storages import InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection

from sklearn_iis.storage import StorageError, _open, open_storage
from tests.storage.storages import (
    FILES,
    KINDS,
    begin,
    count,
    fail_to_write,
    fails,
    fill,
    locate,
    make,
    open_by_optuna,
    parallel,
    write,
)


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


def write_elsewhere(shared):
    os.chdir("/")
    return write(shared)


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

    with _open._opened.lock:
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
    for number in range(_open.N_OPENED):
        open_storage(tmp_path / f"{number}.journal")
    assert len(_open._opened.storages) == _open.N_OPENED
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
    script = "import sys; from sklearn_iis.storage import open_storage; "
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


@pytest.mark.parametrize("name", FILES)
def test_a_full_disk(name, mounted):
    """Written records stay, and the search resumes once there is space."""
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
    """A database that could not be created does not stand in the way later."""
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


def test_errors_can_be_sent(tmp_path):
    error = fails(tmp_path / "missing" / "run.journal")
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, StorageError)
    assert str(again) == str(error)
