"""Predictions of a model for image files, as rows of CSV or JSON."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from sklearn_iis._files import check_writable, replace_file
from sklearn_iis.command._data import expand, find_errors
from sklearn_iis.command._ending import say, writing_output
from sklearn_iis.command._errors import OK, SOME_LEFT_OUT, CommandError
from sklearn_iis.command._run import RunFolder, as_command

# So many images are read and predicted at a time.
AT_ONCE = 256


def predict(
    out: Path,
    names: Sequence[str],
    file: TextIO,
    *,
    layout: str = "csv",
    top: int | None = None,
    device: str = "auto",
) -> int:
    """Write label and probabilities of each image; return the exit code.

    Parameters
    ----------
    out : Path
        The folder of a run, or a model by itself.

    names : sequence of str
        Files, folders or patterns.

    file : file object
        Where the rows are written.

    layout : {"csv", "jsonl"}, default="csv"
        Whether rows are of CSV, or objects of JSON, one per line.

    top : int, default=None
        How many of the likeliest classes are told of; None for all, in order.

    device : str, default="auto"
        Where it is computed.

    Raises
    ------
    CommandError
        If there is no model, or no file that can be read.
    """
    model = load(out, device)
    classes = [str(name) for name in model.classes_]
    top = None if top is None else min(top, len(classes))
    paths, left_out = expand(names)
    if not paths:
        raise CommandError(f"there are no images in {', '.join(map(repr, names))}")
    for name in left_out:
        say(f"left out: {name!r} holds no images")
    write = _write_json if layout == "jsonl" else _write_csv
    rows = _drop_unreadable(_predict_rows(model, paths), left_out)
    first = next(rows, None)
    if first is None:
        raise CommandError(f"none of the {len(paths)} files can be read")
    write(file, classes, chain([first], rows), top)
    return SOME_LEFT_OUT if left_out else OK


@contextmanager
def opened(path: Path | None) -> Iterator[TextIO]:
    """Open a file that is written at the end, if there is no error; or the output.

    Names of files are written as they are, also if they are no UTF-8.
    """
    if path is None:
        with writing_output() as output:
            if isinstance(output, io.TextIOWrapper):
                output.reconfigure(errors="surrogateescape")
            yield output
        return
    check_writable(path)
    text = io.StringIO(newline="")
    yield text
    replace_file(path, text.getvalue().encode(errors="surrogateescape"))


def load(out: Path, device: str = "auto") -> Any:
    """Return the model of a run, or the one that a folder is.

    Raises
    ------
    CommandError
        If there is none.
    """
    from sklearn_iis.deploy import load_model
    from sklearn_iis.deploy._folder import INDEX

    folder = RunFolder(out)
    if folder.has_model:
        return load_model(folder.model, device=device)
    if folder.state_file.exists():
        raise CommandError(
            f"{str(out)!r} has no model yet; to go on: {as_command('resume', out)}"
        )
    if out.is_file():
        raise CommandError(
            f"{str(out)!r} is a file: name the folder that `sklearn-iis fit --out` has "
            "written to, or a model"
        )
    if not out.is_dir():
        raise CommandError(f"there is no folder {str(out)!r}")
    if not (out / INDEX).exists():
        raise CommandError(f"{str(out)!r} holds neither a run nor a model")
    return load_model(out, device=device)


def _predict_rows(model, paths) -> Iterator[tuple[str, np.ndarray | str]]:
    """Return each path with its probabilities, or with why it cannot be read."""
    for start in range(0, len(paths), AT_ONCE):
        batch = paths[start : start + AT_ONCE]
        errors = find_errors(batch)
        good = [path for path in batch if path not in errors]
        found = model.predict_proba(np.array(good, dtype=str)) if good else []
        probabilities = dict(zip(good, found, strict=True))
        for path in batch:
            yield path, errors[path] if path in errors else probabilities[path]


def _drop_unreadable(rows, left_out: list[str]):
    """Return the rows of images that can be read; tell of the others."""
    for path, outcome in rows:
        if isinstance(outcome, str):
            left_out.append(path)
            say(f"left out: {outcome}")
        else:
            yield path, outcome


def _write_csv(file, classes, rows, top):
    """Write a column per class, or two for each of the likeliest ones."""
    writer = csv.writer(file, lineterminator="\n")
    if top is None:
        writer.writerow(["path", "label", *(f"p({name})" for name in classes)])
    else:
        columns = ["label", "p"]
        columns += [f"{c}{i}" for i in range(2, top + 1) for c in ("label", "p")]
        writer.writerow(["path", *columns])
    for path, probabilities in rows:
        order = np.argsort(-probabilities, kind="stable")
        if top is None:
            cells = [classes[order[0]], *map(_round, probabilities)]
        else:
            pairs = [(classes[i], _round(probabilities[i])) for i in order[:top]]
            cells = [cell for pair in pairs for cell in pair]
        writer.writerow([path, *cells])


def _write_json(file, classes, rows, top):
    """Write an object per image."""
    for path, probabilities in rows:
        order = np.argsort(-probabilities, kind="stable")
        told = range(len(classes)) if top is None else order[:top]
        row = {
            "path": path,
            "label": classes[order[0]],
            "probabilities": {classes[i]: _round(probabilities[i]) for i in told},
        }
        file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _round(probability: float) -> float:
    return round(float(probability), 6)
