"""The loss of a batch: weighted images, mixed images, a criterion of one's own."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from sklearn_iis.cnn._batches import Batch


class Targets(NamedTuple):
    """The classes of a batch of images.

    Parameters
    ----------
    labels : tensor of shape (n,), int64

    weights : tensor of shape (n,), default=None
        What each image counts; their mean over all images of an epoch is 1.

    mixed : Targets, default=None
        Those of the images that were mixed into these.

    share : float, default=1.0
        The share of the images themselves in the mixture.
    """

    labels: torch.Tensor
    weights: torch.Tensor | None = None
    mixed: "Targets | None" = None
    share: float = 1.0

    @classmethod
    def of(cls, batch: Batch, device: Any) -> "Targets":
        """Return those of a batch, on a device."""
        weights = batch.weights
        weights = None if weights is None else weights.to(device)
        return cls(batch[1].to(device), weights)

    def take(self, order: torch.Tensor) -> "Targets":
        """Return those of images in another order."""
        weights = None if self.weights is None else self.weights[order]
        return Targets(self.labels[order], weights)


def mix(
    images: torch.Tensor, targets: Targets, alpha: float, rng: np.random.RandomState
) -> tuple[torch.Tensor, Targets]:
    """Mix each image of a batch with another one (mixup: Zhang et al. 2018, eq. 1).

    The share of a batch is drawn from a beta distribution, `alpha` its parameters.
    """
    share = rng.beta(alpha, alpha)
    order = torch.from_numpy(rng.permutation(len(images))).to(images.device)
    images = images.float()
    mixed = torch.lerp(images[order], images, share)
    return mixed, targets._replace(mixed=targets.take(order), share=share)


class ImageLoss(nn.Module):
    """Weighted mean of the losses of the images.

    Parameters
    ----------
    criterion : callable, default=None
        Maps logits (n, n_classes) and labels (n,) to losses (n,). None is the cross
        entropy.

    label_smoothing : float, default=0.0
        Of the cross entropy in training, not in validation.
    """

    def __init__(
        self,
        criterion: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
        label_smoothing: float = 0.0,
    ):
        super().__init__()
        self.criterion = criterion
        self.label_smoothing = label_smoothing

    def forward(self, logits: torch.Tensor, targets: Targets) -> torch.Tensor:
        loss = self._mean(logits, targets)
        if targets.mixed is not None:
            loss = torch.lerp(self._mean(logits, targets.mixed), loss, targets.share)
        return loss

    def _mean(self, logits, targets):
        losses = self._losses(logits, targets.labels)
        return (
            losses.mean()
            if targets.weights is None
            else (losses * targets.weights).mean()
        )

    def _losses(self, logits, labels):
        if self.criterion is None:
            smoothing = self.label_smoothing if self.training else 0.0
            return F.cross_entropy(
                logits, labels, reduction="none", label_smoothing=smoothing
            )
        losses = self.criterion(logits, labels)
        if losses.shape != labels.shape:
            raise ValueError(
                f"criterion must return the loss of each image, of shape "
                f"{tuple(labels.shape)}, got {tuple(losses.shape)}; criteria of torch "
                'do so with reduction="none"'
            )
        return losses
