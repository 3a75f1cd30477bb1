"""What every engine does, asked of each on the real model."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from edge.engine import AbortedError, Chunk, Engine, Sampling
from edge.errors import EngineError
from edge.llamacpp import LlamaEngine
from edge.onnx_header import read_onnx
from edge.onnxrt import OnnxEngine
from tests.edge.engines import CLEAR, GREEDY, SMOL, chatml, logits, options, prefill


@pytest.fixture(scope="module", params=["llamacpp", "onnxrt"])
def engine(request: pytest.FixtureRequest, model_path: Path) -> Iterator[Engine]:
    if request.param == "llamacpp":
        engine: Engine = LlamaEngine(model_path, options())
    else:
        graph: Path = request.getfixturevalue("smollm2_onnx")
        engine = OnnxEngine(read_onnx(graph), options(kv_type="f32"))
    yield engine
    engine.close()


@pytest.fixture(autouse=True)
def no_sequences_left(engine: Engine) -> Iterator[None]:
    yield
    for seq in range(engine.spec.n_seq):
        with suppress(KeyError):  # closed already
            engine.close_seq(seq)
    assert engine.free_cells() == engine.spec.n_ctx


def test_answers(engine: Engine) -> None:
    tokenizer = engine.tokenizer
    prompt = tokenizer.encode(chatml(CLEAR[0], SMOL), special=True)
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
    assert b"1. 1\n2. 2\n3. 3\n" in text


def test_spec_is_that_of_the_file(engine: Engine) -> None:
    """Figures of the model card: 134,515,008 parameters, 49,152 tokens, trained on 8,192."""
    spec = engine.spec
    assert (spec.n_params, spec.n_vocab, spec.n_ctx_train) == (134515008, 49152, 8192)
    assert spec.n_ctx == 1024
    assert spec.engine.startswith(("llama-cpp-python 0.3.36", "onnxruntime 1.32.0"))


def test_a_fork_continues_as_its_source_would(engine: Engine) -> None:
    ids = engine.tokenizer.encode("The quick brown fox jumps over the lazy dog.", special=False)
    whole = engine.open()
    engine.step([Chunk(whole, ids[:-1], sample=False)])
    fork = engine.fork(whole, len(ids) - 1)
    expected = prefill(engine, whole, ids[-1:])
    cells = len(ids) if engine.spec.forks_share else 2 * len(ids) - 1
    assert engine.free_cells() == engine.spec.n_ctx - cells
    assert (engine.length(whole), engine.length(fork)) == (len(ids), len(ids) - 1)
    np.testing.assert_allclose(prefill(engine, fork, ids[-1:]), expected, atol=0.05)


def test_trim_forgets(engine: Engine) -> None:
    ids = engine.tokenizer.encode("Un, deux, trois, quatre, cinq, six", special=False)
    seq = engine.open()
    engine.step([Chunk(seq, ids[:-1], sample=False)])
    expected = prefill(engine, seq, ids[-1:])
    engine.step([Chunk(seq, engine.tokenizer.encode(" and other things", special=False), False)])
    assert engine.trim(seq, len(ids) - 1) == len(ids) - 1
    np.testing.assert_allclose(prefill(engine, seq, ids[-1:]), expected, atol=0.05)


def test_state_saved_and_loaded_continues_the_same(engine: Engine) -> None:
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


def test_a_wrong_state_is_refused_and_leaves_the_sequence_empty(engine: Engine) -> None:
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


def test_an_interrupted_step_leaves_every_sequence_as_before(engine: Engine) -> None:
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


def test_limits_are_refused(engine: Engine) -> None:
    seqs = [engine.open() for _ in range(engine.spec.n_seq)]
    with pytest.raises(EngineError, match="8 sequences"):
        engine.open()
    with pytest.raises(EngineError, match="129 tokens is longer than the engine’s 128"):
        engine.step([Chunk(seqs[0], [1] * 129, sample=False)])


def test_too_few_cells_are_an_error_and_change_nothing(engine: Engine) -> None:
    seq = engine.open()
    for _ in range(8):
        engine.step([Chunk(seq, [5] * 128, sample=False)])
    assert engine.free_cells() == 0
    other = engine.open()
    with pytest.raises(EngineError, match="context of 1,024 tokens is full"):
        engine.step([Chunk(other, [5], sample=True)])
    assert (engine.length(seq), engine.length(other)) == (1024, 0)


def test_logprobs_are_the_log_softmax_of_the_logits(engine: Engine) -> None:
    seq = engine.open()
    ids = engine.tokenizer.encode("The sky is", special=False)
    (row,) = engine.step([Chunk(seq, ids, sample=True)])
    row_logits = logits(engine, row)
    sampler = engine.sampler(Sampling(temperature=0, top_logprobs=3), [])
    sampled = sampler.sample(row)
    sampler.close()
    x = row_logits.astype(np.longdouble)
    reference = np.asarray(x - np.logaddexp.reduce(x), dtype=np.float64)
    assert sampled.id == int(reference.argmax())
    assert sampled.logprob == pytest.approx(reference.max(), abs=1e-5)
    best = np.argsort(reference)[::-1][:3]
    assert [token for token, _ in sampled.top] == best.tolist()


def test_seed_reproduces_and_is_told(engine: Engine) -> None:
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


def test_repeat_penalty_counts_the_prompt(engine: Engine) -> None:
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


def test_logit_bias_forbids_a_token(engine: Engine) -> None:
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
def test_pieces_join_to_the_text(engine: Engine, text: str) -> None:
    ids = engine.tokenizer.encode(text, special=False)
    assert b"".join(engine.tokenizer.piece(token) for token in ids) == text.encode()


def test_special_tokens_only_where_asked(engine: Engine) -> None:
    tokenizer = engine.tokenizer
    assert "<|im_end|>" in tokenizer.special_texts
    (special,) = tokenizer.encode("<|im_end|>", special=True)
    assert special in tokenizer.eog
    assert tokenizer.piece(special) == b""
    assert special not in tokenizer.encode("<|im_end|>", special=False)
