"""Downloads: complete or not there at all, checked, unpacked with distrust."""

import os
import shutil
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor

import pytest
from requests import RequestException

from sklearn_iis.datasets import _download
from sklearn_iis.datasets._download import fetch_archive, fetch_file
from tests.datasets.file_server import make_member, make_tar

OPTIONS = {"download_if_missing": True, "n_retries": 2, "delay": 0.01}
OFFLINE = {**OPTIONS, "download_if_missing": False}
CONTENT = bytes(range(256)) * 100
FILES = [("images/a.bin", CONTENT), ("images/b.txt", b"names")]
NAMES = ["images/a.bin", "images/b.txt"]


def names_in(folder):
    """The paths of all that is in a folder, hidden things too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture
def remote(server):
    return server.add("file.bin", CONTENT)


@pytest.fixture
def archive(server):
    return server.add("images.tgz", make_tar(*FILES))


def test_file_is_downloaded_once(server, remote, tmp_path):
    path = fetch_file(remote, tmp_path / "new", **OPTIONS)
    assert path == tmp_path / "new" / "file.bin"
    assert path.read_bytes() == CONTENT
    server.close()
    assert fetch_file(remote, tmp_path / "new", **OFFLINE) == path
    assert names_in(tmp_path) == ["new", "new/file.bin"]
    assert server.requests == ["file.bin"]


def test_nothing_is_downloaded_if_that_is_not_wanted(server, remote, tmp_path):
    with pytest.raises(OSError, match=r"file\.bin' is missing or damaged, and `downl"):
        fetch_file(remote, tmp_path / "new", **OFFLINE)
    assert server.requests == names_in(tmp_path) == []


def test_damaged_file_is_downloaded_anew(remote, tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(OSError, match="missing or damaged"):
        fetch_file(remote, tmp_path, **OFFLINE)
    assert path.read_bytes() == CONTENT[:-1]
    fetch_file(remote, tmp_path, **OPTIONS)
    assert path.read_bytes() == CONTENT


def test_broken_download_is_tried_again(server, remote, tmp_path):
    server.broken["file.bin"] = 2
    with pytest.warns(UserWarning, match=r"Retry downloading http://.*/file\.bin: "):
        path = fetch_file(remote, tmp_path, **OPTIONS)
    assert path.read_bytes() == CONTENT
    assert names_in(tmp_path) == ["file.bin"]
    assert len(server.requests) == 3


def test_broken_download_leaves_nothing(server, remote, tmp_path):
    """After the last attempt; the next call begins anew."""
    server.broken["file.bin"] = 1
    with pytest.raises(RequestException):
        fetch_file(remote, tmp_path, **{**OPTIONS, "n_retries": 0})
    assert names_in(tmp_path) == []
    assert fetch_file(remote, tmp_path, **OPTIONS).read_bytes() == CONTENT


def test_wrong_checksum(server, remote, tmp_path):
    """Told at once, with both checksums, and the file is not kept."""
    expected = "0" * 32
    message = rf"/file\.bin: .*expected md5:{expected} but got {remote.md5}"
    with pytest.raises(OSError, match=message):
        fetch_file(remote._replace(md5=expected), tmp_path, **OPTIONS)
    assert server.requests == ["file.bin"]
    assert names_in(tmp_path) == []


def test_file_that_is_not_served(server, remote, tmp_path):
    server.files.clear()
    with pytest.raises(OSError, match="404"):
        fetch_file(remote, tmp_path, **OPTIONS)
    # Asking again would not help.
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [408, 429, 503])
def test_server_that_asks_to_come_again(server, remote, tmp_path, status):
    server.refused["file.bin"] = [status]
    with pytest.warns(UserWarning, match=f"Retry downloading .*{status}"):
        fetch_file(remote, tmp_path, **OPTIONS)
    assert len(server.requests) == 2


@pytest.mark.parametrize("module", ["pooch", "tqdm"])
def test_without_the_extra(remote, tmp_path, monkeypatch, module):
    """Named if there is something to download, not needed otherwise."""
    with monkeypatch.context() as without:
        without.setitem(sys.modules, module, None)
        with pytest.raises(ImportError, match=r"pip install 'sklearn-iis\[datasets\]'"):
            fetch_file(remote, tmp_path, **OPTIONS)
    fetch_file(remote, tmp_path, **OPTIONS)
    monkeypatch.setitem(sys.modules, module, None)
    fetch_file(remote, tmp_path, **OPTIONS)


def test_archive_is_unpacked_once(server, tmp_path):
    """Without what is not needed; the archive is deleted."""
    content = make_tar(
        make_member("images", tarfile.DIRTYPE),
        FILES[0],
        (f"./{FILES[1][0]}", FILES[1][1]),
        ("images/large.bin", CONTENT),
        ("README", b""),
        ("./images/._a.bin", b""),
    )
    archive = server.add("images.tgz", content)
    path = fetch_archive(archive, tmp_path, NAMES, **OPTIONS)
    assert path == tmp_path / "images"
    assert names_in(tmp_path) == ["images", *NAMES]
    assert [(tmp_path / name).read_bytes() for name in NAMES] == [CONTENT, b"names"]
    # As for any new folder, not as for a temporary one.
    (tmp_path / "other").mkdir()
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode
    server.close()
    assert fetch_archive(archive, tmp_path, NAMES, **OFFLINE) == path
    assert server.requests == ["images.tgz"]


def test_archive_that_is_there_is_unpacked(server, archive, tmp_path):
    """Without a network."""
    server.close()
    (tmp_path / "images.tgz").write_bytes(server.files["images.tgz"])
    fetch_archive(archive, tmp_path, NAMES, **OFFLINE)
    assert names_in(tmp_path) == ["images", *NAMES]


# Name, kind, and target of a link; `folder` is that of the test.
HOSTILE = {
    "parent": ("../escaped.txt", tarfile.REGTYPE, ""),
    "parent inside": ("images/../../escaped.txt", tarfile.REGTYPE, ""),
    "absolute": ("{folder}/escaped.txt", tarfile.REGTYPE, ""),
    "twice": ("images/a.bin", tarfile.REGTYPE, ""),
    "symbolic link": ("images/b.txt", tarfile.SYMTYPE, "{folder}/secret"),
    "link of the folder": ("images", tarfile.SYMTYPE, "{folder}"),
    "hard link": ("images/b.txt", tarfile.LNKTYPE, "images/a.bin"),
    "device": ("images/b.txt", tarfile.CHRTYPE, ""),
    "pipe": ("images/b.txt", tarfile.FIFOTYPE, ""),
    "folder for a file": ("images/b.txt", tarfile.DIRTYPE, ""),
    "folder outside": ("../escaped", tarfile.DIRTYPE, ""),
    "link for what is not needed": ("images/large.bin", tarfile.SYMTYPE, "{folder}"),
}


@pytest.mark.parametrize("place", ["first", "last"])
@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_archive(server, tmp_path, case, place):
    """An error that names the member; nothing is left of it, inside or outside."""
    name, kind, target = HOSTILE[case]
    name, target = (text.format(folder=tmp_path) for text in (name, target))
    members = FILES[:1] if name == "images/b.txt" else FILES
    hostile = make_member(name, kind, target)
    members = [hostile, *members] if place == "first" else [*members, hostile]
    archive = server.add("images.tgz", make_tar(*members))
    folder = tmp_path / "home" / "set"
    with pytest.raises(OSError, match="which does not belong there") as error:
        fetch_archive(archive, folder, NAMES, **OPTIONS)
    assert repr(name) in str(error.value)
    assert names_in(tmp_path) == ["home", "home/set", "home/set/images.tgz"]


def test_archive_that_lacks_files(server, tmp_path):
    archive = server.add("images.tgz", make_tar(FILES[1]))
    with pytest.raises(OSError, match=r"lacks 1 files, 'images/a\.bin' among them"):
        fetch_archive(archive, tmp_path, NAMES, **OPTIONS)
    assert names_in(tmp_path) == ["images.tgz"]


def test_interrupted_while_unpacking(server, archive, tmp_path, monkeypatch):
    """The archive is kept, so that it is not downloaded again."""

    def interrupt(source, file):
        file.write(source.read(100))
        raise KeyboardInterrupt

    with monkeypatch.context() as interrupted:
        interrupted.setattr(shutil, "copyfileobj", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fetch_archive(archive, tmp_path, NAMES, **OPTIONS)
    assert names_in(tmp_path) == ["images.tgz"]
    server.close()
    fetch_archive(archive, tmp_path, NAMES, **OPTIONS)
    assert names_in(tmp_path) == ["images", *NAMES]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_another_process_is_faster(archive, tmp_path, monkeypatch, moment):
    """It has unpacked and deleted the archive before we open it, or after."""
    unpack = _download._unpack

    def overtaken(path, folder, *arguments):
        def other():
            unpack(path, tmp_path, *arguments)
            os.remove(path)

        if moment == "before":
            other()
        unpack(path, folder, *arguments)
        other()

    monkeypatch.setattr(_download, "_unpack", overtaken)
    fetch_archive(archive, tmp_path, NAMES, **OPTIONS)
    assert names_in(tmp_path) == ["images", *NAMES]
    assert (tmp_path / "images/a.bin").read_bytes() == CONTENT


def test_several_at_once(archive, tmp_path):
    with ThreadPoolExecutor(8) as pool:
        fetches = [
            pool.submit(fetch_archive, archive, tmp_path, NAMES, **OPTIONS)
            for _ in range(8)
        ]
    assert {fetch.result() for fetch in fetches} == {tmp_path / "images"}
    assert names_in(tmp_path) == ["images", *NAMES]
    assert (tmp_path / "images/a.bin").read_bytes() == CONTENT
