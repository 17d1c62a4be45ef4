"""Inherited weights: which files stay, and training without them."""

import os
import pickle

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.ensemble import VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from sklearn_iis import CNNClassifier, IISSearchCV, ImageResizer
from sklearn_iis.execution._estimator_files import EstimatorFiles
from sklearn_iis.execution._evaluate import Fidelity, evaluate
from sklearn_iis.execution._inheritance import (
    WEIGHTS,
    Heirs,
    Inheritance,
    Promotable,
    check_heirs,
    end_inheriting,
    find_heirs,
    inherit,
)
from sklearn_iis.execution._patience import Patience
from sklearn_iis.execution._record import Record, Row, Task
from sklearn_iis.testing import SPACE, FormulaClassifier, X, y
from tests.execution.workers import make_job


class Climber(FormulaClassifier):
    """Its score tells in which sizes it was fitted, each from the one before."""

    inherits_weights = True
    fits = []

    def __init__(self, rate=0.01, size=1, warm_start=False, breaks_at=None):
        super().__init__(rate, size=size)
        self.warm_start = warm_start
        self.breaks_at = breaks_at

    def fit(self, X, y):
        if self.warm_start != WEIGHTS:
            vars(self).pop("path_", None)
        if self.breaks_at == self.size:
            raise RuntimeError("broken")
        Climber.fits.append((self.rate, self.size))
        self.path_ = [*getattr(self, "path_", []), (self.size, X.sum())]
        return super().fit(X, y)

    def score(self, X, y):
        return sum(np.sqrt(size + total) for size, total in self.path_) * self.rate


@pytest.fixture(autouse=True)
def fits():
    Climber.fits = []
    return Climber.fits


def make_task(rate=0.5, split=0, stage=0):
    return Task({"rate": rate}, {}, split, stage)


def make_files(path):
    return EstimatorFiles(str(path))


def make_row(rate, stage=0, n_splits=2, score=0.0):
    row = Row({"rate": rate}, n_splits, stage=stage)
    row.records = {split: Record(score) for split in range(n_splits)}
    return row


def make_climb(directory, sizes=(1, 2, 3), estimator=None, **fields):
    """A job whose candidates climb."""
    inheritance = Inheritance(make_files(directory), len(sizes))
    job = make_job(estimator=estimator or Climber(), inheritance=inheritance, **fields)
    X = job.fidelities[0].X
    job.fidelities = {
        stage: Fidelity(X + size, {"size": size}) for stage, size in enumerate(sizes)
    }
    return job


def climb_by_hand(job, task):
    """The score, without a file."""
    train, test = job.splits[task.split]
    estimator = Climber().set_params(**job.space.decode(task.codes))
    for stage in range(task.stage + 1):
        fidelity = job.fidelities[stage]
        estimator.set_params(**fidelity.fixed, warm_start=WEIGHTS)
        estimator.fit(fidelity.X[train], job.y[train])
    return estimator.score(job.fidelities[task.stage].X[test], job.y[test])


# The parts that inherit


def test_the_parts_of_an_estimator_that_inherit():
    cnn = CNNClassifier(pooling="average")
    assert find_heirs(cnn) == ["warm_start"]
    pipe = Pipeline([("resize", ImageResizer()), ("cnn", cnn)])
    assert find_heirs(pipe) == ["cnn__warm_start"]
    outer = Pipeline([("inner", pipe)])
    assert find_heirs(outer) == ["inner__cnn__warm_start"]
    two = Pipeline([("first", cnn), ("last", CNNClassifier(pooling="average"))])
    assert sorted(find_heirs(two)) == ["first__warm_start", "last__warm_start"]


def test_what_cannot_inherit():
    class Odd(BaseEstimator):
        inherits_weights = "no"

    # It clones what it holds.
    voting = VotingClassifier([("cnn", CNNClassifier(pooling="average"))])
    for estimator in (CNNClassifier(), LogisticRegression(), Odd(), voting):
        assert find_heirs(estimator) == []
        assert find_heirs(Pipeline([("last", estimator)])) == []
        with pytest.raises(ValueError, match="has no part that says so"):
            check_heirs(estimator)
    check_heirs(CNNClassifier(pooling="average"))


def test_what_was_learned_is_begun_with_once():
    learned = Pipeline([("last", Climber(rate=0.5, warm_start=True))])
    begun = inherit(learned, {"last__size": 7})
    assert begun is learned
    assert begun["last"].get_params() == {
        "rate": 0.5, "size": 7, "warm_start": WEIGHTS, "breaks_at": None
    }  # fmt: skip
    end_inheriting(begun, Pipeline([("last", Climber(warm_start=True))]))
    assert begun["last"].warm_start is True
    assert begun["last"].rate == 0.5


def test_what_stages_share_is_not_shared_by_candidates():
    shared = [1, 2]
    first, second = (inherit(Climber(), {"breaks_at": shared}) for _ in range(2))
    assert first.breaks_at == shared
    assert first.breaks_at is not shared
    assert first.breaks_at is not second.breaks_at


# Files


def test_the_last_stage_that_there_is_of_is_found(tmp_path):
    inheritance = Inheritance(make_files(tmp_path), 4)
    assert inheritance.find(make_task(stage=3)) == (0, None)
    for stage in (0, 1):
        inheritance.save(make_task(stage=stage), Climber(size=stage))
    # Other candidates and splits.
    inheritance.save(make_task(split=1, stage=2), Climber())
    inheritance.save(make_task(0.25, stage=2), Climber())
    for stage, expected in [(0, 0), (1, 1), (2, 2), (3, 2)]:
        begin, learned = inheritance.find(make_task(stage=stage))
        assert begin == expected
        assert (learned is None) == (expected == 0)
        if expected:
            assert learned.size == expected - 1


def test_nothing_is_saved_of_the_last_stage(tmp_path):
    inheritance = Inheritance(make_files(tmp_path), 2)
    inheritance.save(make_task(stage=1), Climber())
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("split", [0, 1])
@pytest.mark.parametrize("stage", [0, 1, 2])
def test_a_candidate_climbs(stage, split, tmp_path, fits):
    job = make_climb(tmp_path)
    task = make_task(0.25, split, stage)
    record = evaluate(job, task)
    assert record.error is None
    assert record.scores == climb_by_hand(job, task)
    rate = job.space.decode(task.codes)["rate"]
    assert fits[: stage + 1] == [(rate, size) for size in (1, 2, 3)][: stage + 1]


def test_from_stage_to_stage_it_trains_once(tmp_path, fits):
    job = make_climb(tmp_path)
    scores = [evaluate(job, make_task(stage=stage)).scores for stage in range(3)]
    assert [size for _, size in fits] == [1, 2, 3]
    assert scores == [climb_by_hand(job, make_task(stage=stage)) for stage in range(3)]


DAMAGES = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "garbage": lambda path: path.write_bytes(os.urandom(300)),
    "text": lambda path: path.write_bytes(pickle.dumps("a text")),
    "none": lambda path: path.write_bytes(pickle.dumps(None)),
    "class": lambda path: path.write_bytes(pickle.dumps(Climber)),
    "other": lambda path: path.write_bytes(pickle.dumps(LogisticRegression())),
    "folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_cannot_be_used_is_trained_again(damage, tmp_path, fits):
    """With the same result, from the last file that is whole."""
    job = make_climb(tmp_path)
    task = make_task(stage=2)
    expected = climb_by_hand(job, task)
    # The first is of no use as long as there is the second.
    for damaged, n_fits in [((), 1), ((1,), 2), ((0, 1), 3), ((0,), 1)]:
        for stage in (0, 1):
            evaluate(job, task.at(stage))
        for stage in damaged:
            DAMAGES[damage](job.inheritance.files._path(task.at(stage)))
        fits.clear()
        again = evaluate(job, task)
        assert (again.scores, len(fits)) == (expected, n_fits)
        for stage in (0, 1):
            job.inheritance.files.discard(task.at(stage))


def test_a_part_that_is_searched_keeps_what_it_learned(tmp_path):
    """An estimator among the candidate's parameters is not set anew at each size."""
    parts = [Climber(0.5), Climber(0.25)]
    pipe = Pipeline([("last", Climber())])
    job = make_climb(tmp_path, estimator=pipe)
    job.space = type(job.space)({"last": parts})
    job.fidelities = {
        stage: Fidelity(f.X, {f"last__{name}": v for name, v in f.fixed.items()})
        for stage, f in job.fidelities.items()
    }
    train, test = job.splits[0]
    for stage in (2, 0, 1, 2):
        record = evaluate(job, Task({"last": 1}, {}, 0, stage))
        estimator = Climber(0.25)
        for below in range(stage + 1):
            estimator.set_params(size=below + 1, warm_start=WEIGHTS)
            estimator.fit(job.fidelities[below].X[train], job.y[train])
        X = job.fidelities[stage].X[test]
        assert record.error is None
        assert record.scores == estimator.score(X, job.y[test])
    assert parts[1].get_params() == Climber(0.25).get_params()
    assert not hasattr(parts[1], "path_")


def test_where_nothing_can_be_saved_it_still_climbs(tmp_path, fits):
    job = make_climb(tmp_path / "gone")
    for stage in range(3):
        task = make_task(stage=stage)
        assert evaluate(job, task).scores == climb_by_hand(job, task)
    assert not (tmp_path / "gone").exists()


def test_the_error_of_a_stage_before_is_the_candidates(tmp_path):
    job = make_climb(tmp_path, estimator=Climber(breaks_at=2))
    assert evaluate(job, make_task(stage=0)).error is None
    record = evaluate(job, make_task(stage=2))
    assert "RuntimeError: broken" in record.error
    assert np.isnan(record.scores)
    # What it had learned until then is there for another attempt.
    assert len([*tmp_path.rglob("*.pickle")]) == 1


def test_a_candidate_that_cannot_inherit_fails_in_each_stage(tmp_path):
    class Choosy(Climber):
        @property
        def inherits_weights(self):
            return self.breaks_at is None

    job = make_climb(tmp_path, estimator=Choosy(breaks_at=9))
    for stage in range(3):
        assert "ValueError: inherit_weights=True needs" in (
            evaluate(job, make_task(stage=stage)).error
        )


# Which files stay


def save_all(files, rows):
    for row in rows:
        for task in row.tasks:
            files.save(task, Climber())


def list_kept(files, rows):
    return [row for row in rows if any(files.load(task) for task in row.tasks)]


def test_the_files_of_those_that_are_kept_stay(tmp_path):
    heirs = Heirs(make_files(tmp_path))
    rows = [make_row(rate) for rate in (0.1, 0.2, 0.3)]
    others = [make_row(rate, stage=1) for rate in (0.1, 0.2)]
    save_all(heirs.files, [*rows, *others])
    heirs.keep(0, [rows[0]], rows[0])
    heirs.keep(0, [rows[0]], rows[1])
    assert list_kept(heirs.files, rows) == [rows[0], rows[2]]
    heirs.keep(0, [rows[2]], rows[2])
    assert list_kept(heirs.files, rows) == [rows[2]]
    # The others of a stage are none of its business.
    assert list_kept(heirs.files, others) == others
    heirs.keep(1, others[1:], others[0])
    assert list_kept(heirs.files, others) == others[1:]
    heirs.keep(0, [])
    assert list_kept(heirs.files, rows) == []


def test_where_a_climb_has_ended_nothing_is_kept_below(tmp_path):
    heirs = Heirs(make_files(tmp_path))
    rows = [make_row(0.1, stage) for stage in range(4)]
    other = make_row(0.2)
    save_all(heirs.files, [*rows, other])
    heirs.end_climb(rows[2])
    assert list_kept(heirs.files, [*rows, other]) == [*rows[2:], other]


def test_who_does_not_count_displaces_nobody(tmp_path):
    """With several workers, some are complete before patience is known to be over."""
    patience = Patience(2)
    heirs = Heirs(make_files(tmp_path))
    promotable = Promotable(heirs, 1, patience)
    rows = [make_row(0.1 * n, score=score) for n, score in enumerate([3, 1, 2, 9])]
    for number, row in enumerate(rows):
        row.number = number
    save_all(heirs.files, rows)
    for number in (0, 1, 3, 2):  # the third one is the slowest
        promotable.add(rows[number])
        patience.note(rows[number])
    assert patience.list_left_out() == [rows[3]]
    assert rows[0] in list_kept(heirs.files, rows)
    assert rows[1] not in list_kept(heirs.files, rows)
    # Without patience nobody is waited for.
    heirs = Heirs(make_files(tmp_path))
    save_all(heirs.files, rows)
    promotable = Promotable(heirs, 1)
    for row in rows:
        promotable.add(row)
    assert list_kept(heirs.files, rows) == [rows[3]]


@pytest.mark.parametrize("search", ["ladder", "random"])
def test_no_more_is_kept_than_may_be_promoted(search):
    """Of a thousand candidates, counted after each of them."""
    directories, most = set(), []

    def save(self, task, estimator):
        directories.add(task.key.rpartition("-")[0])

    def discard(self, task):
        directories.discard(task.key.rpartition("-")[0])

    def score(estimator, X, y):
        most.append(len(directories))
        return -abs(np.log10(estimator.rate) + 2) + 1e-3 * estimator.size

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EstimatorFiles, "save", save)
        patch.setattr(EstimatorFiles, "discard", discard)
        n_iter = (700, 240, 60)
        found = IISSearchCV(
            Climber(),
            {"rate": SPACE["rate"]},
            sizes=(1, 2, 3),
            size_param="size",
            inherit_weights=True,
            search=search,
            n_iter=n_iter,
            refit=False,
            scoring=score,
            cv=[(np.arange(10), np.arange(10, 20))],
            random_state=0,
        ).fit(X, y)
    assert [len(stage.candidates_) for stage in found.stages_] == [*n_iter]
    if search == "random":
        # The best 3 of each stage, and what is trained in one now, with those below.
        assert max(most) <= 3 + 3 + 3
    else:
        # As many as there is room for in the next stage, and what is trained now.
        assert max(most) <= 240 + 60 + 3
    assert len(directories) <= 2 * 3
