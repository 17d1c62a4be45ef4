"""How the scores of two stages compare, in a report."""

import math

import numpy as np
import pytest
from scipy.stats import loguniform

from sklearn_iis import IISSearchCV, SearchSpace
from sklearn_iis.inspection import write_report
from sklearn_iis.inspection._fitted import Stage
from sklearn_iis.inspection.report._agreement import compare_candidates
from sklearn_iis.testing import SPACE, FormulaClassifier, X, y
from tests.inspection.report.test_report import read

RATE = {"rate": loguniform(1e-4, 1)}
HEADING = "Do the sizes agree?"
GAIN = "Mean gain of score"
DONE = "What the search did"


@pytest.fixture(autouse=True)
def _no_plots(monkeypatch):
    draw = "sklearn_iis.inspection.report._write.draw_sections"
    monkeypatch.setattr(draw, lambda source: [])


def make_search(space=SPACE, **params):
    params = {"sizes": (1, 3), "size_param": "size", "n_iter": (9, 3)} | params
    search = IISSearchCV(FormulaClassifier(), space, cv=2, random_state=0, **params)
    return search.fit(X, y)


def make_stage(index, codes, scores, seconds, **columns):
    """A stage with one split, in a space with one hyperparameter."""
    results = {
        "mean_test_score": np.array(scores, dtype=float),
        "split0_test_score": np.array(scores, dtype=float),
        "mean_fit_time": np.array(seconds, dtype=float),
        "mean_score_time": np.zeros(len(scores)),
    }
    candidates = [{"rate": code} for code in codes]
    space = SearchSpace(RATE)
    return Stage(index, index, True, space, candidates, results | columns)


def get_table(search, tmp_path):
    """Return the page, and the rows of the table by the names of its columns."""
    page = read(write_report(search, tmp_path / "report.html"))
    start = next((i for i, row in enumerate(page.cells) if GAIN in row), None)
    if start is None:
        return page, []
    header = page.cells[start]
    n_rows = len(search.stages_) - 1
    rows = page.cells[start + 1 : start + 1 + n_rows]
    return page, [dict(zip(header, row, strict=True)) for row in rows]


def test_candidates_of_both_stages_are_compared():
    """Ranks 1, 2, 3, 4 and 1, 3, 2, 4: one of six pairs is the other way round."""
    before = make_stage(0, [0.1, 0.2, 0.3, 0.4, 0.9], [1, 2, 3, 4, 9], [1, 1, 2, 2, 9])
    after = make_stage(1, [0.4, 0.3, 0.2, 0.1, 0.8], [9, 3, 4, 2, 0], [9, 3, 3, 3, 1])
    found = compare_candidates(before, after, "score")
    assert found.n_candidates == 4
    assert found.kendall_tau == pytest.approx((5 - 1) / 6)
    assert found.gain == pytest.approx((1 + 2 + 0 + 5) / 4)
    spread = math.sqrt((1 + 0 + 4 + 9) / 3)
    assert found.gain_error == pytest.approx(spread / math.sqrt(4))
    assert found.cost_ratio == pytest.approx(18 / 6)


def test_what_failed_or_was_pruned_in_one_stage_is_left_out():
    codes = [0.1, 0.2, 0.3, 0.4]
    before = make_stage(
        0, codes, [1, 2, 3, 4], [1] * 4, error=np.array([None, "E", None, None])
    )
    after = make_stage(
        1, codes, [3, 4, 5, 9], [1] * 4, pruned=np.array([False, False, False, True])
    )
    found = compare_candidates(before, after, "score")
    assert (found.n_candidates, found.gain, found.gain_error) == (2, 2, 0)


def test_candidates_are_compared_with_the_same_resources():
    """Of Hyperband, which evaluates a candidate with some epochs, then with more."""
    before = make_stage(
        0, [0.1, 0.1, 0.2, 0.2], [1, 2, 3, 4], [1] * 4, n_resources=[1, 3, 1, 3]
    )
    after = make_stage(1, [0.1, 0.2, 0.2], [12, 13, 99], [1] * 3, n_resources=[3, 1, 9])
    found = compare_candidates(before, after, "score")
    assert (found.n_candidates, found.gain) == (2, 10)


def test_the_page_compares_the_sizes_of_a_ladder(tmp_path):
    """Each score is larger by 0.001 times the difference of the sizes."""
    search = make_search(sizes=(1, 3, 8), search="ladder", n_iter=(18, 6, 2))
    search.stages_[1].verdict_ = "left out: <why>"
    results = search.cv_results_
    results["mean_fit_time"] = np.array([2, 6, 9])[results["stage"]]
    results["mean_score_time"] = np.zeros(len(results["stage"]))
    page, rows = get_table(search, tmp_path)
    assert HEADING in page.get_headings()
    expected = ((6, "0.0020", "3.0"), (2, "0.0050", "1.5"))
    for row, (n, gain, cost) in zip(rows, expected, strict=True):
        assert row["Candidates"] == f"{n}"
        assert row["Kendall's tau"] == "1.00"
        assert row[GAIN] == gain
        assert row["Standard error"] == "0.0000"
        assert row["Cost ratio"] == cost
    assert [row["Sizes"] for row in rows] == [
        "1 \N{RIGHTWARDS ARROW} 3",
        "3 \N{RIGHTWARDS ARROW} 8",
    ]
    assert [row[DONE] for row in rows] == ["Went on as planned.", "Left out: <why>."]
    assert "Promoted candidates are the best of the stage before." in page.text


def test_losses_and_ranks_that_are_reversed_are_told(tmp_path):
    search = make_search(RATE, search="ladder")
    stage = search.cv_results_["stage"]
    scores = search.cv_results_["mean_test_score"]
    scores[stage == 0] = np.arange(9)
    # Whoever was promoted gets the opposite rank.
    keys = [codes["rate"] for codes in search.stages_[0].candidates_]
    places = [keys.index(codes["rate"]) for codes in search.stages_[1].candidates_]
    scores[stage == 1] = -np.array(places)
    _, (row,) = get_table(search, tmp_path)
    minus = "\N{MINUS SIGN}"
    assert row["Kendall's tau"] == f"{minus}1.00"
    assert row[GAIN] == f"{minus}{2 * np.mean(places):.4f}"


def test_without_verdicts_there_is_no_column_of_them(tmp_path):
    """A random search that leaves the ranges whole, so that nobody is moved."""
    search = make_search(floor=1.0)
    page, (row,) = get_table(search, tmp_path)
    assert row["Candidates"] == "3"
    assert DONE not in row
    assert HEADING in page.get_headings()


def test_scores_that_are_all_the_same_have_no_ranks(tmp_path):
    search = make_search(RATE, search="ladder")
    search.cv_results_["mean_test_score"][:] = 1
    _, (row,) = get_table(search, tmp_path)
    assert row["Kendall's tau"] == "\N{EM DASH}"
    assert row[GAIN] == "0.0000"


def test_stages_without_sizes_are_called_stages(tmp_path):
    search = make_search(
        sizes=None, size_param=None, stage_params={"max_epochs": (3, 9)}, floor=1.0
    )
    page, (row,) = get_table(search, tmp_path)
    assert "Do the stages agree?" in page.get_headings()
    assert row["Stages"] == "stage 0 \N{RIGHTWARDS ARROW} stage 1"
    assert row[GAIN] == f"{1 / 3 - 1 / 9:.4f}"


def test_stages_without_common_candidates_are_not_compared(tmp_path):
    page, rows = get_table(make_search(n_promoted=0), tmp_path)
    assert rows == []
    assert "Fewer than two candidates have a score in two successive sta" in page.text
    assert "Kendall" not in page.text


def test_a_search_with_one_stage_has_no_such_section(tmp_path):
    page, rows = get_table(make_search(sizes=(1,), n_iter=9), tmp_path)
    assert rows == []
    assert HEADING not in page.get_headings()
