"""Training for real: the command, in one process and in many, stopped and taken up."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file

from edge.attended import STOPPED
from edge.bundle import Bundle
from edge.checkpoint import Checkpoint
from edge.cli import main
from edge.errors import CheckpointError, LucieError
from edge.workshop import held
from pretrain.errors import PretrainError, PretrainUsageError
from pretrain.journal import read_journal
from pretrain.materials import prepared
from pretrain.origin import Origin, origin_of
from pretrain.recipe import Parallel, Recipe
from pretrain.recipe_file import read_recipe
from pretrain.run import Run, Stage, train
from pretrain.task import NextToken, Task
from pretrain.texts import read_texts
from pretrain.training import Training
from pretrain.weights import of_folder
from pretrain.worker import work
from pretrain.world import World
from tests.namespaces import UNSHARE, namespaces
from tests.quantize import tiny

SETTINGS = ["parallel.threads=1"]
Cook = Callable[..., Path]


@pytest.fixture(scope="session")
def plain(kitchen: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training in one process, from beginning to end: `out` and `run` in a folder."""
    folder = tmp_path_factory.mktemp("plain")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LUCIE_HOME", str(folder / "home"))
        cook(kitchen, folder)
    return folder


def cook(
    kitchen: Path,
    folder: Path,
    *settings: str,
    told: Callable[..., object] = lambda *_: None,
    stage: Stage = lambda _: lambda *_: None,
) -> Bundle:
    recipe = read_recipe(Recipe, kitchen / "recipe.toml", [*SETTINGS, *settings])
    run = Run(folder / "run")
    return train(recipe, folder / "out", run, stage, told=told)


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in read_journal(folder / "run") if "loss" in line]


def test_a_model_learns(plain: Path) -> None:
    curve = losses(plain)
    assert curve[0] == pytest.approx(math.log(1024), rel=0.01), "it begins knowing nothing"
    assert curve[-1] < 0.8 * curve[0]
    steps = [line["step"] for line in read_journal(plain / "run") if "loss" in line]
    assert steps == list(range(1, 21))
    assert list((plain / "run" / "tensorboard").iterdir())
    assert not (plain / "run" / "checkpoints").exists(), "what is finished needs none"


def test_what_is_made_is_a_model_that_says_where_it_comes_from(plain: Path, kitchen: Path) -> None:
    bundle = Bundle.open(plain / "out", verify=True)
    manifest = bundle.manifest
    assert manifest.kind == "model"
    assert manifest.recipe["schedule"]["steps"] == 20  # type: ignore[index, call-overload]
    (source,) = manifest.data
    assert (source.name, source.licence) == ("rain", "CC0-1.0")
    assert (source.first_date, source.last_date) == ("2000", "2019")
    assert source.tokens == pytest.approx(20 * 8 * 32, rel=0.05), "steps × sequences × length"
    assert manifest.languages[0] in ("en", "fr")
    assert len(manifest.languages) == 2
    assert "kitchen" not in json.dumps(manifest.recipe), "no folder of this computer"


def test_transformers_reads_the_model_and_finds_its_bits_per_byte(plain: Path) -> None:
    """The same figure, from the text, by another program."""
    from transformers import AutoTokenizer, LlamaForCausalLM

    from pretrain.documents import read_documents

    model = LlamaForCausalLM.from_pretrained(plain / "out")
    tokenizer = AutoTokenizer.from_pretrained(plain / "out")
    kitchen = next(plain.parent.glob("kitchen*"))
    texts = [
        document.text
        for document in read_documents(kitchen / "text.jsonl", split="heldout")
        if document.language == "fr"
    ]
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    ids = [t for text in texts for t in [*tokenizer(text, add_special_tokens=False).input_ids, end]]
    windows = [ids[at : at + 33] for at in range(0, len(ids) - 32, 32)]
    chosen = windows[: len(windows)] if len(windows) <= 8 else None
    if chosen is None:  # 256 tokens: eight windows, spread evenly
        chosen = [windows[n * len(windows) // 8] for n in range(8)]
    with torch.no_grad():
        batch = torch.tensor(chosen)
        logits = model(batch[:, :-1]).logits
        nats = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
    size = sum(len(text.encode()) for text in texts)
    expected = float(nats) / math.log(2) * len(ids) / size
    assert Bundle.open(plain / "out", verify=False).manifest.metrics["bits per byte, fr"] == (
        pytest.approx(expected, rel=1e-4)
    )


@pytest.mark.long("pretrain", "edge/attended.py")
@pytest.mark.parametrize(
    "settings",
    [
        ["parallel.data=2"],
        ["parallel.tensor=2"],
        ["parallel.pipeline=2", "batch.together=8"],
        ["parallel.data=2", "parallel.tensor=2", "parallel.pipeline=2"],
        ["recompute=true", "parallel.data=2", "model.tie_word_embeddings=false"],
    ],
    ids=["data", "tensor", "pipeline", "all", "untied"],
)
def test_any_number_of_processes_learn_the_same(
    kitchen: Path, plain: Path, tmp_path: Path, settings: list[str]
) -> None:
    expected = plain
    if "model.tie_word_embeddings=false" in settings:
        expected = tmp_path / "one"
        cook(kitchen, expected, "model.tie_word_embeddings=false")
    cook(kitchen, tmp_path, *settings)
    assert len(losses(tmp_path)) == 20
    np.testing.assert_allclose(losses(tmp_path), losses(expected), rtol=0, atol=1e-4)
    made = {}
    for shard in sorted((tmp_path / "out").glob("*.safetensors")):
        made |= load_file(shard)
    reference = load_file(expected / "out" / "model.safetensors")
    assert made.keys() == reference.keys()
    for name, tensor in reference.items():
        np.testing.assert_allclose(made[name], tensor, atol=2e-3, err_msg=name)


@pytest.mark.long("pretrain", "edge/attended.py")
@pytest.mark.parametrize("parts", [("data",), ("data", "tensor", "pipeline")], ids=["data", "all"])
def test_processes_learn_the_same_in_bfloat16(
    kitchen: Path, tmp_path: Path, parts: tuple[str, ...]
) -> None:
    """But for rounding: one alone keeps its norms in float32, FSDP does not."""
    settings = ["precision=bfloat16", "schedule.steps=6"]
    cook(kitchen, tmp_path / "one", *settings)
    cook(kitchen, tmp_path / "many", *settings, *(f"parallel.{part}=2" for part in parts))
    one, many = losses(tmp_path / "one"), losses(tmp_path / "many")
    assert len(many) == 6
    np.testing.assert_allclose(many, one, rtol=2e-3)


def test_the_result_is_on_the_disk_before_the_checkpoints_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path / "run")
    draft = run.result.with_suffix(".tmp")
    for folder in (run.checkpoints, draft):
        folder.mkdir(parents=True)
    (draft / "model.safetensors").write_bytes(b"weights")
    inodes = {path.stat().st_ino: path.name for path in (*draft.iterdir(), draft, run.folder)}
    flushed: list[tuple[str, bool]] = []

    def fsync(descriptor: int) -> None:
        assert run.checkpoints.exists()
        name = inodes.get(os.fstat(descriptor).st_ino, "metrics.json")
        flushed.append((name, run.result.exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    run.leave_result(draft, {"loss": 1.0}, Origin(data="text", taught_by=""))
    assert flushed[-1] == ("run", True)
    assert {*flushed[:-1]} == {
        (name, False) for name in ("model.safetensors", "metrics.json", "result.tmp")
    }
    assert not run.checkpoints.exists()


def test_a_result_is_taken_without_a_second_copy(plain: Path, tmp_path: Path) -> None:
    told = (plain / "run" / "result" / "origin.json").read_bytes()
    weights, metrics = Run(plain / "run").take_result(tmp_path, Origin.model_validate_json(told))
    assert metrics == Bundle.open(plain / "out", verify=False).manifest.metrics
    for file in weights.iterdir():
        assert file.samefile(plain / "run" / "result" / file.name)
    assert {file.name for file in weights.iterdir()} == {"config.json", "model.safetensors"}


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        *(("metrics.json", damage) for damage in ("", "{", "[1]", None)),
        ("origin.json", "{"),
        ("origin.json", '{"data": 1, "taught_by": ""}'),
    ],
)
def test_a_damaged_result_is_told(
    plain: Path, kitchen: Path, tmp_path: Path, file: str, damage: str | None
) -> None:
    shutil.copytree(plain / "run", tmp_path / "run")
    path = tmp_path / "run" / "result" / file
    path.unlink() if damage is None else path.write_text(damage)
    with pytest.raises(PretrainError) as raised:
        cook(kitchen, tmp_path)
    assert raised.value.code == "train.damaged-result"
    assert not (tmp_path / "out").exists()


@pytest.fixture
def finished(plain: Path, kitchen: Path, tmp_path: Path) -> Path:
    """A finished `run`, whose bundle is not there any more, and a `kitchen` of its own."""
    shutil.copytree(kitchen, tmp_path / "kitchen")
    shutil.copytree(plain / "run", tmp_path / "run")
    Run(tmp_path / "run").note(read_recipe(Recipe, tmp_path / "kitchen" / "recipe.toml", SETTINGS))
    return tmp_path


def trained_already(*_: object) -> None:
    raise AssertionError("it trains again")


def test_what_was_trained_on_another_text_is_not_taken_for_this_one(finished: Path) -> None:
    text = finished / "kitchen" / "text.jsonl"
    before = text.read_bytes()
    text.write_bytes(b'{"text": "and yet"}\n' + before)
    with pytest.raises(PretrainError) as raised:
        cook(finished / "kitchen", finished, told=trained_already)
    assert raised.value.code == "train.other-data"
    assert f"training in {finished / 'run'} began" in str(raised.value)
    assert not (finished / "out").exists()
    text.write_bytes(before)
    cook(finished / "kitchen", finished, told=trained_already)
    noted = (finished / "run" / "result" / "origin.json").read_bytes()
    assert origin_of(finished / "out") == Origin.model_validate_json(noted)


def test_a_result_that_does_not_say_what_it_was_made_of_is_taken_as_it_is(finished: Path) -> None:
    (finished / "run" / "result" / "origin.json").unlink()
    with (finished / "kitchen" / "text.jsonl").open("a", encoding="utf-8") as writer:
        writer.write('{"text": "and yet"}\n')
    cook(finished / "kitchen", finished, told=trained_already)


def test_a_bundle_that_does_not_say_what_it_was_made_of_is_not_a_damaged_one(
    plain: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    shutil.copytree(plain / "out", folder)
    manifest = folder / "manifest.json"
    told = json.loads(manifest.read_text(encoding="utf-8"))
    told["recipe"]["origin"] = {"data": 7}
    manifest.write_text(json.dumps(told), encoding="utf-8")
    with pytest.raises(PretrainError) as raised:
        origin_of(folder)
    assert raised.value.code == "train.damaged-result"
    del told["recipe"]["origin"]
    manifest.write_text(json.dumps(told), encoding="utf-8")
    assert origin_of(folder) is None


@namespaces
def test_a_disk_without_room_for_the_bundle_is_one_line(
    plain: Path, kitchen: Path, tmp_path: Path
) -> None:
    """The weights have 600 KB, the disk of the bundle 256."""
    train = [sys.executable, "-c", BEGIN, "pretrain", "train", str(kitchen / "recipe.toml")]
    train += [str(tmp_path / "small" / "out"), "--work", str(plain / "run"), "--set", *SETTINGS]
    (tmp_path / "small").mkdir()
    shell = 'mount -t tmpfs -o size=256k tmpfs "$0" && exec "$@"'
    done = subprocess.run(
        [*UNSHARE, "sh", "-c", shell, str(tmp_path / "small"), *train],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("lucie: There is no room left")
    assert "[(" not in done.stderr


BEGIN = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    "from edge.cli import main; raise SystemExit(main())"
)


def program(folder: Path, kitchen: Path, *settings: str) -> subprocess.Popen[str]:
    arguments = [str(kitchen / "recipe.toml"), str(folder / "out"), "--work", str(folder / "run")]
    more = [word for setting in (*SETTINGS, *settings) for word in ("--set", setting)]
    folder.mkdir(parents=True, exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-c", BEGIN, "pretrain", "train", *arguments, *more],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def until_step(folder: Path, step: int) -> None:
    for _ in range(1200):
        if len(losses(folder)) >= step:
            return
        time.sleep(0.1)
    raise AssertionError("it does not begin")


LONGER = ["schedule.steps=60", "evaluate_every=2"]


@pytest.fixture(scope="module")
def stopped(kitchen: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training that somebody stopped on the way: `run`, and the `kitchen` that it is made in."""
    folder = tmp_path_factory.mktemp("stopped")
    shutil.copytree(kitchen, folder / "kitchen")
    child = program(folder, folder / "kitchen", *LONGER)
    until_step(folder, 2)
    os.killpg(child.pid, signal.SIGINT)
    _, said = child.communicate(timeout=120)
    assert child.returncode == 130, said
    assert "goes on from there" in said
    assert list((folder / "run" / "checkpoints").glob("step-*"))
    assert len(losses(folder)) < 60
    return folder


def again(stopped: Path, folder: Path, *settings: str) -> list[int]:
    """Take a copy of it up in a folder; the steps that were done there."""
    shutil.copytree(stopped / "run", folder / "run")
    done: list[int] = []
    cook(stopped / "kitchen", folder, *LONGER, *settings, told=lambda n, *_: done.append(n))
    return done


@pytest.mark.long("pretrain", "edge/attended.py")
@pytest.mark.parametrize("after", ["data=1", "data=2"])
def test_what_was_stopped_goes_on_to_the_same_end(
    stopped: Path, tmp_path: Path, after: str
) -> None:
    whole = tmp_path / "whole"
    cook(stopped / "kitchen", whole, *LONGER)
    # How much is in memory at once is nobody's business but this computer's.
    done = again(stopped, tmp_path / "again", f"parallel.{after}", "batch.together=8")
    assert done == list(range(len(losses(stopped)) + 1, 61))
    measured, reference = curve(tmp_path / "again"), curve(whole)
    assert [step for step, _ in measured] == [*range(2, 61, 2)]
    np.testing.assert_allclose(losses(tmp_path / "again"), losses(whole), atol=1e-4)
    np.testing.assert_allclose(measured, reference, atol=1e-3)


def flip(file: Path) -> None:
    """Flip a bit of its last byte, which is one of a number."""
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def test_a_flipped_bit_is_not_trained_on(stopped: Path, tmp_path: Path) -> None:
    shutil.copytree(stopped / "run", tmp_path / "run")
    (*_, checkpoint) = sorted((tmp_path / "run" / "checkpoints").glob("step-*"))
    flip(next(checkpoint.glob("*.safetensors")))
    with pytest.raises(PretrainError) as raised:
        cook(stopped / "kitchen", tmp_path, *LONGER)
    assert raised.value.code == "train.damaged"
    assert str(checkpoint) in str(raised.value)


def test_checkpoints_of_another_recipe_than_the_noted_one_are_refused(
    stopped: Path, tmp_path: Path
) -> None:
    shutil.copytree(stopped / "run", tmp_path / "run")
    recipe = read_recipe(Recipe, stopped / "kitchen" / "recipe.toml", [*SETTINGS, "seed=2"])
    materials = prepared(recipe, read_texts(recipe, lambda *_: None))
    world = World(torch.device("cpu"), recipe.parallel)
    with pytest.raises(PretrainError) as raised:
        Training(recipe, materials, NextToken(), tmp_path / "run", world)
    assert raised.value.code == "train.other-checkpoints"
    assert str(tmp_path / "run") in str(raised.value)


def test_a_checkpoint_that_is_there_is_not_made_again(stopped: Path, tmp_path: Path) -> None:
    """It may be the only one: a kill between its going and its coming would lose all."""
    shutil.copytree(stopped / "run", tmp_path / "run")
    recipe = read_recipe(Recipe, stopped / "kitchen" / "recipe.toml", [*SETTINGS, *LONGER])
    materials = prepared(recipe, read_texts(recipe, lambda *_: None))
    world = World(torch.device("cpu"), recipe.parallel)
    training = Training(recipe, materials, NextToken(), tmp_path / "run", world)
    folder = Run(tmp_path / "run").checkpoints
    before = {path: path.stat().st_ino for path in folder.rglob("*")}
    training.checkpoints.save(training.step, training.part, training.optimizer)
    assert {path: path.stat().st_ino for path in folder.rglob("*")} == before


@pytest.mark.long("pretrain", "edge/attended.py")
def test_what_was_stopped_goes_on_to_the_same_bits(stopped: Path, tmp_path: Path) -> None:
    cook(stopped / "kitchen", tmp_path / "whole", *LONGER)
    again(stopped, tmp_path / "again")
    folders = (tmp_path / "again", tmp_path / "whole")
    first, second = (read_journal(folder / "run") for folder in folders)
    assert [figures(line) for line in first] == [figures(line) for line in second]
    first, second = ((folder / "out" / "model.safetensors").read_bytes() for folder in folders)
    assert first == second


@pytest.mark.long("pretrain", "edge/attended.py")
def test_a_measurement_that_was_not_made_is_made_when_it_goes_on(
    stopped: Path, tmp_path: Path
) -> None:
    step = len(losses(stopped))
    assert again(stopped, tmp_path, f"evaluate_every={step}", "evaluation_tokens=64")[0] == step + 1
    assert curve(tmp_path)[0][0] <= step
    assert [at for at, _ in curve(tmp_path) if at == step] == [step]


def note(checkpoint: Path, **facts: object) -> None:
    """Change what a checkpoint says of itself."""
    state = checkpoint / "state.json"
    state.write_text(json.dumps(json.loads(state.read_text("utf-8")) | facts), encoding="utf-8")


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        ({"added": 1}, "train.other-version"),
        ({"files": 1}, "train.damaged"),
        ({"begun_with": "another model"}, "train.other-start"),
    ],
)
def test_a_checkpoint_of_something_else_is_not_called_damaged(
    stopped: Path, tmp_path: Path, facts: dict[str, object], code: str
) -> None:
    shutil.copytree(stopped / "run", tmp_path / "run")
    (*_, checkpoint) = sorted((tmp_path / "run" / "checkpoints").glob("step-*"))
    note(checkpoint, **facts)
    with pytest.raises(PretrainError) as raised:
        cook(stopped / "kitchen", tmp_path, *LONGER)
    assert raised.value.code == code


def test_a_checkpoint_that_does_not_say_what_it_began_with_is_taken_up(
    stopped: Path, tmp_path: Path
) -> None:
    shutil.copytree(stopped / "run", tmp_path / "run")
    (*_, checkpoint) = sorted((tmp_path / "run" / "checkpoints").glob("step-*"))
    told = json.loads((checkpoint / "state.json").read_text("utf-8"))
    assert told.pop("begun_with")
    (checkpoint / "state.json").write_text(json.dumps(told), encoding="utf-8")
    recipe = read_recipe(Recipe, stopped / "kitchen" / "recipe.toml", [*SETTINGS, *LONGER])
    materials = prepared(recipe, read_texts(recipe, lambda *_: None))
    world = World(torch.device("cpu"), recipe.parallel)
    training = Training(recipe, materials, NextToken(), tmp_path / "run", world)
    assert training.step == told["step"] > 0


@pytest.mark.long("pretrain", "edge/attended.py")
def test_what_others_have_left_among_checkpoints_is_no_hindrance(
    stopped: Path, tmp_path: Path
) -> None:
    shutil.copytree(stopped / "run", tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / ".tmp-step-00000099").touch()
    (tmp_path / "run" / "checkpoints" / "step-²").mkdir()
    log = tmp_path / "run" / "log.jsonl"
    log.write_bytes(b'\xf0{"step": 1}\n{"stfp": 1}\n7\n' + log.read_bytes())
    shown: list[tuple[str, int]] = []
    cook(
        stopped / "kitchen", tmp_path, *LONGER, "save_every_s=0.001",
        stage=lambda name: lambda done, _: shown.append((name, done)),
    )  # fmt: skip
    assert len(losses(tmp_path)) == 60
    done = len(losses(stopped))
    assert [step for name, step in shown if name == "train"] == [*range(done, 61)]


@pytest.mark.long("pretrain", "edge/attended.py")
@pytest.mark.parametrize("what", ["shard", "bit", "state", "step", "unlisted", "text"])
def test_what_it_cannot_go_on_from_is_told(stopped: Path, tmp_path: Path, what: str) -> None:
    shutil.copytree(stopped / "run", tmp_path / "run")
    (checkpoint, *_) = sorted((tmp_path / "run" / "checkpoints").glob("step-*"), reverse=True)
    text = stopped / "kitchen" / "text.jsonl"
    before = text.read_bytes()
    match what:
        case "shard":
            damaged = next(checkpoint.glob("*.safetensors"))
            damaged.write_bytes(damaged.read_bytes()[:-1])
        case "bit":
            flip(next(checkpoint.glob("*.safetensors")))
        case "state":
            (checkpoint / "state.json").write_text("{")
        case "step":
            note(checkpoint, step=9_999)
        case "unlisted":
            note(checkpoint, files={}, crc32={})
        case _:
            text.write_bytes(b'{"text": "and yet"}\n' + before)
    try:
        with pytest.raises(PretrainError) as raised:
            cook(stopped / "kitchen", tmp_path, *LONGER)
    finally:
        text.write_bytes(before)
    assert raised.value.code == ("train.other-data" if what == "text" else "train.damaged")
    if what != "text":  # and its advice is good
        assert str(checkpoint) in str(raised.value)
        shutil.rmtree(checkpoint)
        cook(stopped / "kitchen", tmp_path, *LONGER)
        assert len(losses(tmp_path)) == 60


def curve(folder: Path) -> list[tuple[int, float]]:
    name = "bits_per_byte/fr"
    return [
        (int(line["step"]), line[name]) for line in read_journal(folder / "run") if name in line
    ]


def figures(line: dict[str, float]) -> dict[str, float]:
    """Without what the clock says."""
    return {k: v for k, v in line.items() if k not in ("tokens_per_s", "mfu", "memory_bytes")}


@pytest.mark.long("pretrain", "edge/attended.py")
def test_processes_that_a_cluster_starts_train_to_the_end(
    kitchen: Path, plain: Path, tmp_path: Path
) -> None:
    """With nobody who waits, and nothing on stdin; asked to end on the way, as a queue does."""
    recipe = tmp_path / "recipe.toml"
    text = (kitchen / "recipe.toml").read_text(encoding="utf-8")
    text = text.replace('"model"', f'"{kitchen}/model"').replace('"text', f'"{kitchen}/text')
    recipe.write_text(text + "[parallel]\ndata = 2\nthreads = 1\n", encoding="utf-8")
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    start += ["-m", "pretrain", str(tmp_path / "run"), str(recipe)]
    with subprocess.Popen(start, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as first:
        until_step(tmp_path, 3)
        first.terminate()
        first.wait(60)
    done = len(losses(tmp_path))
    assert 3 <= done < 20
    assert list((tmp_path / "run" / "checkpoints").glob("step-*"))
    subprocess.run(start, stdin=subprocess.DEVNULL, check=True, stdout=subprocess.DEVNULL)
    made = train(
        read_recipe(Recipe, recipe), tmp_path / "out", Run(tmp_path / "run"),
        lambda _: lambda done, of: None, told=lambda *_: pytest.fail("it is trained already"),
    )  # fmt: skip
    assert made.manifest.kind == "model"
    np.testing.assert_allclose(losses(tmp_path), losses(plain), atol=1e-4)


def test_processes_add_up_what_each_has_found(tmp_path: Path) -> None:
    script = tmp_path / "sums.py"
    script.write_text(
        "import os; from pathlib import Path; from pretrain.recipe import Parallel;"
        "from pretrain.world import World\n"
        "with World.joined(Parallel(data=2, threads=1)) as world:\n"
        "    rank = int(os.environ['RANK'])\n"
        "    found = world.sums([0xFFFFFFFF, 0, 7 * rank] if rank else [0, 5, 0])\n"
        "    Path(__file__).with_name(f'{rank}').write_text(repr(found))\n"
    )
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*start, str(script)], stdin=subprocess.DEVNULL, check=True)
    for rank in ("0", "1"):
        assert (tmp_path / rank).read_text() == "[4294967295, 5, 7]"
    alone = World(torch.device("cpu"), Parallel())
    assert alone.sums([3, 1 << 40]) == [3, 1 << 40]


def test_who_starts_a_process_by_hand_is_told_what_is_wrong(tmp_path: Path) -> None:
    start = [sys.executable, "-m", "pretrain", str(tmp_path / "run"), str(tmp_path / "none.toml")]
    done = subprocess.run(start, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("lucie: ")
    assert "none.toml" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Callable[..., bool]:
    """What a process of a training does, in this one."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_VERBOSITY"):
        monkeypatch.setenv(name, "1")

    def run(folder: Path, kitchen: Path, make_task: Callable[..., Task]) -> bool:
        arguments = [str(folder), str(kitchen / "recipe.toml")]
        return work(arguments, Recipe, make_task, lambda *_: None)

    return run


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.EIO, "Input/output error", "a/model.safetensors"),
         "a/model.safetensors: Input/output error"),
        (OSError("no file named model.safetensors\nin a"), "no file named model.safetensors"),
        (SafetensorError("header too large"), "header too large"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_not_said_of_the_folder_that_is_written(
    worker: Callable[..., bool], kitchen: Path, tmp_path: Path, error: Exception, reason: str
) -> None:
    def make_task(*_: object) -> Task:
        raise error

    with pytest.raises(PretrainError) as raised:
        worker(tmp_path / "run", kitchen, make_task)
    assert raised.value.code == "train.unreadable"
    assert reason in str(raised.value)
    assert str(tmp_path) not in str(raised.value)


@pytest.mark.parametrize("at", ["begin", "log", "step", "result"])
def test_a_folder_that_takes_nothing_is_named(
    worker: Callable[..., bool], kitchen: Path, tmp_path: Path, at: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", "some/file")

    run = tmp_path / "run"
    match at:
        case "begin":
            tmp_path.joinpath("file").touch()
            run = tmp_path / "file" / "run"
        case "log":
            (run / "train.log").mkdir(parents=True)
            Run(run).recipe.write_text(
                read_recipe(Recipe, kitchen / "recipe.toml").model_dump_json(by_alias=True)
            )
        case "step":
            monkeypatch.setattr("pretrain.journal._forget", refused)
        case _:
            monkeypatch.setattr(Training, "run", lambda *_: True)
            monkeypatch.setattr("pretrain.worker.write_weights", refused)
    with pytest.raises(PretrainError) as raised:
        worker(run, kitchen, lambda *_: NextToken())
    assert raised.value.code == "train.unwritable"
    assert str(raised.value).startswith(f"{run} cannot be written: ")


def test_who_is_asked_to_end_while_it_starts_makes_no_step(kitchen: Path, tmp_path: Path) -> None:
    start = [sys.executable, "-m", "pretrain", str(tmp_path / "run"), str(kitchen / "recipe.toml")]
    awaited = os.environ | {"LUCIE_AWAITED": "1"}  # by somebody who is gone, as stdin says
    assert subprocess.run(start, stdin=subprocess.DEVNULL, env=awaited).returncode == STOPPED
    assert not losses(tmp_path)
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.long("pretrain", "edge/attended.py")
def test_a_worker_that_the_system_ends_is_told(kitchen: Path, tmp_path: Path) -> None:
    child = program(tmp_path, kitchen, *LONGER)
    until_step(tmp_path, 2)
    for pid in workers(tmp_path, "pid,args"):
        os.kill(int(pid.split()[0]), signal.SIGKILL)
    _, said = child.communicate(timeout=120)
    assert child.returncode == 1
    assert "The system ended training" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.long("pretrain", "edge/attended.py")
def test_a_killed_training_goes_on_from_its_last_checkpoint(kitchen: Path, tmp_path: Path) -> None:
    settings = ["schedule.steps=60", "save_every_s=0.2"]
    whole = tmp_path / "whole"
    cook(kitchen, whole, *settings)
    child = program(tmp_path, kitchen, *settings)
    checkpoints = tmp_path / "run" / "checkpoints"
    for _ in range(1200):
        if list(checkpoints.glob("step-*")):
            break
        time.sleep(0.1)
    else:
        raise AssertionError("it saves nothing")
    with child:
        os.killpg(child.pid, signal.SIGKILL)
    for _ in range(100):  # the worker sees that nobody is there, and ends
        if not workers(tmp_path):
            break
        time.sleep(0.2)
    log = tmp_path / "run" / "log.jsonl"
    with log.open("a", encoding="utf-8") as writer:
        writer.write('{"step": 59, "loss"')  # as a pulled plug leaves it
    done: list[int] = []
    cook(kitchen, tmp_path, *settings, told=lambda n, *_: done.append(n))
    assert done[0] > 1
    assert losses(tmp_path) == losses(whole)


@pytest.mark.long("pretrain", "edge/attended.py")
@namespaces
def test_on_a_full_disk_a_training_stops_and_goes_on_when_there_is_room(
    kitchen: Path, tmp_path: Path, plain: Path
) -> None:
    """The weights have 600 KB, what AdamW remembers twice as much; the disk 1 MB at first."""
    run, out = tmp_path / "run", tmp_path / "out"
    run.mkdir()
    train = [sys.executable, "-c", BEGIN, "pretrain", "train", str(kitchen / "recipe.toml")]
    train += [str(out), "--work", str(run), "--set", *SETTINGS, "--set", "save_every_s=1e-3"]
    shell = """mount -t tmpfs -o size=1m tmpfs "$0" && ! "$@" && test ! -e "${0%run}out" &&
        ! ls -A "$0/checkpoints" | grep tmp &&
        mount -o remount,size=64m "$0" && "$@" && cp "$0/log.jsonl" "${0%run}"
    """
    done = subprocess.run(
        [*UNSHARE, "sh", "-c", shell, str(run), *train], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert f"There is no room left on the disk of {run}/checkpoints. Free" in done.stderr
    (tmp_path / "log.jsonl").rename(run / "log.jsonl")
    assert losses(tmp_path) == losses(plain)


def workers(folder: Path, columns: str = "args") -> list[str]:
    """The lines of `ps` about the processes that train there."""
    listed = subprocess.run(["ps", "-ewwo", columns], capture_output=True, text=True, check=True)
    lines = listed.stdout.splitlines()
    return [line for line in lines if f"-m pretrain {folder / 'run'}" in line]


def test_going_on_with_a_model_carries_what_is_known_of_it(
    plain: Path, kitchen: Path, tmp_path: Path
) -> None:
    shutil.copytree(plain / "out", tmp_path / "begun")
    settings = [f'model.from="{tmp_path / "begun"}"', "schedule.steps=2"]
    recipe = tmp_path / "recipe.toml"
    text = (kitchen / "recipe.toml").read_text(encoding="utf-8")
    start = text.index("[model]")
    recipe.write_text(text[:start] + "[model]\n" + text[text.index("[data]") :], encoding="utf-8")
    shutil.copy(kitchen / "text.jsonl", tmp_path)

    def going_on() -> Bundle:
        return train(
            read_recipe(Recipe, recipe, [*SETTINGS, *settings]),
            tmp_path / "out",
            Run(tmp_path / "run"),
            lambda _: lambda done, of: None,
        )

    made = going_on()
    begun = Bundle.open(plain / "out", verify=False)
    assert made.manifest.parents[0].sha256 == begun.sha256
    assert losses(tmp_path)[0] < losses(plain)[0], "it knows what it had learned"
    (rain,), (before,) = made.manifest.data, begun.manifest.data
    assert (rain.name, rain.size) == ("rain", before.size), "the same text, told once"
    assert rain.tokens == pytest.approx(22 * 8 * 32, rel=0.05), "of 20 steps and of two"
    shutil.rmtree(tmp_path / "out")
    weights = tmp_path / "begun" / "model.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[8 + int.from_bytes(raw[:8], "little")] ^= 1  # the first number of the first tensor
    weights.write_bytes(raw)
    with pytest.raises(PretrainError) as raised:
        going_on()
    assert raised.value.code == "train.other-start"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        (["schedule.stepz=1"], "recipe.wrong"),
        (["schedule.steps=0"], "recipe.wrong"),
        (["schedule"], "recipe.setting"),
        (["batch.sequences=7", "parallel.data=2"], "recipe.wrong"),
        (["model.num_key_value_heads=3"], "recipe.wrong"),
        (["data.length=100000"], "tokens.short"),
        (['data.separator="nowhere"'], "tokens.separator"),
        (["model.tokenizer=text.jsonl"], "checkpoint.bad-json"),
        (["data.mixture=[]"], "recipe.wrong"),
        (["parallel.tensor=4"], "train.tensor"),
        (["parallel.pipeline=3"], "train.pipeline"),
        (["model.max_position_embeddings=16"], "train.length"),
        (["model.hidden_size=34", "model.head_dim=8"], "train.heads"),
        (["optimizer.betas=[1.0, 0.9]"], "recipe.wrong"),
        (["schedule.steps=1\nseed=2"], "recipe.setting"),
    ],
)
def test_bad_recipes_are_one_line(
    kitchen: Path, tmp_path: Path, settings: list[str], code: str
) -> None:
    with pytest.raises(LucieError) as raised:
        cook(kitchen, tmp_path, *settings)
    assert raised.value.code == code
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_another_training_is_left_alone(
    plain: Path, kitchen: Path, tmp_path: Path
) -> None:
    shutil.copytree(plain / "run", tmp_path / "run")
    with pytest.raises(PretrainError) as raised:
        cook(kitchen, tmp_path, "seed=2")
    assert raised.value.code == "train.other-recipe"
    assert "(there → here: seed 1 → 2)" in str(raised.value)
    (tmp_path / "run" / "recipe.json").write_text('{"field of a later version": 1}')
    with pytest.raises(PretrainError) as raised:
        cook(kitchen, tmp_path)
    assert raised.value.code == "train.unread-recipe"
    (tmp_path / "else" / "run").mkdir(parents=True)
    (tmp_path / "else" / "run" / "thesis.txt").write_text("mine")
    with pytest.raises(PretrainError) as raised:
        cook(kitchen, tmp_path / "else")
    assert raised.value.code == "train.not-ours"


@pytest.mark.long("pretrain", "edge/attended.py")
def test_a_first_start_that_was_cut_off_is_none(kitchen: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.part").write_bytes(b'{"half": ')
    cook(kitchen, tmp_path)
    assert (tmp_path / "out").is_dir()


def test_a_training_cannot_be_in_what_it_makes(kitchen: Path, tmp_path: Path) -> None:
    recipe = read_recipe(Recipe, kitchen / "recipe.toml", SETTINGS)
    for folder in ("out", "out/run", "out/../out/run"):
        with pytest.raises(PretrainUsageError) as raised:
            train(recipe, tmp_path / "out", Run(tmp_path / folder), lambda _: lambda done, of: None)
        assert raised.value.code == "train.work-in-out"
    assert not list(tmp_path.iterdir())


def test_a_file_is_no_folder_of_a_training(kitchen: Path, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    with pytest.raises(PretrainError) as raised:
        cook(kitchen, tmp_path)
    assert raised.value.code == "train.not-ours"
    assert (tmp_path / "run").read_text() == "mine"


def test_who_comes_second_changes_nothing(kitchen: Path, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    run.folder.mkdir()
    recipe = read_recipe(Recipe, kitchen / "recipe.toml", SETTINGS)
    with held(run.folder):
        run.begin(recipe)
        with pytest.raises(PretrainError) as raised:  # of the first, nothing is saved yet
            cook(kitchen, tmp_path, "seed=2")
    assert raised.value.code == "train.busy"
    assert run.read(Recipe) == recipe


def test_damaged_weights_are_refused_even_where_no_text_reads_them(tmp_path: Path) -> None:
    weights = tiny.weights(tiny.CONFIG)
    weights["model.embed_tokens.weight"][1000, 3] = np.nan
    source = of_folder(Checkpoint.open(tiny.write(tmp_path / "model", tiny.CONFIG, weights)))
    assert source("model.norm.weight", (256,)).shape == (256,)
    with pytest.raises(CheckpointError) as raised:
        source("model.embed_tokens.weight", (1024, 256))
    assert raised.value.code == "checkpoint.not-finite"


def test_weights_that_no_llama_model_has_are_not_left_out(tmp_path: Path) -> None:
    weights = tiny.weights(tiny.CONFIG)
    weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.zeros(16, np.float32)
    folder = tiny.write(tmp_path / "model", tiny.CONFIG, weights)
    assert of_folder(Checkpoint.open(folder)), "what follows from the config is no matter"
    weights["model.layers.1.self_attn.q_proj.bias"] = np.ones(256, np.float32)
    checkpoint = Checkpoint.open(tiny.write(folder, tiny.CONFIG, weights))
    with pytest.raises(CheckpointError) as raised:
        of_folder(checkpoint)
    assert raised.value.code == "checkpoint.unknown-tensor"


@pytest.mark.parametrize("out", ["/", ".", ""])
def test_what_has_no_name_is_no_place_for_a_model(
    kitchen: Path, out: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pretrain", "train", str(kitchen / "recipe.toml"), out]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_what_diverges_is_said(kitchen: Path, tmp_path: Path) -> None:
    with pytest.raises(PretrainError) as raised:
        cook(kitchen, tmp_path, "schedule.rate=1e30", "schedule.warmup=0", "optimizer.clip=1e30")
    assert raised.value.code == "train.diverged"


def test_a_model_of_another_vocabulary_is_refused(
    plain: Path, kitchen: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(plain / "out", folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 500}))
    (folder / "manifest.json").unlink()
    recipe = tmp_path / "recipe.toml"
    text = (kitchen / "recipe.toml").read_text(encoding="utf-8")
    body = text[text.index("[data]") :].replace("text.jsonl", str(kitchen / "text.jsonl"))
    recipe.write_text(f'[model]\nfrom = "model"\n{body}', encoding="utf-8")
    with pytest.raises(PretrainUsageError) as raised:
        train(
            read_recipe(Recipe, recipe, SETTINGS),
            tmp_path / "out",
            Run(tmp_path / "run"),
            lambda _: lambda done, of: None,
        )
    assert raised.value.code == "train.vocabulary"
