"""`lucie run`: one prompt, one answer; for scripts and pipes."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from edge.client import (
    MOST_TEXT,
    Connector,
    Delta,
    Done,
    Message,
    ModelInfo,
    Notice,
    Progress,
    Queued,
    Starting,
)
from edge.commands.numbers import Real, Whole
from edge.errors import LucieError, UsageError
from edge.messages import text

__all__ = ["run"]


def _help(name: str) -> str:
    return text(f"run.{name}")


@click.command(
    help=_help("help"),
    epilog=_help("example"),
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.argument("prompt", required=False)
@click.option("-m", "--model", metavar="M", help=_help("model"))
@click.option("--server", metavar="URL", help=_help("server"))
@click.option("--system", metavar="TEXT", help=_help("system"))
@click.option("--max-tokens", type=Whole(1, 2**31 - 1), metavar="N", help=_help("max-tokens"))
@click.option("--temperature", type=Real(0, 5), metavar="T", help=_help("temperature"))
@click.option("--top-p", type=Real(0, 1, min_open=True), metavar="P", help=_help("top-p"))
@click.option("--top-k", type=Whole(0, 1_000_000), metavar="K", help=_help("top-k"))
@click.option("--min-p", type=Real(0, 1), metavar="P", help=_help("min-p"))
@click.option("--repeat-penalty", type=Real(0.01, 10), metavar="R", help=_help("repeat-penalty"))
@click.option("--seed", type=Whole(0, 2**32 - 2), metavar="S", help=_help("seed"))
@click.option("--stop", multiple=True, metavar="TEXT", help=_help("stop"))
@click.option(
    "--schema",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help=_help("schema"),
)
@click.option("--json", "as_json", is_flag=True, help=_help("json"))
def run(
    prompt: str | None,
    model: str | None,
    server: str | None,
    system: str | None,
    schema: Path | None,
    stop: tuple[str, ...],
    as_json: bool,
    **numbers: float | None,
) -> None:
    """Answer one prompt."""
    messages: list[Message] = [{"role": "user", "content": _prompt(prompt)}]
    if system:
        messages.insert(0, {"role": "system", "content": _text("--system", system)})
    # What was not given is left to the server, whose defaults are the only ones.
    options: dict[str, Any] = {name: value for name, value in numbers.items() if value is not None}
    if stop:
        options["stop"] = [_text("--stop", one) for one in stop]
    if schema is not None:
        options["response_format"] = _format(schema)
    try:
        reason = asyncio.run(_answer(_connector(model, server), messages, options, as_json))
    except UsageError as error:
        raise _in_our_words(error, schema) from error
    if schema is not None and reason == "length" and not as_json:
        raise LucieError("run.schema-cut")


def _in_our_words(error: UsageError, schema: Path | None) -> UsageError:
    """An error of the server, naming the option that was given and not the request's field."""
    field = str(error.facts.get("param", "")).partition("[")[0].partition(".")[0]
    if not field:
        return error
    named = {"messages": "PROMPT", "response_format": f"--schema {schema}"}
    option = named.get(field, "--" + field.replace("_", "-"))
    return type(error)(error.code, **{**error.facts, "param": option})


def _prompt(given: str | None) -> str:
    """The prompt, from the argument or from stdin."""
    if given is None and sys.stdin.isatty():
        raise UsageError("run.no-prompt")
    if given in (None, "-"):
        data = sys.stdin.buffer.read(MOST_TEXT + 1)
        if len(data) > MOST_TEXT:
            raise UsageError("run.too-long", most=MOST_TEXT)
        try:
            # One line end at the end is the pipe's, not the question's.
            given = data.decode("utf-8").removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError as error:
            raise UsageError("run.not-utf8", byte=error.start) from error
    if not given or not given.strip():
        raise UsageError("run.no-prompt")
    return _text("PROMPT", given)


def _text(what: str, given: str) -> str:
    """`given`, if the bytes on the command line were text."""
    try:
        given.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UsageError("run.not-text", what=what) from error
    return given


def _format(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:  # or what `<(command)` gives
            given = file.read(MOST_TEXT + 1)
        if len(given) > MOST_TEXT:
            raise UsageError("run.schema-too-long", path=str(path), most=MOST_TEXT)
        schema = json.loads(given.decode("utf-8"))
        # What a request cannot hold: numbers out of range, halves of surrogate pairs.
        json.dumps(schema, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except RecursionError as error:
        raise UsageError("run.schema-too-deep", path=str(path)) from error
    except ValueError as error:
        raise UsageError("run.schema-not-json", path=str(path)) from error
    except OSError as error:
        raise UsageError(
            "run.schema-unreadable", path=str(path), reason=error.strerror or ""
        ) from error
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


def _connector(model: str | None, server: str | None) -> Connector:
    from edge.local import LocalServer, RemoteServer

    return LocalServer(model) if server is None else RemoteServer(server, model)


async def _answer(
    connector: Connector, messages: list[Message], options: dict[str, Any], as_json: bool
) -> str | None:
    """Ask and show; returns why the answer ended."""
    reason = None
    show = _Status()
    out = _Result() if as_json else _Stdout()
    try:
        client = await connector.connect(show.starting)
        try:
            info = await client.info()
            async with aclosing(client.chat(messages, options)) as replies:
                async for reply in replies:
                    if isinstance(reply, Delta):
                        show.clear()
                        out.add(reply.text)
                    elif isinstance(reply, Queued):
                        show.waiting(reply)
                    elif isinstance(reply, Progress):
                        show.reading(reply)
                    elif isinstance(reply, Notice):
                        show.clear()
                        click.echo(text(reply.code, **reply.facts), err=True)
                    else:
                        show.clear()
                        out.end(reply, info)
                        reason = reply.reason
        finally:
            await client.aclose()
    finally:
        show.clear()
        await connector.aclose()
    return reason


class _Stdout:
    """The answer as text, as it comes."""

    def __init__(self) -> None:
        self._clean = sys.stdout.isatty()
        self._last = ""

    def add(self, piece: str) -> None:
        """More text."""
        # A model must not be able to drive the terminal; in a pipe, bytes are the reader's own.
        shown = "".join(filter(_harmless, piece)) if self._clean else piece
        sys.stdout.write(shown)
        sys.stdout.flush()
        self._last = shown[-1:] or self._last

    def end(self, _done: Done, _info: ModelInfo) -> None:
        """The end: a line ends with its newline."""
        if self._last != "\n":
            self.add("\n")


def _harmless(char: str) -> bool:
    """Whether it is text; French sets its no-break spaces, which Python does not call printable."""
    return char.isprintable() or char in "\n\t\u00a0\u202f"


@dataclass
class _Result:
    """The answer as one JSON object."""

    pieces: list[str] = field(default_factory=list)

    def add(self, piece: str) -> None:
        """More text."""
        self.pieces.append(piece)

    def end(self, done: Done, info: ModelInfo) -> None:
        """Write the object; what a server of others does not tell is null."""
        evaluated = None
        if done.prompt_tokens is not None and done.cached_tokens is not None:
            evaluated = done.prompt_tokens - done.cached_tokens
        result = {
            "text": "".join(self.pieces),
            "model": info.name,
            "finish_reason": done.reason,
            "seed": done.seed,
            "prompt_tokens": done.prompt_tokens,
            "completion_tokens": done.completion_tokens,
            "timings": {
                "cache_n": done.cached_tokens,
                "prompt_n": evaluated,
                "prompt_ms": done.prompt_ms,
                "prompt_per_second": _rate(evaluated, done.prompt_ms),
                "predicted_n": done.completion_tokens,
                "predicted_ms": done.predicted_ms,
                "predicted_per_second": _rate(done.completion_tokens, done.predicted_ms),
            },
        }
        click.echo(json.dumps(result, ensure_ascii=False))


def _rate(n: int | None, ms: float | None) -> float | None:
    return round(n / ms * 1000, 3) if n is not None and ms else None


class _Status:
    """What is going on, on a line of the terminal that the answer wipes out."""

    def __init__(self) -> None:
        self._shown = False
        self._on = sys.stderr.isatty()

    def starting(self, state: Starting) -> None:
        """The server is not ready."""
        self._show(text(f"run.{state.stage}", percent=round(state.fraction * 100)))

    def waiting(self, queued: Queued) -> None:
        """Others are answered first."""
        self._show(text("talk.queue", ahead=queued.ahead))

    def reading(self, progress: Progress) -> None:
        """The prompt is being read."""
        self._show(text("run.reading", done=progress.done, total=progress.total))

    def _show(self, line: str) -> None:
        if self._on:
            self._shown = True
            click.echo(f"\r{line}\x1b[K", err=True, nl=False)

    def clear(self) -> None:
        """Take the line away."""
        if self._shown:
            self._shown = False
            click.echo("\r\x1b[K", err=True, nl=False)
