"""Markdown as models write it: source text to blocks, and more text to the same blocks.

An answer grows by a few characters many times a second, and a list of it may grow
to hundreds of lines. A widget for each block (Textual's `Markdown`) costs 0.26 s of
a desktop's processor for each update of a 60-item list, so an answer is one widget's
lines here, and only its last top-level block is parsed again when text is added.

CommonMark with tables and strike-through. What is not text is made text: HTML is
shown as written, links and images show where they lead, a line break is a line break.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from textual.content import Content, Span

from tui.untrusted import visible

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

__all__ = [
    "Block",
    "Code",
    "Heading",
    "List",
    "Paragraph",
    "Quote",
    "Rule",
    "Source",
    "Table",
    "parse",
]


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Running text; its styles are named `.md-…` after what they mark."""

    content: Content


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading of level 1 to 6."""

    level: int
    content: Content


@dataclass(frozen=True, slots=True)
class Code:
    """Lines to be shown exactly, and the language that was named for them."""

    language: str
    text: str


@dataclass(frozen=True, slots=True)
class Quote:
    """Blocks that someone else said."""

    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class List:
    """Items with their markers (`•`, `3.`); tight ones have no blank lines between."""

    markers: tuple[str, ...]
    items: tuple[tuple[Block, ...], ...]
    tight: bool


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells, the head first; `right` says for each column where it aligns."""

    rows: tuple[tuple[Content, ...], ...]
    right: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """A line between two parts."""


Block = Paragraph | Heading | Code | Quote | List | Table | Rule

_SPANS = {"em": ".md-em", "strong": ".md-strong", "s": ".md-strike"}
_SPACE = re.compile(r"\s+")


@cache
def _parser(*, nested: bool) -> MarkdownIt:
    # 45 ms on a desktop, and not needed for the first frame.
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False})
    # A reference definition would vanish, and may change a block that is already shown.
    parser.enable(["table", "strikethrough"]).disable("reference")
    return parser if nested else parser.disable(["list", "blockquote"])


def _tokens(source: str) -> list[Token]:
    parser = _parser(nested=True)
    tokens = parser.parse(source)
    if max((token.level for token in tokens), default=0) < parser.options["maxNesting"] - 1:
        return tokens
    # From that depth on the parser drops what follows; without lists it has no depth.
    return _parser(nested=False).parse(source)


def parse(source: str) -> list[Block]:
    """The blocks of a whole text."""
    return [block for _, block in _top(source)]


class Source:
    """A text that grows, and its blocks."""

    def __init__(self, text: str = "") -> None:
        self.settled: list[Block] = []
        """Blocks that more text cannot change."""
        self.last: list[Block] = []
        """What follows them: the block that is being written, if any."""
        self._tail = ""
        self._held = ""
        self.append(text)

    def append(self, text: str) -> None:
        """Add more text; parses from the last top-level block on."""
        text = self._held + text
        self._held = "\r" if text.endswith("\r") else ""  # it may be half a line end
        self._tail += visible(text.removesuffix("\r"))
        top = _top(self._tail)
        self.settled += [block for _, block in top[:-1]]
        self.last = [block for _, block in top[-1:]]
        if len(top) > 1:
            self._tail = "".join(self._tail.splitlines(keepends=True)[top[-1][0] :])


def _top(source: str) -> list[tuple[int, Block]]:
    """Top-level blocks, each with the number of its first line in `source`."""
    tokens = _tokens(source)
    found = []
    at = 0
    while at < len(tokens):
        end = _closing(tokens, at)
        found += [(_line(tokens[at]), block) for block in _blocks(tokens[at : end + 1])]
        at = end + 1
    return found


def _line(token: Token) -> int:
    if token.map is None:
        raise ValueError(f"a top-level {token.type} has a place in the source")
    return token.map[0]


def _closing(tokens: Sequence[Token], opening: int) -> int:
    """Index of the token that closes what the one at `opening` opens, or itself."""
    depth = 0
    for at in range(opening, len(tokens)):
        depth += tokens[at].nesting
        if depth == 0:
            return at
    raise ValueError("markdown-it closes what it opens")


def _blocks(tokens: Sequence[Token]) -> Iterator[Block]:
    at = 0
    while at < len(tokens):
        end = _closing(tokens, at)
        yield _block(tokens[at], tokens[at + 1 : end])
        at = end + 1


def _block(token: Token, inner: Sequence[Token]) -> Block:
    match token.type:
        case "heading_open":
            return Heading(int(token.tag[1:]), _inline(inner[0]))
        case "blockquote_open":
            return Quote(tuple(_blocks(inner)))
        case "bullet_list_open" | "ordered_list_open":
            return _list(inner)
        case "table_open":
            return _table(inner)
        case "fence" | "code_block":
            return Code(visible(token.info.strip()), visible(token.content.rstrip("\n")))
        case "hr":
            return Rule()
        case "paragraph_open":
            return Paragraph(_inline(inner[0]))
    raise ValueError(f"{token.type} is not a block of CommonMark")


def _list(tokens: Sequence[Token]) -> List:
    markers, items, tight, at = [], [], True, 0
    while at < len(tokens):
        end = _closing(tokens, at)
        inner = tokens[at + 1 : end]
        # For a numbered item, `info` is its number and `markup` what follows it.
        markers.append(f"{tokens[at].info}{tokens[at].markup}" if tokens[at].info else "•")
        items.append(tuple(_blocks(inner)))
        tight &= all(
            token.hidden
            for token in inner
            if token.type == "paragraph_open" and token.level == tokens[at].level + 1
        )
        at = end + 1
    return List(tuple(markers), tuple(items), tight)


def _table(tokens: Sequence[Token]) -> Table:
    rows: list[list[Content]] = []
    right: list[bool] = []
    for token, content in itertools.pairwise(tokens):
        if token.type == "tr_open":
            rows.append([])
        elif token.type in ("th_open", "td_open"):
            rows[-1].append(_inline(content))
            if token.type == "th_open":
                right.append(token.attrs.get("style") == "text-align:right")
    return Table(tuple(map(tuple, rows)), tuple(right))


def _inline(token: Token) -> Content:
    text: list[str] = []
    spans: list[Span] = []
    opened: list[tuple[str, int, str]] = []
    length = 0

    def say(words: str) -> None:
        nonlocal length
        text.append(words)
        length += len(words)

    def mark(style: str, start: int) -> None:
        spans.append(Span(start, length, style))

    for child in token.children or ():
        name, _, ending = child.type.rpartition("_")
        # Entities such as &#8238; become characters after the source was made visible.
        words = visible(child.content)
        match child.type:
            case "text":
                say(_SPACE.sub(" ", words))
            case "softbreak" | "hardbreak":
                say("\n")
            case "code_inline":
                say(words)
                mark(".md-code", length - len(words))
            case "image":
                say(f"{words} ({_target(child, 'src')})" if words else _target(child, "src"))
            case "link_open":
                opened.append(("", length, _target(child, "href")))
            case "link_close":
                _, start, target = opened.pop()
                if "".join(text)[start:] != target:
                    say(f" ({target})")
                mark(".md-link", start)
            case _ if ending == "open":
                opened.append((_SPANS[name], length, ""))
            case _ if ending == "close":
                style, start, _ = opened.pop()
                mark(style, start)
            case _:
                raise ValueError(f"{child.type} is not an inline of CommonMark")
    return Content("".join(text), spans)


def _target(token: Token, attribute: str) -> str:
    return visible(str(token.attrs.get(attribute, "")))
