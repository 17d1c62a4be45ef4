"""Large arrays, and the files that they may be a map of."""

import os
import pickle

import numpy as np
import pytest

from sklearn_iis.execution._arrays import (
    MIN_BYTES,
    ArrayFile,
    FileNotSeenError,
    is_large,
    is_map,
)

ARRAY = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


@pytest.fixture
def path(tmp_path):
    np.save(tmp_path / "array.npy", ARRAY)
    return tmp_path / "array.npy"


@pytest.fixture
def mapped(path):
    return np.load(path, mmap_mode="r")


def test_large_is_more_than_what_goes_with_each_task(tmp_path):
    array = np.zeros(MIN_BYTES, dtype=np.uint8)
    assert not is_large(array)
    array = np.zeros(MIN_BYTES + 1, dtype=np.uint8)
    assert is_large(array)
    np.save(tmp_path / "large.npy", array)
    assert is_large(np.load(tmp_path / "large.npy", mmap_mode="r"))


@pytest.mark.parametrize(
    "value",
    [
        "x" * 2 * MIN_BYTES,
        np.zeros(MIN_BYTES, dtype=object),
        np.ma.array(np.zeros(MIN_BYTES)),
        [np.zeros(MIN_BYTES)],
    ],
    ids=["string", "objects", "masked", "list"],
)
def test_what_is_more_than_its_memory_is_not_large(value):
    assert not is_large(value)


def test_parts_of_a_map_are_maps_as_well(mapped):
    assert is_map(mapped)
    assert is_map(mapped[1:])
    assert is_map(np.asarray(mapped))
    assert not is_map(ARRAY)
    assert not is_map(mapped.copy())


def test_a_file_gives_the_array_again(mapped):
    file = pickle.loads(pickle.dumps(ArrayFile.find(mapped)))
    assert file.is_here()
    opened = file.open()
    np.testing.assert_array_equal(opened, ARRAY)
    assert opened.dtype == ARRAY.dtype
    assert is_map(opened)
    assert not opened.flags.writeable


def test_a_file_is_found_from_everywhere(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = ArrayFile.find(np.load("array.npy", mmap_mode="r"))
    monkeypatch.chdir("/")
    assert file.is_here()
    np.testing.assert_array_equal(file.open(), ARRAY)


def test_an_array_may_begin_anywhere_in_a_file(path):
    mapped = np.memmap(path, np.float32, "r", offset=128 + 4 * 12, shape=(3, 4))
    file = ArrayFile.find(mapped)
    np.testing.assert_array_equal(file.open(), ARRAY[1])


def test_what_is_not_a_whole_map_has_no_file(mapped, tmp_path):
    """It does not know where in the file it is."""
    assert ArrayFile.find(ARRAY) is None
    assert ArrayFile.find(mapped[1:]) is None
    assert ArrayFile.find(mapped.copy()) is None
    np.save(tmp_path / "columns.npy", np.asfortranarray(ARRAY))
    assert ArrayFile.find(np.load(tmp_path / "columns.npy", mmap_mode="r")) is None


def test_what_was_changed_in_memory_only_is_no_map(path):
    mapped = np.load(path, mmap_mode="c")
    mapped[:] = 0
    for array in (mapped, mapped[1:], np.asarray(mapped)):
        assert not is_map(array)
        assert ArrayFile.find(array) is None


def test_what_was_written_to_a_map_is_in_the_file(path):
    mapped = np.load(path, mmap_mode="r+")
    mapped[:] = 0
    assert is_map(mapped)
    assert not ArrayFile.find(mapped).open().any()


def test_another_file_of_that_name_is_not_the_file(path, mapped):
    file = ArrayFile.find(mapped)
    os.rename(path, path.with_suffix(".old"))
    assert not file.is_here()
    np.save(path, ARRAY)
    assert not file.is_here()
    with pytest.raises(FileNotSeenError, match=r"array.npy', are not seen on"):
        file.open()
    os.replace(path.with_suffix(".old"), path)
    assert file.is_here()


def test_a_file_that_is_gone_is_none(path, mapped):
    path.unlink()
    assert ArrayFile.find(mapped) is None
