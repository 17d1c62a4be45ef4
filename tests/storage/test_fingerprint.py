"""Fingerprints: the same for the same call in any process, and for no other."""

import functools
import json
import operator
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import (
    beta,
    loguniform,
    norm,
    randint,
    rv_continuous,
    rv_discrete,
    rv_histogram,
    uniform,
)
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from torch import nn

from sklearn_iis import CNNClassifier, IISSearchCV, OnlyIf, PerLayer, SearchSpace
from sklearn_iis.cnn import ImageFeatures
from sklearn_iis.storage._fingerprint import (
    MAX_LENGTH,
    describe,
    describe_data,
    describe_params,
    describe_space,
    digest,
    find_differences,
)

# Each of them is another value.
VALUES = {
    "none": None,
    "true": True,
    "int": 1,
    "float": 1.5,
    "tiny": 1e-300,
    "nan": float("nan"),
    "str": "1",
    "longer": "a" * 500,
    "longer still": "a" * 501,
    "tuple": (1, "a", None),
    "nested": (1, ("a", None)),
    "dict": {"a": 1, "b": (2, 3)},
    "set": {"some", "set", "of", "strings"},
    "path": Path("images"),
    "function": accuracy_score,
    "class": DecisionTreeClassifier,
    "builtin": len,
    "partial": functools.partial(operator.add, 1),
    "other partial": functools.partial(operator.add, 2),
    "scorer": make_scorer(accuracy_score, greater_is_better=False),
    "loguniform": loguniform(1e-4, 1),
    "other bounds": loguniform(1e-3, 1),
    "uniform": uniform(0, 1),
    "scaled": uniform(0, scale=2),
    "randint": randint(1, 8),
    "beta": beta(a=2, b=3),
    "table": rv_discrete(values=([1, 2, 4], [0.2, 0.3, 0.5]))(),
    "other table": rv_discrete(values=([1, 3, 4], [0.2, 0.3, 0.5]))(),
    "histogram": rv_histogram(np.histogram([1, 2, 2, 3], bins=3))(),
    "other histogram": rv_histogram(np.histogram([1, 2, 3, 3], bins=3))(),
    "per layer": PerLayer(randint(2, 12), depth="n_layers"),
    "of other depth": PerLayer(randint(2, 12), depth="depth"),
    "estimator": DecisionTreeClassifier(),
    "other parameter": DecisionTreeClassifier(max_depth=3),
    "pipeline": make_pipeline(StandardScaler(), LogisticRegression()),
    "of another step": make_pipeline(StandardScaler(), LogisticRegression(C=2)),
    "array": np.arange(6),
    "other shape": np.arange(6).reshape(2, 3),
    "other type": np.arange(6.0),
    "strings": np.array(["a", "b", "a"], dtype=object),
    "random state": np.random.RandomState(0),
    "other state": np.random.RandomState(1),
    "generator": np.random.default_rng(0),
    "type": np.dtype("float32"),
    "network": nn.PReLU(init=0.25),
    "other weights": nn.PReLU(init=0.5),
    "other layers": nn.Sequential(nn.PReLU(), nn.ReLU()),
}


@functools.cache
def describe_elsewhere():
    """All values, as a process describes them whose strings have other hashes."""
    code = (
        "import json, sys, tests.storage.test_fingerprint as t\n"
        "sys.stdout.write(json.dumps({n: t.describe(v) for n, v in t.VALUES.items()}))"
    )
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    output = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"PYTHONHASHSEED": seed},
        check=True,
        capture_output=True,
    ).stdout
    return json.loads(output)


@pytest.mark.parametrize("name", VALUES)
def test_descriptions_are_the_same_in_another_process(name):
    assert describe(VALUES[name]) == describe_elsewhere()[name]


def test_other_values_have_other_descriptions():
    texts = [describe(value) for value in VALUES.values()]
    assert len(set(texts)) == len(texts)


def test_descriptions_are_short_and_have_no_addresses():
    for value in VALUES.values():
        text = describe(value)
        assert len(text) <= MAX_LENGTH
        assert " at 0x" not in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "0.1"),
        (np.float64(0.1), "0.1"),
        (np.int64(8), "8"),
        (np.str_("a"), "'a'"),
        (np.bool_(True), "True"),
        ([8, (16, 32)], "[8, [16, 32]]"),
        (loguniform(1e-4, 1), "loguniform(0.0001, 1)"),
        (uniform(0, scale=2), "uniform(0, scale=2)"),
        (PerLayer([1, 2], depth="n"), "PerLayer([1, 2], depth='n')"),
        (OnlyIf([1, 2], "a", ("x", [3])), "OnlyIf([1, 2], 'a', ['x', [3]])"),
        (accuracy_score, "sklearn.metrics._classification.accuracy_score"),
        (DecisionTreeClassifier(max_depth=3), "DecisionTreeClassifier(max_depth=3)"),
        ({"a": 1}, "{'a': 1}"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_descriptions_can_be_read(value, text):
    assert describe(value) == text


def test_data_are_told_by_all_of_their_values():
    images = np.zeros((100, 8, 8))
    other = images.copy()
    other[50, 3, 3] = 1e-9
    assert describe_data(images).startswith("(100, 8, 8) ")
    assert describe_data(images) == describe_data(images.copy())
    assert describe_data(images) != describe_data(other)
    assert describe_data(["a.png", "b.png"]).startswith("2 items ")


def test_data_in_a_file_are_those_in_memory(tmp_path):
    images = np.random.default_rng(0).random((10, 8, 8))
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    assert describe_data(mapped) == describe_data(images)


class Unpicklable:
    def __reduce__(self):
        raise RuntimeError("no")


class Nameless(rv_continuous):
    def _pdf(self, x):
        return 1.0


@pytest.mark.parametrize(
    "value",
    [
        lambda: None,
        Unpicklable(),
        [Unpicklable()],
        {"a": Unpicklable()},
        threading.Lock(),
        iter(()),
        make_scorer(lambda y_true, y_pred: 0),
        norm(loc=lambda: None),
        Nameless(a=0, b=1)(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_nothing_raises(value):
    text = describe(value)
    assert text == describe(value)
    assert " at 0x" not in text


def test_functions_of_one_place_are_told_apart():
    """By the names they use, what they enclose, their defaults, and inner functions."""

    def make(factor, function=np.sin):
        def scale(x, factor=factor):
            return function(x) * factor

        return scale

    def recursive(n):
        return n and recursive(n - 1)

    functions = [
        *(make(2), make(3), make(2, np.cos), recursive),
        *(lambda x: np.sin(x), lambda x: np.cos(x)),
        *(lambda x: [y + 1 for y in x], lambda x: [y + 2 for y in x]),
        *(functools.partial(make(n), m) for n, m in ((2, 1), (3, 1), (2, 2))),
    ]
    described = [describe(function) for function in functions]
    assert len(set(described)) == len(functions)
    assert describe(make(2)) == described[0]
    assert describe(functools.partial(make(2), 1)) == described[8]
    assert " at 0x" not in "".join(described)


def test_a_lambda_is_told_by_place_and_code():
    functions = [lambda x: x, lambda x: x * 0, lambda x: x]
    one, other, same = (describe(function) for function in functions)
    assert ".<locals>.<lambda> " in one
    assert one == same != other


def test_each_hyperparameter_is_described():
    space = {
        "rate": loguniform(1e-4, 1),
        "n_layers": [1, 2],
        "widths": PerLayer(randint(2, 12), depth="n_layers"),
        "tree": [DecisionTreeClassifier(max_depth=1), DecisionTreeClassifier()],
    }
    described = describe_space(SearchSpace(space))
    for name in space:
        assert f"space's {name}" in described
    assert "max_depth=1" in described["space's tree"]
    for name, value in {
        "rate": loguniform(1e-3, 1),
        "n_layers": [1, 2, 3],
        "widths": PerLayer(randint(3, 12), depth="n_layers"),
        "tree": [DecisionTreeClassifier(max_depth=2), DecisionTreeClassifier()],
    }.items():
        other = describe_space(SearchSpace(space | {name: value}))
        differences = find_differences(described, other)
        assert any(text.startswith(f"space's {name}") for text in differences)


def test_descriptions_of_spaces_without_conditions_stay_as_they_were():
    """Or studies of before could not be resumed."""
    space = {
        "widths": PerLayer(randint(2, 5), depth="n_layers"),
        "rate": loguniform(1e-4, 1),
        "n_layers": [1, 2],
        "kind": ["a", "b"],
        "degree": [3],
    }
    assert describe_space(SearchSpace(space)) == {
        "space's widths": "[[2, 4], [2, 4]]",
        "space's rate": "loguniform(0.0001, 1) from 0.0 to 1.0",
        "space's n_layers": "[1, 2] from 0 to 1",
        "space's kind": "['a', 'b'] from 0 to 1",
        "space's degree": "[3, 3]",
        "space's widths[0]": "[2, 3, 4] from 0 to 2",
        "space's widths[1]": "[2, 3, 4] from 0 to 2",
    }


def test_conditions_and_alternatives_are_described():
    space = {"a": [1, 2, 3], "b": OnlyIf([4, 5], "a", [1]), "c": OnlyIf([6], "a", [2])}
    described = describe_space(SearchSpace(space))
    for name, is_in in {"b": [1, 2], "c": [3]}.items():
        other = space | {name: OnlyIf(space[name].values, "a", is_in)}
        (difference,) = find_differences(described, describe_space(SearchSpace(other)))
        assert difference.startswith(f"space's {name} only if was ['a: [")
    spaces = [
        [{"x": [1, 2]}, {"y": [[1, 2], {"z": np.arange(3)}]}],
        [{"y": [[1, 2], {"z": np.arange(3)}]}, {"x": [1, 2]}],
        [{"x": [1, 2]}, {"y": [[1, 2], {"z": np.arange(4)}]}],
        [{"x": [1, 2]}, {"y": [[1, 2], {"z": np.arange(3)}]}, {}],
        {"x": [1, 2], "y": [[1, 2], {"z": np.arange(3)}]},
    ]
    texts = [str(sorted(describe_space(SearchSpace(s)).items())) for s in spaces]
    assert len(set(texts)) == len(texts)


def test_each_parameter_is_described_by_itself():
    """Searched and score-neutral parameters are part of no description."""
    pipeline = make_pipeline(StandardScaler(), LogisticRegression())
    described = describe_params(pipeline, {"logisticregression__C"})
    for params in [
        {"logisticregression__C": 2},
        {"logisticregression__verbose": 1},
        {"logisticregression__n_jobs": 2},
        {"memory": "folder"},
    ]:
        pipeline.set_params(**params)
        assert describe_params(pipeline, {"logisticregression__C"}) == described
    pipeline.set_params(logisticregression__max_iter=7)
    (difference,) = find_differences(
        described, describe_params(pipeline, {"logisticregression__C"})
    )
    assert difference == "estimator's logisticregression__max_iter was 100 and is 7"
    pipeline.set_params(standardscaler="passthrough")
    differences = find_differences(
        described, describe_params(pipeline, {"logisticregression__C"})
    )
    assert "estimator's standardscaler was 'StandardScaler' and is 'passthrough'" in (
        differences
    )


def test_differences():
    before = {"a": "1", "b": "2", "c": "3"}
    now = {"d": "5", "c": "3", "b": "4"}
    assert find_differences(before, now) == [
        "a was 1 and is nothing",
        "b was 2 and is 4",
        "d was nothing and is 5",
    ]
    assert find_differences(before, dict(reversed(before.items()))) == []


def test_digests():
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    assert digest([1, 2]) != digest([2, 1])


@pytest.mark.parametrize("values", [[16, 48, 64], [16, 64], [16, 32, 65]])
@pytest.mark.parametrize("wrap", [list, lambda values: PerLayer(values, depth="n")])
def test_lists_are_told_by_all_their_values(values, wrap):
    """The codes of candidates are indices."""
    one, other = (
        describe_space(SearchSpace({"n": [1, 2], "x": wrap(levels)}))
        for levels in ([16, 32, 64], values)
    )
    assert find_differences(one, other)


class Ensemble(BaseEstimator):
    """Has estimators among its parameters that `get_params` does not look into."""

    def __init__(self, models=(), memory=1, device="cpu"):
        self.models = models
        self.memory = memory
        self.device = device


@pytest.mark.parametrize(
    "params",
    [
        {"models": [DecisionTreeClassifier(max_depth=9)]},
        {"memory": 2},
        {"device": "gpu"},
    ],
)
def test_parameters_of_others_are_told_whatever_they_are_called(params):
    ensemble = Ensemble(models=[DecisionTreeClassifier(max_depth=1)])
    before = describe_params(ensemble, set())
    assert find_differences(
        before, describe_params(ensemble.set_params(**params), set())
    )


def test_the_device_of_a_network_has_no_influence():
    pipeline = make_pipeline(ImageFeatures(device="cpu"), CNNClassifier(device="cpu"))
    before = describe_params(pipeline, set())
    pipeline.set_params(cnnclassifier__device="cuda", imagefeatures__device="cuda")
    pipeline.set_params(imagefeatures__batch_size=7)
    assert describe_params(pipeline, set()) == before


def test_data_that_cannot_be_told_from_others_are_refused():
    with pytest.raises(ValueError, match="a list that cannot be pickled"):
        describe_data([threading.Lock()])


def test_the_storage_of_a_search_that_is_searched_is_not_told():
    """It may hold a password."""
    search = IISSearchCV(LogisticRegression(), {}, storage="mysql://me:secret@host/db")
    described = describe_params(make_pipeline(search), set())
    assert "secret" not in str(described)
    assert "estimator's iissearchcv__keep" in described


class Limit:
    def __init__(self, most):
        self.most = most

    def allows(self, params):
        return params["depth"] <= self.most


def test_methods_are_those_of_their_object():
    assert describe(Limit(2).allows) == describe(Limit(2).allows)
    assert describe(Limit(2).allows) != describe(Limit(3).allows)


def test_a_constraint_is_part_of_the_space():
    space = SearchSpace({"depth": randint(1, 9)})
    constrained = [space.constrain(Limit(most).allows) for most in (2, 2, 3)]
    first, same, other = map(describe_space, constrained)
    assert first == same != other
    assert "constraint" not in describe_space(space)


def test_a_space_that_was_used_is_the_same():
    """Also one of numbers that were drawn."""

    class Halves:
        def rvs(self, random_state):
            return random_state.randint(9) / 2

    space = SearchSpace({"a": Halves()})
    before = describe_space(space)
    space.decode(next(space.draw(random_state=0)))
    assert describe_space(space) == before
