"""What a machine offers to use: a list on F4, and the name of what is chosen in a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from textual.widgets import OptionList

from edge.errors import UsageError
from tests.tui.conftest import Chatting
from tui.board import Board
from tui.offered import Offered
from tui.offers import Offers


@pytest.fixture
def offers(home: Path) -> Offers:
    """Two models of a stick."""
    (home / "offers").mkdir()
    (home / "choice").mkdir()
    for name, text in (("sdb1-one", "Model one"), ("sdb1-two", "Model \x1b[2Jtwo")):
        (home / "offers" / name).write_text(json.dumps({"text": text, "device": "sdb1"}))
    return Offers(home / "offers", home / "choice/offer")


async def test_what_is_chosen_is_written_down(chatting: Chatting, offers: Offers) -> None:
    async with chatting(board=Board(offers=offers)) as chat:
        await chat.type("half a question")
        await chat.pilot.press("f4")
        await chat.until(lambda: isinstance(chat.app.screen, Offered))
        found = chat.app.screen.query_one(OptionList)
        assert [str(option.prompt) for option in found.options] == ["Model one", "Model ␛[2Jtwo"]
        await chat.pilot.press("down", "enter")
        await chat.until(lambda: chat.app.screen is chat.main)
        assert offers.choice.read_text() == "sdb1-two\n"
        assert chat.text.count("Chosen. What comes of it is told here.") == 1
        assert chat.main.prompt.text == "half a question"
    assert [file.name for file in offers.choice.parent.iterdir()] == ["offer"]


async def test_the_key_is_shown_while_something_is_offered(
    chatting: Chatting, offers: Offers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tui.board._EVERY_S", 0.01)
    async with chatting(board=Board(offers=offers)) as chat:

        def shown() -> bool:
            return "F4 stick" in str(chat.main.key_line.render())

        assert not shown()
        await chat.until(shown)
        for file in list(offers.folder.iterdir()):
            file.unlink()
        await chat.until(lambda: not shown())


async def test_what_cannot_be_taken_back_is_asked_first(chatting: Chatting, offers: Offers) -> None:
    told = {"text": "Remove model three.", "ask": "Remove \x1b[2Jthree?"}
    (offers.folder / "trash-three").write_text(json.dumps(told))
    async with chatting(board=Board(offers=offers)) as chat:
        await chat.pilot.press("f4")
        await chat.until(lambda: isinstance(chat.app.screen, Offered))
        screen = chat.app.screen

        def shown(*texts: str) -> bool:
            strips = screen._compositor.render_strips(chat.app.size)
            seen = " ".join(" ".join(strip.text for strip in strips).split())
            return all(text in seen for text in texts)

        assert shown("It answers from now on", "Enter use")
        await chat.pilot.press("up")  # from the first to the last
        await chat.until(lambda: shown("Enter choose"))
        await chat.pilot.press("enter")
        await chat.until(lambda: shown("Remove ␛[2Jthree?", "Enter yes"))
        await chat.pilot.press("down", "up")
        await chat.until(lambda: shown("Enter choose") and not shown("three?"))
        await chat.pilot.press("enter", "escape")
        await chat.until(lambda: shown("Enter choose") and not shown("three?"))
        assert chat.app.screen is screen
        await chat.pilot.press("enter", "enter")
        await chat.until(lambda: chat.app.screen is chat.main)
    assert offers.choice.read_text() == "trash-three\n"


@pytest.mark.parametrize("key", ["escape", "f4"])
async def test_nothing_need_be_chosen(key: str, chatting: Chatting, offers: Offers) -> None:
    async with chatting(board=Board(offers=offers)) as chat:
        await chat.pilot.press("f4")
        await chat.until(lambda: isinstance(chat.app.screen, Offered))
        await chat.pilot.press(key)
        await chat.until(lambda: chat.app.screen is chat.main)
    assert not offers.choice.exists()


async def test_a_choice_that_cannot_be_written_is_told(chatting: Chatting, offers: Offers) -> None:
    offers.choice.parent.rmdir()
    async with chatting(board=Board(offers=offers)) as chat:
        await chat.pilot.press("f4")
        await chat.until(lambda: isinstance(chat.app.screen, Offered))
        await chat.pilot.press("enter")
        await chat.until(lambda: "written: No such file" in " ".join(chat.text.split()))
        assert "Chosen" not in chat.text


async def test_where_nobody_offers_anything_the_key_does_nothing(chatting: Chatting) -> None:
    async with chatting() as chat:
        await chat.pilot.press("f4")
        await chat.pilot.pause()
        assert chat.app.screen is chat.main


def test_what_is_no_offer_is_passed_by(offers: Offers) -> None:
    for name, content in {
        "sdb1-a": "", "sdb1-b": "[]", "sdb1-c": '{"text": 1}', "sdb1-d": '{"text": ""}',
        "sdb1-e": json.dumps({"text": "x" * 10_000}), ".sdb1-f.new": '{"text": "draft"}',
    }.items():  # fmt: skip
        (offers.folder / name).write_text(content)
    (offers.folder / "sdb1-g").write_bytes(b"\xff\xfe")
    (offers.folder / "sdb1-h").mkdir()
    assert [offer.name for offer in offers.all()] == ["sdb1-one", "sdb1-two"]
    assert Offers(offers.folder / "none", offers.choice).all() == []


def test_an_error_names_the_file(offers: Offers) -> None:
    offers.choice.mkdir()
    with pytest.raises(UsageError, match="choice/offer"):
        offers.choose("sdb1-one")
