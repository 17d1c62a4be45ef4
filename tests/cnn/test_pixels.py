"""The scale of pixels, and channels first, in what networks are given."""

import warnings

import numpy as np
import pytest

from sklearn_iis import CNNClassifier
from sklearn_iis.cnn import ImageFeatures

X = np.random.default_rng(0).integers(0, 256, (20, 8, 8)).astype(np.uint8)
Y = np.arange(20) % 2


def fit(X):
    return CNNClassifier(max_epochs=1, n_filters=2, random_state=0).fit(X, Y)


def make_sparse(value):
    """Images of one bright pixel, in black."""
    images = np.zeros((20, 300, 300), np.float32 if value == 1 else np.uint8)
    images[np.arange(20), 5 * np.arange(20), 9] = value
    return images


@pytest.mark.parametrize(
    ("trained", "asked", "message"),
    [
        (X, X / 255, "from 0 to 255, or the like .* from 0 to 1"),
        (X, X / 255 * 1.2, r"none is above 1\.2\)"),  # bicubic overshoot
        (X / 16, X / 255, "the same scale"),
        (X / 255, X, r"from 0 to 1 .*none is above 255"),
    ],
)
def test_another_scale(trained, asked, message):
    network = fit(trained)
    for method in (network.predict, network.predict_proba):
        with pytest.warns(UserWarning, match=message):
            method(asked)


@pytest.mark.parametrize(
    ("trained", "asked"),
    [
        (X, X // 8),  # dark
        (X, np.zeros_like(X)),  # black
        (X, (X > 99).astype(np.uint8)),  # dark
        (make_sparse(1), make_sparse(1)),
        (make_sparse(255), make_sparse(255)),
        (X, X.astype(float)),
        (X / 255, X / 255 * 1.2),
        (X / 255 - 0.5, X / 99 - 1.2),
    ],
)
def test_the_same_scale(trained, asked):
    network = fit(trained)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network.predict(asked)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 20, 30), (4, 40, 20)])
def test_channels_first(shape):
    images = np.zeros((20, *shape), np.uint8)
    with pytest.raises(ValueError, match=r"channels first.*X\.transpose\(0, 2, 3, 1\)"):
        fit(images)
    with pytest.raises(ValueError, match=r"height, width\[, channels\]"):
        ImageFeatures().transform(images)


@pytest.mark.parametrize(
    "shape", [(1, 40, 8), (4, 40, 5), (3, 40, 6), (1, 100, 32), (40, 1, 40)]
)
def test_low_images_of_many_channels(shape):
    """Signals of some sensors, for instance, are no images with channels first."""
    images = np.random.default_rng(0).random((20, *shape), np.float32)
    assert fit(images).image_shape_ == shape
