"""The command line: options, exit codes, what is written where."""

import io
import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from sklearn_iis.command import _errors, main
from sklearn_iis.command._app import app, parse_time, parse_ways

COMMANDS = ("fit", "resume", "predict", "report", "importance", "export")
RUNNER = CliRunner()


def invoke(*arguments):
    return RUNNER.invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("10m", 600), ("1h", 3600), ("1.5h", 5400)],
)
def test_times(text, seconds):
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-1", "1d", "m", "1h30m", "nan"])
def test_no_times(text):
    with pytest.raises(typer.BadParameter, match="is no time above 0"):
        parse_time(text)


def test_ways_are_in_an_order_of_their_own():
    assert parse_ways("from-scratch, features") == ["features", "from-scratch"]
    with pytest.raises(typer.BadParameter, match="'scratch' is none of features,"):
        parse_ways("scratch")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_tells_the_exit_codes(command):
    result = invoke(command, "--help")
    assert result.exit_code == 0
    text = " ".join(result.stdout.replace("│", " ").split())
    assert "Exit codes: 0 done; 1 an error" in text


@pytest.mark.parametrize(
    "arguments",
    [
        ("fit",),
        ("fit", "images", "--time", "soon"),
        ("fit", "images", "--ways", "magic"),
        ("fit", "images", "--candidates", "0"),
        ("predict", "out"),
        ("predict", "out", "a.png", "--format", "xml"),
        ("brew",),
    ],
)
def test_wrong_usage(arguments):
    assert invoke(*arguments).exit_code == _errors.USAGE


def test_an_error_is_a_line(tmp_path):
    result = invoke("fit", tmp_path / "nothing", "--out", tmp_path / "out")
    assert result.exit_code == _errors.FAILED
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: there is no folder or file")
    traceback = invoke(
        "fit", tmp_path / "nothing", "--out", tmp_path / "out", "--traceback"
    )
    assert traceback.stderr.startswith("Traceback")


def test_fit_and_what_follows(shapes, tmp_path):
    """From images to predictions and a report, quietly."""
    out = tmp_path / "out"
    fit = ["fit", shapes, "--out", out, "--quiet", "--candidates", 2, "--n-jobs", 1]
    fit += ["--ways", "from-scratch", "--max-size", 8, "--max-epochs", 1]
    fit += ["--device", "cpu", "--time", "1h"]
    done = invoke(*fit)
    assert (done.exit_code, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    assert line.startswith("test accuracy ")
    assert invoke("resume", out).stdout == done.stdout

    bad = tmp_path / "bad.png"
    bad.write_text("no image")
    rows = tmp_path / "rows.csv"
    some = invoke("predict", out, shapes / "class 0", bad, "--out", rows)
    assert (some.exit_code, some.stdout) == (_errors.SOME_LEFT_OUT, "")
    assert some.stderr.startswith(f"left out: '{bad}'")
    assert len(rows.read_text().splitlines()) == 21
    top = invoke("predict", out, shapes / "class 0" / "*.png", "--top", 1)
    assert top.exit_code == 0
    assert top.stdout.splitlines()[0] == "path,label,p"

    (out / "report.html").unlink()
    assert invoke("report", out).stdout == f"{out / 'report.html'}\n"
    assert (out / "report.html").exists()
    few = invoke("importance", out)
    assert few.exit_code == _errors.FAILED
    assert few.stderr.splitlines()[-1].startswith("error: no search has enough")

    other = invoke(*fit, "--seed", 1)
    assert other.exit_code == _errors.FAILED
    assert "differs in seed=1 (was 0)" in other.stderr


def run_python(*arguments, **environment):
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, **environment
    )


def test_the_module_is_the_command():
    done = run_python("-m", "sklearn_iis", "--help")
    assert done.returncode == 0
    assert "Usage: sklearn-iis" in done.stdout
    assert "\x1b" not in done.stdout  # no colours, as there is no terminal


@pytest.mark.parametrize("missing", [("typer",), ("optuna", "skops")])
def test_without_the_extra(missing, monkeypatch, capsys):
    """A line says what to install."""
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SystemExit) as raised:
        main()
    assert raised.value.code == 1
    assert capsys.readouterr() == (
        "",
        f"error: this command needs {' and '.join(missing)}: "
        "pip install 'sklearn-iis[cli]'\n",
    )


@pytest.mark.parametrize(("before", "after"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_that_wait_take_no_time(before, after, monkeypatch):
    """Unless the user says otherwise."""
    monkeypatch.setenv("OMP_WAIT_POLICY", before or "")
    if before is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    monkeypatch.setattr("sys.argv", ["sklearn-iis", "--help"])
    with pytest.raises(SystemExit):
        main()
    assert os.environ["OMP_WAIT_POLICY"] == after


def test_the_module_without_typer():
    code = "import runpy, sys; sys.modules['typer'] = None; "
    code += "runpy.run_module('sklearn_iis', run_name='__main__')"
    done = run_python("-c", code)
    assert done.returncode == 1
    assert done.stderr == (
        "error: this command needs typer: pip install 'sklearn-iis[cli]'\n"
    )


def test_a_fit_that_ends_by_the_clock(shapes, tmp_path):
    """It leaves all that it should, the script runs, and the model predicts."""
    out = tmp_path / "out"
    fit = [
        "fit",
        shapes,
        "--out",
        out,
        "--time",
        "10",
        "--n-jobs",
        1,
        "--device",
        "cpu",
    ]
    done = invoke(*fit, "--ways", "from-scratch", "--max-size", 8, "--max-epochs", 1)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("test accuracy ")
    names = {path.name for path in out.iterdir() if not path.name.startswith(".")}
    assert names == {
        *("model", "report.html", "MODEL_CARD.md", "search.csv", "images.csv"),
        *("script.py", "run.json", "search.journal"),
    }
    assert len(pd.read_csv(out / "search.csv")) >= 1  # as many as there was time for

    predicted = invoke("predict", out, shapes, "--device", "cpu")
    assert predicted.exit_code == 0
    rows = pd.read_csv(io.StringIO(predicted.stdout))
    assert len(rows) == 60
    images = pd.read_csv(out / "images.csv").merge(rows, on="path")
    test = images[images["part"] == "test"]
    accuracy = (test["label_x"] == test["label_y"]).mean()
    assert done.stdout.startswith(f"test accuracy {accuracy:.3f} ")

    script = run_python(out / "script.py")
    assert script.returncode == 0, script.stderr
    assert "test accuracy " in script.stdout


def test_export(run, shapes, tmp_path):
    """A file for other programs predicts as `predict` does."""
    pytest.importorskip("onnx", reason="needs an extra")
    pytest.importorskip("onnxscript", reason="needs an extra")
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs an extra")
    path = tmp_path / "model.onnx"
    done = invoke("export", run, "--onnx", path)
    assert (done.exit_code, done.stdout, done.stderr) == (0, f"{path}\n", "")

    rows = pd.read_csv(io.StringIO(invoke("predict", run, shapes).stdout))
    images = np.stack([np.asarray(Image.open(name)) for name in rows["path"]])
    session = onnxruntime.InferenceSession(path)
    (found,) = session.run(["probabilities"], {"images": images})
    expected = rows.filter(regex=r"^p\(").to_numpy()
    assert len(expected) == 60
    assert np.ptp(expected, axis=0).max() > 0.02  # there is a difference to be seen
    np.testing.assert_allclose(found, expected, atol=0.01)
    classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
    sure = np.sort(expected)[:, -1] - np.sort(expected)[:, -2] > 0.02
    labels = np.array(classes)[found.argmax(axis=1)]
    assert sure.any()
    assert labels[sure].tolist() == rows["label"][sure].tolist()


def test_export_without_the_extra(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    done = invoke("export", run, "--onnx", tmp_path / "model.onnx")
    assert (done.exit_code, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.endswith("pip install 'sklearn-iis[onnx]'")
    assert not (tmp_path / "model.onnx").exists()
