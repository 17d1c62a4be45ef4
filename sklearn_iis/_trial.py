"""One candidate on one split, wherever it runs."""

import numbers
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from inspect import signature
from traceback import format_exc
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.callback import CallbackSupportMixin
from sklearn.model_selection._search import BaseSearchCV
from sklearn.utils import get_tags
from sklearn.utils.metadata_routing import get_routing_for_object
from sklearn.utils.metaestimators import available_if

from sklearn_iis._checkpoints import Checkpoints
from sklearn_iis._space import Candidate, SearchSpace


class FailedScore(float):
    """A score that says why there is none.

    A search keeps of an evaluation nothing but its scores, so the error travels home
    from the worker in one of them.
    """

    def __new__(cls, value, error):
        score = super().__new__(cls, value)
        score.error = error
        return score

    def __reduce__(self):
        return type(self), (float(self), self.error)


class Trial(BaseEstimator):
    """An estimator whose parameters are codes, and whose fit does not fail.

    This is what each search of a stage is given as its estimator. Score it with a
    :class:`TrialScorer`.

    Parameters
    ----------
    estimator : estimator object
        The user's estimator; it is cloned before it is changed.

    space : SearchSpace
        Decodes the candidate.

    fixed : dict of str to object, default=None
        Further parameters of the estimator, the same for all candidates.

    raise_errors : bool, default=False
        Raise what goes wrong in `fit`, instead of keeping it in `error_`.

    checkpoints : Checkpoints, default=None
        Where fitted estimators are kept, so that the fit of a candidate can go on where
        that with a smaller resource stopped.

    codes : dict of str to object, default=None
        The candidate; set by :meth:`set_params`.

    Attributes
    ----------
    estimator_ : estimator object
        The fitted estimator, if nothing went wrong.

    error_ : str or None
        The traceback of what went wrong.
    """

    def __init__(
        self,
        estimator: Any,
        space: SearchSpace,
        *,
        fixed: dict[str, Any] | None = None,
        raise_errors: bool = False,
        checkpoints: Checkpoints | None = None,
        codes: Candidate | None = None,
    ):
        self.estimator = estimator
        self.space = space
        self.fixed = fixed
        self.raise_errors = raise_errors
        self.checkpoints = checkpoints
        self.codes = codes

    def __sklearn_clone__(self):
        # None of the parameters is ever changed, so that a clone, of which there is one
        # an evaluation, can share them.
        return type(self)(**self.get_params(deep=False))

    def __sklearn_tags__(self):
        return get_tags(self.estimator)

    def get_metadata_routing(self):
        """Return the requests of the estimator."""
        return get_routing_for_object(self.estimator)

    @available_if(lambda self: hasattr(self.estimator, "set_callbacks"))
    def set_callbacks(self, *callbacks):
        """Hand scikit-learn's callbacks on to the estimator."""
        return CallbackSupportMixin.set_callbacks(self, *callbacks)

    def set_params(self, **codes):
        """Set the candidate.

        Parameters
        ----------
        **codes : dict
            The candidate, in codes. A search of several resources adds the resource:
            a parameter of the estimator, as it is.

        Returns
        -------
        self : Trial
            The trial itself.
        """
        further = self._split(codes)[1]
        if further and (unknown := set(further) - set(self.estimator.get_params())):
            raise ValueError(
                f"{sorted(unknown)} are neither codes of {list(self.space.dimensions)} "
                f"nor parameters of {type(self.estimator).__name__}"
            )
        self.codes = codes
        return self

    def decode(self, codes: Candidate) -> dict[str, Any]:
        """Return the parameters of the estimator that a candidate stands for."""
        return self.space.decode(codes) | (self.fixed or {}) | self._split(codes)[1]

    def fit(self, X, y=None, **fit_params):
        """Fit a clone of the estimator, and keep the error if there is one."""
        self.error_ = None
        try:
            self.estimator_ = self._fit(X, y, fit_params)
        except Exception:
            if self.raise_errors:
                raise
            self.error_ = format_exc()
        return self

    def _fit(self, X, y, fit_params):
        candidate = self.codes or {}
        # Some parameters may be estimators themselves.
        params = clone(self.decode(candidate), safe=False)
        estimator = clone(self.estimator).set_params(**params)
        codes, further = self._split(candidate)
        checkpoint = None
        if self.checkpoints is not None and len(further) == 1:
            data = (X, y, fit_params, self.fixed)
            checkpoint = self.checkpoints.find(estimator, codes, *further, data)
        if checkpoint is not None:
            estimator = checkpoint.resume(estimator)
        self._propagate_callbacks(estimator)
        fitted = estimator.fit(*((X,) if y is None else (X, y)), **fit_params)
        if checkpoint is not None:
            # They belong to this evaluation, and know of all others.
            for name in ("_skl_callbacks", "_parent_callback_ctx"):
                vars(fitted).pop(name, None)
            checkpoint.save(fitted)
        return fitted

    def _split(self, candidate):
        """Return the codes of a candidate, and what further parameters it has."""
        # A hyperparameter with a single value has no code, but is no further one.
        searched = {*self.space.dimensions, *self.space.names}
        codes = {k: v for k, v in candidate.items() if k in searched}
        return codes, {k: v for k, v in candidate.items() if k not in searched}

    def _propagate_callbacks(self, estimator):
        # The trial is no level of its own in the tree of tasks.
        if callbacks := getattr(self, "_skl_callbacks", None):
            estimator.set_callbacks(*callbacks)
        if hasattr(self, "_parent_callback_ctx"):
            estimator._parent_callback_ctx = self._parent_callback_ctx


class TrialScorer:
    """Score the estimator of a :class:`Trial`; what failed gets a failed score.

    Parameters
    ----------
    scorer : callable
        Called as `scorer(estimator, X, y)`, returns a number or a dict of numbers.

    metrics : sequence of str, default=()
        The names of the metrics, if they are several and known in advance.

    guide : str, default=None
        The metric that guides the search; it comes first in the scores.

    error_score : "raise" or float, default=np.nan
        The score of a failed trial.

    report : callable, default=None
        Called in the worker as `report(codes, score)` with the guiding score.
    """

    def __init__(
        self, scorer, *, metrics=(), guide=None, error_score=np.nan, report=None
    ):
        self.scorer = scorer
        self.metrics = metrics
        self.guide = guide
        self.error_score = error_score
        self.report = report

    def __call__(
        self, trial: Trial, X: Any, y: Any = None, **params: Any
    ) -> float | dict[str, float]:
        """Return the score, or the scores by name, of a fitted trial."""
        scores = self._score(trial, X, y, params)
        # scikit-learn scores on the test data first, then perhaps on the training data.
        if self.report is not None and not hasattr(trial, "score_"):
            trial.score_ = guiding_score(scores)
            self.report(trial.codes, trial.score_)
        return scores

    def get_metadata_routing(self):
        """Return the requests of the scorer."""
        return get_routing_for_object(self.scorer)

    def _accept_sample_weight(self):
        if hasattr(self.scorer, "_accept_sample_weight"):
            return self.scorer._accept_sample_weight()
        return "sample_weight" in signature(self.scorer).parameters

    def _score(self, trial, X, y, params):
        if trial.error_ is not None:
            return self._all_failed(trial.error_)
        args = (X,) if y is None else (X, y)
        try:
            scores = self.scorer(trial.estimator_, *args, **params)
            if not isinstance(scores, dict):
                return self._check(scores)
            guide = self.guide if self.guide in scores else next(iter(scores))
            checked = {guide: self._check(scores[guide])}
            for name, score in scores.items():
                if name != guide:
                    checked[name] = self._check_further(name, score)
            return checked
        except Exception:
            if self.error_score == "raise":
                raise
            return self._all_failed(format_exc())

    def _all_failed(self, error):
        failed = self._failed(error)
        # The names of the metrics of a callable are not known yet if it is called for
        # the first time: a number stands for all of them.
        names = sorted(self.metrics, key=lambda name: name != self.guide)
        return dict.fromkeys(names, failed) if names else failed

    def _failed(self, error):
        return FailedScore(
            np.nan if self.error_score == "raise" else self.error_score, error
        )

    def _check(self, score):
        if isinstance(score, str):  # scikit-learn's multimetric scorer gives the error
            return self._failed(score)
        score = _as_number(score)
        if not np.isfinite(score):
            return self._failed(f"ValueError: the score is {score}")
        return score

    def _check_further(self, name, score):
        """Return the score of a metric that does not guide: it fails by itself."""
        if isinstance(score, str):
            value = self._failed(score)
            warnings.warn(
                f"The metric {name!r} failed and is set to {float(value)}. Details:\n"
                f"{score}",
                UserWarning,
                stacklevel=2,
            )
            return float(value)
        return _as_number(score)


def _as_number(score):
    if hasattr(score, "item"):
        score = score.item()
    if not isinstance(score, numbers.Number):
        raise TypeError(f"the score must be a number, got {score!r}")
    return score


def guiding_score(scores: float | dict[str, float]) -> float:
    """Return the score that guides the search: the first one."""
    return next(iter(scores.values())) if isinstance(scores, dict) else scores


@contextmanager
def errors_in_results(search: BaseSearchCV) -> Iterator[None]:
    """Have a search tell in its results what went wrong in its trials.

    Parameters
    ----------
    search : BaseSearchCV
        Any search with a :class:`Trial` as its estimator. While the context lasts, its
        `cv_results_` get a column `error`: the traceback of the first split whose
        guiding score failed, or None.
    """
    # No closure: some of joblib's backends pickle the search by the standard library.
    search._format_results = partial(_format_with_errors, search)
    try:
        yield
    finally:
        del search._format_results


def _format_with_errors(search, candidates, n_splits, out, more_results=None):
    _name_failed_scores(out)
    with warnings.catch_warnings():
        # The column says which and why.
        warnings.filterwarnings("ignore", "One or more of the", UserWarning)
        results = type(search)._format_results(
            search, candidates, n_splits, out, more_results
        )
    scores = [guiding_score(evaluation["test_scores"]) for evaluation in out]
    errors = [getattr(score, "error", None) for score in scores]
    results["error"] = np.array(
        [
            next(filter(None, errors[i : i + n_splits]), None)
            for i in range(0, len(errors), n_splits)
        ],
        dtype=object,
    )
    return results


def _name_failed_scores(out):
    """Replace a failed score that stands for several metrics by one for each."""
    names = next(
        (o["test_scores"] for o in out if isinstance(o["test_scores"], dict)), ()
    )
    for evaluation in out:
        for key in ("test_scores", "train_scores"):
            score = evaluation.get(key)
            if names and isinstance(score, FailedScore):
                evaluation[key] = dict.fromkeys(names, score)
