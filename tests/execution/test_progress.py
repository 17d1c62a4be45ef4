import io
import re
import time

import numpy as np
import pytest
from rich.console import Console

from sklearn_iis import IISSearchCV
from sklearn_iis.execution._progress import StageProgress
from sklearn_iis.execution._record import Record, Row
from sklearn_iis.testing import SPACE, FormulaClassifier, X, y


@pytest.fixture
def screen(monkeypatch):
    """The text that a terminal would get."""
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=100, color_system=None)
    monkeypatch.setattr("rich.progress.get_console", lambda: console)
    return stream


def last_bars(stream):
    return [line for line in list_lines(stream) if "/" in line]


def list_lines(stream):
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue()).splitlines()


def make_row(*scores):
    row = Row({}, n_splits=len(scores))
    row.records = {
        i: Record(score, error="why" if np.isnan(score) else None)
        for i, score in enumerate(scores)
    }
    return row


def test_a_bar_counts_candidates_and_knows_the_best():
    with StageProgress() as progress:
        advance = progress.add_stage("stage 0", 3)
        (task,) = progress._bars.tasks
        assert (task.completed, task.total, task.fields["best"]) == (0, 3, "best -")
        advance(make_row(0.5, 0.25))
        assert (task.completed, task.fields["best"]) == (1, "best 0.375")
        advance(make_row(float("nan"), 0.75))
        assert (task.completed, task.fields["best"]) == (2, "best 0.375")
        advance(make_row(0.5, 0.75))
        assert (task.completed, task.fields["best"]) == (3, "best 0.625")


def test_a_stage_may_have_no_number_of_candidates():
    with StageProgress() as progress:
        advance = progress.add_stage("stage 0", None)
        advance(make_row(0.5))
        (task,) = progress._bars.tasks
        assert (task.completed, task.total) == (1, None)


def test_a_line_tells_of_the_best_of_all_stages_and_the_time_left():
    with StageProgress(time.monotonic() + 3661.5) as progress:
        first = progress.add_stage("first", 3)
        second = progress.add_stage("second", 3)
        assert progress.summarize() == "no result yet, 61:02 left"
        for advance, score, expected in [
            (first, np.nan, "no result yet"),
            (second, 0.5, "best 0.5 (second)"),
            (first, 0.25, "best 0.5 (second)"),
            (first, 0.75, "best 0.75 (first)"),
            (second, 0.7, "best 0.75 (first)"),
        ]:
            advance(make_row(score))
            assert progress.summarize().startswith(f"{expected}, 61:0")
    assert StageProgress().summarize() == "no result yet"
    assert StageProgress(time.monotonic() - 1).summarize().endswith(", 0:00 left")


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_search_shows_a_bar_a_stage(screen, n_jobs):
    search = IISSearchCV(
        FormulaClassifier(),
        SPACE,
        sizes=(1, 2),
        size_param="size",
        n_iter=(6, 3),
        cv=2,
        verbose=1,
        timeout=600,
        n_jobs=n_jobs,
        random_state=0,
    ).fit(X, y)
    first, second = last_bars(screen)[-2:]
    assert re.search(r"stage 0, size 1 .* 6/6 .*best", first)
    assert re.search(r"stage 1, size 2 .* 3/3 .*best", second)
    best = search.cv_results_["mean_test_score"][6:].max()
    assert f"best {best:.4g}" in second
    assert f"best {best:.4g} (stage 1, size 2), " in list_lines(screen)[-3]


def test_nothing_is_printed_unless_asked(capfd):
    for name in ("random", "bayes", "genetic"):
        IISSearchCV(
            FormulaClassifier(), SPACE, search=name, n_iter=8, cv=2, n_jobs=2
        ).fit(X, y)
    assert capfd.readouterr() == ("", "")
