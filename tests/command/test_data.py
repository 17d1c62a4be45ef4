"""Images of folders and tables: paths, labels and parts."""

import os

import numpy as np
import pytest
from PIL import Image

from sklearn_iis.command._data import (
    Images,
    count_validation,
    expand,
    find_errors,
    hold_out_test,
    leave_out_unreadable,
    list_images,
    measure_side,
    read_table,
    split_validation,
    write_table,
)
from sklearn_iis.command._errors import CommandError


def write_image(path, size=(8, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)


def make_images(**counts):
    """Images of part "train", so many of each class, whose files do not exist."""
    return Images.from_rows(
        [
            (f"/{name}/{i}.png", name, "train")
            for name in counts
            for i in range(counts[name])
        ]
    )


@pytest.mark.parametrize("name", ["valid", "val", "validation"])
def test_folders_of_parts(tmp_path, name):
    for part in ("train", name, "test"):
        for label in ("cat", "dog"):
            write_image(tmp_path / part / label / "1.png")
    images = list_images(tmp_path)
    assert sorted(zip(images.parts.tolist(), images.labels.tolist(), strict=True)) == [
        (part, label)
        for part in ("test", "train", "validation")
        for label in ("cat", "dog")
    ]
    assert all(path.startswith(str(tmp_path)) for path in images)


def test_a_class_may_be_called_like_a_part(tmp_path):
    """If there are others that are not."""
    for label in ("train", "bus"):
        write_image(tmp_path / label / "1.png")
    images = list_images(tmp_path)
    assert images.labels.tolist() == ["bus", "train"]
    assert set(images.parts.tolist()) == {"train"}


def test_other_folders_beside_parts(tmp_path):
    """They are no reason to take the parts for classes."""
    for name in ("train/cat", "train/dog", "test/cat", "old"):
        write_image(tmp_path / name / "1.png")
    with pytest.raises(CommandError, match=r"parts \['test', 'train'\], .* \['old'\]"):
        list_images(tmp_path)


def test_tables(tmp_path):
    """Paths are relative to the file, or absolute; labels are texts."""
    path = tmp_path / "images.csv"
    elsewhere = tmp_path / "elsewhere.png"
    path.write_text(f"\ufeffpath, label,split\na/1.png, 01,train\n{elsewhere},1,Val\n")
    images = list_images(path)
    assert images.paths.tolist() == [str(tmp_path / "a" / "1.png"), str(elsewhere)]
    assert images.labels.tolist() == ["01", "1"]
    assert images.parts.tolist() == ["train", "validation"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path\na.png\n", "lacks the columns ['label']"),
        ("path,label\n", "has no rows"),
        ("", "is no CSV in UTF-8"),
        ("path,label\na.png,\n", "line 2: path or label is empty"),
        ("path,label,split\na.png,x,train\nb.png,x,dev\n", "line 3: split is 'dev'"),
        ("path,label\na.png,x\nb.png,x\n./a.png,y\n", "line 4: './a.png' is in line 2"),
        ("path,label\na.png,x,y\n", "has more values in a line than columns"),
    ],
)
def test_wrong_tables(tmp_path, text, message):
    path = tmp_path / "images.csv"
    path.write_text(text)
    with pytest.raises(CommandError) as raised:
        list_images(path)
    assert message in str(raised.value)


def test_no_such_source(tmp_path):
    with pytest.raises(CommandError, match="there is no folder or file"):
        list_images(tmp_path / "nothing")


def test_files_that_cannot_be_read_are_left_out(tmp_path):
    write_image(tmp_path / "a" / "1.png")
    write_image(tmp_path / "b" / "2.png")
    bad = tmp_path / "b" / "bad.png"
    bad.write_text("no image")
    images, errors = leave_out_unreadable(list_images(tmp_path))
    assert [*errors] == [str(bad)]
    assert "cannot be read as an image" in errors[str(bad)]
    assert sorted(images.labels.tolist()) == ["a", "b"]
    assert find_errors([str(tmp_path / "missing.png")])


def test_no_file_can_be_read(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_text("no image")
    with pytest.raises(CommandError, match="none of the 1 files can be read"):
        leave_out_unreadable(list_images(tmp_path))


def test_a_stratified_fifth_is_held_out():
    images = make_images(a=50, b=10)
    held = hold_out_test(images, 0)
    test = held.labels[held.parts == "test"]
    assert {name: np.count_nonzero(test == name) for name in "ab"} == {"a": 10, "b": 2}
    again, other = hold_out_test(images, 0), hold_out_test(images, 1)
    assert again.parts.tolist() == held.parts.tolist() != other.parts.tolist()


def test_a_test_part_is_kept():
    rows = [("1", "a", "train"), ("2", "b", "train"), ("3", "a", "train")]
    rows += [("4", "b", "train"), ("5", "a", "test")]
    images = Images.from_rows(rows)
    assert hold_out_test(images, 0) is images


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (make_images(a=9), "at least two classes"),
        (make_images(a=9, b=2), "at least 3 images .* 'b' has 2"),
        (
            Images.from_rows(
                [("1", "a", "train"), ("2", "b", "train"), ("3", "c", "test")]
            ),
            r"no images to train on are of the classes \['c'\]",
        ),
    ],
)
def test_too_few_images(images, message):
    with pytest.raises(CommandError, match=message):
        hold_out_test(images, 0)


def test_few_images_of_each_class_are_enough():
    """One for each of training, validation and test."""
    held = hold_out_test(make_images(a=3, b=3, c=3), 0)
    fitted = held.select(held.is_fitted_on)
    ((train, valid),) = split_validation(fitted, 0).split(fitted.paths, fitted.labels)
    assert set(fitted.labels[train]) == set(fitted.labels[valid]) == {"a", "b", "c"}


def test_validation():
    """A quarter, or the part that there is."""
    images = make_images(a=20, b=20)
    ((train, valid),) = split_validation(images, 0).split(images.paths, images.labels)
    assert (len(train), len(valid)) == (30, count_validation(images)) == (30, 10)
    rows = [("1", "a", "train"), ("2", "a", "validation"), ("3", "b", "train")]
    ((train, valid),) = split_validation(Images.from_rows(rows), 0)
    assert (train.tolist(), valid.tolist()) == ([0, 2], [1])


def test_the_table_keeps_all(tmp_path):
    """Of any name that a file can have."""
    rows = [
        ("a,1.png", "NA", "train"),
        ("b.png", "01", "test"),
        ('a "b"\nc\rd\r\n.png', " \r", "train"),
        (os.fsdecode(b"\xff.png"), "x", "train"),
    ]
    write_table(Images.from_rows(rows), tmp_path / "images.csv")
    again = read_table(tmp_path / "images.csv")
    columns = (again.paths, again.labels, again.parts)
    assert [*zip(*map(np.ndarray.tolist, columns), strict=True)] == rows


def test_digest(tmp_path):
    """Another label, part or length of a file is another hash."""
    write_image(tmp_path / "a.png")
    path = str(tmp_path / "a.png")
    digests = {Images.from_rows([(path, "x", "train")]).digest() for _ in range(2)}
    digests.add(Images.from_rows([(path, "y", "train")]).digest())
    digests.add(Images.from_rows([(path, "x", "test")]).digest())
    with open(path, "ab") as file:
        file.write(b" ")
    digests.add(Images.from_rows([(path, "x", "train")]).digest())
    assert len(digests) == 4


def test_side_is_the_median_of_shorter_ones(tmp_path):
    for name, size in {"a": (8, 30), "b": (20, 10), "c": (90, 80)}.items():
        write_image(tmp_path / "x" / f"{name}.png", size)
    assert measure_side(list_images(tmp_path)) == 10


def test_expand(tmp_path):
    """Files, folders and patterns, each file once."""
    names = [str(tmp_path / name) for name in ("a.png", "b[1].png", "sub/c.png")]
    for name in names:
        write_image(tmp_path / name)
    (tmp_path / "notes.txt").write_text("")
    assert expand([str(tmp_path), names[0]]) == (sorted(names), [])
    assert expand([str(tmp_path / "*.png")]) == (names[:2], [])
    # Not a pattern, as there is such a file.
    assert expand([names[1]]) == ([names[1]], [])
    # It is told of when it is read.
    assert expand(["missing.png"]) == (["missing.png"], [])
    (tmp_path / "empty").mkdir()
    nothing = [str(tmp_path / "*.jpg"), str(tmp_path / "empty")]
    assert expand([nothing[0], names[0], nothing[1]]) == (names[:1], nothing)


@pytest.mark.parametrize("text", ["", "path,label\na,b\n", "path,label\n1,2\n1,2,3\n"])
def test_a_table_that_is_not_as_it_was_written(tmp_path, text):
    path = tmp_path / "images.csv"
    with pytest.raises(CommandError, match=r"images.csv' is missing, .* begin anew"):
        read_table(path)
    path.write_text(text)
    with pytest.raises(CommandError, match=r"(?s)is not as the run has .* begin"):
        read_table(path)
