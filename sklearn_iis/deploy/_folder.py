"""A folder with an index and the files that it names, written completely or not at all.

The index is replaced last, in one step. A file has a name of its own for each content,
so that those of the model before stay as they are until then.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sklearn_iis._files import replace_file
from sklearn_iis.execution._text import printable, shorten

INDEX = "model.json"
FORMAT = "sklearn_iis.model"
VERSION = 1

# The bytes of an index.
MAX_INDEX = 2**24

# The names of files, of which none is in another folder.
PLAIN_NAME = re.compile(r"[a-z]+-[0-9a-f]{16}\.[a-z]+")

# The characters of a value in an error.
MAX_QUOTE = 100


def quote(value: Any) -> str:
    """Return a value that is not trusted as a short text on one line."""
    return shorten(printable(value, repr), MAX_QUOTE)


def hash_bytes(data: bytes) -> str:
    """Return the hash by which a file is known."""
    return hashlib.sha256(data).hexdigest()


class FileSet(dict[str, bytes]):
    """Files that are to be written, by name."""

    def add(self, kind: str, data: bytes, suffix: str) -> str:
        """Take a file up; return its name."""
        name = f"{kind}-{hash_bytes(data)[:16]}.{suffix}"
        self[name] = data
        return name


def check_folder(folder: Path) -> None:
    """Raise an error if a model cannot be written to a folder.

    Raises
    ------
    NotADirectoryError
        If it is a file.

    FileExistsError
        If it holds something else than a model.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{str(folder)!r} is a file: name a folder")
    if not folder.exists() or not any(folder.iterdir()):
        return
    try:
        read_index(folder, must_be_complete=False)
    except (OSError, ValueError) as error:
        raise FileExistsError(
            f"the folder {str(folder)!r} is not empty and holds no model ({error}): "
            "name another one, or empty it"
        ) from error


def write_folder(
    folder: Path, index: Mapping[str, Any], files: Mapping[str, bytes]
) -> None:
    """Write a model, or put it in the place of the one before.

    Whatever else there is in the folder stays.
    """
    check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    before: set[str] = set()
    if (folder / INDEX).exists():
        before = set(read_index(folder, must_be_complete=False)["files"])
    else:
        # By it the folder is known as ours also if nothing follows.
        _write_index(folder, {"files": {}})
    for name, data in files.items():
        replace_file(folder / name, data)
    hashes = {name: hash_bytes(data) for name, data in files.items()}
    _write_index(folder, {**index, "files": hashes})
    for name in before - files.keys():
        with suppress(OSError):
            (folder / name).unlink()


def _write_index(folder: Path, content: Mapping[str, Any]) -> None:
    whole = {"format": FORMAT, "version": VERSION, **content}
    text = json.dumps(whole, indent=2, allow_nan=False)
    replace_file(folder / INDEX, text.encode())


def read_index(folder: Path, *, must_be_complete: bool = True) -> dict[str, Any]:
    """Return the index of a folder.

    Raises
    ------
    OSError
        If there is no index, or it cannot be read.

    ValueError
        If it is none of a model, of another version, or one whose files were never
        written.
    """
    with open(folder / INDEX, "rb") as file:
        data = file.read(MAX_INDEX + 1)
    if len(data) > MAX_INDEX:
        raise ValueError(f"{INDEX} has more than {MAX_INDEX:,} bytes")
    try:
        index = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{INDEX} is no JSON: {shorten(f'{error}', MAX_QUOTE)}") from (
            None
        )
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise ValueError(f"{INDEX} is not that of a model")
    if index.get("version") != VERSION:
        raise ValueError(
            f"it is of version {quote(index.get('version'))}, and this sklearn_iis "
            f"reads version {VERSION}"
        )
    files = index.get("files")
    if not isinstance(files, dict) or not all(map(PLAIN_NAME.fullmatch, files)):
        raise ValueError(f"its files are {quote(files)}")
    if must_be_complete and "model" not in index:
        raise ValueError("it was never written completely: save the model again")
    return index


def read_files(folder: Path, index: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the files of an index.

    Raises
    ------
    OSError
        If one is missing, or cannot be read.

    ValueError
        If one is not as it was written.
    """
    files = {}
    for name, expected in index["files"].items():
        try:
            data = (folder / name).read_bytes()
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{str(folder)!r} lacks {name}, a part of the model: save it again"
            ) from None
        if hash_bytes(data) != expected:
            raise ValueError(f"{name} is not as it was written: it has been damaged")
        files[name] = data
    return files
