"""How large a model is as a GGUF file, and how much of it a token reads.

llama.cpp's quantizer gives each matrix a type by its place (`llama-quant.cpp`): the output
matrix, on which most depends, and in the mixtures called M some of the values and of the
FFN's outputs get more bits. Where a row is no multiple of 256, the K-quants fall back to
types with blocks of 32, which are larger.

Decode reads every weight once for each token, but of an embedding only one row; unless it
is the output matrix too, when it is read whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

from edge.device import Device
from edge.engine import LoadOptions
from edge.gguf_types import TENSOR_TYPES, GGUFHeader, TensorInfo
from edge.llama_config import LlamaConfig
from edge.memory import estimate

__all__ = [
    "QUANTIZATIONS",
    "bytes_per_token",
    "file_bytes",
    "kv_bytes_per_token",
    "memory_bytes",
    "tensors",
]

_TYPES = {kind.name: kind for kind in TENSOR_TYPES.values()}
_FALLBACK = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
_F16 = 2


@dataclass(frozen=True, slots=True)
class _Mixture:
    """Which types a quantization gives."""

    most: str
    """To all matrices but these."""
    output: str
    more: str | None = None
    """To values and FFN outputs in the layers that get more bits."""


_MIXTURES = {
    "F16": _Mixture("F16", "F16"),
    "Q8_0": _Mixture("Q8_0", "Q8_0"),
    "Q6_K": _Mixture("Q6_K", "Q6_K"),
    "Q5_K_M": _Mixture("Q5_K", "Q6_K", "Q6_K"),
    "Q4_K_M": _Mixture("Q4_K", "Q6_K", "Q6_K"),
    "Q4_0": _Mixture("Q4_0", "Q6_K"),
}
QUANTIZATIONS = tuple(_MIXTURES)
"""Those that are reckoned with, the most exact first."""

_TEXT_BYTES = 36
"""Of each token in the file: its text, score and type, and its share of the merges. SmolLM2's
49,152 tokens and the rest of the metadata take 36.3 bytes a token."""


def tensors(config: LlamaConfig, quantization: str) -> tuple[TensorInfo, ...]:
    """The tensors of the GGUF file, as llama.cpp's quantizer makes them.

    Args:
        config: the model.
        quantization: one of `QUANTIZATIONS`.
    """
    return tuple(_tensors(config, _MIXTURES[quantization]))


def _tensors(config: LlamaConfig, mixture: _Mixture) -> Iterator[TensorInfo]:
    width, ffn, vocab = config.hidden_size, config.intermediate_size, config.vocab_size
    q, kv = (
        heads * config.head_dim
        for heads in (config.num_attention_heads, config.num_key_value_heads)
    )
    tied = config.tie_word_embeddings
    yield _matrix("token_embd", (width, vocab), mixture.output if tied else mixture.most)
    if not tied:
        yield _matrix("output", (width, vocab), mixture.output)
    yield _norm("output_norm", width)
    for n in range(config.num_hidden_layers):
        most = mixture.most
        more = mixture.more if mixture.more and _more_bits(n, config.num_hidden_layers) else most
        for name, shape, kind in (
            ("attn_q", (width, q), most),
            ("attn_k", (width, kv), most),
            ("attn_v", (width, kv), more),
            ("attn_output", (q, width), most),
            ("ffn_gate", (width, ffn), most),
            ("ffn_up", (width, ffn), most),
            ("ffn_down", (ffn, width), more),
        ):
            yield _matrix(f"blk.{n}.{name}", shape, kind)
        yield _norm(f"blk.{n}.attn_norm", width)
        yield _norm(f"blk.{n}.ffn_norm", width)


def _more_bits(n: int, layers: int) -> bool:
    """The first and the last eighth of the layers, and every third between (`use_more_bits`)."""
    first, last = layers // 8, 7 * layers // 8
    return n < first or n >= last or (n - first) % 3 == 2


def _matrix(name: str, shape: tuple[int, int], wanted: str) -> TensorInfo:
    """[inputs, outputs], whose rows are of `inputs` weights."""
    kind = wanted
    while shape[0] % _TYPES[kind].block:
        kind = _FALLBACK.get(kind, "F16")
    return _tensor(name, shape, kind)


def _norm(name: str, width: int) -> TensorInfo:
    return _tensor(name, (width,), "F32")


def _tensor(name: str, shape: tuple[int, ...], kind: str) -> TensorInfo:
    block = _TYPES[kind]
    size = prod(shape) // block.block * block.n_bytes
    return TensorInfo(f"{name}.weight", shape, kind, offset=0, n_bytes=size)


def file_bytes(config: LlamaConfig, quantization: str) -> int:
    """Size of the GGUF file, its vocabulary included, to about a megabyte."""
    weights = sum(tensor.n_bytes for tensor in tensors(config, quantization))
    return weights + config.vocab_size * _TEXT_BYTES


def bytes_per_token(config: LlamaConfig, quantization: str) -> int:
    """Bytes of weights that decode reads for each token; the KV cache comes on top."""
    return sum(
        tensor.n_bytes
        for tensor in tensors(config, quantization)
        if config.tie_word_embeddings or tensor.name != "token_embd.weight"
    )


def kv_bytes_per_token(config: LlamaConfig) -> int:
    """Bytes of keys and values in f16 that each token of the context holds."""
    heads = config.num_key_value_heads * config.head_dim
    return 2 * config.num_hidden_layers * heads * _F16


def memory_bytes(config: LlamaConfig, quantization: str, context: int, device: Device) -> int:
    """The engine's peak with one conversation of `context` tokens, by the runtime's own estimate.

    Weights are not rearranged, as where memory is scarce.
    """
    made = tensors(config, quantization)
    size = file_bytes(config, quantization)
    parameters = config.parameters
    header = GGUFHeader(
        path=Path(),
        file_size=size,
        version=3,
        architecture="llama",
        name="",
        n_layer=config.num_hidden_layers,
        n_embd=config.hidden_size,
        n_ff=config.intermediate_size,
        n_head=config.num_attention_heads,
        n_head_kv=config.num_key_value_heads,
        head_dim_k=config.head_dim,
        head_dim_v=config.head_dim,
        n_ctx_train=config.max_position_embeddings,
        n_vocab=config.vocab_size,
        n_merges=config.vocab_size,
        has_tokenizer_json=False,
        n_swa=0,
        n_layer_swa=0,
        n_params=parameters,
        file_type=quantization,
        bits_per_weight=8 * size / parameters,
        template=None,
        metadata={},
        tensors=made,
    )
    options = LoadOptions(n_ctx=context, n_seq=1, n_batch=min(256, context), threads=1,
                          threads_batch=1)  # fmt: skip
    return estimate(header, options, device.cpu.flags).total
