"""Constraints of a space, and of every search over one."""

import itertools

import numpy as np
import pytest
from scipy import stats
from sklearn.model_selection import RandomizedSearchCV

from sklearn_iis import IISSearchCV, SearchSpace
from sklearn_iis.searches import SEARCHES, Sampler
from sklearn_iis.testing import SPACE, FormulaClassifier, X, y
from sklearn_iis.testing._checks import ALTERNATIVES
from tests.searches.test_base import ONE_SPLIT

# Grids of small budgets tell of what they leave out.
pytestmark = pytest.mark.filterwarnings("ignore:.*which are not searched:UserWarning")


def is_odd(params):
    """A fifth of the candidates, and not the best one."""
    return params["degree"] != 3 and (params["rate"] > 0.02) == (params["kind"] == "a")


class Recorder(FormulaClassifier):
    """Notes what is trained."""

    trained: list = []

    def fit(self, X, y):
        self.trained.append(self.get_params())
        return super().fit(X, y)


class Backwards(Sampler):
    """Asks for candidates in an order, most of which are not allowed."""

    def __init__(self, space, *, random_state):
        self.candidates = iter(space.sample(5, random_state=random_state))
        self.told = []

    def ask(self):
        return next(self.candidates, None)

    def tell(self, candidate, score):
        self.told.append(score)


def make_search(space=SPACE, constraint=is_odd, **settings):
    settings = {"n_iter": 12, "cv": ONE_SPLIT, "random_state": 0} | settings
    return IISSearchCV(Recorder(), space, constraint=constraint, **settings)


@pytest.fixture
def trained(monkeypatch):
    trained: list = []
    monkeypatch.setattr(Recorder, "trained", trained)
    return trained


@pytest.mark.parametrize("search", [*SEARCHES, Backwards])
def test_what_is_not_allowed_is_not_trained_and_costs_nothing(search, trained):
    n_iter = {"grid": (60, 6)}.get(search, (12, 6))
    fitted = make_search(
        search=search, n_iter=n_iter, sizes=(1, 2), size_param="size"
    ).fit(X, y)
    assert trained
    assert all(map(is_odd, trained))
    counts = np.bincount(fitted.cv_results_["stage"])
    if search not in ("grid", "hyperband", "fabolas"):
        assert counts.tolist() == list(n_iter)
    assert fitted.cv_results_["promoted"][-counts[1] :].any() or search == "grid"


@pytest.mark.parametrize("search", SEARCHES)
def test_alternatives_have_a_constraint_of_their_own_hyperparameters(search, trained):
    def is_fine(params):
        if params["kind"] == "c":
            return params["degree"] == 12 and sum(params["widths"]) > 10
        return params.get("rate", 1) > 0.1

    n_iter = 90 if search == "grid" else 20
    make_search(ALTERNATIVES, is_fine, search=search, n_iter=n_iter).fit(X, y)
    assert trained
    for params in trained:
        if params["kind"] == "c":
            assert params["degree"] == 12


def test_a_grid_counts_what_is_allowed_only(trained):
    space = {"degree": list(range(1, 8)), "n_layers": list(range(1, 8))}
    search = make_search(
        space, lambda p: p["degree"] < p["n_layers"], search="grid", n_iter=21
    ).fit(X, y)
    expected = set(itertools.combinations(range(1, 8), 2))
    found = [(p["degree"], p["n_layers"]) for p in search.cv_results_["params"]]
    assert sorted(found) == sorted(expected)
    with pytest.raises(ValueError, match="n_iter=21 or more"):
        search.set_params(n_iter=20).fit(X, y)


def test_the_best_that_is_allowed_is_found_by_those_that_learn(trained):
    """TPE and Bayes are told of what is ruled out as of what has failed."""
    for search in ("tpe", "bayes", "smac"):
        fitted = make_search(search=search, n_iter=40).fit(X, y)
        # The optimum of the formula is not allowed; the best that is has about 0.7.
        assert fitted.best_score_ > -1, search


def test_another_call_resumes(tmp_path, trained):
    settings = {"storage": str(tmp_path / "journal.log"), "search": "tpe"}
    first = make_search(n_iter=6, **settings).fit(X, y).cv_results_["params"]
    trained.clear()
    results = make_search(n_iter=9, **settings).fit(X, y).cv_results_
    assert results["params"][:6] == first
    assert len(trained) == 3 + 1  # and the last fit
    with pytest.raises(ValueError, match=r"constraint was .*is_odd"):
        make_search(constraint=bool, **settings).fit(X, y)


def test_the_same_in_other_processes():
    """A function of the main program, or a lambda, need not be pickled by others."""
    constraint = lambda params: params["degree"] > 4  # noqa: E731
    searches = [make_search(constraint=constraint, n_jobs=n).fit(X, y) for n in (1, 2)]
    first, other = (search.cv_results_["params"] for search in searches)
    assert first == other


def test_partial_candidates_are_filled_with_what_is_allowed(trained):
    search = make_search(initial_candidates=[{"kind": "a"}, {"rate": 0.5}], n_iter=4)
    first, second, *_ = search.fit(X, y).cv_results_["params"]
    assert first["kind"] == second["kind"] == "a"
    assert all(map(is_odd, trained))


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"constraint": lambda p: False}, ValueError, "allows no candidate"),
        ({"constraint": lambda p: 1}, TypeError, "True or False, got 1 for {'rate'"),
        (
            {"constraint": lambda p: p["degree"] > 1, "space": {"degree": [1]}},
            ValueError,
            "allows no candidate",
        ),
        (
            {"initial_candidates": [{"degree": 3}]},
            ValueError,
            r"none of 10000 candidates with {'degree': 3}",
        ),
        (
            {
                "space": SearchSpace(SPACE, constraint=is_odd),
            },
            ValueError,
            "has a constraint already",
        ),
    ],
)
def test_what_is_wrong_is_told_at_once(settings, error, message, trained):
    with pytest.raises(error, match=message):
        make_search(**settings).fit(X, y)
    assert not trained


def test_an_error_of_the_constraint_tells_what_it_was_called_with():
    with pytest.raises(KeyError, match="depth") as caught:
        make_search(constraint=lambda params: params["depth"] > 1).fit(X, y)
    assert "called with {'rate'" in caught.value.__notes__[0]


def test_a_search_of_others_cannot_have_one():
    def search(estimator, space, *, initial_candidates, **settings):
        return RandomizedSearchCV(estimator, space.dimensions, **settings)

    with pytest.raises(ValueError, match="does not go with RandomizedSearchCV"):
        make_search(search=search).fit(X, y)


def test_what_is_drawn_is_what_is_allowed():
    space = SearchSpace({"degree": range(1000)}, constraint=lambda p: p["degree"] < 3)
    assert sorted(c["degree"] for c in space.sample(9, random_state=0)) == [0, 1, 2]
    narrowed = space.narrow([{"degree": 1}], margin=0, floor=0)
    assert narrowed.constraint is space.constraint
    rate = SearchSpace({"rate": stats.uniform()}, constraint=lambda p: p["rate"] > 2)
    assert rate.sample(1, random_state=0) == []


def test_a_grid_of_which_nothing_is_allowed_says_why():
    search = make_search(
        search="grid",
        space={"rate": stats.uniform()},
        n_iter=3,
        constraint=lambda params: params["rate"] < 0.01,
    )
    with pytest.raises(ValueError, match="evaluated no candidate, as the constraint"):
        search.fit(X, y)
