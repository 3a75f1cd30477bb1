"""A tiny model of our own for the tests of `quantize`; the real one is in `tests.conftest`."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantize.checkpoint.folder import Checkpoint
from quantize.ggml.export import export
from tests.quantize import tiny


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
