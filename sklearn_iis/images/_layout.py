"""The axes of images in arrays: height, width and channels, or channels first."""

import numpy as np

# Numbers of channels by which an axis is taken for that of the channels.
COUNTS = (1, 3, 4)

# More channels than this are not likely, where they are as many as there are rows.
MANY = 16

# The sides of images with channels first differ by this factor at most.
SIMILAR = 2


def seems_channels_first(shape: tuple[int, ...]) -> bool:
    """Return whether images seem not to be (..., height, width, channels), as said.

    They do if the last two axes may be the sides of an image, and the last one hardly
    the channels: if they are equal, or similar and the last one is larger than `MANY`.
    Images of a few pixels may be anything, and are taken as they are said to be.
    """
    if len(shape) < 3 or shape[-3] not in COUNTS or min(shape[-2:]) <= max(COUNTS):
        return False
    height, width = shape[-2:]
    is_similar = max(height, width) <= SIMILAR * min(height, width)
    return height == width or (width > MANY and is_similar)


def seems_channels_last(shape: tuple[int, ...]) -> bool:
    """Return whether images seem not to be (..., channels, height, width), as said."""
    return len(shape) >= 3 and shape[-1] in COUNTS and min(shape[-3:-1]) > max(COUNTS)


def refuse_channels_first(shape: tuple[int, ...], name: str, remedy: str) -> None:
    """Raise an error if an array seems to have its channels before its rows.

    Raises
    ------
    ValueError
        If it does; `remedy` ends the message.
    """
    if seems_channels_first(shape):
        raise ValueError(
            f"{name} of shape {shape} seems to hold images with {shape[-3]} channels "
            f"first, as torch has them; the channels must be last: {remedy}"
        )


def move_channels_last(images: np.ndarray, channels: str | None, name: str):
    """Return images of shape (..., height, width, channels).

    Parameters
    ----------
    images : ndarray
        Images in colour, or one of them.

    channels : {"first", "last"} or None
        Where the channels are. None means last, unless they seem to be first.

    name : str
        What messages call the array.

    Raises
    ------
    ValueError
        If the channels seem to be elsewhere.
    """
    if channels is None:
        remedy = 'set channels="first" (or "last" if they are), or move that axis'
        refuse_channels_first(images.shape, name, remedy)
    if channels != "first":
        return images
    if seems_channels_last(images.shape):
        raise ValueError(
            f"{name} of shape {images.shape} seems to hold images with "
            f'{images.shape[-1]} channels last, but channels="first"'
        )
    return np.moveaxis(images, -3, -1)
