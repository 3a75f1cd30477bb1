"""From a GGUF file to a bundle of kind `model`: a Hugging Face folder with a manifest."""

from __future__ import annotations

from pathlib import Path

from edge.bundle import Bundle
from edge.checkpoint import Checkpoint
from edge.manifest import Manifest, Parent
from edge.progress import Progress
from edge.store import Store
from edge.workshop import software, workshop
from quantize.errors import QuantizeUsageError
from quantize.gates.sample_texts import texts
from quantize.gates.tokens import compare_tokens
from quantize.ggml.dequantize import write_checkpoint
from quantize.gguf_bundle import Stage

__all__ = ["dequantize_gguf"]


def dequantize_gguf(source: str, out: Path, stage: Stage) -> Bundle:
    """Make the bundle `out`.

    Args:
        source: the name of a model on this device, or the path of a GGUF file or bundle.
        out: the folder to make.
        stage: told what is being done.

    Raises:
        LucieError: something of it fails; nothing is left.
    """
    model = Store().find(source)
    if model.weights.suffix == ".onnx":
        raise QuantizeUsageError("dequantize.wants-gguf", path=str(model.weights))
    known = Bundle.open(model.folder, verify=True) if model.folder is not None else None
    with workshop(out) as folder:
        draft = folder / "model"
        draft.mkdir()
        write_checkpoint(model.weights, draft, progress=stage("floats"))
        _check_tokens(draft, model.weights, stage("tokens"))
        manifest = Manifest(
            kind="model",
            name=out.name,
            parents=(Parent(name=known.manifest.name, sha256=known.sha256),) if known else (),
            recipe={"step": "quantize.dequantize", "source": model.weights.name},
            software=software("gguf", "safetensors", "numpy"),
            licence=known.manifest.licence if known else None,
            languages=known.manifest.languages if known else (),
            provenance=known.manifest.provenance if known else "unknown",
            data=known.manifest.data if known else (),
        )
        files = {file.name: file for file in draft.iterdir()}
        return Bundle.write(out, manifest, files, move=True, progress=stage("hash"))


def _check_tokens(folder: Path, source: Path, progress: Progress) -> None:
    report = compare_tokens(Checkpoint.open(folder), source, list(texts()), progress)
    report.require(folder)
