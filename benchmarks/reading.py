"""Measure how fast folders of images are read, and the most memory that takes.

python -m benchmarks.reading --images 400

Photographs made of noise of several scales, 400 x 300 pixels, as JPEG and as PNG, are
read at 32, 64 and 128 px by `ImageResizer`, by a plain loop over Pillow (open, convert,
resize, one array), and by torch's DataLoader over that, with a worker for each core.
Each run is a process of its own, begun after the files were read once, and times the
second of two calls: the first one imports what it needs. Memory is the growth of the
largest resident set of the process and its workers over that before the first call.

It reads /proc, as Linux has it.
"""

import argparse
import platform
import threading
import time
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import joblib
import numpy as np
import psutil
from PIL import Image

SHAPE = (300, 400)
SIZES = (32, 64, 128)


def make_images(folder, n_images, extension):
    """Write images of smooth noise; return their paths."""
    rng = np.random.default_rng(0)
    paths = []
    for i in range(n_images):
        image = np.zeros((*SHAPE, 3))
        for n in (4, 16, 64):
            noise = rng.integers(0, 256, (n, n, 3)).astype(np.uint8)
            image += np.asarray(Image.fromarray(noise).resize(SHAPE[::-1])) / 3
        paths.append(str(folder / f"{i}.{extension}"))
        Image.fromarray(image.astype(np.uint8)).save(paths[-1])
    return paths


def read_by_resizer(paths, size):
    from sklearn_iis import ImageResizer

    return ImageResizer(size).transform(paths)


def read_one(path, size):
    with Image.open(path) as image:
        small = image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
        return np.array(small)  # a copy, as torch wants to write to it


def read_by_pillow(paths, size):
    return np.stack([read_one(path, size) for path in paths])


class Files:
    """A data set of torch's kind."""

    def __init__(self, paths, size):
        self.paths = paths
        self.size = size

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        return read_one(self.paths[index], self.size)


def read_by_torch(paths, size):
    from torch.utils.data import DataLoader

    loader = DataLoader(
        Files(paths, size), batch_size=64, num_workers=joblib.cpu_count()
    )
    return np.concatenate([batch.numpy() for batch in loader])


READERS = {
    "ImageResizer": read_by_resizer,
    "Pillow": read_by_pillow,
    "DataLoader": read_by_torch,
}


def resident(process):
    """MB of a process and of those that it has started."""
    total = 0
    for each in [process, *process.children(recursive=True)]:
        try:
            total += each.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total / 2**20


def run(reader, paths, size, pipe):
    """Send images per second and MB."""
    process, most, done = psutil.Process(), [], threading.Event()

    def watch():
        while not done.wait(0.01):
            most.append(resident(process))

    READERS[reader](paths[:8], size)
    before = resident(process)
    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    images = READERS[reader](paths, size)
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    assert images.shape == (len(paths), size, size, 3)
    pipe.send((len(paths) / seconds, max(most, default=before) - before))


def measure(reader, paths, size):
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=run, args=(reader, paths, size, theirs))
    process.start()
    result = ours.recv()
    process.join()
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    args = parser.parse_args()
    print(f"{platform.machine()}, {joblib.cpu_count()} cores, {args.images} images")
    print(f"{'format':8}{'size':>5} {'reader':14}{'images/s':>9}{'MB':>7}")
    for extension in ("jpg", "png"):
        with TemporaryDirectory() as folder:
            paths = make_images(Path(folder), args.images, extension)
            for size in args.sizes:
                for reader in READERS:
                    rate, megabytes = measure(reader, paths, size)
                    print(
                        f"{extension:8}{size:5} {reader:14}{rate:9.0f}{megabytes:7.0f}"
                    )


if __name__ == "__main__":
    main()
