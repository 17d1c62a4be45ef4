import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy.stats import loguniform, randint, uniform
from sklearn.exceptions import FitFailedWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import RandomizedSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from sklearn_iis import IISSearchCV, OnlyIf
from sklearn_iis.inspection import RangesDisplay
from sklearn_iis.testing import SPACE, FormulaClassifier, X, y

NAMES = ["rate", "degree", "kind", "n_layers", "widths[0]", "widths[1]", "widths[2]"]


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def make_search(estimator=None, space=SPACE, **params):
    defaults = {
        "sizes": (1, 2, 4),
        "size_param": "size",
        "n_iter": 24,
        "cv": 2,
        "random_state": 0,
    }
    search = IISSearchCV(estimator or FormulaClassifier(), space, **defaults | params)
    return search.fit(X, y)


@pytest.fixture(scope="module")
def search():
    return make_search()


@pytest.fixture(scope="module")
def failing():
    with pytest.warns(FitFailedWarning):
        search = make_search(FormulaClassifier(fails_below=0.005))
    assert any(error is not None for error in search.cv_results_["error"])
    return search


def decoded(search, stage, name):
    """Values of a stage's candidates, from `cv_results_`; NaN without that layer."""
    results = search.cv_results_
    params = np.array(results["params"], dtype=object)[results["stage"] == stage]
    name, _, layer = name.rstrip("]").partition("[")
    if not layer:
        return [candidate[name] for candidate in params]
    return [
        candidate[name][int(layer)] if len(candidate[name]) > int(layer) else np.nan
        for candidate in params
    ]


def count(lines):
    return sum(len(line.get_xdata()) for line in lines)


def ends(bar):
    (patch,) = bar
    return patch.get_x(), patch.get_x() + patch.get_width()


# Bars


def test_bars_go_from_the_lowest_to_the_highest_value(search):
    display = RangesDisplay.from_search(search)
    bars = dict(zip(NAMES, display.bars_, strict=True))
    assert repr(search.spaces_[2]) != repr(search.spaces_[0])
    for stage, space in enumerate(search.spaces_):
        for name in ("rate", "degree", "n_layers"):
            np.testing.assert_allclose(ends(bars[name][stage]), space.ranges[name])
        for layer, expected in enumerate(space.ranges["widths"]):
            np.testing.assert_allclose(ends(bars[f"widths[{layer}]"][stage]), expected)


def test_stages_are_rows_from_top_to_bottom(search):
    display = RangesDisplay.from_search(search)
    for ax, bars in zip(display.axes_, display.bars_, strict=True):
        bottom, top = ax.get_ylim()
        assert bottom > top
        for row, bar in enumerate(bars):
            for patch in bar:
                middle = patch.get_y() + patch.get_height() / 2
                assert middle == pytest.approx(row)
        assert ax.get_yticks().tolist() == [0, 1, 2]
    labels = [text.get_text() for text in display.axes_[0].get_yticklabels()]
    assert labels == ["1", "2", "4"]
    assert display.axes_[0].get_ylabel() == "size"


def test_each_choice_has_a_bar_in_all_stages(search):
    display = RangesDisplay.from_search(search, names="kind")
    (ax,), (bars,) = display.axes_, display.bars_
    for bar in bars:
        middles = [patch.get_x() + patch.get_width() / 2 for patch in bar]
        np.testing.assert_allclose(middles, [0, 1, 2])
    assert ax.get_xticks().tolist() == [0, 1, 2]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["a", "b", "c"]


def test_many_choices_are_one_bar_with_some_of_their_names():
    search = make_search(space={"kind": [f"{i:03d}" for i in range(500)]}, n_iter=6)
    display = RangesDisplay.from_search(search)
    (ax,), (bars,) = display.axes_, display.bars_
    for bar in bars:
        assert ends(bar) == (0, 499)
    names = [text.get_text() for text in ax.get_xticklabels()]
    assert names == [f"{i:03d}" for i in range(0, 500, 9)]
    assert ax.get_xticks().tolist() == list(range(0, 500, 9))


def test_all_of_a_bar_can_be_seen(search):
    display = RangesDisplay.from_search(search)
    for ax, bars in zip(display.axes_, display.bars_, strict=True):
        first, last = ax.get_xlim()
        patches = [patch for bar in bars for patch in bar]
        assert first < min(patch.get_x() for patch in patches)
        assert last > max(patch.get_x() + patch.get_width() for patch in patches)


# Candidates


@pytest.mark.parametrize("name", NAMES)
def test_dots_are_the_candidates_and_crosses_those_that_failed(failing, name):
    display = RangesDisplay.from_search(failing, names=[name])
    for stage in range(3):
        values = decoded(failing, stage, name)
        if name == "kind":
            values = ["abc".index(value) for value in values]
        failed = np.array(decoded(failing, stage, "rate")) < 0.005
        exists = ~np.isnan(values)
        dots, crosses = display.dots_[0][stage], display.crosses_[0][stage]
        np.testing.assert_allclose(
            dots.get_xdata(), np.array(values)[exists & ~failed], rtol=1e-9
        )
        np.testing.assert_allclose(
            crosses.get_xdata(), np.array(values)[exists & failed], rtol=1e-9
        )
        assert (dots.get_marker(), crosses.get_marker()) == ("o", "x")
        # On the bar, from the first candidate to the last.
        patch = display.bars_[0][stage][0]
        for marks in (dots, crosses):
            heights = marks.get_ydata()
            assert (np.diff(heights) > 0).all()
            assert (heights > patch.get_y()).all()
            assert (heights < patch.get_y() + patch.get_height()).all()


def test_the_legend_tells_what_there_is(search, failing):
    for fitted, expected in [
        (search, ["candidate", "best candidate"]),
        (failing, ["candidate", "failed", "best candidate"]),
    ]:
        legend = RangesDisplay.from_search(fitted).legend_
        assert [text.get_text() for text in legend.get_texts()] == expected


def test_the_best_candidate_is_a_star(search):
    display = RangesDisplay.from_search(search)
    best = search.best_params_
    stage = search.cv_results_["stage"][search.best_index_]
    expected = [best["rate"], best["degree"], "abc".index(best["kind"])]
    expected += [best["n_layers"], *best["widths"]]
    assert len(best["widths"]) < 3
    for i, value in enumerate(expected):
        np.testing.assert_allclose(display.stars_[i].get_xydata(), [[value, stage]])
        np.testing.assert_allclose(display.best_lines_[i].get_xdata(), value)
    # It does not have the further layers.
    missing = [None] * (len(NAMES) - len(expected))
    assert display.stars_[len(expected) :] == missing
    assert display.best_lines_[len(expected) :] == missing


def test_without_a_best_candidate_there_is_no_star():
    search = make_search(
        scoring=["accuracy", "recall"], refit=False, sizes=(1,), n_iter=4
    )
    display = RangesDisplay.from_search(search, names="rate")
    assert not hasattr(search, "best_index_")
    assert display.stars_ == display.best_lines_ == [None]


# Panels


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        (loguniform(1e-4, 1), "log"),
        ([16, 32, 64, 128], "log"),
        (uniform(0.1, 10), "linear"),
        (randint(1, 50), "linear"),
        ([1, 2, 3], "linear"),
        ([1e-3, "auto", 1.0], "linear"),
    ],
)
def test_the_axis_is_log_where_the_prior_is(values, scale):
    # The formula takes anything as a kind.
    search = make_search(space={"kind": values}, n_iter=2, sizes=(1,))
    display = RangesDisplay.from_search(search)
    assert display.axes_[0].get_xscale() == scale


def test_whole_numbers_have_whole_ticks(search):
    # In panels as small as these, ticks would be at 2.5, 5, 7.5.
    display = RangesDisplay.from_search(search)
    display.figure_.canvas.draw()
    for name, ax in zip(NAMES, display.axes_, strict=True):
        if name.startswith("widths"):
            ticks = ax.get_xticks()
            np.testing.assert_array_equal(ticks, np.round(ticks))


def test_panels_are_what_was_searched(search):
    display = RangesDisplay.from_search(search)
    assert [ax.get_title() for ax in display.axes_] == NAMES
    # Three in a row, and none without a hyperparameter.
    assert display.figure_.axes == list(display.axes_)
    grid = display.axes_[0].get_subplotspec().get_gridspec()
    assert (grid.nrows, grid.ncols) == (3, 3)


@pytest.mark.parametrize(
    ("names", "expected"),
    [("degree", ["degree"]), (("widths[1]", "rate"), ["widths[1]", "rate"])],
)
def test_names_choose_panels(search, names, expected):
    display = RangesDisplay.from_search(search, names=names)
    assert [panel.name for panel in display.panels] == expected
    assert [ax.get_title() for ax in display.axes_] == expected


def make_pipeline_search():
    """A search with choices that have long names, and equal short names."""
    scalers = [StandardScaler(), MinMaxScaler(feature_range=(-1, 1)), "passthrough"]
    space = {
        "scale": scalers,
        "fit__C": loguniform(1e-2, 1),
        "one__with_mean": [True, False],
        "two__with_mean": [True, False],
    }
    steps = [
        ("scale", StandardScaler()),
        ("one", StandardScaler()),
        ("two", StandardScaler()),
        ("fit", LogisticRegression()),
    ]
    return IISSearchCV(Pipeline(steps), space, n_iter=4, cv=2, random_state=0).fit(X, y)


def test_titles_are_short_unless_two_would_be_the_same():
    display = RangesDisplay.from_search(make_pipeline_search())
    titles = [ax.get_title() for ax in display.axes_]
    assert titles == ["scale", "C", "one__with_mean", "two__with_mean"]


def test_long_names_of_choices_are_cut_and_slanted():
    display = RangesDisplay.from_search(make_pipeline_search())
    display.figure_.canvas.draw()
    texts = display.axes_[0].get_xticklabels()
    names = [text.get_text() for text in texts]
    assert names == ["StandardScaler()", "MinMaxScaler(fe...", "passthrough"]
    assert {text.get_rotation() for text in texts} == {25}


def test_without_sizes_there_is_one_stage():
    search = RandomizedSearchCV(
        DecisionTreeClassifier(random_state=0),
        {"max_depth": randint(1, 9), "ccp_alpha": loguniform(1e-4, 1)},
        n_iter=5,
        cv=2,
        random_state=0,
    ).fit(X, y)
    display = RangesDisplay.from_search(search)
    assert [ends(bars[0]) for bars in display.bars_] == [(1, 8), (1e-4, 1)]
    np.testing.assert_allclose(
        display.dots_[0][0].get_xdata(), search.cv_results_["param_max_depth"].data
    )
    ax = display.axes_[0]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["stage 0"]
    assert ax.get_ylabel() == ""
    assert display.stars_[0].get_xdata()[0] == search.best_params_["max_depth"]


def test_hyperparameters_with_one_value_are_not_drawn():
    search = make_search(space={"degree": [3], "rate": loguniform(1e-3, 1)})
    display = RangesDisplay.from_search(search)
    assert [panel.name for panel in display.panels] == ["rate"]


# Axes


def test_axes_of_a_user(search):
    _, axes = plt.subplots(1, 2)
    n_figures = len(plt.get_fignums())
    display = RangesDisplay.from_search(search, names=["rate", "kind"], axes=axes)
    assert list(display.axes_) == list(axes)
    assert display.figure_ is axes[0].figure
    assert len(plt.get_fignums()) == n_figures
    assert display.legend_ is None
    assert axes[0].get_legend_handles_labels()[1] == ["candidate", "best candidate"]


def test_one_axes_need_no_list(search):
    _, ax = plt.subplots()
    display = RangesDisplay.from_search(search, names="rate", axes=ax)
    assert display.axes_.tolist() == [ax]


def test_plot_again(search):
    display = RangesDisplay.from_search(search)
    first, drawn = display.figure_, ends(display.bars_[0][2])
    assert display.plot() is display
    assert display.figure_ is not first
    assert ends(display.bars_[0][2]) == drawn


# Wrong input


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("widths", r"'widths' was not searched; .* is 'widths\[\d\]'"),
        (["rate", "degre"], "'degre' was not searched; .* is 'degree'"),
        ([1], "1 was not searched"),
        (["rate", "rate"], "must be different"),
        ([], "nothing to draw"),
    ],
)
def test_wrong_names(search, names, message):
    with pytest.raises(ValueError, match=message):
        RangesDisplay.from_search(search, names=names)


def test_wrong_number_of_axes(search):
    _, axes = plt.subplots(1, 3)
    with pytest.raises(ValueError, match=r"axes must be 2, one for each .*, got 3"):
        RangesDisplay.from_search(search, names=["rate", "kind"], axes=axes)


def test_nothing_to_choose():
    search = make_search(space={"degree": [3]}, sizes=(1,), n_iter=1)
    for names in (None, "degree"):
        with pytest.raises(ValueError, match="no hyperparameter has more than one"):
            RangesDisplay.from_search(search, names=names)


def test_not_fitted():
    with pytest.raises(NotFittedError):
        RangesDisplay.from_search(IISSearchCV(FormulaClassifier(), SPACE))


def test_a_candidate_is_drawn_where_its_alternative_has_the_hyperparameter():
    space = [{"rate": loguniform(1e-3, 1)}, {"widths": [[9, 9], [5, 5]]}]
    search = make_search(space=space)
    display = RangesDisplay.from_search(search)
    names = ["(alternative)", "rate", "widths"]
    assert [panel.name for panel in display.panels] == names
    results = search.cv_results_
    for name, panel, dots in zip(names, display.panels, display.dots_, strict=True):
        for stage in range(3):
            rows = results["stage"] == stage
            params = [p for p, row in zip(results["params"], rows, strict=True) if row]
            n_dots = len(dots[stage].get_xdata())
            if name in space[0] | space[1]:
                assert panel.candidates[stage] == [p.get(name) for p in params]
                assert n_dots == sum(name in p for p in params)
            else:
                assert panel.candidates[stage] == [
                    "space[1]" if "widths" in p else "space[0]" for p in params
                ]
                assert n_dots == len(params)


def test_a_choice_that_is_none_is_drawn():
    """It is a value; that a candidate does not have the hyperparameter is another."""
    space = {
        "splitter": ["best", "random"],
        "max_depth": OnlyIf([None, 2, 4], "splitter", ["best"]),
    }
    search = IISSearchCV(DecisionTreeClassifier(), space, search="grid", n_iter=4)
    display = RangesDisplay.from_search(search.fit(X, y), names="max_depth")
    (panel,) = display.panels
    assert panel.candidates[0].count(None) == 2
    (dots,) = display.dots_
    assert count(dots) == panel.exists[0].sum() == 3
    assert sorted(dots[0].get_xdata()) == [0, 1, 2]
