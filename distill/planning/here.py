"""What this machine reaches: how fast it decodes and prefills, for each quantization.

It is measured by the product's own engine, on a model of random weights that is larger than any
cache and has the proportions of a 1B. From what its decode reads in a second, and its prefill
multiplies, follows the speed of other shapes. A machine that does other work meanwhile measures
less than it has.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from distill.errors import DistillError
from distill.planning.blank import write_blank
from distill.planning.boards import HERE, Board
from distill.planning.storage import QUANTIZATIONS, bytes_per_token, kv_bytes_per_token
from distill.words import say
from edge.device import Device, detect
from edge.header import read_model
from edge.llama_config import LlamaConfig
from edge.loading import open_engine
from edge.plan import Chosen, plan
from edge.speed import measure_rates
from quantize.own_process import DiedError, Tell, in_own_process

__all__ = ["measure"]

_READ_BYTES = 1 << 28
_N_CTX = 256
_N_PROMPT, _N_GEN = 128, 16
_TRIES = 5


@dataclass(frozen=True, slots=True)
class _Reached:
    """In 10⁹ a second."""

    bytes: float
    """Read by decode."""
    operations: float
    """Done by prefill."""


def measure(progress: Callable[[int, int | None], object] | None = None) -> Board:
    """This machine as a board; takes half a minute, and 256 MiB of memory where there is as much.

    Args:
        progress: told how many of the measurements are done.

    Raises:
        LucieError: the engine cannot run here.
    """
    device = detect()
    size = min(_READ_BYTES, device.memory.available // 4)
    found: dict[str, _Reached] = {}
    for kind in QUANTIZATIONS:
        found[kind] = _reached(_shape(size, kind), kind)
        if progress:
            progress(len(found), len(QUANTIZATIONS))
    bandwidths = {kind: reached.bytes for kind, reached in found.items()}
    return Board(
        name=HERE,
        title=_title(device),
        arch=device.cpu.arch,
        flags=device.cpu.flags,
        memory_gb=(device.memory.total / 1e9,),
        bandwidth_gb_per_s=max(bandwidths.values()),
        bandwidths=bandwidths,
        gops={kind: reached.operations for kind, reached in found.items()},
        gops_source=say(f"boards.{HERE}", lang="en"),
    )


def _title(device: Device) -> str:
    return device.board if device.is_pi else device.cpu.name or say("plan.this-machine")


def _shape(size: int, kind: str) -> LlamaConfig:
    """Layers of a 1B, as many as make `size` bytes; with hardly any vocabulary."""
    shape = {
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "vocab_size": 512,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
    }
    one = bytes_per_token(LlamaConfig.model_validate(shape | {"num_hidden_layers": 1}), kind)
    return LlamaConfig.model_validate(shape | {"num_hidden_layers": max(1, size // one)})


def _reached(config: LlamaConfig, kind: str) -> _Reached:
    with tempfile.TemporaryDirectory(prefix="lucie-") as folder:
        path = Path(folder) / "blank.gguf"
        write_blank(path, config, kind)
        try:
            prefill, decode = in_own_process(_rates, path)
        except DiedError as error:
            raise DistillError("plan.died", how=error.how) from error
    read = bytes_per_token(config, kind) + _N_GEN / 2 * kv_bytes_per_token(config)
    operations = 2 * config.num_hidden_layers * config.layer_parameters
    return _Reached(decode * read / 1e9, prefill * operations / 1e9)


def _rates(_: Tell, path: Path) -> tuple[float, float]:
    """Tokens a second of prefill and decode, medians of some tries."""
    header = read_model(path)
    engine = open_engine(header, plan(header, detect(), Chosen(n_ctx=_N_CTX)).options)
    try:
        measure_rates(engine, _N_PROMPT, 2)
        found = [measure_rates(engine, _N_PROMPT, _N_GEN) for _ in range(_TRIES)]
    finally:
        engine.close()
    return median(each.prefill for each in found), median(each.decode_steps for each in found)
