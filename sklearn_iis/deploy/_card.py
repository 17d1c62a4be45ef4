"""A model card: where a model comes from, and how good it is."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.utils.validation import column_or_1d

from sklearn_iis._files import check_writable, replace_file
from sklearn_iis._sklearn_compat import validate_params
from sklearn_iis.deploy._card_sections import Facts, write_sections
from sklearn_iis.inspection import Evaluation
from sklearn_iis.inspection._evaluation import (
    check_names,
    find_indices,
    take_evaluation,
)
from sklearn_iis.inspection.report._source import list_sources


@validate_params(
    {
        "search": "no_validation",
        "path": [str, os.PathLike],
        "X_test": "no_validation",
        "y_test": "no_validation",
        "class_names": ["array-like", None],
        "evaluation": [Evaluation, None],
        "title": [str, None],
        "source": [str, None],
        "parts": [dict, None],
    },
    prefer_skip_nested_validation=True,
)
def write_model_card(
    search,
    path,
    *,
    X_test=None,
    y_test=None,
    class_names=None,
    evaluation=None,
    title=None,
    source=None,
    parts=None,
) -> Path:
    """Write a model card of the best model of a search, in Markdown.

    It tells what the model was trained on, how it was found, what it scores in
    validation and on test data, with intervals, what it was not tested on, and the
    versions it was made with. It begins with a block of YAML, as the cards of Hugging
    Face do.

    Parameters
    ----------
    search : estimator object
        A fitted search with a `best_estimator_`: an :class:`~sklearn_iis.IISSearchCV`,
        a :class:`~sklearn_iis.ChoiceSearchCV`, or another one that
        :func:`~sklearn_iis.inspection.write_report` takes.

    path : str or path-like
        The file to write, such as ``model/README.md`` beside a model that
        :func:`save_model` has written; how to load that is told if it is there. The
        file is replaced if it exists.

    X_test : sequence of length n_samples, default=None
        Samples that the search has not seen. None means that the card says so.

    y_test : array-like of shape (n_samples,), default=None
        Their labels.

    class_names : sequence of str, default=None
        A name for each class, in the order of `classes_`. None means the names of the
        evaluation, or the labels themselves.

    evaluation : Evaluation, default=None
        What :func:`~sklearn_iis.inspection.evaluate_model` has returned, in the place
        of `X_test` and `y_test`.

    title : str, default=None
        Title of the card; None means one with the name of the estimator.

    source : str, default=None
        Where the data are from.

    parts : dict of str to array-like, default=None
        The labels of each part of the data, such as ``{"train": y_train, "test":
        y_test}``, of which the card has the numbers for each class. The test data of an
        evaluation are counted if there is no part "test". A part "validation" gives the
        validation accuracy an interval, if there was one split.

    Returns
    -------
    path : pathlib.Path
        The file.

    Raises
    ------
    FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError
        If the file cannot be written.

    NotFittedError
        If the search is not fitted.

    TypeError
        If the search does not tell its space.

    ValueError
        If the search has no `best_estimator_`; if `parts` has labels that the model
        does not know; and as :func:`~sklearn_iis.inspection.evaluate_model` raises it.

    See Also
    --------
    save_model : The model itself.
    sklearn_iis.inspection.write_report : All of the search, with pictures.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from scipy.stats import loguniform
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from sklearn_iis import IISSearchCV
    >>> from sklearn_iis.deploy import write_model_card
    >>> X, y = load_iris(return_X_y=True)
    >>> search = IISSearchCV(
    ...     DecisionTreeClassifier(random_state=0),
    ...     {"ccp_alpha": loguniform(1e-4, 1)},
    ...     n_iter=5,
    ...     random_state=0,
    ... ).fit(X[::2], y[::2])
    >>> with TemporaryDirectory() as folder:
    ...     path = write_model_card(
    ...         search, Path(folder) / "README.md", X_test=X[1::2], y_test=y[1::2]
    ...     )
    ...     lines = path.read_text(encoding="utf-8").splitlines()
    >>> "# DecisionTreeClassifier of 3 classes" in lines
    True
    """
    path = Path(path)
    check_writable(path)
    sources = list_sources(search, None, 0)
    if not hasattr(search, "best_estimator_"):
        raise ValueError(
            f"this {type(search).__name__} has no best_estimator_, which a card is "
            "about: fit it with refit=True, or to its end"
        )
    test = take_evaluation(search, X_test, y_test, class_names, evaluation)
    names = _name_classes(search, class_names, test)
    counts = _count_classes(search, parts or {}, test)
    facts = Facts(search, sources, test, names, counts, source)
    card = "\n".join(write_sections(facts, title, path.parent))
    replace_file(path, card.encode())
    return path


def _name_classes(search: Any, names: Any, test: Any) -> list[str] | None:
    """Return the names of the classes; None of what is no classifier."""
    if not is_classifier(search):
        return None
    if names is None and isinstance(test, Evaluation):
        return test.class_names
    return check_names(names, np.asarray(search.classes_))


def _count_classes(
    search: Any, parts: Mapping[str, Any], test: Any
) -> dict[str, np.ndarray]:
    """Return the number of images of each class in each part of the data."""
    if not is_classifier(search):
        return {str(name): np.array([len(labels)]) for name, labels in parts.items()}
    classes = np.asarray(search.classes_)
    indices = {
        str(name): find_indices(column_or_1d(labels), classes, f"parts[{name!r}]")
        for name, labels in parts.items()
    }
    if isinstance(test, Evaluation):
        indices = indices if "test" in indices else {**indices, "test": test.y_true}
    return {
        name: np.bincount(found, minlength=len(classes))
        for name, found in indices.items()
    }
