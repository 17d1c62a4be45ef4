"""Parameters with a value for each stage, and how many candidates "auto" means."""

import numpy as np
import pytest
from sklearn.pipeline import Pipeline

from sklearn_iis import CNNClassifier, IISSearchCV, ImageResizer
from sklearn_iis.searches import SEARCHES
from sklearn_iis.searches._ladder import RandomSampler
from sklearn_iis.testing import SPACE, FormulaClassifier, X, y

RATE = {"rate": SPACE["rate"]}
EPOCHS = {"max_epochs": (5, 10, 20)}

pytestmark = pytest.mark.filterwarnings("ignore:.*which are not searched:UserWarning")


def make_search(**settings):
    settings = {
        "sizes": (1, 2, 3),
        "size_param": "size",
        "stage_params": EPOCHS,
        "n_iter": (5, 4, 3),
        "cv": 2,
        "random_state": 0,
    } | settings
    return IISSearchCV(FormulaClassifier(), RATE, **settings)


def fit(**settings):
    return make_search(**settings).fit(X, y)


def columns(search, *names):
    return [list(map(params.get, names)) for params in search.cv_results_["params"]]


@pytest.mark.parametrize("search", ["random", "ladder", "bayes"])
def test_each_stage_has_its_values(search):
    found = fit(search=search)
    expected = [[1, 5]] * 5 + [[2, 10]] * 4 + [[3, 20]] * 3
    assert columns(found, "size", "max_epochs") == expected
    assert found.cv_results_["param_max_epochs"].tolist() == [e for _, e in expected]
    for params, score in zip(
        found.cv_results_["params"],
        found.cv_results_["mean_test_score"],
        strict=True,
    ):
        assert score == FormulaClassifier(**params).score(X, y)
    best = found.best_params_
    assert best["max_epochs"] == 5 * 2 ** (best["size"] - 1)
    assert found.best_estimator_.max_epochs == best["max_epochs"]


@pytest.mark.parametrize("search", ["random", "ladder"])
def test_stages_may_have_no_size(search):
    found = fit(search=search, sizes=None, size_param=None)
    assert found.sizes_ == [None] * 3
    assert columns(found, "max_epochs") == [[5]] * 5 + [[10]] * 4 + [[20]] * 3
    assert found.cv_results_["size"].tolist() == [None] * 12


def test_sizes_may_be_among_them():
    params = {"size": np.array([1, 2, 3]), "max_epochs": [5, 10, 20]}
    among = fit(sizes=None, stage_params=params)
    assert among.sizes_ == [1, 2, 3]
    assert among.cv_results_["params"] == fit().cv_results_["params"]


def test_the_search_leaves_them_as_they_were():
    stage_params = {"max_epochs": [5, 10, 20]}
    search = fit(stage_params=stage_params)
    assert search.stage_params is stage_params
    assert stage_params == {"max_epochs": [5, 10, 20]}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stage_params": {"epochs": (1, 2, 3)}}, "'epochs', which is no parameter"),
        ({"stage_params": {"max_epochs": (1, 2)}}, "a value for each of 3 stages"),
        ({"stage_params": {"max_epochs": []}}, "a list of one value per stage"),
        ({"stage_params": {"max_epochs": 3}}, "a list of one value per stage"),
        ({"stage_params": {"kind": "abc"}}, "a list of one value per stage"),
        ({"stage_params": {"max_epochs": {1, 2, 3}}}, "a list of one value per stage"),
        ({"stage_params": {"rate": (1, 2, 3)}}, "cannot be searched and in stage_p"),
        ({"stage_params": {"size": (1, 2, 3)}}, "has 'size', and so does sizes"),
        ({"stage_params": {"size": (3, 2, 1)}, "sizes": None}, "must not decrease"),
        (
            {
                "stage_params": {"max_epochs": (1, 2), "degree": (1, 2, 3)},
                "sizes": None,
                "size_param": None,
            },
            "a value for each of 3 stages",
        ),
        (
            {"stage_params": {"max_epochs": []}, "sizes": None, "size_param": None},
            "a list of one value per stage",
        ),
        ({"stage_params": [1, 2]}, "'stage_params' parameter"),
    ],
    ids=str,
)
def test_what_is_wrong_is_told(settings, message):
    with pytest.raises(ValueError, match=message):
        fit(**settings)


def test_the_sizes_of_images_are_as_many():
    pipe = Pipeline([("resize", ImageResizer()), ("cnn", CNNClassifier())])
    search = IISSearchCV(
        pipe,
        {"cnn__learning_rate": SPACE["rate"]},
        stage_params={"cnn__max_epochs": (1, 2)},
    )
    images = np.zeros((10, 16, 16), dtype=np.float32)
    with pytest.raises(ValueError, match=r"3 stages \(sizes \[4, 8, 16\]\)"):
        search.fit(images, y[:10])


# With a storage


def test_the_same_values_go_on(tmp_path):
    storage = str(tmp_path / "search.journal")
    first = fit(storage=storage).cv_results_
    again = fit(storage=storage).cv_results_
    assert again["params"] == first["params"]
    np.testing.assert_array_equal(again["mean_fit_time"], first["mean_fit_time"])


@pytest.mark.parametrize(
    "stage_params", [None, {"max_epochs": (5, 10, 21)}, EPOCHS | {"degree": (3, 3, 3)}]
)
def test_other_values_are_refused(stage_params, tmp_path):
    storage = str(tmp_path / "search.journal")
    fit(storage=storage)
    with pytest.raises(ValueError, match="begun by another call") as caught:
        fit(storage=storage, stage_params=stage_params)
    assert "max_epochs" in str(caught.value)


def test_a_larger_size_may_be_added(tmp_path):
    storage = str(tmp_path / "search.journal")
    before = fit(storage=storage).cv_results_
    search = fit(
        storage=storage,
        sizes=(1, 2, 3, 4),
        stage_params={"max_epochs": (5, 10, 20, 27)},
        n_iter=(5, 4, 3, 2),
    )
    after = search.cv_results_
    np.testing.assert_array_equal(after["mean_fit_time"][:12], before["mean_fit_time"])
    assert columns(search, "size", "max_epochs")[12:] == [[4, 27]] * 2


# The default number of candidates


def count_asked(search, **settings):
    found = make_search(search=search, n_iter="auto", stage_params=None, **settings)
    return found._plan_stages(found._make_space(), X).budgets


@pytest.mark.parametrize("name", [*SEARCHES, RandomSampler])
def test_auto_is_60_without_a_timeout(name):
    expected = [43, 13, 4] if name in {"ladder", "fabolas"} else [30, 20, 10]
    assert count_asked(name) == expected
    assert sum(expected) == 60


@pytest.mark.parametrize("name", [*SEARCHES, RandomSampler])
def test_auto_is_as_many_as_there_is_time_for(name):
    expected = [30, 20, 10] if name in {"grid", "hyperband"} else [None] * 3
    assert count_asked(name, timeout=60.0) == expected


def test_auto_is_60_for_searches_of_others():
    from sklearn.model_selection import RandomizedSearchCV

    def make(estimator, space, *, n_iter, initial_candidates, **settings):
        return RandomizedSearchCV(estimator, {"rate": [0.5]}, n_iter=n_iter, **settings)

    assert count_asked(make, timeout=60.0) == [30, 20, 10]


def test_with_a_timeout_auto_goes_on_until_it_is_up():
    search = fit(n_iter="auto", timeout=1.0, search=RandomSampler)
    assert len(search.stages_) == 3
    assert len(search.cv_results_["params"]) > 6
