"""Words, tables and pictures of a report on test data."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from sklearn_iis.execution._text import printable, shorten
from sklearn_iis.inspection._evaluation import (
    ClassFigures,
    Evaluation,
    ScoreOnly,
    find_promise,
    name_scorer,
    promises_accuracy,
)
from sklearn_iis.inspection.report._text import (
    MAX_LENGTH,
    NOTHING,
    count,
    make_score_format,
)
from sklearn_iis.inspection.report._thumbnails import make_thumbnails

# Beyond that, a matrix and a table are not read any more.
MAX_MATRIX = 30
MAX_CONFUSIONS = 20
MAX_CLASSES = 100
MAX_WORST = 12

# Characters of a class at the edge of a matrix, and of one in a table.
MAX_HEAD = 20
MAX_NAME = 60


def describe_test(search: Any, test: Evaluation | ScoreOnly) -> dict[str, Any]:
    """Return the score on test data, beside the one promised in validation."""
    promise = find_promise(search)
    if isinstance(test, ScoreOnly):
        both = _format_both(test.score, promise)
        images = count(test.n_samples, "sample")
        return {"accuracy": "", "images": images, "metric": name_scorer(search), **both}
    low, high = test.interval
    facts = {
        "accuracy": format_share(test.accuracy),
        "interval": format_interval(test.interval),
        "images": count(test.n_samples, "sample"),
        "n_correct": test.n_correct,
        "certain": test.probabilities is not None,
        "metric": name_scorer(search),
    }
    if test.score is not None:
        return facts | _format_both(test.score, promise)
    if not promises_accuracy(search):  # and who evaluated it knew no scorer
        return facts | _format_both(math.nan, promise)
    return facts | {"score": "", "promise": "", "note": _compare(promise, low, high)}


def _format_both(score: float, promise: float | None) -> dict[str, str]:
    """Return a test score, if it is not NaN, and a promised one with equal decimals."""
    numbers = [score] if promise is None else [score, promise]
    write = make_score_format(np.array(numbers, dtype=float))
    return {
        "score": "" if math.isnan(score) else write(score),
        "promise": "" if promise is None else write(promise),
        "note": "",
    }


def _compare(promise: float | None, low: float, high: float) -> str:
    """Return how a validation accuracy compares with the interval of a test."""
    if promise is None:
        return ""
    start = f"Validation promised {format_share(promise)}, which is"
    if low <= promise <= high:
        return f"{start} within the interval."
    if promise > high:
        return (
            f"{start} above the interval: candidates were chosen by that score, which "
            "makes it too high, or the samples of the test differ from the others."
        )
    return (
        f"{start} below the interval: the model was fitted to more samples than in "
        "validation, or those of the test are easier."
    )


def describe_confusion(test: Evaluation) -> dict[str, Any]:
    """Return the matrix of few classes, or the most frequent confusions of many."""
    confusion, names = test.confusion, test.class_names
    n_wrong = test.n_samples - test.n_correct
    if len(names) <= MAX_MATRIX:
        heads = [_shorten_middle(name) for name in names]
        return {
            "heads": heads,
            "rows": [
                {"head": head, "cells": _shade(row.tolist(), i)}
                for i, (head, row) in enumerate(zip(heads, confusion, strict=True))
            ],
            "n_wrong": n_wrong,
        }
    wrong = confusion * ~np.eye(len(names), dtype=bool)
    order = np.argsort(-wrong, axis=None, kind="stable")[:MAX_CONFUSIONS]
    pairs = [divmod(int(k), len(names)) for k in order]
    return {
        "heads": [],
        "n_wrong": n_wrong,
        "pairs": [
            {
                "true": shorten_name(names[i], MAX_NAME),
                "predicted": shorten_name(names[j], MAX_NAME),
                "count": int(wrong[i, j]),
                "share": format_share(wrong[i, j] / confusion[i].sum()),
            }
            for i, j in pairs
            if wrong[i, j]
        ],
        "n_pairs": int(np.count_nonzero(wrong)),
    }


def _shorten_middle(name: str) -> str:
    """Return the name of a class for the edge of the matrix: names may end unlike."""
    text = printable(name)
    if len(text) <= MAX_HEAD:
        return text
    half = (MAX_HEAD - 1) // 2
    return f"{text[:half]}\N{HORIZONTAL ELLIPSIS}{text[-half:]}"


def _shade(row: list[int], diagonal: int) -> list[dict[str, Any]]:
    """Return the cells of a row of the matrix with their shares of the class."""
    total = sum(row) or 1
    return [
        {
            "count": number or "",
            "percent": round(100 * number / total),
            "kind": "right" if column == diagonal else "wrong",
        }
        for column, number in enumerate(row)
    ]


def describe_classes(test: Evaluation) -> dict[str, Any]:
    """Return precision, recall and F1 of each class; of many, the worst ones first."""
    figures = test.per_class
    by_recall = len(figures) > MAX_MATRIX
    if by_recall:
        figures = sort_by_recall(figures)
    return {
        "rows": [
            {
                "name": shorten_name(one.name, MAX_NAME),
                "precision": format_share(one.precision),
                "recall": format_share(one.recall),
                "f1": format_share(one.f1),
                "support": one.support,
            }
            for one in figures[:MAX_CLASSES]
        ],
        "n_further": max(len(figures) - MAX_CLASSES, 0),
        "by_recall": by_recall,
    }


def sort_by_recall(figures: list[ClassFigures]) -> list[ClassFigures]:
    """Return classes, the one with the lowest recall first, those without any last."""
    return sorted(figures, key=lambda f: (math.isnan(f.recall), f.recall))


def describe_worst(search: Any, test: Evaluation) -> dict[str, Any]:
    """Return the images that the model is most wrong about."""
    indices = test.find_worst(MAX_WORST).tolist()
    names = [shorten_name(name, MAX_NAME) for name in test.class_names]
    cards = [
        {
            **thumbnail,
            "true": names[test.y_true[index]],
            "predicted": names[test.y_pred[index]],
            "probability": _format_probability(test, index),
            "file": shorten(printable(thumbnail["file"]), MAX_LENGTH)
            or f"X_test[{index}]",
        }
        for index, thumbnail in zip(
            indices, make_thumbnails(test.X, indices, search), strict=True
        )
    ]
    return {"cards": cards, "certain": test.probabilities is not None}


def _format_probability(test: Evaluation, index: int) -> str:
    """Return the probability of the class that was predicted, if there are any."""
    if test.probabilities is None:
        return ""
    return f"{test.probabilities[index, test.y_pred[index]]:.3f}"


def shorten_name(name: str, most: int) -> str:
    """Return the name of a class, cut if it is too long."""
    text = printable(name)
    return text if len(text) <= most else f"{text[: most - 1]}\N{HORIZONTAL ELLIPSIS}"


def format_share(share: float) -> str:
    """Return an accuracy or the like with three decimals."""
    return NOTHING if math.isnan(share) else f"{share:.3f}"


def format_interval(
    interval: tuple[float, float], write: Callable[[float], str] = format_share
) -> str:
    """Return the ends of an interval."""
    return " to ".join(map(write, interval))
