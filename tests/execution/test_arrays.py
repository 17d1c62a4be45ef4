"""Data that are pickled without their large arrays, and files that these are in."""

import os
import pickle

import numpy as np
import pytest

from sklearn_iis.execution._arrays import (
    MIN_BYTES,
    ArrayFile,
    FileNotSeenError,
    is_large,
    pack,
    unpack,
)

LARGE = np.arange(2**18, dtype=np.float64)

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


def test_a_file_gives_the_array_again(mapped):
    file = pickle.loads(pickle.dumps(ArrayFile.find(mapped)))
    assert file.is_here()
    opened = file.open()
    np.testing.assert_array_equal(opened, ARRAY)
    assert opened.dtype == ARRAY.dtype
    assert isinstance(opened, np.memmap)
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


def test_parts_of_a_map_are_in_its_file(path):
    mapped = np.memmap(path, np.float32, "r", offset=128 + 4 * 4, shape=(5, 4))
    for part in (mapped[1:], np.asarray(mapped)[2:4], mapped[3]):
        opened = ArrayFile.find(part).open()
        np.testing.assert_array_equal(opened, part)
        assert opened.shape == part.shape


def test_an_array_keeps_its_order(tmp_path):
    array = np.asfortranarray(ARRAY)
    opened = ArrayFile.store(array, str(tmp_path / "array.npy")).open()
    np.testing.assert_array_equal(opened, array)
    assert opened.flags.f_contiguous
    stored = ArrayFile.store(ARRAY[:, ::2], str(tmp_path / "part.npy"))
    np.testing.assert_array_equal(stored.open(), ARRAY[:, ::2])


def test_what_is_no_block_of_a_map_has_no_file(mapped):
    assert ArrayFile.find(ARRAY) is None
    assert ArrayFile.find(mapped[:, 1:]) is None
    assert ArrayFile.find(mapped.copy()) is None
    assert ArrayFile.find("a string") is None


def test_a_map_is_not_stored_again(path, mapped, tmp_path):
    file = ArrayFile.store(mapped, str(tmp_path / "other.npy"))
    assert file.path == str(path)
    assert not (tmp_path / "other.npy").exists()


def test_what_was_changed_in_memory_only_has_no_file(path):
    mapped = np.load(path, mmap_mode="c")
    mapped[:] = 0
    for array in (mapped, mapped[1:], np.asarray(mapped)):
        assert ArrayFile.find(array) is None


def test_what_was_written_to_a_map_is_in_the_file(path):
    mapped = np.load(path, mmap_mode="r+")
    mapped[:] = 0
    assert not ArrayFile.find(mapped).open().any()


def test_another_file_of_that_name_is_not_the_file(path, mapped):
    file = ArrayFile.find(mapped)
    os.rename(path, path.with_suffix(".old"))
    assert not file.is_here()
    np.save(path, ARRAY)
    assert not file.is_here()
    with pytest.raises(FileNotSeenError, match=r"array.npy', which .* not seen on"):
        file.open()
    os.replace(path.with_suffix(".old"), path)
    assert file.is_here()


def test_a_file_that_is_gone_is_none(path, mapped):
    path.unlink()
    assert ArrayFile.find(mapped) is None


def test_large_arrays_are_taken_out_once():
    """Wherever they are found; and what is equal is not the same."""
    other = LARGE + 1
    shared = []

    def share(array):
        shared.append(array)
        return len(shared) - 1

    value = {"first": [LARGE, LARGE], "other": other, "small": ARRAY}
    data = pack(value, share)
    assert len(data) < 2000
    assert [array is LARGE for array in shared] == [True, False]
    assert [array is other for array in shared] == [False, True]
    unpacked = unpack(data, shared.__getitem__)
    assert all(array is LARGE for array in unpacked["first"])
    assert unpacked["other"] is other
    np.testing.assert_array_equal(unpacked["small"], ARRAY)


def test_an_array_is_not_taken_for_one_that_is_gone():
    """Which may have had the same address."""

    class Growing:
        def __reduce__(self):
            return list, (), None, (np.full(len(LARGE), float(i)) for i in range(20))

    values = []

    def share(array):
        values.append(array[0])
        return array[0]

    pack(Growing(), share)
    assert values == list(range(20))


def test_what_workers_cannot_import_is_packed_as_well():
    class Local:
        pass

    data = pack([Local, LARGE], lambda array: "large")
    local, array = unpack(data, lambda token: token)
    assert local.__name__ == "Local"
    assert array == "large"
