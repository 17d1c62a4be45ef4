"""Checks of what holds for each search of a stage."""

import io
import os
import pickle
import random
import sys
import tempfile
import warnings
from collections.abc import Callable, Collection
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from functools import partial, update_wrapper
from typing import Any

import numpy as np
from scipy import stats
from sklearn.base import clone

from sklearn_iis._search import IISSearchCV
from sklearn_iis._sklearn_compat import BaseSearchCV
from sklearn_iis.searches import SearchFactory, get_search
from sklearn_iis.space import Candidate, OnlyIf, PerLayer, SearchSpace, distinct
from sklearn_iis.testing._formula import SPACE, FormulaClassifier, X, y

ONE_SPLIT = [(np.arange(10), np.arange(10, 20))]

# Alternatives, with hyperparameters that exist only with certain values of others, and
# names that have other values in each.
ALTERNATIVES = [
    {
        "kind": ["a", "b"],
        "rate": OnlyIf(stats.loguniform(1e-4, 1), "kind", ["b"]),
        "degree": stats.randint(1, 8),
    },
    {
        "kind": ["c"],
        "degree": [3, 4, 12, 13],
        "n_layers": OnlyIf([1, 2, 3], "degree", [3, 12]),
        "widths": PerLayer(stats.randint(2, 12), depth="n_layers"),
    },
]

# Sums of fractions are inexact.
ROUNDING = 1e-9


def check_search(
    search: str | SearchFactory,
    *,
    search_params: dict[str, Any] | None = None,
    skip: Collection[str] = (),
) -> None:
    """Check that a search can be a stage of :class:`~sklearn_iis.IISSearchCV`.

    It is run on a formula, on which nothing is trained; see :func:`search_checks` for a
    test of each check.

    Parameters
    ----------
    search : str or callable
        As :class:`~sklearn_iis.IISSearchCV` takes it: the name of a search, a class of
        one or of samplers, or any function like it.

    search_params : dict, default=None
        Further settings of the search.

    skip : collection of str, default=()
        Names of checks that do not apply, such as "check_budget_is_exact" for a search
        that evaluates no more than a fixed set of candidates, and
        "check_better_than_chance" for one that does not learn from scores.

    Raises
    ------
    AssertionError
        If a check fails; notes tell which one. What the search itself raises is raised
        likewise.

    ValueError
        If `skip` names an unknown check.

    Examples
    --------
    >>> from sklearn_iis.testing import check_search
    >>> check_search("random", skip=["check_better_than_chance"])
    """
    for check in search_checks(search, search_params=search_params, skip=skip):
        try:
            check()
        except Exception as error:
            error.add_note(f"{check.__name__}: {check.__doc__}")
            raise


def search_checks(
    search: str | SearchFactory,
    *,
    search_params: dict[str, Any] | None = None,
    skip: Collection[str] = (),
) -> list[Callable[[], None]]:
    """Return the checks of a search, one by one.

    Parameters
    ----------
    search, search_params, skip
        As in :func:`check_search`.

    Returns
    -------
    checks : list of callable
        Each is called without arguments, raises an error if it fails, and has a
        `__name__`.

    Raises
    ------
    ValueError
        If `skip` names an unknown check.

    Examples
    --------
    Tests of pytest are called after the checks:

    >>> import pytest
    >>> from sklearn_iis.testing import search_checks
    >>> @pytest.mark.parametrize("check", search_checks("bayes"))
    ... def test_search(check):
    ...     check()
    """
    if unknown := set(skip) - {check.__name__ for check in CHECKS}:
        raise ValueError(
            f"skip names {sorted(unknown)}, but the checks are "
            f"{[check.__name__ for check in CHECKS]}"
        )

    def make_search(estimator, space, **settings):
        return get_search(search)(estimator, space, **settings, **(search_params or {}))

    return [
        update_wrapper(partial(check, make_search), check)
        for check in CHECKS
        if check.__name__ not in skip
    ]


def check_budget_is_exact(make_search):
    """All of the budget is spent, and no more."""
    for n_iter in (1, 2, 7, 16):
        spent = _spent(_fit(make_search, n_iter=n_iter))
        assert n_iter - 1 + ROUNDING < spent, f"spent {spent} of n_iter={n_iter}"


def check_initial_candidates_come_first(make_search):
    """Initial candidates are evaluated first, and are part of the budget."""
    # A grid would need a larger budget for all values of lists.
    own = {"n_layers": stats.randint(1, 4)}
    space = {name: own.get(name, SPACE[name]) for name in SPACE if name != "kind"}
    initial = SearchSpace(space).sample(3, random_state=7)
    for n_iter in (2, 3, 8):
        first = initial[:n_iter]
        search = _fit(make_search, space, n_iter=n_iter, initial_candidates=first)
        n_initial = min(n_iter, 3)
        first = _candidates(search)[:n_initial]
        assert first == initial[:n_iter], f"{first} instead of {initial[:n_iter]}"
        if "n_resources" in search.cv_results_:
            n_resources = list(search.cv_results_["n_resources"])
            assert set(n_resources[:n_initial]) == {min(n_resources)}, (
                f"initial candidates do not start with the fewest, but {n_resources}"
            )


def check_nothing_is_evaluated_twice(make_search):
    """No candidate is evaluated twice, not even an initial one given twice."""
    space = SearchSpace({"degree": stats.randint(1, 6), "kind": ["a", "b", "c"]})
    initial = space.sample(2, random_state=7)
    search = _fit(make_search, space, n_iter=10, initial_candidates=initial * 2)
    rows = search.cv_results_["params"]
    twice = [row for i, row in enumerate(rows) if row in rows[:i]]
    assert not twice, f"evaluated twice: {twice}"


def check_candidates_stay_in_the_space(make_search):
    """No candidate leaves the space, nor the ranges of a narrowed one."""
    whole = SearchSpace(SPACE)
    narrow = whole.narrow(whole.sample(2, random_state=1), margin=0, floor=0.1)
    for space in (whole, narrow):
        _check_inside(_fit(make_search, space, n_iter=12), space)


def check_layers_follow_the_depth(make_search):
    """A candidate has a code for each layer that it has, and for no other."""
    search = _fit(make_search, n_iter=12)
    for params in _candidates(search):
        layers = [name for name in params if name.startswith("widths")]
        expected = [f"widths[{layer}]" for layer in range(params["n_layers"] + 1)]
        assert sorted(layers) == expected, f"{params} should have {expected}"


def check_conditions(make_search):
    """Candidates have the hyperparameters that exist for them, and no others."""
    with _warnings_ignored():
        search = _fit(make_search, ALTERNATIVES, n_iter=24)
    space = SearchSpace(ALTERNATIVES)
    _check_inside(search, space)
    results = search.cv_results_
    kinds = {params["kind"] for params in results["params"]}
    assert {"c"} < kinds, f"only {kinds} of both alternatives"
    for row, codes in enumerate(_candidates(search)):
        params = results["params"][row]
        own = space.decode(codes)
        assert space.encode(own).keys() == codes.keys(), f"{own} has {codes}"
        for name in space.names:
            assert (name in params) == (name in own), f"{params} instead of {own}"
            column = results.get(f"param_{name}")  # there is none if nobody has it
            is_masked = column is None or np.ma.getmaskarray(column)[row]
            assert is_masked == (name not in own), f"row {row} of {name}, for {own}"


def check_random_state(make_search):
    """The same `random_state` gives the same candidates and scores."""
    _check_equal(_fit(make_search), _fit(make_search))


def check_parallel(make_search):
    """Two processes give the scores that one would, and the same if run again.

    But for a search whose `is_deterministic` says that candidates are others.
    """
    search, again = (_fit(make_search, n_jobs=2) for _ in range(2))
    if getattr(search, "is_deterministic", True):
        _check_equal(search, again)
    np.testing.assert_allclose(
        search.cv_results_["mean_test_score"],
        [
            FormulaClassifier(**params).score(X, y)
            for params in search.cv_results_["params"]
        ],
        err_msg="in two processes, and computed directly",
    )


def check_failures(make_search):
    """Failures cost themselves only, wherever they happen."""
    whole = _fit(make_search)
    n_rows = len(whole.cv_results_["params"])
    cases = {
        "the first": lambda i: i == 0,
        "the first batches": lambda i: i < 5,
        "every other one": lambda i: i % 2 == 1,
        "the last": lambda i: i == n_rows - 1,
        "all but one": lambda i: i != n_rows // 2,
        "all": lambda i: True,
    }
    for case, fails in cases.items():
        scorer = _FailingScorer(fails)
        with _warnings_ignored():
            search = _fit(make_search, scorer=scorer)
        scores = search.cv_results_["mean_test_score"]
        np.testing.assert_array_equal(
            np.isnan(scores),
            [fails(i) for i in range(len(scores))],
            err_msg=f"which scores are NaN if {case} should be",
        )
        # Fewer candidates than without failures might be promoted.
        assert np.ceil(_spent(search)) == np.ceil(_spent(whole)), (
            f"spent {_spent(search)} of the budget if {case} failed, and "
            f"{_spent(whole)} if none did"
        )


def check_clone_and_parameters(make_search):
    """A clone finds the same again, and `fit` changes no parameter."""
    search = _make(make_search, n_iter=5)
    before = search.get_params(deep=False)
    copy = clone(search)
    assert type(copy) is type(search), f"{type(copy)} from {type(search)}"
    assert copy.get_params(deep=False).keys() == before.keys()
    search.fit(X, y)
    after = search.get_params(deep=False)
    changed = [name for name in before if after[name] is not before[name]]
    assert not changed, f"fit has changed the parameters {changed}"
    _check_equal(search, copy.fit(X, y))
    _check_equal(search, clone(search).fit(X, y))


def check_pickle(make_search):
    """A search restored from a pickle has the same results, and finds them again."""
    search = _make(make_search, n_iter=5).fit(X, y)
    restored = pickle.loads(pickle.dumps(search))
    _check_equal(search, restored)
    assert restored.best_params_ == search.best_params_
    _check_equal(search, restored.fit(X, y))


def check_global_random_states(make_search):
    """Whoever draws from the global random states does not notice the search."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    draws = []

    def scorer(estimator, X, y):
        draws.append(_draw())
        return estimator.score(X, y)

    try:
        _seed()
        _fit(make_search, scorer=scorer)
        draws.append(_draw())
        _seed()
        expected = [_draw() for _ in draws]
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
    np.testing.assert_array_equal(
        draws, expected, err_msg="what the estimator, and the caller afterwards, drew"
    )


def check_working_directory(make_search):
    """Nothing is written to the working directory, which stays the same."""
    with tempfile.TemporaryDirectory() as directory, chdir(directory):
        before = os.getcwd()
        _fit(make_search)
        after, written = os.getcwd(), os.listdir(before)
    assert after == before, f"the working directory is {after} now, it was {before}"
    assert not written, f"the working directory holds {written}"


def check_nothing_is_printed(make_search):
    """Nothing is printed unless asked for."""
    out, err = io.StringIO(), io.StringIO()
    with (
        _redirect_descriptors() as file,
        redirect_stdout(out),
        redirect_stderr(err),
        _warnings_ignored(),
    ):
        _fit(make_search)
        file.seek(0)
        printed = out.getvalue() + err.getvalue() + file.read().decode()
    assert not printed, f"printed: {printed!r}"


def check_better_than_chance(make_search):
    """Proposals are better than chance once there are some scores."""
    searches = [_fit(make_search, n_iter=20, random_state=seed) for seed in range(3)]
    scores = [search.cv_results_["mean_test_score"] for search in searches]
    later = np.concatenate([s[len(s) // 2 :] for s in scores])
    space = SearchSpace(SPACE)
    chance = [
        FormulaClassifier(**space.decode(codes)).score(X, y)
        for codes in space.sample(1000, random_state=0)
    ]
    # The best ones of so few candidates would be a matter of luck.
    rng = np.random.RandomState(0)
    means = rng.choice(chance, size=(1000, len(later))).mean(axis=1)
    threshold = np.quantile(means, 0.9)
    assert np.mean(later) > threshold, (
        f"the mean score of the later half of three times 20 candidates is "
        f"{np.mean(later):.3f}; nine times in ten chance is below {threshold:.3f}; "
        f"the optimum is {FormulaClassifier().score(X, y):.3f}"
    )


def check_spaces_of_one_dimension(make_search):
    """A space may have a single dimension, or few, of any kind."""
    for space in (
        {"rate": stats.loguniform(1e-4, 1)},
        {"rate": stats.norm(0.5, 0.01)},
        {"degree": stats.randint(1, 30)},
        {"degree": stats.binom(30, 0.5)},
        {"n_layers": [2], "widths": PerLayer(stats.randint(1, 9), "n_layers")},
        {"rate": stats.loguniform(1e-4, 1), "degree": [3]},
    ):
        search = _fit(make_search, space, n_iter=6)
        _check_inside(search, SearchSpace(space))


def check_small_spaces_are_exhausted(make_search):
    """A space with fewer candidates than the budget is searched as a whole."""
    for space, n_candidates in (
        ({"degree": [1, 2]}, 2),
        ({"kind": ["a", "b", "c"]}, 3),
        ({"degree": [1, 2, 3], "kind": ["a", "b"]}, 6),
    ):
        with _warnings_ignored():
            search = _fit(make_search, space, n_iter=10)
        found = distinct(_candidates(search))
        assert len(found) == n_candidates, f"{found} of {n_candidates} in {space}"


def check_nothing_to_choose(make_search):
    """The only candidate of a space is evaluated."""
    with _warnings_ignored():
        search = _fit(make_search, {"degree": [3]})
    candidates = _candidates(search)
    assert candidates == [{}], f"{candidates} instead of a single one without codes"


def check_stages(make_search):
    """It runs in stages, each with its budget and what is promoted to it."""
    search = IISSearchCV(
        FormulaClassifier(),
        SPACE,
        sizes=(1, 2),
        size_param="size",
        n_iter=(10, 8),
        search=make_search,
        n_promoted=2,
        cv=ONE_SPLIT,
        random_state=0,
    ).fit(X, y)
    for stage, space, n_iter in zip(
        search.stages_, search.spaces_, (10, 8), strict=True
    ):
        _check_budget(stage, n_iter)
        _check_inside(stage, space)
    results = search.cv_results_
    assert results["promoted"][results["stage"] == 1][:2].all(), (
        f"nothing was promoted to the second stage: {results['promoted']}"
    )


# In the order in which they run: what concerns any search comes first.
CHECKS = (
    check_budget_is_exact,
    check_initial_candidates_come_first,
    check_nothing_is_evaluated_twice,
    check_candidates_stay_in_the_space,
    check_layers_follow_the_depth,
    check_conditions,
    check_random_state,
    check_parallel,
    check_failures,
    check_clone_and_parameters,
    check_pickle,
    check_global_random_states,
    check_working_directory,
    check_nothing_is_printed,
    check_spaces_of_one_dimension,
    check_small_spaces_are_exhausted,
    check_nothing_to_choose,
    check_stages,
    check_better_than_chance,
)


def _score(estimator, X, y):
    return estimator.score(X, y)


class _FailingScorer:
    """Fails at the calls whose number, from 0, a function says so of."""

    def __init__(self, fails):
        self.fails = fails
        self.n_calls = 0

    def __call__(self, estimator, X, y):
        self.n_calls += 1
        if self.fails(self.n_calls - 1):
            raise RuntimeError("out of luck")
        return estimator.score(X, y)


def _make(make_search, *, n_iter: int) -> BaseSearchCV:
    """Make a search that can be run by itself."""
    return make_search(
        FormulaClassifier(),
        SearchSpace(SPACE),
        n_iter=n_iter,
        initial_candidates=[],
        scoring=_score,
        refit=False,
        cv=ONE_SPLIT,
        random_state=0,
    )


def _fit(
    make_search,
    space=SPACE,
    *,
    n_iter=9,
    initial_candidates=(),
    scorer=_score,
    random_state=0,
    **settings,
) -> BaseSearchCV:
    """Run a search as a stage; whatever is checked, it must not exceed its budget."""

    def make_with_candidates(estimator, space, **given):
        given["initial_candidates"] = list(initial_candidates)
        return make_search(estimator, space, **given)

    search = IISSearchCV(
        FormulaClassifier(),
        space,
        search=make_with_candidates,
        n_iter=n_iter,
        scoring=scorer,
        refit=False,
        cv=ONE_SPLIT,
        random_state=random_state,
        **settings,
    )
    try:
        search.fit(X, y)
    except ValueError as error:
        if "Every candidate failed" not in str(error):
            raise
    (stage,) = search.stages_
    _check_budget(stage, n_iter)
    return stage


def _candidates(search: BaseSearchCV) -> list[Candidate]:
    """Return what was evaluated, in codes."""
    return list(search.candidates_)


def _spent(search: BaseSearchCV) -> float:
    """Return how many candidates were evaluated; with all resources they count 1."""
    results = search.cv_results_
    if "n_resources" not in results:
        return len(results["params"])
    n_resources = np.asarray(results["n_resources"], dtype=float)
    return n_resources.sum() / n_resources.max()


def _check_budget(search, n_iter):
    spent = _spent(search)
    assert spent <= n_iter + ROUNDING, f"spent {spent} of n_iter={n_iter}"


def _check_inside(search, space):
    for codes in _candidates(search):
        inside = space.project(codes)
        assert codes == inside, f"{codes} is outside; the nearest inside is {inside}"


def _check_equal(search, other):
    results, others = search.cv_results_, other.cv_results_
    pairs = zip(results["params"], others["params"], strict=True)
    for row, (params, other_params) in enumerate(pairs):
        assert params == other_params, f"row {row}: {params} and {other_params}"
    np.testing.assert_array_equal(
        results["mean_test_score"], others["mean_test_score"], err_msg="scores"
    )


@contextmanager
def _redirect_descriptors():
    """Have a file take what other processes print, and what is not Python."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
    with tempfile.TemporaryFile() as file:
        try:
            for descriptor in kept:
                os.dup2(file.fileno(), descriptor)
            yield file
        finally:
            for descriptor, copy in kept.items():
                os.dup2(copy, descriptor)
                os.close(copy)


def _warnings_ignored():
    """Ignore warnings of failed candidates, and of a budget that is left."""
    return warnings.catch_warnings(action="ignore")


def _seed():
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002


def _draw():
    return random.random(), np.random.random()  # noqa: NPY002
