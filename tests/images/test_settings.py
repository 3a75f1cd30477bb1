"""`lucie.toml`, and what Raspberry Pi Imager writes beside it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel

from edge.messages import LANGUAGES
from images.onboard.settings import Settings
from images.onboard.settings_file import Complaint, read

SHIPPED = Path("images/board/boot/lucie.toml")
IMAGER = r"""config_version = "1.0"

[system]
hostname = "cm5-jig"

[user]
name = "jig"
password = "$5$abcdefgh$defghijk"
password_encrypted = true
groups = ["sudo"]
passwordless_sudo = true

[ssh]
enabled = true
password_authentication = false
authorized_keys = [
  "ssh-rsa KEY1 a@b",
  "ssh-ed25519 KEY2 c@d",
]

[wlan]
ssid = "My\"Weird\\Net"
password = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
password_encrypted = true
hidden = false
country = "GB"

[locale]
keymap = "gb"
timezone = "Europe/London"
"""
"""As its generator writes it, by the cases of its own tests (rpi-imager 2,
`customization_generator_test.cpp`, "rpi-preseed")."""


def settings(tmp_path: Path, text: str | bytes) -> tuple[Settings, list[Complaint]]:
    file = tmp_path / "lucie.toml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return read([file])[:2]


def test_what_is_shipped_changes_nothing(tmp_path: Path) -> None:
    assert read([SHIPPED])[:2] == (Settings(), [])
    assert read([tmp_path / "missing.toml"]) == (Settings(), [], {})


def test_every_line_of_what_is_shipped_can_be_used(tmp_path: Path) -> None:
    """Without its `#`, each of them is a setting that is taken."""
    text = re.sub(r"^# (?=[a-z_]+ = )", "", SHIPPED.read_text(encoding="utf-8"), flags=re.MULTILINE)
    text = text.replace('"…"', '"of 8 letters"').replace("AAAA…", "AAAA")
    text = text.replace("8 caractères", "8 caracteres")
    used, complaints = settings(tmp_path, text)
    assert complaints == []
    written = {(s, f) for s, fields in tomllib.loads(text).items() for f in fields}
    assert len(written) == 15
    assert (used.wlan.ssid, used.user.password) == ("École", "of 8 letters")


def test_what_imager_writes_is_taken(tmp_path: Path) -> None:
    used, complaints = settings(tmp_path, IMAGER)
    assert complaints == []
    assert used.system.hostname == "cm5-jig"
    assert used.user.password == "$5$abcdefgh$defghijk"
    assert used.ssh.authorized_keys == ("ssh-rsa KEY1 a@b", "ssh-ed25519 KEY2 c@d")
    assert used.wlan.ssid == 'My"Weird\\Net'
    assert (used.locale.keymap, used.locale.timezone) == ("gb", "Europe/London")


def test_the_later_file_wins_field_by_field(tmp_path: Path) -> None:
    ours, imagers = tmp_path / "lucie.toml", tmp_path / "rpi-preseed.toml"
    ours.write_text('[locale]\nlanguage = "en"\nkeymap = "us"\n[class]\nenabled = true\n')
    imagers.write_text(IMAGER)
    used, complaints, places = read([ours, imagers])
    assert complaints == []
    assert places["locale.language"] == ("lucie.toml", 2)
    assert places["locale.keymap"] == ("rpi-preseed.toml", 29)
    assert places["ssh.authorized_keys"] == ("rpi-preseed.toml", 19)
    assert (used.locale.language, used.locale.keymap) == ("en", "gb")
    assert used.class_.enabled


@pytest.mark.parametrize(
    ("written", "field"),
    [
        ('[system]\nhostname = "école"', "system.hostname"),
        ('[system]\nhostname = "-a"', "system.hostname"),
        ('[user]\nname = "root:x"', "user.name"),
        ('[user]\npassword = "a\\nroot:b"', "user.password"),
        ('[user]\npassword = "$6$salt$a:b:0:0"', "user.password"),
        ('[ssh]\nenabled = "maybe"', "ssh.enabled"),
        ('[ssh]\nauthorized_keys = ["ssh-rsa A\\nssh-rsa B"]', "ssh.authorized_keys"),
        ('[ssh]\nauthorized_keys = ["my key"]', "ssh.authorized_keys"),
        ('[wlan]\nssid = "' + "é" * 17 + '"', "wlan.ssid"),
        ('[wlan]\nssid = "a\\u0000b"', "wlan.ssid"),
        ('[wlan]\npassword = "1234567"', "wlan.password"),
        ('[wlan]\npassword = "évitez les accents"', "wlan.password"),
        ('[wlan]\ncountry = "fr"', "wlan.country"),
        ('[locale]\nlanguage = "tlh"', "locale.language"),
        ('[locale]\nkeymap = "../../etc/shadow"', "locale.keymap"),
        ('[locale]\ntimezone = "../../etc/shadow"', "locale.timezone"),
        ('[class]\nssid = ""', "class.ssid"),
        ('[class]\npassword = "1234567"', "class.password"),
        ('[class]\npassword = "' + "0a" * 32 + '"', "class.password"),
    ],
)
def test_a_wrong_value_is_left_out_and_its_line_told(
    tmp_path: Path, written: str, field: str
) -> None:
    other = "[user]\n" if "[system]" in written else "[system]\n"
    more = 'hostname = "kept"\n' if "[system]" in other else 'name = "kept"\n'
    used, complaints = settings(tmp_path, f"# first\n\n{written}\n{other}{more}")
    assert complaints == [Complaint("wrong", "lucie.toml", 4, field)]
    assert used.model_dump() == settings(tmp_path, other + more)[0].model_dump()
    assert "kept" in (used.system.hostname, used.user.name)


def test_the_longest_password_of_a_class_is_taken(tmp_path: Path) -> None:
    used, complaints = settings(tmp_path, f'[class]\npassword = "{"0a" * 31}b"\n')
    assert (used.class_.password, complaints) == ("0a" * 31 + "b", [])


def test_what_is_unknown_is_told(tmp_path: Path) -> None:
    text = 'colour = "blue"\n[wlan]\nssid = "a"\npasword = "12345678"\n[connect]\nenabled = true\n'
    used, complaints = settings(tmp_path, text)
    assert complaints == [
        Complaint("unknown", "lucie.toml", 4, "wlan.pasword"),
        Complaint("unknown", "lucie.toml", 1, "colour"),
        Complaint("unknown", "lucie.toml", 5, "connect"),
    ]
    assert used.wlan.ssid == "a"


def test_a_value_of_several_lines_is_found_where_it_ends(tmp_path: Path) -> None:
    text = '[ssh]\nauthorized_keys = [\n  "ssh-rsa AAAA",\n  "nonsense",\n]\nenabled = true\n'
    used, complaints = settings(tmp_path, text)
    assert complaints == [Complaint("wrong", "lucie.toml", 5, "ssh.authorized_keys")]
    assert used.ssh.enabled
    assert used.ssh.authorized_keys == ()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[locale]\nlanguage = en\n", Complaint("no-toml", "lucie.toml", 2)),
        ('[locale]\nlanguage = "en\n', Complaint("no-toml", "lucie.toml", 2)),
        ("[locale]\n[locale]\n", Complaint("no-toml", "lucie.toml", 2)),
        ("[wlan]\npassword = [\n", Complaint("no-toml", "lucie.toml", 2)),
        ("[wlan]\n\nssid = " + "9" * 5000 + "\n[class]\n", Complaint("no-toml", "lucie.toml", 3)),
        ("[wlan]\nssid = " + "[" * 5000 + "]" * 5000 + "\n", Complaint("no-toml", "lucie.toml", 2)),
        ("[wlan]\nssid = " + "[" * 5000, Complaint("no-toml", "lucie.toml", 2)),
    ],
    ids=range(7),
)
def test_of_a_broken_file_the_line_is_told(tmp_path: Path, text: str, complaint: Complaint) -> None:
    used, complaints = settings(tmp_path, text)
    assert (used, complaints) == (Settings(), [complaint])


@pytest.mark.parametrize("deep", range(460, 500))
def test_brackets_that_can_just_be_read_are_a_complaint(tmp_path: Path, deep: int) -> None:
    """Where all of them can be read once, the field by itself may be too deep for Python."""
    used, [complaint] = settings(tmp_path, f"[wlan]\nssid = {'[' * deep}{']' * deep}\n")
    assert used == Settings()
    assert (complaint.code, complaint.line) in {("unquoted", 2), ("no-toml", 2)}


def test_what_hides_where_a_value_ends_is_known(tmp_path: Path) -> None:
    text = r"""
wlan.a = [ # ]
  "]",
  ']\',
]
wlan.b = '''
#'[''''
wlan.c = { "}" = '''
}''' }  # [
wlan.d = "\"["
["system"] # "

"f" = ''
[wlan.g.h]
[[user]]
"""
    _, complaints = settings(tmp_path, text + 'name = """\n["\\""" """\n')
    assert {each.field: each.line for each in complaints} == {
        "wlan.a": 5, "wlan.b": 7, "wlan.c": 9, "wlan.d": 10, "system.f": 13, "wlan.g": 14,
        "user": 15,
    }  # fmt: skip
    _, complaints = settings(tmp_path, '[wlan]\na = """\n["\\""" """\nb = """"a"""""\nc = ""\n')
    assert [(each.field, each.line) for each in complaints] == [
        ("wlan.a", 3), ("wlan.b", 4), ("wlan.c", 5)
    ]  # fmt: skip


@pytest.mark.parametrize(
    "more", ["\n" * 15_000, "#\n" * 7000, "b = [\n" + "1,\n" * 5000 + "]"], ids=range(3)
)
def test_a_long_file_is_read_a_few_times_at_most(
    tmp_path: Path, more: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A board waits for it: with all before it read again for each line, that took a minute."""
    letters, loads = list[int](), tomllib.loads

    def counted(text: str) -> dict[str, object]:
        letters.append(len(text))
        assert sum(letters) < 1 << 16
        return loads(text)

    monkeypatch.setattr(tomllib, "loads", counted)
    _, complaints = settings(tmp_path, f'[wlan]\npassword = "x"\n{more}')
    assert complaints[0] == Complaint("wrong", "lucie.toml", 2, "wlan.password")


KEPT = Settings.model_validate(
    {"locale": {"language": "en", "keymap": "gb"}, "update": {"keys": []}}
)


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        (b'# a\n\n[wlan]\nssid = "\xc9cole"\n', Complaint("not-utf8", "lucie.toml", 4)),
        ("[locale]".encode("utf-16")[:-1], Complaint("not-utf8", "lucie.toml", 1)),
        (b"#" * 20_000, Complaint("unreadable", "lucie.toml", reason="> 16 KiB")),
        (b"[wlan]\nssid = Lucie\n", Complaint("no-toml", "lucie.toml", 2)),
    ],
    ids=range(4),
)
def test_what_cannot_be_read_is_told_and_what_lasts_of_before_holds(
    tmp_path: Path, raw: bytes, complaint: Complaint
) -> None:
    assert settings(tmp_path, raw) == (Settings(), [complaint])
    used, complaints, places = read([tmp_path / "lucie.toml"], KEPT)
    assert (used, complaints, places) == (KEPT, [complaint], {})
    imagers = tmp_path / "rpi-preseed.toml"
    imagers.write_text('[class]\nenabled = true\n[locale]\nkeymap = "fr"\n')
    used, _, _ = read([imagers, tmp_path / "lucie.toml"], KEPT)
    assert used.class_.enabled
    assert used.locale.keymap == "gb", "as before, where lucie.toml won"


def test_a_wrong_value_leaves_what_was_there_before(tmp_path: Path) -> None:
    file = tmp_path / "lucie.toml"
    file.write_text('[locale]\nlanguage = "anglais"\ntimezone = "Europe/Berlin"\n')
    used, complaints, places = read([file], KEPT)
    assert complaints == [Complaint("wrong", "lucie.toml", 2, "locale.language")]
    assert places == {"locale.timezone": ("lucie.toml", 3)}
    locale = used.locale
    assert (locale.language, locale.timezone, locale.keymap) == ("en", "Europe/Berlin", None)


@pytest.mark.parametrize(
    ("written", "field"),
    [
        ("[wlan]\npassword = 12345678", "wlan.password"),
        ("[wlan]\nssid = 2024", "wlan.ssid"),
        ("[class]\npassword = 12345678", "class.password"),
        ("[user]\npassword = 12345678", "user.password"),
        ("[system]\nhostname = 7", "system.hostname"),
    ],
)
def test_a_text_without_its_quotes_is_told_to_have_none(
    tmp_path: Path, written: str, field: str
) -> None:
    used, complaints = settings(tmp_path, written)
    assert used.model_dump() == Settings().model_dump()
    assert complaints == [Complaint("unquoted", "lucie.toml", 2, field)]
    assert "between quotes" in complaints[0].say("en")
    assert "entre guillemets" in complaints[0].say("fr")


def test_a_password_that_looks_like_a_hash_is_told_why_it_is_none(tmp_path: Path) -> None:
    _, [complaint] = settings(tmp_path, '[user]\npassword = "$ecret of anne"\n')
    assert complaint == Complaint("wrong", "lucie.toml", 2, "user.password")
    assert "does not begin with $" in complaint.say("en")
    assert "ne commence pas par $" in complaint.say("fr")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_what_notepad_saves_is_read(tmp_path: Path, encoding: str) -> None:
    used, complaints = settings(tmp_path, '[wlan]\r\nssid = "École"\r\n'.encode(encoding))
    assert (used.wlan.ssid, complaints) == ("École", [])


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("begins", ["", "\ufeff"])
def test_editors_write_as_they_like(tmp_path: Path, ends: str, begins: str) -> None:
    used, complaints = settings(tmp_path, begins + ends.join(["[class]", "enabled = true", ""]))
    assert complaints == []
    assert used.class_.enabled


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_complaint_is_a_line_that_says_no_secret(tmp_path: Path, lang: str) -> None:
    for section, field in Settings.model_fields.items():
        kind = field.annotation
        assert isinstance(kind, type)
        assert issubclass(kind, BaseModel)
        for name in kind.model_fields:
            place = f"{field.alias or section}.{name}"
            said = Complaint("wrong", "lucie.toml", 3, place).say(lang)
            assert place in said
            assert "\n" not in said
            assert "3" in said
    _, complaints = settings(tmp_path, '[wlan]\npassword = "secret!"\n')
    assert "secret" not in "".join(complaint.say(lang) for complaint in complaints)
