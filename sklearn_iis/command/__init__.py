"""The command `sklearn-iis`: from a folder of images to a model."""

import sys


def main() -> None:
    """Run the command with the arguments of the process.

    Raises
    ------
    SystemExit
        Always, with the exit code; 1 if `typer` is not installed.
    """
    try:
        import typer  # noqa: F401
    except ImportError:
        sys.stderr.write(
            "error: this command needs typer: pip install 'sklearn-iis[cli]'\n"
        )
        raise SystemExit(1) from None
    from sklearn_iis.command._app import app

    app(prog_name="sklearn-iis")
