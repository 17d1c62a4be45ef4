"""An evaluation: what is fitted and scored, what fails, how much time it has."""

import math
import time
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import make_scorer
from sklearn.metrics._scorer import _MultimetricScorer
from sklearn.model_selection import cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC

from sklearn_iis import CNNClassifier, SearchSpace, current_monitor
from sklearn_iis.execution import _evaluate
from sklearn_iis.execution._checkpoints import Checkpoints
from sklearn_iis.execution._evaluate import Fidelity, Job, Scoring, evaluate
from sklearn_iis.execution._monitor import Monitor
from sklearn_iis.execution._record import Task
from sklearn_iis.testing import SPACE, FormulaClassifier, X, y
from tests.logging_search import CODES

TASK = Task(CODES, {}, 0)

SPLITS = [(np.arange(10), np.arange(10, 20)), (np.arange(10, 20), np.arange(10))]


def passthrough(estimator, X, y):
    return estimator.score(X, y)


def make_job(scorer=passthrough, *, estimator=None, scoring=None, **settings):
    fields = {"fixed": {"size": 4}} | settings
    return Job(
        estimator or FormulaClassifier(),
        fields.pop("space", SearchSpace(SPACE)),
        {0: Fidelity(X, fields.pop("fixed"))},
        y,
        SPLITS,
        Scoring(scorer, **(scoring or {})),
        **fields,
    )


def fit_and_score(scorer=passthrough, *, task=TASK, **settings):
    return evaluate(make_job(scorer, **settings), task)


# Fit


def test_a_clone_is_fitted_with_the_decoded_candidate():
    seen = []

    def scorer(fitted, X, y):
        seen.append(fitted)
        return fitted.score(X, y)

    estimator = FormulaClassifier()
    before = estimator.get_params()
    task = Task(CODES, {"max_epochs": 9}, 0)
    record = fit_and_score(scorer, estimator=estimator, task=task)
    assert estimator.get_params() == before
    assert not hasattr(estimator, "classes_")
    params = seen[0].get_params()
    assert params["rate"] == pytest.approx(0.01)
    assert params["widths"] == (5, 5)
    assert params["size"] == 4
    assert params["max_epochs"] == 9
    assert record.scores == FormulaClassifier(**params).score(X, y)
    assert record.error is None
    assert record.started == pytest.approx(time.time(), abs=60)
    assert record.fit_time >= 0 <= record.score_time


def test_each_split_has_its_samples():
    class Seeing(FormulaClassifier):
        def fit(self, X, y, sample_weight):
            seen.extend([X, y, sample_weight])
            return super().fit(X, y)

    def scorer(fitted, X, y, sample_weight):
        seen.extend([X, y, sample_weight])
        return 0.0

    weights = np.arange(20.0)
    params = {"sample_weight": weights}
    for split, (train, test) in enumerate(SPLITS):
        seen = []
        fit_and_score(
            scorer,
            estimator=Seeing(),
            task=Task(CODES, {}, split),
            fit_params=params,
            score_params=params,
        )
        expected = [a[s] for s in (train, test) for a in (X, y, weights)]
        for array, right in zip(seen, expected, strict=True):
            np.testing.assert_array_equal(array, right)


def test_train_scores_are_those_of_the_training_samples():
    def scorer(fitted, X, y):
        return X.mean()

    record = fit_and_score(scorer, scoring={"return_train_score": True})
    assert record.scores == X[SPLITS[0][1]].mean()
    assert record.train_scores == X[SPLITS[0][0]].mean()


@pytest.mark.parametrize("returned", [None, "another"])
def test_whatever_fit_returns_the_estimator_is_scored(returned):
    class Returning(FormulaClassifier):
        def fit(self, X, y):
            super().fit(X, y)
            return None if returned is None else object()

    record = fit_and_score(estimator=Returning())
    assert record.error is None
    assert record.scores > 0


def test_set_params_is_not_called_without_any():
    class Strict(FormulaClassifier):
        def set_params(self, **params):
            assert params
            return super().set_params(**params)

    assert fit_and_score(estimator=Strict()).error is None


def test_candidates_that_are_estimators_are_cloned():
    choice = SVC()
    seen = []

    def scorer(fitted, X, y):
        seen.append(fitted[0])
        return 0.0

    record = fit_and_score(
        scorer,
        estimator=make_pipeline(LogisticRegression()),
        space=SearchSpace({"logisticregression": [choice, LogisticRegression()]}),
        fixed={},
        task=Task({"logisticregression": 0}, {}, 0),
    )
    assert record.error is None
    assert isinstance(seen[0], SVC)
    assert seen[0] is not choice


def test_scores_equal_those_of_scikit_learn():
    estimator = LogisticRegression()
    scorer = make_scorer(lambda y, predicted: np.mean(y == predicted))
    reference = cross_validate(estimator.set_params(C=0.01), X, y, cv=SPLITS)
    for split in (0, 1):
        record = fit_and_score(
            scorer,
            estimator=estimator,
            space=SearchSpace({"C": [0.01, 1.0]}),
            fixed={},
            task=Task({"C": 0}, {}, split),
        )
        assert record.scores == reference["test_score"][split]


def test_an_estimator_without_targets():
    class Unsupervised(BaseEstimator):
        def __init__(self, a=0.0):
            self.a = a

        def fit(self, X):
            return self

    job = make_job(
        lambda fitted, X: fitted.a,
        estimator=Unsupervised(),
        space=SearchSpace({"a": [1.0, 2.0]}),
        fixed={},
    )
    assert evaluate(replace(job, y=None), Task({"a": 1}, {}, 0)).scores == 2


# Failures


@pytest.mark.parametrize("error_score", [np.nan, -3])
@pytest.mark.parametrize("train", [True, False])
def test_an_error_is_kept_and_scored(error_score, train):
    record = fit_and_score(
        estimator=FormulaClassifier(fails_below=1.0),
        scoring={"error_score": error_score, "return_train_score": train},
    )
    assert "RuntimeError: no fit with the rate 0.0" in record.error
    np.testing.assert_equal(record.scores, float(error_score))
    expected = float(error_score) if train else None
    np.testing.assert_equal(record.train_scores, expected)
    assert record.fit_time > 0


def metrics(**scores):
    """A scorer of scikit-learn's of several metrics, the values of which are given."""

    def scorer(value):
        return lambda *args: value

    return _MultimetricScorer(scorers={k: scorer(v) for k, v in scores.items()})


def test_all_metrics_fail_with_a_fit_and_the_guiding_one_comes_first():
    record = fit_and_score(
        metrics(a=1, b=2, c=3),
        estimator=FormulaClassifier(fails_below=1.0),
        scoring={"guide": "b"},
    )
    assert list(record.scores) == ["b", "a", "c"]
    assert np.isnan(list(record.scores.values())).all()


def test_errors_end_the_search_if_asked_to():
    scoring = {"error_score": "raise"}
    with pytest.raises(RuntimeError, match="no fit with the rate"):
        fit_and_score(estimator=FormulaClassifier(fails_below=1.0), scoring=scoring)
    with pytest.raises(ZeroDivisionError):
        fit_and_score(lambda *args: 1 / 0, scoring=scoring)


@pytest.mark.parametrize(
    ("score", "message"),
    [
        (np.nan, "the score is nan"),
        (np.float32(np.inf), "the score is inf"),
        ("good", "good"),
        (None, "TypeError: the score must be a number, got None"),
        (1j, "TypeError: the score must be a number, got 1j"),
        (np.complex64(1), "TypeError: the score must be a number"),
        (np.array([1.0, 2.0]), "ValueError"),
        ([1.0], r"TypeError: the score must be a number, got \[1.0\]"),
    ],
)
@pytest.mark.parametrize("is_dict", [True, False])
def test_a_score_that_is_none_is_a_failure(score, message, is_dict):
    def scorer(fitted, X, y):
        return {"a": score} if is_dict else score

    record = fit_and_score(scorer)
    assert np.isnan(record.guide)
    assert message.replace("\\", "") in record.error


@pytest.mark.parametrize(
    "score", [np.longdouble("0.5"), np.float16(0.5), np.array([0.5]), np.array(0.5)]
)
def test_numbers_of_any_kind_are_scores(score):
    record = fit_and_score(lambda *args: score)
    assert type(record.scores) is float
    assert record.scores == 0.5
    assert type(fit_and_score(lambda *args: True).scores) is float


def test_the_guide_comes_first():
    def scorer(fitted, X, y):
        return {"a": 1, "b": 2}

    assert list(fit_and_score(scorer, scoring={"guide": "b"}).scores) == ["b", "a"]
    assert list(fit_and_score(scorer).scores) == ["a", "b"]
    assert list(fit_and_score(scorer, scoring={"guide": "c"}).scores) == ["a", "b"]


def test_a_metric_that_does_not_guide_fails_by_itself():
    def scorer(fitted, X, y):
        return {"broken": "Traceback: why", "undefined": np.nan, "a": 1}

    with pytest.warns(UserWarning, match=r"'broken' failed .* nan(.|\n)*why"):
        record = fit_and_score(scorer, scoring={"guide": "a"})
    assert list(record.scores) == ["a", "broken", "undefined"]
    assert record.error is None
    assert record.scores["a"] == 1
    assert np.isnan([record.scores["broken"], record.scores["undefined"]]).all()


class Failing(FormulaClassifier):
    def fit(self, X, y):
        raise {"a": ValueError("no"), "b": RuntimeError("CUDA out of memory. Tried")}[
            self.kind
        ]


def test_the_gpus_cache_is_emptied_when_there_was_no_memory(monkeypatch):
    """There is no GPU here: torch is told that one is in use."""
    emptied = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(1))
    for kind, n_times in [("a", 0), ("b", 1)]:
        record = fit_and_score(
            estimator=Failing(kind=kind),
            space=SearchSpace({"rate": [1e-2, 1e-1]}),
            task=Task({"rate": 0}, {}, 0),
        )
        assert record.error is not None
        assert len(emptied) == n_times


# Time


class Epochs(FormulaClassifier):
    """Trains in epochs, with a score of each, until it is told to stop."""

    def __init__(self, rate=0.01, n_epochs=3, seconds=0.0):
        super().__init__(rate=rate)
        self.n_epochs = n_epochs
        self.seconds = seconds

    def fit(self, X, y):
        self.history_ = []
        monitor = current_monitor()
        for epoch in range(self.n_epochs):
            time.sleep(self.seconds)
            monitor.check_time()
            self.history_.append({"epoch": epoch})
            if monitor.end_epoch(self.history_, float(epoch)):
                break
        return super().fit(X, y)


RATE = {
    "space": SearchSpace({"rate": [1e-2, 1e-1]}),
    "fixed": {},
    "task": Task({"rate": 0}, {}, 0),
}


def test_the_history_of_a_fit_is_kept():
    recorder = Recorder()
    record = fit_and_score(estimator=Epochs(), recorder=recorder, **RATE)
    assert recorder.history == [{"epoch": 0}, {"epoch": 1}, {"epoch": 2}]
    assert not record.pruned
    # Nobody else asks for it.
    assert record.history == []


def test_what_begins_after_the_deadline_is_not_fitted():
    fits = []

    class Noting(FormulaClassifier):
        def fit(self, X, y):
            fits.append(self.rate)
            return super().fit(X, y)

    record = evaluate(make_job(estimator=Noting()), TASK, seconds_left=-1.0)
    assert record.unfinished
    assert fits == []


def test_a_score_that_is_not_finite_ends_the_search_if_errors_should():
    with pytest.raises(ValueError, match="the score is nan"):
        fit_and_score(lambda *args: np.nan, scoring={"error_score": "raise"})


def test_a_fit_that_takes_too_long_fails():
    record = fit_and_score(estimator=Epochs(seconds=0.02), trial_timeout=0.01, **RATE)
    assert record.error.startswith("TimeoutError: the fit took 0.0")
    assert "more than trial_timeout=0.01" in record.error
    assert record.time_limit == 0.01
    assert not record.unfinished


def test_a_fit_that_does_not_ask_ends_first():
    class Slow(FormulaClassifier):
        def fit(self, X, y):
            time.sleep(0.05)
            return super().fit(X, y)

    record = fit_and_score(estimator=Slow(), trial_timeout=0.01)
    assert "more than trial_timeout=0.01" in record.error
    assert np.isnan(record.scores)
    with pytest.raises(TimeoutError, match=r"more than trial_timeout=0\.01"):
        fit_and_score(
            estimator=Slow(), trial_timeout=0.01, scoring={"error_score": "raise"}
        )


def test_what_fails_late_has_taken_too_long():
    class SlowToFail(FormulaClassifier):
        def fit(self, X, y):
            time.sleep(0.05)
            raise RuntimeError("broken")

    record = fit_and_score(estimator=SlowToFail(), trial_timeout=0.01)
    assert record.time_limit == 0.01
    record = fit_and_score(estimator=SlowToFail(), trial_timeout=60.0)
    assert "RuntimeError: broken" in record.error
    assert record.time_limit is None


@pytest.mark.parametrize("raises", [True, False])
@pytest.mark.parametrize(
    ("seconds_left", "is_limited"), [(math.inf, True), (100, True), (1, False)]
)
def test_a_fit_is_late_by_the_limit_that_ended_it(
    seconds_left, is_limited, raises, monkeypatch
):
    """Only a fit that exceeds its own limit fails; else its outcome is not known."""
    limits = []
    limit = Monitor.limit

    def be_late(self, seconds):
        limits.append(seconds)
        limit(self, -1)

    monkeypatch.setattr(Monitor, "limit", be_late)
    job = make_job(
        estimator=Epochs(),
        trial_timeout=2.0,
        space=RATE["space"],
        fixed={},
        scoring={"error_score": "raise" if raises else np.nan},
    )
    if raises and is_limited:
        with pytest.raises(TimeoutError, match=r"trial_timeout=2\.0"):
            evaluate(job, RATE["task"], seconds_left)
    else:
        record = evaluate(job, RATE["task"], seconds_left)
        assert (record.time_limit == 2.0) == is_limited
        assert record.unfinished == (not is_limited)
        assert (record.error is None) == record.unfinished
    assert limits[-1] == pytest.approx(min(2, seconds_left), abs=0.5)


# Storages


class Recorder:
    """Notes what it is told."""

    def __init__(self, monitor=None):
        self.events = []
        self.monitor = monitor or Monitor()
        self.added = None
        self.history = None
        self.is_open = False

    def begin(self, task):
        self.events.append("begin")
        self.is_open = True
        return self.monitor

    def add(self, task, record):
        self.events.append("add")
        self.is_open = False
        self.added = task.key, record
        self.history = record.history

    def drop(self, task):
        if self.is_open:
            self.events.append("drop")
        self.is_open = False


def test_a_record_is_written_when_all_is_known():
    recorder = Recorder()
    record = fit_and_score(recorder=recorder)
    assert recorder.events[-2:] == ["begin", "add"]
    assert recorder.added == (TASK.key, record)
    assert record.scores is not None


def test_failures_are_written_as_well():
    recorder = Recorder()
    record = fit_and_score(
        estimator=FormulaClassifier(fails_below=1.0), recorder=recorder
    )
    assert recorder.added[1] is record


def test_what_was_pruned_is_scored():
    recorder = Recorder(Monitor(should_stop=lambda epoch, score: epoch == 2))
    record = fit_and_score(estimator=Epochs(), recorder=recorder, **RATE)
    assert record.pruned
    assert len(recorder.history) == 2
    assert record.error is None
    assert np.isfinite(record.scores)


def test_what_is_unfinished_is_not_written():
    recorder = Recorder(Monitor(seconds=-1))
    job = make_job(
        estimator=Epochs(seconds=0.02), recorder=recorder, space=RATE["space"], fixed={}
    )
    assert evaluate(job, RATE["task"], 0.01).unfinished
    assert "add" not in recorder.events


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_what_has_no_outcome_is_dropped(error):
    class Interrupted(FormulaClassifier):
        def fit(self, X, y):
            raise error

    recorder = Recorder()
    with pytest.raises(error):
        fit_and_score(
            estimator=Interrupted(),
            recorder=recorder,
            scoring={"error_score": "raise"},
        )
    assert recorder.events[-2:] == ["begin", "drop"]


def test_a_storage_that_fails_ends_the_search():
    def should_stop(epoch, score):
        raise OSError("the disk is full")

    recorder = Recorder(Monitor(should_stop=should_stop))
    with pytest.raises(OSError, match="the disk is full"):
        fit_and_score(estimator=Epochs(), recorder=recorder, **RATE)
    assert recorder.events[-1] == "drop"


# Slots of GPUs


class OnDevice(FormulaClassifier):
    """Has a device, and finds it full for the first times."""

    def __init__(self, rate=0.01, device="auto", n_full=0, tries=None):
        super().__init__(rate=rate)
        self.device = device
        self.n_full = n_full
        self.tries = tries

    def fit(self, X, y):
        self.tries.append(self.device)
        if self.n_full >= len(self.tries):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")
        return super().fit(X, y)


@dataclass
class StubSlot:
    """A slot that tells what is asked of it."""

    device: str
    events: list = field(default_factory=list)
    is_alone: bool = False

    def become_alone(self, time_left):
        self.events.append("alone")
        self.is_alone = True

    def give_back(self):
        self.events.append("back")


class Shared(list):
    """A list that `clone` does not copy."""

    def __deepcopy__(self, memo):
        return self


@pytest.fixture
def slot(monkeypatch):
    slot = StubSlot("cuda:1")
    give(monkeypatch, lambda time_left: slot)
    return slot


def give(monkeypatch, take):
    monkeypatch.setattr(_evaluate, "Gpus", lambda n: SimpleNamespace(take=take))


def evaluate_on_gpu(scorer=passthrough, *, n_full=0, device="auto", **settings):
    estimator = OnDevice(tries=Shared(), n_full=n_full, device=device)
    job = make_job(
        scorer,
        estimator=make_pipeline(estimator),
        space=SearchSpace({"ondevice__rate": [1e-2, 1e-1]}),
        **{"fixed": {}} | settings,
    )
    record = evaluate(job, Task({"ondevice__rate": 0}, {}, 0))
    assert job.estimator[0].device == device
    return record


@pytest.mark.parametrize("train", [True, False])
def test_a_slot_is_kept_until_the_scores_are_there(slot, train):
    def scorer(fitted, X, y):
        assert fitted[0].device == "cuda:1"
        assert not slot.events
        return 0.5

    record = evaluate_on_gpu(scorer, scoring={"return_train_score": train})
    assert record.scores == 0.5
    assert slot.events == ["back"]


def test_a_slot_is_kept_until_the_record_is_written(slot):
    class Writing(Recorder):
        def add(self, task, record):
            super().add(task, record)
            assert not slot.events

    evaluate_on_gpu(recorder=Writing())
    assert slot.events == ["back"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_a_slot_is_given_back_after_an_interrupt(slot, error):
    def interrupt(fitted, X, y):
        raise error

    with pytest.raises(error):
        evaluate_on_gpu(interrupt)
    assert slot.events == ["back"]


def test_a_slot_is_given_back_after_an_error_that_is_raised(slot):
    with pytest.raises(torch.OutOfMemoryError):
        evaluate_on_gpu(n_full=2, scoring={"error_score": "raise"})
    assert slot.events == ["alone", "back"]


@pytest.mark.parametrize(("n_full", "fails"), [(1, False), (2, True), (3, True)])
def test_a_full_gpu_is_tried_once_more_alone(slot, n_full, fails):
    recorder = Recorder()
    record = evaluate_on_gpu(n_full=n_full, recorder=recorder)
    assert ("OutOfMemoryError" in record.error) if fails else (record.error is None)
    assert np.isnan(record.scores) == fails
    assert slot.events == ["alone", "back"]
    # What the first attempt has begun is ended: a pruner compares what is under way.
    assert recorder.events[-3:] == ["drop", "begin", "add"]
    assert recorder.events.count("add") == 1


class FullMetrics:
    """A scorer that finds the GPU full, as scikit-learn's scorers tell it."""

    def __init__(self, n_full, tell):
        self.n_full = n_full
        self.tell = tell

    def __call__(self, estimator, X, y):
        if self.n_full == 0:
            return {"a": 0.5, "b": 1.0}
        self.n_full -= 1
        if self.tell == "raised":
            raise torch.OutOfMemoryError("CUDA out of memory.")
        error = "Traceback ...\ntorch.OutOfMemoryError: CUDA out of memory."
        return {"a": error, "b": error} if self.tell == "all" else {"a": 1, "b": error}


@pytest.mark.parametrize("tell", ["raised", "all", "one"])
def test_a_full_gpu_is_scored_once_more_alone(slot, tell):
    record = evaluate_on_gpu(FullMetrics(1, tell), scoring={"guide": "a"})
    assert record.scores == {"a": 0.5, "b": 1.0}
    assert slot.events == ["alone", "back"]


@pytest.mark.parametrize("tell", ["raised", "all"])
def test_a_gpu_that_is_full_for_the_scores_twice_fails(slot, tell):
    record = evaluate_on_gpu(FullMetrics(2, tell), scoring={"guide": "a"})
    assert np.isnan(record.guide)
    assert "OutOfMemoryError" in record.error
    assert slot.events == ["alone", "back"]


def test_no_second_attempt_without_a_slot(slot):
    record = evaluate_on_gpu(n_full=1, device="cuda:0")
    assert "OutOfMemoryError" in record.error
    assert not slot.events


def test_no_second_attempt_for_other_errors(slot):
    def scorer(fitted, X, y):
        raise MemoryError

    assert "MemoryError" in evaluate_on_gpu(scorer).error
    assert slot.events == ["back"]


def test_waiting_is_no_part_of_the_fit(slot, monkeypatch):
    now = [0.0]
    clock = SimpleNamespace(
        perf_counter=lambda: now[0], time=lambda: 0.0, monotonic=lambda: 0.0
    )
    monkeypatch.setattr(_evaluate, "time", clock)

    def take_slowly(time_left):
        now[0] += 1000.0
        return slot

    give(monkeypatch, take_slowly)
    assert evaluate_on_gpu(n_full=1).fit_time == 0


@pytest.mark.parametrize("when", ["before", "again"])
def test_without_a_slot_in_time_the_evaluation_is_unfinished(slot, when, monkeypatch):
    def wait(time_left):
        raise TimeoutError

    if when == "before":
        give(monkeypatch, wait)
    else:
        slot.become_alone = wait
    recorder = Recorder()
    record = evaluate_on_gpu(n_full=1, recorder=recorder)
    assert record.unfinished
    assert record.error is None
    assert "add" not in recorder.events


def test_not_alone_in_time_the_scores_are_unfinished(slot):
    def wait(time_left):
        raise TimeoutError

    slot.become_alone = wait
    record = evaluate_on_gpu(FullMetrics(1, "raised"), scoring={"guide": "a"})
    assert record.unfinished
    assert slot.events == ["back"]


def test_locks_that_fail_end_the_search(monkeypatch):
    def fail(time_left):
        raise PermissionError("no locks")

    give(monkeypatch, fail)
    with pytest.raises(PermissionError, match="no locks"):
        evaluate_on_gpu()


@pytest.mark.parametrize("devices", [("cpu", None), (None, "cpu")])
def test_training_goes_on_on_another_device(devices, tmp_path, monkeypatch):
    """A network that was trained on one device goes on on another one."""
    fitted = []

    def scorer(estimator, X, y):
        fitted.append(estimator)
        return 0.5

    samples = np.arange(30)
    job = Job(
        CNNClassifier(device="auto", schedule="constant", random_state=0),
        SearchSpace({"learning_rate": [0.01, 0.1]}),
        {0: Fidelity(np.random.default_rng(0).random((30, 4, 4)))},
        samples % 2,
        [(samples, samples)],
        Scoring(scorer),
        checkpoints=Checkpoints(str(tmp_path)),
    )
    for n_epochs, device in zip((1, 3), devices, strict=True):
        slot = StubSlot(device) if device else None
        give(monkeypatch, lambda time_left, slot=slot: slot)
        task = Task({"learning_rate": 0}, {"max_epochs": n_epochs}, 0)
        assert evaluate(job, task).error is None
        assert fitted[-1].device == (device or "auto")
    # Times and all: the first epoch was not trained again.
    first, second = (estimator.history_ for estimator in fitted)
    assert second[0] == first[0]
    assert len(second) == 3
