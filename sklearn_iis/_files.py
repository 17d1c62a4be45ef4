"""Files that are written completely or not at all."""

import os
import uuid
from pathlib import Path


def check_writable(path: Path) -> None:
    """Raise an error if a file cannot be written.

    Parameters
    ----------
    path : pathlib.Path
        The file.

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


def replace_file(path: Path, data: bytes) -> None:
    """Write a file beside the path, and put it in its place once it is complete.

    Parameters
    ----------
    path : pathlib.Path
        The file, which is replaced if it exists.

    data : bytes
        Its content.
    """
    unfinished = path.with_name(f".{path.name[:100]}-{uuid.uuid4().hex}.tmp")
    try:
        # Not by tempfile, whose files are readable by their owner only.
        with open(unfinished, "xb") as file:
            file.write(data)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
