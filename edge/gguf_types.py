"""What a GGUF file is made of: types of values, of tensors, of whole files, and the checked header.

Sources: the GGUF specification (ggml, docs/gguf.md), `ggml.h` and `ggml-common.h` for
the block sizes, `llama.h` for the file types, all of llama.cpp as pinned in pyproject.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from struct import Struct
from typing import ClassVar, Literal

__all__ = [
    "FILE_TYPES",
    "SCALARS",
    "TENSOR_TYPES",
    "Array",
    "GGUFHeader",
    "Metadata",
    "Scalar",
    "TensorInfo",
    "TensorType",
    "ValueType",
]

Scalar = str | int | float | bool
Metadata = Scalar | tuple[Scalar, ...]


class ValueType(IntEnum):
    """Type of a metadata value, as numbered in the file."""

    UINT8 = 0
    INT8 = 1
    UINT16 = 2
    INT16 = 3
    UINT32 = 4
    INT32 = 5
    FLOAT32 = 6
    BOOL = 7
    STRING = 8
    ARRAY = 9
    UINT64 = 10
    INT64 = 11
    FLOAT64 = 12


SCALARS = {
    ValueType.UINT8: Struct("<B"),
    ValueType.INT8: Struct("<b"),
    ValueType.UINT16: Struct("<H"),
    ValueType.INT16: Struct("<h"),
    ValueType.UINT32: Struct("<I"),
    ValueType.INT32: Struct("<i"),
    ValueType.FLOAT32: Struct("<f"),
    ValueType.BOOL: Struct("<?"),
    ValueType.UINT64: Struct("<Q"),
    ValueType.INT64: Struct("<q"),
    ValueType.FLOAT64: Struct("<d"),
}
"""How each fixed-size value is stored. A GGUF file is little endian unless it is refused."""


@dataclass(frozen=True, slots=True)
class TensorType:
    """A storage type of weights: `n_bytes` hold a block of `block` elements of one row."""

    name: str
    block: int
    n_bytes: int


TENSOR_TYPES = {
    0: TensorType("F32", 1, 4),
    1: TensorType("F16", 1, 2),
    2: TensorType("Q4_0", 32, 18),
    3: TensorType("Q4_1", 32, 20),
    6: TensorType("Q5_0", 32, 22),
    7: TensorType("Q5_1", 32, 24),
    8: TensorType("Q8_0", 32, 34),
    10: TensorType("Q2_K", 256, 84),
    11: TensorType("Q3_K", 256, 110),
    12: TensorType("Q4_K", 256, 144),
    13: TensorType("Q5_K", 256, 176),
    14: TensorType("Q6_K", 256, 210),
    16: TensorType("IQ2_XXS", 256, 66),
    17: TensorType("IQ2_XS", 256, 74),
    18: TensorType("IQ3_XXS", 256, 98),
    19: TensorType("IQ1_S", 256, 50),
    20: TensorType("IQ4_NL", 32, 18),
    21: TensorType("IQ3_S", 256, 110),
    22: TensorType("IQ2_S", 256, 82),
    23: TensorType("IQ4_XS", 256, 136),
    29: TensorType("IQ1_M", 256, 56),
    30: TensorType("BF16", 1, 2),
    34: TensorType("TQ1_0", 256, 54),
    35: TensorType("TQ2_0", 256, 66),
    39: TensorType("MXFP4", 32, 17),
    41: TensorType("Q1_0", 128, 18),
    42: TensorType("Q2_0", 64, 18),
}
"""Types whose rows llama.cpp's CPU backend can look up and multiply.

Left out are those that were removed from the format (4, 5, 31–33, 36–38), those that hold
activations (Q8_1, Q8_K) or integers, and NVFP4, whose scales stand in tensors of their own.
"""

FILE_TYPES = {
    0: "F32",
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    7: "Q8_0",
    8: "Q5_0",
    9: "Q5_1",
    10: "Q2_K",
    11: "Q3_K_S",
    12: "Q3_K_M",
    13: "Q3_K_L",
    14: "Q4_K_S",
    15: "Q4_K_M",
    16: "Q5_K_S",
    17: "Q5_K_M",
    18: "Q6_K",
    19: "IQ2_XXS",
    20: "IQ2_XS",
    21: "Q2_K_S",
    22: "IQ3_XS",
    23: "IQ3_XXS",
    24: "IQ1_S",
    25: "IQ4_NL",
    26: "IQ3_S",
    27: "IQ3_M",
    28: "IQ2_S",
    29: "IQ2_M",
    30: "IQ4_XS",
    31: "IQ1_M",
    32: "BF16",
    36: "TQ1_0",
    37: "TQ2_0",
    38: "MXFP4",
    40: "Q1_0",
    41: "Q2_0",
}
"""`general.file_type`: the mixture of tensor types that a quantizer was asked for."""


@dataclass(frozen=True, slots=True)
class Array:
    """An array in the metadata: where it is, and its elements if they are few."""

    kind: ValueType
    count: int
    offset: int
    """Byte in the file at which the elements begin."""
    values: tuple[Scalar, ...] | None


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor."""

    name: str
    shape: tuple[int, ...]
    """Fastest dimension first: a matrix that maps `a` inputs to `b` outputs is (a, b)."""
    type: str
    """Name of its `TensorType`."""
    offset: int
    """Byte in the file at which its data begin."""
    n_bytes: int

    @property
    def n_elements(self) -> int:
        """How many numbers it holds."""
        product = 1
        for length in self.shape:
            product *= length
        return product


@dataclass(frozen=True, slots=True)
class GGUFHeader:
    """What a GGUF file says of its model. Every value has been checked (`read_header`)."""

    format: ClassVar[Literal["GGUF"]] = "GGUF"

    path: Path
    file_size: int
    version: int
    architecture: str
    name: str
    """The model's name for people, "" where the file gives none."""
    n_layer: int
    n_embd: int
    n_ff: int
    n_head: int
    n_head_kv: int
    head_dim_k: int
    head_dim_v: int
    n_ctx_train: int
    n_vocab: int
    n_merges: int
    """Merge rules of a byte-pair tokenizer; 0 for another one."""
    has_tokenizer_json: bool
    """Whether a `tokenizer.json` stands in the file, by which texts are read."""
    n_swa: int
    """Tokens that a layer with a sliding window attends to; 0 where no layer has one."""
    n_layer_swa: int
    """How many layers have a sliding window."""
    n_params: int
    file_type: str
    """The quantization, e.g. `Q4_1`."""
    bits_per_weight: float
    template: str | None
    """The chat template."""
    metadata: Mapping[str, Metadata]
    """Scalars and short arrays of the file by key; long texts and the vocabulary are left out."""
    tensors: tuple[TensorInfo, ...]

    @property
    def has_template(self) -> bool:
        """Whether the file holds a chat template."""
        return self.template is not None

    @property
    def tied_output(self) -> bool:
        """Whether the token embedding is also the output matrix."""
        return all(tensor.name != "output.weight" for tensor in self.tensors)
