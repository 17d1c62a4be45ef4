"""Files that cannot be read: named, or left out, before the first stage of a search."""

from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    LeaveOneGroupOut,
    LeaveOneOut,
    PredefinedSplit,
    StratifiedKFold,
)
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_iis import IISSearchCV, ImageResizer
from sklearn_iis._plan import FitCall
from sklearn_iis.execution._readable import Readable

BAD = [3, 10]


def flatten(X):
    return X.reshape(len(X), -1) / 255


class Weighted(LogisticRegression):
    """Its weights are the numbers of the samples: they stay with their images."""

    def fit(self, X, y, sample_weight=None):
        if sample_weight is not None:
            np.testing.assert_allclose(X[:, 0] * 255, sample_weight)
        return super().fit(X, y, sample_weight)


@pytest.fixture
def paths(tmp_path):
    """Image i has the grey i; two cannot be read."""
    paths = []
    for i in range(24):
        paths.append(str(tmp_path / f"{i}.png"))
        Image.new("L", (6, 5), i).save(paths[-1])
    for i in BAD:
        (tmp_path / f"{i}.png").write_text("no image")
    return paths


def make_search(**params):
    pipe = Pipeline(
        [
            ("resize", ImageResizer(mode="L")),
            ("flatten", FunctionTransformer(flatten)),
            ("model", Weighted()),
        ]
    )
    space = {"model__C": [0.1, 1, 10]}
    return IISSearchCV(
        pipe, space, sizes=[4, 5], n_iter=[2, 2], random_state=0, **{"cv": 2, **params}
    )


Y = np.arange(24) % 2


def test_all_are_named_before_the_first_stage(paths):
    search = make_search()
    with pytest.raises(OSError, match="2 images cannot be read") as caught:
        search.fit(paths, Y)
    assert list(caught.value.unreadable) == BAD
    assert not hasattr(search, "stages_")


@pytest.mark.parametrize("container", [list, np.array, pd.Series])
def test_left_out(paths, container):
    """The search is that of the other images."""
    good = np.setdiff1d(np.arange(24), BAD)
    expected = make_search().fit([paths[i] for i in good], Y[good])
    message = r"2 of 24 images are left out, .* X\[3\]: .*3\.png' cannot be read"
    with pytest.warns(UserWarning, match=message) as caught:
        skipping = make_search(on_error="skip").fit(container(paths), Y)
    assert caught[0].filename == __file__
    listing = make_search(on_error="list").fit(container(paths), Y)
    for search in (skipping, listing):
        assert list(search.unreadable_) == BAD
        assert "3.png" in search.unreadable_[3]
        name = "mean_test_score"
        np.testing.assert_array_equal(
            search.cv_results_[name], expected.cv_results_[name]
        )
    assert expected.unreadable_ == {}


def test_images_in_a_pipeline_of_their_own(paths):
    search = make_search(on_error="list")
    steps = search.estimator.steps
    inner = Pipeline([("nothing", "passthrough"), *steps[:2]])
    search.set_params(
        estimator=Pipeline([("images", inner), steps[2]]),
        size_param="images__resize__size",
    )
    assert search.fit(paths, Y).unreadable_.keys() == set(BAD)


def test_what_is_split_along(paths):
    """Weights stay with their images; numbers in splits are those of X as given."""
    masks = [(np.arange(24) < 12, np.arange(24) >= 12)]
    for cv in (
        list(StratifiedKFold(3).split(np.zeros(24), Y)),
        [(np.flatnonzero(train), np.flatnonzero(test)) for train, test in masks],
        masks,
    ):
        search = make_search(on_error="list", cv=cv)
        search.fit(paths, Y, model__sample_weight=np.arange(24.0))
        assert list(search.unreadable_) == BAD


def open_truncated():
    """Return an image of Pillow's that fails once it is loaded."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return Image.open(BytesIO(buffer.getvalue()[:2000]))


@pytest.mark.parametrize("first", ["pillow", "array", "missing"])
def test_each_is_checked_by_its_own_kind(paths, first):
    X: list = list(paths)
    firsts = {"pillow": Image.new("L", (6, 5)), "missing": None}
    X[0] = firsts.get(first, np.zeros((5, 6), np.uint8))
    X[5] = {"image": {"bytes": None, "path": None}}
    X[6] = None
    X[7] = open_truncated()
    bad = [0] * (first == "missing") + [3, 5, 6, 7, 10]
    assert list(make_search(on_error="list").fit(X, Y).unreadable_) == bad
    X[7] = open_truncated()
    with pytest.raises(OSError, match=f"{len(bad)} images cannot be read") as caught:
        make_search().fit(X, Y)
    assert list(caught.value.unreadable) == bad


def test_nothing_is_left(paths):
    with pytest.raises(OSError, match="2 images cannot be read"):
        make_search(on_error="skip").fit([paths[i] for i in BAD], [0, 1])


def test_other_data_are_left_alone():
    X = np.random.default_rng(0).integers(0, 256, (24, 6, 6)).astype(np.uint8)
    assert make_search(on_error="skip").fit(X, Y).unreadable_ == {}
    model = IISSearchCV(LogisticRegression(), {"C": [1, 2]}, n_iter=2, on_error="skip")
    assert model.fit(X.reshape(24, -1), Y).unreadable_ == {}


def test_splits_are_renumbered():
    """Numbers and masks, without those that are left out."""
    kept = np.array([0, 2, 3])
    readable = Readable(None, None, {}, kept, {1: "damaged", 4: "damaged"})
    mask = np.array([False, True, True, False, True])
    [(train, test), (again, _)] = readable.renumber(
        [([3, 1, 0], [2, 4]), (mask, ~mask)]
    )
    assert train.tolist() == [2, 0]
    assert test.tolist() == [1]
    assert again.tolist() == [1]


def test_splits_of_which_nothing_is_left():
    """They are left out, unless that is so of all."""
    readable = Readable(None, None, {}, np.array([0, 2]), {1: "damaged"})
    [(train, test)] = readable.renumber([([0], [2]), ([1], [0]), ([0, 2], [1])])
    assert (train.tolist(), test.tolist()) == ([0], [1])
    with pytest.raises(ValueError, match="Without the 1 of 3 images"):
        readable.renumber([([0, 2], [1])])


class FirstHalf:
    """A splitter of one's own, with numbers of samples."""

    def get_n_splits(self, X=None, y=None, groups=None):
        return 1

    def split(self, X, y=None, groups=None):
        yield np.arange(12), np.arange(12, 24)


@pytest.mark.parametrize(
    ("cv", "groups"),
    [
        (FirstHalf(), None),
        (PredefinedSplit(np.repeat([-1, 0], 12)), None),
        (LeaveOneGroupOut(), np.repeat([0, 1], 12)),
        (LeaveOneOut(), None),
    ],
)
def test_splitters(paths, cv, groups):
    """They split X as given: no sample goes from one fold to another."""
    given = list(cv.split(paths, Y, groups))
    search = make_search(on_error="list", cv=cv)
    plan = FitCall(search, paths, Y, {"groups": groups}, "list")
    kept = np.setdiff1d(np.arange(24), BAD)
    expected = [[np.setdiff1d(part, BAD).tolist() for part in split] for split in given]
    expected = [split for split in expected if all(split)]
    assert [[kept[part].tolist() for part in split] for split in plan.splits] == (
        expected
    )


def test_splitter_of_a_search(paths):
    search = make_search(on_error="list", cv=FirstHalf()).fit(paths, Y)
    assert list(search.unreadable_) == BAD
    assert search.n_splits_ == 1
