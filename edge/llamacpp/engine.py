"""One loaded model and one KV cache on llama.cpp, for several sequences."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edge.engine import AbortedError, Chunk, Constraint, EngineSpec, LoadOptions, Sampling
from edge.errors import DamagedModelError, EngineError, LucieError
from edge.llamacpp.abort import ABORTED, AbortFlag
from edge.llamacpp.batch import Batch
from edge.llamacpp.cells import CellCount
from edge.llamacpp.native import api, build, forget_errors, reason
from edge.llamacpp.sampler import ChainSampler, ContextRows
from edge.llamacpp.thread_pool import ThreadPool
from edge.llamacpp.threads import StepThreads
from edge.llamacpp.vocab import Vocab
from edge.loaded_files import LoadedFiles

__all__ = ["LlamaEngine"]

_NO_CELLS = 1  # llama_decode: no room in the KV cache


class LlamaEngine:
    """Implements `edge.engine.Engine`.

    Args:
        path: a GGUF file that `edge.gguf_header` has checked: native code trusts it.
        options: how to load it; nothing is chosen here.
        progress: told the loaded fraction (0 to 1) while the weights are read.

    Raises:
        DamagedModelError: llama.cpp refuses the file.
        ModelError: it cannot be read.
        EngineError: llama.cpp, or a library that its tokenizer needs, is not there, or memory
            for the context is not.
    """

    def __init__(
        self,
        path: Path,
        options: LoadOptions,
        progress: Callable[[float], None] | None = None,
    ) -> None:
        self._api = api()
        self._cells = CellCount()
        self._pool: ThreadPool | None = None
        self._context: Any = None
        self._abort = AbortFlag()
        self._files = LoadedFiles([path])
        self._model: Any = None
        try:
            self._model = self._load_model(path, options, progress)
            self.tokenizer = Vocab(self._model, path)
            self._open_context(options)
        except LucieError:
            self.close()
            raise
        self._memory = self._api.llama_get_memory(self._context)
        self._batch = Batch(options.n_batch)
        self._threads = StepThreads(options.threads, options.threads_batch, few=options.n_seq)
        self._n_threads = 0
        self.spec = self._describe(options)

    def _load_model(
        self, path: Path, options: LoadOptions, progress: Callable[[float], None] | None
    ) -> Any:
        params = self._api.llama_model_default_params()
        params.n_gpu_layers = 0
        params.load_mode = self._api.LLAMA_LOAD_MODE_MMAP
        params.use_extra_bufts = options.repack
        told = progress or (lambda _: None)

        def on_progress(fraction: float, _data: object) -> bool:
            told(fraction)
            return True

        callback = self._api.llama_progress_callback(on_progress)
        params.progress_callback = callback
        forget_errors()
        model = self._api.llama_model_load_from_file(os.fsencode(path), params)
        if not model:
            raise DamagedModelError("engine.model-refused", path=str(path), reason=reason())
        return model

    def _open_context(self, options: LoadOptions) -> None:
        kv_types = {"f16": self._api.GGML_TYPE_F16, "q8_0": self._api.GGML_TYPE_Q8_0}
        if options.kv_type not in kv_types:
            raise EngineError("engine.kv-type", kv_type=options.kv_type, known=", ".join(kv_types))
        params = self._api.llama_context_default_params()
        params.n_ctx = options.n_ctx
        params.n_batch = params.n_ubatch = options.n_batch
        params.n_seq_max = 2 * options.n_seq
        # Logits only where a token is chosen: by default room for n_batch rows is reserved.
        params.n_outputs_max = params.n_seq_max
        params.n_threads = options.threads
        params.n_threads_batch = options.threads_batch
        # One conversation may use the whole window when it is alone.
        params.kv_unified = True
        params.type_k = params.type_v = kv_types[options.kv_type]
        # A quantized V cache needs it, and it is the smaller graph.
        params.flash_attn_type = self._api.LLAMA_FLASH_ATTN_TYPE_ENABLED
        params.offload_kqv = False
        params.no_perf = True
        self._abort.attach(params)
        forget_errors()
        self._context = self._api.llama_init_from_model(self._model, params)
        if not self._context:
            raise EngineError("engine.no-context", n_ctx=options.n_ctx, reason=reason())
        self._pool = ThreadPool(max(options.threads, options.threads_batch))
        self._api._lib.llama_attach_threadpool(
            self._context, self._pool.pointer, self._pool.pointer
        )

    def _describe(self, options: LoadOptions) -> EngineSpec:
        a, model = self._api, self._model
        n_ctx = a.llama_n_ctx(self._context)
        return EngineSpec(
            engine=build(),
            n_ctx=n_ctx,
            n_ctx_train=a.llama_model_n_ctx_train(model),
            n_parallel=options.n_seq,
            n_seq=2 * options.n_seq,
            n_batch=options.n_batch,
            n_vocab=self.tokenizer.n_vocab,
            kv_type=options.kv_type,
            n_params=a.llama_model_n_params(model),
            forks_share=True,
        )

    # -- sequences ---------------------------------------------------------------------

    def open(self) -> int:
        """A new, empty sequence. Raises `EngineError` when `n_seq` exist."""
        seq = self._unused()
        self._cells.open(seq)
        return seq

    def _unused(self) -> int:
        for seq in range(self.spec.n_seq):
            if seq not in self._cells:
                return seq
        raise EngineError("engine.no-sequence", n_seq=self.spec.n_seq)

    def close_seq(self, seq: int) -> None:
        """Forget a sequence and free its cells."""
        self._api.llama_memory_seq_rm(self._memory, seq, -1, -1)
        self._cells.close(seq)

    def fork(self, seq: int, n: int) -> int:
        """A new sequence that shares the first `n` tokens of `seq`, without computing them."""
        target = self._unused()
        self._api.llama_memory_seq_cp(self._memory, seq, target, 0, n)
        self._cells.fork(seq, target, n)
        return target

    def trim(self, seq: int, n: int) -> int:
        """Keep the first `n` tokens; returns how many were kept (0 if the model cannot cut)."""
        if n < self.length(seq) and not self._api.llama_memory_seq_rm(self._memory, seq, n, -1):
            # A recurrent state cannot be rewound.
            self._api.llama_memory_seq_rm(self._memory, seq, -1, -1)
            n = 0
        self._cells.trim(seq, n)
        return self.length(seq)

    def length(self, seq: int) -> int:
        """Tokens that a sequence holds."""
        return self._cells.length(seq)

    def free_cells(self) -> int:
        """KV cells that no sequence uses."""
        return self.spec.n_ctx - self._cells.used

    # -- computing ---------------------------------------------------------------------

    def step(self, chunks: Sequence[Chunk], *, steady: bool = False) -> list[int]:
        """Evaluate one batch; returns for each chunk its row of logits, -1 where none is wanted.

        `steady` keeps the thread count, whatever other processes do.

        Raises:
            AbortedError: it was interrupted.
            ModelChangedError: the file is no longer what was loaded.
            EngineError: too many tokens, not cells enough, or llama.cpp failed.
        """
        self._files.check()
        n_tokens = sum([len(chunk.ids) for chunk in chunks])
        if n_tokens > self.spec.n_batch:
            raise EngineError("engine.batch-too-long", tokens=n_tokens, most=self.spec.n_batch)
        rows = self._batch.fill([(c.seq, self.length(c.seq), c.ids, c.sample) for c in chunks])
        self._use(self._threads.choose(n_tokens, steady=steady))
        forget_errors()
        self._abort.clear()
        code = self._api.llama_decode(self._context, self._batch.native)
        if code != 0:
            for chunk in chunks:
                self._api.llama_memory_seq_rm(self._memory, chunk.seq, self.length(chunk.seq), -1)
            if code == ABORTED:
                raise AbortedError
            if code == _NO_CELLS:
                raise EngineError("engine.no-cells", n_ctx=self.spec.n_ctx)
            raise EngineError("engine.step-failed", status=code, reason=reason())
        for chunk in chunks:
            self._cells.append(chunk.seq, len(chunk.ids))
        return rows

    def _use(self, n_threads: int) -> None:
        if n_threads != self._n_threads:
            self._api.llama_set_n_threads(self._context, n_threads, n_threads)
            self._n_threads = n_threads

    def interrupt(self) -> None:
        """Stop the step in progress, if there is one; the only method for other threads."""
        self._abort.set()

    def sampler(
        self, sampling: Sampling, prompt: Sequence[int], constraint: Constraint | None = None
    ) -> ChainSampler:
        """A sampler for one request; `prompt` counts for the repeat penalty."""
        rows = ContextRows(self._context, self.spec.n_vocab)
        return ChainSampler(rows, sampling, prompt, constraint)

    # -- saved KV states ---------------------------------------------------------------

    def state_size(self, seq: int) -> int:
        """Bytes that `save` would write."""
        size: int = self._api.llama_state_seq_get_size(self._context, seq)
        return size

    def save(self, seq: int, buffer: memoryview) -> None:
        """Write the KV state of a sequence into a buffer of `state_size` bytes."""
        n = self._api.llama_state_seq_get_data(self._context, _bytes_of(buffer), len(buffer), seq)
        if n != len(buffer):
            raise EngineError("engine.state-not-saved", wrote=n, wanted=len(buffer))

    def load(self, seq: int, buffer: memoryview, n: int) -> None:
        """Fill an empty sequence with the saved KV state of `n` tokens."""
        forget_errors()
        read = self._api.llama_state_seq_set_data(
            self._context, _bytes_of(buffer), len(buffer), seq
        )
        last = self._api.llama_memory_seq_pos_max(self._memory, seq)
        if read != len(buffer) or last != n - 1:
            self._api.llama_memory_seq_rm(self._memory, seq, -1, -1)
            raise EngineError("engine.state-refused", reason=reason())
        self._cells.append(seq, n)

    def close(self) -> None:
        """Free context, threads and model, in this order."""
        if self._context:
            self._api.llama_free(self._context)
            self._context = None
        if self._pool is not None:
            self._pool.close()
            self._pool = None
        if self._model:
            self._api.llama_model_free(self._model)
            self._model = None
        self._files.close()


def _bytes_of(buffer: memoryview) -> Any:
    """As C takes it; without a name, which would hold it for as long as an error is on its way."""
    return (ctypes.c_uint8 * len(buffer)).from_buffer(buffer)
