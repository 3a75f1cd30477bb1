"""Work in a process of its own: what native code takes, or breaks, is gone with it."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from edge.attended import how_ended
from edge.errors import LucieError

__all__ = ["DiedError", "Tell", "in_own_process"]

Tell = Callable[..., None]
"""Sends its arguments to whoever waits."""


class DiedError(Exception):
    """The process ended before its work did."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        """By which exit code, or which signal; or why it could not begin."""


def in_own_process(
    work: Callable[..., Any], *arguments: Any, told: Callable[..., object] | None = None
) -> Any:
    """Call `work(tell, *arguments)` in a new process, and return what it returns.

    Ctrl-C, or any other exception here, ends it.

    Args:
        work: a function of a module.
        arguments: as they can be sent to another process.
        told: called with what the work tells on the way.

    Raises:
        LucieError: which `work` raised.
        DiedError: the process was killed, ended itself, or could not begin.
    """
    receiver, sender = multiprocessing.Pipe(duplex=False)
    context = multiprocessing.get_context("spawn")
    worker = context.Process(target=_work, args=(sender, work, arguments), daemon=True)
    try:
        try:
            with _deaf_to_ctrl_c():
                worker.start()
        except OSError as error:  # most often for want of memory
            raise DiedError(error.strerror or str(error)) from error
        finally:
            sender.close()
        while True:
            message = receiver.recv()
            if isinstance(message, _Told):
                if told is not None:
                    told(*message.arguments)
            elif isinstance(message, _Failed):
                raise message.kind(message.code, **message.facts)
            else:
                worker.join()
                return message.result
    except (EOFError, OSError):  # the latter in the middle of a message
        worker.join()
        raise DiedError(how_ended(worker.exitcode or 0)) from None
    finally:
        if worker.pid is not None:
            worker.kill()
            worker.join()
        receiver.close()


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """For the new process, which inherits that: Ctrl-C reaches the whole group, we answer it.

    One that comes meanwhile comes afterwards.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@dataclass(frozen=True, slots=True)
class _Told:
    arguments: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class _Done:
    result: Any


@dataclass(frozen=True, slots=True)
class _Failed:
    """A `LucieError` on its way."""

    kind: type[LucieError]
    code: str
    facts: dict[str, Any]


def _work(sender: Connection, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        result = work(lambda *told: sender.send(_Told(told)), *arguments)
    except LucieError as error:
        sender.send(_Failed(type(error), error.code, error.facts))
    else:
        sender.send(_Done(result))
