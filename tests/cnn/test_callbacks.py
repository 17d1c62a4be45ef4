"""Early stopping, the L1 penalty, and what a trial is told of the training."""

from functools import partial

import numpy as np
import pytest
import skorch
import torch
from sklearn.base import clone
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    f1_score,
    log_loss,
    make_scorer,
)
from torch import nn

from sklearn_iis.cnn import CNNClassifier
from sklearn_iis.cnn._callbacks import EarlyStopping, L1Penalty, StopTraining
from sklearn_iis.execution._monitor import Monitor, monitored


class FakeNet:
    """A net whose validation scores are given, and whose weight is the epoch."""

    def __init__(self, scores):
        self.scores = scores
        self.module_ = nn.Linear(1, 1)

    def train(self, callback):
        """Return the number of epochs trained."""
        callback.initialize()
        callback.on_train_begin(self)
        for epoch, (accuracy, loss) in enumerate(self.scores, start=1):
            self.history = {(-1, "valid_score"): accuracy, (-1, "valid_loss"): loss}
            nn.init.constant_(self.module_.weight, epoch)
            try:
                callback.on_epoch_end(self)
            except StopTraining:
                break
        callback.on_train_end(self)
        return epoch


@pytest.mark.parametrize(
    ("scores", "n_epochs", "best"),
    [
        ([(0.1, 2), (0.2, 3), (0.1, 1), (0.2, 3), (0.3, 1)], 4, 2),
        ([(0.1, 3), (0.1, 2), (0.1, 1), (0.1, 1)], 4, 3),
        ([(0.1, 3), (0.1, 4), (0.2, 5), (0.1, 1)], 4, 3),
    ],
    ids=["accuracy", "loss decides a tie", "accuracy beats loss"],
)
def test_early_stopping(scores, n_epochs, best):
    """Stops after two epochs without a better score and restores the best weights."""
    net = FakeNet(scores)
    callback = EarlyStopping(patience=2)
    assert net.train(callback) == n_epochs
    assert net.module_.weight.item() == best
    assert callback.best_weights_ is None


def test_without_patience_training_goes_on_to_its_end():
    """But it goes back to the best weights."""
    net = FakeNet([(0.1, 2), (0.3, 3), *[(0.2, 1)] * 20])
    assert net.train(EarlyStopping(patience=None)) == 22
    assert net.module_.weight.item() == 2


def test_l1_gradient():
    """The gradient of l1 * sum |w|; biases and unused parameters are left alone."""
    module = nn.Linear(3, 2)
    nn.init.zeros_(module.weight[0])
    module.weight.grad = torch.randn(2, 3)
    module.bias.grad = torch.randn(2)
    frozen = nn.Parameter(torch.randn(2, 2))
    weight_grad, bias_grad = module.weight.grad.clone(), module.bias.grad.clone()
    named = [*module.named_parameters(), ("frozen", frozen)]
    L1Penalty(0.1).on_grad_computed(None, named_parameters=named)
    expected = weight_grad + 0.1 * module.weight.detach().sign()
    torch.testing.assert_close(module.weight.grad, expected)
    assert torch.equal(module.bias.grad, bias_grad)
    assert frozen.grad is None


IMAGES = np.random.default_rng(0).integers(0, 256, (40, 4, 4), dtype=np.uint8)
LABELS = np.arange(40) % 2


def test_a_monitor_is_told_each_epoch_and_its_score():
    """Also of the one that early stopping ends with."""
    told = []
    monitor = Monitor(should_stop=lambda *args: told.append(args))
    classifier = CNNClassifier(
        max_epochs=50, early_stopping=True, patience=2, random_state=0
    )
    with monitored(monitor):
        classifier.fit(IMAGES, LABELS)
    assert classifier.n_iter_ < 50
    assert monitor.history == classifier.history_
    scores = [row["valid_score"] for row in classifier.history_]
    assert told == list(enumerate(scores, start=1))


def test_training_that_is_told_to_stop_keeps_the_best_weights():
    """As if early stopping had ended it there."""
    settings = {"random_state": 0, "early_stopping": True, "patience": 9}
    settings["schedule"] = "constant"
    expected = CNNClassifier(max_epochs=3, **settings).fit(IMAGES, LABELS)
    stopped = CNNClassifier(max_epochs=9, **settings)
    with monitored(Monitor(should_stop=lambda epoch, score: epoch == 3)):
        stopped.fit(IMAGES, LABELS)
    assert stopped.n_iter_ == 3
    np.testing.assert_array_equal(
        stopped.predict_proba(IMAGES), expected.predict_proba(IMAGES)
    )


def test_training_without_validation_tells_no_score():
    monitor = Monitor(should_stop=lambda *args: True)
    message = "nothing to go by: .* early_stopping=True"
    with monitored(monitor), pytest.warns(UserWarning, match=message):
        CNNClassifier(max_epochs=2).fit(IMAGES, LABELS)
    assert not monitor.stopped
    assert [row["epoch"] for row in monitor.history] == [1, 2]


def test_training_ends_when_the_time_is_up():
    with monitored(Monitor(seconds=0)), pytest.raises(TimeoutError):
        CNNClassifier(max_epochs=2).fit(IMAGES, LABELS)


@pytest.fixture
def imbalanced():
    """Return images, labels, validation images and their labels: one class is rare."""
    rng = np.random.default_rng(0)
    labels = np.repeat(["common", "rare"], [80, 20])
    images = rng.normal(size=(100, 4, 4)).astype(np.float32)
    images[80:] += 0.3
    return images[::2], labels[::2], images[1::2], labels[1::2]


@pytest.mark.parametrize(
    ("monitor", "metric"),
    [
        ("accuracy", accuracy_score),
        ("balanced_accuracy", balanced_accuracy_score),
        (make_scorer(f1_score, pos_label="rare"), partial(f1_score, pos_label="rare")),
    ],
)
@pytest.mark.parametrize("is_weighted", [False, True])
def test_the_monitored_score_is_that_of_scikit_learn(
    imbalanced, monitor, metric, is_weighted
):
    """Of the weights after the epoch, with the weights of the validation images."""
    X, y, X_val, y_val = imbalanced
    weights = np.linspace(0.1, 2, len(y_val)) if is_weighted else None
    classifier = CNNClassifier(
        max_epochs=3,
        schedule="constant",
        early_stopping=True,
        patience=None,
        monitor=monitor,
        random_state=0,
    ).fit(X, y, X_val=X_val, y_val=y_val, sample_weight_val=weights)
    scores = [row["valid_score"] for row in classifier.history_]
    expected = metric(y_val, classifier.predict(X_val), sample_weight=weights)
    assert max(scores) == pytest.approx(expected)


def test_the_loss_is_monitored_by_its_negative(imbalanced):
    X, y, X_val, y_val = imbalanced
    classifier = CNNClassifier(
        max_epochs=6, early_stopping=True, patience=None, monitor="loss", random_state=0
    ).fit(X, y, X_val=X_val, y_val=y_val)
    losses = [row["valid_loss"] for row in classifier.history_]
    assert [row["valid_score"] for row in classifier.history_] == [-x for x in losses]
    found = log_loss(y_val, classifier.predict_proba(X_val))
    assert found == pytest.approx(min(losses), rel=1e-5)


def test_a_scorer_of_ones_own_needs_no_weights(imbalanced):
    """It is called with a classifier, with what this predicts by, and the labels."""
    X, y, X_val, y_val = imbalanced
    seen = []

    def scorer(classifier, X, y):
        seen.append((classifier.predict_proba(X).shape, list(y) == list(y_val)))
        return np.mean(classifier.predict(X) == "rare")

    CNNClassifier(
        max_epochs=2,
        class_weight="balanced",
        early_stopping=True,
        monitor=scorer,
        random_state=0,
    ).fit(X, y, X_val=X_val, y_val=y_val)
    assert seen == [((50, 2), True)] * 2


def test_callbacks_of_skorch_are_called(imbalanced):
    """Copies of them; one that ends training ends it, and is no interrupt."""
    X, y, X_val, y_val = imbalanced
    stopping = skorch.callbacks.EarlyStopping("valid_loss", patience=2)
    recorder = EpochCounter()
    classifier = CNNClassifier(
        max_epochs=100,
        schedule="constant",
        learning_rate=0.3,
        early_stopping=True,
        patience=None,
        callbacks=[stopping, ("counter", recorder)],
        random_state=0,
    )
    clone(classifier).fit(X, y, X_val=X_val, y_val=y_val)
    classifier.fit(X, y, X_val=X_val, y_val=y_val)
    assert classifier.n_iter_ < 100
    assert not hasattr(recorder, "n_epochs_")
    (counter,) = [cb for name, cb in classifier.net_.callbacks_ if name == "counter"]
    assert counter.n_epochs_ == classifier.n_iter_
    assert stopping.misses_ == 0


class EpochCounter(skorch.callbacks.Callback):
    def on_train_begin(self, net, **kwargs):
        self.n_epochs_ = 0

    def on_epoch_begin(self, net, **kwargs):
        self.n_epochs_ += 1


@pytest.mark.parametrize(
    "scoring",
    [
        skorch.callbacks.EpochScoring("accuracy", name="own"),
        skorch.callbacks.BatchScoring("accuracy", name="own"),
    ],
    ids=["epochs", "batches"],
)
def test_scores_of_skorch_are_those_of_validation(imbalanced, scoring):
    X, y, X_val, y_val = imbalanced
    clf = CNNClassifier(
        max_epochs=3,
        early_stopping=True,
        class_weight="balanced",
        callbacks=[scoring],
        random_state=0,
    ).fit(X, y, X_val=X_val, y_val=y_val)
    expected = [row["valid_acc"] for row in clf.history_]
    assert clf.net_.history[:, "own"] == pytest.approx(expected)


class Stopper(skorch.callbacks.Callback):
    """Ends training after some epochs, as callbacks of skorch do."""

    def __init__(self, n_epochs):
        self.n_epochs = n_epochs

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == self.n_epochs:
            raise KeyboardInterrupt


@pytest.mark.parametrize("n_epochs", [1, 3])
def test_the_epoch_that_a_callback_ends_counts(imbalanced, n_epochs):
    """Its weights may be the best, and the monitor hears of it."""
    X, y, X_val, y_val = imbalanced
    settings = {"early_stopping": True, "schedule": "constant", "random_state": 0}
    stopped = CNNClassifier(max_epochs=9, callbacks=[Stopper(n_epochs)], **settings)
    monitor = Monitor()
    with monitored(monitor):
        stopped.fit(X, y, X_val=X_val, y_val=y_val)
    expected = CNNClassifier(max_epochs=n_epochs, **settings)
    expected.fit(X, y, X_val=X_val, y_val=y_val)
    np.testing.assert_array_equal(stopped.predict_proba(X), expected.predict_proba(X))
    assert len(monitor.history) == n_epochs


def test_an_interrupt_in_a_callback_of_ours_is_none_of_a_callback(monkeypatch):
    """Also where there are callbacks of others."""

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    classifier = CNNClassifier(max_epochs=2, callbacks=[EpochCounter()])
    monkeypatch.setattr(
        "sklearn_iis.cnn._callbacks.Monitored.on_epoch_end", interrupted
    )
    with pytest.raises(KeyboardInterrupt):
        classifier.fit(IMAGES, LABELS)


def test_a_callback_may_end_training_before_it_begins():
    class Never(skorch.callbacks.Callback):
        def on_train_begin(self, net, **kwargs):
            raise KeyboardInterrupt

    settings = {"early_stopping": True, "callbacks": [Never()]}
    assert CNNClassifier(**settings).fit(IMAGES, LABELS).n_iter_ == 0


def test_training_that_was_pruned_may_go_on():
    """The pruner ends a rung, not the training of the candidate for good."""
    classifier = CNNClassifier(
        max_epochs=3,
        early_stopping=True,
        patience=None,
        schedule="constant",
        warm_start=True,
        random_state=0,
    )
    with monitored(Monitor(should_stop=lambda epoch, score: epoch == 1)):
        classifier.fit(IMAGES, LABELS)
    assert classifier.n_iter_ == 1
    assert classifier.set_params(max_epochs=5).fit(IMAGES, LABELS).n_iter_ == 5


def test_a_score_that_is_no_number_is_an_error():
    classifier = CNNClassifier(
        max_epochs=1, early_stopping=True, monitor=lambda *args: np.nan
    )
    with pytest.raises(ValueError, match="gives the score nan"):
        classifier.fit(IMAGES, LABELS)


def test_a_metric_without_weights_is_monitored_without_them(imbalanced):
    X, y, X_val, y_val = imbalanced
    metric = make_scorer(lambda y_true, y_pred: np.mean(y_true == y_pred))
    clf = CNNClassifier(
        max_epochs=2, early_stopping=True, monitor=metric, class_weight="balanced"
    ).fit(X, y, X_val=X_val, y_val=y_val)
    row = clf.history_[-1]
    assert row["valid_score"] == pytest.approx(row["valid_acc"])
