"""The section of a report on test data."""

import re

import numpy as np
import pytest
from PIL import Image
from scipy.stats import loguniform
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline

from sklearn_iis import IISSearchCV, ImageResizer
from sklearn_iis.inspection import evaluate_model, write_report
from tests.pages import read

SCRIPT = "<script>alert(1)</script>"


class GreyLevel(ClassifierMixin, BaseEstimator):
    """Takes the mean grey of an image, in tenths of white, for its class."""

    def __init__(self, n_classes=3, certainty=0.9):
        self.n_classes = n_classes
        self.certainty = certainty

    def fit(self, X, y):
        self.classes_ = np.arange(self.n_classes)
        return self

    def predict_proba(self, X):
        level = np.round(X.reshape(len(X), -1).mean(axis=1) / 255 * 10).astype(int)
        others = (1 - self.certainty) / (self.n_classes - 1)
        one_hot = np.eye(self.n_classes)[level % self.n_classes]
        return others + (self.certainty - others) * one_hot

    def predict(self, X):
        return self.predict_proba(X).argmax(axis=1)


def make_images(levels, side=20):
    return np.stack(
        [np.full((side, side + 10, 3), 25.5 * level, np.uint8) for level in levels]
    )


def make_search(n_classes=3, **params):
    """A search that is always right."""
    levels = np.arange(10)
    params = {"sizes": (2, 4), "n_iter": (2, 1), "cv": 2, "random_state": 0} | params
    search = IISSearchCV(
        Pipeline([("resize", ImageResizer()), ("grey", GreyLevel(n_classes))]),
        {"grey__certainty": loguniform(0.7, 0.95)},
        **params,
    )
    return search.fit(
        make_images(np.repeat(levels, 2)), np.repeat(levels % n_classes, 2)
    )


@pytest.fixture
def no_plots(monkeypatch):
    """Drawing takes most of the time, and says nothing about the text."""
    draw = "sklearn_iis.inspection.report._write.draw_sections"
    monkeypatch.setattr(draw, lambda source: [])


@pytest.fixture(scope="module")
def search():
    return make_search()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    paths = []
    for i, image in enumerate(make_images(range(10), 300)):
        paths.append(str(folder / f"photo_{i}.png"))
        Image.fromarray(image).save(paths[-1])
    return paths


# Seven of ten are right: two of class 0 were taken for 1, one of class 1 for 2.
LABELS = [0, 0, 2, 0, 0, 2, 0, 1, 1, 0]
NAMES = ["daisy", f"rose{SCRIPT}", "tulip"]


@pytest.fixture(scope="module")
def path(search, files, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    return write_report(
        search, path, random_state=0, X_test=files, y_test=LABELS, class_names=NAMES
    )


@pytest.fixture(scope="module")
def page(path):
    return read(path)


def test_the_section_comes_first(page):
    assert page.get_headings()[1:6] == [
        *("Test", "Confusions", "Classes", "Most wrong about", "Best hyperparameters")
    ]


def test_the_accuracy_stands_beside_the_promise(page):
    assert page.get_texts("strong")[0] == "0.700"
    text = "0.700 test accuracy, 95 % interval 0.397 to 0.892: 7 of 10 samples right"
    assert text in page.text
    assert "Validation promised 1.000, which is above the interval: " in page.text


def test_the_matrix_has_true_classes_in_rows(page):
    head = page.find_row("True class")[2]
    assert head.startswith("rose<scri")
    assert page.find_row("daisy") == ["daisy", "4", "2", ""]
    assert page.find_row(head) == [head, "", "1", "1"]
    assert page.find_row("tulip") == ["tulip", "", "", "2"]
    cells = [attrs for attrs in page.get_all("td") if "--share" in str(attrs)]
    assert [(cell["class"], cell["style"]) for cell in cells] == [
        ("right", "--share: 67%"),
        ("wrong", "--share: 33%"),
        ("right", "--share: 50%"),
        ("wrong", "--share: 50%"),
        ("right", "--share: 100%"),
    ]


def test_each_class_has_its_figures(page):
    figures = {row[0]: row[1:] for row in page.cells if len(row) == 5}
    assert figures["daisy"] == ["1.000", "0.667", "0.800", "6"]
    assert figures[NAMES[1]] == ["0.333", "0.500", "0.400", "2"]
    assert figures["tulip"] == ["0.667", "1.000", "0.800", "2"]


def test_the_worst_images_are_embedded_with_their_labels(page, search):
    assert len(page.get_all("li")) == 3
    certainty = search.best_params_["grey__certainty"]
    expected = f"True: daisy Predicted: {NAMES[1]} ({certainty:.3f}) photo_1.png"
    assert expected in page.text
    assert f"True: {NAMES[1]} Predicted: tulip ({certainty:.3f}) photo_8" in page.text
    images = [image for image in page.get_all("img") if "jpeg" in image["src"]]
    assert [image["alt"] for image in images] == [f"photo_{i}.png" for i in (1, 4, 8)]


def test_nothing_but_the_page_is_needed(path, page):
    for tag in ("script", "link", "a", "iframe"):
        assert not page.get_all(tag)
    html = path.read_text(encoding="utf-8")
    assert "http" not in re.sub(r"base64,[\w+/=]+", "", html).replace("http-equiv", "")
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(set(ids)) == len(ids)
    assert {cell["scope"] for cell in page.get_all("th")} == {"col", "row"}


def test_in_a_browser(browser, path):
    requests = []
    tab = browser.new_page()
    tab.on("request", lambda request: requests.append(request.url))
    tab.goto(path.as_uri())
    assert tab.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    for width in (390, 1280):
        tab.set_viewport_size({"width": width, "height": 900})
        assert tab.evaluate("document.documentElement.scrollWidth") == width
    colours = {}
    for scheme in ("light", "dark"):
        tab.emulate_media(color_scheme=scheme)
        colours[scheme] = [
            tab.evaluate(
                f"getComputedStyle(document.querySelector('.matrix .{kind}'))"
                ".backgroundColor"
            )
            for kind in ("right", "wrong")
        ]
    assert len({*colours["light"], *colours["dark"]}) == 4
    assert [url for url in requests if not url.startswith("data:")] == [path.as_uri()]
    tab.close()


@pytest.mark.usefixtures("no_plots")
def test_an_evaluation_in_the_place_of_data(search, files, tmp_path, monkeypatch):
    evaluation = evaluate_model(search, files, LABELS, class_names=NAMES)
    monkeypatch.setattr(GreyLevel, "predict_proba", None)
    page = read(write_report(search, tmp_path / "a.html", evaluation=evaluation))
    assert page.get_texts("strong")[0] == "0.700"
    assert len(page.get_all("img")) == 3


@pytest.mark.usefixtures("no_plots")
def test_without_test_data_there_is_no_section(search, tmp_path):
    page = read(write_report(search, tmp_path / "a.html"))
    assert page.get_headings()[1] == "Best hyperparameters"


@pytest.mark.usefixtures("no_plots")
def test_many_classes_have_a_list_of_confusions(tmp_path):
    search = make_search()
    classes = np.arange(31)
    evaluation = evaluate_model(
        Known(31).fit(None), np.eye(31)[[*classes, *[3] * 4]], [*classes, *[5] * 3, 6]
    )
    page = read(write_report(search, tmp_path / "a.html", evaluation=evaluation))
    assert "The most frequent confusions, 2 of 2" in page.text
    assert ["5", "3", "3", "0.750"] in page.cells
    assert ["6", "3", "1", "0.500"] in page.cells
    rows = [row for row in page.cells if len(row) == 5]
    assert rows[1] == ["5", "1.000", "0.250", "0.400", "4"]
    assert len(rows) == 32
    assert not page.get_all("img")
    assert "True: 5 Predicted: 3 (1.000) X_test[31]" in page.text


class Known(ClassifierMixin, BaseEstimator):
    """Gives the probabilities that X holds."""

    def __init__(self, n_classes):
        self.n_classes = n_classes

    def fit(self, X, y=None):
        self.classes_ = np.arange(self.n_classes)
        return self

    def predict_proba(self, X):
        return X

    def predict(self, X):
        return X.argmax(axis=1)


@pytest.mark.usefixtures("no_plots")
def test_nothing_is_wrong(search, files, tmp_path):
    page = read(
        write_report(
            search, tmp_path / "a.html", X_test=files, y_test=np.arange(10) % 3
        )
    )
    assert "None: every prediction was right." in page.text
    assert "Validation promised 1.000, which is within the interval." in page.text
    assert "Most wrong about" not in page.text


@pytest.mark.usefixtures("no_plots")
def test_another_score_than_the_accuracy(files, tmp_path):
    search = make_search(scoring="neg_log_loss")
    given = {"X_test": files, "y_test": LABELS}
    text = read(write_report(search, tmp_path / "a.html", **given)).text
    score, promise = search.score(files, LABELS), search.best_score_
    minus = "\N{MINUS SIGN}"
    assert f"{minus}{-score:.4f} test score (neg_log_loss), {minus}" in text
    assert f"{minus}{-promise:.4f} promised in validation" in text
    evaluation = evaluate_model(search.best_estimator_, files, LABELS)
    text = read(write_report(search, tmp_path / "a.html", evaluation=evaluation)).text
    assert f"{minus}{-promise:.4f} promised in validation (neg_log_loss)" in text
    assert "test score" not in text


@pytest.mark.usefixtures("no_plots")
def test_a_regressor_has_a_score_only(tmp_path):
    X = np.arange(40.0).reshape(20, 2)
    search = IISSearchCV(
        Ridge(), {"alpha": loguniform(1e-3, 1)}, n_iter=2, random_state=0
    ).fit(X, X[:, 0])
    page = read(
        write_report(search, tmp_path / "a.html", X_test=X[:5], y_test=X[:5, 0])
    )
    assert "1.0000 test score of 5 samples, 1.0000 promised in validation" in page.text
    assert "This is no classifier" in page.text
    assert "Confusions" not in page.text


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"X_test": [0]}, "got only X_test"),
        ({"X_test": np.zeros((2, 4, 4, 3)), "y_test": [0, 7]}, r"labels \[7\]"),
        ({"evaluation": 3}, "evaluation"),
    ],
)
def test_bad_input_is_told(search, params, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        write_report(search, tmp_path / "a.html", **params)
    assert not list(tmp_path.iterdir())
