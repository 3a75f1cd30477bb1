"""`lucie chat`: its options, and how little it needs before its first frame."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from textual.app import App

from edge.client import ModelInfo
from edge.errors import ServerError, UnknownModelError, UsageError
from edge.store import Store
from tests.edge.servers import scripted
from tests.tui.conftest import Chatting
from tests.tui.terminal import Terminal
from tui.command import _connector, _known, chat

LATE = {"httpx", "pydantic", "numpy", "sqlite3", "markdown_it", "starlette", "uvicorn", "jinja2"}


def modules(code: str) -> set[str]:
    """Top-level modules that a program has imported at its end."""
    code += "\nimport sys; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(ran.stdout.split())


def test_the_command_itself_is_light() -> None:
    assert not modules("import tui.command") & (LATE | {"textual", "rich", "asyncio"})


def test_the_first_frame_needs_little() -> None:
    code = """
from pathlib import Path
from edge.http_client import check_address
from tui.app import ChatApp
from tui.chat_screen import ChatScreen
from tui.archive import Archive
from tui.source import Source

class FirstFrame(ChatScreen):
    def _begin(self):
        assert "talking to an AI" in self.transcript.render_line(0).text
        self.app.exit()

check_address("unix:/run/lucie.sock")
ChatApp(FirstFrame(Source(lambda: None), Archive(Path("none")), lambda _: [])).run(headless=True)
"""
    assert not modules(code) & LATE


@pytest.mark.parametrize("term", ["linux", "xterm-256color"])
async def test_styles_are_read_once(
    chatting: Chatting, monkeypatch: pytest.MonkeyPatch, term: str
) -> None:
    """An assignment of a theme would have all of them read twice, before the first frame."""
    monkeypatch.setenv("TERM", term)
    monkeypatch.delenv("COLORTERM", raising=False)
    read: list[object] = []
    monkeypatch.setattr(App, "refresh_css", lambda *_, **__: read.append(1))
    async with chatting() as chat:
        assert chat.app.native_ansi_color == (term == "linux")
    assert read == []


def test_without_a_terminal_it_names_the_other_command() -> None:
    result = CliRunner().invoke(chat, [])
    assert isinstance(result.exception, UsageError)
    assert "lucie run" in str(result.exception)


@pytest.fixture
def _a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui.command._require_terminal", lambda: None)


@pytest.mark.usefixtures("_a_terminal")
def test_a_model_that_is_not_there_is_told_before_the_screen_opens() -> None:
    result = CliRunner().invoke(chat, ["--model", "no-such-model"])
    assert isinstance(result.exception, UnknownModelError)


def test_help_names_the_options() -> None:
    text = CliRunner().invoke(chat, ["--help"]).output
    for option in ("--model", "--server", "--new", "--continue", "--system", "--notice", "--class"):
        assert option in text


def test_of_a_model_of_this_machine_its_manifest_is_told_whoever_runs_it(model_path: Path) -> None:
    Store().add(f"file:{model_path}", name="here")
    here = ModelInfo("here", None, None, None)
    told = _known("here", None, here)
    assert told
    assert _known(None, "unix:/run/lucie/serve.sock", here) == told
    assert _known(None, "http://10.42.0.1:8080", here) == ()
    assert not _known(None, "unix:/run/other.sock", ModelInfo("elsewhere", None, None, None))


def test_a_server_that_is_not_there(path: Path) -> None:
    code = "from edge.cli import main; from tui.command import chat; chat.main()"
    code = "import sys; sys.argv = ['lucie', '--server', 'http://127.0.0.1:9']\n" + code
    terminal = Terminal(code, LUCIE_HOME=str(path.parent.parent))
    terminal.read_until("no model")
    terminal.read_until("127.0.0.1:9")
    terminal.write("\x11")
    assert terminal.wait() == 0


async def test_a_server_is_asked_for_the_model_that_is_named(tmp_path: Path) -> None:
    with scripted(tmp_path) as server:
        client = await _connector("letters", server.address).connect()
        assert (await client.info()).name == "letters"
        await client.aclose()
        client = await _connector("other", server.address).connect()
        with pytest.raises(ServerError, match="It has: letters"):
            await client.info()
        await client.aclose()
