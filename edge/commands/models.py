"""`lucie models`: add, list, info, verify, remove."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from edge.commands.bar import Bar
from edge.errors import InterruptedByUserError, LucieError
from edge.messages import text
from edge.store import Store

if TYPE_CHECKING:
    from edge.store import Model

__all__ = ["models"]

_HELP = {"help_option_names": ["-h", "--help"]}


def _say(entry: str, /, **facts: Any) -> str:
    return text(f"models.{entry}", **facts)


def _words(command: str) -> dict[str, Any]:
    """What click is told about the command of that name."""
    return {
        "help": _say(f"{command}-help"),
        "short_help": _say(f"{command}-short"),
        "epilog": _say(f"{command}-example"),
        "context_settings": _HELP,
    }


def _json_option(command: Callable[..., None]) -> Callable[..., None]:
    return click.option("--json", "as_json", is_flag=True, help=_say("json"))(command)


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


@click.group(
    help=_say("help"),
    epilog=_say("example"),
    context_settings=_HELP,
    invoke_without_command=True,
)
@click.pass_context
def models(ctx: click.Context) -> None:
    """The models on this device; without more words, the list of them."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_models, as_json=False)


@models.command(**_words("add"))
@click.argument("source", metavar="SOURCE|NAME")
@click.option("--name", metavar="NAME", help=_say("name"))
def add(source: str, name: str | None) -> None:
    """Put a model into the store."""
    with Bar(source[:32]) as bar:

        def notice(code: str, facts: dict[str, Any]) -> None:
            bar.clear()
            click.echo(text(code, **facts), err=True)

        try:
            model = Store().add(source, name=name, progress=bar, notice=notice)
        except KeyboardInterrupt:
            bar.clear()
            click.echo(_say("interrupted"), err=True)
            raise InterruptedByUserError("models.interrupted") from None
    reason = _why_no_chat(model) if model.runnable else ""
    code = "kept" if not model.runnable else "no-chat" if reason else "ready"
    click.echo(_say(code, name=model.name, reason=reason), err=True)


def _why_no_chat(model: Model) -> str:
    """What keeps a model from answering messages; nothing where it can."""
    from edge.header import read_model
    from edge.template import ChatTemplate

    template = read_model(model.path).template
    if template is None:
        return text("prompt.no-template")
    try:
        ChatTemplate(template, bos="", eos="").render([{"role": "user", "content": "Hello"}])
    except LucieError as error:
        return str(error)
    return ""


@models.command("list", **_words("list"))
@_json_option
def list_models(as_json: bool) -> None:
    """All models, here and in the catalog."""
    from edge.commands.model_list import row, row_json
    from edge.device import detect
    from edge.inventory import inventory

    items = inventory(Store(), detect())
    if as_json:
        _print_json([row_json(item) for item in items])
        return
    for item in items:
        click.echo(row(item))
    if any(item.model is None for item in items):
        click.echo(f"\n{_say('how-to-add')}")


@models.command(**_words("info"))
@click.argument("name")
@_json_option
def info(name: str, as_json: bool) -> None:
    """What is known of one model."""
    from edge.commands.model_info import describe, known

    facts = known(Store(), name)
    if as_json:
        _print_json(facts)
    else:
        click.echo(describe(facts))


@models.command(**_words("verify"))
@click.argument("name", required=False)
@_json_option
@click.pass_context
def verify(ctx: click.Context, name: str | None, as_json: bool) -> None:
    """Compare every byte with its manifest."""
    store = Store()
    names = [store.get(name).name] if name else [model.name for model in store.list()]
    results: list[dict[str, object]] = []
    for each in names:
        try:
            with Bar(each) as bar:
                store.verify(each, bar)
        except LucieError as error:
            results.append({"name": each, "ok": False, "problem": str(error)})
            click.echo(f"{each}: {error}", err=True)
        else:
            results.append({"name": each, "ok": True, "problem": None})
            if not as_json:
                click.echo(_say("intact", name=each))
    if as_json:
        _print_json(results)
    elif not names:
        click.echo(_say("none"), err=True)
    if not all(result["ok"] for result in results):
        ctx.exit(LucieError.exit_code)


@models.command(**_words("remove"))
@click.argument("name")
def remove(name: str) -> None:
    """Take a model away."""
    Store().remove(name)
    click.echo(_say("removed", name=name), err=True)
