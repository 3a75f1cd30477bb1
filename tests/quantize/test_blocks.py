"""ggml's block formats through llama.cpp, against gguf-py's own quantizers in Python."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
from numpy.typing import NDArray

from quantize.ggml import blocks

pytestmark = pytest.mark.model


def matrix(
    rows: int = 300, columns: int = 256
) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.random.default_rng(3).standard_normal((rows, columns)).astype(np.float32)


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"])
def test_weights_come_back_as_from_gguf_py(kind: str) -> None:
    weights, type_ = matrix(), gguf.GGMLQuantizationType[kind]
    packed = gguf.quants.quantize(weights, type_)
    assert blocks.size(kind, weights.shape) == packed.nbytes
    expected = gguf.quants.dequantize(packed, type_)
    assert np.array_equal(blocks.round_trip(weights, kind, None), expected)


def test_slices_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    weights, importance = matrix(), np.abs(matrix(1)[0]) + 0.1
    whole = blocks.round_trip(weights, "Q4_K", importance)
    monkeypatch.setattr(blocks, "_SLICE", 1000)
    assert np.array_equal(blocks.round_trip(weights, "Q4_K", importance), whole)


def test_importance_moves_the_error_to_where_it_matters_less() -> None:
    weights = matrix()
    importance = np.ones(256, dtype=np.float32)
    importance[::2] = 100
    plain = blocks.round_trip(weights, "Q4_0", None)
    weighed = blocks.round_trip(weights, "Q4_0", importance)

    def error(back: NDArray[np.float32], start: int) -> float:
        return float(np.square((back - weights)[:, start::2]).sum())

    assert error(weighed, 0) < error(plain, 0)
    relative = blocks.relative_error(weights, weighed, importance)
    assert relative < blocks.relative_error(weights, plain, importance)


def test_the_relative_error_is_that_of_the_formula() -> None:
    weights = np.array([[1.0, 2.0], [3.0, 4.0]], dtype=np.float32)
    rounded = np.array([[1.5, 2.0], [3.0, 3.0]], dtype=np.float32)
    assert blocks.relative_error(weights, rounded, None) == pytest.approx(1.25 / 30)
    importance = np.array([2.0, 10.0], dtype=np.float32)
    expected = (2 * 0.25 + 10 * 1) / (2 * 10 + 10 * 20)
    assert blocks.relative_error(weights, rounded, importance) == pytest.approx(expected)
    assert blocks.relative_error(0 * weights, 0 * weights, importance) == 0


def test_only_whole_blocks_fit() -> None:
    assert blocks.fits("Q4_0", 576)
    assert not blocks.fits("Q4_K", 576)
    assert blocks.fits("Q4_K", 1536)


@pytest.mark.parametrize("kind", blocks.KNOWN)
def test_every_known_format_can_be_had_without_importance(kind: str) -> None:
    weights = matrix(8)
    error = blocks.relative_error(weights, blocks.round_trip(weights, kind, None), None)
    assert 0 < error < 0.3


def test_native_code_is_not_let_past_the_end() -> None:
    with pytest.raises(ValueError, match="Q4_0, 256 columns"):
        blocks.round_trip(matrix(), "Q4_0", np.ones(8, dtype=np.float32))
    with pytest.raises(ValueError, match="Q4_K, 64 columns"):
        blocks.round_trip(matrix(4, 64), "Q4_K", None)
