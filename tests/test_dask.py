"""Dask behind joblib: what fails is an error, and large arrays come from elsewhere."""

import gc
import logging
import operator
import os
import threading
import warnings

import numpy as np
import pytest
from joblib import Parallel, delayed, parallel_config

from sklearn_iis._arrays import ArrayFile
from tests.test_backends import assert_same, make_search

distributed = pytest.importorskip("distributed", reason="needs the extra dask")

from sklearn_iis._dask import DurableBackend, is_true_everywhere  # noqa: E402

LARGE = np.arange(2**18, dtype=np.float64)


@pytest.fixture(scope="module")
def client():
    """Of a cluster with a single thread, in this process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cluster = distributed.LocalCluster(
            n_workers=1,
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
    monkeypatch.setattr("sklearn_iis._dask._return", Unreadable())
    with pytest.raises(RuntimeError, match="deserialization"):
        backend.hand_out(LARGE)


def test_a_backend_goes_on_after_an_error(backend):
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            run(backend, operator.truediv, [(1, 1), (1, 0)])
        assert run(backend, operator.truediv, [(1, 1), (1, 2)]) == [1, 0.5]


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


def test_all_workers_have_what_is_handed_out(backend, submitted, client):
    backend.hand_out(LARGE)
    backend.hand_out(LARGE)
    (place,) = backend._places.values()
    assert len(client.who_has([place])[place.key]) == len(client.nthreads())
    assert run(backend, np.sum, [(LARGE,)] * 3) == [LARGE.sum()] * 3
    assert len(submitted) == 1


def test_dask_lets_go_of_what_was_handed_out(backend, client):
    backend.hand_out(LARGE)
    (place,) = backend._places.values()
    key = place.key
    assert client.who_has()[key]
    del place
    backend._places.clear()
    gc.collect()
    client.sync(client.scheduler.identity)  # what the client says arrives in order
    assert not client.who_has().get(key)


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
    monkeypatch.setattr(ArrayFile, "is_here", lambda file: False)
    backend.hand_out(array)
    assert len(submitted) == 1
    assert run(backend, np.sum, [(array,)] * 3) == [LARGE.sum()] * 3


def test_what_the_user_has_scattered_is_not_sent_again(client, monkeypatch):
    with parallel_config("dask", client=client, scatter=[LARGE]) as config:
        backend = DurableBackend(config["backend"])
    monkeypatch.setattr(client, "scatter", None)
    backend.hand_out(LARGE)
    assert backend._places == config["backend"].data_futures
    assert run(backend, np.sum, [(LARGE,)] * 3) == [LARGE.sum()] * 3


def test_what_is_true_everywhere(client, tmp_path):
    assert is_true_everywhere(client, os.path.isdir, str(tmp_path))
    assert not is_true_everywhere(client, os.path.isdir, str(tmp_path / "other"))
    assert not is_true_everywhere(client, operator.truediv, 1, 0)


# Searches within tasks


def search_in_a_task(search, X, y):
    with parallel_config("dask"):
        return search.fit(X, y).cv_results_


def test_a_search_runs_within_a_task(client):
    """It lets others use the only thread while it waits."""
    from tests.pixels import X, y

    search = make_search(sizes=(192,))
    future = client.submit(search_in_a_task, search, X, y)
    assert_same(
        future.result(timeout=60), make_search(sizes=(192,)).fit(X, y).cv_results_
    )
