"""A trained model as a file without code: tensors by safetensors, the rest as JSON."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch

from sklearn_iis._files import check_writable, replace_file

FORMAT = "sklearn_iis.CNNClassifier"
VERSION = 1


def write_model(
    path: Path, tensors: Mapping[str, torch.Tensor], description: Mapping[str, Any]
) -> None:
    """Write tensors, and what else there is to know, to a file."""
    check_writable(path)
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
    replace_file(path, safetensors.torch.save(data, metadata))


def read_model(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read what :func:`write_model` has written; nothing in the file is run.

    Raises
    ------
    OSError
        If there is no such file, or it cannot be read.

    ValueError
        If it is another kind of file, was changed, or is of a later version.
    """
    with open(path, "rb"):
        pass  # or an error that tells what is wrong with the path
    try:
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise ValueError("it holds tensors, but not those of a CNNClassifier")
            if metadata.get("version") != f"{VERSION}":
                raise ValueError(
                    f"it is of version {metadata.get('version')!r}, and this "
                    f"sklearn_iis reads version {VERSION}"
                )
            description = json.loads(metadata.get("description", ""))
            if not isinstance(description, dict):
                raise ValueError("its description is no dict")
            # `safe_open` has keys, but is no mapping.
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{str(path)!r} cannot be loaded as a file that CNNClassifier.save wrote: "
            f"{error}"
        ) from error
    return tensors, description


def to_json(name: str, value: Any) -> Any:
    """Return a parameter or an attribute as JSON has it, or raise an error."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [to_json(name, item) for item in value]
    if isinstance(value, dict):
        return {str(key): to_json(name, item) for key, item in value.items()}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(
        f"{name} cannot be saved: it holds {value!r}, which is neither a number, a "
        "string, a bool nor None"
    )


def from_json(value: Any) -> Any:
    """Return lists as tuples: parameters are not to be changed in place."""
    return tuple(from_json(v) for v in value) if isinstance(value, list) else value


def check_image_shape(shape: Any) -> tuple[int, int, int]:
    """Return the shape of the images that a file tells, or raise an error."""
    if len(shape) != 3 or not all(isinstance(n, int) and n > 0 for n in shape):
        raise ValueError(f"the shape of its images is {shape!r}")
    height, width, channels = shape
    return height, width, channels


def check_classes(dtype: str, values: Any) -> np.ndarray:
    """Return the classes that a file tells, or raise an error."""
    kind = np.dtype(dtype)
    plain = all(isinstance(v, bool | int | float | str) for v in values)
    if kind.kind not in "biufUO" or not plain or len(set(values)) < len(values):
        raise ValueError(f"its classes are {values!r} of dtype {dtype}")
    # Strings are as long as they are, whatever length the file claims.
    return np.array(values, dtype=str if kind.kind == "U" else kind)


def check_tensors(
    expected: Mapping[str, torch.Tensor], tensors: Mapping[str, torch.Tensor]
) -> None:
    """Raise an error if the tensors are not those of the network."""
    for name in sorted(expected.keys() | tensors.keys()):
        found, wanted = (
            f"{tuple(t[name].shape)} {t[name].dtype}" if name in t else "nothing"
            for t in (tensors, expected)
        )
        if found != wanted:
            raise ValueError(f"{name} is {found}, and should be {wanted}")
