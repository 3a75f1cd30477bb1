"""Models for the tests of `quantize`: the real one as floats, and a tiny one of our own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from quantize.checkpoint.folder import Checkpoint
from quantize.ggml.dequantize import write_checkpoint
from quantize.ggml.export import export
from tests.quantize import tiny


@pytest.fixture(scope="session")
def smollm2(model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The embedded default model as a Hugging Face folder; 270 MB, removed at the end."""
    folder = tmp_path_factory.mktemp("smollm2")
    write_checkpoint(model_path, folder, "F16")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama model of random weights."""
    return tiny.write(
        tmp_path_factory.mktemp("tiny") / "model", tiny.CONFIG, tiny.weights(tiny.CONFIG)
    )


@pytest.fixture(scope="session")
def tiny_gguf(tiny_folder: Path) -> Path:
    """The same as a GGUF file of floats."""
    path = tiny_folder.parent / "tiny-F32.gguf"
    export(Checkpoint.open(tiny_folder), path, "F32")
    return path
