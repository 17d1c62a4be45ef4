"""The optimizers of a classifier, and their parameters."""

import inspect
from typing import Any

import torch

# Parameters of torch's optimizers that the classifier has names of its own for.
NAMED = {"params", "lr", "weight_decay"}

CLASSES = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}


def optimizer_class(optimizer: Any) -> Any:
    """Return the class that the parameter `optimizer` stands for."""
    return (
        CLASSES.get(optimizer, optimizer) if isinstance(optimizer, str) else optimizer
    )


def own_settings(classifier: Any) -> dict[str, Any]:
    """Return the parameters of the named optimizers that differ from torch's."""
    momentum = classifier.momentum
    settings = {
        "sgd": {"momentum": momentum, "nesterov": bool(momentum), "fused": True},
        "adamw": {"betas": (momentum, 0.999), "fused": True},
    }
    optimizer = classifier.optimizer
    return settings.get(optimizer, {}) if isinstance(optimizer, str) else {}


def get_optimizer(classifier: Any) -> tuple[type, dict[str, Any]]:
    """Return the class of the optimizer, and its parameters.

    Raises
    ------
    ValueError
        If the optimizer has no weight decay, but there is an `l2`.
    TypeError
        If the optimizer evaluates a step more than once.
    """
    cls = optimizer_class(classifier.optimizer)
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
    prefix = "optimizer__"
    own = classifier.get_params(deep=False)
    return cls, own_settings(classifier) | {
        name.removeprefix(prefix): value
        for name, value in own.items()
        if name.startswith(prefix)
    }
