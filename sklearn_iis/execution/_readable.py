"""Files that cannot be read: found, and perhaps left out, before a search begins."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

from sklearn_iis._resize import ImageResizer
from sklearn_iis._sklearn_compat import select_params, take_samples
from sklearn_iis.images._decode import Decoder
from sklearn_iis.images._items import find_items
from sklearn_iis.images._read import find_unreadable, make_decoder
from sklearn_iis.images._report import make_error


@dataclass(frozen=True)
class Readable:
    """The data of a call of `fit` whose images can be read.

    Parameters
    ----------
    X, y, params
        As `fit` was called with, without the samples left out.

    kept : ndarray of int or None
        The samples that are left; None if that is all of them.

    unreadable : dict of int to str
        Indices of those left out, and why.
    """

    X: Any
    y: Any
    params: dict[str, Any]
    kept: np.ndarray | None
    unreadable: dict[int, str]

    def renumber(self, splits: Iterable[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
        """Return splits of all samples, by number or mask, as splits of what is left.

        A split that is left nothing to train on, or nothing to test on, is left out.

        Raises
        ------
        ValueError
            If that is so of all splits.
        """
        if self.kept is None:
            return list(splits)
        n_samples = len(self.kept) + len(self.unreadable)
        numbers = np.full(n_samples, -1)
        numbers[self.kept] = np.arange(len(self.kept))

        def select(samples):
            chosen = numbers[np.asarray(samples)]  # numbers or a mask
            return chosen[chosen >= 0]

        left = [(select(train), select(test)) for train, test in splits]
        left = [(train, test) for train, test in left if len(train) and len(test)]
        if not left:
            raise ValueError(
                f"Without the {len(self.unreadable)} of {n_samples} images that cannot "
                "be read, no split of `cv` has samples both to train and to test on"
            )
        return left


def find_readable(
    estimator: Any, X: Any, y: Any, params: dict[str, Any], on_error: str
) -> Readable:
    """Return the data of a call without files that cannot be read.

    Parameters
    ----------
    estimator : estimator object
        If it is a pipeline that begins with an `ImageResizer`, perhaps in a pipeline of
        its own, files are read once.

    X, y, params
        What `fit` was called with.

    on_error : {"raise", "skip", "list"}
        Whether files that cannot be read are an error, are left out with a warning, or
        without one.

    Raises
    ------
    UnreadableImagesError
        If files cannot be read, and `on_error` is "raise", or no others are left.
    """
    everything = Readable(X, y, params, None, {})
    decoder = _find_decoder(estimator)
    items = None if decoder is None else find_items(X)
    if decoder is None or items is None:
        return everything
    errors = find_unreadable(items, decoder)
    if not errors:
        return everything
    if on_error == "raise" or len(errors) == len(items):
        raise make_error(errors)
    kept = np.setdiff1d(np.arange(len(items)), list(errors))
    if on_error == "skip":
        warnings.warn(
            f"{len(errors)} of {len(items)} images are left out, as they cannot be "
            f"read, such as X[{min(errors)}]: {errors[min(errors)]}",
            UserWarning,
            stacklevel=5,
        )
    return Readable(
        take_samples(X, kept),
        None if y is None else take_samples(y, kept),
        select_params(X, params=params, indices=kept),
        kept,
        {index: str(error) for index, error in errors.items()},
    )


def _find_decoder(estimator: Any) -> Decoder | None:
    """Return how a pipeline that begins with an `ImageResizer` reads files."""
    first = _find_first(estimator)
    if not isinstance(first, ImageResizer):
        return None
    # At the smallest scale: all of the file is read at any.
    return make_decoder(first.mode, (255,) * 3, (1, 1))


def _find_first(estimator: Any) -> Any:
    """Return what gets X first: of a pipeline, also of one in another, a step."""
    while isinstance(estimator, Pipeline):
        working = (
            step
            for _, step in estimator.steps
            if step is not None and not isinstance(step, str)
        )
        estimator = next(working, None)
    return estimator
