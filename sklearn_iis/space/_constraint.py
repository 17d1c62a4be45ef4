"""The constraint of a space: a function that says which candidates are allowed."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Constraint = Callable[[Mapping[str, Any]], bool]

# So many candidates drawn in a row may be ruled out before no more are looked for.
MAX_REJECTED = 10_000


def is_allowed(constraint: Constraint | None, params: dict[str, Any]) -> bool:
    """Return whether a constraint allows hyperparameters.

    Raises
    ------
    TypeError
        If it returns anything but True or False. What it raises itself is raised with a
        note.
    """
    if constraint is None:
        return True
    try:
        answer = constraint(params)
    except Exception as error:
        error.add_note(f"The constraint was called with {params}.")
        raise
    if not isinstance(answer, bool | np.bool_):
        raise TypeError(
            f"constraint must return True or False, got {answer!r} for {params}"
        )
    return bool(answer)
