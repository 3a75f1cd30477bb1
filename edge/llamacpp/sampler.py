"""Choosing the next token by llama.cpp's own samplers.

The order is that of llama.cpp's server (common/sampling.cpp): bias, penalties,
top-k, top-p (Holtzman et al. 2020), min-p (Nguyen et al. 2024), temperature,
draw. A temperature of zero takes the likeliest token.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any, Protocol

from edge.engine import Constraint, Sampled, Sampling
from edge.errors import EngineError
from edge.llamacpp.native import api

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["ChainSampler", "ContextRows", "Rows", "takes_likeliest"]

_RANDOM = 0xFFFFFFFF  # LLAMA_DEFAULT_SEED: llama.cpp would draw one that we could not report


class Rows(Protocol):
    """The logits of the last step, a row for each chunk that wanted them."""

    n_vocab: int

    def choose(self, chain: Any, row: int) -> int:
        """The token that a `llama_sampler` chain takes, which it remembers."""

    def logits(self, row: int) -> NDArray[np.float32]:
        """Row `row` as an array `[V]`, in place."""

    def logit(self, row: int, token: int) -> float:
        """One of them."""


class ContextRows:
    """Those of a `llama_context`, without a copy.

    Args:
        context: pointer to it.
        n_vocab: size of the vocabulary.
    """

    def __init__(self, context: Any, n_vocab: int) -> None:
        self._api = api()
        self._context = context
        self.n_vocab = n_vocab

    def choose(self, chain: Any, row: int) -> int:
        """The token that a `llama_sampler` chain takes, which it remembers."""
        token: int = self._api.llama_sampler_sample(chain, self._context, row)
        return token

    def logits(self, row: int) -> NDArray[np.float32]:
        """Row `row` as an array `[V]` over llama.cpp's own memory."""
        import numpy as np

        pointer = self._api.llama_get_logits_ith(self._context, row)
        return np.ctypeslib.as_array(pointer, (self.n_vocab,))

    def logit(self, row: int, token: int) -> float:
        """One of them."""
        value: float = self._api.llama_get_logits_ith(self._context, row)[token]
        return value


class ChainSampler:
    """One request's sampler chain; it remembers what was chosen, for penalties.

    Args:
        rows: the logits that are chosen from.
        sampling: the request's settings.
        prompt: its prompt; the last `repeat_last_n` tokens count for penalties.
        constraint: narrows each choice before the chain sees it.
    """

    def __init__(
        self,
        rows: Rows,
        sampling: Sampling,
        prompt: Sequence[int],
        constraint: Constraint | None,
    ) -> None:
        self._api = api()
        self._rows = rows
        self._constraint = constraint
        self._sound = False
        self._top_logprobs = sampling.top_logprobs
        self.seed = secrets.randbelow(_RANDOM) if sampling.seed is None else sampling.seed
        self._chain: Any = self._build(sampling)
        if _penalises(sampling):
            for token in prompt[-sampling.repeat_last_n :]:
                self._api.llama_sampler_accept(self._chain, token)

    def _build(self, s: Sampling) -> Any:
        a = self._api
        chain = a.llama_sampler_chain_init(a.llama_sampler_chain_default_params())
        links = []
        if s.logit_bias:
            biases = (a.llama_logit_bias * len(s.logit_bias))(*s.logit_bias.items())
            links.append(a.llama_sampler_init_logit_bias(self._rows.n_vocab, len(biases), biases))
        if _penalises(s):
            links.append(self._penalties(s))
        if s.temperature <= 0:
            links.append(a.llama_sampler_init_greedy())
        else:
            links += [
                a.llama_sampler_init_top_k(s.top_k),
                a.llama_sampler_init_top_p(s.top_p, 1),
                a.llama_sampler_init_min_p(s.min_p, 1),
                a.llama_sampler_init_temp(s.temperature),
                a.llama_sampler_init_dist(self.seed & 0xFFFFFFFF),
            ]
        for link in links:
            if not link:
                raise EngineError("engine.no-sampler")
            a.llama_sampler_chain_add(chain, link)
        return chain

    def _penalties(self, s: Sampling) -> Any:
        # Since llama.cpp of 2026 the vocabulary's size comes first.
        return self._api.llama_sampler_init_penalties(
            self._rows.n_vocab,
            s.repeat_last_n,
            s.repeat_penalty,
            s.frequency_penalty,
            s.presence_penalty,
        )

    def sample(self, row: int) -> Sampled:
        """Choose from row `row` of the last step's logits and remember the choice.

        Raises:
            EngineError: the model computes no numbers.
        """
        logprobs = None
        if self._top_logprobs is not None:
            logprobs = _log_softmax(self._rows.logits(row))
        if self._constraint is not None:
            self._constraint.apply(self._rows.logits(row))
        token = self._rows.choose(self._chain, row)
        if not self._sound:  # seen at once, if at all
            self._sound = isfinite(self._rows.logit(row, token))
            if not self._sound:
                raise EngineError("engine.not-a-number")
        if self._constraint is not None:
            self._constraint.accept(token)
        if logprobs is None:
            return Sampled(token)
        return Sampled(token, float(logprobs[token]), _likeliest(logprobs, self._top_logprobs or 0))

    def close(self) -> None:
        """Free the chain and the samplers in it."""
        if self._chain is not None:
            self._api.llama_sampler_free(self._chain)
            self._chain = None


def takes_likeliest(s: Sampling) -> bool:
    """Whether nothing but the largest logit decides."""
    return s.temperature <= 0 and not s.logit_bias and not _penalises(s)


def _penalises(s: Sampling) -> bool:
    neutral = s.repeat_penalty == 1.0 and s.frequency_penalty == 0.0 and s.presence_penalty == 0.0
    return s.repeat_last_n > 0 and not neutral


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    import numpy as np

    x = logits.astype(np.float64)
    x -= x.max()
    x -= np.log(np.exp(x).sum())
    return x


def _likeliest(logprobs: NDArray[np.float64], n: int) -> tuple[tuple[int, float], ...]:
    import numpy as np

    if n == 0:
        return ()
    best = np.argpartition(logprobs, -n)[-n:]
    best = best[np.argsort(logprobs[best])[::-1]]
    return tuple((int(t), float(logprobs[t])) for t in best)
