"""Aspect: cropped as Pillow's `fit`, padded as its `pad`, with the right colour."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from sklearn_iis import ImageResizer
from sklearn_iis.images._resample import find_crop, find_inner_size

SHAPES = [(40, 60), (60, 40), (40, 40), (7, 90), (20, 30)]


def make_image(height, width):
    """An image of waves, smooth enough for any way to resize it."""
    row, column = np.mgrid[:height, :width]
    waves = [np.sin(row / 9), np.cos(column / 11), np.sin((row + column) / 15)]
    return (127 + 100 * np.dstack(waves)).astype(np.uint8)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [(20, 30), (16, 16), (50, 10)])
@pytest.mark.parametrize(("aspect", "function"), [("crop", "fit"), ("pad", "pad")])
def test_as_pillow(shape, size, aspect, function):
    image = make_image(*shape)
    options = {"color": (255, 128, 0)} if aspect == "pad" else {}
    resample = Image.Resampling.BILINEAR
    expected = np.asarray(
        getattr(ImageOps, function)(
            Image.fromarray(image), size[::-1], resample, **options
        )
    ).astype(int)
    resizer = ImageResizer(size, aspect=aspect, background="#ff8000")
    for X in ([image], image[np.newaxis]):
        result = resizer.transform(X)[0].astype(int)
        assert result.shape == (*size, 3)
        # Half a pixel, where the part is no whole number of them.
        assert np.abs(result - expected).mean() < 8


def test_crop_is_centred():
    assert find_crop((10, 20), (5, 5)) == (slice(0, 10), slice(5, 15))
    assert find_crop((20, 10), (2, 4)) == (slice(7, 12), slice(0, 10))
    assert find_crop((1, 90), (50, 1)) == (slice(0, 1), slice(44, 45))


def test_inner_size():
    assert find_inner_size((10, 20), (8, 8)) == (4, 8)
    assert find_inner_size((1, 900), (8, 8)) == (1, 8)


@pytest.mark.parametrize(
    ("dtype", "channels", "fill"),
    [
        (np.uint8, (), 76),
        (np.uint8, (1,), 76),
        (np.uint8, (2,), (76, 255)),
        (np.uint8, (3,), (255, 0, 0)),
        (np.uint8, (4,), (255, 0, 0, 255)),
        (np.float32, (3,), (1, 0, 0)),
        (np.float64, (), 76 / 255),
    ],
)
def test_padding(dtype, channels, fill):
    X = np.zeros((2, 4, 8, *channels), dtype)
    padded = ImageResizer(8, aspect="pad", background="red").transform(X)
    np.testing.assert_allclose(
        padded[:, :2], np.broadcast_to(fill, (2, 2, 8, *channels))
    )
    assert not padded[:, 2:6].any()


def test_padding_of_floats_beyond_1():
    X = np.full((2, 4, 8), 200.0)
    with pytest.raises(ValueError, match=r"pixel of 200: .* background=\"black\""):
        ImageResizer(8, aspect="pad").transform(X)
    padded = ImageResizer(8, aspect="pad", background="black").transform(X)
    assert padded.sum() == X.sum()


@pytest.mark.parametrize(("scale", "opaque"), [(1, 1), (1.2, 1), (200, 255)])
@pytest.mark.parametrize("n_channels", [2, 4])
def test_alpha_around_floats(scale, opaque, n_channels):
    X = np.full((1, 2, 4, n_channels), scale, np.float32)
    padded = ImageResizer(8, aspect="pad", background="black").transform(X)
    assert padded[0, 0, 0].tolist() == [0] * (n_channels - 1) + [opaque]


@pytest.mark.parametrize("bright", [(2, 4), (4, 4)])
def test_padding_of_floats_of_several_scales(bright):
    dark, bright = np.ones((2, 4), np.float32), np.full(bright, 200, np.float32)
    for X in ([dark, bright], [bright, dark]):
        with pytest.raises(ValueError, match="pixel of 200"):
            ImageResizer(4, aspect="pad").transform(X)
        ImageResizer(4, aspect="pad", background="black").transform(X)
    alone = np.full((4, 4), 200, np.float32)
    ImageResizer(4, aspect="pad").transform([alone, alone / 200])  # nothing is padded


def test_files_are_cropped_and_padded(tmp_path):
    image = make_image(40, 60)
    Image.fromarray(image).save(tmp_path / "a.png")
    for aspect in ("crop", "pad"):
        resizer = ImageResizer(16, aspect=aspect)
        expected = resizer.transform([image])
        np.testing.assert_array_equal(resizer.transform([tmp_path / "a.png"]), expected)
