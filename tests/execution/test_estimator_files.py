"""Files of fitted estimators; what checkpoints make of them is in test_checkpoints."""

import threading

import pytest
from sklearn.linear_model import LogisticRegression

from sklearn_iis.execution._estimator_files import EstimatorFiles
from sklearn_iis.execution._record import Task


def make_task(x=1.0, split=0, **params):
    return Task({"x": x}, params, split)


def test_each_evaluation_has_its_own(tmp_path):
    files = EstimatorFiles(str(tmp_path))
    tasks = [make_task(), make_task(split=1), make_task(2.0), make_task(n=3)]
    for C, task in enumerate(tasks, 1):
        files.save(task, LogisticRegression(C=C))
    files.save(tasks[0], LogisticRegression(C=9))
    assert [files.load(task).C for task in tasks] == [9, 2, 3, 4]


def test_a_candidate_is_discarded_on_all_splits(tmp_path):
    files = EstimatorFiles(str(tmp_path))
    tasks = [make_task(), make_task(split=1), make_task(n=3)]
    for task in tasks:
        files.save(task, LogisticRegression())
    files.discard(tasks[1])
    files.discard(make_task(5.0))
    assert [files.load(task) is None for task in tasks] == [True, True, False]


@pytest.mark.parametrize("directory", ["here", "gone"])
def test_what_cannot_be_saved_is_missing(directory, tmp_path):
    """And a directory that is not there, as on another machine, is not made."""
    (tmp_path / "here").mkdir()
    files = EstimatorFiles(str(tmp_path / directory))
    what = threading.Lock() if directory == "here" else LogisticRegression()
    files.save(make_task(), LogisticRegression(C=what))
    assert files.load(make_task()) is None
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not (tmp_path / "gone").exists()
