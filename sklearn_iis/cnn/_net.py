"""The skorch net that trains a module on images."""

from collections import defaultdict
from contextlib import nullcontext

import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import EpochTimer, PassthroughScoring, PrintLog
from skorch.dataset import unpack_data
from skorch.utils import TeeGenerator

from sklearn_iis.cnn._augment import Augmentation
from sklearn_iis.cnn._batches import Batches, ImageDataset
from sklearn_iis.cnn._callbacks import StopTraining, is_penalized
from sklearn_iis.cnn._loss import ImageLoss, mix
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
        it, "standardize", knows the mean of each channel.

    random : TorchRandom
        What the module and the augmentation draw from.

    module_draws : bool, default=True
        Whether the module may draw in training, as dropout does. Networks that do so
        in several threads take turns.

    augmentation : Augmentation, default=None
        Changes the training images.

    mixup : float, default=0.0
        Parameter of the beta distribution of the shares of mixed images.

    has_own_callbacks : bool, default=False
        Whether a KeyboardInterrupt of a callback ends training, not the program.

    l2 : float, default=0.0
        Weight decay of the weights; biases and batch norm are left out.

    precision : {"float32", "bfloat16"}, default="float32"
        What the module computes in. Loss and update are computed in float32.

    **kwargs
        Parameters of :class:`skorch.NeuralNetClassifier`.

    Attributes
    ----------
    stopped_ : bool
        Whether a callback has ended training.
    """

    def __init__(
        self,
        module,
        *,
        random,
        module_draws=True,
        augmentation=None,
        mixup=0.0,
        has_own_callbacks=False,
        criterion=ImageLoss,
        dataset=ImageDataset,
        iterator_train=Batches,
        iterator_valid=Batches,
        l2=0.0,
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
        self.mixup = mixup
        self.has_own_callbacks = has_own_callbacks
        self.l2 = l2
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

    def __setstate__(self, state):
        super().__setstate__(state | {"device": loading_device() or state["device"]})

    def move_to(self, device):
        """Go on on another device, to which the state of the optimizer goes as well."""
        if torch.device(self.device) == device:
            return
        self.device = str(device)
        self.module_.to(device)
        self.criterion_.to(device)
        self.optimizer_.load_state_dict(self.optimizer_.state_dict())
        self.random.move_to(device)

    def initialize_optimizer(self):
        parameters = defaultdict(list)
        for parameter in self.module_.parameters():
            decay = self.l2 if is_penalized(parameter) else 0.0
            parameters[decay].append(parameter)
        groups = [{"params": p, "weight_decay": d} for d, p in parameters.items()]
        kwargs = self.get_params_for("optimizer")
        self.optimizer_ = self.optimizer(groups, lr=self.lr, **kwargs)
        return self

    def partial_fit(self, X, y=None, classes=None, **fit_params):
        """Train without initialising first.

        Unlike skorch's, an interrupt from the keyboard is not taken for the end of
        training: it must end a search, not one candidate.
        """
        self.notify("on_train_begin", X=X, y=y)
        try:
            self.fit_loop(X, y)
        except StopTraining:
            self.stopped_ = True
        self.notify("on_train_end", X=X, y=y)
        return self

    def train_step(self, batch, **fit_params):
        """Augment a batch and take a step of gradient descent.

        Unlike skorch's, without a closure for optimizers that evaluate a step more than
        once.
        """
        batch = self._augment(*unpack_data(batch))
        self.optimizer_.zero_grad()
        with self.random.lent() if self.module_draws else nullcontext():
            self._set_training(True)
            logits = self.infer(batch[0], **fit_params)
        loss = self.get_loss(logits, batch[1], X=batch[0], training=True)
        loss.backward()
        self.notify(
            "on_grad_computed",
            named_parameters=TeeGenerator(self.get_all_learnable_params()),
            batch=batch,
            training=True,
        )
        self.optimizer_.step()
        return {"loss": loss, "y_pred": logits}

    def _augment(self, images, targets):
        """Return the images as they are trained on, on the device, and targets."""
        images, targets = images.to(self.device), targets.to(self.device)
        if self.augmentation == Augmentation() and self.mixup == 0:
            return images, targets
        with self.random.lent():
            images = self.augmentation(images, self.module_.standardize.mean)
            if self.mixup > 0:
                images, targets = mix(images, targets, self.mixup)
        return images, targets

    def notify(self, method_name, **cb_kwargs):
        try:
            super().notify(method_name, **cb_kwargs)
        except KeyboardInterrupt:
            # By it callbacks of skorch, such as EarlyStopping, end training. There are
            # such only if the user has given them.
            if self.has_own_callbacks:
                raise StopTraining from None
            raise

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
        loss = self.criterion_(y_pred, y_true.to(self.device))
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"The {'training' if training else 'validation'} loss is {loss.item()} "
                f"in epoch {len(self.history)}; a lower learning rate than {self.lr} "
                "may help."
            )
        return loss


def _softmax(logits):
    return logits.softmax(dim=-1)
