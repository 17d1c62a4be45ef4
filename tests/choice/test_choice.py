"""Searches that share the time: what each does, who wins, and what ends them."""

import pickle
import time

import numpy as np
import pytest
from scipy.stats import loguniform, randint
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin, clone
from sklearn.callback import ProgressBar
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.tree import DecisionTreeClassifier

from sklearn_iis import ChoiceSearchCV, IISSearchCV, _plan, _search
from sklearn_iis.choice import _choice
from sklearn_iis.execution import _deadline, _evaluate, _monitor, _prepared
from tests.test_timeout import Clock

X, y = load_iris(return_X_y=True)
CV = StratifiedKFold(3, shuffle=True, random_state=0)
LINEAR = IISSearchCV(
    LogisticRegression(max_iter=2000), {"C": loguniform(1e-3, 10)}, n_iter=5
)
TREE = IISSearchCV(
    DecisionTreeClassifier(max_features=1, random_state=0),
    {"max_depth": randint(1, 9), "min_samples_leaf": randint(1, 9)},
    sizes=(2, 4),
    size_param="max_leaf_nodes",
    search="ladder",
    n_iter=(9, 3),
)


class Level(ClassifierMixin, BaseEstimator):
    """Right on a part of the samples that is its level, and as slow as it is told."""

    def __init__(self, level=0.5, x=0.0, pause=0.0, size=1):
        self.level = level
        self.x = x
        self.pause = pause
        self.size = size

    def fit(self, X, y):
        time.sleep(self.pause)
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.zeros(len(X))

    def score(self, X, y):
        return self.level - 0.01 * self.x


class Broken(Level):
    def fit(self, X, y):
        raise RuntimeError("no luck")


def level_search(level, pause=0.05, estimator=Level, **settings):
    settings = {"sizes": (1, 2), "size_param": "size", "search": "ladder"} | settings
    return IISSearchCV(
        estimator(level, pause=pause), {"x": loguniform(1e-3, 1)}, **settings
    )


def make_choice(searches=None, timeout=60, **settings):
    searches = searches or [("linear", LINEAR), ("tree", TREE)]
    return ChoiceSearchCV(searches, timeout, **{"cv": CV, "random_state": 0} | settings)


@pytest.fixture(scope="module")
def fitted():
    return make_choice().fit(X, y)


def alone(choice, name):
    """The search as it was set up for the choice, fitted by itself."""
    return clone(choice.searches_[name]).fit(X, y)


@pytest.mark.parametrize("name", ["linear", "tree"])
def test_each_search_finds_what_it_finds_alone(fitted, name):
    """Also the ladder, which was paused after each of its candidates."""
    ours, theirs = fitted.searches_[name].cv_results_, alone(fitted, name).cv_results_
    assert ours["params"] == theirs["params"]
    np.testing.assert_array_equal(ours["mean_test_score"], theirs["mean_test_score"])


def test_results_are_those_of_all_searches(fitted):
    results = fitted.cv_results_
    assert results["search"].tolist() == ["linear"] * 5 + ["tree"] * 12
    tables = [search.cv_results_ for search in fitted.searches_.values()]
    scores = np.concatenate([table["mean_test_score"] for table in tables])
    np.testing.assert_array_equal(results["mean_test_score"], scores)
    assert results["param_C"].mask.tolist() == [False] * 5 + [True] * 12
    assert results["param_max_depth"].mask.tolist() == [True] * 5 + [False] * 12
    assert results["rank_test_score"][fitted.best_index_] == 1
    np.testing.assert_array_equal(results["stage"][:5], 0)


def test_best_candidate_of_all_is_fitted_on_all_data(fitted):
    results = fitted.cv_results_
    best = results["mean_test_score"].argmax()
    assert fitted.best_index_ == best
    assert fitted.best_search_ == results["search"][best] == "linear"
    assert fitted.best_params_ == results["params"][best]
    assert fitted.best_score_ == results["mean_test_score"][best]
    expected = clone(LINEAR.estimator).set_params(**fitted.best_params_).fit(X, y)
    np.testing.assert_array_equal(fitted.predict_proba(X), expected.predict_proba(X))
    assert fitted.classes_.tolist() == [0, 1, 2]
    assert fitted.n_features_in_ == 4
    assert not hasattr(fitted.searches_["tree"], "best_estimator_")


def test_winner_may_come_first_or_last():
    searches = [("a", level_search(0.5, 0, n_iter=4)), ("b", LINEAR)]
    for order in (searches, searches[::-1]):
        choice = make_choice(order).fit(X, y)
        assert choice.best_search_ == "b"
        row = choice.cv_results_["search"] == "b"
        assert row[choice.best_index_]


def test_better_searches_have_more_of_the_time():
    """Each has its share of the first round; the rest is for the best."""
    levels = {"low": 0.3, "high": 0.9, "middle": 0.6}
    searches = [(name, level_search(level)) for name, level in levels.items()]
    choice = make_choice(searches, 6, cv=2, refit=False).fit(X, y)
    assert choice.rounds_ == [["high", "middle"], ["high"]]
    assert choice.best_search_ == "high"
    seconds = choice.seconds_
    assert seconds["low"] < seconds["middle"] < seconds["high"]
    assert seconds["low"] == pytest.approx(6 / 18, abs=0.3)
    assert seconds["high"] > 0.6 * 6


def test_a_search_has_the_time_of_a_first_candidate():
    searches = [("slow", level_search(0.9, 0.4)), ("fast", level_search(0.5, 0.01))]
    choice = make_choice(searches, 3, cv=2, shares={"slow": 0.01}, refit=False)
    assert choice.fit(X, y).best_search_ == "slow"


def test_stages_are_turns():
    """A search with no place to pause goes on to the end of its stage."""
    stages = level_search(0.9, 0.01, search="random", n_iter=(3, 2))
    choice = make_choice([("stages", stages), ("linear", LINEAR)]).fit(X, y)
    assert choice.searches_["stages"].cv_results_["stage"].tolist() == [0, 0, 0, 1, 1]


def test_search_that_fails_is_out():
    searches = [("broken", level_search(0.9, estimator=Broken, n_iter=4))]
    choice = make_choice([*searches, ("linear", LINEAR)])
    with pytest.warns(UserWarning, match="(?s)'broken' is out.*no luck"):
        choice.fit(X, y)
    assert choice.best_search_ == "linear"
    assert set(choice.cv_results_["search"]) == {"linear"}
    assert "no luck" in choice.searches_["broken"].cv_results_["error"][0]


def test_if_all_fail_the_first_error_is_raised():
    broken = level_search(0.9, estimator=Broken, n_iter=4)
    with (
        pytest.warns(UserWarning, match="is out"),
        pytest.raises(ValueError, match="no luck"),
    ):
        make_choice([("a", broken), ("b", broken)]).fit(X, y)


def test_errors_are_raised_if_that_is_asked_for():
    broken = level_search(0.9, estimator=Broken, n_iter=4)
    choice = make_choice([("a", broken), ("linear", LINEAR)], error_score="raise")
    with pytest.raises(RuntimeError, match="no luck"):
        choice.fit(X, y)


def test_too_little_time_is_an_error():
    choice = make_choice([("a", level_search(0.5, 0.5))], 0.01)
    message = r"timeout=0.01 seconds were up before a candidate was evaluated"
    with (
        pytest.warns(UserWarning, match=f"'a' is out: {message}"),
        pytest.raises(TimeoutError, match=message),
    ):
        choice.fit(X, y)


def test_an_interrupt_leaves_what_was_found():
    class Interrupting(Level):
        n_fits = 0

        def fit(self, X, y):
            type(self).n_fits += 1
            if self.n_fits > 6:
                raise KeyboardInterrupt
            return super().fit(X, y)

    searches = [("first", level_search(0.5, 0.0, n_iter=(3, 1)))]
    searches += [("second", level_search(0.9, 0.0, estimator=Interrupting, n_iter=9))]
    choice = make_choice(searches, cv=2)
    with pytest.raises(KeyboardInterrupt):
        choice.fit(X, y)
    assert choice.best_search_ == "second"
    assert choice.cv_results_["search"].tolist() == ["first"] * 4 + ["second"] * 3
    assert choice.best_params_["x"] == min(
        p["x"] for p in choice.cv_results_["params"][4:]
    )


def test_storage_keeps_what_was_evaluated(tmp_path):
    pytest.importorskip("optuna")
    n_fits = []

    class Counted(Level):
        def fit(self, X, y):
            n_fits.append(1)
            return super().fit(X, y)

    searches = [
        (name, level_search(level, 0.0, estimator=Counted, n_iter=(6, 2)))
        for name, level in (("a", 0.5), ("b", 0.7))
    ]
    choice = make_choice(
        searches, storage=str(tmp_path / "choice.journal"), cv=2, refit=False
    ).fit(X, y)
    assert len(n_fits) == 2 * 2 * 8
    again = clone(choice).fit(X, y)
    assert len(n_fits) == 2 * 2 * 8
    assert again.cv_results_["params"] == choice.cv_results_["params"]
    assert again.best_search_ == choice.best_search_ == "b"


def test_the_seconds_of_earlier_calls_count(tmp_path):
    """Not for the rounds, which go on faster."""
    pytest.importorskip("optuna")
    searches = [("slow", level_search(0.5, 0.1, n_iter=(4, 2))), ("tree", TREE)]
    storage = str(tmp_path / "choice.journal")
    first = make_choice(searches, storage=storage, cv=2).fit(X, y)
    again = clone(first).fit(X, y)
    results = again.cv_results_
    fits = 2 * results["mean_fit_time"][results["search"] == "slow"].sum()
    assert fits > 2 * 6 * 0.1
    assert fits < first.seconds_["slow"]
    assert fits < again.seconds_["slow"]


@pytest.fixture
def clock(monkeypatch):
    """A clock that only `Slow` moves on."""
    clock = Clock()
    for module in (_choice, _deadline, _evaluate, _monitor, _plan, _search):
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(_prepared, "CHUNK", 10)
    monkeypatch.setattr(Slow, "clock", clock)
    return clock


class Slow(TransformerMixin, BaseEstimator):
    """Computed once per stage, and takes its seconds for each sample."""

    clock = None

    def __init__(self, seconds=0.0):
        self.seconds = seconds

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        return tags

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        self.clock.now += self.seconds * len(X)
        return X * 2


def slow_search(seconds=0.05, **settings):
    pipe = Pipeline([("slow", Slow(seconds)), ("clf", clone(LINEAR.estimator))])
    return IISSearchCV(
        pipe, {"clf__C": loguniform(1e-3, 10)}, **{"n_iter": 2} | settings
    )


def test_slow_first_steps_leave_the_others_their_turn(clock):
    """Without a limit, they would take all of the time: 7.5 s."""
    searches = [("slow", slow_search()), ("fast", level_search(0.5, 0, n_iter=(2, 1)))]
    choice = make_choice(searches, timeout=8, cv=2)
    message = (
        r"'slow' is out: its share of timeout=8 seconds was up before .* \(what is "
        r"computed once for stage 0 was ready for 80 of 150 samples\): .* `shares`"
    )
    with pytest.warns(UserWarning, match=message):
        choice.fit(X, y)
    assert choice.best_search_ == "fast"
    assert set(choice.cv_results_["search"]) == {"fast"}


def test_if_first_steps_take_all_of_the_time_the_error_says_so(clock):
    choice = make_choice([("a", slow_search()), ("b", slow_search())], timeout=4)
    message = r"computed once for stage 0 was ready for \d+ of 150 samples"
    with (
        pytest.warns(UserWarning, match=rf"'a' is out: its share of .*{message}"),
        pytest.warns(UserWarning, match=rf"'b' is out: timeout=4 .*{message}"),
        pytest.raises(TimeoutError, match=message),
    ):
        choice.fit(X, y)


def test_a_search_with_results_goes_on_to_its_next_stage(clock):
    """However long what is computed once for that takes; others have had no turn."""
    settings = {"sizes": (0.01, 0.05), "size_param": "slow__seconds", "n_iter": (2, 1)}
    searches = [("slow", slow_search(**settings))]
    searches += [("fast", level_search(0.5, 0, n_iter=(2, 1)))]
    choice = make_choice(searches, timeout=10, cv=2).fit(X, y)
    assert choice.best_search_ == "slow"
    assert choice.searches_["slow"].cv_results_["stage"].tolist() == [0, 0, 1]


def test_workers_are_shared():
    one, two = (make_choice(n_jobs=n).fit(X, y) for n in (1, 2))
    # The ladder promotes by who is first.
    linear = [choice.searches_["linear"].cv_results_ for choice in (one, two)]
    assert linear[0]["params"] == linear[1]["params"]
    assert two.best_score_ == one.best_score_
    assert len(two.cv_results_["params"]) == 17


def test_the_metric_to_refit_by_decides():
    choice = make_choice(scoring=["accuracy", "neg_log_loss"], refit="neg_log_loss")
    choice.fit(X, y)
    results = choice.cv_results_
    assert choice.multimetric_
    assert choice.best_index_ == results["mean_test_neg_log_loss"].argmax()
    assert choice.best_score_ == results["mean_test_neg_log_loss"].max()


def test_bars_are_labelled(capsys):
    make_choice(verbose=1).fit(X, y)
    out = capsys.readouterr().out
    assert "linear: stage 0" in out
    assert "tree: stages 0 to 1" in out


def test_nothing_of_the_caller_is_changed():
    before = pickle.dumps([LINEAR, TREE])
    choice = make_choice()
    choice.fit(X, y)
    assert pickle.dumps([LINEAR, TREE]) == before
    assert choice.searches[0][1] is LINEAR


def test_pickled_and_cloned(fitted):
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict(X), fitted.predict(X))
    copy = clone(fitted)
    assert not hasattr(copy, "searches_")
    assert [name for name, _ in copy.searches] == ["linear", "tree"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"searches": []}, "list of pairs"),
        ({"searches": [LINEAR]}, "list of pairs"),
        ({"searches": [("a", LINEAR), ("a", TREE)]}, "different names"),
        ({"searches": [("a", LogisticRegression())]}, "list of pairs"),
        ({"timeout": None}, "timeout"),
        ({"timeout": 0}, "timeout"),
        ({"shares": {"forest": 1}}, r"shares names \['forest'\]"),
        ({"shares": {"tree": 0}}, r"shares\['tree'\] must be a number above 0"),
        ({"refit": max}, "refit"),
        ({"searches": [("a", clone(LINEAR).set_params(space={"D": [1, 2]}))]}, "D"),
    ],
)
def test_bad_input_is_told_before_anything_is_evaluated(settings, message):
    choice = make_choice().set_params(**settings)
    with pytest.raises(ValueError, match=message):
        choice.fit(X, y)
    assert not hasattr(choice, "searches_")


def test_seconds_are_those_of_the_turns():
    choice = make_choice([("a", level_search(0.5, 0.05, n_iter=(3, 1)))], cv=2)
    start = time.monotonic()
    choice.fit(X, y)
    assert 4 * 2 * 0.05 <= choice.seconds_["a"] <= time.monotonic() - start


def test_without_a_fit_several_metrics_have_no_best_candidate():
    """As in scikit-learn."""
    choice = make_choice(scoring=["accuracy", "neg_log_loss"], refit=False).fit(X, y)
    assert choice.multimetric_
    assert len(choice.cv_results_["mean_test_accuracy"]) == 17
    assert not hasattr(choice, "best_search_")
    assert not hasattr(choice, "best_index_")


def test_time_is_left_for_the_fit_of_the_best_search_whoever_runs():
    """The winner ends first, and others go on until then."""

    class Growing(Level):
        def fit(self, X, y):
            time.sleep(len(X) / 150)
            return super().fit(X, y)

    searches = [("slow", level_search(0.9, 0.0, estimator=Growing, n_iter=(2, 1)))]
    searches += [("fast", level_search(0.5, 0.02))]
    start = time.monotonic()
    # 100 samples take 0.67 s, and all of them 1 s.
    cv = [(np.arange(0, 150)[np.arange(150) % 3 > 0], np.arange(0, 150, 3))]
    choice = make_choice(searches, 6, cv=cv).fit(X, y)
    before = time.monotonic() - start - choice.refit_time_
    assert choice.best_search_ == "slow"
    assert choice.refit_time_ >= 1
    assert before <= 6 - 1 + 0.5


def test_a_timeout_of_an_estimator_is_its_own_error():
    class Late(Level):
        def fit(self, X, y):
            raise TimeoutError("no answer")

    late = level_search(0.9, estimator=Late, n_iter=4)
    choice = make_choice([("late", late), ("linear", LINEAR)], error_score="raise")
    with pytest.raises(TimeoutError, match="no answer"):
        choice.fit(X, y)


def test_splitter_params_go_to_the_splitter():
    groups = np.arange(len(X)) % 10
    with config_context(enable_metadata_routing=True):
        choice = make_choice(cv=GroupKFold(2)).fit(X, y, groups=groups)
    expected = list(GroupKFold(2).split(X, y, groups))
    ours = choice.searches_["tree"].cv
    for pair, other in zip(ours, expected, strict=True):
        for part, same in zip(pair, other, strict=True):
            np.testing.assert_array_equal(part, same)


def test_an_interrupt_of_the_last_fit_leaves_the_best_parameters():
    class Once(Level):
        def fit(self, X, y):
            if len(X) == 150:
                raise KeyboardInterrupt
            return super().fit(X, y)

    choice = make_choice([("a", level_search(0.9, 0, estimator=Once, n_iter=(3, 1)))])
    with pytest.raises(KeyboardInterrupt):
        choice.fit(X, y)
    assert choice.best_params_ == choice.cv_results_["params"][choice.best_index_]


def test_without_a_random_state_a_storage_can_be_resumed(tmp_path):
    pytest.importorskip("optuna")
    storage = str(tmp_path / "choice.journal")
    choice = make_choice(storage=storage, random_state=None).fit(X, y)
    again = clone(choice).fit(X, y)
    assert len(again.cv_results_["params"]) == 17


def test_what_cannot_pause_needs_a_number_of_candidates():
    endless = clone(LINEAR).set_params(n_iter=None)
    with pytest.raises(ValueError, match=r"'linear' cannot pause.*set its n_iter"):
        make_choice([("linear", endless), ("tree", TREE)]).fit(X, y)


@pytest.mark.parametrize("owner", ["choice", "search"])
def test_callbacks_are_refused(owner):
    choice = make_choice([("linear", clone(LINEAR)), ("tree", TREE)])
    target = choice if owner == "choice" else choice.searches[0][1]
    target.set_callbacks(ProgressBar())
    with pytest.raises(ValueError, match="does not tell callbacks"):
        choice.fit(X, y)


def test_leaving_files_out_is_refused():
    skipping = clone(LINEAR).set_params(on_error="skip")
    with pytest.raises(ValueError, match=r"\['linear'\] would leave files out"):
        make_choice([("linear", skipping), ("tree", TREE)]).fit(X, y)
