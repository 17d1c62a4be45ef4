"""Whole searches that go on with their studies, and those that must not."""

import pickle
import re
import shutil
import time

import numpy as np
import optuna
import pytest
import sklearn
from joblib import parallel_config
from loky import get_reusable_executor
from optuna.study import StudyDirection
from scipy.stats import loguniform
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.model_selection import (
    KFold,
    PredefinedSplit,
    RepeatedKFold,
    cross_val_score,
)
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from sklearn_iis import IISSearchCV, OnlyIf
from sklearn_iis.searches import SEARCHES
from sklearn_iis.testing import SPACE, X, y
from tests.resume_child import (
    SIZES,
    LoggedClassifier,
    assert_same,
    finish,
    fit,
    identify_all,
    make_search,
    opened,
    read_finished,
    read_log,
    read_studies,
    started,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*which are not searched:UserWarning"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning"),
    pytest.mark.usefixtures("few_garbage", "log"),
]


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


REFUSED = {
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


def test_splits_of_the_same_training_samples(journal, fits):
    """They are scored on others, and told apart by their index."""
    rows = np.arange(20)
    cv = [(rows[:10], rows[10:15]), (rows[:10], rows[15:])]
    expected = fit(make_search(cv=cv)).cv_results_
    first = fit(make_search(cv=cv, storage=journal)).cv_results_
    assert_same(first, expected)
    fits()
    again = fit(make_search(cv=cv, storage=journal)).cv_results_
    assert_same(again, first, times=True)
    assert fits() == []
    for cv in (PredefinedSplit(y), RepeatedKFold(n_splits=2, n_repeats=2)):
        fit(make_search(cv=cv, storage=journal, study_name=type(cv).__name__))


@pytest.mark.parametrize("change", ["X", "y"])
def test_other_data_have_studies_of_their_own(change, journal, fits):
    """They are found again; those of the first data stay as they were."""
    other = (X + 1, y) if change == "X" else (X, 1 - y)
    expected = fit(make_search(storage=journal)).cv_results_
    own = make_search(storage=journal).fit(*other).cv_results_
    fits()
    names = list(read_studies(journal))
    assert names[:2] == ["iis: stage 0", "iis: stage 1"]
    assert re.fullmatch(r"iis: stage 0 #[0-9a-f]{8}", names[2])
    assert names[3:] == [names[2].replace("stage 0", "stage 1")]
    again = make_search(storage=journal).fit(*other).cv_results_
    assert_same(again, own, times=True)
    assert_same(fit(make_search(storage=journal)).cv_results_, expected, times=True)
    assert fits() == []
    assert list(read_studies(journal)) == names


def test_other_data_with_another_setting_are_refused(journal):
    fit(make_search(storage=journal))
    with pytest.raises(ValueError, match="was begun by another call") as caught:
        make_search(storage=journal, keep=0.5).fit(X + 1, y)
    for words in ["X was (20, 2) ", "keep was 0.25 and is 0.5", "Other X and y alone"]:
        assert words in str(caught.value)


def test_nested_cross_validation(journal, fits):
    """Each outer split has studies of its own, and the whole can be resumed."""
    search = IISSearchCV(
        LoggedClassifier(),
        {"rate": loguniform(1e-3, 1)},
        n_iter=2,
        cv=2,
        storage=journal,
        random_state=0,
    )
    scores = cross_val_score(search, X, y, cv=3, error_score="raise")
    assert np.isfinite(scores).all()
    assert len(read_studies(journal)) == 3
    n_fits = len(fits())
    np.testing.assert_array_equal(cross_val_score(search, X, y, cv=3), scores)
    assert n_fits == 15
    assert len(fits()) == 3  # the best candidates, on all data of their outer splits


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


def copy_journal(journal, name):
    return shutil.copy(journal, journal.with_name(name))


RAISED = dict.fromkeys(SEARCHES, ((4, 3), (6, 4))) | {
    "hyperband": ((4, 4), (5, 4)),
    "grid": ((9, 3), (18, 4)),  # all values of lists, twice with two rates
}


def interrupt(search, n_fits, folder, monkeypatch):
    """Fit until so many more fits were noted."""
    n_fits += len(read_log(folder))
    with monkeypatch.context() as patch:
        patch.setattr(LoggedClassifier, "patience", n_fits)
        with pytest.raises(KeyboardInterrupt):
            fit(search)


@pytest.mark.parametrize("search", SEARCHES)
def test_a_raised_budget_goes_on(search, journal, fits):
    """Known evaluations are not made again, and are part of the result."""
    small, large = RAISED[search]
    first = fit(make_search(search, storage=journal, n_iter=small)).cv_results_
    known = fits()
    results = fit(make_search(search, storage=journal, n_iter=large)).cv_results_
    new = fits()
    evaluated = identify_all(results)
    assert len(set(evaluated)) == len(evaluated)
    assert set(new) == set(evaluated) - set(known)
    assert len(set(new)) == len(new)
    if search in {"grid", "hyperband"}:
        # A larger one is another plan: what is known counts where it is part of it.
        alone = fit(make_search(search, n_iter=large)).cv_results_
        assert_same(results, alone)
    else:
        if search != "fabolas":  # it decides how many there are of each size
            assert np.bincount(results["stage"]).tolist() == list(large)
        assert {e for e in identify_all(first) if "size=1" in e} <= set(evaluated)


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
    from sklearn_iis.storage import _resume

    monkeypatch.setattr(_resume, "PATIENCE", 0.1)
    with opened(journal) as reader:
        reader.create_new_study([StudyDirection.MAXIMIZE], "iis: stage 0")
    results = fit(make_search(storage=journal)).cv_results_
    assert_same(results, fit(make_search()).cv_results_)


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


@pytest.mark.parametrize("search", ["random", "tpe"])
def test_a_list_of_spaces_goes_on(search, journal, fits):
    """Also with unhashable choices; and not where what exists is another."""
    space = [
        {"rate": loguniform(1e-3, 1), "kind": ["a", "b"]},
        {"widths": [[9, 9], [5, 5], []], "degree": OnlyIf([1, 2], "widths", [[]])},
    ]
    first = fit(make_search(search, space=space, storage=journal))
    assert len(fits()) == 2 * 9
    again = fit(make_search(search, space=space, storage=journal))
    assert not fits()
    assert again.cv_results_["params"] == first.cv_results_["params"]
    space[1] = space[1] | {"degree": OnlyIf([1, 2], "widths", [[9, 9]])}
    with pytest.raises(ValueError, match="space's degree only if was"):
        fit(make_search(search, space=space, storage=journal))
