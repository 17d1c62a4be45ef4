"""The bars of importance."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import PolynomialFeatures

from sklearn_iis import IISSearchCV
from sklearn_iis.inspection import ImportanceDisplay, hyperparameter_importance
from sklearn_iis.testing import SPACE, FormulaClassifier, X, y


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


def test_bars_are_the_importances(search):
    arguments = {"n_estimators": 8, "random_state": 0}
    display = ImportanceDisplay.from_search(search, n_subsets=5, **arguments)
    result = hyperparameter_importance(search, **arguments)
    mean = sum(
        dict(zip(s.subsets, s.importances_mean, strict=True))[subset] / 2
        for s in result.stages
        for subset in [display.subsets_[0]]
    )
    means = np.mean([s.importances_mean for s in result.stages], axis=0)
    assert mean == pytest.approx(means.max())
    ranked = sorted(zip(-means, result.stages[0].subsets, strict=True))
    assert display.subsets_ == [subset for _, subset in ranked[:5]]
    assert len(display.bars_) == 2
    for stage, bars in zip(result.stages, display.bars_, strict=True):
        shares = dict(zip(stage.subsets, stage.importances_mean, strict=True))
        np.testing.assert_allclose(
            [bar.get_width() for bar in bars],
            [100 * shares[subset] for subset in display.subsets_],
        )
        assert bars.get_label() == str(stage.size)
    labels = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert labels == [" × ".join(subset) for subset in display.subsets_]  # noqa: RUF001
    assert display.ax_.get_legend().get_title().get_text() == "size"
    # The most important one is at the top.
    assert display.ax_.yaxis_inverted()


def test_draws_where_it_is_told(search):
    display = ImportanceDisplay.from_search(
        search, stage=0, max_order=1, n_estimators=2, random_state=0
    )
    assert display.ax_.get_legend() is None
    figure, ax = plt.subplots()
    assert display.plot(ax=ax, n_subsets=2) is display
    assert display.ax_ is ax
    assert display.figure_ is figure
    assert len(display.subsets_) == 2


def test_names_that_would_be_the_same_are_written_out():
    pipe = Pipeline([("poly", PolynomialFeatures()), ("formula", FormulaClassifier())])
    space = {
        "poly__degree": [1, 2],
        "formula__degree": [1, 2, 3],
        "formula__rate": [0.1, 1],
    }
    search = IISSearchCV(pipe, space, n_iter=10, cv=2, random_state=0).fit(X, y)
    display = ImportanceDisplay.from_search(search, n_estimators=2, max_order=1)
    labels = {label.get_text() for label in display.ax_.get_yticklabels()}
    assert labels == {"poly__degree", "formula__degree", "rate"}


def test_bad_input(search):
    display = ImportanceDisplay.from_search(search, n_estimators=2, max_order=1)
    for n_subsets in (0, -2):
        with pytest.raises(ValueError, match=f"at least 1, got {n_subsets}"):
            display.plot(n_subsets=n_subsets)
    with pytest.raises(ValueError, match=r"axes must be 1, .* got 2"):
        display.plot(ax=plt.subplots(ncols=2)[1])
