"""The recipes of doc/tracking.md log all of a search."""

from pathlib import Path

import pytest
from scipy.stats import randint
from sklearn.datasets import load_iris
from sklearn.exceptions import FitFailedWarning
from sklearn.tree import DecisionTreeClassifier

from sklearn_iis import IISSearchCV
from tests.test_docs import ROOT, python_blocks

pytest.importorskip("tensorboard", reason="needs TensorBoard")

IRIS = load_iris(return_X_y=True)
N_ROWS = 6


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """The names that the document defines before MLflow; its examples have run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("tracking"))
        blocks = python_blocks((ROOT / "doc/tracking.md").read_text(encoding="utf-8"))
        namespace = {"__name__": "__main__"}
        for block in blocks[:-1]:
            exec(compile(block, "doc/tracking.md", "exec"), namespace)
        namespace["runs"] = Path("runs").absolute()
        yield namespace


def read_events(folder):
    """Return the scalars of a folder of events, and its hyperparameters if any."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata

    events = EventAccumulator(str(folder)).Reload()
    scalars = {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }
    if metadata.SESSION_START_INFO_TAG not in events.summary_metadata:
        return scalars, None
    info = metadata.parse_session_start_info_plugin_data(
        events.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    )
    return scalars, info.hparams


@pytest.mark.parametrize("folder", ["after", "live"])
def test_tensorboard_has_a_child_for_each_candidate(recipe, folder):
    """With its hyperparameters, stage, size and scores; once."""
    results = recipe["search"].cv_results_
    children = [path for path in (recipe["runs"] / folder).iterdir() if path.is_dir()]
    assert {path.name for path in children} == {f"candidate{i}" for i in range(N_ROWS)}
    for child in children:
        row = int(child.name.removeprefix("candidate"))
        scalars, params = read_events(child)
        ((_, score),) = scalars["mean_test_score"]
        assert score == pytest.approx(results["mean_test_score"][row])
        assert params["stage"].number_value == results["stage"][row]
        assert params["size"].number_value == results["size"][row]
        rate = params["cnn__learning_rate"].number_value
        assert rate == results["param_cnn__learning_rate"][row]


def test_tensorboard_has_a_curve_per_stage(recipe):
    results = recipe["search"].cv_results_
    scalars, params = read_events(recipe["runs"] / "live")
    assert params is None
    for stage, rows in enumerate([range(4), range(4, N_ROWS)]):
        steps, scores = zip(*scalars[f"stage {stage}/mean_test_score"], strict=True)
        assert steps == tuple(rows)
        assert scores == pytest.approx(results["mean_test_score"][rows])


class Log(list):
    """Notes the rows it is called with, and how many there were by then."""

    def __call__(self, search, row):
        self.append((row, len(search.cv_results_["params"])))


def make_search(**settings):
    settings = {
        "sizes": (4, 8),
        "n_iter": (4, 2),
        "cv": 2,
        "random_state": 0,
    } | settings
    space = {"min_samples_leaf": randint(1, 40)}
    return IISSearchCV(
        DecisionTreeClassifier(random_state=0),
        space,
        size_param="max_depth",
        **settings,
    )


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_stages_are_logged_when_they_end(recipe, n_jobs):
    log, search = Log(), make_search(n_jobs=n_jobs)
    search.set_callbacks(recipe["StageLogger"](log)).fit(*IRIS)
    assert log == [(row, 4) for row in range(4)] + [(4, N_ROWS), (5, N_ROWS)]
    log.clear()
    search.fit(*IRIS)
    assert len(log) == N_ROWS


def test_what_was_evaluated_before_an_interrupt_is_logged(recipe):
    log, n_scored = Log(), 0

    def interrupt(estimator, X, y):
        nonlocal n_scored
        n_scored += 1
        if n_scored > 10:  # two splits of five candidates
            raise KeyboardInterrupt
        return estimator.score(X, y)

    search = make_search(scoring=interrupt).set_callbacks(recipe["StageLogger"](log))
    with pytest.raises(KeyboardInterrupt):
        search.fit(*IRIS)
    assert [row for row, _ in log] == [0, 1, 2, 3, 4]


def test_a_failed_candidate_has_its_error_and_no_score(recipe):
    search = make_search(initial_candidates=[{"min_samples_leaf": 1}], n_iter=(2, 1))
    search.set_params(scoring=fail_small_leaves)
    with pytest.warns(FitFailedWarning, match="1 of 2 candidates failed"):
        search.fit(*IRIS)
    (failed, better), metrics = zip(
        *(recipe["describe_row"](search, row) for row in (0, 1)), strict=True
    )
    assert failed["error"] == "ZeroDivisionError: no leaf of 1"
    assert "error" not in better
    assert "mean_test_score" not in metrics[0]
    assert metrics[1]["mean_test_score"] == search.cv_results_["mean_test_score"][1]
    assert all(metric["mean_fit_time"] > 0 for metric in metrics)


def fail_small_leaves(estimator, X, y):
    if estimator.min_samples_leaf == 1:
        raise ZeroDivisionError("no leaf of 1")
    return estimator.score(X, y)
