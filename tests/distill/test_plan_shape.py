"""What is said of a shape is what llama.cpp makes of it, and what was published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from distill.planning.boards import boards
from distill.planning.storage import (
    QUANTIZATIONS,
    bytes_per_token,
    file_bytes,
    kv_bytes_per_token,
    memory_bytes,
    tensors,
)
from distill.slices import is_slice, kept, resized
from edge.checkpoint import Checkpoint
from edge.gguf_header import read_header
from edge.gguf_types import GGUFHeader
from edge.llama_config import LlamaConfig
from quantize.ggml.export import export
from quantize.ggml.quantizer import QuantizeOptions, quantize
from tests.distill.models import LLAMA_1B, LLAMA_3B, LUCIE, QWEN_05B, SMOLLM_135M, TINY_LLAMA
from tests.quantize import tiny

SIZES = {
    "Lucie-7B": (LUCIE, 6_706_958_336),
    "Llama-3.2-1B": (LLAMA_1B, 1_235_814_400),
    "Llama-3.2-3B": (LLAMA_3B, 3_212_749_824),
    "TinyLlama": (TINY_LLAMA, 1_100_048_384),
    "SmolLM2-135M": (SMOLLM_135M, 134_515_008),
}
"""Parameters as their publishers' files hold them."""


@pytest.mark.parametrize("name", SIZES)
def test_parameters_are_those_of_the_published_files(name: str) -> None:
    config, published = SIZES[name]
    assert config.parameters == published


def student(**sizes: int) -> LlamaConfig:
    whole = {"layers": 20, "width": 2048, "ffn": 6144, "heads": 16, "kv_heads": 4}
    return resized(LUCIE, **(whole | sizes))


def test_a_slice_keeps_whole_groups_or_thins_them_all() -> None:
    assert is_slice(LUCIE, student()) is None
    assert is_slice(LUCIE, student(kv_heads=8)) is None
    assert is_slice(LUCIE, LUCIE) is None
    assert is_slice(student(), student(layers=16)) is None


@pytest.mark.parametrize(
    ("sizes", "code"),
    [
        ({"heads": 16, "kv_heads": 2}, "groups"),
        ({"heads": 16, "kv_heads": 16}, "larger"),
        ({"layers": 33}, "larger"),
        ({"width": 4352}, "larger"),
        ({"ffn": 12_544}, "larger"),
    ],
)
def test_what_the_teacher_does_not_have_is_no_slice(sizes: dict[str, int], code: str) -> None:
    fault = is_slice(LUCIE, student(**sizes))
    assert fault is not None
    assert fault.code == code


def test_other_heads_and_another_vocabulary_are_no_slice() -> None:
    fault = is_slice(LUCIE, student().model_copy(update={"head_dim": 64}))
    assert fault is not None
    assert str(fault).startswith("its heads have 64 numbers, the teacher’s 128")
    fault = is_slice(LUCIE, student().model_copy(update={"vocab_size": 32_000}))
    assert fault is not None
    assert fault.code == "vocabulary-differs"


def test_what_is_kept_is_a_part_of_each_dimension() -> None:
    assert kept(LUCIE, student()) == {
        "num_hidden_layers": 0.625,
        "hidden_size": 0.5,
        "intermediate_size": 0.5,
        "num_attention_heads": 0.5,
        "num_key_value_heads": 0.5,
        "parameters": student().parameters / 6_706_958_336,
    }


def test_a_student_keeps_what_else_the_teacher_is() -> None:
    made = resized(LUCIE, layers=8, width=512, ffn=1024, heads=4, kv_heads=1, tied=True)
    assert (made.rope_theta, made.head_dim, made.vocab_size) == (20e6, 128, 65_024)
    assert made.tie_word_embeddings
    assert not LUCIE.tie_word_embeddings


def test_bytes_of_a_token_are_those_that_arm_counted() -> None:
    """The 429 MB file of Qwen2.5-0.5B Q4_0 reads 346 MB a token, 42 % of it the output matrix.

    Arm Learning Paths, "llm-decode-roofline".
    """
    read = bytes_per_token(QWEN_05B, "Q4_0")
    assert read / 1e6 == pytest.approx(346, abs=0.5)
    assert file_bytes(QWEN_05B, "Q4_0") / 1e6 == pytest.approx(429, abs=1.5)
    [output] = [t for t in tensors(QWEN_05B, "Q4_0") if t.name == "output.weight"]
    assert output.n_bytes / read == pytest.approx(0.42, abs=0.005)


def test_files_of_1b_are_as_large_as_those_that_were_made() -> None:
    """18 × 2048, 16/4 heads, FFN 5,632, untied, exported and quantized by llama.cpp."""
    made = resized(LUCIE, layers=18, width=2048, ffn=5632, heads=16, kv_heads=4)
    sizes = {"F16": 2160, "Q8_0": 1148, "Q4_K_M": 672, "Q4_0": 643}
    for kind, megabytes in sizes.items():
        assert file_bytes(made, kind) / 1e6 == pytest.approx(megabytes, rel=0.01), kind


def test_tying_takes_no_reading_away() -> None:
    """Of an embedding one row is read; the output matrix is read whole, tied or not."""
    both = student()
    tied = both.model_copy(update={"tie_word_embeddings": True})
    for kind in QUANTIZATIONS:
        assert bytes_per_token(tied, kind) == bytes_per_token(both, kind)
    assert file_bytes(both, "F16") - file_bytes(tied, "F16") == 2 * 65_024 * 2048


def test_kv_cache_of_a_token() -> None:
    """Lucie's 32 layers × 8 heads × 128 numbers × 2 bytes, keys and values: 128 KiB."""
    assert kv_bytes_per_token(LUCIE) == 128 << 10
    assert kv_bytes_per_token(student()) == 40 << 10


def test_memory_is_the_runtimes_own_estimate() -> None:
    device = boards()["pi5"].device(2)
    short, long = (memory_bytes(student(), "Q4_K_M", n, device) for n in (1024, 2048))
    assert short > file_bytes(student(), "Q4_K_M")
    assert long - short == pytest.approx(1024 * kv_bytes_per_token(student()), rel=0.03)


CASES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "of 256": ({"num_hidden_layers": 9}, QUANTIZATIONS),
    "tied": ({"num_hidden_layers": 1, "tie_word_embeddings": True}, ("F16", "Q8_0", "Q4_K_M")),
    "of 32": (
        {
            "num_hidden_layers": 3,
            "hidden_size": 192,
            "intermediate_size": 320,
            "num_attention_heads": 6,
        },
        ("Q6_K", "Q5_K_M", "Q4_K_M"),
    ),
}
"""What is changed of the tiny model, and the quantizations that are made of it."""


@pytest.mark.model
@pytest.mark.parametrize("case", CASES)
def test_every_tensor_is_as_llama_cpp_makes_it(case: str, tmp_path: Path) -> None:
    """Names, shapes, types and bytes, against llama.cpp's own quantizer."""
    changed, kinds = CASES[case]
    given = tiny.CONFIG | changed
    folder = tiny.write(tmp_path / "model", given, tiny.weights(given))
    floats = tmp_path / "F16.gguf"
    export(Checkpoint.open(folder), floats, "F16")
    for kind in kinds:
        file = tmp_path / f"{kind}.gguf"
        if kind != "F16":
            quantize(floats, file, QuantizeOptions(kind))
        header = read_header(file)
        assert described(header) == {
            t.name: (t.shape, t.type, t.n_bytes)
            for t in tensors(LlamaConfig.model_validate(given), kind)
        }, kind


def described(header: GGUFHeader) -> dict[str, tuple[tuple[int, ...], str, int]]:
    return {t.name: (t.shape, t.type, t.n_bytes) for t in header.tensors}
