"""One export: from a model folder to a bundle with one GGUF file that has passed its gates.

    model ──▶ vocabulary ──▶ gate: tokens ──▶ floats ──▶ quantizer ──▶ gate: predictions ──▶ bundle
              ggml/export    gates/tokens     ggml/export ggml/quantizer gates/predictions

Everything happens in a hidden folder beside the result, on the same disk; what fails or is
interrupted leaves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from edge.bundle import Bundle
from edge.checkpoint import Checkpoint
from edge.gguf_header import GGUFHeader, read_header
from edge.manifest import Manifest
from edge.progress import Progress
from edge.workshop import software, workshop
from quantize.checkpoint.floats import FLOATS
from quantize.checkpoint.llama_tensors import tensors
from quantize.checkpoint.source import Source, open_source
from quantize.errors import QuantizeUsageError
from quantize.gates.predictions import DivergenceReport, compare_predictions, limit
from quantize.gates.sample_texts import texts as sample_texts
from quantize.gates.tokens import TokenReport, compare_tokens
from quantize.ggml import quantizer
from quantize.ggml.export import export, export_vocabulary, widest
from quantize.ggml.quantizer import QuantizeOptions
from quantize.ggml.rewrite import rewrite
from quantize.healing.result import Healed
from quantize.measuring.built_in_texts import MEASURE
from quantize.measuring.calibration import LabelledText

if TYPE_CHECKING:
    from pydantic import JsonValue

__all__ = ["FALLBACKS", "Stage", "check_tokens", "export_gguf"]

FALLBACKS = "matrices of larger types"
"""In the manifest: how many could not have the types of the mixture."""

Stage = Callable[[str], Progress]
"""Called as a stage begins (`verify`, `tokens`, `floats`, `quantize`, `divergence`, `greedy`);
gives what shows how far it is."""


@dataclass(frozen=True, slots=True)
class _Made:
    file: Path
    header: GGUFHeader
    predictions: DivergenceReport | None
    """None: the file holds the source's own numbers, and nothing can have been lost."""
    plain: DivergenceReport | None = None
    """Of a healed file: what it would have been."""


def export_gguf(
    source: Path,
    out: Path,
    options: QuantizeOptions,
    stage: Stage,
    *,
    texts: Sequence[LabelledText] = MEASURE,
    most_kld: float | None = None,
    found_by: Mapping[str, JsonValue] | None = None,
    healed: Healed | None = None,
) -> Bundle:
    """Make the bundle `out`, whose name is that of its folder.

    Args:
        source: a model folder of Hugging Face's layout, plain or a bundle.
        out: the folder to make.
        options: type and how to get there.
        stage: told what is being done.
        texts: what the predictions of source and export are compared on.
        found_by: what led to `options`, for the manifest.
        most_kld: mean KL divergence, in nats, above which nothing is published; None: by size.
        healed: trained weights for a file of that type, which must be nearer to the source
            than the plain file is.

    Raises:
        LucieError: something of it fails; nothing is left.
    """
    _check(options)
    opened = open_source(source, stage("verify"))
    wanted = tensors(opened.checkpoint.config)
    columns = {each.gguf: each.shape[-1] for each in wanted if len(each.shape) > 1}
    quantizer.check_tensors(options, columns)
    with workshop(out) as folder:
        vocabulary = folder / "vocabulary.gguf"
        export_vocabulary(opened.checkpoint, vocabulary)
        tokens = check_tokens(opened.checkpoint, vocabulary, out, stage)
        made = _make(opened, folder / f"{out.name}.gguf", options, texts, healed, stage)
        if made.predictions is not None:
            most = limit(made.header.bits_per_weight) if most_kld is None else most_kld
            made.predictions.require(out, most, "heal.gate" if healed else "gate.divergence")
        if made.plain is not None and made.predictions is not None:
            made.predictions.require_nearer(out, made.plain)
        manifest = opened.inherit(
            Manifest(
                kind="gguf",
                name=out.name,
                recipe=_recipe(source, options) | dict(found_by or {}),
                software=software("llama-cpp-python", "gguf", "safetensors", "numpy"),
                provenance="unknown",
                metrics=_metrics(made, tokens, options),
            )
        )
        return Bundle.write(out, manifest, {made.file.name: made.file}, move=True)


def check_tokens(source: Checkpoint, export: Path, out: Path, stage: Stage) -> TokenReport:
    """The first gate, which needs no weights.

    Args:
        source: the model folder.
        export: its vocabulary as it will be; what `gates.tokens.vocabulary` takes.
        out: what is to be made.
        stage: told of `tokens`.

    Raises:
        QuantizeError: it reads other tokens than its source.
    """
    report = compare_tokens(source, export, list(sample_texts()), stage("tokens"))
    report.require(out)
    return report


def _check(options: QuantizeOptions) -> None:
    """Before anything is done."""
    if options.type not in FLOATS:
        quantizer.check(options)
    elif options.imatrix is not None or options.overrides or options.pure:
        raise QuantizeUsageError("quantize.floats", type=options.type)


def _make(
    source: Source,
    target: Path,
    options: QuantizeOptions,
    texts: Sequence[LabelledText],
    healed: Healed | None,
    stage: Stage,
) -> _Made:
    lossless = options.type if options.type == "F32" else widest(source.checkpoint)
    same = options.type == lossless
    floats = target if same else target.with_name("floats.gguf")
    write = partial(export, source.checkpoint, known=source.known)
    with nullcontext() if options.type in FLOATS else quantizer.start() as process:
        write(floats, lossless, progress=stage("floats"))
        if same:
            return _Made(target, read_header(target), None)
        if process is None:
            write(target, options.type, progress=stage("floats"))
        else:
            quantizer.quantize(floats, target, options, stage("quantize"), process)
    judge = partial(compare_predictions, floats, texts=texts, threads=options.threads, stage=stage)
    plain = None
    if healed is not None:
        plain = judge(target)
        rewrite(target, source.checkpoint.config, healed)
    predictions = judge(target)
    floats.unlink()
    return _Made(target, read_header(target), predictions, plain)


def _recipe(source: Path, options: QuantizeOptions) -> dict[str, JsonValue]:
    return {
        "step": "quantize.gguf",
        "source": source.resolve().name,
        "type": options.type,
        "imatrix": None if options.imatrix is None else options.imatrix.file,
        "overrides": [[each.pattern, each.type] for each in options.overrides],
        "pure": options.pure,
    }


def _metrics(made: _Made, tokens: TokenReport, options: QuantizeOptions) -> dict[str, float]:
    header = made.header
    read = sum(t.n_bytes for t in header.tensors if t.name != "token_embd.weight")
    if header.tied_output:  # the embedding is the output matrix too
        read += sum(t.n_bytes for t in header.tensors if t.name == "token_embd.weight")
    predictions = made.predictions.metrics() if made.predictions else {}
    plain = made.plain.metrics() if made.plain else {}
    fallbacks = quantizer.count_fallbacks(options, header.tensors)
    return {
        "file size": float(header.file_size),
        "bits per weight": header.bits_per_weight,
        "bytes read per token": float(read),
        **({FALLBACKS: float(fallbacks)} if fallbacks else {}),
        "gate: texts with equal tokens": float(tokens.same_ids),
        "gate: texts tried": float(tokens.texts),
        **predictions,
        **{f"plain {name}": value for name, value in plain.items()},
    }
