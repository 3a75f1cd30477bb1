"""Escape characters in a paste, through the parser and through a real terminal."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.events import Key, Paste
from textual.message import Message

from tests.tui.conftest import kept
from tests.tui.terminal import scripted
from tui.pasted import PasteParser

PASTED = "a \x1b[31mred\x1b[0m b\rnext\x1b[200~ \x1b \x1b[20 end\x1b"
SENT = "x\x1b[200~" + PASTED + "\x1b[201~y\x1b[200~2\x1b[201~\x1b[A"


def read(*chunks: str) -> list[str]:
    """What is understood: keys by their names, pastes in quotes."""
    parser = PasteParser()
    messages: list[Message] = []
    for chunk in chunks:
        messages += parser.feed(chunk)
    return [
        message.key if isinstance(message, Key) else repr(message.text)
        for message in messages
        if isinstance(message, Key | Paste)
    ]


def test_a_paste_is_one_text_wherever_the_terminal_cuts_it() -> None:
    wanted = ["x", repr(PASTED.replace("\x1b", "\u241b")), "y", "'2'", "up"]
    assert read(SENT) == wanted
    for cut in range(1, len(SENT)):
        assert read(SENT[:cut], SENT[cut:]) == wanted, cut
    assert read(*SENT) == wanted


def test_the_escape_key_is_not_kept_waiting() -> None:
    parser = PasteParser()
    list(parser.feed("\x1b"))
    (key,) = parser.feed("\x1b")
    assert isinstance(key, Key)
    assert key.key == "escape"


@pytest.mark.parametrize("end", ["\r", "\n"])
def test_a_coloured_log_is_sent_whole_and_only_by_enter(path: Path, end: str) -> None:
    terminal = scripted(path)
    terminal.read_until("talking to an AI")
    terminal.write(
        f"\x1b[200~[\x1b[1;32mok\x1b[0m] build{end}[\x1b[1;32mok\x1b[0m] test{end}\x1b[201~"
    )
    terminal.read_until("test")
    terminal.write("\r")
    terminal.read_until("Half an answer")
    terminal.write("\x11")
    assert terminal.wait() == 0
    assert kept(path)[0][0][1] == "[␛[1;32mok␛[0m] build\n[␛[1;32mok␛[0m] test"
