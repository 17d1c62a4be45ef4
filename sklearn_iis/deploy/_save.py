"""A fitted model as a folder, and back."""

import platform
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

import sklearn_iis
from sklearn_iis._resize import ImageResizer
from sklearn_iis.cnn._device import resolve_device
from sklearn_iis.cnn._model_file import explain_errors
from sklearn_iis.deploy._estimators import (
    CONTAINERS,
    Loading,
    describe,
    import_skops,
    make,
    needs_skops,
)
from sklearn_iis.deploy._folder import (
    FileSet,
    check_folder,
    read_files,
    read_index,
    write_folder,
)

# Distributions whose versions are noted.
PACKAGES = ("numpy", "pillow", "scikit-learn", "skops", "torch")


def save_model(model, folder):
    """Save a fitted model to a folder of files that hold no code.

    Networks are stored by safetensors, other estimators by skops (extra ``deploy``),
    and `ImageResizer` and `ImageFeatures` as their parameters, in an index
    ``model.json``. It also tells the versions of packages, the classes, and whether
    `predict` takes "paths" of image files (or arrays), or "arrays" only.

    Parameters
    ----------
    model : estimator object
        A fitted pipeline, or one of its estimators; or a fitted search, of which the
        `best_estimator_` is saved. Estimators may be those of this package and of
        scikit-learn.

    folder : str or path-like
        Made if it does not exist, with its parents. A model that is in it is replaced
        once the new one is complete; what else there is beside that model stays.

    Raises
    ------
    NotFittedError
        If the model is not fitted.

    FileExistsError
        If the folder is neither empty nor that of a model.

    NotADirectoryError
        If it is a file.

    TypeError
        If the model holds something that could not be loaded without running code:
        functions, or types of other packages.

    ValueError
        If a network has a module of its own, or could not be loaded again.

    ImportError
        If skops is needed and not installed.

    OSError
        If the folder cannot be written.

    See Also
    --------
    load_model : Load such a folder.
    export_onnx : For programs without Python.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_iis import CNNClassifier, ImageResizer
    >>> from sklearn_iis.datasets import make_shapes
    >>> from sklearn_iis.deploy import load_model, save_model
    >>> X, y = make_shapes(20, size=24, n_classes=2, random_state=0)
    >>> clf = CNNClassifier(n_filters=4, max_epochs=1, random_state=0)
    >>> model = make_pipeline(ImageResizer(12), clf).fit(X, y)
    >>> with TemporaryDirectory() as folder:
    ...     save_model(model, Path(folder) / "model")
    ...     loaded = load_model(Path(folder) / "model")
    >>> bool((loaded.predict_proba(X) == model.predict_proba(X)).all())
    True
    """
    folder = Path(folder)
    check_folder(folder)
    model = find_fitted(model)
    # All of it is made, and found to be safe, before anything is written.
    files = FileSet()
    node = describe(model, "the model", files)
    index = {
        "input": _find_input(node),
        "classes": list_classes(getattr(model, "classes_", ())),
        "packages": _list_versions(),
        "model": node,
    }
    write_folder(folder, index, files)


def load_model(folder, *, device="auto"):
    """Load a model that :func:`save_model` has saved.

    Nothing in the folder is run, whoever has written it. Files that are not as they
    were written are refused, and so is whatever `save_model` does not write.

    Parameters
    ----------
    folder : str or path-like
        The folder.

    device : str, default="auto"
        Where networks compute, see :class:`~sklearn_iis.cnn.CNNClassifier`.

    Returns
    -------
    model : Pipeline, or what else was saved
        Its predictions are those of the model that was saved, exactly so on the same
        device of the same machine.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or a file is missing.

    OSError
        If a file cannot be read.

    ValueError
        If it is no folder of a model, of another version, damaged, or holds something
        that is not trusted. The message says what. Also if there is no such device.

    ImportError
        If skops is needed and not installed.

    Warns
    -----
    InconsistentVersionWarning
        If an estimator of scikit-learn was saved by another version of it.

    See Also
    --------
    save_model : Save to a folder.
    """
    folder = Path(folder)
    # A device that is not there is no fault of the folder.
    resolve_device(device)
    what = f"{str(folder)!r} cannot be loaded as a model that save_model wrote"
    with explain_errors(what):
        index = read_index(folder)
        files = read_files(folder, index)
    if needs_skops(files):
        import_skops("it")
    with explain_errors(what):
        return make(index["model"], Loading(files, device))


def find_fitted(model: Any) -> Any:
    """Return a fitted model, or what a fitted search has found.

    Raises
    ------
    NotFittedError
        If it is not fitted.
    """
    check_is_fitted(model)
    if hasattr(model, "best_score_") and not hasattr(model, "best_estimator_"):
        raise ValueError(
            f"{type(model).__name__} has no best_estimator_: fit it with refit=True"
        )
    return getattr(model, "best_estimator_", model)


def _find_input(node: Any) -> str:
    """Return how `predict` wants images: "paths" of files (or arrays), or "arrays"."""
    while node["kind"] in CONTAINERS:
        [(_, node), *_] = node[CONTAINERS[node["kind"]]]
    return "paths" if node["kind"] == ImageResizer.__name__ else "arrays"


def list_classes(classes: Any) -> list[Any]:
    """Return classes as JSON has them; to be shown, the model has its own."""
    plain = (bool, int, float, str)
    values: Iterable[Any] = np.asarray(classes).tolist()
    return [value if isinstance(value, plain) else f"{value}" for value in values]


def _list_versions() -> dict[str, str]:
    """Return the versions of Python and the packages that a model depends on."""
    versions = {
        "python": platform.python_version(),
        "sklearn-iis": sklearn_iis.__version__,
    }
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
