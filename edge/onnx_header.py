"""What an ONNX model is, by the files beside it, before ONNX Runtime reads any of it.

    model folder/
    ├── config.json                 the shape
    ├── tokenizer.json, tokenizer_config.json, chat_template.jinja, generation_config.json
    └── model.onnx                  or onnx/model_q4.onnx, as transformers.js has it;
        model.onnx_data             beside it the weights, if they are not in it

The graph has the last word on its shape (`edge.onnxrt.graph`); this is what plans and
tables are made of.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge.errors import DamagedModelError, ModelError
from edge.fault import fault_text
from edge.text import one_line

__all__ = ["OnnxHeader", "read_onnx"]

_MOST_JSON = 64 << 20
_MOST_TEMPLATE = 1 << 20
_MOST_TOKENS = 1 << 19
_CONFIG = "config.json"
_Size = Annotated[int, Field(gt=0, le=1 << 31)]

_TYPES = {
    "": "F32", "_fp16": "F16", "_int8": "INT8", "_quantized": "Q8", "_q4": "Q4", "_q4f16": "Q4F16",
    "_uint8": "UINT8", "_bnb4": "BNB4",
}  # fmt: skip
"""By what transformers.js puts behind `model` in the name of a file."""


class _Shape(BaseModel):
    """The keys of config.json that matter here."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="ignore", frozen=True)

    model_type: str = ""
    hidden_size: _Size
    intermediate_size: _Size
    num_hidden_layers: Annotated[int, Field(gt=0, le=4096)]
    num_attention_heads: _Size
    num_key_value_heads: _Size | None = None
    head_dim: _Size | None = None
    vocab_size: Annotated[int, Field(gt=0, le=_MOST_TOKENS)]
    max_position_embeddings: _Size
    tie_word_embeddings: bool = False


@dataclass(frozen=True)
class OnnxHeader:
    """A model folder whose config has been checked."""

    format: ClassVar[Literal["ONNX"]] = "ONNX"

    path: Path
    """The graph."""
    folder: Path
    """Where config and tokenizer are."""
    files: tuple[Path, ...]
    """The graph and its weights."""
    file_size: int
    """Bytes of all of them."""
    architecture: str
    name: str
    """For people, "" where nothing gives one."""
    n_layer: int
    n_embd: int
    n_ff: int
    n_head: int
    n_head_kv: int
    head_dim_k: int
    head_dim_v: int
    n_ctx_train: int
    n_vocab: int
    tied_output: bool
    file_type: str
    """As transformers.js and we name files: F32, F16, INT8, Q8, Q4; "ONNX" where that says
    nothing."""

    @property
    def n_params(self) -> int:
        """Numbers in a Llama of this shape, norms included."""
        heads = (2 * self.n_head + 2 * self.n_head_kv) * self.head_dim_k
        layer = self.n_embd * (heads + 3 * self.n_ff + 2)
        matrices = 1 if self.tied_output else 2
        return self.n_layer * layer + self.n_embd * (matrices * self.n_vocab + 1)

    @property
    def kv_type(self) -> str:
        """Type of the KV cache, which the graph decides."""
        return "f16" if self.file_type in ("F16", "Q4F16") else "f32"

    @property
    def bits_per_weight(self) -> float:
        """Of all that is stored."""
        return 8 * self.file_size / self.n_params

    @cached_property
    def template(self) -> str | None:
        """The chat template.

        Raises:
            ModelError: it cannot be read.
        """
        separate = self.folder / "chat_template.jinja"
        if separate.is_file():
            return _text(separate, _MOST_TEMPLATE)
        given = self.document("tokenizer_config.json").get("chat_template")
        if isinstance(given, list):  # several by name
            named = {
                each.get("name"): each.get("template") for each in given if isinstance(each, dict)
            }
            given = named.get("default")
        return given if isinstance(given, str) else None

    @property
    def has_template(self) -> bool:
        """Whether there is a chat template."""
        return self.template is not None

    def document(self, name: str) -> Mapping[str, Any]:
        """A JSON object of the folder; empty where there is none.

        Raises:
            ModelError: it cannot be read, or is something else.
        """
        path = self.folder / name
        return _json(path) if path.is_file() else {}


def read_onnx(path: Path) -> OnnxHeader:
    """Read and check what stands beside the graph at `path`.

    Raises:
        ModelError: a file is missing or cannot be read.
        DamagedModelError: config.json is not one of a decoder.
    """
    folder = next(
        (each for each in (path.parent, path.parent.parent) if (each / _CONFIG).is_file()), None
    )
    if folder is None:
        raise ModelError("onnx.no-config", path=str(path))
    config = folder / _CONFIG
    try:
        shape = _Shape.model_validate(_json(config))
    except ValidationError as error:
        raise DamagedModelError(
            "onnx.bad-file", path=str(config), reason=fault_text(error)
        ) from None
    try:
        files = (path, *_weights(path))
        size = sum(file.stat().st_size for file in files)
    except OSError as error:
        raise ModelError("gguf.unreadable", path=str(path), reason=error.strerror or "") from error
    head_dim = shape.head_dim or max(1, shape.hidden_size // shape.num_attention_heads)
    return OnnxHeader(
        path=path,
        folder=folder,
        files=files,
        file_size=size,
        architecture=one_line(shape.model_type, 64),
        name="",
        n_layer=shape.num_hidden_layers,
        n_embd=shape.hidden_size,
        n_ff=shape.intermediate_size,
        n_head=shape.num_attention_heads,
        n_head_kv=shape.num_key_value_heads or shape.num_attention_heads,
        head_dim_k=head_dim,
        head_dim_v=head_dim,
        n_ctx_train=shape.max_position_embeddings,
        n_vocab=shape.vocab_size,
        tied_output=shape.tie_word_embeddings,
        file_type=_TYPES.get(path.stem.removeprefix("model"), "ONNX"),
    )


def _weights(path: Path) -> list[Path]:
    """The files of weights that belong to a graph, as exporters name them."""
    beginnings = (f"{path.name}_data", f"{path.name}.data")
    return sorted(
        file for file in path.parent.iterdir()
        if file.name.startswith(beginnings) and file.is_file()
    )  # fmt: skip


def _json(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(_text(path, _MOST_JSON))
    except (ValueError, RecursionError) as error:
        reason = one_line(error)
        raise DamagedModelError("onnx.bad-file", path=str(path), reason=reason) from error
    if not isinstance(content, dict):
        reason = type(content).__name__
        raise DamagedModelError("onnx.bad-file", path=str(path), reason=reason)
    return content


def _text(path: Path, most: int) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(most + 1)
        if len(raw) > most:
            raise DamagedModelError("onnx.bad-file", path=str(path), reason=f"> {most >> 20} MiB")
        return raw.decode("utf-8")
    except OSError as error:
        raise ModelError("gguf.unreadable", path=str(path), reason=error.strerror or "") from error
    except UnicodeDecodeError as error:
        raise DamagedModelError("onnx.bad-file", path=str(path), reason="UTF-8") from error
