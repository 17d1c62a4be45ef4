"""Curves and heat maps of the mean score."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from sklearn_iis import IISSearchCV
from sklearn_iis.inspection import (
    MarginalDisplay,
    PairMarginalDisplay,
    hyperparameter_marginal,
)
from sklearn_iis.testing import SPACE, FormulaClassifier, X, y

ARGUMENTS = {"n_estimators": 4, "random_state": 0}


@pytest.fixture(scope="module")
def search():
    return IISSearchCV(
        FormulaClassifier(),
        SPACE,
        sizes=(1, 2),
        size_param="size",
        n_iter=(30, 15),
        cv=2,
        random_state=0,
    ).fit(X, y)


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def test_curves_and_bands(search):
    display = MarginalDisplay.from_search(search, "rate", **ARGUMENTS)
    marginal = hyperparameter_marginal(search, "rate", **ARGUMENTS)
    for stage, line, band in zip(
        marginal.stages, display.lines_, display.bands_, strict=True
    ):
        np.testing.assert_allclose(line.get_xdata(), stage.grid_values[0])
        np.testing.assert_allclose(line.get_ydata(), stage.mean)
        assert line.get_label() == str(stage.size)
        (path,) = band.get_paths()
        assert path.vertices[:, 1].max() == pytest.approx(
            (stage.mean + stage.std).max()
        )
        assert path.vertices[:, 1].min() == pytest.approx(
            (stage.mean - stage.std).min()
        )
    assert display.ax_.get_xscale() == "log"
    assert display.ax_.get_xlabel() == "rate"
    assert display.ax_.get_ylabel() == "validation score"


def test_choices_are_not_joined(search):
    display = MarginalDisplay.from_search(search, "kind", **ARGUMENTS)
    marginal = hyperparameter_marginal(search, "kind", **ARGUMENTS)
    assert display.bands_ == []
    for stage, line in zip(marginal.stages, display.lines_, strict=True):
        np.testing.assert_allclose(line.get_ydata(), stage.mean)
        assert line.get_linestyle() == "None"
    first, second = (line.get_xdata() for line in display.lines_)
    assert (first != second).all()
    labels = [label.get_text() for label in display.ax_.get_xticklabels()]
    assert labels == ["a", "b", "c"]


def test_errors_instead_of_scores(search):
    """They are 1 - score, as some score is above 0, though no mean over a degree is."""
    assert search.cv_results_["mean_test_score"].max() > 0
    scores = MarginalDisplay.from_search(search, "degree", **ARGUMENTS)
    errors = MarginalDisplay.from_search(search, "degree", as_error=True, **ARGUMENTS)
    for line, error_line in zip(scores.lines_, errors.lines_, strict=True):
        assert (line.get_ydata() < 0).all()
        np.testing.assert_allclose(error_line.get_ydata(), 1 - line.get_ydata())
    assert errors.ax_.get_ylabel() == "validation error"


def test_maps(search):
    display = PairMarginalDisplay.from_search(
        search, ("rate", "kind"), n_points=7, **ARGUMENTS
    )
    marginal = hyperparameter_marginal(
        search, ("rate", "kind"), n_points=7, **ARGUMENTS
    )
    limits = {m.get_clim() for m in display.maps_}
    assert len(limits) == 1
    for stage, drawn, ax in zip(
        marginal.stages, display.maps_, display.axes_, strict=True
    ):
        np.testing.assert_allclose(drawn.get_array(), stage.mean.T)
        assert ax.get_title() == f"size {stage.size}"
        assert ax.get_xscale() == "log"
        # Each value lies in its own cell.
        edges = drawn.get_coordinates()[0, :, 0]
        values = np.array(stage.grid_values[0])
        assert (edges[:-1] < values).all()
        assert (values < edges[1:]).all()
    _, axes = plt.subplots(ncols=2)
    assert display.plot(axes=axes).axes_[1] is axes[1]
    with pytest.raises(ValueError, match=r"axes must be 2, .* got 3"):
        display.plot(axes=plt.subplots(ncols=3)[1])


@pytest.mark.parametrize("names", ["rate", ("rate",), ("rate", "kind", "degree")])
def test_a_pair_has_two_names(search, names):
    with pytest.raises(ValueError, match="names must be two hyperparameters"):
        PairMarginalDisplay.from_search(search, names)


def test_bad_input(search):
    with pytest.raises(ValueError, match="name must be one hyperparameter"):
        MarginalDisplay.from_search(search, ("rate", "kind"))
    with pytest.raises(ValueError, match=r"axes must be 1, one for each .* got 2"):
        MarginalDisplay.from_search(
            search, "rate", ax=plt.subplots(ncols=2)[1], **ARGUMENTS
        )


def test_choices_may_be_unhashable():
    """They are drawn at their places in the list."""
    space = {"widths": [[9, 9], [5, 5], [7]], "degree": [1, 2, 3, 4]}
    search = IISSearchCV(FormulaClassifier(), space, search="grid", n_iter=12, cv=2)
    display = MarginalDisplay.from_search(search.fit(X, y), "widths", **ARGUMENTS)
    assert display.lines_[0].get_xdata().tolist() == [0, 1, 2]
    labels = [label.get_text() for label in display.ax_.get_xticklabels()]
    assert labels == ["[9, 9]", "[5, 5]", "[7]"]
