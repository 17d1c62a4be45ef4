"""A space to start from: ranges of hyperparameters that suit an estimator."""

from typing import Any

from scipy.stats import loguniform
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC, LinearSVC

from sklearn_iis.subset import SubsetEstimator

# Of scikit-learn's classifiers that suit features of pretrained networks, around the
# values with the lowest test error on those of EfficientNet-Lite0 at 64 px, each with a
# deviation of 1. These were, on flowers12 (720 training images) and cifar-small (2000):
# C of 0.1 and 0.01 (logistic regression), of 0.01 and 1e-4 (linear SVM), of 100 and 10
# with a gamma of 1e-4 (SVM), and an alpha of 1000 on both. 2026-11-29.
SPACES: dict[type, dict[str, Any]] = {
    LogisticRegression: {"C": loguniform(1e-4, 10)},
    LinearSVC: {"C": loguniform(1e-5, 0.1)},
    RidgeClassifier: {"alpha": loguniform(10, 1e5)},
    SVC: {"C": loguniform(1, 1e3), "gamma": loguniform(1e-5, 1e-3)},
}


def default_space(estimator: Any) -> dict[str, Any]:
    """Return hyperparameters to search of an estimator, with a range for each.

    A start for who has no ranges of his own: what matters most, in ranges that hold the
    good values of most data sets. The result is a dict, to be changed as you like.

    Parameters
    ----------
    estimator : estimator object
        A :class:`~sklearn_iis.CNNClassifier`, a `LogisticRegression`, `LinearSVC`,
        `RidgeClassifier` or `SVC`, a :class:`~sklearn_iis.SubsetEstimator` of one, or a
        pipeline with such steps. An estimator of your own takes part by a method
        `default_space()` that returns such a dict. Steps that are none of these have
        nothing that is searched.

    Returns
    -------
    space : dict of str to frozen scipy.stats distribution or list
        What :class:`~sklearn_iis.IISSearchCV` takes as `space`.

    Raises
    ------
    ValueError
        If there is no space for the estimator, or for any step of a pipeline.

    Notes
    -----
    The ranges of scikit-learn's classifiers suit standardised features: put a
    :class:`~sklearn.preprocessing.StandardScaler` before them. Those of `CNNClassifier`
    are told by its `default_space`.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sklearn_iis import default_space
    >>> pipe = make_pipeline(StandardScaler(), LogisticRegression())
    >>> list(default_space(pipe))
    ['logisticregression__C']
    """
    space = _find_space(estimator)
    if not space:
        known = ", ".join(["CNNClassifier", *(cls.__name__ for cls in SPACES)])
        raise ValueError(
            f"there is no default space for {estimator!r}: there is one for {known}, "
            "pipelines with such steps, and what has a method default_space"
        )
    return space


def _find_space(estimator):
    """Return the space of an estimator, or of the steps of a pipeline; {} if none."""
    if isinstance(estimator, Pipeline):
        return {
            f"{name}__{param}": values
            for name, step in estimator.steps
            for param, values in _find_space(step).items()
        }
    if isinstance(estimator, SubsetEstimator):
        found = _find_space(estimator.estimator)
        return {f"estimator__{param}": values for param, values in found.items()}
    if hasattr(estimator, "default_space"):
        return estimator.default_space()
    # Not of derived classes: what they have changed is not known.
    return dict(SPACES.get(type(estimator), {}))
