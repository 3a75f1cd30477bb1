"""What figure 14 compares with; run as a file, by a Python with torch, transformers and genai.

python onnx_peers.py logits FOLDER STEPS OUT.npy     torch's logits, a token at a time
python onnx_peers.py genai FOLDER                    onnxruntime-genai's tokens a second
python onnx_peers.py bare GRAPH                      those of ONNX Runtime's run by itself
python onnx_peers.py build FOLDER OUT                its builder's int4 model
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__: list[str] = []

_THREADS = 2
_PROMPT, _ANSWER, _WINDOW = 512, 128, 1024


def logits(folder: str, steps: str, out: str) -> None:
    """Greedy from one token on, with transformers' cache, in float32."""
    import numpy as np
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    token, cache, found = 1, None, []
    with torch.no_grad():
        for _ in range(int(steps)):
            told = model(torch.tensor([[token]]), past_key_values=cache, use_cache=True)
            cache = told.past_key_values
            found.append(told.logits[0, -1].numpy())
            token = int(found[-1].argmax())
    np.save(out, np.stack(found))


def genai(folder: str) -> None:
    """Prefill and decode, one sequence, greedy."""
    import onnxruntime_genai as runtime

    config = runtime.Config(folder)
    options = {"intra_op_num_threads": _THREADS}
    config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
    model = runtime.Model(config)
    draw = random.Random(0)  # as edge.speed

    def run(n_prompt: int, n_gen: int) -> tuple[float, float]:
        params = runtime.GeneratorParams(model)
        params.set_search_options(do_sample=False, max_length=_WINDOW, min_length=_WINDOW)
        generator = runtime.Generator(model, params)
        began = time.perf_counter()
        generator.append_tokens([draw.randrange(1000) for _ in range(n_prompt)])
        read = time.perf_counter()
        for _ in range(n_gen):
            generator.generate_next_token()
        return n_prompt / (read - began), n_gen / (time.perf_counter() - read)

    run(_PROMPT, 2)
    rates: dict[str, Any] = {"pp": run(_PROMPT, 1)[0], "tg": run(1, _ANSWER)[1]}
    sys.stdout.write(json.dumps(rates) + "\n")


def bare(graph: str) -> None:
    """Decode with nothing but the run of a graph: no token is chosen, none is looked at."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _THREADS
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    kept = []

    def bind(name: str, array: Any, to: Any) -> None:
        kept.append(onnxruntime.OrtValue.ortvalue_from_numpy(array))
        to(name, kept[-1])

    token, mask = np.ones((1, 1), np.int64), np.zeros((1, _WINDOW), np.int64)
    bind("input_ids", token, binding.bind_ortvalue_input)
    bind("attention_mask", mask, binding.bind_ortvalue_input)
    for given in session.get_inputs():
        if given.name.startswith("past"):
            shape = (1, given.shape[1], _WINDOW, given.shape[3])
            bind(given.name, np.zeros(shape, np.float32), binding.bind_ortvalue_input)
            present = given.name.replace("past_key_values", "present")
            binding.bind_ortvalue_output(present, kept[-1])
    n_vocab = session.get_outputs()[0].shape[2]
    bind("logits", np.zeros((1, 1, n_vocab), np.float32), binding.bind_ortvalue_output)

    def run(n_gen: int) -> float:
        mask[:] = 0
        began = time.perf_counter()
        for place in range(n_gen):
            mask[0, place] = 1
            session.run_with_iobinding(binding)
        return n_gen / (time.perf_counter() - began)

    run(2)
    sys.stdout.write(json.dumps({"tg": run(_ANSWER)}) + "\n")


def build(folder: str, out: str) -> None:
    """The builder's int4 for CPUs: blocks of 32, symmetric."""
    import onnxruntime_genai.models  # noqa: F401 - makes the builder importable
    from onnxruntime_genai.models.builder import create_model, parse_extra_options

    cache = str(Path(out) / "cache")
    options = parse_extra_options("", folder, out, "int4", "cpu", cache, ["prune_lm_head=true"])
    create_model("", folder, out, "int4", "cpu", cache, **options)


if __name__ == "__main__":
    commands: dict[str, Callable[..., None]] = {
        "logits": logits, "genai": genai, "bare": bare, "build": build,
    }  # fmt: skip
    commands[sys.argv[1]](*sys.argv[2:])
