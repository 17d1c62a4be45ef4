"""Schedules: the learning rate from the first step of training to the last."""

import math

from skorch.callbacks import Callback

SCHEDULES = ("constant", "cosine", "one-cycle")

# Those of torch.optim.lr_scheduler.OneCycleLR.
WARM_UP = 0.3
START_DIVISOR = 25.0
END_DIVISOR = 1e4


def relative_rate(schedule: str, step: int, n_steps: int) -> float:
    """Return the learning rate of a step as a fraction of the largest one.

    The same as `CosineAnnealingLR` and `OneCycleLR` of torch give, but computed from
    the step, so that there is no state to go on with. After the last step it stays.
    """
    if schedule == "constant":
        return 1.0
    if schedule == "cosine":
        return _descend(1.0, 0.0, min(step / n_steps, 1.0))
    start, end = 1 / START_DIVISOR, 1 / START_DIVISOR / END_DIVISOR
    peak, last = WARM_UP * n_steps - 1, n_steps - 1
    if step < peak:
        return _descend(start, 1.0, step / peak)
    peak = max(peak, 0.0)
    return _descend(1.0, end, min((step - peak) / max(last - peak, 1.0), 1.0))


def _descend(start, end, progress):
    """Return a point on half a wave of a cosine between two values."""
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


class Schedule(Callback):
    """Set the learning rate before each step.

    Epochs in which the net freezes its backbone have a schedule of their own, from its
    beginning to its end, as what is new must learn fast in few of them. The other one
    begins with the first step of the backbone.

    Parameters
    ----------
    schedule : {"constant", "cosine", "one-cycle"}

    n_epochs : int
        Length of the schedule.
    """

    def __init__(self, schedule, n_epochs):
        self.schedule = schedule
        self.n_epochs = n_epochs

    def on_train_begin(self, net, X, **kwargs):
        self.steps_per_epoch_ = len(net.get_iterator(X, training=True))

    def on_batch_begin(self, net, training, **kwargs):
        if not training:
            return
        history = net.history
        n_batches = len(history[-1]["batches"]) - 1  # that of this step is begun
        epoch, n_epochs = len(history) - 1, self.n_epochs
        n_frozen = min(net.freeze_epochs, n_epochs)
        if epoch < n_frozen:
            n_epochs = n_frozen
        else:
            epoch, n_epochs = epoch - n_frozen, n_epochs - n_frozen
        step = epoch * self.steps_per_epoch_ + n_batches
        n_steps = n_epochs * self.steps_per_epoch_
        rate = relative_rate(self.schedule, step, n_steps)
        for group in net.optimizer_.param_groups:
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * rate
