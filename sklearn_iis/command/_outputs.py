"""The outputs of a run: the model, the report, the model card, tables and a script."""

from typing import Any

import pandas as pd

from sklearn_iis._files import replace_file
from sklearn_iis.choice import ChoiceSearchCV
from sklearn_iis.command._data import TEST, Images
from sklearn_iis.command._run import RunFolder, State
from sklearn_iis.command._script import write_script


def write_outputs(
    folder: RunFolder, state: State, choice: ChoiceSearchCV, images: Images
) -> dict[str, Any]:
    """Write all that a run leaves; return its result in short."""
    from sklearn_iis.deploy import save_model, write_model_card
    from sklearn_iis.inspection import evaluate_model, write_report

    test = images.select(images.parts == TEST)
    save_model(choice.best_estimator_, folder.model)
    evaluation = evaluate_model(choice, test.paths, test.labels)
    write_report(
        choice,
        folder.report,
        evaluation=evaluation,
        random_state=state.arguments["seed"],
    )
    write_model_card(
        choice,
        folder.card,
        evaluation=evaluation,
        source=state.arguments["source"],
        parts=images.labels_by_part,
    )
    write_table(choice, folder)
    write_script(folder.script, state, images)
    return {
        "accuracy": float(evaluation.accuracy),
        "interval": [float(bound) for bound in evaluation.interval],
        "n_test": len(test),
        "way": choice.best_search_,
    }


def write_table(choice: ChoiceSearchCV, folder: RunFolder) -> None:
    """Write the candidates of all searches and their scores."""
    # The parameters have columns of their own.
    table = pd.DataFrame(choice.cv_results_).drop(columns="params")
    replace_file(folder.table, table.to_csv(index=False).encode())
