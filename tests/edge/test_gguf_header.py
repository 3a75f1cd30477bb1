"""The checker against gguf-py, against damaged files, and against llama.cpp itself."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import gguf
import pytest

from edge.errors import LucieError
from edge.gguf_architecture import ARCHITECTURES
from edge.gguf_header import read_header
from edge.messages import LANGUAGES, _subject, text
from tests.edge.gguf_cases import CASES
from tests.edge.gguf_files import ARRAY, BOOL, I32, STRING, U32, Model, Tensor, Value, tiny

ROOT = Path(__file__).parents[2]
LIMIT = 64 << 20


def run(script: str, *arguments: object) -> str:
    """The output of a helper script, run by itself: it may die, and its memory is counted."""
    done = subprocess.run(
        [sys.executable, "-m", f"tests.edge.{script}", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def natively(paths: list[Path]) -> dict[str, int]:
    """How a process ends that loads each file with llama.cpp and computes with it."""
    lines = run("native_probe", *paths).splitlines()
    assert len(lines) == len(paths)
    return {Path(line.split(" ", 1)[1]).name: int(line.split(" ", 1)[0]) for line in lines}


# -- right files -----------------------------------------------------------------------------


def test_the_default_model_reads_as_by_gguf_py(model_path: Path) -> None:
    header = read_header(model_path)
    reader = gguf.GGUFReader(model_path)

    def field(key: str) -> object:
        return reader.fields[key].contents()

    assert header.version == field("GGUF.version")
    assert header.file_size == model_path.stat().st_size
    assert header.architecture == field("general.architecture")
    assert header.name == field("general.name")
    assert header.n_layer == field("llama.block_count")
    assert header.n_embd == field("llama.embedding_length")
    assert header.n_ff == field("llama.feed_forward_length")
    assert header.n_head == field("llama.attention.head_count")
    assert header.n_head_kv == field("llama.attention.head_count_kv")
    assert header.head_dim_k == header.head_dim_v == field("llama.rope.dimension_count")
    assert header.n_ctx_train == field("llama.context_length")
    assert header.n_vocab == len(reader.fields["tokenizer.ggml.tokens"].data)
    assert header.n_merges == len(reader.fields["tokenizer.ggml.merges"].data)
    assert header.template == field("tokenizer.chat_template")
    assert header.has_template
    assert header.tied_output
    assert (header.n_swa, header.n_layer_swa) == (0, 0)
    assert header.file_type == "Q4_1"
    scalars = {
        key: value.contents()
        for key, value in reader.fields.items()
        if value.types and value.types[0] != gguf.GGUFValueType.ARRAY and not key.startswith("GGUF")
    }
    scalars.pop("tokenizer.chat_template")
    scalars["general.languages"] = ("en",)
    assert header.metadata == scalars
    assert [(t.name, t.shape, t.type, t.offset, t.n_bytes) for t in header.tensors] == [
        (t.name, tuple(map(int, t.shape)), t.tensor_type.name, t.data_offset, t.n_bytes)
        for t in reader.tensors
    ]
    assert header.n_params == sum(int(t.n_elements) for t in reader.tensors)
    n_bytes = sum(int(t.n_bytes) for t in reader.tensors)
    assert header.bits_per_weight == pytest.approx(8 * n_bytes / header.n_params)


def test_a_file_of_gguf_py_is_read(tmp_path: Path) -> None:
    model = tiny("llama")
    path = tmp_path / "written.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    for key, value in model.pairs.items():
        if key == "general.architecture":
            continue
        if value.kind == ARRAY:
            writer.add_array(key, value.value)
        else:
            writer.add_key_value(key, value.value, gguf.GGUFValueType(value.kind))
    for name, tensor in model.tensors.items():
        shape = tuple(reversed(tensor.shape))
        n_bytes = 4
        for length in shape:
            n_bytes *= length
        writer.add_tensor_info(name, shape, gguf.np.dtype("float32"), n_bytes)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + model.header()[1] + 32)
    theirs = read_header(path)
    ours = read_header(model.write(tmp_path / "ours.gguf"))
    assert theirs.metadata == ours.metadata
    assert [(t.name, t.shape, t.type) for t in theirs.tensors] == [
        (t.name, t.shape, t.type) for t in ours.tensors
    ]


def test_every_architecture_passes_and_runs(tmp_path: Path) -> None:
    paths = []
    for architecture in ARCHITECTURES:
        for tokenizer in ("gpt2", "llama"):
            model = tiny(architecture, tokenizer)
            if ARCHITECTURES[architecture].window == "optional":
                key = f"{architecture}.attention.sliding_window_pattern"
                model.set(key, ARRAY, [True, False], BOOL)
            paths.append(model.write(tmp_path / f"{architecture}-{tokenizer}.gguf"))
            header = read_header(paths[-1])
            assert (header.architecture, header.n_layer, header.n_vocab) == (architecture, 2, 300)
            windowed = ARCHITECTURES[architecture].window != "never"
            assert (header.n_swa, header.n_layer_swa) == ((32, 1) if windowed else (0, 0))
    assert set(natively(paths).values()) == {0}


def test_optional_parts_pass_and_run(tmp_path: Path) -> None:
    biased = tiny("llama")
    for name, length in (("attn_q", 64), ("attn_k", 32), ("attn_v", 32), ("ffn_gate", 96)):
        biased.tensors[f"blk.0.{name}.bias"] = Tensor((length,))
    biased.tensors["output.weight"] = Tensor((64, 300), 8)
    biased.tensors["rope_freqs.weight"] = Tensor((8,))
    long_rope = tiny("phi3", "llama")
    long_rope.set("phi3.rope.scaling.type", STRING, "longrope")
    long_rope.tensors["rope_factors_long.weight"] = Tensor((8,))
    long_rope.tensors["rope_factors_short.weight"] = Tensor((8,))
    listed = tiny("qwen3")
    listed.set("qwen3.feed_forward_length", ARRAY, [96, 96], I32)
    listed.version = 2
    everywhere = tiny("gemma2", "llama")
    everywhere.set("gemma2.attention.sliding_window_pattern", U32, 0)
    aligned = tiny("granite")
    aligned.set("general.alignment", U32, 4096)
    aligned.alignment = 4096
    models = {
        "biased": biased,
        "long": long_rope,
        "listed": listed,
        "everywhere": everywhere,
        "aligned": aligned,
    }
    paths = [model.write(tmp_path / f"{name}.gguf") for name, model in models.items()]
    headers = [read_header(path) for path in paths]
    assert not headers[0].tied_output
    assert headers[3].n_layer_swa == 2
    assert headers[4].tensors[0].offset % 4096 == 0
    assert set(natively(paths).values()) == {0}


def test_hostile_text_is_not_shown(tmp_path: Path) -> None:
    model = tiny("llama")
    model.set("general.name", STRING, "a\x1b[31m\nb")
    assert read_header(model.write(tmp_path / "m.gguf")).name == "a\ufffd[31m\ufffdb"


# -- wrong files, one by one -----------------------------------------------------------------


def error_of(path: Path) -> LucieError:
    with pytest.raises(LucieError) as caught:
        read_header(path)
    return caught.value


@pytest.mark.parametrize("case", CASES, ids=[f"{a}-{c}-{i}" for i, (a, c, _) in enumerate(CASES)])
def test_a_contradiction_is_named(case: tuple[str, str, Callable], tmp_path: Path) -> None:
    architecture, code, change = case
    model = tiny(architecture)
    change(model)
    error = error_of(model.write(tmp_path / "model.gguf"))
    assert error.code == f"gguf.{code}"
    assert json.dumps(error.facts)
    for language in LANGUAGES:
        said = text(error.code, lang=language, **error.facts)
        assert "model.gguf" in said
        assert said.isprintable()


def test_a_sentencepiece_vocabulary_needs_its_bytes(tmp_path: Path) -> None:
    model = tiny("llama", "llama")
    model.pairs["tokenizer.ggml.tokens"].value[3 + ord("é")] = "é"
    error = error_of(model.write(tmp_path / "m.gguf"))
    assert (error.code, error.facts["count"]) == ("gguf.missing-byte-tokens", 1)


def test_names_may_not_repeat(tmp_path: Path) -> None:
    path = tiny("llama").write(tmp_path / "m.gguf")
    path.write_bytes(path.read_bytes().replace(b"blk.1.attn_q.weight", b"blk.0.attn_q.weight"))
    assert error_of(path).code == "gguf.duplicate-tensor"


def test_what_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "page.gguf").write_text("<html>404</html>")
    (tmp_path / "GG").write_bytes(b"GG")
    (tmp_path / "magic").write_bytes(b"GGUF")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    os.mkfifo(tmp_path / "pipe")
    codes = {
        "empty": "not-gguf",
        "page.gguf": "not-gguf",
        "GG": "not-gguf",
        "magic": "truncated",
        "loop": "unreadable",
        "pipe": "not-a-file",
        "absent": "unreadable",
        "empty/below": "unreadable",
        "zero\0byte": "unreadable",
        "\udcff": "unreadable",
        ".": "not-a-file",
    }
    assert {name: error_of(tmp_path / name).code for name in codes} == {
        name: f"gguf.{code}" for name, code in codes.items()
    }
    assert error_of(Path("/dev/zero")).code == "gguf.not-a-file"
    assert str(error_of(tmp_path / "\udcff")).isprintable()


def test_a_disc_that_fails_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tiny("llama").write(tmp_path / "m.gguf")

    def failing(fd: int, n: int, offset: int) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.pread", failing)
    error = error_of(path)
    assert (error.code, error.facts["reason"]) == ("gguf.unreadable", "Input/output error")


def test_every_text_is_said(tmp_path: Path) -> None:
    said = {code for _, code, _ in CASES} | {"unreadable", "not-a-file", "not-gguf", "truncated"}
    said |= {"missing-byte-tokens", "duplicate-tensor", "too-many-tokens", "too-many-strings"}
    locale = Path(sys.modules["edge.messages"].__file__ or "").parent / "locale"
    assert said == set(_subject(locale, "gguf"))


# -- wrong files, by the hundred -------------------------------------------------------------


def test_damaged_copies_of_the_default_model(model_path: Path, tmp_path: Path) -> None:
    report = json.loads(run("real_damage", model_path, tmp_path))
    outcomes = report["outcomes"]
    assert len(outcomes) >= 250
    assert all(code == "passes" or code.startswith("gguf.") for code in outcomes.values())
    assert {"gguf.too-many-tokens", "gguf.too-many-strings"} <= set(outcomes.values())
    assert report["growth"] < LIMIT
    passed = sorted(tmp_path.glob("*.gguf"))
    assert len(passed) == list(outcomes.values()).count("passes") > 0
    assert min(natively(passed).values()) >= 0


def test_flipped_bits_never_end_the_engine(tmp_path: Path) -> None:
    rng = random.Random(20261124)
    passed = []
    for number in range(250):
        architecture = rng.choice(list(ARCHITECTURES))
        header, n_data = tiny(architecture, rng.choice(("gpt2", "llama"))).header()
        data = bytearray(header)
        for _ in range(rng.choice((1, 1, 2, 8))):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path = tmp_path / f"{number}.gguf"
        with path.open("wb") as file:
            file.write(data)
            file.truncate(len(data) + n_data)
        try:
            read_header(path)
            passed.append(path)
        except LucieError:
            path.unlink()
    assert len(passed) > 30
    assert min(natively(passed).values()) >= 0


def most_tokens(model: Model) -> None:
    model.set("tokenizer.ggml.tokens", ARRAY, [f"{i:08x}" for i in range(1 << 19)], STRING)


def test_hostile_sizes_stay_small(tmp_path: Path) -> None:
    long_texts = [(f"k{i}", Value(STRING, "x" * 30_000)) for i in range(990)]
    long_lists = [(f"k{i}", Value(ARRAY, [2**31 + i] * 512, U32)) for i in range(990)]
    text_lists = [(f"k{i}", Value(ARRAY, ["😀" + "x" * 400] * 64, STRING)) for i in range(990)]
    changes: dict[str, Callable[[Model], object]] = {
        "gguf.array-length": most_tokens,
        "passes": lambda model: model.extra_pairs.extend(long_texts),
        "passes too": lambda model: model.extra_pairs.extend(long_lists),
        "passes still": lambda model: model.extra_pairs.extend(text_lists),
    }
    paths = []
    for change in changes.values():
        model = tiny("llama")
        change(model)
        paths.append(model.write(tmp_path / f"{len(paths)}.gguf"))
    lines = run("header_probe", *paths).splitlines()
    for outcome, line in zip(changes, lines, strict=True):
        growth, code = line.split(" ")
        assert outcome.startswith(code)
        assert int(growth) < LIMIT, outcome
