"""Reports on many images at once: what cannot be read, and what one should know."""

import warnings
from collections import defaultdict
from collections.abc import Mapping

# So many are named in a message.
N_NAMED = 20


class UnreadableImagesError(OSError):
    """Images that cannot be read, all of them.

    Attributes
    ----------
    unreadable : dict of int to str
        The index of each in `X`, and a message that names it.
    """

    unreadable: dict[int, str] = {}


class MissingImagesError(UnreadableImagesError, FileNotFoundError):
    """Images whose files are not there."""


def make_error(unreadable: Mapping[int, Exception]) -> UnreadableImagesError:
    """Return one error for all images that cannot be read, by index."""
    first = next(iter(unreadable.values()))
    missing = all(isinstance(e, FileNotFoundError) for e in unreadable.values())
    kind = MissingImagesError if missing else UnreadableImagesError
    messages = {index: str(error) for index, error in unreadable.items()}
    text = str(first)
    if len(messages) > 1:
        lines = [f"X[{i}]: {text}" for i, text in list(messages.items())[:N_NAMED]]
        if len(messages) > N_NAMED:
            lines.append(
                f"and {len(messages) - N_NAMED} more, see `unreadable` of the error"
            )
        text = "\n".join([f"{len(messages)} images cannot be read:", *lines])
    error = kind(text)
    error.unreadable = messages
    return error


class Notes:
    """Counts of images that are read, but of which one should know something."""

    def __init__(self) -> None:
        self._names: defaultdict[str, list[str]] = defaultdict(list)

    def add(self, kind: str, name: str) -> None:
        """Note an image; threads may do so at the same time."""
        self._names[kind].append(name)

    def warn(self, stacklevel: int) -> None:
        """Warn once of each kind, with the number of images and an example."""
        for kind, names in self._names.items():
            warnings.warn(
                f"{kind}: {len(names)} of the images, such as {min(names)}",
                UserWarning,
                stacklevel=stacklevel + 1,
            )
