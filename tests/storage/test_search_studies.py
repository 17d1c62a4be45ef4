"""The studies that a whole search leaves in a storage."""

import os
import pickle
import time
from datetime import timedelta

import numpy as np
import pytest
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.pruners import SuccessiveHalvingPruner
from optuna.study import StudyDirection
from optuna.trial import TrialState
from scipy.stats import loguniform

from sklearn_iis import CNNClassifier, IISSearchCV
from sklearn_iis.datasets import make_shapes
from tests.resume_child import (
    SIZES,
    LoggedClassifier,
    assert_same,
    fit,
    identify_all,
    make_search,
    opened,
    read_finished,
    read_studies,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*which are not searched:UserWarning"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning"),
    pytest.mark.usefixtures("few_garbage", "log"),
]


def test_a_study_a_stage_and_a_trial_an_evaluation(storage):
    begin = time.time()
    search = fit(make_search(storage=storage, study_name="mine"))
    results = search.cv_results_
    studies = read_studies(storage)
    assert list(studies) == ["mine: stage 0", "mine: stage 1"]
    with opened(storage) as reader:
        for study in reader.get_all_studies():
            assert study.directions == [StudyDirection.MAXIMIZE]
            stage = int(study.study_name[-1])
            assert study.user_attrs["size"] == str(SIZES[stage])
    rows = iter(range(len(results["params"])))
    for stage, trials in enumerate(studies.values()):
        assert [t.number for t in trials] == list(range(len(trials)))
        assert len(trials) == 2 * np.count_nonzero(results["stage"] == stage)
        for row, *_ in zip(rows, trials[::2], strict=False):
            for split in (0, 1):
                trial = trials[2 * (row - 6 * stage) + split]
                check_trial(trial, results, row, split)
                assert begin - 1 < trial.datetime_start.timestamp()
                assert trial.datetime_complete.timestamp() < time.time() + 1
    states = {t.state for trials in studies.values() for t in trials}
    assert states == {TrialState.COMPLETE, TrialState.FAIL}


def check_trial(trial, results, row, split):
    """Compare a trial with its candidate."""
    params = dict(results["params"][row])
    del params["size"]
    for i, width in enumerate(params.pop("widths")):
        params[f"widths[{i}]"] = width
    assert trial.params == params
    attributes = trial.user_attrs
    assert attributes["split"] == split
    seconds = attributes["seconds"]
    assert 0 < seconds["fit"] < 60
    assert 0 <= seconds["score"] < 60
    assert trial.duration >= timedelta(0)
    error, score = results["error"][row], results[f"split{split}_test_score"][row]
    if error is None:
        assert trial.state == TrialState.COMPLETE
        assert trial.value == attributes["scores"] == score
        assert "error" not in attributes
    else:
        assert trial.state == TrialState.FAIL
        assert trial.value is None
        assert np.isnan(float(attributes["scores"]))
        assert np.isnan(score)
        assert attributes["error"].startswith("Traceback (most recent call last)")
        assert f"no fit with the rate {params['rate']}" in attributes["error"]


def test_distributions_are_those_of_the_values(journal):
    """The whole ranges, in all stages, so that a study can be compared with another."""
    fit(make_search(storage=journal))
    for trials in read_studies(journal).values():
        for trial in trials:
            shown = trial.distributions
            assert set(shown) == set(trial.params)
            rate = shown["rate"]
            assert isinstance(rate, FloatDistribution)
            assert rate.log
            assert (rate.low, rate.high) == pytest.approx((1e-4, 1))
            assert shown["degree"] == IntDistribution(1, 7)
            assert shown["kind"] == CategoricalDistribution(["a", "b", "c"])
            assert shown["n_layers"] == IntDistribution(1, 3)
            assert shown["widths[0]"] == IntDistribution(2, 11)


def test_several_metrics_and_train_scores(journal):
    scoring = {"mean": lambda e, X, y: X.mean(), "rate": lambda e, X, y: e.rate}
    settings = {
        "scoring": scoring,
        "refit": "rate",
        "return_train_score": True,
        "storage": journal,
        "sizes": None,
        "size_param": None,
        "n_iter": 4,
        "estimator": LoggedClassifier(),
    }
    results = fit(make_search(**settings)).cv_results_
    (trials,) = read_studies(journal).values()
    for i, trial in enumerate(trials):
        row, split = divmod(i, 2)
        for kind, scores in [
            ("test", trial.user_attrs["scores"]),
            ("train", trial.user_attrs["train_scores"]),
        ]:
            assert set(scores) == {"mean", "rate"}
            for name, score in scores.items():
                assert score == results[f"split{split}_{kind}_{name}"][row]
        # That guides the search.
        assert trial.value == trial.user_attrs["scores"]["rate"]
    assert_same(fit(make_search(**settings)).cv_results_, results, times=True)


def test_the_score_of_what_failed_may_be_a_number(journal, fits):
    settings = {"error_score": -7.0, "storage": journal}
    results = fit(make_search(**settings)).cv_results_
    assert -7.0 in results["split0_test_score"]
    fits()
    failed = [
        trial
        for trials in read_studies(journal).values()
        for trial in trials
        if trial.state == TrialState.FAIL
    ]
    assert failed
    for trial in failed:
        assert trial.value is None
        assert trial.user_attrs["scores"] == -7.0
    assert_same(fit(make_search(**settings)).cv_results_, results, times=True)
    assert fits() == []


def test_the_resource_is_an_attribute(journal):
    results = fit(make_search("hyperband", storage=journal)).cv_results_
    resources = {str(resource) for resource in results["n_resources"]}
    assert len(resources) == 2
    assert resources == {
        trial.user_attrs["max_epochs"]
        for trials in read_studies(journal).values()
        for trial in trials
    }
    assert sorted(read_finished(journal)) == sorted(identify_all(results))


def test_the_epochs_of_a_network(journal):
    """Validation accuracies are intermediate values; all else is the history."""
    images, labels = make_shapes(40, size=8, n_classes=2, random_state=0)
    search = IISSearchCV(
        CNNClassifier(
            n_filters=2,
            max_epochs=3,
            early_stopping=True,
            validation_fraction=0.3,
            random_state=0,
        ),
        {"learning_rate": loguniform(1e-3, 0.1)},
        n_iter=2,
        cv=2,
        storage=journal,
        random_state=0,
        refit=False,
    ).fit(images, labels)
    (trials,) = read_studies(journal).values()
    assert len(trials) == 4
    for trial in trials:
        history = trial.user_attrs["history"]
        assert history["epoch"] == [1, 2, 3]
        assert {"train_loss", "valid_loss", "valid_acc"} <= set(history)
        scores = trial.intermediate_values
        assert [scores[epoch] for epoch in (1, 2, 3)] == pytest.approx(
            history["valid_score"], abs=1e-6
        )
    again = pickle.loads(pickle.dumps(search)).fit(images, labels)
    assert_same(again.cv_results_, search.cv_results_, times=True)


def test_the_pruner_is_left_as_it_was(journal):
    pruner = SuccessiveHalvingPruner()
    before = dict(vars(pruner))
    images, labels = np.zeros((20, 4, 4), dtype=np.uint8), np.arange(20) % 2
    search = IISSearchCV(
        CNNClassifier(max_epochs=2, early_stopping=True, random_state=0),
        {"learning_rate": loguniform(1e-3, 1)},
        n_iter=3,
        cv=2,
        pruner=pruner,
        storage=journal,
        random_state=0,
    )
    first = search.fit(images, labels).cv_results_["mean_test_score"]
    assert vars(pruner) == before
    np.testing.assert_array_equal(
        search.fit(images, labels).cv_results_["mean_test_score"], first
    )


def test_no_trace_is_left_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fit(make_search(storage="search.journal"))
    assert sorted(os.listdir()) == ["log", "search.journal"]
