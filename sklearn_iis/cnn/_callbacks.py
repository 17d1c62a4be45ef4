"""Callbacks of the net: validation, early stopping, the monitor, the L1 penalty."""

from copy import deepcopy

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import get_scorer
from skorch.callbacks import Callback

from sklearn_iis._sklearn_compat import takes_sample_weight
from sklearn_iis.execution._monitor import current_monitor

# What is told of an epoch.
HISTORY_KEYS = "epoch", "train_loss", "valid_loss", "valid_acc", "valid_score", "dur"


class StopTraining(Exception):
    """Raised by a callback to end training; what was learned is kept."""


class PruneTraining(StopTraining):
    """Raised to end training for now; it may go on later."""


class _Predictor(ClassifierMixin, BaseEstimator):
    """A classifier for scorers, whose X are the probabilities that it predicts."""

    def __init__(self, classes):
        self.classes_ = classes

    def predict_proba(self, X):
        return X

    def predict(self, X):
        return self.classes_[X.argmax(axis=1)]


class Validation(Callback):
    """Score the predictions of each validation pass.

    Parameters
    ----------
    monitor : {"loss"}, name of a scorer of scikit-learn, or callable
        What to record as "valid_score"; of the loss, its negative.

    classes : ndarray of shape (n_classes,)
        The labels that scorers see.
    """

    def __init__(self, monitor, classes):
        self.monitor = monitor
        self.classes = classes

    def on_epoch_begin(self, net, **kwargs):
        self.predictions_ = []

    def on_batch_end(self, net, batch, training, y_pred, **kwargs):
        if not training:
            self.predictions_.append((y_pred, batch[1], batch.weights))

    def on_epoch_end(self, net, **kwargs):
        predictions, self.predictions_ = self.predictions_, []
        if not predictions:
            return
        logits, labels, weights = zip(*predictions, strict=True)
        probabilities = torch.cat(logits).softmax(dim=1).cpu().numpy()
        labels = np.concatenate(labels)
        correct = probabilities.argmax(axis=1) == labels
        net.history.record("valid_acc", float(correct.mean()))
        if self.monitor == "loss":
            score = -net.history[-1, "valid_loss"]
        else:
            score = self._score(probabilities, labels, weights)
        net.history.record("valid_score", score)

    def _score(self, probabilities, labels, weights):
        scorer = get_scorer(self.monitor)
        params = {}
        if weights[0] is not None and takes_sample_weight(scorer):
            params = {"sample_weight": np.concatenate(weights)}
        predictor = _Predictor(self.classes)
        score = float(scorer(predictor, probabilities, self.classes[labels], **params))
        if np.isnan(score):
            raise ValueError(f"monitor={self.monitor!r} gives the score nan")
        return score


class EarlyStopping(Callback):
    """Stop when the validation score no longer improves, go back to the best weights.

    Better is a higher score, or the same score with a lower loss.

    Parameters
    ----------
    patience : int or None
        Stop after so many epochs in a row without a better score; None means never.

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
        score = (net.history[-1, "valid_score"], -net.history[-1, "valid_loss"])
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
        if self.keep_last and best_weights is not None:
            self.last_weights_ = _copy_weights(net, "cpu")
            self.best_weights_ = _copy(best_weights, "cpu")
        else:
            self.best_weights_ = None
        if best_weights is not None:  # there was an epoch
            net.module_.load_state_dict(best_weights)


class Monitored(Callback):
    """Tell the monitor of the evaluation, if there is one, how training goes."""

    def on_batch_end(self, net, **kwargs):
        if (monitor := current_monitor()) is not None:
            monitor.check_time()

    def on_epoch_end(self, net, **kwargs):
        if (monitor := current_monitor()) is not None:
            history = select_history(net.history)
            if monitor.end_epoch(history, history[-1].get("valid_score")):
                raise PruneTraining


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
    return _copy(net.module_.state_dict(), device)


def _copy(state, device):
    """Return a copy of the state of a module, which may hold more than tensors."""
    return {
        name: value.to(device, copy=True)
        if isinstance(value, torch.Tensor)
        else deepcopy(value)
        for name, value in state.items()
    }


def is_penalized(parameter):
    """Whether it is a weight: biases and batch norm's parameters have one dimension."""
    return parameter.ndim > 1
