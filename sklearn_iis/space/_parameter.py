"""A hyperparameter as it is written down: its codes, and when it exists."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any

from sklearn_iis.space._condition import Condition
from sklearn_iis.space._continuous import Continuous
from sklearn_iis.space._dimension import Discrete

Dimension = Continuous | Discrete


@dataclass(frozen=True)
class PerLayer:
    """A hyperparameter with one value a layer.

    It is decoded as a tuple as long as the hyperparameter named by `depth`; what its
    further layers would have been has no influence on the candidate.

    Parameters
    ----------
    values : distribution, list or Rounded
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


@dataclass(frozen=True)
class Parameter:
    """A hyperparameter of a space, or of one of its alternatives.

    Parameters
    ----------
    name : str
        The parameter of the estimator.

    label : str
        The same; with the alternative it is of, if it is in several.

    dimensions : dict of str to dimension
        Its codes, by their names: one, or one for each layer.

    conditions : tuple of Condition
        It exists if all of them hold.

    depth : str, default=None
        Label of the number of layers, if it has one value a layer.

    layer_conditions : tuple of tuple of Condition, default=()
        Under which each layer exists.
    """

    name: str
    label: str
    dimensions: dict[str, Dimension]
    conditions: tuple[Condition, ...]
    depth: str | None = None
    layer_conditions: tuple[tuple[Condition, ...], ...] = ()

    @property
    def code_conditions(self) -> dict[str, tuple[Condition, ...]]:
        """The conditions under which each code exists."""
        if self.depth is None:
            return dict.fromkeys(self.dimensions, self.conditions)
        return dict(zip(self.dimensions, self.layer_conditions, strict=True))

    @property
    def range(self) -> tuple:
        """Its remaining range, in its own units; one such tuple a layer."""
        ranges = tuple(dimension.range for dimension in self.dimensions.values())
        return ranges[0] if self.depth is None else ranges

    @property
    def middle(self) -> Any:
        """Some value of it, with all layers."""
        values = tuple(d.decode(d.middle) for d in self.dimensions.values())
        return values[0] if self.depth is None else values

    def decode(self, codes: dict[str, float], existing: Collection[str]) -> Any:
        """Return its value, of those of its codes that exist; constants have none."""
        values = tuple(
            self.dimensions[name].decode(codes.get(name, self.dimensions[name].low))
            for name in existing
        )
        return values[0] if self.depth is None else values

    def encode(self, value: Any, existing: Collection[str]) -> dict[str, float]:
        """Return the codes of a value, by the names of those that exist.

        Raises
        ------
        ValueError
            If it is a value that it cannot have, or has another number of layers.
        """
        values = [value]
        if self.depth is not None:
            if len(value) != len(existing):
                raise ValueError(
                    f"{self.name}: {self.depth} is {len(existing)}, got {value!r}"
                )
            values = list(value)
        try:
            return {
                name: self.dimensions[name].encode(part)
                for name, part in zip(existing, values, strict=True)
            }
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from None

    def narrow(self, narrow: Callable[[str, Dimension], Dimension]) -> "Parameter":
        """Return it with dimensions that a function narrows, called with each."""
        narrowed = {name: narrow(name, d) for name, d in self.dimensions.items()}
        return replace(self, dimensions=narrowed)
