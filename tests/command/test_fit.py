"""A run: what it leaves, how it goes on, what it refuses."""

import dataclasses
import json
import shutil

import numpy as np
import pandas as pd
import pytest

from sklearn_iis.choice import ChoiceSearchCV
from sklearn_iis.command import _fit
from sklearn_iis.command._data import read_table
from sklearn_iis.command._errors import CommandError
from sklearn_iis.command._fit import fit, resume
from sklearn_iis.command._predict import load
from sklearn_iis.command._run import RunFolder
from tests.command.conftest import make_arguments, write_shapes


def give_up(*args):
    raise TimeoutError


def forbid(*args):
    pytest.fail("searches")


def test_what_a_run_leaves(finished):
    """Accuracy and interval are those of the saved model on the images held out."""
    out, line = finished
    names = {path.name for path in out.iterdir() if not path.name.startswith(".")}
    assert names == {
        *("model", "report.html", "MODEL_CARD.md", "search.csv", "images.csv"),
        *("script.py", "run.json", "search.journal"),
    }
    images = read_table(out / "images.csv")
    test = images.select(images.parts == "test")
    assert len(test) == 12
    n_right = np.count_nonzero(load(out).predict(test.paths) == test.labels)
    result = json.loads((out / "run.json").read_text())["result"]
    assert result["accuracy"] == n_right / 12
    low, high = result["interval"]
    assert low < n_right / 12 < high
    assert line == (
        f"test accuracy {n_right / 12:.3f} (95 % interval {low:.3f} to {high:.3f}, "
        f"12 images); to predict: sklearn-iis predict {out} IMAGES..."
    )


def test_the_table_has_all_candidates(finished):
    table = pd.read_csv(finished[0] / "search.csv")
    assert table["search"].unique().tolist() == ["from-scratch"]
    assert table["size"].tolist() == [8, 8, 16]
    assert table["mean_test_score"].between(0, 1).all()
    assert "params" not in table


def test_a_run_that_has_ended_is_not_run_again(finished, shapes, monkeypatch):
    out, line = finished
    monkeypatch.setattr(ChoiceSearchCV, "fit", forbid)
    assert fit(make_arguments(shapes, n_jobs=2), out) == line
    assert resume(out, {"n_jobs": 2}) == line


def test_other_arguments_are_refused(finished, shapes):
    with pytest.raises(
        CommandError, match=r"differs in max_epochs=2 \(was 1\), seed=1"
    ):
        fit(make_arguments(shapes, max_epochs=2, seed=1), finished[0])


def test_other_images_are_refused(tmp_path):
    """Also if a single file is longer."""
    source, out = write_shapes(tmp_path / "images"), tmp_path / "out"
    fit(make_arguments(source), out, quiet=True)
    (source / "class 0" / "more.png").write_bytes(b" ")
    for changes in ({}, {"seconds": 700.0}):
        with pytest.raises(CommandError, match="differs in the images"):
            resume(out, changes)
    (source / "class 0" / "more.png").unlink()
    state = RunFolder(out).expect()  # as before
    assert state.arguments["seconds"] == 600
    assert state.result is not None


@pytest.mark.parametrize("out", ["model", "class 0", "."])
def test_the_folder_of_images_is_left_alone(tmp_path, out):
    source = write_shapes(tmp_path / "images", n_images=6)
    with pytest.raises(CommandError, match="is within the folder of the images"):
        fit(make_arguments(source), source / out)
    assert not [*source.rglob(".lock")]


def test_nothing_is_made_for_a_wrong_source(tmp_path):
    with pytest.raises(CommandError, match="there is no folder or file"):
        fit(make_arguments(tmp_path / "typo"), tmp_path / "out")
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("n_classes", "n_images", "message"),
    [
        (1, 9, r"at least two classes .*\['class 0'\]"),
        (3, 3, r"at least 3 images .* 'class 0' has 1"),
    ],
)
def test_too_few_images(tmp_path, monkeypatch, n_classes, n_images, message):
    """An error before they are read, and nothing is left."""
    monkeypatch.setattr(_fit, "leave_out_unreadable", forbid)
    source = write_shapes(tmp_path / "images", n_images=n_images)
    for name in ("class 1", "class 2")[n_classes - 1 :]:
        shutil.rmtree(source / name)
    with pytest.raises(CommandError, match=message):
        fit(make_arguments(source), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nothing_is_left_if_nothing_can_be_read(tmp_path):
    source = write_shapes(tmp_path / "images", n_images=9)
    for path in source.rglob("*.png"):
        path.write_text("no image")
    with pytest.raises(CommandError, match="none of the 9 files can be read"):
        fit(make_arguments(source), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_that_is_gone_is_made_again(run, shapes):
    paths = read_table(run / "images.csv").paths
    expected = load(run).predict_proba(paths)
    shutil.rmtree(run / "model")
    resume(run, {}, quiet=True)
    np.testing.assert_array_equal(load(run).predict_proba(paths), expected)


def test_the_time_can_be_raised_only(run, shapes):
    with pytest.raises(CommandError, match="was 600 s, and can be raised only"):
        resume(run, {"seconds": 60.0})
    # It is a run that has ended, but for what more time would bring.
    resume(run, {"seconds": 700.0}, quiet=True)
    state = RunFolder(run).expect()
    assert state.arguments["seconds"] == 700
    assert state.result is not None


def test_a_bad_file_is_named_and_left_out(tmp_path, capsys):
    source = write_shapes(tmp_path / "images")
    bad = source / "class 1" / "bad.png"
    bad.write_text("no image")
    out = tmp_path / "out"
    fit(make_arguments(source), out, quiet=True)
    assert f"left out: '{bad}' cannot be read" in capsys.readouterr().err
    assert str(bad) not in read_table(out / "images.csv").paths.tolist()


def test_a_class_without_readable_files_is_named(tmp_path, capsys):
    source = write_shapes(tmp_path / "images")
    (source / "other").mkdir()
    (source / "other" / "1.png").write_text("no image")
    fit(make_arguments(source, candidates=1), tmp_path / "out", quiet=True)
    assert "no file of the classes ['other'] can be read" in capsys.readouterr().err


def test_pretrained_weights_are_said_to_be_missing(shapes, tmp_path, monkeypatch):
    monkeypatch.setattr(_fit, "has_pretrained", lambda: False)
    with pytest.raises(
        CommandError, match=r"features need .*sklearn-iis\[pretrained\]"
    ):
        fit(make_arguments(shapes, ways=["features"]), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("ways", [None, ["from-scratch"]])
def test_without_pretrained_weights(shapes, tmp_path, monkeypatch, capsys, ways):
    """Networks are trained from scratch; who has not asked for that is told."""
    monkeypatch.setattr(_fit, "has_pretrained", lambda: False)
    monkeypatch.setattr(_fit, "_go_on", lambda *args, **settings: None)
    monkeypatch.setattr(_fit, "describe_result", lambda *args: "")
    fit(make_arguments(shapes, ways=ways), tmp_path / "out")
    (way,) = RunFolder(tmp_path / "out").expect().ways
    assert way["name"] == "from-scratch"
    told = "pip install 'sklearn-iis[pretrained]'" in capsys.readouterr().err
    assert told == (ways is None)


@pytest.mark.parametrize(("seconds", "search"), [(650.0, forbid), (400.0, give_up)])
def test_what_is_known_is_enough(run, shapes, monkeypatch, seconds, search):
    """Only the last fit is left if the time is up, or too short to look it up."""
    paths = read_table(run / "images.csv").paths
    expected = load(run).predict_proba(paths)
    state = RunFolder(run).expect()
    state.seconds, state.result = seconds, None
    RunFolder(run).write(state)
    monkeypatch.setattr(ChoiceSearchCV, "fit", search)
    fit(make_arguments(shapes), run, quiet=True)
    np.testing.assert_array_equal(load(run).predict_proba(paths), expected)
    assert RunFolder(run).expect().seconds > seconds


def test_too_little_time(shapes, tmp_path, monkeypatch):
    """The options of the command are named, not the parameters of the search."""
    monkeypatch.setattr(ChoiceSearchCV, "fit", give_up)
    with pytest.raises(CommandError, match=r"the time was up .* resume --time"):
        fit(make_arguments(shapes), tmp_path / "out", quiet=True)


def test_an_interrupt_says_how_to_go_on(shapes, tmp_path, monkeypatch):
    def interrupt(*args, **params):
        raise KeyboardInterrupt

    arguments, out = make_arguments(shapes), tmp_path / "my out"
    with monkeypatch.context() as patch:
        patch.setattr(ChoiceSearchCV, "fit", interrupt)
        with pytest.raises(KeyboardInterrupt, match=r"sklearn-iis resume '.*my out'"):
            fit(arguments, out, quiet=True)
    assert RunFolder(out).expect().result is None
    assert resume(out, {}, quiet=True).startswith("test accuracy")


def test_progress_is_for_terminals(shapes, tmp_path, monkeypatch, capsys):
    verbose = []
    monkeypatch.setattr(
        _fit, "_search", lambda choice, *_: verbose.append(choice.verbose)
    )
    monkeypatch.setattr(_fit, "write_outputs", lambda *args: {"accuracy": 1.0})
    monkeypatch.setattr(_fit, "describe_result", lambda *args: "")
    for i, is_terminal in enumerate((False, True)):
        monkeypatch.setattr("sys.stderr.isatty", lambda answer=is_terminal: answer)
        fit(make_arguments(shapes), tmp_path / str(i))
        fit(make_arguments(shapes), tmp_path / f"quiet {i}", quiet=True)
    assert verbose == [0, 0, 1, 0]
    assert capsys.readouterr().err.count("60 images of 3 classes, 12 of them") == 2


def test_arguments_are_plain(shapes):
    """So that they are the same when they come back from JSON."""
    arguments = dataclasses.asdict(make_arguments(shapes))
    assert json.loads(json.dumps(arguments)) == arguments


def test_a_device_that_is_not_there(tmp_path):
    """An error before anything is read or made."""
    source = write_shapes(tmp_path / "images", n_images=3)
    for path in source.rglob("*.png"):
        path.write_text("no image")
    with pytest.raises(ValueError, match=r"no device 'cuda:99': choose one of auto, c"):
        fit(make_arguments(source, device="cuda:99"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
