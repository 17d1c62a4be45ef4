"""Dask's executor: evaluations outlive workers, and no error is waited for."""

import gc
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, nullcontext

import cloudpickle
import numpy as np
import pytest
from joblib import Parallel, delayed, parallel_config
from joblib.parallel import get_active_backend
from sklearn.exceptions import FitFailedWarning

from sklearn_iis.execution._arrays import ArrayFile
from sklearn_iis.execution._record import Row
from sklearn_iis.searches import SEARCHES
from tests.execution.workers import (
    LARGE,
    Cluster,
    Refusing,
    TwoArgumentsError,
    assert_asynchronous,
    assert_one_failed,
    assert_same,
    engine_warnings,
    environment_of_workers,
    executor_of,
    expect,
    expect_cnn,
    expect_scores,
    find_scores,
    make_cnn_search,
    make_job,
    make_search,
    run_rows,
    second_largest_alpha,
)
from tests.pixels import X, y

distributed = pytest.importorskip("distributed", reason="needs the extra dask")

from sklearn_iis.execution import _dask  # noqa: E402
from sklearn_iis.execution._dask import (  # noqa: E402
    NOT_SEEN,
    LoadedJob,
    evaluate,
    is_true_everywhere,
)

# Of the size of the images.
LABELS = np.arange(len(LARGE)) % 2


@contextmanager
def cluster_of(n_workers, threads_per_worker=1):
    """Workers in this process."""
    with engine_warnings():
        cluster = distributed.LocalCluster(
            n_workers=n_workers,
            threads_per_worker=threads_per_worker,
            processes=False,
            protocol="tcp",  # as between processes, all is pickled
            dashboard_address=None,
            host="127.0.0.1",
            silence_logs=logging.CRITICAL,
        )
        client = distributed.Client(cluster, set_as_default=False)
    yield client
    with engine_warnings():
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
def executor(client):
    with executor_of("dask", client=client) as executor:
        yield executor


@pytest.fixture(scope="module")
def dask():
    """Two processes."""
    import dask.config

    # What is away for the second time after 15 seconds would not be started again.
    settings = {"distributed.deploy.lost-worker-timeout": "1 hour"}
    with environment_of_workers(), dask.config.set(settings):
        with engine_warnings():
            cluster = distributed.LocalCluster(
                n_workers=2,
                processes=True,
                threads_per_worker=1,
                dashboard_address=None,
                host="127.0.0.1",
                silence_logs=logging.CRITICAL,
            )
            client = distributed.Client(cluster, set_as_default=False)
        yield Cluster("dask", {"client": client}, client)
        with engine_warnings():
            client.close()
            cluster.close()
            gc.collect()


@pytest.fixture
def both_workers(dask):
    """Of which a former test may have killed one."""
    dask.workers.wait_for_workers(2, timeout=60)
    return dask


@pytest.fixture
def sent(client, monkeypatch):
    """The arrays that Dask is given."""
    arrays = []
    submit = client.submit

    def spy(function, *args, **kwargs):
        arrays.extend(a for a in args if isinstance(a, np.ndarray))
        return submit(function, *args, **kwargs)

    monkeypatch.setattr(client, "submit", spy)
    monkeypatch.setattr(client, "scatter", None)
    return arrays


@pytest.fixture
def no_files(monkeypatch):
    """Workers that see no file of the search, as if they were on other machines."""
    monkeypatch.setattr(_dask, "is_true_everywhere", lambda *_: False)


@pytest.fixture(params=["file", "task"])
def way(request):
    """How images reach the workers."""
    if request.param == "task":
        request.getfixturevalue("no_files")
    return request.param


def large_job(X=LARGE, **fields):
    return make_job(X, LABELS, **fields)


def find_sum(estimator, X, y):
    return X.sum()


# Errors


def test_scores_are_those_of_this_process(executor, tmp_path):
    job = make_job()
    assert find_scores(executor, job, tmp_path, 9) == expect_scores(job, 9)


@pytest.fixture
def failing_job():
    job = make_job(error_score="raise")
    job.estimator.set_params(fails_below=1.0)
    return job


def test_an_error_is_raised_with_its_place(failing_job, executor, tmp_path):
    with pytest.raises(RuntimeError) as info:
        run_rows(executor, failing_job, tmp_path)
    assert "in run_in_worker" in info.value.__notes__[0]


def test_an_executor_goes_on_after_an_error(failing_job, executor, tmp_path):
    job = make_job()
    for _ in range(3):
        with pytest.raises(RuntimeError):
            run_rows(executor, failing_job, tmp_path)
        assert find_scores(executor, job, tmp_path) == expect_scores(job)


def test_a_job_that_cannot_be_pickled_is_an_error(executor, tmp_path):
    with pytest.raises(TypeError, match="cannot pickle"):
        executor.share(make_job(scorer=threading.Lock()), str(tmp_path))


def test_a_task_that_cannot_be_pickled_is_an_error(executor, tmp_path):
    handle = executor.share(make_job(), str(tmp_path))
    task = Row({"rate": 0.5}, 2, params={"size": threading.Lock()}).tasks[0]
    with pytest.raises(TypeError, match="cannot pickle"):
        executor.submit(handle, task, 60.0, None)


class Unreadable:
    def __call__(self):
        """Look like a function."""

    def __reduce__(self):
        return divide, (1, 0)


def divide(a, b):
    return a / b


def test_a_job_that_cannot_be_unpickled_is_an_error(executor, tmp_path):
    with pytest.raises(ZeroDivisionError):
        run_rows(executor, make_job(scorer=Unreadable()), tmp_path)


def test_a_task_that_cannot_be_unpickled_is_an_error(executor, tmp_path):
    handle = executor.share(make_job(), str(tmp_path))
    task = Row({"rate": 0.5}, 2, params={"size": Unreadable()}).tasks[0]
    with pytest.raises(ZeroDivisionError):
        executor.submit(handle, task, 60.0, None).result(60)


@pytest.mark.usefixtures("no_files")
def test_a_job_that_cannot_be_sent_is_an_error(executor, tmp_path, monkeypatch):
    monkeypatch.setattr(_dask, "LoadedJob", Unreadable())
    with pytest.raises(RuntimeError, match="deserialization"):
        executor.share(large_job(), str(tmp_path))


def test_a_search_ends_with_an_error_that_cannot_be_pickled(client):
    """But by tblib, which Dask has imported."""
    search = make_search(error_score="raise")
    search.estimator.set_params(model=Refusing())
    with (
        parallel_config("dask", client=client),
        pytest.raises((RuntimeError, TwoArgumentsError), match="this and that"),
    ):
        search.fit(X, y)


def sleep(estimator, X, y):
    time.sleep(1)
    return 0.0


@pytest.fixture
def no_garbage_collection():
    """Whatever is let go of is freed at once, or not before the test has failed."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_garbage_collection")
def test_nothing_goes_on_after_an_error(client, tmp_path):
    """Not what was submitted just before, either."""
    before = {*client.futures}
    with executor_of("dask", client=client) as executor:
        handle = executor.share(make_job(scorer=sleep), str(tmp_path))
        for task in Row({"rate": 0.5}, 2).tasks:
            executor.submit(handle, task, 60.0, None)
        executor.close(kill=True)
        del handle
    assert forgets_all_but(before, client)
    assert client.run_on_scheduler(find_tasks) <= before


def find_tasks(dask_scheduler):
    return {*dask_scheduler.tasks}


def forgets_all_but(keys, client):
    """Whether Dask has nothing more of what a client gave it, after a while."""
    for _ in range(100):
        if {*client.futures, *client.who_has()} <= keys:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("ends_with", [None, KeyError, KeyboardInterrupt])
@pytest.mark.usefixtures("way", "no_garbage_collection")
def test_dask_forgets_it_all_in_the_end(ends_with, client, tmp_path):
    before = {*client.futures, *client.who_has()}
    timer = threading.Timer(0.8, signal.raise_signal, [signal.SIGINT])
    with (
        pytest.raises(ends_with) if ends_with else nullcontext(),
        executor_of("dask", client=client) as executor,
    ):
        if ends_with is KeyboardInterrupt:
            timer.start()
        run_rows(executor, large_job(scorer=sleep), tmp_path, 1)
        if ends_with:
            raise ends_with
    assert forgets_all_but(before, client)
    assert [path.suffix for path in tmp_path.iterdir() if path.suffix != ".npy"] == []


# Clusters


def test_a_cluster_without_workers_is_an_error(client, monkeypatch):
    """If the user does not wait for some."""
    monkeypatch.setattr(client, "ncores", dict)
    config = parallel_config("dask", client=client, wait_for_workers_timeout=0)
    with config, pytest.raises(RuntimeError, match="no active worker"):
        make_search().fit(X, y)


def find_thread(estimator, X, y):
    return float(threading.get_ident())


def test_a_single_worker_is_a_worker_as_well(executor, tmp_path):
    """An evaluation in the process of the search could kill it."""
    assert executor.n_workers == 1
    threads = find_scores(executor, make_job(scorer=find_thread), tmp_path)
    assert threading.get_ident() not in np.array(threads)


def test_settings_of_the_user_are_kept(client, tmp_path, monkeypatch):
    settings = {"retries": 2, "pure": True, "priority": 7}
    submitted = []
    submit = client.submit

    def spy(function, *args, **kwargs):
        submitted.append((function, kwargs))
        return submit(function, *args, **kwargs)

    monkeypatch.setattr(client, "submit", spy)
    job = make_job()
    with executor_of("dask", client=client, **settings) as executor:
        assert find_scores(executor, job, tmp_path) == expect_scores(job)
    kwargs = [kwargs for function, kwargs in submitted if function is evaluate]
    assert len(kwargs) == 6
    assert all(k["retries"] == 2 and k["priority"] == 7 for k in kwargs)


@pytest.mark.parametrize("what", ["client", "cluster"])
def test_a_cluster_that_is_closed_ends_the_search(what, tmp_path):
    with cluster_of(1) as client:
        closed = client if what == "client" else client.cluster
        timer = threading.Timer(1.5, closed.close)
        timer.start()
        with (
            engine_warnings(),
            executor_of("dask", client=client) as executor,
            pytest.raises(RuntimeError, match="lost its connection to Dask"),
        ):
            run_rows(executor, make_job(scorer=sleep), tmp_path, 9)
        timer.join()


def test_what_a_cluster_forgets_is_handed_out_again(client, executor, tmp_path):
    """The job, and the evaluation, as if its worker had crashed."""
    job = large_job(scorer=find_sum)
    share = executor.share
    futures = []

    def share_and_cancel(*args):
        handle = share(*args)
        futures.append(handle.future)
        client.cancel([handle.future])
        return handle

    executor.share = share_and_cancel
    assert find_scores(executor, job, tmp_path) == expect_scores(job)
    task = Row({"rate": 0.5}, 2).tasks[0]
    handle = share(make_job(scorer=sleep), str(tmp_path))
    future = executor.submit(handle, task, 60.0, None)
    client.cancel([*executor._running])
    assert isinstance(future.exception(60), executor.crash_errors)


def find_backend():
    backend, n_jobs = get_active_backend()
    return type(backend).__name__, backend.effective_n_jobs(n_jobs)


def is_as_in_processes(estimator, X, y):
    """As joblib has it; threads may return anything."""
    Parallel(n_jobs=2)([delayed(threading.Lock)()])
    found = find_backend(), Parallel(n_jobs=2)([delayed(find_backend)()])
    return float(found == (("ThreadingBackend", 1), [("SequentialBackend", 1)]))


def test_an_evaluation_stays_in_its_process(executor, tmp_path):
    """Also if it uses joblib."""
    assert find_scores(executor, make_job(scorer=is_as_in_processes), tmp_path, 1) == [
        [1.0, 1.0]
    ]


def search_in_a_task(search, X, y):
    with parallel_config("dask"):
        return search.fit(X, y).cv_results_


@pytest.mark.usefixtures("way")
def test_a_search_runs_within_a_task(client):
    """It lets others use the only thread while it waits."""
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


@pytest.mark.usefixtures("way")
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
        ):
            client.wait_for_workers(1, timeout=60)
            job = large_job(scorer=find_sum)
            with executor_of("dask", client=client) as executor:
                scores = find_scores(executor, job, tmp_path)
            assert scores == expect_scores(job)


# Large arrays


def test_small_arrays_go_with_the_job(executor, sent, tmp_path):
    job = make_job()
    assert find_scores(executor, job, tmp_path) == expect_scores(job)
    assert sent == []


@pytest.mark.usefixtures("no_files")
def test_a_large_array_is_sent_once(executor, sent, tmp_path):
    """Wherever it is found in a job; and what is equal is not the same."""
    job = large_job(scorer=find_sum)
    job.fit_params = {"same": [LARGE]}
    job.score_params = {"other": LARGE.copy()}
    handle = executor.share(job, str(tmp_path))
    assert [array.shape for array in sent] == [LARGE.shape] * 2
    job = large_job(scorer=find_sum)
    del handle
    assert find_scores(executor, job, tmp_path) == expect_scores(job)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.usefixtures("way")
def test_an_array_stays_as_it_is(order, executor, tmp_path):
    """But for being read only."""
    job = large_job(np.array(LARGE, order=order))
    handle = executor.share(job, str(tmp_path))
    X = handle.future.result().load().fidelities[0].X
    np.testing.assert_array_equal(X, LARGE)
    assert X.flags[f"{order}_CONTIGUOUS"]
    assert not X.flags.writeable


@pytest.mark.usefixtures("no_files")
def test_no_warning_of_a_large_graph(executor, tmp_path):
    """Dask warns from 10 MB."""
    executor.share(large_job(np.ones((2**20, 2))), str(tmp_path))


def test_all_workers_get_the_job(client_of_two, tmp_path):
    with executor_of("dask", client=client_of_two) as executor:
        handle = executor.share(large_job(), str(tmp_path))
        assert len(client_of_two.who_has([handle.future])[handle.future.key]) == 2


def test_only_workers_of_the_search_get_the_job(client_of_two, tmp_path):
    one = min(client_of_two.nthreads())
    for workers in (one, [one]):
        config = {"client": client_of_two, "workers": workers}
        with executor_of("dask", **config) as executor:
            future = executor.share(large_job(), str(tmp_path)).future
            assert client_of_two.who_has([future]) == {future.key: (one,)}


@pytest.mark.parametrize(
    "X",
    [
        ["a path that is rather long" * 99] * len(LARGE),
        np.ma.array(LARGE, mask=LARGE > 10),
        LARGE.astype(object),
    ],
    ids=["list", "masked", "objects"],
)
def test_what_is_no_plain_array_goes_with_the_job(X, executor, sent, tmp_path):
    handle = executor.share(large_job(X[:1000]), str(tmp_path))
    loaded = handle.future.result().load()
    assert type(loaded.fidelities[0].X) is type(X)
    assert sent == []


def test_a_map_comes_from_its_file(executor, sent, tmp_path):
    np.save(tmp_path / "large.npy", LARGE)
    array = np.load(tmp_path / "large.npy", mmap_mode="r")
    job = large_job(array, scorer=find_sum)
    handle = executor.share(job, str(tmp_path / "not there"))
    (file,) = handle.future.result().arrays
    assert file.path == str(tmp_path / "large.npy")
    assert find_scores(executor, job, tmp_path) == expect_scores(job)
    assert sent == []
    assert [path.name for path in tmp_path.iterdir()] == ["large.npy"]


@pytest.mark.usefixtures("no_files")
def test_a_file_that_not_all_workers_see_is_sent(executor, sent, tmp_path):
    np.save(tmp_path / "large.npy", LARGE)
    job = large_job(np.load(tmp_path / "large.npy", mmap_mode="r"), scorer=find_sum)
    assert find_scores(executor, job, tmp_path) == expect_scores(job)
    assert len(sent) == 1


def test_a_worker_that_joins_late_need_not_see_the_file(client, sent, monkeypatch):
    """The images are sent from then on."""
    n_looks = [0]
    is_here = ArrayFile.is_here

    def is_here_at_first(file):
        n_looks[0] += 1
        # Once as it is handed out, and by the first evaluation in the process.
        return n_looks[0] <= 1 and is_here(file)

    monkeypatch.setattr(ArrayFile, "is_here", is_here_at_first)
    with parallel_config("dask", client=client):
        results = make_search().fit(X, y).cv_results_
    assert [array.shape for array in sent] == [(60, 96, 96, 3)]
    assert_same(results, make_search().fit(X, y).cv_results_)


def test_what_the_user_has_scattered_is_not_sent_again(client, sent, tmp_path):
    job = large_job(scorer=find_sum)
    client.scatter = type(client).scatter.__get__(client)
    with executor_of("dask", client=client, scatter=[LARGE]) as executor:
        client.scatter = None
        assert find_scores(executor, job, tmp_path) == expect_scores(job)
    assert sent == []
    assert list(tmp_path.iterdir()) == []


def is_first(dask_worker):
    if dask_worker.name == 0:
        return True
    raise OSError


def test_what_is_true_everywhere(client_of_two, tmp_path):
    assert is_true_everywhere(client_of_two, os.path.isdir, str(tmp_path))
    other = str(tmp_path / "other")
    assert not is_true_everywhere(client_of_two, os.path.isdir, other)
    assert not is_true_everywhere(client_of_two, is_first)


def test_threads_of_a_worker_load_the_job_once(monkeypatch, tmp_path):
    jobs = []
    unpack = _dask.unpack

    def spy(*args):
        time.sleep(0.2)
        jobs.append(unpack(*args))
        return jobs[-1]

    monkeypatch.setattr(_dask, "unpack", spy)
    job = make_job()
    with cluster_of(1, 4) as client, executor_of("dask", client=client) as executor:
        assert executor.n_workers == 4
        assert find_scores(executor, job, tmp_path, 4) == expect_scores(job, 4)
    assert len(jobs) == 1


def test_the_size_of_a_job_is_that_of_its_arrays():
    """By which Dask decides where to run what needs it."""
    assert sys.getsizeof(LoadedJob(b"data", LARGE)) >= LARGE.nbytes


# Searches


@pytest.mark.parametrize("name", SEARCHES)
def test_results_are_those_of_a_local_run(name, both_workers):
    assert_same(both_workers.fit(make_search(name)).cv_results_, expect(name))


@pytest.mark.parametrize("name", ["tpe", "bayes", "genetic"])
def test_candidates_are_decided_on_as_workers_get_free(name, both_workers):
    assert_asynchronous(both_workers.fit, name)


def test_a_network_scores_as_in_a_local_run(both_workers):
    search = make_cnn_search()
    search.estimator.set_params(cnn__device="cpu")
    assert_same(both_workers.fit(search).cv_results_, expect_cnn())


@pytest.mark.parametrize("name", ["random", "genetic"])
def test_workers_get_images_once_a_stage(name, both_workers, way, monkeypatch):
    client = both_workers.workers
    sent, saved = [], []
    submit, save = client.submit, np.save

    def spy_on_submit(function, *args, **kwargs):
        sent.extend(a.shape for a in args if isinstance(a, np.ndarray))
        return submit(function, *args, **kwargs)

    def spy_on_save(path, array):
        saved.append(array.shape)
        save(path, array)

    monkeypatch.setattr(client, "submit", spy_on_submit)
    monkeypatch.setattr(client, "scatter", None)
    monkeypatch.setattr(np, "save", spy_on_save)
    search = both_workers.fit(make_search(name, sizes=(96, 192)))
    shapes = [(60, 96, 96, 3), (60, 192, 192, 3)]
    # What is resized is in a file already, which is mapped as it is.
    assert saved == (shapes[1:] if way == "file" else [])
    assert sent == (shapes if way == "task" else [])
    expected = make_search(name, sizes=(96, 192)).fit(X, y)
    assert_same(search.cv_results_, expected.cv_results_)


# Workers that die


def test_an_attempt_that_has_not_ended_is_not_repeated(tmp_path):
    """Dask gives to another worker what one has died of."""
    job = LoadedJob(cloudpickle.dumps(make_job()))
    task = cloudpickle.dumps((Row({"rate": 0.5}, 2).tasks[0], 60.0, None))
    begun = tmp_path / "begun"
    record = evaluate(job, str(begun), task)
    assert record.error is None
    assert not begun.exists()
    begun.touch()
    assert evaluate(job, str(begun), task) is None
    assert begun.exists()
    # On other machines there are no such files.
    again = evaluate(job, str(tmp_path / "none" / "begun"), task)
    assert again.scores == record.scores


def test_a_job_whose_files_are_not_seen_is_not_evaluated(tmp_path):
    file = ArrayFile.store(LARGE, str(tmp_path / "large.npy"))
    (tmp_path / "large.npy").unlink()
    job = LoadedJob(cloudpickle.dumps(make_job()), file)
    assert evaluate(job, str(tmp_path / "begun"), b"") == NOT_SEEN
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["random", "genetic"])
def test_what_is_killed_once_succeeds_the_next_time(name, both_workers, tmp_path):
    expected = expect(name)
    killed = tmp_path / "killed"
    killed.touch()
    deadly = sorted(params["model__alpha"] for params in expected["params"])[-3]
    search = make_search(name, deadly=deadly, killed=str(killed))
    results = both_workers.fit(search).cv_results_
    assert not killed.exists()
    assert_same(results, expected)


@pytest.mark.usefixtures("way")
def test_what_kills_its_process_twice_fails_and_the_search_goes_on(both_workers):
    """Its two splits take both workers, and all that these have."""
    search = make_search(deadly=second_largest_alpha())
    with pytest.warns(FitFailedWarning, match="1 of 6 candidates failed"):
        results = both_workers.fit(search).cv_results_
    assert_one_failed(results)


@pytest.mark.usefixtures("way")
def test_dask_may_lose_all_workers_at_once(both_workers):
    """And with them the images, which the client has."""
    pids = both_workers.workers.run(os.getpid).values()

    def kill():
        time.sleep(1.5)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    results = both_workers.fit(make_search(seconds=0.7)).cv_results_
    killer.join()
    assert_same(results, expect())


def test_what_kills_workers_elsewhere_fails_as_well(both_workers, monkeypatch):
    """On other machines Dask repeats it, as often as it is allowed to."""

    def allow_failures(n, dask_scheduler):
        dask_scheduler.allowed_failures = n

    begin_elsewhere(monkeypatch)
    client = both_workers.workers
    client.run_on_scheduler(allow_failures, 0)
    try:
        search = make_search(deadly=second_largest_alpha())
        with pytest.warns(FitFailedWarning, match="1 of 6 candidates failed"):
            results = both_workers.fit(search).cv_results_
    finally:
        client.run_on_scheduler(allow_failures, 3)
    assert_one_failed(results)


def begin_elsewhere(monkeypatch):
    """Have the files of attempts be in a directory that there is not."""
    submit = _dask.DaskExecutor._submit

    def submit_elsewhere(executor, shared, packed):
        directory, shared.directory = shared.directory, "not there"
        future = submit(executor, shared, packed)
        shared.directory = directory
        return future

    monkeypatch.setattr(_dask.DaskExecutor, "_submit", submit_elsewhere)
