"""What a search leaves in the storage, and how another one goes on with it."""

import math
import os
import pickle
import shutil
import time
from datetime import timedelta

import numpy as np
import optuna
import pytest
import sklearn
from joblib import parallel_config
from joblib.externals.loky import get_reusable_executor
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.pruners import SuccessiveHalvingPruner
from optuna.study import StudyDirection
from optuna.trial import TrialState
from scipy.stats import expon, lognorm, loguniform, randint, uniform
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.model_selection import KFold, PredefinedSplit, RepeatedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from sklearn_iis import CNNClassifier, IISSearchCV
from sklearn_iis.datasets import make_shapes
from sklearn_iis.execution._records import Record
from sklearn_iis.searches import SEARCHES
from sklearn_iis.space import make_dimension
from sklearn_iis.storage._studies import _to_attributes, _to_record, make_distribution
from sklearn_iis.testing import SPACE, X, y
from tests.resume_child import (
    LOG,
    SIZES,
    LoggedClassifier,
    assert_same,
    finish,
    fit,
    identify,
    light_garbage,
    make_search,
    opened,
    read_finished,
    read_log,
    read_studies,
    started,
)
from tests.servers import new_postgresql_database

# A grid of few candidates holds most hyperparameters, and says so.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*which are not searched:UserWarning"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning"),
]
STORAGES = {
    "sqlite": lambda folder: f"sqlite:///{folder / 'search.db'}",
    "journal": lambda folder: folder / "search.journal",
    "postgresql": lambda folder: new_postgresql_database(),
}


@pytest.fixture(autouse=True, scope="module")
def _light_garbage():
    with light_garbage():
        yield


@pytest.fixture(params=STORAGES)
def storage(request, tmp_path):
    return STORAGES[request.param](tmp_path)


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "search.journal"


@pytest.fixture(autouse=True)
def log(tmp_path, monkeypatch):
    """What is fitted is noted in a file."""
    monkeypatch.setenv(LOG, str(tmp_path / "log"))


@pytest.fixture
def fits(tmp_path):
    """Returns what was fitted since it was called the last time."""

    def read_new():
        new = read_log(tmp_path)[read_new.n_before :]
        read_new.n_before += len(new)
        return new

    read_new.n_before = 0
    return read_new


def identify_all(results):
    """The evaluations of all candidates, as in the log."""
    return [
        identify(LoggedClassifier().get_params() | params | {"split": split})
        for params in results["params"]
        for split in (0, 1)
    ]


# What is in the studies


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


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        (uniform(2, 3), FloatDistribution(2, 5)),
        (loguniform(0.5, 8), FloatDistribution(0.5, 8, log=True)),
        (randint(3, 9), IntDistribution(3, 8)),
        ([3, 4, 5], IntDistribution(3, 5)),
        ([16, 32, 64], CategoricalDistribution([16, 32, 64])),
        ([0.1, None], CategoricalDistribution([0.1, None])),
        ([True, False], CategoricalDistribution([True, False])),
        (["a", "b"], CategoricalDistribution(["a", "b"])),
        ([(8, 16), (16,)], CategoricalDistribution(["[8, 16]", "[16]"])),
        ([(8,), None], CategoricalDistribution(["[8]", None])),
        (
            [DecisionTreeClassifier(max_depth=1), DecisionTreeClassifier()],
            CategoricalDistribution(
                ["DecisionTreeClassifier(max_depth=1)", "DecisionTreeClassifier()"]
            ),
        ),
        (
            [(1, 2), "[1, 2]"],
            CategoricalDistribution(["0: [1, 2]", "1: '[1, 2]'"]),
        ),
        ([accuracy_score], None),
    ],
    ids=[
        *("uniform", "log", "randint", "range", "ints", "none", "bools", "strings"),
        *("tuples", "tuple and none", "estimators", "repeated", "function"),
    ],
)
def test_choices_are_shown_so_that_they_can_be_read(values, shown):
    if shown is None:
        shown = CategoricalDistribution(
            ["sklearn.metrics._classification.accuracy_score"]
        )
    distribution = make_distribution(make_dimension("name", values))
    assert type(distribution) is type(shown)
    if isinstance(shown, FloatDistribution):
        bounds = (distribution.low, distribution.high)
        assert bounds == pytest.approx((shown.low, shown.high), rel=1e-3)
        assert distribution.log == shown.log
    else:
        assert distribution == shown


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
            history["valid_acc"], abs=1e-6
        )
    again = pickle.loads(pickle.dumps(search)).fit(images, labels)
    assert_same(again.cv_results_, search.cv_results_, times=True)


# The same call again


@pytest.mark.parametrize("search", SEARCHES)
def test_the_same_call_trains_nothing(search, journal, fits):
    """And has the same results, the times of the fits among them."""
    first = fit(make_search(search, storage=journal))
    expected = first.cv_results_
    assert sorted(fits()) == sorted(identify_all(expected))
    before = journal.read_bytes()
    again = fit(make_search(search, storage=journal))
    assert_same(again.cv_results_, expected, times=True)
    assert again.best_index_ == first.best_index_
    assert fits() == []
    assert journal.read_bytes() == before


def test_any_storage_is_gone_on_with(storage, fits):
    expected = fit(make_search(storage=storage)).cv_results_
    fits()
    again = fit(make_search(storage=storage)).cv_results_
    assert_same(again, expected, times=True)
    assert fits() == []


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("name", ["tpe", "bayes", "genetic"])
def test_what_was_decided_as_workers_got_free_is_kept(name, n_jobs, fits, tmp_path):
    """Another call would decide on something else, also one with a single worker."""
    settings = {
        "search_params": None,
        "n_iter": (8, 8),
        "storage": str(tmp_path / "search.journal"),
    }
    with parallel_config("threading"):
        first = fit(make_search(name, n_jobs=2, **settings)).cv_results_
        assert len(fits()) == len(first["params"]) * 2
        again = fit(make_search(name, n_jobs=n_jobs, **settings)).cv_results_
    assert fits() == []
    assert len(again["params"]) == len(first["params"]) == 16


@pytest.mark.parametrize(
    ("backend", "storage"),
    [("loky", "postgresql"), ("threading", "journal"), ("threading", "sqlite")],
    indirect=["storage"],
)
def test_workers_write_and_replay(backend, storage, fits):
    # Workers of another test note their fits elsewhere.
    get_reusable_executor().shutdown(wait=True)
    expected = fit(make_search()).cv_results_
    fits()
    with parallel_config(backend):
        first = fit(make_search(storage=storage, n_jobs=2)).cv_results_
        assert_same(first, expected)
        assert sorted(fits()) == sorted(identify_all(expected))
        again = fit(make_search(storage=storage, n_jobs=2)).cv_results_
    assert_same(again, first, times=True)
    assert_same(fit(make_search(storage=storage)).cv_results_, first, times=True)
    assert fits() == []
    assert len(read_finished(storage)) == len(identify_all(expected))


def test_a_search_can_be_sent_before_and_after_it_was_fitted(journal, fits):
    search = pickle.loads(pickle.dumps(make_search(storage=journal)))
    expected = fit(search).cv_results_
    fits()
    again = fit(pickle.loads(pickle.dumps(search)))
    assert_same(again.cv_results_, expected, times=True)
    assert fits() == []


def test_refitting_is_no_part_of_it(journal, fits):
    search = fit(make_search(storage=journal, refit=True))
    fits()
    again = fit(make_search(storage=journal, refit=True))
    (refitted,) = fits()
    assert "split=None" in refitted
    assert again.best_params_ == search.best_params_
    # Whether it is refitted is another matter.
    fit(make_search(storage=journal, refit=False))
    assert fits() == []


@pytest.mark.parametrize("random_state", ["none", "instance"])
def test_what_is_random_is_that_of_the_first_call(random_state, journal, fits):
    def make():
        rng = None if random_state == "none" else np.random.RandomState(len(states))
        states.append(rng)
        return make_search(storage=journal, random_state=rng)

    states = []
    expected = fit(make()).cv_results_
    fits()
    assert_same(fit(make()).cv_results_, expected, times=True)
    assert fits() == []


def test_what_has_no_influence_may_differ(journal, fits):
    pipeline = Pipeline([("scale", StandardScaler()), ("net", LoggedClassifier())])
    settings = {
        "storage": journal,
        "estimator": pipeline,
        "space": {"net__rate": loguniform(1e-4, 1)},
        "size_param": "net__size",
    }
    expected = fit(make_search(**settings)).cv_results_
    fits()
    pipeline = Pipeline([*pipeline.steps], verbose=False, memory=None)
    for others in [
        {"n_jobs": 2, "pre_dispatch": "all"},
        {"verbose": 0, "select": "last"},
        {"estimator": pipeline.set_params(memory=None), "timeout": 1000},
        {"trial_timeout": 1000},
        {"search_params": None, "n_iter": [6, 3], "sizes": np.array([1, 2])},
        {"space": {"net__rate": loguniform(1e-4, 1)}, "cv": KFold(2)},
    ]:
        results = fit(make_search(**settings | others)).cv_results_
        assert_same(results, expected, times=True)
    assert fits() == []


# Another call


def other_data(search):
    search.fit(X + 1, y)


def other_labels(search):
    search.fit(X, 1 - y)


REFUSED = {
    "data": ({}, other_data, ["X was (20, 2) ", "and is (20, 2) "]),
    "labels": ({}, other_labels, ["y was (20,) ", "and is (20,) "]),
    "splits": (
        {"cv": KFold(2, shuffle=True, random_state=0)},
        fit,
        ["the splits was 2 items ", "and is 2 items "],
    ),
    "number of splits": (
        {"cv": KFold(4)},
        fit,
        ["the splits was 2 items ", "and is 4 items "],
    ),
    "space": (
        {"space": SPACE | {"rate": loguniform(1e-3, 1)}},
        fit,
        ["space's rate was", "loguniform(0.0001, 1)", "loguniform(0.001, 1)"],
    ),
    "a choice more": (
        {"space": SPACE | {"kind": ["a", "b", "c", "d"]}},
        fit,
        ["space's kind was", "['a', 'b', 'c']", "['a', 'b', 'c', 'd']"],
    ),
    "hyperparameter": (
        {"space": {n: SPACE[n] for n in SPACE if n != "kind"}},
        fit,
        ["space's kind was", "is nothing", "estimator's kind was nothing and is 'b'"],
    ),
    "parameter": (
        {"estimator": LoggedClassifier(fails_below=1e-3, max_epochs=9)},
        fit,
        ["estimator's max_epochs was 27 and is 9"],
    ),
    "sizes": ({"sizes": (1, 3)}, fit, ["sizes were 1, 2 and are 1, 3"]),
    "one size fewer": (
        {"sizes": (1,), "n_iter": 6},
        fit,
        ["sizes were 1, 2 and are 1;"],
    ),
    "a smaller size": (
        {"sizes": (0.5, 1, 2), "n_iter": (6, 3, 3)},
        fit,
        ["sizes were 1, 2 and are 0.5, 1, 2; larger ones may be added"],
    ),
    "budget": (
        {"n_iter": (5, 4)},
        fit,
        ["n_iter was [6, 3] and is [5, 4]"],
    ),
    "late budget": ({"n_iter": (6, 2)}, fit, ["n_iter was [6, 3] and is [6, 2]"]),
    "search": ({"search": "tpe"}, fit, ["search was 'random' and is 'tpe'"]),
    "setting": ({"keep": 0.5}, fit, ["keep was 0.25 and is 0.5"]),
    "scoring": (
        {"scoring": make_scorer(accuracy_score)},
        fit,
        ["scoring was None and is _Scorer "],
    ),
    "error score": ({"error_score": -1.0}, fit, ["error_score was nan and is -1.0"]),
    "random state": ({"random_state": 1}, fit, ["random_state was 0 and is 1"]),
    "no random state": (
        {"random_state": None},
        fit,
        ["random_state was 0 and is nothing"],
    ),
    "several": (
        {"keep": 0.5, "random_state": 1, "n_iter": (5, 4)},
        fit,
        ["keep was", "random_state was", "n_iter was"],
    ),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A journal with a search in it."""
    path = tmp_path_factory.mktemp("finished") / "search.journal"
    fit(make_search(storage=path))
    return path


@pytest.mark.parametrize("name", REFUSED)
def test_another_call_is_refused(name, finished, fits):
    """It says what differs, and the storage stays as it was."""
    before = finished.read_bytes()
    settings, fit_it, words = REFUSED[name]
    with pytest.raises(ValueError, match="was begun by another call") as caught:
        fit_it(make_search(**{"storage": finished} | settings))
    for word in words:
        assert word in str(caught.value)
    assert "'iis'" in str(caught.value)
    assert str(finished) in str(caught.value)
    assert "choose another study_name" in str(caught.value)
    assert fits() == []
    assert finished.read_bytes() == before


def test_a_parameter_of_a_step_is_named(journal):
    pipeline = Pipeline([("scale", StandardScaler()), ("model", LogisticRegression())])
    settings = {
        "storage": journal,
        "estimator": pipeline,
        "space": {"model__C": loguniform(1e-3, 1)},
        "sizes": None,
        "size_param": None,
        "n_iter": 2,
    }
    fit(make_search(**settings))
    pipeline.set_params(model__C=7)
    fit(make_search(**settings))
    pipeline.set_params(model__max_iter=200)
    with pytest.raises(ValueError, match=r"model__max_iter was 100 and is 200"):
        fit(make_search(**settings))


def test_choices_of_estimators_are_compared_by_their_parameters(journal):
    settings = {
        "storage": journal,
        "estimator": Pipeline([("model", DecisionTreeClassifier(random_state=0))]),
        "sizes": None,
        "size_param": None,
        "n_iter": 2,
    }
    trees = [DecisionTreeClassifier(max_depth=d, random_state=0) for d in (1, 2)]
    fit(make_search(space={"model": trees}, **settings))
    trees = [DecisionTreeClassifier(max_depth=d, random_state=0) for d in (1, 3)]
    with pytest.raises(ValueError, match=r"space's model was .* and is"):
        fit(make_search(space={"model": trees}, **settings))


def test_a_study_of_somebody_else_is_refused(journal, fits):
    with opened(journal) as reader:
        study = optuna.create_study(storage=reader, study_name="iis: stage 0")
        study.add_trial(optuna.create_trial(value=1.0))
    with pytest.raises(ValueError, match=r"'iis: stage 0'.*not made by IISSearchCV"):
        fit(make_search(storage=journal))
    fit(make_search(storage=journal, study_name="other"))
    trials = read_studies(journal)
    assert len(trials["iis: stage 0"]) == 1
    assert len(trials["other: stage 0"]) == 12


def test_splits_that_cannot_be_told_apart_are_refused(journal):
    """The same training samples, scored on others."""
    rows = np.arange(20)
    cv = [(rows[:10], rows[10:15]), (rows[:10], rows[15:])]
    with pytest.raises(ValueError, match="no two splits of cv may have the same"):
        fit(make_search(cv=cv, storage=journal))
    assert not journal.exists()
    fit(make_search(cv=cv))
    for cv in (PredefinedSplit(y), RepeatedKFold(n_splits=2, n_repeats=2)):
        fit(make_search(cv=cv, storage=journal, study_name=type(cv).__name__))


def test_searches_of_two_names_share_a_storage(journal, fits):
    expected = {}
    for _ in range(2):
        for name, settings in {"a": {}, "b": {"random_state": 1}}.items():
            search = make_search(storage=journal, study_name=name, **settings)
            results = fit(search).cv_results_
            assert_same(results, expected.setdefault(name, results), times=True)
    assert len(fits()) == 36
    assert list(read_studies(journal)) == [
        *("a: stage 0", "a: stage 1", "b: stage 0", "b: stage 1")
    ]


# More of the same


def copy_journal(journal, name):
    return shutil.copy(journal, journal.with_name(name))


RAISED = dict.fromkeys(SEARCHES, ((4, 3), (6, 4))) | {"hyperband": ((4, 4), (5, 4))}


def interrupt(search, n_fits, folder, monkeypatch):
    """Fit until so many more fits were noted."""
    n_fits += len(read_log(folder))
    with monkeypatch.context() as patch:
        patch.setattr(LoggedClassifier, "patience", n_fits)
        with pytest.raises(KeyboardInterrupt):
            fit(search)


@pytest.mark.parametrize("search", SEARCHES)
def test_a_raised_budget_goes_on(search, journal, fits):
    """What was measured is not measured again, and is part of the result."""
    small, large = RAISED[search]
    first = fit(make_search(search, storage=journal, n_iter=small)).cv_results_
    known = fits()
    results = fit(make_search(search, storage=journal, n_iter=large)).cv_results_
    new = fits()
    measured = identify_all(results)
    assert len(set(measured)) == len(measured)
    assert set(new) == set(measured) - set(known)
    assert len(set(new)) == len(new)
    if search in {"grid", "hyperband"}:
        # A larger one is another plan: what was measured counts where it is part of it.
        alone = fit(make_search(search, n_iter=large)).cv_results_
        assert_same(results, alone)
    else:
        assert np.bincount(results["stage"]).tolist() == list(large)
        assert {e for e in identify_all(first) if "size=1" in e} <= set(measured)


@pytest.mark.parametrize("search", ["random", "tpe", "hyperband"])
def test_a_raised_budget_may_be_interrupted(
    search, journal, tmp_path, fits, monkeypatch
):
    small, large = RAISED[search]
    fit(make_search(search, storage=journal, n_iter=small))
    other = copy_journal(journal, "other.journal")
    fits()
    results = fit(make_search(search, storage=journal, n_iter=large)).cv_results_
    new = fits()
    for n_fits in (1, len(new) // 2):
        again = make_search(search, storage=other, n_iter=large)
        interrupt(again, n_fits, tmp_path, monkeypatch)
    again = fit(make_search(search, storage=other, n_iter=large)).cv_results_
    assert_same(again, results)
    assert sorted(fits()) == sorted(new)


@pytest.mark.parametrize("search", ["random", "grid", "tpe", "hyperband"])
def test_a_larger_size_may_be_added(search, journal, tmp_path, fits, monkeypatch):
    """The stages before are replayed, and the new one goes on from them."""
    n_iter = RAISED[search][0]
    larger = {"sizes": (*SIZES, 4), "n_iter": (*n_iter, 4)}
    settings = {"search": search, "storage": journal}
    first = fit(make_search(n_iter=n_iter, **settings)).cv_results_
    fits()
    interrupt(make_search(**settings | larger), 3, tmp_path, monkeypatch)
    results = fit(make_search(**settings | larger)).cv_results_
    new = fits()
    assert len(set(new)) == len(new)
    assert all("size=4" in evaluation for evaluation in new)
    old = results["stage"] < 2
    assert list(results["mean_fit_time"][old]) == list(first["mean_fit_time"])
    expected = fit(make_search(search, **larger)).cv_results_
    assert_same(results, expected)
    assert sorted(fits()) == sorted(identify_all(expected))


def test_a_budget_can_be_raised_again_and_again(journal, fits):
    n_fits = 0
    for n_iter in [(3, 2), (5, 2), (5, 4), (8, 4)]:
        results = fit(make_search(storage=journal, n_iter=n_iter)).cv_results_
        assert np.bincount(results["stage"]).tolist() == list(n_iter)
        new = fits()
        n_fits += len(new)
        assert len(set(read_finished(journal))) == n_fits
        assert set(identify_all(results)) <= set(read_finished(journal))


# Two at once


@pytest.mark.parametrize("repeat", range(2))
def test_the_same_search_twice_at_once(repeat, storage, tmp_path):
    """Both are right, and equal."""
    expected = fit(make_search(n_iter=(4, 2))).cv_results_
    begin = time.time() + 0.3
    settings = {"storage": storage, "n_iter": (4, 2), "begin": begin}
    with (
        started(tmp_path, "one", **settings) as one,
        started(tmp_path, "two", **settings) as two,
    ):
        for process, name in [(one, "one"), (two, "two")]:
            assert_same(finish(process, tmp_path, name), expected)
    assert set(read_finished(storage)) == set(identify_all(expected))
    again = fit(make_search(storage=storage, n_iter=(4, 2))).cv_results_
    assert_same(again, expected)


@pytest.mark.parametrize("repeat", range(2))
def test_two_different_searches_at_once(repeat, storage, tmp_path):
    """One of them is refused, the other one is right."""
    begin = time.time() + 0.3
    settings = [
        {"storage": storage, "n_iter": (4, 2), "random_state": state}
        for state in (0, 1)
    ]
    with (
        started(tmp_path, "one", begin=begin, **settings[0]) as one,
        started(tmp_path, "two", begin=begin, **settings[1]) as two,
    ):
        outcomes = [finish(one, tmp_path, "one"), finish(two, tmp_path, "two")]
    (refused,) = [i for i in (0, 1) if isinstance(outcomes[i], Exception)]
    assert isinstance(outcomes[refused], ValueError)
    assert f"random_state was {1 - refused} and is {refused}" in str(outcomes[refused])
    expected = fit(make_search(random_state=1 - refused, n_iter=(4, 2))).cv_results_
    assert_same(outcomes[1 - refused], expected)
    assert set(read_finished(storage)) == set(identify_all(expected))


def test_a_run_killed_before_anything_was_noted_is_begun_anew(journal, monkeypatch):
    """A study that has nothing in it is as good as none."""
    from sklearn_iis.storage import _studies

    monkeypatch.setattr(_studies, "PATIENCE", 0.1)
    with opened(journal) as reader:
        reader.create_new_study([StudyDirection.MAXIMIZE], "iis: stage 0")
    results = fit(make_search(storage=journal)).cv_results_
    assert_same(results, fit(make_search()).cv_results_)


def test_no_trace_is_left_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fit(make_search(storage="search.journal"))
    assert sorted(os.listdir()) == ["log", "search.journal"]


# What a review has found


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (expon(scale=0.01), FloatDistribution),
        (lognorm(s=2), FloatDistribution),
        (randint(0, 2**31 - 1), IntDistribution),
        ([False, True], CategoricalDistribution),
    ],
)
def test_any_hyperparameter_has_a_distribution(values, kind):
    """Also what begins at 0 on a log scale, or has too many values to be listed."""
    dimension = make_dimension("x", values)
    distribution = make_distribution(dimension)
    assert type(distribution) is kind
    middle = dimension.decode(dimension.middle)
    assert distribution._contains(distribution.to_internal_repr(middle))


def test_scores_that_are_not_finite_come_back():
    record = Record(scores={"a": math.inf, "b": -math.inf, "c": math.nan, "d": 0.5})
    trial = optuna.create_trial(value=0.0, user_attrs=_to_attributes(record))
    np.testing.assert_equal(_to_record(trial).scores, record.scores)


def test_what_was_pruned_is_known_before_its_state_is():
    """A worker may be killed between them."""
    attributes = _to_attributes(Record(scores=0.5, pruned=True))
    trial = optuna.create_trial(state=TrialState.RUNNING, user_attrs=attributes)
    assert _to_record(trial).pruned


def test_the_pruner_is_left_as_it_was(journal):
    pruner = SuccessiveHalvingPruner()
    before = dict(vars(pruner))
    images, labels = np.zeros((20, 4, 4), dtype=np.uint8), np.arange(20) % 2
    search = IISSearchCV(
        CNNClassifier(max_epochs=2, random_state=0),
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


def test_metadata_requests_are_compared(journal):
    with sklearn.config_context(enable_metadata_routing=True):
        estimator = LogisticRegression()
        search = IISSearchCV(
            estimator, {"C": [0.1, 1.0]}, n_iter=2, cv=2, storage=journal
        )
        weights = {"sample_weight": np.ones(len(y))}
        scoring = make_scorer(accuracy_score).set_score_request(sample_weight=True)
        search.set_params(scoring=scoring)
        estimator.set_fit_request(sample_weight=True)
        search.fit(X, y, **weights)
        estimator.set_fit_request(sample_weight=False)
        with pytest.raises(ValueError, match="the metadata routing was"):
            search.fit(X, y, **weights)
