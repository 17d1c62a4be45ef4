import pickle
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import rich
import sklearn
import torch
from joblib import parallel_config
from PIL import Image
from scipy.stats import loguniform
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.callback import ProgressBar
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, make_scorer, recall_score
from sklearn.model_selection import (
    GroupKFold,
    RandomizedSearchCV,
    ShuffleSplit,
    StratifiedKFold,
    cross_validate,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.estimator_checks import check_estimator
from skopt import BayesSearchCV

from sklearn_iis import CNNClassifier, IISSearchCV, ImageResizer, SearchSpace, _search
from sklearn_iis.datasets import load_image_folder, make_shapes
from sklearn_iis.searches import SEARCHES, StageGASearchCV, StageRandomizedSearchCV
from sklearn_iis.testing import SPACE, FormulaClassifier, X, y

# Grid search may evaluate less than the budget, Hyperband the same candidate again.
ONE_ROW_A_CANDIDATE = sorted(set(SEARCHES) - {"grid", "hyperband"})
# By default TPE proposes as many candidates at once as there are workers.
ANY_N_JOBS = {
    "tpe": {"n_points": 2},
    "bayes": {"n_points": 2},
    "cmaes": {"n_points": 2},
    "swarm": {"n_points": 2},
    "reinforce": {"n_points": 2},
    "fabolas": {"n_points": 2},
    "genetic": {"synchronous": True},
}
# Hyperband finds the epochs of our classifier by itself.
LINEAR = {
    "hyperband": {"resource": "tol", "max_resources": 1e-3, "min_resources": 1e-4}
}

# A grid of few candidates holds most hyperparameters, and says so.
pytestmark = pytest.mark.filterwarnings("ignore:.*which are not searched:UserWarning")
C = {"C": loguniform(1e-3, 10)}


def make_search(estimator=None, space=SPACE, **params):
    # A grid has a candidate for each combination of the lists.
    n_iter = 18 if params.get("search") == "grid" else 12
    params = {"n_iter": n_iter, "cv": 2, "random_state": 0} | params
    return IISSearchCV(estimator or FormulaClassifier(), space, **params)


def make_staged(**params):
    return make_search(**({"sizes": (1, 2, 4), "size_param": "size"} | params))


@pytest.mark.parametrize(
    ("estimator", "space"),
    [
        pytest.param(LogisticRegression(), C, id="classifier"),
        pytest.param(Ridge(), {"alpha": loguniform(1e-3, 10)}, id="regressor"),
    ],
)
@pytest.mark.parametrize(
    "params",
    [
        *({"search": name, "search_params": LINEAR.get(name)} for name in SEARCHES),
        {"sizes": (50, 100), "size_param": "max_iter"},
    ],
    ids=str,
)
# The checks provoke failures, and one of them casts infinity to int itself.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")
def test_scikit_learns_common_tests(estimator, space, params):
    search = IISSearchCV(estimator, space, n_iter=4, cv=2, random_state=0, **params)
    check_estimator(search, on_skip=None)


# Stages


def test_stages_are_the_searches_themselves():
    kinds = {
        "random": RandomizedSearchCV,
        "bayes": BayesSearchCV,
        "genetic": StageGASearchCV,
    }
    for name, kind in kinds.items():
        search = make_staged(search=name).fit(X, y)
        assert len(search.stages_) == 3
        for stage in search.stages_:
            assert isinstance(stage, kind)
            assert stage.cv_results_ is not None


@pytest.mark.parametrize(
    ("n_iter", "n_stages", "expected"),
    [
        (60, 3, [30, 20, 10]),
        (10, 3, [6, 3, 1]),
        (9, 2, [6, 3]),
        (7, 1, [7]),
        ((5, 3, 1), 3, [5, 3, 1]),
    ],
)
def test_budgets(n_iter, n_stages, expected):
    sizes = range(1, n_stages + 1)
    results = make_staged(sizes=sizes, n_iter=n_iter).fit(X, y).cv_results_
    assert np.bincount(results["stage"]).tolist() == expected


def test_the_good_region_and_the_best_candidates_are_promoted():
    search = make_staged(n_iter=(20, 8, 4), keep=0.2, margin=0.05, n_promoted=2)
    search.fit(X, y)
    assert search.sizes_ == [1, 2, 4]
    assert repr(search.spaces_[0]) == repr(SearchSpace(SPACE))
    for stage in (0, 1):
        fitted = search.stages_[stage]
        order = np.argsort(-fitted.cv_results_["mean_test_score"], kind="stable")
        best = [fitted.candidates_[i] for i in order]
        n_kept = {0: 4, 1: 2}[stage]
        expected = search.spaces_[stage].narrow(
            best[:n_kept], margin=0.05, floor=search.floor
        )
        assert repr(search.spaces_[stage + 1]) == repr(expected)
        assert search.stages_[stage + 1].candidates_[:2] == [
            expected.project(codes) for codes in best[:2]
        ]


def test_failed_candidates_are_not_promoted():
    # A failure has the best score.
    search = make_staged(
        estimator=FormulaClassifier(fails_below=0.005),
        error_score=100,
        keep=0.1,
        refit=False,
    )
    with pytest.warns(FitFailedWarning, match="candidates failed"):
        search.fit(X, y)
    failed = search.cv_results_["param_rate"].data.astype(float) < 0.005
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"][failed], 100)
    np.testing.assert_array_equal(search.cv_results_["error"] != None, failed)  # noqa: E711
    assert not failed[search.cv_results_["promoted"]].any()


def test_size_dependent_hyperparameters_keep_their_range():
    def last_range(**params):
        space = make_staged(n_iter=(20, 4, 4), **params).fit(X, y).spaces_[-1]
        return space.ranges["degree"]

    assert last_range() != (1, 7)
    assert last_range(size_dependent=["degree"]) == (1, 7)


def test_conv_layers_are_size_dependent_by_default():
    space = {"cnn__n_conv_layers": [1, 2, 3], "cnn__learning_rate": loguniform(0.1, 1)}
    images, labels = make_shapes(
        20, size=8, n_classes=2, random_state=0, return_X_y=True
    )
    pipe = Pipeline(
        [("resize", ImageResizer()), ("cnn", CNNClassifier(max_epochs=1, n_filters=2))]
    )
    search = IISSearchCV(pipe, space, sizes=(8, 8), n_iter=(4, 2), cv=2, keep=0.1)
    search.fit(images, labels)
    first, second = (space.ranges for space in search.spaces_)
    assert first["cnn__n_conv_layers"] == second["cnn__n_conv_layers"]
    assert first["cnn__learning_rate"] != second["cnn__learning_rate"]


def test_splits_are_drawn_once():
    def scoring(estimator, X, y):
        seen.append(tuple(X[:, 0]))
        return 0.5

    seen = []
    make_staged(cv=ShuffleSplit(2, random_state=None), scoring=scoring).fit(X, y)
    assert len(seen) == 24
    assert len(set(seen)) == 2


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize("select", ["best", "last"])
def test_select(name, select):
    # Larger sizes are worse: the best candidates are those of the first stage.
    class Shrinking(FormulaClassifier):
        def score(self, X, y):
            return super().score(X, y) - 10 * self.size

    search = make_staged(estimator=Shrinking(), search=name, select=select).fit(X, y)
    results = search.cv_results_
    stage = {"best": 0, "last": 2}[select]
    best = results["mean_test_score"][results["stage"] == stage].max()
    assert search.best_score_ == best
    assert results["mean_test_score"][search.best_index_] == best
    assert search.best_params_ == results["params"][search.best_index_]
    assert search.best_params_["size"] == [1, 2, 4][stage]
    fitted = search.best_estimator_.get_params()
    assert search.best_params_.items() <= fitted.items()


# As scikit-learn's searches


def test_single_stage_equals_scikit_learn_on_the_same_candidates():
    X, y = load_iris(return_X_y=True)
    pipe = make_pipeline(StandardScaler(), LogisticRegression())
    search = IISSearchCV(
        pipe,
        {"logisticregression__C": loguniform(1e-4, 1)},
        n_iter=8,
        cv=3,
        scoring=["accuracy", "neg_log_loss"],
        refit="neg_log_loss",
        return_train_score=True,
        random_state=0,
    ).fit(X, y)
    assert search.sizes_ == [None]
    for i, params in enumerate(search.cv_results_["params"]):
        reference = cross_validate(
            clone(pipe).set_params(**params),
            X,
            y,
            cv=3,
            scoring=search.scoring,
            return_train_score=True,
        )
        for key in ("train_accuracy", "test_accuracy", "test_neg_log_loss"):
            for split in range(3):
                assert (
                    search.cv_results_[f"split{split}_{key}"][i]
                    == reference[key][split]
                )
    assert search.best_score_ == search.cv_results_["mean_test_neg_log_loss"].max()
    expected = clone(pipe).set_params(**search.best_params_).fit(X, y)
    np.testing.assert_array_equal(search.predict_proba(X), expected.predict_proba(X))


@pytest.mark.parametrize("name", SEARCHES)
def test_same_random_state_same_result_in_any_number_of_processes(name):
    def fit(n_jobs, random_state=0):
        return make_staged(
            search=name,
            search_params=ANY_N_JOBS.get(name),
            n_jobs=n_jobs,
            random_state=random_state,
        ).fit(X, y)

    first = fit(1)
    others = [fit(1), fit(1, np.random.RandomState(0))]
    if name != "ladder":  # who is promoted depends on who is first
        others.append(fit(2))
    for search in others:
        assert search.cv_results_["params"] == first.cv_results_["params"]
        np.testing.assert_array_equal(
            search.cv_results_["mean_test_score"], first.cv_results_["mean_test_score"]
        )
    if name != "grid":
        assert fit(1, 1).cv_results_["params"] != first.cv_results_["params"]


@pytest.mark.parametrize("name", SEARCHES)
def test_the_callers_things_are_left_alone(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    estimator = FormulaClassifier()
    space = dict(SPACE)
    search = make_staged(estimator=estimator, space=space, search=name)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    search.fit(X, y)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    assert estimator.get_params() == FormulaClassifier().get_params()
    assert not hasattr(estimator, "classes_")
    assert space == SPACE
    assert search.get_params(deep=False)["estimator"] is estimator
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", SEARCHES)
def test_clone_and_pickle(name, tmp_path):
    storage = str(tmp_path / "run.journal") if name == "random" else None
    search = make_staged(search=name, storage=storage).fit(X, y)
    assert b"run.journal" not in pickle.dumps(search.stages_)
    restored = pickle.loads(pickle.dumps(search))
    np.testing.assert_array_equal(restored.predict(X), search.predict(X))
    again = clone(restored).fit(X, y)
    assert again.cv_results_["params"] == search.cv_results_["params"]


@pytest.mark.parametrize("name", SEARCHES)
def test_several_metrics(name):
    scoring = {"degree": lambda e, X, y: e.degree, "rate": lambda e, X, y: -e.rate}
    search = make_search(search=name, n_iter=20, scoring=scoring, refit="rate")
    search.fit(X, y)
    assert search.multimetric_
    assert set(search.scorer_) == {"degree", "rate"}
    np.testing.assert_array_equal(
        search.cv_results_["mean_test_degree"], search.cv_results_["param_degree"]
    )
    rates = search.cv_results_["param_rate"].data.astype(float)
    assert search.best_params_["rate"] == rates.min()
    assert search.score(X, y) == -rates.min()


@pytest.mark.parametrize("kind", ["search", "stage"])
def test_score_after_a_callable_refit_is_that_of_the_guiding_metric(kind):
    """scikit-learn raises a KeyError of the callable."""
    scoring = {"low": lambda e, X, y: -e.degree, "high": lambda e, X, y: e.degree}
    settings = {
        "n_iter": 7,
        "cv": 2,
        "random_state": 0,
        "scoring": scoring,
        "refit": lambda results: results["rank_test_high"].argmin(),
    }
    space = {"degree": [1, 2, 3, 4, 5, 6, 7]}
    search = (
        IISSearchCV(FormulaClassifier(), space, **settings)
        if kind == "search"
        else StageRandomizedSearchCV(
            FormulaClassifier(), SearchSpace(space), **settings
        )
    )
    assert search.fit(X, y).score(X, y) == -7
    # A single metric, which may have a callable refit as well.
    search.set_params(
        scoring=scoring["high"],
        refit=lambda results: results["rank_test_score"].argmax(),
    )
    assert search.fit(X, y).score(X, y) == 1


def test_the_metric_named_by_refit_guides():
    scoring = {"low": lambda e, X, y: -e.degree, "high": lambda e, X, y: e.degree}
    for refit, expected in (("low", 1), ("high", 7), (False, 1)):
        search = make_staged(n_iter=(30, 3, 3), scoring=scoring, refit=refit).fit(X, y)
        results = search.cv_results_
        assert set(results["param_degree"][results["promoted"]]) == {expected}
        assert hasattr(search, "best_params_") == bool(refit)


@pytest.mark.parametrize("name", SEARCHES)
def test_a_callable_that_returns_several_metrics(name):
    def scoring(estimator, X, y):
        if estimator.degree > 3:
            raise RuntimeError("too high")
        return {"degree": estimator.degree, "rate": -estimator.rate}

    n_iter = 60 if name == "grid" else 20
    search = make_search(search=name, scoring=scoring, refit="rate", n_iter=n_iter)
    with pytest.warns(FitFailedWarning, match="too high"):
        search.fit(X, y)
    assert search.best_params_["degree"] <= 3
    with pytest.raises(ValueError, match="the parameter refit must be set to a scorer"):
        search.set_params(refit=True).fit(X, y)


def test_the_guide_does_not_depend_on_which_candidate_fails_first():
    class FailsFirst(FormulaClassifier):
        def fit(self, X, y):
            if next(calls) == 0:
                raise RuntimeError("the first")
            return super().fit(X, y)

    calls = iter(range(100))
    scoring = {"low": lambda e, X, y: -e.degree, "high": lambda e, X, y: e.degree}
    search = make_staged(
        estimator=FailsFirst(), n_iter=(30, 3, 3), scoring=scoring, refit="high"
    )
    with pytest.warns(FitFailedWarning, match="the first"):
        search.fit(X, y)
    results = search.cv_results_
    assert set(results["param_degree"][results["promoted"]]) == {7}


def test_a_single_metric_of_any_name():
    search = make_search(scoring={"score": "accuracy"}, refit="score").fit(X, y)
    assert search.multimetric_
    assert search.score(X, y) == 0.5


def test_a_metric_that_does_not_guide_may_fail():
    def broken(estimator, X, y):
        raise RuntimeError("broken")

    scoring = {"broken": broken, "degree": lambda e, X, y: e.degree}
    search = make_staged(scoring=scoring, refit="degree", n_iter=(8, 2, 2))
    with (
        pytest.warns(UserWarning, match=r"'broken' failed(.|\n)*RuntimeError: broken"),
        pytest.warns(UserWarning, match="'broken' of 8 of 8 candidates is not finite"),
        pytest.warns(UserWarning, match="'broken' of 2 of 2 candidates is not finite"),
    ):
        search.fit(X, y)
    assert np.isnan(search.cv_results_["mean_test_broken"]).all()
    assert (search.cv_results_["error"] == None).all()  # noqa: E711
    assert search.best_params_["degree"] == search.cv_results_["param_degree"].max()


def test_refit_can_be_a_callable_or_off():
    def worst(cv_results):
        return int(np.argmin(cv_results["mean_test_score"]))

    search = make_staged(refit=worst, select="last").fit(X, y)
    assert search.best_index_ == worst(search.cv_results_)
    assert not hasattr(search, "best_score_")
    assert search.best_estimator_.get_params().items() >= search.best_params_.items()

    search = make_staged(refit=False).fit(X, y)
    assert search.best_score_ == search.cv_results_["mean_test_score"].max()
    assert not hasattr(search, "best_estimator_")
    assert not hasattr(search, "predict")


@pytest.mark.parametrize("name", SEARCHES)
def test_groups_reach_the_splitter_and_fit_parameters_the_estimator(name):
    X, y = load_iris(return_X_y=True)
    groups = np.arange(150) % 5
    weights = np.where(y == 2, 0.0, 1.0)
    split = []

    class Spied(GroupKFold):
        def split(self, X, y=None, groups=None):
            split.append(groups)
            return super().split(X, y, groups)

    search = IISSearchCV(
        LogisticRegression(),
        C,
        search=name,
        search_params=LINEAR.get(name),
        n_iter=4,
        cv=Spied(5),
        random_state=0,
    ).fit(X, y, groups=groups, sample_weight=weights)
    assert search.n_splits_ == 5
    (seen,) = split
    np.testing.assert_array_equal(seen, groups)
    # Without any weight the last class is never predicted, nor does it count.
    assert 2 not in search.predict(X)
    assert search.best_score_ > 0.95


@pytest.mark.parametrize("name", SEARCHES)
def test_metadata_routing(name):
    X, y = load_iris(return_X_y=True)
    weights = np.where(y == 2, 0.0, 1.0)
    groups = np.arange(150) % 5
    with sklearn.config_context(enable_metadata_routing=True):
        recall = make_scorer(recall_score, average="macro", zero_division=0.0)
        search = IISSearchCV(
            LogisticRegression().set_fit_request(sample_weight="importance"),
            C,
            search=name,
            search_params=LINEAR.get(name),
            n_iter=4,
            n_jobs=2,
            cv=GroupKFold(5),
            scoring=recall.set_score_request(sample_weight=False),
            random_state=0,
        ).fit(X, y, importance=weights, groups=groups)
        with pytest.raises(TypeError, match=r"unexpected argument.*'weight'"):
            search.fit(X, y, weight=weights)
    assert 2 not in search.predict(X)
    assert search.best_score_ < 0.7  # the scorer gives each class the same weight


def test_metadata_routing_through_a_pipeline():
    X, y = load_iris(return_X_y=True)
    weights = np.where(y == 2, 0.0, 1.0)
    with sklearn.config_context(enable_metadata_routing=True):
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        classifier = LogisticRegression().set_fit_request(sample_weight=True)
        search = IISSearchCV(
            make_pipeline(scaler, classifier),
            {"logisticregression__C": loguniform(1e-3, 10)},
            n_iter=3,
            scoring=make_scorer(accuracy_score).set_score_request(sample_weight=False),
            random_state=0,
        ).fit(X, y, sample_weight=weights)
    assert 2 not in search.predict(X)


@pytest.mark.parametrize("backend", ["threading", "multiprocessing"])
# torch has threads, and Python warns of forking a process that has any.
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_other_backends_of_joblib(backend):
    expected = make_staged().fit(X, y)
    with parallel_config(backend):
        search = make_staged(n_jobs=2).fit(X, y)
    assert search.cv_results_["params"] == expected.cv_results_["params"]


def test_pre_dispatch_reaches_the_stages():
    search = make_staged(n_jobs=2, pre_dispatch=3).fit(X, y)
    assert all(stage.pre_dispatch == 3 for stage in search.stages_)
    assert all(stage.n_jobs == 2 for stage in search.stages_)


def test_whatever_fit_returns():
    search = IISSearchCV(Plain(), {"a": [1, 2]}, n_iter=2, cv=2).fit(X, y)
    assert search.best_params_ == {"a": 2}


def test_set_params_is_called_with_parameters_only():
    class Strict(DummyClassifier):
        def set_params(self, **params):
            self.constant = params["constant"]
            return self

    search = IISSearchCV(
        Strict(strategy="constant"), {"constant": [0, 1]}, n_iter=2, cv=2
    ).fit(X, y)
    assert len(search.cv_results_["params"]) == 2


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_pickle_holds_what_a_user_reads_and_nothing_of_the_run(n_jobs):
    X, y = np.zeros((400_000, 1), dtype=np.float32), np.arange(400_000) % 2
    search = IISSearchCV(
        DummyClassifier(), {"constant": [0, 1, 2]}, n_iter=3, cv=2, n_jobs=n_jobs
    ).fit(X, y)
    assert len(pickle.dumps(search)) < 100_000
    assert len(pickle.dumps(search.stages_[0])) < 100_000
    foreign = search.set_params(search=randomized).fit(X, y)
    assert len(pickle.dumps(foreign)) < 100_000


def odd_score(estimator, X, y):
    return [1j, np.longdouble("0.5"), "bad", 0.25, [0.5], None][estimator.degree - 1]


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_scores_that_are_no_numbers_fail_their_candidate_only(n_jobs):
    search = make_search(
        space={"degree": [1, 2, 3, 4, 5, 6]},
        n_iter=6,
        scoring=odd_score,
        n_jobs=n_jobs,
    )
    with pytest.warns(FitFailedWarning, match="4 of 6 candidates failed"):
        results = search.fit(X, y).cv_results_
    scores = dict(zip(results["param_degree"], results["mean_test_score"], strict=True))
    assert {d: s for d, s in scores.items() if not np.isnan(s)} == {2: 0.5, 4: 0.25}
    assert search.best_params_ == {"degree": 2}
    assert type(search.best_score_) is np.float64


def test_unsupervised_estimators():
    X, _ = load_iris(return_X_y=True)
    search = IISSearchCV(PCA(random_state=0), {"n_components": [1, 2]}, n_iter=2)
    search.set_params(cv=ShuffleSplit(2, random_state=0)).fit(X)
    assert search.transform(X).shape == (150, search.best_params_["n_components"])


def test_as_part_of_other_tools():
    scores = cross_validate(make_search(n_iter=3), X, y, cv=2, error_score="raise")
    assert len(scores["test_score"]) == 2
    pipe = make_pipeline(StandardScaler(), make_search(n_iter=3)).fit(X, y)
    assert pipe.predict(X).shape == (20,)


# Failures


@pytest.mark.parametrize("name", ONE_ROW_A_CANDIDATE)
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_failing_candidate_costs_itself_only(name, n_jobs):
    search = make_search(
        FormulaClassifier(fails_below=0.02), search=name, n_iter=16, n_jobs=n_jobs
    )
    with pytest.warns(FitFailedWarning) as record:
        search.fit(X, y)
    rates = search.cv_results_["param_rate"].data.astype(float)
    n_failed = np.sum(rates < 0.02)
    assert 0 < n_failed < 16
    assert f"{n_failed} of 16 candidates failed (stage 0)" in str(record[0].message)
    assert "no fit with the rate" in str(record[0].message)
    assert len(record) == 1
    np.testing.assert_array_equal(
        np.isnan(search.cv_results_["mean_test_score"]), rates < 0.02
    )
    assert search.best_params_["rate"] >= 0.02


@pytest.mark.parametrize("name", ONE_ROW_A_CANDIDATE)
def test_if_every_candidate_fails_the_first_error_is_shown(name):
    search = make_search(FormulaClassifier(fails_below=2), search=name)
    with pytest.raises(
        ValueError, match=r"Every candidate failed: 12 of 12(.|\n)*no fit"
    ):
        search.fit(X, y)


def test_what_was_evaluated_before_a_stage_failed_is_kept():
    class Small(FormulaClassifier):
        def fit(self, X, y):
            if self.size > 2:
                raise MemoryError("too large")
            return super().fit(X, y)

    search = make_staged(estimator=Small(), n_iter=(6, 4, 2))
    with pytest.raises(ValueError, match=r"stage 2, size 4(.|\n)*too large"):
        search.fit(X, y)
    assert len(search.stages_) == 3
    assert len(search.cv_results_["params"]) == 12


@pytest.mark.parametrize("name", SEARCHES)
def test_error_score_raise(name):
    search = make_search(
        FormulaClassifier(fails_below=0.5), search=name, error_score="raise"
    )
    with pytest.raises(RuntimeError, match="no fit with the rate"):
        search.fit(X, y)


# Images


class SizeRecorder(ClassifierMixin, BaseEstimator):
    """Scores by the shape of the images that it is given."""

    def __init__(self, factor=1.0):
        self.factor = factor

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.shape_ = X.shape[1:]
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])

    def score(self, X, y):
        return self.factor * np.mean(X) * X.shape[1]


@pytest.fixture
def images():
    return make_shapes(24, size=16, n_classes=2, random_state=0)


def make_image_search(**params):
    pipe = Pipeline([("resize", ImageResizer()), ("clf", SizeRecorder())])
    space = {"clf__factor": loguniform(0.1, 1)}
    return IISSearchCV(
        pipe, space, **({"n_iter": 6, "cv": 2, "random_state": 0} | params)
    )


def test_sizes_are_found(images):
    search = make_image_search().fit(*images)
    assert search.sizes_ == [4, 8, 16]
    assert search.best_params_["resize__size"] in (4, 8, 16)
    wide = np.zeros((24, 8, 20, 3), dtype=np.uint8)
    assert make_image_search().fit(wide, images[1]).sizes_ == [(2, 5), (4, 10), (8, 20)]


def test_images_are_resized_once_a_stage(images, monkeypatch):
    calls = []
    transform = ImageResizer.transform

    def counted(self, X):
        resized = transform(self, X)
        calls.append((resized is X, len(X), self.size))
        return resized

    monkeypatch.setattr(ImageResizer, "transform", counted)
    search = make_image_search(sizes=(4, 16), refit=False).fit(*images)
    # Besides a few by themselves, and those that have the size already.
    worked = [(n, size) for same, n, size in calls if not same and n > 2]
    assert worked == [(24, 4)]

    # It makes no difference to the scores.
    monkeypatch.setattr(_search, "prepare", lambda *args, **params: None)
    again = make_image_search(sizes=(4, 16), refit=False).fit(*images)
    np.testing.assert_array_equal(
        search.cv_results_["mean_test_score"], again.cv_results_["mean_test_score"]
    )


def test_images_stay_arrays_where_steps_return_data_frames(images):
    """Images that were resized beforehand, and those of `refit` and `predict`."""
    scores = make_image_search().fit(*images).cv_results_["mean_test_score"]
    chosen = make_image_search()
    chosen.estimator.set_output(transform="pandas")
    np.testing.assert_array_equal(
        chosen.fit(*images).cv_results_["mean_test_score"], scores
    )
    with sklearn.config_context(transform_output="pandas"):
        search = make_image_search().fit(*images)
        assert len(search.predict(images[0])) == len(images[0])
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], scores)


def test_searched_settings_of_the_resizer_are_not_decided_beforehand(images):
    search = make_image_search(sizes=(4, 8))
    search.space = {"resize__interpolation": ["nearest", "bilinear"]} | search.space
    results = search.fit(*images).cv_results_
    splits = list(StratifiedKFold(2).split(*images))
    for i, params in enumerate(results["params"]):
        size = params["resize__size"]
        resizer = ImageResizer(size, interpolation=params["resize__interpolation"])
        halves = [resizer.fit_transform(images[0][test]) for _, test in splits]
        expected = (
            params["clf__factor"] * size * np.mean([half.mean() for half in halves])
        )
        assert results["mean_test_score"][i] == pytest.approx(expected)
    assert set(results["param_resize__interpolation"]) == {"nearest", "bilinear"}


def test_the_size_can_be_a_hyperparameter_instead(images):
    search = make_image_search()
    search.space = {"resize__size": [4, 8]} | search.space
    assert search.fit(*images).sizes_ == [None]
    with pytest.raises(ValueError, match="cannot be searched and given sizes"):
        search.set_params(sizes=(4, 8)).fit(*images)


def test_image_files(tmp_path):
    images, labels = make_shapes(24, size=32, n_classes=2, random_state=0)
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = tmp_path / f"class {label}"
        folder.mkdir(exist_ok=True)
        Image.fromarray(image).save(folder / f"{i}.png")
    paths, target = load_image_folder(tmp_path, return_X_y=True)
    search = make_image_search(sizes=(8, (16, 16), 32)).fit(paths, target)
    assert search.sizes_ == [8, (16, 16), 32]
    assert search.best_params_["resize__size"] == 32
    order = np.argsort([int(path.stem) for path in map(Path, paths)])
    loaded = ImageResizer(32).fit_transform([paths[i] for i in order])
    np.testing.assert_array_equal(loaded, images)
    assert search.predict(paths).shape == (24,)


def test_lists_of_unequal_images(images):
    unequal = [image[: 10 + i % 5] for i, image in enumerate(images[0])]
    search = make_image_search(sizes=(4, 8)).fit(unequal, images[1])
    assert search.best_estimator_[-1].shape_[:2] == (8, 8)
    assert search.predict(unequal).shape == (24,)
    with pytest.raises(ValueError, match="sizes=None needs images as one array"):
        make_image_search().fit(unequal, images[1])


@pytest.fixture
def one_thread():
    """Sums of floats depend on how many threads add them up."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with parallel_config("loky", inner_max_num_threads=1):
        yield
    torch.set_num_threads(n_threads)


def test_cnn_end_to_end_in_two_processes(one_thread):
    images, labels = make_shapes(80, size=16, n_classes=2, random_state=0)
    pipe = Pipeline(
        [
            ("resize", ImageResizer()),
            ("cnn", CNNClassifier(n_filters=4, max_epochs=3, random_state=0)),
        ]
    )
    space = {"cnn__learning_rate": loguniform(1e-3, 1), "cnn__batch_size": [8, 16, 32]}
    search, parallel = (
        IISSearchCV(
            pipe, space, sizes=(8, 16), n_iter=6, cv=2, n_jobs=n_jobs, random_state=0
        ).fit(images, labels)
        for n_jobs in (1, 2)
    )
    assert parallel.cv_results_["params"] == search.cv_results_["params"]
    np.testing.assert_array_equal(
        parallel.cv_results_["mean_test_score"], search.cv_results_["mean_test_score"]
    )
    np.testing.assert_array_equal(
        parallel.predict_proba(images), search.predict_proba(images)
    )


# Searches of the user's own


def randomized(estimator, space, *, n_iter, initial_candidates, **settings):
    return RandomizedSearchCV(estimator, space.dimensions, n_iter=n_iter, **settings)


def test_search_can_be_a_callable():
    search = make_staged(search=randomized).fit(X, y)
    assert all(type(stage) is RandomizedSearchCV for stage in search.stages_)
    assert len(search.cv_results_["params"]) == 12
    same = make_staged(search=StageRandomizedSearchCV).fit(X, y)
    assert isinstance(same.stages_[0], StageRandomizedSearchCV)


def test_search_params_reach_the_search():
    search = make_search(search="bayes", search_params={"n_points": 3}).fit(X, y)
    assert search.stages_[0].n_points == 3
    with pytest.raises(TypeError, match="n_pionts"):
        make_search(search="bayes", search_params={"n_pionts": 3}).fit(X, y)


# Callbacks


class Listener:
    """A callback of scikit-learn's kind that notes the tasks that begin and end."""

    def __init__(self):
        self.begun = []
        self.ended = []
        self.metadata = []

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context, *, metadata=None):
        self.begun.append((context.estimator_name, context.task_name))
        self.metadata.append((context.task_name, metadata))

    def on_fit_task_end(self, estimator, context):
        self.ended.append((context.estimator_name, context.task_name))


class DeepListener(Listener):
    """Listens to the estimators as well."""

    max_propagation_depth = None


def count_evaluations(listener):
    return [task for _, task in listener.ended].count("candidate-split-evaluation")


@pytest.mark.parametrize("name", ONE_ROW_A_CANDIDATE)
def test_callbacks_of_scikit_learn_see_each_evaluation(name):
    listener = DeepListener()
    pipe = make_pipeline(StandardScaler(), LogisticRegression())
    search = IISSearchCV(
        pipe,
        {"logisticregression__C": loguniform(1e-3, 1)},
        search=name,
        sizes=(50, 100),
        size_param="logisticregression__max_iter",
        n_iter=(5, 3),
        cv=2,
    )
    search.set_callbacks(listener).fit(X, y)
    ended = listener.ended
    n_rows = len(search.cv_results_["params"])
    assert n_rows == 8 or name == "fabolas"  # which decides on the sizes itself
    n_evaluations = 2 * n_rows
    n_fits = n_evaluations + 1
    assert sum(name == "Pipeline" and task == "fit" for name, task in ended) == n_fits
    assert sum(name == "LogisticRegression" for name, _ in ended) >= n_fits
    stages = [task for _, task in ended if task.startswith("stage")]
    if name in {"ladder", "fabolas"}:  # one search, of both
        assert stages == ["stages 0 to 1"]
    else:
        assert stages == ["stage 0, size 50", "stage 1, size 100"]
    assert ended[-1] == ("IISSearchCV", "fit")
    assert sorted(listener.begun) == sorted(ended)


@pytest.mark.parametrize("kind", ["own", "foreign", "alone"])
def test_callbacks_hear_of_what_scikit_learns_search_tells_them(kind):
    """Also if the estimator has no callbacks itself."""
    space = {"max_depth": [1, 2, 3]}
    tree, settings = DecisionTreeClassifier(), {"n_iter": 3, "cv": 2}
    if kind == "alone":
        search = StageRandomizedSearchCV(tree, SearchSpace(space), **settings)
    else:
        name = randomized if kind == "foreign" else "random"
        search = IISSearchCV(tree, space, search=name, **settings)
    heard, expected = Listener(), Listener()
    search.set_callbacks(heard).fit(X, y)
    RandomizedSearchCV(tree, space, **settings).set_callbacks(expected).fit(X, y)
    assert count_evaluations(heard) == count_evaluations(expected) == 6
    evaluations = ["candidate-split-evaluation"] * 6
    searches = {"own": ["stage 0"], "foreign": ["search", "stage 0"]}
    assert [task for _, task in heard.ended] == [
        *evaluations,
        *searches.get(kind, ["search"]),
        "refit-with-best-params",
        "fit",
    ]
    assert sorted(heard.begun) == sorted(heard.ended)


def test_callbacks_hear_of_evaluations_in_a_storage(tmp_path):
    search = make_staged(storage=str(tmp_path / "run.journal"))
    heard = []
    for _ in range(2):
        listener = Listener()
        clone(search).set_callbacks(listener).fit(X, y)
        heard.append(count_evaluations(listener))
    assert heard == [24, 24]


@pytest.mark.parametrize("weighted", [True, False])
def test_callbacks_hear_of_sample_weights(weighted):
    X, y = load_iris(return_X_y=True)
    weights = {"sample_weight": np.ones(150)} if weighted else {}
    searches = (
        IISSearchCV(LogisticRegression(max_iter=500), {"C": [1, 10]}, n_iter=2, cv=2),
        RandomizedSearchCV(
            LogisticRegression(max_iter=500), {"C": [1, 10]}, n_iter=2, cv=2
        ),
    )
    ours, expected = (Listener() for _ in searches)
    for search, listener in zip(searches, (ours, expected), strict=True):
        search.set_callbacks(listener).fit(X, y, **weights)
    for told in (ours.metadata, expected.metadata):
        tasks = {
            task: metadata
            for task, metadata in told
            if task in ("fit", "refit-with-best-params")
        }
        assert set(tasks) == {"fit", "refit-with-best-params"}
        for metadata in tasks.values():
            assert ("sample_weight" in (metadata or {})) == weighted
    evaluations = [m for task, m in ours.metadata if task.startswith("candidate")]
    assert len(evaluations) == 4
    for metadata in evaluations:
        assert metadata is None or len(metadata["sample_weight"]) == 75
        assert (metadata is not None) == weighted


def test_warnings_are_those_of_scikit_learns_search():
    """About the search that the user has made, and nothing within it; none twice."""
    pipe = make_pipeline(StandardScaler(), Plain())
    space, settings = {"plain__a": [1, 2]}, {"n_iter": 2, "cv": 2}
    messages = []
    for search in (
        IISSearchCV(pipe, space, **settings),
        RandomizedSearchCV(pipe, space, **settings),
    ):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            search.set_callbacks(DeepListener()).fit(X, y)
        messages.append([str(w.message) for w in caught])
    assert messages[0] == messages[1]


class Plain(ClassifierMixin, BaseEstimator):
    """Has no callbacks, and returns nothing from `fit`."""

    def __init__(self, a=0):
        self.a = a

    def fit(self, X, y=None):
        self.classes_ = [0, 1]

    def score(self, X, y=None):
        return float(self.a)


def test_groups_that_are_ignored_are_told_once():
    with pytest.warns(UserWarning, match="groups parameter is ignored") as record:
        make_staged(cv=ShuffleSplit(2, random_state=0)).fit(X, y, groups=y)
    assert len(record) == 1


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("depth", [1, 2, None])
def test_progress_bar_of_scikit_learn(capsys, monkeypatch, n_jobs, depth):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(rich, "_console", None)  # it knows its width since it was made
    search = make_staged(
        estimator=make_pipeline(StandardScaler(), LogisticRegression()),
        space={f"logisticregression__{name}": values for name, values in C.items()},
        size_param="logisticregression__max_iter",
        sizes=(50, 60, 70),
        n_jobs=n_jobs,
    )
    bar = ProgressBar(max_propagation_depth=depth)
    # Below a pipeline there are steps that have no callbacks.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* does not support callbacks", UserWarning)
        search.set_callbacks(bar).fit(X, y)
    shown = capsys.readouterr().out
    assert "IISSearchCV - fit" in shown
    assert "stage 2, size 70" in shown
    assert shown.count("100%") >= 4


# Bad input


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"search": "best"}, ValueError, "The 'search' parameter"),
        ({"select": "first"}, ValueError, "The 'select' parameter"),
        ({"keep": 0}, ValueError, "The 'keep' parameter"),
        ({"n_promoted": -1}, ValueError, "The 'n_promoted' parameter"),
        ({"n_iter": 0}, ValueError, "The 'n_iter' parameter"),
        ({"n_iter": 2}, ValueError, "n_iter=2 must give each of 3 stages"),
        ({"n_iter": (2, 2)}, ValueError, r"n_iter=\(2, 2\) must give each of 3 stages"),
        ({"n_iter": (2, 2, 0)}, ValueError, "must give each of 3 stages"),
        ({"sizes": ()}, ValueError, "sizes is empty"),
        ({"sizes": (4, 2, 1)}, ValueError, r"must not decrease .* \[4, 2, 1\]"),
        ({"sizes": (1, None)}, ValueError, r"sizes must be numbers.* \[1, None\]"),
        ({"sizes": (None,)}, ValueError, r"sizes must be numbers, .* got \[None\]"),
        ({"sizes": ((2, 3), (4, None))}, ValueError, "sizes must be numbers, or pairs"),
        ({"sizes": ((2, 9), (4, 8))}, ValueError, "sizes must not decrease"),
        (
            {"size_dependent": ["degrees"]},
            ValueError,
            "size_dependent names .*'degrees'",
        ),
        ({"size_param": None}, ValueError, "FormulaClassifier has no ImageResizer"),
        ({"size_param": "sizes"}, ValueError, "size_param='sizes' is no parameter of"),
        ({"space": {}}, ValueError, "the space is empty"),
        ({"space": [SPACE, ["rate"]]}, TypeError, "or a list of such dicts, got list"),
        (
            {"space": [SPACE, {"rat": [1]}]},
            ValueError,
            "no parameter 'rat'.* is 'rate'",
        ),
        ({"space": {"rat": [1]}}, ValueError, "no parameter 'rat'.* is 'rate'"),
        ({"space": {"size": [1, 2]}}, ValueError, "cannot be searched and given sizes"),
    ],
)
def test_bad_parameters(params, error, message):
    search = make_staged(**params)
    with pytest.raises(error, match=message):
        search.fit(X, y)
    assert not hasattr(search, "cv_results_")


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"storage": 5}, TypeError, "storage must be .*, got 5"),
        ({"storage": "sqlite://"}, ValueError, "lost in a crash: give the path"),
        ({"storage": "no/such/run.db"}, OSError, "no/such' does not exist"),
        ({"study_name": None}, ValueError, "The 'study_name' parameter"),
        ({"timeout": 0}, ValueError, "The 'timeout' parameter"),
        ({"trial_timeout": -1}, ValueError, "The 'trial_timeout' parameter"),
        ({"pruner": "mean"}, ValueError, "The 'pruner' parameter"),
        ({"trials_per_gpu": 0}, ValueError, "The 'trials_per_gpu' parameter"),
    ],
)
def test_bad_parameters_of_what_is_kept(params, error, message, tmp_path, monkeypatch):
    """Nothing is written, and the fit before is not forgotten."""
    monkeypatch.chdir(tmp_path)
    search = make_staged().fit(X, y)
    with pytest.raises(error, match=message):
        search.set_params(**params).fit(X, y)
    assert hasattr(search, "cv_results_")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("params", [{"storage": "run.journal"}, {"pruner": "median"}])
def test_without_optuna_the_extra_is_named(params, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for module in ("_open", "_recorder", "_resume", "_database", "_journal"):
        monkeypatch.delitem(sys.modules, f"sklearn_iis.storage.{module}", False)
    monkeypatch.setitem(sys.modules, "optuna.exceptions", None)
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r"pip install 'sklearn-iis\[storage\]'"):
        make_staged(**params).fit(X, y)
    assert not list(tmp_path.iterdir())


def test_y_is_required_by_estimators_that_need_it():
    with pytest.raises(ValueError, match="requires y to be passed"):
        make_search().fit(X)


def test_several_resizers():
    pipe = make_pipeline(ImageResizer(8), ImageResizer(4), SizeRecorder())
    search = IISSearchCV(pipe, {"sizerecorder__factor": [1.0, 2.0]}, n_iter=2, cv=2)
    with pytest.raises(
        ValueError, match="there are several sizes, choose a size_param"
    ):
        search.fit(np.zeros((9, 8, 8)), y[:9])


def test_a_fit_forgets_the_one_before_it():
    """A fit that ends early does not show the results of another one."""
    search = IISSearchCV(FormulaClassifier(), SPACE, n_iter=4, cv=2, random_state=0)
    search.fit(X, y)
    assert search.best_index_ >= 0
    search.set_params(estimator=FormulaClassifier(fails_below=1))
    with pytest.raises(ValueError, match="Every candidate failed"):
        search.fit(X, y)
    assert len(search.cv_results_["params"]) == 4
    for name in ("best_index_", "best_params_", "best_score_", "best_estimator_"):
        assert not hasattr(search, name)
    search.set_params(estimator=FormulaClassifier()).fit(X, y)
    with pytest.raises(ValueError, match="n_iter"):
        search.set_params(n_iter=0).fit(X, y)
    assert search.predict(X).shape == (20,)
