"""What each command of `lucie distill` refuses before it works: a place that is taken, NaN."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from safetensors.numpy import load_file, save_file

from distill.distillation import load_teacher
from edge.errors import CheckpointError, StoreError, UsageError
from tests.distill.test_chat_stage import RECIPE as CHAT
from tests.distill.test_distil import CUTS
from tests.distill.test_distil import RECIPE as TRAIN

COMMANDS = {
    "importance": ("importance", "nothing", "out"),
    "prune": ("prune", "nothing", "out", "--importance", "nothing", "--layers", 2),
    "cache": ("cache", "train.toml", "out"),
    "train": ("train", "train.toml", "out"),
    "run": ("run", "run.toml", "out"),
    "chat": ("chat", "chat.toml", "out"),
}
Command = Callable[..., Result]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_place_that_is_taken_is_told_before_anything_is_read(
    lucie: Command, tmp_path: Path, name: str
) -> None:
    """Neither the models nor the texts are there, which would be told else."""
    training = TRAIN.format(teacher="nothing", text="nothing.txt")
    (tmp_path / "train.toml").write_text(training)
    (tmp_path / "run.toml").write_text(training + CUTS)
    (tmp_path / "chat.toml").write_text(CHAT)
    (tmp_path / "out").symlink_to("nowhere")
    arguments = COMMANDS[name]
    before = sorted(tmp_path.iterdir())
    with pytest.raises(StoreError) as taken:
        lucie(*arguments)
    assert taken.value.code == "bundle.exists"
    with pytest.raises(UsageError) as named:
        lucie(*("A name" if each == "out" else each for each in arguments))
    assert named.value.code == "workshop.name"
    assert sorted(tmp_path.iterdir()) == before


@pytest.fixture
def broken(teacher: Path, tmp_path: Path) -> Path:
    """A teacher with NaN in the embedding of a token that no text has."""
    folder = shutil.copytree(teacher, tmp_path / "broken")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.embed_tokens.weight"][-1, 3] = np.nan
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_numbers_that_are_none_are_not_measured(
    lucie: Command, broken: Path, prose: Path, tmp_path: Path
) -> None:
    given = ("--tokens", 64, "--length", 32, "--text", prose)
    with pytest.raises(CheckpointError, match=r"embed_tokens\.weight holds NaN or infinity"):
        lucie("importance", broken, "out", *given)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["cache", "train"])
def test_nor_taught(
    lucie: Command, broken: Path, teacher: Path, prose: Path, tmp_path: Path, command: str
) -> None:
    recipe = tmp_path / "train.toml"
    lines = prose.read_text(encoding="utf-8").splitlines()
    rows = [json.dumps({"text": line, "language": "fr"}) for line in lines if line.isprintable()]
    (tmp_path / "text.jsonl").write_text("\n".join(rows), encoding="utf-8")
    told = TRAIN.format(teacher=broken, text="text.jsonl")
    recipe.write_text(told.replace('"student"', f'"{teacher}"'))
    with pytest.raises(CheckpointError, match=r"embed_tokens\.weight holds NaN or infinity"):
        lucie(command, recipe, "out", "--set", "schedule.steps=1")
    assert not (tmp_path / "out").exists()


def test_nor_is_infinity_loaded(broken: Path, teacher: Path) -> None:
    """By whom the chat stage has both its models."""
    tensors = load_file(teacher / "model.safetensors")
    tensors["model.norm.weight"][0] = -np.inf
    save_file(tensors, broken / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"norm\.weight holds NaN or infinity"):
        load_teacher(broken)
    assert load_teacher(teacher).config.num_hidden_layers == 4
