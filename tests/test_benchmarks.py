"""The formulas that searches are compared on, and how they are told to each library."""

import pytest

from benchmarks.searches import FORMULAS, LIBRARIES, run
from sklearn_iis import SearchSpace


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
def test_every_search_gets_candidates_with_layers_measured(search):
    row = run("regret", "conditional", search, n_iter=12, seed=0)
    regrets = [float(regret) for regret in row["regrets"].split()]
    assert len(regrets) == row["n_evaluations"] == 12
    assert regrets == sorted(regrets, reverse=True)
    assert 0 < regrets[-1] < regrets[0]
