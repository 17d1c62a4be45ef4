"""Slots on GPUs, which the evaluations of all processes of a machine share."""

import gc
import getpass
import os
import re
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

# The value of a parameter that leaves the device to the evaluation, and its name.
AUTO = "auto"
DEVICE = "device"

# How long to wait before it is tried again whether there is a slot.
POLL_SECONDS = 0.05

# A line of a traceback: from torch's allocator, and from what CUDA allocates itself.
OUT_OF_MEMORY = re.compile(
    r"^(torch\.(cuda\.)?OutOfMemoryError"
    r"|[\w.]+: (CUDA|cuDNN) error: (out of memory|\w+_STATUS_ALLOC_FAILED))",
    re.MULTILINE,
)

_loading: ContextVar[str | None] = ContextVar("loading", default=None)


def find_auto_devices(estimator: Any) -> list[str]:
    """Return the parameters of an estimator that leave the device to the evaluation."""
    return [
        name
        for name, value in estimator.get_params(deep=True).items()
        if name.rpartition("__")[2] == DEVICE
        and isinstance(value, str)
        and value == AUTO
    ]


@dataclass(frozen=True)
class Gpus:
    """The visible GPUs, on which evaluations take slots, in whatever process they run.

    A slot is a file lock, so that it is free as soon as its process is gone, and known
    to all processes of the user on the machine, whatever has started them.

    Parameters
    ----------
    trials_per_gpu : int, default=1
        The slots of each GPU.
    """

    trials_per_gpu: int = 1

    def take(self, time_left: Callable[[], float]) -> "GpuSlot | None":
        """Wait for a slot on the GPU with the fewest evaluations, and take it.

        Raises
        ------
        TimeoutError
            If there was no slot in time.
        OSError
            If there can be no locks.
        """
        names = _name_visible_gpus()
        if not names:
            return None
        directory = _make_directory()
        return _wait(directory, lambda: self._try(directory, names), time_left)

    def _try(self, directory, names):
        best_index, best_locks = 0, []
        for index, name in enumerate(names):
            locks = self._lock_free_slots(directory, name)
            # The fewest evaluations are the most free slots.
            if len(locks) > len(best_locks):
                best_index, best_locks, locks = index, locks, best_locks
            for lock in locks:
                lock.release()
        if not best_locks:
            return None
        lock, *others = best_locks
        for other in others:
            other.release()
        return GpuSlot(directory, names[best_index], best_index, lock)

    def _lock_free_slots(self, directory, name):
        alone = _try_lock(_path_alone(directory, name))
        if alone is None:
            return []
        alone.release()
        paths = [directory / f"{name}.{i}.lock" for i in range(self.trials_per_gpu)]
        return [lock for lock in map(_try_lock, paths) if lock is not None]


class GpuSlot:
    """A slot on a GPU that an evaluation has taken.

    Parameters
    ----------
    directory : pathlib.Path
        Where the locks are.

    name : str
        What all processes call the GPU.

    index : int
        What torch calls it in this process.

    lock : filelock.BaseFileLock
        That of the slot.

    Attributes
    ----------
    device : str
        The GPU, as estimators take it.

    is_alone : bool
        Whether there is no other evaluation on the GPU.
    """

    def __init__(self, directory: Path, name: str, index: int, lock: Any):
        self.directory = directory
        self.name = name
        self.index = index
        self.is_alone = False
        self._locks = {Path(lock.lock_file): lock}

    @property
    def device(self) -> str:
        return f"cuda:{self.index}"

    def become_alone(self, time_left: Callable[[], float]) -> None:
        """Give up the slot, wait until the GPU is free, and keep it so.

        Raises
        ------
        TimeoutError
            If that was not in time. No slot is left then.
        OSError
            If there can be no locks.
        """
        # Whoever waits holds no slot: two who do this at once wait for the others, and
        # then one for the other.
        self.give_back()
        try:
            _wait(self.directory, self._try_alone, time_left)
        except BaseException:
            self._release()
            raise
        self.is_alone = True

    def give_back(self) -> None:
        """Free the memory that is no longer used, then the slot."""
        try:
            # Another process cannot have what torch keeps for this one.
            self._free_memory()
        finally:
            self._release()

    def _try_alone(self):
        alone = _path_alone(self.directory, self.name)
        # The first one keeps newcomers away; then the others leave, one by one. They
        # may be of a search with more slots.
        for path in [alone, *self.directory.glob(f"{self.name}.[0-9]*.lock")]:
            if path not in self._locks and (lock := _try_lock(path)) is not None:
                self._locks[path] = lock
            if alone not in self._locks:
                return None
        slots = self.directory.glob(f"{self.name}.[0-9]*.lock")
        return True if self._locks.keys() >= {alone, *slots} else None

    def _free_memory(self):
        # With errors of the GPU that an evaluation has made, torch refuses everything.
        with suppress(RuntimeError):
            free_memory(self.index)

    def _release(self):
        while self._locks:
            self._locks.popitem()[1].release()


def free_memory(index: int | None = None) -> None:
    """Free what is no longer used, also what torch keeps of it for later."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        with nullcontext() if index is None else torch.cuda.device(index):
            torch.cuda.empty_cache()


def is_out_of_gpu_memory(error: str) -> bool:
    """Return whether a traceback tells, of any of its causes, that a GPU was full."""
    return OUT_OF_MEMORY.search(error) is not None


@contextmanager
def loading_on(device: str | None) -> Iterator[None]:
    """Load networks on a device, wherever they were when they were pickled."""
    token = _loading.set(device)
    try:
        yield
    finally:
        _loading.reset(token)


def default_device() -> str:
    """Return where the process of a search has its own networks."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def loading_device() -> str | None:
    """Return the device to load networks on, if there is one."""
    return _loading.get()


def _name_visible_gpus() -> list[str]:
    """Return what all processes call the GPUs that this one sees, in its order."""
    import torch

    count = torch.cuda.device_count()
    if count == 0:
        return []
    names = [str(index) for index in range(count)]
    # Dask has its workers see them in different orders, and Ray one each.
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        names = [name.strip() for name in visible.split(",")][:count]
    # A job of Slurm may see but its own GPUs, numbered from 0.
    identities = dict(enumerate(_read_identities()))
    names = [
        identities.get(int(name), name) if name.isdecimal() else name for name in names
    ]
    return [re.sub(r"[^\w-]", "_", f"gpu-{name}") for name in names]


def _read_identities():
    """Return the identities of the GPUs, if the driver tells them."""
    import torch

    with suppress(AttributeError, OSError):
        return torch.cuda._raw_device_uuid_nvml() or []
    return []


def _make_directory() -> Path:
    """Return the directory of the locks of the user on this machine."""
    user = os.getuid() if hasattr(os, "getuid") else getpass.getuser()
    directory = Path(tempfile.gettempdir(), f"sklearn_iis-gpus-{user}")
    directory.mkdir(mode=0o700, exist_ok=True)
    status = directory.lstat()
    is_own = not hasattr(os, "getuid") or status.st_uid == os.getuid()
    if not (stat.S_ISDIR(status.st_mode) and is_own):
        raise PermissionError(
            f"{str(directory)!r}, for the locks of GPUs, belongs to somebody else: "
            "have it removed, or set TMPDIR to another directory"
        )
    return directory


def _path_alone(directory, name):
    return directory / f"{name}.alone.lock"


def _wait(directory, attempt, time_left):
    """Return what an attempt comes to, as soon as that is not None."""
    while True:
        # One attempt at a time, so that none finds a lock that another one only tries.
        if (turn := _try_lock(directory / "turn.lock")) is not None:
            try:
                result = attempt()
            finally:
                turn.release()
            if result is not None:
                return result
        if time_left() <= 0:
            raise TimeoutError("there was no slot on a GPU in time")
        time.sleep(POLL_SECONDS)


def _try_lock(path):
    # Of any thread: an interrupt may have it released by another one.
    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return None
    return lock
