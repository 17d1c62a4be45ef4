"""Files that are written completely or not at all, and directories that do not stay."""

import os
import shutil
import stat
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock

# How the names of workspaces begin, and that of their locks.
WORKSPACE = "sklearn_iis-fit-"
LOCK = "lock"

# The seconds after which a workspace that is not locked yet was abandoned.
MAX_AGE = 3600


def check_writable(path: Path) -> None:
    """Raise an error if a file cannot be written.

    Raises
    ------
    FileNotFoundError
        If its folder does not exist.

    NotADirectoryError
        If its folder is a file.

    IsADirectoryError
        If it is a folder itself.

    PermissionError
        If nothing can be written to the folder.
    """
    folder = path.parent
    if path.is_dir():
        raise IsADirectoryError(f"{str(path)!r} is a folder: name a file in it")
    if not folder.exists():
        raise FileNotFoundError(f"the folder {str(folder)!r} does not exist")
    if not folder.is_dir():
        raise NotADirectoryError(f"{str(folder)!r} is no folder")
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"nothing can be written to the folder {str(folder)!r}")


def replace_file(
    path: Path, data: bytes, check: Callable[[Path], None] | None = None
) -> None:
    """Write a file beside the path, and put it in its place once it is complete.

    Nothing is put there if `check`, called with the complete file, raises an error.
    """
    unfinished = path.with_name(f".{path.name[:100]}-{uuid.uuid4().hex}.tmp")
    try:
        # Not by tempfile, whose files are readable by their owner only.
        with open(unfinished, "xb") as file:
            file.write(data)
        if check is not None:
            check(unfinished)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def make_private_directory(path: str) -> bool:
    """Make a directory, with its parents, that others cannot write to.

    Returns
    -------
    is_private : bool
        False if it cannot be made, or was made by somebody else: what is pickled there
        must not be loaded.
    """
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        status = os.lstat(path)
    except OSError:
        return False
    if os.name == "nt":  # which has other permissions
        return stat.S_ISDIR(status.st_mode)
    return (
        stat.S_ISDIR(status.st_mode)
        and status.st_uid == os.getuid()
        and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    )


@contextmanager
def claimed(directory: str | None) -> Iterator[str | None]:
    """Have a directory for this fit alone as long as the block lasts.

    Yields None in place of it if another fit, in whatever process, has it by now, or if
    it cannot be locked.
    """
    lock = None
    if directory is not None:
        lock = FileLock(os.path.join(directory, LOCK), thread_local=False)
        try:
            lock.acquire(blocking=False)
        except (OSError, NotImplementedError):  # of filelock, Timeout is the first
            lock = None
    try:
        yield None if lock is None else directory
    finally:
        if lock is not None:
            lock.release()


def remove_directory(path: str) -> None:
    """Remove a directory, and the one it is in if that is empty then."""
    shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):
        os.rmdir(os.path.dirname(path))


@contextmanager
def workspace() -> Iterator[str]:
    """Make a temporary directory for a fit; remove those that crashes left behind.

    A lock on a file in it is held as long as its process lives.
    """
    _remove_abandoned()
    # Named like a workspace only once it is locked, so that nobody takes it for one
    # that was abandoned.
    made = tempfile.mkdtemp(prefix=f"new-{WORKSPACE}")
    lock = FileLock(os.path.join(made, LOCK), thread_local=False)
    lock.acquire()
    directory = made.replace(f"new-{WORKSPACE}", WORKSPACE)
    os.rename(made, directory)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        lock.release()


def _remove_abandoned() -> None:
    """Remove the workspaces whose processes are gone."""
    folder = Path(tempfile.gettempdir())
    for path in folder.glob(f"{WORKSPACE}*"):
        with suppress(OSError):
            if not path.is_symlink() and (path / LOCK).is_file():
                # Raises Timeout, an OSError, if the process lives.
                with FileLock(path / LOCK, blocking=False):
                    shutil.rmtree(path, ignore_errors=True)
    for path in folder.glob(f"new-{WORKSPACE}*"):
        with suppress(OSError):
            if time.time() - path.lstat().st_mtime > MAX_AGE:
                shutil.rmtree(path, ignore_errors=True)
