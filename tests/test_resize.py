"""ImageResizer: values against Pillow and closed forms, every kind of input, errors."""

import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn
from PIL import Image
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_iis import ImageResizer
from sklearn_iis.images import _decode, _read, _resample

MODES = {(): "L", (3,): "RGB", (4,): "CMYK"}


@parametrize_with_checks([ImageResizer()])
def test_common(estimator, check):
    """Scikit-learn's common tests."""
    check(estimator)


def random_images(*shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, 256, shape).astype(dtype)


def smooth_image(height, width):
    """An image without detail, which JPEG keeps nearly as it is."""
    row, column = np.mgrid[:height, :width]
    image = np.stack([row / height, column / width, (row + column) / (height + width)])
    return (255 * np.moveaxis(image, 0, -1)).astype(np.uint8)


@pytest.fixture
def image_files(tmp_path):
    """Five images of one size, and the PNG files, which are lossless, they lie in."""
    X = random_images(5, 20, 30, 3)
    paths = [tmp_path / f"{i}.png" for i in range(5)]
    for image, path in zip(X, paths, strict=True):
        Image.fromarray(image).save(path)
    return X, paths


def triangle_weights(n_in, n_out):
    """Antialiased linear interpolation in one dimension, as a matrix."""
    scale = n_in / n_out
    centre = (np.arange(n_out)[:, np.newaxis] + 0.5) * scale
    distance = np.abs(np.arange(n_in) + 0.5 - centre) / max(scale, 1)
    weights = np.maximum(1 - distance, 0)
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("interpolation", "atol"), [("nearest", 0), ("bilinear", 1), ("bicubic", 2)]
)
@pytest.mark.parametrize("size", [(16, 16), (7, 20), (64, 50), (1, 1)])
@pytest.mark.parametrize("channels", MODES)
def test_uint8_as_pillow(interpolation, atol, size, channels):
    # Half the contrast, as bicubic overshoots; what is clipped or rounded on the way
    # depends on whether rows or columns come first.
    X = random_images(3, 40, 33, *channels) // 2 + 64
    resized = ImageResizer(size, interpolation=interpolation).transform(X)
    resample = Image.Resampling[interpolation.upper()]
    images = [Image.frombytes(MODES[channels], (33, 40), image) for image in X]
    expected = np.stack([image.resize(size[::-1], resample) for image in images])
    assert resized.dtype == np.uint8
    np.testing.assert_allclose(resized.astype(int), expected.astype(int), atol=atol)


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 1e-5), (np.float64, 1e-12)])
@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_float_as_matrix_product(dtype, rtol, channels):
    """Bilinear interpolation is a product with a matrix from either side."""
    X = random_images(2, 12, 15, channels, dtype=dtype)
    resized = ImageResizer(size=(5, 20)).transform(X)
    rows, columns = triangle_weights(12, 5), triangle_weights(15, 20)
    assert resized.dtype == dtype
    np.testing.assert_allclose(
        resized, np.einsum("ih,nhwc,jw->nijc", rows, X, columns), rtol=rtol
    )


def test_nearest_takes_the_centre_pixel():
    X = random_images(2, 12, 15)
    resized = ImageResizer((4, 5), interpolation="nearest").transform(X)
    np.testing.assert_array_equal(resized, X[:, 1::3, 1::3])


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_antialiased(interpolation):
    """A checkerboard of single pixels shrinks to grey, not to black and white."""
    X = 255.0 * (np.indices((1, 64, 64)).sum(axis=0) % 2)
    resized = ImageResizer(size=8, interpolation=interpolation).transform(X)
    np.testing.assert_allclose(resized[:, 1:-1, 1:-1], 127.5, atol=2)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_other_images_do_not_matter(dtype, monkeypatch):
    """Neither the other images nor the batches they are resized in change a value."""
    X = random_images(7, 20, 20, 3, dtype=dtype)
    resizer = ImageResizer(size=9)
    alone = np.concatenate([resizer.transform(X[i : i + 1]) for i in range(7)])
    np.testing.assert_array_equal(resizer.transform(X), alone)
    monkeypatch.setattr(_resample, "BATCH_BYTES", 3 * X[0].nbytes)
    np.testing.assert_array_equal(resizer.transform(X), alone)


@pytest.mark.parametrize("size", [None, (6, 8)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float16, np.float64])
@pytest.mark.parametrize("shape", [(3, 6, 8), (3, 6, 8, 3)])
def test_no_copy_at_the_right_size(size, dtype, shape):
    X = np.ones(shape, dtype=dtype)
    resizer = ImageResizer(size)
    assert resizer.transform(X) is X
    assert resizer.fit_transform(X) is X


@pytest.mark.parametrize(
    "layout",
    [lambda X: X[::-1], np.asfortranarray, lambda X: X[:, ::2, ::2]],
    ids=["reversed", "fortran", "strided"],
)
def test_any_memory_layout(layout):
    X = random_images(4, 20, 20, 3)
    X.flags.writeable = False
    X = layout(X)
    resizer = ImageResizer(size=6)
    np.testing.assert_array_equal(resizer.transform(X), resizer.transform(X.copy("C")))


@pytest.mark.parametrize(
    "container",
    [
        list,
        tuple,
        lambda paths: [str(path) for path in paths],
        lambda paths: np.array([str(path) for path in paths]),
        lambda paths: np.array(paths, dtype=object),
        lambda paths: pd.Series([str(path) for path in paths], index=[9, 8, 7, 6, 5]),
    ],
    ids=["list", "tuple", "str", "str array", "object array", "series"],
)
@pytest.mark.parametrize("size", [None, 8])
def test_paths(image_files, container, size):
    """Image files give what the array of their images gives."""
    X, paths = image_files
    resizer = ImageResizer(size)
    np.testing.assert_array_equal(
        resizer.fit_transform(container(paths)), resizer.transform(X)
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_unequal_images(dtype):
    images = [random_images(h, w, 3, dtype=dtype) for h, w in [(9, 9), (30, 5), (4, 6)]]
    as_objects = np.empty(3, dtype=object)
    as_objects[:] = images
    resizer = ImageResizer(size=(4, 6))
    expected = np.concatenate([resizer.transform(image[None]) for image in images])
    np.testing.assert_array_equal(expected[2], images[2])
    for X in (images, as_objects):
        resized = resizer.fit_transform(X)
        assert resized.dtype == dtype
        np.testing.assert_array_equal(resized, expected)


def test_equal_images_keep_their_size():
    X = random_images(3, 5, 6)
    np.testing.assert_array_equal(ImageResizer().transform(list(X)), X)


@pytest.mark.parametrize("stored", ["L", "RGB", "RGBA", "P", "CMYK"])
@pytest.mark.parametrize(("mode", "shape"), [("L", (12, 12)), ("RGB", (12, 12, 3))])
def test_mode(tmp_path, stored, mode, shape):
    """Files come out all grey or all in colour, however they are stored."""
    path = tmp_path / "image.tiff"
    image = Image.fromarray(smooth_image(20, 20)).convert(stored)
    image.save(path)
    resizer = ImageResizer(size=12, mode=mode)
    resized = resizer.transform([path])
    expected = resizer.transform(np.asarray(image.convert(mode))[np.newaxis])
    assert resized.shape == (1, *shape)
    np.testing.assert_array_equal(resized, expected)


@pytest.mark.parametrize(
    ("size", "scale"), [(None, 1), (80, 1), (41, 1), (40, 2), (20, 4), (10, 8), (5, 8)]
)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_jpeg_is_decoded_at_reduced_scale(tmp_path, monkeypatch, size, scale, mode):
    """The images stay twice as large as `size`, and the result nearly the same."""
    path = tmp_path / "image.jpg"
    Image.fromarray(smooth_image(160, 240)).save(path, quality=95)
    decoder = _read.make_decoder(mode, (0, 0, 0), size and (size, size))
    decoded = decoder.decode(path, "image")
    assert decoded.shape[:2] == (160 / scale, 240 / scale)
    resizer = ImageResizer(size, mode=mode)
    drafted = resizer.transform([path]).astype(int)
    monkeypatch.setattr(_decode, "DRAFT_SCALE", 1000)
    np.testing.assert_allclose(drafted, resizer.transform([path]).astype(int), atol=3)


def test_exif_orientation(tmp_path):
    """A photograph taken with the camera turned comes out upright."""
    path = tmp_path / "turned.jpg"
    image = Image.fromarray(smooth_image(160, 40))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    image.rotate(90, expand=True).save(path, exif=exif, quality=95)
    for size in ((160, 40), (20, 5)):
        resizer = ImageResizer(size)
        upright = resizer.transform([path]).astype(int)
        expected = resizer.transform([np.asarray(image)]).astype(int)
        assert np.abs(upright - expected).mean() < 2


def test_files_that_are_no_images(tmp_path, image_files):
    """The message names the file."""
    paths = image_files[1]
    with pytest.raises(FileNotFoundError, match=r"absent\.png"):
        ImageResizer(size=4).transform([*paths, tmp_path / "absent.png"])
    text = tmp_path / "text.jpg"
    text.write_text("no image")
    truncated = tmp_path / "truncated.png"
    truncated.write_bytes(paths[0].read_bytes()[:200])
    deep = tmp_path / "deep.tif"
    Image.fromarray(np.full((4, 4), 3000, dtype=np.int32)).save(deep)
    for path in (text, truncated, deep, tmp_path):
        with pytest.raises(OSError, match=rf"{path.name}' cannot be read as an image"):
            ImageResizer(size=4).transform([*paths, str(path)])


@pytest.mark.parametrize("size", [0, -1, 2.5, "8", (8,), (8, 0), (8, 8, 3), (8, 2.5)])
def test_size_is_refused(size):
    X = random_images(2, 6, 6)
    resizer = ImageResizer(size)
    for method in (resizer.fit, resizer.transform):
        with pytest.raises(ValueError, match=r"size.* must be .*[Gg]ot"):
            method(X)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros((0, 4, 4)), r"0 sample\(s\)"),
        (np.zeros((2, 0, 4)), r"at least one pixel; got \(2, 0, 4\)"),
        (np.zeros((2, 4, 4, 3, 1)), r"got \(2, 4, 4, 3, 1\)"),
        (np.full((2, 4, 4), np.nan), "contains NaN"),
        (np.full((2, 4, 4), np.inf), "contains infinity"),
        (np.zeros((2, 4, 4), dtype=complex), "Complex data not supported"),
        (np.zeros((2, 4, 4), dtype=np.int64), "got int64"),
        (np.zeros((2, 16)), r"\(2, 16\) holds no images"),
        (np.zeros(4), "Expected 2D array, got 1D"),
        ("image.png", "a single one, 'image.png'"),
        ([np.zeros((4, 4)), np.full((4, 5), np.nan)], r"X\[1\] contains NaN"),
        ([np.zeros((4, 4)), np.zeros((4, 4, 3))], r"X\[1\] \(8, 8, 3\).*not mix"),
        ([np.zeros((4, 4)), np.zeros((4, 4), np.uint8)], r"X\[1\].*uint8"),
        ([np.zeros((4, 4)), np.zeros(4)], r"X\[1\] must be the path"),
    ],
)
def test_images_are_refused(X, message):
    with pytest.raises(ValueError, match=message):
        ImageResizer(size=8).fit_transform(X)


def test_unequal_images_without_a_size():
    with pytest.raises(ValueError, match=r"size=None, X\[0\] .*\(4, 4\).*\(5, 4\)"):
        ImageResizer().fit_transform([np.zeros((4, 4)), np.zeros((5, 4))])


def test_size_may_change_after_fit():
    """Stateless: `fit` on one size, `transform` to another, as a search does."""
    X = random_images(3, 12, 12, 3)
    resizer = ImageResizer(size=6).fit(X)
    assert resizer.set_params(size=4).transform(X).shape == (3, 4, 4, 3)


def test_get_feature_names_out():
    X = random_images(2, 6, 6)
    names = ImageResizer(size=(1, 2)).fit(X).get_feature_names_out()
    assert names.tolist() == ["pixel_0_0", "pixel_0_1"]
    X = random_images(2, 1, 1, 3)
    names = ImageResizer().fit(X).get_feature_names_out()
    assert names.tolist() == ["pixel_0_0_0", "pixel_0_0_1", "pixel_0_0_2"]


def test_tables_keep_their_feature_names():
    X = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]})
    resizer = ImageResizer().set_output(transform="pandas").fit(X)
    assert resizer.get_feature_names_out().tolist() == ["a", "b"]
    pd.testing.assert_frame_equal(resizer.transform(X), X)


@pytest.mark.parametrize("container", ["pandas", "polars"])
@pytest.mark.parametrize("size", [None, 4])
def test_images_are_no_table(container, size, image_files):
    """They come out as an array where data frames are asked for."""
    X, paths = image_files
    expected = ImageResizer(size).transform(X)
    chosen = ImageResizer(size).set_output(transform=container)
    assert chosen.set_output() is chosen
    with sklearn.config_context(transform_output=container):
        for resizer in (ImageResizer(size), chosen, clone(chosen)):
            for images in (X, list(X), paths):
                for resized in (
                    resizer.fit_transform(images),
                    resizer.transform(images),
                ):
                    assert type(resized) is np.ndarray
                    np.testing.assert_array_equal(resized, expected)


def flatten(X):
    return pd.DataFrame(X.reshape(len(X), -1)).add_prefix("pixel_")


@pytest.mark.parametrize("is_global", [False, True])
def test_steps_after_images_return_tables(is_global, image_files):
    """In a pipeline, and in one that is part of a union or takes a column."""
    X, paths = image_files
    table = pd.DataFrame({"path": list(map(str, paths)), "age": np.arange(5.0)})
    pixels = make_pipeline(ImageResizer(4), FunctionTransformer(flatten), PCA(2))
    columns = ColumnTransformer(
        [("pixels", pixels, "path"), ("age", "passthrough", ["age"])]
    )
    for model, data, n_columns in (
        (pixels, X, 2),
        (make_union(pixels, clone(pixels)), paths, 4),
        (columns, table, 3),
    ):
        if not is_global:
            model.set_output(transform="pandas")
        with sklearn.config_context(transform_output="pandas" if is_global else None):
            result = model.fit_transform(data)
        assert isinstance(result, pd.DataFrame)
        assert result.shape == (5, n_columns)


def test_tables_are_tables_where_all_are():
    X = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]}, index=[7, 8])
    with sklearn.config_context(transform_output="pandas"):
        pd.testing.assert_frame_equal(ImageResizer().fit_transform(X), X)
        as_array = ImageResizer().set_output(transform="default").fit_transform(X)
    assert type(as_array) is np.ndarray


@pytest.mark.parametrize("copy", [clone, lambda e: pickle.loads(pickle.dumps(e))])
def test_copies_keep_the_parameters(copy):
    resizer = ImageResizer((3, 4), interpolation="nearest", mode="L")
    assert copy(resizer).get_params() == resizer.get_params()


def test_cross_validation_over_paths(image_files):
    """A list of files is split like any other X, and is read inside the pipeline."""
    _, paths = image_files
    model = make_pipeline(ImageResizer(size=4), DummyClassifier(strategy="constant"))
    model.set_params(dummyclassifier__constant=1)
    scores = cross_val_score(model, paths, [1, 1, 1, 0, 0], cv=[([0, 3], [1, 2, 4])])
    assert scores == pytest.approx([2 / 3])


def test_a_missing_image_is_an_error():
    with pytest.raises(OSError, match=r"X\[1\] is None: the image is missing"):
        ImageResizer(2).fit_transform([np.zeros((4, 4)), None])
