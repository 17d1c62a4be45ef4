"""A run that is killed at any moment goes on where it was."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sklearn_iis.command._predict import load

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(900)  # on a busy machine
@pytest.mark.skipif(not hasattr(os, "fork"), reason="runs are forked")
def test_the_same_result_after_five_kills(shapes, tmp_path):
    """As if nothing had happened: candidates, scores, and each probability."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.command.killed_child", shapes, tmp_path, "5"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    moments = json.loads(done.stdout.splitlines()[-1])
    # Not all of them before or after all work.
    assert not {"evaluations", "model"}.isdisjoint(moments), moments
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    paths = np.array(sorted(map(str, shapes.rglob("*.png"))))
    np.testing.assert_array_equal(
        load(killed, "cpu").predict_proba(paths),
        load(whole, "cpu").predict_proba(paths),
    )
    tables = [
        pd.read_csv(out / "search.csv").filter(regex="^(?!.*_time$)")
        for out in (killed, whole)
    ]
    pd.testing.assert_frame_equal(*tables)
    images = [(out / "images.csv").read_text() for out in (killed, whole)]
    assert images[0] == images[1]
