"""The hyperparameters of a space, or of its alternatives, out of dicts of values."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sklearn_iis.space._condition import Condition, OnlyIf, join
from sklearn_iis.space._continuous import Continuous
from sklearn_iis.space._dimension import Discrete, make_dimension
from sklearn_iis.space._parameter import Parameter, PerLayer

# The name of the choice among alternatives. Python has no names of parameters with
# parentheses or spaces.
ALTERNATIVE = "(alternative)"


def make_choice(n_alternatives: int) -> Discrete | None:
    """Return the dimension of the choice among alternatives; None if there is one."""
    if n_alternatives == 1:
        return None
    levels = tuple(f"space[{i}]" for i in range(n_alternatives))
    return Discrete(levels, False, 0, n_alternatives - 1)


def make_parameters(
    alternatives: Sequence[Mapping[str, Any]],
) -> tuple[tuple[Parameter, ...], ...]:
    """Return the hyperparameters of each alternative.

    Parameters
    ----------
    alternatives : sequence of dict of str to object
        What a user wrote for each hyperparameter of each alternative.

    Returns
    -------
    parameters : tuple of tuple of Parameter
        Of each alternative, in the order of its dict. A name that is in several
        alternatives is told apart by their index in codes and labels.

    Raises
    ------
    TypeError
        If something is no kind of hyperparameter.

    ValueError
        If a hyperparameter has no values, or can never exist, or a condition or a depth
        names another one that it cannot depend on.
    """
    counts = Counter(name for space in alternatives for name in space)
    choice = make_choice(len(alternatives))
    parameters = []
    for i, space in enumerate(alternatives):
        suffixes = {n: f" (space[{i}])" if counts[n] > 1 else "" for n in space}
        conditions = () if choice is None else (Condition(ALTERNATIVE, (i,)),)
        builder = _Builder(space, suffixes, conditions)
        parameters.append(tuple(builder.make(name) for name in space))
    _check_code_names(parameters)
    return tuple(parameters)


class _Builder:
    """Makes the hyperparameters of a dict, each after those that it depends on."""

    def __init__(
        self,
        space: Mapping[str, Any],
        suffixes: Mapping[str, str],
        conditions: tuple[Condition, ...],
    ):
        self.space = space
        self.suffixes = suffixes
        self.conditions = conditions
        self._made: dict[str, Parameter] = {}
        self._under_way: list[str] = []

    def make(self, name: str) -> Parameter:
        """Return a hyperparameter; raise an error if it depends on itself."""
        if name in self._made:
            return self._made[name]
        if name in self._under_way:
            cycle = [*self._under_way[self._under_way.index(name) :], name]
            raise ValueError(f"conditions form a circle: {' depends on '.join(cycle)}")
        self._under_way.append(name)
        values, conditions = self._resolve(name)
        if isinstance(values, PerLayer):
            made = self._make_layers(name, values, conditions)
        else:
            label = name + self.suffixes[name]
            made = Parameter(
                name, label, {label: make_dimension(name, values)}, conditions
            )
        _check_existence(made)
        self._under_way.pop()
        self._made[name] = made
        return made

    def _resolve(self, name):
        """Return the values of a hyperparameter, and the conditions that it is under.

        Those that another one is under, which it depends on, are among them.
        """
        conditions = [*self.conditions]
        values = self.space[name]
        while isinstance(values, OnlyIf):
            parent = self._find_parent(name, values)
            conditions += parent.conditions
            (dimension,) = parent.dimensions.values()
            codes = _encode_all(name, values, dimension)
            conditions += _make_condition(parent, dimension, codes)
            values = values.values
        return values, join(conditions)

    def _find_parent(self, name, only_if):
        """Return the hyperparameter that another one is conditional on."""
        if only_if.name not in self.space:
            raise ValueError(
                f"{name}: it depends on {only_if.name!r}, which is not in the space "
                f"{sorted(self.space)}"
            )
        if self._is_per_layer(only_if.name):
            raise ValueError(
                f"{name}: it depends on {only_if.name!r}, which has one value a layer; "
                "it has to have a single one"
            )
        return self.make(only_if.name)

    def _is_per_layer(self, name):
        values = self.space[name]
        while isinstance(values, OnlyIf):
            values = values.values
        return isinstance(values, PerLayer)

    def _make_layers(self, name, per_layer, conditions):
        depth = per_layer.depth
        if depth not in self.space:
            raise ValueError(
                f"{name}: its depth {depth!r} is not in the space {sorted(self.space)}"
            )
        if self._is_per_layer(depth):
            raise ValueError(
                f"{name}: its depth {depth!r} is per layer itself; it has to be one "
                "number"
            )
        parent = self.make(depth)
        (counts,) = parent.dimensions.values()
        dimension = make_dimension(name, per_layer.values)
        conditions = join([*parent.conditions, *conditions])
        names, layer_conditions = [], []
        for layer in range(_find_most_layers(name, depth, counts)):
            deeper = [i for i, n in enumerate(counts.levels) if n > layer]
            condition = _make_condition(parent, counts, deeper)
            joined = join([*conditions, *condition])
            if all(one.codes for one in joined):
                names.append(f"{name}[{layer}]{self.suffixes[name]}")
                layer_conditions.append(joined)
        return Parameter(
            name,
            name + self.suffixes[name],
            dict.fromkeys(names, dimension),
            conditions,
            parent.label,
            tuple(layer_conditions),
        )


def _make_condition(
    parent: Parameter, dimension: Discrete, codes: Sequence[int]
) -> list[Condition]:
    """Return the condition that a hyperparameter has one of some values, if it is one.

    It is none if the hyperparameter has no other values.
    """
    if len(codes) == dimension.n_levels:
        return []
    return [Condition(parent.label, tuple(codes))]


def _encode_all(name, only_if, dimension):
    """Return the codes of the values with which a hyperparameter exists."""
    if isinstance(dimension, Continuous):
        raise ValueError(
            f"{name}: it depends on {only_if.name!r}, which is continuous; it has to "
            "be a list, or a discrete distribution"
        )
    values = only_if.is_in
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise TypeError(
            f"{name}: is_in must be a list of values of {only_if.name!r}, got "
            f"{values!r}"
        )
    try:
        codes = sorted({dimension.encode(value) for value in values})
    except ValueError as error:
        raise ValueError(
            f"{name}: is_in must be a list of values of {only_if.name!r}: {error}"
        ) from None
    if not codes:
        raise ValueError(
            f"{name}: is_in must name a value of {only_if.name!r}, and is empty"
        )
    return codes


def _find_most_layers(name, depth, dimension):
    """Return the largest number of layers."""
    counts = getattr(dimension, "levels", None)
    if counts is None or not all(
        isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in counts
    ):
        raise ValueError(
            f"{name}: its depth {depth!r} must be a whole number >= 0, "
            f"got the range {dimension.range}"
        )
    return max(counts)


def _check_existence(parameter):
    if never := [c.parent for c in parameter.conditions if not c.codes]:
        raise ValueError(
            f"{parameter.name}: it never exists, as its conditions on "
            f"{', '.join(never)} exclude each other"
        )


def _check_code_names(parameters):
    """Raise an error if the codes of two hyperparameters have the same name."""
    names = [ALTERNATIVE] if len(parameters) > 1 else []
    names += [n for own in parameters for p in own for n in p.dimensions]
    if repeated := [name for name, n in Counter(names).items() if n > 1]:
        raise ValueError(
            f"two hyperparameters would have the same name {repeated[0]!r} in tables: "
            "rename the step of the pipeline"
        )
