"""Inherited weights: a candidate starts at a size from what it learned at the last."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import Pipeline

from sklearn_iis.execution._averaging import is_usable
from sklearn_iis.execution._estimator_files import EstimatorFiles
from sklearn_iis.execution._record import Row, Task
from sklearn_iis.subset import SubsetEstimator

# The value of `warm_start` by which a fit starts from the weights of the one before.
WEIGHTS = "weights"


def find_heirs(estimator: Any) -> list[str]:
    """Return the parameters `warm_start` of the parts that can inherit weights.

    That is an estimator itself, a step of a pipeline, or what a
    :class:`~sklearn_iis.SubsetEstimator` holds, with an attribute `inherits_weights`
    that is true, such as :class:`~sklearn_iis.CNNClassifier` has. Others that hold one
    clone it, and what it has learned is lost.
    """
    if isinstance(estimator, SubsetEstimator):
        # It goes on with what has a `warm_start` itself.
        return ["estimator__warm_start"] if _is_heir(estimator.estimator) else []
    if isinstance(estimator, Pipeline):
        return [
            f"{name}__{param}"
            for name, step in estimator.steps
            for param in find_heirs(step)
        ]
    return ["warm_start"] if _is_heir(estimator) else []


def _is_heir(estimator):
    return getattr(estimator, "inherits_weights", False) is True


def check_heirs(estimator: Any) -> None:
    """Raise an error if no part of an estimator can inherit weights.

    Raises
    ------
    ValueError
        If there is none.
    """
    if not find_heirs(estimator):
        raise ValueError(
            "inherit_weights=True needs an estimator that can start from weights that "
            "were learned at another size, such as CNNClassifier with "
            f'pooling="average"; {estimator!r} has no part that says so by an '
            "attribute inherits_weights. With inherit_weights=False each stage trains "
            "from scratch"
        )


def inherit(learned: Any, fixed: dict[str, Any]) -> Any:
    """Return a fitted estimator whose next `fit` starts from its weights.

    Parameters
    ----------
    learned : estimator object
        It was fitted at the size before, and is changed.

    fixed : dict of str to object
        The parameters that all candidates share at the next size. The candidate's own
        are set already; a part of a pipeline among them has learned since.
    """
    learned.set_params(**clone(fixed, safe=False))
    return learned.set_params(**dict.fromkeys(find_heirs(learned), WEIGHTS))


def end_inheriting(fitted: Any, estimator: Any) -> None:
    """Have a fitted estimator start again as another one does."""
    params = estimator.get_params()
    fitted.set_params(**{name: params[name] for name in find_heirs(fitted)})


@dataclass(frozen=True)
class Inheritance:
    """Fitted candidates, in files until nobody can inherit their weights any more.

    A candidate climbs: its score in a stage is that of a network which was trained in
    each stage up to this one, on the training samples of the same split. The files only
    save time: whatever is missing is trained again, with the same result.

    Parameters
    ----------
    files : EstimatorFiles
        The fitted estimators.

    n_stages : int
        The number of stages; after the last one nothing is kept.
    """

    files: EstimatorFiles
    n_stages: int

    def find(self, task: Task) -> tuple[int, Any]:
        """Return the stage to train in next, and what was learned before.

        Parameters
        ----------
        task : Task
            The evaluation.

        Returns
        -------
        stage : int
            The first stage whose training is missing; at most that of the task.

        learned : estimator object or None
            What was fitted in the stage before it.
        """
        for stage in reversed(range(task.stage)):
            learned = self.files.load(task.at(stage))
            # Whatever was loaded, if anything.
            if isinstance(learned, BaseEstimator) and find_heirs(learned):
                return stage + 1, learned
        return 0, None

    def save(self, task: Task, estimator: Any) -> None:
        """Save what was learned in a stage, unless it is the last one."""
        if task.stage < self.n_stages - 1:
            self.files.save(task, estimator)


@dataclass
class Heirs:
    """The candidates whose files may be needed still; those of others are removed.

    Parameters
    ----------
    files : EstimatorFiles
        The fitted estimators of all stages.
    """

    files: EstimatorFiles
    # By stage, and by what their files are called.
    _rows: dict[int, dict[str, Row]] = field(init=False, default_factory=dict)

    def keep(self, stage: int, rows: Iterable[Row], new: Row | None = None) -> None:
        """Keep the files of some candidates of a stage, and remove all others.

        Parameters
        ----------
        stage : int
            The stage that they were fitted in.

        rows : iterable of Row
            Whose files are kept.

        new : Row, default=None
            One that was evaluated right now; its files are removed if it is not kept.
        """
        before = self._rows.get(stage, {})
        kept = {row.tasks[0].key: row for row in rows}
        for row in [*before.values(), *([] if new is None else [new])]:
            if row.tasks[0].key not in kept:
                self.files.discard(row.tasks[0])
        self._rows[stage] = kept

    def end_climb(self, row: Row) -> None:
        """Remove what a candidate learned before a stage in which it is complete."""
        for stage in range(row.stage):
            self.files.discard(row.tasks[0].at(stage))


@dataclass
class Promotable:
    """The candidates of a stage that may be promoted when it ends: so far the best.

    Parameters
    ----------
    heirs : Heirs
        Whose weights are kept.

    n_promoted : int
        How many are promoted.
    """

    heirs: Heirs
    n_promoted: int
    _best: list[Row] = field(init=False, default_factory=list)

    def add(self, row: Row) -> None:
        """Take note of a row; keep its weights as long as it is among the best."""
        if is_usable(row):
            self._best.append(row)
            self._best.sort(key=lambda row: (-row.score, row.number))
            del self._best[self.n_promoted :]
        self.heirs.keep(row.stage, self._best, row)
