"""Checkpoints: what is kept of fits, and which fits go on."""

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sklearn.ensemble import (
    BaggingClassifier,
    GradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.pipeline import Pipeline

from sklearn_iis import CNNClassifier
from sklearn_iis.execution._checkpoints import Checkpoints, find_warm_start
from sklearn_iis.execution._record import Task

CODES = {"rate": 0.25, "degree": 3}


def grown(n_estimators, **params):
    """Return an estimator that is not fitted, but told apart by its parameters."""
    params = {"random_state": 0} | params
    return GradientBoostingClassifier(n_estimators=n_estimators, **params)


def find(directory, codes=CODES, split=0, n_estimators=1):
    task = Task(codes, {"n_estimators": n_estimators}, split)
    return Checkpoints(directory).find(grown(n_estimators), task)


def resumed(checkpoint, n_estimators):
    """Return how much the estimator to be fitted had when it was saved, if at all."""
    estimator = checkpoint.resume(grown(n_estimators))
    assert estimator.n_estimators == n_estimators
    assert estimator.warm_start
    return getattr(estimator, "saved_", None)


def save(checkpoint, n_estimators):
    estimator = grown(n_estimators, warm_start=True)
    estimator.saved_ = n_estimators
    checkpoint.save(estimator)


def files_in(directory):
    return [path for path in directory.rglob("*") if path.is_file()]


def test_what_was_saved_goes_on(tmp_path):
    checkpoint = find(tmp_path)
    assert resumed(checkpoint, 9) is None
    save(checkpoint, 1)
    save(find(tmp_path, n_estimators=3), 3)
    save(find(tmp_path, split=1), 4)
    save(find(tmp_path, codes={"rate": 0.5}), 5)
    assert resumed(find(tmp_path), 9) == 3
    assert resumed(find(tmp_path, split=1), 9) == 4
    assert len(files_in(tmp_path)) == 3
    Checkpoints(tmp_path).discard(CODES)
    assert resumed(checkpoint, 9) is None
    assert resumed(find(tmp_path, split=1), 9) is None
    assert resumed(find(tmp_path, codes={"rate": 0.5}), 9) == 5


def test_another_process_finds_it(tmp_path):
    """Whatever the order of the codes is, and whether they are numbers of NumPy."""
    save(find(tmp_path), 3)
    codes = {"degree": np.int64(3), "rate": np.float64(0.25)}
    assert resumed(find(tmp_path, codes=codes), 9) == 3
    script = (
        "from sklearn_iis.execution._checkpoints import Checkpoints\n"
        "from sklearn_iis.execution._record import Task\n"
        "from sklearn.ensemble import GradientBoostingClassifier as Estimator\n"
        f"task = Task({CODES}, {{'n_estimators': 9}}, 0)\n"
        f"checkpoint = Checkpoints({str(tmp_path)!r}).find(Estimator(), task)\n"
        "print(checkpoint.resume(Estimator(n_estimators=9)).saved_)\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert run.stdout == "3\n", run.stderr


def test_what_belongs_to_the_evaluation_is_not_kept(tmp_path):
    """The estimator still has it when it leaves its evaluation."""
    estimator = grown(3)
    estimator.saved_ = 3
    estimator._parent_callback_ctx = threading.Lock()
    find(tmp_path).save(estimator)
    assert hasattr(estimator, "_parent_callback_ctx")
    resumed = find(tmp_path).resume(grown(9))
    assert resumed.saved_ == 3
    assert not hasattr(resumed, "_parent_callback_ctx")


@pytest.mark.parametrize("n_estimators", [2, 3])
def test_a_fit_does_not_go_back(tmp_path, n_estimators):
    save(find(tmp_path), 3)
    assert resumed(find(tmp_path), n_estimators) is None


class Stubborn:
    def __getstate__(self):
        raise RuntimeError("no")


@pytest.mark.parametrize("what", [threading.Lock(), Stubborn()], ids=["lock", "own"])
def test_what_cannot_be_saved_is_not(tmp_path, what):
    """Nothing is left half written; what was there before stays."""
    checkpoint = find(tmp_path)
    save(checkpoint, 3)
    estimator = grown(4)
    estimator.saved_ = what
    checkpoint.save(estimator)
    assert resumed(checkpoint, 9) == 3
    assert len(files_in(tmp_path)) == 1


class Killer:
    """Kills the process that pickles it, after a part of the file is written."""

    def __reduce__(self):
        os.kill(os.getpid(), signal.SIGKILL)


def save_and_be_killed(directory):
    estimator = grown(4)
    estimator.saved_ = [os.urandom(10_000_000), Killer()]
    find(directory).save(estimator)


def test_a_process_killed_while_it_saves_leaves_no_broken_checkpoint(tmp_path):
    save(find(tmp_path), 3)
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=save_and_be_killed, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert max(path.stat().st_size for path in files_in(tmp_path)) > 5_000_000
    assert resumed(find(tmp_path), 9) == 3
    save(find(tmp_path), 5)
    assert resumed(find(tmp_path), 9) == 5


def test_threads_save_and_resume_at_once(tmp_path):
    """Each finds a complete checkpoint, or none."""

    def run(i):
        checkpoint = find(tmp_path)
        if i % 10 == 9:
            Checkpoints(tmp_path).discard(CODES)
        elif i % 2:
            save(checkpoint, i % 8 + 1)
        else:
            return resumed(checkpoint, 9)

    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(run, range(200)))
    assert found <= {None, *range(1, 9)}
    for path in files_in(tmp_path):
        pickle.loads(path.read_bytes())


def test_what_cannot_be_loaded_is_fitted_from_the_start(tmp_path):
    checkpoint = find(tmp_path)
    save(checkpoint, 3)
    (path,) = files_in(tmp_path)
    path.write_bytes(b"half a")
    assert resumed(checkpoint, 9) is None


@pytest.mark.parametrize("params", [{}, {"n_estimators": 1, "max_depth": 2}])
def test_only_what_has_a_single_resource_has_a_checkpoint(tmp_path, params):
    assert Checkpoints(tmp_path).find(grown(1), Task(CODES, params, 0)) is None


def test_an_estimator_that_does_not_tell_has_no_checkpoint(tmp_path):
    class Secretive(GradientBoostingClassifier):
        @property
        def warm_start_parameters(self):
            raise RuntimeError("no")

    task = Task(CODES, {"n_estimators": 1}, 0)
    assert Checkpoints(tmp_path).find(Secretive(), task) is None


def test_a_directory_that_is_not_there_holds_nothing(tmp_path):
    checkpoint = find(tmp_path / "gone")
    save(checkpoint, 3)
    assert resumed(checkpoint, 9) is None
    Checkpoints(tmp_path / "gone").discard(CODES)


@pytest.mark.parametrize(
    ("estimator", "resource", "warm_start"),
    [
        (CNNClassifier(schedule="constant"), "max_epochs", "warm_start"),
        (CNNClassifier(schedule_epochs=9), "max_epochs", "warm_start"),
        (CNNClassifier(schedule="constant"), "n_filters", None),
        # The schedule is another one for more epochs.
        (CNNClassifier(), "max_epochs", None),
        (
            Pipeline([("cnn", CNNClassifier(schedule="constant"))]),
            "cnn__max_epochs",
            "cnn__warm_start",
        ),
        (GradientBoostingClassifier(), "n_estimators", "warm_start"),
        (
            BaggingClassifier(GradientBoostingClassifier()),
            "estimator__n_estimators",
            "estimator__warm_start",
        ),
        # They stop by the last trees, start anew, refuse, or warn.
        (GradientBoostingClassifier(n_iter_no_change=2), "n_estimators", None),
        (
            RandomForestClassifier(random_state=np.random.RandomState(0)),
            "n_estimators",
            None,
        ),
        (BaggingClassifier(oob_score=True), "n_estimators", None),
        (RandomForestClassifier(class_weight="balanced"), "n_estimators", None),
        (RandomForestClassifier(class_weight={0: 2}), "n_estimators", "warm_start"),
        # These train `max_iter` more, or start from weights only.
        (SGDClassifier(), "max_iter", None),
        (LogisticRegression(), "max_iter", None),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "fit") else None,
)
def test_fits_go_on_where_this_is_training_straight_through(
    estimator, resource, warm_start
):
    assert find_warm_start(estimator, resource) == warm_start
