"""Optuna as a library: it logs nothing but errors."""

from collections.abc import Iterator
from contextlib import contextmanager

import optuna


@contextmanager
def optuna_errors_only() -> Iterator[None]:
    """Have Optuna log nothing but errors for a while."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)
