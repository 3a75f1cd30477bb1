"""Where answers come from: one engine process a model and user, or a server elsewhere.

The first chat or `lucie run` starts the process; others share it. Each holds a
*lease*, an open request that the system closes however its holder ends. When
the last is gone the process ends too, after a while in which the next
`lucie run` finds the model loaded.

Only Unix sockets are used here: nothing on the network can reach them.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edge import __version__
from edge.child import Child, last_words
from edge.client import Starting
from edge.errors import EngineError, LucieError, ServerError
from edge.http_client import HttpClient, open_http
from edge.kvstore import kv_store_bytes
from edge.paths import runtime_dir
from edge.server.listen import MAX_SOCKET_PATH
from edge.store import Store

if TYPE_CHECKING:
    import httpx

__all__ = ["LocalServer", "RemoteServer", "Report"]

Report = Callable[[Starting], None]
"""Is told what a server that is not ready does."""

_POLL_S = 0.05
_START_S = 60.0  # importing from a slow SD card takes its time
_DEATH_S = 1.0  # the connection breaks some moments before the system knows how it died
_ATTEMPTS = 3
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the server for one model and set of options is found."""

    address: str
    lock: Path
    log: Path
    arguments: tuple[str, ...]
    """Of `lucie`, to start it."""


class LocalServer:
    """Implements `edge.client.Connector` by a process on this machine, shared by its users.

    Args:
        model: a name in the store or a path; None: the default model.
        arguments: further options of `lucie serve`.
        linger_s: seconds that the process stays after its last user.
    """

    def __init__(
        self, model: str | None = None, *, arguments: Sequence[str] = (), linger_s: float = 30.0
    ) -> None:
        self._model = model
        self._arguments = tuple(arguments)
        self._linger_s = linger_s
        self._lease: _Lease | None = None
        self._child: Child | None = None

    async def connect(self, report: Report | None = None) -> HttpClient:
        """A client to a live, ready server; starts one if there is none.

        Args:
            report: called with `Starting` while it is not ready.

        Raises:
            LucieError: no server can be had; the text says why and what to do.
        """
        tell = report or _ignore
        place = self._place()
        for _ in range(_ATTEMPTS):
            if self._lease is None or not await self._lease.valid():
                await self.aclose()
                tell(Starting("starting", 0.0))
                self._lease = await self._enter(place)
            try:
                await _until_ready(place.address, tell)
            except ServerError:
                # Either it died, or it ended just as we came in, its last user having gone.
                if self._child is not None and await self._child.wait(_DEATH_S):
                    await self.aclose()
                    raise self._child.cause() from None
            except LucieError:
                await self.aclose()
                raise
            else:
                return HttpClient(place.address, lambda: self._explain(place))
        raise EngineError("local.unsteady", log=str(place.log))

    async def aclose(self) -> None:
        """Let go: the process ends by itself when its last user has gone."""
        if self._lease is not None:
            lease, self._lease = self._lease, None
            await lease.give_back()

    def _place(self) -> _Place:
        model = Store().find(self._model).weights
        kv_store_bytes()  # a wrong setting is told also where a server runs already
        options = ["--model", str(model), *self._arguments]
        # Another version of ours, or other options, need a process of their own.
        # The file too: another one may have come to stand under this name.
        file = model.stat()
        identity = [file.st_dev, file.st_ino, file.st_size, file.st_mtime_ns]
        key = json.dumps([__version__, self._linger_s, identity, *options])
        name = hashlib.sha256(key.encode()).hexdigest()[:16]
        folder = _private_folder()
        path = folder / f"{name}.sock"
        if len(os.fsencode(path)) > MAX_SOCKET_PATH:
            raise EngineError("local.path-too-long", path=str(path), most=MAX_SOCKET_PATH)
        life = ["--socket", str(path), "--exit-when-unused", str(self._linger_s)]
        return _Place(
            address=f"unix:{path}",
            lock=folder / f"{name}.lock",
            log=folder / f"{name}.log",
            arguments=("serve", *options, *life),
        )

    async def _enter(self, place: _Place) -> _Lease:
        """A lease on the running server, or on one that is started now."""
        async with _locked(place.lock):
            self._child = None  # whose server it is now, is to be seen
            if (lease := await _Lease.take(place.address)) is not None:
                return lease
            self._child = child = Child(place.arguments, place.log)
            for _ in range(round(_START_S / _POLL_S)):
                await asyncio.sleep(_POLL_S)
                if (lease := await _Lease.take(place.address)) is not None:
                    return lease
                if child.ended():
                    raise child.cause()
            child.kill()
            raise EngineError("local.slow-start", seconds=int(_START_S), log=str(place.log))

    async def _explain(self, place: _Place) -> LucieError:
        """Why a connection to the server broke."""
        if self._child is not None and await self._child.wait(_DEATH_S):
            return self._child.cause()
        return EngineError("local.gone", words=last_words(place.log))


class RemoteServer:
    """Implements `edge.client.Connector` by a server that somebody else runs.

    Args:
        url, model: as for `HttpClient`.
    """

    def __init__(self, url: str, model: str | None = None) -> None:
        self._url = url
        self._model = model

    async def connect(self, report: Report | None = None) -> HttpClient:
        """A client to the server, once it is ready.

        Raises:
            LucieError: it cannot be reached, or has no model to offer.
        """
        await _until_ready(self._url, report or _ignore)
        return HttpClient(self._url, model=self._model)

    async def aclose(self) -> None:
        """Nothing is held."""


class _Lease:
    """One user's place at a server: a response that stays open."""

    def __init__(self, address: str, http: httpx.AsyncClient, response: httpx.Response) -> None:
        self._address = address
        self._http = http
        self._response = response

    @classmethod
    async def take(cls, address: str) -> _Lease | None:
        """A lease; None where no server listens.

        Raises:
            EngineError: a server listens and does not answer.
        """
        import httpx

        http = open_http(address)
        try:
            response = await http.send(http.build_request("GET", "/lease"), stream=True)
        except httpx.ReadTimeout as error:
            await http.aclose()
            raise EngineError("local.hangs", pid=_owner(address)) from error
        except httpx.TransportError:
            await http.aclose()
            return None
        return cls(address, http, response)

    async def valid(self) -> bool:
        """Whether the server that gave it is still there."""
        import httpx

        try:
            await self._http.get("/health")
        except httpx.TransportError:
            return False
        return True

    async def give_back(self) -> None:
        """End it."""
        await self._response.aclose()
        await self._http.aclose()


async def _until_ready(address: str, tell: Report) -> None:
    """Wait until the server at `address` has loaded its model.

    Raises:
        ServerError: it does not answer, or offers nothing.
        LucieError: it could not load the model.
    """
    client = HttpClient(address)
    try:
        while (health := await client.health()) is not None and not health.ready:
            tell(Starting("loading", health.progress))
            await asyncio.sleep(_POLL_S)
        if health is None:
            await client.info()
    finally:
        await client.aclose()


@asynccontextmanager
async def _locked(path: Path) -> AsyncIterator[None]:
    """Hold the lock alone among all processes; waiting for it can be cancelled."""
    with path.open("ab") as opened:
        while True:
            try:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(_POLL_S)
        yield


def _owner(address: str) -> int:
    """The process that listens at a Unix socket; 0 where it has gone meanwhile."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(address.removeprefix("unix:"))
        except OSError:
            return 0
        found = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(found)[0])


def _private_folder() -> Path:
    """The folder for sockets, once it is known that nobody else can put one of theirs there."""
    try:
        folder = runtime_dir()
        status = folder.stat()
    except OSError as error:
        raise EngineError("local.no-folder", path=error.filename, reason=error.strerror) from error
    if status.st_uid != os.getuid():
        raise EngineError("local.folder-of-others", path=str(folder))
    if status.st_mode & 0o022:
        raise EngineError("local.folder-not-private", path=str(folder))
    return folder


def _ignore(_: Starting) -> None:
    """For who does not want to know."""
