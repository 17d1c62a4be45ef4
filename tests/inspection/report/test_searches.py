"""The report of several searches that share the time."""

from copy import copy

import numpy as np
import pytest
from scipy.stats import loguniform
from sklearn.datasets import load_iris
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.tree import DecisionTreeClassifier

from sklearn_iis import ChoiceSearchCV, IISSearchCV
from sklearn_iis.inspection import write_report
from sklearn_iis.testing import FormulaClassifier
from tests.pages import read

X, y = load_iris(return_X_y=True)


def make_choice(searches, **params):
    params = {"cv": StratifiedKFold(2), "random_state": 0} | params
    return ChoiceSearchCV(searches, 600, **params)


@pytest.fixture(scope="module")
def choice():
    """The second one wins, and three candidates of the first one fail."""
    formula = FormulaClassifier(fails_below=0.1)
    searches = [
        (
            "formula",
            IISSearchCV(
                formula,
                {"rate": loguniform(1e-3, 1), "degree": [50]},
                sizes=(1, 2),
                size_param="size",
                n_iter=(8, 2),
            ),
        ),
        (
            "linear",
            IISSearchCV(
                LogisticRegression(max_iter=2000), {"C": loguniform(1, 9)}, n_iter=3
            ),
        ),
        (
            "tree",
            IISSearchCV(DecisionTreeClassifier(), {"max_depth": [1]}, n_iter=1),
        ),
    ]
    with pytest.warns(FitFailedWarning):
        return make_choice(searches).fit(X, y)


@pytest.fixture(scope="module")
def page(choice, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    return read(write_report(choice, path, X_test=X, y_test=y, random_state=0))


def test_searches_are_compared(choice, page):
    rows = {row[0]: row for row in page.cells if len(row) == 9}
    assert list(rows) == ["Search", "formula", "linear", "tree"]
    results = choice.cv_results_
    scores = results["mean_test_score"]
    for name in ("linear", "tree"):
        mine = scores[results["search"] == name]
        seconds = choice.seconds_[name]
        shown = f"{seconds:.3f}" if seconds < 1 else f"{seconds:.1f}"
        assert rows[name][3:8] == [
            *(f"{len(mine)}", "0", "\N{EM DASH}", shown),
            f"{mine.max():.2f}",
        ]
    failed = np.isnan(scores).sum()
    assert 0 < failed < 10
    assert rows["formula"][1:6] == [
        *("FormulaClassifier", "random", "10", f"{failed}", "2")
    ]
    assert [rows[name][8] for name in ("formula", "linear", "tree")] == [
        *("out after round 1 of 2", "best", "out after round 2 of 2")
    ]


def test_rounds_that_are_not_known(choice, tmp_path):
    """As of a choice that was restored: who has won is told, and no more."""
    restored = copy(choice)
    del restored.rounds_
    page = read(write_report(restored, tmp_path / "report.html", random_state=0))
    rows = {row[0]: row for row in page.cells if len(row) == 9}
    assert [rows[name][8] for name in ("formula", "linear", "tree")] == [
        *("\N{EM DASH}", "best", "\N{EM DASH}")
    ]


def test_the_other_sections_are_about_the_winner(choice, page):
    assert choice.best_search_ == "linear"
    headings = page.get_headings()
    assert headings[:2] == ["Choice among 3 searches", "Test"]
    assert headings[5:7] == ["Searches", "Best hyperparameters"]
    text = f"{choice.best_score_:.4f} validation score in search linear, mean of 2"
    assert text in page.text
    assert page.find_row("C") == ["C", f"{choice.best_params_['C']:.4g}"]
    assert "ChoiceSearchCV · 3 searches · 14 candidates" in page.text


def test_the_failures_are_those_of_all(choice, page):
    failed = np.flatnonzero(np.isnan(choice.cv_results_["mean_test_score"]))
    assert page.get_headings()[-1].startswith("RuntimeError: no fit with the rate")
    shown = [row for row in page.cells if row[0] in {f"{i}" for i in failed}]
    assert shown
    assert any("search formula, stage 0, size 1" in text for _, text in page.texts)


@pytest.mark.filterwarnings("ignore:the search 'broken' is out:UserWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning")
@pytest.mark.filterwarnings("ignore:One or more:UserWarning")
def test_rows_of_failures_count_those_of_the_searches_before(tmp_path):
    searches = [
        (
            "tree",
            IISSearchCV(DecisionTreeClassifier(), {"max_depth": [1, 2]}, n_iter=2),
        ),
        (
            "formula",
            IISSearchCV(
                FormulaClassifier(fails_below=0.1, degree=40),
                {"rate": [0.5, 0.01]},
                search="grid",
                n_iter=2,
            ),
        ),
        (
            "broken",
            IISSearchCV(FormulaClassifier(fails_below=9), {"rate": [1, 2]}, n_iter=2),
        ),
    ]
    choice = make_choice(searches).fit(X, y)
    page = read(write_report(choice, tmp_path / "a.html"))
    row = np.flatnonzero(np.isnan(choice.cv_results_["mean_test_score"]))[0]
    assert row > 1
    assert page.find_row(f"{row}")[1] == "0.01"
    broken = next(r for r in page.cells if r[0] == "broken")
    assert broken[3:5] == ["\N{EM DASH}"] * 2
    assert broken[-1].startswith("no results")


def test_a_winner_by_no_metric_is_the_one_with_the_highest_score(tmp_path):
    scoring = ["accuracy", "neg_log_loss"]
    searches = [
        ("tree", IISSearchCV(DecisionTreeClassifier(), {"max_depth": [1]}, n_iter=1)),
        (
            "linear",
            IISSearchCV(LogisticRegression(max_iter=2000), {"C": [1]}, n_iter=1),
        ),
    ]
    choice = make_choice(searches, scoring=scoring, refit=False).fit(X, y)
    page = read(write_report(choice, tmp_path / "a.html", metric="neg_log_loss"))
    assert "validation score (neg_log_loss) in search linear" in page.text
