"""Colours, scales and names that the pictures share."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from scipy import stats

from sklearn_iis import SearchSpace
from sklearn_iis.inspection._fitted import NothingToShowError
from sklearn_iis.inspection.displays._plotting import (
    is_number,
    plain,
    positions,
    score_label,
    series_styles,
    set_scale,
    short_names,
    stage_styles,
    to_error,
)
from sklearn_iis.space import Discrete, is_log


def dimension(values):
    return SearchSpace({"x": values}).dimensions["x"]


def luminance(color):
    return np.dot(to_rgb(color), [0.2126, 0.7152, 0.0722])


def test_styles_can_be_told_apart_without_colours():
    for n in (1, 2, 3, 5):
        styles = stage_styles(n)
        assert len(styles) == n
        greys = [luminance(style["color"]) for style in styles]
        assert (np.diff(greys) > 0.1).all()
    for styles in (stage_styles(6), series_styles(6)):
        for key in ("linestyle", "marker"):
            assert len({str(style[key]) for style in styles}) == 6


def test_scale():
    _, ax = plt.subplots()
    set_scale(ax.xaxis, dimension([16, 32, 64]), [16, 32, 64])
    assert ax.get_xscale() == "log"
    assert [label.get_text() for label in ax.get_xticklabels()] == ["16", "32", "64"]
    kinds = dimension(["a", None, True])
    set_scale(ax.yaxis, kinds, ["a", None, True])
    assert ax.get_yscale() == "linear"
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "None", "True"]
    assert positions(kinds, ["a", None, True]).tolist() == [0, 1, 2]
    plt.close("all")


def test_names():
    assert short_names(["cnn__l2", "cnn__depth"]) == {
        "cnn__l2": "l2",
        "cnn__depth": "depth",
    }
    assert short_names(["a__l2", "b__l2", "c"]) == {
        "a__l2": "a__l2",
        "b__l2": "b__l2",
        "c": "c",
    }
    assert score_label("score") == "validation score"
    assert score_label("f1", True) == "validation error (f1)"


def test_errors():
    values = np.array([0.75, np.nan, -1])
    np.testing.assert_allclose(to_error(values, 0.8), [0.25, np.nan, 2])
    np.testing.assert_allclose(to_error(values, 0), [-0.75, np.nan, 1])


def test_long_names_of_choices_do_not_touch():
    _, ax = plt.subplots()
    kinds = ["a" * 30, "b\n  c", "$x + y$"]
    set_scale(ax.xaxis, dimension(kinds), kinds)
    labels = ax.get_xticklabels()
    assert [t.get_text() for t in labels] == ["a" * 15 + "...", "b c", r"\$x + y\$"]
    assert {t.get_rotation() for t in labels} == {25}
    plt.close("all")


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ((-np.inf, 1.0, np.inf), ["-inf", "1.0", "inf"]),
        ((1, 10**400), ["1", "1" + "0" * 14 + "..."]),
    ],
)
def test_numbers_that_no_axis_can_show_are_choices(values, labels):
    numbers = Discrete(values, True, 0, len(values) - 1)
    assert not is_number(numbers)
    assert positions(numbers, values[1:]).tolist() == list(range(1, len(values)))
    _, ax = plt.subplots()
    set_scale(ax.xaxis, numbers, values)
    assert ax.get_xticks().tolist() == list(range(len(values)))
    assert [text.get_text() for text in ax.get_xticklabels()] == labels
    plt.close("all")


def test_a_range_without_an_end_cannot_be_drawn():
    endless = dimension(stats.pareto(0.01))
    with pytest.raises(NothingToShowError, match=r"from 1\.0 to inf cannot be drawn"):
        is_number(endless)


@pytest.mark.parametrize("name", ["caf\udce9", "a\x07b", "$x$", "two\r\x00"])
def test_any_text_can_be_drawn(name):
    figure, ax = plt.subplots()
    set_scale(ax.xaxis, dimension([name, "b"]), [name, "b"])
    ax.set_title(plain(name))
    figure.canvas.draw()
    escaped = name.encode("unicode_escape").decode().replace("$", r"\$")
    assert ax.get_title() == ax.get_xticklabels()[0].get_text() == escaped
    plt.close("all")


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0021, 0.0085, ["0.005"]),
        (0.002, 0.03, ["0.002", "0.01"]),
        (0.0112, 0.0148, []),
    ],
)
def test_short_log_ranges_have_few_numbers(low, high, expected):
    _, ax = plt.subplots()
    set_scale(ax.xaxis, dimension(stats.loguniform(low, high)), [low, high])
    labels = [t.get_text() for t in ax.get_xticklabels() if t.get_text()]
    assert 0 <= len(labels) <= 4
    assert set(expected) <= set(labels)
    plt.close("all")


def test_wide_ranges_are_not_enumerated():
    wide = dimension(stats.randint(0, 2**31 - 1))
    assert not is_log(wide)
    _, ax = plt.subplots()
    set_scale(ax.xaxis, wide, list(wide.range))
    plt.close("all")


def test_an_axis_that_was_drawn_on_before():
    """Whatever ticks it had, those of whole numbers are whole."""
    _, ax = plt.subplots()
    ax.xaxis.set_ticks([0.5, 1.5])
    set_scale(ax.xaxis, dimension(stats.randint(0, 100)), [0, 99])
    ax.set_xlim(0, 9)
    assert all(tick == round(tick) for tick in ax.get_xticks())
    plt.close("all")
