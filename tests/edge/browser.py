"""A headless Chromium for tests, driven over its DevTools pipe, and the way to a server.

The pipe (`--remote-debugging-pipe`) speaks JSON that ends in a zero byte:
https://chromedevtools.github.io/devtools-protocol/.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
_DEADLINE_S = 60
# Chromium expects the ends of its two pipes as these descriptors.
_AS_3_AND_4 = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
for number, end in enumerate(ends, 3):
    os.dup2(end, number)
os.execvp(sys.argv[3], sys.argv[3:])
"""


class Page:
    """One tab. What goes wrong in it is kept in `complaints`."""

    def __init__(self, browser: Browser, session: str, context: str) -> None:
        self._browser = browser
        self._session = session
        self.context = context

    def send(self, method: str, **params: Any) -> Any:
        return self._browser.send(method, params, self._session)

    def open(self, url: str) -> None:
        self.send("Page.navigate", url=url)
        self.until(
            "document.readyState === 'complete' && document.getElementById('turns') !== null"
            " && document.getElementById('needs') === null"
        )

    def run(self, expression: str) -> Any:
        """The value of an expression of JavaScript."""
        got = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in got, got
        return got["result"].get("value")

    def until(self, expression: str) -> Any:
        """Wait until an expression is true; returns it."""
        end = time.monotonic() + _DEADLINE_S
        while not (
            value := self.run(f"(() => {{ try {{ return {expression} }} catch (_) {{}} }})()")
        ):
            assert time.monotonic() < end, f"waited too long: {expression}\n{self.shown()}"
            time.sleep(0.02)
        return value

    def shown(self) -> str:
        """What a person reads."""
        return str(self.run("document.body.innerText"))

    def write(self, text: str) -> None:
        self.send("Input.insertText", text=text)

    def press(self, key: str) -> None:
        code = {"Enter": 13, "Escape": 27, "Tab": 9}[key]
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.send(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key,
                windowsVirtualKeyCode=code, **(text if kind == "keyDown" else {}),
            )  # fmt: skip

    def click(self, selector: str) -> None:
        self.run(f"document.querySelector({json.dumps(selector)}).click()")

    def ask(self, text: str) -> None:
        self.write(text)
        self.press("Enter")

    @property
    def complaints(self) -> list[str]:
        return self._browser.complaints


class Browser:
    """A Chromium process."""

    def __init__(self, process: subprocess.Popen[bytes], to: int, of: int) -> None:
        self._process = process
        self._to = to
        self._from = of
        self._buffer = b""
        self._number = 0
        self.complaints: list[str] = []

    def send(self, method: str, params: dict[str, Any], session: str | None = None) -> Any:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            self._note(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def page(self, lang: str = "en") -> Page:
        """A tab that shares nothing with the others."""
        context = self.send("Target.createBrowserContext", {})["browserContextId"]
        return self.tab(context, lang)

    def tab(self, context: str, lang: str = "en") -> Page:
        """One more tab of the same person."""
        made = self.send("Target.createTarget", {"url": "about:blank", "browserContextId": context})
        attached = self.send(
            "Target.attachToTarget", {"targetId": made["targetId"], "flatten": True}
        )
        page = Page(self, attached["sessionId"], context)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.send(f"{domain}.enable")
        page.send("Network.setExtraHTTPHeaders", headers={"Accept-Language": lang})
        return page

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            part = os.read(self._from, 1 << 16)
            assert part, "the browser has ended"
            self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(line))

    def _note(self, event: dict[str, Any]) -> None:
        if event.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(event["params"]["exceptionDetails"]))
        if event.get("method") == "Log.entryAdded":
            entry = event["params"]["entry"]
            if entry["source"] != "network":  # refusals that a test is about
                self.complaints.append(entry["text"])


@contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """A browser while the block lasts; it reaches this machine only."""
    to_read, to_write = os.pipe()
    of_read, of_write = os.pipe()
    command = [
        sys.executable, "-c", _AS_3_AND_4, str(to_read), str(of_write),
        str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--no-first-run", "--remote-debugging-pipe", f"--user-data-dir={profile}",
        "--disable-background-networking",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ]  # fmt: skip
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, pass_fds=(to_read, of_write)
    ) as process:
        os.close(to_read)
        os.close(of_write)
        browser = Browser(process, to_write, of_read)
        try:
            yield browser
        finally:
            with suppress(AssertionError, OSError):
                browser.send("Browser.close", {})
            os.close(to_write)
            process.wait(_DEADLINE_S)
            os.close(of_read)


class Forwarder:
    """TCP to a Unix socket, as `systemd-socket-proxyd` does for a class."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.closed = False
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect(str(self._target))
            except OSError:
                return
            self._open += [near, far]
            if self.closed:
                self.cut()
                continue
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=_copy, args=(one, other), daemon=True).start()

    def cut(self) -> None:
        """End all connections at once, as Wi-Fi that is gone does in the end."""
        while self._open:
            end = self._open.pop()
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()


def _copy(one: socket.socket, other: socket.socket) -> None:
    with suppress(OSError):
        while part := one.recv(65536):
            other.sendall(part)
    with suppress(OSError):
        other.shutdown(socket.SHUT_WR)
