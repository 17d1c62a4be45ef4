"""The plan of a fit: sizes, budgets, deadlines."""

import math
import sys
import time

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import ShuffleSplit

from sklearn_iis import IISSearchCV
from sklearn_iis._plan import (
    FitCall,
    StagePlan,
    count_in_flight,
    default_sizes,
    split_budget,
)


def make_plan(*sizes):
    return StagePlan("size", list(sizes), [1] * len(sizes))


def test_without_a_timeout_there_is_no_deadline():
    deadline = make_plan(8, 16).make_deadline(
        0, math.inf, refit_ratio=2.0, fit_times={0: [5.0]}
    )
    assert deadline.seconds_left == math.inf


def test_stages_of_one_size_get_an_equal_share_of_what_is_left():
    """After the time of the last fit, on twice as many samples, is set aside."""
    plan = make_plan(8, 8, 8)
    end = time.monotonic() + 100

    def seconds_left(stage, longest_fit, refit_ratio=2.0):
        deadline = plan.make_deadline(
            stage, end, refit_ratio=refit_ratio, fit_times={0: [longest_fit]}
        )
        deadline.has_result = True
        return deadline, pytest.approx(deadline.seconds_left, abs=1)

    for stage, longest_fit, share in [(0, 0.0, 100 / 3), (1, 10.0, 80 / 2)]:
        deadline, left = seconds_left(stage, longest_fit)
        assert share == left
        # Those to come have nothing to fit on all data.
        deadline.note(0, 30)
        assert deadline.seconds_left == left
    deadline, left = seconds_left(2, 10.0)
    assert left == 80
    deadline.note(0, 30)
    assert deadline.seconds_left == pytest.approx(40, abs=1)
    assert seconds_left(2, 10.0, refit_ratio=0)[1] == 100


def test_a_stage_is_called_by_its_size_if_it_has_one():
    assert make_plan(8, (4, 2)).name(1) == "stage 1, size (4, 2)"
    assert make_plan(None).name(0) == "stage 0"


def test_parameters_that_all_candidates_share():
    assert make_plan(8, 16).fixed == [{"size": 8}, {"size": 16}]
    assert make_plan(None).fixed == [{}]


@pytest.mark.parametrize(
    ("n_iter", "n_stages", "expected"),
    [
        (60, 3, [30, 20, 10]),
        (10, 3, [6, 3, 1]),
        (9, 2, [6, 3]),
        (7, 1, [7]),
        ((5, 3, 1), 3, [5, 3, 1]),
        (np.array([5, 3]), 2, [5, 3]),
        (None, 2, [None, None]),
        ((5, None), 2, [5, None]),
    ],
)
def test_budgets(n_iter, n_stages, expected):
    assert split_budget(n_iter, n_stages) == expected


@pytest.mark.parametrize("n_iter", [1, (1,), (1, 0), (1, 2.5), (1, 2, 3)])
def test_budgets_that_are_none(n_iter):
    with pytest.raises(ValueError, match="must give each of 2 stages a whole number"):
        split_budget(n_iter, 2)


def test_default_sizes():
    assert default_sizes(np.zeros((5, 16, 16))) == [4, 8, 16]
    assert default_sizes(np.zeros((5, 2, 20, 3))) == [(1, 5), (1, 10), (2, 20)]
    with pytest.raises(ValueError, match="sizes=None needs images as one array"):
        default_sizes(np.zeros((5, 16)))


@pytest.mark.parametrize(
    ("pre_dispatch", "expected"),
    [
        (3, 3), ("all", sys.maxsize), ("n_jobs", 4), ("2*n_jobs", 8),
        ("2 * n_jobs + 1", 9), ("n_jobs+n_jobs", 8), ("7", 7),
    ],
)  # fmt: skip
def test_evaluations_in_flight(pre_dispatch, expected):
    assert count_in_flight(pre_dispatch, 4) == expected


@pytest.mark.parametrize("pre_dispatch", [0, -1, "0*n_jobs", "n_job", "1.5*n_jobs"])
def test_evaluations_in_flight_that_are_none(pre_dispatch):
    with pytest.raises(ValueError, match=r"pre_dispatch=.* must be a number >= 1"):
        count_in_flight(pre_dispatch, 4)


def test_a_last_fit_takes_longer_by_its_number_of_samples():
    X, y = np.zeros((100, 1)), np.arange(100) % 2
    search = IISSearchCV(
        LogisticRegression(),
        {"C": [1.0, 2.0]},
        cv=ShuffleSplit(2, train_size=0.25, random_state=0),
    )
    call = FitCall(search, X, y, {})
    assert call.refit_ratio == 4
    assert call.refits
    assert not FitCall(search.set_params(refit=False), X, y, {}).refits


# Shares of the time


def make_shares(budgets, fit_times=None, **params):
    plan = StagePlan("n", [1, 2, 4], budgets, params)
    return plan.shares(fit_times or {})


def test_stages_share_the_time_by_what_candidates_cost():
    """A size that is no side of an image counts as it is, as do epochs."""
    assert make_shares([9, 3, 1]) == [9, 6, 4]
    assert make_shares([None] * 3) == [3, 4, 4]
    assert make_shares([9, None, 1]) == [9, 4, 4]
    assert make_shares([9, 3, 1], m__max_epochs=[8, 4, 2]) == [72, 24, 8]
    assert make_shares([8, 4, 1], m__fraction=[0.25, 0.5, 1.0]) == [2, 4, 4]
    # Nothing is known of other parameters, nor of such epochs.
    assert make_shares([9, 3, 1], shift=[5, 6, 7]) == [9, 6, 4]
    assert make_shares([9, 3, 1], m__max_epochs=[None, 0, "x"]) == [9, 6, 4]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [([8, 16, 32], [64, 256, 1024]), ([(4, 8), (8, 8)], [32, 64]), ([None], [1])],
)
def test_images_count_by_their_pixels(sizes, expected):
    assert StagePlan("resize__size", sizes, [1] * len(sizes)).shares({}) == expected


def test_shares_follow_what_was_measured():
    """Costs are a power of work that fits the means of the first and the last."""
    times = {0: [1.0, 3.0], 1: [4.0]}  # twice as long for twice the work
    assert make_shares([1, 1, 1], times) == pytest.approx([1, 2, 4])
    assert make_shares([1, 1, 1], {0: [1.0], 2: [1.0]}) == [1, 1, 1]
    assert make_shares([1, 1, 1], {0: [1.0], 2: [2.0]}) == pytest.approx([1, 2**0.5, 2])
    # Not beyond the square, nor below nothing.
    assert make_shares([1, 1, 1], {0: [1.0], 1: [100.0]}) == [1, 4, 16]
    assert make_shares([1, 1, 1], {0: [1.0], 1: [0.1]}) == [1, 1, 1]
    # One stage alone, or one without a time, tells nothing.
    assert make_shares([1, 1, 1], {0: [5.0]}) == [1, 2, 4]
    assert make_shares([1, 1, 1], {0: [5.0], 1: []}) == [1, 2, 4]
    assert make_shares([1, 1, 1], {0: [0.0], 1: [0.0]}) == [1, 1, 1]


def test_the_deadline_of_a_stage_is_its_share_of_what_is_left():
    plan = StagePlan("resize__size", [8, 16, 32], [9, 3, 1])
    end = time.monotonic() + 100
    work = [9 * 64, 3 * 256, 1024]
    for stage in (0, 1):
        deadline = plan.make_deadline(stage, end, refit_ratio=0.0)
        deadline.has_result = True
        share = 100 * work[stage] / sum(work[stage:])
        assert deadline.seconds_left == pytest.approx(share, abs=1)
    deadline = plan.make_deadline(2, end, refit_ratio=0.0)
    assert deadline.seconds_left == pytest.approx(100, abs=1)


def test_the_last_fit_climbs():
    """The longest fits of all stages are set aside rather than the longest."""
    plan = make_plan(8, 16)
    times = {0: [1.0, 5.0], 1: [10.0, 2.0]}
    end = time.monotonic() + 100
    for climbs, reserve in [(False, 20), (True, 30)]:
        deadline = plan.make_deadline(
            1, end, refit_ratio=2.0, climbs=climbs, fit_times=times
        )
        assert deadline.seconds_left == pytest.approx(100 - reserve, abs=1)


def test_a_search_runs_one_stage_or_crosses_all():
    assert StagePlan("size", [1, 2, 3], [1] * 3).steps == [[0], [1], [2]]
    crossing = StagePlan("size", [1, 2, 3], [1] * 3, crosses=True)
    assert crossing.steps == [[0, 1, 2]]
    assert crossing.name(0, 1, 2) == "stages 0 to 2"


@pytest.mark.parametrize(
    ("n_iter", "factor", "expected"),
    [
        (39, 3, [27, 9, 3]),
        (60, 3, [43, 13, 4]),
        (12, 3, [9, 2, 1]),
        (4, 3, [2, 1, 1]),
        (7, 2, [4, 2, 1]),
    ],
)
def test_budgets_of_a_ladder(n_iter, factor, expected):
    assert split_budget(n_iter, 3, factor) == expected


def test_a_ladder_needs_a_candidate_for_each_stage():
    with pytest.raises(ValueError, match="n_iter=2 must give each of 3 stages"):
        split_budget(2, 3, 3)
