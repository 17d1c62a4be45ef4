"""The plan: which searches suit the images and the time, at which sizes."""

from dataclasses import asdict, dataclass
from typing import Any

from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_iis._resize import ImageResizer
from sklearn_iis._search import IISSearchCV
from sklearn_iis.choice import ChoiceSearchCV
from sklearn_iis.command._costs import Costs
from sklearn_iis.command._errors import CommandError
from sklearn_iis.space import default_space

FEATURES, FINE_TUNED, FROM_SCRATCH = "features", "fine-tuned", "from-scratch"
WAYS = (FEATURES, FINE_TUNED, FROM_SCRATCH)
PRETRAINED_WAYS = (FEATURES, FINE_TUNED)

# Of a classifier of features, which has one hyperparameter.
N_CLASSIFIERS = 30

# Around the best value at 64 px (sklearn_iis/space/_default.py): if there is time for
# few candidates, the first one is no draw.
FIRST_CLASSIFIER = {"classifier__C": 0.01}

# Sizes that are tried as the largest one, in pixels, the best one first. Features and
# fine-tuning are better at those of ImageNet, also if images are enlarged for it: those
# of 32 px had a test error of .388 at 64 px and .264 at 128 px (doc/pretrained.md).
LARGEST = (224, 128, 64, 32, 16)
MOST_ENLARGED = 4
LEAST_PRETRAINED = 64

# The smallest size of fine-tuning, as the network halves images five times; and of
# training from scratch, where the largest is at most `SMALL` or larger.
FIRST_FINE_TUNED = 32
SMALL, FIRST_OF_SMALL, FIRST = 32, 8, 16
MOST_SIZES = 4

# Epochs at each size, as in benchmarks/pretrained.py and benchmarks/race.py.
EPOCHS = {FINE_TUNED: (3, 8, 4, 4), FROM_SCRATCH: (10, 30, 10, 10)}

# The most that the features of all images, or a candidate that climbs to the largest
# size, may take of the time: of all workers for what is trained. From scratch, what is
# found at smaller sizes by then is of use as well.
MOST_OF_TIME = {FEATURES: 0.25, FINE_TUNED: 1 / 3, FROM_SCRATCH: 0.5}

# The largest sizes if there is no time to go by.
DETERMINED = {FEATURES: 128, FINE_TUNED: 64, FROM_SCRATCH: 64}


@dataclass(frozen=True)
class Way:
    """A way to a model, with a search of its own.

    Parameters
    ----------
    name : str
        One of `WAYS`.

    sizes : tuple of int
        In pixels.

    epochs : tuple of int
        Of each size; () without training.

    n_iter : int or None
        The number of candidates; None for as many as there is time for.
    """

    name: str
    sizes: tuple[int, ...]
    epochs: tuple[int, ...]
    n_iter: int | None

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Way":
        """Return what :meth:`to_json` has made plain."""
        sizes, epochs = tuple(values["sizes"]), tuple(values["epochs"])
        return cls(values["name"], sizes, epochs, values["n_iter"])

    def __str__(self):
        return f"{self.name} at {', '.join(map(str, self.sizes))} px"


@dataclass(frozen=True)
class Limits:
    """The limits that the user sets.

    Parameters
    ----------
    seconds : float
        The time of all searches.

    n_candidates : int or None
        The most candidates of each search. With a number, nothing depends on the time.

    max_size : int or None
        The largest size in pixels.

    max_epochs : int or None
        The most epochs at each size.
    """

    seconds: float
    n_candidates: int | None = None
    max_size: int | None = None
    max_epochs: int | None = None


def plan_ways(
    names: tuple[str, ...],
    limits: Limits,
    *,
    side: int,
    n_fitted: int,
    n_images: int,
    costs: Costs | None,
    n_trained: int = 1,
) -> list[Way]:
    """Return the ways that suit.

    Parameters
    ----------
    names : tuple of str
        The ways to choose among.

    limits : Limits
        What the user allows for.

    side : int
        The usual size of the images in pixels.

    n_fitted, n_images : int
        How many images there are to train on, and in all.

    costs : Costs or None
        What they cost; None for sizes that do not depend on it.

    n_trained : int, default=1
        How many networks are trained at once.

    Returns
    -------
    ways : list of Way
        At least one: if there is time for none, the one that takes the least.

    Raises
    ------
    CommandError
        If there are not enough candidates for the sizes.
    """
    ways = []
    for name in names:
        options = [_make_way(name, largest, limits) for largest in _list(name, side)]
        if costs is None:
            fitting = [way for way in options if way.sizes[-1] <= DETERMINED[name]]
        else:
            most = MOST_OF_TIME[name] * limits.seconds
            most *= 1 if name == FEATURES else n_trained
            fitting = [
                way for way in options if _cost(way, costs, n_fitted, n_images) <= most
            ]
        # From scratch always has a size that is small enough.
        if not fitting and (name == FROM_SCRATCH or len(names) == 1):
            fitting = options[-1:]
        ways += fitting[:1]
    if not ways:
        raise CommandError(
            f"there is no time for {' or '.join(names)}: allow for more --time, or for "
            f"{FROM_SCRATCH} as well"
        )
    return ways


def _list(name: str, side: int) -> list[int]:
    """Return the largest sizes that a way may have, the best one first."""
    if name in PRETRAINED_WAYS:
        most = max(MOST_ENLARGED * side, LEAST_PRETRAINED)
        return [size for size in LARGEST if LEAST_PRETRAINED <= size <= most]
    own = max(side, LARGEST[-1])
    sizes = {size for size in LARGEST if size <= own}
    if own < LARGEST[0]:
        sizes.add(own)  # rather than the next one below
    return sorted(sizes, reverse=True)


def _make_way(name: str, largest: int, limits: Limits) -> Way:
    """Return a way up to its largest size."""
    largest = min(largest, limits.max_size or largest)
    n_iter = limits.n_candidates
    if name == FEATURES:
        return Way(name, (largest,), (), n_iter or N_CLASSIFIERS)
    first = FIRST_OF_SMALL if largest <= SMALL else FIRST
    if name == FINE_TUNED:
        first = FIRST_FINE_TUNED
    sizes = [largest]
    most = min(MOST_SIZES, n_iter or MOST_SIZES)
    while len(sizes) < most and sizes[0] // 2 >= first:
        # Half of 224 px is little less than 128, which others have.
        sizes.insert(0, 128 if sizes[0] == LARGEST[0] else sizes[0] // 2)
    epochs = EPOCHS[name][: len(sizes)]
    if limits.max_epochs is not None:
        epochs = tuple(min(n, limits.max_epochs) for n in epochs)
    return Way(name, tuple(sizes), epochs, n_iter)


def _cost(way: Way, costs: Costs, n_fitted: int, n_images: int) -> float:
    """Return the seconds of what a way cannot do without."""
    if way.name == FEATURES:
        return n_images * costs.compute_features(way.sizes[-1])
    train = costs.fine_tune if way.name == FINE_TUNED else costs.train
    return n_fitted * train(way.sizes, way.epochs)


def make_search(way: Way, *, device: str, seed: int) -> IISSearchCV:
    """Return the search of a way."""
    from sklearn_iis.cnn import CNNClassifier, ImageFeatures

    if way.name == FEATURES:
        steps = [
            ("resize", ImageResizer()),
            ("features", ImageFeatures(device=device)),
            ("scale", StandardScaler()),
            ("classifier", LogisticRegression(max_iter=1000)),
        ]
        settings: dict[str, Any] = {"initial_candidates": [FIRST_CLASSIFIER]}
    else:
        module = {"module": "efficientnet-lite0"}
        own = module if way.name == FINE_TUNED else {"pooling": "average"}
        network = CNNClassifier(**own, device=device, random_state=seed)
        steps = [("resize", ImageResizer()), ("cnn", network)]
        settings = {
            "inherit_weights": True,
            "stage_params": {"cnn__max_epochs": list(way.epochs)},
        }
    pipe = Pipeline(steps)
    return IISSearchCV(
        pipe,
        default_space(pipe),
        sizes=way.sizes,
        search="ladder",
        n_iter=way.n_iter,
        **settings,
    )


def make_choice(
    ways: list[Way], *, device: str, seed: int, **settings: Any
) -> ChoiceSearchCV:
    """Return the choice among the searches of all ways."""
    searches = [(way.name, make_search(way, device=device, seed=seed)) for way in ways]
    return ChoiceSearchCV(searches, random_state=seed, **settings)
