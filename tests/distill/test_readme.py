"""What `distill/README.md` has a reader copy: its commands, its recipe, and the demonstration's."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from distill.chat.prompts import read_prompts, sources
from distill.chat.recipe import ChatRecipe
from distill.commands import distill
from distill.commands.shape import heads
from distill.planning.target import parse
from distill.pruning.shape import Wanted, check_smaller, shape
from distill.recipe import DistillRecipe, ShrinkRecipe
from pretrain.recipe_file import read_recipe
from tests.distill.models import SMOLLM_135M

FOLDER = Path(__file__).parents[2] / "distill"
README = (FOLDER / "README.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"^```(\w+)\n(.*?)^```", README, re.MULTILINE | re.DOTALL))


def told(command: str) -> dict[str, Any]:
    """What one of its lines gives to a command of `lucie distill`, once it has been read."""
    lines = (shlex.split(line, comments=True) for line in BLOCKS["sh"].splitlines())
    [words] = [line[3:] for line in lines if line[:3] == ["lucie", "distill", command]]
    return distill.commands[command].make_context(command, words).params


@pytest.mark.parametrize("command", list(distill.commands))
def test_each_command_is_there_with_its_options(command: str) -> None:
    assert told(command)


def test_what_is_cut_is_a_slice_of_the_model_that_is_there() -> None:
    given = told("prune")
    sizes = (given["layers"], given["width"], given["ffn"], heads(given["heads"]), given["tie"])
    check_smaller(SMOLLM_135M, shape(SMOLLM_135M, Wanted(*sizes)))
    assert parse(told("plan")["target"])


def test_recipes_are_read(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(BLOCKS["toml"], encoding="utf-8")
    recipe = read_recipe(DistillRecipe, tmp_path / "recipe.toml", told("train")["settings"])
    assert recipe.model.start == str(tmp_path / told("prune")["out"])
    assert recipe.teacher.cache == str(tmp_path / told("cache")["out"])
    cut = read_recipe(ShrinkRecipe, FOLDER / "demo.toml").cuts[0]
    check_smaller(SMOLLM_135M, shape(SMOLLM_135M, Wanted(cut.layers, ffn=cut.ffn)))


def test_the_prompts_of_the_demonstration_are_the_projects_own() -> None:
    recipe = read_recipe(ChatRecipe, FOLDER / "demo-chat.toml")
    prompts = read_prompts([Path(path) for path in recipe.prompts])
    assert {prompt.language for prompt in prompts} == {"en"}
    assert [(each.name, each.licence) for each in sources(prompts)] == [
        ("Lucie Edge", "Apache-2.0")
    ]
