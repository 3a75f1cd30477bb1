"""What transformers.js makes of our folders in a browser, on onnxruntime-web's WebAssembly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.paths import cache_dir
from quantize.graph.types import F16, F32, INT8, Q4, Q8
from tests.edge.browser import CHROMIUM, chromium
from tests.quantize import tiny
from tests.quantize.test_onnx_export import exported, run
from tests.quantize.transformers_js import NPM, folder_of_web, serving

pytestmark = pytest.mark.skipif(
    CHROMIUM is None or NPM is None, reason="chromium or npm is not installed"
)

CACHE = cache_dir()  # the user's own, before LUCIE_HOME is moved
TYPES = {"fp32": F32, "fp16": F16, "int8": INT8, "q8": Q8, "q4": Q4}
"""By the names of transformers.js, which finds a file by its suffix."""
PROMPT = list(range(40, 60))
PAGE = """<!doctype html><meta charset="utf-8"><script type="module">
import { AutoModelForCausalLM, Tensor, env } from "./web/transformers/dist/transformers.min.js";
Object.assign(env, {allowRemoteModels: false, allowLocalModels: true, localModelPath: "/models/"});
Object.assign(env.backends.onnx.wasm, {wasmPaths: "/web/onnxruntime-web/dist/", numThreads: 1});
const prompt = {prompt}, whole = (values) => new Tensor("int64", values.map(BigInt), [1, 20]);
const inputs = {input_ids: whole(prompt), attention_mask: whole(prompt.map(() => 1))};
const answers = {};
for (const dtype of {types}) {
  try {
    const model = await AutoModelForCausalLM.from_pretrained(dtype, {dtype, device: "wasm"});
    const logits = Array.from((await model(inputs)).logits.data);
    const text = await model.generate({...inputs, max_new_tokens: 8, do_sample: false});
    answers[dtype] = {logits, next: text.tolist()[0].slice(prompt.length).map(Number)};
  } catch (error) { answers[dtype] = {error: String(error)}; }
}
window.answers = answers;
</script>"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model in each type, in folders as `lucie quantize onnx` leaves them."""
    root = tmp_path_factory.mktemp("web")
    source = tiny.write(root / "source", tiny.CONFIG, tiny.weights(tiny.CONFIG))
    for name, wanted in TYPES.items():
        exported(source, root / "models" / name, wanted)
    return root


@pytest.fixture(scope="module")
def answers(folders: Path) -> dict[str, dict[str, Any]]:
    """By type, what it says after the prompt: its first logits, and eight tokens."""
    (folders / "web").symlink_to(folder_of_web(CACHE))
    page = PAGE.replace("{prompt}", str(PROMPT)).replace("{types}", str([*TYPES]))
    (folders / "index.html").write_text(page, encoding="utf-8")
    with serving(folders) as address, chromium(folders / "profile") as browser:
        tab = browser.page()
        tab.send("Page.navigate", url=f"{address}/index.html")
        found: dict[str, dict[str, Any]] = tab.until("window.answers")
    return found


@pytest.mark.long("quantize/graph")
@pytest.mark.parametrize("name", TYPES)
def test_a_browser_says_what_we_say(
    folders: Path, answers: dict[str, dict[str, Any]], name: str
) -> None:
    answer = answers[name]
    assert "error" not in answer, answer
    (graph,) = (folders / "models" / name / "onnx").glob("*.onnx")
    pieces = [PROMPT]
    for _ in range(8):
        logits = run(graph, tiny.CONFIG, pieces)
        pieces.append([int(logits[-1].argmax())])
    assert answer["next"] == [token for (token,) in pieces[1:]]
    # Activations are rounded in other kernels; how far from the formulas that leads is alike.
    exact = tiny.logits(tiny.CONFIG, tiny.weights(tiny.CONFIG), PROMPT)[-1]
    lost, allowed = (
        np.sqrt(np.mean((each - exact) ** 2)) for each in (answer["logits"], logits[0])
    )
    assert lost < 1.1 * allowed + 1e-4


@pytest.mark.long("quantize/graph")
def test_in_full_precision_a_browser_computes_what_the_formulas_say(
    answers: dict[str, dict[str, Any]],
) -> None:
    expected = tiny.logits(tiny.CONFIG, tiny.weights(tiny.CONFIG), PROMPT)[-1]
    np.testing.assert_allclose(answers["fp32"]["logits"], expected, atol=2e-4)
