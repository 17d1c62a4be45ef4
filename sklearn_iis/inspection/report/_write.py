"""A fitted search as one HTML page."""

import os
from datetime import date
from pathlib import Path
from typing import Any

from sklearn_iis._files import check_writable, replace_file
from sklearn_iis._sklearn_compat import validate_params
from sklearn_iis.execution._text import printable, shorten
from sklearn_iis.inspection.report._agreement import describe_agreement
from sklearn_iis.inspection.report._content import (
    describe_best,
    describe_failures,
    describe_ranges,
    describe_stages,
    name_estimator,
    summarize,
)
from sklearn_iis.inspection.report._plots import draw_sections
from sklearn_iis.inspection.report._section import make_section
from sklearn_iis.inspection.report._source import Source
from sklearn_iis.inspection.report._text import MAX_LENGTH


@validate_params(
    {
        "search": "no_validation",
        "path": [str, os.PathLike],
        "title": [str, None],
        "metric": [str, None],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def write_report(search, path, *, title=None, metric=None, random_state=None) -> Path:
    """Write a report of a fitted search to one HTML page.

    The page has the best hyperparameters, the stages with their candidates and the
    ranges that were left, how the scores of candidates compare in two stages, how the
    best score developed, which hyperparameters matter and their effect on the score,
    and the failures with their causes. All is in one
    file without scripts and links, which can be sent by e-mail, printed, and read on a
    phone.

    Parameters
    ----------
    search : estimator object
        A fitted :class:`~sklearn_iis.IISSearchCV`, also one that ended because all
        candidates of a stage failed; or another search of scikit-learn's kind with
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
        If the metric does not exist.

    See Also
    --------
    hyperparameter_importance : The importances as numbers.

    Notes
    -----
    Functional ANOVA needs 10 candidates without failure in a stage. Stages that have
    fewer are left out there, and the page says so. A section that cannot be made, for
    whatever reason, says why in its place.

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
    source = Source.from_search(search, metric, random_state)
    title = title or f"Hyperparameter search of {name_estimator(search)}"
    page = _render(
        title=shorten(printable(title), MAX_LENGTH),
        summary=make_section(summarize, source),
        today=date.today().isoformat(),
        best=make_section(describe_best, source),
        stages=make_section(describe_stages, source),
        ranges=make_section(describe_ranges, source),
        agreement=make_section(describe_agreement, source)
        if len(source.stages) > 1
        else None,
        sections=draw_sections(source),
        failures=make_section(describe_failures, source),
    )
    replace_file(path, page.encode())
    return path


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
