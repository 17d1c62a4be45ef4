"""load_image_folder: what is read, in which order, what is left out, and refused."""

import os

import numpy as np
import pytest
from PIL import Image

from sklearn_iis import ImageResizer
from sklearn_iis.datasets import load_image_folder
from sklearn_iis.images import _decode


def save(path, shape=(8, 9, 3)):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(len(path.name)).integers(0, 256, shape)
    Image.fromarray(image.astype(np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path):
    """Images of two classes, and hidden ones besides."""
    for name, shape in {
        "tulip/b.png": (20, 30, 3),
        "tulip/a.PNG": (10, 10, 3),
        "daisy/10.png": (30, 20, 3),
        "daisy/2.bmp": (12, 12),
        "daisy/.hidden.png": (8, 8),
        ".hidden/a.png": (8, 8),
    }.items():
        save(tmp_path / "flowers" / name, shape)
    return tmp_path / "flowers"


def names_of(images, folder):
    return [os.path.relpath(name, folder) for name in images.filenames]


def test_paths(folder):
    """Without a size: the paths, sorted by class and name, and no file is opened."""
    (folder / "tulip/c.jpg").write_text("no image")
    flowers = load_image_folder(folder)
    names = ["daisy/10.png", "daisy/2.bmp", "tulip/a.PNG", "tulip/b.png", "tulip/c.jpg"]
    assert flowers.filenames.tolist() == [str(folder / name) for name in names]
    assert flowers.target.tolist() == [0, 0, 1, 1, 1]
    assert flowers.target_names.tolist() == ["daisy", "tulip"]
    assert flowers.data.tolist() == flowers.filenames.tolist()
    assert "5 images of 2 classes" in flowers.DESCR


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
    with pytest.warns(UserWarning, match=r"1 files with other ext.*daisy/2\.bmp'"):
        flowers = load_image_folder(folder, extensions=[".png"])
    assert flowers.target.tolist() == [0, 1, 1]


@pytest.mark.parametrize("extension", ["jfif", "jpe", "ppm", "tif", "webp", "qoi"])
def test_extensions_of_all_formats(folder, extension):
    save(folder / f"tulip/z.{extension}")
    assert load_image_folder(folder, size=8).target.tolist() == [0, 0, 1, 1, 1]


def test_what_is_left_out_is_counted(folder):
    """In one warning, each kind with an example."""
    (folder / "daisy/notes.txt").write_text("no image")
    (folder / "daisy/more.txt").write_text("no image")
    (folder / "README.png").write_text("in no class folder")
    (folder / "tulip/folder.png").mkdir()
    (folder / "rose").mkdir()
    with pytest.warns(UserWarning, match="Left out") as caught:
        flowers = load_image_folder(folder)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    text = str(caught[0].message).replace(f"{folder}/", "")
    for part in (
        "1 files that are in no class folder, such as 'README.png'",
        "2 files with other extensions, such as 'daisy/more.txt'",
        "1 folders within class folders (see `recursive`), such as 'tulip/folder.png'",
        "1 classes without images, such as 'rose'",
    ):
        assert part in text
    assert flowers.target.tolist() == [0, 0, 2, 2]
    assert flowers.target_names.tolist() == ["daisy", "rose", "tulip"]


def test_recursive(folder):
    save(folder / "tulip/red/dark/c.png")
    with pytest.warns(UserWarning, match="1 folders within class folders"):
        assert len(load_image_folder(folder).target) == 4
    flowers = load_image_folder(folder, recursive=True)
    assert names_of(flowers, folder)[2:] == [
        "tulip/a.PNG",
        "tulip/b.png",
        "tulip/red/dark/c.png",
    ]
    assert flowers.target.tolist() == [0, 0, 1, 1, 1]


def test_classes_of_another_folder(folder, tmp_path):
    """A folder to test on that lacks a class has the labels of the one to train on."""
    train = load_image_folder(folder)
    save(tmp_path / "test/tulip/1.png")
    save(tmp_path / "test/weed/1.png")
    with pytest.warns(UserWarning, match="Left out") as caught:
        test = load_image_folder(tmp_path / "test", classes=train.target_names)
    assert "1 folders that are none of `classes`, such as" in str(caught[0].message)
    assert "1 classes without images, such as" in str(caught[0].message)
    assert test.target.tolist() == [1]
    assert test.target_names.tolist() == train.target_names.tolist()
    reverse = load_image_folder(folder, classes=["tulip", "daisy"])
    assert (
        reverse.target_names[reverse.target].tolist() == ["tulip"] * 2 + ["daisy"] * 2
    )


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["rose"], r"any of \['rose'\] is expected"),
        (["daisy", "daisy"], "twice"),
        (["daisy", "../elsewhere"], r"has '\.\./elsewhere'; names of folders"),
        (["daisy/"], "not paths"),
        ([".."], "not paths"),
        ([""], "not paths"),
    ],
)
def test_classes_are_refused(folder, classes, message):
    with pytest.raises(ValueError, match=message):
        load_image_folder(folder, classes=classes)


def test_links(folder, tmp_path):
    """Those that leave the folder are followed only if that is asked for."""
    save(tmp_path / "elsewhere/x.png")
    (folder / "daisy/link.png").symlink_to(tmp_path / "elsewhere/x.png")
    (folder / "tulip/inside.png").symlink_to(folder / "daisy/10.png")
    (folder / "rose").symlink_to(tmp_path / "elsewhere")
    with pytest.warns(UserWarning, match=r"2 links out of the folder \(see `follow"):
        flowers = load_image_folder(folder)
    assert flowers.target.tolist() == [0, 0, 1, 1, 1]
    flowers = load_image_folder(folder, follow_links=True)
    assert flowers.target_names.tolist() == ["daisy", "rose", "tulip"]
    assert flowers.target.tolist() == [0, 0, 0, 1, 2, 2, 2]
    # The folder itself may be one.
    (tmp_path / "linked").symlink_to(folder)
    with pytest.warns(UserWarning, match="2 links"):
        assert len(load_image_folder(tmp_path / "linked").target) == 5


def test_classes_are_no_way_out(folder, tmp_path):
    """A link that is not followed, or a hidden folder, has no images if it is named."""
    save(tmp_path / "elsewhere/x.png")
    (folder / "rose").symlink_to(tmp_path / "elsewhere")
    classes = ["rose", ".hidden", "daisy"]
    with pytest.warns(UserWarning, match=r"1 links out .*2 classes without images"):
        flowers = load_image_folder(folder, classes=classes)
    assert names_of(flowers, folder) == ["daisy/10.png", "daisy/2.bmp"]
    assert flowers.target.tolist() == [2, 2]
    assert flowers.target_names.tolist() == classes
    with pytest.warns(UserWarning, match="1 classes without images"):
        flowers = load_image_folder(folder, classes=classes, follow_links=True)
    assert flowers.target.tolist() == [0, 2, 2]
    with pytest.raises(ValueError, match=r"holds no folders; .* 1 links out"):
        load_image_folder(folder, classes=["rose"])


def test_links_in_a_circle(folder):
    (folder / "daisy/again").symlink_to(folder / "daisy")
    with pytest.warns(UserWarning, match="1 links to a folder that they are in"):
        flowers = load_image_folder(folder, recursive=True)
    assert len(flowers.target) == 4


@pytest.mark.parametrize("follow_links", [False, True])
def test_links_that_lead_nowhere(folder, follow_links):
    """Links to themselves, and to what is not there, are counted."""
    (folder / "loop").symlink_to("loop")
    (folder / "daisy/loop.png").symlink_to("loop.png")
    (folder / "daisy/lost.png").symlink_to("absent.png")
    with pytest.warns(UserWarning, match=r"3 links that lead nowhere, .*loop'"):
        flowers = load_image_folder(folder, follow_links=follow_links)
    assert flowers.target.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("on_error", ["raise", "skip", "list"])
def test_files_are_decoded_once(folder, monkeypatch, on_error):
    decoded = []
    flatten = _decode.flatten
    monkeypatch.setattr(
        _decode, "flatten", lambda *args: decoded.append(1) or flatten(*args)
    )
    assert len(load_image_folder(folder, size=8, on_error=on_error).data) == 4
    assert len(decoded) == 4


@pytest.mark.parametrize("size", [None, 8])
def test_files_that_cannot_be_read(folder, size):
    (folder / "daisy/3.jpg").write_text("no image")
    (folder / "tulip/c.jpg").write_text("no image")
    if size is not None:
        with pytest.raises(OSError, match="2 images cannot be read") as caught:
            load_image_folder(folder, size=size)
        assert list(caught.value.unreadable) == [2, 4 + 1]
    with pytest.warns(UserWarning, match=r"2 files that cannot .*daisy/3\.jpg'"):
        flowers = load_image_folder(folder, size=size, on_error="skip")
    assert names_of(flowers, folder)[:2] == ["daisy/10.png", "daisy/2.bmp"]
    assert flowers.target.tolist() == [0, 0, 1, 1]
    assert len(flowers.data) == 4
    assert "unreadable" not in flowers
    flowers = load_image_folder(folder, size=size, on_error="list")
    paths = [str(folder / name) for name in ("daisy/3.jpg", "tulip/c.jpg")]
    assert list(flowers.unreadable) == paths
    assert all("cannot be read" in text for text in flowers.unreadable.values())
    assert len(flowers.data) == 4


def test_list_needs_a_bunch(folder):
    with pytest.raises(ValueError, match="needs return_X_y=False"):
        load_image_folder(folder, on_error="list", return_X_y=True)


def test_nothing_can_be_read(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/1.png").write_text("no image")
    with pytest.raises(ValueError, match=r"None of the 1 files can be read: .*1\.png"):
        load_image_folder(tmp_path, on_error="skip")


def test_folders_without_images(folder, tmp_path_factory):
    with pytest.raises(NotADirectoryError, match=r"no folder '.*absent'"):
        load_image_folder(folder / "absent")
    with pytest.raises(ValueError, match="holds no folders"):
        load_image_folder(tmp_path_factory.mktemp("empty"))
    with pytest.raises(ValueError, match=r"no images, .* in \.gif.* Left out.*4 f"):
        load_image_folder(folder, extensions=(".gif",))


def test_file_that_is_no_image(folder):
    """Its path is in the message."""
    (folder / "tulip" / "c.jpg").write_text("no image")
    assert len(load_image_folder(folder).filenames) == 5
    with pytest.raises(OSError, match=r"tulip/c\.jpg' cannot be read as an image"):
        load_image_folder(folder, size=8)
