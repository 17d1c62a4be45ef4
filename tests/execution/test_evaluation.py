"""Evaluations: what tells them apart, how much time they have, what is kept."""

import math
import pickle
import time
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest

from sklearn_iis.execution._evaluation import (
    Deadline,
    EvaluationContext,
    Score,
    carry,
    digest_indices,
    digest_train_sets,
)
from sklearn_iis.execution._monitor import current_monitor
from sklearn_iis.execution._records import Record, TemporaryRecords

SPLITS = [(np.arange(3), np.arange(3, 6)), (np.arange(3, 6), np.arange(3))]


@pytest.fixture
def context(tmp_path):
    return EvaluationContext(
        TemporaryRecords(str(tmp_path)), str(tmp_path), digest_train_sets(SPLITS, 6)
    )


def test_evaluations_are_told_apart_by_candidate_and_training_samples(context):
    def key(codes, further=None, train=SPLITS[0][0]):
        return context.identify(codes, further or {}, train).key

    assert key({"a": 1, "b": 0.5}) == key({"b": np.float64(0.5), "a": np.int64(1)})
    assert key({"a": 1}) == key({"a": 1}, train=0)
    different = [
        key({"a": 1}),
        key({"a": 2}),
        key({"b": 1}),
        key({"a": 1}, {"max_epochs": 3}),
        key({"a": 1}, {"max_epochs": 9}),
        key({"a": 1}, train=1),
        key({"a": 1}, train=np.arange(4)),
    ]
    assert len(set(different)) == len(different)


def test_the_split_is_known_by_its_training_samples(context):
    assert context.identify({}, {}, SPLITS[1][0]).split == 1
    assert context.identify({}, {}, np.arange(4)).split is None


def test_masks_and_indices_are_the_same_samples():
    mask = np.array([True, False, True])
    assert digest_train_sets([(mask, ~mask)], 3) == (digest_indices([0, 2]),)


def test_an_evaluation_that_was_finished_is_found(context):
    evaluation = context.identify({"a": 1}, {}, 0)
    run = context.begin(evaluation)
    assert run.is_to_fit
    run.record.scores = 0.5
    run.close()
    run.close()  # nothing the second time
    again = context.begin(evaluation)
    assert again.is_known
    assert not again.is_to_fit
    assert again.record.scores == 0.5
    assert context.in_flight.bury() == 0


def test_what_is_closed_without_being_kept_is_not_found(context):
    evaluation = context.identify({"a": 1}, {}, 0)
    context.begin(evaluation).close(keep=False)
    assert context.find(evaluation) is None
    assert context.in_flight.bury() == 0


def test_nothing_is_begun_when_the_time_is_up(context):
    late = replace(context, deadline=Deadline(time.time() - 1))
    run = late.begin(context.identify({"a": 1}, {}, 0))
    assert run.record.skipped
    run.close()
    assert context.begin(context.identify({"a": 1}, {}, 0)).is_to_fit


class Place:
    """Of a GPU."""

    is_alone = False
    n_given_back = 0

    def give_back(self):
        self.n_given_back += 1


@pytest.mark.parametrize("keep", [True, False])
def test_a_place_is_given_back_when_the_run_is_closed(keep, context):
    evaluation = context.identify({"a": 1}, {}, 0)
    run = context.begin(evaluation)
    run.place = Place()
    run.close(keep=keep)
    run.close(keep=keep)
    assert run.place.n_given_back == 1
    assert (context.find(evaluation) is not None) == keep


def test_what_may_go_well_alone(context):
    full = "Traceback ...\ntorch.OutOfMemoryError: CUDA out of memory."
    run = context.begin(context.identify({"a": 1}, {}, 0))
    assert not run.may_try_alone(full)
    run.place = Place()
    assert run.may_try_alone(full)
    assert not run.may_try_alone("Traceback ...\nMemoryError")
    for name, value in {"error": "why", "skipped": True, "time_limit": 1.0}.items():
        run.record = replace(Record(), **{name: value})
        assert not run.may_try_alone(full)
    run.record = Record()
    run.place.is_alone = True
    assert not run.may_try_alone(full)


def test_what_a_first_try_has_begun_is_ended_by_the_second(context, monkeypatch):
    """A pruner compares trials that are under way."""
    calls = []
    for name in ("begin", "drop"):
        method = getattr(TemporaryRecords, name)

        def spy(self, evaluation, name=name, method=method):
            calls.append(name)
            return method(self, evaluation)

        monkeypatch.setattr(TemporaryRecords, name, spy)
    run = context.begin(context.identify({"a": 1}, {}, 0))
    for _ in range(2):
        with run.followed():
            pass
    assert calls == ["drop", "begin"] * 2


def test_time_is_left_for_the_last_fit(context):
    """As long as the longest fit of this stage or of those before it, times a ratio."""
    end = time.time() + 100
    assert Deadline().reserve() == 0
    context = replace(context, deadline=Deadline(end, refit_ratio=2, longest_fit=10))
    assert context.time_left() == pytest.approx(80, abs=1)
    evaluation = context.identify({"a": 1}, {}, 0)
    context.end(evaluation, Record(fit_time=20))
    assert context.time_left() == pytest.approx(60, abs=1)
    context.end(evaluation, Record(fit_time=50, error="why"))
    assert context.time_left() == pytest.approx(60, abs=1)
    assert replace(context, deadline=Deadline()).time_left() == math.inf


def test_a_candidate_that_takes_too_long_is_not_measured_on_another_split(context):
    context = replace(context, trial_timeout=0.01)
    run = context.begin(context.identify({"a": 1}, {}, 0))
    too_long = pytest.raises(TimeoutError, match=r"more than trial_timeout=0\.01")
    with too_long, run.followed():
        time.sleep(0.02)
    run.fail("a traceback")
    run.close()
    assert run.record.error.startswith("TimeoutError: the fit took 0.02")
    other = context.begin(context.identify({"a": 1}, {}, 1))
    assert not other.is_to_fit
    assert "as another one took longer than trial_timeout=0.01" in other.record.error
    assert context.begin(context.identify({"a": 2}, {}, 1)).is_to_fit


def test_what_took_too_long_is_measured_again_if_it_may_take_longer(context):
    evaluation = context.identify({"a": 1}, {}, 0)
    context.records.add(evaluation, Record(error="too long", time_limit=5.0))
    for trial_timeout, is_found in [(4, True), (5, True), (6, False), (None, False)]:
        limited = replace(context, trial_timeout=trial_timeout)
        assert (limited.find(evaluation) is not None) == is_found


@pytest.mark.parametrize(
    ("seconds", "is_limited"), [(math.inf, True), (100, True), (1, False)]
)
def test_a_fit_is_late_by_the_limit_that_ended_it(context, seconds, is_limited):
    """Whatever a second clock says."""
    deadline = Deadline(time.time() + seconds)
    context = replace(context, deadline=deadline, trial_timeout=2.0)
    run = context.begin(context.identify({"a": 1}, {}, 0))
    with suppress(TimeoutError), run.followed():
        monitor = current_monitor()
        assert monitor.end - time.time() == pytest.approx(min(2, seconds), abs=0.5)
        monitor.end = 0
        monitor.check_time()
    assert (run.record.time_limit == 2.0) == is_limited
    assert run.record.skipped == (not is_limited)


def test_a_score_carries_its_record_between_processes():
    record = Record(scores=0.5, error="why", history=[{"epoch": 1}])
    scores = pickle.loads(pickle.dumps(carry({"b": -1.5, "a": 2.0}, record)))
    assert scores == {"b": -1.5, "a": 2.0}
    assert isinstance(scores["b"], Score)
    assert not isinstance(scores["a"], Score)
    assert scores["b"].record == replace(record, history=[])
    assert carry(0.5, record).record.error == "why"
