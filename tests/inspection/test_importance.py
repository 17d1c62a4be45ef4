"""Importance of the hyperparameters of a fitted search, of any kind."""

import numpy as np
import pytest
from scipy.stats import loguniform, randint, uniform
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import FitFailedWarning, NotFittedError
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    HalvingRandomSearchCV,
    RandomizedSearchCV,
)
from sklearn.utils import Bunch

from sklearn_iis import IISSearchCV
from sklearn_iis.inspection import (
    ImportanceResult,
    functional_anova,
    hyperparameter_importance,
    hyperparameter_marginal,
)
from sklearn_iis.testing import SPACE, FormulaClassifier, X, y

ONE_SPLIT = [(np.arange(20), np.arange(20))]


class RateRegressor(RegressorMixin, BaseEstimator):
    """Its score is log10(rate) + slope * rest, whatever the data."""

    def __init__(self, rate=1.0, rest=0.5, other="a"):
        self.rate = rate
        self.rest = rest
        self.other = other

    def fit(self, X, y):
        self.n_features_in_ = X.shape[1]
        return self

    def score(self, X, y):
        # Variances: 16 / 12 over four decades, and 0.17 / 0.83 of that.
        return np.log10(self.rate) + np.sqrt(16 * 0.17 / 0.83) * self.rest


RATE_SPACE = {"rate": loguniform(1e-4, 1), "rest": uniform(0, 1), "other": ["a", "b"]}


@pytest.fixture(scope="module")
def staged():
    """Three sizes, with failures, and a layer that not all candidates have."""
    return IISSearchCV(
        FormulaClassifier(fails_below=2e-4),
        SPACE,
        sizes=(1, 2, 4),
        size_param="size",
        n_iter=(60, 40, 20),
        cv=ONE_SPLIT,
        random_state=0,
    )


@pytest.fixture(scope="module")
def fitted(staged):
    with pytest.warns(FitFailedWarning, match="candidates failed"):
        return staged.fit(X, y)


def test_log_scale():
    """The true share of the rate is 0.83, as it counts by its logarithm."""
    search = RandomizedSearchCV(
        RateRegressor(), RATE_SPACE, n_iter=2000, cv=ONE_SPLIT, random_state=0
    ).fit(X, y)
    result = hyperparameter_importance(search, random_state=0)
    shares = dict(
        zip(result.overall.subsets, result.overall.importances_mean, strict=True)
    )
    assert shares["rate",] == pytest.approx(0.83, abs=0.03)
    assert shares["rest",] == pytest.approx(0.17, abs=0.03)
    assert shares["other",] < 0.005

    marginal = hyperparameter_marginal(search, "rate", n_points=5, random_state=0)
    (stage,) = marginal.stages
    np.testing.assert_allclose(stage.grid_values, [[1e-4, 1e-3, 1e-2, 1e-1, 1]])
    slope = np.sqrt(16 * 0.17 / 0.83)
    # At the ends, trees know one side only.
    np.testing.assert_allclose(stage.mean, np.arange(-4, 1) + slope / 2, atol=0.1)
    assert (stage.std < 0.3).all()


def test_stages_and_all_of_them(fitted):
    result = hyperparameter_importance(fitted, n_estimators=16, random_state=0)
    assert [stage.size for stage in result.stages] == [1, 2, 4]
    errors = fitted.cv_results_["error"]
    for i, stage in enumerate(result.stages):
        rows = fitted.cv_results_["stage"] == i
        assert stage.stage == i
        assert stage.n_candidates == sum(e is None for e in errors[rows])
        names = list(fitted.spaces_[i].dimensions)
        assert stage.subsets[: len(names)] == [(name,) for name in names]
        assert ("rate", "widths[0]") in stage.subsets
        assert len(stage.subsets) == len(names) * (len(names) + 1) / 2
        assert stage.importances.shape == (len(stage.subsets), 16)
        assert stage.total_explained == pytest.approx(stage.importances_mean.sum())
        alone = hyperparameter_importance(
            fitted, stage=i - 3, n_estimators=16, random_state=0
        )
        assert alone.overall is alone.stages[0]
        np.testing.assert_array_equal(alone.overall.importances, stage.importances)
    assert (errors != None).any()  # noqa: E711
    overall = result.overall
    assert overall.n_candidates == sum(s.n_candidates for s in result.stages)
    assert ("size",) in overall.subsets
    assert ("rate", "size") in overall.subsets
    assert ("size",) not in result.stages[0].subsets


def test_frame(fitted):
    result = hyperparameter_importance(
        fitted, max_order=1, n_estimators=4, random_state=0
    )
    frame = result.to_frame()
    assert list(frame) == ["stage", "size", "subset", "order", "importance", "std"]
    assert frame["stage"].unique().tolist() == [0, 1, 2, "all"]
    assert frame["size"].unique().tolist() == [1, 2, 4, None]
    for stage in [*result.stages, result.overall]:
        rows = frame[frame["stage"] == stage.stage]
        assert rows["importance"].tolist() == stage.importances_mean.tolist()
        assert rows["std"].tolist() == stage.importances_std.tolist()
    pairs = hyperparameter_importance(fitted, stage=0, n_estimators=4).to_frame()
    assert pairs["stage"].unique().tolist() == [0]
    assert pairs[pairs["order"] == 2]["subset"].iloc[0] == "rate x degree"


def test_narrowed_ranges_are_the_whole_space_of_their_stage(fitted):
    """A narrowed range is stretched to the unit cube, in codes."""
    space = fitted.spaces_[2]
    low, high = space.dimensions["rate"].low, space.dimensions["rate"].high
    assert (low, high) != (0, 1)
    (stage,) = hyperparameter_marginal(
        fitted, "rate", stage=2, n_points=3, random_state=0
    ).stages
    np.testing.assert_allclose(
        stage.grid_values[0], loguniform(1e-4, 1).ppf([low, (low + high) / 2, high])
    )
    # The formula is the worse, the farther the rate is from 0.01, code 0.5.
    farthest = np.argmax(np.abs(np.array([low, (low + high) / 2, high]) - 0.5))
    assert stage.mean.argmin() == farthest


def test_a_stage_is_a_search_too(fitted):
    ours = hyperparameter_importance(fitted, stage=1, n_estimators=8, random_state=0)
    alone = hyperparameter_importance(fitted.stages_[1], n_estimators=8, random_state=0)
    assert alone.overall.subsets == ours.overall.subsets
    np.testing.assert_array_equal(alone.overall.importances, ours.overall.importances)


def test_layers_are_credited_where_they_exist(fitted):
    """The third layer exists in a third of the candidates, the first in all."""
    result = hyperparameter_importance(fitted, stage=0, max_order=1, random_state=0)
    overall = result.overall
    shares = dict(zip(overall.subsets, overall.importances_mean, strict=True))
    assert shares["rate",] > 0.2
    assert 0 < shares["widths[0]",] < 0.3
    assert 0 < shares["widths[2]",] < 0.05


def test_small_stages_are_left_out():
    few = IISSearchCV(
        FormulaClassifier(),
        SPACE,
        sizes=(1, 2),
        size_param="size",
        n_iter=(12, 4),
        cv=ONE_SPLIT,
        random_state=0,
    ).fit(X, y)
    arguments = {"n_estimators": 4, "random_state": 0}
    with pytest.warns(UserWarning, match=r"left out: at least 10 .* size 2 has 4"):
        result = hyperparameter_importance(few, **arguments)
    assert [stage.size for stage in result.stages] == [1]
    assert result.overall.n_candidates == 16
    with pytest.warns(UserWarning, match="left out"):
        marginal = hyperparameter_marginal(few, "rate", **arguments)
    assert [stage.size for stage in marginal.stages] == [1]
    with pytest.raises(ValueError, match="in a stage, but size 2 has 4; stage="):
        hyperparameter_importance(few, stage=1)

    together = hyperparameter_importance(few, stage="all", **arguments)
    assert [stage.stage for stage in together.stages] == ["all"]
    np.testing.assert_array_equal(
        together.overall.importances, result.overall.importances
    )
    assert together.to_frame()["stage"].unique().tolist() == ["all"]
    (stage,) = hyperparameter_marginal(few, "size", stage="all", **arguments).stages
    assert stage.grid_values == [[1, 2]]
    assert stage.mean.shape == (2,)


def test_repeated_sizes_are_told_apart():
    search = IISSearchCV(
        FormulaClassifier(),
        SPACE,
        sizes=(8, 8, 16),
        size_param="size",
        n_iter=(12, 12, 12),
        cv=ONE_SPLIT,
        random_state=0,
    ).fit(X, y)
    result = hyperparameter_importance(search, max_order=1, n_estimators=2)
    labels = [stage.label for stage in result.stages]
    assert labels == ["8 (stage 0)", "8 (stage 1)", "16"]


def test_a_hyperparameter_may_be_called_like_a_column_of_ours():
    search = IISSearchCV(
        FormulaClassifier(),
        {"size": [1, 2, 3, 4], "rate": loguniform(1e-4, 1)},
        sizes=(5, 6),
        size_param="max_epochs",
        n_iter=(12, 12),
        cv=ONE_SPLIT,
        random_state=0,
    ).fit(X, y)
    result = hyperparameter_importance(search, max_order=1, n_estimators=4)
    assert result.overall.subsets == [("size",), ("rate",), ("size (of the stage)",)]


def test_a_metric_that_failed_does_not_fail_the_others():
    search = RandomizedSearchCV(
        RateRegressor(),
        RATE_SPACE,
        scoring={"none": lambda *args: np.nan, "score": RateRegressor.score},
        refit="score",
        n_iter=12,
        cv=ONE_SPLIT,
        random_state=0,
    )
    with pytest.warns(UserWarning, match="non-finite"):
        search.fit(X, y)
    result = hyperparameter_importance(search, max_order=1, random_state=0).overall
    assert result.n_candidates == 12
    with pytest.raises(ValueError, match="stage 0 has 0"):
        hyperparameter_importance(search, metric="none")


def test_rank():
    result = ImportanceResult(
        stages=[
            Bunch(subsets=[("a",), ("b",)], importances_mean=[0.5, 0.4]),
            Bunch(subsets=[("a",), ("c",)], importances_mean=[0.1, 0.3]),
        ]
    )
    assert result.rank() == [("a",), ("b",), ("c",)]


@pytest.mark.parametrize("kind", ["grid", "halving"])
def test_other_searches_of_scikit_learn(kind):
    if kind == "grid":
        search = GridSearchCV(
            RateRegressor(),
            {"rate": [1e-3, 1e-2, 1e-1, 1], "rest": [0.0, 0.5, 1.0]},
            cv=ONE_SPLIT,
        )
        # Of the log of four values a decade apart; of three values.
        variances = [15 / 12, 16 * 0.17 / 0.83 / 6]
    else:
        search = HalvingRandomSearchCV(
            DummyClassifier(strategy="most_frequent"),
            {"random_state": randint(0, 1000)},
            resource="n_samples",
            n_candidates=12,
            min_resources=5,
            factor=2,
            cv=2,
            random_state=0,
        )
    search.fit(X, y)
    result = hyperparameter_importance(search, random_state=0).overall
    shares = dict(zip(result.subsets, result.importances_mean, strict=True))
    if kind == "grid":
        assert result.n_candidates == 12
        expected = np.array(variances) / sum(variances)
        got = [shares["rate",], shares["rest",]]
        np.testing.assert_allclose(got, expected, atol=0.05)
    else:
        assert ("n_resources",) in shares


def test_resources_are_one_more_hyperparameter():
    """The score of the formula grows with the epochs, and Hyperband varies them."""
    search = IISSearchCV(
        FormulaClassifier(),
        SPACE,
        search="hyperband",
        search_params={"resource": "max_epochs"},
        n_iter=12,
        cv=ONE_SPLIT,
        random_state=0,
    ).fit(X, y)
    result = hyperparameter_importance(search, max_order=1, random_state=0)
    assert ("n_resources",) in result.overall.subsets
    assert result.overall.n_candidates == len(search.cv_results_["params"])
    (stage,) = hyperparameter_marginal(search, "n_resources", random_state=0).stages
    assert stage.grid_values[0] == sorted(set(search.cv_results_["n_resources"]))


def test_metric():
    search = IISSearchCV(
        LogisticRegression(),
        {"C": loguniform(1e-4, 1e2), "fit_intercept": [True, False]},
        scoring=["accuracy", "neg_log_loss"],
        refit="neg_log_loss",
        n_iter=15,
        cv=2,
        random_state=0,
    ).fit(X, y)
    arguments = {"n_estimators": 4, "random_state": 0}
    guiding = hyperparameter_importance(search, **arguments).overall.importances
    by_name = [
        hyperparameter_importance(search, metric=m, **arguments).overall.importances
        for m in ("neg_log_loss", "accuracy")
    ]
    np.testing.assert_array_equal(guiding, by_name[0])
    assert not np.array_equal(*by_name)
    plain = RandomizedSearchCV(
        LogisticRegression(),
        {"C": loguniform(1e-4, 1e2), "fit_intercept": [True, False]},
        scoring=["accuracy", "neg_log_loss"],
        refit="neg_log_loss",
        n_iter=15,
        cv=2,
        random_state=0,
    ).fit(X, y)
    np.testing.assert_array_equal(
        hyperparameter_importance(plain, **arguments).overall.importances,
        hyperparameter_importance(
            plain, metric="neg_log_loss", **arguments
        ).overall.importances,
    )
    with pytest.raises(ValueError, match=r"no scores of metric='f1', only of \["):
        hyperparameter_importance(search, metric="f1")


def test_marginal_of_a_pair(fitted):
    result = hyperparameter_marginal(
        fitted, ("kind", "n_layers"), n_estimators=8, random_state=0
    )
    assert result.names == ("kind", "n_layers")
    assert [stage.size for stage in result.stages] == [1, 2, 4]
    for stage in result.stages:
        kinds, layers = stage.grid_values
        assert kinds == ["a", "b", "c"]
        assert stage.mean.shape == stage.std.shape == (3, len(layers))
    first = result.stages[0]
    best = np.unravel_index(first.mean.argmax(), first.mean.shape)
    assert first.grid_values[0][best[0]] == "b"


def test_marginal_over_a_wide_range_of_integers():
    """Its ends are not exact as floats."""
    search = RandomizedSearchCV(
        RateRegressor(),
        {"rate": loguniform(1e-4, 1), "other": randint(0, 2**62)},
        n_iter=12,
        cv=ONE_SPLIT,
        random_state=0,
    ).fit(X, y)
    (stage,) = hyperparameter_marginal(
        search, "other", n_points=3, n_estimators=2, random_state=0
    ).stages
    (values,) = stage.grid_values
    assert (values[0], values[-1]) == (0, 2**62 - 1)


def test_equals_functional_anova_of_the_codes():
    search = RandomizedSearchCV(
        RateRegressor(), RATE_SPACE, n_iter=30, cv=ONE_SPLIT, random_state=0
    ).fit(X, y)
    results = search.cv_results_
    codes = np.stack(
        [
            np.log10(results["param_rate"].astype(float)) / 4 + 1,
            results["param_rest"].astype(float),
            np.where(results["param_other"] == "a", 0.25, 0.75),
        ],
        axis=1,
    )
    expected = functional_anova(codes, results["mean_test_score"], random_state=0)
    result = hyperparameter_importance(search, random_state=0).overall
    np.testing.assert_allclose(result.importances, expected.importances, atol=1e-9)


def test_engine_fanova(fitted):
    pytest.importorskip("fanova", reason="needs the extra fanova")
    result = hyperparameter_importance(
        fitted, stage=0, max_order=1, n_estimators=8, random_state=0, engine="fanova"
    ).overall
    assert result.importances.shape == (len(result.subsets), 8)
    assert result.subsets[result.importances_mean.argmax()] in {("rate",), ("kind",)}


def test_bad_input(fitted):
    with pytest.raises(NotFittedError):
        hyperparameter_importance(IISSearchCV(FormulaClassifier(), SPACE))
    with pytest.raises(ValueError, match="stage=3 does not exist: there are 3"):
        hyperparameter_importance(fitted, stage=3)
    with pytest.raises(ValueError, match="engine"):
        hyperparameter_importance(fitted, engine="xgboost")
    with pytest.raises(ValueError, match=r"'widths' was not searched; .*'widths\[0\]'"):
        hyperparameter_marginal(fitted, "widths")
    for names in ((), ("rate", "rate")):
        with pytest.raises(ValueError, match="must be different hyperparameters"):
            hyperparameter_marginal(fitted, names)
    constant = IISSearchCV(FormulaClassifier(), {"degree": [3]}, n_iter=1, cv=2)
    with pytest.raises(ValueError, match="no hyperparameter has more than one value"):
        hyperparameter_importance(constant.fit(X, y))
    silent = GridSearchCV(LogisticRegression(), {"C": [1, 2]}, cv=2).fit(X, y)
    silent.param_grid = None
    with pytest.raises(TypeError, match="GridSearchCV does not tell its space as a"):
        hyperparameter_importance(silent)


def test_alternatives():
    """The choice counts by itself; others where they exist, over the whole space.

    The variances of the functions of one and two columns are computed by hand.
    """
    space = [
        {"rate": loguniform(1e-4, 1), "kind": ["a"]},
        {"degree": uniform(-2, 10)},
    ]
    search = IISSearchCV(
        FormulaClassifier(), space, n_iter=600, cv=ONE_SPLIT, random_state=0
    ).fit(X, y)
    result = hyperparameter_importance(search, random_state=0).overall
    # 16 (u - 0.5)^2 + 0.5 and 10 (u - 0.5)^2 of a uniform u.
    parts = {"rate": 16**2 / 180 / 4, "degree": 10**2 / 180 / 4}
    choice = ((16 / 12 + 0.5 - 10 / 12) / 2) ** 2
    total = choice + 2 * sum(parts.values())
    found = dict(zip(result.subsets, result.importances_mean, strict=True))
    assert found["(alternative)",] == pytest.approx(choice / total, abs=0.05)
    for name, part in parts.items():
        for subset in ((name,), ("(alternative)", name)):
            assert found[subset] == pytest.approx(part / total, abs=0.05)
    assert found["rate", "degree"] < 0.02
