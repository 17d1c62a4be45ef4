"""Links of a built site: what leads nowhere is found, and nothing else."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "doc" / "check_links.py"


@pytest.fixture(scope="module")
def check_links():
    spec = importlib.util.spec_from_file_location("check_links", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "link",
    [
        "#here",
        "#",
        "index.html",
        "sub/other.html#there",
        "pic%20ture.png?v=1",
        "https://example.org/a#b",
        "//example.org/a.js",
        "mailto:a@example.org",
        "data:image/png;base64,AA==",
    ],
)
def test_link_that_leads_somewhere(link, tmp_path, check_links):
    write_site(tmp_path, link)
    assert check_links.find_faults(tmp_path) == []


@pytest.mark.parametrize(
    ("link", "fault"),
    [
        ("#nowhere", "no such anchor"),
        ("sub/other.html#here", "no such anchor"),
        ("missing.html", "no such file"),
        ("sub", "no such file"),
        ("https:///path", "no web address"),
        ("htps://example.org", "no web address"),
        ("https://example.org/a b", "white space in it"),
        ("mailto:nobody", "no address"),
    ],
)
def test_link_that_leads_nowhere(link, fault, tmp_path, check_links):
    write_site(tmp_path, link)
    assert check_links.find_faults(tmp_path) == [f"index.html: {link!r}: {fault}"]


def write_site(folder, link):
    """Two pages and a picture; the first page has the link."""
    (folder / "sub").mkdir()
    (folder / "pic ture.png").touch()
    (folder / "index.html").write_text(f'<h1 id="here">A</h1><a href="{link}">B</a>')
    (folder / "sub" / "other.html").write_text('<p id="there">C</p>')
