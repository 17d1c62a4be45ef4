import sys
import warnings

import numpy as np
import optuna
import pytest
from optuna.samplers import CmaEsSampler, TPESampler
from scipy import stats
from sklearn.exceptions import FitFailedWarning

from sklearn_iis import IISSearchCV, SearchSpace
from sklearn_iis.searches import get_search
from sklearn_iis.searches._cmaes import CMASampler
from sklearn_iis.testing import SPACE, FormulaClassifier, X, y
from tests.searches.test_base import ONE_SPLIT, make_search

NUMBERS = {name: SPACE[name] for name in ("rate", "degree")}
PLANE = {"x": stats.uniform(0, 1), "y": stats.uniform(0, 1)}


def make_sampler(space, **settings):
    return CMASampler(
        SearchSpace(space), random_state=np.random.RandomState(0), **settings
    )


def tell_first(sampler, n_candidates=10):
    """Tell scores of candidates that it did not propose, the later the better."""
    candidates = sampler.space.sample(n_candidates, random_state=1)
    for i, candidate in enumerate(candidates):
        assert sampler.ask() is None
        sampler.expect(candidate)
        sampler.tell(candidate, float(i))
    return candidates


def propose(study):
    """Return the trial that a study asks for, with the codes of `NUMBERS`."""
    trial = study.ask()
    trial.suggest_float("rate", 0, 1)
    trial.suggest_int("degree", 0, 6)
    return trial


def test_candidates_are_those_of_optuna():
    """After a third of the budget, which is drawn at random, from the best of that."""
    search = make_search(
        "cmaes", NUMBERS, n_iter=24, n_points=1, sampler_kwargs={"seed": 3}
    ).fit(X, y)
    candidates, scores = search.candidates_, search.cv_results_["mean_test_score"]
    distributions = {
        "rate": optuna.distributions.FloatDistribution(0, 1),
        "degree": optuna.distributions.IntDistribution(0, 6),
    }
    first = [
        optuna.create_trial(params=params, distributions=distributions, value=score)
        for params, score in zip(candidates[:8], scores[:8], strict=True)
    ]
    best = max(first, key=lambda trial: trial.value)
    with warnings.catch_warnings(action="ignore"):
        sampler = CmaEsSampler(seed=3, source_trials=[best] * 10)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.add_trials(first)
    for params, score in zip(candidates[8:], scores[8:], strict=True):
        trial = propose(study)
        assert trial.params == params
        study.tell(trial, score)


def test_it_begins_around_the_best_with_a_tenth_of_each_range():
    sampler = make_sampler(PLANE)
    best = tell_first(sampler)[-1]
    proposals = [sampler.ask() for _ in range(200)]
    for name in PLANE:
        codes = [proposal[name] for proposal in proposals]
        assert np.median(codes) == pytest.approx(best[name], abs=0.03)
        assert np.std(codes) == pytest.approx(0.1, rel=0.3)


def test_settings_say_where_it_begins():
    with pytest.warns(FutureWarning):
        sampler = make_sampler(PLANE, x0={"x": 0.2, "y": 0.7}, sigma0=0.01)
    tell_first(sampler)
    with pytest.warns(FutureWarning):
        proposal = sampler.ask()
    assert proposal == pytest.approx({"x": 0.2, "y": 0.7}, abs=0.05)


def test_failures_count_as_the_worst_so_far():
    sampler = make_sampler(PLANE)
    tell_first(sampler)
    proposal = sampler.ask()
    sampler.tell(proposal, float("nan"))
    assert sampler.study.trials[-1].params == proposal
    assert sampler.study.trials[-1].value == 0
    # They have nothing to count as before anything has a score.
    sampler = make_sampler(PLANE)
    sampler.tell({"x": 0.5, "y": 0.5}, float("nan"))
    assert sampler.study.trials == []


def test_regions_that_fail_are_left():
    search = IISSearchCV(
        FormulaClassifier(fails_below=0.001),
        NUMBERS,
        search="cmaes",
        n_iter=60,
        cv=ONE_SPLIT,
        refit=False,
        random_state=0,
    )
    with pytest.warns(FitFailedWarning, match="candidates failed"):
        search.fit(X, y)
    errors = search.cv_results_["error"]
    assert sum(error is not None for error in errors[20:]) < 10


def test_numbers_are_sampled_whether_they_exist_or_not():
    """So that all trials have the dimensions of the distribution."""
    sampler = make_sampler({name: SPACE[name] for name in ("n_layers", "widths")})
    tell_first(sampler)
    for _ in range(20):
        codes = sampler.ask()
        assert codes.keys() == sampler.space.dimensions.keys()
        sampler.tell(sampler.space.active(codes), -abs(codes["widths[0]"] - 3))
    for trial in sampler.study.trials:
        assert trial.params.keys() == sampler.space.dimensions.keys()
    assert "cma:generation" in sampler.study.trials[-1].system_attrs


def test_choices_without_an_order_are_sampled_by_tpe():
    sampler = make_sampler({"x": stats.uniform(0, 1), "kind": ["a", "b", "c", "d"]})
    assert isinstance(sampler.study.sampler._independent_sampler, TPESampler)
    tell_first(sampler)
    kinds = []
    for _ in range(40):
        codes = sampler.ask()
        kinds.append(codes["kind"])
        sampler.tell(codes, 10.0 + (codes["kind"] == 2))
    assert kinds[20:].count(2) > 10


@pytest.mark.parametrize(("n_iter", "n_same"), [(9, 3), (30, 30)])
def test_a_third_of_the_budget_is_drawn_at_random_but_at_most_ten(n_iter, n_same):
    first, other = (
        make_search("cmaes", NUMBERS, n_iter=n, n_points=1).fit(X, y).candidates_
        for n in (n_iter, 40)
    )
    assert first[:n_same] == other[:n_same]
    assert first[n_same : n_same + 1] != other[n_same : n_same + 1] or n_same == n_iter


def test_the_extra_is_named_where_cmaes_is_missing(monkeypatch):
    monkeypatch.delitem(sys.modules, "sklearn_iis.searches._cmaes", raising=False)
    monkeypatch.setitem(sys.modules, "cmaes", None)
    with pytest.raises(ImportError, match=r"cmaes.*'sklearn-iis\[cmaes\]'"):
        get_search("cmaes")


def test_wrong_settings_of_optuna_are_errors_at_once():
    with pytest.raises(TypeError, match="population"):
        make_search("cmaes", sampler_kwargs={"population": 3}).fit(X, y)


def test_no_warnings_by_default():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_search("cmaes", n_iter=15, n_points=2).fit(X, y)
