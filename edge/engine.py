"""What an engine is: token ids in, token ids out.

An engine holds one loaded model and one KV cache that several *sequences*
share. It knows no text, no chat template and no user. Everything it can do is
here; what it cannot do it refuses with `EngineError`, never a fallback.

A *step* evaluates one batch: each chunk appends tokens to one sequence. One
token is decode, many are prefill; both may stand in the same batch, which is
what continuous batching is (Orca, OSDI 2022).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edge.text import TextStream

__all__ = [
    "AbortedError",
    "Chunk",
    "Constraint",
    "Engine",
    "EngineSpec",
    "LoadOptions",
    "Sampled",
    "Sampler",
    "Sampling",
    "Tokenizer",
]


class AbortedError(Exception):
    """A step was stopped by `Engine.interrupt`; every sequence is as before it."""


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How to load a model; `edge.device` chooses the values for this board."""

    n_ctx: int
    """KV cells, in tokens, shared by all sequences."""
    n_seq: int
    """Answers that are computed at once; as many more sequences may wait for their next turn."""
    n_batch: int
    """Most tokens of one step; also the prefill chunk of a request that is alone."""
    threads: int
    """Threads for decode."""
    threads_batch: int
    """Threads for prefill."""
    kv_type: str = "f16"
    """Type of the KV cache: f16 or q8_0."""
    repack: bool = False
    """Rearrange weights at load for faster prefill; their memory doubles."""


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """What was loaded."""

    engine: str
    """Name and build, e.g. `llama-cpp-python 0.3.36 AVX2…`; part of the key of saved KV states."""
    n_ctx: int
    n_ctx_train: int
    n_parallel: int
    """Answers that are computed at once."""
    n_seq: int
    """Sequences that may exist at once."""
    n_batch: int
    n_vocab: int
    kv_type: str
    n_params: int
    forks_share: bool
    """Whether what a fork has in common with its source takes no cells of its own."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens to append to one sequence in a step."""

    seq: int
    ids: Sequence[int]
    """[T] token ids, T ≥ 1."""
    sample: bool
    """Whether logits after the last of them are wanted."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen; names and order of application as in llama.cpp's server."""

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    repeat_penalty: float = 1.0
    repeat_last_n: int = 64
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    seed: int | None = None
    """None draws a fresh seed."""
    logit_bias: dict[int, float] = field(default_factory=dict)
    top_logprobs: int | None = None
    """None: no log-probabilities; n: those of the token and of the n likeliest."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """One chosen token."""

    id: int
    logprob: float | None = None
    """Natural log of its probability before any sampling transform."""
    top: tuple[tuple[int, float], ...] = ()
    """The likeliest (id, logprob), best first."""


class Constraint(Protocol):
    """A grammar that narrows each choice, e.g. to a JSON schema."""

    def apply(self, logits: NDArray[np.float32]) -> None:
        """Set the logits `[V]` of every token that may not come next to -inf, in place."""

    def accept(self, token: int) -> None:
        """Advance past `token`, which the last `apply` allowed."""

    def finished(self) -> bool:
        """Whether the text is complete and nothing may follow."""


class Sampler(Protocol):
    """The state of one request's choices: penalties, random numbers."""

    seed: int
    """The seed in use, also where `Sampling.seed` was None."""

    def sample(self, row: int) -> Sampled:
        """Choose from row `row` of the last step's logits and remember the choice."""

    def close(self) -> None:
        """Free native memory."""


class Tokenizer(Protocol):
    """Text to ids and back, as the model file defines it."""

    n_vocab: int
    bos_text: str
    eos_text: str
    template: str | None
    """The chat template in the model file."""

    @property
    def eog(self) -> frozenset[int]:
        """End-of-generation ids: any of them ends an answer."""

    @property
    def special_texts(self) -> tuple[str, ...]:
        """Spellings of control tokens, which user text must not smuggle in."""

    def encode(self, text: str, *, special: bool, bos: bool = False) -> list[int]:
        """Ids of `text`; `special` reads spellings of control tokens as those tokens."""

    def piece(self, token: int) -> bytes:
        """The bytes of one token, b"" for control tokens; may be half a UTF-8 character."""

    def stream(self) -> TextStream:
        """What turns the tokens of one answer into text."""


class Engine(Protocol):
    """One loaded model. Not thread-safe: a single thread drives it."""

    spec: EngineSpec

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer, which any thread may use at any time."""

    def open(self) -> int:
        """A new, empty sequence. Raises `EngineError` when `n_seq` exist."""

    def close_seq(self, seq: int) -> None:
        """Forget a sequence and free its cells."""

    def fork(self, seq: int, n: int) -> int:
        """A new sequence that shares the first `n` tokens of `seq`, without computing them."""

    def trim(self, seq: int, n: int) -> int:
        """Keep the first `n` tokens; returns how many were kept (0 if the model cannot cut)."""

    def length(self, seq: int) -> int:
        """Tokens that a sequence holds."""

    def free_cells(self) -> int:
        """KV cells that no sequence uses."""

    def step(self, chunks: Sequence[Chunk], *, steady: bool = False) -> list[int]:
        """Evaluate one batch; returns for each chunk its row of logits, -1 where none is wanted.

        `steady`: with all threads, whatever other processes do, as the order of sums, and with
        it their last bits, depends on how many there are.

        Raises `AbortedError` if it was interrupted (each sequence is then as before the step),
        `EngineError` if there are not cells enough.
        """

    def interrupt(self) -> None:
        """Stop the step in progress, if there is one; the only method for other threads."""

    def sampler(
        self, sampling: Sampling, prompt: Sequence[int], constraint: Constraint | None = None
    ) -> Sampler:
        """A sampler for one request; `prompt` counts for the repeat penalty."""

    def state_size(self, seq: int) -> int:
        """Bytes that `save` would write."""

    def save(self, seq: int, buffer: memoryview) -> None:
        """Write the KV state of a sequence into a buffer of `state_size` bytes."""

    def load(self, seq: int, buffer: memoryview, n: int) -> None:
        """Fill an empty sequence with the saved KV state of `n` tokens.

        Raises `EngineError` if the engine refuses it; the sequence is then still empty.
        """

    def close(self) -> None:
        """Free model and cache."""
