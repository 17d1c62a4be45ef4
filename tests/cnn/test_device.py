"""Devices by name."""

import pytest
import torch

from sklearn_iis import CNNClassifier
from sklearn_iis.cnn._device import list_devices, resolve_device
from sklearn_iis.datasets import make_shapes


@pytest.mark.parametrize("device", ["cpu", "cpu:0"])
def test_the_processor_is_there(device, monkeypatch):
    """Nobody asks for GPUs, after which a process cannot be forked."""
    monkeypatch.setattr(
        torch.accelerator, "current_accelerator", lambda **_: pytest.fail("asks")
    )
    assert resolve_device(device) == torch.device(device)


@pytest.mark.parametrize("device", ["cuda:99", "cuda:-1", "meta", "nonsense", ""])
def test_others_are_told_of(device):
    with pytest.raises(ValueError, match=rf"no device '{device}': choose one of auto,"):
        resolve_device(device)


def test_all_that_are_listed_are_there():
    assert list_devices()[:2] == ["auto", "cpu"]
    for device in list_devices():
        torch.empty(0, device=resolve_device(device))


def test_fit_says_so_at_once():
    X, y = make_shapes(4, size=8, n_classes=2, random_state=0)
    with pytest.raises(ValueError, match="no device 'cuda:99'"):
        CNNClassifier(device="cuda:99").fit(X, y)
