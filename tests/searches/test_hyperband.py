"""Hyperband: its plan, its resources, and fits that go on."""

import math
import pickle
import threading
from collections import Counter
from itertools import islice, pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import loguniform, randint, uniform
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import load_digits, load_iris
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import ShuffleSplit
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_iis import CNNClassifier, IISSearchCV, ImageResizer, SearchSpace
from sklearn_iis.cnn._net import ImageClassifierNet
from sklearn_iis.searches import get_search

SPACE = {"rate": loguniform(1e-4, 1)}


class Locked:
    """A callback of scikit-learn's kind that cannot be pickled."""

    max_propagation_depth = None

    def __init__(self):
        self.lock = threading.Lock()

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        pass


X, y = load_iris(return_X_y=True)
SPLITS = list(ShuffleSplit(2, random_state=0).split(X))


class Learner(ClassifierMixin, BaseEstimator):
    """It gets better with epochs; the optimum is at rate=0.01. Below 0.001 it fails."""

    fitted = Counter()  # (rate, max_epochs) -> fits

    def __init__(self, rate=0.1, max_epochs=81):
        self.rate = rate
        self.max_epochs = max_epochs

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.fitted[self.rate, self.max_epochs] += 1
        if self.rate < 0.001:
            raise RuntimeError("too slow")
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])

    def score(self, X, y):
        return -((math.log10(self.rate) + 2) ** 2) - 1 / self.max_epochs


def score(estimator, X, y):
    return estimator.score(X, y)


def make_search(estimator=None, space=SPACE, **settings):
    space = SearchSpace(space)
    settings = {"scoring": score, "cv": SPLITS, "refit": False} | settings
    return get_search("hyperband")(estimator or Learner(), space, **settings)


def plan(n_iter, **settings):
    """Return (number of candidates, resources) of each rung of each bracket."""
    brackets = make_search(n_iter=n_iter, **settings)._make_brackets()
    return [[tuple(rung) for rung in rungs] for rungs in brackets]


def cost(brackets, max_resources=81):
    return sum(n * r for rungs in brackets for n, r in rungs) / max_resources


def test_brackets_are_those_of_the_paper():
    """Table 1 of Li et al. 2018: R = 81, eta = 3, 5 R a bracket.

    The paper's formula spends less than that in two of the brackets; here it is spent.
    """
    paper = [
        [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)],
        [(34, 3), (11, 9), (3, 27), (1, 81)],
        [(15, 9), (5, 27), (1, 81)],
        [(8, 27), (2, 81)],
        [(5, 81)],
    ]
    ours = plan(25)
    assert ours[0] == paper[0]
    assert [[r for _, r in rungs] for rungs in ours] == [
        [r for _, r in rungs] for rungs in paper
    ]
    for rungs, rungs_of_paper in zip(ours, paper, strict=True):
        pairs = zip(rungs, rungs_of_paper, strict=True)
        assert all(0 <= n - n_of_paper <= 2 for (n, _), (n_of_paper, _) in pairs)
    assert cost(paper) < cost(ours) <= 25


@pytest.mark.parametrize("n_iter", [1, 2, 3, 4, 10, 27, 64, 250])
@pytest.mark.parametrize("factor", [2, 3, 5])
@pytest.mark.parametrize("n_brackets", [None, 1, 2])
def test_plan_spends_the_budget(n_iter, factor, n_brackets):
    """Never more than it; and of one more candidate in the last bracket, too much."""
    brackets = plan(n_iter, factor=factor, n_brackets=n_brackets)
    assert cost(brackets) <= n_iter + 1e-9
    one_more = [(rung[0] + 1, rung[1]) for rung in brackets[-1]]
    assert cost([*brackets[:-1], one_more]) > n_iter
    for rungs in brackets:
        assert rungs[-1][0] >= 1
        assert rungs[-1][1] == 81
        assert [n for n, _ in rungs] == [
            rungs[0][0] // factor**i for i in range(len(rungs))
        ]
        for (_, less), (_, more) in pairwise(rungs):
            assert factor * less <= more < factor * (less + 1)


def test_one_bracket_is_successive_halving():
    assert plan(10, n_brackets=1) == [[(162, 1), (54, 3), (18, 9), (6, 27), (2, 81)]]
    assert plan(4, n_brackets=1) == [[(27, 3), (9, 9), (3, 27), (1, 81)]]
    assert plan(10, n_brackets=1, min_resources=9) == [[(32, 9), (10, 27), (3, 81)]]


def test_brackets_are_no_more_than_the_budget_allows():
    """Too many asked for are not the end of all of them."""
    assert plan(9, n_brackets=9) == plan(9)
    assert plan(10, n_brackets=5) == plan(10, n_brackets=3)


def test_whole_resources_stay_whole():
    assert plan(4, max_resources=9.0) == [[(3, 3), (1, 9)], [(2, 9)]]
    brackets = plan(4, max_resources=9.0)
    assert all(isinstance(r, int) for rungs in brackets for _, r in rungs)


def test_resources_may_be_fractions():
    settings = {"resource": "rate", "space": {"max_epochs": [1, 2]}}
    brackets = plan(4, max_resources=1.0, min_resources=0.2, **settings)
    assert [[r for _, r in rungs] for rungs in brackets] == [[1 / 3, 1.0], [1.0]]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning")
def test_the_best_are_promoted():
    search = make_search(n_iter=25, refit=True, random_state=0)
    results = search.fit(X, y).cv_results_
    rows = list(
        zip(
            results["bracket"],
            results["n_resources"],
            (params["rate"] for params in results["params"]),
            results["mean_test_score"],
            strict=True,
        )
    )
    assert [params["max_epochs"] for params in results["params"]] == list(
        results["n_resources"]
    )
    assert [codes.keys() for codes in search.candidates_] == [{"rate"}] * len(rows)
    assert sorted(set(results["bracket"]), reverse=True) == [4, 3, 2, 1, 0]
    for bracket in range(1, 5):
        resources = sorted({r for b, r, _, _ in rows if b == bracket})
        assert len(resources) == bracket + 1
        for less, more in pairwise(resources):
            before = {c: s for b, r, c, s in rows if (b, r) == (bracket, less)}
            promoted = [c for b, r, c, _ in rows if (b, r) == (bracket, more)]
            valid = {c: s for c, s in before.items() if np.isfinite(s)}
            assert promoted == sorted(valid, key=valid.get)[::-1][: len(promoted)]
    assert search.best_params_["max_epochs"] == 81


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning")
def test_what_failures_leave_goes_to_candidates_with_all_resources():
    """Their budget is not lost."""
    search = make_search(space={"rate": uniform(1e-6, 1.5e-3)}, n_iter=16)
    results = search.set_params(random_state=0).fit(X, y).cv_results_
    spent = sum(results["n_resources"]) / 81
    assert 15 < spent <= 16 + 1e-9
    assert cost(search._make_brackets()) > spent - 16 / 81 * 80
    failed = np.isnan(results["mean_test_score"])
    assert failed.any()
    for codes, fails in zip(search.candidates_, failed, strict=True):
        if fails:
            assert search.candidates_.count(codes) == 1


def test_initial_candidates_are_evaluated_first_and_may_be_promoted():
    """Codes of layers beyond their depths do not matter."""
    initial = [{"rate": 1 / 3, "layer": 9}, {"rate": 0.9}, {"rate": 1 / 3}]
    space = {"rate": loguniform(1e-3, 1)}
    search = make_search(
        space=space, n_iter=9, initial_candidates=initial, random_state=0
    )
    results = search.fit(X, y).cv_results_
    rows = [
        (codes["rate"], params["max_epochs"])
        for codes, params in zip(search.candidates_, results["params"], strict=True)
    ]
    assert rows[:2] == [(1 / 3, 9), (0.9, 9)]
    assert rows.count((1 / 3, 9)) == 1
    assert (1 / 3, 81) in rows
    assert (0.9, 81) not in rows


def test_candidates_are_drawn_as_they_are_needed():
    search = make_search(n_iter=10**6)
    drawn = []

    class Enough(Exception):
        pass

    class Evaluate:
        candidates = ()

        def __call__(self, candidates, **settings):
            drawn.extend(islice(candidates, 3))
            raise Enough

    with pytest.raises(Enough):
        search.run(Evaluate(), np.random.RandomState(0))
    assert drawn == search.space.sample(3, random_state=0)


def test_a_number_of_candidates_is_needed():
    with pytest.raises(ValueError, match="needs a number of candidates"):
        make_search(n_iter=None).check_budget()


def test_a_small_space_is_evaluated_with_all_resources():
    space = {"rate": [0.01, 0.1, 1.0]}
    search = make_search(space=space, n_iter=9, random_state=0)
    with pytest.warns(UserWarning, match="no more than 3 different candidates"):
        results = search.fit(X, y).cv_results_
    full = [p["rate"] for p in results["params"] if p["max_epochs"] == 81]
    assert sorted(full) == [0.01, 0.1, 1.0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"resource": "epochs"}, r"'epochs' is no parameter of Learner.*'max_epochs'"),
        ({"resource": "rate"}, "'rate' cannot be the resource"),
        ({"estimator": SGDClassifier()}, "0 parameters called 'max_epochs'"),
        ({"estimator": Learner(max_epochs=None)}, "max_epochs is None"),
        ({"max_resources": 1.5}, "max_resources=1.5 must be whole numbers"),
        ({"max_resources": 9, "min_resources": 1.5}, "must be whole numbers"),
        ({"estimator": Learner(max_epochs=9.5)}, "min_resources must be given"),
        ({"estimator": Learner(max_epochs=True)}, "max_epochs is True"),
        ({"min_resources": 90}, "min_resources=90 must not be more than"),
    ],
)
def test_wrong_resources_are_told_before_anything_is_evaluated(settings, message):
    search = make_search(**settings)
    with pytest.raises(ValueError, match=message):
        search.check_budget()
    with pytest.raises(ValueError, match=message):
        search.fit(X, y)


def test_sizes_cannot_be_the_resource():
    search = IISSearchCV(
        Learner(),
        SPACE,
        search="hyperband",
        search_params={"resource": "max_epochs"},
        sizes=(9, 81),
        size_param="max_epochs",
        n_iter=4,
    )
    with pytest.raises(ValueError, match="'max_epochs' cannot be the resource"):
        search.fit(X, y)


@pytest.mark.parametrize(
    "settings", [{"factor": 1}, {"n_brackets": 0}, {"min_resources": 0}]
)
def test_bad_settings(settings):
    with pytest.raises(ValueError, match=f"The '{next(iter(settings))}' parameter"):
        make_search(**settings).fit(X, y)


def test_fits_that_cannot_go_on_are_fitted_again():
    Learner.fitted.clear()
    search = IISSearchCV(
        Learner(), SPACE, search="hyperband", n_iter=9, cv=SPLITS, random_state=0
    )
    with pytest.warns(FitFailedWarning):
        search.fit(X, y)
    rows = {(p["rate"], p["max_epochs"]): 2 for p in search.cv_results_["params"]}
    rows[search.best_params_["rate"], search.best_params_["max_epochs"]] += 1
    assert Learner.fitted == rows


def assert_scores_are_those_of_training_straight_through(search, X, y):
    results = search.cv_results_
    for i in np.flatnonzero(results["n_resources"] > results["n_resources"].min()):
        params = results["params"][i]
        for k, (train, test) in enumerate(search.cv):
            estimator = clone(search.estimator).set_params(**params)
            score = estimator.fit(X[train], y[train]).score(X[test], y[test])
            assert results[f"split{k}_test_score"][i] == score


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_cnn_goes_on(n_jobs, monkeypatch, tmp_path):
    """It trains each epoch of a candidate once, at each size and on each split."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    digits = load_digits()
    images, labels = digits.images[:200], digits.target[:200]
    epochs = []
    run_single_epoch = ImageClassifierNet.run_single_epoch

    def counting(net, *args, training, **kwargs):
        epochs.append(training)
        return run_single_epoch(net, *args, training=training, **kwargs)

    search = IISSearchCV(
        Pipeline(
            [
                ("resize", ImageResizer()),
                (
                    "cnn",
                    CNNClassifier(
                        n_filters=4, n_units=8, schedule="constant", random_state=0
                    ),
                ),
            ]
        ),
        {"cnn__learning_rate": loguniform(1e-3, 0.3), "cnn__batch_size": [32, 64]},
        sizes=(4, 8),
        n_iter=(3, 3),
        search="hyperband",
        search_params={"max_resources": 9, "n_brackets": 1},
        cv=list(ShuffleSplit(2, random_state=0).split(images)),
        refit=False,
        n_jobs=n_jobs,
        random_state=0,
    )
    with monkeypatch.context() as patch:
        patch.setattr(ImageClassifierNet, "run_single_epoch", counting)
        search.fit(images, labels)
    results = search.cv_results_
    if n_jobs == 1:
        longest = {}
        for stage, params in zip(results["stage"], results["params"], strict=True):
            key = (stage, params["cnn__learning_rate"])
            longest[key] = max(longest.get(key, 0), params["cnn__max_epochs"])
        assert sum(epochs) == 2 * sum(longest.values())
    assert_scores_are_those_of_training_straight_through(search, images, labels)
    assert list(tmp_path.glob("sklearn_iis-*")) == []


@pytest.mark.parametrize(
    "estimator",
    [
        RandomForestClassifier(n_estimators=9, random_state=0),
        ExtraTreesClassifier(n_estimators=9, bootstrap=True, random_state=0),
        GradientBoostingClassifier(n_estimators=9, subsample=0.5, random_state=0),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_ensembles_go_on(estimator, monkeypatch):
    grown = []
    fit = type(estimator).fit

    def counting(self, X, y):
        before = len(getattr(self, "estimators_", ()))
        fit(self, X, y)
        grown.append(len(self.estimators_) - before)
        return self

    search = IISSearchCV(
        estimator,
        {"max_depth": randint(1, 9), "max_features": uniform(0.3, 0.7)},
        search="hyperband",
        search_params={"resource": "n_estimators"},
        n_iter=9,
        cv=SPLITS,
        refit=False,
        random_state=0,
    )
    with monkeypatch.context() as patch:
        patch.setattr(type(estimator), "fit", counting)
        search.fit(X, y)
    largest = {}
    for params in search.cv_results_["params"]:
        key = (params["max_depth"], params["max_features"])
        largest[key] = max(largest.get(key, 0), params["n_estimators"])
    assert sum(grown) == 2 * sum(largest.values())
    assert_scores_are_those_of_training_straight_through(search, X, y)


def test_only_candidates_that_may_be_promoted_are_kept(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    kept = []

    class Spy(get_search("hyperband")):
        def _evaluate_rung(self, evaluate, candidates, n_resources, *, bracket):
            kept.append((n_resources, len(list(tmp_path.rglob("*.pickle")))))
            return super()._evaluate_rung(
                evaluate, candidates, n_resources, bracket=bracket
            )

    IISSearchCV(
        RandomForestClassifier(random_state=0),
        {"max_features": uniform(0.1, 0.9)},
        search=Spy,
        search_params={"resource": "n_estimators", "max_resources": 9},
        n_iter=9,
        cv=SPLITS,
        random_state=0,
    ).fit(X, y)
    # Two splits each; brackets of 9, 3 and 1, of 5 and 1, of 3 candidates.
    assert kept == [(1, 0), (3, 6), (9, 2), (3, 0), (9, 2), (9, 0), (9, 0)]


def test_candidates_are_promoted_by_their_best_score():
    """Each counts once, however often it was evaluated."""
    search = IISSearchCV(
        Learner(),
        {"rate": loguniform(1e-3, 1)},
        sizes=(1, 2),
        size_param="max_epochs",
        keep=0.5,
        margin=0,
        floor=0,
    )
    rates = [0.2, 0.3, 0.4, 0.4, 0.4]
    search.stages_ = [SimpleNamespace(candidates_=[{"rate": rate} for rate in rates])]
    results = {
        "mean_test_score": np.array([0.1, 0.2, 0.3, 0.5, 0.6]),
        "rank_test_score": np.array([5, 4, 3, 2, 1]),
        "error": np.full(5, None),
    }
    narrowed, promoted = search._promote(SearchSpace(search.space), results)
    assert promoted == [{"rate": 0.4}, {"rate": 0.3}]
    assert narrowed.dimensions["rate"].low == 0.3
    assert narrowed.dimensions["rate"].high == 0.4


def test_classes_of_a_script_go_on_in_other_processes():
    """They reach the workers by value, and cannot be imported there."""

    class Forest(RandomForestClassifier):
        def fit(self, X, y):
            self.begun_ = len(getattr(self, "estimators_", ()))
            return super().fit(X, y)

    search = IISSearchCV(
        Forest(random_state=0),
        {"max_features": uniform(0.1, 0.9)},
        search="hyperband",
        search_params={"resource": "n_estimators", "max_resources": 9},
        scoring={"score": score, "begun": lambda forest, X, y: forest.begun_},
        n_iter=4,
        cv=SPLITS,
        refit=False,
        n_jobs=2,
        random_state=0,
    ).fit(X, y)
    results = search.cv_results_
    promoted = (results["n_resources"] == 9) & (results["bracket"] == 1)
    assert results["mean_test_begun"][promoted].tolist() == [3]


@pytest.mark.filterwarnings("ignore:.*does not support callbacks:UserWarning")
def test_callbacks_of_scikit_learn_are_not_kept(monkeypatch, tmp_path):
    """They know of all evaluations, and may not be pickled at all."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    kept = []

    class Spy(get_search("hyperband")):
        def _evaluate_rung(self, evaluate, candidates, n_resources, *, bracket):
            for path in tmp_path.rglob("*.pickle"):
                kept.append(pickle.loads(path.read_bytes()))
            return super()._evaluate_rung(
                evaluate, candidates, n_resources, bracket=bracket
            )

    search = IISSearchCV(
        make_pipeline(StandardScaler(), RandomForestClassifier(random_state=0)),
        {"randomforestclassifier__max_features": uniform(0.1, 0.9)},
        search=Spy,
        search_params={
            "resource": "randomforestclassifier__n_estimators",
            "max_resources": 9,
        },
        n_iter=4,
        cv=SPLITS,
        random_state=0,
    )
    search.set_callbacks(Locked()).fit(X, y)
    assert kept
    for estimator in kept:
        assert not {"_skl_callbacks", "_parent_callback_ctx"} & set(vars(estimator))
