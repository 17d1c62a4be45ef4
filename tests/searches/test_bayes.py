import numpy as np
import pytest
from skopt import BayesSearchCV
from skopt.learning import ExtraTreesRegressor, GaussianProcessRegressor

from sklearn_iis.searches import StageBayesSearchCV, _bayes
from tests.formula import X, y
from tests.searches.test_base import make_search


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


def test_the_surrogate_learns_what_was_measured_and_the_worst_for_failures():
    def scorer(estimator, X, y):
        if estimator.degree == 4:
            raise RuntimeError("four")
        return estimator.score(X, y)

    with pytest.warns(UserWarning, match="non-finite"):
        search = make_search("bayes", scorer=scorer, n_iter=22).fit(X, y)
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
    drawn = first.fit(X, y).cv_results_["params"]
    assert search.cv_results_["params"][:15] == drawn
    assert first.optimizer_results_ == []


@pytest.mark.parametrize("n_points", [1, 3, 8])
def test_points_of_a_batch_differ(n_points):
    search = make_search("bayes", n_points=n_points, n_iter=24).fit(X, y)
    candidates = search.cv_results_["params"]
    assert len({tuple(codes.items()) for codes in candidates}) == 24
