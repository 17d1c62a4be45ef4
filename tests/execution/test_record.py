"""Tasks, their records, and rows."""

import math
import subprocess
import sys

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from sklearn_iis.execution._record import Record, Row, Task, measure_span


def test_tasks_are_told_apart_by_candidate_parameters_and_split():
    def key(codes, params=None, split=0):
        return Task(codes, params or {}, split).key

    assert key({"a": 1, "b": 0.5}) == key({"b": np.float64(0.5), "a": np.int64(1)})
    assert key({}, {"n": 3}) == key({}, {"n": np.int64(3)})
    different = [
        key({"a": 1}),
        key({"a": 2}),
        key({"b": 1}),
        key({"a": 1}, {"max_epochs": 3}),
        key({"a": 1}, {"max_epochs": 9}),
        key({"a": 1}, split=1),
    ]
    assert len(set(different)) == len(different)
    assert all(name.replace("-", "").isalnum() for name in different)


def test_values_of_any_kind_have_a_key():
    """Equal ones the same: a foreign search may propose arrays, or objects."""

    def key(value):
        return Task({}, {"value": value}, 0).key

    assert key(np.array([0.3, 0.7])) == key(np.array([0.3, 0.7]))
    assert key(np.array([0.3, 0.7])) != key(np.array([0.7, 0.3]))
    assert key(LogisticRegression(C=2)) == key(LogisticRegression(C=2))
    assert key(LogisticRegression(C=2)) != key(LogisticRegression(C=3))


def test_neighbours_among_large_integers_are_told_apart():
    assert Task({"a": 2**60}, {}, 0).key != Task({"a": 2**60 + 1}, {}, 0).key


def test_a_key_is_the_same_in_any_process():
    code = (
        "from sklearn_iis.execution._record import Task\n"
        "print(Task({'a': 1, 'b': 0.5}, {'kind': 'x'}, 2).key)\n"
    )
    child = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert child.stdout.strip() == Task({"b": 0.5, "a": 1}, {"kind": "x"}, 2).key


def test_the_guiding_score_is_the_first():
    assert Record(0.5).guide == 0.5
    assert Record({"b": 0.25, "a": 1.0}).guide == 0.25


def make_row(*records):
    row = Row({"a": 1}, n_splits=2)
    for split, record in records:
        row.records[split] = record
    return row


def test_a_row_is_complete_with_all_splits():
    row = make_row((1, Record(0.5)))
    assert not row.is_complete
    assert row.tasks == [Task({"a": 1}, {}, 0), Task({"a": 1}, {}, 1)]
    row.records[0] = Record(0.25)
    assert row.is_complete
    assert [record.guide for record in row.in_order] == [0.25, 0.5]
    assert row.score == 0.375


def test_scores_are_so_large_at_most_that_they_can_be_squared():
    largest = np.finfo(float).max
    assert make_row((0, Record(-largest)), (1, Record(-largest))).score == -1e100
    assert make_row((0, Record(largest)), (1, Record(1.0))).score == 5e99


def test_a_row_fails_by_its_first_split_that_does():
    row = make_row((1, Record(7.0, error="second")), (0, Record(7.0, error="first")))
    assert row.error == "first"
    assert math.isnan(row.score)
    assert make_row((0, Record(7.0)), (1, Record(7.0, error="why"))).error == "why"


@pytest.mark.parametrize("split", [0, 1])
def test_a_row_is_pruned_if_any_split_was(split):
    row = make_row((split, Record(0.5, pruned=True)), (1 - split, Record(0.5)))
    assert row.pruned
    assert row.score == 0.5


@pytest.mark.parametrize(
    ("spans", "seconds"),
    [
        ([], 0),
        ([(10, 2, 1)], 3),
        ([(10, 2, 1), (20, 1, 0)], 4),  # one after the other
        ([(12, 4, 0), (10, 2, 1)], 6),  # the second begins in the first
        ([(10, 9, 1), (12, 1, 1), (15, 5, 2)], 12),  # one within another
    ],
)
def test_spans(spans, seconds):
    """Seconds in which several workers are busy count once."""
    records = [
        Record(started=started, fit_time=fit, score_time=score)
        for started, fit, score in spans
    ]
    assert measure_span(records) == seconds
