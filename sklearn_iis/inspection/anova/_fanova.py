"""Functional ANOVA by the `fanova` package, the reference implementation."""

import importlib
import logging
import types
import warnings

import numpy as np
from sklearn.utils import Bunch, check_random_state

from sklearn_iis.inspection.anova._functional_anova import (
    check_observations,
    fill_missing,
    list_subsets,
    make_result,
)

INSTALL = (
    "Its build needs SWIG 4.0: pip install swig==4.0.2 setuptools, and then "
    "pip install --no-build-isolation --no-cache-dir 'sklearn-iis[fanova]'"
)


def fanova(codes, scores, *, max_order, n_estimators, random_state) -> Bunch:
    """Decompose the variance of scores by the `fanova` package.

    It averages over the trees the shares of each tree's variance (Hutter et al. 2014).
    Arguments and result are those of :func:`functional_anova`, but `total_variance` is
    the mean of the trees', and `oob_score` is NaN, as the package does not tell it.
    Raises ImportError if the package is not installed, or was built with a SWIG that it
    does not work with.
    """
    codes, scores = check_observations(codes, scores)
    rng = check_random_state(random_state)
    n_columns = codes.shape[1]
    with warnings.catch_warnings():
        # The package uses names that ConfigSpace has changed.
        warnings.simplefilter("ignore", DeprecationWarning)
        module = _import_fanova()
        forest = module.fANOVA(
            fill_missing(codes, rng),
            scores,
            config_space=_make_cube(n_columns),
            n_trees=n_estimators,
            seed=rng.randint(np.iinfo(np.int32).max),
            max_features=max(1, 7 * n_columns // 10),
        )
    totals = np.array(forest.trees_total_variance, dtype=float)
    subsets = list_subsets(n_columns, max_order)
    variances = np.zeros((len(subsets), n_estimators))
    if totals.any():
        for subset, row in zip(subsets, variances, strict=True):
            _quantify(forest, subset)
            row[:] = forest.V_U_individual[subset]
    return make_result(subsets, variances, totals, oob_score=np.nan)


def _import_fanova():
    """Return the package's module, shielded from numpy and logging and vice versa."""
    try:
        module = importlib.import_module("fanova.fanova")
    except ImportError as error:
        raise ImportError(
            f"engine='fanova' needs the extra `fanova`. {INSTALL}"
        ) from error
    # numpy dropped the alias in version 1.24.
    module.np = _Shielded(np, float=float)
    # It would set up the root logger, and it warns that columns have an order.
    module.logging = _Shielded(logging, basicConfig=lambda **_: None)
    logging.getLogger("fanova").setLevel(logging.ERROR)
    return module


def _quantify(forest, subset):
    try:
        forest.quantify_importance(subset)
    except AttributeError as error:
        if "SwigPyObject" not in str(error):
            raise
        raise ImportError(
            f"pyrfr was built with another SWIG than 4.0. {INSTALL}"
        ) from error


class _Shielded(types.ModuleType):
    """A module as one other module sees it, with some names of its own."""

    def __init__(self, module, **names):
        super().__init__(module.__name__)
        self.__dict__.update(names)
        self._module = module

    def __getattr__(self, name):
        return getattr(self._module, name)


def _make_cube(n_columns):
    from ConfigSpace import ConfigurationSpace, UniformFloatHyperparameter

    cube = ConfigurationSpace()
    # Sorted by name.
    cube.add(
        UniformFloatHyperparameter(f"column {i:05d}", 0.0, 1.0)
        for i in range(n_columns)
    )
    return cube
