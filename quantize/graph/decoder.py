"""The decoder of a Llama model as an ONNX graph of ONNX Runtime's fused operators.

    input_ids [B, S] ─▶ embedding ─▶ N × (norm, attention, +, norm, SwiGLU, +) ─▶ norm ─▶ logits
    attention_mask [B, T]                      ▲ past_key_values.n.key, .value [B, KV, P, D]
                                               ▼ present.n.key, .value         [B, KV, T, D]

Names and shapes are those that onnxruntime-genai and transformers.js expect; T = P + S.
Positions follow from the mask. GroupQueryAttention rotates queries and keys, and where past
and present are one buffer, it writes new keys into it and copies nothing.

Logits [B, 1, V] are those after the last token alone: of a prompt no others are wanted, and
the vocabulary's matrix is a fifth of a small model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from onnx import TensorProto, helper

from edge.llama_config import LlamaConfig
from quantize.checkpoint.llama_tensors import rope_factors
from quantize.graph.matrices import Matrix, Storage
from quantize.graph.network import CONTRIB, Network

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

__all__ = ["LAST_STATE", "Read", "Scales", "decoder", "interface"]

LAST_STATE = "/model/last_token/Gather"
"""Name of the node that keeps the last token's state; it is given that of all."""

Read: TypeAlias = "Callable[[Sequence[str], str], NDArray[Any]]"
"""Reads tensors by Hugging Face's names, one below the other, as `F32` or `F16`."""
Scales: TypeAlias = "Callable[[Sequence[str]], Callable[[], NDArray[np.float32]] | None]"
"""Of tensors, one below the other, what reads the scales of their blocks, if they have any."""


def decoder(
    config: LlamaConfig,
    kind: str,
    body: Storage,
    head: Storage,
    read: Read,
    importance: Mapping[str, NDArray[np.float32]],
    scales: Scales | None = None,
) -> Network:
    """The graph, whose weights are read when they are written.

    Args:
        config: the model's shape.
        kind: in what is computed between matrices, and what the KV cache holds: `F32` or `F16`.
        body: how matrices are kept.
        head: how the embedding and the output matrix are kept.
        read: gives weights.
        importance: by name of a tensor, the mean square of each input; may be empty.
        scales: gives those of matrices that stand on a grid already.
    """
    return _Decoder(config, kind, body, head, read, importance, scales, Network()).build()


def interface(
    config: LlamaConfig, kind: str
) -> tuple[list[onnx.ValueInfoProto], list[onnx.ValueInfoProto]]:
    """Inputs and outputs of the graph."""
    real = TensorProto.FLOAT if kind == "F32" else TensorProto.FLOAT16
    cache = ("batch_size", config.num_key_value_heads, "{}_sequence_length", config.head_dim)

    def value(name: str, kind: int, *shape: int | str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, shape)

    def caches(prefix: str, length: str) -> list[onnx.ValueInfoProto]:
        shape = [each.format(length) if isinstance(each, str) else each for each in cache]
        return [
            value(f"{prefix}.{n}.{part}", real, *shape)
            for n in range(config.num_hidden_layers)
            for part in ("key", "value")
        ]

    given = [
        value("input_ids", TensorProto.INT64, "batch_size", "sequence_length"),
        value("attention_mask", TensorProto.INT64, "batch_size", "total_sequence_length"),
        *caches("past_key_values", "past"),
    ]
    logits = value("logits", TensorProto.FLOAT, "batch_size", 1, config.vocab_size)
    return given, [logits, *caches("present", "total")]


@dataclass(frozen=True, slots=True)
class _Decoder:
    config: LlamaConfig
    kind: str
    body: Storage
    head: Storage
    read: Read
    importance: Mapping[str, NDArray[np.float32]]
    scales: Scales | None
    net: Network

    def build(self) -> Network:
        config, net = self.config, self.net
        lengths = self._lengths()
        rotary = self._rotary()
        vocabulary = (config.vocab_size, config.hidden_size)
        embedding = self._matrix("model.embed_tokens", ["model.embed_tokens"], *vocabulary)
        x = self.head.look_up(net, "input_ids", embedding)
        normed, residual = self._first_norm("model.layers.0.input_layernorm", x), x
        for n in range(config.num_hidden_layers):
            at = f"model.layers.{n}"
            attended = self._attention(n, normed, lengths, rotary)
            normed, residual = self._add_norm(f"{at}.post_attention_layernorm", attended, residual)
            fed = self._feed_forward(at, normed)
            last = n + 1 == config.num_hidden_layers
            following = "model.norm" if last else f"model.layers.{n + 1}.input_layernorm"
            normed, residual = self._add_norm(following, fed, residual)
        index = net.constant("last_token", np.array([-1], np.int64))
        state = net.op("Gather", [normed, index], LAST_STATE, axis=1)
        if config.tie_word_embeddings:
            logits = self.head.multiply_by_rows(net, state, embedding)
        else:
            logits = self.head.multiply(
                net, state, self._matrix("lm_head", ["lm_head"], *vocabulary)
            )
        net.op("Cast", [logits], "/logits/Cast", outputs=["logits"], to=TensorProto.FLOAT)
        return net

    def _matrix(self, name: str, tensors: Sequence[str], rows: int, columns: int) -> Matrix:
        names = [f"{tensor}.weight" for tensor in tensors]
        # Tensors that are joined have the same inputs, so what matters to one does to all.
        weighed = self.importance.get(names[0])
        known = self.scales(names) if self.scales is not None else None
        return Matrix(name, rows, columns, lambda kind: self.read(names, kind), weighed, known)

    def _lengths(self) -> tuple[str, str]:
        """Of each row the last token's position, and how long the mask is, as int32."""
        net = self.net
        one = net.constant("one", np.array([1], np.int64))
        tokens = net.op(
            "ReduceSum", ["attention_mask", one], "/model/attention_mask/ReduceSum", keepdims=0
        )
        last = net.op("Sub", [tokens, one], "/model/attention_mask/Sub")
        shape = net.op("Shape", ["attention_mask"], "/model/attention_mask/Shape")
        place = net.constant("mask_axis", np.array(1, np.int64))
        total = net.op("Gather", [shape, place], "/model/attention_mask/Gather", axis=0)
        return (
            net.op("Cast", [last], "/model/seqlens_k/Cast", to=TensorProto.INT32),
            net.op("Cast", [total], "/model/total_length/Cast", to=TensorProto.INT32),
        )

    def _rotary(self) -> tuple[str, str]:
        """Cosines and sines [positions, D / 2], in float32 as transformers computes them."""
        config = self.config
        steps = np.arange(0, config.head_dim, 2, dtype=np.float32) / np.float32(config.head_dim)
        frequencies = np.float32(1) / np.power(np.float32(config.rope_theta), steps)
        factors = rope_factors(config)
        if factors is not None:
            frequencies = frequencies / factors
        elif config.rope.rope_type == "linear":
            frequencies = frequencies / np.float32(config.rope.factor)
        positions = np.arange(config.max_position_embeddings, dtype=np.float32)
        angles = np.outer(positions, frequencies)
        return (
            self.net.constant("cos_cache", np.cos(angles).astype(self._dtype)),
            self.net.constant("sin_cache", np.sin(angles).astype(self._dtype)),
        )

    @property
    def _dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float32 if self.kind == "F32" else np.float16)

    def _gain(self, name: str) -> str:
        weight = f"{name}.weight"
        return self.net.constant(weight, self.read([weight], self.kind).reshape(-1))

    def _first_norm(self, name: str, x: str) -> str:
        return self.net.op(
            "SimplifiedLayerNormalization",
            [x, self._gain(name)],
            f"/{name}/LayerNorm",
            axis=-1,
            epsilon=self.config.rms_norm_eps,
            stash_type=1,
        )

    def _add_norm(self, name: str, x: str, residual: str) -> tuple[str, str]:
        """RMSNorm of a sum, and the sum."""
        node = f"/{name}/SkipLayerNorm"
        total = f"{node}/output_3"
        normed = self.net.op(
            "SkipSimplifiedLayerNormalization",
            [x, residual, self._gain(name)],
            node,
            outputs=[f"{node}/output_0", "", "", total],
            domain=CONTRIB,
            epsilon=self.config.rms_norm_eps,
        )
        return normed, total

    def _attention(self, n: int, x: str, lengths: tuple[str, str], rotary: tuple[str, str]) -> str:
        config = self.config
        at = f"model.layers.{n}.self_attn"
        heads, kv_heads, d = (
            config.num_attention_heads, config.num_key_value_heads, config.head_dim
        )  # fmt: skip
        parts = [f"{at}.{part}_proj" for part in "qkv"]
        width = config.hidden_size
        qkv = self._matrix(f"{at}.qkv_proj", parts, (heads + 2 * kv_heads) * d, width)
        past = [f"past_key_values.{n}.key", f"past_key_values.{n}.value"]
        node = f"/{at}/GroupQueryAttention"
        mixed = self.net.op(
            "GroupQueryAttention",
            [self.body.multiply(self.net, x, qkv), "", "", *past, *lengths, *rotary],
            node,
            outputs=[f"{node}/output_0", f"present.{n}.key", f"present.{n}.value"],
            domain=CONTRIB,
            num_heads=heads,
            kv_num_heads=kv_heads,
            scale=1 / math.sqrt(d),
            do_rotary=1,
        )
        out = self._matrix(f"{at}.o_proj", [f"{at}.o_proj"], width, heads * d)
        return self.body.multiply(self.net, mixed, out)

    def _feed_forward(self, at: str, x: str) -> str:
        width, inner = self.config.hidden_size, self.config.intermediate_size
        net, mlp = self.net, f"{at}.mlp"

        def product(part: str, x: str, rows: int, columns: int) -> str:
            name = f"{mlp}.{part}_proj"
            return self.body.multiply(net, x, self._matrix(name, [name], rows, columns))

        gate = product("gate", x, inner, width)
        up = product("up", x, inner, width)
        opened = net.op("Sigmoid", [gate], f"/{mlp}/act/Sigmoid")
        swish = net.op("Mul", [gate, opened], f"/{mlp}/act/Mul")
        return product("down", net.op("Mul", [swish, up], f"/{mlp}/Mul"), width, inner)
