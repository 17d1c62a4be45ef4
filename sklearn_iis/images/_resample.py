"""Images in memory at another size: stretched, cropped or padded."""

import numpy as np

# Images are resized in batches of about this many bytes.
BATCH_BYTES = 2**25

# What grey is made of, as in Pillow.
LUMA = (0.299, 0.587, 0.114)

# How far floats may exceed 1, where they are taken for pixels from 0 to 1: bicubic
# interpolation overshoots by about a quarter.
HIGHEST = 1.25


def fit_images(
    X: np.ndarray,
    size: tuple[int, int],
    *,
    interpolation: str,
    aspect: str,
    background: tuple[int, int, int],
) -> np.ndarray:
    """Return images of a shape (n, height, width[, channels]) at another size.

    Parameters
    ----------
    X : ndarray of uint8, float32 or float64

    size : tuple of (int, int)
        Height and width.

    interpolation : {"nearest", "bilinear", "bicubic"}

    aspect : {"stretch", "crop", "pad"}
        What becomes of images of another shape than `size`.

    background : tuple of (int, int, int)
        The colour around padded images, from 0 to 255.

    Raises
    ------
    ValueError
        If the images are of another dtype, or are floats that do not end at 1 and are
        to be padded with a colour.
    """
    if X.shape[1:3] == size:
        return X
    if aspect == "crop":
        rows, columns = find_crop(X.shape[1:3], size)
        X = X[:, rows, columns]
    if aspect != "pad":
        return X if X.shape[1:3] == size else _resize(X, size, interpolation)
    inner = find_inner_size(X.shape[1:3], size)
    small = X if X.shape[1:3] == inner else _resize(X, inner, interpolation)
    if inner == size:
        return small
    padded = np.empty((len(X), *size, *X.shape[3:]), X.dtype)
    padded[:] = make_fill(background, X)
    top, left = (round((size[i] - inner[i]) / 2) for i in (0, 1))
    padded[:, top : top + inner[0], left : left + inner[1]] = small
    return padded


def find_crop(shape: tuple[int, ...], size: tuple[int, int]) -> tuple[slice, slice]:
    """Return rows and columns of the largest part with the shape of `size`, centred."""
    scale = min(shape[0] / size[0], shape[1] / size[1])
    sides = [max(1, round(scale * n)) for n in size]
    starts = [(shape[i] - sides[i]) // 2 for i in (0, 1)]
    rows, columns = (slice(starts[i], starts[i] + sides[i]) for i in (0, 1))
    return rows, columns


def find_inner_size(shape: tuple[int, ...], size: tuple[int, int]) -> tuple[int, int]:
    """Return the largest size within `size` at which an image keeps its shape."""
    scale = min(size[0] / shape[0], size[1] / shape[1])
    return max(1, round(scale * shape[0])), max(1, round(scale * shape[1]))


def make_fill(background, X):
    """Return the background as pixels of the kind that X has."""
    grey = round(float(np.dot(LUMA, background)))
    n_channels = X.shape[3] if X.ndim == 4 else 0
    known = {2: (grey, 255), 3: background, 4: (*background, 255)}
    fill = np.array(known.get(n_channels, grey))
    if X.dtype == np.uint8 or not fill.any():
        return fill
    highest = X.max()
    if highest <= HIGHEST:
        return fill / 255
    if not any(background):
        return fill
    raise ValueError(
        f"Images of {X.dtype} are padded with a colour from 0 to 1, but one has a "
        f"pixel of {highest:g}: divide them, give them as uint8, or set "
        'background="black"'
    )


def refuse_mixed_scales(images: np.ndarray, background: tuple[int, int, int]) -> None:
    """Raise an error if images that were padded one by one are of several scales.

    Parameters
    ----------
    images : ndarray of shape (n, height, width[, channels])
        The images, padded.

    background : tuple of (int, int, int)
        The colour that they were padded with.

    Raises
    ------
    ValueError
        If some are floats up to 1 and others are not, and the padding depends on that.
    """
    has_alpha = images.ndim == 4 and images.shape[3] in (2, 4)
    if images.dtype == np.uint8 or not (any(background) or has_alpha):
        return
    highest = images.max(axis=tuple(range(1, images.ndim)))
    is_unit = highest <= HIGHEST
    if is_unit.any() and not is_unit.all():
        dark, bright = is_unit.argmax(), is_unit.argmin()
        raise ValueError(
            f"Images of {images.dtype} are padded according to their scale, but "
            f"X[{dark}] seems to be from 0 to 1, and X[{bright}] has a pixel of "
            f"{highest[bright]:g}: divide them, give them as uint8, or as one array"
        )


def _resize(X, size, interpolation):
    """Images of shape (n, height, width[, channels]) at another size."""
    # torch takes a fifth of Pillow's time for uint8 images, channels last, and also
    # knows float64. Its import takes a second or two, so it is left until needed.
    import torch
    from torch.nn.functional import interpolate

    if X.dtype not in (np.uint8, np.float32, np.float64):
        raise ValueError(
            "Images of dtype uint8, float32 or float64 can be resized; got"
            f" {X.dtype}. Convert them first."
        )
    options = (
        {"mode": "nearest-exact"}
        if interpolation == "nearest"
        else {"mode": interpolation, "antialias": True}
    )
    resized = np.empty((len(X), *size, *X.shape[3:]), X.dtype)
    step = max(1, BATCH_BYTES // X[0].nbytes)
    for start in range(0, len(X), step):
        # torch wants contiguous memory, and warns if it must not write to it.
        batch = np.require(X[start : start + step], requirements=["C", "W"])
        batch = torch.from_numpy(batch.reshape(*batch.shape[:3], -1))
        batch = interpolate(batch.permute(0, 3, 1, 2), size, **options)
        batch = batch.permute(0, 2, 3, 1).reshape(-1, *resized.shape[1:])
        resized[start : start + step] = batch.numpy()
    return resized
