"""The output folder of a run: its files, its state, and who may write to it."""

import json
import shlex
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from sklearn_iis._files import replace_file
from sklearn_iis.command._errors import CommandError
from sklearn_iis.deploy._folder import INDEX

# The seconds between two times that the time used is written down.
HEARTBEAT = 1.0

# Of the state, in case that it changes.
VERSION = 1

# What another call may change, as no result depends on it.
FREE_TO_CHANGE = ("n_jobs", "device")


def as_command(name: str, folder: Path) -> str:
    """Return a command on a folder, as it is typed into a shell."""
    return f"sklearn-iis {name} {shlex.quote(str(folder))}"


@dataclass
class State:
    """The state of a run, kept for another call that goes on with it.

    Parameters
    ----------
    arguments : dict
        What `fit` was called with.

    data : str
        A hash of the images that were found, before any was left out.

    ways : list of dict
        The plan.

    testing : float, default=0.0
        The seconds that the test images are estimated to take at last.

    seconds : float, default=0.0
        How long the run has worked, in all calls.

    result : dict, default=None
        What has come out of it; None as long as it is not complete.
    """

    arguments: dict[str, Any]
    data: str
    ways: list[dict[str, Any]]
    testing: float = 0.0
    seconds: float = 0.0
    result: dict[str, Any] | None = None
    version: int = VERSION

    def check(
        self,
        arguments: dict[str, Any],
        data: str,
        folder: Path,
        *,
        may_differ: Collection[str] = FREE_TO_CHANGE,
    ) -> None:
        """Raise an error if a call has other arguments or images, with what differs."""
        differences = [
            f"{name}={arguments.get(name)!r} (was {value!r})"
            for name, value in self.arguments.items()
            if name not in may_differ and arguments.get(name) != value
        ]
        advice = f"go on with that by `{as_command('resume', folder)}`"
        if data != self.data:
            differences.append("the images: names, labels, parts or lengths of files")
            advice = "bring the images back that it began with"
        if differences:
            raise CommandError(
                f"{str(folder)!r} holds another run, which differs in "
                f"{', '.join(differences)}; {advice}, or choose another folder"
            )


@dataclass
class RunFolder:
    """The folder that a run writes to.

    Parameters
    ----------
    path : Path
        The folder.
    """

    path: Path
    _write_lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def state_file(self) -> Path:
        """The arguments of the run, and how far it is."""
        return self.path / "run.json"

    @property
    def storage(self) -> Path:
        """The evaluations."""
        return self.path / "search.journal"

    @property
    def images(self) -> Path:
        """The images, their labels and parts."""
        return self.path / "images.csv"

    @property
    def table(self) -> Path:
        """The candidates and their scores."""
        return self.path / "search.csv"

    @property
    def model(self) -> Path:
        """The model, a folder."""
        return self.path / "model"

    @property
    def has_model(self) -> bool:
        """Whether the model is complete."""
        return (self.model / INDEX).exists()

    @property
    def report(self) -> Path:
        """The report."""
        return self.path / "report.html"

    @property
    def card(self) -> Path:
        """The model card."""
        return self.path / "MODEL_CARD.md"

    @property
    def script(self) -> Path:
        """The script that does the same."""
        return self.path / "script.py"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from writing to the folder, which is made.

        It is removed again, with the parents it needed, if nothing was written to it.

        Raises
        ------
        CommandError
            If another process writes to it, it holds something else, or cannot be made.
        """
        made = [p for p in (self.path, *self.path.parents) if not p.exists()]
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise CommandError(f"{str(self.path)!r} is a file: name a folder") from None
        except OSError as error:
            raise CommandError(
                f"the folder {str(self.path)!r} cannot be made: {error.strerror}"
            ) from error
        others = [entry.name for entry in self.path.iterdir() if entry.name != ".lock"]
        if others and not self.state_file.exists() and not self.images.exists():
            raise CommandError(
                f"the folder {str(self.path)!r} holds other files, such as "
                f"{min(others)!r}: choose a new or an empty one"
            )
        lock = FileLock(self.path / ".lock", blocking=False, thread_local=False)
        try:
            lock.acquire()
        except Timeout:
            raise CommandError(
                f"another process writes to {str(self.path)!r}: wait until it has ended"
            ) from None
        except OSError as error:
            raise CommandError(
                f"nothing can be written to the folder {str(self.path)!r}: "
                f"{error.strerror}"
            ) from error
        try:
            yield
        finally:
            if made and [entry.name for entry in self.path.iterdir()] == [".lock"]:
                with suppress(OSError):  # while nobody else can have it
                    (self.path / ".lock").unlink()
                    for folder in made:
                        folder.rmdir()
            lock.release()

    def read(self) -> State | None:
        """Return the state; None if there is none.

        Raises
        ------
        CommandError
            If it cannot be understood.
        """
        try:
            values = json.loads(self.state_file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise CommandError(
                f"{str(self.state_file)!r} is damaged: {error}"
            ) from error
        if not isinstance(values, dict) or values.get("version") != VERSION:
            raise CommandError(
                f"{str(self.state_file)!r} was written by another version of "
                "sklearn-iis: begin anew in another folder"
            )
        try:
            return State(**values)
        except TypeError as error:
            raise CommandError(
                f"{str(self.state_file)!r} is damaged: {error}"
            ) from error

    def expect(self) -> State:
        """Return the state of a run that has begun.

        Raises
        ------
        CommandError
            If there is none.
        """
        state = self.read()
        if state is None:
            raise CommandError(
                f"{str(self.path)!r} holds no run: it is the folder that `sklearn-iis "
                "fit --out` has written to"
            )
        return state

    def write(self, state: State) -> None:
        """Write the state, completely or not at all."""
        text = json.dumps(asdict(state), indent=1)
        with self._write_lock:
            replace_file(self.state_file, text.encode())

    @contextmanager
    def counting_time(self, state: State, since: float) -> Iterator[None]:
        """Write down the time that is used as long as the block lasts.

        Parameters
        ----------
        state : State
            Its `seconds` grow.

        since : float
            When this call began, by the monotonic clock.
        """
        before, ended = state.seconds, threading.Event()

        def note():
            state.seconds = before + time.monotonic() - since
            self.write(state)

        def beat():
            while not ended.wait(HEARTBEAT):
                note()

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            note()
