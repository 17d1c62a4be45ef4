"""The example of a search of one's own runs, and the search passes all checks."""

import importlib.util
import sys
from functools import cache
from pathlib import Path

import cloudpickle
import numpy as np
import pytest

from sklearn_iis.searches import get_search
from sklearn_iis.testing import search_checks

EXAMPLE = Path(__file__).parents[1] / "examples" / "plot_own_search.py"


@cache
def run_example():
    """Run the example in the working directory, and return it as a module."""
    spec = importlib.util.spec_from_file_location(EXAMPLE.stem, EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[EXAMPLE.stem] = module
    # As for what a user defines in a script: other processes must not run it again.
    cloudpickle.register_pickle_by_value(module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.chdir(tmp_path)


def differential_evolution(estimator, space, **settings):
    make_search = get_search(run_example().DifferentialEvolution)
    return make_search(estimator, space, **settings)


@pytest.mark.parametrize("check", search_checks(differential_evolution))
def test_the_search_passes_all_checks(check):
    run_example()
    check()


def test_the_example_runs(tmp_path):
    run_example.cache_clear()
    example = run_example()
    assert (tmp_path / "own_search.png").exists()
    search = example.search
    assert all(
        stage.sampler is example.DifferentialEvolution for stage in search.stages_
    )
    assert np.bincount(search.cv_results_["stage"]).tolist() == [40, 20]
    assert search.best_score_ > 0.95
