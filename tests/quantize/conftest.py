"""A tiny model of our own for the tests of `quantize`; the real one is in `tests.conftest`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edge.checkpoint import Checkpoint
from quantize.commands import quantize
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


@pytest.fixture
def lucie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run a sub-command in an empty folder; errors are raised."""
    monkeypatch.chdir(tmp_path)

    def run(*args: object) -> Result:
        result = CliRunner().invoke(quantize, [str(arg) for arg in args], standalone_mode=False)
        if result.exception is not None:
            raise result.exception
        return result

    return run


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A file of prose."""
    path = tmp_path / "text.txt"
    path.write_text("\n".join(tiny.prose(400)), encoding="utf-8")
    return path
