"""The shape of a Llama model, as `config.json` of a Hugging Face folder says it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from edge.messages import text

__all__ = ["LlamaConfig", "RopeScaling"]

Size = Annotated[int, Field(gt=0, le=1 << 31)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Strict(BaseModel):
    # A config holds dozens of keys about training and generation that no export needs.
    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)


_WANTED = {
    "default": frozenset[str](),
    "linear": frozenset({"factor"}),
    "llama3": frozenset(
        {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"}
    ),
}
"""What a kind of scaling cannot be without; transformers refuses it, too."""


class RopeScaling(_Strict):
    """How rotary positions are stretched beyond the window of training."""

    rope_type: Literal["default", "linear", "llama3"] = "default"
    rope_theta: Positive | None = None
    factor: Positive = 1.0
    low_freq_factor: Positive = 1.0
    high_freq_factor: Positive = 4.0
    original_max_position_embeddings: Size = 8192

    @model_validator(mode="after")
    def _check(self) -> Self:
        missing = sorted(_WANTED[self.rope_type] - self.model_fields_set)
        if missing:
            raise ValueError(
                text("checkpoint.rope", kind=self.rope_type, fields=", ".join(missing))
            )
        return self


class LlamaConfig(_Strict):
    """`LlamaForCausalLM`: RMSNorm, rotary positions, SwiGLU, grouped-query attention."""

    architectures: tuple[Literal["LlamaForCausalLM"]] = Field(strict=False)
    model_type: Literal["llama"] = "llama"
    hidden_size: Size
    intermediate_size: Size
    num_hidden_layers: Annotated[int, Field(gt=0, le=4096)]
    num_attention_heads: Size
    num_key_value_heads: Size
    head_dim: Size
    vocab_size: Size
    max_position_embeddings: Size
    rms_norm_eps: Positive
    hidden_act: Literal["silu"] = "silu"
    attention_bias: Literal[False] = False
    mlp_bias: Literal[False] = False
    tie_word_embeddings: bool = False
    rope: RopeScaling
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    pad_token_id: int | None = None
    # Of no use here, but whoever exports believes them.
    unk_token_id: int | None = Field(default=None, exclude=True)
    sep_token_id: int | None = Field(default=None, exclude=True)
    cls_token_id: int | None = Field(default=None, exclude=True)
    mask_token_id: int | None = Field(default=None, exclude=True)

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, given: Any) -> Any:
        """What older configs leave out, or say in another place, as transformers reads them."""
        if not isinstance(given, dict):
            return given
        heads, size = given.get("num_attention_heads"), given.get("hidden_size")
        full = {"num_key_value_heads": heads, **_told(given)}
        if "head_dim" not in full and isinstance(heads, int) and isinstance(size, int) and heads:
            full["head_dim"] = size // heads
        full["rope"] = _rope(given)
        return full

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(text("checkpoint.groups"))
        if self.head_dim % 2:
            raise ValueError(text("checkpoint.odd-head"))
        for field in (name for name in type(self).model_fields if name.endswith("_token_id")):
            given = getattr(self, field)
            for token in given if isinstance(given, list) else [given]:
                if token is not None and not 0 <= token < self.vocab_size:
                    raise ValueError(text("checkpoint.no-token", field=field, token=token))
        return self

    @property
    def rope_theta(self) -> float:
        """Base of the rotary frequencies."""
        return self.rope.rope_theta or 10_000.0

    @property
    def layer_parameters(self) -> int:
        """Weights of one layer: four matrices of attention, three of the FFN, two norms."""
        width, heads = self.hidden_size, self.num_attention_heads + self.num_key_value_heads
        return 2 * width * heads * self.head_dim + 3 * width * self.intermediate_size + 2 * width

    @property
    def parameters(self) -> int:
        """Weights of the model; an embedding that is also the output matrix counts once."""
        tables = (1 if self.tie_word_embeddings else 2) * self.vocab_size * self.hidden_size
        return tables + self.num_hidden_layers * self.layer_parameters + self.hidden_size

    def as_json(self) -> dict[str, Any]:
        """What `config.json` holds, in the spelling of transformers 5."""
        fields = self.model_dump(mode="json", exclude={"rope"}, exclude_none=True)
        return fields | {"rope_parameters": {**self._rope_json(), "rope_theta": self.rope_theta}}

    def _rope_json(self) -> dict[str, Any]:
        kind = self.rope.rope_type
        return {"rope_type": kind, **{key: getattr(self.rope, key) for key in _WANTED[kind]}}


def _told(given: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in given.items() if value is not None}


def _rope(given: dict[str, Any]) -> dict[str, Any]:
    """One table from transformers 5's `rope_parameters`, or 4's `rope_theta` and `rope_scaling`."""
    rope = given.get("rope_parameters") or given.get("rope_scaling") or {}
    if not isinstance(rope, dict):
        return {"rope_type": rope}  # which is refused
    theta = {"rope_theta": given["rope_theta"]} if given.get("rope_theta") is not None else {}
    kind = {"rope_type": rope["type"]} if "type" in rope else {}
    return theta | kind | _told(rope)
