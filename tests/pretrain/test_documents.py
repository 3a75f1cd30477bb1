"""Reading documents from whatever they come in."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from edge.bundle import Bundle
from edge.errors import LucieError, ModelError
from edge.manifest import Manifest
from pretrain import documents
from pretrain.documents import Document, Split, read_documents
from pretrain.errors import PretrainError, PretrainUsageError

FULL = {
    "id": "a", "text": "Un texte.", "source": "s", "licence": "MIT", "language": "fr",
    "date": "2026-08",
}  # fmt: skip


def lines(path: Path, *rows: Any) -> Path:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return path


def table(path: Path, *rows: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), path)
    return path


def corpus(folder: Path, kind: str = "corpus") -> Path:
    made = {
        f"{split}/s-fr.parquet": table(
            folder.parent / f"{split}.parquet", *({**FULL, "id": f"{split}{n}"} for n in range(2))
        )
        for split in ("train", "heldout")
    }
    manifest = Manifest.model_validate({"kind": kind, "name": "c", "provenance": "recorded"})
    Bundle.write(folder, manifest, made)
    return folder


def test_jsonl_plain_and_compressed(tmp_path: Path) -> None:
    rows = [FULL, {"text": "Deux.", "extra": [1]}, {"id": 7, "text": "Trois.", "date": None}]
    wanted = [
        Document(**FULL),
        Document("x.jsonl:2", "Deux."),
        Document("7", "Trois."),
    ]
    assert list(read_documents(lines(tmp_path / "x.jsonl", *rows))) == wanted
    packed = list(read_documents(lines(tmp_path / "x.jsonl.gz", *rows)))
    assert [d.text for d in packed] == [d.text for d in wanted]
    assert packed[1].id == "x.jsonl.gz:2"


def test_what_is_given_fills_in_what_is_missing(tmp_path: Path) -> None:
    file = lines(tmp_path / "x.jsonl", FULL, {"text": "t"})
    one, two = read_documents(file, language="de", licence="CC0-1.0", date="2020", source="mine")
    assert one == Document(**FULL)
    assert two == Document("x.jsonl:2", "t", "mine", "CC0-1.0", "de", "2020")


def test_parquet(tmp_path: Path) -> None:
    rows = [{**FULL, "id": str(n), "score": 1.5} for n in range(600)]  # more than one batch
    found = list(read_documents(table(tmp_path / "x.parquet", *rows)))
    assert found == [Document(**{**FULL, "id": str(n)}) for n in range(600)]


def test_a_folder_in_the_order_of_names(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / ".git").mkdir()
    (tmp_path / "b/z.md").write_text("# Titre\n\nTexte.\n", encoding="utf-8")
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfpremier")  # with a byte-order mark
    (tmp_path / "c.pdf").write_bytes(b"%PDF")
    (tmp_path / ".git/x.txt").write_text("no")
    lines(tmp_path / "c.jsonl", {"text": "trois"})
    assert [(d.id, d.text) for d in read_documents(tmp_path)] == [
        ("a.txt", "premier"),
        ("b/z.md", "# Titre\n\nTexte.\n"),
        ("c.jsonl:1", "trois"),
    ]


@pytest.mark.parametrize(
    ("split", "wanted"),
    [
        ("train", ["train0", "train1"]),
        ("heldout", ["heldout0", "heldout1"]),
        (None, ["heldout0", "heldout1", "train0", "train1"]),
    ],
)
def test_a_corpus_bundle(tmp_path: Path, split: Split | None, wanted: list[str]) -> None:
    assert [d.id for d in read_documents(corpus(tmp_path / "c"), split=split)] == wanted


def test_other_text_is_split_by_the_same_rule(tmp_path: Path) -> None:
    file = lines(tmp_path / "x.jsonl", *({"text": f"text {n}"} for n in range(3000)))
    train = [d.id for d in read_documents(file, split="train")]
    heldout = [d.id for d in read_documents(file, split="heldout")]
    assert 30 - 22 < len(heldout) < 30 + 22  # four standard deviations
    assert sorted(train + heldout) == sorted(d.id for d in read_documents(file))
    lines(file, *({"text": f"text {n}"} for n in range(1500)))
    assert {d.id for d in read_documents(file, split="heldout")} <= set(heldout)


def refused(path: Path, kind: type[LucieError] = PretrainError) -> str:
    with pytest.raises(kind) as caught:
        list(read_documents(path))
    said = str(caught.value)
    assert "\n" not in said
    return said


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b'{"text": "a"}\n\n{"text": \n', "line 3: not JSON"),
        (b'{"text": "a"}\n["text"]\n', "line 2: not an object"),
        (b'{"txt": "a"}\n', "line 1: no text"),
        (b'{"text": null}\n', "line 1: no text"),
        (b'{"text": "a"}\n{"text": "\xe9"}\n', "line 2: not UTF-8"),
        (b'{"text": "a"}\n{"text": "b\0"}\n', "line 2: a NUL byte"),
        (b'{"text": "a"}\n{"text": "b\\u0000"}\n', "line 2: a NUL byte"),
        (b'{"text": "\\ud83d"}\n', "line 1: half a character (an escape from \\ud800"),
        (
            b'{"text": "a", "language": 5}\n',
            'line 1: "language" is no text, or a longer one than 2,000 characters',
        ),
        (b'{"text": "a", "date": "18 May 2013"}\n', 'line 1: "date" is no date, as'),
        (b'{"text": "a", "date": "2013-5-18"}\n', 'line 1: "date" is no date, as'),
        (b'{"text": "a", "date": "9999-99-99"}\n', 'line 1: "date" is no date, as'),
        (b'{"text": "a", "date": "2013-02-29"}\n', 'line 1: "date" is no date, as'),
        (b'{"text": "a", "date": "2013-13"}\n', 'line 1: "date" is no date, as'),
        (b'{"text": "a", "date": "0000"}\n', 'line 1: "date" is no date, as'),
        (b'{"text": "a", "source": "a\\tb"}\n', 'line 1: "source" is no text, or'),
        (b'{"text": "a", "licence": "' + b"a" * 2001 + b'"}\n', 'line 1: "licence" is no text, or'),
        (b"[" * 100_000, "line 1: not JSON"),
    ],
)
def test_bad_lines(tmp_path: Path, raw: bytes, said: str) -> None:
    for name, content in {"x.jsonl": raw, "x.jsonl.gz": gzip.compress(raw)}.items():
        (tmp_path / name).write_bytes(content)
        told = refused(tmp_path / name)
        assert name in told
        assert said in told


@pytest.mark.parametrize(
    ("written", "day"),
    [
        ("2013-05-18T05:48:54Z", "2013-05-18"),
        ("2013-05-18 05:48:54", "2013-05-18"),
        ("2013-05", "2013-05"),
        ("2013", "2013"),
        ("", None),
    ],
)
def test_of_a_moment_the_day_is_kept(tmp_path: Path, written: str, day: str | None) -> None:
    (document,) = read_documents(lines(tmp_path / "x.jsonl", {"text": "a", "date": written}))
    assert document.date == day


def test_bad_text_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("un\ndeux\ncaf\xe9\n".encode("latin-1"))
    assert "a.txt, line 3: not UTF-8" in refused(tmp_path)
    (tmp_path / "a.txt").write_bytes(b"un\nde\0ux\n")
    assert "a.txt, line 2: a NUL byte" in refused(tmp_path)


def test_a_text_file_that_would_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "_LINE_BYTES", 1 << 20)
    with (tmp_path / "a.txt").open("wb") as writer:
        writer.truncate(1 << 40)
    assert "a.txt: longer than 1 MiB" in refused(tmp_path)


def test_bad_archives(tmp_path: Path) -> None:
    whole = gzip.compress(b'{"text": "a"}\n' * 1000)
    for content in (b"plain", whole[:-10], whole[:20] + b"\xff\xff" + whole[22:]):
        (tmp_path / "x.jsonl.gz").write_bytes(content)
        assert "damaged, or no gzip file" in refused(tmp_path / "x.jsonl.gz")


def test_bad_parquet(tmp_path: Path) -> None:
    file = tmp_path / "x.parquet"
    assert 'no column "text" (columns: content)' in refused(table(file, {"content": "a"}))
    assert 'column "text" holds int64' in refused(table(file, {"text": 1}))
    assert "line 2: no text" in refused(table(file, {"text": "a"}, {"text": None}))
    file.write_bytes(b"PAR1 not")
    assert "damaged, or no Parquet file" in refused(file)
    whole = table(file, *({"text": "a" * n} for n in range(1000))).read_bytes()
    file.write_bytes(whole[:4] + bytes(200) + whole[204:])
    assert "damaged, or no Parquet file" in refused(file)


def test_text_that_is_not_utf8_in_parquet(tmp_path: Path) -> None:
    raw = pa.array([b"caf\xe9"], pa.binary()).cast(pa.string(), safe=False)
    try:
        pq.write_table(pa.table({"text": raw}), tmp_path / "x.parquet")
    except pa.ArrowInvalid:  # a version that does not let itself be fooled
        return
    assert "x.parquet" in refused(tmp_path / "x.parquet")


def test_what_holds_no_text(tmp_path: Path) -> None:
    assert "there is nothing there" in refused(tmp_path / "no", PretrainUsageError)
    assert "holds no text" in refused(tmp_path, PretrainUsageError)
    (tmp_path / "x.pdf").write_bytes(b"%PDF")
    assert "not a kind of text" in refused(tmp_path / "x.pdf", PretrainUsageError)
    model = corpus(tmp_path / "c", "model")
    assert "a bundle of kind model, not a corpus" in refused(model, PretrainUsageError)


def test_a_bundle_that_lost_a_file(tmp_path: Path) -> None:
    (corpus(tmp_path / "c") / "train/s-fr.parquet").unlink()
    refused(tmp_path / "c", ModelError)
