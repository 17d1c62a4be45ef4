"""Records of evaluations in a directory, and marks of those under way."""

import os
import signal
import subprocess
import sys
import time

import pytest

from sklearn_iis._records import Evaluation, InFlight, Record, TemporaryRecords

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
    lock = in_flight.enter("key")
    in_flight.leave("key", lock)
    assert in_flight.count_begins() == {}


def test_marks_are_there_while_an_evaluation_is_under_way(tmp_path):
    in_flight = InFlight(str(tmp_path))
    first, second = in_flight.enter("a"), in_flight.enter("b")
    assert in_flight.count_begins() == {"a": 1, "b": 1}
    in_flight.leave("a", first)
    assert in_flight.count_begins() == {"b": 1}
    in_flight.leave("b", second)
    assert in_flight.count_begins() == {}
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.close(first)


def start(directory, key):
    """A process that enters an evaluation, says so, and stays there."""
    code = (
        "import sys, time\n"
        "from sklearn_iis._records import InFlight\n"
        f"lock = InFlight({str(directory)!r}).enter({key!r})\n"
        "print('refused' if lock is None else 'entered', flush=True)\n"
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
    """It waits for the others, they wait for it, and the next time it is refused."""
    in_flight = InFlight(str(tmp_path))
    process = start(tmp_path, "deadly")
    assert process.stdout.readline() == "entered\n"
    kill(process)
    assert in_flight.count_begins() == {"deadly": 1}

    neighbour = in_flight.enter("neighbour")
    process = start(tmp_path, "deadly")
    time.sleep(3)  # enough to enter, were it not for the neighbour
    assert in_flight.count_begins() == {"deadly": 1, "neighbour": 1}
    in_flight.leave("neighbour", neighbour)
    assert process.stdout.readline() == "entered\n"
    assert in_flight.count_begins() == {"deadly": 2}
    kill(process)

    assert in_flight.enter("deadly") is None
    # The lock has vanished with the process.
    in_flight.leave("neighbour", in_flight.enter("neighbour"))
