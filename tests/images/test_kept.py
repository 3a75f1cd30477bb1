"""What a build has made, and whether it is made again."""

from __future__ import annotations

from pathlib import Path

import pytest

from images.building.kept import digest, kept


def writing(text: str, made: list[str]):
    def make(folder: Path) -> None:
        made.append(text)
        (folder / "file").write_text(text)

    return make


def test_what_is_made_of_the_same_is_made_once() -> None:
    made: list[str] = []
    first = kept("thing", ["a"], writing("first", made))
    again = kept("thing", ["a"], writing("again", made))
    assert (first, made) == (again, ["first"])
    assert (again / "file").read_text() == "first"


def test_what_is_made_of_something_else_takes_its_place() -> None:
    made: list[str] = []
    first = kept("thing", ["a"], writing("first", made))
    other = kept("other", ["a"], writing("other", made))
    second = kept("thing", ["b"], writing("second", made))
    assert not first.exists()
    assert other.exists()
    assert second.exists()


def test_what_was_stopped_goes_on_from_what_it_had() -> None:
    def stops(folder: Path) -> None:
        (folder / "half").touch()
        raise KeyboardInterrupt

    seen: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        kept("thing", ["c"], stops)
    kept("thing", ["c"], lambda folder: seen.extend(file.name for file in folder.iterdir()))
    assert seen == ["half"]


def test_a_digest_is_of_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    before = digest(tmp_path)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__/a.pyc").write_text("of this computer")
    assert digest(tmp_path) == before
    (tmp_path / "a").rename(tmp_path / "b")
    renamed = digest(tmp_path)
    (tmp_path / "b").write_text("2")
    assert len({before, renamed, digest(tmp_path)}) == 3


def test_a_digest_tells_what_is_a_program_and_not_whose_it_is(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    modes = (0o644, 0o600, 0o755, 0o700)
    (plain, private, program, own) = (of_mode(tmp_path / "a", mode) for mode in modes)
    assert plain == private
    assert program == own
    assert plain != program


def of_mode(file: Path, mode: int) -> str:
    file.chmod(mode)
    return digest(file.parent)
