"""Fine-tuning: a pretrained backbone with a new head, frozen at first."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from sklearn_iis.cnn._backbones import make_backbone

# Learning rates from nothing, and with pretrained weights: the many features of a
# backbone take smaller steps. doc/pretrained.md has measurements.
LEARNING_RATE = 0.05
FINE_TUNING_RATE = 0.01

# The least momentum of batch normalisation, torch's default. EfficientNets come with
# 0.01, for longer training: after 100 steps their statistics are still those of the
# size that the weights were learned at.
MIN_MOMENTUM = 0.1

RGB = 3


class FineTunedNet(nn.Module):
    """A backbone, the mean of its feature maps, dropout, and one linear layer.

    No weight depends on the size of the image. Grey images are repeated to three
    channels.

    Parameters
    ----------
    name : str
        The backbone, as :func:`~sklearn_iis.cnn._backbones.make_backbone` has it.

    input_shape : tuple (channels, height, width)
        Of one channel or three.

    n_classes : int

    dropout : float, default=0.2
        Share of the features that are set to 0, in training, before the linear layer.

    pretrained : bool, default=True
        Whether the backbone begins with the weights that it comes with.

    Attributes
    ----------
    pixel_mean, pixel_std : tuple of float, one per channel
        How images are to be standardised, of pixels from 0 to 1; grey ones by the mean
        over the channels, which `forward` corrects once there are three.

    Raises
    ------
    ValueError
        If the images have neither one channel nor three, or there is no such backbone.

    ImportError
        If the backbone or its weights are not installed.
    """

    def __init__(self, name, input_shape, n_classes, *, dropout=0.2, pretrained=True):
        super().__init__()
        n_channels = input_shape[0]
        if n_channels not in (1, RGB):
            raise ValueError(
                f"module={name!r} takes images of {RGB} channels (red, green, blue) or "
                f"grey ones, of 1; it got {n_channels}"
            )
        backbone = make_backbone(name, pretrained=pretrained)
        mean, std = np.array(backbone.mean), np.array(backbone.std)
        self.is_grey = n_channels == 1
        if self.is_grey:
            grey, spread = mean.mean(), std.mean()
            self._register("shift", (mean - grey) / spread)
            self._register("spread", std / spread)
            mean, std = grey[np.newaxis], spread[np.newaxis]
        self.pixel_mean, self.pixel_std = tuple(mean.tolist()), tuple(std.tolist())
        self.backbone = backbone.module
        for layer in self.backbone.modules():
            if isinstance(layer, nn.BatchNorm2d) and layer.momentum:
                layer.momentum = max(layer.momentum, MIN_MOMENTUM)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(backbone.n_features, n_classes)

    def _register(self, name, values):
        """Keep a number for each channel that follows from the backbone."""
        buffer = torch.tensor(values, dtype=torch.float32).reshape(-1, 1, 1)
        self.register_buffer(name, buffer, persistent=False)

    def forward(self, images):
        if self.is_grey:
            # To three channels, each standardised by what is its own.
            images = (images - self.shift) / self.spread
        features = self.backbone(images)
        if features.ndim == 4:
            features = features.mean(dim=(2, 3))
        return self.head(self.dropout(features))


def get_constructor(module: Any) -> Callable[..., nn.Module]:
    """Return what makes the network of a classifier's `module`, a name or a class."""
    return partial(FineTunedNet, module) if isinstance(module, str) else module


def find_backbone(network: nn.Module) -> nn.Module | None:
    """Return the submodule of a network that is named `backbone`, if there is one."""
    return dict(network.named_children()).get("backbone")


def get_learning_rate(classifier: Any) -> float:
    """Return the learning rate of a classifier, by default that for its network."""
    if classifier.learning_rate is not None:
        return classifier.learning_rate
    return FINE_TUNING_RATE if isinstance(classifier.module, str) else LEARNING_RATE


def check_backbone(classifier: Any, network: nn.Module) -> None:
    """Raise an error if a classifier has settings for a backbone that is not there."""
    freeze_epochs, rate = classifier.freeze_epochs, classifier.backbone_rate
    if freeze_epochs == 0 and rate == 1:
        return
    name = type(network).__name__
    backbone = find_backbone(network)
    if backbone is None:
        raise ValueError(
            f"freeze_epochs={freeze_epochs} and backbone_rate={rate} are for networks "
            f"with a submodule named 'backbone', and {name} has none: leave them at 0 "
            "and 1, or give such a module, or the name of a backbone"
        )
    n_frozen = len(list(backbone.parameters()))
    if freeze_epochs and n_frozen == len(list(network.parameters())):
        raise ValueError(
            f"freeze_epochs={freeze_epochs} leaves nothing to train: all weights of "
            f"{name} are in its backbone"
        )


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Have a module predict as it is: no gradients, no new statistics, no dropout.

    Nothing that its input does not need is kept for the gradient, so a forward pass
    takes the memory of a prediction.
    """
    trained = [p for p in module.parameters() if p.requires_grad]
    # Of each by itself: a network may have put part of it in another mode.
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_()
        for part, is_training in modes:
            part.training = is_training


def find_pixel_statistics(network: nn.Module) -> tuple[np.ndarray, np.ndarray] | None:
    """Return mean and deviation that a network wants pixels standardised by, if any."""
    values = [getattr(network, name, None) for name in ("pixel_mean", "pixel_std")]
    if any(value is None for value in values):
        return None
    mean, std = (np.asarray(value, dtype=np.float64) for value in values)
    return mean, std
