import ast
import base64
import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy.stats import loguniform, pareto, randint, uniform
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_iris
from sklearn.exceptions import FitFailedWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import RandomizedSearchCV

import sklearn_iis
from sklearn_iis import IISSearchCV
from sklearn_iis.execution._text import UNPRINTABLE
from sklearn_iis.inspection import hyperparameter_importance, write_report
from sklearn_iis.inspection._fitted import NothingToShowError
from sklearn_iis.inspection.displays._convergence import ConvergenceDisplay
from sklearn_iis.inspection.displays._marginal import MarginalDisplay
from sklearn_iis.inspection.report._text import make_score_format
from sklearn_iis.testing import FormulaClassifier, X, y
from tests.pages import Page, read

SCRIPT = "<script>alert(1)</script>"
RATE = {"rate": loguniform(1e-4, 1)}
HEADINGS = [
    (1, "Hyperparameter search of InjectingClassifier"),
    (2, "Best hyperparameters"),
    (2, "Stages"),
    (2, "Do the sizes agree?"),
    (2, "Convergence"),
    (2, "Ranges"),
    (2, "Importance of the hyperparameters"),
    (3, "Single hyperparameters"),
    (3, "Pair of hyperparameters"),
    (2, "Failures"),
]


class InjectingClassifier(FormulaClassifier):
    """Fails with an error that tries to change the page, or because it is too large."""

    def __init__(self, rate=0.01, degree=3, kind="b", size=1, largest=8):
        super().__init__(rate=rate, degree=degree, kind=kind, size=size)
        self.largest = largest

    def fit(self, X, y):
        if self.size > self.largest:
            raise MemoryError("out of memory")
        if self.kind == SCRIPT:
            raise ValueError(f"no {SCRIPT}\n</pre></details></code>{SCRIPT}")
        if self.degree == 7:
            raise RuntimeError("too deep")
        return super().fit(X, y)


def make_search(estimator=None, space=None, **params):
    space = space or {
        "rate": loguniform(1e-4, 1),
        "degree": randint(1, 8),
        "kind": ["a", "b", SCRIPT],
    }
    params = {"size_param": "size", "cv": 2, "random_state": 0} | params
    return IISSearchCV(estimator or InjectingClassifier(), space, **params)


def make_small(**params):
    """A search whose report takes little time: too few candidates for all plots."""
    space = {"rate": loguniform(1e-4, 1), "degree": randint(1, 7)}
    params = {"space": space, "sizes": (1,), "n_iter": 6} | params
    return make_search(**params).fit(X, y)


@pytest.fixture(scope="module")
def search():
    with pytest.warns(FitFailedWarning):
        return make_search(sizes=(4, 8), n_iter=(36, 20)).fit(X, y)


@pytest.fixture(scope="module")
def path(search, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    return write_report(search, folder / "report.html", random_state=0)


@pytest.fixture(scope="module")
def page(path):
    return read(path)


@pytest.fixture
def no_plots(monkeypatch):
    """Drawing takes most of the time, and says nothing about the text."""
    draw = "sklearn_iis.inspection.report._write.draw_sections"
    monkeypatch.setattr(draw, lambda source: [])


# Content


def test_all_sections_are_there_in_order(page):
    """Those of the failures are tested below."""
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    headings = list(zip(levels, page.get_headings(), strict=True))
    assert headings[: len(HEADINGS)] == HEADINGS
    assert set(levels[len(HEADINGS) :]) == {3}


def test_the_summary_says_what_was_searched_and_how_long(search, page):
    results = search.cv_results_
    n_failed = np.count_nonzero(results["error"] != None)  # noqa: E711
    assert (
        f"IISSearchCV · algorithm random · 2 stages · 56 candidates · {n_failed} f"
        in (page.text)
    )
    assert f"sklearn_iis {sklearn_iis.__version__}" in page.text
    assert "of fitting and scoring" in page.text
    assert "for the refit" in page.text


def test_the_best_hyperparameters_are_those_of_the_search(search, page):
    for name, value in search.best_params_.items():
        assert page.find_row(name)[1] == (
            f"{value:.4g}" if isinstance(value, float) else repr(value)
        )
    literal = page.get_texts("pre")[0]
    assert ast.literal_eval(literal) == search.best_params_
    score = f"{search.best_score_:.4f}"
    assert score in page.get_texts("strong")
    assert f"{score} validation score in stage 1, size 8, mean of 2 splits" in page.text


def test_the_stages_are_those_of_the_search(search, page):
    results = search.cv_results_
    for stage, size in enumerate(search.sizes_):
        rows = results["stage"] == stage
        scores = results["mean_test_score"][rows]
        seconds = 2 * (results["mean_fit_time"] + results["mean_score_time"])[rows]
        failed = np.count_nonzero(results["error"][rows] != None)  # noqa: E711
        *numbers, best, median, time = page.find_row(f"{stage}")
        assert numbers == [
            *(f"{n}" for n in (stage, size, rows.sum(), failed)),
            f"{results['promoted'][rows].sum()}",
        ]
        assert float(best) == pytest.approx(np.nanmax(scores), abs=1e-4)
        expected = pytest.approx(np.nanmedian(scores), abs=1e-4)
        assert float(median.replace("\N{MINUS SIGN}", "-")) == expected
        assert float(time) == pytest.approx(seconds.sum(), abs=1e-3)


def test_the_ranges_are_those_of_the_spaces(search, page):
    low, high = search.spaces_[1].ranges["rate"]
    rows = [row for row in page.cells if row[0] == "rate" and len(row) == 3]
    dash = "\N{NO-BREAK SPACE}\N{EN DASH}\N{NO-BREAK SPACE}"
    assert rows == [["rate", f"0.0001{dash}1", f"{low:.4g}{dash}{high:.4g}"]]


def test_failures_are_grouped_by_the_last_line(search, page):
    errors = [error for error in search.cv_results_["error"] if error is not None]
    counts = {
        message: sum(error.rstrip().endswith(message) for error in errors)
        for message in (f"</pre></details></code>{SCRIPT}", "RuntimeError: too deep")
    }
    assert min(counts.values()) > 1
    ranked = sorted(counts, key=counts.get, reverse=True)
    assert page.get_headings()[-2:] == ranked
    for message, count in counts.items():
        assert f"{message} {count} candidates: " in page.text
    first = next(error for error in errors if error.rstrip().endswith(ranked[0]))
    assert first.strip() in [text.strip() for text in page.get_texts("details")]


def test_plots_are_svg_images_with_alternative_texts(page):
    images = page.get_all("img")
    # Two of convergence, a range and a marginal each, importance, and a pair.
    assert len(images) == 2 + 3 + 1 + 3 + 1
    for image in images:
        kind, data = image["src"].split(",")
        assert kind == "data:image/svg+xml;base64"
        svg = ElementTree.fromstring(base64.b64decode(data))
        assert svg.tag.endswith("svg")
        assert not list(svg.iter("{http://www.w3.org/2000/svg}text")), "no font needed"
        assert image["alt"]
        assert int(image["width"]) > 0
        assert int(image["height"]) > 0


def test_the_most_important_hyperparameters_are_shown(search, page):
    result = hyperparameter_importance(search, random_state=0).to_frame()
    means = result.query("stage != 'all'").groupby("subset")["importance"].mean()
    ranked = means.sort_values(ascending=False).index
    single = [name for name in ranked if " x " not in name]
    pair = next(name for name in ranked if " x " in name)
    alts = [image["alt"] for image in page.get_all("img")]
    assert alts[-4:-1] == [f"Curves of the mean score over {name}." for name in single]
    assert pair.replace(" x ", " and ") in alts[-1]


def test_the_page_is_accessible_and_needs_nothing_else(path, page):
    assert page.get_all("html") == [{"lang": "en"}]
    assert page.get_all("meta")[0] == {"charset": "utf-8"}
    assert any(meta.get("name") == "viewport" for meta in page.get_all("meta"))
    assert len(page.get_all("title")) == 1
    assert {cell["scope"] for cell in page.get_all("th")} == {"col", "row"}
    for tag in ("script", "link", "a", "iframe"):
        assert not page.get_all(tag)
    html = path.read_text(encoding="utf-8")
    assert "http" not in re.sub(r"base64,[\w+/=]+", "", html).replace("http-equiv", "")
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(set(ids)) == len(ids)
    labelled = {attrs.get("aria-labelledby") for _, attrs in page.tags} - {None}
    assert labelled <= set(ids)


def test_all_that_comes_from_the_user_is_escaped(tmp_path):
    """A name, a value, an error, and the title."""
    name = f"kind{SCRIPT}"

    class Odd(InjectingClassifier):
        def set_params(self, **params):
            return super().set_params(
                **{key.removesuffix(SCRIPT): value for key, value in params.items()}
            )

    space = {name: ["b", SCRIPT], "degree": randint(1, 7)}
    search = make_search(Odd(), space, sizes=(1,), n_iter=8)
    with pytest.warns(FitFailedWarning, match="details"):
        search.fit(X, y)
    report = write_report(search, tmp_path / "a.html", title=f"</title>{SCRIPT}")
    page = read(report)
    assert not page.get_all("script")
    assert page.get_texts("title") == [f"</title>{SCRIPT}"]
    assert page.find_row("Row")[1:] == [name, "degree", "size"]
    assert f"'{SCRIPT}'" in page.text
    assert f"</pre></details></code>{SCRIPT}" in page.text


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0.91234, 0.5, np.nan], "0.9123"),
        ([1.0, 0.5], "1.0000"),
        ([-1234.56, -0.5], "\N{MINUS SIGN}1234.6"),
        ([3.21e-9], "3.210e\N{MINUS SIGN}09"),
        ([0.0], "0.0000"),
    ],
)
def test_scores_have_about_four_digits(scores, expected):
    assert make_score_format(np.array(scores))(scores[0]) == expected


# Other searches, and those that did not end well


def test_a_search_of_scikit_learn(tmp_path):
    search = RandomizedSearchCV(
        LogisticRegression(), {"C": loguniform(1e-4, 1)}, n_iter=12, random_state=0
    ).fit(*load_iris(return_X_y=True))
    page = read(write_report(search, f"{tmp_path}/report.html", random_state=0))
    assert "RandomizedSearchCV · 12 candidates · none failed" in page.text
    assert "There is only one hyperparameter." in page.text
    assert "No candidate failed." in page.text
    header = next(row for row in page.cells if row[0] == "Stage")
    assert header[1:] == [
        *("Candidates", "Failed", "Best score", "Median score", "Seconds")
    ]


@pytest.mark.usefixtures("no_plots")
def test_scores_without_an_error_text_are_failures(tmp_path):
    """scikit-learn's own search keeps no errors."""
    search = RandomizedSearchCV(
        FormulaClassifier(fails_below=0.01),
        {"rate": loguniform(1e-4, 1)},
        n_iter=8,
        cv=2,
        random_state=0,
    )
    with pytest.warns(FitFailedWarning), pytest.warns(UserWarning, match="non-finite"):
        search.fit(X, y)
    page = read(write_report(search, tmp_path / "report.html"))
    assert page.get_headings()[-1] == (
        "The score is not finite, and the search kept no error"
    )
    assert "First traceback" not in page.text


@pytest.mark.parametrize("largest", [0, 1], ids=["first stage", "second stage"])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning")
def test_a_search_that_ended_as_all_candidates_failed(largest, tmp_path):
    search = make_search(InjectingClassifier(largest=largest), sizes=(1, 2), n_iter=9)
    with pytest.raises(ValueError, match="Every candidate failed"):
        search.fit(X, y)
    page = read(write_report(search, tmp_path / "report.html"))
    assert "MemoryError: out of memory" in page.get_headings()
    assert "for the refit" not in page.text
    if largest:
        assert "every candidate of stage 1, size 2 failed. This is the b" in page.text
        best = np.nanmax(search.cv_results_["mean_test_score"])
        assert page.get_texts("strong") == [
            f"{best:.4f}".replace("-", "\N{MINUS SIGN}")
        ]
    else:
        assert "No candidate has a score: all failed." in page.text
        assert "needed in a stage, but size 1 has 0" in page.text


def test_a_stage_with_few_candidates_leaves_the_others_their_plots(tmp_path):
    search = make_small(sizes=(1, 2), n_iter=(10, 4))
    page = read(write_report(search, tmp_path / "report.html", random_state=0))
    assert "Left out is stage 1, size 2, with fewer than 10" in page.text
    assert "This cannot be shown" not in page.text


@pytest.mark.usefixtures("no_plots")
def test_a_choice_that_is_not_the_highest_score_is_told(tmp_path):
    search = make_small(sizes=(2, 2), select="last", n_iter=(5, 1), n_promoted=0)
    results = search.cv_results_
    assert search.best_index_ == 5
    assert results["mean_test_score"][5] < results["mean_test_score"].max()
    text = read(write_report(search, tmp_path / "report.html")).text
    highest = results["mean_test_score"].argmax()
    assert f", of row {highest} of cv_results_" in text


@pytest.mark.usefixtures("no_plots")
def test_what_was_pruned_or_took_too_long_is_told(tmp_path):
    search = make_small().fit(X, y)
    page = read(write_report(search, tmp_path / "plain.html"))
    assert "Pruned" not in page.get_texts("th")
    n_candidates = len(search.cv_results_["stage"])
    error = "TimeoutError: the fit took 9 seconds, more than trial_timeout=5"
    for stage in [search, *search.stages_]:
        results = stage.cv_results_
        results["pruned"] = np.arange(len(results["error"])) == 1
        results["error"][0] = error
    assert search.cv_results_["pruned"].sum() == 1 < n_candidates
    page = read(write_report(search, tmp_path / "pruned.html"))
    header = page.find_row("Stage")
    assert page.find_row("0")[header.index("Pruned")] == "1"
    assert page.find_row("0")[header.index("Failed")] == "1"
    assert error in page.text


@pytest.mark.usefixtures("no_plots")
def test_another_metric(tmp_path):
    search = make_small(scoring={"a": score_a, "b": score_b}, refit="a")
    text = read(write_report(search, tmp_path / "report.html", metric="b")).text
    assert "validation score (b)" in text
    assert "This is the highest b; a was searched by." in text
    best = -search.cv_results_["mean_test_b"].max()
    assert f"\N{MINUS SIGN}{best:.4f} validation" in text


def score_a(estimator, X, y):
    return estimator.score(X, y)


def score_b(estimator, X, y):
    return -estimator.rate


@pytest.mark.usefixtures("no_plots")
def test_a_stage_of_a_search_is_told_in_its_units(tmp_path):
    stage = make_small().stages_[0]
    page = read(write_report(stage, tmp_path / "report.html"))
    index = stage.cv_results_["mean_test_score"].argmax()
    best = stage.cv_results_["params"][index]
    assert page.find_row("rate") == ["rate", f"{best['rate']:.4g}"]
    assert page.find_row("degree") == ["degree", f"{best['degree']}"]


# The file


@pytest.mark.usefixtures("no_plots")
def test_returns_the_path_of_a_file_that_others_may_read(tmp_path):
    path = write_report(make_small(), str(tmp_path / "report.html"))
    assert path == tmp_path / "report.html"
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
    assert os.listdir(tmp_path) == ["report.html"]


def test_the_same_random_state_gives_the_same_page(tmp_path):
    search = make_small(n_iter=10, space=RATE)
    pages = [
        write_report(
            search,
            tmp_path / "report.html",
            random_state=np.random.RandomState(0),
        ).read_bytes()
        for _ in range(2)
    ]
    assert pages[0] == pages[1]


@pytest.mark.usefixtures("no_plots")
def test_text_that_is_not_utf8_is_written(tmp_path):
    path = write_report(make_small(), tmp_path / "a.html", title="na\xefve \udce9")
    assert "na\xefve \\udce9" in read(path).text


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("missing/report.html", FileNotFoundError, "missing"),
        ("file/report.html", NotADirectoryError, "file"),
        ("folder", IsADirectoryError, "folder"),
    ],
)
def test_paths_that_cannot_be_written(name, error, message, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    # Before the search is even looked at.
    with pytest.raises(error, match=re.escape(str(tmp_path / message))):
        write_report(None, tmp_path / name)


def test_a_folder_without_permission(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *args: False)
    with pytest.raises(PermissionError, match=re.escape(str(tmp_path))):
        write_report(None, tmp_path / "report.html")


@pytest.mark.parametrize(
    ("search", "params", "error", "message"),
    [
        (make_search(), {}, NotFittedError, "not fitted"),
        ("fitted", {"metric": "recall"}, ValueError, "no scores of metric='recall'"),
        ("fitted", {"random_state": "x"}, ValueError, "random_state"),
        ("fitted", {"title": 3}, ValueError, "title"),
    ],
)
def test_bad_input_is_told_before_anything_is_computed(
    search, params, error, message, tmp_path, monkeypatch
):
    monkeypatch.setattr("sklearn_iis.inspection.report._write.describe_best", None)
    if search == "fitted":
        search = make_small()
    with pytest.raises(error, match=message):
        write_report(search, tmp_path / "report.html", **params)
    assert not os.listdir(tmp_path)


def test_nothing_is_left_behind_by_an_error(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("no space")

    path = tmp_path / "report.html"
    path.write_text("before")
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        write_report(make_small(), path)
    assert os.listdir(tmp_path) == ["report.html"]
    assert path.read_text() == "before"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (NothingToShowError("no <b>score</b>"), "No <b>score</b>."),
        (OverflowError("too \x1b[1m large"), "OverflowError: too \\x1b[1m large."),
    ],
)
def test_a_section_that_cannot_be_drawn_says_why(error, reason, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(ConvergenceDisplay, "from_search", fail)
    monkeypatch.setattr(MarginalDisplay, "plot", fail)
    search = make_small(n_iter=10)
    page = read(write_report(search, tmp_path / "report.html", random_state=0))
    assert page.text.count(f"This cannot be shown. {reason}") == 2
    assert len(page.get_all("img")) == 2 + 1 + 1


@pytest.mark.usefixtures("no_plots")
@pytest.mark.parametrize(
    "part", ["summarize", "describe_best", "describe_stages", "describe_ranges"]
)
def test_a_part_that_cannot_be_told_says_why(part, tmp_path, monkeypatch):
    def fail(*args):
        raise ValueError("what is it?")

    monkeypatch.setattr(f"sklearn_iis.inspection.report._write.{part}", fail)
    page = read(write_report(make_small(), tmp_path / "report.html"))
    assert page.text.count("ValueError: what is it?") == 1
    assert "No candidate failed." in page.text


# Values that cannot be drawn or written


class AnythingClassifier(ClassifierMixin, BaseEstimator):
    """Takes any value as `b`; its score is `a`."""

    def __init__(self, a=1.0, b=None):
        self.a = a
        self.b = b

    def fit(self, X, y):
        return self

    def score(self, X, y):
        return self.a


class Unwritable:
    """A choice without a text."""

    def __repr__(self):
        raise RuntimeError("no text")


def make_any(b, a=None, **columns):
    """A search over any values, with further columns of results."""
    space = {"a": a or uniform(0, 1), "b": b}
    search = RandomizedSearchCV(
        AnythingClassifier(), space, n_iter=14, cv=2, refit=False, random_state=0
    ).fit(X, y)
    search.cv_results_ |= columns
    return search


UNWRITABLE = Unwritable()


@pytest.mark.parametrize(
    ("b", "texts"),
    [
        ([1.0, np.inf], ["1, inf"]),
        ([-np.inf, 0.5, np.inf, 1e308], ["-inf, 0.5, 1e+308, inf"]),
        (["auto", 10**400], [f"'auto', 1{'0' * 299} ... (401 characters)"]),
        (["auto", 10**5000], ["'auto', <int that cannot be written: ValueError>"]),
        (["caf\udce9.png", "ok.png"], [r"'caf\udce9.png', 'ok.png'"]),
        (["\x00\x1b[31m", "\u202eb"], [r"'\x00\x1b[31m', '\u202eb'"]),
        (
            [UNWRITABLE, "b"],
            ["<Unwritable that cannot be written: RuntimeError>, 'b'"],
        ),
        (["a" * 2_000_000, "b"], [f"'{'a' * 299} ... (2,000,002 characters), 'b'"]),
    ],
    ids=["inf", "infs", "huge", "huger", "surrogate", "control", "unwritable", "long"],
)
def test_any_value_is_told_and_drawn(b, texts, tmp_path):
    path = write_report(make_any(b), tmp_path / "report.html", random_state=0)
    page = read(path)
    for text in texts:
        assert ["b", text] in page.cells
    # Two of convergence, two ranges, importance, two marginals, and a pair.
    assert len(page.get_all("img")) == 8
    assert "This cannot be shown" not in page.text
    assert path.stat().st_size < 1_000_000
    assert not UNPRINTABLE.search(path.read_text(encoding="utf-8"))


def test_what_cannot_be_drawn_leaves_the_rest_of_the_page(tmp_path):
    search = make_any(["b", "c"], a=pareto(0.01))
    search.cv_results_["mean_test_score"] = np.linspace(0, 1, 14)
    page = read(write_report(search, tmp_path / "report.html", random_state=0))
    reason = "This cannot be shown. A range from 1.0 to inf cannot be drawn."
    # The ranges, the marginals and the pair.
    assert page.text.count(reason) == page.text.count("cannot be shown") == 3
    assert len(page.get_all("img")) == 2 + 1


def test_names_and_metrics_may_be_unprintable(tmp_path):
    search = make_any(["b", "c"])
    for old, new in (("a", "a\udce9"), ("b", "b\x07")):
        search.param_distributions[new] = search.param_distributions.pop(old)
        for params in search.cv_results_["params"]:
            params[new] = params.pop(old)
    for key in list(search.cv_results_):
        column = search.cv_results_.pop(key)
        search.cv_results_[key.replace("_test_score", "_test_\x1b$s$")] = column
    page = read(write_report(search, tmp_path / "report.html", random_state=0))
    assert r"validation score (\x1b$s$)" in page.text
    assert page.find_row(r"a\udce9")
    assert page.find_row(r"b\x07")
    assert "This cannot be shown" not in page.text


@pytest.mark.usefixtures("no_plots")
def test_long_errors_are_cut(tmp_path):
    message = "\x1b[2J" + "x" * 20_000_000
    errors = np.full(14, None)
    errors[0] = f"Traceback\n{message}\nValueError: {message} end"
    search = make_any(["b", "c"], error=errors)
    path = write_report(search, tmp_path / "report.html")
    assert path.stat().st_size < 50_000
    page = read(path)
    (quoted,) = page.get_texts("details")[-1:]
    assert quoted.startswith(r"Traceback" + "\n" + r"\x1b[2Jxxx")
    assert "... 10,000 of 40,000,035 characters are shown ..." in quoted
    assert quoted.rstrip().endswith("x end")
    assert len(quoted) < 10_100
    heading = page.get_headings()[-1]
    assert heading.startswith(r"ValueError: \x1b[2Jxxx")
    assert heading.endswith(" ... (20,000,020 characters)")


@pytest.mark.usefixtures("no_plots")
def test_only_texts_are_errors(tmp_path):
    """A column of that name may hold anything in another search."""
    search = make_any(["b", "c"], error=np.linspace(0, 1, 14))
    text = read(write_report(search, tmp_path / "report.html")).text
    assert "No candidate failed." in text


# What belongs to the caller


def test_matplotlib_is_left_as_it_was(tmp_path, monkeypatch):
    search, small = make_small(n_iter=10), make_small(space=RATE)
    with mpl.rc_context({"figure.facecolor": "red", "font.size": 30}):
        figure = plt.figure()
        before = dict(mpl.rcParams), plt.get_backend(), plt.isinteractive()
        write_report(search, tmp_path / "a.html")
        styled = write_report(small, tmp_path / "b.html").read_bytes()
        assert (dict(mpl.rcParams), plt.get_backend(), plt.isinteractive()) == before
        assert plt.get_fignums() == [figure.number]
        plt.close(figure)
        with monkeypatch.context() as patch:
            patch.setattr(ConvergenceDisplay, "plot", None)
            write_report(small, tmp_path / "a.html")
        assert dict(mpl.rcParams) == before[0]
    # The style of the caller is for the caller's plots.
    assert write_report(small, tmp_path / "c.html").read_bytes() == styled


def test_pyplot_is_not_needed(tmp_path):
    """Importing it may choose a backend, which needs a screen."""
    code = f"""
import sys
from scipy.stats import loguniform
from sklearn_iis import IISSearchCV
from sklearn_iis.inspection import write_report
from sklearn_iis.testing import FormulaClassifier, X, y
search = IISSearchCV(FormulaClassifier(), {{"rate": loguniform(1e-4, 1)}}, n_iter=10)
write_report(search.fit(X, y), {str(tmp_path / "report.html")!r})
print("matplotlib.pyplot" in sys.modules)
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "False\n"


# In a browser


def test_in_a_browser(browser, path):
    requests, messages = [], []
    tab = browser.new_page()
    tab.on("request", lambda request: requests.append(request.url))
    tab.on("console", lambda message: messages.append(message.text))
    tab.on("pageerror", lambda error: messages.append(str(error)))
    tab.on("dialog", lambda dialog: (messages.append("alert"), dialog.dismiss()))
    tab.goto(path.as_uri())
    loaded = tab.evaluate(
        "[...document.images].map(image => image.complete && image.naturalWidth > 0)"
    )
    assert len(loaded) == 10
    assert all(loaded)
    for width in (390, 1280):
        tab.set_viewport_size({"width": width, "height": 900})
        assert tab.evaluate("document.documentElement.scrollWidth") == width
    backgrounds = []
    for scheme in ("light", "dark"):
        tab.emulate_media(color_scheme=scheme)
        backgrounds.append(
            tab.evaluate("getComputedStyle(document.body).backgroundColor")
        )
        card = "getComputedStyle(document.querySelector('figure')).backgroundColor"
        assert tab.evaluate(card) == "rgb(255, 255, 255)"
    assert backgrounds[0] != backgrounds[1]
    details = tab.locator("details").last
    assert not details.locator("pre").is_visible()
    details.locator("summary").click()
    assert details.locator("pre").is_visible()
    assert tab.evaluate("document.scripts.length") == 0
    assert not messages
    assert [url for url in requests if not url.startswith("data:")] == [path.as_uri()]
    tab.close()


def test_the_template_is_in_the_package():
    package = Path(sklearn_iis.__file__).parent
    assert (package / "inspection" / "report" / "page.html.jinja").is_file()


def test_alternatives(tmp_path):
    """Each hyperparameter has its row and its pictures, and the choice has, too."""
    space = [
        {"rate": loguniform(1e-3, 1), "degree": [1, 2]},
        {"kind": ["a", "c"], "degree": randint(3, 9), "widths": [[9, 9], [5, 5]]},
    ]
    search = IISSearchCV(
        FormulaClassifier(),
        space,
        sizes=(1, 2),
        size_param="size",
        n_iter=(24, 16),
        cv=2,
        random_state=0,
    ).fit(X, y)
    page = Page(write_report(search, tmp_path / "report.html").read_text())
    rows = {cells[0]: cells[1:] for cells in page.cells}
    assert rows["(alternative)"] == ["'space[0]', 'space[1]'"] * 2
    assert rows["degree (space[0])"] == ["1, 2"] * 2
    assert rows["widths"] == ["[9, 9], [5, 5]"] * 2
    for name, value in search.best_params_.items():
        text = f"{value:.4g}" if name == "rate" else repr(value)
        assert [name, text] in page.cells
    assert any("(alternative)" in image["alt"] for image in page.get_all("img"))
