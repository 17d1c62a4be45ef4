"""The skorch net that trains a module on images."""

from collections import defaultdict
from contextlib import nullcontext

import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import EpochTimer, PassthroughScoring, PrintLog
from skorch.utils import TeeGenerator
from torch import nn

from sklearn_iis.cnn._augment import Augmentation
from sklearn_iis.cnn._batches import Batches, ImageDataset
from sklearn_iis.cnn._callbacks import PruneTraining, StopTraining, is_penalized
from sklearn_iis.cnn._fine_tuned import find_backbone, frozen
from sklearn_iis.cnn._loss import ImageLoss, Targets, mix
from sklearn_iis.execution._gpus import loading_device

# Activations of a prediction grow with this, not with the number of images. A GPU needs
# more pixels at a time to be busy.
PIXELS_PER_BATCH = 2**18
GPU_PIXELS_PER_BATCH = 2**23


class ImageClassifierNet(NeuralNetClassifier):
    """skorch's classifier, fed with batches of images and run in mixed precision.

    Parameters
    ----------
    module : torch.nn.Sequential
        Maps images (n, channels, height, width) to logits (n, n_classes). The first of
        it, "standardize", knows the mean of each channel; the second, "network", may
        have a submodule "backbone".

    random : TorchRandom
        What the module and the augmentation draw from.

    module_draws : bool, default=True
        Whether the module may draw, as dropout does. Networks that do so in several
        threads take turns.

    augmentation : Augmentation, default=None
        Changes the training images.

    augment : callable, default=None
        Changes the images before, and may draw from torch's global generators.

    mixup : float, default=0.0
        Parameter of the beta distribution of the shares of mixed images.

    l2 : float, default=0.0
        Weight decay of the weights; biases and batch norm are left out.

    freeze_epochs : int, default=0
        In how many epochs, the first ones, the backbone stays as it is.

    backbone_rate : float, default=1.0
        Learning rate of the backbone, as a fraction of that of the others.

    precision : {"float32", "bfloat16"}, default="float32"
        What the module computes in. Loss and update are computed in float32.

    **kwargs
        Parameters of :class:`skorch.NeuralNetClassifier`.

    Attributes
    ----------
    stopped_ : bool
        Whether a callback has ended training for good.
    """

    def __init__(
        self,
        module,
        *,
        random,
        module_draws=True,
        augmentation=None,
        augment=None,
        mixup=0.0,
        criterion=ImageLoss,
        dataset=ImageDataset,
        iterator_train=Batches,
        iterator_valid=Batches,
        l2=0.0,
        freeze_epochs=0,
        backbone_rate=1.0,
        precision="float32",
        **kwargs,
    ):
        super().__init__(
            module,
            criterion=criterion,
            dataset=dataset,
            iterator_train=iterator_train,
            iterator_valid=iterator_valid,
            predict_nonlinearity=_softmax,
            **kwargs,
        )
        self.random = random
        self.module_draws = module_draws
        self.augmentation = augmentation or Augmentation()
        self.augment = augment
        self.mixup = mixup
        self.l2 = l2
        self.freeze_epochs = freeze_epochs
        self.backbone_rate = backbone_rate
        self.precision = precision
        self.stopped_ = False

    @property
    def _default_callbacks(self):
        return [
            ("epoch_timer", EpochTimer()),
            ("train_loss", PassthroughScoring("train_loss", on_train=True)),
            ("valid_loss", PassthroughScoring("valid_loss")),
            ("print_log", PrintLog()),
        ]

    def __getstate__(self):
        # The module that is trained is `module_`; once is enough.
        return super().__getstate__() | {"module": None}

    def __setstate__(self, state):
        super().__setstate__(state | {"device": loading_device() or state["device"]})
        self.module = self.module_

    def move_to(self, device):
        """Go on on another device, to which the state of the optimizer goes as well."""
        if torch.device(self.device) == device:
            return
        self.device = str(device)
        self.module_.to(device)
        self.criterion_.to(device)
        self.optimizer_.load_state_dict(self.optimizer_.state_dict())

    def initialize_optimizer(self):
        # By identity: tensors compare by value.
        in_backbone = {id(p) for p in self._backbone.parameters()}
        parameters = defaultdict(list)
        for parameter in self.module_.parameters():
            decay = self.l2 if is_penalized(parameter) else 0.0
            parameters[decay, id(parameter) in in_backbone].append(parameter)
        # The backbone has groups of its own at any rate: torch's fused SGD fails where
        # only part of a group has a momentum yet.
        groups = [
            {
                "params": members,
                "weight_decay": decay,
                "lr": self.lr * (self.backbone_rate if is_backbone else 1.0),
            }
            for (decay, is_backbone), members in parameters.items()
        ]
        kwargs = self.get_params_for("optimizer")
        self.optimizer_ = self.optimizer(groups, lr=self.lr, **kwargs)
        return self

    def partial_fit(self, X, y=None, classes=None, **fit_params):
        """Train without initialising first.

        Unlike skorch's, an interrupt from the keyboard is not taken for the end of
        training: it must end a search, not one candidate.
        """
        try:
            self.notify("on_train_begin", X=X, y=y)
            self.fit_loop(X, y)
        except StopTraining as stop:
            self.stopped_ = not isinstance(stop, PruneTraining)
        self.notify("on_train_end", X=X, y=y)
        return self

    def notify(self, method_name, **cb_kwargs):
        """Call a method of all callbacks; if some end training, end it afterwards."""
        getattr(self, method_name)(self, **cb_kwargs)
        stops = []
        for _, callback in self.callbacks_:
            try:
                getattr(callback, method_name)(self, **cb_kwargs)
            except StopTraining as stop:
                stops.append(stop)
            except KeyboardInterrupt:
                # By it callbacks of skorch, such as EarlyStopping, end training.
                if _is_ours(callback):
                    raise
                stops.append(StopTraining())
        if stops:
            raise min(stops, key=lambda stop: isinstance(stop, PruneTraining))

    def train_step(self, batch, **fit_params):
        """Augment a batch and take a step of gradient descent.

        Unlike skorch's, without a closure for optimizers that evaluate a step more than
        once.
        """
        images, targets = self._augment(batch)
        self.optimizer_.zero_grad()
        self._set_training(True)
        with self._drawing(), self._freezing():
            logits = self.infer(images, **fit_params)
        loss = self.get_loss(logits, targets, X=images, training=True)
        loss.backward()
        self.notify(
            "on_grad_computed",
            named_parameters=TeeGenerator(self.get_all_learnable_params()),
            batch=batch,
            training=True,
        )
        self.optimizer_.step()
        return {"loss": loss, "y_pred": logits}

    def validation_step(self, batch, **fit_params):
        """Predict a batch; with its loss."""
        self._set_training(False)
        with torch.no_grad():
            with self._drawing():
                logits = self.infer(batch[0], **fit_params)
            loss = self.get_loss(logits, Targets.of(batch, self.device))
        return {"loss": loss, "y_pred": logits}

    def _drawing(self):
        """Return a context in which the module draws from its own stream."""
        device = torch.device(self.device)
        return self.random.lent(device) if self.module_draws else nullcontext()

    @property
    def _backbone(self):
        """The part of the module that `freeze_epochs` and `backbone_rate` are for."""
        network = getattr(self.module_, "network", self.module_)
        backbone = find_backbone(network)
        return nn.Module() if backbone is None else backbone

    def _freezing(self):
        """Return a context in which the backbone stays as it is, if it should."""
        is_frozen = len(self.history) <= self.freeze_epochs
        return frozen(self._backbone) if is_frozen else nullcontext()

    def _augment(self, batch):
        """Return the images as they are trained on, on the device, and the targets."""
        device = torch.device(self.device)
        images, targets = batch[0].to(device), Targets.of(batch, device)
        if self.augment is not None:
            with self.random.lent(device):
                images = self.augment(images)
        if self.augmentation != Augmentation():
            with self.random.generator(device) as generator:
                fill = self.module_.standardize.mean
                images = self.augmentation(images, fill, generator)
        if self.mixup > 0:
            images, targets = mix(images, targets, self.mixup, self.iterator_train__rng)
        return images, targets

    def _set_training(self, training=True):
        # skorch sets the mode of each submodule anew in each step.
        if self.module_.training != training:
            super()._set_training(training)

    def infer(self, x, **fit_params):
        device_type = torch.device(self.device).type
        bfloat16 = self.precision == "bfloat16"
        with torch.autocast(device_type, dtype=torch.bfloat16, enabled=bfloat16):
            output = super().infer(x, **fit_params)
        # Also of modules that return auxiliary outputs, as skorch takes it.
        return (output[0] if isinstance(output, tuple) else output).float()

    def get_loss(self, y_pred, y_true, X=None, training=False):
        loss = self.criterion_(y_pred, y_true)
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"The {'training' if training else 'validation'} loss is {loss.item()} "
                f"in epoch {len(self.history)}; a lower learning rate than {self.lr} "
                "may help."
            )
        return loss


def _is_ours(callback):
    """Return whether a callback is none that the user has given."""
    defaults = (EpochTimer, PassthroughScoring, PrintLog)
    return isinstance(callback, defaults) or type(callback).__module__.startswith(
        "sklearn_iis."
    )


def _softmax(logits):
    return logits.softmax(dim=-1)
