"""Runs of the command that are killed at random moments, each a process of its own.

    python -m tests.command.killed_child FOLDER_OF_IMAGES FOLDER N_KILLS

What is imported once is forked: a run takes no longer than its work. Writes how far
the run was at each kill, as JSON.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import sklearn_iis.cnn
import sklearn_iis.command._app
import sklearn_iis.command._fit
import sklearn_iis.deploy
import sklearn_iis.inspection
import sklearn_iis.storage._resume  # noqa: F401
from sklearn_iis.command import main
from sklearn_iis.command._run import RunFolder

PATIENCE = 120  # seconds
OPTIONS = "--ways from-scratch --candidates 4 --max-size 16 --max-epochs 2"
OPTIONS += " --n-jobs 1 --device cpu --time 1h --quiet"


def start(images, out):
    """Begin a run, or go on with it, in a process of its own; return its number."""
    process = os.fork()
    if process:
        return process
    sys.argv = ["sklearn-iis", "fit", images, "--out", str(out), *OPTIONS.split()]
    try:
        main()
    except SystemExit as end:
        os._exit(end.code or 0)
    os._exit(70)


def finish(images, out):
    """Have a run go on to its end; return its seconds."""
    begin = time.monotonic()
    _, status = os.waitpid(start(images, out), 0)
    if status:
        sys.exit(f"a run ended with {status}")
    return time.monotonic() - begin


def run_killed(images, out, n_kills, seconds):
    """Kill a run so many times, then let it end; return how far it was each time."""
    rng = random.Random(0)
    stages = []
    for _ in range(n_kills):
        process = start(images, out)
        time.sleep(rng.uniform(0.02, 0.8) * seconds)
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        stages.append(describe(out))
    finish(images, out)
    return stages


def describe(out):
    folder = RunFolder(Path(out))
    if not folder.state_file.exists():
        return "nothing"
    if folder.read().result is not None:
        return "complete"
    if folder.model.exists():
        return "model"
    return "evaluations" if folder.storage.exists() else "plan"


if __name__ == "__main__":
    source, target, count = sys.argv[1:]
    needed = finish(source, Path(target, "whole"))
    found = run_killed(source, Path(target, "killed"), int(count), needed)
    sys.stdout.write("\n" + json.dumps(found) + "\n")
