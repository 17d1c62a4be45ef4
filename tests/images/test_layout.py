"""Channels first, single images, and images in rows: converted, or refused."""

import numpy as np
import pytest
import torch

from sklearn_iis import ImageResizer

LAST = np.random.default_rng(0).integers(0, 256, (4, 12, 20, 3)).astype(np.uint8)
FIRST = LAST.transpose(0, 3, 1, 2)

FORMS = {
    "array": lambda X: X,
    "arrays": list,
    "tensor": lambda X: torch.from_numpy(X.copy()),
    "tensors": lambda X: list(torch.from_numpy(X.copy())),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [None, 6])
@pytest.mark.parametrize("n_channels", [1, 3, 4])
def test_channels_first(form, size, n_channels):
    last = np.concatenate([LAST, LAST], axis=-1)[..., :n_channels]
    first = last.transpose(0, 3, 1, 2)
    for method in ("fit", "transform"):
        with pytest.raises(ValueError, match=r'channels first.* set channels="first"'):
            getattr(ImageResizer(size), method)(FORMS[form](first))
    resized = ImageResizer(size, channels="first").fit_transform(FORMS[form](first))
    np.testing.assert_array_equal(resized, ImageResizer(size).transform(last))
    with pytest.raises(ValueError, match='channels last, but channels="first"'):
        ImageResizer(size, channels="first").transform(FORMS[form](last))
    as_said = ImageResizer(size, channels="last").transform(FORMS[form](first))
    assert as_said.shape == (4, *((size,) * 2 if size else first.shape[1:3]), 20)


def test_single_image():
    with pytest.raises(ValueError, match=r"single image .* X\[np.newaxis\]"):
        ImageResizer(6).transform(LAST[0])
    assert ImageResizer(6, channels="last").transform(LAST[0]).shape == (12, 6, 6)


@pytest.mark.parametrize(
    ("X", "params"),
    [
        (FIRST, {"row_shape": (3, 12, 20), "channels": "first"}),
        (LAST, {"row_shape": (12, 20, 3)}),
    ],
)
@pytest.mark.parametrize("size", [None, 6])
def test_rows(X, params, size):
    rows = X.reshape(4, -1)
    resizer = ImageResizer(size, **params)
    expected = ImageResizer(size).transform(LAST)
    np.testing.assert_array_equal(resizer.fit_transform(rows), expected)
    assert resizer.image_shape_ == expected.shape[1:]
    assert len(resizer.get_feature_names_out()) == expected[0].size


def test_grey_rows():
    rows = LAST[..., 0].reshape(4, -1)
    resized = ImageResizer(6, row_shape=(12, 20)).transform(rows)
    np.testing.assert_array_equal(resized, ImageResizer(6).transform(LAST[..., 0]))


@pytest.mark.parametrize(
    ("row_shape", "message"),
    [
        ((3, 12, 20), "channels first"),
        ((12, 12), r"has 144 values, but the rows of X have 720"),
        ((720,), "tuple of two or three"),
        ((24.0, 30), "positive ints"),
    ],
)
def test_rows_are_refused(row_shape, message):
    with pytest.raises(ValueError, match=message):
        ImageResizer(6, row_shape=row_shape).transform(FIRST.reshape(4, -1))


@pytest.mark.parametrize("shape", [(1, 40, 8), (4, 40, 5), (3, 12, 16), (1, 99, 20)])
def test_low_images_of_many_channels(shape):
    X = np.zeros((2, *shape), np.uint8)
    for images in (X, list(X)):
        assert ImageResizer(6).transform(images).shape == (2, 6, 6, shape[-1])


@pytest.mark.parametrize("shape", [(3, 5, 5), (1, 17, 34), (4, 34, 17)])
def test_first_by_their_sides(shape):
    with pytest.raises(ValueError, match="channels first"):
        ImageResizer(6).transform(np.zeros((2, *shape), np.uint8))
