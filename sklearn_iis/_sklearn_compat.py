"""All that the package uses of scikit-learn's private modules.

Each minor version of scikit-learn may change it, hence the bound in `setup.cfg`.
"""

from contextlib import contextmanager
from copy import copy

from sklearn.base import _fit_context as fit_context
from sklearn.model_selection._search import BaseSearchCV
from sklearn.model_selection._search import (
    _yield_masked_array_for_each_param as yield_masked_arrays,
)
from sklearn.tree._tree import Tree
from sklearn.utils import _safe_indexing as take_samples
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    Options,
    StrOptions,
    validate_params,
)
from sklearn.utils._set_output import _get_container_adapter as get_table_adapter
from sklearn.utils.metadata_routing import _routing_enabled as is_routing_enabled
from sklearn.utils.metaestimators import _safe_split as split_safely
from sklearn.utils.validation import (
    _check_feature_names_in as check_feature_names_in,
)
from sklearn.utils.validation import _check_method_params as select_params
from sklearn.utils.validation import _check_sample_weight as check_sample_weight
from sklearn.utils.validation import _num_samples as count_samples

__all__ = [
    "BaseSearchCV",
    "HasMethods",
    "Interval",
    "Options",
    "StrOptions",
    "Tree",
    "check_feature_names_in",
    "check_sample_weight",
    "count_samples",
    "fit_context",
    "get_table_adapter",
    "hand_on_callbacks",
    "has_callbacks",
    "is_routing_enabled",
    "list_scorers",
    "make_evaluation_context",
    "score_best",
    "select_params",
    "split_safely",
    "take_samples",
    "takes_sample_weight",
    "validate_params",
    "without_callbacks",
    "yield_masked_arrays",
]


def list_scorers(scorer):
    """Return the scorers of a multimetric one by name; {} of any other scorer."""
    return getattr(scorer, "_scorers", {})


def takes_sample_weight(scorer):
    """Return whether a scorer that was made of a metric takes weights."""
    return getattr(scorer, "_accept_sample_weight", lambda: False)()


def has_callbacks(estimator):
    """Return whether scikit-learn's callbacks are set on an estimator or its parts."""
    parts = [estimator, *estimator.get_params().values()]
    return any("_skl_callbacks" in getattr(part, "__dict__", ()) for part in parts)


def hand_on_callbacks(estimator, other):
    """Give an estimator the callbacks and the context of another one."""
    for name in ("_skl_callbacks", "_parent_callback_ctx"):
        if name in vars(estimator):
            setattr(other, name, vars(estimator)[name])


def make_evaluation_context(stage_ctx, task_id):
    """Return the callback context of an evaluation.

    It gets a parent of its own: with a common one, which knows all its children, each
    task that is pickled for a worker would hold them all.
    """
    parent = copy(stage_ctx)
    parent._children_map = {}
    return parent.subcontext(task_name="candidate-split-evaluation", task_id=task_id)


@contextmanager
def without_callbacks(estimator):
    """Take away for a while what an estimator has of the evaluation that fits it."""
    names = ("_skl_callbacks", "_parent_callback_ctx")
    own = vars(estimator)
    taken = {name: own.pop(name) for name in names if name in own}
    try:
        yield
    finally:
        own.update(taken)


def score_best(search, X, y, params):
    """Return the score of a fitted search, by the metric that guides it.

    scikit-learn takes a callable `refit` for the name of a metric, and raises a
    KeyError of it.
    """
    if callable(search.refit) and getattr(search, "multimetric_", False):
        guide = next(key for key in search.cv_results_ if key.startswith("mean_test_"))
        search = copy(search)
        search.refit = guide.removeprefix("mean_test_")
    return BaseSearchCV.score(search, X, y, **params)
