"""From a checked request to what the scheduler computes."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import Any

from edge.client import Message
from edge.constraint import compile_schema, json_object
from edge.engine import Constraint, Sampling, Tokenizer
from edge.errors import ContextFullError, UnknownModelError, UsageError
from edge.request import Request
from edge.server.logprobs import ChatLogprobs, LegacyLogprobs, LogprobFormat
from edge.server.schema import (
    ChatRequest,
    CompletionRequest,
    GenerationRequest,
    JsonSchemaFormat,
    TextFormat,
)
from edge.server.service import Loaded

__all__ = ["Job", "chat_job", "completion_job"]

_SEEDS = 2**32 - 1
# Room for the answer when turns have to be dropped, if the request does not say how long
# it may be: enough for a page, and never more than a quarter of the window.
_ANSWER = 1024
_ANSWER_SHARE = 4


@dataclass(frozen=True, slots=True)
class Job:
    """One answer to give."""

    chat: bool
    """By `/v1/chat/completions`; else by `/v1/completions`."""
    request: Request
    stop: tuple[str, ...]
    logprobs: LogprobFormat | None
    stream: bool
    include_usage: bool
    events: bool
    """Whether our own events are wanted."""
    notices: tuple[tuple[str, dict[str, Any]], ...] = ()
    """What the user should know: entries of the locale, with their facts."""


def chat_job(body: ChatRequest, loaded: Loaded) -> Job:
    """What a chat request asks for. Runs the template and the tokenizer.

    Raises:
        UsageError: options contradict each other, or the messages cannot be templated.
        ContextFullError: the last message alone is too long.
        UnknownModelError: another model is asked for.
    """
    _check(body, loaded)
    max_tokens = _either(body, "max_tokens", "max_completion_tokens")
    if body.top_logprobs is not None and not body.logprobs:
        raise UsageError("server.needs", param="top_logprobs", needed="logprobs")
    window = loaded.engine.spec.n_ctx
    reserve = min(max_tokens or _ANSWER, window // _ANSWER_SHARE)
    prompt = loaded.chat.prompt(_messages(body), window, reserve)
    notices: tuple[tuple[str, dict[str, Any]], ...] = ()
    if prompt.dropped_turns:
        notices = (("server.turns-dropped", {"turns": prompt.dropped_turns, "window": window}),)
    return _job(
        body,
        loaded,
        chat=True,
        prompt=prompt.ids,
        pinned=prompt.pinned,
        max_tokens=max_tokens,
        top_logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        constraint=_constraint(body, loaded.engine.tokenizer),
        notices=notices,
    )


def completion_job(body: CompletionRequest, loaded: Loaded) -> Job:
    """What a request for plain continuation asks for; no template is applied.

    Raises:
        UsageError: options contradict each other, or the prompt is no prompt.
        ContextFullError: the prompt is longer than the window.
        UnknownModelError: another model is asked for.
    """
    _check(body, loaded)
    return _job(
        body,
        loaded,
        chat=False,
        prompt=_completion_prompt(body, loaded),
        pinned=0,
        max_tokens=body.max_tokens,
        top_logprobs=body.logprobs,
        constraint=None,
        notices=(),
    )


def _job(
    body: GenerationRequest,
    loaded: Loaded,
    *,
    chat: bool,
    prompt: list[int],
    pinned: int,
    max_tokens: int | None,
    top_logprobs: int | None,
    constraint: Constraint | None,
    notices: tuple[tuple[str, dict[str, Any]], ...],
) -> Job:
    tokenizer = loaded.engine.tokenizer
    formats = ChatLogprobs if chat else LegacyLogprobs
    stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    return Job(
        chat=chat,
        request=Request(
            prompt=prompt,
            max_tokens=max_tokens or loaded.engine.spec.n_ctx,
            sampling=_sampling(body, loaded.sampling, top_logprobs, tokenizer.n_vocab),
            constraint=constraint,
            pinned=pinned,
            reuse=body.cache_prompt is not False,
        ),
        stop=stop,
        logprobs=None if top_logprobs is None else formats(tokenizer),
        stream=bool(body.stream),
        include_usage=bool(body.stream_options and body.stream_options.include_usage),
        events=body.lucie is not None and body.lucie.events,
        notices=notices,
    )


def _check(body: GenerationRequest, loaded: Loaded) -> None:
    if body.model not in (None, "default", loaded.name):
        raise UnknownModelError(
            "server.model-not-found", param="model", model=body.model[:100], loaded=loaded.name
        )
    if body.stream_options is not None and not body.stream:
        raise UsageError("server.needs", param="stream_options", needed="stream")


def _either(body: GenerationRequest, first: str, second: str) -> Any:
    """The value of whichever of two names of one option is there."""
    a, b = getattr(body, first), getattr(body, second)
    if a is not None and b is not None:
        raise UsageError("server.same-option", param=second, other=first)
    return b if a is None else a


def _messages(body: ChatRequest) -> list[Message]:
    return [
        {
            "role": "system" if message.role == "developer" else message.role,
            "content": message.text(),
        }
        for message in body.messages
    ]


def _completion_prompt(body: CompletionRequest, loaded: Loaded) -> list[int]:
    tokenizer, window = loaded.engine.tokenizer, loaded.engine.spec.n_ctx
    if isinstance(body.prompt, str):
        # Who asks for plain continuation writes control tokens on purpose.
        ids = tokenizer.encode(body.prompt, special=True, bos=True)
    else:
        ids = body.prompt
        if max(ids) >= tokenizer.n_vocab:
            raise UsageError("server.out-of-range", param="prompt", bound=f"< {tokenizer.n_vocab}")
    if not ids:
        raise UsageError("server.too-short", param="prompt")
    if len(ids) >= window:
        raise ContextFullError(
            "server.prompt-too-long", param="prompt", tokens=len(ids), window=window
        )
    return ids


def _sampling(
    body: GenerationRequest, defaults: Sampling, top_logprobs: int | None, n_vocab: int
) -> Sampling:
    given = {
        "temperature": body.temperature,
        "top_k": body.top_k,
        "top_p": body.top_p,
        "min_p": body.min_p,
        "repeat_penalty": _either(body, "repeat_penalty", "repetition_penalty"),
        "repeat_last_n": body.repeat_last_n,
        "frequency_penalty": body.frequency_penalty,
        "presence_penalty": body.presence_penalty,
    }
    return replace(
        # The likeliest token is the likeliest, whatever a model answers best with.
        Sampling() if body.temperature == 0 else defaults,
        **{name: value for name, value in given.items() if value is not None},
        # Drawn here, so that it can be told also for an answer that a stop string ends.
        seed=secrets.randbelow(_SEEDS) if body.seed is None else body.seed,
        logit_bias=_biases(body.logit_bias or {}, n_vocab),
        top_logprobs=top_logprobs,
    )


def _biases(given: dict[str, float], n_vocab: int) -> dict[int, float]:
    biases = {}
    for name, bias in given.items():
        if not (name.isascii() and name.isdigit() and len(name) < 10 and int(name) < n_vocab):
            raise UsageError(
                "server.no-token", param="logit_bias", token=name[:40], n_vocab=n_vocab
            )
        biases[int(name)] = bias
    return biases


def _constraint(body: ChatRequest, tokenizer: Tokenizer) -> Constraint | None:
    wanted = body.response_format
    if wanted is None or isinstance(wanted, TextFormat):
        return None
    if isinstance(wanted, JsonSchemaFormat):
        return compile_schema(wanted.json_schema.schema_, tokenizer)
    return json_object(tokenizer)
