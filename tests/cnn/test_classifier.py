"""CNNClassifier: scikit-learn's rules, images of every kind, training and its ends."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
import sklearn
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.metrics import recall_score
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.utils import compute_sample_weight
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

from sklearn_iis import IISSearchCV, ImageResizer
from sklearn_iis.cnn import CNNClassifier, paper_classifier

# Batches and batch normalisation make a weight of 2 another thing than an image that is
# there twice; scikit-learn's own networks trained by SGD are not checked for it either.
NOT_EXPECTED = {
    "check_sample_weight_equivalence_on_dense_data": "trained on batches at random"
}


@parametrize_with_checks(
    [CNNClassifier()], expected_failed_checks=lambda estimator: NOT_EXPECTED
)
def test_common(estimator, check):
    """Scikit-learn's common tests, with the default parameters."""
    check(estimator)


@pytest.fixture(scope="module")
def digits():
    """Return training and test images of 8 x 8 pixels, 0 to 16, and their labels."""
    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8).astype(np.uint8)
    return train_test_split(images, labels, stratify=labels, random_state=0)


@pytest.fixture(scope="module")
def few(digits):
    """Return 200 digits."""
    return digits[0][:200], digits[2][:200]


def quick(**params):
    """Return a classifier that trains on a few digits in a fraction of a second."""
    return CNNClassifier(**({"max_epochs": 3, "random_state": 0} | params))


class Perceptron(nn.Module):
    """A user's module: no convolution, dropout, a parameter with and one without."""

    def __init__(self, input_shape, n_classes, n_hidden, dropout=0.5):
        super().__init__()
        self.hidden = nn.Linear(int(np.prod(input_shape)), n_hidden)
        self.out = nn.Linear(n_hidden, n_classes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, images):
        hidden = torch.relu(self.hidden(images.flatten(1)))
        return self.out(self.dropout(hidden))


@pytest.mark.parametrize("batch_norm", [True, False])
def test_accuracy(digits, batch_norm):
    """Both networks learn the digits (measured: 0.99 with batch norm, 0.98 without)."""
    X_train, X_test, y_train, y_test = digits
    clf = CNNClassifier(batch_norm=batch_norm, random_state=0).fit(X_train, y_train)
    assert clf.score(X_test, y_test) > 0.95


def test_penalties_are_used(few):
    """L1 makes weights small, L2 makes them smaller than none."""
    norms = {}
    for name, params in {"none": {}, "l1": {"l1": 0.02}, "l2": {"l2": 0.2}}.items():
        clf = quick(max_epochs=20, **params).fit(*few)
        weights = [p for p in clf.net_.module_.parameters() if p.ndim > 1]
        norms[name] = sum(w.abs().sum().item() for w in weights)
    assert max(norms["l1"], norms["l2"]) < 0.7 * norms["none"]


def test_images_of_every_shape(few):
    """Grey images with or without a channel and flattened ones give the same."""
    images, labels = few
    shapes = {
        "grey": images,
        "channel": images[..., None],
        "flat": images.reshape(200, 64),
    }
    fitted = {name: quick().fit(X, labels) for name, X in shapes.items()}
    probabilities = [fitted[name].predict_proba(X) for name, X in shapes.items()]
    np.testing.assert_array_equal(probabilities[0], probabilities[1])
    np.testing.assert_array_equal(probabilities[0], probabilities[2])
    assert fitted["flat"].n_features_in_ == 64
    assert not hasattr(fitted["grey"], "n_features_in_")
    assert {clf.image_shape_ for clf in fitted.values()} == {(8, 8, 1)}


def test_rows(few):
    """A number of features that is no square is an image one pixel high."""
    images, labels = few
    clf = quick().fit(images.reshape(200, 64)[:, :50], labels)
    assert clf.image_shape_ == (1, 50, 1)


def test_colour(few):
    """A class that only the third channel tells apart is learnt from three channels."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 100, (200, 8, 6, 3), np.uint8)
    labels = rng.integers(0, 2, 200)
    images[labels == 1, ..., 2] += 50
    clf = quick(max_epochs=10).fit(images[:150], labels[:150])
    assert clf.score(images[150:], labels[150:]) > 0.9


@pytest.mark.parametrize("scale", [1.0, 1 / 255, 1e4])
def test_scale_of_pixels(few, scale):
    """Images are standardised: their scale and dtype hardly matter."""
    images, labels = few
    expected = quick(precision="float32").fit(images, labels).predict_proba(images)
    scaled = images * scale
    clf = quick(precision="float32").fit(scaled, labels)
    np.testing.assert_allclose(clf.predict_proba(scaled), expected, atol=1e-3)


def test_standardised_by_training_images(few):
    """The statistics are those of all images, or of those that were not set aside."""
    images, labels = few
    clf = quick().fit(images, labels)
    standardize = clf.net_.module_.standardize
    assert standardize.mean.item() == pytest.approx(images.mean())
    assert standardize.scale.item() == pytest.approx(1 / images.std())
    held_out = quick(early_stopping=True).fit(images, labels).net_.module_.standardize
    assert held_out.mean.item() != standardize.mean.item()


@pytest.mark.parametrize(
    "names",
    [np.array(["zero", "one", "two"]), np.array([False, True]), np.array([-5, 3, 10])],
    ids=["str", "bool", "int"],
)
def test_labels(few, names):
    """Labels of any kind come back as they were, in the order of `classes_`."""
    images, labels = few
    known = labels < len(names)
    y = names[labels[known]]
    clf = quick(max_epochs=15).fit(images[known], y)
    np.testing.assert_array_equal(clf.classes_, np.unique(y))
    predicted = clf.predict(images[known])
    assert predicted.dtype == y.dtype
    assert np.mean(predicted == y) > 0.9
    probabilities = clf.predict_proba(images[known])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(clf.classes_[probabilities.argmax(axis=1)], predicted)


def test_same_random_state(few):
    """The same bit for bit, and the global random states are left alone."""
    random_states = np.random.get_state()[1].copy(), torch.random.get_rng_state()  # noqa: NPY002
    first, second = (quick().fit(*few) for _ in range(2))
    np.testing.assert_array_equal(
        *(clf.predict_proba(few[0]) for clf in (first, second))
    )
    other = quick(random_state=1).fit(*few)
    assert not np.array_equal(first.predict_proba(few[0]), other.predict_proba(few[0]))
    np.testing.assert_array_equal(np.random.get_state()[1], random_states[0])  # noqa: NPY002
    assert torch.equal(torch.random.get_rng_state(), random_states[1])


def test_precision(few):
    """Both precisions give about the same probabilities."""
    images, _ = few
    probabilities = [
        quick(precision=precision, learning_rate=0.005).fit(*few).predict_proba(images)
        for precision in ("float32", "bfloat16")
    ]
    assert not np.array_equal(*probabilities)
    np.testing.assert_allclose(*probabilities, atol=0.1)


def test_early_stopping(few):
    """Stops `patience` epochs after the best, and predicts with its weights."""
    images, labels = few
    params = {"early_stopping": True, "schedule": "constant", "patience": 3}
    params |= {"validation_fraction": 0.25, "precision": "float32"}
    clf = quick(max_epochs=100, **params).fit(images, labels)
    scores = [(row["valid_score"], -row["valid_loss"]) for row in clf.history_]
    best = max(scores)
    assert clf.n_iter_ == len(scores) == scores.index(best) + 1 + 3 < 100
    shorter = quick(max_epochs=scores.index(best) + 1, **params).fit(images, labels)
    np.testing.assert_array_equal(
        clf.predict_proba(images), shorter.predict_proba(images)
    )


@pytest.mark.parametrize(
    "params",
    [
        pytest.param({"schedule": "constant"}, id="constant rate"),
        pytest.param({"early_stopping": True, "patience": None}, id="best weights"),
        pytest.param(
            {"early_stopping": True, "patience": 2, "schedule": "constant"}
            | {"learning_rate": 0.3},
            id="stopped early",
        ),
        pytest.param({"l1": 1e-4, "l2": 1e-3}, id="penalties"),
        pytest.param(
            {"module": Perceptron, "module__n_hidden": 16, "batch_size": 32},
            id="own module, dropout",
        ),
        pytest.param({"random_state": np.random.RandomState(0)}, id="RandomState"),
        pytest.param(
            {"schedule_epochs": 12, "mixup": 0.2, "dropout": 0.2, "crop": 0.2},
            id="schedule of its own length",
        ),
        pytest.param({"schedule": "cosine", "optimizer": "adamw"}, id="AdamW"),
    ],
)
def test_going_on_is_training_straight_through(few, params):
    """With warm_start, also from a copy, whatever torch's own random state is."""
    images, labels = few
    straight = clone(quick(max_epochs=12, **params)).fit(images, labels)
    clf = clone(quick(max_epochs=1, warm_start=True, **params))
    for n_epochs in (1, 4, 4, 5, 12):
        torch.rand(3)
        clf = pickle.loads(pickle.dumps(clf.set_params(max_epochs=n_epochs)))
        clf.fit(images, labels)
        assert clf.n_iter_ <= n_epochs
    assert clf.n_iter_ == straight.n_iter_
    assert [row["train_loss"] for row in clf.history_] == [
        row["train_loss"] for row in straight.history_
    ]
    np.testing.assert_array_equal(
        clf.predict_proba(images), straight.predict_proba(images)
    )


def test_going_on_on_another_device(few):
    """There is one only, by two names."""
    images, labels = few
    params = {"device": "cpu", "schedule": "constant"}
    straight = quick(max_epochs=3, **params).fit(images, labels)
    clf = quick(max_epochs=1, warm_start=True, **params).fit(images, labels)
    before = clf.net_.optimizer_.state_dict()["state"]
    clf.set_params(max_epochs=3, device="cpu:0").fit(images, labels)
    assert clf.net_.device == "cpu:0"
    assert before.keys() == clf.net_.optimizer_.state_dict()["state"].keys()
    np.testing.assert_array_equal(
        clf.predict_proba(images), straight.predict_proba(images)
    )


def test_predictions_on_the_way_are_those_of_fewer_epochs(few):
    """A fit that may go on predicts with the best weights, as any other."""
    images, labels = few
    params = {"early_stopping": True, "schedule_epochs": 5}
    clf = quick(max_epochs=2, warm_start=True, **params).fit(images, labels)
    for n_epochs in (2, 5):
        clf.set_params(max_epochs=n_epochs).fit(images, labels)
        straight = quick(max_epochs=n_epochs, **params).fit(images, labels)
        np.testing.assert_array_equal(
            clf.predict_proba(images), straight.predict_proba(images)
        )


@pytest.mark.parametrize(
    ("params", "goes_on"),
    [
        ({}, False),
        ({"schedule": "constant"}, True),
        ({"schedule": "cosine", "schedule_epochs": 4}, True),
    ],
)
def test_training_goes_on_where_the_schedule_does(few, params, goes_on):
    """Otherwise it starts anew, and searches know that it does."""
    clf = quick(max_epochs=2, warm_start=True, **params).fit(*few)
    module = clf.net_.module_
    clf.set_params(max_epochs=4).fit(*few)
    assert (clf.net_.module_ is module) == goes_on
    assert clf.warm_start_parameters == (("max_epochs",) if goes_on else ())


def test_fit_starts_anew_unless_asked_to_go_on(few):
    """Without warm_start, and in the first fit with it."""
    images, labels = few
    clf = quick(max_epochs=2).fit(images, labels)
    assert clf.set_params(max_epochs=3).fit(images, labels).n_iter_ == 3
    clf.set_params(warm_start=True, n_filters=4).fit(images[:100], labels[:100])
    straight = quick(n_filters=4).fit(images[:100], labels[:100])
    np.testing.assert_array_equal(
        clf.predict_proba(images), straight.predict_proba(images)
    )


def test_after_an_interrupt_fit_starts_anew(few, monkeypatch):
    """Training does not go on with a network that was half trained."""
    images, labels = few
    clf = quick(max_epochs=2, warm_start=True, schedule="constant")
    clf.fit(images, labels)

    def interrupted(net, *args, **kwargs):
        raise KeyboardInterrupt

    clf.set_params(max_epochs=4)
    with monkeypatch.context() as patch:
        patch.setattr(type(clf.net_), "run_single_epoch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            clf.fit(images, labels)
    clf.fit(images, labels)
    straight = quick(max_epochs=4, schedule="constant").fit(images, labels)
    assert [row["epoch"] for row in clf.history_] == [1, 2, 3, 4]
    np.testing.assert_array_equal(
        clf.predict_proba(images), straight.predict_proba(images)
    )


def test_going_on_with_something_else_is_refused(few):
    """Other images, classes, parameters or fewer epochs; the fitted one is kept."""
    images, labels = few
    clf = quick(warm_start=True, n_filters=4).fit(images, labels)
    probabilities = clf.predict_proba(images)
    with pytest.raises(ValueError, match="same labels, weights"):
        clf.fit(images[:100], labels[:100])
    with pytest.raises(ValueError, match="same labels, weights"):
        clf.fit(images, labels, sample_weight=np.arange(200))
    with pytest.raises(ValueError, match="same labels, weights"):
        clf.fit(images, labels[::-1])
    with pytest.raises(ValueError, match=r"of shape \(4, 8, 1\)"):
        clf.fit(images[:, :4], labels)
    with pytest.raises(ValueError, match="same images"):
        clf.fit(images, labels + 1)
    with pytest.raises(ValueError, match="n_filters was 4 and is 5"):
        clf.set_params(n_filters=5).fit(images, labels)
    with pytest.raises(ValueError, match="max_epochs=2 must not be less than the 3"):
        clf.set_params(n_filters=4, max_epochs=2).fit(images, labels)
    np.testing.assert_array_equal(clf.predict_proba(images), probabilities)


def test_history(few):
    """One entry an epoch; what concerns validation only with early stopping."""
    keys = {"epoch", "train_loss", "dur"}
    history = quick().fit(*few).history_
    assert [set(row) for row in history] == [keys] * 3
    assert [row["epoch"] for row in history] == [1, 2, 3]
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    history = quick(early_stopping=True).fit(*few).history_
    keys |= {"valid_loss", "valid_acc", "valid_score"}
    assert [set(row) for row in history] == [keys] * 3


def test_rare_classes(few):
    """A class of one image, or more classes than images set aside, are no hindrance."""
    images, labels = few
    rare = np.where(np.arange(200) == 0, 99, labels)
    assert 99 in quick(early_stopping=True).fit(images, rare).classes_
    many = np.arange(200) // 2
    assert len(quick(early_stopping=True).fit(images, many).classes_) == 100


def test_diverges(few):
    """A learning rate far too high ends training at once, with advice."""
    images, labels = few
    message = r"loss is (nan|inf) in epoch \d+; a lower learning rate than 1e\+20"
    with pytest.raises(FloatingPointError, match=message):
        quick(learning_rate=1e20, batch_norm=False).fit(images, labels)


def test_wrong_shapes(few):
    """Other images than fitted on, too many dimensions, and too many layers."""
    images, labels = few
    clf = quick().fit(images, labels)
    message = r"shape \(7, 8, 1\).*was fitted on \(8, 8, 1\)"
    with pytest.raises(ValueError, match=message):
        clf.predict(images[:, 1:])
    with pytest.raises(ValueError, match="dim 5"):
        clf.predict(images[..., None, None])
    with pytest.raises(ValueError, match=r"n_conv_layers=4 .* 3 fit"):
        quick(n_conv_layers=4).fit(images, labels)
    with pytest.raises(ValueError, match="n_filters has 3 values for 2 layers"):
        quick(n_conv_layers=2, n_filters=(8, 8, 8)).fit(images, labels)


def test_pickle(few, tmp_path):
    """Copies predict the same and hold no images."""
    images, labels = few
    many = np.repeat(images, 50, axis=0)
    clf = quick(max_epochs=1, n_filters=4, n_units=4).fit(many, np.repeat(labels, 50))
    joblib.dump(clf, tmp_path / "clf.joblib")
    data = pickle.dumps(clf)
    assert len(data) < many.nbytes / 10
    expected = clf.predict_proba(images)
    for copy in (pickle.loads(data), joblib.load(tmp_path / "clf.joblib")):
        np.testing.assert_array_equal(copy.predict_proba(images), expected)


def test_data_are_left_alone(few, tmp_path):
    """Training on a read-only memory map gives no warning and copies no more."""
    images, labels = few
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    expected = quick().fit(images, labels).predict_proba(images)
    clf = quick().fit(mapped, labels)
    np.testing.assert_array_equal(clf.predict_proba(mapped), expected)
    np.testing.assert_array_equal(mapped, images)


def test_predicts_in_batches(few, monkeypatch):
    """Prediction goes through batches of bounded size and gives the same."""
    images, labels = few
    monkeypatch.setattr("sklearn_iis.cnn._training.PIXELS_PER_BATCH", 64 * 30)
    clf = quick().fit(images, labels)
    sizes = []
    clf.net_.module_.register_forward_hook(lambda m, args, out: sizes.append(len(out)))
    probabilities = clf.predict_proba(images)
    assert max(sizes) <= 30
    assert sum(sizes) == len(probabilities) == 200


def test_verbose(few, capsys):
    """Silent unless asked for a line an epoch."""
    quick().fit(*few)
    assert capsys.readouterr().out == ""
    quick(verbose=1, early_stopping=True).fit(*few)
    assert "valid_loss" in capsys.readouterr().out


def test_own_module(few):
    """A user's module is given its parameters, trained reproducibly, and copied."""
    images, labels = few
    clf = CNNClassifier(module=Perceptron, module__n_hidden=32, random_state=0)
    clf.set_params(module__dropout=0.1, max_epochs=60, n_conv_layers=99)
    clf.fit(images, labels)
    network = clf.net_.module_.network
    assert isinstance(network, Perceptron)
    assert (network.hidden.out_features, network.dropout.p) == (32, 0.1)
    assert clf.score(images, labels) > 0.9
    for copy in (clone(clf).fit(images, labels), pickle.loads(pickle.dumps(clf))):
        np.testing.assert_array_equal(
            copy.predict_proba(images), clf.predict_proba(images)
        )


def test_parameters_of_own_module():
    """They are parameters like others: listed, copied, refused if unknown."""
    clf = CNNClassifier(module=Perceptron, module__n_hidden=32)
    assert clf.get_params()["module__dropout"] == 0.5
    assert clf.get_params()["module__n_hidden"] == 32
    assert "module__dropout" not in clf.get_params(deep=False)
    assert clone(clf).get_params() == clf.get_params()
    assert "module__n_hidden=32" in repr(clf)
    with pytest.raises(ValueError, match=r"'module__depth'.*module__dropout"):
        clf.set_params(module__depth=3)
    with pytest.raises(ValueError, match="'module__depth'"):
        CNNClassifier().set_params(module__depth=3)
    with pytest.raises(TypeError, match="has no parameter 'bath_size'"):
        CNNClassifier(bath_size=3)


def test_in_parallel(few):
    """Cross-validation in two processes works on the images it shares with them."""
    images, labels = (np.repeat(values, 100, axis=0) for values in few)
    assert images.nbytes > 1_000_000  # above this joblib maps them read-only
    scores = cross_val_score(
        quick(max_epochs=1), images, labels, cv=2, n_jobs=2, error_score="raise"
    )
    assert min(scores) > 0.5


class Viewer(nn.Sequential):
    """A module as one finds them: it views its features as rows."""

    def __init__(self, input_shape, n_classes, n_filters):
        channels, height, width = input_shape
        super().__init__()
        self.conv = nn.Conv2d(channels, n_filters, 3, padding=1)
        self.out = nn.Linear(n_filters * height * width, n_classes)

    def forward(self, images):
        features = torch.relu(self.conv(images))
        return self.out(features.view(features.size(0), -1))


class TakesAnything(Viewer):
    def __init__(self, input_shape, n_classes, **options):
        super().__init__(input_shape, n_classes, options["n_filters"])


@pytest.mark.parametrize("module", [Viewer, TakesAnything])
def test_own_module_may_need_parameters_and_contiguous_images(module):
    images = np.random.RandomState(0).randint(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    clf = CNNClassifier(module=module, max_epochs=1)
    clf.set_params(module__n_filters=4).fit(images, np.arange(20) % 2)
    assert clf.net_.module_.network.conv.out_channels == 4


def test_a_module_that_is_made_already_is_refused(few):
    module = Viewer((1, 8, 8), 10, 2)
    with pytest.raises(TypeError, match="module must be a class, or a function"):
        CNNClassifier(module=module).fit(*few)


class Headed(nn.Module):
    """A module that returns logits in different ways, of a width of its own."""

    def __init__(self, input_shape, n_classes, wrap=lambda logits: logits, width=None):
        super().__init__()
        self.out = nn.Linear(int(np.prod(input_shape)), width or n_classes)
        self.wrap = wrap

    def forward(self, images):
        return self.wrap(self.out(images.flatten(1)))


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"width": 1000}, ValueError, r"10 logits .* got \(2, 1000\)"),
        ({"width": 1}, ValueError, r"10 logits .* got \(2, 1\)"),
        (
            {"wrap": lambda logits: logits[:, :, None, None]},
            ValueError,
            r"got \(2, 10, 1, 1\)",
        ),
        (
            {"wrap": lambda logits: {"logits": logits}},
            TypeError,
            r"got dict with the keys \['logits'\]",
        ),
        ({"wrap": lambda logits: [logits]}, TypeError, "got list"),
        ({"wrap": lambda logits: (logits[:, :3], logits)}, ValueError, "10 logits"),
    ],
)
def test_a_module_that_does_not_return_logits_of_the_classes(
    few, params, error, message
):
    """Before anything is trained; the error says what it returned."""
    params = {f"module__{name}": value for name, value in params.items()}
    with pytest.raises(error, match=message):
        quick(module=Headed, **params).fit(*few)


def test_the_first_of_a_tuple_is_taken_for_the_logits(few):
    images, labels = few
    probabilities = [
        quick(module=Headed, module__wrap=wrap)
        .fit(images, labels)
        .predict_proba(images)
        for wrap in (lambda logits: logits, lambda logits: (logits, "auxiliary"))
    ]
    np.testing.assert_array_equal(*probabilities)


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"dropout": 0.3, "mixup": 0.2, "flip": True, "crop": 0.2, "erase": 0.2},
        {"module": Perceptron, "module__n_hidden": 8},
        {"augment": lambda images: images + torch.randn_like(images)},
    ],
    ids=["default", "all that draws", "own module", "own augmentation"],
)
@pytest.mark.parametrize("backend", ["threads", "joblib"])
def test_fits_in_threads_are_fits_alone(few, params, backend):
    """Same seeds, same networks, and torch's global generator is left alone."""
    images, labels = few[0][:60], few[1][:60]

    def fit(seed):
        params_ = {"max_epochs": 2, "n_filters": 4, "n_units": 8, "batch_size": 8}
        clf = CNNClassifier(**params_, random_state=seed, **params)
        return clf.fit(images, labels).predict_proba(images)

    expected, state = [fit(0), fit(1)], torch.get_rng_state()
    seeds = [0, 1] * 8
    if backend == "threads":
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(fit, seeds))
    else:
        parallel = joblib.Parallel(n_jobs=4, backend="threading")
        found = parallel(joblib.delayed(fit)(seed) for seed in seeds)
    for seed, probabilities in zip(seeds, found, strict=True):
        np.testing.assert_array_equal(probabilities, expected[seed])
    assert torch.equal(torch.get_rng_state(), state)


def faint_squares(n_images, n_rare, seed):
    """Return noisy images, and labels: those of class 1 have a faint square."""
    rng = np.random.RandomState(seed)
    labels = (np.arange(n_images) < n_rare).astype(int)
    images = rng.normal(size=(n_images, 12, 12)).astype(np.float32)
    images[labels == 1, 3:9, 3:9] += 0.7
    return images, labels


def test_a_rare_class_is_found_with_class_weight():
    """One image in twenty: with weights it is predicted more often than without."""
    X, y = faint_squares(600, 30, seed=0)
    X_test, y_test = faint_squares(400, 200, seed=1)
    clf = CNNClassifier(n_filters=8, n_units=16, max_epochs=30, random_state=0)
    plain = recall_score(y_test, clf.fit(X, y).predict(X_test))
    clf.set_params(class_weight="balanced")
    balanced = recall_score(y_test, clf.fit(X, y).predict(X_test))
    assert balanced > max(plain, 0.7)


def test_class_weights_are_weights_of_the_images(few):
    """A dict, "balanced", and the product with weights of the images."""
    images, labels = few
    of_class = dict.fromkeys(range(10), 1.0) | {3: 5.0}
    weights = np.where(labels == 3, 5.0, 1.0)
    balanced = compute_sample_weight("balanced", labels)
    for class_weight, sample_weight, equal in (
        (of_class, None, weights),
        ("balanced", None, balanced),
        (of_class, weights, weights**2),
    ):
        clf = quick(class_weight=class_weight).fit(images, labels, sample_weight)
        expected = quick().fit(images, labels, equal)
        np.testing.assert_allclose(
            clf.predict_proba(images), expected.predict_proba(images), atol=1e-5
        )


def test_weights_of_one_are_no_weights(few):
    images, labels = few
    expected = quick().fit(images, labels).predict_proba(images)
    for weights in (np.ones(200), np.full(200, 7.0)):
        clf = quick().fit(images, labels, sample_weight=weights)
        np.testing.assert_allclose(clf.predict_proba(images), expected, atol=1e-5)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_images_without_weight_are_left_out(few, early_stopping):
    """They are neither trained on nor validated on, nor part of the statistics."""
    images, labels = few
    weights = (np.arange(200) < 150).astype(float)
    clf = quick(early_stopping=early_stopping).fit(images, labels, weights)
    wrong = np.where(weights[:, None, None] == 0, 255, images).astype(np.uint8)
    other = quick(early_stopping=early_stopping).fit(wrong, labels, weights)
    np.testing.assert_array_equal(
        clf.predict_proba(images), other.predict_proba(images)
    )
    with pytest.raises(ValueError, match="at least one non-zero"):
        quick().fit(images, labels, np.zeros(200))
    with pytest.raises(ValueError, match="classes of all images have the weight 0"):
        quick(class_weight=dict.fromkeys(range(10), 0.0)).fit(images, labels)


def test_validation_images_of_ones_own(few):
    """All others train; what is scored is what was given."""
    images, labels = few
    train, valid = slice(0, 150), slice(150, 200)
    clf = quick(early_stopping=True, patience=None)
    clf.fit(images[train], labels[train], X_val=images[valid], y_val=labels[valid])
    best = max(row["valid_acc"] for row in clf.history_)
    assert clf.score(images[valid], labels[valid]) == pytest.approx(best)
    assert clf.net_.module_.standardize.mean.item() == pytest.approx(
        images[train].mean()
    )


def test_validation_images_go_through_a_pipeline(few):
    """They are resized as the others are, with scikit-learn's `transform_input`."""
    images, labels = few
    valid = {"X_val": images[150:], "y_val": labels[150:]}
    with sklearn.config_context(enable_metadata_routing=True):
        clf = quick(early_stopping=True).set_fit_request(X_val=True, y_val=True)
        pipe = Pipeline(
            [("resize", ImageResizer(6)), ("cnn", clf)], transform_input=["X_val"]
        )
        pipe.fit(images[:150], labels[:150], **valid)
    best = max(row["valid_acc"] for row in pipe["cnn"].history_)
    assert pipe.score(images[150:], labels[150:]) == pytest.approx(best)


def test_validation_images_that_do_not_fit(few):
    images, labels = few
    clf = quick(early_stopping=True)
    own = {"X_val": images, "y_val": labels}
    with pytest.raises(ValueError, match="must be given together"):
        clf.fit(images, labels, X_val=images)
    with pytest.raises(ValueError, match=r"classes that y has not: \[99\]"):
        clf.fit(images, labels, **own | {"y_val": np.full(200, 99)})
    with pytest.raises(ValueError, match=r"shape \(7, 8, 1\).*\(8, 8, 1\)"):
        clf.fit(images, labels, **own | {"X_val": images[:, 1:]})
    with pytest.raises(ValueError, match="with early_stopping=True only"):
        quick().fit(images, labels, **own)


def test_training_goes_on_with_the_same_validation_images_only(few):
    """Others, or none, or some where there were none: each is refused."""
    images, labels = few
    own = {"X_val": images[150:], "y_val": labels[150:]}
    settings = {"early_stopping": True, "schedule": "constant", "warm_start": True}
    for first, second in ((own, {}), ({}, own), (own, own | {"y_val": labels[:50]})):
        clf = quick(max_epochs=1, **settings).fit(images[:150], labels[:150], **first)
        clf.set_params(max_epochs=2)
        with pytest.raises(ValueError, match="same labels, weights and validation"):
            clf.fit(images[:150], labels[:150], **second)
        clf.fit(images[:150], labels[:150], **first)
        assert clf.n_iter_ == 2


def test_a_refused_fit_leaves_the_network_usable(few):
    images, labels = few
    flat = images.reshape(200, 64)
    clf = quick(warm_start=True).fit(flat, labels)
    with pytest.raises(ValueError, match="49 features"):
        clf.fit(flat[:, :49], labels)
    assert clf.predict(flat).shape == (200,)


def test_training_that_goes_on_keeps_no_images_after_an_interrupt(few, monkeypatch):
    images, labels = (np.repeat(values, 20, axis=0) for values in few)
    clf = quick(max_epochs=1, warm_start=True, schedule="constant", n_filters=2)
    clf.set_params(early_stopping=True).fit(images, labels)

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(type(clf.net_), "run_single_epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        clf.set_params(max_epochs=2).fit(images, labels)
    assert clf.net_.train_split is None


def test_classes_that_only_have_images_without_weight(few):
    """They have no weight of their own, in training and in validation."""
    images, labels = few
    weights = (labels != 3).astype(float)
    balanced = compute_sample_weight("balanced", labels[labels != 3])
    clf = quick(class_weight="balanced").fit(images, labels, weights)
    product = weights.copy()
    product[labels != 3] = balanced
    expected = quick().fit(images, labels, product)
    np.testing.assert_allclose(
        clf.predict_proba(images), expected.predict_proba(images), atol=1e-5
    )
    clf = quick(class_weight={4: 5.0}, early_stopping=True)
    some = labels < 3
    clf.fit(images, labels, X_val=images[some], y_val=labels[some])
    assert np.isfinite(clf.history_[-1]["valid_loss"])


@pytest.mark.parametrize("weight", [-1.0, np.nan, np.inf])
def test_class_weights_that_make_no_sense(few, weight):
    with pytest.raises(ValueError, match="class_weight must hold finite numbers"):
        quick(class_weight={3: weight}).fit(*few)


class Noisy(nn.Module):
    """A module that draws whenever it is called, also in validation."""

    def __init__(self, input_shape, n_classes):
        super().__init__()
        self.out = nn.Linear(int(np.prod(input_shape)), n_classes)
        self.norm = nn.BatchNorm1d(n_classes, track_running_stats=False)

    def forward(self, images):
        logits = self.norm(self.out(images.flatten(1)))
        return logits + 0.1 * torch.randn_like(logits)


def test_a_module_that_draws_in_validation(few):
    """Its numbers follow the random state, and the global one is left alone."""
    state = torch.get_rng_state()
    first = quick(module=Noisy, early_stopping=True).fit(*few).history_
    assert torch.equal(state, torch.get_rng_state())
    torch.rand(3)
    second = quick(module=Noisy, early_stopping=True).fit(*few).history_
    assert [row["valid_loss"] for row in first] == [row["valid_loss"] for row in second]


def test_a_copy_holds_the_network_once(few):
    clf = quick(n_units=2000).fit(*few)
    n_bytes = sum(p.nbytes for p in clf.net_.module_.parameters())
    copy = pickle.loads(pickle.dumps(clf))
    assert copy.net_.module is copy.net_.module_
    # Weights and momentum.
    assert len(pickle.dumps(clf)) < 2.2 * n_bytes


def test_criterion_is_no_class(few):
    with pytest.raises(TypeError, match=r'CrossEntropyLoss\(reduction="none"\)'):
        quick(criterion=nn.CrossEntropyLoss).fit(*few)


def test_weights_are_routed_through_a_search(few):
    """To `fit` and to the scorer; a rare class that counts more is found."""
    X, y = faint_squares(300, 15, seed=0)
    weights = np.where(y == 1, 20.0, 1.0)
    with sklearn.config_context(enable_metadata_routing=True):
        clf = CNNClassifier(n_filters=4, n_units=8, max_epochs=15, random_state=0)
        clf.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        search = IISSearchCV(clf, {"n_filters": [8]}, n_iter=1, cv=3, random_state=0)
        search.fit(X, y, sample_weight=weights)
    assert recall_score(y, search.predict(X)) > 0.7


def test_a_paper_classifier_trains_as_the_paper_does(few):
    """At a constant rate, on the images as they are, until it gets no better."""
    clf = paper_classifier(random_state=0, patience=3).fit(*few)
    assert clf.n_iter_ < clf.max_epochs
    assert not any(isinstance(m, nn.BatchNorm2d) for m in clf.net_.module_.modules())
    assert not clf.net_.optimizer_.param_groups[0]["nesterov"]
