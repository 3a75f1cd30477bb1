"""The readable text of a page of documentation: HTML, or GNOME's Mallard.

Kept are titles, paragraphs, lists and listings. What only helps to find one's way is left
out (navigation, tables of contents, links to related pages), and so are tables, which make
no sense as a line of words.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser

__all__ = ["page_text"]


def _names(*lines: str) -> frozenset[str]:
    return frozenset(" ".join(lines).split())


_SKIPPED_TAGS = _names(
    "head script style noscript nav header footer aside form button select svg math table",
    "info links media iframe object label textarea",
)
_SKIPPED_CLASSES = _names(
    "navheader navfooter docnav toc indexterm headerlink related relatedtopics sphinxsidebar",
    "sphinxsidebarwrapper noteicon footer url debug howtoget embedded index glossdiv colophon",
    "table informaltable list-of-figures list-of-tables list-of-examples",
)
_SKIPPED_IDS = _names("banner title SearchFrame DonationFrame Bookmarks footer languages tocframe")
_BLOCKS = _names(
    "body div section article main p h1 h2 h3 h4 h5 h6 ul ol dl li dt dd pre blockquote hr br",
    "figure figcaption address",
    "page item steps list terms note screen desc title",  # Mallard's own
)
_LISTINGS = _names("pre screen")
_VOID = _names("area base br col embed hr img input link meta source track wbr")
_SPACE = re.compile(r"\s+")
_MALLARD_TITLE = re.compile(r"(</?)title\b")
"""HTML's parser takes what is in a `title` as plain characters, and from a version on only."""


def page_text(page: str) -> str:
    """Paragraphs with a blank line between them, items of lists each on a line of its own."""
    reader = _Reader()
    if "<page" in page[:2000]:
        page = _MALLARD_TITLE.sub(r"\1h2", page)
    reader.feed(page)
    reader.close()
    return reader.text()


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._blocks: list[tuple[str, bool]] = []
        """Texts of blocks, and whether each is an item of a list."""
        self._inline: list[str] = []
        self._item = False
        self._listing = 0
        self._skipped: str | None = None
        self._depth = 0
        """Elements of the name `_skipped` that are open, counted from the one that is skipped:
        pages leave other elements unclosed."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._skipped is not None:
            self._depth += tag == self._skipped
            return
        if tag not in _VOID and _is_skipped(tag, dict(attrs)):
            self._skipped, self._depth = tag, 1
            return
        if tag in _BLOCKS:
            self._end_block()
            self._item = self._item or tag in ("li", "item")
            self._listing += tag in _LISTINGS

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        if self._skipped is None and tag in _BLOCKS:
            self._end_block()

    def handle_endtag(self, tag: str) -> None:
        if self._skipped is not None:
            self._depth -= tag == self._skipped
            if self._depth == 0:
                self._skipped = None
            return
        if tag in _BLOCKS:
            self._end_block()
            self._item = self._item and tag not in ("li", "item")
            self._listing -= tag in _LISTINGS and self._listing > 0

    def handle_data(self, data: str) -> None:
        if self._skipped is None:
            self._inline.append(data)

    def _end_block(self) -> None:
        text = "".join(self._inline)
        self._inline.clear()
        text = text.strip("\n").rstrip() if self._listing else _SPACE.sub(" ", text).strip()
        if text.strip():
            self._blocks.append((f"- {text}" if self._item else text, self._item))
            self._item = False

    def text(self) -> str:
        self._end_block()
        made: list[str] = []
        before = False
        for text, item in self._blocks:
            if made:
                made.append("\n" if item and before else "\n\n")
            made.append(text)
            before = item
        return "".join(made)


def _is_skipped(tag: str, attributes: dict[str, str | None]) -> bool:
    classes = (attributes.get("class") or "").split()
    return (
        tag in _SKIPPED_TAGS
        or not _SKIPPED_CLASSES.isdisjoint(classes)
        or attributes.get("id") in _SKIPPED_IDS
        or attributes.get("role") == "navigation"
    )
