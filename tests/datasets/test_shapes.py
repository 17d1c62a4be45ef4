"""make_shapes: the same images at any size, balanced classes, textures and outlines."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from sklearn_iis.datasets import make_shapes


@pytest.mark.parametrize(("channels", "shape"), [(1, ()), (3, (3,))])
def test_shape_and_dtype(channels, shape):
    X, y = make_shapes(5, size=24, channels=channels, random_state=0)
    assert X.shape == (5, 24, 24, *shape)
    assert X.dtype == np.uint8
    assert y.shape == (5,)


def test_random_state_determines_the_images():
    X, y = make_shapes(70, size=16, random_state=3)
    X_again, y_again = make_shapes(70, size=16, random_state=3)
    X_other, _ = make_shapes(70, size=16, random_state=4)
    np.testing.assert_array_equal(X, X_again)
    np.testing.assert_array_equal(y, y_again)
    assert not np.array_equal(X, X_other)


@pytest.mark.parametrize("channels", [1, 3])
def test_same_images_at_any_size(channels):
    """Smaller images are block means of larger ones, but for rounding and clipping."""
    large, y_large = make_shapes(40, size=64, channels=channels, random_state=0)
    small, y_small = make_shapes(40, size=16, channels=channels, random_state=0)
    blocks = large.reshape(40, 16, 4, 16, 4, -1)
    means = blocks.mean(axis=(2, 4)).reshape(small.shape)
    unclipped = ((blocks > 0) & (blocks < 255)).all(axis=(2, 4)).reshape(small.shape)
    assert unclipped.mean() > 0.9
    np.testing.assert_array_equal(y_small, y_large)
    np.testing.assert_allclose(small[unclipped], means[unclipped], atol=1)


def test_grey_images_are_the_mean_of_the_channels():
    colour, _ = make_shapes(10, size=20, random_state=0)
    grey, _ = make_shapes(10, size=20, channels=1, random_state=0)
    unclipped = (colour > 0).all(axis=-1) & (colour < 255).all(axis=-1)
    np.testing.assert_allclose(grey[unclipped], colour.mean(axis=-1)[unclipped], atol=1)


@pytest.mark.parametrize("n_classes", [2, 8, 12])
def test_classes_are_balanced(n_classes):
    shapes = make_shapes(100, size=8, n_classes=n_classes, return_X_y=False)
    counts = np.bincount(shapes.target)
    assert len(counts) == len(shapes.target_names) == n_classes
    assert np.ptp(counts) <= 1
    assert shapes.data.shape == (100, 8, 8, 3)


def test_noise_covers_the_background():
    """In the corners, which no shape reaches, nothing but noise varies an image."""
    clean, _ = make_shapes(50, noise=0, random_state=0)
    noisy, _ = make_shapes(50, noise=0.05, random_state=0)
    edge = (slice(None), 0, slice(None))
    flat = clean[edge].std(axis=1) == 0
    assert flat.mean() > 0.5
    deviation = (noisy[edge].astype(float) - clean[edge])[flat.all(axis=1)]
    assert deviation.std() == pytest.approx(0.05 * 255, rel=0.2)


def test_a_linear_classifier_is_near_chance():
    """Position and rotation hide the classes from single pixels."""
    X, y = make_shapes(600, size=16, n_classes=8, random_state=0)
    X = X.reshape(600, -1) / 255
    model = LogisticRegression(C=0.01).fit(X[:400], y[:400])
    assert model.score(X[400:], y[400:]) < 0.3


@pytest.mark.parametrize(
    ("parameter", "value"),
    [("n_samples", 0), ("size", 0), ("n_classes", 13), ("channels", 2), ("noise", -1)],
)
def test_parameters_are_checked(parameter, value):
    with pytest.raises(ValueError, match=f"'{parameter}' parameter .* Got {value}"):
        make_shapes(**{parameter: value})
