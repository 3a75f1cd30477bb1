"""From a model and what is known of its importance to a smaller model that is a slice of it.

    teacher ──▶ what is kept ──▶ slices, some rows at a time ──▶ bundle of kind `model`
                importance

Of the teacher no more than a block of one tensor is in memory.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from distill.pruning.choice import Kept, Rules, choose
from distill.pruning.scores import Importance
from distill.pruning.shape import check_slice
from distill.pruning.slices import Tying, norm_scales, slices, tying
from edge.bundle import Bundle
from edge.checkpoint import Checkpoint
from edge.errors import DamagedModelError
from edge.llama_config import LlamaConfig
from edge.manifest import Manifest, Parent
from edge.weights_file import write_weights
from edge.workshop import software, workshop
from pretrain.identity import fingerprint
from pretrain.result import BESIDE
from quantize.checkpoint.complete import complete
from quantize.checkpoint.source import Source

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from edge.progress import Progress

__all__ = ["KEPT", "cut_from", "prune"]

KEPT = "pruning.json"
"""The file that says what was kept, for whoever wants to prove or to repeat it."""
_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def prune(
    source: Source,
    importance: Bundle,
    student: LlamaConfig,
    out: Path,
    *,
    rules: Rules | None = None,
    stage: Callable[[str], Progress],
) -> Bundle:
    """Make the bundle `out` of kind `model`.

    Args:
        source: the teacher.
        importance: what was measured of it (`importance.measure`), opened and verified.
        student: the shape; whatever is not one of its sizes is the teacher's.
        out: the folder to make.
        rules: how layers are chosen.
        stage: told what is being done.

    Raises:
        DistillUsageError: the student is no slice of the teacher.
        DistillError: the importance is of another model, or damaged.
        LucieError: something else of it fails; nothing is left.
    """
    rules = rules or Rules()
    checkpoint = source.checkpoint
    teacher = checkpoint.config
    check_slice(teacher, student)
    complete(checkpoint)
    known = fingerprint(checkpoint)
    scores = Importance.read(importance, checkpoint, known)
    kept = choose(scores, teacher, student, rules)
    scales = norm_scales(scores, kept)
    ties = student.tie_word_embeddings and not teacher.tie_word_embeddings
    with workshop(out) as folder:
        draft = folder / "model"
        draft.mkdir()
        tied = tying(checkpoint, kept.width) if ties else None
        parts = slices(checkpoint, student, kept, scales, tied)
        write_weights(parts, draft, progress=stage("weights"))
        _write_config(checkpoint, student, draft / "config.json")
        record = _record(known, rules, kept, scales, tied)
        (draft / KEPT).write_text(json.dumps(record) + "\n", encoding="utf-8")
        for name in BESIDE:
            if (checkpoint.path / name).is_file():
                shutil.copyfile(checkpoint.path / name, draft / name)
        manifest = _manifest(source, importance, student, out, rules)
        files = {file.name: file for file in sorted(draft.iterdir())}
        return Bundle.write(out, manifest, files, move=True, progress=stage("hash"))


def cut_from(folder: Path) -> str:
    """`fingerprint` of the model that a bundle of `prune` was cut from.

    Raises:
        DamagedModelError: the bundle does not say it any more.
    """
    try:
        return _Cut.model_validate_json((folder / KEPT).read_bytes()).teacher
    except (OSError, ValidationError) as error:
        raise DamagedModelError("bundle.wrong-hash", path=str(folder), file=KEPT) from error


class _Cut(BaseModel):
    """What is asked of `pruning.json`."""

    teacher: str


def _write_config(checkpoint: Checkpoint, student: LlamaConfig, path: Path) -> None:
    sizes = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
             "num_key_value_heads", "tie_word_embeddings")  # fmt: skip
    changed = {size: getattr(student, size) for size in sizes}
    config = checkpoint.config.model_copy(update=changed).as_json()
    given = checkpoint.document("config.json") or {}
    if isinstance(given.get("initializer_range"), float):
        config["initializer_range"] = given["initializer_range"]
    config["dtype"] = _DTYPES[checkpoint.tensors["model.embed_tokens.weight"].dtype]
    path.write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def _record(
    teacher: str, rules: Rules, kept: Kept, scales: NDArray[np.float64], tied: Tying | None
) -> dict[str, Any]:
    """What `pruning.json` holds: indices into the teacher, and the two rules' numbers."""
    return {
        "teacher": teacher,
        "layers by": rules.by,
        "layers kept at either end": rules.ends,
        "layers": kept.layers.tolist(),
        "width": kept.width.tolist(),
        "heads": kept.heads.tolist(),
        "key-value heads": kept.groups.tolist(),
        "ffn": kept.ffn.tolist(),
        "norm scales": scales.tolist(),
        "tying": None if tied is None else {"ratio": tied.ratio, "share": tied.share},
    }


def _manifest(
    source: Source, importance: Bundle, student: LlamaConfig, out: Path, rules: Rules
) -> Manifest:
    inherited = source.inherit(
        Manifest(
            kind="model",
            name=out.name,
            recipe={
                "step": "distill.prune",
                "teacher": source.checkpoint.path.resolve().name,
                "layers": student.num_hidden_layers,
                "width": student.hidden_size,
                "ffn": student.intermediate_size,
                "heads": student.num_attention_heads,
                "key-value heads": student.num_key_value_heads,
                "tied": student.tie_word_embeddings,
                "layers by": rules.by,
                "layers kept at either end": rules.ends,
            },
            software=software("numpy", "safetensors"),
            provenance="unknown",
            metrics={
                "parameters": float(student.parameters),
                "parameters of the teacher": float(source.checkpoint.config.parameters),
            },
        )
    )
    parent = Parent(name=importance.manifest.name, sha256=importance.sha256)
    return inherited.model_copy(update={"parents": (*inherited.parents, parent)})
