"""What keeps the search of a stage going, whatever happens to its evaluations."""

import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, suppress
from functools import partial
from inspect import signature
from typing import Any

import numpy as np
from sklearn.model_selection._search import BaseSearchCV

from sklearn_iis._results import rank
from sklearn_iis.execution._backends import handed_out, worker_errors
from sklearn_iis.execution._evaluation import EvaluationContext, carry, guiding_score
from sklearn_iis.execution._records import MAX_DEATHS, Record, SearchAborted
from sklearn_iis.execution._tickets import is_ticket, is_undecided
from sklearn_iis.space import distinct


class NothingFinishedError(TimeoutError):
    """The time was up before any candidate of a stage was measured."""


class _TimeIsUp(Exception):
    """Ends a search of any kind, from within one of its evaluations."""


class Guard(AbstractContextManager):
    """Guards the fit of a search whose estimator is a :class:`Trial`.

    While the context lasts,

    - `cv_results_` gets a column `error`, what went wrong on the first split that
      failed, or None, and a column `pruned` if anything can be. Times are those of the
      records, which may be older than the search;
    - what was under way when a worker process was killed is tried again, by
      :meth:`fit`;
    - the search ends when its time is up, with what is finished by then;
    - an interrupt leaves `cv_results_` with what was finished.

    Parameters
    ----------
    search : BaseSearchCV
        Any search.

    context : EvaluationContext, default=None
        That of its trials.

    can_prune : bool, default=False
        Whether there is a pruner.

    on_restart : callable, default=None
        Called before the search is fitted again.
    """

    def __init__(
        self,
        search: BaseSearchCV,
        context: EvaluationContext | None = None,
        *,
        can_prune: bool = False,
        on_restart: Callable[[], None] | None = None,
    ):
        self.search = search
        self.context = context
        self.can_prune = can_prune
        self.on_restart = on_restart
        self._is_time_up = False
        self._n_unexplained = 0
        self._batches: list[tuple[list[dict], dict[str, Any]]] = []
        self._seeds = getattr(search, "seeds", None)

    def __getstate__(self):
        # The search, and so its guard, is pickled with every task.
        return {}

    def __enter__(self):
        # No closures: some of joblib's backends pickle the search by the standard
        # library. scikit-learn looks at the signature.
        parameters = signature(self.search._run_search).parameters
        if "callback_ctx" in parameters:
            self.search._run_search = partial(self._run_with_callbacks)
        else:
            self.search._run_search = partial(self._run)
        self.search._format_results = partial(self._format)
        return self

    def __exit__(self, kind, error, traceback):
        search = self.search
        if isinstance(error, KeyboardInterrupt) and self.context is not None:
            # The interrupt is what the user is to be told.
            with suppress(Exception, SearchAborted):
                self._fill_results(self.context)
        del search._run_search, search._format_results
        if hasattr(search, "seeds"):
            search.seeds = self._seeds
        if isinstance(error, SearchAborted):
            raise error.args[0] from error

    def fit(self, X: Any, y: Any = None, **params: Any) -> None:
        """Fit the search, and again after a worker process was killed.

        joblib has lost the results then, and its pool, unless the engine behind it has
        found another worker. What was finished is found among the records, so that the
        search gets back to where it was.

        Parameters
        ----------
        X, y, **params
            As the search takes them.
        """
        further = () if y is None else (y,)
        n_jobs = getattr(self.search, "n_jobs", None)
        while True:
            try:
                with handed_out(X, n_jobs) as images:
                    self.search.fit(images, *further, **params)
                return
            except worker_errors() as error:
                if not self._can_go_on(error):
                    raise
                self._keep_decisions()
                self._batches.clear()
                if self.on_restart is not None:
                    self.on_restart()

    def _keep_decisions(self):
        """Have the search begin with what it decided on as workers got free.

        It would decide on something else the next time.
        """
        tickets = [c for batch, _ in self._batches for c in batch if is_ticket(c)]
        decided = [dict(ticket) for ticket in tickets if not is_undecided(ticket)]
        if decided:
            active = self.search.space.active
            seeds = map(active, self.search.seeds or [])
            self.search.seeds = distinct([*seeds, *decided])

    def _can_go_on(self, error):
        """Return whether what was lost can be tried again, and note the deaths."""
        if self.context is None:
            return False
        in_flight = self.context.in_flight
        if isinstance(error, BrokenProcessPool):
            # All workers are gone. With nothing under way it was no evaluation that
            # died.
            return in_flight.bury() > 0
        # Workers on other machines leave no marks.
        if not in_flight.bury_dead():
            self._n_unexplained += 1
        return self._n_unexplained <= MAX_DEATHS

    def _run(self, evaluate_candidates, **callbacks):
        with suppress(_TimeIsUp):
            type(self.search)._run_search(
                self.search, partial(self._evaluate, evaluate_candidates), **callbacks
            )

    def _run_with_callbacks(self, evaluate_candidates, callback_ctx=None):
        self._run(evaluate_candidates, callback_ctx=callback_ctx)

    def _evaluate(
        self,
        evaluate_candidates: Callable[..., dict[str, Any]],
        candidate_params,
        cv=None,
        more_results=None,
        callback_ctx=None,
    ):
        candidates = list(candidate_params)
        self._batches.append((candidates, more_results or {}))
        results = evaluate_candidates(
            candidates, cv=cv, more_results=more_results, callback_ctx=callback_ctx
        )
        if self._is_time_up:
            raise _TimeIsUp
        return results

    def _format(self, candidates, n_splits, out, more_results=None):
        _name_failed_scores(out)
        self._drop_skipped(candidates, n_splits, out, more_results)
        records = [
            guiding_score(evaluation["test_scores"]).record for evaluation in out
        ]
        for evaluation, record in zip(out, records, strict=True):
            evaluation["fit_time"] = record.fit_time
            evaluation["score_time"] = record.score_time
        with warnings.catch_warnings():
            # The column says which and why.
            warnings.filterwarnings("ignore", "One or more of the", UserWarning)
            results = type(self.search)._format_results(
                self.search, candidates, n_splits, out, more_results
            )
        by_candidate = [
            records[i : i + n_splits] for i in range(0, len(records), n_splits)
        ]
        results["error"] = np.array(
            [_first_error(records) for records in by_candidate], dtype=object
        )
        if self.can_prune:
            self._add_pruned(results, by_candidate)
        return results

    def _drop_skipped(self, candidates, n_splits, out, more_results):
        """Remove the candidates that there was no time for, in place."""
        for i in reversed(range(len(candidates))):
            splits = slice(i * n_splits, (i + 1) * n_splits)
            scores = [guiding_score(o["test_scores"]) for o in out[splits]]
            if any(score.record.skipped for score in scores):
                self._is_time_up = True
                del candidates[i], out[splits]
                for column in (more_results or {}).values():
                    del column[i]
        if not candidates:
            raise NothingFinishedError(
                "the time was up before a candidate was measured"
            )

    def _add_pruned(self, results, by_candidate):
        pruned = [any(r.pruned for r in records) for records in by_candidate]
        results["pruned"] = np.array(pruned)
        for key in [key for key in results if key.startswith("rank_test_")]:
            scores = results[f"mean_{key.removeprefix('rank_')}"]
            results[key] = rank(scores, results["pruned"])

    def _fill_results(self, context):
        """Give the search the results of what was finished before an interrupt."""
        context.records.reload()
        candidates, out, columns = [], [], defaultdict(list)
        for batch, more_results in self._batches:
            for i, candidate in enumerate(batch):
                if is_undecided(candidate):
                    continue
                records = self._find_records(context, candidate)
                if None not in records:
                    candidates.append(candidate)
                    out += [_as_evaluation(record) for record in records]
                    for name, values in more_results.items():
                        columns[name].append(values[i])
        if candidates:
            n_splits = len(context.train_digests)
            self.search.n_splits_ = n_splits
            self.search.cv_results_ = self._format(candidates, n_splits, out, columns)

    def _find_records(self, context, candidate):
        trial = self.search.estimator
        return [
            context.find(trial.identify(context, candidate, split))
            for split in range(len(context.train_digests))
        ]


def _first_error(records: Sequence[Record]) -> str | None:
    return next((r.error for r in records if r.error is not None), None)


def _as_evaluation(record: Record) -> dict[str, Any]:
    """Return a record as scikit-learn has what comes out of an evaluation."""
    evaluation = {
        "test_scores": carry(record.scores, record),
        "fit_time": record.fit_time,
        "score_time": record.score_time,
    }
    if record.train_scores is not None:
        evaluation["train_scores"] = carry(record.train_scores, record)
    return evaluation


def _name_failed_scores(out: list[dict[str, Any]]) -> None:
    """Replace a failed score that stands for several metrics by one for each."""
    names = next(
        (o["test_scores"] for o in out if isinstance(o["test_scores"], dict)), ()
    )
    for evaluation in out:
        for key in ("test_scores", "train_scores"):
            score = evaluation.get(key)
            if names and score is not None and not isinstance(score, dict):
                evaluation[key] = dict.fromkeys(names, score)
