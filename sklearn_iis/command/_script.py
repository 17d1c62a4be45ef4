"""A script in Python that does what a run did."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from sklearn_iis._files import replace_file
from sklearn_iis.command._data import VALIDATION, Images, count_validation
from sklearn_iis.command._plan import FEATURES, FINE_TUNED, FROM_SCRATCH
from sklearn_iis.command._run import State


def write_script(path: Path, state: State, images: Images) -> None:
    """Write the script of a run, beside its images.csv."""
    replace_file(path, make_script(state, images).encode())


def make_script(state: State, images: Images) -> str:
    """Return the text of the script."""
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["quote"] = json.dumps
    text = files("sklearn_iis.command").joinpath("script.py.jinja").read_text("utf-8")
    names = [way["name"] for way in state.ways]
    values: dict[str, Any] = {
        "arguments": state.arguments,
        "ways": {way["name"]: _to_tuples(way) for way in state.ways},
        "names": names,
        "has_network": FINE_TUNED in names or FROM_SCRATCH in names,
        "has_features": FEATURES in names,
        "extra": "" if names == [FROM_SCRATCH] else ", with its extra `pretrained`",
        "has_validation": VALIDATION in images.parts,
        "n_validation": count_validation(images.select(images.is_fitted_on)),
    }
    return environment.from_string(text).render(values) + "\n"


def _to_tuples(way: dict[str, Any]) -> dict[str, Any]:
    return way | {"sizes": tuple(way["sizes"]), "epochs": list(way["epochs"])}
