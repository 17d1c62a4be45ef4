"""Dask behind joblib: what fails is an error, and large arrays come from elsewhere."""

import gc
import logging
import operator
import os
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
from joblib import Parallel, delayed, parallel_config
from joblib.parallel import get_active_backend

from sklearn_iis.execution import _backends
from sklearn_iis.execution._arrays import ArrayFile, FileNotSeenError
from tests.execution.test_backends import assert_same, make_search
from tests.pixels import Pixels, X, y

distributed = pytest.importorskip("distributed", reason="needs the extra dask")

from sklearn_iis.execution import _dask  # noqa: E402
from sklearn_iis.execution._dask import DurableBackend, is_true_everywhere  # noqa: E402

LARGE = np.arange(2**18, dtype=np.float64)


@contextmanager
def cluster_of(n_workers):
    """Workers of one thread each, in this process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cluster = distributed.LocalCluster(
            n_workers=n_workers,
            threads_per_worker=1,
            processes=False,
            protocol="tcp",  # as between processes, all is pickled
            dashboard_address=None,
            host="127.0.0.1",
            silence_logs=logging.CRITICAL,
        )
        client = distributed.Client(cluster, set_as_default=False)
    yield client
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client.close()
        cluster.close()
        gc.collect()


@pytest.fixture(scope="module")
def client():
    """Of a cluster with a single thread."""
    with cluster_of(1) as client:
        yield client


@pytest.fixture(scope="module")
def client_of_two():
    with cluster_of(2) as client:
        yield client


@pytest.fixture
def backend(client):
    with parallel_config("dask", client=client) as config:
        return DurableBackend(config["backend"])


@pytest.fixture
def submitted(client, monkeypatch):
    """The arrays that Dask is given."""
    arrays = []
    submit = client.submit

    def spy(function, *args, **kwargs):
        arrays.extend(a for a in args if isinstance(a, np.ndarray))
        return submit(function, *args, **kwargs)

    monkeypatch.setattr(client, "submit", spy)
    monkeypatch.setattr(client, "scatter", None)
    return arrays


def run(backend, function, arguments):
    with parallel_config(backend):
        return Parallel()(delayed(function)(*a) for a in arguments)


# What fails


def test_results_are_in_order(backend):
    numbers = range(20)
    assert run(backend, operator.neg, [(i,) for i in numbers]) == [-i for i in numbers]


def test_an_error_of_a_task_is_raised(backend):
    with pytest.raises(ZeroDivisionError):
        run(backend, operator.truediv, [(1, 1), (1, 2), (1, 0), (1, 3)])


@pytest.mark.parametrize("n_before", [0, 20])
def test_what_cannot_be_pickled_is_an_error(n_before, backend):
    """The first ones are pickled in this thread, the others as workers get free."""
    with pytest.raises(TypeError, match="cannot pickle"):
        run(backend, type, [(0,)] * n_before + [(threading.Lock(),)])


class Unreadable:
    def __call__(self):
        """Look like a function."""

    def __reduce__(self):
        return operator.truediv, (1, 0)


def test_what_cannot_be_unpickled_is_an_error(backend):
    with pytest.raises(ZeroDivisionError):
        run(backend, type, [(0,)] * 5 + [(Unreadable(),)])


def test_an_array_that_cannot_be_sent_is_an_error(backend, monkeypatch):
    monkeypatch.setattr("sklearn_iis.execution._dask._return", Unreadable())
    with pytest.raises(RuntimeError, match="deserialization"):
        backend.hand_out(LARGE)


def make_lock():
    return threading.Lock()


def make_unreadable():
    return Unreadable()


@pytest.mark.parametrize(
    ("function", "error"),
    [(make_lock, TypeError), (make_unreadable, ZeroDivisionError)],
)
def test_a_result_that_does_not_arrive_is_an_error(function, error, backend):
    with pytest.raises(error):
        run(backend, function, [()] * 5)


class TwoArgumentsError(Exception):
    """Can be pickled, but not unpickled."""

    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")


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


def fail(error, *args):
    raise error(*args)


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
def test_an_error_that_does_not_arrive_is_told(error, args, backend):
    told = f"(?s)cannot be pickled:.*raise error.*{error.__name__}"
    with pytest.raises(RuntimeError, match=told):
        run(backend, fail, [(error, *args)] * 5)


def test_an_error_tells_where_it_comes_from(backend):
    with pytest.raises(ZeroDivisionError) as info:
        run(backend, operator.truediv, [(1, 0)])
    assert "in evaluate" in info.value.__notes__[0]


class Refusing(Pixels):
    def fit(self, X, y):
        raise TwoArgumentsError("this", "that")


def test_a_search_ends_with_an_error_that_does_not_arrive(client):
    search = make_search(error_score="raise")
    search.estimator.set_params(model=Refusing())
    with (
        parallel_config("dask", client=client),
        pytest.raises(RuntimeError, match="cannot be pickled"),
    ):
        search.fit(X, y)


def test_nothing_goes_on_after_an_error(backend, client):
    """Not what was submitted just before, either."""
    before = {*client.futures}
    calls = [delayed(time.sleep)(1) for _ in range(3)]
    with parallel_config(backend), pytest.raises(TypeError, match="lock"):
        Parallel(pre_dispatch="all")([*calls, delayed(type)(threading.Lock())])
    assert {*client.futures} <= before
    assert client.run_on_scheduler(find_tasks) <= before


def find_tasks(dask_scheduler):
    return {*dask_scheduler.tasks}


def test_a_backend_goes_on_after_an_error(backend):
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            run(backend, operator.truediv, [(1, 1), (1, 0)])
        assert run(backend, operator.truediv, [(1, 1), (1, 2)]) == [1, 0.5]


def test_a_cluster_without_workers_has_none(backend, client, monkeypatch):
    """Which joblib tells, if it is not to wait for some."""
    monkeypatch.setattr(client, "ncores", dict)
    backend.wait_for_workers_timeout = 0
    with pytest.raises(RuntimeError, match="no active worker"):
        run(backend, abs, [(1,)])


def test_a_single_worker_is_a_worker_as_well(backend):
    """What joblib would run in the process of the search may kill it."""
    threads = run(backend, threading.get_ident, [()] * 3)
    assert len(threads) == 3
    assert threading.get_ident() not in threads


def test_settings_of_the_user_are_kept(client):
    settings = {"retries": 2, "pure": False}
    with parallel_config(
        "dask", client=client, wait_for_workers_timeout=5, **settings
    ) as config:
        backend = DurableBackend(config["backend"])
    assert backend.client is client
    assert backend.wait_for_workers_timeout == 5
    assert backend.submit_kwargs == settings
    assert backend.nesting_level == config["backend"].nesting_level
    assert run(backend, operator.neg, [(1,)]) == [-1]


# Large arrays


def test_small_arrays_go_with_each_task(backend, submitted):
    assert run(backend, np.sum, [(LARGE[:9],)] * 3) == [36.0] * 3
    assert submitted == []


def find_sums(first, second):
    return np.sum(first[-1]), np.sum(second)


def test_a_large_array_is_sent_once(backend, submitted):
    """Wherever it is found in a task; and what is equal is not the same."""
    other = LARGE + 1
    tasks = [(LARGE, LARGE), ([LARGE], other), ((1, other), LARGE)]
    assert run(backend, find_sums, tasks * 2) == [find_sums(*t) for t in tasks * 2]
    assert [a is LARGE for a in submitted] == [True, False]
    assert [a is other for a in submitted] == [False, True]


def test_an_array_goes_once_with_a_task(backend):
    _, args, _ = backend._pack((find_sums, ([LARGE], LARGE), {}))
    data, *futures = args
    assert len(data) < 1000
    assert len(futures) == 1


def test_an_array_is_not_to_be_written_to(backend, tmp_path):
    """As all tasks have the same one, by the file and otherwise."""
    np.save(tmp_path / "large.npy", LARGE)
    array = np.load(tmp_path / "large.npy", mmap_mode="r")
    for each in (LARGE, array):
        backend.hand_out(each)
        with pytest.raises(ValueError, match="read-only"):
            run(backend, np.ndarray.sort, [(each,)])


def test_no_warning_of_a_large_graph(backend):
    """Dask warns from 10 MB."""
    array = np.ones(2**21)
    backend.hand_out(array)
    assert run(backend, np.sum, [(array,)] * 2) == [array.sum()] * 2


def test_an_array_is_not_taken_for_one_that_is_gone(backend):
    """Which may have had the same address."""
    for i in range(20):
        array = np.full(len(LARGE), float(i))
        assert run(backend, np.max, [(array,)]) == [i]
        del array


def test_all_workers_get_what_is_handed_out(client_of_two, monkeypatch):
    with parallel_config("dask", client=client_of_two) as config:
        backend = DurableBackend(config["backend"])
    replicated = []
    replicate = client_of_two.replicate

    def spy(futures, **kwargs):
        replicate(futures, **kwargs)
        replicated.extend(client_of_two.who_has(futures).values())

    monkeypatch.setattr(client_of_two, "replicate", spy)
    backend.hand_out(LARGE)
    backend.hand_out(LARGE)
    assert [len(who) for who in replicated] == [2]


@pytest.mark.parametrize(
    "value",
    [
        ["a path that is rather long" * 99] * 2**10,
        np.ma.array(LARGE, mask=LARGE > 10),
        np.array(["x", None] * 2**17, dtype=object),
    ],
    ids=["list", "masked", "objects"],
)
def test_what_is_no_plain_array_can_be_handed_out(value, backend):
    backend.hand_out(value)
    _, (data, *futures), _ = backend._pack((type, (value,), {}))
    assert len(data) < 1000
    assert len(futures) == 1
    assert run(backend, type, [(value,)] * 3) == [type(value)] * 3
    assert run(backend, len, [(value,)]) == [len(value)]


def test_only_workers_of_the_search_get_what_is_handed_out(client_of_two):
    one = min(client_of_two.nthreads())
    for workers in (one, [one]):
        config = parallel_config("dask", client=client_of_two, workers=workers)
        with config as active:
            backend = DurableBackend(active["backend"])
        backend.hand_out(LARGE)
        (future,) = backend._places.values()
        assert client_of_two.who_has([future]) == {future.key: (one,)}


def find_backend():
    backend, n_jobs = get_active_backend()
    return type(backend).__name__, backend.effective_n_jobs(n_jobs)


def find_backends():
    """Of a task, and of what it runs by joblib; threads may return anything."""
    Parallel(n_jobs=2)([delayed(threading.Lock)()])
    return find_backend(), Parallel(n_jobs=2)([delayed(find_backend)()])


def test_a_task_stays_in_its_process(backend):
    """Also if it uses joblib; it is as in joblib's own processes."""
    (found,) = run(backend, find_backends, [()])
    with parallel_config("loky", n_jobs=2):
        expected = Parallel()(delayed(find_backends)() for _ in range(2))
    assert [found] * 2 == expected


def forgets_all_but(keys, client):
    """Whether Dask has nothing more of what a client gave it, after a while."""
    for _ in range(100):
        if {*client.futures, *client.who_has()} <= keys:
            return True
        time.sleep(0.1)
    return False


def sum_slowly(array, error):
    time.sleep(0.5)
    if error:
        raise error
    return array.sum()


@pytest.mark.parametrize("ends_with", [None, ZeroDivisionError, KeyboardInterrupt])
def test_dask_forgets_it_all_in_the_end(ends_with, client):
    before = {*client.futures, *client.who_has()}
    array = LARGE + 1
    error = ZeroDivisionError if ends_with is ZeroDivisionError else None
    timer = threading.Timer(0.8, signal.raise_signal, [signal.SIGINT])
    with (
        pytest.raises(ends_with) if ends_with else nullcontext(),
        parallel_config("dask", client=client),
        _backends.handed_out(array, None),
    ):
        if ends_with is KeyboardInterrupt:
            timer.start()
        Parallel()(delayed(sum_slowly)(array, error) for _ in range(6))
    assert forgets_all_but(before, client)


def test_a_map_comes_from_its_file(backend, submitted, tmp_path):
    np.save(tmp_path / "large.npy", LARGE)
    array = np.load(tmp_path / "large.npy", mmap_mode="r")
    backend.hand_out(array)
    assert isinstance(backend._places[id(array)], ArrayFile)
    (kind,) = run(backend, type, [(array,)])
    assert kind is np.memmap
    assert run(backend, np.sum, [(array,)] * 3) == [LARGE.sum()] * 3
    assert submitted == []


def test_a_file_that_not_all_workers_see_is_sent(
    backend, submitted, tmp_path, monkeypatch
):
    np.save(tmp_path / "large.npy", LARGE)
    array = np.load(tmp_path / "large.npy", mmap_mode="r")
    monkeypatch.setattr(_dask, "is_true_everywhere", lambda *_: False)
    backend.hand_out(array)
    assert len(submitted) == 1
    assert run(backend, np.sum, [(array,)] * 3) == [LARGE.sum()] * 3


def test_a_worker_that_joins_late_need_not_see_the_file(client, monkeypatch):
    """The images are sent from then on."""
    sees, opened = [True], []

    def open_file(file):
        opened.append(file)
        if len(opened) == 3:
            sees.clear()
        if not sees:
            raise FileNotSeenError
        return np.memmap(file.path, file.dtype, "r", file.offset, file.shape)

    def is_here(file):
        return bool(sees)

    monkeypatch.setattr(ArrayFile, "is_here", is_here)
    monkeypatch.setattr(ArrayFile, "open", open_file)
    with parallel_config("dask", client=client):
        results = make_search().fit(X, y).cv_results_
    assert len(opened) >= 3
    assert not sees
    assert_same(results, make_search().fit(X, y).cv_results_)


@pytest.mark.parametrize("value", [LARGE, list(range(9))], ids=["large", "small"])
def test_what_the_user_has_scattered_is_not_sent_again(value, client, monkeypatch):
    with parallel_config("dask", client=client, scatter=[value]) as config:
        backend = DurableBackend(config["backend"])
        monkeypatch.setattr(client, "scatter", None)
        backend.hand_out(value)
        assert backend._places == config["backend"].data_futures
        _, (_, *futures), _ = backend._pack((np.sum, (value,), {}))
        assert futures == list(config["backend"].data_futures.values())
        assert run(backend, np.sum, [(value,)] * 3) == [np.sum(value)] * 3


def is_first(dask_worker):
    if dask_worker.name == 0:
        return True
    raise OSError


def test_what_is_true_everywhere(client_of_two, tmp_path):
    assert is_true_everywhere(client_of_two, os.path.isdir, str(tmp_path))
    other = str(tmp_path / "other")
    assert not is_true_everywhere(client_of_two, os.path.isdir, other)
    assert not is_true_everywhere(client_of_two, is_first)


# Where workers and the scheduler are


def search_in_a_task(search, X, y):
    with parallel_config("dask"):
        return search.fit(X, y).cv_results_


@pytest.mark.parametrize("way", ["file", "task"])
def test_a_search_runs_within_a_task(way, client, monkeypatch):
    """It lets others use the only thread while it waits."""
    if way == "task":
        monkeypatch.setattr(_dask, "is_true_everywhere", lambda *_: False)
    search = make_search(sizes=(192,))
    results = client.submit(search_in_a_task, search, X, y, pure=False).result(60)
    assert_same(results, make_search(sizes=(192,)).fit(X, y).cv_results_)


@contextmanager
def process_of_dask(name, *args, cwd):
    """A scheduler, or a worker; yields its log."""
    log = cwd / f"{name}.log"
    with open(log, "wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "dask", name, *args], cwd=cwd, stderr=stderr
        )
    try:
        yield log
    finally:
        process.kill()
        process.wait(30)


def test_the_scheduler_does_not_import_what_tasks_are_made_of(tmp_path, monkeypatch):
    """Here that is this very module."""
    host = ["--host", "127.0.0.1", "--no-dashboard"]
    monkeypatch.delenv("PYTHONPATH", raising=False)
    with process_of_dask("scheduler", *host, "--port", "0", cwd=tmp_path) as log:
        while not (found := re.search(r"tcp://127.0.0.1:\d+", log.read_text())):
            time.sleep(0.1)
        monkeypatch.setenv("PYTHONPATH", os.getcwd())
        threads = ["--nthreads", "1", "--no-nanny"]
        with (
            process_of_dask("worker", found[0], *host, *threads, cwd=tmp_path),
            distributed.Client(found[0], set_as_default=False) as client,
            parallel_config("dask", client=client),
        ):
            client.wait_for_workers(1, timeout=60)
            with _backends.handed_out(LARGE, None):
                calls = [delayed(find_sums)([LARGE], LARGE) for _ in range(3)]
                assert Parallel()(calls) == [find_sums([LARGE], LARGE)] * 3
