"""The layers: who imports whom, and what a bare `import sklearn_iis` loads."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import sklearn_iis

PACKAGE = Path(sklearn_iis.__file__).parent

# The layers, from the lowest: each room of the package may import those above it here.
# This is the one place where they are kept.
LAYERS = [
    {"_files", "_sklearn_compat", "_resize", "images", "subset"},
    {"space"},
    {"_optuna"},
    {"execution"},
    {"_results", "_plan"},
    {"storage", "searches"},
    {"_search"},
    {"choice"},
    {"testing", "command"},
    {"__main__"},
]

# Rooms beside the layers, and what they may import.
SIDEWAYS = {
    "cnn": {"_files", "_sklearn_compat", "execution", "images"},
    "deploy": {
        *("_files", "_resize", "_sklearn_compat"),
        *("cnn", "execution", "images", "inspection"),
    },
    "datasets": {"_resize", "_sklearn_compat", "images"},
    "command": {"cnn", "datasets", "deploy", "inspection"},
    "inspection": {
        *("_files", "_resize", "_results", "_sklearn_compat"),
        *("execution", "images", "space"),
    },
    "_resize": {"_sklearn_compat", "images"},
    "subset": {"_sklearn_compat"},
    "_plan": {"_results"},
}


def list_allowed(room):
    """The rooms that a room may import, besides itself."""
    allowed = set(SIDEWAYS.get(room, ()))
    for i, layer in enumerate(LAYERS):
        if room in layer:
            allowed |= set().union(*LAYERS[:i])
    return allowed


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
from sklearn_iis import _plan
from sklearn_iis.searches._base import Search
def f():
    from sklearn_iis.execution._evaluate import Job
    import numpy
"""
    assert imported_rooms(source) == {"cnn", "_plan", "searches", "execution"}


@pytest.mark.parametrize(
    "path",
    [path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py"],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_imports_run_one_way(path):
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert imported_rooms(path.read_text()) <= list_allowed(room) | {room}


def test_the_root_has_few_modules():
    """Besides what `python -m sklearn_iis` runs."""
    assert len([path for path in PACKAGE.glob("*.py") if path.stem != "__main__"]) <= 8


def test_private_parts_of_scikit_learn_are_imported_in_one_place():
    private = re.compile(r"from sklearn\.\S*\._|from sklearn\S* import .*\b_[a-z]")
    importers = [
        path.name for path in PACKAGE.rglob("*.py") if private.search(path.read_text())
    ]
    assert importers == ["_sklearn_compat.py"]


def test_import_is_light():
    """Libraries that one search, one plot or one classifier needs are loaded by it.

    By itself, the package loads nothing.
    """
    modules = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, sklearn_iis\n"
            "assert not {'numpy', 'sklearn'}.intersection(sys.modules)\n"
            "sklearn_iis.space.SearchSpace\n"  # without an import of its own
            "for name in {*sklearn_iis.__all__} - {'CNNClassifier'}:\n"
            "    getattr(sklearn_iis, name)\n"
            "print(*sys.modules)",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert "sklearn_iis" in modules
    heavy = {
        *("skopt", "sklearn_genetic", "deap", "optuna", "smac", "matplotlib"),
        *("ConfigSpace", "dask", "distributed", "ray"),
        *("torch", "skorch", "botorch", "gpytorch", "linear_operator"),
    }
    assert heavy.isdisjoint(modules)


def test_all_public_names_are_there():
    for name in sklearn_iis.__all__:
        assert getattr(sklearn_iis, name).__name__ == name
        assert name in dir(sklearn_iis)
    with pytest.raises(AttributeError, match="no attribute 'IISSearch'"):
        sklearn_iis.IISSearch  # noqa: B018
