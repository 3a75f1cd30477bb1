"""The page in a real browser, over a real server; where no Chromium is installed, not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.edge.browser import CHROMIUM, Browser, Forwarder, Page, chromium
from tests.edge.servers import Running, running, scripted, until

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

ANSWER = "document.querySelector('.turn:last-child .text').innerText"
WHY = "document.querySelector('.note .error').innerText"
STATE = "document.getElementById('state').textContent"
HOSTILE = "<img src=x onerror=\"document.title='broken'\"> **b** <script>document.title=1</script>"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@contextmanager
def forwarded(server: Running) -> Iterator[Forwarder]:
    forwarder = Forwarder(server.socket)
    try:
        yield forwarder
    finally:
        forwarder.close()


@contextmanager
def opened(
    browser: Browser, folder: Path, *arguments: str, lang: str = "en", ready: bool = True
) -> Iterator[tuple[Running, Forwarder, Page]]:
    """A server that writes the alphabet, and a page of it."""
    with scripted(folder, *arguments, ready=ready) as server, forwarded(server) as way:
        page = browser.page(lang)
        page.open(way.url)
        browser.complaints.clear()
        yield server, way, page
        assert browser.complaints == []


def test_a_question_is_answered_by_the_real_model(
    browser: Browser, model_path: Path, home: Path
) -> None:
    path = home / "s.sock"
    program = "import sys; from edge.program import main; sys.exit(main())"
    options = ("--model", str(model_path), "--socket", str(path), "--ctx-size", "1024")
    with running(path, "-c", program, "serve", *options) as server, forwarded(server) as way:
        page = browser.page("fr-FR,fr")
        page.open(way.url)
        page.until(f"{STATE} === 'prêt'")
        page.ask("What is the capital of France? Answer in one sentence.")
        page.until(f"{STATE} === 'prêt' && {ANSWER}.includes('Paris')")
        assert "jetons/s" in page.shown()
        page.press("Tab")
        page.click("a[href='#about']")
        page.until("document.getElementById('facts').innerText.includes('1\\u00a0024 jetons')")
        page.press("Escape")
        page.until(f"{ANSWER}.includes('Paris')")
        page.open(way.url)
        page.until(f"{ANSWER}.includes('Paris')")
        assert browser.complaints == []


def test_what_is_waited_for_is_told_and_stop_frees_the_place(
    browser: Browser, tmp_path: Path
) -> None:
    with opened(browser, tmp_path, "--step-ms", "20", "--n-ctx", "60000") as (server, way, page):
        page.ask("x" * 9000)
        page.until("document.body.innerText.includes('Reading your text:')")
        assert page.run("document.querySelector('progress').value") > 0
        page.until(f"{ANSWER}.startsWith('abc')")
        others = []
        for _ in range(4):
            others.append(browser.page())
            others[-1].open(way.url)
            others[-1].ask("me too")
        others[-1].until("document.body.innerText.includes('Questions before yours: 0')")
        page.press("Escape")
        page.until(f"{STATE} === 'ready'")
        others[-1].until(f"{ANSWER}.startsWith('a')")
        for other in others:
            other.click("#send")
        until(lambda: server.health()["active"] == 0)
        assert "Stopped." in page.shown()
        page.click(".again")
        page.until(f"{STATE} === 'writing' && !document.querySelector('.again')")
        page.click("#send")
        until(lambda: server.health()["active"] == 0)


def test_a_lost_connection_keeps_what_came_and_offers_to_go_on(
    browser: Browser, tmp_path: Path
) -> None:
    with opened(browser, tmp_path, "--step-ms", "20") as (_, way, page):
        page.ask("Hello")
        page.until(f"{ANSWER}.startsWith('abc')")
        way.closed = True
        way.cut()
        page.until(f"{WHY}.includes('connection is lost')")
        page.until("document.getElementById('mark').className === 'fault'")
        assert page.run(ANSWER).startswith("abc")
        way.closed = False
        page.until(f"{STATE} === 'ready'")
        page.click(".again")
        page.until(f"{STATE} === 'writing' && {ANSWER}.startsWith('ab')")
        assert page.run("document.querySelectorAll('.turn').length") == 2
        page.press("Escape")


def test_a_message_may_be_sent_while_the_model_loads(browser: Browser, tmp_path: Path) -> None:
    loaded = tmp_path / "loaded"
    options = ("--load-until", str(loaded))
    with opened(browser, tmp_path, *options, ready=False, lang="fr") as (_, _way, page):
        page.until(f"/Chargement du modèle : \\d+/.test({STATE})")
        page.ask("Bonjour")
        page.until("document.body.innerText.includes('votre message suivra')")
        loaded.touch()
        page.until(f"{ANSWER}.startsWith('abc')")
        page.press("Escape")


def test_what_is_too_long_is_told_with_counts_and_can_be_changed(
    browser: Browser, tmp_path: Path
) -> None:
    with opened(browser, tmp_path) as (_, _way, page):
        page.ask("y" * 5000)
        told = page.until(WHY)
        assert "4,096" in told
        assert page.run("document.getElementById('message').value") == "y" * 5000
        page.run("document.getElementById('message').value = ''")
        page.ask("short")
        page.until(f"{ANSWER}.startsWith('abc')")
        page.press("Escape")


def test_that_old_turns_are_left_out_is_told(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, tmp_path, lang="fr") as (_, way, page):
        turns = [
            {"role": role, "content": letter * 1500, "state": "complete", "note": ""}
            for role, letter in (("user", "u"), ("assistant", "a")) * 3
        ]
        keep(page, turns, way)
        page.ask("Et maintenant ?")
        page.until("document.body.innerText.includes('Échanges les plus anciens laissés de côté')")
        assert "4\u00a0096 jetons" in page.shown().replace("\u202f", "\u00a0")
        page.press("Escape")


def keep(page: Page, turns: object, way: Forwarder) -> None:
    """Have a page find `turns` in its browser."""
    kept = json.dumps(json.dumps(turns))
    page.send(
        "Page.addScriptToEvaluateOnNewDocument",
        source=f"localStorage.setItem('lucie.conversation', {kept})",
    )
    page.open(way.url)


def test_hostile_text_is_text(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, tmp_path) as (_, way, page):
        turns = [
            {"role": "user", "content": HOSTILE, "state": "complete", "note": HOSTILE},
            {"role": "assistant", "content": HOSTILE, "state": "failed", "note": HOSTILE},
        ]
        keep(page, turns, way)
        assert page.run("document.title") == "Lucie"
        assert page.run("document.querySelectorAll('#turns img, #turns script').length") == 0
        assert page.shown().count("<img src=x onerror=") == 4
        assert page.run("document.querySelector('.assistant strong').textContent") == "b"


def test_nothing_of_one_is_seen_by_another_and_new_deletes(
    browser: Browser, tmp_path: Path
) -> None:
    with opened(browser, tmp_path, "--step-ms", "5") as (_, way, page):
        page.ask("a secret")
        page.until(f"{ANSWER}.startsWith('abc')")
        page.press("Escape")
        stranger = browser.page()
        stranger.open(way.url)
        assert "secret" not in stranger.shown()
        twin = browser.tab(page.context)
        twin.open(way.url)
        assert "a secret" in twin.shown()
        page.click("#new")
        assert page.run("document.activeElement.id") == "delete-no"
        page.press("Escape")
        assert "a secret" in page.shown()
        page.click("#new")
        page.click("#delete-yes")
        twin.until("!document.body.innerText.includes('a secret')")
        page.open(way.url)
        assert "a secret" not in page.shown()
        assert page.run("document.cookie") == ""


@pytest.mark.parametrize(
    ("lang", "told"), [("en", "needs JavaScript"), ("fr", "besoin de JavaScript")]
)
def test_without_javascript_a_sentence_says_so(
    browser: Browser, tmp_path: Path, lang: str, told: str
) -> None:
    with scripted(tmp_path) as server, forwarded(server) as way:
        page = browser.page(lang)
        page.send("Emulation.setScriptExecutionDisabled", value=True)
        page.send("Page.navigate", url=way.url)
        page.until(
            f"document.body.innerText.includes('{told}')"
            " && getComputedStyle(document.getElementById('needs')).visibility === 'visible'"
        )
        assert page.run("getComputedStyle(document.getElementById('composer')).display") == "none"


@pytest.mark.parametrize("lang", ["en", "fr"])
def test_nothing_is_wider_than_a_small_phone(browser: Browser, tmp_path: Path, lang: str) -> None:
    with opened(browser, tmp_path, lang=lang) as (_, way, page):
        size = {"width": 320, "height": 480, "deviceScaleFactor": 2, "mobile": True}
        page.send("Emulation.setDeviceMetricsOverride", **size)
        wide = "```\n" + "x" * 300 + "\n```\n" + "y" * 300
        turns = [
            {"role": "user", "content": "z" * 300, "state": "complete", "note": ""},
            {"role": "assistant", "content": wide, "state": "stopped", "note": "Stopped."},
        ]
        keep(page, turns, way)
        for address in ("", "#about"):
            page.run(f"location.hash = '{address}'")
            page.until("document.body.scrollHeight > 0")
            assert page.run("document.documentElement.scrollWidth") <= 320
