"""The range of pixels: that of pretrained networks, and that of training."""

import warnings

import numpy as np

# How far floats may be below 0 and above 1: bicubic interpolation overshoots by about a
# quarter.
OVERSHOOT = 0.25

# A bright pixel, by mean and deviation, beyond which pixels are not from 0 to 1, nor
# standardised.
BRIGHT = 8

# So many times as bright are no pixels of the same scale.
UNLIKE = 50


def check_unit_range(images: np.ndarray, name: str) -> None:
    """Raise an error if pixels that are floats are far from 0 to 1.

    Parameters
    ----------
    images : ndarray of float
        One image or several.

    name : str
        What the message calls them.

    Raises
    ------
    ValueError
        If one is further out than resizing may overshoot.
    """
    for value in (images.min(), images.max()):
        if not -OVERSHOOT <= value <= 1 + OVERSHOOT:
            raise ValueError(
                f"{name} has a pixel of {value:g}, and those of dtype {images.dtype} "
                "must be from 0 to 1: divide pixels from 0 to 255 by 255, or give them "
                "as uint8; leave out what standardises them before, as the network "
                "does that itself."
            )


def warn_of_scale(images: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> None:
    """Warn if pixels are of another scale than those that a network was trained on.

    Parameters
    ----------
    images : ndarray
        The images to predict.

    mean, scale : ndarray
        Of each channel in training, and 1 over its standard deviation.
    """
    bright = float(np.max(mean + 1 / scale))
    highest = float(images.max())
    # Integers up to 1 are dark.
    is_unit = images.dtype.kind == "f" and 0 < highest <= 1 + OVERSHOOT
    if bright > BRIGHT and is_unit:
        ranges = "0 to 255, or the like", "0 to 1"
    elif 0 < bright <= 1 and highest > BRIGHT:
        # Images with few bright pixels have them much above the mean.
        if _find_bright(images) <= UNLIKE * bright:
            return
        ranges = "0 to 1", "0 to 255, or the like"
    else:
        return
    warnings.warn(
        f"The network was trained on pixels from {ranges[0]} (a bright one is "
        f"{bright:.3g}), but those of X seem to be from {ranges[1]} (none is above "
        f"{highest:.3g}): give it images of the same scale",
        UserWarning,
        stacklevel=3,
    )


def _find_bright(images):
    """Return a bright pixel, as the highest mean and deviation of a channel."""
    axes = tuple(range(images.ndim - 1))
    means = images.mean(axes, dtype=np.float64)
    return float(np.max(means + images.std(axes, dtype=np.float64)))
