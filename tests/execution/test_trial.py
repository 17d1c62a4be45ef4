from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.base import clone, is_classifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import make_scorer
from sklearn.model_selection import GridSearchCV, ParameterGrid
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC

from sklearn_iis import CNNClassifier, SearchSpace
from sklearn_iis.execution import _evaluation
from sklearn_iis.execution._checkpoints import Checkpoints
from sklearn_iis.execution._records import SearchAborted
from sklearn_iis.execution._trial import Trial, TrialScorer
from sklearn_iis.testing import SPACE, FormulaClassifier, X, y
from tests.execution.test_guard import CODES, FixedSearch


def passthrough(estimator, X, y):
    return estimator.score(X, y)


def make_trial(codes=CODES, **params):
    estimator = FormulaClassifier(**params)
    return Trial(estimator, SearchSpace(SPACE), fixed={"size": 4}).set_params(**codes)


def test_fit_sets_the_decoded_candidate_on_a_clone():
    trial = make_trial()
    before = trial.estimator.get_params()
    assert trial.fit(X, y) is trial
    assert trial.estimator.get_params() == before
    assert not hasattr(trial.estimator, "classes_")
    params = trial.estimator_.get_params()
    assert params["rate"] == pytest.approx(0.01)
    assert params["widths"] == (5, 5)
    assert params["size"] == 4
    assert TrialScorer(passthrough)(trial, X, y) == trial.estimator_.score(X, y)


def test_unknown_codes_are_refused():
    with pytest.raises(ValueError, match=r"\['degre'\] are neither codes of"):
        make_trial().set_params(degre=1)


def test_candidates_that_are_estimators_are_cloned():
    choice = SVC()
    pipe = make_pipeline(LogisticRegression())
    space = SearchSpace({"logisticregression": [choice, LogisticRegression()]})
    trial = Trial(pipe, space).set_params(logisticregression=0).fit(X, y)
    assert trial.run_.record.error is None
    assert isinstance(trial.estimator_[0], SVC)
    assert trial.estimator_[0] is not choice


def test_clones_share_what_is_never_changed():
    trial = make_trial().fit(X, y)
    again = clone(trial)
    assert again.space is trial.space
    assert again.codes == trial.codes
    assert not hasattr(again, "estimator_")


def test_trial_has_the_tags_of_its_estimator():
    assert is_classifier(make_trial())


@pytest.mark.parametrize("error_score", [np.nan, -3])
def test_an_error_is_kept_and_scored(error_score):
    trial = make_trial(fails_below=1.0).fit(X, y)
    error = trial.run_.record.error
    assert "RuntimeError: no fit with the rate 0.0" in error
    score = TrialScorer(passthrough, error_score=error_score)(trial, X, y)
    np.testing.assert_equal(float(score), error_score)
    assert score.record.error == error


def test_an_error_is_kept_with_the_metric_that_guides():
    trial = make_trial(fails_below=1.0).fit(X, y)
    scores = TrialScorer(passthrough, metrics=("a", "b"))(trial, X, y)
    assert list(scores) == ["a", "b"]
    assert np.isnan(list(scores.values())).all()
    assert scores["a"].record.error == trial.run_.record.error


def test_raise_errors():
    trial = make_trial(fails_below=1.0)
    trial.raise_errors = True
    with pytest.raises(RuntimeError, match="no fit with the rate"):
        trial.fit(X, y)


@pytest.mark.parametrize(
    ("scorer", "message"),
    [
        (lambda *args: np.nan, "the score is nan"),
        (lambda *args: np.float32(np.inf), "the score is inf"),
        (lambda *args: "good", "good"),
        (lambda *args: None, "TypeError: the score must be a number, got None"),
        (lambda *args: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_a_score_that_is_none_is_a_failure(scorer, message):
    score = TrialScorer(scorer)(make_trial().fit(X, y), X, y)
    assert np.isnan(score)
    assert message in score.record.error


def test_a_scorer_that_raises_ends_the_search_if_asked_to():
    scorer = TrialScorer(lambda *args: 1 / 0, error_score="raise")
    with pytest.raises(ZeroDivisionError):
        scorer(make_trial().fit(X, y), X, y)


def test_the_guide_comes_first():
    def scorer(estimator, X, y):
        return {"a": 1, "b": 2}

    trial = make_trial().fit(X, y)
    assert list(TrialScorer(scorer, guide="b")(trial, X, y)) == ["b", "a"]


def test_report_is_called_once_with_the_guiding_score():
    reports = []
    scorer = TrialScorer(
        lambda *args: {"a": 1, "b": 2},
        guide="b",
        metrics=("a", "b"),
        report=lambda codes, score: reports.append((codes, score)),
    )
    trial = make_trial().fit(X, y)
    scorer(trial, X, y)
    scorer(trial, X, y)
    assert reports == [(CODES, 2)]


def test_scores_equal_those_of_the_estimator_itself():
    space = SearchSpace({"C": [0.01, 1.0, 100.0]})
    scorer = make_scorer(lambda y, predicted: np.mean(y == predicted))
    reference = GridSearchCV(
        LogisticRegression(), {"C": [0.01, 1.0, 100.0]}, scoring=scorer, cv=3
    ).fit(X, y)
    search = FixedSearch(
        Trial(LogisticRegression(), space),
        list(ParameterGrid({"C": [0, 1, 2]})),
        scoring=TrialScorer(scorer),
        cv=3,
    ).fit(X, y)
    for key in ("mean_test_score", "std_test_score", "rank_test_score"):
        np.testing.assert_array_equal(
            search.cv_results_[key], reference.cv_results_[key]
        )


def test_a_metric_that_does_not_guide_fails_by_itself():
    scorer = TrialScorer(
        lambda *args: {"broken": "Traceback: why", "undefined": np.nan, "a": 1},
        metrics=("broken", "undefined", "a"),
        guide="a",
    )
    with pytest.warns(UserWarning, match=r"'broken' failed .* nan(.|\n)*why"):
        scores = scorer(make_trial().fit(X, y), X, y)
    assert list(scores) == ["a", "broken", "undefined"]
    assert scores["a"] == 1
    assert np.isnan([scores["broken"], scores["undefined"]]).all()


def test_the_guide_comes_first_also_if_all_metrics_fail():
    trial = make_trial(fails_below=1.0).fit(X, y)
    scorer = TrialScorer(passthrough, metrics=("a", "b", "c"), guide="b")
    assert list(scorer(trial, X, y)) == ["b", "a", "c"]


# Places on GPUs


class OnDevice(FormulaClassifier):
    """Has a device, and finds it full for the first times."""

    def __init__(self, rate=0.01, device="auto", n_full=0, tries=None):
        super().__init__(rate=rate)
        self.device = device
        self.n_full = n_full
        self.tries = tries

    def fit(self, X, y):
        if self.n_full > len(self.tries):
            self.tries.append(self.device)
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")
        return super().fit(X, y)


@dataclass
class StubPlace:
    """A place that tells what is asked of it."""

    device: str
    events: list = field(default_factory=list)
    is_alone: bool = False
    trial: Trial | None = None

    def become_alone(self, time_left):
        self.events.append("alone")
        self.is_alone = True

    def give_back(self):
        fitted = hasattr(self.trial, "estimator_")
        self.events.append("fitted" if fitted else "back")


class StubGpus:
    """Gives what it is given, one after the other."""

    def __init__(self, *places):
        self.places = list(places)

    def take(self, time_left):
        return self.places.pop(0)


class Shared(list):
    """A list that `clone` does not copy."""

    def __deepcopy__(self, memo):
        return self


def make_placed_trial(place, **params):
    trial = Trial(
        make_pipeline(OnDevice(tries=Shared(), **params)),
        SearchSpace({"ondevice__rate": [1e-2, 1e-1]}),
        gpus=StubGpus(place),
    )
    place.trial = trial
    return trial.set_params(ondevice__rate=0)


def test_a_place_is_kept_until_the_scores_are_there():
    place = StubPlace("cuda:1")
    trial = make_placed_trial(place).fit(X, y)

    def scorer(estimator, X, y):
        assert estimator[0].device == "cuda:1"
        assert not place.events
        return 0.5

    assert TrialScorer(scorer)(trial, X, y) == 0.5
    # Without what was fitted, which has memory on the GPU.
    assert place.events == ["back"]
    assert trial.estimator[0].device == "auto"


def test_a_place_is_kept_for_the_train_score():
    place = StubPlace("cuda:0")
    trial = make_placed_trial(place).fit(X, y)
    scorer = TrialScorer(passthrough, return_train_score=True)
    scorer(trial, X, y)
    assert not place.events
    scorer(trial, X, y)
    assert place.events == ["back"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_a_place_is_given_back_after_an_interrupt(error):
    def interrupt(estimator, X, y):
        raise error

    place = StubPlace("cuda:0")
    trial = make_placed_trial(place).fit(X, y)
    with pytest.raises(error):
        TrialScorer(interrupt)(trial, X, y)
    assert place.events == ["back"]


def test_a_place_is_given_back_after_an_error_that_is_raised():
    place = StubPlace("cuda:0")
    trial = make_placed_trial(place, n_full=2)
    trial.raise_errors = True
    with pytest.raises(torch.OutOfMemoryError):
        trial.fit(X, y)
    assert place.events == ["alone", "back"]


@pytest.mark.parametrize(("n_full", "fails"), [(1, False), (2, True), (3, True)])
def test_a_full_gpu_is_tried_once_more_alone(n_full, fails):
    place = StubPlace("cuda:0")
    trial = make_placed_trial(place, n_full=n_full).fit(X, y)
    assert place.events == ["alone"]
    error = trial.run_.record.error
    assert ("OutOfMemoryError" in error) if fails else (error is None)
    score = TrialScorer(passthrough)(trial, X, y)
    assert np.isnan(score) == fails
    assert place.events == ["alone", "back"]


class Metrics:
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
def test_a_full_gpu_is_scored_once_more_alone(tell):
    place = StubPlace("cuda:0")
    trial = make_placed_trial(place).fit(X, y)
    scores = TrialScorer(Metrics(1, tell), metrics=("a", "b"), guide="a")(trial, X, y)
    assert scores == {"a": 0.5, "b": 1.0}
    assert place.events == ["alone", "back"]


@pytest.mark.parametrize("tell", ["raised", "all"])
def test_a_gpu_that_is_full_for_the_scores_twice_fails(tell):
    place = StubPlace("cuda:0")
    trial = make_placed_trial(place).fit(X, y)
    scorer = TrialScorer(Metrics(2, tell), metrics=("a",), guide="a")
    score = scorer(trial, X, y)["a"]
    assert np.isnan(score)
    assert "OutOfMemoryError" in score.record.error
    assert place.events == ["alone", "back"]


def test_no_second_try_without_a_place():
    place = StubPlace("cuda:0")
    trial = make_placed_trial(place, n_full=1, device="cuda:0").fit(X, y)
    assert "OutOfMemoryError" in trial.run_.record.error
    assert trial.run_.place is None


def test_waiting_is_no_part_of_the_fit(monkeypatch):
    now = [0.0]
    clock = SimpleNamespace(perf_counter=lambda: now[0], time=lambda: 0.0)
    monkeypatch.setattr(_evaluation, "time", clock)
    trial = make_placed_trial(StubPlace("cuda:0"), n_full=1)
    take = trial.gpus.take

    def take_slowly(time_left):
        now[0] += 1000.0
        return take(time_left)

    trial.gpus.take = take_slowly
    assert trial.fit(X, y).run_.record.fit_time == 0


@pytest.mark.parametrize("when", ["before", "again"])
def test_no_place_in_time_skips_the_evaluation(when):
    place = StubPlace("cuda:0")
    trial = make_placed_trial(place, n_full=1)

    def wait(time_left):
        raise TimeoutError

    if when == "before":
        trial.gpus.take = wait
    else:
        place.become_alone = wait
    trial.fit(X, y)
    score = TrialScorer(passthrough)(trial, X, y)
    assert score.record.skipped
    assert score.record.error is None


def test_no_place_alone_in_time_skips_what_was_to_be_scored():
    place = StubPlace("cuda:0")
    trial = make_placed_trial(place).fit(X, y)

    def wait(time_left):
        raise TimeoutError

    place.become_alone = wait
    scorer = TrialScorer(Metrics(1, "raised"), metrics=("a", "b"))
    score = scorer(trial, X, y)["a"]
    assert score.record.skipped
    assert place.events == ["back"]


def test_locks_that_fail_end_the_search():
    trial = make_placed_trial(StubPlace("cuda:0"))

    def fail(time_left):
        raise PermissionError("no locks")

    trial.gpus.take = fail
    with pytest.raises(SearchAborted) as aborted:
        trial.fit(X, y)
    assert isinstance(aborted.value.args[0], PermissionError)


@pytest.mark.parametrize("devices", [("cpu", None), (None, "cpu")])
def test_training_goes_on_where_there_is_a_place(devices, tmp_path):
    """A network that was trained on one device goes on on another one."""
    images = np.random.default_rng(0).random((30, 4, 4))
    labels = np.arange(30) % 2
    space = SearchSpace({"learning_rate": [0.01, 0.1]})
    estimator = CNNClassifier(device="auto", random_state=0)
    places = [StubPlace(device) if device else None for device in devices]
    loaded = []
    for n_epochs, place in zip((1, 3), places, strict=True):
        trial = Trial(
            estimator,
            space,
            checkpoints=Checkpoints(str(tmp_path)),
            gpus=StubGpus(place),
        )
        trial.set_params(learning_rate=0, max_epochs=n_epochs).fit(images, labels)
        assert trial.run_.record.error is None
        assert trial.estimator_.device == (place.device if place else "auto")
        loaded.append(trial.estimator_.history_)
    # Times and all: the first epoch was not trained again.
    assert loaded[1][0] == loaded[0][0]
    assert len(loaded[1]) == 3
