"""`lucie quantize`: gguf, dequantize, imatrix, compare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from edge.bundle import Bundle
from edge.commands.bar import Bar
from edge.commands.numbers import Whole
from edge.errors import InterruptedByUserError
from edge.messages import text
from edge.progress import Progress
from edge.quantity import count_text, size_text
from edge.store import Store
from quantize.errors import QuantizeUsageError

__all__ = ["quantize"]

_FOLDER = Path(__file__).parent / "locale"
_HELP = {"help_option_names": ["-h", "--help"]}


def _say(entry: str, /, **facts: Any) -> str:
    return text(f"command.{entry}", folder=_FOLDER, **facts)


def _words(command: str) -> dict[str, Any]:
    """What click is told about the command of that name."""
    return {
        "help": _say(f"{command}-help"),
        "short_help": _say(f"{command}-short"),
        "epilog": _say(f"{command}-example"),
        "context_settings": _HELP,
    }


@click.group(help=_say("help"), epilog=_say("example"), context_settings=_HELP)
def quantize() -> None:
    """From a trained model to the files that boards run."""


@quantize.command(**_words("gguf"))
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--type", "kind", default="Q4_K_M", show_default=True, help=_say("type"))
@click.option("--imatrix", type=click.Path(path_type=Path), help=_say("imatrix"))
@click.option("--tensor-type", "overrides", multiple=True, metavar="RE=TYPE",
              help=_say("tensor-type"))  # fmt: skip
@click.option("--pure", is_flag=True, help=_say("pure"))
def gguf(
    source: Path, out: Path, kind: str, imatrix: Path | None, overrides: tuple[str, ...], pure: bool
) -> None:
    """Export a model as GGUF."""
    from quantize.gguf_bundle import export_gguf
    from quantize.gguf_quantize import QuantizeOptions

    options = QuantizeOptions(
        kind.upper(), imatrix, tuple(_override(each) for each in overrides), pure
    )
    with _Stages() as stages:
        bundle = export_gguf(source, out, options, stages)
    click.echo(_done(bundle), err=True)


def _override(given: str) -> Any:
    from quantize.gguf_quantize import Override

    pattern, _, kind = given.rpartition("=")
    if not pattern or not kind:
        raise QuantizeUsageError("command.bad-override", given=given)
    return Override(pattern, kind.upper())


def _done(bundle: Bundle) -> str:
    figures = bundle.manifest.metrics
    return _say(
        "exported",
        path=bundle.path,
        size=size_text(int(figures["file size"])),
        bpw=f"{figures['bits per weight']:.2f}",
        texts=int(figures["gate: texts tried"]),
    )


@quantize.command(**_words("dequantize"))
@click.argument("source", metavar="MODEL")
@click.argument("out", type=click.Path(path_type=Path))
def dequantize(source: str, out: Path) -> None:
    """Write a GGUF file as a Hugging Face folder."""
    from quantize.model_bundle import dequantize_gguf

    with _Stages() as stages:
        bundle = dequantize_gguf(source, out, stages)
    click.echo(_say("dequantized", path=bundle.path), err=True)


@quantize.command(**_words("imatrix"))
@click.argument("model")
@click.argument("texts", nargs=-1, required=True, metavar="[LANG=]TEXT...")
@click.option("-o", "--output", type=click.Path(path_type=Path), help=_say("imatrix-output"))
@click.option("--chunks", type=Whole(min=1), help=_say("chunks"))
@click.option("--threads", type=Whole(1, 512), help=_say("threads"))
def imatrix(
    model: str, texts: tuple[str, ...], output: Path | None, chunks: int | None, threads: int | None
) -> None:
    """Collect an importance matrix."""
    from quantize.calibration import parse
    from quantize.importance import collect

    path = Store().find(model).weights
    target = output or Path(f"{path.stem}.imatrix.gguf")
    labelled = parse(texts)
    if len({text.label for text in labelled}) == 1:
        click.echo(_say("one-language"), err=True)
    with Bar(_say("stage-read"), count_text) as bar:
        try:
            made = collect(
                path, labelled, target, chunks=chunks, threads=threads or _cores(), progress=bar
            )
        except KeyboardInterrupt:
            bar.clear()
            click.echo(_say("imatrix-interrupted"), err=True)
            raise InterruptedByUserError("models.interrupted") from None
    tokens = count_text(made.chunk_count * made.chunk_size)
    click.echo(_say("collected", path=target, count=len(made.entries), tokens=tokens), err=True)


@quantize.command(**_words("compare"))
@click.argument("reference")
@click.argument("candidates", nargs=-1, required=True, metavar="CANDIDATE...")
@click.option("--text", "texts", multiple=True, required=True, metavar="[LANG=]TEXT",
              help=_say("compare-text"))  # fmt: skip
@click.option("--chunks", type=Whole(min=1), help=_say("chunks"))
@click.option("--threads", type=Whole(1, 512), help=_say("threads"))
@click.option("--json", "as_json", is_flag=True, help=text("models.json"))
def compare(
    reference: str,
    candidates: tuple[str, ...],
    texts: tuple[str, ...],
    chunks: int | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Say how far quantized models are from their source."""
    from quantize.calibration import parse
    from quantize.comparison import as_data, table
    from quantize.measure import measure

    store = Store()
    paths = [store.find(name).weights for name in candidates]
    with Bar(_say("stage-read"), count_text) as bar:
        try:
            found = measure(
                store.find(reference).weights,
                paths,
                parse(texts),
                chunks=chunks,
                threads=threads or _cores(),
                progress=bar,
            )
        except KeyboardInterrupt:
            bar.clear()
            raise InterruptedByUserError("models.interrupted") from None
    if as_json:
        click.echo(json.dumps(as_data(candidates, paths, found), ensure_ascii=False, indent=2))
    else:
        click.echo(table(candidates, paths, found))


def _cores() -> int:
    from edge.device import detect

    return detect().cpu.cores


class _Stages:
    """Shows the stages of a long command, one bar after the other."""

    def __init__(self) -> None:
        self._bar: Bar | None = None

    def __call__(self, stage: str) -> Progress:
        self._clear()
        counted = {"tokens": count_text, "quantize": count_text}
        self._bar = Bar(_say(f"stage-{stage}"), counted.get(stage, size_text))
        return self._bar

    def __enter__(self) -> _Stages:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._clear()
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            click.echo(_say("interrupted"), err=True)
            raise InterruptedByUserError("models.interrupted") from None

    def _clear(self) -> None:
        if self._bar is not None:
            self._bar.clear()
