"""The numbers that shape a model: present, of the right type, sane, and in accord.

llama.cpp asserts or divides by many of them (`llama_model_base::load_hparams` and the
graphs in `src/models`), so each is checked for what is done with it there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from edge.errors import DamagedModelError
from edge.gguf_types import Array, Scalar, ValueType
from edge.gguf_window import printable

if TYPE_CHECKING:
    from edge.gguf_architecture import Architecture
    from edge.gguf_reader import RawFile

__all__ = ["Hyperparameters", "read_hyperparameters"]

_MOST_LAYERS = 512  # LLAMA_MAX_LAYERS
_MOST = 2**31 - 1
_LEAST_WINDOW = 64
"""Tokens: the smallest models that are published have 256, and 7 hold no question."""
_MOST_HEAD = 8192
_MOST_WINDOW = 1 << 24  # times the number of sequences it must fit 32 bits
_ROPE_SCALINGS = ("none", "linear", "yarn", "longrope")
_LAYERED = ("feed_forward_length", "attention.head_count", "attention.head_count_kv")
_INTEGERS = (
    *_LAYERED,
    "vocab_size",
    "context_length",
    "embedding_length",
    "block_count",
    "attention.key_length",
    "attention.value_length",
    "attention.key_length_swa",
    "attention.value_length_swa",
    "attention.sliding_window",
    "attention.sliding_window_pattern",
    "rope.dimension_count",
    "rope.dimension_count_swa",
    "rope.scaling.original_context_length",
)
_ZEROS = (
    "expert_count",
    "expert_used_count",
    "expert_group_count",
    "expert_group_used_count",
    "nextn_predict_layers",
    "pooling_type",
)
"""What these would turn on (experts, several tokens a step, embeddings) is not supported."""
_FLOATS = (
    "attention.layer_norm_epsilon",
    "attention.layer_norm_rms_epsilon",
    "attention.scale",
    "attention.temperature_scale",
    "attn_logit_softcapping",
    "embedding_scale",
    "final_logit_softcapping",
    "logit_scale",
    "residual_scale",
    "rope.freq_base",
    "rope.freq_base_swa",
    "rope.scale_linear",
    "rope.scaling.alpha",
    "rope.scaling.attn_factor",
    "rope.scaling.factor",
    "rope.scaling.yarn_attn_factor",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
    "rope.scaling.yarn_ext_factor",
    "rope.scaling.yarn_log_multiplier",
)
_NOT_NEGATIVE = ("attention.layer_norm_epsilon", "attention.layer_norm_rms_epsilon")
_POSITIVE = (
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "logit_scale",
    "rope.freq_base",
    "rope.freq_base_swa",
)
_KINDS = (
    dict.fromkeys((*_INTEGERS, *_ZEROS), ValueType.UINT32)
    | dict.fromkeys(_FLOATS, ValueType.FLOAT32)
    | dict.fromkeys(("rope.scaling.type", "tensor_data_layout"), ValueType.STRING)
    | dict.fromkeys(("rope.scaling.finetuned", "attention.causal"), ValueType.BOOL)
)
"""The keys that llama.cpp's converter writes for the architectures here, and their types."""


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """Checked numbers, the same for all layers."""

    n_layer: int
    n_embd: int
    n_ff: int
    n_head: int
    n_head_kv: int
    head_dim: int
    n_rot: int
    n_ctx_train: int
    n_swa: int
    n_layer_swa: int
    long_rope: bool


def read_hyperparameters(
    raw: RawFile, name: str, architecture: Architecture, n_vocab: int
) -> Hyperparameters:
    """Read and check every key that begins with the architecture's `name`."""
    keys = _Keys(raw, name)
    keys.check_all(architecture)
    n_layer = keys.integer("block_count", most=_MOST_LAYERS)
    keys.same("vocab_size", n_vocab)
    n_embd = keys.integer("embedding_length", least=2)
    n_ff = keys.layered("feed_forward_length", n_layer, least=2)
    n_head = keys.layered("attention.head_count", n_layer)
    n_head_kv = keys.layered("attention.head_count_kv", n_layer, default=n_head)
    if n_head % n_head_kv:
        keys.wrong("attention.head_count_kv", n_head_kv)
    head_dim = keys.integer(
        "attention.key_length", least=2, most=_MOST_HEAD, default=n_embd // n_head
    )
    if head_dim % 2 or (architecture.square and n_head * head_dim != n_embd):
        keys.wrong("attention.key_length", head_dim)
    keys.same("attention.value_length", head_dim, default=n_embd // n_head)
    keys.same("attention.key_length_swa", head_dim)
    keys.same("attention.value_length_swa", head_dim)
    n_rot = keys.integer("rope.dimension_count", least=2, most=head_dim, default=head_dim)
    if n_rot % 2 or (architecture.full_rope and n_rot != head_dim):
        keys.wrong("rope.dimension_count", n_rot)
    keys.same("rope.dimension_count_swa", n_rot)
    n_ctx_train = keys.integer("context_length", least=_LEAST_WINDOW)
    keys.integer("rope.scaling.original_context_length", default=n_ctx_train)
    n_swa, n_layer_swa = _windows(keys, architecture, n_layer)
    return Hyperparameters(
        n_layer=n_layer,
        n_embd=n_embd,
        n_ff=n_ff,
        n_head=n_head,
        n_head_kv=n_head_kv,
        head_dim=head_dim,
        n_rot=n_rot,
        n_ctx_train=n_ctx_train,
        n_swa=n_swa,
        n_layer_swa=n_layer_swa,
        long_rope=keys.value("rope.scaling.type") == "longrope",
    )


def _windows(keys: _Keys, architecture: Architecture, n_layer: int) -> tuple[int, int]:
    """The length of the sliding window, and how many layers have one."""
    if architecture.window == "never":
        return 0, 0
    if architecture.window == "required":
        # Gemma 2's files may leave it out: llama.cpp then takes 4096.
        n_swa = keys.integer("attention.sliding_window", most=_MOST_WINDOW, default=4096)
    else:
        n_swa = keys.integer("attention.sliding_window", least=0, most=_MOST_WINDOW, default=0)
        if n_swa == 0:
            return 0, 0
    key = "attention.sliding_window_pattern"
    pattern = keys.value(key)
    if isinstance(pattern, Array):
        layers = [bool(v) for v in pattern.values or ()]
        if len(layers) != n_layer:
            keys.wrong(key, f"[{pattern.count}]")
    else:
        period = architecture.window_period if pattern is None else keys.integer(key, least=0)
        layers = [period == 0 or layer % period < period - 1 for layer in range(n_layer)]
    # llama.cpp asserts that a model with windows has them somewhere.
    if not any(layers):
        keys.wrong(key, "".join("01"[layer] for layer in layers))
    return n_swa, sum(layers)


class _Keys:
    """The values under one architecture's prefix."""

    def __init__(self, raw: RawFile, prefix: str) -> None:
        self.raw = raw
        self.prefix = prefix

    def value(self, key: str) -> Scalar | Array | None:
        return self.raw.values.get(f"{self.prefix}.{key}")

    def wrong(self, key: str, value: object) -> NoReturn:
        raise self.raw.window.damaged(
            "key-value", key=f"{self.prefix}.{key}", value=printable(value)
        )

    def integer(
        self, key: str, *, least: int = 1, most: int = _MOST, default: int | None = None
    ) -> int:
        value = self.value(key)
        if value is None:
            if default is None:
                raise self.missing(key)
            value = default
        if not isinstance(value, int):
            raise self.of_type(key, "UINT32")
        if not least <= value <= most:
            self.wrong(key, value)
        return value

    def layered(self, key: str, n_layer: int, *, least: int = 1, default: int | None = None) -> int:
        """A number for all layers, which may also stand there once for each."""
        value = self.value(key)
        if not isinstance(value, Array):
            return self.integer(key, least=least, default=default)
        numbers = value.values or ()
        if len(numbers) != n_layer:
            self.wrong(key, f"[{value.count}]")
        first = numbers[0]
        if numbers.count(first) != n_layer:
            raise self.raw.window.unsupported("layers-differ", key=f"{self.prefix}.{key}")
        if not isinstance(first, int) or not least <= first <= _MOST:
            self.wrong(key, first)
        return first

    def same(self, key: str, expected: int, default: int | None = None) -> None:
        """Where the key is given it must say `expected`; else its default must."""
        found = self.value(key)
        if found is None:
            found = expected if default is None else default
        if found != expected:
            raise self.raw.window.damaged(
                "key-differs",
                key=f"{self.prefix}.{key}",
                value=printable(found),
                expected=expected,
            )

    def check_all(self, architecture: Architecture) -> None:
        """Types of all keys, and the values of those that stand for themselves."""
        prefix = f"{self.prefix}."
        for full, kind in self.raw.kinds.items():
            if full.startswith(prefix):
                self.check(full.removeprefix(prefix), kind)
        for key in architecture.needs:
            if self.value(key) is None:
                raise self.missing(key)

    def check(self, key: str, kind: ValueType) -> None:
        window = self.raw.window
        expected = _KINDS.get(key)
        if expected is None:
            raise window.unsupported("unknown-key", key=f"{self.prefix}.{key}")
        value = self.value(key)
        if kind is ValueType.ARRAY:
            self.check_array(key, value)
        elif kind is not expected:
            raise self.of_type(key, expected.name)
        elif (key in _ZEROS and value != 0) or (key == "attention.causal" and value is False):
            raise window.unsupported("setting", key=f"{self.prefix}.{key}", value=str(value))
        elif key == "rope.scaling.type" and value not in _ROPE_SCALINGS:
            raise window.unsupported("setting", key=f"{self.prefix}.{key}", value=printable(value))
        elif isinstance(value, float):
            self.check_float(key, value)

    def check_array(self, key: str, value: object) -> None:
        kinds = [ValueType.UINT32, ValueType.INT32]
        if key == "attention.sliding_window_pattern":
            kinds.append(ValueType.BOOL)
        elif key not in _LAYERED:
            raise self.of_type(key, _KINDS[key].name)
        if not isinstance(value, Array) or value.kind not in kinds:
            raise self.of_type(key, "UINT32[]")

    def check_float(self, key: str, value: float) -> None:
        low = 0 if key in _NOT_NEGATIVE else -math.inf
        if not math.isfinite(value) or value < low or (key in _POSITIVE and value <= 0):
            self.wrong(key, value)

    def missing(self, key: str) -> DamagedModelError:
        return self.raw.window.damaged("missing-key", key=f"{self.prefix}.{key}")

    def of_type(self, key: str, expected: str) -> DamagedModelError:
        return self.raw.window.damaged("key-type", key=f"{self.prefix}.{key}", expected=expected)
