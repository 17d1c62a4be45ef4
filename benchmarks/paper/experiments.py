"""The experiments: data, network, space, sizes, budgets, arms, searches, repeats."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from scipy.stats import loguniform, randint

from sklearn_iis import PerLayer

SEARCHES = ("random", "tpe", "smac", "genetic", "bayes")

# An arm without narrowing: ranges with this margin on either side stay whole.
WHOLE_RANGES = {"margin": 1.0}
# An arm that hands on ranges, but no candidates.
NO_PROMOTION = {"n_promoted": 0}


@dataclass(frozen=True)
class Arm:
    """One way to search.

    Parameters
    ----------
    sizes, n_iter : tuple of int
        Size and number of candidates of each stage.

    settings : dict, default={}
        Further parameters of `IISSearchCV`.

    searches : tuple of str, default=None
        The searches it is run with; None means all of the experiment.
    """

    sizes: tuple
    n_iter: tuple
    settings: Mapping[str, Any] = field(default_factory=dict)
    searches: tuple | None = None


@dataclass(frozen=True)
class Experiment:
    """An experiment: its arms, and its data.

    Parameters
    ----------
    data : str
        A loader of :mod:`benchmarks.paper.data`.

    space : dict
        The hyperparameters of the pipeline.

    network : dict
        Parameters of `paper_classifier` that are not searched.

    arms : dict of str to Arm
        What is compared.

    searches : tuple of str
        Each runs every arm.

    n_repeats : int
        How often; the arms of a repeat have random states and splits in common.

    clock : {"wall", "cpu"}, default="wall"
        Which seconds are reported: those that a fit took, or those that the processor
        worked on it, which other processes on the machine do not change as much.

    n_threads : int, default=None
        Threads of a run's training; None means as many cores as there are for it.

    seed : int, default=0
        The random state of the first repeat.
    """

    data: str
    space: Mapping[str, Any]
    network: Mapping[str, Any]
    arms: Mapping[str, Arm]
    searches: tuple
    n_repeats: int
    clock: str = "wall"
    n_threads: int | None = None
    seed: int = 0

    @property
    def full_size(self):
        """The size that all searches lead to."""
        return next(iter(self.arms.values())).sizes[-1]

    @property
    def largest_size(self):
        """The largest size of all arms."""
        return max(max(arm.sizes) for arm in self.arms.values())

    def jobs(self):
        """Return (search, arm, repeat) of each run, repeat by repeat."""
        return [
            (search, name, repeat)
            for repeat in range(self.n_repeats)
            for search in self.searches
            for name, arm in self.arms.items()
            if arm.searches is None or search in arm.searches
        ]

    def describe(self):
        """Return all of it in values that JSON has."""
        space = {name: describe_values(values) for name, values in self.space.items()}
        return dataclasses.asdict(self) | {"space": space}


def describe_values(values):
    if isinstance(values, PerLayer):
        return {"depth": values.depth, "values": describe_values(values.values)}
    if isinstance(values, list):
        return values
    return f"{values.dist.name}{values.args}"


def compare(sizes, n_iter, further_sizes=()):
    """Return the arms that tell cheap images, narrowing and promotion apart.

    By random search, each size is searched alone besides, also `further_sizes`: what
    matters at which size is told by candidates of the whole space.
    """
    full_size, total = sizes[-1], sum(n_iter)
    arms = {
        "full size": Arm((full_size,), (total,)),
        "IIS": Arm(sizes, n_iter),
        "narrowing": Arm((full_size,) * len(sizes), n_iter),
        "seeds only": Arm(sizes, n_iter, WHOLE_RANGES),
        "ranges only": Arm(sizes, n_iter, NO_PROMOTION),
    }
    return arms | {
        f"only {size} px": Arm((size,), (total,), searches=("random",))
        for size in (*sizes[:-1], *further_sizes)
    }


def grow(sizes, n_iter, max_epochs):
    """Return the arms that tell what inherited weights are worth.

    Weights can be inherited if the features are averaged, so that the others do that as
    well. A network that inherits trains a third of the epochs.
    """

    def average(n_stages, **params):
        return {"cnn__pooling": ("average",) * n_stages, **params}

    n_stages, total = len(sizes), sum(n_iter)
    epochs = (max_epochs, *[math.ceil(max_epochs / 3)] * (n_stages - 1))
    return {
        "full size, average pooling": Arm(
            sizes[-1:], (total,), {"stage_params": average(1)}
        ),
        "IIS, average pooling": Arm(sizes, n_iter, {"stage_params": average(n_stages)}),
        "IIS with inherited weights": Arm(
            sizes,
            n_iter,
            {
                "inherit_weights": True,
                "stage_params": average(n_stages, cnn__max_epochs=epochs),
            },
        ),
    }


def compare_rules(sizes, n_iter, wide):
    """Return an arm for each way to hand over: one setting changed at a time."""
    settings = {
        "keep 0.25, margin 0.1, 3 seeds": {},
        "keep 0.1": {"keep": 0.1},
        "keep 0.5": {"keep": 0.5},
        "margin 0": {"margin": 0.0},
        "no narrowing": WHOLE_RANGES,
        "no seeds": NO_PROMOTION,
        "6 seeds": {"n_promoted": 6},
        "regularisation wide": {"size_dependent": ["cnn__n_conv_layers", *wide]},
    }
    return {name: Arm(sizes, n_iter, changed) for name, changed in settings.items()}


def make_space(most_conv_layers, most_filters, units):
    """Return the hyperparameters of the paper, whose ranges are mostly unpublished."""
    return {
        "cnn__learning_rate": loguniform(1e-4, 1),
        "cnn__batch_size": [16, 32, 64, 128],
        "cnn__n_conv_layers": randint(1, most_conv_layers + 1),
        "cnn__n_filters": PerLayer(
            randint(8, most_filters + 1), depth="cnn__n_conv_layers"
        ),
        "cnn__filter_size": PerLayer([3, 5, 7], depth="cnn__n_conv_layers"),
        "cnn__n_hidden_layers": randint(1, 5),
        "cnn__n_units": PerLayer(units, depth="cnn__n_hidden_layers"),
        "cnn__l1": loguniform(1e-8, 1e-2),
        "cnn__l2": loguniform(1e-8, 1e-2),
    }


def make_small_space(most_filters):
    """Return a space whose networks train in seconds on a processor."""
    return {
        "cnn__learning_rate": loguniform(1e-4, 1),
        "cnn__batch_size": [16, 32, 64, 128],
        "cnn__n_conv_layers": randint(1, 5),
        "cnn__n_filters": PerLayer(
            randint(8, most_filters + 1), depth="cnn__n_conv_layers"
        ),
        "cnn__filter_size": PerLayer([3, 5], depth="cnn__n_conv_layers"),
        "cnn__n_units": [32, 64, 128, 256],
        "cnn__l2": loguniform(1e-7, 1e-1),
    }


def publish(data, sizes, n_iter, further_sizes=()):
    """Return an experiment of the paper, with its sizes, budgets and repeats.

    Where it differs: what is not published (most ranges, momentum, how ranges are
    narrowed) is ours; training stops early by a tenth of the training images, where the
    paper stops by the images that candidates are scored on; Bayesian search is added.
    """
    return Experiment(
        data=data,
        space=make_space(5, 128, [64, 128, 256, 512]),
        network={"max_epochs": 200},
        arms=compare(sizes, n_iter, further_sizes) | grow(sizes, n_iter, 200),
        searches=SEARCHES,
        n_repeats=3,
    )


SMALL = {
    "network": {"batch_norm": "conv", "max_epochs": 15},
    "clock": "cpu",
    "n_threads": 1,
}

EXPERIMENTS = {
    "flowers102": publish("flowers102", (32, 64, 128), (750, 500, 250)),
    "stl10": publish("stl10", (32, 48, 96), (750, 500, 250)),
    "ckplus": publish("ckplus", (32, 64, 128), (750, 500, 250), (200,)),
    "flowers12": Experiment(
        data="flowers12",
        space=make_small_space(32),
        arms=compare((16, 32, 64), (18, 12, 6)),
        searches=("random", "tpe", "genetic"),
        n_repeats=3,
        **SMALL,
    ),
    "growing-flowers12": Experiment(
        data="flowers12",
        space=make_small_space(32),
        arms=grow((16, 32, 64), (18, 12, 6), 15),
        searches=("random", "tpe"),
        n_repeats=3,
        **SMALL,
    ),
    "rules-flowers12": Experiment(
        data="flowers12",
        space=make_small_space(32),
        arms=compare_rules((16, 32, 64), (18, 12, 6), ["cnn__l2"]),
        searches=("random",),
        n_repeats=10,
        **SMALL,
    ),
    "rules-shapes": Experiment(
        data="shapes",
        space=make_small_space(24),
        arms=compare_rules((16, 24, 32), (18, 12, 6), ["cnn__l2"]),
        searches=("random",),
        n_repeats=3,
        **SMALL,
    ),
    "flowers12-short": Experiment(
        data="flowers12",
        space=make_small_space(12),
        network={"batch_norm": "conv", "max_epochs": 2},
        arms=compare((16, 24, 32), (6, 4, 2)),
        searches=("random", "tpe"),
        n_repeats=2,
        clock="cpu",
        n_threads=1,
    ),
}
