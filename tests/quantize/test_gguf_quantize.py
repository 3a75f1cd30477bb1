"""llama.cpp's quantizer, called as llama-quantize calls it, in a process of its own."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import gguf
import numpy as np
import pytest

from edge.checkpoint import Checkpoint
from edge.errors import DamagedModelError, StoreError
from edge.gguf_header import read_header
from quantize.errors import QuantizeError, QuantizeUsageError
from quantize.ggml import quantizer
from quantize.ggml.export import export
from quantize.ggml.imatrix import Importance, ImportanceMatrix
from quantize.ggml.quantizer import Override, QuantizeOptions, count_fallbacks, quantize
from tests.quantize import tiny

pytestmark = pytest.mark.model


def types(path: Path) -> dict[str, str]:
    return {tensor.name: tensor.type for tensor in read_header(path).tensors}


def matrix(path: Path, favoured: int) -> ImportanceMatrix:
    """An importance matrix in which one input of each layer's gate counts a thousandfold."""
    entries = {}
    for tensor in read_header(path).tensors:
        if tensor.name.startswith("blk.") and len(tensor.shape) == 2:
            sums = np.ones(tensor.shape[0], np.float32)
            sums[favoured] = 1000
            entries[tensor.name] = Importance(sums, np.ones(1, np.float32))
    made = path.parent / "favours.imatrix.gguf"
    ImportanceMatrix(entries, ("made up",), 1, 512).write(made)
    return ImportanceMatrix.read(made)


@pytest.mark.long("quantize/ggml")
def test_every_type_is_made(tiny_gguf: Path, tmp_path: Path) -> None:
    importance = matrix(tiny_gguf, 5)
    sizes = {}
    for kind in quantizer.TYPES:
        target = tmp_path / f"{kind}.gguf"
        quantize(tiny_gguf, target, QuantizeOptions(kind, importance))
        header = read_header(target)
        assert header.file_type == kind
        sizes[kind] = header.file_size
    assert sizes["IQ1_S"] < sizes["Q2_K"] < sizes["Q4_0"] < sizes["Q4_K_M"] < sizes["Q6_K"]
    assert sizes["Q6_K"] < sizes["Q8_0"] < sizes["F16"] < sizes["F32"]


def test_blocks_are_those_of_the_reference(tiny_gguf: Path, tmp_path: Path) -> None:
    """Q8_0 of gguf-py, which is written after ggml-quants.c."""
    quantize(tiny_gguf, tmp_path / "q8.gguf", QuantizeOptions("Q8_0", pure=True))
    name = "blk.0.ffn_up.weight"
    [source] = [t for t in gguf.GGUFReader(tiny_gguf).tensors if t.name == name]
    [made] = [t for t in gguf.GGUFReader(tmp_path / "q8.gguf").tensors if t.name == name]
    expected = gguf.quants.quantize(source.data, gguf.GGMLQuantizationType.Q8_0)
    assert made.data.tobytes() == expected.tobytes()


def test_importance_lessens_the_error_where_it_matters(tiny_gguf: Path, tmp_path: Path) -> None:
    def error(name: str, importance: ImportanceMatrix | None) -> float:
        target = tmp_path / name
        quantize(tiny_gguf, target, QuantizeOptions("Q2_K", importance, pure=True))
        name = "blk.0.ffn_gate.weight"
        [floats] = [t for t in gguf.GGUFReader(tiny_gguf).tensors if t.name == name]
        [made] = [t for t in gguf.GGUFReader(target).tensors if t.name == name]
        values = gguf.quants.dequantize(made.data, made.tensor_type)
        return float(np.square(values - floats.data)[:, 5].mean())

    assert error("with.gguf", matrix(tiny_gguf, 5)) < error("without.gguf", None) / 2


def test_the_file_says_which_matrix(tiny_gguf: Path, tmp_path: Path) -> None:
    quantize(tiny_gguf, tmp_path / "q4.gguf", QuantizeOptions("Q4_K_M", matrix(tiny_gguf, 5)))
    said = read_header(tmp_path / "q4.gguf").metadata
    assert said["quantize.imatrix.file"] == "favours.imatrix.gguf"
    assert said["quantize.imatrix.dataset"] == "made up"
    assert said["quantize.imatrix.entries_count"] == 14
    assert said["quantize.imatrix.chunks_count"] == 1


def test_tensors_of_other_types(tiny_gguf: Path, tmp_path: Path) -> None:
    target = tmp_path / "mixed.gguf"
    overrides = (Override(r"blk\.1\.ffn_down", "Q8_0"), Override("ffn_down", "Q5_K"))
    quantize(tiny_gguf, target, QuantizeOptions("Q4_K_M", overrides=overrides))
    found = types(target)
    assert found["blk.1.ffn_down.weight"] == "Q8_0"
    assert found["blk.0.ffn_down.weight"] == "Q5_K"
    assert found["blk.0.ffn_up.weight"] == "Q4_K"


def test_tells_how_far_it_is(tiny_gguf: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    quantize(
        tiny_gguf,
        tmp_path / "q4.gguf",
        QuantizeOptions("Q4_0"),
        lambda done, total: told.append((done, total)),
    )
    n = len(read_header(tiny_gguf).tensors)
    assert (told[0], told[-1]) == ((1, n), (n, n))
    assert told == sorted(set(told))


# --- what is refused ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (QuantizeOptions("Q9_9"), "quantize.unknown-type"),
        (QuantizeOptions("IQ2_XS"), "quantize.needs-imatrix"),
        (QuantizeOptions("IQ2_M"), "quantize.needs-imatrix"),
        (QuantizeOptions("IQ3_XS"), "quantize.needs-imatrix"),
        (
            QuantizeOptions("Q4_0", overrides=(Override("ffn_down", "IQ3_XXS"),)),
            "quantize.needs-imatrix",
        ),
        (QuantizeOptions("Q4_0", overrides=(Override("x", "Q9"),)), "quantize.unknown-type"),
        (QuantizeOptions("Q4_0", overrides=(Override("(?i)FFN", "Q8_0"),)), "quantize.dialect"),
        (QuantizeOptions("Q4_0", overrides=(Override("(?<=x)y", "Q8_0"),)), "quantize.dialect"),
        (QuantizeOptions("Q4_0", overrides=(Override("attn_norm", "Q8_0"),)), "quantize.no-match"),
    ],
)
def test_wrong_use(tiny_gguf: Path, tmp_path: Path, options: QuantizeOptions, code: str) -> None:
    with pytest.raises(QuantizeUsageError) as caught:
        quantize(tiny_gguf, tmp_path / "x.gguf", options)
    assert caught.value.code == code
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long("quantize/ggml")
def test_what_needs_a_matrix_is_what_llama_cpp_refuses(
    tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantizer, "check", lambda _: None)
    refused = set()
    for kind in quantizer.TYPES:
        try:
            quantize(tiny_gguf, tmp_path / f"{kind}.gguf", QuantizeOptions(kind))
        except QuantizeError:
            refused.add(kind)
    assert refused == quantizer.NEEDS_IMATRIX


def test_what_llama_cpp_refuses_is_told_in_its_words(
    tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantizer, "check", lambda _: None)
    with pytest.raises(QuantizeError, match=r"cannot quantize .*: [^=]*importance matrix"):
        quantize(tiny_gguf, tmp_path / "x.gguf", QuantizeOptions("IQ3_XXS"))
    assert list(tmp_path.iterdir()) == []


def test_an_embedding_needs_no_matrix(tiny_gguf: Path, tmp_path: Path) -> None:
    target = tmp_path / "x.gguf"
    overrides = (Override("token_embd", "IQ3_XXS"),)
    quantize(tiny_gguf, target, QuantizeOptions("Q4_0", overrides=overrides))
    assert types(target)["token_embd.weight"] == "IQ3_XXS"


def test_a_pattern_that_is_none(tiny_gguf: Path, tmp_path: Path) -> None:
    options = QuantizeOptions("Q4_0", overrides=(Override("(", "Q8_0"),))
    with pytest.raises(QuantizeUsageError, match="regular expression"):
        quantize(tiny_gguf, tmp_path / "x.gguf", options)
    assert list(tmp_path.iterdir()) == []


def test_what_is_quantized_is_not_quantized_again(model_path: Path, tmp_path: Path) -> None:
    with pytest.raises(QuantizeUsageError, match=r"quantized already \(Q4_1"):
        quantize(model_path, tmp_path / "x.gguf", QuantizeOptions("Q4_0"))


def test_nothing_is_overwritten(tiny_gguf: Path, tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_text("mine")
    with pytest.raises(StoreError):
        quantize(tiny_gguf, tmp_path / "x.gguf", QuantizeOptions("Q4_0"))
    assert (tmp_path / "x.gguf").read_text() == "mine"


def test_a_damaged_source(tiny_gguf: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.gguf").write_bytes(tiny_gguf.read_bytes()[:-5000])
    with pytest.raises(DamagedModelError):
        quantize(tmp_path / "cut.gguf", tmp_path / "x.gguf", QuantizeOptions("Q4_0"))


def test_a_matrix_of_another_model(tiny_gguf: Path, tmp_path: Path) -> None:
    entries = {"blk.0.attn_q.weight": Importance(np.ones(64, np.float32), np.ones(1, np.float32))}
    other = ImportanceMatrix(entries, (), 1, 512)
    with pytest.raises(QuantizeError) as caught:
        quantize(tiny_gguf, tmp_path / "x.gguf", QuantizeOptions("Q4_K_M", other))
    assert caught.value.code == "imatrix.other-model"
    assert "attn_q" in str(caught.value)
    assert not (tmp_path / "x.gguf").exists()


def test_a_matrix_without_a_word_on_this_model(tiny_gguf: Path, tmp_path: Path) -> None:
    entries = {"blk.9.attn_q.weight": Importance(np.ones(64, np.float32), np.ones(1, np.float32))}
    other = ImportanceMatrix(entries, (), 1, 512)
    with pytest.raises(QuantizeError, match=r"another model: .* blk\.9\.attn_q"):
        quantize(tiny_gguf, tmp_path / "x.gguf", QuantizeOptions("Q4_K_M", other))
    assert list(tmp_path.iterdir()) == []


def test_a_quantizer_that_is_killed(tiny_gguf: Path, tmp_path: Path) -> None:
    def kill(_done: int, _total: int | None) -> None:
        for child in _children():
            os.kill(child, signal.SIGKILL)

    with pytest.raises(QuantizeError) as caught:
        quantize(tiny_gguf, tmp_path / "x.gguf", QuantizeOptions("IQ3_S"), kill)
    assert caught.value.code == "quantize.died"
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_ends_it_and_leaves_nothing(tiny_gguf: Path, tmp_path: Path) -> None:
    def interrupt(_done: int, _total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quantize(tiny_gguf, tmp_path / "x.gguf", QuantizeOptions("IQ3_S"), interrupt)
    assert list(tmp_path.iterdir()) == []
    assert _children() == []


def _children() -> list[int]:
    """Workers of multiprocessing that this process has started."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
            line = (status.parent / "cmdline").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if fields[1] == str(os.getpid()) and fields[0] != "Z" and "spawn_main" in line:
            found.append(int(status.parent.name))
    return found


def test_rows_that_do_not_fit_the_types_are_counted(tmp_path: Path) -> None:
    """By what llama.cpp gives them; types of 256 weights need the width of one of the matrices."""
    config = tiny.CONFIG | {"hidden_size": 192, "num_attention_heads": 6, "intermediate_size": 256}
    folder = tiny.write(tmp_path / "model", config, tiny.weights(config))
    floats = tmp_path / "floats.gguf"
    export(Checkpoint.open(folder), floats, "F32")
    importance = matrix(floats, 5)
    for kind, counted in (("Q4_K_M", True), ("IQ3_M", True), ("IQ4_NL", False), ("Q4_1", False)):
        options = QuantizeOptions(kind, importance, (Override("attn_k", "Q8_0"),))
        quantize(floats, tmp_path / f"{kind}.gguf", options)
        made = read_header(tmp_path / f"{kind}.gguf").tensors
        matrices = [tensor for tensor in made if len(tensor.shape) > 1]
        types = [gguf.GGMLQuantizationType[tensor.type] for tensor in matrices]
        others = sum(gguf.GGML_QUANT_SIZES[each][0] != 256 for each in types)
        chosen = sum("attn_k" in tensor.name for tensor in matrices)
        assert others > chosen == 2
        assert count_fallbacks(options, made) == (others - chosen if counted else 0)
