"""What each matrix costs, against exporting a model in which it alone is rounded."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.checkpoint import Checkpoint
from quantize.errors import QuantizeError
from quantize.ggml import blocks
from quantize.ggml.export import export
from quantize.ggml.imatrix import Importance, ImportanceMatrix
from quantize.measuring.built_in_texts import CALIBRATION
from quantize.measuring.calibration import balanced
from quantize.measuring.divergence import compare
from quantize.measuring.reading import Reader
from quantize.search.notes import Sensitivity
from quantize.search.sensitivity import Settings, _Probing, measure_sensitivity
from tests.quantize import tiny

pytestmark = pytest.mark.model

SETTINGS = Settings(CALIBRATION, ("Q4_0", "Q8_0", "Q4_K"), chunks=6, threads=1)
DOWN = "blk.1.ffn_down.weight"
N = 16  # matrices


@pytest.fixture
def floats(tiny_gguf: Path, tmp_path: Path) -> Path:
    return shutil.copy(tiny_gguf, tmp_path / "floats.gguf")


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of matrices, as they are measured; after `limit` of them the user interrupts."""
    names: list[str] = []
    measure = _Probing.measure

    def counting(self: _Probing, name: str) -> Sensitivity:
        found = measure(self, name)
        names.append(name)
        return found

    monkeypatch.setattr(_Probing, "measure", counting)
    return names


def notes(folder: Path) -> Path:
    (path,) = folder.glob("tiny.*.sensitivity.json")
    return path


def find(floats: Path, settings: Settings = SETTINGS, **more: Any) -> dict[str, Sensitivity]:
    return measure_sensitivity(floats, settings, floats.parent, "tiny", **more)


def expected_kld(floats: Path, folder: Path, importance: Any) -> float:
    """Of a model that is exported with this matrix rounded."""
    weights = tiny.weights(tiny.CONFIG)
    name = "model.layers.1.mlp.down_proj.weight"
    weights[name] = blocks.round_trip(weights[name], "Q4_0", importance)
    source = tiny.write(folder / "rounded", tiny.CONFIG, weights)
    export(Checkpoint.open(source), folder / "rounded.gguf", "F32")
    klds = []
    with (
        closing(Reader(floats, 128, 1)) as judge,
        closing(Reader(folder / "rounded.gguf", 128, 1)) as reader,
    ):
        for piece in balanced(CALIBRATION, judge.tokens, 128, 6):
            after = np.array(piece.ids[33:], dtype=np.int32)
            reference = judge.read(piece.ids, 32)[:-1]
            klds.append(compare(reference, reader.read(piece.ids, 32)[:-1], after).kld.mean())
    return float(np.mean(klds))


def test_the_cost_is_that_of_a_model_with_this_matrix_rounded(floats: Path, tmp_path: Path) -> None:
    before = hashlib.sha256(floats.read_bytes()).digest()
    found = find(floats)
    assert hashlib.sha256(floats.read_bytes()).digest() == before
    assert len(found) == sum(array.ndim == 2 for array in tiny.weights(tiny.CONFIG).values()) == N
    measured = found[DOWN]
    assert measured.kld == pytest.approx(expected_kld(floats, tmp_path, None), rel=1e-3)
    assert measured.shape == (256, 512)
    assert measured.cost("Q4_0") == pytest.approx(measured.kld)
    assert measured.cost("Q8_0") < measured.cost("Q4_K") < 2 * measured.cost("Q4_0")


def importance(floats: Path, columns: dict[str, int] | None = None) -> ImportanceMatrix:
    dice = np.random.default_rng(5)
    entries = {}
    for name, one in find(floats).items():
        if name.startswith("blk."):
            size = (columns or {}).get(name, one.shape[1])
            sums = dice.uniform(1, 100, size).astype(np.float32)
            entries[name] = Importance(sums, np.ones(1, dtype=np.float32))
    return ImportanceMatrix(entries, (), 1, 512)


def test_rounding_is_weighed_by_importance(floats: Path, tmp_path: Path) -> None:
    matrix = importance(floats)
    found = find(floats, replace(SETTINGS, imatrix=matrix))[DOWN]
    weighed = expected_kld(floats, tmp_path, matrix.entries[DOWN].means)
    assert found.kld == pytest.approx(weighed, rel=1e-3)
    assert found.kld != pytest.approx(find(floats)[DOWN].kld, rel=1e-3)


def test_an_importance_matrix_of_another_model_is_refused(floats: Path) -> None:
    other = importance(floats, {DOWN: 8})
    with pytest.raises(QuantizeError, match="is of another model: it has 8 inputs for blk"):
        find(floats, replace(SETTINGS, imatrix=other))
    smaller = ImportanceMatrix({n: e for n, e in other.entries.items() if n != DOWN}, (), 1, 512)
    with pytest.raises(QuantizeError, match="is of another model: it has 0 inputs for blk"):
        find(floats, replace(SETTINGS, imatrix=smaller))


def test_what_was_measured_is_not_measured_again(floats: Path, measured: list[str]) -> None:
    def interrupt(done: int, total: int | None) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        find(floats, progress=interrupt)
    kept = json.loads(notes(floats.parent).read_text())["tensors"]
    assert list(kept) == measured
    assert len(measured) == 3
    found = find(floats)
    assert len(measured) == len(set(measured)) == N
    assert find(floats) == found
    # Other formats want no other measurements.
    more = find(floats, replace(SETTINGS, types=("Q4_0", "Q6_K")))
    assert len(measured) == N
    assert more[DOWN].kld == found[DOWN].kld
    assert set(more[DOWN].errors) == {"Q4_0", "Q8_0", "Q4_K", "Q6_K"}


def test_measurements_with_other_texts_stand_beside_the_first(
    floats: Path, measured: list[str]
) -> None:
    find(floats)
    find(floats, replace(SETTINGS, texts=CALIBRATION[:1]))
    assert len(measured) == 2 * N
    find(floats)
    assert len(measured) == 2 * N
    assert len(list(floats.parent.glob("tiny.*.sensitivity.json"))) == 2


@pytest.mark.parametrize("damage", ["cut", "negative", "shape", "no probe", "fifo", "other key"])
def test_notes_are_not_believed(floats: Path, measured: list[str], damage: str) -> None:
    good = find(floats)
    path = notes(floats.parent)
    content = json.loads(path.read_text())
    one = content["tensors"][DOWN]
    again = 1
    match damage:
        case "negative":
            one["kld"] = -1
        case "shape":
            one["shape"] = [1, 2]
        case "no probe":
            one["errors"] = {}
        case "other key":
            content["key"], again = "x", N
        case "cut" | "fifo":
            again = N
    path.write_text(json.dumps(content)[: 100 if damage == "cut" else None])
    if damage == "fifo":
        path.unlink()
        os.mkfifo(path)
    measured.clear()
    assert find(floats) == good
    assert len(measured) == again


def test_weights_on_the_grid_of_the_probe_are_probed_with_another(
    floats: Path, tmp_path: Path
) -> None:
    weights = tiny.weights(tiny.CONFIG)
    name = "model.layers.1.mlp.down_proj.weight"
    weights[name] = blocks.round_trip(weights[name], "Q4_0", None)
    source = tiny.write(tmp_path / "grid", tiny.CONFIG, weights)
    floats.unlink()
    export(Checkpoint.open(source), floats, "F32")
    found = find(floats, replace(SETTINGS, types=("Q4_0", "Q2_K", "Q8_0")))[DOWN]
    assert found.probe == "IQ4_NL"
    assert found.cost("Q4_0") < 1e-3 * found.cost("IQ4_NL")
    assert found.cost("Q2_K") > found.cost("IQ4_NL") > found.cost("Q8_0") > 0


def test_a_model_that_computes_no_numbers_is_told(
    floats: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(weights: Any, *_: object) -> Any:
        return np.full_like(weights, np.nan)

    monkeypatch.setattr(blocks, "round_trip", broken)
    with pytest.raises(QuantizeError, match="computes no numbers"):
        find(floats)


def test_a_disk_that_does_not_map_what_is_written_is_told(
    floats: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quantize.search.patched_model.PatchedModel._write", lambda *_: 0)
    with pytest.raises(QuantizeError, match="does not map files"):
        find(floats)
