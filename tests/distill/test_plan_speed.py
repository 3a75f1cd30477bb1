"""The two laws of speed, held against what others measured on real boards.

`fitted`: a constant of the board comes from it, so the law must give it back. The others are
predictions. How far those may be off is what was found, with its reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from distill.planning.blank import write_blank
from distill.planning.boards import HERE, Board, boards
from distill.planning.here import measure
from distill.planning.speed import predict
from distill.planning.storage import tensors
from distill.words import FOLDER
from edge.gguf_types import GGUFHeader
from edge.header import read_model
from edge.llama_config import LlamaConfig
from edge.messages import entries
from tests.distill.models import (
    LLAMA_1B,
    LLAMA_3B,
    LUCIE,
    QWEN_05B,
    QWEN_15B,
    SMOLLM_135M,
    TINY_LLAMA,
    model,
)


@dataclass(frozen=True)
class Measured:
    """A speed in tokens per second."""

    board: str
    model: LlamaConfig
    type: str
    speed: float
    off: float
    """How far the prediction may be from it."""
    depth: int = 64
    """Tokens in the cache in the middle of the measurement: llama-bench writes 128."""


DECODE = {
    # Arm Learning Paths, "llm-decode-roofline", threads as they are best (1 or 2).
    "pi5 0.5B Q4_0, fitted": Measured("pi5", QWEN_05B, "Q4_0", 33.8, 0.02),
    "pi5 0.5B Q8_0, fitted": Measured("pi5", QWEN_05B, "Q8_0", 22.6, 0.02),
    "pi5 1.5B Q4_0, fitted": Measured("pi5", QWEN_15B, "Q4_0", 12.4, 0.03),
    # On four threads, which are 18 to 19 % slower there, and the law does not know of it:
    # geerlingguy/ai-benchmarks (Ollama, 16 GB), jart on llamafile 0.7, the Edge LLM Leaderboard.
    "pi5 3B Q4_K_M": Measured("pi5", LLAMA_3B, "Q4_K_M", 4.88, 0.25),
    "pi5 1.1B Q8_0": Measured("pi5", TINY_LLAMA, "Q8_0", 9, 0.25),
    "pi5 1.5B Q8_0": Measured("pi5", QWEN_15B, "Q8_0", 5.8, 0.25),
    # jart on llamafile 0.7; geerlingguy's Pi 400 has the Pi 4's processor and memory.
    "pi4 1.1B Q8_0, fitted": Measured("pi4", TINY_LLAMA, "Q8_0", 3, 0.02),
    "pi400 3B Q4_K_M": Measured("pi4", LLAMA_3B, "Q4_K_M", 1.60, 0.05),
    # ravijo/pi-llm, 9.5 to 10.9.
    "zero2w 135M Q4_K_M, fitted": Measured("zero2w", SMOLLM_135M, "Q4_K_M", 10.2, 0.05),
    # ik_llama.cpp discussion 63; BF16 is as large as F16.
    "7950x 1B BF16, fitted": Measured("ryzen7950x", LLAMA_1B, "F16", 23.9, 0.03),
    "7950x 1B Q8_0, fitted": Measured("ryzen7950x", LLAMA_1B, "Q8_0", 46.4, 0.03),
    "7950x 1B Q6_K, fitted": Measured("ryzen7950x", LLAMA_1B, "Q6_K", 58.3, 0.03),
}
PREFILL = {
    # Arm Learning Paths and llama.cpp discussion 30069: pp512 on 4 threads.
    "pi5 0.5B Q4_0, fitted": Measured("pi5", QWEN_05B, "Q4_0", 290, 0.03),
    "pi5 1.5B Q4_0, fitted": Measured("pi5", QWEN_15B, "Q4_0", 83, 0.03),
    "pi5 0.5B Q8_0, fitted": Measured("pi5", QWEN_05B, "Q8_0", 250, 0.03),
    "pi4 1.1B Q8_0, fitted": Measured("pi4", TINY_LLAMA, "Q8_0", 10, 0.03),
    # 10 to 18, from run to run.
    "zero2w 135M Q4_K_M, fitted": Measured("zero2w", SMOLLM_135M, "Q4_K_M", 14, 0.3),
}


@pytest.mark.parametrize("name", DECODE)
def test_decode_is_bound_by_memory(name: str) -> None:
    was = DECODE[name]
    speed = predict(was.model, was.type, boards()[was.board], was.depth)
    assert speed.decode == pytest.approx(was.speed, rel=was.off)


@pytest.mark.parametrize("name", PREFILL)
def test_prefill_is_bound_by_arithmetic(name: str) -> None:
    was = PREFILL[name]
    speed = predict(was.model, was.type, boards()[was.board], 0)
    assert speed.prefill == pytest.approx(was.speed, rel=was.off)
    assert speed.prefill_measured


def test_models_of_other_kinds_read_as_fast_for_their_weights() -> None:
    """LFM2-350M and 700M, as Q5_K and Q6_K (llama.cpp pull requests 19356 and 19360).

    Half of their layers are convolutions; their weights outside the embedding (287 and 642
    million) stand in a Llama of as many.
    """
    for ffn, layers, speeds in ((4096, 18, (187, 224)), (6144, 18, (90, 106))):
        width = 1024 if ffn == 4096 else 1536
        like = model(layers, width, ffn, f"{width // 64}/8", 64, 65_536, tied=True)
        weights = like.num_hidden_layers * like.layer_parameters
        truth = 287e6 if width == 1024 else 642e6
        for kind, measured in zip(("Q5_K_M", "Q6_K"), speeds, strict=True):
            speed = predict(like, kind, boards()["pi5"], 0)
            assert speed.prefill is not None
            assert speed.prefill * weights / truth == pytest.approx(measured, rel=0.05)


def test_a_long_context_is_read_too() -> None:
    """At 32,000 tokens Lucie's cache, 4.19 GB in f16, weighs as much as its Q4_K_M weights."""
    board = boards()["pi5"]
    empty, full = (predict(LUCIE, "Q4_K_M", board, n).decode for n in (0, 32_000))
    cache = 2 * 32 * 8 * 128 * 2 * 32_000
    assert 1 / full - 1 / empty == pytest.approx(cache / 11.82e9)


def test_what_is_not_known_of_a_board_is_not_said() -> None:
    unknown = predict(LLAMA_1B, "Q4_0", boards()["ryzen7950x"], 0)
    assert (unknown.prefill, unknown.prefill_measured) == (None, False)
    guess, known = (predict(LLAMA_1B, kind, boards()["pi5"], 0) for kind in ("F16", "Q5_K_M"))
    assert not guess.prefill_measured
    assert guess.prefill == known.prefill  # the least of the board's figures


@pytest.mark.parametrize("name", list(boards()))
def test_every_constant_has_a_source(name: str) -> None:
    board = boards()[name]
    assert bool(board.gops) == bool(board.gops_source)


def test_every_bandwidth_has_a_source() -> None:
    assert entries("boards", "en", folder=FOLDER).keys() == {*boards(), HERE}


@pytest.mark.model
def test_this_machine_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.planning.here._READ_BYTES", 1 << 22)
    monkeypatch.setattr("distill.planning.here._TRIES", 1)
    done: list[tuple[int, int | None]] = []
    board = measure(lambda n, total: done.append((n, total)))
    assert isinstance(board, Board)
    kinds = {"F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0"}
    assert set(board.gops) == set(board.bandwidths) == kinds
    assert all(0.01 < gops < 100_000 for gops in board.gops.values())
    assert all(0.01 < rate <= board.bandwidth_gb_per_s for rate in board.bandwidths.values())
    assert done[-1] == (6, 6)


def test_a_bandwidth_that_was_measured_counts_for_its_quantization() -> None:
    board = boards()["pi5"].model_copy(update={"bandwidths": {"Q8_0": 5.0}})
    half, whole = (predict(LLAMA_1B, "Q8_0", each, 64).decode for each in (board, boards()["pi5"]))
    assert half / whole == pytest.approx(5.0 / boards()["pi5"].bandwidth_gb_per_s)
    same = {predict(LLAMA_1B, "Q4_0", each, 64).decode for each in (board, boards()["pi5"])}
    assert len(same) == 1


@pytest.mark.model
@pytest.mark.parametrize("kind", ["Q4_K_M", "Q4_0", "F16"])
def test_a_blank_model_has_the_bytes_of_the_plan(kind: str, tmp_path: Path) -> None:
    shape = model(2, 256, 512, "4/2", 64, 512, tied=True)
    write_blank(tmp_path / "blank.gguf", shape, kind)
    header = read_model(tmp_path / "blank.gguf")
    assert isinstance(header, GGUFHeader)
    found = {tensor.name: (tensor.shape, tensor.type, tensor.n_bytes) for tensor in header.tensors}
    wanted = {each.name: (each.shape, each.type, each.n_bytes) for each in tensors(shape, kind)}
    assert found == wanted
    assert header.n_params == shape.parameters
