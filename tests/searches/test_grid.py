import warnings
from collections import Counter
from itertools import islice, product

import numpy as np
import pytest
from scipy import stats
from sklearn.model_selection import GridSearchCV, ParameterGrid

from sklearn_iis import IISSearchCV, OnlyIf, PerLayer, Rounded, SearchSpace
from sklearn_iis.searches import StageGridSearchCV
from sklearn_iis.searches._grid import _Levels
from sklearn_iis.testing import FormulaClassifier, X, y
from tests.searches.test_base import ONE_SPLIT, make_search

RATE = {"rate": stats.loguniform(1e-4, 1)}
PLAIN = {**RATE, "degree": stats.randint(1, 8), "kind": ["a", "b", "c"]}
LAYERS = {"n_layers": [1, 2, 3], "widths": PerLayer(stats.randint(2, 12), "n_layers")}


def make_grid(space, **settings):
    return make_search("grid", space, **settings)


def fit_silently(search):
    """Fit a search that tells that some hyperparameters are held."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*are not searched", UserWarning)
        return search.fit(X, y)


def levels_of(search):
    """The codes of each dimension, in their order."""
    codes = search.candidates_
    names = search.space.dimensions
    return {name: sorted({c[name] for c in codes if name in c}) for name in names}


def test_it_is_a_grid_search():
    search = make_grid(PLAIN).fit(X, y)
    assert isinstance(search, GridSearchCV)
    assert isinstance(search, StageGridSearchCV)


def test_levels_are_the_middles_of_equal_cells():
    search = make_grid(PLAIN, n_iter=50, n_levels=4).fit(X, y)
    levels = levels_of(search)
    np.testing.assert_allclose(levels["rate"], [1 / 8, 3 / 8, 5 / 8, 7 / 8])
    assert levels["degree"] == [0, 2, 4, 6]
    assert levels["kind"] == [0, 1, 2]
    assert len(search.candidates_) == 4 * 4 * 3


@pytest.mark.parametrize("n_values", range(2, 12))
def test_levels_of_discrete_hyperparameters_are_distinct_and_symmetric(n_values):
    for n in range(1, n_values + 1):
        search = make_grid({"degree": stats.randint(1, n_values + 1)}, n_iter=n)
        (levels,) = (grid["degree"] for grid in search.param_grid)
        assert len(set(levels)) == n
        assert set(levels) <= set(range(n_values))
        # What the lower one of two middles is, is the upper one from the other end.
        mirrored = [n_values - 1 - level for level in reversed(levels)]
        assert max(np.subtract(mirrored, levels)) <= 1
        gaps = np.diff([-1 - levels[0], *levels])
        assert gaps.max() <= -(-n_values // n) + 1


def test_levels_of_a_distribution_without_bounds_are_quantiles():
    search = make_grid({"rate": stats.norm(0.5, 0.01)}, n_iter=3).fit(X, y)
    rates = [params["rate"] for params in search.cv_results_["params"]]
    expected = stats.norm(0.5, 0.01).ppf([1 / 6, 1 / 2, 5 / 6])
    np.testing.assert_allclose(rates, expected)


def test_levels_follow_a_narrowed_range():
    whole = SearchSpace(PLAIN)
    good = {"rate": 0.5, "degree": 3, "kind": 1}
    space = whole.narrow([good], margin=0.1, floor=0)
    search = make_grid(space, n_iter=100, n_levels=2).fit(X, y)
    np.testing.assert_allclose(levels_of(search)["rate"], [0.45, 0.55])
    # The values 2, 3 and 4 are there, and the cells are [2, 3.5) and [3.5, 5).
    assert levels_of(search)["degree"] == [2, 4]


def test_fewer_levels_where_there_are_fewer_values():
    space = {**RATE, "degree": [1, 2]}
    search = make_grid(space, n_iter=50, n_levels=5).fit(X, y)
    assert [len(levels) for levels in levels_of(search).values()] == [5, 2]


def test_number_of_levels_by_name():
    space = SearchSpace({**RATE, **LAYERS})
    n_levels = {"rate": 2, "n_layers": 3, "widths": 2, "widths[0]": 4}
    search = make_grid(space, n_iter=500, n_levels=n_levels).fit(X, y)
    counts = {name: len(levels) for name, levels in levels_of(search).items()}
    expected = {"rate": 2, "n_layers": 3, "widths[0]": 4}
    assert counts == expected | {"widths[1]": 2, "widths[2]": 2}
    # The others get as many as fit, 7 * 5 * 3 would be one too many.
    search = make_grid(PLAIN, n_iter=104, n_levels={"rate": 5}).fit(X, y)
    assert [len(levels) for levels in levels_of(search).values()] == [5, 6, 3]


@pytest.mark.parametrize(
    ("n_iter", "expected"),
    [
        (12, [2, 2, 3]),
        (17, [2, 2, 3]),
        (18, [3, 2, 3]),
        (26, [3, 2, 3]),
        (27, [3, 3, 3]),
        (84, [5, 5, 3]),
        (1000, [47, 7, 3]),
    ],
)
def test_the_finest_grid_that_fits(n_iter, expected):
    search = make_grid(PLAIN, n_iter=n_iter).fit(X, y)
    assert [len(levels) for levels in levels_of(search).values()] == expected
    assert len(search.candidates_) == np.prod(expected)


LISTS = {"degree": [1, 2, 3, 4, 5], "kind": ["a", "b", "c"], "n_layers": [1, 2, 3]}


def make_stages(space=LISTS, **settings):
    settings = {"search": "grid", "cv": ONE_SPLIT, "random_state": 0} | settings
    return IISSearchCV(FormulaClassifier(), space, **settings)


def test_all_values_of_lists_are_levels():
    """Also beside a distribution, and beside another list that has fewer levels."""
    search = make_stages({**LISTS, "rate": stats.loguniform(1e-4, 1)}, n_iter=100)
    levels = levels_of(search.fit(X, y).stages_[0])
    counts = {name: len(codes) for name, codes in levels.items()}
    assert counts == {"degree": 5, "kind": 3, "n_layers": 3, "rate": 2}
    search = make_stages(n_iter=30, search_params={"n_levels": {"degree": 2}})
    levels = levels_of(search.fit(X, y).stages_[0])
    assert [len(codes) for codes in levels.values()] == [2, 3, 3]


@pytest.mark.parametrize("space", [LISTS, [LISTS, {"kind": ["a"], "n_layers": [1]}]])
def test_a_list_that_does_not_fit_is_an_error_with_the_budget_that_is_needed(space):
    n_values = 45 + (len(space) == 2)
    message = rf"all values of .*'degree'.*n_iter={n_values} or more .* n_levels"
    with pytest.raises(ValueError, match=message):
        make_stages(space, n_iter=n_values - 1).fit(X, y)
    search = make_stages(space, n_iter=n_values).fit(X, y)
    assert len(search.cv_results_["params"]) == n_values


@pytest.mark.filterwarnings("ignore:.*which are not searched:UserWarning")
def test_by_default_the_first_stage_has_a_budget_for_all_values_of_lists():
    space = LISTS | {"max_epochs": [1, 2, 3]}
    search = make_stages(space, sizes=(1, 2), size_param="size", keep=0.1).fit(X, y)
    assert np.bincount(search.cv_results_["stage"])[0] == 135
    # 60 if they need no more.
    assert len(make_stages(RATE).fit(X, y).cv_results_["params"]) == 60


def test_values_of_lists_that_a_later_stage_leaves_out_are_told():
    search = make_stages(
        sizes=(1, 2), size_param="size", n_iter=(45, 15), size_dependent=["degree"]
    )
    with pytest.warns(UserWarning, match=r"n_iter=15 leaves out .* \['degree'"):
        search.fit(X, y)
    assert len(levels_of(search.stages_[1])["degree"]) < 5


def test_every_candidate_with_its_own_layers_once():
    search = make_grid(LAYERS, n_iter=14, n_levels=2)
    assert search.n_evaluations == 2 + 2 * 2 * 2  # depths 1 and 3
    search = make_grid(LAYERS, n_iter=14, n_levels={"n_layers": 3, "widths": 2})
    codes = search.fit(X, y).candidates_
    assert search.n_evaluations == len(codes) == 2 + 4 + 8
    found = [tuple(c.values()) for c in codes]
    expected = [
        (depth, *widths)
        for depth in range(3)
        for widths in product((2, 7), repeat=depth + 1)
    ]
    assert sorted(found) == sorted(expected)


def test_two_depths():
    space = {
        **LAYERS,
        "degree": [1, 2],
        "size": [1, 2],
        "rate": stats.loguniform(0.1, 1),
    }
    dense = SearchSpace({**space, "kind": PerLayer(["a", "b"], depth="degree")})
    search = make_grid(dense, n_iter=500, n_levels={"widths": 2, "rate": 1})
    # (2 + 4 + 8) networks, (2 + 4) tuples of kinds, 2 sizes
    assert search.n_evaluations == 14 * 6 * 2
    points = [
        tuple(codes.items()) for grid in search.param_grid for codes in _points(grid)
    ]
    assert len(set(points)) == len(points) == search.n_evaluations


def _points(grid):
    return [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]


def test_a_depth_of_one_value_is_no_dimension():
    space = {"n_layers": [2], "widths": PerLayer(stats.randint(2, 12), "n_layers")}
    search = make_grid(space, n_iter=9).fit(X, y)
    assert [len(levels) for levels in levels_of(search).values()] == [3, 3]


def test_what_the_budget_does_not_allow_is_held_with_a_warning():
    search = make_grid({**PLAIN, **LAYERS}, n_iter=4)
    with pytest.warns(UserWarning, match=r"n_iter=4 .* \['kind', 'n_layers', 'widt"):
        search.fit(X, y)
    levels = levels_of(search)
    assert [len(levels[name]) for name in ("rate", "degree")] == [2, 2]
    middle = search.space.complete({})
    for name in ("kind", "n_layers", "widths[0]", "widths[1]"):
        assert levels[name] == [middle[name]]


def test_what_is_held_has_the_value_of_the_first_initial_candidate():
    space = SearchSpace({**PLAIN, **LAYERS})
    best = {"rate": 0.3, "degree": 6, "kind": 2, "n_layers": 0, "widths[0]": 9}
    other = space.sample(1, random_state=0)
    search = fit_silently(make_grid(space, n_iter=6, initial_candidates=[best, *other]))
    candidates = search.candidates_
    assert candidates[:2] == [best, *other]
    assert len(candidates) == 6
    for codes in candidates[2:]:
        held = {name: codes[name] for name in ("kind", "n_layers", "widths[0]")}
        assert held.items() <= best.items()


def test_nothing_fits_but_the_first_initial_candidate():
    initial = SearchSpace(PLAIN).sample(3, random_state=0)
    search = fit_silently(make_grid(PLAIN, n_iter=3, initial_candidates=initial))
    assert search.candidates_ == initial
    search = fit_silently(make_grid(PLAIN, n_iter=2, initial_candidates=initial))
    assert search.candidates_ == initial[:2]


def test_what_is_asked_to_be_held_is_held_without_a_warning():
    search = make_grid(PLAIN, n_iter=6, n_levels={"degree": 1}).fit(X, y)
    assert [len(levels) for levels in levels_of(search).values()] == [2, 1, 3]
    assert levels_of(search)["degree"] == [3]


def test_initial_candidates_on_the_grid_cost_nothing():
    space = {"degree": [1, 2, 3], "kind": ["a", "b"]}
    initial = SearchSpace(space).sample(2, random_state=0)
    search = make_grid(space, n_iter=6, initial_candidates=initial, n_levels=3).fit(
        X, y
    )
    assert search.candidates_[:2] == initial
    assert len(search.candidates_) == 6


def test_a_grid_too_large_is_an_error():
    message = r"n_levels=3 makes a grid of 27 candidates and .*n_iter=26: raise it"
    search = make_grid(PLAIN, n_iter=26, n_levels=3)
    with pytest.raises(ValueError, match=message):
        search.check_budget()
    with pytest.raises(ValueError, match=message):
        search.fit(X, y)
    assert not hasattr(search, "cv_results_")


def test_where_the_grid_takes_the_budget_the_last_initial_candidates_go():
    grid = make_grid(PLAIN, n_iter=27, n_levels=3).fit(X, y).candidates_
    others = SearchSpace(PLAIN).sample(2, random_state=0)
    initial = [others[0], grid[5], others[1]]
    for n_iter, first in ((27, [grid[5]]), (28, initial[:2]), (29, initial)):
        search = make_grid(
            PLAIN, n_iter=n_iter, n_levels=3, initial_candidates=initial
        ).fit(X, y)
        candidates = search.candidates_
        assert len(candidates) == n_iter
        assert candidates[: len(first)] == first
        assert all(codes in candidates for codes in grid)


def test_a_huge_grid_is_not_made_to_be_refused():
    space = {f"x{i}": stats.uniform() for i in range(60)}
    with pytest.raises(ValueError, match=f"a grid of {10**60} candidates"):
        make_grid(space, n_levels=10).check_budget()


def test_a_huge_grid_is_planned_at_once_and_made_as_it_is_needed():
    initial = [{"rate": 0.25}, {"rate": 0.5}]
    search = make_grid(RATE, n_iter=2_000_001, initial_candidates=initial)
    batches = []
    search.check_budget()
    search.run(lambda c: batches.append(list(islice(c, 4))), None)
    width = 1 / 1_999_999
    ((first, second, *rest),) = batches
    assert [first, second] == initial
    np.testing.assert_allclose(
        [codes["rate"] for codes in rest], [width / 2, width * 1.5]
    )
    assert search.n_evaluations == 2_000_000


class Powers:
    """Whole numbers with gaps."""

    def rvs(self, random_state):
        return 2 ** int(random_state.randint(9))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (Rounded(stats.loguniform(1, 10)), range(1, 11)),
        (Rounded(stats.beta(2, 9), step=0.1), np.arange(11) / 10),
        (Rounded(stats.expon(scale=2)), range(28)),
        (Powers(), [2**i for i in range(9)]),
    ],
)
def test_levels_of_rounded_values_are_as_many_as_the_budget_allows(values, expected):
    """Middles of several cells may be rounded to the same, or to what is no value."""
    for n in range(1, len(expected) + 2):
        search = make_grid({"rate": values}, n_iter=n)
        n_levels = min(n, len(expected))
        assert search.n_evaluations == n_levels
        (levels,) = (grid["rate"] for grid in search.param_grid)
        (dimension,) = search.space.dimensions.values()
        rates = [dimension.decode(code) for code in levels]
        assert len(set(rates)) == n_levels
        assert set(rates) <= set(expected)
        assert rates == sorted(rates)
        assert [*map(dimension.snap, levels)] == [*levels]
    assert rates == [*expected]


def test_levels_of_rounded_values_are_next_to_the_middles_of_equal_cells():
    values = Rounded(stats.loguniform(1, 1000))
    search = make_grid({"rate": values}, n_iter=5).fit(X, y)
    rates = [params["rate"] for params in search.cv_results_["params"]]
    assert rates == [2, 8, 32, 126, 501]
    # From either side of where each cell has a value of its own.
    search = make_grid({"rate": values}, n_iter=20)
    (levels,) = (grid["rate"] for grid in search.param_grid)
    rates = [search.space.decode({"rate": code})["rate"] for code in levels]
    ideal = 1000 ** ((np.arange(20) + 0.5) / 20)
    assert rates[:6] == [1, 2, 3, 4, 5, 7]
    np.testing.assert_allclose(rates[6:], ideal[6:], atol=0.5)


def test_a_rounded_value_that_is_held_is_a_value():
    space = {"rate": Rounded(stats.loguniform(1, 10)), "degree": [1, 2, 3]}
    middle = SearchSpace(space).encode({"rate": 3, "degree": 2})
    search = make_grid(space, n_iter=3, initial_candidates=[middle])
    candidates = fit_silently(search).candidates_
    assert len(candidates) == search.n_evaluations == 3
    assert {codes["rate"] for codes in candidates} == {middle["rate"]}


def test_a_constraint_is_asked_no_more_often_than_it_takes_to_plan():
    asked = []

    def is_allowed(params):
        asked.append(params)
        return params["a"] < params["b"] < params["c"]

    space = {name: stats.loguniform(1e-4, 1) for name in "abc"}
    space = SearchSpace(space, constraint=is_allowed)
    search = make_grid(space, n_iter=60)
    search.check_budget()
    assert search.n_evaluations == 56  # 8 of 3, and those of 9 of 3 are 84
    # That a grid is too large is known as soon as 61 are allowed.
    assert len(asked) < 5000
    assert all(type(params["a"]) is float for params in asked)


@pytest.mark.parametrize(
    "space",
    [
        {"x": stats.uniform()},
        {"x": list(range(37))},
        {"x": Rounded(stats.uniform(-0.4, 36.8))},
        {"x": Rounded(stats.loguniform(1, 37))},
    ],
)
@pytest.mark.parametrize("n", [1, 2, 5, 36, 37, 1000])
def test_what_is_on_a_grid(space, n):
    """Without looking through all levels."""
    (dimension,) = SearchSpace(space).dimensions.values()
    levels = _Levels(dimension, min(n, dimension.n_levels))
    assert all(level in levels for level in levels)
    others = [dimension.rvs(np.random.RandomState(i)) for i in range(50)]
    assert [code in levels for code in others] == [code in [*levels] for code in others]
    assert -1 not in levels
    assert 38 not in levels


def test_a_number_of_candidates_is_needed():
    with pytest.raises(ValueError, match="needs a number of candidates"):
        make_grid(PLAIN, n_iter=None, n_levels=2).check_budget()


def test_a_late_stage_too_small_is_refused_before_anything_is_evaluated():
    class Untouchable(FormulaClassifier):
        def fit(self, X, y):
            raise AssertionError

    search = IISSearchCV(
        Untouchable(),
        PLAIN,
        sizes=(1, 2),
        size_param="size",
        n_iter=(30, 26),
        search="grid",
        search_params={"n_levels": 3},
        error_score="raise",
    )
    with pytest.raises(ValueError, match=r"27 candidates.* n_iter=26"):
        search.fit(X, y)


@pytest.mark.parametrize(
    ("n_levels", "message"),
    [
        (0, "The 'n_levels' parameter"),
        ({"rat": 3}, r"n_levels names \['rat'\], but the hyperparameters are"),
        ({"rate": 0}, r"n_levels\['rate'\] must be an int >= 1, got 0"),
        ({"rate": 2.5}, r"n_levels\['rate'\] must be an int >= 1, got 2.5"),
        ({"kind": 2}, "n_levels names 'kind', which has no order"),
    ],
)
def test_bad_numbers_of_levels(n_levels, message):
    with pytest.raises(ValueError, match=message):
        make_grid(PLAIN, n_levels=n_levels).fit(X, y)


def test_the_same_whatever_the_random_state_is():
    first, second = (
        make_grid(PLAIN, n_iter=30, random_state=state).fit(X, y) for state in (0, 1)
    )
    assert first.candidates_ == second.candidates_


def test_stages_have_finer_and_finer_grids():
    search = IISSearchCV(
        FormulaClassifier(),
        PLAIN,
        sizes=(1, 2),
        size_param="size",
        n_iter=27 + 3,
        search="grid",
        cv=2,
        n_promoted=2,
    )
    search.set_params(n_iter=(27, 29)).fit(X, y)
    first, second = (levels_of(stage)["rate"] for stage in search.stages_)
    assert len(first) == 3
    assert np.ptp(second) < np.ptp(first)
    # The optimum is in the middle, where a level is in both stages.
    assert search.best_params_["rate"] == pytest.approx(0.01, rel=0.5)


def test_alternatives_are_the_grids_of_scikit_learn():
    """Each with what exists in it: no candidate is there twice."""
    space = [
        {"kind": ["a"], "degree": [1, 2, 3]},
        {
            "kind": ["b", "c"],
            "degree": [4, 5],
            "n_layers": OnlyIf([1, 2], "kind", ["c"]),
            "rate": OnlyIf([0.1, 0.2], "n_layers", [2]),
        },
    ]
    grid = [
        {"kind": ["a"], "degree": [1, 2, 3]},
        {"kind": ["b"], "degree": [4, 5]},
        {"kind": ["c"], "degree": [4, 5], "n_layers": [1]},
        {"kind": ["c"], "degree": [4, 5], "n_layers": [2], "rate": [0.1, 0.2]},
    ]
    search = make_search("grid", space, n_iter=100).fit(X, y)
    found = search.cv_results_["params"]
    expected = list(ParameterGrid(grid))
    assert len(found) == len(expected) == 11
    assert all(params in found for params in expected)


def test_levels_of_a_name_in_several_alternatives():
    space = [{"rate": stats.uniform()}, {"rate": stats.uniform(), "degree": [1, 2]}]
    n_levels = {"rate": 2, "rate (space[1])": 3}
    search = make_search("grid", space, n_iter=100, n_levels=n_levels).fit(X, y)
    counts = Counter(codes["(alternative)"] for codes in search.candidates_)
    assert counts == {0: 2, 1: 3 * 2}
