"""Time an epoch of CNNClassifier against a bare torch loop and against skorch.

All train the same network (three convolutional layers of 32 filters, batch norm,
128 hidden units) on the same images in batches of 64, by SGD with momentum:

- "CNNClassifier", with its defaults, but without changes of the images;
- "bare loop", written the fastest way we know: uint8 images sliced from one array,
  channels_last, bfloat16 where CNNClassifier takes it, memory that is freed kept, no
  bookkeeping but the loss;
- both of them "augmented", by flips, shifts and crops, for which the bare loop calls
  the same function;
- "skorch", its NeuralNetClassifier with its defaults: standardised float32 images in
  contiguous layout from a DataLoader.

Each has a process of its own, and they take turns epoch by epoch in random order, so
that whatever else the machine does hits all alike. Medians are compared. With
--validation, each also makes a validation pass over a tenth of the images after each
epoch, and the nets do all that they do with it: score, early stopping, best weights.

    python benchmarks/training.py --sizes 32 64 128 --repeats 15
"""

import argparse
import datetime
import multiprocessing
import pathlib
import platform
import time
from contextlib import nullcontext
from functools import partial

import numpy as np
import skorch
import torch
from PIL import Image
from skorch.helper import predefined_split
from torch import nn
from torch.nn import functional as F

from sklearn_iis.cnn import CNNClassifier
from sklearn_iis.cnn._augment import Augmentation
from sklearn_iis.cnn._batches import ImageDataset
from sklearn_iis.cnn._device import resolve_precision
from sklearn_iis.cnn._memory import keep_freed_memory
from sklearn_iis.cnn._module import ConvNet, Standardize
from sklearn_iis.cnn._net import PIXELS_PER_BATCH

N_CLASSES = 12
BATCH_SIZE = 64
LEARNING_RATE = 0.01
MOMENTUM = 0.9
UNCHANGED = {"shift": 0.0}
AUGMENTED = {"flip": True, "shift": 0.125, "crop": 0.2}


def load_images(folder, size, n_images):
    """Return random images, or those of an image folder, over and over if too few."""
    if folder is None:
        rng = np.random.default_rng(0)
        return rng.integers(0, 256, (n_images, size, size, 3), np.uint8)
    paths = sorted(p for p in folder.rglob("*") if p.suffix in {".jpg", ".png"})
    images = [
        np.asarray(Image.open(path).convert("RGB").resize((size, size)))
        for path in paths[:n_images]
    ]
    return np.resize(np.stack(images), (n_images, size, size, 3))


def cnn_classifier(train, valid, changes=UNCHANGED):
    """Return a function that trains CNNClassifier's net for an epoch."""
    clf = CNNClassifier(
        n_conv_layers=3,
        batch_size=BATCH_SIZE,
        learning_rate=LEARNING_RATE,
        momentum=MOMENTUM,
        max_epochs=1,
        device="cpu",
        early_stopping=valid is not None,
        patience=None,
        random_state=0,
        **changes,
    ).fit(train.images, train.labels)
    net = clf.net_
    net.train_split = None if valid is None else predefined_split(valid)
    net.notify("on_train_begin", X=train, y=None)
    return lambda: net.fit_loop(train, epochs=1)


def bare_loop(train, valid, changes=UNCHANGED):
    """Return a function that trains the same network by nothing but torch."""
    augment = Augmentation(**changes)
    size = train.images.shape[1]
    bfloat16 = resolve_precision("auto", torch.device("cpu")) == "bfloat16"
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=bfloat16)
    network = ConvNet((3, size, size), N_CLASSES, n_conv_layers=3)
    model = nn.Sequential(Standardize(*train.channel_statistics()), network)
    model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        model.parameters(), LEARNING_RATE, MOMENTUM, nesterov=True, fused=True
    )

    def forward(dataset, selected):
        indices = dataset.indices[selected]
        images = torch.from_numpy(dataset.images[indices]).permute(0, 3, 1, 2)
        labels = torch.from_numpy(dataset.labels[indices])
        if model.training and changes is not UNCHANGED:
            images = augment(images, model[0].mean)
        with autocast:
            logits = model(images)
        return F.cross_entropy(logits.float(), labels, reduction="sum")

    def epoch():
        model.train()
        loss_sum = torch.zeros(())
        order = np.random.default_rng().permutation(len(train))
        for selected in np.array_split(order, -(-len(order) // BATCH_SIZE)):
            optimizer.zero_grad()
            loss = forward(train, selected) / len(selected)
            loss.backward()
            optimizer.step()
            loss_sum += loss.detach() * len(selected)
        if valid is not None:
            model.eval()
            step = PIXELS_PER_BATCH // size**2
            with torch.no_grad():
                for start in range(0, len(valid), step):
                    stop = min(start + step, len(valid))
                    loss_sum += forward(valid, np.arange(start, stop))
        return loss_sum.item()

    return epoch


def skorch_defaults(train, valid):
    """Return a function that trains skorch's net, as it is, for an epoch."""
    size = train.images.shape[1]
    mean, std = train.channel_statistics()

    def standardized(dataset):
        images = (dataset.images[dataset.indices] - mean) / std
        images = images.transpose(0, 3, 1, 2).astype(np.float32, order="C")
        return images, dataset.labels[dataset.indices]

    split = None
    if valid is not None:
        split = predefined_split(skorch.dataset.Dataset(*standardized(valid)))
    net = skorch.NeuralNetClassifier(
        PlainNet(size),
        criterion=nn.CrossEntropyLoss,
        lr=LEARNING_RATE,
        optimizer__momentum=MOMENTUM,
        batch_size=BATCH_SIZE,
        iterator_train__shuffle=True,
        train_split=split,
        classes=range(N_CLASSES),
        verbose=0,
    ).initialize()
    images, labels = standardized(train)
    net.notify("on_train_begin", X=images, y=labels)
    return lambda: net.fit_loop(images, labels, epochs=1)


class PlainNet(nn.Sequential):
    """The network as one would write it down."""

    def __init__(self, size):
        layers = []
        for channels in (3, 32, 32):
            layers += [
                nn.Conv2d(channels, 32, 3, padding="same"),
                nn.BatchNorm2d(32),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ]
        layers += [nn.Flatten(), nn.Linear(32 * (size // 8) ** 2, 128), nn.ReLU()]
        super().__init__(*layers, nn.Linear(128, N_CLASSES))


CONTESTANTS = {
    "CNNClassifier": cnn_classifier,
    "bare loop": bare_loop,
    "CNNClassifier, augmented": partial(cnn_classifier, changes=AUGMENTED),
    "bare loop, augmented": partial(bare_loop, changes=AUGMENTED),
    "skorch": skorch_defaults,
}
# What is divided by what.
RATIOS = {
    "of the bare loop": ("CNNClassifier", "bare loop"),
    "augmented": ("CNNClassifier, augmented", "bare loop, augmented"),
    "augmentation": ("CNNClassifier, augmented", "CNNClassifier"),
    "skorch takes": ("skorch", "CNNClassifier"),
}


def compare(images, repeats, validation):
    """Return the seconds of each epoch of each contestant."""
    n_images = len(images)
    labels = np.random.default_rng(0).integers(0, N_CLASSES, n_images)
    n_valid = n_images // 10 if validation else 0
    train = ImageDataset(images, labels, np.arange(n_valid, n_images))
    valid = ImageDataset(images, labels, np.arange(n_valid)) if validation else None
    pipes, processes = {}, []
    context = multiprocessing.get_context("spawn")
    for name in CONTESTANTS:
        pipes[name], end = context.Pipe()
        processes.append(context.Process(target=contestant, args=(name, end)))
        processes[-1].start()
        pipes[name].send((train, valid))
    seconds = {name: [] for name in CONTESTANTS}
    rng = np.random.default_rng(0)
    for repeat in range(repeats + 1):
        for name in rng.permutation(list(CONTESTANTS)):
            pipes[name].send("epoch")
            elapsed = pipes[name].recv()
            if repeat > 0:  # the first warms up
                seconds[name].append(elapsed)
    for pipe in pipes.values():
        pipe.send("end")
    for process in processes:
        process.join()
    return seconds


def contestant(name, pipe):
    """Train an epoch whenever asked to, and send how many seconds it took."""
    epoch = CONTESTANTS[name](*pipe.recv())
    # The fastest way we know keeps freed memory, and so does CNNClassifier.fit.
    with nullcontext() if name == "skorch" else keep_freed_memory():
        while pipe.recv() == "epoch":
            start = time.perf_counter()
            epoch()
            pipe.send(time.perf_counter() - start)


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 64, 128])
    parser.add_argument("--images", type=int, default=1024, help="how many")
    parser.add_argument("--repeats", type=int, default=11, help="epochs of each")
    parser.add_argument("--folder", type=pathlib.Path, help="of jpg or png images")
    parser.add_argument("--validation", action="store_true")
    return parser.parse_args()


def main():
    args = parse_arguments()
    print(
        f"{datetime.date.today()}, {platform.machine()}, torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads, {args.images} images, "
        f"{'with' if args.validation else 'without'} validation, "
        f"median of {args.repeats} epochs"
    )
    columns = [*CONTESTANTS, *RATIOS]
    print("| px | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for size in args.sizes:
        images = load_images(args.folder, size, args.images)
        seconds = compare(images, args.repeats, args.validation)
        medians = {name: np.median(values) for name, values in seconds.items()}
        cells = [f"{size}", *(f"{median:.3f} s" for median in medians.values())]
        cells += [f"{medians[a] / medians[b]:.3f}" for a, b in RATIOS.values()]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
