"""The memory estimate against what processes really took, and its refusals."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from edge.device import detect
from edge.engine import LoadOptions
from edge.errors import MemoryRefusedError
from edge.gguf_header import GGUFHeader, read_header
from edge.memory import estimate, require
from edge.messages import LANGUAGES, text
from edge.onnx_header import read_onnx
from tests.edge.memory_probe import options

ROOT = Path(__file__).parents[2]
X86 = frozenset({"avx2"})
ARM = frozenset({"asimd", "asimddp"})
NONE: frozenset[str] = frozenset()


def probe(*arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tests.edge.memory_probe", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def q4_0(model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default model in a type that CPUs have rearranged kernels for; its own has none."""
    path = tmp_path_factory.mktemp("model") / "q4_0.gguf"
    probe("quantize", model_path, path)
    return path


@pytest.fixture(scope="module")
def header(model_path: Path) -> GGUFHeader:
    return read_header(model_path)


@pytest.mark.parametrize("repack", [False, True])
@pytest.mark.parametrize("kv_type", ["f16", "q8_0"])
@pytest.mark.parametrize("n_ctx", [512, 2048, 8192])
def test_the_estimate_is_right(q4_0: Path, n_ctx: int, kv_type: str, repack: bool) -> None:
    flags = detect().cpu.flags
    expected = estimate(read_header(q4_0), options(n_ctx, kv_type, repack), flags)
    assert (expected.repacked > 50 << 20) == (repack and bool(flags & (X86 | ARM)))
    measured = int(probe(q4_0, n_ctx, kv_type, repack))
    assert expected.total == pytest.approx(measured, rel=0.15)


@pytest.mark.parametrize("n_ctx", [512, 2048])
def test_the_estimate_for_onnx_runtime_is_right(smollm2_onnx: Path, n_ctx: int) -> None:
    expected = estimate(read_onnx(smollm2_onnx), options(n_ctx, "f32", repack=False), NONE)
    measured = int(probe(smollm2_onnx, n_ctx, "f32", False))
    assert expected.total == pytest.approx(measured, rel=0.15)


def test_the_default_model_has_nothing_to_rearrange(header: GGUFHeader) -> None:
    for flags in (X86, NONE):
        assert estimate(header, options(512, "f16", repack=True), flags).repacked == 0
    # Its token embedding, Q8_0, is also the output matrix, for which ARM has a kernel.
    embedding = header.tensors[0]
    assert (embedding.name, embedding.type) == ("token_embd.weight", "Q8_0")
    assert estimate(header, options(512, "f16", repack=True), ARM).repacked == embedding.n_bytes


def test_what_is_rearranged_depends_on_the_cpu(q4_0: Path) -> None:
    header = read_header(q4_0)
    load = options(512, "f16", repack=True)
    matrices = sum(t.n_bytes for t in header.tensors if t.type == "Q4_0")
    embedding = next(t for t in header.tensors if t.name == "token_embd.weight")
    assert estimate(header, load, NONE).repacked == 0
    assert estimate(header, load, X86).repacked == matrices
    assert estimate(header, load, ARM).repacked == matrices + embedding.n_bytes
    assert estimate(header, replace(load, repack=False), ARM).repacked == 0
    # With an output matrix of its own the embedding is only looked up in.
    output = replace(embedding, name="output.weight", type="F16")
    untied = replace(header, tensors=(*header.tensors, output))
    assert estimate(untied, load, ARM).repacked == matrices
    # Rows that do not fill the interleaving stay as they are.
    odd = replace(header, tensors=tuple(replace(t, shape=(576, 12)) for t in header.tensors))
    assert estimate(odd, load, X86).repacked == 0
    assert estimate(odd, load, ARM).repacked == matrices + embedding.n_bytes


def test_the_kv_cache_follows_from_its_shape(header: GGUFHeader) -> None:
    def kv(n_ctx: int, kv_type: str = "f16") -> int:
        return estimate(header, options(n_ctx, kv_type, repack=False), NONE).kv

    values = 30 * 3 * (64 + 64)  # layers, key heads, key and value
    assert kv(2048) - kv(1024) == pytest.approx(1024 * values * 2, rel=0.01)
    assert kv(2048, "q8_0") / kv(2048) == pytest.approx(34 / 64, rel=0.01)
    assert kv(257) == kv(512) == 2 * kv(256)


def test_more_sequences_and_longer_steps_need_more(header: GGUFHeader) -> None:
    load = options(2048, "f16", repack=False)
    little = estimate(header, load, NONE).compute
    rows = 4 * header.n_vocab * 6
    assert estimate(header, replace(load, n_seq=8), NONE).compute >= little + rows
    assert estimate(header, replace(load, n_batch=512), NONE).compute > 3 * little


def refused(header: GGUFHeader, load: LoadOptions, available: int) -> MemoryRefusedError:
    needed = estimate(header, load, X86)
    with pytest.raises(MemoryRefusedError) as caught:
        require(needed, available, header, load, X86)
    error = caught.value
    assert json.dumps(error.facts)
    for language in LANGUAGES:
        assert header.name in text(error.code, lang=language, **error.facts)
    return error


def choice(error: MemoryRefusedError) -> tuple[str, int, str]:
    return error.code, error.facts["n_ctx"], error.facts["kv_type"]


def test_what_fits_is_not_refused(header: GGUFHeader) -> None:
    load = options(8192, "f16", repack=False)
    needed = estimate(header, load, X86)
    require(needed, needed.total, header, load, X86)


def test_a_refusal_names_what_loses_least(q4_0: Path) -> None:
    header = read_header(q4_0)
    load = options(8192, "f16", repack=True)

    def total(n_ctx: int, kv_type: str, repack: bool) -> int:
        return estimate(header, options(n_ctx, kv_type, repack), X86).total

    def found(available: int) -> tuple[str, int, str]:
        return choice(refused(header, load, available))

    assert found(total(8192, "f16", repack=True) - 1) == ("memory.fits-repacked", 4096, "f16")
    assert found(total(1024, "f16", repack=True)) == ("memory.fits-repacked", 1024, "f16")
    assert found(total(1024, "f16", repack=True) - 1) == ("memory.fits-repacked", 1024, "q8_0")
    assert found(total(1024, "q8_0", repack=True) - 1) == ("memory.fits", 2048, "f16")
    error = refused(header, load, total(1024, "q8_0", repack=False) - 1)
    assert error.code == "memory.too-large"
    assert error.facts["least"] == -(-total(1024, "q8_0", repack=False) // 10**6)
    assert error.facts["total"] > error.facts["least"] >= error.facts["available"]


def test_a_refusal_never_offers_what_cannot_be(header: GGUFHeader) -> None:
    load = options(512, "f16", repack=False)
    odd = replace(header, head_dim_k=48, head_dim_v=48)  # q8_0 counts in blocks of 32
    needed = estimate(odd, load, X86)
    assert refused(odd, load, needed.total - 1).code == "memory.too-large"
    assert choice(refused(header, load, estimate(header, load, X86).total - 1)) == (
        "memory.fits",
        512,
        "q8_0",
    )
