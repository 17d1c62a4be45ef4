"""The examples are a gallery: short scripts with a title, of names that exist."""

import ast
import importlib
import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))

# By the name of a file sphinx-gallery knows that it is to be run.
PATTERN = re.compile(r"/plot_\w+\.py$")

MOST_LINES = 60

EMPTY = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


def title_of(source):
    """Return the first line of the docstring, or None if it is not underlined."""
    docstring = ast.get_docstring(ast.parse(source)) or ""
    title, line = [*docstring.splitlines(), "", ""][:2]
    return title if title and line == "=" * len(title) else None


def count_code(source):
    """Return the number of lines that are no comment, docstring or empty."""
    docstring = ast.parse(source).body[0]
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in EMPTY:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - set(range(docstring.lineno, docstring.end_lineno + 1)))


@pytest.fixture(params=EXAMPLES, ids=lambda path: path.stem)
def source(request):
    return request.param.read_text(encoding="utf-8")


def test_lines_are_counted():
    source = '"""\nTitle\n=====\n"""\n\n# %%\n# Text.\nf(\n    1,  # one\n)\nx = 2\n'
    assert count_code(source) == 4
    assert title_of(source) == "Title"
    assert title_of(source.replace("=====", "====")) is None
    assert title_of("x = 1\n") is None


def test_all_are_found_by_the_gallery():
    assert len(EXAMPLES) >= 10
    assert [path.name for path in EXAMPLES if not PATTERN.search(path.as_posix())] == []


def test_titles_differ():
    titles = [title_of(path.read_text(encoding="utf-8")) for path in EXAMPLES]
    assert len(set(titles)) == len(titles)


def test_it_compiles_and_has_a_title(source):
    compile(source, "example", "exec")
    assert title_of(source) is not None


def test_it_is_short(source):
    assert count_code(source) < MOST_LINES


def test_it_ends_with_something_to_see(source):
    """A picture, or a table."""
    last_block = source.split("# %%\n")[-1]
    assert re.search(r"plt\.show\(\)|\.savefig\(|write_report\(|print\(", last_block)


def test_what_it_takes_from_the_package_exists(source):
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("sklearn_iis"):
            module = importlib.import_module(node.module)
            assert [n.name for n in node.names if not hasattr(module, n.name)] == []


def test_pages_that_it_names_exist(source):
    for page in re.findall(r":doc:`[^`]*</(\w+)>`", source):
        assert (ROOT / "doc" / f"{page}.md").exists()
