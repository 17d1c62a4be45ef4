"""Checks that estimators have the hyperparameters of a space."""

import difflib
from collections.abc import Sequence
from typing import Any

from sklearn.base import clone

from sklearn_iis.space._alternatives import ALTERNATIVE
from sklearn_iis.space._dimension import Discrete
from sklearn_iis.space._parameter import Parameter


def check_parameters(estimator: Any, own: Sequence[Parameter]) -> None:
    """Raise an error if an estimator lacks a hyperparameter of an alternative.

    Those of a step that is searched itself depend on its choice: one of the choices has
    to have it.

    Parameters
    ----------
    estimator : estimator object
        The estimator.

    own : sequence of Parameter
        The hyperparameters of the alternative.

    Raises
    ------
    ValueError
        Tells the nearest valid name.
    """
    valid = estimator.get_params(deep=True)
    by_name = {parameter.name: parameter for parameter in own}
    for parameter in own:
        owner = _find_owner(parameter, by_name)
        if owner is not None and not (
            _is_conditional(owner) and parameter.name in valid
        ):
            _check_choices(parameter, owner)
        elif (
            owner is None
            and parameter.name not in valid
            and not _takes(estimator, parameter.name, parameter.middle)
        ):
            name = type(estimator).__name__
            raise ValueError(
                f"{name} has no parameter {parameter.name!r}"
                + _suggest(parameter.name, valid)
            )


def _find_owner(parameter, by_name):
    """Return the innermost step that a hyperparameter is one of, if it is searched."""
    name = parameter.name
    while name := name.rpartition("__")[0]:
        if name in by_name:
            return by_name[name]
    return None


def _check_choices(parameter: Parameter, owner: Parameter) -> None:
    """Raise an error if none of the choices of a step has a hyperparameter."""
    rest = parameter.name.removeprefix(f"{owner.name}__")
    choices = _list_choices(parameter, owner)
    estimators = [choice for choice in choices if not _is_no_step(choice)]
    if not estimators or not all(
        hasattr(one, "get_params") and not isinstance(one, type) for one in estimators
    ):
        return  # nobody knows of what is no estimator
    valid = {name for one in estimators for name in one.get_params(deep=True)}
    if rest in valid or any(_takes(one, rest, parameter.middle) for one in estimators):
        return
    names = sorted({type(one).__name__ for one in estimators})
    raise ValueError(
        f"{parameter.name}: no choice of {owner.name!r}, {names}, has a parameter "
        f"{rest!r}" + _suggest(rest, valid)
    )


def _list_choices(parameter: Parameter, owner: Parameter) -> list[Any]:
    """Return the choices of a step with which a hyperparameter exists."""
    dimension = next(iter(owner.dimensions.values()))
    if owner.depth is not None or not isinstance(dimension, Discrete):
        return []
    codes = {c.parent: c.codes for c in parameter.conditions}
    left = codes.get(owner.label, range(len(dimension.levels)))
    return [dimension.levels[code] for code in left]


def _is_no_step(choice):
    return choice is None or (
        isinstance(choice, str) and choice in ("passthrough", "drop")
    )


def _is_conditional(parameter):
    """Return whether a hyperparameter does not exist for all of its alternative."""
    return any(condition.parent != ALTERNATIVE for condition in parameter.conditions)


def _takes(estimator: Any, name: str, value: Any) -> bool:
    """Return whether an estimator can be given a parameter."""
    try:
        clone(estimator).set_params(**{name: value})
    except (ValueError, AttributeError):
        return False
    return True


def _suggest(name, valid):
    nearest = difflib.get_close_matches(name, valid, n=1, cutoff=0)
    return f"; the nearest one is {nearest[0]!r}" if nearest else ""
