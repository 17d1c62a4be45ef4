"""Searches in processes of their own, to be killed, or to run side by side.

A server that has imported everything forks one process a search, which takes no longer
than a few milliseconds. Each fit is noted in a log by the estimator itself.
"""

import hashlib
import json
import multiprocessing
import os
import pickle
import signal
import tempfile
import time
import warnings
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import optuna
import psycopg2  # noqa: F401  # that the server has it
from joblib import parallel_config
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sklearn.model_selection import KFold

import sklearn_iis._studies  # noqa: F401
from sklearn_iis import IISSearchCV, _storage
from sklearn_iis.searches import SEARCHES, get_search
from sklearn_iis.testing import SPACE, FormulaClassifier, X, y

for name in SEARCHES:
    get_search(name)

LOG = "IIS_TEST_LOG"
PATIENCE = 60  # seconds
SIZES = (1, 2)
SPLITS = [
    hashlib.sha256(X[train].tobytes()).hexdigest() for train, _ in KFold(2).split(X)
]

SETTINGS = {
    "random": {},
    "grid": {},
    "bayes": {},
    "tpe": {"search_params": {"n_points": 2}},  # the same for any n_jobs
    "smac": {},
    "genetic": {},
    "hyperband": {
        "n_iter": (5, 4),
        "search_params": {"max_resources": 9, "n_brackets": 2},
    },
}
# Some time is another one in each run.
TIMES = ("fit_time", "score_time")


class LoggedClassifier(FormulaClassifier):
    """A classifier that notes each fit, also one that fails, once it is over."""

    def fit(self, X, y):
        try:
            return super().fit(X, y)
        finally:
            if path := os.environ.get(LOG):
                time.sleep(0.002)
                write_line(path, self.get_params() | {"split": find_split(X)})

    def score(self, X, y):
        # Each split has its own.
        return super().score(X, y) + 1e-3 * X.mean()


def find_split(X):
    digest = hashlib.sha256(np.ascontiguousarray(X).tobytes()).hexdigest()
    return SPLITS.index(digest) if digest in SPLITS else None


def write_line(path, values):
    log = os.open(path, os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    os.write(log, json.dumps(values, default=float).encode() + b"\n")
    os.close(log)


def make_search(search="random", **settings):
    """A search of two stages, some candidates of which fail."""
    settings = {
        "n_iter": (8, 4),
        "sizes": SIZES,
        "size_param": "size",
        "cv": KFold(2),
        "random_state": 0,
        "refit": False,
        "estimator": LoggedClassifier(fails_below=1e-3),
        "space": SPACE,
        **SETTINGS.get(search, {}),
        **settings,
    }
    return IISSearchCV(search=search, **settings)


def fit(search):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the candidates that fail
        return search.fit(X, y)


# In a process of its own


def run(folder, name, begin, backend, settings):
    """Run a search, and leave what came out in a file."""
    os.setsid(); import faulthandler; faulthandler.register(10, all_threads=False)
    os.environ |= {LOG: str(folder / "log"), "TMPDIR": str(folder)}
    os.environ["JOBLIB_TEMP_FOLDER"] = tempfile.tempdir = str(folder)
    # What a killed process has locked is free after this time, instead of 30 seconds.
    lock = partial(_storage.JournalFileSymlinkLock, grace_period=3)
    _storage.JournalFileSymlinkLock = lock
    if begin is not None:
        begin.wait(PATIENCE)
    search = make_search(**settings)
    try:
        with parallel_config(backend):
            result = fit(search).cv_results_
    except Exception as error:
        result = error
    write_result(folder / name, result)


def write_result(path, result):
    part = path.with_suffix(".part")
    part.write_bytes(pickle.dumps(result))
    part.replace(path)


# In the process of the tests


@contextmanager
def started(folder, name="result", *, begin=None, backend="multiprocessing", **search):
    """A search in a group of processes of its own, which the block may kill."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.resume_child", "pytest"])
    args = (folder, name, begin, backend, search)
    process = context.Process(target=run, args=args)
    process.start()
    try:
        yield process
    finally:
        kill(process)
        process.close()


def make_barrier(n):
    return multiprocessing.get_context("forkserver").Barrier(n)


def finish(process, folder, name="result"):
    """What came out of a search once it is over; its error if it ended with one."""
    process.join(PATIENCE)
    assert process.exitcode == 0
    return pickle.loads((folder / name).read_bytes())


def kill(process, only_parent=False):
    with_group = partial(os.killpg, process.pid, signal.SIGKILL)
    try:
        process.kill() if only_parent else with_group()
    except ProcessLookupError:  # it is no leader of a group yet
        process.kill()
    process.join(PATIENCE)
    while not only_parent and is_group_alive(process.pid):
        time.sleep(0.001)


def is_group_alive(group):
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = path.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(its_group) == group and state not in "ZX":
            return True
    return False


def read_log(folder):
    """What was fitted, in its order."""
    path = folder / "log"
    if not path.exists():
        return []
    lines = path.read_text().splitlines()
    return [identify(json.loads(line)) for line in lines]


def identify(values):
    """What tells an evaluation from others, as text."""
    values = dict(values)
    for i, width in enumerate(values.pop("widths", ())):
        values[f"widths[{i}]"] = width
    values.pop("fails_below", None)
    return " ".join(f"{name}={value!r}" for name, value in sorted(values.items()))


@contextmanager
def opened(storage):
    """The storage, opened by Optuna without us."""
    if "://" in str(storage):
        opened = RDBStorage(storage)
        yield opened
        opened.remove_session()
        opened.engine.dispose()
    else:
        yield JournalStorage(JournalFileBackend(str(storage)))


def read_studies(storage):
    """The trials of each study, as Optuna reads them."""
    if not (database := str(storage)).startswith("postgresql"):
        path = Path(database.removeprefix("sqlite:///"))
        if not path.exists():
            return {}
    with opened(storage) as reader:
        return {
            study.study_name: reader.get_all_trials(study._study_id)
            for study in reader.get_all_studies()
        }


def read_finished(storage, name="iis", resource=27):
    """What was recorded, as in the log."""
    finished = []
    for study_name, trials in read_studies(storage).items():
        search_name, _, stage = study_name.partition(": stage ")
        assert search_name == name
        for trial in trials:
            if not trial.state.is_finished():
                continue
            further = {
                "size": SIZES[int(stage)],
                "split": trial.user_attrs["split"],
                "max_epochs": int(trial.user_attrs.get("max_epochs", resource)),
            }
            finished.append(identify(trial.params | further))
    return finished


def without_times(results):
    return {
        name: list(column)
        for name, column in results.items()
        if not name.endswith(TIMES)
    }


def assert_same(results, expected, *, times=False):
    """Compare all columns, but for the times unless told."""
    if not times:
        results, expected = without_times(results), without_times(expected)
    assert list(results) == list(expected)
    for name, column in expected.items():
        np.testing.assert_equal(list(results[name]), list(column), err_msg=name)


def get_log_path(folder):
    return str(folder / "log")


optuna.logging.set_verbosity(optuna.logging.ERROR)
