"""What a board does with its settings when it starts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from images.onboard.apply import apply, unheeded
from images.onboard.settings import Settings


@pytest.fixture
def board(tmp_path: Path) -> Path:
    """The part of a board's file system that settings are about."""
    for name in ("etc", "proc/sys/kernel", "run", "usr/share/keymaps", "usr/share/zoneinfo/Europe"):
        (tmp_path / name).mkdir(parents=True)
    for keymap in ("fr", "us", "de"):
        (tmp_path / f"usr/share/keymaps/{keymap}.map.gz").touch()
    for zone in ("Paris", "Berlin"):
        (tmp_path / f"usr/share/zoneinfo/Europe/{zone}").touch()
    (tmp_path / "etc/localtime").symlink_to("/usr/share/zoneinfo/Europe/Paris")
    return tmp_path


def applied(board: Path, **sections: dict[str, object]) -> list[Sequence[str]]:
    ran: list[Sequence[str]] = []
    apply(Settings.model_validate(sections), board, ran.append)
    return ran


def test_the_chat_speaks_the_language_that_was_chosen(board: Path) -> None:
    applied(board, locale={"language": "en"})
    assert (board / "run/lucie-settings/environment").read_text() == "LUCIE_LANG=en\n"


@pytest.mark.parametrize(
    ("locale", "keymap"),
    [
        ({}, "fr"),
        ({"language": "en"}, "us"),
        ({"language": "en", "keymap": "de"}, "de"),
    ],
)
def test_the_keyboard_is_that_of_the_language_unless_one_is_named(
    board: Path, locale: dict[str, object], keymap: str
) -> None:
    ran = applied(board, locale=locale)
    assert ran == [["loadkeys", "-q", str(board / f"usr/share/keymaps/{keymap}.map.gz")]]


def test_the_time_zone_replaces_the_one_before(board: Path) -> None:
    applied(board, locale={"timezone": "Europe/Berlin"})
    assert str((board / "etc/localtime").readlink()) == "/usr/share/zoneinfo/Europe/Berlin"


def test_the_name_is_told_to_the_kernel_and_to_programs(board: Path) -> None:
    applied(board, system={"hostname": "salle-12"})
    assert (board / "etc/hostname").read_text() == "salle-12\n"
    assert (board / "proc/sys/kernel/hostname").read_text() == "salle-12"


def test_what_the_board_does_not_have_is_said_and_changes_nothing(board: Path) -> None:
    chosen = {"timezone": "Europe/Nowhere", "keymap": "klingon"}
    settings = Settings.model_validate({"locale": chosen})
    ran = applied(board, locale=dict(chosen))
    told = [(each.code, each.field) for each in unheeded(settings, board)]
    assert told == [("absent", "locale.timezone"), ("absent", "locale.keymap")]
    assert ran == []
    assert str((board / "etc/localtime").readlink()) == "/usr/share/zoneinfo/Europe/Paris"


@pytest.mark.parametrize("lang", ["en", "fr"])
def test_what_is_not_applied_yet_is_told(board: Path, lang: str) -> None:
    sections = {"class": {"enabled": True}, "wlan": {"ssid": "École"}}
    told = unheeded(Settings.model_validate(sections), board)
    assert [each.field for each in told] == ["wlan.ssid", "class.enabled"]
    assert all("lucie.toml" in each.say(lang) and each.field in each.say(lang) for each in told)


def test_of_what_is_shipped_all_is_heeded(board: Path) -> None:
    assert unheeded(Settings(), board) == []
