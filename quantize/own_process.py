"""Work in a process of its own: what native code takes, or breaks, is gone with it."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any, Self

from edge.attended import how_ended
from edge.errors import LucieError

__all__ = ["DiedError", "OwnProcess", "Tell", "in_own_process"]

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
    with OwnProcess(work) as process:
        process.begin(*arguments)
        return process.result(told)


class OwnProcess:
    """`in_own_process` in steps: it starts, and imports what the work needs, while we go on.

    Args:
        work: a function of a module, called once.
        prepare: another, called in that process before the arguments are there.
    """

    def __init__(
        self, work: Callable[..., Any], prepare: Callable[[], object] | None = None
    ) -> None:
        self._ours, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self._worker = context.Process(target=_work, args=(theirs, work, prepare), daemon=True)
        self._not_started = ""
        try:
            with _deaf_to_ctrl_c():
                self._worker.start()
        except OSError as error:  # most often for want of memory
            self._not_started = error.strerror or str(error)
        finally:
            theirs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def begin(self, *arguments: Any) -> None:
        """Let the work begin, with arguments as they can be sent to another process.

        Of one that has ended already, `result` tells why.
        """
        with suppress(ConnectionError):
            self._ours.send(arguments)

    def result(self, told: Callable[..., object] | None = None) -> Any:
        """Wait for what the work returns.

        Args:
            told: called with what it tells on the way.

        Raises:
            LucieError: which it raised.
            DiedError: the process was killed, ended itself, or could not begin.
        """
        while True:
            message = self._next()
            if isinstance(message, _Told):
                if told is not None:
                    told(*message.arguments)
            elif isinstance(message, _Failed):
                raise message.kind(message.code, **message.facts)
            else:
                return message.result

    def end(self) -> None:
        """Kill it, also when all is done: it has nothing more to say."""
        if self._worker.pid is not None:
            self._worker.kill()
            self._worker.join()
        self._ours.close()

    def _next(self) -> _Told | _Failed | _Done:
        if self._not_started:
            raise DiedError(self._not_started)
        try:
            message: _Told | _Failed | _Done = self._ours.recv()
        except (EOFError, OSError):  # the latter in the middle of a message
            self._worker.join()
            raise DiedError(how_ended(self._worker.exitcode or 0)) from None
        return message


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """For the new process, which inherits that: Ctrl-C reaches the whole group, we answer it.

    One that comes meanwhile comes afterwards.
    """
    # With the first process another one starts, after which Ctrl-C is let through again.
    resource_tracker.ensure_running()
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


def _work(ours: Connection, work: Callable[..., Any], prepare: Callable[[], object] | None) -> None:
    try:
        if prepare is not None:
            prepare()
        try:
            arguments = ours.recv()
        except EOFError:  # nobody waits any more
            return
        result = work(lambda *told: ours.send(_Told(told)), *arguments)
    except LucieError as error:
        ours.send(_Failed(type(error), error.code, error.facts))
    else:
        ours.send(_Done(result))
