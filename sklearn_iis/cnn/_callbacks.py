"""Callbacks of the net: stop in time, keep the best weights, the L1 penalty."""

from skorch.callbacks import Callback

from sklearn_iis.execution._monitor import current_monitor

# What is told of an epoch.
HISTORY_KEYS = ("epoch", "train_loss", "valid_loss", "valid_acc", "dur")


class StopTraining(Exception):
    """Raised by a callback to end training; what was learned is kept."""


class EarlyStopping(Callback):
    """Stop when the validation score no longer improves, go back to the best weights.

    Better is a higher accuracy, or the same accuracy with a lower loss.

    Parameters
    ----------
    patience : int
        Stop after so many epochs in a row without a better score.

    keep_last : bool, default=False
        Whether to keep the last weights besides, for training to go on from. What is
        kept is then on the processor: the next call may be on another device.
    """

    def __init__(self, patience, keep_last=False):
        self.patience = patience
        self.keep_last = keep_last

    def initialize(self):
        self.best_score_ = (-float("inf"), -float("inf"))
        self.n_waited_ = 0
        self.best_weights_ = None
        self.last_weights_ = None
        return self

    @property
    def stopped_(self):
        """Whether training has come to its end."""
        return self.n_waited_ == self.patience

    def on_train_begin(self, net, **kwargs):
        if self.last_weights_ is not None:
            net.module_.load_state_dict(self.last_weights_)
            self.last_weights_ = None

    def on_epoch_end(self, net, **kwargs):
        score = (net.history[-1, "valid_acc"], -net.history[-1, "valid_loss"])
        if score > self.best_score_:
            self.best_score_ = score
            self.n_waited_ = 0
            self.best_weights_ = _copy_weights(net)
            return
        self.n_waited_ += 1
        if self.stopped_:
            raise StopTraining

    def on_train_end(self, net, **kwargs):
        best_weights = self.best_weights_
        if self.keep_last:
            self.last_weights_ = _copy_weights(net, "cpu")
            self.best_weights_ = {k: w.cpu() for k, w in best_weights.items()}
        else:
            self.best_weights_ = None
        net.module_.load_state_dict(best_weights)


class Monitored(Callback):
    """Tell the monitor of the evaluation, if there is one, how training goes."""

    def on_batch_end(self, net, **kwargs):
        if (monitor := current_monitor()) is not None:
            monitor.check_time()

    def on_epoch_end(self, net, **kwargs):
        if (monitor := current_monitor()) is not None:
            history = select_history(net.history)
            if monitor.end_epoch(history, history[-1].get("valid_acc")):
                raise StopTraining

    def on_train_end(self, net, **kwargs):
        # Another callback may have ended the last epoch.
        if (monitor := current_monitor()) is not None:
            monitor.history = select_history(net.history)


class L1Penalty(Callback):
    """Add the gradient of an L1 penalty to that of the weights.

    Parameters
    ----------
    l1 : float
        Factor of the sum of absolute weights in the loss.
    """

    def __init__(self, l1):
        self.l1 = l1

    def on_grad_computed(self, net, named_parameters, **kwargs):
        for _, parameter in named_parameters:
            if is_penalized(parameter) and parameter.grad is not None:
                parameter.grad.add_(parameter.detach().sign(), alpha=self.l1)


def select_history(rows):
    """Return what is told of each epoch, of what skorch or a file knows of it."""
    return [{key: row[key] for key in HISTORY_KEYS if key in row} for row in rows]


def _copy_weights(net, device=None):
    return {
        name: w.to(device, copy=True) for name, w in net.module_.state_dict().items()
    }


def is_penalized(parameter):
    """Whether it is a weight: biases and batch norm's parameters have one dimension."""
    return parameter.ndim > 1
