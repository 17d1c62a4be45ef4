"""The sections of a model card, in Markdown."""

import platform
from dataclasses import dataclass
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

from sklearn_iis.deploy._folder import INDEX
from sklearn_iis.deploy._markdown import (
    as_code,
    as_line,
    as_text,
    make_front_matter,
    make_table,
)
from sklearn_iis.deploy._pretrained import list_pretrained
from sklearn_iis.inspection import Evaluation
from sklearn_iis.inspection._evaluation import (
    ScoreOnly,
    find_promise,
    name_scorer,
    promises_accuracy,
)
from sklearn_iis.inspection.report._content import (
    describe_best,
    describe_stages,
    name_algorithm,
    name_estimator,
)
from sklearn_iis.inspection.report._evaluated import (
    format_interval,
    format_share,
    sort_by_recall,
)
from sklearn_iis.inspection.report._searches import describe_searches
from sklearn_iis.inspection.report._source import Source, is_choice
from sklearn_iis.inspection.report._text import count, format_duration, format_value
from sklearn_iis.inspection.report._thumbnails import find_resizer

PACKAGES = ("torch", "scikit-learn", "numpy")

# Of fewer images, a recall says little.
FEW = 10
MAX_FEW = 10

# The classes that the results name.
N_WORST = 3


@dataclass(frozen=True)
class Facts:
    """All that a card tells of."""

    search: Any
    sources: dict[str, Source]
    test: Evaluation | ScoreOnly | None
    class_names: list[str] | None  # None of what is no classifier
    counts: dict[str, np.ndarray]  # by part of the data, the images of each class
    source: str | None

    @property
    def best(self) -> Source:
        """The search that found the best candidate."""
        return next(iter(self.sources.values()))

    @property
    def size(self) -> Any:
        """The size of the images that the model is made for; None if it has none."""
        resizer = find_resizer(self.search)
        return None if resizer is None else resizer.size

    @property
    def noun(self) -> str:
        """The name of a sample."""
        has_images = self.best.sized or find_resizer(self.search) is not None
        return "image" if has_images else "sample"


def write_sections(facts: Facts, title: str | None, folder: Path) -> list[str]:
    """Return the lines of a card in a folder."""
    return [
        *_tell_yaml(facts),
        *_tell_title(facts, title, folder),
        *_tell_results(facts),
        *_tell_data(facts),
        *_tell_search(facts),
        *_tell_hyperparameters(facts),
        *_tell_limits(facts),
        *_tell_weights(facts),
        *_tell_versions(),
    ]


def _tell_yaml(facts: Facts) -> list[str]:
    kind = "classification" if facts.class_names is not None else "regression"
    task = f"{'image' if facts.noun == 'image' else 'tabular'}-{kind}"
    values: dict[str, Any] = {
        "library_name": "sklearn-iis",
        "pipeline_tag": task,
        "tags": ["sklearn-iis", task],
    }
    if isinstance(facts.test, Evaluation):
        values["metrics"] = ["accuracy"]
        name = as_line(facts.source or "test data")
        values["model-index"] = [
            {
                "name": name_estimator(facts.best.search),
                "results": [
                    {
                        "task": {"type": task},
                        "dataset": {"name": name, "type": "other", "split": "test"},
                        "metrics": [
                            {
                                "type": "accuracy",
                                "value": round(facts.test.accuracy, 4),
                            }
                        ],
                    }
                ],
            }
        ]
    return make_front_matter(values)


def _tell_title(facts: Facts, title: str | None, folder: Path) -> list[str]:
    # Not from our package by name: it is above this room.
    import sklearn_iis

    if title is None:
        title = name_estimator(facts.best.search)
        if facts.class_names is not None:
            title += f" of {len(facts.class_names)} classes"
    lines = [
        f"# {as_text(title)}",
        "",
        f"The best model that a `{type(facts.search).__name__}` of sklearn-iis "
        f"{sklearn_iis.__version__} found, {date.today().isoformat()}.",
        "",
    ]
    if (folder / INDEX).exists():
        lines += [
            "```python",
            "from sklearn_iis.deploy import load_model",
            "",
            'model = load_model("folder of this card")',
            "```",
            "",
        ]
    return lines


def _tell_results(facts: Facts) -> list[str]:
    lines = ["## Results", "", f"- Validation: {_tell_validation(facts)}"]
    test = facts.test
    if test is None:
        return [*lines, "- Test: none was made.", ""]
    score = "" if test.score is None else f"{format_value(test.score)}"
    name = name_scorer(facts.search)
    scored = f"- Test score{f' ({as_text(name)})' if name else ''}: {score}"
    if isinstance(test, ScoreOnly):
        return [*lines, f"{scored}, {count(test.n_samples, facts.noun)}.", ""]
    lines.append(
        f"- Test accuracy: **{format_share(test.accuracy)}**, 95 % interval "
        f"{format_interval(test.interval)} (Wilson), {test.n_correct} of "
        f"{count(test.n_samples, facts.noun)} right."
    )
    if score:
        lines.append(f"{scored}.")
    worst = [one for one in sort_by_recall(test.per_class) if one.support][:N_WORST]
    told = ", ".join(
        f"{as_text(one.name)} {format_share(one.recall)} (of {one.support})"
        for one in worst
    )
    return [*lines, f"- Lowest recall of a class: {told}.", ""]


def _tell_validation(facts: Facts) -> str:
    """Return the score by which the model was chosen."""
    if find_promise(facts.search) is None:
        return "the search chose by a rule of its own."
    best = describe_best(facts.best)
    name = name_scorer(facts.search)
    if promises_accuracy(facts.search):
        name = "accuracy"
    parts = [f"{name or 'score'} {best['score']}", best["splits"]]
    counts = facts.counts.get("validation")
    one_split = facts.best.stages[0].n_splits == 1
    if name == "accuracy" and counts is not None and one_split:
        n = int(counts.sum())
        right = round(find_promise(facts.search) * n)  # type: ignore[operator]
        interval = binomtest(right, n).proportion_ci(0.95, method="wilson")
        parts.append(f"95 % interval {format_interval((interval.low, interval.high))}")
    n_candidates = sum(len(source.rows) for source in facts.sources.values())
    parts.append(f"the best of {count(n_candidates, 'candidate')}, so rather too high")
    return f"{as_text(', '.join(parts))}."


def _tell_data(facts: Facts) -> list[str]:
    lines = ["## Data", ""]
    if facts.source is not None:
        lines.append(f"- Source: {as_text(facts.source)}")
    else:
        lines.append("- Source: not told.")
    lines += [
        f"- {as_text(name).capitalize()}: {count(int(n.sum()), facts.noun)}"
        for name, n in facts.counts.items()
    ]
    if facts.class_names is None:
        return [*lines, ""]
    heads = ["Class", *(as_text(name).capitalize() for name in facts.counts)]
    rows = [
        [as_text(name), *(str(n[i]) for n in facts.counts.values())]
        for i, name in enumerate(facts.class_names)
    ]
    return [*lines, *make_table(heads, rows)]


def _tell_search(facts: Facts) -> list[str]:
    lines = ["## Search", ""]
    search, best = facts.search, facts.best
    if is_choice(search):
        lines.append(
            "Searches that shared the time; the better half went on after each round."
        )
        rows = describe_searches(search, facts.sources)["rows"]
        columns = ["name", "estimator", "algorithm", "candidates", "size", "seconds"]
        heads = ["Search", "Estimator", "Algorithm", "Candidates", "Last size"]
        lines += make_table(
            [*heads, "Seconds", "Best score", "Outcome"],
            [[as_text(row[c]) for c in [*columns, "best", "outcome"]] for row in rows],
        )
        lines.append(f"The stages of {as_text(best.name)}, the best one:")
    else:
        algorithm = name_algorithm(search)
        lines.append(
            f"A `{type(search).__name__}`"
            + (f", algorithm {as_text(algorithm)}" if algorithm else "")
            + f": {count(len(best.rows), 'candidate')}, {best.n_failed} failed, "
            f"{format_duration(best.seconds)} of fitting and scoring."
        )
    keys = {"stage": "Stage", "size": "Size", "candidates": "Candidates"}
    keys |= {"failed": "Failed", "best": "Best score", "seconds": "Seconds"}
    if not best.sized:
        del keys["size"]
    stages = describe_stages(best)["rows"]
    cells = [[as_text(row[key]) for key in keys] for row in stages]
    return [*lines, *make_table(list(keys.values()), cells)]


def _tell_hyperparameters(facts: Facts) -> list[str]:
    size = facts.size
    lines = ["## Hyperparameters", ""]
    if size is not None:
        height, width = size if isinstance(size, tuple) else (size, size)
        lines.append(f"Images are resized to {height} x {width} pixels.")
    params = facts.search.best_params_.items()
    rows = [[as_code(name), as_code(format_value(value))] for name, value in params]
    return [*lines, *make_table(["Hyperparameter", "Value"], rows)]


def _tell_limits(facts: Facts) -> list[str]:
    noun, test = facts.noun, facts.test
    lines = ["## Limits", ""]
    if test is None:
        lines.append(
            f"- It was tested on no {noun}s that the search had not seen. The "
            "validation score is of the candidate that was best by it, and too high."
        )
    else:
        lines.append(
            f"- It was tested on these {count(test.n_samples, noun)} only. On {noun}s "
            "unlike these and those of the training nothing is known of it"
            + (
                ": other cameras, light, backgrounds, or places."
                if noun == "image"
                else "."
            )
        )
    if facts.class_names is not None:
        lines.append(
            f"- It names one of its {len(facts.class_names)} classes whatever it is "
            "given, also if it is none of them. Its probabilities were not checked."
        )
    if isinstance(test, Evaluation):
        lines += _tell_precision(test, noun)
    return [*lines, ""]


def _tell_precision(test: Evaluation, noun: str) -> list[str]:
    """Return how much a small number of test samples leaves open."""
    low, high = test.interval
    lines = [
        f"- The 95 % interval of the accuracy is {high - low:.3f} wide, as the test "
        f"has {count(test.n_samples, noun)}: a smaller difference to another model may "
        "be chance."
    ]
    few = [as_text(one.name) for one in test.per_class if one.support < FEW]
    if few:
        more = f", and {len(few) - MAX_FEW} more" if len(few) > MAX_FEW else ""
        lines.append(
            f"- Figures of a class with fewer than {FEW} test {noun}s say little: "
            f"{', '.join(few[:MAX_FEW])}{more}."
        )
    return lines


def _tell_weights(facts: Facts) -> list[str]:
    found = list_pretrained(facts.search.best_estimator_)
    if not found:
        return []
    lines = [f"- {as_code(name)}: {licence}" for name, licence in found.items()]
    return ["## Pretrained weights", "", *lines, ""]


def _tell_versions() -> list[str]:
    import sklearn_iis

    versions = {"python": platform.python_version()}
    versions["sklearn-iis"] = sklearn_iis.__version__
    versions |= {name: metadata.version(name) for name in PACKAGES}
    return ["## Versions", "", *(f"- {n} {v}" for n, v in versions.items()), ""]
