from __future__ import annotations

import ctypes
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge.engine import AbortedError, Chunk, Sampling
from edge.errors import DamagedModelError, EngineError
from edge.gguf_header import read_header
from edge.llamacpp import LlamaEngine
from tests.edge.engines import GREEDY, chatml, options


@pytest.fixture(scope="module")
def engine(model_path: Path) -> Iterator[LlamaEngine]:
    engine = LlamaEngine(model_path, options())
    yield engine
    engine.close()


@pytest.fixture(autouse=True)
def no_sequences_left(engine: LlamaEngine) -> Iterator[None]:
    yield
    for seq in range(engine.spec.n_seq):
        if seq in engine._cells:
            engine.close_seq(seq)
    assert engine.free_cells() == engine.spec.n_ctx


def logits(engine: LlamaEngine, row: int) -> np.ndarray:
    pointer = engine._api.llama_get_logits_ith(engine._context, row)
    return np.ctypeslib.as_array(pointer, (engine.spec.n_vocab,)).copy()


def prefill(engine: LlamaEngine, seq: int, ids: list[int]) -> np.ndarray:
    (row,) = engine.step([Chunk(seq, ids, sample=True)])
    return logits(engine, row)


def test_answers(engine: LlamaEngine) -> None:
    tokenizer = engine.tokenizer
    prompt = tokenizer.encode(chatml("What is the capital of France?"), special=True)
    seq = engine.open()
    sampler = engine.sampler(GREEDY, prompt)
    (row,) = engine.step([Chunk(seq, prompt, sample=True)])
    text = b""
    for _ in range(32):
        token = sampler.sample(row).id
        if token in tokenizer.eog:
            break
        text += tokenizer.piece(token)
        (row,) = engine.step([Chunk(seq, [token], sample=True)])
    sampler.close()
    assert b"Paris" in text


def test_spec_is_that_of_the_file(engine: LlamaEngine) -> None:
    """Figures of the model card: 134,515,008 parameters, 49,152 tokens, trained on 8,192."""
    spec = engine.spec
    assert (spec.n_params, spec.n_vocab, spec.n_ctx_train) == (134515008, 49152, 8192)
    assert spec.n_ctx == 1024
    assert "0.3.36" in spec.engine


def test_a_fork_continues_as_its_source_would(engine: LlamaEngine) -> None:
    ids = engine.tokenizer.encode("The quick brown fox jumps over the lazy dog.", special=False)
    whole = engine.open()
    expected = prefill(engine, whole, ids)
    fork = engine.fork(whole, len(ids) - 1)
    assert engine.free_cells() == engine.spec.n_ctx - len(ids)
    assert (engine.length(whole), engine.length(fork)) == (len(ids), len(ids) - 1)
    np.testing.assert_allclose(prefill(engine, fork, ids[-1:]), expected, atol=0.05)


def test_trim_forgets(engine: LlamaEngine) -> None:
    ids = engine.tokenizer.encode("Un, deux, trois, quatre, cinq, six", special=False)
    seq = engine.open()
    expected = prefill(engine, seq, ids)
    engine.step([Chunk(seq, engine.tokenizer.encode(" and other things", special=False), False)])
    assert engine.trim(seq, len(ids) - 1) == len(ids) - 1
    np.testing.assert_allclose(prefill(engine, seq, ids[-1:]), expected, atol=0.05)


def test_state_saved_and_loaded_continues_the_same(engine: LlamaEngine) -> None:
    ids = engine.tokenizer.encode("Once upon a time there was a cat", special=False)
    seq = engine.open()
    engine.step([Chunk(seq, ids[:-1], sample=False)])
    state = bytearray(engine.state_size(seq))
    engine.save(seq, memoryview(state))
    expected = prefill(engine, seq, ids[-1:])
    other = engine.open()
    engine.load(other, memoryview(state), len(ids) - 1)
    assert engine.length(other) == len(ids) - 1
    np.testing.assert_array_equal(prefill(engine, other, ids[-1:]), expected)


def test_a_wrong_state_is_refused_and_leaves_the_sequence_empty(engine: LlamaEngine) -> None:
    ids = engine.tokenizer.encode("Once upon a time", special=False)
    seq = engine.open()
    engine.step([Chunk(seq, ids, sample=False)])
    state = bytearray(engine.state_size(seq))
    engine.save(seq, memoryview(state))
    other = engine.open()
    for wrong, n in [(state[: len(state) // 2], len(ids)), (state, len(ids) + 1)]:
        with pytest.raises(EngineError, match="refuses a saved KV state"):
            engine.load(other, memoryview(wrong), n)
        assert engine.length(other) == 0
    engine.load(other, memoryview(state), len(ids))


def test_an_interrupted_step_leaves_every_sequence_as_before(engine: LlamaEngine) -> None:
    ids = engine.tokenizer.encode("Once upon a time there was a cat. " * 12, special=False)
    seq = engine.open()
    engine.step([Chunk(seq, ids[:4], sample=False)])
    engine.interrupt()  # before a step: no step is in progress, so none is stopped
    assert engine.step([Chunk(seq, ids[4:8], sample=False)]) == [-1]
    stop = threading.Event()

    def interrupt() -> None:
        while not stop.is_set():
            engine.interrupt()

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(AbortedError):
            engine.step([Chunk(seq, ids[8:], sample=True)])
    finally:
        stop.set()
        thread.join()
    assert engine.length(seq) == 8
    after = prefill(engine, seq, ids[8:])
    # Another batch shape, other last bits: but plainly the same text.
    assert np.corrcoef(after, prefill(engine, engine.open(), ids))[0, 1] > 0.999


def test_limits_are_refused(engine: LlamaEngine) -> None:
    seqs = [engine.open() for _ in range(engine.spec.n_seq)]
    with pytest.raises(EngineError, match="8 sequences"):
        engine.open()
    with pytest.raises(EngineError, match="129 tokens is longer than the engine’s 128"):
        engine.step([Chunk(seqs[0], [1] * 129, sample=False)])


def test_too_few_cells_are_an_error_and_change_nothing(engine: LlamaEngine) -> None:
    seq = engine.open()
    for _ in range(8):
        engine.step([Chunk(seq, [5] * 128, sample=False)])
    assert engine.free_cells() == 0
    other = engine.open()
    with pytest.raises(EngineError, match="context of 1,024 tokens is full"):
        engine.step([Chunk(other, [5], sample=True)])
    assert (engine.length(seq), engine.length(other)) == (1024, 0)


def test_logprobs_are_the_log_softmax_of_the_logits(engine: LlamaEngine) -> None:
    seq = engine.open()
    row_logits = prefill(engine, seq, engine.tokenizer.encode("The sky is", special=False))
    row = len(engine.tokenizer.encode("The sky is", special=False)) - 1
    sampler = engine.sampler(Sampling(temperature=0, top_logprobs=3), [])
    sampled = sampler.sample(row)
    sampler.close()
    x = row_logits.astype(np.longdouble)
    reference = np.asarray(x - np.logaddexp.reduce(x), dtype=np.float64)
    assert sampled.id == int(reference.argmax())
    assert sampled.logprob == pytest.approx(reference.max(), abs=1e-5)
    best = np.argsort(reference)[::-1][:3]
    assert [token for token, _ in sampled.top] == best.tolist()


def test_seed_reproduces_and_is_told(engine: LlamaEngine) -> None:
    seq = engine.open()
    ids = engine.tokenizer.encode("Once upon a time", special=False)
    (row,) = engine.step([Chunk(seq, ids, sample=True)])

    def draw(seed: int | None) -> tuple[list[int], int]:
        sampler = engine.sampler(
            Sampling(temperature=2.0, top_k=0, top_p=1, min_p=0, seed=seed), []
        )
        drawn = [sampler.sample(row).id for _ in range(12)]
        used = sampler.seed
        sampler.close()
        return drawn, used

    drawn, used = draw(None)
    assert draw(used) == (drawn, used)
    assert draw(used + 1)[0] != drawn


def test_repeat_penalty_counts_the_prompt(engine: LlamaEngine) -> None:
    seq = engine.open()
    ids = engine.tokenizer.encode("one two one two one two one", special=False)
    (row,) = engine.step([Chunk(seq, ids, sample=True)])
    plain = engine.sampler(GREEDY, ids)
    expected = plain.sample(row).id
    punished = engine.sampler(Sampling(temperature=0, repeat_penalty=5.0), ids)
    assert expected in ids
    assert punished.sample(row).id not in ids
    plain.close()
    punished.close()


def test_logit_bias_forbids_a_token(engine: LlamaEngine) -> None:
    seq = engine.open()
    ids = engine.tokenizer.encode("The sky is", special=False)
    (row,) = engine.step([Chunk(seq, ids, sample=True)])
    free = engine.sampler(GREEDY, [])
    best = free.sample(row).id
    biased = engine.sampler(Sampling(temperature=0, logit_bias={best: -100.0}), [])
    assert biased.sample(row).id != best
    free.close()
    biased.close()


@pytest.mark.parametrize(
    "text", ["é à ü ß ñ", "👩‍👩‍👧‍👦 🇫🇷 ✓", "日本語", "a\u0301", "tab\tand\nline  two"]
)
def test_pieces_join_to_the_text(engine: LlamaEngine, text: str) -> None:
    ids = engine.tokenizer.encode(text, special=False)
    assert b"".join(engine.tokenizer.piece(token) for token in ids) == text.encode()


def test_special_tokens_only_where_asked(engine: LlamaEngine) -> None:
    tokenizer = engine.tokenizer
    assert "<|im_end|>" in tokenizer.special_texts
    (special,) = tokenizer.encode("<|im_end|>", special=True)
    assert special in tokenizer.eog
    assert tokenizer.piece(special) == b""
    assert special not in tokenizer.encode("<|im_end|>", special=False)


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
