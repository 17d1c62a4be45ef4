"""Many files: all that cannot be read in one error, and a bound on memory."""

import os
import pickle
import sys
import threading
import tracemalloc
import warnings

import joblib
import numpy as np
import pytest
from PIL import Image

from sklearn_iis import ImageResizer
from sklearn_iis.images import _decode, _read
from sklearn_iis.images._budget import ByteBudget


@pytest.fixture
def paths(tmp_path):
    """Files of which the second and the last cannot be read."""
    paths = [tmp_path / f"{i}.png" for i in range(6)]
    for path in paths:
        Image.new("RGB", (40, 30)).save(path)
    paths[1].write_text("no image")
    paths[5].write_bytes(paths[0].read_bytes()[:60])
    return paths


@pytest.mark.parametrize("method", ["transform", "fit_transform", "fit"])
@pytest.mark.parametrize("first", [0, 1])
def test_all_that_cannot_be_read_is_named(paths, method, first):
    X = paths[first:]
    if method == "fit" and first == 0:  # it looks at the first one only
        ImageResizer(8).fit(X)
        return
    with pytest.raises(OSError, match="2 images cannot be read") as caught:
        getattr(ImageResizer(8), method)(X)
    unreadable = caught.value.unreadable
    assert list(unreadable) == [1 - first, 5 - first]
    for index, message in unreadable.items():
        assert str(X[index]) in message
        assert f"X[{index}]: {message}" in str(caught.value)
    assert pickle.loads(pickle.dumps(caught.value)).unreadable == unreadable


def test_missing_files_are_named(tmp_path):
    X = [tmp_path / f"{i}.png" for i in range(30)]
    with pytest.raises(FileNotFoundError, match="30 images cannot") as caught:
        ImageResizer(8).transform(X)
    assert "and 10 more, see `unreadable`" in str(caught.value)
    assert list(caught.value.unreadable) == list(range(30))


def test_other_programs_are_not_started(tmp_path, monkeypatch):
    """PostScript in a file photo.png would start Ghostscript."""
    called = tmp_path / "called"
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {called}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    Image.new("RGB", (10, 10)).save(tmp_path / "a.eps")
    photo = (tmp_path / "a.eps").rename(tmp_path / "photo.png")
    with pytest.raises(OSError, match=r"photo\.png' .* none of the formats JPEG, PNG"):
        ImageResizer(8).transform([photo])
    assert not called.exists()
    if sys.platform == "linux":  # the trap works
        with pytest.raises(OSError), Image.open(photo) as image:  # noqa: PT011
            image.load()
        assert called.exists()


def test_budget():
    """At no time is more held than there is; what is larger has it all."""
    budget, held, most = ByteBudget(10), [], []

    def work(n):
        for _ in range(50):
            with budget.spend(n):
                held.append(n)
                most.append(list(held))
                held.remove(n)

    threads = [threading.Thread(target=work, args=(n,)) for n in (3, 4, 6, 25)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 200
    assert all(sum(each) <= 10 or each == [25] for each in most)


def test_budget_is_freed_by_an_error():
    budget = ByteBudget(10)
    with pytest.raises(ZeroDivisionError), budget.spend(10):
        _ = 1 / 0
    with budget.spend(10):
        pass


# Measured with resident memory, for images of 9 megapixels.
@pytest.mark.parametrize(
    ("mode", "options", "n_bytes"),
    [
        ("RGB", {}, 11),
        ("RGBA", {}, 20),
        ("LA", {}, 20),
        ("I;16", {}, 22),
        ("P", {"transparency": 0}, 17),
    ],
)
def test_images_count_by_their_mode(mode, options, n_bytes, tmp_path):
    spent = []

    class Watched(ByteBudget):
        def spend(self, n):
            spent.append(n)
            return super().spend(n)

    Image.new(mode, (10, 20)).save(tmp_path / "a.png", **options)
    decoder = _decode.Decoder("RGB", (0, 0, 0), None, Watched(2**28))
    decoder.decode(tmp_path / "a.png", "a.png")
    assert n_bytes * 200 <= spent[0] <= 22 * 200


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked")
def test_forked_while_another_thread_decodes(monkeypatch):
    """The child does not wait for a lock that nobody frees there."""
    import signal

    began, ended = threading.Event(), threading.Event()
    flatten = _decode.flatten

    def wait(*args):
        began.set()
        ended.wait(30)
        return flatten(*args)

    images = [Image.new("RGB", (8, 8))]
    with monkeypatch.context() as patch:
        patch.setattr(_decode, "flatten", wait)
        thread = threading.Thread(target=ImageResizer(None).transform, args=(images,))
        thread.start()
        began.wait(30)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads
        child = os.fork()
    if not child:
        signal.alarm(10)
        ImageResizer(None).transform(images)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    ended.set()
    thread.join()
    assert status == 0


def test_nearest_takes_pixels_of_a_jpeg_as_they_are(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (160, 160, 3)).astype(np.uint8)
    path = tmp_path / "a.jpg"
    Image.fromarray(pixels).save(path, quality=95)
    with Image.open(path) as image:
        full = np.asarray(image)
    resizer = ImageResizer(10, interpolation="nearest")
    np.testing.assert_array_equal(resizer.transform([path]), resizer.transform([full]))


def test_memory_is_bounded_by_bytes(tmp_path, monkeypatch):
    """With a small budget one image is under way at a time, whatever the threads."""
    path = tmp_path / "a.png"
    Image.new("RGB", (500, 400)).save(path)
    under_way, most = [], []
    decode = _decode.flatten

    def watch(*args):
        under_way.append(1)
        most.append(len(under_way))
        result = decode(*args)
        under_way.pop()
        return result

    monkeypatch.setattr(_decode, "flatten", watch)
    monkeypatch.setattr(joblib, "cpu_count", lambda: 8)
    monkeypatch.setattr(_read, "BUDGET", 11 * 500 * 400)
    ImageResizer(8).transform([path] * 60)
    assert max(most) == 1
    monkeypatch.setattr(_read, "BUDGET", 2**28)
    tracemalloc.start()
    ImageResizer(8).transform([path] * 60)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # numpy's arrays are traced: 60 would be 36 MB, 12 threads have 7.
    assert peak < 15e6


def test_threads_are_those_of_the_cores_of_the_process(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    Image.new("RGB", (5, 4)).save(path)
    numbers = []
    pool = _read.ThreadPoolExecutor
    monkeypatch.setattr(
        _read, "ThreadPoolExecutor", lambda n: numbers.append(n) or pool(n)
    )
    monkeypatch.setattr(joblib, "cpu_count", lambda: 3)
    ImageResizer().transform([path] * 3)
    assert numbers == [3 + _read.WAITING]


@pytest.mark.parametrize("small", [0, 2**18])
def test_parts(small, tmp_path, monkeypatch):
    """Each image has its place, however they are handed out."""
    monkeypatch.setattr(_read, "AT_ONCE", 4)
    monkeypatch.setattr(_read, "SMALL", small)
    images = np.random.default_rng(0).integers(0, 256, (11, 6, 5, 3)).astype(np.uint8)
    paths = [tmp_path / f"{i}.png" for i in range(11)]
    for image, path in zip(images, paths, strict=True):
        Image.fromarray(image).save(path)
    np.testing.assert_array_equal(ImageResizer().transform(paths), images)
