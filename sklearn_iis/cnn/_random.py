"""Random numbers of torch for one fit, whatever other threads draw."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

import torch

# There is one global generator for each device of a process, and modules draw from it.
_lock = RLock()


class TorchRandom:
    """A stream of random numbers that torch's global generators give on request.

    Initial weights, dropout and many augmentations draw from the global generators of
    the process; they take no others. Within `lent()` these generators go on with this
    stream, and one thread at a time is within; afterwards they are as they were.

    Parameters
    ----------
    seed : int

    device : torch.device
        Its generator is lent beside that of the processor.
    """

    def __init__(self, seed: int, device: torch.device):
        self.seed = seed
        self._states: dict[str, torch.Tensor] = {}
        self.move_to(device)

    def move_to(self, device: torch.device) -> None:
        """Go on on a device; a generator that was not used before is seeded."""
        self.device = device
        for kind in self._generators():
            if kind not in self._states:
                generator = torch.Generator(kind).manual_seed(self.seed)
                self._states[kind] = generator.get_state()

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Have torch's global generators go on with this stream."""
        with _lock:
            generators = self._generators()
            outside = {kind: g.get_state() for kind, g in generators.items()}
            for kind, generator in generators.items():
                generator.set_state(self._states[kind])
            try:
                yield
            finally:
                for kind, generator in generators.items():
                    self._states[kind] = generator.get_state()
                    generator.set_state(outside[kind])

    def _generators(self) -> dict[str, torch.Generator]:
        generators = {"cpu": torch.default_generator}
        if self.device.type == "cuda":
            torch.cuda.init()  # before it, there are no generators
            index = self.device.index
            index = torch.cuda.current_device() if index is None else index
            generators["cuda"] = torch.cuda.default_generators[index]
        return generators
