"""llama.cpp as a reader: logits for every token of a text, nothing written.

The counterpart of `edge.llamacpp`, which answers: one sequence, no sampler, and logits for
each position.
"""

from __future__ import annotations

import ctypes
import os
from array import array
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.device import detect
from edge.errors import DamagedModelError, EngineError
from edge.gguf_header import read_header
from edge.llamacpp.abort import AbortFlag
from edge.llamacpp.batch import Batch
from edge.llamacpp.native import api, forget_errors, reason
from edge.llamacpp.thread_pool import ThreadPool
from edge.llamacpp.vocab import Vocab
from quantize.measuring.aside import Aside
from quantize.measuring.text_reader import TextReader

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Reader"]


class Reader(TextReader):
    """One loaded model.

    Args:
        path: a GGUF file.
        chunk: tokens that are read together.
        threads: threads to compute with; 0: one for each core.
        callback: for `cb_eval`; see `quantize.measuring.activations`.
        rearrange: let llama.cpp make copies of weights in an order that it multiplies faster.

    Raises:
        ModelError: the file is damaged or of an unknown kind.
        EngineError: llama.cpp, or a library that its tokenizer needs, is not there, or memory
            for the context is not.
    """

    def __init__(
        self, path: Path, chunk: int, threads: int, callback: Any = None, *, rearrange: bool = True
    ) -> None:
        read_header(path)  # native code trusts its files
        threads = threads or detect().cpu.cores
        self._api = api()
        self.chunk = chunk
        self._callback = callback
        self._abort = AbortFlag()
        self._aside = Aside(self._abort.set)
        self._model: Any = None
        self._context: Any = None
        self._pool: ThreadPool | None = None
        try:
            self._aside(self._load, path, rearrange)
            self.vocab = Vocab(self._model, path)
            self._aside(self._open, threads)
        except BaseException:
            self.close()
            raise
        self._pool = ThreadPool(threads)
        pool = self._pool.pointer
        self._api._lib.llama_attach_threadpool(self._context, pool, pool)
        self._batch = Batch(chunk)
        self._length = 0

    def _load(self, path: Path, rearrange: bool) -> None:
        params = self._api.llama_model_default_params()
        params.n_gpu_layers = 0
        params.use_extra_bufts = rearrange
        forget_errors()
        self._model = self._api.llama_model_load_from_file(os.fsencode(path), params)
        if not self._model:
            raise DamagedModelError("engine.model-refused", path=str(path), reason=reason())

    def _open(self, threads: int) -> None:
        params = self._api.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = self.chunk
        params.n_seq_max = 1
        params.n_threads = params.n_threads_batch = threads
        params.no_perf = True
        self._abort.attach(params)
        if self._callback is not None:
            params.cb_eval = self._callback
        forget_errors()
        self._context = self._api.llama_init_from_model(self._model, params)
        if not self._context:
            raise EngineError("engine.no-context", n_ctx=self.chunk, reason=reason())

    def _forget(self) -> None:
        self._api.llama_memory_clear(self._api.llama_get_memory(self._context), True)
        self._length = 0

    def _read_on(self, ids: array[int], first: int) -> NDArray[np.float32]:
        start = self._length
        self._decode([(0, start + n, [token], n >= first) for n, token in enumerate(ids)])
        self._length += len(ids)
        return self._logits(len(ids) - first)

    def _logits(self, rows: int) -> NDArray[np.float32]:
        import numpy as np

        pointer = self._api.llama_get_logits(self._context)
        return np.ctypeslib.as_array(
            ctypes.cast(pointer, ctypes.POINTER(ctypes.c_float)), (rows, self.vocab.n_vocab)
        )

    def _decode(self, placed: list[tuple[int, int, list[int], bool]]) -> None:
        self._batch.fill(placed)
        forget_errors()
        self._abort.clear()
        code = self._aside(self._api.llama_decode, self._context, self._batch.native)
        if code != 0:
            raise EngineError("engine.step-failed", status=code, reason=reason())

    def close(self) -> None:
        """Free context, threads and model, in this order."""
        self._aside.close()
        if self._context:
            self._api.llama_free(self._context)
            self._context = None
        if self._pool is not None:
            self._pool.close()
            self._pool = None
        if self._model:
            self._api.llama_model_free(self._model)
            self._model = None
