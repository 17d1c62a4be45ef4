"""Measure the most memory that a search with several workers takes.

python -m benchmarks.memory --megabytes 400 --n-jobs 4

A search of networks over images at their full size, with `n_jobs` processes, is
compared with what it cannot do without: the images, and a training for each worker. A
training is what one process takes, from its start, that fits and scores a candidate on
images that it maps from a file. Memory is that of all processes of a run, each page
shared out among those that map it (PSS): what is in memory only (anonymous and shared
memory), and the pages of files besides, libraries and the map of the images, which the
system drops when memory is short. `--engine dask` has Dask run the processes, and the
scheduler in that of the search.

It reads /proc, as Linux has it.
"""

import argparse
import datetime
import os
import platform
import time
from collections import Counter
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

SIDE = 128
KINDS = {"Pss_Anon": "memory", "Pss_Shmem": "memory", "Pss_File": "files"}


def read_memory(pid):
    """MB of a process and of those that it has started, in memory and in files."""
    process = psutil.Process(pid)
    used = Counter(memory=0, files=0)
    for each in [process, *process.children(recursive=True)]:
        try:
            lines = Path(f"/proc/{each.pid}/smaps_rollup").read_text().splitlines()
        except OSError:  # it has ended
            continue
        for line in lines:
            name, _, rest = line.partition(":")
            if name in KINDS:
                used[KINDS[name]] += int(rest.split()[0]) / 1024
    return used


def measure(function, *args):
    """The most MB that a new process takes in memory, and in files by then."""
    process = get_context("spawn").Process(target=function, args=args)
    process.start()
    peak = Counter(memory=0, files=0)
    start = time.perf_counter()
    while process.is_alive():
        try:
            peak = max(peak, read_memory(process.pid), key=lambda used: used["memory"])
        except (psutil.NoSuchProcess, ProcessLookupError):
            break
        time.sleep(0.25)  # what reads its pages holds a process up
    process.join()
    if process.exitcode:
        raise RuntimeError(f"the process ended with {process.exitcode}")
    return peak, time.perf_counter() - start


def idle():
    """The memory that a process starts with."""
    time.sleep(1)


def make_network():
    from sklearn_iis import CNNClassifier

    return CNNClassifier(
        n_conv_layers=1,
        n_filters=2,
        max_epochs=1,
        early_stopping=False,
        device="cpu",
        random_state=0,
    )


def train(path):
    """One training, and one scoring, in one process."""
    import numpy as np

    images = np.load(path, mmap_mode="r")
    half = len(images) // 2
    labels = np.arange(len(images)) % 2
    network = make_network().fit(images[np.arange(half)], labels[:half])
    scored = np.arange(half, half + half // 8)
    network.score(images[scored], labels[scored])


@contextmanager
def workers(engine, n_jobs):
    """Worker processes, which end before the context does."""
    if engine == "dask":
        from distributed import Client, LocalCluster
        from joblib import parallel_config

        with (
            LocalCluster(
                n_workers=n_jobs,
                threads_per_worker=1,
                memory_limit=0,
                host="127.0.0.1",
                dashboard_address=None,
            ) as cluster,
            Client(cluster) as client,
            parallel_config("dask", client=client),
        ):
            yield
    else:
        import loky

        yield
        # The process would otherwise wait for them to end by themselves.
        loky.get_reusable_executor().shutdown(wait=True)


def search(path, n_jobs, engine):
    import numpy as np
    from scipy.stats import loguniform
    from sklearn.pipeline import Pipeline

    from sklearn_iis import IISSearchCV, ImageResizer

    images = np.load(path)
    samples = np.arange(len(images))
    half = len(images) // 2
    split = samples[:half], samples[half : half + half // 8]
    iis = IISSearchCV(
        Pipeline([("resize", ImageResizer()), ("network", make_network())]),
        {"network__learning_rate": loguniform(1e-4, 1e-1)},
        sizes=(images.shape[1],),
        n_iter=n_jobs,
        cv=[split],
        refit=False,
        n_jobs=n_jobs,
        random_state=0,
    )
    with workers(engine, n_jobs):
        iis.fit(images, samples % 2)


def make_images(megabytes, path):
    """Noise, as a file."""
    import numpy as np

    shape = (int(megabytes * 2**20) // (SIDE * SIDE * 3), SIDE, SIDE, 3)
    images = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
    rng = np.random.default_rng(0)
    for i in range(0, len(images), 256):
        part = images[i : i + 256]
        part[:] = rng.integers(0, 256, part.shape, dtype=np.uint8)
    images.flush()


def compare(megabytes, n_jobs, *, engine="joblib"):
    """The peaks, and how much more than images and trainings the search takes."""
    with TemporaryDirectory() as folder:
        path = str(Path(folder, "images.npy"))
        make_images(megabytes, path)
        start, _ = measure(idle)
        training, _ = measure(train, path)
        whole, seconds = measure(search, path, n_jobs, engine)
    training = training["memory"] - start["memory"]
    return {
        "training": training,
        "memory": whole["memory"],
        "files": whole["files"],
        "seconds": seconds,
        "ratio": whole["memory"] / (megabytes + n_jobs * training),
        "ratio_with_files": sum(whole.values()) / (megabytes + n_jobs * training),
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megabytes", type=float, default=400)
    parser.add_argument("--n-jobs", type=int, default=4)
    parser.add_argument("--engine", choices=["joblib", "dask"], default="joblib")
    args = parser.parse_args()
    print(
        f"{datetime.date.today()}, {platform.machine()}, {os.cpu_count()} cores, "
        f"load average {os.getloadavg()[0]:.1f}"
    )
    found = compare(args.megabytes, args.n_jobs, engine=args.engine)
    print(
        f"images {args.megabytes:.0f} MB, a training {found['training']:.0f} MB; "
        f"search with n_jobs={args.n_jobs}: {found['memory']:.0f} MB in memory, "
        f"{found['files']:.0f} MB of files besides, in {found['seconds']:.0f} s\n"
        f"{found['ratio']:.2f} times images and {args.n_jobs} trainings, "
        f"{found['ratio_with_files']:.2f} times with the pages of files"
    )


if __name__ == "__main__":
    main()
