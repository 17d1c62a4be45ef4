"""The layers: who imports whom, and what a bare `import sklearn_iis` loads."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import sklearn_iis

PACKAGE = Path(sklearn_iis.__file__).parent

# The modules of ours that each room of the package may import, besides its own.
# `datasets` reads images at a size, which is the resizer's work.
ALLOWED = {
    "_arrays": set(),
    "_dask": {"_arrays"},
    "_backends": {"_arrays", "_dask"},
    "_progress": {"_space"},
    "_checkpoints": {"_space"},
    "_monitor": set(),
    "_records": {"_files", "_monitor", "_space"},
    "_devices": set(),
    "_tickets": {"_space"},
    "_evaluation": {"_devices", "_monitor", "_records", "_space", "_tickets"},
    "_resize": set(),
    "_results": {"_space"},
    "_dimension": set(),
    "_space": {"_dimension"},
    "_trial": {
        *("_checkpoints", "_devices", "_evaluation", "_records", "_space"),
        "_tickets",
    },
    "_guard": {
        *("_backends", "_evaluation", "_records", "_results", "_space", "_tickets"),
    },
    "_fingerprint": {"_dimension", "_space"},
    "_plan": {"_evaluation", "_space"},
    "_storage": {"_files"},
    "_quiet": set(),
    "_studies": {
        *("_dimension", "_evaluation", "_fingerprint", "_monitor", "_records"),
        *("_quiet", "_space", "_storage"),
    },
    "_files": set(),
    "cnn": {"_devices", "_files", "_monitor"},
    "datasets": {"_resize"},
    "inspection": {"_dimension", "_files", "_results", "_space"},
    "searches": {"_dimension", "_quiet", "_space", "_tickets"},
    "testing": {"_search", "_space", "_trial", "searches"},
    "_search": {
        *("_backends", "_checkpoints", "_devices", "_evaluation", "_fingerprint"),
        *("_guard", "_plan", "_progress", "_records", "_resize", "_results"),
        *("_space", "_storage", "_studies", "_trial", "searches"),
    },
}


def imported_rooms(source):
    """Names right below `sklearn_iis` that the source imports, at any depth of it."""
    modules = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules += [f"{node.module}.{alias.name}" for alias in node.names]
    return {
        module.split(".")[1] for module in modules if module.startswith("sklearn_iis.")
    }


def test_imports_are_found_in_all_their_forms():
    source = """
import sklearn_iis.cnn
from sklearn_iis.space import _space
from sklearn_iis.searches._base import Stage
def f():
    from sklearn_iis.execution._trial import Trial
    import numpy
"""
    assert imported_rooms(source) == {"cnn", "_space", "searches", "_trial"}


@pytest.mark.parametrize(
    "path",
    [path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py"],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_imports_run_one_way(path):
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert imported_rooms(path.read_text()) <= ALLOWED[room] | {room}


def test_import_is_light():
    """Libraries that one search, one plot or one classifier needs are loaded by it."""
    modules = subprocess.run(
        [sys.executable, "-c", "import sys, sklearn_iis; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert "sklearn_iis" in modules
    heavy = {
        *("skopt", "sklearn_genetic", "deap", "optuna", "smac", "matplotlib"),
        *("ConfigSpace", "dask", "distributed", "ray"),
        *("torch", "skorch"),
    }
    assert heavy.isdisjoint(modules)
