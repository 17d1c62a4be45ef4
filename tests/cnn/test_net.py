"""The skorch net that trains a module on images."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sklearn_iis.cnn._batches import ImageDataset
from sklearn_iis.cnn._net import ImageClassifierNet
from sklearn_iis.cnn._random import TorchRandom


@pytest.fixture
def dataset():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(8, 2, 2, 1)).astype(np.float32)
    return ImageDataset(images, rng.integers(0, 3, 8))


def make_net(module=None, **params):
    defaults = {
        "max_epochs": 1,
        "batch_size": 8,
        "classes": range(3),
        "train_split": None,
        "verbose": 0,
        "random": TorchRandom(0),
    }
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)) if module is None else module
    return ImageClassifierNet(module, **(defaults | params))


def test_update(dataset):
    """A step of SGD, by a gradient computed in float64; L2 leaves biases alone."""
    net = make_net(lr=0.5, l2=0.2).initialize()
    linear = net.module_[1]
    weight = linear.weight.detach().double().requires_grad_()
    bias = linear.bias.detach().double().requires_grad_()
    images = torch.from_numpy(dataset.images).double().flatten(1)
    labels = torch.from_numpy(dataset.labels)
    loss = F.cross_entropy(F.linear(images, weight, bias), labels)
    (loss + 0.2 / 2 * weight.square().sum()).backward()
    net.partial_fit(dataset)
    new_weight, new_bias = weight - 0.5 * weight.grad, bias - 0.5 * bias.grad
    torch.testing.assert_close(linear.weight.double(), new_weight, rtol=0, atol=1e-6)
    torch.testing.assert_close(linear.bias.double(), new_bias, rtol=0, atol=1e-6)
    assert net.history[-1, "train_loss"] == pytest.approx(loss.item())


@pytest.mark.parametrize(
    ("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)]
)
def test_precision(dataset, precision, dtype):
    """The module computes in the precision asked for; the net gives float32."""
    seen = []

    class Recorder(nn.Module):
        def forward(self, logits):
            seen.append(logits.dtype)
            return logits

    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), Recorder())
    net = make_net(module, precision=precision).fit(dataset, None)
    assert seen == [dtype]
    assert net.predict_proba(dataset.images).dtype == np.float32
    assert {p.dtype for p in net.module_.parameters()} == {torch.float32}


@pytest.mark.parametrize("split", ["training", "validation"])
def test_loss_not_finite(dataset, split):
    """Training stops at the first loss that is not finite, and says what it was."""

    class Broken(nn.Linear):
        n_calls = 0

        def forward(self, images):
            self.n_calls += self.training
            broken = self.training == (split == "training") and len(net.history) == 2
            return super().forward(images.flatten(1)) * (np.nan if broken else 1)

    net = make_net(
        Broken(4, 3),
        max_epochs=5,
        lr=0.25,
        train_split=lambda train: (train, train),
        iterator_train__batch_size=4,
    )
    message = f"The {split} loss is nan in epoch 2; a lower learning rate than 0.25"
    with pytest.raises(FloatingPointError, match=message):
        net.fit(dataset, None)
    assert net.module_.n_calls == (3 if split == "training" else 4)


def test_keyboard_interrupt(dataset):
    """An interrupt is not taken for the end of training, as skorch would."""

    class Interrupted(nn.Linear):
        def forward(self, images):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_net(Interrupted(4, 3)).fit(dataset, None)


def test_the_first_of_several_outputs_is_taken_for_the_logits(dataset):
    """As skorch does: networks with auxiliary heads return tuples."""

    class TwoHeaded(nn.Linear):
        def forward(self, images):
            logits = super().forward(images.flatten(1))
            return logits, logits + 100

    net = make_net(TwoHeaded(4, 3)).fit(dataset, None)
    expected = F.linear(
        torch.from_numpy(dataset.images).flatten(1),
        net.module_.weight,
        net.module_.bias,
    )
    np.testing.assert_allclose(
        net.predict_proba(dataset.images),
        expected.softmax(dim=1).detach().numpy(),
        rtol=1e-6,
    )
