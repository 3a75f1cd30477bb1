"""The real program with the real model in a real terminal, as a person uses it."""

from __future__ import annotations

import itertools
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.tui.conftest import kept

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed"),
]
LUCIE = str(Path(sys.executable).with_name("lucie"))
_NUMBERS = itertools.count()
STORY = "Write a very long story about a dragon and a cat."


class Tmux:
    """A terminal of 80 × 24 with one program in it."""

    def __init__(self, home: Path, *command: str) -> None:
        name = f"terminal-{next(_NUMBERS)}"
        self._socket = str(home / f"{name}.tmux")
        self._code = home / f"{name}.code"
        # What tmux itself knows of a program's end comes late or never.
        script = f"{shlex.join(command)}; echo $? > {self._code}; exec sleep 600"
        self._run("-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24",
                  "-e", f"LUCIE_HOME={home}", "-e", "LUCIE_LANG=en", script)  # fmt: skip

    def _run(self, *arguments: str) -> str:
        command = ["tmux", "-S", self._socket, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    @property
    def pid(self) -> int:
        """Of the program, the shell's only child."""
        shell = self._run("display-message", "-p", "#{pane_pid}").strip()
        return int(Path(f"/proc/{shell}/task/{shell}/children").read_text())

    @property
    def screen(self) -> str:
        return self._run("capture-pane", "-p")

    def type(self, text: str) -> None:
        self._run("send-keys", "-l", text)

    def press(self, *keys: str) -> None:
        self._run("send-keys", *keys)

    def until(self, true: Callable[[str], object], seconds: float = 30.0) -> str:
        deadline = time.monotonic() + seconds
        while not true(screen := self.screen):
            assert time.monotonic() < deadline, screen
            time.sleep(0.05)
        return screen

    def until_shown(self, text: str) -> str:
        return self.until(lambda screen: text in screen)

    def exit_code(self) -> int:
        self.until(lambda _: self._code.exists() and self._code.read_text().strip())
        return int(self._code.read_text())

    def close(self) -> None:
        """As when the window is closed; harmless when it is."""
        subprocess.run(["tmux", "-S", self._socket, "kill-server"], capture_output=True)


def engines(home: Path) -> list[int]:
    """The engine processes that were started with this home."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
        except OSError:  # it has just ended
            continue
        if os.fsencode(home) in command and b"--exit-when-unused" in command:
            found.append(int(process.name))
    return found


@pytest.fixture
def chat(home: Path, model_path: Path) -> Iterator[Callable[..., Tmux]]:
    """Open the chat in a terminal."""
    opened: list[Tmux] = []

    def start(*options: str, within: Sequence[str] = ()) -> Tmux:
        for tmux in opened:
            tmux.close()
        opened[:] = [Tmux(home, *within, LUCIE, "chat", "--model", str(model_path), *options)]
        return opened[0]

    yield start
    for tmux in opened:
        tmux.close()
    for engine in engines(home):
        os.kill(engine, signal.SIGTERM)


def in_mid_answer(tmux: Tmux) -> None:
    tmux.until_shown("Write a message")
    tmux.type(STORY)
    tmux.press("Enter")
    tmux.until(lambda screen: "● writing" in screen and len(answer(screen).split()) > 10)


def answer(screen: str) -> str:
    """What stands between the question and the prompt."""
    lines = screen.partition(STORY)[2].partition("──────")[0]
    return " ".join(lines.split())


@pytest.mark.netns
def test_where_there_is_no_network_it_answers(chat: Callable[..., Tmux]) -> None:
    """In a network of its own, whose one device, loopback, is down."""
    tmux = chat(within=["unshare", "-rn"])
    in_mid_answer(tmux)
    devices = Path(f"/proc/{tmux.pid}/net/dev").read_text().splitlines()[2:]
    assert [line.split(":")[0].strip() for line in devices] == ["lo"]


def test_a_conversation_from_the_first_key_to_the_next_day(
    chat: Callable[..., Tmux], path: Path
) -> None:
    tmux = chat()
    assert "You are talking to an AI" in tmux.until_shown("Write a message")
    in_mid_answer(tmux)
    tmux.press("Escape")
    tmux.until_shown("● ready")
    stopped = answer(tmux.until_shown("Stopped."))
    tmux.type("And then?")
    tmux.press("Enter")
    tmux.until_shown("● writing")
    tmux.press("Escape")
    tmux.until_shown("● ready")
    status = Path(f"/proc/{tmux.pid}/status").read_text()
    resident_kib = int(status.partition("VmRSS:")[2].split()[0])
    assert resident_kib <= 90 * 1024
    tmux.press("C-q")
    assert tmux.exit_code() == 0
    (conversation,) = kept(path)
    assert [(role, content) for role, content, _ in conversation[::2]] == [
        ("user", STORY), ("user", "And then?"),
    ]  # fmt: skip
    assert conversation[1][2] == "stopped"
    assert " ".join(conversation[1][1].split())[:40] in stopped

    tmux = chat("--continue")
    tmux.until_shown("● ready")
    tmux.until_shown("▌ And then?")
    tmux.press("PageUp", "PageUp", "PageUp")
    tmux.until_shown(f"▌ {STORY}")
    tmux.press("C-l")
    tmux.until_shown("Enter open")
    tmux.until_shown(STORY)
    tmux.press("Escape")
    tmux.until_shown("Enter send")
    tmux.press("F1")
    tmux.until_shown("About this model")
    tmux.press("Escape")
    tmux.until_shown("Enter send")
    tmux.press("C-c")
    assert tmux.exit_code() == 0


def test_an_engine_that_is_killed_costs_one_answer(
    chat: Callable[..., Tmux], home: Path, path: Path
) -> None:
    tmux = chat()
    in_mid_answer(tmux)
    (engine,) = engines(home)
    os.kill(engine, signal.SIGKILL)
    tmux.until_shown("Ctrl-R asks again")
    tmux.until_shown("● no model")
    tmux.press("C-r")
    tmux.until(lambda screen: "● writing" in screen)
    assert engines(home) not in ([], [engine])
    tmux.press("Escape")
    tmux.until_shown("● ready")
    tmux.press("C-q")
    assert tmux.exit_code() == 0
    question, reply = kept(path)[0]
    assert (question[1], reply[2]) == (STORY, "stopped")


def test_an_engine_that_is_killed_between_two_answers_costs_none(
    chat: Callable[..., Tmux], home: Path, path: Path
) -> None:
    tmux = chat()
    in_mid_answer(tmux)
    tmux.press("Escape")
    tmux.until_shown("● ready")
    (engine,) = engines(home)
    os.kill(engine, signal.SIGKILL)
    tmux.type("And then?")
    tmux.press("Enter")
    tmux.until(lambda screen: "● writing" in screen)
    tmux.press("Escape")
    tmux.until_shown("● ready")
    tmux.press("C-q")
    assert tmux.exit_code() == 0
    assert [state for _, _, state in kept(path)[0][1::2]] == ["stopped", "stopped"]


def test_a_terminal_that_is_closed_in_mid_answer(chat: Callable[..., Tmux], path: Path) -> None:
    tmux = chat()
    in_mid_answer(tmux)
    pid = tmux.pid
    tmux.close()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    question, reply = kept(path)[0]
    assert question[1] == STORY
    assert reply[2] == "stopped"
    chat("--continue").until_shown("Stopped.")
