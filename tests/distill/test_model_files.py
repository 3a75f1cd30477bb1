"""Model folders in which a file is none: each command refuses them at once, and never waits."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from distill.teaching.identity import tokenizer_sha256
from edge.errors import CheckpointError
from edge.tokenizer_file import open_tokenizer

_OPEN = "import sys, pathlib, edge.checkpoint as c; c.Checkpoint.open(pathlib.Path(sys.argv[1]))"
_LUCIE = "import sys, edge.cli; sys.exit(edge.cli.main(sys.argv[1:]))"
_HANGS = 120
"""Seconds after which a program that should end at once has failed."""


def run(program: str, *args: object) -> subprocess.CompletedProcess[str]:
    """In a process of its own: whoever waits in a library for a pipe hears no signal."""
    command = [sys.executable, "-c", program, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=_HANGS, check=False)


@pytest.fixture
def folder(teacher: Path, tmp_path: Path) -> Path:
    return shutil.copytree(teacher, tmp_path / "model")


def replace(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink(missing_ok=True)
    make(path)


def link_to_a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def bind(path: Path) -> None:
    with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as bound:
        bound.bind(path.name)  # a whole path may be too long for a socket's name


@pytest.mark.parametrize(
    "name",
    [
        "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
        "chat_template.jinja", "model.safetensors", "model.safetensors.index.json",
    ],
)  # fmt: skip
def test_a_pipe_in_a_model_folder_is_refused(folder: Path, name: str) -> None:
    if name.endswith("index.json"):
        (folder / "model.safetensors").unlink()
    replace(folder / name, os.mkfifo)
    told = run(_OPEN, folder).stderr.splitlines()[-1]
    assert "CheckpointError" in told
    assert f"{name} is a named pipe" in told


def test_so_is_one_among_shards(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    mapping = {"x": "a.safetensors", "y": "b.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": mapping}))
    os.mkfifo(folder / "b.safetensors")
    assert "b.safetensors is a named pipe" in run(_OPEN, folder).stderr


@pytest.mark.parametrize("make", [link_to_a_device, bind])
def test_so_are_a_device_and_a_socket(folder: Path, make: Callable[[Path], object]) -> None:
    replace(folder / "model.safetensors", make)
    assert "model.safetensors is a named pipe, a socket or a device" in run(_OPEN, folder).stderr


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_command_says_so_in_one_line(folder: Path, tmp_path: Path, name: str) -> None:
    replace(folder / name, os.mkfifo)
    told = run(_LUCIE, "distill", "importance", folder, tmp_path / "out")
    assert told.returncode == 1
    assert len(told.stderr.splitlines()) == 1
    assert f"{name} is a named pipe" in told.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_tokenizer_alone_is_looked_at_too(folder: Path) -> None:
    replace(folder / "tokenizer.json", os.mkfifo)
    for read in (open_tokenizer, tokenizer_sha256):
        for path in (folder, folder / "tokenizer.json"):
            program = f"import sys, pathlib, {read.__module__} as m; "
            program += f"m.{read.__name__}(pathlib.Path(sys.argv[1]))"
            assert "tokenizer.json is a named pipe" in run(program, path).stderr


def test_a_link_to_a_file_is_one(folder: Path) -> None:
    """As the cache of Hugging Face holds them."""
    (folder / "tokenizer.json").rename(folder.parent / "blob")
    (folder / "tokenizer.json").symlink_to(folder.parent / "blob")
    assert open_tokenizer(folder).get_vocab_size()
    (folder.parent / "blob").unlink()
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is missing"):
        open_tokenizer(folder)
