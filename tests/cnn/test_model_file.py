"""A trained network saved to a file without code, and loaded again."""

import json
import pickle
import re

import numpy as np
import pytest
import safetensors.torch
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from torch import nn

from sklearn_iis import CNNClassifier
from sklearn_iis.datasets import make_shapes

X, Y = make_shapes(40, size=12, n_classes=2, random_state=0)
SETTINGS = {"n_filters": 4, "n_units": 8, "max_epochs": 2, "random_state": 0}


class Linear(nn.Module):
    def __init__(self, input_shape, n_classes, bias=True):
        super().__init__()
        self.linear = nn.Linear(int(np.prod(input_shape)), n_classes, bias=bias)

    def forward(self, images):
        return self.linear(images.flatten(1))


class Tied(nn.Module):
    """Two layers with the same weights."""

    def __init__(self, input_shape, n_classes):
        super().__init__()
        self.first = nn.Linear(int(np.prod(input_shape)), n_classes)
        self.second = nn.Linear(int(np.prod(input_shape)), n_classes)
        self.second.weight = self.first.weight

    def forward(self, images):
        images = images.flatten(1)
        return self.first(images) + self.second(images)


@pytest.fixture(scope="module")
def fitted():
    return CNNClassifier(**SETTINGS).fit(X, Y)


@pytest.fixture
def path(fitted, tmp_path):
    fitted.save(tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def rewrite(path, tensors=None, **changes):
    """Write another description to the file, or other tensors."""
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        old = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    description = json.loads(metadata["description"])
    for key, value in changes.items():
        if key in ("format", "version", "description"):
            metadata[key] = value
        elif key in description:
            description[key] = value
        else:
            description["params"][key] = value
    if "description" not in changes:
        metadata["description"] = json.dumps(description)
    safetensors.torch.save_file(tensors or old, path, metadata)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"n_conv_layers": 2, "n_filters": (3, 5), "batch_norm": False},
        {
            "n_conv_layers": np.int64(1),
            "n_filters": np.array([6]),
            "l2": np.float32(0.1),
        },
        {"n_conv_layers": 0, "n_hidden_layers": 0, "early_stopping": False},
        {"random_state": np.random.RandomState(0), "warm_start": True},
    ],
)
def test_same_predictions(settings, tmp_path):
    classifier = CNNClassifier(**SETTINGS | settings).fit(X, Y)
    classifier.save(tmp_path / "model")
    loaded = CNNClassifier.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict_proba(X), classifier.predict_proba(X))
    assert loaded.history_ == classifier.history_
    assert loaded.n_iter_ == classifier.n_iter_
    assert loaded.image_shape_ == classifier.image_shape_
    for name, value in classifier.get_params().items():
        if name != "random_state":
            np.testing.assert_array_equal(getattr(loaded, name), value)
    # It is an estimator like any other.
    assert clone(loaded).set_params(max_epochs=1).fit(X, Y).n_iter_ == 1
    again = pickle.loads(pickle.dumps(loaded))
    np.testing.assert_array_equal(again.predict(X), classifier.predict(X))
    loaded.save(tmp_path / "again")
    assert loaded.fit(X, Y).n_iter_ == 2


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["circle", "größe"]),
        np.array(["a", "b"], dtype=object),
        np.array([True, False]),
        np.array([3, -7], dtype=np.int8),
        np.array([1.0, 2.0]),
    ],
    ids=["str", "object", "bool", "int8", "float"],
)
def test_labels_keep_their_type(labels, tmp_path):
    y = labels[np.unique(Y, return_inverse=True)[1]]
    classifier = CNNClassifier(**SETTINGS).fit(X, y)
    classifier.save(tmp_path / "model")
    loaded = CNNClassifier.load(tmp_path / "model")
    assert loaded.classes_.dtype == classifier.classes_.dtype
    np.testing.assert_array_equal(loaded.predict(X), classifier.predict(X))


def test_rows_of_features(tmp_path):
    rows = X.reshape(len(X), -1)[:, :64]
    classifier = CNNClassifier(**SETTINGS).fit(rows, Y)
    classifier.save(tmp_path / "model")
    loaded = CNNClassifier.load(tmp_path / "model")
    assert loaded.n_features_in_ == 64
    with pytest.raises(ValueError, match="X has 3 features"):
        loaded.predict(rows[:, :3])


def test_a_module_of_ones_own_is_given_again(tmp_path):
    classifier = CNNClassifier(module=Linear, module__bias=False, max_epochs=1)
    classifier.fit(X, Y).save(tmp_path / "model")
    loaded = CNNClassifier.load(tmp_path / "model", module=Linear)
    np.testing.assert_array_equal(loaded.predict_proba(X), classifier.predict_proba(X))
    assert loaded.get_params()["module__bias"] is False
    with pytest.raises(ValueError, match="saved with a module of its own"):
        CNNClassifier.load(tmp_path / "model")


def test_weights_that_are_shared(tmp_path):
    classifier = CNNClassifier(module=Tied, max_epochs=1, random_state=0).fit(X, Y)
    classifier.save(tmp_path / "model")
    before = torch.get_rng_state()
    loaded = CNNClassifier.load(tmp_path / "model", module=Tied)
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(loaded.predict_proba(X), classifier.predict_proba(X))


def test_a_module_where_there_was_none(path):
    with pytest.raises(ValueError, match="saved without a module of its own"):
        CNNClassifier.load(path, module=Linear)


def test_device_is_that_of_the_reader(path):
    rewrite(path, device="cuda:3")
    assert CNNClassifier.load(path).device == "auto"
    assert CNNClassifier.load(path, device="cpu").net_.device == "cpu"


def test_no_code_is_run(path, monkeypatch):
    """Nothing that unpickles is called, and a pickle is refused."""
    for module, name in ((torch, "load"), (pickle, "load"), (pickle, "loads")):
        monkeypatch.setattr(module, name, None)
    CNNClassifier.load(path)

    class Hostile:
        def __reduce__(self):
            return print, ("run",)

    path.write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(ValueError, match=r"cannot be loaded as a file that CNNClass"):
        CNNClassifier.load(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "pt"}, "not those of a CNNClassifier"),
        ({"version": "2"}, "version '2', and this sklearn_iis reads version 1"),
        ({"description": "[]"}, "its description is no dict"),
        ({"description": "{"}, "Expecting property name"),
        ({"description": "{}"}, "'params'"),
        ({"description": "[" * 100_000}, "recursion"),
        ({"n_filters": 5}, r"is \(4, .*\) torch.float32, and should be \(5, "),
        ({"n_filters": 10**15}, "should be|overflow|invalid|size"),
        ({"n_hidden_layers": 10**9}, "tensors for 100000000. layers"),
        ({"n_conv_layers": 10**9}, "tensors for 100000000. layers"),
        ({"learning_rate": "fast"}, "'learning_rate' parameter"),
        ({"unheard_of": 1}, "no parameter 'unheard_of'"),
        ({"image_shape": [12, 12]}, r"shape of its images is \[12, 12\]"),
        ({"image_shape": [12, -12, 1]}, "shape of its images"),
        ({"classes": {"dtype": "<i8", "values": [1, 1]}}, r"its classes are \[1, 1\]"),
        ({"classes": {"dtype": "O", "values": [[], 1]}}, "its classes are"),
        ({"classes": {"dtype": "O", "values": [1, 2, 3]}}, "should be"),
        ({"classes": {"dtype": "<U9999999999", "values": ["a", "b"]}}, "<U99999|too"),
        ({"history": 3}, "not iterable"),
        ({"history": [3]}, "not iterable"),
        ({"params": []}, "has no attribute 'items'"),
    ],
)
def test_what_does_not_fit_together(changes, message, path):
    rewrite(path, **changes)
    with pytest.raises(ValueError, match=message) as raised:
        CNNClassifier.load(path)
    assert str(path) in str(raised.value)


def test_other_tensors(path):
    with safetensors.safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    name = next(iter(tensors))
    for changed, message in (
        ({name: tensors[name].double()}, "torch.float64, and should be"),
        ({"extra": torch.zeros(1)}, "extra is .* should be nothing"),
    ):
        rewrite(path, tensors | changed)
        with pytest.raises(ValueError, match=message):
            CNNClassifier.load(path)


def test_a_damaged_file_is_an_error_or_harmless(path):
    """Whatever byte is changed, and wherever the file is cut."""
    data = path.read_bytes()
    rng = np.random.RandomState(0)
    messages = []
    for _ in range(150):
        damaged = bytearray(data)
        if rng.rand() < 0.3:
            damaged = damaged[: rng.randint(len(damaged))]
        else:
            # Most of what can go wrong is in the header.
            damaged[rng.randint(min(4000, len(damaged)))] = rng.randint(256)
        path.write_bytes(damaged)
        try:
            CNNClassifier.load(path)
        except ValueError as error:
            messages.append(str(error))
    assert all(str(path) in message for message in messages)
    assert len(messages) > 50


def test_bad_paths(fitted, tmp_path):
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / "none"))):
        CNNClassifier.load(tmp_path / "none")
    with pytest.raises(IsADirectoryError):
        CNNClassifier.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        fitted.save(tmp_path / "none" / "model")
    with pytest.raises(IsADirectoryError, match="name a file in it"):
        fitted.save(tmp_path)


def test_what_cannot_be_saved(fitted, path):
    before = path.read_bytes()
    with pytest.raises(NotFittedError):
        CNNClassifier().save(path)
    classifier = clone(fitted).set_params(module=Linear, module__bias=object())
    classifier.module__bias = lambda: True
    with pytest.raises(TypeError, match="module__bias cannot be saved"):
        classifier.fit(X, Y).save(path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]
