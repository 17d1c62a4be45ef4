"""The parts of a pipeline that are exported to ONNX."""

from copy import deepcopy
from types import NoneType
from typing import Any, NamedTuple

import torch
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from sklearn_iis._resize import ImageResizer
from sklearn_iis.cnn import CNNClassifier, ImageFeatures
from sklearn_iis.cnn._pixels import OVERSHOOT
from sklearn_iis.deploy._folder import quote
from sklearn_iis.deploy._onnx_network import LinearProbabilities, NetworkProbabilities
from sklearn_iis.deploy._onnx_resize import Images

LINEAR = (LogisticRegression, LogisticRegressionCV)

# Types of the steps after the resizer.
EXPORTED = (
    (CNNClassifier,),
    (ImageFeatures, LINEAR),
    (ImageFeatures, StandardScaler, LINEAR),
)
KNOWN = (CNNClassifier, ImageFeatures, StandardScaler, *LINEAR)


class Plan(NamedTuple):
    """The parts of a pipeline that are exported.

    Parameters
    ----------
    resizer : ImageResizer or None
        None if images are of one size already.

    rest : Pipeline
        What follows; it computes in float32 on the CPU.

    module : torch.nn.Module
        The same, of images (n, channels, height, width).

    images : Images
    """

    resizer: Any
    rest: Pipeline
    module: nn.Module
    images: Images

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a resized image, as `rest` takes it."""
        return (*self.images.size, self.images.channels)[: 2 + self.images.has_channels]


def make_plan(model: Any, input_size: tuple[int, int] | None) -> Plan:
    """Return the parts of a fitted model.

    Raises
    ------
    TypeError
        If a step cannot be exported; the message names it.

    ValueError
        If a network cannot, or is not given images of its size.
    """
    while type(model) is FrozenEstimator:
        model = model.estimator
    named = model.steps if type(model) is Pipeline else [("the model", model)]
    steps = [pair for pair in named if not isinstance(pair[1], str | NoneType)]
    has_resizer = bool(steps) and type(steps[0][1]) is ImageResizer
    resizer = steps.pop(0)[1] if has_resizer else None
    _check_steps(steps)
    rest = _in_float32(Pipeline(steps))
    resizer, images = _find_images(resizer, rest.steps[0][1], input_size)
    return Plan(resizer, rest, _make_module(rest), images)


def _check_steps(steps: list[tuple[str, Any]]) -> None:
    """Raise an error if steps after the resizer cannot be exported."""
    if not any(
        len(steps) == len(types)
        and all(isinstance(s, t) for (_, s), t in zip(steps, types, strict=True))
        for types in EXPORTED
    ):
        raise TypeError(_name_culprit(steps))
    for name, step in steps:
        module = getattr(step, "module", getattr(step, "backbone", None))
        if module is not None and not isinstance(module, str):
            raise ValueError(
                f"{name!r} cannot be exported to ONNX: it has a module of its own, "
                f"{quote(module)}; torch.onnx.export may do that"
            )
        if isinstance(step, CNNClassifier):
            _check_scale(name, step)


def _name_culprit(steps: list[tuple[str, Any]]) -> str:
    """Return a message that names the step that cannot be exported."""
    texts = [f"{name!r} ({type(step).__name__})" for name, step in steps]
    unknown = [
        text
        for text, (_, step) in zip(texts, steps, strict=True)
        if not isinstance(step, KNOWN)
    ]
    what = unknown[0] if unknown else f"{' -> '.join(texts) or 'a resizer'} as a whole"
    return (
        f"{what} cannot be exported to ONNX: after an ImageResizer there may be a "
        "CNNClassifier, or ImageFeatures, a StandardScaler or none, and a "
        "LogisticRegression"
    )


def _check_scale(name: str, classifier: Any) -> None:
    """Raise an error if a network was trained on pixels from 0 to 1."""
    standardize = classifier.net_.module_.standardize
    bright = float((standardize.mean + 1 / standardize.scale).max())
    if bright <= 1 + OVERSHOOT:
        raise ValueError(
            f"{name!r} was trained on pixels from 0 to 1 (a bright one is {bright:.3g})"
            ", and a graph takes those from 0 to 255: train it on images of dtype uint8"
        )


def _in_float32(pipeline: Pipeline) -> Pipeline:
    """Return a copy that predicts on the CPU in float32."""
    pipeline = deepcopy(pipeline)
    for _, step in pipeline.steps:
        if isinstance(step, ImageFeatures):
            step.set_params(device="cpu", precision="float32")
        if isinstance(step, CNNClassifier):
            step.net_.move_to(torch.device("cpu"))
            step.net_.precision = "float32"
    return pipeline


def _find_images(
    resizer: Any, first: Any, input_size: tuple[int, int] | None
) -> tuple[Any, Images]:
    """Return the resizer, None if it has nothing to do, and the images to be taken."""
    shape = getattr(first, "image_shape_", getattr(resizer, "image_shape_", None))
    if shape is None:  # a resizer need not be fitted
        is_grey = resizer is not None and resizer.mode == "L"
        channels, own_size = 1 if is_grey else 3, None
    else:
        channels, own_size = (*shape, 1)[2], tuple(shape[:2])
    size = None if resizer is None else resizer._check_size()
    if size is not None:
        return resizer, Images(channels, input_size, size)
    size = (own_size if isinstance(first, CNNClassifier) else None) or input_size
    if size is None:
        raise ValueError(
            "input_size must be given: the pipeline has no ImageResizer with a size"
        )
    if input_size not in (None, size):
        raise ValueError(
            f"input_size={input_size} must be {size}: the pipeline has no ImageResizer "
            "with a size, and the network takes no other images"
        )
    return None, Images(channels, size, size)


def _make_module(rest: Pipeline) -> nn.Module:
    """Return the steps after the resizer as a module."""
    first, *others = (step for _, step in rest.steps)
    if not others:
        return NetworkProbabilities(first)
    return LinearProbabilities(
        first, others[0] if len(others) > 1 else None, others[-1]
    )
