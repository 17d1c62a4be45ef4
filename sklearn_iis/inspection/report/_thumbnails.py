"""Samples of test data as small images that are embedded in a page."""

import os
from base64 import b64encode
from collections.abc import Iterable
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone

from sklearn_iis._resize import ImageResizer
from sklearn_iis._sklearn_compat import take_samples
from sklearn_iis.images._items import find_items

# The longer side of a thumbnail, in pixels: sharp on a screen with two per CSS pixel.
LARGEST = 256

# An image of at most so many pixels a side is embedded as it is.
SMALL = 64


def make_thumbnails(X: Any, indices: Iterable[int], model: Any) -> list[dict[str, Any]]:
    """Return the image and the name of the file of samples, as far as there are any.

    The model tells how its images are stored, if an `ImageResizer` is part of it.
    """
    with suppress(ValueError):  # of what is no image
        items = find_items(X)
        X = X if items is None else items
    resizer = find_resizer(model)
    resizer = ImageResizer() if resizer is None else clone(resizer)
    resizer.set_params(size=None)
    samples = [take_samples(X, [index]) for index in indices]
    images = [_read(sample, resizer) for sample in samples]
    low, high = _find_range(images)
    return [
        {
            "uri": "" if image is None else _encode(image, low, high),
            "small": image is not None and max(image.shape[:2]) <= SMALL,
            "file": _name_file(sample),
        }
        for sample, image in zip(samples, images, strict=True)
    ]


def find_resizer(model: Any) -> ImageResizer | None:
    """Return the first `ImageResizer` that is part of a fitted model."""
    model = getattr(model, "best_estimator_", model)
    if isinstance(model, ImageResizer):
        return model
    parts = model.get_params().values()
    return next((part for part in parts if isinstance(part, ImageResizer)), None)


def _read(sample: Any, resizer: ImageResizer) -> np.ndarray | None:
    """Return a sample as an image, grey or in colour; None if it is none."""
    try:
        image = resizer.fit_transform(sample)[0]
    except Exception:  # there may be anything in it
        return None
    if image.ndim == 3 and image.shape[2] == 1:
        return image[:, :, 0]
    if image.ndim == 3 and image.shape[2] in (3, 4):
        return image[:, :, :3]
    return image if image.ndim == 2 else None


def _find_range(images: list[np.ndarray | None]) -> tuple[float, float]:
    """Return what is black and white: of other numbers than bytes, the ends of all."""
    found = [image for image in images if image is not None]
    if not found or all(image.dtype == np.uint8 for image in found):
        return 0, 255
    return min(float(i.min()) for i in found), max(float(i.max()) for i in found)


def _encode(pixels: np.ndarray, low: float, high: float) -> str:
    """Return an image as a data URI, made smaller if it is large."""
    from PIL import Image

    if pixels.dtype != np.uint8:
        spread = high - low or 1.0
        pixels = np.round((pixels.astype(float) - low) / spread * 255).astype(np.uint8)
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.thumbnail((LARGEST, LARGEST))
    kind = "png" if max(image.size) <= SMALL else "jpeg"
    file = BytesIO()
    image.save(file, format=kind, quality=80)
    data = b64encode(file.getvalue()).decode("ascii")
    return f"data:image/{kind};base64,{data}"


def _name_file(sample: Any) -> str:
    """Return the name of the file of a sample that is a path; empty of another one."""
    item = sample[0] if isinstance(sample, list) else None
    return Path(item).name if isinstance(item, str | os.PathLike) else ""
