"""Searches of others as stages: any BaseSearchCV whose loop is its `_run_search`."""

import warnings
from collections.abc import Sequence
from inspect import signature
from typing import Any

from sklearn_iis._plan import Stage
from sklearn_iis._results import make_results
from sklearn_iis._sklearn_compat import BaseSearchCV
from sklearn_iis.execution._record import Row
from sklearn_iis.searches._base import setting_results
from sklearn_iis.space import Candidate

# What can be chosen instead of searches that override `fit`.
INSTEAD = {
    "GASearchCV": 'search="genetic"',
    "BayesSearchCV": 'search="bayes"',
    "HalvingRandomSearchCV": 'search="hyperband"',
    "HalvingGridSearchCV": 'search="hyperband"',
}


class ForeignStage:
    """Runs a search that knows nothing of stages, on the workers of a stage.

    Parameters
    ----------
    search : BaseSearchCV
        It proposes candidates in codes.

    stage : Stage
        What is evaluated, and where.
    """

    def __init__(self, search: BaseSearchCV, stage: Stage):
        self.search = search
        self.stage = stage
        # Whatever the search would do by itself.
        search.return_train_score = stage.job.scoring.return_train_score
        search.error_score = stage.job.scoring.error_score
        self.scheduler = stage.make_scheduler(stage.pre_dispatch or "n_jobs")
        self._proposed: list[dict[str, Any]] = []

    def run(self, initial: Sequence[Candidate] = ()) -> None:
        """Run the search, and set its results, whatever ends it.

        Parameters
        ----------
        initial : sequence of dict, default=()
            The user's candidates, in codes, which the search was given. It is told if
            some of them were not evaluated.

        Raises
        ------
        NothingFinishedError
            If the deadline came before any result.
        """
        search = self.search
        search._validate_params()
        search.n_splits_ = self.scheduler.n_splits
        context = {}
        if takes_callbacks(search):
            context["callback_ctx"] = self.stage.callback_ctx
        with setting_results(search, self.stage, self.scheduler):
            search._run_search(self.evaluate, **context)
        # Also if the stage has ended before its search did.
        evaluated = [row.codes for row in self.scheduler.complete_rows]
        if n_missing := sum(codes not in evaluated for codes in initial):
            warnings.warn(
                f"{type(search).__name__} has not evaluated {n_missing} of "
                f"{len(initial)} initial_candidates, which the callable that "
                "returned it was given",
                stacklevel=2,
            )

    def evaluate(
        self, candidate_params, cv=None, more_results=None, callback_ctx=None
    ) -> dict[str, Any]:
        """Evaluate candidates, as scikit-learn's searches call it."""
        if cv is not None:
            raise TypeError(
                f"{type(self.search).__name__} evaluates on splits of its own, which a "
                "stage cannot: all stages share the splits of cv"
            )
        if callback_ctx is not None:
            self.scheduler.callback_ctx = callback_ctx
        for i, proposed in enumerate(candidate_params):
            columns = {name: values[i] for name, values in (more_results or {}).items()}
            self._submit(proposed, columns)
        self.scheduler.finish()
        if not self._proposed:
            raise ValueError(f"{type(self.search).__name__} proposed no candidate")
        return make_results(self.search, self.scheduler.rows, list(self._proposed))

    def _submit(self, proposed, columns):
        self.scheduler.wait_for_room()
        codes, params = self._split(proposed)
        self._proposed.append(dict(proposed))
        n_splits, stage = self.scheduler.n_splits, self.stage.job.last_stage
        self.scheduler.submit(Row(codes, n_splits, params, columns, stage))

    def _split(self, proposed):
        """Return the codes of a candidate, and what further parameters it has."""
        job = self.stage.job
        # A hyperparameter with a single value has no code, but is no further one.
        searched = {*job.space.dimensions, *job.space.names}
        params = {k: v for k, v in proposed.items() if k not in searched}
        if unknown := params.keys() - job.estimator.get_params():
            raise ValueError(
                f"{sorted(unknown)} are neither codes of {list(job.space.dimensions)} "
                f"nor parameters of {type(job.estimator).__name__}"
            )
        return job.space.active(proposed), params


def takes_callbacks(search: BaseSearchCV) -> bool:
    """Return whether a search makes callback contexts of its own."""
    return "callback_ctx" in signature(search._run_search).parameters


def check_adaptable(search: Any) -> None:
    """Raise an error if something cannot be the search of a stage.

    Raises
    ------
    TypeError
        If it is no search of scikit-learn's kind, or has a `fit` of its own.
    """
    if not isinstance(search, BaseSearchCV):
        raise TypeError(
            "search must return a search of scikit-learn's kind, a BaseSearchCV, "
            f"got {search!r}"
        )
    if type(search).fit is not BaseSearchCV.fit:
        name = type(search).__name__
        known = next(
            (c.__name__ for c in type(search).__mro__ if c.__name__ in INSTEAD), ""
        )
        instead = INSTEAD.get(known, "sklearn_iis.searches.Search")
        raise TypeError(
            f"{name} overrides fit, so that its evaluations cannot be those of a "
            f"stage: use {instead}, or override _run_search only"
        )
