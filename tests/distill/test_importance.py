"""`lucie distill importance`: the figures are those of the papers' formulas, whatever happens."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

from distill.errors import DistillError, DistillUsageError
from distill.pruning import importance as measuring
from distill.pruning.layers import Layers
from distill.pruning.states import States
from distill.pruning.statistics import head_scores
from distill.pruning.work import Work
from edge.bundle import Bundle
from edge.errors import CheckpointError, InterruptedByUserError, StoreError
from quantize.errors import QuantizeError

LENGTH, PIECES = 32, 6
ARGUMENTS = ("--tokens", LENGTH * PIECES, "--length", LENGTH, "--threads", 1)


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory, prose: Path) -> tuple[str, ...]:
    lines = prose.read_text(encoding="utf-8").splitlines()
    folder = tmp_path_factory.mktemp("texts")
    for name, part in (("fr", lines[:60]), ("en", lines[60:])):
        (folder / name).write_text("\n".join(part), encoding="utf-8")
    return tuple(f"--text={name}={folder / name}" for name in ("fr", "en"))


@pytest.fixture(scope="module")
def ids(teacher: Path, texts: tuple[str, ...]) -> torch.Tensor:
    """The pieces: of each text in turn."""
    tokenizer = Tokenizer.from_file(str(teacher / "tokenizer.json"))
    tokenizer.encode_special_tokens = True
    read = [Path(each.split("=")[2]).read_text(encoding="utf-8") for each in texts]
    both = [tokenizer.encode(text, add_special_tokens=False).ids for text in read]
    pieces = [ids[n * LENGTH : (n + 1) * LENGTH] for n in range(PIECES // 2) for ids in both]
    return torch.tensor(pieces)


def whole(folder: Path) -> LlamaForCausalLM:
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model.eval()


def aggregated(activations: torch.Tensor) -> Any:
    """Minitron's: L2 over pieces of the mean over tokens of |a|."""
    a = activations.double().numpy()  # [B, T, C]
    return np.sqrt(sum(np.mean(np.abs(piece), axis=0) ** 2 for piece in a))


@torch.no_grad()
def test_the_figures_are_those_of_the_whole_model(
    lucie: Callable[..., Result], teacher: Path, texts: tuple[str, ...], ids: torch.Tensor,
    tmp_path: Path,
) -> None:  # fmt: skip
    lucie("importance", teacher, "out", *ARGUMENTS, *texts, "--layer-loss")
    found = load_file(tmp_path / "out" / "importance.safetensors")
    model, seen = whole(teacher), {}

    def see(name: str) -> Callable[..., None]:
        return lambda _, given, made: seen.update({name: (given, made)})

    for name, module in model.named_modules():
        if name:
            module.register_forward_hook(see(name))
    loss = model(input_ids=ids, labels=ids).loss.item()
    norms = [f"model.layers.{n}.{part}layernorm" for n in range(4)
             for part in ("input_", "post_attention_")] + ["model.norm"]  # fmt: skip
    for n, name in enumerate(norms):
        (given,), made = seen[name]
        assert found["width"][n] == pytest.approx(aggregated(made), rel=1e-5)
        energy = (given.double().numpy() ** 2).mean(axis=(0, 1))
        assert found["mean_square"][n] == pytest.approx(energy, rel=1e-5)
    for n in range(4):
        inner = seen[f"model.layers.{n}.mlp.down_proj"][0][0]
        assert found["ffn"][n] == pytest.approx(aggregated(inner), rel=1e-5)
        channels = aggregated(seen[f"model.layers.{n}.self_attn.o_proj"][0][0])
        heads = [np.linalg.norm(channels[8 * h : 8 * h + 8]) for h in range(8)]
        assert found["heads"][n] == pytest.approx(heads, rel=1e-5)
        before = seen[f"model.layers.{n}.input_layernorm"][0][0].double().numpy()
        after = seen[norms[2 * n + 2]][0][0].double().numpy()
        sizes = np.linalg.norm(before, axis=-1) * np.linalg.norm(after, axis=-1)
        cosine = ((before * after).sum(-1) / sizes).mean()
        assert found["influence"][n] == pytest.approx(1 - cosine, abs=1e-6)
        shorter = whole(teacher)
        del shorter.model.layers[n]
        without = shorter(input_ids=ids, labels=ids, use_cache=False).loss.item()
        assert found["loss"][n] == pytest.approx(without - loss, abs=2e-5)
    streams = [seen[norms[2 * n]][0][0].double().numpy() for n in range(5)]
    some = [stream[:, [7, 15, 23, 31]].reshape(-1, stream.shape[-1]) for stream in streams]
    some = [stream / np.linalg.norm(stream, axis=-1, keepdims=True) for stream in some]
    for n, m in itertools.combinations(range(5), 2):
        angle = np.arccos((some[n] * some[m]).sum(-1)).mean() / np.pi
        assert found["distance"][n, m] == pytest.approx(angle, abs=1e-5)
        assert found["distance"][m, n] == found["distance"][n, m]
    bundle = Bundle.open(tmp_path / "out", verify=True)
    assert bundle.manifest.kind == "importance"
    assert bundle.manifest.metrics["loss, nats a token"] == pytest.approx(loss, rel=1e-5)
    assert (tmp_path / "out" / "importance.svg").read_bytes().startswith(b"<?xml")
    assert not (tmp_path / "out.measuring").exists()


def test_the_score_of_a_head() -> None:
    found = head_scores(torch.tensor([3.0, 4.0, 0.0, 2.0]), 2)
    assert found.tolist() == pytest.approx([5, 2])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_teacher_in_half_precision(
    lucie: Callable[..., Result], make_teacher: Callable[..., Path], texts: tuple[str, ...],
    tmp_path: Path, dtype: str,
) -> None:  # fmt: skip
    import ml_dtypes

    folder = make_teacher(tie_word_embeddings=True)
    exact = load_file(folder / "model.safetensors")
    halves = {name: tensor.astype(ml_dtypes.bfloat16) for name, tensor in exact.items()}
    save_file(halves, folder / "model.safetensors", {"format": "pt"})
    lucie("importance", folder, "half", *ARGUMENTS, *texts, "--dtype", dtype)
    save_file({name: half.astype(np.float32) for name, half in halves.items()},
              folder / "model.safetensors", {"format": "pt"})  # fmt: skip
    lucie("importance", folder, "full", *ARGUMENTS, *texts)
    half, full = (load_file(tmp_path / n / "importance.safetensors") for n in ("half", "full"))
    exactly = 1e-6 if dtype == "float32" else 0.05
    for name in ("width", "ffn", "heads"):
        assert half[name] == pytest.approx(full[name], rel=exactly)


# --- stopping ---------------------------------------------------------------------------------


def test_what_is_stopped_goes_on_to_the_same_figures(
    lucie: Callable[..., Result], teacher: Path, texts: tuple[str, ...], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    arguments = (*ARGUMENTS, *texts, "--layer-loss")
    lucie("importance", teacher, "straight", *arguments)
    computed: list[int] = []
    layer, save = Layers.layer, Work.save

    def counted(self: Layers, n: int) -> Any:
        computed.append(n)
        return layer(self, n)

    def stopped(self: Work, n: int, figures: Any) -> None:
        if n == 2 and computed.count(2) == 1:
            raise KeyboardInterrupt
        save(self, n, figures)

    monkeypatch.setattr(Layers, "layer", counted)
    monkeypatch.setattr(Work, "save", stopped)
    with pytest.raises(InterruptedByUserError):
        lucie("importance", teacher, "out", *arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.measuring", "straight"]
    lucie("importance", teacher, "out", *arguments)
    assert computed == [0, 1, 2, 2, 3]
    both = [(tmp_path / n / "importance.safetensors").read_bytes() for n in ("straight", "out")]
    assert both[0] == both[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "straight"]


def test_states_are_on_the_disk_before_the_layer_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Work(tmp_path)
    layer = tmp_path / "layers" / "000.safetensors"
    layer.parent.mkdir()
    for n in (0, 1):
        work.hidden(n).write_bytes(b"states")
    names = {work.hidden(1).stat().st_ino: "states", tmp_path.stat().st_ino: "folder",
             layer.parent.stat().st_ino: "layers"}  # fmt: skip
    flushed: list[tuple[str, bool, bool]] = []

    def fsync(descriptor: int) -> None:
        name = names.get(os.fstat(descriptor).st_ino, "figures")
        flushed.append((name, layer.exists(), work.hidden(0).exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    work.save(0, {"score": torch.ones(1)})
    before = [(name, False, True) for name in ("states", "folder", "figures")]
    assert flushed == [*before, ("layers", True, True)]
    assert not work.hidden(0).exists()


def test_a_damaged_layer_is_told_and_measured_again_on_its_own_states(
    lucie: Callable[..., Result], teacher: Path, texts: tuple[str, ...], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    lucie("importance", teacher, "straight", *ARGUMENTS, *texts)

    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(measuring, "_write", stopped)
        with pytest.raises(InterruptedByUserError):
            lucie("importance", teacher, "out", *ARGUMENTS, *texts)
    damaged = tmp_path / "out.measuring" / "layers" / "001.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with pytest.raises(DistillError, match=r"001.safetensors is damaged"):
        lucie("importance", teacher, "out", *ARGUMENTS, *texts)
    damaged.unlink()
    lucie("importance", teacher, "out", *ARGUMENTS, *texts)
    both = [(tmp_path / n / "importance.safetensors").read_bytes() for n in ("straight", "out")]
    assert both[0] == both[1]


def test_a_full_disk_keeps_what_is_measured(
    lucie: Callable[..., Result], teacher: Path, texts: tuple[str, ...], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    append, written = States.append, []

    def full(self: States, pieces: Any) -> None:
        written.append(len(pieces))
        if sum(written) > 3 * PIECES:  # the embedding, and two layers
            raise OSError(errno.ENOSPC, "No space left on device")
        append(self, pieces)

    with monkeypatch.context() as patch:
        patch.setattr(States, "append", full)
        with pytest.raises(DistillError, match=r"no room left.*layers that are measured are kept"):
            lucie("importance", teacher, "out", *ARGUMENTS, *texts)
    assert len(list((tmp_path / "out.measuring" / "layers").iterdir())) == 2
    assert not (tmp_path / "out").exists()
    lucie("importance", teacher, "out", *ARGUMENTS, *texts)
    Bundle.open(tmp_path / "out", verify=True)


def test_another_measurement_is_not_gone_on_with(
    lucie: Callable[..., Result], teacher: Path, texts: tuple[str, ...], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def never(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(measuring, "_write", never)
        with pytest.raises(InterruptedByUserError):
            lucie("importance", teacher, "out", *ARGUMENTS, *texts)
    with pytest.raises(DistillError, match="Another measurement is under way"):
        lucie("importance", teacher, "out", *ARGUMENTS, texts[0])
    recipe = tmp_path / "out.measuring" / "recipe.json"
    recipe.write_text("{}")
    with pytest.raises(DistillError, match="holds no measurement"):
        lucie("importance", teacher, "out", *ARGUMENTS, *texts)
    shutil.rmtree(recipe.parent)
    recipe.parent.mkdir()
    (recipe.parent / "mine.txt").write_text("mine")
    with pytest.raises(DistillError, match="holds no measurement"):
        lucie("importance", teacher, "out", *ARGUMENTS, *texts)
    assert (recipe.parent / "mine.txt").read_text() == "mine"


# --- bad input --------------------------------------------------------------------------------


def test_a_model_that_computes_no_numbers(
    lucie: Callable[..., Result], make_teacher: Callable[..., Path], texts: tuple[str, ...],
    tmp_path: Path,
) -> None:  # fmt: skip
    folder = make_teacher()
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.2.mlp.up_proj.weight"][:] = 3e38
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(DistillError, match=r"no numbers \(NaN or infinity\) in layer 2"):
        lucie("importance", folder, "out", *ARGUMENTS, *texts)
    assert not (tmp_path / "out").exists()


def test_a_tensor_is_missing(
    lucie: Callable[..., Result], make_teacher: Callable[..., Path], texts: tuple[str, ...]
) -> None:
    folder = make_teacher()
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.self_attn.v_proj.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"layers\.1\.self_attn\.v_proj"):
        lucie("importance", folder, "out", *ARGUMENTS, *texts)


def test_texts_and_lengths_that_do_not_fit(
    lucie: Callable[..., Result], teacher: Path, texts: tuple[str, ...], tmp_path: Path
) -> None:
    with pytest.raises(DistillUsageError, match="longer than the model’s window of 128"):
        lucie("importance", teacher, "out", "--length", 129, *texts)
    (tmp_path / "short").write_text("Hello.")
    with pytest.raises(QuantizeError, match="at least 32 are needed"):
        lucie("importance", teacher, "out", *ARGUMENTS, "--text", tmp_path / "short")
    with pytest.raises(QuantizeError, match="cannot be read"):
        lucie("importance", teacher, "out", *ARGUMENTS, "--text", tmp_path / "none")


def test_a_result_that_is_there(
    lucie: Callable[..., Result], teacher: Path, texts: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(StoreError):
        lucie("importance", teacher, "out", *ARGUMENTS, *texts)


def test_the_tokenizer_of_another_model(
    lucie: Callable[..., Result], make_teacher: Callable[..., Path], texts: tuple[str, ...]
) -> None:
    folder = make_teacher()
    small = json.loads((folder / "config.json").read_text()) | {"vocab_size": 300}
    (folder / "config.json").write_text(json.dumps(small))
    tensors = load_file(folder / "model.safetensors")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        tensors[name] = tensors[name][:300].copy()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(DistillError, match="more tokens than config"):
        lucie("importance", folder, "out", *ARGUMENTS, *texts)
