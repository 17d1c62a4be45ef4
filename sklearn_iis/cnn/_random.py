"""Random numbers of torch for one fit, whatever other fits draw."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import RLock
from typing import Any

import torch

# There is one global generator for each device of a process, and modules draw from it.
_lock = RLock()

CPU = torch.device("cpu")


class TorchRandom:
    """Two streams of random numbers: one for whoever takes a generator, one for others.

    Initial weights, dropout and most augmentations draw from the global generators of
    the process. Within `lent()` these go on with a stream of this fit, and one fit at a
    time is within; afterwards they are as they were.

    Parameters
    ----------
    seed : int
    """

    def __init__(self, seed: int):
        self.seed = seed
        self._states: dict[str, torch.Tensor] = {}

    @contextmanager
    def generator(self, device: torch.device) -> Iterator[torch.Generator]:
        """Lend a generator on a device, that nobody else draws from."""
        generator = torch.Generator(device)
        key = f"own {device.type}"
        if key in self._states:
            generator.set_state(self._states[key])
        else:
            generator.manual_seed(self.seed + 1)
        yield generator
        self._states[key] = generator.get_state()

    @contextmanager
    def lent(self, device: torch.device = CPU) -> Iterator[None]:
        """Have torch's global generators, of a device besides, go on with a stream."""
        devices = {device.type: device, "cpu": CPU}
        with _lock:
            outside = {kind: _get(device) for kind, device in devices.items()}
            for kind, device in devices.items():
                if kind not in self._states:
                    generator = torch.Generator(device).manual_seed(self.seed)
                    self._states[kind] = generator.get_state()
                _set(device, self._states[kind])
            try:
                yield
            finally:
                for kind, device in devices.items():
                    self._states[kind] = _get(device)
                    _set(device, outside[kind])


def _get(device: torch.device) -> torch.Tensor:
    """Return the state of the global generator of a device."""
    return _function("get_rng_state", device)()


def _set(device: torch.device, state: torch.Tensor) -> None:
    _function("set_rng_state", device)(state)


def _function(name: str, device: torch.device) -> Callable[..., Any]:
    if device.type == "cpu":
        return getattr(torch, name)
    function = getattr(torch.get_device_module(device), name)
    # There is one device only of Apple's.
    return function if device.type == "mps" else partial(function, device=device)
