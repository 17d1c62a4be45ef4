"""Predictions as CSV and JSON."""

import csv
import io
import json
import os
import shutil

import numpy as np
import pytest

from sklearn_iis.command._errors import CommandError
from sklearn_iis.command._predict import load, opened, predict


@pytest.fixture(scope="module")
def paths(shapes):
    return sorted(str(path) for path in shapes.rglob("*.png"))[::15]


def run(out, names, **settings):
    """Exit code and text of predictions."""
    file = io.StringIO()
    code = predict(out, names, file, device="cpu", **settings)
    return code, file.getvalue()


def test_csv(finished, paths):
    """A column per class, rows in the order of the arguments."""
    code, text = run(finished[0], paths[::-1])
    header, *rows = csv.reader(text.splitlines())
    assert code == 0
    classes = ["class 0", "class 1", "class 2"]
    assert header == ["path", "label", *(f"p({name})" for name in classes)]
    assert [row[0] for row in rows] == paths[::-1]
    model = load(finished[0], "cpu")
    images = np.array(paths[::-1])
    assert [row[1] for row in rows] == model.predict(images).tolist()
    found = np.array([row[2:] for row in rows], dtype=float)
    np.testing.assert_allclose(found, model.predict_proba(images), atol=1e-6)


def test_the_likeliest_classes(finished, paths):
    _, text = run(finished[0], paths, top=2)
    header, *rows = csv.reader(text.splitlines())
    assert header == ["path", "label", "p", "label2", "p2"]
    assert all(float(row[2]) >= float(row[4]) for row in rows)
    _, text = run(finished[0], paths, layout="jsonl", top=9)  # there are 3
    for line in text.splitlines():
        row = json.loads(line)
        values = [*row["probabilities"].values()]
        assert values == sorted(values, reverse=True)
        assert len(values) == 3
        assert row["label"] == next(iter(row["probabilities"]))


def test_json(finished, paths):
    _, text = run(finished[0], paths, layout="jsonl")
    rows = [json.loads(line) for line in text.splitlines()]
    assert [row["path"] for row in rows] == paths
    for row in rows:
        assert [*row["probabilities"]] == ["class 0", "class 1", "class 2"]
        assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_bad_files_are_listed(finished, paths, tmp_path, capsys):
    bad = tmp_path / "bad.png"
    bad.write_text("no image")
    code, text = run(finished[0], [str(bad), *paths])
    assert code == 3
    assert len(text.splitlines()) == 1 + len(paths)
    assert f"left out: '{bad}' cannot be read" in capsys.readouterr().err
    file = io.StringIO()
    with pytest.raises(CommandError, match="none of the 1 files can be read"):
        predict(finished[0], [str(bad)], file, device="cpu")
    assert file.getvalue() == ""


def test_patterns_without_a_match_are_listed(finished, paths, tmp_path, capsys):
    pattern = str(tmp_path / "*.jpg")
    code, text = run(finished[0], [pattern, *paths])
    assert code == 3
    assert text == run(finished[0], paths)[1]
    assert f"left out: '{pattern}' holds no images\n" in capsys.readouterr().err
    with pytest.raises(CommandError, match=r"no images in '.*\*\.jpg', '.*'$"):
        run(finished[0], [pattern, str(tmp_path)])


def test_many_images_are_read_by_and_by(finished, paths, monkeypatch):
    _, expected = run(finished[0], paths)
    monkeypatch.setattr("sklearn_iis.command._predict.AT_ONCE", 2)
    assert run(finished[0], paths) == (0, expected)


def test_a_model_by_itself(finished, paths):
    assert run(finished[0] / "model", paths) == run(finished[0], paths)


def test_no_model(run_without_model, finished, tmp_path):
    with pytest.raises(CommandError, match="has no model yet; to go on: sklearn-iis"):
        load(run_without_model)
    with pytest.raises(CommandError, match="there is no folder"):
        load(tmp_path / "nothing")
    with pytest.raises(CommandError, match="holds neither a run nor a model"):
        load(finished[0].parent)
    with pytest.raises(CommandError, match="is a file: name the folder"):
        load(finished[0] / "run.json")


def test_a_model_that_is_incomplete(run_without_model, finished):
    """Until it has its index there is none; a file of it that is gone is named."""
    model = run_without_model / "model"
    shutil.copytree(finished[0] / "model", model)
    (network,) = model.glob("network-*")
    network.unlink()
    with pytest.raises(FileNotFoundError, match=f"lacks {network.name}, a part of"):
        load(run_without_model)
    (model / "model.json").unlink()
    with pytest.raises(CommandError, match="has no model yet; to go on: sklearn-iis"):
        load(run_without_model)


def test_a_file_is_written_if_there_is_no_error(tmp_path):
    path = tmp_path / "predictions.csv"
    path.write_text("before")
    with pytest.raises(ValueError, match="nothing"), opened(path):
        raise ValueError("nothing")
    assert path.read_text() == "before"
    with opened(path) as file:
        file.write(os.fsdecode(b"\xff\n"))
    assert path.read_bytes() == b"\xff\n"


def test_the_output_takes_any_name(monkeypatch):
    buffer = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(buffer, "utf-8"))
    with opened(None) as file:
        file.write(os.fsdecode(b"\xff"))
        file.flush()
    assert buffer.getvalue() == b"\xff"


@pytest.fixture
def run_without_model(finished, tmp_path):
    (tmp_path / "run.json").write_text((finished[0] / "run.json").read_text())
    return tmp_path
