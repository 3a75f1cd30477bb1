"""What a recipe asks of the inside of a student, against what transformers computes there."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from torch import Tensor
from transformers import LlamaForCausalLM

from distill.distillation import make_task
from distill.errors import DistillError
from distill.recipe import DistillRecipe
from edge.errors import LucieError
from pretrain.errors import PretrainUsageError
from pretrain.journal import read_journal
from pretrain.materials import prepared
from pretrain.recipe_file import read_recipe
from pretrain.texts import read_texts
from pretrain.training import Training
from pretrain.world import World
from tests.distill.test_distil import CUTS
from tests.distill.test_distil import RECIPE as TRAIN

Command = Callable[..., Result]
Cook = Callable[..., DistillRecipe]
SAME_WIDTH = {"num_hidden_layers": 3, "num_attention_heads": 6, "num_key_value_heads": 2}
OTHER_WIDTH = {**SAME_WIDTH, "hidden_size": 40, "num_attention_heads": 4, "intermediate_size": 64}
PROJECTIONS = ("q_proj", "k_proj", "v_proj")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory, prose: Path) -> Path:
    """The prose, a document a line."""
    path = tmp_path_factory.mktemp("text") / "text.jsonl"
    lines = prose.read_text(encoding="utf-8").splitlines()
    rows = [json.dumps({"text": line, "language": "fr"}) for line in lines if line.isprintable()]
    path.write_text("\n".join(rows), encoding="utf-8")
    return path


@pytest.fixture
def recipe(tmp_path: Path, teacher: Path, text: Path, make_teacher: Callable[..., Path]) -> Cook:
    """The recipe of a student of another shape, some fields as given."""

    def cook(*settings: str, **shape: int) -> DistillRecipe:
        path = tmp_path / "recipe.toml"
        student = make_teacher(seed=2, **shape)
        told = TRAIN.format(teacher=teacher, text=text)
        path.write_text(told.replace('"student"', f'"{student}"'), encoding="utf-8")
        return read_recipe(DistillRecipe, path, settings)

    return cook


def trained(recipe: DistillRecipe, folder: Path, steps: int) -> Training:
    """Some steps of a training, in this process."""
    folder.mkdir()
    left = iter(range(steps))
    with World.joined(recipe.parallel) as world:
        materials = prepared(recipe, read_texts(recipe, lambda *_: None))
        task = make_task(recipe, materials, world)
        training = Training(recipe, materials, task, folder, world)
        training.run(lambda *_: None, lambda: next(left, None) is None)
        return training


def read(recipe: DistillRecipe, count: int = 8) -> Tensor:
    """The first sequences of the training [B, T + 1]."""
    order = read_texts(recipe, lambda *_: None).order(recipe)
    return torch.from_numpy(np.stack([order[n] for n in range(count)])).long()


class Looked:
    """What is inside a model when it reads [B, T], by transformers in float64."""

    def __init__(self, model: LlamaForCausalLM, ids: Tensor) -> None:
        said = model(input_ids=ids, output_hidden_states=True)
        layer = model.model.layers[-1]
        into = layer.input_layernorm(said.hidden_states[-2])
        queries, keys = model.config.num_attention_heads, model.config.num_key_value_heads
        self.heads = (queries, keys, keys)
        self.logits = said.logits
        self.hidden = said.hidden_states[-1]
        self.attention = [getattr(layer.self_attn, name)(into) for name in PROJECTIONS]


def loaded(folder: str, training: Training | None = None) -> LlamaForCausalLM:
    """A model in float64; as it is after a training."""
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
    if training is not None:
        model.load_state_dict(training.part.state_dict())
    return model


def cosine(student: Looked, teacher: Looked) -> Tensor:
    a, b = student.hidden, teacher.hidden
    return (1 - (a * b).sum(-1) / a.norm(dim=-1) / b.norm(dim=-1)).mean()


def relations(student: Looked, teacher: Looked) -> Tensor:
    """The mean of queries', keys' and values' KL divergence."""
    found = []
    heads = map(math.gcd, student.heads, teacher.heads)
    for own, wanted, n in zip(student.attention, teacher.attention, heads, strict=True):
        logs = []
        for vectors in (own, wanted):
            batch, length, width = vectors.shape
            split = vectors.view(batch, length, n, width // n)
            scores = torch.einsum("bthd,bshd->bhts", split, split) / (width // n) ** 0.5
            seen = torch.ones(length, length, dtype=torch.bool).tril()
            logs.append(torch.where(seen, scores, -1e4).log_softmax(-1))
        q, p = logs
        found.append((p.exp() * (p - q)).sum(-1).mean())
    return torch.stack(found).mean()


def expected(recipe: DistillRecipe) -> tuple[float, float]:
    """Of the first step: the loss, and the norm of its gradient."""
    told, ids = recipe.teacher, read(recipe)
    model = loaded(str(recipe.model.start))
    student = Looked(model, ids[:, :-1])
    with torch.no_grad():
        teacher = Looked(loaded(told.model), ids[:, :-1])
    q, p = student.logits.log_softmax(-1), teacher.logits.log_softmax(-1)
    divergence = (p.exp() * (p - q)).sum(-1).mean()
    text = -q.gather(-1, ids[:, 1:, None]).mean()
    loss = (1 - told.next_token) * divergence + told.next_token * text
    if told.hidden:
        loss = loss + told.hidden * cosine(student, teacher)
    if told.attention:
        loss = loss + told.attention * relations(student, teacher)
    loss.backward()
    squares = sum(p.grad.square().sum() for p in model.parameters() if p.grad is not None)
    return float(loss.detach()), float(squares) ** 0.5


def test_transformers_gives_what_a_layer_reads(teacher: Path) -> None:
    """So that what the tests compare with are queries, keys and values indeed."""
    model, heard = loaded(str(teacher)), []
    for name in PROJECTIONS:
        projection = model.model.layers[-1].self_attn.get_submodule(name)
        projection.register_forward_hook(lambda *facts: heard.append(facts[2]))
    with torch.no_grad():
        looked = Looked(model, torch.arange(32).view(2, 16))
    for own, said in zip(looked.attention, heard[:3], strict=True):
        torch.testing.assert_close(own, said)


@pytest.mark.parametrize(
    ("shape", "settings"),
    [
        (SAME_WIDTH, ["teacher.hidden=3.0"]),
        (SAME_WIDTH, ["teacher.attention=2.0"]),
        (OTHER_WIDTH, ["teacher.attention=2.0"]),
        (OTHER_WIDTH, ["teacher.attention=2.0", "recompute=true"]),
        (SAME_WIDTH, ["teacher.hidden=1", "teacher.attention=5", "teacher.next_token=0.25"]),
    ],
)
def test_the_loss_of_a_step_is_what_transformers_gives(
    recipe: Cook, tmp_path: Path, shape: dict[str, int], settings: list[str]
) -> None:
    asked = recipe(*settings, **shape)
    trained(asked, tmp_path / "run", 1)
    (step,) = [line for line in read_journal(tmp_path / "run") if "loss" in line]
    loss, norm = expected(asked)
    assert step["loss"] == pytest.approx(loss, rel=1e-4)
    assert step["norm"] == pytest.approx(norm, rel=1e-3)
    plain = asked.teacher.model_copy(update={"hidden": 0.0, "attention": 0.0})
    without = expected(asked.model_copy(update={"teacher": plain}))
    assert without[0] < 0.95 * loss, "what is asked is seen in the figure"


def test_in_bfloat16_it_is_nearly_the_same(recipe: Cook, tmp_path: Path) -> None:
    settings = ["teacher.hidden=3.0", "teacher.attention=2.0", "precision=bfloat16"]
    asked = recipe(*settings, **SAME_WIDTH)
    trained(asked, tmp_path / "run", 1)
    (step,) = [line for line in read_journal(tmp_path / "run") if "loss" in line]
    assert step["loss"] == pytest.approx(expected(asked)[0], rel=0.02)


@pytest.mark.parametrize(
    ("term", "weight", "measure", "shape"),
    [
        ("hidden", 20, cosine, SAME_WIDTH),
        ("attention", 10, relations, OTHER_WIDTH),
    ],
)
def test_a_student_becomes_as_its_teacher_is_inside(
    recipe: Cook,
    tmp_path: Path,
    term: str,
    weight: int,
    measure: Callable[[Looked, Looked], Tensor],
    shape: dict[str, int],
) -> None:
    plain, asked = (
        recipe(f"teacher.{term}={n}", "schedule.rate=1e-2", **shape) for n in (0, weight)
    )
    ids, start = read(asked)[:, :-1], str(asked.model.start)
    students = [
        loaded(start),
        loaded(start, trained(plain, tmp_path / "plain", 40)),
        loaded(start, trained(asked, tmp_path / "asked", 40)),
    ]
    with torch.no_grad():
        teacher = Looked(loaded(asked.teacher.model), ids)
        before, without, after = (float(measure(Looked(each, ids), teacher)) for each in students)
    assert after < 0.8 * before
    assert after < 0.8 * without, "more than predictions alone bring about"


def test_where_nobody_asks_nothing_is_heard_or_kept(recipe: Cook, tmp_path: Path) -> None:
    plain = trained(recipe(**SAME_WIDTH), tmp_path / "plain", 0)
    asked = trained(recipe("teacher.attention=1", **SAME_WIDTH), tmp_path / "asked", 0)

    def hooks(training: Training) -> int:
        return sum(
            len(module._forward_hooks) + len(module._forward_pre_hooks)
            for module in training.part.modules()
        )

    assert hooks(plain) == 0
    assert hooks(asked) == 5
    ids = read(recipe(**SAME_WIDTH))
    assert plain.task.wanted(range(8), ids).keys() == {"labels", "hidden"}
    told = asked.task.wanted(range(8), ids)
    assert told.keys() == {"labels", "hidden", "queries", "keys", "values"}
    assert [told[name].shape for name in ("queries", "keys")] == [(8, 32, 64), (8, 32, 32)]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (["teacher.hidden=0.1", "teacher.cache=nowhere"], "neither hidden nor attention"),
        (["teacher.attention=0.1", "teacher.cache=nowhere"], "neither hidden nor attention"),
        (["teacher.attention=0.1", "parallel.tensor=2"], "parallel.tensor = 1"),
        (["teacher.hidden=-0.1"], "teacher.hidden"),
        (["teacher.attention=nan"], "teacher.attention"),
    ],
)
def test_a_recipe_that_asks_for_what_cannot_be_had_is_refused(
    recipe: Cook, lucie: Command, tmp_path: Path, settings: list[str], reason: str
) -> None:
    recipe(**SAME_WIDTH)
    with pytest.raises(PretrainUsageError) as raised:
        lucie("train", "recipe.toml", "out", *(w for each in settings for w in ("--set", each)))
    assert raised.value.code == "recipe.wrong"
    assert reason in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out-training").exists()


def test_hidden_states_of_other_widths_are_refused_before_the_work(
    recipe: Cook, lucie: Command, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def attend(*_: object, **__: object) -> None:
        raise AssertionError("it has begun")

    monkeypatch.setattr("pretrain.run.attend", attend)
    asked = recipe(**OTHER_WIDTH)
    hidden = ["--set", "teacher.hidden=0.1"]
    with pytest.raises(DistillError) as raised:
        lucie("train", "recipe.toml", "out", *hidden)
    assert raised.value.code == "train.hidden"
    assert "have 48 numbers, the student’s 40" in str(raised.value)
    assert "\n" not in str(raised.value)
    told = (tmp_path / "recipe.toml").read_text(encoding="utf-8")
    cuts = told.replace(str(asked.model.start), str(teacher)) + CUTS  # the second to a width of 40
    (tmp_path / "run.toml").write_text(cuts, encoding="utf-8")
    with pytest.raises(LucieError) as raised_later:
        lucie("run", "run.toml", "small", *hidden)
    assert raised_later.value.code == "train.hidden"
    for name in ("out", "small"):
        assert not (tmp_path / name).exists()
        assert not (tmp_path / f"{name}-training").exists(), "nothing was done in it"


def test_nor_are_they_compared_where_a_cluster_starts_the_processes(
    recipe: Cook, tmp_path: Path
) -> None:
    with pytest.raises(DistillError) as raised:
        trained(recipe("teacher.hidden=0.1", **OTHER_WIDTH), tmp_path / "run", 1)
    assert raised.value.code == "train.hidden"


@pytest.mark.long("pretrain", "distill", "edge/attended.py")
@pytest.mark.parametrize(
    "settings",
    [
        ["teacher.attention=2", "parallel.pipeline=2", "parallel.data=2"],
        ["teacher.attention=2", "parallel.data=2", "recompute=true"],
        ["parallel.tensor=2"],
    ],
)
def test_processes_that_share_the_work_are_asked_for_the_same(
    recipe: Cook, lucie: Command, tmp_path: Path, settings: list[str]
) -> None:
    recipe(**SAME_WIDTH)
    common = ["schedule.steps=6", "teacher.hidden=3", *settings]
    alone = [each for each in common if not each.startswith("parallel.")]
    for name, told in (("one", alone), ("many", common)):
        lucie("train", "recipe.toml", name, *(w for each in told for w in ("--set", each)))
    one, many = (
        [line["loss"] for line in read_journal(tmp_path / f"{name}-training") if "loss" in line]
        for name in ("one", "many")
    )
    assert len(one) == 6
    np.testing.assert_allclose(many, one, atol=1e-4)
