"""Training of a network by the parameters of a classifier, which may go on later."""

from collections import OrderedDict
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from math import ceil
from typing import Any, NamedTuple

import joblib
import numpy as np
import torch
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from skorch.helper import predefined_split
from torch import nn

from sklearn_iis.cnn._augment import Augmentation, call_augment
from sklearn_iis.cnn._batches import ImageDataset
from sklearn_iis.cnn._callbacks import (
    EarlyStopping,
    L1Penalty,
    Monitored,
    Validation,
)
from sklearn_iis.cnn._device import resolve_device, resolve_precision
from sklearn_iis.cnn._fine_tuned import (
    check_backbone,
    find_pixel_statistics,
    get_constructor,
    get_learning_rate,
)
from sklearn_iis.cnn._module import ConvNet, Standardize
from sklearn_iis.cnn._net import (
    GPU_PIXELS_PER_BATCH,
    PIXELS_PER_BATCH,
    ImageClassifierNet,
)
from sklearn_iis.cnn._optimizers import get_optimizer
from sklearn_iis.cnn._random import TorchRandom
from sklearn_iis.cnn._schedule import Schedule
from sklearn_iis.cnn._weights import inherit_weights

# The parameters of the network that is used without a `module`.
NETWORK_PARAMS = (
    "n_conv_layers",
    "n_filters",
    "filter_size",
    "n_hidden_layers",
    "n_units",
    "batch_norm",
    "pooling",
    "dropout",
)


@dataclass
class Images:
    """Images of known classes, and what each of them counts.

    Parameters
    ----------
    images : ndarray of shape (n_images, height, width, channels)

    labels : ndarray of shape (n_images,), int64
        Indices of classes.

    weights : ndarray of shape (n_images,), default=None
        None means that all count the same.
    """

    images: np.ndarray
    labels: np.ndarray
    weights: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.images)

    def select(self, indices: np.ndarray | None = None) -> ImageDataset:
        """Return a selection of the images."""
        return ImageDataset(self.images, self.labels, indices, self.weights)


class Parts(NamedTuple):
    """The images that a fit has trained on, and those that it has set aside."""

    labels: str  # a hash of the labels and weights of all
    train: np.ndarray  # indices
    valid: np.ndarray


@dataclass
class Training:
    """Training that has come to a halt, and all it takes to go on with it."""

    net: ImageClassifierNet
    train: np.ndarray  # indices of images
    valid: np.ndarray  # of those set aside
    origin: np.random.RandomState  # before anything was drawn
    labels: str  # a hash of all labels and weights
    params: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def begin(
        cls,
        classifier: Any,
        data: Images,
        own_valid: Images | None = None,
        origin: np.random.RandomState | None = None,
        learned: nn.Module | None = None,
        parts: Parts | None = None,
    ) -> "Training":
        """Return training that has not taken a step yet.

        Parameters
        ----------
        classifier : CNNClassifier
            The parameters, `classes_` and `image_shape_`.

        data : Images
            The images to train on, and to set part of aside.

        own_valid : Images, default=None
            Images to validate on in place of a part of the others.

        origin : RandomState, default=None
            The random state to start from; None means that of the classifier.

        learned : torch.nn.Module, default=None
            The module of a fit before, whose weights to begin with.

        parts : Parts, default=None
            The parts of the fit before, which has trained on the first of them: if the
            labels are the same, the images are set aside that were so then.
        """
        rng = check_random_state(classifier.random_state) if origin is None else origin
        origin = deepcopy(rng)
        # What counts nothing is left out: its loss is 0, but not its statistics.
        used = np.arange(len(data))
        if data.weights is not None:
            used = used[data.weights > 0]
        train, valid = used, used[:0]
        if classifier.early_stopping and own_valid is None:
            train, valid = _split(used, data.labels, classifier, rng)
            if parts is not None and parts.labels == hash_parts(data):
                _, train, valid = parts
        device = resolve_device(classifier.device)
        random = TorchRandom(rng.randint(2**31))
        images = data.select(train)
        with random.lent():
            module = make_module(classifier, images, pretrained=learned is None)
        if learned is not None:
            networks = (each.get_submodule("network") for each in (module, learned))
            own = callable(classifier.module)
            inherit_weights(*networks, must_fit=not own)
        # Of its own: others may draw from the classifier's, before training goes on.
        order = np.random.RandomState(rng.randint(2**31))
        net = make_net(classifier, module, device, order=order, random=random)
        labels = hash_labels(data, own_valid)
        return cls(net.initialize(), train, valid, origin, labels)

    def run(self, classifier: Any, data: Images, own_valid: Images | None) -> None:
        """Train until there were `max_epochs` epochs, or until it stops early."""
        self.params = classifier.get_params(deep=False)
        net = self.net
        device = resolve_device(classifier.device)
        net.move_to(device)
        net.precision = resolve_precision(classifier.precision, device)
        net.max_epochs = classifier.max_epochs - len(net.history)
        net.verbose = classifier.verbose
        if net.stopped_ or net.max_epochs == 0:
            return
        if own_valid is not None:
            net.train_split = predefined_split(own_valid.select())
        elif len(self.valid) > 0:
            net.train_split = predefined_split(data.select(self.valid))
        try:
            net.partial_fit(data.select(self.train))
        finally:
            net.train_split = None  # would keep the images


def hash_parts(data: Images) -> str:
    """Return a hash of labels and weights, whatever size the images have."""
    return joblib.hash([data.labels, data.weights])


def hash_labels(data: Images, own_valid: Images | None) -> str:
    """Return a hash of all that images are but their pixels."""
    return joblib.hash(
        [
            (each.images.shape, each.labels, each.weights)
            for each in (data, own_valid)
            if each is not None
        ]
    )


def _split(used, labels, classifier, rng):
    """Return the indices of the training images, and of those set aside."""
    counts = np.bincount(labels[used], minlength=1)
    counts = counts[counts > 0]
    n_valid = ceil(classifier.validation_fraction * len(used))
    stratified = counts.min() >= 2 and len(counts) <= n_valid <= len(used) - len(counts)
    return train_test_split(
        used,
        test_size=classifier.validation_fraction,
        stratify=labels[used] if stratified else None,
        random_state=rng,
    )


def make_module(
    classifier: Any, images: ImageDataset | None = None, *, pretrained: bool = True
) -> nn.Sequential:
    """Return the network on top of the standardisation of its images.

    Parameters
    ----------
    classifier : CNNClassifier
        The parameters, `classes_` and `image_shape_`.

    images : ImageDataset, default=None
        The training images. None means that statistics will be loaded.

    pretrained : bool, default=True
        Whether a backbone by name reads the weights it comes with. If they will be
        replaced it need not.
    """
    height, width, channels = classifier.image_shape_
    input_shape, n_classes = (channels, height, width), len(classifier.classes_)
    shapes = {"input_shape": input_shape, "n_classes": n_classes}
    network: nn.Module
    memory_format = torch.channels_last
    if classifier.module is None:
        params = {name: getattr(classifier, name) for name in NETWORK_PARAMS}
        network = ConvNet(**shapes, **params)
    else:
        params = classifier.get_params(deep=False)
        own = {k[8:]: v for k, v in params.items() if k.startswith("module__")}
        if not pretrained and isinstance(classifier.module, str):
            own["pretrained"] = False
        network = get_constructor(classifier.module)(**shapes, **own)
    if callable(classifier.module):
        memory_format = torch.contiguous_format  # `view` would fail with the other
    else:
        network = network.to(memory_format=memory_format)  # type: ignore[call-overload]
    mean, std = np.zeros(channels), np.ones(channels)
    if images is not None:
        mean, std = _find_statistics(network, images)
    standardize = Standardize(mean, std, memory_format)
    module = nn.Sequential(OrderedDict(standardize=standardize, network=network))
    if classifier.module is not None:
        _check_logits(module, input_shape, n_classes)
    return module


def _find_statistics(network, images):
    """Return mean and deviation of each channel, to standardise images by."""
    wanted = find_pixel_statistics(network)
    if wanted is None:
        return images.channel_statistics()
    white = images.pixel_range()
    n_channels = images.images.shape[-1]
    for name, values in zip(("pixel_mean", "pixel_std"), wanted, strict=True):
        if values.shape != (n_channels,):
            raise ValueError(
                f"{name} of {type(network).__name__} must hold a number for each of "
                f"the {n_channels} channels of the images, got {values.tolist()}"
            )
    mean, std = wanted
    return white * mean, white * std


def _check_logits(module, input_shape, n_classes):
    """Raise an error if a user's module does not return logits of the classes."""
    if any(parameter.is_meta for parameter in module.parameters()):
        return  # a module without memory computes nothing
    module.eval()
    with torch.no_grad():
        # Two, as some modules cannot take one.
        output = module(torch.zeros(2, *input_shape))
    module.train()
    if isinstance(output, tuple):  # with auxiliary outputs
        output = output[0]
    if not isinstance(output, torch.Tensor):
        keys = f" with the keys {list(output)}" if isinstance(output, dict) else ""
        raise TypeError(
            "module must return logits, or a tuple that begins with them, got "
            f"{type(output).__name__}{keys}"
        )
    if tuple(output.shape) != (2, n_classes):
        raise ValueError(
            f"module must return {n_classes} logits for each image, one for each "
            f"class of y: of shape {(2, n_classes)} for two images, got "
            f"{tuple(output.shape)}"
        )


def make_net(
    classifier: Any,
    module: nn.Sequential,
    device: torch.device,
    *,
    order: np.random.RandomState | None = None,
    random: TorchRandom | None = None,
) -> ImageClassifierNet:
    """Return the net that trains a module, with its callbacks, or predicts by it."""
    check_backbone(classifier, module.get_submodule("network"))
    height, width, _ = classifier.image_shape_
    on_gpu = device.type == "cuda"
    n_pixels = GPU_PIXELS_PER_BATCH if on_gpu else PIXELS_PER_BATCH
    optimizer, params = get_optimizer(classifier)
    return ImageClassifierNet(
        module,
        random=TorchRandom(0) if random is None else random,
        module_draws=classifier.module is not None or classifier.dropout > 0,
        augmentation=Augmentation(
            flip=classifier.flip,
            shift=classifier.shift,
            crop=classifier.crop,
            erase=classifier.erase,
        ),
        # Not by itself: skorch takes every module that it holds for one to train.
        augment=classifier.augment and partial(call_augment, classifier.augment),
        mixup=classifier.mixup,
        criterion__criterion=classifier.criterion,
        criterion__label_smoothing=classifier.label_smoothing,
        optimizer=optimizer,
        **{f"optimizer__{name}": value for name, value in params.items()},
        lr=get_learning_rate(classifier),
        l2=classifier.l2,
        freeze_epochs=classifier.freeze_epochs,
        backbone_rate=classifier.backbone_rate,
        batch_size=classifier.batch_size,
        iterator_train__rng=order,
        iterator_valid__batch_size=max(1, n_pixels // (height * width)),
        train_split=None,
        callbacks=_make_callbacks(classifier),
        classes=np.arange(len(classifier.classes_)),
        precision=resolve_precision(classifier.precision, device),
        device=str(device),
        verbose=classifier.verbose,
    )


def _make_callbacks(classifier):
    """Return the callbacks of the net, in the order in which they are called."""
    callbacks = []
    if classifier.schedule != "constant":
        n_epochs = classifier.schedule_epochs or classifier.max_epochs
        callbacks.append(("schedule", Schedule(classifier.schedule, n_epochs)))
    if classifier.l1 > 0:
        callbacks.append(("l1", L1Penalty(classifier.l1)))
    callbacks.append(
        ("validation", Validation(classifier.monitor, classifier.classes_))
    )
    callbacks += deepcopy(list(classifier.callbacks or ()))
    if classifier.early_stopping:
        early_stopping = EarlyStopping(
            classifier.patience, keep_last=classifier._goes_on
        )
        callbacks.append(("early_stopping", early_stopping))
    callbacks.append(("monitored", Monitored()))
    return callbacks
