"""Files that are written completely or not at all, and directories that do not stay."""

import os
import re
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from sklearn_iis._files import (
    check_writable,
    claimed,
    remove_directory,
    replace_file,
    workspace,
)


def test_a_file_is_replaced(tmp_path):
    path = tmp_path / "file"
    replace_file(path, b"before")
    replace_file(path, b"after")
    assert path.read_bytes() == b"after"
    assert os.listdir(tmp_path) == ["file"]
    # As readable as any new file, not to its owner only.
    other = tmp_path / "other"
    other.touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(other.stat().st_mode)


def test_what_cannot_be_finished_leaves_all_as_it_was(tmp_path, monkeypatch):
    def fail(*args):
        raise OSError("no space")

    path = tmp_path / "file"
    path.write_text("before")
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        replace_file(path, b"after")
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["file"]


def test_what_is_found_wanting_leaves_all_as_it_was(tmp_path):
    """The check sees the complete file, before it takes its place."""

    def check(file):
        raise ValueError(f"it holds {file.read_text()}")

    path = tmp_path / "file"
    path.write_text("before")
    with pytest.raises(ValueError, match="it holds after"):
        replace_file(path, b"after", check)
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("missing/file", FileNotFoundError, "missing"),
        ("a_file/file", NotADirectoryError, "a_file"),
        ("folder", IsADirectoryError, "folder"),
    ],
)
def test_paths_that_cannot_be_written(name, error, message, tmp_path):
    (tmp_path / "a_file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(error, match=re.escape(str(tmp_path / message))):
        check_writable(tmp_path / name)
    check_writable(tmp_path / "new")
    check_writable(tmp_path / "a_file")


def test_a_folder_without_permission(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *args: False)
    with pytest.raises(PermissionError, match=re.escape(str(tmp_path))):
        check_writable(tmp_path / "file")


# Workspaces


def list_workspaces(folder):
    return sorted(path.name for path in folder.glob("*sklearn_iis-fit-*"))


@pytest.fixture
def temporary_folder(tmp_path, monkeypatch):
    """The folder of all temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_a_workspace_is_gone_after_the_block(temporary_folder):
    with workspace() as directory:
        Path(directory, "file").touch()
        assert list_workspaces(temporary_folder) == [Path(directory).name]
    assert list_workspaces(temporary_folder) == []


@pytest.mark.parametrize("signal_", [signal.SIGTERM, signal.SIGKILL])
def test_what_a_crash_leaves_behind_is_removed_by_the_next(signal_, temporary_folder):
    code = (
        "import time\n"
        "from sklearn_iis._files import workspace\n"
        "with workspace() as directory:\n"
        "    print(directory, flush=True)\n"
        "    time.sleep(60)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    )
    left = Path(child.stdout.readline().strip())
    # While its process lives, nobody removes it.
    with workspace():
        assert left.is_dir()
    child.send_signal(signal_)
    child.wait()
    child.stdout.close()
    assert left.is_dir()
    with workspace() as directory:
        assert list_workspaces(temporary_folder) == [Path(directory).name]


def test_folders_of_others_are_left_alone(temporary_folder):
    (temporary_folder / "sklearn_iis-fit-mine").mkdir()
    (temporary_folder / "sklearn_iis-gpus-0").mkdir()
    (temporary_folder / "sklearn_iis-gpus-0" / "lock").touch()
    target = temporary_folder / "target"
    target.mkdir()
    (target / "lock").touch()
    (temporary_folder / "sklearn_iis-fit-link").symlink_to(target)
    before = sorted(temporary_folder.rglob("*"))
    with workspace():
        pass
    assert sorted(temporary_folder.rglob("*")) == before


def test_a_directory_is_claimed_by_one_fit_at_a_time(tmp_path):
    path = str(tmp_path)
    with claimed(path) as own:
        assert own == path
        with claimed(path) as other:
            assert other is None
    with claimed(path) as own:
        assert own == path
    with claimed(None) as own:
        assert own is None


def test_a_claim_ends_with_its_process(tmp_path):
    code = (
        "import os; from sklearn_iis._files import claimed\n"
        f"with claimed({str(tmp_path)!r}) as own: os._exit(0 if own else 1)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with claimed(str(tmp_path)) as own:
        assert own == str(tmp_path)


def test_a_directory_is_removed_with_its_parent_if_that_is_empty(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "parent" / name).mkdir(parents=True)
    (tmp_path / "parent" / "a" / "file").touch()
    remove_directory(str(tmp_path / "parent" / "a"))
    assert os.listdir(tmp_path / "parent") == ["b"]
    remove_directory(str(tmp_path / "parent" / "b"))
    assert os.listdir(tmp_path) == []
