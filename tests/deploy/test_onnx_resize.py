"""Resizing in ONNX compared with ImageResizer."""

import numpy as np
import pytest

from sklearn_iis import ImageResizer
from sklearn_iis.deploy._onnx_check import MAX_LEVELS
from sklearn_iis.deploy._onnx_resize import Images, make_graph

onnx = pytest.importorskip("onnx", reason="needs an extra")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs an extra")

SIZE = (24, 30)


def draw(size, channels, n=2):
    shape = (n, *size) if channels == 1 else (n, *size, channels)
    return np.random.RandomState(0).randint(0, 256, shape).astype(np.uint8)


def run(resizer, channels, batches, input_size=None):
    graph = make_graph(resizer, Images(channels, input_size, SIZE), 10)
    onnx.checker.check_model(graph, full_check=True)
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    for images in batches:
        (resized,) = session.run(None, {"images": images})
        yield resized[:, 0] if channels == 1 else np.moveaxis(resized, 1, -1)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("aspect", ["stretch", "crop", "pad"])
def test_images_of_any_size(aspect, interpolation, channels):
    """Larger, smaller, of another shape, of one pixel; by rounding at most."""
    resizer = ImageResizer(
        SIZE,
        aspect=aspect,
        interpolation=interpolation,
        background=(10, 200, 30),
        channels="last",
    )
    # Without ties: (25, 30) has pixels whose centre is on the border of two.
    sizes = [SIZE, (20, 20), (50, 10), (7, 99), (100, 125), (72, 90), (1, 1), (26, 30)]
    batches = [draw(size, channels) for size in sizes]
    for images, found in zip(batches, run(resizer, channels, batches), strict=True):
        expected = resizer.transform(images)
        off = abs(expected.astype(int) - found)
        assert off.max() <= (0 if interpolation == "nearest" else MAX_LEVELS)
        assert (off > 0).mean() < 0.1
        if images.shape[1:3] == SIZE:
            assert not off.any()


def test_a_fixed_size():
    """Also that of the network itself, where nothing is to be done."""
    resizer = ImageResizer(SIZE, interpolation="nearest")
    for size in ((48, 60), SIZE):
        images = draw(size, 3)
        (found,) = run(resizer, 3, [images], size)
        np.testing.assert_array_equal(found, resizer.transform(images))
        with pytest.raises(Exception, match="Got invalid dimensions"):
            [*run(resizer, 3, [images[:, 1:]], size)]


@pytest.mark.parametrize("aspect", ["crop", "pad"])
def test_every_size_comes_out_where_it_should(aspect):
    """Rows and columns are those of Python, whatever is rounded half to even."""
    resizer = ImageResizer(SIZE, aspect=aspect, background="black", channels="last")
    sizes = [(h, w) for h in range(20, 50, 3) for w in range(20, 70, 5)]
    batches = [np.full((1, *size, 3), 255, np.uint8) for size in sizes]
    for images, found in zip(batches, run(resizer, 3, batches), strict=True):
        np.testing.assert_array_equal(found, resizer.transform(images))
