"""Model folders in which a file is none, or says what cannot be: refused at once, in one line."""

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

from distill.chat.format import ChatFormat
from distill.teaching.identity import tokenizer_sha256
from edge.checkpoint import Checkpoint
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


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (2**40, "eos_token_id 1099511627776 is not in the vocabulary"),
        (-1, "eos_token_id -1 is"),
        (True, "eos_token_id true is"),
        (1.5, "eos_token_id 1.5 is"),
        ("\x1b[31m", r'eos_token_id "\\u001b\[31m" is'),
        ([1, 2**70], "eos_token_id 1180591620717411303424 is"),
        ([[1]], r"eos_token_id \[1\] is"),
        ({"id": 1}, "eos_token_id {"),
    ],
)
@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
def test_an_end_that_is_no_token_is_told(folder: Path, name: str, end: object, said: str) -> None:
    path = folder / name
    given = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps(given | {"eos_token_id": end}), encoding="utf-8")
    expected = "eos_token_id" if name == "config.json" else said  # there pydantic says it
    with pytest.raises(CheckpointError, match=expected) as caught:
        Checkpoint.open(folder)
    assert name in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("end", [5, [5, 6], None, []])
def test_an_end_may_be_a_token_or_several_or_unsaid(folder: Path, end: object) -> None:
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": end}))
    (folder / "chat_template.jinja").write_text("x")
    tokenizer = open_tokenizer(folder)
    settings = {} if end else {"eos_token": tokenizer.id_to_token(7)}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    wanted = tokenizer.id_to_token(5 if end else 7)
    assert ChatFormat.of(Checkpoint.open(folder)).eos == wanted


@pytest.mark.parametrize(
    "said",
    [
        '{"eos_token": "\\ud800"}',
        '{"chat_template": "\\uDFFF"}',
        '{"chat_template": [{"name": ["x"], "template": "y"}]}',
        '{"chat_template": [{"name": "default", "template": 5}]}',
    ],
)
def test_a_document_with_what_is_no_text(folder: Path, said: str) -> None:
    (folder / "tokenizer_config.json").write_text(said)
    with pytest.raises(CheckpointError, match=r"tokenizer_config\.json is not what it should be"):
        Checkpoint.open(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32-be"])
def test_another_encoding_is_no_json(folder: Path, name: str, encoding: str) -> None:
    """RFC 8259 wants UTF-8 without a mark; what json guesses, those who read it later do not."""
    path = folder / name
    said = path.read_text(encoding="utf-8") if path.exists() else "{}"
    path.write_bytes(said.encode(encoding))
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        Checkpoint.open(folder)


def test_half_a_character_in_bytes_is_none(folder: Path) -> None:
    (folder / "tokenizer_config.json").write_bytes(b'{"eos_token": "\xed\xa0\x80"}')
    with pytest.raises(CheckpointError, match=r"tokenizer_config\.json"):
        Checkpoint.open(folder)


def test_a_readme_without_an_end_is_not_read(folder: Path) -> None:
    with (folder / "README.md").open("wb") as writer:
        writer.truncate(1 << 40)  # sparse: more than any memory
    with pytest.raises(CheckpointError, match=r"README\.md cannot be read: > 16 MiB"):
        Checkpoint.open(folder)


def test_an_emoji_in_two_escapes_is_text(folder: Path) -> None:
    (folder / "tokenizer_config.json").write_text('{"chat_template": "\\ud83d\\ude00"}')
    assert Checkpoint.open(folder).document("tokenizer_config.json") == {"chat_template": "😀"}
