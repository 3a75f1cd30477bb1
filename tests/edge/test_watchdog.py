"""What systemd hears of a server: a real one, over an engine whose steps take as long as asked."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.edge.servers import SCRIPTED, running, until

PERIOD_S = 0.4


class Manager:
    """The socket of a service manager."""

    def __init__(self, path: Path) -> None:
        self.env = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": str(int(PERIOD_S * 1e6))}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(10)

    def heard(self) -> str:
        return self._socket.recv(100).decode()

    def silent_s(self) -> float:
        """How long it takes until something more than is there already is heard."""
        self._socket.setblocking(False)
        try:
            while True:
                self._socket.recv(100)
        except BlockingIOError:
            self._socket.settimeout(10)
        began = time.monotonic()
        self.heard()
        return time.monotonic() - began

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    opened = Manager(tmp_path / "notify.sock")
    yield opened
    opened.close()


def server(tmp_path: Path, env: dict[str, str], *arguments: str, ready: bool = True):
    path = tmp_path / "s.sock"
    return running(
        path, str(SCRIPTED), str(path), *arguments, ready=ready, env={**os.environ, **env}
    )


def test_it_is_told_when_the_model_is_loaded_and_that_the_server_lives(
    tmp_path: Path, manager: Manager
) -> None:
    with server(tmp_path, manager.env):
        assert manager.heard() == "READY=1"
        assert [manager.heard() for _ in range(3)] == ["WATCHDOG=1"] * 3


def test_it_hears_nothing_while_the_engine_hangs(tmp_path: Path, manager: Manager) -> None:
    body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}
    with server(tmp_path, manager.env, "--step-ms", "4000") as running:
        asking = threading.Thread(
            target=running.post, args=("/v1/chat/completions", body), kwargs={"timeout": 60}
        )
        asking.start()
        until(lambda: running.health()["active"] == 1)
        time.sleep(2 * PERIOD_S)
        assert manager.silent_s() > 2 * PERIOD_S, "and would be restarted"
        asking.join()
        assert manager.heard() == "WATCHDOG=1", "it lives again"


@pytest.mark.parametrize("env", [{}, {"WATCHDOG_PID": "1"}])
def test_another_process_is_not_answered_for(
    tmp_path: Path, manager: Manager, env: dict[str, str]
) -> None:
    given = {**manager.env, **env} if env else {"NOTIFY_SOCKET": manager.env["NOTIFY_SOCKET"]}
    with server(tmp_path, given) as running:
        assert manager.heard() == "READY=1"
        manager._socket.settimeout(2 * PERIOD_S)
        with pytest.raises(TimeoutError):
            manager.heard()
        assert running.health()["status"] == "ok"


@pytest.mark.parametrize("place", ["", "/nowhere/notify.sock", "vsock:2:1234"])
def test_where_nobody_listens_it_serves_all_the_same(tmp_path: Path, place: str) -> None:
    with server(tmp_path, {"NOTIFY_SOCKET": place, "WATCHDOG_USEC": "100000"}) as running:
        assert running.health()["status"] == "ok"
