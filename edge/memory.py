"""How much memory the engine's process will need, before anything is loaded.

The formulas follow llama.cpp's CPU backend as `edge.llamacpp.engine` drives it: weights
mapped from the file, flash attention on, one KV cache for all sequences, logits for one
token of each sequence. Lengths in brackets name the dimensions:

    N tokens of a step   C cells of the KV cache   S sequences   V tokens of the vocabulary
    E embedding   F feed-forward   Q all query heads   K all key heads

What a first answer by a JSON schema adds stands beside the total, as most never ask for one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edge.engine import LoadOptions
from edge.errors import MemoryRefusedError
from edge.gguf_types import GGUFHeader, TensorInfo
from edge.gguf_window import printable
from edge.header import Header

if TYPE_CHECKING:
    from edge.onnx_header import OnnxHeader

__all__ = ["MemoryEstimate", "estimate", "require"]

_MIB = 1 << 20
_CELLS = 256  # llama_context rounds the window up to it, and llama_kv_cache what it looks at
_LEAST_CONTEXT = 1024  # a smaller window is no choice to offer
_KV_BYTES = {"f16": 2.0, "q8_0": 34 / 32}
_CELL_BYTES = 160
"""Of each cell: position, 2D position, shift and the set of its sequences (52 bytes in
llama_kv_cells), and its nodes in three ordered containers."""
_PROCESS = 60 * _MIB
"""Python, the server's packages and llama.cpp's libraries: VmHWM after importing
`edge.server.process`, numpy, jinja2 and llguidance and loading the libraries."""
_TOKEN_BYTES = 160
_MERGE_BYTES = 145
"""Of each token and each merge in llama_vocab: growth of the anonymous memory between
vocabularies of 300 and of 200,000 tokens, with 10 and with 200,000 merges."""
_TABLE_BYTES = 880
"""Of each token in llguidance's tables, from the first answer by a JSON schema on: 42 MiB
for 49,152 tokens."""
_GRAPH_PROCESS = 84 * _MIB
"""As `_PROCESS`, with ONNX Runtime, tokenizers and llama.cpp's libraries, whose samplers choose."""
_LIBRARY_TOKEN_BYTES = 720
"""Of each token in the tokenizers library: 33 MiB for 49,152 tokens with their merges."""
_NODE_BYTES = 2048
_NODES_PER_TENSOR = 8
"""llama_context::graph_max_nodes; three graphs, their tensors and the scheduler's tables."""

# Types and how many rows are interleaved, by CPU flag: ggml_repack_get_optimal_repack_type.
_REPACKED = {
    "avx2": {"Q4_0": 8, "Q4_K": 8, "IQ4_NL": 8, "MXFP4": 8},
    "avx512f": {"Q2_K": 8},
    "asimddp": {
        "Q4_0": 4,
        "Q4_K": 8,
        "Q5_K": 8,
        "Q6_K": 8,
        "Q8_0": 4,
        "IQ4_NL": 4,
        "MXFP4": 4,
        "Q1_0": 4,
    },
}


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes of resident memory at the peak, by what holds them."""

    weights: int
    """The model file, which stays mapped and is read whole at the start."""
    repacked: int
    """Copies of weights, rearranged for the CPU."""
    kv: int
    """Keys and values of the whole window: llama.cpp clears, and so touches, all of them."""
    compute: int
    """Intermediate results of a step, and logits."""
    process: int
    """Python, libraries, the vocabulary and the graphs' descriptions."""
    schemas: int = 0
    """More, once an answer has followed a JSON schema; not in the total."""

    @property
    def total(self) -> int:
        """All of it but `schemas`."""
        return self.weights + self.repacked + self.kv + self.compute + self.process


def estimate(header: Header, options: LoadOptions, flags: frozenset[str]) -> MemoryEstimate:
    """The peak of the engine's process with the model of `header` loaded by `options`.

    Args:
        header: a checked header.
        options: how it would be loaded.
        flags: the CPU's features by Linux's names (`edge.device.Cpu.flags`); they decide
            which weights are rearranged.
    """
    if header.format == "ONNX":
        return _of_graph(header, options)
    tensors = header.tensors if options.repack else ()
    return MemoryEstimate(
        weights=header.file_size,
        repacked=sum(_repacked_bytes(header, tensor, flags) for tensor in tensors),
        kv=_kv_bytes(header, options),
        compute=_compute_bytes(header, options),
        process=_process_bytes(header),
        schemas=header.n_vocab * _TABLE_BYTES,
    )


def _of_graph(header: OnnxHeader, options: LoadOptions) -> MemoryEstimate:
    """With ONNX Runtime: matrices are rearranged as they are loaded, into memory of their own.

    Of the file only the embedding's rows stay mapped; KV pages are taken as they are filled.
    """
    kv_dim = header.n_head_kv * header.head_dim_k
    kv_bytes = 2 if header.kv_type == "f16" else 4
    n = options.n_batch
    scores = header.n_head * n * options.n_ctx
    widest = n * (4 * header.n_ff + 4 * header.n_embd)
    embedding = header.n_vocab * header.n_embd / header.n_params
    return MemoryEstimate(
        weights=int(header.file_size * embedding),
        repacked=header.file_size,
        kv=2 * header.n_layer * kv_dim * kv_bytes * options.n_ctx,
        compute=4 * (scores + widest + 2 * options.n_seq * header.n_vocab),
        process=_GRAPH_PROCESS + header.n_vocab * _LIBRARY_TOKEN_BYTES,
        schemas=header.n_vocab * _TABLE_BYTES,
    )


def _cells(options: LoadOptions) -> int:
    return -(-options.n_ctx // _CELLS) * _CELLS


def _repacked_bytes(header: GGUFHeader, tensor: TensorInfo, flags: frozenset[str]) -> int:
    """A tensor's copy, as large as it is, if it is multiplied by and the CPU has a kernel for it.

    Looking up rows works on the original, so a token embedding is copied only where it is
    the output matrix too.
    """
    if tensor.name == "token_embd.weight" and not header.tied_output:
        return 0
    interleaved = [
        _REPACKED[flag][tensor.type]
        for flag in flags & _REPACKED.keys()
        if tensor.type in _REPACKED[flag]
    ]
    if len(tensor.shape) != 2 or not any(tensor.shape[1] % rows == 0 for rows in interleaved):
        return 0
    return tensor.n_bytes


def _kv_bytes(header: GGUFHeader, options: LoadOptions) -> int:
    """[C, K] keys and [C, K] values of every layer, those with a sliding window included.

    Their caches could be short, but a conversation could then not be cut (`swa_full`).
    """
    per_cell = header.n_head_kv * (header.head_dim_k + header.head_dim_v)
    cells = _cells(options)
    return int(cells * (header.n_layer * per_cell * _KV_BYTES[options.kv_type] + _CELL_BYTES))


def _compute_bytes(header: GGUFHeader, options: LoadOptions) -> int:
    """What ggml-alloc overlays: the widest moment of a layer, or the logits, and the inputs."""
    cells = _cells(options)
    n = min(options.n_batch, cells)
    q, k = header.n_head * header.head_dim_k, header.n_head_kv * header.head_dim_k
    # Gate, up and their product (Nemotron has no gate) beside the residual, its norm, the
    # input and the output.
    ffn = (1 if header.architecture == "nemotron" else 3) * header.n_ff + 4 * header.n_embd
    # Queries and attended values, keys and values with their rotated copies.
    attention = 2 * q + 3 * k + 4 * header.n_embd
    outputs = options.n_seq * header.n_vocab
    widest = max(n * max(ffn, attention), 2 * n * header.n_embd + outputs)  # f32
    mask = 2 * cells * n  # f16
    # The right-hand side of a product in the type of the left: 2 bytes at most (f16).
    narrow = all(t.type not in ("F16", "BF16") for t in header.tensors)
    work = int(n * max(header.n_ff, q, header.n_embd) * (36 / 32 if narrow else 2))
    return 4 * widest + mask + work + 4 * outputs


def _process_bytes(header: GGUFHeader) -> int:
    vocabulary = header.n_vocab * _TOKEN_BYTES + header.n_merges * _MERGE_BYTES
    if header.has_tokenizer_json:
        vocabulary += header.n_vocab * _LIBRARY_TOKEN_BYTES
    nodes = max(1024, _NODES_PER_TENSOR * len(header.tensors))
    return _PROCESS + vocabulary + nodes * _NODE_BYTES


def require(
    needed: MemoryEstimate,
    available: int,
    header: Header,
    options: LoadOptions,
    flags: frozenset[str],
) -> None:
    """Refuse to load what would not fit, and name the nearest choice that would.

    Args:
        needed: the estimate for `options`.
        available: bytes that the process may take.
        header: the model.
        options: how it would be loaded.
        flags: as for `estimate`.

    Raises:
        MemoryRefusedError: `needed` is more than `available`.
    """
    if needed.total <= available:
        return
    name = header.name or printable(header.path.name)
    facts = {"model": name, "available": _megabytes(available)}
    for part in ("weights", "repacked", "kv", "compute", "process", "total"):
        facts[part] = _megabytes(getattr(needed, part))
    least = needed.total
    for choice in _choices(header, options):
        smaller = estimate(header, choice, flags).total
        if smaller <= available:
            raise MemoryRefusedError(
                "memory.fits-repacked" if choice.repack else "memory.fits",
                **facts,
                n_ctx=choice.n_ctx,
                kv_type=choice.kv_type,
                smaller=_megabytes(smaller),
            )
        least = min(least, smaller)
    raise MemoryRefusedError("memory.too-large", **facts, least=_megabytes(least))


def _choices(header: Header, options: LoadOptions) -> Iterator[LoadOptions]:
    """Other ways to load, those that lose least first: window, KV precision, prefill speed."""
    kv_types = [options.kv_type]
    quantizable = header.format == "GGUF" and header.head_dim_k % 32 == 0
    if options.kv_type == "f16" and quantizable:
        kv_types.append("q8_0")
    for repack in (True, False) if options.repack else (False,):
        for kv_type in kv_types:
            n_ctx = options.n_ctx
            while n_ctx >= min(_LEAST_CONTEXT, options.n_ctx):
                yield replace(options, n_ctx=n_ctx, kv_type=kv_type, repack=repack)
                n_ctx //= 2


def _megabytes(n: int) -> int:
    return -(-n // 1_000_000)
