"""From a Hugging Face folder to an ONNX model with its weights in a file beside it.

No torch is needed, and one tensor at a time is in memory. The data file is laid out before
anything is read: each array begins on a page of its own, so that ONNX Runtime can map it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from edge.checkpoint import Checkpoint
from edge.errors import CheckpointError
from edge.progress import Count, Progress
from edge.weights_file import FLOAT_BYTES
from edge.workshop import check_room
from quantize.checkpoint.complete import complete, numbers
from quantize.checkpoint.llama_tensors import LlamaTensor
from quantize.ggml.imatrix import ImportanceMatrix
from quantize.graph.decoder import decoder, interface
from quantize.graph.network import CONTRIB, Network, Part, Weight
from quantize.graph.rounding import BLOCK
from quantize.graph.types import Type
from quantize.healing.result import Healed

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["export"]

_PAGE = 4096
_ROTATED = 16
"""GroupQueryAttention rotates heads of so many numbers, or a multiple."""
_MOST_ROTATIONS = 2_000_000_000
"""Bytes of cosines and sines, which stand in the graph: protobuf ends at 2 GiB."""
_OPSET, _IR = 18, 10
_PRODUCER = "lucie-edge"


def export(
    checkpoint: Checkpoint,
    folder: Path,
    wanted: Type,
    *,
    importance: ImportanceMatrix | None = None,
    facts: Mapping[str, str] | None = None,
    healed: Healed | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write the model into `folder`, which is there and to be thrown away if this fails.

    Args:
        checkpoint: the model.
        folder: where graph and weights go.
        wanted: what kind of file.
        importance: which inputs of each matrix matter; of use to four bits only.
        facts: for the model's own metadata.
        healed: weights to write instead of those of the checkpoint.
        progress: called with bytes written.

    Returns:
        The graph, `model….onnx`; the weights are in `model….onnx_data`.

    Raises:
        CheckpointError: tensors are missing, too many, of wrong shape or not finite; heads or the
            window are not what the operators take.
        OSError: it cannot be written; the disk has no room for it.
    """
    inputs = _inputs(complete(checkpoint), importance)
    _check_widths(checkpoint, wanted)

    def one(name: str, kind: str) -> NDArray[Any]:
        if healed is not None and name in healed:
            return healed.numbers(name, checkpoint.tensors[name].shape)
        return numbers(checkpoint, name, kind)

    def read(names: Sequence[str], kind: str) -> NDArray[Any]:
        return _joined([one(name, kind) for name in names])

    def scales(names: Sequence[str]) -> Callable[[], NDArray[np.float32]] | None:
        if healed is None or not all(name in healed for name in names):
            return None
        shapes = [(name, checkpoint.tensors[name].shape) for name in names]
        return lambda: _joined([healed.matrix(*each).scales for each in shapes]).astype(np.float32)

    net = decoder(checkpoint.config, wanted.kind, wanted.body, wanted.head, read, inputs, scales)
    target = folder / f"model{wanted.suffix}.onnx"
    data = target.with_name(f"{target.name}_data")
    model = _model(checkpoint, wanted, net, data.name)
    for key, value in (facts or {}).items():
        model.metadata_props.add(key=key, value=value)
    _write_data(net, data, progress)
    target.write_bytes(model.SerializeToString())
    return target


def _joined(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _inputs(
    tensors: Sequence[LlamaTensor], matrix: ImportanceMatrix | None
) -> dict[str, NDArray[np.float32]]:
    """By Hugging Face's names: how much each input of a matrix matters."""
    if matrix is None:
        return {}
    matrix.require({each.gguf: each.shape[1] for each in tensors if len(each.shape) > 1})
    known = [each for each in tensors if each.gguf in matrix.entries]
    return {each.hf: matrix.entries[each.gguf].means for each in known}


def _check_widths(checkpoint: Checkpoint, wanted: Type) -> None:
    config = checkpoint.config
    if config.head_dim % _ROTATED:
        raise CheckpointError(
            "checkpoint.head", path=str(checkpoint.path), head=config.head_dim, step=_ROTATED
        )
    rotations = config.max_position_embeddings * config.head_dim
    if rotations * FLOAT_BYTES[wanted.kind] > _MOST_ROTATIONS:
        raise CheckpointError(
            "checkpoint.window",
            path=str(checkpoint.path),
            positions=config.max_position_embeddings,
        )
    widths = (
        config.hidden_size,
        config.intermediate_size,
        config.num_attention_heads * config.head_dim,
    )
    if wanted.in_blocks and any(width % BLOCK for width in widths):
        raise CheckpointError("checkpoint.no-blocks", path=str(checkpoint.path), block=BLOCK)


def _model(checkpoint: Checkpoint, wanted: Type, net: Network, data: str) -> onnx.ModelProto:
    given, made = interface(checkpoint.config, wanted.kind)
    places = _places(net)
    stored = [_external(part, *places[part.name], data) for part in net.parts()]
    stored += [
        _external(weight.alias, *places[weight.parts[0].name], data)
        for weight in net.weights.values()
        if weight.alias is not None
    ]
    used = {name for node in net.nodes for name in node.input}
    graph = helper.make_graph(
        net.nodes,
        "llama",
        given,
        made,
        net.constants + [tensor for tensor in stored if tensor.name in used],
    )
    return helper.make_model(
        graph,
        producer_name=_PRODUCER,
        ir_version=_IR,
        opset_imports=[helper.make_opsetid("", _OPSET), helper.make_opsetid(CONTRIB, 1)],
    )


def _places(net: Network) -> dict[str, tuple[int, int]]:
    """Offset and length of each array in the data file."""
    places = {}
    at = 0
    for part in net.parts():
        places[part.name] = (at, part.n_bytes)
        at += -(-part.n_bytes // _PAGE) * _PAGE
    return places


def _external(part: Part, offset: int, length: int, data: str) -> TensorProto:
    tensor = TensorProto(
        name=part.name,
        dims=part.shape,
        data_type=helper.np_dtype_to_tensor_dtype(part.dtype),
        data_location=TensorProto.EXTERNAL,
    )
    for key, value in (("location", data), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def _write_data(net: Network, target: Path, progress: Progress | None) -> None:
    count = Count(sum(part.n_bytes for part in net.parts()), progress)
    check_room(target.parent, count.total)
    with target.open("xb") as file:
        for weight in net.weights.values():
            for part, array in zip(weight.parts, _made(weight), strict=True):
                file.write(np.ascontiguousarray(array).data)
                file.seek(-file.tell() % _PAGE, os.SEEK_CUR)
                count.add(part.n_bytes)
        file.truncate()
        file.flush()
        os.fsync(file.fileno())


def _made(weight: Weight) -> tuple[NDArray[Any], ...]:
    arrays = weight.make()
    for part, array in zip(weight.parts, arrays, strict=True):
        if array.shape != part.shape or array.dtype != part.dtype:
            raise AssertionError(f"{part.name}: {array.dtype} {array.shape} for {part}")
    return arrays
