"""Fingerprints: what a search was called with, for another call to be compared with."""

import hashlib
import json
from collections.abc import Mapping
from inspect import signature
from typing import Any

import joblib
import numpy as np
from scipy import stats
from scipy.stats.distributions import rv_frozen
from sklearn.base import BaseEstimator

from sklearn_iis._space import PerLayer, SearchSpace

# Parameters, in any step of a pipeline, that change no score but by rounding.
WITHOUT_INFLUENCE = {"verbose", "n_jobs", "device", "memory"}

# What is longer is told by its hash.
MAX_LENGTH = 120

Fingerprint = dict[str, str]


def describe(value: Any) -> str:
    """Return a text that is the same for the same value in another process.

    Parameters
    ----------
    value : object
        Anything. A function is told by its name only, and what cannot be pickled by its
        type.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        text = repr(value)
    elif isinstance(value, BaseEstimator):
        text = f"{type(value).__name__}({', '.join(_describe_changes(value))})"
    elif isinstance(value, list | tuple):
        text = f"[{', '.join(map(describe, value))}]"
    elif isinstance(value, Mapping):
        items = (f"{describe(k)}: {describe(v)}" for k, v in value.items())
        text = "{" + ", ".join(items) + "}"
    elif isinstance(value, rv_frozen):
        arguments = [*map(describe, value.args)]
        arguments += [f"{name}={describe(v)}" for name, v in value.kwds.items()]
        text = f"{_name_distribution(value.dist)}({', '.join(arguments)})"
    elif isinstance(value, PerLayer):
        text = f"PerLayer({describe(value.values)}, depth={value.depth!r})"
    elif callable(value) and hasattr(value, "__qualname__"):
        text = f"{value.__module__}.{value.__qualname__}"
    else:
        text = f"{type(value).__name__} {describe_data(value)}"
    return text if len(text) <= MAX_LENGTH else f"{text[:60]}... {digest(text)}"


def _describe_changes(estimator):
    """Return the parameters of an estimator that are not the default ones."""
    defaults = {
        name: describe(parameter.default)
        for name, parameter in signature(type(estimator)).parameters.items()
    }
    described = {
        name: describe(value)
        for name, value in estimator.get_params(deep=False).items()
        if name not in WITHOUT_INFLUENCE
    }
    return [f"{n}={text}" for n, text in described.items() if text != defaults.get(n)]


def _name_distribution(dist):
    name = str(dist.name)
    if type(getattr(stats, name, None)) is type(dist):
        return name
    # Such as a histogram, or a table of probabilities.
    return f"{type(dist).__name__} {describe_data(dist._updated_ctor_param())}"


def describe_data(value: Any) -> str:
    """Return the shape of a value, if it has one, and a hash of all of it.

    Parameters
    ----------
    value : object
        Such as images, labels or splits.
    """
    try:
        text = joblib.hash(value, coerce_mmap=True)[:12]
    except Exception:  # whatever pickling it may raise
        text = "of unknown content"
    shape = getattr(value, "shape", None)
    if shape is None and hasattr(value, "__len__"):
        shape = f"{len(value)} items"
    return text if shape is None else f"{shape} {text}"


def describe_space(space: SearchSpace) -> Fingerprint:
    """Return what each hyperparameter is drawn from.

    Parameters
    ----------
    space : SearchSpace
        The space, perhaps a narrowed one.
    """
    ranges = {f"space's {name}": describe(r) for name, r in space.ranges.items()}
    return ranges | {
        f"space's {name}": f"{describe(d.distribution)} from {d.low} to {d.high}"
        for name, d in space.dimensions.items()
        if d.distribution is not None
    }


def describe_params(estimator: Any, ignore: set[str]) -> Fingerprint:
    """Return the parameters of an estimator that its scores may depend on.

    Parameters
    ----------
    estimator : estimator object
        Perhaps a pipeline.

    ignore : set of str
        Parameters that are left out.
    """
    return {"estimator": type(estimator).__name__} | {
        f"estimator's {name}": describe(_name_steps(value))
        for name, value in estimator.get_params(deep=True).items()
        if name not in ignore and name.rpartition("__")[2] not in WITHOUT_INFLUENCE
    }


def _name_steps(value):
    """Return the names of estimators: their parameters are described one by one."""
    if isinstance(value, BaseEstimator):
        return type(value).__name__
    if isinstance(value, list | tuple):
        return [_name_steps(part) for part in value]
    return value


def digest(value: Any) -> str:
    """Return a short hash of what JSON can hold."""
    text = json.dumps(value, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def find_differences(before: Fingerprint, now: Fingerprint) -> list[str]:
    """Return what differs between two fingerprints, each in words."""
    missing = "nothing"
    return [
        f"{name} was {before.get(name, missing)} and is {now.get(name, missing)}"
        for name in {**before, **now}
        if before.get(name) != now.get(name)
    ]
