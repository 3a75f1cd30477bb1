"""`lucie quantize` from model folders to bundles, tables and matrices."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from edge import workshop
from edge.bundle import Bundle
from edge.errors import InterruptedByUserError, LucieError, StoreError, UsageError
from edge.gguf_header import read_header
from edge.manifest import DataSource, Manifest
from edge.store import Store
from quantize import gguf_bundle
from quantize.commands import quantize
from quantize.errors import QuantizeError, QuantizeUsageError
from quantize.ggml.imatrix import Importance, ImportanceMatrix
from quantize.measuring import side_by_side
from tests.namespaces import UNSHARE, namespaces
from tests.quantize import tiny

pytestmark = pytest.mark.model

PROGRAM = "from edge.cli import main; main()"


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_becomes_a_bundle_that_runs(
    lucie: Callable[..., Result], tiny_folder: Path, tmp_path: Path
) -> None:
    said = lucie("gguf", tiny_folder, "tiny-q4", "--type", "q4_k_m").stderr
    assert "the same tokens as the source on all of 10002 texts" in said
    bundle = Bundle.open(tmp_path / "tiny-q4", verify=True)
    assert bundle.manifest.kind == "gguf"
    assert bundle.manifest.recipe["type"] == "Q4_K_M"
    assert (bundle.manifest.provenance, bundle.manifest.parents) == ("unknown", ())
    model = Store().find(str(tmp_path / "tiny-q4"))
    header = read_header(model.weights)
    assert header.file_type == "Q4_K_M"
    figures = bundle.manifest.metrics
    assert figures["file size"] == model.weights.stat().st_size
    assert figures["bits per weight"] == pytest.approx(header.bits_per_weight)
    # All weights but the embedding, of which one row is looked up.
    embedding = next(t for t in header.tensors if t.name == "token_embd.weight")
    total = sum(tensor.n_bytes for tensor in header.tensors)
    assert figures["bytes read per token"] == total - embedding.n_bytes
    for label in ("fr", "en", "de", "es", "it", "code", "all"):
        assert figures[f"kld, {label}"] > 0
    assert 0 < figures["greedy agreement"] < 1
    assert f"mean KL divergence {figures['kld, all']:.4f} ±" in said
    assert left(tmp_path) == ["tiny-q4"]


def test_what_is_known_of_the_source_is_carried_along(
    lucie: Callable[..., Result], tiny_folder: Path, tmp_path: Path
) -> None:
    manifest = Manifest(
        kind="model",
        name="source",
        licence="Apache-2.0",
        languages=("fr", "en"),
        provenance="recorded",
        data=(DataSource(name="Wikipedia", licence="CC-BY-SA-4.0"),),
    )
    files = {file.name: file for file in tiny_folder.iterdir()}
    source = Bundle.write(tmp_path / "source", manifest, files)
    lucie("gguf", "source", "export", "--type", "f16")
    made = Bundle.open(tmp_path / "export", verify=False).manifest
    assert made.parents[0].sha256 == source.sha256
    assert (made.licence, made.languages, made.provenance) == (
        "Apache-2.0", ("fr", "en"), "recorded",
    )  # fmt: skip
    assert made.data == manifest.data
    said = read_header(tmp_path / "export/export.gguf").metadata
    assert said["general.license"] == "Apache-2.0"
    assert said["general.languages"] == ("fr", "en")
    assert said["general.dataset.0.name"] == "Wikipedia"
    assert said["general.dataset.0.description"] == "CC-BY-SA-4.0"


def test_a_damaged_source_bundle_is_not_exported(
    lucie: Callable[..., Result], tiny_folder: Path, tmp_path: Path
) -> None:
    manifest = Manifest(kind="model", name="source", provenance="unknown")
    files = {file.name: file for file in tiny_folder.iterdir()}
    Bundle.write(tmp_path / "source", manifest, files)
    with (tmp_path / "source/model.safetensors").open("r+b") as weights:
        weights.seek(-1, 2)
        weights.write(b"\x99")
    with pytest.raises(LucieError, match="SHA-256"):
        lucie("gguf", "source", "export")
    assert left(tmp_path) == ["source"]


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (("gguf", "{folder}", "Upper"), UsageError),
        (("gguf", "{folder}", "x", "--type", "Q9"), QuantizeUsageError),
        (("gguf", "{folder}", "x", "--tensor-type", "ffn_down"), QuantizeUsageError),
        (("gguf", "{folder}", "taken"), StoreError),
        (("gguf", "{folder}", "x", "--type", "f16", "--pure"), QuantizeUsageError),
        (("gguf", "{folder}", "x", "--imatrix", "taken"), LucieError),
        (("gguf", "no-such-folder", "x"), LucieError),
        (("gguf", "{folder}/config.json", "x"), LucieError),
        (("dequantize", "no-such-model", "x"), LucieError),
        (("imatrix", "no-such-model", "taken"), LucieError),
        (("compare", "no-such-model", "other", "--text", "taken"), LucieError),
    ],
)
def test_what_cannot_be_done_leaves_nothing(
    lucie: Callable[..., Result],
    tiny_folder: Path,
    tmp_path: Path,
    arguments: tuple[str, ...],
    kind: type[LucieError],
) -> None:
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(kind) as caught:
        lucie(*(argument.format(folder=tiny_folder) for argument in arguments))
    assert "\n" not in str(caught.value)
    assert left(tmp_path) == ["taken"]


def test_an_export_that_reads_other_tokens_is_not_published(
    lucie: Callable[..., Result], tiny_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    given = json.loads((folder / "tokenizer.json").read_text())
    # Two merges trade places: GGUF has the list, and its reader takes no notice of "ignore_merges".
    given["model"]["ignore_merges"] = True
    given["model"]["merges"] = given["model"]["merges"][:100]
    (folder / "tokenizer.json").write_text(json.dumps(given))
    with pytest.raises(QuantizeError, match="is not published"):
        lucie("gguf", "model", "export")
    assert left(tmp_path) == ["model"]


def test_an_export_that_says_something_else_is_not_published(
    lucie: Callable[..., Result], tiny_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(QuantizeError, match="predictions are too far"):
        lucie("gguf", tiny_folder, "export", "--type", "q4_0", "--max-kld", "1e-6")
    assert left(tmp_path) == []


@pytest.mark.parametrize("stage", ["floats", "tokens", "quantize", "divergence"])
def test_ctrl_c_at_any_stage_leaves_nothing(
    lucie: Callable[..., Result],
    tiny_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    place = {"floats": "export", "tokens": "compare_tokens", "divergence": "compare_predictions"}
    target = gguf_bundle.quantizer if stage == "quantize" else gguf_bundle
    monkeypatch.setattr(target, place.get(stage, stage), interrupt)
    with pytest.raises(InterruptedByUserError):
        lucie("gguf", tiny_folder, "export")
    assert left(tmp_path) == []


@namespaces
@pytest.mark.parametrize(
    ("command", "size", "said"),
    [
        (("gguf", "--type", "f32"), "3m", "7 MB are to be written on the disk"),
        (("gguf", "--type", "q8_0"), "7m", "There is no room left on the disk"),  # after floats
        (("onnx", "--bits", "32"), "3m", "MB are to be written on the disk"),
    ],
)
def test_a_disk_that_is_too_small_is_one_line(
    tiny_folder: Path, tmp_path: Path, command: tuple[str, ...], size: str, said: str
) -> None:
    code = """
        import subprocess, sys
        from edge.cli import main
        folder, source, size, command, *options = sys.argv[1:]
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], check=True)
        code = main(["quantize", command, source, folder + "/export", *options])
        import os
        print(code, os.listdir(folder))
    """
    given = [str(tmp_path), str(tiny_folder), size, *command]
    ran = subprocess.run(
        [*UNSHARE, sys.executable, "-c", textwrap.dedent(code), *given],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert ran.stdout == "1 []\n", ran.stderr
    assert ran.stderr.startswith("lucie: ")
    assert said in ran.stderr
    assert re.search(rf"disk of {re.escape(str(tmp_path))}[.,]", ran.stderr)
    assert ran.stderr.count("\n") == 1


def test_matrix_and_comparison(
    lucie: Callable[..., Result], tiny_folder: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lucie("gguf", tiny_folder, "f32", "--type", "f32")
    said = lucie("imatrix", "./f32", f"fr={text}", f"en={text}", "--chunks", "2").stderr
    assert "f32.imatrix.gguf: 14 matrices, 1,024 tokens." in said
    assert "one language" not in said
    lucie("gguf", tiny_folder, "q4", "--type", "q4_0", "--imatrix", "f32.imatrix.gguf")
    lucie("gguf", tiny_folder, "q8", "--type", "q8_0")
    arguments = ("compare", "./f32", "./q4", "./q8", "--text", f"fr={text}", "--text", f"en={text}")
    quick = (*arguments, "--chunks", "2", "--no-speed")
    heading, _, *rows = lucie(*quick).stdout.splitlines()
    assert [cell.strip() for cell in heading.strip("|").split("|")] == [
        "model", "type", "MB", "bits/weight", "mean KLD", "99 % KLD", "PPL ratio", "same top, %",
        "KLD fr", "KLD en",
    ]  # fmt: skip
    assert [row.split("|")[2].strip() for row in rows] == ["F32", "Q4_0", "Q8_0"]
    told: list[dict[str, Any]] = json.loads(lucie(*quick, "--json").stdout)
    q4, q8 = (one["figures"]["all"]["kld"]["value"] for one in told[1:])
    assert 0 < q8 < q4
    assert set(told[1]["figures"]) == {"fr", "en", "all"}
    assert (told[0]["figures"], told[1]["speed"]) == ({}, None)
    with monkeypatch.context() as short_of_memory:
        short_of_memory.setattr(side_by_side, "groups", lambda _, paths: [[path] for path in paths])
        assert json.loads(lucie(*quick, "--json").stdout) == told


def test_a_comparison_with_speed_and_picture(
    lucie: Callable[..., Result], tiny_folder: Path, tiny_gguf: Path, tmp_path: Path
) -> None:
    lucie("gguf", tiny_folder, "q4", "--type", "q4_0")
    ran = lucie("compare", tiny_gguf, "./q4", "--chunks", "6", "--picture", "q4.svg")
    assert "q4.svg: the picture." in ran.stderr
    cells = [line.split("|") for line in ran.stdout.splitlines()]
    for row in cells[2:]:
        prefill, decode, memory = (
            float(row[n].replace(",", "").partition(" ±")[0]) for n in (9, 10, 11)
        )
        assert prefill > decode > 0
        assert memory > 10
    assert ">q4<" in (tmp_path / "q4.svg").read_text()
    with pytest.raises(QuantizeUsageError, match="ends in one of"):
        lucie("compare", tiny_gguf, "./q4", "--picture", "q4.jpeg")


def test_a_mixture_is_found_that_loses_less_at_the_same_size(
    lucie: Callable[..., Result], tiny_folder: Path, tmp_path: Path
) -> None:
    said = lucie("search", tiny_folder, "best", "--like", "q4_k_m").stderr
    assert [re.sub(r"[0-9a-f]{8}", "KEY", name) for name in left(tmp_path)] == [
        "best", "model.KEY.sensitivity.json"
    ]  # fmt: skip
    made = Bundle.open(tmp_path / "best", verify=True)
    figures = made.manifest.metrics
    stock = re.search(r"Q4_K_M, \S+ MB: mean KL divergence (\S+) ±.*Ours is (\S+) of it", said)
    assert stock is not None
    assert figures["kld, all"] / float(stock[1]) == pytest.approx(float(stock[2]), abs=0.02)
    assert float(stock[2]) < 1
    lucie("gguf", tiny_folder, "stock", "--type", "q4_k_m")
    size = Bundle.open(tmp_path / "stock", verify=False).manifest.metrics["file size"]
    assert 0.9 * size < figures["file size"] <= size
    # Another budget, from what was measured.
    lucie("search", tiny_folder, "small", "--bpw", "4.6", "--types", "q4_0,q5_0,q4_k,q6_k")
    header = read_header(tmp_path / "small" / "small.gguf")
    assert 4.4 < header.bits_per_weight <= 4.6
    assert {t.type for t in header.tensors} <= {"F32", "Q4_0", "Q5_0", "Q4_K", "Q6_K"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "Give one of"),
        (("--bpw", "4", "--like", "q4_0"), "Give one of"),
        (("--bpw", "4", "--types", "q4_0,q9"), "Q9"),
        (("--like", "q9"), "Q9"),
        (("--like", "f16"), "F16 is no mixture"),
        (("--like", "iq2_xs"), "importance matrix"),
        (("--bpw", "5", "--types", "iq2_xxs"), "IQ2_XXS"),
        (("--bpw", "5", "--types", "iq3_xxs,q8_0"), "IQ3_XXS needs an importance matrix"),
        (("--bpw", "2"), "in their smallest types"),
        (("--budget-mb", "0.0000001"), "in their smallest types"),
        (("--bpw", "5", "--max-kld", "1e-9"), "is not published"),
    ],
)
def test_a_search_that_cannot_be_is_one_line(
    lucie: Callable[..., Result],
    tiny_folder: Path,
    tmp_path: Path,
    arguments: tuple[str, ...],
    told: str,
) -> None:
    with pytest.raises(LucieError, match=told) as caught:
        lucie("search", tiny_folder, "best", *arguments)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "best").exists()


def test_a_budget_that_nothing_meets_is_refused_before_measuring(
    lucie: Callable[..., Result], tiny_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(QuantizeError, match="in their smallest types"):
        lucie("search", tiny_folder, "best", "--budget-mb", "0.1")
    assert left(tmp_path) == []


def test_options_of_another_model_are_refused_before_the_texts_are_compared(
    lucie: Callable[..., Result],
    tiny_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gguf_bundle, "check_tokens", lambda *_: pytest.fail("too late"))
    with pytest.raises(QuantizeUsageError, match="nosuchtensor"):
        lucie("gguf", tiny_folder, "q8", "--type", "q8_0", "--tensor-type", "nosuchtensor=q4_0")
    with pytest.raises(QuantizeUsageError, match="IQ3_XXS"):
        lucie("gguf", tiny_folder, "q8", "--type", "q8_0", "--tensor-type", "output=iq3_xxs")
    entry = Importance(np.ones(64, np.float32), np.ones(1, np.float32))
    other = ImportanceMatrix({"blk.0.attn_q.weight": entry}, (), 1, 512)
    other.write(tmp_path / "other.gguf")
    with pytest.raises(QuantizeError, match="attn_q"):
        lucie("gguf", tiny_folder, "q8", "--type", "q8_0", "--imatrix", "other.gguf")


def test_what_a_killed_export_left_is_cleared_and_what_is_at_work_is_not(
    lucie: Callable[..., Result], tiny_folder: Path, tmp_path: Path
) -> None:
    for name in ("dead", "alive"):
        (tmp_path / f".tmp-export-{name}").mkdir()
        (tmp_path / f".tmp-export-{name}" / "floats.gguf").write_bytes(b"x")
    with workshop.held(tmp_path / ".tmp-export-alive"):
        lucie("gguf", tiny_folder, "export", "--type", "f32")
    assert left(tmp_path) == [".tmp-export-alive", "export"]


def test_matrices_that_no_type_fits_are_told_before_they_are_measured(
    lucie: Callable[..., Result], tmp_path: Path
) -> None:
    config = tiny.CONFIG | {"hidden_size": 288, "num_attention_heads": 9, "num_key_value_heads": 3}
    tiny.write(tmp_path / "odd", config, tiny.weights(config))
    with pytest.raises(QuantizeUsageError, match="whose rows have 288 weights"):
        lucie("search", "odd", "best", "--bpw", "5", "--types", "q4_k,q6_k")
    assert left(tmp_path) == ["odd"]


def test_one_language_only_is_said(
    lucie: Callable[..., Result], tiny_gguf: Path, text: Path
) -> None:
    said = lucie("imatrix", tiny_gguf, f"fr={text}", "--chunks", "1", "-o", "m.gguf").stderr
    assert "All of the text is of one language" in said


@pytest.mark.parametrize("command", [("search", "--bpw", "5"), ("heal",)])
@pytest.mark.parametrize("languages", [("fr",), ("fr", "en")])
def test_one_language_only_is_said_before_anything_is_done(
    tmp_path: Path, text: Path, command: tuple[str, ...], languages: tuple[str, ...]
) -> None:
    texts = [part for label in languages for part in ("--calibration", f"{label}={text}")]
    arguments = [*command, str(tmp_path / "nowhere"), str(tmp_path / "out"), *texts]
    ran = CliRunner().invoke(quantize, arguments, standalone_mode=False)
    assert isinstance(ran.exception, LucieError)
    assert ("All of the text is of one language" in ran.stderr) == (languages == ("fr",))


@pytest.mark.parametrize("command", [("gguf",), ("onnx",), ("search", "--bpw", "5"), ("heal",)])
@pytest.mark.parametrize("missing", ["nowhere.txt", "."])
def test_a_text_that_cannot_be_read_is_told_before_anything_is_done(
    lucie: Callable[..., Result], tmp_path: Path, command: tuple[str, ...], missing: str
) -> None:
    with pytest.raises(QuantizeError, match="cannot be read"):
        lucie(*command, "no-such-folder", "out", "--text", f"en={missing}")
    assert left(tmp_path) == []


def test_help_speaks_both_languages(monkeypatch: pytest.MonkeyPatch) -> None:
    for lang, words in (("en", "Example: lucie quantize"), ("fr", "Exemple : lucie quantize")):
        for command in ("gguf", "dequantize", "imatrix", "compare", "search"):
            ran = subprocess.run(
                [sys.executable, "-c", PROGRAM, "quantize", command, "-h"],
                capture_output=True, text=True, env={"LUCIE_LANG": lang, "PATH": ""},
            )  # fmt: skip
            assert words in ran.stdout
