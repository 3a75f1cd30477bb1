"""From a GGUF file back to a Hugging Face folder, for models that are published in no other way.

Quantized weights become the floats that they stand for: nothing that quantizing lost comes
back. Everything is written from what the file says, without torch; transformers reads the
result, its tokenizer included (transformers' own way back guesses the rules by which words
are cut, and guesses wrong for SmolLM).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np

from edge.checkpoint import checked_config
from edge.errors import DamagedModelError, ModelError
from edge.gguf_header import GGUFHeader, read_header
from edge.gguf_tokenizer import HUGGING_FACE
from edge.llama_config import LlamaConfig
from edge.progress import Progress
from edge.tokenizer_json import parse
from edge.weights_file import write_weights
from quantize.checkpoint.llama_tensors import LlamaTensor, separate, tensors
from quantize.errors import QuantizeError
from quantize.ggml.pretokenizers import rules_of
from quantize.ggml.tensors import GGUFTensors
from quantize.ggml.vocab import TokenType

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["write_checkpoint"]

_SAID = frozenset(
    (
        "vocab_size", "context_length", "embedding_length", "block_count", "feed_forward_length",
        "attention.head_count", "attention.head_count_kv", "attention.key_length",
        "attention.value_length", "attention.layer_norm_rms_epsilon", "rope.dimension_count",
        "rope.freq_base", "rope.scaling.type", "rope.scaling.factor",
    )
)  # fmt: skip
"""Hyperparameters that a config.json has, too."""
_WITHOUT_EFFECT = frozenset(
    (
        "expert_count", "expert_used_count", "expert_group_count", "expert_group_used_count",
        "nextn_predict_layers", "pooling_type", "attention.causal", "tensor_data_layout",
        "rope.scaling.finetuned", "rope.scaling.original_context_length",
    )
)  # fmt: skip
"""Those that change nothing at the values which `read_header` lets through."""
_SCALINGS = ("none", "linear")
_SHARD_BYTES = 2_000_000_000
_TYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype(np.float32), "F16": np.dtype(np.float16)}


def write_checkpoint(
    source: Path, folder: Path, kind: str = "F32", progress: Progress | None = None
) -> None:
    """Write config, tokenizer and weights of the Llama model `source` into the empty `folder`.

    Args:
        source: a GGUF file.
        folder: it must be there; a file that is interrupted stays behind in it.
        kind: type of the weights, `F32` or `F16`. What was stored in 8 bits or less keeps
            its value in F32 only.
        progress: called with bytes written.

    Raises:
        ModelError: `source` is damaged, or says what no Llama model has.
        QuantizeError: it is of another architecture, has what a Llama model of Hugging Face's
            has not, or its tokenizer is of a kind that has no equal in its format here.
    """
    header = read_header(source)
    if header.architecture != "llama":
        raise QuantizeError(
            "dequantize.architecture", path=str(source), architecture=header.architecture
        )
    file = gguf.GGUFReader(source)
    config = _config(header, file)
    shape = checked_config(source, config)
    _check_all_is_said(header, shape)
    documents = {"config.json": config, **dict(_tokenizer(source, header, file))}
    for name, content in documents.items():
        text = content if isinstance(content, str) else json.dumps(content, indent=1)
        (folder / name).write_text(text, encoding="utf-8")
    weights = GGUFTensors.open(source)
    floats = [_Float(weights, tensor, kind) for tensor in tensors(shape)]
    write_weights(floats, folder, most=_SHARD_BYTES, progress=progress)


def _check_all_is_said(header: GGUFHeader, shape: LlamaConfig) -> None:
    """Refuse what would be left out: without it, the model is another."""
    names = {tensor.gguf for tensor in tensors(shape)}
    keys = {f"llama.{key}" for key in _SAID | _WITHOUT_EFFECT}
    more = [tensor.name for tensor in header.tensors if tensor.name not in names]
    more += [key for key in header.metadata if key.startswith("llama.") and key not in keys]
    if more:
        raise QuantizeError("dequantize.unsaid", path=str(header.path), name=more[0])


def _field(file: gguf.GGUFReader, key: str) -> Any:
    found = file.fields.get(key)
    return None if found is None else found.contents()


def _config(header: GGUFHeader, file: gguf.GGUFReader) -> dict[str, Any]:
    rope: dict[str, Any] = {
        "rope_type": "default",
        "rope_theta": _field(file, "llama.rope.freq_base") or 10_000.0,
    }
    if any(tensor.name == "rope_freqs.weight" for tensor in header.tensors):
        raise QuantizeError("dequantize.rope", path=str(header.path))
    scaling = _field(file, "llama.rope.scaling.type") or "linear"  # as llama.cpp takes it
    if scaling not in _SCALINGS:
        name = f"llama.rope.scaling.type = {scaling}"
        raise QuantizeError("dequantize.unsaid", path=str(header.path), name=name)
    factor = _field(file, "llama.rope.scaling.factor")
    if scaling == "linear" and factor:
        rope |= {"rope_type": "linear", "factor": factor}
    ids = {
        f"{name}_token_id": _field(file, f"tokenizer.ggml.{key}_token_id")
        for name, key in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"), ("unk", "unknown"))
    }
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": header.n_embd,
        "intermediate_size": header.n_ff,
        "num_hidden_layers": header.n_layer,
        "num_attention_heads": header.n_head,
        "num_key_value_heads": header.n_head_kv,
        "head_dim": header.head_dim_k,
        "vocab_size": header.n_vocab,
        "max_position_embeddings": header.n_ctx_train,
        "rms_norm_eps": _shortest(_field(file, "llama.attention.layer_norm_rms_epsilon")),
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": header.tied_output,
        "rope_parameters": rope,
        **{key: id_ for key, id_ in ids.items() if id_ is not None},
    }


def _shortest(number: float) -> float:
    """The shortest decimal that a float32 stands for: 1e-05 and not 9.999999747378752e-06."""
    return float(str(np.float32(number)))


def _tokenizer(
    source: Path, header: GGUFHeader, file: gguf.GGUFReader
) -> Iterator[tuple[str, Any]]:
    model = _field(file, "tokenizer.ggml.model")
    pre = _field(file, "tokenizer.ggml.pre") or "default"
    tokens: list[str] = _field(file, "tokenizer.ggml.tokens")
    whole = _field(file, HUGGING_FACE)
    if whole is not None:
        yield "tokenizer.json", _checked(source, whole)
    elif model == "gpt2" and rules_of(pre) is not None:
        yield "tokenizer.json", _rebuilt(source, file, pre, tokens)
    else:
        raise QuantizeError("dequantize.tokenizer", path=str(source), pre=pre)
    add_bos = _field(file, "tokenizer.ggml.add_bos_token")
    if add_bos is None:  # as llama.cpp takes it
        add_bos = model == "llama" or pre == "llama-bpe"
    yield "tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": header.n_ctx_train,
        "clean_up_tokenization_spaces": False,
        "add_bos_token": bool(add_bos),
        **{
            f"{name}_token": tokens[id_]
            for name, key in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"),
                              ("unk", "unknown"))
            if (id_ := _field(file, f"tokenizer.ggml.{key}_token_id")) is not None
        },
    }  # fmt: skip
    if header.template is not None:
        yield "chat_template.jinja", header.template


def _checked(source: Path, whole: str) -> str:
    try:
        parse(whole.encode())
    except ValueError as error:
        raise DamagedModelError(
            "engine.tokenizer-json", path=str(source), key=HUGGING_FACE, reason=str(error)
        ) from error
    return whole


def _rebuilt(source: Path, file: gguf.GGUFReader, pre: str, tokens: list[str]) -> dict[str, Any]:
    """A byte-level `tokenizer.json` of the fields of GGUF."""
    kinds = _field(file, "tokenizer.ggml.token_type") or ()
    if not kinds or not set(kinds) <= set(TokenType):
        raise QuantizeError("dequantize.token-types", path=str(source))
    types = [TokenType(kind) for kind in kinds]
    added = [
        _added(id_, token, special=kind is TokenType.CONTROL)
        for id_, (token, kind) in enumerate(zip(tokens, types, strict=True))
        if kind in (TokenType.CONTROL, TokenType.USER_DEFINED)
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": rules_of(pre),
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True,
                    "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": pre == "llama-bpe",
            "vocab": {token: id_ for id_, token in enumerate(tokens)},
            "merges": [merge.split(" ", 1) for merge in _field(file, "tokenizer.ggml.merges")],
        },
    }  # fmt: skip


def _added(id_: int, token: str, *, special: bool) -> dict[str, Any]:
    return {
        "id": id_,
        "content": token,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": special,
    }


@dataclass(frozen=True)
class _Float:
    """A weight as floats, in memory only while it is written."""

    file: GGUFTensors
    tensor: LlamaTensor
    kind: str

    @property
    def name(self) -> str:
        return self.tensor.hf

    @property
    def shape(self) -> tuple[int, ...]:
        return self.tensor.shape

    def blocks(self) -> Iterator[NDArray[Any]]:
        yield _weight(self.file, self.tensor).astype(_TYPES[self.kind])


def _weight(file: GGUFTensors, tensor: LlamaTensor) -> NDArray[np.float32]:
    if tensor.gguf not in file.tensors:
        raise ModelError("gguf.missing-tensor", path=str(file.path), tensor=tensor.gguf)
    weight = file.read(tensor.gguf)
    return weight if tensor.heads is None else separate(weight, tensor.heads)
