"""What all stages share: seeds first, an exact budget, nothing measured twice."""

import numbers
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterable
from copy import copy, deepcopy
from typing import Any

import numpy as np
from joblib import effective_n_jobs
from sklearn.model_selection._search import BaseSearchCV
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval

from sklearn_iis.execution._tickets import Ticket
from sklearn_iis.searches._stream import Proposer, Stream
from sklearn_iis.space import Candidate, SearchSpace, as_key

# What a budget may be exceeded by, as sums of fractions are inexact.
ROUNDING = 1e-9


class BaseStageSearchCV(BaseSearchCV):
    """Base class of searches over a :class:`~sklearn_iis.SearchSpace`.

    A subclass implements :meth:`_search`; it may inherit from another search besides.
    The search measures `seeds` first and then exactly as many further
    candidates as `n_iter` leaves, none twice.

    Parameters
    ----------
    estimator : estimator object
        Its `set_params` takes a candidate in codes.

    space : SearchSpace
        Where the candidates come from.

    n_iter : int, default=10
        Number of candidates, seeds included.

    seeds : list of dict, default=None
        Candidates, in codes, to be measured first.

    scoring, n_jobs, refit, cv, verbose, pre_dispatch, error_score, return_train_score
        As in :class:`~sklearn.model_selection.RandomizedSearchCV`. If there are several
        metrics, the first one guides the search.

    random_state : int, RandomState instance or None, default=None
        Determines the candidates.
    """

    _parameter_constraints: dict = {
        **BaseSearchCV._parameter_constraints,
        "space": [SearchSpace],
        "n_iter": [Interval(numbers.Integral, 1, None, closed="left")],
        "seeds": [list, None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        estimator,
        space,
        *,
        n_iter=10,
        seeds=None,
        scoring=None,
        n_jobs=None,
        refit=False,
        cv=None,
        verbose=0,
        pre_dispatch="2*n_jobs",
        random_state=None,
        error_score=np.nan,
        return_train_score=False,
    ):
        self.estimator = estimator
        self.space = space
        self.n_iter = n_iter
        self.seeds = seeds
        self.scoring = scoring
        self.n_jobs = n_jobs
        self.refit = refit
        self.cv = cv
        self.verbose = verbose
        self.pre_dispatch = pre_dispatch
        self.random_state = random_state
        self.error_score = error_score
        self.return_train_score = return_train_score

    # How many tasks joblib is given ahead, unless `pre_dispatch` says so.
    tasks_ahead = "2*n_jobs"

    # Whether a larger budget makes another plan from the start, rather than more of the
    # same: then what was measured before is of use only where it is part of the plan.
    plans_ahead = False

    # A search of another library may do things of its own there.
    fit = BaseSearchCV.fit

    @abstractmethod
    def _search(
        self, evaluate: "Evaluation", random_state: np.random.RandomState
    ) -> None:
        """Propose candidates until there is no budget left.

        Parameters
        ----------
        evaluate : Evaluation
            Call it with a list of candidates; `evaluate.remaining` is the budget left.
            What is left of it when this method returns goes to :meth:`_spend_rest`.

        random_state : RandomState instance
            Determines the candidates.
        """

    def _spend_rest(
        self, evaluate: "Evaluation", random_state: np.random.RandomState
    ) -> None:
        """Spend the budget that the search left: on candidates at random."""
        evaluate(
            self.space.sample(
                evaluate.remaining,
                random_state=random_state,
                exclude=evaluate.candidates,
            )
        )
        if evaluate.remaining:
            warnings.warn(
                f"n_iter={self.n_iter} candidates are asked for, but no more than "
                f"{len(evaluate.candidates)} different ones were found in the space",
                stacklevel=3,
            )

    def check_budget(self) -> None:
        """Raise an error if the settings are wrong, or `n_iter` does not suffice.

        Nothing is measured for it, so that a search in stages can tell at once.

        Raises
        ------
        ValueError
            If a setting, or the budget for this space, is not valid.
        """
        self._validate_params()

    @property
    def n_evaluations(self) -> int:
        """How many evaluations are planned, those of all splits counting as one."""
        return self.n_iter

    @property
    def depends_on_timing(self) -> bool:
        """Whether what is proposed depends on which worker is free first."""
        return self._proposes_singly and effective_n_jobs(self.n_jobs) > 1

    @property
    def _proposes_singly(self) -> bool:
        return False

    def _format_results(self, candidate_params, n_splits, out, more_results=None):
        # What was a ticket is a candidate by now.
        candidates = [dict(candidate) for candidate in candidate_params]
        return super()._format_results(candidates, n_splits, out, more_results)

    def _run_search(self, evaluate_candidates, *, callback_ctx=None):
        self.check_budget()
        rng = check_random_state(self.random_state)
        search_ctx = callback_ctx.subcontext(
            task_name="search",
            max_subtasks=self.n_evaluations * self.n_splits_,
            sequential_subtasks=False,
        ).call_on_fit_task_begin(estimator=self)
        evaluate = Evaluation(self, evaluate_candidates, search_ctx)
        # With nothing to choose there is one candidate, and nothing to search.
        if self.space.dimensions:
            self._search(evaluate, rng)
        self._spend_rest(evaluate, rng)
        search_ctx.call_on_fit_task_end(estimator=self)

    def _check_refit_for_multimetric(self, scores):
        # The first metric guides the search, which need not be refitted.
        pass


class Evaluation:
    """Measures candidates, each once, as long as there is a budget.

    Parameters
    ----------
    search : BaseStageSearchCV
        The search that it is for.

    evaluate_candidates : callable
        What scikit-learn passes to `_run_search`.

    callback_ctx : CallbackContext
        Of the whole search, for scikit-learn's callbacks.
    """

    def __init__(
        self,
        search: BaseStageSearchCV,
        evaluate_candidates: Callable[..., dict[str, Any]],
        callback_ctx: Any,
    ):
        self.search = search
        self.evaluate_candidates = evaluate_candidates
        self.callback_ctx = callback_ctx
        self._scores: dict[tuple[tuple[str, float], ...], float] = {}
        self._spent: float = 0

    @property
    def candidates(self) -> list[Candidate]:
        """What was measured so far, in its order: codes, and further parameters."""
        return [dict(key) for key in self._scores]

    @property
    def scores(self) -> np.ndarray:
        """Their scores by the metric that guides the search; NaN for what failed."""
        return np.array(list(self._scores.values()), dtype=float)

    @property
    def worst(self) -> float | None:
        """The worst of the scores, or None if there is none yet."""
        scores = self.scores
        return np.nanmin(scores) if np.isfinite(scores).any() else None

    @property
    def remaining(self) -> float:
        """What is left of the budget: if each costs 1, the number of candidates."""
        return self.search.n_iter - self._spent

    @property
    def can_stream(self) -> bool:
        """Whether somebody tells a score before those of all candidates are known."""
        return getattr(self.search.scoring, "address", None) is not None

    def __call__(
        self,
        candidates: Iterable[Candidate],
        *,
        params: dict[str, Any] | None = None,
        cost: float = 1,
        **columns: Any,
    ) -> np.ndarray:
        """Measure those of the candidates that were not measured before.

        Parameters
        ----------
        candidates : list of dict
            Candidates, in codes, perhaps with codes of layers beyond their depths. If
            there are more than the remaining budget, the first ones are measured.

        params : dict of str to object, default=None
            A further parameter of the estimator, the same for all of them. The same
            candidate with another value is another measurement.

        cost : float, default=1
            What each of them costs of the budget.

        **columns : dict of str to object
            Values for further columns of `cv_results_`, the same for all of them. Each
            call has to give the same columns.

        Returns
        -------
        scores : ndarray of shape (n_candidates,)
            The scores; NaN for what failed, or was beyond the budget.
        """
        active = self.search.space.active
        keys = [as_key(active(codes) | (params or {})) for codes in candidates]
        new = [key for key in dict.fromkeys(keys) if key not in self._scores]
        new = new[: int(self.remaining / cost + ROUNDING)]
        if new:
            scores = self._measure([dict(key) for key in new], cost, columns)
            self._scores |= zip(new, scores, strict=True)
        return np.array([self._scores.get(key, np.nan) for key in keys])

    def follow(
        self,
        proposer: Proposer,
        random_state: np.random.RandomState,
        *,
        n_points: int | None = None,
    ) -> None:
        """Spend the budget on what a proposer asks for.

        Parameters
        ----------
        proposer : Proposer
            Decides on candidates.

        random_state : RandomState instance
            Determines what is measured in place of a proposal that was made before.

        n_points : int, default=None
            Candidates that are proposed at once, and measured before the next ones are
            proposed. None means one by one, each when a worker is free for it.
        """
        search = self.search
        spare = search.space.sample(
            int(self.remaining),
            # Most of them are not needed, and must not change what is proposed.
            random_state=deepcopy(random_state),
            exclude=self.candidates,
        )
        stream = Stream(
            proposer,
            active=search.space.active,
            known=self._scores.copy(),
            spare=spare,
            n_splits=search.n_splits_,
        )
        if n_points is None and not self.can_stream:
            n_points = effective_n_jobs(search.n_jobs)
        if n_points is None:
            with stream.listening(search.scoring.address):
                self._follow_at_once(stream, len(spare))
            return
        for start in range(0, len(spare), n_points):
            n_candidates = min(n_points, len(spare) - start)
            candidates = [stream.propose() for _ in range(n_candidates)]
            stream.learn(candidates, self(candidates))

    def _follow_at_once(self, stream, n_candidates):
        tickets = [Ticket(stream.decide) for _ in range(n_candidates)]
        if not tickets:
            return
        try:
            scores = self._measure(tickets, cost=1, columns={})
        except Exception:
            if stream.error is not None:
                raise stream.error from None
            raise
        self._scores |= zip(map(as_key, tickets), scores, strict=True)
        stream.learn()

    def _measure(self, candidates, cost, columns):
        """Return the scores of candidates, each of which is new."""
        self._spent += cost * len(candidates)
        offset = len(self._scores) * self.search.n_splits_
        results = self.evaluate_candidates(
            candidates,
            more_results={name: [v] * len(candidates) for name, v in columns.items()},
            callback_ctx=_OffsetContext(self.callback_ctx, offset),
        )
        metric = next(key for key in results if key.startswith("mean_test_"))
        scores = np.array(results[metric])
        # `error_score` may be a number; it is no score to be guided by.
        scores[[error is not None for error in results.get("error", ())]] = np.nan
        return scores[-len(candidates) :]


class _OffsetContext:
    """A callback context that counts its subtasks on from those of former batches.

    Each subtask gets a parent of its own. With a common one, that knows all of them,
    each task that is pickled for a worker would hold them all.
    """

    def __init__(self, callback_ctx, offset):
        self.callback_ctx = callback_ctx
        self.offset = offset

    def subcontext(self, *, task_name, task_id):
        parent = copy(self.callback_ctx)
        parent._children_map = {}
        return parent.subcontext(task_name=task_name, task_id=self.offset + task_id)
