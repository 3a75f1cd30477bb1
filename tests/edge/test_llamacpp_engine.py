from __future__ import annotations

import ctypes
import shutil
from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge.engine import Chunk, Sampling
from edge.errors import DamagedModelError, EngineError
from edge.gguf_header import read_header
from edge.kvstore import KVStore
from edge.llamacpp import LlamaEngine
from tests.edge.engines import GREEDY, chatml, options, prefill


@pytest.fixture(scope="module")
def engine(model_path: Path) -> Iterator[LlamaEngine]:
    engine = LlamaEngine(model_path, options())
    yield engine
    engine.close()


@pytest.mark.parametrize("run", ["x", " ", "語", "\n"])
def test_a_long_run_is_tokenized_in_pieces(engine: LlamaEngine, run: str) -> None:
    """Runs of 20,000 characters overflow the stack of llama.cpp's regular expressions."""
    tokenizer = engine.tokenizer
    for n in (4096, 4097, 50_000):
        ids = tokenizer.encode(run * n, special=False)
        assert b"".join(map(tokenizer.piece, ids)) == (run * n).encode()
    words = "some words and " * 2000
    assert tokenizer.encode(words, special=False) == tokenizer._encode(words, special=False)


def test_a_file_that_is_no_model_is_refused_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(DamagedModelError, match=r"refuses the model .*bad\.gguf: gguf_init"):
        LlamaEngine(path, options())


def test_an_unknown_kv_type_is_refused(model_path: Path) -> None:
    with pytest.raises(EngineError, match="f16, q8_0"):
        LlamaEngine(model_path, options(kv_type="q3"))


def test_quantized_kv_cache_answers_nearly_the_same(engine: LlamaEngine, model_path: Path) -> None:
    ids = engine.tokenizer.encode(chatml("What is the capital of France?"), special=True)
    expected = prefill(engine, engine.open(), ids)
    small = LlamaEngine(model_path, options(kv_type="q8_0"))
    try:
        got = prefill(small, small.open(), ids)
    finally:
        small.close()
    assert np.corrcoef(expected, got)[0, 1] > 0.99
    assert (got != expected).any(), "the cache was not quantized"


def test_thread_pool_is_ggmls_own(engine: LlamaEngine) -> None:
    """The remedy against a busy neighbour needs a build without OpenMP."""
    assert b"OPENMP = 1" not in engine._api.llama_print_system_info()
    assert isinstance(engine._api._lib, ctypes.CDLL)


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(temperature=0.8, seed=1)])
def test_weights_that_are_no_numbers_are_told(
    model_path: Path, tmp_path: Path, sampling: Sampling
) -> None:
    damaged = tmp_path / "nan.gguf"
    shutil.copyfile(model_path, damaged)
    norm = next(t for t in read_header(model_path).tensors if t.name == "output_norm.weight")
    with damaged.open("r+b") as file:
        file.seek(norm.offset)
        file.write(np.full(norm.n_elements, np.nan, np.float32).tobytes())
    engine = LlamaEngine(damaged, options(n_ctx=256))
    try:
        (row,) = engine.step([Chunk(engine.open(), [1, 2, 3], sample=True)])
        sampler = engine.sampler(sampling, [1, 2, 3])
        with pytest.raises(EngineError, match="no numbers"):
            sampler.sample(row)
        sampler.close()
    finally:
        engine.close()


def test_a_state_that_is_not_saved_whole_is_given_up(engine: LlamaEngine, tmp_path: Path) -> None:
    """A buffer that an error on its way still holds could not be closed."""
    store = KVStore(tmp_path, "key", 1 << 30)
    seq = engine.open()
    prefill(engine, seq, [1, 2, 3])
    wanted = engine.state_size(seq) + 100
    assert not store.save(array("i", [1, 2, 3]), wanted, lambda out: engine.save(seq, out))
    assert not list(tmp_path.glob("*/*"))
    engine.close_seq(seq)
