"""The report of a run, and the importance of its hyperparameters."""

from pathlib import Path

import pandas as pd

from sklearn_iis.command._data import TEST, read_table
from sklearn_iis.command._ending import say
from sklearn_iis.command._errors import CommandError
from sklearn_iis.command._fit import restore_run
from sklearn_iis.command._predict import load
from sklearn_iis.command._run import RunFolder
from sklearn_iis.inspection import hyperparameter_importance


def write_report(out: Path, file: Path | None = None) -> Path:
    """Write the report of what a run has found so far; return the path of the file.

    Test images are in it if there is a model.
    """
    from sklearn_iis.inspection import evaluate_model
    from sklearn_iis.inspection import write_report as write

    folder = RunFolder(out)
    state = folder.expect()
    images = read_table(folder.images)
    choice = restore_run(folder, state, images).choice
    evaluation = None
    if folder.has_model:
        test = images.select(images.parts == TEST)
        evaluation = evaluate_model(load(out), test.paths, test.labels)
    path = folder.report if file is None else file
    return write(
        choice, path, evaluation=evaluation, random_state=state.arguments["seed"]
    )


def measure_importance(out: Path) -> pd.DataFrame:
    """Return the importance of each hyperparameter in each search, at each size.

    Raises
    ------
    CommandError
        If no search has enough candidates.
    """
    folder = RunFolder(out)
    state = folder.expect()
    restored = restore_run(folder, state, read_table(folder.images))
    tables = []
    for name in restored.runs:
        search = restored.choice.searches_[name]
        try:
            result = hyperparameter_importance(
                search, max_order=1, random_state=state.arguments["seed"]
            )
        except ValueError as error:
            say(f"{name}: {error}")
            continue
        table = result.to_frame().drop(columns=["stage", "order"])
        tables.append(table.rename(columns={"subset": "hyperparameter"}))
        tables[-1].insert(0, "search", name)
    if not tables:
        raise CommandError("no search has enough candidates to tell what matters")
    return pd.concat(tables, ignore_index=True)
