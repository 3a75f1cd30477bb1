"""`lucie distill prune`: the student computes what the teacher computes with the rest masked."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from click import UsageError
from click.testing import Result
from safetensors.numpy import load_file, save_file
from torch import nn
from transformers import LlamaForCausalLM

from distill.errors import DistillError, DistillUsageError
from distill.pruning import prune as pruning
from distill.pruning.choice import Rules, choose
from distill.pruning.prune import cut_from, prune
from distill.pruning.scores import FACTS, FIGURES, Facts, Importance
from distill.pruning.slices import Slice, slices
from edge.bundle import Bundle
from edge.checkpoint import Checkpoint
from edge.errors import (
    CheckpointError,
    DamagedModelError,
    InterruptedByUserError,
    LucieError,
    StoreError,
)
from edge.llama_config import LlamaConfig
from edge.manifest import DataSource, Manifest
from edge.weights_file import write_weights
from edge.workshop import workshop
from pretrain.identity import fingerprint
from quantize.checkpoint.llama_tensors import tensors
from quantize.checkpoint.source import open_source
from tests.distill.conftest import TEACHER

IDS = torch.arange(5, 45)[None] * 17 % 1000
EVERYTHING = ("--layers", 3, "--width", 32, "--ffn", 56, "--heads", "4/2")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny matrices are not worth more, and a machine at work has no more to give."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def figures(folder: Path, seed: int = 0) -> Importance:
    """Anything."""
    config, dice = Checkpoint.open(folder).config, np.random.default_rng(seed)
    layers, width = config.num_hidden_layers, config.hidden_size

    def drawn(*shape: int) -> Any:
        return dice.random(shape) ** 4 + 0.01

    return Importance(
        width=drawn(2 * layers + 1, width),
        mean_square=drawn(2 * layers + 1, width),
        ffn=drawn(layers, config.intermediate_size),
        heads=drawn(layers, config.num_attention_heads),
        influence=drawn(layers),
        distance=drawn(layers + 1, layers + 1),
        loss=drawn(layers),
    )


def bundled(folder: Path, found: Importance, out: Path, **changed: Any) -> Path:
    """What `lucie distill importance` would leave."""
    facts = Facts(teacher=fingerprint(Checkpoint.open(folder)), tokens=1, length=1,
                  dtype="float32", texts=(), loss_tokens=1)  # fmt: skip
    with workshop(out) as draft:
        (draft / FACTS).write_text(facts.model_dump_json())
        found.write(draft / FIGURES)
        manifest = Manifest(kind="importance", name=out.name, provenance="unknown")
        files = {name: draft / name for name in (FACTS, FIGURES)}
        Bundle.write(out, manifest.model_copy(update=changed), files)
    return out


@pytest.fixture
def measured(teacher: Path, tmp_path: Path) -> Path:
    return bundled(teacher, figures(teacher), tmp_path / "importance")


# --- the proof --------------------------------------------------------------------------------


class MaskedNorm(nn.Module):
    """RMSNorm over some channels in float64; the others are zero."""

    def __init__(self, weight: torch.Tensor, kept: torch.Tensor, eps: float) -> None:
        super().__init__()
        self.weight, self.kept, self.eps = weight.double(), kept, eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        square = (x[..., self.kept] ** 2).mean(-1, keepdim=True)
        made = torch.zeros_like(x)
        made[..., self.kept] = (x / (square + self.eps).sqrt() * self.weight)[..., self.kept]
        return made


def loaded(folder: Path) -> LlamaForCausalLM:
    return LlamaForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()


def exact_norms(model: LlamaForCausalLM, kept: Any, scales: Any) -> LlamaForCausalLM:
    """Every norm in float64 (transformers' own computes in float32), in the order of use."""
    eps, kept = model.config.rms_norm_eps, torch.tensor(kept)
    scale = iter(scales)
    for layer in model.model.layers:
        for name in ("input_layernorm", "post_attention_layernorm"):
            weight = getattr(layer, name).weight.detach()
            setattr(layer, name, MaskedNorm(weight.double() * next(scale), kept, eps))
    weight = model.model.norm.weight.detach()
    model.model.norm = MaskedNorm(weight.double() * next(scale), kept, eps)
    return model


def masked(folder: Path, record: dict[str, Any]) -> LlamaForCausalLM:
    """The teacher, whole; what `pruning.json` does not name is zero or passed by."""
    model, head_dim = loaded(folder), TEACHER["head_dim"]
    if record["tying"]:
        embedding = model.model.embed_tokens.weight.detach()
        output, share, ratio = model.lm_head.weight.detach(), *tie(embedding, output_of(model),
                                                                   record["width"])  # fmt: skip
        one = nn.Parameter(share * (embedding + ratio * output))
        model.model.embed_tokens.weight = model.lm_head.weight = one
        record = record | {"norm scales": [*record["norm scales"][:-1],
                                           record["norm scales"][-1] / ratio]}  # fmt: skip
    model.model.layers = nn.ModuleList(model.model.layers[n] for n in record["layers"])
    model.config.num_hidden_layers = len(record["layers"])
    width = torch.zeros(TEACHER["hidden_size"], dtype=torch.float64)
    width[record["width"]] = 1
    model.model.embed_tokens.register_forward_hook(lambda _, given, made: made * width)
    for n, layer in enumerate(model.model.layers):
        heads = torch.zeros(TEACHER["num_attention_heads"], dtype=torch.float64)
        heads[record["heads"][n]] = 1
        ffn = torch.zeros(TEACHER["intermediate_size"], dtype=torch.float64)
        ffn[record["ffn"][n]] = 1
        mask_input(layer.self_attn.o_proj, heads.repeat_interleave(head_dim))
        mask_input(layer.mlp.down_proj, ffn)
        for matrix in (layer.self_attn.o_proj, layer.mlp.down_proj):
            matrix.register_forward_hook(lambda _, given, made: made * width)
    return exact_norms(model, record["width"], record["norm scales"])


def output_of(model: LlamaForCausalLM) -> torch.Tensor:
    return model.lm_head.weight.detach()


def tie(e: torch.Tensor, h: torch.Tensor, width: list[int]) -> tuple[float, float]:
    """share and ratio: the numbers c, a with M = c (E + a H), |a H| = |E|, and M whole in both."""
    e, h = e[:, width].flatten(), h[:, width].flatten()
    ratio = (e.norm() / h.norm()).item()
    rho = max(0.0, torch.dot(e, h).item() / (e.norm() * h.norm()).item())
    return 1 / (1 + rho), ratio


def mask_input(module: nn.Module, mask: torch.Tensor) -> None:
    module.register_forward_pre_hook(lambda _, given: (given[0] * mask,))


CASES = {
    "width": ("--width", 32),
    "ffn": ("--ffn", 48),
    "whole groups": ("--heads", "4/2"),
    "heads of groups": ("--heads", "4/4"),
    "depth": ("--layers", 2),
    "together": EVERYTHING,
    "tied together": (*EVERYTHING, "--tie"),
    "tied": ("--tie",),
}


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_the_student_is_the_teacher_with_the_rest_masked(
    lucie: Callable[..., Result], teacher: Path, measured: Path, tmp_path: Path, case: str
) -> None:
    lucie("prune", teacher, "out", "--importance", measured, *CASES[case])
    record = json.loads((tmp_path / "out" / "pruning.json").read_text())
    expected = masked(teacher, record)(input_ids=IDS, use_cache=False).logits
    student = loaded(tmp_path / "out")
    config = student.config
    scales = [1.0] * (2 * config.num_hidden_layers + 1)
    exact_norms(student, list(range(config.hidden_size)), scales)
    found = student(input_ids=IDS, use_cache=False).logits
    assert found.std() > 0.5
    # The files are float32, and so is what a scale has made of a norm's weight.
    tolerance = 1e-9 if case in {"ffn", "whole groups", "heads of groups", "depth"} else 1e-4
    assert (found - expected).abs().max() < tolerance


@torch.no_grad()
def test_a_student_that_unties(
    lucie: Callable[..., Result], make_teacher: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_teacher(tie_word_embeddings=True)
    importance = bundled(folder, figures(folder), tmp_path / "importance")
    for name, option in (("tied", "--tie"), ("untied", "--no-tie")):
        lucie("prune", folder, name, "--importance", importance, "--width", 32, option)
    tied, untied = loaded(tmp_path / "tied"), loaded(tmp_path / "untied")
    assert torch.equal(tied(input_ids=IDS).logits, untied(input_ids=IDS).logits)
    files = [load_file(tmp_path / n / "model.safetensors") for n in ("tied", "untied")]
    assert set(files[1]) - set(files[0]) == {"lm_head.weight"}


def test_a_teacher_that_holds_the_same_matrix_twice_ties_to_it(
    lucie: Callable[..., Result], make_teacher: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_teacher()
    content = load_file(folder / "model.safetensors")
    content["lm_head.weight"] = 4 * content["model.embed_tokens.weight"]
    save_file(content, folder / "model.safetensors", {"format": "pt"})
    importance = bundled(folder, figures(folder), tmp_path / "importance")
    lucie("prune", folder, "out", "--importance", importance, "--tie")
    found = load_file(tmp_path / "out" / "model.safetensors")
    for name in ("model.embed_tokens.weight", "model.norm.weight"):
        expected = content[name] * (4 if "norm" in name else 1)  # logits keep their size
        assert found[name] == pytest.approx(expected, rel=1e-6)


def test_with_nothing_to_take_away_nothing_changes(
    teacher: Path, measured: Path, tmp_path: Path
) -> None:
    source, importance = open_source(teacher), Bundle.open(measured, verify=True)
    prune(
        source,
        importance,
        source.checkpoint.config,
        tmp_path / "out",
        stage=lambda _: lambda *_: None,
    )
    found, expected = (load_file(f / "model.safetensors") for f in (tmp_path / "out", teacher))
    assert set(found) == set(expected)
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


# --- what is kept -----------------------------------------------------------------------------


def test_the_choice(teacher: Path) -> None:
    config = Checkpoint.open(teacher).config
    found = figures(teacher)
    heads = np.array([[5, 1, 4, 4, 0, 9, 3, 2.0]] * 4)  # four groups of two
    found = replace(found, heads=heads, influence=np.array([0.1, 0.5, 0.2, 0.3]),
                    loss=np.array([5, 1, 2, 0.5]))  # fmt: skip
    student = config.model_copy(update={
        "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
        "hidden_size": 10, "intermediate_size": 7,
    })  # fmt: skip
    kept = choose(found, config, student, Rules("influence"))
    assert kept.layers.tolist() == [0, 1, 3]
    assert choose(found, config, student, Rules("influence", 0)).layers.tolist() == [1, 2, 3]
    assert choose(found, config, student, Rules("loss", 0)).layers.tolist() == [0, 1, 2]
    assert choose(found, config, student, Rules("loss")).layers.tolist() == [0, 2, 3]
    # Groups with 6, 8, 9, 5: the second and the third.
    assert kept.groups.tolist() == [[1, 2]] * 3
    assert kept.heads.tolist() == [[2, 3, 4, 5]] * 3
    single = student.model_copy(update={"num_attention_heads": 2})
    # The best heads have 5, 4, 9, 3: the first group and the third.
    assert choose(found, config, single, Rules("influence")).groups.tolist() == [[0, 2]] * 3
    assert choose(found, config, single, Rules("influence")).heads.tolist() == [[0, 5]] * 3
    sums = found.width[[0, 1, 2, 3, 6, 7, 8]].sum(0)
    assert set(kept.width) == set(np.argsort(sums)[-10:])
    assert set(kept.ffn[2]) == set(np.argsort(found.ffn[3])[-7:])


def test_the_block_goes_over_which_the_stream_turns_least(teacher: Path) -> None:
    config = Checkpoint.open(teacher).config
    found = figures(teacher)
    distance = np.ones((5, 5))
    distance[0, 2], distance[1, 3], distance[2, 4] = 0.1, 0.3, 0.2
    distance[0, 1] = 0.05  # of one layer alone, which is not what is asked
    found = replace(found, distance=distance)
    two = config.model_copy(update={"num_hidden_layers": 2})
    kept = {ends: choose(found, config, two, Rules(ends=ends)).layers.tolist() for ends in (0, 1)}
    assert kept == {0: [2, 3], 1: [0, 3]}
    three = config.model_copy(update={"num_hidden_layers": 3})
    assert choose(found, config, three, Rules(ends=0)).layers.tolist() == [1, 2, 3]


def test_the_bundle(lucie: Callable[..., Result], teacher: Path, tmp_path: Path) -> None:
    shutil.copytree(teacher, tmp_path / "plain")
    (tmp_path / "plain" / "chat_template.jinja").write_text("{{ messages }}")
    (tmp_path / "plain" / "README.md").write_text("About the teacher.")
    manifest = Manifest(
        kind="model", name="lucie", licence="Apache-2.0", languages=("fr", "en"),
        provenance="recorded", data=(DataSource(name="Lucie", tokens=3),),
    )  # fmt: skip
    files = {path.name: path for path in (tmp_path / "plain").iterdir()}
    known = Bundle.write(tmp_path / "lucie", manifest, files)
    importance = bundled(teacher, figures(teacher), tmp_path / "importance")  # of a copy of it
    lucie("prune", "lucie", "out", "--importance", importance, *EVERYTHING, "--tie")
    bundle = Bundle.open(tmp_path / "out", verify=True)
    made = bundle.manifest
    assert [parent.name for parent in made.parents] == ["lucie", "importance"]
    assert made.parents[0].sha256 == known.sha256
    assert (made.kind, made.licence, made.languages) == ("model", "Apache-2.0", ("fr", "en"))
    assert (made.provenance, made.data) == ("recorded", manifest.data)
    assert set(made.files) == {
        "config.json", "model.safetensors", "pruning.json", "tokenizer.json",
        "tokenizer_config.json", "chat_template.jinja",
    }  # fmt: skip
    config = Checkpoint.open(tmp_path / "out").config
    assert config.tie_word_embeddings
    # By hand: embedding, last norm; a layer's four matrices of attention, three of the FFN, norms.
    layer = 32 * 32 * 2 + 32 * 16 * 2 + 3 * 32 * 56 + 2 * 32
    assert made.metrics["parameters"] == 1024 * 32 + 32 + 3 * layer
    sizes = [tensor.size for tensor in load_file(tmp_path / "out" / "model.safetensors").values()]
    assert sum(sizes) == made.metrics["parameters"]


def test_shards_and_half_precision(make_teacher: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_teacher()
    content = load_file(folder / "model.safetensors")
    halves = {name: each.astype(ml_dtypes.bfloat16) for name, each in content.items()}
    save_file(halves, folder / "model.safetensors", {"format": "pt"})
    checkpoint = Checkpoint.open(folder)
    student = checkpoint.config.model_copy(update={"hidden_size": 32, "num_hidden_layers": 2})
    kept = choose(figures(folder), checkpoint.config, student, Rules())
    parts = slices(checkpoint, student, kept, np.full(5, 2.0), None)
    write_weights(parts, tmp_path, most=40_000)
    shutil.copyfile(folder / "tokenizer.json", tmp_path / "tokenizer.json")
    (tmp_path / "config.json").write_text(json.dumps(student.as_json()))
    made = Checkpoint.open(tmp_path)
    assert len({place.file for place in made.tensors.values()}) > 3
    assert all(place.dtype == "BF16" for place in made.tensors.values())
    for tensor in tensors(student):
        assert made.tensors[tensor.hf].shape == tensor.shape
    expected = halves["model.embed_tokens.weight"][:, kept.width]
    assert np.array_equal(made.read("model.embed_tokens.weight"), expected)
    norm = halves["model.norm.weight"][kept.width].astype(np.float32) * 2
    assert np.array_equal(made.read("model.norm.weight").astype(np.float32), norm)
    model = LlamaForCausalLM.from_pretrained(tmp_path)
    assert model.dtype == torch.bfloat16


# --- memory -----------------------------------------------------------------------------------

PROBE = """
import sys
from pathlib import Path
import ml_dtypes, numpy, safetensors.numpy
from distill.pruning.prune import prune
from edge.bundle import Bundle
from edge.llama_config import LlamaConfig
from tests.edge.header_probe import resident_peak
from quantize.checkpoint.source import open_source
source = open_source(Path("teacher"))
sizes = {"hidden_size": 960, "num_hidden_layers": 5, "intermediate_size": 3968}
student = source.checkpoint.config.model_copy(update=sizes | {"tie_word_embeddings": True})
importance = Bundle.open(Path("importance"), verify=True)
before = resident_peak()
prune(source, importance, student, Path("out"), stage=lambda name: lambda done, total: None)
print(resident_peak() - before)
"""


def test_of_a_large_teacher_little_is_in_memory(tmp_path: Path) -> None:
    config = TEACHER | {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 6,
                        "num_attention_heads": 16, "head_dim": 64,
                        "vocab_size": 4096, "rms_norm_eps": 1e-5}  # fmt: skip
    folder = tmp_path / "teacher"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text("{}")
    shape = LlamaConfig.model_validate(config)
    zeros = {each.hf: np.full(each.shape, 0.01, np.float32) for each in tensors(shape)}
    save_file(zeros, folder / "model.safetensors", {"format": "pt"})
    size = (folder / "model.safetensors").stat().st_size
    largest = max(each.nbytes for each in zeros.values())
    del zeros
    bundled(folder, figures(folder), tmp_path / "importance")
    run = subprocess.run([sys.executable, "-c", PROBE], cwd=tmp_path, capture_output=True,
                         text=True, env={"PYTHONPATH": str(Path(__file__).parents[2])})  # fmt: skip
    assert run.returncode == 0, run.stderr
    grown = int(run.stdout)
    assert largest == 16 << 20
    assert size > 320 << 20
    assert grown < 3 * largest + (200 << 20)  # 248 MiB: the teacher has more


def test_a_teacher_is_named_after_its_folder_from_within(
    lucie: Callable[..., Result], teacher: Path, measured: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(teacher)
    lucie("prune", "./", tmp_path / "out", "--importance", measured, *EVERYTHING)
    recipe = Bundle.open(tmp_path / "out", verify=False).manifest.recipe
    assert recipe["teacher"] == teacher.name


def test_a_slice_says_what_it_was_cut_from(
    lucie: Callable[..., Result], teacher: Path, measured: Path, tmp_path: Path
) -> None:
    lucie("prune", teacher, "out", "--importance", measured, *EVERYTHING)
    assert cut_from(tmp_path / "out") == fingerprint(Checkpoint.open(teacher))
    for damage in ("", "[]", '{"teacher": 1}'):
        (tmp_path / "out" / "pruning.json").write_text(damage)
        with pytest.raises(DamagedModelError, match=r"pruning\.json .* is damaged"):
            cut_from(tmp_path / "out")


# --- bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--width", 49), r"^width \(hidden_size\) cannot be 49: the model to be pruned has 48"),
        (
            ("--layers", 5),
            r"^layers \(num_hidden_layers\) cannot be 5: the model .* has 4",
        ),
        (("--ffn", 81), r"ffn \(intermediate_size\) cannot be 81"),
        (("--heads", "16/4"), r"heads \(num_attention_heads\) cannot be 16"),
        (("--heads", "8/2"), "8 query heads cannot share 2 key-value heads"),
        (("--heads", "4/3"), "4 query heads cannot share 3 key-value heads"),
        (("--heads", "4"), "--heads takes QUERY/KEY-VALUE"),
        (("--heads", "0/4"), "--heads takes QUERY/KEY-VALUE"),
        (("--width", "36"), r"width \(36\) is no multiple of its query heads \(8\)"),
        (
            ("--layers", "1"),
            r"^layers .* cannot be 1: .*both ends .--keep-ends 1",
        ),
        (
            ("--layers", "3", "--keep-ends", "2"),
            r"^layers .* cannot be 3: .*--keep-ends 2",
        ),
        (("--layers", 4), r"[\d,]+ parameters, no fewer than the model .* \([\d,]+\)"),
        (("--no-tie",), "no fewer than the model to be pruned"),
        ((), "Say the shape either by"),
        (("--ffn", "8", "--like", "config.json"), "Say the shape either by"),
    ],
)
def test_a_shape_that_is_no_slice(
    lucie: Callable[..., Result], teacher: Path, measured: Path, tmp_path: Path,
    options: tuple[object, ...], said: str,
) -> None:  # fmt: skip
    with pytest.raises(DistillUsageError, match=said):
        lucie("prune", teacher, "out", "--importance", measured, *options)
    assert [path.name for path in tmp_path.iterdir()] == ["importance"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"head_dim": 16}, "head_dim cannot be 16: the model to be pruned has 8"),
        ({}, "no fewer than the model to be pruned"),
        ({"vocab_size": 1000}, "vocab_size cannot be 1000"),
        ({"rope_theta": 5e5}, "rope cannot be"),
        ({"hidden_size": 0}, "hidden_size"),
        ("{", "like.json"),
        (None, "like.json is missing"),
    ],
)
def test_a_config_that_is_no_slice(
    lucie: Callable[..., Result], teacher: Path, measured: Path, tmp_path: Path,
    changed: Any, said: str,
) -> None:  # fmt: skip
    like = tmp_path / "like.json"
    if changed is not None:
        like.write_text(changed if changed == "{" else json.dumps(TEACHER | changed))
    with pytest.raises((CheckpointError, DistillUsageError), match=said):
        lucie("prune", teacher, "out", "--importance", measured, "--like", like)


@pytest.mark.parametrize("words", [("importance", "", "out"), ("report", ""), ("plan", "", "1b")])
def test_a_name_that_is_empty_is_not_the_folder_one_is_in(
    lucie: Callable[..., Result], words: tuple[str, ...]
) -> None:
    with pytest.raises((UsageError, DistillUsageError), match=r"it is empty|no model") as caught:
        lucie(*words)
    assert "\n" not in str(caught.value)


def test_the_importance_of_another_model(
    lucie: Callable[..., Result], teacher: Path, make_teacher: Callable[..., Path], measured: Path
) -> None:
    with pytest.raises(DistillError, match="measured on another model"):
        lucie("prune", make_teacher(seed=2), "out", "--importance", measured, *EVERYTHING)
    further = make_teacher()  # one step of training further
    content = load_file(further / "model.safetensors")
    content["model.layers.3.mlp.up_proj.weight"] += np.float32(1e-3)
    save_file(content, further / "model.safetensors", {"format": "pt"})
    with pytest.raises(DistillError, match="measured on another model"):
        lucie("prune", further, "out", "--importance", measured, *EVERYTHING)


def test_an_importance_that_is_none(
    lucie: Callable[..., Result], teacher: Path, tmp_path: Path
) -> None:
    found = figures(teacher)
    wrong = {
        "kind": (bundled(teacher, found, tmp_path / "kind", kind="logits"), "of kind logits"),
        "short": (bundled(teacher, replace(found, ffn=found.ffn[:2]), tmp_path / "short"), "ffn"),
        "nan": (bundled(teacher, replace(found, heads=found.heads * np.nan), tmp_path / "nan"),
                r"\(heads\)"),
    }  # fmt: skip
    for path, said in wrong.values():
        with pytest.raises(DistillError, match=said):
            lucie("prune", teacher, "out", "--importance", path, *EVERYTHING)
    with pytest.raises(LucieError, match=r"no .*manifest\.json"):
        lucie("prune", teacher, "out", "--importance", tmp_path / "none", *EVERYTHING)
    without = bundled(teacher, replace(found, loss=None), tmp_path / "without")
    with pytest.raises(DistillError, match="measure it again with --layer-loss"):
        lucie(
            "prune", teacher, "out", "--importance", without, "--layers", 3, "--layers-by", "loss"
        )
    lucie("prune", teacher, "out", "--importance", without, "--layers", 3)


def test_weights_that_are_no_numbers(
    lucie: Callable[..., Result], make_teacher: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_teacher()
    content = load_file(folder / "model.safetensors")
    content["model.layers.3.mlp.down_proj.weight"][:, :] = np.inf
    save_file(content, folder / "model.safetensors", {"format": "pt"})
    importance = bundled(folder, figures(folder), tmp_path / "importance")
    with pytest.raises(CheckpointError, match=r"layers\.3\.mlp\.down_proj\.weight holds NaN"):
        lucie("prune", folder, "out", "--importance", importance, *EVERYTHING)
    assert [path.name for path in tmp_path.iterdir()] == ["importance"]


def test_a_tensor_is_missing(
    lucie: Callable[..., Result], make_teacher: Callable[..., Path], measured: Path
) -> None:
    folder = make_teacher()
    content = load_file(folder / "model.safetensors")
    del content["model.norm.weight"]
    save_file(content, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lacks the tensor model\.norm\.weight"):
        lucie("prune", folder, "out", "--importance", measured, *EVERYTHING)


@pytest.mark.parametrize(
    ("trouble", "error", "said"),
    [
        (OSError(28, "No space left on device"), StoreError, "no room left"),
        (KeyboardInterrupt(), InterruptedByUserError, "Interrupted"),
    ],
)
def test_nothing_half_written_is_left(
    lucie: Callable[..., Result], teacher: Path, measured: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, trouble: BaseException, error: type[LucieError], said: str,
) -> None:  # fmt: skip
    blocks = Slice.blocks

    def stopped(self: Slice) -> Iterator[Any]:
        if self.name == "model.layers.1.mlp.up_proj.weight":
            raise trouble
        yield from blocks(self)

    monkeypatch.setattr(Slice, "blocks", stopped)
    with pytest.raises(error, match=said):
        lucie("prune", teacher, "out", "--importance", measured, *EVERYTHING)
    assert [path.name for path in tmp_path.iterdir()] == ["importance"]


def test_a_result_that_is_there(
    lucie: Callable[..., Result], teacher: Path, measured: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(pruning, "write_weights", None)
    (tmp_path / "out").mkdir()
    with pytest.raises(StoreError, match="out"):
        lucie("prune", teacher, "out", "--importance", measured, *EVERYTHING)


def test_importance_matters(
    lucie: Callable[..., Result], make_teacher: Callable[..., Path], prose: Path, tmp_path: Path
) -> None:
    """A teacher half of whose FFN and heads do nothing loses nothing with them."""
    folder = make_teacher()
    content = load_file(folder / "model.safetensors")
    dice = np.random.default_rng(3)
    idle = np.sort(dice.permutation(80)[:40])
    for n in range(4):
        content[f"model.layers.{n}.mlp.up_proj.weight"][idle] = 0
        content[f"model.layers.{n}.self_attn.v_proj.weight"][8:24] = 0  # groups 1 and 2
    save_file(content, folder / "model.safetensors", {"format": "pt"})
    lucie("importance", folder, "importance", "--text", f"en={prose}", "--tokens", 128,
          "--length", 32, "--threads", 1)  # fmt: skip
    lucie("prune", folder, "out", "--importance", "importance", "--ffn", 40, "--heads", "4/2")
    with torch.no_grad():
        found, expected = (loaded(f)(input_ids=IDS).logits for f in (tmp_path / "out", folder))
    assert (found - expected).abs().max() < 1e-6
    assert not math.isclose(found.std().item(), 0)
