"""`lucie quantize gguf`, `lucie quantize onnx` and `lucie quantize dequantize`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge.bundle import Bundle
from edge.commands.numbers import Real
from edge.commands.paths import AnyPath
from edge.quantity import decimal_text, size_text
from quantize.commands import options
from quantize.commands.words import say, stages, words
from quantize.errors import QuantizeUsageError

if TYPE_CHECKING:
    from quantize.ggml.quantizer import Override

__all__ = ["dequantize", "gguf", "onnx", "report"]


@click.command("gguf", **words("gguf"))
@click.argument("source", type=AnyPath())
@click.argument("out", type=AnyPath())
@click.option("--type", "kind", default="Q4_K_M", show_default=True, help=say("type"))
@click.option("--imatrix", type=AnyPath(), help=say("imatrix"))
@click.option("--tensor-type", "overrides", multiple=True, metavar="RE=TYPE",
              help=say("tensor-type"))  # fmt: skip
@click.option("--pure", is_flag=True, help=say("pure"))
@options.texts
@click.option("--max-kld", type=Real(min=0, min_open=True), metavar="NATS", help=say("max-kld"))
@options.threads
def gguf(
    source: Path,
    out: Path,
    kind: str,
    imatrix: Path | None,
    overrides: tuple[str, ...],
    pure: bool,
    texts: tuple[str, ...],
    max_kld: float | None,
    threads: int,
) -> None:
    """Export a model as GGUF."""
    from quantize.ggml.imatrix import ImportanceMatrix
    from quantize.ggml.quantizer import QuantizeOptions
    from quantize.gguf_bundle import export_gguf
    from quantize.measuring.built_in_texts import MEASURE

    chosen = QuantizeOptions(
        kind.upper(),
        ImportanceMatrix.read(imatrix) if imatrix else None,
        tuple(_override(each) for each in overrides),
        pure,
        threads,
    )
    measured_on = options.texts_or(texts, MEASURE)
    with stages() as stage:
        bundle = export_gguf(source, out, chosen, stage, texts=measured_on, most_kld=max_kld)
    report(bundle)


def _override(given: str) -> Override:
    from quantize.ggml.quantizer import Override

    pattern, _, kind = given.rpartition("=")
    if not pattern or not kind:
        raise QuantizeUsageError("command.bad-override", given=given)
    return Override(pattern, kind.upper())


def report(bundle: Bundle) -> None:
    """Say what a finished export is, and how far from its source."""
    from quantize.gguf_bundle import FALLBACKS

    figures = bundle.manifest.metrics
    click.echo(
        say(
            "exported",
            path=bundle.path,
            size=size_text(int(figures["file size"])),
            bpw=decimal_text(figures["bits per weight"], 2),
            texts=int(figures["gate: texts tried"]),
        ),
        err=True,
    )
    if FALLBACKS in figures:
        kind = bundle.manifest.recipe["type"]
        click.echo(say("fallbacks", n=int(figures[FALLBACKS]), type=kind), err=True)
    if "kld, all" in figures:
        click.echo(
            say(
                "measured",
                kld=decimal_text(figures["kld, all"], 4),
                error=decimal_text(figures["kld, all, ±"], 4),
                same=decimal_text(100 * figures["same top, all"], 1),
                greedy=decimal_text(100 * figures["greedy agreement"], 0),
            ),
            err=True,
        )


@click.command("onnx", **words("onnx"))
@click.argument("source", type=AnyPath())
@click.argument("out", type=AnyPath())
@click.option("--bits", type=click.Choice(["4", "8", "16", "32"]), default="4",
              show_default=True, help=say("bits"))  # fmt: skip
@click.option("--dynamic", is_flag=True, help=say("dynamic"))
@click.option("--exporter", type=click.Choice(["lucie", "optimum"]), default="lucie",
              show_default=True, help=say("exporter"))  # fmt: skip
@click.option("--imatrix", type=AnyPath(), help=say("imatrix"))
@options.texts
@click.option("--max-kld", type=Real(min=0, min_open=True), metavar="NATS", help=say("max-kld"))
@options.threads
def onnx(
    source: Path,
    out: Path,
    bits: str,
    dynamic: bool,
    exporter: str,
    imatrix: Path | None,
    texts: tuple[str, ...],
    max_kld: float | None,
    threads: int,
) -> None:
    """Export a model as ONNX."""
    from quantize.graph.types import type_of
    from quantize.measuring.built_in_texts import MEASURE
    from quantize.onnx_bundle import export_onnx

    wanted = type_of(int(bits), dynamic=dynamic)
    measured_on = options.texts_or(texts, MEASURE)
    with stages() as stage:
        bundle = export_onnx(
            source,
            out,
            wanted,
            stage,
            exporter=exporter,
            imatrix=imatrix,
            texts=measured_on,
            most_kld=max_kld,
            threads=threads,
        )
    report(bundle)


@click.command("dequantize", **words("dequantize"))
@click.argument("source", metavar="MODEL")
@click.argument("out", type=AnyPath())
def dequantize(source: str, out: Path) -> None:
    """Write a GGUF file as a Hugging Face folder."""
    from quantize.model_bundle import dequantize_gguf

    with stages() as stage:
        bundle = dequantize_gguf(source, out, stage)
    click.echo(say("dequantized", path=bundle.path), err=True)
