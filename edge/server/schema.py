"""What a request may say: OpenAI's fields that this server honours, and no others.

Names and bounds are those of OpenAI's API reference, those of llama.cpp's server
where OpenAI has none. An unknown field is refused, so that nobody believes in an
option that does nothing. `null` means the default, as in OpenAI's API.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "ChatRequest",
    "CompletionRequest",
    "GenerationRequest",
    "JsonObjectFormat",
    "JsonSchemaFormat",
    "LucieOptions",
    "MessageIn",
    "StreamOptions",
    "TextFormat",
    "TextPart",
]

_MAX_SEED = 2**32 - 2  # the last 32-bit value means "draw one" in llama.cpp
_StopString = Annotated[str, Field(min_length=1, max_length=256)]
_TokenId = Annotated[int, Field(ge=0)]


class _Strict(BaseModel):
    # Strict: "1" is no number and true is no integer; infinite numbers are none at all.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class TextPart(_Strict):
    """A piece of a message's content; text is the only kind that is understood."""

    type: Literal["text"]
    text: str


class MessageIn(_Strict):
    """One message of the conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    """`developer` is OpenAI's newer name of `system`."""
    content: str | list[TextPart]

    def text(self) -> str:
        """The content as one string."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


class StreamOptions(_Strict):
    """How a stream ends."""

    include_usage: bool | None = None
    """One more chunk, without choices, with the token counts."""


class LucieOptions(_Strict):
    """Our own extension, which other clients never see."""

    events: bool = False
    """Whether progress, notices and memory are wanted beside the answer."""


class TextFormat(_Strict):
    """Any text."""

    type: Literal["text"]


class JsonObjectFormat(_Strict):
    """Any JSON object."""

    type: Literal["json_object"]


class SchemaIn(_Strict):
    """A named JSON schema."""

    name: str = Field(max_length=64)
    """For the reader; the answer does not depend on it."""
    description: str | None = None
    """For the reader likewise."""
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None
    """The schema is always kept to, so both values mean the same here."""


class JsonSchemaFormat(_Strict):
    """JSON that a schema allows."""

    type: Literal["json_schema"]
    json_schema: SchemaIn


_Format = Annotated[TextFormat | JsonObjectFormat | JsonSchemaFormat, Field(discriminator="type")]


class GenerationRequest(_Strict):
    """What both kinds of request share."""

    model: str | None = None
    """The loaded model's name, or `default`, or nothing."""
    temperature: float | None = Field(None, ge=0, le=5)
    """0 takes the likeliest token."""
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=0, le=1_000_000)
    """0 turns it off."""
    min_p: float | None = Field(None, ge=0, le=1)
    repeat_penalty: float | None = Field(None, ge=0.01, le=10)
    """llama.cpp's name."""
    repetition_penalty: float | None = Field(None, gt=0, le=10)
    """The same under the name that transformers and vLLM gave it."""
    repeat_last_n: int | None = Field(None, ge=0, le=65_536)
    """How many of the last tokens the penalties look at."""
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    stop: _StopString | Annotated[list[_StopString], Field(max_length=4)] | None = None
    seed: int | None = Field(None, ge=0, le=_MAX_SEED)
    """Of the draws. For the same answer to the last bit, `cache_prompt` must be false too."""
    cache_prompt: bool | None = None
    """llama.cpp's name. False: nothing computed before is used, as rounding depends on it."""
    max_tokens: int | None = Field(None, ge=1, le=2**31 - 1)
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = None
    """Token id, as a string, to what is added to its logit."""
    n: Annotated[int, Field(ge=1, le=1)] | None = None
    """One answer a request."""
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None
    """Accepted and not used: OpenAI defines it as a label for its own abuse checks."""
    lucie: LucieOptions | None = None


class ChatRequest(GenerationRequest):
    """`POST /v1/chat/completions`."""

    messages: list[MessageIn] = Field(min_length=1, max_length=10_000)
    max_completion_tokens: int | None = Field(None, ge=1, le=2**31 - 1)
    """OpenAI's newer name of `max_tokens`."""
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    response_format: _Format | None = None


class CompletionRequest(GenerationRequest):
    """`POST /v1/completions`: a prompt as it stands, without a chat template."""

    prompt: str | Annotated[list[_TokenId], Field(min_length=1)]
    """Text or token ids."""
    logprobs: int | None = Field(None, ge=0, le=5)
    """How many of the likeliest tokens are told at each place."""
