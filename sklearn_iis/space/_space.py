"""One search space for every search: hyperparameters as codes."""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils import check_random_state

from sklearn_iis.space._dimension import Continuous, Discrete, make_dimension

Candidate = dict[str, float]  # the codes of discrete hyperparameters are int


@dataclass(frozen=True)
class PerLayer:
    """A hyperparameter with one value a layer.

    It is decoded as a tuple as long as the hyperparameter named by `depth`; what its
    further layers would have been has no influence on the candidate.

    Parameters
    ----------
    values : frozen scipy.stats distribution or list
        Where the value of each layer is drawn from.

    depth : str
        Name of the hyperparameter in the same space that holds the number of layers.

    Examples
    --------
    >>> from scipy.stats import randint
    >>> from sklearn_iis import PerLayer, SearchSpace
    >>> space = SearchSpace(
    ...     {
    ...         "n_conv_layers": [1, 2, 3],
    ...         "n_filters": PerLayer(randint(8, 129), depth="n_conv_layers"),
    ...     }
    ... )
    >>> space.decode({"n_conv_layers": 1, "n_filters[0]": 0, "n_filters[1]": 24})
    {'n_conv_layers': 2, 'n_filters': (8, 32)}
    """

    values: Any
    depth: str


class SearchSpace:
    """The candidates of a search: hyperparameters, and their codes.

    Searches see codes only. The code of a continuous hyperparameter is its quantile, a
    float of the unit interval, by the distribution's own `cdf` and `ppf`; the code of a
    discrete one is the index of its value, an int. Any prior thus works in any search,
    a narrowed range is a window of quantiles or of indices, and a range on a log scale
    is uniform in its codes. A :class:`PerLayer` hyperparameter has one code a layer.

    A candidate in codes is a dict from the names of :attr:`dimensions` to codes, in
    which layers beyond the depth are missing. A space is never changed; :meth:`narrow`
    returns another one.

    Parameters
    ----------
    space : dict of str to frozen scipy.stats distribution, list or PerLayer
        What :class:`~sklearn.model_selection.RandomizedSearchCV` takes, for each
        hyperparameter of the estimator. A list of numbers is taken as ordered by size,
        any other list as unordered. Of a continuous distribution without bounds, 1e-6
        of each tail is cut off.

    Attributes
    ----------
    names : tuple of str
        The hyperparameters.

    dimensions : dict of str to dimension
        What a search has to choose, by the name of the code: `name`, or `name[layer]`
        of a :class:`PerLayer`. Hyperparameters with a single value are not among them.
        A dimension has `rvs`, `clip`, `middle`, `n_levels`, `ordered`, `low` and `high`
        (both included).

    conditions : dict of str to tuple of (str, int)
        For the dimensions that not every candidate has: the name of the hyperparameter
        that is the depth, and the value which it has to exceed.

    ranges : dict of str to tuple
        What is left of each hyperparameter, in its own units: lowest and highest value,
        or all values if they have no order; one such tuple a layer for a PerLayer.

    Raises
    ------
    TypeError
        If `space` is no dict, or a value in it is no kind of hyperparameter.

    ValueError
        If the space or a hyperparameter in it is empty, infinite while discrete, has
        unhashable or repeated choices, or a depth that is unknown, cyclic or no count.

    Examples
    --------
    >>> from scipy.stats import loguniform
    >>> from sklearn_iis import SearchSpace
    >>> space = SearchSpace({"alpha": loguniform(1e-4, 1), "solver": ["lbfgs", "sag"]})
    >>> codes = space.encode({"alpha": 0.01, "solver": "sag"})
    >>> {name: round(code, 3) for name, code in codes.items()}
    {'alpha': 0.5, 'solver': 1}
    >>> narrowed = space.narrow([codes], margin=0.25)
    >>> [f"{value:.3g}" for value in narrowed.ranges["alpha"]]
    ['0.001', '0.1']
    """

    def __init__(self, space: Mapping[str, Any]):
        _check_mapping(space)
        self._plain = {
            name: make_dimension(name, values)
            for name, values in space.items()
            if not isinstance(values, PerLayer)
        }
        self._layers = {
            name: _make_layers(name, values, space, self._plain)
            for name, values in space.items()
            if isinstance(values, PerLayer)
        }
        self._depths = {
            name: values.depth
            for name, values in space.items()
            if isinstance(values, PerLayer)
        }
        self.names = tuple(space)

    def __repr__(self):
        return f"SearchSpace({self.ranges!r})"

    @cached_property
    def dimensions(self) -> dict[str, Continuous | Discrete]:
        return {
            name: dimension
            for name, dimension in self._all_dimensions()
            if dimension.n_levels > 1
        }

    @cached_property
    def conditions(self) -> dict[str, tuple[str, int]]:
        return {
            f"{name}[{layer}]": (depth, layer)
            for name, depth in self._depths.items()
            for layer, dimension in enumerate(self._layers[name])
            if dimension.n_levels > 1 and layer >= min(self._depth_levels(depth))
        }

    @property
    def ranges(self) -> dict[str, tuple]:
        return {
            name: self._plain[name].range
            if name in self._plain
            else tuple(dimension.range for dimension in self._layers[name])
            for name in self.names
        }

    def decode(self, codes: Candidate) -> dict[str, Any]:
        """Return the hyperparameters of a candidate.

        Parameters
        ----------
        codes : dict of str to float or int
            The candidate; codes of layers beyond its depth are ignored.

        Returns
        -------
        params : dict of str to object
            A value for each of :attr:`names`, in that order.
        """
        params = {
            name: dimension.decode(codes.get(name, dimension.low))
            for name, dimension in self._plain.items()
        }
        for name, dimensions in self._layers.items():
            params[name] = tuple(
                dimension.decode(codes.get(f"{name}[{layer}]", dimension.low))
                for layer, dimension in enumerate(
                    dimensions[: params[self._depths[name]]]
                )
            )
        return {name: params[name] for name in self.names}

    def encode(self, params: Mapping[str, Any]) -> Candidate:
        """Return the codes of hyperparameters, also of some outside a narrowed range.

        Parameters
        ----------
        params : dict of str to object
            A value for each of :attr:`names`.

        Returns
        -------
        codes : dict of str to float or int
            The candidate.

        Raises
        ------
        ValueError
            If a hyperparameter is missing, unknown, or has a value it cannot have.
        """
        if set(params) != set(self.names):
            raise ValueError(
                f"the hyperparameters are {sorted(self.names)}, got {sorted(params)}"
            )
        codes: Candidate = {}
        for name, value in params.items():
            try:
                codes |= self._encode_one(name, value, params)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        return self.active(codes)

    def active(self, codes: Candidate) -> Candidate:
        """Return the candidate without the codes of layers beyond its depth.

        Parameters
        ----------
        codes : dict of str to float or int
            A code for each of :attr:`dimensions`, at least for the active ones.

        Returns
        -------
        codes : dict of str to float or int
            The candidate, in the order of :attr:`dimensions`.
        """
        depths = self._decode_depths(codes)
        conditions = self.conditions
        return {
            name: codes[name]
            for name in self.dimensions
            if name not in conditions
            or depths[conditions[name][0]] > conditions[name][1]
        }

    def complete(self, codes: Candidate) -> Candidate:
        """Return the candidate with a fixed code for each layer beyond its depth.

        Parameters
        ----------
        codes : dict of str to float or int
            The candidate.

        Returns
        -------
        codes : dict of str to float or int
            A code for each of :attr:`dimensions`, in that order.
        """
        return {
            name: codes.get(name, dimension.middle)
            for name, dimension in self.dimensions.items()
        }

    def to_unit_cube(self, candidates: Sequence[Candidate]) -> np.ndarray:
        """Return candidates as points, as regression models take them.

        Parameters
        ----------
        candidates : list of dict
            The candidates, in codes.

        Returns
        -------
        points : ndarray of shape (n_candidates, n_dimensions), dtype float64
            Where each hyperparameter lies in its range, in codes: 0 is the lowest
            quantile of a continuous one and 1 the highest; a value of a discrete one is
            the middle of one of as many equal cells as there are values left. NaN for
            layers that a candidate does not have.
        """
        dimensions = self.dimensions
        points = np.full((len(candidates), len(dimensions)), np.nan)
        for i, codes in enumerate(candidates):
            for j, (name, dimension) in enumerate(dimensions.items()):
                if name in codes:
                    points[i, j] = dimension.unit(codes[name])
        return points

    def sample(
        self,
        n_candidates: int,
        *,
        random_state: int | np.random.RandomState | None = None,
        exclude: Iterable[Candidate] = (),
    ) -> list[Candidate]:
        """Draw distinct candidates from the priors.

        Parameters
        ----------
        n_candidates : int
            How many to draw.

        random_state : int, RandomState instance or None, default=None
            Determines the candidates.

        exclude : iterable of dict, default=()
            Candidates not to be drawn.

        Returns
        -------
        candidates : list of dict
            The candidates, in codes; fewer than `n_candidates` if the space does not
            hold as many.
        """
        drawn = self.draw(random_state=random_state, exclude=exclude)
        return list(islice(drawn, n_candidates))

    def draw(
        self,
        *,
        random_state: int | np.random.RandomState | None = None,
        exclude: Iterable[Candidate] = (),
    ) -> Iterator[Candidate]:
        """Draw distinct candidates from the priors, each when it is asked for.

        Parameters
        ----------
        random_state : int, RandomState instance or None, default=None
            Determines the candidates.

        exclude : iterable of dict, default=()
            Candidates not to be drawn.

        Yields
        ------
        codes : dict of str to float or int
            A candidate. There are no more once the space holds no other one.
        """
        rng = check_random_state(random_state)
        dimensions = self.dimensions
        seen = {as_key(codes) for codes in exclude}
        n_missed = 0
        # With k of k + 1 candidates seen, the last one is missed in this many draws
        # with a probability of e^-20.
        while n_missed < 20 * (len(seen) + 1):
            codes = self.active({name: d.rvs(rng) for name, d in dimensions.items()})
            n_missed += 1
            if (key := as_key(codes)) not in seen:
                seen.add(key)
                n_missed = 0
                yield codes

    def project(self, codes: Candidate) -> Candidate:
        """Return the nearest candidate of the space to one of a wider space.

        Parameters
        ----------
        codes : dict of str to float or int
            A candidate of this space before it was narrowed.

        Returns
        -------
        codes : dict of str to float or int
            A candidate of this space. A layer that `codes` lacks becomes like the one
            before it.
        """
        projected: Candidate = {}
        layer_before = {
            f"{name}[{layer}]": f"{name}[{layer - 1}]"
            for name, layers in self._layers.items()
            for layer in range(len(layers))
        }
        for name, dimension in self.dimensions.items():
            code = codes.get(name)
            if code is None:
                code = projected.get(layer_before.get(name, ""), dimension.middle)
            projected[name] = dimension.clip(code)
        return self.active(projected)

    def narrow(
        self,
        candidates: Sequence[Candidate],
        *,
        margin: float = 0.1,
        floor: float = 0.2,
        size_dependent: Iterable[str] = (),
    ) -> "SearchSpace":
        """Return the part of the space around some candidates.

        Each ordered range shrinks to what the candidates span plus a margin, but never
        below a floor, and never beyond the range it had.

        Parameters
        ----------
        candidates : list of dict
            Good candidates, in codes. If empty, nothing is narrowed.

        margin : float, default=0.1
            What is added on either side, as a fraction of the hyperparameter's whole
            range in codes: of all quantiles, or of the number of values.

        floor : float, default=0.2
            The least width of a range, as a fraction likewise.

        size_dependent : iterable of str, default=()
            Hyperparameters that keep their range.

        Returns
        -------
        space : SearchSpace
            The narrowed space; codes mean the same in it.

        Raises
        ------
        ValueError
            If `size_dependent` names an unknown hyperparameter.
        """
        kept = set(size_dependent)
        if unknown := kept - set(self.names):
            raise ValueError(
                f"size_dependent names {sorted(unknown)}, but the hyperparameters are "
                f"{sorted(self.names)}"
            )

        def narrow(code_name, dimension):
            codes = [c[code_name] for c in candidates if code_name in c]
            return dimension.narrow(codes, margin, floor) if codes else dimension

        narrowed = object.__new__(type(self))
        narrowed.names, narrowed._depths = self.names, self._depths
        narrowed._plain = {
            name: dimension if name in kept else narrow(name, dimension)
            for name, dimension in self._plain.items()
        }
        narrowed._layers = {
            name: dimensions
            if name in kept
            else tuple(
                narrow(f"{name}[{layer}]", dimension)
                for layer, dimension in enumerate(dimensions)
            )
            for name, dimensions in self._layers.items()
        }
        return narrowed

    def check_names(self, estimator: Any) -> None:
        """Raise an error if the estimator lacks one of the hyperparameters.

        Parameters
        ----------
        estimator : estimator object
            The estimator whose parameters the space should hold.

        Raises
        ------
        ValueError
            If `estimator.set_params` refuses a name; tells the nearest valid one.
        """
        valid = estimator.get_params(deep=True)
        for name in self.names:
            parts = name.split("__")
            ancestors = ("__".join(parts[:n]) for n in range(1, len(parts)))
            # The parameters of a step that is searched itself depend on its choice.
            if name in valid or any(ancestor in self.names for ancestor in ancestors):
                continue
            value = self.decode(self.project({}))[name]
            try:
                clone(estimator).set_params(**{name: value})
            except (ValueError, AttributeError):
                nearest = difflib.get_close_matches(name, valid, n=1, cutoff=0)
                raise ValueError(
                    f"{type(estimator).__name__} has no parameter {name!r}; the "
                    f"nearest one is {nearest[0]!r}"
                    if nearest
                    else f"{type(estimator).__name__} has no parameter {name!r}"
                ) from None

    def _all_dimensions(self):
        for name in self.names:
            if name in self._plain:
                yield name, self._plain[name]
            else:
                for layer, dimension in enumerate(self._layers[name]):
                    yield f"{name}[{layer}]", dimension

    def _depth_levels(self, depth):
        dimension = self._plain[depth]
        return [dimension.decode(c) for c in range(dimension.low, dimension.high + 1)]

    def _decode_depths(self, codes):
        return {
            depth: self._plain[depth].decode(codes.get(depth, self._plain[depth].low))
            for depth in set(self._depths.values())
        }

    def _encode_one(self, name, value, params):
        if name in self._plain:
            return {name: self._plain[name].encode(value)}
        depth = params[self._depths[name]]
        if len(value) != depth:
            raise ValueError(f"{self._depths[name]} is {depth}, got {value!r}")
        return {
            f"{name}[{layer}]": dimension.encode(layer_value)
            for layer, (dimension, layer_value) in enumerate(
                zip(self._layers[name], value, strict=False)
            )
        }


def as_key(candidate: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Return what a candidate is known by where it has to be hashable: its items.

    Parameters
    ----------
    candidate : dict
        The candidate, in codes, in the order of the dimensions.
    """
    return tuple(candidate.items())


def distinct(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Return each candidate once, in the order in which they first occur.

    Parameters
    ----------
    candidates : iterable of dict
        The candidates, in codes, each in the order of the dimensions.
    """
    return [dict(key) for key in dict.fromkeys(map(as_key, candidates))]


def _check_mapping(space):
    if not isinstance(space, Mapping):
        raise TypeError(
            "the space must be one dict of hyperparameters to distributions or lists, "
            f"got {type(space).__name__}: {space!r}"
        )
    if not space:
        raise ValueError("the space is empty: name at least one hyperparameter")
    for name in space:
        if not isinstance(name, str):
            raise TypeError(f"names of hyperparameters must be str, got {name!r}")


def _make_layers(name, per_layer, space, plain):
    depth = per_layer.depth
    if depth not in space:
        raise ValueError(
            f"{name}: its depth {depth!r} is not in the space {sorted(space)}"
        )
    if depth not in plain:
        raise ValueError(
            f"{name}: its depth {depth!r} is per layer itself; it has to be one number"
        )
    dimension = plain[depth]
    counts = getattr(dimension, "levels", None)
    if counts is None or not all(
        isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in counts
    ):
        raise ValueError(
            f"{name}: its depth {depth!r} must be a whole number >= 0, "
            f"got the range {dimension.range}"
        )
    return (make_dimension(name, per_layer.values),) * max(counts)
