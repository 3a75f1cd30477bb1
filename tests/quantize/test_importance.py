"""Importance matrices: what is summed, the file that llama.cpp shares, work that goes on."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from edge.errors import ModelError
from quantize.errors import QuantizeError, QuantizeUsageError
from quantize.ggml.imatrix import Importance, ImportanceMatrix
from quantize.measuring import importance
from quantize.measuring.calibration import LabelledText, parse
from quantize.measuring.importance import collect
from tests.namespaces import UNSHARE, namespaces
from tests.quantize import tiny
from tests.quantize.tiny import prose

pytestmark = pytest.mark.model


@pytest.fixture
def text(tmp_path: Path) -> LabelledText:
    path = tmp_path / "text.txt"
    path.write_text("\n".join(prose(300)), encoding="utf-8")
    return LabelledText("en", path)


@pytest.fixture
def every_chunk_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importance, "_SAVE_EVERY_S", 0.0)


def interrupt(model: Path, text: LabelledText, out: Path, *, chunks: int, at: int) -> None:
    def stop(done: int, _total: int | None) -> None:
        if done == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        collect(model, [text], out, chunks=chunks, progress=stop)


def norm(x: Any, weight: Any) -> Any:
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + tiny.CONFIG["rms_norm_eps"]) * weight


def test_sums_the_squares_of_what_goes_in(
    tiny_gguf: Path, text: LabelledText, tmp_path: Path
) -> None:
    """Inputs of the first projection: the embedding after its norm, computed here by hand."""
    found = collect(tiny_gguf, [text], tmp_path / "out.gguf", chunks=2)
    weights = tiny.weights(tiny.CONFIG)
    ids = tiny.tokenizer(tiny.CONFIG).encode(text.path.read_bytes().decode()).ids[:1024]
    embedded = weights["model.embed_tokens.weight"][ids].astype(np.float64)
    inputs = norm(embedded, weights["model.layers.0.input_layernorm.weight"])
    entry = found.entries["blk.0.attn_q.weight"]
    assert entry.counts.tolist() == [1024]
    assert entry.sums == pytest.approx((inputs * inputs).sum(axis=0), rel=1e-4)
    assert set(found.entries) == {
        f"blk.{n}.{name}.weight"
        for n in (0, 1)
        for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    }


def test_the_file_comes_back(tiny_gguf: Path, text: LabelledText, tmp_path: Path) -> None:
    made = collect(tiny_gguf, [text], tmp_path / "out.gguf", chunks=1)
    read = ImportanceMatrix.read(tmp_path / "out.gguf")
    assert (read.datasets, read.chunk_count, read.chunk_size) == (("text.txt",), 1, 512)
    for name, entry in made.entries.items():
        assert (read.entries[name].sums == entry.sums).all()


def test_the_layout_is_llama_imatrixs(tmp_path: Path) -> None:
    """Names and shapes of tools/imatrix/imatrix.cpp, `save_imatrix`."""
    entry = Importance(np.arange(8, dtype=np.float32), np.array([4], np.float32))
    ImportanceMatrix({"blk.0.ffn_up.weight": entry}, ("a", "b"), 3, 512).write(tmp_path / "m.gguf")
    file = gguf.GGUFReader(tmp_path / "m.gguf")
    assert file.fields["general.type"].contents() == "imatrix"
    assert file.fields["imatrix.datasets"].contents() == ["a", "b"]
    assert file.fields["imatrix.chunk_count"].contents() == 3
    assert file.fields["imatrix.chunk_size"].contents() == 512
    shapes = {tensor.name: tensor.shape.tolist() for tensor in file.tensors}
    assert shapes == {"blk.0.ffn_up.weight.in_sum2": [8, 1], "blk.0.ffn_up.weight.counts": [1, 1]}


def test_what_was_never_seen_counts_as_one() -> None:
    experts = Importance(np.array([2, 4, 0, 0], np.float32), np.array([2, 0], np.float32))
    assert experts.means.tolist() == [1, 2, 1, 1]


@pytest.mark.usefixtures("every_chunk_is_kept")
def test_goes_on_where_it_was_stopped(tiny_gguf: Path, text: LabelledText, tmp_path: Path) -> None:
    whole = collect(tiny_gguf, [text], tmp_path / "whole.gguf", chunks=4)
    interrupt(tiny_gguf, text, tmp_path / "parts.gguf", chunks=4, at=3)
    assert not (tmp_path / "parts.gguf").exists()
    told: list[int] = []
    parts = collect(
        tiny_gguf,
        [text],
        tmp_path / "parts.gguf",
        chunks=4,
        progress=lambda done, _: told.append(done),
    )
    assert told == [3, 4]  # the third was read, but not saved
    assert parts.entries.keys() == whole.entries.keys()
    assert (tmp_path / "parts.gguf").read_bytes() == (tmp_path / "whole.gguf").read_bytes()
    assert not list(tmp_path.glob(".*unfinished"))


@pytest.mark.usefixtures("every_chunk_is_kept")
def test_damaged_work_is_done_again(tiny_gguf: Path, text: LabelledText, tmp_path: Path) -> None:
    interrupt(tiny_gguf, text, tmp_path / "out.gguf", chunks=3, at=3)
    [draft] = tmp_path.glob(".*unfinished")
    draft.write_bytes(draft.read_bytes()[:-100])
    made = collect(tiny_gguf, [text], tmp_path / "out.gguf", chunks=3)
    assert made.entries["blk.0.attn_q.weight"].counts.tolist() == [3 * 512]


def test_a_place_that_is_none_is_told_before_anything_is_read(
    tiny_gguf: Path, tmp_path: Path
) -> None:
    nothing = LabelledText("en", tmp_path / "nothing.txt")
    with pytest.raises(QuantizeError) as caught:
        collect(tiny_gguf, [nothing], tmp_path / "nowhere" / "out.gguf")
    assert caught.value.code == "imatrix.no-folder"


@namespaces
def test_a_disk_that_takes_nothing_is_told_before_anything_is_read(
    tiny_gguf: Path, tmp_path: Path
) -> None:
    code = """
        import subprocess, sys
        from edge.cli import main
        folder, model, text = sys.argv[1:]
        subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", folder], check=True)
        texts = [f"fr={text}", f"en={text}"]
        sys.exit(main(["quantize", "imatrix", model, *texts, "-o", folder + "/m.gguf"]))
    """
    given = [str(tmp_path), str(tiny_gguf), __file__]
    ran = subprocess.run(
        [*UNSHARE, sys.executable, "-c", textwrap.dedent(code), *given],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (
        ran.stderr == f"lucie: Nothing can be written in {tmp_path}. Give another place with -o.\n"
    )
    assert ran.returncode == 1


@pytest.mark.usefixtures("every_chunk_is_kept")
def test_unfinished_work_on_another_text_is_not_taken_up(
    tiny_gguf: Path, text: LabelledText, tmp_path: Path
) -> None:
    interrupt(tiny_gguf, text, tmp_path / "out.gguf", chunks=3, at=2)
    text.path.write_text("Other. " + text.path.read_text("utf-8"), encoding="utf-8")
    made = collect(tiny_gguf, [text], tmp_path / "out.gguf", chunks=3)
    assert made.entries["blk.0.attn_q.weight"].counts.tolist() == [3 * 512]


def test_equally_much_of_each_text(tiny_gguf: Path, text: LabelledText, tmp_path: Path) -> None:
    longer = LabelledText("fr", tmp_path / "longer.txt")
    longer.path.write_text(text.path.read_text("utf-8") * 3, encoding="utf-8")
    made = collect(tiny_gguf, [text, longer], tmp_path / "out.gguf", chunks=5)
    assert made.chunk_count == 4
    assert made.datasets == ("text.txt", "longer.txt")


def test_a_text_without_end_is_not_read_to_its_end(tiny_gguf: Path, tmp_path: Path) -> None:
    with pytest.raises(QuantizeError) as caught:
        collect(tiny_gguf, [LabelledText("en", Path("/dev/zero"))], tmp_path / "out.gguf")
    assert caught.value.code == "calibration.too-long"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "calibration.too-short"),
        (b"Too short.", "calibration.too-short"),
        (b"caf\xe9 " * 2000, "calibration.not-text"),
        (None, "calibration.unreadable"),
    ],
)
def test_texts_that_are_none(
    tiny_gguf: Path, tmp_path: Path, content: bytes | None, code: str
) -> None:
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(QuantizeError) as caught:
        collect(tiny_gguf, [LabelledText("en", path)], tmp_path / "out.gguf")
    assert caught.value.code == code
    assert not (tmp_path / "out.gguf").exists()


def test_files_that_are_no_matrix(tiny_gguf: Path, tmp_path: Path) -> None:
    with pytest.raises(QuantizeError, match="no importance matrix"):
        ImportanceMatrix.read(tiny_gguf)
    (tmp_path / "old.dat").write_bytes(b"\x01\x00\x00\x00 old format")
    with pytest.raises(ModelError, match="GGUF"):
        ImportanceMatrix.read(tmp_path / "old.dat")
    entry = Importance(np.ones(8, np.float32), np.ones(1, np.float32))
    ImportanceMatrix({"x": entry}, (), 1, 512).write(tmp_path / "m.gguf")
    cut = shutil.copy(tmp_path / "m.gguf", tmp_path / "cut.gguf")
    Path(cut).write_bytes(Path(cut).read_bytes()[:-32])
    with pytest.raises(QuantizeError, match="Make it again"):
        ImportanceMatrix.read(tmp_path / "cut.gguf")
    bad = Importance(np.array([1, np.nan], np.float32), np.ones(1, np.float32))
    ImportanceMatrix({"x": bad}, (), 1, 512).write(tmp_path / "nan.gguf")
    with pytest.raises(QuantizeError, match="impossible numbers"):
        ImportanceMatrix.read(tmp_path / "nan.gguf")


def test_how_texts_are_named(tmp_path: Path) -> None:
    assert parse(["fr=a/b.txt", "c.txt", "x/y=z.txt"]) == [
        LabelledText("fr", Path("a/b.txt")),
        LabelledText("c.txt", Path("c.txt")),
        LabelledText("y=z.txt", Path("x/y=z.txt")),
    ]
    with pytest.raises(QuantizeUsageError):
        parse([])
    with pytest.raises(QuantizeUsageError):
        parse(["fr="])
