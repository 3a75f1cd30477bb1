"""From the scheduler's events to the text of an answer and why it ended."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Literal

from edge.engine import Sampled, Tokenizer
from edge.errors import LucieError
from edge.request import Event, Finished, Prefilled, Queued, Timings, Token
from edge.server.logprobs import LogprobFormat
from edge.text import StopStrings, StreamDecoder

__all__ = ["Answer", "timings_body", "usage_body"]


class Answer:
    """One answer as it grows.

    A stop string is found here, where the text is; `reason` is then `stop` and
    the caller cancels the request. Nothing of the stop string is ever taken.

    Args:
        tokenizer: of the model that answers.
        n_prompt: length of the prompt, in tokens.
        stop: strings that end the answer.
        logprobs: how to tell log-probabilities, where they were asked for.
        constrained: it keeps to a constraint, which has seen the bytes of the tokens: they are the
            text, whatever spaces the tokenizer would take away.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        n_prompt: int,
        stop: Sequence[str],
        logprobs: LogprobFormat | None,
        *,
        constrained: bool = False,
    ) -> None:
        self._decoder = StreamDecoder(tokenizer) if constrained else tokenizer.stream()
        self._stops = StopStrings(stop)
        self._format = logprobs
        self._tokens: list[tuple[int, Sampled]] = []  # characters before it, and the token
        self._decoded = 0  # characters, also those held back as a possible stop string
        self._released = 0  # characters that were or can be taken
        self._text: list[str] = []
        self._began = self._prefilled = time.perf_counter()
        self.n_prompt = n_prompt
        self.n_tokens = 0
        """Tokens chosen so far."""
        self.ahead: int | None = None
        """Requests before it; None where it does not wait for a place."""
        self.progress = Prefilled(0, n_prompt, 0)
        self.reason: Literal["stop", "length"] | None = None
        """Why it ended; None while it grows, and when it failed."""
        self.error: LucieError | None = None
        self.timings: Timings | None = None
        """Complete once `reason` is there."""

    def feed(self, events: Sequence[Event]) -> None:
        """Take in what the scheduler told, up to the answer's end."""
        for event in events:
            if isinstance(event, Token):
                self._add(event.sampled)
            elif isinstance(event, Queued):
                self.ahead = event.ahead
            elif isinstance(event, Prefilled):
                self.ahead = None
                self.progress = event
                self._prefilled = time.perf_counter()
            elif isinstance(event, Finished):
                self._finish(event)
            else:
                self.error = event.error
            if self.reason is not None:
                return

    def _add(self, sampled: Sampled) -> None:
        self.n_tokens += 1
        if self._format is not None:
            self._tokens.append((self._decoded, sampled))
        if self._release(self._decoder.feed(sampled.id)):
            self.reason = "stop"
            self.timings = self._measured()

    def _release(self, text: str) -> bool:
        """Let go what can be no stop string; returns whether one was found."""
        self._decoded += len(text)
        free, stopped = self._stops.feed(text)
        self._put(free)
        return stopped

    def _put(self, text: str) -> None:
        self._released += len(text)
        self._text.append(text)

    def _finish(self, event: Finished) -> None:
        stopped = self._release(self._decoder.flush())
        self._put(self._stops.flush())
        self.reason = "stop" if stopped else event.reason
        self.timings = event.timings

    def _measured(self) -> Timings:
        """Our own measure: a request that we cancel ends without the scheduler's."""
        return Timings(
            cache_n=self.progress.reused,
            prompt_n=self.n_prompt - self.progress.reused,
            prompt_ms=(self._prefilled - self._began) * 1000,
            predicted_n=self.n_tokens,
            predicted_ms=(time.perf_counter() - self._prefilled) * 1000,
        )

    def take(self) -> tuple[str, dict[str, Any] | None]:
        """The text that came since the last call, and its log-probabilities if asked for."""
        text = "".join(self._text)
        self._text.clear()
        return text, self._take_logprobs()

    def _take_logprobs(self) -> dict[str, Any] | None:
        """Those of the tokens whose text is out; those of a stop string never come."""
        if self._format is None:
            return None
        complete = self._released == self._decoded
        ready = 0
        while ready < len(self._tokens) and (complete or self._tokens[ready][0] < self._released):
            ready += 1
        taken = [sampled for _, sampled in self._tokens[:ready]]
        del self._tokens[:ready]
        return self._format.format(taken) if taken else None


def usage_body(answer: Answer) -> dict[str, Any]:
    """The field `usage` of a complete answer; an end token counts, as in llama.cpp."""
    timings = answer.timings
    n_tokens = answer.n_tokens if timings is None else timings.predicted_n
    return {
        "prompt_tokens": answer.n_prompt,
        "completion_tokens": n_tokens,
        "total_tokens": answer.n_prompt + n_tokens,
        "prompt_tokens_details": {"cached_tokens": timings.cache_n if timings else 0},
    }


def timings_body(timings: Timings) -> dict[str, Any]:
    """The field `timings`, named as by llama.cpp's server."""
    return {
        "cache_n": timings.cache_n,
        "prompt_n": timings.prompt_n,
        "prompt_ms": round(timings.prompt_ms, 3),
        "prompt_per_second": _rate(timings.prompt_n, timings.prompt_ms),
        "predicted_n": timings.predicted_n,
        "predicted_ms": round(timings.predicted_ms, 3),
        "predicted_per_second": _rate(timings.predicted_n, timings.predicted_ms),
    }


def _rate(n: int, ms: float) -> float:
    return round(n / ms * 1000, 3) if ms > 0 else 0.0
