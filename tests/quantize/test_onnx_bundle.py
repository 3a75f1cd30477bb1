"""`lucie quantize onnx` from model folders to bundles that other commands take."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from array import array
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import Result
from numpy.typing import NDArray
from onnxruntime import RunOptions
from safetensors.numpy import save_file

from edge.bundle import Bundle
from edge.checkpoint import Checkpoint
from edge.errors import CheckpointError, EngineError
from edge.manifest import DataSource, Manifest
from edge.onnxrt.memory import Growing
from edge.store import Store
from quantize import onnx_bundle
from quantize.errors import QuantizeError, QuantizeUsageError
from quantize.graph.export import export
from quantize.graph.layout import write_layout
from quantize.graph.types import F32
from quantize.measuring.graph_reading import GraphReader
from quantize.peers import environment, optimum
from tests.quantize import tiny

pytestmark = pytest.mark.model


@pytest.fixture
def graph(tiny_folder: Path, tmp_path: Path) -> Path:
    checkpoint = Checkpoint.open(tiny_folder)
    out = tmp_path / "graph"
    (out / "onnx").mkdir(parents=True)
    made = export(checkpoint, out / "onnx", F32)
    write_layout(checkpoint, out, made, F32)
    return made


def test_a_reader_gives_the_logits_of_every_token(graph: Path) -> None:
    ids = list(range(40, 80))
    expected = tiny.logits(tiny.CONFIG, tiny.weights(tiny.CONFIG), ids)
    with closing(GraphReader(graph, 64, 1)) as reader:
        found = reader.read(array("i", ids), 7)
        np.testing.assert_allclose(found, expected[7:], atol=2e-4)
        answer = reader.continue_greedily(array("i", ids), 3).tolist()
    for token in answer:
        logits = tiny.logits(tiny.CONFIG, tiny.weights(tiny.CONFIG), ids)[-1]
        assert token == logits.argmax()
        ids.append(token)


def test_a_bundle_passes_its_gates_and_says_where_it_is_from(
    lucie: Callable[..., Result], tiny_folder: Path, tmp_path: Path, text: Path
) -> None:
    learnt = DataSource(name="Wikipedia", licence="CC-BY-SA-4.0")
    source = Bundle.write(
        tmp_path / "source",
        Manifest(kind="model", name="source", licence="Apache-2.0", languages=("fr",),
                 provenance="recorded", data=(learnt,)),
        {file.name: file for file in tiny_folder.iterdir()},
    )  # fmt: skip
    lucie("onnx", source.path, "out", "--bits", "8", "--text", f"fr={text}")
    bundle = Bundle.open(tmp_path / "out", verify=True)
    manifest = bundle.manifest
    assert (manifest.kind, manifest.licence, manifest.data) == ("onnx", "Apache-2.0", (learnt,))
    assert manifest.parents[0].sha256 == source.sha256
    assert manifest.metrics["gate: texts with equal tokens"] == 10_002
    assert manifest.metrics["kld, fr"] < 0.1
    width, inner, rows, kv = 256, 512, 1024, 64
    layer = width * (2 * width + 2 * kv + 3 * inner)
    # Eight bits and a scale of 32 for each 32 numbers; the head, not the embedding.
    assert manifest.metrics["bytes read per token"] == (2 * layer + rows * width) * 36 / 32
    model = Store().find(str(tmp_path / "out"))
    assert model.path.name == "model_quantized.onnx"
    said = {prop.key: prop.value for prop in onnx.load(model.path, load_external_data=False)
            .metadata_props}  # fmt: skip
    assert said["data"] == "Wikipedia CC-BY-SA-4.0"
    shown = json.loads(
        lucie("compare", model.path, model.path, "--text", text, "--no-speed", "--json").stdout
    )
    assert shown[1]["figures"]["all"]["kld"]["value"] == 0


def test_what_predicts_something_else_is_not_published(
    lucie: Callable[..., Result], tiny_folder: Path, tmp_path: Path, text: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def swapped(checkpoint: Checkpoint, folder: Path, *args: object, **kwargs: object) -> Path:
        made = export(checkpoint, folder, *args, **kwargs)  # type: ignore[arg-type]
        model = onnx.load(made, load_external_data=False)
        norms = [node for node in model.graph.node if node.op_type.startswith("SkipSimplified")]
        norms[1].input[0], norms[2].input[0] = norms[2].input[0], norms[1].input[0]
        norms[1].input[0] = norms[0].output[0]
        made.write_bytes(model.SerializeToString())
        return made

    monkeypatch.setattr(onnx_bundle, "export", swapped)
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises((QuantizeError, EngineError)):
        lucie("onnx", tiny_folder, "out", "--bits", "32", "--text", text)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_ctrl_c_while_a_chunk_is_read_leaves_a_reader_that_reads(graph: Path) -> None:
    ids = array("i", range(40, 90))
    with closing(GraphReader(graph, 64, 1)) as reader:
        expected = reader.read(ids).copy()
        stops = list[bool]()

        class Pressing(Growing):
            def forward(self, ids: Sequence[int], options: RunOptions) -> NDArray[np.float32]:
                os.kill(os.getpid(), signal.SIGINT)
                while not options.terminate:
                    time.sleep(0.001)
                stops.append(True)
                return super().forward(ids, options)

        reader._memory = Pressing(reader._graph)
        with pytest.raises(KeyboardInterrupt):
            reader._read_on(ids, 0)
        assert stops == [True]
        assert np.allclose(reader.read(ids), expected, atol=1e-5)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_middle_leaves_nothing(
    smollm2: Path, tmp_path: Path, number: signal.Signals
) -> None:
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from edge.program import main; raise SystemExit(main())"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, "quantize", "onnx", smollm2, "out", "--bits", "16"],
        cwd=tmp_path, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not list(tmp_path.rglob("*.onnx_data")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "Interrupted; nothing was kept.\n")
    assert not list(tmp_path.iterdir())


def test_a_vocabulary_that_the_model_has_no_rows_for_is_told_as_such(
    lucie: Callable[..., Result], tmp_path: Path
) -> None:
    config = tiny.CONFIG | {"vocab_size": 700}
    source = tiny.write(tmp_path / "model", tiny.CONFIG, tiny.weights(tiny.CONFIG))
    (source / "config.json").write_text(json.dumps(config))
    save_file(tiny.weights(config), source / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json has \d+ tokens, but .* 700"):
        lucie("onnx", source, "out")
    assert not (tmp_path / "out").exists()


def test_what_wants_gguf_says_so(lucie: Callable[..., Result], graph: Path) -> None:
    for command in (("imatrix", graph), ("dequantize", graph, "out")):
        with pytest.raises(QuantizeUsageError, match="is an ONNX model"):
            lucie(*command)


def test_options_that_exclude_each_other(lucie: Callable[..., Result], tmp_path: Path) -> None:
    for options, said in (
        (("--bits", "8", "--imatrix", "m.gguf"), "4 bits only"),
        (("--bits", "16", "--dynamic"), "--bits 8"),
        (("--exporter", "optimum"), "--bits 32"),
    ):
        with pytest.raises(QuantizeUsageError, match=said):
            lucie("onnx", "nowhere", "out", *options)
    assert not list(tmp_path.iterdir())


def test_optimum_reads_a_folder_in_the_older_spelling(tmp_path: Path) -> None:
    given = {key: value for key, value in tiny.CONFIG.items() if key != "rope_theta"}
    rope = tiny.LLAMA_3_ROPE | {"rope_theta": 5000.0}
    folder = tiny.write(
        tmp_path / "model", given | {"rope_parameters": rope}, tiny.weights(tiny.CONFIG)
    )
    optimum.write_readable(Checkpoint.open(folder), tmp_path / "older")
    config = json.loads((tmp_path / "older" / "config.json").read_text())
    assert config["rope_theta"] == 5000.0
    assert config["rope_scaling"] == tiny.LLAMA_3_ROPE
    assert "rope_parameters" not in config
    settings = json.loads((tmp_path / "older" / "tokenizer_config.json").read_text())
    assert settings["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert (tmp_path / "older" / "model.safetensors").samefile(folder / "model.safetensors")


def test_an_environment_that_was_cut_short_is_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def fail(command: list[str], **_: object) -> None:
        asked.append(command)
        raise KeyboardInterrupt

    monkeypatch.setattr(environment, "run", fail)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            environment.prepared("peer", ["numpy==2.4.6"], "optimum")
    assert len(asked) == 2
    monkeypatch.setattr(environment, "run", lambda *args, **kwargs: None)
    programs = environment.prepared("peer", ["numpy==2.4.6"], "optimum")
    monkeypatch.setattr(environment, "run", fail)
    assert environment.prepared("peer", ["numpy==2.4.6"], "optimum") == programs
    assert subprocess.run([programs / "python", "-c", "pass"]).returncode == 0
