"""The loss of a batch, against its formula in float64."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sklearn_iis.cnn._loss import ImageLoss, Targets, mix

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(6, 3, generator=GENERATOR)
LABELS = torch.tensor([0, 1, 2, 2, 1, 0])
WEIGHTS = torch.tensor([2.0, 0.0, 1.0, 0.5, 1.5, 1.0])


def losses(labels, smoothing=0.0):
    """Cross entropy with smoothed labels, in float64."""
    targets = F.one_hot(labels, 3).double() * (1 - smoothing) + smoothing / 3
    return -(targets * LOGITS.double().log_softmax(dim=1)).sum(dim=1)


def check(loss, expected):
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_cross_entropy():
    check(ImageLoss()(LOGITS, Targets(LABELS)), losses(LABELS).mean())


def test_weights():
    """Each loss times its weight; their mean over an epoch is 1 already."""
    check(
        ImageLoss()(LOGITS, Targets(LABELS, WEIGHTS)), (losses(LABELS) * WEIGHTS).mean()
    )


def test_labels_are_smoothed_in_training_only():
    loss = ImageLoss(label_smoothing=0.2)
    check(loss(LOGITS, Targets(LABELS)), losses(LABELS, 0.2).mean())
    check(loss.eval()(LOGITS, Targets(LABELS)), losses(LABELS).mean())


def test_mixed_images_have_the_losses_of_both():
    order = torch.tensor([3, 2, 1, 0, 5, 4])
    mixed = Targets(LABELS, WEIGHTS).take(order)
    targets = Targets(LABELS, WEIGHTS, mixed, share=0.7)
    own = (losses(LABELS) * WEIGHTS).mean()
    other = (losses(LABELS[order]) * WEIGHTS[order]).mean()
    check(ImageLoss()(LOGITS, targets), 0.7 * own + 0.3 * other)


def test_a_criterion_of_ones_own():
    def hinge(logits, labels):
        return F.multi_margin_loss(logits, labels, reduction="none")

    expected = (hinge(LOGITS.double(), LABELS) * WEIGHTS).mean()
    check(ImageLoss(hinge)(LOGITS, Targets(LABELS, WEIGHTS)), expected)


def test_a_criterion_must_give_a_loss_for_each_image():
    message = r"of shape \(6,\), got \(\); .*reduction=\"none\""
    with pytest.raises(ValueError, match=message):
        ImageLoss(F.cross_entropy)(LOGITS, Targets(LABELS))


def test_mix():
    """Pixels and labels are of the same two images, in the same shares."""
    rng = np.random.RandomState(0)
    labels = torch.arange(50)
    images = labels.to(torch.uint8)[:, None, None, None].expand(50, 3, 4, 4)
    mixed, targets = mix(images, Targets(labels, labels / 24.5), 0.4, rng)
    expected = (
        targets.share * labels + (1 - targets.share) * targets.mixed.labels
    ).float()
    torch.testing.assert_close(mixed, expected[:, None, None, None].expand(50, 3, 4, 4))
    torch.testing.assert_close(targets.mixed.weights, targets.mixed.labels / 24.5)
    assert sorted(targets.mixed.labels.tolist()) == list(range(50))


def test_shares_have_a_beta_distribution():
    rng = np.random.RandomState(0)
    images, targets = torch.zeros(1, 1, 1, 1), Targets(torch.zeros(1).long())
    shares = torch.tensor(
        [mix(images, targets, 0.5, rng)[1].share for _ in range(4000)]
    )
    assert shares.mean().item() == pytest.approx(0.5, abs=0.03)
    assert shares.var().item() == pytest.approx(1 / 8, abs=0.01)  # 1 / (4 (2 a + 1))
