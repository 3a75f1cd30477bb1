"""Speed and memory through the product's engine; how fast is for the benchmarks to say."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.checkpoint import Checkpoint
from edge.device import Device, detect
from edge.errors import ModelError
from quantize.ggml.export import export
from quantize.measuring.speed import conditions, measure_speed
from tests.quantize import tiny

pytestmark = pytest.mark.model


def test_each_model_is_run_in_its_own_process(tiny_gguf: Path, model_path: Path) -> None:
    steps: list[tuple[int, int | None]] = []
    tiny, smollm2 = measure_speed(
        [tiny_gguf, model_path], threads=1, runs=1, progress=lambda *step: steps.append(step)
    )
    assert steps == [(1, 2), (2, 2)]
    assert tiny.prefill > smollm2.prefill > 0
    assert tiny.decode > smollm2.decode > 0
    assert tiny.decode_spread == tiny.prefill_spread == 0, "of one run nothing is known of it"
    assert (tiny.n_prompt, tiny.n_gen, tiny.threads, tiny.threads_batch) == (512, 128, 1, 1)
    assert smollm2.peak_rss > model_path.stat().st_size > tiny.peak_rss


def test_a_file_that_is_no_model_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"GGUF" + b"\0" * 100)
    with pytest.raises(ModelError):
        measure_speed([tmp_path / "x.gguf"], runs=1)


def test_all_are_measured_with_as_many_tokens_as_the_smallest_window_has(
    tiny_gguf: Path, tmp_path: Path
) -> None:
    config = tiny.CONFIG | {"max_position_embeddings": 96}
    folder = tiny.write(tmp_path / "small", config, tiny.weights(config))
    small = tmp_path / "small.gguf"
    export(Checkpoint.open(folder), small, "F32")
    for speed in measure_speed([tiny_gguf, small], threads=1, runs=1):
        assert (speed.n_prompt, speed.n_gen) == (96, 96)
        assert min(speed.prefill, speed.decode) > 0


def test_what_figures_depend_on_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told = conditions()
    assert detect().cpu.name in told.machine
    assert "llama-cpp-python" in told.engine
    board = Device.started(
        "Raspberry Pi 5", "aarch64", "Cortex-A76", frozenset(), total=1 << 31, taken=0
    )
    monkeypatch.setattr("quantize.measuring.speed.detect", lambda: board)
    of_board = conditions()
    assert of_board.machine == "Raspberry Pi 5, Cortex-A76, aarch64"
    assert of_board.engine == told.engine
