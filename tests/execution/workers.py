"""Jobs and searches by which tests compare executors with a run in this process."""

import os
import warnings
from contextlib import contextmanager
from dataclasses import replace
from functools import cache

import numpy as np
from joblib import parallel_config
from scipy.stats import loguniform
from sklearn.metrics import check_scoring
from sklearn.pipeline import Pipeline

from sklearn_iis import CNNClassifier, IISSearchCV, ImageResizer
from sklearn_iis.execution._deadline import Deadline
from sklearn_iis.execution._evaluate import Fidelity, Job, Scoring
from sklearn_iis.execution._executors import SerialExecutor, make_executor
from sklearn_iis.execution._record import Row
from sklearn_iis.execution._scheduler import Scheduler
from sklearn_iis.space import SearchSpace
from sklearn_iis.testing import FormulaClassifier
from sklearn_iis.testing import X as SMALL_X
from sklearn_iis.testing import y as SMALL_Y
from tests.pixels import Pixels, X, y

# What would otherwise depend on the number of workers.
SEARCH_PARAMS = {
    **{
        name: {"n_points": 2}
        for name in ("bayes", "tpe", "cmaes", "swarm", "reinforce", "fabolas")
    },
    "genetic": {"population_size": 3, "synchronous": True},
    "hyperband": {"resource": "model__max_iter", "max_resources": 9},
}

# Of 2 MB, so that it is shared.
LARGE = np.arange(2**18, dtype=np.float64).reshape(-1, 2)


def make_job(X=SMALL_X, y=SMALL_Y, *, estimator=None, scorer=None, **fields):
    """A job of two splits; `scoring` is changed by fields of the same name."""
    estimator = FormulaClassifier() if estimator is None else estimator
    scoring = Scoring(scorer or check_scoring(estimator))
    names = vars(scoring).keys() & fields.keys()
    scoring = replace(scoring, **{name: fields.pop(name) for name in names})
    half = len(X) // 2
    indices = np.arange(len(X))
    splits = [(indices[:half], indices[half:]), (indices[half:], indices[:half])]
    space = SearchSpace({"rate": loguniform(1e-4, 1)})
    return Job(estimator, space, {0: Fidelity(X)}, y, splits, scoring, **fields)


def run_rows(executor, job, directory, n_rows=3, **params):
    """Evaluate rows to the end; return them."""
    params = {"pre_dispatch": executor.n_workers} | params
    scheduler = Scheduler(executor, job, str(directory), Deadline(), **params)
    for i in range(n_rows):
        scheduler.submit(Row({"rate": (i + 1) / (n_rows + 1)}, 2))
    scheduler.finish()
    return scheduler.rows


def find_scores(executor, job, directory, n_rows=3, **params):
    """The scores of the splits of each row."""
    rows = run_rows(executor, job, directory, n_rows, **params)
    return [[record.guide for record in row.in_order] for row in rows]


def expect_scores(job, n_rows=3):
    """The scores in this process."""
    return find_scores(SerialExecutor(), job, "none", n_rows)


@contextmanager
def executor_of(name, **config):
    """An executor as users have it."""
    with parallel_config(name, **config):
        executor = make_executor(None)
    try:
        yield executor
    except BaseException:
        executor.close(kill=True)
        raise
    executor.close()


class TwoArgumentsError(Exception):
    """Can be pickled, but not unpickled."""

    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")


class Refusing(Pixels):
    def fit(self, X, y):
        raise TwoArgumentsError("this", "that")


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


def without_times(results):
    return {k: list(v) for k, v in results.items() if not k.endswith("_time")}


def assert_same(results, expected):
    results, expected = without_times(results), without_times(expected)
    assert results.keys() == expected.keys()
    for name, column in expected.items():
        np.testing.assert_equal(results[name], column, err_msg=name)


@cache
def expect(name="random"):
    """The results of a search in this process."""
    return make_search(name).fit(X, y).cv_results_


def expect_cnn():
    import torch

    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    results = make_cnn_search().fit(X, y).cv_results_
    torch.set_num_threads(n_threads)
    return results


def second_largest_alpha():
    return sorted(params["model__alpha"] for params in expect()["params"])[-2]


def assert_one_failed(results):
    """Only the candidate with the largest alpha, which has crashed its workers."""
    expected = expect()
    dead = int(np.argmax([params["model__alpha"] for params in expected["params"]]))
    for i, error in enumerate(results["error"]):
        if i == dead:
            assert "the evaluation crashed its worker twice" in error
        else:
            assert error is None
            for split in ("split0_test_score", "split1_test_score"):
                assert results[split][i] == expected[split][i]


def assert_asynchronous(fit, name):
    """Candidates are proposed one by one, by the scores that there are by then."""
    search = make_search(name, sizes=(96,), n_iter=10)
    results = fit(search.set_params(search_params=None)).cv_results_
    assert set(results["error"]) == {None}
    assert len({str(params) for params in results["params"]}) == 10


class Cluster:
    """Workers of an engine: what tests ask of it."""

    def __init__(self, name, config, workers=None):
        self.name = name
        self.config = config
        self.workers = workers

    def fit(self, search, images=X, labels=y, **config):
        with parallel_config(self.name, **self.config | config):
            return search.fit(images, labels)

    def executor(self, n_jobs=None, **config):
        config = self.config | config
        if n_jobs is not None:
            config["n_jobs"] = n_jobs
        return executor_of(self.name, **config)


@contextmanager
def environment_of_workers():
    """They find the tests, have one thread, and stay on this machine."""
    import pytest

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
