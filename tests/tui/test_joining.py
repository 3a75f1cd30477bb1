"""The screen by which a class joins, read off it by another library than the one that draws."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import zxingcpp
from rich.cells import cell_len
from rich.color import Color
from rich.style import Style
from textual.strip import Strip
from textual.widgets import Static

from edge.errors import UsageError
from tests.tui.conftest import Chat, Chatting
from tui.board import Board
from tui.joining import Code, Joining
from tui.network import Network, network_in

NETWORK = Network("Salle 12", "abcd-efgh-ij", "http://10.42.0.1")
ODD = [
    ("Lucie", "abcdefgh"),
    ("École n° 12 – ça va", "un mot de passe"),
    ('a;b:c,d"e\\f', '\\;,":\\\\ ;;'),
    ("DEADBEEF", "0123456789abcdef" * 4),
    ("教室" * 5, "x" * 63),
    ('"' * 32, ";" * 63),
]
_UNIT = 8
"""Pixels of half a cell."""
_LUCIE_SCREEN = Path("images/board/system/usr/lib/lucie-screen")


def console_colours() -> list[tuple[int, ...]]:
    """The 16 of a board's screen."""
    script = _LUCIE_SCREEN.read_text(encoding="utf-8")
    table = re.findall(r"^[\d,]+$", script, flags=re.MULTILINE)
    return list(zip(*([int(value) for value in row.split(",")] for row in table), strict=True))


def light(color: Color | None, otherwise: int) -> int:
    """From black to white, as a board's screen has it, or another that knows all colours."""
    if color is None or color.is_default:
        return otherwise
    if color.number is not None and color.number < 16:
        red, green, blue = console_colours()[color.number]
    else:
        red, green, blue = color.get_truecolor()
    return (299 * red + 587 * green + 114 * blue) // 1000


def photograph(strips: Sequence[Strip]) -> np.ndarray:
    """What a camera sees of a screen, in shades of grey."""
    rows: list[list[int]] = []
    for strip in strips:
        upper: list[int] = []
        lower: list[int] = []
        for text, style, _ in strip:
            drawn = style or Style()
            front, back = light(drawn.color, 200), light(drawn.bgcolor, 0)
            for letter in text:
                upper += [front if letter in "█▀" else back] * cell_len(letter)
                lower += [front if letter in "█▄" else back] * cell_len(letter)
        rows += [upper, lower]
    seen = np.array(rows, dtype=np.uint8)
    return np.kron(seen, np.ones((_UNIT, _UNIT), dtype=np.uint8))


def read(chat: Chat) -> list[str]:
    """What a phone reads off the screen, from left to right."""
    strips = chat.app.screen._compositor.render_strips(chat.app.size)
    found = zxingcpp.read_barcodes(photograph(strips), formats=zxingcpp.BarcodeFormat.QRCode)
    return [each.text for each in sorted(found, key=lambda each: each.position.top_left.x)]


def words(chat: Chat) -> str:
    return "\n".join(str(part.content) for part in chat.app.screen.query(Static))


def parsed(wifi: str) -> dict[str, str]:
    """As ZXing's WifiResultParser takes it apart."""
    fields = re.findall(r"([TSP]):((?:\\.|[^\\;])*);", wifi.removeprefix("WIFI:"))
    return {name: re.sub(r"\\(.)", r"\1", value) for name, value in fields}


async def opened(chat: Chat) -> None:
    await chat.until(lambda: chat.state == "ready")
    await chat.pilot.press("f3")
    await chat.until(lambda: isinstance(chat.app.screen, Joining))
    await chat.until(lambda: NETWORK.address in words(chat))


@pytest.mark.parametrize("term", ["linux", "xterm-256color"])
async def test_a_phone_reads_both_codes(
    term: str, chatting: Chatting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", term)
    if term == "linux":
        monkeypatch.delenv("COLORTERM")
    async with chatting(board=Board(network=NETWORK)) as chat:
        await opened(chat)
        assert read(chat) == ["WIFI:T:WPA;S:Salle 12;P:abcd-efgh-ij;;", "http://10.42.0.1"]
        shown = words(chat)
        assert "Network: Salle 12   Password: abcd-efgh-ij   Address: http://10.42.0.1" in shown
        await chat.pilot.press("escape")
        assert chat.app.focused is chat.main.prompt


@pytest.mark.parametrize(("ssid", "password"), ODD)
async def test_every_name_and_password_comes_over(
    ssid: str, password: str, chatting: Chatting
) -> None:
    network = Network(ssid, password, NETWORK.address)
    async with chatting(board=Board(network=network), size=(120, 40)) as chat:
        await opened(chat)
        wifi = read(chat)[0]
        assert parsed(wifi) == {"T": "WPA", "S": ssid, "P": password}
        assert wifi.endswith(";;")


async def test_on_a_narrow_screen_there_is_one_at_a_time(chatting: Chatting) -> None:
    async with chatting(board=Board(network=NETWORK), size=(50, 26)) as chat:
        await opened(chat)
        for key, wanted in (("right", NETWORK.wifi), ("right", NETWORK.address), ("left", "")):
            if wanted:
                assert read(chat) == [wanted]
                assert any(key == "→" for key, _ in chat.app.screen._keys.keys)  # type: ignore[attr-defined]
            await chat.pilot.press(key)
            await chat.pilot.pause()
        await chat.until(lambda: read(chat) == [NETWORK.address])


async def test_a_screen_that_grows_gets_them(chatting: Chatting) -> None:
    async with chatting(board=Board(network=NETWORK), size=(80, 16)) as chat:
        await opened(chat)
        assert read(chat) == []
        assert "too small" in words(chat)
        assert "abcd-efgh-ij" in words(chat)
        await chat.pilot.resize_terminal(80, 24)
        await chat.until(lambda: len(read(chat)) == 2)
        assert "too small" not in words(chat)


@pytest.mark.parametrize("width", range(1, 7))
async def test_on_the_narrowest_screen_there_are_words(width: int, chatting: Chatting) -> None:
    async with chatting(board=Board(network=NETWORK), size=(width, 10)) as chat:
        await chat.pilot.press("f3")
        await chat.until(lambda: isinstance(chat.app.screen, Joining))
        await chat.until(lambda: NETWORK.password in words(chat).replace("\n", ""))
        await chat.pilot.press("escape")
        await chat.until(lambda: chat.app.screen is chat.main)


async def test_wide_letters_are_broken_by_the_room_that_they_take(chatting: Chatting) -> None:
    network = Network("教室" * 12, NETWORK.password, NETWORK.address)
    async with chatting(board=Board(network=network), size=(50, 40)) as chat:
        await opened(chat)
        assert read(chat) == [network.wifi]
        facts = [str(fact.content) for fact in chat.app.screen.query(".joining-fact")]
        assert "".join(facts).count("教室") == 12
        assert [cell_len(fact) for fact in facts[:2]] == [45, 12], "45: no half letters"
        assert all(facts)


async def test_without_the_library_there_are_words(
    chatting: Chatting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "segno", None)
    async with chatting(board=Board(network=NETWORK)) as chat:
        await opened(chat)
        assert "lucie-edge[board]" in words(chat)
        assert "abcd-efgh-ij" in words(chat)


async def test_without_a_network_there_is_no_key(chatting: Chatting) -> None:
    async with chatting() as chat:
        await chat.until(lambda: chat.state == "ready")
        await chat.pilot.press("f3")
        assert chat.app.screen is chat.main
        assert "F3" not in [key for key, _ in chat.main.key_line.keys]


def test_around_a_code_it_is_light() -> None:
    for quiet in (2, 4):
        code = Code.of("http://10.42.0.1", quiet)
        assert code.width == 21 + 2 * quiet
        assert len(code.lines) == (code.width + 1) // 2
        assert set("".join(code.lines[: quiet // 2])) == {"█"}
        assert all(
            line.startswith("█" * quiet) and line.endswith("█" * quiet) for line in code.lines
        )


def test_a_board_says_white_and_black() -> None:
    colours = console_colours()
    assert (colours[15], colours[0]) == ((255, 255, 255), (0, 0, 0))


def test_a_network_is_read_as_the_settings_have_written_it(tmp_path: Path) -> None:
    file = tmp_path / "class.json"
    assert network_in(None) is None
    assert network_in(file) is None
    told = {"ssid": "É", "password": "p", "address": "http://a"}
    file.write_text(json.dumps(told), encoding="utf-8")
    assert network_in(file) == Network("É", "p", "http://a")
    for wrong in ("", "[]", "{}", json.dumps({**told, "ssid": 1}), json.dumps({**told, "x": ""})):
        file.write_text(wrong)
        with pytest.raises(UsageError, match=re.escape(str(file))):
            network_in(file)
    with pytest.raises(UsageError, match="directory"):
        network_in(tmp_path)
