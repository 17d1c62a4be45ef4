"""Rounds: how long each search runs, and which ones go on."""

import math

import pytest

from sklearn_iis.choice._rounds import Rounds


class Runner:
    """A search that ends after a while, with a score from the start."""

    def __init__(self, score, length=math.inf, clock=None):
        self.score = score
        self.length = length
        self.seconds = 0.0
        self.turns = []

    def go_on(self, seconds):
        self.seconds = min(seconds, self.length, 60.0)  # the end of all
        self.turns.append(round(self.seconds, 6))


def compete(seconds=60.0, shares=None, **runners):
    rounds = Rounds(shares or dict.fromkeys(runners, 1.0), seconds)
    told = []
    rounds.run(runners, told.append)
    return told


def test_better_half_goes_on_and_the_winner_has_the_rest():
    """Of three, in two rounds of a sixth of the time each."""
    runners = {"a": Runner(0.5), "b": Runner(0.9), "c": Runner(0.7)}
    told = compete(**runners)
    assert told == [["b", "c"], ["b"]]
    third, half = 10 / 3, 5.0
    assert runners["b"].turns[:2] == pytest.approx([third, third + half])
    assert runners["c"].turns[:2] == pytest.approx([third, third + half])
    assert runners["a"].turns[0] == pytest.approx(third)


@pytest.mark.parametrize("n", [2, 3, 4, 5, 8])
def test_winner_has_most_of_the_time(n):
    runners = {str(i): Runner(-i) for i in range(n)}
    compete(**runners)
    *competing, _ = runners["0"].turns
    own = competing[-1] + 60.0 * 2 / 3
    assert own > 60.0 * 0.76


def test_the_others_go_on_once_the_winner_has_ended_the_best_first():
    order = []

    class Told(Runner):
        def go_on(self, seconds):
            super().go_on(seconds)
            if math.isinf(seconds):
                order.append(self.score)

    compete(a=Told(1), b=Told(4), c=Told(3), d=Told(2))
    assert order == [4, 3, 2, 1]


def test_shares_divide_the_rounds():
    runners = {"a": Runner(2), "b": Runner(1)}
    compete(shares={"a": 3.0, "b": 1.0}, **runners)
    assert runners["a"].turns[0] == pytest.approx(15.0)
    assert runners["b"].turns[0] == pytest.approx(5.0)


def test_without_a_score_a_search_is_last_and_the_first_of_equals_wins():
    told = compete(a=Runner(-math.inf), b=Runner(0.5), c=Runner(0.5))
    assert told == [["b", "c"], ["b"]]


def test_a_single_search_has_all_of_the_time():
    runner = Runner(1)
    assert compete(a=runner) == []
    assert runner.turns == [60.0]
