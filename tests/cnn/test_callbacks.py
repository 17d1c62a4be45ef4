"""Early stopping, the L1 penalty, and what a trial is told of the training."""

import numpy as np
import pytest
import torch
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
            self.history = {(-1, "valid_acc"): accuracy, (-1, "valid_loss"): loss}
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
    classifier = CNNClassifier(max_epochs=50, patience=2, random_state=0)
    with monitored(monitor):
        classifier.fit(IMAGES, LABELS)
    assert classifier.n_iter_ < 50
    assert monitor.history == classifier.history_
    scores = [row["valid_acc"] for row in classifier.history_]
    assert told == list(enumerate(scores[:-1], start=1))


def test_training_that_is_told_to_stop_keeps_the_best_weights():
    """As if early stopping had ended it there."""
    settings = {"random_state": 0, "patience": 9}
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
    with monitored(monitor):
        CNNClassifier(max_epochs=2, early_stopping=False).fit(IMAGES, LABELS)
    assert not monitor.stopped
    assert [row["epoch"] for row in monitor.history] == [1, 2]


def test_training_ends_when_the_time_is_up():
    with monitored(Monitor(seconds=0)), pytest.raises(TimeoutError):
        CNNClassifier(max_epochs=2).fit(IMAGES, LABELS)
