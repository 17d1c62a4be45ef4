import copy
import os
import pickle

import pytest
from joblib import Parallel, delayed, parallel_config

from sklearn_iis.execution._evaluation import Score
from sklearn_iis.execution._records import Record
from sklearn_iis.execution._tickets import (
    Delivery,
    Ticket,
    is_ticket,
    is_undecided,
    listening,
)


def make_tickets(n_tickets, decided):
    def decide():
        decided.append(len(decided))
        return {"x": decided[-1]}

    return [Ticket(decide) for _ in range(n_tickets)]


@pytest.mark.parametrize(
    "look",
    [dict, len, list, lambda t: t["x"], copy.deepcopy, pickle.dumps, lambda t: {**t}],
    ids=["dict", "len", "list", "item", "copy", "pickle", "unpack"],
)
def test_it_is_decided_on_once_when_it_is_looked_into(look):
    decided = []
    ticket, other = make_tickets(2, decided)
    assert is_undecided(ticket)
    look(ticket)
    look(ticket)
    assert decided == [0]
    assert is_ticket(ticket)
    assert not is_undecided(ticket)
    assert is_undecided(other)


def test_a_copy_is_the_candidate():
    (ticket,) = make_tickets(1, [])
    for copied in (copy.deepcopy(ticket), pickle.loads(pickle.dumps(ticket))):
        assert type(copied) is dict
        assert copied == {"x": 0}
    assert not is_ticket({"x": 0})


def deliver(candidate, address):
    return Score(10 * candidate["x"], Record(), Delivery(address, dict(candidate)))


@pytest.mark.parametrize(
    ("backend", "n_jobs"), [("sequential", 1), ("threading", 2), ("loky", 2)]
)
def test_scores_are_known_before_later_candidates_are_decided_on(backend, n_jobs):
    arrived, n_known = [], []

    def decide():
        n_known.append(len(arrived))
        return {"x": len(n_known)}

    def listen(delivery, score, skipped):
        assert not skipped
        arrived.append((delivery.candidate["x"], score))

    tickets = [Ticket(decide) for _ in range(12)]
    with parallel_config(backend), listening("here", listen):
        out = Parallel(n_jobs=n_jobs, pre_dispatch="n_jobs", batch_size=1)(
            delayed(deliver)(ticket, "here") for ticket in tickets
        )
    assert sorted(arrived) == [(i, 10 * i) for i in range(1, 13)]
    assert sorted(out) == [10 * i for i in range(1, 13)]
    # What is under way is not known, and that is no more than there are workers.
    assert all(i - n_jobs < n <= i for i, n in enumerate(n_known))


def test_failures_and_what_was_skipped_have_no_score():
    arrived = []
    with listening("here", lambda *arguments: arrived.append(arguments)):
        Score(1.0, Record(error="failed"), Delivery("here", {"x": 0}))
        Score(1.0, Record(skipped=True), Delivery("here", {"x": 1}))
        Score(1.0, Record(), Delivery("elsewhere", {"x": 2}))
        Score(1.0, Record())
    assert [(d.candidate, repr(s), skipped) for d, s, skipped in arrived] == [
        ({"x": 0}, "nan", False),
        ({"x": 1}, "nan", True),
    ]
    Score(1.0, Record(), Delivery("here", {"x": 3}))
    assert len(arrived) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_nobody_listens_in_a_process_that_was_forked():
    """Its scores are told in the process that it gives them back to."""
    arrived = []
    with listening("here", lambda *arguments: arrived.append(arguments)):
        child = os.fork()
        if child == 0:
            Score(1.0, Record(), Delivery("here", {"x": 0}))
            os._exit(len(arrived))
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        Score(1.0, Record(), Delivery("here", {"x": 1}))
    assert [delivery.candidate for delivery, *_ in arrived] == [{"x": 1}]
