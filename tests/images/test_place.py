"""Where a command makes something: alone, and without a trace of what came to nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.errors import StoreError
from images.commands.place import place
from images.errors import ImageError


def taken(out: Path) -> ImageError:
    with pytest.raises(ImageError) as caught, place(out):
        pass
    return caught.value


def test_one_at_a_time_makes_it_and_others_are_told(tmp_path: Path) -> None:
    with place(tmp_path / "out"):
        error = taken(tmp_path / "out")
        assert error.code == "build.busy"
        assert str(tmp_path / "out") in str(error)
        assert taken(tmp_path / "out").code == "build.busy", "who is refused takes nothing away"
        with place(tmp_path / "out-two"):
            pass
    with place(tmp_path / "out"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_one_has_left_is_nobodys(tmp_path: Path) -> None:
    with place(tmp_path / "out"):
        [lock] = tmp_path.iterdir()
    lock.mkdir()
    with place(tmp_path / "out"):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_folders_that_were_made_for_nothing_go(
    tmp_path: Path, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()

    def work() -> None:
        with place(Path("mine/a/b/out")):
            assert Path("mine/a/b").is_dir()
            raise error

    with pytest.raises(error):
        work()
    assert list(tmp_path.rglob("*")) == [tmp_path / "mine"]


def test_folders_that_hold_something_stay(tmp_path: Path) -> None:
    with place(tmp_path / "a/b/out"):
        (tmp_path / "a/b/out").touch()
    assert sorted(tmp_path.rglob("*")) == [tmp_path / each for each in ("a", "a/b", "a/b/out")]


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError) as caught, place(tmp_path / "file/out"):
        pass
    assert caught.value.code == "workshop.unwritable"
