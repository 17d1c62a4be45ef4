"""The range of pixels that pretrained networks take."""

import numpy as np

# How far floats may be below 0 and above 1: bicubic interpolation overshoots by about a
# quarter.
OVERSHOOT = 0.25


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
