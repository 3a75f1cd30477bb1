"""The whole pipeline on one page: from text to an answer, on a model of two layers.

text ──▶ teacher ──▶ cut, recover ──▶ GGUF and ONNX ──▶ an answer
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edge.bundle import Bundle
from tests.quantize import tiny

pytestmark = [
    pytest.mark.model,
    pytest.mark.long("pretrain", "distill", "quantize", "edge/attended.py"),
]
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"
TRAIN = """
[data]
length = 32
separator = "<|im_end|>"
mixture = [{ path = "text.jsonl" }]

[batch]
sequences = 8

[schedule]
steps = 30
rate = 3e-3

[parallel]
threads = 1
"""
TEACHER = """
[model]
tokenizer = "tokenizer"
hidden_size = 64
intermediate_size = 128
num_hidden_layers = 2
num_attention_heads = 4
num_key_value_heads = 2
max_position_embeddings = 512
"""
STUDENT = """
cuts = [{ ffn = 96 }, { layers = 1, keep_ends = 0 }]
importance = { tokens = 512, length = 32 }
evaluation_tokens = 512
report = { items = 8, quantization = "Q8_0" }
model = { from = "teacher" }
teacher = { model = "teacher" }
"""


def lucie(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    program = "from edge.program import main; raise SystemExit(main())"
    done = subprocess.run(
        [sys.executable, "-c", program, *words], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done


def test_from_text_to_an_answer(tmp_path: Path) -> None:
    write_ingredients(tmp_path)
    lucie(tmp_path, "pretrain", "train", "teacher.toml", "teacher")
    lucie(tmp_path, "distill", "run", "student.toml", "student")
    lucie(tmp_path, "quantize", "gguf", "student", "gguf", "--type", "Q8_0")
    lucie(tmp_path, "quantize", "onnx", "student", "onnx", "--bits", "8")
    shape = json.loads((tmp_path / "student" / "config.json").read_text(encoding="utf-8"))
    assert (shape["num_hidden_layers"], shape["intermediate_size"]) == (1, 96)
    for model in ("./gguf", "./onnx"):
        asked = ("run", "--model", model, "--max-tokens", "8", "--temperature", "0", "--json")
        answer = json.loads(lucie(tmp_path, *asked, "le chat").stdout)
        assert answer["completion_tokens"] >= 1

    for made in ("gguf", "onnx"):
        manifest = Bundle.open(tmp_path / made, verify=True).manifest
        (source,) = {(source.name, source.licence) for source in manifest.data}
        assert source == ("rain", "CC0-1.0"), "what the model learned from is told to the end"
        assert manifest.provenance == "unknown", "of a text that is no corpus of ours"
        assert manifest.metrics, "what the gates have measured"


def write_ingredients(folder: Path) -> None:
    tiny.write(
        folder / "tokenizer",
        tiny.CONFIG,
        {"unused": tiny.weights(tiny.CONFIG)["model.norm.weight"]},
    )
    settings = folder / "tokenizer" / "tokenizer_config.json"
    known = json.loads(settings.read_text(encoding="utf-8"))
    settings.write_text(json.dumps(known | {"chat_template": TEMPLATE}), encoding="utf-8")
    lines = [line for line in tiny.prose(200) if line.isprintable()]
    rows = [json.dumps({"text": line, "source": "rain", "licence": "CC0-1.0"}) for line in lines]
    (folder / "text.jsonl").write_text("\n".join(rows), encoding="utf-8")
    (folder / "teacher.toml").write_text(TEACHER + TRAIN, encoding="utf-8")
    (folder / "student.toml").write_text(STUDENT + TRAIN, encoding="utf-8")
