"""The ladder: what is promoted and when, brackets, sizes that mislead, resuming."""

import time
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from joblib import parallel_config
from scipy import stats
from sklearn.exceptions import FitFailedWarning

from sklearn_iis import IISSearchCV, SearchSpace
from sklearn_iis.searches import Sampler, StageLadderSearchCV
from sklearn_iis.space import as_key
from sklearn_iis.testing import SPACE, FormulaClassifier, X, y

ONE_SPLIT = [(np.arange(10), np.arange(10, 20))]
RATE = {"rate": stats.loguniform(1e-4, 1)}


class Reversed(FormulaClassifier):
    """At the smallest size the worst candidates have the best scores."""

    def score(self, X, y):
        score = super().score(X, y)
        return -score if self.size == 1 else score + 100


class Shrinking(FormulaClassifier):
    """A larger size has a lower score."""

    def score(self, X, y):
        return super().score(X, y) - self.size


class Failing(FormulaClassifier):
    """The best candidates fail at the larger size, or wherever `sizes` says."""

    def fit(self, X, y):
        if self.rate > 0.005 and self.rate < 0.02:
            raise RuntimeError("too good")
        return super().fit(X, y)


class Slow(FormulaClassifier):
    """The first candidates take their time, by their rate."""

    def fit(self, X, y):
        time.sleep(0.3 if self.rate < 0.01 else 0.005)
        return super().fit(X, y)


class Interrupted(FormulaClassifier):
    """The user interrupts the search after some fits."""

    n_fits = 0
    patience = 20

    def fit(self, X, y):
        Interrupted.n_fits += 1
        if Interrupted.n_fits > self.patience:
            raise KeyboardInterrupt
        return super().fit(X, y)


def make_search(estimator=None, space=SPACE, **settings):
    settings = {
        "search": "ladder",
        "sizes": (1, 2, 3),
        "size_param": "size",
        "n_iter": (27, 9, 3),
        "cv": ONE_SPLIT,
        "random_state": 0,
        "refit": False,
    } | settings
    return IISSearchCV(estimator or FormulaClassifier(), space, **settings)


def fit(*args, **settings):
    return make_search(*args, **settings).fit(X, y)


def count(search):
    return [len(stage.cv_results_["params"]) for stage in search.stages_]


def candidates_of(search):
    return [[as_key(c) for c in stage.candidates_] for stage in search.stages_]


@pytest.fixture
def submitted(monkeypatch):
    """The rows of all stages in the order of their submission."""
    rows = []
    run_stage = StageLadderSearchCV.run_stage

    def spy(self, stage):
        stage.listeners = [*stage.listeners, rows.append]
        return run_stage(self, stage)

    monkeypatch.setattr(StageLadderSearchCV, "run_stage", spy)
    return rows


# Who is promoted


@pytest.mark.parametrize("n_iter", [39, (27, 9, 3)])
def test_one_of_three_is_promoted(n_iter):
    search = fit(n_iter=n_iter)
    assert count(search) == [27, 9, 3]
    assert search.cv_results_["stage"].tolist() == [0] * 27 + [1] * 9 + [2] * 3
    assert search.cv_results_["size"].tolist() == [1] * 27 + [2] * 9 + [3] * 3
    assert search.cv_results_["promoted"].tolist() == [False] * 27 + [True] * 12
    assert search.sizes_ == [1, 2, 3]
    assert len(search.stages_) == len(search.spaces_) == 3
    assert all(space is search.spaces_[0] for space in search.spaces_)
    assert [stage.verdict_ for stage in search.stages_] == ["used"] * 3


@pytest.mark.parametrize(("factor", "counts"), [(2, [16, 8, 4]), (4, [16, 4, 1])])
def test_factor(factor, counts):
    search = fit(n_iter=sum(counts), search_params={"factor": factor})
    assert count(search) == counts


@pytest.mark.parametrize("factor", [1, 0, -3, 2.5, "x", None])
def test_a_wrong_factor_is_told(factor):
    with pytest.raises(ValueError, match="'factor' parameter of StageLadder"):
        fit(n_iter=39, search_params={"factor": factor})


def simulate(scores, budgets):
    """ASHA with one worker as the paper has it: which is evaluated, at which rung.

    A candidate has the same rank on all rungs. Unlike in the paper the numbers are
    limited, and one place on each rung is left for the best one in the end.
    """
    rungs = [[] for _ in budgets]
    promoted = [set() for _ in budgets]
    order = []

    def choose():
        for rung in reversed(range(len(budgets) - 1)):
            if len(rungs[rung + 1]) + 1 < budgets[rung + 1]:
                best = sorted(rungs[rung], key=lambda i: -scores[i])
                for i in best[: len(best) // 3]:
                    if i not in promoted[rung]:
                        promoted[rung].add(i)
                        return i, rung + 1
        if len(rungs[0]) < budgets[0]:
            return len(rungs[0]), 0
        for rung in range(len(budgets) - 1):
            left = [i for i in rungs[rung] if i not in promoted[rung]]
            if left and len(rungs[rung + 1]) < budgets[rung + 1]:
                best = max(left, key=lambda i: scores[i])
                promoted[rung].add(best)
                return best, rung + 1
        return None

    while (chosen := choose()) is not None:
        rungs[chosen[1]].append(chosen[0])
        order.append(chosen)
    return order


def list_order(search, submitted):
    first = map(as_key, search.stages_[0].candidates_)
    numbers = {key: i for i, key in enumerate(first)}
    return [(numbers[as_key(row.codes)], row.stage) for row in submitted]


@pytest.mark.parametrize("budgets", [(27, 9, 3), (20, 9, 3), (7, 7, 7), (9, 2, 2)])
def test_it_is_the_algorithm_of_the_paper(budgets, submitted):
    """With one worker, row by row, by another implementation."""
    search = fit(n_iter=budgets)
    scores = search.stages_[0].cv_results_["mean_test_score"]
    assert list_order(search, submitted) == simulate(scores, budgets)
    assert count(search) == list(budgets)


def test_it_promotes_as_soon_as_three_are_done(submitted):
    fit()
    assert [row.stage for row in submitted[:5]] == [0, 0, 0, 1, 0]
    best = max(submitted[:3], key=lambda row: row.score)
    assert submitted[3].codes == best.codes


def test_callbacks_hear_of_one_search_and_the_last_fit(monkeypatch):
    asked = []
    begin = IISSearchCV._init_callback_context

    def spy(self, *args, **settings):
        asked.append(settings["max_subtasks"])
        return begin(self, *args, **settings)

    monkeypatch.setattr(IISSearchCV, "_init_callback_context", spy)
    for search, refit in [("ladder", True), ("ladder", False), ("random", True)]:
        fit(search=search, refit=refit, n_iter=(3, 1, 1))
    assert asked == [2, 1, 4]


def test_rows_are_in_the_order_of_stage_and_submission(submitted):
    results = fit().cv_results_
    ordered = sorted(submitted, key=lambda row: (row.stage, row.number))
    assert [row.score for row in ordered] == results["mean_test_score"].tolist()


def test_the_best_is_among_those_that_climbed():
    search = fit(refit=True)
    best = search.best_index_
    assert best == np.argmax(search.cv_results_["mean_test_score"])
    assert search.best_params_["size"] == search.cv_results_["size"][best] > 1
    assert search.best_estimator_.size == search.best_params_["size"]


@pytest.mark.parametrize("n_iter", [1, 2, 9])
def test_with_one_size_it_is_random_search(n_iter):
    ladder, random = (
        fit(search=search, sizes=(1,), n_iter=n_iter) for search in ("ladder", "random")
    )
    assert ladder.cv_results_["params"] == random.cv_results_["params"]
    np.testing.assert_array_equal(
        ladder.cv_results_["mean_test_score"], random.cv_results_["mean_test_score"]
    )


def test_two_workers_evaluate_as_many():
    with parallel_config("threading"):
        search = fit(n_jobs=2)
    assert count(search) == [27, 9, 3]
    first, second, third = map(set, candidates_of(search))
    assert third < second < first


def test_nobody_waits_for_slow_candidates(submitted):
    """Others are promoted while they are evaluated."""
    space = {"rate": stats.uniform(0, 0.2)}  # 1 of 20 is slow
    with parallel_config("threading"):
        search = fit(Slow(), space, n_jobs=4, n_iter=(40, 10, 3))
    assert count(search) == [40, 10, 3]
    stages = [row.stage for row in submitted]
    slow = [i for i, row in enumerate(submitted) if row.score < 0.7]
    assert slow
    assert 1 in stages[:20]
    assert 2 in stages[:40]


# Failures


def test_what_failed_or_was_pruned_is_not_promoted():
    with pytest.warns(FitFailedWarning, match="stages 0 to 2"):
        search = fit(Failing(), RATE)
    failed = search.cv_results_["error"] != None  # noqa: E711
    assert failed.any()
    assert not failed[search.cv_results_["stage"] > 0].any()
    assert count(search) == [27, 9, 3]


def test_if_all_fail_the_error_is_the_usual_one():
    search = make_search(FormulaClassifier(fails_below=10.0))
    with pytest.raises(ValueError, match="Every candidate failed: 27 of 27"):
        search.fit(X, y)
    assert count(search) == [27]
    assert search.sizes_ == [1]


def test_interrupt(submitted):
    Interrupted.n_fits = 0
    search = make_search(Interrupted())
    with pytest.raises(KeyboardInterrupt):
        search.fit(X, y)
    assert len(submitted) == 20
    assert sum(count(search)) == 20
    assert search.sizes_ == [1, 2, 3][: len(search.stages_)]
    assert len(search.spaces_) == len(search.stages_)
    scores = search.cv_results_["mean_test_score"]
    assert scores[search.best_index_] == search.best_score_ == max(scores)
    assert all(hasattr(stage, "verdict_") for stage in search.stages_)


# Small spaces


def test_a_space_that_is_exhausted_ends_with_a_warning():
    space = {"degree": [1, 2, 3], "kind": ["a", "b"]}
    with pytest.warns(UserWarning, match="no more than 6 different"):
        search = fit(space=space)
    # The rest of the budget goes to all of them, at each size.
    assert count(search) == [6, 6, 3]


def test_a_space_that_is_exhausted_ends_before_the_time_is_up():
    space = {"degree": [1, 2, 3], "kind": ["a", "b"]}
    search = fit(space=space, n_iter=None, timeout=60.0)
    assert count(search)[0] <= 6
    assert count(search)[-1] >= 1
    assert len(search.stages_) == 3


def test_with_nothing_to_choose_it_climbs_once():
    space = {"degree": [3]}
    with pytest.warns(UserWarning, match="no more than 1 different"):
        search = fit(space=space)
    assert count(search) == [1, 1, 1]
    assert count(fit(space=space, n_iter=(1, 1, 1))) == [1, 1, 1]


def test_initial_candidates_come_first():
    initial = SearchSpace(SPACE).sample(3, random_state=7)
    search = StageLadderSearchCV(
        FormulaClassifier(),
        SearchSpace(SPACE),
        n_iter=5,
        initial_candidates=[*initial, *initial],
        cv=ONE_SPLIT,
        random_state=0,
    ).fit(X, y)
    assert search.candidates_[:3] == initial
    assert len(search.candidates_) == 5


@pytest.mark.parametrize(
    ("n_iter", "message"),
    [([9, 3], "a number for each of 2 stages, and there are 1"), ([None], "timeout")],
)
def test_alone_it_has_one_stage(n_iter, message):
    search = StageLadderSearchCV(
        FormulaClassifier(), SearchSpace(SPACE), n_iter=n_iter, cv=ONE_SPLIT
    )
    with pytest.raises(ValueError, match=message):
        search.fit(X, y)


def test_a_function_that_returns_it_has_it_run_stage_by_stage():
    def make(estimator, space, **settings):
        return StageLadderSearchCV(estimator, space, **settings)

    search = fit(search=make, n_iter=(6, 3, 2))
    assert count(search) == [6, 3, 2]
    assert search.sizes_ == [1, 2, 3]
    assert search.cv_results_["size"].tolist() == [1] * 6 + [2] * 3 + [3] * 2


# Brackets


def test_brackets():
    search = fit(n_iter=(9, 9, 9), search_params={"n_brackets": 3})
    assert count(search) == [9, 9, 9]
    results = search.cv_results_
    bracket, stage = results["bracket"], results["stage"]
    assert set(bracket) == {0, 1, 2}
    assert (bracket <= stage).all()
    # What began at a stage is in none before, and was promoted if it is in a later one.
    for b in range(3):
        keys = [
            {
                as_key(c)
                for c, of in zip(s.candidates_, s.cv_results_["bracket"], strict=True)
                if of == b
            }
            for s in search.stages_
        ]
        assert not any(keys[:b])
        assert all(after <= before for before, after in pairwise(keys[b:]))
    np.testing.assert_array_equal(results["promoted"], bracket < stage)


def test_as_many_begin_in_each_bracket_as_have_it_cost_as_much(submitted):
    """9, 3 * 3 / 2 and 3 of 16.5, as in Hyperband with three rungs."""
    fit(n_iter=(90, 90, 90), search_params={"n_brackets": 3})
    new = [row.stage for row in submitted if row.columns["bracket"] == row.stage]
    assert Counter(new[:33]) == {0: 18, 1: 9, 2: 6}


@pytest.mark.parametrize("n_brackets", [0, 4])
def test_a_wrong_number_of_brackets_is_told(n_brackets):
    with pytest.raises(ValueError, match="n_brackets"):
        fit(search_params={"n_brackets": n_brackets})


@pytest.mark.parametrize("random_state", range(5))
def test_the_best_of_a_size_is_promoted_whenever_it_comes(random_state):
    search = fit(n_iter=(30, 6, 2), random_state=random_state)
    for stage, after in pairwise(search.stages_):
        best = stage.cv_results_["mean_test_score"].argmax()
        assert stage.candidates_[best] in after.candidates_


# Sizes that mislead


def test_a_size_that_misleads_is_left_out():
    search = fit(Reversed(), n_iter=(40, 40, 5), sizes=(1, 2, 3))
    first, second, _ = search.stages_
    assert first.verdict_ == "left out: its ranks contradict those at the next size"
    assert second.verdict_ == "used"
    # By 10 it is known, and then those begin at the second size that nobody knows.
    common = set(map(as_key, first.candidates_)) & set(map(as_key, second.candidates_))
    results = search.cv_results_
    assert len(second.candidates_) == 40
    new = ~results["promoted"][results["stage"] == 1]
    assert 0 < new.sum() == 40 - len(common)
    assert not new[:10].any()


def test_fewer_are_promoted_to_a_size_with_lower_scores():
    """Once ten tell, only those who are among the best ninth are; it would be 20."""
    search = fit(Shrinking(), n_iter=(60, 30, 10))
    assert count(search)[0] == 60
    assert 10 <= count(search)[1] <= 16
    assert search.stages_[0].verdict_ == (
        "fewer were promoted: the scores at the next size are lower"
    )
    assert search.best_index_ == np.argmax(search.cv_results_["mean_test_score"])


def test_a_timed_search_leaves_a_size_out_that_is_hardly_cheaper():
    search = fit(n_iter=None, timeout=1.5)
    assert search.stages_[0].verdict_ in {
        "left out: the next size costs hardly more",
        "used",
    }
    assert len(search.stages_) == 3


# Time


@pytest.mark.parametrize("n_iter", [None, "auto", (None, None, None), (None, 3, 3)])
def test_it_goes_on_until_the_time_is_up(n_iter):
    begin = time.monotonic()
    search = fit(n_iter=n_iter, timeout=1.0)
    assert 0.9 < time.monotonic() - begin < 10
    assert count(search)[0] > 3
    if n_iter == (None, 3, 3):
        assert count(search)[1] == 3


def test_stages_that_were_not_reached_are_in_no_attribute():
    class Sleeping(FormulaClassifier):
        def fit(self, X, y):
            time.sleep(0.2)
            return super().fit(X, y)

    search = fit(Sleeping(), n_iter=None, timeout=0.5, refit=True)
    n_stages = len(search.stages_)
    assert n_stages == 1
    assert search.sizes_ == [1]
    assert len(search.spaces_) == 1
    assert set(search.cv_results_["size"]) == {1}
    assert search.best_estimator_.size == 1


def test_without_a_result_in_time():
    class Sleeping(FormulaClassifier):
        def fit(self, X, y):
            time.sleep(0.5)
            return super().fit(X, y)

    splits = ONE_SPLIT * 3
    with pytest.raises(TimeoutError, match="before a candidate was evaluated"):
        fit(Sleeping(), n_iter=None, timeout=0.1, cv=splits)


# Samplers


class Told(Sampler):
    """Keeps what it is told."""

    made = []

    def __init__(self, space, *, random_state, note="none"):
        self.note = note
        self.told = []
        self.expected = []
        Told.made.append(self)

    def ask(self):
        return None

    def tell(self, candidate, score):
        self.told.append((as_key(candidate), score))

    def expect(self, candidate):
        self.expected.append(as_key(candidate))


@pytest.mark.parametrize("n_brackets", [1, 2])
def test_a_sampler_is_told_the_scores_of_one_stage(n_brackets):
    Told.made = []
    params = {"sampler": Told, "sampler_params": {"note": "x"}}
    search = fit(search_params=params | {"n_brackets": n_brackets})
    used = [sampler for sampler in Told.made if sampler.expected]
    assert len(used) == n_brackets
    assert all(sampler.note == "x" for sampler in used)
    for stage, sampler in zip(search.stages_[:n_brackets], used, strict=True):
        expected = zip(
            candidates_of_stage(stage),
            stage.cv_results_["mean_test_score"],
            strict=True,
        )
        assert sorted(sampler.told) == sorted(expected)


def candidates_of_stage(stage):
    return [as_key(codes) for codes in stage.candidates_]


def test_a_sampler_proposes():
    class Fixed(Told):
        def ask(self):
            return {"rate": 0.01 * len(self.told)}

    search = fit(space=RATE, search_params={"sampler": Fixed})
    codes = [codes["rate"] for codes in search.stages_[0].candidates_]
    np.testing.assert_allclose(codes, 0.01 * np.arange(27), atol=1e-6)


def test_tpe_learns(capfd):
    searches = [
        fit(search_params={"sampler": sampler}, n_iter=(60, 3, 1))
        for sampler in ("random", "tpe")
    ]
    later = [s.stages_[0].cv_results_["mean_test_score"][30:].mean() for s in searches]
    assert later[1] > later[0] + 0.5
    assert capfd.readouterr() == ("", "")


def test_tpe_is_given_its_settings():
    params = {"sampler": "tpe", "sampler_params": {"n_startup_trials": 1000}}
    first, second = (
        fit(search_params=params, random_state=seed).cv_results_["params"]
        for seed in (0, 0)
    )
    assert first == second
    with pytest.raises(TypeError, match="n_starup"):
        fit(search_params=params | {"sampler_params": {"n_starup": 1}})


# Storages


@pytest.mark.parametrize("n_brackets", [1, 2])
def test_there_is_a_study_for_each_stage(tmp_path, n_brackets):
    import optuna

    settings = {
        "storage": f"sqlite:///{tmp_path / 'search.db'}",
        "search_params": {"n_brackets": n_brackets},
    }
    expected = fit(**settings).cv_results_
    studies = optuna.get_all_study_summaries(settings["storage"])
    counts = {study.study_name: study.n_trials for study in studies}
    assert counts == {"iis: stage 0": 27, "iis: stage 1": 9, "iis: stage 2": 3}
    again = fit(FormulaClassifier(), **settings).cv_results_
    assert again["params"] == expected["params"]
    np.testing.assert_array_equal(again["mean_fit_time"], expected["mean_fit_time"])


def test_a_larger_budget_goes_on(tmp_path):
    storage = str(tmp_path / "search.journal")
    before = fit(storage=storage).cv_results_
    search = fit(storage=storage, n_iter=(54, 18, 6))
    assert count(search) == [54, 18, 6]
    times = search.cv_results_["mean_fit_time"]
    assert np.isin(before["mean_fit_time"], times).mean() > 0.6
    assert search.stages_[0].cv_results_["params"][:27] == before["params"][:27]


def test_another_size_may_be_added(tmp_path):
    storage = str(tmp_path / "search.journal")
    before = fit(storage=storage).cv_results_
    search = fit(storage=storage, sizes=(1, 2, 3, 4), n_iter=(27, 9, 3, 1))
    assert count(search) == [27, 9, 3, 1]
    after = search.cv_results_
    np.testing.assert_array_equal(after["mean_fit_time"][:39], before["mean_fit_time"])


def test_an_interrupted_search_goes_on(tmp_path):
    storage = str(tmp_path / "search.journal")
    Interrupted.n_fits = -1000
    expected = fit(Interrupted()).cv_results_
    Interrupted.n_fits = 0
    with pytest.raises(KeyboardInterrupt):
        fit(Interrupted(), storage=storage)
    Interrupted.n_fits = -19
    # 19 more are left.
    resumed = fit(Interrupted(), storage=storage).cv_results_
    assert Interrupted.n_fits == 0
    assert resumed["params"] == expected["params"]
    np.testing.assert_array_equal(
        resumed["mean_test_score"], expected["mean_test_score"]
    )
