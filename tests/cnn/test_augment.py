"""Augmentation: each change against what numpy makes of the same image."""

import numpy as np
import pytest
import torch
from kornia.augmentation import RandomRotation

from sklearn_iis.cnn import CNNClassifier
from sklearn_iis.cnn._augment import Augmentation, call_augment

FILL = torch.tensor([10.0, 20.0, 30.0]).reshape(3, 1, 1)
# Grey values that are all different: 8 x 10 pixels, three channels.
IMAGE = torch.arange(240, dtype=torch.uint8).reshape(8, 10, 3).permute(2, 0, 1)


def augment(n_images=200, seed=0, **settings):
    """Return many random changes of the image."""
    torch.manual_seed(seed)
    return Augmentation(**settings)(IMAGE.expand(n_images, 3, 8, 10), FILL).numpy()


def test_nothing_is_done_unless_asked_for():
    images = IMAGE.expand(2, 3, 8, 10)
    assert Augmentation()(images, FILL) is images


def test_flip():
    """Half of the images are their mirror images, pixel by pixel."""
    image, mirrored = IMAGE.numpy(), IMAGE.numpy()[..., ::-1]
    images = augment(flip=True)
    same = np.array([np.array_equal(x, image) for x in images])
    flipped = np.array([np.array_equal(x, mirrored) for x in images])
    assert np.all(same | flipped)
    assert 70 < flipped.sum() < 130


def test_shift():
    """Whole pixels, at most so many, with the pixels of the border repeated."""
    padded = np.pad(IMAGE.numpy(), [(0, 0), (2, 2), (2, 2)], mode="edge")
    moved = {
        padded[:, dy : dy + 8, dx : dx + 10].tobytes(): (dy, dx)
        for dy in range(5)
        for dx in range(5)
    }
    images = augment(shift=0.25).astype(np.uint8)  # 2 of 8 and 2 of 10 pixels
    found = [moved[image.tobytes()] for image in images]
    assert set(found) == set(moved.values())


def test_flip_and_shift_together():
    padded = np.pad(IMAGE.numpy(), [(0, 0), (1, 1), (1, 1)], mode="edge")
    expected = {
        window[:, :, ::step].tobytes()
        for step in (1, -1)
        for dy in range(3)
        for dx in range(3)
        for window in [padded[:, dy : dy + 8, dx : dx + 10]]
    }
    images = augment(shift=0.125, flip=True, n_images=400).astype(np.uint8)
    assert {image.tobytes() for image in images} == expected


def test_small_images_are_not_shifted():
    """An eighth of 7 pixels is none; nor of one that is one pixel high."""
    for shape in ((2, 1, 7, 7), (2, 1, 1, 4)):
        images = torch.zeros(shape, dtype=torch.uint8)
        assert Augmentation(shift=0.125)(images, FILL) is images


def test_crop():
    """A part of the image, scaled up: on a ramp, it is known from two pixels."""
    ramp = torch.arange(32.0).expand(1, 1, 32, 32)
    torch.manual_seed(0)
    images = Augmentation(crop=0.5)(ramp.expand(300, 1, 32, 32), FILL[:1])
    steps = images[:, 0, 16, 17] - images[:, 0, 16, 16]
    assert steps.min() >= 0.5 - 1e-4
    assert steps.max() <= 1 + 1e-4
    assert steps.std() > 0.1
    starts = images[:, 0, 16, 16] - 16 * steps
    expected = starts[:, None] + steps[:, None] * torch.arange(32)
    torch.testing.assert_close(
        images[:, 0, 16], expected.clamp(0, 31), rtol=0, atol=1e-3
    )
    # The edges of the crop are within those of the image.
    assert (starts - steps / 2).min() >= -0.5 - 1e-3
    assert (expected[:, -1] + steps / 2).max() <= 31.5 + 1e-3


def test_erase():
    """A square of the side asked for, somewhere, perhaps cut off, gets the fill."""
    images = augment(erase=0.5)  # 4 of 8 pixels
    erased = np.all(images == FILL.numpy(), axis=1)
    kept = np.broadcast_to(IMAGE.numpy().transpose(1, 2, 0), (200, 8, 10, 3))
    np.testing.assert_array_equal(
        images.transpose(0, 2, 3, 1)[~erased], kept[~erased].astype(np.float32)
    )
    sizes = set()
    for mask in erased:
        rows, columns = (
            np.flatnonzero(mask.any(axis=1)),
            np.flatnonzero(mask.any(axis=0)),
        )
        assert mask.sum() == len(rows) * len(columns) > 0
        sizes.add((len(rows), len(columns)))
    assert max(sizes) == (4, 4)
    assert (2, 2) in sizes


def test_a_callable_of_ones_own():
    """It is given the pixels as float32, and what it returns is trained on."""
    seen = []

    def brighter(images):
        seen.append((images.dtype, tuple(images.shape)))
        return images + 1

    images = call_augment(brighter, IMAGE[None])
    torch.testing.assert_close(images, IMAGE[None].float() + 1)
    assert seen == [(torch.float32, (1, 3, 8, 10))]


@pytest.mark.parametrize("wrong", [lambda images: images[:1], lambda images: None])
def test_a_callable_must_return_images_of_the_same_shape(wrong):
    with pytest.raises(ValueError, match=r"shape that it was given, \(2, 3, 8, 10\)"):
        call_augment(wrong, IMAGE.expand(2, 3, 8, 10))


def test_crop_and_shift_together():
    """The crop is moved by whole pixels, perhaps over the edge."""
    ramp = torch.arange(32.0).expand(1, 1, 32, 32)
    torch.manual_seed(0)
    images = Augmentation(crop=0.5, shift=0.25)(ramp.expand(300, 1, 32, 32), FILL[:1])
    assert images.min() == 0
    assert images.max() == 31
    middles = images[:, 0, 16, 15:17].mean(dim=1)
    # Half of what is cut off, and 8 pixels.
    assert middles.sub(15.5).abs().max() <= 8 + 8
    assert middles.sub(15.5).abs().max() > 9


@pytest.mark.parametrize(
    "settings",
    [
        {"flip": True, "shift": 0.25},
        {"crop": 0.3},
        {"erase": 0.5},
        {"mixup": 0.4},
        {"augment": lambda images: images + torch.randn_like(images)},
    ],
    ids=["flip and shift", "crop", "erase", "mixup", "augment"],
)
def test_images_change_by_random_state_and_in_training_only(settings):
    """The same state gives the same; without the change it is another network."""
    X = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 3), np.uint8)
    y = np.arange(30) % 3

    def fit(**params):
        defaults = {"max_epochs": 2, "n_filters": 4, "shift": 0, "random_state": 0}
        return CNNClassifier(**(defaults | params)).fit(X, y)

    first, second = fit(**settings), fit(**settings)
    probabilities = first.predict_proba(X)
    np.testing.assert_array_equal(probabilities, second.predict_proba(X))
    np.testing.assert_array_equal(probabilities, first.predict_proba(X))
    assert not np.array_equal(probabilities, fit().predict_proba(X))


def test_kornia_augments():
    """Its modules are callables that draw from torch's global generator."""
    X = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), np.uint8)
    y = np.arange(12) % 2
    settings = {"max_epochs": 2, "n_filters": 4, "random_state": 0}

    def fit(augment):
        return CNNClassifier(augment=augment, **settings).fit(X, y).predict_proba(X)

    rotate = RandomRotation(degrees=30.0, p=1.0)
    np.testing.assert_array_equal(fit(rotate), fit(rotate))
    assert not np.array_equal(fit(rotate), fit(None))
