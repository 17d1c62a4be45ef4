import io
import re

import numpy as np
import pytest
from joblib import Parallel, delayed
from rich.console import Console

from sklearn_iis import IISSearchCV
from sklearn_iis.execution import _progress as progress_module
from sklearn_iis.execution._progress import StageProgress
from sklearn_iis.testing import SPACE, FormulaClassifier, X, y


@pytest.fixture
def screen(monkeypatch):
    """What a terminal would get."""
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=100, color_system=None)
    monkeypatch.setattr(
        progress_module,
        "Progress",
        lambda *columns: OriginalProgress(*columns, console=console),
    )
    return stream


OriginalProgress = progress_module.Progress


def last_bars(stream):
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue()).split("\n")
    return [line for line in lines if "stage" in line]


def test_a_bar_counts_candidates_and_knows_the_best():
    with StageProgress(n_splits=2) as progress:
        report = progress.add_stage("stage 0", 3)
        (task,) = progress._bars.tasks
        assert (task.completed, task.total, task.fields["best"]) == (0, 3, "-")
        report({"x": 1}, 0.5)
        assert task.completed == 0
        report({"x": 1}, 0.25)
        assert (task.completed, task.fields["best"]) == (1, "0.375")
        report({"x": 2}, float("nan"))
        report({"x": 2}, 0.75)
        assert (task.completed, task.fields["best"]) == (2, "0.375")


def test_a_bar_moves_while_workers_of_other_processes_run():
    with StageProgress(n_splits=1) as progress:
        report = progress.add_stage("stage 0", 4)
        (task,) = progress._bars.tasks
        completed = [
            task.completed
            for _ in Parallel(n_jobs=2, return_as="generator", pre_dispatch=1)(
                delayed(report)({"x": i}, i / 8) for i in range(4)
            )
        ]
    # Each evaluation is told before it is over, so no bar lags behind.
    assert all(done > i for i, done in enumerate(completed))
    assert (task.completed, task.fields["best"]) == (4, "0.375")


def test_a_worker_without_a_way_home_goes_on():
    progress = StageProgress(n_splits=1)
    with progress:
        report = progress.add_stage("stage 0", 4)
    report({"x": 1}, 0.5)  # the listener is gone


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
        n_jobs=n_jobs,
        random_state=0,
    ).fit(X, y)
    first, second = last_bars(screen)[-2:]
    assert re.search(r"stage 0, size 1 .* 6/6 .*best", first)
    assert re.search(r"stage 1, size 2 .* 3/3 .*best", second)
    best = search.cv_results_["mean_test_score"][6:].max()
    assert f"best {best:.4g}" in second


def test_nothing_is_printed_unless_asked(capfd):
    for name in ("random", "bayes", "genetic"):
        IISSearchCV(
            FormulaClassifier(), SPACE, search=name, n_iter=8, cv=2, n_jobs=2
        ).fit(X, y)
    assert capfd.readouterr() == ("", "")


def test_whatever_goes_wrong_with_a_bar_costs_no_score(monkeypatch):
    def fail(*args):
        raise EOFError

    monkeypatch.setattr(progress_module, "send", fail)
    search = IISSearchCV(FormulaClassifier(), SPACE, n_iter=4, cv=2, verbose=1)
    assert np.isfinite(search.fit(X, y).cv_results_["mean_test_score"]).all()
