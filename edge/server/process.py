"""The life of a server process: answer while the model loads, serve, stop in good order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import uvicorn

from edge.errors import LucieError
from edge.server.app import build_app
from edge.server.lease import Lease
from edge.server.listen import Listener
from edge.server.protocol import PatientProtocol
from edge.server.service import Loaded, Service
from edge.server.watchdog import notify, watched

if TYPE_CHECKING:
    from starlette.applications import Starlette

__all__ = ["Life", "Load", "Watcher", "serve"]

Load = Callable[[Callable[[float], None]], Loaded]
"""Loads a model in the thread that calls it, telling the fraction that is done."""

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_GRACE_S = 3
"""Seconds that connections get to end when the server stops."""
_KEEP_ALIVE_S = 30


@dataclass(frozen=True, slots=True)
class Life:
    """How long a server lives that is there for its users only."""

    unused_s: float
    """Seconds without a user after which it ends."""
    first_s: float = 30.0
    """Seconds in which the first one must come."""


class Watcher(Protocol):
    """Is told how the server is getting on, on its event loop."""

    def loading(self, fraction: float) -> None:
        """So much of the model is loaded."""

    def ready(self, address: str, model: str) -> None:
        """Requests are answered from now on."""


def serve(listener: Listener, load: Load, watcher: Watcher, life: Life | None = None) -> None:
    """Load a model and serve it until a signal comes, or until nobody uses it.

    Args:
        listener: where to listen.
        load: loads the model.
        watcher: is told of the progress.
        life: given for a server that is there for its users only. Where loading fails,
            that one stays until they have asked what happened.

    Raises:
        LucieError: the model could not be loaded.
    """
    loading = asyncio.run(_Process(listener, load, watcher, life).run())
    if not loading.done():
        # Native code is at work in the loading thread, and would crash in what is left of us.
        sys.stderr.flush()
        os._exit(0)
    loading.result().scheduler.end.result()


class _Process:
    """Ties model, routes, socket and users together."""

    def __init__(self, listener: Listener, load: Load, watcher: Watcher, life: Life | None) -> None:
        self._listener = listener
        self._load = load
        self._watcher = watcher
        self._life = life

    async def run(self) -> Future[Loaded]:
        """Serve until something asks to stop; returns the load, which may be still under way."""
        self._loop = asyncio.get_running_loop()
        for number in _STOP_SIGNALS:
            # What nohup or a shell's & has turned off stays off.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._loop.add_signal_handler(number, self._stop)
        self._service = service = Service()
        if self._life is not None:
            service.lease = Lease(self._stop, self._life.unused_s, self._life.first_s)
        app = build_app(service, self._listener.hosts)
        self._server = server = _Server(_uvicorn_config(app), self._close)
        service.connections = lambda: len(server.server_state.connections)
        # An executor of its own, as a loop that ends waits for its default one.
        loading = ThreadPoolExecutor(1, thread_name_prefix="load").submit(self._load, self._heard)
        loading.add_done_callback(self._finished)
        await self._server.serve([self._listener.socket])
        if service.loaded is not None:
            await asyncio.to_thread(service.loaded.scheduler.close)
        return loading

    def _stop(self) -> None:
        self._server.stop()

    def _heard(self, fraction: float) -> None:
        """From the loading thread: how far it is."""
        self._call(self._progress, fraction)

    def _finished(self, loading: Future[Loaded]) -> None:
        """From the loading thread: it is done."""
        self._call(self._settle, loading)

    def _call(self, step: Callable[..., None], value: float | Future[Loaded]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody wants to know
            self._loop.call_soon_threadsafe(step, value)

    def _progress(self, fraction: float) -> None:
        self._service.progress = fraction
        self._watcher.loading(fraction)

    def _settle(self, loading: Future[Loaded]) -> None:
        error = loading.exception()
        lease = self._service.lease
        if error is None:
            self._service.loaded = loaded = loading.result()
            loaded.scheduler.end.add_done_callback(self._ended)
            self._watcher.ready(self._listener.address, loaded.name)
            notify("READY=1")
            self._watched = self._loop.create_task(watched(loaded.scheduler.step_s))
        elif isinstance(error, LucieError) and lease is not None:
            # Those who are here hear why; who comes later starts a new server.
            self._service.failure = error
            self._listener.remove()
            lease.forsake()
        else:
            self._stop()

    def _ended(self, _end: Future[None]) -> None:
        """From the engine's thread, when it ends: also when it dies."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._stop)

    def _close(self) -> None:
        """The server is about to stop: no new users, and those who are here are told."""
        self._listener.remove()
        if self._service.lease is not None:
            self._service.lease.close()
        self._service.stop_answers()


class _Server(uvicorn.Server):
    """uvicorn that is told when to stop.

    Its own handling of signals would end the process by the signal itself, and its main
    loop wakes up ten times a second to look whether one has come.
    """

    def __init__(self, config: uvicorn.Config, before_close: Callable[[], None]) -> None:
        super().__init__(config)
        self._before_close = before_close
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End `serve`."""
        self.should_exit = True
        self._stopping.set()

    async def main_loop(self) -> None:
        """Wait for the end."""
        await self._stopping.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to `_Process`."""
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, and wait a little for connections to end."""
        self._before_close()
        await super().shutdown(sockets)


def _uvicorn_config(app: Starlette) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=PatientProtocol,
        ws="none",
        loop="asyncio",
        lifespan="off",
        workers=1,
        log_config=None,
        log_level="error",  # what clients do wrong is theirs to read
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_GRACE_S,
    )
