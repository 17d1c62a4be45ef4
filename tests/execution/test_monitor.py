"""The monitor of a fit."""

import threading

import pytest

from sklearn_iis import current_monitor
from sklearn_iis.execution._monitor import Monitor, monitored


def test_there_is_a_monitor_only_where_a_fit_is_followed():
    """Also after an error, and not in other threads."""
    seen = []

    def follow_and_fail(monitor):
        with monitored(monitor):
            assert current_monitor() is monitor
            thread = threading.Thread(target=lambda: seen.append(current_monitor()))
            thread.start()
            thread.join()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        follow_and_fail(Monitor())
    assert current_monitor() is None
    assert seen == [None]


def test_time_is_up_at_the_end():
    Monitor().check_time()
    monitor = Monitor(seconds=-1)
    assert not monitor.late
    with pytest.raises(TimeoutError):
        monitor.check_time()
    assert monitor.late


def test_the_time_may_be_limited_later():
    monitor = Monitor()
    monitor.limit(60)
    monitor.check_time()
    monitor.limit(-1)
    with pytest.raises(TimeoutError):
        monitor.check_time()


def test_a_fit_is_told_to_stop_once_and_for_all():
    asked = []

    def should_stop(epoch, score):
        asked.append((epoch, score))
        return score < 0.5

    monitor = Monitor(should_stop=should_stop)
    rows = [{"epoch": 1}, {"epoch": 2}, {"epoch": 3}, {"epoch": 4}]
    stops = [
        monitor.end_epoch(rows[:n], score)
        for n, score in [(1, 0.6), (2, None), (3, 0.4), (4, 0.9)]
    ]
    assert stops == [False, False, True, True]
    assert asked == [(1, 0.6), (3, 0.4)]
    assert monitor.history == rows
    assert monitor.stopped


def test_without_anybody_to_ask_it_goes_on():
    assert not Monitor().end_epoch([{"epoch": 1}], 0.0)


def test_a_storage_that_fails_stops_the_fit_and_is_not_its_fault():
    def should_stop(epoch, score):
        raise OSError("the disk is full")

    monitor = Monitor(should_stop=should_stop)
    assert monitor.end_epoch([{"epoch": 1}], 0.5)
    assert not monitor.stopped
    assert str(monitor.error) == "the disk is full"


def test_a_pruner_that_fails_fails_the_fit():
    with pytest.raises(ZeroDivisionError):
        Monitor(should_stop=lambda epoch, score: 1 / 0).end_epoch([{}], 0.5)
