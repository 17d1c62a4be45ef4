"""HTML pages as tests look at them."""

import re
from html.parser import HTMLParser


class Page(HTMLParser):
    """The parts of a page by tag, and the texts of its headings and tables."""

    VOID = {"meta", "img", "br", "link"}

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.tags, self.open, self.texts, self.cells = [], [], [], []
        self.feed(html)
        self.close()
        assert not self.open, "each element is closed"
        self.text = " ".join("".join(text for _, text in self.texts).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.cells.append([])
        if tag in ("td", "th"):
            self.cells[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.texts.append((tuple(self.open), data))
        if {"td", "th"} & set(self.open):
            self.cells[-1][-1] += data

    def get_all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]

    def get_texts(self, tag):
        return [text for where, text in self.texts if tag in where and text.strip()]

    def get_headings(self):
        return [
            text
            for where, text in self.texts
            if text.strip() and any(re.fullmatch("h[1-6]", tag) for tag in where)
        ]

    def find_row(self, start):
        return next(row for row in self.cells if row[0] == start)


def read(path):
    """Return the page in a file."""
    return Page(path.read_text(encoding="utf-8"))
