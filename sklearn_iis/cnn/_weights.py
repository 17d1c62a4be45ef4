"""Weights and buffers of one network, copied to another that begins with them."""

import torch
from torch import nn

from sklearn_iis.cnn._module import ConvNet


def inherit_weights(network: nn.Module, learned: nn.Module, *, must_fit: bool) -> None:
    """Have a network begin with the weights and the buffers of another one.

    Parameters
    ----------
    network : torch.nn.Module
        The one that begins. What it takes is copied.

    learned : torch.nn.Module
        The one that was trained, perhaps on images of another size.

    must_fit : bool
        Whether all of both networks must be the same in name and shape. Otherwise what
        does not fit begins anew.

    Raises
    ------
    ValueError
        If something does not fit that must, or if no weight fits.
    """
    state = _list_tensors(learned)
    was, now = (
        {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        for tensors in (state, _list_tensors(network))
    )
    misfits = [name for name in now | was if was.get(name) != now.get(name)]
    taken = {name: state[name] for name in now if was.get(name) == now[name]}
    weights = dict(network.named_parameters(remove_duplicate=False))
    if (misfits and must_fit) or not taken.keys() & weights.keys():
        wanted = "every weight" if must_fit else "a weight"
        before, after = (
            f"of shape {shapes[misfits[0]]}" if misfits[0] in shapes else "not there"
            for shapes in (was, now)
        )
        raise ValueError(
            f'With warm_start="weights", {wanted} of the last fit must fit, but '
            f"{misfits[0]} was {before} and is {after}: "
            f"{_explain_misfit(network, learned)}. Set warm_start=False to start anew."
        )
    network.load_state_dict(taken, strict=False)


def _list_tensors(network: nn.Module) -> dict[str, torch.Tensor]:
    """Return weights and buffers by name, without what else a state may hold."""
    state = network.state_dict().items()
    return {name: value for name, value in state if isinstance(value, torch.Tensor)}


def _explain_misfit(network: nn.Module, learned: nn.Module) -> str:
    """Return why the weights of a network do not fit another one."""
    if type(network) is not type(learned):
        kinds = type(learned).__name__, type(network).__name__
        return "the network was a {} and is a {}".format(*kinds)
    if not (isinstance(network, ConvNet) and isinstance(learned, ConvNet)):
        return "it depends on parameters of the module, or on the size of the image"
    reasons = [
        f"{name} was {learned.settings[name]!r} and is {value!r}"
        for name, value in network.settings.items()
        if value != learned.settings[name]
    ]
    sizes = ["{} x {}".format(*net.input_shape[1:]) for net in (learned, network)]
    if network.settings["pooling"] == "flatten" and sizes[0] != sizes[1]:
        reasons.append(
            'with pooling="flatten", weights depend on the size of the image, which '
            f'was {sizes[0]} and is {sizes[1]}; with pooling="average", none does'
        )
    return "; ".join(reasons)
