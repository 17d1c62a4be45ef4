"""Executors of this machine: what they share, errors on their way home, threads."""

import os
import subprocess
import sys
import threading
import time
import warnings
from contextlib import suppress
from pathlib import Path

import joblib
import numpy as np
import pytest
import sklearn
import torch
from joblib import Parallel, delayed, parallel_config
from joblib.parallel import BACKENDS, get_active_backend
from loky import get_reusable_executor

from sklearn_iis.execution import _executors
from sklearn_iis.execution._executors import (
    Failure,
    LokyExecutor,
    MultiprocessingExecutor,
    SerialExecutor,
    ThreadExecutor,
    make_executor,
    run_in_worker,
)
from sklearn_iis.execution._record import Row
from sklearn_iis.testing import FormulaClassifier
from tests.execution.workers import (
    LARGE,
    TwoArgumentsError,
    assert_same,
    executor_of,
    expect_scores,
    find_scores,
    make_cnn_search,
    make_job,
    make_search,
    run_rows,
)
from tests.logging_search import small_disk  # noqa: F401
from tests.pixels import X, y

PROCESSES = ["loky", "multiprocessing"]
# torch has threads, and Python warns of forking a process that has any.
ignore_forks = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


# The choice


@pytest.mark.parametrize(
    ("backend", "kind"),
    [
        ("sequential", SerialExecutor),
        ("threading", ThreadExecutor),
        ("multiprocessing", MultiprocessingExecutor),
        ("loky", LokyExecutor),
    ],
)
@ignore_forks
def test_joblib_chooses_the_executor(backend, kind):
    with executor_of(backend, n_jobs=2) as executor:
        assert type(executor) is kind
        assert executor.n_workers == (1 if kind is SerialExecutor else 2)
    with executor_of(backend, n_jobs=1) as executor:
        assert type(executor) is SerialExecutor


def test_n_jobs_of_the_search_comes_first():
    with parallel_config("threading", n_jobs=3):
        for n_jobs, expected in [(None, 3), (2, 2)]:
            executor = make_executor(n_jobs)
            executor.close()
            assert executor.n_workers == expected


def test_another_backend_is_refused_with_those_that_work(monkeypatch):
    class OwnBackend(BACKENDS["threading"]):
        pass

    monkeypatch.setitem(BACKENDS, "own", OwnBackend)
    with (
        parallel_config("own", n_jobs=2),
        pytest.raises(ValueError, match=r"OwnBackend cannot .*'loky', 'dask', 'ray'"),
    ):
        make_search().fit(X, y)


def test_dask_without_a_client_is_refused_by_joblib():
    pytest.importorskip("distributed", reason="needs the extra dask")
    message = "first create a Dask Client"
    with pytest.raises(ValueError, match=message), parallel_config("dask"):
        pass


# Data


@pytest.fixture
def saved(monkeypatch):
    """The shapes of the arrays that are written to files."""
    shapes = []
    save = np.save

    def spy(path, array):
        shapes.append(array.shape)
        save(path, array)

    monkeypatch.setattr(np, "save", spy)
    return shapes


def test_processes_share_one_file_a_stage(saved):
    """One for the images at full size; resized ones are in a file already."""
    search = make_search("genetic", sizes=(96, 192), n_jobs=2).fit(X, y)
    assert saved == [(60, 192, 192, 3)]
    expected = make_search("genetic", sizes=(96, 192)).fit(X, y)
    assert_same(search.cv_results_, expected.cv_results_)


def test_a_map_is_not_copied(saved, tmp_path):
    np.lib.format.open_memmap(tmp_path / "images.npy", "w+", X.dtype, X.shape)[:] = X
    images = np.load(tmp_path / "images.npy", mmap_mode="r")
    search = make_search(sizes=(192,), n_jobs=2).fit(images, y)
    assert saved == []
    expected = make_search(sizes=(192,)).fit(X, y)
    assert_same(search.cv_results_, expected.cv_results_)


@pytest.mark.parametrize(
    ("backend", "n_jobs", "n_images"),
    [("loky", 1, 60), ("threading", 2, 60), ("loky", 2, 8)],
)
def test_nothing_is_written_without_need(backend, n_jobs, n_images, saved):
    """With one process, or few images."""
    with parallel_config(backend, n_jobs=n_jobs):
        make_search(n_iter=2).fit(X[:n_images], y[:n_images])
    assert saved == []


def find_sum(estimator, X, y):
    return X.sum()


@pytest.mark.parametrize("backend", PROCESSES)
@pytest.mark.parametrize("order", ["C", "F"])
@ignore_forks
def test_large_arrays_come_from_files(order, backend, tmp_path):
    X = np.array(LARGE, order=order)
    job = make_job(X, np.arange(len(X)) % 2, scorer=find_sum)
    with executor_of(backend, n_jobs=2) as executor:
        assert find_scores(executor, job, tmp_path) == expect_scores(job)
    loaded = _executors.JobFile.write(job, str(tmp_path)).load()
    np.testing.assert_array_equal(loaded.fidelities[0].X, X)
    assert loaded.fidelities[0].X.flags[f"{order}_CONTIGUOUS"]
    assert not loaded.fidelities[0].X.flags.writeable


class LoadCount:
    """The number of times that it was unpickled in this process."""

    n_loads = 0

    def __setstate__(self, state):
        LoadCount.n_loads += 1

    def __getstate__(self):
        return {"any": "thing"}

    def __call__(self, estimator, X, y):
        return float(LoadCount.n_loads)


@pytest.mark.parametrize("backend", PROCESSES)
@ignore_forks
def test_a_process_loads_a_job_once(backend, tmp_path):
    get_reusable_executor().shutdown(wait=True)
    with executor_of(backend, n_jobs=2) as executor:
        scores = find_scores(executor, make_job(scorer=LoadCount()), tmp_path, 6)
    assert np.max(scores) == 1


def test_a_network_trains_on_a_map_without_a_warning():
    """torch warns of memory that must not be written to."""
    with parallel_config("loky"):
        results = make_cnn_search(n_jobs=2).fit(X, y).cv_results_
    assert set(results["error"]) == {None}


def test_a_full_disk_is_told_with_its_remedy(small_disk, monkeypatch):  # noqa: F811
    monkeypatch.setattr("tempfile.tempdir", str(small_disk))
    message = rf"cannot be written to '{small_disk}.*free some space there"
    with pytest.raises(OSError, match=message):
        make_search(n_jobs=2).fit(X, y)
    assert not list(small_disk.iterdir())


# Evaluations in workers


def find_backend():
    backend, n_jobs = get_active_backend()
    return type(backend).__name__, backend.effective_n_jobs(n_jobs)


def is_as_in_processes(estimator, X, y):
    """Whether all is as in what joblib itself runs in a process."""
    found = find_backend(), Parallel(n_jobs=2)([delayed(find_backend)()])
    return float(found == (("ThreadingBackend", 1), [("SequentialBackend", 1)]))


@pytest.mark.parametrize("backend", [*PROCESSES, "threading"])
@ignore_forks
def test_an_evaluation_stays_in_its_process(backend, tmp_path):
    """Also if it uses joblib."""
    job = make_job(scorer=is_as_in_processes)
    with executor_of(backend, n_jobs=2) as executor:
        assert find_scores(executor, job, tmp_path, 1) == [[1.0, 1.0]]


def sleep(estimator, X, y):
    time.sleep(60)
    return 0.0


@pytest.mark.parametrize("backend", PROCESSES)
@ignore_forks
def test_what_is_under_way_is_killed(backend, tmp_path):
    begin = time.monotonic()
    with executor_of(backend, n_jobs=2) as executor:
        handle = executor.share(make_job(scorer=sleep), str(tmp_path))
        tasks = Row({"rate": 0.5}, 2).tasks
        futures = [executor.submit(handle, task, 60.0, None) for task in tasks]
        executor.close(kill=True)
    assert all(future.done() for future in futures)
    assert time.monotonic() - begin < 30


# Errors


class LockedError(Exception):
    def __init__(self):
        super().__init__(threading.Lock())


class FrozenError(Exception):
    def __setattr__(self, name, value):
        raise AttributeError


class DisguisedError(Exception):
    def __reduce__(self):
        return str, ("no error",)


class ExitingError(Exception):
    def __reduce__(self):
        return sys.exit, ()


@pytest.mark.parametrize("backend", PROCESSES)
@ignore_forks
def test_an_error_tells_where_it_comes_from(backend, tmp_path):
    estimator = FormulaClassifier(fails_below=1.0)
    job = make_job(estimator=estimator, error_score="raise")
    with (
        executor_of(backend, n_jobs=2) as executor,
        pytest.raises(RuntimeError) as info,
    ):
        run_rows(executor, job, tmp_path)
    assert "in run_in_worker" in info.value.__notes__[0]


@pytest.mark.parametrize(
    ("error", "args"),
    [
        (TwoArgumentsError, ("this", "that")),
        (LockedError, ()),
        (FrozenError, ()),
        (DisguisedError, ()),
        (ExitingError, ()),
    ],
)
def test_an_error_that_does_not_arrive_is_told(error, args):
    def load():
        raise error(*args)

    failure = run_in_worker(load, Row({"rate": 0.5}, 2).tasks[0], 60.0, None)
    assert type(failure) is Failure
    # tblib, which Dask imports, can pickle some of them.
    told = rf"(?s)cannot be pickled:.*raise error.*{error.__name__}"
    if "tblib" in sys.modules and error is TwoArgumentsError:
        told = "this and that"
    with pytest.raises((RuntimeError, error), match=told):
        failure.reraise()


def test_a_job_that_cannot_be_loaded_is_an_error():
    task = Row({"rate": 0.5}, 2).tasks[0]
    failure = run_in_worker(lambda: 1 / 0, task, 60.0, None)
    with pytest.raises(ZeroDivisionError):
        failure.reraise()


# Threads


@pytest.fixture
def eight_cores(monkeypatch):
    n_threads = torch.get_num_threads()
    monkeypatch.setattr(joblib, "cpu_count", lambda: 8)
    torch.set_num_threads(8)
    yield
    torch.set_num_threads(n_threads)


def count_threads(estimator, X, y):
    return float(torch.get_num_threads())


def read_variable(estimator, X, y):
    return float(os.environ["OMP_NUM_THREADS"])


@pytest.mark.parametrize("backend", ["threading", "multiprocessing"])
@pytest.mark.parametrize(("n_jobs", "expected"), [(1, 8), (2, 4), (3, 2), (16, 1)])
@ignore_forks
def test_workers_that_inherit_threads_share_them(
    backend, n_jobs, expected, eight_cores, tmp_path
):
    with executor_of(backend, n_jobs=n_jobs) as executor:
        scores = find_scores(executor, make_job(scorer=count_threads), tmp_path)
    assert set(np.ravel(scores)) == {expected}
    assert torch.get_num_threads() == 8


@ignore_forks
def test_threads_are_given_back_after_an_error(eight_cores):
    for backend in ("threading", "multiprocessing"):
        with pytest.raises(KeyError), executor_of(backend, n_jobs=4):
            raise KeyError
        assert torch.get_num_threads() == 8


def test_threads_without_torch(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch")
    with executor_of("threading", n_jobs=2):
        assert "torch" not in sys.modules


@pytest.mark.parametrize("n_threads", [None, 3])
def test_workers_of_loky_share_the_processors(n_threads, tmp_path, monkeypatch):
    """They are told by the environment that they are started with."""
    get_reusable_executor().shutdown(wait=True)
    for name in [name for name in os.environ if name.endswith("_NUM_THREADS")]:
        monkeypatch.delenv(name)
    n_before = torch.get_num_threads()
    config = {} if n_threads is None else {"inner_max_num_threads": n_threads}
    with executor_of("loky", n_jobs=2, **config) as executor:
        scores = find_scores(executor, make_job(scorer=read_variable), tmp_path)
    get_reusable_executor().shutdown(wait=True)
    assert set(np.ravel(scores)) == {n_threads or max(1, joblib.cpu_count() // 2)}
    assert torch.get_num_threads() == n_before


# Whatever else the process of the search has


class Configured(FormulaClassifier):
    """Tells what it finds set, by its score."""

    def fit(self, X, y):
        warnings.warn("from fit", UserWarning, stacklevel=1)
        return super().fit(X, y)

    def score(self, X, y):
        return float(sklearn.get_config()["transform_output"] == "pandas")


@pytest.mark.parametrize("backend", ["sequential", "threading", *PROCESSES])
@ignore_forks
@pytest.mark.filterwarnings("ignore:from fit")
def test_workers_have_the_configuration_of_scikit_learn(backend, tmp_path):
    with (
        sklearn.config_context(transform_output="pandas"),
        executor_of(backend, n_jobs=2) as executor,
    ):
        job = make_job(estimator=Configured())
        rows = run_rows(executor, job, tmp_path, 1)
    assert [row.score for row in rows] == [1.0]


@pytest.mark.parametrize("backend", ["sequential", "threading", *PROCESSES])
@pytest.mark.parametrize("action", ["error", "ignore"])
@ignore_forks
def test_workers_have_the_filters_of_warnings(action, backend, tmp_path, capfd):
    with executor_of(backend, n_jobs=2) as executor, warnings.catch_warnings():
        warnings.filterwarnings(action, "from fit")
        job = make_job(estimator=Configured())
        (row,) = run_rows(executor, job, tmp_path, 1)
    assert (row.error is None) == (action == "ignore")
    assert "from fit" not in capfd.readouterr().err


KILLED = """
import os, signal, sys, threading, time
from joblib import parallel_config
from sklearn_iis import IISSearchCV
from sklearn_iis.testing import X, y
from tests.logging_search import Logging

def kill():
    while not os.path.exists(sys.argv[2]):
        time.sleep(0.05)
    os.kill(os.getpid(), getattr(signal, sys.argv[3]))

if __name__ == "__main__":
    threading.Thread(target=kill, daemon=True).start()
    with parallel_config(sys.argv[1], n_jobs=2):
        search = IISSearchCV(
            Logging(seconds=30.0, log=sys.argv[2]), {"degree": [1, 2, 3, 4]}, n_iter=4
        )
        search.fit(X, y)
"""


def find_processes(text):
    """The processes, other than zombies, whose command has a text in it."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (path / "cmdline").read_bytes()
            state = (path / "stat").read_text().rpartition(")")[2].split()[0]
            if text.encode() in command and state != "Z":
                found.append(path.name)
    return found


@pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc")
@pytest.mark.parametrize("kind", ["SIGTERM", "SIGKILL"])
def test_forked_workers_end_with_the_search(kind, tmp_path):
    log = str(tmp_path / "log")
    child = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", KILLED, "multiprocessing", log, kind],
        cwd=Path(__file__).parents[2],
    )
    child.wait(60)
    assert Path(log).exists()  # there were workers
    for _ in range(200):
        if not find_processes(log):
            break
        time.sleep(0.1)
    assert find_processes(log) == []


def test_an_interrupt_does_not_wait_for_threads(tmp_path):
    """The interpreter ends, whatever they are doing."""
    log = str(tmp_path / "log")
    begin = time.monotonic()
    child = subprocess.run(
        [sys.executable, "-c", KILLED, "threading", log, "SIGINT"],
        cwd=Path(__file__).parents[2],
        stderr=subprocess.PIPE,
        timeout=60,
    )
    assert b"KeyboardInterrupt" in child.stderr
    # An evaluation takes 30 s, and began before the interrupt.
    assert time.monotonic() - begin < 29


def test_an_error_leaves_the_processes_of_loky_alone(tmp_path):
    """The next search needs them, if nothing is under way."""
    with executor_of("loky", n_jobs=2) as executor:
        run_rows(executor, make_job(), tmp_path, 1)
        pool = executor._pool
    with pytest.raises(KeyError), executor_of("loky", n_jobs=2) as executor:
        raise KeyError
    with executor_of("loky", n_jobs=2) as executor:
        assert executor._pool is pool
