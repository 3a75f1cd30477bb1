"""Some 300 damaged copies of a real model, each read in turn; tells what became of each.

    python -m tests.edge.real_damage MODEL FOLDER

prints JSON: `outcomes` by name (the code of the error, or `passes`) and `growth`, the bytes by
which the memory of this process grew. Copies that pass stay in FOLDER. The weights are a hole.
"""

from __future__ import annotations

import json
import random
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

from gguf import GGUFReader

from edge.errors import LucieError
from edge.gguf_header import read_header
from tests.edge.header_probe import resident_peak

Case = tuple[str, bytes, int]
"""Name, header, and size of the file."""

_SEED = 20261124
_TENSORS = ("token_embd.weight", "blk.29.ffn_down.weight")


class Damage:
    def __init__(self, model: Path) -> None:
        reader = GGUFReader(model)
        self.size = model.stat().st_size
        with model.open("rb") as file:
            self.header = file.read(reader.data_offset)
        self.fields = {n: f for n, f in reader.fields.items() if not n.startswith("GGUF.")}
        self.tensors = {tensor.name: tensor.field for tensor in reader.tensors}

    def cases(self) -> Iterator[Case]:
        yield from self.cut()
        yield from self.preamble()
        yield from self.types()
        yield from self.numbers()
        yield from self.lists()
        yield from self.described()
        yield from self.noise()

    def put(self, name: str, at: int, data: bytes) -> Case:
        return name, self.header[:at] + data + self.header[at + len(data) :], self.size

    def cut(self) -> Iterator[Case]:
        n = len(self.header)
        for size in [*range(0, 32, 3), *range(32, n, n // 12), n - 1, n]:
            yield f"cut at {size}", self.header[:size], size
        for size in range(n, self.size, (self.size - n) // 6):
            yield f"cut at {size}", self.header, size

    def preamble(self) -> Iterator[Case]:
        for at in range(24):
            for byte in (0x00, 0xFF, self.header[at] ^ 1):
                if byte != self.header[at]:
                    yield self.put(f"byte {at} is {byte}", at, bytes([byte]))

    def types(self) -> Iterator[Case]:
        for name, field in self.fields.items():
            at = field.offset + 8 + len(name)
            for kind in (0, 9, 13):
                if kind != field.types[0]:
                    yield self.put(f"{name} has type {kind}", at, struct.pack("<I", kind))

    def numbers(self) -> Iterator[Case]:
        for name, field in self.fields.items():
            at = field.offset + 8 + len(name) + 4
            if name.startswith("llama.") and field.types[0] == 4:
                for value in (0, 7, 2**31):
                    yield self.put(f"{name} = {value}", at, struct.pack("<I", value))
            if field.types[0] == 6:
                for number in (0.0, -1.0, float("nan"), float("inf")):
                    yield self.put(f"{name} = {number}", at, struct.pack("<f", number))

    def lists(self) -> Iterator[Case]:
        for key in ("tokens", "token_type", "merges"):
            name = f"tokenizer.ggml.{key}"
            at = self.fields[name].offset + 8 + len(name) + 4
            yield self.put(f"{name} of lists", at, struct.pack("<I", 9))
            yield self.put(f"{name} of floats", at, struct.pack("<I", 6))
            for count in (0, 49153, 2**32, 2**63):
                yield self.put(f"{name} has {count}", at + 4, struct.pack("<Q", count))

    def described(self) -> Iterator[Case]:
        for name in _TENSORS:
            at = self.tensors[name].offset
            for length in (0, 64, 2**60):
                yield self.put(f"{name} named by {length}", at, struct.pack("<Q", length))
            at += 8 + len(name)
            rank = struct.unpack_from("<I", self.header, at)[0]
            for other in (0, 3, 5, 2**31):
                yield self.put(f"{name} of rank {other}", at, struct.pack("<I", other))
            for length in (0, 31, 2**63):
                yield self.put(f"{name} is {length} long", at + 4, struct.pack("<Q", length))
            at += 4 + 8 * rank
            for kind in (2, 4, 15, 31, 43, 2**31):
                yield self.put(f"{name} of type {kind}", at, struct.pack("<I", kind))
            for offset in (1, 32, 2**63):
                yield self.put(f"{name} at {offset}", at + 4, struct.pack("<Q", offset))

    def noise(self) -> Iterator[Case]:
        rng = random.Random(_SEED)
        n = len(self.header)
        for number in range(30):
            start, stop = [(0, 3000), (n - 20_000, n), (0, n)][number % 3]
            data = bytearray(self.header)
            for _ in range(rng.choice((1, 1, 4, 16))):
                data[rng.randrange(start, stop)] ^= 1 << rng.randrange(8)
            yield f"noise {number}", bytes(data), self.size


def main(model: Path, folder: Path) -> None:
    outcomes = {}
    before = None
    for number, (name, header, size) in enumerate(Damage(model).cases()):
        path = folder / f"{number}.gguf"
        with path.open("wb") as file:
            file.write(header)
            file.truncate(size)
        before = before or resident_peak()
        try:
            read_header(path)
            outcomes[name] = "passes"
        except LucieError as error:
            outcomes[name] = error.code
            path.unlink()
    growth = resident_peak() - (before or 0)
    sys.stdout.write(json.dumps({"outcomes": outcomes, "growth": growth}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
