"""`lucie quantize heal`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge.bundle import Bundle
from edge.commands.numbers import Real, Whole
from edge.commands.paths import AnyPath
from edge.quantity import decimal_text
from quantize.commands import options
from quantize.commands.export import report
from quantize.commands.words import say, stages, words
from quantize.words import say as stage_say

__all__ = ["heal"]

_TARGETS = ("Q4_0", "Q8_0", "ONNX-Q4")


@click.command("heal", **words("heal"))
@click.argument("source", type=AnyPath())
@click.argument("out", type=AnyPath())
@click.option("--type", "target", type=click.Choice(_TARGETS, case_sensitive=False),
              default="Q4_0", show_default=True, metavar="|".join(_TARGETS),
              help=say("heal-type"))  # fmt: skip
@click.option("--steps", type=Whole(1, 1_000_000), default=100, show_default=True, metavar="N",
              help=say("heal-steps"))  # fmt: skip
@click.option("--batch", type=Whole(1, 4096), default=4, show_default=True, metavar="N",
              help=say("heal-batch"))  # fmt: skip
@click.option("--learning-rate", type=Real(min=0, min_open=True, max=1), metavar="RATE",
              help=say("heal-rate"))  # fmt: skip
@click.option("--seed", type=Whole(0, 2**32 - 1), default=0, show_default=True, metavar="N",
              help=say("heal-seed"))  # fmt: skip
@click.option("--calibration", multiple=True, metavar="[LANG=]TEXT", help=say("heal-text"))
@options.texts
@click.option("--max-kld", type=Real(min=0, min_open=True), metavar="NATS", help=say("max-kld"))
@click.option("--work", type=AnyPath(), help=say("heal-work"))
@click.option("--accelerate", is_flag=False, flag_value="", metavar="[CONFIG]",
              help=say("heal-accelerate"))  # fmt: skip
@options.threads
def heal(
    source: Path,
    out: Path,
    target: str,
    steps: int,
    batch: int,
    learning_rate: float | None,
    seed: int,
    calibration: tuple[str, ...],
    texts: tuple[str, ...],
    max_kld: float | None,
    work: Path | None,
    accelerate: str | None,
    threads: int,
) -> None:
    """Train a quantized model to say again what its floats say."""
    from quantize.healed_bundle import LEARNING_RATES, Training
    from quantize.healed_bundle import heal as make
    from quantize.measuring.built_in_texts import CALIBRATION, MEASURE

    training = Training(
        texts=options.calibration_or(calibration, CALIBRATION),
        steps=steps,
        batch=batch,
        learning_rate=LEARNING_RATES[target] if learning_rate is None else learning_rate,
        seed=seed,
        threads=threads,
        launch=None if accelerate is None else _config(accelerate),
        folder=work,
    )
    with stages("heal-interrupted") as stage:
        bundle = make(
            source, out, target, training, stage,
            note=lambda code, **facts: _note(code, facts, told=accelerate is not None),
            most_kld=max_kld, measured_on=options.texts_or(texts, MEASURE),
        )  # fmt: skip
    _report(bundle, target)


def _note(code: str, facts: dict[str, Any], *, told: bool) -> None:
    """Say what goes on; of one process on this computer, not that it is one."""
    if code != "on" or told:
        click.echo("\n" + stage_say(f"heal.{code}", **facts), err=True)


def _config(given: str) -> tuple[str, ...]:
    """Arguments of `accelerate launch`."""
    return ("--config_file", given) if given else ()


def _report(bundle: Bundle, target: str) -> None:
    report(bundle)
    figures = bundle.manifest.metrics
    plain, kld = figures["plain kld, all"], figures["kld, all"]
    click.echo(
        say(
            "healed",
            type=target,
            plain=decimal_text(plain, 4),
            kld=decimal_text(kld, 4),
            ratio=decimal_text(kld / plain, 2),
        ),
        err=True,
    )
