"""Leading stateless steps: which they are, what is computed once, and what is kept."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    Normalizer,
    StandardScaler,
)

from sklearn_iis import ImageResizer
from sklearn_iis.execution import _prepared
from sklearn_iis.execution._deadline import NothingFinishedError
from sklearn_iis.execution._prepared import Prepared, find_stateless, prepare

rng = np.random.default_rng(0)
X = rng.normal(1, 1, (700, 5))
IMAGES = rng.integers(0, 255, (300, 6, 8, 3), dtype=np.uint8)


class Doubler(TransformerMixin, BaseEstimator):
    """A stateless transformer that notes the numbers of samples it is given."""

    def __init__(self, factor=2, calls=None):
        self.factor = factor
        self.calls = calls

    def __sklearn_clone__(self):
        return Doubler(self.factor, self.calls)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        return tags

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        if self.calls is not None:
            self.calls.append(len(X))
        return self.factor * np.asarray(X)


class Augmenter(Doubler):
    """Does something else to what is trained on."""

    def __sklearn_clone__(self):
        return Augmenter(self.factor, self.calls)

    def fit_transform(self, X, y=None):
        return np.asarray(X) + 1


class Noise(Doubler):
    def __sklearn_clone__(self):
        return Noise()

    def transform(self, X):
        return X + np.random.default_rng().normal(size=X.shape)


@pytest.fixture
def locate(tmp_path):
    return lambda steps: str(tmp_path / f"{'-'.join(dict(steps))}.npy")


def run(X, *steps, locate, y=None, **params):
    steps = [(f"step{i}", step) for i, step in enumerate(steps)]
    return prepare(X, y, steps, locate, **params)


def by_pipeline(X, *steps):
    for step in steps:
        X = X if isinstance(step, str) else clone(step).fit_transform(X)
    return X


def center(X):
    return X - np.mean(X, axis=0)


def clip(X):
    return np.clip(X, *np.quantile(X, [0.1, 0.9]))


def cumulate(X):
    return np.cumsum(X, axis=0)


def as_frame(X):
    return pd.DataFrame(X)


def as_list(X):
    return list(X)


def spread_if_two(X):
    return (X - X.mean(axis=0)) / X.std(axis=0, ddof=1)


# Which steps


def find(*steps, fixed=None, searched=(), metadata=()):
    named = [(f"step{i}", step) for i, step in enumerate(steps)]
    pipe = Pipeline([*named, ("last", LogisticRegression())])
    return [n for n, _ in find_stateless(pipe, fixed or {}, searched, metadata)]


def test_the_first_steps_without_a_state_are_found():
    assert find(ImageResizer(), Normalizer(), PCA(), Normalizer()) == ["step0", "step1"]
    assert find(StandardScaler(), Normalizer()) == []
    assert find("passthrough", Normalizer(), None) == ["step0", "step1"]
    assert find("passthrough", StandardScaler()) == []
    assert find_stateless(LogisticRegression(), {}, ()) == []
    # Also one without a state, if it is the last one.
    assert find_stateless(Pipeline([("last", Normalizer())]), {}, ()) == []


@pytest.mark.parametrize("searched", ["step1__norm", "step1"])
def test_a_searched_step_ends_them(searched):
    steps = Normalizer(), Normalizer(), Normalizer()
    assert find(*steps, searched=[searched, "last__C"]) == ["step0"]


def test_parameters_of_the_stage_are_set():
    pipe = Pipeline([("norm", Normalizer()), ("last", LogisticRegression())])
    ((_, step),) = find_stateless(pipe, {"norm__norm": "max"}, ())
    assert step.norm == "max"
    ((_, step),) = find_stateless(pipe, {"norm": Binarizer()}, ())
    assert isinstance(step, Binarizer)
    assert find_stateless(pipe, {"norm": StandardScaler()}, ()) == []
    assert pipe["norm"].norm == "l2"


def test_steps_that_take_metadata_end_them():
    steps = Normalizer(), Normalizer()
    assert find(*steps, metadata=["step1__weights", "last__C"]) == ["step0"]
    with sklearn.config_context(enable_metadata_routing=True):
        assert find(*steps, metadata=["copy"]) == ["step0", "step1"]
        steps[1].set_transform_request(copy=True)
        assert find(*steps, metadata=["copy"]) == ["step0"]
        assert find(*steps, metadata=["sample_weight"]) == ["step0", "step1"]
    pipe = Pipeline(
        [("norm", Normalizer()), ("last", LogisticRegression())],
        transform_input=["X_val"],
    )
    assert find_stateless(pipe, {}, ()) == []


# What is computed


@pytest.mark.parametrize(
    ("data", "steps"),
    [
        (X, [Normalizer()]),
        (X, [Doubler(), "passthrough", Normalizer("max")]),
        (X[:2], [Normalizer()]),
        (X[:256], [Normalizer()]),
        (X[:257].astype(np.float32), [Binarizer()]),
        (X.tolist(), [Doubler()]),
        (pd.DataFrame(X, columns=[*"abcde"]), [Normalizer()]),
        (IMAGES, [ImageResizer(4)]),
        ([*IMAGES[:100], *IMAGES[100:, :4]], [ImageResizer((3, 2))]),
        (IMAGES, [ImageResizer(4), FunctionTransformer(lambda X: X.reshape(-1, 48))]),
        # What is no array in between does not matter.
        (X, [FunctionTransformer(as_frame), Normalizer()]),
        (X, [FunctionTransformer(as_list), Doubler()]),
    ],
)
def test_it_is_what_the_pipeline_computes(data, steps, locate):
    prepared = run(data, *steps, locate=locate)
    expected = by_pipeline(data, *steps)
    np.testing.assert_array_equal(prepared.open(), expected)
    assert prepared.open().dtype == expected.dtype
    assert len(prepared.steps) == len(steps)


@pytest.mark.parametrize(
    "step",
    [
        *map(FunctionTransformer, (center, clip, cumulate, spread_if_two)),
        *(Noise(), Augmenter()),
    ],
    ids=["center", "clip", "cumulate", "spread if two", "noise", "augmented"],
)
def test_steps_that_look_at_other_samples_are_left_to_the_candidates(step, locate):
    """Their view of the test data would leak."""
    assert run(X, step, locate=locate) is None
    prepared = run(X, Normalizer(), step, Doubler(), locate=locate)
    assert prepared.skipped == ("step0",)
    np.testing.assert_array_equal(prepared.open(), Normalizer().fit_transform(X))


def test_a_leak_behind_what_is_no_array_is_found(locate):
    steps = FunctionTransformer(lambda X: as_list(center(X))), Doubler()
    assert run(X, *steps, locate=locate) is None


@pytest.mark.parametrize("step", [as_frame, as_list, lambda X: X.astype(object)])
def test_what_is_no_array_of_numbers_is_left_to_the_candidates(step, locate):
    prepared = run(X, Doubler(), FunctionTransformer(step), locate=locate)
    assert prepared.skipped == ("step0",)


def test_sparse_matrices_are_left_to_the_candidates(locate, tmp_path):
    assert run(["a b", "c", "d"], HashingVectorizer(), locate=locate) is None
    assert os.listdir(tmp_path) == []


def test_what_does_nothing_needs_no_file(locate, tmp_path):
    assert run(IMAGES, ImageResizer((6, 8)), locate=locate) is None
    assert run(X, FunctionTransformer(), locate=locate) is None
    assert os.listdir(tmp_path) == []


def test_samples_of_another_kind_leave_all_to_the_candidates(locate, tmp_path):
    """They are found when the file is half written."""
    mixed = [*IMAGES[:256], *IMAGES[256:, ..., 0]]
    assert run(mixed, ImageResizer(4), locate=locate) is None
    assert os.listdir(tmp_path) == []


def test_each_sample_is_transformed_once_besides_a_few(locate):
    calls, reports = [], []
    run(X, Doubler(calls=calls), locate=locate, report=reports.append)
    assert sorted(calls) == [1, 14, 188, 256, 256]
    assert reports == [256, 512, 700]


def test_large_samples_come_in_smaller_chunks(locate):
    calls = []
    data = np.ones((30, 2**20))
    run(data, Doubler(calls=calls), locate=locate)
    assert sorted(calls) == [1, 2, 6, 8, 8, 8]
    calls.clear()
    run([*data], Doubler(3, calls=calls), locate=lambda steps: locate(steps) + "3")
    assert sorted(calls) == [1, 2, 6, 8, 8, 8]


def test_the_callers_data_are_left_alone(locate):
    """Also by steps that work in place, one after the other."""
    data = X.copy()
    steps = Normalizer(copy=False), Binarizer(threshold=0.5, copy=False)
    prepared = run(data, *steps, FunctionTransformer(center), locate=locate)
    np.testing.assert_array_equal(data, X)
    expected = by_pipeline(X.copy(), Normalizer(), Binarizer(threshold=0.5))
    np.testing.assert_array_equal(prepared.open(), expected)


def test_errors_name_the_step_and_the_samples(locate, tmp_path):
    images = [*IMAGES]
    images[280] = np.full((6, 8, 3), np.nan)
    with pytest.raises(ValueError, match=r"X\[24\] contains NaN") as caught:
        run(images, ImageResizer(4), locate=locate)
    (note,) = caught.value.__notes__
    assert "'step0'" in note
    assert "X[0] is X[256]" in note
    with pytest.raises(ValueError, match="'norm' parameter of Normalizer"):
        run(X, Normalizer("l3"), locate=locate)
    assert os.listdir(tmp_path) == []


# Files


def test_a_large_array_is_a_map_of_the_file_and_a_small_one_is_not(locate):
    data = rng.normal(size=(300, 600))
    prepared = run(data, Normalizer(), locate=locate)
    array = prepared.open()
    assert isinstance(array, np.memmap)
    assert not array.flags.writeable
    assert type(prepared.load()) is np.ndarray
    assert prepared.load().flags.writeable
    small = run(X, Normalizer(), locate=lambda steps: f"{prepared.path}.small")
    assert type(small.open()) is np.ndarray


def test_a_file_that_is_there_is_read(locate):
    calls, reports = [], []
    steps = Normalizer(), Doubler(calls=calls)
    first = run(X, *steps, locate=locate)
    assert calls
    calls.clear()
    # Also if it is of the first steps only.
    again = run(X, *steps, locate=locate, report=reports.append)
    assert (calls, reports, again.path) == ([], [700], first.path)
    shorter = run(X, *steps, FunctionTransformer(center), locate=locate)
    assert (calls, shorter.path) == ([], first.path)


@pytest.mark.parametrize("damage", ["truncated", "header", "empty", "rows", "pickle"])
def test_a_damaged_file_is_written_again(damage, locate):
    calls = []
    path = Path(run(X, Doubler(calls=calls), locate=locate).path)
    whole = path.read_bytes()
    if damage == "rows":
        np.save(path, 2 * X[:-1])
    elif damage == "pickle":
        np.save(path, (2 * X).astype(object))
    else:
        part = {"truncated": whole[:-1], "header": b"x" + whole[1:], "empty": b""}
        path.write_bytes(part[damage])
    calls.clear()
    np.testing.assert_array_equal(run(X, Doubler(), locate=locate).open(), 2 * X)
    assert path.read_bytes() == whole


def test_a_file_is_complete_or_not_there(locate, tmp_path):
    def fail(n_done):
        assert not Path(locate([("step0", None)])).exists()
        raise RuntimeError("no luck")

    with pytest.raises(RuntimeError, match="no luck"):
        run(X, Normalizer(), locate=locate, report=fail)
    assert os.listdir(tmp_path) == []


def stop_at(n_samples, error=KeyboardInterrupt):
    """Report that ends the computation after so many samples."""

    def report(n_done):
        if n_done >= n_samples:
            raise error

    return report


@pytest.mark.parametrize("error", [NothingFinishedError, KeyboardInterrupt])
@pytest.mark.parametrize("n_done", [256, 512, 700])
def test_what_was_complete_is_not_computed_again(error, n_done, locate, tmp_path):
    calls = []
    step = Doubler(calls=calls)
    with pytest.raises(error):
        run(X, step, locate=locate, report=stop_at(n_done, error))
    assert os.listdir(tmp_path) == ["step0.npy.part"]
    calls.clear()
    prepared = run(X, step, locate=locate)
    np.testing.assert_array_equal(prepared.open(), 2 * X)
    assert os.listdir(tmp_path) == ["step0.npy"]
    chunks = {256: [188, 256], 512: [188], 700: []}[n_done]
    # The first chunk is transformed again, as the steps are fitted to it.
    assert sorted(calls) == sorted([1, 14, 256, *chunks])


def test_it_gets_further_with_each_call(locate):
    """However soon it ends."""
    for _ in range(2):
        with pytest.raises(NothingFinishedError):
            run(X, Doubler(), locate=locate, report=stop_at(0, NothingFinishedError))
    calls = []
    run(X, Doubler(calls=calls), locate=locate)
    assert sorted(calls) == [1, 14, 188, 256]


@pytest.mark.parametrize("damage", ["truncated", "header", "rows", "empty"])
def test_what_is_left_of_other_data_is_computed_again(damage, locate, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(X, Doubler(), locate=locate, report=stop_at(512))
    path = tmp_path / "step0.npy.part"
    part = path.read_bytes()
    damaged = {"truncated": part[:-1], "header": b"x" + part[1:], "empty": b""}
    if damage == "rows":
        with pytest.raises(KeyboardInterrupt):
            run(X[:-1], Doubler(), locate=locate, report=stop_at(512))
    else:
        path.write_bytes(damaged[damage])
    np.testing.assert_array_equal(run(X, Doubler(), locate=locate).open(), 2 * X)


def test_half_a_chunk_is_not_kept(locate, tmp_path, monkeypatch):
    """An interrupt comes at any moment."""
    append, n_chunks = _prepared._append, iter(range(9))

    def interrupt(file, chunk, path):
        if next(n_chunks) == 1:
            append(file, chunk[:100], path)
            raise KeyboardInterrupt
        append(file, chunk, path)

    monkeypatch.setattr(_prepared, "_append", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(X, Doubler(), locate=locate)
    calls = []
    prepared = run(X, Doubler(calls=calls), locate=locate)
    np.testing.assert_array_equal(prepared.open(), 2 * X)
    assert sorted(calls) == [1, 14, 188, 256, 256]


def test_a_full_disk_is_named(locate, tmp_path, monkeypatch):
    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "ascontiguousarray", fail)
    with pytest.raises(OSError, match=r"No space left .*free some space"):
        run(X, Normalizer(), locate=locate)
    assert os.listdir(tmp_path) == []


# Pipelines


def test_a_resizer_by_itself_stays():
    resizer, norm = ("resize", ImageResizer(4)), ("norm", Normalizer())
    nothing = ("nothing", "passthrough")
    assert Prepared((resizer,), "").skipped == ()
    assert Prepared((nothing, resizer), "").skipped == ()
    assert Prepared((norm,), "").skipped == ("norm",)
    assert Prepared((resizer, nothing, norm), "").skipped == (
        *("resize", "nothing", "norm"),
    )


def test_steps_are_put_back_as_if_they_had_been_fitted(locate):
    frame = pd.DataFrame(X, columns=[*"abcde"])
    y = (X[:, 0] > 1).astype(int)
    steps = [("norm", Normalizer()), ("no", "passthrough"), ("two", Doubler())]
    pipe = Pipeline([*steps, ("last", LogisticRegression())])
    prepared = prepare(frame, y, steps, locate)
    skipping = clone(pipe).set_params(**dict.fromkeys(prepared.skipped, "passthrough"))
    skipping.fit(prepared.load(), y)
    prepared.put_back(skipping, frame, y)
    pipe.fit(frame, y)
    np.testing.assert_array_equal(
        skipping.predict_proba(frame), pipe.predict_proba(frame)
    )
    assert skipping.feature_names_in_.tolist() == [*"abcde"]
    assert skipping[:1].get_feature_names_out().tolist() == [*"abcde"]
    assert skipping.n_features_in_ == 5
    assert repr(skipping) == repr(pipe)
    # Each has its own.
    assert skipping["norm"] is not steps[0][1]


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_the_memory_of_a_gpu_is_freed(device, locate, monkeypatch):
    class OnDevice(Doubler):
        def __init__(self, device="auto"):
            super().__init__()
            self.device = device

        def __sklearn_clone__(self):
            return OnDevice(self.device)

    freed = []
    monkeypatch.setattr(_prepared, "free_memory", lambda: freed.append(True))
    run(X, OnDevice(device), locate=locate)
    assert freed == [True] * (device == "auto")
