"""Speed and memory through the product's engine; how fast is for the benchmarks to say."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.device import detect
from edge.errors import ModelError
from quantize.measuring.speed import conditions, measure_speed

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
    assert smollm2.peak_rss > model_path.stat().st_size > tiny.peak_rss


def test_a_file_that_is_no_model_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"GGUF" + b"\0" * 100)
    with pytest.raises(ModelError):
        measure_speed([tmp_path / "x.gguf"], runs=1)


def test_what_figures_depend_on_is_told() -> None:
    told = conditions(2)
    assert told == conditions(2) != conditions(3)
    assert detect().cpu.name in told
    assert "llama-cpp-python" in told
