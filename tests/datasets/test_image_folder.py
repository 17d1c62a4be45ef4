"""load_image_folder: what is read, in which order, and what is refused."""

import numpy as np
import pytest
from PIL import Image

from sklearn_iis import ImageResizer
from sklearn_iis.datasets import load_image_folder


@pytest.fixture
def folder(tmp_path):
    """Images of two classes, and files besides that are none."""
    rng = np.random.default_rng(0)
    for name, shape in {
        "tulip/b.png": (20, 30, 3),
        "tulip/a.PNG": (10, 10, 3),
        "daisy/10.png": (30, 20, 3),
        "daisy/2.bmp": (12, 12),
        "daisy/.hidden.png": (8, 8),
        ".hidden/a.png": (8, 8),
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        image = rng.integers(0, 256, shape).astype(np.uint8)
        Image.fromarray(image).save(tmp_path / name)
    (tmp_path / "daisy/notes.txt").write_text("no image")
    (tmp_path / "README.png").write_text("in no class folder")
    (tmp_path / "tulip/folder.png").mkdir()
    return tmp_path


def test_paths(folder):
    """Without a size: the paths, sorted by class and name, and no file is opened."""
    flowers = load_image_folder(folder)
    names = ["daisy/10.png", "daisy/2.bmp", "tulip/a.PNG", "tulip/b.png"]
    assert flowers.filenames.tolist() == [str(folder / name) for name in names]
    assert flowers.target.tolist() == [0, 0, 1, 1]
    assert flowers.target_names.tolist() == ["daisy", "tulip"]
    assert flowers.data.tolist() == flowers.filenames.tolist()
    assert "4 images of 2 classes" in flowers.DESCR


@pytest.mark.parametrize(("mode", "shape"), [("RGB", (4, 6, 8, 3)), ("L", (4, 6, 8))])
def test_images(folder, mode, shape):
    """With a size: what ImageResizer makes of the paths."""
    flowers = load_image_folder(str(folder), size=(6, 8), mode=mode)
    resizer = ImageResizer((6, 8), mode=mode)
    assert flowers.data.shape == shape
    np.testing.assert_array_equal(flowers.data, resizer.transform(flowers.filenames))


def test_return_X_y(folder):
    flowers = load_image_folder(folder, size=8)
    X, y = load_image_folder(folder, size=8, return_X_y=True)
    np.testing.assert_array_equal(X, flowers.data)
    np.testing.assert_array_equal(y, flowers.target)


def test_extensions(folder):
    flowers = load_image_folder(folder, extensions=[".png"])
    assert flowers.target.tolist() == [0, 1, 1]


def test_folders_without_images(folder, tmp_path_factory):
    with pytest.raises(NotADirectoryError, match=r"no folder '.*absent'"):
        load_image_folder(folder / "absent")
    with pytest.raises(ValueError, match="holds no folders"):
        load_image_folder(tmp_path_factory.mktemp("empty"))
    with pytest.raises(ValueError, match=r"tulip' holds no images, .* in \.bmp"):
        load_image_folder(folder, extensions=(".bmp",))


def test_file_that_is_no_image(folder):
    """Its path is in the message."""
    (folder / "tulip" / "c.jpg").write_text("no image")
    assert len(load_image_folder(folder).filenames) == 5
    with pytest.raises(OSError, match=r"tulip/c\.jpg' cannot be read as an image"):
        load_image_folder(folder, size=8)
