"""One export: from a model folder to a bundle with one ONNX model that has passed its gates.

    model ──▶ gate: tokens ──▶ graph and weights ──▶ gate: predictions ──▶ bundle
              gates/tokens     graph/export          gates/predictions

The judge of its predictions is llama.cpp with the source's floats: another program, another
file format, the same model. Everything happens in a hidden folder beside the result; what
fails or is interrupted leaves nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from edge.bundle import Bundle
from edge.manifest import Manifest
from edge.onnx_header import OnnxHeader, read_onnx
from edge.workshop import software, workshop
from quantize.checkpoint.source import Source, open_source
from quantize.errors import QuantizeUsageError
from quantize.gates.predictions import DivergenceReport, compare_predictions, limit
from quantize.gates.tokens import TokenReport
from quantize.ggml.export import export as export_floats
from quantize.ggml.export import widest
from quantize.ggml.imatrix import ImportanceMatrix
from quantize.ggml.vocab import read_vocab
from quantize.gguf_bundle import Stage, check_tokens
from quantize.graph.export import export
from quantize.graph.layout import write_layout
from quantize.graph.types import F32, INT8, Q4, Type
from quantize.healing.result import Healed
from quantize.measuring.built_in_texts import MEASURE
from quantize.measuring.calibration import LabelledText
from quantize.peers import optimum

if TYPE_CHECKING:
    from pydantic import JsonValue

__all__ = ["EXPORTERS", "OPTIMUM", "OWN", "export_onnx"]

OWN, OPTIMUM = "lucie", "optimum"
EXPORTERS = (OWN, OPTIMUM)


def export_onnx(
    source: Path,
    out: Path,
    wanted: Type,
    stage: Stage,
    *,
    exporter: str = OWN,
    imatrix: Path | None = None,
    texts: Sequence[LabelledText] = MEASURE,
    most_kld: float | None = None,
    threads: int = 0,
    found_by: Mapping[str, JsonValue] | None = None,
    healed: Healed | None = None,
) -> Bundle:
    """Make the bundle `out`, whose name is that of its folder.

    Args:
        source: a model folder of Hugging Face's layout, plain or a bundle.
        out: the folder to make.
        wanted: what kind of file.
        stage: told what is being done.
        exporter: `OWN` or `OPTIMUM`.
        imatrix: an importance matrix, for four bits.
        texts: what the predictions of source and export are compared on.
        most_kld: mean KL divergence, in nats, above which nothing is published; None: by size.
        threads: threads to measure with; 0: one for each core.
        found_by: what led to `healed`, for the manifest.
        healed: trained weights for a file of four bits, which must be nearer to the source
            than the plain file is.

    Raises:
        LucieError: something of it fails; nothing is left.
    """
    if imatrix is not None and wanted is not Q4:
        raise QuantizeUsageError("onnx.imatrix", type=wanted.name)
    if exporter == OPTIMUM and wanted is not F32:
        raise QuantizeUsageError("onnx.optimum")
    matrix = ImportanceMatrix.read(imatrix) if imatrix is not None else None
    opened = open_source(source, stage("verify"))
    checkpoint = opened.checkpoint
    read_vocab(checkpoint)  # what its judge cannot have is told now
    with workshop(out) as folder:
        tokens = check_tokens(checkpoint, checkpoint.path, out, stage)
        draft = folder / "model"

        def write(place: Path, weights: Healed | None) -> Path:
            (place / "onnx").mkdir(parents=True)
            if exporter == OPTIMUM:
                graph = optimum.export(checkpoint, place / "onnx")
            else:
                graph = export(
                    checkpoint,
                    place / "onnx",
                    wanted,
                    importance=matrix,
                    facts=_facts(opened, out),
                    healed=weights,
                    progress=stage("weights"),
                )
            write_layout(checkpoint, place, graph, wanted, positions=exporter == OPTIMUM)
            return graph

        graph = write(draft, healed)
        header = read_onnx(graph)
        floats = folder / "floats.gguf"
        kind = widest(checkpoint)
        export_floats(checkpoint, floats, kind, progress=stage("floats"))
        judge = partial(compare_predictions, floats, texts=texts, threads=threads, stage=stage)
        predictions = judge(graph)
        most = limit(header.bits_per_weight) if most_kld is None else most_kld
        code = "heal.gate" if healed else "gate.dynamic" if wanted is INT8 else "gate.graph"
        predictions.require(out, most, code)
        plain = judge(write(folder / "plain", None)) if healed is not None else None
        if plain is not None:
            predictions.require_nearer(out, plain)
        manifest = opened.inherit(
            Manifest(
                kind="onnx",
                name=out.name,
                recipe=_recipe(source, wanted, exporter, imatrix) | dict(found_by or {}),
                software=software("onnx", "onnxruntime", "tokenizers", "safetensors", "numpy"),
                provenance="unknown",
                metrics=_metrics(header, graph, tokens, predictions, plain),
            )
        )
        files = {str(f.relative_to(draft)): f for f in draft.rglob("*") if f.is_file()}
        return Bundle.write(out, manifest, files, move=True, progress=stage("hash"))


def _recipe(
    source: Path, wanted: Type, exporter: str, imatrix: Path | None
) -> dict[str, JsonValue]:
    return {
        "step": "quantize.onnx",
        "source": source.resolve().name,
        "type": wanted.name,
        "exporter": exporter,
        "imatrix": imatrix.name if imatrix else None,
    }


def _facts(source: Source, out: Path) -> dict[str, str]:
    """What the file says of itself, where it is found without its manifest."""
    facts = {"name": out.name}
    if source.bundle is not None:
        known = source.bundle.manifest
        facts |= {
            "licence": known.licence or "",
            "languages": ", ".join(known.languages),
            "provenance": known.provenance,
            "data": "; ".join(
                " ".join(filter(None, (each.name, each.licence, each.url))) for each in known.data
            ),
        }
    return {key: value for key, value in facts.items() if value}


def _metrics(
    header: OnnxHeader,
    graph: Path,
    tokens: TokenReport,
    predictions: DivergenceReport,
    plain: DivergenceReport | None,
) -> dict[str, float]:
    return {
        "file size": float(header.file_size),
        "bits per weight": header.bits_per_weight,
        "bytes read per token": float(_read_per_token(header, graph)),
        "gate: texts with equal tokens": float(tokens.same_ids),
        "gate: texts tried": float(tokens.texts),
        **predictions.metrics(),
        **{f"plain {name}": value for name, value in (plain.metrics() if plain else {}).items()},
    }


def _read_per_token(header: OnnxHeader, graph: Path) -> int:
    """Bytes of weights; of an embedding that is not the output matrix, too, one row counts as
    nothing."""
    import onnx

    weights = onnx.load(graph, load_external_data=False).graph.initializer
    places = {}
    for tensor in weights:
        external = {entry.key: entry.value for entry in tensor.external_data}
        if "offset" not in external:
            continue
        looked_up = "embed_tokens" in tensor.name and not header.tied_output
        if not looked_up:
            places[external["offset"]] = int(external["length"])
    return sum(places.values())
