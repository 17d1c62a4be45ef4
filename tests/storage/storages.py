"""Storages for tests: made, written and read, with us and by Optuna alone."""

import os
import random
from contextlib import suppress

import joblib
import pytest
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import TrialState
from scipy.stats import randint, uniform

from sklearn_iis.space import SearchSpace
from sklearn_iis.storage import SearchStudies, StorageError, open_storage
from tests.servers import new_postgresql_database

STORAGES = {
    "sqlite": lambda folder: f"sqlite:///{folder / 'search.db'}",
    "journal": lambda folder: folder / "search.journal",
    "postgresql": lambda folder: new_postgresql_database(),
}
SPACE = SearchSpace({"rate": uniform(0, 1), "n": randint(0, 9)})
KINDS = ["database", "journal", "database object", "journal object"]
FILES = ["run.db", "run.journal"]
JOURNAL = (
    b'{"op_code":0,"worker_id":"w","study_name":"search","directions":[2]}\n'
    b'{"op_code":4,"worker_id":"w","study_id":0,"datetime_start":null}\n'
)


def locate(path):
    """Return what is given to name a file: a url for one that is called so."""
    return f"sqlite:///{path}" if path.suffix == ".db" else str(path)


def make(kind, folder):
    """Return what a user may give."""
    url, path = locate(folder / "run.db"), folder / "run.journal"
    return {
        "database": lambda: url,
        "journal": lambda: path,
        "database object": lambda: RDBStorage(url),
        "journal object": lambda: JournalStorage(JournalFileBackend(str(path))),
    }[kind]()


def begin(shared):
    """Create the study."""
    with shared.errors():
        shared.open().create_new_study([StudyDirection.MAXIMIZE], "search")


def write(shared, note=""):
    """Write an evaluation; return who has written it, by which object."""
    with shared.errors():
        storage = shared.open()
        study = storage.get_study_id_from_name("search")
        trial = storage.create_new_trial(study)
        storage.set_trial_user_attr(trial, "note", note)
        storage.set_trial_state_values(trial, TrialState.COMPLETE, [1.0])
    return os.getpid(), id(storage)


def count(storage):
    """Return how many evaluations are complete."""
    study = storage.get_study_id_from_name("search")
    trials = storage.get_all_trials(study)
    return sum(trial.state == TrialState.COMPLETE for trial in trials)


def open_by_optuna(path):
    """Open a file without us."""
    if path.suffix == ".db":
        return RDBStorage(locate(path))
    return JournalStorage(JournalFileBackend(str(path)))


def fail_to_write(shared):
    """Return the error, since joblib ends its workers if one is raised."""
    with pytest.MonkeyPatch.context() as patch:
        # Optuna tries five times to begin a trial, and waits at random in between.
        patch.setattr(random, "random", float)
        with pytest.raises(StorageError) as caught:
            write_on(shared)
    return caught.value


def write_on(shared):
    for _ in range(20):
        write(shared, "x" * 1000)


def parallel(function, *tasks):
    return joblib.Parallel(n_jobs=2)(joblib.delayed(function)(*task) for task in tasks)


def fails(storage, *words):
    """Check that opening fails with these words; return the error."""
    with pytest.raises(StorageError) as caught:
        open_storage(storage)
    for word in words:
        assert word in str(caught.value)
    return caught.value


def fill(path):
    """Write a file until nothing more can be written."""
    with suppress(OSError), open(path, "wb", 0) as file:
        while True:
            file.write(b"x" * 4096)


def make_studies(storage, **settings):
    """The studies of a search, which have been compared with those that are there."""
    settings = {
        "data": {"X": "(20, 2) a", "y": "(20,) b", "the splits": "2 items c"},
        "call": {"estimator": "Tree"},
        "settings": {"search": "'random'"},
        "sizes": [None],
        "budgets": [4],
        "space": SPACE,
        **settings,
    }
    studies = SearchStudies(open_storage(storage), "iis", **settings)
    studies.check()
    return studies
