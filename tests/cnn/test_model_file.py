"""A trained network saved to a file without code, and loaded again."""

import json
import pickle
import re
import sys
import traceback
import tracemalloc
from functools import partial
from types import ModuleType

import numpy as np
import pandas as pd
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


class Draws(Linear):
    """Its projection is drawn anew each time, and is stored if it is persistent."""

    def __init__(self, input_shape, n_classes, persistent=False):
        super().__init__(input_shape, n_classes)
        self.register_buffer("projection", torch.randn(input_shape), persistent)

    def forward(self, images):
        return super().forward(images * self.projection)


class Looks(Linear):
    """Its constructor looks at its weights, which have no values on "meta"."""

    def __init__(self, input_shape, n_classes):
        super().__init__(input_shape, n_classes)
        self.largest = self.linear.weight.max().item()


class Aliased(Linear):
    """Holds its weights in a list besides."""

    def __init__(self, input_shape, n_classes):
        super().__init__(input_shape, n_classes)
        self.weights = [self.linear.weight]

    def forward(self, images):
        return images.flatten(1) @ self.weights[0].T


class Lazy(nn.Module):
    def __init__(self, input_shape, n_classes):
        super().__init__()
        self.linear = nn.LazyLinear(n_classes)

    def forward(self, images):
        return self.linear(images.flatten(1))


class Noisy(Linear):
    """Draws numbers also when it predicts."""

    def forward(self, images):
        return nn.functional.dropout(super().forward(images), training=True)


class Named(nn.Module):
    def __init__(self, input_shape, n_classes, name="\x1b[31m\nname"):
        super().__init__()
        self.name = name
        self.add_module(name, nn.Linear(int(np.prod(input_shape)), n_classes))

    def forward(self, images):
        return getattr(self, self.name)(images.flatten(1))


class WithState(Linear):
    def get_extra_state(self):
        return {"calls": 3}

    def set_extra_state(self, state):
        pass


class Activated(Linear):
    def __init__(self, input_shape, n_classes, activation=nn.ReLU):
        super().__init__(input_shape, n_classes)
        self.activation = activation()

    def forward(self, images):
        return self.activation(super().forward(images))


class Configured(Linear):
    """Takes a list, a tuple, a dict or a number, and nothing else in its place."""

    def __init__(self, input_shape, n_classes, value=None, kind=None):
        super().__init__(input_shape, n_classes)
        if type(value).__name__ != kind:
            raise TypeError(f"value is of type {type(value).__name__}")


class Recorded(CNNClassifier):
    """Has parameters that are objects, and some that belong to them."""

    own = ("monitor", "monitor__rate", "weights")
    _parameter_constraints = CNNClassifier._parameter_constraints | dict.fromkeys(
        own, "no_validation"
    )

    def __init__(self, *, monitor="loss", monitor__rate=None, weights=None, **params):
        # As a derived class has all parameters, `get_params` finds them.
        super().__init__(**params)
        self.monitor = monitor
        self.monitor__rate = monitor__rate
        self.weights = weights

    @classmethod
    def _get_param_names(cls):
        return sorted([*cls.own, *CNNClassifier._get_param_names()])


@pytest.fixture(scope="module")
def fitted():
    return CNNClassifier(**SETTINGS).fit(X, Y)


@pytest.fixture
def path(fitted, tmp_path):
    fitted.save(tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def rewrite(path, tensors=(), **changes):
    """Write another description to the file, or other tensors."""
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        old = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    description = json.loads(metadata["description"])
    for key, value in changes.items():
        if key in ("format", "version", "description"):
            metadata[key] = value
        elif key in (*description, "n_features_in_"):
            description[key] = value
        else:
            description["params"][key] = value
    if "description" not in changes:
        metadata["description"] = json.dumps(description)
    safetensors.torch.save_file(old | dict(tensors), path, metadata)


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
        {"warm_start": "weights", "pooling": "average", "n_conv_layers": 6},
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
            np.testing.assert_array_equal(loaded.get_params()[name], value)
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
        np.array([2**64 - 1, 3], dtype=np.uint64),
        np.array([3, -7], dtype=">i4"),
        np.array(["a", "b"], dtype="<U10"),
        np.array(["\udc80", "a\0b"]),
        np.array(["2020-01-01", "2021-06-01"], dtype="datetime64[ns]"),
        np.array([3, 5], dtype="i8").astype(">M8[25s]"),
        np.array([3, 5], dtype="timedelta64[D]"),
    ],
    ids=lambda labels: labels.dtype.str,
)
def test_labels_keep_their_type(labels, tmp_path):
    y = labels[np.unique(Y, return_inverse=True)[1]]
    classifier = CNNClassifier(**SETTINGS).fit(X, y)
    classifier.save(tmp_path / "model")
    loaded = CNNClassifier.load(tmp_path / "model")
    assert loaded.classes_.dtype == classifier.classes_.dtype
    np.testing.assert_array_equal(loaded.classes_, classifier.classes_)
    np.testing.assert_array_equal(loaded.predict(X), classifier.predict(X))


def test_rows_of_features(tmp_path):
    rows = X.reshape(len(X), -1)[:, :64]
    classifier = CNNClassifier(**SETTINGS).fit(rows, Y)
    classifier.save(tmp_path / "model")
    loaded = CNNClassifier.load(tmp_path / "model")
    assert loaded.n_features_in_ == 64
    with pytest.raises(ValueError, match="X has 3 features"):
        loaded.predict(rows[:, :3])
    rewrite(tmp_path / "model", n_features_in_=65)
    with pytest.raises(ValueError, match=r"65 features for images of shape \(8, 8, 1"):
        CNNClassifier.load(tmp_path / "model")


def test_names_of_features(tmp_path):
    table = pd.DataFrame(X.reshape(len(X), -1)[:, :64]).add_prefix("größe\n")
    CNNClassifier(**SETTINGS).fit(table, Y).save(tmp_path / "model")
    loaded = CNNClassifier.load(tmp_path / "model")
    assert loaded.feature_names_in_.tolist() == [*table]
    loaded.predict(table)
    for names in ([*table][1:], [*[*table][1:], 3], "x" * 64, 64):
        rewrite(tmp_path / "model", feature_names_in_=names)
        with pytest.raises(ValueError, match="it has 64 features named"):
            CNNClassifier.load(tmp_path / "model")


def test_a_module_of_ones_own_is_given_again(tmp_path):
    classifier = CNNClassifier(module=Linear, module__bias=False, max_epochs=1)
    classifier.fit(X, Y).save(tmp_path / "model")
    loaded = CNNClassifier.load(tmp_path / "model", module=Linear)
    np.testing.assert_array_equal(loaded.predict_proba(X), classifier.predict_proba(X))
    assert loaded.get_params()["module__bias"] is False
    with pytest.raises(ValueError, match="saved with a module of its own"):
        CNNClassifier.load(tmp_path / "model")


@pytest.mark.parametrize(
    "module",
    [
        *(Tied, Looks, Aliased, Lazy, Named, partial(Draws, persistent=True)),
        partial(Activated, activation=nn.GELU),
    ],
)
def test_any_module(module, tmp_path):
    """Whatever its constructor does; torch's generator is left as it was."""
    classifier = CNNClassifier(module=module, max_epochs=1, random_state=0).fit(X, Y)
    before = torch.get_rng_state()
    classifier.save(tmp_path / "model")
    loaded = CNNClassifier.load(tmp_path / "model", module=module)
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(loaded.predict_proba(X), classifier.predict_proba(X))


def test_a_module_that_draws_when_it_predicts(tmp_path):
    classifier = CNNClassifier(module=Noisy, max_epochs=1, random_state=0).fit(X, Y)
    before = torch.get_rng_state()
    classifier.save(tmp_path / "model")
    assert torch.equal(torch.get_rng_state(), before)
    CNNClassifier.load(tmp_path / "model", module=Noisy)


@pytest.mark.parametrize(
    "value",
    [
        *([3, [5]], (3, (5,)), [], (), {"a": [1]}, {0: 1.0, 1: 5.0}, {(1, 2): {}}),
        *({"tuple": [1]}, {None: True}, float("inf"), -(2**100), "\x1b\n\udc80"),
    ],
)
def test_parameters_keep_their_type(value, tmp_path):
    """Dicts with any keys, tuples and lists come back as what they were."""
    params = {"module__value": value, "module__kind": type(value).__name__}
    classifier = CNNClassifier(module=Configured, max_epochs=1, **params).fit(X, Y)
    classifier.save(tmp_path / "model")
    loaded = CNNClassifier.load(tmp_path / "model", module=Configured)
    assert loaded.get_params()["module__value"] == value


def test_parameters_that_are_objects_come_back_as_their_default(tmp_path):
    """So do those that belong to them; others are kept."""
    classifier = Recorded(
        monitor=len, monitor__rate=3, weights={0: 1.0, 1: 5.0}, **SETTINGS
    )
    classifier.fit(X, Y).save(tmp_path / "model")
    loaded = Recorded.load(tmp_path / "model")
    assert (loaded.monitor, loaded.monitor__rate) == ("loss", None)
    assert loaded.weights == {0: 1.0, 1: 5.0}
    np.testing.assert_array_equal(loaded.predict_proba(X), classifier.predict_proba(X))
    classifier.set_params(monitor="accuracy").save(tmp_path / "model")
    assert Recorded.load(tmp_path / "model").monitor__rate == 3


def test_a_device_that_is_not_there(path):
    with pytest.raises(ValueError, match="no device 'nonsense': choose one of auto,"):
        CNNClassifier.load(path, device="nonsense")


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
        ({"description": "{}"}, "KeyError: 'module'"),
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
        ({"classes": {"dtype": "i1", "values": [1, 300]}}, "its classes|out of bounds"),
        ({"classes": {"dtype": "|b1", "values": [5, 7]}}, "its classes are"),
        ({"classes": {"dtype": "<U1", "values": ["ab", "ac"]}}, "its classes are"),
        ({"classes": {"dtype": "O", "values": {"a": 1}}}, "its classes are"),
        ({"classes": {"dtype": "i4,i4", "values": [1, 2]}}, "its classes are"),
        ({"n_filters": {"tuple": 3}}, "not iterable"),
        ({"n_filters": {"set": [3]}}, "it holds a 'set'"),
        ({"n_filters": {"dict": [[[], 1]]}}, "unhashable"),
        ({"n_filters": {}}, "ValueError|not enough values"),
        ({"image_shape": [12, 12, True]}, "shape of its images"),
        ({"image_shape": [2**40, 2**40, 3]}, "shape of its images"),
        ({"history": [{"epoch": "one"}]}, "history holds more than numbers"),
        ({"history": 3}, "history is no list of epochs"),
        ({"history": [3]}, "history is no list of epochs"),
        ({"params": []}, "has no attribute 'items'"),
    ],
)
def test_what_does_not_fit_together(changes, message, path):
    rewrite(path, **changes)
    with pytest.raises(ValueError, match=message) as raised:
        CNNClassifier.load(path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"image_shape": [12, 12, 10**8]},
        {"image_shape": [12, 12, 10**12]},
        {"image_shape": [2**29, 2**29, 3]},
        {"n_filters": 10**9},
        {"n_conv_layers": 1, "n_filters": [10**9]},
        {"n_units": 10**400},
        {"filter_size": 10**9},
        {"n_filters": [1] * 100_000},
        {"classes": {"dtype": "<i8", "values": [*range(100_000)]}},
        {"classes": {"dtype": "<U99999", "values": [f"{i}" for i in range(9999)]}},
        {"classes": {"dtype": "<U99999999", "values": ["a", "b"]}},
        {"description": " " * 2**24},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_nothing_large_is_made(changes, path):
    """Neither of a small file, nor of a large header, which is not even read."""
    rewrite(path, **changes)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="cannot be loaded") as raised:
            CNNClassifier.load(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**21 + 25 * min(path.stat().st_size, 2**20)
    assert len(str(raised.value)) < 2000


def test_a_module_of_ones_own_is_no_larger_than_the_file(tmp_path):
    """It is not made for real before its shapes are those of the file."""
    classifier = CNNClassifier(module=Linear, max_epochs=1).fit(X, Y)
    classifier.save(tmp_path / "model")
    rewrite(tmp_path / "model", image_shape=[10**6, 10**6, 3])
    with pytest.raises(ValueError, match=r"linear\.weight is .* should be"):
        CNNClassifier.load(tmp_path / "model", module=Linear)


HOSTILE = "\x1b[31mred\nline\x07" + "x" * 100_000


@pytest.mark.parametrize(
    "changes",
    [
        {"version": HOSTILE},
        {"description": HOSTILE},
        {"module": HOSTILE},
        {"learning_rate": HOSTILE},
        {HOSTILE: 1},
        {"image_shape": [HOSTILE]},
        {"classes": {"dtype": HOSTILE, "values": [1, 2]}},
        {"classes": {"dtype": "O", "values": [HOSTILE, HOSTILE]}},
        {"classes": {HOSTILE: 1}},
        {"history": HOSTILE},
        {"n_filters": {HOSTILE: 1}},
        {"n_filters": {"float": HOSTILE}},
        {"n_features_in_": HOSTILE},
        {"tensors": {HOSTILE: torch.zeros(1)}},
    ],
    ids=lambda changes: next(iter(changes))[:20],
)
def test_text_of_a_file_is_not_shown_as_it_is(changes, path):
    """Neither in the message nor in what is shown before it."""
    rewrite(path, **changes)
    with pytest.raises(ValueError, match="cannot be loaded") as raised:
        CNNClassifier.load(path)
    shown = "".join(traceback.format_exception(raised.value))
    assert str(raised.value) in shown
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 2000


def test_other_tensors(path):
    with safetensors.safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    name = "network.layers.0.conv.weight"
    for changed, message in (
        ({name: tensors[name].double()}, "torch.float64, and should be"),
        ({"extra": torch.zeros(1)}, "extra is .* should be nothing"),
    ):
        rewrite(path, changed)
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
    y = np.unique(Y, return_inverse=True)[1].astype(np.longdouble)
    with pytest.raises(TypeError, match="classes_ cannot be saved"):
        clone(fitted).fit(X, y).save(path)
    changed = clone(fitted).fit(X, Y).set_params(n_filters=5)
    with pytest.raises(ValueError, match=r"cannot be saved, as .*is \(4, .*be \(5, "):
        changed.save(path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        (
            {"module": Activated, "module__activation": nn.GELU},
            TypeError,
            "module__activation cannot be saved.*functools.partial",
        ),
        (
            {"module": Configured, "module__value": np.ones(1)}
            | {"module__kind": "ndarray"},
            ValueError,
            "loaded again: TypeError: value is of type list",
        ),
        ({"module": Draws}, ValueError, "would predict something else"),
        (
            {"module": WithState, "early_stopping": False},
            ValueError,
            "'network._extra_state', which is no tensor",
        ),
        (
            {"module": Named, "module__name": "\udc80"},
            ValueError,
            "surrogates not allowed",
        ),
    ],
)
def test_modules_that_cannot_be_saved(params, error, message, path):
    """A network that would not be loaded again is refused; nothing is written."""
    before = path.read_bytes()
    classifier = CNNClassifier(max_epochs=1, random_state=0, **params).fit(X, Y)
    with pytest.raises(error, match=message):
        classifier.save(path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


LITE0 = {"module": "efficientnet-lite0", "module__pretrained": False}


@pytest.fixture(scope="module")
def named():
    """Return a classifier whose module is a name, trained for an epoch."""
    return CNNClassifier(**LITE0, max_epochs=1, random_state=0).fit(X, Y)


@pytest.mark.parametrize("module", [None, "efficientnet-lite0"])
def test_a_backbone_of_ours_is_made_by_its_name(named, tmp_path, module):
    """It need not be given again; grey images have buffers that are not stored."""
    path = tmp_path / "named.safetensors"
    named.save(path)
    loaded = CNNClassifier.load(path, module=module)
    assert loaded.get_params() == named.get_params()
    np.testing.assert_array_equal(loaded.predict_proba(X), named.predict_proba(X))


@pytest.mark.parametrize("module", [Linear, "timm/resnet18"])
def test_a_name_must_be_that_of_the_file(named, tmp_path, module):
    path = tmp_path / "named.safetensors"
    named.save(path)
    message = "saved with module=.*'efficientnet-lite0'.*, but load was given .*"
    with pytest.raises(ValueError, match=message):
        CNNClassifier.load(path, module=module)


def test_a_name_is_not_for_a_file_of_another_module(tmp_path):
    path = tmp_path / "linear.safetensors"
    CNNClassifier(module=Linear, max_epochs=1).fit(X, Y).save(path)
    with pytest.raises(ValueError, match=r"saved with module=.*Linear.*efficientnet"):
        CNNClassifier.load(path, module="efficientnet-lite0")


class Pooled(nn.Conv2d):
    """A model of another library, as far as it is used here."""

    num_features = 2
    pretrained_cfg = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.2, 0.2)}


@pytest.fixture
def fake_timm(monkeypatch):
    """Stand in for timm, which cannot be imported everywhere; count its models."""
    calls = []

    def create_model(name, pretrained, num_classes):
        calls.append(pretrained)
        return Pooled(3, 2, 3)

    timm = ModuleType("timm")
    timm.is_model = lambda name: True
    timm.create_model = create_model
    monkeypatch.setitem(sys.modules, "timm", timm)
    return calls


def test_a_file_does_not_choose_code_of_others(fake_timm, tmp_path):
    """The name must be given again, and no pretrained weights are asked for."""
    path = tmp_path / "timm.safetensors"
    clf = CNNClassifier(module="timm/any", max_epochs=1).fit(X, Y)
    assert fake_timm.pop() is True
    clf.save(path)
    assert not any(fake_timm)
    fake_timm.clear()
    with pytest.raises(ValueError, match=r"'timm/any'.*: give it to load as well"):
        CNNClassifier.load(path)
    assert not fake_timm
    loaded = CNNClassifier.load(path, module="timm/any")
    np.testing.assert_array_equal(loaded.predict_proba(X), clf.predict_proba(X))


@pytest.mark.parametrize("backbone", [["efficientnet-lite0"], 3, {"a": 1}, "torch"])
def test_a_backbone_that_is_none(named, tmp_path, backbone):
    """Whatever a file holds in its place, it is an error that says so."""
    path = tmp_path / "named.safetensors"
    named.save(path)
    rewrite(path, backbone=backbone)
    with pytest.raises(ValueError, match="cannot be loaded"):
        CNNClassifier.load(path)
