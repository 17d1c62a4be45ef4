"""The checks pass what conforms, and each finds what it is there for."""

import os
import random
import subprocess
import sys

import numpy as np
import pytest

from sklearn_iis import SearchSpace
from sklearn_iis.execution._record import Row
from sklearn_iis.searches import Sampler, Search, StageRandomizedSearchCV
from sklearn_iis.testing import (
    SPACE,
    FormulaClassifier,
    X,
    _checks,
    check_search,
    search_checks,
    y,
)

NO_LEARNING = "check_better_than_chance"


class Conforming(Search):
    """Searches at random near the best so far: about as simple as it gets."""

    def run(self, evaluate, random_state):
        evaluate(self.initial_candidates or [])
        n_initial = min(4, evaluate.remaining)
        evaluate(self.space.sample(n_initial, random_state=random_state))
        for _ in range(100):
            if not evaluate.remaining or evaluate.worst is None:
                break
            best = evaluate.candidates[int(np.nanargmax(evaluate.scores))]
            (near,) = self.space.sample(1, random_state=random_state)
            kept = {name: best[name] for name in near if name in best}
            changed = random_state.choice(list(near))
            evaluate([self.space.complete(near | kept | {changed: near[changed]})])


def conforming(estimator, space, *, n_iter, initial_candidates, **settings):
    return Conforming(
        estimator,
        space,
        n_iter=n_iter,
        initial_candidates=initial_candidates,
        **settings,
    )


@pytest.mark.parametrize("check", search_checks(conforming))
def test_a_function_that_makes_a_conforming_search(check):
    check()


class Random(Sampler):
    """Proposes nothing itself."""

    def __init__(self, space, *, random_state):
        pass

    def ask(self):
        return None

    def tell(self, candidate, score):
        pass


def test_a_class_of_samplers():
    check_search(Random, skip=[NO_LEARNING])
    with pytest.raises(TypeError, match="widht"):
        check_search(Random, search_params={"widht": 3})


def test_all_checks_at_once():
    assert check_search("random", skip=[NO_LEARNING]) is None


def test_search_params_reach_the_search():
    with pytest.raises(TypeError, match="n_pionts"):
        check_search("bayes", search_params={"n_pionts": 3})


def test_a_check_that_fails_is_named():
    with pytest.raises(AssertionError, match="spent 1 of n_iter=2") as info:
        check_search(Idle)
    (note,) = info.value.__notes__
    assert note.startswith("check_budget_is_exact: All of the budget")


def test_ids_are_the_names_of_the_checks():
    names = [check.__name__ for check in search_checks("random")]
    assert names == [check.__name__ for check in _checks.CHECKS]
    defined = {name for name in vars(_checks) if name.startswith("check_")}
    assert set(names) == defined - {"check_search"}
    assert all(check.__doc__ for check in search_checks("random"))


def test_checks_can_be_skipped():
    checks = search_checks("random", skip=[NO_LEARNING])
    assert NO_LEARNING not in [check.__name__ for check in checks]
    with pytest.raises(ValueError, match=r"skip names \['better'\], but the checks"):
        search_checks("random", skip=["better"])


def test_neither_pytest_nor_its_rewritten_assertions_are_needed():
    code = (
        "import sys; sys.modules['pytest'] = None\n"
        "from sklearn_iis.testing import check_search\n"
        f"check_search('random', skip=[{NO_LEARNING!r}, 'check_parallel'])\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_the_optimum_of_the_formula():
    space = SearchSpace(SPACE)
    best = FormulaClassifier().score(X, y)
    candidates = space.sample(500, random_state=0)
    scores = [FormulaClassifier(**space.decode(c)).score(X, y) for c in candidates]
    assert max(scores) < best
    scores = [FormulaClassifier(max_epochs=n).score(X, y) for n in (1, 3, 9, 27)]
    assert scores == sorted(scores)
    assert scores[-1] == best


# Searches with a fault, and the check that finds it.


def randomized(**changes):
    """Random search with other settings than those asked for."""

    def make_search(estimator, space, **settings):
        changed = {name: change(settings) for name, change in changes.items()}
        return StageRandomizedSearchCV(estimator, space, **(settings | changed))

    return make_search


class Idle(Search):
    """Evaluates a single candidate."""

    def run(self, evaluate, random_state):
        pass

    def _spend_rest(self, evaluate, random_state):
        evaluate([self.space.complete({})])


class NothingWithoutDimensions(StageRandomizedSearchCV):
    def _spend_rest(self, evaluate, random_state):
        pass


class Meddling(StageRandomizedSearchCV):
    """Does something to the candidates that are left, or besides."""

    def run(self, evaluate, random_state):
        evaluate(self.initial_candidates or [])
        n_left = max(int(evaluate.remaining), 0)
        drawn = self.space.sample(
            n_left, random_state=random_state, exclude=evaluate.candidates
        )
        self.meddle(evaluate, drawn)


class Repeating(Meddling):
    """Has the rows of the first candidate twice."""

    def meddle(self, evaluate, drawn):
        evaluate(drawn[:-1])
        row = Row(evaluate.candidates[0], evaluate.scheduler.n_splits)
        evaluate.scheduler.submit(row)
        evaluate.scheduler.finish()

    def _spend_rest(self, evaluate, random_state):
        pass


class Leaving(Meddling):
    def meddle(self, evaluate, drawn):
        evaluate([codes | {"rate": 1 - codes["rate"] / 1000} for codes in drawn])


class AllLayers(Meddling):
    """Has codes for all layers, whether the candidate has them or not."""

    def meddle(self, evaluate, drawn):
        evaluate(drawn)
        for row in evaluate.scheduler.rows:
            row.codes = self.space.complete(row.codes)


class ChangingParameters(Meddling):
    def meddle(self, evaluate, drawn):
        self.random_state = 1
        evaluate(drawn)


class Drawing(Meddling):
    def meddle(self, evaluate, drawn):
        random.random()
        evaluate(drawn)


class Writing(Meddling):
    def meddle(self, evaluate, drawn):
        open("candidates.txt", "w").close()
        evaluate(drawn)


class Moving(Meddling):
    def meddle(self, evaluate, drawn):
        os.mkdir("elsewhere")
        os.chdir("elsewhere")
        evaluate(drawn)


class Printing(Meddling):
    def meddle(self, evaluate, drawn):
        sys.stderr.write(f"{len(drawn)} candidates")
        evaluate(drawn)


class Shouting(Meddling):
    def meddle(self, evaluate, drawn):
        subprocess.run(["echo", f"{len(drawn)} candidates"], check=True)
        evaluate(drawn)


class GivingUp(Search):
    """Ends with the first failure."""

    def run(self, evaluate, random_state):
        while evaluate.remaining and not np.isnan(evaluate.scores).any():
            evaluate(self.space.sample(1, random_state=random_state))

    def _spend_rest(self, evaluate, random_state):
        pass


class OneKind(Search):
    """Tries candidates of the first alternative only."""

    def run(self, evaluate, random_state):
        drawn = self.space.sample(200, random_state=random_state)
        kinds = [self.space.decode(codes).get("kind") for codes in drawn]
        evaluate(c for c, k in zip(drawn, kinds, strict=True) if k != "c")

    def _spend_rest(self, evaluate, random_state):
        pass


class TwoDimensionsAtLeast(StageRandomizedSearchCV):
    def run(self, evaluate, random_state):
        _, _, *_ = self.space.dimensions
        super().run(evaluate, random_state)


def unpicklable(estimator, space, **settings):
    search = StageRandomizedSearchCV(estimator, space, **settings)
    search.hook = lambda: None
    return search


@pytest.mark.parametrize(
    ("name", "search", "message"),
    [
        ("budget_is_exact", Idle, "spent 1 of n_iter=2"),
        (
            "budget_is_exact",
            randomized(n_iter=lambda settings: settings["n_iter"] + 1),
            "spent 2 of n_iter=1",
        ),
        (
            "initial_candidates_come_first",
            randomized(initial_candidates=lambda settings: []),
            "instead of",
        ),
        ("nothing_is_evaluated_twice", Repeating, "evaluated twice: "),
        ("candidates_stay_in_the_space", Leaving, "is outside; the nearest inside is"),
        ("layers_follow_the_depth", AllLayers, r"should have \['widths\[0\]"),
        ("conditions", OneKind, "only .* of both alternatives"),
        ("random_state", randomized(random_state=lambda settings: None), "row 0: "),
        (
            "parallel",
            randomized(random_state=lambda s: None if s["n_jobs"] == 2 else 0),
            "row 0: ",
        ),
        ("failures", GivingUp, r"spent 1.* if the first failed, and 9.* if none did"),
        ("clone_and_parameters", ChangingParameters, r"changed .* \['random_state'\]"),
        ("pickle", unpicklable, "lambda"),
        ("global_random_states", Drawing, "what the estimator, and the caller"),
        ("working_directory", Writing, "the working directory holds .*candidates.txt"),
        ("working_directory", Moving, "the working directory is .*elsewhere now"),
        ("nothing_is_printed", Printing, "printed: '9 candidates'"),
        ("nothing_is_printed", Shouting, "printed: '9 candidates"),
        ("spaces_of_one_dimension", TwoDimensionsAtLeast, "not enough values"),
        ("small_spaces_are_exhausted", Idle, "of 2 in {'degree'"),
        ("nothing_to_choose", NothingWithoutDimensions, "evaluated no candidate"),
        (
            "stages",
            randomized(initial_candidates=lambda settings: []),
            "nothing was promoted to the second stage",
        ),
        ("better_than_chance", StageRandomizedSearchCV, "nine times in ten chance is"),
    ],
)
def test_faults_are_found(name, search, message):
    checks = {check.__name__: check for check in search_checks(search)}
    with pytest.raises(Exception, match=message):
        checks[f"check_{name}"]()


def test_every_check_finds_something():
    (mark,) = test_faults_are_found.pytestmark
    found = {f"check_{name}" for name, _, _ in mark.args[1]}
    assert found == {check.__name__ for check in _checks.CHECKS}
