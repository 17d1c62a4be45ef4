"""Images from a folder that holds a folder for each class."""

import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

from sklearn_iis._resize import ImageResizer
from sklearn_iis._sklearn_compat import Interval, StrOptions, validate_params
from sklearn_iis.images._formats import list_extensions
from sklearn_iis.images._read import find_unreadable, make_decoder
from sklearn_iis.images._report import UnreadableImagesError


@validate_params(
    {
        "path": [str, os.PathLike],
        "size": [Interval(Integral, 1, None, closed="left"), tuple, None],
        "mode": [StrOptions({"RGB", "L"})],
        "extensions": [tuple, list, None],
        "classes": ["array-like", None],
        "on_error": [StrOptions({"raise", "skip", "list"})],
        "recursive": ["boolean"],
        "follow_links": ["boolean"],
        "return_X_y": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def load_image_folder(
    path,
    *,
    size=None,
    mode="RGB",
    extensions=None,
    classes=None,
    on_error="raise",
    recursive=False,
    follow_links=False,
    return_X_y=False,
):
    """Load the images of a folder that holds one folder for each class.

    Classes and files are sorted by name. Hidden files and folders are left out; one
    warning counts whatever else is.

    Parameters
    ----------
    path : str or path-like
        The folder. Its folders are the classes, their files the images.

    size : int, tuple of (int, int) or None, default=None
        Height and width to resize the images to, in pixels; an int stands for both. If
        None, `data` holds the paths, to be read by an
        :class:`~sklearn_iis.ImageResizer`.

    mode : {"RGB", "L"}, default="RGB"
        Whether to read the images in colour or grey; unused if `size` is None.

    extensions : tuple or list of str, default=None
        Extensions of the files that are images, in lower case, with the dot; capitals
        match, too. If None, those of all formats that an
        :class:`~sklearn_iis.ImageResizer` reads here.

    classes : array-like of str, default=None
        The names of the classes in the order of their labels, such as `target_names` of
        the images that a classifier was trained on, so that a folder to test on has the
        same labels even if it lacks a class. Hidden folders, and links that are not
        followed, count as lacking. If None, all folders, sorted by name.

    on_error : {"raise", "skip", "list"}, default="raise"
        What to do about files that cannot be read as images: raise an error that names
        them all; leave them out, with a warning; or leave them out, and list them as
        `unreadable`. Unless this is "raise", all files are read, also if `size` is
        None; if it is "raise", they are not opened then.

    recursive : bool, default=False
        Whether images in folders within the folder of a class belong to it as well.

    follow_links : bool, default=False
        Whether to follow symbolic links to what is not in the folder `path`.

    return_X_y : bool, default=False
        Whether to return `data` and `target` alone.

    Returns
    -------
    images : :class:`~sklearn.utils.Bunch`
        Dictionary-like object, with the attributes

        data : ndarray of shape (n_images, height, width[, 3]) or (n_images,)
            The images as uint8, or the paths of their files as str if `size` is None.
        target : ndarray of shape (n_images,) of int
            The class of each image, an index into `target_names`.
        target_names : ndarray of shape (n_classes,) of str
            The names of the classes.
        filenames : ndarray of shape (n_images,) of str
            The path of each file.
        unreadable : dict of str to str
            The path of each file that cannot be read, and why, if `on_error="list"`.
        DESCR : str
            A line on what was loaded.

    (data, target) : tuple if `return_X_y` is True

    Raises
    ------
    NotADirectoryError
        If `path` is no folder.

    ValueError
        If it holds no folders, or none of them images that can be read; if `classes`
        has a name twice, or a path, or no folder is named so.

    OSError
        If files cannot be read as images, and `on_error` is "raise".

    Warns
    -----
    UserWarning
        If something is left out: other files, folders within those of classes, links,
        folders that are none of `classes`, files that cannot be read; or if a class has
        no images. It counts each kind, and names one.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from sklearn_iis.datasets import load_image_folder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for species in ("daisy", "tulip"):
    ...         Path(folder, species).mkdir()
    ...         Image.new("RGB", (40, 30)).save(Path(folder, species, "1.png"))
    ...     flowers = load_image_folder(folder, size=32)
    >>> flowers.data.shape
    (2, 32, 32, 3)
    >>> flowers.target
    array([0, 1])
    """
    if on_error == "list" and return_X_y:
        raise ValueError('on_error="list" adds to a Bunch, and needs return_X_y=False')
    path = Path(path)
    if not path.is_dir():
        raise NotADirectoryError(f"There is no folder '{path}'.")
    extensions = list_extensions() if extensions is None else tuple(extensions)
    walk = Walk(path, extensions, recursive, follow_links)
    names = None if classes is None else list(map(str, classes))
    folders = walk.find_classes(names)
    names = list(folders) if names is None else names
    # A class that was not found, or was left out, has none.
    files = [walk.list_images(folders[n]) if n in folders else [] for n in names]

    filenames = np.array([str(file) for images in files for file in images], dtype=str)
    target = np.repeat(np.arange(len(names)), [len(images) for images in files])
    if not len(filenames):
        raise ValueError(
            f"The class folders of '{path}' hold no images, which are files that end in"
            f" {', '.join(extensions)}." + walk.describe()
        )
    resizer = None if size is None else ImageResizer(size, mode=mode)
    filenames, target, data, unreadable = _read(filenames, target, resizer, on_error)
    if on_error == "skip":
        walk.left_out["files that cannot be read as images"] = list(unreadable.values())
    for label in np.setdiff1d(np.arange(len(names)), target):
        walk.leave_out("classes without images", path / names[label])
    walk.warn()
    if return_X_y:
        return data, target
    listed = {"unreadable": unreadable} if on_error == "list" else {}
    return Bunch(
        data=data,
        target=target,
        target_names=np.array(names),
        filenames=filenames,
        DESCR=f"{len(target)} images of {len(names)} classes from '{path}'",
        **listed,
    )


def _read(filenames, target, resizer, on_error):
    """Return files that can be read, labels, images, and the messages of the others."""
    errors = {}
    try:
        # All at once first, so that files are decoded once if there is nothing wrong.
        data = filenames if resizer is None else resizer.transform(filenames)
        if resizer is None and on_error != "raise":
            errors = _find_errors(filenames)
    except UnreadableImagesError as error:
        if on_error == "raise":
            raise
        errors = error.unreadable
    if not errors:
        return filenames, target, data, {}
    if len(errors) == len(filenames):
        raise ValueError(f"None of the {len(errors)} files can be read: {errors[0]}")
    good = np.setdiff1d(np.arange(len(filenames)), list(errors))
    unreadable = {str(filenames[index]): error for index, error in errors.items()}
    filenames, target = filenames[good], target[good]
    data = filenames if resizer is None else resizer.transform(filenames)
    return filenames, target, data, unreadable


def _find_errors(filenames):
    """Return the messages of files that cannot be read, by index."""
    # At the smallest scale: all of the file is read at any.
    decoder = make_decoder("RGB", (255,) * 3, (1, 1))
    errors = find_unreadable(list(filenames), decoder)
    return {index: str(error) for index, error in errors.items()}


@dataclass
class Walk:
    """A walk through the folders of classes, which keeps account of what it leaves out.

    Parameters
    ----------
    root : Path
        The folder of the folders.

    extensions : sequence of str
        Extensions of images, in lower case.

    recursive : bool
        Whether to go into folders within those of classes.

    follow_links : bool
        Whether to follow links that leave the root.

    left_out : dict of str to list
        What is left out by kind: paths, or texts.
    """

    root: Path
    extensions: Sequence[str]
    recursive: bool
    follow_links: bool
    left_out: dict[str, list] = field(default_factory=dict)

    def leave_out(self, kind: str, entry: Path) -> None:
        """Take account of something that is left out."""
        self.left_out.setdefault(kind, []).append(f"'{entry}'")

    def describe(self) -> str:
        """Return what was left out, with an example of each kind; "" if nothing was."""
        kinds = [
            f"{len(names)} {kind}, such as {names[0]}"
            for kind, names in self.left_out.items()
            if names
        ]
        return f" Left out of '{self.root}': {'; '.join(kinds)}" if kinds else ""

    def warn(self) -> None:
        """Warn of what was left out."""
        if text := self.describe():
            warnings.warn(text.strip(), UserWarning, stacklevel=4)

    def find_classes(self, names: Sequence[str] | None) -> dict[str, Path]:
        """Return the folders of the classes by name; not all that are named exist."""
        self._check_names(names or [])
        found = {}
        for entry in self._list_entries(self.root):
            if not entry.is_dir():
                self.leave_out("files that are in no class folder", entry)
            elif names is not None and entry.name not in names:
                self.leave_out("folders that are none of `classes`", entry)
            else:
                found[entry.name] = entry
        if not found:
            wanted = "one for each class" if names is None else f"any of {list(names)}"
            raise ValueError(
                f"'{self.root}' holds no folders; {wanted} is expected."
                + self.describe()
            )
        return found

    def _check_names(self, names: Sequence[str]) -> None:
        """Refuse names of classes that cannot be those of folders in the root."""
        for name in names:
            if name in ("", "..") or name != Path(name).name:
                raise ValueError(
                    f"`classes` has {name!r}; names of folders in '{self.root}' are "
                    "expected, not paths"
                )
        if len(set(names)) != len(names):
            raise ValueError(f"`classes` names one of them twice: {list(names)}")

    def list_images(self, folder: Path) -> list[Path]:
        """Return the images of a class."""
        return list(self._walk(folder, {folder.resolve()}))

    def _walk(self, folder: Path, parents: set[Path]) -> Iterator[Path]:
        for entry in self._list_entries(folder):
            if not entry.is_dir():
                if entry.suffix.lower() not in self.extensions or not entry.is_file():
                    self.leave_out("files with other extensions", entry)
                else:
                    yield entry
            elif not self.recursive:
                self.leave_out("folders within class folders (see `recursive`)", entry)
            elif entry.resolve() in parents:
                self.leave_out("links to a folder that they are in", entry)
            else:
                yield from self._walk(entry, parents | {entry.resolve()})

    def _list_entries(self, folder: Path) -> list[Path]:
        """Return what is in a folder and not hidden, sorted by name."""
        kept = []
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
            if entry.name.startswith("."):
                continue
            if not os.path.exists(entry):  # also of a link to itself
                self.leave_out("links that lead nowhere", entry)
            elif self._leaves(entry):
                self.leave_out("links out of the folder (see `follow_links`)", entry)
            else:
                kept.append(entry)
        return kept

    def _leaves(self, entry: Path) -> bool:
        """Return whether an entry is a link that is not to be followed."""
        if self.follow_links or not entry.is_symlink():
            return False
        return not entry.resolve().is_relative_to(self.root.resolve())
