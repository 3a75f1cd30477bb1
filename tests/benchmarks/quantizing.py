"""Figures 11 to 13: export, quantizer, importance matrix and divergence against llama.cpp's own.

The models are the default one as a folder of halves, and that same folder's files. The
converter wants an environment of its own: LUCIE_CONVERT_PYTHON names a Python that has torch
and transformers; without it figure 11 is left out.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from edge.checkpoint import Checkpoint
from quantize.ggml.dequantize import write_checkpoint
from quantize.ggml.export import export
from quantize.ggml.imatrix import ImportanceMatrix
from quantize.ggml.quantizer import QuantizeOptions, quantize
from quantize.measuring.built_in_texts import MEASURE
from quantize.measuring.calibration import LabelledText
from quantize.measuring.candidates import ALL, measure
from quantize.measuring.importance import collect
from tests.benchmarks.measure import Row, Target, interleave
from tests.benchmarks.referee import Referee

__all__ = ["converter", "divergence", "quantizer"]

_TYPES = ("Q4_0", "Q4_K_M", "Q8_0")
_CHUNKS = 4
_EXPORT = """
import sys
from pathlib import Path
from edge.checkpoint import Checkpoint
from quantize.ggml.export import export
export(Checkpoint.open(Path(sys.argv[1])), Path(sys.argv[2]), "F16")
"""
_QUANTIZE = """
import sys, time
from pathlib import Path
from quantize.ggml.imatrix import ImportanceMatrix
from quantize.ggml.quantizer import QuantizeOptions, quantize, start
source, target, kind, matrix = sys.argv[1:]
process = start()
time.sleep(0.5)
began = time.perf_counter()
how = QuantizeOptions(kind, ImportanceMatrix.read(Path(matrix)), threads=2)
quantize(Path(source), Path(target), how, process=process)
print(time.perf_counter() - began)
"""
"""As in an export, which starts the quantizer's process while it writes the floats."""
_SMALL = """
import resource, subprocess, sys
status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(status)
"""
"""Starts a program from a small process, whose memory counts for it until it has its own."""
_MEAN = re.compile(r"Mean\s+(KLD|PPL\(Q\)/PPL\(base\))\s*:\s*([0-9.eE+-]+)")


def converter(programs: Referee, model: Path, runs: int) -> list[Row]:
    """Figure 11: a folder to an F16 file."""
    python = os.environ.get("LUCIE_CONVERT_PYTHON")
    if python is None:
        sys.stderr.write("figure 11 wants LUCIE_CONVERT_PYTHON, a Python with transformers\n")
        return []
    with _workplace(model) as (folder, _):
        ours, theirs = folder.with_name("ours.gguf"), folder.with_name("theirs.gguf")
        convert = [python, str(programs.convert), str(folder), "--outtype", "f16", "--outfile"]
        results = interleave(
            lambda: _timed([sys.executable, "-c", _EXPORT, str(folder), str(ours)], ours),
            lambda: _timed([*convert, str(theirs)], theirs),
            runs=runs,
        )
        differing = [float(_differing_tensors(ours, theirs))]
        fields = [float(_differing_fields(ours, theirs))]
    by = "convert_hf_to_gguf.py --outtype f16"
    time_, memory = ([[run[n] for run in each] for each in results] for n in (0, 1))
    return [
        Row(11, "export as F16", "s", time_[0], time_[1], by, Target(1)),
        Row(11, "its peak memory", "MiB", memory[0], memory[1], by, Target(1)),
        Row(11, "tensors that differ", "", differing, [], by, Target(0, of="ours")),
        Row(11, "metadata that differs, of keys in both", "", fields, [], by,
            Target(0, of="ours")),
    ]  # fmt: skip


def quantizer(programs: Referee, model: Path, runs: int) -> list[Row]:
    """Figure 12: the same floats and matrix to smaller types; the matrix itself."""
    rows = []
    with _workplace(model) as (folder, floats):
        text = folder.with_name("text.txt")
        text.write_bytes(b"\n".join(each.path.read_bytes() for each in MEASURE))
        matrix, theirs = folder.with_name("m.gguf"), folder.with_name("theirs.gguf")
        labelled = [LabelledText("all", text)]
        mine = collect(floats, labelled, matrix, chunks=_CHUNKS, threads=2)
        _run([programs.imatrix, "-m", floats, "-f", text, "-o", theirs, "-t", "2",
              "--chunks", str(_CHUNKS), "--no-ppl", "-c", "512", "-b", "512"])  # fmt: skip
        apart = [_apart(mine, ImportanceMatrix.read(theirs))]
        rows.append(
            Row(12, "matrix: largest relative difference", "", apart, [],
                f"llama-imatrix -c 512 --chunks {_CHUNKS}", Target(0.01, of="ours"))
        )  # fmt: skip
        for kind in _TYPES:
            rows += _quantized(programs, floats, matrix, kind, runs)
    return rows


def divergence(programs: Referee, model: Path, runs: int) -> list[Row]:
    """Figure 13: what is measured of Q4_0, on the same text."""
    with _workplace(model) as (folder, floats):
        text, base = folder.with_name("text.txt"), folder.with_name("base.kld")
        text.write_bytes(b"\n".join(each.path.read_bytes() for each in MEASURE))
        small = folder.with_name("small.gguf")
        quantize(floats, small, QuantizeOptions("Q4_0"))
        common = ["-f", text, "-t", "2", "-c", "512", "--chunks", str(_CHUNKS)]
        _run([programs.perplexity, "-m", floats, "--kl-divergence-base", base, *common])
        said = _run([programs.perplexity, "-m", small, "--kl-divergence-base", base,
                     "--kl-divergence", *common])  # fmt: skip
        (found,) = measure(floats, [small], [LabelledText("all", text)], chunks=_CHUNKS, threads=2)
    theirs = {name: float(value) for name, value in _MEAN.findall(said)}
    figures = found[ALL]
    by = f"llama-perplexity --kl-divergence -c 512 --chunks {_CHUNKS}"
    pairs = (
        ("mean KL divergence of Q4_0", figures.kld.value, theirs["KLD"]),
        ("its perplexity ratio", figures.ppl_ratio.value, theirs["PPL(Q)/PPL(base)"]),
    )
    rows = [Row(13, what, "", [ours], [peer], by) for what, ours, peer in pairs]
    rows += [
        Row(13, f"{what}: relative difference", "", [abs(ours / peer - 1)], [], by,
            Target(5e-4, of="ours"))
        for what, ours, peer in pairs
    ]  # fmt: skip
    return rows


def _quantized(programs: Referee, floats: Path, matrix: Path, kind: str, runs: int) -> list[Row]:
    ours, theirs = floats.with_name("our-small.gguf"), floats.with_name("their-small.gguf")

    def mine() -> float:
        ours.unlink(missing_ok=True)
        return float(_run([sys.executable, "-c", _QUANTIZE, floats, ours, kind, matrix]))

    def peer() -> float:
        theirs.unlink(missing_ok=True)
        command = [programs.quantize, "--imatrix", matrix.name, floats, theirs, kind, "2"]
        began = time.perf_counter()
        _run(command, folder=matrix.parent)
        return time.perf_counter() - began

    found = interleave(mine, peer, runs=runs)
    same = [float(ours.read_bytes() != theirs.read_bytes())]
    by = f"llama-quantize --imatrix M F16 OUT {kind} 2"
    return [
        Row(12, f"quantizing to {kind}", "s", found[0], found[1], by, Target(1.1)),
        Row(12, f"{kind}: files that differ", "", same, [], by, Target(0, of="ours")),
    ]


@contextmanager
def _workplace(model: Path) -> Iterator[tuple[Path, Path]]:
    """The default model as a folder of halves and as an F16 file."""
    with tempfile.TemporaryDirectory() as place:
        folder, floats = Path(place) / "model", Path(place) / "f16.gguf"
        folder.mkdir()
        write_checkpoint(model, folder, "F16")
        export(Checkpoint.open(folder), floats, "F16")
        yield folder, floats


def _timed(command: Sequence[Any], made: Path) -> tuple[float, float]:
    """Seconds and peak MiB of a program that makes a file."""
    made.unlink(missing_ok=True)
    began = time.perf_counter()
    words = [sys.executable, "-c", _SMALL, *(str(word) for word in command)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    took = time.perf_counter() - began
    if done.returncode != 0:
        raise SystemExit(f"{command[0]} ended with {done.returncode}\n{done.stderr[-2000:]}")
    return took, int(done.stdout) / 1024


def _run(command: Sequence[Any], folder: Path | None = None) -> str:
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{words[0]} ended with {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout + done.stderr


def _differing_tensors(ours: Path, theirs: Path) -> int:
    a, b = ({t.name: t for t in gguf.GGUFReader(path).tensors} for path in (ours, theirs))
    return len(a.keys() ^ b.keys()) + sum(
        a[name].tensor_type != b[name].tensor_type
        or a[name].data.tobytes() != b[name].data.tobytes()
        for name in a.keys() & b.keys()
    )


def _differing_fields(ours: Path, theirs: Path) -> int:
    a, b = (
        {name: field.contents() for name, field in gguf.GGUFReader(path).fields.items()
         if not name.startswith("GGUF.")}
        for path in (ours, theirs)
    )  # fmt: skip
    differing = sorted(name for name in a.keys() & b.keys() if a[name] != b[name])
    for name in differing:
        sys.stderr.write(f"{name}: {str(a[name])[:80]} against {str(b[name])[:80]}\n")
    return len(differing)


def _apart(ours: ImportanceMatrix, theirs: ImportanceMatrix) -> float:
    """Largest difference of two means, relative to the largest mean of its matrix."""
    if ours.entries.keys() != theirs.entries.keys():
        return float("inf")
    return max(
        float(np.abs(entry.means - theirs.entries[name].means).max() / entry.means.max())
        for name, entry in ours.entries.items()
    )
