"""Records of a stage in its study: written, read, and never in the study of others."""

import math
import os
import pickle
import platform
import threading
import time
import warnings

import numpy as np
import optuna
import pytest
from optuna.pruners import MedianPruner
from optuna.trial import TrialState
from scipy.stats import loguniform, randint
from sqlalchemy.exc import OperationalError

from sklearn_iis.execution._record import Record, Task
from sklearn_iis.execution._text import MAX_ERROR
from sklearn_iis.space import SearchSpace
from sklearn_iis.storage import StorageError, make_pruner
from sklearn_iis.storage._recorder import (
    EVALUATION,
    OWNER,
    StudyRecorder,
    to_attributes,
    to_record,
)
from tests.resume_child import opened
from tests.storage.storages import make_studies

SPACE = SearchSpace(
    {"rate": loguniform(1e-4, 1), "n": randint(0, 2**62), "kind": ["a", (1, 2), None]}
)
TASK = Task({"rate": 0.5, "n": 7, "kind": 1}, {}, 0)


def make_recorder(storage, pruner=None) -> StudyRecorder:
    studies = make_studies(storage, space=SPACE, pruner=make_pruner(pruner))
    return studies.begin_stage(0, SPACE, promoted=[], random_state=0)[0]


def make_task(i, split=0):
    return Task(TASK.codes | {"n": i}, {}, split)


def read_all(recorder):
    return recorder.storage.open().get_all_trials(recorder.study_id)


RECORDS = [
    Record(scores=0.1 + 0.2, fit_time=1.5, score_time=0.25),
    Record(
        scores={"b": 0.5, "a": math.nan, "c": -math.inf}, train_scores={"b": 1e-300}
    ),
    Record(scores=math.nan, train_scores=math.nan, error="Traceback\n  é\nno"),
    Record(scores=0.25, pruned=True, history=[{"epoch": 1, "valid_acc": 0.5}]),
    Record(scores=-7.0, error="TimeoutError: x", time_limit=0.5),
]


@pytest.mark.parametrize("pruner", [None, "median"])
def test_what_is_written_is_read(storage, pruner):
    recorder = make_recorder(storage, pruner)
    tasks = [make_task(i // 2, i % 2) for i in range(len(RECORDS))]
    tasks.append(Task(TASK.codes, {"max_epochs": 3}, 0))
    for task, record in zip(tasks, [*RECORDS, RECORDS[0]], strict=True):
        record.started = time.time()
        recorder.begin(task)
        recorder.add(task, record)
    # As in another process, which has none of it in its memory.
    read = pickle.loads(pickle.dumps(make_recorder(storage, pruner))).read()
    assert list(read) == [task.key for task in tasks]
    for task, record in zip(tasks, RECORDS, strict=False):
        found = vars(read[task.key]) | {"started": record.started}
        np.testing.assert_equal(found, vars(record) | {"history": []})
        if isinstance(record.scores, dict):
            assert list(read[task.key].scores) == list(record.scores)
    assert read_all(recorder)[-1].user_attrs["max_epochs"] == "3"
    states = [trial.state.name for trial in read_all(recorder)]
    assert states == ["COMPLETE", "COMPLETE", "FAIL", "PRUNED", "FAIL", "COMPLETE"]


def test_records_are_written_once_more_after_a_longer_time_limit(journal):
    recorder = make_recorder(journal)
    recorder.add(TASK, RECORDS[4])
    recorder.add(TASK, RECORDS[0])
    assert recorder.read()[TASK.key].scores == RECORDS[0].scores


@pytest.mark.parametrize("n", [1, 2**53 + 1, 2**62 - 513, 2**62 - 3, 2**62 - 1])
def test_wide_integers_are_exact(n, storage):
    """Optuna keeps parameters as floats; codes are kept as integers."""
    make_recorder(storage).add(make_task(n), RECORDS[0])
    studies = make_studies(storage, space=SPACE, budgets=[5])
    recorder, known, _ = studies.begin_stage(0, SPACE, promoted=[], random_state=0)
    assert known == [TASK.codes | {"n": n}]
    assert SPACE.decode(known[0])["n"] == n
    assert known[0]["n"].__class__ is int
    assert list(recorder.read()) == [make_task(n).key]
    assert make_task(n).key != make_task(n - 1).key
    shown = read_all(recorder)[0].params["n"]
    assert shown == pytest.approx(n, rel=2**-52)


def test_narrow_integers_are_shown_exactly(storage):
    recorder = make_recorder(storage)
    recorder.add(make_task(2**53 - 1), RECORDS[0])
    assert read_all(recorder)[0].params["n"] == 2**53 - 1


def test_a_pruner_is_told_of_epochs(storage):
    recorder = make_recorder(storage, "median")
    for i in range(6):
        monitor = recorder.begin(make_task(i))
        stops = [monitor.end_epoch([{}] * n, 0.9 - i / 10) for n in (1, 2)]
        # The median pruner watches 5 trials first.
        assert stops == [i == 5, i == 5]
        record = Record(scores=0.5, pruned=monitor.stopped)
        recorder.add(make_task(i), record)
    assert [t.state for t in read_all(recorder)][4:] == [
        TrialState.COMPLETE,
        TrialState.PRUNED,
    ]
    assert len(recorder.read()) == 6


class UnreadablePruner(MedianPruner):
    """Finds that the database is gone, as it reads the other trials."""

    def prune(self, study, trial):
        raise OperationalError("SELECT", {}, Exception("server closed the connection"))


def test_a_storage_that_fails_the_pruner_is_none_of_the_candidates_errors(journal):
    recorder = make_recorder(journal, UnreadablePruner())
    monitor = recorder.begin(TASK)
    assert monitor.end_epoch([{}], 0.5)
    assert isinstance(monitor.error, StorageError)
    assert "server closed the connection" in str(monitor.error)


def test_what_has_no_outcome_is_ended(storage):
    recorder = make_recorder(storage, "median")
    recorder.begin(TASK)
    recorder.drop(TASK)
    recorder.drop(TASK)
    recorder.begin(TASK)
    recorder.begin(TASK)  # once more, as alone on a GPU
    recorder.add(TASK, RECORDS[0])
    states = [trial.state.name for trial in read_all(recorder)]
    assert states == ["FAIL", "FAIL", "COMPLETE"]
    assert list(recorder.read()) == [TASK.key]


def test_what_is_ended_by_hand_is_written_nevertheless(storage):
    recorder = make_recorder(storage, "median")
    monitor = recorder.begin(TASK)
    (trial,) = read_all(recorder)
    recorder.storage.open().set_trial_state_values(trial._trial_id, TrialState.FAIL)
    with pytest.raises(RuntimeError, match="ended by hand"):
        monitor.end_epoch([{}], 0.5)
    recorder.add(TASK, RECORDS[0])
    assert list(recorder.read()) == [TASK.key]


def test_threads_share_a_recorder(storage):
    recorder = make_recorder(storage, "median")

    def run(i):
        recorder.begin(make_task(i)).end_epoch([{}], 0.5)
        recorder.add(make_task(i), Record(scores=float(i)))

    threads = [threading.Thread(target=run, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    read = recorder.read()
    assert {key: read[key].scores for key in sorted(read)} == {
        key: float(i)
        for key, i in sorted((make_task(i).key, i) for i in range(len(threads)))
    }


def test_what_runs_is_not_sent_to_others(journal):
    recorder = make_recorder(journal, "median")
    recorder.begin(TASK)
    other = pickle.loads(pickle.dumps(recorder))
    other.add(TASK, RECORDS[0])
    recorder.add(TASK, RECORDS[0])
    assert len(read_all(recorder)) == 2


def test_trials_of_dead_workers_are_ended(journal):
    recorder = make_recorder(journal, "median")
    host = platform.node()
    workers = [f"{host}:{os.getpid()}", f"{host}:{2**22 + 1}", "elsewhere:1", None, 3]
    workers += [f"{host}:{'9' * 99}", "\x1b:", ["x"]]
    for i, worker in enumerate(workers):
        trial = recorder._make_trial(make_task(i), TrialState.RUNNING)
        trial.user_attrs[EVALUATION]["worker"] = worker
        recorder.storage.open().create_new_trial(recorder.study_id, trial)
    trial.user_attrs[EVALUATION] = ["none of ours"]
    recorder.storage.open().create_new_trial(recorder.study_id, trial)
    recorder.end_dead_trials()
    states = [trial.state.name for trial in read_all(recorder)]
    assert states == ["RUNNING", "FAIL", *["RUNNING"] * 7]


# A study that is deleted meanwhile


def replace_study(reader, name):
    """Delete the only study, and create another, which may get its number."""
    (study,) = reader.get_all_studies()
    reader.delete_study(study._study_id)
    reader.create_new_study(study.directions, name)
    (other,) = reader.get_all_studies()
    return study._study_id, other._study_id


@pytest.mark.parametrize("name", ["somebody else's", "iis: stage 0"])
@pytest.mark.parametrize("action", ["begin", "add", "add begun", "epoch", "drop"])
def test_nothing_is_written_into_the_study_of_others(action, name, storage):
    recorder = make_recorder(storage, None if action == "add" else "median")
    message = "the study 'iis: stage 0' was deleted meanwhile"
    monitor = None if action in ("add", "begin") else recorder.begin(TASK)
    # As another process does it: Optuna remembers what this one has read.
    with opened(storage) as reader:
        number, other = replace_study(reader, name)
        if str(storage).startswith("sqlite"):
            assert other == number
        if action == "begin":
            with pytest.raises(StorageError, match=message):
                recorder.begin(TASK)
        elif action in ("add", "add begun"):
            with pytest.raises(StorageError, match=message):
                recorder.add(TASK, RECORDS[0])
        elif action == "epoch":
            assert monitor.end_epoch([{}], 0.5)
            assert message in str(monitor.error)
        else:
            recorder.drop(TASK)
        assert reader.get_all_trials(other) == []


def test_a_study_begun_anew_by_the_same_call_is_written(journal):
    """As it is by the other search."""
    recorder = make_recorder(journal)
    recorder.storage.open().delete_study(recorder.study_id)
    again = make_recorder(journal)
    again.add(TASK, RECORDS[0])
    with pytest.raises(StorageError, match="deleted meanwhile"):
        recorder.add(TASK, RECORDS[0])
    assert len(again.read()) == 1


# Attributes that others have changed

DAMAGED = {
    "evaluation": {EVALUATION: ["x"]},
    "key": {("evaluation", "key"): 3},
    "codes": {("evaluation", "codes"): ["rate"]},
    "code": {("evaluation", "codes"): {"rate": "0.5"}},
    "infinite code": {("evaluation", "codes"): {"rate": math.inf}},
    "scores": {"scores": "0.5"},
    "no scores": {"scores": {}},
    "bool": {"scores": True},
    "a score": {"scores": {"a": [0.5]}},
    "null": {"scores": None},
    "huge": {"scores": 10**400},
    "train scores": {"train_scores": "\x1b[31m"},
    "seconds": {"seconds": 3},
    "a second": {"seconds": {"fit": "1", "score": 0.0}},
    "none": {"seconds": {"fit": 1.0}},
    "error": {"error": 3},
    "pruned": {"pruned": "no"},
    "time limit": {"time_limit": "1"},
    "control characters": {"scores": "\x1b]0;x\x07" * 10_000},
}


def add_damaged(recorder, damage, task=TASK):
    trial = recorder._make_trial(task, TrialState.COMPLETE, 0.5, RECORDS[0])
    for name, value in damage.items():
        if isinstance(name, tuple):
            trial.user_attrs[EVALUATION][name[1]] = value
        else:
            trial.user_attrs[name] = value
    recorder.storage.open().create_new_trial(recorder.study_id, trial)


@pytest.mark.parametrize("name", DAMAGED)
@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_damaged_records_are_ignored(name, kind, tmp_path):
    """With one warning, which can be printed."""
    path = tmp_path / "run"
    storage = f"sqlite:///{path}" if kind == "sqlite" else path
    recorder = make_recorder(storage)
    for _ in range(3):
        add_damaged(recorder, DAMAGED[name])
    recorder.add(make_task(1), RECORDS[0])
    with pytest.warns(
        UserWarning, match="3 trials of the study 'iis: stage 0'"
    ) as told:
        records = recorder.read()
    assert list(records) == [make_task(1).key]
    (warning,) = told
    assert str(warning.message).isprintable()
    assert len(str(warning.message)) < 1000
    studies = make_studies(storage, space=SPACE, budgets=[9])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, known, _ = studies.begin_stage(0, SPACE, promoted=[], random_state=0)
    assert known == [make_task(1).codes]


@pytest.mark.parametrize(
    "codes",
    [
        {"rate": 2.0, "n": 7, "kind": 1},
        {"rate": 0.5, "n": 2**62, "kind": 1},
        {"rate": 0.5, "n": 7, "kind": 1, "other": 1},
        {"rate": 0.5, "n": 7},
        {"rate": 0.5, "n": 10**300, "kind": 1},
        {"rate": 0.5, "n": 1e300, "kind": 1},
        {},
    ],
)
def test_candidates_of_no_space_are_not_proposed(codes, journal):
    recorder = make_recorder(journal)
    add_damaged(recorder, {("evaluation", "codes"): codes})
    studies = make_studies(journal, space=SPACE, budgets=[9])
    assert studies.begin_stage(0, SPACE, promoted=[], random_state=0)[1] == []


def test_errors_are_read_as_they_can_be_printed(journal):
    recorder = make_recorder(journal)
    add_damaged(recorder, {"error": "x" * 20_000_000 + "\x1b[31m\nno"})
    error = recorder.read()[TASK.key].error
    assert error.endswith("x\\x1b[31m\nno")
    assert len(error) <= MAX_ERROR


def test_a_damaged_study_is_an_error_of_the_storage(journal):
    recorder = make_recorder(journal)
    recorder.add(TASK, RECORDS[0])
    recorder.storage.open().set_study_user_attr(recorder.study_id, OWNER, {"a": 1})
    with pytest.raises(StorageError, match="deleted meanwhile"):
        recorder.add(TASK, RECORDS[0])


# What is written


def test_scores_that_are_not_finite_come_back():
    record = Record(scores={"a": math.inf, "b": -math.inf, "c": math.nan, "d": 0.5})
    trial = optuna.create_trial(
        value=0.0,
        user_attrs=to_attributes(record) | {EVALUATION: {"key": "a", "codes": {}}},
    )
    np.testing.assert_equal(to_record(trial).scores, record.scores)


def test_what_was_pruned_is_known_before_its_state_is():
    """A worker may be killed between them."""
    attributes = to_attributes(Record(scores=0.5, pruned=True))
    assert list(attributes)[-1] == "scores"
    trial = optuna.create_trial(
        state=TrialState.RUNNING,
        user_attrs=attributes | {EVALUATION: {"key": "a", "codes": {}}},
    )
    assert to_record(trial).pruned


@pytest.mark.parametrize("number", [float, np.float64, np.float32, np.longdouble])
def test_numbers_of_numpy(number, storage):
    record = Record(
        scores={"a": number(0.5), "b": number("nan")},
        fit_time=1.0,
        time_limit=3,
        error="\ud800",
        history=[
            {
                "valid_acc": 0.25,
                "valid_score": number(0.5),
                "n": np.int64(3),
                "flag": np.True_,
            },
            {"valid_acc": None, "text": "a", "array": np.arange(3), "nan": math.nan},
        ],
    )
    recorder = make_recorder(storage)
    recorder.add(TASK, record)
    found = recorder.read()[TASK.key]
    np.testing.assert_equal(found.scores, {"a": 0.5, "b": math.nan})
    assert type(found.scores["a"]) is float
    assert found.error == "\\ud800"
    (trial,) = read_all(recorder)
    assert trial.intermediate_values == {1: 0.5}
    history = trial.user_attrs["history"]
    assert history["n"] == [3, None]
    assert history["flag"] == [True, None]
    assert history["valid_score"] == [0.5, None]
    assert history["array"][1].startswith("ndarray (3,)")
    assert history["nan"] == [None, "nan"]
