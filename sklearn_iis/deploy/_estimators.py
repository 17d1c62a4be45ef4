"""Fitted estimators as JSON and files without code, and back."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from zipfile import ZIP_STORED, ZipFile

import numpy as np
from sklearn.base import BaseEstimator, is_classifier
from sklearn.ensemble import VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

from sklearn_iis._resize import ImageResizer
from sklearn_iis.cnn import CNNClassifier, ImageFeatures
from sklearn_iis.cnn._model_file import OWN_BACKBONES, decode, encode
from sklearn_iis.deploy._folder import FileSet, quote
from sklearn_iis.execution._averaging import average

# Transformers of ours, of which parameters and a few notes are all there is.
STATELESS = {"ImageResizer": ImageResizer, "ImageFeatures": ImageFeatures}
NOTED = (
    "image_shape_",
    "n_features_in_",
    "n_features_out_",
    "feature_names_in_",
    "_sklearn_output_config",
)

# Where nodes of estimators that consist of others have these.
CONTAINERS = {"pipeline": "steps", "average": "members"}

# Types that are trusted besides those that skops trusts by itself. Not trees: an index
# in one that is out of bounds reads whatever memory is there.
TRUSTED = ["sklearn.utils._bunch.Bunch"]

# How the names of files end.
SKOPS_FILE = "skops"
NETWORK_FILE = "safetensors"


class Loading(NamedTuple):
    """Maker of estimators from the nodes of an index."""

    files: Mapping[str, bytes]
    device: str


def describe(estimator: Any, name: str, files: FileSet) -> dict[str, Any]:
    """Return a fitted estimator as JSON; what does not fit there goes to files.

    Parameters
    ----------
    estimator : estimator object

    name : str
        What errors call it.

    files : FileSet
        Takes the files up.

    Raises
    ------
    TypeError
        If it holds something that cannot be loaded without running code.

    ValueError
        If a network could not be loaded again, or needs a module of the user's.

    ImportError
        If it takes skops, which is not installed.
    """
    if type(estimator) is FrozenEstimator:
        return describe(estimator.estimator, name, files)
    if type(estimator) is Pipeline:
        steps = [
            [key, describe(step, f"{name}, step {key!r}", files)]
            for key, step in estimator.steps
        ]
        return {"kind": "pipeline", "steps": steps}
    if estimator is None or isinstance(estimator, str):
        return {"kind": "passthrough"}
    if _is_average(estimator):
        members = [
            [key, describe(member, f"{name}, {key!r} of its average", files)]
            for (key, _), member in zip(
                estimator.estimators, estimator.estimators_, strict=True
            )
        ]
        return {"kind": "average", "members": members}
    if type(estimator) is CNNClassifier:
        return {"kind": "network", "file": _save_network(estimator, name, files)}
    if type(estimator) in STATELESS.values():
        return _describe_stateless(estimator, name)
    return {"kind": "skops", "file": _save_by_skops(estimator, name, files)}


def _is_average(estimator: Any) -> bool:
    """Return whether an estimator averages fitted ones, as those of `n_averaged`."""
    return (
        type(estimator) is VotingClassifier
        and estimator.voting == "soft"
        and estimator.weights is None
        and all(type(member) is FrozenEstimator for member in estimator.estimators_)
    )


def _save_network(classifier: Any, name: str, files: FileSet) -> str:
    """Take up the file of a network, and return its name."""
    module = classifier.module
    if module is not None and module not in OWN_BACKBONES:
        raise ValueError(
            f"{name} cannot be saved: it has module={quote(module)}, and a file must "
            "not choose which code makes its network. CNNClassifier.save saves it, and "
            "CNNClassifier.load is given the module again"
        )
    with TemporaryDirectory() as folder:
        path = Path(folder) / "network"
        classifier.save(path)
        return files.add("network", path.read_bytes(), NETWORK_FILE)


def _describe_stateless(transformer: Any, name: str) -> dict[str, Any]:
    """Return a transformer of ours as JSON."""
    backbone = getattr(transformer, "backbone", None)
    if backbone is not None and (
        not isinstance(backbone, str) or backbone not in OWN_BACKBONES
    ):
        raise ValueError(
            f"{name} cannot be saved: it has backbone={quote(backbone)}, and a file "
            f"must not choose which code makes its network, but for {OWN_BACKBONES}"
        )
    params = transformer.get_params(deep=False)
    notes = {key: vars(transformer)[key] for key in NOTED if key in vars(transformer)}
    return {
        "kind": type(transformer).__name__,
        "params": {k: encode(f"{name}: {k}", v) for k, v in params.items()},
        "notes": {k: encode(f"{name}: {k}", v) for k, v in notes.items()},
    }


def _save_by_skops(estimator: Any, name: str, files: FileSet) -> str:
    """Take up a file of skops, and return its name."""
    skops = import_skops(name)
    kind = type(estimator).__name__
    if not isinstance(estimator, BaseEstimator):
        raise TypeError(f"{name} cannot be saved: {kind} is no estimator")
    try:
        data = skops.dumps(estimator)
    except Exception as error:
        raise TypeError(f"{name} ({kind}) cannot be saved: {error}") from error
    if reason := _find_untrusted(skops, data):
        raise TypeError(f"{name} ({kind}) cannot be saved: {reason}")
    return files.add("estimator", data, SKOPS_FILE)


def import_skops(name: str) -> Any:
    """Return skops, or raise an error that says how it is installed."""
    try:
        import skops.io
    except ImportError as error:
        raise ImportError(
            f"{name} takes skops: pip install 'sklearn-iis[deploy]'"
        ) from error
    return skops.io


def needs_skops(files: Mapping[str, bytes]) -> bool:
    """Return whether there is a file among them that skops has written."""
    return any(name.endswith(SKOPS_FILE) for name in files)


def _find_untrusted(skops: Any, data: bytes) -> str:
    """Return why a file of skops might run code; an empty text if it cannot."""
    found = skops.get_untrusted_types(data=data)
    untrusted = [quote(name) for name in found if name not in TRUSTED]
    if not untrusted:
        return ""
    return (
        f"it holds {', '.join(untrusted)}, and only arrays of numpy and estimators of "
        "scikit-learn, without trees and forests, are sure to do no harm when loaded"
    )


def make(node: Any, loading: Loading) -> Any:
    """Return the estimator of a node of an index.

    Raises
    ------
    ValueError, TypeError, KeyError
        If there is something that :func:`describe` does not write, or does not trust.
    """
    kind = node["kind"]
    if kind in STATELESS:
        return _make_stateless(node, loading)
    makers: dict[str, Callable[[Any, Loading], Any]] = {
        "pipeline": _make_pipeline,
        "average": _make_average,
        "network": _load_network,
        "skops": _load_by_skops,
        "passthrough": lambda node, loading: "passthrough",
    }
    if kind not in makers:
        raise ValueError(f"it holds an estimator of the kind {quote(kind)}")
    return makers[kind](node, loading)


def _make_pipeline(node: Any, loading: Loading) -> Pipeline:
    steps = [(f"{name}", make(step, loading)) for name, step in node["steps"]]
    if not steps:
        raise ValueError("it holds a pipeline without steps")
    return Pipeline(steps)


def _make_average(node: Any, loading: Loading) -> Any:
    members = [(f"{name}", make(member, loading)) for name, member in node["members"]]
    if not all(is_classifier(member) for _, member in members):
        raise ValueError("it averages what are no classifiers")
    return average(members, members[0][1].classes_)


def _load_network(node: Any, loading: Loading) -> CNNClassifier:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "network"
        path.write_bytes(loading.files[node["file"]])
        return CNNClassifier.load(path, device=loading.device)


def _make_stateless(node: Any, loading: Loading) -> Any:
    params = {name: decode(value) for name, value in node["params"].items()}
    if "device" in params:
        params["device"] = loading.device
    transformer = STATELESS[node["kind"]](**params)
    transformer._validate_params()
    backbone = params.get("backbone", OWN_BACKBONES[0])
    if backbone not in OWN_BACKBONES:
        raise ValueError(f"it asks for the backbone {quote(backbone)}")
    for name, value in node["notes"].items():
        if name not in NOTED:
            raise ValueError(f"it sets {quote(name)} of {node['kind']}")
        value = decode(value)
        if name == "feature_names_in_":
            value = np.array(value, dtype=object)
        setattr(transformer, name, value)
    return transformer


def _load_by_skops(node: Any, loading: Loading) -> Any:
    skops = import_skops("it")
    data = loading.files[node["file"]]
    with ZipFile(io.BytesIO(data)) as archive:
        # As it was written: what is packed may become much larger.
        if any(entry.compress_type != ZIP_STORED for entry in archive.infolist()):
            raise ValueError(f"{node['file']} is compressed")
    if reason := _find_untrusted(skops, data):
        raise ValueError(f"{node['file']} is not trusted: {reason}")
    estimator = skops.loads(data, trusted=TRUSTED)
    if not isinstance(estimator, BaseEstimator):
        raise ValueError(f"{node['file']} holds no estimator")
    return estimator
