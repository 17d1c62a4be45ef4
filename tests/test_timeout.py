"""`timeout`: after the deadline nothing is begun, and each stage has its share."""

import itertools

import numpy as np
import pytest
from scipy.stats import randint
from sklearn.model_selection import RandomizedSearchCV

from sklearn_iis import IISSearchCV, SearchSpace, _plan
from sklearn_iis.execution import _deadline, _evaluate, _monitor
from sklearn_iis.searches import SEARCHES, get_search
from sklearn_iis.testing import SPACE, FormulaClassifier, X, y
from tests.logging_search import make_search, read_log

PLAIN = {"rate": SPACE["rate"], "degree": SPACE["degree"]}

UNLIMITED = sorted(set(SEARCHES) - {"grid", "hyperband"})

# A grid of few candidates holds most hyperparameters, and says so.
pytestmark = pytest.mark.filterwarnings("ignore:.*which are not searched:UserWarning")


class Clock:
    """A clock that is only moved on by fits; the time of day goes astray."""

    def __init__(self):
        self.now = 0.0
        self.begun = []
        self.days = itertools.cycle([1e9, 0.0, 2e9])

    def monotonic(self):
        return self.now

    perf_counter = monotonic

    def time(self):
        return next(self.days)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    for module in (_plan, _deadline, _evaluate, _monitor):
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(Ticking, "clock", clock)
    return clock


class Ticking(FormulaClassifier):
    """Each fit takes a second."""

    clock = None

    def fit(self, X, y):
        self.clock.begun.append(self.clock.now)
        self.clock.now += 1
        return super().fit(X, y)


def make_ticking(**params):
    return IISSearchCV(
        Ticking(),
        params.pop("space", PLAIN),
        **{
            "n_iter": 20_000,
            "timeout": 10,
            "cv": 2,
            "random_state": 0,
            "refit": False,
        }
        | params,
    )


@pytest.mark.parametrize("name", UNLIMITED)
@pytest.mark.parametrize("n_iter", [20_000, None])
def test_as_many_candidates_as_there_is_time_for(name, n_iter, clock):
    search = make_ticking(search=name, n_iter=n_iter).fit(X, y)
    assert len(search.cv_results_["params"]) == 5
    assert clock.begun == list(range(10))


def test_candidates_are_drawn_as_they_are_needed(clock, monkeypatch):
    drawn = []
    draw = SearchSpace.draw

    def counted(self, **settings):
        for codes in draw(self, **settings):
            drawn.append(codes)
            yield codes

    monkeypatch.setattr(SearchSpace, "draw", counted)
    make_ticking(n_iter=10**9).fit(X, y)
    assert len(drawn) <= 6


def test_the_time_may_suffice_for_the_number_of_candidates(clock):
    search = make_ticking(n_iter=4).fit(X, y)
    assert len(search.cv_results_["params"]) == 4
    assert clock.now == 8


def test_each_stage_has_its_share(clock):
    """It ends within an evaluation of it, and what it does not need is for the next."""
    settings = {"sizes": (1, 1, 1), "size_param": "size", "timeout": 30}
    search = make_ticking(n_iter=(400, 400, 400), **settings).fit(X, y)
    assert np.bincount(search.cv_results_["stage"]).tolist() == [5, 5, 5]
    assert len(clock.begun) == 30
    clock.now = 0
    search = make_ticking(n_iter=(200, 400, 400), **settings).fit(X, y)
    # 6 s of the first stage; 24 s are left for the other two.
    assert np.bincount(search.cv_results_["stage"]).tolist() == [3, 6, 6]
    clock.now = 0
    search = make_ticking(n_iter=None, **settings).fit(X, y)
    # 15 s of 30 s, 10 s of the other 15 s, and the rest: 3:2:1.
    assert np.bincount(search.cv_results_["stage"]).tolist() == [7, 5, 2]
    clock.now = 0
    search = make_ticking(n_iter=(3, None, 2), **settings).fit(X, y)
    assert np.bincount(search.cv_results_["stage"]).tolist() == [3, 6, 2]


def test_stages_share_the_time_by_what_they_cost(clock):
    """1, 4 and 16 for images of such sizes: 30 s / 21, then 28 s * 4 / 20."""
    search = make_ticking(
        n_iter=(400, 400, 400), sizes=(1, 2, 4), size_param="size", timeout=30
    ).fit(X, y)
    assert np.bincount(search.cv_results_["stage"]).tolist() == [1, 3, 11]


def test_many_splits_do_not_starve_the_next_stage(clock):
    """The evaluations that are left over are not handed out."""
    search = make_ticking(
        n_iter=(400, 400), sizes=(1, 1), size_param="size", cv=5, timeout=20
    ).fit(X, y)
    assert np.bincount(search.cv_results_["stage"]).tolist() == [2, 2]
    assert clock.now == 20


def test_time_is_left_for_the_fit_on_all_data(clock):
    """On twice as many samples as an evaluation has it may take two seconds."""
    search = make_ticking(refit=True).fit(X, y)
    assert len(search.cv_results_["params"]) == 4
    assert clock.begun == list(range(9))
    assert hasattr(search, "best_estimator_")


def test_what_is_not_evaluated_on_all_splits_is_no_result(clock):
    search = make_ticking(timeout=3).fit(X, y)
    assert clock.begun == [0, 1, 2]
    assert len(search.cv_results_["params"]) == 1


def test_a_foreign_search_ends_in_time(clock):
    def make(estimator, space, *, n_iter, initial_candidates, **settings):
        return RandomizedSearchCV(
            estimator, space.dimensions, n_iter=n_iter, **settings
        )

    search = make_ticking(n_iter=200, search=make).fit(X, y)
    assert len(search.cv_results_["params"]) == 5
    assert len(clock.begun) == 10


def test_without_a_number_of_candidates_there_has_to_be_a_timeout():
    with pytest.raises(ValueError, match="set a timeout, or a number of candidates"):
        make_ticking(n_iter=None, timeout=None).fit(X, y)


@pytest.mark.parametrize("name", ["grid", "hyperband"])
def test_searches_that_plan_ahead_say_so(name):
    with pytest.raises(ValueError, match="needs a number of candidates, n_iter"):
        make_ticking(
            n_iter=(5, None), search=name, sizes=(1, 2), size_param="size"
        ).fit(X, y)
    assert not get_search(name).is_unlimited


def test_several_workers_begin_nothing_after_the_deadline(tmp_path):
    # The workers have started.
    make_search(tmp_path, n_iter=4, n_jobs=2).fit(X, y)
    (tmp_path / "log").unlink()
    search = make_search(tmp_path, seconds=0.1, timeout=2, n_iter=20_000, n_jobs=2).fit(
        X, y
    )
    n_fits = len(read_log(tmp_path / "log"))
    # Two workers, each of which takes at least 0.1 s for a fit.
    assert n_fits <= 2 * 21
    assert 0 < len(search.cv_results_["params"]) <= n_fits // 2


def test_large_data_are_not_sliced_for_what_is_not_evaluated(clock, monkeypatch):
    sliced = []
    split_safely = _evaluate.split_safely

    def counted(*args):
        sliced.append(1)
        return split_safely(*args)

    monkeypatch.setattr(_evaluate, "split_safely", counted)
    make_ticking(space={"degree": randint(0, 10**6)}, n_iter=300, cv=5, timeout=5).fit(
        X, y
    )
    assert len(sliced) == 2 * 5  # the training and test samples of a candidate
