"""A file of ONNX compared with the pipeline that it was made of."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone

from sklearn_iis.deploy._onnx_plan import Plan

# How far resized pixels may be off, from 0 to 255: width and height are resized one
# after the other, with rounding each time.
MAX_LEVELS = 2

# How far the probabilities of the same resized images may be off: sums are taken in
# another order. 1e-5 was the most seen.
TOLERANCE = 1e-3

CPU = {"providers": ["CPUExecutionProvider"]}


def check_file(path: Path, resize: Any, plan: Plan) -> None:
    """Raise an error if a file does not predict what the pipeline does.

    Nothing is checked without onnxruntime.

    Parameters
    ----------
    path : Path
        The file.

    resize : onnx.ModelProto
        The part of it that resizes.

    plan : Plan
        What it was made of.

    Raises
    ------
    ValueError
        If pixels or probabilities are off by more than rounding.
    """
    try:
        from onnxruntime import InferenceSession
    except ImportError:
        return
    resizing = InferenceSession(resize.SerializeToString(), **CPU)
    session = InferenceSession(path, **CPU)
    for images in _draw_images(plan):
        (resized,) = resizing.run(None, {"images": images})
        resized = np.moveaxis(resized, 1, -1).reshape(*resized.shape[:1], *plan.shape)
        _compare_pixels(images, resized, plan)
        (found,) = session.run(None, {"images": images})
        with warnings.catch_warnings():
            # Of random images, and of tables without names.
            warnings.simplefilter("ignore")
            expected = plan.rest.predict_proba(resized)
        off = float(abs(found - expected).max())
        if not off <= TOLERANCE:
            raise ValueError(
                f"ONNX predicts something else for images of shape {images.shape}: "
                f"probabilities are off by {off:.2g}, where rounding explains "
                f"{TOLERANCE} at most"
            )


def _compare_pixels(images: np.ndarray, resized: np.ndarray, plan: Plan) -> None:
    """Raise an error if ONNX resizes otherwise than the pipeline."""
    if plan.resizer is None:
        return
    resizer = clone(plan.resizer)
    if images.ndim == 4:
        resizer.set_params(channels="last")
    levels = abs(resizer.transform(images).astype(int) - resized).max()
    if levels > MAX_LEVELS:
        raise ValueError(
            f"ONNX resizes images of shape {images.shape} otherwise: pixels are off by "
            f"{levels} of 255, where rounding explains {MAX_LEVELS} at most"
        )


def _draw_images(plan: Plan) -> Iterator[np.ndarray]:
    """Yield images as the graph takes them: of its size, larger and smaller."""
    height, width = plan.images.size
    sizes = [(height, width), (3 * height, 3 * width)]
    if plan.resizer is not None and plan.resizer.interpolation != "nearest":
        # Of others, centres of pixels may lie on the border between two.
        sizes += [(2 * height + 1, width), (height // 2 + 1, width // 3 + 1)]
    if plan.images.input_size is not None:
        sizes = [plan.images.input_size]
    rng = np.random.RandomState(0)
    for size in sizes:
        shape = (2, *size, *plan.shape[2:])
        yield rng.randint(0, 256, shape).astype(np.uint8)
