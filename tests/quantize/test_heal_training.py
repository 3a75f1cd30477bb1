"""Preparing and training, which can be stopped anywhere and go on."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from accelerate import Accelerator
from safetensors.numpy import load_file, save_file

from quantize.errors import QuantizeError, QuantizeUsageError
from quantize.healing import training
from quantize.healing.preparation import prepare
from quantize.healing.recipe import Recipe
from quantize.healing.training import train
from quantize.healing.work import Work
from tests.namespaces import UNSHARE, namespaces
from tests.quantize import tiny

pytestmark = [pytest.mark.model, pytest.mark.long("quantize", "edge/attended.py")]

STEPS = 6
Told = list[tuple[Any, ...]]


@pytest.fixture
def accelerator() -> Accelerator:
    return Accelerator(cpu=True)


def begun(folder: Path, *, steps: int = STEPS, rate: float = 3e-4) -> Work:
    """Work on pieces of 32 random tokens."""
    dice = np.random.default_rng(5)
    pieces = [array("i", dice.integers(2, 1000, 32).tolist()) for _ in range(8)]
    recipe = Recipe(source="tiny", texts="random", bits=4, steps=steps, batch=8, learning_rate=rate)
    work = Work(folder)
    work.begin(recipe, pieces)
    return work


def stopped_after(n: int) -> Callable[[], bool]:
    asked = iter(range(n))
    return lambda: next(asked, None) is None


def never() -> bool:
    return False


def nothing(*_: object) -> None:
    pass


@pytest.fixture
def prepared(tmp_path: Path, tiny_folder: Path, accelerator: Accelerator) -> Work:
    work = begun(tmp_path / "work")
    assert prepare(work, tiny_folder, accelerator, nothing, never)
    return work


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def pairs(one: Work, other: Work) -> dict[str, tuple[Any, Any]]:
    ours, theirs = load_file(one.healed), load_file(other.healed)
    return {name: (ours[name], theirs[name]) for name in ours if ours[name].dtype == np.int8}


def result(work: Work) -> dict[str, bytes]:
    return {name: tensor.tobytes() for name, tensor in load_file(work.healed).items()}


# --- preparation ------------------------------------------------------------------------------


def test_the_teacher_says_what_the_model_says(prepared: Work) -> None:
    states, pieces = np.load(prepared.states), np.load(prepared.pieces)
    weights = tiny.weights(tiny.CONFIG)
    for n in (0, 7):
        found = states[n] @ weights["lm_head.weight"].T
        expected = tiny.logits(tiny.CONFIG, weights, pieces[n].tolist())
        np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("asked", [1, 3])
def test_preparation_goes_on_where_it_was_stopped(
    asked: int, tmp_path: Path, tiny_folder: Path, accelerator: Accelerator, prepared: Work
) -> None:
    work = begun(tmp_path / "again")
    assert not prepare(work, tiny_folder, accelerator, nothing, stopped_after(asked))
    assert work.layer(0).exists() == (asked == 3)
    assert prepare(work, tiny_folder, accelerator, nothing, never)
    assert work.states.read_bytes() == prepared.states.read_bytes()
    for n in range(2):
        assert work.layer(n).read_bytes() == prepared.layer(n).read_bytes()


def test_a_model_that_computes_no_numbers_is_refused(
    tmp_path: Path, accelerator: Accelerator
) -> None:
    weights = tiny.weights(tiny.CONFIG)
    weights["model.layers.1.mlp.down_proj.weight"] *= np.float32(1e38)
    folder = tiny.write(tmp_path / "huge", tiny.CONFIG, weights)
    work = begun(tmp_path / "work")
    with pytest.raises(QuantizeError, match="computes no numbers"):
        prepare(work, folder, accelerator, nothing, never)
    assert not work.states.exists()


@namespaces
@pytest.mark.parametrize("size", ["200k", "1m"])  # hidden states, and weights, have no room
def test_a_disk_that_fills_up(size: str, tmp_path: Path, tiny_folder: Path) -> None:
    code = """
        import json, subprocess, sys
        from pathlib import Path
        from tests.quantize.test_heal_training import begun
        folder, size, source = sys.argv[1:]
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], check=True)
        work = begun(Path(folder) / "work")
        worker = [sys.executable, "-m", "quantize.healing", work.folder, source, "prepare"]
        subprocess.Popen(worker, stdin=subprocess.PIPE).wait()
    """
    command = [*UNSHARE, sys.executable, "-c", textwrap.dedent(code), tmp_path, size, tiny_folder]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "lucie: There is no room left on the disk of" in ran.stderr


def test_a_layer_that_was_removed_is_done_again(
    tmp_path: Path, tiny_folder: Path, accelerator: Accelerator, prepared: Work
) -> None:
    before = prepared.layer(1).read_bytes()
    prepared.layer(1).unlink()
    assert not prepared.prepared(2)
    assert prepare(prepared, tiny_folder, accelerator, nothing, never)
    assert prepared.prepared(2)
    assert prepared.layer(1).read_bytes() == before


def test_pieces_are_those_of_the_recipe(prepared: Work) -> None:
    expected = np.load(prepared.pieces)
    prepared.pieces.write_bytes(b"")
    begun(prepared.folder)
    assert np.array_equal(np.load(prepared.pieces), expected)


# --- training ---------------------------------------------------------------------------------


def test_training_brings_predictions_nearer(
    prepared: Work, tiny_folder: Path, accelerator: Accelerator
) -> None:
    told: Told = []
    assert train(prepared, tiny_folder, accelerator, lambda *at: told.append(at), never)
    assert [at[:2] for at in told] == [(n, STEPS) for n in range(1, STEPS + 1)]
    assert told[-1][2] < 0.9 * told[0][2]
    assert not prepared.training.exists()


def test_training_that_was_stopped_ends_with_the_same_numbers(
    prepared: Work, tmp_path: Path, tiny_folder: Path, accelerator: Accelerator
) -> None:
    assert train(prepared, tiny_folder, accelerator, nothing, never)
    work = begun(tmp_path / "again")
    assert prepare(work, tiny_folder, accelerator, nothing, never)
    told: Told = []
    for n in (1, 2):
        assert not train(
            work, tiny_folder, Accelerator(cpu=True), lambda *at: told.append(at), stopped_after(n)
        )
        assert work.training.exists()
    assert train(work, tiny_folder, Accelerator(cpu=True), lambda *at: told.append(at), never)
    assert [at[0] for at in told] == list(range(1, STEPS + 1))
    assert result(work) == result(prepared)


def test_a_training_that_crashed_goes_on_from_its_last_save(
    prepared: Work, tmp_path: Path, tiny_folder: Path, accelerator: Accelerator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    assert train(prepared, tiny_folder, accelerator, nothing, never)
    work = begun(tmp_path / "again")
    assert prepare(work, tiny_folder, accelerator, nothing, never)
    monkeypatch.setattr(training, "_SAVE_EVERY_S", 0.0)

    def crash(step: int, *_: object) -> None:
        if step == 4:
            raise MemoryError

    with pytest.raises(MemoryError):
        train(work, tiny_folder, Accelerator(cpu=True), crash, never)
    told: Told = []
    assert train(work, tiny_folder, Accelerator(cpu=True), lambda *at: told.append(at), never)
    assert told[0][0] == 4
    assert result(work) == result(prepared)


def test_two_processes_train_as_one(
    prepared: Work, tmp_path: Path, tiny_folder: Path, accelerator: Accelerator
) -> None:
    assert train(prepared, tiny_folder, accelerator, nothing, never)
    work = begun(tmp_path / "again")
    assert prepare(work, tiny_folder, accelerator, nothing, never)
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port",
        str(free_port()), "-m", "quantize.healing", str(work.folder), str(tiny_folder), "train",
    ]  # fmt: skip
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    environment |= {"LUCIE_AWAITED": "1"}  # by us
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    ) as run:  # fmt: skip
        assert run.stdin is not None
        assert run.stdout is not None
        next(run.stdout)
        run.stdin.close()  # stop after a step, and go on
        assert run.wait() != 0
        assert work.training.exists()

    environment |= {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE) as run:
        assert run.wait() == 0
    for name, (ours, theirs) in pairs(work, prepared).items():
        assert (ours == theirs).mean() > 0.999, name


def test_a_training_that_leaves_all_bounds_says_so(
    prepared: Work, tiny_folder: Path, accelerator: Accelerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Recipe, "rate", lambda *_: 1e30)
    with pytest.raises(QuantizeError, match="smaller --learning-rate"):
        train(prepared, tiny_folder, accelerator, nothing, never)


@pytest.mark.parametrize("damage", ["cut", "another", "text"])
def test_a_damaged_save_is_named(
    damage: str, prepared: Work, tiny_folder: Path, accelerator: Accelerator
) -> None:
    assert not train(prepared, tiny_folder, accelerator, nothing, stopped_after(2))
    save = prepared.training
    if damage == "cut":
        os.truncate(save, save.stat().st_size // 2)
    elif damage == "another":
        save_file({"x": np.zeros(3, np.float32)}, save, {"step": "1"})
    else:
        save.write_text("hello")
    with pytest.raises(QuantizeError, match=r"training\.safetensors is damaged"):
        train(prepared, tiny_folder, Accelerator(cpu=True), nothing, never)


@pytest.mark.parametrize("which", ["layer", "states", "other layer"])
def test_damaged_preparations_are_named(
    which: str, prepared: Work, tiny_folder: Path, accelerator: Accelerator
) -> None:
    file = prepared.states if which == "states" else prepared.layer(1)
    if which == "other layer":
        file.write_bytes(prepared.layer(0).read_bytes())
    else:
        os.truncate(file, file.stat().st_size // 2)
    with pytest.raises(QuantizeError, match="is damaged"):
        train(prepared, tiny_folder, accelerator, nothing, never)


def test_a_batch_that_cannot_be_shared_is_refused(
    prepared: Work, tiny_folder: Path, accelerator: Accelerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Accelerator, "num_processes", 3)
    with pytest.raises(QuantizeUsageError, match="--batch"):
        train(prepared, tiny_folder, accelerator, nothing, never)
