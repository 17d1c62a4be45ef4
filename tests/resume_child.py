"""Searches in processes of their own, to be killed, or to run side by side.

A server that has imported everything forks one process a search, which takes no longer
than a few milliseconds. Each fit is noted in a log by the estimator itself.
"""

import atexit
import base64
import functools
import gc
import hashlib
import json
import math
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import numpy as np
import psycopg2  # noqa: F401  # that the server has it
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sklearn.model_selection import KFold

import sklearn_iis.storage._resume  # noqa: F401
from sklearn_iis import IISSearchCV
from sklearn_iis.searches import SEARCHES, get_search
from sklearn_iis.storage import _journal
from sklearn_iis.testing import SPACE, FormulaClassifier, X, y

for name in SEARCHES:
    with suppress(ImportError):  # the extras of some may be missing
        get_search(name)

ROOT = Path(__file__).parent.parent
LOG = "IIS_TEST_LOG"
PATIENCE = 60  # seconds
SIZES = (1, 2)
SPLITS = [
    hashlib.sha256(X[train].tobytes()).hexdigest() for train, _ in KFold(2).split(X)
]

SETTINGS = {
    "random": {},
    "grid": {"n_iter": (9, 3)},
    # The same candidates for any n_jobs.
    "bayes": {"search_params": {"n_points": 2}},
    "tpe": {"search_params": {"n_points": 2}},
    "cmaes": {"search_params": {"n_points": 2}},
    "swarm": {"search_params": {"n_points": 2}},
    "reinforce": {"search_params": {"n_points": 2}},
    "smac": {},
    "genetic": {"search_params": {"synchronous": True}},
    "hyperband": {
        "n_iter": (4, 4),
        "search_params": {"max_resources": 9, "n_brackets": 2},
    },
}
# Some time is another one in each run.
TIMES = ("fit_time", "score_time")


class LoggedClassifier(FormulaClassifier):
    """A classifier that notes each fit, also one that fails, once it is over."""

    # How many are noted before the user interrupts the search.
    patience = math.inf

    def fit(self, X, y):
        if count_fits(Path(os.environ.get(LOG, os.devnull))) >= self.patience:
            raise KeyboardInterrupt
        try:
            return super().fit(X, y)
        finally:
            if path := os.environ.get(LOG):
                time.sleep(0.002)
                write_line(path, self.get_params() | {"split": find_split(X)})

    def score(self, X, y):
        # Each split has its own.
        return super().score(X, y) + 1e-3 * X.mean()


def count_fits(log):
    return log.read_bytes().count(b"\n") if log.exists() else 0


def find_split(X):
    digest = hashlib.sha256(np.ascontiguousarray(X).tobytes()).hexdigest()
    return SPLITS.index(digest) if digest in SPLITS else None


@contextmanager
def light_garbage():
    """Have it that what is imported is not looked through after each failed fit."""
    gc.freeze()
    yield
    gc.unfreeze()


def write_line(path, values):
    log = os.open(path, os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    os.write(log, json.dumps(values, default=float).encode() + b"\n")
    os.close(log)


def make_search(search="random", **settings):
    """A search of two stages, some candidates of which fail."""
    settings = {
        "n_iter": (6, 3),
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


def run(folder, name, begin, search):
    """Run a search, and leave what came out in a file."""
    os.setsid()
    output = os.open(folder / "output", os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ |= {LOG: str(folder / "log"), "TMPDIR": str(folder)}
    os.environ["JOBLIB_TEMP_FOLDER"] = tempfile.tempdir = str(folder)
    # What a killed process has locked is free after this time, instead of 30 seconds.
    lock = partial(_journal.JournalFileSymlinkLock, grace_period=3)
    _journal.JournalFileSymlinkLock = lock
    time.sleep(max(0, begin - time.time()))
    try:
        result = fit(make_search(**search)).cv_results_
    except ValueError as error:
        result = error
    path = folder / name
    path.with_suffix(".part").write_bytes(pickle.dumps(result))
    path.with_suffix(".part").replace(path)


def serve():
    """Fork a process for each request, and tell how they ended."""
    gc.freeze()
    while line := sys.stdin.readline():
        operation, *args = pickle.loads(base64.b64decode(line))
        if operation == "start":
            answer = os.fork()
            if not answer:
                try:
                    run(*args)
                    os._exit(0)
                except BaseException:
                    traceback.print_exc()
                    os._exit(1)
        else:
            pid, status = os.waitpid(args[0], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        sys.stdout.write(f"{json.dumps(answer)}\n")
        sys.stdout.flush()


# In the process of the tests


@functools.cache
def start_server():
    """Start what forks; it ends with this process, at the latest."""
    server = subprocess.Popen(
        [sys.executable, "-c", "from tests.resume_child import serve; serve()"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    atexit.register(stop, server)
    return server


def stop(server):
    """End a server, which it does at the end of its input."""
    server.stdin.close()
    server.stdout.close()
    server.wait()


def ask(*request):
    server = start_server()
    server.stdin.write(base64.b64encode(pickle.dumps(request)) + b"\n")
    server.stdin.flush()
    return json.loads(server.stdout.readline())


class Process:
    """A search in a process, the leader of a group."""

    def __init__(self, *args):
        self.pid = ask("start", *args)
        self.exitcode = None

    def is_alive(self):
        if self.exitcode is None:
            self.exitcode = ask("wait", self.pid)
        return self.exitcode is None

    def join(self):
        until = time.monotonic() + PATIENCE
        while self.is_alive():
            assert time.monotonic() < until, "the search does not end"
            time.sleep(0.002)

    def kill(self, only_parent=False):
        """Kill it, and unless told otherwise what it has started."""
        if self.is_alive():
            os.kill(self.pid, signal.SIGKILL)
        if not only_parent:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        self.join()
        while not only_parent and is_group_alive(self.pid):
            time.sleep(0.001)


@contextmanager
def started(folder, name="result", *, begin=0, **search):
    """A search in a group of processes of its own, which the block may kill."""
    process = Process(folder, name, begin, search)
    try:
        yield process
    finally:
        process.kill()


def finish(process, folder, name="result"):
    """The results of a search, or the error that ended it."""
    process.join()
    assert process.exitcode == 0, (folder / "output").read_text()
    return pickle.loads((folder / name).read_bytes())


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
    """The fits, in their order."""
    path = folder / "log"
    if not path.exists():
        return []
    lines = path.read_text().splitlines()
    return [identify(json.loads(line)) for line in lines]


def identify(values):
    """The identity of an evaluation, as text."""
    values = dict(values)
    for i, width in enumerate(values.pop("widths", ())):
        values[f"widths[{i}]"] = width
    values.pop("fails_below", None)
    return " ".join(f"{name}={value!r}" for name, value in sorted(values.items()))


def identify_all(results):
    """The evaluations of all candidates, as in the log."""
    return [
        identify(LoggedClassifier().get_params() | params | {"split": split})
        for params in results["params"]
        for split in (0, 1)
    ]


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
    """The recorded evaluations, as in the log."""
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
