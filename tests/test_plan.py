"""What the stages of a fit share."""

import math
import time

import numpy as np
import pytest

from sklearn_iis._plan import FitPlan


def make_plan(*, end=math.inf, splits=None, sizes=(8, 16, 32)):
    samples = np.arange(10)
    return FitPlan(
        X=np.zeros((10, 1)),
        y=None,
        params={},
        scorers=None,
        splits=splits or [(samples[:5], samples[5:]), (samples[:8], samples[8:])],
        size_param="size",
        sizes=list(sizes),
        budgets=[1] * len(sizes),
        fixed=[{}] * len(sizes),
        directory="",
        end=end,
    )


def test_splits_are_told_apart_by_their_training_samples():
    first, second = np.arange(5), np.arange(5, 10)
    assert make_plan(splits=[(first, second), (second, first)]).can_tell_splits
    assert not make_plan(splits=[(first, second), (first, second[:2])]).can_tell_splits


def test_without_a_timeout_there_is_no_deadline():
    deadline = make_plan().make_deadline(0, 5.0, refit=True)
    assert deadline.end == math.inf
    assert deadline.reserve() == 0


def test_each_stage_gets_an_equal_share_of_what_is_left():
    """After the time of the last fit, on twice as many samples, is set aside."""
    now = time.time()
    plan = make_plan(end=now + 100)
    for stage, longest_fit, share in [(0, 0.0, 100 / 3), (1, 10.0, 80 / 2)]:
        deadline = plan.make_deadline(stage, longest_fit, refit=True)
        assert deadline.end - now == pytest.approx(share, abs=1)
        assert deadline.reserve() == 0
    last = plan.make_deadline(2, 10.0, refit=True)
    assert last.end - now == pytest.approx(100, abs=1)
    assert last.reserve() == 20
    assert plan.make_deadline(2, 10.0, refit=False).reserve() == 0


def test_a_stage_is_called_by_its_size_if_it_has_one():
    assert make_plan().where(1) == "stage 1, size 16"
    assert make_plan(sizes=[None]).where(0) == "stage 0"
