"""What each matrix costs, against exporting a model in which it alone is rounded."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from quantize import blocks, sensitivity
from quantize.built_in_texts import CALIBRATION
from quantize.calibration import balanced
from quantize.checkpoint import Checkpoint
from quantize.divergence import compare
from quantize.gguf_export import export
from quantize.reading import Reader
from quantize.sensitivity import Sensitivity, Settings, measure_sensitivity
from tests.quantize import tiny

pytestmark = pytest.mark.model

SETTINGS = Settings(CALIBRATION, ("Q4_0", "Q8_0", "Q4_K"), chunks=6, threads=1)


@pytest.fixture
def floats(tiny_gguf: Path, tmp_path: Path) -> Path:
    return shutil.copy(tiny_gguf, tmp_path / "floats.gguf")


def test_the_cost_is_that_of_a_model_with_this_matrix_rounded(floats: Path, tmp_path: Path) -> None:
    before = hashlib.sha256(floats.read_bytes()).digest()
    found = measure_sensitivity(floats, SETTINGS, tmp_path / "notes.json")
    assert hashlib.sha256(floats.read_bytes()).digest() == before
    weights = tiny.weights(tiny.CONFIG)
    assert len(found) == sum(array.ndim == 2 for array in weights.values())

    name = "model.layers.1.mlp.down_proj.weight"
    weights[name] = blocks.round_trip(weights[name], "Q4_0", None)
    folder = tiny.write(tmp_path / "rounded", tiny.CONFIG, weights)
    export(Checkpoint.open(folder), tmp_path / "rounded.gguf", "F32")
    klds = []
    with Reader(floats, 128, 1) as judge, Reader(tmp_path / "rounded.gguf", 128, 1) as reader:
        for piece in balanced(CALIBRATION, judge.tokens, 128, 6):
            after = np.array(piece.ids[33:], dtype=np.int32)
            expected = judge.read(piece.ids, 32)[:-1]
            klds.append(compare(expected, reader.read(piece.ids, 32)[:-1], after).kld.mean())
    measured = found["blk.1.ffn_down.weight"]
    assert measured.kld == pytest.approx(np.mean(klds), rel=1e-3)
    assert measured.shape == (256, 512)
    assert measured.cost("Q4_0") == pytest.approx(measured.kld)
    assert measured.cost("Q8_0") < measured.cost("Q4_K") < 2 * measured.cost("Q4_0")


def test_what_was_measured_is_not_measured_again(
    floats: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes, measured = tmp_path / "notes.json", list[str]()
    measure = sensitivity._measure

    def counting(model: object, name: str, *rest: object) -> Sensitivity:
        if len(measured) == 3:
            raise KeyboardInterrupt
        measured.append(name)
        return measure(model, name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(sensitivity, "_measure", counting)
    with pytest.raises(KeyboardInterrupt):
        measure_sensitivity(floats, SETTINGS, notes)
    kept = json.loads(notes.read_text())["tensors"]
    assert list(kept) == measured

    monkeypatch.setattr(sensitivity, "_measure", measure)
    steps: list[tuple[int, int | None]] = []
    found = measure_sensitivity(floats, SETTINGS, notes, lambda *step: steps.append(step))
    assert steps[-1] == (16, 16)
    assert found[measured[0]].model_dump() == kept[measured[0]] | {
        "shape": found[measured[0]].shape
    }

    monkeypatch.setattr(sensitivity, "_measure", counting)
    measured.clear()
    assert measure_sensitivity(floats, SETTINGS, notes) == found
    assert measured == []
    other = Settings(CALIBRATION[:1], SETTINGS.types, chunks=6, threads=1)
    with pytest.raises(KeyboardInterrupt):  # measured anew
        measure_sensitivity(floats, other, notes)


def test_notes_that_are_damaged_are_made_anew(floats: Path, tmp_path: Path) -> None:
    notes = tmp_path / "notes.json"
    notes.write_text("{")
    assert len(measure_sensitivity(floats, SETTINGS, notes)) == 16
