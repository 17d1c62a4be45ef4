"""The command `sklearn-iis`: from a folder of images to a model."""

import os
from importlib.util import find_spec

from sklearn_iis.command._ending import ending_quietly, say

# What is imported of the packages of the extra "cli".
NEEDED = ("typer", "optuna", "skops")


def main() -> None:
    """Run the command with the arguments of the process.

    Raises
    ------
    SystemExit
        Always, with the exit code; 1 if the extra `cli` is not installed.
    """
    with ending_quietly():
        if missing := [name for name in NEEDED if find_spec(name) is None]:
            say(
                f"error: this command needs {' and '.join(missing)}: "
                "pip install 'sklearn-iis[cli]'"
            )
            raise SystemExit(1)
        # Before torch is loaded, whose threads would spin while they wait for each
        # other: where other programs need the cores, two took ten times as long as one.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        from sklearn_iis.command._app import app

        app(prog_name="sklearn-iis")
