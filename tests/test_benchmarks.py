"""The functions of the comparisons, and how each library is told of them."""

import time
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import qmc
from sklearn.ensemble import RandomForestRegressor

from benchmarks import (
    fidelity,
    growing,
    importance,
    importance_accuracy,
    last_fit,
    memory,
    overhead,
    reading,
    recipes,
    simulation,
    tabular,
    workers,
)
from benchmarks.searches import FORMULAS, LIBRARIES, run
from sklearn_iis import CNNClassifier, SearchSpace
from sklearn_iis.datasets import make_shapes
from sklearn_iis.searches import _tpe


@pytest.mark.parametrize("formula", FORMULAS.values(), ids=FORMULAS)
def test_optimum_is_where_the_formula_says_and_nothing_is_better(formula):
    assert formula(**formula.optimum).regret() == pytest.approx(0, abs=1e-10)
    space = SearchSpace(formula.space)
    optimum = space.encode(formula.optimum)
    candidates = space.sample(500, random_state=0)
    for name, code in optimum.items():
        for step in (-1, 1) if isinstance(code, int) else (-1e-3, 1e-3):
            nearby = space.dimensions[name].clip(code + step)
            candidates.append(space.project(optimum | {name: nearby}))
    for codes in candidates:
        assert formula(**space.decode(codes)).regret() > -1e-10


@pytest.mark.parametrize("search", ["random", *LIBRARIES])
def test_every_search_gets_candidates_with_layers_evaluated(search):
    row = run("regret", "conditional", search, n_iter=12, seed=0)
    regrets = [float(regret) for regret in row["regrets"].split()]
    assert len(regrets) == row["n_evaluations"] == 12
    assert regrets == sorted(regrets, reverse=True)
    assert 0 < regrets[-1] < regrets[0]


@pytest.mark.parametrize("formula", fidelity.FORMULAS.values(), ids=fidelity.FORMULAS)
def test_small_sizes_are_biased_and_the_last_is_the_formula(formula):
    """Whose optimum it keeps, and no size has the scores of another."""
    assert formula(**formula.optimum).regret() == pytest.approx(0, abs=1e-10)
    space = SearchSpace(formula.space)
    params = [space.decode(codes) for codes in space.sample(50, random_state=0)]
    losses = [[formula(**p, size=s).loss() for p in params] for s in fidelity.SIZES]
    plain = [super(formula, formula(**p)).loss() for p in params]
    if formula is not fidelity.UnrelatedBranin:
        np.testing.assert_allclose(losses[-1], plain)
    assert not np.allclose(losses[0], losses[-1])


@pytest.mark.parametrize(
    ("search", "n_rows"), [("random", [24]), ("ladder", [128, 32, 8])]
)
def test_what_is_spent_on_all_sizes_costs_as_much_as_the_last_alone(search, n_rows):
    row = fidelity.run("Branin", search, seed=0)
    assert [int(n) for n in row["n_evaluations"].split()] == n_rows
    costs, regrets = fidelity.list_steps(row)
    assert costs == sorted(costs)
    assert regrets == sorted(regrets, reverse=True)
    assert 0 < costs[-1] <= 24
    assert fidelity.find_regret(row, costs[0]) == regrets[0]
    assert fidelity.find_regret(row, costs[0] / 2) == np.inf
    assert fidelity.find_cost(row, regrets[-1]) == costs[-1]
    assert fidelity.find_cost(row, -1.0) == np.inf


@pytest.mark.parametrize(
    "function",
    importance_accuracy.FUNCTIONS.values(),
    ids=importance_accuracy.FUNCTIONS,
)
def test_shares_are_those_of_the_function(function):
    """By integration: the covariance of points that have some columns in common."""
    d = function.n_columns
    first, second = np.split(qmc.Sobol(2 * d, seed=0).random(2**15), 2, axis=1)
    scores = function.predict(first)
    assert scores.var() == pytest.approx(function.total_variance, rel=0.02)
    explained = {(): 0.0}
    for subset in function.subsets:
        others = second.copy()
        others[:, subset] = first[:, subset]
        closed = np.cov(scores, function.predict(others))[0, 1] / scores.var()
        explained[subset] = closed - sum(
            explained[s] for k in range(len(subset)) for s in combinations(subset, k)
        )
    shares = [explained[subset] for subset in function.subsets]
    np.testing.assert_allclose(shares, function.shares, atol=0.02)


def test_a_single_tree_is_decomposed_exactly():
    """The shares of all subsets add up to 1."""
    codes, scores = importance_accuracy.FUNCTIONS["Ishigami"].observe(40, 0.5, seed=0)
    tree = RandomForestRegressor(1, random_state=0).fit(codes, scores).estimators_[0]
    subsets = [s for order in (1, 2, 3) for s in combinations(range(3), order)]
    shares = importance_accuracy.decompose_tree(tree.tree_, subsets)
    assert shares.sum() == pytest.approx(1)
    assert (shares >= 0).all()


@pytest.mark.parametrize("method", importance_accuracy.METHODS)
def test_every_way_of_functional_anova_gets_the_points(method, monkeypatch):
    module = importance_accuracy.MODULES.get(method)
    if module is not None:
        pytest.importorskip(module)
    monkeypatch.setattr(importance_accuracy, "N_TREES", 4)
    monkeypatch.setattr(importance_accuracy, "N_FANOVA_TREES", 4)
    row = importance_accuracy.run("learning rate", 30, 0.0, 0, method)
    shares = [float(share) for share in row["shares"].split()]
    assert len(shares) == (3 if method == "Optuna" else 6)
    assert 0 < sum(shares) < 1.2
    # Without a log scale little of it is seen.
    assert (np.argmax(shares) == 0) or method == "Optuna"


def test_time_of_the_package_is_extrapolated_to_all_pairs():
    pytest.importorskip("fanova")
    codes, scores = importance.make_observations(30)
    _, _, pairs = importance.time_fanova(codes, scores, n_trees=2)
    assert all(one < every for one, every in pairs.values())


def test_importance_is_timed():
    pytest.importorskip("optuna")
    rows = importance.run([20, 40], 6, 2, 1, 2, skip=["fanova", "memory"])
    assert rows.keys() == {(name, n) for name in ("ours", "optuna") for n in (20, 40)}
    assert importance.describe_growth([10, 100], [1.0, 10.0]) == "n^1.00"


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_what_a_storage_adds_is_timed(n_jobs):
    added = overhead.time_storages(["sqlite", "journal"], 4, n_jobs, n_repeats=2)
    assert list(added) == [None, "sqlite", "journal"]
    assert all(np.isfinite(times).all() and len(times) == 2 for times in added.values())
    assert added[None].min() > 0


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_replay_evaluates_nothing(n_jobs, tmp_path, monkeypatch):
    log = tmp_path / "log"
    monkeypatch.setattr(overhead, "Idle", partial(Logged, log=str(log)))
    first, again = overhead.time_replay("sqlite", 4, n_jobs)
    assert min(first, again) > 0
    assert log.read_text() == 4 * "."


class Logged(overhead.Idle):
    """It notes each fit."""

    def __init__(
        self,
        learning_rate=0.1,
        batch_size=16,
        n_layers=1,
        n_filters=(8,),
        l1=0,
        l2=0,
        log=None,
    ):
        super().__init__(learning_rate, batch_size, n_layers, n_filters, l1, l2)
        self.log = log

    def fit(self, X, y=None):
        with open(self.log, "a") as file:
            file.write(".")
        return self


def test_every_arm_of_tabular_data_is_measured(tmp_path):
    rows = pd.DataFrame(tabular.run("digits", "SVC", n_candidates=6, repeat=0))
    assert rows["arm"].tolist() == [*tabular.ARMS, tabular.SEARCHED]
    assert (rows["n_candidates"][[0, 1, 2, 4]] == 6).all()
    assert (rows["pca_seconds"] < rows["seconds"]).all()
    assert (rows[["best_validation", "best_test"]] > 0.5).all(axis=None)
    # Any number of components includes all of them.
    assert (rows["best_validation"] >= rows["validation"]).all()


def test_tables_on_tabular_data_are_those_of_the_committed_results(capsys):
    root = Path(tabular.__file__).parents[1]
    tabular.print_tables(pd.read_csv(root / "benchmarks" / "results" / "tabular.csv"))
    page = (root / "doc" / "tabular.md").read_text()
    rows = [line for line in capsys.readouterr().out.splitlines() if line[:1] == "|"]
    assert len(rows) > 60
    assert [row for row in rows if row not in page] == []


def test_recipe_of_before_leaves_no_parameter_to_its_default():
    others = {"learning_rate", "module", "device", "random_state", "verbose"}
    names = CNNClassifier().get_params(deep=False).keys() - others - {"warm_start"}
    assert names - recipes.RECIPES["before"].keys() == set()


@pytest.mark.parametrize("arm", recipes.RECIPES)
def test_every_recipe_trains(arm):
    task = recipes.Task("shapes", arm, 0.01, seed=1)
    row = recipes.run(task, None, n_images=40, max_epochs=1)
    assert tuple(row) == recipes.COLUMNS
    assert row["epochs"] == 1
    assert 0 < row["test_error"] < 1
    assert row["failed"] == ""


def test_training_that_diverges_counts_as_guessing():
    task = recipes.Task("shapes", "before", 1e30, seed=0)
    row = recipes.run(task, None, n_images=40, max_epochs=1)
    assert "loss is" in row["failed"]
    assert row["epochs"] == ""
    _, (_, y_test) = recipes.load("shapes", None, 0)
    guess = np.bincount(recipes.take((y_test, y_test), 40, 0)[1]) / 40
    assert row["test_error"] in (1 - guess).round(5)


def test_recipes_are_resumed(tmp_path, capsys):
    """Runs that have a row are not repeated; the others are appended."""
    out = tmp_path / "recipes.csv"
    known = "shapes,before,0.01,0,0.5,0.5,1.0,7,2000-01-01,\n"
    out.write_text(",".join(recipes.COLUMNS) + "\n" + known)
    command = ["--datasets", "shapes", "--arms", "before", "--rates", "0.01", "0.316"]
    command += ["--images", "40", "--max-epochs", "1", "--jobs", "1", "--seeds", "1"]
    recipes.main([*command, "--out", str(out)])
    rows = pd.read_csv(out)
    assert rows["learning_rate"].tolist() == [0.01, 0.316]
    assert rows["epochs"].tolist() == [7, 1]
    content = out.read_text()
    assert known in content
    assert "1 runs to do" in capsys.readouterr().out
    recipes.main([*command, "--out", str(out)])
    assert "0 runs to do" in capsys.readouterr().out
    assert out.read_text() == content


def test_other_recipes_are_run_at_the_default_rate():
    X, y = make_shapes(8, size=8, n_classes=2, random_state=0, return_X_y=True)
    rate = CNNClassifier(max_epochs=1).fit(X, y).net_.lr
    arms = ["--datasets", "shapes", "--arms", "before", "default", "no shifts"]
    command = [*arms, "--seeds", "1", "--rates", "0.5", "1"]
    rates = {arm: [] for arm in arms[3:]}
    for task in recipes.list_tasks(recipes.parse_arguments(command)):
        rates[task.arm].append(task.learning_rate)
    assert list(rates.values()) == [[0.5, 1], [rate, 0.5, 1], [rate]]


def test_recipes_without_images_say_so(tmp_path, capsys):
    with pytest.raises(SystemExit):
        recipes.main(["--data", str(tmp_path)])
    assert f"no folder '{tmp_path / 'flowers12'}'" in capsys.readouterr().err


def test_what_a_search_delivers_is_measured_once(tmp_path, capsys):
    """Errors of each network, of the last fit, and of averages."""
    out = tmp_path / "last_fit.csv"
    command = ["--datasets", "shapes", "--arms", "default", "--seeds", "1", "--jobs"]
    command += ["1", "--images", "60", "--max-epochs", "1", "--out", str(out)]
    last_fit.main(command)
    (row,) = pd.read_csv(out).to_dict("records")
    assert all(0 < row[name] < 1 for name in ("promised", *last_fit.DELIVERED))
    content = out.read_text()
    last_fit.main(command)
    assert out.read_text() == content
    assert "0 runs to do" in capsys.readouterr().out


def test_table_of_last_fits(tmp_path, capsys):
    out = tmp_path / "last_fit.csv"
    rows = [
        ["shapes", "default", seed, 0.2, own, last, 0.1, 0.1, 1, 1, "2000-01-01"]
        for seed, (own, last) in enumerate([(0.2, 0.3), (0.4, 0.6)])
    ]
    pd.DataFrame(rows, columns=last_fit.COLUMNS).to_csv(out, index=False)
    last_fit.main(["--table", "--out", str(out)])
    expected = "| shapes | default | 2 | 0.200 ± 0.000 | 0.300 ± 0.141 | 0.450 ± 0.212"
    assert expected in capsys.readouterr().out


def test_tables_of_recipes(tmp_path, capsys):
    """Validation chooses the rate; ranges are those of the test errors."""
    errors = {  # validation error, test errors of three seeds
        ("before", 0.001): (0.6, (0.5, 0.6, 0.6)),
        ("before", 0.01): (0.5, (0.4, 0.42, 0.5)),
        ("before", 0.1): (0.3, (0.6, 0.44, 0.4)),
        ("before", 1.0): (0.75, (0.75, 0.75, 0.75)),
        ("default", 0.001): (0.3, (0.26, 0.25, 0.27)),
        ("default", 0.01): (0.2, (0.22, 0.22, 0.22)),
        ("default", 0.03): (0.3, (0.9, 0.9, 0.9)),
        ("default", 0.1): (0.2, (0.25, 0.25, 0.25)),
        ("default", 1.0): (0.75, (0.75, 0.75, 0.75)),
        ("gone", 0.03): (0.4, (0.33, 0.33, 0.33)),
    }
    rows = [
        [
            *("shapes", arm, rate, seed, validation, test[seed], seed, seed + 5),
            *("2000-01-01", "diverged" if rate == 1 else ""),
        ]
        for (arm, rate), (validation, test) in errors.items()
        for seed in range(3)
    ]
    out = tmp_path / "recipes.csv"
    pd.DataFrame(rows, columns=recipes.COLUMNS).to_csv(out, index=False)
    recipes.main(["--table", "--out", str(out)])
    printed = capsys.readouterr().out
    for line in (
        "| before | 0.1 | 3 | 0 | 0.300 | 0.440 | 0.420 to 0.520 | 1.00 | 1.0 | 6 |",
        "| default | 0.01 | 3 | 0 | 0.200 | 0.220 | 0.220 to 0.220 | 0.50 | 1.0 | 6 |",
        "| gone | 0.03 | 3 | 0 | 0.400 | 0.330 | 0.330 to 0.330 | 0.75 | 1.0 | 6 |",
        "| arm | 0.001 | 0.01 | 0.03 | 0.1 | 1 |",
        "| before | 0.600 | 0.420 |  | 0.440 | 0.750 |",
        "| gone |  |  | 0.330 |  |  |",
        "before 0.01 to 0.1 (10 times); default 0.001 to 0.1 (100 times or more); "
        "quotient 10.",
    ):
        assert line in printed.splitlines()


def hold(megabytes):
    """Take memory for a while."""
    held = np.ones(int(megabytes * 2**20), np.uint8)
    time.sleep(1)
    assert held.all()


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux")
def test_memory_of_processes_is_measured():
    start, _ = memory.measure(hold, 0)
    peak, seconds = memory.measure(hold, 300)
    assert 295 < peak["memory"] - start["memory"] < 350
    assert seconds > 1


def test_busy_part_of_the_time_until_the_last_one_begins():
    # Two workers: one is idle from 1 to 2, and what ends after 3 does not count.
    times = np.array([[0.0, 3.0], [0.0, 1.0], [2.0, 3.0], [3.0, 9.0]])
    assert workers.measure_busy(times, 2) == pytest.approx(5 / 6)


@pytest.mark.parametrize("synchronous", [False, True])
def test_sleeping_evaluations_are_timed(synchronous):
    busy, seconds = workers.run(
        "tpe", 2, 6, 0.01, synchronous=synchronous, backend="threading"
    )
    assert 0 < busy <= 1
    assert seconds > 0


@pytest.mark.parametrize("search", ["random", "tpe", "bayes", "genetic"])
def test_simulated_workers_do_one_thing_at_a_time(search):
    n_workers, unit = 5, 30.0
    pool = simulation.SimulatedPool(n_workers, unit)
    row = simulation.simulate(search, pool, 20)
    begin, end = np.array(pool.times).T
    assert len(begin) == 20
    assert ((end - begin >= unit) & (end - begin <= simulation.SPREAD * unit)).all()
    for moment in begin:
        assert np.sum((begin <= moment) & (moment < end)) <= n_workers
    # What the search takes itself is little, beside half a minute.
    assert row["busy"] > 0.9
    assert row["ms_a_candidate"] > 0


def test_a_simulated_score_is_told_when_its_evaluation_ends(monkeypatch):
    moments = []

    def tell(self, candidate, score):
        moments.append(pool.now)
        return plain_tell(self, candidate, score)

    pool = simulation.SimulatedPool(3, 30.0)
    plain_tell = _tpe.StudySampler.tell
    monkeypatch.setattr(_tpe.StudySampler, "tell", tell)
    simulation.simulate("tpe", pool, 12)
    assert moments == pytest.approx(sorted(end for _, end in pool.times), abs=1)


def test_training_with_inherited_weights_is_timed(tmp_path, capsys):
    arguments = ["--datasets", "shapes 32 px", "--images", "60", "--max-epochs", "1"]
    arguments += ["--seeds", "1", "--epochs", "30", "--jobs", "1"]
    path = tmp_path / "growing.csv"
    growing.main([*arguments, "--out", str(path)])
    rows = pd.read_csv(path).set_index("arm")
    assert list(rows.columns) == [name for name in growing.COLUMNS if name != "arm"]
    scratch, inherited = rows.loc["from scratch"], rows.loc["inherited"]
    assert scratch["last_seconds"] == scratch["all_seconds"] > 0
    assert inherited["all_seconds"] > inherited["last_seconds"] > 0
    growing.main([*arguments, "--out", str(path)])
    assert "0 runs to do" in capsys.readouterr().out


def make_growing(arm, epochs, seconds, errors):
    rows = [["data", arm, epochs, i, seconds, 0, 0, e] for i, e in enumerate(errors)]
    return pd.DataFrame(rows, columns=growing.COLUMNS[:8])


def test_training_from_scratch_with_the_same_error_is_found():
    inherited = make_growing("inherited", 10, 5.0, [0.1, 0.12, 0.2])
    scratch = [
        make_growing("from scratch", 60, 40.0, [0.1, 0.11, 0.3]),
        make_growing("from scratch", 30, 20.0, [0.1, 0.124, 0.3]),
        make_growing("from scratch", 15, 10.0, [0.1, 0.13, 0.3]),
    ]
    assert growing.find_peer(pd.concat([inherited, *scratch])) == (30, 0.25)
    assert growing.find_peer(pd.concat([inherited, scratch[2]])) is None


@pytest.mark.parametrize("reader", ["ImageResizer", "Pillow"])
def test_reading_makes_the_same_images(reader, tmp_path):
    """But for rounding, and whether rows or columns are resized first."""
    paths = reading.make_images(tmp_path, 3, "png")
    images = reading.READERS[reader](paths, 32)
    expected = reading.read_by_pillow(paths, 32).astype(int)
    np.testing.assert_allclose(images.astype(int), expected, atol=1)
