"""The subcommands and their options."""

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import joblib
import typer

from sklearn_iis.command._ending import write_line
from sklearn_iis.command._errors import EXIT_CODES, reporting_errors
from sklearn_iis.command._plan import FEATURES, FINE_TUNED, FROM_SCRATCH, WAYS

UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}

app = typer.Typer(
    help="From a folder of images to a model.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class Layout(StrEnum):
    """The formats of predictions."""

    csv = "csv"
    jsonl = "jsonl"


def parse_time(text: str | float) -> float:
    """Return the seconds of a time such as 90, 90s, 10m or 1.5h.

    Raises
    ------
    typer.BadParameter
        If it is none, or 0.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", str(text).strip())
    seconds = float(match[1]) * UNITS[match[2]] if match else 0.0
    if not seconds:
        raise typer.BadParameter(
            f"{text!r} is no time above 0, such as 90, 90s, 10m or 1h"
        )
    return seconds


def parse_ways(text: str | list[str]) -> list[str]:
    """Return the names in a list such as "features,from-scratch".

    Raises
    ------
    typer.BadParameter
        If one is unknown.
    """
    names = text if isinstance(text, list) else [n.strip() for n in text.split(",")]
    for name in names:
        if name not in WAYS:
            raise typer.BadParameter(f"{name!r} is none of {', '.join(WAYS)}")
    return [way for way in WAYS if way in names]


Out = Annotated[Path, typer.Argument(help="The folder that fit has written to.")]
Jobs = Annotated[
    int | None,
    typer.Option(
        "--n-jobs",
        min=1,
        show_default="the cores that may be used",
        help="Evaluations that run at once.",
    ),
]
Device = Annotated[
    str,
    typer.Option(help='Where networks are computed: "auto", "cpu", "cuda", "cuda:1".'),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", help="No progress, and only the last line.")
]
Traceback = Annotated[
    bool, typer.Option("--traceback", help="Show where an error comes from.")
]


@app.command(epilog=EXIT_CODES)
def fit(
    source: Annotated[
        Path,
        typer.Argument(
            help="A folder with a folder per class, or with train, validation and "
            "test folders of that kind; or a CSV with the columns path, label and, "
            "if you like, split."
        ),
    ],
    seconds: Annotated[
        float,
        typer.Option(
            "--time",
            parser=parse_time,
            metavar="TIME",
            show_default="10m",
            help="For all of it, such as 90, 90s, 10m or 1h.",
        ),
    ] = 600.0,
    out: Annotated[Path, typer.Option(help="The folder to write to.")] = Path("model"),
    ways: Annotated[
        Any,
        typer.Option(
            parser=parse_ways,
            metavar="NAMES",
            show_default="all that suit",
            help=f"What is tried: {FEATURES} of a pretrained network, {FINE_TUNED}, "
            f"{FROM_SCRATCH}; several with commas between.",
        ),
    ] = None,
    candidates: Annotated[
        int | None,
        typer.Option(
            min=1,
            show_default="as many as there is time for",
            help="Candidates of each search. With ample time, the result depends on "
            "nothing but the seed then.",
        ),
    ] = None,
    max_size: Annotated[
        int | None, typer.Option(min=8, help="Largest size of images, in pixels.")
    ] = None,
    max_epochs: Annotated[
        int | None, typer.Option(min=1, help="Most epochs at each size.")
    ] = None,
    n_jobs: Jobs = None,
    device: Device = "auto",
    seed: Annotated[
        int, typer.Option(min=0, max=2**31 - 1, help="Determines all that is drawn.")
    ] = 0,
    quiet: Quiet = False,
    traceback: Traceback = False,
) -> None:
    """Search for the best model of a folder of images.

    The same call goes on where another one was ended, whatever ended it.
    """
    with reporting_errors(shows_traceback=traceback):
        from sklearn_iis.command._fit import Arguments
        from sklearn_iis.command._fit import fit as run

        arguments = Arguments(
            source=str(source.resolve()),
            seconds=seconds,
            ways=ways,
            candidates=candidates,
            max_size=max_size,
            max_epochs=max_epochs,
            seed=seed,
            n_jobs=n_jobs or joblib.cpu_count(),
            device=device,
        )
        write_line(run(arguments, out, quiet=quiet))


@app.command(epilog=EXIT_CODES)
def resume(
    out: Out,
    seconds: Annotated[
        float | None,
        typer.Option(
            "--time",
            parser=parse_time,
            metavar="TIME",
            show_default="as before",
            help="A longer time for the whole run, what it has taken so far included.",
        ),
    ] = None,
    n_jobs: Jobs = None,
    device: Annotated[
        str | None, typer.Option(show_default="as before", help="As of fit.")
    ] = None,
    quiet: Quiet = False,
    traceback: Traceback = False,
) -> None:
    """Go on with a run that was ended."""
    with reporting_errors(shows_traceback=traceback):
        from sklearn_iis.command._fit import resume as run

        changes = {"seconds": seconds, "n_jobs": n_jobs, "device": device}
        changes = {name: value for name, value in changes.items() if value is not None}
        write_line(run(out, changes, quiet=quiet))


@app.command(epilog=EXIT_CODES)
def predict(
    out: Out,
    images: Annotated[
        list[str], typer.Argument(help="Files, folders, or patterns such as '*.jpg'.")
    ],
    layout: Annotated[
        Layout, typer.Option("--format", help="CSV, or an object of JSON per line.")
    ] = Layout.csv,
    file: Annotated[
        Path | None,
        typer.Option("--out", show_default="standard output", help="File to write."),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(min=1, show_default="all", help="Only the likeliest classes."),
    ] = None,
    device: Device = "auto",
    traceback: Traceback = False,
) -> None:
    """Write the label and the probabilities of images.

    Files that cannot be read are listed and left out; the exit code is 3 then.
    """
    with reporting_errors(shows_traceback=traceback):
        from sklearn_iis.command._predict import opened
        from sklearn_iis.command._predict import predict as run

        with opened(file) as stream:
            code = run(out, images, stream, layout=layout.value, top=top, device=device)
        raise SystemExit(code)


@app.command(epilog=EXIT_CODES)
def report(
    out: Out,
    file: Annotated[
        Path | None,
        typer.Option(
            "--out", show_default="report.html of the run", help="File to write."
        ),
    ] = None,
    traceback: Traceback = False,
) -> None:
    """Write the report of a run, also of one that is under way; evaluate nothing."""
    with reporting_errors(shows_traceback=traceback):
        from sklearn_iis.command._inspect import write_report

        write_line(str(write_report(out, file)))


@app.command(epilog=EXIT_CODES)
def importance(
    out: Out,
    csv: Annotated[bool, typer.Option("--csv", help="Write CSV.")] = False,
    traceback: Traceback = False,
) -> None:
    """Tell how much each hyperparameter matters, at each size; evaluate nothing."""
    with reporting_errors(shows_traceback=traceback):
        from sklearn_iis.command._inspect import measure_importance

        table = measure_importance(out)
        text = table.to_csv(index=False) if csv else table.to_string(index=False)
        write_line(text.rstrip("\n"))


@app.command(epilog=EXIT_CODES)
def export(
    out: Out,
    onnx: Annotated[Path, typer.Option(help="File to write.")],
    traceback: Traceback = False,
) -> None:
    """Write the model for other programs, in the format ONNX."""
    with reporting_errors(shows_traceback=traceback):
        from sklearn_iis.command._predict import load
        from sklearn_iis.deploy import export_onnx

        export_onnx(load(out, "cpu"), onnx)
        write_line(str(onnx))
