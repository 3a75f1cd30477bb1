"""Passwords leave the partition that every computer can open."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest

from images.onboard.secrets import Kept, kept_in, settle, without_passwords
from images.onboard.settings import Settings
from images.onboard.settings_file import read
from images.onboard.writing import replace

LUCIE = """\
# Réglages
[wlan]
ssid = "École"
password = "of 8 letters"   # celui du hall
country = "FR"

[user]
name = "anne"
password = "secret of anne"

[class]
enabled = true
"""
CLASS: dict[str, dict[str, object]] = {"class": {"enabled": True}}


def settings(**sections: dict[str, object]) -> Settings:
    return Settings.model_validate(sections)


def settled(kept: Kept | None = None, **sections: dict[str, object]) -> tuple[Settings, Kept]:
    return settle(settings(**sections), kept or Kept(), lambda password: f"$6$hash${password}")


def struck(file: Path, text: str) -> str | None:
    file.write_text(text, encoding="utf-8")
    content = without_passwords(file, read([file])[1])
    return None if content is None else content.decode()


def test_what_was_written_beside_a_password_stays(tmp_path: Path) -> None:
    left = struck(tmp_path / "lucie.toml", LUCIE)
    assert left is not None
    assert "of 8 letters" not in left
    assert "secret" not in left
    assert left.startswith('# Réglages\n[wlan]\nssid = "École"\n# password: ')
    before = tomllib.loads(LUCIE)
    del before["wlan"]["password"], before["user"]["password"]
    assert tomllib.loads(left) == before
    assert struck(tmp_path / "lucie.toml", left) is None, "there is none any more"


@pytest.mark.parametrize(
    "text",
    [
        'wlan = { ssid = "a", password = "of 8 letters", password_encrypted = false }\n',
        'wlan.ssid = "a"\nwlan.password = "of 8 letters"\n',
        '[wlan]\nssid = "a"\n"password" = """of 8 letters"""\n',
        "[wlan]\r\nssid = 'a'\r\npassword = 'of 8 letters'\r\n",
        '\ufeff[wlan]\nssid = "a"\npassword = "of 8 letters"\npassword_encrypted = false',
    ],
)
def test_however_it_is_written(tmp_path: Path, text: str) -> None:
    left = struck(tmp_path / "lucie.toml", text)
    assert left is not None
    assert tomllib.loads(left) == {"wlan": {"ssid": "a"}}
    assert "letters" not in left


def test_however_it_is_saved(tmp_path: Path) -> None:
    file = tmp_path / "lucie.toml"
    file.write_bytes("[wlan]\r\nssid = 'École'\r\npassword = 'of 8 letters'\r\n".encode("utf-16"))
    left = without_passwords(file, read([file])[1])
    assert left is not None
    assert tomllib.loads(left.decode()) == {"wlan": {"ssid": "École"}}


def test_what_is_not_heeded_stays_where_it_can_be_mended(tmp_path: Path) -> None:
    text = '[wlan]\nssid = "a"\npassword = "short"\n'
    assert struck(tmp_path / "lucie.toml", text) is None
    assert struck(tmp_path / "lucie.toml", '[wlan]\npassword = "of 8 letters\n') is None


def test_a_password_is_used_again_though_it_is_written_no_more() -> None:
    wlan, user = {"ssid": "École", "password": "of 8 letters"}, {"password": "clear"}
    first, kept = settled(wlan=wlan, user=user)
    assert first.user.password == kept.account == "$6$hash$clear"
    later, again = settled(kept, wlan={"ssid": "École"})
    assert (later.wlan.password, later.user.password) == ("of 8 letters", "$6$hash$clear")
    assert again == kept


def test_a_password_is_for_the_network_of_its_name() -> None:
    _, kept = settled(wlan={"ssid": "École", "password": "of 8 letters"})
    assert settled(kept, wlan={"ssid": "Elsewhere"})[0].wlan.password == ""


def test_a_password_that_was_written_before_the_name_is_not_lost() -> None:
    _, kept = settled(wlan={"password": "of 8 letters"})
    assert settled(kept, wlan={"ssid": "École"})[0].wlan.password == "of 8 letters"


def test_a_hash_is_taken_as_it_is_and_an_empty_password_ends_the_account() -> None:
    _, kept = settled(user={"password": "$5$abcdefgh$defghijk"})
    assert kept.account == "$5$abcdefgh$defghijk"
    ended, kept = settled(kept, user={"password": ""})
    assert (ended.user.password, kept.account) == (None, "")


def test_a_class_gets_a_password_that_stays() -> None:
    first, kept = settled(**CLASS)
    made_up = first.class_.password
    assert len(made_up) == 10
    assert settled(**CLASS)[0].class_.password != made_up
    assert settled(kept, **CLASS)[0].class_.password == made_up
    assert settled()[1].own == ""


def test_what_is_kept_is_read_by_nobody_else_and_a_damaged_one_is_none(tmp_path: Path) -> None:
    file = tmp_path / "settings/passwords.json"
    assert kept_in(file) == Kept()
    kept = Kept(account="$6$a$b", networks={"École": "of 8 letters"}, own="another")
    replace(file, kept.model_dump_json().encode(), 0o600)
    assert kept_in(file) == kept
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_bytes(file.read_bytes()[:-9])
    assert kept_in(file) == Kept()


def test_what_is_replaced_is_overwritten_where_it_lay(tmp_path: Path) -> None:
    file = tmp_path / "lucie.toml"
    file.write_text("secret")
    held = os.open(file, os.O_RDONLY)
    replace(file, b"new", wipe=True)
    assert file.read_bytes() == b"new"
    assert os.read(held, 100) == bytes(6)
    os.close(held)
    assert [each.name for each in tmp_path.iterdir()] == ["lucie.toml"]


def test_a_file_that_cannot_be_written_is_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "lucie.toml"
    file.write_text("secret")
    (tmp_path / ".lucie.toml.new").mkdir()
    with pytest.raises(OSError, match="directory"):
        replace(file, b"new", wipe=True)
    assert file.read_text() == "secret"


def test_what_a_later_version_has_kept_is_read(tmp_path: Path) -> None:
    """It may have run for a while, and be gone again (images/onboard/trial.py)."""
    (tmp_path / "kept.json").write_text('{"account": "$6$hash", "more": ["of it"]}')
    assert kept_in(tmp_path / "kept.json").account == "$6$hash"
