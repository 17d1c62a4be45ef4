"""The deadline of a stage."""

import math
import time

import pytest

from sklearn_iis.execution._deadline import Deadline


def test_without_an_end_there_is_always_time():
    deadline = Deadline()
    deadline.note(0, 1e9)
    assert deadline.seconds_left == math.inf
    assert not deadline.is_over


def test_time_is_left_for_the_last_fit():
    """As long as the longest fit of this stage or of those before it, times a ratio."""
    deadline = Deadline(time.monotonic() + 100, refit_ratio=2, fit_times={0: [10.0]})
    assert deadline.reserve == 20
    assert deadline.seconds_left == pytest.approx(80, abs=1)
    deadline.note(0, 20)
    assert deadline.seconds_left == pytest.approx(60, abs=1)
    deadline.note(1, 5)
    assert deadline.seconds_left == pytest.approx(60, abs=1)
    assert not deadline.is_over
    deadline.note(1, 50)
    assert deadline.is_over


def test_it_is_over_at_its_end():
    assert Deadline(time.monotonic() - 1e-3).is_over
    assert not Deadline(time.monotonic() + 60).is_over


def test_a_stage_without_a_result_has_more_time():
    now = time.monotonic()
    deadline = Deadline(now - 1, now + 60)
    assert not deadline.is_over
    deadline.has_result = True
    assert deadline.is_over
