"""Report and importance of a run, from what it has kept."""

import re

import pytest

from sklearn_iis.command._errors import CommandError
from sklearn_iis.command._fit import fit
from sklearn_iis.command._inspect import measure_importance, write_report
from tests.command.conftest import make_arguments


def test_report(finished, tmp_path, monkeypatch):
    """It is written again, with the test images."""
    monkeypatch.setattr(
        "sklearn_iis.execution._executors.evaluate", lambda *args: pytest.fail("runs")
    )
    path = write_report(finished[0], tmp_path / "again.html")
    text = path.read_text(encoding="utf-8")
    before = (finished[0] / "report.html").read_text(encoding="utf-8")
    headings = [re.findall(r"<h2.*?</h2>", page, re.DOTALL) for page in (text, before)]
    assert headings[0] == headings[1]
    assert len(headings[0]) > 3
    tables = [
        re.findall(r"<table.*?</table>", page, re.DOTALL) for page in (text, before)
    ]
    # The first ones tell of test images.
    assert tables[0][:2] == tables[1][:2]


def test_importance_of_too_few(finished, capsys):
    with pytest.raises(CommandError, match="no search has enough candidates"):
        measure_importance(finished[0])
    assert "from-scratch: at least 10 candidates" in capsys.readouterr().err


def test_importance(shapes, tmp_path):
    """A row per hyperparameter and size."""
    out = tmp_path / "out"
    fit(make_arguments(shapes, candidates=14), out, quiet=True)
    with pytest.warns(UserWarning, match="Stages are left out"):
        table = measure_importance(out)
    assert set(table["search"]) == {"from-scratch"}
    assert "cnn__learning_rate" in table["hyperparameter"].tolist()
    assert [*table] == ["search", "size", "hyperparameter", "importance", "std"]


def test_no_run(tmp_path):
    with pytest.raises(CommandError, match="holds no run"):
        write_report(tmp_path)
