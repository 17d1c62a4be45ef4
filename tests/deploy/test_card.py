"""Model cards: what they tell, of which models, and what is refused."""

import json
import platform
import re

import numpy as np
import pytest
import torch
from scipy.stats import binomtest, loguniform
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, StratifiedShuffleSplit
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.tree import DecisionTreeClassifier
from torch import nn

import sklearn_iis
from sklearn_iis import ChoiceSearchCV, CNNClassifier, IISSearchCV, ImageResizer
from sklearn_iis.cnn import ImageFeatures
from sklearn_iis.deploy import save_model, write_model_card
from sklearn_iis.deploy._pretrained import list_pretrained
from sklearn_iis.inspection import evaluate_model

X, y = load_iris(return_X_y=True)
NAMES = ["setosa", "versi_color", "virgi|nica"]
TRAIN, TEST = slice(None, None, 2), slice(1, None, 2)
SPLIT = StratifiedShuffleSplit(1, test_size=0.4, random_state=0)


class Darkness(ClassifierMixin, BaseEstimator):
    """Tells dark images from others, whatever it has learned."""

    def __init__(self, threshold=100.0):
        self.threshold = threshold

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        means = X.reshape(len(X), -1).mean(axis=1)
        return self.classes_[(means > self.threshold).astype(int)]


IMAGES = np.repeat(np.arange(0, 240, 12, dtype=np.uint8), 64).reshape(20, 8, 8)
LABELS = np.repeat(["dark", "light"], 10)


@pytest.fixture(scope="module")
def search():
    return IISSearchCV(
        DecisionTreeClassifier(random_state=0),
        {"ccp_alpha": loguniform(1e-4, 1e-1)},
        n_iter=4,
        cv=SPLIT,
        random_state=0,
    ).fit(X[TRAIN], y[TRAIN])


@pytest.fixture(scope="module")
def images():
    """A search at two sizes."""
    return IISSearchCV(
        Pipeline([("resize", ImageResizer()), ("dark", Darkness())]),
        {"dark__threshold": loguniform(1, 200)},
        sizes=(2, 4),
        n_iter=(3, 2),
        cv=2,
        random_state=0,
    ).fit(IMAGES, LABELS)


def read_card(search, folder, **params):
    """Return the lines of a card."""
    path = write_model_card(search, folder / "README.md", **params)
    assert path == folder / "README.md"
    return path.read_text(encoding="utf-8").splitlines()


def read_yaml(lines):
    """Return the values of the front matter, which are JSON."""
    end = lines.index("---", 1)
    pairs = [line.partition(": ") for line in lines[1:end]]
    return {key: json.loads(value) for key, _, value in pairs}


def read_table(lines, head):
    """Return the rows of the table whose first column is called so, by the first."""
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {head} |"))
    rows = {}
    for line in [lines[start], *lines[start + 2 :]]:
        if not line.startswith("|"):
            break
        name, *cells = re.split(r"(?<!\\)\|", line.strip("|"))
        rows[name.strip()] = [cell.strip() for cell in cells]
    return rows


def test_all_there_is_to_tell(search, tmp_path):
    evaluation = evaluate_model(search, X[TEST], y[TEST], class_names=NAMES)
    lines = read_card(
        search,
        tmp_path,
        evaluation=evaluation,
        title="Irises",
        source="Fisher (1936)",
        parts={"train": y[TRAIN][:45], "validation": y[TRAIN][45:]},
    )
    text = "\n".join(lines)
    assert [line for line in lines if line.startswith("#")] == [
        *("# Irises", "## Results", "## Data", "## Search", "## Hyperparameters"),
        *("## Limits", "## Versions"),
    ]
    low, high = evaluation.interval
    assert (
        f"- Test accuracy: **{evaluation.accuracy:.3f}**, 95 % interval {low:.3f} to "
        f"{high:.3f} (Wilson), {evaluation.n_correct} of 75 samples right." in lines
    )
    right = round(search.best_score_ * 30)
    interval = binomtest(right, 30).proportion_ci(method="wilson")
    assert (
        f"- Validation: accuracy {search.best_score_:.4f}, on one split, 95 % interval "
        f"{interval.low:.3f} to {interval.high:.3f}, the best of 4 candidates, so "
        "rather too high." in lines
    )
    worst = min(evaluation.per_class, key=lambda one: one.recall)
    name = worst.name.replace("|", r"\|")
    assert f"- Lowest recall of a class: {name} {worst.recall:.3f} (of 25), " in text
    assert "- Source: Fisher (1936)" in lines
    table = read_table(lines, "Class")
    assert table["Class"] == ["Train", "Validation", "Test"]
    assert table["versi_color"] == ["20", "5", "25"]
    assert table[r"virgi\|nica"] == ["0", "25", "25"]
    value = f"{search.best_params_['ccp_alpha']:.4g}"
    assert read_table(lines, "Hyperparameter")["`ccp_alpha`"] == [f"`{value}`"]
    assert f"is {high - low:.3f} wide, as the test has 75 samples" in text
    assert f"- python {platform.python_version()}" in lines
    assert f"- torch {torch.__version__}" in lines
    assert f"- sklearn-iis {sklearn_iis.__version__}" in lines


def test_it_begins_with_yaml(search, images, tmp_path):
    lines = read_card(search, tmp_path, X_test=X[TEST], y_test=y[TEST])
    values = read_yaml(lines)
    assert values["pipeline_tag"] == "tabular-classification"
    (model,) = values["model-index"]
    (result,) = model["results"]
    accuracy = search.score(X[TEST], y[TEST])
    assert result["metrics"] == [{"type": "accuracy", "value": round(accuracy, 4)}]
    values = read_yaml(read_card(images, tmp_path))
    assert values["pipeline_tag"] == "image-classification"
    assert "model-index" not in values


def test_sizes_of_images(images, tmp_path):
    lines = read_card(images, tmp_path, X_test=IMAGES[5:], y_test=LABELS[5:])
    text = "\n".join(lines)
    assert "Images are resized to 4 x 4 pixels." in lines
    stages = read_table(lines, "Stage")
    assert [row[0] for row in stages.values()] == ["Size", "2", "4"]
    assert [row[1] for row in stages.values()] == ["Candidates", "3", "2"]
    assert "tested on these 15 images only" in text
    assert "fewer than 10 test images say little: dark." in text


def test_without_a_test_it_says_so(search, tmp_path):
    lines = read_card(search, tmp_path)
    assert "- Test: none was made." in lines
    assert "- Source: not told." in lines
    assert "- It was tested on no samples that the search had not seen." in "\n".join(
        lines
    )
    assert read_table(lines, "Class") == {"Class": [], "0": [], "1": [], "2": []}


def test_names_without_a_test(search, tmp_path):
    table = read_table(read_card(search, tmp_path, class_names=NAMES), "Class")
    assert list(table) == ["Class", "setosa", "versi_color", r"virgi\|nica"]
    with pytest.raises(ValueError, match=r"1 names, .* 3 classes"):
        read_card(search, tmp_path, class_names=["a"])


def test_searches_that_shared_the_time(tmp_path):
    choice = ChoiceSearchCV(
        [
            (
                "tr|ee",
                IISSearchCV(DecisionTreeClassifier(), {"max_depth": [1]}, n_iter=1),
            ),
            (
                "linear",
                IISSearchCV(LogisticRegression(max_iter=2000), {"C": [1, 9]}, n_iter=2),
            ),
        ],
        600,
        cv=SPLIT,
        random_state=0,
    ).fit(X, y)
    lines = read_card(choice, tmp_path)
    assert "# LogisticRegression of 3 classes" in lines
    # That took no 600 s, and what earlier calls took is not known.
    assert "10 min" not in "\n".join(lines)
    rows = read_table(lines, "Search")
    assert rows["linear"][:3] == ["LogisticRegression", "random", "2"]
    assert rows["linear"][-1] == "best"
    assert rows[r"tr\|ee"][-1] == "out after round 1"
    assert "in search linear" not in "\n".join(lines)


def test_another_score(tmp_path):
    search = GridSearchCV(
        LogisticRegression(max_iter=2000), {"C": [1, 2]}, scoring="neg_log_loss"
    ).fit(X[TRAIN], y[TRAIN])
    text = "\n".join(read_card(search, tmp_path, X_test=X[TEST], y_test=y[TEST]))
    assert f"- Test score (neg_log_loss): {search.score(X[TEST], y[TEST]):.4g}." in text
    assert "- Validation: neg_log_loss \N{MINUS SIGN}0." in text


def test_a_regressor_has_no_classes(tmp_path):
    search = GridSearchCV(Ridge(), {"alpha": [0.1, 1]}).fit(X, y)
    lines = read_card(search, tmp_path, X_test=X, y_test=y, parts={"train": y})
    assert "# Ridge" in lines
    assert f"- Test score: {search.score(X, y):.4g}, 150 samples." in lines
    assert "- Train: 150 samples" in lines
    assert read_yaml(lines)["pipeline_tag"] == "tabular-regression"
    assert "classes" not in "\n".join(lines)


def test_how_to_load_a_model_that_is_there(images, tmp_path):
    assert "```python" not in read_card(images, tmp_path)
    search = GridSearchCV(
        CNNClassifier(max_epochs=1, random_state=0), {"batch_size": [16]}, cv=2
    ).fit(IMAGES, LABELS)
    save_model(search, tmp_path / "model")
    lines = read_card(search, tmp_path / "model")
    assert "from sklearn_iis.deploy import load_model" in lines


# Pretrained weights


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (make_pipeline(ImageFeatures(), LogisticRegression()), "efficientnet-lite0"),
        (CNNClassifier(module="efficientnet-lite0"), "efficientnet-lite0"),
        (ImageFeatures("timm/resnet18"), "timm/resnet18"),
        (CNNClassifier(module="efficientnet-lite0", module__pretrained=False), None),
        (ImageFeatures(nn.Conv2d(3, 8, kernel_size=5)), None),
        (CNNClassifier(), None),
    ],
)
def test_pretrained_weights_have_a_licence(model, expected):
    found = list_pretrained(model)
    assert list(found) == ([] if expected is None else [expected])
    for licence in found.values():
        assert ("Apache License 2.0" in licence) == (expected == "efficientnet-lite0")


def test_the_licence_is_in_the_card(search, tmp_path, monkeypatch):
    model = make_pipeline(ImageFeatures(), search.best_estimator_)
    monkeypatch.setattr(search, "best_estimator_", model)
    lines = read_card(search, tmp_path)
    start = lines.index("## Pretrained weights")
    assert lines[start + 2].startswith("- `efficientnet-lite0`: trained on ImageNet")


# Bad input


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"parts": {"train": [0, 7]}}, r"parts\['train'\] has the labels \[7\]"),
        ({"X_test": X}, "got only X_test"),
        ({"X_test": X, "y_test": y[:3]}, "150 samples and y_test 3 labels"),
        ({"title": 3}, "title"),
    ],
)
def test_bad_input_is_told(search, params, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        read_card(search, tmp_path, **params)
    assert not list(tmp_path.iterdir())


def test_models_that_no_card_can_be_written_of(tmp_path):
    search = GridSearchCV(LogisticRegression(max_iter=2000), {"C": [1]}, refit=False)
    with pytest.raises(NotFittedError):
        read_card(search, tmp_path)
    with pytest.raises(ValueError, match="GridSearchCV has no best_estimator_"):
        read_card(search.fit(X, y), tmp_path)
    with pytest.raises(FileNotFoundError):
        write_model_card(search, tmp_path / "no" / "README.md")
