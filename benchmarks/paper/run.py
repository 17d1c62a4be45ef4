"""Run an experiment: every search, arm and repeat; what is there already is kept."""

import datetime
import fcntl
import json
import os
import platform
import time
import warnings
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning
from sklearn.metrics import accuracy_score
from sklearn.pipeline import Pipeline

from benchmarks.paper.data import describe, load
from sklearn_iis import IISSearchCV, ImageResizer
from sklearn_iis._files import replace_file
from sklearn_iis.cnn import paper_classifier
from sklearn_iis.datasets import make_shapes

JOB = ["search", "arm", "repeat"]
# A run is done if it is in the table that is written last.
TABLES = ("models", "evaluations")
MODELS = ["selection", "size", "validation_score", "model", "test_score", "cpu_seconds"]
PACKAGES = (
    *("numpy", "scikit-learn", "torch", "skorch", "optuna", "smac"),
    *("scikit-optimize", "sklearn-genetic-opt"),
)


class TimedPipeline(Pipeline):
    """A pipeline that knows how long the processor worked on its fits.

    Those of one evaluation count together: a new candidate that inherits weights is
    fitted at each size. One that is read from a file begins with its next fit.
    """

    def fit(self, X, y=None, **params):
        start = time.process_time()
        super().fit(X, y, **params)
        before = getattr(self, "cpu_seconds_", 0.0)
        self.cpu_seconds_ = before + time.process_time() - start
        return self

    def __getstate__(self):
        return super().__getstate__() | {"cpu_seconds_": 0.0}


def score(pipe, X, y):
    """Return the score of a candidate first, and what it took."""
    start = time.process_time()
    accuracy = accuracy_score(y, pipe.predict(X))
    return {
        "score": accuracy,
        "epochs": pipe[-1].n_iter_,
        "cpu_seconds": pipe.cpu_seconds_ + time.process_time() - start,
    }


def run(name, experiment, folder, *, data_path=None, n_jobs=1):
    """Run what is missing in the folder of an experiment's results.

    How much that is is printed first, and then each run that is over.

    Parameters
    ----------
    name : str
        What the experiment is called.

    experiment : Experiment
        The experiment.

    folder : path-like
        Where the tables are, as CSV, and the evaluations of unfinished runs.

    data_path : path-like, default=None
        The folder of the images, if there is one.

    n_jobs : int, default=1
        How many runs there are at a time.

    Raises
    ------
    ValueError
        If the results in the folder are of another experiment, machine or version, or
        of other images.

    OSError
        If the images are not there.

    BlockingIOError
        If another process is writing them.
    """
    folder = Path(folder)
    # What is there is not trusted without the images that it is of.
    data = load(experiment.data, data_path, experiment.largest_size)
    folder.mkdir(parents=True, exist_ok=True)
    with alone_in(folder):
        begin(name, experiment, data, folder)
        tables = read_tables(folder)
        done = set(get_jobs(tables["evaluations"]))
        for job in done:
            # Of a process that ended after it had written the tables.
            get_journal(folder, job).unlink(missing_ok=True)
        jobs = experiment.jobs()
        missing = [job for job in jobs if job not in done]
        print(
            f"{folder}: {len(jobs) - len(missing)} of {len(jobs)} runs are there, "
            f"{len(missing)} to run",
            flush=True,
        )
        results = Parallel(n_jobs=n_jobs, return_as="generator_unordered")(
            delayed(run_job)(experiment, job, folder, data_path) for job in missing
        )
        for job, new in results:
            tables = {key: append(tables[key], new[key]) for key in TABLES}
            write_tables(tables, experiment, folder)
            get_journal(folder, job).unlink()
            print(time.strftime("%H:%M:%S"), *job, sep=" / ", flush=True)


@contextmanager
def alone_in(folder):
    """Keep other processes from running into the same results."""
    with open(folder / "run.lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(
                f"another process writes the results in {folder}: wait for its end, or "
                "name another folder"
            ) from None
        yield


def begin(name, experiment, data, folder):
    """Note what is run, on what and where; or check that it is the same as before."""
    about = {
        "experiment": name,
        "description": experiment.describe(),
        "date": f"{datetime.date.today()}",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": get_versions(),
        "images": describe(data),
    }
    about = json.loads(json.dumps(about))
    path = folder / "about.json"
    if path.exists():
        before = json.loads(path.read_text())
        check_same(before, about, folder)
        about = before | {
            "description": about["description"],
            "versions": about["versions"] | before["versions"],
        }
    replace_file(path, f"{json.dumps(about, indent=2)}\n".encode())


def get_versions():
    """Return the version of each package that matters, if it is installed."""
    versions = {}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions


def check_same(before, about, folder):
    """Raise an error if the results that are there were not made in the same way."""
    old, new = before | before["description"], about | about["description"]
    changed = [
        f"{key} was {old.get(key)} and is {new.get(key)}"
        for key in sorted((old.keys() | new.keys()) - {"date", "description"})
        if differs(key, old.get(key), new.get(key))
    ]
    if changed:
        raise ValueError(
            f"{folder} holds results that were made in another way: "
            f"{'; '.join(changed)}. Remove it, or name another folder"
        )


def differs(key, old, new):
    """Whether results that were made with one value cannot go on with the other.

    There may be more repeats, and packages that were not installed before.
    """
    if key == "n_repeats":
        return old > new
    if key == "versions":
        return any(old[package] != new[package] for package in old.keys() & new.keys())
    return old != new


def append(table, new):
    """Return both tables as one; an empty one has no types, and would change others."""
    parts = [part for part in (table, new) if len(part)]
    return pd.concat(parts) if parts else new


def read_tables(folder):
    """Return what there is of the runs that are done, table by table."""
    tables = {}
    for key in TABLES:
        path = Path(folder) / f"{key}.csv"
        tables[key] = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=JOB)
    done = set(get_jobs(tables["evaluations"]))
    are_done = np.array([job in done for job in get_jobs(tables["models"])], bool)
    return tables | {"models": tables["models"].loc[are_done]}


def get_jobs(table):
    """Return the run that each row is of."""
    return list(table[JOB].itertuples(index=False, name=None))


def write_tables(tables, experiment, folder):
    """Write the results, in the order of the experiment, each file at once."""
    order = {job: i for i, job in enumerate(experiment.jobs())}
    for key in TABLES:
        table = tables[key]
        ranks = [order[job] for job in get_jobs(table)]
        ordered = table.iloc[np.argsort(ranks, kind="stable")]
        replace_file(folder / f"{key}.csv", ordered.to_csv(index=False).encode())


def get_journal(folder, job):
    return folder / f"{'-'.join(map(str, job))}.journal".replace(" ", "-")


@cache
def warm_up():
    """Fit once: the first fit of a process takes seconds more than the others."""
    X, y = make_shapes(64, size=16, random_state=0)
    paper_classifier(max_epochs=1, random_state=0).fit(X, y).predict(X)


def run_job(experiment, job, folder, data_path):
    """Return the tables of one run; it goes on where it was interrupted."""
    if experiment.n_threads is not None:
        torch.set_num_threads(experiment.n_threads)
    warm_up()
    search_name, arm_name, repeat = job
    arm = experiment.arms[arm_name]
    seed = experiment.seed + repeat
    data = load(experiment.data, data_path, experiment.largest_size)
    network = paper_classifier(**experiment.network, random_state=seed)
    search = IISSearchCV(
        TimedPipeline([("resize", ImageResizer()), ("cnn", network)]),
        experiment.space,
        sizes=arm.sizes,
        n_iter=arm.n_iter,
        search=search_name,
        scoring=score,
        cv=data.split(seed),
        refit=False,
        random_state=seed,
        storage=get_journal(folder, job),
        **arm.settings,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FitFailedWarning)
        search.fit(data.X, data.y)
    evaluations = tabulate(search, experiment)
    models = fit_models(search, evaluations, data)
    return job, {
        "evaluations": add_job(evaluations, job),
        "models": add_job(models, job),
    }


def add_job(table, job):
    return pd.DataFrame(dict(zip(JOB, job, strict=True)), index=table.index).join(table)


def tabulate(search, experiment):
    """Return the candidates in the order in which they were evaluated."""
    results = search.cv_results_
    failed = np.array([error is not None for error in results["error"]])
    columns = {
        "stage": results["stage"],
        "size": [int(size) for size in results["size"]],
        "promoted": results["promoted"].astype(int),
        "failed": failed.astype(int),
        "score": results["mean_test_score"].round(6),
        "epochs": results["mean_test_epochs"],
        "seconds": (results["mean_fit_time"] + results["mean_score_time"]).round(3),
        "cpu_seconds": results["mean_test_cpu_seconds"].round(3),
    }
    columns |= {
        name: [json.dumps(params[name]) for params in results["params"]]
        for name in experiment.space
    }
    return pd.DataFrame(columns)


def fit_models(search, evaluations, data):
    """Return the test scores of the best candidates, by the protocol of the data.

    The best one is that of the last stage, as in the paper, or that of all of them. If
    there is no test, there are none.
    """
    scores = evaluations["score"].where(evaluations["failed"] == 0)
    last = evaluations["stage"] == evaluations["stage"].max()
    rows, models = [], {}
    for selection, among in (("last", scores[last]), ("best", scores)):
        best = among.idxmax()
        if best not in models:
            models[best] = list(test_models(search, best, data))
        rows += [
            {
                "selection": selection,
                "size": evaluations["size"][best],
                "validation_score": scores[best],
                **model,
            }
            for model in models[best]
        ]
    return pd.DataFrame(rows, columns=MODELS)


def fit_model(search, index, X, y):
    """Return a candidate that is fitted, at each size if it inherits weights."""
    results = search.cv_results_
    pipe = clone(search.estimator).set_params(**results["params"][index])
    if search.inherit_weights:
        pipe.set_params(cnn__warm_start="weights")
        for stage in range(results["stage"][index]):
            own = {name: values[stage] for name, values in search.stage_params.items()}
            pipe.set_params(resize__size=search.sizes[stage], **own).fit(X, y)
        pipe.set_params(**results["params"][index])
    return pipe.fit(X, y)


def test_models(search, index, data):
    for model, train in enumerate(data.models):
        pipe = fit_model(search, index, data.X[train], data.y[train])
        score = data.score(data.y_test, pipe.predict(data.X_test))
        yield {
            "model": model,
            "test_score": round(score, 6),
            "cpu_seconds": round(pipe.cpu_seconds_, 3),
        }
