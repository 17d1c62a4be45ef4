"""Training that begins with what the last fit has learned, at another size."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.pipeline import Pipeline
from skorch.callbacks import Callback
from torch import nn

from sklearn_iis import ImageResizer
from sklearn_iis.cnn import CNNClassifier
from sklearn_iis.cnn._module import ConvNet
from sklearn_iis.cnn._training import Images, Training
from sklearn_iis.cnn._weights import inherit_weights

DIGITS, LABELS = load_digits(return_X_y=True)
DIGITS = DIGITS[:150].reshape(-1, 8, 8).astype(np.float32)
LABELS = LABELS[:150]


def larger(images, factor=2):
    return images.repeat(factor, axis=1).repeat(factor, axis=2)


def quick(**params):
    """Return a classifier that trains in a fraction of a second, at any size."""
    settings = {"n_filters": 4, "n_units": 8, "max_epochs": 2, "random_state": 0}
    return CNNClassifier(**settings | {"pooling": "average"} | params)


def state_of(classifier):
    """Return a copy of all weights and statistics, by name."""
    state = classifier.net_.module_.state_dict()
    return {name: tensor.clone() for name, tensor in state.items()}


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


class Begins(Callback):
    """Keeps the state that training begins with."""

    def on_train_begin(self, net, **kwargs):
        state = net.module_.state_dict()
        self.state = {name: tensor.clone() for name, tensor in state.items()}


class Conv(nn.Module):
    """Its head depends on the size of the image, its trunk on `n_filters`."""

    def __init__(self, input_shape, n_classes, n_filters=3):
        super().__init__()
        channels, height, width = input_shape
        self.conv = nn.Conv2d(channels, n_filters, 3, padding=1)
        self.norm = nn.BatchNorm2d(n_filters)
        self.head = nn.Linear(n_filters * height * width, n_classes)

    def forward(self, images):
        return self.head(torch.relu(self.norm(self.conv(images))).flatten(1))


class OtherConv(Conv):
    pass


@pytest.mark.parametrize("first", [False, True, "weights"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_training_begins_with_all_that_was_learned(first, dropout):
    """Weights and statistics of batch norm, at another size and another dropout."""
    clf = quick(warm_start=first, early_stopping=True).fit(DIGITS, LABELS)
    learned = state_of(clf)
    clf.set_params(warm_start="weights", dropout=dropout, learning_rate=0.01)
    clf.set_params(callbacks=[("begins", Begins())], early_stopping=False)
    images = 3 * larger(DIGITS) + 5
    clf.fit(images, LABELS)
    begun = dict(clf.net_.callbacks_)["begins"].state
    assert sum(name.endswith("running_var") for name in begun) == 5
    mean, scale = (begun.pop(f"standardize.{n}").item() for n in ("mean", "scale"))
    assert mean == pytest.approx(images.mean(), rel=1e-5)
    assert scale == pytest.approx(1 / images.std(), rel=1e-5)
    assert_same(begun, {n: t for n, t in learned.items() if n.startswith("network")})
    assert clf.image_shape_ == (16, 16, 1)
    assert [row["epoch"] for row in clf.history_] == [1, 2]
    assert clf._training is None


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"early_stopping": True, "patience": None, "mixup": 0.2},
        {"optimizer": "adamw", "dropout": 0.2, "schedule": "constant", "crop": 0.2},
        {"batch_norm": "conv", "n_conv_layers": 2, "n_filters": (3, 5)},
    ],
)
def test_the_same_as_weights_that_were_loaded_by_hand(params):
    """Bit by bit: a fresh network and fresh streams, with other weights."""
    clf = quick(**params).fit(DIGITS, LABELS)
    images = larger(DIGITS)
    fresh = quick(**params)
    fresh.image_shape_, fresh.classes_ = (16, 16, 1), clf.classes_
    data = Images(images[..., np.newaxis], LABELS)
    training = Training.begin(fresh, data)
    weights = clf.net_.module_.network.state_dict()
    training.net.module_.network.load_state_dict(weights)
    training.run(fresh, data, None)
    clf.set_params(warm_start="weights").fit(images, LABELS)
    assert_same(state_of(clf), training.net.module_.state_dict())
    losses = [row["train_loss"] for row in clf.history_]
    assert losses == training.net.history[:, "train_loss"]


@pytest.mark.parametrize("params", [{}, {"early_stopping": True, "dropout": 0.2}])
def test_without_a_fit_before_it_is_a_plain_fit(params):
    plain = quick(**params).fit(DIGITS, LABELS)
    clf = quick(warm_start="weights", **params).fit(DIGITS, LABELS)
    assert_same(state_of(clf), state_of(plain))
    # A copy that has learned nothing yet.
    assert_same(state_of(clone(clf).fit(DIGITS, LABELS)), state_of(plain))
    assert clf._training is None
    assert dict(clf.net_.callbacks_).keys() == dict(plain.net_.callbacks_).keys()


def test_copies_and_files_know_what_was_learned(tmp_path):
    """Pickles and saved files give the same next fit, and the parameter is kept."""
    clf = quick(warm_start="weights", early_stopping=True).fit(DIGITS, LABELS)
    clf.save(tmp_path / "model")
    loaded = CNNClassifier.load(tmp_path / "model")
    copies = [clf, pickle.loads(pickle.dumps(clf)), loaded]
    states = [state_of(each.fit(larger(DIGITS), LABELS)) for each in copies]
    assert [each.warm_start for each in copies] == ["weights"] * 3
    assert_same(states[0], states[1])
    assert_same(states[0], states[2])
    plain = quick(early_stopping=True).fit(larger(DIGITS), LABELS)
    name = "network.layers.0.conv.weight"
    assert not torch.equal(states[0][name], state_of(plain)[name])


def test_a_pipeline_goes_on_at_a_larger_size():
    """As by hand; only `warm_start`, the size and the epochs are set."""
    pipe = Pipeline([("resize", ImageResizer(8)), ("cnn", quick())])
    pipe.fit(larger(DIGITS), LABELS)
    small = pickle.loads(pickle.dumps(pipe["cnn"]))
    pipe.set_params(resize__size=16, cnn__warm_start="weights", cnn__max_epochs=1)
    pipe.fit(larger(DIGITS), LABELS)
    assert pipe["cnn"].n_iter_ == 1
    images = ImageResizer(16).fit_transform(larger(DIGITS))
    small.set_params(warm_start="weights", max_epochs=1).fit(images, LABELS)
    assert_same(state_of(pipe["cnn"]), state_of(small))


def test_features_in_rows():
    """Their number and names are those of the new images."""
    clf = quick(warm_start="weights").fit(DIGITS.reshape(150, -1), LABELS)
    clf.fit(larger(DIGITS).reshape(150, -1), LABELS)
    assert clf.n_features_in_ == 256
    with pytest.raises(ValueError, match="49 features, but CNNClassifier is expecting"):
        clf.predict(np.zeros((2, 49)))


def test_training_itself_is_not_gone_on_with_afterwards():
    """After a fit with "weights", one with True begins anew, from nothing."""
    clf = quick(schedule="constant").fit(DIGITS, LABELS)
    clf.set_params(warm_start="weights").fit(DIGITS, LABELS)
    clf.set_params(warm_start=True).fit(DIGITS, LABELS)
    plain = quick(schedule="constant").fit(DIGITS, LABELS)
    assert_same(state_of(clf), state_of(plain))


@pytest.mark.parametrize(
    ("params", "images", "messages"),
    [
        (
            {"pooling": "flatten", "n_conv_layers": 2},
            larger(DIGITS),
            [
                "every weight of the last fit must fit, but layers.4.weight was of "
                "shape (8, 16) and is of shape (8, 64): with",
                'was 8 x 8 and is 16 x 16; with pooling="average", none does',
            ],
        ),
        (
            {"pooling": "flatten"},
            larger(DIGITS),
            ["n_conv_layers was 3 and is 4", "8 x 8 and is 16 x 16"],
        ),
    ],
)
def test_weights_that_depend_on_the_size(params, images, messages):
    """The error says what does not fit, and that average pooling would."""
    check_refused(quick(**params), {}, images, LABELS, messages)


def test_flattened_features_of_images_of_the_same_size():
    """All weights fit then; the pooling does not matter."""
    clf = quick(pooling="flatten", warm_start="weights").fit(DIGITS, LABELS)
    learned = state_of(clf)
    clf.set_params(callbacks=[("begins", Begins())]).fit(DIGITS, LABELS)
    assert_same(dict(clf.net_.callbacks_)["begins"].state, learned)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_filters": 5}, "n_filters was (4, 4, 4, 4) and is (5, 5, 5, 5)."),
        ({"filter_size": 5}, "layers.0.conv.weight was of shape (4, 1, 3, 3)"),
        ({"n_units": 9}, "n_units was (8,) and is (9,)"),
        ({"n_hidden_layers": 0}, "n_hidden_layers was 1 and is 0"),
        ({"n_hidden_layers": 2, "n_units": 8}, "n_hidden_layers was 1 and is 2"),
        ({"n_conv_layers": 5}, "n_conv_layers was 4 and is 5"),
        ({"batch_norm": False}, "layers.0.conv.bias was not there and is of shape"),
        ({"batch_norm": "conv"}, "batch_norm was True and is 'conv'"),
        ({"pooling": "flatten"}, "pooling was 'average' and is 'flatten'"),
        ({"module": Conv}, "the network was a ConvNet and is a Conv"),
    ],
)
def test_a_network_that_is_another_one(changes, message):
    check_refused(quick(), changes, DIGITS, LABELS, [message])


@pytest.mark.parametrize(
    ("images", "labels", "messages"),
    [
        (DIGITS, LABELS + 1, ["for the same classes", "should get [0 1 2"]),
        (DIGITS, LABELS // 2, ["it got [0 1 2 3 4], and should get [0 1 2"]),
        (DIGITS[..., None].repeat(3, -1), LABELS, ["it got 3, and should get 1."]),
    ],
)
def test_other_classes_and_channels(images, labels, messages):
    check_refused(quick(), {}, images, labels, messages)
    check_refused(quick(module=Conv), {}, images, labels, messages)


def check_refused(clf, changes, images, labels, messages):
    """Check that a fit is refused by a message, and leaves the last one as it was."""
    rows = DIGITS.reshape(len(DIGITS), -1)
    expected = clf.fit(rows, LABELS).predict_proba(rows)
    with pytest.raises(ValueError, match='warm_start="weights"') as error:
        clf.set_params(warm_start="weights", **changes).fit(images, labels)
    for message in [*messages, "Set warm_start=False to start anew."]:
        assert message in str(error.value)
    np.testing.assert_array_equal(clf.predict_proba(rows), expected)
    assert clf.n_features_in_ == 64


def test_a_module_takes_what_fits():
    """The trunk goes on, the head begins anew as in a fit from nothing."""
    clf = quick(module=Conv).fit(DIGITS, LABELS)
    learned = state_of(clf)
    callbacks = [("begins", Begins())]
    clf.set_params(warm_start="weights", callbacks=callbacks).fit(
        larger(DIGITS), LABELS
    )
    begun = dict(clf.net_.callbacks_)["begins"].state
    plain = quick(module=Conv, callbacks=callbacks).fit(larger(DIGITS), LABELS)
    anew = dict(plain.net_.callbacks_)["begins"].state
    own = {n for n in begun if n.startswith(("network.conv", "network.norm"))}
    # A vector as long as there are classes, whatever the size.
    own.add("network.head.bias")
    assert_same({n: begun[n] for n in own}, {n: learned[n] for n in own})
    rest = begun.keys() - own
    assert "network.head.weight" in rest
    assert_same({n: begun[n] for n in rest}, {n: anew[n] for n in rest})
    # Another class with weights of the same names and shapes is as good.
    clf.set_params(module=OtherConv).fit(larger(DIGITS), LABELS)
    assert isinstance(clf.net_.module_.network, OtherConv)


def test_a_module_of_which_nothing_fits():
    """A counter of batches has no shape, and always fits: it is no weight."""
    learned, network = Conv((1, 8, 8), 2, 3), Conv((1, 16, 16), 3, 4)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    message = r"a weight of the last fit must fit, but conv.weight was of shape \(3, 1"
    with pytest.raises(ValueError, match=message):
        inherit_weights(network, learned, must_fit=False)
    assert_same(before, network.state_dict())


def test_what_is_inherited_is_a_copy():
    """The network that was learned stays as it is when the other one is trained."""
    shapes = ((1, 8, 8), 3), ((1, 30, 9), 3)
    learned, network = (ConvNet(*shape, pooling="average") for shape in shapes)
    inherit_weights(network, learned, must_fit=True)
    assert_same(network.state_dict(), learned.state_dict())
    expected = learned.layers[0].conv.weight.detach().clone()
    with torch.no_grad():
        network.layers[0].conv.weight.add_(1)
    assert torch.equal(learned.layers[0].conv.weight, expected)


@pytest.mark.parametrize("warm_start", [False, "weights"])
def test_an_interrupted_fit_leaves_the_last_network(monkeypatch, warm_start):
    """It predicts as before, and the next fit begins with it."""
    clf = quick(warm_start=warm_start).fit(DIGITS, LABELS)
    expected = clf.predict_proba(DIGITS)
    straight = pickle.loads(pickle.dumps(clf)).fit(larger(DIGITS), LABELS)

    def interrupted(net, *args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(clf.net_), "run_single_epoch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            clf.fit(larger(DIGITS), LABELS)
    np.testing.assert_array_equal(clf.predict_proba(DIGITS), expected)
    assert_same(state_of(clf.fit(larger(DIGITS), LABELS)), state_of(straight))


def test_who_inherits_weights():
    """Searches over sizes ask; the network must be the same at each size."""
    assert not CNNClassifier().inherits_weights
    assert CNNClassifier(pooling="average").inherits_weights
    assert CNNClassifier(module=Conv).inherits_weights


def test_an_unknown_kind_of_warm_start():
    with pytest.raises(ValueError, match=r"'warm_start' .* among {'weights'}"):
        quick(warm_start="weight").fit(DIGITS, LABELS)


@pytest.mark.parametrize("make_state", [lambda: None, lambda: np.random.RandomState(3)])
def test_the_same_images_are_set_aside_again(make_state):
    """Those that the last fit has trained on would tell nothing."""
    state = make_state()
    classifier = quick(early_stopping=True, warm_start="weights", random_state=state)
    classifier.fit(DIGITS, LABELS)
    before = classifier._parts
    assert len(before.valid) == 15
    classifier.fit(larger(DIGITS), LABELS)
    np.testing.assert_array_equal(classifier._parts.valid, before.valid)
    np.testing.assert_array_equal(classifier._parts.train, before.train)
    # Of other labels nothing is known.
    classifier.fit(DIGITS[::-1], LABELS[::-1])
    assert not np.array_equal(classifier._parts.valid, before.valid)
