"""Hugging Face's optimum as the exporter: a plain graph of standard operators.

Its exporter lives in a package that pins transformers 4, which cannot read all that
transformers 5 writes; so it gets an environment of its own, and a folder in the older
spelling (rotary settings, name of the tokenizer's class). Nothing is fetched from a hub.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from edge.bootstrap.build import run
from edge.checkpoint import Checkpoint
from edge.messages import text
from edge.weights_file import INDEX
from quantize.checkpoint.complete import complete
from quantize.peers.environment import prepared

__all__ = ["PINS", "export", "write_readable"]

PINS = (
    "torch==2.13.0",
    "transformers==4.57.6",
    "huggingface-hub==0.36.2",
    "tokenizers==0.22.2",
    "optimum==2.1.0",
    "optimum-onnx==0.1.0",
    "safetensors==0.8.0",
    "onnx==1.23.2",
    "onnxruntime==1.32.0",
    "numpy==2.4.6",
)
_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
_TASK = "text-generation-with-past"
_COPIED = (
    "generation_config.json", "special_tokens_map.json", "tokenizer.json", "chat_template.jinja",
)  # fmt: skip


def export(checkpoint: Checkpoint, folder: Path) -> Path:
    """Write the model into `folder` as float32; returns the graph, `model.onnx`.

    Args:
        checkpoint: the model.
        folder: where graph and weights go.

    Raises:
        CheckpointError: tensors are missing, too many or of wrong shape.
        BuildError: optimum cannot be installed, or fails; the reason has been shown.
    """
    complete(checkpoint)
    programs = prepared("optimum", PINS, text("bootstrap.optimum"))
    readable, out = folder / "readable", folder / "optimum"
    write_readable(checkpoint, readable)
    command = [
        str(programs / "optimum-cli"), "export", "onnx",
        "--model", str(readable), "--task", _TASK, "--dtype", "fp32", str(out),
    ]  # fmt: skip
    title = text("bootstrap.optimum-export")
    run(command, log=programs.parent.with_suffix(".log"), title=title, env=_OFFLINE)
    for file in out.iterdir():
        if file.name.startswith("model.onnx"):
            file.rename(folder / file.name)
    shutil.rmtree(out)
    shutil.rmtree(readable)
    return folder / "model.onnx"


def write_readable(checkpoint: Checkpoint, folder: Path) -> None:
    """The model's folder as transformers 4 reads it; its weights are links."""
    folder.mkdir()
    for file in {place.file for place in checkpoint.tensors.values()}:
        (folder / file.name).symlink_to(file.resolve())
    index = checkpoint.path / INDEX
    if index.is_file():
        shutil.copyfile(index, folder / index.name)
    for name in _COPIED:
        if (checkpoint.path / name).is_file():
            shutil.copyfile(checkpoint.path / name, folder / name)
    _write(folder / "config.json", _config(checkpoint))
    settings = checkpoint.document("tokenizer_config.json") or {}
    # The classes of version 5 have other names; this one reads tokenizer.json as it is.
    _write(
        folder / "tokenizer_config.json", settings | {"tokenizer_class": "PreTrainedTokenizerFast"}
    )


def _config(checkpoint: Checkpoint) -> dict[str, Any]:
    given = dict(checkpoint.document("config.json") or {})
    rope = checkpoint.config.rope
    for key in ("rope_parameters", "rope_scaling", "dtype", "auto_map"):
        given.pop(key, None)
    given["rope_theta"] = checkpoint.config.rope_theta
    if rope.rope_type != "default":
        scaling = rope.model_dump(exclude={"rope_theta"})
        if rope.rope_type == "linear":
            scaling = {key: scaling[key] for key in ("rope_type", "factor")}
        given["rope_scaling"] = scaling
    given["torch_dtype"] = "float32"
    return given


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", "utf-8")
