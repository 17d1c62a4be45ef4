"""Images reach workers once a stage, and Dask and Ray find what a local run finds."""

import gc
import logging
import os
import signal
import threading
import time
import warnings
from contextlib import contextmanager
from functools import cache

import numpy as np
import pytest
from joblib import Parallel, delayed, parallel_config
from joblib.pool import PicklingPool
from scipy.stats import loguniform
from sklearn.exceptions import FitFailedWarning
from sklearn.pipeline import Pipeline

from sklearn_iis import CNNClassifier, IISSearchCV, ImageResizer
from sklearn_iis.execution import _backends
from sklearn_iis.searches import SEARCHES
from sklearn_iis.searches._stream import Stream
from tests.execution.test_guard import fill, small_disk  # noqa: F401
from tests.pixels import Pixels, X, y

# What would otherwise depend on the number of workers.
SEARCH_PARAMS = {
    "bayes": {"n_points": 2},
    "tpe": {"n_points": 2},
    "genetic": {"population_size": 3, "synchronous": True},
    "hyperband": {"resource": "model__max_iter", "max_resources": 9},
}


def make_search(name="random", *, sizes=(96,), n_iter=6, **params):
    model = {k: params.pop(k) for k in Pixels().get_params().keys() & params.keys()}
    pipe = Pipeline(
        [("resize", ImageResizer()), ("model", Pixels(home=os.getpid(), **model))]
    )
    return IISSearchCV(
        pipe,
        {"model__alpha": loguniform(1e-6, 1e-1), "model__fit_intercept": [True, False]},
        sizes=sizes,
        n_iter=n_iter,
        search=name,
        search_params=SEARCH_PARAMS.get(name),
        cv=2,
        random_state=0,
        **{"refit": False} | params,
    )


def without_times(results):
    return {k: list(v) for k, v in results.items() if not k.endswith("_time")}


def assert_same(results, expected):
    results, expected = without_times(results), without_times(expected)
    assert results.keys() == expected.keys()
    for name, column in expected.items():
        np.testing.assert_equal(results[name], column, err_msg=name)


@cache
def expect(name="random"):
    """What a search finds in this process."""
    return make_search(name).fit(X, y).cv_results_


class Cluster:
    """Workers of an engine: what tests ask of it."""

    def __init__(self, name, config, workers=None):
        self.name = name
        self.config = config
        self.workers = workers

    def fit(self, search, images=X, labels=y, **config):
        with parallel_config(self.name, **self.config | config):
            return search.fit(images, labels)


@pytest.fixture(scope="module")
def environment():
    """That of the workers: they find the tests, and stay on this machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.getcwd(), prepend=os.pathsep)
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        # Ray would replace `print`, by which networks are pickled.
        patch.setenv("RAY_TQDM_PATCH_PRINT", "0")
        # Ray otherwise takes the address of the machine for 127.0.0.1, on Linux too.
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        yield


@contextmanager
def engine_warnings():
    """Warnings of an engine as it starts and stops, which are none of ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(scope="module")
def dask(environment):
    distributed = pytest.importorskip("distributed", reason="needs the extra dask")
    import dask.config

    # What is away for the second time after 15 seconds would not be started again.
    with dask.config.set({"distributed.deploy.lost-worker-timeout": "1 hour"}):
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


@pytest.fixture(scope="module")
def ray(environment):
    """With two GPUs that are not there, which nothing asks for but some tests."""
    engine = pytest.importorskip("ray", reason="needs the extra ray")
    from ray.util.joblib import register_ray

    with engine_warnings():
        engine.init(
            num_cpus=3,
            num_gpus=2,
            include_dashboard=False,
            _node_ip_address="127.0.0.1",
            object_store_memory=200 * 2**20,
            logging_level=logging.ERROR,
            log_to_driver=False,
        )
    register_ray()
    bases = PicklingPool.__bases__
    yield Cluster("ray", {"n_jobs": 2}, engine)
    # Ray replaces the pool of joblib's backend "multiprocessing".
    PicklingPool.__bases__ = bases
    with engine_warnings():
        engine.shutdown()
        gc.collect()


@pytest.fixture
def both_workers(dask):
    """Dask's, of which a former test may have killed one."""
    dask.workers.wait_for_workers(2, timeout=60)
    return dask


@pytest.fixture(params=["both_workers", "ray"], ids=["dask", "ray"])
def cluster(request):
    return request.getfixturevalue(request.param)


# Processes of this machine


@pytest.fixture
def saved(monkeypatch):
    """The shapes of the arrays that are written to files of ours, and of joblib's."""
    from joblib import _memmapping_reducer

    shapes = {"ours": [], "joblib": []}

    def spy(who, module, name, position):
        function = getattr(module, name)

        def call(*args, **kwargs):
            shapes[who].append(args[position].shape)
            return function(*args, **kwargs)

        monkeypatch.setattr(module, name, call)

    spy("ours", np, "save", 1)
    spy("joblib", _memmapping_reducer, "dump", 0)
    return shapes


def test_processes_share_one_file_a_stage(saved):
    """The last stage is at full size, where nothing is resized."""
    search = make_search("genetic", sizes=(96, 192), n_jobs=2).fit(X, y)
    assert saved == {"ours": [(60, 96, 96, 3), (60, 192, 192, 3)], "joblib": []}
    expected = make_search("genetic", sizes=(96, 192)).fit(X, y)
    assert_same(search.cv_results_, expected.cv_results_)


def test_a_map_is_not_copied(saved, tmp_path):
    np.lib.format.open_memmap(tmp_path / "images.npy", "w+", X.dtype, X.shape)[:] = X
    images = np.load(tmp_path / "images.npy", mmap_mode="r")
    search = make_search(sizes=(192,), n_jobs=2).fit(images, y)
    assert saved == {"ours": [], "joblib": []}
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
    assert saved == {"ours": [], "joblib": []}


@pytest.mark.parametrize(
    "images",
    [[f"{i}.png" for i in range(60)], X.astype(object), np.ma.array(X), X[:2]],
    ids=["paths", "objects", "masked", "few"],
)
def test_what_is_no_large_array_stays_what_it_is(images, tmp_path):
    assert _backends.map_images(images, 2, str(tmp_path)) is images
    with _backends.handed_out(images, 2) as handed_out:
        assert handed_out is images


def test_a_network_trains_on_a_map_without_a_warning():
    """torch warns of memory that must not be written to."""
    with parallel_config("loky"):
        results = make_cnn_search(n_jobs=2).fit(X, y).cv_results_
    assert set(results["error"]) == {None}


def test_a_full_disk_is_told_with_its_remedy(small_disk, monkeypatch):  # noqa: F811
    monkeypatch.setattr("tempfile.tempdir", str(small_disk))
    message = rf"images cannot be written to '{small_disk}.*TMPDIR"
    with pytest.raises(OSError, match=message):
        make_search(n_jobs=2).fit(X, y)
    assert not list(small_disk.iterdir())


# Engines


@pytest.mark.parametrize("name", SEARCHES)
def test_results_are_those_of_a_local_run(name, cluster):
    assert_same(cluster.fit(make_search(name)).cv_results_, expect(name))


@pytest.mark.parametrize("name", ["tpe", "bayes", "genetic"])
def test_candidates_are_decided_on_as_workers_get_free(name, cluster, monkeypatch):
    """By the scores that have arrived by then, which are not those of all."""
    n_arrived, n_known = [], []
    propose, listen = Stream.propose, Stream._on_score

    def count_known(stream):
        n_known.append(len(n_arrived) // 2)  # there are two splits
        return propose(stream)

    def count_arrived(stream, *arguments):
        n_arrived.append(arguments)
        return listen(stream, *arguments)

    monkeypatch.setattr(Stream, "propose", count_known)
    monkeypatch.setattr(Stream, "_on_score", count_arrived)
    search = make_search(name, sizes=(96,), n_iter=10)
    results = cluster.fit(search.set_params(search_params=None)).cv_results_
    assert set(results["error"]) == {None}
    assert len({str(params) for params in results["params"]}) == 10
    assert len(n_known) == 10
    assert len(n_arrived) == 20
    # How many tasks a worker gets at once is up to the engine.
    assert all(n <= i for i, n in enumerate(n_known))
    assert len(set(n_known)) > 2
    assert n_known[-1] > 2


def make_cnn_search(**params):
    network = CNNClassifier(
        n_filters=4, max_epochs=1, early_stopping=False, random_state=0
    )
    return IISSearchCV(
        Pipeline([("resize", ImageResizer()), ("cnn", network)]),
        {"cnn__learning_rate": loguniform(1e-4, 1)},
        sizes=(96,),
        n_iter=1,
        cv=2,
        random_state=0,
        refit=False,
        **params,
    )


def test_a_network_scores_as_in_a_local_run(cluster):
    import torch

    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    expected = make_cnn_search().fit(X, y).cv_results_
    torch.set_num_threads(n_threads)
    search = make_cnn_search()
    search.estimator.set_params(cnn__device="cpu")
    assert_same(cluster.fit(search).cv_results_, expected)


@pytest.fixture(params=["file", "task"])
def way(request, monkeypatch):
    """How images reach the workers of Dask: those on other machines see no file."""
    if request.param == "task":
        from sklearn_iis.execution import _dask

        monkeypatch.setattr(_dask, "is_true_everywhere", lambda *_: False)
    return request.param


@pytest.mark.parametrize("name", ["random", "genetic"])
def test_dask_gets_images_once_a_stage(name, both_workers, way, saved, monkeypatch):
    client = both_workers.workers
    replicated, sent = [], []
    submit, replicate = client.submit, client.replicate

    def spy_on_submit(function, *args, **kwargs):
        sent.extend(a.shape for a in args if isinstance(a, np.ndarray))
        return submit(function, *args, **kwargs)

    def spy_on_replicate(futures, **kwargs):
        replicated.append(len(futures))
        replicate(futures, **kwargs)

    monkeypatch.setattr(client, "submit", spy_on_submit)
    monkeypatch.setattr(client, "replicate", spy_on_replicate)
    monkeypatch.setattr(client, "scatter", None)
    search = both_workers.fit(make_search(name, sizes=(96, 192)))
    shapes = [(60, 96, 96, 3), (60, 192, 192, 3)]
    assert saved == {"ours": shapes if way == "file" else [], "joblib": []}
    assert sent == (shapes if way == "task" else [])
    assert replicated == ([1, 1] if way == "task" else [])
    expected = make_search(name, sizes=(96, 192)).fit(X, y)
    assert_same(search.cv_results_, expected.cv_results_)


def test_ray_gets_images_once_a_stage(ray, monkeypatch):
    stored, sent = [], []
    put = ray.workers.put
    reduce = _backends._StoredArray.__reduce_ex__

    def spy_on_put(images):
        stored.append(images.shape)
        return put(images)

    def spy_on_tasks(images, protocol):
        reduced = reduce(images, protocol)
        sent.append(reduced[0])
        return reduced

    monkeypatch.setattr(ray.workers, "put", spy_on_put)
    monkeypatch.setattr(_backends._StoredArray, "__reduce_ex__", spy_on_tasks)
    search = ray.fit(make_search(sizes=(96, 192)))
    assert stored == [(60, 96, 96, 3), (60, 192, 192, 3)]
    assert set(sent) == {_backends._fetch}
    # A batch of joblib's may hold several tasks.
    assert len(sent) <= 2 * len(search.cv_results_["params"])


def test_parts_of_what_ray_has_are_arrays_of_their_own(ray):
    stored = _backends._put(X)
    part = stored[:2]
    assert part.__reduce_ex__(4)[0] is not _backends._fetch
    fetched = _backends._fetch(stored.reference)
    assert type(fetched) is np.ndarray
    np.testing.assert_array_equal(fetched, X)


# Workers that die


@pytest.mark.parametrize(
    ("cluster", "name"),
    [("both_workers", "random"), ("both_workers", "genetic"), ("ray", "random")],
    indirect=["cluster"],
)
def test_what_is_killed_once_succeeds_the_next_time(name, cluster, tmp_path):
    """Dask tries it elsewhere; with Ray, the search is fitted again."""
    expected = expect(name)
    killed = tmp_path / "killed"
    killed.touch()
    deadly = sorted(params["model__alpha"] for params in expected["params"])[-3]
    search = make_search(name, deadly=deadly, killed=str(killed))
    results = cluster.fit(search).cv_results_
    assert not killed.exists()
    assert_same(results, expected)


@pytest.mark.parametrize(
    ("cluster", "way"),
    [("both_workers", "file"), ("both_workers", "task"), ("ray", "file")],
    indirect=True,
)
def test_what_kills_its_process_twice_fails_and_the_search_goes_on(cluster, way):
    """With Dask, its two splits take both workers, and all that these have."""
    expected = expect()
    alphas = [params["model__alpha"] for params in expected["params"]]
    search = make_search(deadly=sorted(alphas)[-2])
    with pytest.warns(FitFailedWarning, match="1 of 6 candidates failed"):
        results = cluster.fit(search).cv_results_
    dead = int(np.argmax(alphas))
    for i, error in enumerate(results["error"]):
        if i == dead:
            assert "the process of this evaluation was killed twice" in error
        else:
            assert error is None
            for split in ("split0_test_score", "split1_test_score"):
                assert results[split][i] == expected[split][i]


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


def test_what_kills_workers_elsewhere_ends_the_search(both_workers):
    """On other machines there are no marks, by which it would be known."""
    import distributed

    class Elsewhere(distributed.WorkerPlugin):
        name = "elsewhere"

        def setup(self, worker):
            from sklearn_iis.execution._records import InFlight

            self.enter = InFlight.enter
            InFlight.enter = lambda marks, key: None

        def teardown(self, worker):
            from sklearn_iis.execution._records import InFlight

            InFlight.enter = self.enter

    def allow_failures(n, dask_scheduler):
        dask_scheduler.allowed_failures = n

    alphas = [params["model__alpha"] for params in expect()["params"]]
    search = make_search(deadly=sorted(alphas)[-2])
    client = both_workers.workers
    client.register_plugin(Elsewhere())
    client.run_on_scheduler(allow_failures, 0)
    try:
        with pytest.raises(distributed.KilledWorker):
            both_workers.fit(search)
    finally:
        client.run_on_scheduler(allow_failures, 3)
        client.unregister_worker_plugin("elsewhere")


# Wrong settings


def test_ray_with_more_workers_than_gpus_is_refused(ray):
    search = make_cnn_search(n_jobs=-1)
    right = r"use parallel_config\('ray', n_jobs=2, ray_remote_args={'num_gpus': 1}\)"
    with pytest.raises(ValueError, match=rf"n_jobs=-1 means 3 workers.*{right}"):
        ray.fit(search)
    with pytest.raises(ValueError, match=rf"n_jobs=3 means 3 workers.*{right}"):
        ray.fit(make_search(), n_jobs=3, ray_remote_args={"num_gpus": 1})
    with pytest.raises(ValueError, match="enough for 0: start Ray with GPUs, or ask"):
        ray.fit(make_search(), ray_remote_args={"num_gpus": 4})


@pytest.mark.parametrize("share", [0.5, 1])
def test_ray_with_enough_gpus_is_not_refused(share, ray):
    args = {"num_gpus": share, "resources": {}}
    n_jobs = 3 if share < 1 else 2
    with parallel_config("ray", n_jobs=n_jobs, ray_remote_args=args):
        _backends.check_gpus(make_cnn_search().estimator, None)
        _backends.check_gpus(make_cnn_search().estimator, -1 if share < 1 else 1)
        gpus = Parallel()(delayed(os.getenv)("CUDA_VISIBLE_DEVICES") for _ in range(6))
    assert set(gpus) == {"0", "1"}


def test_ray_without_gpus_in_use_is_not_refused(ray):
    with parallel_config("ray", n_jobs=3):
        _backends.check_gpus(Pixels(), None)
        _backends.check_gpus(CNNClassifier(device="cpu"), None)


def test_dask_without_a_client_is_refused_by_joblib():
    pytest.importorskip("distributed", reason="needs the extra dask")
    message = "first create a Dask Client"
    with pytest.raises(ValueError, match=message), parallel_config("dask"):
        pass
