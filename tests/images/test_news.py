"""What root's programs tell: files that the chat looks at."""

from __future__ import annotations

from pathlib import Path

import pytest

from images.onboard import news
from tui.notices import Notices

BOARD = Path("images/board/system/usr/lib")


@pytest.fixture(autouse=True)
def _places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(news, "NEWS", tmp_path / "news")
    monkeypatch.setattr(news, "_ENVIRONMENT", tmp_path / "environment")


def test_what_is_told_is_shown_until_it_is_forgotten(tmp_path: Path) -> None:
    chat = Notices(tmp_path / "news")
    news.tell("stick-sda1", "A stick is read.")
    news.tell("update", "An update is there. \ud800\n\n")
    assert chat.look() == ["A stick is read.", "An update is there. ?"]
    news.tell("stick-sda1", "It has been pulled out.")
    assert chat.look() == ["It has been pulled out."]
    news.forget("stick-sda1")
    news.forget("never-told")
    assert chat.look() == []
    assert chat.texts == ["An update is there. ?"]
    assert (tmp_path / "news/update").stat().st_mode & 0o777 == 0o644, "the chat is not root"


@pytest.mark.parametrize("name", ["", ".hidden", "../elsewhere", "a/b", "a\n", "x" * 65])
def test_a_name_stays_in_its_folder(name: str) -> None:
    with pytest.raises(ValueError, match="no name"):
        news.tell(name, "text")


def test_the_language_is_that_of_the_board(tmp_path: Path) -> None:
    assert news.language() == "fr", "as lucie.toml says of itself"
    (tmp_path / "environment").write_text("LUCIE_LANG=en\n")
    assert news.language() == "en"
    told = news.say("settings.class-here", ssid="S", password="P", address="A")
    assert told.startswith("For the class")
    (tmp_path / "environment").write_text("LUCIE_LANG=tlh\n")
    assert news.language() == "fr"


def test_the_chat_looks_where_it_is_told() -> None:
    for console in ("getty@tty1.service.d", "serial-getty@.service.d"):
        conf = (BOARD / "systemd/system" / console / "lucie.conf").read_text()
        assert "--notice /run/lucie-news " in conf
    assert "\nd /run/lucie-news 0755 root root\n" in (BOARD / "lucie-places.conf").read_text()
    assert "/run/lucie-news/settings" in (BOARD / "lucie-settings").read_text()
