"""IISSearchCV: successive searches on images of increasing size."""

import math
import os
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack, contextmanager, suppress
from copy import deepcopy
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from numbers import Integral, Real
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any, ClassVar

import numpy as np
from sklearn.base import clone
from sklearn.utils import check_random_state, get_tags

import sklearn_iis
from sklearn_iis._files import claimed, remove_directory, workspace
from sklearn_iis._plan import FitCall, Stage, StagePlan, plan_sizes, split_budget
from sklearn_iis._resize import ImageResizer
from sklearn_iis._results import combine_results, metric_names, report_stage
from sklearn_iis._sklearn_compat import (
    BaseSearchCV,
    HasMethods,
    Interval,
    StrOptions,
    fit_context,
    is_routing_enabled,
    score_best,
)
from sklearn_iis.execution._averaging import (
    BestEstimators,
    check_averaging,
)
from sklearn_iis.execution._checkpoints import Checkpoints
from sklearn_iis.execution._deadline import (
    Deadline,
    NothingFinishedError,
    NothingPreparedError,
)
from sklearn_iis.execution._estimator_files import EstimatorFiles
from sklearn_iis.execution._evaluate import Fidelity
from sklearn_iis.execution._executors import Executor, running_executor
from sklearn_iis.execution._inheritance import (
    Heirs,
    Inheritance,
    Promotable,
    check_heirs,
)
from sklearn_iis.execution._patience import Patience, check_patience
from sklearn_iis.execution._prepared import find_stateless, prepare
from sklearn_iis.execution._progress import StageProgress
from sklearn_iis.execution._record import Row
from sklearn_iis.searches import SEARCHES, Sampler, Search, get_search
from sklearn_iis.searches._adapter import ForeignStage, check_adaptable, takes_callbacks
from sklearn_iis.searches._base import exhaust
from sklearn_iis.space import Candidate, SearchSpace, distinct, fill_candidates
from sklearn_iis.storage import (
    StorageParam,
    describe,
    describe_data,
    describe_params,
    describe_space,
    digest,
    hide_password,
)

# The number of conv layers is bounded by the image size, and its best value has to be
# found again at each size (Hinz et al. 2018).
SIZE_DEPENDENT = "n_conv_layers"

# Candidates of all stages, unless time is the budget.
DEFAULT_N_ITER = 60


@dataclass(eq=False, repr=False)
class IISSearchCV(BaseSearchCV):
    """Hyperparameter search over increasing image sizes.

    One search of scikit-learn's kind is run once per image size, smallest first. Each
    stage hands the good region of the space and its best candidates on to the next one
    [1]_: every ordered range shrinks to what the best fraction `keep` of the candidates
    spans plus a margin, and the best `n_promoted` candidates, moved into the narrowed
    space, are evaluated first at the new size and are part of its budget. Scores of
    one size are never told to the search at another. All candidates of all
    stages are scored on the same splits.

    With one stage it is a plain search by any of the algorithms.

    Parameters
    ----------
    estimator : estimator object
        A :class:`~sklearn.pipeline.Pipeline` with an
        :class:`~sklearn_iis.ImageResizer`, or any other estimator of scikit-learn's
        interface that has a parameter to be increased, or that is searched in a single
        stage.

    space : dict of str to distribution, list, Rounded, PerLayer or OnlyIf, list of \
            such dicts, or SearchSpace
        The hyperparameters, see :class:`~sklearn_iis.SearchSpace`. A list of dicts
        holds alternatives, as in `RandomizedSearchCV`: a candidate has the
        hyperparameters of one of them, such as a step of a pipeline that is swapped
        and the parameters of what is swapped in.

    sizes : sequence, default=None
        A value of `size_param` for each stage, none smaller than the one before it;
        they may repeat. None means a quarter, a half and all of the size of the images
        if the estimator has an `ImageResizer` and X is an array, and a single stage
        without any size if there is none.

    stage_params : dict of str to sequence, default=None
        Further parameters of the estimator with a value for each stage, such as
        `{"cnn__max_epochs": (30, 10, 10), "cnn__shift": (0.0, 0.1, 0.15)}`: fewer
        epochs where weights are inherited, regularisation that grows with the size
        [2]_. `sizes` may be among them.

    inherit_weights : bool, default=False
        Whether a candidate starts in a stage from the weights that it learned in the
        one before, on each split from those of that very split, with what `max_epochs`
        of this stage says. So a score is that of a network which was trained at each
        size up to this one, whether its candidate was promoted or is new, and so is the
        last fit. It needs an estimator that can do so: `CNNClassifier` with
        `pooling="average"`, or with a `module`, of which those weights are inherited
        that fit; one in a `SubsetEstimator` can, too. With False each stage trains from
        scratch.

        What was learned is kept in files as long as its candidate may be promoted:
        beside the storage if that is a file (`<file>.weights`), otherwise in a
        temporary directory. They are pickles, in a directory that only its owner can
        write to, and are removed when `fit` ends. Where one is missing, the candidate
        is trained again at the sizes below, with the same result.

    n_iter : int, sequence of int, "auto" or None, default="auto"
        Number of candidates of each stage, or of all; then it is split in proportions
        like 3:2:1, and like 9:3:1 for "ladder" and "fabolas". None means as many as
        there is time for, and needs a `timeout`; a grid and Hyperband need a number.
        "auto" means None if there is a `timeout` and the search allows for it, and
        otherwise 60, or as many as the first stage of a grid needs for all values of
        lists. A grid may have fewer; if `n_iter` does not allow for all values of lists
        in the first stage, it is an error. Hyperband evaluates many more, most of them
        with few epochs, for the cost of so many with all, and "fabolas" as many of each
        size as it likes, for the cost of so many of each.

    search : {"random", "grid", "bayes", "tpe", "cmaes", "smac", "genetic", "swarm", \
            "reinforce", "hyperband", "ladder", "fabolas"} or callable, default="random"
        What runs at each size: `RandomizedSearchCV`, `GridSearchCV`, scikit-optimize's
        `BayesSearchCV`, Optuna's `TPESampler` (needs the extra `tpe`) or `CmaEsSampler`
        (`cmaes`), SMAC3 (`smac`), sklearn-genetic-opt's `GASearchCV`, a particle swarm,
        a policy trained by REINFORCE, or Hyperband over the epochs; see the classes in
        :mod:`sklearn_iis.searches`. "ladder" and "fabolas" run all sizes at once, in
        the whole space: `keep`, `margin`, `floor`, `n_promoted` and `size_dependent`
        have no effect. "ladder" promotes the best third of the candidates of each size
        so far whenever a worker is free, and begins new ones otherwise; "fabolas"
        (needs the extra `fabolas`) has one model of all sizes choose the candidate and
        size that promise the most per cost. A subclass of
        :class:`~sklearn_iis.searches.Sampler` proposes candidates one by one. Any other
        callable returns a search of scikit-learn's kind for `search(estimator, space,
        n_iter=..., initial_candidates=..., **settings)`, where `space` is a
        :class:`~sklearn_iis.SearchSpace`, `initial_candidates` are in codes, and
        `settings` are those of `RandomizedSearchCV` and `search_params`. The search
        proposes candidates in codes, and must not override `fit`.

    search_params : dict, default=None
        Further settings of the search, such as `{"n_levels": 3}` for "grid",
        `{"n_points": 4}` for "bayes", "tpe", "cmaes", "swarm", "reinforce" and
        "fabolas", `{"population_size": 20}` for "genetic", `{"resource":
        "trees__n_estimators"}` for "hyperband", and `{"verbose": 1}` for what the
        search itself has to tell.

    initial_candidates : list of dict of str to object, default=None
        Candidates to begin with, such as `[{"C": 1.0}, {"C": 10.0, "gamma": 0.1}]`,
        in the units of the estimator's parameters. They are evaluated first, and are
        part of the budget of the first stage. What one does not name is drawn from the
        space. :func:`~sklearn_iis.best_candidates` gives those of an earlier search. A
        callable `search` is given them in codes; there is a warning if it evaluates
        others.

    constraint : callable, default=None
        Says for the hyperparameters of a candidate, a dict without those of the stage
        such as its size, whether it is allowed: True or False, and the same each time.
        Such as `lambda params: params["min_samples_leaf"] < params["max_leaf_nodes"]`;
        of a list of spaces each candidate has its own. What is not allowed is not
        trained, costs nothing of the budget, and ranks last for a search that learns.
        Only a search of others, as a callable returns it, cannot have one.

    size_param : str, default=None
        The parameter of the estimator that `sizes` are values of, such as the
        `fraction` of a :class:`~sklearn_iis.SubsetEstimator`. None means the `size` of
        the pipeline's `ImageResizer`, which resizes once per stage. Another
        step that learns something, such as a PCA, is fitted again for each candidate,
        unless the pipeline has a `memory`.

    keep : float, default=0.25
        Which fraction of a stage's candidates, the best of those that did not fail, the
        ranges of the next stage are derived from.

    margin : float, default=0.1
        What a range keeps on either side of the best candidates, as a fraction of the
        whole range: of its quantiles, or of its number of values.

    floor : float, default=0.2
        The fraction of its whole range that a range never gets narrower than.

    n_promoted : int, default=3
        How many of the best candidates are promoted to the next stage. Those that
        inherit weights are not moved: only what the narrowed space holds is promoted.

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
        Evaluations that run in parallel, on joblib's active backend.

    refit : bool, str or callable, default=True
        As in `RandomizedSearchCV`; a callable takes precedence over `select`.

    cv : int, cross-validation generator or an iterable, default=None
        As in `RandomizedSearchCV`. The splits are drawn once.

    verbose : int, default=0
        Above 0, the best score so far and the time left are shown, and a progress bar
        per stage.

    pre_dispatch : int or str, default=None
        Evaluations begun or queued, such as "2*n_jobs", before another candidate is
        proposed. None means as many as there are workers, and one more for "bayes";
        candidates of a longer queue are proposed without the scores of those before.

    random_state : int, RandomState instance or None, default=None
        Determines the candidates, as far as their scores do not depend on anything
        else. With several workers "tpe", "bayes", "cmaes", "swarm", "reinforce",
        "fabolas", "genetic" and "ladder" propose or promote a candidate as soon as a
        worker is free, by the scores there are, so that candidates depend on how long
        others take, unless `search_params` is `{"synchronous": True}` ("genetic") or
        `{"n_points": ...}` (the others, but "ladder").
        Scores of a network depend in their last digits on the number of threads, which
        are divided among workers; with one thread each (the environment variable
        `OMP_NUM_THREADS=1`) they are the same for any `n_jobs`.

    error_score : "raise" or float, default=np.nan
        The score of a candidate that fails: whose fit or scoring raises an error, or
        whose score is not finite. "raise" ends the search with the error. A metric
        that does not guide the search fails by itself, with a warning.

    return_train_score : bool, default=False
        As in `RandomizedSearchCV`.

    n_averaged : int, default=None
        None fits the best candidate on all data. A number has `best_estimator_` average
        what the search has trained, and nothing is fitted at last: the estimators that
        the evaluations of so many of the best candidates have left, one per candidate
        and split; 1 means those of the best candidate alone. Probabilities are
        averaged, or the predictions of regressors.

        A candidate counts once at each size; with Hyperband, those with the most
        resources count, and the best one whatever it has. `select="last"` takes those
        of the last stage. There are fewer if there are not so many that neither failed
        nor were pruned. Estimators are pickled into the temporary directory of `fit`,
        and removed as soon as others are better. One that is missing there is fitted
        again on its split, by the process of the search, whatever the `timeout`: if
        its score comes from the storage, its worker does not share the directory, or it
        cannot be pickled. Without a random state it will be another one.

        A callable `refit` chooses for `n_averaged=1`; until then the estimators of all
        candidates are kept.

    storage : str, path-like or optuna.storages.BaseStorage, default=None
        Where each evaluation, a candidate on a split, is kept as soon as it is
        finished, by the worker: the url of a database (SQLite, PostgreSQL, MySQL), the
        path of a journal file, which several machines may share, or a storage of
        Optuna. The same call with the same storage then resumes where another one has
        stopped; it may have more candidates (`n_iter`) or further, larger `sizes`.
        None means that nothing is kept; in either case a temporary directory is used
        as long as `fit` runs. Needs the extra `storage`.

    study_name : str, default="iis"
        The name of the studies in the storage, one per stage:
        "<study_name>: stage 0" and so on. Different searches need different names.

    timeout : float, default=None
        Seconds for the whole of `fit`. When a stage begins, it gets its share of what
        is left, by what its candidates cost: of pixels, epochs and the fraction of a
        `SubsetEstimator`, and of what was measured, once two stages were. It goes on
        until it has a result, and promotes what it has found by then. "ladder" and
        "fabolas" have no shares. The last stage leaves time for the fit of the best
        candidate on all data. Evaluations that are under
        way when the time is up are given up if they train a `CNNClassifier`, or
        anything else that asks :func:`~sklearn_iis.current_monitor`, and otherwise
        finished. What is computed once for a stage, such as features, ends between two
        chunks of at most 256 samples, after the first one.

    trial_timeout : float, default=None
        Seconds for one fit of an evaluation; for that in each stage if weights are
        inherited. A candidate that takes longer fails, and is not evaluated on further
        splits. A `CNNClassifier` stops between two batches; other estimators fit to
        their end.

    patience : int, list of int or None, default=None
        A stage ends after so many candidates in a row that are no better than the best
        one of the stage before them, one number for all stages or one for each; None
        means that it goes on. They are counted in the order in which they were begun,
        and what was begun later is left out of `cv_results_`, so that the end does not
        depend on who is first. The candidates that a stage leaves go to the next one,
        and so does its time. "hyperband", "ladder" and "fabolas" cannot have it.

    patience_seconds : float, list of float or None, default=None
        The same in seconds since the best candidate of a stage was found. What is under
        way then is finished, and counts.

    pruner : "median" or optuna.pruners.BasePruner, default=None
        What stops the training of hopeless candidates by the validation scores of each
        epoch, which a `CNNClassifier` with `early_stopping` tells, compared with those
        of all evaluations of the stage. What was learned until then is scored,
        ranks behind all candidates that were not stopped, and is marked in the column
        `pruned`. With several workers the results depend on which of them is first.
        "median" is Optuna's `MedianPruner`. Needs the extra `storage`.

    trials_per_gpu : int, default=1
        How many evaluations may be on a GPU at once, those of other processes of the
        user on the machine among them. Each estimator with a parameter `device="auto"`,
        such as that of `CNNClassifier`, takes a slot on the GPU with the fewest, and
        waits if there is none; other devices are left alone.

    on_error : {"raise", "skip", "list"}, default="raise"
        What becomes of files that cannot be read as images, if the estimator is a
        pipeline that begins with an :class:`~sklearn_iis.ImageResizer`, and X holds
        paths, encoded images or images of Pillow's. None in the place of an image is
        one that cannot be read. All are read once, before the first stage. "raise" is
        an error that names them all; "skip" leaves them out, with a warning, and with
        them their rows of y and of what else is split along with X; "list" leaves them
        out without a warning. Either way they are in `unreadable_`. `cv`, unless
        it is a number or None, splits X as it was given; what is left out, and a split
        of which then nothing is left to train or to test on, is taken out afterwards.

    Attributes
    ----------
    cv_results_ : dict of str to ndarray or list
        All candidates of all stages in scikit-learn's format, with these columns
        besides: `stage`, the index of the stage; `size`; `promoted`, whether the
        candidate comes from the stage before; `error`, the traceback of a candidate
        that failed, or None; with a pruner, `pruned`; and what columns the search adds.
        Ranks are those among all candidates; what failed ranks last.

    unreadable_ : dict of int to str
        The index in `X` of each file that was left out as it cannot be read, and why;
        see `on_error`.

    stages_ : list of BaseSearchCV
        The search of each stage. Its `cv_results_` are in the units of the user, and
        its `candidates_` are those of the same rows in codes.

    spaces_ : list of SearchSpace
        What each stage searched.

    sizes_ : list
        The size of each stage; None without sizes.

    best_estimator_ : estimator object
        The estimator with the best hyperparameters, fitted on all data. With
        `n_averaged`, a :class:`~sklearn.ensemble.VotingClassifier` or
        :class:`~sklearn.ensemble.VotingRegressor` of fitted estimators, which another
        `fit` does not change: `named_estimators_["candidate3_split0"]` is that of row 3
        of `cv_results_` on the first split. Not available if `refit=False`.

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
        Seconds of the last fit, or of averaging.

    multimetric_ : bool
        Whether there are several metrics.

    classes_ : ndarray of shape (n_classes,)
        Class labels, if the estimator is a classifier and was refitted.

    n_features_in_ : int
        Number of features, if the best estimator knows it.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of features, if the best estimator knows them.

    Raises
    ------
    ValueError
        By `fit`: if a parameter does not fit the others, the space names a parameter
        that the estimator does not have, or every candidate of a stage fails. In the
        last case `cv_results_` and the attributes of the stages have what there was.
        With `n_averaged`: if `refit` is False, there are several targets, or a split
        has not all classes among its training samples; if the best candidate was
        pruned, or the classes of fitted estimators are others than those of y.
        If the studies in the storage were begun by another call; it names what differs.

    TypeError
        By `fit`: if the estimator is neither a regressor nor a classifier with
        `predict_proba`, and there is `n_averaged`.

    TimeoutError
        By `fit`: if no candidate was evaluated before the `timeout`.

    OSError
        By `fit`: if the storage cannot be read or written; what is in it is kept. If
        files of X cannot be read as images: it names all, see `on_error`.

    KeyboardInterrupt
        By `fit`: if it was interrupted. `cv_results_`, the attributes of the stages and
        `best_params_` then tell of the candidates that were evaluated on all splits.
        With `inherit_weights` or `n_averaged`, `best_estimator_` averages what the best
        of them have left, as `n_averaged` does.

    Notes
    -----
    The first steps of a pipeline, such as an `ImageResizer` and whatever takes frozen
    features of its images, are computed once per stage, by the process of the search,
    for all candidates and splits and for the last fit. That goes for steps that say by
    their tag `requires_fit=False` that they learn nothing, up to the first one that is
    searched, takes parameters of `fit`, or does not give an array of numbers with a row
    for each sample. Some samples are tried alone as well: a step that then makes
    something else of them looks at other samples, those of the test data among them,
    and it is left to the candidates with all that follow.

    What comes out is kept in a file: beside the storage if that is a file
    (`<file>.prepared`), until `fit` ends, so that another call finds it after a kill;
    otherwise in the temporary directory. Evaluations skip these steps: a scorer gets
    a pipeline with "passthrough" in their places, and X as it comes out of them. (An
    `ImageResizer` by itself stays, with nothing left to do.) `best_estimator_` has all
    its steps.

    References
    ----------
    .. [1] T. Hinz, N. Navarro-Guerrero, S. Magg, S. Wermter, "Speeding up the
       Hyperparameter Optimization of Deep Convolutional Neural Networks", International
       Journal of Computational Intelligence and Applications 17(2), 2018.
       :arxiv:`1807.07362`
    .. [2] M. Tan, Q. V. Le, "EfficientNetV2: Smaller Models and Faster Training", ICML
       2021, section 4. :arxiv:`2104.00298`

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

    estimator: Any
    space: Any
    _: KW_ONLY
    sizes: Any = None
    stage_params: dict[str, Any] | None = None
    inherit_weights: bool = False
    n_iter: Any = "auto"
    search: Any = "random"
    search_params: dict[str, Any] | None = None
    initial_candidates: Any = None
    constraint: Any = None
    size_param: str | None = None
    keep: float = 0.25
    margin: float = 0.1
    floor: float = 0.2
    n_promoted: int = 3
    size_dependent: Any = None
    select: str = "best"
    scoring: Any = None
    n_jobs: int | None = None
    refit: Any = True
    cv: Any = None
    verbose: int = 0
    pre_dispatch: int | str | None = None
    random_state: Any = None
    error_score: Any = np.nan
    return_train_score: bool = False
    n_averaged: int | None = None
    storage: Any = StorageParam()  # noqa: RUF009
    study_name: str = "iis"
    timeout: float | None = None
    trial_timeout: float | None = None
    patience: Any = None
    patience_seconds: Any = None
    pruner: Any = None
    trials_per_gpu: int = 1
    on_error: str = "raise"

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseSearchCV._parameter_constraints,
        "space": [dict, list, SearchSpace],
        "sizes": ["array-like", None],
        "stage_params": [dict, None],
        "inherit_weights": ["boolean"],
        "n_iter": [
            Interval(Integral, 1, None, closed="left"),
            "array-like",
            StrOptions({"auto"}),
            None,
        ],
        "search": [StrOptions(set(SEARCHES)), callable],
        "pre_dispatch": [Integral, str, None],
        "search_params": [dict, None],
        "initial_candidates": [list, tuple, None],
        "constraint": [callable, None],
        "size_param": [str, None],
        "keep": [Interval(Real, 0, 1, closed="right")],
        "margin": [Interval(Real, 0, 1, closed="both")],
        "floor": [Interval(Real, 0, 1, closed="both")],
        "n_promoted": [Interval(Integral, 0, None, closed="left")],
        "size_dependent": ["array-like", None],
        "select": [StrOptions({"best", "last"})],
        "random_state": ["random_state"],
        "n_averaged": [Interval(Integral, 1, None, closed="left"), None],
        "storage": "no_validation",
        "study_name": [str],
        "timeout": [Interval(Real, 0, None, closed="neither"), None],
        "trial_timeout": [Interval(Real, 0, None, closed="neither"), None],
        "patience": [Interval(Integral, 1, None, closed="left"), list, tuple, None],
        "patience_seconds": [
            Interval(Real, 0, None, closed="neither"),
            list,
            tuple,
            None,
        ],
        "pruner": [StrOptions({"median"}), HasMethods("prune"), None],
        "trials_per_gpu": [Interval(Integral, 1, None, closed="left")],
        "on_error": [StrOptions({"raise", "skip", "list"})],
    }

    # Parameters that change no score.
    score_neutral_params: ClassVar[tuple[str, ...]] = (
        *("storage", "study_name", "timeout", "trial_timeout", "pre_dispatch"),
        *("trials_per_gpu", "on_error"),
    )

    def __getstate__(self):
        # Once it is fitted, it is kept rather than sent to a worker.
        state = super().__getstate__()
        url = getattr(self.storage, "url", self.storage)  # of Optuna's RDBStorage
        if isinstance(url, str) and hasattr(self, "n_splits_"):
            state = state | {"storage": hide_password(url)}
        return state

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags = deepcopy(get_tags(self.estimator).target_tags)
        return tags

    @fit_context(
        # IISSearchCV.estimator is not validated yet
        prefer_skip_nested_validation=False
    )
    def fit(self, X, y=None, **params):
        """Search stage by stage, then fit the best candidate on all data, or average.

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
        call = FitCall(self, X, y, params, self.on_error)
        space, plan = self._check_call(call)
        with workspace() as directory, ExitStack() as stack:
            with running_executor(self.n_jobs) as executor:
                run = Run(call, space, plan, executor, directory, stack)
                self._begin(run)
                self.unreadable_ = call.readable.unreadable
                with self._delivering_best(run):
                    exhaust(self._run_stages(run))
            with self._delivering_best(run):
                self._finish(run)
        return self

    def score(self, X, y=None, **params):
        """Return the score of the best candidate, by the metric that guides the search.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...) or sequence of length n_samples
            What the estimator takes.

        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Targets.

        **params : dict of str to object
            Parameters for the scorer.

        Returns
        -------
        score : float
            By the only metric. Of several, by the one that `refit` names; if that is a
            callable, by the first one.
        """
        return score_best(self, X, y, params)

    def _check_call(self, call):
        """Return space and stages of a call; raise an error if something is wrong."""
        space = self._make_space()
        # Wrong ones are an error at once, whatever is drawn for what they lack.
        initial = self._fill_initial(space, 0)
        plan = self._plan_stages(space, call.X, initial)
        self._check_averaging(call)
        if self.inherit_weights:
            check_heirs(clone(self.estimator).set_params(**plan.fixed[0]))
            call.climbs = True
        return space, plan

    def _begin(self, run):
        """Open what a fit needs."""
        run.studies = self._open_studies(run)
        run.kept = self._make_best_estimators(run)
        run.inheritance = self._make_inheritance(run)
        run.call.begin_callbacks(len(run.plan.steps))
        self._forget()
        self.n_splits_ = len(run.call.splits)

    def _finish(self, run):
        """Choose the best candidate, and fit it on all data, or average."""
        run.call.finish(self._select_best, None if self._fits_at_last else run.kept)
        run.remove_files()

    def _check_averaging(self, call):
        """Raise an error if there is nothing that can be averaged."""
        if self.n_averaged is None:
            return
        if not self.refit:
            raise ValueError(
                f"n_averaged={self.n_averaged} makes best_estimator_, and refit="
                f"{self.refit!r} means that there is none"
            )
        if callable(self.refit) and self.n_averaged > 1:
            raise ValueError(
                f"n_averaged={self.n_averaged} needs a ranking of the candidates, and "
                "a callable refit chooses only the best one: name a metric, or set "
                "n_averaged=1"
            )
        check_averaging(self.estimator, call.y, call.splits)

    def _make_best_estimators(self, run):
        """Return what keeps those to be averaged, or to be had after an interrupt."""
        if self.n_averaged is None and not (self.inherit_weights and self.refit):
            return None
        return BestEstimators(
            run.make_directory("fitted"),
            self.n_averaged or 1,
            last_only=self.select == "last" and not callable(self.refit),
            keeps_all=callable(self.refit) and self.n_averaged is not None,
        )

    def _make_inheritance(self, run):
        """Return how candidates inherit weights, if they do.

        The files are kept beside the storage, if that is a file, for another call.
        """
        if not self.inherit_weights:
            return None
        directory = self._make_lasting_directory(run, "weights")
        if directory is None:
            directory = run.make_directory("weights")
        return Inheritance(EstimatorFiles(directory), run.plan.n_stages)

    def _make_lasting_directory(self, run, kind):
        """Return a directory beside the storage; None if there can be none."""
        return None if self.storage is None else run.studies.make_directory(kind)

    @contextmanager
    def _delivering_best(self, run):
        """Set what is known of the best candidate if `fit` is interrupted."""
        try:
            yield
        except KeyboardInterrupt:
            with suppress(Exception):  # the interrupt is to be told
                self._check_metrics()  # the stage did not come to its end
                if run.kept is None:
                    run.call.select_best(self._select_best)
                else:
                    run.call.deliver_best(self._select_best, run.kept)
            raise

    @property
    def _fits_at_last(self):
        return bool(self.refit) and self.n_averaged is None

    @property
    def _select_best(self):
        """Function that finds the best candidate for a metric; None for the usual."""
        return self._find_best_of_last if self.select == "last" else None

    def _run_stages(self, run):
        """Search stage after stage while there is time; yield where it may pause."""
        rng = check_random_state(self.random_state)
        self.sizes_, self.stages_, self.spaces_ = run.plan.sizes, [], []
        space, promoted = run.space, []
        with ExitStack() as stack:
            if self.verbose and run.bars is None:
                seconds = math.inf if self.timeout is None else self.timeout
                progress = StageProgress(run.call.begin + seconds)
                run.bars = stack.enter_context(progress)
            for stages in run.plan.steps:
                promoted = promoted[: run.plan.budgets[stages[0]]]
                random_state = rng.randint(2**31 - 1)
                try:
                    yield from self._run_step(
                        run, stages, space, promoted, random_state
                    )
                except NothingFinishedError as error:
                    self._end_early(run, stages[0], error)
                    break
                self._check_metrics()
                rows = np.isin(self.cv_results_["stage"], stages)
                report_stage(self.cv_results_, run.plan.name(*stages), rows)
                if stages[-1] < run.plan.n_stages - 1:
                    space, promoted = self._promote(space, self.stages_[-1].cv_results_)
                    yield

    def _run_step(self, run, stages, space, promoted, random_state):
        """Run the search of a stage, or of several, and add its results.

        Yields where it may pause. Closed there, it adds what was complete.
        """
        search, recorder = self._begin_step(run, stages, space, promoted, random_state)
        run.deadline = run.plan.make_deadline(
            stages[-1],
            math.inf if self.timeout is None else run.call.begin + self.timeout,
            refit_ratio=run.call.refit_ratio if self._fits_at_last else 0.0,
            climbs=self.inherit_weights,
            fit_times=run.fit_times,
        )
        run.deadline.least_reserve = run.least_reserve
        is_own = isinstance(search, Search)
        with (
            TemporaryDirectory(
                dir=run.directory, ignore_cleanup_errors=True
            ) as directory,
            run.call.task(
                run.plan.name(*stages),
                max_subtasks=None,
                sequential_subtasks=not is_own and takes_callbacks(search),
            ) as context,
        ):
            job = run.call.make_job(
                space,
                self._make_fidelities(run, stages, space, search),
                trial_timeout=self.trial_timeout,
                trials_per_gpu=self.trials_per_gpu,
                checkpoints=Checkpoints(directory),
                inheritance=run.inheritance,
                kept=None if run.kept is None else run.kept.files,
                recorder=recorder,
            )
            to_run = Stage(job, run.executor, directory, context, run.deadline)
            to_run.pre_dispatch = self.pre_dispatch
            to_run.patience = Patience(*run.plan.patience[stages[0]])
            to_run.can_prune = self.pruner is not None
            to_run.listeners = self._list_listeners(
                run, stages, search, to_run.patience
            )
            if run.inheritance is not None:
                to_run.heirs = run.heirs
            try:
                if is_own:
                    yield from search.run_stage(to_run)
                else:
                    first = run.initial if stages[0] == 0 else []
                    ForeignStage(search, to_run).run(first)
            finally:
                if run.kept is not None:
                    run.kept.drop(to_run.patience.list_left_out())
                # Also what was evaluated before an interrupt.
                self._add_results(run, search, space, promoted)
            if to_run.patience.has_ended:
                run.plan.hand_on(stages[0], len(search.candidates_))

    def _make_fidelities(self, run, stages, space, search):
        """Return the parameters and data of stages, of those before if inherited."""
        made = run.call.fidelities
        before = dict(made) if self.inherit_weights else {}
        for stage in stages:
            fixed = run.plan.fixed[stage]
            prepared = self._prepare(run, stage, space, search)
            if prepared is None:
                made[stage] = Fidelity(run.call.X, fixed)
            else:
                run.call.prepared[stage] = prepared
                made[stage] = Fidelity(prepared.open(), fixed, prepared.skipped)
        return before | {stage: made[stage] for stage in stages}

    def _prepare(self, run, stage, space, search):
        """Return X after the steps that need no candidate; None if there are none."""
        call, name = run.call, run.plan.name(stage)
        steps = self._find_steps(call, run.plan.fixed[stage], space, search)
        if not steps:
            return None
        if run.prepared_in is None:
            lasting = self._make_lasting_directory(run, "prepared")
            own = run.stack.enter_context(claimed(lasting))
            run.prepared_in = own or run.make_directory("prepared")
        shown = []
        if run.bars is not None:
            text = f"{run.label}preparing {name}"
            shown = [run.bars.add_preparation(text, call.n_samples)]

        def report(n_done):
            for show in shown:
                show(n_done)
            if n_done < call.n_samples and run.is_late_to_prepare:
                raise NothingPreparedError(
                    f"what is computed once for {name} was ready for {n_done} of "
                    f"{call.n_samples} samples"
                )

        try:
            prepared = prepare(call.X, call.y, steps, run.locate_prepared, report)
        except Exception as error:
            error.add_note(f"This was to be computed once for all of {name}.")
            raise
        for show in shown:  # it may have found nothing to compute
            show(call.n_samples)
        return prepared

    def _find_steps(self, call, fixed, space, search):
        """Return the leading steps that do the same for all candidates of a stage."""
        settings = (self.search_params or {}).values()
        steps = find_stateless(
            self.estimator,
            fixed,
            # Hyperband's resource may be a parameter of such a step.
            {*space.names, *(value for value in settings if isinstance(value, str))},
            {*call.routed.estimator.fit, *call.routed.scorer.score},
        )
        if not isinstance(search, Search):
            # Its candidates may have whatever parameters.
            steps = [step for step in steps[:1] if isinstance(step[1], ImageResizer)]
        return steps

    def _list_listeners(self, run, stages, search, patience):
        """Return what is called with each row that is complete."""
        listeners = [*run.listeners]
        if run.bars is not None:
            name = f"{run.label}{run.plan.name(*stages)}"
            n_rows = getattr(search, "n_evaluations", None)
            listeners.append(run.bars.add_stage(name, n_rows))
        if run.kept is not None:
            listeners.append(run.kept.add)
        if run.inheritance is not None:
            listeners.append(run.heirs.end_climb)
        if run.inheritance is not None and len(stages) == 1:
            promotable = Promotable(run.heirs, self.n_promoted, patience)
            listeners.append(promotable.add)
        return listeners

    def _add_results(self, run, search, space, promoted):
        """Add the results of a search to those of the stages before."""
        crosses = getattr(search, "crosses_stages", False)
        for found in search.list_stages() if crosses else [search]:
            if hasattr(found, "cv_results_"):
                self.stages_.append(found)
                self.spaces_.append(space)
                run.promoted.append(promoted)
                promoted = found.candidates_
        if self.stages_:
            self.cv_results_ = combine_results(
                self.stages_, run.plan.sizes, run.promoted
            )
            if crosses:
                self.sizes_ = run.plan.sizes[: len(self.stages_)]

    def _begin_step(self, run, stages, space, promoted, random_state):
        """Return the search of stages, and what records its evaluations."""
        if run.studies is not None:
            random_state = run.studies.keep_random_state(stages[0], random_state)
        initial = distinct(map(space.active, promoted))
        if stages[0] == 0:
            initial = run.initial = self._fill_initial(space, random_state)
        search = self._make_search(
            space,
            run.plan,
            stages,
            initial_candidates=initial,
            random_state=random_state,
        )
        if run.studies is None:
            return search, None
        recorder, known, search.random_state = run.studies.begin_stages(
            stages,
            space,
            promoted=initial,
            random_state=random_state,
            is_deterministic=getattr(search, "is_deterministic", True),
        )
        if isinstance(search, Search) and not search.replans_on_budget_change:
            search.initial_candidates = distinct([*initial, *known])
        return search, recorder

    def _end_early(self, run, stage, error):
        """Go on with the stages there are, if there are any."""
        limit, advice = f"timeout={self.timeout} seconds were", "allow for more"
        if not run.deadline.is_over:
            limit = f"its share of timeout={self.timeout} seconds was"
            advice = "raise `timeout`, or its part of the `shares`"
        is_unprepared = isinstance(error, NothingPreparedError)
        detail = error if is_unprepared else run.plan.name(stage)
        message = f"{limit} up before a candidate was evaluated ({detail})"
        if not self.stages_:
            raise NothingFinishedError(f"{message}: {advice}") from error
        warnings.warn(message, UserWarning, stacklevel=4)
        self.sizes_ = run.plan.sizes[:stage]

    def _open_studies(self, run):
        """Return the studies that the search is kept in; None without storage."""
        storage = self.storage
        if storage is None and self.pruner is not None:
            storage = os.path.join(run.directory, "search.journal")
        if storage is None:
            return None
        try:
            from sklearn_iis.storage import SearchStudies, make_pruner, open_storage
        except ImportError as error:
            raise ImportError(
                "storage and pruner need Optuna, which cannot be imported "
                f"({error}); to install it: pip install 'sklearn-iis[storage]'"
            ) from error
        call = run.call
        studies = SearchStudies(
            open_storage(storage),
            self.study_name,
            data={
                "X": describe_data(call.X),
                "y": describe_data(call.y),
                "the splits": describe_data(call.splits),
                **{f"parameter {k}": describe_data(v) for k, v in call.params.items()},
            },
            call=self._describe_call(run.space, run.plan),
            settings=self._describe_settings(),
            sizes=run.plan.described_sizes,
            budgets=run.plan.budgets,
            space=run.space,
            pruner=make_pruner(self.pruner),
        )
        studies.check()
        return studies

    def _describe_call(self, space, plan):
        """Return what scores depend on besides data, candidate and size."""
        return {
            **describe_space(space),
            **describe_params(
                self.estimator, {*space.common_names, plan.size_param, *plan.params}
            ),
            "scoring": describe(self.scoring),
            "error_score": describe(self.error_score),
            "return_train_score": describe(self.return_train_score),
            **self._describe_routing(),
            **({"inherit_weights": "True"} if self.inherit_weights else {}),
        }

    def _describe_routing(self):
        if not is_routing_enabled():
            return {}
        return {
            "the metadata routing": describe(self.get_metadata_routing()._serialize())
        }

    def _describe_settings(self):
        """Return what the candidates depend on, besides sizes and budgets."""
        names = ["search", "size_param", "keep", "margin", "floor", "n_promoted"]
        names += ["size_dependent", "pruner"]
        names += [
            name
            for name in ("initial_candidates", "patience")
            if getattr(self, name) is not None
        ]
        if isinstance(self.random_state, Integral):
            names.append("random_state")
        guide = self.refit if isinstance(self.refit, str) else None
        return {name: describe(getattr(self, name)) for name in names} | {
            "search_params": describe(self.search_params or None),
            "the metric to refit by": describe(guide),
        }

    def _forget(self):
        """Drop what another fit has found: this one may end before it finds it."""
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)

    def _make_space(self):
        space = (
            self.space
            if isinstance(self.space, SearchSpace)
            else SearchSpace(self.space)
        )
        space.check_names(self.estimator)
        if self.constraint is not None:
            space = space.constrain(self.constraint)
        if unknown := set(self._find_size_dependent(space)) - set(space.names):
            raise ValueError(
                f"size_dependent names {sorted(unknown)}, but the hyperparameters are "
                f"{sorted(space.names)}"
            )
        return space

    def _fill_initial(self, space, random_state):
        """Return the user's candidates in codes, with what is missing drawn."""
        rng = np.random.RandomState([random_state, 1])  # not what the search draws
        return fill_candidates(space, self.initial_candidates, rng)

    def _plan_stages(self, space, X, initial=()):
        """Return the plan of the stages; raise an error if a budget is too small."""
        size_param, sizes, params = plan_sizes(
            self.estimator,
            space.names,
            X,
            sizes=self.sizes,
            size_param=self.size_param,
            stage_params=self.stage_params,
        )
        make_search = get_search(self.search)
        crosses = getattr(make_search, "crosses_stages", False)
        factor = self._find_factor() if crosses else None
        n_iter = self._default_n_iter(make_search, space, len(sizes), initial)
        budgets = split_budget(n_iter, len(sizes), factor)
        if None in budgets and self.timeout is None:
            raise ValueError(
                f"n_iter={self.n_iter!r} means as many candidates as there is time "
                "for: set a timeout, or a number of candidates"
            )
        if budgets[0] is not None and len(initial) > budgets[0]:
            raise ValueError(
                f"initial_candidates has {len(initial)} candidates, and the budget of "
                f"the first stage is {budgets[0]}: raise n_iter={self.n_iter!r}"
            )
        patience = check_patience(self.patience, self.patience_seconds, len(sizes))
        plan = StagePlan(size_param, sizes, budgets, params, crosses, patience)
        for stages in plan.steps:
            first = initial if stages[0] == 0 else []
            self._make_search(space, plan, stages, initial_candidates=first)
        return plan

    def _find_factor(self):
        """Return one of how many candidates is promoted."""
        factor = (self.search_params or {}).get("factor", 3)
        # The search tells of another one that it is wrong.
        return factor if isinstance(factor, Integral) and factor > 1 else 3

    def _default_n_iter(self, make_search, space, n_stages, initial):
        """Return the number of candidates; None for as many as there is time for."""
        if not isinstance(self.n_iter, str):
            return self.n_iter
        if hasattr(make_search, "least_n_iter"):
            params = self.search_params or {}
            search = make_search(
                self.estimator, space, n_iter=1, initial_candidates=initial, **params
            )
            # The first stage has a share of n_stages / (1 + ... + n_stages).
            least = math.ceil(search.least_n_iter * (n_stages + 1) / 2)
            return max(least, DEFAULT_N_ITER)
        is_unlimited = getattr(make_search, "is_unlimited", False) or (
            isinstance(self.search, type) and issubclass(self.search, Sampler)
        )
        return None if self.timeout is not None and is_unlimited else DEFAULT_N_ITER

    def _make_search(
        self, space, plan, stages, *, initial_candidates=(), random_state=None
    ):
        """Return the search of a stage, or of several, checked."""
        make_search = get_search(self.search)
        # Searches of others do not know what None means.
        queue = {} if self.pre_dispatch is None else {"pre_dispatch": self.pre_dispatch}
        search = make_search(
            self.estimator,
            space,
            n_iter=plan.budgets if plan.crosses else plan.budgets[stages[0]],
            initial_candidates=[*initial_candidates],
            scoring=self.scoring,
            cv=self.cv,
            n_jobs=self.n_jobs,
            refit=False,
            random_state=random_state,
            error_score=self.error_score,
            return_train_score=self.return_train_score,
            **queue,
            **(self.search_params or {}),
        )
        if isinstance(search, Search):
            search.fixed_params = plan.fixed[stages[0]]
            search.stage_work = [plan.work[stage] for stage in stages]
            search.is_first_stage = stages[0] == 0
            search.check_budget()
        self._check_search(search, space, plan.budgets[stages[0]])
        return search

    def _check_search(self, search, space, n_iter):
        """Raise an error if a search cannot do what is asked for."""
        name = type(search).__name__
        if not isinstance(search, Search):
            check_adaptable(search)
            if space.constraint is not None:
                raise ValueError(
                    f"a constraint does not go with {name}, which proposes candidates "
                    "by itself: use a search by its name, or a Sampler"
                )
            if n_iter is None:
                raise ValueError(
                    f"{name} needs a number of candidates, n_iter: only the searches "
                    "of sklearn_iis.searches go on until the time is up"
                )
            return
        if self.inherit_weights and not search.can_inherit:
            raise ValueError(
                f"inherit_weights=True does not go with {name}, whose candidates do "
                'not go from one size to the next: use search="ladder"'
            )
        for limit in ("patience", "patience_seconds"):
            if getattr(self, limit) is not None and not search.can_end_early:
                raise ValueError(
                    f"{limit} does not go with {name}, which compares candidates of "
                    "several sizes or resources, and decides by itself which go on: "
                    "leave it out, or use another search"
                )

    def _check_metrics(self):
        metrics = metric_names(self.cv_results_)
        self.multimetric_ = self.stages_[-1].multimetric_
        if self.multimetric_:
            # The metrics of a callable are not known before.
            self._check_refit_for_multimetric(metrics)

    def _promote(
        self, space: SearchSpace, results: dict[str, Any]
    ) -> tuple[SearchSpace, list[Candidate]]:
        """Return the space of the next stage, and the candidates promoted to it."""
        candidates = self.stages_[-1].candidates_
        ranks = results[f"rank_test_{metric_names(results)[0]}"]
        finished = np.flatnonzero(results["error"] == None)  # noqa: E711
        ranked = finished[np.argsort(ranks[finished], kind="stable")]
        # A candidate may have been evaluated with several resources.
        best = distinct(candidates[i] for i in ranked)
        narrowed = space.narrow(
            best[: math.ceil(self.keep * len(best))],
            margin=self.margin,
            floor=self.floor,
            size_dependent=self._find_size_dependent(space),
        )
        if self.inherit_weights:
            # Another candidate would have other weights.
            promoted = [codes for codes in best if narrowed.project(codes) == codes]
        else:
            moved = distinct(narrowed.project(codes) for codes in best)
            promoted = [codes for codes in moved if narrowed.allows(codes)]
        return narrowed, promoted[: self.n_promoted]

    def _find_size_dependent(self, space):
        if self.size_dependent is not None:
            return self.size_dependent
        return [n for n in space.names if n.rpartition("__")[2] == SIZE_DEPENDENT]

    def _find_best_of_last(self, metric):
        """Return the index of the best candidate of the last stage."""
        last = np.flatnonzero(self.cv_results_["stage"] == len(self.stages_) - 1)
        return last[self.cv_results_[f"rank_test_{metric}"][last].argmin()]


@dataclass
class Run:
    """A fit under way: what all its stages share."""

    call: FitCall
    space: SearchSpace
    plan: StagePlan
    executor: Executor
    # For temporary files.
    directory: str
    # Left when the fit ends.
    stack: ExitStack
    # What progress bars begin with, and what is called with each row that is complete.
    label: str = ""
    listeners: Sequence[Callable[[Row], None]] = ()
    studies: Any = None
    bars: StageProgress | None = None
    kept: BestEstimators | None = None
    inheritance: Inheritance | None = None
    # The directory of prepared data, once there are some.
    prepared_in: str | None = None
    # The deadline of the stage that is run, and what leaves time for another search.
    deadline: Deadline = field(default_factory=Deadline)
    least_reserve: Callable[[], float] | None = None
    # By when, by the monotonic clock, what is computed once for a stage has to be
    # ready, where another search would not have its turn otherwise.
    prepares_until: Callable[[], float] | None = None
    # Seconds of the fits of each stage.
    fit_times: dict[int, list[float]] = field(default_factory=dict)
    promoted: list[list[Candidate]] = field(default_factory=list)
    # The user's candidates, complete.
    initial: list[Candidate] = field(default_factory=list)

    @cached_property
    def heirs(self) -> Heirs:
        """The candidates whose weights are kept."""
        assert self.inheritance is not None
        return Heirs(self.inheritance.files)

    @property
    def is_late_to_prepare(self) -> bool:
        """Whether there is no time left for what is computed once for a stage."""
        until = math.inf if self.prepares_until is None else self.prepares_until()
        return self.deadline.is_over or time.monotonic() > until

    def make_directory(self, name: str) -> str:
        """Make a directory that is removed when the fit ends, however it does."""
        return mkdtemp(prefix=name, dir=self.directory)

    def locate_prepared(self, steps: Sequence[tuple[str, Any]]) -> str:
        """Return the path of what these steps make of X, the same in another call."""
        assert self.prepared_in is not None
        described = [[type(step).__module__, describe(step)] for _, step in steps]
        name = digest([sklearn_iis.__version__, described])
        return os.path.join(self.prepared_in, f"{name}.npy")

    def remove_files(self) -> None:
        """Remove what was kept for another call, in case that this one is killed."""
        if self.inheritance is not None:
            remove_directory(self.inheritance.files.directory)
        if self.prepared_in is not None:
            remove_directory(self.prepared_in)
