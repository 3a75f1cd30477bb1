"""What the settings of a board come to."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from images.onboard import apply, boot_partition
from images.onboard.apply import notice, tree, unheeded
from images.onboard.network import ADDRESS
from images.onboard.settings import Settings
from images.onboard.settings_file import Complaint, read
from images.onboard.tree import File, Link, Tree
from images.onboard.update_file import SIGNERS

UNITS = Path("images/board/system/usr/lib/systemd/system")
CLASS = {"class": {"enabled": True, "ssid": "Salle 12", "password": "of 8 letters"}}
KEY = "ssh-ed25519 AAAA anne"
HASH = "$5$abcdefgh$defghijk"


@pytest.fixture
def board(tmp_path: Path) -> Path:
    """The part of a board's file system that settings are about."""
    for name in ("etc", "usr/share/keymaps", "usr/share/zoneinfo/Europe"):
        (tmp_path / name).mkdir(parents=True)
    for keymap in ("fr", "us", "de"):
        (tmp_path / f"usr/share/keymaps/{keymap}.map.gz").touch()
    for zone in ("Paris", "Berlin"):
        (tmp_path / f"usr/share/zoneinfo/Europe/{zone}").touch()
    (tmp_path / "etc/passwd").write_text(
        "root:x:0:0::/root:/bin/bash\ndaemon:x:1:1::/:/bin/false\n"
    )
    return tmp_path


def settings(sections: dict[str, dict[str, object]]) -> Settings:
    return Settings.model_validate(sections)


def made(board: Path, **sections: dict[str, object]) -> Tree:
    return tree(settings(sections), board)


def left(board: Path, **sections: dict[str, object]) -> list[Complaint]:
    """What is well written and changes nothing."""
    fields = [f"{section}.{name}" for section, values in sections.items() for name in values]
    places = dict.fromkeys(fields, ("lucie.toml", 7))
    return list(unheeded(settings(sections), places, board))


def content(tree: Tree, path: str) -> str:
    entry = tree.files[path]
    assert isinstance(entry, File)
    return entry.text


def test_the_chat_speaks_the_language_that_was_chosen(board: Path) -> None:
    chosen = made(board, locale={"language": "en"})
    assert content(chosen, "run/lucie-settings/environment") == "LUCIE_LANG=en\n"


@pytest.mark.parametrize(
    ("locale", "keymap"),
    [
        ({}, "fr"),
        ({"language": "en"}, "us"),
        ({"language": "en", "keymap": "de"}, "de"),
        ({"language": "en", "keymap": "klingon"}, "us"),
    ],
)
def test_the_keyboard_is_that_of_the_language_unless_one_is_named(
    board: Path, locale: dict[str, object], keymap: str
) -> None:
    chosen = content(made(board, locale=locale), "run/lucie-settings/keymap")
    assert chosen == f"/usr/share/keymaps/{keymap}.map.gz\n"


def test_the_time_zone_is_a_link_as_programs_expect(board: Path) -> None:
    chosen = made(board, locale={"timezone": "Europe/Berlin"}).files["etc/localtime"]
    assert chosen == Link("/usr/share/zoneinfo/Europe/Berlin")


def test_the_name_is_told_and_can_be_looked_up(board: Path) -> None:
    named = made(board, system={"hostname": "salle-12"})
    assert content(named, "etc/hostname") == "salle-12\n"
    assert "127.0.1.1 salle-12\n" in content(named, "etc/hosts")


def test_what_the_board_does_not_have_is_said_and_changes_nothing(board: Path) -> None:
    chosen = {"timezone": "Europe/Nowhere", "keymap": "klingon"}
    assert left(board, locale=dict(chosen)) == [
        Complaint("no-timezone", "lucie.toml", 7, "locale.timezone"),
        Complaint("no-keymap", "lucie.toml", 7, "locale.keymap", "de, fr, us"),
    ]
    assert "etc/localtime" not in made(board, locale=dict(chosen)).files


def test_it_is_told_where_what_is_not_heeded_stands(board: Path) -> None:
    """Imager writes a keyboard of any country, in a file that nobody has seen."""
    imagers, ours = board / "rpi-preseed.toml", board / "lucie.toml"
    imagers.write_text(
        '[ssh]\nenabled = true\npassword_authentication = true\n[locale]\nkeymap = "dk"\n'
    )
    ours.write_text(
        '[locale]\n\ntimezone = "Europe/Pari"\n[user]\nname = "root"\npassword = "clear"\n'
    )
    chosen, complaints, places = read([imagers, ours])
    assert complaints == []
    told = list(unheeded(chosen, places, board))
    assert [(each.code, each.file, each.line) for each in told] == [
        ("no-timezone", "lucie.toml", 3),
        ("no-keymap", "rpi-preseed.toml", 5),
        ("nobody", "rpi-preseed.toml", 2),
        ("taken", "lucie.toml", 5),
    ]
    [line] = [each.say("fr") for each in told if each.code == "no-keymap"]
    assert "rpi-preseed.toml, ligne 5" in line
    assert "de, fr, us" in line


def test_of_what_is_shipped_all_is_heeded_and_nothing_is_started(board: Path) -> None:
    assert left(board) == []
    shipped = tree(Settings(), board)
    assert (shipped.units, shipped.modules) == ((), ()), "no radio, no way in"
    for part in ("ssh", "sysusers", "network"):
        assert not any(part in path for path in shipped.files)
    assert "run/lucie-settings/class.json" not in shipped.files
    assert notice(Settings(), []) == ""


# --- who looks after it


def test_an_account_has_a_hash_that_only_root_reads(board: Path) -> None:
    files = made(board, user={"name": "anne", "password": HASH, "groups": ["video"]}).files
    secret = files["run/lucie-settings/credentials/passwd.hashed-password.anne"]
    assert secret == File(HASH, 0o600)
    told = content(Tree(files), "etc/sysusers.d/account.conf").splitlines()
    assert told[0].startswith("u anne 1000 ")
    assert told[1:] == [f"m anne {group}" for group in ("sudo", "systemd-journal", "video")]
    assert not any("sudoers" in path or "ssh" in path for path in files)


@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="no systemd here")
def test_systemd_makes_the_account(board: Path) -> None:
    chosen = made(board, user={"name": "anne", "password": HASH})
    chosen.write(board)
    (board / "etc/group").write_text("root:x:0:\nsudo:x:27:\n")
    (board / "etc/shadow").write_text("root:!*:20000::::::\n")
    credentials = board / "run/lucie-settings/credentials"
    subprocess.run(
        ["systemd-sysusers", f"--root={board}", str(board / "etc/sysusers.d/account.conf")],
        env={"CREDENTIALS_DIRECTORY": str(credentials)},
        check=True,
    )
    [line] = [x for x in (board / "etc/passwd").read_text().splitlines() if x.startswith("anne:")]
    assert line.endswith(":/data/home/anne:/bin/bash")
    assert f"anne:{HASH}:" in (board / "etc/shadow").read_text()
    assert "sudo:x:27:anne" in (board / "etc/group").read_text()


def test_a_key_lets_in_and_nothing_else_does(board: Path) -> None:
    let_in = made(board, user={"name": "anne"}, ssh={"enabled": True, "authorized_keys": [KEY]})
    assert let_in.units[0] == "ssh.service"
    assert content(let_in, "etc/ssh/authorized_keys.d/anne") == f"{KEY}\n"
    told = content(let_in, "etc/ssh/sshd_config.d/lucie.conf").splitlines()
    assert {"PasswordAuthentication no", "PermitRootLogin no", "AllowUsers anne"} <= set(told)
    assert "HostKey /data/ssh/ssh_host_ed25519_key" in told, "a layer in memory would forget it"


@pytest.mark.parametrize(
    ("user", "ssh", "open_"),
    [
        ({}, {"enabled": True}, False),
        ({"password": HASH}, {"enabled": True}, False),
        ({"password": HASH}, {"enabled": True, "password_authentication": True}, False),
        ({}, {"enabled": True, "password_authentication": True}, False),
        ({}, {"authorized_keys": [KEY]}, False),
        ({}, {"enabled": True, "authorized_keys": [KEY]}, True),
        ({"name": "root"}, {"enabled": True, "authorized_keys": [KEY]}, False),
    ],
)
def test_the_way_in_is_open_only_if_somebody_can_take_it(
    board: Path, user: dict[str, object], ssh: dict[str, object], open_: bool
) -> None:
    units = made(board, user=user, ssh=ssh).units
    assert ("ssh.service" in units) is open_
    assert ("systemd-networkd.service" in units) is open_, "no network for nothing"
    told = [each.code for each in left(board, user=user, ssh=ssh)]
    shut = "taken" if user.get("name") else "nobody"
    assert told == ([shut] if ssh.get("enabled") and not open_ else [])


def test_an_account_of_the_system_is_not_given_away(board: Path) -> None:
    sections: dict[str, dict[str, object]] = {"user": {"name": "root", "password": HASH}}
    assert [each.code for each in left(board, **sections)] == ["taken"]
    files = made(board, **sections).files
    assert not any("root" in path or "sysusers" in path for path in files)


# --- networks


def test_who_may_log_in_may_do_so_over_a_cable(board: Path) -> None:
    ssh: dict[str, object] = {"enabled": True, "authorized_keys": [KEY]}
    wired = made(board, ssh=ssh)
    network = content(wired, "etc/systemd/network/20-wired.network")
    assert {"Type=ether", "DHCP=yes", "MulticastDNS=yes"} <= set(network.splitlines())
    assert wired.units == ("ssh.service", "systemd-networkd.service", "systemd-resolved.service")
    assert wired.modules == (), "no radio"
    assert "etc/systemd/network/20-wlan0.network" in made(board, ssh=ssh, **CLASS).files


def test_a_network_that_is_named_is_joined(board: Path) -> None:
    wlan: dict[str, object] = {"ssid": "École", "password": "of 8 letters", "country": "FR"}
    joined = made(board, wlan=wlan)
    assert left(board, wlan=wlan) == []
    conf = joined.files["etc/wpa_supplicant/wpa_supplicant-wlan0.conf"]
    assert isinstance(conf, File)
    assert conf.mode == 0o600
    assert "DHCP=yes" in content(joined, "etc/systemd/network/20-wlan0.network")
    assert joined.modules == ("brcmfmac",)
    assert joined.units[0] == "wpa_supplicant@wlan0.service"
    assert "lucie-class.socket" not in joined.units


def test_a_class_has_a_network_an_address_and_a_line_on_the_screen(board: Path) -> None:
    opened = made(board, **CLASS)
    assert "lucie-class.socket" in opened.units
    assert content(opened, "run/lucie-settings/server") == "LUCIE_KV_CACHE_MB=0\n"
    assert "run/lucie-settings/server" in (UNITS / "lucie-serve.service").read_text()
    assert f"Address={ADDRESS}/24" in content(opened, "etc/systemd/network/20-wlan0.network")
    socket = (UNITS / "lucie-class.socket").read_text()
    assert f"ListenStream={ADDRESS}:80\n" in socket, "where the screen sends them"
    told = json.loads(content(opened, "run/lucie-settings/class.json"))
    assert told == {"ssid": "Salle 12", "password": "of 8 letters", "address": f"http://{ADDRESS}"}
    for lang in ("fr", "en"):
        [line] = notice(settings({**CLASS, "locale": {"language": lang}}), []).splitlines()
        assert all(part in line for part in ("Salle 12", "of 8 letters", f"http://{ADDRESS}"))


def test_there_is_one_radio(board: Path) -> None:
    both = {**CLASS, "wlan": {"ssid": "École", "password": "of 8 letters"}}
    assert left(board, **both) == [Complaint("one-radio", "lucie.toml", 7, "wlan.ssid")]
    octets = {**CLASS, "wlan": {"ssid_hex": "ff"}}
    assert [each.field for each in left(board, **octets)] == ["wlan.ssid_hex"]
    conf = content(made(board, **both), "etc/wpa_supplicant/wpa_supplicant-wlan0.conf")
    assert "École".encode().hex() not in conf


def test_what_is_wrong_reaches_the_screen() -> None:
    told = Complaint("nobody", "lucie.toml", field="ssh.enabled")
    [line] = notice(Settings(), [told]).splitlines()
    assert "lucie.toml" in line
    assert "ssh.enabled" in line


# --- passwords

WLAN = '[wlan]\nssid = "École"\npassword = "of 8 letters"\n'
OWN = '[class]\nenabled = true\npassword = "of 8 letters"\n'


@pytest.fixture
def boot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The boot partition."""
    folder = tmp_path / "boot"
    folder.mkdir()
    monkeypatch.setattr(apply, "BOOT", folder)
    monkeypatch.setattr(boot_partition, "output", lambda *_: "")
    return folder


def told(tmp_path: Path) -> str:
    """What the chat tells of the settings when the board has started."""
    draft = tmp_path / "draft"
    assert apply.main([str(draft), str(tmp_path / "secrets/passwords.json")]) == 0
    return (draft / "run/lucie-news/settings").read_text()


def unwritable(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    def replace(file: Path, *_: object, **__: object) -> None:
        if file.name in names:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(apply, "replace", replace)


@pytest.mark.parametrize(
    ("written", "stuck", "named"),
    [
        ({"rpi-preseed.toml": WLAN, "lucie.toml": ""}, "rpi-preseed.toml", ["rpi-preseed.toml"]),
        ({"rpi-preseed.toml": WLAN, "lucie.toml": OWN}, "rpi-preseed.toml", ["rpi-preseed.toml"]),
        ({"rpi-preseed.toml": WLAN, "lucie.toml": OWN}, "lucie.toml", ["lucie.toml"]),
        ({"rpi-preseed.toml": WLAN, "lucie.toml": ""}, "passwords.json", ["rpi-preseed.toml"]),
        ({"rpi-preseed.toml": WLAN, "lucie.toml": OWN}, "passwords.json",
         ["rpi-preseed.toml", "lucie.toml"]),
        ({"rpi-preseed.toml": WLAN, "lucie.toml": OWN}, "", []),
    ],
    ids=range(6),
)  # fmt: skip
def test_the_file_is_named_in_which_passwords_stay(
    written: dict[str, str], stuck: str, named: list[str], boot: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for name, text in written.items():
        (boot / name).write_text(text)
    unwritable(monkeypatch, stuck)
    lines = [line for line in told(tmp_path).splitlines() if "les mots de passe y restent" in line]
    assert [line.partition(" ")[0] for line in lines] == named
    assert all("est en lecture seule" in line for line in lines)


def test_from_the_other_file_they_are_taken_all_the_same(boot: Path, tmp_path: Path) -> None:
    (boot / "rpi-preseed.toml").write_text(WLAN)
    (boot / "lucie.toml").write_text(OWN)
    (boot / ".rpi-preseed.toml.new").mkdir()  # where it would be written first
    assert "rpi-preseed.toml : les mots de passe y restent" in told(tmp_path)
    assert (boot / "rpi-preseed.toml").read_text() == WLAN
    assert "of 8 letters" not in (boot / "lucie.toml").read_text()


def test_a_password_that_was_made_up_and_cannot_be_kept_is_told(
    boot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (boot / "lucie.toml").write_text("[class]\nenabled = true\n")
    unwritable(monkeypatch, "passwords.json")
    lines = told(tmp_path).splitlines()
    reason = "(le système de fichiers est en lecture seule)"
    assert any(f"n’ont pas pu être gardés sur la carte {reason}" in line for line in lines)
    assert not any("y restent" in line for line in lines), "none is in it"


# --- files that cannot be heeded

BROKEN = "[wlan]\nssid = Lucie\n"


def started(tmp_path: Path) -> Path:
    """The tree of a start, where the next one finds it; that of the last is there no more."""
    told(tmp_path)
    for before in tmp_path.glob("secrets/tree-*"):
        shutil.rmtree(before)
    return (tmp_path / "draft").rename(tmp_path / "secrets/tree-0123")


def test_a_line_that_breaks_a_file_leaves_language_and_keys_as_they_were(
    boot: Path, tmp_path: Path
) -> None:
    (tmp_path / "secrets").mkdir()
    written = f'[locale]\nlanguage = "en"\n[update]\nkeys = ["{KEY}"]\n'
    (boot / "lucie.toml").write_text(written)
    started(tmp_path)
    for _ in range(2):
        (boot / "lucie.toml").write_text(written + BROKEN)
        tree = started(tmp_path)
        [line] = (tree / "run/lucie-news/settings").read_text().splitlines()
        assert line.startswith("lucie.toml, line 6: this is not written as a setting")
        assert (tree / "run/lucie-settings/environment").read_text() == "LUCIE_LANG=en\n"
        assert KEY in (tree / SIGNERS.relative_to("/")).read_text()
    (boot / "lucie.toml").write_text("")
    assert (started(tmp_path) / "run/lucie-settings/environment").read_text() == "LUCIE_LANG=fr\n"


def test_what_lasts_is_no_secret_and_a_damaged_one_is_none(boot: Path, tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (boot / "lucie.toml").write_text(f'{WLAN}{OWN}[locale]\nlanguage = "en"\n')
    lasting = started(tmp_path) / "run/lucie-settings/lasting.json"
    assert json.loads(lasting.read_text()) == {"locale": {"language": "en"}}
    lasting.write_text('{"locale"')
    (boot / "lucie.toml").write_text(BROKEN)
    assert "ligne 2" in told(tmp_path)


def test_a_file_that_is_named_nearly_so_is_told(boot: Path, tmp_path: Path) -> None:
    for name in ("Lucie.toml.txt", "lucie (1).toml", "._lucie.toml", "config.txt", "lucie.toml"):
        (boot / name).write_text('[locale]\nlanguage = "en"\n')
    lines = told(tmp_path).splitlines()
    assert [line.partition(" is not read")[0] for line in lines] == [
        "Lucie.toml.txt",
        "lucie (1).toml",
    ]


# --- how it is laid out


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_modes_do_not_depend_on_who_writes_it(board: Path, tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        made(board, **CLASS).write(tmp_path / "draft")
    finally:
        os.umask(before)
    conf = tmp_path / "draft/etc/wpa_supplicant/wpa_supplicant-wlan0.conf"
    assert conf.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "draft/run/lucie-settings/units").stat().st_mode & 0o777 == 0o644


def test_it_is_laid_over_the_root_file_system(board: Path, tmp_path: Path) -> None:
    """As `lucie-settings` does it, by the line that is in it."""
    script = Path("images/board/system/usr/lib/lucie-settings").read_text()
    [copies] = [line for line in script.splitlines() if line.startswith("cp ")]
    draft, root = tmp_path / "draft", tmp_path / "root"
    (Tree(modules=("a", "b")) | made(board, **CLASS)).write(draft)
    (root / "etc").mkdir(parents=True)
    (root / "etc/localtime").symlink_to("/usr/share/zoneinfo/UTC")
    copies = copies.replace("$tree", str(draft)).removesuffix(" / || failed=1") + f" {root}"
    subprocess.run(["sh", "-c", copies], check=True)
    assert str((root / "etc/localtime").readlink()) == "/usr/share/zoneinfo/Europe/Paris"
    conf = root / "etc/wpa_supplicant/wpa_supplicant-wlan0.conf"
    assert conf.stat().st_mode & 0o777 == 0o600
    assert (root / "run/lucie-settings/modules").read_text() == "a\nb\nbrcmfmac\n"
    assert "lucie-class.socket\n" in (root / "run/lucie-settings/units").read_text()
