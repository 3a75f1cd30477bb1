"""llama.cpp as a reader: logits for every token of a text, nothing written.

The counterpart of `edge.llamacpp`, which answers: one sequence, no sampler, and logits for
each position. A text is cut into chunks of equal length, each read from an empty cache,
the first token of each replaced by BOS where the model wants one (as llama-imatrix and
llama-perplexity do, so that figures can be compared).
"""

from __future__ import annotations

import ctypes
import os
from array import array
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from edge.device import detect
from edge.errors import DamagedModelError, EngineError
from edge.gguf_header import read_header
from edge.llamacpp.abort import AbortFlag
from edge.llamacpp.batch import Batch
from edge.llamacpp.native import ThreadPool, api, forget_errors, reason
from edge.llamacpp.vocab import Vocab

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Reader"]


class Reader:
    """One loaded model.

    Args:
        path: a GGUF file.
        chunk: tokens that are read together.
        threads: threads to compute with; 0: one for each core.
        callback: for `cb_eval`; see `quantize.measuring.activations`.
        rearrange: let llama.cpp make copies of weights in an order that it multiplies faster.

    Raises:
        ModelError: the file is damaged or of an unknown kind.
        EngineError: llama.cpp is not there, or memory for the context is not.
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
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="reader")
        self._context: Any = None
        self._pool: ThreadPool | None = None
        self._model = self._load(path, rearrange)
        try:
            self._context = self._open(threads)
        except EngineError:
            self.close()
            raise
        self._pool = ThreadPool(threads)
        pool = self._pool.pointer
        self._api._lib.llama_attach_threadpool(self._context, pool, pool)
        self._batch = Batch(chunk)
        self.vocab = Vocab(self._model)

    def _load(self, path: Path, rearrange: bool) -> Any:
        params = self._api.llama_model_default_params()
        params.n_gpu_layers = 0
        params.use_extra_bufts = rearrange
        forget_errors()
        model = self._api.llama_model_load_from_file(os.fsencode(path), params)
        if not model:
            raise DamagedModelError("engine.model-refused", path=str(path), reason=reason())
        return model

    def _open(self, threads: int) -> Any:
        params = self._api.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = self.chunk
        params.n_seq_max = 1
        params.n_threads = params.n_threads_batch = threads
        params.no_perf = True
        self._abort.attach(params)
        if self._callback is not None:
            params.cb_eval = self._callback
        forget_errors()
        context = self._api.llama_init_from_model(self._model, params)
        if not context:
            raise EngineError("engine.no-context", n_ctx=self.chunk, reason=reason())
        return context

    def tokens(self, text: str) -> array[int]:
        """Ids of a whole text, BOS first where the model wants one; no control tokens."""
        return array("i", self.vocab.encode(text, special=False, bos=True))

    def read(self, ids: array[int], first: int = 0) -> NDArray[np.float32]:
        """Logits [T - first, V] of T ≤ `chunk` tokens; llama.cpp's memory, until the next call.

        Args:
            ids: the tokens.
            first: logits are wanted after this token and all that follow.

        Raises:
            EngineError: llama.cpp failed.
        """
        ids = self._from_the_start(ids)
        self._decode([(0, n, [token], n >= first) for n, token in enumerate(ids)])
        return self._logits(len(ids) - first)

    def continue_greedily(self, ids: array[int], n: int) -> array[int]:
        """The likeliest token after T `ids`, the likeliest after that, and so on: `n` of them.

        T + n must not exceed `chunk`.

        Raises:
            EngineError: llama.cpp failed.
        """
        ids = self._from_the_start(ids)
        last = len(ids) - 1
        self._decode([(0, at, [token], at == last) for at, token in enumerate(ids)])
        found = array("i")
        while True:
            found.append(int(self._logits(1).argmax()))
            if len(found) == n:
                return found
            self._decode([(0, last + len(found), [found[-1]], True)])

    def _from_the_start(self, ids: array[int]) -> array[int]:
        """`ids` as they are read from an empty cache."""
        self._api.llama_memory_clear(self._api.llama_get_memory(self._context), True)
        ids = ids[:]
        if self.vocab.add_bos:
            ids[0] = self.vocab.bos
        return ids

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
        # In another thread, so that Ctrl-C does not wait for a large model's chunk.
        step = self._thread.submit(self._api.llama_decode, self._context, self._batch.native)
        try:
            code = step.result()
        except KeyboardInterrupt:
            self._abort.set()
            step.result()
            raise
        if code != 0:
            raise EngineError("engine.step-failed", status=code, reason=reason())

    def close(self) -> None:
        """Free context, threads and model, in this order."""
        self._thread.shutdown()
        if self._context:
            self._api.llama_free(self._context)
            self._context = None
        if self._pool is not None:
            self._pool.close()
            self._pool = None
        if self._model:
            self._api.llama_model_free(self._model)
            self._model = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
