"""Tests of every search: the public checks, and the package's own."""

import pickle
import threading
import time
from collections import Counter
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, ClassVar

import numpy as np
import pytest
from joblib import parallel_config
from scipy import stats
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection._search import BaseSearchCV

from sklearn_iis import IISSearchCV, PerLayer, SearchSpace
from sklearn_iis.searches import SEARCHES, Sampler, Search, get_search
from sklearn_iis.testing import SPACE, FormulaClassifier, X, search_checks, y
from sklearn_iis.testing._checks import ALTERNATIVES

ONE_SPLIT = [(np.arange(10), np.arange(10, 20))]

# Checks that do not apply.
SKIP = {
    "random": ["check_better_than_chance"],
    "grid": ["check_better_than_chance", "check_budget_is_exact"],
    # Its sampler is random search.
    "ladder": ["check_better_than_chance"],
}

# By default TPE proposes as many candidates at once as there are workers.
ANY_N_JOBS = {
    "tpe": {"n_points": 2},
    "bayes": {"n_points": 2},
    "cmaes": {"n_points": 2},
    "swarm": {"n_points": 2},
    "reinforce": {"n_points": 2},
    "fabolas": {"n_points": 2},
    "genetic": {"synchronous": True},
}

# A grid of few candidates holds most hyperparameters, and says so.
pytestmark = pytest.mark.filterwarnings("ignore:.*which are not searched:UserWarning")


def score(estimator, X, y):
    return estimator.score(X, y)


def hold(space, name, code):
    """A space with a single code left of a dimension, as no narrowing leaves it."""

    def narrow(code_name, dimension):
        if code_name == name:
            return replace(dimension, low=code, high=code)
        return dimension

    held = space.narrow([])
    held.alternatives = tuple(
        tuple(parameter.narrow(narrow) for parameter in own)
        for own in space.alternatives
    )
    return held


def make_search(name, space=SPACE, *, estimator=None, scorer=score, **settings):
    space = space if isinstance(space, SearchSpace) else SearchSpace(space)
    settings = {
        "n_iter": 20,
        "cv": ONE_SPLIT,
        "random_state": 0,
        "refit": False,
    } | settings
    return get_search(name)(
        estimator or FormulaClassifier(), space, scoring=scorer, **settings
    )


@pytest.fixture(params=SEARCHES)
def name(request):
    return request.param


@pytest.mark.parametrize(
    "check",
    [
        pytest.param(check, id=f"{name}-{check.__name__}")
        for name in SEARCHES
        for check in search_checks(name, skip=SKIP.get(name, ()))
    ],
)
def test_public_checks(check):
    check()


@pytest.mark.parametrize(
    "check",
    search_checks("ladder", search_params={"sampler": "tpe"}),
    ids=lambda check: check.__name__,
)
def test_public_checks_of_a_ladder_that_learns(check):
    check()


def test_every_search_is_one_of_scikit_learns_kind(name):
    search = make_search(name)
    assert isinstance(search, Search)
    assert isinstance(search, BaseSearchCV)


def test_same_candidates_in_any_number_of_processes(name):
    settings = {"n_iter": 12, **ANY_N_JOBS.get(name, {})}
    first, parallel = (
        make_search(name, n_jobs=n_jobs, **settings).fit(X, y) for n_jobs in (1, 2)
    )
    assert parallel.cv_results_["params"] == first.cv_results_["params"]
    np.testing.assert_array_equal(
        parallel.cv_results_["mean_test_score"], first.cv_results_["mean_test_score"]
    )


@pytest.mark.parametrize("name", sorted(set(SEARCHES) - {"grid"}))
def test_another_random_state_gives_other_candidates(name):
    first, other = (
        make_search(name, n_iter=5, random_state=seed).fit(X, y) for seed in (0, 1)
    )
    assert other.cv_results_["params"] != first.cv_results_["params"]


@pytest.mark.parametrize("name", sorted(set(SEARCHES) - {"grid", "hyperband"}))
@pytest.mark.parametrize(
    "space",
    [
        {"rate": stats.norm(0.5, 0.01)},
        {"degree": stats.binom(30, 0.5)},
        {"n_layers": [2], "widths": PerLayer(stats.randint(1, 9), "n_layers")},
    ],
    ids=["continuous", "discrete", "layers"],
)
def test_the_budget_is_exact_in_spaces_of_one_dimension(name, space):
    search = make_search(name, space, n_iter=8).fit(X, y)
    assert len(search.cv_results_["params"]) == 8


@pytest.mark.parametrize("name", sorted(set(SEARCHES) - {"grid"}))
def test_a_budget_that_cannot_be_spent_is_told(name):
    search = make_search(name, {"degree": [1, 2, 3], "kind": ["a", "b"]}, n_iter=10)
    with pytest.warns(UserWarning, match="no more than 6 different"):
        search.fit(X, y)


def test_nothing_is_printed_at_any_level(name, capfd):
    """Nor by what is not Python."""
    make_search(name, n_iter=8).fit(X, y)
    assert capfd.readouterr() == ("", "")


def test_failures_do_not_guide_whatever_their_score_is(name):
    space = {"rate": stats.loguniform(1e-4, 1)}
    estimator = FormulaClassifier(fails_below=0.1)
    seen = []

    class Spy(get_search(name)):
        def iterate(self, evaluate, random_state):
            try:
                yield from super().iterate(evaluate, random_state)
            finally:
                seen.append((evaluate.candidates, evaluate.scores))

    search = IISSearchCV(
        estimator,
        space,
        search=Spy,
        n_iter=20,
        cv=ONE_SPLIT,
        error_score=100,
        refit=False,
        random_state=0,
    )
    with pytest.warns(FitFailedWarning, match="candidates failed"):
        search.fit(X, y)
    ((candidates, scores),) = seen
    failed = np.array([codes["rate"] < 0.75 for codes in candidates])
    np.testing.assert_array_equal(np.isnan(scores), failed)
    assert failed.any()
    assert search.cv_results_["mean_test_score"].max() == 100


def score_diverged(estimator, X, y):
    return estimator.score(X, y) if estimator.rate < 0.01 else -1e300


def test_scores_may_be_as_low_as_those_of_a_fit_that_diverged(name):
    search = IISSearchCV(
        FormulaClassifier(),
        {"rate": stats.loguniform(1e-4, 1), "degree": stats.randint(1, 8)},
        search=name,
        n_iter=14,
        scoring=score_diverged,
        cv=ONE_SPLIT,
        refit=False,
        random_state=0,
    ).fit(X, y)
    scores = search.cv_results_["mean_test_score"]
    assert scores.min() == -1e300
    assert scores.max() > -10


def test_bad_parameters(name):
    for setting in (
        {"n_iter": 0},
        {"initial_candidates": "best"},
        {"random_state": "lucky"},
    ):
        with pytest.raises(ValueError, match=f"The '{next(iter(setting))}' parameter"):
            make_search(name, **setting).fit(X, y)


def test_unknown_settings_are_refused(name):
    with pytest.raises(TypeError, match="n_iters"):
        make_search(name, n_iters=3)


# A search by itself


def test_alone_it_is_fitted_in_the_units_of_the_user():
    search = make_search("random", refit=True, return_train_score=True).fit(X, y)
    results = search.cv_results_
    for codes, params, score in zip(
        search.candidates_,
        results["params"],
        results["mean_test_score"],
        strict=True,
    ):
        assert params == search.space.decode(codes)
        assert score == pytest.approx(FormulaClassifier(**params).score(X, y))
    best = int(np.argmax(results["mean_test_score"]))
    assert search.best_index_ == best
    assert search.best_params_ == results["params"][best]
    assert search.best_score_ == results["mean_test_score"][best]
    assert search.best_estimator_.get_params().items() >= search.best_params_.items()
    assert search.predict(X).shape == (20,)
    assert search.refit_time_ >= 0
    assert (results["mean_train_score"] == results["mean_test_score"]).all()


def test_alone_it_has_no_deadline():
    with pytest.raises(ValueError, match="n_iter=None is for the stages of a search"):
        make_search("random", n_iter=None).fit(X, y)


@pytest.mark.parametrize("name", ["grid", "hyperband"])
def test_searches_that_plan_ahead_need_a_number_of_candidates(name):
    with pytest.raises(ValueError, match="needs a number of candidates"):
        IISSearchCV(
            FormulaClassifier(), SPACE, search=name, n_iter=None, timeout=60.0
        ).fit(X, y)


def test_several_metrics_alone():
    scorers = {"low": lambda e, X, y: -e.degree, "high": lambda e, X, y: e.degree}
    search = make_search("random", scorer=scorers, refit="high", n_iter=8).fit(X, y)
    assert search.multimetric_
    assert set(search.scorer_) == {"low", "high"}
    assert search.best_params_["degree"] == max(search.cv_results_["param_degree"])
    assert search.score(X, y) == search.best_params_["degree"]


# The evaluator


@dataclass(eq=False, repr=False)
class Scripted(Search):
    """A search that runs a function."""

    script: Any = None

    def run(self, evaluate, random_state):
        self.script(evaluate, random_state)


LINE = {"degree": list(range(8))}


def run(script, *, space=LINE, estimator=None, **settings):
    settings = {"n_iter": 5, "cv": ONE_SPLIT, "scoring": by_degree} | settings
    return Scripted(
        estimator or FormulaClassifier(),
        SearchSpace(space),
        script=script,
        refit=False,
        random_state=0,
        **settings,
    ).fit(X, y)


def by_degree(estimator, X, y):
    return float(estimator.degree)


def points(*degrees):
    return [{"degree": degree} for degree in degrees]


def test_each_candidate_is_evaluated_once_and_costs_once():
    seen = []

    def script(evaluate, random_state):
        seen.append(evaluate(points(3, 1, 3)).tolist())
        seen.append(evaluate.remaining)
        seen.append(evaluate(points(1, 5)).tolist())
        seen.append(evaluate.remaining)
        assert isinstance(evaluate.remaining, int)

    search = run(script)
    assert seen == [[3, 1, 3], 3, [1, 5], 2]
    assert search.candidates_[:3] == points(3, 1, 5)
    assert len(search.candidates_) == 5
    assert len({codes["degree"] for codes in search.candidates_}) == 5


def test_what_is_beyond_the_budget_is_not_evaluated():
    seen = []

    def script(evaluate, random_state):
        seen.append(evaluate(points(*range(7))).tolist())
        # What is known is, whatever the budget.
        seen.append(evaluate(points(7, 2)).tolist())

    search = run(script)
    assert search.candidates_ == points(*range(5))
    np.testing.assert_array_equal(seen[0], [0, 1, 2, 3, 4, np.nan, np.nan])
    np.testing.assert_array_equal(seen[1], [np.nan, 2])


def test_an_iterator_is_asked_as_workers_get_free():
    asked = []

    def script(evaluate, random_state):
        def propose():
            for degree in count():
                asked.append((degree, len(Noted.fits)))
                yield {"degree": degree}

        evaluate(propose())

    Noted.fits.clear()
    search = run(script, estimator=Noted())
    assert search.candidates_ == points(*range(5))
    assert asked == [(degree, degree) for degree in range(5)]


def test_further_parameters_make_other_candidates_of_any_cost():
    seen = []

    def script(evaluate, random_state):
        for max_epochs, cost in [(1, 0.25), (3, 1.75), (1, 0.25)]:
            evaluate(
                points(2, 4),
                params={"max_epochs": max_epochs},
                cost=cost,
                n_resources=max_epochs,
            )
            seen.append(evaluate.remaining)
        seen.append(evaluate.candidates[2])

    search = run(script, n_iter=4)
    assert seen == [3.5, 0, 0, {"degree": 2, "max_epochs": 3}]
    assert search.cv_results_["n_resources"].tolist() == [1, 1, 3, 3]
    assert search.cv_results_["param_max_epochs"].tolist() == [1, 1, 3, 3]
    assert search.candidates_ == points(2, 4, 2, 4)


def test_columns_of_some_rows_only():
    """Candidates at random, for the rest of the budget, have no such columns."""
    search = run(lambda evaluate, rng: evaluate(points(1, 2), rung=3), n_iter=4)
    rungs = search.cv_results_["rung"]
    assert rungs[:2].tolist() == [3, 3]
    assert np.isnan(rungs[2:]).all()


def test_scores_and_the_worst_of_them():
    seen = []

    def script(evaluate, random_state):
        seen.append(evaluate.worst)
        evaluate(points(3, 1))
        seen.append(evaluate.worst)
        evaluate(points(0))
        seen.append(evaluate.scores.tolist())
        seen.append(evaluate.worst)

    def scoring(estimator, X, y):
        return 1 / 0 if estimator.degree == 0 else estimator.degree

    with pytest.warns(FitFailedWarning, match=r"1 of 5 .* \(Scripted\)"):
        run(script, scoring=scoring)
    assert seen[:2] == [None, 1]
    np.testing.assert_array_equal(seen[2], [3, 1, np.nan])
    assert seen[3] == 1


class Gated(FormulaClassifier):
    """Of degree 0 it waits until another thread opens the gate."""

    gate = threading.Event()

    def fit(self, X, y):
        if self.degree == 0:
            assert self.gate.wait(60)
        if self.degree == 1:
            raise RuntimeError("one")
        return super().fit(X, y)


def test_a_generation_may_be_known_in_part():
    seen = []

    def script(evaluate, random_state):
        seen.append(evaluate.n_workers)
        seen.append(evaluate.partial(points(0, 1, 2)))
        Gated.gate.set()
        evaluate.scheduler.finish()
        seen.append(evaluate.partial(points(0, 1, 2)))

    Gated.gate.clear()
    with (
        parallel_config("threading"),
        pytest.warns(FitFailedWarning, match="1 of 5 candidates failed"),
    ):
        run(script, estimator=Gated(), n_jobs=2)
    n_workers, first, then = seen
    assert n_workers == 2
    assert first[0] is None
    assert np.isnan(first[1])
    assert first[2] == 2
    np.testing.assert_array_equal(then, [0, np.nan, 2])


# Samplers


class Listed(Sampler):
    """Proposes what it was given, and notes what it is told."""

    def __init__(self, degrees):
        self.degrees = iter(degrees)
        self.events = []

    def ask(self):
        degree = next(self.degrees, None)
        self.events.append(("ask", degree))
        return None if degree is None else {"degree": degree}

    def expect(self, candidate):
        self.events.append(("expect", candidate["degree"]))

    def tell(self, candidate, score):
        self.events.append(("tell", candidate["degree"], score))


def follow(degrees, *, known=(), n_points=None, **settings):
    """Return the search and the events of a sampler."""
    sampler = Listed(degrees)

    def script(evaluate, random_state):
        evaluate(points(*known))
        evaluate.stream(sampler, random_state, n_points=n_points)

    return run(script, **settings), sampler.events


def test_a_sampler_is_told_each_score_before_it_is_asked_again():
    search, events = follow([3, 1, 2, 5, 4])
    assert search.candidates_ == points(3, 1, 2, 5, 4)
    assert events == [
        event for d in (3, 1, 2, 5, 4) for event in [("ask", d), ("tell", d, d)]
    ]


def test_several_proposals_at_once():
    _, events = follow([3, 1, 2, 5], n_points=2, n_iter=4)
    asked = [event[0] for event in events]
    assert asked == ["ask", "ask", "tell", "tell"] * 2


def test_initial_candidates_come_before_those_of_the_sampler():
    initial = points(6, 2, 6)
    search, events = follow([3, 1], initial_candidates=initial, n_iter=4)
    assert search.candidates_ == points(6, 2, 3, 1)
    assert events[:4] == [
        ("expect", 6), ("tell", 6, 6), ("expect", 2), ("tell", 2, 2),
    ]  # fmt: skip


def test_no_proposal_is_evaluated_twice():
    search, events = follow([3, 3, 0, 3, 3, 1], known=[0])
    degrees = [codes["degree"] for codes in search.candidates_]
    assert len(set(degrees)) == 5
    assert degrees[:2] == [0, 3]
    # A proposal that is known is told again; after several, one is drawn at random.
    told = events[2:8]
    assert told == [
        ("ask", 3), ("tell", 3, 3), ("ask", 0), ("tell", 0, 0), ("ask", 3),
        ("tell", 3, 3),
    ]  # fmt: skip
    assert events[8] == ("expect", degrees[2])
    assert 1 in degrees


def test_a_proposal_that_is_under_way_is_not_told():
    _, events = follow([3, 3, 1], n_points=2, n_iter=2)
    assert events == [
        ("ask", 3), ("ask", 3), ("ask", 1), ("tell", 3, 3), ("tell", 1, 1),
    ]  # fmt: skip


def test_a_sampler_without_proposals_has_them_drawn():
    search, events = follow([])
    again, _ = follow([])
    assert len(search.candidates_) == 5
    assert search.candidates_ == again.candidates_
    assert [event[0] for event in events] == ["ask", "expect", "tell"] * 5


def test_a_score_is_the_mean_over_all_splits():
    def scoring(estimator, X, y):
        return X[0, 0]

    splits = [(np.arange(10), [4]), (np.arange(10), [8])]
    search, events = follow([2], n_iter=1, cv=splits, scoring=scoring)
    assert events == [("ask", 2), ("tell", 2, (X[4, 0] + X[8, 0]) / 2)]

    def failing(estimator, X, y):
        return 1 / 0 if X[0, 0] == 16 and estimator.degree == 2 else 1.0

    with pytest.warns(FitFailedWarning, match="1 of 2 candidates failed"):
        search, events = follow([2, 1], n_iter=2, cv=splits, scoring=failing)
    assert np.isnan(events[1][2])
    assert search.cv_results_["split0_test_score"].tolist() == [1, 1]


def test_if_all_fail_alone_the_first_error_is_shown():
    with pytest.raises(ValueError, match=r"Every candidate failed(.|\n)*no fit"):
        run(
            lambda evaluate, random_state: None,
            estimator=FormulaClassifier(fails_below=1.0),
        )


class Climbing(Sampler):
    """Moves a step from the best candidate so far."""

    def __init__(self, space, *, random_state, width=0.1, fails_at=None):
        self.space = space
        self.rng = random_state
        self.width = width
        self.fails_at = fails_at
        self.best, self.best_score = None, -np.inf
        self.n_asked = 0

    def ask(self):
        self.n_asked += 1
        if self.n_asked == self.fails_at:
            raise ZeroDivisionError("out of luck")
        if self.best is None:
            return None
        return self.space.project(
            {name: c + self.rng.normal(0, self.width) for name, c in self.best.items()}
        )

    def tell(self, candidate, score):
        if score > self.best_score:
            self.best, self.best_score = candidate, score


def climb(**params):
    return IISSearchCV(
        FormulaClassifier(),
        {"rate": SPACE["rate"]},
        **{"search": Climbing, "n_iter": 30, "cv": 2, "random_state": 0} | params,
    )


def test_a_sampler_of_ones_own():
    search = climb(search_params={"width": 0.05}).fit(X, y)
    scores = search.cv_results_["mean_test_score"]
    assert len(scores) == 30
    assert search.stages_[0].sampler is Climbing
    again = clone(search).fit(X, y)
    np.testing.assert_array_equal(again.cv_results_["mean_test_score"], scores)
    wide = climb(search_params={"width": 5.0}).fit(X, y)
    assert wide.cv_results_["params"] != search.cv_results_["params"]
    assert pickle.loads(pickle.dumps(search)).best_params_ == search.best_params_


@pytest.mark.parametrize(
    "check", search_checks(Climbing), ids=lambda check: check.__name__
)
def test_the_public_checks_pass_for_a_sampler(check):
    check()


def test_settings_of_a_sampler_are_checked_before_anything_is_evaluated():
    with pytest.raises(TypeError, match="widht"):
        climb(search_params={"widht": 1.0}).fit(X, y)
    with pytest.raises(ValueError, match="The 'n_points' parameter"):
        climb(search_params={"n_points": 0}).fit(X, y)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_an_error_of_a_sampler_ends_the_search(n_jobs):
    with pytest.raises(ZeroDivisionError, match="out of luck"):
        climb(search_params={"fails_at": 3}, n_jobs=n_jobs).fit(X, y)


def test_a_sampler_has_to_ask_and_tell():
    class Silent(Sampler):
        def __init__(self, space, *, random_state):
            pass

        def ask(self):
            return None

    with pytest.raises(TypeError, match=r"abstract .*tell"):
        climb(search=Silent).fit(X, y)


# Searches that propose candidates as workers get free


@pytest.mark.parametrize("name", ["tpe", "bayes", "genetic"])
@pytest.mark.parametrize("n_jobs", [1, 3])
def test_a_small_space_is_evaluated_as_a_whole(name, n_jobs):
    search = IISSearchCV(
        FormulaClassifier(),
        {"degree": [1, 2, 3], "kind": ["a", "b"]},
        n_iter=20,
        search=name,
        n_jobs=n_jobs,
        cv=2,
        random_state=0,
    )
    with pytest.warns(UserWarning, match="no more than 6 different"):
        search.fit(X, y)
    evaluated = {tuple(p.values()) for p in search.cv_results_["params"]}
    assert len(evaluated) == len(search.cv_results_["params"]) == 6


@pytest.mark.parametrize("name", ["tpe", "bayes", "genetic"])
def test_one_worker_gives_the_same_candidates_each_time(name):
    first, again = (
        IISSearchCV(
            FormulaClassifier(),
            {"rate": stats.loguniform(1e-4, 1), "degree": [1, 2, 3]},
            n_iter=16,
            search=name,
            random_state=3,
        ).fit(X, y)
        for _ in range(2)
    )
    assert first.cv_results_["params"] == again.cv_results_["params"]


def test_one_worker_waits_for_each_generation_anyway():
    first, synchronous = (
        IISSearchCV(
            FormulaClassifier(),
            SPACE,
            n_iter=24,
            search="genetic",
            search_params=search_params,
            random_state=0,
        ).fit(X, y)
        for search_params in (None, {"synchronous": True})
    )
    assert first.cv_results_["params"] == synchronous.cv_results_["params"]


class Noted(FormulaClassifier):
    """Notes what is fitted, in threads of this process."""

    fits: ClassVar[list] = []

    def fit(self, X, y):
        self.fits.append((self.rate, self.degree))
        time.sleep(0.001)
        return super().fit(X, y)


@pytest.mark.parametrize("name", ["tpe", "bayes", "genetic"])
def test_threads_evaluate_the_splits_of_a_candidate_on_the_same_one(name):
    Noted.fits.clear()
    search = IISSearchCV(
        Noted(),
        {"rate": stats.loguniform(1e-4, 1), "degree": [1, 2, 3]},
        n_iter=12,
        search=name,
        n_jobs=4,
        cv=4,
        refit=False,
    )
    with parallel_config("threading"):
        results = search.fit(X, y).cv_results_
    counts = Counter(Noted.fits)
    assert set(counts.values()) == {4}
    assert set(counts) == {(p["rate"], p["degree"]) for p in results["params"]}


def test_alternatives_in_stages(name):
    """Each stage has candidates of the narrowed space, and the promoted ones first."""
    search = IISSearchCV(
        FormulaClassifier(),
        ALTERNATIVES,
        sizes=(1, 2),
        size_param="size",
        n_iter=(14, 8),
        search=name,
        cv=ONE_SPLIT,
        random_state=0,
    ).fit(X, y)
    whole = SearchSpace(ALTERNATIVES)
    for stage, space in zip(search.stages_, search.spaces_, strict=True):
        for codes in stage.candidates_:
            assert codes == space.project(codes)
            assert space.decode(codes) == whole.decode(codes)
    results = search.cv_results_
    assert results["promoted"][results["stage"] == 1].any()
    own = whole.decode(whole.encode(drop_others(search.best_params_)))
    assert own.keys() == drop_others(search.best_params_).keys()
    for parameter, value in search.best_params_.items():
        assert getattr(search.best_estimator_, parameter) == value


def drop_others(params):
    """The hyperparameters, without the size and the resources."""
    return {n: v for n, v in params.items() if n not in ("size", "max_epochs")}
