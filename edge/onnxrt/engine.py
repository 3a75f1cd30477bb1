"""One loaded model on ONNX Runtime, for several sequences.

Each chunk of a step is a run of the graph: sequences share the weights, not the reading of
them. What `edge.llamacpp` has besides, a quantized KV cache and rearranged weights, is
refused: a graph's types are those that it was exported with.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from edge.engine import AbortedError, Chunk, Constraint, EngineSpec, LoadOptions, Sampling
from edge.errors import DamagedModelError, EngineError, LucieError
from edge.llamacpp.sampler import ChainSampler, takes_likeliest
from edge.loaded_files import LoadedFiles
from edge.onnx_header import OnnxHeader
from edge.onnxrt.graph import load, run_errors
from edge.onnxrt.memory import Memory, open_memory
from edge.onnxrt.rows import ArrayRows, LikeliestRows
from edge.onnxrt.vocab import Vocab
from edge.text import one_line

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["OnnxEngine"]


class OnnxEngine:
    """Implements `edge.engine.Engine`.

    Args:
        header: what `edge.onnx_header` has read of a model.
        options: how to load it; nothing is chosen here.
        progress: told 0 before the weights are read, and 1 after.

    Raises:
        DamagedModelError: ONNX Runtime refuses the file.
        ModelError: it cannot be read.
        EngineError: ONNX Runtime is not there, or does not offer what is asked for.
    """

    def __init__(
        self,
        header: OnnxHeader,
        options: LoadOptions,
        progress: Callable[[float], None] | None = None,
    ) -> None:
        from onnxruntime import RunOptions

        told = progress or (lambda _: None)
        told(0.0)
        self._header = header
        self._files = LoadedFiles(header.files)
        try:
            self._graph = load(header.path, max(options.threads, options.threads_batch))
            self._check_shape()
            self._check_kv_type(options.kv_type)
            self.tokenizer = Vocab(header, self._graph.n_vocab)
        except LucieError:
            self._files.close()
            raise
        self._memories: dict[int, Memory] = {}
        self._run_options = RunOptions()
        self._run_options.log_severity_level = 4
        self.spec = EngineSpec(
            engine=_build(),
            n_ctx=options.n_ctx,
            n_ctx_train=header.n_ctx_train,
            n_parallel=options.n_seq,
            n_seq=2 * options.n_seq,
            n_batch=options.n_batch,
            n_vocab=self._graph.n_vocab,
            kv_type=options.kv_type,
            n_params=header.n_params,
            forks_share=False,
        )
        told(1.0)

    def _check_shape(self) -> None:
        """See that config.json, from which plans were made, is that of this graph."""
        header, graph = self._header, self._graph
        for name, said, found in (
            ("num_hidden_layers", header.n_layer, graph.n_layer),
            ("num_key_value_heads", header.n_head_kv, graph.n_head_kv),
            ("head_dim", header.head_dim_k, graph.head_dim),
            ("vocab_size", header.n_vocab, graph.n_vocab),
        ):
            if said != found:
                raise DamagedModelError(
                    "onnx.contradicts", path=str(header.path), field=name, said=said, found=found
                )

    def _check_kv_type(self, asked: str) -> None:
        """See that the cache is asked for as the graph has it."""
        known = {"float32": "f32", "float16": "f16"}[self._graph.dtype.name]
        if asked != known:
            raise EngineError("engine.kv-type", kv_type=asked, known=known)

    # -- sequences ---------------------------------------------------------------------

    def open(self) -> int:
        """A new, empty sequence. Raises `EngineError` when `n_seq` exist."""
        for seq in range(self.spec.n_seq):
            if seq not in self._memories:
                self._memories[seq] = open_memory(self._graph, self.spec.n_ctx)
                return seq
        raise EngineError("engine.no-sequence", n_seq=self.spec.n_seq)

    def close_seq(self, seq: int) -> None:
        """Forget a sequence and free its cells."""
        del self._memories[seq]

    def fork(self, seq: int, n: int) -> int:
        """A new sequence with a copy of the first `n` tokens of `seq`.

        Raises:
            EngineError: there are not cells enough for both.
        """
        self._require(n)
        target = self.open()
        if n:
            self._memories[target].write(self._memories[seq].read(n))
        return target

    def trim(self, seq: int, n: int) -> int:
        """Keep the first `n` tokens; returns how many were kept."""
        if n < self.length(seq):
            self._memories[seq].trim(n)
        return self.length(seq)

    def length(self, seq: int) -> int:
        """Tokens that a sequence holds."""
        return self._memories[seq].length

    def free_cells(self) -> int:
        """Tokens that may be added to all sequences together."""
        return self.spec.n_ctx - sum(memory.length for memory in self._memories.values())

    def _require(self, cells: int) -> None:
        if cells > self.free_cells():
            raise EngineError("engine.no-cells", n_ctx=self.spec.n_ctx)

    # -- computing ---------------------------------------------------------------------

    def step(self, chunks: Sequence[Chunk], *, steady: bool = False) -> list[int]:  # noqa: ARG002
        """Evaluate chunk after chunk; returns the row of each one's logits, -1 where not wanted.

        The thread count never changes, so `steady` makes no difference.

        Raises:
            AbortedError: it was interrupted.
            ModelChangedError: the file is no longer what was loaded.
            EngineError: too many tokens, not cells enough, or ONNX Runtime failed.
        """
        self._files.check()
        n_tokens = sum(len(chunk.ids) for chunk in chunks)
        if n_tokens > self.spec.n_batch:
            raise EngineError("engine.batch-too-long", tokens=n_tokens, most=self.spec.n_batch)
        self._require(n_tokens)
        self._run_options.terminate = False
        try:
            for chunk in chunks:
                self._memories[chunk.seq].run(chunk.ids, self._run_options)
        except run_errors() as error:
            for chunk in chunks:
                self._memories[chunk.seq].trim(self.length(chunk.seq))
            if self._run_options.terminate:
                raise AbortedError from error
            raise EngineError("onnx.step-failed", reason=one_line(error)) from error
        for chunk in chunks:
            self._memories[chunk.seq].length += len(chunk.ids)
        return [chunk.seq if chunk.sample else -1 for chunk in chunks]

    def interrupt(self) -> None:
        """Stop the step in progress, if there is one; the only method for other threads."""
        self._run_options.terminate = True

    def sampler(
        self, sampling: Sampling, prompt: Sequence[int], constraint: Constraint | None = None
    ) -> ChainSampler:
        """A sampler for one request; `prompt` counts for the repeat penalty."""
        kind = LikeliestRows if takes_likeliest(sampling) else ArrayRows
        rows = kind(self.spec.n_vocab, self.logits)
        return ChainSampler(rows, sampling, prompt, constraint)

    def logits(self, row: int) -> NDArray[np.float32]:
        """Row `row` of the last step, `[V]`, in place."""
        return self._memories[row].logits

    # -- saved KV states ---------------------------------------------------------------

    def state_size(self, seq: int) -> int:
        """Bytes that `save` would write."""
        return self.length(seq) * self._graph.token_bytes

    def save(self, seq: int, buffer: memoryview) -> None:
        """Write the KV state of a sequence into a buffer of `state_size` bytes."""
        n = self.length(seq)
        for place, part in zip(self._places(buffer, n), self._memories[seq].read(n), strict=True):
            place[:] = part

    def load(self, seq: int, buffer: memoryview, n: int) -> None:
        """Fill an empty sequence with the saved KV state of `n` tokens."""
        if len(buffer) != n * self._graph.token_bytes:
            reason = f"{len(buffer)} ≠ {n} × {self._graph.token_bytes}"
            raise EngineError("engine.state-refused", reason=reason)
        self._require(n)
        self._memories[seq].write(self._places(buffer, n))

    def _places(self, buffer: memoryview, n: int) -> list[NDArray[Any]]:
        """For each layer where its keys and values [KV, n, D] stand in a saved state."""
        import numpy as np

        graph = self._graph
        shape = (2 * graph.n_layer, graph.n_head_kv, n, graph.head_dim)
        return list(np.frombuffer(buffer, graph.dtype).reshape(shape))

    def close(self) -> None:
        """Free model and cache."""
        self._memories.clear()
        del self._graph
        self._files.close()


def _build() -> str:
    from importlib.metadata import version

    return f"onnxruntime {version('onnxruntime')} {platform.machine()}"
