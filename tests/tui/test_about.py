"""The screen about the model."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from textual.widgets import Static

from edge.about import known_of
from edge.errors import UnknownModelError
from edge.store import Store
from tests.tui.conftest import Chat, Chatting
from tests.tui.scripted import Pause, ScriptedServer


def facts(chat: Chat) -> str:
    return "\n".join(str(part.content) for part in chat.app.screen.query(Static))


async def test_what_is_known_is_shown(chatting: Chatting) -> None:
    known = [("Licence", "Apache-2.0"), ("Trained on", "FineWeb\x1b (ODC-By-1.0)\n[red]more")]
    async with chatting(facts=known) as chat:
        await chat.until(lambda: chat.state == "ready")
        await chat.pilot.press("f1")
        await chat.until(lambda: "Apache-2.0" in facts(chat))
        shown = facts(chat)
        for fact in ("smollm2-135m-instruct", "134,515,008", "2,048 tokens", "205\u00a0MiB",
                     "FineWeb␛ (ODC-By-1.0)\n[red]more", "You are talking to an AI"):  # fmt: skip
            assert fact in shown
        await chat.pilot.press("escape")
        assert chat.app.focused is chat.main.prompt


async def test_that_nothing_is_known_is_said(chatting: Chatting) -> None:
    async with chatting(facts=()) as chat:
        await chat.until(lambda: chat.state == "ready")
        await chat.pilot.press("f1")
        await chat.until(lambda: "Nothing more is known" in facts(chat))


async def test_before_the_model_runs(chatting: Chatting) -> None:
    pause = Pause()
    async with chatting(ScriptedServer(connects=[[pause]])) as chat:
        await chat.pilot.press("f1")
        await chat.until(lambda: "not running yet" in facts(chat))
        pause.go_on.set()
        await chat.until(lambda: "134,515,008" in facts(chat) and "Apache-2.0" in facts(chat))
        assert "not running yet" not in facts(chat)
        await chat.pilot.press("escape")
        await chat.pilot.press("f1")
        await chat.until(lambda: facts(chat).count("134,515,008") == 1)


async def test_a_model_removed_while_it_runs(chatting: Chatting) -> None:
    def gone(_: object) -> None:
        raise UnknownModelError("store.unknown", name="lucie", known="")

    async with chatting() as chat:
        await chat.until(lambda: chat.state == "ready")
        chat.main._describe = gone
        await chat.pilot.press("f1")
        await chat.until(lambda: "lucie" in facts(chat))
        assert "134,515,008" in facts(chat)


def test_of_a_plain_file_nothing_is_known(tmp_path: Path, model_path: Path) -> None:
    plain = tmp_path / "model.gguf"
    shutil.copy(model_path, plain)
    assert known_of(Store().find(str(plain)), "en") == []


@pytest.mark.parametrize("lang", ["en", "fr"])
def test_of_a_bundle_its_manifest_is_told(model_path: Path, lang: str) -> None:
    Store().add(f"file:{model_path}", name="smollm2-135m-instruct")
    told = dict(known_of(Store().find("smollm2-135m-instruct"), lang))
    label = {"en": "Licence", "fr": "Licence"}[lang]
    assert label in told
    assert {"en": "Trained on", "fr": "Entraîné sur"}[lang] in told
