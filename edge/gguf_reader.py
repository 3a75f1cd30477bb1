"""The syntax of a GGUF file: counts, keys, values, tensor descriptions.

Everything that gguf.cpp reads is read here first and must be within bounds. What the
values mean is for `gguf_tokenizer` and `gguf_architecture`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from struct import Struct

from edge.gguf_tokenizer import MOST_TOKENS, TOKENS, Vocabulary, scan
from edge.gguf_types import SCALARS, TENSOR_TYPES, Array, Scalar, TensorInfo, ValueType
from edge.gguf_window import Window, printable

__all__ = ["TEMPLATE", "RawFile", "read_raw"]

TEMPLATE = "tokenizer.chat_template"

_U32 = Struct("<I")
_U64 = Struct("<Q")
_VERSIONS = (2, 3)
_MOST_KEYS = 1024
_MOST_TENSORS = 16384
_LONGEST_KEY = 256
_LONGEST_NAME = 63  # GGML_MAX_NAME, less its final zero
_LONGEST_TEMPLATE = 1 << 20
# Only short values are kept, and few: a text of which one character is an emoji takes four
# times its size in memory.
_LONGEST_TEXT = 4096
_MOST_TEXT = 1 << 20
_LONGEST_LIST = 512  # LLAMA_MAX_LAYERS: a value for each layer
_LONGEST_TEXT_LIST = 64
_MOST_STRINGS = 1 << 20
# A mapped tensor must be aligned for the CPU backend (TENSOR_ALIGNMENT), which else aborts.
_ALIGNMENTS = tuple(1 << bit for bit in range(5, 17))
_DEFAULT_ALIGNMENT = 32
_ALIGNMENT_KEY = "general.alignment"


@dataclass(frozen=True, slots=True)
class RawFile:
    """The content of a header, still without meaning."""

    window: Window
    version: int
    kinds: dict[str, ValueType]
    """Type of every key's value."""
    values: dict[str, Scalar | Array]
    """Values by key, without long texts."""
    template: str | None
    vocabulary: Vocabulary | None
    tensors: dict[str, TensorInfo]


def read_raw(window: Window) -> RawFile:
    """Read the header through `window`, which stands at the file's beginning.

    Raises:
        DamagedModelError: it breaks a rule of the format.
        ModelError: it is another format, version or byte order, or cannot be read.
    """
    if window.size < 4 or window.take(4) != b"GGUF":
        raise window.unsupported("not-gguf")
    version = window.unpack(_U32)
    if version & 0xFFFF == 0 and version != 0:
        raise window.unsupported("big-endian")
    if version not in _VERSIONS:
        raise window.unsupported("version", version=version)
    n_tensors, n_keys = window.unpack(_U64), window.unpack(_U64)
    if n_keys > _MOST_KEYS:
        raise window.damaged("too-many-keys", count=n_keys, most=_MOST_KEYS)
    if n_tensors > _MOST_TENSORS:
        raise window.damaged("too-many-tensors", count=n_tensors, most=_MOST_TENSORS)
    metadata = _Metadata(window)
    for _ in range(n_keys):
        metadata.read_pair()
    alignment = _alignment(metadata)
    return RawFile(
        window=window,
        version=version,
        kinds=metadata.kinds,
        values=metadata.values,
        template=metadata.template,
        vocabulary=metadata.vocabulary,
        tensors=_read_tensors(window, n_tensors, alignment),
    )


class _Metadata:
    """Reads keys and values one after the other."""

    def __init__(self, window: Window) -> None:
        self.window = window
        self.kinds: dict[str, ValueType] = {}
        self.values: dict[str, Scalar | Array] = {}
        self.template: str | None = None
        self.vocabulary: Vocabulary | None = None
        self.n_text = 0
        """Bytes of text met so far, but for the template's."""

    def read_pair(self) -> None:
        window = self.window
        key = _read_name(window, _LONGEST_KEY, "bad-key")
        if key in self.kinds:
            raise window.damaged("duplicate-key", key=key)
        kind = self.kinds[key] = self._kind(key)
        if kind is ValueType.ARRAY:
            self.values[key] = self._array(key)
        elif kind is ValueType.STRING:
            self._text(key)
        else:
            self.values[key] = window.unpack(SCALARS[kind])

    def _kind(self, key: str) -> ValueType:
        number = self.window.unpack(_U32)
        if number not in ValueType.__members__.values():
            raise self.window.damaged("value-type", key=key, type=number)
        return ValueType(number)

    def _text(self, key: str) -> None:
        window = self.window
        length = window.unpack(_U64)
        if key == TEMPLATE:
            if length > _LONGEST_TEMPLATE:
                raise window.damaged("template-too-long", bytes=length, most=_LONGEST_TEMPLATE)
            self.template = self._decode(key, window.take(length))
        elif length <= _LONGEST_TEXT and self._room(length):
            self.values[key] = self._decode(key, window.take(length))
        else:
            window.seek(window.offset + length)

    def _room(self, n: int) -> bool:
        self.n_text += n
        return self.n_text <= _MOST_TEXT

    def _decode(self, key: str, data: bytes) -> str:
        # C++ keeps what stands before the first zero byte, and so may not differ from us.
        try:
            text = data.decode()
        except UnicodeDecodeError:
            raise self.window.damaged("bad-text", key=key) from None
        if "\0" in text:
            raise self.window.damaged("bad-text", key=key)
        return text

    def _array(self, key: str) -> Array:
        window = self.window
        kind = self._kind(key)
        if kind is ValueType.ARRAY:
            raise window.damaged("nested-array", key=key)
        count = window.unpack(_U64)
        start = window.offset
        values: tuple[Scalar, ...] | None = None
        if kind is ValueType.STRING:
            values = self._texts(key, count)
        elif count <= _LONGEST_LIST:
            form = SCALARS[kind]
            values = tuple(item for (item,) in form.iter_unpack(window.take(count * form.size)))
        else:
            window.seek(start + count * SCALARS[kind].size)
        return Array(kind, count, start, values)

    def _texts(self, key: str, count: int) -> tuple[str, ...] | None:
        window = self.window
        if key == TOKENS:
            if count > MOST_TOKENS:
                raise window.damaged("too-many-tokens", count=count, most=MOST_TOKENS)
            self.vocabulary = scan(window.strings(count))
            return None
        if count > _MOST_STRINGS:
            raise window.damaged("too-many-strings", key=key, count=count, most=_MOST_STRINGS)
        if count > _LONGEST_TEXT_LIST:
            deque(window.strings(count), maxlen=0)
            return None
        texts = [t.decode("utf-8", "replace") for t in window.strings(count) if self._room(len(t))]
        return tuple(texts) if len(texts) == count else None


def _read_name(window: Window, most: int, code: str) -> str:
    """A key or a tensor's name: printable ASCII, since it will be shown."""
    start = window.offset
    length = window.unpack(_U64)
    if 0 < length <= most:
        name = window.take(length)
        if name.isascii() and (text := name.decode("ascii")).isprintable():
            return text
    raise window.damaged(code, offset=start)


def _alignment(metadata: _Metadata) -> int:
    if _ALIGNMENT_KEY not in metadata.kinds:
        return _DEFAULT_ALIGNMENT
    value = metadata.values.get(_ALIGNMENT_KEY)
    known = metadata.kinds[_ALIGNMENT_KEY] is ValueType.UINT32
    if not known or not isinstance(value, int) or value not in _ALIGNMENTS:
        raise metadata.window.damaged("alignment", value=printable(value))
    return value


def _read_tensors(window: Window, count: int, alignment: int) -> dict[str, TensorInfo]:
    """The tensors, with offsets in the file: without gaps but for the padding, and inside it."""
    tensors: dict[str, TensorInfo] = {}
    expected = 0
    for _ in range(count):
        tensor = _read_tensor(window)
        if tensor.name in tensors:
            raise window.damaged("duplicate-tensor", tensor=tensor.name)
        if tensor.offset != expected:
            raise window.damaged(
                "tensor-offset", tensor=tensor.name, offset=tensor.offset, expected=expected
            )
        tensors[tensor.name] = tensor
        expected = _padded(expected + tensor.n_bytes, alignment)
    data = _padded(window.offset, alignment)
    placed = {}
    for name, t in tensors.items():
        placed[name] = TensorInfo(name, t.shape, t.type, data + t.offset, t.n_bytes)
        end = placed[name].offset + t.n_bytes
        if end > window.size:
            raise window.damaged("data-missing", tensor=name, end=end, size=window.size)
    return placed


def _read_tensor(window: Window) -> TensorInfo:
    """One tensor's description, its offset still counted from the beginning of the data."""
    name = _read_name(window, _LONGEST_NAME, "bad-tensor-name")
    rank = window.unpack(_U32)
    if not 1 <= rank <= 4:
        raise window.damaged("tensor-rank", tensor=name, rank=rank)
    shape = [window.unpack(_U64) for _ in range(rank)]
    number = window.unpack(_U32)
    offset = window.unpack(_U64)
    kind = TENSOR_TYPES.get(number)
    if kind is None:
        raise window.damaged("tensor-type", tensor=name, type=number)
    if 0 in shape or shape[0] % kind.block:
        raise window.damaged("tensor-block", tensor=name, shape=_times(shape), type=kind.name)
    n_bytes = kind.n_bytes
    for length in (shape[0] // kind.block, *shape[1:]):
        n_bytes *= length
    while len(shape) > 1 and shape[-1] == 1:
        shape.pop()
    return TensorInfo(name, tuple(shape), kind.name, offset, n_bytes)


def _padded(n: int, alignment: int) -> int:
    return -(-n // alignment) * alignment


def _times(shape: list[int]) -> str:
    return " × ".join(map(str, shape))
