"""A fitted search as one HTML page."""

import os
from datetime import date
from pathlib import Path
from typing import Any

from sklearn_iis._files import check_writable, replace_file
from sklearn_iis._sklearn_compat import validate_params
from sklearn_iis.execution._text import printable, shorten
from sklearn_iis.inspection._evaluation import (
    Evaluation,
    ScoreOnly,
    take_evaluation,
)
from sklearn_iis.inspection.report._agreement import describe_agreement
from sklearn_iis.inspection.report._content import (
    describe_best,
    describe_failures,
    describe_ranges,
    describe_stages,
    name_search,
    summarize,
)
from sklearn_iis.inspection.report._evaluated import (
    describe_classes,
    describe_confusion,
    describe_test,
    describe_worst,
)
from sklearn_iis.inspection.report._plots import draw_sections
from sklearn_iis.inspection.report._searches import describe_searches
from sklearn_iis.inspection.report._section import make_section
from sklearn_iis.inspection.report._source import is_choice, list_sources
from sklearn_iis.inspection.report._text import MAX_LENGTH


@validate_params(
    {
        "search": "no_validation",
        "path": [str, os.PathLike],
        "title": [str, None],
        "metric": [str, None],
        "random_state": ["random_state"],
        "X_test": "no_validation",
        "y_test": "no_validation",
        "class_names": ["array-like", None],
        "evaluation": [Evaluation, None],
    },
    prefer_skip_nested_validation=True,
)
def write_report(
    search,
    path,
    *,
    title=None,
    metric=None,
    random_state=None,
    X_test=None,
    y_test=None,
    class_names=None,
    evaluation=None,
) -> Path:
    """Write a report of a fitted search to one HTML page.

    The page has the best hyperparameters, the stages with their candidates and the
    ranges that were left, how the scores of candidates compare in two stages, how the
    best score developed, which hyperparameters matter and their effect on the score,
    and the failures with their causes. With test data, it begins with the accuracy and
    its interval beside the score that validation promised, a confusion matrix, figures
    of each class, and the images that the model is most wrong about. All is in one
    file without scripts and links, which can be sent by e-mail, printed, and read on a
    phone.

    Parameters
    ----------
    search : estimator object
        A fitted :class:`~sklearn_iis.IISSearchCV`, also one that ended because all
        candidates of a stage failed; a :class:`~sklearn_iis.ChoiceSearchCV`, whose
        searches are compared, and whose best one the other sections are about; or
        another search of scikit-learn's kind with
        `param_distributions` or `param_grid` as a dict of frozen scipy.stats
        distributions and lists, or a list of such dicts.

    path : str or path-like
        The file to write, in a folder that exists. It is replaced if it exists, once
        the page is complete.

    title : str, default=None
        Title of the page; None means one with the name of the estimator.

    metric : str, default=None
        Which scores, if there are several metrics; None means those that guided the
        search.

    random_state : int, RandomState instance or None, default=None
        Determines the forests of functional ANOVA. With an int, the importances and
        marginals are those that :func:`hyperparameter_importance` and
        :func:`hyperparameter_marginal` return for it.

    X_test : sequence of length n_samples, default=None
        Samples that the search has not seen, such as paths of images. None leaves the
        test out.

    y_test : array-like of shape (n_samples,), default=None
        Their labels.

    class_names : sequence of str, default=None
        A name for each class, in the order of `classes_`; None means the labels
        themselves. Of no use without `X_test`.

    evaluation : Evaluation, default=None
        What :func:`evaluate_model` has returned, in the place of `X_test` and `y_test`:
        the model then predicts only once for several purposes.

    Returns
    -------
    path : pathlib.Path
        The file.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist.

    NotADirectoryError
        If the folder is a file.

    IsADirectoryError
        If `path` is a folder.

    PermissionError
        If nothing can be written to the folder.

    NotFittedError
        If the search is not fitted.

    TypeError
        If the search does not tell its space.

    ValueError
        If the metric does not exist; if both an evaluation and test data are given, or
        only one of `X_test` and `y_test`; and as :func:`evaluate_model` raises it.

    See Also
    --------
    evaluate_model : The figures of the test.
    hyperparameter_importance : The importances as numbers.

    Notes
    -----
    Functional ANOVA needs 10 candidates without failure in a stage. Stages that have
    fewer are left out there, and the page says so. A section that cannot be made, for
    whatever reason, says why in its place.

    Up to 30 classes have a confusion matrix; of more, the page lists the most frequent
    confusions, and the classes with the lowest recall, at most 100. Up to 12 images are
    shown, by the `ImageResizer` in the model, if it has one. Numbers that are not bytes
    are scaled to the range of those that are shown. What is no image is told by its
    index alone. If the classifier has no `predict_proba`, these are the first that it
    was wrong about. Of what is no classifier, the test has the score only.

    Times are those of fitting and scoring, summed over the splits of all candidates:
    the wall clock shows less with several jobs.

    The page quotes the tracebacks of failures, with the names of folders in them, each
    up to 10,000 characters. Control characters are written as Python escapes them.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from scipy.stats import loguniform
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from sklearn_iis import IISSearchCV
    >>> from sklearn_iis.inspection import write_report
    >>> search = IISSearchCV(
    ...     DecisionTreeClassifier(random_state=0),
    ...     {"ccp_alpha": loguniform(1e-4, 1)},
    ...     n_iter=12,
    ...     random_state=0,
    ... )
    >>> search = search.fit(*load_iris(return_X_y=True))
    >>> with TemporaryDirectory() as folder:
    ...     report = write_report(search, Path(folder) / "report.html", random_state=0)
    ...     report.read_text(encoding="utf-8").startswith("<!doctype html>")
    True
    """
    path = Path(path)
    check_writable(path)
    sources = list_sources(search, metric, random_state)
    source, *_ = several = list(sources.values())
    test = take_evaluation(search, X_test, y_test, class_names, evaluation)
    page = _render(
        title=shorten(printable(title or name_search(search)), MAX_LENGTH),
        summary=make_section(summarize, search, several),
        today=date.today().isoformat(),
        **_describe_test(search, test),
        searches=make_section(describe_searches, search, sources)
        if is_choice(search)
        else None,
        best=make_section(describe_best, source),
        stages=make_section(describe_stages, source),
        ranges=make_section(describe_ranges, source),
        agreement=make_section(describe_agreement, source)
        if len(source.stages) > 1
        else None,
        sections=draw_sections(source),
        failures=make_section(describe_failures, several),
    )
    replace_file(path, page.encode())
    return path


def _describe_test(search: Any, test: Evaluation | ScoreOnly | None) -> dict[str, Any]:
    """Return the parts of the section on test data; None for those to be left out."""
    parts = dict.fromkeys(("test", "confusion", "classes", "worst"))
    if test is not None:
        parts["test"] = make_section(describe_test, search, test)
    if isinstance(test, Evaluation):
        parts["confusion"] = make_section(describe_confusion, test)
        parts["classes"] = make_section(describe_classes, test)
        parts["worst"] = make_section(describe_worst, search, test)
    return parts


def _render(**content: Any) -> str:
    """Return the page; all that is filled in is printable and escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined, Undefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("sklearn_iis.inspection.report", ""),
        autoescape=True,
        finalize=lambda value: (
            # The macros of the page itself return Markup.
            value if isinstance(value, Markup | Undefined) else printable(value)
        ),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("page.html.jinja").render(**content)
