"""IISSearchCV: a search a stage, each on larger images and in a smaller space."""

import math
import os
import time
import uuid
import warnings
from collections.abc import Iterable
from contextlib import nullcontext
from copy import deepcopy
from inspect import Parameter, signature
from itertools import pairwise
from numbers import Integral, Real
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from sklearn.base import _fit_context, clone, is_classifier
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import check_cv
from sklearn.model_selection._search import BaseSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils import check_random_state, get_tags
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.metadata_routing import _routing_enabled, get_routing_for_object
from sklearn.utils.validation import _check_method_params, indexable

from sklearn_iis._plan import FitPlan, default_sizes, split_budget
from sklearn_iis._resize import ImageResizer
from sklearn_iis._results import combine_results, metric_names
from sklearn_iis.execution._backends import check_gpus, map_images
from sklearn_iis.execution._checkpoints import Checkpoints
from sklearn_iis.execution._evaluation import (
    SAMPLE_INDICES,
    EvaluationContext,
)
from sklearn_iis.execution._gpus import Gpus, divided_threads
from sklearn_iis.execution._guard import Guard, NothingFinishedError
from sklearn_iis.execution._progress import StageProgress
from sklearn_iis.execution._records import NoRecords, TemporaryRecords
from sklearn_iis.execution._trial import Trial, TrialScorer
from sklearn_iis.searches import SEARCHES, BaseStageSearchCV, get_search
from sklearn_iis.space import Candidate, SearchSpace, distinct
from sklearn_iis.storage._fingerprint import (
    describe,
    describe_data,
    describe_params,
    describe_space,
)

# The number of conv layers is bounded by the image size, and its best value has to be
# found again at each size (Hinz et al. 2018).
SIZE_DEPENDENT = "n_conv_layers"


class IISSearchCV(BaseSearchCV):
    """Hyperparameter search over increasing image sizes.

    One search of scikit-learn's kind is run once per image size, smallest first. Each
    stage hands the good region of the space and its best candidates on to the next one
    [1]_: every ordered range shrinks to what the best fraction `keep` of the candidates
    spans plus a margin, and the best `n_seeds` candidates, moved into the narrowed
    space, are measured first at the new size and are part of its budget. Scores
    measured at one size are never told to the search at another. All candidates of all
    stages are scored on the same splits.

    With one stage it is a plain search by any of the algorithms.

    Parameters
    ----------
    estimator : estimator object
        A :class:`~sklearn.pipeline.Pipeline` with an
        :class:`~sklearn_iis.ImageResizer`, or any other estimator of scikit-learn's
        interface that has a parameter to be increased, or that is searched in a single
        stage.

    space : dict of str to frozen scipy.stats distribution, list or PerLayer
        The hyperparameters, see :class:`~sklearn_iis.SearchSpace`; also such a space
        itself.

    sizes : sequence, default=None
        A value of `size_param` for each stage, none smaller than the one before it;
        they may repeat. None means a quarter, a half and all of the size of the images
        if the estimator has an `ImageResizer` and X is an array, and a single stage
        without any size if there is none.

    n_iter : int or sequence of int, default=60
        Number of candidates of each stage, or of all; then it is split in proportions
        like 3:2:1. A grid may have fewer; Hyperband measures many more, most of them
        with few epochs, for the cost of so many with all.

    search : {"random", "grid", "bayes", "tpe", "smac", "genetic", "hyperband"} or \
            callable, default="random"
        What runs at each size: `RandomizedSearchCV`, `GridSearchCV`, scikit-optimize's
        `BayesSearchCV`, Optuna's `TPESampler` (needs the extra `tpe`), SMAC3 (`smac`),
        sklearn-genetic-opt's `GASearchCV`, or Hyperband over the epochs; see the
        classes in :mod:`sklearn_iis.searches`. A callable returns a search of
        scikit-learn's kind for `search(estimator, space, n_iter=..., seeds=...,
        **settings)`, where `space` is a :class:`~sklearn_iis.SearchSpace`, `seeds` are
        candidates in codes, and `settings` are those of `RandomizedSearchCV` and
        `search_params`.

    search_params : dict, default=None
        Further settings of the search, such as `{"n_levels": 3}` for "grid",
        `{"n_points": 4}` for "bayes" and "tpe", `{"population_size": 20}` for
        "genetic", `{"resource": "trees__n_estimators"}` for "hyperband", and
        `{"verbose": 1}` for what the search itself has to tell.

    size_param : str, default=None
        The parameter of the estimator that `sizes` are values of. None means the
        `size` of the pipeline's `ImageResizer`, which resizes once a stage. Another
        step, such as a PCA, is fitted again for each candidate, unless the pipeline has
        a `memory`.

    keep : float, default=0.25
        Which fraction of a stage's candidates, the best of those that did not fail, the
        ranges of the next stage are derived from.

    margin : float, default=0.1
        What a range keeps on either side of the best candidates, as a fraction of the
        whole range: of its quantiles, or of its number of values.

    floor : float, default=0.2
        The fraction of its whole range that a range never gets narrower than.

    n_seeds : int, default=3
        How many candidates are handed over.

    size_dependent : sequence of str, default=None
        Hyperparameters whose good values depend on the size, and which keep their whole
        range in all stages. None means those called `n_conv_layers`, in any step of a
        pipeline.

    select : {"best", "last"}, default="best"
        Whether the best candidate of all stages is chosen, or of the last one, as in
        the paper. A smaller size that scores better is a better model and a cheaper
        one.

    scoring : str, callable, list, tuple or dict, default=None
        As in :class:`~sklearn.model_selection.RandomizedSearchCV`. Of several metrics
        the one named by `refit` guides the search, or the first one.

    n_jobs : int, default=None
        Evaluations that run in parallel, by joblib.

    refit : bool, str or callable, default=True
        As in `RandomizedSearchCV`; a callable takes precedence over `select`.

    cv : int, cross-validation generator or an iterable, default=None
        As in `RandomizedSearchCV`. The splits are drawn once.

    verbose : int, default=0
        Above 0, a progress bar a stage is shown.

    pre_dispatch : int or str, default=None
        As in `RandomizedSearchCV`. None means "n_jobs" for "tpe" and "genetic", and
        one more for "bayes", as they would propose the candidates of a longer queue
        without the scores of those before them, and "2*n_jobs" otherwise.

    random_state : int, RandomState instance or None, default=None
        Determines the candidates, as far as their scores do not depend on anything
        else. With several workers "tpe", "bayes" and "genetic" propose a candidate as
        soon as a worker is free, by the scores there are, so that candidates depend on
        how long others take, unless `search_params` is `{"n_points": ...}` ("tpe",
        "bayes") or `{"synchronous": True}` ("genetic"). Scores of a network depend in
        their last digits on the number of threads, which joblib divides among its
        workers; with one thread each (the environment variable `OMP_NUM_THREADS=1`)
        they are the same for any `n_jobs`.

    error_score : "raise" or float, default=np.nan
        The score of a candidate that fails: whose fit or scoring raises an error, or
        whose score is not finite. "raise" ends the search with the error. A metric
        that does not guide the search fails by itself, with a warning.

    return_train_score : bool, default=False
        As in `RandomizedSearchCV`.

    storage : str, path-like or optuna.storages.BaseStorage, default=None
        Where each evaluation, a candidate on a split, is kept as soon as it is
        finished, by the worker: the url of a database (SQLite, PostgreSQL, MySQL), the
        path of a journal file, which several machines may share, or a storage of
        Optuna. The same call with the same storage then goes on where another one has
        stopped; it may have more candidates (`n_iter`) or further, larger `sizes`.
        None means that nothing is kept; in either case a temporary directory is used
        as long as `fit` runs. Needs the extra `storage`.

    study_name : str, default="iis"
        What the studies in the storage are called, one a stage:
        "<study_name>: stage 0" and so on. Different searches need different names.

    timeout : float, default=None
        Seconds for the whole of `fit`. Each stage gets an equal share of what is left
        when it begins, and hands over what it has found by then. The last one leaves
        time for the fit of the best candidate on all data. Evaluations that are under
        way when the time is up are given up if they train a `CNNClassifier`, and
        otherwise finished.

    trial_timeout : float, default=None
        Seconds for one fit of an evaluation. A candidate that takes longer fails, and
        is not measured on further splits. A `CNNClassifier` stops between two batches;
        other estimators fit to their end.

    pruner : "median" or optuna.pruners.BasePruner, default=None
        What stops the training of hopeless candidates by the validation accuracies of
        each epoch, which a `CNNClassifier` with `early_stopping` tells, compared with
        those of all evaluations of the stage. What was learned until then is scored,
        ranks behind all candidates that were not stopped, and is marked in the column
        `pruned`. With several workers the results depend on which of them is first.
        "median" is Optuna's `MedianPruner`. Needs the extra `storage`.

    trials_per_gpu : int, default=1
        How many evaluations may be on a GPU at once, those of other processes of the
        user on the machine among them. Each estimator with a parameter `device="auto"`,
        such as that of `CNNClassifier`, takes a place on the GPU with the fewest, and
        waits if there is none; other devices are left alone.

    Attributes
    ----------
    cv_results_ : dict of str to ndarray or list
        All candidates of all stages in scikit-learn's format, with these columns
        besides: `stage`, the index of the stage; `size`; `seed`, whether the candidate
        was handed over from the stage before; `error`, the traceback of a candidate
        that failed, or None; with a pruner, `pruned`; and what columns the search adds.
        Ranks are those among all candidates.

    stages_ : list of BaseSearchCV
        The search of each stage; its candidates are in codes.

    spaces_ : list of SearchSpace
        What each stage searched.

    sizes_ : list
        The size of each stage; None without sizes.

    best_estimator_ : estimator object
        The estimator with the best hyperparameters, fitted on all data. Not available
        if `refit=False`.

    best_params_ : dict
        The best hyperparameters, the size among them; of Hyperband also the epochs,
        which may be fewer than the most.

    best_score_ : float
        Mean score of the best candidate. Not available if `refit` is a callable.

    best_index_ : int
        The row of the best candidate in `cv_results_`.

    scorer_ : callable or dict
        The scorer, or the scorers by name.

    n_splits_ : int
        Number of splits.

    refit_time_ : float
        Seconds of the last fit.

    multimetric_ : bool
        Whether there are several metrics.

    classes_ : ndarray of shape (n_classes,)
        Class labels, if the estimator is a classifier and was refitted.

    n_features_in_ : int
        Number of features, if the best estimator knows it.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features, if the best estimator knows them.

    Raises
    ------
    ValueError
        By `fit`: if a parameter does not fit the others, the space names a parameter
        that the estimator does not have, or every candidate of a stage fails. In the
        last case `cv_results_` and the attributes of the stages tell what was measured.
        If the studies in the storage were begun by another call; it names what differs.

    TimeoutError
        By `fit`: if no candidate was measured before the `timeout`.

    OSError
        By `fit`: if the storage cannot be read or written; what is in it is kept.

    KeyboardInterrupt
        By `fit`: if it was interrupted. `cv_results_` and the attributes of the stages
        then tell of the candidates that were measured on all splits.

    References
    ----------
    .. [1] T. Hinz, N. Navarro-Guerrero, S. Magg, S. Wermter, "Speeding up the
       Hyperparameter Optimization of Deep Convolutional Neural Networks", International
       Journal of Computational Intelligence and Applications 17(2), 2018.
       :arxiv:`1807.07362`

    Examples
    --------
    >>> from scipy.stats import loguniform
    >>> from sklearn.pipeline import Pipeline
    >>> from sklearn_iis import CNNClassifier, IISSearchCV, ImageResizer
    >>> from sklearn_iis.datasets import make_shapes
    >>> X, y = make_shapes(60, size=16, n_classes=2, random_state=0)
    >>> pipe = Pipeline(
    ...     [
    ...         ("resize", ImageResizer()),
    ...         ("cnn", CNNClassifier(n_filters=4, max_epochs=2, random_state=0)),
    ...     ]
    ... )
    >>> space = {
    ...     "cnn__learning_rate": loguniform(1e-3, 1),
    ...     "cnn__n_conv_layers": [1, 2],
    ... }
    >>> search = IISSearchCV(pipe, space, sizes=(8, 16), n_iter=6, cv=2, random_state=0)
    >>> search.fit(X, y).cv_results_["size"].tolist()
    [8, 8, 8, 8, 16, 16]
    >>> sorted(search.best_params_)
    ['cnn__learning_rate', 'cnn__n_conv_layers', 'resize__size']
    """

    _parameter_constraints: dict = {
        **BaseSearchCV._parameter_constraints,
        "space": [dict, list, SearchSpace],
        "sizes": ["array-like", None],
        "n_iter": [Interval(Integral, 1, None, closed="left"), "array-like"],
        "search": [StrOptions(set(SEARCHES)), callable],
        "pre_dispatch": [Integral, str, None],
        "search_params": [dict, None],
        "size_param": [str, None],
        "keep": [Interval(Real, 0, 1, closed="right")],
        "margin": [Interval(Real, 0, 1, closed="both")],
        "floor": [Interval(Real, 0, 1, closed="both")],
        "n_seeds": [Interval(Integral, 0, None, closed="left")],
        "size_dependent": ["array-like", None],
        "select": [StrOptions({"best", "last"})],
        "random_state": ["random_state"],
        "storage": "no_validation",
        "study_name": [str],
        "timeout": [Interval(Real, 0, None, closed="neither"), None],
        "trial_timeout": [Interval(Real, 0, None, closed="neither"), None],
        "pruner": [StrOptions({"median"}), HasMethods("prune"), None],
        "trials_per_gpu": [Interval(Integral, 1, None, closed="left")],
    }

    # Parameters that do not change what is found; some may hold a password.
    parameters_without_influence = (
        *("storage", "study_name", "timeout", "trial_timeout", "pre_dispatch"),
        "trials_per_gpu",
    )

    def __init__(
        self,
        estimator,
        space,
        *,
        sizes=None,
        n_iter=60,
        search="random",
        search_params=None,
        size_param=None,
        keep=0.25,
        margin=0.1,
        floor=0.2,
        n_seeds=3,
        size_dependent=None,
        select="best",
        scoring=None,
        n_jobs=None,
        refit=True,
        cv=None,
        verbose=0,
        pre_dispatch=None,
        random_state=None,
        error_score=np.nan,
        return_train_score=False,
        storage=None,
        study_name="iis",
        timeout=None,
        trial_timeout=None,
        pruner=None,
        trials_per_gpu=1,
    ):
        super().__init__(
            estimator=estimator,
            scoring=scoring,
            n_jobs=n_jobs,
            refit=refit,
            cv=cv,
            verbose=verbose,
            pre_dispatch=pre_dispatch,
            error_score=error_score,
            return_train_score=return_train_score,
        )
        self.space = space
        self.sizes = sizes
        self.n_iter = n_iter
        self.search = search
        self.search_params = search_params
        self.size_param = size_param
        self.keep = keep
        self.margin = margin
        self.floor = floor
        self.n_seeds = n_seeds
        self.size_dependent = size_dependent
        self.select = select
        self.random_state = random_state
        self.storage = storage
        self.study_name = study_name
        self.timeout = timeout
        self.trial_timeout = trial_timeout
        self.pruner = pruner
        self.trials_per_gpu = trials_per_gpu

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags = deepcopy(get_tags(self.estimator).target_tags)
        return tags

    @_fit_context(
        # IISSearchCV.estimator is not validated yet
        prefer_skip_nested_validation=False
    )
    def fit(self, X, y=None, **params):
        """Search stage by stage, then fit the best candidate on all data.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...) or sequence of length n_samples
            What the estimator takes: images, paths of images, or anything else that can
            be indexed.

        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Targets.

        **params : dict of str to object
            Parameters for the estimator's `fit`, the scorer and the splitter, such as
            `groups`; those of length n_samples are split along with X.

        Returns
        -------
        self : IISSearchCV
            The fitted search.
        """
        begin = time.time()
        scorers, _ = self._get_scorers()
        X, y = self._check_X_y(X, y)
        params = _check_method_params(X, params=params)
        routed_params = self._get_routed_params_for_fit(params)
        space = self._make_space()
        size_param, sizes, budgets, fixed = self._plan_stages(space, X)
        check_gpus(self.estimator, self.n_jobs, self.trials_per_gpu)
        cv = check_cv(self.cv, y, classifier=is_classifier(self.estimator))
        splits = list(cv.split(X, y, **routed_params.splitter.split))
        with TemporaryDirectory(
            prefix="sklearn_iis-", ignore_cleanup_errors=True
        ) as directory:
            plan = FitPlan(
                X=X,
                y=y,
                params=self._select_stage_params(params),
                scorers=scorers,
                splits=splits,
                size_param=size_param,
                sizes=sizes,
                budgets=budgets,
                fixed=fixed,
                directory=directory,
                end=math.inf if self.timeout is None else begin + self.timeout,
            )
            plan.studies = self._open_studies(plan, space)
            callback_ctx = self._init_callback_context(
                max_subtasks=len(sizes) + (self.refit is not False)
            ).call_on_fit_task_begin(estimator=self, X=X, y=y)
            self._forget()
            self.n_splits_ = len(splits)
            self._run_stages(plan, space, callback_ctx)

        # As in scikit-learn, the only scorer is not a dict.
        self.scorer_ = getattr(scorers, "_scorers", scorers)
        if self.refit or not self.multimetric_:
            self._select_best()
        if self.refit:
            self._refit(X, y, routed_params.estimator.fit, callback_ctx)
        callback_ctx.call_on_fit_task_end(estimator=self, X=X, y=y)
        return self

    def _run_stages(self, plan, space, callback_ctx):
        """Search stage after stage, as long as there is time."""
        rng = check_random_state(self.random_state)
        self.sizes_, self.stages_, self.spaces_ = plan.sizes, [], []
        seeds: list[Candidate] = []
        with StageProgress(self.n_splits_) if self.verbose else nullcontext() as bars:
            for stage, n_iter in enumerate(plan.budgets):
                seeds = seeds[:n_iter]
                random_state = rng.randint(2**31 - 1)
                try:
                    self._run_stage(
                        plan, stage, space, seeds, random_state, callback_ctx, bars
                    )
                except NothingFinishedError:
                    self._end_early(plan, stage)
                    break
                self._check_metrics()
                results = self.stages_[-1].cv_results_
                _tell_failures(results["error"], plan.where(stage))
                if stage < len(plan.sizes) - 1:
                    space, seeds = self._hand_over(space, results)

    def _run_stage(self, plan, stage, space, seeds, random_state, callback_ctx, bars):
        """Fit the search of a stage, and add its results to those of the others."""
        with TemporaryDirectory(
            dir=plan.directory, ignore_cleanup_errors=True
        ) as directory:
            scorer = self._make_scorer(plan.scorers)
            search = self._make_stage_search(
                plan, stage, space, seeds, random_state, directory, scorer
            )
            context = self._check_context(search)
            if bars:
                n_evaluations = getattr(search, "n_evaluations", plan.budgets[stage])
                scorer.report = bars.add_stage(plan.where(stage), n_evaluations)
            try:
                self._fit_stage(
                    plan, stage, search, context, directory, callback_ctx, bars
                )
            finally:
                # What belongs to this fit, and may hold a password.
                search.estimator.context = None
                if context is not None:
                    context.forget()
                # Also what was measured before an interrupt.
                if hasattr(search, "cv_results_"):
                    self.stages_.append(search)
                    self.spaces_.append(space)
                    plan.seeds.append(seeds)
                    self.cv_results_ = combine_results(
                        self.stages_, plan.sizes, plan.seeds
                    )

    def _make_stage_search(
        self, plan, stage, space, seeds, random_state, directory, scorer
    ):
        """Return the search of a stage, which is told what is known already."""
        records, known, random_state = self._open_records(
            plan, stage, space, seeds, random_state, directory
        )
        context = EvaluationContext(
            records,
            directory,
            plan.train_digests,
            deadline=plan.make_deadline(
                stage, self._longest_fit(), refit=self.refit is not False
            ),
            trial_timeout=self.trial_timeout,
        )
        return self._make_search(
            space,
            n_iter=plan.budgets[stage],
            seeds=distinct([*map(space.active, seeds), *known])[: plan.budgets[stage]],
            fixed=plan.fixed[stage],
            checkpoints=Checkpoints(directory),
            context=context,
            scoring=scorer,
            cv=plan.splits,
            random_state=random_state,
        )

    def _fit_stage(self, plan, stage, search, context, directory, callback_ctx, bars):
        """Fit a search under guard, on images of the size of its stage."""
        params = dict(plan.params)
        if context is not None:
            params[SAMPLE_INDICES] = np.arange(plan.n_samples)
        space = search.estimator.space
        X = self._resize_once(plan.X, space, plan.size_param, plan.sizes[stage])
        X = map_images(X, self.n_jobs, directory)

        def on_restart():
            if bars:
                bars.restart_stage()
            if plan.studies is not None:
                plan.studies.end_dead_trials(stage)

        stage_ctx = callback_ctx.subcontext(task_name=plan.where(stage))
        can_prune = self.pruner is not None
        with (
            Guard(search, context, can_prune=can_prune, on_restart=on_restart) as guard,
            divided_threads(self.n_jobs),
        ):
            self._fit_in_context(stage_ctx, search, guard.fit, X, plan.y, params)

    def _longest_fit(self):
        """Return the seconds of the longest fit of a candidate so far."""
        if not self.stages_:
            return 0.0
        return float(self.cv_results_["mean_fit_time"].max())

    def _end_early(self, plan, stage):
        """Go on with the stages there are, if there are any."""
        message = (
            f"timeout={self.timeout} seconds were up before a candidate was measured "
            f"({plan.where(stage)})"
        )
        if not self.stages_:
            raise TimeoutError(f"{message}: allow for more") from None
        warnings.warn(message, UserWarning, stacklevel=4)
        self.sizes_ = plan.sizes[:stage]

    def _open_studies(self, plan, space):
        """Return what is kept of the search from fit to fit; None if nothing is."""
        storage = self.storage
        if storage is None and self.pruner is not None:
            storage = os.path.join(plan.directory, "search.journal")
        if storage is None:
            return None
        try:
            from sklearn_iis.storage._storage import open_storage
            from sklearn_iis.storage._studies import SearchStudies
        except ImportError as error:
            raise ImportError(
                "storage and pruner need Optuna, which cannot be imported "
                f"({error}); to install it: pip install 'sklearn-iis[storage]'"
            ) from error
        if not plan.can_tell_splits:
            raise ValueError(
                "with storage or pruner, no two splits of cv may have the same "
                "training samples"
            )
        studies = SearchStudies(
            open_storage(storage),
            self.study_name,
            call=self._describe_call(plan, space),
            settings=self._describe_settings(),
            sizes=plan.sizes,
            budgets=plan.budgets,
        )
        studies.check()
        return studies

    def _describe_call(self, plan, space):
        """Return what all scores depend on besides the candidate and the size."""
        return {
            "X": describe_data(plan.X),
            "y": describe_data(plan.y),
            "the splits": describe_data(plan.splits),
            **{f"parameter {k}": describe_data(v) for k, v in plan.params.items()},
            **describe_space(space),
            **describe_params(self.estimator, {*space.names, plan.size_param}),
            "scoring": describe(self.scoring),
            "error_score": describe(self.error_score),
            "return_train_score": describe(self.return_train_score),
            **self._describe_routing(),
        }

    def _describe_routing(self):
        if not _routing_enabled():
            return {}
        return {
            "the metadata routing": describe(self.get_metadata_routing()._serialize())
        }

    def _describe_settings(self):
        """Return what the candidates depend on, besides sizes and budgets."""
        names = ["search", "size_param", "keep", "margin", "floor", "n_seeds"]
        names += ["size_dependent", "pruner"]
        if isinstance(self.random_state, Integral):
            names.append("random_state")
        guide = self.refit if isinstance(self.refit, str) else None
        return {name: describe(getattr(self, name)) for name in names} | {
            "search_params": describe(self.search_params or None),
            "the metric to refit by": describe(guide),
        }

    def _open_records(self, plan, stage, space, seeds, random_state, directory):
        """Return the records of a stage, and how its search goes on.

        That is candidates to be measured after the seeds, and the random state.
        """
        if plan.studies is None:
            records = (
                TemporaryRecords(directory) if plan.can_tell_splits else NoRecords()
            )
            return records, [], random_state
        from sklearn_iis.storage._studies import StudyRecords, make_pruner

        probe = self._make_probe(space, plan.budgets[stage], plan.fixed[stage])
        study_id, known, random_state = plan.studies.begin_stage(
            stage,
            space,
            seeds=seeds,
            random_state=random_state,
            proposes_again=probe is None or not probe.depends_on_timing,
        )
        records = StudyRecords(
            plan.studies.storage,
            study_id,
            token=plan.token,
            call=plan.studies.call,
            dimensions=(self.spaces_ or [space])[0].dimensions,
            pruner=make_pruner(self.pruner),
        )
        if probe is not None and probe.plans_ahead:
            known = []
        return records, known, random_state

    def _check_context(self, search):
        """Return the context of the trials of a search, if it can hand it on."""
        parameters = signature(search.fit).parameters.values()
        if any(p.kind is Parameter.VAR_KEYWORD for p in parameters):
            return search.estimator.context
        for name in ("storage", "timeout", "trial_timeout", "pruner"):
            if getattr(self, name) is not None:
                raise TypeError(
                    f"{name} needs a search whose fit takes parameters for the "
                    f"estimator, which that of {type(search).__name__} does not"
                )
        search.estimator.context = None
        return None

    def _forget(self):
        """Drop what another fit has found: this one may end before it finds it."""
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)

    def _check_X_y(self, X, y):
        if y is None and get_tags(self).target_tags.required:
            raise ValueError(
                f"{type(self.estimator).__name__} requires y to be passed, but the "
                "target y is None"
            )
        return indexable(X, y)

    def _make_space(self):
        space = (
            self.space
            if isinstance(self.space, SearchSpace)
            else SearchSpace(self.space)
        )
        space.check_names(self.estimator)
        if unknown := set(self._find_size_dependent(space)) - set(space.names):
            raise ValueError(
                f"size_dependent names {sorted(unknown)}, but the hyperparameters are "
                f"{sorted(space.names)}"
            )
        return space

    def _plan_stages(self, space, X):
        """Return what is known of the stages before the first one.

        That is the parameter that the sizes are values of, and of each stage its size,
        its budget, and the parameters that all its candidates share.
        """
        size_param, sizes = self._make_sizes(space, X)
        budgets = split_budget(self.n_iter, len(sizes))
        fixed = [{} if size is None else {size_param: size} for size in sizes]
        self._check_budgets(space, budgets, fixed)
        return size_param, sizes, budgets, fixed

    def _make_sizes(self, space, X):
        """Return the parameter that the sizes are values of, and the sizes."""
        param = self._find_size_param()
        if param in space.names:
            if self.sizes is not None:
                raise ValueError(
                    f"{param!r} cannot be searched and given sizes at once"
                )
            return None, [None]
        if self.sizes is None:
            return param, [None] if param is None else default_sizes(X)
        if param is None:
            raise ValueError(
                f"sizes={self.sizes!r} need a parameter to be values of, and "
                f"{type(self.estimator).__name__} has no ImageResizer: name it with "
                "size_param"
            )
        sizes = [tuple(s) if isinstance(s, list) else s for s in self.sizes]
        if not sizes:
            raise ValueError("sizes is empty: name one size a stage, or None")
        sides = [size if isinstance(size, tuple) else (size, size) for size in sizes]
        for before, after in pairwise(sides):
            if any(b > a for b, a in zip(before, after, strict=True)):
                raise ValueError(
                    f"sizes must not decrease from stage to stage, got {sizes}"
                )
        return param, sizes

    def _find_size_param(self):
        valid = self.estimator.get_params(deep=True)
        if self.size_param is not None:
            if self.size_param not in valid:
                raise ValueError(
                    f"size_param={self.size_param!r} is no parameter of "
                    f"{type(self.estimator).__name__}; it has {sorted(valid)}"
                )
            return self.size_param
        found = [
            f"{name}__size"
            for name, value in valid.items()
            if isinstance(value, ImageResizer)
        ]
        if len(found) > 1:
            raise ValueError(f"there are several sizes, choose a size_param of {found}")
        return found[0] if found else None

    def _select_stage_params(self, params):
        if not _routing_enabled():
            return {name: value for name, value in params.items() if name != "groups"}
        scorer, _ = self._get_scorers()
        names = get_routing_for_object(self.estimator).consumes("fit", params)
        names |= get_routing_for_object(scorer).consumes("score", params)
        return {name: params[name] for name in names}

    def _check_budgets(self, space, budgets, fixed):
        """Raise an error at once if a budget, perhaps of a late stage, is too small."""
        for n_iter, params in zip(budgets, fixed, strict=True):
            probe = self._make_probe(space, n_iter, params)
            if probe is not None:
                probe.check_budget()

    def _make_probe(self, space, n_iter, fixed):
        """Return the search of a stage as it is before it is fitted, if it is ours."""
        make_search = get_search(self.search)
        if isinstance(make_search, type) and issubclass(make_search, BaseStageSearchCV):
            return self._make_search(space, n_iter=n_iter, seeds=[], fixed=fixed)
        return None

    def _make_search(self, space, *, fixed, checkpoints=None, context=None, **settings):
        make_search = get_search(self.search)
        tasks_ahead = getattr(make_search, "tasks_ahead", "2*n_jobs")
        search = make_search(
            Trial(
                self.estimator,
                space,
                fixed=fixed,
                raise_errors=self.error_score == "raise",
                checkpoints=checkpoints,
                context=context,
                gpus=Gpus(self.trials_per_gpu),
            ),
            space,
            **settings,
            n_jobs=self.n_jobs,
            refit=False,
            pre_dispatch=self.pre_dispatch or tasks_ahead,
            error_score=self.error_score,
            return_train_score=self.return_train_score,
            **(self.search_params or {}),
        )
        if not isinstance(search, BaseSearchCV):
            raise TypeError(
                "search must return a search of scikit-learn's kind, a BaseSearchCV, "
                f"got {search!r}"
            )
        return search

    def _make_scorer(self, scorers):
        return TrialScorer(
            scorers,
            metrics=tuple(getattr(scorers, "_scorers", ())),
            guide=self.refit if isinstance(self.refit, str) else None,
            error_score=self.error_score,
            return_train_score=self.return_train_score,
            address=uuid.uuid4().hex,
        )

    def _fit_in_context(self, callback_ctx, estimator, fit, X, y, params):
        """Fit an estimator as a task of its own, for scikit-learn's callbacks."""
        with callback_ctx.propagate_callback_context(estimator):
            callback_ctx.call_on_fit_task_begin(estimator=self, X=X, y=y)
            fit(*((X,) if y is None else (X, y)), **params)
        callback_ctx.call_on_fit_task_end(estimator=self, X=X, y=y)

    def _resize_once(self, X, space, size_param, size):
        """Return X as the pipeline's resizer would, so that it has nothing to do."""
        if size is None or not isinstance(self.estimator, Pipeline):
            return X
        name, resizer = self.estimator.steps[0]
        if (
            not isinstance(resizer, ImageResizer)
            or size_param != f"{name}__size"
            or any(n == name or n.startswith(f"{name}__") for n in space.names)
        ):
            return X
        return clone(resizer).set_params(size=size).fit_transform(X)

    def _check_metrics(self):
        metrics = metric_names(self.cv_results_)
        # A callable that returns one number has no name for it.
        self.multimetric_ = isinstance(self.scoring, list | tuple | dict) or (
            metrics != ["score"]
        )
        if self.multimetric_:
            # The metrics of a callable are not known before.
            self._check_refit_for_multimetric(metrics)

    def _hand_over(
        self, space: SearchSpace, results: dict[str, Any]
    ) -> tuple[SearchSpace, list[Candidate]]:
        """Return the space and the seeds of the next stage."""
        scores = results[f"mean_test_{metric_names(results)[0]}"]
        finished = np.flatnonzero(results["error"] == None)  # noqa: E711
        pruned = results.get("pruned", np.zeros(len(scores), dtype=bool))
        # Pruned ones are worse than all others.
        order = np.lexsort((-scores[finished], pruned[finished]))
        ranked = finished[order]
        # A candidate may have been measured with several resources.
        best = distinct(space.active(results["params"][i]) for i in ranked)
        narrowed = space.narrow(
            best[: math.ceil(self.keep * len(best))],
            margin=self.margin,
            floor=self.floor,
            size_dependent=self._find_size_dependent(space),
        )
        seeds = distinct(narrowed.project(codes) for codes in best)
        return narrowed, seeds[: self.n_seeds]

    def _find_size_dependent(self, space):
        if self.size_dependent is not None:
            return self.size_dependent
        return [n for n in space.names if n.rpartition("__")[2] == SIZE_DEPENDENT]

    def _select_best(self):
        metric = self.refit if self.multimetric_ else "score"
        if self.select == "last" and not callable(self.refit):
            last = np.flatnonzero(self.cv_results_["stage"] == len(self.stages_) - 1)
            ranks = self.cv_results_[f"rank_test_{metric}"][last]
            self.best_index_ = last[ranks.argmin()]
        else:
            self.best_index_ = self._select_best_index(
                self.refit, metric, self.cv_results_
            )
        if not callable(self.refit):
            self.best_score_ = self.cv_results_[f"mean_test_{metric}"][self.best_index_]
        self.best_params_ = self.cv_results_["params"][self.best_index_]

    def _refit(self, X, y, params, callback_ctx):
        self.best_estimator_ = clone(self.estimator).set_params(
            **clone(self.best_params_, safe=False)
        )
        start = time.time()
        self._fit_in_context(
            callback_ctx.subcontext(task_name="refit-with-best-params"),
            self.best_estimator_,
            self.best_estimator_.fit,
            X,
            y,
            params,
        )
        self.refit_time_ = time.time() - start
        if hasattr(self.best_estimator_, "feature_names_in_"):
            self.feature_names_in_ = self.best_estimator_.feature_names_in_


def _tell_failures(errors: Iterable[str | None], where: str) -> None:
    """Warn of the candidates that failed; raise an error if all did."""
    errors = list(errors)
    failed = [error for error in errors if error is not None]
    if not failed:
        return
    message = (
        f"{len(failed)} of {len(errors)} candidates failed ({where}). "
        f"The first error:\n{failed[0]}"
    )
    if len(failed) == len(errors):
        # A TypeError stays one, as scikit-learn's common tests want it.
        last_line = failed[0].rstrip().rpartition("\n")[2]
        error = TypeError if last_line.startswith("TypeError") else ValueError
        raise error(f"Every candidate failed: {message}")
    warnings.warn(message, FitFailedWarning, stacklevel=3)
