"""SubsetEstimator: a fit to a fraction of the training samples."""

import math
from copy import deepcopy
from numbers import Real

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone, is_classifier
from sklearn.utils import (
    assert_all_finite,
    check_random_state,
    get_tags,
    indexable,
)
from sklearn.utils.metadata_routing import (
    MetadataRouter,
    MethodMapping,
    process_routing,
)
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_is_fitted

from sklearn_iis._sklearn_compat import (
    HasMethods,
    Interval,
    count_samples,
    fit_context,
    is_routing_enabled,
    select_params,
    take_samples,
)

# By how much a product of floats may exceed the whole number that it stands for.
ROUNDING = 1e-9


def _estimator_has(method):
    """Return a check of whether the estimator, fitted or not, has a method."""

    def check(self):
        getattr(getattr(self, "estimator_", self.estimator), method)
        return True

    return check


class SubsetEstimator(MetaEstimatorMixin, BaseEstimator):
    """An estimator that is fitted to a fraction of its training samples.

    So the size of the training set is a hyperparameter: of a search by hand, of the
    stages of :class:`~sklearn_iis.IISSearchCV`, or as the resource of Hyperband. `fit`
    leaves samples out; predictions and scores are those of all samples that they are
    asked for, so that candidates with different fractions are validated on the same.

    The subset of a classifier is stratified: of each class, the part that `fraction`
    says, rounded up, so that no class is lost. With the same training samples and seed
    a smaller subset is part of each larger one.

    Parameters
    ----------
    estimator : estimator object
        What is fitted. In a pipeline, wrap the last step rather than the pipeline: what
        comes before, such as the images at their size, is then computed once per stage
        for all candidates and fractions.

    fraction : float, default=1.0
        The part of the training samples that the estimator is fitted to, above 0. With
        1.0 it gets them all, as they are.

    random_state : int, RandomState instance or None, default=0
        Determines the order in which samples join the subset. An int gives nested
        subsets, the same for all candidates; None another subset in each fit.

    Attributes
    ----------
    estimator_ : estimator object
        The fitted estimator, a clone.

    classes_ : ndarray of shape (n_classes,)
        Class labels, if the estimator is a classifier.

    n_features_in_ : int
        Number of features, if the estimator knows it.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of features, if the estimator knows them.

    Raises
    ------
    ValueError
        By `fit`: if `fraction` is not above 0 and at most 1, or X and y have different
        lengths.

    Notes
    -----
    If the `estimator` has a `warm_start` that is set, another `fit` goes on with
    `estimator_`, as the estimator by itself would: Hyperband so goes on with more
    epochs, and stages with inherited weights.

    Targets of regressors, and several targets, are not stratified.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from sklearn_iis import SubsetEstimator
    >>> X, y = load_iris(return_X_y=True)
    >>> few = SubsetEstimator(KNeighborsClassifier(), fraction=0.1).fit(X, y)
    >>> few.estimator_.n_samples_fit_  # 5 of each class
    15
    >>> few.score(X, y) > 0.9
    True
    """

    _parameter_constraints = {
        "estimator": [HasMethods(["fit"])],
        "fraction": [Interval(Real, 0, 1, closed="right")],
        "random_state": ["random_state"],
    }

    def __init__(self, estimator, fraction=1.0, random_state=0):
        self.estimator = estimator
        self.fraction = fraction
        self.random_state = random_state

    @fit_context(
        # SubsetEstimator.estimator is not validated yet
        prefer_skip_nested_validation=False
    )
    def fit(self, X, y=None, **params):
        """Fit the estimator to a subset.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...) or sequence of length n_samples
            What the estimator takes.

        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Targets.

        **params : dict of str to object
            Parameters for the estimator's `fit`; those of length n_samples lose the
            same samples as X.

        Returns
        -------
        self : SubsetEstimator
            The estimator itself.
        """
        params = self._route("fit", params)
        if self.fraction < 1:
            X, y = indexable(X, y)
            chosen = choose_subset(
                count_samples(X),
                self.fraction,
                self.random_state,
                labels=y if self._is_stratified(y) else None,
            )
            params = select_params(X, params=params, indices=chosen)
            X = take_samples(X, chosen)
            y = None if y is None else take_samples(y, chosen)
        self.estimator_ = self._begin_or_go_on().fit(X, y, **params)
        return self

    def _is_stratified(self, y):
        if y is None or not is_classifier(self):
            return False
        assert_all_finite(y, input_name="y")
        return type_of_target(y, input_name="y") in ("binary", "multiclass")

    def _begin_or_go_on(self):
        """Return what is fitted: a clone, or with `warm_start` what was fitted."""
        begun, new = getattr(self, "estimator_", None), clone(self.estimator)
        if type(begun) is type(new) and getattr(new, "warm_start", False):
            return begun.set_params(**new.get_params(deep=False))
        return new

    @available_if(_estimator_has("predict"))
    def predict(self, X):
        """Predict with the fitted estimator.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...) or sequence of length n_samples
            All samples to predict.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            The predictions.
        """
        check_is_fitted(self)
        return self.estimator_.predict(X)

    @available_if(_estimator_has("predict_proba"))
    def predict_proba(self, X):
        """Predict the probability of each class with the fitted estimator.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...) or sequence of length n_samples
            All samples to predict.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
            Classes in the order of `classes_`.
        """
        check_is_fitted(self)
        return self.estimator_.predict_proba(X)

    @available_if(_estimator_has("predict_log_proba"))
    def predict_log_proba(self, X):
        """Predict the logarithm of the probability of each class.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...) or sequence of length n_samples
            All samples to predict.

        Returns
        -------
        log_probabilities : ndarray of shape (n_samples, n_classes)
            Classes in the order of `classes_`.
        """
        check_is_fitted(self)
        return self.estimator_.predict_log_proba(X)

    @available_if(_estimator_has("decision_function"))
    def decision_function(self, X):
        """Decision function of the fitted estimator.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...) or sequence of length n_samples
            All samples to decide on.

        Returns
        -------
        decisions : ndarray of shape (n_samples,) or (n_samples, n_classes)
            The decisions.
        """
        check_is_fitted(self)
        return self.estimator_.decision_function(X)

    @available_if(_estimator_has("score"))
    def score(self, X, y=None, **params):
        """Return the score of the fitted estimator on all samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...) or sequence of length n_samples
            What the estimator takes.

        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Targets.

        **params : dict of str to object
            Parameters for the estimator's `score`.

        Returns
        -------
        score : float
            As the estimator scores by itself.
        """
        check_is_fitted(self)
        return self.estimator_.score(X, y, **self._route("score", params))

    @property
    def classes_(self):
        """Class labels."""
        return self.estimator_.classes_

    @property
    def n_features_in_(self):
        """Number of features."""
        return self.estimator_.n_features_in_

    @property
    def feature_names_in_(self):
        """Names of features."""
        return self.estimator_.feature_names_in_

    def _route(self, method, params):
        """Return the parameters of a method of the estimator."""
        if not is_routing_enabled():
            return params
        return getattr(process_routing(self, method, **params).estimator, method)

    def get_metadata_routing(self):
        """Get the routing of metadata: all go to the estimator.

        Returns
        -------
        routing : MetadataRouter
            That of `fit` and `score`.
        """
        mapping = MethodMapping()
        for method in ("fit", "score"):
            mapping.add(caller=method, callee=method)
        return MetadataRouter(owner=self).add(
            estimator=self.estimator, method_mapping=mapping
        )

    def __sklearn_tags__(self):
        """Those of the estimator."""
        return deepcopy(get_tags(self.estimator))


def choose_subset(n_samples, fraction, random_state, *, labels=None):
    """Return the samples of a subset, in their order.

    Parameters
    ----------
    n_samples : int
        The number of all.

    fraction : float
        The part of each class that is chosen, rounded up.

    random_state : int, RandomState instance or None
        Determines in which order samples join the subset.

    labels : array-like of shape (n_samples,), default=None
        The class of each; None if they are not stratified.

    Returns
    -------
    chosen : ndarray of int
        Indices.
    """
    rng = check_random_state(random_state)
    strata = np.zeros(n_samples, dtype=int)
    if labels is not None:
        _, strata = np.unique(np.ravel(labels), return_inverse=True)
    chosen = []
    for stratum in range(strata.max(initial=-1) + 1):
        # All of it is drawn, whatever the fraction is, so that subsets are nested.
        order = rng.permutation(np.flatnonzero(strata == stratum))
        chosen.append(order[: math.ceil(fraction * len(order) - ROUNDING)])
    return np.sort(np.concatenate(chosen))
