import logging
import math
import os
import subprocess
import sys
import tempfile
import warnings
from contextlib import nullcontext, suppress
from pathlib import Path

import numpy as np
import pytest
from ConfigSpace import Configuration
from scipy import stats
from smac import HyperparameterOptimizationFacade as Facade
from smac import Scenario
from smac.runhistory import StatusType

from sklearn_iis import PerLayer, SearchSpace
from sklearn_iis.searches import StageSMACSearchCV, get_search
from sklearn_iis.searches._smac import _make_forest, _make_maximizer, make_config_space
from sklearn_iis.space import distinct
from sklearn_iis.testing import SPACE, FormulaClassifier, X, y
from sklearn_iis.testing._checks import ALTERNATIVES
from tests.searches.test_base import hold, make_search

LAYERS_FIRST = {
    "widths": PerLayer(stats.randint(8, 33), depth="depth"),
    "rates": PerLayer(stats.loguniform(1e-3, 1), depth="depth"),
    "depth": [0, 2, 5],
}


def with_single_depth():
    return hold(SearchSpace(SPACE), "n_layers", 1)


class Batches:
    """An evaluator that notes batches; each candidate is better than the one before."""

    worst = 0.0

    def __init__(self, n_iter, stop_after=math.inf):
        self.n_iter = n_iter
        self.stop_after = stop_after
        self.batches = []

    @property
    def candidates(self):
        return [codes for batch in self.batches for codes in batch]

    @property
    def remaining(self):
        return self.n_iter - len(self.candidates)

    def __call__(self, candidates):
        n_before = len(self.candidates)
        if n_before == self.stop_after:
            raise TimeoutError
        self.batches.append(candidates)
        return np.arange(n_before, len(self.candidates), dtype=float)


@pytest.fixture
def told(monkeypatch):
    """The configurations and values that SMAC is told during a test."""
    kept = []
    tell = Facade.tell

    def tell_and_keep(facade, info, value, save=True):
        assert not save
        kept.append((info.config, value))
        tell(facade, info, value, save=save)

    monkeypatch.setattr(Facade, "tell", tell_and_keep)
    return kept


@pytest.fixture
def records():
    """The log of SMAC during a test."""
    kept = []
    handler = logging.Handler()
    handler.emit = kept.append
    logger = logging.getLogger("smac")
    logger.addHandler(handler)
    yield kept
    logger.removeHandler(handler)


def logging_state():
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    return [
        (logger.name, logger.level, [*logger.handlers], logger.propagate)
        for logger in loggers
        if isinstance(logger, logging.Logger)
    ]


def test_it_is_no_search_of_its_own():
    assert isinstance(make_search("smac"), StageSMACSearchCV)


@pytest.mark.parametrize(
    "space",
    [
        pytest.param(SearchSpace(SPACE), id="one layer is always there"),
        pytest.param(SearchSpace(LAYERS_FIRST), id="layers come first, and in pairs"),
        pytest.param(
            SearchSpace(LAYERS_FIRST).narrow([{"depth": 0}], margin=0, floor=0.1),
            id="layers that no candidate has",
        ),
        pytest.param(with_single_depth(), id="a single depth is left"),
        pytest.param(SearchSpace(ALTERNATIVES), id="alternatives, and OnlyIf in them"),
    ],
)
def test_conditions_are_those_of_the_space(space):
    config_space = make_config_space(space)
    config_space.seed(0)
    depths = set()
    for config in config_space.sample_configuration(200):
        codes = dict(config)
        # With anything else filled in, it would have the same.
        assert codes == space.active(space.complete(codes))
        depths.add(len(codes))
    for codes in space.sample(200, random_state=0):
        # It would raise an error if one were inactive, or missing, or out of bounds.
        config = Configuration(config_space, codes)
        assert dict(config) == pytest.approx(codes, abs=1e-12)
    assert len(depths) == len({len(c) for c in space.sample(200, random_state=0)})


def test_a_single_depth_is_left():
    search = make_search("smac", with_single_depth(), n_iter=6).fit(X, y)
    for codes in search.candidates_:
        assert [*codes] == ["rate", "degree", "kind", "widths[0]", "widths[1]"]


def test_candidates_are_those_of_smac(tmp_path):
    """Of its facade, as it comes, but for its initial design and the retraining."""
    search = make_search("smac", n_iter=12, n_initial=4, n_points=4).fit(X, y)
    space = search.space
    candidates = []

    def cost(config, seed=0):
        candidates.append({name: pytest.approx(code) for name, code in config.items()})
        return -FormulaClassifier(**space.decode(config)).score(X, y)

    scenario = Scenario(
        make_config_space(space),
        output_directory=tmp_path,
        deterministic=True,
        n_trials=12,
        seed=np.random.RandomState(0).randint(2**31),
    )
    facade = Facade(
        scenario,
        cost,
        initial_design=Facade.get_initial_design(scenario, n_configs=4, max_ratio=1),
        config_selector=Facade.get_config_selector(scenario, retrain_after=4),
        # Otherwise the candidates are others in each process.
        acquisition_maximizer=_make_maximizer(scenario),
        logging_level=False,
    )
    with warnings.catch_warnings():
        # Of means of nothing.
        warnings.simplefilter("ignore", RuntimeWarning)
        facade.optimize()
    assert search.candidates_ == candidates


@pytest.mark.parametrize(("n_trials", "n_leaves"), [(1, 2), (50, 50), (10**9, 4096)])
def test_the_forest_is_that_of_smac(n_trials, n_leaves):
    config_space = make_config_space(SearchSpace(SPACE))
    scenario = Scenario(config_space, n_trials=n_trials, seed=3)
    faster = {"n_jobs": 1, "max_leaf_nodes": n_leaves}
    assert _make_forest(scenario).meta == Facade.get_model(scenario).meta | faster


@pytest.mark.parametrize(
    ("settings", "sizes"),
    [
        ({"n_iter": 9}, [3, 2, 2, 2]),
        ({"n_iter": 34}, [10] + [2] * 12),
        ({"n_iter": 9, "n_initial": 4, "n_points": 3}, [4, 3, 2]),
        ({"n_iter": 3, "n_initial": 20}, [3]),
        ({"n_iter": 6, "n_initial": 2, "n_given": 4}, [4, 2]),
    ],
)
def test_initial_design_and_then_a_few_at_a_time(settings, sizes):
    n_given = settings.pop("n_given", 1)
    given = SearchSpace(SPACE).sample(n_given, random_state=7)
    search = make_search("smac", initial_candidates=given, **settings)
    evaluate = Batches(settings["n_iter"])
    search.run(evaluate, np.random.RandomState(0))
    assert [len(batch) for batch in evaluate.batches] == sizes
    # To the last digit, though a configuration rounds its values.
    assert evaluate.candidates[:n_given] == given


def test_without_a_number_of_candidates_there_is_no_end():
    evaluate = Batches(math.inf, stop_after=30)
    with pytest.raises(TimeoutError):
        make_search("smac", n_iter=None).run(evaluate, np.random.RandomState(0))
    assert [len(batch) for batch in evaluate.batches] == [10] + [2] * 10


def test_other_initial_candidates_leave_the_sobol_points_the_same():
    space = SearchSpace(SPACE)
    first, other = (
        make_search(
            "smac",
            n_iter=5,
            n_initial=5,
            initial_candidates=space.sample(2, random_state=seed),
        ).fit(X, y)
        for seed in (1, 2)
    )
    drawn, others = first.candidates_, other.candidates_
    assert drawn[:2] != others[:2]
    assert drawn[2:] == others[2:]


@pytest.mark.filterwarnings("ignore:.*(failed|non-finite)")
@pytest.mark.parametrize("n_failures", [1, 5, 11])
def test_what_failed_is_told_once_there_is_a_score(told, n_failures):
    calls = iter(range(12))

    def scorer(estimator, X, y):
        if (call := next(calls)) < n_failures or call == 11:
            raise RuntimeError("out of luck")
        return estimator.score(X, y)

    search = make_search("smac", scorer=scorer, n_iter=12, n_points=1)
    with suppress(ValueError) if n_failures == 11 else nullcontext():
        search.fit(X, y)
    scores = search.cv_results_["mean_test_score"]
    if n_failures == 11:
        assert np.isnan(scores).all()
        assert told == []
        return
    assert len(told) == 12
    for i, (config, value) in enumerate(told):
        codes = search.candidates_[i]
        assert dict(config) == pytest.approx(codes, abs=1e-12)
        failed = np.isnan(scores[i])
        assert value.status == (StatusType.CRASHED if failed else StatusType.SUCCESS)
        # The initial design, of four, is evaluated at once.
        known = scores[: max(i, 3, n_failures) + 1]
        assert value.cost == -(np.nanmin(known) if failed else scores[i])


def test_codes_are_of_pythons_own_types():
    search = make_search("smac", n_iter=10).fit(X, y)
    for codes in search.candidates_:
        for name, code in codes.items():
            assert type(code) is (float if name == "rate" else int)


def test_nothing_is_left_behind(monkeypatch, tmp_path, capfd):
    def ask(prompt=""):
        raise AssertionError(prompt)

    working_directory, temporary = tmp_path / "work", tmp_path / "tmp"
    working_directory.mkdir()
    temporary.mkdir()
    monkeypatch.chdir(working_directory)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setattr("builtins.input", ask)
    before = logging_state()
    for _ in range(2):
        make_search("smac", n_iter=5).fit(X, y)
    assert logging_state() == before
    assert Path.cwd() == working_directory
    assert [*working_directory.iterdir()] == [*temporary.iterdir()] == []
    assert capfd.readouterr() == ("", "")


def test_it_logs_if_verbose(records, capsys):
    logger = logging.getLogger("smac")
    logger.setLevel(logging.INFO)
    try:
        make_search("smac", n_iter=4).fit(X, y)
        assert records == []
        make_search("smac", n_iter=4, verbose=1).fit(X, y)
        assert any("initial design" in record.getMessage() for record in records)
        assert logger.level == logging.INFO
    finally:
        logger.setLevel(logging.NOTSET)


@pytest.mark.parametrize("n_initial", [1, 5])
def test_what_smac_does_not_find_is_left_to_chance(n_initial):
    space = {"degree": stats.randint(1, 5), "kind": ["a", "b", "c"]}
    search = make_search("smac", space, n_iter=12, n_initial=n_initial).fit(X, y)
    assert len(distinct(search.candidates_)) == 12


@pytest.mark.timeout(60)
@pytest.mark.filterwarnings("ignore:.*(failed|non-finite)")
def test_a_small_space_in_which_all_fail_has_an_end():
    """SMAC would propose the same candidates again and again."""

    def scorer(estimator, X, y):
        raise RuntimeError("out of luck")

    space = {"degree": stats.randint(1, 4), "kind": ["a", "b"]}
    search = make_search("smac", space, scorer=scorer, n_iter=20)
    with (
        pytest.warns(UserWarning, match="no more than 6 different"),
        pytest.raises(ValueError, match="Every candidate failed"),
    ):
        search.fit(X, y)
    assert len(distinct(search.candidates_)) == 6


@pytest.mark.parametrize("library", ["smac", "ConfigSpace"])
def test_the_extra_is_named_where_smac_is_missing(monkeypatch, library):
    monkeypatch.delitem(sys.modules, "sklearn_iis.searches._smac")
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=r"SMAC3.*'sklearn-iis\[smac\]'"):
        get_search("smac")


def test_initial_candidates_at_the_ends_of_a_range_are_evaluated_as_they_are():
    """ConfigSpace rounds the ends, so that a candidate may lie outside."""
    space = SearchSpace({"rate": stats.uniform()})
    ends = 0.3080493165343001, 0.5080493165343001
    space = space.narrow([{"rate": code} for code in ends], margin=0, floor=0)
    given = [{"rate": code} for code in ends]
    search = make_search("smac", space, n_iter=4, initial_candidates=given).fit(X, y)
    assert search.candidates_[:2] == given


CANDIDATES = """
from sklearn_iis.searches import get_search
from sklearn_iis import SearchSpace
from sklearn_iis.testing import SPACE, FormulaClassifier, X, y

search = get_search("smac")(
    FormulaClassifier(), SearchSpace(SPACE), n_iter=18, cv=2, random_state=0
)
print(search.fit(X, y).candidates_)
"""


def test_candidates_do_not_depend_on_the_hashes_of_strings():
    """They differ from process to process; a killed search resumes in another one."""
    first, second = (
        subprocess.run(
            [sys.executable, "-c", CANDIDATES],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    )
    assert first.count("rate") == 18
    assert first == second
