"""From resized images to probabilities, as a module of torch and a graph of ONNX."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import nn

from sklearn_iis.cnn import ImageFeatures
from sklearn_iis.cnn._module import Standardize

# Resizing with antialiasing is in ONNX since 18; a torch of its time writes 20.
OPSET = 20

# What logs at export, of which nothing is for the user.
LOGGERS = (
    "torch.onnx",
    "onnxscript",
    "onnx_ir",
    "torch.export",
    "torch.fx",
    "torch.__trace",
)


class NetworkProbabilities(nn.Module):
    """The network of a CNNClassifier, with softmax.

    Parameters
    ----------
    classifier : CNNClassifier
        A fitted one.
    """

    def __init__(self, classifier: Any):
        super().__init__()
        self.module = _copy(classifier.net_.module_)

    def forward(self, images):
        return self.module(images.float()).softmax(dim=-1)


class LinearProbabilities(nn.Module):
    """Features of a network, standardised, and a logistic regression on them.

    Parameters
    ----------
    features : ImageFeatures
        One with a network that is named.

    scaler : StandardScaler or None

    classifier : LogisticRegression
    """

    def __init__(self, features: Any, scaler: Any, classifier: Any):
        super().__init__()
        cpu = torch.device("cpu")
        on_cpu = ImageFeatures(features.backbone, device="cpu")
        self.network = _copy(on_cpu._make_network(cpu))
        self.takes_largest = features.pooling == "max"
        n_features = classifier.coef_.shape[1]
        shifts = scaler is not None and scaler.with_mean
        scales = scaler is not None and scaler.with_std
        self._register("mean", scaler.mean_ if shifts else np.zeros(n_features))
        self._register("scale", scaler.scale_ if scales else np.ones(n_features))
        self._register("weight", classifier.coef_.T)
        self._register(
            "bias", np.broadcast_to(classifier.intercept_, len(classifier.coef_))
        )

    def _register(self, name, values):
        values = np.array(values, dtype=np.float32)
        self.register_buffer(name, torch.from_numpy(values))

    def forward(self, images):
        maps = self.network((images.float() / 255).expand(-1, 3, -1, -1))
        if maps.ndim == 4:
            maps = maps.amax((2, 3)) if self.takes_largest else maps.mean((2, 3))
        logits = ((maps - self.mean) / self.scale) @ self.weight + self.bias
        if logits.shape[1] > 1:
            return logits.softmax(dim=-1)
        positive = logits.sigmoid()
        return torch.cat([1 - positive, positive], dim=1)


def _copy(module: nn.Module) -> nn.Module:
    """Return a module on the CPU in evaluation mode, in the usual order of memory."""
    copied = deepcopy(module).cpu().eval().requires_grad_(False)
    for part in copied.modules():
        if isinstance(part, Standardize):
            part.memory_format = torch.contiguous_format
    return copied.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


def export(module: nn.Module, channels: int, size: tuple[int, int]) -> Any:
    """Return a model of ONNX from "resized" to "probabilities".

    Parameters
    ----------
    module : torch.nn.Module
        Called with images (n, channels, height, width) of dtype uint8.

    channels : int

    size : tuple of (int, int)
        Height and width.
    """
    # Of two: a dynamic axis must not be of length 1.
    example = torch.zeros(2, channels, *size, dtype=torch.uint8)
    with _quiet(), torch.inference_mode():
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("n")},),
            input_names=["resized"],
            output_names=["probabilities"],
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    return program.model_proto


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what torch logs and warns of, when it exports, from the user."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
