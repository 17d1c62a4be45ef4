"""The network of the paper as a torch module."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sklearn_iis.cnn import CNNClassifier
from sklearn_iis.cnn._module import ConvBlock, ConvNet, Standardize, UnitNorm


def test_standardize():
    """Channels get mean 0 and deviation 1, a constant one 0; buffers, not weights."""
    images = torch.randint(0, 256, (20, 3, 4, 5), dtype=torch.uint8)
    images[:, 2] = 7
    values = images.double()
    mean, std = values.mean((0, 2, 3)), values.std((0, 2, 3), correction=0)
    standardize = Standardize(mean, std)
    out = standardize(images)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out.mean((0, 2, 3)), torch.zeros(3))
    deviation = out.std((0, 2, 3), correction=0)
    torch.testing.assert_close(deviation, torch.tensor([1.0, 1.0, 0.0]))
    assert set(standardize.state_dict()) == {"mean", "scale"}
    assert list(standardize.parameters()) == []


@pytest.mark.parametrize("batch_norm", [False, "conv", True])
@pytest.mark.parametrize("filter_size", [2, 3, 5])
@pytest.mark.parametrize("pooling", ["flatten", "average"])
def test_forward(batch_norm, filter_size, pooling):
    """The same as the layers written down one by one, ReLU before the pooling."""
    net = ConvNet(
        (3, 12, 9),
        4,
        n_conv_layers=2,
        n_filters=(5, 6),
        filter_size=filter_size,
        n_hidden_layers=2,
        n_units=(8, 7),
        batch_norm=batch_norm,
        pooling=pooling,
    )
    x = images = torch.randn(10, 3, 12, 9)
    before, after = filter_size // 2, (filter_size - 1) // 2
    for block in net.layers[:2]:
        padded = F.pad(x, (before, after, before, after))
        x = F.conv2d(padded, block.conv.weight, block.conv.bias)
        if batch_norm:
            mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
            x = (x - mean[:, None, None]) / torch.sqrt(var + 1e-5)[:, None, None]
        x = F.max_pool2d(F.relu(x), 2)
    x = x.flatten(1) if pooling == "flatten" else x.mean((2, 3))
    *hidden, last = (m for m in net.layers if isinstance(m, nn.Linear))
    for layer in hidden:
        x = F.linear(x, layer.weight, layer.bias)
        if batch_norm is True:
            x = (x - x.mean(0)) / torch.sqrt(x.var(0, correction=0) + 1e-5)
        x = F.relu(x)
    expected = F.linear(x, last.weight, last.bias)
    assert hidden[0].in_features == (6 * 3 * 2 if pooling == "flatten" else 6)
    torch.testing.assert_close(net(images), expected, rtol=1e-4, atol=1e-5)


def test_gradient_of_pooling_before_relu():
    """Pooling before ReLU is the same function, and has the same gradient."""
    block = ConvBlock((2, 8, 8), 3, 3, batch_norm=False)
    images = torch.randn(4, 2, 8, 8)
    block(images).square().sum().backward()
    gradient = block.conv.weight.grad.clone()
    block.conv.weight.grad = None
    F.max_pool2d(F.relu(block.conv(images)), 2).square().sum().backward()
    torch.testing.assert_close(block.conv.weight.grad, gradient)


@pytest.mark.parametrize(
    ("size", "n_halvings"),
    [((1, 1), 0), ((1, 2), 1), ((1, 9), 3), ((8, 8), 3), ((7, 7), 2), ((33, 4), 5)],
)
@pytest.mark.parametrize("filter_size", [2, 3])
def test_n_conv_layers(size, n_halvings, filter_size):
    """As many as the longer side has halvings, and no more, if flattened; at most 4."""
    shape = (1, *size)
    images = torch.randn(3, *shape)
    net = ConvNet(shape, 2, n_conv_layers=n_halvings, filter_size=filter_size)
    assert net(images).shape == (3, 2)
    assert sum(isinstance(m, ConvBlock) for m in net.layers) == n_halvings
    auto = ConvNet(shape, 2, filter_size=filter_size)
    assert sum(isinstance(m, ConvBlock) for m in auto.layers) == min(n_halvings, 4)
    height, width = size
    message = f"images of {height} x {width} pixels.* {n_halvings} fit"
    with pytest.raises(ValueError, match=message):
        ConvNet(shape, 2, n_conv_layers=n_halvings + 1, filter_size=filter_size)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (8, 8), (70, 33)])
def test_average_pooling_has_as_many_layers_at_each_size(size):
    """Beyond one pixel nothing is halved; "auto" is 4 always."""
    images = torch.randn(3, 1, *size)
    for given, expected in (("auto", 4), (7, 7), (0, 0)):
        net = ConvNet((1, *size), 2, n_conv_layers=given, pooling="average")
        assert net(images).shape == (3, 2)
        assert sum(isinstance(m, ConvBlock) for m in net.layers) == expected


@pytest.mark.parametrize("values", [(4, 8), [4, 8], np.array([4, 8])])
def test_one_value_a_layer(values):
    """Sequences give each layer its own value."""
    net = ConvNet(
        (1, 8, 8),
        3,
        n_conv_layers=2,
        n_filters=values,
        n_hidden_layers=2,
        n_units=values,
    )
    filters = [m.conv.out_channels for m in net.layers if isinstance(m, ConvBlock)]
    units = [m.out_features for m in net.layers if isinstance(m, nn.Linear)]
    assert filters == [4, 8]
    assert units == [4, 8, 3]


@pytest.mark.parametrize("name", ["n_filters", "filter_size", "n_units"])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ((3,), "has 1 values for 2 layers"),
        ((3, 0), "from 1 up"),
        ((3, 2.5), "from 1 up"),
    ],
)
def test_wrong_values(name, value, message):
    """Too few values, or values that are no positive integers, are refused by name."""
    with pytest.raises(ValueError, match=f"{name} .*{message}"):
        ConvNet((1, 8, 8), 3, n_conv_layers=2, n_hidden_layers=2, **{name: value})


def test_a_single_image_is_trained_by_the_running_statistics():
    """Its own would be its features themselves."""
    norm = UnitNorm(3)
    norm.running_mean[:] = torch.tensor([1.0, 2.0, 3.0])
    features = torch.tensor([[2.0, 4.0, 6.0]])
    expected = features - norm.running_mean
    torch.testing.assert_close(norm(features), expected, rtol=1e-4, atol=0)
    assert CNNClassifier(batch_size=1, max_epochs=1).fit(
        np.zeros((4, 4, 4)), [0, 1, 0, 1]
    )


def test_dropout_is_before_each_fully_connected_layer():
    net = ConvNet((1, 8, 8), 3, n_hidden_layers=2, dropout=0.4)
    kinds = [type(layer) for layer in net.layers]
    drops = [i for i, kind in enumerate(kinds) if kind is nn.Dropout]
    assert [kinds[i + 1] for i in drops] == [nn.Linear] * 3
    assert kinds.count(nn.Linear) == 3
    assert {net.layers[i].p for i in drops} == {0.4}


def test_names_of_weights_do_not_depend_on_dropout():
    names = [ConvNet((1, 8, 8), 3, dropout=p).state_dict().keys() for p in (0.0, 0.5)]
    assert names[0] == names[1]


def test_average_pooling_has_no_weight_that_depends_on_the_size():
    shapes = [
        {
            name: p.shape
            for name, p in ConvNet(
                (3, size, size), 4, n_conv_layers=3, pooling="average"
            ).named_parameters()
        }
        for size in (8, 33)
    ]
    assert shapes[0] == shapes[1]
