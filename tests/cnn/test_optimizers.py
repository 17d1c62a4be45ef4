"""Optimizers: steps against the formulas, parameters, and what does not go together."""

import numpy as np
import pytest
import torch
from sklearn.base import clone

from sklearn_iis.cnn import CNNClassifier, paper_classifier

X = np.random.default_rng(0).normal(size=(12, 4, 4)).astype(np.float32)
Y = np.arange(12) % 2


def fit(**params):
    """Fit one step without changes of the images."""
    defaults = {"max_epochs": 1, "shift": 0, "schedule": "constant", "random_state": 0}
    return CNNClassifier(n_filters=2, **(defaults | params)).fit(X, Y)


def test_sgd_takes_the_momentum_of_nesterov():
    clf = fit()
    assert isinstance(clf.net_.optimizer_, torch.optim.SGD)
    (group, *_) = clf.net_.optimizer_.param_groups
    assert group["momentum"] == 0.9
    assert group["nesterov"]
    for params in ({"momentum": 0.0}, {"nesterov": False}):
        assert not fit(**params).net_.optimizer_.param_groups[0]["nesterov"]


def test_weight_decay_of_adamw_is_decoupled():
    """Weights shrink by rate times l2, whatever the gradient; nothing else does."""
    settings = {"optimizer": "adamw", "learning_rate": 0.01}
    without, with_decay = fit(**settings), fit(**settings, l2=0.5)
    start = fit(optimizer="sgd", learning_rate=1e-30)
    parts = (
        clf.net_.module_.named_parameters() for clf in (start, without, with_decay)
    )
    for (name, first), (_, plain), (_, decayed) in zip(*parts, strict=True):
        expected = plain - 0.01 * 0.5 * first if first.ndim > 1 else plain
        torch.testing.assert_close(decayed, expected, rtol=0, atol=1e-6, msg=name)


def test_momentum_is_the_first_beta_of_adamw():
    clf = fit(optimizer="adamw", momentum=0.8, learning_rate=1e-3)
    assert clf.net_.optimizer_.param_groups[0]["betas"] == (0.8, 0.999)


def test_a_class_of_torch_with_its_parameters():
    clf = CNNClassifier(optimizer=torch.optim.RMSprop, optimizer__alpha=0.5)
    assert clf.get_params()["optimizer__eps"] == 1e-8
    assert "optimizer__eps" not in clf.get_params(deep=False)
    assert clone(clf).get_params() == clf.get_params()
    clf.set_params(max_epochs=1, learning_rate=1e-3, l2=0.1).fit(X, Y)
    (weights, others) = clf.net_.optimizer_.param_groups
    assert weights["alpha"] == others["alpha"] == 0.5
    assert {weights["weight_decay"], others["weight_decay"]} == {0.0, 0.1}


def test_unknown_parameters_of_the_optimizer():
    with pytest.raises(ValueError, match=r"'optimizer__alpha'.*optimizer__maximize"):
        CNNClassifier().set_params(optimizer__alpha=0.5)
    clf = CNNClassifier().set_params(
        optimizer=torch.optim.RMSprop, optimizer__alpha=0.5
    )
    assert clf.optimizer__alpha == 0.5


def test_what_an_optimizer_cannot_do_is_refused():
    with pytest.raises(ValueError, match="Rprop has no weight decay"):
        fit(optimizer=torch.optim.Rprop, l2=0.1)
    with pytest.raises(TypeError, match="LBFGS evaluates a step more than once"):
        fit(optimizer=torch.optim.LBFGS)
    with pytest.raises(ValueError, match="'optimizer' parameter"):
        fit(optimizer="adagrad")
    with pytest.raises(TypeError, match="must be a class of torch"):
        fit(optimizer=dict)


@pytest.mark.parametrize("name", ["lr", "weight_decay", "momentum", "bogus"])
def test_what_has_a_name_of_its_own_is_no_parameter_of_the_optimizer(name):
    """Nor what the optimizer does not have: `fit` says so."""
    with pytest.raises(ValueError, match=f"Invalid parameter 'optimizer__{name}'"):
        fit(**{f"optimizer__{name}": 0.5})


def test_the_optimizer_of_the_paper_can_be_searched():
    clf = paper_classifier(max_epochs=1).set_params(optimizer="adamw")
    assert isinstance(clf.fit(X, Y).net_.optimizer_, torch.optim.AdamW)
