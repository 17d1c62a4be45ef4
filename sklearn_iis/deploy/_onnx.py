"""A fitted pipeline as one file of ONNX, from images of any size to probabilities."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import sklearn_iis
from sklearn_iis._files import check_writable, replace_file
from sklearn_iis.deploy._onnx_check import check_file
from sklearn_iis.deploy._onnx_network import export
from sklearn_iis.deploy._onnx_plan import make_plan
from sklearn_iis.deploy._onnx_resize import make_graph
from sklearn_iis.deploy._save import find_fitted, list_classes


def export_onnx(model, path, *, input_size=None):
    """Export a fitted pipeline as a file of ONNX.

    The graph takes "images" of dtype uint8, of shape (n, height, width, 3), or (n,
    height, width) if they are grey. Resizing, as `ImageResizer` does it, and what
    normalises and standardises are part of it. It returns "probabilities" of shape (n,
    n_classes) and dtype float32; its metadata has "classes", a list in JSON.

    The pipeline may consist of an `ImageResizer`, or none if images are of one size,
    and a `CNNClassifier`, or `ImageFeatures`, a `StandardScaler` or none, and a
    `LogisticRegression`.

    Parameters
    ----------
    model : Pipeline
        A fitted one; or a fitted search, whose `best_estimator_` is exported.

    path : str or path-like
        The file, by convention with the suffix ``.onnx``. It is replaced if it exists,
        once the new one is complete.

    input_size : tuple of (int, int), default=None
        Height and width of the images that the graph takes, for runtimes that cannot
        do with any size. None means any size, and each image of a call the same.

    Raises
    ------
    NotFittedError
        If the model is not fitted.

    TypeError
        If a step cannot be exported. The message names it.

    ValueError
        If a network has a module of its own, was trained on pixels from 0 to 1, or is
        given an `input_size` that it does not take; or if the file does not predict
        what the model does.

    ImportError
        If the extra ``onnx`` is not installed.

    OSError
        If the file cannot be written.

    See Also
    --------
    save_model : For Python.

    Notes
    -----
    Where onnxruntime is installed, the file is run on random images of several sizes
    before it takes its place. Their pixels after resizing may differ from those of
    `ImageResizer` by 2 of 255, as both round after each axis, and some by one step
    (with "nearest", a pixel whose centre lies on the border of two may be the other
    one); the probabilities of the same resized images may differ by 0.001, for rounding
    of float32.

    The graph computes in float32. A model that predicts in bfloat16, see `precision` of
    :class:`~sklearn_iis.cnn.CNNClassifier`, is compared in float32, too. JPEG files
    that `ImageResizer` reads at a reduced scale come out a little different from those
    that are decoded in full.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> import onnxruntime
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_iis import CNNClassifier, ImageResizer
    >>> from sklearn_iis.datasets import make_shapes
    >>> from sklearn_iis.deploy import export_onnx
    >>> X, y = make_shapes(20, size=24, n_classes=2, random_state=0)
    >>> clf = CNNClassifier(n_conv_layers=1, max_epochs=1, random_state=0)
    >>> model = make_pipeline(ImageResizer(12), clf).fit(X, y)
    >>> with TemporaryDirectory() as folder:
    ...     export_onnx(model, Path(folder) / "model.onnx")
    ...     session = onnxruntime.InferenceSession(Path(folder) / "model.onnx")
    >>> (probabilities,) = session.run(None, {"images": X[:, :20]})
    >>> probabilities.shape
    (20, 2)
    """
    path = Path(path)
    check_writable(path)
    _check_onnx()
    model = find_fitted(model)
    plan = make_plan(model, _check_input_size(input_size))
    network = export(plan.module, plan.images.channels, plan.images.size)
    resize = make_graph(plan.resizer, plan.images, network.ir_version)
    data = _merge(resize, network, model.classes_).SerializeToString()
    replace_file(path, data, partial(check_file, resize=resize, plan=plan))


def _check_onnx() -> None:
    """Raise an error if packages are missing."""
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "export_onnx takes onnx and onnxscript: pip install 'sklearn-iis[onnx]'"
        ) from error


def _check_input_size(size: Any) -> tuple[int, int] | None:
    """Return the size of images as (height, width), or None; or raise an error."""
    if size is None:
        return None
    is_pair = isinstance(size, tuple) and len(size) == 2
    if not is_pair or not all(isinstance(n, int | np.integer) and n > 0 for n in size):
        raise ValueError(
            "input_size must be a tuple of two positive ints, height and width, or "
            f"None; got {size!r}"
        )
    return int(size[0]), int(size[1])


def _merge(resize: Any, network: Any, classes: np.ndarray) -> Any:
    """Return one graph of two, with its metadata."""
    from onnx import checker, compose, helper

    network = compose.add_prefix(network, "network/", rename_outputs=False)
    whole = compose.merge_models(
        resize, network, io_map=[("resized", "network/resized")]
    )
    helper.set_model_props(whole, {"classes": json.dumps(list_classes(classes))})
    whole.producer_name = "sklearn-iis"
    whole.producer_version = sklearn_iis.__version__
    checker.check_model(whole, full_check=True)
    return whole
