"""Check the links of a built site, offline: `python doc/check_links.py FOLDER`.

A link within the site has to lead to a file, and to an anchor in it. Of other links
only the syntax is checked.
"""

import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The anchors of a page, and where its links lead."""

    def __init__(self, path: Path):
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name == "id" or (name == "name" and tag == "a"):
                self.anchors.add(value or "")
            elif name in ("href", "src"):
                self.links.append(value or "")


read_page = cache(Page)


def fault(page: Path, link: str) -> str | None:
    """Return what is wrong with a link of a page, if anything is."""
    if any(character.isspace() for character in link):
        return "white space in it"
    url = urlsplit(link)
    if url.scheme == "mailto":
        return None if "@" in url.path else "no address"
    if url.scheme or url.netloc:
        known = url.scheme in ("", "http", "https")
        return None if known and "." in url.netloc else "no web address"
    target = (page.parent / unquote(url.path)).resolve() if url.path else page
    if not target.is_file():
        return "no such file"
    anchor = unquote(url.fragment)
    if anchor and target.suffix == ".html" and anchor not in read_page(target).anchors:
        return "no such anchor"
    return None


def find_faults(folder: Path) -> list[str]:
    """Return one line for each link that leads nowhere."""
    pages = [
        page
        for page in sorted(folder.resolve().rglob("*.html"))
        if "_static" not in page.parts
    ]
    links = [(page, link) for page in pages for link in read_page(page).links]
    return [
        f"{page.relative_to(folder.resolve())}: {link!r}: {wrong}"
        for page, link in dict.fromkeys(links)
        if not link.startswith("data:") and (wrong := fault(page, link)) is not None
    ]


if __name__ == "__main__":
    faults = find_faults(Path(sys.argv[1]))
    print("\n".join([*faults, f"{len(faults)} links lead nowhere"]))
    sys.exit(bool(faults))
