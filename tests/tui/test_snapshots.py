"""Key screens as pictures; after a wanted change run this file with `--snapshot-update`."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from edge.client import Delta, Notice, Progress, Starting
from edge.errors import EngineError
from tests.tui.conftest import Chat
from tests.tui.scripted import Pause, ScriptedServer, done
from tests.tui.test_keeping import stored
from tui.app import ChatApp
from tui.archive import Archive
from tui.board import Board
from tui.chat_screen import ChatScreen
from tui.network import Network
from tui.offers import Offers
from tui.source import Source

TEXT = {
    "en": """The capital of Burkina Faso is **Ouagadougou**.

1. It has about *2.4 million* people.
2. It lies in the region `Kadiogo`.

```python
capital["Burkina Faso"] = "Ouagadougou"
```

| City | People |
|---|---:|
| Ouagadougou | 2,415,266 |
| Bobo-Dioulasso | 904,920 |
""",
    "fr": """La capitale du Burkina Faso est **Ouagadougou**.

## À savoir
- Elle compte environ *2,4 millions* d’habitants ;
- son nom veut dire « là où l’on reçoit des honneurs ».

> Toute ville est une histoire.
""",
}
QUESTION = {
    "en": "What is the capital of Burkina Faso?",
    "fr": "Quelle est la capitale du Burkina Faso ?",
}
FACTS = [
    ("Licence", "Apache-2.0"),
    ("Trained on", "FineWeb-Edu (ODC-By-1.0)\nDCLM-baseline (CC-BY-4.0)\nThe Stack"),
]


@pytest.fixture
def picture(snap_compare: Any, path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., bool]:
    """Whether the screen after `act` is as it was."""

    def compare(
        server: ScriptedServer,
        act: Callable[[Chat], Awaitable[None]],
        *,
        lang: str = "en",
        size: tuple[int, int] = (80, 24),
        **options: Any,
    ) -> bool:
        monkeypatch.setenv("LUCIE_LANG", lang)
        app = ChatApp(ChatScreen(Source(lambda: server), Archive(path), lambda _: FACTS, **options))

        async def run(pilot: Pilot[None]) -> None:
            await act(Chat(app, pilot))
            await pilot.pause()

        return bool(snap_compare(app, terminal_size=size, run_before=run))

    return compare


async def ready(chat: Chat) -> None:
    await chat.until(lambda: chat.main.status_line.status.model is not None)


@pytest.mark.parametrize("lang", ["en", "fr"])
def test_welcome(picture: Callable[..., bool], lang: str) -> None:
    assert picture(ScriptedServer(), ready, lang=lang)


@pytest.mark.parametrize("lang", ["en", "fr"])
@pytest.mark.parametrize("size", [(80, 24), (40, 15)], ids=["80x24", "40x15"])
def test_answer(picture: Callable[..., bool], lang: str, size: tuple[int, int]) -> None:
    async def act(chat: Chat) -> None:
        await ready(chat)
        await chat.say(QUESTION[lang])
        await chat.until_answered()

    assert picture(ScriptedServer([Delta(TEXT[lang]), done()]), act, lang=lang, size=size)


def test_answer_in_16_colours(
    picture: Callable[..., bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "linux")
    monkeypatch.delenv("COLORTERM")

    async def act(chat: Chat) -> None:
        await ready(chat)
        await chat.say(QUESTION["en"])
        await chat.until_answered()
        await chat.type("And of Mali?")

    assert picture(ScriptedServer([Delta(TEXT["en"]), done()]), act)


def test_answer_without_colours(
    picture: Callable[..., bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    async def act(chat: Chat) -> None:
        await ready(chat)
        await chat.say(QUESTION["fr"])
        await chat.until_answered()

    assert picture(ScriptedServer([Delta(TEXT["fr"]), done()]), act, lang="fr")


def test_loading(picture: Callable[..., bool]) -> None:
    first, second = Pause(), Pause()
    server = ScriptedServer(connects=[[first, Starting("loading", 0.45), second]])

    async def act(chat: Chat) -> None:
        await first.reached.wait()
        await chat.say(QUESTION["fr"])
        first.go_on.set()
        await second.reached.wait()
        await chat.until_shown("Chargement")

    assert picture(server, act, lang="fr")


def test_reading(picture: Callable[..., bool]) -> None:
    pause = Pause()
    server = ScriptedServer([Progress(120, 900, 0), pause])

    async def act(chat: Chat) -> None:
        await ready(chat)
        await chat.say("Summarise this text:\n\n" + "All that glitters is not gold. " * 12)
        await pause.reached.wait()
        await chat.until_shown("120 / 900")

    assert picture(server, act)


def test_what_goes_wrong(picture: Callable[..., bool]) -> None:
    server = ScriptedServer(
        [Notice("server.turns-dropped", {"turns": 2, "window": 2048}), Delta("A tree is a tall"),
         EngineError("local.gone", words=": it was killed")],
    )  # fmt: skip

    async def act(chat: Chat) -> None:
        await ready(chat)
        await chat.say("What is a tree?")
        await chat.until_answered()

    assert picture(server, act)


@pytest.mark.parametrize("lang", ["en", "fr"])
def test_list(
    picture: Callable[..., bool], path: Path, monkeypatch: pytest.MonkeyPatch, lang: str
) -> None:
    monkeypatch.setattr("edge.history._now", lambda: "2026-03-08T12:00:00.000+00:00")
    for title in ("La photosynthèse", QUESTION[lang], "A very long question " * 6):
        stored(path, ("user", title, "complete"), ("assistant", "…", "complete"))

    async def act(chat: Chat) -> None:
        await ready(chat)
        await chat.pilot.press("ctrl+l")
        await chat.until(lambda: chat.app.screen._conversations)  # type: ignore[attr-defined]
        await chat.pilot.press("down", "delete")

    assert picture(ScriptedServer(), act, lang=lang)


@pytest.mark.parametrize("lang", ["en", "fr"])
def test_joining(picture: Callable[..., bool], lang: str) -> None:
    async def act(chat: Chat) -> None:
        await ready(chat)
        await chat.pilot.press("f3")
        await chat.until(lambda: len(chat.app.screen.query(".code")) == 2)

    network = Network("Salle 12", "abcd-efgh-ij", "http://10.42.0.1")
    assert picture(ScriptedServer(), act, lang=lang, board=Board(network=network))


def test_about(picture: Callable[..., bool]) -> None:
    async def act(chat: Chat) -> None:
        await ready(chat)
        await chat.pilot.press("f1")
        await chat.until(lambda: len(chat.app.screen.query(".label")) == 6)

    assert picture(ScriptedServer(), act)


@pytest.mark.parametrize("lang", ["en", "fr"])
def test_offered(picture: Callable[..., bool], home: Path, lang: str) -> None:
    (home / "offers").mkdir()
    told = {"en": "The stick has the model Toy (98 MB, en).", "fr": "La clé a le modèle Jouet."}
    (home / "offers/sdb1-toy").write_text(json.dumps({"text": told[lang]}), encoding="utf-8")

    async def act(chat: Chat) -> None:
        await ready(chat)
        await chat.pilot.press("f4")
        await chat.until(lambda: chat.app.screen is not chat.main)

    offers = Offers(home / "offers", home / "choice")
    assert picture(ScriptedServer(), act, lang=lang, board=Board(offers=offers))
