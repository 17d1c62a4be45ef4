"""Images of test data as they are embedded."""

from base64 import b64decode
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from sklearn_iis import ImageResizer
from sklearn_iis.inspection.report._thumbnails import find_resizer, make_thumbnails

MODEL = LogisticRegression()
GREY = np.array([[[0, 100], [200, 250]], [[1, 2], [3, 4]]], np.uint8)


def decode(thumbnail):
    return np.asarray(Image.open(BytesIO(b64decode(thumbnail["uri"].split(",")[1]))))


def test_small_images_are_embedded_as_they_are():
    second, first = make_thumbnails(GREY, [1, 0], MODEL)
    assert second["uri"].startswith("data:image/png;base64,")
    assert second["small"]
    np.testing.assert_array_equal(decode(first), GREY[0])
    np.testing.assert_array_equal(decode(second), GREY[1])
    assert second["file"] == ""


@pytest.mark.parametrize("kind", [str, Path])
def test_files_have_names_and_large_ones_are_made_smaller(kind, tmp_path):
    path = tmp_path / "rose.png"
    Image.new("RGB", (1000, 500), "red").save(path)
    for X in (
        [kind(path)],
        np.array([path], object),
        pd.DataFrame({"f": [kind(path)]}),
    ):
        (thumbnail,) = make_thumbnails(X, [0], MODEL)
        assert thumbnail["file"] == "rose.png"
        assert thumbnail["uri"].startswith("data:image/jpeg;base64,")
        assert not thumbnail["small"]
        assert decode(thumbnail).shape == (128, 256, 3)
        assert len(thumbnail["uri"]) < 3000


def test_floats_are_scaled_to_the_range_of_all():
    X = np.array([[[-1.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]]])
    first, second = make_thumbnails(X, [0, 1], MODEL)
    np.testing.assert_array_equal(decode(first), [[0, 128], [128, 128]])
    np.testing.assert_array_equal(decode(second), [[128, 128], [128, 255]])
    (grey,) = make_thumbnails(np.zeros((1, 2, 2)), [0], MODEL)
    np.testing.assert_array_equal(decode(grey), np.zeros((2, 2)))


def test_the_model_tells_how_images_are_stored():
    rows = GREY.reshape(2, 4).astype(float)
    assert make_thumbnails(rows, [0], MODEL)[0]["uri"] == ""
    resizer = ImageResizer(size=1, row_shape=(2, 2))
    model = make_pipeline(resizer, MODEL)
    assert find_resizer(model) is resizer
    (thumbnail,) = make_thumbnails(rows, [0], model)
    np.testing.assert_array_equal(decode(thumbnail), [[0, 102], [204, 255]])
    assert resizer.size == 1


def test_what_cannot_be_shown_is_left_out(tmp_path):
    Image.new("RGB", (3, 2), "red").save(tmp_path / "a.png")
    X = [str(tmp_path / "a.png"), str(tmp_path / "gone.png")]
    shown, gone = make_thumbnails(X, [0, 1], MODEL)
    assert shown["uri"]
    assert (gone["uri"], gone["file"]) == ("", "gone.png")
    (table,) = make_thumbnails(np.zeros((3, 7)), [2], MODEL)
    assert (table["uri"], table["file"]) == ("", "")
