"""The folder of a run: state, time and lock."""

import json
import time
from pathlib import Path

import pytest

from sklearn_iis.command._errors import CommandError
from sklearn_iis.command._run import RunFolder, State


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "out")


def make_state(**arguments):
    return State({"seed": 0, "n_jobs": 1} | arguments, "data", [{"name": "x"}])


def test_the_state_is_kept(folder):
    assert folder.read() is None
    with pytest.raises(CommandError, match="holds no run"):
        folder.expect()
    with folder.locked():
        folder.write(make_state())
    assert folder.expect() == make_state()


@pytest.mark.parametrize(
    "text", ["{", '{"version": 99}', "[]", '{"version": 1, "data": ""}']
)
def test_a_state_that_cannot_be_read(folder, text):
    folder.path.mkdir()
    folder.state_file.write_text(text)
    with pytest.raises(CommandError, match=r"damaged|another version"):
        folder.read()


def test_another_call_is_told_what_differs(tmp_path):
    state = make_state()
    state.check({"seed": 0, "n_jobs": 2}, "data", tmp_path)
    state.check({"seed": 1, "n_jobs": 1}, "data", tmp_path, may_differ=["seed"])
    with pytest.raises(CommandError, match=r"\(was 0\); .*`sklearn-iis resume '/a b'`"):
        state.check({"seed": 1, "n_jobs": 1}, "data", Path("/a b"))
    with pytest.raises(CommandError, match=r"seed=1 \(was 0\), the images.*bring"):
        state.check({"seed": 1, "n_jobs": 1}, "other", tmp_path)


def test_one_process_at_a_time(folder):
    with (
        folder.locked(),
        pytest.raises(CommandError, match="another process writes to"),
        RunFolder(folder.path).locked(),
    ):
        pass
    with folder.locked():  # it is free again
        pass


def test_a_file_is_no_folder(folder):
    folder.path.write_text("")
    with pytest.raises(CommandError, match="is a file"), folder.locked():
        pass


def test_other_files_are_left_alone(folder):
    folder.path.mkdir()
    (folder.path / "thesis.txt").write_text("")
    with (
        pytest.raises(CommandError, match=r"holds other files, such as 'thesis\.txt'"),
        folder.locked(),
    ):
        pass


def test_time_is_counted_while_it_goes_on(folder, monkeypatch):
    """And is on the disk before the end, in case that the process is killed."""
    monkeypatch.setattr("sklearn_iis.command._run.HEARTBEAT", 0.01)
    with folder.locked():
        state = make_state()
        state.seconds = 100.0
        with folder.counting_time(state, time.monotonic() - 20):
            until = time.monotonic() + 30
            while not folder.state_file.exists():
                assert time.monotonic() < until
                time.sleep(0.005)
            on_disk = json.loads(folder.state_file.read_text())["seconds"]
        assert on_disk >= 120
        assert state.seconds >= on_disk
        assert folder.expect().seconds == state.seconds


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("a")
    folder = RunFolder(tmp_path / "file" / "out")
    with pytest.raises(CommandError, match="cannot be made: Not a directory"):
        folder.locked().__enter__()


@pytest.mark.parametrize("n_made", [0, 1, 2, 3])
def test_a_folder_that_nothing_was_written_to(tmp_path, n_made):
    """It goes again, with its parents, unless somebody else has made them."""
    path = tmp_path / "a" / "b" / "out"
    folders = [path.parent.parent, path.parent, path]
    for folder in folders[:n_made]:
        folder.mkdir()
    with pytest.raises(ValueError, match="wrong"), RunFolder(path).locked():
        raise ValueError("wrong")
    assert [folder for folder in folders if folder.exists()] == folders[:n_made]
    with RunFolder(path).locked():
        (path / "images.csv").write_text("a")
    assert path.exists()
