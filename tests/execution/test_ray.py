"""Ray's executor: tasks of their own, arrays in the object store, GPUs that are enough.

The two GPUs of the cluster are not there; nothing asks for them but some tests.
"""

import gc
import logging
import os
import threading

import numpy as np
import pytest
from joblib.pool import PicklingPool
from sklearn.exceptions import FitFailedWarning

from sklearn_iis import CNNClassifier
from sklearn_iis.execution._evaluate import Job
from sklearn_iis.searches import SEARCHES
from tests.execution.workers import (
    LARGE,
    Cluster,
    Refusing,
    assert_asynchronous,
    assert_one_failed,
    assert_same,
    engine_warnings,
    environment_of_workers,
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
from tests.pixels import Pixels, X, y

engine = pytest.importorskip("ray", reason="needs the extra ray")


@pytest.fixture(scope="module")
def ray():
    from ray.util.joblib import register_ray

    with environment_of_workers():
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
        yield Cluster("ray", {"n_jobs": 2})
        with engine_warnings():
            engine.shutdown()
            gc.collect()


# Searches


@pytest.mark.parametrize("name", SEARCHES)
def test_results_are_those_of_a_local_run(name, ray):
    assert_same(ray.fit(make_search(name)).cv_results_, expect(name))


@pytest.mark.parametrize("name", ["tpe", "bayes", "genetic"])
def test_candidates_are_decided_on_as_workers_get_free(name, ray):
    assert_asynchronous(ray.fit, name)


def test_a_network_scores_as_in_a_local_run(ray):
    search = make_cnn_search()
    search.estimator.set_params(cnn__device="cpu")
    assert_same(ray.fit(search).cv_results_, expect_cnn())


def test_images_are_put_into_the_store_once_a_stage(ray, monkeypatch):
    stored = []
    put = engine.put

    def spy_on_put(value):
        _, arrays = value
        stored.append([array.shape for array in arrays])
        return put(value)

    monkeypatch.setattr(engine, "put", spy_on_put)
    search = make_search(sizes=(96, 192))
    results = ray.fit(search).cv_results_
    assert stored == [[(60, 96, 96, 3)], [(60, 192, 192, 3)]]
    assert_same(results, make_search(sizes=(96, 192)).fit(X, y).cv_results_)


def test_joblib_stays_as_it_is(ray):
    """Ray's own backend replaces a base of its class of pools."""
    bases = PicklingPool.__bases__
    ray.fit(make_search(n_iter=1))
    assert PicklingPool.__bases__ == bases


# Evaluations


def find_worker(estimator, X, y):
    return float(os.getpid())


class LoadCount:
    """The number of times that it was unpickled in this process."""

    n_loads = 0

    def __init__(self, estimator=None):
        pass

    def __setstate__(self, state):
        LoadCount.n_loads += 1

    def __getstate__(self):
        return {"any": "thing"}

    def __call__(self, estimator, X, y):
        return float(LoadCount.n_loads)


def test_a_single_worker_is_a_worker_as_well(ray):
    with ray.executor(n_jobs=1) as executor:
        assert executor.n_workers == 1
        scores = find_scores(executor, make_job(scorer=find_worker), "none")
    assert os.getpid() not in np.array(scores)


def test_a_job_is_loaded_once_by_each_process(ray):
    with ray.executor() as executor:
        scores = find_scores(executor, make_job(scorer=LoadCount()), "none", 9)
    assert np.max(scores) == 1


def find_sum(estimator, X, y):
    assert type(X) is np.ndarray
    return X.sum()


@pytest.mark.parametrize("order", ["C", "F"])
def test_large_arrays_come_from_the_store(order, ray):
    job = make_job(np.array(LARGE, order=order), np.arange(len(LARGE)) % 2)
    job.scoring.scorer = find_sum
    with ray.executor() as executor:
        scores = find_scores(executor, job, "none", 1)
    assert scores == expect_scores(job, 1)


def test_an_error_is_raised_with_its_place(ray):
    estimator = make_job().estimator.set_params(fails_below=1.0)
    job = make_job(estimator=estimator, error_score="raise")
    with ray.executor() as executor, pytest.raises(RuntimeError) as info:
        run_rows(executor, job, "none")
    assert "in run_in_worker" in info.value.__notes__[0]


def test_a_search_ends_with_an_error_that_does_not_arrive(ray):
    search = make_search(error_score="raise")
    search.estimator.set_params(model=Refusing())
    with pytest.raises(RuntimeError, match="cannot be pickled"):
        ray.fit(search)


def test_what_cannot_be_pickled_is_an_error(ray):
    job = make_job(scorer=threading.Lock())
    with ray.executor() as executor, pytest.raises(TypeError, match="lock"):
        run_rows(executor, job, "none")


def test_what_is_under_way_is_killed_with_the_search(ray):
    """Here the process of an evaluation of a minute."""
    with ray.executor() as executor:
        handle = executor.share(make_job(estimator=Pixels(seconds=60)), "none")
        job: Job = make_job()
        futures = [
            executor.submit(handle, task, 60.0, None) for task in make_tasks(job)
        ]
        executor.close(kill=True)
        for future in futures:
            assert future.exception(30) is not None
    assert executor._workers == {}


def make_tasks(job):
    from sklearn_iis.execution._record import Row

    return Row({"rate": 0.5}, len(job.splits)).tasks


# Workers that die


def test_what_is_killed_once_succeeds_the_next_time(ray, tmp_path):
    expected = expect()
    killed = tmp_path / "killed"
    killed.touch()
    deadly = sorted(params["model__alpha"] for params in expected["params"])[-3]
    results = ray.fit(make_search(deadly=deadly, killed=str(killed))).cv_results_
    assert not killed.exists()
    assert_same(results, expected)


def test_what_kills_its_process_twice_fails_and_the_search_goes_on(ray):
    search = make_search(deadly=second_largest_alpha())
    with pytest.warns(FitFailedWarning, match="1 of 6 candidates failed"):
        results = ray.fit(search).cv_results_
    assert_one_failed(results)


# GPUs


def test_more_workers_than_gpus_are_refused(ray):
    search = make_cnn_search(n_jobs=-1)
    right = r"use parallel_config\('ray', n_jobs=2, ray_remote_args={'num_gpus': 1}\)"
    with pytest.raises(ValueError, match=rf"n_jobs=-1 means 3 workers.*{right}"):
        ray.fit(search)
    with pytest.raises(ValueError, match=rf"n_jobs=3 means 3 workers.*{right}"):
        ray.fit(make_search(), n_jobs=3, ray_remote_args={"num_gpus": 1})
    with pytest.raises(ValueError, match="enough for 0: start Ray with GPUs, or ask"):
        ray.fit(make_search(), ray_remote_args={"num_gpus": 4})


def find_gpu(estimator, X, y):
    return float(os.environ["CUDA_VISIBLE_DEVICES"])


@pytest.mark.parametrize("share", [0.5, 1])
def test_enough_gpus_are_not_refused(share, ray):
    """Settings of actors are of no use for tasks, but were once to be given."""
    args = {"num_gpus": share, "max_restarts": -1, "max_task_retries": 2}
    job = make_job(estimator=CNNClassifier(), scorer=find_gpu)
    with ray.executor(n_jobs=3 if share < 1 else 2, ray_remote_args=args) as executor:
        executor.share(job, "none")
        if share == 1:  # once, as Ray then starts another process, which takes long
            scores = find_scores(executor, make_job(scorer=find_gpu), "none", 1)
            assert {*np.ravel(scores)} <= {0.0, 1.0}


def test_without_gpus_in_use_there_may_be_more_workers(ray):
    with ray.executor(n_jobs=3) as executor:
        executor.share(make_job(estimator=Pixels()), "none")
        executor.share(make_job(estimator=CNNClassifier(device="cpu")), "none")
