"""`lucie chat`."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge import streams
from edge.commands.paths import AnyPath
from edge.errors import LucieError, UsageError
from tui.words import say

if TYPE_CHECKING:
    from edge.client import Connector, ModelInfo
    from tui.notices import Notices

__all__ = ["chat"]

_AGAIN_S = 5.0
_TRIES = 12


@click.command(help=say("command.help"), epilog=say("command.example"))
@click.option("-m", "--model", metavar=say("command.model-value"), help=say("command.model"))
@click.option("--server", metavar="URL", help=say("command.server"))
@click.option("--new/--continue", "new", default=True, help=say("command.new"))
@click.option("--system", metavar=say("command.text-value"), help=say("command.system"))
@click.option("--notice", type=AnyPath(), metavar=say("command.notice-value"),
              help=say("command.notice"))  # fmt: skip
@click.option("--offers", type=AnyPath(), nargs=2, metavar=say("command.offers-value"),
              help=say("command.offers"))  # fmt: skip
@click.option("--class", "class_", type=AnyPath(), metavar=say("command.file-value"),
              help=say("command.class"))  # fmt: skip
@click.pass_context
def chat(
    ctx: click.Context,
    model: str | None,
    server: str | None,
    new: bool,
    system: str | None,
    notice: Path | None,
    offers: tuple[Path, Path] | None,
    class_: Path | None,
) -> None:
    """Open the chat; the exit code is 0, 1 where messages were lost, 128 + n after signal n."""
    _require_terminal()
    if server is None:
        from edge.store import Store

        Store().find(model)  # before the screen opens: its error says what to type
    else:
        from edge.http_client import check_address

        check_address(server)

    gc.disable()  # what is imported is no garbage: looking for some takes a fifteenth of the start
    from edge.http_client import on_this_machine, shown_address
    from edge.paths import data_dir
    from tui.app import ChatApp
    from tui.archive import Archive
    from tui.board import Board
    from tui.chat_screen import ChatScreen
    from tui.network import network_in
    from tui.offers import Offers
    from tui.signals import leaving_on_signals
    from tui.source import Source

    gc.freeze()
    gc.enable()

    screen = ChatScreen(
        Source(partial(_connector, model, server)),
        Archive(data_dir() / "history.sqlite3"),
        partial(_known, model, server),
        system=system,
        resume=not new,
        again_s=None if server is None else _AGAIN_S,
        # A board may start its chat before its server; an address may be wrong.
        tries=_TRIES if server is not None and server.startswith("unix:") else 1,
        url=None if server is None or on_this_machine(server) else shown_address(server),
        board=Board(
            notices=None if notice is None else _noticed(notice),
            offers=None if offers is None else Offers(*offers),
            network=network_in(class_),
        ),
    )
    app = ChatApp(screen)
    with leaving_on_signals(app.leave_soon):
        app.run()
    code = app.return_code or 0
    if screen.lost is not None:
        streams.tell(say("chat.lost", why=screen.lost))
        code = code or LucieError.exit_code
    ctx.exit(code)


def _require_terminal() -> None:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("chat.no-terminal")
    if os.environ.get("TERM") == "dumb":
        raise UsageError("chat.dumb-terminal")


def _noticed(path: Path) -> Notices:
    """What there is to tell, as it is before the screen opens: its error says what to type."""
    from tui.notices import Notices

    notices = Notices(path)
    notices.look()
    return notices


def _known(model: str | None, server: str | None, info: ModelInfo) -> Sequence[tuple[str, str]]:
    """What this machine knows of the model that answers; nothing, where another one runs it."""
    from edge.about import known_of
    from edge.http_client import on_this_machine
    from edge.messages import language
    from edge.store import Store

    if server is None:
        return known_of(Store().find(model), language())
    if on_this_machine(server) and Store().holds(info.name):
        return known_of(Store().find(info.name), language())
    return ()


def _connector(model: str | None, server: str | None) -> Connector:
    from edge.local import LocalServer, RemoteServer

    return LocalServer(model) if server is None else RemoteServer(server, model)
