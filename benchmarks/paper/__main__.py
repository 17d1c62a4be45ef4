"""Run the experiments of the paper, or make their tables and figures.

    python -m benchmarks.paper run flowers12 --data path/to/flowers12 --jobs 2
    python -m benchmarks.paper report flowers12
    python -m benchmarks.paper page

"run" writes what it measures as CSV into paper-results, and goes on where it was
interrupted. "report" makes tables and figures of the CSV alone, and "page" the page of
the documentation, of the results that are part of the repository.
"""

import argparse
from pathlib import Path

from benchmarks.paper.analysis import Results
from benchmarks.paper.experiments import EXPERIMENTS
from benchmarks.paper.page import write_page
from benchmarks.paper.report import write_report
from benchmarks.paper.run import run

# Those that are committed, and those of whoever runs an experiment.
RESULTS = Path(__file__).parent / "results"
OWN_RESULTS = Path("paper-results")
PAGE = Path(__file__).parents[2] / "doc" / "paper.md"
RULES = {"flowers12": "rules-flowers12", "shapes": "rules-shapes"}
GROWING = "growing-flowers12"


def main(arguments=None):
    args = make_parser().parse_args(arguments)
    if args.command == "run":
        run(
            args.experiment,
            EXPERIMENTS[args.experiment],
            args.results / args.experiment,
            data_path=args.data,
            n_jobs=args.jobs,
        )
    elif args.command == "report":
        folder = args.results / args.experiment
        write_report(Results.read(folder), folder)
    else:
        write_page(*read_results(args.results), args.output)


def read_results(folder):
    """Return the results that the page is made of: of arms, rules and weights."""
    rules = {key: Results.read(folder / name) for key, name in RULES.items()}
    return Results.read(folder / "flowers12"), rules, Results.read(folder / GROWING)


def make_parser():
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.paper",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("run", "run what is missing"),
        ("report", "make tables and figures"),
        ("page", "make the page on the paper's claims"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument(
            "--results",
            type=Path,
            default=RESULTS if name == "page" else OWN_RESULTS,
            help="folder of all results (default: %(default)s)",
        )
        if name == "page":
            command.add_argument("--output", type=Path, default=PAGE, help="the page")
        else:
            command.add_argument("experiment", choices=EXPERIMENTS)
        if name == "run":
            command.add_argument("--data", type=Path, help="folder of the images")
            command.add_argument("--jobs", type=int, default=1, help="runs at a time")
    return parser


if __name__ == "__main__":
    main()
