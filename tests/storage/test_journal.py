"""Journals: those that are damaged, and what is written to them."""

import json
import os
import re
import subprocess
import threading
import time

import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from sklearn_iis.storage import StorageError, _journal, open_storage
from tests.storage.storages import (
    JOURNAL,
    begin,
    count,
    fails,
    open_by_optuna,
    write,
)


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
    monkeypatch.setattr(_journal, "JOURNAL_PATIENCE", 0.1)
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
        time.sleep(_journal.JOURNAL_PATIENCE / 4)
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


def test_damage_is_translated_for_storage_objects_too(tmp_path):
    path = tmp_path / "run.journal"
    shared = open_storage(JournalStorage(JournalFileBackend(str(path))))
    path.write_bytes(JOURNAL + b"{\n" + JOURNAL)
    with pytest.raises(StorageError, match="storage 'JournalStorage'"), shared.errors():
        shared.open().get_all_studies()


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
