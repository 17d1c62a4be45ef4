"""Fingerprints: what a search was called with, for another call to be compared with."""

import hashlib
import json
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from inspect import signature
from types import CodeType, ModuleType
from typing import Any

import joblib
import numpy as np
from scipy import stats
from scipy.stats.distributions import rv_frozen
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline

from sklearn_iis.space import Discrete, OnlyIf, PerLayer, SearchSpace, Stepped
from sklearn_iis.space._distribution import Infrastructure

# Parameters of any estimator that change no score.
WITHOUT_INFLUENCE = {"verbose", "n_jobs"}

# What is longer is told by its hash.
MAX_LENGTH = 120

Fingerprint = dict[str, str]


def describe(value: Any) -> str:
    """Return a text that is the same for the same value in another process."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        text = repr(value)
    elif isinstance(value, BaseEstimator):
        text = f"{type(value).__name__}({', '.join(_describe_changes(value))})"
    elif isinstance(value, list | tuple):
        text = f"[{', '.join(map(describe, value))}]"
    elif isinstance(value, Mapping):
        items = sorted(f"{describe(k)}: {describe(v)}" for k, v in value.items())
        text = "{" + ", ".join(items) + "}"
    elif isinstance(value, rv_frozen):
        arguments = [*map(describe, value.args)]
        arguments += [f"{name}={describe(v)}" for name, v in value.kwds.items()]
        text = f"{_name_distribution(value.dist)}({', '.join(arguments)})"
    elif isinstance(value, PerLayer):
        text = f"PerLayer({describe(value.values)}, depth={value.depth!r})"
    elif isinstance(value, OnlyIf):
        is_in = list(value.is_in)
        text = f"OnlyIf({describe(value.values)}, {value.name!r}, {describe(is_in)})"
    elif callable(value) and hasattr(value, "__qualname__"):
        text = f"{value.__module__}.{value.__qualname__}"
        # Of the others, the name tells which one it is.
        if hasattr(value, "__code__") and "<" in value.__qualname__:
            text += f" {digest(_describe_function(value))}"
        owner = getattr(value, "__self__", None)
        if owner is not None and not isinstance(owner, type | ModuleType):
            text += f" of {describe(owner)}"
    elif isinstance(value, partial):
        text = f"partial({describe(value.func)}, {describe(value.args)}, "
        text += f"{describe(value.keywords)})"
    elif hasattr(value, "icdf") and hasattr(value, "support"):
        text = " ".join(repr(value).split())  # those of scipy may not be pickled
    else:
        text = type(value).__name__
        with suppress(ValueError):
            text = f"{text} {describe_data(value)}"
    return text if len(text) <= MAX_LENGTH else f"{text[:60]}... {digest(text)}"


def _describe_function(function):
    """Return what tells functions apart that were made in the same place."""
    values = [function.__defaults__, function.__kwdefaults__]
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # it has no value yet
            if cell.cell_contents is not function:
                values.append(cell.cell_contents)
    return [_describe_code(function.__code__), *map(describe, values)]


def _describe_code(code):
    constants = [
        _describe_code(value) if isinstance(value, CodeType) else repr(value)
        for value in code.co_consts
    ]
    return [code.co_code.hex(), *code.co_names, *constants]


def _describe_changes(estimator):
    """Return the parameters of an estimator that are not the default ones."""
    defaults = {
        name: describe(parameter.default)
        for name, parameter in signature(type(estimator)).parameters.items()
    }
    described = {
        name: describe(value)
        for name, value in estimator.get_params(deep=False).items()
        if name not in _list_without_influence(estimator)
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

    Raises
    ------
    ValueError
        If it cannot be pickled, so that nobody could tell it from others.
    """
    try:
        text = joblib.hash(_without_tensors(value), coerce_mmap=True)[:12]
    except Exception as error:  # whatever pickling it may raise
        raise ValueError(
            f"a {type(value).__name__} that cannot be pickled cannot be told from "
            f"others, so that nothing can be kept of it: {error}"
        ) from error
    shape = getattr(value, "shape", None)
    if shape is None and hasattr(value, "__len__"):
        shape = f"{len(value)} items"
    return text if shape is None else f"{shape} {text}"


def _without_tensors(value):
    """Return what stands for a network, and any other value as it is."""
    # It must have been imported by whoever has made a network.
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(value, torch.nn.Module):
        return value
    # Tensors are pickled with numbers that are others in each process.
    state = value.state_dict()
    tensors = {n: v for n, v in state.items() if isinstance(v, torch.Tensor)}
    return [repr(value), {n: v.float().cpu().numpy() for n, v in tensors.items()}]


def describe_space(space: SearchSpace) -> Fingerprint:
    """Return what each hyperparameter is drawn from, and when it exists."""
    described = {}
    for name, dimension in space.dimensions.items():
        values = dimension.distribution
        if isinstance(values, Infrastructure):
            values = values.distribution
        if isinstance(dimension, Discrete):
            values = dimension.levels
        window = f"from {dimension.low} to {dimension.high}"
        if isinstance(dimension, Stepped):
            window += f" in steps of {dimension.step!r}"
        described[f"space's {name}"] = f"{describe(values)} {window}"
    for parameter in space.parameters:
        if parameter.conditions:
            conditions = [f"{c.parent}: {list(c.codes)}" for c in parameter.conditions]
            described[f"space's {parameter.label} only if"] = describe(conditions)
    if space.constraint is not None:
        described["constraint"] = describe(space.constraint)
    # What has a single value is no dimension.
    return {f"space's {n}": describe(r) for n, r in space.ranges.items()} | described


def describe_params(estimator: Any, ignore: set[str]) -> Fingerprint:
    """Return the parameters of an estimator that its scores may depend on."""
    params = estimator.get_params(deep=True)
    owned = {id(value) for value in params.values()}
    described = {"estimator": type(estimator).__name__}
    for name, value in params.items():
        owner, _, own_name = name.rpartition("__")
        ignored = _list_without_influence(params.get(owner, estimator))
        if name not in ignore and own_name not in ignored:
            described[f"estimator's {name}"] = describe(_name_owned(value, owned))
    return described


def _list_without_influence(estimator):
    """Return the parameters of an estimator that change no score but by rounding."""
    listed = {*WITHOUT_INFLUENCE}
    listed |= {*getattr(estimator, "score_neutral_params", ())}
    return listed | {"memory"} if isinstance(estimator, Pipeline) else listed


def _name_owned(value, owned):
    """Return the names of estimators whose parameters are described one by one."""
    if isinstance(value, BaseEstimator) and id(value) in owned:
        return type(value).__name__
    if isinstance(value, list | tuple):
        return [_name_owned(part, owned) for part in value]
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
