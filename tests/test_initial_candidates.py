"""Candidates of the user's own, which are evaluated first."""

import numpy as np
import pytest
from scipy import stats
from sklearn.model_selection import RandomizedSearchCV

from sklearn_iis import IISSearchCV, OnlyIf, PerLayer, SearchSpace
from sklearn_iis.searches import SEARCHES, StageRandomizedSearchCV
from sklearn_iis.testing import SPACE, FormulaClassifier, X, y
from tests.searches.test_base import ONE_SPLIT

OWN = [
    {"rate": 0.02, "degree": 4, "kind": "a", "n_layers": 2, "widths": (3, 7)},
    {"kind": "b", "rate": 0.5},
]

# Grids of small budgets tell of what they leave out.
pytestmark = pytest.mark.filterwarnings("ignore:.*which are not searched:UserWarning")


def make_search(space=SPACE, initial=OWN, **settings):
    settings = {"n_iter": 12, "cv": ONE_SPLIT, "random_state": 0} | settings
    return IISSearchCV(
        FormulaClassifier(), space, initial_candidates=initial, **settings
    )


def is_like(params, written):
    return all(
        params[name] == pytest.approx(value)
        if isinstance(value, float)
        else params[name] == value
        for name, value in written.items()
    )


def random_search(estimator, space, **settings):
    return StageRandomizedSearchCV(estimator, space, **settings)


@pytest.mark.parametrize("search", [*SEARCHES, random_search])
def test_they_come_first_and_are_part_of_the_budget(search):
    n_iter = {"grid": (12, 3)}.get(search, (6, 3))
    fitted = make_search(
        search=search, n_iter=n_iter, sizes=(1, 2), size_param="size"
    ).fit(X, y)
    results = fitted.cv_results_
    rows = np.flatnonzero(results["stage"] == 0)
    if search not in ("hyperband", "fabolas"):  # whose budgets are costs
        assert len(rows) <= n_iter[0]
    for row, written in zip(rows, OWN, strict=False):
        assert is_like(results["params"][row], written)
    # They come from no stage before.
    assert not results["promoted"][rows].any()
    space = SearchSpace(SPACE)
    for codes in fitted.stages_[0].candidates_:
        assert space.project(codes) == pytest.approx(codes)


@pytest.mark.parametrize("search", [*SEARCHES, random_search])
@pytest.mark.parametrize("storage", [None, "journal.log"])
def test_their_values_are_those_that_were_written(search, storage, tmp_path):
    """Also at the very limit of a constraint, and in the stages after the first."""

    def is_allowed(params):
        return params["rate"] <= 0.1 and params["widths"][0] <= 0.7

    widths = PerLayer(stats.uniform(0.1, 0.9), "n_layers")
    space = {"rate": stats.loguniform(1e-4, 1), "n_layers": [1, 2], "widths": widths}
    written = {"rate": 0.1, "n_layers": 2, "widths": (0.7, 0.3)}
    codes = SearchSpace(space).encode(written)
    plain = {name: float(code) for name, code in codes.items()}
    assert SearchSpace(space).decode(plain) != written
    fitted = make_search(
        space,
        [written],
        search=search,
        constraint=is_allowed,
        sizes=(1, 2),
        size_param="size",
        n_iter=(6, 6),
        n_promoted=6,
        keep=1.0,
        storage=storage and str(tmp_path / storage),
    ).fit(X, y)
    results = fitted.cv_results_
    for stage in (0, 1) if search not in ("smac", "fabolas") else (0,):
        params = [
            {name: p[name] for name in written}
            for p, at in zip(results["params"], results["stage"], strict=True)
            if at == stage
        ]
        assert written in params
    assert results["params"][0]["rate"] == 0.1


def test_what_is_missing_is_drawn_by_the_random_state():
    def find(random_state):
        search = make_search(n_iter=2, random_state=random_state).fit(X, y)
        return search.cv_results_["params"]

    assert find(0) == find(0)
    assert find(0)[0] == find(1)[0]
    assert find(0)[1] != find(1)[1]
    others = make_search(initial=[{"kind": "b"}], n_iter=2).fit(X, y)
    first, second = others.cv_results_["params"]
    # Nor is it what the search draws.
    assert first["rate"] != second["rate"]


def test_another_call_fills_them_alike(tmp_path):
    """Also without a random state, which the storage keeps."""
    settings = {"storage": str(tmp_path / "journal.log"), "random_state": None}
    first, again = (make_search(**settings).fit(X, y).cv_results_ for _ in range(2))
    assert again["params"] == first["params"]
    np.testing.assert_array_equal(again["mean_fit_time"], first["mean_fit_time"])
    with pytest.raises(ValueError, match="initial_candidates was"):
        make_search(initial=OWN[:1], **settings).fit(X, y)


SPACES = [
    {
        "kind": ["a", "b"],
        "rate": OnlyIf(stats.loguniform(1e-4, 1), "kind", ["b"]),
        "degree": stats.randint(1, 8),
    },
    {
        "kind": ["c"],
        "n_layers": [1, 2, 3],
        "widths": PerLayer(stats.randint(2, 12), "n_layers"),
    },
]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ({}, {}),
        ({"rate": 0.1}, {"kind": "b"}),
        ({"widths": (3, 3)}, {"kind": "c", "n_layers": 2}),
        ({"kind": "c"}, {}),
        ({"degree": 3}, {}),
    ],
)
def test_what_a_hyperparameter_depends_on_is_filled_to_match(written, expected):
    for random_state in range(5):
        search = make_search(SPACES, [written], n_iter=1, random_state=random_state)
        (params,) = search.fit(X, y).cv_results_["params"]
        assert is_like(params, written | expected)


@pytest.mark.parametrize(
    ("initial", "error", "message"),
    [
        ([OWN[0], {"rat": 1}], ValueError, r"initial_candidates\[1\]: .*'rat'.*'rate'"),
        ([{"rate": 2.0}], ValueError, r"\[0\]: rate: 2.0 lies outside \[0.0001, 1\]"),
        ([{"rate": "x"}], ValueError, "rate: 'x' is no number"),
        ([{"kind": "d"}], ValueError, r"kind: 'd' is none of \('a', 'b', 'c'\)"),
        ([{"widths": (3, 3, 3, 3)}], ValueError, "widths: .*has more than 3 values"),
        ([{"widths": 3}], ValueError, "widths: expected a tuple .*, got 3"),
        ([{"n_layers": 1, "widths": (3, 3)}], ValueError, "does not go with the other"),
        ([{"n_layers": 3, "widths": (3, 30, 3)}], ValueError, "widths: 30 is none of"),
        ([3], TypeError, r"initial_candidates\[0\] must be a dict .* got 3"),
        ([{"degree": i % 8} for i in range(1, 4)] * 5, ValueError, "has 15 .* is 12"),
    ],
)
def test_what_is_wrong_is_told_at_once(initial, error, message):
    search = make_search(initial=initial)
    with pytest.raises(error, match=message):
        search.fit(X, y)
    assert not hasattr(search, "cv_results_")


def test_conditions_that_do_not_hold_are_told():
    with pytest.raises(ValueError, match=r"space\[0\]: rate=0.1.* space\[1\]: kind"):
        make_search(SPACES, [{"kind": "a", "rate": 0.1}]).fit(X, y)
    narrowed = SearchSpace(SPACE).narrow([{"rate": 0.5}], margin=0)
    with pytest.raises(ValueError, match="lies outside the range"):
        make_search(narrowed, [{"rate": 0.9}]).fit(X, y)


def test_a_search_of_others_that_ignores_them_is_told():
    def deaf(estimator, space, *, initial_candidates, **settings):
        return RandomizedSearchCV(estimator, space.dimensions, **settings)

    message = "RandomizedSearchCV has not evaluated 2 of 2 initial_candidates"
    with pytest.warns(UserWarning, match=message):
        make_search(search=deaf).fit(X, y)
    # Also if something ends the stage before its search does.
    with pytest.warns(UserWarning, match=message):
        early = make_search(search=deaf, patience=1, n_iter=200).fit(X, y)
    assert len(early.cv_results_["params"]) < 200
    with pytest.warns(UserWarning, match=message):
        late = make_search(search=deaf, timeout=1, n_iter=100_000).fit(X, y)
    assert len(late.cv_results_["params"]) < 100_000


def test_a_grid_needs_a_budget_for_them_too():
    space = {"degree": [1, 2, 3], "rate": stats.loguniform(1e-4, 1)}
    # The first one decides which rate the grid holds, so that it is on it.
    initial = [{"degree": 1, "rate": 0.3}, {"degree": 1, "rate": 0.4}]
    with pytest.raises(ValueError, match="n_iter=4 or more"):
        make_search(space, initial, search="grid", n_iter=3).fit(X, y)
    fitted = make_search(space, initial, search="grid", n_iter=4).fit(X, y)
    assert len(fitted.cv_results_["params"]) == 4
