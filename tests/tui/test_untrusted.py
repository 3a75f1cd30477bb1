"""Characters that a terminal would obey are shown instead."""

from __future__ import annotations

import sys

import pytest

from tui.untrusted import visible


def test_ordinary_text_is_left_alone() -> None:
    text = "Voilà « l’été », 日本語, עברית, 🏳️‍🌈\n\tx = 1"
    assert visible(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", "␛[31mred"),
        ("\x9b31m", "\ufffd31m"),
        ("a\x08b\x7f\x00", "a␈b␡␀"),
        ("a\r\nb\rc\x0bd\x0ce\x85f\u2028g\u2029h", "a\nb\nc\nd\ne\nf\ng\nh"),
        ("\u202eevil\u2066", "\ufffdevil\ufffd"),
        ("\ud83d", "\ufffd"),
        ("x\U000e0041", "x\ufffd"),
    ],
    ids=["C0", "C1", "more C0", "line ends", "direction", "surrogate", "tag"],
)
def test_what_is_obeyed_is_made_visible(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_nothing_that_is_left_controls_anything() -> None:
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    left = visible(every)
    left.encode()  # no surrogates
    assert not [c for c in left if (ord(c) < 32 or 127 <= ord(c) < 160) and c not in "\n\t"]
