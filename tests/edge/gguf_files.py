"""Tiny GGUF models of every supported architecture, in a form that tests can spoil.

Written by hand and not by gguf-py, which refuses to write what is wrong.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge.gguf_architecture import _SHAPES, ARCHITECTURES
from edge.gguf_types import SCALARS, TENSOR_TYPES, ValueType

U32, I32, F32 = ValueType.UINT32, ValueType.INT32, ValueType.FLOAT32
BOOL, STRING, ARRAY = ValueType.BOOL, ValueType.STRING, ValueType.ARRAY

TYPE_NUMBERS = {kind.name: number for number, kind in TENSOR_TYPES.items()}


@dataclass(frozen=True)
class Value:
    kind: int
    value: Any
    element: int = 0
    """Type of an array's elements."""


@dataclass
class Tensor:
    shape: tuple[int, ...]
    type: int = 0
    offset: int | None = None
    """None: where it belongs."""
    n_bytes: int | None = None


@dataclass
class Model:
    pairs: dict[str, Value]
    tensors: dict[str, Tensor]
    version: int = 3
    alignment: int = 32
    extra_pairs: list[tuple[str, Value]] = field(default_factory=list)

    def set(self, key: str, kind: int, value: Any, element: int = 0) -> None:
        self.pairs[key] = Value(kind, value, element)

    def header(self) -> tuple[bytes, int]:
        """The encoded header, padded, and how many bytes of data follow it."""
        pairs = [*self.pairs.items(), *self.extra_pairs]
        out = bytearray(b"GGUF" + struct.pack("<IQQ", self.version, len(self.tensors), len(pairs)))
        for key, value in pairs:
            out += _text(key) + struct.pack("<I", value.kind) + _encode(value)
        offset = 0
        for name, tensor in self.tensors.items():
            place = offset if tensor.offset is None else tensor.offset
            out += _text(name) + struct.pack("<I", len(tensor.shape))
            out += struct.pack(f"<{len(tensor.shape)}Q", *tensor.shape)
            out += struct.pack("<IQ", tensor.type, place)
            offset += -(-_size(tensor) // self.alignment) * self.alignment
        out += bytes(-len(out) % self.alignment)
        return bytes(out), offset

    def write(self, path: Path) -> Path:
        """Write it with all weights zero, as a hole in the file."""
        header, n_data = self.header()
        with path.open("wb") as file:
            file.write(header)
            file.truncate(len(header) + n_data)
        return path


def tiny(architecture: str, tokenizer: str = "gpt2", n_layer: int = 2) -> Model:
    """A model with two layers, 4 heads of 16 that share 2 keys, and 300 tokens."""
    spec = ARCHITECTURES[architecture]
    sizes = {
        "n_embd": 64, "n_vocab": 300, "n_ff": 96, "n_ff_twice": 192, "head_dim": 16,
        "n_q": 64, "n_k": 32, "n_qkv": 128, "n_rot_pairs": 8,
    }  # fmt: skip
    integers = {
        "context_length": 512, "embedding_length": 64, "block_count": n_layer,
        "feed_forward_length": 96, "attention.head_count": 4, "attention.head_count_kv": 2,
        "attention.key_length": 16, "attention.value_length": 16, "rope.dimension_count": 16,
        "vocab_size": 300,
    }  # fmt: skip
    if spec.window != "never":
        integers["attention.sliding_window"] = 32
    pairs = {"general.architecture": Value(STRING, architecture)}
    pairs |= {f"{architecture}.{key}": Value(U32, number) for key, number in integers.items()}
    pairs |= {f"{architecture}.{key}": Value(F32, 0.5) for key in spec.needs}
    pairs[f"{architecture}.rope.freq_base"] = Value(F32, 10000.0)
    pairs |= _tokenizer(tokenizer)
    shapes = _SHAPES | dict(spec.shapes)
    names = spec.whole.split()
    if spec.output == "required":
        names.append("output.weight")
    tensors = {name: Tensor(tuple(sizes[d] for d in shapes[name])) for name in names}
    for layer in range(n_layer):
        for name in spec.block.split():
            shape = tuple(sizes[d] for d in shapes[name])
            tensors[f"blk.{layer}.{name}"] = Tensor(shape)
    return Model(pairs, tensors)


def _tokenizer(model: str) -> dict[str, Value]:
    if model == "gpt2":
        tokens = [*"<>", *[chr(0x100 + i) for i in range(256)]]
    else:
        tokens = ["<unk>", "<s>", "</s>", *[f"<0x{byte:02X}>" for byte in range(256)], "▁"]
    tokens += [f"t{i}" for i in range(300 - len(tokens))]
    pairs = {
        "tokenizer.ggml.model": Value(STRING, model),
        "tokenizer.ggml.tokens": Value(ARRAY, tokens, STRING),
        "tokenizer.ggml.token_type": Value(ARRAY, [3, 3, 3] + [1] * 297, I32),
        "tokenizer.ggml.bos_token_id": Value(U32, 1),
        "tokenizer.ggml.eos_token_id": Value(U32, 2),
        "tokenizer.ggml.add_bos_token": Value(BOOL, True),
    }
    if model == "gpt2":
        pairs["tokenizer.ggml.pre"] = Value(STRING, "gpt-2")
        pairs["tokenizer.ggml.merges"] = Value(ARRAY, ["t 1", "t 2"], STRING)
    else:
        pairs["tokenizer.ggml.scores"] = Value(ARRAY, [-float(i) for i in range(300)], F32)
    return pairs


def _text(text: str | bytes) -> bytes:
    data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    return struct.pack("<Q", len(data)) + data


def _encode(value: Value) -> bytes:
    if value.kind == STRING:
        return _text(value.value)
    if value.kind == ARRAY:
        head = struct.pack("<IQ", value.element, len(value.value))
        return head + b"".join(_encode(Value(value.element, item)) for item in value.value)
    if value.kind not in SCALARS:
        return b""
    return SCALARS[ValueType(value.kind)].pack(value.value)


def _size(tensor: Tensor) -> int:
    if tensor.n_bytes is not None:
        return tensor.n_bytes
    kind = TENSOR_TYPES[tensor.type]
    elements = 1
    for length in tensor.shape:
        elements *= length
    return elements // kind.block * kind.n_bytes
