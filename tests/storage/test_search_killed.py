"""Searches that are killed at any moment, and go on where they stopped."""

import functools
import random
import time

import pytest

from sklearn_iis.searches import SEARCHES
from tests.resume_child import (
    PATIENCE,
    assert_same,
    count_fits,
    finish,
    fit,
    make_search,
    read_finished,
    read_log,
    started,
)
from tests.storage.storages import STORAGES

# A grid of few candidates holds most hyperparameters, and says so.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*which are not searched:UserWarning"),
    pytest.mark.usefixtures("few_garbage"),
]

PARALLEL = {("random", "journal"), ("tpe", "sqlite")}
RUNS = [(search, storage) for search in SEARCHES for storage in STORAGES]
RUNS.remove(("smac", "sqlite"))  # 20 are enough


@functools.cache
def uninterrupted(search):
    """The results without a storage."""
    return fit(make_search(search)).cv_results_


def count_evaluations(results):
    return 2 * len(results["params"])


def wait_for(condition, process):
    """Wait until a process has come so far, or has ended."""
    until = time.monotonic() + PATIENCE
    while not condition() and process.is_alive():
        assert time.monotonic() < until
        time.sleep(0.001)


def run_killed(folder, storage, moments, rng, *, n_jobs, only_parent, **settings):
    """Kill a search at each moment, then let it end.

    Returns its results, and how many kills came amid the evaluations.
    """
    settings |= {"storage": storage, "n_jobs": n_jobs}
    n_amid, finished, n_before = 0, set(), 0
    for moment in moments:
        with started(folder, **settings) as process:
            wait_for(
                lambda moment=moment: count_fits(folder / "log") >= moment, process
            )
            time.sleep(rng.uniform(0, 0.01))
            process.kill(only_parent)
            records = read_finished(storage)
            log = read_log(folder)
        # Not even what only this process remembered, or had not yet told.
        assert len(set(log) - set(records)) <= n_jobs
        assert not set(log[n_before:]) & finished
        n_amid += bool(log) and not (folder / "result").exists()
        finished, n_before = set(records), len(log)
        assert finished <= set(log)
    with started(folder, **settings) as process:
        results = finish(process, folder)
    log = read_log(folder)
    assert not set(log[n_before:]) & finished
    records = read_finished(storage)
    assert sorted(set(records)) == sorted(set(log))
    if n_jobs == 1:
        # Nothing was under way when it was killed but a single one.
        assert len(records) == len(set(records))
        assert len(log) <= len(records) + len(moments)
    return results, n_amid


@pytest.mark.parametrize(("search", "storage"), RUNS)
def test_killed_searches_go_on(search, storage, tmp_path):
    """As if nothing had happened, and nothing that was recorded is fitted again."""
    rng = random.Random(f"{search} {storage}")
    expected = uninterrupted(search)
    n_evaluations = count_evaluations(expected)
    is_parallel = (search, storage) in PARALLEL
    for attempt in range(3):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        n_kills = 1 if is_parallel else rng.choice([1, 1, 2, 3])
        moments = sorted(rng.sample(range(n_evaluations - 3), n_kills))
        results, n_amid = run_killed(
            folder,
            STORAGES[storage](folder),
            moments,
            rng,
            search=search,
            n_jobs=2 if is_parallel else 1,
            # The others of a group clean up after it.
            only_parent=is_parallel or rng.random() < 0.5,
        )
        assert_same(results, expected)
        if n_amid:
            return
    pytest.fail("each of the kills came too early or too late")
