"""Studies of Optuna in which a search is kept, and from which it resumes."""

from importlib import import_module
from typing import TYPE_CHECKING

from sklearn_iis.storage._fingerprint import (
    describe,
    describe_data,
    describe_params,
    describe_space,
    digest,
)
from sklearn_iis.storage._passwords import StorageParam, hide_password

if TYPE_CHECKING:
    from sklearn_iis.storage._open import StorageError, open_storage
    from sklearn_iis.storage._recorder import StudyRecorder, make_pruner
    from sklearn_iis.storage._resume import SearchStudies

__all__ = [
    "SearchStudies",
    "StorageError",
    "StorageParam",
    "StudyRecorder",
    "describe",
    "describe_data",
    "describe_params",
    "describe_space",
    "digest",
    "hide_password",
    "make_pruner",
    "open_storage",
]

# The modules that need Optuna, which is an extra and takes long to import.
_MODULES = {
    "SearchStudies": "_resume",
    "StorageError": "_open",
    "StudyRecorder": "_recorder",
    "make_pruner": "_recorder",
    "open_storage": "_open",
}


def __getattr__(name):
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
