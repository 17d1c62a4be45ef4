"""Particle swarm search."""

import math
from collections import defaultdict, deque
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np

from sklearn_iis._sklearn_compat import Interval
from sklearn_iis.searches._base import Sampler, StreamedSearch
from sklearn_iis.space import Candidate, SearchSpace, as_key

# The constriction of Clerc and Kennedy (2002) for attractions that add up to 4.1, and
# half of that sum times it.
INERTIA = 0.7298
ATTRACTION = 1.49618

# The longest step, as a fraction of a range.
MAX_STEP = 0.5


@dataclass(eq=False, repr=False, kw_only=True)
class StageSwarmSearchCV(StreamedSearch):
    """Particle swarm search, with constricted velocities.

    Each particle is a candidate that moves on [1]_. Its velocity is `inertia` times the
    one before, plus a pull to the best place that it has been at itself, and one to the
    best place of all particles. Both are `attraction` times the distance times a random
    number between 0 and 1 per dimension [2]_. A particle stops at the bounds.

    Do not use it

    - where an evaluation takes minutes: Bayesian search and TPE need fewer of them, and
      CMA-ES does for numbers;
    - with more workers than particles: what else they evaluate is drawn at random;
    - where several regions may be good: once all particles agree on one they do not
      leave it.

    Numbers that do not exist for a candidate, such as layers beyond its depth, are
    carried along. A choice without an order, that among the dicts of a list of spaces
    included, has one dimension per value, and the value is that with the largest
    coordinate. A particle whose candidate fails moves on, with no other best place.

    Parameters
    ----------
    estimator, space, n_iter, initial_candidates, scoring, n_jobs, refit, cv, verbose, \
    pre_dispatch, random_state, error_score, return_train_score
        See :class:`Search`. Initial candidates are where the first particles start.
        The others start at random.

    n_points : int, default=None
        Candidates proposed at once, and evaluated in parallel. None means one by one,
        each when a worker is free for it, so that proposals depend on which candidates
        are done by then: set it for candidates that are the same for any `n_jobs`.

    n_particles : int, default=None
        None means the square root of `n_iter`, at least 4 and at most 10, or as many as
        are evaluated at once if that is more, but then at most half of `n_iter`.

    inertia : float, default=0.7298
        What is kept of a velocity, below 1.

    attraction : float, default=1.49618
        How strongly either best place attracts. With the default of `inertia`, what
        Clerc and Kennedy's constriction comes to.

    References
    ----------
    .. [1] J. Kennedy, R. Eberhart. "Particle swarm optimization". Proceedings of the
       International Conference on Neural Networks, 1995.
    .. [2] M. Clerc, J. Kennedy. "The particle swarm: explosion, stability, and
       convergence in a multidimensional complex space". IEEE Transactions on
       Evolutionary Computation 6(1), 2002.

    Examples
    --------
    >>> from scipy.stats import loguniform
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.svm import SVC
    >>> from sklearn_iis import IISSearchCV
    >>> search = IISSearchCV(
    ...     SVC(),
    ...     {"C": loguniform(1e-3, 1e3), "gamma": loguniform(1e-4, 10)},
    ...     search="swarm",
    ...     n_iter=12,
    ...     search_params={"n_particles": 4},
    ...     random_state=0,
    ... )
    >>> bool(search.fit(*load_iris(return_X_y=True)).best_score_ > 0.9)
    True
    """

    n_particles: int | None = None
    inertia: float = INERTIA
    attraction: float = ATTRACTION

    _parameter_constraints: ClassVar[dict] = {
        **StreamedSearch._parameter_constraints,
        "n_particles": [Interval(Integral, 2, None, closed="left"), None],
        "inertia": [Interval(Real, 0, 1, closed="left")],
        "attraction": [Interval(Real, 0, None, closed="neither")],
    }

    def make_sampler(self, evaluate, random_state):
        """Return a swarm, of as many particles as suit the budget and the workers."""
        n_at_once = self.n_points or evaluate.n_workers
        return SwarmSampler(
            self.space,
            random_state=random_state,
            n_particles=self._find_n_particles(n_at_once),
            inertia=self.inertia,
            attraction=self.attraction,
        )

    def _find_n_particles(self, n_at_once: int) -> int:
        """Return how many particles there are."""
        if self.n_particles is not None:
            return self.n_particles
        if self.n_iter is None:
            return max(10, n_at_once)
        n_usual = max(4, min(10, math.isqrt(self.n_iter)))
        return max(n_usual, min(n_at_once, self.n_iter // 2))


@dataclass(eq=False)
class Particle:
    """A candidate that moves: its place and its velocity, in the unit cube."""

    place: np.ndarray
    velocity: np.ndarray = field(init=False)
    best: np.ndarray | None = None
    best_score: float = -math.inf

    def __post_init__(self):
        self.velocity = np.zeros_like(self.place)


class SwarmSampler(Sampler):
    """Particles, each of which moves when it has its turn.

    Parameters
    ----------
    space : SearchSpace
        The hyperparameters.

    random_state : RandomState instance
        Determines how they move.

    n_particles : int, default=10
        As many candidates are placed by whoever asks; they are particles from then on.

    inertia, attraction : float, default=0.7298 and 1.49618
        See :class:`StageSwarmSearchCV`.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        random_state: np.random.RandomState,
        n_particles: int = 10,
        inertia: float = INERTIA,
        attraction: float = ATTRACTION,
    ):
        self.space = space
        self.rng = random_state
        self.n_particles = n_particles
        self.inertia = inertia
        self.attraction = attraction
        self.particles: list[Particle] = []
        # Particles in the order of their turns, and those whose score is waited for.
        self._idle: deque[Particle] = deque()
        self._moved: dict[tuple[tuple[str, Any], ...], list[Particle]] = defaultdict(
            list
        )

    def ask(self) -> Candidate | None:
        best = max(self.particles, key=lambda p: p.best_score, default=None)
        if (
            len(self.particles) < self.n_particles
            or not self._idle
            or best is None
            or best.best is None
        ):
            return None
        particle = self._idle.popleft()
        self._move(particle, best.best)
        codes = self._decode(particle.place)
        self._moved[as_key(self.space.active(codes))].append(particle)
        return codes

    def expect(self, candidate: Candidate) -> None:
        if len(self.particles) < self.n_particles:
            particle = Particle(self._encode(candidate))
            self.particles.append(particle)
            self._moved[as_key(candidate)].append(particle)

    def tell(self, candidate: Candidate, score: float) -> None:
        particles = self._moved.pop(as_key(candidate), None)
        is_known = not np.isnan(score)
        if particles is None:
            # Without a particle of its own, it is a better place of the worst one.
            if self.particles and is_known:
                worst = min(self.particles, key=lambda p: p.best_score)
                _remember(worst, self._encode(candidate), score)
            return
        for particle in particles:
            if is_known:
                _remember(particle, particle.place, score)
            self._idle.append(particle)

    def _move(self, particle: Particle, best: np.ndarray) -> None:
        """Move a particle, pulled by its own best place and that of all."""
        own = best if particle.best is None else particle.best
        velocity = self.inertia * particle.velocity
        for attractor in (own, best):
            pull = self.attraction * self.rng.uniform(size=len(best))
            velocity = velocity + pull * (attractor - particle.place)
        velocity = np.clip(velocity, -MAX_STEP, MAX_STEP)
        place = particle.place + velocity
        particle.place = np.clip(place, 0, 1)
        particle.velocity = np.where(place == particle.place, velocity, 0)

    def _encode(self, candidate: Candidate) -> np.ndarray:
        """Return the place of a candidate."""
        complete = self.space.complete(candidate)
        parts: list[np.ndarray] = []
        for name, dimension in self.space.dimensions.items():
            if dimension.ordered:
                parts.append(np.array([dimension.unit(complete[name])]))
            else:
                parts.append(np.arange(dimension.n_levels) == complete[name])
        return np.concatenate(parts).astype(float)

    def _decode(self, place: np.ndarray) -> Candidate:
        """Return the candidate at a place, with codes that may not exist for it."""
        codes: Candidate = {}
        start = 0
        for name, dimension in self.space.dimensions.items():
            if dimension.ordered:
                codes[name] = dimension.from_unit(place[start])
                start += 1
            else:
                coordinates = place[start : start + int(dimension.n_levels)]
                # At the bounds several may be equal.
                largest = np.flatnonzero(coordinates == coordinates.max())
                codes[name] = int(self.rng.choice(largest))
                start += len(coordinates)
        return codes


def _remember(particle, place, score):
    """Keep a place as the best of a particle if it is."""
    if score > particle.best_score:
        particle.best, particle.best_score = place, score
