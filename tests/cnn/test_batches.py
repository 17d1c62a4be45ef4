"""The batches that training and prediction draw from images in memory."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sklearn_iis.cnn._batches import Batches, ImageDataset


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (7, 4, 5, 3), np.uint8)


def test_images_come_channels_last_with_their_labels(images):
    """A selection gives the very pixels, channels first, in channels_last layout."""
    dataset = ImageDataset(images, np.arange(7), indices=np.array([5, 0, 3]))
    batch = dataset[np.array([2, 0])]
    tensor, labels = batch
    np.testing.assert_array_equal(tensor, images[[3, 5]].transpose(0, 3, 1, 2))
    assert tensor.dtype == torch.uint8
    assert tensor.is_contiguous(memory_format=torch.channels_last)
    assert labels.tolist() == [3, 5]
    assert batch.weights is None


def test_weights_are_relative_to_those_of_the_selection(images):
    """Their mean over the selection is 1, so that the loss keeps its scale."""
    weights = np.array([9.0, 1, 2, 3, 9, 9, 9])
    dataset = ImageDataset(images, np.arange(7), np.array([1, 2, 3]), weights)
    batch = dataset[np.array([2, 0])]
    torch.testing.assert_close(batch.weights, torch.tensor([1.5, 0.5]))


def test_read_only_memory_map(images, tmp_path):
    """Read-only arrays of workers give no warning, and batches are copies."""
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    tensor, _ = ImageDataset(mapped)[np.arange(7)]
    tensor.zero_()
    np.testing.assert_array_equal(mapped, images)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_channel_statistics(dtype):
    """They are numpy's, over the selected images only, in chunks or not."""
    images = np.random.default_rng(0).integers(0, 256, (600, 3, 4, 2)).astype(dtype)
    indices = np.arange(20, 600)
    mean, std = ImageDataset(images, indices=indices).channel_statistics()
    selected = images[indices].astype(np.float64)
    np.testing.assert_allclose(mean, selected.mean(axis=(0, 1, 2)))
    np.testing.assert_allclose(std, selected.std(axis=(0, 1, 2)))


@given(n_images=st.integers(1, 200), batch_size=st.integers(1, 70))
def test_batches_are_nearly_equal(n_images, batch_size):
    """Every image once, as few batches as possible, equal up to one image."""
    dataset = ImageDataset(np.zeros((n_images, 1, 1, 1)), np.arange(n_images))
    batches = Batches(dataset, batch_size, rng=np.random.RandomState(0))
    labels = [labels for _, labels in batches]
    sizes = [len(batch) for batch in labels]
    assert sorted(torch.cat(labels).tolist()) == list(range(n_images))
    assert len(batches) == len(sizes) == -(-n_images // batch_size)
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1


def test_order(images):
    """Without a generator in order; with one, another order each time, by its seed."""
    dataset = ImageDataset(images, np.arange(7))

    def epoch(batches):
        return torch.cat([labels for _, labels in batches]).tolist()

    assert epoch(Batches(dataset, 3)) == list(range(7))
    shuffled = Batches(dataset, 3, rng=np.random.RandomState(0))
    first, second = epoch(shuffled), epoch(shuffled)
    assert first != second
    assert first == epoch(Batches(dataset, 3, rng=np.random.RandomState(0)))
