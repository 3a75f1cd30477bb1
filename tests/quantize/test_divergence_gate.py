"""The gate that a quantized export must pass, and the texts that it is measured on."""

from __future__ import annotations

import math
from array import array
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from edge.checkpoint import Checkpoint
from edge.progress import Progress
from quantize.errors import QuantizeError
from quantize.gates.predictions import compare_predictions, greedy_agreement, limit
from quantize.ggml.export import export
from quantize.ggml.quantizer import QuantizeOptions, quantize
from quantize.measuring.built_in_texts import CALIBRATION, MEASURE
from quantize.measuring.calibration import LabelledText
from quantize.measuring.candidates import measure
from quantize.measuring.reading import Reader
from tests.quantize import tiny

pytestmark = pytest.mark.model

PROMPT = array("i", range(40, 60))


@pytest.fixture(scope="module")
def other_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the same shape and vocabulary that has learnt something else."""
    folder = tmp_path_factory.mktemp("other")
    weights = tiny.weights(tiny.CONFIG, seed=2)
    source = tiny.write(folder / "model", tiny.CONFIG, weights)
    export(Checkpoint.open(source), folder / "other.gguf", "F32")
    return folder / "other.gguf"


def silent(_: str) -> Progress:
    return lambda done, total: None


def test_the_greedy_continuation_is_that_of_the_formulas(tiny_gguf: Path) -> None:
    weights, ids = tiny.weights(tiny.CONFIG), list(PROMPT)
    for _ in range(24):
        ids.append(int(tiny.logits(tiny.CONFIG, weights, ids)[-1].argmax()))
    with closing(Reader(tiny_gguf, 64, 1)) as reader:
        assert list(reader.continue_greedily(PROMPT, 24)) == ids[len(PROMPT) :]


def test_a_model_agrees_with_itself_and_not_with_another(tiny_gguf: Path, other_gguf: Path) -> None:
    same = greedy_agreement(tiny_gguf, tiny_gguf, MEASURE, 1)
    assert (same.value, same.error) == (1, 0)
    assert greedy_agreement(tiny_gguf, other_gguf, MEASURE, 1).value < 0.05


def test_the_report_has_the_figures_of_every_language(tiny_gguf: Path, tmp_path: Path) -> None:
    export_ = tmp_path / "q8.gguf"
    quantize(tiny_gguf, export_, QuantizeOptions("Q8_0"))
    report = compare_predictions(tiny_gguf, export_, MEASURE, threads=1, stage=silent)
    assert list(report.figures) == ["fr", "en", "de", "es", "it", "code", "all"]
    again = measure(tiny_gguf, [export_], MEASURE, chunks=12, threads=1)[0]
    metrics = report.metrics()
    for label, figures in again.items():
        assert metrics[f"kld, {label}"] == pytest.approx(figures.kld.value, rel=1e-6)
        assert metrics[f"ppl ratio, {label}, ±"] == pytest.approx(figures.ppl_ratio.error, rel=1e-6)
    assert 0 < metrics["kld, all"] < limit(8.5)
    assert 0.5 < metrics["same top, all"] < 1
    report.require(export_, limit(8.5))
    with pytest.raises(QuantizeError, match=r"too far from the source’s \(fr: mean KL divergence"):
        report.require(export_, 1e-9)


def test_another_models_weights_are_refused_at_every_size(
    tiny_gguf: Path, other_gguf: Path
) -> None:
    report = compare_predictions(tiny_gguf, other_gguf, MEASURE, threads=1, stage=silent)
    for label, figures in report.figures.items():
        assert figures.kld.value > limit(4.5), label
    with pytest.raises(QuantizeError, match="is not published"):
        report.require(other_gguf, limit(4.5))


def test_a_figure_that_is_no_number_is_refused(tiny_gguf: Path) -> None:
    report = compare_predictions(tiny_gguf, tiny_gguf, MEASURE[:1], threads=1, stage=silent)
    broken = report.figures["fr"].kld
    object.__setattr__(broken, "value", math.nan)
    with pytest.raises(QuantizeError, match=r"is not published: it computes no numbers \(fr"):
        report.require(tiny_gguf, 100.0)


def test_smaller_files_may_lose_more() -> None:
    limits = [limit(bits) for bits in (1.6, 2.6, 3.4, 4.5, 5.5, 8.5)]
    assert limits == sorted(limits, reverse=True)
    assert np.isfinite(limits).all()


def test_no_passage_is_both_calibrated_on_and_measured_with() -> None:
    def passages(text: LabelledText) -> set[str]:
        parts = text.path.read_text(encoding="utf-8").split("\n\n")
        return {part.strip() for part in parts if len(part) > 80}

    for calibration, measured in zip(CALIBRATION, MEASURE, strict=True):
        assert calibration.label == measured.label
        assert passages(calibration)
        assert not passages(calibration) & passages(measured)
