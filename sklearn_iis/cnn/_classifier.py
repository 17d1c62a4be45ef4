"""A convolutional network as a scikit-learn classifier."""

import inspect
from collections import OrderedDict
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from math import ceil, isqrt
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from skorch.helper import predefined_split
from torch import nn

from sklearn_iis._sklearn_compat import Interval, StrOptions, fit_context
from sklearn_iis.cnn._batches import ImageDataset
from sklearn_iis.cnn._callbacks import (
    EarlyStopping,
    L1Penalty,
    Monitored,
    select_history,
)
from sklearn_iis.cnn._memory import keep_freed_memory
from sklearn_iis.cnn._model_file import explain_errors, load_model, save_model
from sklearn_iis.cnn._module import ConvNet, Standardize
from sklearn_iis.cnn._net import (
    GPU_PIXELS_PER_BATCH,
    PIXELS_PER_BATCH,
    ImageClassifierNet,
)

# What may differ between two calls of `fit` if the second one goes on with training.
FREE_TO_CHANGE = {"device", "max_epochs", "random_state", "verbose", "warm_start"}


class CNNClassifier(ClassifierMixin, BaseEstimator):
    """Convolutional network for images, trained by stochastic gradient descent.

    Convolution and 2x2 max-pooling, repeated, then fully connected layers, then
    softmax: the network of [1]_, with batch normalisation unless `batch_norm=False`.
    The channels of the images are standardised by the mean and the standard deviation
    of the training images, so any scale of pixels will do.

    Parameters
    ----------
    n_conv_layers : int or "auto", default="auto"
        Number of convolutional layers. Each is followed by a max-pooling that halves
        the image; a side of one pixel is left alone. "auto" takes 3, or as many as the
        image can be halved if that is less.

    n_filters : int or array-like of shape (n_conv_layers,), default=32
        Number of filters of all convolutional layers, or of each.

    filter_size : int or array-like of shape (n_conv_layers,), default=3
        Side of the square filters in pixels.

    n_hidden_layers : int, default=1
        Number of fully connected layers before the one that gives the classes.

    n_units : int or array-like of shape (n_hidden_layers,), default=128
        Number of units of all hidden layers, or of each.

    batch_norm : bool, default=True
        Whether to normalise each channel over the batch before pooling. False is the
        network of the paper.

    learning_rate : float, default=0.01
        Step size of stochastic gradient descent.

    momentum : float, default=0.9
        Its momentum, in [0, 1).

    batch_size : int, default=64
        Images a training step. They are divided evenly: 100 images make two batches of
        50, not one of 64 and one of 36.

    l1 : float, default=0.0
        Factor of the sum of the absolute weights, added to the loss that is minimised.
        Neither penalty applies to biases and to the parameters of batch normalisation.

    l2 : float, default=0.0
        Factor of half the sum of the squared weights, likewise (weight decay).

    max_epochs : int, default=100
        Most passes over the training images.

    early_stopping : bool, default=True
        Whether to set part of the images aside, to stop once the accuracy on them does
        not get better, and to go back to the best weights. Among equal accuracies the
        lower loss counts as better.

    patience : int, default=5
        Number of epochs in a row without a better score after which training stops.

    validation_fraction : float, default=0.1
        Fraction of the images to set aside if `early_stopping`; stratified if there is
        an image of each class for both parts, at random otherwise.

    module : class, default=None
        A :class:`torch.nn.Module` of your own in place of the network above, whose
        parameters from `n_conv_layers` to `batch_norm` are then not used. It is called
        as ``module(input_shape=(channels, height, width), n_classes=n, **parameters)``,
        is given standardised images of shape (n, channels, height, width) and dtype
        float32, and returns logits of shape (n, n_classes).

    device : str, default="auto"
        Where to train and predict, for instance "cpu", "cuda:0" or "mps". "auto" takes
        "cuda" if torch sees such a GPU, and "cpu" otherwise; in a search by
        :class:`~sklearn_iis.IISSearchCV`, the GPU with the fewest evaluations on it.

    precision : {"auto", "float32", "bfloat16"}, default="auto"
        What the network computes in. "auto" takes bfloat16 where the device multiplies
        in it. Weights, losses and updates are float32 always.

    random_state : int, RandomState instance or None, default=None
        Determines the initial weights, the images set aside and the order of images.
        The same int gives the same result on the same machine with the same number of
        torch threads (the environment variable `OMP_NUM_THREADS`); on a GPU, some of
        cuDNN's algorithms do not. The global random state of torch and numpy is left as
        it was.

    verbose : int, default=0
        If 1, print one line per epoch.

    warm_start : bool, default=False
        Whether `fit` goes on with the training of the last call, on the same images,
        until there were `max_epochs` epochs in all. The result is that of training
        straight through. Weights and the state of the optimizer are kept for it by a
        fit with `warm_start=True` only. After a fit that was interrupted or failed, the
        next one starts anew. `device` may be another one in the next call.

    **module__params
        Parameters of `module`, each as ``module__<name>``; also through `set_params`.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels seen in `fit`.

    image_shape_ : tuple (height, width, channels)
        Shape of the images seen in `fit`.

    net_ : skorch.NeuralNetClassifier
        The trained net; ``net_.module_`` is the torch module.

    history_ : list of dict
        One an epoch: "epoch" (from 1), "train_loss", "dur" (seconds) and, with
        `early_stopping`, "valid_loss" and "valid_acc". Losses are without penalties.

    n_iter_ : int
        Number of epochs trained.

    n_features_in_ : int
        Number of features seen in `fit`. Defined only if X was two-dimensional.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features seen in `fit`. Defined only if X has feature names that are
        all strings.

    References
    ----------
    .. [1] T. Hinz, N. Navarro-Guerrero, S. Magg, S. Wermter, "Speeding up the
       Hyperparameter Optimization of Deep Convolutional Neural Networks",
       International Journal of Computational Intelligence and Applications 17(2), 2018.
       :arxiv:`1807.07362`

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.model_selection import train_test_split
    >>> from sklearn_iis.cnn import CNNClassifier
    >>> digits = load_digits()
    >>> X_train, X_test, y_train, y_test = train_test_split(
    ...     digits.images, digits.target, random_state=0
    ... )
    >>> clf = CNNClassifier(n_conv_layers=2, max_epochs=5, random_state=0)
    >>> clf.fit(X_train, y_train).score(X_test, y_test) > 0.9
    True
    """

    _parameter_constraints = {
        "n_conv_layers": [
            Interval(Integral, 0, None, closed="left"),
            StrOptions({"auto"}),
        ],
        "n_filters": [Interval(Integral, 1, None, closed="left"), "array-like"],
        "filter_size": [Interval(Integral, 1, None, closed="left"), "array-like"],
        "n_hidden_layers": [Interval(Integral, 0, None, closed="left")],
        "n_units": [Interval(Integral, 1, None, closed="left"), "array-like"],
        "batch_norm": ["boolean"],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "momentum": [Interval(Real, 0, 1, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "l1": [Interval(Real, 0, None, closed="left")],
        "l2": [Interval(Real, 0, None, closed="left")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "early_stopping": ["boolean"],
        "patience": [Interval(Integral, 1, None, closed="left")],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "module": [None, callable],
        "device": [str],
        "precision": [StrOptions({"auto", "float32", "bfloat16"})],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
    }

    # Parameters that change no score but by rounding.
    score_neutral_params = ("device",)

    # Parameters that count what earlier calls of `fit` did if `warm_start`.
    warm_start_parameters = ("max_epochs",)

    def __init__(
        self,
        *,
        n_conv_layers="auto",
        n_filters=32,
        filter_size=3,
        n_hidden_layers=1,
        n_units=128,
        batch_norm=True,
        learning_rate=0.01,
        momentum=0.9,
        batch_size=64,
        l1=0.0,
        l2=0.0,
        max_epochs=100,
        early_stopping=True,
        patience=5,
        validation_fraction=0.1,
        module=None,
        device="auto",
        precision="auto",
        random_state=None,
        verbose=0,
        warm_start=False,
        **module__params,
    ):
        self.n_conv_layers = n_conv_layers
        self.n_filters = n_filters
        self.filter_size = filter_size
        self.n_hidden_layers = n_hidden_layers
        self.n_units = n_units
        self.batch_norm = batch_norm
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.batch_size = batch_size
        self.l1 = l1
        self.l2 = l2
        self.max_epochs = max_epochs
        self.early_stopping = early_stopping
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.module = module
        self.device = device
        self.precision = precision
        self.random_state = random_state
        self.verbose = verbose
        self.warm_start = warm_start
        for name in module__params:
            if not name.startswith("module__"):
                raise TypeError(f"CNNClassifier has no parameter {name!r}.")
        vars(self).update(module__params)

    def get_params(self, deep=True):
        """Get the parameters, those of `module` among them.

        Parameters
        ----------
        deep : bool, default=True
            Whether to include those parameters of `module` that were not set, with
            their defaults.

        Returns
        -------
        params : dict
        """
        params = super().get_params(deep=deep)
        if deep and callable(self.module):
            parameters, _ = _module_parameters(self.module)
            params |= {
                k: p.default for k, p in parameters.items() if p.default is not p.empty
            }
        params.update((k, v) for k, v in vars(self).items() if k.startswith("module__"))
        return params

    def set_params(self, **params):
        """Set parameters; those of `module` as ``module__<name>``.

        Parameters
        ----------
        **params : dict

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If there is no such parameter.
        """
        names = [name for name in params if name.startswith("module__")]
        module_params = {name: params.pop(name) for name in names}
        super().set_params(**params)
        valid, takes_any = _module_parameters(self.module)
        for name in module_params:
            if not (takes_any or name in valid or name in vars(self)):
                raise ValueError(
                    f"Invalid parameter {name!r}: module={self.module!r} has "
                    f"{sorted(valid)}."
                )
        vars(self).update(module_params)
        return self

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y):
        """Train the network.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width), \
                (n_samples, height, width, channels) or (n_samples, n_features)
            Images of dtype uint8 or float. Rows of features are taken for grey images,
            row after row of pixels: square ones if n_features is a square number, one
            pixel high otherwise.

        y : array-like of shape (n_samples,)
            Labels of any kind.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If the images do not fit the network, or are too few to set any aside; if
            training should go on with other images, or with other parameters than
            `max_epochs`.
        TypeError
            If `module` is a module, not a class of one.
        FloatingPointError
            If the loss is no longer finite. Training stops at that batch.
        """
        if isinstance(self.module, nn.Module):
            raise TypeError(
                "module must be a class, or a function that makes a torch module, got "
                f"a module itself: {self.module!r}"
            )
        X, y = validate_data(self, X, y, dtype=(np.float32, np.uint8), allow_nd=True)
        check_classification_targets(y)
        if X.ndim > 2:
            del self.n_features_in_  # it is the height
        images = _as_images(X)
        classes, labels = np.unique(y, return_inverse=True)
        labels = labels.astype(np.int64)
        training = getattr(self, "_training", None) if self.warm_start else None
        if training is not None:
            self._check_goes_on(training, images, classes)
        self.image_shape_ = images.shape[1:]
        self.classes_ = classes
        device = _resolve_device(self.device)
        kept = keep_freed_memory() if device.type == "cpu" else nullcontext()
        with _torch_generators(device) as generators, kept:
            if training is None:
                training = self._start(images, labels, device, generators)
            else:
                training.move_to(device, generators)
                training.net.precision = _resolve_precision(self.precision, device)
            # What is interrupted cannot be gone on with.
            self._training = None
            self._train(training, images, labels)
            training.states = [generator.get_state() for generator in generators]
        self._training = training if self.warm_start else None
        self.net_ = training.net
        self.history_ = select_history(self.net_.history)
        self.n_iter_ = len(self.history_)
        return self

    def predict_proba(self, X):
        """Predict the probability of each class.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width), \
                (n_samples, height, width, channels) or (n_samples, n_features)
            Images shaped as in `fit`. They are processed in batches.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes), dtype float32
            Classes in the order of `classes_`.

        Raises
        ------
        ValueError
            If the images are not shaped as those seen in `fit`.
        """
        check_is_fitted(self)
        X = validate_data(
            self, X, dtype=(np.float32, np.uint8), allow_nd=True, reset=False
        )
        images = _as_images(X)
        if images.shape[1:] != self.image_shape_:
            raise ValueError(
                f"X has images of shape {images.shape[1:]} (height, width, channels), "
                f"but CNNClassifier was fitted on {self.image_shape_}."
            )
        return self.net_.predict_proba(images)

    def predict(self, X):
        """Predict the most probable class.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width), \
                (n_samples, height, width, channels) or (n_samples, n_features)
            Images shaped as in `fit`. They are processed in batches.

        Returns
        -------
        y : ndarray of shape (n_samples,)

        Raises
        ------
        ValueError
            If the images are not shaped as those seen in `fit`.
        """
        best = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]

    def save(self, path):
        """Save the trained network to a file that holds no code.

        Weights are stored by safetensors, parameters and classes as JSON among its
        metadata. A parameter that is not made of numbers, strings, bools, None, lists,
        tuples and dicts, such as a class or a `random_state` that is no int, is not
        stored and comes back as its default, with those named after it by two
        underscores; `module` is to be given to :meth:`load` again. Nor is the state of
        the optimizer stored, so that a fit with `warm_start` starts anew.

        The file is loaded before it takes its place, and its predictions are compared.

        Parameters
        ----------
        path : str or path-like
            The file. It is replaced if it exists, once the new one is complete.

        Raises
        ------
        NotFittedError
            If the network is not trained.
        TypeError
            If a label is neither a number, a string, a bool nor a date, or a parameter
            of `module` cannot be stored.
        ValueError
            If the file could not be loaded again, or would predict something else: if
            parameters were changed since `fit`, for instance, or if the module draws
            tensors in its constructor that are no persistent buffers.
        OSError
            If the file cannot be written.

        See Also
        --------
        load : Load such a file.

        Examples
        --------
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from sklearn.datasets import load_digits
        >>> from sklearn_iis.cnn import CNNClassifier
        >>> X, y = load_digits(return_X_y=True)
        >>> clf = CNNClassifier(max_epochs=1, random_state=0).fit(X, y)
        >>> with TemporaryDirectory() as folder:
        ...     clf.save(Path(folder) / "digits.safetensors")
        ...     loaded = CNNClassifier.load(Path(folder) / "digits.safetensors")
        >>> bool((loaded.predict_proba(X) == clf.predict_proba(X)).all())
        True
        """
        check_is_fitted(self)
        save_model(Path(path), self)

    @classmethod
    def load(cls, path, *, device="auto", module=None):
        """Load a trained network that was saved by :meth:`save`.

        Nothing in the file is run, whoever has written it. The memory that it takes
        grows with the size of the file, whatever sizes the file claims.

        Parameters
        ----------
        path : str or path-like
            The file.

        device : str, default="auto"
            Where to predict, wherever it was trained; see :class:`CNNClassifier`.

        module : class, default=None
            The `module` that it was trained with, if there was one. It is made without
            memory first, on torch's "meta" device, to compare its shapes with the file;
            one that cannot be made there, as it looks at its weights, is made at once,
            as large as the file claims.

        Returns
        -------
        classifier : CNNClassifier
            The same predictions as of the one that was saved, on the same device.

        Raises
        ------
        OSError
            If there is no such file, or it cannot be read.
        ValueError
            If it is no such file, or what it holds does not fit together.
        RuntimeError
            If there is no such device.

        See Also
        --------
        save : Save to a file.
        """
        # A device that is not there is no fault of the file.
        torch.empty(0, device=_resolve_device(device))
        what = f"{str(path)!r} cannot be loaded as a file that CNNClassifier.save wrote"
        with explain_errors(what):
            return cls._from_file(Path(path), device, module)

    @classmethod
    def _from_file(cls, path, device, module):
        """Return the classifier of a file."""
        classifier, network = load_model(path, cls, device, module)
        net = classifier._make_net(network, _resolve_device(device), None)
        classifier.net_ = net.initialize()
        return classifier

    def _check_goes_on(self, training, images, classes):
        """Raise an error if training cannot go on with these images."""
        n_images = len(training.train) + len(training.valid)
        if (
            len(images) != n_images
            or images.shape[1:] != self.image_shape_
            or not np.array_equal(classes, self.classes_)
        ):
            raise ValueError(
                f"With warm_start=True, fit goes on with the same images: it got "
                f"{len(images)} of shape {images.shape[1:]} and the classes {classes}, "
                f"after {n_images} of shape {self.image_shape_} and the classes "
                f"{self.classes_}. Set warm_start=False to start anew."
            )
        for name, value in self.get_params(deep=False).items():
            before = training.params.get(name)
            if name not in FREE_TO_CHANGE and not np.array_equal(value, before):
                raise ValueError(
                    "With warm_start=True, fit goes on with the same parameters but "
                    f"for max_epochs: {name} was {before!r} and is {value!r}. Set "
                    "warm_start=False to start anew."
                )
        if self.max_epochs < training.params["max_epochs"]:
            raise ValueError(
                f"max_epochs={self.max_epochs} must not be less than the "
                f"{training.params['max_epochs']} of the last fit if warm_start=True."
            )

    def _start(self, images, labels, device, generators):
        """Return training that has not taken a step yet."""
        rng = check_random_state(self.random_state)
        train, valid = self._split(labels, rng)
        seed = rng.randint(2**31)
        for generator in generators:
            generator.manual_seed(seed)
        statistics = ImageDataset(images, labels, train).channel_statistics()
        net = self._make_net(self._make_module(*statistics), device, rng)
        return _Training(net.initialize(), train, valid)

    def _train(self, training, images, labels):
        """Train until there were `max_epochs` epochs, or until it stops early."""
        training.params = self.get_params(deep=False)
        net = training.net
        net.max_epochs = self.max_epochs - len(net.history)
        net.verbose = self.verbose
        stopped = any(getattr(c, "stopped_", False) for _, c in net.callbacks_)
        if stopped or net.max_epochs == 0:
            return
        if self.early_stopping:
            valid = ImageDataset(images, labels, training.valid)
            net.train_split = predefined_split(valid)
        net.partial_fit(ImageDataset(images, labels, training.train))
        net.train_split = None  # would keep the images

    def _split(self, labels, rng):
        """Return the indices of the training images, and of those set aside."""
        n_images, n_classes = len(labels), len(self.classes_)
        if not self.early_stopping:
            return np.arange(n_images), np.arange(0)
        n_valid = ceil(self.validation_fraction * n_images)
        stratified = (
            np.bincount(labels).min() >= 2
            and n_classes <= n_valid <= n_images - n_classes
        )
        return train_test_split(
            np.arange(n_images),
            test_size=self.validation_fraction,
            stratify=labels if stratified else None,
            random_state=rng,
        )

    def _make_module(self, mean, std):
        """Return the network on top of the standardisation of its images."""
        height, width, channels = self.image_shape_
        shapes = {
            "input_shape": (channels, height, width),
            "n_classes": len(self.classes_),
        }
        if self.module is None:
            network = ConvNet(
                **shapes,
                n_conv_layers=self.n_conv_layers,
                n_filters=self.n_filters,
                filter_size=self.filter_size,
                n_hidden_layers=self.n_hidden_layers,
                n_units=self.n_units,
                batch_norm=self.batch_norm,
            ).to(memory_format=torch.channels_last)
            memory_format = torch.channels_last
        else:
            params = self.get_params(deep=False)
            own = {k[8:]: v for k, v in params.items() if k.startswith("module__")}
            network = self.module(**shapes, **own)
            memory_format = torch.contiguous_format  # `view` would fail with the other
        standardize = Standardize(mean, std, memory_format)
        return nn.Sequential(OrderedDict(standardize=standardize, network=network))

    def _make_net(self, module, device, rng):
        """Return the net that will train a module, with its callbacks."""
        callbacks = []
        if self.l1 > 0:
            callbacks.append(("l1", L1Penalty(self.l1)))
        if self.early_stopping:
            early_stopping = EarlyStopping(self.patience, keep_last=self.warm_start)
            callbacks.append(("early_stopping", early_stopping))
        # After early stopping, which is to know of all epochs.
        callbacks.append(("monitored", Monitored()))
        height, width, _ = self.image_shape_
        on_gpu = device.type == "cuda"
        n_pixels = GPU_PIXELS_PER_BATCH if on_gpu else PIXELS_PER_BATCH
        return ImageClassifierNet(
            module,
            optimizer=torch.optim.SGD,
            optimizer__momentum=self.momentum,
            optimizer__fused=True,
            lr=self.learning_rate,
            l2=self.l2,
            batch_size=self.batch_size,
            iterator_train__rng=rng,
            iterator_valid__batch_size=max(1, n_pixels // (height * width)),
            train_split=None,
            callbacks=callbacks,
            classes=np.arange(len(self.classes_)),
            precision=_resolve_precision(self.precision, device),
            device=str(device),
            verbose=self.verbose,
        )

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags


def _as_images(X):
    """Return a view of X of shape (n_images, height, width, channels)."""
    if X.ndim == 2:
        n_images, n_features = X.shape
        side = isqrt(n_features)
        height, width = (side, side) if side**2 == n_features else (1, n_features)
        return X.reshape(n_images, height, width, 1)
    if X.ndim == 3:
        return X[..., np.newaxis]
    if X.ndim == 4:
        return X
    raise ValueError(f"Found array with dim {X.ndim}, while images have 2 to 4.")


def _module_parameters(module):
    """Return the parameters of a user's module, prefixed, and whether it takes any."""
    if not callable(module):  # None; or wrong, which `fit` will say
        return {}, False
    parameters = inspect.signature(module).parameters
    named = {
        f"module__{name}": parameter
        for name, parameter in parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        and name not in ("input_shape", "n_classes")
    }
    return named, any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _resolve_device(device):
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


def _resolve_precision(precision, device):
    """Return "bfloat16" for "auto" where the device multiplies in it."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities = torch.cpu.get_capabilities()
        bfloat16 = any(capabilities.get(k) for k in ("avx512_bf16", "amx_bf16"))
    return "bfloat16" if bfloat16 else "float32"


@dataclass
class _Training:
    """Training that has come to a halt, and all it takes to go on with it."""

    net: ImageClassifierNet
    train: np.ndarray  # indices of images
    valid: np.ndarray
    params: dict[str, Any] = field(default_factory=dict)
    states: list[torch.Tensor] = field(default_factory=list)  # of torch's generators

    def move_to(self, device, generators):
        """Go on on a device, perhaps another one, with its generators."""
        self.net.move_to(device)
        for generator, state in zip(generators, self.states, strict=False):
            generator.set_state(state)
        for generator in generators[len(self.states) :]:  # a GPU after the processor
            generator.manual_seed(generators[0].initial_seed())


@contextmanager
def _torch_generators(device):
    """Lend torch's random generators for a device, and put back their states."""
    generators = [torch.default_generator]
    gpus = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        for gpu in gpus:
            index = torch.cuda.current_device() if gpu.index is None else gpu.index
            generators.append(torch.cuda.default_generators[index])
        # torch.manual_seed would reach every GPU, also those left alone here.
        yield generators
