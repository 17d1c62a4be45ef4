"""Searches that average what they have trained: which estimators, and at what cost."""

import pickle
import re
import tempfile
import time

import numpy as np
import pytest
from joblib import parallel_config
from PIL import Image
from scipy.stats import loguniform
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.cluster import KMeans
from sklearn.datasets import load_diabetes, load_iris
from sklearn.ensemble import VotingClassifier
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, get_scorer
from sklearn.model_selection import (
    KFold,
    PredefinedSplit,
    StratifiedKFold,
    StratifiedShuffleSplit,
)
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import LinearSVC

from sklearn_iis import CNNClassifier, IISSearchCV, ImageResizer
from sklearn_iis.datasets import make_shapes
from sklearn_iis.searches import SEARCHES
from sklearn_iis.testing import SPACE, FormulaClassifier, X, y
from tests.test_search import DeepListener, randomized

pytestmark = pytest.mark.filterwarnings("ignore:.*which are not searched:UserWarning")

CV = StratifiedKFold(3, shuffle=True, random_state=0)
IRIS, SPECIES = load_iris(return_X_y=True)
NAMES = np.array(["a", "b", "c"])[SPECIES]
C = {"C": loguniform(1e-3, 1e3)}
neg_log_loss = get_scorer("neg_log_loss")


class Graded(FormulaClassifier):
    """Its probabilities tell of its parameters and its training samples."""

    n_fits = 0

    def fit(self, X, y):
        Graded.n_fits += 1
        self.mean_ = X.mean()
        return super().fit(X, y)

    def predict_proba(self, X):
        p = 1 / (1 + self.rate * self.mean_ * self.max_epochs * self.size)
        return np.tile([p, 1 - p], (len(X), 1))


@pytest.fixture(autouse=True)
def no_fits():
    Graded.n_fits = 0


def make_search(estimator=None, space=SPACE, **params):
    params = {"n_iter": 12, "cv": 2, "random_state": 0, "n_averaged": 3} | params
    return IISSearchCV(Graded() if estimator is None else estimator, space, **params)


def make_iris(**params):
    estimator = LogisticRegression(max_iter=5000)
    return make_search(estimator, C, **{"cv": CV, "n_iter": 6} | params)


def fit_by_hand(search, rows, X, y, cv, **fit_params):
    """The estimators of rows, fitted on the splits of cv."""
    return [
        clone(search.estimator)
        .set_params(**search.cv_results_["params"][row])
        .fit(X[train], y[train], **{k: v[train] for k, v in fit_params.items()})
        for row in rows
        for train, _ in cv.split(X, y)
    ]


def mean_proba(estimators, X):
    return np.mean([estimator.predict_proba(X) for estimator in estimators], axis=0)


def rank(search, among=slice(None)):
    """The rows of a search, the best one first."""
    rows = np.arange(len(search.cv_results_["params"]))[among]
    ranks = search.cv_results_["rank_test_score"][rows]
    return rows[np.argsort(ranks, kind="stable")].tolist()


def chosen_rows(search):
    names = search.best_estimator_.named_estimators_
    return [int(n.removeprefix("candidate").split("_")[0]) for n in names]


# Which estimators


@pytest.mark.parametrize("name", [*sorted(set(SEARCHES) - {"hyperband"}), randomized])
@pytest.mark.parametrize("select", ["best", "last"])
def test_the_average_is_that_of_the_best_candidates(name, select):
    """Of all stages or the last one; nothing is fitted for it."""
    search = make_search(
        search=name, n_iter=(9, 4), sizes=(1, 2), size_param="size", select=select
    ).fit(X, y)
    last = search.cv_results_["stage"] == 1
    rows = rank(search, last if select == "last" else slice(None))[:3]
    assert chosen_rows(search) == np.repeat(rows, 2).tolist()
    assert rows[0] == search.best_index_
    n_fits = Graded.n_fits
    assert n_fits == 2 * len(search.cv_results_["params"])
    expected = fit_by_hand(search, rows, X, y, StratifiedKFold(2))
    np.testing.assert_allclose(search.predict_proba(X), mean_proba(expected, X))


def test_one_candidate_on_one_split_is_the_winner():
    cv = StratifiedShuffleSplit(1, random_state=0)
    search = make_iris(n_averaged=1, cv=cv).fit(IRIS, NAMES)
    (expected,) = fit_by_hand(search, [search.best_index_], IRIS, NAMES, cv)
    np.testing.assert_array_equal(
        search.predict_proba(IRIS), expected.predict_proba(IRIS)
    )
    (train, _), *_ = cv.split(IRIS, NAMES)
    test = np.setdiff1d(np.arange(150), train)
    assert set(search.predict(IRIS[test])) <= {"a", "b", "c"}
    assert search.best_params_ == search.cv_results_["params"][search.best_index_]


def test_the_estimators_are_those_that_were_scored():
    """Not some that were fitted again: they draw what they predict."""

    class Drawing(ClassifierMixin, BaseEstimator):
        def __init__(self, a=0):
            self.a = a

        def fit(self, X, y):
            self.classes_ = np.unique(y)
            self.drawn_ = rng.random()
            return self

        def predict_proba(self, X):
            return np.tile([self.drawn_, 1 - self.drawn_], (len(X), 1))

        def score(self, X, y):
            return self.drawn_

    rng = np.random.default_rng(0)
    search = make_search(Drawing(), {"a": [1, 2, 3, 4]}, n_iter=4, n_averaged=2)
    results = search.fit(X, y).cv_results_
    drawn = [m.drawn_ for m in search.best_estimator_.estimators_]
    rows = rank(search)[:2]
    assert drawn == [results[f"split{s}_test_score"][i] for i in rows for s in (0, 1)]


@pytest.mark.parametrize("n_averaged", [1, 3])
def test_hyperband_averages_what_has_the_most_resources(n_averaged):
    """And what is best, whatever it has; no candidate twice."""

    class Overfitting(Graded):
        def score(self, X, y):
            return super().score(X, y) - 0.01 * self.max_epochs

    for estimator in (Graded(), Overfitting()):
        Graded.n_fits = 0
        search = make_search(estimator, search="hyperband", n_averaged=n_averaged)
        results = search.fit(X, y).cv_results_
        assert Graded.n_fits == 2 * len(results["params"])
        first, *others = chosen_rows(search)[::2]
        assert first == search.best_index_
        assert (results["n_resources"][others] == 27).all()
        full = rank(search, results["n_resources"] == 27)
        codes = search.stages_[0].candidates_
        full = [i for i in full if codes[i] != codes[first]]
        assert others == full[: n_averaged - 1]
    assert results["n_resources"][first] < 27


def test_failed_candidates_are_not_averaged():
    """Though one has the best score; what is left may be fewer."""
    search = make_search(
        Graded(fails_below=0.3), error_score=100, n_iter=6, n_averaged=9
    )
    with pytest.warns(FitFailedWarning):
        search.fit(X, y)
    finished = np.flatnonzero(search.cv_results_["error"] == None)  # noqa: E711
    assert 0 < len(finished) < 6
    assert sorted({*chosen_rows(search)}) == finished.tolist()


def test_of_several_metrics_the_one_to_refit_by_ranks():
    def scorer(estimator, X, y):
        return {"a": estimator.score(X, y), "b": -estimator.rate}

    search = make_search(scoring=scorer, refit="b", n_averaged=2).fit(X, y)
    ranks = search.cv_results_["rank_test_b"]
    assert ranks[chosen_rows(search)[::2]].tolist() == [1, 2]


def test_a_callable_chooses_any_candidate():
    """The worst one, too."""
    search = make_search(refit=lambda results: 0, n_averaged=1).fit(X, y)
    assert chosen_rows(search) == [0, 0]
    assert Graded.n_fits == 24
    assert rank(search)[0] != 0


def test_predictions_of_regressors_are_averaged():
    X, y = load_diabetes(return_X_y=True)
    cv = KFold(3)
    space = {"alpha": loguniform(1e-3, 10)}
    search = make_search(Ridge(), space, n_averaged=2, cv=cv).fit(X, y)
    members = fit_by_hand(search, rank(search)[:2], X, y, cv)
    expected = np.mean([member.predict(X) for member in members], axis=0)
    np.testing.assert_allclose(search.predict(X), expected)
    assert search.score(X, y) > 0.4


# Images


def flatten(X):
    return X.reshape(len(X), -1) / 255.0


def make_images(**params):
    pipe = Pipeline(
        [
            ("resize", ImageResizer()),
            ("flatten", FunctionTransformer(flatten)),
            ("model", LogisticRegression(max_iter=5000)),
        ]
    )
    space = {"model__C": loguniform(1e-3, 1)}
    params = {"sizes": (4, 8), "n_iter": (3, 3), "n_averaged": 6} | params
    return make_search(pipe, space, **params)


@pytest.mark.parametrize("kind", ["array", "paths"])
def test_each_estimator_resizes_images_to_its_own_size(kind, tmp_path):
    images, labels = make_shapes(
        24, size=16, n_classes=2, random_state=0, return_X_y=True
    )
    data = images
    if kind == "paths":
        data = np.array([str(tmp_path / f"{i}.png") for i in range(24)])
        for path, image in zip(data, images, strict=True):
            Image.fromarray(image).save(path)
    search = make_images().fit(data, labels)
    sizes = {m["resize"].size for m in search.best_estimator_.estimators_}
    assert sizes == {4, 8}
    members = fit_by_hand(search, rank(search), data, labels, StratifiedKFold(2))
    np.testing.assert_allclose(search.predict_proba(data), mean_proba(members, data))
    # A file of its own, and no longer that of the workers.
    loaded = pickle.loads(pickle.dumps(search))
    np.testing.assert_array_equal(loaded.predict(data), search.predict(data))


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_networks_come_from_workers(backend):
    """In threads, where torch's generators are shared, they are not those by hand."""
    images, labels = make_shapes(
        40, size=8, n_classes=2, random_state=0, return_X_y=True
    )
    pipe = Pipeline(
        [
            ("resize", ImageResizer()),
            ("cnn", CNNClassifier(n_filters=2, max_epochs=1, random_state=0)),
        ]
    )
    search = IISSearchCV(
        pipe,
        {"cnn__learning_rate": loguniform(1e-3, 1)},
        sizes=(4, 8),
        n_iter=(3, 2),
        n_averaged=2,
        n_jobs=2,
        cv=2,
        scoring=neg_log_loss,
        random_state=0,
    )
    with parallel_config(backend):
        search.fit(images, labels)
    splits = list(StratifiedKFold(2).split(images, labels))
    for name, member in search.best_estimator_.named_estimators_.items():
        row, split = (int(n) for n in re.findall(r"\d+", name))
        test = splits[split][1]
        score = search.cv_results_[f"split{split}_test_score"][row]
        scored = neg_log_loss(member, images[test], labels[test])
        assert scored == pytest.approx(score, abs=1e-5)
    assert {m["cnn"].device for m in search.best_estimator_.estimators_} == {"auto"}


# What is on disk


@pytest.mark.parametrize("select", ["best", "last"])
def test_no_more_is_kept_than_may_be_chosen(select, tmp_path, monkeypatch):
    """That is the best candidates, and the one under way; in the end, nothing."""

    def scorer(estimator, X, y):
        counts.append(len([*tmp_path.rglob("*.pickle")]))
        return estimator.score(X, y)

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    counts = []
    staged = {"sizes": (1, 2, 4), "size_param": "size", "select": select}
    search = make_search(scoring=scorer, n_iter=(9, 6, 3), n_averaged=2, **staged)
    search.fit(X, y)
    # Of two candidates on two splits, and the first split of another one.
    assert max(counts) == 5
    assert not [*tmp_path.iterdir()]
    assert Graded.n_fits == 36
    counts.clear()
    search.set_params(n_averaged=None).fit(X, y)
    assert max(counts) == 0


# What is missing


class Unpicklable(Graded):
    def __getstate__(self):
        if hasattr(self, "classes_"):
            raise RuntimeError("no")
        return super().__getstate__()


def test_what_cannot_be_pickled_is_fitted_again():
    search = make_search(Unpicklable(), n_averaged=2).fit(X, y)
    assert Graded.n_fits == 24 + 4
    expected = fit_by_hand(search, rank(search)[:2], X, y, StratifiedKFold(2))
    np.testing.assert_allclose(search.predict_proba(X), mean_proba(expected, X))


def test_a_resumed_search_fits_what_is_missing(tmp_path):
    """With the sample weights of the split."""
    weights = np.linspace(0.1, 3, 150)
    first, second = (
        make_iris(storage=str(tmp_path / "a.journal"), n_averaged=2) for _ in range(2)
    )
    first.fit(IRIS, NAMES, sample_weight=weights)
    second.fit(IRIS, NAMES, sample_weight=weights)
    np.testing.assert_array_equal(first.predict_proba(IRIS), second.predict_proba(IRIS))
    members = fit_by_hand(
        first, rank(first)[:2], IRIS, NAMES, CV, sample_weight=weights
    )
    np.testing.assert_allclose(first.predict_proba(IRIS), mean_proba(members, IRIS))


@pytest.mark.parametrize("estimator", [Graded(), Unpicklable()], ids=["kept", "not"])
def test_callbacks_hear_of_it(estimator):
    listener = DeepListener()
    with pytest.warns(UserWarning, match="does not support callbacks"):
        make_search(estimator).set_callbacks(listener).fit(X, y)
    assert sorted(listener.begun) == sorted(listener.ended)
    tasks = [task for _, task in listener.ended]
    assert tasks[-2:] == ["average-best-candidates", "fit"]
    assert "refit-with-best-params" not in tasks
    n_fits = sum(task.startswith("candidate") and "_split" in task for task in tasks)
    assert n_fits == (6 if isinstance(estimator, Unpicklable) else 0)


def test_no_time_is_set_aside_for_a_last_fit():
    """It would take ten times as long as those of the search, longer than there is."""

    class Slow(Graded):
        def fit(self, X, y):
            time.sleep(0.2)
            return super().fit(X, y)

    cv = StratifiedShuffleSplit(1, train_size=0.1, random_state=0)
    search = make_search(Slow(), n_iter=None, timeout=1.8, cv=cv, n_averaged=1)
    search.fit(X, y)
    assert len(search.cv_results_["params"]) > 3


# As any estimator


def test_what_a_fitted_search_tells():
    search = make_iris(n_averaged=2).fit(IRIS, NAMES)
    assert isinstance(search.best_estimator_, VotingClassifier)
    assert search.classes_.tolist() == ["a", "b", "c"]
    assert search.n_features_in_ == 4
    assert search.score(IRIS, NAMES) == accuracy_score(NAMES, search.predict(IRIS))
    assert search.refit_time_ < 5
    assert search.best_score_ == search.cv_results_["mean_test_score"].max()
    member = search.best_estimator_.named_estimators_[
        f"candidate{search.best_index_}_split2"
    ]
    assert search.best_params_.items() <= member.estimator.get_params().items()
    loaded = pickle.loads(pickle.dumps(search))
    np.testing.assert_array_equal(
        loaded.predict_proba(IRIS), search.predict_proba(IRIS)
    )
    assert clone(search).n_averaged == 2


def test_feature_names_are_known():
    X, y = load_iris(return_X_y=True, as_frame=True)
    search = make_iris(n_averaged=1).fit(X, y)
    assert search.feature_names_in_.tolist() == X.columns.tolist()
    search.predict(X)


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"n_averaged": 0}, ValueError, "The 'n_averaged' parameter"),
        ({"refit": False}, ValueError, "n_averaged=3 makes best_estimator_, and refit"),
        ({"refit": lambda results: 0}, ValueError, "a callable refit chooses only"),
        ({"estimator": LinearSVC()}, TypeError, "LinearSVC has no predict_proba"),
        (
            {"estimator": KMeans(), "space": {"n_clusters": [2, 3]}},
            TypeError,
            "KMeans is neither",
        ),
        (
            {"cv": PredefinedSplit(SPECIES)},
            ValueError,
            r"split 0 has none of \['a'\]: use a cv that is stratified",
        ),
    ],
)
def test_what_cannot_be_averaged_is_told_before_the_search(params, error, message):
    search = make_iris().set_params(**params)
    with pytest.raises(error, match=message):
        search.fit(IRIS, NAMES)
    assert not hasattr(search, "cv_results_")


def test_several_targets_are_refused():
    search = make_search(Ridge(), {"alpha": [1, 2, 3]})
    with pytest.raises(ValueError, match=r"n_averaged needs one target.*\(150, 2\)"):
        search.fit(IRIS, IRIS[:, :2])


def test_a_callable_that_chooses_a_failure_gets_an_error():
    search = make_search(
        Graded(fails_below=0.3),
        refit=lambda r: int(np.flatnonzero(r["error"] != None)[0]),  # noqa: E711
        n_averaged=1,
    )
    with (
        pytest.raises(ValueError, match="failed or was pruned: there is nothing"),
        pytest.warns(FitFailedWarning),
    ):
        search.fit(X, y)
