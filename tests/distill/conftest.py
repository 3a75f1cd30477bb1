"""Tiny teachers of our own for the tests of `distill`, and text that they read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from safetensors.numpy import save_file

from distill.commands import distill
from tests.quantize import tiny

TEACHER = tiny.CONFIG | {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 8,
    "max_position_embeddings": 128,
}


@pytest.fixture(scope="session")
def make_teacher(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write a tiny Llama model, some keys of its config as given; the tokenizer is made once."""
    tokenizer = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tiny.tokenizer(TEACHER).save(str(tokenizer))

    def make(seed: int = 1, **changed: Any) -> Path:
        config = TEACHER | changed
        folder = tmp_path_factory.mktemp("teacher") / "model"
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "tokenizer.json").write_bytes(tokenizer.read_bytes())
        (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "X"}')
        save_file(tiny.weights(config, seed), folder / "model.safetensors", {"format": "pt"})
        return folder

    return make


@pytest.fixture(scope="session")
def teacher(make_teacher: Callable[..., Path]) -> Path:
    """One with an output matrix of its own."""
    return make_teacher()


@pytest.fixture(scope="session")
def prose(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of prose."""
    path = tmp_path_factory.mktemp("prose") / "text.txt"
    path.write_text("\n".join(tiny.prose(120)), encoding="utf-8")
    return path


@pytest.fixture
def lucie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run a sub-command in an empty folder; errors are raised."""
    monkeypatch.chdir(tmp_path)

    def run(*args: object) -> Result:
        result = CliRunner().invoke(distill, [str(arg) for arg in args], standalone_mode=False)
        if result.exception is not None:
            raise result.exception
        return result

    return run
