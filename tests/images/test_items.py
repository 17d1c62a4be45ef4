"""Every form of X: taken like the list of files, or refused with what is right."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

from sklearn_iis import ImageResizer

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 9, 12, 3)).astype(np.uint8)


@pytest.fixture
def paths(tmp_path):
    paths = [str(tmp_path / f"{i}.png") for i in range(3)]
    for image, path in zip(IMAGES, paths, strict=True):
        Image.fromarray(image).save(path)
    return paths


def encode(path):
    with open(path, "rb") as file:
        return file.read()


class Images(Dataset):
    """A data set of torch without labels."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


def as_objects(items):
    column = np.empty((len(items), 1), dtype=object)
    column[:, 0] = items
    return column


TAKEN = {
    "column of a frame": lambda paths: pd.DataFrame({"path": paths}),
    "column of a frame of objects": lambda p: pd.DataFrame({"a": p}, dtype=object),
    "column": lambda paths: np.array(paths)[:, np.newaxis],
    "column of objects": as_objects,
    "nested list": lambda paths: [[path] for path in paths],
    "series": lambda paths: pd.Series(paths, index=[7, 8, 9]),
    "bytes": lambda paths: [encode(path) for path in paths],
    "bytearrays": lambda paths: [bytearray(encode(path)) for path in paths],
    "column of bytes": lambda paths: as_objects([encode(path) for path in paths]),
    "pillow": lambda paths: [Image.fromarray(image) for image in IMAGES],
    "pillow, not loaded": lambda paths: [Image.open(path) for path in paths],
    "column of pillow": lambda p: pd.DataFrame({"a": [Image.open(path) for path in p]}),
    "mixed": lambda p: [p[0], encode(p[1]), Image.open(p[2])],
    "tensor": lambda paths: torch.from_numpy(IMAGES),
    "tensors": lambda paths: [torch.from_numpy(image) for image in IMAGES],
    "torch data set": lambda paths: Images(list(torch.from_numpy(IMAGES))),
    "torch data set of files": Images,
    "rows": lambda p: [{"image": Image.open(path), "label": 1} for path in p],
    "rows with another name": lambda p: [{"photo": Image.open(x), "y": 1} for x in p],
    "rows not decoded": lambda p: [
        {"img": {"bytes": encode(path), "path": "lost"}, "label": 1} for path in p
    ],
    "rows of paths": lambda p: [{"image": {"bytes": None, "path": x}} for x in p],
    "data set of rows": lambda p: Images([{"image": Image.open(x)} for x in p]),
}


@pytest.mark.parametrize("size", [None, 5])
@pytest.mark.parametrize("form", TAKEN)
def test_taken(paths, form, size):
    resizer = ImageResizer(size)
    X = TAKEN[form](paths)
    expected = resizer.transform(IMAGES)
    np.testing.assert_array_equal(resizer.fit_transform(X), expected)
    assert resizer.image_shape_ == expected.shape[1:]


def test_tensor_with_a_gradient():
    X = torch.rand(2, 6, 7, 3, requires_grad=True)
    expected = ImageResizer(4).transform(X.detach().numpy())
    np.testing.assert_array_equal(ImageResizer(4).transform(X), expected)
    np.testing.assert_array_equal(ImageResizer(4).transform(list(X)), expected)


REFUSED = {
    "pairs": (lambda p: Images([(IMAGES[0], 1)]), "X as|pass .image for image, label"),
    "pairs of files": (lambda p: [(p[0], 1)], "pass .image for image, label"),
    "two columns": (
        lambda p: pd.DataFrame({"n": [1, 2, 3], "path": p}),
        r"columns \['n', 'path'\], .* X\['path'\]",
    ),
    "two columns of an array": (lambda p: np.array([p, p]), "pass that column alone"),
    "bytes of one length": (lambda p: np.array([b"a", b"b"]), "drops zeros"),
    "one path": (lambda p: p[0], "a single one"),
    "one image": (lambda p: Image.fromarray(IMAGES[0]), "a single one"),
    "one file": (lambda p: encode(p[0]), "a single one"),
    "rows without an image": (lambda p: [{"a": 1, "b": 2}], r"columns \['a', 'b'\]"),
    "rows with two": (
        lambda p: [dict.fromkeys("ab", Image.fromarray(IMAGES[0]))],
        "an image is expected in one named 'image' or 'img'",
    ),
}


@pytest.mark.parametrize("form", REFUSED)
def test_refused(paths, form):
    make, message = REFUSED[form]
    with pytest.raises(ValueError, match=message):
        ImageResizer(5).transform(make(paths))


MISSING = {
    "None": None,
    "NaN": float("nan"),
    "row": {"image": None},
    "row not decoded": {"bytes": None, "path": None},
    "row of one": {"image": {"bytes": None, "path": None}, "label": 1},
}


@pytest.mark.parametrize("form", MISSING)
@pytest.mark.parametrize("other", ["path", "array"])
def test_missing(paths, form, other):
    """They are named with all others that cannot be read, also if they are first."""
    missing = MISSING[form]
    good = {"path": paths[0], "array": IMAGES[0]}[other]
    X = [missing, good, b"damaged", good, missing]
    for method in ("fit", "transform"):
        with pytest.raises(OSError, match="3 images cannot be read") as caught:
            getattr(ImageResizer(5), method)(X)
        assert list(caught.value.unreadable) == [0, 2, 4]
        assert "X[4] is" in caught.value.unreadable[4]
        assert "the image is missing" in caught.value.unreadable[4]


def test_all_rows_are_missing():
    with pytest.raises(OSError, match=r"X\[0\] is .*: the image is missing"):
        ImageResizer(5).fit([{"image": {"bytes": None, "path": None}}])


@pytest.mark.parametrize("make", [pd.DataFrame, as_objects, pd.Series])
def test_missing_in_a_column(paths, make):
    with pytest.raises(OSError, match=r"X\[0\] is (None|nan): the image is missing"):
        ImageResizer(5).transform(make([None, *paths]))


def test_no_bytes_are_not_missing(paths, monkeypatch, tmp_path):
    """A path beside bytes is that of another machine: it is not read."""
    monkeypatch.chdir(tmp_path)
    for path in ("0.png", None):
        with pytest.raises(OSError, match=r"X\[0\] cannot be read as an image"):
            ImageResizer(5).transform([{"image": {"bytes": b"", "path": path}}])
