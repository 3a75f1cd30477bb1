"""Streaming: whole characters only, and stop strings however the text is cut."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from edge.text import StopStrings, StreamDecoder, one_line
from tests.edge.vocabulary import vocabulary

_TEXTS = [
    "Où est l’été ? À Noël, sœur Anaïs mange des crêpes.",
    "👩‍🔬👨‍👩‍👧‍👦 🇫🇷🇪🇺 🏳️‍🌈 ✊🏿",
    "日本語とカタカナ、한국어, العربية, हिन्दी",
    "naïve café: e\u0301 is not é; ﷽; 𝕬𝖓𝖓𝖊; \U0010ffff",
    "plain\n\n\ttext\r\n",
]


class _Bytes:
    """A vocabulary of single bytes, and of the pieces that it is given."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces

    def piece(self, token: int) -> bytes:
        return self.pieces[token]


def _decode(pieces: list[bytes]) -> list[str]:
    decoder = StreamDecoder(_Bytes(pieces))  # type: ignore[arg-type] # only piece() is used
    return [*(decoder.feed(token) for token in range(len(pieces))), decoder.flush()]


def _cut(data: bytes, rng: random.Random) -> list[bytes]:
    cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randrange(len(data))))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


@pytest.mark.parametrize("text", _TEXTS)
def test_real_tokens_give_whole_characters(text: str, model_path: Path) -> None:
    tokenizer = vocabulary(model_path)
    ids = tokenizer.encode(text, special=False)
    decoder = StreamDecoder(tokenizer)
    deltas = [decoder.feed(token) for token in ids]
    assert "".join(deltas) == text
    assert decoder.flush() == ""
    split = any(tokenizer.piece(token).decode("utf-8", "replace").count("\ufffd") for token in ids)
    assert split == (not text.isascii())  # the vocabulary really does cut characters


def test_any_cut_of_any_bytes_decodes_as_the_whole() -> None:
    rng = random.Random(1)
    for _ in range(500):
        data = rng.choice(_TEXTS).encode() + rng.randbytes(rng.randrange(6))
        rng_start = rng.randrange(4)
        data = data[rng_start:]
        assert "".join(_decode(_cut(data, rng))) == data.decode("utf-8", "replace")


def test_text_comes_as_soon_as_it_is_whole() -> None:
    assert _decode([b"a", b"\xc3", b"\xa9b", b"\xf0\x9f", b"\x98", b"\x80"]) == [
        "a", "", "éb", "", "", "😀", "",
    ]  # fmt: skip


def test_what_is_no_character_is_replaced_and_the_rest_stays() -> None:
    assert _decode([b"a\xff", b"b\xc3", b"c", b"\xf0\x9f"]) == [
        "a\ufffd",
        "b",
        "\ufffdc",
        "",
        "\ufffd",
    ]


def test_control_tokens_are_silent(model_path: Path) -> None:
    tokenizer = vocabulary(model_path)
    decoder = StreamDecoder(tokenizer)
    assert [decoder.feed(token) for token in tokenizer.eog] == [""] * len(tokenizer.eog)


def _expected(text: str, stops: list[str]) -> tuple[str, bool]:
    """By definition: cut before the string that is complete first, the longest of these."""
    for end in range(1, len(text) + 1):
        starts = [end - len(s) for s in stops if text[:end].endswith(s)]
        if starts:
            return text[: min(starts)], True
    return text, False


def _stream(text: str, stops: list[str], rng: random.Random) -> tuple[str, bool]:
    stream, shown, stopped, at = StopStrings(stops), "", False, 0
    while at < len(text):
        size = rng.randrange(1, 5)
        more, stopped = stream.feed(text[at : at + size])
        shown, at = shown + more, at + size
        held = text[len(shown) : at]
        if not stopped:
            # No more is held back than must be: it begins a stop string.
            assert not held or any(s.startswith(held) and s != held for s in stops)
        else:
            assert stream.feed("more") == ("", True)
            break
    return shown + stream.flush(), stopped


def test_stop_strings_do_not_depend_on_how_text_is_cut() -> None:
    rng = random.Random(2)
    outcomes = set()
    for _ in range(3000):
        stops = ["".join(rng.choices("ab", k=rng.randint(1, 5))) for _ in range(rng.randint(1, 4))]
        text = "".join(rng.choices("abc", k=rng.randrange(14)))
        assert _stream(text, stops, rng) == _expected(text, stops), (text, stops)
        outcomes.add(_expected(text, stops)[1])
    assert outcomes == {True, False}


def test_text_is_held_back_only_while_it_may_be_a_stop_string() -> None:
    stream = StopStrings(["\n\nUser:", "###"])
    assert stream.feed("Hello\n") == ("Hello", False)
    assert stream.feed("\n") == ("", False)
    assert stream.feed("World #") == ("\n\nWorld ", False)
    assert stream.feed("#") == ("", False)
    assert stream.flush() == "##"


def test_without_stop_strings_nothing_is_held_back() -> None:
    stream = StopStrings([])
    assert stream.feed("text") == ("text", False)
    assert stream.flush() == ""


def test_an_empty_stop_string_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="empty"):
        StopStrings(["a", ""])


def test_foreign_reasons_become_one_safe_line() -> None:
    assert one_line("  two\n lines\t\x1b[2J ") == "two lines \ufffd[2J"
    assert one_line("é" * 300) == "é" * 200 + "…"
