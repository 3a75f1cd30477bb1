"""What stands beside a graph, so that others load the same folder.

model/
├── config.json              the model's, and for transformers.js where weights are
├── genai_config.json        for onnxruntime-genai
├── generation_config.json, tokenizer.json, …   as they were
    ├── tokenizer_config.json   the chat template in it
└── onnx/model_q4.onnx, onnx/model_q4.onnx_data
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from edge.checkpoint import Checkpoint
from quantize.graph.types import Type

__all__ = ["write_layout"]

_KEPT = (
    "generation_config.json",
    "tokenizer.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)


def write_layout(
    checkpoint: Checkpoint, folder: Path, graph: Path, wanted: Type, *, positions: bool = False
) -> None:
    """Write or copy them.

    Args:
        checkpoint: the model that was exported.
        folder: where they go.
        graph: the graph, somewhere below `folder`.
        wanted: what kind of file it is.
        positions: whether the graph wants `position_ids`.
    """
    for name in _KEPT:
        if (checkpoint.path / name).is_file():
            shutil.copyfile(checkpoint.path / name, folder / name)
    _write(folder / "tokenizer_config.json", _tokenizer(checkpoint))
    _write(folder / "config.json", _config(checkpoint, graph, wanted))
    _write(folder / "genai_config.json", _genai(checkpoint, graph.relative_to(folder), positions))


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _config(checkpoint: Checkpoint, graph: Path, wanted: Type) -> dict[str, Any]:
    config = dict(checkpoint.document("config.json") or {})
    config["transformers.js_config"] = {
        "use_external_data_format": {graph.name: int(_has_data(graph))},
        "kv_cache_dtype": {"fp16": "float16"} if wanted.kind == "F16" else {},
    }
    return config


def _tokenizer(checkpoint: Checkpoint) -> dict[str, Any]:
    """The settings, with the chat template in them, where transformers.js looks for it."""
    settings = dict(checkpoint.document("tokenizer_config.json") or {})
    separate = checkpoint.path / "chat_template.jinja"
    if separate.is_file():
        settings["chat_template"] = separate.read_text(encoding="utf-8")
    return settings


def _has_data(graph: Path) -> bool:
    return graph.with_name(f"{graph.name}_data").exists()


def _genai(checkpoint: Checkpoint, graph: Path, positions: bool) -> dict[str, Any]:
    config = checkpoint.config
    generation = checkpoint.document("generation_config.json") or {}
    eos = generation.get("eos_token_id", config.eos_token_id)
    first = eos[0] if isinstance(eos, list) and eos else eos
    pad = config.pad_token_id if config.pad_token_id is not None else first
    inputs = {
        "input_ids": "input_ids",
        "attention_mask": "attention_mask",
        "past_key_names": "past_key_values.%d.key",
        "past_value_names": "past_key_values.%d.value",
    }
    if positions:
        inputs["position_ids"] = "position_ids"
    decoder = {
        "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
        "filename": graph.as_posix(),
        "head_size": config.head_dim,
        "hidden_size": config.hidden_size,
        "inputs": inputs,
        "outputs": {
            "logits": "logits",
            "present_key_names": "present.%d.key",
            "present_value_names": "present.%d.value",
        },
        "num_attention_heads": config.num_attention_heads,
        "num_hidden_layers": config.num_hidden_layers,
        "num_key_value_heads": config.num_key_value_heads,
    }
    model = {
        "bos_token_id": config.bos_token_id,
        "context_length": config.max_position_embeddings,
        "decoder": decoder,
        "eos_token_id": eos,
        "pad_token_id": pad,
        "type": "llama",
        "vocab_size": config.vocab_size,
    }
    search = {
        "max_length": config.max_position_embeddings,
        "past_present_share_buffer": not positions,  # as GroupQueryAttention works
    }
    return {"model": {k: v for k, v in model.items() if v is not None}, "search": search}
