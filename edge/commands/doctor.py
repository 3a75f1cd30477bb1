"""`lucie doctor`: what this machine is, what fits on it, and how models are loaded here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from edge.errors import LucieError
from edge.messages import text
from edge.quantity import count_text, size_text
from edge.store import Store

if TYPE_CHECKING:
    from edge.build_check import Build
    from edge.device import Device
    from edge.inventory import Item
    from edge.plan import Plan

__all__ = ["doctor"]

_LABEL = 12
_OPTION = 16
_OPTIONS = ("threads", "threads_batch", "n_ctx", "kv_type", "repack", "n_seq", "n_batch")


def _say(entry: str, /, **facts: Any) -> str:
    return text(f"doctor.{entry}", **facts)


@click.command(
    help=_say("help"),
    epilog=_say("example"),
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option("--json", "as_json", is_flag=True, help=_say("json"))
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Say what this machine is and how models are loaded here."""
    from edge.build_check import check_build
    from edge.device import detect
    from edge.inventory import inventory

    device = detect()
    build = check_build(device.cpu)
    items = inventory(Store(), device)
    if as_json:
        click.echo(json.dumps(_data(device, build, items), ensure_ascii=False, indent=2))
    else:
        click.echo("\n".join(_page(device, build, items)))
    if not build.usable:
        ctx.exit(LucieError.exit_code)


def _shown(items: list[Item]) -> Item | None:
    """The model whose loading is explained: the default one, or else the first that is here."""
    here = [item for item in items if item.model is not None]
    return next((item for item in here if item.is_default), here[0] if here else None)


def _page(device: Device, build: Build, items: list[Item]) -> Iterator[str]:
    from edge.commands.model_list import row

    yield from _machine(device, build)
    yield f"\n{_say('models')}"
    yield from map(row, items)
    item = _shown(items)
    if item is None:
        yield f"\n{text('models.none')}"
    elif item.plan is None:
        yield f"\n{item.problem}"
    else:
        yield from _loading(item.name, item.plan)
    for warning in device.warnings:
        yield f"\n! {warning}"


def _machine(device: Device, build: Build) -> Iterator[str]:
    cpu, memory = device.cpu, device.memory
    processor = ", ".join(filter(None, [cpu.name, _say("cores", count=cpu.cores)]))
    if cpu.threads < cpu.online and cpu.cores < cpu.online:
        processor += f" {_say('of', count=cpu.online)}"
    yield _line("board", f"{device.board or _say('computer')}, {cpu.arch}")
    yield _line("processor", ", ".join(filter(None, [processor, " ".join(cpu.features)])))
    free = _say("free", total=size_text(memory.total), free=size_text(memory.available))
    yield _line("memory", f"{free} {_say('limited')}" if memory.limited else free)
    yield _line("state", _state(device))
    yield _line("engine", f"{build.version} {build.remark}".strip())


def _state(device: Device) -> str:
    parts = []
    if device.temperature is not None:
        parts.append(f"{device.temperature:.0f} °C")
    if device.throttled is not None:
        now = any(not name.endswith("-before") for name in device.throttled)
        parts.append(_say("slowed" if now else "not-slowed"))
    if device.memory.swap_total:
        used = size_text(device.memory.swap_used)
        parts.append(_say("zram" if device.memory.zram else "swap", used=used))
    return ", ".join(parts) or _say("no-sensors")


def _line(label: str, value: str) -> str:
    return f"{_say(label):<{_LABEL}}{value}"


def _loading(name: str, plan: Plan) -> Iterator[str]:
    needed, available = size_text(plan.needed.total), size_text(plan.available)
    yield f"\n{_say('loading', name=name, needed=needed, available=available)}"
    for option in _OPTIONS:
        value = getattr(plan.options, option)
        if isinstance(value, bool):
            value = _say("yes" if value else "no")
        elif isinstance(value, int):
            value = count_text(value)
        yield f"  {_say(option.replace('_', '-')):<{_OPTION}}{value:>6}  {plan.reasons[option]}"
    for label, size in (("at-rest", plan.swap), ("schemas", plan.needed.schemas)):
        yield f"  {_say(label):<{_OPTION}}{size_text(size):>6}  {_say(f'{label}-why')}"


def _data(device: Device, build: Build, items: list[Item]) -> dict[str, object]:
    from edge.commands.model_list import row_json

    item = _shown(items)
    plan = item.plan if item else None
    return {
        "board": device.board,
        "cpu": asdict(device.cpu) | {"flags": sorted(device.cpu.flags)},
        "memory": asdict(device.memory),
        "temperature": device.temperature,
        "throttled": None if device.throttled is None else sorted(device.throttled),
        "memory_pressure": device.pressure,
        "engine": {
            "version": build.version,
            "features": build.features,
            "usable": build.usable,
            "remark": str(build.remark),
        },
        "models": [row_json(item) for item in items],
        "plan": plan
        and {
            "model": item and item.name,
            "options": asdict(plan.options),
            "needed": asdict(plan.needed) | {"total": plan.needed.total},
            "available": plan.available,
            "swap": plan.swap,
            "reasons": {option: str(reason) for option, reason in plan.reasons.items()},
        },
        "warnings": [str(warning) for warning in device.warnings],
    }
