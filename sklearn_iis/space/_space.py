"""One search space for every search: hyperparameters as codes."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from functools import cached_property
from itertools import islice, pairwise
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from sklearn_iis.space._alternatives import (
    ALTERNATIVE,
    make_choice,
    make_parameters,
)
from sklearn_iis.space._condition import Condition
from sklearn_iis.space._constraint import MAX_REJECTED, Constraint, is_allowed
from sklearn_iis.space._names import check_parameters
from sklearn_iis.space._parameter import Dimension, Parameter

Candidate = dict[str, float]  # the codes of discrete hyperparameters are int


class SearchSpace:
    """The candidates of a search: hyperparameters, and their codes.

    Searches see codes only. The code of a continuous hyperparameter is its quantile, a
    float of the unit interval, by the distribution's own `cdf` and `ppf`; the code of a
    discrete one is the index of its value, an int. Any prior thus works in any search,
    a narrowed range is a window of quantiles or of indices, and a range on a log scale
    is uniform in its codes. A :class:`PerLayer` hyperparameter has one code a layer.

    A candidate in codes is a dict from the names of :attr:`dimensions` to codes, in
    which those are missing that do not exist for it: layers beyond its depth, what an
    :class:`OnlyIf` rules out, and hyperparameters of other alternatives. A space is
    never changed; :meth:`narrow` returns another one.

    Parameters
    ----------
    space : dict of str to distribution, list, Rounded, PerLayer or OnlyIf, or list of \
            such dicts
        What :class:`~sklearn.model_selection.RandomizedSearchCV` takes, for each
        hyperparameter of the estimator: frozen distributions of `scipy.stats`, also new
        ones such as `scipy.stats.Normal(mu=1)`, and lists. Of any other object with
        `rvs(random_state=...)` 2000 values are drawn: of floats all values between them
        are searched, of whole numbers those that were drawn, by their frequency; of
        anything else at most 50, as if they were listed.

        A list of numbers is taken as ordered by size, any other list as unordered; its
        values may be anything, also dicts, lists, arrays and estimators. Of a
        continuous distribution without bounds, 1e-6 of each tail is cut off.

        A list of dicts holds alternatives. A candidate is of one of them, at random
        each is equally likely, and has its hyperparameters only; the estimator keeps
        its own value of any other. A name in several alternatives may have other values
        in each, and nothing that is learned of it in one says anything of another.

    constraint : callable, default=None
        Returns for the hyperparameters of a candidate, a dict in the units of the user,
        whether it is allowed. It must return the same for the same candidate.

    Attributes
    ----------
    names : tuple of str
        The hyperparameters, of all alternatives.

    common_names : tuple of str
        Those that every candidate has.

    alternatives : tuple of tuple of Parameter
        The hyperparameters of each dict, in its order; `parameters` are all of them.

    dimensions : dict of str to dimension
        What a search has to choose, by the name of the code: `name`, or `name[layer]`
        of a :class:`PerLayer`, with ` (space[i])` behind it if the name is in several
        alternatives. The first one of a list of dicts is `(alternative)`.
        Hyperparameters with a single value are not among them. A dimension has `rvs`,
        `clip`, `middle`, `n_levels`, `ordered`, `low` and `high` (both included).

    conditions : dict of str to tuple of Condition
        For the dimensions that not every candidate has: each condition names another
        dimension, the `parent`, and the `codes` of it with which this one exists. If
        all of them hold, it exists; what its parents depend on is among them. Those
        that the ranges leave no choice about are left out.

    ranges : dict of str to tuple
        What is left of each hyperparameter, in its own units: lowest and highest value,
        or all values if they have no order; one such tuple a layer for a PerLayer.

    Raises
    ------
    TypeError
        If `space` is neither a dict nor a list of dicts, or a value in it is no kind of
        hyperparameter.

    ValueError
        If the space or a hyperparameter in it is empty, infinite while discrete, or has
        repeated choices; if a depth is unknown, cyclic or no count; if a condition
        names an unknown hyperparameter, one that is continuous or has one value a
        layer, or a value that it cannot have; and if conditions form a circle or can
        never hold.

    See Also
    --------
    Rounded : A hyperparameter with the multiples of a step as values.
    PerLayer : A hyperparameter with one value a layer.
    OnlyIf : A hyperparameter that exists only with certain values of another one.

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

    A step of a pipeline that is swapped, with hyperparameters of its own:

    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.svm import SVC
    >>> space = SearchSpace(
    ...     [
    ...         {"clf": [LogisticRegression()], "clf__C": loguniform(1e-3, 1e3)},
    ...         {"clf": [SVC()], "clf__gamma": loguniform(1e-4, 1)},
    ...     ]
    ... )
    >>> list(space.dimensions)
    ['(alternative)', 'clf__C', 'clf__gamma']
    >>> space.decode({"(alternative)": 1, "clf__gamma": 1.0})
    {'clf': SVC(), 'clf__gamma': 1.0}
    """

    def __init__(
        self,
        space: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        constraint: Constraint | None = None,
    ):
        written = _check_alternatives(space)
        self.alternatives = make_parameters(written)
        self.names = tuple(dict.fromkeys(n for values in written for n in values))
        self.constraint = constraint

    def __repr__(self):
        return f"SearchSpace({self.ranges!r})"

    @property
    def parameters(self) -> Iterator[Parameter]:
        """The hyperparameters of all alternatives."""
        return (parameter for own in self.alternatives for parameter in own)

    @property
    def common_names(self) -> tuple[str, ...]:
        # All that is in one of several alternatives is under that condition.
        n_least = int(len(self.alternatives) > 1)
        always = [
            {p.name for p in own if len(p.conditions) == n_least}
            for own in self.alternatives
        ]
        return tuple(name for name in self.names if all(name in own for own in always))

    @cached_property
    def dimensions(self) -> dict[str, Dimension]:
        return {
            name: dimension
            for name, dimension in self._all_dimensions.items()
            if dimension.n_levels > 1
        }

    @cached_property
    def conditions(self) -> dict[str, tuple[Condition, ...]]:
        left = {n: self._find_left(self._conditions[n]) for n in self.dimensions}
        return {name: conditions for name, conditions in left.items() if conditions}

    @property
    def ranges(self) -> dict[str, tuple]:
        return {parameter.label: parameter.range for parameter in self.parameters}

    def decode(self, codes: Candidate) -> dict[str, Any]:
        """Return the hyperparameters of a candidate.

        Parameters
        ----------
        codes : dict of str to float or int
            The candidate; codes that do not exist for it are ignored.

        Returns
        -------
        params : dict of str to object
            A value for each of :attr:`names` that exists for it, in that order.
        """
        params = {
            parameter.name: parameter.decode(codes, self._find_codes(parameter, codes))
            for parameter in self.parameters
            if self._hold(parameter.conditions, codes)
        }
        return {name: params[name] for name in self.names if name in params}

    def encode(self, params: Mapping[str, Any]) -> Candidate:
        """Return the codes of hyperparameters, also of some outside a narrowed range.

        Parameters
        ----------
        params : dict of str to object
            A value for each of :attr:`names` that exists for the candidate.

        Returns
        -------
        codes : dict of str to float or int
            The candidate, of the first alternative that it can be of. :meth:`decode`
            returns its values to the last digit.

        Raises
        ------
        ValueError
            If a hyperparameter is missing, unknown, does not exist together with the
            others, or has a value it cannot have.
        """
        errors = []
        for index in range(len(self.alternatives)):
            try:
                return self.active(self._encode_alternative(index, params))
            except ValueError as error:
                errors.append(error)
        if len(errors) == 1:
            raise errors[0]
        told = "; ".join(f"space[{i}]: {error}" for i, error in enumerate(errors))
        raise ValueError(f"the hyperparameters are those of no alternative: {told}")

    def active(self, codes: Candidate) -> Candidate:
        """Return the candidate without the codes that do not exist for it.

        Parameters
        ----------
        codes : dict of str to float or int
            A code for each of :attr:`dimensions`, at least for those that exist.

        Returns
        -------
        codes : dict of str to float or int
            The candidate, in the order of :attr:`dimensions`.
        """
        conditions = self._conditions
        return {
            name: dimension.snap(codes[name])
            for name, dimension in self.dimensions.items()
            if self._hold(conditions[name], codes)
        }

    def allows(self, codes: Candidate) -> bool:
        """Return whether the constraint allows a candidate.

        Parameters
        ----------
        codes : dict of str to float or int
            The candidate.

        Returns
        -------
        is_allowed : bool
            True without a constraint.

        Raises
        ------
        TypeError
            If the constraint returns anything but True or False.
        """
        return self.constraint is None or is_allowed(
            self.constraint, self.decode(codes)
        )

    def constrain(self, constraint: Constraint) -> "SearchSpace":
        """Return the same space with a constraint.

        Parameters
        ----------
        constraint : callable
            As in the constructor.

        Returns
        -------
        space : SearchSpace
            The space; this one is not changed.

        Raises
        ------
        ValueError
            If the space has a constraint, or the new one allows none of many candidates
            drawn at random.
        """
        if self.constraint is not None:
            raise ValueError(
                "the space has a constraint already: have one of them call the other"
            )
        constrained = copy(self)
        constrained.constraint = constraint
        if next(constrained.draw(random_state=0), None) is None:
            raise ValueError(
                "the constraint allows no candidate: it was False for "
                f"{MAX_REJECTED} in a row drawn at random, or for all that there are"
            )
        return constrained

    def complete(self, codes: Candidate) -> Candidate:
        """Return the candidate with a fixed code for each that does not exist for it.

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
            what does not exist for a candidate.
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
            A candidate that the constraint allows. There are no more once the space
            holds no other one, or the constraint has ruled out 10 000 in a row.
        """
        rng = check_random_state(random_state)
        dimensions = self.dimensions
        seen = {as_key(codes) for codes in exclude}
        n_missed = n_rejected = 0
        # With k of k + 1 candidates seen, the last one is missed in this many draws
        # with a probability of e^-20.
        while n_missed < 20 * (len(seen) + 1) and n_rejected < MAX_REJECTED:
            codes = self.active({name: d.rvs(rng) for name, d in dimensions.items()})
            n_missed += 1
            if (key := as_key(codes)) not in seen:
                seen.add(key)
                n_missed = 0
                if self.allows(codes):
                    n_rejected = 0
                    yield codes
                else:
                    n_rejected += 1

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
            before it, and anything else the middle of its range.
        """
        projected: Candidate = {}
        layer_before = {
            name: before
            for parameter in self.parameters
            for before, name in pairwise(parameter.dimensions)
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

        Each ordered range shrinks to what those of the candidates span that have it,
        plus a margin, but never below a floor, and never beyond the range it had. No
        value without an order is dropped, and no alternative.

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
        narrowed.names = self.names
        narrowed.constraint = self.constraint
        narrowed.alternatives = tuple(
            tuple(p if p.name in kept else p.narrow(narrow) for p in own)
            for own in self.alternatives
        )
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
            If `estimator.set_params` refuses a name, or that of a step that is searched
            itself is none of any of its choices; tells the nearest valid one.
        """
        for own in self.alternatives:
            check_parameters(estimator, own)

    @cached_property
    def _all_dimensions(self) -> dict[str, Dimension]:
        """The dimensions, also those with a single value."""
        choice = make_choice(len(self.alternatives))
        dimensions: dict[str, Dimension] = {}
        if choice is not None:
            dimensions[ALTERNATIVE] = choice
        for parameter in self.parameters:
            dimensions |= parameter.dimensions
        return dimensions

    @cached_property
    def _conditions(self) -> dict[str, tuple[Condition, ...]]:
        """All conditions of each code, of whole ranges."""
        conditions: dict[str, tuple[Condition, ...]] = {ALTERNATIVE: ()}
        for parameter in self.parameters:
            conditions |= parameter.code_conditions
        return conditions

    @cached_property
    def _lowest(self) -> dict[str, float]:
        """The code of each dimension that a candidate has if it has none."""
        return {name: dimension.low for name, dimension in self._all_dimensions.items()}

    def _hold(self, conditions, codes):
        """Return whether all conditions hold for a candidate."""
        lowest = self._lowest
        return all(
            codes.get(condition.parent, lowest[condition.parent]) in condition.codes
            for condition in conditions
        )

    def _find_codes(self, parameter, codes):
        """Return the names of the codes that a hyperparameter has in a candidate."""
        conditions = parameter.code_conditions
        return [name for name in conditions if self._hold(conditions[name], codes)]

    def _find_left(self, conditions):
        """Return what is left of conditions in a narrowed space."""
        left = []
        for condition in conditions:
            dimension = self._all_dimensions[condition.parent]
            codes = range(int(dimension.low), int(dimension.high) + 1)
            kept = tuple(code for code in condition.codes if code in codes)
            if len(kept) < len(codes):
                left.append(Condition(condition.parent, kept))
        return tuple(left)

    def _encode_alternative(self, index, params):
        """Return the codes of a candidate of an alternative, constants included."""
        codes: Candidate = {ALTERNATIVE: index}
        own = self.alternatives[index]
        # What others depend on comes first. Nothing depends on layers.
        plain = [parameter for parameter in own if parameter.depth is None]
        for parameter in sorted(plain, key=lambda p: len(p.conditions)):
            if parameter.name in params and self._hold(parameter.conditions, codes):
                names = self._find_codes(parameter, codes)
                codes |= parameter.encode(params[parameter.name], names)
        expected = {p.name for p in own if self._hold(p.conditions, codes)}
        if set(params) != expected:
            excluded = sorted({p.name for p in own} & set(params) - expected)
            raise ValueError(
                f"the hyperparameters are {sorted(expected)}, got {sorted(params)}"
                + (f"; with these values there is no {excluded}" if excluded else "")
            )
        for parameter in own:
            if parameter.depth is not None and parameter.name in expected:
                names = self._find_codes(parameter, codes)
                codes |= parameter.encode(params[parameter.name], names)
        return codes


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


def _check_alternatives(space):
    """Return the dicts of a space, or raise an error if it is of another form."""
    alternatives = space if isinstance(space, list) else [space]
    for alternative in alternatives:
        if not isinstance(alternative, Mapping):
            raise TypeError(
                "the space must be a dict of hyperparameters to distributions or "
                "lists, or a list of such dicts, got "
                f"{type(alternative).__name__}: {alternative!r}"
            )
        for name in alternative:
            if not isinstance(name, str):
                raise TypeError(f"names of hyperparameters must be str, got {name!r}")
    if not any(alternatives):
        raise ValueError("the space is empty: name at least one hyperparameter")
    return alternatives
