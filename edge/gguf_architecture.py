"""The architectures that are loaded, and what a file of each must hold.

A table says which tensors an architecture has and of which shapes; the checks compare
the hyperparameters with it and with one another. They stand for the assertions of
`llama_model_base::load_hparams`, `src/models/*.cpp` and the ggml operations that the
graphs are made of. A key or tensor that is not understood is refused: llama.cpp may read
it, and what then happens has not been looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import Literal

from edge.gguf_hyperparameters import Hyperparameters, read_hyperparameters
from edge.gguf_reader import RawFile
from edge.gguf_types import TensorInfo
from edge.gguf_window import printable

__all__ = ["ARCHITECTURES", "Architecture", "check_architecture"]

_SHAPES = {
    "token_embd.weight": ("n_embd", "n_vocab"),
    "output.weight": ("n_embd", "n_vocab"),
    "output.bias": ("n_vocab",),
    "output_norm.weight": ("n_embd",),
    "output_norm.bias": ("n_embd",),
    "rope_freqs.weight": ("n_rot_pairs",),
    "rope_factors_long.weight": ("n_rot_pairs",),
    "rope_factors_short.weight": ("n_rot_pairs",),
    "attn_norm.weight": ("n_embd",),
    "attn_norm.bias": ("n_embd",),
    "attn_q.weight": ("n_embd", "n_q"),
    "attn_q.bias": ("n_q",),
    "attn_k.weight": ("n_embd", "n_k"),
    "attn_k.bias": ("n_k",),
    "attn_v.weight": ("n_embd", "n_k"),
    "attn_v.bias": ("n_k",),
    "attn_qkv.weight": ("n_embd", "n_qkv"),
    "attn_output.weight": ("n_q", "n_embd"),
    "attn_output.bias": ("n_embd",),
    "attn_q_norm.weight": ("head_dim",),
    "attn_k_norm.weight": ("head_dim",),
    "post_attention_norm.weight": ("n_embd",),
    "ffn_norm.weight": ("n_embd",),
    "ffn_norm.bias": ("n_embd",),
    "ffn_gate.weight": ("n_embd", "n_ff"),
    "ffn_gate.bias": ("n_ff",),
    "ffn_up.weight": ("n_embd", "n_ff"),
    "ffn_up.bias": ("n_ff",),
    "ffn_down.weight": ("n_ff", "n_embd"),
    "ffn_down.bias": ("n_embd",),
    "post_ffw_norm.weight": ("n_embd",),
}
"""Shape of each tensor, fastest dimension first, in the names of `_sizes`."""

_LLAMA = (
    "attn_norm.weight attn_q.weight attn_k.weight attn_v.weight attn_output.weight "
    "ffn_norm.weight ffn_gate.weight ffn_up.weight ffn_down.weight"
)
_QKV_BIAS = "attn_q.bias attn_k.bias attn_v.bias"
_LLAMA_BIAS = f"{_QKV_BIAS} attn_output.bias ffn_gate.bias ffn_up.bias ffn_down.bias"
_GEMMA = f"{_LLAMA} post_attention_norm.weight post_ffw_norm.weight"
_ROPE_FACTORS = "rope_factors_long.weight rope_factors_short.weight"


@dataclass(frozen=True, slots=True)
class Architecture:
    """What llama.cpp's loader and graph of one architecture take for granted."""

    block: str = _LLAMA
    """Tensors that every layer has."""
    block_optional: str = _QKV_BIAS
    output: Literal["required", "optional", "tied"] = "optional"
    """The output matrix; tied: the token embedding serves, and there is none."""
    whole: str = "token_embd.weight output_norm.weight"
    """Tensors outside the layers that every file has."""
    whole_optional: str = ""
    rope_factors: bool = False
    """May scale its rotary frequencies by tensors: Llama 3's way, or LongRoPE."""
    square: bool = False
    """The heads together are as wide as the embedding."""
    full_rope: bool = True
    """Rotary positions cover the whole head."""
    needs: tuple[str, ...] = ("attention.layer_norm_rms_epsilon",)
    """Keys without a default, besides the sizes."""
    window: Literal["never", "optional", "required"] = "never"
    """Sliding-window attention in some layers."""
    window_period: int = 0
    """Every so many layers one has no window, where the file does not say which."""
    shapes: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Shapes that differ from the usual."""


ARCHITECTURES = {
    "llama": Architecture(block_optional=_LLAMA_BIAS, rope_factors=True),
    "mistral3": Architecture(block_optional=_LLAMA_BIAS, rope_factors=True),
    "granite": Architecture(
        block_optional=_LLAMA_BIAS,
        rope_factors=True,
        needs=("attention.layer_norm_rms_epsilon", "logit_scale"),
    ),
    "smollm3": Architecture(),
    "qwen2": Architecture(square=True, whole_optional="output.bias"),
    "qwen3": Architecture(block=f"{_LLAMA} attn_q_norm.weight attn_k_norm.weight"),
    "gemma2": Architecture(
        block=_GEMMA,
        output="tied",
        full_rope=False,
        window="required",
        window_period=2,
    ),
    "gemma3": Architecture(
        block=f"{_GEMMA} attn_q_norm.weight attn_k_norm.weight",
        full_rope=False,
        window="optional",
        window_period=6,
    ),
    "olmo2": Architecture(
        block=(
            "attn_q.weight attn_k.weight attn_v.weight attn_output.weight attn_q_norm.weight "
            "attn_k_norm.weight post_attention_norm.weight ffn_gate.weight ffn_up.weight "
            "ffn_down.weight post_ffw_norm.weight"
        ),
        output="required",
        square=True,
        window="optional",
        window_period=4,
        shapes=(("attn_q_norm.weight", ("n_embd",)), ("attn_k_norm.weight", ("n_k",))),
    ),
    "phi3": Architecture(
        block=(
            "attn_norm.weight attn_qkv.weight attn_output.weight ffn_norm.weight "
            "ffn_up.weight ffn_down.weight"
        ),
        block_optional="",
        whole_optional=_ROPE_FACTORS,
        square=True,
        full_rope=False,
        shapes=(("ffn_up.weight", ("n_embd", "n_ff_twice")),),
    ),
    "nemotron": Architecture(
        block=(
            "attn_norm.weight attn_norm.bias attn_q.weight attn_k.weight attn_v.weight "
            "attn_output.weight ffn_norm.weight ffn_norm.bias ffn_up.weight ffn_down.weight"
        ),
        block_optional=f"{_QKV_BIAS} attn_output.bias ffn_up.bias ffn_down.bias",
        whole="token_embd.weight output_norm.weight output_norm.bias",
        output="required",
        square=True,
        full_rope=False,
        needs=("attention.layer_norm_epsilon",),
    ),
}


def check_architecture(raw: RawFile, n_vocab: int) -> tuple[str, Hyperparameters]:
    """Check hyperparameters and tensors against the file's architecture.

    Returns:
        The architecture's name and its hyperparameters.

    Raises:
        DamagedModelError: they contradict themselves or one another.
        ModelError: the file asks for what is not supported.
    """
    name = raw.values.get("general.architecture")
    if not isinstance(name, str) or name not in ARCHITECTURES:
        supported = ", ".join(ARCHITECTURES)
        raise raw.window.unsupported(
            "architecture", architecture=printable(name), supported=supported
        )
    architecture = ARCHITECTURES[name]
    hyper = read_hyperparameters(raw, name, architecture, n_vocab)
    _check_tensors(raw, architecture, hyper, n_vocab)
    return name, hyper


def _sizes(hyper: Hyperparameters, n_vocab: int) -> dict[str, int]:
    n_q, n_k = hyper.n_head * hyper.head_dim, hyper.n_head_kv * hyper.head_dim
    return {
        "n_embd": hyper.n_embd,
        "n_vocab": n_vocab,
        "n_ff": hyper.n_ff,
        "n_ff_twice": 2 * hyper.n_ff,
        "head_dim": hyper.head_dim,
        "n_q": n_q,
        "n_k": n_k,
        "n_qkv": n_q + 2 * n_k,
        "n_rot_pairs": hyper.n_rot // 2,
    }


def _check_tensors(
    raw: RawFile, architecture: Architecture, hyper: Hyperparameters, n_vocab: int
) -> None:
    """Every tensor is one that the architecture has, none is missing, and all shapes are right."""
    whole, optional = architecture.whole.split(), architecture.whole_optional.split()
    if architecture.rope_factors:
        optional += (_ROPE_FACTORS if hyper.long_rope else "rope_freqs.weight").split()
    if architecture.output != "tied":
        (whole if architecture.output == "required" else optional).append("output.weight")
    sizes = _sizes(hyper, n_vocab)
    shapes = {
        name: tuple(sizes[dimension] for dimension in shape)
        for name, shape in chain(_SHAPES.items(), architecture.shapes)
    }
    required = [(name, name) for name in whole]
    allowed = [(name, name) for name in optional]
    for layer in range(hyper.n_layer):
        required += [(f"blk.{layer}.{name}", name) for name in architecture.block.split()]
        allowed += [(f"blk.{layer}.{name}", name) for name in architecture.block_optional.split()]
    known = set()
    for full, name in chain(required, allowed):
        if full in raw.tensors:
            _check_tensor(raw, raw.tensors[full], shapes[name])
            known.add(full)
    for full, _ in required:
        if full not in known:
            raise raw.window.damaged("missing-tensor", tensor=full)
    for full in raw.tensors:
        if full not in known:
            raise raw.window.unsupported("unexpected-tensor", tensor=full)


def _check_tensor(raw: RawFile, tensor: TensorInfo, shape: tuple[int, ...]) -> None:
    if tensor.shape != shape:
        raise raw.window.damaged(
            "tensor-shape",
            tensor=tensor.name,
            shape=" × ".join(map(str, tensor.shape)),
            expected=" × ".join(map(str, shape)),
        )
    # Norms, biases and rotary factors are added or multiplied element by element, which the
    # CPU backend does for F32 alone; matrices may be of any type.
    if len(shape) == 1 and tensor.type != "F32":
        raise raw.window.damaged("tensor-not-f32", tensor=tensor.name, type=tensor.type)
