import logging
import sys
import warnings
from contextlib import nullcontext, suppress
from types import SimpleNamespace

import numpy as np
import optuna
import pytest
from optuna.samplers import RandomSampler, TPESampler
from optuna.trial import TrialState
from scipy import stats
from sklearn.exceptions import FitFailedWarning

from sklearn_iis import IISSearchCV, SearchSpace
from sklearn_iis.searches import StageTPESearchCV, get_search
from sklearn_iis.space import distinct
from sklearn_iis.testing import SPACE, FormulaClassifier, X, y
from sklearn_iis.testing._checks import ALTERNATIVES
from tests.searches.test_base import ONE_SPLIT, hold, make_search

UNCONDITIONAL = {name: SPACE[name] for name in ("rate", "degree", "kind")}


@pytest.fixture
def studies(monkeypatch):
    """The studies that are made during a test."""
    made = []
    create_study = optuna.create_study

    def create_and_keep(**settings):
        made.append(create_study(**settings))
        return made[-1]

    monkeypatch.setattr(optuna, "create_study", create_and_keep)
    return made


@pytest.fixture
def records():
    """The log of Optuna during a test."""
    kept = []
    handler = logging.Handler()
    handler.emit = kept.append
    logger = logging.getLogger("optuna")
    logger.addHandler(handler)
    yield kept
    logger.removeHandler(handler)


def optimize(space, sampler, n_trials):
    """Return the candidates of a study of Optuna's own."""
    candidates = []

    def objective(trial):
        codes = {
            "rate": trial.suggest_float("rate", 0, 1),
            "degree": trial.suggest_int("degree", 0, 6),
            "kind": trial.suggest_categorical("kind", [0, 1, 2]),
        }
        candidates.append(codes)
        return FormulaClassifier(**space.decode(codes)).score(X, y)

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=sampler, direction="maximize")
    study.optimize(objective, n_trials)
    optuna.logging.set_verbosity(verbosity)
    return candidates


def make_sampler(space=SPACE, **settings):
    """Return what a search has its candidates proposed by."""
    kept = []

    def stream(sampler, random_state, *, n_points):
        kept.append(sampler)

    search = make_search("tpe", space, **settings)
    search.run(SimpleNamespace(stream=stream), np.random.RandomState(0))
    return kept[0]


def test_it_is_no_search_of_its_own():
    assert isinstance(make_search("tpe"), StageTPESearchCV)


@pytest.mark.parametrize(("n_iter", "n_startup"), [(9, 3), (20, 7), (40, 10)])
def test_candidates_are_those_of_optuna(n_iter, n_startup):
    """A third of the budget is drawn at random, but no more than Optuna's 10."""
    search = make_search(
        "tpe", UNCONDITIONAL, n_iter=n_iter, n_points=1, sampler_kwargs={"seed": 3}
    ).fit(X, y)
    candidates = search.candidates_
    sampler = TPESampler(seed=3, n_startup_trials=n_startup)
    assert candidates == optimize(search.space, sampler, n_iter)
    drawn = optimize(search.space, RandomSampler(seed=3), n_startup + 1)
    assert candidates[:n_startup] == drawn[:n_startup]
    assert candidates[n_startup] != drawn[n_startup]


def test_what_a_candidate_does_not_have_is_not_suggested(studies):
    search = make_search("tpe", n_iter=25).fit(X, y)
    (study,) = studies
    candidates = search.candidates_
    assert [trial.params for trial in study.trials] == candidates
    assert {len(codes) for codes in candidates} == {5, 6, 7}


def test_layers_may_come_before_their_depth():
    space = {name: SPACE[name] for name in ("widths", "n_layers")}
    search = make_search("tpe", space, n_iter=25).fit(X, y)
    assert {len(codes) for codes in search.candidates_} == {2, 3, 4}


def test_a_single_depth_is_left():
    space = hold(SearchSpace(SPACE), "n_layers", 1)
    search = make_search("tpe", space).fit(X, y)
    for codes in search.candidates_:
        assert [*codes] == ["rate", "degree", "kind", "widths[0]", "widths[1]"]


def test_initial_candidates_are_enqueued_and_count_as_startup(studies):
    initial = SearchSpace(SPACE).sample(4, random_state=7)
    search = make_search("tpe", initial_candidates=initial, n_iter=10, n_points=3).fit(
        X, y
    )
    (study,) = studies
    assert [trial.params for trial in study.trials[:4]] == initial
    assert search.candidates_[:4] == initial
    # Four of a third of ten are evaluated, so the first after them is of the model.
    assert "tpe:relative_params:0" in study.trials[-1].system_attrs


@pytest.mark.parametrize("n_points", [1, 3, 8])
def test_candidates_of_a_batch_differ(n_points):
    search = make_search("tpe", n_points=n_points, n_iter=24).fit(X, y)
    assert len(distinct(search.candidates_)) == 24


def test_by_default_candidates_are_proposed_one_by_one():
    assert make_search("tpe").is_asynchronous
    assert not make_search("tpe", n_points=3).is_asynchronous


@pytest.mark.parametrize("settings", [{}, {"sampler_kwargs": {"multivariate": True}}])
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_scores_of_candidates_that_were_not_asked_for_are_told(settings):
    sampler = make_sampler(**settings)
    first, second, third = sampler.space.sample(3, random_state=0)
    sampler.expect(first)
    sampler.expect(second)
    sampler.tell(second, 0.5)
    sampler.tell(first, 0.25)
    sampler.tell(third, 0.75)
    asked = sampler.ask()
    trials = sampler.study.trials
    assert [trial.params for trial in trials] == [first, second, third, asked]
    assert [trial.value for trial in trials] == [0.25, 0.5, 0.75, None]


def test_what_is_proposed_twice_is_told_twice():
    sampler = make_sampler({"kind": ["a", "b"]})
    proposals = [sampler.ask() for _ in range(3)]
    for codes in distinct(proposals):
        sampler.tell(codes, 0.5)
    assert [trial.value for trial in sampler.study.trials] == [0.5] * 3


def test_without_a_number_of_candidates_ten_are_drawn_at_random():
    assert make_sampler(n_iter=None).study.sampler._n_startup_trials == 10


def test_integers_of_a_wide_range_are_whole():
    """Optuna would round them, and compute with the logarithm of 0."""
    largest = 2**62 - 1
    sampler = make_sampler({"degree": stats.randint(0, 2**62)})
    sampler.tell({"degree": largest}, 1.0)
    for _ in range(20):
        codes = sampler.ask()
        assert type(codes["degree"]) is int
        assert 0 <= codes["degree"] <= largest
        sampler.tell(codes, codes["degree"] / largest)
    (best,) = sampler.study.best_trial.params.values()
    assert best == pytest.approx(largest)


@pytest.mark.filterwarnings("ignore:.*(failed|non-finite)")
@pytest.mark.parametrize("n_failures", [1, 5, 12])
def test_what_failed_is_told_as_failed_and_ranks_last(studies, n_failures):
    """As soon as anything has a score that it can rank behind."""
    calls = iter(range(12))

    def scorer(estimator, X, y):
        if (call := next(calls)) < n_failures or call == 11:
            raise RuntimeError("out of luck")
        return estimator.score(X, y)

    search = make_search("tpe", scorer=scorer, n_iter=12, n_points=1)
    with suppress(ValueError) if n_failures == 12 else nullcontext():
        search.fit(X, y)
    (study,) = studies
    told = [t for t in study.trials if t.state != TrialState.PRUNED]
    scores = search.cv_results_["mean_test_score"]
    assert [t.params for t in told] == search.candidates_
    assert [t.value for t in told] == [None if np.isnan(s) else s for s in scores]
    states = [t.state.name for t in study.trials]
    assert (
        states
        == {
            1: ["FAIL", "COMPLETE", "PRUNED"] + ["COMPLETE"] * 9 + ["FAIL", "PRUNED"],
            5: ["FAIL"] * 5
            + ["COMPLETE"]
            + ["PRUNED"] * 5
            + ["COMPLETE"] * 5
            + ["FAIL", "PRUNED"],
            12: ["FAIL"] * 12,
        }[n_failures]
    )
    failed = [t.params for t in told if t.state == TrialState.FAIL]
    pruned = [t for t in study.trials if t.state == TrialState.PRUNED]
    assert [t.params for t in pruned] == (failed if n_failures < 12 else [])
    assert all(t.value is None and not t.intermediate_values for t in pruned)


def test_regions_that_fail_are_avoided():
    """A quarter of the space fails; of what Optuna alone proposes, nine in ten do."""
    search = IISSearchCV(
        FormulaClassifier(fails_below=0.001),
        {name: SPACE[name] for name in ("rate", "degree")},
        search="tpe",
        n_iter=60,
        cv=ONE_SPLIT,
        refit=False,
        random_state=0,
    )
    with pytest.warns(FitFailedWarning, match="candidates failed"):
        search.fit(X, y)
    errors = search.cv_results_["error"]
    assert sum(error is not None for error in errors[20:]) < 10


def test_parameters_of_the_sampler(studies):
    sampler_kwargs = {"seed": 5, "n_startup_trials": 12}
    search = make_search(
        "tpe", UNCONDITIONAL, n_points=1, sampler_kwargs=sampler_kwargs
    ).fit(X, y)
    sampler = TPESampler(**sampler_kwargs)
    assert search.candidates_ == optimize(search.space, sampler, 20)


def test_a_space_of_few_candidates_is_evaluated_to_the_last():
    space = {"degree": stats.randint(1, 5), "kind": ["a", "b"]}
    search = make_search("tpe", space, n_iter=8, n_points=3).fit(X, y)
    assert len(distinct(search.candidates_)) == 8


@pytest.mark.parametrize("verbosity", [optuna.logging.INFO, optuna.logging.WARNING])
def test_nothing_is_logged(records, verbosity):
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(verbosity)
    try:
        make_search("tpe", n_iter=5).fit(X, y)
        assert optuna.logging.get_verbosity() == verbosity
    finally:
        optuna.logging.set_verbosity(before)
    assert records == []


def test_it_logs_if_verbose(records, capsys):
    make_search("tpe", n_iter=5, verbose=1).fit(X, y)
    assert "A new study created" in records[0].getMessage()


def test_no_warnings_by_default():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_search("tpe", n_iter=15, n_points=2).fit(X, y)


def test_the_extra_is_named_where_optuna_is_missing(monkeypatch):
    monkeypatch.delitem(sys.modules, "sklearn_iis.searches._tpe")
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r"Optuna.*'sklearn-iis\[tpe\]'"):
        get_search("tpe")


def test_what_does_not_exist_is_not_suggested(studies):
    """Parents come first, wherever they stand in the space."""
    search = make_search("tpe", ALTERNATIVES, n_iter=30).fit(X, y)
    (study,) = studies
    # It may propose a candidate again.
    suggested = distinct(search.space.active(trial.params) for trial in study.trials)
    assert suggested == search.candidates_
    for trial in study.trials:
        assert trial.params.keys() == search.space.active(trial.params).keys()
    assert len({frozenset(codes) for codes in search.candidates_}) > 3
