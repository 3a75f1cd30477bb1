"""What every test gets: a home of its own, English, and the real model."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.paths import data_dir
from edge.torch_start import start
from tests.long_runs import LongRuns

_DEFAULT_MODEL = "smollm2-135m-instruct"
# Looked up before any test moves LUCIE_HOME away from the user's own folders.
_MODEL = os.environ.get("LUCIE_TEST_MODEL")
_STORE = data_dir() / "models" / _DEFAULT_MODEL


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(LongRuns(config.args), "long-runs")


def pytest_collection_finish() -> None:
    """What tests compute themselves is as exact from the start as what the product computes."""
    if (torch := sys.modules.get("torch")) is not None:
        start(torch)


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary LUCIE_HOME; its short path leaves room for Unix socket names (108 bytes)."""
    path = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("LUCIE_HOME", str(path))
    monkeypatch.setenv("LUCIE_LANG", "en")
    return path


@pytest.fixture(scope="session")
def model_path() -> Path:
    """The embedded default model's GGUF, which `make test` has fetched."""
    if _MODEL:
        return Path(_MODEL)
    found = sorted(_STORE.glob("*.gguf"))
    assert found, f"no model in {_STORE}: run the tests by `make test`, which fetches it"
    return found[0]


@pytest.fixture(scope="session")
def smollm2(model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The embedded default model as a Hugging Face folder; 270 MB, removed at the end."""
    folder = tmp_path_factory.mktemp("smollm2")
    from quantize.ggml.dequantize import write_checkpoint

    write_checkpoint(model_path, folder, "F16")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def smollm2_onnx(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The same as an ONNX model with 8 bits a weight; 150 MB, removed at the end."""
    from edge.checkpoint import Checkpoint
    from quantize.graph.export import export
    from quantize.graph.layout import write_layout
    from quantize.graph.types import Q8

    folder = tmp_path_factory.mktemp("smollm2-onnx")
    checkpoint = Checkpoint.open(smollm2)
    graph = export(checkpoint, folder, Q8)
    write_layout(checkpoint, folder, graph, Q8)
    yield graph
    shutil.rmtree(folder)
