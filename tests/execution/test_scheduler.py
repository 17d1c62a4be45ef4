"""The scheduler: what is handed out and when, retries, crashes, the deadline."""

import time
from concurrent.futures import Future
from types import SimpleNamespace

import numpy as np
import pytest

from sklearn_iis.execution._deadline import Deadline, DeadlineReached
from sklearn_iis.execution._evaluate import Scoring
from sklearn_iis.execution._record import Record, Row
from sklearn_iis.execution._scheduler import Scheduler
from sklearn_iis.execution._worker import Failure


class CrashError(Exception):
    """A worker is gone."""


def take(scheduler):
    """Wait for an outcome; return the rows that are complete by then."""
    rows = []
    scheduler.take(rows.append, block=True)
    return rows


class StubExecutor:
    """An executor whose evaluations end when the test says so."""

    crash_errors = (CrashError,)

    def __init__(self, n_workers=2, *, crash_ends_all=False):
        self.n_workers = n_workers
        self.crash_ends_all = crash_ends_all
        self.running = {}
        self.started = []
        self.n_restarts = 0
        self.can_submit = True

    def share(self, job, directory):
        return "handle"

    def submit(self, handle, task, seconds_left, callback_ctx):
        assert handle == "handle"
        assert seconds_left > 0
        if not self.can_submit:
            raise CrashError
        name = task.codes["x"], task.split
        self.started.append(name)
        self.running[name] = Future()
        return self.running[name]

    def restart(self):
        self.n_restarts += 1
        self.can_submit = True

    def finish(self, x, split=0, record=None):
        record = record or Record(10.0 * x + split, fit_time=1.0)
        self.running.pop((x, split)).set_result(record)

    def crash(self, x, split=0):
        self.running.pop((x, split)).set_exception(CrashError())


class StubRecorder:
    """A storage that holds what it is given."""

    def __init__(self, **records):
        self.records = records
        self.n_reads = 0
        self.n_ended = 0

    def add(self, task, record):
        self.records[task.key] = record

    def end_dead_trials(self):
        self.n_ended += 1

    def read(self):
        self.n_reads += 1
        return dict(self.records)


def make_scheduler(
    executor, *, n_splits=1, deadline=None, recorder=None, scorer=None, **settings
):
    job_fields = {
        "trial_timeout": settings.pop("trial_timeout", None),
        "scoring": Scoring(scorer, **settings.pop("scoring", {})),
    }
    job = SimpleNamespace(
        splits=[None] * n_splits, recorder=recorder, caller="search", **job_fields
    )
    settings = {"pre_dispatch": executor.n_workers} | settings
    return Scheduler(executor, job, "", deadline or Deadline(), **settings)


def make_rows(*xs, n_splits=1):
    return [Row({"x": x}, n_splits) for x in xs]


def key(x, split=0):
    return Row({"x": x}, split + 1).tasks[split].key


# Handing out


def test_no_more_is_handed_out_than_there_are_workers():
    executor = StubExecutor(2)
    scheduler = make_scheduler(executor, n_splits=2)
    scheduler.wait_for_room()
    first, second = make_rows(1, 2, n_splits=2)
    scheduler.submit(first)
    scheduler.submit(second)
    assert executor.started == [(1, 0), (1, 1)]
    executor.finish(1, 1)
    assert take(scheduler) == []
    assert executor.started[2:] == [(2, 0)]
    executor.finish(1, 0)
    assert take(scheduler) == [first]
    assert first.score == 10.5
    for split in (0, 1):
        executor.finish(2, split)
    assert take(scheduler) == [second]
    scheduler.wait_for_room()
    scheduler.finish()
    assert scheduler.complete_rows == [first, second]


def test_more_may_be_in_flight():
    executor = StubExecutor(2)
    scheduler = make_scheduler(executor, pre_dispatch=3)
    for row in make_rows(1, 2, 3, 4):
        scheduler.submit(row)
    assert executor.started == [(1, 0), (2, 0), (3, 0)]


def test_a_long_queue_waits_with_the_scheduler():
    """There it is neither lost in a crash, nor begun after the deadline."""
    executor = StubExecutor(2)
    scheduler = make_scheduler(executor, pre_dispatch=10)
    for row in make_rows(*range(5)):
        scheduler.wait_for_room()
        scheduler.submit(row)
    assert executor.started == [(0, 0), (1, 0), (2, 0)]


def test_rows_are_told_when_they_are_complete():
    executor = StubExecutor(2)
    told = []
    scheduler = make_scheduler(executor, listeners=[told.append])
    rows = make_rows(1, 2)
    for row in rows:
        scheduler.submit(row)
    executor.finish(2)
    assert take(scheduler) == [rows[1]]
    assert scheduler.complete_rows == [rows[1]]
    executor.finish(1)
    assert take(scheduler) == [rows[0]]
    assert told == rows[::-1]
    # In the order of submission.
    assert scheduler.complete_rows == rows


def test_nothing_to_wait_for():
    assert take(make_scheduler(StubExecutor())) == []


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_errors_end_the_search(error):
    executor = StubExecutor()
    scheduler = make_scheduler(executor)
    scheduler.submit(*make_rows(1))
    executor.running.pop((1, 0)).set_exception(error)
    with pytest.raises(type(error)):
        take(scheduler)


def test_an_error_of_a_worker_tells_where_it_came_from():
    import cloudpickle

    executor = StubExecutor()
    for failure, kind in [
        (Failure(cloudpickle.dumps(ValueError("no")), "the traceback"), ValueError),
        (Failure(b"", "the traceback"), RuntimeError),
    ]:
        scheduler = make_scheduler(executor)
        scheduler.submit(*make_rows(1))
        executor.finish(1, record=failure)
        with pytest.raises(kind) as raised:
            take(scheduler)
        text = str(raised.value) + "".join(getattr(raised.value, "__notes__", []))
        assert "the traceback" in text


# Crashes


def test_what_was_lost_in_a_crash_is_retried_alone():
    executor = StubExecutor(2)
    scheduler = make_scheduler(executor)
    rows = make_rows(1, 2, 3)
    for row in rows:
        scheduler.submit(row)
    executor.crash(1)
    assert take(scheduler) == []
    assert executor.n_restarts == 1
    # It waits for the other one, and nothing else is begun meanwhile.
    assert executor.started == [(1, 0), (2, 0)]
    executor.finish(2)
    assert take(scheduler) == [rows[1]]
    assert executor.started[2:] == [(1, 0)]
    executor.finish(1)
    assert take(scheduler) == [rows[0]]
    assert executor.started[3:] == [(3, 0)]
    assert rows[0].score == 10


def test_what_crashes_twice_fails():
    executor = StubExecutor(2)
    recorder = StubRecorder()
    scheduler = make_scheduler(executor, recorder=recorder)
    rows = make_rows(1, 2)
    for row in rows:
        scheduler.submit(row)
    executor.crash(1)
    take(scheduler)
    executor.finish(2)
    take(scheduler)
    executor.crash(1)
    assert take(scheduler) == [rows[0]]
    assert "crashed its worker twice, the second time running alone" in rows[0].error
    assert np.isnan(rows[0].score)
    assert recorder.records[key(1)].error == rows[0].error
    assert executor.started == [(1, 0), (2, 0), (1, 0)]
    assert executor.n_restarts == 2
    assert rows[1].error is None
    scheduler.wait_for_room()


def test_what_crashes_twice_ends_the_search_if_errors_should():
    executor = StubExecutor(1)
    scheduler = make_scheduler(executor, scoring={"error_score": "raise"})
    scheduler.submit(*make_rows(1))
    executor.crash(1)
    take(scheduler)
    executor.crash(1)
    with pytest.raises(RuntimeError, match="crashed its worker twice"):
        take(scheduler)


def test_a_pool_is_lost_as_a_whole():
    """All are retried, one after the other, and only the culprit fails."""
    executor = StubExecutor(3, crash_ends_all=True)
    scheduler = make_scheduler(executor)
    rows = make_rows(1, 2, 3, 4)
    for row in rows:
        scheduler.submit(row)
    executor.finish(2)  # its outcome has arrived, and is kept
    for x in (1, 3):
        executor.crash(x)
    assert take(scheduler) == [rows[1]]
    assert executor.n_restarts == 1
    assert executor.started[3:] == [(1, 0)]
    executor.crash(1)
    assert take(scheduler) == [rows[0]]
    assert rows[0].error is not None
    assert executor.started[4:] == [(3, 0)]
    executor.finish(3)
    assert take(scheduler) == [rows[2]]
    assert executor.started[5:] == [(4, 0)]
    assert rows[2].error is None


def test_what_a_worker_has_written_before_its_crash_is_not_retried():
    executor = StubExecutor(1)
    recorder = StubRecorder()
    scheduler = make_scheduler(executor, recorder=recorder)
    (row,) = make_rows(1)
    scheduler.submit(row)
    recorder.records[key(1)] = Record(0.25)
    executor.crash(1)
    assert take(scheduler) == [row]
    assert row.score == 0.25
    assert executor.started == [(1, 0)]
    assert recorder.n_ended == 1


def test_a_worker_may_be_gone_before_an_evaluation_is_begun():
    executor = StubExecutor(1)
    executor.can_submit = False
    scheduler = make_scheduler(executor)
    (row,) = make_rows(1)
    scheduler.submit(row)
    assert take(scheduler) == []
    assert executor.n_restarts == 1
    assert executor.started == [(1, 0)]
    executor.finish(1)
    assert take(scheduler) == [row]


# Known records


def test_what_is_known_is_not_evaluated():
    executor = StubExecutor(1)
    recorder = StubRecorder(**{key(1): Record(0.5), key(2, 1): Record(0.25)})
    scheduler = make_scheduler(executor, n_splits=2, recorder=recorder)
    rows = make_rows(1, 2, n_splits=2)
    for row in rows:
        scheduler.submit(row)
    assert executor.started == [(1, 1)]
    executor.finish(1, 1)
    assert take(scheduler) == [rows[0]]
    executor.finish(2, 0)
    assert take(scheduler) == [rows[1]]
    assert rows[1].records[1].guide == 0.25
    assert recorder.n_reads == 1


@pytest.mark.parametrize(
    ("trial_timeout", "is_known"), [(4, True), (5, True), (6, False), (None, False)]
)
def test_what_took_too_long_is_evaluated_again_if_it_may_take_longer(
    trial_timeout, is_known
):
    executor = StubExecutor(1)
    recorder = StubRecorder(**{key(1): Record(error="too long", time_limit=5.0)})
    scheduler = make_scheduler(executor, recorder=recorder, trial_timeout=trial_timeout)
    scheduler.submit(*make_rows(1))
    assert executor.started == ([] if is_known else [(1, 0)])


def test_what_takes_too_long_is_not_evaluated_on_another_split():
    executor = StubExecutor(1)
    recorder = StubRecorder()
    scheduler = make_scheduler(
        executor, n_splits=3, trial_timeout=0.01, recorder=recorder
    )
    row, other = make_rows(1, 2, n_splits=3)
    scheduler.submit(row)
    executor.finish(1, record=Record(np.nan, error="TimeoutError", time_limit=0.01))
    assert take(scheduler) == [row]
    for split in (1, 2):
        record = row.records[split]
        assert "another one took longer than trial_timeout=0.01" in record.error
        assert recorder.records[key(1, split)] is record
    scheduler.submit(other)
    assert executor.started == [(1, 0), (2, 0)]


class Context:
    """Notes what callbacks hear of; the context of a stage, and of an evaluation."""

    def __init__(self, events, number=None):
        self.events = events
        self.number = number

    def subcontext(self, *, task_name, task_id):
        assert task_name == "candidate-split-evaluation"
        return Context(self.events, task_id)

    def call_on_fit_task_begin(self, **told):
        self.events.append(("begin", self.number))

    def call_on_fit_task_end(self, **told):
        self.events.append(("end", self.number))


def test_callbacks_hear_also_of_what_is_known():
    events = []
    executor = StubExecutor(1)
    scheduler = make_scheduler(
        executor,
        n_splits=2,
        recorder=StubRecorder(**{key(2): Record(0.5)}),
        callback_ctx=Context(events),
    )
    for row in make_rows(1, 2, n_splits=2):
        scheduler.submit(row)
    for split in (0, 1):
        executor.finish(1, split)
        take(scheduler)
    assert events == [("begin", 2), ("end", 2)]
    assert executor.started == [(1, 0), (1, 1), (2, 1)]


# The deadline


def test_after_the_deadline_nothing_is_handed_out():
    """Evaluations under way are finished; queued ones are not begun."""
    executor = StubExecutor(2)
    deadline = Deadline(time.monotonic() + 60)
    scheduler = make_scheduler(executor, deadline=deadline)
    rows = make_rows(1, 2, 3)
    for row in rows:
        scheduler.submit(row)
    deadline.end = time.monotonic()
    for x in (1, 2):
        executor.finish(x)
    with pytest.raises(DeadlineReached):
        scheduler.finish()
    assert executor.started == [(1, 0), (2, 0)]
    assert scheduler.complete_rows == rows[:2]
    for wait in (scheduler.wait_for_room, scheduler.finish, scheduler.take):
        scheduler.submit(*make_rows(4))
        with pytest.raises(DeadlineReached):
            wait()
    assert executor.started == [(1, 0), (2, 0)]


def test_after_the_deadline_nothing_is_retried():
    executor = StubExecutor(1)
    deadline = Deadline(time.monotonic() + 60)
    scheduler = make_scheduler(executor, deadline=deadline)
    scheduler.submit(*make_rows(1))
    executor.crash(1)
    deadline.end = time.monotonic()
    with pytest.raises(DeadlineReached):
        take(scheduler)
    assert executor.started == [(1, 0)]
    assert scheduler.complete_rows == []


def test_a_row_that_is_not_complete_at_the_deadline_is_none():
    executor = StubExecutor(1)
    deadline = Deadline(time.monotonic() + 60)
    scheduler = make_scheduler(executor, deadline=deadline, n_splits=2)
    (row,) = make_rows(1, n_splits=2)
    scheduler.submit(row)
    deadline.end = time.monotonic()
    executor.finish(1)
    with pytest.raises(DeadlineReached):
        scheduler.finish()
    assert scheduler.complete_rows == []


def test_what_was_given_up_means_that_the_time_is_up():
    executor = StubExecutor(2)
    scheduler = make_scheduler(executor)
    rows = make_rows(1, 2, 3)
    for row in rows:
        scheduler.submit(row)
    executor.finish(1, record=Record(unfinished=True))
    executor.finish(2)
    with pytest.raises(DeadlineReached):
        take(scheduler)
    assert executor.started == [(1, 0), (2, 0)]
    assert scheduler.complete_rows == [rows[1]]


def test_without_a_result_a_stage_goes_on_beyond_its_share():
    executor = StubExecutor(1)
    deadline = Deadline(time.monotonic() - 1, time.monotonic() + 60)
    scheduler = make_scheduler(executor, deadline=deadline)
    rows = make_rows(1, 2)
    for row in rows:
        scheduler.submit(row)
    assert executor.started == [(1, 0)]
    executor.finish(1)
    with pytest.raises(DeadlineReached):
        scheduler.finish()
    assert executor.started == [(1, 0)]
    assert scheduler.complete_rows == rows[:1]


def test_what_came_in_with_an_error_is_kept():
    executor = StubExecutor(2)
    scheduler = make_scheduler(executor)
    rows = make_rows(1, 2)
    for row in rows:
        scheduler.submit(row)
    executor.running.pop((1, 0)).set_exception(ValueError("why"))
    executor.finish(2)
    with pytest.raises(ValueError, match="why"):
        scheduler.finish()
    assert scheduler.complete_rows == [rows[1]]


def test_the_longest_fit_is_noted_for_the_last_one():
    executor = StubExecutor(1)
    deadline = Deadline(time.monotonic() + 100, refit_ratio=2.0)
    scheduler = make_scheduler(executor, deadline=deadline)
    for x, record in [
        (1, Record(0.5, fit_time=20)),
        (2, Record(error="why", fit_time=90)),
    ]:
        scheduler.submit(*make_rows(x))
        executor.finish(x, record=record)
        take(scheduler)
    assert deadline.reserve == 40
