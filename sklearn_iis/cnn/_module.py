"""The network of the paper as a torch module."""

from itertools import pairwise
from numbers import Integral

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

MAX_AUTO_CONV_LAYERS = 4


class Standardize(nn.Module):
    """Shift and scale each channel to mean 0 and standard deviation 1.

    Both are buffers: they are saved and moved between devices with the weights.

    Parameters
    ----------
    mean, std : array-like of shape (channels,)
        A channel that does not vary is only shifted.

    memory_format : torch.memory_format, default=torch.channels_last
        How the result lies in memory.
    """

    def __init__(self, mean, std, memory_format=torch.channels_last):
        super().__init__()
        self.memory_format = memory_format
        mean, std = np.asarray(mean), np.asarray(std)
        constant = std <= 1e-6 * np.abs(mean)
        scale = 1 / np.where(constant, 1.0, std)
        for name, values in (("mean", mean), ("scale", scale)):
            buffer = torch.as_tensor(values, dtype=torch.float32).reshape(-1, 1, 1)
            self.register_buffer(name, buffer)

    def forward(self, images):
        images = (images - self.mean) * self.scale
        return images.contiguous(memory_format=self.memory_format)


class ConvBlock(nn.Module):
    """Convolution that keeps the size, then max-pooling that halves it, then ReLU.

    Parameters
    ----------
    in_shape : tuple (channels, height, width)

    n_filters, filter_size : int

    batch_norm : bool
        Normalise each channel over the batch before pooling.

    Attributes
    ----------
    out_shape : tuple (channels, height, width)
    """

    def __init__(self, in_shape, n_filters, filter_size, batch_norm):
        super().__init__()
        channels, *self.size = in_shape
        # Pooling leaves a side of one pixel alone.
        window = tuple(min(side, 2) for side in self.size)
        self.out_shape = (n_filters, *(max(side // 2, 1) for side in self.size))
        self.conv = nn.Conv2d(
            channels,
            n_filters,
            filter_size,
            padding=filter_size // 2,
            bias=not batch_norm,  # batch norm subtracts any bias again
        )
        self.norm = nn.BatchNorm2d(n_filters) if batch_norm else nn.Identity()
        self.pool = nn.MaxPool2d(window)

    def forward(self, images):
        height, width = self.size
        # An even filter gives one row and column more than it was given.
        features = self.norm(self.conv(images)[..., :height, :width])
        # max(relu(x)) = relu(max(x)), and there are a quarter as many after pooling.
        return torch.relu(self.pool(features))


class UnitNorm(nn.BatchNorm1d):
    """Batch normalisation of units; of a single image, by the running statistics."""

    def forward(self, features):
        if self.training and len(features) == 1:
            statistics = self.running_mean, self.running_var
            return F.batch_norm(
                features, *statistics, self.weight, self.bias, eps=self.eps
            )
        return super().forward(features)


class ConvNet(nn.Module):
    """Convolution and 2x2 max-pooling, repeated, then fully connected layers.

    Parameters
    ----------
    input_shape : tuple (channels, height, width)

    n_classes : int

    n_conv_layers : int or "auto"

    n_filters, filter_size : int or sequence of int, one per convolutional layer

    n_hidden_layers : int

    n_units : int or sequence of int, one per hidden layer

    batch_norm : bool or "conv"
        Of convolutional and hidden layers, or of the former only.

    pooling : {"flatten", "average"}
        What comes before the hidden layers: all features, or the mean of each filter
        over the image, so that no weight depends on the size of the image.

    dropout : float
        Share of the features that are set to 0, in training, before each fully
        connected layer.

    Attributes
    ----------
    input_shape : tuple (channels, height, width)

    settings : dict
        The parameters that weights depend on, with one value for each layer.

    Raises
    ------
    ValueError
        If all features are flattened and the image cannot be halved by each
        convolutional layer, or a sequence is not as long as there are layers.
    """

    def __init__(
        self,
        input_shape,
        n_classes,
        *,
        n_conv_layers="auto",
        n_filters=32,
        filter_size=3,
        n_hidden_layers=1,
        n_units=128,
        batch_norm=True,
        pooling="flatten",
        dropout=0.0,
    ):
        super().__init__()
        n_conv_layers = _check_conv_layers(n_conv_layers, pooling, *input_shape[1:])
        n_filters = _per_layer("n_filters", n_filters, n_conv_layers)
        filter_size = _per_layer("filter_size", filter_size, n_conv_layers)
        n_units = _per_layer("n_units", n_units, n_hidden_layers)
        norm_units = batch_norm not in (False, "conv")
        self.input_shape = tuple(input_shape)
        self.settings = {
            "n_conv_layers": n_conv_layers,
            "n_filters": n_filters,
            "filter_size": filter_size,
            "n_hidden_layers": n_hidden_layers,
            "n_units": n_units,
            "batch_norm": batch_norm,
            "pooling": pooling,
        }

        layers = []
        shape = self.input_shape
        for filters, size in zip(n_filters, filter_size, strict=True):
            layers.append(ConvBlock(shape, filters, size, bool(batch_norm)))
            shape = layers[-1].out_shape
        if pooling == "average":
            layers.append(nn.AdaptiveAvgPool2d(1))
            shape = (shape[0], 1, 1)
        layers.append(nn.Flatten())
        widths = (int(np.prod(shape)), *n_units)
        for n_in, n_out in pairwise(widths):
            layers += [nn.Dropout(dropout), nn.Linear(n_in, n_out, bias=not norm_units)]
            if norm_units:
                layers.append(UnitNorm(n_out))
            layers.append(nn.ReLU())
        layers += [nn.Dropout(dropout), nn.Linear(widths[-1], n_classes)]
        self.layers = nn.Sequential(*layers)

    def forward(self, images):
        return self.layers(images)


def _check_conv_layers(n_conv_layers, pooling, height, width):
    """Return the number of convolutional layers, or raise if they do not fit."""
    if pooling == "average":
        # The network is the same at each size.
        return MAX_AUTO_CONV_LAYERS if n_conv_layers == "auto" else n_conv_layers
    n_halvings = max(height, width).bit_length() - 1
    if n_conv_layers == "auto":
        return min(n_halvings, MAX_AUTO_CONV_LAYERS)
    if n_conv_layers > n_halvings:
        raise ValueError(
            f"n_conv_layers={n_conv_layers} is too many for images of {height} x "
            f"{width} pixels: each layer halves the image, and {n_halvings} fit. With "
            'pooling="average" there is no limit.'
        )
    return n_conv_layers


def _per_layer(name, value, n_layers):
    """Return one value a layer, from one for all of them or one for each."""
    values = (value,) * n_layers if isinstance(value, Integral) else tuple(value)
    if len(values) != n_layers:
        raise ValueError(f"{name} has {len(values)} values for {n_layers} layers.")
    if not all(isinstance(v, Integral) and v >= 1 for v in values):
        raise ValueError(f"{name} must hold integers from 1 up, got {value!r}.")
    return tuple(map(int, values))
