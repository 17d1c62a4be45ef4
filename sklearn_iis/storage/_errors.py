"""Errors of a storage, in words that say what to do."""

import os
from pathlib import Path
from typing import Any

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import InterfaceError, OperationalError

from sklearn_iis._files import check_writable
from sklearn_iis.execution._text import printable

GO_ON = "call again with the same storage: it goes on where it stopped"
INSTEAD = (
    "give the path of a journal, such as 'search.journal', or the url of a database, "
    "such as 'sqlite:///search.db'"
)
# Parts of the messages of databases and systems, in lower case, and the remedies.
REMEDIES = [
    (("is full", "no space left", "quota"), f"free some space there, then {GO_ON}"),
    (
        ("locked", "busy"),
        f"another process did not release it in time. Once it has, {GO_ON}. For many "
        "workers, or a folder shared by machines, a journal or the url of a database "
        "server serves better than SQLite",
    ),
    (
        ("readonly", "read-only", "permission denied", "not permitted"),
        f"make it writable, then {GO_ON}",
    ),
    (
        ("not a database", "malformed"),
        "it is damaged, or no database: restore it from a backup, or name a new file",
    ),
    (
        ("no such table", "no such file", "unable to open database file"),
        "it was removed or replaced meanwhile, or its folder is not shared with this "
        f"machine. Once it is there again, {GO_ON}",
    ),
]


class StorageError(OSError):
    """A storage cannot be opened, read or written; the message says what to do."""


def translate(error: Exception, name: str) -> StorageError:
    """Return the error that says which storage failed, and what to do."""
    cause: Any = error
    if isinstance(error, StorageInternalError) and error.__cause__ is not None:
        cause = error.__cause__
    # Without the statement and its values, which SQLAlchemy adds.
    text = str(
        getattr(cause, "orig", None) or getattr(cause, "strerror", None) or cause
    )
    if isinstance(cause, OSError | OperationalError | InterfaceError):
        remedy = f"once it can be reached again, {GO_ON}"
    else:
        remedy = "what was to be read or written does not fit to it"
    for words, known in REMEDIES:
        if any(word in text.lower() for word in words):
            remedy = known
            break
    return StorageError(f"storage {name!r}: {printable(text.strip())}: {remedy}")


def check_file(name: str, path: Path, create: bool) -> None:
    """Raise an error if a file cannot be used, before anything is written.

    Raises
    ------
    StorageError
        If it is missing, no regular file, or cannot be read and written.
    """
    try:
        check_writable(path)
        if path.exists():
            if not path.is_file():
                raise OSError("it is no regular file")
            if not os.access(path, os.R_OK | os.W_OK):
                raise PermissionError("it cannot be both read and written")
        elif not create:
            raise FileNotFoundError(
                "it is not there. It was removed meanwhile, or its folder is not "
                "shared with this machine"
            )
    except OSError as error:
        raise StorageError(f"storage {name!r} cannot be used: {error}") from error
