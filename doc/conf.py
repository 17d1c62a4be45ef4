"""Sphinx builds the documentation site by these settings: `make docs`."""

import inspect
import os
import re
import warnings
from pathlib import Path

import sklearn_iis

ROOT = Path(__file__).parents[1]

project = "sklearn-iis"
author = "The sklearn-iis developers"
copyright = f"2026, {author}"
version = release = sklearn_iis.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.extlinks",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "auto_examples/**/*.ipynb"]
templates_path = ["_templates"]
default_role = "literal"
highlight_language = "none"  # of indented blocks; others say which one they are in

# Links to classes of other libraries need their inventories, from the network.
if os.environ.get("INTERSPHINX"):
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "sklearn": ("https://scikit-learn.org/stable", None),
        "optuna": ("https://optuna.readthedocs.io/en/stable", None),
    }

extlinks = {"arxiv": ("https://arxiv.org/abs/%s", "arXiv:%s")}

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4

autosummary_generate = True
autodoc_typehints = "none"
toc_object_entries_show_parents = "hide"
autodoc_default_options = {"exclude-members": "set_fit_request, set_score_request"}
numpydoc_show_class_members = False

warnings.filterwarnings("ignore", message="FigureCanvasAgg is non-interactive")
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "backreferences_dir": "generated/backreferences",
    "doc_module": "sklearn_iis",
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "write_computation_times": False,
    "within_subsection_order": "ExampleTitleSortKey",
}

html_theme = "pydata_sphinx_theme"
html_title = "sklearn-iis"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_sidebars = {
    page: [] for page in ("index", "install", "quickstart", "faq", "glossary")
}
html_context = {"default_mode": "auto"}
html_theme_options = {
    "logo": {"text": "sklearn-iis"},
    "header_links_before_dropdown": 7,
    "navbar_align": "left",
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
    "show_prev_next": False,
    "show_toc_level": 2,
}

# Pages whose text is in the root of the repository.
TEXTS = {"contributing": "CONTRIBUTING.md", "changelog": "CHANGELOG.md"}

# Pages and scripts outside of this folder that have a page on the site.
PAGES = (
    (r"\.\./CONTRIBUTING\.md", "contributing.md"),
    (r"\.\./CHANGELOG\.md", "changelog.md"),
    (r"\.\./examples/(?P<script>\w+)\.py", r"auto_examples/\g<script>.rst"),
)


def take_in(app, docname, source):
    """Have a page whose text is in the root of the repository say that text."""
    if docname in TEXTS:
        path = ROOT / TEXTS[docname]
        app.env.note_dependency(path)
        text = path.read_text(encoding="utf-8").replace("](doc/", "](")
        source[0] = re.sub(r"\]\((?!https?:|#|\w+\.md)", "](../", text)


def link_pages(app, docname, source):
    """Have links that lead to a file of the repository lead to its page."""
    if docname.startswith("auto_examples/"):
        source[0] = name_pages(source[0])
    for file, page in PAGES:
        link = rf"\]\({file}(?P<anchor>#[\w-]+)?\)"
        source[0] = re.sub(link, rf"]({page}\g<anchor>)", source[0])


def shorten_inherited(app, what, name, obj, options, lines):
    """Keep the first paragraph of what other libraries say of inherited members."""
    obj = inspect.unwrap(getattr(obj, "fget", obj))
    module = getattr(obj, "__module__", None) or ""
    if not module.startswith("sklearn_iis") and "" in lines:
        del lines[lines.index("") :]


def change_references(app, what, name, obj, options, lines):
    """Link pages, and make text of what leads to scikit-learn's glossary and guide."""
    foreign = r":(?:term|ref):`([^`<]*?) ?(<.*?>)?`"
    lines[:] = [re.sub(foreign, r"\1", name_pages(line)) for line in lines]


def name_pages(text):
    """Make links of reStructuredText of the names of files with pages."""
    return re.sub(r"`*\bdoc/(\w+)\.md`*", r":doc:`/\1`", text)


def setup(app):
    """Change pages and docstrings as they are read."""
    app.connect("source-read", take_in)
    app.connect("source-read", link_pages)
    app.connect("autodoc-process-docstring", shorten_inherited, priority=100)
    app.connect("autodoc-process-docstring", change_references, priority=900)
