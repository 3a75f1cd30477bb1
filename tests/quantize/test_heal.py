"""`lucie quantize heal`: what it makes, and what is left when it is stopped."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import Result
from onnx import external_data_helper, numpy_helper
from safetensors.numpy import load_file, save_file

from edge.bundle import Bundle
from edge.errors import CheckpointError, StoreError, UsageError
from edge.gguf_header import read_header
from quantize import healed_bundle
from quantize.checkpoint.llama_tensors import interleave
from quantize.errors import QuantizeError, QuantizeUsageError
from quantize.ggml.tensors import GGUFTensors
from quantize.healing.result import Healed
from quantize.healing.work import Work
from tests.quantize import tiny

pytestmark = [pytest.mark.model, pytest.mark.long("quantize", "edge/attended.py")]

MATRIX = "model.layers.1.self_attn.k_proj.weight"
CODE = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    "from edge.program import main; raise SystemExit(main())"
)


@pytest.fixture(scope="module")
def prose(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prose") / "text.txt"
    path.write_text("\n".join(tiny.prose(400)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path, prose: Path) -> Path:
    """A finished training for four bits."""
    folder = tmp_path_factory.mktemp("trained")
    run = begin(folder, tiny_folder, prose)
    _, said = run.communicate()
    assert run.returncode == 0, said
    assert "Mean KL divergence of a plain Q4_0: " in said
    return folder


def arguments(source: Path, text: Path, *more: str) -> list[str]:
    return [
        "heal", str(source), "out", "--work", "work", "--steps", "8", "--learning-rate", "3e-4",
        "--calibration", f"en={text}", "--text", f"en={text}", *more,
    ]  # fmt: skip


def begin(folder: Path, source: Path, text: Path, **variables: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CODE, "quantize", *arguments(source, text)]
    env = os.environ | variables
    return subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True, env=env)


def numbers(healed: Path, name: str) -> Any:
    tensors = load_file(healed)
    levels, scales = tensors[name].astype(np.float32), tensors[f"{name}.scales"].astype(np.float32)
    return (levels.reshape(*scales.shape, 32) * scales[..., None]).reshape(levels.shape)


def test_a_healed_file_holds_what_was_trained(trained: Path) -> None:
    bundle = Bundle.open(trained / "out", verify=True)
    file = GGUFTensors.open(trained / "out" / "out.gguf")
    expected = numbers(trained / "work" / "healed.safetensors", MATRIX)
    found = file.read("blk.1.attn_k.weight")
    assert np.array_equal(found, interleave(expected, tiny.CONFIG["num_key_value_heads"]))
    norm, found = "model.layers.0.input_layernorm.weight", file.read("blk.0.attn_norm.weight")
    assert np.array_equal(found, load_file(trained / "work" / "healed.safetensors")[norm])
    assert not np.array_equal(found, tiny.weights(tiny.CONFIG)[norm])
    metrics, recipe = bundle.manifest.metrics, bundle.manifest.recipe
    assert metrics["kld, all"] < 0.9 * metrics["plain kld, all"]
    assert recipe["type"] == "Q4_0"
    assert recipe["healing"]["steps"] == 8  # type: ignore[index, call-overload]


def test_a_healed_file_is_as_large_as_a_plain_one(
    trained: Path, lucie: Callable[..., Result], tiny_folder: Path, prose: Path, tmp_path: Path
) -> None:
    lucie("gguf", tiny_folder, "out", "--type", "Q4_0", "--text", prose)
    plain = read_header(tmp_path / "out" / "out.gguf")
    healed = read_header(trained / "out" / "out.gguf")
    assert healed.file_size == plain.file_size
    assert healed.tensors == plain.tensors
    metrics = [
        Bundle.open(folder / "out", verify=False).manifest.metrics for folder in (trained, tmp_path)
    ]
    assert metrics[0]["plain kld, all"] == pytest.approx(metrics[1]["kld, all"])


def test_onnx_from_the_same_training(
    trained: Path, lucie: Callable[..., Result], tiny_folder: Path, prose: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def never(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(healed_bundle.process, "run", never)
    shutil.copytree(trained / "work", tmp_path / "work")
    lucie(*arguments(tiny_folder, prose, "--type", "onnx-q4"))
    bundle = Bundle.open(tmp_path / "out", verify=True)
    assert bundle.manifest.kind == "onnx"
    metrics = bundle.manifest.metrics
    assert metrics["kld, all"] < 0.9 * metrics["plain kld, all"]
    folder = tmp_path / "out" / "onnx"
    model = onnx.load(folder / "model_q4.onnx", load_external_data=False)
    external_data_helper.load_external_data_for_model(model, str(folder))
    arrays = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    name = next(name for name in arrays if "layers.1" in name and "down_proj.weight" in name)
    packed, scales = arrays[name], arrays[name.replace("weight", "scales")]
    levels = np.stack([packed & 15, packed >> 4], axis=-1).reshape(*scales.shape, 32)
    found = (levels.astype(np.float32) - 8) * scales[..., None]
    expected = numbers(tmp_path / "work" / "healed.safetensors",
                       "model.layers.1.mlp.down_proj.weight")  # fmt: skip
    assert np.array_equal(found.reshape(expected.shape), expected)


def test_eight_bits(
    lucie: Callable[..., Result], tiny_folder: Path, prose: Path, tmp_path: Path
) -> None:
    lucie(*arguments(tiny_folder, prose, "--type", "Q8_0", "--learning-rate", "1e-5"))
    found = GGUFTensors.open(tmp_path / "out" / "out.gguf").read("blk.0.ffn_up.weight")
    expected = numbers(
        tmp_path / "work" / "healed.safetensors", "model.layers.0.mlp.up_proj.weight"
    )
    assert np.array_equal(found, expected)
    metrics = Bundle.open(tmp_path / "out", verify=False).manifest.metrics
    assert metrics["kld, all"] < metrics["plain kld, all"] < 0.02


# --- stopping ---------------------------------------------------------------------------------


def until(condition: Callable[[], bool]) -> None:
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_what_is_stopped_goes_on(
    number: signal.Signals, trained: Path, tiny_folder: Path, prose: Path, tmp_path: Path
) -> None:
    work = Work(tmp_path / "work")
    run = begin(tmp_path, tiny_folder, prose)
    until(lambda: work.layer(0).exists() or run.poll() is not None)
    run.send_signal(number)
    _, said = run.communicate(timeout=60)
    if number != signal.SIGKILL:
        assert run.returncode == 130
        assert "Training is kept" in said
    until(lambda: not workers(work))  # a worker without its caller ends by itself
    assert not work.healed.exists()
    again = begin(tmp_path, tiny_folder, prose)
    assert (again.communicate(timeout=120), again.returncode)[1] == 0
    left, right = (
        load_file(folder / "work" / "healed.safetensors") for folder in (tmp_path, trained)
    )
    assert all(np.array_equal(left[name], right[name]) for name in right)


def test_what_has_not_begun_is_not_waited_for(
    tiny_folder: Path, prose: Path, tmp_path: Path
) -> None:
    endless = tmp_path / "modules"
    endless.mkdir()
    (endless / "torch.py").write_text("import time; time.sleep(3600)")
    run = begin(tmp_path, tiny_folder, prose, PYTHONPATH=str(endless))
    work = Work(tmp_path / "work")
    until(lambda: bool(workers(work)) or run.poll() is not None)
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 130
    assert said.endswith("Training is kept: the same command goes on from there.\n")
    until(lambda: not workers(work))


def workers(work: Work) -> list[int]:
    lines = {entry: cmdline(entry) for entry in Path("/proc").iterdir() if entry.name.isdigit()}
    words = b"quantize.healing", str(work.folder).encode()
    return [int(entry.name) for entry, line in lines.items() if all(w in line for w in words)]


def cmdline(entry: Path) -> bytes:
    try:
        return (entry / "cmdline").read_bytes()
    except OSError:
        return b""


def test_a_training_that_the_system_ends(tiny_folder: Path, prose: Path, tmp_path: Path) -> None:
    run = begin(tmp_path, tiny_folder, prose)
    work = Work(tmp_path / "work")
    until(lambda: bool(workers(work)) or run.poll() is not None)
    os.kill(workers(work)[0], signal.SIGKILL)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 1
    assert said.splitlines()[-1].startswith("lucie: The system ended training")
    assert not (tmp_path / "out").exists()


# --- what is refused --------------------------------------------------------------------------


def test_what_is_in_the_way(
    trained: Path, lucie: Callable[..., Result], tiny_folder: Path, prose: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained / "work", tmp_path / "work")
    asked = arguments(tiny_folder, prose)
    with pytest.raises(QuantizeError, match="Another healing is under way in"):
        lucie(*asked, "--seed", "1")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("x")
    with pytest.raises(QuantizeError, match="holds no healing"):
        lucie(*asked, "--work", "other")
    with (
        healed_bundle.held(tmp_path / "work"),
        pytest.raises(QuantizeError, match="Somebody else is healing"),
    ):
        lucie(*asked)
    (tmp_path / "out").mkdir()
    with pytest.raises(StoreError):
        lucie(*asked)
    assert (tmp_path / "other" / "letter.txt").read_text() == "x"


def test_a_damaged_result_is_named(trained: Path, tmp_path: Path) -> None:
    file = tmp_path / "healed.safetensors"
    tensors = load_file(trained / "work" / file.name)
    shape, scales = tensors[MATRIX].shape, tensors[f"{MATRIX}.scales"]
    for name, bad in (
        (MATRIX, np.full_like(tensors[MATRIX], 9)),
        (MATRIX, np.ascontiguousarray(tensors[MATRIX][:-1])),
        (f"{MATRIX}.scales", np.full_like(scales, np.nan)),
        (f"{MATRIX}.scales", scales.astype(np.float32)),
    ):
        save_file(tensors | {name: bad}, file)
        with pytest.raises(QuantizeError, match=r"healed\.safetensors is damaged"):
            Healed(file, 4).matrix(MATRIX, shape)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(QuantizeError, match=r"healed\.safetensors is damaged"):
        Healed(file, 4).norm("model.norm.weight", (256,))


def test_a_healing_that_made_it_worse_is_not_published(
    trained: Path, lucie: Callable[..., Result], tiny_folder: Path, prose: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained / "work", tmp_path / "work")
    healed = tmp_path / "work" / "healed.safetensors"
    tensors = load_file(healed)
    worse = tensors | {MATRIX: np.ascontiguousarray(tensors[MATRIX][::-1])}
    save_file(worse, healed)
    with pytest.raises(QuantizeError, match="was not published: healed"):
        lucie(*arguments(tiny_folder, prose), "--max-kld", "20")
    assert not (tmp_path / "out").exists()


def test_rows_that_make_no_blocks_are_refused_before_anything_is_done(
    lucie: Callable[..., Result], prose: Path, tmp_path: Path
) -> None:
    config = tiny.CONFIG | {"intermediate_size": 528}
    source = tiny.write(tmp_path / "odd", config, tiny.weights(config))
    with pytest.raises(CheckpointError, match="32"):
        lucie(*arguments(source, prose))
    assert not (tmp_path / "work").exists()


def test_weights_that_are_no_numbers_are_named_before_anything_is_done(
    lucie: Callable[..., Result], prose: Path, tmp_path: Path
) -> None:
    weights = tiny.weights(tiny.CONFIG)
    weights["model.layers.1.mlp.up_proj.weight"][3, 4] = np.nan
    source = tiny.write(tmp_path / "nan", tiny.CONFIG, weights)
    with pytest.raises(CheckpointError, match=r"up_proj\.weight"):
        lucie(*arguments(source, prose))
    assert not (tmp_path / "work").exists()


def test_without_torch_it_says_what_to_install(
    lucie: Callable[..., Result], tiny_folder: Path, prose: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(healed_bundle, "find_spec", lambda name: None if name == "torch" else 1)
    with pytest.raises(QuantizeError, match=r"torch missing.*lucie-edge\[quantize,train\]"):
        lucie(*arguments(tiny_folder, prose))


def test_another_config_is_another_model(
    trained: Path, lucie: Callable[..., Result], tiny_folder: Path, prose: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained / "work", tmp_path / "work")
    source = shutil.copytree(tiny_folder, tmp_path / "model")
    config = source / "config.json"
    config.write_text(config.read_text().replace("10000.0", "500.0"))
    with pytest.raises(QuantizeError, match="another model"):
        lucie(*arguments(source, prose))


@pytest.mark.parametrize("option", ["--calibration", "--text"])
def test_a_text_too_short_is_named_before_training(
    option: str, lucie: Callable[..., Result], tiny_folder: Path, prose: Path, tmp_path: Path
) -> None:
    short = tmp_path / "short.txt"
    short.write_text("Bonjour.")
    with pytest.raises(QuantizeError, match=r"short\.txt"):
        lucie(*arguments(tiny_folder, prose, option, str(short)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["short.txt"]


@pytest.mark.parametrize("work", ["out", "out/x"])
def test_a_training_does_not_lie_in_its_result(
    work: str, lucie: Callable[..., Result], tiny_folder: Path, prose: Path
) -> None:
    with pytest.raises(QuantizeUsageError, match="--work"):
        lucie(*arguments(tiny_folder, prose, "--work", work))


@pytest.mark.parametrize("out", ["/", "."])
def test_a_result_without_a_name_is_refused(
    out: str, lucie: Callable[..., Result], tiny_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="name"):
        lucie("heal", tiny_folder, out)
    assert not list(tmp_path.iterdir())


def test_a_file_for_a_folder(
    lucie: Callable[..., Result], tiny_folder: Path, prose: Path, tmp_path: Path
) -> None:
    (tmp_path / "work").write_text("x")
    with pytest.raises(QuantizeError, match="work cannot be written"):
        lucie(*arguments(tiny_folder, prose))


@pytest.mark.parametrize("content", [None, "garbage: [", "word"])
def test_a_configuration_of_accelerate_is_read_first(
    content: str | None, lucie: Callable[..., Result], tiny_folder: Path, prose: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    config = tmp_path / "config.yaml"
    if content is not None:
        config.write_text(content)
    with pytest.raises(QuantizeUsageError, match=r"config\.yaml is no configuration"):
        lucie(*arguments(tiny_folder, prose, "--accelerate", str(config)))
