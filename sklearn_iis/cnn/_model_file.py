"""A trained model as a file without code: tensors by safetensors, the rest as JSON."""

import json
import math
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import nn
from torch.nn.parameter import is_lazy

from sklearn_iis._files import check_writable, replace_file
from sklearn_iis.cnn._backbones import LITE0
from sklearn_iis.cnn._callbacks import select_history
from sklearn_iis.cnn._random import TorchRandom
from sklearn_iis.cnn._training import make_module
from sklearn_iis.execution._text import printable, shorten

FORMAT = "sklearn_iis.CNNClassifier"
VERSION = 1

# The bytes of a header: the names and shapes of the tensors, and the description. What
# is made of them in memory may be some 25 times larger.
MAX_HEADER = 2**24

# The bytes of the array of classes. Strings all take as much as the longest.
MAX_CLASSES = 2**26

# The dtypes of classes, as numpy writes them.
DTYPES = re.compile(r"[<>|=]?([biuf][1248]|U\d{1,8}|O|[Mm]8\[\d{0,9}[A-Za-z]{1,2}\])")

# The characters of an error, and of a name or a value in it.
MAX_MESSAGE = 1000
MAX_QUOTE = 100

# Parameters that `load` is given again.
GIVEN_AGAIN = {"device", "module"}

# Backbones that our own code makes: a file may ask for them.
OWN_BACKBONES = (LITE0,)

STATISTICS = ("standardize.mean", "standardize.scale")


def save_model(path: Path, classifier: Any) -> None:
    """Write a trained classifier to a file that is sure to be loaded again.

    Raises
    ------
    OSError
        If the file cannot be written.

    TypeError
        If a label or a parameter of the module cannot be written as JSON.

    ValueError
        If the file could not be loaded, or would predict something else.
    """
    check_writable(path)
    description = _describe(classifier)
    with explain_errors("the network cannot be saved, as it could not be loaded again"):
        data = _to_bytes(classifier.net_.module_.state_dict(), description)
        replace_file(path, data, partial(_check_file, classifier=classifier))


def load_model(path: Path, cls: Any, device: str, module: Any) -> tuple[Any, nn.Module]:
    """Return the classifier of a file without its net, and the network for it.

    Nothing in the file is run, and no network is made whose weights it does not hold.
    """
    tensors, description = _read(path)
    module = _check_module(description["module"], description.get("backbone"), module)
    params = {name: decode(value) for name, value in description["params"].items()}
    classifier = cls(**params | {"device": device, "module": module})
    classifier._validate_params()
    classifier.image_shape_ = _check_image_shape(description["image_shape"])
    classifier.classes_ = _check_classes(**description["classes"])
    classifier.history_ = _check_history(description["history"])
    classifier.n_iter_ = len(classifier.history_)
    _set_features(classifier, description)
    classifier._training = None
    return classifier, _make_network(classifier, tensors)


def _check_module(saved_with: Any, backbone: Any, module: Any) -> Any:
    """Return the module to load, or raise an error if it is not that of the file.

    Parameters
    ----------
    saved_with : str or None
        The module that the file was saved with, as a text to be shown.

    backbone : str or None
        The same if it was a name.

    module : str, callable or None
        The one that `load` was given.
    """
    if module is None and backbone in OWN_BACKBONES:
        return backbone
    if (saved_with is None) != (module is None):
        raise ValueError(
            f"it was saved with a module of its own, {_quote(saved_with)}: give it to "
            "load as well, as a file must not choose which code makes its network"
            if module is None
            else "it was saved without a module of its own, but load was given one"
        )
    if module != backbone and (isinstance(module, str) or backbone is not None):
        raise ValueError(
            f"it was saved with module={_quote(saved_with)}, but load was given "
            f"{_quote(module)}"
        )
    return module


@contextmanager
def explain_errors(what: str) -> Iterator[None]:
    """Raise a ValueError in place of what a network that makes no sense may raise.

    Without its cause, which would show the text of a file as it is.
    """
    try:
        yield
    except (OSError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        text = " ".join(printable(error).split())
        if not isinstance(error, ValueError):
            text = f"{type(error).__name__}: {text}"
        message = f"{what}: {shorten(text, MAX_MESSAGE)}"
    else:
        return
    raise ValueError(message) from None


def _quote(value: Any) -> str:
    """Return a value that is not trusted as a short text on one line."""
    return shorten(printable(value, repr), MAX_QUOTE)


def _describe(classifier: Any) -> dict[str, Any]:
    """Return what there is to know besides the tensors, as JSON has it."""
    module = classifier.module
    classes = classifier.classes_
    is_time = classes.dtype.kind in "mM"
    description = {
        "params": _describe_params(classifier.get_params(deep=False)),
        "module": None if module is None else _quote(module),
        "image_shape": list(classifier.image_shape_),
        "classes": {
            "dtype": classes.dtype.str,
            "values": encode("classes_", classes.astype("i8") if is_time else classes),
        },
        "history": [
            {key: encode("history_", value) for key, value in row.items()}
            for row in classifier.history_
        ],
    }
    if isinstance(module, str):
        description["backbone"] = module
    for name in ("n_features_in_", "feature_names_in_"):
        if hasattr(classifier, name):
            description[name] = encode(name, getattr(classifier, name))
    return description


def _describe_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return those parameters that JSON can hold, without what belongs to the others.

    Those of the module must be among them, as they make the network what it is.
    """
    stored, left_out = {}, set()
    for name in params.keys() - GIVEN_AGAIN:
        try:
            stored[name] = encode(name, params[name])
        except TypeError as error:
            if name.startswith("module__"):
                raise TypeError(
                    f"{error}; bind it to the module, by functools.partial or a class "
                    "derived from it, and give that as module here and to load"
                ) from None
            left_out.add(name)
    return {
        name: stored[name]
        for name in sorted(stored)
        if name.partition("__")[0] not in left_out
    }


def encode(name: str, value: Any) -> Any:
    """Return a parameter or an attribute as JSON has it, or raise a TypeError."""
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufUO":
        value = value.tolist()
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": f"{value}"}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    try:
        if isinstance(value, list | tuple):
            items = [encode(name, item) for item in value]
            return items if isinstance(value, list) else {"tuple": items}
        if isinstance(value, dict):
            # Not an object of JSON, whose keys are strings always.
            return {"dict": [encode(name, [*item]) for item in value.items()]}
    except RecursionError:
        value = "itself"
    raise TypeError(
        f"{name} cannot be saved: it holds {_quote(value)}, which is neither a number, "
        "a string, a bool nor None"
    )


def decode(value: Any) -> Any:
    """Return what :func:`encode` was given."""
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    [(kind, content)] = value.items()
    if kind == "tuple":
        return tuple(decode(content))
    if kind == "dict":
        return dict(decode(content))
    if kind == "float":
        return float(content)
    raise ValueError(f"it holds a {_quote(kind)}")


def _to_bytes(tensors: Mapping[str, Any], description: Mapping[str, Any]) -> bytes:
    """Return a file of tensors, and of what else there is to know."""
    for name, tensor in tensors.items():
        if not isinstance(tensor, torch.Tensor):
            raise ValueError(f"its state has {_quote(name)}, which is no tensor")
    metadata = {
        "format": FORMAT,
        "version": f"{VERSION}",
        "description": json.dumps(description, allow_nan=False),
    }
    # Contiguous in the ordinary way, and with memory of their own: the format has
    # neither another order nor weights that are shared.
    data = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    return safetensors.torch.save(data, metadata)


def _check_file(path: Path, classifier: Any) -> None:
    """Raise an error if a file does not give the network that it was made of."""
    net = classifier.net_
    device = torch.device(net.device)
    with TorchRandom(0).lent(device):
        loaded = classifier._from_file(path, net.device, classifier.module).net_
        mean, scale = (
            net.module_.state_dict()[name].cpu().numpy().ravel() for name in STATISTICS
        )
        noise = np.random.RandomState(0).normal(size=(2, *classifier.image_shape_))
        images = (mean + noise / scale).astype(np.float32)
        # Twice, as a module may draw numbers also when it predicts.
        expected, again, found = (
            np.nan_to_num(n.predict_proba(images)) for n in (net, net, loaded)
        )
    if abs(found - expected).max() > 1e-4 + 10 * abs(again - expected).max():
        raise ValueError(
            "it would predict something else: its module holds more than parameters, "
            "persistent buffers and what its constructor makes the same each time"
        )


def _read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return the tensors and the description of a file."""
    with open(path, "rb") as file:
        n_bytes = int.from_bytes(file.read(8), "little")
    if n_bytes > MAX_HEADER:
        raise ValueError(
            f"its header would have {n_bytes:,} bytes, of {MAX_HEADER:,} at most"
        )
    with safetensors.safe_open(path, framework="pt", device="cpu") as file:
        metadata = file.metadata() or {}
        if metadata.get("format") != FORMAT:
            raise ValueError("it holds tensors, but not those of a CNNClassifier")
        if metadata.get("version") != f"{VERSION}":
            raise ValueError(
                f"it is of version {_quote(metadata.get('version'))}, and this "
                f"sklearn_iis reads version {VERSION}"
            )
        description = json.loads(metadata.get("description", ""))
        if not isinstance(description, dict):
            raise ValueError("its description is no dict")
        # `safe_open` has keys, but is no mapping.
        return {name: file.get_tensor(name) for name in file.keys()}, description  # noqa: SIM118


def _check_image_shape(shape: Any) -> tuple[int, int, int]:
    """Return the shape of the images that a file tells, or raise an error."""
    if (
        not isinstance(shape, list)
        or len(shape) != 3
        or not all(type(n) is int and n > 0 for n in shape)
        or math.prod(shape) >= 2**62
    ):
        raise ValueError(f"the shape of its images is {_quote(shape)}")
    height, width, channels = shape
    return height, width, channels


def _check_classes(dtype: Any, values: Any) -> np.ndarray:
    """Return the classes that a file tells, or raise an error."""
    plain = isinstance(values, list) and all(
        isinstance(value, bool | int | float | str) for value in values
    )
    if plain and len(set(values)) == len(values) and DTYPES.fullmatch(dtype):
        kind = np.dtype(dtype)
        if len(values) * kind.itemsize <= MAX_CLASSES:
            classes = np.array(values, np.int64 if kind.kind in "mM" else kind)
            if classes.tolist() == values:
                return classes.astype(kind, copy=False)
    raise ValueError(f"its classes are {_quote(values)} of dtype {_quote(dtype)}")


def _check_history(rows: Any) -> list[dict[str, Any]]:
    """Return the history that a file tells, or raise an error."""
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError("its history is no list of epochs")
    history = [
        {key: decode(value) for key, value in row.items()}
        for row in select_history(rows)
    ]
    if not all(type(v) in (int, float) for row in history for v in row.values()):
        raise ValueError("its history holds more than numbers")
    return history


def _set_features(classifier: Any, description: Mapping[str, Any]) -> None:
    """Set what a file tells of features, or raise an error."""
    n_features = description.get("n_features_in_")
    if n_features is None:
        return
    if n_features != math.prod(classifier.image_shape_):
        raise ValueError(
            f"it has {_quote(n_features)} features for images of shape "
            f"{classifier.image_shape_}"
        )
    classifier.n_features_in_ = int(n_features)
    names = description.get("feature_names_in_")
    if names is None:
        return
    feature_names = np.array(names, dtype=object)
    if feature_names.shape != (n_features,) or not all(
        isinstance(name, str) for name in names
    ):
        raise ValueError(f"it has {n_features} features named {_quote(names)}")
    classifier.feature_names_in_ = feature_names


def _make_network(classifier: Any, tensors: Mapping[str, torch.Tensor]) -> nn.Module:
    """Return the network of a classifier with these weights.

    It is made without memory first, and for real once the shapes are those of the file.
    """
    channels = classifier.image_shape_[2]
    _check_tensors(
        dict.fromkeys(STATISTICS, torch.empty((channels, 1, 1), device="meta")),
        {name: tensors[name] for name in STATISTICS if name in tensors},
    )
    own = classifier.module is None
    layers = (classifier.n_conv_layers, classifier.n_hidden_layers)
    n_layers = sum(n for n in layers if n != "auto")
    if own and n_layers > len(tensors):
        raise ValueError(f"it has {len(tensors)} tensors for {n_layers} layers")
    make = partial(make_module, classifier, pretrained=False)
    # Modules draw weights, which must not be seen outside.
    with TorchRandom(0).lent():
        network = _make_on_meta(make, must=own)
        if network is not None:
            _check_tensors(network.state_dict(), tensors)
        if own:
            network = network.to_empty(device="cpu")
        else:
            with torch.device("cpu"):
                network = make()
            _check_tensors(network.state_dict(), tensors)
    # Copied, not assigned: a module may hold its weights in other places as well.
    network.load_state_dict(tensors)
    return network


def _make_on_meta(make: Any, must: bool) -> Any:
    """Return a module without memory; None if it needs any, unless it must not."""
    try:
        with torch.device("meta"), warnings.catch_warnings():
            # torch warns that weights without memory are not initialised.
            warnings.simplefilter("ignore")
            return make()
    except Exception:
        if must:
            raise
        return None


def _check_tensors(
    expected: Mapping[str, torch.Tensor], tensors: Mapping[str, torch.Tensor]
) -> None:
    """Raise an error if the tensors are not those of the network."""
    for name in sorted(expected.keys() | tensors.keys()):
        if name in tensors and name in expected and is_lazy(expected[name]):
            continue  # it takes the shape that it is given
        found, wanted = (
            f"{tuple(t[name].shape)} {t[name].dtype}" if name in t else "nothing"
            for t in (tensors, expected)
        )
        if found != wanted:
            name, found, wanted = (shorten(t, MAX_QUOTE) for t in (name, found, wanted))
            raise ValueError(f"{name} is {found}, and should be {wanted}")
