"""The best candidates of an earlier search."""

import numpy as np
import pytest
from scipy import stats
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import RandomizedSearchCV

from sklearn_iis import IISSearchCV, OnlyIf, PerLayer, SearchSpace, best_candidates
from sklearn_iis.testing import SPACE, FormulaClassifier, X, y
from tests.searches.test_base import ONE_SPLIT


@pytest.fixture(scope="module")
def search():
    with pytest.warns(FitFailedWarning):
        return IISSearchCV(
            FormulaClassifier(fails_below=0.005),
            SPACE,
            sizes=(1, 2),
            size_param="size",
            n_iter=(20, 8),
            cv=ONE_SPLIT,
            error_score=100,
            random_state=0,
        ).fit(X, y)


def score(params):
    return FormulaClassifier(**params).score(X, y)


def test_they_are_the_best_ones_each_once_without_what_stages_set(search):
    best = best_candidates(search, 8)
    assert len(best) == 8
    assert best[0].items() <= search.best_params_.items()
    for params in best:
        assert params.keys() == SPACE.keys()
        assert params["rate"] >= 0.005
    scores = [score(params) for params in best]
    # Sizes differ by a thousandth.
    assert np.diff(scores).max() <= 0.001 + 1e-9
    assert len(set(map(repr, best))) == 8
    n_usable = sum(error is None for error in search.cv_results_["error"])
    assert len(best_candidates(search, 100)) <= n_usable


def test_another_search_begins_with_them(search):
    best = best_candidates(search, 3)
    second = IISSearchCV(
        FormulaClassifier(),
        SPACE,
        search="tpe",
        initial_candidates=best,
        n_iter=4,
        cv=ONE_SPLIT,
        random_state=1,
    ).fit(X, y)
    for params, expected in zip(second.cv_results_["params"], best, strict=False):
        assert params["widths"] == expected["widths"]
        assert params["rate"] == pytest.approx(expected["rate"])


def test_they_fit_another_space(search):
    """Hyperparameters that it lacks are left out, and so is a value outside."""
    space = {
        "rate": stats.loguniform(0.01, 0.02),
        "kind": ["b", "c"],
        "tol": stats.uniform(),
    }
    whole = best_candidates(search, 100)
    found = best_candidates(search, 100, space=space)
    expected = []
    for params in whole:
        own = {"rate": params["rate"]} if 0.01 <= params["rate"] <= 0.02 else {}
        own |= {"kind": params["kind"]} if params["kind"] != "a" else {}
        if own and own not in expected:
            expected.append(own)
    assert found == expected


def test_they_fit_conditions_and_alternatives():
    results = {
        "params": [{"kind": "a", "rate": 0.1, "widths": (3, 3)}],
        "mean_test_score": [1.0],
    }
    space = [
        {"kind": ["a", "b"], "rate": OnlyIf(stats.uniform(), "kind", ["b"])},
        {"n_layers": [1, 2], "widths": PerLayer(stats.randint(1, 5), "n_layers")},
    ]
    assert best_candidates(results, space=space) == [{"kind": "a"}]
    assert best_candidates(results, space=space[1]) == [{"widths": (3, 3)}]
    assert best_candidates(results, space={"degree": [1, 2]}) == []


def test_what_the_constraint_rules_out_is_left_out(search):
    space = SearchSpace(SPACE, constraint=lambda params: params["degree"] > 4)
    found = best_candidates(search, 100, space=space)
    whole = best_candidates(search, 100)
    assert found == [params for params in whole if params["degree"] > 4]
    assert len(found) < len(whole)


@pytest.mark.parametrize("refit", ["low", "high"])
def test_a_search_of_scikit_learn_and_its_metric(refit):
    scoring = {"low": lambda e, X, y: -e.degree, "high": lambda e, X, y: e.degree}
    search = RandomizedSearchCV(
        FormulaClassifier(),
        {"degree": list(range(1, 8))},
        n_iter=7,
        cv=ONE_SPLIT,
        scoring=scoring,
        refit=refit,
    ).fit(X, y)
    expected = {"low": [1, 2], "high": [7, 6]}
    for metric in (None, "low", "high"):
        found = best_candidates(search, 2, metric=metric)
        degrees = [params["degree"] for params in found]
        assert degrees == expected[metric or refit]
    single = search.set_params(scoring=scoring["low"], refit=True).fit(X, y)
    assert best_candidates(single.cv_results_, 1) == [{"degree": 1}]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_candidates": 0}, "n_candidates must be a whole number > 0, got 0"),
        ({"metric": "f1"}, r"no metric 'f1', the metrics are \['score'\]"),
    ],
)
def test_what_is_wrong_is_told(settings, message, search):
    with pytest.raises(ValueError, match=message):
        best_candidates(search, **settings)
    with pytest.raises(ValueError, match=r"must be fitted, .* got FormulaClassifier"):
        best_candidates(FormulaClassifier())
