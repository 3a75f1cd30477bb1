"""A Llama model as Hugging Face lays it out: a folder of config, tokenizer and weights.

    config.json                    the shape
    tokenizer.json, tokenizer_config.json, chat_template.jinja
    model.safetensors              the weights; or in shards, with
    model.safetensors.index.json   saying which holds what

Only safetensors is read: the older `pytorch_model.bin` is a pickle, which may run
any program when it is opened. One tensor at a time is in memory.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import ValidationError

from edge.checkpoint_documents import check_documents, read_object, shown, unreadable
from edge.errors import CheckpointError
from edge.fault import fault_text
from edge.llama_config import LlamaConfig
from edge.regular_file import check_regular
from edge.weights_file import FLOAT_BYTES, INDEX, shard_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Checkpoint", "TensorPlace", "checked_config", "read_config"]

_CONFIG = "config.json"
_WHOLE = shard_name(1, 1)
_DERIVED = ("rotary_emb.inv_freq", "attention.bias", "attention.masked_bias")
"""Endings of names under which old checkpoints store what follows from the config."""


@dataclass(frozen=True, slots=True)
class TensorPlace:
    """Where a tensor stands."""

    file: Path
    shape: tuple[int, ...]
    dtype: str
    """`F32`, `F16` or `BF16`, as safetensors names them."""

    @property
    def n_elements(self) -> int:
        """How many numbers it holds."""
        n = 1
        for size in self.shape:
            n *= size
        return n

    @property
    def n_bytes(self) -> int:
        """Bytes in the file."""
        return self.n_elements * FLOAT_BYTES[self.dtype]


@dataclass(frozen=True)
class Checkpoint:
    """A model folder whose config has been checked and whose tensors have been found."""

    path: Path
    config: LlamaConfig
    tensors: Mapping[str, TensorPlace]
    """By Hugging Face's names, in the order of the files."""

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read config and the headers of the weights in folder `path`.

        Raises:
            CheckpointError: a file is missing, is none, cannot be read or contradicts itself;
                the architecture is not Llama.
        """
        config = read_config(path / _CONFIG)
        for entry in _entries(path):  # whatever is opened later on, and by whom
            check_regular(entry)
        check_documents(path, config.vocab_size)
        return cls(path, config, dict(_tensors(path)))

    def read(self, name: str) -> NDArray[Any]:
        """The tensor of that name, an array of its own in the type of the file.

        Raises:
            CheckpointError: there is none, or its file has changed since it was found.
        """
        place = self.tensors.get(name)
        if place is None:
            raise self.missing(name)
        import ml_dtypes  # noqa: F401 - teaches numpy bfloat16
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(place.file, framework="np") as opened:
                tensor: NDArray[Any] = opened.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise unreadable(place.file, error) from error
        return tensor

    def check_names(self, known: Container[str]) -> None:
        """Refuse tensors that would be left out: without them, the model is another.

        Args:
            known: names of all that a model of this shape has.

        Raises:
            CheckpointError: one is none of them.
        """
        for name in self.tensors:
            # Where it is tied, the output matrix is the embedding once more.
            again = self.config.tie_word_embeddings and name == "lm_head.weight"
            if name not in known and not again and not name.endswith(_DERIVED):
                raise CheckpointError(
                    "checkpoint.unknown-tensor", path=str(self.path), tensor=shown(name)
                )

    def missing(self, name: str) -> CheckpointError:
        """The error that says so."""
        return CheckpointError("checkpoint.missing-tensor", path=str(self.path), tensor=name)

    def misshapen(self, name: str, expected: tuple[int, ...]) -> CheckpointError:
        """The error that says that a tensor, which is there, has another shape."""
        place = self.tensors[name]
        return CheckpointError(
            "checkpoint.shape",
            path=str(place.file),
            tensor=name,
            shape=_dims(place.shape),
            expected=_dims(expected),
        )

    def document(self, name: str) -> dict[str, Any] | None:
        """A JSON object beside the weights; None where the file is not there.

        Raises:
            CheckpointError: it is there, and is something else.
        """
        path = self.path / name
        return read_object(path) if path.exists() else None


def _dims(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape)) or "1"


def read_config(file: Path) -> LlamaConfig:
    """The shape in a file `config.json`.

    Raises:
        CheckpointError: it cannot be read, or is of no Llama model.
    """
    return checked_config(file, read_object(file))


def checked_config(file: Path, given: dict[str, Any]) -> LlamaConfig:
    """The shape that the content of `file` says.

    Raises:
        CheckpointError: it is of no Llama model.
    """
    architectures = given.get("architectures")
    if architectures != ["LlamaForCausalLM"]:
        if not (architectures and isinstance(architectures, list)):
            raise CheckpointError("checkpoint.no-architecture", path=str(file))
        named = ", ".join(map(str, architectures))
        raise CheckpointError("checkpoint.architecture", path=str(file), architecture=shown(named))
    try:
        return LlamaConfig.model_validate(given)
    except ValidationError as error:
        raise CheckpointError(
            "checkpoint.bad-config", path=str(file), fault=fault_text(error)
        ) from None


def _entries(path: Path) -> list[Path]:
    try:
        return list(path.iterdir())
    except OSError as error:
        reason = shown(error.strerror or str(error))
        raise CheckpointError("checkpoint.unreadable", path=str(path), reason=reason) from error


def _tensors(path: Path) -> Iterator[tuple[str, TensorPlace]]:
    seen = set()
    for file in _files(path):
        for name, place in _headers(file):
            if name in seen:
                raise CheckpointError("checkpoint.twice", path=str(path), tensor=shown(name))
            seen.add(name)
            yield name, place


def _files(path: Path) -> list[Path]:
    """The files that hold the weights."""
    if (path / _WHOLE).exists():
        return [path / _WHOLE]
    if not (path / INDEX).exists():
        raise CheckpointError("checkpoint.no-weights", path=str(path), file=_WHOLE)
    mapping = read_object(path / INDEX).get("weight_map")
    names = list(mapping.values()) if isinstance(mapping, dict) else []
    for name in names:
        if not isinstance(name, str) or Path(name).name != name:
            raise CheckpointError(
                "checkpoint.bad-json", path=str(path / INDEX), reason="weight_map"
            )
    files = [path / name for name in sorted(set(names))]
    for file in files:
        if not file.exists():
            raise CheckpointError("checkpoint.no-weights", path=str(path), file=shown(file.name))
    return files


def _headers(file: Path) -> Iterator[tuple[str, TensorPlace]]:
    from safetensors import SafetensorError, safe_open

    try:
        file.open("rb").close()  # safetensors calls any that it cannot open missing
        # Opening checks that the tensors lie within the file, end to end.
        with safe_open(file, framework="np") as opened:
            slices = {name: opened.get_slice(name) for name in opened.offset_keys()}
            for name, tensor in slices.items():
                dtype = tensor.get_dtype()
                if dtype not in FLOAT_BYTES:
                    raise CheckpointError(
                        "checkpoint.dtype", path=str(file), tensor=shown(name), dtype=dtype
                    )
                yield name, TensorPlace(file, tuple(tensor.get_shape()), dtype)
    except (SafetensorError, OSError) as error:
        raise unreadable(file, error) from error
