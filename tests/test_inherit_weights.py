"""Whole searches of networks that begin at each size with what they have learned."""

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import optuna
import pytest
from joblib import parallel_config
from scipy.stats import loguniform
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_iis import CNNClassifier, IISSearchCV, ImageResizer
from sklearn_iis.datasets import make_shapes
from sklearn_iis.execution._estimator_files import EstimatorFiles

X, y = make_shapes(48, size=16, n_classes=2, random_state=0)
CV = StratifiedKFold(2)
SPLITS = [*CV.split(X, y)]
RATE = {"cnn__learning_rate": loguniform(1e-3, 1e-1)}
EPOCHS = (2, 1)
LOG = "IIS_TEST_LOG"
ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.filterwarnings("ignore:.*which are not searched:UserWarning")


class NotedCNN(CNNClassifier):
    """Notes the size and the epochs of each fit, and may be interrupted."""

    n_allowed = None

    def fit(self, X, y, **params):
        super().fit(X, y, **params)
        if path := os.environ.get(LOG):
            with open(path, "a") as log:
                log.write(f"{X.shape[1]} {self.warm_start} {len(X)}\n")
            if self.n_allowed and len(Path(path).read_text().splitlines()) >= (
                NotedCNN.n_allowed
            ):
                raise KeyboardInterrupt
        return self


@pytest.fixture
def log(tmp_path, monkeypatch):
    path = tmp_path / "log"
    monkeypatch.setenv(LOG, str(path))
    return path


def read(log):
    return log.read_text().splitlines() if log.exists() else []


def make_pipe(kind=NotedCNN, **params):
    params = {
        "pooling": "average",
        "n_filters": 2,
        "n_units": 4,
        "n_conv_layers": 2,
        "batch_size": 16,
        "random_state": 0,
        "precision": "float32",
    } | params
    return Pipeline([("resize", ImageResizer()), ("cnn", kind(**params))])


def make_search(estimator=None, space=RATE, **settings):
    settings = {
        "sizes": (8, 16),
        "stage_params": {"cnn__max_epochs": EPOCHS},
        "inherit_weights": True,
        "n_iter": (4, 3),
        "n_promoted": 2,
        # So that the best are in the space of the next stage.
        "margin": 1.0,
        "cv": CV,
        "random_state": 0,
        "select": "last",
        "scoring": "neg_log_loss",
    } | settings
    return IISSearchCV(
        make_pipe() if estimator is None else estimator, space, **settings
    )


def fit(*args, **settings):
    return make_search(*args, **settings).fit(X, y)


def climb(estimator, params, stage, X, y, sizes=(8, 16), epochs=EPOCHS):
    """Train by hand in each stage up to one."""
    estimator = clone(estimator).set_params(**params)
    for i in range(stage + 1):
        estimator.set_params(resize__size=sizes[i], cnn__max_epochs=epochs[i])
        if i:
            estimator.set_params(cnn__warm_start="weights")
        estimator.fit(X, y)
    return estimator


def check_scores(search, **settings):
    """Each score is that of a climb by hand, bit by bit."""
    results = search.cv_results_
    for row, (params, stage) in enumerate(
        zip(results["params"], results["stage"], strict=True)
    ):
        for split, (train, test) in enumerate(SPLITS):
            by_hand = climb(
                search.estimator, params, stage, X[train], y[train], **settings
            )
            score = search.scorer_(by_hand, X[test], y[test])
            assert results[f"split{split}_test_score"][row] == score, (row, split)


def assert_same(search, expected):
    """The same candidates, scores and predictions, bit by bit."""
    results, others = search.cv_results_, expected.cv_results_
    assert results["params"] == others["params"]
    for name in ("split0_test_score", "split1_test_score", "stage", "promoted"):
        np.testing.assert_array_equal(results[name], others[name])
    assert search.best_params_ == expected.best_params_
    np.testing.assert_array_equal(search.predict_proba(X), expected.predict_proba(X))


@pytest.fixture(scope="module")
def uninterrupted():
    """The search whose like is interrupted, killed, and run by two workers."""
    return fit()


# Scores


def test_scores_are_those_of_a_climb(uninterrupted):
    """Also of candidates that are new in the last stage."""
    promoted = uninterrupted.cv_results_["promoted"]
    assert promoted.tolist() == [False] * 4 + [True, True, False]
    check_scores(uninterrupted)


def test_they_are_not_those_of_training_from_scratch(uninterrupted):
    scratch = fit(inherit_weights=False).cv_results_["mean_test_score"]
    scores = uninterrupted.cv_results_["mean_test_score"]
    np.testing.assert_array_equal(scores[:4], scratch[:4])
    assert not set(scores[4:]) & set(scratch[4:])


def test_the_last_fit_climbs(uninterrupted):
    params = uninterrupted.best_params_
    assert params["resize__size"] == 16
    assert params["cnn__max_epochs"] == 1
    by_hand = climb(uninterrupted.estimator, params, 1, X, y)
    np.testing.assert_array_equal(
        uninterrupted.predict_proba(X), by_hand.predict_proba(X)
    )
    assert len(uninterrupted.best_estimator_["cnn"].history_) == 1


def test_the_best_of_the_first_stage_does_not_climb():
    search = fit(n_iter=(4, 1), n_promoted=0, select="best", sizes=(8, 16))
    assert search.cv_results_["promoted"].tolist() == [False] * 5
    stage = search.cv_results_["stage"][search.best_index_]
    by_hand = climb(search.estimator, search.best_params_, stage, X, y)
    np.testing.assert_array_equal(search.predict_proba(X), by_hand.predict_proba(X))


@pytest.mark.parametrize("warm_start", [False, True, "weights"])
def test_afterwards_warm_start_is_as_the_user_had_it(warm_start):
    search = fit(make_pipe(warm_start=warm_start), n_iter=(2, 1))
    assert search.best_estimator_["cnn"].warm_start == warm_start
    assert search.estimator["cnn"].warm_start == warm_start
    assert not hasattr(search.estimator["cnn"], "net_")


def test_each_size_is_trained_once(log):
    """Of those that are promoted; new ones train at all sizes."""
    fit(sizes=(4, 8, 16), n_iter=(4, 2, 2), stage_params=None, refit=False)
    sizes = [line.split()[0] for line in read(log)]
    # 2 splits: 4 candidates at first, then 2 and 2 that were promoted.
    assert sizes == ["4"] * 8 + ["8"] * 4 + ["16"] * 4


def test_without_files_scores_are_the_same(uninterrupted, monkeypatch):
    monkeypatch.setattr(EstimatorFiles, "save", lambda *args: None)
    assert_same(fit(), uninterrupted)


def test_two_workers(uninterrupted):
    assert_same(fit(n_jobs=2), uninterrupted)


def test_threads(uninterrupted):
    with parallel_config("threading"):
        assert_same(fit(n_jobs=2), uninterrupted)


@pytest.mark.parametrize("search", ["ladder", "tpe", "bayes", "grid"])
def test_any_search(search):
    n_iter = {"ladder": (6, 2)}.get(search, (3, 2))
    found = fit(search=search, n_iter=n_iter, refit=True)
    assert found.cv_results_["promoted"].any()
    check_scores(found)


def test_ladder_with_two_workers_and_brackets():
    search = fit(
        search="ladder", n_iter=(4, 3), n_jobs=2, search_params={"n_brackets": 2}
    )
    assert set(search.cv_results_["bracket"]) == {0, 1}
    check_scores(search)


def test_a_ladder_that_a_function_returns():
    from sklearn_iis.searches import StageLadderSearchCV

    search = fit(search=lambda *args, **kw: StageLadderSearchCV(*args, **kw))
    check_scores(search)


def test_other_layers_and_filters():
    space = RATE | {"cnn__n_conv_layers": [1, 2, 3], "cnn__n_filters": [2, 3]}
    check_scores(fit(space=space))


def test_classifiers_that_are_searched_themselves():
    """They keep what they have learned."""
    pipe = make_pipe()
    cnns = [clone(pipe["cnn"]).set_params(n_filters=n) for n in (2, 3, 4)]
    search = fit(pipe, {"cnn": cnns}, n_iter=(3, 3))
    assert search.cv_results_["promoted"].any()
    for row, stage in enumerate(search.cv_results_["stage"]):
        params = search.cv_results_["params"][row]
        for split, (train, test) in enumerate(SPLITS):
            by_hand = climb(
                pipe, {"cnn": clone(params["cnn"])}, stage, X[train], y[train]
            )
            expected = search.scorer_(by_hand, X[test], y[test])
            assert search.cv_results_[f"split{split}_test_score"][row] == expected


# Averages


@pytest.mark.parametrize("missing", [False, True])
def test_averages_are_those_of_climbs(missing, monkeypatch):
    """Also of those that are missing, which are fitted again."""
    if missing:
        monkeypatch.setattr(EstimatorFiles, "load", lambda *args: None)
    search = fit(n_averaged=2)
    scores = search.cv_results_["mean_test_score"]
    last = np.flatnonzero(search.cv_results_["stage"] == 1)
    best = last[np.argsort(-scores[last], kind="stable")][:2]
    probabilities = [
        climb(
            search.estimator, search.cv_results_["params"][row], 1, X[train], y[train]
        ).predict_proba(X)
        for row in best
        for train, _ in SPLITS
    ]
    np.testing.assert_allclose(
        search.predict_proba(X), np.mean(probabilities, axis=0), rtol=1e-6
    )
    names = [f"candidate{row}_split{split}" for row in best for split in (0, 1)]
    assert [*search.best_estimator_.named_estimators_] == names


# Interrupts


@pytest.mark.parametrize("patience", [3, 8, 11])
def test_an_interrupt_leaves_the_best(patience, log, monkeypatch, uninterrupted):
    """In the first stage, at its end, and in the last one."""
    monkeypatch.setattr(NotedCNN, "n_allowed", patience)
    search = make_search(select="best")
    with pytest.raises(KeyboardInterrupt):
        search.fit(X, y)
    assert len(read(log)) == patience
    scores = search.cv_results_["mean_test_score"]
    expected = uninterrupted.cv_results_["mean_test_score"]
    assert len(scores) == (patience - 1) // 2
    np.testing.assert_array_equal(scores, expected[: len(scores)])
    assert search.best_score_ == scores[search.best_index_] == max(scores)
    assert search.best_params_ == search.cv_results_["params"][search.best_index_]
    # It averages what was trained on each split.
    monkeypatch.setattr(NotedCNN, "n_allowed", None)
    stage = search.cv_results_["stage"][search.best_index_]
    climbs = [
        climb(search.estimator, search.best_params_, stage, X[train], y[train])
        for train, _ in SPLITS
    ]
    np.testing.assert_allclose(
        search.predict_proba(X),
        np.mean([each.predict_proba(X) for each in climbs], axis=0),
        rtol=1e-6,
    )


def test_an_interrupt_before_any_result(log, monkeypatch):
    monkeypatch.setattr(NotedCNN, "n_allowed", 1)
    search = make_search()
    with pytest.raises(KeyboardInterrupt):
        search.fit(X, y)
    assert not hasattr(search, "best_params_")
    assert not hasattr(search, "best_estimator_")


def test_an_interrupted_ladder_leaves_the_best(log, monkeypatch):
    monkeypatch.setattr(NotedCNN, "n_allowed", 9)
    search = make_search(search="ladder", n_iter=(6, 2), select="best")
    with pytest.raises(KeyboardInterrupt):
        search.fit(X, y)
    assert search.cv_results_["stage"].tolist() == [0, 0, 0, 1]
    assert search.best_score_ == max(search.cv_results_["mean_test_score"])
    assert search.predict(X).shape == y.shape


# Storages


def locate(kind, folder):
    return {
        "journal": str(folder / "search.journal"),
        "sqlite": f"sqlite:///{folder / 'search.db'}",
    }[kind]


def find_weights(folder):
    return [*folder.glob("search.*.weights")]


class Spying(NotedCNN):
    """Notes the permissions of the directory of weights."""

    def fit(self, X, y, **params):
        folder = Path(os.environ[LOG]).parent
        with open(folder / "seen", "a") as seen:
            for path in find_weights(folder):
                modes = [
                    path.stat().st_mode,
                    *(p.stat().st_mode for p in path.iterdir()),
                ]
                names = [oct(stat.S_IMODE(mode)) for mode in modes]
                seen.write(f"{' '.join(names)}\n")
        return super().fit(X, y, **params)


@pytest.mark.parametrize("kind", ["journal", "sqlite"])
def test_weights_are_beside_the_storage_as_long_as_it_runs(kind, log, tmp_path):
    umask = os.umask(0o002)
    try:
        search = fit(make_pipe(Spying), storage=locate(kind, tmp_path))
    finally:
        os.umask(umask)
    assert set((tmp_path / "seen").read_text().splitlines()) == {"0o700 0o700"}
    assert find_weights(tmp_path) == []
    check_scores(search)


@pytest.mark.parametrize("which", ["folder", "directory", "link", "file"])
def test_a_directory_that_others_can_write_to_is_not_used(
    which, log, tmp_path, monkeypatch, uninterrupted
):
    """Nothing is loaded from it, nor written to it."""
    storage = locate("journal", tmp_path)
    monkeypatch.setattr(NotedCNN, "n_allowed", 5)
    with pytest.raises(KeyboardInterrupt):
        fit(storage=storage)
    monkeypatch.setattr(NotedCNN, "n_allowed", None)
    (folder,) = find_weights(tmp_path)
    (directory,) = folder.iterdir()
    pickles = [*directory.rglob("*.pickle")]
    assert pickles
    if which == "link":
        directory.rename(tmp_path / "elsewhere")
        directory.symlink_to(tmp_path / "elsewhere")
    elif which == "file":
        folder.rename(tmp_path / "elsewhere")
        folder.write_text("")
    else:
        path = folder if which == "folder" else directory
        path.chmod(0o777)
    before = sorted((p, p.stat().st_mtime) for p in tmp_path.rglob("*.pickle"))
    loaded = []
    load = EstimatorFiles.load
    monkeypatch.setattr(
        EstimatorFiles,
        "load",
        lambda self, task: (loaded.append(self.directory), load(self, task))[1],
    )
    assert_same(fit(storage=storage), uninterrupted)
    assert loaded
    assert not any(path.startswith(str(tmp_path / "search")) for path in loaded)
    after = sorted((p, p.stat().st_mtime) for p in tmp_path.rglob("*.pickle"))
    assert after == before


@pytest.mark.parametrize("kind", ["database", "journal"])
def test_an_object_of_optuna(kind, tmp_path, uninterrupted):
    if kind == "database":
        storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'search.db'}")
    else:
        backend = optuna.storages.journal.JournalFileBackend(
            str(tmp_path / "search.journal")
        )
        storage = optuna.storages.JournalStorage(backend)
    assert_same(fit(storage=storage), uninterrupted)
    assert find_weights(tmp_path) == []


def test_an_interrupted_search_goes_on_with_its_weights(
    log, tmp_path, monkeypatch, uninterrupted
):
    """In the middle of the last stage: nothing is trained twice."""
    storage = locate("journal", tmp_path)
    monkeypatch.setattr(NotedCNN, "n_allowed", 10)
    with pytest.raises(KeyboardInterrupt):
        fit(storage=storage)
    assert find_weights(tmp_path)
    monkeypatch.setattr(NotedCNN, "n_allowed", None)
    log.unlink()
    search = fit(storage=storage)
    assert_same(search, uninterrupted)
    assert find_weights(tmp_path) == []
    # The one that was interrupted, one more that was promoted, one that is new, twice
    # each, and the last fit.
    expected = ["16 weights 24"] * 3 + ["8 False 24", "16 weights 24"] * 2
    assert read(log) == [*expected, "8 False 48", "16 weights 48"]


def run_child(folder, kind, name="random"):
    """Fit in a process that is killed."""
    os.environ[LOG] = str(folder / "log")
    n_iter = {"ladder": (6, 2)}.get(name, (4, 3))
    fit(storage=locate(kind, folder), search=name, n_iter=n_iter)


@pytest.mark.parametrize(
    ("kind", "name", "n_fits"),
    [
        ("journal", "random", 5),
        ("journal", "random", 8),
        ("sqlite", "random", 8),
        ("sqlite", "random", 10),
        ("journal", "ladder", 7),
        ("sqlite", "ladder", 12),
    ],
)
def test_a_killed_search_goes_on(kind, name, n_fits, tmp_path, uninterrupted):
    """Killed amid a stage, between two, and amid the last one."""
    code = (
        "from pathlib import Path\n"
        "from tests.test_inherit_weights import run_child\n"
        f"run_child(Path({str(tmp_path)!r}), {kind!r}, {name!r})"
    )
    child = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    try:
        until = time.monotonic() + 120
        while len(read(tmp_path / "log")) < n_fits:
            assert child.poll() is None
            assert time.monotonic() < until
            time.sleep(0.001)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    n_iter = {"ladder": (6, 2)}.get(name, (4, 3))
    settings = {"search": name, "n_iter": n_iter}
    assert find_weights(tmp_path)
    resumed = fit(storage=locate(kind, tmp_path), **settings)
    expected = uninterrupted if name == "random" else fit(**settings)
    assert_same(resumed, expected)
    assert find_weights(tmp_path) == []


# What cannot inherit


def test_hyperband_is_refused():
    with pytest.raises(ValueError, match="does not go with StageHyperband"):
        fit(search="hyperband", stage_params=None)


@pytest.mark.parametrize(
    "estimator",
    [
        make_pipe(pooling="flatten"),
        Pipeline([("resize", ImageResizer()), ("cnn", LogisticRegression())]),
    ],
    ids=["flatten", "linear"],
)
def test_what_cannot_inherit_is_refused(estimator):
    with pytest.raises(ValueError, match="has no part that says so"):
        fit(estimator, {"cnn__random_state": [0, 1]}, stage_params=None)


def test_without_stages_of_a_size_it_is_refused():
    pipe = Pipeline([("scale", StandardScaler()), ("linear", LogisticRegression())])
    with pytest.raises(ValueError, match="has no part that says so"):
        IISSearchCV(pipe, {"linear__C": [1, 2]}, inherit_weights=True).fit(
            X.reshape(len(X), -1), y
        )


def test_a_candidate_that_cannot_inherit_fails_by_itself():
    space = RATE | {"cnn__pooling": ["average", "flatten"]}
    with pytest.warns(FitFailedWarning, match="inherit_weights=True needs"):
        search = fit(space=space, n_iter=(6, 3))
    results = search.cv_results_
    failed = results["error"] != None  # noqa: E711
    flatten = results["param_cnn__pooling"] == "flatten"
    assert failed.any()
    np.testing.assert_array_equal(failed, flatten)
    assert search.best_params_["cnn__pooling"] == "average"


# Time and pruners


def test_trial_timeout_is_that_of_the_fit_in_a_stage():
    """Whether what was learned before is there or not must not matter."""

    class Waiting(NotedCNN):
        def fit(self, X, y, **params):
            time.sleep(2.5 if X.shape[1] == 16 and self.learning_rate < 0.013 else 1.1)
            return super().fit(X, y, **params)

    make_pipe().fit(X, y)  # the first fit of a process takes longer
    with pytest.warns(FitFailedWarning, match="trial_timeout=2"):
        search = make_search(
            make_pipe(Waiting),
            n_iter=(2, 4),
            n_promoted=1,
            trial_timeout=2.0,
            cv=SPLITS[:1],
        ).fit(X, y)
    results = search.cv_results_
    failed = results["error"] != None  # noqa: E711
    rates = np.array([p["cnn__learning_rate"] for p in results["params"]])
    slow = (results["stage"] == 1) & (rates < 0.013)
    # Those that are new in the last stage climb for longer than that, too.
    assert 0 < slow.sum() < 4
    np.testing.assert_array_equal(failed, slow)


def test_timeout_amid_a_climb():
    class Waiting(NotedCNN):
        def fit(self, X, y, **params):
            time.sleep(0.1)
            return super().fit(X, y, **params)

    begin = time.monotonic()
    search = fit(
        make_pipe(Waiting), n_iter=None, timeout=4.0, search="ladder", select="best"
    )
    assert time.monotonic() - begin < 12
    assert search.predict(X).shape == y.shape
    check_scores(search)


def test_a_pruner_compares_epochs_of_one_stage(monkeypatch):
    """Those of the stages below are not told, whatever they are trained for."""
    told = []

    class Noting(optuna.pruners.NopPruner):
        def prune(self, study, trial):
            told.append((study.study_name, trial.last_step))
            return False

    estimator = make_pipe(early_stopping=True)
    search = fit(
        estimator,
        pruner=Noting(),
        n_iter=(2, 2),
        n_promoted=1,
        stage_params={"cnn__max_epochs": (2, 3)},
    )
    first = [("iis: stage 0", epoch) for epoch in (1, 2)]
    last = [("iis: stage 1", epoch) for epoch in (1, 2, 3)]
    # Two candidates on two splits each; one of the last stage is new.
    assert told == first * 4 + last * 4
    assert search.cv_results_["pruned"].tolist() == [False] * 4
    check_scores(search, epochs=(2, 3))


def test_what_is_pruned_is_not_promoted():
    class Strict(optuna.pruners.NopPruner):
        def prune(self, study, trial):
            return len(study.get_trials(deepcopy=False)) > 4 and (
                study.study_name.endswith("stage 0")
            )

    search = fit(
        make_pipe(early_stopping=True),
        pruner=Strict(),
        search="ladder",
        n_iter=(6, 2),
    )
    results = search.cv_results_
    assert results["pruned"].tolist() == [False, False] + [True] * 4 + [False] * 2
    assert results["promoted"].sum() == 2
    check_scores_of = results["params"][6]
    assert check_scores_of["cnn__learning_rate"] in [
        results["params"][i]["cnn__learning_rate"] for i in (0, 1)
    ]
