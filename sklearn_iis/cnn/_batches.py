"""Images in memory, and the batches that training and prediction draw from them."""

import numpy as np
import torch
from torch.utils.data import Dataset

from sklearn_iis.cnn._pixels import check_unit_range

# Statistics are taken of about so many bytes of float64 at a time.
STATISTICS_BYTES = 2**24


class Batch(tuple):
    """A pair of images and labels, as callbacks of skorch take it, with weights.

    Parameters
    ----------
    images : tensor of shape (n, channels, height, width)

    labels : tensor of shape (n,), int64

    weights : tensor of shape (n,) or None
        None means that all count the same.
    """

    weights: torch.Tensor | None

    def __new__(cls, images, labels, weights=None):
        batch = super().__new__(cls, (images, labels))
        batch.weights = weights
        return batch


class ImageDataset(Dataset):
    """A selection of images and their labels; nothing is copied.

    Parameters
    ----------
    images : ndarray of shape (n_images, height, width, channels)

    labels : ndarray of shape (n_images,) and dtype int64, default=None
        Zeros if None: prediction has no labels.

    indices : ndarray of int, default=None
        The images that belong to the selection, all if None.

    weights : ndarray of shape (n_images,), default=None
        What each image counts, in proportion to the others of the selection. Their mean
        must not be 0.
    """

    def __init__(self, images, labels=None, indices=None, weights=None):
        self.images = images
        self.labels = np.zeros(len(images), np.int64) if labels is None else labels
        self.indices = np.arange(len(images)) if indices is None else indices
        self.weights = None
        if weights is not None:
            mean = weights[self.indices].mean()
            self.weights = (weights / mean).astype(np.float32)

    def __len__(self):
        return len(self.indices)

    def __getitem__(self, selected):
        """Return the batch of an array of positions, its images channels first."""
        indices = self.indices[selected]
        # Taking rows makes a copy, which torch may own even where the images are a
        # read-only memory map. Permuting it is torch's channels_last, for free.
        images = torch.from_numpy(self.images[indices]).permute(0, 3, 1, 2)
        weights = None
        if self.weights is not None:
            weights = torch.from_numpy(self.weights[indices])
        return Batch(images, torch.from_numpy(self.labels[indices]), weights)

    def pixel_range(self):
        """Return the value of a white pixel: 255 in uint8, and 1 in floats.

        Raises
        ------
        ValueError
            If floats are far from 0 to 1. Resizing may overshoot by a part of that.
        """
        if self.images.dtype == np.uint8:
            return 255
        check_unit_range(self.images, "X")
        return 1

    def channel_statistics(self):
        """Return the mean and the standard deviation of each channel, in float64."""
        n_channels = self.images.shape[-1]
        total, squares = 0.0, 0.0
        step = max(1, STATISTICS_BYTES // (8 * self.images[0].size))
        for start in range(0, len(self), step):
            images = self.images[self.indices[start : start + step]]
            values = images.reshape(len(images), -1).astype(np.float64)
            total += values.sum(axis=0)
            squares += np.einsum("ij,ij->j", values, values)
        n_values = len(self) * total.size / n_channels
        mean = total.reshape(-1, n_channels).sum(axis=0) / n_values
        square = squares.reshape(-1, n_channels).sum(axis=0) / n_values
        return mean, np.sqrt(np.maximum(square - mean**2, 0))


class Batches:
    """Iterate over a dataset in batches of nearly equal size.

    Nearly equal, so that no epoch ends with a batch of one or two images, whose
    gradient and batch statistics would be noise.

    Parameters
    ----------
    dataset : ImageDataset

    batch_size : int
        At most so many images at a time.

    rng : numpy.random.RandomState, default=None
        If given, each iteration visits the images in a new random order.
    """

    def __init__(self, dataset, batch_size, rng=None):
        self.dataset = dataset
        self.batch_size = batch_size
        self.rng = rng

    def __len__(self):
        return -(-len(self.dataset) // self.batch_size)

    def __iter__(self):
        order = np.arange(len(self.dataset))
        if self.rng is not None:
            self.rng.shuffle(order)
        for selected in np.array_split(order, len(self)):
            yield self.dataset[selected]
