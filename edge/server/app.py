"""The routes of the server.

POST /v1/chat/completions    OpenAI's chat API, streamed or not
POST /v1/completions         plain continuation of a text or of token ids
GET  /v1/models[/NAME]       the one model that is loaded
GET  /health                 200, or 503 with the progress while the model loads
GET  /about                  what is known of the model, as lines for a person
GET  /[?lang=L]              a page to chat on, in the reader's language; there before the model
GET  /page/FILE              what the page is made of
GET  /lease                  held open by each user of a server that lives for its users
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from edge.about import Fact, known_of, server_facts
from edge.client import OURS, ModelInfo
from edge.errors import LucieError, UnknownModelError
from edge.messages import text, translate
from edge.server.body import ClientGoneError, parse, read_body
from edge.server.page.files import page, page_file
from edge.server.prepare import Job, chat_job, completion_job
from edge.server.refusal import (
    HostRefusedError,
    UnknownPathError,
    WrongMethodError,
    error_body,
    language_of,
)
from edge.server.reply import StreamedReply, WholeReply, error_response
from edge.server.schema import ChatRequest, CompletionRequest
from edge.server.service import Loaded, Service, resident_bytes

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["build_app"]


def build_app(service: Service, hosts: frozenset[str] | None) -> Starlette:
    """The ASGI application.

    Args:
        service: the model and its state.
        hosts: names by which the server may be addressed, in lower case and without a port;
            None where any will do.
    """
    routes = [
        Route("/v1/chat/completions", _Answers(service, _chat), methods=["POST"]),
        Route("/v1/completions", _Answers(service, _completion), methods=["POST"]),
        Route("/v1/models", _Models(service).all),
        Route("/v1/models/{name:path}", _Models(service).one),
        Route("/health", _health(service)),
        Route("/about", _about(service)),
        Route("/", page),
        Route("/page/{name}", page_file),
    ]
    if service.lease is not None:
        routes.append(Route("/lease", _Leases(service), methods=["GET"]))
    middleware = [] if hosts is None else [Middleware(_HostCheck, hosts=hosts)]
    return Starlette(
        routes=routes,
        middleware=middleware,
        exception_handlers={
            LucieError: _tell,
            HTTPException: _tell_http,
            Exception: _tell_fault,
        },
    )


def _chat(body: bytes, loaded: Loaded) -> Job:
    return chat_job(parse(ChatRequest, body), loaded)


def _completion(body: bytes, loaded: Loaded) -> Job:
    return completion_job(parse(CompletionRequest, body), loaded)


class _Answers:
    """A route that answers requests; `prepare` reads them."""

    def __init__(self, service: Service, prepare: Callable[[bytes, Loaded], Job]) -> None:
        self._service = service
        self._prepare = prepare

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        service = self._service
        try:
            body = await read_body(scope["headers"], receive)
        except ClientGoneError:
            return
        # Whoever is slow to ask takes nobody's place.
        with service.answer():
            loaded = service.model()
            job = await service.prepare(self._prepare, body, loaded)
            reply = StreamedReply if job.stream else WholeReply
            await reply(service, loaded, job, _language(scope))(scope, receive, send)


class _Models:
    """What is loaded, in OpenAI's words."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def all(self, _request: Request) -> Response:
        """`GET /v1/models`."""
        return JSONResponse({"object": "list", "data": [_model(self._service.model())]})

    async def one(self, request: Request) -> Response:
        """`GET /v1/models/NAME`."""
        loaded = self._service.model()
        name = request.path_params["name"]
        if name not in (loaded.name, "default"):
            raise UnknownModelError(
                "server.model-not-found", param="model", model=name[:100], loaded=loaded.name
            )
        return JSONResponse(_model(loaded))


def _model(loaded: Loaded) -> dict[str, Any]:
    spec = loaded.engine.spec
    return {
        "id": loaded.name,
        "object": "model",
        "created": loaded.created,
        "owned_by": OURS,
        # As llama.cpp's server tells it.
        "meta": {
            "n_vocab": spec.n_vocab,
            "n_ctx": spec.n_ctx,
            "n_ctx_train": spec.n_ctx_train,
            "n_params": spec.n_params,
        },
    }


def _health(service: Service) -> Callable[[Request], Any]:
    async def health(request: Request) -> Response:
        if (failure := service.failure) is not None:
            told = error_body(failure, _language(request.scope))
            return JSONResponse({"status": "failed", "server": OURS, **told}, failure.status)
        return JSONResponse(service.health(), 503 if service.loaded is None else 200)

    return health


def _about(service: Service) -> Callable[[Request], Any]:
    async def about(request: Request) -> Response:
        loaded, lang = service.model(), _language(request.scope)
        spec = loaded.engine.spec
        info = ModelInfo(loaded.name, spec.n_ctx, spec.n_params, resident_bytes())
        told = server_facts(info, lang) + await _known(service, loaded, lang)
        facts = [{"label": label, "value": value} for label, value in told]
        return JSONResponse({"facts": facts}, headers={"cache-control": "no-store"})

    return about


async def _known(service: Service, loaded: Loaded, lang: str) -> list[Fact]:
    """What this device knows of the model, or that it knows nothing."""
    nothing = [("", text("about.nothing", lang=lang))]
    if loaded.model is None:
        return nothing
    try:
        return await service.prepare(known_of, loaded.model, lang) or nothing
    except LucieError as error:  # it has been removed meanwhile, and runs on
        return [("", translate(error.code, error.facts, lang=lang))]


class _Leases:
    """Counts a user from the beginning of its request until it goes."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        lease = self._service.lease
        assert lease is not None  # noqa: S101 - the route is there only where the lease is
        with lease.held():
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"", "more_body": True})
            await lease.until_gone(receive)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class _HostCheck:
    """Refuses requests that address another machine.

    A web page whose name is made to point to 127.0.0.1 (DNS rebinding) could else read
    what a server on this machine says; its browser tells the page's name as Host.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str]) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (host := _host(scope)) not in self._hosts:
            error = HostRefusedError("server.host-refused", host=host[:100])
            await error_response(send, error, _language(scope))
            return
        await self._app(scope, receive, send)


def _host(scope: Scope) -> str:
    """The Host header without its port."""
    value = dict(scope["headers"]).get(b"host", b"").decode("latin-1").strip().lower()
    if value.startswith("["):
        return str(value.partition("]")[0] + "]")
    return str(value.partition(":")[0])


def _language(scope: Scope) -> str:
    accept = dict(scope["headers"]).get(b"accept-language", b"")
    return language_of(accept.decode("latin-1"))


def _response(error: LucieError, lang: str) -> Response:
    headers = {"retry-after": "1"} if error.status in (429, 503) else None
    return JSONResponse(error_body(error, lang), error.status, headers)


async def _tell(request: Request, error: Exception) -> Response:
    assert isinstance(error, LucieError)  # noqa: S101 - by its registration
    return _response(error, _language(request.scope))


async def _tell_http(request: Request, error: Exception) -> Response:
    """Starlette's own: no such path, or not by this method."""
    assert isinstance(error, HTTPException)  # noqa: S101 - by its registration
    facts = {"method": request.method, "path": request.url.path[:200]}
    if error.status_code != 405:
        return await _tell(request, UnknownPathError("server.wrong-path", **facts))
    allowed = (error.headers or {}).get("Allow", "")
    told = await _tell(request, WrongMethodError("server.wrong-method", allowed=allowed, **facts))
    told.headers["Allow"] = allowed
    return told


async def _tell_fault(request: Request, _error: Exception) -> Response:
    """A mistake of ours: the client learns no more than that; the log has the rest."""
    return await _tell(request, LucieError("server.fault"))
