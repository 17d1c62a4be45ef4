"""Files and archives that are downloaded once and kept."""

import hashlib
import os
import shutil
import tarfile
import tempfile
import time
import warnings
from numbers import Integral, Real
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from sklearn_iis._resize import ImageResizer
from sklearn_iis._sklearn_compat import Interval, StrOptions

# The parameters that all fetchers have.
FETCHER_CONSTRAINTS = {
    "subset": [StrOptions({"train", "test"})],
    "data_home": [str, os.PathLike, None],
    "size": [Interval(Integral, 1, None, closed="left"), tuple, None],
    "mode": [StrOptions({"RGB", "L"})],
    "download_if_missing": ["boolean"],
    "return_X_y": ["boolean"],
    "n_retries": [Interval(Integral, 0, None, closed="left")],
    "delay": [Interval(Real, 0, None, closed="left")],
}

# What a server answers to what it may give later: too slow a request, and too many.
RETRYABLE = {408, 429}

# Bytes that are read from the network at a time.
CHUNK = 2**20


class RemoteFile(NamedTuple):
    """A file to download, and the checksum that it must have.

    Parameters
    ----------
    url : str
        Where it is. What comes after the last slash is the name of the local file.

    md5 : str
        Its MD5 checksum in hexadecimal digits.
    """

    url: str
    md5: str

    @property
    def name(self) -> str:
        """The name of the local file."""
        return self.url.rpartition("/")[2]


def check_size(size):
    """Raise an error if images cannot be resized to a size, before there are any.

    Raises
    ------
    ValueError
        If it is no positive int, tuple of two of them, or None.
    """
    ImageResizer(size).fit(np.zeros((1, 1, 1), np.uint8))


def fetch_file(remote, folder, *, download_if_missing, n_retries, delay):
    """Return the path of a file in a folder, downloaded if it is not there.

    Under its name there is either nothing or the complete file.

    Raises
    ------
    OSError
        If the file is not there and must not be downloaded, if the last attempt fails,
        or if what was downloaded has another checksum, which is not tried again.

    ImportError
        If it has to be downloaded, and pooch or tqdm is not installed.
    """
    path = folder / remote.name
    if path.is_file() and _md5(path) == remote.md5:
        return path
    if not download_if_missing:
        raise OSError(
            f"'{path}' is missing or damaged, and `download_if_missing` is False."
        )
    _download(remote, folder, n_retries, delay)
    return path


def fetch_archive(remote, folder, names, **options):
    """Return the unpacked folder of a tar archive, downloaded if it is not there.

    The folder appears when it is complete; then the archive is deleted. Processes that
    do this at the same time do not disturb each other. One that is killed may leave a
    temporary file or folder, which is not removed, as it cannot be told from that of
    another process.

    Raises
    ------
    OSError
        As by :func:`fetch_file`, or if the archive lacks one of the files, has one
        twice, or holds links, devices or paths that lead out of the folder.

    ImportError
        As by :func:`fetch_file`.
    """
    (name,) = {name.partition("/")[0] for name in names}
    path = folder / name
    if path.is_dir():
        return path
    try:
        archive = fetch_file(remote, folder, **options)
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=folder) as unfinished:
            _unpack(archive, Path(unfinished), names)
            os.rename(Path(unfinished, name), path)
    except OSError:
        # Another process may have been faster, and have deleted the archive as well.
        if not path.is_dir():
            raise
    (folder / remote.name).unlink(missing_ok=True)
    return path


def _md5(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _download(remote, folder, n_retries, delay):
    """Download a file, and put it in its place if its checksum is right."""
    try:
        import pooch
        import tqdm  # noqa: F401, pooch's progress bar
        from requests import HTTPError, RequestException
    except ImportError as error:
        raise ImportError(
            f"Downloading '{remote.url}' needs pooch and tqdm, which cannot be imported"
            f" ({error}); to install them: pip install 'sklearn-iis[datasets]'"
        ) from error
    # pooch's own retries include those after a wrong checksum, of gigabytes perhaps.
    for n_left in range(n_retries, -1, -1):
        try:
            pooch.retrieve(
                remote.url,
                known_hash=f"md5:{remote.md5}",
                fname=remote.name,
                path=folder,
                downloader=pooch.HTTPDownloader(progressbar=True, chunk_size=CHUNK),
            )
            return
        except RequestException as error:
            if n_left == 0 or (isinstance(error, HTTPError) and _is_refused(error)):
                raise
            warnings.warn(f"Retry downloading {remote.url}: {error}", stacklevel=2)
            time.sleep(delay)
        except ValueError as error:  # the checksum
            raise OSError(f"{remote.url}: {error}") from error


def _is_refused(error):
    """Whether the server will not give it later, as a file that it does not have."""
    status = error.response.status_code
    return status < 500 and status not in RETRYABLE


def _unpack(archive, folder, names):
    """Write the files of an archive that have one of the names, and no others."""
    missing = set(names)
    with tarfile.open(archive) as members:
        for member in members:
            name = str(PurePosixPath(member.name))  # without "./"
            if member.isreg() and name in missing:
                # Its name is one of ours, so that it leads nowhere else.
                path = folder / name
                path.parent.mkdir(exist_ok=True)
                with members.extractfile(member) as source, open(path, "xb") as file:
                    shutil.copyfileobj(source, file)
                missing.remove(name)
            elif name in names or not _is_harmless(member):
                raise OSError(
                    f"'{archive}' holds {member.name!r}, which does not belong there;"
                    " nothing was unpacked."
                )
    if missing:
        raise OSError(
            f"'{archive}' lacks {len(missing)} files, {min(missing)!r} among them."
        )


def _is_harmless(member):
    """Whether a member, which is left out, is what an honest archive may hold."""
    path = PurePosixPath(member.name)
    leads_out = path.is_absolute() or ".." in path.parts
    return (member.isreg() or member.isdir()) and not leads_out
