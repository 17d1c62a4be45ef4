"""Which estimators are kept, which of them are averaged, and their average."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Perceptron, Ridge

from sklearn_iis.execution._averaging import BestEstimators, average, check_averaging
from sklearn_iis.execution._record import Record, Row

X, Y = np.arange(8.0).reshape(-1, 1), np.array(list("aabbaabb"))


class Stages:
    """Adds rows of two splits, as scheduler and workers do."""

    def __init__(self, directory, n_candidates=2, **settings):
        self.best = BestEstimators(str(directory), n_candidates, **settings)
        self.stage = -1
        self.n_rows = 0

    def begin(self):
        self.stage += 1
        self.n_rows = 0

    def add(self, scores, x=None, *, columns=None, params=None, **fields):
        x = self.n_rows if x is None else x
        row = Row({"x": x}, 2, params or {}, columns or {}, self.stage, self.n_rows)
        row.records = {i: Record(score, **fields) for i, score in enumerate(scores)}
        self.n_rows += 1
        for task in row.tasks:
            told = self.stage, x, task.split
            self.best.files.save(task, LogisticRegression(C=told))
        self.best.add(row)

    def list_kept(self):
        """The indices of rows that have estimators on both splits."""
        return [
            i
            for i in range(len(self.best._rows))
            if all(self.best.load(i, split) is not None for split in (0, 1))
        ]


@pytest.fixture
def make(tmp_path):
    def make_stages(*args, **settings):
        stages = Stages(tmp_path, *args, **settings)
        stages.begin()
        return stages

    return make_stages


def test_the_best_are_kept_and_chosen(make):
    """Of ties the first ones, as cv_results_ ranks them."""
    stages = make()
    expected = [[0], [0, 1], [1, 2], [1, 2], [1, 4]]
    scores = [(0.1, 0.3), (0.6, 0.6), (0.4, 0.6), (0.6, 0.4), (0.9, 0.9)]
    for pair, kept in zip(scores, expected, strict=True):
        stages.add(pair)
        assert stages.list_kept() == kept
    assert stages.best.choose(4) == [4, 1]
    assert stages.best.load(4, 1).C == (0, 4, 1)


@pytest.mark.parametrize(
    ("last_only", "kept"), [(False, [0, 4]), (True, [4, 3])], ids=["best", "last"]
)
def test_stages_compete_unless_the_last_one_is_wanted(make, last_only, kept):
    """The same candidate at another size is another one."""
    stages = make(last_only=last_only)
    for score in (0.9, 0.8, 0.1):
        stages.add((score, score))
    stages.begin()
    for score in (0.5, 0.85):
        stages.add((score, score))
    assert stages.list_kept() == sorted(kept)
    assert stages.best.choose(kept[0]) == kept


def test_those_of_a_stage_before_stay_as_long_as_the_last_one_has_too_few(make):
    """It may end without a result."""
    stages = make(last_only=True)
    for score in (0.7, 0.8, 0.9):
        stages.add((score, score))
    stages.begin()
    assert stages.best.choose(2) == [2, 1]
    stages.add((0.1, 0.1))
    assert stages.list_kept() == [2, 3]
    assert stages.best.choose(3) == [3]


@pytest.mark.parametrize("fields", [{"error": "no"}, {"pruned": True}], ids=str)
def test_what_failed_or_was_pruned_is_no_candidate(make, fields):
    stages = make()
    stages.add((0.9, 0.9), **fields)
    stages.add((0.5, 0.5))
    stages.add((0.9, 0.9), **fields)
    assert stages.list_kept() == [1]
    assert stages.best.choose(1) == [1]
    with pytest.raises(ValueError, match="row 0 of cv_results_, failed or was pruned"):
        stages.best.choose(0)


def test_the_most_resources_count_and_the_best_whatever_it_has(make):
    """A candidate counts once."""
    stages = make()
    for x, resources, score in [
        (0, 1, 0.95), (1, 1, 0.9), (2, 1, 0.8), (0, 3, 0.7), (1, 3, 0.6), (2, 3, 0.5)
    ]:  # fmt: skip
        stages.add(
            (score, score),
            x,
            columns={"n_resources": resources},
            params={"n": resources},
        )
    assert stages.list_kept() == [0, 3, 4]
    assert stages.best.choose(0) == [0, 4]


def test_a_candidate_that_is_evaluated_twice_counts_once(make):
    stages = make()
    for x, score in [(5, 0.9), (6, 0.1), (5, 0.9), (7, 0.5)]:
        stages.add((score, score), x)
    assert stages.best.choose(0) == [0, 3]
    assert stages.best.load(0, 0).C == (0, 5, 0)
    assert stages.best.load(3, 0).C == (0, 7, 0)


def test_all_are_kept_if_any_may_be_chosen(make):
    stages = make(1, keeps_all=True)
    for score in (0.9, 0.8, 0.1):
        stages.add((score, score))
    stages.add((0.9, 0.9), error="no")
    assert stages.list_kept() == [0, 1, 2]
    assert stages.best.choose(2) == [2]


# The average


def fitted(estimator, y=Y, n=8):
    return estimator.fit(X[:n], y[:n])


def test_probabilities_are_averaged():
    members = [fitted(LogisticRegression(C=C)) for C in (0.01, 1)]
    voting = average(list(zip("ab", members, strict=True)), Y)
    expected = (members[0].predict_proba(X) + members[1].predict_proba(X)) / 2
    np.testing.assert_allclose(voting.predict_proba(X), expected)
    assert set(voting.predict(X)) <= {"a", "b"}


def test_predictions_are_averaged():
    members = [fitted(Ridge(alpha), X[:, 0]) for alpha in (1, 50)]
    voting = average(list(zip("ab", members, strict=True)), X[:, 0])
    expected = (members[0].predict(X) + members[1].predict(X)) / 2
    np.testing.assert_allclose(voting.predict(X), expected)


def test_classifiers_that_do_not_agree_are_refused():
    good = "good", fitted(LogisticRegression())
    other = fitted(LogisticRegression(), np.array(list("abcabcab")))
    with pytest.raises(ValueError, match="odd cannot be averaged: its classes are"):
        average([good, ("odd", other)], Y)
    with pytest.raises(ValueError, match="odd cannot be averaged: it has no predict_"):
        average([good, ("odd", fitted(Perceptron()))], Y)


@pytest.mark.parametrize("y", [Y, Y.tolist(), [1, 2, 1, 2], [True, False, True, False]])
def test_splits_need_all_classes(y):
    check_averaging(LogisticRegression(), y, [([0, 1, 2], [3])])
    with pytest.raises(ValueError, match="split 1 has none of"):
        check_averaging(LogisticRegression(), y, [(range(4), []), ([0], [3])])
    check_averaging(Ridge(), np.arange(4.0), [([0], [3])])
