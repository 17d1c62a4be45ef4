"""Whole searches whose leading stateless steps are computed once a stage."""

import io
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from scipy.stats import loguniform, randint, uniform
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.datasets import load_iris
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import RandomizedSearchCV, StratifiedKFold, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    Normalizer,
    StandardScaler,
    scale,
)

from sklearn_iis import CNNClassifier, IISSearchCV, ImageResizer
from sklearn_iis.datasets import make_shapes
from sklearn_iis.execution import _prepared
from sklearn_iis.execution._executors import SerialExecutor
from sklearn_iis.searches import Search

X, y = load_iris(return_X_y=True)
X = scale(X)
ROOT = Path(__file__).parent.parent
LOG = "IIS_TEST_LOG"
C = {"clf__C": loguniform(1e-2, 10)}
CV = StratifiedKFold(2, shuffle=True, random_state=0)
# What is of no interest for whether two searches are the same.
TIMES = ("fit_time", "score_time")

pytestmark = pytest.mark.filterwarnings("ignore:.*which are not searched:UserWarning")


class Features(TransformerMixin, BaseEstimator):
    """Some features, in whatever size; notes how many samples it was given."""

    def __init__(self, size=1, stateless=True):
        self.size = size
        self.stateless = stateless

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.requires_fit = not self.stateless
        return tags

    def fit(self, X, y=None):
        self.n_features_in_ = np.shape(X)[1]
        if hasattr(X, "columns"):
            self.feature_names_in_ = np.asarray(X.columns, dtype=object)
        return self

    def transform(self, X):
        if path := os.environ.get(LOG):
            with open(path, "a") as log:
                log.write(f"{self.size} {len(X)}\n")
        X = np.asarray(X, dtype=float).reshape(len(X), -1)
        return np.hstack([X, np.sin(self.size * X)])


@pytest.fixture
def log(tmp_path, monkeypatch):
    path = tmp_path / "log"
    monkeypatch.setenv(LOG, str(path))
    return path


def count_samples(log, size=None):
    """How many samples were given to the features, at a size or at all."""
    if not log.exists():
        return 0
    lines = [line.split() for line in log.read_text().splitlines()]
    return sum(int(n) for of, n in lines if size is None or of == str(size))


def make_pipe(*, stateless=True, clf=None, **steps):
    return Pipeline(
        [
            ("features", Features(stateless=stateless)),
            *steps.items(),
            ("clf", LogisticRegression() if clf is None else clf),
        ]
    )


def make_search(pipe=None, space=C, **settings):
    settings = {
        "sizes": (1, 2),
        "size_param": "features__size",
        "n_iter": (4, 3),
        "cv": CV,
        "random_state": 0,
    } | settings
    return IISSearchCV(make_pipe() if pipe is None else pipe, space, **settings)


def without_times(results):
    return {name: c for name, c in results.items() if not name.endswith(TIMES)}


def assert_same(search, other, X=X):
    """Two searches that differ in what was computed once only."""
    assert_same_results(search, other)
    np.testing.assert_allclose(
        search.predict_proba(X), other.predict_proba(X), rtol=1e-5
    )


def assert_same_results(search, other):
    """Also without a last fit."""
    results, expected = map(without_times, (search.cv_results_, other.cv_results_))
    assert list(results) == list(expected)
    for name, column in expected.items():
        if np.asarray(column).dtype.kind == "f":
            np.testing.assert_allclose(results[name], column, rtol=1e-6, err_msg=name)
        else:
            assert list(results[name]) == list(column), name
    assert search.best_params_ == other.best_params_


# Results


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"n_jobs": 2},
        {"return_train_score": True},
        {"scoring": ["accuracy", "neg_log_loss"], "refit": "neg_log_loss"},
        {"n_averaged": 2},
        {"search": "ladder", "n_iter": (4, 2)},
        {"stage_params": {"clf__max_iter": (100, 200)}, "select": "last"},
        {"sizes": None, "size_param": None, "n_iter": 5},
    ],
    ids=str,
)
def test_it_makes_no_difference(settings):
    once = make_search(**settings).fit(X, y)
    each = make_search(make_pipe(stateless=False), **settings).fit(X, y)
    assert_same(once, each)


@pytest.mark.parametrize(
    "settings",
    [
        {"scoring": lambda pipe, X, y: pipe.score(X, y) + 1e-3 * X.shape[1]},
        {"n_averaged": 1, "storage": "search.journal"},
    ],
    ids=["scorer", "averaged"],
)
def test_scorers_see_what_was_prepared(settings, tmp_path, monkeypatch):
    """And files of fitted estimators that were never made are fitted from it."""
    monkeypatch.chdir(tmp_path)
    first = make_search(**settings).fit(X, y)
    again = make_search(**settings).fit(X, y)
    assert_same(again, first)
    if "scoring" in settings:
        each = make_search(make_pipe(stateless=False), **settings).fit(X, y)
        gained = first.cv_results_["mean_test_score"]
        gained = gained - each.cv_results_["mean_test_score"]
        np.testing.assert_allclose(gained, 1e-3 * 4)


def test_hyperband():
    sgd = SGDClassifier(loss="log_loss", tol=None, random_state=0)
    space = {"clf__alpha": loguniform(1e-4, 1e-1)}
    settings = {
        "search": "hyperband",
        "n_iter": (3, 3),
        "search_params": {"resource": "clf__max_iter", "max_resources": 9},
    }
    once = make_search(make_pipe(clf=sgd), space, **settings).fit(X, y)
    pipe = make_pipe(stateless=False, clf=sgd)
    assert_same(once, make_search(pipe, space, **settings).fit(X, y))


def test_what_differs_between_candidates_of_hyperband_is_not_prepared(log):
    settings = {"resource": "features__size", "max_resources": 3, "min_resources": 1}
    search = make_search(
        sizes=None,
        size_param=None,
        n_iter=6,
        search="hyperband",
        search_params=settings,
    )
    assert set(search.fit(X, y).cv_results_["n_resources"]) == {1, 3}
    assert count_samples(log, 1) > 0
    assert count_samples(log, 3) > 0


@pytest.mark.parametrize("search", ["random", "ladder"])
def test_inherited_weights(search):
    """Each step in its place, at each size that a candidate climbs."""
    images, labels = make_shapes(40, size=16, n_classes=2, random_state=0)
    cnn = CNNClassifier(
        pooling="average",
        n_filters=2,
        n_units=4,
        n_conv_layers=1,
        max_epochs=1,
        batch_size=16,
        random_state=0,
        precision="float32",
    )
    darken = FunctionTransformer(lambda X: X / np.float32(255))
    settings = {
        "search": search,
        "sizes": (8, 16),
        "size_param": None,
        "inherit_weights": True,
        "n_iter": (3, 2),
        "margin": 1.0,
        "select": "last",
        "scoring": "neg_log_loss",
    }
    steps = [("resize", ImageResizer()), ("darken", darken), ("cnn", cnn)]
    space = {"cnn__learning_rate": loguniform(1e-3, 1e-1)}
    found = [
        make_search(Pipeline([*first, *steps]), space, **settings).fit(images, labels)
        # With a step that says that it learns something, nothing is computed once.
        for first in ([], [("same", Images())])
    ]
    assert_same(*found, X=images)
    best = found[0].best_estimator_
    assert best["resize"].size == 16
    assert best["resize"].image_shape_ == (16, 16, 3)
    assert best["cnn"].warm_start is False


class Images(Features):
    """The same images, by a step that says that it learns something."""

    def __init__(self):
        super().__init__(stateless=False)

    def __sklearn_clone__(self):
        return Images()

    def transform(self, X):
        return X


def test_the_best_estimator_is_as_any_other():
    """Steps, attributes and names are those of the pipeline that is searched."""
    frame = pd.DataFrame(X, columns=[*"abcd"])
    once = make_search().fit(frame, y)
    by_hand = clone(make_pipe()).set_params(**once.best_params_).fit(frame, y)
    best = once.best_estimator_
    assert repr(best) == repr(by_hand)
    assert best.feature_names_in_.tolist() == [*"abcd"]
    assert once.feature_names_in_.tolist() == [*"abcd"]
    assert once.n_features_in_ == 4
    np.testing.assert_allclose(once.predict_proba(frame), by_hand.predict_proba(frame))


# What is computed once


def test_each_sample_is_prepared_once_a_stage(log):
    search = make_search().fit(X, y)
    # Three by themselves, and at last three samples, that the steps are fitted to.
    assert count_samples(log, 1) + count_samples(log, 2) <= 2 * (len(X) + 4) + 3
    log.unlink()
    search.predict(X)
    assert count_samples(log) == len(X)


def test_stages_of_the_same_steps_share_them(log):
    settings = {"sizes": None, "size_param": None, "n_averaged": 1}
    params = {"clf__max_iter": (100, 200, 300)}
    make_search(n_iter=(3, 2, 1), stage_params=params, **settings).fit(X, y)
    n_members = 2
    assert count_samples(log) <= len(X) + 4 + 3 * n_members


@pytest.mark.parametrize(
    "settings",
    [
        {"space": {**C, "features__size": uniform(1, 2)}, "sizes": None},
        {"pipe": Pipeline([("scale", StandardScaler()), *make_pipe().steps])},
    ],
    ids=["searched", "after what is fitted"],
)
def test_other_steps_are_left_to_the_candidates(settings, log):
    if "space" in settings:
        settings = settings | {"size_param": None, "n_iter": 5}
    search = make_search(refit=False, **settings).fit(X, y)
    n_candidates = len(search.cv_results_["params"])
    assert count_samples(log) == n_candidates * 2 * len(X)


def test_nothing_leaks_from_other_samples():
    """A step without a state by its tags, which centers what it is given."""
    center = FunctionTransformer(lambda X: X - X.mean(axis=0))
    pipe = Pipeline([("center", center), ("clf", LogisticRegression())])
    settings = {"sizes": None, "size_param": None, "n_iter": 4}
    search = make_search(pipe, **settings).fit(X, y)
    for params, score in zip(
        search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True
    ):
        by_hand = clone(pipe).set_params(**params)
        assert cross_val_score(by_hand, X, y, cv=CV).mean() == pytest.approx(score)


def randomized(estimator, space, *, n_iter, initial_candidates, **settings):
    return RandomizedSearchCV(estimator, space.dimensions, n_iter=n_iter, **settings)


def test_searches_of_others_may_vary_any_step(log):
    make_search(search=randomized, refit=False).fit(X, y)
    assert count_samples(log) == 7 * 2 * len(X)


def test_a_parameter_of_a_step_that_was_prepared_is_refused():
    class Varying(Search):
        def run(self, evaluate, random_state):
            space = self.space.draw(random_state=random_state)
            evaluate([next(space)], params={"features__size": 3})

    search = make_search(search=Varying, error_score="raise")
    with pytest.raises(ValueError, match=r"'features__size' cannot vary .*'features'"):
        search.fit(X, y)


def test_errors_name_the_stage():
    def fail(X):
        raise RuntimeError("no features")

    pipe = make_pipe(fail=FunctionTransformer(fail))
    with pytest.raises(RuntimeError, match="no features") as caught:
        make_search(pipe).fit(X, y)
    assert any("'fail'" in note for note in caught.value.__notes__)
    assert any("stage 0, size 1" in note for note in caught.value.__notes__)


def test_it_ends_when_the_time_is_up(monkeypatch):
    """Not only once all samples are done."""
    monkeypatch.setattr(_prepared, "CHUNK", 10)
    n_chunks = []

    def slow(X):
        time.sleep(0.2)
        n_chunks.append(1)
        return X * 2

    search = make_search(make_pipe(slow=FunctionTransformer(slow)), timeout=1)
    message = (
        r"timeout=1 seconds were up before a candidate was evaluated \(what is "
        r"computed once for stage 0, size 1 was ready for \d+ of 150 samples\): allow "
        r"for more"
    )
    with pytest.raises(TimeoutError, match=message) as caught:
        search.fit(X, y)
    assert len(n_chunks) < len(X) / 10
    assert any("stage 0, size 1" in note for note in caught.value.__cause__.__notes__)


@pytest.fixture
def list_bars(monkeypatch):
    """Return the bars of a terminal."""
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=100, color_system=None)
    monkeypatch.setattr("rich.progress.get_console", lambda: console)

    def list_bars():
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
        return [line for line in text.splitlines() if "stage" in line]

    return list_bars


def test_the_line_is_complete_if_there_is_nothing_to_compute(list_bars):
    """As of images that have their size already."""
    images = np.random.default_rng(0).integers(0, 256, (150, 4, 4), dtype=np.uint8)
    pipe = Pipeline([("resize", ImageResizer()), ("clf", DummyClassifier())])
    space = {"clf__random_state": randint(0, 100)}
    sizes = {"sizes": (2, 4), "size_param": "resize__size"}
    make_search(pipe, space, **sizes, verbose=1).fit(images, y)
    preparing = [bar for bar in list_bars()[-4:] if bar.startswith("preparing")]
    assert len(preparing) == 2
    assert all("150/150" in bar for bar in preparing)


def test_a_line_tells_how_far_it_is(list_bars, capsys):
    make_search(verbose=1).fit(X, y)
    bars = list_bars()[-4:]
    names = ["preparing stage 0", "stage 0", "preparing stage 1", "stage 1"]
    assert all(bar.startswith(f"{n}, ") for bar, n in zip(bars, names, strict=True))
    assert "150/150" in bars[0]
    assert "150/150" in bars[2]
    assert "best" not in bars[0]
    make_search().fit(X, y)
    assert capsys.readouterr().out == ""


# Files


@pytest.fixture
def large():
    """Features of more than 1 MB, which are mapped."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(200, 800)), np.arange(200) % 2


def test_workers_map_the_file_itself(large, monkeypatch):
    seen = []
    share = SerialExecutor.share

    def spy(self, job, directory):
        seen.append(job.fidelities[job.last_stage].X)
        return share(self, job, directory)

    monkeypatch.setattr(SerialExecutor, "share", spy)
    make_search(refit=False).fit(*large)
    assert [type(array) for array in seen] == [np.memmap, np.memmap]
    assert not any(array.flags.writeable for array in seen)
    # It was removed with all that the fit has left.
    assert not any(Path(array.filename).exists() for array in seen)


def test_estimators_may_write_to_what_they_get(large):
    """On splits they get copies, and at last an array in memory."""

    class Careless(LogisticRegression):
        def fit(self, X, y):
            X *= 1
            return super().fit(X, y)

    make_search(make_pipe(clf=Careless()), error_score="raise").fit(*large)


def find_prepared(folder):
    return [*folder.glob("search.*.prepared")]


def interrupt_after(n_fits):
    """A classifier that interrupts the search at some fit."""

    class Interrupting(LogisticRegression):
        left = n_fits

        def fit(self, X, y):
            if not Interrupting.left:
                raise KeyboardInterrupt
            Interrupting.left -= 1
            return super().fit(X, y)

    return Interrupting


@pytest.mark.parametrize("kind", ["journal", "sqlite"])
def test_another_call_reads_what_was_kept(kind, log, tmp_path):
    path = tmp_path / {"journal": "search.journal", "sqlite": "search.db"}[kind]
    storage = str(path) if kind == "journal" else f"sqlite:///{path}"
    interrupting = interrupt_after(10)
    pipe = make_pipe(clf=interrupting())
    with pytest.raises(KeyboardInterrupt):
        make_search(pipe, storage=storage).fit(X, y)
    (folder,) = find_prepared(tmp_path)
    (directory,) = folder.iterdir()
    assert len([*directory.glob("*.npy")]) == 2
    assert oct(directory.stat().st_mode)[-3:] == "700"
    log.unlink()
    interrupting.left = 99
    search = make_search(pipe, storage=storage).fit(X, y)
    assert count_samples(log) <= 3  # for the names of the best estimator
    assert find_prepared(tmp_path) == []
    log.unlink()
    assert_same(search, make_search(make_pipe(stateless=False)).fit(X, y))


def test_what_was_too_slow_goes_on_in_the_next_call(log, tmp_path, monkeypatch):
    """Not from the start, where the same time would be up again."""
    monkeypatch.setattr(_prepared, "CHUNK", 10)

    class Tardy(Features):
        n_slow = 0

        def transform(self, X):
            if len(X) == 10:  # a chunk
                time.sleep(Tardy.n_slow)
            return super().transform(X)

    settings = {"sizes": None, "size_param": None, "n_iter": 3, "cv": CV}
    settings["storage"] = str(tmp_path / "search.journal")
    pipe = Pipeline([("features", Tardy()), ("clf", LogisticRegression())])
    Tardy.n_slow = 0.3
    with pytest.raises(TimeoutError, match="what is computed once"):
        make_search(pipe, timeout=1.5, **settings).fit(X, y)
    n_probed = 4
    n_done = count_samples(log) - n_probed
    assert 0 < n_done < len(X)
    log.unlink()
    Tardy.n_slow = 0
    search = make_search(pipe, refit=False, **settings).fit(X, y)
    # The first chunk again, as the steps are fitted to it.
    assert count_samples(log) == len(X) - n_done + 10 + n_probed
    assert find_prepared(tmp_path) == []
    settings["storage"] = None
    assert_same_results(search, make_search(pipe, refit=False, **settings).fit(X, y))


def test_two_fits_at_once_do_not_share_a_directory(log, tmp_path):
    """The one that ends first removes its own files only."""
    search = make_search(storage=str(tmp_path / "search.journal"))

    class Nested(LogisticRegression):
        n_fits = 0

        def fit(self, X, y):
            Nested.n_fits += 1
            if Nested.n_fits == 5:
                (directory,) = find_prepared(tmp_path)[0].iterdir()
                (before,) = directory.glob("*.npy")
                clone(search).fit(*data)
                assert [*directory.glob("*.npy")] == [before]
            return super().fit(X, y)

    Nested.__name__ = "LogisticRegression"  # the same call
    data = X, y
    search = clone(search).set_params(estimator__clf=Nested()).fit(X, y)
    assert Nested.n_fits > 5
    assert find_prepared(tmp_path) == []


CHILD = """
import os, signal
from tests import test_prepared_search as tests

class Killing(tests.LogisticRegression):
    n_fits = 0

    def fit(self, X, y):
        Killing.n_fits += 1
        if Killing.n_fits > 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().fit(X, y)

Killing.__name__ = Killing.__qualname__ = "LogisticRegression"
pipe = tests.make_pipe(clf=Killing())
tests.make_search(pipe, storage={storage!r}).fit(tests.X, tests.y)
"""


def test_a_killed_search_goes_on_with_what_was_prepared(log, tmp_path):
    storage = str(tmp_path / "search.journal")
    child = subprocess.run(
        [sys.executable, "-c", CHILD.format(storage=storage)],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        check=False,
    )
    assert child.returncode == -signal.SIGKILL
    assert count_samples(log, 1) >= len(X)
    log.unlink()
    search = make_search(storage=storage).fit(X, y)
    assert count_samples(log, 1) <= 3
    assert count_samples(log, 2) >= len(X)
    assert find_prepared(tmp_path) == []
    assert_same(search, make_search(make_pipe(stateless=False)).fit(X, y))


def test_a_directory_that_others_can_write_to_is_not_used(log, tmp_path):
    storage = str(tmp_path / "search.journal")
    folder = tmp_path / "search.journal.prepared"
    folder.mkdir()
    folder.chmod(0o777)
    make_search(storage=storage).fit(X, y)
    assert [*folder.iterdir()] == []


def test_without_steps_to_prepare_there_is_no_directory(tmp_path):
    pipe = Pipeline([("clf", LogisticRegression())])
    interrupting = interrupt_after(2)
    pipe = Pipeline([("scale", StandardScaler()), ("clf", interrupting())])
    settings = {"sizes": None, "size_param": None, "n_iter": 4}
    with pytest.raises(KeyboardInterrupt):
        make_search(pipe, storage=str(tmp_path / "search.journal"), **settings).fit(
            X, y
        )
    assert find_prepared(tmp_path) == []


def test_normalizer_and_images_in_one_prefix(log):
    """Images that are resized, flattened and scaled, all at once."""
    images, labels = make_shapes(40, size=8, n_classes=2, random_state=0)
    flatten = FunctionTransformer(lambda X: X.reshape(len(X), -1).astype(float))

    def make(first):
        steps = [("resize", first), ("flatten", flatten), ("norm", Normalizer())]
        pipe = Pipeline([*steps, ("clf", LogisticRegression())])
        search = make_search(pipe, sizes=(4, 8), size_param="resize__size")
        return search.fit(images, labels)

    class Fitted(ImageResizer):
        def __sklearn_tags__(self):
            tags = super().__sklearn_tags__()
            tags.requires_fit = True
            return tags

    once = make(ImageResizer())
    assert_same(once, make(Fitted()), X=images)
    assert once.best_params_["resize__size"] in (4, 8)
