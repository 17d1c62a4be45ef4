"""Schedules of the learning rate, against those of torch."""

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback
from torch import nn

from sklearn_iis.cnn import CNNClassifier
from sklearn_iis.cnn._schedule import SCHEDULES, relative_rate


def rates_of_torch(schedule, n_steps):
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    scheduler = {
        "constant": lambda: torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0),
        "cosine": lambda: torch.optim.lr_scheduler.CosineAnnealingLR(
            optimizer, n_steps
        ),
        "one-cycle": lambda: torch.optim.lr_scheduler.OneCycleLR(
            optimizer, 1.0, n_steps, cycle_momentum=False
        ),
    }[schedule]()
    rates = []
    for _ in range(n_steps):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("n_steps", [4, 11, 100, 1000])
def test_rates_are_those_of_torch(schedule, n_steps):
    rates = [relative_rate(schedule, step, n_steps) for step in range(n_steps)]
    np.testing.assert_allclose(
        rates, rates_of_torch(schedule, n_steps), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("n_steps", [1, 2, 3])
def test_few_steps(schedule, n_steps):
    """Rates stay in bounds; torch divides by zero, or begins beyond the peak."""
    rates = [relative_rate(schedule, step, n_steps) for step in range(n_steps + 5)]
    assert all(0 <= rate <= 1 for rate in rates)
    assert max(rates[:n_steps]) == 1


class RateRecorder(Callback):
    def on_train_begin(self, net, **kwargs):
        self.rates_ = []

    def on_grad_computed(self, net, **kwargs):
        self.rates_ += {group["lr"] for group in net.optimizer_.param_groups}


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("n_epochs", [2, 5])
def test_training_takes_each_step_at_its_rate(schedule, optimizer, n_epochs):
    """Also where it ends on the way, and with batches of different sizes."""
    X, y = np.random.default_rng(0).normal(size=(20, 4, 4)), np.arange(20) % 2
    classifier = CNNClassifier(
        max_epochs=n_epochs,
        schedule=schedule,
        schedule_epochs=5,
        learning_rate=0.3,
        l2=0.01,  # two groups of parameters
        batch_size=6,
        n_filters=2,
        optimizer=optimizer,
        callbacks=[("rates", RateRecorder())],
    ).fit(X, y)
    (recorder,) = [cb for name, cb in classifier.net_.callbacks_ if name == "rates"]
    expected = 0.3 * np.array(rates_of_torch(schedule, 5 * 4))[: n_epochs * 4]
    np.testing.assert_allclose(recorder.rates_, expected, rtol=1e-9, atol=1e-9)


class Frozen(nn.Module):
    def __init__(self, input_shape, n_classes):
        super().__init__()
        self.backbone = nn.Linear(int(np.prod(input_shape)), 3)
        self.head = nn.Linear(3, n_classes)

    def forward(self, images):
        return self.head(self.backbone(images.flatten(1)))


class GroupRecorder(Callback):
    """Keeps the rates of the head and of the backbone in each step."""

    def on_train_begin(self, net, **kwargs):
        self.rates_ = []

    def on_grad_computed(self, net, **kwargs):
        groups = net.optimizer_.param_groups
        network = net.module_.network
        self.rates_.append(
            [
                {g["lr"] for g in groups if any(p is weight for p in g["params"])}.pop()
                for weight in (network.head.weight, network.backbone.weight)
            ]
        )


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("n_epochs", [2, 3, 5])
def test_frozen_epochs_have_a_schedule_of_their_own(schedule, n_epochs):
    """The other one begins with the backbone, which has a part of each rate."""
    X, y = np.random.default_rng(0).normal(size=(20, 4, 4)), np.arange(20) % 2
    classifier = CNNClassifier(
        module=Frozen,
        freeze_epochs=2,
        backbone_rate=0.1,
        max_epochs=n_epochs,
        schedule=schedule,
        schedule_epochs=5,
        learning_rate=0.3,
        batch_size=6,
        callbacks=[("rates", GroupRecorder())],
    ).fit(X, y)
    parts = rates_of_torch(schedule, 2 * 4) + rates_of_torch(schedule, 3 * 4)
    expected = 0.3 * np.outer(parts[: n_epochs * 4], [1, 0.1])
    rates = dict(classifier.net_.callbacks_)["rates"].rates_
    np.testing.assert_allclose(rates, expected, rtol=1e-9, atol=1e-9)


def test_a_schedule_is_as_long_as_training_at_least():
    message = "schedule_epochs=3 must not be less than max_epochs=4"
    with pytest.raises(ValueError, match=message):
        CNNClassifier(max_epochs=4, schedule_epochs=3).fit(
            np.zeros((4, 4, 4)), [0, 1] * 2
        )
