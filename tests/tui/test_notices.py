"""What those who look after a machine tell: files that come, change and go."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge.errors import UsageError
from tui.notices import Notices


def test_a_notice_is_text_that_no_terminal_obeys(tmp_path: Path) -> None:
    (tmp_path / "notice").write_bytes(b"Wi-Fi \x1b[2J\xff\n" + b"x" * 10_000)
    [shown] = Notices(tmp_path / "notice").look()
    assert shown.startswith("Wi-Fi ␛[2J\ufffd\nxxx")
    assert len(shown) < 5000


def test_what_is_not_there_tells_nothing_until_it_comes(tmp_path: Path) -> None:
    for place in (tmp_path / "file", tmp_path / "folder/file"):
        notices = Notices(place)
        assert notices.look() == notices.texts == []
        place.parent.mkdir(exist_ok=True)
        place.write_text("here")
        assert notices.look() == notices.texts == ["here"]
        place.unlink()
        assert notices.look() == notices.texts == []


def test_only_what_is_new_or_written_again_is_told(tmp_path: Path) -> None:
    notices = Notices(tmp_path)
    for name in "ba":
        (tmp_path / name).write_text(f"text of {name}")
    (tmp_path / "empty").touch()
    assert notices.look() == ["text of a", "text of b"]
    assert notices.look() == []
    (tmp_path / ".b.new").write_text("other text")
    assert notices.look() == [], "it is still being written"
    (tmp_path / ".b.new").replace(tmp_path / "b")
    (tmp_path / ".a.new").write_text("text of a")
    (tmp_path / ".a.new").replace(tmp_path / "a")
    assert notices.look() == ["text of a", "other text"], "one is told again"
    assert notices.look() == []
    assert notices.texts == ["text of a", "other text"]


def test_what_is_no_plain_file_is_passed_by(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "nowhere").symlink_to("none")
    assert Notices(tmp_path).look() == []


def test_of_a_folder_some_files_are_read(tmp_path: Path) -> None:
    for number in range(100):
        (tmp_path / f"{number:02}").write_text(str(number))
    assert Notices(tmp_path).look() == [str(number) for number in range(16)]


def test_what_cannot_be_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notice").write_text("x")

    def refuse(_: Path) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tui.notices._read", refuse)
    with pytest.raises(UsageError, match="Permission denied"):
        Notices(tmp_path / "notice").look()
