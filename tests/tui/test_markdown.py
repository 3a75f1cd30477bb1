"""Markdown: what is shown of it, also while it grows and when it means harm."""

from __future__ import annotations

import random
import re

import pytest

from tui.blocks import lay_out
from tui.markdown import Block, Code, Heading, List, Paragraph, Quote, Rule, Source, Table, parse

ALL = """\
# Title *one*

A **bold** word, `code`, ~~gone~~, a [link](http://x.org "t"),
a second line\\
and a third. <b>HTML</b> &amp; &#169;

1. One
2. Two

   more of two
   - a
   - b

- [ ] task
+ other list

> said
> > before

```python
def f(x):
\treturn x
```

    indented

| City | People |
|---|---:|
| Ouagadougou | 2 415 266 |
| Lyon | |

---
last"""


def plain(blocks: list[Block], width: int = 40) -> list[str]:
    return [line.plain for line in lay_out(blocks, width)]


def described(blocks: list[Block]) -> str:
    """Everything about the blocks, styles too."""
    return repr(blocks)


def test_every_kind_of_block() -> None:
    kinds = [type(block) for block in parse(ALL)]
    assert kinds == [
        Heading, Paragraph, List, List, List, Quote, Code, Code, Table, Rule, Paragraph,
    ]  # fmt: skip


def test_how_it_is_shown() -> None:
    assert [line.rstrip() for line in plain(parse(ALL))] == [
        "Title one", "",
        "A bold word, code, gone, a link", "(http://x.org),", "a second line",
        "and a third. <b>HTML</b> & ©", "",
        "1. One", "",
        "2. Two", "", "   more of two", "", "   • a", "   • b", "",
        "• [ ] task", "",
        "• other list", "",
        "│ said", "│", "│ │ before", "",
        " python", " def f(x):", "     return x", "",
        " indented", "",
        "City        │    People", "────────────┼──────────",
        "Ouagadougou │ 2 415 266", "Lyon        │", "",
        "─" * 40, "",
        "last",
    ]  # fmt: skip


def test_styles_stand_where_they_belong() -> None:
    (block,) = parse("a **b *c*** `d` ~~e~~ [f](g)")
    assert isinstance(block, Paragraph)
    text = block.content.plain
    marked = {(str(span.style), text[span.start : span.end]) for span in block.content.spans}
    assert marked == {
        (".md-strong", "b c"), (".md-em", "c"), (".md-code", "d"), (".md-strike", "e"),
        (".md-link", "f (g)"),
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(30))
def test_a_text_that_grows_is_the_text_when_it_is_whole(seed: int) -> None:
    rng = random.Random(seed)
    more = ["```\nopen\n\n\nfence", "- x\r\n- y\r", "a | b\n- | -", "===", "***"]
    parts = [*ALL.split("\n\n"), *more]
    text = "\n\n".join(rng.sample(parts, len(parts)))
    source, at = Source(), 0
    while at < len(text):
        step = rng.choice([1, 3, 17, 200])
        source.append(text[at : at + step])
        at += step
    assert described(source.settled + source.last) == described(parse_whole(text))


def parse_whole(text: str) -> list[Block]:
    source = Source(text)
    return source.settled + source.last


def test_a_line_end_may_come_in_halves() -> None:
    text = "- x\r\n- y\r- z\r\n\r\nend\r"
    for at in range(len(text)):
        source = Source(text[:at])
        source.append(text[at:])
        assert plain(source.settled + source.last) == ["• x", "• y", "• z", "", "end"]


def test_only_the_last_block_is_parsed_again() -> None:
    source = Source("one\n\ntwo\n\nthr")
    first = source.settled[0]
    source.append("ee\n\nfour")
    assert source.settled[0] is first
    assert plain(source.settled) == ["one", "", "two", "", "three"]
    assert plain(source.last) == ["four"]


@pytest.mark.parametrize("width", [1, 5, 8, 12, 30, 80, 200])
def test_no_line_is_wider_than_the_screen(width: int) -> None:
    deep = "".join(f"{'  ' * n}- item {n}\n" for n in range(15)) + "> " * 12 + "deep quote"
    table = "| " + " | ".join("abcdef") + " |\n" + "|-" * 6 + "|\n" + "| 日本語 " * 6 + "|"
    for text in (ALL, deep, table, "x" * 500, "```\n" + "日本語" * 50 + "\n```"):
        for line in lay_out(parse(text), width):
            assert line.cell_length <= max(width, 8)


@pytest.mark.parametrize("width", [8, 20, 60])
def test_nothing_that_was_said_is_lost_on_a_narrow_screen(width: int) -> None:
    text = "- alpha\n  - beta\n    - gamma\n\n| delta | epsilon |\n|-|-|\n| zeta | eta |\n"
    text += "\n```\ntheta\n```"
    shown = "".join("".join(plain(parse(text), width)).split())
    for word in ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"):
        assert word in shown


def test_markup_of_the_screen_is_text() -> None:
    (block,) = parse("[red]no[/red] [@click=app.quit]no[/] $primary")
    assert isinstance(block, Paragraph)
    assert block.content.plain == "[red]no[/red] [@click=app.quit]no[/] $primary"
    assert not block.content.spans


def test_a_link_shows_where_it_leads() -> None:
    text = "[bank](http://evil.org) ![](p.png) <http://a.org> [x](javascript:alert)"
    assert plain(parse(text), 80) == [
        "bank (http://evil.org) p.png http://a.org [x](javascript:alert)"
    ]


@pytest.mark.parametrize(
    "deep",
    ["- " * 25 + "leaf", "> " * 25 + "leaf", "".join(f"{'  ' * n}- x{n}\n" for n in range(30))],
)
def test_what_is_nested_too_deep_is_shown_flat_and_nothing_is_lost(deep: str) -> None:
    text = f"Before *it*\n\n{deep}\n\nAfter\n\n```\ncode\n```"
    shown = "\n".join(plain(parse(text), 100))
    word = re.compile(r"[A-Za-z]\w*")
    assert word.findall(shown) == word.findall(text)
    grown = Source()
    for char in text:
        grown.append(char)
    shown = "\n".join(plain(grown.settled + grown.last, 100))
    assert word.findall(shown) == word.findall(text)


def test_a_reference_is_not_swallowed() -> None:
    assert plain(parse("[a]: http://x.org\n[a]")) == ["[a]: http://x.org", "[a]"]


@pytest.mark.parametrize(
    "text",
    ["\x1b[2J", "\x9b31m", "&#27;[2J", "&#x202e;txt", "`\x1b`", "```\x1b\n\x07\n```", "# \x1b",
     "| \x1b |\n|-|\n| \x07 |", "[\x1b](\x1b)", "![\x1b](\u202e)", "a\u2028b", "\ud800",
     "<\u202ehttp://x.org>"],
    ids=ascii,
)  # fmt: skip
def test_what_a_terminal_would_obey_is_never_shown(text: str) -> None:
    shown = "\n".join(plain(parse_whole(text)))
    assert shown.strip()
    assert all(char == "\n" or char.isprintable() for char in shown)


@pytest.mark.parametrize(
    "text",
    ["[" * 20_000, "![" * 10_000, "*a " * 7_000, "_a" * 10_000, "`a" * 10_000, "> " * 5_000,
     "- " * 5_000, "<" * 20_000, "*_" * 10_000, "[a](" * 5_000, "1. a\n" * 3_000,
     "|a" * 4_000 + "\n" + "|-" * 4_000 + "\n" + "|b" * 4_000, "#" * 20_000, "~~a " * 5_000],
    ids=lambda text: text[:6].strip(),
)  # fmt: skip
def test_a_text_made_to_stall_is_shown_all_the_same(text: str) -> None:
    lay_out(parse(text), 76)
