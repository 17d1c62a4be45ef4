"""Any search of scikit-learn's kind as a stage."""

import re

import numpy as np
import pytest
from optuna.pruners import ThresholdPruner
from scipy.stats import loguniform
from sklearn.datasets import load_iris
from sklearn.exceptions import FitFailedWarning
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    HalvingRandomSearchCV,
    RandomizedSearchCV,
)
from sklearn_genetic import GASearchCV
from sklearn_genetic.space import Continuous
from skopt import BayesSearchCV

from sklearn_iis import IISSearchCV, current_monitor
from sklearn_iis.testing import SPACE, FormulaClassifier, X, y
from tests.logging_search import FixedSearch, make_fixed, make_search, read_log, scores

SMALL = {"degree": [1, 2, 3], "kind": ["a", "b"]}


def randomized(estimator, space, *, n_iter, initial_candidates, **settings):
    return RandomizedSearchCV(estimator, space.dimensions, n_iter=n_iter, **settings)


def grid(estimator, space, *, n_iter, initial_candidates, random_state, **settings):
    levels = {
        name: list(range(dimension.low, dimension.high + 1))
        for name, dimension in space.dimensions.items()
    }
    return GridSearchCV(estimator, levels, **settings)


def fixed(*candidates, **settings):
    """Return what makes a search of candidates that are given."""

    def make(estimator, space, *, n_iter, initial_candidates, scoring, cv, **others):
        kept = {
            name: others[name] for name in ("n_jobs", "error_score") if name in others
        }
        return FixedSearch(estimator, list(candidates), scoring=scoring, cv=cv, **kept)

    return make


def make_iis(search, space=SPACE, *, estimator=None, **settings):
    return IISSearchCV(
        estimator or FormulaClassifier(),
        space,
        search=search,
        **{"n_iter": 12, "cv": 2, "random_state": 0} | settings,
    )


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_stages_of_scikit_learns_random_search(n_jobs):
    search = make_iis(randomized, sizes=(1, 2), size_param="size", n_jobs=n_jobs).fit(
        X, y
    )
    assert [type(stage) for stage in search.stages_] == [RandomizedSearchCV] * 2
    results = search.cv_results_
    assert np.bincount(results["stage"]).tolist() == [8, 4]
    for i, params in enumerate(results["params"]):
        stage = results["stage"][i]
        codes = search.stages_[stage].candidates_[i - 8 * stage]
        decoded = search.spaces_[stage].decode(codes)
        assert params == decoded | {"size": results["size"][i]}
        expected = FormulaClassifier(**params).score(X, y)
        assert results["mean_test_score"][i] == pytest.approx(expected)
    assert search.best_estimator_.get_params().items() >= search.best_params_.items()


def test_scikit_learns_grid_search():
    search = make_iis(grid, SMALL).fit(X, y)
    (stage,) = search.stages_
    assert type(stage) is GridSearchCV
    assert len(stage.candidates_) == 6
    pairs = {tuple(params.values()) for params in search.cv_results_["params"]}
    assert pairs == {(d, k) for d in (1, 2, 3) for k in "ab"}


def test_scores_equal_those_of_scikit_learn():
    X, y = load_iris(return_X_y=True)
    values = [0.01, 1.0, 100.0]
    reference = GridSearchCV(
        LogisticRegression(max_iter=500), {"C": values}, cv=3, return_train_score=True
    ).fit(X, y)
    search = make_iis(
        grid,
        {"C": values},
        estimator=LogisticRegression(max_iter=500),
        cv=3,
        return_train_score=True,
    ).fit(X, y)
    assert search.cv_results_["params"] == reference.cv_results_["params"]
    for key in ("mean_test_score", "std_test_score", "mean_train_score"):
        np.testing.assert_array_equal(
            search.cv_results_[key], reference.cv_results_[key]
        )
    assert search.best_params_ == reference.best_params_


def points(*degrees):
    return [{"degree": degree} for degree in degrees]


def test_a_search_is_told_all_results_so_far_in_codes():
    search = make_iis(
        fixed(points(2, 0), *points(1)), {"degree": [1, 3, 5]}, scoring=by_degree
    ).fit(X, y)
    first, second = search.stages_[0].evaluations_
    assert first["params"] == points(2, 0)
    assert second["params"] == points(2, 0, 1)
    assert second["mean_test_score"].tolist() == [5, 1, 3]
    assert search.cv_results_["params"] == points(5, 1, 3)


def by_degree(estimator, X, y):
    return float(estimator.degree)


class Columns(FixedSearch):
    """Gives results further columns."""

    def _run_search(self, evaluate_candidates):
        for rung, candidate in enumerate(self.candidates):
            evaluate_candidates([candidate], more_results={"rung": [rung]})


def test_further_columns_and_parameters():
    def make(estimator, space, *, cv, **settings):
        candidates = [{"degree": 2, "kind": 0, "max_epochs": n} for n in (3, 9)]
        return Columns(estimator, candidates, cv=cv)

    results = make_iis(make, SMALL).fit(X, y).cv_results_
    assert results["rung"].tolist() == [0, 1]
    assert results["param_max_epochs"].tolist() == [3, 9]
    scores = results["mean_test_score"]
    assert scores[1] - scores[0] == pytest.approx(1 / 3 - 1 / 9)


def test_codes_that_are_unknown_are_refused():
    with pytest.raises(ValueError, match=r"\['degre'\] are neither codes of"):
        make_iis(fixed({"degre": 1})).fit(X, y)


@pytest.mark.parametrize("order", [(0, 3), (3, 0)])
def test_failures_of_a_callable_with_several_metrics(order):
    def scoring(estimator, X, y):
        if estimator.degree == 1:
            raise RuntimeError("too low")
        return {"a": estimator.degree, "b": 0}

    space = {"degree": [1, 2, 3, 4]}
    search = make_iis(fixed(*points(*order)), space, scoring=scoring, refit="a")
    with pytest.warns(FitFailedWarning, match="1 of 2 candidates failed"):
        results = search.fit(X, y).cv_results_
    failed = order.index(0)
    assert search.stages_[0].multimetric_
    assert re.search("RuntimeError: too low", results["error"][failed])
    assert results["error"][1 - failed] is None
    for name, value in {"a": 4, "b": 0}.items():
        assert np.isnan(results[f"mean_test_{name}"][failed])
        assert results[f"mean_test_{name}"][1 - failed] == value


def test_failures_cost_themselves_only():
    search = make_iis(randomized, estimator=FormulaClassifier(fails_below=0.02))
    with pytest.warns(FitFailedWarning, match="no fit with the rate"):
        search.fit(X, y)
    rates = search.cv_results_["param_rate"].data.astype(float)
    np.testing.assert_array_equal(
        np.isnan(search.cv_results_["mean_test_score"]), rates < 0.02
    )
    search.set_params(estimator=FormulaClassifier(fails_below=2))
    with pytest.raises(ValueError, match=r"Every candidate failed(.|\n)*no fit"):
        search.fit(X, y)
    with pytest.raises(RuntimeError, match="no fit with the rate"):
        search.set_params(error_score="raise").fit(X, y)


# Storage, time, pruning


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_it_resumes_from_a_storage(n_jobs, tmp_path):
    settings = {
        "search": make_fixed,
        "storage": str(tmp_path / "run.journal"),
        "n_jobs": n_jobs,
    }
    first = make_search(tmp_path, **settings, n_iter=5).fit(X, y).cv_results_
    assert len(read_log(tmp_path / "log")) == 10
    again = make_search(tmp_path, **settings, n_iter=8).fit(X, y).cv_results_
    assert len(read_log(tmp_path / "log")) == 16
    assert scores(again)[:5] == scores(first)


def test_it_ends_in_time(tmp_path):
    """One that does not know of budgets, and is ended from within."""
    storage = str(tmp_path / "run.journal")
    expected = make_search(tmp_path, search=make_fixed).fit(X, y).cv_results_
    (tmp_path / "log").unlink()
    search = make_search(
        tmp_path, search=make_fixed, storage=storage, seconds=0.2, timeout=1.5
    )
    results = search.fit(X, y).cv_results_
    assert 0 < len(results["params"]) < 8
    assert scores(results) == scores(expected)[: len(results["params"])]


def test_what_takes_too_long_fails(tmp_path):
    search = make_search(
        tmp_path,
        {"seconds": [0.0, 0.5]},
        search=fixed({"seconds": 0}, {"seconds": 1}),
        trial_timeout=0.3,
    )
    with pytest.warns(FitFailedWarning, match="1 of 2 candidates failed"):
        results = search.fit(X, y).cv_results_
    assert results["error"][0] is None
    assert "more than trial_timeout=0.3" in results["error"][1]
    assert len(read_log(tmp_path / "log")) == 3


class Epochs(FormulaClassifier):
    """Tells the monitor its score of each epoch."""

    def fit(self, X, y):
        super().fit(X, y)
        self.n_epochs_ = 0
        monitor = current_monitor()
        for epoch in range(5):
            self.n_epochs_ += 1
            if monitor is not None and monitor.end_epoch(
                [{"epoch": i} for i in range(epoch + 1)], float(self.degree)
            ):
                break
        return self


def test_hopeless_candidates_are_pruned():
    search = make_iis(
        fixed(*points(0, 3)),
        {"degree": [1, 2, 3, 4]},
        estimator=Epochs(),
        scoring={"n_epochs": lambda estimator, X, y: estimator.n_epochs_},
        refit=False,
        pruner=ThresholdPruner(lower=2.5, n_warmup_steps=2),
    ).fit(X, y)
    results = search.cv_results_
    assert results["pruned"].tolist() == [True, False]
    assert results["mean_test_n_epochs"].tolist() == [2, 5]
    assert results["rank_test_n_epochs"].tolist() == [2, 1]


def test_an_interrupt_keeps_what_is_finished(tmp_path):
    search = make_search(tmp_path, search=make_fixed, interrupt_at=8)
    with pytest.raises(KeyboardInterrupt):
        search.fit(X, y)
    assert len(search.cv_results_["params"]) == 3
    assert len(search.stages_[0].candidates_) == 3


# What cannot be a stage


def halving(estimator, space, *, n_iter, initial_candidates, **settings):
    return HalvingRandomSearchCV(
        estimator, space.dimensions, n_candidates=n_iter, **settings
    )


def genetic(estimator, space, *, n_iter, scoring, cv, **settings):
    ranges = {"C": Continuous(0.1, 1.0), "tol": Continuous(1e-4, 1e-3)}
    return GASearchCV(estimator, param_grid=ranges, scoring=scoring, cv=cv)


def bayes(estimator, space, *, n_iter, scoring, cv, **settings):
    return BayesSearchCV(estimator, {"C": (0.1, 1.0)}, scoring=scoring, cv=cv)


class Plain(FixedSearch):
    """A search of one's own whose `fit` takes nothing but the data."""

    def fit(self, X, y=None):
        return super().fit(X, y)


def plain(estimator, space, *, cv, **settings):
    return Plain(estimator, [], cv=cv)


@pytest.mark.parametrize(
    ("search", "name", "instead"),
    [
        (halving, "HalvingRandomSearchCV", 'search="hyperband"'),
        (genetic, "GASearchCV", 'search="genetic"'),
        (bayes, "BayesSearchCV", 'search="bayes"'),
        (plain, "Plain", r"sklearn_iis\.searches\.Search"),
    ],
)
def test_searches_with_a_fit_of_their_own_are_refused(search, name, instead):
    with pytest.raises(TypeError, match=f"{name} overrides fit.* use {instead}"):
        make_iis(search, {"C": loguniform(0.1, 1)}, estimator=LogisticRegression()).fit(
            X, y
        )


@pytest.mark.parametrize("result", [None, LogisticRegression()])
def test_what_is_no_search_is_refused(result):
    with pytest.raises(TypeError, match="must return a search of scikit-learn's kind"):
        make_iis(lambda *args, **settings: result).fit(X, y)


class OwnSplits(FixedSearch):
    def _run_search(self, evaluate_candidates):
        evaluate_candidates(points(0), cv=[(np.arange(5), np.arange(5, 10))])


def test_splits_of_its_own_are_refused():
    def make(estimator, space, *, cv, **settings):
        return OwnSplits(estimator, [], cv=cv)

    with pytest.raises(TypeError, match="OwnSplits evaluates on splits of its own"):
        make_iis(make).fit(X, y)


def test_a_search_without_candidates_is_an_error():
    with pytest.raises(ValueError, match="FixedSearch proposed no candidate"):
        make_iis(fixed([])).fit(X, y)
