"""A model that is made wider for figure 6 is the same function."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from tests.benchmarks.widen import widen
from tests.quantize import tiny

_IDS = [7, 1, 400, 33, 2, 900]


def test_the_wider_model_computes_the_same(tmp_path: Path) -> None:
    config = {
        **tiny.CONFIG,
        "hidden_size": 96, "num_attention_heads": 3, "num_key_value_heads": 1,
        "tie_word_embeddings": True, "rms_norm_eps": 0.01,
    }  # fmt: skip
    weights = tiny.weights(config)
    widen(tiny.write(tmp_path / "narrow", config, weights), tmp_path / "wide")
    wider = json.loads((tmp_path / "wide/config.json").read_text())
    assert (wider["hidden_size"], wider["num_attention_heads"]) == (768, 24)
    assert wider["num_key_value_heads"] == 8
    made = load_file(tmp_path / "wide/model.safetensors")
    expected = tiny.logits(config, weights, _IDS)
    assert expected.std() > 1
    np.testing.assert_allclose(
        tiny.logits({**config, **wider}, made, _IDS), expected, rtol=0, atol=1e-5
    )
