"""fetch_flowers102: parts, labels and images, from files of the published format."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from sklearn.dummy import DummyClassifier
from sklearn.pipeline import Pipeline

from sklearn_iis import IISSearchCV, ImageResizer
from sklearn_iis.datasets import _flowers102, fetch_flowers102
from tests.datasets.file_server import make_tar

# Ten images of three classes, with the types and shapes of the published files.
LABELS = np.array([[3, 1, 2, 2, 1, 3, 1, 3, 2, 3]], dtype=np.uint8)
PARTS = {
    "trnid": np.array([[5, 3, 1]], dtype=np.uint16),
    "valid": np.array([[2, 9, 6]], dtype=np.uint16),
    "tstid": np.array([[10, 4, 7, 8]], dtype=np.uint16),
}


def mat(**variables):
    buffer = io.BytesIO()
    savemat(buffer, variables)
    return buffer.getvalue()


def jpeg(seed):
    """An image of its own shape."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (20 + seed, 30, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture
def published(server, monkeypatch):
    """The server, with small files instead of the published ones."""
    images = [(f"jpg/image_{n:05d}.jpg", jpeg(n)) for n in range(1, 11)]
    for constant, name, content in [
        ("IMAGES", "102flowers.tgz", make_tar(*reversed(images))),
        ("LABELS", "imagelabels.mat", mat(labels=LABELS)),
        ("PARTS", "setid.mat", mat(**PARTS)),
    ]:
        monkeypatch.setattr(_flowers102, constant, server.add(name, content))
    return server


def numbers(filenames):
    return [int(name[-9:-4]) for name in filenames]


def test_train(published, tmp_path):
    """The parts for training and validation one after the other, and where they are."""
    flowers = fetch_flowers102(data_home=tmp_path)
    assert numbers(flowers.filenames) == [5, 3, 1, 2, 9, 6]
    assert flowers.filenames[0] == str(tmp_path / "flowers102/jpg/image_00005.jpg")
    assert flowers.data.tolist() == flowers.filenames.tolist()
    assert flowers.target.tolist() == [0, 1, 2, 0, 1, 2]
    assert flowers.target_names.tolist() == ["1", "2", "3"]
    [(train, validation)] = flowers.cv
    assert (train.tolist(), validation.tolist()) == ([0, 1, 2], [3, 4, 5])
    assert "102 species" in flowers.DESCR


def test_test(published, tmp_path):
    flowers = fetch_flowers102(subset="test", data_home=str(tmp_path))
    assert numbers(flowers.filenames) == [10, 4, 7, 8]
    assert flowers.target.tolist() == [2, 1, 0, 2]
    assert "cv" not in flowers


@pytest.mark.parametrize(("mode", "shape"), [("RGB", (6, 8, 12, 3)), ("L", (6, 8, 12))])
def test_images(published, tmp_path, mode, shape):
    """With a size: what ImageResizer makes of the paths."""
    flowers = fetch_flowers102(data_home=tmp_path, size=(8, 12), mode=mode)
    resizer = ImageResizer((8, 12), mode=mode)
    assert flowers.data.shape == shape
    np.testing.assert_array_equal(flowers.data, resizer.transform(flowers.filenames))


def test_return_X_y(published, tmp_path):
    flowers = fetch_flowers102(data_home=tmp_path, size=8)
    X, y = fetch_flowers102(data_home=tmp_path, size=8, return_X_y=True)
    np.testing.assert_array_equal(X, flowers.data)
    np.testing.assert_array_equal(y, flowers.target)


def test_second_call_needs_no_network(published, tmp_path):
    """And only the images and tables are kept, in the folder that was named."""
    first = fetch_flowers102(data_home=tmp_path / "home")
    published.close()
    second = fetch_flowers102(data_home=tmp_path / "home", download_if_missing=False)
    assert second.filenames.tolist() == first.filenames.tolist()
    kept = (tmp_path / "home/flowers102").iterdir()
    assert {path.name for path in kept} == {"imagelabels.mat", "jpg", "setid.mat"}
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_default_data_home(published, tmp_path, monkeypatch):
    """That of scikit-learn."""
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path))
    flowers = fetch_flowers102()
    assert flowers.filenames[0].startswith(str(tmp_path / "flowers102"))


def test_download_if_missing(published, tmp_path):
    with pytest.raises(OSError, match="`download_if_missing` is False"):
        fetch_flowers102(data_home=tmp_path, download_if_missing=False)
    assert published.requests == []


def test_every_labelled_image_is_there(published, tmp_path, monkeypatch):
    archive = published.add("102flowers.tgz", make_tar(("jpg/image_00001.jpg", b"")))
    monkeypatch.setattr(_flowers102, "IMAGES", archive)
    with pytest.raises(OSError, match=r"lacks 9 files, 'jpg/image_00002\.jpg' among"):
        fetch_flowers102(data_home=tmp_path)


def test_broken_download(published, tmp_path):
    """The next call goes on with what is missing."""
    published.broken["102flowers.tgz"] = 1
    with pytest.raises(OSError, match="IncompleteRead"):
        fetch_flowers102(data_home=tmp_path, n_retries=0)
    assert len(fetch_flowers102(data_home=tmp_path).data) == 6
    assert published.requests.count("102flowers.tgz") == 2
    assert published.requests.count("imagelabels.mat") == 1


def test_search(published, tmp_path):
    """`cv` is what a search takes."""
    flowers = fetch_flowers102(data_home=tmp_path)
    pipe = Pipeline([("resize", ImageResizer()), ("dummy", DummyClassifier())])
    search = IISSearchCV(
        pipe,
        {"dummy__strategy": ["uniform", "prior"]},
        sizes=(4, 8),
        n_iter=(1, 1),
        cv=flowers.cv,
        random_state=0,
    )
    search.fit(flowers.data, flowers.target)
    assert search.n_splits_ == 1


@pytest.mark.parametrize(
    ("parameter", "value"),
    [("subset", "valid"), ("size", 0), ("mode", "P"), ("n_retries", -1), ("delay", -1)],
)
def test_parameters_are_checked(parameter, value):
    with pytest.raises(ValueError, match=f"'{parameter}' parameter .* Got '?{value}"):
        fetch_flowers102(**{parameter: value})
