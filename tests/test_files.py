"""Files that are written completely or not at all."""

import os
import re
import stat

import pytest

from sklearn_iis._files import check_writable, replace_file


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
