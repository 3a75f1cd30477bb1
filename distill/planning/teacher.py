"""The shape of the teacher, from wherever a person has it: only its config is read."""

from __future__ import annotations

from pathlib import Path

from distill.errors import DistillUsageError
from edge.bundle import Bundle
from edge.checkpoint import checked_config, read_config
from edge.errors import CheckpointError
from edge.gguf_types import GGUFHeader
from edge.header import read_model
from edge.llama_config import LlamaConfig
from edge.manifest import MANIFEST
from edge.store import Store
from edge.text import one_line

__all__ = ["KNOWN", "read_teacher"]

_FOLDER = Path(__file__).parent / "teachers"
KNOWN = tuple(sorted(path.stem for path in _FOLDER.glob("*.json")))
"""Teachers whose shape is known without a download."""
_CONFIG = "config.json"


def read_teacher(given: str) -> tuple[str, LlamaConfig]:
    """The name and the shape of a teacher.

    Args:
        given: a Hugging Face folder, a `config.json`, a GGUF file, a bundle of one of them, a
            model of this device, or a name of `KNOWN`.

    Raises:
        DistillUsageError: it is none of these.
        ModelError: it is damaged, or no Llama model.
    """
    path = Path(given).expanduser()
    if given in KNOWN and not path.exists():
        return given, read_config(_FOLDER / f"{given}.json")
    if path.suffix == ".json" and path.is_file():
        return path.resolve().parent.name or given, read_config(path)
    if given and path.is_dir():
        name = path.resolve().name
        if (path / MANIFEST).exists():
            name = Bundle.open(path, verify=False).manifest.name
        if any(path.glob("*.gguf")) and not (path / _CONFIG).exists():
            return name, _of_file(Store().find(f"{path.resolve()}").weights)
        return name, read_config(path / _CONFIG)
    if path.is_file():
        return path.stem, _of_file(path)
    if not given or not Store().holds(given):
        shown = one_line(given) or '""'
        raise DistillUsageError("plan.no-teacher", given=shown, known=", ".join(KNOWN))
    return given, _of_file(Store().find(given).weights)


def _of_file(path: Path) -> LlamaConfig:
    """The shape that a GGUF file says."""
    header = read_model(path)
    if not isinstance(header, GGUFHeader) or header.architecture != "llama":
        raise CheckpointError(
            "checkpoint.architecture",
            path=str(path),
            architecture=header.architecture if isinstance(header, GGUFHeader) else "ONNX",
        )
    return checked_config(
        path,
        {
            "architectures": ["LlamaForCausalLM"],
            "hidden_size": header.n_embd,
            "intermediate_size": header.n_ff,
            "num_hidden_layers": header.n_layer,
            "num_attention_heads": header.n_head,
            "num_key_value_heads": header.n_head_kv,
            "head_dim": header.head_dim_k,
            "vocab_size": header.n_vocab,
            "max_position_embeddings": header.n_ctx_train,
            "rms_norm_eps": header.metadata.get("llama.attention.layer_norm_rms_epsilon", 1e-5),
            "tie_word_embeddings": header.tied_output,
        },
    )
