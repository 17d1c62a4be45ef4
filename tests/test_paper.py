"""The experiments of the paper: run, interrupted, resumed, reported."""

import dataclasses
import json
import pickle
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.stats import loguniform
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from benchmarks.paper import __main__ as command
from benchmarks.paper import run as running
from benchmarks.paper.analysis import Difference, Results
from benchmarks.paper.data import LOADERS, describe, load
from benchmarks.paper.experiments import (
    EXPERIMENTS,
    SEARCHES,
    Arm,
    Experiment,
    compare,
)
from benchmarks.paper.page import (
    TEMPLATE,
    find_winners,
    judge,
    make_fields,
    write_page,
)
from benchmarks.paper.report import PERCENT, signed, with_sign, write_report
from sklearn_iis import IISSearchCV, ImageResizer
from sklearn_iis.cnn import paper_classifier
from tests.datasets import test_ckplus, test_flowers102, test_stl10
from tests.datasets.conftest import server  # noqa: F401
from tests.test_flowers12 import FOLDER

published_flowers102 = test_flowers102.published
published_stl10 = test_stl10.published
ckplus_folder = test_ckplus.folder

TIMES = ["seconds", "cpu_seconds"]

TINY = Experiment(
    data="shapes",
    space={
        "cnn__learning_rate": [0.001, 0.003, 0.01, 0.03, 0.1],
        "cnn__n_conv_layers": [1, 2],
    },
    network={"max_epochs": 1, "n_filters": 4},
    arms={"full size": Arm((8,), (4,)), "IIS": Arm((4, 8), (3, 2))},
    searches=("random",),
    n_repeats=2,
)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [("flowers102", (32, 64, 128)), ("stl10", (32, 48, 96)), ("ckplus", (32, 64, 128))],
)
def test_experiments_of_the_paper(name, sizes):
    experiment = EXPERIMENTS[name]
    arms = experiment.arms
    assert experiment.searches == ("random", "tpe", "smac", "genetic", "bayes")
    assert experiment.n_repeats == 3
    assert arms["full size"] == Arm(sizes[-1:], (1500,))
    assert arms["IIS"] == Arm(sizes, (750, 500, 250))
    assert arms["narrowing"] == Arm((sizes[-1],) * 3, (750, 500, 250))
    assert not paper_classifier(**experiment.network).batch_norm
    inheriting = arms["IIS with inherited weights"]
    assert inheriting.sizes == sizes
    assert inheriting.settings["stage_params"]["cnn__max_epochs"] == (200, 67, 67)
    # Eight arms for all searches, smaller sizes alone for random search, and 200 px.
    assert len(experiment.jobs()) == 3 * (8 * 5 + 2 + (name == "ckplus"))
    assert experiment.largest_size == (200 if name == "ckplus" else sizes[-1])
    json.dumps(experiment.describe())


def test_flowers102_as_published(published_flowers102, tmp_path):
    data = LOADERS["flowers102"](tmp_path, 8)
    assert data.X.shape == (6, 8, 8, 3)
    [(train, validation)] = data.split(0)
    assert (train.tolist(), validation.tolist()) == ([0, 1, 2], [3, 4, 5])
    assert [len(model) for model in data.models] == [6]
    assert data.X_test.shape == (4, 8, 8, 3)
    # The error of the paper is averaged over classes.
    assert data.score is balanced_accuracy_score


def test_stl10_as_published(published_stl10, tmp_path):
    """Grey; the first fold trains, the others validate; a model a fold."""
    data = LOADERS["stl10"](tmp_path, 32)
    assert data.X.shape == (10, 32, 32)
    [(train, validation)] = data.split(0)
    assert train.tolist() == test_stl10.FOLDS[0].tolist() == data.models[0].tolist()
    assert sorted([*train, *validation]) == list(range(10))
    assert len(data.models) == len(test_stl10.FOLDS)
    assert data.X_test.shape == (6, 32, 32)


def test_ckplus_as_published(ckplus_folder):
    data = LOADERS["ckplus"](ckplus_folder, 32)
    assert data.X.shape == (3, 32, 32)
    assert data.models == []


@pytest.mark.parametrize("name", ["ckplus", "flowers12"])
def test_folder_is_asked_for(name):
    with pytest.raises(ValueError, match=f"{name} needs the folder of its images"):
        LOADERS[name](None, 32)


def test_splits_have_70_percent_of_each_class_and_differ_by_repeat():
    data = LOADERS["shapes"](None, 8)
    [(train, validation)] = data.split(0)
    counts = np.bincount(data.y[train]) / np.bincount(data.y)
    np.testing.assert_allclose(counts, 0.7, atol=0.01)
    assert sorted([*train, *validation]) == list(range(len(data.y)))
    assert (
        data.split(0)[0][0].tolist() == train.tolist() != data.split(1)[0][0].tolist()
    )


def read(folder):
    return {key: pd.read_csv(folder / f"{key}.csv") for key in running.TABLES}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    running.run("tiny", TINY, folder)
    return folder


def test_results_are_tidy(uninterrupted):
    tables = read(uninterrupted)
    evaluations = tables["evaluations"]
    assert len(evaluations) == 2 * (4 + 5)
    assert evaluations[running.JOB].drop_duplicates().to_numpy().tolist() == [
        ["random", arm, repeat] for repeat in (0, 1) for arm in ("full size", "IIS")
    ]
    iis = evaluations[evaluations["arm"] == "IIS"]
    assert iis["size"].tolist() == [4, 4, 4, 8, 8] * 2
    assert (evaluations["epochs"] == 1).all()
    assert (evaluations["cpu_seconds"] > 0).all()
    # Two ways to choose a model in each run.
    assert len(tables["models"]) == 2 * 2 * 2
    assert list(uninterrupted.glob("*.journal")) == []


def test_every_search_runs(tmp_path):
    arms = {"IIS": TINY.arms["IIS"]}
    searches = dataclasses.replace(TINY, searches=SEARCHES, arms=arms, n_repeats=1)
    running.run("searches", searches, tmp_path)
    evaluations = read(tmp_path)["evaluations"]
    assert evaluations["search"].tolist() == [s for s in SEARCHES for _ in range(5)]
    assert evaluations["score"].between(0, 1).all()


@pytest.mark.parametrize("n_before", [2, 6, 11])
def test_interrupted_run_goes_on(uninterrupted, tmp_path, monkeypatch, n_before):
    """To the same tables; what was evaluated is not evaluated again."""
    n_scored = 0

    def interrupt(y, predicted):
        nonlocal n_scored
        n_scored += 1
        if n_scored == n_before + 1:
            raise KeyboardInterrupt
        return accuracy_score(y, predicted)

    monkeypatch.setattr(running, "accuracy_score", interrupt)
    with pytest.raises(KeyboardInterrupt):
        running.run("tiny", TINY, tmp_path)
    running.run("tiny", TINY, tmp_path)
    expected, tables = read(uninterrupted), read(tmp_path)
    for key in running.TABLES:
        times = [name for name in TIMES if name in tables[key]]
        pd.testing.assert_frame_equal(
            tables[key].drop(columns=times), expected[key].drop(columns=times)
        )
    assert n_scored == len(tables["evaluations"]) + 1


def test_finished_run_is_left_alone_and_may_get_more_repeats(uninterrupted, tmp_path):
    for name in ("about.json", "models.csv", "evaluations.csv"):
        (tmp_path / name).write_bytes((uninterrupted / name).read_bytes())
    before = (tmp_path / "evaluations.csv").read_text()
    running.run("tiny", TINY, tmp_path)
    assert (tmp_path / "evaluations.csv").read_text() == before
    running.run("tiny", dataclasses.replace(TINY, n_repeats=3), tmp_path)
    after = (tmp_path / "evaluations.csv").read_text()
    assert after.startswith(before)
    assert len(read(tmp_path)["evaluations"]) == 3 * (4 + 5)


def test_models_of_a_run_that_was_not_finished_are_not_counted_twice(
    uninterrupted, tmp_path
):
    """The process died between the two tables."""
    for name in ("about.json", "models.csv", "evaluations.csv"):
        (tmp_path / name).write_bytes((uninterrupted / name).read_bytes())
    evaluations = pd.read_csv(tmp_path / "evaluations.csv")
    unfinished = (evaluations["arm"] == "IIS") & (evaluations["repeat"] == 1)
    evaluations[~unfinished].to_csv(tmp_path / "evaluations.csv", index=False)
    running.run("tiny", TINY, tmp_path)
    assert len(read(tmp_path)["models"]) == 2 * 2 * 2


def test_a_model_that_inherits_weights_is_fitted_at_each_size():
    """As an evaluation is; its seconds are those of all fits."""
    data = load("shapes", None, 8)
    stage_params = {"cnn__max_epochs": [3, 1], "cnn__pooling": ["average"] * 2}
    best = {"resize__size": 8, "cnn__max_epochs": 1, "cnn__pooling": "average"}
    network = paper_classifier(**TINY.network, random_state=0)
    search = IISSearchCV(
        running.TimedPipeline([("resize", ImageResizer()), ("cnn", network)]),
        {},
        sizes=(4, 8),
        stage_params=stage_params,
        inherit_weights=True,
    )
    search.cv_results_ = {"stage": np.array([1]), "params": [best]}
    X, y = data.X[:100], data.y[:100]
    pipe = running.fit_model(search, 0, X, y)
    cnn = clone(network).set_params(pooling="average", warm_start="weights")
    for size, epochs in ((4, 3), (8, 1)):
        cnn.set_params(max_epochs=epochs).fit(ImageResizer(size).transform(X), y)
    expected = cnn.predict_proba(ImageResizer(8).transform(X))
    np.testing.assert_array_equal(pipe.predict_proba(X), expected)
    last = pipe.cpu_seconds_
    assert pipe.fit(X, y).cpu_seconds_ > last > 0


def test_seconds_of_a_pipeline_from_a_file_begin_anew():
    pipe = running.TimedPipeline([("dummy", DummyClassifier())]).fit([[0], [1]], [0, 1])
    assert pipe.cpu_seconds_ > 0
    assert pickle.loads(pickle.dumps(pipe)).cpu_seconds_ == 0


def test_other_results_are_not_mixed_in(uninterrupted):
    other = dataclasses.replace(TINY, network={"max_epochs": 2})
    with pytest.raises(ValueError, match=r"network was \{'max_epochs': 1, .* and is"):
        running.run("tiny", other, uninterrupted)
    fewer = dataclasses.replace(TINY, n_repeats=1)
    with pytest.raises(ValueError, match="n_repeats was 2 and is 1"):
        running.run("tiny", fewer, uninterrupted)


def test_results_of_other_images_are_not_mixed_in(uninterrupted, monkeypatch):
    """As many, with other labels."""
    data = LOADERS["shapes"](None, 8)
    other = dataclasses.replace(data, y=data.y[::-1])
    monkeypatch.setattr(running, "load", lambda *arguments: other)
    with pytest.raises(ValueError, match=r"images was .* and is"):
        running.run("tiny", TINY, uninterrupted)


def test_images_are_asked_for_even_if_all_runs_are_there(uninterrupted):
    other = dataclasses.replace(TINY, data="flowers12")
    with pytest.raises(NotADirectoryError, match="There is no folder '/nonexistent"):
        running.run("tiny", other, uninterrupted, data_path="/nonexistent")


def test_a_package_may_be_installed_later_but_not_changed(uninterrupted, tmp_path):
    for name in ("about.json", "models.csv", "evaluations.csv"):
        (tmp_path / name).write_bytes((uninterrupted / name).read_bytes())
    about = json.loads((tmp_path / "about.json").read_text())
    versions = about["versions"]
    fewer = {name: number for name, number in versions.items() if name != "smac"}
    text = json.dumps(about | {"versions": fewer})
    (tmp_path / "about.json").write_text(text)
    running.run("tiny", TINY, tmp_path)
    assert json.loads((tmp_path / "about.json").read_text())["versions"] == versions
    text = json.dumps(about | {"versions": versions | {"numpy": "1.0"}})
    (tmp_path / "about.json").write_text(text)
    with pytest.raises(ValueError, match="versions was"):
        running.run("tiny", TINY, tmp_path)


def test_how_much_is_to_run_is_told(uninterrupted, capsys):
    running.run("tiny", TINY, uninterrupted)
    assert capsys.readouterr().out.splitlines() == [
        f"{uninterrupted}: 4 of 4 runs are there, 0 to run"
    ]


def test_own_results_are_not_among_the_committed_ones():
    parse = command.make_parser().parse_args
    for name in ("run", "report"):
        assert parse([name, "flowers12"]).results == Path("paper-results")
    assert parse(["page"]).results == command.RESULTS


def test_report_of_what_was_not_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no results: run it first"):
        command.main(["report", "flowers12", "--results", str(tmp_path)])


def test_two_processes_do_not_write_the_same_results(uninterrupted):
    with (
        running.alone_in(uninterrupted),
        pytest.raises(BlockingIOError, match="another process writes the results"),
    ):
        running.run("tiny", TINY, uninterrupted)


def test_data_without_a_test(tmp_path, monkeypatch):
    """As CK+: there are no models, but the run goes on, and so does its report."""
    data = dataclasses.replace(LOADERS["shapes"](None, 16), models=[])
    monkeypatch.setitem(LOADERS, "shapes", lambda path, size: data)
    experiment = dataclasses.replace(
        EXPERIMENTS["flowers12-short"],
        data="shapes",
        arms=compare((8, 16), (6, 4)),
        space=TINY.space | {"cnn__l2": loguniform(1e-6, 1e-2)},
        searches=("random",),
    )
    load.cache_clear()
    running.run("no test", experiment, tmp_path)
    load.cache_clear()
    monkeypatch.setitem(EXPERIMENTS, "no test", experiment)
    results = Results.read(tmp_path)
    assert len(results.models) == 0
    write_report(results, tmp_path)
    assert "test error" not in (tmp_path / "tables.md").read_text()


def test_killed_run_goes_on(uninterrupted, tmp_path):
    """A real process, killed by SIGKILL in the middle of a search."""
    code = (
        "from benchmarks.paper.run import run; from tests.test_paper import TINY; "
        f"run('tiny', TINY, {str(tmp_path)!r})"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[1]
    )
    try:
        second = tmp_path / "random-IIS-0.journal"
        while not second.exists():
            assert process.poll() is None
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    assert len(read(tmp_path)["evaluations"]) < 2 * (4 + 5)
    running.run("tiny", TINY, tmp_path)
    for key, table in read(tmp_path).items():
        expected = read(uninterrupted)[key]
        times = [name for name in TIMES if name in table]
        assert table.drop(columns=times).to_csv() == (
            expected.drop(columns=times).to_csv()
        )
    assert list(tmp_path.glob("*.journal")) == []


ROWS = {
    "full size": [(0, 8, 0.5, 10.0), (0, 8, 0.8, 10.0), (0, 8, 0.7, 10.0)],
    "IIS": [(0, 4, 0.9, 1.0), (1, 8, 0.7, 8.0), (1, 8, 0.8, 12.0)],
}


@pytest.fixture
def by_hand():
    """One search, two repeats of which the second is 0.1 better in IIS."""
    evaluations = pd.DataFrame(
        [
            (
                "random",
                arm,
                repeat,
                stage,
                size,
                0,
                0,
                round(score + gain, 6),
                3,
                9.9,
                seconds,
            )
            for repeat in (0, 1)
            for arm, rows in ROWS.items()
            for gain in [0.1 * (arm == "IIS") * repeat]
            for stage, size, score, seconds in rows
        ],
        columns=[
            *running.JOB,
            *("stage", "size", "promoted", "failed", "score", "epochs", *TIMES),
        ],
    )
    models = evaluations[[*running.JOB, "score"]].rename(
        columns={"score": "test_score"}
    )
    experiment = dataclasses.replace(TINY, clock="cpu")
    models = models.assign(selection="last", model=0, size=8)
    return Results(experiment, {}, evaluations, models)


def test_numbers_are_those_computed_by_hand(by_hand):
    assert by_hand.seconds()["full size"].tolist() == [30, 30]
    assert by_hand.seconds()["IIS"].tolist() == [21, 21]
    # The 0.9 is that of the smaller size.
    np.testing.assert_allclose(by_hand.final_errors()["IIS"], [0.2, 0.1])
    np.testing.assert_allclose(by_hand.last_stage_shares()["IIS"], 20 / 21)
    assert by_hand.last_stage_seconds()["IIS"].tolist() == [10, 10]
    times = by_hand.times_to_final("IIS")
    assert times["reference"].tolist() == [20, 20]
    assert times["arm"].tolist() == [21, 9]
    assert times["outcome"].tolist() == ["later", "sooner"]
    in_time = by_hand.errors_in_time("IIS")
    np.testing.assert_allclose(in_time["reference"], 0.2)
    np.testing.assert_allclose(in_time["arm"], [0.2, 0.1])
    errors, seconds = by_hand.best_so_far("random", "IIS")
    np.testing.assert_allclose(errors, [[0.1, 0.3, 0.2], [0.0, 0.2, 0.1]])
    np.testing.assert_allclose(seconds, [[1, 9, 21]] * 2)


def test_an_arm_that_ends_before_is_neither_sooner_nor_later(by_hand):
    """It has found nothing as good; with more time it might have."""
    rows = by_hand.evaluations
    rows.loc[rows["arm"] == "full size", "cpu_seconds"] = 100.0
    rows.loc[rows["arm"] == "IIS", "score"] = 0.1
    times = by_hand.times_to_final("IIS")
    assert times["outcome"].tolist() == ["open", "open"]
    assert times["arm"].tolist() == [np.inf, np.inf]


def test_what_failed_has_an_error_of_1_and_takes_time_by_the_wall(by_hand):
    by_hand.evaluations.loc[1, ["failed", "score", "cpu_seconds"]] = [1, np.nan, np.nan]
    assert by_hand.final_errors()["full size"].iloc[0] == pytest.approx(0.3)
    assert by_hand.seconds()["full size"].iloc[0] == pytest.approx(29.9)


def compare_two(gains, setting="keep 0.5"):
    """Results of two settings, the second of which gains so much in each repeat."""
    index = pd.MultiIndex.from_tuples(
        [("random", k) for k in range(len(gains))], names=["search", "repeat"]
    )
    errors = pd.DataFrame({"default": 0.5, setting: 0.5 - np.array(gains)}, index)
    experiment = dataclasses.replace(TINY, arms=dict.fromkeys(errors))
    return SimpleNamespace(experiment=experiment, final_errors=lambda: errors)


CLEAR = [0.1, 0.101, 0.102, 0.099]


@pytest.mark.parametrize(
    ("other", "winners"),
    [
        ([0.1, -0.2, 0.15, -0.12], ["keep 0.5"]),  # worse in the mean, by chance
        (np.negative(CLEAR), []),
    ],
)
def test_a_setting_wins_unless_it_is_really_worse_on_other_data(other, winners):
    rules = {"one": compare_two(CLEAR), "other": compare_two(other)}
    assert find_winners(rules) == winners


def test_smallest_gain_that_would_pass():
    values = np.array([0.1, 0.3, -0.1, 0.2])
    needed = Difference(values).detectable(0.01)
    shifted = Difference(values - values.mean() + needed)
    assert shifted.p_value == pytest.approx(0.01)


def test_zero_has_no_sign():
    assert [with_sign(v, "{:+.0f}") for v in (-0.3, 0.2, -1)] == ["0", "0", "-1"]
    assert "± 1 % (p" in signed(Difference(np.array([1.0, 3.0, 2.0])), PERCENT, " %")


def make_series(values, n_repeats):
    """A row a search and repeat."""
    pairs = [(f"search {i}", k) for i in range(2) for k in range(n_repeats)]
    index = pd.MultiIndex.from_tuples(pairs, names=["search", "repeat"])
    return pd.Series(np.ravel(values), index)


def test_differences_are_tested_in_pairs_of_repeats():
    """The searches of a repeat share its splits, and count as one."""
    rng = np.random.RandomState(0)
    first, second = rng.normal(1, 1, (2, 5)), rng.normal(0, 1, (2, 5))
    difference = Difference.between(make_series(first, 5), make_series(second, 5))
    reference = stats.ttest_rel(first.mean(axis=0), second.mean(axis=0))
    assert difference.p_value == pytest.approx(reference.pvalue)
    interval = reference.confidence_interval(0.95)
    np.testing.assert_allclose(difference.interval, interval)


@pytest.mark.parametrize(
    ("values", "p_value"), [([0.0, 0.0], 1), ([0.5, 0.5], 0), ([0.5], 1)]
)
def test_differences_without_spread(values, p_value):
    assert Difference(np.array(values)).p_value == p_value


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([1.0, 1.1, 0.9], "Holds"),
        ([-1.0, -1.1, -0.9], "Does not"),
        ([1, -1, 0], "Cannot"),
    ],
)
def test_verdicts(values, verdict):
    assert verdict in judge(Difference(np.array(values)), 1)
    assert judge(Difference(np.zeros(3)), 1) == "**Cannot be said.**"


@pytest.fixture(scope="module")
def committed():
    """The results that the page is made of, as its command reads them."""
    return command.read_results(command.RESULTS)


def test_page_is_computed_from_the_committed_results(committed, tmp_path):
    """Its every number: the page is what the command makes of them."""
    write_page(*committed, tmp_path / "paper.md")
    assert (tmp_path / "paper.md").read_text() == command.PAGE.read_text()


def test_text_of_the_page_has_no_numbers_of_its_own():
    """Those of results are names in braces; others are quoted, or of what was run."""
    text = TEMPLATE.read_text()
    results = text[text.index("\n## 1. ") :]
    results = re.sub(r"\{\w+\}|`[^`]*`|\((\.\./|#)\S+", "", results)
    quoted = ("Paper", "Others", "History", "#")
    paragraphs = [p for p in results.split("\n\n") if not p.strip().startswith(quoted)]
    assert len(paragraphs) > 20
    # L2 is a name.
    numbers = [p for p in paragraphs if re.search(r"\d", p.replace("L2", ""))]
    assert numbers == []


def test_page_uses_all_that_is_computed_for_it(committed):
    names = set(re.findall(r"\{(\w+)\}", TEMPLATE.read_text()))
    assert set(make_fields(*committed)) == names


def test_default_hand_over_is_what_won(committed):
    _, rules, _ = committed
    assert find_winners(rules) == []
    defaults = IISSearchCV(None, {}).get_params()
    assert {name: defaults[name] for name in ("keep", "margin", "n_promoted")} == {
        "keep": 0.25,
        "margin": 0.1,
        "n_promoted": 3,
    }


@pytest.mark.parametrize(
    "name", ["flowers12", command.GROWING, *command.RULES.values()]
)
def test_committed_results_are_complete_and_of_the_experiment(name):
    results = Results.read(command.RESULTS / name)
    experiment = EXPERIMENTS[name]
    description = json.loads(json.dumps(experiment.describe()))
    assert results.about["description"] == description
    assert list(results.runs()) == experiment.jobs()
    for (_, arm, _), run in results.runs().items():
        assert len(run) == sum(experiment.arms[arm].n_iter)


def test_committed_results_are_of_the_images():
    about = json.loads((command.RESULTS / "rules-shapes" / "about.json").read_text())
    size = EXPERIMENTS["rules-shapes"].largest_size
    assert about["images"] == describe(LOADERS["shapes"](None, size))


@pytest.mark.flowers12
@pytest.mark.skipif(
    not FOLDER.is_dir(), reason="no photographs: set FLOWERS12 to their folder"
)
@pytest.mark.parametrize("name", ["flowers12", command.GROWING, "rules-flowers12"])
def test_committed_results_are_of_the_photographs(name):
    about = json.loads((command.RESULTS / name / "about.json").read_text())
    assert about["images"] == describe(LOADERS["flowers12"](FOLDER, 8))


def test_first_repeats_of_the_rules_are_runs_of_the_arms(committed):
    """As the page says; other candidates would be new evidence."""
    results, rules, _ = committed
    arms, ways = results.runs(), rules["flowers12"].runs()
    default = next(iter(rules["flowers12"].experiment.arms))
    same = {"IIS": default, "seeds only": "no narrowing", "ranges only": "no seeds"}
    for arm, way in same.items():
        for repeat in range(results.n_repeats):
            scores = [
                runs["score"].to_numpy()
                for runs in (arms["random", arm, repeat], ways["random", way, repeat])
            ]
            np.testing.assert_array_equal(*scores)


@pytest.mark.parametrize(
    "name", ["flowers12", command.GROWING, *command.RULES.values()]
)
def test_committed_tables_are_those_of_the_results(name, tmp_path):
    for path in (command.RESULTS / name).glob("*.[cj]s*"):
        shutil.copy(path, tmp_path)
    write_report(Results.read(tmp_path), tmp_path)
    for path in (command.RESULTS / name).iterdir():
        if path.suffix in {".csv", ".json", ".md", ".png"}:
            assert (tmp_path / path.name).exists()
    text = (command.RESULTS / name / "tables.md").read_text()
    assert (tmp_path / "tables.md").read_text() == text


def test_tables_of_the_evidence_are_those_of_the_results():
    page = command.PAGE.with_name("evidence.md").read_text()
    section = page.split("## The same number of candidates")[1].split("## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    tables = (command.RESULTS / "flowers12" / "tables.md").read_text().splitlines()
    assert len(rows) == 18
    assert [row for row in rows if row not in tables] == []


@pytest.mark.flowers12
@pytest.mark.skipif(
    not FOLDER.is_dir(), reason="no photographs: set FLOWERS12 to their folder"
)
def test_short_preset_runs_from_end_to_end(tmp_path, capsys):
    name = "flowers12-short"
    where = ["--results", str(tmp_path)]
    command.main(["run", name, "--data", str(FOLDER), *where])
    told, *runs = capsys.readouterr().out.splitlines()
    assert f"0 of {len(runs)} runs are there, {len(runs)} to run" in told
    assert len(runs) == len(EXPERIMENTS[name].jobs())
    command.main(["report", name, *where])
    assert "| random |" in (tmp_path / name / "tables.md").read_text()
    for figure in range(2, 6):
        assert (tmp_path / name / f"figure{figure}.png").stat().st_size > 5000


def test_arms_differ_in_one_thing_each():
    arms = compare((16, 32), (4, 2))
    assert arms["narrowing"].settings == arms["IIS"].settings == {}
    assert arms["seeds only"].sizes == arms["ranges only"].sizes == arms["IIS"].sizes
    assert arms["only 16 px"] == Arm((16,), (6,), searches=("random",))
