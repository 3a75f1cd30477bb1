"""How texts are cut: equally much of each language, and no more read than is wanted."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from pathlib import Path

import pytest

from quantize.errors import QuantizeError
from quantize.measuring import calibration
from quantize.measuring.calibration import LabelledText, balanced, check_there

BOS = -1


def bytes_of(text: str) -> array[int]:
    """A token for each byte, behind BOS."""
    return array("i", [BOS, *text.encode()])


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str, str, str], LabelledText]:
    def write(label: str, name: str, content: str) -> LabelledText:
        (tmp_path / name).write_text(content, encoding="utf-8")
        return LabelledText(label, tmp_path / name)

    return write


Written = Callable[[str, str, str], LabelledText]


def test_a_language_in_two_files_does_not_count_twice(written: Written) -> None:
    texts = [
        written("fr", "a.txt", "a" * 49),
        written("fr", "b.txt", "b" * 19),
        written("en", "c.txt", "c" * 39),
    ]
    chunks = balanced(texts, bytes_of, 10)
    assert [chunk.label for chunk in chunks] == ["fr", "en"] * 4
    french = "".join(chr(chunk.ids[-1]) for chunk in chunks if chunk.label == "fr")
    assert french == "abab"
    assert [chunk.label for chunk in balanced(texts, bytes_of, 10, 3)] == ["fr", "en"]


def test_files_without_a_name_count_each_for_itself(written: Written, tmp_path: Path) -> None:
    written("", "a.txt", "a" * 99)
    written("", "b.txt", "b" * 19)
    texts = calibration.parse([str(tmp_path / "a.txt"), str(tmp_path / "b.txt")])
    assert [chunk.label for chunk in balanced(texts, bytes_of, 10)] == ["a.txt", "b.txt"] * 2


def test_no_more_of_a_text_is_encoded_than_is_wanted(
    written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "_PART", 100)
    text = written("fr", "long.txt", "neuf mots\n" * 1000)
    encoded = 0

    def counted(part: str) -> array[int]:
        nonlocal encoded
        encoded += len(part)
        return bytes_of(part)

    assert len(balanced([text], counted, 50, 6)) == 6
    assert encoded <= 400


def test_parts_are_one_text(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    content = "".join(f"Ça fait {n} lignes.\r\n" for n in range(100))
    text = written("fr", "lines.txt", content)
    whole = balanced([text], bytes_of, 7)
    monkeypatch.setattr(calibration, "_PART", 64)
    assert balanced([text], bytes_of, 7) == whole
    ids = [id_ for chunk in whole for id_ in chunk.ids]
    assert ids == bytes_of(content).tolist()[: len(ids)]


def test_where_a_text_is_damaged_is_counted_from_its_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "_PART", 64)
    path = tmp_path / "text.txt"
    path.write_bytes(b"a line\n" * 50 + b"caf\xe9\n")
    with pytest.raises(QuantizeError, match=r"no UTF-8 text \(byte 353\)"):
        balanced([LabelledText("fr", path)], bytes_of, 10)


@pytest.mark.parametrize("most", [None, 1])
def test_each_file_gives_something_or_is_named(written: Written, most: int | None) -> None:
    texts = [written("fr", "a.txt", "a" * 99), written("fr", "b.txt", "b")]
    with pytest.raises(QuantizeError, match=r"b\.txt has 2 tokens; at least 10"):
        balanced(texts, bytes_of, 10, most)


@pytest.mark.parametrize("text", ["", " \n\t\n" * 10_000], ids=["no bytes", "blanks"])
def test_an_empty_text_is_told_before_anything_is_done(tmp_path: Path, text: str) -> None:
    (tmp_path / "empty.txt").write_text(text)
    with pytest.raises(QuantizeError) as caught:
        check_there([LabelledText("fr", tmp_path / "empty.txt")])
    assert caught.value.code == "calibration.empty"
