import pickle
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats
from sklearn.base import clone
from skopt import BayesSearchCV
from skopt.learning import ExtraTreesRegressor, GaussianProcessRegressor

from sklearn_iis import OnlyIf, PerLayer, SearchSpace
from sklearn_iis.searches import StageBayesSearchCV, _bayes
from sklearn_iis.space import distinct
from sklearn_iis.testing import X, y
from tests.searches.test_base import hold, make_search


def test_it_is_a_bayes_search():
    search = make_search("bayes").fit(X, y)
    assert isinstance(search, BayesSearchCV)
    assert isinstance(search, StageBayesSearchCV)


def test_trees_take_over_from_the_gaussian_process(monkeypatch):
    monkeypatch.setattr(_bayes, "MAX_GAUSSIAN_PROCESS", 12)
    for n_iter, surrogate in (
        (12, GaussianProcessRegressor),
        (20, ExtraTreesRegressor),
    ):
        (result,) = make_search("bayes", n_iter=n_iter).fit(X, y).optimizer_results_
        assert isinstance(result.models[-1], surrogate)


@pytest.mark.filterwarnings("ignore:.*(failed|non-finite)")
def test_the_surrogate_learns_the_scores_and_the_worst_for_failures():
    def scorer(estimator, X, y):
        if estimator.degree == 4:
            raise RuntimeError("four")
        return estimator.score(X, y)

    search = make_search("bayes", scorer=scorer, n_iter=22, n_points=2).fit(X, y)
    (result,) = search.optimizer_results_
    # The last batch was not told, there was nothing left to propose.
    scores = search.cv_results_["mean_test_score"][:20]
    assert np.isnan(scores).any()
    worst = np.nanmin(scores)
    np.testing.assert_allclose(result.func_vals[:20], -np.nan_to_num(scores, nan=worst))


def test_optimizer_kwargs_override_the_defaults():
    search = make_search(
        "bayes",
        optimizer_kwargs={"base_estimator": "RF", "n_initial_points": 15},
    ).fit(X, y)
    (result,) = search.optimizer_results_
    assert type(result.models[-1]).__name__ == "RandomForestRegressor"
    first = make_search("bayes", n_iter=15, optimizer_kwargs={"n_initial_points": 15})
    assert search.candidates_[:15] == first.fit(X, y).candidates_
    assert first.optimizer_results_ == []


@pytest.mark.parametrize("n_points", [1, 3, 8])
def test_points_of_a_batch_differ(n_points):
    search = make_search("bayes", n_points=n_points, n_iter=24).fit(X, y)
    assert len(distinct(search.candidates_)) == 24


def make_sampler(**settings):
    """Return what a search has its candidates proposed by."""
    kept = []

    def stream(sampler, random_state, *, n_points):
        kept.append(sampler)

    search = make_search("bayes", **settings)
    search.run(SimpleNamespace(stream=stream), np.random.RandomState(0))
    assert search.optimizer_results_ == []
    return kept[0]


def test_by_default_candidates_are_proposed_one_by_one():
    assert make_search("bayes").is_asynchronous
    assert not make_search("bayes", n_points=3).is_asynchronous


@pytest.mark.parametrize(("n_iter", "n_initial"), [(9, 3), (50, 10), (None, 10)])
def test_the_first_candidates_are_drawn_at_random(n_iter, n_initial):
    """Those that were told, and those under way, count among them."""
    sampler = make_sampler(n_iter=n_iter)
    drawn = sampler.space.sample(n_initial + 1, random_state=1)
    for i in range(n_initial):
        assert sampler.ask() is None
        sampler.expect(drawn[i])
        if i % 2:
            sampler.tell(drawn[i], float("nan"))
    # So are further ones as long as none has a score.
    assert sampler.ask() is None
    sampler.expect(drawn[-1])
    sampler.tell(drawn[-1], 0.5)
    assert sampler.ask() not in [None, *drawn]


def test_the_kernel_is_kept_while_workers_wait():
    sampler = make_sampler(n_iter=9)
    for codes in sampler.space.sample(12, random_state=1):
        sampler.tell(codes, codes["rate"])

    proposals = [sampler.ask()]
    (fitted,) = sampler.optimizer.models
    proposals.append(sampler.ask())
    (kept,) = sampler.optimizer.models
    assert kept is not fitted
    assert kept.kernel_ == fitted.kernel_
    # With nobody waiting, it is fitted anew.
    for codes, score in zip(proposals, (-2.0, 3.0), strict=True):
        sampler.tell(sampler.space.active(codes), score)
    sampler.ask()
    (fitted_anew,) = sampler.optimizer.models
    assert fitted_anew.kernel_ != fitted.kernel_


def test_a_search_that_is_cut_short_has_the_result_of_its_surrogate():
    def stream(sampler, random_state, *, n_points):
        for codes in sampler.space.sample(5, random_state=1):
            sampler.tell(codes, codes["rate"])
        sampler.ask()
        raise TimeoutError

    search = make_search("bayes", n_iter=9)
    with pytest.raises(TimeoutError):
        search.run(SimpleNamespace(stream=stream), np.random.RandomState(0))
    (result,) = search.optimizer_results_
    assert len(result.x_iters) == 5


LAYERED = {
    "rate": stats.uniform(),
    "n_layers": [1, 2, 4],
    "widths": PerLayer(stats.randint(1, 9), depth="n_layers"),
    "kinds": PerLayer(["a", "b", "c"], depth="n_layers"),
}


# One parent has a column for each of its values, and one a column for two of them.
CONDITIONAL = [
    {"rate": stats.uniform(), "widths": [1]},
    {
        "kind": ["a", "b"],
        "degree": OnlyIf(stats.randint(1, 9), "kind", ["b"]),
        "widths": stats.randint(1, 9),
    },
    {"kind": ["c", "d", "e"], "rate": OnlyIf(stats.uniform(), "kind", ["c", "e"])},
]


@pytest.fixture(params=["whole", "narrowed to a single depth", "alternatives"])
def layered(request):
    """Return a space, its fitted surrogate, and how candidates become its points."""
    space = SearchSpace(CONDITIONAL if request.param == "alternatives" else LAYERED)
    if request.param == "narrowed to a single depth":
        shallow = space.encode(
            {"rate": 0.5, "n_layers": 2, "widths": (3, 3), "kinds": ("a", "b")}
        )
        space = space.narrow([shallow], margin=0, floor=0)
        space = hold(space, "n_layers", 1)
    search = StageBayesSearchCV(None, space)
    optimizer = search._make_optimizer({"base_estimator": "GP"}, random_state=0)

    def transform(candidates):
        return optimizer.space.transform(
            [
                [codes[d.name] for d in optimizer.space.dimensions]
                for codes in candidates
            ]
        )

    rng = np.random.RandomState(0)
    candidates = [space.complete(c) for c in space.sample(30, random_state=rng)]
    scores = [sum(codes.values()) ** 2 / 8 for codes in candidates]
    surrogate = clone(optimizer.base_estimator_).fit(transform(candidates), scores)
    return space, pickle.loads(pickle.dumps(surrogate)), transform


# What the score does not depend on gets a length scale at its bound.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_predictions_do_not_depend_on_what_a_candidate_lacks(layered):
    space, surrogate, transform = layered
    rng = np.random.RandomState(1)
    gradients = {"return_mean_grad": True, "return_std_grad": True}
    for codes in space.sample(50, random_state=rng):
        drawn, redrawn = (
            {name: d.rvs(rng) for name, d in space.dimensions.items()} for _ in range(2)
        )
        points = transform([drawn | codes, redrawn | codes, space.complete(codes)])
        plain = GaussianProcessRegressor.predict(surrogate, points[-1:])
        mean, deviation = surrogate.predict(points, return_std=True)
        np.testing.assert_allclose(mean, np.repeat(plain, 3), atol=1e-9)
        np.testing.assert_allclose(deviation, np.repeat(deviation[:1], 3), atol=1e-9)
        slopes = surrogate.predict(points[:1], return_std=True, **gradients)[2:]
        missing = np.any(points[0] != points[1:], axis=0)
        for slope in slopes:
            assert not slope[missing].any()
            assert slope.any()


def test_without_layers_the_surrogate_is_that_of_scikit_optimize():
    search = StageBayesSearchCV(None, SearchSpace({"rate": stats.uniform()}))
    optimizer = search._make_optimizer({"base_estimator": "GP"}, random_state=0)
    assert type(optimizer.base_estimator_) is GaussianProcessRegressor
