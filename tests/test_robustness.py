"""A search goes on, or ends well, whatever happens to its evaluations."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import optuna
import pytest
from joblib import parallel_config
from optuna.pruners import MedianPruner, ThresholdPruner
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from scipy.stats import loguniform
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import ShuffleSplit
from sklearn.pipeline import Pipeline

from sklearn_iis import CNNClassifier, IISSearchCV, ImageResizer
from sklearn_iis.searches import SEARCHES
from sklearn_iis.testing import X, y
from tests.logging_search import (
    FixedSearch,
    fill,
    make_search,
    read_log,
    scores,
    small_disk,  # noqa: F401
)

# A grid of few candidates holds most hyperparameters, and says so.
pytestmark = pytest.mark.filterwarnings("ignore:.*which are not searched:UserWarning")

# Workers


def test_what_kills_its_process_twice_fails_and_the_search_goes_on(tmp_path):
    """No evaluation that was finished before is fitted again."""
    expected = make_search(tmp_path).fit(X, y).cv_results_
    rates = [params["rate"] for params in expected["params"]]
    deadly = sorted(rates)[0] * 1.01
    (tmp_path / "log").unlink()

    search = make_search(tmp_path, deadly=deadly, n_jobs=2)
    with pytest.warns(FitFailedWarning, match="1 of 8 candidates failed"):
        results = search.fit(X, y).cv_results_
    dead = int(np.argmin(rates))
    assert results["params"] == expected["params"]
    for i, (error, row) in enumerate(
        zip(results["error"], scores(results), strict=True)
    ):
        if i == dead:
            assert "crashed its worker twice" in error
            assert np.isnan(row[1:]).all()
        else:
            assert error is None
            assert row == scores(expected)[i]
    n_fits = {
        line: read_log(tmp_path / "log").count(line)
        for line in set(read_log(tmp_path / "log"))
    }
    assert len(n_fits) == 16
    assert max(n_fits.values()) == 2
    # The first crash may come before the other split of the same candidate began.
    assert 2 in [
        n for line, n in n_fits.items() if float(line.split()[0]) == rates[dead]
    ]
    # At most what was under way in the other worker is repeated.
    assert sum(n_fits.values()) <= 16 + 2 + 2


@pytest.mark.parametrize("name", ["tpe", "genetic"])
def test_what_is_killed_once_succeeds_the_next_time(name, tmp_path):
    search_params = {"n_points": 4} if name == "tpe" else {"synchronous": True}
    settings = {"search": name, "search_params": search_params}
    expected = make_search(tmp_path, **settings).fit(X, y).cv_results_
    deadly = expected["params"][2]["rate"] * 1.0001
    killed = str(tmp_path / "killed")
    search = make_search(tmp_path, deadly=deadly, killed=killed, n_jobs=2, **settings)
    results = search.fit(X, y).cv_results_
    assert Path(killed).exists()
    assert scores(results) == scores(expected)
    assert set(results["error"]) == {None}


@pytest.mark.parametrize("name", ["tpe", "bayes", "genetic"])
def test_what_was_decided_as_workers_got_free_is_not_lost_with_them(name, tmp_path):
    killed = tmp_path / "killed"
    search = make_search(
        tmp_path, deadly=3e-3, killed=str(killed), search=name, n_jobs=2, n_iter=16
    )
    results = search.fit(X, y).cv_results_
    assert killed.exists()
    assert set(results["error"]) == {None}
    # All that was begun is part of the results, and what was finished is not repeated.
    # Two are under way in the workers, and "bayes" has one more waiting.
    assert 32 <= len(read_log(tmp_path / "log")) <= 32 + 3


def test_what_is_killed_ends_the_search_if_errors_should(tmp_path):
    search = make_search(
        tmp_path, {"rate": [1e-3, 1e-2]}, deadly=2e-3, n_iter=2, n_jobs=2
    )
    with pytest.raises(RuntimeError, match="crashed its worker twice"):
        search.set_params(error_score="raise").fit(X, y)


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_the_same_evaluation_may_run_several_times_at_once(backend, tmp_path):
    """As the search proposes it twice, or splits differ in their test data only."""

    def make_repeating(estimator, space, *, scoring, cv, n_jobs, **settings):
        candidates = space.sample(1, random_state=0) * 3
        return FixedSearch(
            estimator, [candidates], scoring=scoring, cv=cv, n_jobs=n_jobs
        )

    train = np.arange(10)
    cv = [(train, np.arange(10, 15)), (train, np.arange(15, 20))]
    search = make_search(tmp_path, search=make_repeating, seconds=0.05, cv=cv, n_jobs=4)
    with parallel_config(backend, n_jobs=4):
        assert set(search.fit(X, y).cv_results_["error"]) == {None}


# Time


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_ends_in_time_with_what_it_has(name, tmp_path):
    search = make_search(
        tmp_path, seconds=0.1, timeout=3, n_iter=40, search=name, refit=True
    )
    results = search.fit(X, y).cv_results_
    n_candidates = len(results["params"])
    assert 0 < n_candidates < 40
    assert set(results["error"]) == {None}
    assert np.isfinite([row[1:] for row in scores(results)]).all()
    assert all(len(column) == n_candidates for column in results.values())
    assert search.best_estimator_.rate == search.best_params_["rate"]
    # A fit that was begun is finished, but perhaps not the candidate.
    assert (
        2 * n_candidates + 1 <= len(read_log(tmp_path / "log")) <= 2 * n_candidates + 2
    )


def test_a_stage_cut_short_hands_over(tmp_path):
    search = make_search(
        tmp_path,
        seconds=0.1,
        timeout=4,
        sizes=(1, 2),
        size_param="size",
        n_iter=(100, 100),
    ).fit(X, y)
    assert search.sizes_ == [1, 2]
    first, second = (stage.cv_results_ for stage in search.stages_)
    expected = make_search(
        tmp_path, sizes=(1, 2), size_param="size", n_iter=(len(first["params"]), 3)
    ).fit(X, y)
    assert search.spaces_[1].ranges == expected.spaces_[1].ranges
    assert scores(first) == scores(expected.stages_[0].cv_results_)
    # Those promoted are the best of what was finished.
    assert second["params"][:3] == expected.stages_[1].cv_results_["params"]


def test_a_stage_without_any_time_is_left_out(tmp_path):
    search = make_search(
        tmp_path,
        seconds_per_size=0.02,
        timeout=2,
        sizes=(1, 200),
        size_param="size",
        n_iter=(3, 10),
        refit=True,
    )
    with pytest.warns(
        UserWarning, match=r"timeout=2 seconds were up .*stage 1, size 200"
    ):
        search.fit(X, y)
    assert search.sizes_ == [1]
    assert len(search.stages_) == len(search.spaces_) == 1
    assert search.best_estimator_.size == 1


def test_nothing_finished_in_time(tmp_path):
    search = make_search(tmp_path, timeout=1e-3)
    message = r"timeout=0\.001 seconds were up before a candidate was evaluated"
    with pytest.raises(TimeoutError, match=message):
        search.fit(X, y)
    assert not hasattr(search, "cv_results_")


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_candidate_that_takes_too_long_fails(n_jobs, tmp_path):
    """Other estimators than ours fit to their end; the next split is not begun."""
    space = {"seconds": [0.0, 0.5]}
    search = make_search(tmp_path, space, trial_timeout=0.3, n_iter=2, n_jobs=n_jobs)
    with pytest.warns(FitFailedWarning, match="1 of 2 candidates failed"):
        results = search.fit(X, y).cv_results_
    slow = [params["seconds"] for params in results["params"]].index(0.5)
    assert re.match(
        r"TimeoutError: the fit took 0\.5\d* seconds", results["error"][slow]
    )
    assert results["error"][1 - slow] is None
    if n_jobs == 1:
        assert len(read_log(tmp_path / "log")) == 3


# Interrupts


@pytest.mark.parametrize("name", sorted({*SEARCHES} - {"fabolas"}))
def test_an_interrupt_keeps_what_is_finished(name, tmp_path):
    settings = {
        "search": name,
        "sizes": (1, 2),
        "size_param": "size",
        "n_iter": (6, 12),
    }
    expected = make_search(tmp_path, **settings).fit(X, y).cv_results_
    n_first = int((expected["stage"] == 0).sum())
    (tmp_path / "log").unlink()
    search = make_search(tmp_path, interrupt_at=2 * n_first + 6, **settings)
    with pytest.raises(KeyboardInterrupt):
        search.fit(X, y)
    results = search.cv_results_
    n_kept = len(results["params"])
    assert n_kept == n_first + 2
    assert scores(results) == scores(expected)[:n_kept]
    assert results["stage"].tolist() == expected["stage"][:n_kept].tolist()
    assert len(search.stages_) == 2
    assert not hasattr(search, "best_estimator_")


INTERRUPTED = """
import json, sys
from sklearn_iis.testing import X, y
from tests.logging_search import make_search, scores
from pathlib import Path
if __name__ == "__main__":
    search = make_search(Path(sys.argv[1]), seconds=0.2, n_iter=100, n_jobs=2)
    try:
        search.fit(X, y)
    except KeyboardInterrupt:
        rows = scores(search.cv_results_)
        print(json.dumps([[params["rate"], *row] for params, *row in rows]))
"""


def test_one_interrupt_from_the_keyboard_ends_all_workers(tmp_path):
    """As the terminal sends it: to the whole group of processes."""
    child = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd=Path(__file__).parents[1],
    )
    log = tmp_path / "log"
    while not log.exists() or len(read_log(log)) < 12:
        assert child.poll() is None
        time.sleep(0.01)
    os.killpg(child.pid, signal.SIGINT)
    output, _ = child.communicate(timeout=60)
    kept = json.loads(output)
    assert 3 <= len(kept) < 50
    expected = make_search(tmp_path, n_iter=100).fit(X, y).cv_results_
    rows = [[params["rate"], *row] for params, *row in scores(expected)]
    assert kept == rows[: len(kept)]


# Networks


@pytest.fixture(scope="module")
def images():
    """Dark and bright ones; the first fit takes longer than those that follow."""
    labels = np.arange(90) % 2
    noise = np.random.default_rng(0).integers(0, 100, (90, 8, 8), dtype=np.uint8)
    images = noise + (100 * labels).astype(np.uint8)[:, np.newaxis, np.newaxis]
    CNNClassifier(max_epochs=1).fit(images, labels)
    return images, labels


def make_cnn_search(space=None, *, sizes=(8,), **params):
    names = CNNClassifier().get_params().keys() & params.keys()
    settings = {name: params.pop(name) for name in names}
    pipe = Pipeline(
        [
            ("resize", ImageResizer()),
            (
                "cnn",
                CNNClassifier(
                    n_filters=4,
                    batch_size=8,
                    random_state=0,
                    **{"early_stopping": True, "schedule": "constant"} | settings,
                ),
            ),
        ]
    )
    return IISSearchCV(
        pipe,
        space or {"cnn__learning_rate": loguniform(1e-4, 1)},
        sizes=sizes,
        **{
            "cv": ShuffleSplit(2, test_size=0.3, random_state=0),
            "n_iter": 4,
            "random_state": 0,
            "refit": False,
        }
        | params,
    )


def test_training_stops_between_batches_when_it_takes_too_long(images):
    """Without it this would take hours."""
    search = make_cnn_search(
        {"cnn__max_epochs": [1, 1_000_000]},
        early_stopping=False,
        trial_timeout=6.0,
        n_iter=2,
    )
    with pytest.warns(FitFailedWarning, match="1 of 2 candidates failed"):
        errors = search.fit(*images).cv_results_["error"]
    epochs = [params["cnn__max_epochs"] for params in search.cv_results_["params"]]
    assert errors[epochs.index(1)] is None
    assert "more than trial_timeout=6.0" in errors[epochs.index(1_000_000)]


def test_training_stops_between_batches_when_the_time_is_up(images):
    search = make_cnn_search(
        {"cnn__max_epochs": [1, 1_000_000]},
        early_stopping=False,
        timeout=8.0,
        search="grid",
        n_iter=2,
    )
    results = search.fit(*images).cv_results_
    assert [params["cnn__max_epochs"] for params in results["params"]] == [1]


def test_out_of_memory_fails_one_candidate_only(images):
    expected = make_cnn_search().fit(*images).cv_results_
    space = {
        "cnn__learning_rate": loguniform(1e-4, 1),
        "cnn__n_filters": [4, 10**9],
    }
    with pytest.warns(FitFailedWarning):
        results = make_cnn_search(space, n_iter=8).fit(*images).cv_results_
    huge = [params["cnn__n_filters"] == 10**9 for params in results["params"]]
    assert 0 < sum(huge) < 8
    for is_huge, error in zip(huge, results["error"], strict=True):
        assert ("allocate" in error) if is_huge else (error is None)
    assert np.isfinite(expected["mean_test_score"]).all()
    fitting = results["mean_test_score"][~np.array(huge)]
    assert np.isfinite(fitting).all()


# Pruning


@pytest.mark.parametrize("name", SEARCHES)
def test_hopeless_candidates_are_pruned_in_every_search(name, images, tmp_path):
    search_params = {"max_resources": 9, "min_resources": 3}
    search = make_cnn_search(
        max_epochs=9,
        patience=9,
        validation_fraction=0.3,
        sizes=(4, 8),
        n_iter=(8, 6),
        search=name,
        search_params=search_params if name == "hyperband" else None,
        pruner=ThresholdPruner(lower=0.9, n_warmup_steps=2),
        storage=str(tmp_path / "run.journal"),
    )
    results = search.fit(*images).cv_results_
    pruned = results["pruned"]
    assert pruned.dtype == bool
    assert 0 < pruned.sum() < len(pruned)
    assert set(results["error"]) == {None}
    ranks = results["rank_test_score"]
    assert ranks[pruned].min() > ranks[~pruned].max()
    assert not pruned[search.best_index_]
    for stage, fitted in enumerate(search.stages_):
        rows = results["stage"] == stage
        assert fitted.cv_results_["pruned"].tolist() == pruned[rows].tolist()

    storage = JournalStorage(JournalFileBackend(str(tmp_path / "run.journal")))
    study = optuna.load_study(study_name="iis: stage 0", storage=storage)
    n_epochs = {
        state: [len(t.intermediate_values) for t in study.trials if t.state == state]
        for state in (TrialState.PRUNED, TrialState.COMPLETE)
    }
    # Those that Hyperband goes on with have had some of their epochs before.
    assert min(n_epochs[TrialState.PRUNED]) <= 3
    assert max(n_epochs[TrialState.COMPLETE]) > 3


def test_pruning_across_workers_and_without_storage(images):
    settings = {"max_epochs": 6, "n_iter": 10, "pruner": MedianPruner(2)}
    search = make_cnn_search(**settings, n_jobs=2).fit(*images)
    assert 0 < search.cv_results_["pruned"].sum() < 12


def test_nothing_is_pruned_by_default_nor_what_tells_nothing(images, tmp_path):
    assert "pruned" not in make_cnn_search(max_epochs=2).fit(*images).cv_results_
    search = make_search(tmp_path, pruner="median").fit(X, y)
    assert not search.cv_results_["pruned"].any()


# Storages that fail


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("file", ["sqlite:///{}/run.db", "{}/run.journal"])
def test_a_full_disk_ends_the_search_at_once(
    file,
    n_jobs,
    small_disk,  # noqa: F811
    tmp_path,
):
    """And once there is space, the search goes on where it stopped."""
    storage = file.format(small_disk)
    make_search(tmp_path, storage=storage, n_iter=2).fit(X, y)
    n_done = len(read_log(tmp_path / "log"))
    fill(small_disk / "filling")

    search = make_search(tmp_path, storage=storage, n_iter=20, n_jobs=n_jobs)
    with pytest.raises(OSError, match=r"free some space there, then call again"):
        search.fit(X, y)
    n_failed = len(read_log(tmp_path / "log")) - n_done
    assert n_failed < 20

    (small_disk / "filling").unlink()
    results = search.fit(X, y).cv_results_
    expected = make_search(tmp_path, n_iter=20).fit(X, y).cv_results_
    assert scores(results) == scores(expected)
