"""One candidate on one split, wherever it runs."""

import numbers
import time
import warnings
from inspect import signature
from traceback import format_exc
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.callback import CallbackSupportMixin
from sklearn.utils import get_tags
from sklearn.utils.metadata_routing import (
    MetadataRequest,
    MetadataRouter,
    get_routing_for_object,
)
from sklearn.utils.metaestimators import available_if

from sklearn_iis.execution._checkpoints import Checkpoints
from sklearn_iis.execution._evaluation import (
    SAMPLE_INDICES,
    EvaluationContext,
    Run,
    carry,
    guiding_score,
)
from sklearn_iis.execution._gpus import (
    AUTO,
    Gpus,
    find_auto_devices,
    free_memory,
    loading_on,
)
from sklearn_iis.execution._records import Evaluation, SearchAborted
from sklearn_iis.execution._tickets import Delivery
from sklearn_iis.space import Candidate, SearchSpace


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

    context : EvaluationContext, default=None
        What keeps the records of the stage; `fit` is then told the training samples by
        a parameter of its own.

    gpus : Gpus, default=None
        Where an estimator with a parameter `device="auto"` takes a place, which it has
        until it is scored.

    codes : dict of str to object, default=None
        The candidate; set by :meth:`set_params`.

    Attributes
    ----------
    estimator_ : estimator object
        The fitted estimator, if there was anything to fit and nothing went wrong. Once
        it is scored and its place on a GPU given back, it is gone.

    run_ : Run
        The evaluation, with its record so far.
    """

    def __init__(
        self,
        estimator: Any,
        space: SearchSpace,
        *,
        fixed: dict[str, Any] | None = None,
        raise_errors: bool = False,
        checkpoints: Checkpoints | None = None,
        context: EvaluationContext | None = None,
        gpus: Gpus | None = None,
        codes: Candidate | None = None,
    ):
        self.estimator = estimator
        self.space = space
        self.fixed = fixed
        self.raise_errors = raise_errors
        self.checkpoints = checkpoints
        self.context = context
        self.gpus = gpus
        self.codes = codes

    def __sklearn_clone__(self):
        # None of the parameters is ever changed, so that a clone, of which there is one
        # an evaluation, can share them.
        return type(self)(**self.get_params(deep=False))

    def __sklearn_tags__(self):
        return get_tags(self.estimator)

    def get_metadata_routing(self):
        """Return the requests of the estimator, and that of the trial itself."""
        routing = get_routing_for_object(self.estimator)
        if self.context is None:
            return routing
        is_router = isinstance(routing, MetadataRouter)
        own = routing._self_request if is_router else routing
        own = own or MetadataRequest(owner=self)
        own.fit.add_request(param=SAMPLE_INDICES, alias=True)
        if is_router:
            routing.add_self_request(own)
        return routing

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
        self.run_ = self._begin(fit_params.pop(SAMPLE_INDICES, None))
        if self.raise_errors and self.run_.record.error is not None:
            self.run_.close(keep=False)
            raise RuntimeError(self.run_.record.error)
        try:
            if self.run_.is_to_fit and self._try_fit(X, y, fit_params):
                # By now, nothing refers to what the first try has left on the GPU.
                self.become_alone()
                if self.run_.is_to_fit:
                    self._try_fit(X, y, fit_params)
        except BaseException:
            self.close(keep=False)
            raise
        if self.run_.record.error is not None:
            _free_memory(self.run_.record.error)
        return self

    def become_alone(self) -> None:
        """Wait until no other trial is on the GPU, as long as there is time."""
        place = self.run_.place
        if place is not None:
            self._wait(place.become_alone)

    def close(self, *, keep: bool = True) -> None:
        """End the evaluation.

        Parameters
        ----------
        keep : bool, default=True
            Whether to keep its record.
        """
        if self.run_.place is not None and hasattr(self, "estimator_"):
            del self.estimator_  # it would keep its memory on the GPU
        self.run_.close(keep=keep)

    def identify(
        self, context: EvaluationContext, candidate: Candidate, train: Any
    ) -> Evaluation:
        """Return what tells the evaluation of a candidate from all others.

        Parameters
        ----------
        context : EvaluationContext
            Of the stage.

        candidate : dict of str to object
            As for :meth:`set_params`.

        train : ndarray of int, or int
            The training samples, or the index of the split.
        """
        codes, further = self._split(candidate)
        return context.identify(self.space.active(codes), further, train)

    def _begin(self, train):
        context = self.context
        if context is None:
            return Run()
        return context.begin(self.identify(context, self.codes or {}, train))

    def _try_fit(self, X, y, fit_params):
        """Fit, and return whether to try it again, alone on the GPU."""
        run = self.run_
        try:
            estimator = self._make_estimator()
            devices = find_auto_devices(estimator)
            if devices and run.place is None and self.gpus is not None:
                run.place = self._wait(self.gpus.take)
            if run.is_to_fit:
                with run.followed():
                    self.estimator_ = self._fit(estimator, devices, X, y, fit_params)
        except Exception:
            error = format_exc()
            if run.may_try_alone(error):
                return True
            if self.raise_errors and not run.record.skipped:
                raise
            run.fail(error)
        return False

    def _wait(self, for_place):
        """Return what there is to wait for; note if the time is up before."""
        try:
            return for_place(self.run_.time_left)
        except TimeoutError:
            self.run_.record.skipped = True
        except OSError as error:
            # Nothing that the candidate is to blame for.
            raise SearchAborted(error) from error

    def _make_estimator(self):
        # Some parameters may be estimators themselves.
        params = clone(self.decode(self.codes or {}), safe=False)
        return clone(self.estimator).set_params(**params)

    def _fit(self, estimator, devices, X, y, fit_params):
        place = self.run_.place
        device = AUTO if place is None else place.device
        codes, further = self._split(self.codes or {})
        checkpoint = None
        if self.checkpoints is not None and len(further) == 1:
            data = (X, y, fit_params, self.fixed)
            checkpoint = self.checkpoints.find(estimator, codes, *further, data)
        if checkpoint is not None:
            with loading_on(None if place is None else device):
                estimator = checkpoint.resume(estimator)
        # What was resumed may have been elsewhere.
        estimator.set_params(**dict.fromkeys(devices, device))
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

    return_train_score : bool, default=False
        Whether each trial is scored a second time, on its training data.

    report : callable, default=None
        Called in the worker as `report(codes, score)` with the guiding score.

    address : str, default=None
        Where the search listens to the scores, see :mod:``_tickets`.
    """

    def __init__(
        self,
        scorer,
        *,
        metrics=(),
        guide=None,
        error_score=np.nan,
        return_train_score=False,
        report=None,
        address=None,
    ):
        self.scorer = scorer
        self.metrics = metrics
        self.guide = guide
        self.error_score = error_score
        self.return_train_score = return_train_score
        self.report = report
        self.address = address

    def __call__(
        self, trial: Trial, X: Any, y: Any = None, **params: Any
    ) -> float | dict[str, float]:
        """Return the score, or the scores by name, of a fitted trial."""
        # scikit-learn scores on the test data first, then perhaps on the training data.
        is_train = hasattr(trial, "is_scored_")
        trial.is_scored_ = True
        run, record = trial.run_, trial.run_.record
        if not run.is_known or (is_train and record.train_scores is None):
            try:
                self._add_scores(trial, X, y, params, is_train)
                if is_train or not self.return_train_score:
                    trial.close()
            except BaseException:
                trial.close(keep=False)
                raise
        if not is_train and self.report is not None and not record.skipped:
            self.report(trial.codes, guiding_score(record.scores))
        if is_train:
            return carry(record.train_scores, record)
        delivery = None
        if self.address is not None:
            delivery = Delivery(self.address, trial.codes or {})
        return carry(record.scores, record, delivery)

    def _add_scores(self, trial, X, y, params, is_train):
        record = trial.run_.record
        start = time.perf_counter()
        scores, error = self._score(trial, X, y, params)
        if is_train:
            record.train_scores = scores
            return
        record.scores, record.error = scores, record.error or error
        record.score_time = time.perf_counter() - start

    def get_metadata_routing(self):
        """Return the requests of the scorer."""
        return get_routing_for_object(self.scorer)

    def _accept_sample_weight(self):
        if hasattr(self.scorer, "_accept_sample_weight"):
            return self.scorer._accept_sample_weight()
        return "sample_weight" in signature(self.scorer).parameters

    def _score(self, trial, X, y, params):
        """Return the scores, and what went wrong with the one that guides."""
        record = trial.run_.record
        if record.error is not None or record.skipped:
            return self._all_failed(), record.error
        args = (X,) if y is None else (X, y)
        try:
            scores = self._measure(trial, args, params)
            if not isinstance(scores, dict):
                return self._check(scores)
            guide = self.guide if self.guide in scores else next(iter(scores))
            score, error = self._check(scores[guide])
            checked = {guide: score}
            for name, score in scores.items():
                if name != guide:
                    checked[name] = self._check_further(name, score)
            return checked, error
        except Exception:
            if self.error_score == "raise":
                raise
            error = format_exc()
            _free_memory(error)
            return self._all_failed(), error

    def _measure(self, trial, args, params):
        """Return what the scorer does, perhaps the second time, alone on the GPU."""
        try:
            scores = self.scorer(trial.estimator_, *args, **params)
            # scikit-learn's multimetric scorer gives the error of a metric.
            each = scores.values() if isinstance(scores, dict) else [scores]
            errors = [score for score in each if isinstance(score, str)]
        except Exception:
            errors = [format_exc()]
            if not trial.run_.may_try_alone(*errors):
                raise
        if not any(map(trial.run_.may_try_alone, errors)):
            return scores
        trial.become_alone()
        if trial.run_.record.skipped:
            return self._all_failed()
        return self.scorer(trial.estimator_, *args, **params)

    @property
    def _failed_score(self):
        return np.nan if self.error_score == "raise" else float(self.error_score)

    def _all_failed(self):
        # The names of the metrics of a callable are not known yet if it is called for
        # the first time: a number stands for all of them.
        names = sorted(self.metrics, key=lambda name: name != self.guide)
        failed = self._failed_score
        return dict.fromkeys(names, failed) if names else failed

    def _check(self, score):
        """Return the score that guides, and what is wrong with it."""
        if isinstance(score, str):  # scikit-learn's multimetric scorer gives the error
            return self._failed_score, score
        score = _as_number(score)
        if not np.isfinite(score):
            return self._failed_score, f"ValueError: the score is {score}"
        return score, None

    def _check_further(self, name, score):
        """Return the score of a metric that does not guide: it fails by itself."""
        if isinstance(score, str):
            warnings.warn(
                f"The metric {name!r} failed and is set to {self._failed_score}. "
                f"Details:\n{score}",
                UserWarning,
                stacklevel=2,
            )
            return self._failed_score
        return _as_number(score)


def _as_number(score):
    if hasattr(score, "item"):
        score = score.item()
    if not isinstance(score, numbers.Number):
        raise TypeError(f"the score must be a number, got {score!r}")
    return score


def _free_memory(error):
    """Free what is left of a fit that found no memory, also in torch's GPU cache."""
    if "memory" not in error.rstrip().rpartition("\n")[2].lower():
        return  # to look for garbage takes longer than many fits
    free_memory()
