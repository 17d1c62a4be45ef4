"""A search as its storage has it, without an evaluation."""

from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from sklearn_iis._files import workspace
from sklearn_iis._plan import FitCall, Stage
from sklearn_iis._search import IISSearchCV, Run
from sklearn_iis.choice import ChoiceSearchCV
from sklearn_iis.command._errors import CommandError
from sklearn_iis.execution._evaluate import Fidelity
from sklearn_iis.execution._executors import make_executor
from sklearn_iis.execution._record import Row, measure_span
from sklearn_iis.searches._base import set_results
from sklearn_iis.space import as_key


@dataclass
class Restored:
    """A choice with the results of all evaluations that its storage has.

    Parameters
    ----------
    choice : ChoiceSearchCV
        Without `best_estimator_`, and without `rounds_`, which are not stored.

    runs : dict of str to Run
        The fit of each search that has results, as far as it is known.
    """

    choice: ChoiceSearchCV
    runs: dict[str, Run]

    def estimate_last_fit(self) -> float:
        """Return the seconds that the fit of the best candidate on all data takes."""
        run = self.runs[self.choice.best_search_]
        return run.deadline.own_reserve

    def fit_best(self) -> ChoiceSearchCV:
        """Fit the best candidate on all data."""
        choice = self.choice
        search = choice.searches_[choice.best_search_]
        run = self.runs[choice.best_search_]
        with workspace() as directory, ExitStack() as stack:
            run.directory, run.stack = directory, stack
            stages = search.stages_[-1]
            search._make_fidelities(run, [*range(run.plan.n_stages)], run.space, stages)
            run.call.begin_callbacks(0)
            search._finish(run)
        choice._take_best()
        return choice


def restore(choice: ChoiceSearchCV, X: Any, y: Any) -> Restored:
    """Return the results of a choice from its storage, and evaluate nothing.

    Parameters
    ----------
    choice : ChoiceSearchCV
        As `fit` had it; it gets results.

    X, y : array-like of shape (n_samples,)
        What `fit` was called with. The files are not opened.

    Raises
    ------
    CommandError
        If no candidate was evaluated on all splits.
    """
    shares = choice._check_searches()
    call = FitCall(choice, X, y, {})
    choice.searches_ = choice._make_searches(call.splits)
    choice.n_splits_ = len(call.splits)
    runs = {}
    choice.seconds_ = {}
    for name in shares:
        run, rows = _restore_search(choice.searches_[name], X, y)
        if rows:
            runs[name] = run
        records = chain.from_iterable(row.in_order for row in rows)
        choice.seconds_[name] = measure_span(records)
    if not runs:
        raise CommandError("no candidate was evaluated yet: nothing is known")
    choice._join({name: choice.searches_[name] for name in runs})
    choice._take_best()
    return Restored(choice, runs)


def _restore_search(search: IISSearchCV, X: Any, y: Any) -> tuple[Run, list[Row]]:
    """Give a search its results, if there are any; return its fit and its rows."""
    call = FitCall(search, X, y, {})
    space, plan = search._check_call(call)
    # The executor of one worker is none: this process.
    run = Run(call, space, plan, make_executor(1), "", ExitStack())
    run.studies = search._open_studies(run)
    rows = _read_rows(run)
    if not rows:
        return run, rows
    stages = [*range(plan.n_stages)]
    job = call.make_job(space, {s: Fidelity(X, plan.fixed[s]) for s in stages})
    stage_search = search._make_search(space, plan, stages)
    set_results(stage_search, Stage(job, run.executor, "", None), rows)
    search.sizes_, search.stages_, search.spaces_ = plan.sizes, [], []
    search.n_splits_ = len(call.splits)
    search._add_results(run, stage_search, space, [])
    search._check_metrics()
    call.select_best(search._select_best)
    run.deadline = plan.make_deadline(
        stages[-1],
        np.inf,
        refit_ratio=call.refit_ratio,
        climbs=search.inherit_weights,
        fit_times=run.fit_times,
    )
    for row in rows:
        for record in row.in_order:
            if record.error is None:
                run.deadline.note(row.stage, record.own_fit_time)
    return run, rows


def _read_rows(run: Run) -> list[Row]:
    """Return the candidates that were evaluated on all splits, in the order begun."""
    rows: dict[Any, Row] = {}
    known = {}
    for stage in range(run.plan.n_stages):
        for codes, key, record in run.studies.read_stage(stage):
            row = Row(codes, len(run.call.splits), stage=stage)
            rows.setdefault((stage, as_key(codes)), row)
            known[key] = record
    for row in rows.values():
        row.records = {t.split: known[t.key] for t in row.tasks if t.key in known}
    complete = [row for row in rows.values() if row.is_complete]
    complete.sort(key=lambda row: row.records[0].started)
    for number, row in enumerate(complete):
        row.number = number
    return complete
