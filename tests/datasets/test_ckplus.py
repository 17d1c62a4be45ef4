"""load_ckplus: which images are found, their emotions, and folders that are wrong."""

import re

import numpy as np
import pytest
from PIL import Image

from sklearn_iis import ImageResizer
from sklearn_iis.datasets import load_ckplus

# Sequences, the number of their last image, and what their label file holds.
SEQUENCES = {
    "S010/002": (14, "   7.0000000e+00\n"),
    "S005/001": (11, "   3.0000000e+00\n"),
    "S010/001": (9, "   1.0000000e+00\n"),
    "S011/001": (12, None),
}


@pytest.fixture
def folder(tmp_path):
    """Sequences of two images, three of them labelled, and files besides."""
    rng = np.random.default_rng(0)
    for sequence, (last, emotion) in SEQUENCES.items():
        images = tmp_path / "cohn-kanade-images" / sequence
        labels = tmp_path / "Emotion" / sequence
        images.mkdir(parents=True)
        labels.mkdir(parents=True)
        name = sequence.replace("/", "_")
        for number in (1, last):
            image = rng.integers(0, 256, (49, 64), dtype=np.uint8)
            Image.fromarray(image).save(images / f"{name}_{number:08d}.png")
        if emotion is not None:
            (labels / f"{name}_{last:08d}_emotion.txt").write_text(emotion)
    (tmp_path / "Emotion/S005/001/._S005_001_00000011_emotion.txt").write_bytes(b"\0")
    (tmp_path / "Emotion/.DS_Store").write_bytes(b"\0")
    return tmp_path


def test_labelled_images(folder):
    """The last of each labelled sequence, sorted by person and sequence."""
    faces = load_ckplus(folder)
    names = [
        "S005/001/S005_001_00000011.png",
        "S010/001/S010_001_00000009.png",
        "S010/002/S010_002_00000014.png",
    ]
    paths = [str(folder / "cohn-kanade-images" / name) for name in names]
    assert faces.filenames.tolist() == faces.data.tolist() == paths
    emotions = faces.target_names[faces.target].tolist()
    assert emotions == ["disgust", "anger", "surprise"]
    assert faces.target.tolist() == [2, 0, 6]
    assert len(faces.target_names) == 7
    assert faces.groups.tolist() == ["S005", "S010", "S010"]
    assert "Cohn-Kanade" in faces.DESCR


@pytest.mark.parametrize(("mode", "shape"), [("RGB", (3, 8, 12, 3)), ("L", (3, 8, 12))])
def test_images(folder, mode, shape):
    """With a size: what ImageResizer makes of the paths."""
    faces = load_ckplus(str(folder), size=(8, 12), mode=mode)
    resizer = ImageResizer((8, 12), mode=mode)
    assert faces.data.shape == shape
    np.testing.assert_array_equal(faces.data, resizer.transform(faces.filenames))


def test_return_X_y(folder):
    faces = load_ckplus(folder, size=8)
    X, y = load_ckplus(folder, size=8, return_X_y=True)
    np.testing.assert_array_equal(X, faces.data)
    np.testing.assert_array_equal(y, faces.target)


@pytest.mark.parametrize("text", ["0.0000000e+00", "8", "2.5", "nan", "happy", ""])
def test_label_that_is_no_emotion(folder, text):
    """Its file is in the message."""
    label = folder / "Emotion/S010/001/S010_001_00000009_emotion.txt"
    label.write_text(f" {text}\n")
    message = r"S010_001_00000009_emotion\.txt' must .* 1 to 7; got '"
    with pytest.raises(ValueError, match=message + re.escape(text) + "'"):
        load_ckplus(folder)


def test_missing_image(folder):
    (folder / "cohn-kanade-images/S005/001/S005_001_00000011.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"S005_001_00000011\.png' is missing"):
        load_ckplus(folder)


def test_wrong_folders(folder):
    """The message says which folder is missing, and what is expected."""
    message = "no folder '.*absent'; .* 'cohn-kanade-images' and 'Emotion'"
    with pytest.raises(NotADirectoryError, match=message):
        load_ckplus(folder / "absent")
    with pytest.raises(NotADirectoryError, match=r"no folder '.*/cohn-kanade-images'"):
        load_ckplus(folder / "Emotion")
    (folder / "Emotion").rename(folder / "emotion labels")
    with pytest.raises(NotADirectoryError, match=r"no folder '.*/Emotion'"):
        load_ckplus(folder)
    (folder / "Emotion/S005").mkdir(parents=True)
    with pytest.raises(ValueError, match="Emotion' holds no labels, such as 'S005/"):
        load_ckplus(folder)
