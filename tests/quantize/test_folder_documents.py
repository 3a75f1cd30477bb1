"""Model folders whose documents are damaged: one clear line, nothing published."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from edge.checkpoint import Checkpoint
from edge.errors import CheckpointError, LucieError
from quantize.errors import QuantizeError, QuantizeUsageError
from quantize.ggml.export import export
from quantize.ggml.imatrix import Importance, ImportanceMatrix
from quantize.ggml.quantizer import Override, QuantizeOptions, check, quantize
from quantize.gguf_bundle import export_gguf
from quantize.measuring.built_in_texts import CALIBRATION
from quantize.measuring.importance import collect

pytestmark = pytest.mark.model


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_folder, tmp_path / "model")


def change(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def refused(folder: Path, match: str) -> None:
    out = folder.parent / "out"
    with pytest.raises(LucieError, match=match) as caught:
        export_gguf(folder, out, QuantizeOptions("F16"), lambda _: lambda done, total: None)
    assert "\n" not in str(caught.value)
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("README.md", b"\xff\xfe", "README.md cannot be read"),
        ("README.md", b"---\nlicense: apache: 2\n---\n", "README.md is not what .* no YAML"),
        ("chat_template.jinja", b"\xff", "chat_template.jinja cannot be read"),
        ("tokenizer_config.json", b"{", "_config.json is not what it should be: line 1"),
        ("tokenizer_config.json", b"[]", "_config.json is not what it should be: no JSON o"),
        ("tokenizer_config.json", b'{"chat_template": 5}', "chat_template"),
        ("tokenizer_config.json", b'{"chat_template": [{"name": "x"}]}', "chat_template"),
        ("generation_config.json", b"{", "generation_config.json is not"),
        (
            "generation_config.json",
            b'{"top_k": 2.5}',
            "config.json is not .* top_k = 2.5",
        ),
        ("generation_config.json", b'{"top_p": "x"}', "config.json is not .* top_p = x"),
        ("special_tokens_map.json", b"{", "special_tokens_map.json is not"),
    ],
)
def test_a_damaged_document_is_told(folder: Path, name: str, content: bytes, match: str) -> None:
    (folder / name).write_bytes(content)
    refused(folder, match)


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"pad_token_id": -1}, "pad_token_id -1 is not in the vocabulary"),
        ({"unk_token_id": -1}, "unk_token_id -1 is not in the vocabulary"),
        ({"sep_token_id": -1}, "sep_token_id -1 is not in the vocabulary"),
        ({"bos_token_id": 5000}, "bos_token_id 5000 is not in the vocabulary"),
        ({"eos_token_id": [1, 99999]}, "eos_token_id 99999 is not in the vocabulary"),
        ({"rope_scaling": {"rope_type": "linear"}}, "linear wants factor"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "llama3 wants high_freq_factor"),
    ],
)
def test_a_config_that_says_too_little_or_too_much(
    folder: Path, changed: dict[str, Any], match: str
) -> None:
    change(folder / "config.json", lambda config: config.update(changed))
    refused(folder, match)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"hidden_size": "a"}, "config.json : hidden_size : doit être un nombre entier."),
        ({"eos_token_id": ["a"]}, "config.json : eos_token_id : doit être un nombre entier."),
        ({"head_dim": 7}, "config.json : head_dim est impair."),
        ({"architectures": None}, "config.json ne dit pas de quelle architecture"),
    ],
)
def test_what_is_wrong_with_a_config_is_told_in_the_readers_language(
    folder: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], said: str
) -> None:
    monkeypatch.setenv("LUCIE_LANG", "fr")
    change(folder / "config.json", lambda config: config.update(changed))
    refused(folder, said)


@pytest.mark.parametrize("mapping", [{"a": ["x"]}, {"a": {}}, {"a": "../x"}, {"a": 5}])
def test_an_index_that_names_no_files(folder: Path, mapping: dict[str, Any]) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": mapping}))
    refused(folder, "index.json is not what it should be: weight_map")


def test_a_merge_of_tokens_that_are_not_there(folder: Path) -> None:
    change(folder / "tokenizer.json", lambda t: t["model"]["merges"].append(["zz", "qqq"]))
    refused(folder, "tokenizer.json is not what it should be")


def test_a_matrix_never_takes_the_place_of_a_model(tiny_gguf: Path, tmp_path: Path) -> None:
    model = shutil.copy(tiny_gguf, tmp_path / "model.gguf")
    before = model.read_bytes()
    with pytest.raises(QuantizeError, match="is no importance matrix: it is not overwritten"):
        collect(model, CALIBRATION, model, chunks=6, threads=1)
    assert model.read_bytes() == before
    matrix = tmp_path / "m.gguf"
    for _ in range(2):  # an older matrix may be replaced
        collect(model, CALIBRATION, matrix, chunks=6, threads=1)


def test_overrides_that_mean_nothing_are_told(tiny_gguf: Path, tmp_path: Path) -> None:
    out = tmp_path / "q.gguf"
    unknown = QuantizeOptions("Q4_0", overrides=(Override("zzz", "Q8_0"),))
    with pytest.raises(QuantizeUsageError, match="No matrix’s name matches zzz"):
        quantize(tiny_gguf, out, unknown)
    with pytest.raises(QuantizeUsageError, match="is no regular expression"):
        check(QuantizeOptions("Q4_0", overrides=(Override("[", "Q8_0"),)))
    assert not out.exists()


@pytest.mark.parametrize("wider", [1 / 32, 2])
def test_a_matrix_of_another_model_is_told_by_name(
    tiny_gguf: Path, tmp_path: Path, wider: float
) -> None:
    ones = collect(tiny_gguf, CALIBRATION, tmp_path / "m.gguf", chunks=6, threads=1)
    entries = {
        name: Importance(np.resize(entry.sums, int(wider * entry.sums.size)), entry.counts)
        for name, entry in ones.entries.items()
    }
    other = ImportanceMatrix(entries, (), 1, 512)
    with pytest.raises(QuantizeError, match="importance matrix is of another model"):
        quantize(tiny_gguf, tmp_path / "q.gguf", QuantizeOptions("Q4_0", other))


def test_errors_of_the_folder_are_checkpoint_errors(folder: Path) -> None:
    (folder / "README.md").write_bytes(b"\xff")
    with pytest.raises(CheckpointError):
        export_gguf(folder, folder.parent / "out", QuantizeOptions("F16"), lambda _: print)


def test_what_yaml_takes_for_numbers_are_texts(folder: Path, tmp_path: Path) -> None:
    expected = {
        "license": "2",
        "author": "A,B",
        "languages": ["fr", "no"],
        "tags": ["2026"],
        "dataset.0.name": "5",
    }
    said = ("license: 2", "author: [A, B]", "language: [fr, no]", "tags: [2026]")
    card = "\n".join(("---", *said, "datasets: [{name: 5}]", "---", ""))
    (folder / "README.md").write_text(card)
    export(Checkpoint.open(folder), tmp_path / "m.gguf", "F16")
    fields = gguf.GGUFReader(tmp_path / "m.gguf").fields
    assert {key: fields[f"general.{key}"].contents() for key in expected} == expected
