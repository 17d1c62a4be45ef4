"""The skorch net that trains a module on images."""

import contextlib
from collections import defaultdict

import torch
from skorch import NeuralNetClassifier
from skorch.utils import TeeGenerator
from torch import nn

from sklearn_iis.cnn._batches import Batches, ImageDataset
from sklearn_iis.cnn._callbacks import StopTraining, is_penalized
from sklearn_iis.execution._gpus import loading_device

# Activations of a prediction grow with this, not with the number of images. A GPU needs
# more pixels at a time to be busy.
PIXELS_PER_BATCH = 2**18
GPU_PIXELS_PER_BATCH = 2**23


class ImageClassifierNet(NeuralNetClassifier):
    """skorch's classifier, fed with batches of images and run in mixed precision.

    Parameters
    ----------
    module : torch.nn.Module
        Maps images (n, channels, height, width) to logits (n, n_classes).

    rng : numpy.random.RandomState
        Shuffles the training images.

    l2 : float, default=0.0
        Weight decay of the weights; biases and batch norm are left out.

    precision : {"float32", "bfloat16"}, default="float32"
        What the module computes in. Loss and update are computed in float32.

    **kwargs
        Parameters of :class:`skorch.NeuralNetClassifier`.
    """

    def __init__(
        self,
        module,
        *,
        criterion=nn.CrossEntropyLoss,
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
            **kwargs,
        )
        self.l2 = l2
        self.precision = precision

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
        with contextlib.suppress(StopTraining):
            self.fit_loop(X, y)
        self.notify("on_train_end", X=X, y=y)
        return self

    def train_step(self, batch, **fit_params):
        """Take a step of gradient descent.

        Unlike skorch's, without a closure for optimizers that evaluate a step more than
        once: stochastic gradient descent does not.
        """
        self.optimizer_.zero_grad()
        step = self.train_step_single(batch, **fit_params)
        self.notify(
            "on_grad_computed",
            named_parameters=TeeGenerator(self.get_all_learnable_params()),
            batch=batch,
            training=True,
        )
        self.optimizer_.step()
        return step

    def _set_training(self, training=True):
        # skorch sets the mode of each submodule anew in each step.
        if self.module_.training != training:
            super()._set_training(training)

    def infer(self, x, **fit_params):
        device_type = torch.device(self.device).type
        bfloat16 = self.precision == "bfloat16"
        with torch.autocast(device_type, dtype=torch.bfloat16, enabled=bfloat16):
            return super().infer(x, **fit_params).float()

    def get_loss(self, y_pred, y_true, X=None, training=False):
        loss = super().get_loss(y_pred, y_true, X=X, training=training)
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"The {'training' if training else 'validation'} loss is {loss.item()} "
                f"in epoch {len(self.history)}; a lower learning rate than {self.lr} "
                "may help."
            )
        return loss
