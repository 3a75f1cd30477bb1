"""A tiny model's tokenizer, a small text, and a recipe of both."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from tests.quantize import tiny

RECIPE = """
seed = 1
evaluate_every = 4
evaluation_tokens = 256

[model]
tokenizer = "model"
hidden_size = 32
intermediate_size = 64
num_hidden_layers = 2
num_attention_heads = 4
num_key_value_heads = 2

[data]
length = 32
separator = "<|im_end|>"
[[data.mixture]]
path = "text.jsonl"

[batch]
sequences = 8
together = 2

[schedule]
steps = 20
rate = 1e-2
"""
WORDS = ["le", "chat", "dort", "sur", "la", "table", "et", "pluie", "tombe", "depuis", "matin"]


@pytest.fixture(scope="session")
def kitchen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `recipe.toml`, `model` and `text.jsonl`; not to be written to."""
    folder = tmp_path_factory.mktemp("kitchen")
    tiny.write(folder / "model", tiny.CONFIG, tiny.weights(tiny.CONFIG))
    dice = random.Random(0)
    with (folder / "text.jsonl").open("w", encoding="utf-8") as writer:
        for n in range(400):
            text = f"{n} " + " ".join(dice.choices(WORDS, k=dice.randrange(20, 60)))
            known = {"source": "rain", "licence": "CC0-1.0", "date": f"20{n % 20:02d}"}
            language = "fr" if n % 2 else "en"
            row = {"text": text, "language": language, **known}
            writer.write(json.dumps(row) + "\n")
    (folder / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    return folder
