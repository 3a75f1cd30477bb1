"""What the routes share: the model once it is loaded, and who uses the server."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from edge import __version__
from edge.chat import Chat
from edge.client import OURS
from edge.engine import Engine, Sampling
from edge.errors import EngineError, LucieError
from edge.request import Request
from edge.scheduler import Scheduler
from edge.server.lease import Lease
from edge.server.mailbox import EventStream, Mailbox
from edge.server.refusal import BusyError, LoadingError
from edge.store import Model

__all__ = ["MAX_ANSWERS", "Loaded", "Service", "resident_bytes"]

MAX_ANSWERS = 64
"""Answers in progress or waiting; a class of 30 asks twice at most."""
MAX_CONNECTIONS = 256

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that is ready to answer."""

    name: str
    engine: Engine
    scheduler: Scheduler
    chat: Chat
    created: int
    """When it was loaded, Unix time in seconds."""
    sampling: Sampling = field(default_factory=Sampling)
    """What holds where a request says nothing."""
    model: Model | None = None
    """Where it is on this device, to tell what is known of it."""


class Service:
    """State of one server; used on its event loop only.

    Attributes:
        progress: how much of the model is loaded, 0 to 1.
        loaded: the model, once it is ready.
        failure: why it could not be loaded.
        answering: answers in progress or waiting.
        lease: counts the users, where the server lives for them only.
        connections: how many there are; with too many, nothing is answered but questions
            about the server itself.
    """

    def __init__(self) -> None:
        self.progress = 0.0
        self.loaded: Loaded | None = None
        self.failure: LucieError | None = None
        self.answering = 0
        self.lease: Lease | None = None
        self.connections: Callable[[], int] = lambda: 0
        self._streams: set[EventStream] = set()
        self._mailbox = Mailbox(asyncio.get_running_loop())
        # Templates and tokenizing go beside the event loop, one at a time: a costly request
        # delays the next request, not the answers that are being streamed.
        self._preparing = ThreadPoolExecutor(1, thread_name_prefix="prepare")

    def model(self) -> Loaded:
        """The loaded model. Raises `LoadingError`, or what kept it from loading."""
        if self.failure is not None:
            raise self.failure
        if self.loaded is None:
            raise LoadingError("server.loading", percent=round(self.progress * 100))
        return self.loaded

    @contextmanager
    def answer(self) -> Iterator[None]:
        """Room for one answer, from its request to its end. Raises `BusyError`."""
        if self.answering >= MAX_ANSWERS or self.connections() > MAX_CONNECTIONS:
            raise BusyError("server.busy", most=MAX_ANSWERS)
        self.answering += 1
        try:
            yield
        finally:
            self.answering -= 1

    async def prepare(self, work: Callable[..., _Result], *args: Any) -> _Result:
        """Run a request's preparation off the event loop."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._preparing, work, *args)

    @contextmanager
    def compute(self, loaded: Loaded, request: Request) -> Iterator[EventStream]:
        """The events of one request, which is given up when the block is left early."""
        stream = EventStream(loaded.scheduler, self._mailbox)
        self._streams.add(stream)
        try:
            stream.start(request)
            yield stream
        finally:
            self._streams.discard(stream)
            stream.close()

    def stop_answers(self) -> None:
        """End every answer in progress with an error that says that the server stops."""
        for stream in self._streams:
            stream.fail(EngineError("server.stopping"))

    def health(self) -> dict[str, Any]:
        """Body of `/health`; complete once the model is there."""
        body: dict[str, Any] = {"server": OURS, "version": __version__}
        if self.loaded is None:
            return {"status": "loading", "progress": round(self.progress, 3), **body}
        spec, load = self.loaded.engine.spec, self.loaded.scheduler.load()
        return {
            "status": "ok",
            **body,
            "model": self.loaded.name,
            "engine": spec.engine,
            "n_ctx": spec.n_ctx,
            "n_params": spec.n_params,
            "memory_bytes": resident_bytes(),
            "active": load.active,
            "waiting": load.waiting,
            "idle": load.idle,
            "free_cells": load.free_cells,
        }


def resident_bytes() -> int:
    """Memory of this process that is in RAM."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
