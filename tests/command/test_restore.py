"""Searches as their storage has them."""

import numpy as np
import pytest

from sklearn_iis.command import _restore
from sklearn_iis.command._data import read_table, split_validation
from sklearn_iis.command._errors import CommandError
from sklearn_iis.command._plan import Way, make_choice
from sklearn_iis.command._restore import restore

WAY = Way("from-scratch", (8, 16), (1, 1), 4)


@pytest.fixture(scope="module")
def fitted(finished, tmp_path_factory):
    """A choice that was searched, one that was not, and what they are fitted on."""
    images = read_table(finished[0] / "images.csv")
    images = images.select(images.is_fitted_on)
    storage = str(tmp_path_factory.mktemp("restore") / "search.journal")

    def make():
        return make_choice(
            [WAY],
            device="cpu",
            seed=0,
            timeout=600,
            cv=split_validation(images, 0),
            storage=storage,
        )

    return make().fit(images.paths, images.labels), make, images


def test_all_results_are_there(fitted, monkeypatch):
    """Without an evaluation, and without opening a file."""
    expected, make, images = fitted
    monkeypatch.setattr(
        "sklearn_iis.execution._executors.evaluate", lambda *args: pytest.fail("runs")
    )
    monkeypatch.setattr("sklearn_iis.ImageResizer.transform", lambda *args: 1 / 0)
    choice = restore(make(), images.paths, images.labels).choice
    assert choice.best_params_ == expected.best_params_
    assert choice.best_score_ == expected.best_score_
    assert choice.best_index_ == expected.best_index_
    assert not hasattr(choice, "best_estimator_")
    assert choice.cv_results_["params"] == expected.cv_results_["params"]
    for name in ("mean_test_score", "rank_test_score", "stage", "size", "promoted"):
        np.testing.assert_array_equal(
            choice.cv_results_[name], expected.cv_results_[name]
        )
    search, other = (c.searches_["from-scratch"] for c in (choice, expected))
    assert [s.candidates_ for s in search.stages_] == [
        s.candidates_ for s in other.stages_
    ]
    assert search.sizes_ == other.sizes_
    fits = expected.cv_results_["mean_fit_time"].sum()
    assert fits < choice.seconds_["from-scratch"] < expected.seconds_["from-scratch"]
    assert not hasattr(choice, "rounds_")  # they are not known


def test_the_last_fit_is_the_same(fitted):
    expected, make, images = fitted
    choice = restore(make(), images.paths, images.labels).fit_best()
    np.testing.assert_array_equal(
        choice.predict_proba(images.paths), expected.predict_proba(images.paths)
    )


def test_the_time_of_the_last_fit(fitted):
    """That of the longest fits, in proportion to the images."""
    expected, make, images = fitted
    found = restore(make(), images.paths, images.labels).estimate_last_fit()
    results = expected.cv_results_
    # At 16 px, the time of the climb is part of that of the fit.
    longest = results["mean_fit_time"][results["size"] == 8].max()
    assert longest < found < 20 * results["mean_fit_time"].max()


def test_what_ran_at_once_counts_once(fitted, monkeypatch):
    """Seconds are those of the clock, not the sum of the fits."""
    _, make, images = fitted
    read = _restore._read_rows

    def read_at_once(run):
        rows = read(run)
        for row in rows:
            for record in row.in_order:
                record.started, record.fit_time, record.score_time = 100.0, 2.0, 1.0
        return rows

    monkeypatch.setattr(_restore, "_read_rows", read_at_once)
    choice = restore(make(), images.paths, images.labels).choice
    assert choice.seconds_ == {"from-scratch": 3.0}


def test_nothing_is_known(fitted, tmp_path):
    _, make, images = fitted
    choice = make().set_params(storage=str(tmp_path / "other.journal"))
    with pytest.raises(CommandError, match="no candidate was evaluated yet"):
        restore(choice, images.paths, images.labels)
