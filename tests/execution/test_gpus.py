"""Slots on GPUs, which are made up here."""

import multiprocessing
import os
import pickle
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from traceback import format_exc

import joblib
import numpy as np
import pytest
import torch
from loky import get_reusable_executor
from scipy.stats import loguniform
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_iis import CNNClassifier, IISSearchCV
from sklearn_iis.cnn import ImageFeatures
from sklearn_iis.execution import _gpus
from sklearn_iis.execution._gpus import (
    Gpus,
    find_auto_devices,
    free_memory,
    is_out_of_gpu_memory,
    loading_on,
)
from sklearn_iis.testing import X, y
from tests.fake_gpus import FAKE_GPUS, OnGpu, most_at_once, read_log


def make_gpus(monkeypatch, folder):
    monkeypatch.setenv(FAKE_GPUS, "2")
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder / f"sklearn_iis-gpus-{os.getuid()}"


@pytest.fixture
def two_gpus(tmp_path, monkeypatch):
    """Two GPUs that no process but that of the test knows; the folder of locks."""
    return make_gpus(monkeypatch, tmp_path)


@pytest.fixture(scope="module")
def gpus_of_workers(tmp_path_factory):
    """The same for workers, which are told by what they are started with."""
    get_reusable_executor().shutdown(wait=True)
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield make_gpus(monkeypatch, tmp_path_factory.mktemp("workers"))
        get_reusable_executor().shutdown(wait=True)


def no_time():
    return 0.0


def much_time():
    return 60.0


def take(n, trials_per_gpu=1):
    return [Gpus(trials_per_gpu).take(no_time) for _ in range(n)]


def devices(slots):
    return [slot.device for slot in slots]


# Slots


@pytest.mark.parametrize(
    ("trials_per_gpu", "expected"),
    [(1, [0, 1]), (2, [0, 1, 0, 1]), (3, [0, 1, 0, 1, 0, 1])],
)
def test_slots_are_spread_evenly(trials_per_gpu, expected, two_gpus):
    slots = take(len(expected), trials_per_gpu)
    assert devices(slots) == [f"cuda:{index}" for index in expected]
    with pytest.raises(TimeoutError, match="no slot on a GPU in time"):
        take(1, trials_per_gpu)
    slots[1].give_back()
    assert devices(take(1, trials_per_gpu)) == ["cuda:1"]


def test_a_slot_is_given_back_once(two_gpus):
    first, second = take(2)
    first.give_back()
    (third,) = take(1)
    first.give_back()
    assert third.device == first.device
    with pytest.raises(TimeoutError):
        take(1)
    assert second.device == "cuda:1"


def test_processes_that_see_the_gpus_in_another_order(two_gpus, monkeypatch):
    """As Dask has it. The index is that of the process, the lock that of the GPU."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,7")
    (first,) = take(1)
    assert (first.device, first.name) == ("cuda:0", "gpu-3")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, 7")
    (second,) = take(1)
    assert (second.device, second.name) == ("cuda:1", "gpu-7")
    second.give_back()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7,3")
    (second,) = take(1)
    assert (second.device, second.name) == ("cuda:0", "gpu-7")
    with pytest.raises(TimeoutError):
        take(1)


def test_processes_that_see_one_gpu_each(two_gpus, monkeypatch):
    """As Ray has it."""
    monkeypatch.setenv(FAKE_GPUS, "1")
    slots = []
    for visible in ("MIG-GPU-8/1/0", "MIG-GPU-8/2/0"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        slots += take(1)
        with pytest.raises(TimeoutError):
            take(1)
    assert devices(slots) == ["cuda:0", "cuda:0"]


def test_jobs_that_number_their_own_gpus_from_0(two_gpus, monkeypatch):
    """As Slurm has it: the driver tells their identities."""
    monkeypatch.setenv(FAKE_GPUS, "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    slots = []
    for identity in ("GPU-a", "GPU-b"):
        monkeypatch.setattr(_gpus, "_read_identities", lambda own=identity: [own])
        slots += take(1)
    # Another one is told the identity itself.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a")
    with pytest.raises(TimeoutError):
        take(1)


def test_without_a_driver_there_are_no_identities(monkeypatch):
    def fail():
        raise OSError("libnvidia-ml.so.1: cannot open shared object file")

    monkeypatch.setattr(torch.cuda, "_raw_device_uuid_nvml", fail)
    assert _gpus._read_identities() == []


def test_without_gpus_there_is_nothing_to_take(two_gpus, monkeypatch):
    monkeypatch.setenv(FAKE_GPUS, "0")
    assert Gpus().take(no_time) is None
    assert not two_gpus.exists()


def test_locks_are_the_users_own(two_gpus, monkeypatch):
    take(1)
    assert stat.S_IMODE(two_gpus.stat().st_mode) == 0o700
    uid = os.getuid()
    other = two_gpus.with_name(f"sklearn_iis-gpus-{uid + 1}")
    other.symlink_to(two_gpus)
    monkeypatch.setattr(os, "getuid", lambda: uid + 1)
    with pytest.raises(PermissionError, match="belongs to somebody else"):
        take(1)


def test_searches_that_allow_for_different_numbers(two_gpus, monkeypatch):
    monkeypatch.setenv(FAKE_GPUS, "1")
    first = take(2, trials_per_gpu=2)
    with pytest.raises(TimeoutError):
        take(1, trials_per_gpu=1)
    assert devices(take(1, trials_per_gpu=3)) == ["cuda:0"]
    # All of them have to leave.
    with pytest.raises(TimeoutError):
        first[0].become_alone(no_time)


def hold_a_slot(connection):
    slot = Gpus().take(much_time)
    connection.send(slot.device)
    connection.recv()


def test_the_slot_of_a_process_that_is_killed_is_free(two_gpus, monkeypatch):
    monkeypatch.setenv(FAKE_GPUS, "1")
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("spawn").Process(
        target=hold_a_slot, args=(theirs,)
    )
    child.start()
    assert ours.recv() == "cuda:0"
    with pytest.raises(TimeoutError):
        take(1)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert devices(take(1)) == ["cuda:0"]


# Alone


def test_newcomers_stay_away_from_what_wants_to_be_alone(two_gpus):
    slots = take(4, trials_per_gpu=2)
    with pytest.raises(TimeoutError):
        slots[0].become_alone(no_time)
    assert not slots[0].is_alone
    # It holds nothing then.
    slots[0] = take(1, trials_per_gpu=2)[0]
    is_waiting = threading.Event()

    def time_left():
        is_waiting.set()
        return 60.0

    waiting = threading.Thread(target=slots[0].become_alone, args=(time_left,))
    waiting.start()
    assert is_waiting.wait(60)
    # Its own slot is free, but nobody else's.
    with pytest.raises(TimeoutError):
        take(1, trials_per_gpu=2)
    slots[2].give_back()
    waiting.join(60)
    assert slots[0].is_alone
    slots[1].give_back()
    slots += take(1, trials_per_gpu=2)
    assert slots[-1].device == "cuda:1"
    with pytest.raises(TimeoutError):
        take(1, trials_per_gpu=2)
    slots[0].give_back()
    assert devices(take(2, trials_per_gpu=2)) == ["cuda:0", "cuda:0"]


def test_two_that_want_to_be_alone_wait_for_each_other(two_gpus, monkeypatch):
    monkeypatch.setenv(FAKE_GPUS, "1")
    slots = take(2, trials_per_gpu=2)
    alone = []

    def be_alone(slot):
        slot.become_alone(much_time)
        alone.append(slot)
        assert sum(p.is_alone and bool(p._locks) for p in slots) == 1
        slot.give_back()

    threads = [threading.Thread(target=be_alone, args=(slot,)) for slot in slots]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(alone) == 2
    assert len(take(2, trials_per_gpu=2)) == 2


# Memory


def format_error(error):
    try:
        try:
            raise error
        except type(error) as cause:
            raise ValueError("the fit failed") from cause
    except ValueError:
        return format_exc()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), False),
        (MemoryError("torch.OutOfMemoryError"), False),
    ],
    ids=["torch", "CUDA", "cuBLAS", "cuDNN", "assert", "processor", "MemoryError"],
)
def test_out_of_gpu_memory_is_told_from_other_errors(error, expected):
    assert is_out_of_gpu_memory(format_error(error)) == expected


def test_the_cache_of_the_gpu_that_was_used_is_emptied(two_gpus, monkeypatch):
    """Before the slot is free, and also if torch refuses to do anything."""
    used = []

    class Device:
        def __init__(self, index):
            used.append(index)

        def __enter__(self):
            with pytest.raises(TimeoutError):
                take(1)
            raise RuntimeError("CUDA error: device-side assert triggered")

        def __exit__(self, *args):
            pass

    slots = take(2)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "device", Device)
    slots[1].give_back()
    assert used == [1]
    assert devices(take(1)) == ["cuda:1"]
    emptied = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(1))
    free_memory()
    assert emptied == [1]
    assert used == [1]


GROWTH = """
import gc, sys
import numpy as np
from scipy.stats import loguniform
from sklearn.model_selection import ShuffleSplit
from sklearn_iis import CNNClassifier, IISSearchCV

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20

sizes = []

def score(estimator, X, y):
    sizes.append(resident())
    return estimator.score(X, y)

images = np.random.default_rng(0).integers(0, 255, (24, 8, 8), dtype=np.uint8)
IISSearchCV(
    CNNClassifier(n_filters=4, n_units=8, max_epochs=1, device="cpu"),
    {"learning_rate": loguniform(1e-4, 1), "n_conv_layers": [1, 2]},
    n_iter=220, cv=ShuffleSplit(1, test_size=0.5, random_state=0), scoring=score,
    refit=False, random_state=0,
).fit(images, np.arange(24) % 2)
print(len(sizes), sizes[-1] - sizes[19])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_memory_does_not_grow_over_200_evaluations():
    """It grew by 0.5 MB when tried, and by 15 MB with all networks kept."""
    output = subprocess.run(
        [sys.executable, "-c", GROWTH],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    ).stdout
    n_evaluations, growth = output.split()
    assert int(n_evaluations) == 220
    assert float(growth) < 5


# Networks


def test_parameters_that_leave_the_device_to_the_evaluation():
    cnn = CNNClassifier()
    pipe = make_pipeline(FunctionTransformer(kw_args={"device": "auto"}), cnn)
    assert find_auto_devices(cnn) == ["device"]
    assert find_auto_devices(pipe) == ["cnnclassifier__device"]
    features = make_pipeline(ImageFeatures(), LogisticRegression())
    assert find_auto_devices(features) == ["imagefeatures__device"]
    assert find_auto_devices(cnn.set_params(device="cuda")) == []
    assert find_auto_devices(LogisticRegression()) == []


def test_a_network_is_loaded_on_the_device_it_is_to_be_on():
    images = np.random.default_rng(0).random((20, 4, 4))
    cnn = CNNClassifier(max_epochs=1, device="cpu", random_state=0)
    pickled = pickle.dumps(cnn.fit(images, np.arange(20) % 2))
    assert pickle.loads(pickled).net_.device == "cpu"
    with loading_on(None):
        assert pickle.loads(pickled).net_.device == "cpu"
    with loading_on("meta"):
        loaded = pickle.loads(pickled)
    assert loaded.net_.device == "meta"
    assert all(weight.is_meta for weight in loaded.net_.module_.parameters())


# Searches


def make_search(log, *, n_jobs=4, n_iter=8, trials_per_gpu=1, cv=2, **params):
    return IISSearchCV(
        OnGpu(log=str(log), **params),
        {"rate": loguniform(1e-4, 1)},
        n_iter=n_iter,
        n_jobs=n_jobs,
        cv=cv,
        refit=False,
        random_state=0,
        trials_per_gpu=trials_per_gpu,
    )


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The results without any GPU."""
    log = tmp_path_factory.mktemp("expected") / "log"
    return make_search(log, n_jobs=1, device="cpu").fit(X, y).cv_results_


def rates(results):
    return [params["rate"] for params in results["params"]]


@pytest.mark.parametrize(
    ("backend", "trials_per_gpu"), [("loky", 1), ("loky", 2), ("threading", 4)]
)
def test_four_workers_share_two_gpus(
    backend, trials_per_gpu, gpus_of_workers, tmp_path, expected
):
    n_at_once = min(4, 2 * trials_per_gpu)
    log = tmp_path / "log"
    search = make_search(log, trials_per_gpu=trials_per_gpu, n_at_once=n_at_once)
    with joblib.parallel_config(backend):
        results = search.fit(X, y).cv_results_
    assert results["params"] == expected["params"]
    assert set(results["error"]) == {None}
    np.testing.assert_array_equal(
        results["mean_test_score"], expected["mean_test_score"]
    )
    rows = read_log(log)
    assert len(rows) == 32
    most = most_at_once(rows)
    assert set(most) == {"cuda:0", "cuda:1"}
    assert max(most.values()) <= trials_per_gpu
    # The first ones are on the GPUs at the same time.
    first = [device for what, device, *_ in rows if what == "begin"][:n_at_once]
    assert first.count("cuda:0") == first.count("cuda:1") == n_at_once // 2


def test_a_worker_that_is_killed_leaves_its_slot(gpus_of_workers, tmp_path, expected):
    killed = tmp_path / "killed"
    search = make_search(tmp_path / "log", deadly_once=str(killed))
    results = search.fit(X, y).cv_results_
    assert killed.exists()
    assert set(results["error"]) == {None}
    np.testing.assert_array_equal(
        results["mean_test_score"], expected["mean_test_score"]
    )
    assert devices(take(2)) == ["cuda:0", "cuda:1"]


def was_alone(rows, name):
    """Return whether nothing else was on the GPU during the second try of a fit."""
    steps = [(what, which) for what, _, which, _ in rows]
    begin = steps.index(("begin", name), steps.index(("end", name)))
    end = steps.index(("end", name), begin)
    device = rows[begin][1]
    before = [what for what, where, *_ in rows[:begin] if where == device]
    meanwhile = [row for row in rows[begin + 1 : end] if row[1] == device]
    return before.count("begin") == before.count("end") and not meanwhile


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_what_finds_a_full_gpu_is_tried_again_alone(
    backend, gpus_of_workers, tmp_path, expected
):
    log = tmp_path / "log"
    full_below = sorted(rates(expected))[2] * 1.0001  # three candidates
    search = make_search(log, trials_per_gpu=2, n_at_once=4, full_below=full_below)
    with joblib.parallel_config(backend):
        results = search.fit(X, y).cv_results_
    assert set(results["error"]) == {None}
    np.testing.assert_array_equal(
        results["mean_test_score"], expected["mean_test_score"]
    )
    rows = read_log(log)
    names = [name for what, _, name, _ in rows if what == "begin"]
    tried_again = {name for name in names if names.count(name) == 2}
    assert len(tried_again) == 6
    assert len(names) == 16 + 6
    assert all(was_alone(rows, name) for name in tried_again)
    assert max(most_at_once(rows).values()) <= 2


def test_what_finds_a_full_gpu_twice_fails(two_gpus, tmp_path, expected):
    full_below = min(rates(expected)) * 1.0001
    search = make_search(
        tmp_path / "log", trials_per_gpu=2, full_below=full_below, n_full=None
    )
    with (
        joblib.parallel_config("threading"),
        pytest.warns(FitFailedWarning, match="1 of 8 candidates failed"),
    ):
        results = search.fit(X, y).cv_results_
    failed = int(np.argmin(rates(expected)))
    assert "torch.OutOfMemoryError: CUDA out of memory" in results["error"][failed]
    assert [error for error in results["error"] if error is None] == [None] * 7
    others = np.arange(8) != failed
    np.testing.assert_array_equal(
        results["mean_test_score"][others], expected["mean_test_score"][others]
    )
    assert len(read_log(tmp_path / "log")) == 2 * (16 + 2)
    assert len(take(4, trials_per_gpu=2)) == 4


def test_all_find_a_full_gpu_at_once(two_gpus, tmp_path, expected, monkeypatch):
    monkeypatch.setenv(FAKE_GPUS, "1")
    search = make_search(
        tmp_path / "log", trials_per_gpu=4, n_at_once=4, full_below=np.inf
    )
    with joblib.parallel_config("threading"):
        results = search.fit(X, y).cv_results_
    np.testing.assert_array_equal(
        results["mean_test_score"], expected["mean_test_score"]
    )
    rows = read_log(tmp_path / "log")
    names = {row[2] for row in rows}
    assert len(names) == 16
    assert all(was_alone(rows, name) for name in names)


def test_no_slot_in_time(two_gpus, tmp_path):
    slots = take(2)
    search = make_search(tmp_path / "log", n_jobs=2).set_params(timeout=1.0)
    with (
        joblib.parallel_config("threading"),
        pytest.raises(TimeoutError, match="before a candidate was evaluated"),
    ):
        search.fit(X, y)
    assert not (tmp_path / "log").exists()
    for slot in slots:
        slot.give_back()
    with joblib.parallel_config("threading"):
        search.set_params(timeout=None).fit(X, y)
    assert set(search.cv_results_["error"]) == {None}


def test_locks_that_cannot_be_made_end_the_search(two_gpus, tmp_path):
    """No candidate is to blame."""
    two_gpus.touch()
    with pytest.raises(OSError, match=r"sklearn_iis-gpus"):
        make_search(tmp_path / "log", n_jobs=1).fit(X, y)
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize("device", ["cpu", "cuda:1"])
def test_a_device_of_the_users_is_left_alone(device, two_gpus, tmp_path):
    make_search(tmp_path / "log", n_jobs=1, n_iter=2, device=device).fit(X, y)
    assert {row[1] for row in read_log(tmp_path / "log")} == {device}
    assert not two_gpus.exists()


def test_the_device_is_no_part_of_what_is_found(two_gpus, tmp_path):
    search = make_search(tmp_path / "log", n_jobs=1, n_iter=2)
    search.set_params(refit=True).fit(X, y)
    assert search.best_estimator_.device == "auto"
    assert search.estimator.device == "auto"
    assert set(search.best_params_) == {"rate"}
    assert not any("device" in column for column in search.cv_results_)
    used = [row[1] for row in read_log(tmp_path / "log")]
    assert used == ["cuda:0"] * 8 + ["auto"] * 2
