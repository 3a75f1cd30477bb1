"""A client for any OpenAI-compatible server, over TCP or a Unix socket."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from edge.client import OURS, Message, ModelInfo, Reply
from edge.errors import EngineError, LucieError, ServerError, UsageError
from edge.messages import language
from edge.reply_reader import KEY_VARIABLE, ReplyReader, error_told, parse_object

if TYPE_CHECKING:
    import httpx

__all__ = [
    "KEY_VARIABLE",
    "Health",
    "HttpClient",
    "check_address",
    "on_this_machine",
    "open_http",
    "shown_address",
]

_CONNECT_S = 5.0
_ASK_S = 10.0
_SILENCE_S = 30.0
"""Our own server sends a sign of life every 10 s; others may read a prompt for minutes."""
_UNIX = "unix:"
_UNREACHABLE = "server.unreachable"
_MOST_NAMES = 500
"""Characters of the names of a server's models: some offer hundreds."""


@dataclass(frozen=True, slots=True)
class Health:
    """What `/health` of a server of ours says."""

    ready: bool
    progress: float
    """How much of the model is loaded, 0 to 1."""
    info: ModelInfo


class HttpClient:
    """Implements `edge.client.Client`.

    Only a server whose `/health` says that it is ours is asked for more than
    OpenAI's API has.

    Args:
        address: `http://HOST:PORT`, with or without `/v1`; `https://…`; or `unix:PATH`.
        explain: finds out why a connection broke, where the server is one of ours on
            this machine; what it returns is raised.
        model: which one to ask, as the server calls it; None: the first that it lists.

    Raises:
        UsageError: `address` is none of these.
    """

    def __init__(
        self,
        address: str,
        explain: Callable[[], Awaitable[LucieError]] | None = None,
        model: str | None = None,
    ) -> None:
        self.address = shown_address(address)
        self._explain = explain
        self._http = open_http(address)
        self._ours: bool | None = None
        self._runs: str | None = None
        self._wanted = model
        self._model: str | None = None

    async def health(self) -> Health | None:
        """The state of a server of ours; None where the server is another's.

        Raises:
            ServerError: nobody answers.
            LucieError: the server is ours and could not load its model.
        """
        async with self._breaking():
            response = await self._http.get("/health")
        try:
            body = parse_object(response.content, self.address)
        except ServerError:
            return None  # others answer "OK", or with a page
        if body.get("server") != OURS:
            return None
        if body.get("status") == "failed":
            raise error_told(response.status_code, body, self.address)
        return _health(body)

    async def info(self) -> ModelInfo:
        """What the server runs. Raises `ServerError`, `EngineError`."""
        health = await self.health()
        self._ours = health is not None
        if health is None:
            return await self._foreign_info()
        if not health.ready:
            raise EngineError("server.loading", percent=round(health.progress * 100))
        self._choose([health.info.name])
        self._runs = health.info.name
        return health.info

    async def alive(self) -> bool:
        """Whether a server of ours is there with the model that it had; of others it is assumed."""
        if not self._ours:
            return True
        try:
            health = await self.health()
        except LucieError:
            return False
        return health is not None and self._runs in (None, health.info.name)

    async def _foreign_info(self) -> ModelInfo:
        async with self._breaking():
            response = await self._http.get("/v1/models")
        if response.status_code != 200:
            raise await self._refusal(response)
        body = parse_object(response.content, self.address)
        listed = body.get("data")
        if not isinstance(listed, list) or not listed:
            raise ServerError("server.no-model", address=self.address)
        models = {
            m["id"]: m for m in listed if isinstance(m, dict) and isinstance(m.get("id"), str)
        }
        if not models:
            raise ServerError("server.not-understood", address=self.address)
        self._model = self._choose([*models])
        chosen = models[self._model]
        meta = chosen.get("meta")
        return ModelInfo(
            name=self._model,
            # vLLM tells the one, llama.cpp's server the other.
            n_ctx=_int(chosen.get("max_model_len")),
            n_params=_int(meta.get("n_params")) if isinstance(meta, dict) else None,
            memory_bytes=None,
        )

    def _choose(self, names: Sequence[str]) -> str:
        """The model that is meant, of those that the server has."""
        if self._wanted is None:
            return names[0]
        if self._wanted not in names:
            listed = shorten(", ".join(names), _MOST_NAMES, placeholder=" …")
            raise ServerError(
                "server.no-such-model", address=self.address, model=self._wanted, names=listed
            )
        return self._wanted

    async def chat(
        self, messages: Sequence[Message], options: dict[str, Any] | None = None
    ) -> AsyncGenerator[Reply, None]:
        """Stream one answer; leaving the iteration (aclose, cancel) stops it on the server.

        `options` are OpenAI's request fields (temperature, max_tokens, seed…).
        Raises `LucieError` as the server told it; `EngineError` if the server died meanwhile.
        """
        from httpx_sse import aconnect_sse

        if self._ours is None:
            await self.info()
        body = self._body(messages, options)
        reader = ReplyReader(self.address)
        async with (
            self._breaking(),
            aconnect_sse(
                self._http, "POST", "/v1/chat/completions", json=body, timeout=self._patience()
            ) as source,
        ):
            if source.response.status_code != 200:
                raise await self._refusal(source.response)
            async with aclosing(source.aiter_sse()) as events:
                async for event in events:
                    for reply in reader.read(event.event, event.data):
                        yield reply
        done = reader.done()
        if done is None:
            raise await self._lost("server.broken-off")
        yield done

    def _body(self, messages: Sequence[Message], options: dict[str, Any] | None) -> dict[str, Any]:
        body = {**(options or {}), "messages": list(messages), "stream": True}
        body["stream_options"] = {"include_usage": True}
        if self._ours:
            body["lucie"] = {"events": True}
            if "seed" in body:
                body["cache_prompt"] = False  # who gives a seed wants the same answer again
        elif self._model is not None:
            body.setdefault("model", self._model)
        return body

    def _patience(self) -> httpx.Timeout:
        import httpx

        read = _SILENCE_S if self._ours else None
        return httpx.Timeout(_ASK_S, connect=_CONNECT_S, read=read)

    async def _refusal(self, response: httpx.Response) -> LucieError:
        body = await response.aread()
        try:
            told = parse_object(body, self.address)
        except ServerError:
            told = {}
        return error_told(response.status_code, told, self.address)

    @asynccontextmanager
    async def _breaking(self) -> AsyncIterator[None]:
        """Turn httpx's exceptions into ours."""
        import httpx
        from httpx_sse import SSEError

        from edge.http_reason import reason_of

        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise await self._lost(_UNREACHABLE, reason=reason_of(error)) from error
        except httpx.ReadTimeout as error:
            waited = error.request.extensions["timeout"]["read"]
            raise await self._lost("server.silent", seconds=round(waited)) from error
        except (SSEError, httpx.DecodingError, httpx.TooManyRedirects) as error:
            raise ServerError("server.not-understood", address=self.address) from error
        except httpx.TransportError as error:
            raise await self._lost("server.broken-off") from error

    async def _lost(self, code: str, **facts: Any) -> LucieError:
        """Why the server no longer answers."""
        if self._explain is not None:
            return await self._explain()
        died = self._ours and code != _UNREACHABLE
        kind = EngineError if died else ServerError
        return kind(code, address=self.address, **facts)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._http.aclose()


def check_address(address: str) -> None:
    """See that `address` can be one of a server. Raises `UsageError`, as `open_http` does."""
    if not _socket(address):  # of which all paths can be, without the HTTP client's long import
        _place(address)


def on_this_machine(address: str) -> bool:
    """Whether what is sent there stays here: to a Unix socket it does."""
    return address.startswith(_UNIX)


def shown_address(address: str) -> str:
    """`address` without a password that may stand in it."""
    scheme, mark, rest = address.partition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2]}" if mark else address


def _place(address: str) -> tuple[httpx.URL, str | None]:
    """The URL to speak to, and the Unix socket behind it if there is one."""
    import httpx

    uds = _socket(address)
    root = "http://localhost" if uds else address.rstrip("/").removesuffix("/v1")
    try:
        url = httpx.URL(root)
    except httpx.InvalidURL as error:
        raise UsageError("server.bad-address", address=address) from error
    port_fits = url.port is None or 0 < url.port < 65536
    if url.scheme not in ("http", "https") or not url.host or not port_fits:
        raise UsageError("server.bad-address", address=address)
    return url, uds


def _socket(address: str) -> str | None:
    """The Unix socket that is meant, if it is one."""
    return address.removeprefix(_UNIX) or None if address.startswith(_UNIX) else None


def open_http(address: str) -> httpx.AsyncClient:
    """A plain HTTP client to `address`. Raises `UsageError` where that, or the key, is none."""
    import httpx

    from edge.http_bounds import BoundedTransport

    headers = {"Accept-Language": language(), "Accept-Encoding": "identity"}
    if key := os.environ.get(KEY_VARIABLE):
        if not (key.isascii() and key.isprintable()):
            raise UsageError("server.bad-key", name=KEY_VARIABLE)
        headers["Authorization"] = f"Bearer {key}"
    url, uds = _place(address)
    return httpx.AsyncClient(
        base_url=url,
        headers=headers,
        timeout=httpx.Timeout(_ASK_S, connect=_CONNECT_S),
        # A proxy of the environment is for the internet, not for this server.
        trust_env=False,
        # Certificates, whose reading takes 20 ms, are nothing to a plain connection.
        transport=BoundedTransport(verify=url.scheme == "https", trust_env=False, uds=uds),
    )


def _health(body: dict[str, Any]) -> Health:
    progress = body.get("progress")
    return Health(
        ready=body.get("status") == "ok",
        progress=float(progress) if isinstance(progress, int | float) else 0.0,
        info=ModelInfo(
            name=str(body.get("model", "")),
            n_ctx=_int(body.get("n_ctx")),
            n_params=_int(body.get("n_params")),
            memory_bytes=_int(body.get("memory_bytes")),
        ),
    )


def _int(value: object) -> int | None:
    return value if isinstance(value, int) else None
