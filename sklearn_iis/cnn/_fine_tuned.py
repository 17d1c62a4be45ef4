"""Fine-tuning: a pretrained backbone with a new head, frozen at first."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from sklearn_iis.cnn._backbones import make_backbone

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
        How images are to be standardised, of pixels from 0 to 1. Grey ones are given as
        they are, and standardised once they are repeated.

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
        self.is_grey = n_channels == 1
        self.pixel_mean, self.pixel_std = backbone.mean, backbone.std
        if self.is_grey:
            self.pixel_mean, self.pixel_std = (0.0,), (1.0,)
            for key, values in (("shift", backbone.mean), ("spread", backbone.std)):
                buffer = torch.tensor(values).reshape(-1, 1, 1)
                self.register_buffer(key, buffer, persistent=False)
        self.backbone = backbone.module
        for layer in self.backbone.modules():
            if isinstance(layer, nn.BatchNorm2d) and layer.momentum:
                layer.momentum = max(layer.momentum, MIN_MOMENTUM)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(backbone.n_features, n_classes)

    def forward(self, images):
        if self.is_grey:
            images = (images - self.shift) / self.spread  # broadcasts to three channels
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


class Rates(NamedTuple):
    """How fast a network is trained, and its backbone, by default from scratch."""

    learning_rate: float = 0.05
    freeze_epochs: int = 0
    backbone_rate: float = 1.0

    @classmethod
    def of(cls, classifier: Any, network: nn.Module, new_head: bool) -> "Rates":
        """Return the rates that a classifier asks for.

        Parameters
        ----------
        classifier : CNNClassifier

        network : torch.nn.Module

        new_head : bool
            Whether the head has learned nothing yet. What was inherited is not frozen,
            unless `freeze_epochs` is set.

        Raises
        ------
        ValueError
            If the classifier has settings for a backbone, but the network has none, or
            nothing besides it to train while it is frozen.
        """
        defaults = cls()
        if isinstance(classifier.module, str):
            defaults = PRETRAINED if new_head else PRETRAINED._replace(freeze_epochs=0)
        given = {name: getattr(classifier, name) for name in cls._fields}
        rates = defaults._replace(
            **{name: value for name, value in given.items() if value is not None}
        )
        if rates == cls(rates.learning_rate):
            return rates
        backbone = find_backbone(network)
        if backbone is None:
            raise ValueError(
                f"freeze_epochs={classifier.freeze_epochs} and backbone_rate="
                f"{classifier.backbone_rate} are for networks with a submodule named "
                f"'backbone', and {type(network).__name__} has none: leave both None, "
                'or give such a module, or the name of one, as "efficientnet-lite0"'
            )
        n_frozen = len(list(backbone.parameters()))
        if rates.freeze_epochs and n_frozen == len(list(network.parameters())):
            raise ValueError(
                f"freeze_epochs={rates.freeze_epochs} leaves nothing to train: all "
                f"weights of {type(network).__name__} are in its backbone"
            )
        return rates


# Those of a backbone by name. doc/pretrained.md tells what they were chosen by.
PRETRAINED = Rates(learning_rate=0.01, freeze_epochs=1, backbone_rate=1.0)


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
