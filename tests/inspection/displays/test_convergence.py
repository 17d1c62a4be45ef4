import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgba
from scipy.stats import loguniform
from sklearn.exceptions import FitFailedWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import RandomizedSearchCV

from sklearn_iis import IISSearchCV
from sklearn_iis.inspection import ConvergenceDisplay
from sklearn_iis.testing import SPACE, FormulaClassifier, X, y

C = {"C": loguniform(1e-3, 10)}


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def make_search(estimator=None, space=SPACE, **params):
    defaults = {
        "sizes": (1, 2, 4),
        "size_param": "size",
        "n_iter": 12,
        "cv": 2,
        "random_state": 0,
    }
    search = IISSearchCV(estimator or FormulaClassifier(), space, **defaults | params)
    return search.fit(X, y)


def make_plain(space=C, **params):
    search = RandomizedSearchCV(
        LogisticRegression(), space, n_iter=4, cv=2, random_state=0, **params
    )
    return search.fit(X, y)


@pytest.fixture(scope="module")
def search():
    return make_search()


@pytest.fixture(scope="module")
def failing():
    """A search of which candidates fail, with the best score."""
    with pytest.warns(FitFailedWarning):
        return make_search(
            FormulaClassifier(fails_below=0.005), error_score=100, refit=False
        )


def with_results(search, scores, seconds=None):
    """Give a search other scores and times."""
    results = search.cv_results_
    assert len(scores) == len(results["mean_test_score"])
    results["mean_test_score"] = np.array(scores, dtype=float)
    if seconds is not None:
        results["mean_fit_time"] = np.array(seconds, dtype=float)
        results["mean_score_time"] = np.zeros(len(scores))
    return search


def running(values, best=max):
    return [best(values[: i + 1]) for i in range(len(values))]


# Curves


def test_curves_are_the_running_maximum(search):
    display = ConvergenceDisplay.from_search(search)
    results = search.cv_results_
    best = running(results["mean_test_score"].tolist())
    over_number, over_time = display.lines_[0]
    np.testing.assert_allclose(
        over_number.get_xydata(), np.column_stack([np.arange(1, 13), best])
    )
    # Two splits each.
    times = np.cumsum(2 * (results["mean_fit_time"] + results["mean_score_time"]))
    np.testing.assert_allclose(over_time.get_xydata(), np.column_stack([times, best]))
    assert {line.get_drawstyle() for line in display.lines_[0]} == {"steps-post"}
    assert len(set(best)) > 2


def make_ladder(**params):
    """Two stages whose rows were begun in the order 0, 0, 0, 1, 0, 0, 0, 1."""
    search = make_search(sizes=(1, 2), search="ladder", n_iter=(6, 2), **params)
    first, second = search.stages_
    assert sorted([*first.order_, *second.order_]) == [*range(8)]
    assert second.order_[0] == 3, "one of the first three is promoted at once"
    first.order_, second.order_ = np.array([0, 1, 2, 4, 5, 6]), np.array([3, 7])
    # The rows of the first stage, then those of the second one.
    return with_results(search, [1, 5, 2, 6, 3, 7, 4, 2], [1, 2, 3, 5, 6, 7, 4, 8])


def test_candidates_of_a_ladder_are_in_the_order_in_which_they_were_begun():
    display = ConvergenceDisplay.from_search(make_ladder())
    (curve,) = display.curves
    assert curve.best.tolist() == [1, 5, 5, 5, 6, 6, 7, 7]
    assert curve.seconds.tolist() == (2 * np.cumsum(np.arange(1, 9))).tolist()
    assert curve.starts.tolist() == [0, 3]
    # The second size begins after three candidates of 2 + 4 + 6 seconds.
    starts = [line.get_xdata()[0] for line in display.stage_lines_]
    assert starts == [3, 12]


def test_of_a_ladder_that_chooses_the_last_stage_only_that_one_counts():
    (curve,) = ConvergenceDisplay.from_search(make_ladder(select="last")).curves
    assert curve.best.tolist() == [1, 5, 5, 4, 4, 4, 4, 4]


def test_what_is_drawn_is_found_in_the_attributes(search):
    display = ConvergenceDisplay.from_search(search)
    assert display.axes_.shape == (2,)
    assert display.lines_.shape == (1, 2)
    for ax, line in zip(display.axes_, display.lines_[0], strict=True):
        assert ax.figure is display.figure_
        assert line in ax.lines
    assert display.legend_ is None


@pytest.mark.parametrize(
    ("n_splits", "seconds", "unit", "expected"),
    [
        (2, 5, "s", 10),
        (3, 5, "s", 15),
        (2, 60, "s", 120),
        (2, 61, "min", 122 / 60),
        (2, 3600, "min", 120),
        (2, 9000, "h", 5),
    ],
)
def test_time_is_summed_over_splits_in_a_unit_that_fits(
    n_splits, seconds, unit, expected
):
    search = make_search(sizes=(1,), n_iter=4, cv=n_splits)
    with_results(search, [0, 1, 2, 3], [0.25 * seconds] * 4)
    display = ConvergenceDisplay.from_search(search)
    assert display.lines_[0, 1].get_xdata()[-1] == pytest.approx(expected)
    label = display.axes_[1].get_xlabel()
    assert label == f"summed time of all evaluations [{unit}]"
    assert display.axes_[0].get_xlabel() == "number of candidates"


def test_time_of_scoring_counts_and_no_time_is_none():
    search = with_results(make_search(sizes=(1,), n_iter=3), [1, 2, 3], [1, np.nan, 1])
    search.cv_results_["mean_score_time"] = np.array([0.5, 0.5, np.nan])
    display = ConvergenceDisplay.from_search(search)
    np.testing.assert_allclose(display.lines_[0, 1].get_xdata(), [3, 4, 6])


def test_failed_candidates_count_but_never_are_the_best(failing):
    results = failing.cv_results_
    failed = np.array([error is not None for error in results["error"]])
    assert 0 < failed.sum() < 12
    assert results["mean_test_score"].max() == 100
    scores = np.where(failed, -np.inf, results["mean_test_score"])
    expected = np.array(running(scores.tolist()))
    expected[np.isinf(expected)] = np.nan
    for line in ConvergenceDisplay.from_search(failing).lines_[0]:
        np.testing.assert_array_equal(line.get_ydata(), expected)
    assert len(line.get_xdata()) == 12


def test_nothing_is_drawn_before_the_first_success():
    search = with_results(make_search(sizes=(1,), n_iter=3), [np.nan, 1, 0])
    display = ConvergenceDisplay.from_search({"a": search, "b": search})
    for line in display.lines_.ravel():
        np.testing.assert_array_equal(line.get_ydata(), [np.nan, 1, 1])
        assert line.get_markevery() == [1]


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"select": "best"}, [1, 5, 5, 5, 5, 5]),
        ({"select": "last"}, [1, 5, 5, 2, 4, 3]),
        # A callable takes precedence.
        ({"select": "last", "refit": lambda results: 0}, [1, 5, 5, 5, 5, 5]),
    ],
    ids=["best", "last", "callable"],
)
def test_the_best_starts_anew_if_only_the_last_stage_counts(params, expected):
    search = make_search(n_iter=(3, 2, 1), **params)
    with_results(search, [1, 5, 4, 2, 4, 3])
    for line in ConvergenceDisplay.from_search(search).lines_[0]:
        np.testing.assert_array_equal(line.get_ydata(), expected)


# Errors and metrics


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0.25, 0.5, 0.375], [0.75, 0.5, 0.5]),
        ([-3, -1, -2], [3, 1, 1]),
        ([-3, 0, -2], [3, 0, 0]),
        ([-0.5, 0.5, 1], [1.5, 0.5, 0]),
    ],
)
def test_errors(scores, expected):
    search = with_results(make_search(sizes=(1,), n_iter=3), scores)
    display = ConvergenceDisplay.from_search(search, as_error=True)
    np.testing.assert_allclose(display.lines_[0, 0].get_ydata(), expected)
    assert display.axes_[0].get_ylabel() == "lowest validation error so far"


def test_searches_turn_into_errors_alike():
    positive = with_results(make_search(sizes=(1,), n_iter=2), [0.25, 0.5])
    negative = with_results(make_search(sizes=(1,), n_iter=2), [-2, -1])
    display = ConvergenceDisplay.from_search(
        {"a": positive, "b": negative}, as_error=True
    )
    np.testing.assert_allclose(display.lines_[0, 0].get_ydata(), [0.75, 0.5])
    np.testing.assert_allclose(display.lines_[1, 0].get_ydata(), [3, 2])


def test_metrics():
    both = make_plain(scoring=["accuracy", "neg_log_loss"], refit="neg_log_loss")
    named = {
        metric: running(both.cv_results_[f"mean_test_{metric}"].tolist())
        for metric in ("accuracy", "neg_log_loss")
    }
    for metric, best in [(None, named["neg_log_loss"]), *named.items()]:
        display = ConvergenceDisplay.from_search(both, metric=metric)
        np.testing.assert_allclose(display.lines_[0, 0].get_ydata(), best)
        assert (metric or "neg_log_loss") in display.axes_[0].get_ylabel()


@pytest.mark.parametrize("scoring", [None, "balanced_accuracy"])
def test_the_vertical_axis_tells_the_metric(scoring):
    display = ConvergenceDisplay.from_search(make_plain(scoring=scoring))
    metric = "" if scoring is None else " (balanced_accuracy)"
    assert display.axes_[0].get_ylabel() == f"best validation score{metric} so far"
    # The right panel has the same axis.
    assert display.axes_[1].get_ylabel() == ""
    assert display.axes_[0].get_ylim() == display.axes_[1].get_ylim()


# Stages


def test_lines_show_where_the_stages_of_a_single_search_begin():
    search = make_search(n_iter=(3, 2, 1))
    with_results(search, np.arange(6), [1, 2, 3, 4, 5, 6])
    display = ConvergenceDisplay.from_search(search)
    at = [line.get_xdata()[0] for line in display.stage_lines_]
    # Two splits; before the first stage nothing is finished.
    np.testing.assert_allclose(at, [3, 5, 12, 30])
    assert [line.axes for line in display.stage_lines_] == [
        *[display.axes_[0]] * 2,
        *[display.axes_[1]] * 2,
    ]
    texts = [(text.get_text(), text.xy[0]) for text in display.stage_texts_]
    assert texts == [
        *[("size 1", 0), ("2", 3), ("4", 5)],
        *[("size 1", 0), ("2", 12), ("4", 30)],
    ]
    assert display.axes_[0].get_xlim()[0] == 0


def test_sizes_do_not_overlap():
    sizes = (1, 2, 4, 8, 16, 32)
    search = make_search(sizes=sizes, n_iter=(60, 1, 1, 1, 1, 10))
    display = ConvergenceDisplay.from_search(search)
    display.figure_.canvas.draw()
    assert len(display.stage_texts_) == 2 * len(sizes)
    extents = [text.get_window_extent() for text in display.stage_texts_]
    for i, extent in enumerate(extents):
        assert not any(extent.overlaps(other) for other in extents[:i])
        assert display.figure_.bbox.containsx(extent.x1)
        assert display.figure_.bbox.containsy(extent.y1)


def test_without_sizes_there_is_nothing_to_mark():
    search = make_search(sizes=None, size_param=None)
    display = ConvergenceDisplay.from_search(search)
    assert display.stage_lines_ == []
    assert display.stage_texts_ == []


def test_markers_show_where_the_stages_of_several_searches_begin(search):
    other = make_search(sizes=(1, 4), n_iter=(5, 2), random_state=1)
    plain = make_search(sizes=None, size_param=None, n_iter=9)
    searches = {"all sizes": search, "two sizes": other, "plain": plain}
    display = ConvergenceDisplay.from_search(searches)
    assert display.lines_.shape == (3, 2)
    for lines, fitted in zip(display.lines_, searches.values(), strict=True):
        best = running(fitted.cv_results_["mean_test_score"].tolist())
        for line in lines:
            np.testing.assert_allclose(line.get_ydata(), best)
    # Where the last candidate of the stage before is finished; of the first stage the
    # first one, where the curve begins.
    markers = [line.get_markevery() for line in display.lines_[:, 0]]
    assert markers == [[0, 5, 9], [0, 4], [0]]
    assert [line.get_markevery() for line in display.lines_[:, 1]] == markers
    assert [text.get_text() for text in display.legend_.get_texts()] == [
        "all sizes (1 → 2 → 4)",
        "two sizes (1 → 4)",
        "plain",
    ]
    assert "sizes" in display.legend_.get_title().get_text()
    assert display.stage_lines_ == []
    # The first marker is not cut off.
    assert all(ax.get_xlim()[0] < 0 for ax in display.axes_)


def test_searches_differ_in_colours_dashes_and_markers(search):
    names = ["a", "b", "c", "d"]
    display = ConvergenceDisplay.from_search(dict.fromkeys(names, search))
    lines = display.lines_[:, 0]
    assert len({to_rgba(line.get_color()) for line in lines}) == 4
    assert len({line.get_linestyle() for line in lines}) == 4
    assert len({line.get_marker() for line in lines}) == 4
    for left, right in display.lines_:
        assert left.get_color() == right.get_color()


def test_a_dict_of_one_is_a_single_search(search):
    display = ConvergenceDisplay.from_search({"name": search})
    assert display.legend_ is None
    assert len(display.stage_lines_) == 4


# Searches of other kinds


def test_any_search_of_scikit_learn():
    search = make_plain()
    display = ConvergenceDisplay.from_search({"plain": search, "same": search})
    best = running(search.cv_results_["mean_test_score"].tolist())
    np.testing.assert_allclose(display.lines_[0, 0].get_ydata(), best)
    # There are no sizes to be explained.
    assert display.legend_.get_title().get_text() == "search"


def test_evaluations_of_hyperband_count_one_by_one():
    search = make_search(sizes=(1,), n_iter=5, search="hyperband")
    n_rows = len(search.cv_results_["params"])
    assert n_rows > 5
    line = ConvergenceDisplay.from_search(search).lines_[0, 0]
    np.testing.assert_array_equal(line.get_xdata(), np.arange(n_rows) + 1)


# Axes


def test_axes_of_a_user(search):
    _, axes = plt.subplots(2, 1)
    n_figures = len(plt.get_fignums())
    display = ConvergenceDisplay.from_search({"a": search, "b": search}, axes=axes)
    assert list(display.axes_) == list(axes)
    assert display.figure_ is axes[0].figure
    assert len(plt.get_fignums()) == n_figures
    assert display.legend_.axes is axes[0]
    # Both have their own vertical axis.
    assert axes[0].get_ylabel() == axes[1].get_ylabel() != ""


def test_plot_again(search):
    display = ConvergenceDisplay.from_search(search)
    first, drawn = display.figure_, display.lines_[0, 0].get_xydata()
    assert display.plot() is display
    assert display.figure_ is not first
    np.testing.assert_array_equal(display.lines_[0, 0].get_xydata(), drawn)


# Wrong input


@pytest.mark.parametrize("n_axes", [1, 3])
def test_wrong_number_of_axes(search, n_axes):
    _, axes = plt.subplots(1, n_axes)
    with pytest.raises(ValueError, match=f"axes must be 2.*got {n_axes}"):
        ConvergenceDisplay.from_search(search, axes=axes)


def test_no_searches():
    with pytest.raises(ValueError, match="searches is an empty dict"):
        ConvergenceDisplay.from_search({})


def test_searches_without_names(search):
    with pytest.raises(TypeError, match=r"need names: .* got a list"):
        ConvergenceDisplay.from_search([search, search])


def test_not_fitted(search):
    unfitted = IISSearchCV(FormulaClassifier(), SPACE)
    with pytest.raises(NotFittedError):
        ConvergenceDisplay.from_search(unfitted)
    with pytest.raises(NotFittedError):
        ConvergenceDisplay.from_search({"fitted": search, "not": unfitted})


def test_unknown_metric(search):
    with pytest.raises(ValueError, match="no scores of metric='f1'"):
        ConvergenceDisplay.from_search(search, metric="f1")


def test_different_metrics(search):
    accuracy, loss = make_plain(scoring="accuracy"), make_plain(scoring="neg_log_loss")
    with pytest.raises(ValueError, match=r"different metrics.*'accuracy', 'neg_log"):
        ConvergenceDisplay.from_search({"a": accuracy, "b": loss})
    # What a default score is cannot be known.
    display = ConvergenceDisplay.from_search({"a": accuracy, "b": make_plain()})
    assert display.axes_[0].get_ylabel() == "best validation score so far"


def test_all_failed():
    search = with_results(make_search(sizes=(1,), n_iter=2), [np.nan, np.nan])
    with pytest.raises(ValueError, match="all 2 candidates failed"):
        ConvergenceDisplay.from_search(search)
