"""A convolutional network as a scikit-learn classifier."""

import inspect
from contextlib import contextmanager, nullcontext
from math import isqrt
from numbers import Integral, Real
from pathlib import Path

import numpy as np
from scipy.stats import loguniform, randint, uniform
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import get_scorer_names
from sklearn.utils import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import nn

from sklearn_iis._sklearn_compat import (
    Interval,
    StrOptions,
    check_sample_weight,
    fit_context,
)
from sklearn_iis.cnn._callbacks import select_history
from sklearn_iis.cnn._device import resolve_device
from sklearn_iis.cnn._fine_tuned import get_constructor
from sklearn_iis.cnn._memory import keep_freed_memory
from sklearn_iis.cnn._model_file import explain_errors, load_model, save_model
from sklearn_iis.cnn._optimizers import list_params
from sklearn_iis.cnn._pixels import warn_of_scale
from sklearn_iis.cnn._schedule import SCHEDULES
from sklearn_iis.cnn._training import (
    Images,
    Parts,
    Training,
    hash_labels,
    hash_parts,
    make_net,
)
from sklearn_iis.images._layout import refuse_channels_first

# What may differ between two calls of `fit` if the second one goes on with training.
FREE_TO_CHANGE = {"device", "max_epochs", "random_state", "verbose", "warm_start"}

# What `fit` notes of its images before it trains on them.
NOTED = ("image_shape_", "classes_", "n_features_in_", "feature_names_in_")


class CNNClassifier(ClassifierMixin, BaseEstimator):
    """Convolutional network for images, trained by stochastic gradient descent.

    Convolution and 2x2 max-pooling, repeated, then fully connected layers, then
    softmax: the network of [1]_, with batch normalisation. By default it is trained for
    a fixed number of epochs by a one-cycle schedule [2]_, on images that are changed at
    random. :func:`~sklearn_iis.cnn.paper_classifier` gives the network and the training
    of the paper. The channels of the images are standardised by the mean and the
    standard deviation of the training images, so any scale of pixels will do.

    Parameters
    ----------
    n_conv_layers : int or "auto", default="auto"
        Number of convolutional layers. Each is followed by a max-pooling that halves
        the image; a side of one pixel is left alone. "auto" takes 4. With
        ``pooling="flatten"`` there are no more than the image can be halved: "auto"
        takes fewer then, and a larger number is refused.

    n_filters : int or array-like of shape (n_conv_layers,), default=32
        Number of filters of all convolutional layers, or of each.

    filter_size : int or array-like of shape (n_conv_layers,), default=3
        Side of the square filters in pixels.

    n_hidden_layers : int, default=1
        Number of fully connected layers before the one that gives the classes.

    n_units : int or array-like of shape (n_hidden_layers,), default=128
        Number of units of all hidden layers, or of each.

    batch_norm : bool or "conv", default=True
        Whether to normalise each channel over the batch before pooling, and each hidden
        unit before its nonlinearity [13]_. "conv" normalises the channels only, and
        False, as in the paper, neither.

    pooling : {"flatten", "average"}, default="flatten"
        What the hidden layers are given: all features, or the mean of each filter over
        the image [3]_. With "average" the network is the same for images of each size:
        no weight depends on it, nor does the number of layers.

    dropout : float, default=0.0
        Share of the features that are set to 0 in training, before each fully connected
        layer [4]_; in [0, 1).

    optimizer : {"sgd", "adamw"} or class, default="sgd"
        Stochastic gradient descent, or AdamW [5]_, or a class of :mod:`torch.optim`,
        whose further parameters are given as ``optimizer__<name>``. Those that evaluate
        a step more than once, such as LBFGS, are refused.

    learning_rate : float, default=None
        Step size, the largest of the schedule. None means 0.05, and 0.01 if `module` is
        the name of a backbone.

    momentum : float, default=0.9
        Momentum of "sgd", and the first of the `betas` of "adamw"; in [0, 1).

    nesterov : bool, default=True
        Whether the momentum of "sgd" is Nesterov's [10]_, if there is any.

    schedule : {"constant", "cosine", "one-cycle"}, default="one-cycle"
        How the learning rate changes from step to step: not at all; down to 0 on half a
        wave of a cosine [6]_; or up from a 25th for three tenths of the steps and then
        down to nearly 0 [2]_, as :class:`torch.optim.lr_scheduler.OneCycleLR` does with
        its defaults.

    schedule_epochs : int, default=None
        Length of the schedule in epochs, at least `max_epochs`. None means the same. A
        larger number ends training in the middle of the schedule, from where it may go
        on, by `warm_start`.

    batch_size : int, default=32
        Most images per training step. They are divided evenly: 50 images make two
        batches of 25, not one of 32 and one of 18.

    l1 : float, default=0.0
        Factor of the sum of the absolute weights, added to the loss that is minimised.
        Neither penalty applies to biases and to the parameters of batch normalisation.

    l2 : float, default=0.0
        Weight decay: factor of half the sum of the squared weights, likewise; "adamw"
        shrinks the weights directly [5]_.

    max_epochs : int, default=30
        Passes over the training images, or the most of them.

    flip : bool, default=False
        Whether to mirror half of the training images, left to right, in each epoch.
        Digits and letters must not be. (Krizhevsky et al. 2012 [11]_, section 4.1)

    shift : float, default=0.125
        How far training images are moved, up or down and left or right: at most by this
        fraction of a side, rounded down to pixels; the pixels of the border are
        repeated [11]_. In [0, 1).

    crop : float, default=0.0
        How much of each side of a training image is cut off: at most this fraction.
        What remains, at a random place, is scaled up to the size of the image [12]_. In
        [0, 1).

    erase : float, default=0.0
        Side of a square in each training image that is painted with the mean colour
        [7]_, as a fraction of the shorter side; in [0, 1].

    mixup : float, default=0.0
        If above 0, training images are averaged with others, and so are their losses;
        the weights are drawn from a beta distribution with these parameters [8]_.

    augment : callable, default=None
        A change of your own, made before the others: called with training images, a
        tensor of shape (n, channels, height, width) and dtype float32, of the scale of
        pixels that `fit` was given, on the device; returns such a tensor. What it draws
        from torch's global generators follows `random_state`.

    label_smoothing : float, default=0.1
        Which share of a training label is spread evenly over all classes [9]_; in
        [0, 1).

    criterion : callable, default=None
        A loss of your own in place of the cross entropy: called with logits (n,
        n_classes) and labels (n,), indices of `classes_`; returns the losses (n,) of
        the images. `label_smoothing` is then not used.

    class_weight : dict or "balanced", default=None
        What an image of each class counts, in training and in validation. "balanced"
        means in inverse proportion to the number of images of the class; None, one.

    early_stopping : bool, default=False
        Whether to validate each epoch, on a part of the images that is set aside, or on
        those given to `fit`; to stop once the score no longer gets better; and to go
        back to the best weights. Among equal scores the lower loss counts as better.

    monitor : str or callable, default="accuracy"
        The validation score: "loss", or a scorer of scikit-learn by name, such as
        "balanced_accuracy", or such a scorer itself, which is called with probabilities
        in place of images, and a classifier that predicts these. Images count by their
        weights, if the metric takes any.

    patience : int, default=5
        Number of epochs in a row without a better score after which training stops.
        None means never: `early_stopping` then only goes back to the best weights.

    validation_fraction : float, default=0.1
        Fraction of the images to set aside if `early_stopping`; stratified if there is
        an image of each class for both parts, at random otherwise.

    callbacks : list, default=None
        Callbacks of skorch's, or pairs (name, callback). A copy of each is called in
        training; one that stops training, as skorch's `EarlyStopping` does, keeps what
        was learned.

    module : str or class, default=None
        Another network in place of the one above, whose parameters from `n_conv_layers`
        to `dropout` are then not used.

        A name is that of a backbone with pretrained weights to be fine-tuned:
        "efficientnet-lite0" [16]_ (extra ``pretrained``), "timm/<name>" or
        "torchvision/<name>". On top of it are the mean of its feature maps, dropout,
        and one linear layer. Its parameters are ``module__dropout=0.2``, and
        ``module__pretrained=True``, whether to begin with these weights. Images are of
        any size, grey or of three channels, and of dtype uint8 or floats from 0 to 1:
        they are standardised as those that the weights were learned with.

        Or a :class:`torch.nn.Module` of your own. It is called
        as ``module(input_shape=(channels, height, width), n_classes=n, **parameters)``,
        is given standardised images of shape (n, channels, height, width) and dtype
        float32, and returns logits of shape (n, n_classes), or a tuple that begins with
        them. It may have a submodule named `backbone`, which the next two parameters
        are for, and attributes `pixel_mean` and `pixel_std`, a number for each channel:
        images are then standardised by these, of pixels from 0 to 1, not by their own.

    freeze_epochs : int, default=0
        In how many epochs, the first ones, only the head is trained, which is new
        [17]_: the backbone has no gradients, and stays as it is with the statistics of
        batch normalisation; its dropout is off. They have a `schedule` of their own.
        From `max_epochs` on, nothing else is trained. It holds in each training, also
        one that begins with inherited weights by ``warm_start="weights"``.

    backbone_rate : float, default=1.0
        Learning rate of the backbone as a fraction of `learning_rate`: discriminative
        fine-tuning [17]_, of two groups of layers.

    device : str, default="auto"
        Where to train and predict, for instance "cpu", "cuda:0" or "mps". "auto" takes
        "cuda" if torch sees such a GPU, and "cpu" otherwise; in a search by
        :class:`~sklearn_iis.IISSearchCV`, the GPU with the fewest evaluations on it.

    precision : {"auto", "float32", "bfloat16"}, default="auto"
        What the network computes in. "auto" takes bfloat16 where the device multiplies
        in it. Weights, losses and updates are float32 always.

    random_state : int, RandomState instance or None, default=None
        Determines the initial weights, the images set aside, the order of images, how
        they are changed, and dropout. The same int gives the same result on the same
        machine with the same number of torch threads (the environment variable
        `OMP_NUM_THREADS`), whatever other fits run in other threads; on a GPU, some of
        cuDNN's algorithms do not. torch's global random state is left as it was, and
        numpy's unless it is None.

    verbose : int, default=0
        If 1, print one line per epoch.

    warm_start : bool or "weights", default=False
        Whether `fit` goes on with the training of the last call, on the same images,
        until there were `max_epochs` epochs in all. The result is that of training
        straight through. If a schedule ends with `max_epochs`, that takes training from
        the start; it goes on with a constant rate, or if there are `schedule_epochs`.
        Weights and the state of the optimizer are kept for it by a fit with
        `warm_start=True` only. After a fit that was interrupted or failed, the next one
        starts anew. `device` may be another one in the next call.

        With "weights", `fit` begins a new training of `max_epochs` epochs, but with the
        weights and the statistics of batch normalisation that the last call has
        learned, if there was one. The images may be larger by then, as in progressive
        resizing [14]_ [15]_, and parameters other ones, as long as each weight fits:
        with ``pooling="average"``. Those of a `module` that do not fit begin anew.
        Classes and channels must be the same. Of the same labels, `early_stopping` sets
        the same images aside again. It also begins with a network that was
        loaded. `history_` is that of the new training only.

    **module__params
        Parameters of `module`, each as ``module__<name>``, and of the optimizer, each
        as ``optimizer__<name>``; also through `set_params`.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels seen in `fit`.

    image_shape_ : tuple (height, width, channels)
        Shape of the images seen in `fit`.

    net_ : skorch.NeuralNetClassifier
        The trained net; ``net_.module_`` is the torch module.

    history_ : list of dict
        One per epoch: "epoch" (from 1), "train_loss", "dur" (seconds) and, with
        `early_stopping`, "valid_loss", "valid_acc" (without weights) and "valid_score",
        that of `monitor`. Losses are without penalties.

    n_iter_ : int
        Number of epochs trained.

    n_features_in_ : int
        Number of features seen in `fit`. Defined only if X was two-dimensional.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of features seen in `fit`. Defined only if X has feature names that are
        all strings.

    References
    ----------
    .. [1] T. Hinz, N. Navarro-Guerrero, S. Magg, S. Wermter, "Speeding up the
       Hyperparameter Optimization of Deep Convolutional Neural Networks",
       International Journal of Computational Intelligence and Applications 17(2), 2018.
       :arxiv:`1807.07362`
    .. [2] L. N. Smith, N. Topin, "Super-Convergence: Very Fast Training of Neural
       Networks Using Large Learning Rates", 2017. :arxiv:`1708.07120`
    .. [3] M. Lin, Q. Chen, S. Yan, "Network In Network", section 3.2, ICLR 2014.
       :arxiv:`1312.4400`
    .. [4] N. Srivastava, G. Hinton, A. Krizhevsky, I. Sutskever, R. Salakhutdinov,
       "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", Journal of
       Machine Learning Research 15, 2014.
    .. [5] I. Loshchilov, F. Hutter, "Decoupled Weight Decay Regularization", algorithm
       2, ICLR 2019. :arxiv:`1711.05101`
    .. [6] I. Loshchilov, F. Hutter, "SGDR: Stochastic Gradient Descent with Warm
       Restarts", equation 5 without restarts, ICLR 2017. :arxiv:`1608.03983`
    .. [7] T. DeVries, G. W. Taylor, "Improved Regularization of Convolutional Neural
       Networks with Cutout", 2017. :arxiv:`1708.04552`
    .. [8] H. Zhang, M. Cisse, Y. N. Dauphin, D. Lopez-Paz, "mixup: Beyond Empirical
       Risk Minimization", ICLR 2018. :arxiv:`1710.09412`
    .. [9] C. Szegedy, V. Vanhoucke, S. Ioffe, J. Shlens, Z. Wojna, "Rethinking the
       Inception Architecture for Computer Vision", section 7, CVPR 2016.
       :arxiv:`1512.00567`
    .. [10] I. Sutskever, J. Martens, G. Dahl, G. Hinton, "On the importance of
       initialization and momentum in deep learning", equations 3 and 4, ICML 2013.
    .. [11] A. Krizhevsky, I. Sutskever, G. E. Hinton, "ImageNet Classification with
       Deep Convolutional Neural Networks", section 4.1, NeurIPS 2012.
    .. [12] C. Szegedy, W. Liu, Y. Jia et al., "Going Deeper with Convolutions", section
       6, CVPR 2015. :arxiv:`1409.4842`
    .. [13] S. Ioffe, C. Szegedy, "Batch Normalization: Accelerating Deep Network
       Training by Reducing Internal Covariate Shift", ICML 2015. :arxiv:`1502.03167`
    .. [14] M. Tan, Q. V. Le, "EfficientNetV2: Smaller Models and Faster Training",
       section 4, ICML 2021. :arxiv:`2104.00298`
    .. [15] T. Karras, T. Aila, S. Laine, J. Lehtinen, "Progressive Growing of GANs for
       Improved Quality, Stability, and Variation", ICLR 2018. :arxiv:`1710.10196`
    .. [16] M. Tan, Q. V. Le, "EfficientNet: Rethinking Model Scaling for Convolutional
       Neural Networks", ICML 2019, without what is slow on telephones.
       :arxiv:`1905.11946`
    .. [17] J. Howard, S. Ruder, "Universal Language Model Fine-tuning for Text
       Classification", sections 3.2 and 3.3, ACL 2018. :arxiv:`1801.06146`

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
        "batch_norm": ["boolean", StrOptions({"conv"})],
        "pooling": [StrOptions({"flatten", "average"})],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "optimizer": [StrOptions({"sgd", "adamw"}), type],
        "learning_rate": [Interval(Real, 0, None, closed="neither"), None],
        "momentum": [Interval(Real, 0, 1, closed="left")],
        "nesterov": ["boolean"],
        "schedule": [StrOptions(set(SCHEDULES))],
        "schedule_epochs": [Interval(Integral, 1, None, closed="left"), None],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "l1": [Interval(Real, 0, None, closed="left")],
        "l2": [Interval(Real, 0, None, closed="left")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "flip": ["boolean"],
        "shift": [Interval(Real, 0, 1, closed="left")],
        "crop": [Interval(Real, 0, 1, closed="left")],
        "erase": [Interval(Real, 0, 1, closed="both")],
        "mixup": [Interval(Real, 0, None, closed="left")],
        "augment": [None, callable],
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
        "criterion": [None, callable],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "early_stopping": ["boolean"],
        "monitor": [StrOptions({"loss", *get_scorer_names()}), callable],
        "patience": [Interval(Integral, 1, None, closed="left"), None],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "callbacks": [list, None],
        "module": [None, str, callable],
        "freeze_epochs": [Interval(Integral, 0, None, closed="left")],
        "backbone_rate": [Interval(Real, 0, None, closed="left")],
        "device": [str],
        "precision": [StrOptions({"auto", "float32", "bfloat16"})],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
        "warm_start": ["boolean", StrOptions({"weights"})],
    }

    # Parameters that change no score but by rounding.
    score_neutral_params = ("device",)

    # Prefixes of the parameters of `module` and of the optimizer.
    _prefixes = ("module__", "optimizer__")

    def __init__(
        self,
        *,
        n_conv_layers="auto",
        n_filters=32,
        filter_size=3,
        n_hidden_layers=1,
        n_units=128,
        batch_norm=True,
        pooling="flatten",
        dropout=0.0,
        optimizer="sgd",
        learning_rate=None,
        momentum=0.9,
        nesterov=True,
        schedule="one-cycle",
        schedule_epochs=None,
        batch_size=32,
        l1=0.0,
        l2=0.0,
        max_epochs=30,
        flip=False,
        shift=0.125,
        crop=0.0,
        erase=0.0,
        mixup=0.0,
        augment=None,
        label_smoothing=0.1,
        criterion=None,
        class_weight=None,
        early_stopping=False,
        monitor="accuracy",
        patience=5,
        validation_fraction=0.1,
        callbacks=None,
        module=None,
        freeze_epochs=0,
        backbone_rate=1.0,
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
        self.pooling = pooling
        self.dropout = dropout
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.nesterov = nesterov
        self.schedule = schedule
        self.schedule_epochs = schedule_epochs
        self.batch_size = batch_size
        self.l1 = l1
        self.l2 = l2
        self.max_epochs = max_epochs
        self.flip = flip
        self.shift = shift
        self.crop = crop
        self.erase = erase
        self.mixup = mixup
        self.augment = augment
        self.label_smoothing = label_smoothing
        self.criterion = criterion
        self.class_weight = class_weight
        self.early_stopping = early_stopping
        self.monitor = monitor
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.callbacks = callbacks
        self.module = module
        self.freeze_epochs = freeze_epochs
        self.backbone_rate = backbone_rate
        self.device = device
        self.precision = precision
        self.random_state = random_state
        self.verbose = verbose
        self.warm_start = warm_start
        for name in module__params:
            if not name.startswith(self._prefixes):
                raise TypeError(f"CNNClassifier has no parameter {name!r}.")
        vars(self).update(module__params)

    @property
    def warm_start_parameters(self):
        """Parameters that count what earlier calls of `fit` did if `warm_start`."""
        is_same = self.schedule == "constant" or self.schedule_epochs is not None
        # Callbacks have a state of their own, and begin anew.
        return ("max_epochs",) if is_same and not self.callbacks else ()

    def default_space(self):
        """Return hyperparameters to start a search from, see :func:`default_space`.

        Returns
        -------
        space : dict of str to frozen scipy.stats distribution or list
            Learning rate, weight decay, flips, and what makes the network larger or
            less apt to overfit: of the network of this class the number of filters, the
            dropout and, with ``pooling="average"``, the number of layers; of a backbone
            by name the rate of the backbone and the dropout of the head.

        Notes
        -----
        The learning rates hold those at which the default recipe was within 1.2 times
        its best test error on two of three data sets (0.01 to 0.3), and those of a
        constant schedule likewise (doc/training.md). Those for backbones lie around the
        default, 0.01; 0.05 was too large. "adamw" is searched around its usual 0.001.
        A class of :mod:`torch.optim` may need any rate: it is not searched.
        """
        rates = (1e-3, 3e-2) if isinstance(self.module, str) else (1e-2, 0.3)
        if self.schedule == "constant":
            rates = (1e-3, 0.1)
        if self.optimizer == "adamw":
            rates = (1e-4, 1e-2)
        space = {"l2": loguniform(1e-5, 1e-2), "flip": [False, True]}
        if isinstance(self.optimizer, str):
            space = {"learning_rate": loguniform(*rates), **space}
        if self.module is None:
            space["n_filters"] = randint(16, 65)
            space["dropout"] = uniform(0, 0.5)
            if self.pooling == "average":
                # The other network may be too deep for small images.
                space["n_conv_layers"] = randint(3, 6)
        elif isinstance(self.module, str):
            space["backbone_rate"] = loguniform(0.1, 1)
            space["module__dropout"] = uniform(0, 0.5)
        return space

    @property
    def inherits_weights(self):
        """Whether ``warm_start="weights"`` can begin on images of another size."""
        return self.module is not None or self.pooling == "average"

    @property
    def _goes_on(self):
        """Whether `fit` goes on with the training of the last call."""
        return self.warm_start not in (False, "weights")

    def get_params(self, deep=True):
        """Get the parameters, those of `module` and the optimizer among them.

        Parameters
        ----------
        deep : bool, default=True
            Whether to include those parameters of `module` and of the optimizer that
            were not set, with their defaults.

        Returns
        -------
        params : dict
        """
        params = super().get_params(deep=deep)
        if deep:
            parameters, _ = self._list_prefixed()
            params |= {
                k: p.default for k, p in parameters.items() if p.default is not p.empty
            }
        own = vars(self).items()
        params.update((k, v) for k, v in own if k.startswith(self._prefixes))
        return params

    def set_params(self, **params):
        """Set parameters; ``module__<name>`` and ``optimizer__<name>`` among them.

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
        names = [name for name in params if name.startswith(self._prefixes)]
        prefixed = {name: params.pop(name) for name in names}
        super().set_params(**params)
        self._check_prefixed(name for name in names if name not in vars(self))
        vars(self).update(prefixed)
        return self

    def _list_prefixed(self):
        """Return the parameters with a prefix, and the prefixes that take any."""
        of_module = {}
        constructor = get_constructor(self.module)
        if callable(constructor):  # neither None nor wrong, which `fit` will say
            of_module = {**inspect.signature(constructor).parameters}
            for name in ("input_shape", "n_classes"):
                of_module.pop(name, None)
        valid, takes_any = {}, []
        for prefix, parameters in zip(
            self._prefixes, (of_module, list_params(self.optimizer)), strict=True
        ):
            for name, p in parameters.items():
                if p.kind is p.VAR_KEYWORD:
                    takes_any.append(prefix)
                if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY):
                    valid[f"{prefix}{name}"] = p
        return valid, tuple(takes_any)

    def _check_prefixed(self, names):
        """Raise an error if neither the module nor the optimizer has a parameter."""
        valid, takes_any = self._list_prefixed()
        for name in names:
            if name not in valid and not name.startswith(takes_any):
                raise ValueError(
                    f"Invalid parameter {name!r}: module={self.module!r} and "
                    f"optimizer={self.optimizer!r} have {sorted(valid)}."
                )

    @fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X,
        y,
        sample_weight=None,
        *,
        X_val=None,
        y_val=None,
        sample_weight_val=None,
    ):
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

        sample_weight : array-like of shape (n_samples,), default=None
            What each image counts, in training and in validation, times the weight of
            its class. Those that count nothing are left out.

        X_val : array-like, default=None
            Images to validate on if `early_stopping`, shaped like X, in place of a part
            of X.

        y_val : array-like of shape (n_val_samples,), default=None
            Their labels.

        sample_weight_val : array-like of shape (n_val_samples,), default=None
            What each of them counts.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If the images do not fit the network, or are too few to set any aside; if
            the module has not as many logits as there are classes; if training should
            go on with other images, or with other parameters than `max_epochs`; if it
            should begin with weights that do not fit, or were learned for other
            classes or another number of channels; if `freeze_epochs` or `backbone_rate`
            need a backbone that the network has not; if there is no backbone of this
            name, or the images have other pixels or channels than it takes; if there is
            no such device.
        ImportError
            If a backbone, or the file of its weights, is not installed.
        TypeError
            If `module` is a module, not a class of one, or returns something else than
            logits.
        FloatingPointError
            If the loss is no longer finite. Training stops at that batch.
        """
        self._check_params()
        begun = getattr(self, "_training", None) if self._goes_on else None
        with self._keeping_notes():
            X, y = validate_data(
                self,
                X,
                y,
                dtype=(np.float32, np.uint8),
                allow_nd=True,
                reset=begun is None,
            )
            check_classification_targets(y)
            images = _as_images(X)
            classes, labels = np.unique(y, return_inverse=True)
            if begun is not None:
                self._check_goes_on(begun, images, classes)
            elif X.ndim > 2:
                del self.n_features_in_  # it is the height
            learned = self._find_learned(images, classes)
            self.image_shape_ = images.shape[1:]
            self.classes_ = classes
            if sample_weight is not None:
                sample_weight = _check_weights(sample_weight, X)
            of_class = self._weigh_classes(labels, sample_weight)
            data = _make_images(images, labels, sample_weight, of_class)
            own_valid = self._check_validation(
                X_val, y_val, sample_weight_val, of_class
            )
            on_cpu = resolve_device(self.device).type == "cpu"
            with keep_freed_memory() if on_cpu else nullcontext():
                training = self._begin_or_go_on(begun, data, own_valid, learned)
                # What is interrupted cannot be gone on with.
                self._training = None
                training.run(self, data, own_valid)
        self._training = training if self._goes_on else None
        self._parts = None
        if len(training.valid):
            self._parts = Parts(hash_parts(data), training.train, training.valid)
        self.net_ = training.net
        self.history_ = select_history(self.net_.history)
        self.n_iter_ = len(self.history_)
        return self

    @contextmanager
    def _keeping_notes(self):
        """Have what is noted of images be that of the last fit if this one fails."""
        before = {name: vars(self)[name] for name in NOTED if name in vars(self)}
        try:
            yield
        except BaseException:
            for name in NOTED:
                vars(self).pop(name, None)
            vars(self).update(before)
            raise

    def _check_params(self):
        """Raise an error if parameters do not fit each other."""
        if isinstance(self.module, nn.Module):
            raise TypeError(
                "module must be a class, or a function that makes a torch module, got "
                f"a module itself: {self.module!r}"
            )
        if isinstance(self.criterion, type):
            raise TypeError(
                f"criterion must be called with logits and labels, got a class: give "
                f'{self.criterion.__name__}(reduction="none"), if it is one of torch'
            )
        if self.schedule_epochs is not None and self.schedule_epochs < self.max_epochs:
            raise ValueError(
                f"schedule_epochs={self.schedule_epochs} must not be less than "
                f"max_epochs={self.max_epochs}: the rate is nearly 0 at the end"
            )
        self._check_prefixed(n for n in vars(self) if n.startswith(self._prefixes))
        resolve_device(self.device)

    def _begin_or_go_on(self, begun, data, own_valid, learned):
        """Return the training to go on with, or one that begins."""
        if begun is None:
            parts = None if learned is None else getattr(self, "_parts", None)
            return Training.begin(self, data, own_valid, learned=learned, parts=parts)
        if hash_labels(data, own_valid) != begun.labels:
            raise ValueError(
                "With warm_start=True, fit goes on with the same labels, weights and "
                "validation images. Set warm_start=False to start anew."
            )
        if self.warm_start_parameters or self.max_epochs == begun.params["max_epochs"]:
            return begun
        # Training straight through has another schedule from the start.
        return Training.begin(self, data, own_valid, begun.origin)

    def _weigh_classes(self, labels, sample_weight):
        """Return what an image of each class counts; None if all count the same."""
        if self.class_weight is None:
            return None
        used = slice(None) if sample_weight is None else sample_weight > 0
        known = np.unique(labels[used])
        weights = np.ones(len(self.classes_))
        if self.class_weight != "balanced":
            known = np.arange(len(self.classes_))
        weights[known] = compute_class_weight(
            self.class_weight,
            classes=self.classes_[known],
            y=self.classes_[labels[used]],
            sample_weight=None if sample_weight is None else sample_weight[used],
        )
        if not np.all(np.isfinite(weights) & (weights >= 0)):
            raise ValueError(
                f"class_weight must hold finite numbers from 0 up, got "
                f"{self.class_weight}"
            )
        return weights

    def _check_validation(self, X, y, sample_weight, of_class):
        """Return the images to validate on, if there are any of one's own."""
        if X is None and y is None and sample_weight is None:
            return None
        if X is None or y is None:
            raise ValueError("X_val and y_val must be given together")
        if not self.early_stopping:
            raise ValueError("X_val is used with early_stopping=True only")
        X, y = validate_data(
            self, X, y, dtype=(np.float32, np.uint8), allow_nd=True, reset=False
        )
        images = self._check_images(X)
        if len(unknown := np.setdiff1d(y, self.classes_)):
            raise ValueError(f"y_val has classes that y has not: {unknown.tolist()}")
        if sample_weight is not None:
            sample_weight = _check_weights(sample_weight, X)
        labels = np.searchsorted(self.classes_, y)
        return _make_images(images, labels, sample_weight, of_class)

    def _check_images(self, X):
        """Return images shaped as in `fit`, or raise an error."""
        images = _as_images(X)
        if images.shape[1:] != self.image_shape_:
            raise ValueError(
                f"X has images of shape {images.shape[1:]} (height, width, channels), "
                f"but CNNClassifier was fitted on {self.image_shape_}."
            )
        return images

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

        Warns
        -----
        UserWarning
            If pixels seem to be of another scale than in `fit`: from 0 to 1 after 0 to
            255, or the other way round.
        """
        check_is_fitted(self)
        X = validate_data(
            self, X, dtype=(np.float32, np.uint8), allow_nd=True, reset=False
        )
        images = self._check_images(X)
        standardize = self.net_.module_.standardize
        mean, scale = (v.cpu().numpy() for v in (standardize.mean, standardize.scale))
        warn_of_scale(images, mean, scale)
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
        underscores; `module` is to be given to :meth:`load` again, but for
        "efficientnet-lite0". Nor is the state of
        the optimizer stored, so that a fit with ``warm_start=True`` starts anew.

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

        module : str or class, default=None
            The `module` that it was trained with, if there was one, but for
            "efficientnet-lite0": a file must not choose what other code is run.
            Pretrained weights are not read. The module is made without
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
            If it is no such file, or what it holds does not fit together; or if there
            is no such device.

        See Also
        --------
        save : Save to a file.
        """
        # A device that is not there is no fault of the file.
        resolve_device(device)
        what = f"{str(path)!r} cannot be loaded as a file that CNNClassifier.save wrote"
        with explain_errors(what):
            return cls._from_file(Path(path), device, module)

    @classmethod
    def _from_file(cls, path, device, module):
        """Return the classifier of a file."""
        classifier, network = load_model(path, cls, device, module)
        net = make_net(classifier, network, resolve_device(device))
        classifier.net_ = net.initialize()
        return classifier

    def _find_learned(self, images, classes):
        """Return the module whose weights to begin with, if any; or raise an error."""
        if self.warm_start != "weights" or not hasattr(self, "net_"):
            return None
        if not np.array_equal(classes, self.classes_):
            raise ValueError(
                'With warm_start="weights", fit begins with what was learned for the '
                f"same classes: it got {classes}, and should get {self.classes_}. Set "
                "warm_start=False to start anew."
            )
        if images.shape[3] != self.image_shape_[2]:
            raise ValueError(
                'With warm_start="weights", fit begins with what was learned from '
                f"images of as many channels: it got {images.shape[3]}, and should get "
                f"{self.image_shape_[2]}. Set warm_start=False to start anew."
            )
        return self.net_.module_

    def _check_goes_on(self, training, images, classes):
        """Raise an error if training cannot go on with these images."""
        if images.shape[1:] != self.image_shape_ or not np.array_equal(
            classes, self.classes_
        ):
            raise ValueError(
                "With warm_start=True, fit goes on with the same images: it got some "
                f"of shape {images.shape[1:]} and the classes {classes}, after "
                f"{self.image_shape_} and the classes {self.classes_}. Set "
                "warm_start=False to start anew."
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

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags


def _check_weights(sample_weight, X):
    return check_sample_weight(
        sample_weight, X, dtype=np.float64, ensure_non_negative=True
    )


def _make_images(images, labels, sample_weight, of_class):
    """Return images with the product of the weights of each and of its class."""
    weights = sample_weight
    if of_class is not None:
        weights = of_class[labels] * (1.0 if weights is None else weights)
        if not weights.any():
            raise ValueError("the classes of all images have the weight 0")
    return Images(images, labels.astype(np.int64), weights)


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
        remedy = (
            "give X.transpose(0, 2, 3, 1); images that are so low with so many "
            "channels, turned, as X.transpose(0, 2, 1, 3)"
        )
        refuse_channels_first(X.shape, "X", remedy)
        return X
    raise ValueError(f"Found array with dim {X.ndim}, while images have 2 to 4.")
