"""`lucie serve`: a model for people, by a page, and for programs, by OpenAI's API."""

from __future__ import annotations

import logging
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click
from click.core import ParameterSource

from edge.commands.numbers import Real, Whole
from edge.commands.paths import AnyPath
from edge.errors import UsageError
from edge.messages import text

if TYPE_CHECKING:
    from edge.server.listen import Listener
    from edge.server.process import Life

__all__ = ["bound_log", "serve"]

_MAX_LOG = 256 * 1024


def _help(name: str) -> str:
    return text(f"serve.{name}")


@click.command(
    help=_help("help"),
    epilog=_help("example"),
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option("-m", "--model", metavar="M", help=_help("model"))
@click.option("--host", metavar="H", default="127.0.0.1", show_default=True, help=_help("host"))
@click.option(
    "--port",
    type=Whole(0, 65535),
    metavar="P",
    default=8080,
    show_default=True,
    help=_help("port"),
)
@click.option("--socket", type=AnyPath(), metavar="PATH", help=_help("socket"))
@click.option("--parallel", type=Whole(1, 64), metavar="N", help=_help("parallel"))
@click.option("--ctx-size", type=Whole(256), metavar="N", help=_help("ctx-size"))
@click.option("--batch-size", type=Whole(1, 8192), metavar="N", help=_help("batch-size"))
@click.option("--threads", type=Whole(1), metavar="N", help=_help("threads"))
@click.option("--threads-batch", type=Whole(1), metavar="N", help=_help("threads-batch"))
@click.option("--kv-type", type=click.Choice(["f16", "q8_0"]), help=_help("kv-type"))
@click.option("--repack/--no-repack", default=None, help=_help("repack"))
@click.option("--exit-when-unused", type=Real(0), hidden=True)
@click.pass_context
def serve(
    context: click.Context,
    model: str | None,
    host: str,
    port: int,
    socket: Path | None,
    parallel: int | None,
    ctx_size: int | None,
    batch_size: int | None,
    threads: int | None,
    threads_batch: int | None,
    kv_type: str | None,
    repack: bool | None,
    exit_when_unused: float | None,
) -> None:
    """Serve a model."""
    from edge.plan import Chosen
    from edge.server.process import Life
    from edge.server.process import serve as serve_until_stopped
    from edge.server.start import load_model
    from edge.store import Store

    found = Store().find(model)
    chosen = Chosen(
        n_ctx=ctx_size,
        n_seq=parallel,
        n_batch=batch_size,
        threads=threads,
        threads_batch=threads_batch,
        kv_type=kv_type,
        repack=repack,
    )
    life = None
    if exit_when_unused is not None:
        life = Life(exit_when_unused)
        bound_log()
    _spare_terminal()
    listener = _listen(context, host, port, socket)
    serve_until_stopped(
        listener, lambda tell: load_model(found, chosen, tell), _Screen(found.name, life), life
    )


def _listen(context: click.Context, host: str, port: int, socket: Path | None) -> Listener:
    from edge.server.listen import listen_tcp, listen_unix

    if socket is None:
        listener = listen_tcp(host, port)
        if listener.hosts is None:
            click.echo(text("serve.open-to-all", address=listener.address), err=True)
        click.echo(text("serve.page", address=listener.page), err=True)
        return listener
    given = (context.get_parameter_source(name) for name in ("host", "port"))
    if ParameterSource.COMMANDLINE in given:
        raise UsageError("serve.socket-or-port")
    return listen_unix(socket)


class _Screen:
    """Tells on stderr how the server is getting on; on a terminal, in one line."""

    def __init__(self, model: str, life: Life | None) -> None:
        self._model = model
        self._private = life is not None  # its last words explain how it ended
        self._on = sys.stderr.isatty()

    def loading(self, fraction: float) -> None:
        """So much of the model is loaded."""
        if self._on:
            line = text("serve.loading", model=self._model, percent=round(fraction * 100))
            click.echo(f"\r{line}\x1b[K", err=True, nl=False)

    def ready(self, address: str, model: str) -> None:
        """Requests are answered from now on."""
        if self._private:
            return
        start = "\r\x1b[K" if self._on else ""
        click.echo(start + text("serve.ready", model=model, address=address), err=True)


class _BoundedLog(logging.StreamHandler[TextIO]):
    """Writes to stderr, which is a file here, and begins it anew where it has grown too large."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        if os.fstat(2).st_size > _MAX_LOG:
            os.ftruncate(2, 0)
        super().emit(record)


def bound_log() -> None:
    """A process without a terminal logs what matters, and never fills the disk."""
    if stat.S_ISREG(os.fstat(2).st_mode):
        handler = _BoundedLog(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        logging.getLogger().addHandler(handler)


def _spare_terminal() -> None:
    """A terminal is told of faults alone; the log, in English, is for who asks for it (-v)."""
    if sys.stderr.isatty() and logging.lastResort is not None:
        logging.lastResort.setLevel(logging.ERROR)
