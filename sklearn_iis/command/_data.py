"""The images of a folder or a table: their paths, labels and parts."""

import csv
import hashlib
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from sklearn.model_selection import StratifiedShuffleSplit, train_test_split

from sklearn_iis._files import replace_file
from sklearn_iis.command._errors import CommandError
from sklearn_iis.datasets import load_image_folder
from sklearn_iis.images._formats import list_openers
from sklearn_iis.images._read import find_unreadable, make_decoder

TRAIN, VALIDATION, TEST = "train", "validation", "test"

# What parts are called in folders and tables.
PARTS = {
    "train": TRAIN,
    "valid": VALIDATION,
    "val": VALIDATION,
    "validation": VALIDATION,
    "test": TEST,
}

# Of the images that have no part of their own to be tested on, and of those to train on
# that are validated on.
TEST_SHARE, VALIDATION_SHARE = 0.2, 0.25

# The most images that are needed of a class: one in each part.
MOST_NEEDED = 3

# Images whose sizes are looked at.
N_SAMPLED = 200


@dataclass(frozen=True)
class Images:
    """Images on disk.

    Parameters
    ----------
    paths : ndarray of shape (n_images,) of str
        Absolute paths.

    labels : ndarray of shape (n_images,) of str
        The class of each.

    parts : ndarray of shape (n_images,) of str
        "train", "validation" or "test".
    """

    paths: np.ndarray
    labels: np.ndarray
    parts: np.ndarray

    @classmethod
    def from_rows(cls, rows: Sequence[tuple[str, str, str]]) -> "Images":
        """Make them of rows of path, label and part."""
        columns = zip(*rows, strict=True) if rows else ((), (), ())
        return cls(*(np.array([*column], dtype=str) for column in columns))

    @property
    def classes(self) -> list[str]:
        """The names of the classes, sorted."""
        return np.unique(self.labels).tolist()

    @property
    def is_fitted_on(self) -> np.ndarray:
        """Mask of the images to train and to validate on."""
        return self.parts != TEST

    @property
    def labels_by_part(self) -> dict[str, np.ndarray]:
        """The labels of each part that there is."""
        labels = {n: self.labels[self.parts == n] for n in (TRAIN, VALIDATION, TEST)}
        return {name: own for name, own in labels.items() if len(own)}

    def select(self, mask: np.ndarray) -> "Images":
        """Return those of a mask."""
        return Images(self.paths[mask], self.labels[mask], self.parts[mask])

    def digest(self) -> str:
        """Return a hash of names, labels, parts and lengths of the files."""
        rows = zip(self.paths, self.labels, self.parts, strict=True)
        sizes = (os.path.getsize(path) if os.path.exists(path) else -1 for path in self)
        text = "\n".join(
            "\0".join([*row, str(n)]) for row, n in zip(rows, sizes, strict=True)
        )
        return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]

    def __iter__(self):
        return iter(self.paths.tolist())

    def __len__(self):
        return len(self.paths)


def list_images(source: Path) -> Images:
    """Return the images of a folder or a table, without opening them.

    Raises
    ------
    CommandError
        If there is no such folder or table, or it is not as it should be.
    """
    if source.is_dir():
        return _list_folder(source.resolve())
    if source.is_file():
        return _list_table(source.resolve())
    raise CommandError(f"there is no folder or file {str(source)!r}")


def _list_folder(folder: Path) -> Images:
    """Return the images of a folder of classes, or of parts that are such folders."""
    names = [
        entry.name
        for entry in sorted(folder.iterdir())
        if entry.is_dir() and not entry.name.startswith(".")
    ]
    found = {name: PARTS[name.lower()] for name in names if name.lower() in PARTS}
    if len(found) < len(names):
        # A class may be called like a part, but parts hold folders.
        parts = [n for n in found if any(e.is_dir() for e in (folder / n).iterdir())]
        if parts:
            others = sorted({*names} - {*found})
            raise CommandError(
                f"{str(folder)!r} has the parts {parts}, and beside them {others}: "
                "move these elsewhere, or into a part"
            )
        found = {}
    found = found or {"": TRAIN}
    rows: list[tuple[str, str, str]] = []
    for name, part in found.items():
        loaded = load_image_folder(folder / name)
        labels = loaded.target_names[loaded.target]
        rows += [
            (path, label, part)
            for path, label in zip(loaded.data.tolist(), labels.tolist(), strict=True)
        ]
    return Images.from_rows(rows)


def _list_table(path: Path) -> Images:
    """Return the images of a CSV with the columns path, label and perhaps split."""
    try:
        table = pd.read_csv(
            path, dtype=str, keep_default_na=False, skipinitialspace=True
        )
    except (ValueError, pd.errors.ParserError) as error:
        raise CommandError(f"{str(path)!r} is no CSV in UTF-8: {error}") from error
    # Otherwise the first column was taken for the names of rows.
    if not isinstance(table.index, pd.RangeIndex):
        raise CommandError(f"{str(path)!r} has more values in a line than columns")
    if missing := {"path", "label"} - set(table.columns):
        raise CommandError(
            f"{str(path)!r} lacks the columns {sorted(missing)}; it has "
            f"{list(table.columns)}, and needs path, label and, if you like, split"
        )
    if table.empty:
        raise CommandError(f"{str(path)!r} has no rows")
    splits = table.get("split", pd.Series(["train"] * len(table)))
    rows, lines = [], dict[str, int]()
    for line, (name, label, split) in enumerate(
        zip(table["path"], table["label"], splits, strict=True), start=2
    ):
        if not name or not label:
            raise CommandError(f"{str(path)!r}, line {line}: path or label is empty")
        if split.lower() not in PARTS:
            raise CommandError(
                f"{str(path)!r}, line {line}: split is {split!r}, and must be one of "
                f"{', '.join(PARTS)}"
            )
        whole = str(path.parent / name)
        first = lines.setdefault(os.path.normpath(whole), line)
        if first != line:  # it could be trained on and tested on
            raise CommandError(
                f"{str(path)!r}, line {line}: {name!r} is in line {first}, too"
            )
        rows.append((whole, label, PARTS[split.lower()]))
    return Images.from_rows(rows)


def leave_out_unreadable(images: Images) -> tuple[Images, dict[str, str]]:
    """Read all files; return the images that can be read, and why others cannot.

    Raises
    ------
    CommandError
        If none can be read.
    """
    errors = find_errors(images.paths)
    if len(errors) == len(images):
        first = next(iter(errors.values()))
        raise CommandError(f"none of the {len(images)} files can be read: {first}")
    readable = np.array([path not in errors for path in images], dtype=bool)
    return images.select(readable), errors


def find_errors(paths: Sequence[str] | np.ndarray) -> dict[str, str]:
    """Return the files that cannot be read as images, and why."""
    names = [str(path) for path in paths]
    # At the smallest scale: all of the file is read at any.
    decoder = make_decoder("RGB", (255,) * 3, (1, 1))
    return {
        names[i]: str(error) for i, error in find_unreadable(names, decoder).items()
    }


def hold_out_test(images: Images, seed: int) -> Images:
    """Return the images with a part to test on: a stratified fifth, if there is none.

    Raises
    ------
    CommandError
        If there are too few classes, or too few images of one.
    """
    has_test, has_validation = (np.any(images.parts == p) for p in (TEST, VALIDATION))
    fitted = images.select(images.is_fitted_on)
    _check_classes(images, fitted, 2 + (not has_test) - has_validation)
    if has_test:
        return images
    parts = images.parts.copy()
    chosen = np.flatnonzero(parts == TRAIN)
    labels = images.labels[chosen]
    n_test = _count(TEST_SHARE, labels)
    _, held_out = train_test_split(
        chosen, test_size=n_test, stratify=labels, random_state=seed
    )
    parts[held_out] = TEST
    held = replace(images, parts=parts)
    _check_classes(held, held.select(parts != TEST), 2 - has_validation)
    return held


def check_listed(images: Images, seed: int) -> None:
    """Raise an error if images cannot be divided, before all of them are read.

    Files of classes with few are: a class of which none can be read is left out.

    Raises
    ------
    CommandError
        As :func:`hold_out_test` does.
    """
    labels, counts = np.unique(images.labels, return_counts=True)
    rare = images.select(np.isin(images.labels, labels[counts < MOST_NEEDED]))
    readable = ~np.isin(images.paths, list(find_errors(rare.paths)))
    if np.any(readable):
        hold_out_test(images.select(readable), seed)


def _check_classes(images, fitted, n_least):
    """Raise an error if there is nothing to learn, or not enough of a class."""
    in_training = Counter(fitted.labels[fitted.parts == TRAIN].tolist())
    if len(in_training) < 2:
        raise CommandError(
            "at least two classes with images to train on are needed; there are "
            f"{sorted(in_training) or 'none'}"
        )
    if unknown := sorted(set(images.labels.tolist()) - set(in_training)):
        raise CommandError(f"no images to train on are of the classes {unknown}")
    rare = sorted(name for name, n in in_training.items() if n < n_least)
    if rare:
        raise CommandError(
            f"at least {n_least} images to train on are needed of each class, to hold "
            f"out some for validation and test; {rare[0]!r} has {in_training[rare[0]]}"
        )


def count_validation(images: Images) -> int:
    """Return how many of the images to train on are held out for validation."""
    return _count(VALIDATION_SHARE, images.labels)


def split_validation(images: Images, seed: int):
    """Return what splits images into some to train on and some to validate on.

    That is a list with one split if a part of them is for validation.
    """
    if np.any(images.parts == VALIDATION):
        return [tuple(np.flatnonzero(images.parts == p) for p in (TRAIN, VALIDATION))]
    n_valid = count_validation(images)
    return StratifiedShuffleSplit(1, test_size=n_valid, random_state=seed)


def _count(share: float, labels: np.ndarray) -> int:
    """Return how many images a share is, at least one of each class."""
    return max(round(share * len(labels)), len(np.unique(labels)))


def measure_side(images: Images) -> int:
    """Return the usual size of the images: the median of their shorter sides."""
    step = max(1, len(images) // N_SAMPLED)
    sides = []
    for path in images.paths[::step].tolist():
        with Image.open(path, formats=list_openers()) as image:
            sides.append(min(image.size))
    return int(np.median(sides))


def write_table(images: Images, path: Path) -> None:
    """Write path, label and part of each image to a CSV."""
    columns = {"path": images.paths, "label": images.labels, "part": images.parts}
    # A carriage return in a name is kept in quotes only.
    text = pd.DataFrame(columns).to_csv(index=False, quoting=csv.QUOTE_ALL)
    replace_file(path, text.encode(errors="surrogateescape"))


def read_table(path: Path) -> Images:
    """Return what :func:`write_table` has written; names may be other than UTF-8.

    Raises
    ------
    CommandError
        If it is not there, or not as it was.
    """
    try:
        table = pd.read_csv(
            path, dtype=str, keep_default_na=False, encoding_errors="surrogateescape"
        )
        rows = zip(table["path"], table["label"], table["part"], strict=True)
    except FileNotFoundError:
        raise CommandError(
            f"{str(path)!r} is missing, which the run has written: begin anew in "
            "another folder"
        ) from None
    except (KeyError, ValueError) as error:
        raise CommandError(
            f"{str(path)!r} is not as the run has written it ({error}): begin anew in "
            "another folder"
        ) from error
    return Images.from_rows([*rows])


def expand(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the files that arguments name, and the arguments that name none.

    Arguments are files, folders or patterns.
    """
    from glob import glob

    from sklearn_iis.images._formats import list_extensions

    extensions = list_extensions()
    found: list[str] = []
    empty: list[str] = []
    for name in names:
        if os.path.isdir(name):
            files = sorted(path for path in Path(name).rglob("*") if path.is_file())
            matches = [str(p) for p in files if p.suffix.lower() in extensions]
        elif not os.path.exists(name) and re.search(r"[*?\[]", name):
            matches = sorted(filter(os.path.isfile, glob(name, recursive=True)))
        else:
            matches = [name]  # also one that is missing: it is told of as unreadable
        found += matches
        empty += [] if matches else [name]
    return list(dict.fromkeys(found)), empty
