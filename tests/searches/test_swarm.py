import math

import numpy as np
import pytest
from scipy import stats

from sklearn_iis import PerLayer, SearchSpace
from sklearn_iis.searches._swarm import ATTRACTION, INERTIA, SwarmSampler
from sklearn_iis.testing import X, y
from tests.searches.test_base import make_search

PLANE = {"x": stats.uniform(0, 1), "y": stats.uniform(0, 1)}


def make_sampler(space=PLANE, **settings):
    return SwarmSampler(
        SearchSpace(space), random_state=np.random.RandomState(0), **settings
    )


def place(sampler, *scored):
    """Have particles begin at candidates, with the scores that these have."""
    for candidate, score in scored:
        assert sampler.ask() is None
        sampler.expect(candidate)
        sampler.tell(candidate, score)


def point(x, y):
    return {"x": x, "y": y}


def test_constants_are_those_of_clerc_and_kennedy():
    phi = 4.1
    constriction = 2 / (phi - 2 + math.sqrt(phi**2 - 4 * phi))
    assert pytest.approx(constriction, abs=1e-4) == INERTIA
    assert pytest.approx(constriction * phi / 2, abs=2e-4) == ATTRACTION


def test_particles_move_by_the_equation():
    """v = w v + c r1 (own best - x) + c r2 (best of all - x), in turns."""
    sampler = make_sampler(n_particles=2)
    place(sampler, (point(0.5, 0.5), 0.0), (point(0.6, 0.3), 1.0))
    rng = np.random.RandomState(0)
    best = np.array([0.6, 0.3])

    def pull(attractor, place):
        return ATTRACTION * rng.uniform(size=2) * (attractor - place)

    first = np.array([0.5, 0.5])
    velocity = pull(first, first) + pull(best, first)
    moved = first + velocity
    proposal = sampler.ask()
    assert list(proposal.values()) == pytest.approx(moved)
    sampler.tell(proposal, 0.5)  # a better place of its own, but not of all
    assert sampler.ask() == point(0.6, 0.3)  # the best one attracts itself
    rng.uniform(size=4)
    velocity = INERTIA * velocity + pull(moved, moved) + pull(best, moved)
    assert list(sampler.ask().values()) == pytest.approx(moved + velocity)


def test_particles_stop_at_the_bounds():
    sampler = make_sampler(n_particles=2)
    place(sampler, (point(0.9, 0.5), 0.0), (point(0.95, 0.5), 1.0))
    sampler.particles[0].velocity = np.array([0.4, 0.1])
    codes = sampler.ask()
    assert codes["x"] == 1
    assert codes["y"] == pytest.approx(0.5 + INERTIA * 0.1)
    assert sampler.particles[0].velocity == pytest.approx([0, INERTIA * 0.1])


def test_no_step_is_longer_than_half_of_a_range():
    sampler = make_sampler(n_particles=2, attraction=50.0)
    place(sampler, (point(0.1, 0.1), 0.0), (point(0.9, 0.1), 1.0))
    assert sampler.ask()["x"] == pytest.approx(0.6)


def test_it_converges_to_the_optimum_of_a_sphere():
    sampler = make_sampler(n_particles=10)
    drawn = iter(sampler.space.sample(10, random_state=0))
    scores = []
    for _ in range(400):
        codes = sampler.ask()
        if codes is None:
            codes = next(drawn)
            sampler.expect(codes)
        scores.append(-((codes["x"] - 0.3) ** 2) - (codes["y"] - 0.8) ** 2)
        sampler.tell(codes, scores[-1])
    assert max(scores) > -1e-6


def test_failures_are_no_best_place():
    sampler = make_sampler(n_particles=2)
    place(sampler, (point(0.5, 0.5), float("nan")), (point(0.6, 0.3), 1.0))
    failed, best = sampler.particles
    assert failed.best is None
    sampler.ask()
    # Drawn by what the other one found only.
    assert 0.5 < failed.place[0] < 0.5 + 2 * ATTRACTION * 0.1
    sampler.tell(sampler.ask(), float("nan"))
    assert best.best_score == 1


def test_without_any_score_candidates_are_drawn_at_random():
    sampler = make_sampler(n_particles=2)
    place(sampler, (point(0.5, 0.5), math.nan), (point(0.6, 0.3), math.nan))
    assert sampler.ask() is None
    # One that turns up later has a particle follow it.
    sampler.tell(point(0.1, 0.1), 0.0)
    assert sampler.ask() is not None


def test_a_better_candidate_of_others_replaces_the_worst_best_place():
    sampler = make_sampler(n_particles=2)
    place(sampler, (point(0.5, 0.5), 0.0), (point(0.6, 0.3), 1.0))
    sampler.tell(point(0.2, 0.2), -1.0)
    assert [p.best_score for p in sampler.particles] == [0, 1]
    sampler.tell(point(0.2, 0.2), 2.0)
    assert [p.best_score for p in sampler.particles] == [2, 1]
    np.testing.assert_array_equal(sampler.particles[0].best, [0.2, 0.2])


def test_while_all_particles_are_waited_for_candidates_are_drawn_at_random():
    sampler = make_sampler(n_particles=2)
    place(sampler, (point(0.5, 0.5), 0.0), (point(0.6, 0.3), 1.0))
    first, second = sampler.ask(), sampler.ask()
    assert sampler.ask() is None
    sampler.tell(second, 0.0)
    sampler.tell(first, 0.0)
    # In the order of their scores.
    moved = sampler.particles[1].place
    assert list(sampler.ask().values()) == pytest.approx(sampler.particles[1].place)
    assert moved is not sampler.particles[1].place


def test_places_are_those_of_candidates():
    space = SearchSpace(
        {
            "rate": stats.loguniform(1e-4, 1),
            "degree": stats.randint(1, 8),
            "kind": ["a", "b", "c"],
            "n_layers": [1, 2, 3],
            "widths": PerLayer(["s", "l"], depth="n_layers"),
        }
    )
    candidates = space.sample(20, random_state=0)
    for narrow in (space, space.narrow(candidates[:2], margin=0, floor=0.1)):
        sampler = SwarmSampler(narrow, random_state=np.random.RandomState(0))
        for candidate in map(narrow.project, candidates):
            codes = sampler._decode(sampler._encode(candidate))
            assert narrow.active(codes) == pytest.approx(candidate)


def test_of_equal_coordinates_either_choice_is_made():
    sampler = make_sampler({"kind": ["a", "b", "c"]})
    kinds = {sampler._decode(np.array([1.0, 0.5, 1.0]))["kind"] for _ in range(20)}
    assert kinds == {0, 2}


@pytest.mark.parametrize(
    ("n_iter", "n_points", "n_particles"),
    [(9, 1, 4), (64, 1, 8), (1000, 1, 10), (30, 20, 15), (100, 20, 20), (None, 4, 10)],
)
def test_number_of_particles(n_iter, n_points, n_particles):
    search = make_search("swarm", PLANE, n_iter=n_iter)
    assert search._find_n_particles(n_points) == n_particles
    search = make_search("swarm", PLANE, n_iter=n_iter, n_particles=7)
    assert search._find_n_particles(n_points) == 7


def test_initial_candidates_are_where_particles_begin():
    search = make_search(
        "swarm", {"rate": stats.loguniform(1e-4, 1)}, n_iter=12, n_particles=4
    )
    initial = search.space.sample(3, random_state=7)
    search.set_params(initial_candidates=initial).fit(X, y)
    assert search.candidates_[:3] == initial


@pytest.mark.parametrize(
    "setting", [{"n_particles": 1}, {"inertia": 1.0}, {"attraction": 0}]
)
def test_bad_settings(setting):
    (name,) = setting
    with pytest.raises(ValueError, match=f"The '{name}' parameter"):
        make_search("swarm", **setting).fit(X, y)
