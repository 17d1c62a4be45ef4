"""Functional ANOVA: the share of a score's variance that each column explains."""

import math
import warnings
from collections.abc import Sequence
from itertools import combinations
from numbers import Integral

import numpy as np
from scipy.stats import qmc
from sklearn.ensemble import RandomForestRegressor
from sklearn.utils import (
    Bunch,
    check_array,
    check_consistent_length,
    check_random_state,
)
from threadpoolctl import threadpool_limits

from sklearn_iis._sklearn_compat import Interval, Tree, validate_params

# How many times the residuals of the forest are fitted. On average over the functions,
# samples and noise in doc/importance.md, two are best.
N_CORRECTIONS = 2

# Fewer observations say nothing about importance.
MIN_SAMPLES = 10

# Marginals are averaged over the cells of a grid with no more cells per column, and no
# more than their square in all.
MAX_CELLS = 48

# How many subsets are decomposed at a time: each tree has a function of each of them.
MAX_SUBSETS = 200

# Where the variance of a forest is integrated: a power of 2, for Sobol's sequence.
N_POINTS = 2**13


@validate_params(
    {
        "codes": ["array-like"],
        "scores": ["array-like"],
        "max_order": [Interval(Integral, 1, None, closed="left")],
        "n_estimators": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def functional_anova(
    codes, scores, *, max_order=2, n_estimators=64, random_state=None
) -> Bunch:
    """Decompose the variance of scores over the unit cube by functional ANOVA.

    A random forest is fitted to the scores, and its prediction written as a sum of
    functions of one column, of two columns, and so on, that are orthogonal over the
    unit cube [1]_. The importance of a subset of columns is the variance of its
    function, as a fraction of the variance of the prediction.

    Parameters
    ----------
    codes : array-like of shape (n_samples, n_columns)
        Points of the unit cube, at least 10. A value that a point does not have, and
        that has no influence on its score, is NaN; it is drawn at random, so that the
        column is credited for no more than its effect where it exists.

    scores : array-like of shape (n_samples,)
        The finite scores of these points.

    max_order : int, default=2
        The most columns of a subset.

    n_estimators : int, default=64
        Number of trees, each with two that correct it.

    random_state : int, RandomState instance or None, default=None
        Determines the forest and the values drawn for missing ones.

    Returns
    -------
    result : :class:`~sklearn.utils.Bunch`
        Dictionary-like object, with the following attributes.

        subsets : list of tuple of int
            Indices of columns, smaller subsets first.
        importances : ndarray of shape (n_subsets, n_estimators)
            The addition of each tree to the share of each subset: the covariance of its
            function with that of the forest, over the variance of the forest; below 0
            if they are opposed.
        importances_mean : ndarray of shape (n_subsets,)
            Share of the variance of the forest's prediction that each subset explains,
            beyond its own subsets.
        importances_std : ndarray of shape (n_subsets,)
            Standard deviation over the trees.
        total_variance : float
            Variance of the forest's prediction over the unit cube.
        oob_score : float
            Share of the variance of the scores that the forest predicts out of bag
            (R²), before any correction: if it is near 0 or below, importances are those
            of noise.

    Raises
    ------
    ValueError
        If there are too few points, one lies outside the unit cube, or a score is not
        finite.

    See Also
    --------
    hyperparameter_importance : The same for a fitted search.

    Notes
    -----
    Two things differ from [1]_. There, the variance of each tree is decomposed, and the
    shares are averaged; here, the trees' functions are averaged, and the variance of
    the forest is decomposed. A single tree follows the noise of the scores, most of
    which looks like interactions. And a forest predicts too little where the scores are
    high and too much where they are low, the more so the finer the structure: each tree
    is therefore corrected by one fitted to the residuals of the forest's predictions
    out of bag [2]_, and both by a third one. `doc/importance.md` has the errors of all
    three ways.

    The marginals of a tree are exact averages over the cells of a grid, which has up to
    48 cells per column for subsets of one and two columns, 13 for three and 6 for four;
    any variation within a cell is lost.

    References
    ----------
    .. [1] F. Hutter, H. Hoos, K. Leyton-Brown, "An Efficient Approach for Assessing
       Hyperparameter Importance", International Conference on Machine Learning, 2014.

    .. [2] I. Ghosal, G. Hooker, "Boosting Random Forests to Reduce Bias; One-Step
       Boosted Forest and Its Variance Estimate", Journal of Computational and Graphical
       Statistics 30(2), 2021. :arxiv:`1803.08000`

    Examples
    --------
    The variances of the two summands of x + 2 y are as 1 to 4.

    >>> import numpy as np
    >>> from sklearn_iis.inspection import functional_anova
    >>> codes = np.random.RandomState(0).uniform(size=(1000, 3))
    >>> result = functional_anova(codes, codes @ [1, 2, 0], random_state=0)
    >>> result.subsets
    [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)]
    >>> result.importances_mean.round(2).tolist()
    [0.2, 0.8, 0.0, 0.0, 0.0, 0.0]
    """
    forest = MarginalForest(
        codes, scores, n_estimators=n_estimators, random_state=random_state
    )
    return decompose(forest, max_order)


def decompose(forest: "MarginalForest", max_order: int) -> Bunch:
    """Return the result of :func:`functional_anova`, of a forest that is fitted."""
    subsets = list_subsets(forest.n_columns, max_order)
    return make_result(
        subsets,
        forest.explained_variances(subsets),
        forest.total_variance,
        forest.oob_score,
    )


def list_subsets(n_columns: int, max_order: int) -> list[tuple[int, ...]]:
    """Return the subsets of columns, smaller ones first."""
    orders = range(1, max_order + 1)
    return [s for order in orders for s in combinations(range(n_columns), order)]


def make_result(
    subsets: list[tuple[int, ...]],
    variances: np.ndarray,
    total_variance: float | np.ndarray,
    oob_score: float,
) -> Bunch:
    """Return variances as shares of the total, which each tree may have its own of."""
    importances = np.zeros_like(variances)
    where = np.broadcast_to(np.greater(total_variance, 0), variances.shape)
    np.divide(variances, total_variance, out=importances, where=where)
    return Bunch(
        subsets=subsets,
        importances=importances,
        importances_mean=importances.mean(axis=1),
        importances_std=importances.std(axis=1),
        total_variance=float(np.mean(total_variance)),
        oob_score=oob_score,
    )


def check_observations(codes, scores) -> tuple[np.ndarray, np.ndarray]:
    """Return points of the unit cube and their scores as arrays, or raise an error."""
    codes = check_array(
        codes, dtype=np.float64, ensure_all_finite="allow-nan", input_name="codes"
    )
    scores = check_array(scores, dtype=np.float64, ensure_2d=False, input_name="scores")
    if scores.ndim != 1:
        raise ValueError(f"scores must have one dimension, got shape {scores.shape}")
    check_consistent_length(codes, scores)
    outside = codes[(codes < 0) | (codes > 1)]
    if len(outside):
        raise ValueError(
            f"codes must lie in the unit cube, from 0 to 1, got {outside[0]}"
        )
    if len(codes) < MIN_SAMPLES:
        raise ValueError(
            f"{len(codes)} observations are too few for functional ANOVA, at least "
            f"{MIN_SAMPLES} are needed"
        )
    return codes, scores


def fill_missing(codes: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    """Return points with values drawn at random in the place of those they lack.

    A column that no point has a value of is constant, so that it explains nothing.
    """
    drawn = rng.uniform(size=codes.shape)
    drawn[:, np.isnan(codes).all(axis=0)] = 0.5
    return np.where(np.isnan(codes), drawn, codes)


class MarginalForest:
    """A random forest over the unit cube whose marginals are known.

    Each of its members is the sum of a tree and of two that correct it, see the notes
    in :func:`functional_anova`.

    Parameters
    ----------
    codes : array-like of shape (n_samples, n_columns)
        Points of the unit cube; NaN where a point has no value.

    scores : array-like of shape (n_samples,)
        Their scores.

    n_estimators : int
        Number of members.

    random_state : int, RandomState instance or None
        Determines the forest.

    Attributes
    ----------
    n_columns : int
        Dimension of the cube.

    total_variance : float
        Variance of the prediction over the cube.

    oob_score : float
        Share of the variance of the scores that is predicted out of bag (R²), before
        any correction.
    """

    def __init__(self, codes, scores, *, n_estimators, random_state):
        codes, scores = check_observations(codes, scores)
        rng = check_random_state(random_state)
        self.n_columns = codes.shape[1]
        self._mean_score = scores.mean()
        forests = _fit_corrected_forest(
            codes, scores - self._mean_score, n_estimators, rng
        )
        self.oob_score = float(forests[0].oob_score_)
        self._members = [
            [_Boxes(estimator.tree_) for estimator in estimators]
            for estimators in zip(
                *(forest.estimators_ for forest in forests), strict=True
            )
        ]
        self._thresholds = [
            np.unique(
                np.concatenate(
                    [
                        estimator.tree_.threshold[estimator.tree_.feature == column]
                        for forest in forests
                        for estimator in forest.estimators_
                    ]
                )
            )
            for column in range(self.n_columns)
        ]
        self.total_variance = _integrate_variance(
            lambda points: sum(forest.predict(points) for forest in forests),
            self._thresholds,
            rng,
        )

    def explained_variances(self, subsets: Sequence[tuple[int, ...]]) -> np.ndarray:
        """Return the variances that subsets of columns explain, for each member.

        That is an array of shape (n_subsets, n_estimators): the covariances of the
        members' functions with those of the forest. Their means over the members are
        the variances of the forest's functions.
        """
        variances = np.empty((len(subsets), len(self._members)))
        # On matrices of this size several threads gain little, and wait for each other
        # where there are other processes.
        with threadpool_limits(1, user_api="blas"):
            for order in {len(subset) for subset in subsets}:
                rows = [i for i, subset in enumerate(subsets) if len(subset) == order]
                for start in range(0, len(rows), MAX_SUBSETS):
                    block = rows[start : start + MAX_SUBSETS]
                    variances[block] = self._decompose([subsets[i] for i in block])
        return variances

    def _decompose(self, subsets: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
        """Return the variances that subsets of the same order explain."""
        order = len(subsets[0])
        n_cells = min(MAX_CELLS, math.floor(MAX_CELLS ** (2 / order) + 1e-9))
        edges = [_grid(thresholds, n_cells) for thresholds in self._thresholds]
        widths = [[np.diff(edges[j]) for j in subset] for subset in subsets]
        functions: list[list[np.ndarray]] = [[] for _ in subsets]
        for member in self._members:
            densities = [boxes.cell_densities(edges) for boxes in member]
            for i, subset in enumerate(subsets):
                marginal = sum(
                    boxes.marginal(subset, density)
                    for boxes, density in zip(member, densities, strict=True)
                )
                functions[i].append(_center(marginal, widths[i]))
        return [
            _covariances(np.array(values), axes)
            for values, axes in zip(functions, widths, strict=True)
        ]

    def marginal(
        self, columns: tuple[int, ...], points: Sequence[np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean prediction over all other columns, and its deviation.

        Both are arrays of shape (n_points of the first column, ...): the mean and the
        standard deviation over the members, at all combinations of the points.
        """
        marginals = np.array(
            [
                sum(
                    boxes.marginal(columns, boxes.point_densities(columns, points))
                    for boxes in member
                )
                for member in self._members
            ]
        )
        return self._mean_score + marginals.mean(axis=0), marginals.std(axis=0)


class _Boxes:
    """The leaves of a tree: boxes in the unit cube, each with a value."""

    def __init__(self, tree: Tree):
        self.low, self.high, self.values = _find_leaves(tree)
        self.widths = self.high - self.low
        # The integral of the prediction over each box.
        self.masses = self.values * self.widths.prod(axis=1)

    def cell_densities(self, edges: list[np.ndarray]) -> dict[int, np.ndarray]:
        """Return for each column how dense each box is in each cell, leaf by cell."""
        densities = {}
        for column, column_edges in enumerate(edges):
            low, high = self.low[:, [column]], self.high[:, [column]]
            overlaps = np.minimum(high, column_edges[1:])
            overlaps -= np.maximum(low, column_edges[:-1])
            np.maximum(overlaps, 0, out=overlaps)
            overlaps /= np.diff(column_edges)
            overlaps /= high - low
            densities[column] = overlaps
        return densities

    def point_densities(
        self, columns: tuple[int, ...], points: Sequence[np.ndarray]
    ) -> dict[int, np.ndarray]:
        """Return for some columns how dense each box is at points, leaf by point."""
        densities = {}
        for column, x in zip(columns, points, strict=True):
            low, high = self.low[:, [column]], self.high[:, [column]]
            inside = ((low < x) | (low == 0)) & (x <= high)
            densities[column] = inside / (high - low)
        return densities

    def marginal(
        self, subset: tuple[int, ...], densities: dict[int, np.ndarray]
    ) -> np.ndarray:
        """Return the mean prediction over all columns but those of `subset`."""
        *first, last = subset
        product = self.masses[:, np.newaxis]
        for column in first:
            product = product[:, :, np.newaxis] * densities[column][:, np.newaxis]
            product = product.reshape(len(product), -1)
        marginal = product.T @ densities[last]
        return marginal.reshape([densities[column].shape[1] for column in subset])


def _fit_corrected_forest(codes, scores, n_estimators, rng):
    """Return forests whose predictions add up, each correcting those before it."""
    forests = []
    for _ in range(1 + N_CORRECTIONS):
        forest = RandomForestRegressor(
            n_estimators,
            max_features=0.7,
            max_samples=max(MIN_SAMPLES, round(0.6 * len(codes))),
            oob_score=True,
            random_state=rng.randint(np.iinfo(np.int32).max),
        )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Some inputs do not have OOB scores")
            forest.fit(fill_missing(codes, rng), scores)
        forests.append(forest)
        residuals = scores - forest.oob_prediction_
        # Where all trees were fitted to an observation there is nothing to correct by.
        scores = np.where(_is_out_of_bag(forest, len(codes)), residuals, 0)
    return forests


def _is_out_of_bag(forest, n_samples):
    """Return which observations some tree was not fitted to."""
    out_of_bag = np.zeros(n_samples, dtype=bool)
    for in_bag in forest.estimators_samples_:
        out_of_bag |= np.bincount(in_bag, minlength=n_samples) == 0
    return out_of_bag


def _find_leaves(tree: Tree) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return lower and upper corners of the leaves in the unit cube, and values."""
    low = np.zeros((tree.node_count, tree.n_features))
    high = np.ones((tree.node_count, tree.n_features))
    is_leaf = tree.children_left == -1
    nodes = np.array([0])
    # One level of the tree after the other, all its nodes at once.
    while len(nodes := nodes[~is_leaf[nodes]]):
        left, right = tree.children_left[nodes], tree.children_right[nodes]
        for children in (left, right):
            low[children], high[children] = low[nodes], high[nodes]
        column, threshold = tree.feature[nodes], tree.threshold[nodes]
        high[left, column] = threshold
        low[right, column] = threshold
        nodes = np.concatenate([left, right])
    return low[is_leaf], high[is_leaf], tree.value[is_leaf, 0, 0]


def _grid(thresholds: np.ndarray, n_cells: int) -> np.ndarray:
    """Return edges of at most `n_cells` cells, at quantiles of the thresholds."""
    if len(thresholds) >= n_cells:
        quantiles = np.arange(1, n_cells) / n_cells
        thresholds = np.unique(np.quantile(thresholds, quantiles, method="nearest"))
    return np.concatenate([[0.0], thresholds, [1.0]])


def _center(marginal: np.ndarray, widths: list[np.ndarray]) -> np.ndarray:
    """Return a marginal less the functions of any of its columns alone."""
    for axis, axis_widths in enumerate(widths):
        mean = np.tensordot(marginal, axis_widths, axes=(axis, 0))
        marginal = marginal - np.expand_dims(mean, axis)
    return marginal


def _covariances(functions: np.ndarray, widths: list[np.ndarray]) -> np.ndarray:
    """Return the covariance of each function with the mean of all."""
    weighted = functions.mean(axis=0)
    for axis, axis_widths in enumerate(widths):
        shape = [-1 if i == axis else 1 for i in range(len(widths))]
        weighted = weighted * axis_widths.reshape(shape)
    return functions.reshape(len(functions), -1) @ weighted.ravel()


def _integrate_variance(predict, thresholds, rng):
    """Return the variance of a prediction that is constant between thresholds.

    It is exact if there are few combinations of cells, and integrated by Sobol's
    sequence otherwise.
    """
    seed = rng.randint(np.iinfo(np.int32).max)
    if math.prod(len(column) + 1 for column in thresholds) > N_POINTS:
        points = qmc.Sobol(len(thresholds), seed=seed).random(N_POINTS)
        return float(np.var(predict(points)))
    edges = [_grid(column, len(column) + 1) for column in thresholds]
    middles = np.meshgrid(*[(e[1:] + e[:-1]) / 2 for e in edges], indexing="ij")
    widths = np.meshgrid(*[np.diff(e) for e in edges], indexing="ij")
    predictions = predict(np.stack([m.ravel() for m in middles], axis=1))
    weights = np.prod([w.ravel() for w in widths], axis=0)
    mean = weights @ predictions
    return float(weights @ (predictions - mean) ** 2)
