"""Prepared data: X after the leading, stateless steps of a pipeline, in a file."""

import io
import os
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags
from sklearn.utils.metadata_routing import get_routing_for_object

from sklearn_iis._resize import ImageResizer
from sklearn_iis._sklearn_compat import (
    count_samples,
    has_callbacks,
    is_routing_enabled,
    take_samples,
)
from sklearn_iis.execution._arrays import MIN_BYTES
from sklearn_iis.execution._deadline import NothingFinishedError
from sklearn_iis.execution._gpus import find_auto_devices, free_memory

PASSTHROUGH = "passthrough"

# What is transformed at once: so many samples, fewer if X has more bytes than this.
CHUNK = 256
CHUNK_BYTES = 2**26

# One of how many samples is transformed again, by itself, and how many at most.
PROBED = 50
MAX_PROBES = 32

# By what part of the largest value of a feature the outcome may depend on the other
# samples of a call: kernels for other numbers of samples round otherwise, in bfloat16
# by .004.
TOLERANCE = 0.01

Steps = Sequence[tuple[str, Any]]


def find_stateless(
    estimator: Any,
    fixed: dict[str, Any],
    searched: Collection[str],
    metadata: Collection[str] = (),
) -> list[tuple[str, Any]]:
    """Return the leading steps of a pipeline that learn nothing and are not searched.

    Parameters
    ----------
    estimator : estimator object
        The pipeline.

    fixed : dict of str to object
        Its parameters that all candidates of a stage share.

    searched : collection of str
        Parameters that candidates differ by.

    metadata : collection of str, default=()
        Further arguments of `fit` and of the scorer.

    Returns
    -------
    steps : list of (str, transformer)
        They end with a transformer; none if the estimator is no pipeline. The last step
        of the pipeline is never among them.
    """
    # With `transform_input`, metadata go through the steps as well.
    if not isinstance(estimator, Pipeline) or getattr(
        estimator, "transform_input", None
    ):
        return []
    estimator = clone(estimator).set_params(**clone(fixed, safe=False))
    steps = []
    named = {param.partition("__")[0] for param in searched}
    for name, step in estimator.steps[:-1]:
        if name in named or not _is_stateless(name, step, metadata):
            break
        steps.append((name, step))
    while steps and _is_passthrough(steps[-1][1]):
        steps.pop()
    return steps


def _is_passthrough(step):
    return step is None or isinstance(step, str)


def _is_stateless(name, step, metadata):
    """Return whether a step does the same to a sample whatever it was fitted to."""
    if _is_passthrough(step):
        return True
    if not (hasattr(step, "__sklearn_tags__") and hasattr(step, "transform")):
        return False
    if get_tags(step).requires_fit or has_callbacks(step):
        return False
    if any(param.startswith(f"{name}__") for param in metadata):
        return False
    if not is_routing_enabled():
        return True
    request = get_routing_for_object(step)
    methods = ("fit", "transform", "fit_transform")
    return not any(request.consumes(method, metadata) for method in methods)


@dataclass(frozen=True)
class Prepared:
    """X after the leading steps of a pipeline, in a file.

    Parameters
    ----------
    steps : tuple of (str, transformer)
        The steps, with the parameters of their stage, not fitted.

    path : str
        The file, in the format of :func:`numpy.save`.
    """

    steps: tuple[tuple[str, Any], ...]
    path: str

    @property
    def skipped(self) -> tuple[str, ...]:
        """The steps that candidates skip."""
        working = [step for _, step in self.steps if not _is_passthrough(step)]
        # By itself it stays, as scorers may look at it: it has nothing left to do.
        if len(working) == 1 and isinstance(working[0], ImageResizer):
            return ()
        return tuple(name for name, _ in self.steps)

    def is_complete(self, n_samples: int) -> bool:
        """Return whether the file is there, with a row for each sample."""
        with suppress(Exception):  # whatever reading another file may raise
            return _is_table(self._map(), n_samples)
        return False

    def open(self) -> np.ndarray:
        """Return the array for evaluations; if it is large, a map of the file."""
        array = self._map()
        return array if array.nbytes > MIN_BYTES else self.load()

    def load(self) -> np.ndarray:
        """Return the array in memory, where it can be written to."""
        return np.load(self.path, allow_pickle=False)

    def _map(self):
        return np.load(self.path, mmap_mode="r", allow_pickle=False)

    def put_back(self, pipeline: Pipeline, X: Any, y: Any) -> None:
        """Put the steps into a fitted pipeline, as if it had been fitted with them.

        They are fitted to some samples, as nothing but names and shapes is learned.

        Parameters
        ----------
        pipeline : Pipeline
            It was fitted to the prepared data.

        X, y : array-like
            The data as they were before.
        """
        few = _choose_probes(count_samples(X), CHUNK)
        X, y = take_samples(X, few), _take_targets(y, few)
        steps = []
        for name, step in self.steps:
            if not _is_passthrough(step):
                step = clone(step)
                X = step.fit_transform(X, y)
            steps.append((name, step))
        pipeline.set_params(**dict(steps))


def prepare(
    X: Any,
    y: Any,
    steps: Steps,
    locate: Callable[[Steps], str],
    report: Callable[[int], None] = lambda n_done: None,
) -> Prepared | None:
    """Compute once what the leading steps of a pipeline make of X.

    It ends before a step by which a sample comes out otherwise together with others
    than alone, or at random: what that learns of the test data would leak. Nor is what
    comes out kept if it is no array of numbers with a row for each sample.

    Parameters
    ----------
    X, y : array-like
        The data; y may be None.

    steps : sequence of (str, transformer)
        As from :func:`find_stateless`; they are cloned.

    locate : callable
        Returns the path of the file for the first so many steps. If the file is there,
        nothing is computed.

    report : callable, default=None
        Called with the number of samples done so far. If it raises
        :class:`~sklearn_iis.execution._deadline.NothingFinishedError` or
        KeyboardInterrupt, what is done is kept beside the file, and another call goes
        on after that.

    Returns
    -------
    prepared : Prepared or None
        None if there is nothing that is better computed once.

    Raises
    ------
    Exception
        What a step raises.

    OSError
        If the file cannot be written.
    """
    n_samples = count_samples(X)
    for n in range(len(steps), 0, -1):
        prepared = Prepared(tuple(steps[:n]), locate(steps[:n]))
        if prepared.is_complete(n_samples):
            report(n_samples)
            return prepared
    if not steps or n_samples < 2:
        return None
    try:
        return _compute(X, y, steps, locate, report)
    finally:
        working = [step for _, step in steps if not _is_passthrough(step)]
        if any(map(find_auto_devices, working)):
            free_memory()


def _compute(X, y, steps, locate, report):
    """Return what the steps make of X, once that is in its file."""
    n_samples, size = count_samples(X), _choose_size(X)
    fitted, first = _fit_to_first(steps, X, y, min(size, n_samples))
    if first is None or _is_unchanged(X, first):
        return None
    done = steps[: len(fitted)]
    prepared = Prepared(tuple(done), locate(done))
    make_chunks = partial(_transform_chunks, fitted, X, first, size)
    is_complete = _write(prepared.path, first, make_chunks, n_samples, report)
    return prepared if is_complete else None


def _choose_size(X):
    """Return how many samples are transformed at once."""
    one = X[0] if isinstance(X, list | tuple) else X
    n = 1 if one is not X else count_samples(X)
    n_bytes = getattr(one, "nbytes", 0) / n
    return int(np.clip(CHUNK_BYTES / max(n_bytes, 1), 4, CHUNK))


def _choose_probes(n_samples, size):
    """Return the indices of a few samples of the first chunk."""
    size = min(size, n_samples)
    n_probes = min(np.clip(n_samples // PROBED, 2, MAX_PROBES), size)
    return np.linspace(0, size - 1, n_probes).astype(int)


def _take_targets(y, indices):
    return None if y is None else take_samples(y, indices)


def _fit_to_first(steps, X, y, size):
    """Return the steps that treat each sample alone, fitted, and the first chunk.

    The chunk is None if there are no such steps.
    """
    few = _choose_probes(count_samples(X), size)
    parts = [np.arange(size), few, few[-1:]]
    chunk, some, one = (take_samples(X, part) for part in parts)
    y_chunk, y_some = (_take_targets(y, part) for part in parts[:2])
    fitted, n_usable, first = [], 0, None
    for name, step in steps:
        if not _is_passthrough(step):
            step = clone(step)
            with _naming(name, 0, size):
                chunk = step.fit(chunk, y_chunk).transform(chunk)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of samples by themselves
                    # A pipeline calls the one for training, the other for predictions.
                    some = step.fit_transform(some, y_some)
                    one = step.transform(one)
            except Exception:  # a step that needs more samples looks at them all
                break
        fitted.append((name, step))
        if _is_table(chunk, size) and not _is_passthrough(step):
            if not (_is_same(chunk[few], some) and _is_same(chunk[few[-1:]], one)):
                break
            # The next step may change it in place.
            n_usable, first = len(fitted), chunk.copy()
    return fitted[:n_usable], first


@contextmanager
def _naming(name: str, start: int, stop: int) -> Iterator[None]:
    """Have an error tell the step and the samples."""
    try:
        yield
    except Exception as error:
        error.add_note(
            f"In step {name!r}, which is computed once a stage, with the samples from "
            f"{start} to {stop - 1} of X: its X[0] is X[{start}]."
        )
        raise


def _transform_chunks(steps, X, first, size, n_done):
    """Yield what becomes of X, chunk by chunk, and how many samples that is.

    The first `n_done` samples are left out.
    """
    if not n_done:
        yield first, len(first)
    n_samples = count_samples(X)
    for start in range(n_done or len(first), n_samples, size):
        stop = min(start + size, n_samples)
        # Not a slice, which would be the user's own memory.
        chunk = take_samples(X, np.arange(start, stop))
        for name, step in steps:
            if not _is_passthrough(step):
                with _naming(name, start, stop):
                    chunk = step.transform(chunk)
        yield chunk, stop - start


def _write(path, first, make_chunks, n_samples, report):
    """Write the file; return False, with none, if a chunk is unlike the first.

    What is complete when the time is up, or somebody interrupts it, is kept, and
    another call goes on after that.
    """
    header = _make_header((n_samples, *first.shape[1:]), first.dtype)
    n_bytes = first[:1].nbytes
    # Nobody else has the directory.
    unfinished, kept = f"{path}.tmp", f"{path}.part"
    n_done, end = _count_rows(kept, header, n_bytes), None
    try:
        if n_done:
            os.replace(kept, unfinished)
        with open(unfinished, "ab" if n_done else "wb") as file:
            if not n_done:
                file.write(header)
            try:
                for chunk, n_rows in make_chunks(n_done):
                    if not _is_table(chunk, n_rows) or not _is_alike(chunk, first):
                        return False
                    _append(file, chunk, path)
                    n_done += n_rows
                    report(n_done)
            except (NothingFinishedError, KeyboardInterrupt) as error:
                end = error
                # An interrupt comes also within a chunk.
                file.truncate(len(header) + n_done * n_bytes)
            file.flush()
            # It gets its name when it is on the disk, lest the power fails in between.
            os.fsync(file.fileno())
        os.replace(unfinished, path if end is None else kept)
    finally:
        Path(unfinished).unlink(missing_ok=True)
    if end is not None:
        raise end
    return True


def _count_rows(path, header, n_bytes):
    """Return how many rows of so many bytes an unfinished file has; 0 without one."""
    try:
        with open(path, "rb") as file:
            is_same = file.read(len(header)) == header
            size = os.fstat(file.fileno()).st_size - len(header)
    except OSError:
        return 0
    n_rows, rest = divmod(size, max(n_bytes, 1))
    return n_rows if is_same and not rest else 0


def _make_header(shape, dtype):
    description = np.lib.format.dtype_to_descr(dtype)
    header = {"descr": description, "fortran_order": False, "shape": shape}
    file = io.BytesIO()
    np.lib.format.write_array_header_2_0(file, header)
    return file.getvalue()


def _append(file, chunk, path):
    # Not by a map, whose process is killed if the disk is full.
    try:
        file.write(np.ascontiguousarray(chunk).data)
    except OSError as error:
        raise OSError(
            "what the first steps of the pipeline make of X cannot be written to "
            f"{os.path.dirname(path)!r} ({error}): free some space there"
        ) from error


def _is_table(value, n_rows):
    """Return whether something is an array of numbers with so many rows."""
    return (
        type(value) in (np.ndarray, np.memmap)
        and value.dtype.kind in "biuf"
        and value.ndim > 0
        and len(value) == n_rows
    )


def _is_alike(table, other):
    """Return whether the rows of two arrays are of one kind."""
    return table.dtype == other.dtype and table.shape[1:] == other.shape[1:]


def _is_unchanged(X, first):
    """Return whether the first chunk is as it was: no file is needed."""
    if not isinstance(X, np.ndarray) or X.dtype != first.dtype:
        return False
    return np.array_equal(X[: len(first)], first)


def _is_same(values, others):
    """Return whether samples come out the same, but for rounding."""
    if not _is_table(others, len(values)) or not _is_alike(values, others):
        return False
    values, others = values.astype(float), others.astype(float)
    size = np.where(np.isfinite(values), np.abs(values), 0).max(axis=0, initial=0)
    close = np.isclose(
        values, others, rtol=TOLERANCE, atol=TOLERANCE * size, equal_nan=True
    )
    return bool(close.all())
