"""Candidates that a user has written down, perhaps in part: the rest is drawn."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from sklearn_iis.space._alternatives import ALTERNATIVE
from sklearn_iis.space._constraint import MAX_REJECTED
from sklearn_iis.space._continuous import ROUNDING
from sklearn_iis.space._parameter import Parameter
from sklearn_iis.space._space import Candidate, SearchSpace, distinct

# The codes that are left of some dimensions.
Pins = dict[str, tuple[float, ...]]


def fill_candidates(
    space: SearchSpace,
    written: Sequence[Mapping[str, Any]] | None,
    random_state: np.random.RandomState,
) -> list[Candidate]:
    """Return candidates in codes, with what is missing drawn from the priors.

    Parameters
    ----------
    space : SearchSpace
        What they are candidates of.

    written : list of dict of str to object or None
        Some or all hyperparameters of each, in the units of the user.

    random_state : RandomState instance
        Determines what is drawn.

    Returns
    -------
    candidates : list of dict
        Each once, in the same order.

    Raises
    ------
    TypeError
        If one is no dict.

    ValueError
        If there is no such hyperparameter, if it cannot have a value, alone or together
        with the others, or if the constraint of the space rules a candidate out.
    """
    filled = []
    for i, params in enumerate(written or []):
        if not isinstance(params, Mapping):
            raise TypeError(
                f"initial_candidates[{i}] must be a dict of hyperparameters to values, "
                f"got {params!r}"
            )
        try:
            filled.append(fill_params(space, params, random_state))
        except ValueError as error:
            raise ValueError(f"initial_candidates[{i}]: {error}") from None
    return distinct(filled)


def fill_params(
    space: SearchSpace, params: Mapping[str, Any], random_state: np.random.RandomState
) -> Candidate:
    """Return a candidate in codes, with what is missing drawn; see above."""
    _check_names(space, params)
    pins, errors = [], []
    for index, own in enumerate(space.alternatives):
        try:
            pins.append({ALTERNATIVE: (index,)} | _pin(own, params))
        except ValueError as error:
            errors.append(f"space[{index}]: {error}")
    if not pins:
        told = "; ".join(errors)
        is_one = len(errors) == 1
        raise ValueError(told.removeprefix("space[0]: ") if is_one else told)
    for _ in range(MAX_REJECTED):
        codes = _draw(space, pins[random_state.randint(len(pins))], random_state)
        if space.allows(codes):
            return codes
        if space.decode(codes).keys() == params.keys():  # nothing was drawn
            raise ValueError(f"the constraint does not allow {dict(params)}")
    raise ValueError(
        f"the constraint allowed none of {MAX_REJECTED} candidates with {dict(params)}"
    )


def is_possible(space: SearchSpace, params: Mapping[str, Any]) -> bool:
    """Return whether a candidate can have hyperparameters, whatever the constraint."""
    for own in space.alternatives:
        try:
            _pin(own, params)
        except ValueError:
            continue
        return True
    return False


def _check_names(space: SearchSpace, params: Iterable[str]) -> None:
    for name in params:
        if name not in space.names:
            nearest = difflib.get_close_matches(str(name), space.names, n=1, cutoff=0)
            raise ValueError(
                f"the space has no hyperparameter {name!r}, the nearest one is "
                f"{nearest[0]!r}"
            )


def _pin(own: Sequence[Parameter], params: Mapping[str, Any]) -> Pins:
    """Return the codes that are left of the dimensions of an alternative."""
    by_name = {parameter.name: parameter for parameter in own}
    by_label = {parameter.label: parameter for parameter in own}
    pins: Pins = {}
    for name, value in params.items():
        if name not in by_name:
            raise ValueError(f"there is no {name!r} together with the others")
        parameter = by_name[name]
        needed: Pins = {c.parent: c.codes for c in parameter.conditions}
        codes = _encode(parameter, value)
        if parameter.depth is not None:
            (depth,) = by_label[parameter.depth].dimensions.values()
            levels = [depth.decode(code) for code in _list_codes(depth)]
            if len(value) not in levels:
                raise ValueError(
                    f"{name}: it has {len(value)} values, {value!r}, and "
                    f"{parameter.depth} is one of {levels}"
                )
            needed[parameter.depth] = (depth.encode(len(value)),)
        for label, left in (needed | codes).items():
            pins[label] = tuple(c for c in left if c in pins.get(label, left))
            if not pins[label]:
                raise ValueError(
                    f"{name}={value!r} does not go with the other values of "
                    f"{dict(params)}"
                )
    return pins


def _encode(parameter: Parameter, value: Any) -> Pins:
    """Return the codes of a value, each of which must be in its range."""
    names = list(parameter.dimensions)
    if parameter.depth is not None:
        if not isinstance(value, list | tuple | np.ndarray):
            raise ValueError(
                f"{parameter.name}: expected a tuple with a value for each layer, got "
                f"{value!r}"
            )
        names = names[: len(value)]
    if parameter.depth is not None and len(value) > len(names):
        raise ValueError(
            f"{parameter.name}: {value!r} has more than {len(names)} values"
        )
    pins: Pins = {}
    for name, code in parameter.encode(value, names).items():
        dimension = parameter.dimensions[name]
        nearest = dimension.clip(code)
        if abs(nearest - code) > ROUNDING:
            raise ValueError(
                f"{parameter.name}: {value!r} lies outside the range {dimension.range}"
            )
        pins[name] = (nearest,)
    return pins


def _list_codes(dimension):
    return range(int(dimension.low), int(dimension.high) + 1)


def _draw(space: SearchSpace, pins: Pins, rng: np.random.RandomState) -> Candidate:
    codes: Candidate = {}
    for name, dimension in space.dimensions.items():
        left = pins.get(name)
        codes[name] = (
            dimension.rvs(rng) if left is None else left[rng.randint(len(left))]
        )
    return space.active(codes)
