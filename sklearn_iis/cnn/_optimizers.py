"""The optimizers of a classifier, and their parameters."""

import inspect
from typing import Any

import torch

# The classes of the named optimizers.
CLASSES = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}

# Parameters of torch's optimizers that the classifier has names of its own for.
NAMED = {"params", "lr", "weight_decay"}
NAMED_OF = {"sgd": {"momentum", "nesterov", "fused"}, "adamw": {"betas", "fused"}}

PREFIX = "optimizer__"


def list_params(optimizer: Any) -> dict[str, inspect.Parameter]:
    """Return the parameters that an optimizer takes besides those with own names."""
    cls = CLASSES.get(optimizer) if isinstance(optimizer, str) else optimizer
    if not (isinstance(cls, type) and issubclass(cls, torch.optim.Optimizer)):
        return {}  # `fit` will say so
    excluded = NAMED | NAMED_OF.get(optimizer, set())
    parameters = inspect.signature(cls).parameters
    return {name: p for name, p in parameters.items() if name not in excluded}


def get_optimizer(classifier: Any) -> tuple[type, dict[str, Any]]:
    """Return the class of the optimizer, and its parameters.

    Raises
    ------
    ValueError
        If the optimizer has no weight decay, but there is an `l2`.
    TypeError
        If it is none, or evaluates a step more than once.
    """
    momentum = classifier.momentum
    params: dict[str, Any] = {}
    if classifier.optimizer == "sgd":
        nesterov = classifier.nesterov and momentum > 0
        params = {"momentum": momentum, "nesterov": nesterov, "fused": True}
    elif classifier.optimizer == "adamw":
        params = {"betas": (momentum, 0.999), "fused": True}
    cls: Any = CLASSES.get(classifier.optimizer, classifier.optimizer)
    if not issubclass(cls, torch.optim.Optimizer):
        raise TypeError(f"optimizer must be a class of torch.optim, got {cls!r}")
    if classifier.l2 > 0 and "weight_decay" not in inspect.signature(cls).parameters:
        raise ValueError(
            f"{cls.__name__} has no weight decay: l2={classifier.l2} must be 0"
        )
    closure = inspect.signature(cls.step).parameters.get("closure")
    if closure is not None and closure.default is closure.empty:
        raise TypeError(
            f"{cls.__name__} evaluates a step more than once, which CNNClassifier does "
            "not support; take another optimizer"
        )
    own = classifier.get_params(deep=False)
    return cls, params | {
        name.removeprefix(PREFIX): value
        for name, value in own.items()
        if name.startswith(PREFIX)
    }
