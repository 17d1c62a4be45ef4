"""Records of evaluations in a directory, and marks of those under way."""

import os
import signal
import subprocess
import sys
import time

import pytest

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

from sklearn_iis.execution._records import (
    Evaluation,
    InFlight,
    Record,
    TemporaryRecords,
)

EVALUATION = Evaluation("key", {"rate": 0.5}, {}, 0)


def test_what_was_added_is_found(tmp_path):
    records = TemporaryRecords(str(tmp_path))
    assert records.find("key") is None
    record = Record(scores={"a": 1.0}, error="why", history=[{"epoch": 1}])
    records.add(EVALUATION, record)
    assert TemporaryRecords(str(tmp_path)).find("key") == record
    assert records.find("other") is None


def test_a_worker_without_the_directory_keeps_nothing(tmp_path):
    directory = str(tmp_path / "missing")
    records = TemporaryRecords(directory)
    records.add(EVALUATION, Record())
    assert records.find("key") is None
    in_flight = InFlight(directory)
    assert in_flight.enter("key") is None
    assert in_flight.bury() == 0


def test_marks_are_there_while_an_evaluation_is_under_way(tmp_path):
    """The same one may be under way twice, if a search proposes it twice."""
    in_flight = InFlight(str(tmp_path))
    marks = [in_flight.enter(key) for key in "aab"]
    assert len(list(tmp_path.glob("marks/*"))) == 3
    for mark in marks:
        mark.remove()
    assert not list(tmp_path.glob("marks/*"))
    assert in_flight.bury() == 0
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.close(marks[0].lock)


@pytest.mark.skipif(fcntl is None, reason="there is no such lock on Windows")
def test_without_a_lock_there_is_no_mark(tmp_path, monkeypatch):
    """Some network file systems have none."""

    def flock(*args):
        raise OSError("No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    assert InFlight(str(tmp_path)).enter("key") is None
    assert not list(tmp_path.glob("marks/*"))


def start(directory, key):
    """A process that enters an evaluation, says so, and stays there."""
    code = (
        "import sys, time\n"
        "from sklearn_iis.execution._records import InFlight\n"
        f"mark = InFlight({str(directory)!r}).enter({key!r})\n"
        "print('entered', flush=True)\n"
        "time.sleep(60)\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    )


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


def test_what_was_killed_is_tried_once_more_and_alone(tmp_path):
    """It waits for the others, they wait for it, and it has then died twice."""
    in_flight = InFlight(str(tmp_path))
    process = start(tmp_path, "deadly")
    assert process.stdout.readline() == "entered\n"
    kill(process)
    assert in_flight.bury() == 1
    assert in_flight.bury() == 0
    assert not in_flight.has_died_twice("deadly")

    neighbour = in_flight.enter("neighbour")
    process = start(tmp_path, "deadly")
    time.sleep(3)  # enough to enter, were it not for the neighbour
    assert len(list(tmp_path.glob("marks/*"))) == 1
    neighbour.remove()
    assert process.stdout.readline() == "entered\n"
    kill(process)
    assert in_flight.bury() == 1
    assert in_flight.has_died_twice("deadly")
    assert not in_flight.has_died_twice("neighbour")
    # The lock has vanished with the process.
    in_flight.enter("neighbour").remove()


@pytest.mark.skipif(fcntl is None, reason="there is no such lock on Windows")
def test_what_has_died_is_told_from_what_lives(tmp_path):
    """An engine may give an evaluation to another worker, while others go on."""
    in_flight = InFlight(str(tmp_path))
    process = start(tmp_path, "deadly")
    assert process.stdout.readline() == "entered\n"
    neighbour = in_flight.enter("neighbour")
    assert in_flight.bury_dead() == 0
    kill(process)
    assert in_flight.bury_dead("neighbour") == 0
    assert not in_flight.has_died_twice("deadly")  # which notes that it has once
    assert in_flight.bury_dead() == 0
    neighbour.remove()

    process = start(tmp_path, "deadly")
    assert process.stdout.readline() == "entered\n"
    kill(process)
    assert in_flight.has_died_twice("deadly")
    assert not in_flight.has_died_twice("neighbour")
