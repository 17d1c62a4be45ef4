"""fetch_stl10: images, classes and folds, from files of the published format."""

import numpy as np
import pytest
from PIL import Image

from sklearn_iis import ImageResizer
from sklearn_iis.datasets import _stl10, fetch_stl10
from tests.datasets.file_server import make_tar

N_IMAGES = {"train": 10, "test": 6}
FOLDS = np.array([np.random.default_rng(fold).permutation(10)[:4] for fold in range(3)])


def photographs(subset):
    """Colour images, (n, 96, 96, 3), that differ in all their axes and are smooth."""
    rng = np.random.default_rng(N_IMAGES[subset])
    coarse = rng.integers(0, 256, (N_IMAGES[subset], 12, 12, 3), dtype=np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)


def members():
    """The files of the archive, by their names."""
    files = {"unlabeled_X.bin": b"large"}
    for subset, n_images in N_IMAGES.items():
        # Channel by channel, and in each column by column.
        pixels = [
            image[:, :, channel].tobytes(order="F")
            for image in photographs(subset)
            for channel in range(3)
        ]
        files[f"{subset}_X.bin"] = b"".join(pixels)
        files[f"{subset}_y.bin"] = bytes(1 + n % 2 for n in range(n_images))
    files["class_names.txt"] = b"airplane\nbird\n"
    lines = [" ".join(map(str, fold)) + " \n" for fold in FOLDS]
    files["fold_indices.txt"] = "".join(lines).encode()
    return {f"stl10_binary/{name}": content for name, content in files.items()}


@pytest.fixture
def published(server, monkeypatch):
    """The server, with a small archive instead of the published one."""
    content = make_tar(*members().items())
    monkeypatch.setattr(_stl10, "ARCHIVE", server.add("stl10_binary.tar.gz", content))
    return server


@pytest.fixture
def png_files(tmp_path):
    """The training images as files, for comparison."""
    paths = [str(tmp_path / f"{number}.png") for number in range(10)]
    for path, image in zip(paths, photographs("train"), strict=True):
        Image.fromarray(image).save(path)
    return paths


@pytest.mark.parametrize("subset", ["train", "test"])
def test_images_and_classes(published, tmp_path, subset):
    images = fetch_stl10(subset=subset, data_home=tmp_path)
    assert images.data.dtype == np.uint8
    assert images.data.flags.c_contiguous
    assert type(images.data) is np.ndarray
    np.testing.assert_array_equal(images.data, photographs(subset))
    assert images.target.tolist() == [n % 2 for n in range(N_IMAGES[subset])]
    assert images.target_names.tolist() == ["airplane", "bird"]
    assert "96 x 96" in images.DESCR


def test_folds(published, tmp_path):
    """A search trains on the first fold, and validates on all other images."""
    images = fetch_stl10(data_home=tmp_path)
    np.testing.assert_array_equal(images.folds, FOLDS)
    [(fold, others)] = images.cv
    np.testing.assert_array_equal(fold, FOLDS[0])
    assert sorted([*fold, *others]) == list(range(10))
    assert not {"cv", "folds"} & set(fetch_stl10(subset="test", data_home=tmp_path))


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("size", [None, 96, 24, (16, 40)])
def test_like_images_from_files(published, tmp_path, png_files, mode, size):
    """The same pixels as ImageResizer reads from lossless files of the images."""
    images = fetch_stl10(data_home=tmp_path, size=size, mode=mode)
    from_files = ImageResizer(size, mode=mode).transform(png_files)
    np.testing.assert_array_equal(images.data, from_files)


def test_return_X_y(published, tmp_path):
    images = fetch_stl10(data_home=tmp_path, size=8)
    X, y = fetch_stl10(data_home=tmp_path, size=8, return_X_y=True)
    np.testing.assert_array_equal(X, images.data)
    np.testing.assert_array_equal(y, images.target)


def test_second_call_needs_no_network(published, tmp_path):
    """And what is kept lacks the images without labels, and the archive."""
    fetch_stl10(data_home=tmp_path)
    published.close()
    fetch_stl10(subset="test", data_home=tmp_path, download_if_missing=False)
    kept = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert kept == {
        *("stl10", "stl10/stl10_binary"),
        *(f"stl10/{name}" for name in members() if "unlabeled" not in name),
    }
    assert published.requests == ["stl10_binary.tar.gz"]


def test_download_if_missing(published, tmp_path):
    with pytest.raises(OSError, match="`download_if_missing` is False"):
        fetch_stl10(data_home=tmp_path, download_if_missing=False)
    assert published.requests == []


@pytest.mark.parametrize("name", ["train_X.bin", "fold_indices.txt"])
def test_archive_that_lacks_a_file(published, tmp_path, monkeypatch, name):
    files = members()
    del files[f"stl10_binary/{name}"]
    archive = published.add("stl10_binary.tar.gz", make_tar(*files.items()))
    monkeypatch.setattr(_stl10, "ARCHIVE", archive)
    with pytest.raises(OSError, match=f"lacks 1 files, 'stl10_binary/{name}'"):
        fetch_stl10(data_home=tmp_path)


def test_damaged_file(published, tmp_path):
    fetch_stl10(data_home=tmp_path)
    path = tmp_path / "stl10/stl10_binary/train_X.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(OSError, match=r"train_X\.bin' is damaged: 276480 bytes are"):
        fetch_stl10(data_home=tmp_path)


@pytest.mark.parametrize("size", [(0, "x", 3), (8,), (8, -1)])
def test_size_is_checked_before_anything_is_downloaded(published, tmp_path, size):
    with pytest.raises(ValueError, match="`size` must be a positive int"):
        fetch_stl10(data_home=tmp_path, size=size)
    assert published.requests == []


@pytest.mark.parametrize(
    ("parameter", "value"),
    [("subset", "fold"), ("size", 0), ("mode", "P"), ("n_retries", -1), ("delay", -1)],
)
def test_parameters_are_checked(parameter, value):
    with pytest.raises(ValueError, match=f"'{parameter}' parameter .* Got '?{value}"):
        fetch_stl10(**{parameter: value})
