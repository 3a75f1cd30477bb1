"""The command `lucie`: finds the sub-commands, imports the one that is called, shows errors.

Every stage of Lucie adds commands by the entry-point group `lucie.commands`. The
list of them costs no import, so `lucie --help` answers at once on a small board.
An error that a person can understand ends here as one line on stderr.
"""

from __future__ import annotations

import errno
import gettext
import importlib
import os
import sys
from collections.abc import Iterator, MutableMapping, Sequence

import click

from edge import __version__, interrupt, streams
from edge.entrypoints import EntryPoint, entry_points
from edge.errors import InterruptedByUserError, LucieError
from edge.messages import language, text

__all__ = ["group", "main"]

_GROUP = "lucie.commands"
_OF_A_NAME = dict.fromkeys((errno.EACCES, errno.EPERM), "cli.forbidden") | dict.fromkeys(
    (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EROFS), "cli.no-name"
)
"""What the system says of a place that somebody has named."""
_LOCALE = f"{os.path.dirname(__file__)}/locale"  # noqa: PTH120 - a string is what gettext takes


class _Commands(MutableMapping[str, click.Command]):
    """The sub-commands by name; looking one up imports it, listing them does not."""

    def __init__(self) -> None:
        self._known: dict[str, click.Command | EntryPoint] = {**entry_points(_GROUP)}

    def __getitem__(self, name: str) -> click.Command:
        command = self._known[name]
        if isinstance(command, EntryPoint):
            command = self._known[name] = _load(command)
        return command

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._known[name] = command

    def __delitem__(self, name: str) -> None:
        del self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


class _LazyGroup(click.Group):
    """The command `lucie`; its own help imports no sub-command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """`lucie` alone is `lucie chat`, so options that are not its own are that command's."""
        own = {option for param in self.get_params(ctx) for option in param.opts}
        at = next((n for n, arg in enumerate(args) if arg not in own and arg.strip("v") != "-"), -1)
        chat = self.commands.get("chat") if at >= 0 and args[at].startswith("--") else None
        if chat is not None:
            option = args[at].partition("=")[0]
            if any(option in (*param.opts, *param.secondary_opts) for param in chat.params):
                args = [*args[:at], "chat", *args[at:]]
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, _summary(name)) for name in self.list_commands(ctx)]
        if rows:
            with formatter.section(gettext.gettext("Commands")):
                formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:  # a command imports what is heavy when it runs
            entry = entry_points(_GROUP).get(ctx.invoked_subcommand or "")
            raise _explained(error, entry) from error


def _summary(name: str) -> str:
    try:
        return text(f"cli.{name}")
    except KeyError:  # a command of another distribution, whose texts are not ours
        return name


def _load(entry: EntryPoint) -> click.Command:
    try:
        command = getattr(importlib.import_module(entry.module), entry.attr, None)
    except ModuleNotFoundError as error:
        raise _explained(error, entry) from error
    if not isinstance(command, click.Command):
        raise LucieError("cli.not-a-command", name=entry.name, module=entry.module)
    return command


def _explained(error: ModuleNotFoundError, entry: EntryPoint | None) -> LucieError:
    if interrupt.heard():  # which left it half imported
        return InterruptedByUserError("models.interrupted")
    if entry is not None and entry.extra is not None:
        return LucieError("cli.needs-extra", name=entry.name, extra=entry.extra)
    return LucieError("cli.broken-install", module=error.name)


def _log_to_stderr(verbosity: int) -> None:
    import logging

    logging.basicConfig(
        level=logging.DEBUG if verbosity > 1 else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )


def group() -> click.Group:
    """The command `lucie`, its help in the user's language."""

    @click.group(
        cls=_LazyGroup,
        commands=_Commands(),
        help=text("cli.lucie"),
        epilog=text("cli.example"),
        invoke_without_command=True,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    @click.version_option(__version__, prog_name="lucie", help=text("cli.version-help"))
    @click.option("-v", "--verbose", count=True, help=text("cli.verbose-help"))
    @click.pass_context
    def lucie(ctx: click.Context, verbose: int) -> None:
        if verbose:
            _log_to_stderr(verbose)
        if ctx.invoked_subcommand is None:
            chat = lucie.commands["chat"]
            with chat.make_context("chat", [], parent=ctx) as inner:
                chat.invoke(inner)

    return lucie


def _speak(lang: str) -> None:
    """Click's own words ("Usage:", …) in the user's language.

    Click asks gettext's default domain for them and ships no catalogue; gettext
    looks at LANGUAGE before all else, and programs we start should agree with us.
    """
    os.environ["LANGUAGE"] = lang
    gettext.bindtextdomain("click", _LOCALE)
    gettext.textdomain("click")


def main(args: Sequence[str] | None = None) -> int:
    """Run `lucie`; returns the exit code: 0 done, 1 failed, 2 wrong use, 130 interrupted.

    Args:
        args: the command line without the program's name; that of the process where None.
    """
    streams.complete()
    _speak(language())
    try:
        result = group().main(args, prog_name="lucie", standalone_mode=False)
        sys.stdout.flush()
    except click.Abort:
        return InterruptedByUserError.exit_code
    except InterruptedByUserError as error:
        return error.exit_code  # the person has just pressed Ctrl-C and needs no words
    except LucieError as error:
        return _show(str(error), error.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return error.exit_code
    except click.UsageError as error:
        said = error.format_message()
        stop = "" if said.endswith((".", "!", "?")) else "."
        return _show(f"{said}{stop} {_hint(error)}".strip(), error.exit_code)
    except click.ClickException as error:
        return _show(error.format_message(), error.exit_code)
    except OSError as error:
        if error.filename is not None and error.errno in _OF_A_NAME:
            code, path = _OF_A_NAME[error.errno], os.fsdecode(error.filename)
            return _show(text(code, path=path, reason=error.strerror), LucieError.exit_code)
        if error.errno not in streams.UNWRITABLE:
            raise
        streams.silence()
        if error.errno == errno.EPIPE:
            return LucieError.exit_code  # the reader has what it wanted, as `head` does
        return _show(text("cli.not-written", reason=error.strerror), LucieError.exit_code)
    # `ctx.exit(code)` arrives here as the code; what a command returns is None.
    return result if isinstance(result, int) else 0


def _hint(error: click.UsageError) -> str:
    if error.ctx is None:
        return ""
    hint = gettext.gettext("Try '{command} {option}' for help.")
    return hint.format(command=error.ctx.command_path, option="--help")


def _show(message: str, code: int) -> int:
    streams.tell(f"lucie: {message}")
    return code
